"""All ways to write bounds, as flat vectors that have been checked against the start."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from optimagic_lite.exceptions import InvalidBoundsError
from optimagic_lite.options import Bounds
from optimagic_lite.space.trees import ParamTree

_FIELDS = {
    "lower": ("lower_bound", -np.inf),
    "upper": ("upper_bound", np.inf),
    "soft_lower": ("soft_lower_bound", -np.inf),
    "soft_upper": ("soft_upper_bound", np.inf),
}


@dataclass(frozen=True)
class FlatBounds:
    """Bounds as vectors of shape (n_params,); infinite where there are none."""

    lower: NDArray[np.float64]
    upper: NDArray[np.float64]
    soft_lower: NDArray[np.float64]
    soft_upper: NDArray[np.float64]

    def tightened(self) -> FlatBounds:
        """Return bounds to which soft ones have been added."""
        lower = np.maximum(self.lower, self.soft_lower)
        upper = np.minimum(self.upper, self.soft_upper)
        return FlatBounds(lower, upper, lower, upper)


def read_bounds(bounds: Any, tree: ParamTree, start: NDArray[np.float64] | None) -> FlatBounds:
    """Bring bounds into flat form and check them.

    Args:
        bounds: ``Bounds``, SciPy's ``Bounds``, a sequence of (lower, upper) pairs in flat order,
            or None.
        tree: The structure of params. Bounds may also stand in columns of its DataFrames.
        start: Start values, shape (n_params,); None if they are not known.

    Returns:
        Checked vectors.

    Raises:
        InvalidBoundsError: If bounds cannot be read or aligned with params, are NaN or crossed,
            or the start lies outside.
    """
    record = _as_record(bounds, tree.n_params)
    columns = tree.bound_columns()
    flat: dict[str, NDArray[np.float64]] = {}
    for field, (column, fill) in _FIELDS.items():
        what = f"bounds.{field}"
        value = getattr(record, field)
        try:
            flat[field] = tree.broadcast(value, fill, what)
        except (ValueError, TypeError) as error:
            raise InvalidBoundsError(f"{error} Bounds are aligned with params by key.") from error
        _refuse(np.isnan(flat[field]), tree, lambda _, w=what: f"{w} is NaN; use None or infinity")
        if column in columns:
            given = ~np.isnan(columns[column])
            _refuse(
                given & (flat[field] != fill),
                tree,
                lambda _, w=what, c=column: f"both {w} and the column {c!r} of params give a bound",
            )
            flat[field] = np.where(given, columns[column], flat[field])
    out = FlatBounds(**flat)
    _check(out, tree, start)
    return out


def _as_record(bounds: Any, n_params: int) -> Bounds:
    if bounds is None:
        return Bounds()
    if isinstance(bounds, Bounds):
        return bounds
    if hasattr(bounds, "lb") and hasattr(bounds, "ub"):
        sides = [_scipy_side(bounds.lb, n_params), _scipy_side(bounds.ub, n_params)]
        return Bounds(*sides)
    pairs = list(bounds) if isinstance(bounds, (Sequence, np.ndarray, zip)) else None
    if pairs is None or isinstance(bounds, str) or any(np.size(p) != 2 for p in pairs):
        raise InvalidBoundsError(
            "bounds must be om.Bounds(lower=..., upper=...), scipy.optimize.Bounds or a sequence "
            f"of (lower, upper) pairs, not {bounds!r}."
        )
    if len(pairs) != n_params:
        raise InvalidBoundsError(
            f"bounds has {len(pairs)} pairs, but params holds {n_params} numbers."
        )
    lower, upper = (list(side) for side in zip(*pairs, strict=True))
    try:
        return Bounds(
            np.array([-np.inf if v is None else v for v in lower], dtype=np.float64),
            np.array([np.inf if v is None else v for v in upper], dtype=np.float64),
        )
    except (TypeError, ValueError) as error:
        raise InvalidBoundsError(f"bounds hold something that is no number: {error}.") from error


def _scipy_side(side: Any, n_params: int) -> NDArray[np.float64]:
    try:
        return np.array(np.broadcast_to(np.asarray(side, dtype=np.float64), (n_params,)))
    except ValueError as error:
        raise InvalidBoundsError(
            f"bounds have shape {np.shape(side)}, but params holds {n_params} numbers."
        ) from error


def _check(bounds: FlatBounds, tree: ParamTree, start: NDArray[np.float64] | None) -> None:
    lower, upper = bounds.lower, bounds.upper
    _refuse(
        lower > upper,
        tree,
        lambda i: f"lower bound {lower[i]:g} is above the upper bound {upper[i]:g}",
    )
    _refuse(
        (lower == np.inf) | (upper == -np.inf),
        tree,
        lambda i: f"bounds [{lower[i]:g}, {upper[i]:g}] hold no number",
    )
    soft_lower = np.maximum(bounds.soft_lower, lower)
    soft_upper = np.minimum(bounds.soft_upper, upper)
    _refuse(
        soft_lower > soft_upper,
        tree,
        lambda i: f"soft bounds leave no room between {soft_lower[i]:g} and {soft_upper[i]:g}",
    )
    if start is None:
        return
    _refuse(
        (start < lower) | (start > upper),
        tree,
        lambda i: f"start value {start[i]:.16g} is outside [{lower[i]:.16g}, {upper[i]:.16g}]",
    )


def _refuse(mask: NDArray[np.bool_], tree: ParamTree, describe: Any) -> None:
    """Raise an error that names the first parameters of a mask."""
    positions = np.flatnonzero(mask)
    if not len(positions):
        return
    lines = [f"  {tree.names[i]}: {describe(i)}" for i in positions[:10]]
    if len(positions) > 10:
        lines.append(f"  and {len(positions) - 10} more")
    raise InvalidBoundsError("Invalid bounds for these parameters:\n" + "\n".join(lines))
