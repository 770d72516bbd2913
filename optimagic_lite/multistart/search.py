"""Global optimisation by local optimisations from many starts.

The algorithm is TikTak (Arnoud, Guvenen and Kleineberg 2019, doi:10.3386/w26340): explore a sample,
start from the best points first, and move later starts towards the best optimum so far.
"""

from __future__ import annotations

import contextlib
import math
import os
import time
import warnings
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from optimagic_lite.algorithms.base import Outcome
from optimagic_lite.algorithms.jax_loop import JaxAlgorithm
from optimagic_lite.evaluator import Evaluator
from optimagic_lite.exceptions import UserFunctionRuntimeError, warn_user
from optimagic_lite.history import History, MultistartHistory
from optimagic_lite.multistart.info import MultistartInfo
from optimagic_lite.multistart.lanes import Replay, SideBySide
from optimagic_lite.multistart.local import LocalRun, LocalSolver, LocalTask, Warned
from optimagic_lite.multistart.sample import BATCH_SIZE, Sample
from optimagic_lite.multistart.saved import has_ended, local_run_of, record_of
from optimagic_lite.parallel import TaskFailure, WorkerDiedError
from optimagic_lite.prepared import Prepared
from optimagic_lite.resume import Earlier, warn_if_other
from optimagic_lite.space.sampling import to_x_rows
from optimagic_lite.stopping import Stop, StopRun
from optimagic_lite.tally import Tally

if TYPE_CHECKING:
    from optimagic_lite.log.writer import LogWriter

Array = NDArray[np.float64]

_XTOL_REL = 0.01
# below this, sizes of parameters count as this when optima are compared
_LEAST_SIZE = 0.1
# one value may be computed in different ways: in a batch, or with its gradient
_ROUNDING = 1e-10
# points of a JAX criterion that are explored in one call
_JAX_CHUNK = 1 << 14
# seconds of an exploration after which it is recorded, so that little is lost if the process dies:
# on one core hardly any point more than the one under way; on several all must wait for the last
_SECONDS_HERE = 1e-3
_SECONDS_SPREAD = 0.5


class Multistart:
    """A multistart run.

    Args:
        prepared: The problem.
        sample: Where to look.
        explorer: Evaluates the start and the sample, and adds up what local optimisations count.
        exploration: The explorer's history, or None.
        log: Where the run is logged, or None.
        earlier: What the log says of it, if it is resumed, or None.
    """

    def __init__(
        self,
        prepared: Prepared,
        sample: Sample,
        explorer: Evaluator,
        exploration: History | None,
        log: LogWriter | None,
        earlier: Earlier | None = None,
    ) -> None:
        assert prepared.problem.multistart is not None
        self._options = prepared.problem.multistart
        self._prepared = prepared
        self._sample = sample
        self._explorer = explorer
        self._exploration = exploration
        self._log = log
        self._earlier = earlier
        self._began = time.time() if log is None else log.started
        self._runs: list[LocalRun] = []
        self._warned: set[Warned] = set()

    def run(self, plain_value: Any, seconds: float) -> Outcome:
        """Explore and optimise.

        Args:
            plain_value: What ``fun`` returned at the start, to be minimized.
            seconds: How long that took.

        Raises:
            UserFunctionRuntimeError: If the start, all points of the exploration, or all local
                optimisations fail, or anything does and errors are to be raised.
        """
        try:
            self._explorer.start(plain_value, seconds)
            if self._earlier is not None:
                warn_if_other(self._explorer.start_fun, self._earlier.start_fun)
            if not self._prepared.space.n_x:
                return Outcome(True, "No parameter is free.")
            self._explore()
        except StopRun as stop:
            return Outcome(False, str(stop), stop.stop.status)
        xs, _ = _ranked(*self._explored)
        if not len(xs):
            raise self._nothing_explored()
        self._optimize(xs)
        return self._outcome()

    # ---- exploration -----------------------------------------------------------------------

    def _explore(self) -> None:
        """Evaluate the sample, in chunks."""
        explorer, cores, xs = self._explorer, self._options.cores, self._sample.xs
        is_jax = explorer.objective.program is not None
        size, first = _JAX_CHUNK if is_jax else cores.n_cores, 0
        enough = _SECONDS_SPREAD if cores.is_spread else _SECONDS_HERE
        if self._earlier is not None:
            first = self._take_explored(self._earlier)
        while first < len(xs):
            clock = time.perf_counter()
            explorer.explore(xs[first : first + size], cores)
            first += size
            if not is_jax and time.perf_counter() - clock < enough:
                size *= 2

    def _take_explored(self, earlier: Earlier) -> int:
        """Take over what was explored before the run was resumed.

        Returns:
            How many points of the sample that is, the first ones.
        """
        space, sign = self._prepared.space, self._prepared.objective.sign
        history = earlier.histories[0]
        at = [i for i, kind in enumerate(history.kind) if kind == "exploration"]
        flats = history.flat_at(np.array(at, dtype=np.intp)).reshape(len(at), len(space.names))
        values, violations = (np.array(column)[at] for column in (history.fun, history.violation))
        n_known = count_leading(space.to_flat_rows(self._sample.xs[: len(at)]), flats)
        xs = np.concatenate([self._sample.xs[:n_known], to_x_rows(space, flats[n_known:])])
        # of another sample; open forms of constraints and bounds cannot reach all of them
        is_same = _are_same(space.to_flat_rows(xs), flats)
        self._explorer.take_explored(xs[is_same], sign * values[is_same], violations[is_same])
        return n_known

    def _nothing_explored(self) -> UserFunctionRuntimeError:
        where = "between the (soft) bounds" if self._options.sample is None else "there"
        return UserFunctionRuntimeError(
            f"All {len(self._sample.xs)} points of the exploration failed. See that fun can be "
            f"evaluated {where}."
        )

    @property
    def _explored(self) -> tuple[Array, Array, Array]:
        """Points, values and violations of the exploration so far."""
        explorer = self._explorer
        parts = list(explorer.explored)
        if self._sample.with_start and math.isfinite(explorer.start_fun):
            at_start = np.array([explorer.objective.sign * explorer.start_fun])
            violation = np.array([explorer.start_violation])
            parts.insert(0, (explorer.space.x0[None], at_start, violation))
        nothing = np.empty((0, explorer.space.n_x)), np.empty(0), np.empty(0)
        xs, values, violations = zip(nothing, *parts, strict=True)
        return np.concatenate(xs), np.concatenate(values), np.concatenate(violations)

    # ---- local optimisations ---------------------------------------------------------------

    def _optimize(self, xs: Array) -> None:
        """Optimise in batches, from the best points first, until the run has converged.

        Args:
            xs: Explored points, the best first, shape (k, n_x).
        """
        options = self._options
        n_runs = min(len(self._sample.weights), len(xs))
        if n_runs < (options.stopping_maxopt or 0):
            warn_user(
                f"Explored points that did not fail: {len(xs)}. So local optimisations are "
                f"{n_runs} at most, instead of {options.stopping_maxopt}."
            )
        steps = None if self._log is None else self._log.steps()
        solver = LocalSolver(self._prepared, steps, self._began, os.getpid())
        size = options.batch_size or BATCH_SIZE
        ended = self._ended_before()
        origins = _origins(xs, n_runs, ended)
        for first in range(0, n_runs, size):
            best = xs[0] if self.best is None else self.best.tally.best_x
            before = self._explorer.tally()
            numbers = range(first, min(first + size, n_runs))
            tasks = [
                LocalTask(
                    i + 1,
                    self._mixed(self._sample.weights[i], best, origins[i]),
                    origins[i],
                    before,
                )
                for i in numbers
                if i + 1 not in ended
            ]
            self._run_batch(solver, tasks, [ended[i + 1] for i in numbers if i + 1 in ended])
            if self._is_stopped or self.n_discoveries >= options.convergence_max_discoveries:
                break

    def _mixed(self, weight: float, best: Array, x: Array) -> Array:
        space = self._prepared.space
        # of equal points the mixture is that point, despite rounding
        return np.asarray(np.clip(x + weight * (best - x), space.lower, space.upper))

    def _ended_before(self) -> dict[int, LocalRun]:
        """Return the local optimisations, by number, that ended before the run was resumed."""
        if self._earlier is None:
            return {}
        prepared, histories = self._prepared, self._earlier.histories
        return {
            number: local_run_of(record, prepared, histories[number])
            for number, record in self._earlier.steps.items()
        }

    def _run_batch(
        self, solver: LocalSolver, tasks: list[LocalTask], ended: list[LocalRun]
    ) -> None:
        """Run local optimisations; take them over in their order, so that cores do not matter.

        Args:
            solver: Runs one.
            tasks: Those to be run.
            ended: Those of the same batch that ended before the run was resumed.
        """
        done = {found.number: found for found in ended}
        solver = replace(solver, ahead=self._solved_ahead(tasks))
        try:
            with contextlib.closing(self._options.cores.as_completed(solver, tasks)) as results:
                for i, found in results:
                    received = self._received(tasks[i], found)
                    done[received.number] = received
                    self._pass_on(received)
                    if self._log is not None:
                        self._log.add(received.rows)
                    self._raise(received)
                    self._save(received)
                    # on other cores it has begun, and what it evaluates counts
                    if _is_stopped(received) and not self._options.cores.is_spread:
                        break
        except KeyboardInterrupt as interrupt:
            interrupted = getattr(interrupt, "local_run", None)
            if interrupted is not None:
                done[interrupted.number] = interrupted
                if self._log is not None:
                    self._log.add(interrupted.rows)
            raise
        finally:
            for _, found in sorted(done.items()):
                self._runs.append(found)
                self._explorer.absorb(found.tally)

    def _solved_ahead(self, tasks: list[LocalTask]) -> dict[int, Replay]:
        """Solve tasks side by side where the algorithm runs inside JAX, on this core."""
        is_inside = isinstance(self._prepared.problem.algorithm, JaxAlgorithm)
        if not is_inside or self._options.cores.is_spread or len(tasks) < 2:
            return {}
        # not everything that JAX compiles can be batched, a callback for one
        with contextlib.suppress(Exception):
            return SideBySide(self._prepared, tasks).solve()
        return {}

    def _received(self, task: LocalTask, found: LocalRun | TaskFailure) -> LocalRun:
        """Return the record of a local optimisation, wherever it ran and however it ended."""
        if isinstance(found, TaskFailure):
            # the worker died again and again, or could not even begin
            nothing = Tally(0, 0, 0, 0, 0, 0, task.start, np.inf, np.inf, None, False)
            is_fatal = not isinstance(found.exception, WorkerDiedError)
            return LocalRun(
                task.number, task.start, task.origin, nothing, failure=found, is_fatal=is_fatal
            )
        if found.result is None:
            return found
        return replace(found, result=self._prepared.with_inference(found.result))

    def _pass_on(self, found: LocalRun) -> None:
        """Show warnings of another process here, each once, where the user's filters see them."""
        for warning in found.warnings:
            if warning not in self._warned:
                self._warned.add(warning)
                warnings.warn_explicit(*warning)

    def _save(self, found: LocalRun) -> None:
        """Note in the log that a local optimisation need not be repeated."""
        if self._log is not None and has_ended(found):
            stop_time = time.time() - self._began
            self._log.add_steps([record_of(found, self._prepared, stop_time)])

    def _raise(self, found: LocalRun) -> None:
        """Raise what made a local optimisation fail, if that ends the run."""
        raises = found.is_fatal or self._options.error_handling == "raise"
        if found.failure is not None and raises:
            raise found.failure.exception

    # ---- what is known so far --------------------------------------------------------------

    @property
    def _optima(self) -> list[LocalRun]:
        """The local optimisations that did not fail."""
        return [found for found in self._runs if found.outcome is not None]

    @property
    def _is_stopped(self) -> bool:
        """Whether a callback has stopped a local optimisation."""
        return any(map(_is_stopped, self._runs))

    @property
    def best(self) -> LocalRun | None:
        """The local optimisation with the best optimum, if one did not fail."""
        return min(self._optima, key=lambda found: found.tally.rank, default=None)

    @property
    def n_discoveries(self) -> int:
        """How often the best optimum was found."""
        if self.best is None:
            return 0
        xs = np.array([found.tally.best_x for found in self._optima])
        flats = self._prepared.space.to_flat_rows(xs)
        best = self._prepared.space.to_flat(self.best.tally.best_x)
        xtol = self._options.convergence_xtol_rel
        return count_close(flats, best, _XTOL_REL if xtol is None else xtol)

    @property
    def history(self) -> History | None:
        """The history of the best local optimisation."""
        return self._explored_rows if self.best is None else self.best.history

    @property
    def _explored_rows(self) -> History | None:
        """The history of the exploration, with what was there before the run was resumed."""
        if self._exploration is None or self._earlier is None:
            return self._exploration
        return self._earlier.histories[0].joined([self._exploration])

    @property
    def info(self) -> MultistartInfo:
        """What the result says of the parts of the run."""
        prepared, explored = self._prepared, self._explored
        xs, values = _ranked(*explored)
        shape = len(self._optima), prepared.space.n_x
        starts = np.reshape([found.start for found in self._optima], shape)
        local = [found.history for found in self._runs if found.history is not None]
        return MultistartInfo(
            local_optima=[found.result for found in self._optima if found.result is not None],
            failures=[_last_line(found.failure) for found in self._runs if found.failure],
            exploration_results=(prepared.objective.sign * values).tolist(),
            n_discoveries=self.n_discoveries,
            n_explored=len(explored[0]),
            history=None
            if self._explored_rows is None
            else MultistartHistory(self._explored_rows, tuple(local)),
            _tree=prepared.space.tree,
            _starts=prepared.space.to_flat_rows(starts),
            _sample=prepared.space.to_flat_rows(xs),
        )

    def _outcome(self) -> Outcome:
        """Return the outcome of the best local optimisation, as that of the whole run."""
        best = self.best
        if best is None or best.outcome is None:
            raise self._all_failed()
        n_iterations = [found.outcome.n_iterations for found in self._optima if found.outcome]
        known = [n for n in n_iterations if n is not None]
        outcome = replace(best.outcome, n_iterations=sum(known) if known else None)
        if self._is_stopped:
            stop = Stop.CALLBACK
            return replace(outcome, success=False, message=stop.text(), status=stop.status)
        if self._is_lower_elsewhere(best):
            message = (
                "No local optimum is as low as the best point that was evaluated, which may be the "
                "start, one of the exploration, or of a local optimisation that failed."
            )
            return replace(outcome, success=False, message=message, x=None)
        message = f"{self._reason()} The solver said of the best one: {best.outcome.message}"
        return replace(outcome, message=message)

    def _is_lower_elsewhere(self, best: LocalRun) -> bool:
        """Whether a point outside of all optima lies lower than the best, by more than rounding."""
        violation, f = best.tally.rank
        rounding = _ROUNDING * max(1.0, abs(f))
        found = self._explorer.best_violation, self._explorer.best_f + rounding
        return found < (violation, f)

    def _reason(self) -> str:
        """Return why there were no further local optimisations."""
        n, n_found = len(self._runs), self.n_discoveries
        if n_found >= self._options.convergence_max_discoveries:
            return f"The best optimum was found often enough ({n_found}) to end multistart."
        if n_found == 1 < n:
            return (
                f"Only one of {n} local optimisations found the best optimum; more of them "
                "(stopping_maxopt, n_samples) may find a better one."
            )
        return f"{n_found} of {n} local optimisations found the best optimum."

    def _all_failed(self) -> UserFunctionRuntimeError:
        failures = [found.failure for found in self._runs if found.failure is not None]
        error = UserFunctionRuntimeError(
            f"All local optimisations failed, {len(self._runs)} of them. The first one: "
            f"{failures[0].exception}"
        )
        error.params = getattr(failures[0].exception, "params", None)
        error.__cause__ = failures[0].exception
        return error


def _ranked(xs: Array, values: Array, violations: Array) -> tuple[Array, Array]:
    """Return points that did not fail, and values: of the most feasible ones the lowest first."""
    order = np.lexsort((values, violations))
    order = order[np.isfinite(values[order])]
    return xs[order], values[order]


def _origins(xs: Array, n_runs: int, ended: dict[int, LocalRun]) -> list[Array]:
    """Return the explored point of each local optimisation: the best that none has begun with yet.

    Args:
        xs: Explored points, the best first, shape (k, n_x).
        n_runs: Number of local optimisations.
        ended: Those that ended before the run was resumed, by number.
    """
    taken = {found.origin.tobytes() for found in ended.values()}
    left = (x for x in xs if x.tobytes() not in taken)
    # if bits differ after all, one point more may be needed than is left
    return [
        ended[number].origin if number in ended else next(left, xs[number - 1])
        for number in range(1, n_runs + 1)
    ]


def _is_stopped(found: LocalRun) -> bool:
    """Tell whether a callback has ended a local optimisation."""
    return found.outcome is not None and found.outcome.status == Stop.CALLBACK.status


def count_leading(points: Array, others: Array) -> int:
    """Return how many rows, from the first on, are the same up to rounding; shapes (k, n)."""
    n = min(len(points), len(others))
    is_same = _are_same(points[:n], others[:n])
    return n if is_same.all() else int(np.argmin(is_same))


def _are_same(points: Array, others: Array) -> NDArray[np.bool_]:
    """Tell which rows are the same up to rounding; shapes (k, n)."""
    is_close = np.isclose(points, others, rtol=_ROUNDING, atol=_ROUNDING)
    return np.asarray(is_close.all(axis=1))


def count_close(points: Array, point: Array, xtol_rel: float) -> int:
    """Return how many points are as good as equal to one.

    Args:
        points: Shape (k, n).
        point: Shape (n,).
        xtol_rel: Largest Euclidean norm of relative differences.
    """
    relative = (points - point) / np.maximum(np.abs(point), _LEAST_SIZE)
    return int((np.linalg.norm(relative, axis=1) <= xtol_rel).sum())


def _last_line(failure: TaskFailure) -> str:
    return f"{type(failure.exception).__name__}: {failure.exception}"
