"""Derivatives of a solution with respect to data, by the implicit function theorem.

At a solution the projected gradient is zero whatever the data. With F the entries of x that no
bound holds, ``H_FF dx_F = -d(g_F)``, where H is the Hessian and d(g_F) the change of the gradient
that the data cause, and ``dx = 0`` in all other entries (Fiacco 1976, doi:10.1007/BF01580677).
Nothing of the solver is differentiated. The rule is itself made of differentiable functions, so
that derivatives nest.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.sparse.linalg import cg

from optimagic_lite.algorithms.jax_pass import Box
from optimagic_lite.compilation import PureFunction
from optimagic_lite.exceptions import NotAvailableError

# number of entries of x up to which the Hessian is made; beyond, only products with it
_DENSE = 500
# the same where different x mean the same params: products alone do not tell which do
_DENSE_REDUNDANT = 2_000
# smallest eigenvalue of the scaled Hessian, relative to the largest, that counts as positive
_REGULAR = 1e-13
# what is left of an equation solved by products, relative to its right-hand side
_RESIDUAL = 1e-10
# steps of conjugate gradients at most, in multiples of the number of entries
_CG_STEPS = 10
# singular values of the map from x to params, relative to the largest, that count as zero
_RANK = 1e-9

Chart = Callable[[jax.Array], jax.Array] | None


class Solved(NamedTuple):
    """The end of a solve.

    Attributes:
        x: The last iterate, shape (n,).
        success: Whether it is a solution.
        status: A ``Status``.
        n_iterations: Accepted steps.
        n_evaluations: The start included.
        gradient_norm: Largest entry of the projected gradient.
        trace: All evaluations, or None.
    """

    x: Any
    success: Any
    status: Any
    n_iterations: Any
    n_evaluations: Any
    gradient_norm: Any
    trace: Any = None


def differentiable(
    solve: Callable[..., Solved], value: PureFunction, chart: Callable[..., jax.Array] | None
) -> Callable[..., Solved]:
    """Return a solve whose x can be differentiated with respect to data, to any order.

    Where the solve failed, derivatives are NaN. So they are where the Hessian in the free entries
    is not positive definite: the solution is no function of the data then. Beyond 500 entries
    this is noticed only if no move fulfils the equations.

    Args:
        solve: Called as ``solve(box, arguments, charted, data)``.
        value: The criterion, called as ``value(x, *data)``.
        chart: Called as ``chart(x, charted)``, gives the params as a vector; None if different x
            always mean different params. Directions that do not move params need no curvature.

    Returns:
        A function of the same arguments.
    """

    @jax.custom_jvp
    def function(box: Box, arguments: Any, charted: Any, data: tuple[Any, ...]) -> Solved:
        with jax.enable_x64(True):
            return solve(box, arguments, charted, data)

    @function.defjvp
    def rule(primals: Any, tangents: Any) -> tuple[Solved, Solved]:
        box, _, charted, data = primals
        with jax.enable_x64(True):
            out = function(*primals)
            of_x: Chart = None if chart is None else lambda x: chart(x, charted)
            data_dot = _spoiled(tangents[-1], out.success)
            dx = _spoiled(_tangent(value, of_x, out.x, box, data, data_dot), out.success)
            return out, jax.tree.map(_no_tangent, out)._replace(x=dx)

    return function


def _spoiled(tangents: Any, success: jax.Array) -> Any:
    """Return NaN if a solve failed.

    It is done to what goes in and to what comes out, because bounds cut the way between; and by a
    product, whose transpose is NaN too.
    """

    def spoil(v: Any) -> Any:
        is_number = v.dtype != jax.dtypes.float0
        return v * jnp.where(success, 1.0, jnp.nan).astype(v.dtype) if is_number else v

    return jax.tree.map(spoil, tangents)


def _no_tangent(primal: jax.Array) -> Any:
    if jnp.issubdtype(primal.dtype, jnp.floating):
        return jnp.zeros_like(primal)
    return np.zeros(primal.shape, dtype=jax.dtypes.float0)


def _tangent(
    value: PureFunction, chart: Chart, x: jax.Array, box: Box, data: Any, data_dot: Any
) -> jax.Array:
    """Return the change of a solution that a change of the data causes."""
    gradient = jax.grad(value)
    g, g_dot = jax.jvp(lambda *data: gradient(x, *data), data, data_dot)
    free = jax.lax.stop_gradient(box.is_free(x, g))
    target = jnp.where(free, -g_dot, 0.0)
    if len(x) <= (_DENSE if chart is None else _DENSE_REDUNDANT):
        return _by_hessian(jax.hessian(value)(x, *data), chart, x, free, target)
    return _by_products(
        lambda v: jax.jvp(lambda x: gradient(x, *data), (x,), (v,))[1], free, target
    )


def _by_hessian(
    hessian: jax.Array, chart: Chart, x: jax.Array, free: jax.Array, target: jax.Array
) -> jax.Array:
    matrix = jnp.where(free[:, None] & free, hessian, 0.0) + jnp.diag(jnp.where(free, 0.0, 1.0))
    if chart is not None:
        matrix += jax.lax.stop_gradient(_idle(chart, x, free, hessian))
    matrix = (matrix + matrix.T) / 2
    # units of parameters are not to matter
    size = jax.lax.stop_gradient(jnp.sqrt(jnp.abs(jnp.diag(matrix))))
    size = jnp.where(size > 0, size, 1.0)
    scaled = matrix / size[:, None] / size
    values, vectors = jnp.linalg.eigh(jax.lax.stop_gradient(scaled))
    is_regular = values[0] > _REGULAR * values[-1]
    values = jnp.where(is_regular, values, jnp.nan)

    def solve(_: Any, target: jax.Array) -> jax.Array:
        return jnp.asarray(vectors @ ((target @ vectors) / values))

    return jnp.where(free, _linear_solve(lambda v: scaled @ v, target / size, solve) / size, 0.0)


def _idle(
    chart: Callable[[jax.Array], jax.Array], x: jax.Array, free: jax.Array, hessian: jax.Array
) -> jax.Array:
    """Return curvature in the directions that do not move params, so that there is no move."""
    jacobian = jnp.where(free, jax.jacfwd(chart)(x), 0.0)
    _, values, rows = jnp.linalg.svd(jacobian, full_matrices=True)
    values = jnp.pad(values, (0, len(x) - len(values)))
    idle = rows * (values <= _RANK * values[0])[:, None]
    projector = jnp.where(free[:, None] & free, idle.T @ idle, 0.0)
    # of the size of the rest
    return projector * jnp.maximum(jnp.abs(hessian).max(), float(np.finfo(np.float64).tiny))


def _by_products(
    product: Callable[[jax.Array], jax.Array], free: jax.Array, target: jax.Array
) -> jax.Array:
    """Solve by conjugate gradients; NaN where they do not come to an end."""

    def masked(v: jax.Array) -> jax.Array:
        return jnp.where(free, product(jnp.where(free, v, 0.0)), v)

    def solve(product: Callable[[jax.Array], jax.Array], target: jax.Array) -> jax.Array:
        most, tol = _CG_STEPS * len(target), _RESIDUAL / 100
        found, _ = cg(product, target, tol=tol, maxiter=most)  # type: ignore[no-untyped-call]
        left = jnp.linalg.norm(product(found) - target)
        is_solved = left <= _RESIDUAL * jnp.linalg.norm(target)
        return jnp.where(is_solved, found, jnp.nan)

    return jnp.where(free, _linear_solve(masked, target, solve), 0.0)


def _linear_solve(
    product: Callable[[jax.Array], jax.Array],
    target: jax.Array,
    solve: Callable[[Any, jax.Array], jax.Array],
) -> jax.Array:
    """Solve a symmetric system; its derivatives are systems with the same matrix."""
    return jnp.asarray(jax.lax.custom_linear_solve(product, target, solve, symmetric=True))


@jax.custom_jvp
def not_differentiable(tree: Any) -> Any:
    """Return a tree of arrays; an error says why it cannot be differentiated."""
    return tree


@not_differentiable.defjvp
def _refuse(_: Any, __: Any) -> Any:
    raise NotAvailableError(
        "Solutions are differentiated in double precision only, because JAX takes transposes in "
        "the precision of whoever asks. Put jax.config.update('jax_enable_x64', True) at the top, "
        "or ask inside of jax.enable_x64(True)."
    )
