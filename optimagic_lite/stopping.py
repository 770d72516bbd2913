"""When and why a run ends from inside an evaluation, whatever the algorithm."""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass

from optimagic_lite.exceptions import StopOptimizationError


class Stop(enum.Enum):
    """Why a run was ended; the text says what to do."""

    MAXFUN = (
        "The limit of {limit:,} evaluations (stopping_maxfun) was reached before convergence. "
        "Raise it, or restart from result.params."
    )
    MAXITER = (
        "The limit of {limit:,} iterations (stopping_maxiter) was reached before convergence. "
        "Raise it, or restart from result.params."
    )
    MAXTIME = (
        "The limit of {limit:g} seconds (stopping_maxtime) was reached before convergence. "
        "Raise it, or restart from result.params."
    )
    CALLBACK = "The callback stopped the run."
    REPEATS = (
        "The algorithm asked {limit:,} times in a row for the point that it knew: rounding errors "
        "prevent further progress. The point is often good; loosen the tolerances if it is."
    )
    NOT_FINITE = (
        "The algorithm asked for params that are not finite: it broke down. The best point that it "
        "evaluated is returned; try another algorithm, another start or scaling=True."
    )

    @property
    def status(self) -> int:
        """A number that no wrapped library uses: 101, 102, ..."""
        return 101 + list(Stop).index(self)

    def text(self, limit: float | None = None) -> str:
        """Return the text with the limit filled in."""
        return self.value.format(limit=limit)


class StopRun(StopOptimizationError):  # noqa: N818
    """Carries the reason for a stop through a solver's code."""

    def __init__(self, stop: Stop, limit: float | None = None) -> None:
        super().__init__(stop.text(limit))
        self.stop = stop


@dataclass(frozen=True)
class Limits:
    """When the evaluator ends a run.

    Args:
        maxfun: Number of evaluations of the criterion, the start included, those for
            difference quotients not included.
        maxiter: Number of iterations.
        maxtime: Seconds.
        counts_iterations: Whether the algorithm says when an iteration ends; where it does not,
            an evaluation counts as one.
    """

    maxfun: int
    maxiter: int
    maxtime: float
    counts_iterations: bool

    def check(self, n_evaluations: int, elapsed: float) -> None:
        """Raise ``StopRun`` if another evaluation would go beyond a limit."""
        if n_evaluations >= self.maxfun:
            raise StopRun(Stop.MAXFUN, self.maxfun)
        if not self.counts_iterations and n_evaluations >= self.maxiter:
            raise StopRun(Stop.MAXITER, self.maxiter)
        if elapsed > self.maxtime:
            raise StopRun(Stop.MAXTIME, self.maxtime)

    def remaining(self, n_evaluations: int) -> int:
        """Return how many evaluations are left."""
        limit = self.maxfun if self.counts_iterations else min(self.maxfun, self.maxiter)
        return limit - n_evaluations


NO_LIMITS = Limits(maxfun=2**62, maxiter=2**62, maxtime=math.inf, counts_iterations=True)
