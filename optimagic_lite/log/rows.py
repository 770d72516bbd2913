"""Rows of evaluations on their way to a log: into the file, or kept for another process."""

from __future__ import annotations

import contextlib
import json
import platform
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray
from sqlalchemy.dialects import sqlite as sqlite_dialect

from optimagic_lite.exceptions import LogError
from optimagic_lite.history import Kind, Task
from optimagic_lite.log.files import BUSY_TIMEOUT, connect_for_writing, tune_connection
from optimagic_lite.log.tables import (
    MAX_STEP,
    encode,
    evaluation_id,
    evaluations,
    rows_of_step,
    storable,
    stored_value,
)

_ROW = ("id", "run_id", "step", "row", "kind", "task", "batch", "fun", "start_time", "stop_time",
        "exception", "traceback", "info", "violation", "params")  # fmt: skip
_INSERT = str(sa.insert(evaluations).compile(dialect=sqlite_dialect.dialect(), column_keys=_ROW))

Row = tuple[Any, ...]


class Sink(Protocol):
    """Where rows go."""

    def insert(self, row: Row) -> None:
        """Take a row; it is committed when this returns, if this is a file."""
        ...  # pragma: no cover

    def insert_many(self, rows: list[Row]) -> None:
        """Take rows in one transaction."""
        ...  # pragma: no cover


class FileSink:
    """Rows go straight into a file; each call commits.

    Args:
        path: The file.
        connection: Of the sqlite3 module, without transactions of its own.
    """

    def __init__(self, path: Path, connection: Any) -> None:
        self._path = path
        self._connection = connection

    def insert(self, row: Row) -> None:
        """Add a row.

        Raises:
            LogError: If it cannot be added.
        """
        try:
            self._connection.execute(_INSERT, row)
        except sqlite3.Error as error:
            raise log_failure("An evaluation could not be added", self._path, error) from error

    def insert_many(self, rows: list[Row]) -> None:
        """Add rows in one transaction: all of them or none.

        Raises:
            LogError: If they cannot be added.
        """
        try:
            with self._connection:
                self._connection.execute("BEGIN IMMEDIATE")
                self._connection.executemany(_INSERT, rows)
        except sqlite3.Error as error:
            what = "A batch of evaluations could not be added"
            raise log_failure(what, self._path, error) from error


class BufferSink:
    """Rows are kept in memory, for a process that can reach the file."""

    def __init__(self) -> None:
        self.rows: list[Row] = []

    def insert(self, row: Row) -> None:
        """Keep a row."""
        self.rows.append(row)

    def insert_many(self, rows: list[Row]) -> None:
        """Keep rows."""
        self.rows.extend(rows)


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
        """Write one evaluation; it is committed when this returns.

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

        Raises:
            LogError: If the row cannot be written.
        """
        what = kind, task, int(batch)
        row = self._row(
            self._n_rows, what, flat, fun, start, stop, exception, traceback, info, violation
        )
        self._sink.insert(row)
        self._n_rows += 1

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

        Raises:
            LogError: If the rows cannot be written.
        """
        nothing: list[None] = [None] * len(flats)
        beyond = nothing if violations is None else violations.tolist()
        columns = zip(
            flats, funs, starts, stops, exceptions or nothing, tracebacks or nothing,
            infos or nothing, beyond, strict=True,
        )  # fmt: skip
        what = kind, task, int(batch)
        rows = [self._row(self._n_rows + i, what, *column) for i, column in enumerate(columns)]
        self._sink.insert_many(rows)
        self._n_rows += len(rows)

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
    ) -> tuple[Any, ...]:
        """Return the values of a row in the order of the insert statement."""
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
        path: The file.
        host: The machine on which it lies.
        run_id: Number of the run in the file.
        fast_logging: See ``SQLiteLogOptions``.
    """

    path: Path
    host: str
    run_id: int
    fast_logging: bool

    @contextlib.contextmanager
    def open(self, step: int) -> Iterator[tuple[RowWriter, list[Row]]]:
        """Open the log for the rows of a step, which may have rows of an attempt that broke off.

        Yields:
            The writer, and a list of the rows that the process that began the run has to add,
            because the file is on its machine and not on this one.

        Raises:
            LogError: If the file cannot be opened.
        """
        if step > MAX_STEP:
            raise LogError(f"A run can log {MAX_STEP:,} local optimisations, and this is {step:,}.")
        if platform.node() != self.host:
            # SQLite cannot be shared by machines, not on a network drive either
            sink = BufferSink()
            yield RowWriter(sink, self.run_id, step), sink.rows
            return
        try:
            connection = connect_for_writing(self.path)
        except sqlite3.Error as error:
            raise log_failure("A local optimisation could not open", self.path, error) from error
        try:
            tune_connection(connection, fast_logging=self.fast_logging)
            query = sa.select(sa.func.count()).where(rows_of_step(self.run_id, step))
            text = str(query.compile(compile_kwargs={"literal_binds": True}))
            n_rows = connection.execute(text).fetchone()[0]
            yield RowWriter(FileSink(self.path, connection), self.run_id, step, n_rows), []
        finally:
            connection.close()


def log_failure(what: str, path: Path, error: Exception) -> LogError:
    """Return the error that says what could not be written, and what to look at."""
    return LogError(
        f"{what} to {path}: {getattr(error, 'orig', error)}. See that the disk has room, "
        f"that the file may be written and that no other program keeps it locked for longer "
        f"than {BUSY_TIMEOUT:g} seconds."
    )
