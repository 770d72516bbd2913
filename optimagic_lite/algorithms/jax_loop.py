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
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from optimagic_lite.algorithms.base import Outcome
from optimagic_lite.compilation import PureFunction
from optimagic_lite.objective.exact import packed
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

    def init(self, x: jax.Array) -> Any:
        """Return the first state."""
        ...

    def point(self, state: Any) -> jax.Array:
        """Return where value and gradient are wanted next."""
        ...

    def step(self, state: Any, f: jax.Array, g: jax.Array) -> tuple[Any, jax.Array, jax.Array]:
        """Take value and gradient at that point.

        Returns:
            The new state, whether the point was accepted as iterate, and a ``Status``: RUNNING,
            or STALLED or BROKEN if the solver cannot go on.
        """
        ...


class Tolerances(NamedTuple):
    """When an accepted step means convergence; zero switches a criterion off.

    Attributes:
        gtol_abs: Largest absolute entry of the gradient.
        ftol_rel: ``|f_k - f_{k+1}| / max(|f_k|, |f_{k+1}|, 1)``.
        ftol_abs: ``|f_k - f_{k+1}|``.
        xtol_rel: Largest absolute step divided by ``max(|x|, 1)``, entry by entry.
        xtol_abs: Largest absolute step.
    """

    gtol_abs: float = 0.0
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


_MESSAGES = {
    Status.GTOL: "The largest entry of the gradient is below convergence_gtol_abs.",
    Status.FTOL: "The value changed by less than convergence_ftol_rel or _abs.",
    Status.XTOL: "All parameters changed by less than convergence_xtol_rel or _abs.",
    Status.STALLED: "The line search shrank the step to nothing: rounding errors prevent further "
    "progress. The point is often good; loosen convergence_gtol_abs if it is, or check the "
    "derivatives.",
    Status.BROKEN: "The solver could not compute a step. Try another start or another algorithm.",
    Status.FAILED: "The criterion failed.",
}


class _Carry(NamedTuple):
    state: Any  # arrays of the stepper's state
    x_trial: jax.Array
    f_trial: jax.Array
    g_trial: jax.Array
    x: jax.Array  # last accepted iterate
    f: jax.Array
    g: jax.Array
    n_iterations: jax.Array  # accepted steps, the start not included
    status: jax.Array


class _Settings(NamedTuple):
    """Numbers of a run; arguments, so that other numbers need no compilation."""

    tolerances: Tolerances
    maxiter: Any
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
    f0, g0 = evaluator.fun_and_jac(x0)
    maxiter = min(evaluator.limits.maxiter, _NO_LIMIT)
    penalty = evaluator.penalty
    settings = _Settings(tolerances, maxiter, penalty.x0, penalty.constant, penalty.slope)
    replace_failures = not evaluator.errors.raises

    begin = program.compile(
        ("begin", stepper.key), lambda _: _make_begin(stepper), x0, f0, g0, order=0
    )
    carry = begin(x0, f0, g0)
    arguments = (carry, 1, settings, *program.data)
    chunk = program.compile(
        ("chunk", stepper.key, n_steps, replace_failures),
        lambda value: _make_chunk(value, stepper, n_steps, replace_failures),
        *arguments,
        order=1,
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
        success=status in (Status.GTOL, Status.FTOL, Status.XTOL),
        message=message,
        status=code,
        fun=float(carry.f),
        n_iterations=n_iterations,
        gradient=np.array(carry.g),
    )


def _make_begin(stepper: Stepper) -> Callable[..., _Carry]:
    def begin(x: jax.Array, f: jax.Array, g: jax.Array) -> _Carry:
        import equinox as eqx

        arrays, _ = eqx.partition(stepper.init(x), eqx.is_array)
        f = jnp.asarray(f, dtype=x.dtype)
        # the first pass accepts the start, so it does not count
        return _Carry(arrays, x, f, g, x, f, g, jnp.asarray(-1), jnp.asarray(0))

    return begin


def _make_chunk(
    value: PureFunction, stepper: Stepper, n_steps: int, replace_failures: bool
) -> Callable[..., Any]:
    """Return ``carry, limit, settings, *data -> carry, xs, fs, count``."""
    import equinox as eqx

    evaluate = packed(value)

    def chunk(carry: _Carry, limit: jax.Array, settings: _Settings, *data: jax.Array) -> Any:
        struct = eqx.filter_eval_shape(stepper.init, carry.x)
        _, static = eqx.partition(struct, lambda v: isinstance(v, jax.ShapeDtypeStruct))

        def one_pass(loop: Any) -> Any:
            carry, xs, fs, i = loop
            state = eqx.combine(carry.state, static)
            state, accepted, trouble = stepper.step(state, carry.f_trial, carry.g_trial)
            trial = stepper.point(state)
            carry = _advance(carry, state, accepted, trouble, settings)

            def evaluated(_: None) -> Any:
                out = evaluate(trial, *data)
                return out[0], out[1:], True

            def skipped(_: None) -> Any:
                return carry.f_trial, carry.g_trial, False

            is_running = carry.status == Status.RUNNING
            f, g, is_new = jax.lax.cond(is_running, evaluated, skipped, None)
            is_bad = ~(jnp.isfinite(f) & jnp.isfinite(g).all())
            recorded = jnp.where(is_bad & jnp.isfinite(f), jnp.nan, f)
            xs = jnp.where(is_new, xs.at[i].set(trial), xs)
            fs = jnp.where(is_new, fs.at[i].set(recorded), fs)
            status = carry.status
            if replace_failures:
                f, g = _penalized(f, g, is_bad, trial, settings)
            else:
                status = jnp.where(is_bad & is_running, int(Status.FAILED), status)
            carry = carry._replace(x_trial=trial, f_trial=f, g_trial=g, status=status)
            return carry, xs, fs, i + is_new

        def goes_on(loop: Any) -> Any:
            carry, _, _, i = loop
            return (i < limit) & (carry.status == Status.RUNNING)

        buffers = jnp.zeros((n_steps, carry.x.shape[0])), jnp.zeros(n_steps)
        return jax.lax.while_loop(goes_on, one_pass, (carry, *buffers, 0))

    return chunk


def _advance(
    carry: _Carry,
    state: Any,
    accepted: jax.Array,
    trouble: jax.Array,
    settings: _Settings,
) -> _Carry:
    """Take over an accepted point and test convergence."""
    import equinox as eqx

    tol = settings.tolerances
    x, f, g = carry.x_trial, carry.f_trial, carry.g_trial
    n_iterations = carry.n_iterations + accepted
    has_moved = accepted & (n_iterations > 0)
    step, change = jnp.abs(x - carry.x), jnp.abs(f - carry.f)
    scale = jnp.maximum(jnp.maximum(jnp.abs(f), jnp.abs(carry.f)), 1.0)
    by_f = (change <= tol.ftol_rel * scale) & (tol.ftol_rel > 0)
    by_f |= (change <= tol.ftol_abs) & (tol.ftol_abs > 0)
    by_x = (step / jnp.maximum(jnp.abs(x), 1.0)).max() <= tol.xtol_rel
    by_x = (by_x & (tol.xtol_rel > 0)) | ((step.max() <= tol.xtol_abs) & (tol.xtol_abs > 0))
    tests = [
        (accepted & (jnp.abs(g).max() <= tol.gtol_abs), Status.GTOL),
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


def _penalized(
    f: jax.Array, g: jax.Array, is_bad: jax.Array, x: jax.Array, settings: _Settings
) -> tuple[jax.Array, jax.Array]:
    step = x - settings.x0
    size = jnp.abs(step).max()
    scaled = step / jnp.where(size > 0, size, 1.0)
    length = jnp.linalg.norm(scaled)
    direction = scaled / jnp.where(size > 0, length, 1.0)
    penalty = settings.penalty_constant + settings.penalty_slope * size * length
    return jnp.where(is_bad, penalty, f), jnp.where(is_bad, settings.penalty_slope * direction, g)
