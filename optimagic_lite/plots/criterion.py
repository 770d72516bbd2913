"""The plot of criterion values, one line a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

from optimagic_lite.history import History, best_so_far
from optimagic_lite.plots import style
from optimagic_lite.plots.inputs import (
    check_backend,
    check_max_evaluations,
    check_no_multistart,
    named_histories,
)
from optimagic_lite.plots.lines import Line, drawn_rows, make_lines

if TYPE_CHECKING:
    from optimagic_lite.plots.inputs import Plottable


@dataclass(frozen=True)
class CriterionPlotData:
    """What a criterion plot shows.

    Attributes:
        lines: One a run.
        y_title: Title of the vertical axis.
        floor: Where a logarithmic axis shows a value of zero; None if the axis is linear.
        n_evaluations: Number of evaluations of the longest run, before thinning.
    """

    lines: tuple[Line, ...]
    y_title: str
    floor: float | None
    n_evaluations: int


def criterion_data(
    histories: list[tuple[str, History]],
    *,
    max_evaluations: int | None = None,
    monotone: bool = False,
    log_scale: bool = False,
) -> CriterionPlotData:
    """Compute what a criterion plot shows.

    Args:
        histories: Pairs of name and history.
        max_evaluations: Number of evaluations shown of each run; None shows all.
        monotone: Whether to show the best value so far instead of each value.
        log_scale: Whether the values will stand on a logarithmic axis.

    Returns:
        The data, thinned.

    Raises:
        ValueError: If ``log_scale`` is true and a value is negative, or none is positive.
    """
    names = [name for name, _ in histories]
    directions = [history.direction for _, history in histories]
    rows = [drawn_rows(history, max_evaluations) for _, history in histories]
    values = [
        _values(history, row, monotone=monotone)
        for (_, history), row in zip(histories, rows, strict=True)
    ]
    seconds = [history.time[row] for (_, history), row in zip(histories, rows, strict=True)]
    floor = _floor(names, values) if log_scale else None
    y_title = "Best criterion value so far" if monotone else "Criterion value"
    if len(set(directions)) == 1:
        y_title += f" ({directions[0]}d)"
    else:
        names = [f"{name} ({way}d)" for name, way in zip(names, directions, strict=True)]
    return CriterionPlotData(
        lines=make_lines(names, values, seconds),
        y_title=y_title,
        floor=floor,
        n_evaluations=max(len(row) for row in rows),
    )


def criterion_plot(
    results: Plottable | Sequence[Plottable] | Mapping[str, Plottable],
    names: list[str] | str | None = None,
    max_evaluations: int | None = None,
    backend: str = "plotly",
    template: str | None = None,
    palette: list[str] | str = style.DEFAULT_PALETTE,
    stack_multistart: bool = False,
    monotone: bool = False,
    show_exploration: bool = False,
    *,
    x_axis: style.XAxis = "evaluations",
    log_scale: bool = False,
) -> go.Figure:
    """Plot the criterion value of each evaluation, one line a run.

    Values have the sign of the user's function: the line of a maximization rises. A failed
    evaluation leaves a gap in the line; a value between two gaps is drawn as a point. With
    ``monotone=True`` there are no gaps after the first success. Points of numerical
    derivatives are not shown.

    A line of more than 4,000 evaluations is thinned (fewer with more than 15 lines): of each
    short stretch the first, lowest, highest and last value are drawn, so every minimum and
    maximum of a stretch stays visible and the file stays small.

    Args:
        results: A result, the path of a log (its newest run is shown) or a ``History``; or a
            list of them, or a dictionary whose keys are the names in the legend.
        names: Names in the legend, in the order of the results. The default for a list is
            "0", "1" and so on.
        max_evaluations: Number of evaluations shown of each run, from its start; None (the
            default) shows all.
        backend: Only "plotly".
        template: Name of a plotly template; None means "simple_white".
        palette: Colours of the lines, used in turn, or one colour for all.
        stack_multistart: Not available yet.
        monotone: Whether to show the best value so far instead of each value.
        show_exploration: Not available yet.
        x_axis: "evaluations" (their numbers; the start point is 0) or "time" (seconds from
            the start of the first evaluation to the end of each).
        log_scale: Whether the vertical axis is logarithmic. A value of exactly zero is then
            drawn at a tenth of the smallest positive value; its hover text says 0.

    Returns:
        A plotly figure.

    Raises:
        InvalidPlottingBackendError: If the backend is not "plotly".
        LogError: If a path leads to no readable log.
        NotAvailableError: If a run kept neither history nor log, or for an option that needs
            multistart.
        TypeError: If a result is none of the permitted types.
        ValueError: If an argument has an invalid value, or ``log_scale=True`` meets a
            negative value.

    Example:
        >>> import optimagic_lite as om
        >>> res = om.minimize(lambda x: x @ x, np.ones(3), "scipy_lbfgsb")
        >>> fig = om.criterion_plot({"L-BFGS-B": res}, monotone=True)
        >>> fig.layout.yaxis.title.text
        'Best criterion value so far (minimized)'
    """
    check_backend(backend)
    check_no_multistart(stack_multistart=stack_multistart, show_exploration=show_exploration)
    check_max_evaluations(max_evaluations)
    style.check_x_axis(x_axis)
    data = criterion_data(
        named_histories(results, names),
        max_evaluations=max_evaluations,
        monotone=monotone,
        log_scale=log_scale,
    )
    # A lone run without a name of its own needs no legend.
    showlegend = len(data.lines) > 1 or names is not None or isinstance(results, dict)
    styles = style.line_styles(palette, len(data.lines))
    shape = {"width": 2, "shape": "hv" if monotone else "linear"}
    traces = [
        trace
        for line, look in zip(data.lines, styles, strict=True)
        for trace in style.traces(
            line, x_axis, look | shape, floor=data.floor, showlegend=showlegend
        )
    ]
    return style.figure(
        traces,
        x_axis=x_axis,
        y_title=data.y_title,
        log_scale=log_scale,
        template=template,
        n_evaluations=data.n_evaluations,
    )


def _values(history: History, rows: NDArray[np.int64], *, monotone: bool) -> NDArray[np.float64]:
    values = np.array(history.fun, dtype=np.float64)[rows]
    if monotone:
        return best_so_far(values.tolist(), history.direction)
    return np.where(np.isfinite(values), values, np.nan)


def _floor(names: list[str], values: list[NDArray[np.float64]]) -> float:
    for name, value in zip(names, values, strict=True):
        negative = np.flatnonzero(value < 0)
        if negative.size:
            first = negative[0]
            raise ValueError(
                f"log_scale=True needs values that are not negative, but {name!r} has "
                f"{value[first]:.6g} at evaluation {first}. Use log_scale=False."
            )
    positive = np.concatenate([value[value > 0] for value in values])
    if positive.size == 0:
        raise ValueError("log_scale=True needs a positive value to show. Use log_scale=False.")
    return float(positive.min()) / 10
