"""What the commands read from a log."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from optimagic_lite.exceptions import OptimagicError

if TYPE_CHECKING:
    import pandas as pd

    from optimagic_lite.log.reader import LogReader


class CommandError(OptimagicError):
    """A command cannot do what it was asked for."""


@dataclass
class StepTally:
    """What is known of a step of a run: of one local optimisation, or of all before them.

    Args:
        n_evaluations: Number of rows of all kinds.
        n_failures: How many of them have no value.
        best: The lower, the better: violation of constraints and value, as it is minimized.
    """

    n_evaluations: int = 0
    n_failures: int = 0
    best: tuple[float, float] = (math.inf, math.inf)


@dataclass
class RunTally:
    """What can be counted in the evaluations of a run.

    Args:
        kinds: Number of evaluations of each kind.
        failures: Number of evaluations that failed with each message.
        steps: By number of the step; 0 holds the start and the exploration.
        last: Seconds from the start of the run to the end of its last evaluation.
    """

    kinds: Counter[str] = field(default_factory=Counter)
    failures: Counter[str] = field(default_factory=Counter)
    steps: dict[int, StepTally] = field(default_factory=dict)
    last: float = math.nan

    @property
    def has_value(self) -> bool:
        """Whether any evaluation has a value."""
        return any(step.best < StepTally.best for step in self.steps.values())


def open_log(location: str) -> LogReader:
    """Return a reader of a log.

    Args:
        location: Path or URL.

    Raises:
        LogError: If it cannot be read.
    """
    # SQLAlchemy is loaded only by commands that read
    from optimagic_lite.log.reader import open_reader

    return open_reader(location)


def stem_of(location: str) -> str:
    """Return the name of a log, without folder and ending."""
    path = urlsplit(location).path if "://" in location else location
    return Path(path).stem or "log"


def find_run(reader: LogReader, run: int) -> tuple[int, pd.Series[Any]]:
    """Return the number of a run, counted from 0, and its row of the table of runs.

    Args:
        reader: Of the log.
        run: Which run, as a Python index.

    Raises:
        CommandError: If there is no such run.
    """
    from optimagic_lite.log.run import no_run

    table = reader.runs()
    n = len(table)
    if not -n <= run < n:
        raise CommandError(no_run(run, n, reader.location))
    return run % n, table.iloc[run]


@contextmanager
def refusing(*errors: type[Exception]) -> Iterator[None]:
    """Turn errors that arguments of the command line can cause into a message without traceback."""
    try:
        yield
    except errors as error:
        raise CommandError(str(error)) from error


def best_value(reader: LogReader, number: int, header: pd.Series[Any]) -> float | None:
    """Return the best value of a run, from its evaluations if the run did not write it down."""
    # None where no run of the log has one
    if header.fun is not None and not math.isnan(header.fun):
        return float(header.fun)
    best = reader.find_best(number)
    return None if best is None else float(best.fun)


def seconds_taken(reader: LogReader, header: pd.Series[Any]) -> float:
    """Return how long a run took, or has taken by now; up to its last evaluation if it died."""
    if header.ended == header.ended:
        return float((header.ended - header.started).total_seconds())
    if header.status == "running":
        # clocks of two machines may differ
        return max(0.0, time.time() - float(header.started.timestamp()))
    return _last_stop(reader, header.run_id)


def count_failures(reader: LogReader) -> Counter[int]:
    """Return the number of failed evaluations of each run, by its key."""
    from optimagic_lite.log.tables import evaluations

    failed = evaluations.select().where(evaluations.c.exception.is_not(None))
    query = failed.with_only_columns(evaluations.c.run_id)
    return reader.query(lambda c: Counter(c.execute(query).scalars()))


def count_evaluations(reader: LogReader, header: pd.Series[Any]) -> RunTally:
    """Return all counts of a run.

    Args:
        reader: Of the log.
        header: Row of the table of runs.
    """
    from optimagic_lite.log.tables import evaluations, rows_of_run

    columns = ("step", "kind", "exception", "fun", "violation", "stop_time")
    query = (
        evaluations.select()
        .where(rows_of_run(int(header.run_id)))
        .with_only_columns(*(evaluations.c[name] for name in columns))
    )
    sign = 1.0 if header.direction == "minimize" else -1.0
    return reader.query(lambda c: _tally(c.execute(query), sign))


def outcomes_of_steps(reader: LogReader, header: pd.Series[Any]) -> dict[int, str]:
    """Return how the local optimisations that have ended did so, by their number."""
    from optimagic_lite.log.steps import OUTCOMES
    from optimagic_lite.log.tables import steps

    of_run = steps.select().where(steps.c.run_id == int(header.run_id))
    query = of_run.with_only_columns(steps.c.step, steps.c.success)
    return reader.query(lambda c: {step: OUTCOMES[success] for step, success in c.execute(query)})


def _tally(rows: Any, sign: float) -> RunTally:
    tally = RunTally()
    for step, kind, exception, fun, violation, stop_time in rows:
        tally.kinds[kind] += 1
        of_step = tally.steps.setdefault(step, StepTally())
        of_step.n_evaluations += 1
        if not tally.last >= stop_time:
            tally.last = stop_time
        if exception is not None:
            tally.failures[exception] += 1
            of_step.n_failures += 1
        # an algorithm did not ask for points of difference quotients
        if fun is not None and kind != "derivative":
            of_step.best = min(of_step.best, (violation or 0.0, sign * fun))
    return tally


def _last_stop(reader: LogReader, run_id: int) -> float:
    from optimagic_lite.log.tables import evaluations, rows_of_run

    stop = evaluations.c.stop_time
    of_run = evaluations.select().where(rows_of_run(int(run_id))).with_only_columns(stop)
    found = reader.query(lambda c: c.scalar(of_run.order_by(stop.desc()).limit(1)))
    return math.nan if found is None else float(found)
