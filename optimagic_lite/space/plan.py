"""How the flat vector is put together from what an algorithm sees, without its scale."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from optimagic_lite.space.transforms import Transform, without_rounding

Array = NDArray[np.float64]
Positions = NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class PlacedBlock:
    """A bijection and where its free inputs stand in x.

    Args:
        transform: The bijection.
        members: Numbers of the representatives that it gives.
        source: How to call its constraints in messages.
        start: First position of its free inputs in x.
        free: Which of its inputs are free.
        lower: Lower bounds of the representatives, shape (n_out,).
        upper: Upper bounds of the representatives, shape (n_out,).
    """

    transform: Transform
    members: Positions
    source: str
    start: int
    free: NDArray[np.bool_]
    lower: Array
    upper: Array

    @cached_property
    def stop(self) -> int:
        """One after the last position of its free inputs in x."""
        return self.start + int(self.free.sum())

    def outputs(self, x: jax.Array) -> jax.Array:
        """Return the representatives; bounds hold exactly, despite the rounding of the map."""
        values = self.transform.forward(self.inputs(x))
        if not (np.isfinite(self.lower).any() or np.isfinite(self.upper).any()):
            return values
        return without_rounding(values, self.lower, self.upper)

    def inputs(self, x: jax.Array) -> jax.Array:
        """Return all inputs of the transform, those that are pinned too."""
        free = x[self.start : self.stop]
        if self.free.all():
            return free
        pinned = jnp.asarray(self.transform.lower[~self.free])
        order = np.argsort(np.concatenate([np.flatnonzero(self.free), np.flatnonzero(~self.free)]))
        return jnp.concatenate([free, pinned])[order]


@dataclass(frozen=True, eq=False)
class Plan:
    """How the flat vector is put together from unscaled x.

    Args:
        n_plain: The first entries of x are representatives themselves.
        constants: Values of fixed representatives.
        blocks: Bijections.
        gather: For each parameter its position in ``[plain | constants | blocks' outputs]``.
    """

    n_plain: int
    constants: Array
    blocks: tuple[PlacedBlock, ...]
    gather: Positions

    @property
    def n_places(self) -> int:
        """Number of positions to which ``gather`` refers."""
        return self.n_plain + len(self.constants) + sum(len(b.members) for b in self.blocks)

    def sums(self, gradient: Array) -> Array:
        """Add up flat gradients over the parameters that share a place.

        Args:
            gradient: Shape (n_params,), or (m, n_params).

        Returns:
            Shape (n_places,), or (m, n_places).
        """
        if gradient.ndim == 2:
            out = np.zeros((self.n_places, len(gradient)))
            np.add.at(out, self.gather, gradient.T)
            return out.T
        sums = np.bincount(self.gather, gradient, minlength=self.n_places)
        return np.asarray(sums, dtype=np.float64)

    def flat(self, x: jax.Array) -> jax.Array:
        """Return the flat vector of unscaled x; traceable."""
        outputs = [block.outputs(x) for block in self.blocks]
        parts = [x[: self.n_plain], jnp.asarray(self.constants), *outputs]
        return jnp.concatenate(parts).at[self.gather].get(mode="promise_in_bounds")
