"""Steps a solver inside JAX in compiled chunks, one row per evaluation.

A solver is a ``Stepper``. The loop evaluates the criterion once per pass, hands value and gradient
to the stepper, and tests convergence in the same way for all of them. The trace of a chunk is
written into buffers and recorded between chunks; chunks grow while they are fast, so that limits
on time, the log and Ctrl-C are never far away.
"""

from __future__ import annotations

import enum
import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from optimagic_lite.algorithms.base import Outcome
from optimagic_lite.algorithms.regression import NOISE, cosine
from optimagic_lite.objective.exact import value_and_derivative
from optimagic_lite.objective.kinds import Kind
from optimagic_lite.stopping import Stop

if TYPE_CHECKING:
    from optimagic_lite.evaluator import Evaluator

Array = NDArray[np.float64]

_MAX_STEPS = 256
_NO_LIMIT = 2**62
_BUFFER = 1 << 20
_SLOW_CHUNK = 0.1


class Stepper(Protocol):
    """A solver that evaluates once per step; all of it can be traced."""

    @property
    def key(self) -> Hashable:
        """Equal for steppers that do the same."""
        ...

    def init(self, x: jax.Array, value: jax.Array, derivative: jax.Array) -> Any:
        """Return the first state; value and derivative at x give shapes."""
        ...

    def point(self, state: Any) -> jax.Array:
        """Return where value and derivative are wanted next."""
        ...

    def step(
        self, state: Any, value: jax.Array, derivative: jax.Array
    ) -> tuple[Any, jax.Array, jax.Array]:
        """Take value and gradient, or residuals and Jacobian, at that point.

        Returns:
            The new state, whether the point was accepted as iterate, and a ``Status``: RUNNING,
            or STALLED or BROKEN if the solver cannot go on.
        """
        ...


class Tolerances(NamedTuple):
    """When an accepted step means convergence; zero switches a criterion off.

    Attributes:
        gtol_abs: Largest absolute entry of the gradient.
        gtol_rel: Largest cosine of the angle between residuals and a column of their Jacobian.
        ftol_rel: ``|f_k - f_{k+1}| / max(|f_k|, |f_{k+1}|, 1)``; for sums of squares, whose size
            says nothing, without the 1.
        ftol_abs: ``|f_k - f_{k+1}|``.
        xtol_rel: Largest absolute step divided by ``max(|x|, 1)``, entry by entry.
        xtol_abs: Largest absolute step.
    """

    gtol_abs: float = 0.0
    gtol_rel: float = 0.0
    ftol_rel: float = 0.0
    ftol_abs: float = 0.0
    xtol_rel: float = 0.0
    xtol_abs: float = 0.0


class Status(enum.IntEnum):
    """State of the loop."""

    RUNNING = 0
    GTOL = 1
    FTOL = 2
    XTOL = 3
    MAXITER = 4
    STALLED = 5
    BROKEN = 6
    FAILED = 7
    ZERO = 8


_MESSAGES = {
    Status.GTOL: "The gradient is below convergence_gtol_abs or _rel.",
    Status.FTOL: "The value changed by less than convergence_ftol_rel or _abs.",
    Status.XTOL: "All parameters changed by less than convergence_xtol_rel or _abs.",
    Status.STALLED: "The line search shrank the step to nothing: rounding errors prevent further "
    "progress. The point is often good; loosen convergence_gtol_abs if it is, or check the "
    "derivatives.",
    Status.BROKEN: "The solver could not compute a step. Try another start or another algorithm.",
    Status.FAILED: "The criterion failed.",
    Status.ZERO: "The residuals are zero but for rounding errors.",
}


class _Carry(NamedTuple):
    state: Any  # arrays of the stepper's state
    x_trial: jax.Array
    value_trial: jax.Array  # what the solver takes: the criterion, or residuals
    derivative_trial: jax.Array
    x: jax.Array  # last accepted iterate
    f: jax.Array  # the criterion there
    g: jax.Array
    n_iterations: jax.Array  # accepted steps, the start not included
    status: jax.Array


class _Settings(NamedTuple):
    """Numbers of a run; arguments, so that other numbers need no compilation."""

    tolerances: Tolerances
    maxiter: Any
    f0: Any
    x0: Any
    penalty_constant: Any
    penalty_slope: Any


def run(evaluator: Evaluator, stepper: Stepper, x0: Array, tolerances: Tolerances) -> Outcome:
    """Minimize with a stepper.

    Args:
        evaluator: Records; its objective must be traceable.
        stepper: The solver.
        x0: Start, shape (n_x,).
        tolerances: When to stop.
    """
    program = evaluator.objective.program
    assert program is not None, "problem.check_objective refuses criteria that are not traced"
    n_steps = int(np.clip(_BUFFER // len(x0), 1, _MAX_STEPS))
    value, derivative = evaluator.fun_and_jac(x0)
    maxiter = min(evaluator.limits.maxiter, _NO_LIMIT)
    penalty = evaluator.penalty
    f0 = evaluator.objective.kind.total(value)
    settings = _Settings(tolerances, maxiter, f0, penalty.x0, penalty.constant, penalty.slope)
    replace_failures = not evaluator.errors.raises
    make = _Maker(stepper, evaluator.objective.kind, replace_failures, n_steps)

    first = x0, value, derivative
    begin = program.compile(
        ("begin", stepper.key, make.kind), lambda _: make.begin, *first, order=0
    )
    carry = begin(*first)
    arguments = (carry, 1, settings, *program.data)
    key = "chunk", stepper.key, make.kind, n_steps, replace_failures
    evaluate = value_and_derivative(program)
    chunk = program.compile(
        key, lambda value: partial(make.chunk, evaluate(value)), *arguments, order=1
    )
    n_allowed = 1
    while True:
        n_now = min(n_allowed, n_steps, evaluator.remaining())
        start, clock = evaluator.elapsed(), time.perf_counter()
        carry, xs, fs, count = chunk(carry, n_now, settings, *program.data)
        n_done = int(count)
        evaluator.n_iterations = max(0, int(carry.n_iterations))
        evaluator.record_chunk(np.asarray(xs)[:n_done], np.asarray(fs)[:n_done], start)
        status = Status(int(carry.status))
        if status is not Status.RUNNING:
            break
        is_slow = time.perf_counter() - clock > _SLOW_CHUNK
        n_allowed = max(1, n_allowed // 2) if is_slow else min(2 * n_allowed, n_steps)
    return _outcome(carry, status, maxiter, evaluator.n_iterations)


def _outcome(carry: Any, status: Status, maxiter: int, n_iterations: int) -> Outcome:
    if status is Status.MAXITER:
        message, code = Stop.MAXITER.text(maxiter), Stop.MAXITER.status
    else:
        message, code = _MESSAGES[status], int(status)
    return Outcome(
        success=status in (Status.GTOL, Status.FTOL, Status.XTOL, Status.ZERO),
        message=message,
        status=code,
        fun=float(carry.f),
        n_iterations=n_iterations,
        gradient=np.array(carry.g),
        x=np.array(carry.x),
    )


@dataclass(frozen=True)
class _Maker:
    """The functions that are compiled.

    Args:
        stepper: The solver.
        kind: What it takes.
        replace_failures: Whether a penalty replaces what is not finite, or ends the run.
        n_steps: Largest number of evaluations in a chunk.
    """

    stepper: Stepper
    kind: Kind
    replace_failures: bool
    n_steps: int

    def begin(self, x: jax.Array, value: jax.Array, derivative: jax.Array) -> _Carry:
        """Return the first carry."""
        import equinox as eqx

        arrays, _ = eqx.partition(self.stepper.init(x, value, derivative), eqx.is_array)
        value = jnp.asarray(value, dtype=x.dtype)
        f, g = self.kind.reduced(value), self.kind.gradient(value, derivative)
        # the first pass accepts the start, so it does not count
        return _Carry(arrays, x, value, derivative, x, f, g, jnp.asarray(-1), jnp.asarray(0))

    def chunk(
        self,
        evaluate: Callable[..., tuple[jax.Array, jax.Array]],
        carry: _Carry,
        limit: jax.Array,
        settings: _Settings,
        *data: jax.Array,
    ) -> Any:
        """Return carry, points, values of the criterion, and the number of evaluations."""
        import equinox as eqx

        example = carry.x, carry.value_trial, carry.derivative_trial
        struct = eqx.filter_eval_shape(self.stepper.init, *example)
        _, static = eqx.partition(struct, lambda v: isinstance(v, jax.ShapeDtypeStruct))

        def one_pass(loop: Any) -> Any:
            carry, xs, fs, i = loop
            state = eqx.combine(carry.state, static)
            value, derivative = carry.value_trial, carry.derivative_trial
            state, accepted, trouble = self.stepper.step(state, value, derivative)
            trial = self.stepper.point(state)
            trouble = jnp.where(jnp.isfinite(trial).all(), trouble, int(Status.BROKEN))
            carry = _advance(carry, state, accepted, trouble, settings, self.kind)

            def evaluated(_: None) -> Any:
                return *evaluate(trial, *data), True

            def skipped(_: None) -> Any:
                return value, derivative, False

            is_running = carry.status == Status.RUNNING
            value, derivative, is_new = jax.lax.cond(is_running, evaluated, skipped, None)
            f = self.kind.reduced(value)
            is_bad = ~(jnp.isfinite(f) & jnp.isfinite(derivative).all())
            recorded = jnp.where(is_bad & jnp.isfinite(f), jnp.nan, f)
            xs = jnp.where(is_new, xs.at[i].set(trial), xs)
            fs = jnp.where(is_new, fs.at[i].set(recorded), fs)
            status = carry.status
            if self.replace_failures:
                penalty = self.kind.spread(*_penalty(trial, settings), jnp.size(value), jnp)
                value = jnp.where(is_bad, penalty[0], value)
                derivative = jnp.where(is_bad, penalty[1], derivative)
            else:
                status = jnp.where(is_bad & is_running, int(Status.FAILED), status)
            carry = carry._replace(
                x_trial=trial, value_trial=value, derivative_trial=derivative, status=status
            )
            return carry, xs, fs, i + is_new

        def goes_on(loop: Any) -> Any:
            carry, _, _, i = loop
            return (i < limit) & (carry.status == Status.RUNNING)

        buffers = jnp.zeros((self.n_steps, carry.x.shape[0])), jnp.zeros(self.n_steps)
        return jax.lax.while_loop(goes_on, one_pass, (carry, *buffers, 0))


def _advance(
    carry: _Carry,
    state: Any,
    accepted: jax.Array,
    trouble: jax.Array,
    settings: _Settings,
    kind: Kind,
) -> _Carry:
    """Take over an accepted point and test convergence."""
    import equinox as eqx

    tol = settings.tolerances
    x, value = carry.x_trial, carry.value_trial
    f, g = kind.reduced(value), kind.gradient(value, carry.derivative_trial)
    n_iterations = carry.n_iterations + accepted
    has_moved = accepted & (n_iterations > 0)
    step, change = jnp.abs(x - carry.x), jnp.abs(f - carry.f)
    least = 0.0 if kind.target == "least_squares" else 1.0
    scale = jnp.maximum(jnp.maximum(jnp.abs(f), jnp.abs(carry.f)), least)
    by_g, is_zero = jnp.abs(g).max() <= tol.gtol_abs, jnp.asarray(False)
    if kind.target == "least_squares":
        by_g |= cosine(value, carry.derivative_trial, jnp) <= tol.gtol_rel
        parts = jnp.abs(carry.derivative_trial) @ jnp.abs(x)
        is_zero = f <= NOISE**2 * jnp.maximum(settings.f0, parts @ parts)
    by_f = (change <= tol.ftol_rel * scale) & (tol.ftol_rel > 0)
    by_f |= (change <= tol.ftol_abs) & (tol.ftol_abs > 0)
    by_x = (step / jnp.maximum(jnp.abs(x), 1.0)).max() <= tol.xtol_rel
    by_x = (by_x & (tol.xtol_rel > 0)) | ((step.max() <= tol.xtol_abs) & (tol.xtol_abs > 0))
    tests = [
        (accepted & by_g, Status.GTOL),
        (accepted & is_zero, Status.ZERO),
        (trouble == Status.BROKEN, Status.BROKEN),
        (has_moved & by_f, Status.FTOL),
        (has_moved & by_x, Status.XTOL),
        (trouble == Status.STALLED, Status.STALLED),
        (n_iterations >= settings.maxiter, Status.MAXITER),
    ]
    status = jnp.asarray(int(Status.RUNNING))
    for is_true, value in reversed(tests):
        status = jnp.where(is_true, int(value), status)
    arrays, _ = eqx.partition(state, eqx.is_array)
    return carry._replace(
        state=arrays,
        x=jnp.where(accepted, x, carry.x),
        f=jnp.where(accepted, f, carry.f),
        g=jnp.where(accepted, g, carry.g),
        n_iterations=n_iterations,
        status=status,
    )


def _penalty(x: jax.Array, settings: _Settings) -> tuple[jax.Array, jax.Array]:
    """Return what ``failures.Penalty`` does, traced."""
    step = x - settings.x0
    size = jnp.abs(step).max()
    scaled = step / jnp.where(size > 0, size, 1.0)
    length = jnp.linalg.norm(scaled)
    direction = scaled / jnp.where(size > 0, length, 1.0)
    penalty = settings.penalty_constant + settings.penalty_slope * size * length
    return penalty, settings.penalty_slope * direction
