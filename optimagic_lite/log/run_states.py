"""The runs of a log and whether they go on, without their evaluations."""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa

from optimagic_lite.exceptions import LogError
from optimagic_lite.log.run import no_run
from optimagic_lite.log.status import status_now
from optimagic_lite.log.store import Store
from optimagic_lite.log.tables import runs

_COLUMNS = (
    runs.c.run_id, runs.c.algorithm, runs.c.direction, runs.c.started, runs.c.ended,
    runs.c.message, runs.c.success, runs.c.derivatives,
)  # fmt: skip
# what tells whether the process of a run is there
_LIFE = runs.c.status, runs.c.host, runs.c.pid, runs.c.pid_started


class RunReplacedError(LogError):
    """A run is not in its log any more, because another log took its place."""

    def __init__(self) -> None:
        super().__init__("The log was replaced by another one, and this run is not in it.")


@dataclass(frozen=True)
class RunState:
    """One run of a log, without its evaluations.

    Args:
        run: Number that methods of readers take, from 0.
        status: As in ``reader.runs()``.
        run_id: Its key in the database.
        algorithm: Name of the algorithm.
        direction: "minimize" or "maximize".
        started: Seconds since 1970, UTC.
        ended: The same; None if the run did not end.
        message: What the algorithm said at the end.
        success: Whether it reports success.
        derivatives: Which derivatives are used ("kind") and why ("reason").
    """

    run: int
    status: str
    run_id: int
    algorithm: str
    direction: str
    started: float
    ended: float | None
    message: str | None
    success: bool | None
    derivatives: dict[str, str]

    @property
    def is_running(self) -> bool:
        """Whether the run goes on."""
        return self.status == "running"

    def is_same_run(self, other: RunState) -> bool:
        """Whether the other one is the same run, maybe at another time.

        Keys of runs begin anew when a log is replaced.
        """
        return (self.run_id, self.started) == (other.run_id, other.started)


def read_states(store: Store) -> list[RunState]:
    """Return all runs of a log, in the order in which they began.

    Args:
        store: The database.

    Raises:
        LogError: If the log cannot be read.
    """
    query = sa.select(*_COLUMNS, *_LIFE).order_by(runs.c.run_id)

    def ask(connection: sa.Connection) -> list[RunState]:
        return [
            RunState(i, status_now(store, connection, row), *row[: len(_COLUMNS)])
            for i, row in enumerate(connection.execute(query).all())
        ]

    return store.ask(ask)


def find_run(states: list[RunState], run: int, location: str) -> RunState:
    """Return the run with a number.

    Args:
        states: All runs.
        run: Counts from 0, negative numbers from the end.
        location: What to call the log in messages.

    Raises:
        LogError: If there is no such run.
    """
    if not -len(states) <= run < len(states):
        raise LogError(no_run(run, len(states), f"the log {location}"))
    return states[run]


def find_again(states: list[RunState], state: RunState) -> RunState:
    """Return how a run is now.

    Args:
        states: All runs.
        state: How it was.

    Raises:
        RunReplacedError: If it is not there any more.
    """
    for now in states:
        if now.is_same_run(state):
            return now
    raise RunReplacedError
