"""A whole solve as one pure function: what ``argmin`` compiles."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from optimagic_lite.algorithms.jax_pass import Carry, Evaluation, Pass, Settings, Status


class Trace(NamedTuple):
    """The evaluations of a solve; NaN after its end.

    Attributes:
        x: Points, shape (length, n).
        f: The criterion there, shape (length,).
    """

    x: jax.Array
    f: jax.Array


def solve(
    one_pass: Pass,
    evaluate: Callable[..., Evaluation],
    x0: jax.Array,
    settings: Settings,
    *data: jax.Array,
) -> Carry:
    """Solve, and return the run at its end.

    Args:
        one_pass: The pass of a solver.
        evaluate: The criterion, called as ``evaluate(x, *data)``.
        x0: Start inside the box, shape (n,).
        settings: Numbers.
        data: Further arguments of the criterion.
    """

    def body(carry: Carry) -> Carry:
        return one_pass(evaluate, carry, settings, *data)[0]

    def goes_on(carry: Carry) -> jax.Array:
        return carry.status == Status.RUNNING

    return jax.lax.while_loop(goes_on, body, one_pass.begin(x0, evaluate(x0, *data)))


def solve_traced(
    one_pass: Pass,
    evaluate: Callable[..., Evaluation],
    length: int,
    x0: jax.Array,
    settings: Settings,
    *data: jax.Array,
) -> tuple[Carry, Trace]:
    """Solve with at most some evaluations, and return all of them too.

    A scan stacks rows without moving them; under vmap, a buffer in the carry of a loop would be
    copied in every pass. In return, it always makes all passes.

    Args:
        one_pass: See ``solve``.
        evaluate: See ``solve``.
        length: Largest number of evaluations.
        x0: See ``solve``.
        settings: See ``solve``.
        data: See ``solve``.
    """
    settings = settings._replace(maxfun=jnp.minimum(settings.maxfun, length))
    first = one_pass.begin(x0, evaluate(x0, *data))

    def body(carry: Carry, _: None) -> tuple[Carry, tuple[jax.Array, jax.Array]]:
        carry, is_new, f = one_pass(evaluate, carry, settings, *data)
        return carry, (jnp.where(is_new, carry.x_trial, jnp.nan), jnp.where(is_new, f, jnp.nan))

    # the last pass accepts what was evaluated last
    carry, (xs, fs) = jax.lax.scan(body, first, length=length)
    points, values = jnp.concatenate([x0[None], xs[:-1]]), jnp.append(first.f, fs[:-1])
    return carry, Trace(points, values)
