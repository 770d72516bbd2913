"""The writer of one run: every row is committed before ``write`` returns."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import sqlite3
import sys
import threading
import time
import weakref
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray
from sqlalchemy.dialects import sqlite as sqlite_dialect

from optimagic_lite.exceptions import LogError
from optimagic_lite.history import Direction, Kind, Task, jsonable
from optimagic_lite.log.files import (
    BUSY_TIMEOUT,
    checkpoint_until,
    connect_for_writing,
    prepare,
    tune,
)
from optimagic_lite.log.tables import (
    FinalStatus,
    create,
    encode,
    evaluation_id,
    evaluations,
    holds_log,
    page_size,
    runs,
    storable,
    stored_value,
)
from optimagic_lite.options import SQLiteLogOptions

_LIBRARIES = ("optimagic_lite", "jax", "numpy", "scipy", "nlopt", "optimistix", "optax")

_ROW = ("id", "run_id", "row", "kind", "task", "batch", "fun", "start_time", "stop_time",
        "exception", "traceback", "info", "violation", "params")  # fmt: skip
_INSERT = str(sa.insert(evaluations).compile(dialect=sqlite_dialect.dialect(), column_keys=_ROW))


@dataclass(frozen=True)
class RunRecord:
    """What is known of a run before its first evaluation.

    Args:
        direction: "minimize" or "maximize".
        algorithm: Name of the algorithm.
        algo_options: All its options; values that JSON does not know are stored as their repr.
        param_names: Names of the entries of the flat vector.
        structure: Description of params that ``ParamTree.from_json`` reads.
        start_params: Flat start parameters, shape (n_params,).
        derivatives: Which derivatives are used ("kind") and why ("reason").
    """

    direction: Direction
    algorithm: str
    algo_options: dict[str, Any]
    param_names: list[str]
    structure: str
    start_params: NDArray[np.float64]
    derivatives: dict[str, str]


class LogWriter:
    """Write the evaluations of one run to a log; used from one thread.

    Args:
        options: Where and how to write.
        run: What is known of the run. It is added to the file with the status "running".

    Attributes:
        path: Absolute path of the file.
        run_id: Number of the run in the file, from 1.

    Raises:
        TableExistsError: If the file exists and ``if_database_exists="raise"``.
        LogError: If the folder does not exist, the file is no log, or it cannot be written.

    Example:
        >>> run = RunRecord("minimize", "scipy_lbfgsb", {}, ["a"], '{"type": "float"}',
        ...                 np.zeros(1), {"kind": "exact", "reason": "JAX"})
        >>> writer = LogWriter(SQLiteLogOptions("run.db"), run)
        >>> writer.write(np.zeros(1), 1.5, 0.0, 0.1, "fun", "start", 0)
        >>> writer.finish("complete", success=True, message="converged", fun=1.5)
    """

    def __init__(self, options: SQLiteLogOptions, run: RunRecord) -> None:
        self.path = Path(options.path).absolute()
        prepare(self.path, options.if_database_exists)
        engine = sa.create_engine(
            "sqlite://", creator=partial(connect_for_writing, self.path), poolclass=sa.NullPool
        )
        with self._translated("The run could not be added"):
            self._connection = engine.connect()
            self._raw: Any = self._connection.connection.driver_connection
            try:
                self.run_id = self._add_run(run, fast_logging=options.fast_logging)
            except BaseException:
                self._connection.close()
                raise
        self._n_rows = 0
        self._is_open = True
        self._stop = threading.Event()
        # the thread knows the path only, so that a writer that is dropped can end it
        weakref.finalize(self, self._stop.set)
        self._checkpoints = threading.Thread(
            target=checkpoint_until, args=(self.path, self._stop), daemon=True
        )
        self._checkpoints.start()

    def _add_run(self, run: RunRecord, *, fast_logging: bool) -> int:
        # a stranger's file must be refused before anything in it is changed
        holds_log(self._raw, self.path)
        tune(self._raw, fast_logging=fast_logging, page_size=page_size(len(run.start_params)))
        self._raw.execute("BEGIN IMMEDIATE")
        if not holds_log(self._raw, self.path):
            create(self._connection)
        inserted = self._connection.execute(
            sa.insert(runs),
            {
                "status": "running",
                "pid": os.getpid(),
                "host": platform.node(),
                "started": time.time(),
                "direction": run.direction,
                "algorithm": run.algorithm,
                "algo_options": jsonable(run.algo_options),
                "param_names": list(run.param_names),
                "structure": run.structure,
                "start_params": encode(run.start_params),
                "derivatives": jsonable(run.derivatives),
                "versions": _versions(),
            },
        )
        self._connection.commit()
        return inserted.lastrowid

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
        try:
            self._raw.execute(_INSERT, row)
        except sqlite3.Error as error:
            raise self._failure("An evaluation could not be added", error) from error
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
        with self._translated("A batch of evaluations could not be added"), self._raw:
            self._raw.execute("BEGIN IMMEDIATE")
            self._raw.executemany(_INSERT, rows)
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
        key = evaluation_id(self.run_id, number)
        head = key, self.run_id, number, *what, value, float(start), float(stop), text
        noted = None if info is None else json.dumps(info)
        return (*head, storable(traceback), noted, violation, encode(flat))

    def finish(
        self, status: FinalStatus, *, success: bool | None, message: str | None, fun: float | None
    ) -> None:
        """Mark the run as ended and close the file; a second call does nothing.

        Args:
            status: How the run ended.
            success: Whether the algorithm reports success; None if it does not say.
            message: What the algorithm says.
            fun: The best value in the user's sign; None if there is none.

        Raises:
            LogError: If the end cannot be written; the file is closed nevertheless.
        """
        if not self._is_open:
            return
        self._is_open = False
        values = {
            "status": status,
            "ended": time.time(),
            "success": success,
            "message": message,
            "fun": stored_value(fun, None)[0],
        }
        try:
            with self._translated("The end of the run could not be added"):
                query = sa.update(runs).where(runs.c.run_id == self.run_id).values(values)
                self._connection.execute(query)
                self._connection.commit()
        finally:
            self._stop.set()
            self._checkpoints.join()
            self._connection.close()

    @contextlib.contextmanager
    def _translated(self, what: str) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, sa.exc.DBAPIError) as error:
            raise self._failure(what, error) from error

    def _failure(self, what: str, error: Exception) -> LogError:
        return LogError(
            f"{what} to {self.path}: {getattr(error, 'orig', error)}. See that the disk has room, "
            f"that the file may be written and that no other program keeps it locked for longer "
            f"than {BUSY_TIMEOUT:g} seconds."
        )


def _versions() -> dict[str, str]:
    """Return the versions of Python and of the libraries that are loaded."""
    loaded = {name: getattr(sys.modules.get(name), "__version__", None) for name in _LIBRARIES}
    return {"python": platform.python_version()} | {k: str(v) for k, v in loaded.items() if v}
