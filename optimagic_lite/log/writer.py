"""A run in a log: how it is added and how it ends; ``rows`` has its evaluations."""

from __future__ import annotations

import contextlib
import os
import platform
import sqlite3
import sys
import threading
import time
import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray

from optimagic_lite.history import Direction, jsonable
from optimagic_lite.log.files import (
    checkpoint_until,
    connect_for_writing,
    prepare,
    tune,
)
from optimagic_lite.log.rows import FileSink, Row, RowWriter, StepLog, log_failure
from optimagic_lite.log.tables import (
    FinalStatus,
    create,
    encode,
    holds_log,
    page_size,
    runs,
    stored_value,
)
from optimagic_lite.options import SQLiteLogOptions

_LIBRARIES = ("optimagic_lite", "jax", "numpy", "scipy", "nlopt", "optimistix", "optax")


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
    """Add a run to a log; used from one thread.

    Args:
        options: Where and how to write.
        run: What is known of the run. It is added to the file with the status "running".

    Attributes:
        path: Absolute path of the file.
        run_id: Number of the run in the file, from 1.
        rows: Takes its evaluations; each is committed when ``rows.write`` returns.

    Raises:
        TableExistsError: If the file exists and ``if_database_exists="raise"``.
        LogError: If the folder does not exist, the file is no log, or it cannot be written.

    Example:
        >>> run = RunRecord("minimize", "scipy_lbfgsb", {}, ["a"], '{"type": "float"}',
        ...                 np.zeros(1), {"kind": "exact", "reason": "JAX"})
        >>> writer = LogWriter(SQLiteLogOptions("run.db"), run)
        >>> writer.rows.write(np.zeros(1), 1.5, 0.0, 0.1, "fun", "start", 0)
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
        self._sink = FileSink(self.path, self._raw)
        self.rows = RowWriter(self._sink, self.run_id)
        self._fast_logging = options.fast_logging
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

    def steps(self) -> StepLog:
        """Return where local optimisations log, in this process or in others."""
        return StepLog(self.path, platform.node(), self.run_id, self._fast_logging)

    def add(self, rows: list[Row]) -> None:
        """Add rows that were written elsewhere, in one transaction.

        Raises:
            LogError: If they cannot be added.
        """
        if rows:
            self._sink.insert_many(rows)

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
            raise log_failure(what, self.path, error) from error


def _versions() -> dict[str, str]:
    """Return the versions of Python and of the libraries that are loaded."""
    loaded = {name: getattr(sys.modules.get(name), "__version__", None) for name in _LIBRARIES}
    return {"python": platform.python_version()} | {k: str(v) for k, v in loaded.items() if v}
