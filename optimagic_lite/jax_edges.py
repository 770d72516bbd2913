"""Solves that begin anew from a lower point where a transformation has deceived the solver."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from optimagic_lite.algorithms.jax_lanes import Lanes, Task
from optimagic_lite.algorithms.jax_pass import Carry, Status, first_largest, is_success
from optimagic_lite.compilation import PureFunction
from optimagic_lite.objective.tracing import Program
from optimagic_lite.space.edges import GAIN, N_POINTS, Edges
from optimagic_lite.space.traced import Numbers, TracedSpace, call_numpy

# how often a solve begins anew at most
MAX_ROUNDS = 20


class Look(NamedTuple):
    """What a look around a solution has found.

    Attributes:
        point: The lowest point, shape (n_x,); NaN if none lies lower.
        is_lower: Whether it lies lower than the solution.
        n_evaluations: Number of points.
    """

    point: Any
    is_lower: Any
    n_evaluations: Any


class Solution(NamedTuple):
    """Where a solve ended: the point, the criterion and a ``Status``."""

    x: Any
    f: Any
    status: Any


def look_around(
    space: TracedSpace,
    edges: Edges,
    value: Callable[[jax.Array], jax.Array],
    value_of_flat: Callable[[jax.Array], jax.Array],
    numbers: Numbers,
    solution: Carry | Solution,
) -> Look:
    """Look for a point that lies lower than a solution; pure JAX but for one call of NumPy.

    Args:
        space: Where to search.
        edges: Its blocks in which a solver could be caught.
        value: The criterion of x.
        value_of_flat: The criterion of params as a vector.
        numbers: Numbers of the space.
        solution: The end of a solve.
    """
    x, f = solution.x, solution.f
    flat = space.flat(x, numbers)
    gradient = jax.grad(value_of_flat)(flat)
    asked = space.unscaled(x, numbers), flat, gradient, f, is_success(solution.status)
    found = call_numpy(edges.points, (N_POINTS, space.n_x), *asked)
    points = jax.vmap(lambda x: space.scaled(x, numbers))(found)
    values = jax.vmap(value)(points)
    is_point = jnp.isfinite(points).all(axis=1)
    values = jnp.where(is_point & jnp.isfinite(values), values, jnp.inf)
    best = jnp.where(first_largest(-values)[:, None], points, 0.0).sum(axis=0)
    is_lower = values.min() < f - GAIN * jnp.maximum(1.0, jnp.abs(f))
    return Look(jnp.where(is_lower, best, jnp.nan), is_lower, is_point.sum())


def look_around_lanes(
    task: Task,
    around: Program,
    space: TracedSpace,
    edges: Edges,
    numbers: Numbers,
    *,
    has_own_numbers: bool,
    lanes: Lanes,
) -> Look:
    """Look for points that lie lower than the solutions of many runs; all arrays have a first axis.

    Args:
        task: The runs.
        around: The criterion of params as a vector, with the same data.
        space: Where to search.
        edges: Its blocks in which a solver could be caught.
        numbers: Numbers of the space.
        has_own_numbers: Whether those have a leading axis.
        lanes: Where the runs ended.
    """
    closed_over, kind = around.trace.consts, task.one_pass.kind
    n_own = len(task.program.data) - len(task.program.trace.consts)
    axes = (0, 0, 0, 0 if has_own_numbers else None, None, *task.axes[1])
    value_around = around.value

    def make(value: PureFunction) -> Callable[..., Look]:
        def look(
            x: jax.Array, f: jax.Array, status: jax.Array, numbers: Any, consts: Any, *data: Any
        ) -> Look:
            own = (*consts, *data[len(data) - n_own :])
            return look_around(
                space,
                edges,
                lambda x: jnp.asarray(kind.reduced(value(x, *data))),
                lambda flat: jnp.asarray(kind.reduced(value_around(flat, *own))),
                numbers,
                Solution(x, f, status),
            )

        return jax.vmap(look, in_axes=axes)

    key = "look around", edges.key, around.trace.signature, kind, axes
    arguments = (lanes.x, lanes.f, lanes.status, numbers, closed_over, *task.data)
    found = task.program.compile(key, make, *arguments, order=1)(*arguments)
    return Look(*map(np.array, found))


def solve_anew(
    solve: Callable[[jax.Array], Carry], look: Callable[[Carry], Look], x0: jax.Array
) -> Carry:
    """Solve, and again from lower points while there are any.

    Args:
        solve: Returns the end of a solve from a start; nothing happens from one that is NaN.
        look: Looks around a solution.
        x0: Start, shape (n_x,).
    """

    def looked(carry: Carry, n_rounds: Any) -> tuple[Carry, Look, Any]:
        found = look(carry)
        n_evaluations = carry.n_evaluations + found.n_evaluations
        return carry._replace(n_evaluations=n_evaluations), found, n_rounds

    def body(loop: tuple[Carry, Look, Any]) -> tuple[Carry, Look, Any]:
        before, found, n_rounds = loop
        return looked(joined(before, solve(found.point), found.is_lower), n_rounds + 1)

    def goes_on(loop: tuple[Carry, Look, Any]) -> jax.Array:
        _, found, n_rounds = loop
        return jnp.logical_and(found.is_lower, n_rounds < MAX_ROUNDS)

    carry, found, _ = jax.lax.while_loop(goes_on, body, looked(solve(x0), jnp.asarray(0)))
    status = jnp.where(found.is_lower, int(Status.DECEIVED), carry.status)
    return carry._replace(status=status)


def joined(before: Carry, after: Carry, is_new: Any) -> Carry:
    """Return a run that went on from a lower point, or as it was if it did not."""
    taken: Carry = jax.tree.map(lambda a, b: jnp.where(is_new, a, b), after, before)
    added = {
        name: getattr(before, name) + jnp.where(is_new, getattr(after, name), 0)
        for name in ("n_iterations", "n_evaluations", "n_failed")
    }
    return taken._replace(start=before.start, f_start=before.f_start, **added)
