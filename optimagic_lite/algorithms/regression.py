"""Steps that are coefficients of a linear regression: of Gauss-Newton, and of BHHH."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from optimagic_lite.evaluator import Evaluator

Array = NDArray[np.float64]

# what a full step may promise after a run, relative to the sum of squares; but no more than one
# residual's share, which for a regression is a distance of one standard error
_LEFT = 1e-3
# share of that promise for which a run begins anew, and how short a walk begins, in powers of 1/4
_WORTH = 1e-3
_N_LENGTHS = 12
# singular values, relative to the largest, that count as zero
_RANK = 1e-10
_MAX_REFINEMENTS = 50
# a residual, relative to its parts, and a sum of squares, relative to the first, that count as zero
NOISE = 100 * float(np.finfo(np.float64).eps)
# a step that promises to lower the sum of squares by more, relative to it, is no refinement
_LONGEST = 1e-6
# a change of the sum of squares, relative to it, that rounding alone may cause
_ROUNDING = 1e-12


def regression_step(matrix: Array, target: Array, held: NDArray[np.bool_]) -> Array:
    """Return minus the coefficients of a regression of a target on columns; zero where held.

    Columns are scaled to length one, so that units do not matter.

    Args:
        matrix: Shape (m, n).
        target: Shape (m,).
        held: Columns that are left out, shape (n,).
    """
    free = np.flatnonzero(~held)
    size = np.sqrt((matrix[:, free] ** 2).sum(axis=0))
    size = np.where(size > 0, size, 1.0)
    coefficients, *_ = np.linalg.lstsq(matrix[:, free] / size, target, rcond=_RANK)
    step = np.zeros(matrix.shape[1])
    step[free] = -coefficients / size
    return step


def cosine(residuals: Any, jacobian: Any, xp: Any = np) -> Any:
    """Return the largest cosine of an angle between residuals and a column of their Jacobian.

    Args:
        residuals: Shape (m,).
        jacobian: Shape (m, n).
        xp: NumPy, or jax.numpy inside JAX.
    """
    lengths = xp.linalg.norm(jacobian, axis=0) * xp.linalg.norm(residuals)
    products = xp.abs(residuals @ jacobian)
    return (products / xp.where(lengths > 0, lengths, 1.0)).max()


def held_by_bounds(evaluator: Evaluator, x: Array, gradient: Array) -> NDArray[np.bool_]:
    """Tell which entries of x a bound holds: the criterion falls beyond it."""
    space = evaluator.space
    return np.asarray(((x <= space.lower) & (gradient > 0)) | ((x >= space.upper) & (gradient < 0)))


def further(evaluator: Evaluator) -> Array | None:
    """Walk along the full Gauss-Newton step if it promises much, and return a lower point, if any.

    Tests of convergence compare with one, or with the last change; the promise of a full step has
    no units. The walk goes from short to long, so that it ends before the model is all wrong.
    """
    here = _Point(evaluator, evaluator.best_x)
    if not here.promises_much:
        return None
    f = here.f
    for i in range(_N_LENGTHS, -1, -1):
        point = here.toward(4.0**-i)
        residuals = evaluator.fun(point)
        f_last, f = f, float(residuals @ residuals)
        if not f < f_last:
            break
    is_worth_it = evaluator.best_f < here.f * (1 - _WORTH * here.left)
    return np.array(evaluator.best_x) if is_worth_it else None


def refine(evaluator: Evaluator) -> bool:
    """Take full Gauss-Newton steps from the best point while they come closer to the minimum.

    A solver that compares sums of squares stops where rounding hides their decrease, with half of
    the digits that the residuals could give. What the next step promises shows more: it is the
    squared distance to the minimum in the units of the problem.

    Where derivatives are numerical, no step is taken.

    Returns:
        Whether the next step promises that the sum of squares falls notably.
    """
    here = _Point(evaluator, evaluator.best_x)
    for _ in range(_MAX_REFINEMENTS if evaluator.objective.has_derivative else 0):
        is_short = here.promise <= _LONGEST * here.f
        if not is_short or np.array_equal(here.next, here.x):
            break
        there = _Point(evaluator, here.next)
        is_closer = there.promise < here.promise and there.f <= here.f * (1 + _ROUNDING)
        if not is_closer:
            break
        evaluator.prefer(there.x, there.f, there.gradient)
        here = there
    return here.promises_much


def _bounded_step(jacobian: Array, residuals: Array, lower: Array, upper: Array) -> Array:
    """Return the step to the minimum of the linear model of the residuals within bounds."""
    from scipy import optimize

    size = np.linalg.norm(jacobian, axis=0)
    size = np.where(size > 0, size, 1.0)
    # the solver wants room between the bounds
    room = np.maximum(upper, lower + 1e-300) * size
    with np.errstate(all="ignore"):
        found = optimize.lsq_linear(jacobian / size, -residuals, (lower * size, room))
    return np.asarray(found.x / size)


class _Point:
    """A point of a least-squares problem.

    Attributes:
        x: The point.
        f: Sum of squared residuals there.
        gradient: Its gradient.
        next: Where a full step leads.
        promise: How much that would gain to first order, halved as for a parabola.
        left: How much it would gain by the linear model of the residuals, relative to f; zero
            where f is zero but for rounding, or the model may deceive.
        promises_much: Whether that is too much for a minimum.
    """

    def __init__(self, evaluator: Evaluator, x: Array) -> None:
        lower, upper = self._box = evaluator.space.lower, evaluator.space.upper
        residuals, jacobian = evaluator.fun_and_jac(x)
        self.x = x
        self.f = float(residuals @ residuals)
        self.gradient = 2 * residuals @ jacobian
        held = held_by_bounds(evaluator, x, self.gradient)
        self._step = regression_step(jacobian, residuals, held)
        if not ((lower <= x + self._step) & (x + self._step <= upper)).all():
            self._step = _bounded_step(jacobian, residuals, lower - x, upper - x)
        self.next = self.toward(1.0)
        moved = self.next - x
        self.promise = -float(self.gradient @ moved) / 2
        after = residuals + jacobian @ moved
        noise = NOISE * float(np.linalg.norm(np.abs(jacobian) @ np.abs(x)))
        nothing = max(noise**2, NOISE * abs(evaluator.start_fun))
        # where x is transformed, its Jacobian may be singular at a minimum; see ``escape``
        is_known = self.f > nothing and not evaluator.space.is_curved
        self.left = 1 - float(after @ after) / self.f if is_known else 0.0
        n_spare = max(1, len(residuals) - len(x))
        self.promises_much = self.left > min(_LEFT, 1 / n_spare)

    def toward(self, length: float) -> Array:
        """Return the point that a part of the full step leads to, inside the bounds."""
        return np.asarray(np.clip(self.x + length * self._step, *self._box))
