"""What an evaluator has counted and found, apart from the evaluator itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Tally:
    """What an evaluator has counted, and its best point; attributes as there."""

    COUNTS: ClassVar[tuple[str, ...]] = (
        "n_fun", "n_jac", "n_hess", "n_numdiff", "n_constraint", "n_failed",
    )  # fmt: skip
    BEST: ClassVar[tuple[str, ...]] = (
        "best_x", "best_f", "best_violation", "best_gradient", "has_failed_at_best",
    )  # fmt: skip

    n_fun: int
    n_jac: int
    n_hess: int
    n_numdiff: int
    n_constraint: int
    n_failed: int
    best_x: Array
    best_f: float
    best_violation: float
    best_gradient: Array | None
    has_failed_at_best: bool

    @property
    def rank(self) -> tuple[float, float]:
        """The lower, the better is the best point."""
        return self.best_violation, self.best_f
