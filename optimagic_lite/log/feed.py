"""What a live view shows of a run, kept up to date by reading only the rows that are new."""

from __future__ import annotations

import secrets
from collections import deque
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray

from optimagic_lite.log.feed_parts import Best, Failure, ParamsPoints, Step
from optimagic_lite.log.feed_rows import (
    KINDS,
    Rows,
    read_header,
    read_messages,
    read_params,
    read_rows,
    require_run,
)
from optimagic_lite.log.run_states import RunState
from optimagic_lite.log.store import Store
from optimagic_lite.log.tables import decode, evaluation_id, steps
from optimagic_lite.log.thinning import Monotone, Rate, Thinned

# What is kept for plots, and so many numbers at most in points with parameters.
_MAX_POINTS = 3_000
_MAX_PARAMS_POINTS = 1_000
_MIN_PARAMS_POINTS = 16
_MAX_PARAMS_NUMBERS = 8_000_000
_MAX_IMPROVEMENTS = 1_000
_MAX_FAILURES = 30
_ROWS_PER_LOOK = 500_000

_DERIVATIVE = KINDS.index("derivative")


class _News(NamedTuple):
    """What one look at the log brought: new rows, and all steps that have ended."""

    rows: Rows
    ended: list[Any]
    is_complete: bool


class RunFeed:
    """One run of a log, as a live view needs it.

    ``refresh`` reads the rows that came since the last time: of each step those with larger keys
    than the largest one seen. What is kept is bounded: counts, improvements, every k-th point,
    parameters of fewer of them, the last failures.

    Evaluations have numbers, from 0, in the order in which they were read, and those of one
    refresh in the order in which they ended. Points of difference quotients are counted, and
    have no number.

    Args:
        store: The database.
        state: Which run.

    Attributes:
        state: As given.
        token: No other feed has the same.
        version: Changes whenever anything else does.
        names: Names of the parameters.
        start: Start parameters, shape (n_params,).
        counts: Number of evaluations of each kind.
        n_failed: Number of those that went wrong.
        failures: The last of them, as they ended.
        last_time: When the last evaluation ended, in seconds from the start of the run.
        rate: How fast evaluations end.
        best: The best feasible evaluation; None as long as there is none.
        best_params: Its parameters, shape (n_params,); None as long as there is none.
        by_number: The best value so far over the numbers of evaluations.
        by_time: The best value so far over the seconds from the start of the run.
        points: Every k-th evaluation: ``fun`` (NaN if it has none), ``time``, ``step`` and
            ``kind`` (a position in ``KINDS``).
        params_points: Every k-th evaluation, for another k, with its parameters.
        steps: What is known of each step, by its number.

    Raises:
        LogError: If the log cannot be read.
    """

    def __init__(self, store: Store, state: RunState) -> None:
        self._store = store
        self.state = state
        self._sign = 1 if state.direction == "minimize" else -1
        header = store.ask(lambda connection: read_header(connection, state))
        self.names: list[str] = header.param_names
        self.start = decode([header.start_params], len(self.names))[0]
        self.token = secrets.token_hex(8)
        self.version = 0
        self.counts = dict.fromkeys(KINDS, 0)
        self.n_failed = 0
        self.failures: list[Failure] = []
        self.last_time = 0.0
        self.rate = Rate()
        self.best: Best | None = None
        self.best_params: NDArray[np.float64] | None = None
        self.by_number = Monotone(self._sign, _MAX_IMPROVEMENTS)
        self.by_time = Monotone(self._sign, _MAX_IMPROVEMENTS)
        self.points = Thinned(_MAX_POINTS, {"fun": float, "time": float, "step": int, "kind": int})
        self.params_points = ParamsPoints()
        self.steps: dict[int, Step] = {}
        self._last_ids: dict[int, int] = {}
        self._closed: set[int] = set()
        self._with_params = Thinned(_params_capacity(len(self.names)), {"id": int, "time": float})
        self._vectors: dict[int, NDArray[np.float64]] = {}
        self._failed: deque[tuple[int, int, float]] = deque(maxlen=_MAX_FAILURES)

    @property
    def n_evaluations(self) -> int:
        """Number of evaluations of all kinds."""
        return sum(self.counts.values())

    def refresh(self) -> None:
        """Read what is new.

        Raises:
            LogError: If the log cannot be read, or was replaced. What was read before is kept.
        """
        is_complete = False
        while not is_complete:
            news = self._store.ask(self._look)
            self._take(news)
            is_complete = news.is_complete
        self._read_details()

    def _look(self, connection: sa.Connection) -> _News:
        require_run(connection, self.state)
        # before the rows: those of a step are there when the log says that it has ended
        of_run = sa.select(steps.c.step, steps.c.success).where(steps.c.run_id == self.state.run_id)
        ended = list(connection.execute(of_run))
        rows = read_rows(connection, self._ranges(), _ROWS_PER_LOOK)
        return _News(rows, ended, is_complete=len(rows.id) < _ROWS_PER_LOOK)

    def _ranges(self) -> Iterator[tuple[int, int]]:
        """Yield keys between which new rows may be: in steps that go on, and after them all."""
        run_id = self.state.run_id
        n_steps = max(self._last_ids, default=-1) + 1
        for step in range(n_steps):
            # steps of several processes do not begin in the order of their numbers
            if step not in self._closed:
                first = evaluation_id(run_id, step, 0)
                yield self._last_ids.get(step, first - 1), evaluation_id(run_id, step + 1, 0)
        yield evaluation_id(run_id, n_steps, 0) - 1, evaluation_id(run_id + 1, 0, 0)

    def _take(self, news: _News) -> None:
        rows = news.rows
        if len(rows.id):
            self.version += 1
            # keys ascend within a step, so the last one is its largest
            self._last_ids |= dict(zip(rows.step.tolist(), rows.id.tolist(), strict=True))
            in_time = rows.at(np.argsort(rows.time, kind="stable"))
            self._count(in_time)
            self._note_values(in_time.at(in_time.kind != _DERIVATIVE))
        for number, success in news.ended:
            step = self.steps.setdefault(number, Step(number))
            if step.is_finished and news.is_complete:
                # also before the look before this one, so that nothing more can come
                self._closed.add(number)
            if not step.is_finished:
                step.is_finished, step.success = True, success
                self.version += 1

    def _count(self, rows: Rows) -> None:
        for kind, n in zip(KINDS, np.bincount(rows.kind, minlength=len(KINDS)), strict=True):
            self.counts[kind] += int(n)
        self.last_time = max(self.last_time, float(rows.time[-1]))
        self.rate.add(rows.time)
        failed = rows.at(rows.failed)
        self.n_failed += len(failed.id)
        columns = (
            column[-_MAX_FAILURES:].tolist() for column in (failed.id, failed.step, failed.time)
        )
        self._failed.extend(zip(*columns, strict=True))

    def _note_values(self, rows: Rows) -> None:
        numbers = np.arange(len(rows.id)) + self.points.n_seen
        candidates, places = rows.at(rows.is_candidate), numbers[rows.is_candidate]
        self.by_number.add(places.astype(float), candidates.fun)
        self.by_time.add(candidates.time, candidates.fun)
        if len(places):
            i = int(np.argmin(self._sign * candidates.fun))
            fun = float(candidates.fun[i])
            if self.best is None or self._sign * fun < self._sign * self.best.fun:
                place = int(places[i]), float(candidates.time[i]), int(candidates.step[i])
                self.best = Best(int(candidates.id[i]), fun, *place)
                self.best_params = None
        self.points.add(rows._asdict() | {"step": rows.step})
        self._with_params.add(rows._asdict())
        for number, of_step in _split_by(rows.step):
            self._note_step(self.steps.setdefault(number, Step(number)), rows.at(of_step))

    def _note_step(self, step: Step, rows: Rows) -> None:
        step.n_evaluations += len(rows.id)
        step.last_time = max(step.last_time, float(rows.time[-1]))
        values = rows.fun[np.isfinite(rows.fun)].tolist()
        if step.first is None:
            step.first = next(iter(values), None)
        known = [] if step.best is None else [step.best]
        candidates = [*known, *rows.fun[rows.is_candidate].tolist()]
        step.best = min(candidates, key=lambda fun: self._sign * fun, default=None)

    def _read_details(self) -> None:
        """Read the parameters and messages of those rows that are kept and lack them."""
        kept = self._with_params
        wanted = kept.columns["id"].tolist()
        keys = {key for key in wanted if key not in self._vectors}
        if self.best is not None and self.best_params is None:
            keys.add(self.best.id)
        known = {failure.id: failure.message for failure in self.failures}
        failed = [key for key, *_ in self._failed if key not in known]
        if not keys and not failed:
            return

        def ask(connection: sa.Connection) -> tuple[dict[int, Any], dict[int, str]]:
            vectors = read_params(connection, keys, len(self.names))
            return vectors, read_messages(connection, failed)

        vectors, messages = self._store.ask(ask)
        if self.best is not None and self.best_params is None:
            self.best_params = vectors[self.best.id]
        vectors |= self._vectors
        self._vectors = {key: vectors[key] for key in wanted}
        times = kept.columns["time"].astype(float)
        self.params_points = ParamsPoints(
            kept.stride, kept.numbers, times, list(self._vectors.values())
        )
        messages |= known
        self.failures = [Failure(*row, messages[row[0]]) for row in self._failed]


def _params_capacity(n_params: int) -> int:
    """Return how many points with parameters are kept, so that their numbers fit into memory."""
    fitting = _MAX_PARAMS_NUMBERS // max(n_params, 1)
    return min(max(fitting, _MIN_PARAMS_POINTS), _MAX_PARAMS_POINTS)


def _split_by(labels: NDArray[np.int64]) -> Iterator[tuple[int, NDArray[np.int64]]]:
    """Yield each label and the positions at which it stands, in ascending order."""
    order = np.argsort(labels, kind="stable")
    numbers, starts = np.unique(labels[order], return_index=True)
    yield from zip(numbers.tolist(), np.split(order, starts[1:]), strict=True)
