"""What a feed tells of a run, beside plain numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Best:
    """The best evaluation so far.

    Args:
        id: Its key in the database.
        fun: Its value, in the user's sign.
        number: Its number, see ``RunFeed``.
        time: When it ended, in seconds from the start of the run.
        step: Its local optimisation, or 0.
    """

    id: int
    fun: float
    number: int
    time: float
    step: int


@dataclass(frozen=True)
class Failure:
    """An evaluation that went wrong.

    Args:
        id: Its key in the database.
        step: Its local optimisation, or 0.
        time: When it ended, in seconds from the start of the run.
        message: What went wrong.
    """

    id: int
    step: int
    time: float
    message: str


@dataclass
class Step:
    """A local optimisation, or all that is none (step 0).

    Args:
        step: Its number.
        n_evaluations: Number of its rows, without those of difference quotients.
        first: Its first value; None as long as there is none.
        best: Its best feasible value; None as long as there is none.
        last_time: When its last evaluation ended, in seconds from the start of the run.
        is_finished: Whether the log says that it ended.
        success: Whether it converged; None if it failed, or goes on.
    """

    step: int
    n_evaluations: int = 0
    first: float | None = None
    best: float | None = None
    last_time: float = 0.0
    is_finished: bool = False
    success: bool | None = None


@dataclass(frozen=True)
class ParamsPoints:
    """Evaluations whose parameters are kept.

    Args:
        stride: Every how many evaluations there is one.
        numbers: Their numbers, shape (k,).
        times: When they ended, in seconds from the start of the run, shape (k,).
        vectors: Their parameters, k of shape (n_params,).
    """

    stride: int = 1
    numbers: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    times: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    vectors: Sequence[NDArray[np.float64]] = ()
