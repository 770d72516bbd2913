"""What the log says of a run apart from its evaluations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class LoggedRun:
    """A run in a log.

    Args:
        run_id: Its key in the database.
        status: "running", "complete", "failed", "interrupted" or "died".
        direction: "minimize" or "maximize".
        algorithm: Name of the algorithm.
        param_names: Names of the entries of the flat vector.
        structure: JSON of the structure of params.
        start_params: Flat start parameters, shape (n_params,).
        problem: Bounds, constraints and whatever else a resumed run must share.
        process: Number of its process, and the machine on which that is.
    """

    run_id: int
    status: str
    direction: str
    algorithm: str
    param_names: list[str]
    structure: str
    start_params: NDArray[np.float64]
    problem: dict[str, Any]
    process: tuple[int, str]


def no_run(run: int, n_runs: int, where: str) -> str:
    """Return in words that there is no run with a number.

    Args:
        run: The number, which counts from 0, or from -1 backwards.
        n_runs: How many runs there are.
        where: What to call the log.
    """
    runs = "1 run" if n_runs == 1 else f"{n_runs:,} runs"
    return (
        f"There is no run {run} in {where}, which holds {runs}, counted from 0, or from -1 "
        "backwards."
    )
