"""One local optimisation, in this process or in another one."""

from __future__ import annotations

import contextlib
import os
import time
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
from numpy.typing import NDArray

from optimagic_lite.algorithms.base import Outcome, Solves, run
from optimagic_lite.exceptions import UserFunctionRuntimeError
from optimagic_lite.history import History
from optimagic_lite.parallel import TaskFailure
from optimagic_lite.prepared import Prepared
from optimagic_lite.result import OptimizeResult
from optimagic_lite.tally import Tally

if TYPE_CHECKING:
    from optimagic_lite.log.rows import RowWriter, StepLog
    from optimagic_lite.log.statements import Kept

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class LocalTask:
    """A local optimisation that is to be run.

    Args:
        number: Its number, from 1.
        start: Where it begins, shape (n_x,).
        origin: The explored point of which the start is made, shape (n_x,).
        before: What was counted and found before.
    """

    number: int
    start: Array
    origin: Array
    before: Tally


# message, category, file and line
Warned = tuple[str, type[Warning], str, int]


@dataclass(frozen=True, eq=False)
class LocalRun:
    """What a local optimisation gave.

    Args:
        number: Its number, from 1.
        start: Where it began, shape (n_x,).
        origin: The explored point of which the start was made, shape (n_x,).
        tally: Counts and best point.
        history: Its evaluations, or None.
        outcome: What the solver reported; None if it failed.
        result: The same in the user's words.
        failure: Why it failed, or None.
        is_fatal: Whether the failure is one that no policy for failures mends.
        rows: Rows of the log that this process could not write.
        warnings: Those of another process.
    """

    number: int
    start: Array
    origin: Array
    tally: Tally
    history: History | None = None
    outcome: Outcome | None = None
    result: OptimizeResult | None = None
    failure: TaskFailure | None = None
    is_fatal: bool = False
    rows: list[Kept] = field(default_factory=list)
    warnings: tuple[Warned, ...] = ()


@dataclass(frozen=True, eq=False)
class LocalSolver:
    """Runs local optimisations, in this process or in another one.

    Args:
        prepared: The problem.
        log: Where to log, or None.
        began: When the whole run began, in seconds since 1970.
        pid: Process of the whole run.
        ahead: Algorithms that know the solve of a local optimisation, by its number.
    """

    prepared: Prepared
    log: StepLog | None
    began: float
    pid: int
    ahead: Mapping[int, Solves] = field(default_factory=dict)

    def __call__(self, task: LocalTask) -> LocalRun:
        """Optimise locally."""
        if os.getpid() == self.pid:
            return self._solve(task)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            found = self._solve(task)
        warned = ((str(w.message), w.category, w.filename, w.lineno) for w in caught)
        return replace(found, warnings=tuple(dict.fromkeys(warned)))

    def _solve(self, task: LocalTask) -> LocalRun:
        number, x0 = task.number, task.start
        with jax.enable_x64(True), self._open(number) as (log, rows):
            history = self.prepared.history()
            offset = time.time() - self.began
            evaluator = self.prepared.evaluator(
                history=history, log=log, offset=offset, before=task.before, x0=x0
            )

            def ended(**what: Any) -> LocalRun:
                tally = evaluator.tally()
                return LocalRun(number, x0, task.origin, tally, history, rows=rows, **what)

            try:
                algorithm = self.ahead.get(number, self.prepared.problem.algorithm)
                outcome = run(algorithm, evaluator)
            except KeyboardInterrupt as interrupt:
                interrupt.local_run = ended()  # type: ignore[attr-defined]
                raise
            except Exception as error:
                is_fatal = not isinstance(error, UserFunctionRuntimeError)
                return ended(failure=TaskFailure.of(error), is_fatal=is_fatal)
            result = self.prepared.result(evaluator, outcome, history)
            return ended(outcome=outcome, result=result)

    @contextlib.contextmanager
    def _open(self, number: int) -> Iterator[tuple[RowWriter | None, list[Kept]]]:
        if self.log is None:
            yield None, []
        else:
            with self.log.open(number) as opened:
                yield opened
