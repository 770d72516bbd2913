"""What is asked of a database that holds a log; one module for each kind of database."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol, TypeVar

import sqlalchemy as sa

from optimagic_lite.log.postgres import PostgresStore
from optimagic_lite.log.sqlite import SQLiteStore
from optimagic_lite.log_options import LogOptions, SQLiteLogOptions

T = TypeVar("T")


class Store(Protocol):
    """A database that holds a log, or will hold one; can be sent to other processes.

    Connections for writing are those of the database's own driver, because every layer above it
    costs more than the writing. Each of their statements commits itself, unless ``begin`` was
    called before.
    """

    @property
    def inserts(self) -> Mapping[str, str]:
        """For each table, the statement that adds a row, with positional parameters."""
        ...

    @property
    def inserts_again(self) -> Mapping[str, str]:
        """The same, but it leaves a row alone that is there already."""
        ...

    @property
    def errors(self) -> tuple[type[Exception], ...]:
        """What the driver raises."""
        ...

    @property
    def location(self) -> str:
        """Where the log is, as messages show it."""
        ...

    @property
    def file(self) -> Path | None:
        """The file of the log; None if it is none."""
        ...

    def check(self) -> None:
        """Tell, without changing anything, whether the log can be there.

        Raises:
            TableExistsError: If it exists and that is not wanted.
            LogError: If it cannot be there.
        """
        ...

    def create(self, n_params: int) -> Any:
        """Connect to the log, which is made if it is not there yet.

        Args:
            n_params: Length of the flat parameters that will be written.

        Raises:
            TableExistsError: If the log exists and that is not wanted.
            LogError: If it cannot be there.
        """
        ...

    def connect(self, timeout: float) -> Any:
        """Connect to the log that was made by ``create``.

        Args:
            timeout: Seconds after which to give up waiting for others.
        """
        ...

    def begin(self, connection: Any) -> None:
        """Begin a transaction that is going to write."""
        ...

    def session(self, connection: Any) -> AbstractContextManager[sa.Connection]:
        """Begin a transaction as ``begin`` does, look at it through SQLAlchemy, and commit it."""
        ...

    def may_pass(self, error: Exception) -> bool:
        """Whether what the driver raised may be over after some waiting."""
        ...

    def adopt(self, connection: Any, run_id: int) -> None:
        """Mark a connection as that of the process of a run, if the database can do so."""
        ...

    def lives(self, connection: sa.Connection, run_id: int) -> bool | None:
        """Tell whether the process of a run is there; None if the database does not know."""
        ...

    def keep(self) -> Callable[[], None]:
        """Begin the housekeeping while a run writes; returns what ends it."""
        ...

    def ask(self, question: Callable[[sa.Connection], T]) -> T:
        """Ask the log, with a connection that can only read.

        Raises:
            LogError: If there is no log, or it cannot be read.
        """
        ...

    def is_shared_with(self, host: str) -> bool:
        """Whether a process on this machine reaches the log that one on ``host`` has made."""
        ...


def make_store(options: LogOptions) -> Store:
    """Return the database that options describe."""
    if isinstance(options, SQLiteLogOptions):
        return SQLiteStore(Path(options.path).absolute(), options)
    return PostgresStore(options)
