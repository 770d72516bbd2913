"""The one door through which an algorithm evaluates: it counts, records, limits and handles errors.

What a failure does. A failure is an exception in a user function, or a value or derivative that
is not finite. With ``error_handling="raise"`` the run ends with ``UserFunctionRuntimeError``. With
"continue" the algorithm receives, instead, a penalty that grows with the distance from the start,
and its gradient; the row is recorded with NaN and the reason. This holds for every algorithm.
"""

from __future__ import annotations

import enum
import math
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from optimagic_lite.exceptions import (
    InvalidAlgoInfoError,
    InvalidFunctionError,
    StopOptimizationError,
    UserFunctionRuntimeError,
)
from optimagic_lite.history import History, Kind, Task
from optimagic_lite.objective import numerical
from optimagic_lite.objective.objective import Objective
from optimagic_lite.space.space import Space

if TYPE_CHECKING:
    from optimagic_lite.log.writer import LogWriter

Array = NDArray[np.float64]


class Stop(enum.Enum):
    """Why a run was ended from inside an evaluation; the text says what to do."""

    MAXFUN = "The limit of {limit} evaluations (stopping_maxfun) was reached before convergence. \
Raise it, or restart from result.params."
    MAXITER = "The limit of {limit} iterations (stopping_maxiter) was reached before convergence. \
Raise it, or restart from result.params."
    MAXTIME = "The limit of {limit} seconds (stopping_maxtime) was reached before convergence. \
Raise it, or restart from result.params."
    CALLBACK = "The callback stopped the run."

    @property
    def status(self) -> int:
        """A number that no wrapped library uses: 101, 102, ..."""
        return 101 + list(Stop).index(self)


class StopRun(StopOptimizationError):  # noqa: N818
    """Carries the reason for a stop through a solver's code."""

    def __init__(self, stop: Stop, limit: float | None = None) -> None:
        super().__init__(stop.value.format(limit=limit))
        self.stop = stop


@dataclass(frozen=True)
class Limits:
    """When the evaluator ends a run.

    Args:
        maxfun: Number of evaluations of the criterion, the start included, those for
            difference quotients not included.
        maxiter: Number of iterations.
        maxtime: Seconds.
        counts_iterations: Whether the algorithm says when an iteration ends; where it does not,
            an evaluation counts as one.
    """

    maxfun: int
    maxiter: int
    maxtime: float
    counts_iterations: bool


@dataclass(frozen=True)
class ErrorPolicy:
    """What a failed evaluation does.

    Args:
        handling: "raise" or "continue".
        constant: Penalty at the start, in the user's sign; None means
            ``f0 + |f0| + 100`` (minimize) or ``f0 - |f0| - 100`` (maximize), where f0 is the
            start value.
        slope: Change of the penalty per unit of distance from the start; None means 0.1
            (minimize) or -0.1 (maximize).
    """

    handling: Literal["raise", "continue"] = "raise"
    constant: float | None = None
    slope: float | None = None


@dataclass(frozen=True)
class CallbackState:
    """What a callback sees after each evaluation.

    Attributes:
        params: Parameters of the evaluation, in the user's structure.
        fun: Value, in the user's sign; NaN if it failed.
        best_params: Best parameters so far.
        best_fun: Their value.
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

    All values are those to be minimized; records have the user's sign.

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

    Attributes:
        n_fun: Evaluations of the criterion, the start included.
        n_jac: Evaluations of the gradient.
        n_hess: Evaluations of the Hessian or of its product with a vector.
        n_numdiff: Evaluations of the criterion for difference quotients.
        n_failed: Failures.
        best_x: Best point so far.
        best_f: Its value.
        best_gradient: Its gradient, where known.
    """

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
    ) -> None:
        self.objective = objective
        self.space = space
        self._history = history
        self._log = log
        self.limits = limits
        self.errors = errors
        self._callback = callback
        self._allowed = allowed
        self._joint = objective.value_and_gradient if "jac" in allowed else None
        self.n_fun = self.n_jac = self.n_hess = self.n_iterations = 0
        self.n_numdiff = self.n_failed = self._batch = 0
        self.best_x, self.best_f = space.x0, math.inf
        self.best_gradient: Array | None = None
        self._last_x: Array | None = None
        self._last_f = math.nan
        self._last_gradient: Array | None = None
        self._eps = numerical.EPS_DOUBLE
        self._penalty: tuple[float, float] = (math.nan, math.nan)
        self._begin = time.perf_counter()
        self._deadline = limits.maxtime
        self._max_evaluations = (
            limits.maxfun if limits.counts_iterations else min(limits.maxfun, limits.maxiter)
        )

    # ---- what algorithms call ------------------------------------------------------------

    def fun(self, x: Array) -> float:
        """Return the value at x, shape (n_x,)."""
        if not self._is_last(x):
            self._evaluate(x)
        return self._last_f

    def jac(self, x: Array) -> Array:
        """Return the gradient at x."""
        if not self._is_last(x):
            self._evaluate(x)
        if self._last_gradient is None:
            self._last_gradient = self._separate_gradient(x)
            self.n_jac += 1
            if self._last_x is self.best_x:
                self.best_gradient = self._last_gradient
        return self._last_gradient

    def fun_and_jac(self, x: Array) -> tuple[float, Array]:
        """Return value and gradient at x."""
        if not self._is_last(x):
            self._evaluate(x)
        if self._last_gradient is None:
            self.jac(x)
        return self._last_f, self._last_gradient  # type: ignore[return-value]

    def hess(self, x: Array) -> Array:
        """Return the Hessian at x, shape (n_x, n_x)."""
        self._check_allowed("hess")
        self.n_hess += 1
        exact = self.objective.hessian
        if exact is not None:
            return self._guarded(lambda: exact(x), x, "hess", lambda: np.eye(len(x)))
        eps = self._eps if self.objective.has_gradient else self._eps**0.75
        return numerical.hessian(x, self._gradient_anywhere, self.objective.numdiff, eps)

    def hessp(self, x: Array, v: Array) -> Array:
        """Return the product of the Hessian at x and v."""
        product = self.objective.hessian_product
        if product is None:
            return np.asarray(self.hess(x) @ v)
        self._check_allowed("hess")
        self.n_hess += 1
        return self._guarded(lambda: product(x, v), x, "hessp", lambda: np.array(v))

    def batch_fun(self, xs: Array) -> Array:
        """Return the values at points of shape (k, n_x), evaluated in one batch."""
        start = self.elapsed()
        values, messages = self._batch_values(xs)
        stop = self.elapsed()
        self._record_batch(xs, values, messages, (start, stop), "path")
        penalties = [self.penalty(x)[0] for x in xs] if any(messages) else values
        return np.where(np.isfinite(values), values, penalties)

    def iteration(self) -> None:
        """Count an iteration of an algorithm that says so, and stop at the limit."""
        self.n_iterations += 1
        if self.n_iterations >= self.limits.maxiter:
            raise StopRun(Stop.MAXITER, self.limits.maxiter)

    def elapsed(self) -> float:
        """Return the seconds since the start of the run."""
        return time.perf_counter() - self._begin

    def remaining(self) -> int:
        """Return how many evaluations are allowed now, at least one, or stop the run."""
        self._check_limits()
        return 1 if self._callback is not None else self._max_evaluations - self.n_fun

    def record_chunk(self, xs: Array, values: Array, start: float) -> None:
        """Record what a compiled loop evaluated, in one transaction of the log.

        Args:
            xs: Points, shape (k, n_x).
            values: Values, shape (k,), not finite where the evaluation failed.
            start: Seconds from the start of the run to the start of the chunk.
        """
        if not len(xs):
            return
        values = np.array(values)
        messages = [None if math.isfinite(f) else f"value or derivative is not finite ({f})"
                    for f in values.tolist()]  # fmt: skip
        values[~np.isfinite(values)] = np.nan
        self.n_jac += len(xs)
        self._record_batch(xs, values, messages, (start, self.elapsed()), "path", "fun_and_jac")

    # ---- start ---------------------------------------------------------------------------

    def start(self, plain_value: float, seconds: float) -> None:
        """Record the start point, for which a non-finite value is always an error.

        Args:
            plain_value: What ``fun`` returned there, called as it is written.
            seconds: How long that took.
        """
        x = self.space.x0
        if self._joint is not None or self.objective.program is not None:
            self._evaluate(x, "start", start_policy=ErrorPolicy("raise"))
        elif math.isfinite(plain_value):
            self._accept(x, plain_value, None, (0.0, seconds), "fun", "start")
        else:
            error = self._failure(x, _value_message(plain_value), None, "start", (0.0, seconds))
            raise error
        f0 = self.user_value(self._last_f)
        sign = self.objective.sign
        constant, slope = self.errors.constant, self.errors.slope
        constant = f0 + sign * (abs(f0) + 100.0) if constant is None else constant
        slope = sign * 0.1 if slope is None else slope
        self._penalty = (sign * constant, sign * slope)

    def start_failure(self, error: Exception, seconds: float) -> UserFunctionRuntimeError:
        """Record that ``fun`` raised at the start and return the error that says so."""
        message = f"{type(error).__name__}: {error}"
        return self._failure(self.space.x0, message, error, "start", (0.0, seconds))

    @property
    def best_fun(self) -> float | None:
        """The best value so far in the user's sign, or None."""
        return self.user_value(self.best_f) if math.isfinite(self.best_f) else None

    def user_value(self, f: float) -> float:
        """Return a value in the user's sign."""
        return self.objective.sign * f

    def penalty(self, x: Array) -> tuple[float, Array]:
        """Return the value and gradient that stand for a failed evaluation at x."""
        constant, slope = self._penalty
        distance = float(np.linalg.norm(x - self.space.x0))
        direction = (x - self.space.x0) / distance if distance > 0 else np.zeros(len(x))
        return constant + slope * distance, slope * direction

    def penalty_numbers(self) -> tuple[float, float]:
        """Return constant and slope of the penalty, as something to be minimized."""
        return self._penalty

    # ---- evaluation ----------------------------------------------------------------------

    def _is_last(self, x: Array) -> bool:
        last = self._last_x
        # two scalars tell most points apart before whole vectors are compared
        return (
            last is not None
            and bool(last[0] == x[0])
            and bool(last[-1] == x[-1])
            and bool((last == x).all())
        )

    def _check_limits(self) -> None:
        if self.n_fun >= self._max_evaluations:
            if self.n_fun >= self.limits.maxfun:
                raise StopRun(Stop.MAXFUN, self.limits.maxfun)
            raise StopRun(Stop.MAXITER, self.limits.maxiter)
        if self.elapsed() > self._deadline:
            raise StopRun(Stop.MAXTIME, self.limits.maxtime)

    def _evaluate(
        self, x: Array, kind: Kind = "path", start_policy: ErrorPolicy | None = None
    ) -> None:
        """Evaluate at a new point and remember it as the last."""
        self._check_limits()
        begin = time.perf_counter()
        gradient: Array | None = None
        try:
            if self._joint is not None:
                f, gradient = self._joint(x)
                message = None if _all_finite(f, gradient) else self._describe(f, gradient)
            else:
                f = self.objective.value(x)
                message = None if math.isfinite(f) else _value_message(self.user_value(f))
            error: Exception | None = None
        except (InvalidFunctionError, StopRun):
            raise
        except Exception as caught:
            error, message = caught, f"{type(caught).__name__}: {caught}"
        end = time.perf_counter()
        times = (begin - self._begin, end - self._begin)
        task: Task = "fun" if self._joint is None else "fun_and_jac"
        if message is None:
            self._accept(x, f, gradient, times, task, kind)
            return
        failure = self._failure(x, message, error, kind, times, task)
        if (start_policy or self.errors).handling == "raise":
            raise failure
        f, penalty_gradient = self.penalty(x)
        self._last_x, self._last_f = x.copy(), f
        self._last_gradient = penalty_gradient if "jac" in self._allowed else None
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
        self.n_fun += 1
        if gradient is not None:
            self.n_jac += 1
        if f < self.best_f:
            self.best_x, self.best_f, self.best_gradient = row, f, gradient
        value = self.objective.sign * f
        if self._history is not None:
            self._history.append(row, value, *times, task, kind, self._batch)
        if self._log is not None:
            self._log.write(row, value, *times, task, kind, self._batch)
        self._batch += 1
        if self._callback is not None:
            self._notify(row, value)

    def _failure(
        self,
        x: Array,
        message: str,
        error: BaseException | None,
        kind: Kind,
        times: tuple[float, float],
        task: Task = "fun",
    ) -> UserFunctionRuntimeError:
        """Record a failed evaluation and return the error that describes it."""
        row = x.copy()
        self.n_failed += 1
        if kind == "derivative":
            self.n_numdiff += task == "fun"
        else:
            self.n_fun += 1
            if self._history is not None:
                self._history.append(row, math.nan, *times, task, kind, self._batch)
        if self._log is not None:
            self._log.write(row, None, *times, task, kind, self._batch, message)
        self._batch += 1
        return self._error(row, message, error, at_start=kind == "start")

    def _error(
        self, x: Array, message: str, error: BaseException | None, *, at_start: bool = False
    ) -> UserFunctionRuntimeError:
        params = self.space.to_params(x)
        advice = (
            "Start from other params."
            if at_start
            else 'error_handling="continue" replaces failed evaluations by a penalty; bounds '
            "can keep an algorithm out of regions where the function fails."
        )
        text = f"A user function failed: {message}. It was called with params {_short(params)}. "
        out = UserFunctionRuntimeError(text + advice)
        out.params = params
        out.__cause__ = error
        if self.errors.handling == "continue" and not at_start and self.n_failed <= 1:
            warnings.warn(f"{text}The run goes on with a penalty.", stacklevel=2)
        return out

    def _notify(self, x: Array, value: float) -> None:
        """Tell the callback about an evaluation."""
        if self._callback is None:
            return
        state = CallbackState(
            params=self.space.to_params(x),
            fun=value,
            best_params=self.space.to_params(self.best_x),
            best_fun=self.user_value(self.best_f),
            n_fun_evals=self.n_fun,
            elapsed=self.elapsed(),
        )
        try:
            stop = self._callback(state)
        except StopIteration:
            stop = True
        if stop is True:
            raise StopRun(Stop.CALLBACK)

    # ---- derivatives apart from the value --------------------------------------------------

    def _separate_gradient(self, x: Array) -> Array:
        self._check_allowed("jac")
        user = self.objective.gradient
        if user is not None:
            return self._guarded(lambda: user(x), x, "jac", lambda: self.penalty(x)[1])
        return self._differences(x, self._last_f)

    def _gradient_anywhere(self, x: Array) -> Array:
        """Return a gradient for a difference quotient of gradients, without a row of the path."""
        joint, separate = self.objective.value_and_gradient, self.objective.gradient
        if joint is not None:
            return self._guarded(lambda: joint(x)[1], x, "jac", lambda: self.penalty(x)[1])
        if separate is not None:
            return self._guarded(lambda: separate(x), x, "jac", lambda: self.penalty(x)[1])
        return self._differences(x, math.nan)

    def _guarded(
        self, call: Callable[[], Array], x: Array, task: Task, instead: Callable[[], Array]
    ) -> Array:
        """Call a derivative, log the call, and handle its failure."""
        start = self.elapsed()
        error: Exception | None = None
        message = None
        try:
            out = call()
            if not np.isfinite(out).all():
                message = f"{task} is not finite"
        except InvalidFunctionError:
            raise
        except Exception as caught:
            error, message = caught, f"{type(caught).__name__} in {task}: {caught}"
        times = (start, self.elapsed())
        if message is None:
            if self._log is not None:
                self._log.write(x, None, *times, task, "derivative", self._batch)
            return out
        failure = self._failure(x, message, error, "derivative", times, task)
        if self.errors.handling == "raise":
            raise failure
        return instead()

    def _differences(self, x: Array, center: float) -> Array:
        """Return the gradient by difference quotients, evaluated in batches."""
        options = self.objective.numdiff
        while True:
            stencil = numerical.make_stencil(
                x, self.space.lower, self.space.upper, options, self._eps
            )
            if math.isnan(center) and stencil.center_weight.any():
                center = self._derivative_batch(x[None])[0]
            blocks = [self._derivative_batch(points) for points in stencil.blocks()]
            values = np.concatenate([np.empty(0), *blocks])
            if not np.isfinite(values).all():
                return self.penalty(x)[1]
            is_single = self._eps < numerical.EPS_SINGLE and numerical.looks_single(values)
            if len(values) == 0 or options.step_size is not None or not is_single:
                return stencil.gradient(values, center)
            # single precision inside fun: steps for double precision would drown in rounding
            self._eps = numerical.EPS_SINGLE

    def _derivative_batch(self, xs: Array) -> Array:
        if self.elapsed() > self._deadline:
            raise StopRun(Stop.MAXTIME, self.limits.maxtime)
        start = self.elapsed()
        values, messages = self._batch_values(xs)
        self._record_batch(xs, values, messages, (start, self.elapsed()), "derivative")
        return values

    def _batch_values(self, xs: Array) -> tuple[Array, list[str | None]]:
        """Return values, NaN where they failed, and why."""
        messages: list[str | None] = [None] * len(xs)
        if self.objective.program is not None:
            values = self.objective.values(xs)
        else:
            values = np.empty(len(xs))
            for i, x in enumerate(xs):
                try:
                    values[i] = self.objective.value(x)
                except InvalidFunctionError:
                    raise
                except Exception as error:
                    if self.errors.handling == "raise":
                        self._record_batch(
                            xs[:i], values[:i], messages[:i], (self.elapsed(),) * 2, "derivative"
                        )
                        message = f"{type(error).__name__}: {error}"
                        times = (self.elapsed(), self.elapsed())
                        raise self._failure(x, message, error, "derivative", times) from error
                    values[i] = np.nan
                    messages[i] = f"{type(error).__name__}: {error}"
        for i in np.flatnonzero(~np.isfinite(values)).tolist():
            messages[i] = messages[i] or _value_message(self.user_value(float(values[i])))
        return values, messages

    def _record_batch(
        self,
        xs: Array,
        values: Array,
        messages: list[str | None],
        span: tuple[float, float],
        kind: Kind,
        task: Task = "fun",
    ) -> None:
        """Record rows that were evaluated together; their times divide the span evenly."""
        if not len(xs):
            return
        edges = np.linspace(*span, len(xs) + 1)
        user_values = self.objective.sign * values
        if self._log is not None:
            self._log.write_many(
                xs, user_values, edges[:-1], edges[1:], task, kind, self._batch, messages
            )
        failed = [i for i, message in enumerate(messages) if message is not None]
        self.n_failed += len(failed)
        if kind == "derivative":
            self.n_numdiff += len(xs)
        else:
            self._count_path(np.array(xs), values, user_values, edges, task)
        self._batch += 1
        if failed:
            x = np.array(xs[failed[0]])
            failure = self._error(x, messages[failed[0]] or "", None)
            if self.errors.handling == "raise":
                raise failure
        if kind == "path" and self._callback is not None:
            for x, value in zip(xs, user_values.tolist(), strict=True):
                self._notify(x, value)

    def _count_path(
        self, xs: Array, values: Array, user_values: Array, edges: Array, task: Task
    ) -> None:
        self.n_fun += len(xs)
        if np.isfinite(values).any():
            best = int(np.nanargmin(values))
            if values[best] < self.best_f:
                self.best_x, self.best_f = xs[best].copy(), float(values[best])
                self.best_gradient = None
        if self._history is not None:
            times = edges.tolist()
            for i, value in enumerate(user_values.tolist()):
                self._history.append(
                    xs[i], value, times[i], times[i + 1], task, "path", self._batch
                )

    def _describe(self, f: float, gradient: Array) -> str:
        if not math.isfinite(f):
            return _value_message(self.user_value(f))
        names = [self.space.names[i] for i in np.flatnonzero(~np.isfinite(gradient))[:5]]
        return f"the derivative with respect to {', '.join(names)} is not finite"

    def _check_allowed(self, what: str) -> None:
        if what not in self._allowed:
            raise InvalidAlgoInfoError(
                f"The algorithm asked for {what}, but its declaration says needs_{what}=False."
            )


def _all_finite(f: float, gradient: Array) -> bool:
    # the sum of squares is not finite if an entry is not; it is much cheaper than isfinite
    return math.isfinite(f) and (
        math.isfinite(gradient.dot(gradient)) or bool(np.isfinite(gradient).all())
    )


def _value_message(value: float) -> str:
    return f"value is {value}"


def _short(params: Any, limit: int = 300) -> str:
    text = repr(params)
    return text if len(text) <= limit else f"{text[: limit - 4]} ..."
