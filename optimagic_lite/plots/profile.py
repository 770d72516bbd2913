"""The plot of the share of problems that algorithms solve within a budget."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from optimagic_lite.benchmarking.convergence import (
    Course,
    RuntimeMeasure,
    StoppingCriterion,
    by_problem,
    check_choice,
    judged,
    read_courses,
)
from optimagic_lite.plots import style
from optimagic_lite.plots.approaches import RUNTIME_TITLES
from optimagic_lite.plots.backends import check_backend, present

Array = NDArray[np.float64]
Normalization = Literal[False, True, "simplex_gradients"]

# nobody needs less than a nanosecond
_LEAST = 1e-9

# part of the axis that is free to the right of the last step
_FREE = 0.05


@dataclass(frozen=True)
class Profile:
    """The profile of one algorithm: a function that rises in steps.

    Attributes:
        algorithm: Its name.
        budget: Budgets at which steps are, increasing; the first and last are those of the plot.
        share: Share of problems solved within each.
    """

    algorithm: str
    budget: Array
    share: Array


def profile_plot(
    problems: Any,
    results: Any,
    *,
    runtime_measure: RuntimeMeasure = "n_evaluations",
    normalize_runtime: Normalization = False,
    stopping_criterion: StoppingCriterion = "y",
    x_precision: float = 1e-4,
    y_precision: float = 1e-4,
    backend: str = "plotly",
    template: str | None = None,
    palette: list[str] | str = style.DEFAULT_PALETTE,
    log_scale: bool | None = None,
) -> Any:
    """Plot the share of problems that each algorithm solves within a budget.

    Lines that rise early are those of fast algorithms, lines that end high those of reliable ones.
    A problem that is not solved would need an infinite budget. In the legend, algorithms are sorted
    by the share that they solve in the end, and then by how early.

    Performance and data profiles are those of Moré and Wild (2009, doi:10.1137/080724083).

    Args:
        problems: The test problems, see ``get_benchmark_problems``.
        results: What ``run_benchmark`` returned for them.
        runtime_measure: The budget: "n_evaluations" (default), "walltime" (seconds) or
            "n_batches".
        normalize_runtime: False (default): the budget is absolute. True: it is a multiple of what
            the fastest algorithm needed for the problem (a performance profile).
            "simplex_gradients": it is divided by the number of parameters plus one (a data
            profile).
        stopping_criterion: When a problem is solved, see ``convergence_report``; so are the
            precisions.
        x_precision: Default 1e-4.
        y_precision: Default 1e-4.
        backend: "plotly" or "matplotlib".
        template: Name of a template of plotly or of a style of matplotlib; None means the style
            of the package.
        palette: Colours of the lines, used in turn, or one colour for all.
        log_scale: Whether the horizontal axis is logarithmic; the default None means that it is
            for multiples of the fastest.

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
        >>> fig = om.profile_plot({"banana": problem}, results)
        >>> [trace.name for trace in sorted(fig.data, key=lambda trace: trace.legendrank)]
        ['scipy_ls_lm', 'scipy_lbfgsb']
    """
    check_backend(backend, template)
    check_choice("runtime_measure", runtime_measure, RuntimeMeasure)
    check_choice("normalize_runtime", normalize_runtime, Normalization)
    # what equals True or False may be a number
    if normalize_runtime != "simplex_gradients":
        normalize_runtime = bool(normalize_runtime)
    is_log = normalize_runtime is True if log_scale is None else log_scale
    ends = judged(read_courses(problems, results), stopping_criterion, x_precision, y_precision)
    from_zero = not is_log and normalize_runtime is not True
    profiles = make_profiles(ends, runtime_measure, normalize_runtime, from_zero=from_zero)
    order = sorted(profiles, key=lambda p: (-p.share[-1], -_area(p)))
    looks = style.line_styles(palette, len(profiles))
    traces = [
        style.algorithm_line(
            profile.algorithm,
            profile.budget,
            profile.share,
            look,
            "%{y:.0%} of problems<br>within %{x:.4~g}",
            legendrank=order.index(profile) + 1,
        )
        for profile, look in zip(profiles, looks, strict=True)
    ]
    fig = style.comparison(
        traces,
        xaxis={
            "title": {"text": _x_title(runtime_measure, normalize_runtime)},
            "type": "log" if is_log else "linear",
        },
        yaxis={
            "title": {"text": "Share of problems solved"},
            "range": [0, 1.03],
            "tickformat": ".0%",
        },
    )
    return present(fig, backend, template)


def make_profiles(
    ends: dict[Course, int],
    measure: RuntimeMeasure,
    normalization: Normalization,
    *,
    from_zero: bool,
) -> list[Profile]:
    """Return the profiles of all algorithms.

    Args:
        ends: At which evaluation each run had solved its problem, or -1.
        measure: What is spent.
        normalization: See ``profile_plot``.
        from_zero: Whether lines begin at a budget of zero instead of the smallest that is enough
            for any algorithm and problem.

    Raises:
        InvalidBenchmarkError: If algorithms have run on different problems.
    """
    table = by_problem(ends)
    needed = {
        problem: {name: _needed(course, ends[course], measure) for name, course in runs.items()}
        for problem, runs in table.items()
    }
    if normalization:
        needed = {
            problem: _divided(spent, _unit(table[problem], spent, normalization))
            for problem, spent in needed.items()
        }
    finite = [x for spent in needed.values() for x in spent.values() if np.isfinite(x)]
    last = max(finite, default=1.0)
    first = 0.0 if from_zero else min(finite, default=1.0)
    end = last + _FREE * (last - first or last)
    return [
        _profile(name, np.array([spent[name] for spent in needed.values()]), first, end)
        for name in next(iter(table.values()))
    ]


def _profile(name: str, needed: Array, first: float, last: float) -> Profile:
    solved = np.sort(needed[np.isfinite(needed)])
    steps = np.unique(solved)
    share = np.searchsorted(solved, steps, side="right") / len(needed)
    at_first = float(np.mean(needed <= first))
    inner = steps > first
    return Profile(
        name,
        np.concatenate([[first], steps[inner], [last]]),
        np.concatenate([[at_first], share[inner], [len(solved) / len(needed)]]),
    )


def _needed(course: Course, end: int, measure: RuntimeMeasure) -> float:
    return float(course.runtime[measure][end]) if end >= 0 else np.inf


def _unit(runs: dict[str, Course], spent: dict[str, float], normalization: Normalization) -> float:
    if normalization == "simplex_gradients":
        return next(iter(runs.values())).n_params + 1.0
    # a clock may say that no time has passed
    return max(min(spent.values()), _LEAST)


def _divided(spent: dict[str, float], unit: float) -> dict[str, float]:
    # what nobody has solved remains infinite
    return {name: x / unit if np.isfinite(x) else np.inf for name, x in spent.items()}


def _area(profile: Profile) -> float:
    return float(np.diff(profile.budget) @ profile.share[:-1])


def _x_title(measure: RuntimeMeasure, normalization: Normalization) -> str:
    if normalization == "simplex_gradients":
        return f"{RUNTIME_TITLES[measure]} divided by number of parameters + 1"
    if normalization:
        return f"{RUNTIME_TITLES[measure]}, as a multiple of what the fastest algorithm needed"
    return RUNTIME_TITLES[measure]
