"""The file of a log: how it is prepared, opened for writing and for reading."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from optimagic_lite.exceptions import LogError, TableExistsError, did_you_mean
from optimagic_lite.log.tables import holds_log
from optimagic_lite.options import IfExists

BUSY_TIMEOUT = 30.0  # seconds
_CHECKPOINT_INTERVAL = 1.0  # seconds
_COMPANIONS = ("-wal", "-shm", "-journal")


def check(path: Path, if_exists: IfExists) -> None:
    """Tell, without changing anything, whether a log can be at a path.

    Args:
        path: Absolute path of the log.
        if_exists: What to do if the file exists.

    Raises:
        TableExistsError: If the file exists and that is not wanted.
        LogError: If the folder does not exist, or the path is one.
    """
    if not path.parent.is_dir():
        raise LogError(
            f"The folder {path.parent} of the log {path.name!r} does not exist. Create it first, "
            "or choose another path."
        )
    if path.is_dir():
        raise LogError(f"{path} is a folder; the path of a log must be a file.")
    if if_exists == "raise" and path.exists():
        raise _exists(path)


def _exists(path: Path) -> TableExistsError:
    return TableExistsError(
        f"The log {path} exists already. Choose another path, or say what to do with "
        "SQLiteLogOptions(path, if_database_exists=...): 'extend' adds the run to the file, "
        "'replace' deletes the file with all its runs first."
    )


def prepare(path: Path, if_exists: IfExists) -> None:
    """Bring the file into the state in which a run can be added.

    Args:
        path: Absolute path of the log.
        if_exists: What to do if the file exists.

    Raises:
        TableExistsError: If the file exists and that is not wanted.
        LogError: If no log can be there.
    """
    check(path, if_exists)
    try:
        if if_exists == "replace":
            _remove(path)
        elif if_exists == "raise":
            path.touch(exist_ok=False)
    except FileExistsError as error:
        raise _exists(path) from error
    except OSError as error:
        raise LogError(f"The log {path} cannot be created: {error}.") from error


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
    path.unlink()
    for suffix in _COMPANIONS:
        _companion(path, suffix).unlink(missing_ok=True)


def connect_for_writing(path: Path) -> sqlite3.Connection:
    """Open or create a file so that each statement commits itself, and change nothing in it."""
    # without an isolation level the sqlite3 module begins no transactions of its own
    return sqlite3.connect(path, timeout=BUSY_TIMEOUT, isolation_level=None)


def tune(connection: sqlite3.Connection, *, fast_logging: bool, page_size: int) -> None:
    """Make commits cheap.

    Args:
        connection: A connection to a log, or to an empty file.
        fast_logging: Whether the last commits may be lost in a power failure.
        page_size: Bytes of a page, if the file is empty; another one keeps its own.
    """
    connection.execute(f"PRAGMA page_size = {page_size}")
    _switch_to_wal(connection)
    tune_connection(connection, fast_logging=fast_logging)


def tune_connection(connection: sqlite3.Connection, *, fast_logging: bool) -> None:
    """Make commits of a further connection to a log as cheap; arguments as in ``tune``."""
    connection.execute(f"PRAGMA synchronous = {'NORMAL' if fast_logging else 'FULL'}")
    # a thread of its own does the checkpoints, so that no row has to wait for one
    connection.execute("PRAGMA wal_autocheckpoint = 0")


def _switch_to_wal(connection: sqlite3.Connection) -> None:
    give_up = time.monotonic() + BUSY_TIMEOUT
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            # two processes that open one new file; SQLite applies no timeout to this statement
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > give_up:
                raise
            time.sleep(0.01)
        else:
            return


def checkpoint_until(path: Path, stop: threading.Event) -> None:
    """Copy committed rows from the WAL file to the database each second, and at the end."""
    connection = connect_for_writing(path)
    stopped = False
    while not stopped:
        stopped = stop.wait(_CHECKPOINT_INTERVAL)
        # a checkpoint that fails loses nothing: the next one, or any later reader, makes up for it
        with contextlib.suppress(sqlite3.OperationalError):
            connection.execute("PRAGMA wal_checkpoint(PASSIVE)")
    connection.close()


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
    if path.is_dir():
        raise LogError(f"{path} is a folder; the path of a log must be a file.")
    try:
        stat = path.stat()
    except OSError as error:
        neighbours = (p.name for p in path.parent.glob("*") if p.suffix == path.suffix)
        hint = did_you_mean(path.name, neighbours)
        raise LogError(f"There is no log at {path}.{hint}") from error
    return FileState(_companion(path, "-wal").exists(), stat.st_mtime_ns, stat.st_size)


def _companion(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)


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
            raise LogError(f"{path} is empty: no run was ever logged to it.")
        yield connection
