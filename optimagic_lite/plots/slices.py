"""The plot of a criterion along each parameter, with all others held where they are."""

from __future__ import annotations

import html
import numbers
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray
from plotly.subplots import make_subplots

from optimagic_lite.deprecations.calls import OLD_BOUNDS, new_bounds
from optimagic_lite.deprecations.names import accepts_old_names
from optimagic_lite.parallel import (
    BatchEvaluator,
    BatchEvaluatorName,
)
from optimagic_lite.plots import style
from optimagic_lite.plots.backends import alone, check_backend, present
from optimagic_lite.plots.slice_data import Slice, check_number, slice_data

Array = NDArray[np.float64]

_COLOR = style.DEFAULT_PALETTE[0]
_MUTED = "#7f7f7f"

# Sizes in pixels.
_MARGIN = {"l": 80, "r": 30, "t": 30, "b": 65}
_TITLE_HEIGHT = 40
_NOTE_HEIGHT = 18

_AXIS = {"zeroline": False, "exponentformat": "power", "gridcolor": style.GRID}

# Part of a shared horizontal axis that stays free at either end.
_EXPAND_XRANGE = 0.03

_MISSING_NOTE = "Where a bound is missing, the range ends max(|value|, 1) away from the value."


@accepts_old_names(new_bounds, OLD_BOUNDS)
def slice_plot(
    func: Callable[..., Any],
    params: Any,
    bounds: Any = None,
    func_kwargs: Mapping[str, Any] | None = None,
    selector: Callable[[Any], Any] | None = None,
    n_cores: int = 1,
    n_gridpoints: int = 20,
    plots_per_row: int = 2,
    param_names: Mapping[str, str] | None = None,
    share_y: bool = True,
    expand_yrange: float = 0.02,
    share_x: bool = False,
    backend: str = "plotly",
    template: str | None = None,
    color: str | None = _COLOR,
    title: str | None = None,
    return_dict: bool = False,
    batch_evaluator: BatchEvaluatorName | BatchEvaluator = "joblib",
    make_subplot_kwargs: dict[str, Any] | None = None,
) -> Any:
    """Plot a criterion along each parameter, with all others held where they are.

    A dot marks the given params. Each parameter moves between its bounds, and no point outside
    of them is evaluated. Where a bound is missing, its soft bound ends the range, and where that
    is missing too, or not beyond the value, the range ends ``max(|value|, 1)`` away from the
    value; the figure says so.

    Points at which func raises, or is not finite, are gaps, which the figure counts.

    Args:
        func: The criterion, as for ``minimize``; also one marked with ``om.mark``, whose sum (of
            squares) is drawn. One written with JAX is compiled and evaluated at all points in
            one call; any other is called once a point.
        params: The point through which all slices go, in any pytree.
        bounds: See ``minimize``.
        func_kwargs: Further arguments of func.
        selector: A function of params that returns the part to show, in any structure. None
            (the default) shows all parameters.
        n_cores: Number of processes or threads in which a func that is not written with JAX is
            called.
        n_gridpoints: Number of points in each range, its ends included; the value in params is
            one more.
        plots_per_row: Number of plots in a row.
        param_names: New names by name, for some parameters or all.
        share_y: Whether all plots have the same vertical axis.
        expand_yrange: Part of the vertical range that stays free above the highest value and
            below the lowest.
        share_x: Whether all plots have the same horizontal axis.
        backend: "plotly" or "matplotlib".
        template: Name of a plotly template, "simple_white" if None; with matplotlib the name of
            one of its styles, or None for the look of the plotly figures.
        color: Colour of lines and dots; None means the default.
        title: Title of the figure.
        return_dict: Whether to return a figure for each parameter instead of one for all.
        batch_evaluator: What calls it there: "joblib" (the default), "threading", "dask", "ray", or
            a function as ``optimagic_lite.parallel`` describes it.
        make_subplot_kwargs: Further arguments of ``plotly.subplots.make_subplots``, spacings for
            example, for the figure of all. Matplotlib chooses spacings by itself.

    Returns:
        A plotly figure, or with ``return_dict=True`` a dictionary of figures by name. With
        matplotlib an array of ``Axes``, one a panel, by row and column, or a dictionary with one
        ``Axes`` for each name. The figure is their ``.figure``.

    Raises:
        InvalidBoundsError: If bounds are not valid or params lie outside of them.
        InvalidFunctionError: If func is no function or does not return what it must.
        InvalidKwargsError: If func_kwargs or n_cores is not valid.
        InvalidParamsError: If params are not made of finite numbers.
        InvalidPlottingBackendError: If the backend is neither "plotly" nor "matplotlib".
        NotAvailableError: If there is no such batch evaluator.
        NotInstalledError: If several processes are asked for and joblib is not installed, or the
            backend is "matplotlib" and that is not installed.
        UserFunctionRuntimeError: If func has a finite value at no point at all.
        ValueError: If another argument has an invalid value.

    Example:
        >>> import optimagic_lite as om
        >>> fig = om.slice_plot(lambda p: p["a"] ** 2 + p["b"] ** 4, {"a": 1.0, "b": 0.5},
        ...                     bounds=om.Bounds(lower=-2, upper=2))
        >>> fig.layout.xaxis.title.text, fig.layout.xaxis2.title.text
        ('a', 'b')
    """
    check_backend(backend, template)
    check_number("plots_per_row", plots_per_row, numbers.Integral, at_least=1)
    check_number("expand_yrange", expand_yrange, numbers.Real, at_least=0)
    data = slice_data(
        func,
        params,
        bounds,
        func_kwargs,
        selector,
        n_gridpoints=n_gridpoints,
        param_names=param_names,
        n_cores=n_cores,
        batch_evaluator=batch_evaluator,
    )
    look = _Look(
        color=color or _COLOR,
        title=title,
        x_range=_range([s.x for s in data.slices], _EXPAND_XRANGE) if share_x else None,
        y_range=_range([s.y for s in data.slices], expand_yrange) if share_y else None,
        share_x=share_x,
        share_y=share_y,
        expand_yrange=expand_yrange,
    )
    if return_dict:
        return {
            each.name: present(alone(_figure([each], data.value, look, 1)), backend, template)
            for each in data.slices
        }
    grid = _figure(data.slices, data.value, look, plots_per_row, **(make_subplot_kwargs or {}))
    return present(grid, backend, template)


@dataclass(frozen=True)
class _Look:
    """What all panels have in common; ranges are None where each panel has its own."""

    color: str
    title: str | None
    x_range: list[float] | None
    y_range: list[float] | None
    share_x: bool
    share_y: bool
    expand_yrange: float


def _figure(
    slices: Sequence[Slice], value: float, look: _Look, plots_per_row: int, **options: Any
) -> go.Figure:
    """Draw each slice in its panel."""
    n_cols = min(plots_per_row, len(slices))
    n_rows = -(-len(slices) // n_cols)
    notes = _notes(slices)
    subplots, layout = _layout(n_rows, n_cols, look, len(notes))
    fig = make_subplots(rows=n_rows, cols=n_cols, **(subplots | options))
    fig.update_layout(**layout)
    for note in notes:
        fig.add_annotation(note)
    fig.update_xaxes(**_AXIS, title_standoff=6)
    fig.update_yaxes(**_AXIS, title_standoff=10, showgrid=True, automargin=True)
    for i, each in enumerate(slices):
        row, col = i // n_cols + 1, i % n_cols + 1
        panel = fig.get_subplot(row, col)
        panel.xaxis.update(title_text=_x_title(each), range=look.x_range)
        panel.yaxis.update(range=look.y_range or _range([each.y], look.expand_yrange))
        if col == 1:
            panel.yaxis.title.text = "Criterion value"
        if i >= len(slices) - n_cols:
            # the last panel of a column has numbers below it, also where the last row is not full
            panel.xaxis.showticklabels = True
        fig.add_traces(_traces(each, value, look.color), rows=row, cols=col)
    return fig


def _layout(
    n_rows: int, n_cols: int, look: _Look, n_notes: int
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the layout of the grid and of the figure, which grows with the number of panels."""
    panel_width, panel_height = (560 if n_cols == 1 else 340), (320 if n_rows == 1 else 210)
    # between panels there is room for titles, and for numbers where axes are not shared
    gap_width, gap_height = (30 if look.share_y else 75), (50 if look.share_x else 70)
    width = n_cols * (panel_width + gap_width) - gap_width
    height = n_rows * (panel_height + gap_height) - gap_height
    top = _MARGIN["t"] + (_TITLE_HEIGHT if look.title else 0)
    bottom = _MARGIN["b"] + n_notes * _NOTE_HEIGHT
    grid = {
        "horizontal_spacing": gap_width / width,
        "vertical_spacing": gap_height / height,
        "shared_xaxes": "all" if look.share_x else False,
        "shared_yaxes": "all" if look.share_y else False,
    }
    figure = {
        "title": {"text": look.title},
        "width": width + _MARGIN["l"] + _MARGIN["r"],
        "height": height + top + bottom,
        "margin": _MARGIN | {"t": top, "b": bottom},
        "showlegend": False,
        "hovermode": "closest",
    }
    return grid, figure


def _traces(each: Slice, value: float, color: str) -> list[go.Scatter]:
    """Draw the line with all its points, such that one between two gaps is seen, and the dot."""
    name = html.escape(each.name, quote=False)
    shared = {"name": style.label(each.name), "cliponaxis": False}
    where = f"<b>{name}</b>: %{{x:.6~g}}<br>criterion %{{y:.6~g}}"
    line = go.Scatter(
        x=each.x,
        y=each.y,
        mode="lines+markers",
        line={"color": color, "width": 2},
        marker={"size": 4, "color": color},
        hovertemplate=f"{where}<extra></extra>",
        **shared,
    )
    dot = go.Scatter(
        x=[each.start],
        y=[value],
        mode="markers",
        marker={"size": 10, "color": color},
        hovertemplate=f"{where}<br>at params<extra></extra>",
        **shared,
    )
    return [line, dot]


def _x_title(each: Slice) -> str:
    name = style.label(each.name)
    if not each.missing:
        return name
    return f'{name} <span style="font-size: 11px; color: {_MUTED}">({each.missing})</span>'


def _notes(slices: Sequence[Slice]) -> list[dict[str, Any]]:
    """Return what the reader must know to trust the lines, as annotations below the panels."""
    n_points = sum(len(each.y) for each in slices)
    n_gaps = sum(int(np.isnan(each.y).sum()) for each in slices)
    notes = [_MISSING_NOTE] if any(each.missing for each in slices) else []
    if n_gaps:
        notes.append(
            f"{n_gaps:,} of {n_points:,} points are gaps: the criterion failed or was not finite."
        )
    look: dict[str, Any] = {"font": {"size": 11, "color": _MUTED}, "showarrow": False}
    corner = {"xref": "paper", "yref": "paper", "x": 0, "y": 0, "xanchor": "left", "yanchor": "top"}
    return [
        look | corner | {"text": text, "yshift": 8 - _MARGIN["b"] - i * _NOTE_HEIGHT}
        for i, text in enumerate(notes)
    ]


def _range(parts: Sequence[Array], expand: float) -> list[float] | None:
    """Return the range of an axis; None leaves it to plotly."""
    values = np.concatenate(parts)
    values = values[np.isfinite(values)]
    if values.size == 0:
        return None
    low, high = float(values.min()), float(values.max())
    free = expand * (high - low)
    return [low - free, high + free] if low < high else None
