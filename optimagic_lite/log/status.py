"""What a run is doing now, whatever it could still say of itself."""

from __future__ import annotations

import platform
from typing import Any

import sqlalchemy as sa

from optimagic_lite.exceptions import LogError
from optimagic_lite.log.processes import is_alive, is_this_process
from optimagic_lite.log.store import Store


class GoingOnError(LogError):
    """A run cannot be resumed because it has not ended."""

    def __init__(self, location: str, pid: int, host: str) -> None:
        super().__init__(
            f"The last run of {location} is still going on, in process {pid} on {host}, so it "
            "cannot be resumed. Wait until it ends, or end that process."
        )


# the runs that this process is writing, and when they began: where one is broken off in a bad
# moment, the process may live on
WRITING: set[tuple[int, float]] = set()


def status_now(store: Store, connection: sa.Connection, header: Any) -> str:
    """Return the status of a run: "died" if it did not end, and its process is gone.

    Args:
        store: The database.
        connection: To it.
        header: Row of the table of runs.
    """
    if header.status != "running":
        return str(header.status)
    is_here = header.host == platform.node()
    if is_here and is_this_process(header.pid, header.pid_started):
        return "running" if (header.run_id, header.started) in WRITING else "died"
    if is_here and is_alive(header.pid, header.pid_started):
        return "running"
    # a process on another machine cannot be asked, but perhaps the database knows of it
    lives = None if is_here else store.lives(connection, header.run_id)
    return "died" if is_here or lives is False else "running"
