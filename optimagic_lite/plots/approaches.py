"""How algorithms approach solutions, as lines: the data of convergence and deviation plots."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from optimagic_lite.benchmarking.convergence import Course, DistanceMeasure, RuntimeMeasure
from optimagic_lite.plots import style
from optimagic_lite.plots.lines import points_per_line, thin

Array = NDArray[np.float64]

RUNTIME_TITLES = {
    "n_evaluations": "Function evaluations",
    "walltime": "Seconds",
    "n_batches": "Batches",
}


@dataclass(frozen=True)
class Approach:
    """How one algorithm approaches the solution of one problem, or of several on average.

    Attributes:
        algorithm: Its name.
        runtime: What was spent, shape (n,).
        distance: What is missing then, or the value itself, shape (n,).
    """

    algorithm: str
    runtime: Array
    distance: Array


@dataclass(frozen=True)
class Panel:
    """The plot of one problem.

    Attributes:
        problem: Its name.
        approaches: One line an algorithm.
        target: The height of the solution; None if that is zero for all problems.
        floor: The lowest height that is drawn; None if the axis is not logarithmic.
    """

    problem: str
    approaches: list[Approach]
    target: float | None
    floor: float | None

    @property
    def last(self) -> float:
        """The largest runtime of all lines."""
        runtime = np.concatenate([approach.runtime for approach in self.approaches])
        return float(np.max(runtime[np.isfinite(runtime)], initial=0.0)) or 1.0


def make_panels(
    ends: dict[Course, int],
    runtime_measure: RuntimeMeasure,
    distance_measure: DistanceMeasure,
    *,
    monotone: bool,
    normalize: bool,
    log_scale: bool,
    least: float,
) -> list[Panel]:
    """Return the plots of all problems.

    Args:
        ends: At which evaluation each run had solved its problem, or -1; lines end there.
        runtime_measure: What is drawn to the right.
        distance_measure: What is drawn upwards.
        monotone: See ``convergence_plot``.
        normalize: Likewise.
        log_scale: Likewise.
        least: A distance below which a problem is solved.
    """
    lines: dict[str, list[Approach]] = {}
    targets: dict[str, float] = {}
    for course, end in ends.items():
        distance = course.distance(distance_measure, monotone=monotone, normalize=normalize)
        stop = end + 1 if end >= 0 else None
        runtime, distance = course.runtime[runtime_measure][:stop], distance[:stop]
        kept = steps_of(distance) if monotone else thin(distance, points_per_line(len(ends)))
        approach = Approach(course.algorithm, runtime[kept], distance[kept])
        lines.setdefault(course.problem, []).append(approach)
        targets[course.problem] = course.target[distance_measure]
    return [
        Panel(
            problem,
            approaches,
            None if normalize else targets[problem],
            floor_of(approaches, least if normalize else 0.0) if log_scale else None,
        )
        for problem, approaches in lines.items()
    ]


def floor_of(approaches: list[Approach], least: float = 0.0) -> float | None:
    """Return where to draw, on a logarithmic axis, what is as good as solved.

    Args:
        approaches: The lines.
        least: What counts as solved.

    Returns:
        A tenth of that, or of the smallest positive number if that is larger; None if there is no
        number at all, of which to take logarithms.
    """
    distance = np.concatenate([approach.distance for approach in approaches])
    if not np.isfinite(distance).any():
        return None
    return max(float(np.min(distance[distance > 0], initial=1.0)), least) / 10


def steps_of(values: Array) -> NDArray[np.intp]:
    """Return positions that are enough to draw a line that changes in steps only.

    Args:
        values: Heights, shape (n,).
    """
    changes = np.flatnonzero(values[1:] != values[:-1]) + 1
    return np.unique(np.concatenate([[0], changes, [len(values) - 1]]))


def distance_title(measure: DistanceMeasure, *, monotone: bool, normalize: bool) -> str:
    """Return the title of an axis with distances.

    Args:
        measure: What is measured.
        monotone: Whether it is the best so far.
        normalize: Whether it is a share of the distance at the start.
    """
    what = "criterion value" if measure == "criterion" else "distance of parameters"
    if normalize:
        what = "function distance" if measure == "criterion" else "parameter distance"
        return f"Share of {what} missing<br>{'best so far' if monotone else 'at this evaluation'}"
    return f"{'Best' if monotone else 'Current'} {what}"


def looks_of(algorithms: list[str], palette: list[str] | str) -> dict[str, dict[str, Any]]:
    """Return the look of the line of each algorithm.

    Args:
        algorithms: Their names, with repetitions.
        palette: See ``style.line_styles``.
    """
    names = list(dict.fromkeys(algorithms))
    return dict(zip(names, style.line_styles(palette, len(names)), strict=True))
