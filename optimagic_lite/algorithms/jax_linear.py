"""Small symmetric systems and steps within bounds, inside JAX with fixed shapes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

# eigenvalues and squared pivots of a scaled matrix below are as good as zero
FLOOR = 1e-10
# rounds after which a step is cut off at the bounds that it crosses
_MAX_ROUNDS = 10


def identity_where(held: jax.Array, matrix: jax.Array) -> jax.Array:
    """Return a symmetric matrix with the rows and columns of held entries from the identity."""
    kept = jnp.where(held[:, None] | held, 0.0, matrix)
    return kept + jnp.diag(held.astype(matrix.dtype))


def balance(matrix: jax.Array) -> jax.Array:
    """Return factors that scale x such that the diagonal of a symmetric matrix becomes 1 or -1.

    An entry without curvature of its own gets that of its strongest coupling.
    """
    own, largest = jnp.abs(jnp.diagonal(matrix)), jnp.abs(matrix).max(axis=1)
    size = jnp.where(own > FLOOR * largest, own, largest)
    return 1.0 / jnp.sqrt(jnp.where(size > 0, size, 1.0))


def made_positive(matrix: jax.Array) -> jax.Array:
    """Return a scaled symmetric matrix with its eigenvalues replaced by their absolute values.

    A matrix that is positive definite already stays as it is, and costs one Cholesky factor. The
    eigenvalues come from a loop of one round at most: under vmap it is skipped unless some matrix
    needs it, where ``cond`` would always pay for it.
    """

    def mended(loop: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        values, vectors = jnp.linalg.eigh(loop[0], symmetrize_input=False)
        values = jnp.abs(values)
        values = jnp.maximum(values, FLOOR * values.max())
        return (vectors * values) @ vectors.T, jnp.asarray(True)

    factor = jax.lax.linalg.cholesky(matrix, symmetrize_input=False)
    # one that cannot be computed is NaN, which is not above; a minimum may lose it in a large batch
    is_positive = (jnp.diagonal(factor) ** 2 > FLOOR).all()
    positive, _ = jax.lax.while_loop(lambda v: ~v[1], mended, (matrix, is_positive))
    return jnp.asarray(positive)


def solve_positive(matrix: jax.Array, target: jax.Array) -> jax.Array:
    """Solve a positive definite system with a target of shape (n,)."""
    factor = jax.scipy.linalg.cho_factor(matrix, lower=True)
    return jnp.asarray(jax.scipy.linalg.cho_solve(factor, target))


def within(
    solve: Callable[[jax.Array, jax.Array], jax.Array],
    slope: Callable[[jax.Array], jax.Array],
    held: jax.Array,
    lower: jax.Array,
    upper: jax.Array,
) -> jax.Array:
    """Return a step within bounds to the minimum of a convex quadratic model, or close to it.

    A primal-dual active set: entries that leave the box are fixed at the bound that they cross,
    those that the model pulls back inside are released, and the others are found anew
    (Hintermüller, Ito and Kunisch 2002, doi:10.1137/S1052623401383558). It nearly always ends
    after a few rounds, but may go in circles; then the Cauchy point is better.

    Args:
        solve: Called as ``solve(is_fixed, step)``, minimizes over the entries that are not fixed
            and keeps the others as in step.
        slope: Gradient of the model at a step.
        held: Entries that stay at zero, shape (n,).
        lower: Bounds on the step, at most zero.
        upper: At least zero.
    """

    def again(loop: Any) -> Any:
        fixed, step, _, n_rounds = loop
        found = solve(fixed, step)
        is_out = ~fixed & ((found < lower) | (found > upper))
        pull = slope(found)
        is_back = fixed & ~held & jnp.where(step <= lower, pull < 0, pull > 0)
        is_open = (is_out | is_back).any()
        return (fixed | is_out) & ~is_back, jnp.clip(found, lower, upper), is_open, n_rounds + 1

    def goes_on(loop: Any) -> jax.Array:
        _, _, is_open, n_rounds = loop
        return jnp.asarray(is_open & (n_rounds < _MAX_ROUNDS))

    nothing = jnp.zeros_like(lower)
    _, step, *_ = jax.lax.while_loop(goes_on, again, (held, nothing, jnp.asarray(True), 0))
    start = slope(nothing)
    downhill = jnp.where(held, 0.0, -start)
    bend = downhill @ (slope(downhill) - start)
    length = downhill @ downhill / jnp.where(bend > 0, bend, 1.0)
    cauchy = jnp.clip(length * downhill, lower, upper)
    # twice the value of the model
    is_worse = step @ (slope(step) + start) > cauchy @ (slope(cauchy) + start)
    return jnp.where(is_worse, cauchy, step)
