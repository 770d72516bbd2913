"""Finite differences that stay inside the bounds, planned as batches of points.

Formulas: the first-order forward and backward quotients and the second-order central quotient;
next to a bound the second-order one-sided quotient
``(-3 f(x) + 4 f(x + h) - f(x + 2 h)) / (2 h)``. Step sizes balance truncation and rounding:
``eps ** (1/2)`` and ``eps ** (1/3)`` relative to the parameter (Nocedal and Wright 2006,
Numerical Optimization, section 8.1, doi:10.1007/978-0-387-40065-5).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from optimagic_lite.options import NumdiffMethod, NumdiffOptions

Array = NDArray[np.float64]

EPS_DOUBLE = float(np.finfo(np.float64).eps)
EPS_SINGLE = float(np.finfo(np.float32).eps)

NO_ROOM = 1e-150

# numbers in one block of points: 64 MB
_BLOCK = 1 << 23


@dataclass(frozen=True)
class StepRule:
    """Method and steps of difference quotients, where each parameter may have its own.

    Args:
        method: "central", "forward" or "backward".
        step_size: Absolute steps, a number or shape (n,), NaN where the default holds; None means
            the default everywhere.
        scaling_factor: Multiplies the steps; a number or shape (n,).
        min_steps: Smallest absolute steps, a number or shape (n,), or None.
    """

    method: NumdiffMethod = "central"
    step_size: float | Array | None = None
    scaling_factor: float | Array = 1.0
    min_steps: float | Array | None = None

    @property
    def has_default_steps(self) -> bool:
        """Whether some step depends on the precision of the function."""
        return self.step_size is None or bool(np.isnan(self.step_size).any())


@dataclass(frozen=True)
class Stencil:
    """The points and weights of a gradient.

    Point i is x with ``target[i]`` in entry ``index[i]``. Its value enters the derivative in
    that entry with ``weight[i]``, the value at x with ``center_weight``.

    Args:
        x: Where the gradient is taken, shape (n,).
        index: Shape (k,).
        target: Shape (k,).
        weight: Shape (k,).
        center_weight: Shape (n,).
    """

    x: Array
    index: NDArray[np.intp]
    target: Array
    weight: Array
    center_weight: Array

    def blocks(self) -> Iterator[Array]:
        """Yield the points in blocks of shape (m, n) of bounded size."""
        size = max(1, _BLOCK // len(self.x))
        for first in range(0, len(self.index), size):
            index = self.index[first : first + size]
            points = np.repeat(self.x[None], len(index), axis=0)
            points[np.arange(len(index)), index] = self.target[first : first + size]
            yield points

    def gradient(self, values: Array, center: float) -> Array:
        """Combine values at the points, shape (k,), with the value at x."""
        sums = np.bincount(self.index, weights=self.weight * values, minlength=len(self.x))
        return np.asarray(sums + self.center_weight * center)

    def jacobian(self, values: Array, center: Array) -> Array:
        """Combine vectors at the points, shape (k, m), with that at x; returns shape (m, n)."""
        columns = [self.gradient(values[:, i], c) for i, c in enumerate(center.tolist())]
        return np.array(columns).reshape(len(center), len(self.x))


def make_stencil(
    x: Array, lower: Array, upper: Array, options: NumdiffOptions | StepRule, eps: float
) -> Stencil:
    """Plan a gradient.

    Args:
        x: Shape (n,).
        lower: Lower bounds, shape (n,).
        upper: Upper bounds, shape (n,).
        options: Method and steps.
        eps: Precision of the criterion.

    Returns:
        Points inside the bounds. Entries that the bounds pin to one value get derivative 0.
    """
    h = step_sizes(x, options, eps)
    up, down = upper - x, x - lower
    index = np.arange(len(x))
    if options.method == "central":
        two_sided = (up >= h) & (down >= h)
        sign = np.where(up >= down, 1.0, -1.0)
        # a step of one-sided formulas goes twice as far
        h = np.where(two_sided, h, sign * np.minimum(h, np.maximum(up, down) / 2))
        far = np.where(two_sided, -h, 2 * h)
        near_weight = np.where(two_sided, 0.5, 2.0)
        far_weight = np.where(two_sided, -0.5, -0.5)
        center_weight = np.where(two_sided, 0.0, -1.5)
        steps = np.concatenate([h, far])
        weights = np.concatenate([near_weight, far_weight])
        index = np.concatenate([index, index])
    else:
        sign = np.where(options.method == "forward", 1.0, -1.0)
        room, other = (up, down) if options.method == "forward" else (down, up)
        flip = (room < h) & (other > room)
        sign = np.where(flip, -sign, sign)
        h = sign * np.minimum(h, np.where(flip, other, room))
        steps, weights, center_weight = h, np.ones(len(x)), np.full(len(x), -1.0)
    # no difference quotient fits into less room: 1 / h would overflow, or x + h be x
    free = (np.abs(h) > NO_ROOM) & (x + h != x)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        weights = weights / h[index]
        center_weight = np.where(free, center_weight / h, 0.0)
    keep = free[index]
    target = np.clip(x[index] + steps, lower[index], upper[index])
    return Stencil(x, index[keep], target[keep], weights[keep], center_weight)


def step_sizes(
    x: Array, options: NumdiffOptions | StepRule, eps: float, power: float | None = None
) -> Array:
    """Return positive steps; their default is ``eps ** power`` relative to the parameter."""
    if power is None:
        power = 1 / 3 if options.method == "central" else 1 / 2
    h = eps**power * np.maximum(np.abs(x), 0.1)
    if options.step_size is not None:
        h = np.where(np.isnan(options.step_size), h, options.step_size)
    h = h * options.scaling_factor
    if options.min_steps is not None:
        h = np.maximum(h, options.min_steps)
    # a step that is not lost in rounding, and exactly representable where it is taken
    h = np.maximum(h, 16 * np.spacing(np.abs(x)))
    return np.asarray((x + h) - x)


def looks_single(values: Array) -> bool:
    """Tell whether values seem to be computed in single precision."""
    with np.errstate(over="ignore"):
        return bool((values.astype(np.float32) == values).all())


def hessian(
    x: Array, gradient: Callable[[Array], Array], options: NumdiffOptions, eps: float
) -> Array:
    """Return a Hessian by central differences of gradients.

    Args:
        x: Shape (n,).
        gradient: Gradient at a point; exact or numerical.
        options: ``scaling_factor`` and ``min_steps`` are used.
        eps: Precision of the gradient.

    Returns:
        Symmetric array of shape (n, n).
    """
    rule = StepRule("central", None, options.scaling_factor, options.min_steps)
    steps = step_sizes(x, rule, eps)
    columns = []
    for i, h in enumerate(steps):
        up, down = x.copy(), x.copy()
        up[i] += h
        down[i] -= h
        columns.append((gradient(up) - gradient(down)) / (2 * h))
    out = np.stack(columns, axis=1)
    return np.asarray((out + out.T) / 2)
