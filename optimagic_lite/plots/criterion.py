"""The plot of criterion values, one line a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import plotly.graph_objects as go

from optimagic_lite.plots import style
from optimagic_lite.plots.backends import check_backend, present
from optimagic_lite.plots.criterion_data import CriterionPlotData, criterion_data
from optimagic_lite.plots.inputs import check_max_evaluations, named_runs

if TYPE_CHECKING:
    from optimagic_lite.plots.inputs import Plottable

# More muted lines than that are thinner.
_FEW_OTHERS = 15


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
) -> Any:
    """Plot the criterion value of each evaluation, one line a run.

    Values have the sign of the user's function: the line of a maximization rises. A failed
    evaluation leaves a gap in the line; a value between two gaps is drawn as a point. With
    ``monotone=True`` evaluations that violate a constraint do not count, and there are no gaps
    after the first success. Points of numerical derivatives are not shown.

    Of a multistart run that is drawn alone, the best local optimisation is highlighted and the
    others are thin and grey, each from its evaluation 0. Of several runs only the best local
    optimisation is drawn, unless they are stacked.

    A line of more than 4,000 evaluations is thinned (fewer with more than 15 lines): of each
    short stretch the first, lowest, highest and last value are drawn, so every minimum and
    maximum of a stretch stays visible and the file stays small. All grey lines together have
    20,000 points at most, gaps apart.

    Args:
        results: A result, the path of a log (its newest run is shown), a ``History`` or a
            ``MultistartHistory``; or a list of them, or a dictionary whose keys are the names in
            the legend.
        names: Names in the legend, in the order of the results. The default for a list is
            "0", "1" and so on.
        max_evaluations: Number of evaluations shown of each line, from its start; None (the
            default) shows all. Explored points do not count.
        backend: "plotly" or "matplotlib".
        template: Name of a plotly template, "simple_white" if None; with matplotlib the name of
            one of its styles, or None for the look of the plotly figures.
        palette: Colours of the lines, used in turn, or one colour for all.
        stack_multistart: Whether to draw all local optimisations of a run as one line, one after
            the other in the order in which they were begun. No effect without multistart.
        monotone: Whether to show the best value so far instead of each value. The line of a
            stacked run goes on from the best explored point, if those are shown; local
            optimisations that are not stacked are by themselves.
        show_exploration: Whether to show the start and the explored points of a multistart run,
            stacked or not: left of the lines, from the worst (points that violate constraints
            first) to the best. Failed points are left out. No effect without multistart.
        x_axis: "evaluations" (their numbers; the first of each line is 0) or "time" (seconds from
            the start of the first evaluation of a run, its exploration included, to the end of
            each). By time, explored points stand where they were evaluated. Stacked local
            optimisations that ran at once overlap, with a gap between one and the next; for the
            best value so far they are one line in the order in which evaluations ended.
        log_scale: Whether the vertical axis is logarithmic. A value of exactly zero is then
            drawn at a tenth of the smallest positive value; its hover text says 0.

    Returns:
        A plotly figure. With matplotlib the ``Axes``, whose figure is ``.figure``; that of
        explored points stands in ``.figure.axes``.

    Raises:
        InvalidPlottingBackendError: If the backend is neither "plotly" nor "matplotlib".
        LogError: If a path leads to no readable log.
        NotAvailableError: If a run kept neither history nor log, or has no evaluations yet.
        NotInstalledError: If the backend is "matplotlib" and that is not installed.
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
    check_backend(backend, template)
    check_max_evaluations(max_evaluations)
    style.check_x_axis(x_axis)
    runs = named_runs(results, names)
    data = criterion_data(
        runs,
        max_evaluations=max_evaluations,
        monotone=monotone,
        log_scale=log_scale,
        stack_multistart=stack_multistart,
        show_exploration=show_exploration,
        by_time=x_axis == "time",
    )
    is_named = names is not None or isinstance(results, Mapping)
    figure = style.figure(
        _traces(data, x_axis, palette, monotone=monotone, is_named=is_named),
        x_axis=x_axis,
        y_title=data.y_title,
        log_scale=log_scale,
        n_evaluations=data.n_evaluations,
        # with a line for the best result and one for the others, the legend has a title
        legend_title=runs[0][0] if is_named and data.others is not None else None,
    )
    return present(figure, backend, template)


def _traces(
    data: CriterionPlotData,
    x_axis: style.XAxis,
    palette: list[str] | str,
    *,
    monotone: bool,
    is_named: bool,
) -> list[go.Scatter]:
    """Draw the muted local optimisations, then explored points, then the lines above them."""
    # A lone run without a name of its own needs no legend.
    showlegend = len(data.lines) > 1 or data.others is not None or is_named
    shape = {"shape": "hv" if monotone else "linear"}
    styles = [look | shape for look in style.line_styles(palette, len(data.lines))]
    shared: dict[str, Any] = {"x_axis": x_axis, "floor": data.floor}
    drawn = []
    if data.others is not None:
        few = len(np.unique(data.others.local)) <= _FEW_OTHERS
        muted = style.BACKGROUND | ({"width": 1.4} if few else {}) | shape
        drawn += style.traces(data.others, style=muted, legendrank=1001, **shared)
    for line, look in zip(data.explored, styles, strict=True):
        if line is not None:
            # of several runs, the panel says what it shows and the colour says of which
            named = data.others is not None or x_axis == "time"
            legend: dict[str, Any] = {"legendrank": 1002, "showlegend": named}
            drawn += style.explored(line, style=look, joined=monotone, **legend, **shared)
    for line, look in zip(data.lines, styles, strict=True):
        drawn += style.traces(line, style=look | {"width": 2}, showlegend=showlegend, **shared)
    return drawn
