"""The record of a run in memory: one row per evaluation that the algorithm asked for."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from optimagic_lite.deprecations.names import HISTORY, today

if TYPE_CHECKING:
    import pandas as pd

Direction = Literal["minimize", "maximize"]
Kind = Literal["start", "path", "derivative", "exploration"]
Task = Literal["fun", "fun_and_jac", "jac", "hess", "hessp"]

_COLUMNS = (
    "fun", "params", "time", "start_time", "stop_time", "batches", "task", "kind",
    "violation", "info", "monotone_fun", "is_accepted", "flat_params", "flat_param_names",
    "direction",
)  # fmt: skip


class ParamsStructure(Protocol):
    """What a history must know of the user's params."""

    @property
    def names(self) -> list[str]:
        """Names of the entries of the flat vector."""
        ...

    def to_params(self, flat: NDArray[np.float64]) -> Any:
        """Build the user's structure from the flat vector."""
        ...


class History:
    """Evaluations of the criterion, in the order in which they ended.

    Rows are the start point and the points for which the algorithm asked. Points of numerical
    derivatives are in the log only. Values have the user's sign. All columns are also
    accessible by key, ``history["fun"]``.

    Args:
        direction: "minimize" or "maximize".
        structure: Names the entries of the flat vectors and rebuilds params.
        to_flat_rows: Turns rows as they are added, shape (k, n_x), into flat vectors, shape
            (k, n_params), when they are first looked at; None if they are flat.

    Attributes:
        direction: As given.
    """

    def __init__(
        self,
        direction: Direction,
        structure: ParamsStructure,
        to_flat_rows: Callable[[NDArray[np.float64]], NDArray[np.float64]] | None = None,
    ) -> None:
        self.direction = direction
        self._structure = structure
        self._to_flat_rows = to_flat_rows
        self._rows: list[NDArray[np.float64]] = []
        self._n_flat = 0
        self._fun: list[float] = []
        self._start: list[float] = []
        self._stop: list[float] = []
        self._task: list[Task] = []
        self._kind: list[Kind] = []
        self._batches: list[int] = []
        self._violation: list[float] = []
        self._info: dict[int, Any] = {}

    def __getstate__(self) -> dict[str, Any]:
        # what turns rows into flat vectors holds compiled functions
        return self.__dict__ | {"_rows": self._flat, "_to_flat_rows": None}

    def append(
        self,
        row: NDArray[np.float64],
        fun: float,
        start: float,
        stop: float,
        task: Task,
        kind: Kind = "path",
        batch: int | None = None,
        violation: float = 0.0,
        info: Any = None,
    ) -> None:
        """Add a row.

        Args:
            row: Parameters, flat or as ``to_flat_rows`` takes them. Kept, not copied.
            fun: Value in the user's sign; NaN for a failed evaluation.
            start: Seconds from the start of the run to the start of the evaluation.
            stop: The same for its end.
            task: What was evaluated.
            kind: Why it was evaluated.
            batch: Rows with the same number were evaluated together; None begins a new batch.
            violation: Largest violation of a constraint beyond its tolerance.
            info: What came along with the value, as JSON knows it.
        """
        if info is not None:
            self._info[len(self)] = info
        if batch is None:
            batch = self._batches[-1] + 1 if self._batches else 0
        self._rows.append(row)
        self._fun.append(fun)
        self._start.append(start)
        self._stop.append(stop)
        self._task.append(task)
        self._kind.append(kind)
        self._batches.append(batch)
        self._violation.append(violation)

    def __len__(self) -> int:
        return len(self._fun)

    def __getitem__(self, key: str) -> Any:
        key = today(key, HISTORY)
        if key not in _COLUMNS:
            raise KeyError(f"{key!r} is no column of the history: {', '.join(_COLUMNS)}.")
        return getattr(self, key)

    def __repr__(self) -> str:
        return f"History({self.direction}, {len(self)} evaluations, {self.n_params} parameters)"

    @property
    def n_params(self) -> int:
        """Length of a flat vector."""
        return len(self.flat_param_names)

    @property
    def _flat(self) -> list[NDArray[np.float64]]:
        """All rows as flat vectors."""
        if self._to_flat_rows is not None and self._n_flat < len(self._rows):
            new = np.array(self._rows[self._n_flat :])
            self._rows[self._n_flat :] = list(self._to_flat_rows(new))
        self._n_flat = len(self._rows)
        return self._rows

    @property
    def fun(self) -> list[float]:
        """Values in the user's sign; NaN where the evaluation failed."""
        return list(self._fun)

    @property
    def params(self) -> list[Any]:
        """Parameters in the user's structure."""
        return [self._structure.to_params(flat) for flat in self._flat]

    @property
    def flat_params(self) -> NDArray[np.float64]:
        """Parameters as an array of shape (n_rows, n_params)."""
        return np.array(self._flat, dtype=np.float64).reshape(len(self), self.n_params)

    def flat_at(self, positions: NDArray[np.intp]) -> NDArray[np.float64]:
        """Return the rows of ``flat_params`` at some positions, without building all of it."""
        flat = self._flat
        return np.array([flat[i] for i in positions], dtype=np.float64)

    @property
    def flat_param_names(self) -> list[str]:
        """Names of the columns of ``flat_params``."""
        return list(self._structure.names)

    @property
    def start_time(self) -> list[float]:
        """Seconds from the start of the run to the start of each evaluation."""
        return list(self._start)

    @property
    def stop_time(self) -> list[float]:
        """Seconds from the start of the run to the end of each evaluation."""
        return list(self._stop)

    @property
    def time(self) -> NDArray[np.float64]:
        """Seconds from the start of the first evaluation to the end of each."""
        stop = np.array(self._stop, dtype=np.float64)
        return stop - self._start[0] if self._start else stop

    @property
    def task(self) -> list[Task]:
        """What was evaluated: "fun" or "fun_and_jac"."""
        return list(self._task)

    @property
    def kind(self) -> list[Kind]:
        """Why it was evaluated: "start", "path" or "exploration"."""
        return list(self._kind)

    @property
    def batches(self) -> list[int]:
        """Number of the batch to which each row belongs."""
        return list(self._batches)

    @property
    def monotone_fun(self) -> NDArray[np.float64]:
        """The best value up to each row; NaN before the first success that is feasible."""
        return best_so_far(self._feasible_fun, self.direction)

    @property
    def violation(self) -> list[float]:
        """Largest violation of a native constraint beyond its tolerance; 0 where all hold."""
        return list(self._violation)

    @property
    def info(self) -> list[Any]:
        """What fun returned along with its value, as JSON knows it; None where nothing."""
        return [self._info.get(i) for i in range(len(self))]

    @property
    def _feasible_fun(self) -> NDArray[np.float64]:
        return np.where(np.array(self._violation) > 0, np.nan, np.array(self._fun, dtype=float))

    @property
    def is_accepted(self) -> NDArray[np.bool_]:
        """Whether a row is feasible and at least as good as all before it."""
        fun = self._feasible_fun
        with np.errstate(invalid="ignore"):
            return np.asarray(np.isfinite(fun) & (fun == self.monotone_fun))

    def joined(self, others: Sequence[History]) -> History:
        """Return a history with the rows of others after those of this one."""
        out = History(self.direction, self._structure)
        for part in (self, *others):
            # parts of a run that was resumed go on counting, others begin anew
            later = out._batches[-1] + 1 - part._batches[0] if out._batches and len(part) else 0
            first = max(0, later)
            columns = zip(
                part._flat, part._fun, part._start, part._stop, part._task, part._kind,
                (first + batch for batch in part._batches), part._violation, part.info,
                strict=True,
            )  # fmt: skip
            for column in columns:
                out.append(*column)
        return out

    def to_frame(self) -> pd.DataFrame:
        """Return all rows as a DataFrame with one column a parameter.

        Returns:
            Columns ``fun, time, start_time, stop_time, task, kind, batch, violation`` and then the
            parameters, named ``params.<name>`` where a name is taken already.
        """
        import pandas as pd

        columns: dict[str, Any] = {
            "fun": self._fun,
            "time": self.time,
            "start_time": self._start,
            "stop_time": self._stop,
            "task": self._task,
            "kind": self._kind,
            "batch": self._batches,
            "violation": self._violation,
        }
        names = [f"params.{n}" if n in columns else n for n in self.flat_param_names]
        flat = pd.DataFrame(self.flat_params, columns=names)
        return pd.concat([pd.DataFrame(columns), flat], axis=1)


@dataclass(frozen=True)
class MultistartHistory:
    """The evaluations of a multistart run, one history a local optimisation.

    Attributes:
        exploration: The start and the points of the exploration, failed ones too, in the order of
            their evaluation.
        local_histories: Those of all local optimisations, failed ones too, in the order in which
            they were begun; empty without multistart.
    """

    exploration: History
    local_histories: tuple[History, ...]

    @property
    def history(self) -> History:
        """The local history with the best feasible value, or the exploration if there is none."""
        candidates = [h for h in self.local_histories if np.isfinite(h.monotone_fun).any()]
        if not candidates:
            return self.exploration
        sign = 1.0 if self.exploration.direction == "minimize" else -1.0
        return min(candidates, key=lambda h: sign * float(h.monotone_fun[-1]))

    @property
    def stacked(self) -> History:
        """All local optimisations as one history, in the order in which they were begun."""
        first = self.local_histories[0] if self.local_histories else self.exploration
        return first.joined(self.local_histories[1:])


def best_so_far(
    fun: Sequence[float] | NDArray[np.float64], direction: Direction
) -> NDArray[np.float64]:
    """Return the running minimum, or maximum, ignoring values that are not finite.

    Args:
        fun: Values, shape (n,).
        direction: "minimize" or "maximize".

    Returns:
        Array of shape (n,); NaN before the first finite value.

    Example:
        >>> best_so_far([3.0, float("nan"), 4.0, 1.0], "minimize").tolist()
        [3.0, 3.0, 3.0, 1.0]
    """
    values = np.array(fun, dtype=np.float64)
    worst = np.inf if direction == "minimize" else -np.inf
    values[~np.isfinite(values)] = worst
    accumulate = np.minimum if direction == "minimize" else np.maximum
    out = accumulate.accumulate(values)
    out[np.isinf(out)] = np.nan
    return np.asarray(out)


def jsonable(value: Any) -> Any:
    """Return a value as JSON knows it; what JSON does not know becomes its repr."""
    if hasattr(value, "tolist"):  # numbers and arrays of NumPy, JAX and pandas
        value = value.tolist()
    if isinstance(value, dict):
        return {str(key): jsonable(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [jsonable(entry) for entry in value]
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float) and math.isfinite(value):
        return value
    return repr(value)
