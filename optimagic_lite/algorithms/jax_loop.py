"""Runs a solver inside JAX in compiled chunks, one row per evaluation.

The trace of a chunk is written into buffers and recorded between chunks; chunks grow while they are
fast, so that limits on time, the log and Ctrl-C are never far away.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from optimagic_lite.algorithms.base import Algorithm, Outcome
from optimagic_lite.algorithms.jax_pass import (
    NO_LIMIT,
    Box,
    Carry,
    Evaluation,
    Pass,
    Settings,
    Status,
    Stepper,
    Tolerances,
)
from optimagic_lite.stopping import Stop, StopRun

if TYPE_CHECKING:
    from optimagic_lite.evaluator import Evaluator

Array = NDArray[np.float64]

_MAX_STEPS = 256
_BUFFER = 1 << 20
_SLOW_CHUNK = 0.1


@dataclass(frozen=True, kw_only=True)
class JaxAlgorithm(Algorithm):
    """Base of the algorithms that run whole inside JAX."""

    def stepper(self) -> Stepper:
        """Return the solver."""
        raise NotImplementedError

    def tolerances(self) -> Tolerances:
        """Return when it has converged, from the options that it has."""
        names = Tolerances._fields
        return Tolerances(**{name: getattr(self, f"convergence_{name}", 0.0) for name in names})

    def solve(self, evaluator: Evaluator, x0: Array) -> Outcome:
        """Minimize in compiled chunks."""
        return run(evaluator, self.stepper(), x0, self.tolerances())


def run(evaluator: Evaluator, stepper: Stepper, x0: Array, tolerances: Tolerances) -> Outcome:
    """Minimize with a stepper.

    Args:
        evaluator: Records; its objective must be traceable.
        stepper: The solver.
        x0: Start, shape (n_x,).
        tolerances: When to stop.
    """
    program, kind = evaluator.objective.program, evaluator.objective.kind
    assert program is not None, "problem.check_objective refuses criteria that are not traced"
    n_steps = int(np.clip(_BUFFER // len(x0), 1, _MAX_STEPS))
    start = Evaluation(*evaluator.fun_and_jac(x0))
    if stepper.order == 2:
        start = start._replace(hessian=evaluator.hess(x0))
    one_pass = Pass(stepper, kind, replace_failures=not evaluator.errors.raises)
    settings = Settings(
        tolerances,
        Box(evaluator.space.lower, evaluator.space.upper),
        maxiter=min(evaluator.limits.maxiter, NO_LIMIT),
        penalty_constant=evaluator.penalty.constant,
        penalty_slope=evaluator.penalty.slope,
    )

    begin = program.compile(("begin", one_pass.key), lambda _: one_pass.begin, x0, start, order=0)
    # a penalty grows with the distance from where the whole run began
    carry = begin(x0, start)._replace(start=jnp.asarray(evaluator.penalty.x0))
    arguments = (carry, 1, settings, *program.data)
    evaluate = one_pass.evaluate(program)
    chunk = program.compile(
        ("chunk", one_pass.key, n_steps),
        lambda value: partial(_chunk, one_pass, n_steps, evaluate(value)),
        *arguments,
        order=stepper.order,
    )
    n_allowed = 1
    while True:
        n_now = min(n_allowed, n_steps, evaluator.remaining())
        began, clock = evaluator.elapsed(), time.perf_counter()
        carry, xs, fs, count = chunk(carry, n_now, settings, *program.data)
        n_done = int(count)
        evaluator.n_iterations = max(0, int(carry.n_iterations))
        evaluator.record_chunk(np.asarray(xs)[:n_done], np.asarray(fs)[:n_done], began)
        status = Status(int(carry.status))
        if status is not Status.RUNNING:
            break
        is_slow = time.perf_counter() - clock > _SLOW_CHUNK
        n_allowed = max(1, n_allowed // 2) if is_slow else min(2 * n_allowed, n_steps)
    return _outcome(carry, status, int(settings.maxiter), evaluator.n_iterations)


@dataclass(frozen=True, eq=False)
class Solved:
    """A solve that was made without an evaluator.

    Args:
        xs: Points that were evaluated after the start, shape (k, n_x).
        fs: The criterion there, shape (k,); not finite where the evaluation failed.
        x: Last accepted iterate, shape (n_x,).
        f: The criterion there.
        g: Its gradient there.
        n_iterations: Accepted steps.
        status: A ``Status``; RUNNING if time was over.
        seconds: How long it took.
    """

    xs: Array
    fs: Array
    x: Array
    f: float
    g: Array
    n_iterations: int
    status: int
    seconds: float


def replay(evaluator: Evaluator, solved: Solved) -> Outcome:
    """Record a solve as if it had just been made, and return its outcome."""
    first, n_rows = 0, len(solved.fs)
    while first < n_rows:
        n_now = min(n_rows - first, evaluator.remaining())
        rows = slice(first, first + n_now)
        evaluator.n_iterations = max(0, solved.n_iterations)
        began = evaluator.elapsed() - solved.seconds * n_now / n_rows
        evaluator.record_chunk(solved.xs[rows], solved.fs[rows], began)
        first += n_now
    status = Status(solved.status)
    if status is Status.RUNNING:
        raise StopRun(Stop.MAXTIME, evaluator.limits.maxtime)
    limits = evaluator.limits
    return Outcome(
        success=status.is_success,
        message=status.text(maxiter=int(limits.maxiter), maxfun=int(limits.maxfun)),
        status=status.code,
        fun=solved.f,
        n_iterations=max(0, solved.n_iterations),
        gradient=solved.g,
        x=solved.x,
    )


def _outcome(carry: Carry, status: Status, maxiter: int, n_iterations: int) -> Outcome:
    return Outcome(
        success=status.is_success,
        message=status.text(maxiter=maxiter),
        status=status.code,
        fun=float(carry.f),
        n_iterations=n_iterations,
        gradient=np.array(carry.g),
        x=np.array(carry.x),
        hess=None if carry.trial.hessian is None else _hessian_at(carry),
    )


def _hessian_at(carry: Carry) -> Array | None:
    """Return the Hessian at the last iterate, if that was the last evaluation."""
    is_there = np.array_equal(carry.x, carry.x_trial)
    return np.array(carry.trial.hessian) if is_there else None


def _chunk(
    one_pass: Pass,
    n_steps: int,
    evaluate: Callable[..., Evaluation],
    carry: Carry,
    limit: jax.Array,
    settings: Settings,
    *data: jax.Array,
) -> Any:
    """Return carry, points, values of the criterion, and the number of evaluations."""

    def body(loop: Any) -> Any:
        carry, xs, fs, i = loop
        carry, is_new, f = one_pass(evaluate, carry, settings, *data)
        xs = jnp.where(is_new, xs.at[i].set(carry.x_trial), xs)
        fs = jnp.where(is_new, fs.at[i].set(f), fs)
        return carry, xs, fs, i + is_new

    def goes_on(loop: Any) -> Any:
        carry, _, _, i = loop
        return (i < limit) & (carry.status == Status.RUNNING)

    buffers = jnp.zeros((n_steps, carry.x.shape[0])), jnp.zeros(n_steps)
    return jax.lax.while_loop(goes_on, body, (carry, *buffers, 0))
