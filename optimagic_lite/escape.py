"""Whether a solution is one, where the map from x to params could deceive a solver.

Where a transformation is not regular, derivatives with respect to x may vanish at a point that is
no minimum (see ``space.transforms``). So the criterion's derivatives with respect to params tell:
those of the user or of JAX, or else differences along feasible directions. Where they say that the
criterion still falls, points further down are tried, and the run goes on from the best.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from optimagic_lite.evaluator import Evaluator
    from optimagic_lite.space.plan import PlacedBlock

Array = NDArray[np.float64]

# step of a difference quotient along a feasible direction
_STEP = 1e-6
# least gain, relative to the value, for which a run begins anew
_GAIN = 1e-7
# fall within reach, and largest entry of a gradient, that speak against a minimum; relative to the
# value
STEEP = 1e-3
# fall within reach, and largest entry of a gradient, that count as none; relative to the value
_FLAT = 1e-4


@dataclass(frozen=True, eq=False)
class _Suspect:
    """A block whose map might deceive at the best point.

    Args:
        block: The block.
        inputs: All inputs of its transform there.
        values: The parameters that it gives there, one for each group of equal ones.
        gradient: With respect to its parameters, or None if it is not known.
    """

    block: PlacedBlock
    inputs: Array
    values: Array
    gradient: Array | None

    @cached_property
    def slope(self) -> float | None:
        """How much the criterion falls, to first order, close by; None if it is not known."""
        if self.gradient is None:
            return None
        return self.block.transform.slope(self.values, self.gradient)


def lower_point(evaluator: Evaluator) -> Array | None:
    """Evaluate points that might lie lower than the best one, and return the best if one does."""
    space, x = evaluator.space, evaluator.best_x
    f, violation = evaluator.best_f, evaluator.best_violation
    least = _GAIN * max(1.0, abs(f))
    points = [
        space.replace_inputs(x, suspect.block, inputs)
        for suspect in _suspects(evaluator)
        if suspect.slope is None or suspect.slope > least
        for inputs in suspect.block.transform.escapes(
            suspect.inputs, suspect.values, suspect.gradient
        )
    ]
    while points:
        # no more than limits and callbacks allow
        n_now = max(1, evaluator.remaining())
        evaluator.batch_fun(np.array(points[:n_now]))
        points = points[n_now:]
    gain = f - evaluator.best_f
    is_lower = evaluator.best_violation <= violation and gain > least
    return np.array(evaluator.best_x) if is_lower else None


def slope(evaluator: Evaluator) -> float:
    """Return how much the criterion still falls, to first order, within feasible params close by.

    Zero at a minimum; zero too where that is not known.
    """
    return max((suspect.slope or 0.0 for suspect in _suspects(evaluator)), default=0.0)


def is_minimum(evaluator: Evaluator) -> bool:
    """Tell whether first-order conditions hold at the best point although the solver doubts it.

    At a kink of a transformation line searches fail, minimum or not. So this is about runs with
    such blocks only: within them the criterion must not fall, and all else must be flat.
    """
    space, gradient = evaluator.space, evaluator.best_gradient
    suspects = _suspects(evaluator)
    if gradient is None or not suspects or any(s.slope is None for s in suspects):
        return False
    is_covered = np.zeros(space.n_x, dtype=bool)
    for suspect in suspects:
        is_covered[suspect.block.start : suspect.block.stop] = True
    step = _step(evaluator, gradient)
    size = max(1.0, abs(evaluator.best_f))
    falls = slope(evaluator)
    rest = float(np.abs(step[~is_covered]).max(initial=0.0))
    return falls <= _FLAT * size and rest <= _FLAT * size


def is_flat(evaluator: Evaluator, gradient: Array) -> bool:
    """Tell whether a gradient in x at the best point is small, but for what bounds hold up."""
    size = max(1.0, abs(evaluator.best_f))
    return bool(np.abs(_step(evaluator, gradient)).max(initial=0.0) <= STEEP * size)


def is_steep(evaluator: Evaluator) -> bool:
    """Tell whether x is transformed and its gradient at the best point is known and not small."""
    gradient = evaluator.best_gradient
    if gradient is None or not evaluator.space.is_curved:
        return False
    return not is_flat(evaluator, gradient)


def _step(evaluator: Evaluator, gradient: Array) -> Array:
    """Return a step against a gradient in x that stays inside the bounds."""
    return evaluator.space.projected(evaluator.best_x, -gradient)


def _suspects(evaluator: Evaluator) -> list[_Suspect]:
    """Return blocks whose map might deceive at the best point; worked out once for each point."""
    if evaluator.suspects is None or evaluator.suspects[0] is not evaluator.best_x:
        x = evaluator.best_x
        evaluator.suspects = x, list(_find_suspects(evaluator))
    return evaluator.suspects[1]


def _find_suspects(evaluator: Evaluator) -> Iterator[_Suspect]:
    space, x = evaluator.space, evaluator.best_x
    compute = evaluator.objective.flat_gradient
    # algorithms without derivatives may stop anywhere on an edge
    is_blind = not evaluator.uses_gradient
    look_closer = compute is not None or is_blind or is_steep(evaluator)
    blocks = list(space.deceiving(x, has_gradient=look_closer))
    if not blocks:
        return
    flat = None
    if compute is not None:
        with contextlib.suppress(Exception):  # nobody asked for it, so it may fail
            found = compute(x)
            flat = found if np.isfinite(found).all() else None
    for block, inputs in blocks:
        values = space.values_of_block(x, block)
        if flat is not None:
            gradient: Array | None = space.gradient_of_block(block, flat)
        else:
            gradient = _differences(evaluator, block, values)
        yield _Suspect(block, inputs, values, gradient)


def _differences(evaluator: Evaluator, block: PlacedBlock, values: Array) -> Array | None:
    """Return a gradient with respect to a block from differences along feasible directions."""
    space, x = evaluator.space, evaluator.best_x
    directions = block.transform.moves(values)
    if not directions:
        return None
    near = [block.transform.inverse(values + _STEP * d, margin=1e-9) for d in directions]
    here = block.transform.inverse(values, margin=1e-9)
    points = np.array([space.replace_inputs(x, block, t) for t in [here, *near]])
    found = evaluator.batch_fun(points, "derivative")
    slopes = (found[1:] - found[0]) / _STEP
    # what no feasible direction sees, but for rounding, stays zero
    gradient, *_ = np.linalg.lstsq(np.array(directions), slopes, rcond=1e-6)
    return np.asarray(gradient)
