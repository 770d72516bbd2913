"""Batches of evaluations in processes, in threads or on a cluster, behind one protocol.

A batch evaluator is any function that is called as ``batch_evaluator(func, arguments, *, n_cores,
error_handling, unpack_symbol)`` and returns a list of what ``func`` returned, in the order of the
arguments.
"""

from optimagic_lite.parallel.cores import Cores, read_batch_evaluator
from optimagic_lite.parallel.evaluators import (
    dask_batch_evaluator,
    joblib_batch_evaluator,
    ray_batch_evaluator,
    threading_batch_evaluator,
)
from optimagic_lite.parallel.outcomes import TaskFailure, WorkerDiedError
from optimagic_lite.parallel.portable import Portable
from optimagic_lite.parallel.protocol import (
    BatchErrorHandling,
    BatchEvaluator,
    BatchEvaluatorName,
    UnpackSymbol,
    check_n_cores,
)

__all__ = [
    "BatchErrorHandling",
    "BatchEvaluator",
    "BatchEvaluatorName",
    "Cores",
    "Portable",
    "TaskFailure",
    "UnpackSymbol",
    "WorkerDiedError",
    "check_n_cores",
    "dask_batch_evaluator",
    "joblib_batch_evaluator",
    "ray_batch_evaluator",
    "read_batch_evaluator",
    "threading_batch_evaluator",
]
