"""The reader of a log: it never changes it, and may read while other processes write."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import sqlalchemy as sa

from optimagic_lite.exceptions import LogError, listed
from optimagic_lite.history import History, MultistartHistory
from optimagic_lite.log.evaluation import LoggedEvaluation, evaluation_from, start_params
from optimagic_lite.log.run import LoggedRun, no_run
from optimagic_lite.log.status import status_now
from optimagic_lite.log.steps import StepRecord, record_from
from optimagic_lite.log.store import Store, make_store
from optimagic_lite.log.tables import (
    decode,
    evaluations,
    info_from,
    rows_of_run,
    rows_of_step,
    runs,
    steps,
    value_from,
)
from optimagic_lite.log_options import (
    LogOptions,
    PostgresLogOptions,
    SQLiteLogOptions,
    log_options_at,
)
from optimagic_lite.space.trees import ParamTree

if TYPE_CHECKING:
    import pandas as pd

_T = TypeVar("_T")

_HISTORY_KINDS = ("start", "path", "exploration")


class LogReader:
    """Read the runs and evaluations of a log, wherever it is.

    Nothing is unpickled: opening the log of a stranger runs no code. The reader holds no
    connection, so it can be pickled and costs nothing to keep.

    All methods that take ``run`` count runs from 0 in the order in which they began; negative
    numbers count from the end, and the default is the last run.

    Args:
        store: The database.
        template: Params in the structure in which params are to be returned, for structures that
            JSON does not know: without it, containers other than dictionaries, lists and tuples
            come back as dictionaries.
    """

    def __init__(self, store: Store, template: Any = None) -> None:
        self._store = store
        self._template = None if template is None else ParamTree(template)
        self.query(lambda connection: None)

    @property
    def location(self) -> str:
        """Where the log is, as messages and pages show it."""
        return self._store.location

    def query(self, ask: Callable[[sa.Connection], _T]) -> _T:
        """Ask the database, with a connection that can only read.

        Args:
            ask: Called with the connection, perhaps more than once; what it returns is returned.

        Raises:
            LogError: If the log cannot be read.
        """
        return self._store.ask(ask)

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
            "complete", "failed", "interrupted", or "died": the run did not end and its process is
            gone, as far as can be known from this machine.
        """
        import pandas as pd

        counted = sa.select(sa.func.count()).where(rows_of_run(runs.c.run_id))
        query = sa.select(runs, counted.scalar_subquery().label("n_evaluations"))

        def ask(connection: sa.Connection) -> tuple[list[Any], list[str]]:
            found = list(connection.execute(query.order_by(runs.c.run_id)).all())
            return found, [status_now(self._store, connection, row) for row in found]

        found, status = self.query(ask)
        columns = [*runs.c.keys(), "n_evaluations"]
        frame = pd.DataFrame([tuple(row) for row in found], columns=columns)
        frame["status"] = status
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
        header, rows = self._rows(run, _HISTORY_KINDS)
        return _history(header, self._tree(header), rows)

    def read_multistart_history(self, run: int = -1) -> MultistartHistory:
        """Return the history of a multistart run, one for each local optimisation.

        Args:
            run: Which run. One without multistart is all ``exploration``. Where the process of
                a local optimisation died, its history is that of the last attempt.

        Raises:
            IndexError: If there is no such run.
        """
        exploration, *local = self.read_step_histories(run).values()
        return MultistartHistory(exploration, tuple(local))

    def read_step_histories(self, run: int = -1) -> dict[int, History]:
        """Return the histories of ``read_multistart_history`` by the number of the step.

        Args:
            run: Which run.

        Raises:
            IndexError: If there is no such run.
        """
        header, rows = self._rows(run, _HISTORY_KINDS)
        by_step: dict[int, list[Any]] = {0: []}
        for row in rows:
            if row.step and row.kind == "start":
                # what is there already is of an attempt that broke off
                by_step[row.step] = []
            by_step.setdefault(row.step, []).append(row)
        tree = self._tree(header)
        return {step: _history(header, tree, part) for step, part in by_step.items()}

    def read_run(self, run: int = -1) -> LoggedRun:
        """Return what is known of a run apart from its evaluations.

        Args:
            run: Which run.

        Raises:
            IndexError: If there is no such run.
        """

        def ask(connection: sa.Connection) -> LoggedRun:
            header = _find_run(connection, run)
            return LoggedRun(
                run_id=header.run_id,
                status=status_now(self._store, connection, header),
                direction=header.direction,
                algorithm=header.algorithm,
                param_names=header.param_names,
                structure=header.structure,
                start_params=start_params(header),
                problem=header.problem,
                process=(header.pid, header.host),
            )

        return self.query(ask)

    def read_counts(self, run: int = -1, step: int = 0) -> dict[str, int]:
        """Return how many rows a step of a run has, as a result counts them.

        Args:
            run: Which run.
            step: 0, or the number of a local optimisation.

        Returns:
            ``n_fun, n_jac, n_hess, n_numdiff, n_failed``, and ``n_batches``. Gradients by
            difference quotients have no row of their own and are not counted.

        Raises:
            IndexError: If there is no such run.
        """
        failed = evaluations.c.exception.is_not(None)
        what = evaluations.c.kind == "derivative", evaluations.c.task, failed

        def ask(connection: sa.Connection) -> tuple[list[Any], int]:
            of_step = rows_of_step(_find_run(connection, run).run_id, step)
            counted = sa.select(*what, sa.func.count()).where(of_step).group_by(*what)
            last = connection.scalar(sa.select(sa.func.max(evaluations.c.batch)).where(of_step))
            return list(connection.execute(counted)), -1 if last is None else int(last)

        found, last_batch = self.query(ask)
        out = dict.fromkeys(("n_fun", "n_jac", "n_hess", "n_numdiff", "n_failed"), 0)
        for is_derivative, task, has_failed, n in found:
            out["n_failed"] += n * has_failed
            out["n_fun"] += n * (not is_derivative)
            out["n_numdiff"] += n * (is_derivative and task == "fun")
            out["n_hess"] += n * (task in ("hess", "hessp"))
            out["n_jac"] += n * (task == "jac" or (task == "fun_and_jac" and not has_failed))
        return out | {"n_batches": last_batch + 1}

    def read_steps(self, run: int = -1) -> list[StepRecord]:
        """Return the local optimisations of a multistart run that have ended, in their order.

        Args:
            run: Which run.

        Raises:
            IndexError: If there is no such run.
        """

        def ask(connection: sa.Connection) -> list[Any]:
            of_run = steps.c.run_id == _find_run(connection, run).run_id
            return list(connection.execute(sa.select(steps).where(of_run).order_by(steps.c.step)))

        return [record_from(row) for row in self.query(ask)]

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
                f"Run {run} of {self.location} has no evaluation {iteration}: its history has "
                f"{n_rows} rows, counted from 0, or from -1 backwards."
            )
        return evaluation_from(header, self._tree(header), found)

    def best(self, run: int = -1) -> LoggedEvaluation:
        """Return the first of the best rows of the history of a run.

        Args:
            run: Which run.

        Raises:
            IndexError: If there is no such run.
            LogError: If no evaluation of the run has a value.
        """
        found = self.find_best(run)
        if found is None:
            raise LogError(
                f"Run {run} of {self.location} has no evaluation with a finite value yet."
            )
        return found

    def find_best(self, run: int = -1) -> LoggedEvaluation | None:
        """Return what ``best`` does, or None if no evaluation of the run has a value.

        Args:
            run: Which run.

        Raises:
            IndexError: If there is no such run.
        """

        def query(connection: sa.Connection) -> tuple[Any, Any]:
            header = _find_run(connection, run)
            fun = evaluations.c.fun
            order = fun.asc() if header.direction == "minimize" else fun.desc()
            of_run = _select_rows(header, _HISTORY_KINDS).where(fun.is_not(None))
            # of those that violate constraints least, the lowest
            keys = sa.func.coalesce(evaluations.c.violation, 0.0), order, evaluations.c.id
            return header, connection.execute(of_run.order_by(*keys).limit(1)).first()

        header, found = self.query(query)
        return None if found is None else evaluation_from(header, self._tree(header), found)

    def read_start_params(self, run: int = -1) -> Any:
        """Return the start parameters of a run in the user's structure.

        Args:
            run: Which run.

        Raises:
            IndexError: If there is no such run.
        """
        header = self.query(partial(_find_run, run=run))
        return self._tree(header).to_params(start_params(header))

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

    def _tree(self, header: Any) -> ParamTree:
        """Return the structure of params of a run."""
        if self._template is None:
            return ParamTree.from_json(header.structure)
        if self._template.names != header.param_names:
            unknown = sorted(set(self._template.names) ^ set(header.param_names))
            raise LogError(
                f"The template does not fit the params of the run in {self.location}: it names "
                f"{len(self._template.names)} numbers and the run {len(header.param_names)}"
                + (
                    f"; only one of them has {listed(unknown, 5)}."
                    if unknown
                    else ", in another order."
                )
            )
        return self._template


class SQLiteLogReader(LogReader):
    """Read a log in a SQLite file; see ``LogReader`` for what it offers.

    The file is never changed, and may be read while another process writes.

    Args:
        path: File of the log.
        template: Params in the structure that is to be returned, see ``LogReader``.

    Attributes:
        path: Absolute path of the file.

    Raises:
        LogError: If the file is missing, empty, damaged, no log, or of another version.

    Example:
        >>> import optimagic_lite as om
        >>> result = om.minimize(lambda x: x**2, 3.0, "scipy_lbfgsb", logging="run.db")
        >>> reader = om.SQLiteLogReader("run.db")
        >>> reader.read_history().fun == result.history.fun
        True
    """

    def __init__(self, path: str | Path, template: Any = None) -> None:
        self.path = Path(path).absolute()
        super().__init__(make_store(SQLiteLogOptions(self.path)), template)

    @classmethod
    def from_options(cls, options: SQLiteLogOptions) -> SQLiteLogReader:
        """Return a reader of the log that options describe."""
        return cls(options.path)

    def __repr__(self) -> str:
        return f"SQLiteLogReader({str(self.path)!r})"


class PostgresLogReader(LogReader):
    """Read a log in a PostgreSQL database; see ``LogReader`` for what it offers.

    Args:
        url: Of the database, as in ``PostgresLogOptions``.
        template: Params in the structure that is to be returned, see ``LogReader``.

    Raises:
        LogError: If the database cannot be reached or has no log.
    """

    def __init__(self, url: str, template: Any = None) -> None:
        super().__init__(make_store(PostgresLogOptions(url)), template)

    @classmethod
    def from_options(cls, options: PostgresLogOptions) -> PostgresLogReader:
        """Return a reader of the log that options describe."""
        return cls(options.url)

    def __repr__(self) -> str:
        return f"PostgresLogReader({self.location!r})"


OptimizeLogReader = SQLiteLogReader


def open_reader(location: str | Path) -> LogReader:
    """Return the reader of a log.

    Args:
        location: File of the log, or URL of a database.

    Raises:
        LogError: As the reader does.
    """
    return reader_of(log_options_at(location))


def reader_of(options: LogOptions) -> LogReader:
    """Return the reader of the log that options describe.

    Raises:
        LogError: As the reader does.
    """
    if isinstance(options, PostgresLogOptions):
        return PostgresLogReader.from_options(options)
    return SQLiteLogReader.from_options(options)


def _history(header: Any, tree: ParamTree, rows: list[Any]) -> History:
    flats = decode([row.params for row in rows], len(header.param_names))
    history = History(header.direction, tree)
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
        raise IndexError(no_run(run, _count_runs(connection), "the log"))
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
