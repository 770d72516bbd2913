"""The tables of a log and how numbers are stored in them.

A log is a SQLite file with two tables. Any SQLite tool reads it; nothing in it is code.

Two numbers in the header of the file say what it is: ``PRAGMA application_id`` that it is a log,
``PRAGMA user_version`` which version of the tables it holds.
"""

from __future__ import annotations

import json
import math
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray

from optimagic_lite.exceptions import LogError

SCHEMA_VERSION = 4
APPLICATION_ID = int.from_bytes(b"omlg")

FinalStatus = Literal["complete", "failed", "interrupted"]

metadata = sa.MetaData()

runs = sa.Table(
    "runs",
    metadata,
    sa.Column("run_id", sa.Integer, primary_key=True),
    sa.Column("status", sa.Text, nullable=False, comment="running or a FinalStatus"),
    sa.Column("pid", sa.Integer, nullable=False),
    sa.Column("host", sa.Text, nullable=False),
    sa.Column("started", sa.Float, nullable=False, comment="seconds since 1970, UTC"),
    sa.Column("ended", sa.Float, comment="seconds since 1970, UTC"),
    sa.Column("direction", sa.Text, nullable=False),
    sa.Column("algorithm", sa.Text, nullable=False),
    sa.Column("algo_options", sa.JSON, nullable=False),
    sa.Column("param_names", sa.JSON, nullable=False),
    sa.Column("structure", sa.Text, nullable=False, comment="JSON of ParamTree.to_json"),
    sa.Column("start_params", sa.LargeBinary, nullable=False, comment="little-endian float64"),
    sa.Column("derivatives", sa.JSON, nullable=False),
    sa.Column("versions", sa.JSON, nullable=False),
    sa.Column("success", sa.Boolean),
    sa.Column("message", sa.Text),
    sa.Column("fun", sa.Float, comment="best value in the user's sign"),
)

evaluations = sa.Table(
    "evaluations",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, comment="(run_id * 2**15 + step) * 2**30 + row"),
    sa.Column("run_id", sa.ForeignKey("runs.run_id"), nullable=False),
    sa.Column("step", sa.Integer, nullable=False, comment="0, or the local optimisation, from 1"),
    sa.Column("row", sa.Integer, nullable=False, comment="number within the step, from 0"),
    sa.Column("kind", sa.Text, nullable=False, comment="start, path, derivative, exploration"),
    sa.Column("task", sa.Text, nullable=False, comment="fun, fun_and_jac, jac, hess, hessp"),
    sa.Column("batch", sa.Integer, nullable=False),
    sa.Column("fun", sa.Float, comment="user's sign; NULL: not evaluated or not finite"),
    sa.Column("start_time", sa.Float, nullable=False, comment="seconds since start of the run"),
    sa.Column("stop_time", sa.Float, nullable=False, comment="seconds since start of the run"),
    sa.Column("exception", sa.Text, comment="why there is no value; NULL: nothing went wrong"),
    sa.Column("traceback", sa.Text, comment="of that exception"),
    sa.Column("info", sa.Text, comment="JSON of what came along with the value"),
    sa.Column("violation", sa.Float, comment="of native constraints, beyond their tolerance"),
    # last, so that the other columns are read without it
    sa.Column("params", sa.LargeBinary, nullable=False, comment="little-endian float64"),
)

MAX_STEP = (1 << 15) - 1
_STEPS_PER_RUN = MAX_STEP + 1
_ROWS_PER_STEP = 1 << 30


def evaluation_id(run_id: int, step: int, row: int) -> int:
    """Return the key of a row.

    Keys of a run follow each other, so its rows lie together and are found without an index; that
    would cost a third of the time of a write. Processes that write different steps of a run need
    not agree on keys.
    """
    return (run_id * _STEPS_PER_RUN + step) * _ROWS_PER_STEP + row


def rows_of_run(run_id: Any) -> sa.ColumnElement[bool]:
    """Return the condition that a row belongs to a run."""
    first = evaluation_id(run_id, 0, 0)
    size = _STEPS_PER_RUN * _ROWS_PER_STEP
    return sa.and_(evaluations.c.id >= first, evaluations.c.id < first + size)


def rows_of_step(run_id: int, step: int) -> sa.ColumnElement[bool]:
    """Return the condition that a row belongs to a step of a run."""
    first = evaluation_id(run_id, step, 0)
    return sa.and_(evaluations.c.id >= first, evaluations.c.id < first + _ROWS_PER_STEP)


def page_size(n_params: int) -> int:
    """Return the page size of a new file; a commit writes whole pages, so small rows want small."""
    return 1024 if n_params < 64 else 4096


def create(connection: sa.Connection) -> None:
    """Create the tables in an empty database and mark it as a log."""
    metadata.create_all(connection)
    connection.exec_driver_sql(f"PRAGMA application_id = {APPLICATION_ID}")
    connection.exec_driver_sql(f"PRAGMA user_version = {SCHEMA_VERSION}")


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
        application, version, n_objects = (
            connection.execute(sql).fetchone()[0]
            for sql in (
                "PRAGMA application_id",
                "PRAGMA user_version",
                "SELECT count(*) FROM sqlite_master",
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
        raise LogError(
            f"{path} is no log: it is a SQLite database of another program. Choose another path."
        )
    if version != SCHEMA_VERSION:
        age, advice = ("a newer", "Update optimagic_lite.") if version > SCHEMA_VERSION else (
            "an older, unreleased", "Read it with that one, or choose another path."
        )  # fmt: skip
        raise LogError(
            f"{path} was written by {age} version of optimagic_lite: its tables have version "
            f"{version}, and this one knows version {SCHEMA_VERSION}. {advice}"
        )
    return True


def encode(numbers: NDArray[np.float64]) -> bytes:
    """Return numbers as little-endian float64 bytes."""
    return np.asarray(numbers, dtype="<f8").tobytes()


def decode(blobs: Sequence[bytes], n_numbers: int) -> NDArray[np.float64]:
    """Return stored numbers as a fresh array of shape (len(blobs), n_numbers)."""
    flat = np.frombuffer(b"".join(blobs), dtype="<f8").astype(np.float64)
    return flat.reshape(len(blobs), n_numbers)


def storable(text: str | None) -> str | None:
    """Return a text that UTF-8 knows: half a surrogate pair, as in some file names, has none."""
    return None if text is None else text.encode(errors="backslashreplace").decode()


def stored_value(fun: float | None, exception: str | None) -> tuple[float | None, str | None]:
    """Return what the columns fun and exception hold for a value."""
    exception = storable(exception)
    if fun is None or math.isfinite(fun):
        return fun if fun is None else float(fun), exception
    return None, exception or f"value is {float(fun)}"


def info_from(text: str | None) -> Any:
    """Return what the column info holds; None if there is nothing."""
    return None if text is None else json.loads(text)


def value_from(fun: float | None) -> float:
    """Return the value that the column fun holds; NaN if there is none."""
    return math.nan if fun is None else fun
