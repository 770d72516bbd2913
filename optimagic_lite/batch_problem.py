"""The runs of a batch, ready to be solved side by side."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from optimagic_lite.algorithms.jax_lanes import Task
from optimagic_lite.algorithms.jax_pass import Pass
from optimagic_lite.batch_inputs import BatchInputs
from optimagic_lite.compilation import compile_once
from optimagic_lite.exceptions import (
    InvalidBoundsError,
    InvalidFunctionError,
    InvalidParamsError,
)
from optimagic_lite.jax_problem import JaxProblem, read_data
from optimagic_lite.objective.tracing import Program
from optimagic_lite.space.edges import Edges
from optimagic_lite.space.traced import Start, TracedSpace
from optimagic_lite.space.trees import flatten_in_order

Array = NDArray[np.float64]

# bytes of the states and data of lanes that run at once, where the device says nothing
_MEMORY = 1 << 30
# share of the memory of a device that they may take if it says how much it has; evaluations need
# room as well
_SHARE = 8


@dataclass(frozen=True, eq=False)
class BatchProblem:
    """All runs, ready to be solved.

    Args:
        problem: What they share.
        inputs: What differs.
        space: Where they search.
        starts: Where they begin; x has shape (n_runs, n_x), and what differs between runs has a
            leading axis.
        task: The same for the solver.
        around: The criterion of params as a vector, where edges could deceive the solver; or None.
    """

    problem: JaxProblem
    inputs: BatchInputs
    space: TracedSpace
    starts: Start
    task: Task
    around: Program | None

    @property
    def sign(self) -> float:
        """1 to minimize, -1 to maximize."""
        return self.task.program.sign

    def flat(self, xs: Any, runs: Any) -> Array:
        """Return params as vectors.

        Args:
            xs: Points, shape (r, n_x).
            runs: To which runs they belong, shape (r,).
        """
        if not len(xs) or (self.space.space.plan is None and self.space.scaling is None):
            return np.asarray(xs)
        # the number of points is part of the program: rounding it up bounds the number of programs
        padding = (1 << (len(xs) - 1).bit_length()) - len(xs)
        xs, runs = (np.concatenate([v, np.repeat(v[-1:], padding, axis=0)]) for v in (xs, runs))
        numbers, structure = jax.tree.flatten(self.starts.numbers)
        has_own = self.inputs.starts is not None
        numbers = [jnp.asarray(v)[runs] if has_own else jnp.asarray(v) for v in numbers]

        def flat(x: jax.Array, *numbers: jax.Array) -> jax.Array:
            return self.space.flat(x, jax.tree.unflatten(structure, numbers))

        function = jax.vmap(flat, in_axes=(0, *[0 if has_own else None] * len(numbers)))
        found = compile_once(function, xs, *numbers)(xs, *numbers)
        return np.asarray(found)[: len(xs) - padding]


def make_batch(problem: JaxProblem, inputs: BatchInputs) -> BatchProblem:
    """Make all runs ready.

    Raises:
        OptimagicError: The subclass for what is wrong.
    """
    has_starts = inputs.starts is not None
    with _named(0, inputs):
        space = problem.space(inputs.params, inputs.example, for_all_starts=has_starts)
    starts = _starts(problem, space, inputs)
    first = jax.tree.map(lambda v: v[0], starts) if has_starts else starts
    try:
        program, kind = problem.program(space, first, (), inputs.example)
    except (TypeError, jax.errors.JAXTypeError) as error:
        reason = (str(error).strip().splitlines() or [""])[0]
        raise InvalidFunctionError(
            f"JAX cannot trace fun: {type(error).__name__}: {reason}. Runs of a batch are compiled "
            "as one, so write fun with jax.numpy, or loop over minimize."
        ) from error
    task = Task(
        program=program,
        one_pass=Pass(problem.algorithm.stepper(), kind),
        x0=np.broadcast_to(np.asarray(starts.x), (inputs.n_runs, space.n_x)),
        settings=problem.settings(starts.lower, starts.upper),
        **_data(program, starts, inputs),
    )
    around = None
    if Edges(space.space):
        around, _ = problem.program(space, first, (), inputs.example, of_flat=True)
    return BatchProblem(problem, inputs, space, starts, task, around)


def _starts(problem: JaxProblem, space: TracedSpace, inputs: BatchInputs) -> Start:
    """Return where runs begin; with starts of their own, all of it has a leading axis."""
    if inputs.starts is None:
        return space.start(inputs.params)
    starts: Start = jax.tree.map(np.asarray, jax.vmap(space.start_at)(jnp.asarray(inputs.starts)))
    tree = space.space.tree
    is_bad = np.isnan(starts.x).any(axis=1) | problem.is_outside(tree, inputs.starts)
    for run in np.flatnonzero(is_bad)[:1].tolist():
        with _named(run, inputs):
            problem.space(tree.to_params(inputs.starts[run]))
    return starts


@contextlib.contextmanager
def _named(run: int, inputs: BatchInputs) -> Iterator[None]:
    """Say of which start an error speaks."""
    try:
        yield
    except (InvalidParamsError, InvalidBoundsError) as error:
        if inputs.starts is None:
            raise
        raise type(error)(f"Start {run} of batch: {error}") from error


def _data(program: Program, starts: Start, inputs: BatchInputs) -> dict[str, Any]:
    """Return the data of a program for all runs, and which of them have a leading axis."""
    leaves, places, _ = read_data((), inputs.example)
    is_own, has_starts = inputs.is_own, inputs.starts is not None
    own = iter(flatten_in_order(inputs.own)[0])
    stacked = [next(own) if flag else leaf for leaf, flag in zip(leaves, is_own, strict=True)]
    numbers = jax.tree.leaves(starts.numbers)
    n_closed_over = len(program.data) - len(numbers) - len(places)
    given = (*numbers, *(stacked[i] for i in places))
    data = (*program.data[:n_closed_over], *map(jnp.asarray, given))
    flags = [False] * n_closed_over + [has_starts] * len(numbers) + [is_own[i] for i in places]
    return {"data": data, "is_own": tuple(flags)}


def n_fitting(task: Task, devices: Sequence[Any]) -> int:
    """Return how many lanes fit into the memory of all devices."""
    own = [leaf for leaf, flag in zip(task.data, task.is_own, strict=True) if flag]
    n_bytes = sum(leaf.nbytes for leaf in own) / len(task.x0)
    n_bytes += task.bytes_of_lane()
    stats = devices[0].memory_stats() or {}
    memory = stats["bytes_limit"] // _SHARE if "bytes_limit" in stats else _MEMORY
    return max(1, int(memory * len(devices) / n_bytes))
