"""Rows of evaluations on their way to a log, from the process of a run or from others."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from optimagic_lite.exceptions import LogError, NotInstalledError
from optimagic_lite.history import Kind, Task
from optimagic_lite.log.sink import ATTEMPT, PATIENCE, BufferSink, DatabaseSink, Sink
from optimagic_lite.log.statements import Kept, Row, as_text, holds_run
from optimagic_lite.log.store import Store
from optimagic_lite.log.tables import (
    MAX_STEP,
    encode,
    evaluation_id,
    rows_of_step,
    storable,
    stored_value,
)

# runs whose log took nothing at the end of the last step in this process: the next step does not
# wait for it as long again
_refused: set[tuple[str, int]] = set()


class RowWriter:
    """Write the evaluations of one step of a run; used from one thread.

    Args:
        sink: Where rows go.
        run_id: Number of the run in the file, from 1.
        step: 0, or the number of a local optimisation, from 1.
        n_rows: Number of rows that the step has already.
    """

    def __init__(self, sink: Sink, run_id: int, step: int = 0, n_rows: int = 0) -> None:
        self._sink = sink
        self.run_id = run_id
        self.step = step
        self._n_rows = n_rows

    def write(
        self,
        flat: NDArray[np.float64],
        fun: float | None,
        start: float,
        stop: float,
        task: Task,
        kind: Kind,
        batch: int,
        exception: str | None = None,
        violation: float | None = None,
        *,
        traceback: str | None = None,
        info: Any = None,
    ) -> None:
        """Write one evaluation; it is committed when this returns, unless that is impossible.

        Args:
            flat: Parameters, shape (n_params,).
            fun: Value in the user's sign. None if there is none; a value that is not finite is
                stored as a missing value whose exception says what it was.
            start: Seconds from the start of the run to the start of the evaluation.
            stop: The same for its end.
            task: What was evaluated.
            kind: Why it was evaluated.
            batch: Rows with the same number were evaluated together.
            exception: What went wrong; None if nothing did.
            violation: Largest violation of a native constraint beyond its tolerance.
            traceback: Of the exception, if there was one.
            info: What came along with the value, as JSON knows it.
        """
        what = kind, task, int(batch)
        row = self._row(
            self._n_rows, what, flat, fun, start, stop, exception, traceback, info, violation
        )
        self._n_rows += 1
        self._sink.insert(row)

    def write_many(
        self,
        flats: NDArray[np.float64],
        funs: NDArray[np.float64],
        starts: NDArray[np.float64],
        stops: NDArray[np.float64],
        task: Task,
        kind: Kind,
        batch: int,
        exceptions: Sequence[str | None] | None = None,
        violations: NDArray[np.float64] | None = None,
        *,
        tracebacks: Sequence[str | None] | None = None,
        infos: Sequence[Any] | None = None,
    ) -> None:
        """Write evaluations of one batch in one transaction: all of them or none.

        Args:
            flats: Parameters, shape (k, n_params).
            funs: Values in the user's sign, shape (k,).
            starts: Start times as in ``write``, shape (k,).
            stops: End times, shape (k,).
            task: What was evaluated.
            kind: Why it was evaluated.
            batch: Number of the batch.
            exceptions: What went wrong in each row; None if nothing did in any.
            violations: Largest violations as in ``write``, shape (k,).
            tracebacks: Of the exceptions, as in ``write``.
            infos: What came along with the values, as in ``write``.
        """
        nothing: list[None] = [None] * len(flats)
        beyond = nothing if violations is None else violations.tolist()
        columns = zip(
            flats, funs, starts, stops, exceptions or nothing, tracebacks or nothing,
            infos or nothing, beyond, strict=True,
        )  # fmt: skip
        what = kind, task, int(batch)
        rows = [self._row(self._n_rows + i, what, *column) for i, column in enumerate(columns)]
        self._n_rows += len(rows)
        self._sink.insert_many(rows)

    def _row(
        self,
        number: int,
        what: tuple[Kind, Task, int],
        flat: NDArray[np.float64],
        fun: float | None,
        start: float,
        stop: float,
        exception: str | None,
        traceback: str | None,
        info: Any,
        violation: float | None,
    ) -> Row:
        """Return the values of a row in the order of the columns of the table."""
        value, text = stored_value(fun, exception)
        key = evaluation_id(self.run_id, self.step, number)
        place = key, self.run_id, self.step, number
        head = *place, *what, value, float(start), float(stop), text
        noted = None if info is None else json.dumps(info)
        return (*head, storable(traceback), noted, violation, encode(flat))


@dataclass(frozen=True)
class StepLog:
    """Where a local optimisation logs; can be sent to another process.

    Args:
        store: The database.
        host: The machine on which the run began.
        run_id: Number of the run.
        started: When it began.
    """

    store: Store
    host: str
    run_id: int
    started: float

    @contextlib.contextmanager
    def open(self, step: int) -> Iterator[tuple[RowWriter, list[Kept]]]:
        """Open the log for the rows of a step, which may have rows of an attempt that broke off.

        Yields:
            The writer, and a list that at the end holds the rows that the process of the run has
            to add, because this one could not.

        Raises:
            LogError: If there are too many steps.
        """
        if step > MAX_STEP:
            raise LogError(f"A run can log {MAX_STEP:,} local optimisations, and this is {step:,}.")
        found = self._connect(step)
        if found is None:
            buffer = BufferSink()
            yield RowWriter(buffer, self.run_id, step), buffer.kept
            return
        connection, n_rows = found
        sink = DatabaseSink(self.store, connection, self.run_id, self.started)
        try:
            yield RowWriter(sink, self.run_id, step, n_rows), sink.kept
        finally:
            # the process of the run has the patience to try for longer
            is_written = sink.flush(0.0)
            (_refused.discard if is_written else _refused.add)(self._place)
            with contextlib.suppress(*self.store.errors):
                sink.connection.close()

    @property
    def _place(self) -> tuple[str, int]:
        return self.store.location, self.run_id

    def _connect(self, step: int) -> tuple[Any, int] | None:
        """Return a connection to the log of the run, and the number of the next row of a step.

        Returns None if the log cannot be reached from here.
        """
        if not self.store.is_shared_with(self.host):
            return None
        with contextlib.ExitStack() as stack:
            # on another machine the driver may be missing
            stack.enter_context(contextlib.suppress(NotInstalledError, *self.store.errors))
            patience = ATTEMPT if self._place in _refused else PATIENCE
            connection = self.store.connect(patience)
            stack.callback(connection.close)
            if holds_run(connection, self.run_id, self.started):
                n_rows = next_row(connection, self.run_id, step)
                stack.pop_all()
                return connection, n_rows
        return None


def next_row(connection: Any, run_id: int, step: int) -> int:
    """Return the number of the next row of a step."""
    of_step = as_text(rows_of_step(run_id, step))
    largest = connection.execute(f"SELECT max(id) FROM evaluations WHERE {of_step}").fetchone()[0]
    return 0 if largest is None else int(largest) + 1 - evaluation_id(run_id, step, 0)
