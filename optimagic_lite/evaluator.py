"""The one door through which an algorithm evaluates: it counts, records, limits, handles errors."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from optimagic_lite.batch import Batch, empty_batch, evaluate_batch
from optimagic_lite.callback import Callback, CallbackState
from optimagic_lite.exceptions import (
    InvalidAlgoInfoError,
    InvalidConstraintError,
    InvalidFunctionError,
    UserFunctionRuntimeError,
    listed,
    warn_user,
)
from optimagic_lite.failures import (
    ErrorPolicy,
    Failure,
    Penalty,
    all_finite,
    runtime_error,
    value_message,
)
from optimagic_lite.history import History, Kind, Task
from optimagic_lite.objective import numerical
from optimagic_lite.objective.constraints import NativeConstraint
from optimagic_lite.objective.objective import Objective
from optimagic_lite.parallel import Cores
from optimagic_lite.progress import Progress
from optimagic_lite.recorder import Recorder
from optimagic_lite.space.space import Space
from optimagic_lite.stopping import Limits, Stop, StopRun
from optimagic_lite.tally import Tally

if TYPE_CHECKING:
    from optimagic_lite.log.rows import RowWriter

Array = NDArray[np.float64]

_MAX_REPEATS = 1_000
# points whose constraints are remembered: solvers come back to their last and their best ones
_N_REMEMBERED = 16
_ONE_CORE = Cores()


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
        progress: A bar that shows how the run goes, or None.
        offset: Seconds from the start of the run to that of this part of it.
        before: What was counted and found before this part of the run.
        n_batches: Number of batches that were recorded before it.

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
        has_failed_at_best: Whether the derivative failed there, so that what the solver took for
            it is a penalty's.
        last_failure: Number of evaluations before the last failure.
        start_fun: Value at the start in the user's sign; NaN before it is known.
        start_violation: Largest violation of native constraints there, beyond their tolerance.
        explored: Of each batch of an exploration the points, their values, NaN where they failed,
            and violations of native constraints beyond their tolerance.
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
        log: RowWriter | None,
        limits: Limits,
        errors: ErrorPolicy,
        callback: Callable[[CallbackState], Any] | None = None,
        allowed: frozenset[str] = frozenset(),
        constraints: tuple[NativeConstraint, ...] = (),
        progress: Progress | None = None,
        offset: float = 0.0,
        before: Tally | None = None,
        n_batches: int = 0,
    ) -> None:
        self.objective = objective
        self._kind = objective.kind
        self.space = space
        self.limits = limits
        self.errors = errors
        self.n_fun = self.n_jac = self.n_hess = self.n_iterations = 0
        self.n_numdiff = self.n_failed = self.n_constraint = 0
        self.constraints = constraints
        self.best_x, self.best_f, self.best_violation = space.x0, math.inf, math.inf
        self.best_gradient: Array | None = None
        self.has_failed_at_best = False
        self.start_fun, self.start_violation = math.nan, math.nan
        self.last_failure = 0
        self.explored: list[tuple[Array, Array, Array]] = []
        self.suspects: tuple[Array, list[Any]] | None = None
        self._is_starting = True
        self._n_repeats = 0
        self._recorder = Recorder(space, history, log, offset, n_batches)
        self._callback = None if callback is None else Callback(callback)
        self._offset, self._before = offset, before
        self._progress = progress
        self._allowed = allowed
        self._joint = objective.value_and_derivative if "jac" in allowed else None
        self._last_x: Array | None = None
        self._last_value: Any = math.nan
        self._last_derivative: Array | None = None
        self._n_entries = 1
        self._constraint_values: dict[bytes, list[Array]] = {}
        self._eps = numerical.EPS_DOUBLE
        self._begin = time.perf_counter()

    # ---- what algorithms call ------------------------------------------------------------

    def fun(self, x: Array) -> Any:
        """Return the value at x, shape (n_x,).

        It is what the algorithm takes: a number, or a vector of contributions or residuals.
        """
        if self._is_last(x):
            self._count_repeat()
        else:
            self._evaluate(x)
        return self._last_value

    def jac(self, x: Array) -> Array:
        """Return the derivative at x: a gradient, or a Jacobian of shape (m, n_x)."""
        if not self._is_last(x):
            self._evaluate(x)
        if self._last_derivative is None:
            found = self._separate_derivative(x)
            if self._last_x is self.best_x or np.array_equal(x, self.best_x):
                self.has_failed_at_best = found is None
                if found is not None:
                    self.best_gradient = self._kind.gradient(self._last_value, found)
            self._last_derivative = self._penalty(x)[1] if found is None else found
        return self._last_derivative

    def fun_and_jac(self, x: Array) -> tuple[Any, Array]:
        """Return value and derivative at x."""
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
        eps = self._eps if self.objective.has_derivative else self._eps**0.75
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

    def batch_fun(self, xs: Array, kind: Kind = "path", cores: Cores = _ONE_CORE) -> Array:
        """Return values of the criterion, shape (k,), at points of shape (k, n_x).

        They are evaluated and recorded as one batch.

        Args:
            xs: The points.
            kind: Why they are evaluated.
            cores: Where, if the criterion is not JAX; a JAX criterion is one compiled call.
        """
        values = self._kind.totals(self._evaluate_batch(xs, kind, cores).values)
        failed = np.flatnonzero(np.isnan(values))
        values[failed] = [self.penalty(xs[i])[0] for i in failed]
        return values

    def explore(self, xs: Array, cores: Cores) -> None:
        """Evaluate points of an exploration; arguments as in ``batch_fun``."""
        self._evaluate_batch(xs, "exploration", cores)

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
        failures = {
            i: Failure(f"value or derivative is not finite ({values[i]})")
            for i in np.flatnonzero(~np.isfinite(values)).tolist()
        }
        self.n_jac += len(xs)
        self.n_hess += len(xs) if "hess" in self._allowed else 0
        values = np.where(np.isfinite(values), values, np.nan)
        info = self.objective.info
        infos = None if info is None else [info(x) for x in xs]
        batch = Batch(values, failures, infos, len(xs))
        self._record_batch(xs, values, batch, start, "path", "fun_and_jac")

    # ---- start ---------------------------------------------------------------------------

    def start(self, plain_value: Any = None, seconds: float = 0.0) -> None:
        """Evaluate and record the start point, where a failure is always an error.

        Args:
            plain_value: What ``fun`` returned there, called as it is written, to be minimized;
                None if it was not called.
            seconds: How long that took.
        """
        x = self.space.x0
        if plain_value is None:
            self._evaluate(x, "start")
        elif self._joint is not None or self.objective.program is not None:
            self._evaluate(x, "start")
            self._check_agreement(plain_value)
        else:
            # the run begins with that call
            self._begin -= seconds
            failure = self._trouble(plain_value, None)
            if failure is not None:
                raise self._fail(x, failure, (0.0, seconds), "fun", "start")
            self._accept(x, plain_value, None, (0.0, seconds), "fun", "start")
        sign = self.objective.sign
        self.start_fun = self.user_value(self._kind.total(self._last_value))
        self.start_violation = self.best_violation
        self._n_entries = int(np.size(self._last_value))
        self.penalty = self.errors.penalty(x, self.start_fun, sign)
        if self.uses_gradient and len(x):
            self.jac(x)
        self._is_starting = False

    def _check_agreement(self, plain_value: Any) -> None:
        """Warn of a ``fun_and_jac`` of the user whose value is another one than that of ``fun``."""
        found = self._last_value
        if self.objective.derivatives.kind != "user" or not np.isfinite(plain_value).all():
            return
        if np.shape(found) != np.shape(plain_value) or not np.allclose(
            found, plain_value, rtol=1e-3, atol=1e-6 * float(np.abs(plain_value).max())
        ):
            # no error, because both may be simulated
            warn_user(
                f"fun and fun_and_jac give two values at the start, "
                f"{self.user_value(self._kind.total(plain_value)):.10g} and "
                f"{self.user_value(self._kind.total(found)):.10g}. The run uses fun_and_jac alone."
            )

    def start_failure(self, error: Exception, seconds: float) -> UserFunctionRuntimeError:
        """Record that ``fun`` raised at the start and return the error that says so."""
        return self._fail(self.space.x0, Failure.of(error), (0.0, seconds), "fun", "start")

    # ---- parts of a run ------------------------------------------------------------------

    def tally(self) -> Tally:
        """Return what was counted, and the best point."""
        return Tally(**{name: getattr(self, name) for name in (*Tally.COUNTS, *Tally.BEST)})

    def absorb(self, part: Tally) -> None:
        """Take over what another evaluator has counted, and its best point if it is better."""
        for name in Tally.COUNTS:
            setattr(self, name, getattr(self, name) + getattr(part, name))
        if part.rank < (self.best_violation, self.best_f):
            for name in Tally.BEST:
                setattr(self, name, getattr(part, name))
        self._show()

    def take_explored(self, xs: Array, values: Array, violations: Array) -> None:
        """Take over points of an exploration that were evaluated before; shapes (k, n_x), (k,).

        Args:
            xs: The points.
            values: The criterion there, to be minimized; NaN where it failed.
            violations: Of native constraints, beyond their tolerance.
        """
        self.explored.append((xs, values, violations))
        self.n_fun += len(xs)
        self.n_failed += int(np.isnan(values).sum())
        if len(xs):
            self._take_best_of(xs, values, violations)

    @property
    def callback_error(self) -> Exception | None:
        """What the callback raised, if it did."""
        return None if self._callback is None else self._callback.error

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
        value, derivative = math.nan, None
        failure: Failure | None
        try:
            if self._joint is not None:
                value, derivative = self._joint(x)
            else:
                value = self.objective.value(x)
            failure = self._trouble(value, derivative)
        except InvalidFunctionError as error:
            # no policy for failures mends what fun must not return
            error.params = self.space.to_params(x)
            times = (begin - self._begin, self.elapsed())
            self._recorder.failure(x.copy(), Failure.of(error), times, task, kind)
            raise
        except Exception as error:
            failure = Failure.of(error)
        times = (begin - self._begin, time.perf_counter() - self._begin)
        if failure is None:
            self._accept(x, value, derivative, times, task, kind)
            return
        if not np.isfinite(x).all():
            # no fault of the criterion
            self.n_fun += 1
            self._recorder.failure(x.copy(), failure, times, task, kind)
            raise StopRun(Stop.NOT_FINITE)
        raised = self._fail(x, failure, times, task, kind)
        if self._raises:
            raise raised
        self._last_x, self._n_repeats = x.copy(), 0
        self._last_value, derivative = self._penalty(x)
        self._last_derivative = derivative if "jac" in self._allowed else None
        self._notify(self._last_x, math.nan)

    def _trouble(self, value: Any, derivative: Array | None) -> Failure | None:
        """Return what is wrong with a value and its derivative; None if nothing is."""
        total = self._kind.total(value)
        if not math.isfinite(total):
            return Failure(self._value_trouble(value, total))
        if self._kind.is_vector and not self._is_starting and len(value) != self._n_entries:
            raise InvalidFunctionError(
                f"fun returned {np.size(value)} {self._kind.described}, and "
                f"{self._n_entries} at the start."
            )
        if derivative is None or all_finite(total, derivative):
            return None
        return Failure(self._derivative_trouble(derivative))

    def _penalty(self, x: Array) -> tuple[Any, Array]:
        """Return the penalty and its derivative as what the algorithm takes."""
        return self._kind.spread(*self.penalty(x), self._n_entries)

    def _accept(
        self,
        x: Array,
        value: Any,
        derivative: Array | None,
        times: tuple[float, float],
        task: Task,
        kind: Kind,
    ) -> None:
        """Record a successful evaluation."""
        row = x.copy()
        self._last_x, self._last_value, self._last_derivative = row, value, derivative
        self._n_repeats = 0
        self.n_fun += 1
        if derivative is not None:
            self.n_jac += 1
        f = self._kind.total(value)
        excess = self._excess(row) if self.constraints else 0.0
        gradient = None if derivative is None else self._kind.gradient(value, derivative)
        self._take_if_best(row, f, gradient, excess)
        user_value = self.objective.sign * f
        info = None if self.objective.info is None else self.objective.info(row)
        violation = excess if self.constraints else None
        self._recorder.value(row, user_value, times, task, kind, violation, info)
        self._show()
        if self._callback is not None:
            self._notify(row, user_value)

    def _take_if_best(self, x: Array, f: float, gradient: Array | None, excess: float) -> None:
        if (excess, f) < (self.best_violation, self.best_f):
            self.best_x, self.best_f, self.best_violation = x, f, excess
            self.best_gradient, self.has_failed_at_best = gradient, False

    def prefer(self, x: Array, f: float, gradient: Array) -> None:
        """Take an evaluated point as the best one, although rounding may hide that in its value."""
        self.best_x, self.best_f, self.best_gradient = x, f, gradient

    def _fail(
        self, x: Array, failure: Failure, times: tuple[float, float], task: Task, kind: Kind
    ) -> UserFunctionRuntimeError:
        """Record a failed evaluation and return the error that describes it."""
        if kind != "derivative":
            self.n_fun += 1
        self._recorder.failure(x.copy(), failure, times, task, kind)
        self._show()
        return self._error(x, failure)

    def _error(
        self, x: Array, failure: Failure, n_failed: int = 1, kind: Kind = "path"
    ) -> UserFunctionRuntimeError:
        """Count failures and return the error for the first, after one warning a run."""
        is_first = self.n_failed == 0
        self.n_failed += n_failed
        self.last_failure = self.n_fun
        params = self.space.to_params(x)
        error = runtime_error(params, failure, at_start=self._is_starting)
        if is_first and not self._raises:
            remedy = "without that point" if kind == "exploration" else "with a penalty"
            warn_user(
                f"A user function failed: {failure.message}. The run goes on {remedy}; "
                "result.n_failed_evals counts failures."
            )
        return error

    def _value_trouble(self, value: Any, total: float) -> str:
        if not self._kind.is_vector:
            return value_message(self.user_value(total))
        bad = np.flatnonzero(~np.isfinite(value))
        if not len(bad):
            return value_message(self.user_value(total))
        numbers = listed([str(i) for i in bad], 5)
        return f"{len(bad)} {self._kind.described} are not finite: number {numbers}, from 0"

    def _derivative_trouble(self, derivative: Array) -> str:
        bad = ~np.isfinite(derivative.reshape(-1, self.space.n_x)).all(axis=0)
        names = listed([self.space.x_names[i] for i in np.flatnonzero(bad)], 5)
        return f"the derivative with respect to {names} is not finite"

    def _show(self) -> None:
        if self._progress is not None:
            self._progress.update(*self._state())

    def close_progress(self) -> None:
        """Show the last state of the run."""
        if self._progress is not None:
            self._progress.close(*self._state())

    def _state(self) -> tuple[int, int, float | None, float]:
        violation = self.best_violation if math.isfinite(self.best_violation) else 0.0
        return self.n_fun, self.n_numdiff, self.best_fun, violation

    def _notify(self, x: Array, value: float, n_later: int = 0) -> None:
        """Tell the callback about an evaluation, after which others were counted already."""
        if self._callback is None:
            return
        best_x, best_f = self.best_x, self.best_f
        n_before = 0
        if self._before is not None:
            n_before = self._before.n_fun
            if self._before.rank <= (self.best_violation, self.best_f):
                best_x, best_f = self._before.best_x, self._before.best_f
        state = CallbackState(
            params=self.space.to_params(x),
            fun=value,
            best_params=self.space.to_params(best_x),
            best_fun=self.user_value(best_f) if math.isfinite(best_f) else math.nan,
            n_fun_evals=n_before + self.n_fun - n_later,
            elapsed=self._offset + self.elapsed(),
        )
        self._callback.tell(state)

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

    def _separate_derivative(self, x: Array) -> Array | None:
        """Return the derivative at the last point, or None if it failed."""
        self._check_allowed("jac")
        self.n_jac += 1
        known = self.objective.derivative
        if known is not None:
            return self._guarded(lambda: known(x), x, "jac")
        return self._differences(x, self._last_value)

    def _gradient_anywhere(self, x: Array) -> Array:
        """Return a gradient for a difference quotient of gradients, without a row of the path."""
        if not self._is_starting:
            self.limits.check(0, self.elapsed())
        self.n_jac += 1
        joint, separate = self.objective.value_and_derivative, self.objective.derivative
        if joint is not None:
            gradient = self._guarded(lambda: joint(x)[1], x, "jac")
        elif separate is not None:
            gradient = self._guarded(lambda: separate(x), x, "jac")
        else:
            gradient = self._differences(x, None)
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
        what = f"{task} of {owner}" if owner else task
        failure: Failure | None
        try:
            out = call()
            failure = None if np.isfinite(out).all() else Failure(f"{what} is not finite")
        except (InvalidFunctionError, InvalidConstraintError):
            raise
        except Exception as error:
            failure = Failure.of(error, what)
        times = (start, self.elapsed())
        if failure is None:
            if not owner:
                self._recorder.derivative(x, times, task)
            return out
        raised = self._fail(x, failure, times, task, "derivative")
        if self._raises:
            raise raised
        return None

    def _differences(self, x: Array, center: Any) -> Array | None:
        """Return the derivative by difference quotients, evaluated in batches; None if one failed.

        Args:
            x: Where.
            center: Value there, or None if it is not known.
        """
        options, lower, upper = self.objective.numdiff, self.space.lower, self.space.upper
        while True:
            stencil = numerical.make_stencil(x, lower, upper, options, self._eps)
            if center is None:
                center = self._evaluate_batch(x[None], "derivative", _ONE_CORE).values[0]
            blocks = [
                self._evaluate_batch(block, "derivative", options.cores).values
                for block in stencil.blocks()
            ]
            values = np.concatenate([np.empty((0, *np.shape(center))), *blocks])
            if not (np.isfinite(values).all() and np.isfinite(center).all()):
                return None
            # single precision inside fun: steps for double precision would drown in rounding
            is_single = len(values) > 0 and numerical.looks_single(values)
            if not is_single or options.step_size is not None or self._eps > numerical.EPS_DOUBLE:
                combine = stencil.jacobian if self._kind.is_vector else stencil.gradient
                return combine(values, center)
            self._eps = numerical.EPS_SINGLE

    def _check_allowed(self, what: str) -> None:
        if what not in self._allowed:
            raise InvalidAlgoInfoError(
                f"The algorithm asked for {what}, but its declaration says that it does not use it."
            )

    # ---- batches -------------------------------------------------------------------------

    def _evaluate_batch(self, xs: Array, kind: Kind, cores: Cores) -> Batch:
        """Return what the evaluation of points gave, NaN where it failed, after recording it."""
        start = self.elapsed()
        if not self._is_starting:
            self.limits.check(0 if kind == "derivative" else self.n_fun, start)
        batch = empty_batch(self.objective, len(xs), self._n_entries)
        try:
            evaluate_batch(
                batch, self.objective, xs, stop_at_failure=self._raises,
                with_info=kind != "derivative", cores=cores,
            )  # fmt: skip
        finally:
            # what was evaluated is recorded, however the rest ended
            self._settle(xs, batch, start, kind)
        return batch

    def _settle(self, xs: Array, batch: Batch, start: float, kind: Kind) -> None:
        """Find out what failed in a batch, and record what was evaluated."""
        totals = self._kind.totals(batch.values)
        for i in np.flatnonzero(~np.isfinite(totals)).tolist():
            if i not in batch.failures and i < batch.n_done:
                trouble = self._value_trouble(batch.values[i], float(totals[i]))
                batch.failures[i] = Failure(trouble)
            batch.values[i] = totals[i] = np.nan
        n_done = batch.n_done
        self._record_batch(xs[:n_done], totals[:n_done], batch, start, kind, "fun")

    def _record_batch(
        self, xs: Array, totals: Array, batch: Batch, start: float, kind: Kind, task: Task
    ) -> None:
        """Record rows that were evaluated together until now; they share the time evenly.

        Args:
            xs: The points, shape (k, n_x).
            totals: The criterion there, to be minimized; NaN where it failed.
            batch: What failed, and what came along with the values.
            start: Seconds from the start of the run to that of the batch.
            kind: Why they were evaluated.
            task: What was evaluated.
        """
        if not len(xs):
            return
        times = start, self.elapsed()
        user_values = self.objective.sign * totals
        if self.constraints and kind != "derivative":
            batch.violations = np.array([self._excess(x) for x in xs])
        rows = np.array(xs)
        if kind == "exploration":
            none = np.zeros(len(xs))
            violations = none if batch.violations is None else batch.violations
            self.explored.append((rows, totals, violations))
        self._recorder.many(rows, user_values, times, task, kind, batch)
        if kind == "derivative":
            self.n_numdiff += len(xs)
        else:
            self.n_fun += len(xs)
            self._take_best_of(rows, totals, batch.violations)
        self._show()
        if batch.failures:
            first = min(batch.failures)
            n_failed = len(batch.failures)
            failure = self._error(xs[first], batch.failures[first], n_failed, kind)
            if self._raises:
                raise failure
        if kind != "derivative" and self._callback is not None:
            for i, (x, value) in enumerate(zip(xs, user_values.tolist(), strict=True), 1):
                self._notify(x, value, len(xs) - i)

    def _take_best_of(self, xs: Array, values: Array, violations: Array | None) -> None:
        excess = np.zeros(len(xs)) if violations is None else violations
        comparable = np.where(np.isnan(values), np.inf, values)
        best = int(np.lexsort((comparable, np.where(np.isinf(comparable), np.inf, excess)))[0])
        self._take_if_best(xs[best], float(comparable[best]), None, float(excess[best]))
