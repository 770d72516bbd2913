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
from collections.abc import Callable
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
_MARGIN_BETWEEN = 1e-3
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

    def may_deceive(self, t: Array, *, has_gradient: bool) -> bool:
        """Tell whether derivatives with respect to t might all vanish at what is no minimum.

        Args:
            t: Shape (n_in,).
            has_gradient: Whether a gradient with respect to the block can be had, so that looking
                closer costs no more than that, or there is another reason to look closer.
        """
        del t, has_gradient
        return False

    def escapes(self, t: Array, gradient: Array | None) -> list[Array]:
        """Return inputs that lie lower than t if the block of t is no minimum.

        Args:
            t: Shape (n_in,), where the map ``may_deceive``.
            gradient: With respect to the block, shape (n_out,), or None if it is not known.
        """
        polytope = self.polytope()
        if polytope is None or gradient is None:
            return []
        block = np.asarray(self.forward(jnp.asarray(t)))
        return [self.inverse(p) for p in polytope.lower_points(block, gradient)]

    def slope(self, t: Array, gradient: Array) -> float:
        """Return how much a linear function falls at most within the feasible blocks close by.

        Zero at a minimum; zero too where that is not known.

        Args:
            t: Shape (n_in,).
            gradient: With respect to the block, shape (n_out,).
        """
        polytope = self.polytope()
        if polytope is None:
            return 0.0
        direction = polytope.descent(np.asarray(self.forward(jnp.asarray(t))), gradient)
        return 0.0 if direction is None else float(-gradient @ direction)

    def sample(self, rng: np.random.Generator, n: int, start: Array) -> Array:
        """Draw feasible inputs, shape (n, n_in).

        Args:
            rng: Source of randomness.
            n: Number of draws.
            start: Inputs whose size says how far to draw where there are no bounds.
        """
        return sample_box(rng, n, start, self.lower, self.upper)


def sample_box(rng: np.random.Generator, n: int, start: Array, lower: Array, upper: Array) -> Array:
    """Draw uniformly between two bounds, exponentially from one, normally around start else."""
    spread = np.maximum(np.abs(start), 1.0)
    shape = (n, len(start))
    with np.errstate(invalid="ignore"):
        uniform = lower + (upper - lower) * rng.random(shape)
        above = lower + spread * rng.exponential(size=shape)
        below = upper - spread * rng.exponential(size=shape)
    free = start + spread * rng.normal(size=shape)
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
            jnp.asarray(_zero_where_infinite(v)) for v in (self.entry_lower, self.entry_upper)
        )
        both = low + (high - low) * jax.nn.sigmoid(t)
        positive = jax.nn.softplus(jnp.where(has_low, t, -t))
        one_sided = jnp.where(has_low, low + positive, high - positive)
        out = jnp.where(has_low & has_high, both, jnp.where(has_low | has_high, one_sided, t))
        return without_rounding(out, self.entry_lower, self.entry_upper)

    def inverse(self, block: Array, *, margin: float = 1.0) -> Array:
        """Undo the squeezing; entries on the edge are put a little inside first."""
        low, high = self.entry_lower, self.entry_upper
        has_low, has_high = self._is_finite
        with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
            between = margin * _MARGIN_BETWEEN
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

    def sample(self, rng: np.random.Generator, n: int, start: Array) -> Array:
        """Draw in the box."""
        block = np.asarray(self.forward(jnp.asarray(start)))
        draws = sample_box(rng, n, block, self.entry_lower, self.entry_upper)
        return np.stack([self.inverse(draw) for draw in draws])


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

    def may_deceive(self, t: Array, *, has_gradient: bool) -> bool:
        """Tell whether the transform does, or an input is close to a bound."""
        inner = np.asarray(self._box.forward(jnp.asarray(t)))
        return self._box.may_deceive(t, has_gradient=has_gradient) or self.inner.may_deceive(
            inner, has_gradient=has_gradient
        )

    def escapes(self, t: Array, gradient: Array | None) -> list[Array]:
        """Return those of the transform, opened; and inputs brought back from the edge."""
        if self.polytope() is not None:
            return super().escapes(t, gradient)
        inner = np.asarray(self._box.forward(jnp.asarray(t)))
        back = self._box.inverse(inner)
        found = [self._box.inverse(near) for near in self.inner.escapes(inner, gradient)]
        moved = np.flatnonzero(back != t)
        return [*found, *(_replaced(t, i, back[i]) for i in moved.tolist())]

    def sample(self, rng: np.random.Generator, n: int, start: Array) -> Array:
        """Draw inside."""
        inner_start = np.asarray(self._box.forward(jnp.asarray(start)))
        draws = self.inner.sample(rng, n, inner_start)
        return np.stack([self._box.inverse(draw) for draw in draws])


# ---- weighted sums ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Pivot(Transform):
    """Weighted sums: ``rows @ block`` are inputs, some entries of the block follow from them.

    With P the pivot entries and R the rest, ``block_P = rows_P^-1 (t_sums - rows_R t_R)`` and
    ``block_R = t_R``. Linear in the number of entries of ``rows``, and regular everywhere.

    Args:
        rows: Independent rows, shape (k, n).
        row_lower: Lower bounds of the sums, shape (k,).
        row_upper: Upper bounds of the sums, shape (k,).
        entry_lower: Lower bounds of the block, shape (n,); ignored for pivots.
        entry_upper: Upper bounds of the block, shape (n,); ignored for pivots.
        pivots: Positions of k entries without bounds for which rows[:, pivots] is regular.
    """

    rows: Array
    row_lower: Array
    row_upper: Array
    entry_lower: Array
    entry_upper: Array
    pivots: NDArray[np.intp]

    @cached_property
    def _rest(self) -> NDArray[np.intp]:
        return np.setdiff1d(np.arange(self.rows.shape[1]), self.pivots)

    @cached_property
    def lower(self) -> Array:
        """Bounds of the sums, then those of the rest."""
        return np.concatenate([self.row_lower, self.entry_lower[self._rest]])

    @cached_property
    def upper(self) -> Array:
        """Bounds of the sums, then those of the rest."""
        return np.concatenate([self.row_upper, self.entry_upper[self._rest]])

    def polytope(self) -> Polytope:
        """Return rows and bounds."""
        lower, upper = self.entry_lower, self.entry_upper
        return Polytope(self.rows, self.row_lower, self.row_upper, lower, upper)

    def may_deceive(self, t: Array, *, has_gradient: bool) -> bool:
        """Tell whether an input is at a bound and there is a gradient: no corner is certain."""
        return has_gradient and _has_edge(t, self.lower, self.upper)

    def forward(self, t: jax.Array) -> jax.Array:
        """Solve for the pivots."""
        k = len(self.pivots)
        sums, rest = t[:k], t[k:]
        inverse = jnp.asarray(np.linalg.inv(self.rows[:, self.pivots]))
        pivots = inverse @ (sums - jnp.asarray(self.rows[:, self._rest]) @ rest)
        order = np.argsort(np.concatenate([self.pivots, self._rest]))
        return jnp.concatenate([pivots, rest])[order]

    def inverse(self, block: Array, *, margin: float = 1.0) -> Array:
        """Return the sums and the rest."""
        del margin
        t = np.concatenate([self.rows @ block, block[self._rest]])
        return np.asarray(np.clip(t, self.lower, self.upper))


@dataclass(frozen=True)
class Simplex(Transform):
    """Entries with lower bounds and a given sum, from homogeneous coordinates.

    ``w_i block_i = low_i + (total - sum(low)) t_i / sum(t)`` with t in [0, 1]. There is one input
    more than there are degrees of freedom, and in return no corner but zero in which an algorithm
    could be caught: the Karush-Kuhn-Tucker conditions in t are those of the block. (With the
    derivative ``(g_i - sum(share g)) / sum(t)``, a t_i of 1 may only have a negative one; as
    shares times derivatives sum up to zero, all of positive shares are zero.) The closure of
    Aitchison (1982, doi:10.1111/j.2517-6161.1982.tb01195.x).

    Args:
        total: The sum, shape (1,).
        entry_lower: Lower bounds of the products w_i block_i, shape (n,), or (n + 1,) with slack.
        weights: w, shape (n,).
        has_slack: Whether the first entry is none of the block: the sum may vary.
    """

    total: Array
    entry_lower: Array
    weights: Array
    has_slack: bool = False

    @cached_property
    def lower(self) -> Array:
        """Zeros."""
        return np.zeros(len(self.entry_lower))

    @cached_property
    def upper(self) -> Array:
        """Ones."""
        return np.ones(len(self.entry_lower))

    @property
    def n_free(self) -> int:
        """One less than there are inputs."""
        return len(self.entry_lower) - 1

    def polytope(self) -> Polytope:
        """Return the simplex."""
        high = np.full(len(self.entry_lower), np.inf)
        return _budget_polytope(
            self.total, self.entry_lower, high, self.weights, has_slack=self.has_slack
        )

    def may_deceive(self, t: Array, *, has_gradient: bool) -> bool:
        """Tell whether all inputs are zero, where no derivative tells anything."""
        del has_gradient
        return not t.any()

    def forward(self, t: jax.Array) -> jax.Array:
        """Normalise."""
        # all zeros, which is a point of the box, means equal shares
        t = jnp.where(t.sum() > 0, t, 1.0)
        return self._from_shares(t / t.sum())

    def _from_shares(self, shares: jax.Array) -> jax.Array:
        low = jnp.asarray(self.entry_lower)
        products = low + (jnp.asarray(self.total) - low.sum()) * shares
        return products[1 if self.has_slack else 0 :] / jnp.asarray(self.weights)

    def inverse(self, block: Array, *, margin: float = 1.0) -> Array:
        """Return the shares."""
        del margin
        products = _products(block, self.weights, self.total, has_slack=self.has_slack)
        shares: Array = np.maximum(products - self.entry_lower, 0.0)
        return np.asarray(shares / shares.sum())

    def opened(self) -> Transform:
        """Return the softmax form."""
        return Softmax(self)

    def sample(self, rng: np.random.Generator, n: int, start: Array) -> Array:
        """Draw uniformly from the simplex."""
        del start
        return np.asarray(rng.dirichlet(np.ones(len(self.entry_lower)), size=n))


@dataclass(frozen=True)
class Softmax(Transform):
    """A simplex without bounds: shares are ``exp(t_i) / (1 + sum(exp(t)))``, the last has t = 0.

    The additive log-ratio coordinates of Aitchison (1982, doi:10.1111/j.2517-6161.1982.tb01195.x).
    """

    simplex: Simplex

    @cached_property
    def lower(self) -> Array:
        """No bounds."""
        return np.full(self.simplex.n_free, -np.inf)

    @cached_property
    def upper(self) -> Array:
        """No bounds."""
        return np.full(self.simplex.n_free, np.inf)

    def forward(self, t: jax.Array) -> jax.Array:
        """Take the softmax."""
        return self.simplex._from_shares(jax.nn.softmax(jnp.concatenate([t, jnp.zeros(1)])))

    def inverse(self, block: Array, *, margin: float = 1.0) -> Array:
        """Take logarithms; zeros are put a little inside first."""
        shares = self.simplex.inverse(block)
        logs = np.log(np.maximum(shares, margin * _MARGIN_BETWEEN / len(shares)))
        return np.asarray(logs[:-1] - logs[-1])

    def polytope(self) -> Polytope:
        """Return the simplex."""
        return self.simplex.polytope()

    def may_deceive(self, t: Array, *, has_gradient: bool) -> bool:
        """Tell whether a share nearly vanishes."""
        del has_gradient
        logs = np.append(t, 0.0)
        shares = np.exp(logs - logs.max())
        shares /= shares.sum()
        return bool((shares < 2 * _MARGIN_BETWEEN / len(shares)).any())

    def opened(self) -> Transform:
        """It is open."""
        return self

    def sample(self, rng: np.random.Generator, n: int, start: Array) -> Array:
        """Draw uniformly from the simplex."""
        draws = self.simplex.sample(rng, n, start)
        blocks = [np.asarray(self.simplex.forward(jnp.asarray(draw))) for draw in draws]
        return np.stack([self.inverse(block) for block in blocks])


@dataclass(frozen=True)
class Budget(Transform):
    """Entries with bounds on both sides and a given sum.

    Stick breaking: with the sum r that is still to be given away, entry i lies between
    ``a = max(lower_i, r - sum of later upper bounds)`` and
    ``b = min(upper_i, r - sum of later lower bounds)``; ``a + (b - a) t`` with t in [0, 1] where
    both are finite, ``a + t`` or ``b - t`` with t >= 0 where one is. The last entry takes the rest
    (for the simplex: Betancourt 2012, doi:10.1063/1.3703631).

    Args:
        total: The sum, shape (1,).
        entry_lower: Lower bounds of the products, shape (n,), or (n + 1,) with slack.
        entry_upper: Upper bounds of the products, shape (n,), or (n + 1,) with slack.
        weights: What the entries of the block are multiplied with before they are summed up,
            shape (n,).
        has_slack: Whether the first entry is none of the block: the sum may vary.
    """

    total: Array
    entry_lower: Array
    entry_upper: Array
    weights: Array
    has_slack: bool = False

    @cached_property
    def _later(self) -> tuple[Array, Array]:
        """Sums of the lower and the upper bounds of all later entries."""
        later = [np.cumsum(v[::-1])[::-1][1:] for v in (self.entry_lower, self.entry_upper)]
        return later[0], later[1]

    @cached_property
    def _is_finite(self) -> tuple[Flags, Flags]:
        """Whether a and b of each entry but the last are finite."""
        later_lower, later_upper = self._later
        return (
            np.isfinite(self.entry_lower[:-1]) | np.isfinite(later_upper),
            np.isfinite(self.entry_upper[:-1]) | np.isfinite(later_lower),
        )

    @cached_property
    def lower(self) -> Array:
        """0, or -inf for entries without any bound."""
        has_a, has_b = self._is_finite
        return np.where(has_a | has_b, 0.0, -np.inf)

    @cached_property
    def upper(self) -> Array:
        """1 where both ends are finite; 0 where they coincide by the bounds of the entry."""
        has_a, has_b = self._is_finite
        is_pinned = self.entry_lower[:-1] == self.entry_upper[:-1]
        return np.where(is_pinned, 0.0, np.where(has_a & has_b, 1.0, np.inf))

    def forward(self, t: jax.Array) -> jax.Array:
        """Give away the sum, entry by entry."""

        def give(remaining: jax.Array, entry: tuple[jax.Array, ...]) -> tuple[jax.Array, jax.Array]:
            t, low, high, later_low, later_high, *flags = entry
            has_low, has_high, has_later_low, has_later_high = flags
            a = _pick(jnp.maximum, low, has_low, remaining - later_high, has_later_high)
            b = _pick(jnp.minimum, high, has_high, remaining - later_low, has_later_low)
            has_a, has_b = has_low | has_later_high, has_high | has_later_low
            one_sided = jnp.where(has_a, a + t, jnp.where(has_b, b - t, t))
            value = jnp.where(has_a & has_b, a + (b - a) * t, one_sided)
            return remaining - value, value

        numbers = (self.entry_lower[:-1], self.entry_upper[:-1], *self._later)
        finite = [jnp.asarray(_zero_where_infinite(v)) for v in numbers]
        flags = [jnp.asarray(np.isfinite(v)) for v in numbers]
        last, values = jax.lax.scan(give, jnp.asarray(self.total)[0], (t, *finite, *flags))
        products = jnp.concatenate([values, last[None]])
        products = without_rounding(products, self.entry_lower, self.entry_upper)
        return products[1 if self.has_slack else 0 :] / jnp.asarray(self.weights)

    def _ends(self, products: Array) -> tuple[Array, Array]:
        """Return a and b of each entry but the last."""
        later_lower, later_upper = self._later
        remaining = self.total[0] - np.concatenate([[0.0], np.cumsum(products)[:-2]])
        a = np.maximum(self.entry_lower[:-1], remaining - later_upper)
        b = np.minimum(self.entry_upper[:-1], remaining - later_lower)
        return a, b

    def inverse(self, block: Array, *, margin: float = 1.0) -> Array:
        """Undo the giving."""
        del margin
        products = _products(block, self.weights, self.total, has_slack=self.has_slack)
        return self._place(products)

    def _place(self, products: Array) -> Array:
        has_a, has_b = self._is_finite
        return _place(products[:-1], *self._ends(products), has_a, has_b, self.lower, self.upper)

    def polytope(self) -> Polytope:
        """Return bounds and sum."""
        return _budget_polytope(
            self.total, self.entry_lower, self.entry_upper, self.weights, has_slack=self.has_slack
        )

    def may_deceive(self, t: Array, *, has_gradient: bool) -> bool:
        """Tell whether there is a gradient, as the map has kinks, or else an input at a bound."""
        return has_gradient or _has_edge(t, self.lower, self.upper)


# ---- order -----------------------------------------------------------------------------------


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
        finite = [_zero_where_infinite(v) for v in (low, high)]
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
        """Return the increments."""
        del margin
        low, high = self._low, self._high
        a = np.concatenate([low[:1], np.maximum(low[1:], block[:-1])])
        return _place(block, a, high, np.isfinite(a), np.isfinite(high), self.lower, self.upper)

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
        return has_gradient or (not self._only_sums and _has_edge(t, self.lower, self.upper))


# ---- helpers ---------------------------------------------------------------------------------


def _zero_where_infinite(values: Array) -> Array:
    return np.where(np.isfinite(values), values, 0.0)


def without_rounding(values: jax.Array, lower: Array, upper: Array) -> jax.Array:
    """Put values back that left their bounds by rounding; derivatives stay as they are."""
    clipped = jnp.clip(values, jnp.asarray(lower), jnp.asarray(upper))
    return values + jax.lax.stop_gradient(clipped - values)


def _replaced(values: Array, i: int, value: float) -> Array:
    out = values.copy()
    out[i] = value
    return out


def _has_edge(t: Array, lower: Array, upper: Array) -> bool:
    """Tell whether an input that is not pinned is at a bound."""
    is_free = lower < upper
    return bool((is_free & ((t <= lower + 1e-9) | (t >= upper - 1e-9))).any())


def _budget_polytope(
    total: Array, low: Array, high: Array, weights: Array, *, has_slack: bool
) -> Polytope:
    """Return entries whose products with weights have bounds and a sum."""
    row_lower = row_upper = total
    if has_slack:
        # the slack is the sum with the other sign
        row_lower, row_upper = -high[:1], -low[:1]
        low, high = low[1:], high[1:]
    lower, upper = np.sort(np.stack([low / weights, high / weights]), axis=0)

    def project(block: Array) -> Array:
        """Shift along the weights until the sum fits, and clip."""
        from scipy.optimize import brentq

        def shifted(shift: float) -> Array:
            return np.clip(block - shift * weights, lower, upper)

        total = float(np.clip(shifted(0.0) @ weights, row_lower[0], row_upper[0]))
        reach = 1.0
        while (shifted(reach) @ weights - total) * (shifted(-reach) @ weights - total) > 0:
            if reach > 1e12:
                return shifted(0.0)
            reach *= 4.0
        return shifted(brentq(lambda s: shifted(s) @ weights - total, -reach, reach))

    return Polytope(weights[None], row_lower, row_upper, lower, upper, project)


def _products(block: Array, weights: Array, total: Array, *, has_slack: bool) -> Array:
    """Return the weighted entries of a block, after that which makes up for their sum."""
    products = block * weights
    if has_slack:
        return np.concatenate([[total[0] - products.sum()], products])
    return np.asarray(products)


def _place(
    values: Array, a: Array, b: Array, has_a: Flags, has_b: Flags, lower: Array, upper: Array
) -> Array:
    """Return t from where values lie between a and b."""
    with np.errstate(invalid="ignore", divide="ignore"):
        share = np.where(b > a, (values - a) / (b - a), 0.0)
        one_sided = np.where(has_a, values - a, np.where(has_b, b - values, values))
    t = np.where(has_a & has_b, share, one_sided)
    return np.clip(t, lower, upper)


def _pick(
    choose: Callable[[jax.Array, jax.Array], jax.Array],
    left: jax.Array,
    has_left: jax.Array,
    right: jax.Array,
    has_right: jax.Array,
) -> jax.Array:
    """Return the choice of two numbers, or the only one that there is."""
    both = choose(left, right)
    return jnp.where(has_left & has_right, both, jnp.where(has_left, left, right))
