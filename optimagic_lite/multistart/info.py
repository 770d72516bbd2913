"""What a result knows of a multistart run: where it looked, and what each optimisation found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from optimagic_lite.exceptions import did_you_mean
from optimagic_lite.history import MultistartHistory
from optimagic_lite.space.trees import ParamTree

_PUBLIC = (
    "start_parameters", "local_optima", "exploration_sample", "exploration_results",
    "n_optimizations", "n_discoveries", "n_explored", "failures", "history",
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class MultistartInfo:
    """The parts of a multistart run; all attributes can be read by key too.

    Attributes:
        local_optima: Results (``OptimizeResult``) of the local optimisations that did not fail, in
            the order in which they were begun.
        failures: For each local optimisation that failed, why.
        exploration_results: Values of the explored points, in the user's sign, the best first;
            failed points are left out.
        n_discoveries: How often the best optimum was found.
        n_explored: Number of explored points, failed ones included.
        history: All evaluations, or None with ``collect_history=False``.
    """

    local_optima: list[Any]
    failures: list[str]
    exploration_results: list[float]
    n_discoveries: int
    n_explored: int
    history: MultistartHistory | None
    _tree: ParamTree
    _starts: NDArray[np.float64]
    _sample: NDArray[np.float64]

    @property
    def start_parameters(self) -> list[Any]:
        """Where each of ``local_optima`` began."""
        return [self._tree.to_params(flat) for flat in self._starts]

    @property
    def exploration_sample(self) -> list[Any]:
        """The explored params, in the order of ``exploration_results``."""
        return [self._tree.to_params(flat) for flat in self._sample]

    @property
    def n_optimizations(self) -> int:
        """Number of local optimisations, failed ones included."""
        return len(self.local_optima) + len(self.failures)

    def __getitem__(self, key: str) -> Any:
        if key not in _PUBLIC:
            raise KeyError(
                f"{key!r} is no attribute of multistart_info: {', '.join(_PUBLIC)}."
                + did_you_mean(key, _PUBLIC)
            )
        return getattr(self, key)

    def __repr__(self) -> str:
        return f"MultistartInfo({self})"

    def __str__(self) -> str:
        times = "once" if self.n_discoveries == 1 else f"{self.n_discoveries} times"
        n_failed = self.n_explored - len(self._sample)
        return (
            f"{self.n_optimizations} local optimisations{_failed(len(self.failures))} from "
            f"{self.n_explored:,} explored points{_failed(n_failed)}; "
            f"the best optimum was found {times}"
        )


def _failed(n: int) -> str:
    return f" ({n:,} failed)" if n else ""
