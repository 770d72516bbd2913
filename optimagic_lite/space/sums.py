"""Bijections for weighted sums of parameters: linear constraints and simplices."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from optimagic_lite.space.polytope import Polytope
from optimagic_lite.space.transforms import (
    MARGIN_BETWEEN,
    Transform,
    has_edge,
    open_units,
    place,
    without_rounding,
    zero_where_infinite,
)

Array = NDArray[np.float64]
Flags = NDArray[np.bool_]


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
        return has_gradient and has_edge(t, self.lower, self.upper)

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
        """Tell whether all inputs are zero, or one and there is a gradient to be sure."""
        return not t.any() or (has_gradient and not t.all())

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

    def sample(self, units: Array, start: Array) -> Array:
        """Spread evenly over the simplex: exponential variates divided by their sum.

        Devroye (1986, doi:10.1007/978-1-4613-8643-8), chapter V.2.
        """
        del start
        variates = -np.log(open_units(units))
        return np.asarray(variates / variates.sum(axis=1, keepdims=True))


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
        return self._log_ratios(self.simplex.inverse(block), margin)

    def _log_ratios(self, shares: Array, margin: float) -> Array:
        logs = np.log(np.maximum(shares, margin * MARGIN_BETWEEN / shares.shape[-1]))
        return np.asarray(logs[..., :-1] - logs[..., -1:])

    def polytope(self) -> Polytope:
        """Return the simplex."""
        return self.simplex.polytope()

    def may_deceive(self, t: Array, *, has_gradient: bool) -> bool:
        """Tell whether a share nearly vanishes."""
        del has_gradient
        logs = np.append(t, 0.0)
        shares = np.exp(logs - logs.max())
        shares /= shares.sum()
        return bool((shares < 2 * MARGIN_BETWEEN / len(shares)).any())

    def opened(self) -> Transform:
        """It is open."""
        return self

    def sample(self, units: Array, start: Array) -> Array:
        """Spread evenly over the simplex: shares are the gaps between sorted uniform variates.

        Devroye (1986, doi:10.1007/978-1-4613-8643-8), chapter V.2.
        """
        del start
        gaps = np.diff(np.sort(units, axis=1), prepend=0.0, append=1.0, axis=1)
        return self._log_ratios(gaps, margin=1.0)


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
        finite = [jnp.asarray(zero_where_infinite(v)) for v in numbers]
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
        has_a, has_b = self._is_finite
        return place(products[:-1], *self._ends(products), has_a, has_b, self.lower, self.upper)

    def sample(self, units: Array, start: Array) -> Array:
        """Give each entry a fair part on average: evenly spread where only lower bounds bind.

        Entry i gets its lower bound and the same fraction of its room as all later ones, in
        expectation. In a simplex of m entries ``t`` then is Beta(1, m - 1) distributed, which is
        uniform (Devroye 1986, doi:10.1007/978-1-4613-8643-8, chapter V.2).
        """
        low, room = self.entry_lower, self.entry_upper - self.entry_lower
        if not np.isfinite(low).all():
            return super().sample(units, start)
        later_lower, later_upper = self._later
        t = np.empty_like(units)
        remaining = np.full(len(units), self.total[0])
        for i in range(units.shape[1]):
            excess = remaining - low[i] - later_lower[i]
            rooms = np.minimum(room[i:], excess[:, None])
            a = np.maximum(low[i], remaining - later_upper[i])
            width = np.minimum(self.entry_upper[i], remaining - later_lower[i]) - a
            with np.errstate(invalid="ignore", divide="ignore"):
                fair = low[i] + rooms[:, 0] * excess / rooms.sum(axis=1)
                t[:, i] = _with_mean(np.where(width > 0, (fair - a) / width, 0.5), units[:, i])
            remaining = remaining - (a + width * t[:, i])
        return np.clip(t, self.lower, self.upper)

    def polytope(self) -> Polytope:
        """Return bounds and sum."""
        return _budget_polytope(
            self.total, self.entry_lower, self.entry_upper, self.weights, has_slack=self.has_slack
        )

    def may_deceive(self, t: Array, *, has_gradient: bool) -> bool:
        """Tell whether there is a gradient, as the map has kinks, or else an input at a bound."""
        return has_gradient or has_edge(t, self.lower, self.upper)


# ---- helpers ----------------------------------------------------------------------------------


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


def _with_mean(mean: Array, units: Array) -> Array:
    """Turn uniform variates into ones in [0, 1] with another mean: Beta(1, k) or Beta(k, 1)."""
    mean = np.clip(mean, 0.0, 1.0)
    power = np.minimum(mean, 1 - mean) / np.maximum(mean, 1 - mean)
    return np.where(mean < 0.5, 1 - (1 - units) ** power, units**power)


def _products(block: Array, weights: Array, total: Array, *, has_slack: bool) -> Array:
    """Return the weighted entries of a block, after that which makes up for their sum."""
    products = block * weights
    if has_slack:
        return np.concatenate([[total[0] - products.sum()], products])
    return np.asarray(products)


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
