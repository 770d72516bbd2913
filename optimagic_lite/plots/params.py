"""The plot of parameter values, one line a parameter."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

from optimagic_lite.plots import style
from optimagic_lite.plots.backends import check_backend, present
from optimagic_lite.plots.evaluations import Evaluations
from optimagic_lite.plots.inputs import (
    check_max_evaluations,
    replace_names,
    run_of,
)
from optimagic_lite.plots.lines import (
    MAX_POINTS_EXPLORED,
    Line,
    make_dots,
    make_line,
    points_per_line,
)
from optimagic_lite.space.selection import select_params

if TYPE_CHECKING:
    from optimagic_lite.history import MultistartHistory
    from optimagic_lite.plots.inputs import Plottable

# A legend with more entries is taller than the plot.
MAX_LEGEND = 15
# With more lines than that, so many stand out from the rest.
N_HIGHLIGHTED = 10


@dataclass(frozen=True)
class ParamsPlotData:
    """What a params plot shows.

    Attributes:
        lines: One a parameter.
        highlighted: Positions of the lines that have a colour and a place in the legend.
        explored: Explored values of each parameter that is highlighted; empty if there are none
            to show.
        n_evaluations: Number of evaluations, before thinning.
    """

    lines: tuple[Line, ...]
    highlighted: tuple[int, ...]
    explored: tuple[Line, ...]
    n_evaluations: int


def params_data(
    run: MultistartHistory,
    selector: Callable[[Any], Any] | None = None,
    *,
    max_evaluations: int | None = None,
    names: list[str] | str | None = None,
    show_exploration: bool = False,
    by_time: bool = False,
) -> ParamsPlotData:
    """Compute what a params plot shows.

    Args:
        run: The evaluations.
        selector: Returns the part of params that is shown; None shows all.
        max_evaluations: Number of evaluations shown; None shows all.
        names: Names of the parameters that are shown, in their order; None keeps theirs.
        show_exploration: Whether to show explored points.
        by_time: Whether the horizontal axis will show the time.

    Returns:
        The data, thinned.

    Raises:
        ValueError: If the selector or the number of names is not valid.
    """
    chosen = select_params(selector, run.exploration._structure).positions
    columns = np.array(list(dict.fromkeys(chosen.tolist())), dtype=np.intp)
    own_names = run.exploration.flat_param_names
    labels = replace_names([own_names[i] for i in columns], names, "selected parameters")
    table = Evaluations.of(run)
    shown = table.stacked(max_evaluations, by_time=by_time)
    flat = shown.flat_params(columns)
    highlighted = _most_moved(flat)
    explored: tuple[Line, ...] = ()
    if show_exploration:
        found = table.explored(by_time=by_time)
        explored = _explored(found, columns[[*highlighted]], [labels[i] for i in highlighted])
    limit = points_per_line(len(columns))
    return ParamsPlotData(
        lines=tuple(
            make_line(name, shown, value, limit, is_apart=by_time)
            for name, value in zip(labels, flat.T, strict=True)
        ),
        highlighted=highlighted,
        explored=explored,
        n_evaluations=len(shown),
    )


def params_plot(
    result: Plottable,
    selector: Callable[[Any], Any] | None = None,
    max_evaluations: int | None = None,
    backend: str = "plotly",
    template: str | None = None,
    palette: list[str] | str = style.DEFAULT_PALETTE,
    show_exploration: bool = False,
    *,
    names: list[str] | str | None = None,
    x_axis: style.XAxis = "evaluations",
) -> Any:
    """Plot the parameters of each evaluation, one line a parameter.

    Of a multistart run all local optimisations are drawn, one after the other in the order in
    which they were begun.

    Up to 15 lines all have a colour and a place in the legend. Of more, the 10 whose values
    spread over the widest range do; the others are thin and grey, share one entry of the
    legend, and say their names where the mouse is. A selector chooses other ones.

    The lines have no gaps at failed evaluations: the parameters are known even where the
    criterion has no value. Points of numerical derivatives are not shown. A line of more than
    4,000 evaluations is thinned (fewer with more than 15 lines): of each short stretch the
    first, lowest, highest and last value are drawn.

    Args:
        result: A result, the path of a log (its newest run is shown), a ``History`` or a
            ``MultistartHistory``.
        selector: A function of params that returns the part to show, in any structure, for
            example ``lambda params: params["a"]``. It must not compute with the values. None
            (the default) shows all parameters.
        max_evaluations: Number of evaluations shown, from the start; None (the default) shows
            all. Explored points do not count.
        backend: "plotly" or "matplotlib".
        template: Name of a plotly template, "simple_white" if None; with matplotlib the name of
            one of its styles, or None for the look of the plotly figures.
        palette: Colours of the lines, used in turn, or one colour for all.
        show_exploration: Whether to show the start and the explored points of a multistart run,
            as dots left of the lines, from the one with the worst value of the criterion (points
            that violate constraints first) to the best, for the parameters that have a colour.
            Failed points are left out. No effect without multistart.
        names: Names of the parameters that are shown, in their order; the default are their
            names in the history.
        x_axis: "evaluations" (their numbers, from 0) or "time" (seconds from the start of the
            first evaluation of the run, its exploration included, to the end of each). By time,
            explored points stand where they were evaluated, and local optimisations that ran at
            once overlap, with a gap between one and the next.

    Returns:
        A plotly figure. With matplotlib the ``Axes``, whose figure is ``.figure``; that of
        explored points stands in ``.figure.axes``.

    Raises:
        InvalidPlottingBackendError: If the backend is neither "plotly" nor "matplotlib".
        LogError: If a path leads to no readable log.
        NotAvailableError: If the run kept neither history nor log, or has no evaluations yet.
        NotInstalledError: If the backend is "matplotlib" and that is not installed.
        TypeError: If the result is none of the permitted types.
        ValueError: If an argument has an invalid value.

    Example:
        >>> import optimagic_lite as om
        >>> res = om.minimize(lambda p: (p["a"] ** 2).sum() + p["b"] ** 2,
        ...                   {"a": np.ones(3), "b": 2.0}, "scipy_lbfgsb")
        >>> fig = om.params_plot(res, selector=lambda p: p["a"][:2])
        >>> len(fig.data)
        2
    """
    check_backend(backend, template)
    check_max_evaluations(max_evaluations)
    style.check_x_axis(x_axis)
    data = params_data(
        run_of(result, "the result"),
        selector,
        max_evaluations=max_evaluations,
        names=names,
        show_exploration=show_exploration,
        by_time=x_axis == "time",
    )
    figure = style.figure(
        _background(data, x_axis) + _foreground(data, x_axis, palette),
        x_axis=x_axis,
        y_title="Parameter value",
        log_scale=False,
        n_evaluations=data.n_evaluations,
    )
    return present(figure, backend, template)


def _foreground(
    data: ParamsPlotData, x_axis: style.XAxis, palette: list[str] | str
) -> list[go.Scatter]:
    styles = style.line_styles(palette, len(data.highlighted))
    dots = [
        trace
        for line, look in zip(data.explored, styles, strict=False)
        for trace in style.explored(line, x_axis, look, showlegend=False)
    ]
    lines = [
        trace
        for i, look in zip(data.highlighted, styles, strict=True)
        for trace in style.traces(data.lines[i], x_axis, look | {"width": 1.8}, showlegend=True)
    ]
    return dots + lines


def _background(data: ParamsPlotData, x_axis: style.XAxis) -> list[go.Scatter]:
    others = [line for i, line in enumerate(data.lines) if i not in set(data.highlighted)]
    # Plotly sorts the legend by rank, and 1000 is the default.
    shared: dict[str, Any] = {
        "legendgroup": "others",
        "legendrank": 1001,
        "name": f"{len(others)} others",
    }
    return [
        trace
        for i, line in enumerate(others)
        for trace in style.traces(line, x_axis, style.BACKGROUND, showlegend=i == 0, **shared)
    ]


def _explored(shown: Evaluations, columns: NDArray[np.intp], names: list[str]) -> tuple[Line, ...]:
    if not len(shown):
        return ()
    limit = points_per_line(len(columns), MAX_POINTS_EXPLORED)
    return tuple(
        make_dots(name, shown, value, limit)
        for name, value in zip(names, shown.flat_params(columns).T, strict=True)
    )


def _most_moved(flat: NDArray[np.float64]) -> tuple[int, ...]:
    n = flat.shape[1]
    if n <= MAX_LEGEND:
        return tuple(range(n))
    widest_first = np.argsort(-np.ptp(flat, axis=0), kind="stable")
    return tuple(sorted(widest_first[:N_HIGHLIGHTED].tolist()))
