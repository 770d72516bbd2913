"""optimagic_lite: one call for hard nonlinear optimisation.

``minimize`` and ``maximize`` take a criterion, parameters in any pytree, bounds and the name of an
algorithm. The public names are listed in ``__all__``; those that need pandas, plotly or SQLAlchemy,
or that few runs need, are loaded on first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from optimagic_lite import constraints, exceptions, mark, utilities
from optimagic_lite.algos import algos
from optimagic_lite.argmin import argmax, argmin
from optimagic_lite.batch_result import BatchResult
from optimagic_lite.callback import CallbackState
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
from optimagic_lite.deprecations.names import NOT_HERE
from optimagic_lite.history import History, MultistartHistory
from optimagic_lite.log_options import (
    ExistenceStrategy,
    PostgresLogOptions,
    SQLiteLogOptions,
)
from optimagic_lite.minimize_batch import maximize_batch, minimize_batch
from optimagic_lite.multistart.info import MultistartInfo
from optimagic_lite.objective.kinds import (
    FunctionValue,
    LeastSquaresFunctionValue,
    LikelihoodFunctionValue,
    ScalarFunctionValue,
)
from optimagic_lite.optimize import maximize, minimize
from optimagic_lite.options import (
    Bounds,
    MultistartOptions,
    NumdiffOptions,
    ScalingOptions,
)
from optimagic_lite.result import OptimizeResult
from optimagic_lite.space.inspection import check_constraints, count_free_params
from optimagic_lite.space.make import make_space

if TYPE_CHECKING:
    from optimagic_lite.benchmarking.problems import get_benchmark_problems
    from optimagic_lite.benchmarking.reports import (
        convergence_report,
        rank_report,
        traceback_report,
    )
    from optimagic_lite.benchmarking.results import BenchmarkResults
    from optimagic_lite.benchmarking.run import run_benchmark
    from optimagic_lite.derivative_check import check_derivatives
    from optimagic_lite.derivative_report import DerivativeCheck
    from optimagic_lite.differentiation import NumdiffResult, first_derivative, second_derivative
    from optimagic_lite.log.reader import (
        OptimizeLogReader,
        PostgresLogReader,
        SQLiteLogReader,
    )
    from optimagic_lite.plots.convergence import convergence_plot
    from optimagic_lite.plots.criterion import criterion_plot
    from optimagic_lite.plots.deviation import deviation_plot
    from optimagic_lite.plots.params import params_plot
    from optimagic_lite.plots.profile import profile_plot
    from optimagic_lite.plots.slices import slice_plot

__version__ = "0.1.0.dev0"

__all__ = [
    "BatchResult",
    "BenchmarkResults",
    "Bounds",
    "CallbackState",
    "DecreasingConstraint",
    "DerivativeCheck",
    "EqualityConstraint",
    "ExistenceStrategy",
    "FixedConstraint",
    "FlatCovConstraint",
    "FlatSDCorrConstraint",
    "FunctionValue",
    "History",
    "IncreasingConstraint",
    "LeastSquaresFunctionValue",
    "LikelihoodFunctionValue",
    "LinearConstraint",
    "MultistartHistory",
    "MultistartInfo",
    "MultistartOptions",
    "NonlinearConstraint",
    "NumdiffOptions",
    "NumdiffResult",
    "OptimizeLogReader",
    "OptimizeResult",
    "PairwiseEqualityConstraint",
    "PostgresLogOptions",
    "PostgresLogReader",
    "ProbabilityConstraint",
    "SQLiteLogOptions",
    "SQLiteLogReader",
    "ScalarFunctionValue",
    "ScalingOptions",
    "algos",
    "argmax",
    "argmin",
    "check_constraints",
    "check_derivatives",
    "constraints",
    "convergence_plot",
    "convergence_report",
    "count_free_params",
    "criterion_plot",
    "deviation_plot",
    "exceptions",
    "first_derivative",
    "get_benchmark_problems",
    "make_space",
    "mark",
    "maximize",
    "maximize_batch",
    "minimize",
    "minimize_batch",
    "params_plot",
    "profile_plot",
    "rank_report",
    "run_benchmark",
    "second_derivative",
    "slice_plot",
    "traceback_report",
    "utilities",
]

_LAZY = {
    "BenchmarkResults": "optimagic_lite.benchmarking.results",
    "DerivativeCheck": "optimagic_lite.derivative_report",
    "NumdiffResult": "optimagic_lite.differentiation",
    "OptimizeLogReader": "optimagic_lite.log.reader",
    "PostgresLogReader": "optimagic_lite.log.reader",
    "SQLiteLogReader": "optimagic_lite.log.reader",
    "check_derivatives": "optimagic_lite.derivative_check",
    "convergence_plot": "optimagic_lite.plots.convergence",
    "convergence_report": "optimagic_lite.benchmarking.reports",
    "criterion_plot": "optimagic_lite.plots.criterion",
    "deviation_plot": "optimagic_lite.plots.deviation",
    "first_derivative": "optimagic_lite.differentiation",
    "get_benchmark_problems": "optimagic_lite.benchmarking.problems",
    "params_plot": "optimagic_lite.plots.params",
    "profile_plot": "optimagic_lite.plots.profile",
    "rank_report": "optimagic_lite.benchmarking.reports",
    "run_benchmark": "optimagic_lite.benchmarking.run",
    "second_derivative": "optimagic_lite.differentiation",
    "slice_plot": "optimagic_lite.plots.slices",
    "traceback_report": "optimagic_lite.benchmarking.reports",
}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        value = getattr(importlib.import_module(_LAZY[name]), name)
        globals()[name] = value
        return value
    hint = NOT_HERE.get(name) or exceptions.did_you_mean(name, __all__)
    raise AttributeError(f"module 'optimagic_lite' has no attribute {name!r}.{hint}")


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
