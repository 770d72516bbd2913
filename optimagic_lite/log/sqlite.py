"""A log in a SQLite file: how it is made, opened for writing and for reading.

Two numbers in the header of the file say what it is: ``PRAGMA application_id`` that it is a log,
``PRAGMA user_version`` which version of the tables it holds.
"""

from __future__ import annotations

import contextlib
import platform
import shutil
import sqlite3
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import sqlalchemy as sa
from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite

from optimagic_lite.exceptions import LogError, LogMissingError, TableExistsError, did_you_mean
from optimagic_lite.log.statements import insert_statements, session
from optimagic_lite.log.tables import APPLICATION_ID, SCHEMA_VERSION, metadata, require_version
from optimagic_lite.log_options import SQLiteLogOptions

T = TypeVar("T")

BUSY_TIMEOUT = 30.0  # seconds
_CHECKPOINT_INTERVAL = 1.0  # seconds
_CHECKPOINT_WAIT = 0.1  # seconds that a checkpoint waits for others, who may then wait for it
_WAL_PAGES = 1 << 14  # beyond which the WAL file is begun anew
_SLICE = 0.5  # seconds that SQLite waits at a time; meanwhile it is deaf to Ctrl-C
_COMPANIONS = ("-wal", "-shm", "-journal")


class _PatientConnection(sqlite3.Connection):
    """Waits for others in slices, so that Ctrl-C is heard, and with every statement.

    Attributes:
        patience: Seconds that a statement waits.
    """

    patience = 0.0

    def execute(self, *arguments: Any) -> sqlite3.Cursor:
        """See ``sqlite3.Connection``."""
        give_up: float | None = None
        while True:
            try:
                return super().execute(*arguments)
            except sqlite3.OperationalError as error:
                if give_up is None:
                    give_up = time.monotonic() + max(self.patience - _SLICE, 0.0)
                if not _is_busy(error) or time.monotonic() >= give_up:
                    raise
            # SQLite itself does not wait where the journal mode changes
            time.sleep(0.01)


def _is_busy(error: Exception) -> bool:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    return code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


@dataclass(frozen=True)
class SQLiteStore:
    """A log in a SQLite file; see ``Store``.

    Args:
        path: Absolute path of the file.
        options: What to do if the file exists, and how safe rows are to be.
    """

    path: Path
    options: SQLiteLogOptions

    inserts: ClassVar = insert_statements(SQLiteDialect_pysqlite())
    inserts_again: ClassVar = insert_statements(SQLiteDialect_pysqlite(), again=True)
    errors: ClassVar = (sqlite3.Error,)

    @property
    def location(self) -> str:
        """The path."""
        return str(self.path)

    @property
    def file(self) -> Path | None:
        """The path."""
        return self.path

    def check(self) -> None:
        """See ``Store``."""
        path = self.path
        try:
            has_folder, is_folder, exists = path.parent.is_dir(), path.is_dir(), path.exists()
        except (OSError, ValueError) as error:
            raise self._not_there(error) from error
        if not has_folder:
            raise LogError(
                f"The folder {path.parent} of the log {path.name!r} does not exist. Create it "
                "first, or choose another path."
            )
        if is_folder:
            raise LogError(f"{path} is a folder; the path of a log must be a file.")
        if self.options.if_database_exists == "raise" and exists:
            raise self._exists()

    def _not_there(self, error: Exception) -> LogError:
        return LogError(f"The log {self.path} cannot be created: {error}.")

    def _exists(self) -> TableExistsError:
        return TableExistsError(
            f"The log {self.path} exists already. Choose another path, or say what to do with "
            "SQLiteLogOptions(path, if_database_exists=...): 'extend' adds the run to the file, "
            "'replace' deletes the file with all its runs first. resume=True goes on with its "
            "last run."
        )

    def create(self, n_params: int) -> sqlite3.Connection:
        """See ``Store``."""
        self.check()
        self._make_room()
        connection = self._connect("rwc", BUSY_TIMEOUT)
        try:
            # a stranger's file must be refused before anything in it is changed
            holds_log(connection, self.path)
            connection.execute(f"PRAGMA page_size = {_page_size(n_params)}")
            connection.execute("PRAGMA journal_mode = WAL")
            self._tune(connection)
            with self.session(connection) as session:
                if not holds_log(connection, self.path):
                    metadata.create_all(session)
                    session.exec_driver_sql(f"PRAGMA application_id = {APPLICATION_ID}")
                    session.exec_driver_sql(f"PRAGMA user_version = {SCHEMA_VERSION}")
        except BaseException:
            connection.close()
            raise
        return connection

    def _make_room(self) -> None:
        """Make an empty file, unless there is one that is to be extended."""
        try:
            if self.options.if_database_exists == "replace":
                _remove(self.path)
            # of a log that was deleted: SQLite would take them for those of the new one, and a run
            # may still be writing to them
            orphans = [file for file in _companions(self.path) if file.exists()]
            self.path.touch(exist_ok=False)
            for file in orphans:
                file.unlink(missing_ok=True)
        except FileExistsError as error:
            if self.options.if_database_exists == "raise":
                raise self._exists() from error
        except OSError as error:
            raise self._not_there(error) from error

    def connect(self, timeout: float) -> sqlite3.Connection:
        """See ``Store``; a file that was deleted is not made anew."""
        connection = self._connect("rw", timeout)
        try:
            self._tune(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _connect(self, mode: str, timeout: float) -> sqlite3.Connection:
        # without an isolation level the sqlite3 module begins no transactions of its own
        connection = sqlite3.connect(
            f"{self.path.as_uri()}?mode={mode}",
            uri=True,
            timeout=min(timeout, _SLICE),
            isolation_level=None,
            factory=_PatientConnection,
        )
        connection.patience = timeout
        return connection

    def _tune(self, connection: sqlite3.Connection) -> None:
        """Make commits as cheap as is safe."""
        is_safe = self.options.survives == "power"
        connection.execute(f"PRAGMA synchronous = {'FULL' if is_safe else 'NORMAL'}")
        # a thread of its own does the checkpoints, so that no row has to wait for one
        connection.execute("PRAGMA wal_autocheckpoint = 0")

    def begin(self, connection: sqlite3.Connection) -> None:
        """See ``Store``."""
        connection.execute("BEGIN IMMEDIATE")

    @contextlib.contextmanager
    def session(self, connection: sqlite3.Connection) -> Iterator[sa.Connection]:
        """See ``Store``."""
        with session("sqlite://", connection, self.begin) as found:
            yield found

    def may_pass(self, error: Exception) -> bool:
        """Whether somebody else keeps the file busy."""
        return _is_busy(error)

    def adopt(self, connection: sqlite3.Connection, run_id: int) -> None:
        """Nothing: its number tells whether the process is there."""

    def lives(self, connection: sa.Connection, run_id: int) -> bool | None:
        """Not known by the file."""
        return None

    def keep(self) -> Callable[[], None]:
        """Copy rows from the WAL file to the database each second, in a thread."""
        stop = threading.Event()
        # the thread knows the path only, so that a writer that is dropped can end it
        thread = threading.Thread(target=_checkpoint_until, args=(self, stop), daemon=True)
        thread.start()

        def end() -> None:
            stop.set()
            if thread is not threading.current_thread():
                thread.join()

        return end

    def is_shared_with(self, host: str) -> bool:
        """Whether that is this machine: SQLite cannot be shared, not on a network drive either."""
        return host == platform.node()

    def ask(self, question: Callable[[sa.Connection], T]) -> T:
        """See ``Store``.

        A file without a write-ahead log is read as if it never changed, because SQLite would
        otherwise create files next to it. If a writer comes meanwhile, the question is repeated.
        """
        # behind a link, since the write-ahead log lies beside the file itself
        path = self.path.resolve()
        while True:
            state = state_of(path)
            failure: Exception | None = None
            try:
                with open_for_reading(path, has_wal=state.has_wal) as connection:
                    answer = question(connection)
            except (sqlite3.DatabaseError, sa.exc.DBAPIError, FileNotFoundError) as error:
                failure = error
            if not state.has_wal and state != state_of(path):
                continue
            if failure is not None:
                raise _unreadable(self.path, failure) from failure
            return answer


def _remove(path: Path) -> None:
    if not path.exists():
        return
    with path.open("rb") as file:
        header = file.read(16)
    if header not in (b"", b"SQLite format 3\0"):
        raise LogError(
            f"{path} is no SQLite database, so if_database_exists='replace' does not delete it. "
            "Choose another path, or delete the file yourself."
        )
    remove_database(path)


def remove_database(path: Path) -> None:
    """Delete a database with all its files."""
    for file in (path, *_companions(path)):
        file.unlink(missing_ok=True)


def _page_size(n_params: int) -> int:
    # another one than that of an empty file has no effect; a commit writes whole pages, so small
    # rows want small ones
    return 1024 if n_params < 64 else 4096


def _checkpoint_until(store: SQLiteStore, stop: threading.Event) -> None:
    # a checkpoint that fails loses nothing: the next one, or any later reader, makes up for it
    stopped = False
    while not stopped:
        with (
            contextlib.suppress(sqlite3.Error),
            contextlib.closing(store.connect(_CHECKPOINT_WAIT)) as connection,
        ):
            while not stopped:
                stopped = stop.wait(_CHECKPOINT_INTERVAL)
                _checkpoint(connection)
        stopped = stopped or stop.wait(_CHECKPOINT_INTERVAL)


def _checkpoint(connection: sqlite3.Connection) -> None:
    n_pages = connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()[1]
    # that lets rows in while it works, and as long as there are some that it has not copied, the
    # file grows; the other one keeps them waiting, but not for long: most are copied already
    if n_pages > _WAL_PAGES:
        connection.execute("PRAGMA wal_checkpoint(FULL)").fetchone()


@dataclass(frozen=True)
class FileState:
    """What tells, from outside, whether a file has changed."""

    has_wal: bool
    modified: int
    size: int


def state_of(path: Path) -> FileState:
    """Look at a file without opening it.

    Raises:
        LogError: If there is no such file.
    """
    try:
        if path.is_dir():
            raise LogError(f"{path} is a folder; the path of a log must be a file.")
        stat = path.stat()
    except PermissionError as error:
        raise LogError(f"The log {path} cannot be read: {error.strerror}.") from error
    except OSError as error:
        neighbours = (p.name for p in path.parent.glob("*") if p.suffix == path.suffix)
        hint = did_you_mean(path.name, neighbours)
        raise LogMissingError(f"There is no log at {path}.{hint}") from error
    return FileState(_companion(path, "-wal").exists(), stat.st_mtime_ns, stat.st_size)


def _companion(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)


def _companions(path: Path) -> list[Path]:
    return [_companion(path, suffix) for suffix in _COMPANIONS]


@contextlib.contextmanager
def open_for_reading(path: Path, *, has_wal: bool) -> Iterator[sa.Connection]:
    """Open a log read-only, without creating a file next to it.

    Args:
        path: File of the log.
        has_wal: Whether there is a write-ahead log; if not, the file must not change meanwhile.

    Raises:
        LogError: If the file is no log.
    """
    with contextlib.ExitStack() as stack:
        source = path
        if has_wal and not _companion(path, "-shm").exists():
            # a copy of a log that was being written; SQLite would have to create the third file
            source = Path(stack.enter_context(tempfile.TemporaryDirectory())) / path.name
            shutil.copyfile(path, source)
            shutil.copyfile(_companion(path, "-wal"), _companion(source, "-wal"))
        uri = source.as_uri() + ("?mode=ro" if has_wal else "?mode=ro&immutable=1")
        engine = sa.create_engine(
            "sqlite://",
            creator=lambda: sqlite3.connect(uri, uri=True, timeout=BUSY_TIMEOUT),
            poolclass=sa.NullPool,
        )
        connection = stack.enter_context(engine.connect())
        raw: Any = connection.connection.driver_connection
        if not holds_log(raw, path):
            raise LogMissingError(f"{path} is empty: no run was ever logged to it.")
        yield connection


def holds_log(connection: sqlite3.Connection, path: Path) -> bool:
    """Tell whether a database is a log that this version knows.

    Args:
        connection: A connection to the database.
        path: What to call it in messages.

    Returns:
        True for a log, False for a database without any content.

    Raises:
        LogError: If it is something else, or a log of a newer version.
    """
    try:
        # what is in it comes first: a process that makes a log meanwhile writes all three at once
        n_objects, application, version = (
            connection.execute(sql).fetchone()[0]
            for sql in (
                "SELECT count(*) FROM sqlite_master",
                "PRAGMA application_id",
                "PRAGMA user_version",
            )
        )
    except sqlite3.DatabaseError as error:
        if error.sqlite_errorcode != sqlite3.SQLITE_NOTADB:
            raise
        raise LogError(
            f"{path} is no log: it is not even a SQLite database. Choose another path."
        ) from error
    if n_objects == 0:
        return False
    if application != APPLICATION_ID:
        raise LogError(f"{path} is no log: {_origin(connection)}. Choose another path.")
    require_version(version, str(path))
    return True


def _origin(connection: sqlite3.Connection) -> str:
    """Return in words what a database is that is no log."""
    tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
    if {"optimization_problem", "optimization_iterations"} <= tables:
        return "it was written by optimagic or estimagic, whose logs hold pickles"
    return "it is a SQLite database of another program"


def _unreadable(path: Path, failure: Exception) -> LogError:
    """Return the error that says why a log cannot be read."""
    reason = getattr(failure, "orig", failure)
    code = getattr(reason, "sqlite_errorcode", 0) & 0xFF
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return LogError(
            f"The log {path} is damaged: {reason}. What can be saved of it, the command "
            f"'sqlite3 {path.name} .recover' saves."
        )
    return LogError(f"The log {path} cannot be read: {reason}.")
