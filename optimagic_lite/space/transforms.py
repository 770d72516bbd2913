"""Bijections between vectors with box bounds and blocks of parameters that fulfil a constraint.

A transform has inputs with bounds ``lower`` and ``upper``, and gives a block. ``forward`` is pure
JAX, ``inverse`` maps a feasible block back with NumPy. Every point of the box gives a feasible
block, exactly within rounding, and every feasible block, corners included, comes from a point of
the box. An input whose bounds coincide is no freedom; the space drops it.

For algorithms that keep no bounds, ``opened`` gives the same in a smooth form without bounds. No
derivative is written by hand.

No smooth map of a box onto a polytope or a cone of matrices is regular on all of its edges. Where
it is not, all derivatives with respect to some inputs vanish, and an algorithm could take a point
for a minimum that is none. ``escapes`` gives points that tell; the run tries them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from optimagic_lite.space.polytope import Polytope

Array = NDArray[np.float64]
Flags = NDArray[np.bool_]

# How far inside an open form a start on an edge is put: relative to the distance of two bounds,
# absolute from a single one. On the edge itself all derivatives vanish.
MARGIN_BETWEEN = 1e-3
_MARGIN_ABOVE = 1e-2


class Transform(ABC):
    """A map from a box onto the feasible blocks of a constraint."""

    @property
    @abstractmethod
    def lower(self) -> Array:
        """Lower bounds of the inputs, shape (n_in,)."""

    @property
    @abstractmethod
    def upper(self) -> Array:
        """Upper bounds of the inputs, shape (n_in,)."""

    @abstractmethod
    def forward(self, t: jax.Array) -> jax.Array:
        """Return the block, shape (n_out,), of inputs inside their bounds."""

    @abstractmethod
    def inverse(self, block: Array, *, margin: float = 1.0) -> Array:
        """Return inputs that give a feasible block; inside the bounds despite rounding.

        Args:
            block: A feasible block, shape (n_out,).
            margin: Open forms put a block on an edge a little inside; this multiplies how far.
        """

    @property
    def n_free(self) -> int:
        """Number of degrees of freedom."""
        return int((self.lower < self.upper).sum())

    def opened(self) -> Transform:
        """Return a smooth form without bounds."""
        return Opened(self)

    def polytope(self) -> Polytope | None:
        """Return the feasible blocks, if they are a polytope."""
        return None

    def moves(self, block: Array) -> list[Array]:
        """Return feasible directions at a block that together see in which way to go.

        Args:
            block: A feasible block, shape (n_out,).
        """
        polytope = self.polytope()
        return [] if polytope is None else polytope.moves(block)

    def may_deceive(self, t: Array, *, has_gradient: bool) -> bool:
        """Tell whether derivatives with respect to t might all vanish at what is no minimum.

        Args:
            t: Shape (n_in,).
            has_gradient: Whether a gradient with respect to the block can be had, so that looking
                closer costs no more than that, or there is another reason to look closer.
        """
        del t, has_gradient
        return False

    def escapes(self, t: Array, block: Array, gradient: Array | None) -> list[Array]:
        """Return inputs that lie lower than t if the block of t is no minimum.

        Args:
            t: Shape (n_in,), where the map ``may_deceive``.
            block: What t gives, shape (n_out,).
            gradient: With respect to the block, shape (n_out,), or None if it is not known.
        """
        del t
        polytope = self.polytope()
        if polytope is None or gradient is None:
            return []
        return [self.inverse(p) for p in polytope.lower_points(block, gradient)]

    def slope(self, block: Array, gradient: Array) -> float | None:
        """Return how much a linear function falls at most within the feasible blocks close by.

        Zero at a minimum; None where it is not known.

        Args:
            block: Shape (n_out,).
            gradient: With respect to the block, shape (n_out,).
        """
        polytope = self.polytope()
        if polytope is None:
            return None
        direction = polytope.descent(block, gradient)
        return 0.0 if direction is None else float(-gradient @ direction)

    def sample(self, units: Array, start: Array) -> Array:
        """Turn points of the unit cube into feasible inputs, shape (n, n_in).

        Args:
            units: Random or evenly spread points, shape (n, n_in), each entry in [0, 1].
            start: Inputs around which to stay, within about their size, where there are no bounds.
        """
        return sample_box(units, start, self.lower, self.upper)


def sample_box(units: Array, start: Array, lower: Array, upper: Array) -> Array:
    """Turn points of the unit cube into points of a box by quantile functions.

    Uniform between two bounds, exponential from one, normal around the start else.

    Args:
        units: Shape (n, k), each entry in [0, 1].
        start: Shape (k,); the larger of 1 and its size is the spread where there are no bounds.
        lower: Shape (k,).
        upper: Shape (k,).
    """
    from scipy.special import ndtri

    units = open_units(units)
    spread = np.maximum(np.abs(start), 1.0)
    with np.errstate(invalid="ignore"):
        uniform = lower * (1 - units) + upper * units
        above = lower - spread * np.log1p(-units)
        below = upper + spread * np.log(units)
    free = start + spread * ndtri(units)
    has_low, has_high = np.isfinite(lower), np.isfinite(upper)
    one_sided = np.where(has_low, above, np.where(has_high, below, free))
    return np.clip(np.where(has_low & has_high, uniform, one_sided), lower, upper)


# ---- without bounds --------------------------------------------------------------------------


@dataclass(frozen=True)
class Box(Transform):
    """Entries with bounds, as a smooth function of unbounded inputs.

    Entry by entry: logistic function between two bounds, softplus from one, identity without.

    Args:
        entry_lower: Lower bounds, shape (n,), -inf where there are none.
        entry_upper: Upper bounds, shape (n,), inf where there are none.
    """

    entry_lower: Array
    entry_upper: Array

    @cached_property
    def lower(self) -> Array:
        """No bounds, but for entries whose bounds coincide."""
        return np.where(self.entry_lower == self.entry_upper, 0.0, -np.inf)

    @cached_property
    def upper(self) -> Array:
        """No bounds, but for entries whose bounds coincide."""
        return np.where(self.entry_lower == self.entry_upper, 0.0, np.inf)

    @cached_property
    def _is_finite(self) -> tuple[Flags, Flags]:
        return np.isfinite(self.entry_lower), np.isfinite(self.entry_upper)

    def forward(self, t: jax.Array) -> jax.Array:
        """Squeeze into the bounds."""
        has_low, has_high = self._is_finite
        low, high = (
            jnp.asarray(zero_where_infinite(v)) for v in (self.entry_lower, self.entry_upper)
        )
        both = low + (high - low) * jax.nn.sigmoid(t)
        positive = jax.nn.softplus(jnp.where(has_low, t, -t))
        one_sided = jnp.where(has_low, low + positive, high - positive)
        out = jnp.where(has_low & has_high, both, jnp.where(has_low | has_high, one_sided, t))
        return without_rounding(out, self.entry_lower, self.entry_upper)

    def inverse(self, block: Array, *, margin: float = 1.0) -> Array:
        """Undo the squeezing, also of rows; entries on the edge are put a little inside first."""
        low, high = self.entry_lower, self.entry_upper
        has_low, has_high = self._is_finite
        with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
            between = margin * MARGIN_BETWEEN
            share = np.clip((block - low) / (high - low), between, 1 - between)
            both = np.log(share) - np.log1p(-share)
            distance = np.where(has_low, block - low, high - block)
            distance = np.maximum(distance, margin * _MARGIN_ABOVE)
            # inverse of softplus, without overflow for large distances
            one_sided = distance + np.log(-np.expm1(-distance))
            one_sided = np.where(has_low, one_sided, -one_sided)
        out = np.where(has_low & has_high, both, np.where(has_low | has_high, one_sided, block))
        return np.where(low == high, 0.0, out)

    def polytope(self) -> Polytope:
        """Return the box."""
        nothing = np.zeros(0)
        rows = np.zeros((0, len(self.entry_lower)))
        low, high = self.entry_lower, self.entry_upper
        return Polytope(rows, nothing, nothing, low, high, lambda p: np.clip(p, low, high))

    def may_deceive(self, t: Array, *, has_gradient: bool) -> bool:
        """Tell whether an entry is close to a bound."""
        del has_gradient
        has_low, has_high = self._is_finite
        far = -np.log(_MARGIN_ABOVE)
        return bool(((has_low & (t < -far)) | (has_high & (t > far))).any())

    def sample(self, units: Array, start: Array) -> Array:
        """Spread over the box."""
        block = np.asarray(self.forward(jnp.asarray(start)))
        return self.inverse(sample_box(units, block, self.entry_lower, self.entry_upper))


@dataclass(frozen=True)
class Opened(Transform):
    """A transform whose inputs have been opened by ``Box``."""

    inner: Transform

    @cached_property
    def _box(self) -> Box:
        return Box(self.inner.lower, self.inner.upper)

    @property
    def lower(self) -> Array:
        """No bounds, but for inputs whose bounds coincide."""
        return self._box.lower

    @property
    def upper(self) -> Array:
        """No bounds, but for inputs whose bounds coincide."""
        return self._box.upper

    @property
    def n_free(self) -> int:
        """That of the transform."""
        return self.inner.n_free

    def forward(self, t: jax.Array) -> jax.Array:
        """Squeeze, then transform."""
        return self.inner.forward(self._box.forward(t))

    def inverse(self, block: Array, *, margin: float = 1.0) -> Array:
        """Undo both."""
        return self._box.inverse(self.inner.inverse(block), margin=margin)

    def opened(self) -> Transform:
        """It is open."""
        return self

    def polytope(self) -> Polytope | None:
        """Return that of the transform."""
        return self.inner.polytope()

    def moves(self, block: Array) -> list[Array]:
        """Return those of the transform."""
        return self.inner.moves(block)

    def may_deceive(self, t: Array, *, has_gradient: bool) -> bool:
        """Tell whether the transform does, or an input is close to a bound."""
        inner = np.asarray(self._box.forward(jnp.asarray(t)))
        return self._box.may_deceive(t, has_gradient=has_gradient) or self.inner.may_deceive(
            inner, has_gradient=has_gradient
        )

    def escapes(self, t: Array, block: Array, gradient: Array | None) -> list[Array]:
        """Return those of the transform, opened; and inputs brought back from the edge."""
        if self.polytope() is not None:
            return super().escapes(t, block, gradient)
        inner = np.asarray(self._box.forward(jnp.asarray(t)))
        back = self._box.inverse(inner)
        found = [self._box.inverse(near) for near in self.inner.escapes(inner, block, gradient)]
        moved = np.flatnonzero(back != t)
        return [*found, *(_replaced(t, i, back[i]) for i in moved.tolist())]

    def sample(self, units: Array, start: Array) -> Array:
        """Spread like the transform."""
        inner_start = np.asarray(self._box.forward(jnp.asarray(start)))
        return self._box.inverse(self.inner.sample(units, inner_start))


# ---- helpers ----------------------------------------------------------------------------------


def open_units(units: Array) -> Array:
    """Move zeros and ones a little, because quantiles there are infinite."""
    return np.clip(units, 2.0**-53, 1 - 2.0**-53)


def zero_where_infinite(values: Array) -> Array:
    """Return values with zeros for infinities."""
    return np.where(np.isfinite(values), values, 0.0)


def without_rounding(values: jax.Array, lower: Array, upper: Array) -> jax.Array:
    """Put values back that left their bounds by rounding; derivatives stay as they are."""
    clipped = jnp.clip(values, jnp.asarray(lower), jnp.asarray(upper))
    return values + jax.lax.stop_gradient(clipped - values)


def has_edge(t: Array, lower: Array, upper: Array) -> bool:
    """Tell whether an input that is not pinned is at a bound."""
    is_free = lower < upper
    return bool((is_free & ((t <= lower + 1e-9) | (t >= upper - 1e-9))).any())


def place(
    values: Array, a: Array, b: Array, has_a: Flags, has_b: Flags, lower: Array, upper: Array
) -> Array:
    """Return t from where values lie between a and b."""
    with np.errstate(invalid="ignore", divide="ignore"):
        share = np.where(b > a, (values - a) / (b - a), 0.0)
        one_sided = np.where(has_a, values - a, np.where(has_b, b - values, values))
    t = np.where(has_a & has_b, share, one_sided)
    return np.clip(t, lower, upper)


def _replaced(values: Array, i: int, value: float) -> Array:
    out = values.copy()
    out[i] = value
    return out
