"""The one door through which an algorithm evaluates: it counts, records, limits, handles errors."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from optimagic_lite.exceptions import (
    InvalidAlgoInfoError,
    InvalidConstraintError,
    InvalidFunctionError,
    UserFunctionRuntimeError,
    warn_user,
)
from optimagic_lite.failures import (
    ErrorPolicy,
    Penalty,
    all_finite,
    exception_message,
    runtime_error,
    value_message,
)
from optimagic_lite.history import History, Kind, Task
from optimagic_lite.objective import numerical
from optimagic_lite.objective.constraints import NativeConstraint
from optimagic_lite.objective.objective import Objective
from optimagic_lite.space.space import Space
from optimagic_lite.stopping import Limits, Stop, StopRun

if TYPE_CHECKING:
    from optimagic_lite.log.writer import LogWriter

Array = NDArray[np.float64]

_MAX_REPEATS = 1_000
# points whose constraints are remembered: solvers come back to their last and their best ones
_N_REMEMBERED = 16


@dataclass(frozen=True)
class CallbackState:
    """What a callback sees after each evaluation.

    Attributes:
        params: Parameters of the evaluation, in the user's structure.
        fun: Value, in the user's sign; NaN if it failed.
        best_params: Best parameters so far.
        best_fun: Their value; NaN before the first success.
        n_fun_evals: Number of evaluations so far.
        elapsed: Seconds since the start of the run.
    """

    params: Any
    fun: float
    best_params: Any
    best_fun: float
    n_fun_evals: int
    elapsed: float

    @property
    def x(self) -> Any:
        """The same as ``params``, by SciPy's name."""
        return self.params


class Evaluator:
    """Evaluates an objective for an algorithm.

    Values are those to be minimized; records have the user's sign.

    Args:
        objective: What is evaluated.
        space: Says what x stands for.
        history: Where rows go, or None.
        log: Where rows go too, or None.
        limits: When to stop.
        errors: What failures do.
        callback: Called with a ``CallbackState`` after each evaluation; ends the run by
            returning True or raising StopIteration.
        allowed: Which of "jac" and "hess" the algorithm declared to use.
        constraints: Those that the algorithm takes natively.

    Attributes:
        n_fun: Evaluations of the criterion, the start included.
        n_jac: Evaluations of the gradient.
        n_hess: Evaluations of the Hessian or of its product with a vector.
        n_numdiff: Evaluations of the criterion for difference quotients.
        n_constraint: Evaluations of the native constraints.
        n_failed: Failures.
        best_x: Best point so far: of those that violate constraints least, the lowest.
        best_violation: Largest violation of native constraints there, beyond their tolerance.
        best_f: Its value.
        best_gradient: Its gradient, where known.
        last_failure: Number of evaluations before the last failure.
        callback_error: What the callback raised, if it did.
        start_fun: Value at the start in the user's sign; NaN before it is known.
        suspects: What ``escape`` knows of a point; None before it was asked.
        penalty: What stands for failed evaluations, known after the start.
    """

    penalty: Penalty

    def __init__(
        self,
        objective: Objective,
        space: Space,
        *,
        history: History | None,
        log: LogWriter | None,
        limits: Limits,
        errors: ErrorPolicy,
        callback: Callable[[CallbackState], Any] | None = None,
        allowed: frozenset[str] = frozenset(),
        constraints: tuple[NativeConstraint, ...] = (),
    ) -> None:
        self.objective = objective
        self.space = space
        self.limits = limits
        self.errors = errors
        self.n_fun = self.n_jac = self.n_hess = self.n_iterations = 0
        self.n_numdiff = self.n_failed = self.n_constraint = 0
        self.constraints = constraints
        self.best_x, self.best_f, self.best_violation = space.x0, math.inf, math.inf
        self.best_gradient: Array | None = None
        self.start_fun = math.nan
        self.last_failure = 0
        self.suspects: tuple[Array, list[Any]] | None = None
        self._is_starting = True
        self._n_repeats = 0
        self.callback_error: Exception | None = None
        self._history = history
        self._log = log
        self._callback = callback
        self._allowed = allowed
        self._joint = objective.value_and_gradient if "jac" in allowed else None
        self._last_x: Array | None = None
        self._last_f = math.nan
        self._last_gradient: Array | None = None
        self._constraint_values: dict[bytes, list[Array]] = {}
        self._eps = numerical.EPS_DOUBLE
        self._batch = 0
        self._begin = time.perf_counter()

    # ---- what algorithms call ------------------------------------------------------------

    def fun(self, x: Array) -> float:
        """Return the value at x, shape (n_x,)."""
        if self._is_last(x):
            self._count_repeat()
        else:
            self._evaluate(x)
        return self._last_f

    def jac(self, x: Array) -> Array:
        """Return the gradient at x."""
        if not self._is_last(x):
            self._evaluate(x)
        if self._last_gradient is None:
            gradient = self._separate_gradient(x)
            if self._last_x is self.best_x:
                self.best_gradient = gradient
            self._last_gradient = self.penalty(x)[1] if gradient is None else gradient
        return self._last_gradient

    def fun_and_jac(self, x: Array) -> tuple[float, Array]:
        """Return value and gradient at x."""
        return self.fun(x), self.jac(x)

    def hess(self, x: Array) -> Array:
        """Return the Hessian at x, shape (n_x, n_x)."""
        self._check_allowed("hess")
        self.n_hess += 1
        exact, product = self.objective.hessian, self.objective.hessian_product
        if exact is None and product is not None:
            exact = lambda x: np.stack([product(x, v) for v in np.eye(len(x))])  # noqa: E731
        if exact is not None:
            found = self._guarded(lambda: exact(x), x, "hess")
            return np.eye(len(x)) if found is None else found
        # differences of numerical gradients need longer steps than differences of exact ones
        eps = self._eps if self.objective.has_gradient else self._eps**0.75
        return numerical.hessian(x, self._gradient_anywhere, self.objective.numdiff, eps)

    def hessp(self, x: Array, v: Array) -> Array:
        """Return the product of the Hessian at x and v."""
        product = self.objective.hessian_product
        if product is None:
            return np.asarray(self.hess(x) @ v)
        self._check_allowed("hess")
        self.n_hess += 1
        found = self._guarded(lambda: product(x, v), x, "hessp")
        return v.copy() if found is None else found

    def constraint(self, i: int, x: Array) -> Array:
        """Return the values of native constraint i at x, shape (m,); all are evaluated at once."""
        key = x.tobytes()
        if key not in self._constraint_values:
            values = self._values_of_constraints(x)
            if len(self._constraint_values) == _N_REMEMBERED:
                del self._constraint_values[next(iter(self._constraint_values))]
            self._constraint_values[key] = values
        return self._constraint_values[key][i]

    def constraint_jac(self, i: int, x: Array) -> Array:
        """Return the Jacobian of native constraint i at x, shape (m, n_x)."""
        constraint = self.constraints[i]
        found = self._guarded(lambda: constraint.jacobian(x), x, "jac", constraint.name)
        return np.zeros((len(constraint.lower), len(x))) if found is None else found

    def constraint_hess(self, i: int, x: Array, v: Array) -> Array:
        """Return the Hessian of ``v @ value`` of native constraint i at x, shape (n_x, n_x)."""
        constraint = self.constraints[i]
        assert constraint.hessian is not None
        hessian = constraint.hessian
        found = self._guarded(lambda: hessian(x, v), x, "hess", constraint.name)
        return np.zeros((len(x), len(x))) if found is None else found

    def violation(self, x: Array) -> float:
        """Return the largest violation of bounds and native constraints at x."""
        outside = np.maximum(self.space.lower - x, x - self.space.upper).max(initial=0.0)
        parts = [c.violation(self.constraint(i, x)) for i, c in enumerate(self.constraints)]
        return max(float(outside), *parts, 0.0)

    def batch_fun(self, xs: Array, kind: Kind = "path") -> Array:
        """Return the values at points of shape (k, n_x), evaluated and recorded as one batch."""
        values = self._evaluate_batch(xs, kind)
        failed = np.flatnonzero(np.isnan(values))
        values[failed] = [self.penalty(xs[i])[0] for i in failed]
        return values

    def iteration(self) -> None:
        """Count an iteration of an algorithm that says so, and stop at the limit."""
        self.n_iterations += 1
        if self.n_iterations >= self.limits.maxiter:
            raise StopRun(Stop.MAXITER, self.limits.maxiter)

    def elapsed(self) -> float:
        """Return the seconds since the start of the run."""
        return time.perf_counter() - self._begin

    def remaining(self) -> int:
        """Return how many evaluations may come before anyone looks again, or stop the run."""
        self.limits.check(self.n_fun, self.elapsed())
        return 1 if self._callback is not None else self.limits.remaining(self.n_fun)

    def record_chunk(self, xs: Array, values: Array, start: float) -> None:
        """Record what a compiled loop evaluated, in one transaction of the log.

        Args:
            xs: Points, shape (k, n_x).
            values: Values, shape (k,); NaN or infinite where value or derivative were not finite.
            start: Seconds from the start of the run to the start of the chunk.
        """
        messages = [
            None if math.isfinite(f) else f"value or derivative is not finite ({f})"
            for f in values.tolist()
        ]
        self.n_jac += len(xs)
        values = np.where(np.isfinite(values), values, np.nan)
        self._record_batch(xs, values, messages, start, "path", "fun_and_jac")

    # ---- start ---------------------------------------------------------------------------

    def start(self, plain_value: float, seconds: float) -> None:
        """Evaluate and record the start point, where a failure is always an error.

        Args:
            plain_value: What ``fun`` returned there, called as it is written, to be minimized.
            seconds: How long that took.
        """
        x = self.space.x0
        if self._joint is not None or self.objective.program is not None:
            self._evaluate(x, "start")
        elif math.isfinite(plain_value):
            self._accept(x, plain_value, None, (0.0, seconds), "fun", "start")
        else:
            message = value_message(self.user_value(plain_value))
            raise self._fail(x, message, None, (0.0, seconds), "fun", "start")
        sign = self.objective.sign
        self.start_fun = self.user_value(self._last_f)
        self.penalty = self.errors.penalty(x, self.start_fun, sign)
        if self.uses_gradient and len(x):
            self.jac(x)
        self._is_starting = False

    def start_failure(self, error: Exception, seconds: float) -> UserFunctionRuntimeError:
        """Record that ``fun`` raised at the start and return the error that says so."""
        message = exception_message(error)
        return self._fail(self.space.x0, message, error, (0.0, seconds), "fun", "start")

    @property
    def _raises(self) -> bool:
        """Whether a failure is an error now."""
        return self.errors.raises or self._is_starting

    @property
    def uses_gradient(self) -> bool:
        """Whether the algorithm declared to use gradients."""
        return "jac" in self._allowed

    @property
    def best_fun(self) -> float | None:
        """The best value so far in the user's sign, or None."""
        return self.user_value(self.best_f) if math.isfinite(self.best_f) else None

    def user_value(self, f: float) -> float:
        """Return a value in the user's sign."""
        return self.objective.sign * f

    # ---- values --------------------------------------------------------------------------

    def _count_repeat(self) -> None:
        """Note that a point was asked for again; an algorithm that only does that goes in circles.

        Answers from memory are no evaluations, so that no other limit would ever end it.
        """
        self._n_repeats += 1
        if self._n_repeats > _MAX_REPEATS:
            raise StopRun(Stop.REPEATS, _MAX_REPEATS)

    def _is_last(self, x: Array) -> bool:
        last = self._last_x
        # two scalars tell most points apart before whole vectors are compared
        return (
            last is not None
            and bool(last[0] == x[0])
            and bool(last[-1] == x[-1])
            and bool((last == x).all())
        )

    def _evaluate(self, x: Array, kind: Kind = "path") -> None:
        """Evaluate at a new point and remember it as the last."""
        begin = time.perf_counter()
        if not self._is_starting:
            self.limits.check(self.n_fun, begin - self._begin)
        task: Task = "fun" if self._joint is None else "fun_and_jac"
        f, gradient = math.nan, None
        error: Exception | None = None
        try:
            if self._joint is not None:
                f, gradient = self._joint(x)
                message = None if all_finite(f, gradient) else self._not_finite(f, gradient)
            else:
                f = self.objective.value(x)
                message = None if math.isfinite(f) else value_message(self.user_value(f))
        except InvalidFunctionError:
            raise
        except Exception as caught:
            error, message = caught, exception_message(caught)
        times = (begin - self._begin, time.perf_counter() - self._begin)
        if message is None:
            self._accept(x, f, gradient, times, task, kind)
            return
        failure = self._fail(x, message, error, times, task, kind)
        if self._raises:
            raise failure
        self._last_x, self._n_repeats = x.copy(), 0
        self._last_f, gradient = self.penalty(x)
        self._last_gradient = gradient if "jac" in self._allowed else None
        self._notify(self._last_x, math.nan)

    def _accept(
        self,
        x: Array,
        f: float,
        gradient: Array | None,
        times: tuple[float, float],
        task: Task,
        kind: Kind,
    ) -> None:
        """Record a successful evaluation."""
        row = x.copy()
        self._last_x, self._last_f, self._last_gradient = row, f, gradient
        self._n_repeats = 0
        self.n_fun += 1
        if gradient is not None:
            self.n_jac += 1
        excess = self._excess(row) if self.constraints else 0.0
        if (excess, f) < (self.best_violation, self.best_f):
            self.best_x, self.best_f, self.best_gradient = row, f, gradient
            self.best_violation = excess
        value = self.objective.sign * f
        if self._history is not None:
            self._history.append(row, value, *times, task, kind, self._batch, excess)
        if self._log is not None:
            flat = self.space.to_flat(row)
            beyond = excess if self.constraints else None
            self._log.write(flat, value, *times, task, kind, self._batch, None, beyond)
        self._batch += 1
        if self._callback is not None:
            self._notify(row, value)

    def _fail(
        self,
        x: Array,
        message: str,
        cause: BaseException | None,
        times: tuple[float, float],
        task: Task,
        kind: Kind,
    ) -> UserFunctionRuntimeError:
        """Record a failed evaluation and return the error that describes it."""
        row = x.copy()
        if kind != "derivative":
            self.n_fun += 1
            if self._history is not None:
                self._history.append(row, math.nan, *times, task, kind, self._batch)
        if self._log is not None:
            self._log.write(self.space.to_flat(row), None, *times, task, kind, self._batch, message)
        self._batch += 1
        return self._error(row, message, cause)

    def _error(
        self, x: Array, message: str, cause: BaseException | None, n_failed: int = 1
    ) -> UserFunctionRuntimeError:
        """Count failures and return the error for the first, after one warning a run."""
        is_first = self.n_failed == 0
        self.n_failed += n_failed
        self.last_failure = self.n_fun
        params = self.space.to_params(x)
        error = runtime_error(params, message, cause, at_start=self._is_starting)
        if is_first and not self._raises:
            warn_user(
                f"A user function failed: {message}. The run goes on with a penalty; "
                "result.n_failed_evals counts failures."
            )
        return error

    def _not_finite(self, f: float, gradient: Array) -> str:
        if not math.isfinite(f):
            return value_message(self.user_value(f))
        names = [self.space.x_names[i] for i in np.flatnonzero(~np.isfinite(gradient))[:5]]
        return f"the derivative with respect to {', '.join(names)} is not finite"

    def _notify(self, x: Array, value: float) -> None:
        """Tell the callback about an evaluation."""
        if self._callback is None:
            return
        state = CallbackState(
            params=self.space.to_params(x),
            fun=value,
            best_params=self.space.to_params(self.best_x),
            best_fun=math.nan if self.best_fun is None else self.best_fun,
            n_fun_evals=self.n_fun,
            elapsed=self.elapsed(),
        )
        try:
            stop = self._callback(state)
        except StopIteration:
            stop = True
        except Exception as error:
            self.callback_error = error
            raise
        if isinstance(stop, (bool, np.bool_)) and stop:
            raise StopRun(Stop.CALLBACK)

    # ---- native constraints --------------------------------------------------------------

    def _excess(self, x: Array) -> float:
        """Return the largest violation beyond the tolerance."""
        return max(c.excess(self.constraint(i, x)) for i, c in enumerate(self.constraints))

    def _values_of_constraints(self, x: Array) -> list[Array]:
        self.n_constraint += 1
        return [self._value_of_constraint(constraint, x) for constraint in self.constraints]

    def _value_of_constraint(self, constraint: NativeConstraint, x: Array) -> Array:
        if constraint.matrix is not None:
            return constraint.value(x)
        found = self._guarded(lambda: constraint.value(x), x, "fun", constraint.name)
        if found is not None:
            return found
        # as far from fulfilled as a number that solvers can compute with
        size = 1.0 + abs(self.penalty(x)[0])
        return np.where(
            np.isfinite(constraint.lower), constraint.lower - size, constraint.upper + size
        )

    # ---- derivatives apart from the value ------------------------------------------------

    def _separate_gradient(self, x: Array) -> Array | None:
        """Return the gradient, or None if it failed."""
        self._check_allowed("jac")
        self.n_jac += 1
        user = self.objective.gradient
        if user is not None:
            return self._guarded(lambda: user(x), x, "jac")
        return self._differences(x, self._last_f)

    def _gradient_anywhere(self, x: Array) -> Array:
        """Return a gradient for a difference quotient of gradients, without a row of the path."""
        if not self._is_starting:
            self.limits.check(0, self.elapsed())
        self.n_jac += 1
        joint, separate = self.objective.value_and_gradient, self.objective.gradient
        if joint is not None:
            gradient = self._guarded(lambda: joint(x)[1], x, "jac")
        elif separate is not None:
            gradient = self._guarded(lambda: separate(x), x, "jac")
        else:
            gradient = self._differences(x, math.nan)
        return self.penalty(x)[1] if gradient is None else gradient

    def _guarded(
        self, call: Callable[[], Array], x: Array, task: Task, owner: str = ""
    ) -> Array | None:
        """Call what is no criterion, log the call, and return its value, or None if it failed.

        Args:
            call: A derivative of the criterion, or a constraint, which is not logged by itself.
            x: Where.
            task: What is evaluated.
            owner: How to call the constraint in messages; "" for the criterion.
        """
        start = self.elapsed()
        error: Exception | None = None
        what = f"{task} of {owner}" if owner else task
        try:
            out = call()
            message = None if np.isfinite(out).all() else f"{what} is not finite"
        except (InvalidFunctionError, InvalidConstraintError):
            raise
        except Exception as caught:
            error, message = caught, exception_message(caught, what)
        times = (start, self.elapsed())
        if message is None:
            if self._log is not None and not owner:
                flat = self.space.to_flat(x)
                self._log.write(flat, None, *times, task, "derivative", self._batch)
            return out
        failure = self._fail(x, message, error, times, task, "derivative")
        if self._raises:
            raise failure
        return None

    def _differences(self, x: Array, center: float) -> Array | None:
        """Return the gradient by difference quotients, evaluated in batches; None if one failed.

        Args:
            x: Where.
            center: Value there, or NaN if it is not known.
        """
        options, lower, upper = self.objective.numdiff, self.space.lower, self.space.upper
        while True:
            stencil = numerical.make_stencil(x, lower, upper, options, self._eps)
            if math.isnan(center):
                needs_center = bool(stencil.center_weight.any())
                center = self._evaluate_batch(x[None], "derivative")[0] if needs_center else 0.0
            blocks = [self._evaluate_batch(b, "derivative") for b in stencil.blocks()]
            values = np.concatenate([np.empty(0), *blocks])
            if not (np.isfinite(values).all() and math.isfinite(center)):
                return None
            # single precision inside fun: steps for double precision would drown in rounding
            is_single = len(values) > 0 and numerical.looks_single(values)
            if not is_single or options.step_size is not None or self._eps > numerical.EPS_DOUBLE:
                return stencil.gradient(values, center)
            self._eps = numerical.EPS_SINGLE

    def _check_allowed(self, what: str) -> None:
        if what not in self._allowed:
            raise InvalidAlgoInfoError(
                f"The algorithm asked for {what}, but its declaration says that it does not use it."
            )

    # ---- batches -------------------------------------------------------------------------

    def _evaluate_batch(self, xs: Array, kind: Kind) -> Array:
        """Return values, NaN where they failed, after recording them."""
        start = self.elapsed()
        if not self._is_starting:
            self.limits.check(0 if kind == "derivative" else self.n_fun, start)
        messages: list[str | None] = [None] * len(xs)
        error: Exception | None = None
        values, n_done = np.full(len(xs), np.nan), len(xs)
        is_done = False
        if self.objective.program is not None:
            # not everything that JAX compiles can be batched, a callback for one
            with contextlib.suppress(Exception):
                values[:], is_done = self.objective.values(xs), True
        if not is_done:
            for i, x in enumerate(xs):
                n_done = i + 1
                try:
                    values[i] = self.objective.value(x)
                except InvalidFunctionError:
                    raise
                except Exception as caught:
                    error, messages[i] = error or caught, exception_message(caught)
                    if self._raises:
                        break
        for i in np.flatnonzero(~np.isfinite(values[:n_done])).tolist():
            messages[i] = messages[i] or value_message(self.user_value(float(values[i])))
            values[i] = np.nan
        self._record_batch(
            xs[:n_done], values[:n_done], messages[:n_done], start, kind, "fun", error
        )
        return values

    def _record_batch(
        self,
        xs: Array,
        values: Array,
        messages: Sequence[str | None],
        start: float,
        kind: Kind,
        task: Task,
        error: Exception | None = None,
    ) -> None:
        """Record rows that were evaluated together until now; they share the time evenly."""
        if not len(xs):
            return
        edges = np.linspace(start, self.elapsed(), len(xs) + 1)
        user_values = self.objective.sign * values
        excess, beyond = np.zeros(len(xs)), None
        if self.constraints and kind != "derivative":
            excess = beyond = np.array([self._excess(x) for x in xs])
        if self._log is not None:
            self._log.write_many(
                self.space.to_flat_rows(xs), user_values, edges[:-1], edges[1:], task, kind,
                self._batch, messages, beyond,
            )  # fmt: skip
        if kind == "derivative":
            self.n_numdiff += len(xs)
        else:
            self._take_rows(np.array(xs), values, user_values, edges, task, kind, excess)
        self._batch += 1
        failed = [i for i, message in enumerate(messages) if message is not None]
        if failed:
            first = failed[0]
            message = messages[first] or ""
            failure = self._error(xs[first], message, error, len(failed))
            if self._raises:
                raise failure
        if kind == "path" and self._callback is not None:
            for x, value in zip(xs, user_values.tolist(), strict=True):
                self._notify(x, value)

    def _take_rows(
        self,
        xs: Array,
        values: Array,
        user_values: Array,
        edges: Array,
        task: Task,
        kind: Kind,
        excess: Array,
    ) -> None:
        """Count rows, look for the best and add them to the history."""
        self.n_fun += len(xs)
        comparable = np.where(np.isnan(values), np.inf, values)
        best = int(np.lexsort((comparable, np.where(np.isinf(comparable), np.inf, excess)))[0])
        if (excess[best], comparable[best]) < (self.best_violation, self.best_f):
            self.best_x, self.best_f = xs[best].copy(), float(values[best])
            self.best_violation, self.best_gradient = float(excess[best]), None
        if self._history is None:
            return
        times, beyond = edges.tolist(), excess.tolist()
        for i, value in enumerate(user_values.tolist()):
            self._history.append(
                xs[i], value, times[i], times[i + 1], task, kind, self._batch, beyond[i]
            )
