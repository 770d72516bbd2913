"""The bijection for parameters in increasing order."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from optimagic_lite.space.polytope import Polytope
from optimagic_lite.space.transforms import (
    Transform,
    has_edge,
    place,
    sample_box,
    without_rounding,
    zero_where_infinite,
)

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Increasing(Transform):
    """Weakly increasing entries with bounds on both sides.

    Bounds are made increasing first. Then entry i lies between ``a = max(lower_i, entry_{i-1})``
    and ``b = upper_i``: ``a + (b - a) t`` with t in [0, 1] where b is finite, ``a + t`` with
    t >= 0 where it is not. Without bounds these are cumulated increments.

    Args:
        entry_lower: Lower bounds, shape (n,).
        entry_upper: Upper bounds, shape (n,).
    """

    entry_lower: Array
    entry_upper: Array

    @cached_property
    def _low(self) -> Array:
        return np.maximum.accumulate(self.entry_lower)

    @cached_property
    def _high(self) -> Array:
        return np.minimum.accumulate(self.entry_upper[::-1])[::-1]

    @cached_property
    def lower(self) -> Array:
        """0, or -inf for a first entry without bounds."""
        first_is_free = not np.isfinite(self._low[0]) and not np.isfinite(self._high[0])
        return np.concatenate([[-np.inf if first_is_free else 0.0], np.zeros(len(self._low) - 1)])

    @cached_property
    def upper(self) -> Array:
        """1 where both ends are finite; 0 where they coincide."""
        has_a = np.concatenate([[np.isfinite(self._low[0])], np.ones(len(self._low) - 1, bool)])
        out = np.where(has_a & np.isfinite(self._high), 1.0, np.inf)
        return np.where(self._low == self._high, 0.0, out)

    @cached_property
    def _only_sums(self) -> bool:
        """Whether no bound can bind after the first entry."""
        return not np.isfinite(self._high).any() and bool((self._low[1:] <= self._low[0]).all())

    def forward(self, t: jax.Array) -> jax.Array:
        """Add up."""
        low, high = self._low, self._high
        has_low, has_high = np.isfinite(low), np.isfinite(high)
        finite = [zero_where_infinite(v) for v in (low, high)]
        if self._only_sums:
            return jnp.asarray(finite[0][:1]) + jnp.cumsum(t)

        def step(last: jax.Array, entry: tuple[jax.Array, ...]) -> tuple[jax.Array, jax.Array]:
            t, low, high, has_low, has_high = entry
            a = jnp.where(has_low, jnp.maximum(low, last), last)
            value = jnp.where(has_high, a + (high - a) * t, a + t)
            return value, value

        first_low, first_high = (jnp.asarray(v[:1]) for v in finite)
        if has_low[0] and has_high[0]:
            first = first_low * (1 - t[:1]) + first_high * t[:1]
        elif has_high[0]:
            first = first_high - t[:1]
        else:
            first = first_low + t[:1]
        rest = tuple(jnp.asarray(v[1:]) for v in (*finite, has_low, has_high))
        _, values = jax.lax.scan(step, first[0], (t[1:], *rest))
        return without_rounding(jnp.concatenate([first, values]), low, high)

    def inverse(self, block: Array, *, margin: float = 1.0) -> Array:
        """Return the increments, also of rows."""
        del margin
        low, high = self._low, self._high
        before = np.concatenate([np.full_like(block[..., :1], -np.inf), block[..., :-1]], axis=-1)
        a = np.maximum(low, before)
        return place(block, a, high, np.isfinite(a), np.isfinite(high), self.lower, self.upper)

    def sample(self, units: Array, start: Array) -> Array:
        """Draw each entry by itself and sort; as bounds increase too, they are kept.

        Uniform where all entries have the same two bounds.
        """
        low, high = self._low, self._high
        is_bounded = bool((np.isfinite(low) & np.isfinite(high)).all())
        block = low if is_bounded else np.asarray(self.forward(jnp.asarray(start)))
        return self.inverse(np.sort(sample_box(units, block, low, high), axis=1))

    def polytope(self) -> Polytope:
        """Return bounds and order."""
        from scipy.sparse import diags_array

        n = len(self._low)
        rows = diags_array([-np.ones(n - 1), np.ones(n - 1)], offsets=[0, 1], shape=(n - 1, n))
        no_limit = np.full(n - 1, np.inf)
        return Polytope(rows, np.zeros(n - 1), no_limit, self._low, self._high, self._project)

    def _project(self, block: Array) -> Array:
        """Return the closest feasible block: isotonic regression, clipped."""
        from scipy.optimize import isotonic_regression

        return np.asarray(np.clip(isotonic_regression(block).x, self._low, self._high))

    def may_deceive(self, t: Array, *, has_gradient: bool) -> bool:
        """Tell whether there is a gradient, or else bounds make kinks and an input is at one.

        Long sums of increments are so badly conditioned that solvers stop early.
        """
        return has_gradient or (not self._only_sums and has_edge(t, self.lower, self.upper))
