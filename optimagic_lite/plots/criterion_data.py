"""What a criterion plot shows: the values of one or several runs, of multistart ones too."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from optimagic_lite.history import best_so_far
from optimagic_lite.plots.evaluations import Evaluations
from optimagic_lite.plots.lines import (
    MAX_POINTS_EXPLORED,
    MAX_POINTS_OTHERS,
    Line,
    make_dots,
    make_line,
    points_per_line,
)

if TYPE_CHECKING:
    from optimagic_lite.history import Direction, MultistartHistory

Array = NDArray[np.float64]


@dataclass(frozen=True)
class CriterionPlotData:
    """What a criterion plot shows.

    Attributes:
        lines: One a run.
        explored: The explored points of each run; None where there are none to show.
        others: The local optimisations that are not the best one, as one line with gaps between
            them; None if there are none to show.
        y_title: Title of the vertical axis.
        floor: Where a logarithmic axis shows a value of zero; None if the axis is linear.
        n_evaluations: Number of evaluations of the longest line, before thinning.
    """

    lines: tuple[Line, ...]
    explored: tuple[Line | None, ...]
    others: Line | None
    y_title: str
    floor: float | None
    n_evaluations: int


def criterion_data(
    runs: Sequence[tuple[str, MultistartHistory]],
    *,
    max_evaluations: int | None = None,
    monotone: bool = False,
    log_scale: bool = False,
    stack_multistart: bool = False,
    show_exploration: bool = False,
    by_time: bool = False,
) -> CriterionPlotData:
    """Compute what a criterion plot shows.

    Args:
        runs: Pairs of name and evaluations.
        max_evaluations: Number of evaluations shown of each line; None shows all.
        monotone: Whether to show the best value so far instead of each value.
        log_scale: Whether the values will stand on a logarithmic axis.
        stack_multistart: Whether all local optimisations make one line.
        show_exploration: Whether to show explored points.
        by_time: Whether the horizontal axis will show the time.

    Returns:
        The data, thinned.

    Raises:
        ValueError: If ``log_scale`` is true and a value is negative, or none is positive.
    """
    tables = [Evaluations.of(run) for _, run in runs]
    views = [
        _view(table, max_evaluations, monotone, stack_multistart, show_exploration, by_time)
        for table in tables
    ]
    names, y_title = _texts(runs, monotone)
    others = None
    if len(runs) == 1 and not stack_multistart:
        others = _others(tables[0], max_evaluations, monotone)
    if others is not None:
        names = ["best result" if tables[0].best_local else "start"]
    lines = tuple(view.line(name, len(runs)) for name, view in zip(names, views, strict=True))
    explored = tuple(
        view.explored_line("exploration" if len(runs) == 1 else f"{name}: exploration", len(runs))
        for name, view in zip(names, views, strict=True)
    )
    return CriterionPlotData(
        lines=lines,
        explored=explored,
        others=others,
        y_title=y_title,
        floor=_floor(lines, explored, others) if log_scale else None,
        n_evaluations=1 + max(_last_number(line) for line in (*lines, others)),
    )


@dataclass(frozen=True, eq=False)
class _View:
    """What is drawn of one run, before thinning, with the values that are drawn."""

    explored: Evaluations
    explored_value: Array
    path: Evaluations
    value: Array
    monotone: bool
    is_apart: bool

    def line(self, name: str, n_lines: int) -> Line:
        limit = points_per_line(n_lines)
        return make_line(name, self.path, self.value, limit, is_apart=self.is_apart)

    def explored_line(self, name: str, n_lines: int) -> Line | None:
        if not len(self.explored):
            return None
        limit = points_per_line(n_lines, MAX_POINTS_EXPLORED)
        make = make_line if self.monotone else make_dots
        return make(name, self.explored, self.explored_value, limit)


def _texts(runs: Sequence[tuple[str, MultistartHistory]], monotone: bool) -> tuple[list[str], str]:
    """Return the names of the lines and the title of the axis; one of them says the directions."""
    names = [name for name, _ in runs]
    directions = [run.exploration.direction for _, run in runs]
    y_title = "Best criterion value so far" if monotone else "Criterion value"
    if len(set(directions)) == 1:
        return names, f"{y_title} ({directions[0]}d)"
    return [f"{name} ({way}d)" for name, way in zip(names, directions, strict=True)], y_title


def _view(
    table: Evaluations,
    max_evaluations: int | None,
    monotone: bool,
    stack_multistart: bool,
    show_exploration: bool,
    by_time: bool,
) -> _View:
    path = table.path(max_evaluations)
    if stack_multistart:
        path = table.stacked(max_evaluations, by_time=by_time, is_sorted=by_time and monotone)
    explored = table.explored(by_time=by_time) if show_exploration else table.take(np.arange(0))
    direction = table.run.exploration.direction
    if not monotone:
        values = [explored.fun, path.fun]
    elif stack_multistart:
        together = np.concatenate([explored.feasible_fun, path.feasible_fun])
        values = np.split(best_so_far(together, direction), [len(explored)])
    else:
        values = [best_so_far(part.feasible_fun, direction) for part in (explored, path)]
    # what ran at the same time would be joined by lines back and forth
    is_apart = stack_multistart and by_time and not monotone
    return _View(explored, values[0], path, values[1], monotone, is_apart)


def _others(table: Evaluations, max_evaluations: int | None, monotone: bool) -> Line | None:
    shown = table.other_paths(max_evaluations)
    n = len(np.unique(shown.local))
    if not n:
        return None
    value = _best_of_each(shown, table.run.exploration.direction) if monotone else shown.fun
    other = "other " if table.best_local else ""
    name = f"{n:,} {other}optimisation{'' if n == 1 else 's'}"
    return make_line(name, shown, value, MAX_POINTS_OTHERS, is_apart=True)


def _best_of_each(shown: Evaluations, direction: Direction) -> Array:
    """Return the best value so far of each local optimisation by itself."""
    begins = np.flatnonzero(np.diff(shown.local)) + 1
    parts = np.split(shown.feasible_fun, begins)
    return np.concatenate([best_so_far(part, direction) for part in parts])


def _last_number(line: Line | None) -> int:
    return -1 if line is None else int(line.evaluation.max(initial=-1))


def _floor(lines: Sequence[Line], explored: Sequence[Line | None], others: Line | None) -> float:
    numbered = [*lines] if others is None else [*lines, others]
    for line in numbered:
        _check_not_negative(line, " at evaluation {}")
    ranked = [line for line in explored if line is not None]
    for line in ranked:
        _check_not_negative(line, "")
    positive = np.concatenate([line.value[line.value > 0] for line in numbered + ranked])
    if positive.size == 0:
        raise ValueError("log_scale=True needs a positive value to show. Use log_scale=False.")
    return float(positive.min()) / 10


def _check_not_negative(line: Line, where: str) -> None:
    negative = np.flatnonzero(line.value < 0)
    if negative.size:
        first = negative[0]
        raise ValueError(
            f"log_scale=True needs values that are not negative, but {line.name!r} has "
            f"{line.value[first]:.6g}{where.format(line.evaluation[first])}. Use log_scale=False."
        )
