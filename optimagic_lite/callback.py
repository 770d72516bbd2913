"""The user's callback: what it sees, and how it ends a run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from optimagic_lite.stopping import Stop, StopRun


@dataclass(frozen=True)
class CallbackState:
    """What a callback sees after each evaluation.

    Attributes:
        params: Parameters of the evaluation, in the user's structure.
        fun: Value, in the user's sign; NaN if it failed.
        best_params: Best parameters so far.
        best_fun: Their value; NaN before the first success.
        n_fun_evals: Number of evaluations so far.
        elapsed: Seconds since the start of the run.
    """

    params: Any
    fun: float
    best_params: Any
    best_fun: float
    n_fun_evals: int
    elapsed: float

    @property
    def x(self) -> Any:
        """The same as ``params``, by SciPy's name."""
        return self.params


class Callback:
    """Tells the user's function about evaluations.

    Args:
        function: Called with a ``CallbackState``; ends the run by returning True or raising
            StopIteration.

    Attributes:
        error: What else it raised, or None.
    """

    def __init__(self, function: Callable[[CallbackState], Any]) -> None:
        self._function = function
        self.error: Exception | None = None

    def tell(self, state: CallbackState) -> None:
        """Call the function.

        Raises:
            StopRun: If it ends the run.
            Exception: Whatever it raises.
        """
        try:
            stop = self._function(state)
        except StopIteration:
            stop = True
        except Exception as error:
            self.error = error
            raise
        if isinstance(stop, (bool, np.bool_)) and stop:
            raise StopRun(Stop.CALLBACK)
