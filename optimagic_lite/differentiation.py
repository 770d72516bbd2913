"""First and second derivatives of any function of params, by differences or by JAX."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, get_args

import jax
import numpy as np
from numpy.typing import NDArray

from optimagic_lite.deprecations.calls import OLD_DERIVATIVE_ARGUMENTS, new_derivative_call
from optimagic_lite.deprecations.names import accepts_old_names, old_key
from optimagic_lite.exceptions import (
    InvalidFunctionError,
    InvalidKwargsError,
    InvalidNumdiffOptionsError,
    InvalidParamsError,
    NotAvailableError,
    UserFunctionRuntimeError,
    did_you_mean,
    listed,
    warn_user,
)
from optimagic_lite.objective import numerical
from optimagic_lite.objective.kinds import plain_value
from optimagic_lite.objective.numerical import StepRule
from optimagic_lite.objective.outputs import nested, output_tree, trace_vector
from optimagic_lite.objective.quotients import (
    Change,
    Quotients,
    SecondMethod,
    first_quotients,
    second_quotients,
)
from optimagic_lite.objective.tracing import NotTraceableError
from optimagic_lite.options import NumdiffMethod
from optimagic_lite.parallel import (
    BatchEvaluator,
    BatchEvaluatorName,
    TaskFailure,
    check_n_cores,
    read_batch_evaluator,
)
from optimagic_lite.space.bounds import read_bounds
from optimagic_lite.space.space import Space
from optimagic_lite.space.trees import ParamTree, flatten_in_order

if TYPE_CHECKING:
    from optimagic_lite.options import Bounds

Array = NDArray[np.float64]
NumdiffErrorHandling = Literal["continue", "raise", "raise_strict"]
FirstMethod = NumdiffMethod | Literal["jax"]
SecondOrJax = SecondMethod | Literal["jax"]

_FIRST_METHODS = (*get_args(NumdiffMethod), "jax")
_SECOND_METHODS = (*get_args(SecondMethod), "jax")


@dataclass(frozen=True)
class NumdiffResult:
    """A derivative and the value of the function at the same place.

    Attributes:
        derivative: A tree built like the output of the function, whose leaves are trees built
            like params (for second derivatives, trees of trees), whose leaves are NumPy arrays of
            shape ``output_leaf_shape + params_leaf_shape (+ params_leaf_shape)``: what
            ``jax.jacobian`` and ``jax.hessian`` return. Arrays with one or two axes become a
            Series or DataFrame where an axis belongs to a pandas object.
        func_value: What the function returned at params; None if it failed just there.
    """

    derivative: Any
    func_value: Any = None

    def __getitem__(self, key: str) -> Any:
        return getattr(self, old_key(key, "result", ("derivative", "func_value")))


@accepts_old_names(new_derivative_call, OLD_DERIVATIVE_ARGUMENTS)
def first_derivative(
    func: Callable[..., Any],
    params: Any,
    *,
    bounds: Bounds | Any | None = None,
    func_kwargs: Mapping[str, Any] | None = None,
    method: FirstMethod = "central",
    step_size: Any = None,
    scaling_factor: Any = 1,
    min_steps: Any = None,
    f0: Any = None,
    n_cores: int = 1,
    error_handling: NumdiffErrorHandling = "continue",
    batch_evaluator: BatchEvaluatorName | BatchEvaluator = "joblib",
    unpacker: Callable[[Any], Any] | None = None,
) -> NumdiffResult:
    """Return the first derivative of a function of params.

    All points are evaluated as one batch; none is outside the bounds. Next to a bound, one-sided
    formulas of the same order take over. A parameter whose bounds coincide has derivative 0,
    except with method "jax", which evaluates no other points.

    Args:
        func: Called as ``func(params, **func_kwargs)``; returns a number, an array, a pandas
            object, a tree of them, or ``om.FunctionValue``.
        params: A pytree of numbers, arrays and pandas objects, see ``minimize``.
        bounds: ``om.Bounds``, SciPy's ``Bounds`` or pairs; soft bounds do not count.
        func_kwargs: Further arguments of func.
        method: "central" (default; two evaluations a parameter, error of order step squared),
            "forward" or "backward" (one), or "jax" (exact, for functions written with jax.numpy;
            compiled once for equal programs).
        step_size: Absolute steps: a number, or numbers aligned with params. Default None means
            ``eps ** (1/3)`` (central) or ``eps ** (1/2)`` times ``max(|x|, 0.1)``, where eps is
            the precision in which func computes.
        scaling_factor: Multiplies the steps; a number (default 1), or numbers aligned with params.
        min_steps: Smallest absolute steps, alike; None means no minimum. Bounds may ask for less.
        f0: What func returns at params, if that is known already.
        n_cores: Number of processes or threads; default 1.
        error_handling: "continue" (default): entries that need a point where func fails are NaN,
            and a warning names the parameters. "raise" or "raise_strict": an error.
        batch_evaluator: "joblib" (default), "threading", "dask", "ray" or a function.
        unpacker: Takes what func returns and returns the part that is differentiated.

    Returns:
        A ``NumdiffResult``.

    Raises:
        InvalidParamsError, InvalidBoundsError, InvalidNumdiffOptionsError, InvalidKwargsError: If
            an argument is not valid.
        InvalidFunctionError: If func returns something that is not made of real numbers.
        UserFunctionRuntimeError: If func fails everywhere, or anywhere and that is to be raised.
        NotAvailableError: If JAX cannot differentiate func and method is "jax".

    Example:
        >>> def func(params):
        ...     return {"sum": params["a"] + params["b"].sum(), "squares": params["b"] ** 2}
        >>> result = first_derivative(func, {"a": 1.0, "b": np.array([2.0, 3.0])})
        >>> result.derivative["squares"]["b"].round(8)
        array([[4., 0.],
               [0., 6.]])
    """
    _check_choice("method", method, _FIRST_METHODS)
    task = _read_task(func, params, bounds, func_kwargs, unpacker)
    if method == "jax":
        return _by_jax(task, 1, f0)

    def plan(rule: StepRule, eps: float) -> Quotients:
        return first_quotients(task.x, task.lower, task.upper, rule, eps)

    rule = _read_rule(task.tree, method, step_size, scaling_factor, min_steps)
    batch = _read_batch(n_cores, error_handling, batch_evaluator)
    return _by_differences(task, plan, rule, batch, f0)


@accepts_old_names(new_derivative_call, OLD_DERIVATIVE_ARGUMENTS)
def second_derivative(
    func: Callable[..., Any],
    params: Any,
    *,
    bounds: Bounds | Any | None = None,
    func_kwargs: Mapping[str, Any] | None = None,
    method: SecondOrJax = "central_cross",
    step_size: Any = None,
    scaling_factor: Any = 1,
    min_steps: Any = None,
    f0: Any = None,
    n_cores: int = 1,
    error_handling: NumdiffErrorHandling = "continue",
    batch_evaluator: BatchEvaluatorName | BatchEvaluator = "joblib",
    unpacker: Callable[[Any], Any] | None = None,
) -> NumdiffResult:
    """Return the second derivative of a function of params; the function may return any tree.

    Formulas: Rideout (2009), Numerical Differentiation of the Log-Likelihood Function, equations
    7 ("forward"), 8 ("central_average") and 9 ("central_cross").

    Args:
        func: See ``first_derivative``, also for all arguments that are not listed here.
        params: Where.
        bounds: Next to a bound, one-sided formulas of the same order take over.
        func_kwargs: Further arguments of func.
        method: "central_cross" (default; about ``2 n**2`` evaluations, error of order step
            squared), "central_average" (about ``n**2``, the same order), "forward" or "backward"
            (about ``n**2 / 2``, error of order step), or "jax" (exact).
        step_size: Default None means ``eps ** (1/4)`` (central methods) or ``eps ** (1/3)`` times
            ``max(|x|, 0.1)``.
        scaling_factor: Multiplies the steps.
        min_steps: Smallest absolute steps.
        f0: What func returns at params, if that is known already.
        n_cores: Number of processes or threads.
        error_handling: "continue" (default), "raise" or "raise_strict".
        batch_evaluator: "joblib" (default), "threading", "dask", "ray" or a function.
        unpacker: Takes what func returns and returns the part that is differentiated.

    Returns:
        A ``NumdiffResult``.

    Raises:
        OptimagicError: As ``first_derivative`` does.

    Example:
        >>> result = second_derivative(lambda x: x[0] ** 2 * x[1], np.array([1.0, 2.0]))
        >>> abs(result.derivative.round(4))
        array([[4., 2.],
               [2., 0.]])
    """
    _check_choice("method", method, _SECOND_METHODS)
    task = _read_task(func, params, bounds, func_kwargs, unpacker)
    if method == "jax":
        return _by_jax(task, 2, f0)

    def plan(rule: StepRule, eps: float) -> Quotients:
        return second_quotients(task.x, task.lower, task.upper, rule, method, eps)

    rule = _read_rule(task.tree, "central", step_size, scaling_factor, min_steps)
    batch = _read_batch(n_cores, error_handling, batch_evaluator)
    return _by_differences(task, plan, rule, batch, f0)


# ---- what the user wrote ---------------------------------------------------------------------


@dataclass(frozen=True)
class _Task:
    """A function of changes of x, fit to be sent to another process.

    At x itself, without a change, it returns all that func returns, else the part that is
    differentiated.
    """

    func: Callable[..., Any]
    kwargs: dict[str, Any]
    unpacker: Callable[[Any], Any]
    tree: ParamTree
    x: Array
    lower: Array
    upper: Array
    raises: bool = False

    def __call__(self, change: Change) -> Any:
        params = self.params_at(change)
        try:
            # the setting belongs to a thread, and a JAX array of double precision loses half of
            # it where it arrives without the setting
            with jax.enable_x64(True):
                raw = self.func(params, **self.kwargs)
                return _without_jax(raw if not change else plain_value(self.unpacker(raw)))
        except Exception as error:
            if self.raises:
                raise self.runtime_error(change, f"raised {_in_words(error)}") from error
            return TaskFailure.of(error)

    def params_at(self, change: Change) -> Any:
        x = self.x.copy()
        for position, value in change:
            x[position] = value
        return self.tree.to_params(x)

    def runtime_error(self, change: Change, what: str) -> UserFunctionRuntimeError:
        where = ", ".join(f"{self.tree.names[i]} = {value!r}" for i, value in change)
        error = UserFunctionRuntimeError(
            f"func {what} at params{' with ' if where else ''}{where}. "
            'error_handling="continue" makes derivatives that need such a point NaN.'
        )
        error.params = self.params_at(change)
        return error


def _read_task(func: Any, params: Any, bounds: Any, func_kwargs: Any, unpacker: Any) -> _Task:
    for name, function in (("func", func), ("unpacker", unpacker)):
        if not callable(function) and not (name == "unpacker" and function is None):
            raise InvalidFunctionError(f"{name} must be a function, not {function!r}.")
    if func_kwargs is not None and not isinstance(func_kwargs, Mapping):
        raise InvalidKwargsError(f"func_kwargs must be a dict of arguments, not {func_kwargs!r}.")
    kwargs = dict(func_kwargs or {})
    return _Task(func, kwargs, unpacker or _identity, *read_place(params, bounds))


def read_place(params: Any, bounds: Any) -> tuple[ParamTree, Array, Array, Array]:
    """Return the structure of params, their flat vector, and lower and upper bounds on it.

    Raises:
        InvalidParamsError: If params cannot be differentiated.
        InvalidBoundsError: If bounds are not valid, or params lie outside.
    """
    tree = ParamTree(params)
    x = tree.start_values()
    bad = [tree.names[i] for i in np.flatnonzero(~np.isfinite(x))]
    if bad:
        raise InvalidParamsError(f"These params are not finite: {listed(bad)}.")
    flat = read_bounds(bounds, tree, x)
    return tree, x, flat.lower, flat.upper


def _identity(raw: Any) -> Any:
    return raw


def _read_rule(
    tree: ParamTree, method: NumdiffMethod, step_size: Any, scaling_factor: Any, min_steps: Any
) -> StepRule:
    steps = {}
    for name, given, default in (
        ("step_size", step_size, np.nan),
        ("scaling_factor", scaling_factor, 1.0),
        ("min_steps", min_steps, 0.0),
    ):
        try:
            values = tree.broadcast(given, -np.inf, name)
        except (TypeError, ValueError) as error:
            raise InvalidNumdiffOptionsError(f"{error} Steps are aligned with params.") from error
        is_missing = values == -np.inf
        bad = np.flatnonzero(~is_missing & ~((values > 0) & (values < np.inf)))
        if len(bad):
            names = listed([tree.names[i] for i in bad])
            raise InvalidNumdiffOptionsError(
                f"{name} must be positive and finite; it is not for {names}."
            )
        steps[name] = np.where(is_missing, default, values)
    return StepRule(method, **steps)


def _check_choice(name: str, value: Any, choices: Sequence[str]) -> None:
    if not isinstance(value, str) or value not in choices:
        raise InvalidNumdiffOptionsError(
            f"{name} must be one of {', '.join(map(repr, choices))}, not {value!r}."
            + did_you_mean(value, choices)
        )


@dataclass(frozen=True)
class _Batch:
    """How points are evaluated, and whether failures are errors."""

    evaluator: BatchEvaluator
    n_cores: int
    raises: bool

    def evaluate(self, task: _Task, changes: list[Change]) -> list[Any]:
        # the task handles exceptions by itself, so that any batch evaluator will do
        function = replace(task, raises=self.raises)
        out = self.evaluator(function, changes, n_cores=self.n_cores, error_handling="raise")
        if len(out) != len(changes):
            raise InvalidNumdiffOptionsError(
                f"batch_evaluator returned {len(out)} results for {len(changes)} points."
            )
        return out


def _read_batch(n_cores: Any, error_handling: Any, batch_evaluator: Any) -> _Batch:
    check_n_cores(n_cores, InvalidNumdiffOptionsError)
    _check_choice("error_handling", error_handling, get_args(NumdiffErrorHandling))
    evaluator = read_batch_evaluator(batch_evaluator, InvalidNumdiffOptionsError)
    return _Batch(evaluator, n_cores, error_handling != "continue")


# ---- by differences --------------------------------------------------------------------------


@dataclass(frozen=True)
class _Values:
    """What func returned.

    Args:
        center: All that it returned at x, or None if it raised there.
        table: Values at x and all other points, shape (1 + k, m); NaN where it raised.
        outer: Structure of a value.
        error: The first exception, or None.
    """

    center: Any
    table: Array
    outer: ParamTree
    error: Exception | None


def _by_differences(
    task: _Task,
    plan: Callable[[StepRule, float], Quotients],
    rule: StepRule,
    batch: _Batch,
    f0: Any,
) -> NumdiffResult:
    quotients = plan(rule, numerical.EPS_DOUBLE)
    values = _evaluate(task, batch, quotients.changes, f0)
    finite = values.table[np.isfinite(values.table)]
    # single precision inside func: steps for double precision would drown in rounding
    if rule.has_default_steps and numerical.looks_single(finite):
        quotients = plan(rule, numerical.EPS_SINGLE)
        values = _evaluate(task, batch, quotients.changes, values.center)
    derivative = quotients.combine(values.table)
    _warn_of_failures(task, values, derivative)
    trees = (values.outer, *[task.tree] * len(quotients.shape))
    return NumdiffResult(nested(derivative, trees), values.center)


def _evaluate(task: _Task, batch: _Batch, changes: list[Change], f0: Any) -> _Values:
    points = [(), *changes]
    results = batch.evaluate(task, points if f0 is None else changes)
    results = results if f0 is None else [f0, *results]
    center = None if isinstance(results[0], TaskFailure) else results[0]
    if center is not None:
        results[0] = plain_value(task.unpacker(center))
    errors = [r.exception for r in results if isinstance(r, TaskFailure)]
    if len(errors) == len(results):
        raise task.runtime_error((), f"raised {_in_words(errors[0])}, here and") from errors[0]
    outer = output_tree(next(r for r in results if not isinstance(r, TaskFailure)))
    table = np.full((len(results), outer.n_params), np.nan)
    for row, result in zip(table, results, strict=True):
        if not isinstance(result, TaskFailure):
            row[:] = _aligned(outer, result)
    is_bad = ~np.isfinite(table).all(axis=1)
    if batch.raises and is_bad.any():
        raise task.runtime_error(points[is_bad.argmax()], "returned a value that is not finite")
    return _Values(center, table, outer, errors[0] if errors else None)


def _aligned(outer: ParamTree, value: Any) -> Array:
    try:
        return outer.align(value, "the return value of func")
    except ValueError as error:
        raise InvalidFunctionError(
            f"func returns different structures at different points: {error}"
        ) from error


def _warn_of_failures(task: _Task, values: _Values, derivative: Array) -> None:
    """Say which derivatives are missing, and why."""
    why = "returned values that are not finite"
    if values.error is not None:
        why = f"raised {_in_words(values.error)}"
    is_missing = np.isnan(derivative).any(axis=tuple(range(derivative.ndim - 1)))
    n_failed = int((~np.isfinite(values.table).all(axis=1)).sum())
    where = f"func {why} at {n_failed} of {len(values.table)} points"
    if is_missing.any():
        names = listed([task.tree.names[i] for i in np.flatnonzero(is_missing)])
        warn_user(f"{where}. Derivatives with respect to these parameters are NaN: {names}.")
    elif values.center is None:
        warn_user(f"{where}, among them params itself, so func_value is None.")


# ---- by JAX ----------------------------------------------------------------------------------


def _by_jax(task: _Task, order: Literal[1, 2], f0: Any) -> NumdiffResult:
    space = Space(task.tree, task.x, task.lower, task.upper)
    with jax.enable_x64(True):
        try:
            functions, tree = trace_vector(task.func, task.kwargs, space, task.unpacker)
            value = functions.value(task.x)
            if order == 1:
                derivative = functions.jacobian(task.x)
            else:
                rows = np.eye(len(value))
                derivative = np.stack([functions.hessian(task.x, row) for row in rows])
        except Exception as error:
            what = str(error) if isinstance(error, NotTraceableError) else _in_words(error)
            raise NotAvailableError(
                f"JAX cannot differentiate func: {what}. Write func with jax.numpy, or use "
                f"another method, such as {'central' if order == 1 else 'central_cross'!r}."
            ) from error
    center = tree.to_params(value) if f0 is None else f0
    return NumdiffResult(nested(derivative, (tree, *[task.tree] * order)), center)


def _without_jax(tree: Any) -> Any:
    """Return a tree with NumPy arrays in the place of JAX arrays."""
    leaves, rebuild = flatten_in_order(tree)
    return rebuild([np.asarray(v) if isinstance(v, jax.Array) else v for v in leaves])


def _in_words(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".rstrip(": ")
