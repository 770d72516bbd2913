"""Quasi-Newton methods for a box, in pure JAX: fixed shapes, one evaluation per step.

Projected quasi-Newton after Kim, Sra and Dhillon (2010, SIAM Journal on Scientific Computing
32(6), doi:10.1137/08073812X): the search direction is that of BFGS in the entries that no bound
holds, and trial points are projected onto the box, so that bounds are kept exactly.

Variants were chosen on 174 problems of CUTEst with up to 50 parameters, 67 of them in boxes, beside
SciPy's L-BFGS-B; evaluations are geometric means of the ratios to its own.

* The inverse Hessian is scaled up before an update that finds it too small, and its first scale is
  the longer of the usual two: 0.95 instead of 1.10 without bounds. Scaling down too, or by the
  Hessian's curvature along the step, took more.
* A step that would leave the box is led to the minimum of the model on the bound that it meets
  first. Without that, the other entries move as if it had gone on, the search shortens the step
  again and again, and the bound is approached but not reached: 0.88 instead of 0.95 in boxes, and
  the slowest of 1,000 fits took 38 evaluations instead of 136. A second bound added nothing, and
  leaving such entries out of the direction, whatever the threshold, made some runs cycle.
* With limited memory a column of the inverse Hessian costs as much as a direction. Instead, entries
  that are close to a bound that the gradient points to go there by themselves: 61 evaluations of
  the slowest fit instead of 454.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from optimagic_lite.algorithms.base import (
    CONVERGENCE_FTOL_REL,
    CONVERGENCE_GTOL_ABS,
    NonNegativeFloat,
    PositiveInt,
    algorithm,
)
from optimagic_lite.algorithms.jax_loop import JaxAlgorithm
from optimagic_lite.algorithms.jax_pass import Box, Evaluation, Status, first_largest
from optimagic_lite.algorithms.jax_search import judge

# curvature along a step, relative to the lengths of it and of the change of gradient, that is none
_FLAT = 1e-12
# where the criterion is not convex along a step, the next one is that much longer
_GROWTH = 4.0
# a step of that share of the scale to a bound is taken without asking the model
_NEAR = 0.1
# factor by which one update may scale the inverse Hessian up
_RAISE = 100.0
# a direction whose cosine with steepest descent is below is none
_STEEP = 1e-10


class State(NamedTuple):
    """A search.

    Attributes:
        x: The iterate, shape (n,).
        f: The criterion there, infinite before the first one.
        g: Its gradient.
        trial: The point that is evaluated.
        direction: Where the search goes, zero in entries that a bound holds.
        length: Multiple of the direction at the trial point, before it is projected.
        scale: Diagonal of the inverse Hessian of which nothing is known.
        memory: What is known of curvature.
        is_empty: Whether that is nothing, so that the direction is that of steepest descent.
        n_rejected: Trial points in a row.
    """

    x: jax.Array
    f: jax.Array
    g: jax.Array
    trial: jax.Array
    direction: jax.Array
    length: jax.Array
    scale: jax.Array
    memory: Any
    is_empty: jax.Array
    n_rejected: jax.Array


@dataclass(frozen=True)
class QuasiNewton(ABC):
    """A stepper whose memory of curvature is that of its subclass."""

    order = 1

    @property
    @abstractmethod
    def key(self) -> Hashable:
        """Equal for steppers that do the same."""

    @abstractmethod
    def nothing(self, n: int) -> Any:
        """Return a memory of nothing, of x with n entries."""

    @abstractmethod
    def remember(
        self,
        memory: Any,
        s: jax.Array,
        y: jax.Array,
        scale: jax.Array,
        is_empty: jax.Array,
        is_convex: jax.Array,
    ) -> Any:
        """Return a memory of one step more.

        Args:
            memory: What is known.
            s: Change of x, shape (n,).
            y: Change of the gradient, zero in entries that did not move.
            scale: See ``State``.
            is_empty: Whether nothing is known.
            is_convex: Whether curvature along the step is positive; else nothing is learned.
        """

    @abstractmethod
    def rescaled(self, state: State, s: jax.Array, y: jax.Array, is_convex: jax.Array) -> jax.Array:
        """Return the scale after a step; see ``remember``."""

    @abstractmethod
    def descend(
        self, memory: Any, x: jax.Array, g: jax.Array, box: Box, scale: jax.Array
    ) -> jax.Array:
        """Return a direction, zero in entries that a bound holds.

        Args:
            memory: What is known.
            x: The iterate.
            g: The gradient there.
            box: Bounds.
            scale: See ``State``.
        """

    def init(self, x: jax.Array, start: Evaluation) -> State:
        """Return a state in which the start is the trial point, and will be accepted."""
        del start
        one, zeros = jnp.ones((), x.dtype), jnp.zeros_like(x)
        return State(
            x=x,
            f=jnp.full((), jnp.inf, x.dtype),
            g=zeros,
            trial=x,
            direction=zeros,
            length=one,
            scale=one,
            memory=self.nothing(len(x)),
            is_empty=jnp.asarray(True),
            n_rejected=jnp.asarray(0),
        )

    def point(self, state: State) -> jax.Array:
        """Return the trial point."""
        return state.trial

    def step(self, state: State, found: Evaluation, box: Box) -> tuple[State, jax.Array, jax.Array]:
        """Go on from the trial point, or come closer to the iterate."""
        f, g = found.value, found.derivative
        here = (state.x, state.f, state.g)
        judged = judge(box, *here, state.trial, f, g, state.length, state.n_rejected)
        accepted, is_lost = judged.accepted, judged.is_lost
        trouble = jnp.where(is_lost & state.is_empty, int(Status.STALLED), int(Status.RUNNING))

        memory, is_empty, scale, length = self._learned(state, accepted, g)
        x, f, g = (
            jnp.where(accepted, a, b) for a, b in zip((state.trial, f, g), here, strict=True)
        )
        g_free = jnp.where(box.is_free(x, g), g, 0.0)
        # after a restart nothing is known of the scale
        is_new = is_lost | jnp.isinf(state.f)
        scale = jnp.where(is_new, 1.0 / jnp.maximum(1.0, jnp.linalg.norm(g_free)), scale)
        newton = self.descend(memory, x, g, box, scale)
        steep = jnp.linalg.norm(newton) * jnp.linalg.norm(g_free)
        is_empty |= is_lost | ~(newton @ g_free < -_STEEP * steep)
        direction = jnp.where(is_empty, -scale * g_free, newton)
        is_turned = accepted | is_lost
        direction = jnp.where(is_turned, direction, state.direction)
        length = jnp.where(is_turned, length, judged.length)
        after = State(
            x=x,
            f=f,
            g=g,
            trial=box.clip(x + length * direction),
            direction=direction,
            length=length,
            scale=scale,
            memory=memory,
            is_empty=is_empty,
            n_rejected=judged.n_rejected,
        )
        return after, accepted, trouble

    def _learned(self, state: State, accepted: jax.Array, g: jax.Array) -> tuple[Any, ...]:
        """Return memory, whether it is empty, scale and the length of the next step."""
        s = state.trial - state.x
        y = jnp.where(s != 0, g - state.g, 0.0)
        is_step = accepted & jnp.isfinite(state.f)
        is_convex = is_step & (s @ y > _FLAT * jnp.sqrt((s @ s) * (y @ y)))
        grown = jnp.where(is_step & ~is_convex & (state.length >= 1), _GROWTH, 1.0)
        scale = self.rescaled(state, s, y, is_convex) * jnp.where(state.is_empty, grown, 1.0)
        memory = self.remember(state.memory, s, y, scale, state.is_empty, is_convex)
        length = jnp.where(state.is_empty, 1.0, jnp.where(grown > 1, grown * state.length, 1.0))
        return memory, state.is_empty & ~is_convex, scale, length


@dataclass(frozen=True)
class DenseStepper(QuasiNewton):
    """BFGS with the whole inverse Hessian as memory, shape (n, n)."""

    key = "jax_bfgs"

    def nothing(self, n: int) -> jax.Array:
        """Return zeros, which stand for nothing."""
        return jnp.zeros((n, n))

    def remember(
        self,
        memory: jax.Array,
        s: jax.Array,
        y: jax.Array,
        scale: jax.Array,
        is_empty: jax.Array,
        is_convex: jax.Array,
    ) -> jax.Array:
        """Update the inverse Hessian (Nocedal and Wright 2006, equation 6.17).

        Before, one whose curvature along y is too large is scaled to that of the step. The update
        is written as ``s w' + w s'``, which does not select between two matrices: with many lanes,
        passes over matrices are what costs.
        """
        rho = _quotient(1.0, s @ y, is_convex)
        hy = jnp.where(is_empty, scale * y, memory @ y)
        raised = jnp.clip(_quotient(s @ y, y @ hy, is_convex & ~is_empty), 1.0, _RAISE)
        hy = raised * hy
        w = 0.5 * rho * (1 + rho * (y @ hy)) * s - rho * hy
        known = jnp.where(is_empty, scale * jnp.eye(len(s)), raised * memory)
        return known + jnp.outer(s, w) + jnp.outer(w, s)

    def rescaled(self, state: State, s: jax.Array, y: jax.Array, is_convex: jax.Array) -> jax.Array:
        """Take the scale of the first step (Nocedal and Wright 2006, equation 6.20, the longer)."""
        is_first = is_convex & state.is_empty
        return jnp.where(is_first, _quotient(s @ s, s @ y, is_first), state.scale)

    def descend(
        self, memory: jax.Array, x: jax.Array, g: jax.Array, box: Box, scale: jax.Array
    ) -> jax.Array:
        """Multiply with the columns of free entries; end on the first bound that is met."""
        del scale
        free = box.is_free(x, g)
        newton = jnp.where(free, -(memory @ jnp.where(free, g, 0.0)), 0.0)
        room = jnp.where(newton > 0, box.upper, box.lower) - x
        beyond = jnp.where(free & (jnp.abs(newton) > jnp.abs(room)), newton - room, 0.0)
        first = first_largest(beyond / jnp.where(newton != 0, newton, 1.0))
        column = jnp.where(free, jnp.where(first, memory, 0.0).sum(axis=1), 0.0)
        curvature, distance = (jnp.where(first, v, 0.0).sum() for v in (column, beyond))
        return newton - _quotient(distance, curvature, curvature > 0) * column


class Pairs(NamedTuple):
    """The last steps.

    Attributes:
        s: Changes of x, shape (m, n), the newest one last.
        y: Changes of the gradient.
    """

    s: jax.Array
    y: jax.Array


@dataclass(frozen=True)
class LimitedStepper(QuasiNewton):
    """BFGS with the last steps as memory.

    Args:
        n_pairs: Number of steps.
    """

    n_pairs: int

    @property
    def key(self) -> Hashable:
        """Equal for steppers that do the same."""
        return "jax_lbfgs", self.n_pairs

    def nothing(self, n: int) -> Pairs:
        """Return pairs of zeros, which are skipped."""
        return Pairs(jnp.zeros((self.n_pairs, n)), jnp.zeros((self.n_pairs, n)))

    def remember(
        self,
        memory: Pairs,
        s: jax.Array,
        y: jax.Array,
        scale: jax.Array,
        is_empty: jax.Array,
        is_convex: jax.Array,
    ) -> Pairs:
        """Append a pair and forget the oldest one."""
        del scale

        def appended(old: jax.Array, new: jax.Array) -> jax.Array:
            old = jnp.where(is_empty, 0.0, old)
            return jnp.where(is_convex, jnp.concatenate([old[1:], new[None]]), old)

        return Pairs(appended(memory.s, s), appended(memory.y, y))

    def rescaled(self, state: State, s: jax.Array, y: jax.Array, is_convex: jax.Array) -> jax.Array:
        """Take the scale of the last step (Nocedal and Wright 2006, equation 7.20)."""
        return jnp.where(is_convex, _quotient(s @ y, y @ y, is_convex), state.scale)

    def descend(
        self, memory: Pairs, x: jax.Array, g: jax.Array, box: Box, scale: jax.Array
    ) -> jax.Array:
        """Recurse over the pairs (Nocedal and Wright 2006, algorithm 7.4), in the free entries.

        Pairs without positive curvature there are skipped.
        """
        towards = jnp.where(g > 0, box.lower, box.upper) - x
        is_near = jnp.abs(towards) <= _NEAR * scale * jnp.abs(g)
        free = box.is_free(x, g) & ~is_near
        s, y = (jnp.where(free, v, 0.0) for v in memory)
        sy = (s * y).sum(axis=1)
        is_used = sy > _FLAT * jnp.sqrt((s * s).sum(axis=1) * (y * y).sum(axis=1))
        rho = _quotient(1.0, sy, is_used)

        # what the loops read is not copied: entries that are held are left out of the vector
        def back(q: jax.Array, pair: tuple[jax.Array, ...]) -> tuple[jax.Array, jax.Array]:
            s, y, rho = pair
            alpha = rho * (s @ q)
            return jnp.where(free, q - alpha * y, 0.0), alpha

        def forth(r: jax.Array, pair: tuple[jax.Array, ...]) -> tuple[jax.Array, None]:
            s, y, rho, alpha = pair
            return jnp.where(free, r + s * (alpha - rho * (y @ r)), 0.0), None

        q, alpha = jax.lax.scan(back, jnp.where(free, g, 0.0), (*memory, rho), reverse=True)
        r, _ = jax.lax.scan(forth, scale * q, (*memory, rho, alpha))
        return jnp.where(is_near, towards, -r)


def _quotient(a: Any, b: jax.Array, is_meant: jax.Array) -> jax.Array:
    """Return a / b, and zero where that is not meant."""
    return jnp.where(is_meant, a / jnp.where(is_meant, b, 1.0), 0.0)


@dataclass(frozen=True, kw_only=True)
class BoxMinimizer(JaxAlgorithm):
    """Base of the minimizers for a box."""

    convergence_gtol_abs: NonNegativeFloat = CONVERGENCE_GTOL_ABS
    convergence_ftol_rel: NonNegativeFloat = CONVERGENCE_FTOL_REL
    convergence_ftol_abs: NonNegativeFloat = 0.0
    convergence_xtol_rel: NonNegativeFloat = 0.0
    convergence_xtol_abs: NonNegativeFloat = 0.0


@algorithm(
    "jax_bfgs",
    needs_jac=True,
    needs_program=True,
    supports_bounds=True,
    supports_infinite_bounds=True,
)
class JaxBFGS(BoxMinimizer):
    """Projected BFGS for a box, of which many run in one compiled call.

    The first choice for smooth JAX criteria of up to a few hundred parameters.

    Args:
        convergence_gtol_abs: Stop when the largest entry of the projected gradient is below.
        convergence_ftol_rel: Stop when ``|f_k - f_{k+1}| / max(|f_k|, |f_{k+1}|, 1)`` is below.
        convergence_ftol_abs: Stop when the value changes by less.
        convergence_xtol_rel: Stop when all parameters change by less, relative to max(|x|, 1).
        convergence_xtol_abs: Stop when all parameters change by less.
    """

    def stepper(self) -> DenseStepper:
        """Return the solver."""
        return DenseStepper()


@algorithm(
    "jax_lbfgs",
    needs_jac=True,
    needs_program=True,
    supports_bounds=True,
    supports_infinite_bounds=True,
)
class JaxLBFGS(BoxMinimizer):
    """Projected BFGS with limited memory for a box, of which many run in one compiled call.

    For smooth JAX criteria of up to 100,000 parameters.

    Args:
        convergence_gtol_abs: Stop when the largest entry of the projected gradient is below.
        convergence_ftol_rel: Stop when ``|f_k - f_{k+1}| / max(|f_k|, |f_{k+1}|, 1)`` is below.
        convergence_ftol_abs: Stop when the value changes by less.
        convergence_xtol_rel: Stop when all parameters change by less, relative to max(|x|, 1).
        convergence_xtol_abs: Stop when all parameters change by less.
        limited_memory_storage_length: Number of stored corrections.
    """

    limited_memory_storage_length: PositiveInt = 10

    def stepper(self) -> LimitedStepper:
        """Return the solver."""
        return LimitedStepper(self.limited_memory_storage_length)
