"""Where rows go: into the database, and into memory as long as the database takes none."""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import sqlalchemy as sa

from optimagic_lite.log.statements import Kept, Row, as_text, execute_many, holds_run
from optimagic_lite.log.store import Store
from optimagic_lite.log.tables import evaluations, rows_of_run

PATIENCE = 30.0  # seconds for which a row waits for a database that others keep busy
_RETRY_INTERVAL = 1.0  # seconds between attempts to write what is kept
_RETRY_SHARE = 0.1  # of the time of a run, at most, is spent in such attempts
ATTEMPT = 0.1  # seconds that such an attempt waits
_MEMORY = 1 << 28  # bytes of rows, at most, that are remembered although a server has them


class Sink(Protocol):
    """Takes the rows of evaluations."""

    def insert(self, row: Row) -> None:
        """Take a row."""
        ...  # pragma: no cover

    def insert_many(self, rows: list[Row]) -> None:
        """Take rows in one transaction."""
        ...  # pragma: no cover


class BufferSink:
    """Keeps rows for another process, which can reach the database.

    Attributes:
        kept: The rows.
    """

    def __init__(self) -> None:
        self.kept: list[Kept] = []

    def insert(self, row: Row) -> None:
        """Keep a row."""
        self.kept.append((evaluations.name, row))

    def insert_many(self, rows: list[Row]) -> None:
        """Keep rows."""
        self.kept.extend((evaluations.name, row) for row in rows)


class DatabaseSink:
    """Writes rows into the database; each call commits.

    What cannot be written is kept, and tried again from time to time: a full disk or a server that
    is away must not end a run.

    Args:
        store: The database.
        connection: To it.
        run_id: Number of the run.
        started: When the run began, which tells it from one with the same number in another log.
        owns_run: Whether this is the process of the run itself.

    Attributes:
        connection: As given, or a later one.
        kept: Rows that are not written yet, with their tables.
        written: The last of those that are, where a server has them: it may be gone for good, or
            forget the last ones if it dies.
        error: Why, if there are any.
    """

    def __init__(
        self, store: Store, connection: Any, run_id: int, started: float, *, owns_run: bool = False
    ) -> None:
        self.connection = connection
        self.kept: list[Kept] = []
        self.written: deque[Kept] = deque()
        self._n_bytes = 0
        self.error: Exception | None = None
        self._remembers = store.file is None
        self._store = store
        self._errors = store.errors
        self._failures: tuple[type[Exception], ...] = (*store.errors, RunGoneError)
        self._insert = store.inserts[evaluations.name]
        self._run_id, self._started, self._owns_run = run_id, started, owns_run
        self._next_attempt = 0.0

    def insert(self, row: Row) -> None:
        """Write a row, or keep it."""
        if self.kept:
            self._keep([(evaluations.name, row)])
            return
        try:
            self.connection.execute(self._insert, row)
        except self._errors as error:
            self._begin_to_keep([(evaluations.name, row)], error)
        except KeyboardInterrupt:
            # while the row waited for others, or when it was written already
            self.kept.append((evaluations.name, row))
            raise
        else:
            if self._remembers:
                self._remember([(evaluations.name, row)])

    def insert_many(self, rows: list[Row]) -> None:
        """Write rows in one transaction, or keep them: all of them or none."""
        self.write([(evaluations.name, row) for row in rows])

    def write(self, rows: list[Kept]) -> None:
        """Write rows of any table in one transaction, or keep them."""
        if self.kept:
            self._keep(rows)
            return
        try:
            with self._transaction():
                execute_many(self.connection, rows, self._store.inserts)
        except self._errors as error:
            self._begin_to_keep(rows, error)
        except KeyboardInterrupt:
            self.kept.extend(rows)
            raise
        else:
            self._remember(rows)

    @property
    def rows(self) -> list[Kept]:
        """All rows that are known here."""
        return [*self.written, *self.kept]

    def flush(self, patience: float) -> bool:
        """Try to write what is kept; arguments and value as for ``finish``."""
        return not self.kept or self.finish(lambda session: None, patience)

    def finish(self, last: Callable[[sa.Connection], None], patience: float) -> bool:
        """Write what is kept, and something more, in one transaction of a new connection.

        Args:
            last: Writes something more, through the connection that it is given.
            patience: Seconds to wait for others, and for the database to come back.

        Returns:
            Whether it was written; if not, ``error`` says why.
        """
        give_up = time.monotonic() + patience
        while True:
            try:
                self._write_anew(last, max(give_up - time.monotonic(), ATTEMPT))
            except self._failures as error:
                self.error = error
                left = give_up - time.monotonic()
                if left <= 0 or not self._store.may_pass(error):
                    return False
                time.sleep(min(_RETRY_INTERVAL, left))
            else:
                self._remember(self.kept)
                self.kept.clear()
                self.error = None
                return True

    def _write_anew(self, last: Callable[[sa.Connection], None], timeout: float) -> None:
        connection = self._store.connect(timeout)
        try:
            # a log that was deleted, or is another one now, must not seem to take the rows
            if not holds_run(connection, self._run_id, self._started):
                raise RunGoneError(f"run {self._run_id} is not there any more")
            if self._owns_run:
                self._store.adopt(connection, self._run_id)
            with self._store.session(connection) as session:
                # some rows may have arrived although the database could not say so
                rows = self._forgotten(connection) + self.kept
                execute_many(connection, rows, self._store.inserts_again)
                last(session)
        except BaseException:
            connection.close()
            raise
        with contextlib.suppress(*self._errors):
            self.connection.close()
        self.connection = connection

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        self._store.begin(self.connection)
        try:
            yield
            self.connection.commit()
        except BaseException:
            with contextlib.suppress(*self._errors):
                self.connection.rollback()
            raise

    def _remember(self, rows: list[Kept]) -> None:
        if not self._remembers:
            return
        self.written.extend(rows)
        self._n_bytes += sum(_size(kept) for kept in rows)
        while self._n_bytes > _MEMORY:
            self._n_bytes -= _size(self.written.popleft())

    def _forgotten(self, connection: Any) -> list[Kept]:
        """Return rows that were written and are not there any more."""
        if not self.written:
            return []
        query = f"SELECT id FROM evaluations WHERE {as_text(rows_of_run(self._run_id))}"
        present = {key for (key,) in connection.execute(query).fetchall()}
        return [
            (table, row)
            for table, row in self.written
            if table != evaluations.name or row[0] not in present
        ]

    def _begin_to_keep(self, rows: list[Kept], error: Exception) -> None:
        self.error = error
        self.kept.extend(rows)
        self._next_attempt = time.monotonic() + _RETRY_INTERVAL

    def _keep(self, rows: list[Kept]) -> None:
        """Keep rows while others are kept, and try now and then to write all."""
        self.kept.extend(rows)
        began = time.monotonic()
        if began < self._next_attempt:
            return
        self.flush(0.0)
        took = time.monotonic() - began
        self._next_attempt = began + max(_RETRY_INTERVAL, took / _RETRY_SHARE)


def _size(kept: Kept) -> int:
    """Return about how many bytes a row takes."""
    return 1_000 + sum(len(value) for value in kept[1] if isinstance(value, (bytes, str)))


class RunGoneError(Exception):
    """The log at the place of a run is not the one to which the run was added."""
