"""The tables of a log and how numbers are stored in them.

A log is a database with three tables. Any SQL tool reads it; nothing in it is code.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray

from optimagic_lite.exceptions import LogError

SCHEMA_VERSION = 5
APPLICATION_ID = int.from_bytes(b"omlg")

FinalStatus = Literal["complete", "failed", "interrupted"]

metadata = sa.MetaData()

runs = sa.Table(
    "runs",
    metadata,
    sa.Column("run_id", sa.Integer, primary_key=True),
    sa.Column("status", sa.Text, nullable=False, comment="running or a FinalStatus"),
    sa.Column("pid", sa.Integer, nullable=False),
    sa.Column("pid_started", sa.Text, comment="tells a process from a later one of that number"),
    sa.Column("host", sa.Text, nullable=False),
    sa.Column("started", sa.Float, nullable=False, comment="seconds since 1970, UTC"),
    sa.Column("ended", sa.Float, comment="seconds since 1970, UTC"),
    sa.Column("direction", sa.Text, nullable=False),
    sa.Column("algorithm", sa.Text, nullable=False),
    sa.Column("algo_options", sa.JSON, nullable=False),
    sa.Column("param_names", sa.JSON, nullable=False),
    sa.Column("structure", sa.Text, nullable=False, comment="JSON of ParamTree.to_json"),
    sa.Column("start_params", sa.LargeBinary, nullable=False, comment="little-endian float64"),
    sa.Column("problem", sa.JSON, nullable=False, comment="bounds, constraints, multistart"),
    sa.Column("derivatives", sa.JSON, nullable=False),
    sa.Column("versions", sa.JSON, nullable=False),
    sa.Column("resumed", sa.JSON, nullable=False, comment="what was here before each resumption"),
    sa.Column("success", sa.Boolean),
    sa.Column("message", sa.Text),
    sa.Column("fun", sa.Float, comment="best value in the user's sign"),
)

evaluations = sa.Table(
    "evaluations",
    metadata,
    sa.Column(
        "id",
        # SQLite keys its rows by a column that is declared as INTEGER
        sa.BigInteger().with_variant(sa.Integer, "sqlite"),
        primary_key=True,
        autoincrement=False,
        comment="(run_id * 2**15 + step) * 2**30 + row",
    ),
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

# local optimisations that have ended, with all that a resumed run has to know of them
steps = sa.Table(
    "steps",
    metadata,
    sa.Column("run_id", sa.ForeignKey("runs.run_id"), primary_key=True),
    sa.Column("step", sa.Integer, primary_key=True, autoincrement=False, comment="from 1"),
    sa.Column("stop_time", sa.Float, nullable=False, comment="seconds since start of the run"),
    sa.Column("success", sa.Boolean, comment="whether it converged; NULL: it failed"),
    sa.Column("message", sa.Text, nullable=False, comment="of the solver, or why it failed"),
    sa.Column("status", sa.Integer, comment="code of the library"),
    sa.Column("n_iterations", sa.Integer),
    sa.Column("fun", sa.Float, comment="best value in the user's sign"),
    sa.Column("violation", sa.Float, comment="of native constraints there, beyond tolerance"),
    sa.Column("counts", sa.Text, nullable=False, comment="JSON"),
    sa.Column("info", sa.Text, nullable=False, comment="JSON of further output of the library"),
    # what the solver saw: little-endian float64, matrices row by row
    sa.Column("start", sa.LargeBinary, nullable=False),
    sa.Column("origin", sa.LargeBinary, nullable=False, comment="the explored point behind it"),
    sa.Column("best_x", sa.LargeBinary),
    sa.Column("best_gradient", sa.LargeBinary),
    sa.Column("x", sa.LargeBinary),
    sa.Column("gradient", sa.LargeBinary),
    sa.Column("hess", sa.LargeBinary),
    sa.Column("hess_inv", sa.LargeBinary),
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
    """Return the condition that a row belongs to a run, whose number may be a column."""
    if isinstance(run_id, sa.ColumnElement):
        # keys do not fit into an integer of that column's size
        run_id = sa.type_coerce(run_id, sa.BigInteger())
    first = evaluation_id(run_id, 0, 0)
    size = _STEPS_PER_RUN * _ROWS_PER_STEP
    return sa.and_(evaluations.c.id >= first, evaluations.c.id < first + size)


def rows_of_step(run_id: int, step: int) -> sa.ColumnElement[bool]:
    """Return the condition that a row belongs to a step of a run."""
    first = evaluation_id(run_id, step, 0)
    return sa.and_(evaluations.c.id >= first, evaluations.c.id < first + _ROWS_PER_STEP)


def require_version(version: int, location: str) -> None:
    """Refuse a log of another version.

    Args:
        version: That of its tables.
        location: What to call it in messages.

    Raises:
        LogError: If this version of the package cannot read it.
    """
    if version == SCHEMA_VERSION:
        return
    age, advice = ("a newer", "Update optimagic_lite.") if version > SCHEMA_VERSION else (
        "an older, unreleased", "Read it with that one, or choose another place."
    )  # fmt: skip
    raise LogError(
        f"{location} was written by {age} version of optimagic_lite: its tables have version "
        f"{version}, and this one knows version {SCHEMA_VERSION}. {advice}"
    )


def encode(numbers: NDArray[np.float64]) -> bytes:
    """Return numbers as little-endian float64 bytes."""
    return np.asarray(numbers, dtype="<f8").tobytes()


def decode(blobs: Sequence[bytes], n_numbers: int) -> NDArray[np.float64]:
    """Return stored numbers as a fresh array of shape (len(blobs), n_numbers)."""
    flat = np.frombuffer(b"".join(blobs), dtype="<f8").astype(np.float64)
    return flat.reshape(len(blobs), n_numbers)


def storable(text: str | None) -> str | None:
    """Return a text that all databases take: no half surrogate pairs, no zero bytes."""
    if text is None:
        return None
    return text.encode(errors="backslashreplace").decode().replace("\0", "\\x00")


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
