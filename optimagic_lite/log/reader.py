"""The reader of a log: it never changes the file, and may read while another process writes."""

from __future__ import annotations

import os
import platform
import sqlite3
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import sqlalchemy as sa

from optimagic_lite.exceptions import LogError
from optimagic_lite.history import History, MultistartHistory
from optimagic_lite.log.evaluation import LoggedEvaluation, evaluation_from, start_params
from optimagic_lite.log.files import open_for_reading, state_of
from optimagic_lite.log.tables import (
    decode,
    evaluations,
    info_from,
    rows_of_run,
    runs,
    value_from,
)
from optimagic_lite.options import SQLiteLogOptions
from optimagic_lite.space.trees import ParamTree

if TYPE_CHECKING:
    import pandas as pd

_T = TypeVar("_T")

_HISTORY_KINDS = ("start", "path", "exploration")


class SQLiteLogReader:
    """Read the runs and evaluations of a log.

    Nothing is unpickled: opening the log of a stranger runs no code. The reader holds the path
    only, so it can be pickled and costs nothing to keep.

    All methods that take ``run`` count runs from 0 in the order in which they began; negative
    numbers count from the end, and the default is the last run.

    Args:
        path: File of the log.

    Attributes:
        path: Absolute path of the file.

    Raises:
        LogError: If the file is missing, empty, no log, or was written by a newer version.

    Example:
        >>> import optimagic_lite as om
        >>> result = om.minimize(lambda x: x**2, 3.0, "scipy_lbfgsb", logging="run.db")
        >>> reader = om.SQLiteLogReader("run.db")
        >>> reader.read_history().fun == result.history.fun
        True
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path).absolute()
        self.query(lambda connection: None)

    @classmethod
    def from_options(cls, options: SQLiteLogOptions) -> SQLiteLogReader:
        """Return a reader of the log that options describe."""
        return cls(options.path)

    def __repr__(self) -> str:
        return f"SQLiteLogReader({str(self.path)!r})"

    @property
    def location(self) -> str:
        """Where the log is, as messages and pages show it."""
        return str(self.path)

    @property
    def n_runs(self) -> int:
        """Number of runs in the file."""
        return self.query(_count_runs)

    def runs(self) -> pd.DataFrame:
        """Return a table with one row a run.

        Returns:
            The index is the number that other methods take as ``run``. The columns are those of
            the table ``runs`` in the file, with times in UTC and start parameters as vectors,
            and ``n_evaluations``, which counts rows of all kinds. The status is "running",
            "complete", "failed", "interrupted", or "died": the run did not end and its process,
            on this machine, is gone.
        """
        import pandas as pd

        counted = sa.select(sa.func.count()).where(rows_of_run(runs.c.run_id))
        query = sa.select(runs, counted.scalar_subquery().label("n_evaluations"))
        found = self.query(lambda c: c.execute(query.order_by(runs.c.run_id)).all())
        columns = [*runs.c.keys(), "n_evaluations"]
        frame = pd.DataFrame([tuple(row) for row in found], columns=columns)
        frame["status"] = [_status_now(row) for row in found]
        frame["start_params"] = pd.Series([start_params(row) for row in found], dtype=object)
        for column in ("started", "ended"):
            frame[column] = pd.to_datetime(frame[column].astype(float), unit="s", utc=True)
        return frame.rename_axis("run")

    def read_history(self, run: int = -1) -> History:
        """Return the history of a run, as ``result.history`` holds it.

        Rows are the start point, those of an exploration, and the points for which the algorithm
        asked, one local optimisation after the other. Points of numerical derivatives are in
        ``to_frame``.

        Args:
            run: Which run.

        Raises:
            IndexError: If there is no such run.
        """
        return _history(*self._rows(run, _HISTORY_KINDS))

    def read_multistart_history(self, run: int = -1) -> MultistartHistory:
        """Return the history of a multistart run, one for each local optimisation.

        Args:
            run: Which run. One without multistart is all ``exploration``. Where the process of
                a local optimisation died, its history is that of the last attempt.

        Raises:
            IndexError: If there is no such run.
        """
        header, rows = self._rows(run, _HISTORY_KINDS)
        by_step: dict[int, list[Any]] = {0: []}
        for row in rows:
            if row.step and row.kind == "start":
                # what is there already is of an attempt whose process died
                by_step[row.step] = []
            by_step.setdefault(row.step, []).append(row)
        exploration, *local = (_history(header, part) for part in by_step.values())
        return MultistartHistory(exploration, tuple(local))

    def read_iteration(self, iteration: int, run: int = -1) -> LoggedEvaluation:
        """Return one row of the history of a run.

        Args:
            iteration: Position in ``read_history``; negative numbers count from the end.
            run: Which run.

        Raises:
            IndexError: If there is no such run or row.
        """

        def query(connection: sa.Connection) -> tuple[Any, Any, int]:
            header = _find_run(connection, run)
            of_run = _select_rows(header, _HISTORY_KINDS)
            found = _pick(connection, of_run, evaluations.c.id, iteration)
            n_rows = connection.scalar(sa.select(sa.func.count()).select_from(of_run.subquery()))
            return header, found, int(n_rows or 0)

        header, found, n_rows = self.query(query)
        if found is None:
            raise IndexError(
                f"Run {run} of {self.path} has no evaluation {iteration}: its history has "
                f"{n_rows} rows, counted from 0, or from -1 backwards."
            )
        return evaluation_from(header, found)

    def best(self, run: int = -1) -> LoggedEvaluation:
        """Return the first of the best rows of the history of a run.

        Args:
            run: Which run.

        Raises:
            IndexError: If there is no such run.
            LogError: If no evaluation of the run has a value.
        """

        def query(connection: sa.Connection) -> tuple[Any, Any]:
            header = _find_run(connection, run)
            fun = evaluations.c.fun
            order = fun.asc() if header.direction == "minimize" else fun.desc()
            of_run = _select_rows(header, _HISTORY_KINDS).where(fun.is_not(None))
            # of those that violate constraints least, the lowest
            keys = sa.func.coalesce(evaluations.c.violation, 0.0), order, evaluations.c.id
            return header, connection.execute(of_run.order_by(*keys)).first()

        header, found = self.query(query)
        if found is None:
            raise LogError(f"Run {run} of {self.path} has no evaluation with a finite value yet.")
        return evaluation_from(header, found)

    def read_start_params(self, run: int = -1) -> Any:
        """Return the start parameters of a run in the user's structure.

        Args:
            run: Which run.

        Raises:
            IndexError: If there is no such run.
        """
        header = self.query(partial(_find_run, run=run))
        return ParamTree.from_json(header.structure).to_params(start_params(header))

    def to_frame(self, run: int = -1) -> pd.DataFrame:
        """Return all evaluations of a run, of all kinds, with one column a parameter.

        Args:
            run: Which run.

        Returns:
            Columns ``fun, time, start_time, stop_time, task, kind, step, batch, exception,
            traceback, info, violation`` and then the parameters, named ``params.<name>`` where a
            name is taken already.

        Raises:
            IndexError: If there is no such run.
        """
        import pandas as pd

        header, rows = self._rows(run, None)
        started = rows[0].start_time if rows else 0.0
        columns: dict[str, Any] = {
            "fun": [value_from(row.fun) for row in rows],
            "time": [row.stop_time - started for row in rows],
            "start_time": [row.start_time for row in rows],
            "stop_time": [row.stop_time for row in rows],
            "task": [row.task for row in rows],
            "kind": [row.kind for row in rows],
            "step": [row.step for row in rows],
            "batch": [row.batch for row in rows],
            "exception": pd.Series([row.exception for row in rows], dtype=object),
            "traceback": pd.Series([row.traceback for row in rows], dtype=object),
            "info": pd.Series([info_from(row.info) for row in rows], dtype=object),
            "violation": [np.nan if row.violation is None else row.violation for row in rows],
        }
        names = [f"params.{n}" if n in columns else n for n in header.param_names]
        flat = pd.DataFrame(decode([row.params for row in rows], len(names)), columns=names)
        return pd.concat([pd.DataFrame(columns), flat], axis=1)

    def _rows(self, run: int, kinds: tuple[str, ...] | None) -> tuple[Any, list[Any]]:
        """Return the row of a run and its evaluations."""

        def query(connection: sa.Connection) -> tuple[Any, list[Any]]:
            header = _find_run(connection, run)
            ordered = _select_rows(header, kinds).order_by(evaluations.c.id)
            return header, list(connection.execute(ordered).all())

        return self.query(query)

    def query(self, ask: Callable[[sa.Connection], _T]) -> _T:
        """Ask the database, with a connection that can only read.

        A file without a write-ahead log is read as if it never changed, because SQLite would
        otherwise create files next to it. If a writer comes meanwhile, the question is repeated.

        Args:
            ask: Called with the connection; what it returns is returned.

        Raises:
            LogError: If the log cannot be read.
        """
        while True:
            state = state_of(self.path)
            failure: Exception | None = None
            try:
                with open_for_reading(self.path, has_wal=state.has_wal) as connection:
                    result = ask(connection)
            except (sqlite3.DatabaseError, sa.exc.DBAPIError, FileNotFoundError) as error:
                failure = error
            if not state.has_wal and state != state_of(self.path):
                continue
            if failure is not None:
                reason = getattr(failure, "orig", failure)
                raise LogError(f"The log {self.path} cannot be read: {reason}.") from failure
            return result


OptimizeLogReader = SQLiteLogReader


def open_reader(location: str | Path) -> SQLiteLogReader:
    """Return the reader of a log.

    Args:
        location: File of the log.

    Raises:
        LogError: As the reader does.
    """
    return SQLiteLogReader(location)


def _history(header: Any, rows: list[Any]) -> History:
    flats = decode([row.params for row in rows], len(header.param_names))
    history = History(header.direction, ParamTree.from_json(header.structure))
    for row, flat in zip(rows, flats, strict=True):
        times = row.start_time, row.stop_time
        more = row.violation or 0.0, info_from(row.info)
        history.append(flat, value_from(row.fun), *times, row.task, row.kind, row.batch, *more)
    return history


def _count_runs(connection: sa.Connection) -> int:
    return int(connection.scalar(sa.select(sa.func.count()).select_from(runs)) or 0)


def _find_run(connection: sa.Connection, run: int) -> Any:
    found = _pick(connection, sa.select(runs), runs.c.run_id, run)
    if found is None:
        raise IndexError(
            f"There is no run {run} in the log, which holds {_count_runs(connection)} runs, "
            "counted from 0, or from -1 backwards."
        )
    return found


def _select_rows(header: Any, kinds: tuple[str, ...] | None) -> sa.Select[Any]:
    query = sa.select(evaluations).where(rows_of_run(header.run_id))
    return query if kinds is None else query.where(evaluations.c.kind.in_(kinds))


def _pick(
    connection: sa.Connection, query: sa.Select[Any], order: sa.Column[int], position: int
) -> Any:
    """Return one row of a query, counted from the end if negative; None if there is none."""
    offset, direction = (position, order.asc()) if position >= 0 else (~position, order.desc())
    return connection.execute(query.order_by(direction).limit(1).offset(offset)).first()


def _status_now(header: Any) -> str:
    if header.status == "running" and header.host == platform.node() and not _lives(header.pid):
        return "died"
    return str(header.status)


def _lives(pid: int) -> bool:
    # on Windows os.kill would end the process instead of asking for it
    if os.name == "nt":
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        # it belongs to another user
        return True
    return True
