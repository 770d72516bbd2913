"""Judge derivatives by differences of adaptive step, entry by entry.

The differences and their error estimates are those of ``scipy.differentiate``. An entry that they
confirm is done with. For the others there are more looks: with larger and smaller steps, and from
either side. An entry is "wrong" only if the best look and those from the sides agree with each
other, and not with it. Where they contradict each other, at a kink or with noise, or where there
are none, it is "unsure".
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from optimagic_lite.objective.numerical import EPS_DOUBLE, EPS_SINGLE, looks_single

Array = NDArray[np.float64]
# points of shape (k, n) -> values of shape (k, m), NaN where there are none
ArrayFunction = Callable[[Array], Array]

# errors of this many times their estimate are allowed for
_SAFETY = 10
# rounding errors of differences to both sides and to one, in units of eps * |value| / step
_ROUNDING = np.array([300, 3000])
# looks agree if they differ by less than this part of what separates them from the given value
_AGREEMENT = 0.1


@dataclass(frozen=True)
class Comparison:
    """What differences say about a matrix of derivatives.

    Attributes:
        difference: The best estimate of each entry, shape (m, n).
        error: Its error estimate; infinite where there is none.
        verdict: "correct", "wrong" or "unsure".
    """

    difference: Array
    error: Array
    verdict: NDArray[np.str_]


@dataclass(frozen=True)
class _Look:
    """Estimates by one choice of steps.

    Args:
        step: Largest step in each direction, shape (n,).
        difference: Shape (m, n), NaN where there is none.
        error: What it may be off, shape (m, n); infinite where there is none.
        natural: Size of the function in relation to the step, shape (m, n).
    """

    step: Array
    difference: Array
    error: Array
    natural: Array

    def better(self, other: _Look) -> _Look:
        """Return, entry by entry, the estimate with the smaller error."""
        keep = self.error <= other.error
        pairs = [(getattr(self, f), getattr(other, f)) for f in ("difference", "error", "natural")]
        # a step belongs to a parameter
        rows = np.where(keep.any(axis=0), self.step, other.step)
        return _Look(rows, *(np.where(keep, mine, theirs) for mine, theirs in pairs))


@dataclass(frozen=True)
class _Place:
    """A function near the point where its derivatives are checked.

    Args:
        function: Points of shape (k, n) -> values of shape (k, m).
        x: Shape (n,).
        lower: Lower bounds, shape (n,).
        upper: Upper bounds, shape (n,).
        center: Values at x, shape (m,).
        eps: Precision of the function.
    """

    function: ArrayFunction
    x: Array
    lower: Array
    upper: Array
    center: Array
    eps: float


def compare_with_differences(
    function: ArrayFunction, given: Array, x: Array, lower: Array, upper: Array, rtol: float
) -> Comparison:
    """Judge each entry of a Jacobian.

    Args:
        function: Called with points of shape (k, n) inside the bounds; returns shape (k, m).
        given: The Jacobian that is checked, shape (m, n).
        x: Where, shape (n,).
        lower: Lower bounds, shape (n,).
        upper: Upper bounds, shape (n,).
        rtol: Relative difference that counts as correct.
    """
    relative = _relative_step(x)
    absolute = 0.1 * np.maximum(np.abs(x), 1.0)
    place = _look_around(function, x, lower, upper, relative)
    everything = np.ones(len(x), dtype=bool)
    small = np.sqrt(place.eps)
    best = _look(place, everything, *_inside(place, relative))
    # errors that are small against the function count only when there is no better step to try
    has_other = relative < absolute
    is_correct = _is_confirmed(best, given, rtol, np.where(has_other, 0.0, small * best.natural))
    for step, useful in ((absolute, has_other), (1e-3 * relative, everything)):
        columns = useful & ~is_correct.all(axis=0)
        best = best.better(_look(place, columns, *_inside(place, step)))
        is_correct = is_correct | _is_confirmed(best, given, rtol, small * best.natural)
    sides = _sides(place, ~np.asarray(is_correct.all(axis=0)), best.step)
    is_wrong = ~is_correct & _is_refuted(best, sides, given, rtol)
    verdict = np.where(is_correct, "correct", np.where(is_wrong, "wrong", "unsure"))
    return Comparison(best.difference, best.error, verdict)


def gradients_by_differences(function: ArrayFunction, lower: Array, upper: Array) -> ArrayFunction:
    """Return a function that differentiates one with a single value, at points of shape (k, n).

    Args:
        function: Points of shape (k, n) -> values of shape (k, 1).
        lower: Lower bounds, shape (n,).
        upper: Upper bounds, shape (n,).
    """

    def gradient(x: Array) -> Array:
        place = _Place(function, x, lower, upper, function(x[None])[0], EPS_DOUBLE)
        everything = np.ones(len(x), dtype=bool)
        look = _look(place, everything, *_inside(place, _relative_step(x)))
        return np.asarray(look.difference[0])

    return lambda points: np.stack([gradient(x) for x in points])


def _relative_step(x: Array) -> Array:
    return np.asarray(0.1 * np.where(x == 0, 1.0, np.abs(x)))


def _look_around(
    function: ArrayFunction, x: Array, lower: Array, upper: Array, step: Array
) -> _Place:
    # one value alone may be a round number
    points = np.clip(x + step * np.array([[0.0], [0.0123], [-0.0321]]), lower, upper)
    values = function(points)
    finite = values[np.isfinite(values)]
    is_single = len(finite) and looks_single(finite) and np.ptp(finite) > 0
    return _Place(function, x, lower, upper, values[0], EPS_SINGLE if is_single else EPS_DOUBLE)


def _inside(place: _Place, step: Array) -> tuple[Array, NDArray[np.intp]]:
    """Return steps that fit into the bounds, and their direction: 0 is both."""
    up, down = place.upper - place.x, place.x - place.lower
    near, far = np.minimum(up, down), np.maximum(up, down)
    is_central = near >= 0.1 * step
    direction = np.where(is_central, 0, np.where(up >= down, 1, -1))
    return np.minimum(step, np.where(is_central, near, far)), direction


def _look(
    place: _Place, columns: NDArray[np.bool_], step: Array, direction: NDArray[np.intp]
) -> _Look:
    """Estimate some columns of the Jacobian."""
    from scipy.differentiate import jacobian

    x, m, n = place.x, len(place.center), len(place.x)
    chosen = np.flatnonzero(columns & (x + 1e-3 * step != x))
    difference, error, size = np.full((m, n), np.nan), np.full((m, n), np.inf), np.zeros((m, 1))
    if not len(chosen):
        return _Look(step, difference, error, np.zeros((m, n)))

    def values(z: Array) -> Array:
        points = np.repeat(x[None], z[0].size, axis=0)
        points[:, chosen] = z.reshape(len(chosen), -1).T
        # the last digit of a sum may lie beyond a bound
        points = np.clip(points, place.lower, place.upper)
        points, inverse = np.unique(points, axis=0, return_inverse=True)
        out = place.function(points)[inverse.reshape(-1)].T
        size[:] = np.fmax(size, np.abs(out).max(axis=1, keepdims=True, initial=0.0))
        return out.reshape(m, *z.shape[1:])

    with np.errstate(all="ignore"):
        found = jacobian(
            values,
            x[chosen],
            initial_step=step[chosen],
            step_direction=direction[chosen],
            tolerances={"rtol": float(np.sqrt(place.eps))},
        )
        rounding = np.abs(place.center)[:, None] / step[chosen] + np.abs(found.df)
        rounding *= place.eps * _ROUNDING[np.abs(direction[chosen])]
        total = _SAFETY * found.error + rounding
        natural = size / step
    difference[:, chosen], error[:, chosen] = found.df, np.where(np.isnan(total), np.inf, total)
    return _Look(step, difference, error, natural)


def _sides(place: _Place, columns: NDArray[np.bool_], step: Array) -> list[_Look]:
    """Look again, to either side alone."""
    looks = []
    for sign, room in ((1, place.upper - place.x), (-1, place.x - place.lower)):
        # other points than before, also where that was a look to one side
        inside = np.minimum(0.6 * step, room)
        useful = columns & (room >= 0.1 * step)
        looks.append(_look(place, useful, inside, np.full(len(step), sign)))
    return looks


def _is_confirmed(look: _Look, given: Array, rtol: float, small: Array) -> NDArray[np.bool_]:
    """Tell which given values are within the error of a look, where that is small enough."""
    with np.errstate(invalid="ignore"):
        allowed = rtol * np.fmax(np.abs(given), np.abs(look.difference))
        is_precise = look.error <= np.maximum(allowed, small)
        is_near = np.abs(given - look.difference) <= allowed + look.error
    return np.asarray(np.isfinite(given) & is_precise & is_near)


def _is_refuted(
    best: _Look, sides: Sequence[_Look], given: Array, rtol: float
) -> NDArray[np.bool_]:
    """Tell which given values are refuted by the best look and, unanimously, by those to a side."""
    with np.errstate(invalid="ignore"):
        distance = np.where(np.isfinite(given), np.abs(given - best.difference), np.inf)
        allowed = rtol * np.abs(best.difference)
        out = best.error + allowed < distance
        has_side = np.zeros(out.shape, dtype=bool)
        for side in sides:
            exists = np.isfinite(side.error)
            is_same = np.abs(side.difference - best.difference) <= _AGREEMENT * distance
            out &= ~exists | (is_same & (side.error + allowed < distance))
            has_side |= exists
    return np.asarray(out & has_side)
