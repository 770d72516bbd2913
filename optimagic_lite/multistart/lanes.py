"""Local optimisations of a batch side by side, where the algorithm runs inside JAX.

They are solved ahead, in one compiled call. Then each is run as any other, by an algorithm that
already knows what it will evaluate: rows, limits, callbacks and judgement are those of all runs.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from optimagic_lite.algorithms.base import AlgoInfo, Outcome
from optimagic_lite.algorithms.jax_lanes import Rows, Task, run_lanes
from optimagic_lite.algorithms.jax_loop import JaxAlgorithm, Solved, replay
from optimagic_lite.algorithms.jax_pass import NO_LIMIT, Box, Pass, Settings
from optimagic_lite.multistart.local import LocalTask
from optimagic_lite.prepared import Prepared

if TYPE_CHECKING:
    from optimagic_lite.evaluator import Evaluator

Array = NDArray[np.float64]


class Replay:
    """An algorithm whose first solve has been made ahead.

    Args:
        algorithm: The algorithm.
        solved: What its solve came to.
    """

    def __init__(self, algorithm: JaxAlgorithm, solved: Solved) -> None:
        self._algorithm = algorithm
        self._solved: Solved | None = solved

    @property
    def name(self) -> str:
        """Name of the algorithm."""
        return self._algorithm.name

    @property
    def algo_info(self) -> AlgoInfo:
        """What the algorithm can do."""
        return self._algorithm.algo_info

    def solve(self, evaluator: Evaluator, x0: Array) -> Outcome:
        """Record what was evaluated ahead; solve where the run begins anew."""
        solved, self._solved = self._solved, None
        return self._algorithm.solve(evaluator, x0) if solved is None else replay(evaluator, solved)


@dataclass(frozen=True, eq=False)
class SideBySide:
    """Solves the tasks of a batch at once.

    Args:
        prepared: The problem; its algorithm runs inside JAX.
        tasks: The local optimisations.
    """

    prepared: Prepared
    tasks: Sequence[LocalTask]

    def solve(self) -> dict[int, Replay]:
        """Return, by number of the local optimisation, the algorithm that knows its solve."""
        algorithm, began = self.prepared.problem.algorithm, time.perf_counter()
        assert isinstance(algorithm, JaxAlgorithm)
        chunks: list[Rows] = []

        def is_late(_: int) -> bool:
            return time.perf_counter() - began > algorithm.stopping_maxtime

        lanes = run_lanes(self._task, record=chunks.append, report=is_late)
        # the starts are evaluated by each run itself
        rows = chunks[1:]
        lane, xs, fs = (
            np.concatenate([getattr(r, name) for r in rows]) for name in ("lane", "x", "f")
        )
        seconds = time.perf_counter() - began
        return {
            task.number: Replay(
                algorithm,
                Solved(
                    xs=xs[lane == i],
                    fs=fs[lane == i],
                    x=lanes.x[i],
                    f=float(lanes.f[i]),
                    g=lanes.g[i],
                    n_iterations=int(lanes.n_iterations[i]),
                    status=int(lanes.status[i]),
                    seconds=seconds,
                ),
            )
            for i, task in enumerate(self.tasks)
        }

    @cached_property
    def _task(self) -> Task:
        prepared = self.prepared
        algorithm, objective, space = prepared.problem.algorithm, prepared.objective, prepared.space
        assert isinstance(algorithm, JaxAlgorithm)
        assert objective.program is not None
        errors, sign = prepared.problem.errors, objective.sign
        settings = Settings(
            algorithm.tolerances(),
            Box(space.lower, space.upper),
            maxiter=min(algorithm.stopping_maxiter, NO_LIMIT),
            maxfun=min(algorithm.stopping_maxfun, NO_LIMIT),
            penalty_constant=np.nan if errors.constant is None else sign * errors.constant,
            penalty_slope=0.1 if errors.slope is None else sign * errors.slope,
        )
        return Task(
            program=objective.program,
            one_pass=Pass(algorithm.stepper(), objective.kind, replace_failures=not errors.raises),
            x0=np.array([task.start for task in self.tasks]),
            settings=settings,
            data=objective.program.data,
            is_own=tuple(False for _ in objective.program.data),
        )
