"""The batch evaluators that have a name."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import closing
from typing import Any, get_args

from optimagic_lite.parallel import dask, processes, ray, threads
from optimagic_lite.parallel.outcomes import Outcome, Task, TaskFailure
from optimagic_lite.parallel.protocol import (
    BatchErrorHandling,
    BatchEvaluator,
    BatchEvaluatorName,
    UnpackSymbol,
    check_options,
)

Outcomes = Generator[tuple[int, Outcome], None, None]
Results = Generator[tuple[int, Any], None, None]

_BACKENDS: dict[str, Callable[[Task, Sequence[Any], int], Outcomes]] = {
    "joblib": processes.outcomes,
    "threading": threads.outcomes,
    "dask": dask.outcomes,
    "ray": ray.outcomes,
}
assert tuple(_BACKENDS) == get_args(BatchEvaluatorName)


def stream(
    name: BatchEvaluatorName,
    func: Callable[..., Any],
    arguments: Iterable[Any],
    n_cores: int = 1,
    error_handling: BatchErrorHandling = "continue",
    unpack_symbol: UnpackSymbol | None = None,
) -> Results:
    """Evaluate a function at many arguments; yield number of the argument and result as they come.

    To close the generator early stops what still runs. Arguments as in
    ``joblib_batch_evaluator``.
    """
    check_options(n_cores, error_handling, unpack_symbol)
    task = Task.here(func, unpack_symbol)
    return _results(name, task, list(arguments), n_cores, error_handling)


def _results(
    name: BatchEvaluatorName,
    task: Task,
    arguments: list[Any],
    n_cores: int,
    error_handling: BatchErrorHandling,
) -> Results:
    if n_cores == 1:
        yield from _one_by_one(task, arguments, error_handling)
    elif arguments:
        with closing(_BACKENDS[name](task, arguments, n_cores)) as outcomes:
            for i, outcome in outcomes:
                yield i, outcome.settle(error_handling)


def _one_by_one(task: Task, arguments: list[Any], error_handling: BatchErrorHandling) -> Results:
    """Run the tasks here; what is raised keeps its place in the debugger."""
    for i, argument in enumerate(arguments):
        try:
            result = task(argument)
        except Exception as error:
            if error_handling == "raise":
                raise
            result = TaskFailure.of(error)
        yield i, result


def _in_order(
    name: BatchEvaluatorName,
    func: Callable[..., Any],
    arguments: Iterable[Any],
    n_cores: int,
    error_handling: BatchErrorHandling,
    unpack_symbol: UnpackSymbol | None,
) -> list[Any]:
    found = dict(stream(name, func, arguments, n_cores, error_handling, unpack_symbol))
    return [found[i] for i in range(len(found))]


def joblib_batch_evaluator(
    func: Callable[..., Any],
    arguments: Iterable[Any],
    *,
    n_cores: int = 1,
    error_handling: BatchErrorHandling = "continue",
    unpack_symbol: UnpackSymbol | None = None,
) -> list[Any]:
    """Evaluate a function at many arguments, in processes that loky (part of joblib) starts.

    Closures and lambdas are fine. The function is sent once a batch, arguments and results once a
    task. The processes are kept for later batches, for five minutes. With one core nothing is
    started and nothing is copied.

    Args:
        func: The function.
        arguments: One for each evaluation.
        n_cores: Number of processes; default 1.
        error_handling: "continue" (default) puts a ``TaskFailure`` in the place of a result that
            could not be computed. "raise" ends the batch with the exception, which keeps its
            type and message. A task whose process died is tried three times, then it has failed
            with a ``WorkerDiedError``.
        unpack_symbol: None (default) if an argument is all that ``func`` takes, "*" if it holds
            positional arguments, "**" if it is a dict of keyword arguments.

    Raises:
        NotInstalledError: If more than one core is asked for and joblib is not installed.
        NotAvailableError: If the function or an argument cannot be sent to a process.
        InvalidKwargsError: If an argument is not valid.

    Example:
        >>> joblib_batch_evaluator(lambda x, y: x + y, [(1, 2), (3, 4)], unpack_symbol="*")
        [3, 7]
    """
    return _in_order("joblib", func, arguments, n_cores, error_handling, unpack_symbol)


def threading_batch_evaluator(
    func: Callable[..., Any],
    arguments: Iterable[Any],
    *,
    n_cores: int = 1,
    error_handling: BatchErrorHandling = "continue",
    unpack_symbol: UnpackSymbol | None = None,
) -> list[Any]:
    """Evaluate a function at many arguments, in threads of this process.

    This helps where the function spends its time outside of Python: in compiled code that
    releases the interpreter, on files or in the network. A task that runs when the batch ends
    early runs on to its end, because threads cannot be stopped.

    Args:
        func: The function; must not change anything that it shares with itself.
        arguments: One for each evaluation.
        n_cores: Number of threads; default 1.
        error_handling: See ``joblib_batch_evaluator``.
        unpack_symbol: See ``joblib_batch_evaluator``.

    Raises:
        InvalidKwargsError: If an argument is not valid.

    Example:
        >>> threading_batch_evaluator(lambda x: x**2, [1, 2, 3], n_cores=2)
        [1, 4, 9]
    """
    return _in_order("threading", func, arguments, n_cores, error_handling, unpack_symbol)


def dask_batch_evaluator(
    func: Callable[..., Any],
    arguments: Iterable[Any],
    *,
    n_cores: int = 1,
    error_handling: BatchErrorHandling = "continue",
    unpack_symbol: UnpackSymbol | None = None,
) -> list[Any]:
    """Evaluate a function at many arguments, on the connected cluster of Dask.

    The client of ``distributed`` that was made last is used. If there is none, a cluster of
    ``n_cores`` processes is started on this machine and kept until the program ends.

    Args:
        func: The function; what it imports must be installed on the workers.
        arguments: One for each evaluation.
        n_cores: Number of tasks that run at the same time; default 1: in this process.
        error_handling: See ``joblib_batch_evaluator``.
        unpack_symbol: See ``joblib_batch_evaluator``.

    Raises:
        NotInstalledError: If more than one core is asked for and distributed is not installed.
        NotAvailableError: If the function or an argument cannot be sent, or no cluster starts.
        InvalidKwargsError: If an argument is not valid.

    Example:
        >>> dask_batch_evaluator(abs, [-1, 2])
        [1, 2]
    """
    return _in_order("dask", func, arguments, n_cores, error_handling, unpack_symbol)


def ray_batch_evaluator(
    func: Callable[..., Any],
    arguments: Iterable[Any],
    *,
    n_cores: int = 1,
    error_handling: BatchErrorHandling = "continue",
    unpack_symbol: UnpackSymbol | None = None,
) -> list[Any]:
    """Evaluate a function at many arguments, in the connected session of Ray.

    If there is none, one of ``n_cores`` processes is started on this machine and kept until the
    program ends; where the environment variable RAY_ADDRESS names a cluster, that one is joined.

    Args:
        func: The function; what it imports must be installed on the workers.
        arguments: One for each evaluation.
        n_cores: Number of tasks that run at the same time; default 1: in this process.
        error_handling: See ``joblib_batch_evaluator``.
        unpack_symbol: See ``joblib_batch_evaluator``.

    Raises:
        NotInstalledError: If more than one core is asked for and ray is not installed.
        NotAvailableError: If the function or an argument cannot be sent.
        InvalidKwargsError: If an argument is not valid.

    Example:
        >>> ray_batch_evaluator(abs, [-1, 2])
        [1, 2]
    """
    return _in_order("ray", func, arguments, n_cores, error_handling, unpack_symbol)


EVALUATORS: dict[str, BatchEvaluator] = {
    "joblib": joblib_batch_evaluator,
    "threading": threading_batch_evaluator,
    "dask": dask_batch_evaluator,
    "ray": ray_batch_evaluator,
}
