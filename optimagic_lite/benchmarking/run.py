"""Run many algorithms on many test problems."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import numpy as np

from optimagic_lite.benchmarking.optimize_options import OptimizeOptions, read_options
from optimagic_lite.benchmarking.problem import BenchmarkProblem, read_problems
from optimagic_lite.benchmarking.results import BenchmarkResults
from optimagic_lite.exceptions import InvalidBenchmarkError, did_you_mean
from optimagic_lite.history import History
from optimagic_lite.optimize import minimize
from optimagic_lite.parallel import (
    BatchEvaluator,
    BatchEvaluatorName,
    Cores,
    TaskFailure,
    read_batch_evaluator,
)
from optimagic_lite.parallel.protocol import check_n_cores
from optimagic_lite.progress import BatchProgress
from optimagic_lite.result import OptimizeResult

ErrorHandling = Literal["continue", "raise"]

# a run that only compiles shall leave no traces
_TRACES = ("logging", "multistart", "callback", "progress", "resume", "check_derivatives")


@dataclass(frozen=True)
class _Task:
    """A problem with some of the options; criteria are compiled once for all of them."""

    problem: BenchmarkProblem
    options: tuple[OptimizeOptions, ...]
    error_handling: ErrorHandling


def run_benchmark(
    problems: Mapping[str, Mapping[str, Any]],
    optimize_options: Iterable[Any] | Mapping[str, Any],
    *,
    batch_evaluator: BatchEvaluatorName | BatchEvaluator = "joblib",
    n_cores: int = 1,
    error_handling: ErrorHandling = "continue",
    max_criterion_evaluations: int | None = 1_000,
    disable_convergence: bool = True,
    progress: bool = False,
) -> BenchmarkResults:
    """Run each of several algorithms on each of several test problems.

    A criterion is compiled once for all algorithms, before the clock of any run starts: each run
    is preceded by one that stops after two evaluations and is not recorded. An evaluation with its
    gradient counts as one; points of numerical derivatives are not counted. Noise begins anew with
    each run, so that results do not depend on the order of runs or on the number of cores.

    Args:
        problems: As ``get_benchmark_problems`` returns them, or your own in the same form.
        optimize_options: Algorithms (names, classes or instances), or a dict whose keys are names
            of your choice and whose values are algorithms or dicts of arguments of ``minimize``,
            such as ``{"algorithm": "scipy_lbfgsb", "algo_options": {...}}``.
        batch_evaluator: What spreads runs over cores: "joblib" (default), "threading", "dask",
            "ray" or a function, see ``optimagic_lite.parallel``.
        n_cores: Number of runs at the same time; default 1. Times are comparable only if each
            run has a core of its own.
        error_handling: "continue" (default): an evaluation that fails after the start does not
            end its run, see ``minimize``, and the traceback of a run that fails is its solution.
            "raise": the benchmark ends with the error.
        max_criterion_evaluations: Largest number of evaluations, and of iterations, of each run
            whose own ``algo_options`` say nothing of it; default 1,000. None leaves the
            defaults of the algorithms.
        disable_convergence: Whether convergence tolerances are at most 1e-14, where the own
            ``algo_options`` of a run say nothing of them, so that runs end only when nothing is
            left to gain.
        progress: Whether to show a bar with the number of runs that have ended; needs tqdm.

    Returns:
        A dict with one entry for each problem and each name, see ``BenchmarkResults``.

    Raises:
        KeyboardInterrupt: After Ctrl-C, with what has ended in ``partial_result``.
        InvalidBenchmarkError: If problems or optimize_options are not valid.
        InvalidAlgoOptionError: If there is no such algorithm or option.
        InvalidKwargsError: If n_cores is not valid.
        NotAvailableError: If there is no such batch evaluator.
        NotInstalledError: If a library that is needed is not installed.

    Example:
        >>> import optimagic_lite as om
        >>> problems = om.get_benchmark_problems("example")
        >>> results = om.run_benchmark(problems, ["scipy_lbfgsb", "nlopt_bobyqa"])
        >>> results["rosenbrock_good_start", "scipy_lbfgsb"]["solution"].params.round(5)
        array([1., 1.])
        >>> om.convergence_report(problems, results).loc["box_3d"].to_dict()
        {'scipy_lbfgsb': 'success', 'nlopt_bobyqa': 'success', 'dimensionality': 3}
    """
    check_n_cores(n_cores)
    read_batch_evaluator(batch_evaluator)
    if error_handling not in get_args(ErrorHandling):
        raise InvalidBenchmarkError(
            f"error_handling must be 'continue' or 'raise', not {error_handling!r}."
            f"{did_you_mean(error_handling, get_args(ErrorHandling))}"
        )
    read = read_problems(problems)
    options = [
        option.with_limits(max_criterion_evaluations, disable_convergence)
        for option in read_options(optimize_options)
    ]
    _check_arguments(read, options)
    goes_away = n_cores > 1 and batch_evaluator != "threading"
    tasks = _tasks(read, options, n_cores if goes_away else None, error_handling)
    bar = BatchProgress("benchmark", len(read) * len(options)) if progress else None
    found: dict[tuple[str, str], dict[str, Any]] = {}
    runs = Cores(n_cores, batch_evaluator).as_completed(_run_task, tasks, error_handling)
    keys = [(problem, option.name) for problem in read for option in options]
    with contextlib.closing(runs), contextlib.ExitStack() as stack:
        if bar is not None:
            stack.callback(bar.close)
        try:
            for i, records in runs:
                found |= _named(tasks[i], records)
                if bar is not None:
                    bar.update(len(found))
        except KeyboardInterrupt as interrupt:
            interrupt.partial_result = _sorted(found, keys)  # type: ignore[attr-defined]
            raise
    return _sorted(found, keys)


def _sorted(
    found: dict[tuple[str, str], dict[str, Any]], keys: list[tuple[str, str]]
) -> BenchmarkResults:
    return BenchmarkResults({key: found[key] for key in keys if key in found})


# ---- what shall run --------------------------------------------------------------------------


def _check_arguments(
    problems: Mapping[str, BenchmarkProblem], options: list[OptimizeOptions]
) -> None:
    for problem in problems.values():
        for option in options:
            twice = sorted(set(problem.inputs) & set(option.arguments))
            if twice:
                raise InvalidBenchmarkError(
                    f"optimize_options[{option.name!r}] and problem {problem.name!r} both have "
                    f"{', '.join(twice)}: leave it out of one."
                )


def _tasks(
    problems: Mapping[str, BenchmarkProblem],
    options: list[OptimizeOptions],
    n_processes: int | None,
    error_handling: ErrorHandling,
) -> list[_Task]:
    """Return one task a run; where tasks go to other processes, which compile, one a problem."""
    n_parts = len(options)
    if n_processes is not None:
        # more than one where there are more processes than problems
        n_parts = min(math.ceil(n_processes / len(problems)), n_parts)
    return [
        _Task(problem, tuple(options[first::n_parts]), error_handling)
        for problem in problems.values()
        for first in range(n_parts)
    ]


# ---- one run ---------------------------------------------------------------------------------


def _run_task(task: _Task) -> list[Any]:
    return [_run(task.problem, option, task.error_handling) for option in task.options]


def _run(problem: BenchmarkProblem, option: OptimizeOptions, error_handling: ErrorHandling) -> Any:
    try:
        _warm_up(problem, option)
        return _record(problem, _minimize(problem, option, error_handling=error_handling))
    except Exception as error:
        if error_handling == "raise":
            error.add_note(f"This was {option.name!r} on problem {problem.name!r}.")
            raise
        return TaskFailure.of(error)


def _minimize(
    problem: BenchmarkProblem, option: OptimizeOptions, **defaults: Any
) -> OptimizeResult:
    arguments = {**defaults, **problem.run_inputs(), **option.arguments}
    return minimize(**arguments, algorithm=option.algorithm)


def _warm_up(problem: BenchmarkProblem, option: OptimizeOptions) -> None:
    """Compile what a run needs; if that fails, so does the run, which tells."""
    arguments = {k: v for k, v in option.arguments.items() if k not in _TRACES}
    brief = replace(
        option, arguments=arguments, algorithm=option.algorithm.with_option(stopping_maxfun=2)
    )
    with contextlib.suppress(Exception):
        _minimize(problem, brief)


def _record(problem: BenchmarkProblem, result: OptimizeResult) -> dict[str, Any]:
    history = _history(result)
    values = np.array(history.fun, dtype=np.float64)
    if problem.exact_value is not None:
        # an evaluation that failed has no value, with noise or without
        values = np.array(
            [
                problem.exact_value(params) if np.isfinite(value) else np.nan
                for params, value in zip(history.params, values, strict=True)
            ]
        )
    return {
        "params_history": history.flat_params,
        "criterion_history": values,
        "time_history": np.array(history.time),
        "batches_history": np.array(history.batches),
        "solution": result,
    }


def _history(result: OptimizeResult) -> History:
    """Return all evaluations, in order of their end."""
    if result.multistart_info is not None and result.multistart_info.history is not None:
        found = result.multistart_info.history
        return found.exploration.joined(found.local_histories)
    if result.history is None:
        raise InvalidBenchmarkError(
            "A benchmark needs histories: leave collect_history=False out of optimize_options."
        )
    return result.history


def _named(task: _Task, records: Any) -> dict[tuple[str, str], dict[str, Any]]:
    """Give the runs of a task their names; all have failed if their process died."""
    if isinstance(records, TaskFailure):
        records = [records] * len(task.options)
    return {
        (task.problem.name, option.name): _failed_record(task.problem, record.traceback)
        if isinstance(record, TaskFailure)
        else record
        for option, record in zip(task.options, records, strict=True)
    }


def _failed_record(problem: BenchmarkProblem, traceback: str) -> dict[str, Any]:
    start_value = np.nan if problem.start_value is None else problem.start_value
    return {
        "params_history": problem.start[None],
        "criterion_history": np.array([start_value]),
        "time_history": np.array([np.inf]),
        "batches_history": np.array([0]),
        "solution": traceback,
    }
