"""One evaluation as the log holds it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from optimagic_lite.deprecations.names import EVALUATION, today
from optimagic_lite.exceptions import did_you_mean
from optimagic_lite.history import Kind, Task
from optimagic_lite.log.tables import decode, info_from, value_from
from optimagic_lite.space.trees import ParamTree


@dataclass(frozen=True)
class LoggedEvaluation:
    """One evaluation from a log; fields and properties can also be read by key.

    Args:
        rowid: Key of the row in the table of evaluations.
        step: 0, or the number of the local optimisation of a multistart run, from 1.
        row: Number of the row within the step, over all kinds, from 0.
        params: Parameters in the user's structure.
        flat_params: The same as a vector, shape (n_params,).
        fun: Value in the user's sign; NaN if there is none.
        task: What was evaluated.
        kind: Why it was evaluated.
        batch: Rows of a run with the same number were evaluated together.
        start_time: Seconds from the start of the run to the start of the evaluation.
        stop_time: The same for its end.
        timestamp: End of the evaluation in seconds since 1970, UTC.
        exceptions: What went wrong; None if nothing did.
        traceback: Of the exception; None if there was none.
        info: What fun returned along with its value; None if nothing.
        violation: Largest violation of a native constraint beyond its tolerance; None where
            constraints were not evaluated.
    """

    rowid: int
    step: int
    row: int
    params: Any
    flat_params: NDArray[np.float64]
    fun: float
    task: Task
    kind: Kind
    batch: int
    start_time: float
    stop_time: float
    timestamp: float
    exceptions: str | None
    traceback: str | None
    info: Any
    violation: float | None

    @property
    def scalar_fun(self) -> float:
        """Another name of ``fun``."""
        return self.fun

    @property
    def valid(self) -> bool:
        """Whether the evaluation succeeded."""
        return self.exceptions is None

    def keys(self) -> list[str]:
        """Return the names of all fields and properties."""
        return [*self.__dataclass_fields__, "scalar_fun", "valid"]

    def __getitem__(self, key: str) -> Any:
        key = today(key, EVALUATION)
        if key not in self.keys():
            raise KeyError(
                f"{key!r} is no key of a logged evaluation: {', '.join(self.keys())}."
                + did_you_mean(key, self.keys())
            )
        return getattr(self, key)


def start_params(header: Any) -> NDArray[np.float64]:
    """Return the flat start parameters from a row of the table of runs."""
    n_params = len(header.param_names)
    return decode([header.start_params], n_params).reshape(n_params)


def evaluation_from(header: Any, tree: ParamTree, row: Any) -> LoggedEvaluation:
    """Return the evaluation that a row describes.

    Args:
        header: Row of the table of runs.
        tree: Structure of params.
        row: Row of the table of evaluations.
    """
    n_params = len(header.param_names)
    flat = decode([row.params], n_params).reshape(n_params)
    return LoggedEvaluation(
        rowid=row.id,
        step=row.step,
        row=row.row,
        params=tree.to_params(flat),
        flat_params=flat,
        fun=value_from(row.fun),
        task=row.task,
        kind=row.kind,
        batch=row.batch,
        start_time=row.start_time,
        stop_time=row.stop_time,
        timestamp=header.started + row.stop_time,
        exceptions=row.exception,
        traceback=row.traceback,
        info=info_from(row.info),
        violation=row.violation,
    )
