"""The evaluations of a run as one table, and which of them a line shows in which order."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from optimagic_lite.history import MultistartHistory

if TYPE_CHECKING:
    from optimagic_lite.history import History

_PATH_KINDS = ("start", "path")
_EXPLORED_KINDS = ("start", "exploration")


@dataclass(frozen=True, eq=False)
class Evaluations:
    """Evaluations of a run in the order in which they are drawn; one entry for each.

    Attributes:
        run: Where they come from.
        local: Number of the local optimisation, from 1; 0 is the exploration, or the whole run
            if it is without multistart.
        row: Position in the history of that part.
        kind: Why it was evaluated.
        fun: Value in the user's sign; NaN where it is not finite.
        violation: Largest violation of a native constraint; 0 where all hold.
        seconds: From the start of the first evaluation of the run to the end of this one.
    """

    run: MultistartHistory
    local: NDArray[np.int64]
    row: NDArray[np.int64]
    kind: NDArray[np.str_]
    fun: NDArray[np.float64]
    violation: NDArray[np.float64]
    seconds: NDArray[np.float64]

    @classmethod
    def of(cls, run: MultistartHistory) -> Evaluations:
        """Return all evaluations, those of the exploration first."""
        parts = run.exploration, *run.local_histories
        began = min(part.start_time[0] for part in parts if len(part))
        fun = _joined([part.fun for part in parts])
        return cls(
            run=run,
            local=np.repeat(np.arange(len(parts)), [len(part) for part in parts]),
            row=np.concatenate([np.arange(len(part)) for part in parts]),
            kind=np.concatenate([np.array(part.kind, dtype=np.str_) for part in parts]),
            fun=np.where(np.isfinite(fun), fun, np.nan),
            violation=_joined([part.violation for part in parts]),
            seconds=_joined([part.stop_time for part in parts]) - began,
        )

    def __len__(self) -> int:
        return len(self.fun)

    def take(self, index: NDArray[Any]) -> Evaluations:
        """Return some of the evaluations, by their positions or by a mask."""
        names = [field.name for field in fields(self) if field.name != "run"]
        return replace(self, **{name: getattr(self, name)[index] for name in names})

    @property
    def feasible_fun(self) -> NDArray[np.float64]:
        """Values, NaN also where a constraint is violated."""
        return np.where(self.violation > 0, np.nan, self.fun)

    @property
    def number(self) -> NDArray[np.int64]:
        """Number of each evaluation among those of its local optimisation, from 0."""
        first = np.append(True, self.local[1:] != self.local[:-1])
        position = np.arange(len(self))
        return np.asarray(position - np.maximum.accumulate(np.where(first, position, 0)))

    def flat_params(self, columns: NDArray[np.intp]) -> NDArray[np.float64]:
        """Return some entries of the parameters, shape (n, n_columns)."""
        out = np.empty((len(self), len(columns)))
        for number in np.unique(self.local):
            here = np.flatnonzero(self.local == number)
            out[here] = self._part(number).flat_at(self.row[here])[:, columns]
        return out

    def _part(self, number: int) -> History:
        return self.run.local_histories[number - 1] if number else self.run.exploration

    # ---- what is drawn ---------------------------------------------------------------------

    @property
    def best_local(self) -> int:
        """Number of the best local optimisation; 0 if there is none with a feasible value."""
        best = self.run.history
        return next((i for i, h in enumerate(self.run.local_histories, 1) if h is best), 0)

    def path(self, max_evaluations: int | None = None) -> Evaluations:
        """Return the path of the algorithm, in multistart that of the best local optimisation.

        Args:
            max_evaluations: How many to keep from the start; None keeps all.
        """
        is_drawn = np.isin(self.kind, _PATH_KINDS) & (self.local == self.best_local)
        return self.take(np.flatnonzero(is_drawn)[:max_evaluations])

    def other_paths(self, max_evaluations: int | None = None) -> Evaluations:
        """Return the paths of all local optimisations but the best; argument as for ``path``."""
        is_drawn = np.isin(self.kind, _PATH_KINDS) & (self.local > 0)
        others = self.take(is_drawn & (self.local != self.best_local))
        return others.take(others.number < (max_evaluations or np.inf))

    def stacked(
        self, max_evaluations: int | None = None, *, by_time: bool = False, is_sorted: bool = False
    ) -> Evaluations:
        """Return the paths of all local optimisations, one after the other.

        Args:
            max_evaluations: How many to keep; None keeps all.
            by_time: Whether the first ones are those that ended first.
            is_sorted: Whether they are in the order in which they ended, too.
        """
        is_drawn = np.isin(self.kind, _PATH_KINDS) & ((self.local > 0) | ~(self.local > 0).any())
        positions = np.flatnonzero(is_drawn)
        if by_time:
            positions = positions[np.argsort(self.seconds[positions], kind="stable")]
        positions = positions[:max_evaluations]
        return self.take(positions if is_sorted else np.sort(positions))

    def explored(self, *, by_time: bool = False) -> Evaluations:
        """Return the start and the explored points that did not fail, from worst to best.

        Points that violate constraints are worse than all others, as in the choice of starts.

        Args:
            by_time: Whether they are in the order of their evaluation instead.
        """
        if not (self.kind == "exploration").any():
            return self.take(np.arange(0))
        is_explored = (self.local == 0) & np.isin(self.kind, _EXPLORED_KINDS)
        found = self.take(is_explored & np.isfinite(self.fun))
        if by_time:
            return found
        sign = 1.0 if self.run.exploration.direction == "minimize" else -1.0
        best_first = np.lexsort((sign * found.fun, found.violation))
        return found.take(best_first[::-1])


def _joined(columns: list[list[float]]) -> NDArray[np.float64]:
    return np.concatenate([np.array(column, dtype=np.float64) for column in columns])
