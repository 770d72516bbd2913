"""What a slice plot shows: a criterion along each parameter, with all others held."""

from __future__ import annotations

import numbers
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import numpy as np
from numpy.typing import NDArray

from optimagic_lite.exceptions import (
    InvalidFunctionError,
    InvalidKwargsError,
    UserFunctionRuntimeError,
    did_you_mean,
    listed,
)
from optimagic_lite.mark import Structure, structure_of
from optimagic_lite.objective.exact import ExactFunctions
from optimagic_lite.objective.kinds import Kind, structure_of_value
from optimagic_lite.objective.objective import known_jax
from optimagic_lite.objective.tracing import trace
from optimagic_lite.objective.written import is_jax
from optimagic_lite.parallel import (
    BatchEvaluator,
    BatchEvaluatorName,
    check_n_cores,
    read_batch_evaluator,
)
from optimagic_lite.space.bounds import read_bounds
from optimagic_lite.space.make import make_space
from optimagic_lite.space.selection import select_params
from optimagic_lite.space.space import Space
from optimagic_lite.space.trees import ParamTree

Array = NDArray[np.float64]

_MISSING = {
    (True, True): "",
    (True, False): "no upper bound",
    (False, True): "no lower bound",
    (False, False): "no bounds",
}


@dataclass(frozen=True)
class Slice:
    """A criterion along one parameter.

    Attributes:
        name: Name of the parameter, as it is shown.
        start: Its value in params.
        x: Its values in the plot, increasing; ``start`` is among them.
        y: Values of the criterion; NaN where it has none.
        missing: Which bounds it lacks, such that a range was chosen for it; "" if none.
    """

    name: str
    start: float
    x: Array
    y: Array
    missing: str


@dataclass(frozen=True)
class SlicePlotData:
    """What a slice plot shows.

    Attributes:
        slices: One a parameter.
        value: The criterion at params; NaN if it has no value there.
    """

    slices: tuple[Slice, ...]
    value: float


def slice_data(
    func: Callable[..., Any],
    params: Any,
    bounds: Any = None,
    func_kwargs: Mapping[str, Any] | None = None,
    selector: Callable[[Any], Any] | None = None,
    *,
    n_gridpoints: int = 20,
    param_names: Mapping[str, str] | None = None,
    n_cores: int = 1,
    batch_evaluator: BatchEvaluatorName | BatchEvaluator = "joblib",
) -> SlicePlotData:
    """Compute what a slice plot shows; arguments and errors as in ``slice_plot``.

    Returns:
        The data, with slices in the order of the selection.
    """
    _check_function(func, func_kwargs)
    check_number("n_gridpoints", n_gridpoints, numbers.Integral, at_least=2)
    check_n_cores(n_cores)
    evaluate_batch = partial(
        read_batch_evaluator(batch_evaluator),
        n_cores=n_cores,
        error_handling="raise",
        unpack_symbol=None,
    )
    space = make_space(params).without_constraints()
    start = space.x0
    selected = select_params(selector, space.tree).positions.tolist()
    columns = np.array(list(dict.fromkeys(selected)), dtype=np.intp)
    labels = _labels(space.names, columns, param_names)
    limits = read_bounds(bounds, space.tree, start)
    lower, has_lower = _side(limits.lower, limits.soft_lower, start, -1.0)
    upper, has_upper = _side(limits.upper, limits.soft_upper, start, 1.0)
    grids = [_grid(lower[i], upper[i], n_gridpoints) for i in columns]
    points = np.repeat(start[None], 1 + len(columns) * n_gridpoints, axis=0)
    points[np.arange(1, len(points)), np.repeat(columns, n_gridpoints)] = np.concatenate(grids)
    criterion = _Criterion(func, dict(func_kwargs or {}), space.tree, structure_of(func))
    values = _values(criterion, space, points, evaluate_batch)
    slices = []
    for k, (i, grid) in enumerate(zip(columns, grids, strict=True)):
        x, rows = np.unique([start[i], *grid], return_index=True)
        rows[rows > 0] += k * n_gridpoints
        missing = _MISSING[bool(has_lower[i]), bool(has_upper[i])]
        slices.append(Slice(labels[k], float(start[i]), x, values[rows], missing))
    return SlicePlotData(tuple(slices), float(values[0]))


def _labels(
    names: list[str], columns: NDArray[np.intp], param_names: Mapping[str, str] | None
) -> list[str]:
    """Return the names under which parameters are shown."""
    new = {} if param_names is None else param_names
    if not isinstance(new, Mapping):
        raise ValueError(f"param_names must be a dict of new names by name, not {new!r}.")
    for name in new:
        if name not in names:
            hint = did_you_mean(name, names) or f" Parameters are {listed(names)}."
            raise ValueError(f"param_names renames {name!r}, which is no parameter.{hint}")
    labels = [str(new.get(names[i], names[i])) for i in columns]
    owners: dict[str, list[str]] = {}
    for i, label in zip(columns, labels, strict=True):
        owners.setdefault(label, []).append(names[i])
    for label, same in owners.items():
        if len(same) > 1:
            raise ValueError(
                f"param_names shows {listed(same)} all as {label!r}. Give each its own name."
            )
    return labels


def _side(hard: Array, soft: Array, start: Array, sign: float) -> tuple[Array, NDArray[np.bool_]]:
    """Return where ranges end on one side, and whether bounds say so."""
    use_hard = np.isfinite(hard)
    use_soft = np.isfinite(soft) & (sign * (soft - start) > 0)
    chosen = start + sign * np.maximum(np.abs(start), 1.0)
    return np.where(use_hard, hard, np.where(use_soft, soft, chosen)), use_hard | use_soft


def _grid(lower: float, upper: float, n: int) -> Array:
    # in halves, because the distance of huge bounds overflows
    return np.clip(2 * np.linspace(lower / 2, upper / 2, n), lower, upper)


def _values(
    criterion: _Criterion, space: Space, points: Array, evaluate_batch: Callable[..., list[float]]
) -> Array:
    """Evaluate a criterion at params, which come first, and at other flat vectors.

    Returns:
        Shape (n_points,); NaN where it failed.
    """
    start = None if known_jax(criterion.func) else criterion.call(points[0])
    values = None
    if start is None or start.is_jax:
        values = criterion.compiled(space, points)
    if values is None:
        start = start or criterion.call(points[0])
        values = np.full(len(points), start.value)
        moved = np.flatnonzero((points != points[0]).any(axis=1))
        values[moved] = evaluate_batch(criterion, list(points[moved]))
    values = np.where(np.isfinite(values), values, np.nan)
    if np.isnan(values).all():
        raise _no_value(space.to_params(points[0]), len(points), start.error if start else None)
    return values


@dataclass(frozen=True)
class _Call:
    """What a call as written gave; NaN and the error if it raised."""

    value: float
    is_jax: bool
    error: Exception | None


@dataclass(frozen=True)
class _Criterion:
    """A criterion as a function of the flat vector, NaN where it raises."""

    func: Callable[..., Any]
    kwargs: dict[str, Any]
    tree: ParamTree
    declared: Structure | None

    def __call__(self, flat: Array) -> float:
        return self.call(flat).value

    def call(self, flat: Array) -> _Call:
        """Call it as it is written."""
        try:
            # here, because another thread or process has its own precision
            with jax.enable_x64(True):
                raw = self.func(self.tree.to_params(flat), **self.kwargs)
                return _Call(self._kind(raw).value(raw), is_jax(raw), None)
        except InvalidFunctionError:
            raise
        except Exception as error:
            return _Call(float("nan"), False, error)

    def compiled(self, space: Space, points: Array) -> Array | None:
        """Evaluate it at all points in one compiled call; None if JAX cannot."""

        def as_array(raw: Any) -> jax.Array:
            return self._kind(raw).traced(raw)

        try:
            with jax.enable_x64(True):
                program = trace(
                    self.func, self.kwargs, space, 1.0, check_purity=True, as_array=as_array
                )
                return ExactFunctions(program).values(points)
        except Exception:
            # whatever it was, calls as written have no need of JAX
            return None

    def _kind(self, raw: Any) -> Kind:
        return Kind(structure_of_value(raw, self.declared))


def _no_value(params: Any, n_points: int, error: Exception | None) -> UserFunctionRuntimeError:
    what = f"raises {type(error).__name__}: {error}" if error else "is not finite."
    failure = UserFunctionRuntimeError(
        f"func has a value at none of {n_points} points, so there is nothing to plot. At params "
        f"it {what}"
    )
    failure.params = params
    failure.__cause__ = error
    return failure


def _check_function(func: Any, func_kwargs: Any) -> None:
    if not callable(func):
        raise InvalidFunctionError(f"func must be a function, not {func!r}.")
    if func_kwargs is not None and not isinstance(func_kwargs, Mapping):
        raise InvalidKwargsError(f"func_kwargs must be a dict of arguments, not {func_kwargs!r}.")


def check_number(name: str, value: Any, kind: type, at_least: float) -> None:
    """Refuse an argument that is no number of a kind, or too small.

    Args:
        name: Name of the argument.
        value: What the user asked for.
        kind: ``numbers.Integral`` or ``numbers.Real``.
        at_least: The smallest number.

    Raises:
        ValueError: If it is not.
    """
    is_number = isinstance(value, kind) and not isinstance(value, bool)
    if not is_number or not at_least <= value < np.inf:
        what = "an integer" if kind is numbers.Integral else "a number"
        raise ValueError(f"{name} must be {what} of at least {at_least}, not {value!r}.")
