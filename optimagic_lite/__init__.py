"""optimagic_lite: one call for hard nonlinear optimisation.

``minimize`` and ``maximize`` take a criterion, parameters in any pytree, bounds and the name of an
algorithm. The public names are listed in ``__all__``; those that need pandas, plotly or SQLAlchemy
are loaded on first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from optimagic_lite import exceptions, utilities
from optimagic_lite.algos import algos
from optimagic_lite.constraints import (
    DecreasingConstraint,
    EqualityConstraint,
    FixedConstraint,
    FlatCovConstraint,
    FlatSDCorrConstraint,
    IncreasingConstraint,
    LinearConstraint,
    NonlinearConstraint,
    PairwiseEqualityConstraint,
    ProbabilityConstraint,
)
from optimagic_lite.evaluator import CallbackState
from optimagic_lite.history import History
from optimagic_lite.optimize import maximize, minimize
from optimagic_lite.options import Bounds, NumdiffOptions, ScalingOptions, SQLiteLogOptions
from optimagic_lite.result import OptimizeResult
from optimagic_lite.space.inspection import check_constraints, count_free_params
from optimagic_lite.space.make import make_space

if TYPE_CHECKING:
    from optimagic_lite.log.reader import SQLiteLogReader
    from optimagic_lite.plots.criterion import criterion_plot
    from optimagic_lite.plots.params import params_plot

__version__ = "0.1.0.dev0"

__all__ = [
    "Bounds",
    "CallbackState",
    "DecreasingConstraint",
    "EqualityConstraint",
    "FixedConstraint",
    "FlatCovConstraint",
    "FlatSDCorrConstraint",
    "History",
    "IncreasingConstraint",
    "LinearConstraint",
    "NonlinearConstraint",
    "NumdiffOptions",
    "OptimizeResult",
    "PairwiseEqualityConstraint",
    "ProbabilityConstraint",
    "SQLiteLogOptions",
    "SQLiteLogReader",
    "ScalingOptions",
    "algos",
    "check_constraints",
    "count_free_params",
    "criterion_plot",
    "exceptions",
    "make_space",
    "maximize",
    "minimize",
    "params_plot",
    "utilities",
]

_LAZY = {
    "SQLiteLogReader": "optimagic_lite.log.reader",
    "criterion_plot": "optimagic_lite.plots.criterion",
    "params_plot": "optimagic_lite.plots.params",
}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        value = getattr(importlib.import_module(_LAZY[name]), name)
        globals()[name] = value
        return value
    hint = exceptions.did_you_mean(name, __all__)
    raise AttributeError(f"module 'optimagic_lite' has no attribute {name!r}.{hint}")


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
