"""A whole solve with derivatives of its solution, compiled once."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from optimagic_lite.algorithms.jax_pass import (
    Box,
    Carry,
    Evaluation,
    Pass,
    Settings,
    Status,
    is_success,
)
from optimagic_lite.algorithms.jax_whole import Trace, solve, solve_traced
from optimagic_lite.compilation import PureFunction, closed_signature, evaluate, trace_function
from optimagic_lite.compilation import Trace as TracedFunction
from optimagic_lite.escape import STEEP
from optimagic_lite.implicit import Solved, differentiable
from optimagic_lite.jax_edges import Look, look_around, solve_anew
from optimagic_lite.objective.exact import hessian
from optimagic_lite.objective.tracing import Program
from optimagic_lite.space.edges import Edges
from optimagic_lite.space.traced import Start, TracedSpace


def solve_whole(
    program: Program,
    around: Program | None,
    one_pass: Pass,
    space: TracedSpace,
    start: Start,
    settings: Settings,
    length: int,
) -> tuple[Solved, jax.Array]:
    """Solve from a start, with data that may be traced.

    Args:
        program: The criterion of x.
        around: The criterion of params as a vector, where edges could deceive; else None.
        one_pass: The pass of the solver.
        space: Where to search.
        start: From where.
        settings: Numbers of the solver.
        length: Number of evaluations of a trace; 0 for none.

    Returns:
        The end, and the criterion there.
    """
    chart, charted = _chart(space, start)
    recipe = _Recipe(
        value_around=None if around is None else around.value,
        one_pass=one_pass,
        evaluate=one_pass.evaluate(program),
        space=space,
        edges=Edges(space.space),
        chart=None if chart is None else chart.jaxpr,
        n_own=len(program.data) - len(program.trace.consts),
        length=length,
    )
    key: list[Hashable] = ["whole solve", one_pass.key, length]
    if chart is not None:
        key.append(chart.signature)
    if around is not None:
        key += [recipe.edges.key, around.trace.signature]
    if program.trace.has_custom_rules:
        # derivatives of solutions take two of the criterion
        at = jnp.asarray(start.x), *program.data
        key.append(closed_signature(jax.make_jaxpr(hessian(program.value))(*at)))
    more = start.numbers, () if around is None else around.trace.consts
    arguments = (jnp.asarray(start.x), settings, charted, more, *program.data)
    compiled = program.compile(tuple(key), recipe.make, *arguments, order=1)
    return compiled(*arguments)  # type: ignore[no-any-return]


def _chart(space: TracedSpace, start: Start) -> tuple[TracedFunction | None, Any]:
    """Return the map from x to params and what it takes beyond x, where it may be redundant."""
    plan = space.space.plan
    if plan is None or not plan.blocks:
        return None, ()
    numbers, structure = jax.tree.flatten(start.numbers)

    def flat(x: jax.Array, *numbers: Any) -> jax.Array:
        return space.flat(x, jax.tree.unflatten(structure, numbers))

    found = trace_function(flat, jnp.asarray(start.x), *numbers)
    return found, (found.consts, tuple(jnp.asarray(value) for value in numbers))


@dataclass(frozen=True, eq=False)
class _Recipe:
    """What is compiled and kept: a solve without its data, which must not be kept alive.

    Args:
        value_around: The criterion of params as a vector, or None.
        one_pass: The pass of the solver.
        evaluate: Turns the criterion of x into evaluations.
        space: Where to search.
        edges: Its blocks in which a solver could be caught.
        chart: The program from x to params, or None.
        n_own: How many data both criteria share, at their ends.
        length: Number of evaluations of a trace; 0 for none.
    """

    value_around: PureFunction | None
    one_pass: Pass
    evaluate: Callable[[PureFunction], Callable[..., Evaluation]]
    space: TracedSpace
    edges: Edges
    chart: Any
    n_own: int
    length: int

    def make(self, value: PureFunction) -> Callable[..., tuple[Solved, jax.Array]]:
        """Return the function that is compiled, of ``value(x, *data)``."""
        evaluated, scalar = self.evaluate(value), self._reduced(value)

        def run(box: Box, arguments: Any, _: Any, data: Any) -> Solved:
            x0, settings, *more = arguments
            look = None if self.value_around is None else self._look(scalar, data, *more)
            return self._run(evaluated, x0, settings._replace(box=box), data, look)

        def of_x(x: jax.Array, charted: Any) -> jax.Array:
            consts, numbers = charted
            return jnp.asarray(evaluate(self.chart, consts, x, *numbers)[0])

        solution = differentiable(run, scalar, None if self.chart is None else of_x)

        def whole(x0: jax.Array, settings: Settings, charted: Any, more: Any, *data: Any) -> Any:
            solved = solution(settings.box, (x0, settings, *more), charted, data)
            return solved, scalar(solved.x, *data)

        return whole

    def _reduced(self, value: PureFunction) -> PureFunction:
        """Return the criterion as one number."""
        kind = self.one_pass.kind
        return lambda x, *data: jnp.asarray(kind.reduced(value(x, *data)))

    def _look(
        self, scalar: PureFunction, data: Any, numbers: Any, closed_over: Any
    ) -> Callable[[Carry], Look]:
        """Return what looks for points that lie lower than a solution."""
        assert self.value_around is not None
        of_flat = self._reduced(self.value_around)
        own = (*closed_over, *data[len(data) - self.n_own :])
        values = (lambda x: scalar(x, *data)), (lambda flat: of_flat(flat, *own))
        return partial(look_around, self.space, self.edges, *values, numbers)

    def _run(
        self,
        evaluated: Callable[..., Evaluation],
        x0: jax.Array,
        settings: Settings,
        data: tuple[Any, ...],
        look: Callable[[Carry], Look] | None,
    ) -> Solved:
        """Solve, with a trace if there is to be one."""
        trace: Trace | None = None

        def solve_from(x: jax.Array) -> Carry:
            return solve(self.one_pass, evaluated, x, settings, *data)

        if self.length:
            carry, trace = solve_traced(self.one_pass, evaluated, self.length, x0, settings, *data)
            if look is not None:
                # a trace has room for one solve
                status = jnp.where(look(carry).is_lower, int(Status.DECEIVED), carry.status)
                carry = carry._replace(status=status)
        else:
            carry = solve_from(x0) if look is None else solve_anew(solve_from, look, x0)
        norm = jnp.abs(settings.box.projected(carry.x, carry.g)).max()
        # small steps in front of a wall of NaN are no convergence
        is_steep = ~(norm <= STEEP * jnp.maximum(1.0, jnp.abs(carry.f)))
        is_small_step = (carry.status == Status.FTOL) | (carry.status == Status.XTOL)
        status = jnp.where(is_steep & is_small_step, int(Status.STALLED), carry.status)
        return Solved(
            x=carry.x,
            success=is_success(status),
            status=status,
            n_iterations=jnp.maximum(carry.n_iterations, 0),
            n_evaluations=carry.n_evaluations,
            gradient_norm=norm,
            trace=trace,
        )
