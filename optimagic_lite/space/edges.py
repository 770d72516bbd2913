"""Whether a solution on an edge of a transformation is one, asked from inside of JAX.

Where a transformation is not regular, a solver can stop at a point that is no minimum, see
``transforms``. The criterion's gradient with respect to params tells, and which points lie lower.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Hashable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from optimagic_lite.space.plan import PlacedBlock
from optimagic_lite.space.space import Space
from optimagic_lite.space.sums import Pivot, Simplex

Array = NDArray[np.float64]

# points that are tried at most
N_POINTS = 64
# least gain, relative to the value, for which a solve begins anew
GAIN = 1e-7

# maps without an edge on which a solver could be caught
_REGULAR = (Pivot, Simplex)


class Edges:
    """Blocks of a space in which a solver could be caught.

    Args:
        space: Without its scale.
    """

    def __init__(self, space: Space) -> None:
        self._space = space
        placed = () if space.plan is None else space.plan.blocks
        self._blocks = [b for b in placed if not isinstance(b.transform, _REGULAR)]

    def __bool__(self) -> bool:
        return bool(self._blocks)

    @property
    def key(self) -> Hashable:
        """Equal for spaces whose points are the same."""
        return tuple(map(_digest, self._blocks)), self._space.n_x

    def points(self, x: Any, flat: Any, gradient: Any, f: Any, is_asked: Any) -> Array:
        """Return points some of which lie lower, if a solution is none; NaN for the rest.

        NumPy alone, so that JAX may call it. All arguments may have further axes in front.

        Args:
            x: Solutions, not scaled, shape (n_x,).
            flat: What they stand for, shape (n_params,).
            gradient: Of the criterion with respect to that, shape (n_params,).
            f: The criterion, shape ().
            is_asked: Whether anything is wanted, shape ().

        Returns:
            Shape (N_POINTS, n_x), and the axes in front.
        """
        vectors, numbers = (
            [np.asarray(v) for v in part] for part in ((x, flat, gradient), (f, is_asked))
        )
        shapes = *(v.shape[:-1] for v in vectors), *(v.shape for v in numbers)
        front = np.broadcast_shapes(*shapes)
        vectors = [np.broadcast_to(v, (*front, v.shape[-1])) for v in vectors]
        numbers = [np.broadcast_to(v, front) for v in numbers]
        out = np.full((*front, N_POINTS, self._space.n_x), np.nan)
        for index in np.ndindex(front):
            value, wanted = (v[index] for v in numbers)
            one = [v[index] for v in vectors]
            found = self._of_one(one[0], one[1], one[2], float(value)) if wanted else []
            for place, point in enumerate(found[:N_POINTS]):
                out[(*index, place)] = point
        return out

    def _of_one(self, x: Array, flat: Array, gradient: Array, f: float) -> list[Array]:
        found: list[Array] = []
        if not np.isfinite(gradient).all():
            return found
        least = GAIN * max(1.0, abs(f))
        for block in self._blocks:
            inputs = block.transform.lower.copy()
            inputs[block.free] = x[block.start : block.stop]
            if not block.transform.may_deceive(inputs, has_gradient=True):
                continue
            values = flat[self._space.firsts[block.members]]
            own = self._space.gradient_of_block(block, gradient)
            # a failure says nothing against the solution
            with contextlib.suppress(ValueError, ArithmeticError, np.linalg.LinAlgError):
                slope = block.transform.slope(values, own)
                if slope is None or slope > least:
                    for near in block.transform.escapes(inputs, values, own):
                        point = x.copy()
                        point[block.start : block.stop] = near[block.free]
                        found.append(point)
        return found


def _digest(value: Any) -> Hashable:
    """Return what tells a block from others."""
    if isinstance(value, PlacedBlock) or dataclasses.is_dataclass(value):
        names = [field.name for field in dataclasses.fields(value)]
        return type(value).__name__, tuple(_digest(getattr(value, name)) for name in names)
    if isinstance(value, np.ndarray):
        return value.dtype.str, value.shape, value.tobytes()
    return value  # type: ignore[no-any-return]
