"""Quasi-Newton methods for a box, in pure JAX: fixed shapes, one evaluation per step.

Projected quasi-Newton after Kim, Sra and Dhillon (2010, SIAM Journal on Scientific Computing
32(6), doi:10.1137/08073812X): the search direction is that of BFGS in the entries that no bound
holds, and trial points are projected onto the box, so that bounds are kept exactly.
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
from optimagic_lite.algorithms.jax_pass import Box, Evaluation, Status
from optimagic_lite.algorithms.jax_search import judge

# rejections in a row after which the curvature that was learned is given up
_PATIENCE = 25
# curvature along a step, relative to the lengths of it and of the change of gradient, that is none
_FLAT = 1e-12
# where the criterion is not convex along a step, the next one is that much longer
_GROWTH = 4.0
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
        self, memory: Any, is_empty: jax.Array, s: jax.Array, y: jax.Array, scale: jax.Array
    ) -> Any:
        """Return a memory of one step more, along which curvature is positive.

        Args:
            memory: What is known.
            is_empty: Whether that is nothing.
            s: Change of x, shape (n,).
            y: Change of the gradient, zero in entries that did not move.
            scale: See ``State``.
        """

    @abstractmethod
    def descend(self, memory: Any, g: jax.Array, free: jax.Array, scale: jax.Array) -> jax.Array:
        """Return minus the product of the inverse Hessian with a gradient.

        Args:
            memory: What is known.
            g: Gradient, zero in entries that a bound holds.
            free: The other entries; what is returned for held ones is ignored.
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
        judged = judge(box, *here, state.trial, f, g, state.length)
        accepted = judged.accepted
        n_rejected = jnp.where(accepted, 0, state.n_rejected + 1)
        is_lost = judged.is_stuck | (n_rejected >= _PATIENCE)
        trouble = jnp.where(is_lost & state.is_empty, int(Status.STALLED), int(Status.RUNNING))

        memory, is_empty, scale, length = self._learned(state, accepted, g)
        x, f, g = (
            jnp.where(accepted, a, b) for a, b in zip((state.trial, f, g), here, strict=True)
        )
        free = box.is_free(x, g)
        g_free = jnp.where(free, g, 0.0)
        # after a restart nothing is known of the scale
        is_new = is_lost | jnp.isinf(state.f)
        scale = jnp.where(is_new, 1.0 / jnp.maximum(1.0, jnp.linalg.norm(g_free)), scale)
        newton = jnp.where(free, self.descend(memory, g_free, free, scale), 0.0)
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
            n_rejected=jnp.where(is_lost, 0, n_rejected),
        )
        return after, accepted, trouble

    def _learned(self, state: State, accepted: jax.Array, g: jax.Array) -> tuple[Any, ...]:
        """Return memory, whether it is empty, scale and the length of the next step."""
        s = state.trial - state.x
        y = jnp.where(s != 0, g - state.g, 0.0)
        sy, yy = s @ y, y @ y
        is_step = accepted & jnp.isfinite(state.f)
        is_convex = is_step & (sy > _FLAT * jnp.sqrt((s @ s) * yy))
        # Shanno and Phua (1978, doi:10.1007/BF01609018)
        fitting = sy / jnp.where(yy > 0, yy, 1.0)
        grown = jnp.where(is_step & ~is_convex & (state.length >= 1), _GROWTH, 1.0)
        scale = self.rescaled(state, is_convex, fitting) * jnp.where(state.is_empty, grown, 1.0)
        s, y = (jnp.where(is_convex, v, 0.0) for v in (s, y))
        known = self.remember(state.memory, state.is_empty, s, y, scale)
        memory = jax.tree.map(lambda a, b: jnp.where(is_convex, a, b), known, state.memory)
        length = jnp.where(state.is_empty, 1.0, jnp.where(grown > 1, grown * state.length, 1.0))
        return memory, state.is_empty & ~is_convex, scale, length

    def rescaled(self, state: State, is_convex: jax.Array, fitting: jax.Array) -> jax.Array:
        """Return the scale after a step; ``fitting`` is that of its curvature."""
        return jnp.where(is_convex & state.is_empty, fitting, state.scale)


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
        is_empty: jax.Array,
        s: jax.Array,
        y: jax.Array,
        scale: jax.Array,
    ) -> jax.Array:
        """Update the inverse Hessian (Nocedal and Wright 2006, equation 6.17)."""
        inverse = jnp.where(is_empty, scale * jnp.eye(len(s)), memory)
        sy = s @ y
        rho = 1.0 / jnp.where(sy > 0, sy, 1.0)
        hy = inverse @ y
        outer = jnp.outer(s, hy)
        return inverse - rho * (outer + outer.T) + rho * (1 + rho * (y @ hy)) * jnp.outer(s, s)

    def descend(
        self, memory: jax.Array, g: jax.Array, free: jax.Array, scale: jax.Array
    ) -> jax.Array:
        """Multiply; zeros of the gradient select the columns of free entries."""
        del free, scale
        return -(memory @ g)


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
        self, memory: Pairs, is_empty: jax.Array, s: jax.Array, y: jax.Array, scale: jax.Array
    ) -> Pairs:
        """Append a pair and forget the oldest one."""
        del scale
        old = (jnp.where(is_empty, 0.0, v[1:]) for v in memory)
        return Pairs(*(jnp.concatenate([a, v[None]]) for a, v in zip(old, (s, y), strict=True)))

    def rescaled(self, state: State, is_convex: jax.Array, fitting: jax.Array) -> jax.Array:
        """Take the scale of the last step (Nocedal and Wright 2006, equation 7.20)."""
        return jnp.where(is_convex, fitting, state.scale)

    def descend(self, memory: Pairs, g: jax.Array, free: jax.Array, scale: jax.Array) -> jax.Array:
        """Recurse over the pairs (Nocedal and Wright 2006, algorithm 7.4), in the free entries.

        Pairs without positive curvature there are skipped.
        """
        s, y = (jnp.where(free, v, 0.0) for v in memory)
        sy = (s * y).sum(axis=1)
        is_used = sy > _FLAT * jnp.sqrt((s * s).sum(axis=1) * (y * y).sum(axis=1))
        rho = jnp.where(is_used, 1.0 / jnp.where(is_used, sy, 1.0), 0.0)

        def back(q: jax.Array, pair: tuple[jax.Array, ...]) -> tuple[jax.Array, jax.Array]:
            s, y, rho = pair
            alpha = rho * (s @ q)
            return q - alpha * y, alpha

        def forth(r: jax.Array, pair: tuple[jax.Array, ...]) -> tuple[jax.Array, None]:
            s, y, rho, alpha = pair
            return r + s * (alpha - rho * (y @ r)), None

        q, alpha = jax.lax.scan(back, g, (s, y, rho), reverse=True)
        r, _ = jax.lax.scan(forth, scale * q, (s, y, rho, alpha))
        return -r


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
