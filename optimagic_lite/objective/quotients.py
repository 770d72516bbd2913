"""Difference quotients of first and second order, as weighted sums of values at points.

Second derivatives are products of two first-order quotients, or one quotient of second order where
both are with respect to the same parameter. Step sizes balance truncation and rounding:
``eps ** (1/4)`` (central) and ``eps ** (1/3)`` relative to the parameter.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from optimagic_lite.objective.numerical import NO_ROOM, StepRule, make_stencil, step_sizes

Array = NDArray[np.float64]
SecondMethod = Literal["forward", "backward", "central_average", "central_cross"]

# entries of x that differ, by their position, and their values
Change = tuple[tuple[int, float], ...]


@dataclass(frozen=True)
class Quotients:
    """Derivatives as weighted sums of values at points: the n-th term adds to one entry.

    Args:
        changes: What tells point i + 1 from x; point 0 is x.
        entry: Which derivative a term is part of, by its position in an array of ``shape``.
        point: Whose value the term takes.
        weight: What the value is multiplied with.
        shape: (n,) for first derivatives, (n, n) for second ones.
    """

    changes: list[Change]
    entry: NDArray[np.intp]
    point: NDArray[np.intp]
    weight: Array
    shape: tuple[int, ...]

    def combine(self, values: Array) -> Array:
        """Combine values at all points, shape (1 + k, m); returns shape (m, *shape).

        A value that is not finite spoils those entries alone that need it.
        """
        out = np.zeros((int(np.prod(self.shape)), values.shape[1]))
        with np.errstate(invalid="ignore", over="ignore"):
            np.add.at(out, self.entry, self.weight[:, None] * values[self.point])
        out[~np.isfinite(out)] = np.nan
        return out.T.reshape(-1, *self.shape)


def first_quotients(x: Array, lower: Array, upper: Array, rule: StepRule, eps: float) -> Quotients:
    """Plan first derivatives; arguments as in ``make_stencil``."""
    stencil = make_stencil(x, lower, upper, rule, eps)
    k, centered = len(stencil.index), np.flatnonzero(stencil.center_weight)
    return Quotients(
        [((i, v),) for i, v in zip(stencil.index.tolist(), stencil.target.tolist(), strict=True)],
        np.concatenate([stencil.index, centered]),
        np.concatenate([np.arange(1, k + 1), np.zeros(len(centered), dtype=np.intp)]),
        np.concatenate([stencil.weight, stencil.center_weight[centered]]),
        (len(x),),
    )


# Formulas along one parameter: weights of values at multiples of a step, which may be negative.
_FIRST = {
    "central": {1: 0.5, -1: -0.5},
    "sided": {0: -1.5, 1: 2.0, 2: -0.5},
    "short": {0: -1.0, 1: 1.0},
}
_SECOND = {
    "central": {1: 1.0, 0: -2.0, -1: 1.0},
    "sided": {0: 2.0, 1: -5.0, 2: 4.0, 3: -1.0},
    "short": {0: 1.0, 1: -2.0, 2: 1.0},
}


@dataclass(frozen=True)
class _Line:
    """The formula along one parameter, and its step."""

    position: int
    formula: str
    h: float


def second_quotients(
    x: Array,
    lower: Array,
    upper: Array,
    rule: StepRule,
    method: SecondMethod,
    eps: float,
) -> Quotients:
    """Plan second derivatives.

    Args:
        x: Shape (n,).
        lower: Lower bounds, shape (n,).
        upper: Upper bounds, shape (n,).
        rule: Steps; its method does not count.
        method: "central_cross", "central_average", "forward" or "backward".
        eps: Precision of the function.

    Returns:
        Points inside the bounds. Entries that the bounds pin to one value get derivative 0.
    """
    n = len(x)
    points: dict[Change, int] = {(): 0}
    entries, places, weights = [], [], []
    for i, j, offsets, weight in _terms(_lines(x, lower, upper, rule, method, eps), method):
        change = tuple(
            (p, float(np.clip(x[p] + step, lower[p], upper[p]))) for p, step in offsets if step
        )
        place = points.setdefault(change, len(points))
        for entry in {i * n + j, j * n + i}:
            entries.append(entry)
            places.append(place)
            weights.append(weight)
    return Quotients(
        list(points)[1:],
        np.array(entries, dtype=np.intp),
        np.array(places, dtype=np.intp),
        np.array(weights, dtype=np.float64),
        (n, n),
    )


def _lines(
    x: Array, lower: Array, upper: Array, rule: StepRule, method: SecondMethod, eps: float
) -> list[_Line]:
    """Choose formulas and steps that fit into the bounds."""
    is_central = method.startswith("central")
    h = step_sizes(x, rule, eps, 1 / 4 if is_central else 1 / 3)
    up, down = upper - x, x - lower
    fits = is_central & (up >= h) & (down >= h)
    reach = 3 if is_central else 2
    side = np.full(len(x), -1.0 if method == "backward" else 1.0)
    room, other = np.where(side > 0, (up, down), (down, up))
    flip = (room < reach * h) & (other > room)
    side = np.where(flip, -side, side)
    short = np.minimum(h, np.where(flip, other, room) / reach)
    h = np.where(fits, h, side * short)
    formulas = np.where(fits, "central", "sided" if is_central else "short").tolist()
    # squared, a smaller step would be 0
    free = (np.abs(h) > NO_ROOM) & (x + h != x)
    return [_Line(int(i), formulas[i], float(h[i])) for i in np.flatnonzero(free)]


def _terms(
    lines: list[_Line], method: SecondMethod
) -> Iterator[tuple[int, int, tuple[tuple[int, float], ...], float]]:
    """Yield two parameters, the steps from x, and the weight of the value there."""
    for line in lines:
        i, h = line.position, line.h
        for k, weight in _SECOND[line.formula].items():
            yield i, i, ((i, k * h),), weight / h / h
    for one, other in itertools.combinations(lines, 2):
        pair, signs = (one.formula, other.formula), [1]
        if method == "central_average" and pair == ("central", "central"):
            pair, signs = ("short", "short"), [1, -1]
        for sign, k, m in itertools.product(signs, _FIRST[pair[0]], _FIRST[pair[1]]):
            weight = _FIRST[pair[0]][k] * _FIRST[pair[1]][m] / len(signs) / one.h / other.h
            steps = (one.position, sign * k * one.h), (other.position, sign * m * other.h)
            yield one.position, other.position, steps, weight
