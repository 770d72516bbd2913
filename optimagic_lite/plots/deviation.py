"""The plot of how far algorithms are from solutions on average over a set of problems."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from optimagic_lite.benchmarking.convergence import (
    Course,
    DistanceMeasure,
    RuntimeMeasure,
    by_problem,
    check_choice,
    read_courses,
    with_known_solution,
)
from optimagic_lite.plots import style
from optimagic_lite.plots.approaches import (
    RUNTIME_TITLES,
    Approach,
    distance_title,
    floor_of,
    steps_of,
)
from optimagic_lite.plots.backends import check_backend, present

Array = NDArray[np.float64]

# points on an axis of seconds
_N_TIMES = 500


def deviation_plot(
    problems: Any,
    results: Any,
    *,
    runtime_measure: RuntimeMeasure = "n_evaluations",
    distance_measure: DistanceMeasure = "criterion",
    monotone: bool = True,
    backend: str = "plotly",
    template: str | None = None,
    palette: list[str] | str = style.DEFAULT_PALETTE,
    log_scale: bool = False,
) -> Any:
    """Plot which part of the distance to the solution is missing, on average over all problems.

    The faster a line falls, the faster the algorithm improves on an average problem. A run that has
    ended keeps its last distance; one that failed keeps that at the start, which is 1.

    Args:
        problems: The test problems, see ``get_benchmark_problems``.
        results: What ``run_benchmark`` returned for them.
        runtime_measure: What is drawn to the right: "n_evaluations" (default), "walltime"
            (seconds) or "n_batches".
        distance_measure: "criterion" (default) or "parameter_distance"; problems whose solution
            is not unique or not known are left out of the second, with a warning.
        monotone: Whether to average the best so far (default) instead of each evaluation.
        backend: "plotly" or "matplotlib".
        template: Name of a template of plotly or of a style of matplotlib; None means the style
            of the package.
        palette: Colours of the algorithms, used in turn, or one colour for all.
        log_scale: Whether the vertical axis is logarithmic; zero is then drawn at a tenth of the
            smallest positive number.

    Returns:
        A plotly figure, or axes of matplotlib.

    Raises:
        InvalidBenchmarkError: If problems and results do not fit, or algorithms have run on
            different problems.
        InvalidPlottingBackendError: If there is no such backend.
        NotInstalledError: If matplotlib is asked for and not installed.
        ValueError: If another argument is not valid.

    Example:
        >>> import optimagic_lite as om
        >>> problem = om.get_benchmark_problems("example")["rosenbrock_good_start"]
        >>> results = om.run_benchmark({"banana": problem}, ["scipy_lbfgsb", "scipy_ls_lm"])
        >>> fig = om.deviation_plot({"banana": problem}, results)
        >>> fig.data[0].y[0].round(6)
        np.float64(1.0)
    """
    check_backend(backend, template)
    check_choice("runtime_measure", runtime_measure, RuntimeMeasure)
    check_choice("distance_measure", distance_measure, DistanceMeasure)
    courses = read_courses(problems, results)
    if distance_measure == "parameter_distance":
        courses = with_known_solution(courses, "distance_measure='parameter_distance'")
    means = mean_distances(courses, runtime_measure, distance_measure, monotone=monotone)
    floor = floor_of(means) if log_scale else None
    traces = [
        style.algorithm_line(
            mean.algorithm,
            mean.runtime,
            mean.distance if floor is None else np.maximum(mean.distance, floor),
            look,
            "%{y:.4~g} after %{x:.4~g}",
        )
        for mean, look in zip(means, style.line_styles(palette, len(means)), strict=True)
    ]
    title = distance_title(distance_measure, monotone=monotone, normalize=True)
    fig = style.comparison(
        traces,
        xaxis={"title": {"text": RUNTIME_TITLES[runtime_measure]}},
        yaxis={
            "title": {"text": f"{title}, mean of problems"},
            "type": "linear" if floor is None else "log",
        },
    )
    return present(fig, backend, template)


def mean_distances(
    courses: list[Course], measure: RuntimeMeasure, distance: DistanceMeasure, *, monotone: bool
) -> list[Approach]:
    """Return the mean distance of each algorithm over all problems.

    Args:
        courses: The runs.
        measure: What is spent.
        distance: What is missing.
        monotone: Whether the best so far counts.

    Raises:
        InvalidBenchmarkError: If algorithms have run on different problems.
    """
    table = by_problem(courses)
    spent = np.concatenate([course.runtime[measure] for course in courses])
    last = float(np.max(spent[np.isfinite(spent)], initial=1.0))
    is_time = measure == "walltime"
    grid = np.linspace(0.0, last, _N_TIMES) if is_time else np.arange(1.0, last + 1)
    means = []
    for name in next(iter(table.values())):
        rows = [_on(grid, runs[name], measure, distance, monotone) for runs in table.values()]
        mean = np.mean(rows, axis=0)
        kept = steps_of(mean)
        means.append(Approach(name, grid[kept], mean[kept]))
    return means


def _on(
    grid: Array, course: Course, measure: RuntimeMeasure, distance: DistanceMeasure, monotone: bool
) -> Array:
    """Return the distance at each budget; before the first evaluation it is that at the start."""
    values = course.distance(distance, monotone=monotone)
    # an evaluation that failed leaves everything as it was
    there = np.flatnonzero(np.isfinite(values))
    values, runtime = values[there], course.runtime[measure][there]
    at = np.searchsorted(runtime, grid, side="right")
    return np.asarray(np.concatenate([[1.0], values])[at])
