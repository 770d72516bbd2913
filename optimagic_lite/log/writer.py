"""A run in a log: how it is added, taken up again and ended; ``rows`` has its evaluations."""

from __future__ import annotations

import contextlib
import os
import platform
import sys
import time
import weakref
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray

from optimagic_lite.exceptions import LogError
from optimagic_lite.history import Direction, jsonable
from optimagic_lite.log.lanes import LaneWriter
from optimagic_lite.log.processes import process_started
from optimagic_lite.log.rows import RowWriter, StepLog, next_row
from optimagic_lite.log.sink import PATIENCE, DatabaseSink
from optimagic_lite.log.spill import rows_in, spill
from optimagic_lite.log.statements import Kept
from optimagic_lite.log.status import WRITING, GoingOnError, status_now
from optimagic_lite.log.steps import StepRecord, row_from
from optimagic_lite.log.store import make_store
from optimagic_lite.log.tables import (
    FinalStatus,
    encode,
    evaluation_id,
    evaluations,
    runs,
    steps,
    storable,
    stored_value,
)
from optimagic_lite.log_options import LogOptions

_PATIENCE_OF_A_USER = 3.0  # seconds, after Ctrl-C

_LIBRARIES = ("optimagic_lite", "jax", "numpy", "scipy", "nlopt", "optimistix", "optax")
# what a resumed run says of itself before it was resumed
_ATTEMPT = ("status", "ended", "message", "pid", "host", "algorithm", "algo_options",
            "derivatives", "versions")  # fmt: skip


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
        problem: Bounds, constraints and whatever else a resumed run must share, as JSON knows it.
    """

    direction: Direction
    algorithm: str
    algo_options: dict[str, Any]
    param_names: list[str]
    structure: str
    start_params: NDArray[np.float64]
    derivatives: dict[str, str]
    problem: dict[str, Any] = field(default_factory=dict)


class LogWriter:
    """Add a run to a log, or take one up again; used from one thread.

    What cannot be written while the run goes on is kept and tried again, and at the end written to
    another file: a log never ends a run.

    Args:
        options: Where and how to write.
        run: What is known of the run. It has the status "running" in the log.
        resume: Number of the run (``run_id``) to take up again, or None.

    Attributes:
        run_id: Number of the run in the database, from 1.
        started: When it began, in seconds since 1970.
        rows: Takes its evaluations; each is committed when ``rows.write`` returns.

    Raises:
        TableExistsError: If the log exists and ``if_database_exists="raise"``.
        LogError: If there can be no log there, or the run to be taken up is going on.

    Example:
        >>> from optimagic_lite.log_options import SQLiteLogOptions
        >>> run = RunRecord("minimize", "scipy_lbfgsb", {}, ["a"], '{"type": "float"}',
        ...                 np.zeros(1), {"kind": "exact", "reason": "JAX"}, {})
        >>> writer = LogWriter(SQLiteLogOptions("run.db"), run)
        >>> writer.rows.write(np.zeros(1), 1.5, 0.0, 0.1, "fun", "start", 0)
        >>> writer.finish("complete", success=True, message="converged", fun=1.5)
    """

    def __init__(self, options: LogOptions, run: RunRecord, resume: int | None = None) -> None:
        self._store = make_store(options)
        self._n_params = len(run.start_params)
        values = _values(run)
        with self._translated():
            connection = self._store.create(self._n_params)
            try:
                self._run = self._add(connection, values, resume)
                self._number = self._count_before(connection)
                n_rows = 0 if resume is None else next_row(connection, self.run_id, 0)
            except BaseException:
                connection.close()
                raise
        self.started: float = self._run["started"]
        self._sink = DatabaseSink(self._store, connection, self.run_id, self.started, owns_run=True)
        self.rows = RowWriter(self._sink, self.run_id, n_rows=n_rows)
        self._is_open = True
        self._has_steps = False
        self._spilled: Path | None = None
        self._end_keeping = weakref.finalize(self, self._store.keep())
        key = self.run_id, self.started
        self._end_writing = weakref.finalize(self, WRITING.discard, key)
        WRITING.add(key)

    @property
    def run_id(self) -> int:
        """Number of the run in the database, from 1."""
        return int(self._run["run_id"])

    @property
    def place(self) -> tuple[Path | str, int]:
        """Where the run can be read, and its number there, as readers count."""
        if self._spilled is not None:
            return self._spilled, 0
        return self._store.file or self._store.location, self._number

    def _add(self, connection: Any, values: dict[str, Any], resume: int | None) -> dict[str, Any]:
        """Add the run, or take it up again; return its row."""
        with self._store.session(connection) as session:
            if resume is None:
                inserted = session.execute(sa.insert(runs), values).inserted_primary_key
                run_id = inserted[0] if inserted else 0
                # before others can see the run
                self._store.adopt(connection, run_id)
                return values | {"run_id": run_id}
            is_run = runs.c.run_id == resume
            old = session.execute(sa.select(runs).where(is_run)).one()
            status = status_now(self._store, session, old)
            if status == "running":
                raise GoingOnError(self._store.location, old.pid, old.host)
            before = {name: getattr(old, name) for name in _ATTEMPT} | {"status": status}
            kept = {name: getattr(old, name) for name in ("started", "start_params", "problem")}
            resumed = {"resumed": [*old.resumed, before | {"resumed_at": values["started"]}]}
            values = values | kept | resumed
            session.execute(sa.update(runs).where(is_run).values(values))
            self._store.adopt(connection, resume)
            return values | {"run_id": resume}

    def _count_before(self, connection: Any) -> int:
        query = f"SELECT count(*) FROM runs WHERE run_id < {self.run_id:d}"
        return int(connection.execute(query).fetchone()[0])

    def steps(self) -> StepLog:
        """Return where local optimisations log, in this process or in others."""
        self._has_steps = True
        return StepLog(self._store, platform.node(), self.run_id, self.started)

    def lanes(self, n_lanes: int) -> LaneWriter:
        """Return what writes the evaluations of many runs side by side, each a step of this one."""
        return LaneWriter(self._sink, self.run_id, n_lanes)

    def add(self, rows: list[Kept]) -> None:
        """Add rows that were written elsewhere and did not reach the log from there."""
        if rows:
            self._sink.write(self._numbered(rows))

    def _numbered(self, rows: list[Kept]) -> list[Kept]:
        """Return rows of one step with numbers after those that the step has already."""
        columns = evaluations.c.keys()
        id_at, step_at, row_at = (columns.index(name) for name in ("id", "step", "row"))
        step, shift = rows[0][1][step_at], 0
        if rows[0][1][row_at]:
            # whoever numbered them has seen the log, which may have taken some after all
            return rows
        with contextlib.suppress(*self._store.errors):
            shift = next_row(self._sink.connection, self.run_id, step)
        numbered = []
        for table, row in rows:
            values = list(row)
            values[row_at] += shift
            values[id_at] = evaluation_id(self.run_id, step, values[row_at])
            numbered.append((table, tuple(values)))
        return numbered

    def add_steps(self, records: list[StepRecord]) -> None:
        """Add local optimisations that have ended."""
        self._sink.write([(steps.name, row_from(self.run_id, record)) for record in records])

    def finish(
        self, status: FinalStatus, *, success: bool | None, message: str | None, fun: float | None
    ) -> str | None:
        """Mark the run as ended and close the log; a second call does nothing.

        Args:
            status: How the run ended.
            success: Whether the algorithm reports success; None if it does not say.
            message: What the algorithm says.
            fun: The best value in the user's sign; None if there is none.

        Returns:
            What the user must know if the log could not be written to the end; None if it was.
        """
        if not self._is_open:
            return None
        self._is_open = False
        try:
            return self._finish(status, success, message, fun)
        finally:
            self._end_writing()

    def _finish(
        self, status: FinalStatus, success: bool | None, message: str | None, fun: float | None
    ) -> str | None:
        end = {
            "status": status,
            "ended": time.time(),
            "success": success,
            "message": storable(message),
            "fun": stored_value(fun, None)[0],
        }
        query = sa.update(runs).where(runs.c.run_id == self.run_id).values(end)

        def write_end(session: sa.Connection) -> None:
            session.execute(query)

        patience = _PATIENCE_OF_A_USER if status == "interrupted" else PATIENCE
        try:
            is_written = self._sink.finish(write_end, patience)
        except KeyboardInterrupt:
            # who does not want to wait loses nothing either
            is_written, self._sink.error = False, LogError("waiting for it was interrupted")
        if not is_written:
            rows = rows_in(self._store, self._sink.connection, self.run_id) + self._sink.rows
            self._spilled = spill(self._run | end, rows, self._n_params, self._store.file)
        self._end_keeping()
        with contextlib.suppress(*self._store.errors):
            self._sink.connection.close()
        return None if is_written else self._trouble()

    def _trouble(self) -> str:
        if self._spilled is None:
            rest = "No other file could be written either: only result.history has the whole run."
        else:
            rest = f"The run is in {self._spilled} instead, which is a log too."
            if self._has_steps and self._store.file is None:
                rest += " It lacks what local optimisations wrote before to the server."
        reason = " ".join(str(self._sink.error).split()).rstrip(".?")
        return f"The log {self._store.location} could not be written to the end: {reason}. {rest}"

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except self._store.errors as error:
            raise LogError(
                f"The run could not be added to {self._store.location}: {error}. "
                "See that the disk has room, that the log may be written and that no other "
                f"program keeps it locked for longer than {PATIENCE:g} seconds."
            ) from error


@contextlib.contextmanager
def open_log(options: LogOptions, run: RunRecord, resume: int | None = None) -> Iterator[LogWriter]:
    """Open the log of a run, and see that it is closed; arguments as of ``LogWriter``."""
    log = LogWriter(options, run, resume)
    try:
        yield log
    finally:
        # an interrupt may come before anything else looks after the log
        log.finish("interrupted", success=None, message=None, fun=None)


def _values(run: RunRecord) -> dict[str, Any]:
    """Return the row of a run that begins now."""
    return {
        "status": "running",
        "pid": os.getpid(),
        "pid_started": process_started(os.getpid()),
        "host": platform.node(),
        "started": time.time(),
        "ended": None,
        "direction": run.direction,
        "algorithm": run.algorithm,
        "algo_options": jsonable(run.algo_options),
        "param_names": list(run.param_names),
        "structure": run.structure,
        "start_params": encode(run.start_params),
        "problem": jsonable(run.problem),
        "derivatives": jsonable(run.derivatives),
        "versions": _versions(),
        "resumed": [],
        "success": None,
        "message": None,
        "fun": None,
    }


def _versions() -> dict[str, str]:
    """Return the versions of Python and of the libraries that are loaded."""
    loaded = {name: getattr(sys.modules.get(name), "__version__", None) for name in _LIBRARIES}
    return {"python": platform.python_version()} | {k: str(v) for k, v in loaded.items() if v}
