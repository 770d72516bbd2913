"""What a batch of runs came to."""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from optimagic_lite.history import Direction, History
from optimagic_lite.space.trees import ParamTree

if TYPE_CHECKING:
    import pandas as pd

Array = NDArray[np.float64]

_COLUMNS = (
    "fun", "success", "status", "n_fun_evals", "n_failed_evals", "n_iterations", "gradient_norm",
)  # fmt: skip
_DOUBT = (
    "Evaluations failed, and the gradient at the best point is not small, so it may be no minimum. "
    "Use bounds to keep the algorithm away from where the criterion fails, or start elsewhere. The "
    "solver said: "
)


@dataclass(frozen=True, eq=False)
class BatchResult:
    """Results of runs that differ in data or starts, stacked along a leading axis.

    Attributes:
        params: Solutions, in the structure of params; each leaf has one entry for each run.
        fun: The criterion there, shape (n_runs,), in the user's sign.
        start_fun: The criterion at the starts, shape (n_runs,).
        success: Whether each run converged, shape (n_runs,).
        status: Why each ended, shape (n_runs,).
        n_fun_evals: Evaluations of each, all with gradient, shape (n_runs,).
        n_failed_evals: How many of those failed, shape (n_runs,).
        n_iterations: Steps of each, shape (n_runs,).
        gradient_norm: Largest absolute entry of the gradient with respect to what the algorithm
            sees, but for what bounds hold up, shape (n_runs,).
        flat_params: Solutions as vectors, shape (n_runs, n_params).
        param_names: Names of their entries.
        algorithm: Name of the algorithm.
        direction: "minimize" or "maximize".
        elapsed: Seconds.
        histories: All evaluations of each run, or None without ``collect_history=True``.
        log_path: The file of the log, or its URL, or None. Run i is local optimisation i + 1 there.
        log_run: Number of the batch there, as the reader counts.
    """

    params: Any
    fun: Array
    start_fun: Array
    success: NDArray[np.bool_]
    status: NDArray[np.int64]
    n_fun_evals: NDArray[np.int64]
    n_failed_evals: NDArray[np.int64]
    n_iterations: NDArray[np.int64]
    gradient_norm: Array
    flat_params: Array
    param_names: list[str]
    algorithm: str
    direction: Direction
    elapsed: float
    histories: list[History] | None
    log_path: Path | str | None
    log_run: int | None
    _tree: ParamTree
    _messages: dict[int, str]
    _is_doubtful: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.fun)

    @property
    def message(self) -> list[str]:
        """Why each run ended, and what to do if that is no success."""
        told = zip(self.status.tolist(), self._is_doubtful.tolist(), strict=True)
        return [_DOUBT * doubtful + self._messages[status] for status, doubtful in told]

    def params_of(self, run: int) -> Any:
        """Return the solution of one run, in the structure of params."""
        return self._tree.to_params(self.flat_params[run])

    def to_frame(self) -> pd.DataFrame:
        """Return a table with a row for each run: how it ended, and its params by their names."""
        import pandas as pd

        told = pd.DataFrame({name: getattr(self, name) for name in _COLUMNS}).assign(
            message=self.message
        )
        params = pd.DataFrame(self.flat_params, columns=self.param_names)
        out = pd.concat([told, params], axis=1)
        out.index.name = "run"
        return out

    @property
    def failures(self) -> pd.DataFrame:
        """The rows of ``to_frame()`` of runs that did not converge."""
        return self.to_frame()[~self.success]

    @property
    def summary(self) -> str:
        """How many runs converged, and why the others did not."""
        n, n_good = len(self), int(self.success.sum())
        lines = [
            f"{n_good:,} of {n:,} runs of {self.algorithm} converged in {self.elapsed:.2f} "
            f"seconds, with {int(self.n_fun_evals.sum()):,} evaluations."
        ]
        reasons = Counter(itertools.compress(self.message, ~self.success))
        lines += [f"{n_bad:,} did not: {message}" for message, n_bad in reasons.most_common()]
        return "\n".join(lines)

    def __repr__(self) -> str:
        return self.summary if self.success.all() else f"{self.summary}\nSee failures."
