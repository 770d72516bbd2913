"""What a batch of runs came to."""

from __future__ import annotations

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

    def __len__(self) -> int:
        return len(self.fun)

    @property
    def message(self) -> list[str]:
        """Why each run ended, and what to do if that is no success."""
        return [self._messages[int(status)] for status in self.status]

    def params_of(self, run: int) -> Any:
        """Return the solution of one run, in the structure of params."""
        return self._tree.to_params(self.flat_params[run])

    def to_frame(self) -> pd.DataFrame:
        """Return a table with a row for each run: how it ended, and its params by their names."""
        import pandas as pd

        columns = ("fun", "success", "status", "n_fun_evals", "n_iterations", "gradient_norm")
        told = pd.DataFrame({name: getattr(self, name) for name in columns}).assign(
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

    def __repr__(self) -> str:
        n, n_good = len(self), int(self.success.sum())
        lines = [
            f"{n_good:,} of {n:,} runs of {self.algorithm} converged in {self.elapsed:.2f} "
            f"seconds, with {int(self.n_fun_evals.sum()):,} evaluations."
        ]
        for status in np.unique(self.status[~self.success]).tolist():
            n_bad = int((self.status == status).sum())
            lines.append(f"{n_bad:,} did not: {self._messages[status]}")
        if n_good < n:
            lines.append("See failures.")
        return "\n".join(lines)
