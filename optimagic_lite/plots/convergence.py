"""The plots of how algorithms approach the solutions of test problems."""

from __future__ import annotations

import html
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from optimagic_lite.benchmarking.convergence import (
    Course,
    DistanceMeasure,
    RuntimeMeasure,
    StoppingCriterion,
    check_choice,
    judged,
    read_courses,
    with_known_solution,
)
from optimagic_lite.exceptions import did_you_mean
from optimagic_lite.plots import style
from optimagic_lite.plots.approaches import (
    RUNTIME_TITLES,
    Approach,
    Panel,
    distance_title,
    looks_of,
    make_panels,
)
from optimagic_lite.plots.backends import alone, check_backend, present

# pixels of one plot of the grid, of the space around it, and of the legend
_CELL = (400, 250)
_GAP = (75, 65)
_LEGEND = 230
_SOLUTION = "solution"

# part of a horizontal axis that is drawn, where its last point is at 1
_FREE = 1.03
_FEW = 10


def convergence_plot(
    problems: Any,
    results: Any,
    *,
    problem_subset: Iterable[str] | str | None = None,
    algorithm_subset: Iterable[str] | str | None = None,
    n_cols: int = 2,
    distance_measure: DistanceMeasure = "criterion",
    monotone: bool = True,
    normalize_distance: bool = True,
    runtime_measure: RuntimeMeasure = "n_evaluations",
    stopping_criterion: StoppingCriterion = "y",
    x_precision: float = 1e-4,
    y_precision: float = 1e-4,
    combine_plots_in_grid: bool = True,
    backend: str = "plotly",
    template: str | None = None,
    palette: list[str] | str = style.DEFAULT_PALETTE,
    log_scale: bool = False,
) -> Any:
    """Plot how each algorithm approaches the solution of each problem, in a grid.

    A line ends where its algorithm has solved the problem, or gave up. The faster it falls, the
    faster was the algorithm.

    Args:
        problems: The test problems, see ``get_benchmark_problems``.
        results: What ``run_benchmark`` returned for them.
        problem_subset: Names of the problems to show; None (default) shows all.
        algorithm_subset: Names of the algorithms to show; None (default) shows all.
        n_cols: Number of columns of the grid; default 2.
        distance_measure: "criterion" (default) or "parameter_distance" (Euclidean).
        monotone: Whether to show the best so far (default) instead of each evaluation.
        normalize_distance: Whether to show which part of the distance at the start is missing
            (default): 1 at the start, 0 at the solution.
        runtime_measure: What is drawn to the right: "n_evaluations" (default), "walltime"
            (seconds) or "n_batches".
        stopping_criterion: When a problem is solved, see ``convergence_report``; so are the
            precisions. With precisions of 0 the lines do not end before the runs.
        x_precision: Default 1e-4.
        y_precision: Default 1e-4.
        combine_plots_in_grid: Whether to return one figure (default), or a dict of figures by
            name of the problem.
        backend: "plotly" or "matplotlib".
        template: Name of a template of plotly or of a style of matplotlib; None means the style
            of the package.
        palette: Colours of the algorithms, used in turn, or one colour for all.
        log_scale: Whether the vertical axes are logarithmic. What is not positive is then drawn
            at a tenth of the smallest positive number of its plot; of shares, what is below a
            tenth of the precision is drawn there.

    Returns:
        A figure of plotly or an array of axes of matplotlib; or a dict of figures or axes.

    Raises:
        InvalidBenchmarkError: If problems and results do not fit.
        InvalidPlottingBackendError: If there is no such backend.
        NotInstalledError: If matplotlib is asked for and not installed.
        ValueError: If another argument is not valid.

    Example:
        >>> import optimagic_lite as om
        >>> problem = om.get_benchmark_problems("example")["rosenbrock_good_start"]
        >>> results = om.run_benchmark({"banana": problem}, ["scipy_lbfgsb", "scipy_ls_lm"])
        >>> fig = om.convergence_plot({"banana": problem}, results)
        >>> [trace.name for trace in fig.data]
        ['scipy_lbfgsb', 'scipy_ls_lm']
    """
    check_backend(backend, template)
    check_choice("runtime_measure", runtime_measure, RuntimeMeasure)
    check_choice("distance_measure", distance_measure, DistanceMeasure)
    if not isinstance(n_cols, int) or n_cols < 1:
        raise ValueError(f"n_cols must be a positive integer, not {n_cols!r}.")
    courses = read_courses(problems, results)
    looks = looks_of([course.algorithm for course in courses], palette)
    courses = _chosen(courses, "problem", problem_subset)
    courses = _chosen(courses, "algorithm", algorithm_subset)
    if distance_measure == "parameter_distance":
        courses = with_known_solution(courses, "distance_measure='parameter_distance'")
    ends = judged(courses, stopping_criterion, x_precision, y_precision)
    precision = y_precision if distance_measure == "criterion" else x_precision
    panels = make_panels(
        ends,
        runtime_measure,
        distance_measure,
        monotone=monotone,
        normalize=normalize_distance,
        log_scale=log_scale,
        least=precision,
    )
    shape = {"shape": "hv" if monotone else "linear"}
    shared: dict[str, Any] = {
        "looks": {name: look | shape for name, look in looks.items()},
        "runtime_measure": runtime_measure,
        "y_title": distance_title(
            distance_measure, monotone=monotone, normalize=normalize_distance
        ),
    }
    if combine_plots_in_grid:
        return present(_grid(panels, n_cols, **shared), backend, template)
    return {
        panel.problem: present(alone(_grid([panel], 1, **shared)), backend, template)
        for panel in panels
    }


def _chosen(courses: list[Course], what: str, subset: Iterable[str] | str | None) -> list[Course]:
    if subset is None:
        return courses
    wanted = [subset] if isinstance(subset, str) else list(subset)
    there = dict.fromkeys(getattr(course, what) for course in courses)
    for name in wanted:
        if name not in there:
            raise ValueError(
                f"{what}_subset names {name!r}, of which there are no results."
                f"{did_you_mean(name, there)}"
            )
    if not wanted:
        raise ValueError(f"{what}_subset is empty: leave it out to show all.")
    return [course for course in courses if getattr(course, what) in wanted]


def _grid(
    panels: list[Panel],
    n_cols: int,
    *,
    looks: dict[str, dict[str, Any]],
    runtime_measure: RuntimeMeasure,
    y_title: str,
) -> go.Figure:
    n_cols = min(n_cols, len(panels))
    n_rows = -(-len(panels) // n_cols)
    width, height = (
        n * (cell + gap) for n, cell, gap in zip((n_cols, n_rows), _CELL, _GAP, strict=True)
    )
    fig = make_subplots(
        n_rows,
        n_cols,
        subplot_titles=[html.escape(p.problem.replace("_", " "), quote=False) for p in panels],
        horizontal_spacing=_GAP[0] / width,
        vertical_spacing=_GAP[1] / height,
    )
    in_legend: set[str] = set()
    for i, panel in enumerate(panels):
        place = {"row": i // n_cols + 1, "col": i % n_cols + 1}
        for trace in _traces(panel, looks, in_legend):
            fig.add_trace(trace, **place)
        last = panel.last
        is_short = last <= _FEW and runtime_measure != "walltime"
        # left to itself, plotly cuts what falls at the very end, and has ticks of half evaluations
        fig.update_xaxes(range=[0, _FREE * last], dtick=1 if is_short else None, **place)
        # titles once a column and once a row, where there is no plot below or to the left
        if i + n_cols >= len(panels):
            fig.update_xaxes(title_text=RUNTIME_TITLES[runtime_measure], **place)
        if place["col"] == 1:
            fig.update_yaxes(title_text=y_title, **place)
        fig.update_yaxes(type="linear" if panel.floor is None else "log", **place)
    fig.update_layout(
        width=width + _LEGEND,
        height=height + _GAP[1],
        margin={"l": 80, "r": _LEGEND - 80, "t": 50, "b": 60},
        legend={"title": {"text": "Algorithm"}, "font": {"size": 12}, "tracegroupgap": 0},
        hovermode="closest",
    )
    fig.update_xaxes(title_font_size=12, tickformat="~s")
    fig.update_yaxes(title_font_size=12, **style.VALUES)
    fig.update_annotations(font_size=13)
    return fig


def _traces(
    panel: Panel, looks: dict[str, dict[str, Any]], in_legend: set[str]
) -> Iterator[go.Scatter]:
    for approach in panel.approaches:
        yield _trace(approach, looks[approach.algorithm], panel.floor, in_legend)
    if panel.target is not None and (panel.floor is None or panel.target > 0):
        yield _target_line(panel.last, panel.target, in_legend)


def _trace(
    approach: Approach, look: dict[str, Any], floor: float | None, in_legend: set[str]
) -> go.Scatter:
    name = approach.algorithm
    is_new = name not in in_legend
    in_legend.add(name)
    return style.algorithm_line(
        name,
        approach.runtime,
        approach.distance if floor is None else np.maximum(approach.distance, floor),
        look | {"width": 1.8},
        "%{y:.4~g} after %{x:.4~g}",
        legendgroup=name,
        showlegend=is_new,
        mode="lines" if len(approach.runtime) > 1 else "markers",
        marker={"color": look["color"], "size": 5},
    )


def _target_line(last: float, target: float, in_legend: set[str]) -> go.Scatter:
    is_new = _SOLUTION not in in_legend
    in_legend.add(_SOLUTION)
    return go.Scatter(
        x=[0, last],
        y=[target, target],
        name=_SOLUTION,
        legendgroup=_SOLUTION,
        legendrank=1001,
        showlegend=is_new,
        mode="lines",
        line={"color": "#7f7f7f", "width": 1, "dash": "dot"},
        hoverinfo="skip",
    )
