"""The method of Berndt, Hall, Hall and Hausman for likelihoods."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from optimagic_lite.algorithms.base import (
    CONVERGENCE_FTOL_REL,
    CONVERGENCE_GTOL_ABS,
    Algorithm,
    NonNegativeFloat,
    Outcome,
    algorithm,
)
from optimagic_lite.algorithms.regression import held_by_bounds, regression_step

if TYPE_CHECKING:
    from optimagic_lite.evaluator import Evaluator

Array = NDArray[np.float64]

# share of the decrease to first order that a step must bring (Armijo)
_SUFFICIENT = 1e-4
# where a step brings more than this share, the value is nearly straight, and steps can be longer
_STRAIGHT = 0.75
# a step is shortened at most so often, to between these shares of itself each time
_MAX_TRIALS = 60
_SHORTER, _LONGER = 0.1, 0.5
# steps in a row that promise much and bring next to nothing
_MAX_SMALL = 50
# a change of the value, relative to it, that rounding alone may cause
_ROUNDING = 20 * float(np.finfo(np.float64).eps)

_STALLED = (
    "No step along the search direction improves the value, and the largest entry of the gradient "
    "is {:.3g}. If that is small, rounding errors prevent further progress, and the point is good: "
    "loosen convergence_gtol_abs. Else look at the derivatives with check_derivatives=True."
)


@algorithm(
    "bhhh",
    library="optimagic_lite",
    solver_type="likelihood",
    needs_jac=True,
    supports_bounds=True,
    supports_infinite_bounds=True,
)
class BHHH(Algorithm):
    """Berndt, Hall, Hall and Hausman (1974, Annals of Economic and Social Measurement 3, 653-665).

    A Newton method for log likelihoods that replaces the Hessian by the sum of outer products of
    the scores. It needs no second derivatives, and converges fast where the model fits. Bounds are
    kept by projection (Bertsekas 1982, doi:10.1137/0320018); the line search only takes steps that
    improve the value.

    Args:
        convergence_gtol_abs: Stop when the largest entry of the gradient is below, those that
            point out of bounds that hold not counted.
        convergence_ftol_rel: Stop when the value changes, and was expected to change, by less than
            this times ``max(|f|, 1)``.
        convergence_ftol_abs: The same, absolute.
    """

    convergence_gtol_abs: NonNegativeFloat = CONVERGENCE_GTOL_ABS
    convergence_ftol_rel: NonNegativeFloat = CONVERGENCE_FTOL_REL
    convergence_ftol_abs: NonNegativeFloat = 0.0

    def solve(self, evaluator: Evaluator, x0: Array) -> Outcome:
        """Minimize the sum of the contributions."""
        search = _Search(evaluator, x0)
        n_small = 0
        while True:
            if search.steepness <= self.convergence_gtol_abs:
                message = "The largest entry of the gradient is below convergence_gtol_abs."
                return search.outcome(True, message, 1)
            f, promised = search.f, search.step()
            limit = max(
                self.convergence_ftol_rel * max(abs(f), abs(search.f), 1.0),
                self.convergence_ftol_abs,
            )
            n_small = n_small + 1 if abs(f - search.f) <= limit else 0
            if promised is None or n_small > _MAX_SMALL:
                return search.outcome(False, _STALLED.format(search.steepness), 5)
            if limit > 0 and n_small and promised <= limit:
                message = "The value changes by less than convergence_ftol_rel or _abs."
                return search.outcome(True, message, 2)
            evaluator.iteration()


class _Search:
    """A point of the method, and the step to the next one.

    Attributes:
        f: Value there.
        steepness: Largest entry of the projected gradient there.
    """

    def __init__(self, evaluator: Evaluator, x: Array) -> None:
        self._evaluator = evaluator
        self._space = evaluator.space
        self._length = 1.0
        self._n_steps = 0
        self._move_to(x, evaluator.fun(x), evaluator.jac(x))

    def _move_to(self, x: Array, contributions: Array, scores: Array) -> None:
        self._x, self._scores = x, scores
        self.f, self._gradient = float(contributions.sum()), scores.sum(axis=0)
        self.steepness = self._steepness(x, self._gradient)

    def _steepness(self, x: Array, gradient: Array) -> float:
        return float(np.abs(self._space.projected(x, -gradient)).max())

    def step(self) -> float | None:
        """Move to a better point.

        Returns:
            How much the full step promised to gain, to first order; None if no better point was
            found.
        """
        for direction in (self._newton(), self._steepest()):
            slope = self._promise(direction)
            if slope > 0 and self._search_along(direction):
                self._n_steps += 1
                return slope
        return None

    def _promise(self, direction: Array) -> float:
        return -float(self._gradient @ self._space.projected(self._x, direction))

    def _newton(self) -> Array:
        """Return the step of the method for entries that bounds do not hold.

        With scores S it is ``-(S' S)^-1 S' 1``: minus the coefficients of a regression of ones on
        the scores.
        """
        held = held_by_bounds(self._evaluator, self._x, self._gradient)
        return regression_step(self._scores, np.ones(len(self._scores)), held)

    def _steepest(self) -> Array:
        """Return a step against the gradient that is no longer than the parameters are large."""
        size = max(1.0, float(np.linalg.norm(self._x)))
        return np.asarray(-self._gradient * (size / float(np.linalg.norm(self._gradient))))

    def _search_along(self, direction: Array) -> bool:
        """Try shorter and shorter steps until one is better; move there."""
        length = self._length
        for i in range(_MAX_TRIALS):
            x = np.clip(self._x + length * direction, self._space.lower, self._space.upper)
            if np.array_equal(x, self._x):
                return False
            contributions = self._evaluator.fun(x)
            f, slope = float(contributions.sum()), float(self._gradient @ (x - self._x))
            if self._is_better(x, f, slope):
                is_too_short = i == 0 and f - self.f < _STRAIGHT * slope
                self._length = 2 * length if is_too_short or 2 * length <= 1 else max(length, 1.0)
                self._move_to(x, contributions, self._evaluator.jac(x))
                return True
            # the minimum of a parabola through value and slope here and the value there
            bend = f - self.f - slope
            best = -slope / (2 * bend) if math.isfinite(bend) and bend > 0 else _SHORTER
            length *= min(max(best, _SHORTER), _LONGER)
        return False

    def _is_better(self, x: Array, f: float, slope: float) -> bool:
        if f <= self.f + _SUFFICIENT * slope and f < self.f:
            return True
        # where rounding hides the decrease of the value, the gradient shows it
        if abs(f - self.f) > _ROUNDING * max(abs(f), abs(self.f)):
            return False
        return self._steepness(x, self._evaluator.jac(x).sum(axis=0)) < self.steepness / 2

    def outcome(self, success: bool, message: str, status: int) -> Outcome:
        """Return what is reported of this point."""
        return Outcome(
            success,
            message,
            status,
            fun=self.f,
            n_iterations=self._n_steps,
            gradient=self._gradient,
            x=self._x,
        )
