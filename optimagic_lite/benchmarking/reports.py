"""Reports about the runs of a benchmark, as tables."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

import numpy as np
import pandas as pd

from optimagic_lite.benchmarking.convergence import (
    Course,
    RuntimeMeasure,
    StoppingCriterion,
    check_choice,
    judged,
    read_courses,
)
from optimagic_lite.benchmarking.results import failed

TracebackReturnType = Literal["dataframe", "text", "markdown", "dict"]


def convergence_report(
    problems: Any,
    results: Any,
    *,
    stopping_criterion: StoppingCriterion = "y",
    x_precision: float = 1e-4,
    y_precision: float = 1e-4,
) -> pd.DataFrame:
    """Tell which algorithm has solved which problem.

    Args:
        problems: The test problems, see ``get_benchmark_problems``.
        results: What ``run_benchmark`` returned for them.
        stopping_criterion: Whether a problem is solved if parameters ("x"), the value ("y", the
            default), both ("x_and_y") or one of them ("x_or_y") are close enough to the solution.
            Without a unique, known solution, a problem is left out with "x" and "x_and_y".
        x_precision: Part of the Euclidean distance between start and solution that may be
            missing; default 1e-4.
        y_precision: Part of the difference between the values at start and solution that may be
            missing; default 1e-4. Where no smallest value is known, it is the smallest that any
            algorithm found.

    Returns:
        One row a problem; one column an algorithm with "success", "failed" or "error", and the
        column "dimensionality", the number of parameters.

    Raises:
        InvalidBenchmarkError: If problems and results do not fit.
        ValueError: If another argument is not valid.

    Example:
        >>> import optimagic_lite as om
        >>> problems = om.get_benchmark_problems("example")
        >>> results = om.run_benchmark(problems, ["scipy_neldermead"])
        >>> report = om.convergence_report(problems, results, y_precision=1e-10)
        >>> report.loc["mancino_5_good_start"].to_dict()
        {'scipy_neldermead': 'success', 'dimensionality': 5}
    """
    ends = judged(read_courses(problems, results), stopping_criterion, x_precision, y_precision)
    return _table({course: _success(course, end) for course, end in ends.items()})


def rank_report(
    problems: Any,
    results: Any,
    *,
    runtime_measure: RuntimeMeasure = "n_evaluations",
    stopping_criterion: StoppingCriterion = "y",
    x_precision: float = 1e-4,
    y_precision: float = 1e-4,
) -> pd.DataFrame:
    """Rank the algorithms on each problem by what they needed to solve it.

    Args:
        problems: The test problems, see ``get_benchmark_problems``.
        results: What ``run_benchmark`` returned for them.
        runtime_measure: "n_evaluations" (default), "walltime" or "n_batches".
        stopping_criterion: See ``convergence_report``; so are the precisions.
        x_precision: Default 1e-4.
        y_precision: Default 1e-4.

    Returns:
        One row a problem; one column an algorithm with its rank as text ("0" is the fastest;
        equals have equal ranks), "failed" or "error", and the column "dimensionality".

    Raises:
        InvalidBenchmarkError: If problems and results do not fit.
        ValueError: If another argument is not valid.

    Example:
        >>> import optimagic_lite as om
        >>> problems = om.get_benchmark_problems("example")
        >>> results = om.run_benchmark(problems, ["scipy_neldermead", "scipy_ls_lm"])
        >>> om.rank_report(problems, results).loc["bdqrtic_8"].to_dict()
        {'scipy_neldermead': '1', 'scipy_ls_lm': '0', 'dimensionality': 8}
    """
    check_choice("runtime_measure", runtime_measure, RuntimeMeasure)
    ends = judged(read_courses(problems, results), stopping_criterion, x_precision, y_precision)
    needed = {c: c.runtime[runtime_measure][end] for c, end in ends.items() if end >= 0}
    entries = {}
    for course, end in ends.items():
        others = {spent for other, spent in needed.items() if other.problem == course.problem}
        solved = course in needed
        entries[course] = (
            str(sorted(others).index(needed[course])) if solved else _success(course, end)
        )
    return _table(entries)


def traceback_report(
    problems: Any, results: Any, return_type: TracebackReturnType = "dataframe"
) -> Any:
    """Show why runs ended with an error.

    Args:
        problems: The test problems, see ``get_benchmark_problems``.
        results: What ``run_benchmark`` returned for them.
        return_type: "dataframe" (default), "text", "markdown" or "dict".

    Returns:
        "dataframe": one row a failed run, with index levels "algorithm" and "problem" and columns
        "traceback" and "dimensionality". "dict": tracebacks by problem and algorithm. "text": a
        list of tracebacks. "markdown": one text with a headline for each algorithm and problem.

    Raises:
        InvalidBenchmarkError: If problems and results do not fit.
        ValueError: If the return type is not one of these.

    Example:
        >>> import optimagic_lite as om
        >>> problems = om.get_benchmark_problems("example")
        >>> results = om.run_benchmark(problems, ["scipy_brute"])
        >>> om.traceback_report(problems, results, return_type="text")[0].splitlines()[-1][:60]
        'optimagic_lite.exceptions.IncompleteBoundsError: scipy_brute'
    """
    check_choice("return_type", return_type, TracebackReturnType)
    courses = read_courses(problems, results)
    found = {key: run["solution"] for key, run in results.items() if failed(run)}
    if return_type == "dict":
        return found
    if return_type == "text":
        return list(found.values())
    if return_type == "markdown":
        return _markdown(found)
    sizes = _dimensions(courses)
    keys = sorted(found, key=lambda key: [algorithm for _, algorithm in results].index(key[1]))
    index = pd.MultiIndex.from_tuples(
        [(algorithm, problem) for problem, algorithm in keys], names=["algorithm", "problem"]
    )
    return pd.DataFrame(
        {
            "traceback": pd.Series([found[key] for key in keys], index=index, dtype=object),
            "dimensionality": pd.Series([sizes[key[0]] for key in keys], index=index, dtype=int),
        }
    )


def _success(course: Course, end: int) -> str:
    return "error" if course.failed else "success" if end >= 0 else "failed"


def _table(entries: dict[Course, str]) -> pd.DataFrame:
    """Return one row a problem and one column an algorithm; runs that are not there are NaN."""
    rows = dict.fromkeys(course.problem for course in entries)
    columns = dict.fromkeys(course.algorithm for course in entries)
    by_name = {(course.problem, course.algorithm): entry for course, entry in entries.items()}
    table = pd.DataFrame(
        [[by_name.get((row, column), np.nan) for column in columns] for row in rows],
        index=pd.Index(list(rows), name="problem"),
        columns=list(columns),
        dtype=object,
    )
    sizes = _dimensions(entries)
    return table.assign(dimensionality=[sizes[row] for row in rows])


def _dimensions(courses: Iterable[Course]) -> dict[str, int]:
    return {course.problem: course.n_params for course in courses}


def _markdown(found: dict[tuple[str, str], str]) -> str:
    algorithms = dict.fromkeys(algorithm for _, algorithm in found)
    parts = []
    for algorithm in algorithms:
        parts.append(f"### {algorithm}\n")
        parts += [
            f"#### {problem}\n\n```text\n{text.rstrip()}\n```\n"
            for (problem, name), text in found.items()
            if name == algorithm
        ]
    return "\n".join(parts)
