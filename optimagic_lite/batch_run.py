"""A batch that is being solved: its rows, limits and result."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from optimagic_lite.algorithms.jax_lanes import Lanes, Rows, Task, no_lanes, run_lanes
from optimagic_lite.algorithms.jax_pass import Status, is_success
from optimagic_lite.batch_problem import BatchProblem
from optimagic_lite.batch_result import BatchResult
from optimagic_lite.escape import STEEP
from optimagic_lite.exceptions import warn_user
from optimagic_lite.history import History, Kind
from optimagic_lite.jax_edges import MAX_ROUNDS, look_around_lanes
from optimagic_lite.log_options import LogOptions
from optimagic_lite.progress import BatchProgress
from optimagic_lite.resume import describe_problem
from optimagic_lite.space.edges import Edges
from optimagic_lite.space.trees import ParamTree, flatten_in_order
from optimagic_lite.stopping import Stop

if TYPE_CHECKING:
    from optimagic_lite.log.tables import FinalStatus
    from optimagic_lite.log.writer import LogWriter

Array = NDArray[np.float64]


@contextlib.contextmanager
def opened_bar(progress: bool, batch: BatchProblem) -> Iterator[BatchProgress | None]:
    """Show a bar, or None, until the batch has ended."""
    if not progress:
        yield None
        return
    bar = BatchProgress(batch.problem.algorithm.name, batch.inputs.n_runs)
    try:
        yield bar
    finally:
        bar.close()


@contextlib.contextmanager
def opened_log(options: LogOptions | None, batch: BatchProblem) -> Iterator[LogWriter | None]:
    """Open the log of a batch, or None, until it has ended."""
    if options is None:
        yield None
        return
    from optimagic_lite.log.writer import RunRecord, open_log

    problem, space = batch.problem, batch.space.space
    described = describe_problem(problem.described(space.tree.template))
    first = batch.flat(batch.task.x0[:1], np.zeros(1, dtype=np.intp))[0]
    record = RunRecord(
        direction=problem.direction,
        algorithm=problem.algorithm.name,
        algo_options=dataclasses.asdict(problem.algorithm),
        param_names=space.names,
        structure=space.tree.to_json(),
        start_params=first,
        derivatives={"kind": "exact", "reason": "JAX differentiates and compiles fun"},
        problem=described | {"runs of a batch": batch.inputs.n_runs},
    )
    with open_log(options, record) as log:
        yield log


class BatchRun:
    """A batch that is being solved.

    Args:
        batch: The runs.
        log: Where to log, or None.
        bar: Where to show how many have ended, or None.
        began: When the batch began, on the clock of ``time.perf_counter``.
        collects: Whether to keep histories.
    """

    def __init__(
        self,
        batch: BatchProblem,
        log: LogWriter | None,
        bar: BatchProgress | None,
        began: float,
        *,
        collects: bool,
    ) -> None:
        self._batch, self._log, self._bar, self._began = batch, log, bar, began
        n_runs, problem = batch.inputs.n_runs, batch.problem
        tree = batch.space.space.tree
        self.histories = [History(problem.direction, tree) for _ in range(n_runs * collects)]
        self._rows = None if log is None else log.lanes(n_runs)
        self._n_chunks = 0
        self._is_late = False

    def solve(self, devices: Sequence[Any], size: int) -> Lanes:
        """Solve all runs, as many at once as are asked for."""
        n_runs = self._batch.inputs.n_runs
        # parts of the same size share what is compiled
        size = math.ceil(n_runs / math.ceil(n_runs / size))
        ends: list[Lanes] = []
        try:
            for first in range(0, n_runs, size):
                runs = np.arange(first, min(first + size, n_runs))
                ends.append(self._solve_part(runs, devices[:size], size))
                if self._is_late:
                    break
        except KeyboardInterrupt as interrupt:
            reached = getattr(interrupt, "lanes", None)
            ends += [] if reached is None else [reached]
            interrupt.partial_result = self.result(self._joined(ends), "interrupted")  # type: ignore[attr-defined]
            raise
        return self._joined(ends)

    def _solve_part(self, runs: NDArray[np.intp], devices: Sequence[Any], size: int) -> Lanes:
        """Solve some runs, side by side in that many lanes."""
        task, report = self._batch.task.part(runs, devices, size), self._reporter(runs)
        record = partial(self._record, runs) if self._records else None
        lanes = run_lanes(task, record=record, report=report)
        try:
            self._solve_anew(lanes, runs, task, devices)
        except KeyboardInterrupt as interrupt:
            interrupt.lanes = lanes  # type: ignore[attr-defined]
            raise
        return lanes

    def _solve_anew(
        self, lanes: Lanes, runs: NDArray[np.intp], task: Task, devices: Sequence[Any]
    ) -> None:
        """Begin anew from lower points where a transformation has deceived the solver.

        Args:
            lanes: Where runs ended; changed.
            runs: Their numbers.
            task: They.
            devices: Where to run.
        """
        batch = self._batch
        if batch.around is None:
            return
        edges, numbers = Edges(batch.space.space), batch.starts.numbers
        report = self._reporter(runs)
        has_own = batch.inputs.starts is not None
        if has_own:
            numbers = jax.tree.map(lambda v: v[runs], numbers)
        for _ in range(MAX_ROUNDS):
            found = look_around_lanes(
                task,
                batch.around,
                batch.space,
                edges,
                numbers,
                has_own_numbers=has_own,
                lanes=lanes,
            )
            lanes.n_evaluations[:] += found.n_evaluations
            lower = np.flatnonzero(found.is_lower)
            if not len(lower):
                return
            # until they have ended again
            lanes.status[lower] = Status.RUNNING
            if self._is_late:
                return
            part = task.part(lower, devices, 1 << (len(lower) - 1).bit_length())
            part = dataclasses.replace(part, x0=found.point[lower])
            record = partial(self._record, runs[lower], goes_on=True) if self._records else None
            try:
                again = run_lanes(part, record=record, report=lambda _: report(len(runs)))
            except KeyboardInterrupt as interrupt:
                _go_on(lanes, lower, getattr(interrupt, "lanes", None))
                raise
            _go_on(lanes, lower, again)
        lanes.status[lower] = Status.DECEIVED

    @property
    def _records(self) -> bool:
        return bool(self.histories) or self._rows is not None

    def _joined(self, ends: list[Lanes]) -> Lanes:
        """Return the ends of all runs, those that did not begin included."""
        n_runs, n_x = self._batch.task.x0.shape
        n_begun = sum(len(part.f) for part in ends)
        rest = no_lanes(n_runs - n_begun, n_x)._replace(x=self._batch.task.x0[n_begun:])
        return Lanes(*(np.concatenate(part) for part in zip(*ends, rest, strict=True)))

    def _reporter(self, runs: NDArray[np.intp]) -> Callable[[int], bool]:
        """Return what is told how many of some runs have ended; all before them have."""
        return partial(self._report, int(runs[0]))

    def _report(self, n_before: int, n_ended: int) -> bool:
        """Show how many runs have ended; tell whether time is over."""
        if self._bar is not None:
            self._bar.update(n_before + n_ended)
        limit = self._batch.problem.algorithm.stopping_maxtime
        self._is_late = time.perf_counter() - self._began > limit
        return self._is_late

    def _record(self, runs: NDArray[np.intp], rows: Rows, *, goes_on: bool = False) -> None:
        """Keep the evaluations of a chunk; they share its time evenly.

        Args:
            runs: Numbers of the runs that are lanes.
            rows: The evaluations.
            goes_on: Whether these runs have begun before.
        """
        numbers = runs[rows.lane]
        flats = self._batch.flat(rows.x, numbers)
        funs = self._batch.sign * rows.f
        times = np.linspace(*rows.seconds, len(funs) + 1) - self._began
        kind: Kind = "start" if rows.is_start and not goes_on else "path"
        if self._rows is not None:
            self._rows.write(numbers, flats, funs, times, kind, self._n_chunks)
        if self.histories:
            funs = np.where(np.isfinite(funs), funs, np.nan)
            columns = zip(numbers.tolist(), flats, funs.tolist(), times, times[1:], strict=False)
            for run, flat, fun, start, stop in columns:
                history = self.histories[run]
                history.append(flat, fun, start, stop, "fun_and_jac", kind, self._n_chunks)
        self._n_chunks += 1

    def result(self, lanes: Lanes, status: FinalStatus = "complete") -> BatchResult:
        """Return the result, and close the log."""
        batch = self._batch
        problem, space = batch.problem, batch.space.space
        flats = batch.flat(lanes.x, np.arange(len(lanes.f)))
        box, size = batch.task.settings.box, np.maximum(1.0, np.abs(lanes.f))
        projected = box.projected(jnp.asarray(lanes.x), jnp.asarray(lanes.g))
        norm = np.abs(np.asarray(projected)).max(axis=1, initial=0.0)
        success = np.asarray(is_success(lanes.status))
        # it may have ended at the edge of where the criterion can be evaluated
        is_doubtful = success & (lanes.n_failed > 0) & ~(norm <= STEEP * size)
        codes = np.array([status.code for status in Status])[lanes.status]
        if self._is_late:
            codes = np.where(lanes.status == Status.RUNNING, Stop.MAXTIME.status, codes)
        found = BatchResult(
            params=_stacked(space.tree, flats),
            fun=batch.sign * lanes.f,
            start_fun=batch.sign * lanes.f_start,
            success=success & ~is_doubtful,
            status=codes,
            n_fun_evals=lanes.n_evaluations,
            n_failed_evals=lanes.n_failed,
            n_iterations=np.maximum(lanes.n_iterations, 0),
            gradient_norm=norm,
            flat_params=flats,
            param_names=space.names,
            algorithm=problem.algorithm.name,
            direction=problem.direction,
            elapsed=time.perf_counter() - self._began,
            histories=self.histories or None,
            log_path=None,
            log_run=None,
            _tree=space.tree,
            _messages=problem.messages,
            _is_doubtful=is_doubtful,
        )
        return found if self._log is None else self._closed(self._log, found, lanes, status)

    def _closed(
        self, log: LogWriter, found: BatchResult, lanes: Lanes, status: FinalStatus
    ) -> BatchResult:
        """Write how the runs ended, and close the log."""
        from optimagic_lite.log.steps import StepRecord

        messages, x0 = found.message, self._batch.task.x0
        log.add_steps(
            [
                StepRecord(
                    step=run + 1,
                    stop_time=found.elapsed,
                    success=bool(found.success[run]),
                    message=messages[run],
                    status=int(found.status[run]),
                    n_iterations=int(found.n_iterations[run]),
                    fun=float(found.fun[run]),
                    violation=0.0,
                    counts=dict.fromkeys(("n_fun", "n_jac"), int(found.n_fun_evals[run])),
                    info={},
                    arrays={"start": x0[run], "origin": x0[run], "best_x": lanes.x[run]},
                )
                for run in range(len(found))
            ]
        )
        best = self._batch.sign * np.nanmin([*(self._batch.sign * found.fun), np.inf])
        success = bool(found.success.all())
        trouble = log.finish(
            status, success=success, message=found.summary.replace("\n", " "), fun=float(best)
        )
        if trouble is not None:
            warn_user(trouble)
        path, number = log.place
        return dataclasses.replace(found, log_path=path, log_run=number)


def _go_on(lanes: Lanes, places: NDArray[np.intp], again: Lanes | None) -> None:
    """Take over what runs that had ended have come to since; None if they did not go on."""
    if again is None:
        return
    for name in ("x", "f", "g", "status"):
        getattr(lanes, name)[places] = getattr(again, name)
    for name in ("n_iterations", "n_evaluations", "n_failed"):
        getattr(lanes, name)[places] += getattr(again, name)


def _stacked(tree: ParamTree, flats: Array) -> Any:
    """Return params whose leaves have a leading axis."""
    leaves = [flats[:, f.start : f.stop].reshape(len(flats), *f.shape) for f in tree.leaves]
    _, rebuild = flatten_in_order(tree.template)
    return rebuild(leaves)
