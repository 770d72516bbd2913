"""Bijections between vectors with box bounds and blocks of parameters that fulfil a constraint.

A transform has inputs with bounds ``lower`` and ``upper``, and gives a block. ``forward`` is pure
JAX, ``inverse`` maps a feasible block back with NumPy. Every point of the box gives a feasible
block, exactly within rounding, and every feasible block, corners included, comes from a point of
the box. An input whose bounds coincide is no freedom; the space drops it.

For algorithms that keep no bounds, ``opened`` gives the same in a smooth form without bounds. No
derivative is written by hand.

No smooth map of a box onto a simplex or a cone of matrices is regular on all of its edges: where
it is not, all derivatives with respect to some inputs vanish, and an algorithm could take a corner
for a minimum that is none. ``neighbours`` gives the points that tell; the run tries them.
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

Array = NDArray[np.float64]
Flags = NDArray[np.bool_]

# how far inside an open box a start on its edge is put, relative to the size of the box
_MARGIN = 1e-4
# how far a neighbour of a corner lies inside, and where an open form counts as being in a corner
_NEAR = 1e-2
_SATURATED = 1e-6


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
    def inverse(self, block: Array) -> Array:
        """Return inputs that give a feasible block; inside the bounds despite rounding."""

    @property
    def n_free(self) -> int:
        """Number of degrees of freedom."""
        return int((self.lower < self.upper).sum())

    def opened(self) -> Transform:
        """Return a smooth form without bounds."""
        return Opened(self)

    def neighbours(self, t: Array) -> list[Array]:
        """Return inputs near t that show whether t, where the map is not regular, is a minimum.

        Args:
            t: Shape (n_in,). No neighbours are needed where the map is regular.
        """
        del t
        return []

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

    def inverse(self, block: Array) -> Array:
        """Undo the squeezing; entries on the edge are put a little inside first."""
        return self._inverse(block, _MARGIN)

    def _inverse(self, block: Array, margin: float) -> Array:
        low, high = self.entry_lower, self.entry_upper
        has_low, has_high = self._is_finite
        with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
            share = np.clip((block - low) / (high - low), margin, 1 - margin)
            both = np.log(share) - np.log1p(-share)
            distance = np.maximum(np.where(has_low, block - low, high - block), margin)
            # inverse of softplus, without overflow for large distances
            one_sided = distance + np.log(-np.expm1(-distance))
            one_sided = np.where(has_low, one_sided, -one_sided)
        out = np.where(has_low & has_high, both, np.where(has_low | has_high, one_sided, block))
        return np.where(low == high, 0.0, out)

    def _at_edge(self, t: Array) -> tuple[Flags, Flags]:
        """Return which inputs are so far out that the lower or the upper bound is reached."""
        has_low, has_high = self._is_finite
        limit = -np.log(_SATURATED)
        falls, rises = t < -limit, t > limit
        return has_low & falls, has_high & rises

    def snapped(self, t: Array) -> Array:
        """Return the entries, those that are nearly at a bound exactly there."""
        at_low, at_high = self._at_edge(t)
        entries = np.asarray(self.forward(jnp.asarray(t)))
        entries = np.where(at_low, self.entry_lower, entries)
        return np.where(at_high, self.entry_upper, entries)

    def neighbours(self, t: Array) -> list[Array]:
        """Return t with one saturated input brought back at a time."""
        at_low, at_high = self._at_edge(t)
        inside = self._inverse(np.where(at_high, self.entry_upper, self.entry_lower), _NEAR)
        return [_replaced(t, i, inside[i]) for i in np.flatnonzero(at_low | at_high).tolist()]

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

    def inverse(self, block: Array) -> Array:
        """Undo both."""
        return self._box.inverse(self.inner.inverse(block))

    def opened(self) -> Transform:
        """It is open."""
        return self

    def neighbours(self, t: Array) -> list[Array]:
        """Return t with one saturated input brought back at a time, and those of the corner."""
        corner = self._box.snapped(t)
        inner = self.inner.neighbours(corner)
        return [*self._box.neighbours(t), *(self._box.inverse(s) for s in inner)]

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

    def forward(self, t: jax.Array) -> jax.Array:
        """Solve for the pivots."""
        k = len(self.pivots)
        sums, rest = t[:k], t[k:]
        inverse = jnp.asarray(np.linalg.inv(self.rows[:, self.pivots]))
        pivots = inverse @ (sums - jnp.asarray(self.rows[:, self._rest]) @ rest)
        order = np.argsort(np.concatenate([self.pivots, self._rest]))
        return jnp.concatenate([pivots, rest])[order]

    def inverse(self, block: Array) -> Array:
        """Return the sums and the rest."""
        t = np.concatenate([self.rows @ block, block[self._rest]])
        return np.asarray(np.clip(t, self.lower, self.upper))


@dataclass(frozen=True)
class Simplex(Transform):
    """Entries with lower bounds and a given sum, from homogeneous coordinates.

    ``w_i block_i = low_i + (total - sum(low)) t_i / sum(t)`` with t in [0, 1]. There is one input
    more than there are degrees of freedom, and in return no corner in which an algorithm could
    be caught: the Karush-Kuhn-Tucker conditions in t are those of the block. (With the derivative
    ``(g_i - sum(share g)) / sum(t)``, a t_i of 1 may only have a negative one; as shares times
    derivatives sum up to zero, all of positive shares are zero.) The closure of Aitchison (1982,
    doi:10.1111/j.2517-6161.1982.tb01195.x).

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

    def forward(self, t: jax.Array) -> jax.Array:
        """Normalise."""
        # all zeros, which is a point of the box, means equal shares
        t = jnp.where(t.sum() > 0, t, 1.0)
        return self._from_shares(t / t.sum())

    def _from_shares(self, shares: jax.Array) -> jax.Array:
        low = jnp.asarray(self.entry_lower)
        products = low + (jnp.asarray(self.total) - low.sum()) * shares
        return products[1 if self.has_slack else 0 :] / jnp.asarray(self.weights)

    def inverse(self, block: Array) -> Array:
        """Return the shares."""
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

    def inverse(self, block: Array) -> Array:
        """Take logarithms; zeros are put a little inside first."""
        return self._inverse(self.simplex.inverse(block), _MARGIN)

    def _inverse(self, shares: Array, margin: float) -> Array:
        logs = np.log(np.maximum(shares, margin / len(shares)))
        return np.asarray(logs[:-1] - logs[-1])

    def opened(self) -> Transform:
        """It is open."""
        return self

    def neighbours(self, t: Array) -> list[Array]:
        """Return t with one vanishing share raised at a time."""
        logs = np.append(t, 0.0)
        shares = np.exp(logs - logs.max())
        shares /= shares.sum()
        raised = _NEAR / len(shares)
        small = np.flatnonzero(shares < _SATURATED * raised).tolist()
        floor = _SATURATED * raised
        return [self._inverse(_replaced(shares, i, raised), floor) for i in small]

    def sample(self, rng: np.random.Generator, n: int, start: Array) -> Array:
        """Draw uniformly from the simplex."""
        draws = self.simplex.sample(rng, n, start)
        return np.stack([self._inverse(draw, _SATURATED) for draw in draws])


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

    def inverse(self, block: Array) -> Array:
        """Undo the giving."""
        products = _products(block, self.weights, self.total, has_slack=self.has_slack)
        return self._place(products)

    def _place(self, products: Array) -> Array:
        has_a, has_b = self._is_finite
        return _place(products[:-1], *self._ends(products), has_a, has_b, self.lower, self.upper)

    def neighbours(self, t: Array) -> list[Array]:
        """Return exchanges between two entries where nothing is left to later ones."""
        block = np.asarray(self.forward(jnp.asarray(t)))
        products = _products(block, self.weights, self.total, has_slack=self.has_slack)
        a, b = self._ends(products)
        size = max(1.0, float(np.abs(products).max()))
        if not ((b - a <= 1e-9 * size) & (self.lower < self.upper)).any():
            return []
        room_up, room_down = self.entry_upper - products, products - self.entry_lower
        found = []
        for room, back, sign in ((room_up, room_down, 1.0), (room_down, room_up, -1.0)):
            anchor = int(np.argmax(back))
            for i in np.flatnonzero(room > 1e-9 * size):
                step = sign * min(_NEAR * size, room[i], back[anchor])
                if i != anchor and step != 0.0:
                    moved = products.copy()
                    moved[i] += step
                    moved[anchor] -= step
                    found.append(self._place(moved))
        return found


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

    def inverse(self, block: Array) -> Array:
        """Return the increments."""
        low, high = self._low, self._high
        a = np.concatenate([low[:1], np.maximum(low[1:], block[:-1])])
        return _place(block, a, high, np.isfinite(a), np.isfinite(high), self.lower, self.upper)

    def neighbours(self, t: Array) -> list[Array]:
        """Return steps down of the first entries where no room is left to later ones."""
        if self._only_sums:
            return []
        block = np.asarray(self.forward(jnp.asarray(t)))
        before = np.concatenate([[-np.inf], block[:-1]])
        is_full = (before >= self._high) & (self.lower < self.upper)
        if not is_full.any():
            return []
        found = []
        for k in range(int(np.flatnonzero(is_full)[-1])):
            room = block[: k + 1] - self._low[: k + 1]
            step = _NEAR * max(1.0, abs(block[k]))
            down = block.copy()
            down[: k + 1] -= np.minimum(step, room)
            if (down != block).any():
                found.append(self.inverse(np.maximum.accumulate(down)))
        return found


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
