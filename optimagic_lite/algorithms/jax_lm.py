"""Levenberg-Marquardt for a box, in pure JAX: fixed shapes, one evaluation per step.

Parameters are scaled by the largest lengths that the columns of the Jacobian have had (Moré 1978,
doi:10.1007/BFb0067700): by the last ones, steps would grow without limit where the criterion
becomes flat. The damping follows the ratio of the decrease to that of the model (Nielsen 1999,
report IMM-REP-1999-05 of the Technical University of Denmark). Entries that a bound holds stay
there, the others minimize the damped model within the bounds.

Steps come from QR decompositions. Normal equations, which square the condition number, would take
half of their time in a batch of tiny problems; but with the least damping their factor sometimes
does not exist where columns are linearly dependent, and with more, steps become short.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from optimagic_lite.algorithms.base import CONVERGENCE_FTOL_REL, NonNegativeFloat, algorithm
from optimagic_lite.algorithms.jax_linear import within
from optimagic_lite.algorithms.jax_loop import JaxAlgorithm
from optimagic_lite.algorithms.jax_pass import Box, Evaluation, Status

_EPS = float(np.finfo(np.float64).eps)
# a change of the sum of squares, relative to it, that rounding alone may cause
_ROUNDING = 10 * _EPS
# shares of the promised decrease: that is enough, and that shows a poor model
_WORTH, _POOR = 1e-4, 0.5
# damping at the start, and within which it stays; squared lengths of columns are its unit
_FIRST, _LEAST, _MOST = 1e-3, 1e-15, 1e20
# by how much a good step lowers the damping at most
_EASE = 0.1


class State(NamedTuple):
    """A search.

    Attributes:
        x: The iterate, shape (n,).
        f: Sum of squares there, infinite before the first one.
        model: Triangle of the Jacobian and the residuals there, ``[R | Q'r]``, which has the same
            sums of squares and products; shape (min(m, n + 1), n + 1).
        unit: Units of x in which damping counts, shape (n,): one over the largest length that the
            column of the Jacobian has had.
        trial: The point that is evaluated.
        damping: Squared length of the residuals that stand for a step of one such unit.
        growth: Factor of the damping at the next rejection.
    """

    x: jax.Array
    f: jax.Array
    model: jax.Array
    unit: jax.Array
    trial: jax.Array
    damping: jax.Array
    growth: jax.Array


@dataclass(frozen=True)
class MarquardtStepper:
    """A stepper for residuals."""

    key = "jax_lm"
    order = 1

    def init(self, x: jax.Array, start: Evaluation) -> State:
        """Return a state in which the start is the trial point, and will be accepted."""
        size = len(x) + 1
        return State(
            x=x,
            f=jnp.full((), jnp.inf, x.dtype),
            model=jnp.zeros((min(len(start.value), size), size)),
            unit=jnp.full_like(x, jnp.inf),
            trial=x,
            damping=jnp.full((), _FIRST, x.dtype),
            growth=jnp.full((), 2.0, x.dtype),
        )

    def point(self, state: State) -> jax.Array:
        """Return the trial point."""
        return state.trial

    def step(self, state: State, found: Evaluation, box: Box) -> tuple[State, jax.Array, jax.Array]:
        """Go on from the trial point, or take a more cautious step from the iterate."""
        f = found.value @ found.value
        model = jnp.linalg.qr(jnp.column_stack([found.derivative, found.value]), mode="r")
        is_first = jnp.isinf(state.f)
        ratio = _gain(state, f, model, box)
        is_fine = jnp.isfinite(f) & jnp.isfinite(model).all()
        accepted = is_fine & (is_first | (ratio > _WORTH))
        step = state.trial - state.x
        is_stuck = (jnp.abs(step) <= _EPS * jnp.abs(state.x)).all() | (state.damping >= _MOST)
        is_stuck &= ~accepted

        damping = jnp.where(is_first, state.damping, _next_damping(state, f, ratio, accepted))
        x, f, model = (
            jnp.where(accepted, a, b)
            for a, b in zip((state.trial, f, model), state[:3], strict=True)
        )
        unit = jnp.minimum(state.unit, 1.0 / jnp.linalg.norm(model[:, :-1], axis=0))
        after = State(
            x=x,
            f=f,
            model=model,
            unit=unit,
            trial=box.clip(x + damped_step(box, x, model, unit, damping)),
            damping=damping,
            growth=jnp.where(accepted, 2.0, 2 * state.growth),
        )
        return after, accepted, jnp.where(is_stuck, int(Status.STALLED), int(Status.RUNNING))


def _gain(state: State, f: jax.Array, model: jax.Array, box: Box) -> jax.Array:
    """Return the decrease relative to what the model of the iterate promised.

    Where rounding hides it, 1 for a point that is less steep and 0 for others.
    """
    promise = state.f - _predicted(state)
    ratio = (state.f - f) / jnp.where(promise > 0, promise, jnp.inf)
    is_level = jnp.abs(state.f - f) <= _ROUNDING * state.f
    before, after = _steepness(box, state.x, state.model), _steepness(box, state.trial, model)
    return jnp.where(is_level, jnp.where(after < before, 1.0, 0.0), ratio)


def _next_damping(state: State, f: jax.Array, ratio: jax.Array, accepted: jax.Array) -> jax.Array:
    """Return the damping after a trial point."""
    eased = jnp.maximum(_EASE, 1 - (2 * ratio - 1) ** 3)
    damping = state.damping * jnp.where(accepted, eased, state.growth)
    # where the criterion bends more than its model, which leaves the curvature of the residuals
    # out, the damping makes up for all of it at once
    step = (state.trial - state.x) / state.unit
    size = step @ step
    missing = (f - _predicted(state)) / jnp.where(size > 0, size, 1.0)
    is_poor = accepted & (ratio < _POOR)
    damping = jnp.where(is_poor, jnp.maximum(damping, missing), damping)
    return jnp.clip(damping, _LEAST, _MOST)


def _predicted(state: State) -> jax.Array:
    """Return the sum of squares of the linear model of the residuals at the trial point."""
    residuals = state.model[:, -1] + state.model[:, :-1] @ (state.trial - state.x)
    return residuals @ residuals


def _steepness(box: Box, x: jax.Array, model: jax.Array) -> jax.Array:
    """Return the largest slope of half the sum of squares, in units of the columns' lengths."""
    gradient = model[:, -1] @ model[:, :-1]
    lengths = jnp.linalg.norm(model[:, :-1], axis=0)
    slopes = jnp.abs(gradient) / jnp.where(lengths > 0, lengths, 1.0)
    return jnp.where(box.is_free(x, gradient), slopes, 0.0).max()


def damped_step(
    box: Box, x: jax.Array, model: jax.Array, unit: jax.Array, damping: jax.Array
) -> jax.Array:
    """Return a step within bounds to the minimum of the damped model, or close to it.

    Args:
        box: Bounds; entries that they hold do not move.
        x: Where the model is made, shape (n,).
        model: See ``State``.
        unit: See ``State``.
        damping: See ``State``.
    """
    matrix, target = model[:, :-1], model[:, -1]
    held = ~box.is_free(x, target @ matrix)
    # a column that has always been zero has no unit
    unit = jnp.where(jnp.isinf(unit), 1.0, unit)
    matrix = matrix * unit
    root = jnp.sqrt(damping)

    def slope(step: jax.Array) -> jax.Array:
        return (target + matrix @ step) @ matrix + damping * step

    def solve(fixed: jax.Array, step: jax.Array) -> jax.Array:
        """Solve by the QR decomposition of the stacked system; fixed columns say nothing."""
        step = jnp.where(fixed, step, 0.0)
        upper = jnp.column_stack([jnp.where(fixed, 0.0, matrix), target + matrix @ step])
        lower = jnp.column_stack([jnp.diag(jnp.where(fixed, 1.0, root)), jnp.zeros_like(step)])
        triangle = jnp.linalg.qr(jnp.concatenate([upper, lower]), mode="r")[: len(step)]
        return step - jax.scipy.linalg.solve_triangular(triangle[:, :-1], triangle[:, -1])

    lower, upper = (box.lower - x) / unit, (box.upper - x) / unit
    return unit * within(solve, slope, held, lower, upper)


@algorithm(
    "jax_lm",
    solver_type="least_squares",
    needs_jac=True,
    needs_program=True,
    supports_bounds=True,
    supports_infinite_bounds=True,
)
class JaxLM(JaxAlgorithm):
    """Levenberg-Marquardt for a box, of which many run in one compiled call.

    The first choice for residuals that are written in JAX.

    Args:
        convergence_gtol_rel: Stop when the cosine of the angle between the residuals and each
            column of the Jacobian that no bound holds is below.
        convergence_ftol_rel: Stop when the sum of squares changes by less, relative to it.
        convergence_ftol_abs: Stop when the value changes by less.
        convergence_xtol_rel: Stop when all parameters change by less, relative to max(|x|, 1).
        convergence_xtol_abs: Stop when all parameters change by less.
    """

    convergence_gtol_rel: NonNegativeFloat = 1e-8
    convergence_ftol_rel: NonNegativeFloat = CONVERGENCE_FTOL_REL
    convergence_ftol_abs: NonNegativeFloat = 0.0
    convergence_xtol_rel: NonNegativeFloat = 1e-8
    convergence_xtol_abs: NonNegativeFloat = 0.0

    def stepper(self) -> MarquardtStepper:
        """Return the solver."""
        return MarquardtStepper()
