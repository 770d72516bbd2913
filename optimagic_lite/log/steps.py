"""Local optimisations that have ended, as the log holds them."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from optimagic_lite.history import jsonable
from optimagic_lite.log.statements import Row
from optimagic_lite.log.tables import decode, encode, storable, value_from

Array = NDArray[np.float64]

# how the ways are called in which a local optimisation ends, by what the log says of its success
OUTCOMES = {True: "converged", False: "not converged", None: "failed"}

_ARRAYS = ("start", "origin", "best_x", "best_gradient", "x", "gradient", "hess", "hess_inv")


@dataclass(frozen=True, eq=False)
class StepRecord:
    """A local optimisation that has ended.

    Args:
        step: Its number, from 1.
        stop_time: Seconds from the start of the run to its end.
        success: Whether it converged; None if it failed.
        message: What the solver said, or why it failed.
        status: Code of the library.
        n_iterations: Number of iterations, if known.
        fun: Best value in the user's sign; NaN if there is none.
        violation: Largest violation of native constraints there, beyond their tolerance.
        counts: What was counted, by name.
        info: Further output of the library, as JSON knows it.
        arrays: What the solver saw: "start", "origin" (the explored point of which that was made),
            "best_x", "best_gradient", "x" (its last point),
            "gradient", all of shape (n_x,), "hess" and "hess_inv", of shape (n_x, n_x); those that
            are not known are left out.
    """

    step: int
    stop_time: float
    success: bool | None
    message: str
    status: int | None
    n_iterations: int | None
    fun: float
    violation: float
    counts: dict[str, int]
    info: dict[str, Any]
    arrays: dict[str, Array] = field(default_factory=dict)


def row_from(run_id: int, record: StepRecord) -> Row:
    """Return the row of a record."""
    blobs = [record.arrays.get(name) for name in _ARRAYS]
    return (
        run_id,
        record.step,
        record.stop_time,
        record.success,
        storable(record.message),
        record.status,
        record.n_iterations,
        record.fun if math.isfinite(record.fun) else None,
        record.violation if math.isfinite(record.violation) else None,
        json.dumps(record.counts),
        storable(json.dumps(jsonable(record.info))),
        *(None if blob is None else encode(blob) for blob in blobs),
    )


def record_from(row: Any) -> StepRecord:
    """Return the record of a row."""
    n_x = len(row.start) // 8
    arrays = {
        name: decode([blob], n_x if len(blob) == 8 * n_x else n_x * n_x)[0]
        for name in _ARRAYS
        if (blob := getattr(row, name)) is not None
    }
    for name in {"hess", "hess_inv"} & set(arrays):
        arrays[name] = arrays[name].reshape(n_x, n_x)
    return StepRecord(
        step=row.step,
        stop_time=row.stop_time,
        success=row.success,
        message=row.message,
        status=row.status,
        n_iterations=row.n_iterations,
        fun=value_from(row.fun),
        violation=math.inf if row.violation is None else row.violation,
        counts=json.loads(row.counts),
        info=json.loads(row.info),
        arrays=arrays,
    )
