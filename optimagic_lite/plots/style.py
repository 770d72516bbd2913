"""The look of the plots: one place for colours, axes, margins and what a line is made of."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import Any, Literal, get_args

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

from optimagic_lite.exceptions import did_you_mean
from optimagic_lite.plots.lines import Line

XAxis = Literal["evaluations", "time"]

DEFAULT_PALETTE = [
    "#1F77B4", "#FF7F0E", "#2CA02C", "#D62728", "#9467BD",
    "#8C564B", "#E377C2", "#7F7F7F", "#BCBD22", "#17BECF",
]  # fmt: skip
DEFAULT_TEMPLATE = "simple_white"

# Lines of a grid, behind everything.
GRID = "rgba(128, 128, 128, 0.15)"

# Axes of values, whose grid helps to read them.
VALUES = {"exponentformat": "power", "showgrid": True, "gridcolor": GRID, "zeroline": False}

# Lines that stand behind those with a colour.
BACKGROUND = {"color": "rgba(130, 130, 130, 0.45)", "width": 0.8}

_X_TITLES = {"evaluations": "Evaluation", "time": "Seconds since the first evaluation"}
_DASHES = ("solid", "dash", "dot", "dashdot")
_OF_LOCAL = "<br>local optimisation %{customdata[3]:,d}"
_LONGEST_LABEL = 27
_FEW_EVALUATIONS = 10
_FEW_POINTS = 500
# Where explored points have a panel of their own: its end, and the start of the other one.
_PANELS = (0.26, 0.3)
_EXPLORED_TITLE = "Explored points,<br>worst to best"


def check_x_axis(x_axis: str) -> None:
    """Refuse an unknown axis.

    Args:
        x_axis: What the user asked for.

    Raises:
        ValueError: If it is not "evaluations" or "time".
    """
    if x_axis not in get_args(XAxis):
        raise ValueError(
            f"x_axis must be 'evaluations' or 'time', not {x_axis!r}."
            + did_you_mean(x_axis, get_args(XAxis))
        )


def line_styles(palette: Sequence[str] | str, n: int) -> list[dict[str, Any]]:
    """Return a colour and a dash for each of n lines.

    Args:
        palette: Colours, or one for all lines. They are used in turn; a new round has a new
            dash, so that lines of one colour differ.
        n: Number of lines.

    Returns:
        Keyword arguments for the line of a trace.

    Raises:
        ValueError: If the palette is empty.
    """
    colors = [palette] if isinstance(palette, str) else list(palette)
    if not colors:
        raise ValueError("palette is empty: give one colour or a list of colours.")
    return [
        {
            "color": colors[i % len(colors)],
            "dash": _DASHES[(i // len(colors)) % len(_DASHES)],
        }
        for i in range(n)
    ]


def label(name: str) -> str:
    """Return a name as plotly must get it: not read as HTML, and short enough for a legend.

    Args:
        name: Any text.

    Returns:
        The text, with its middle left out if it is long.
    """
    if len(name) > _LONGEST_LABEL:
        half = (_LONGEST_LABEL - 1) // 2
        name = f"{name[:half]}…{name[-half:]}"
    return html.escape(name, quote=False)


def traces(
    line: Line, x_axis: XAxis, style: dict[str, Any], *, floor: float | None = None, **options: Any
) -> list[go.Scatter]:
    """Turn a line into plotly traces.

    A point between two gaps would be invisible as a line, so such points are drawn once more
    as markers.

    Args:
        line: The points.
        x_axis: What is drawn to the right.
        style: Keyword arguments for the line of the trace.
        floor: Lowest height at which a point is drawn; its hover text keeps the true value.
        **options: Further keyword arguments for the trace of the line.

    Returns:
        The line and, if there are any, its lonely points.
    """
    x = line.evaluation if x_axis == "evaluations" else line.seconds
    y = line.value if floor is None else np.maximum(line.value, floor)
    customdata = np.column_stack([line.evaluation, line.seconds, line.value, line.local])
    shared = {
        "name": label(line.name),
        "legendgroup": line.name,
        "hovertemplate": (
            f"<b>{html.escape(line.name, quote=False)}</b>: %{{customdata[2]:.6~g}}<br>"
            "evaluation %{customdata[0]:,d} after %{customdata[1]:.3~s}s"
            f"{_OF_LOCAL if line.local.any() else ''}<extra></extra>"
        ),
    } | options
    drawn = [go.Scatter(x=x, y=y, customdata=customdata, mode="lines", line=style, **shared)]
    lonely = _lonely(line.value)
    if lonely.any():
        points = {"mode": "markers", "marker": {"size": 5, "color": style["color"]}}
        drawn.append(
            go.Scatter(
                x=x[lonely],
                y=y[lonely],
                customdata=customdata[lonely],
                **(shared | points | {"showlegend": False}),
            )
        )
    return drawn


def explored(
    line: Line,
    x_axis: XAxis,
    style: dict[str, Any],
    *,
    joined: bool = False,
    floor: float | None = None,
    **options: Any,
) -> list[go.Scatter]:
    """Turn explored points into a plotly trace, in their own panel if no time is drawn.

    Args:
        line: The points.
        x_axis: What is drawn to the right.
        style: Keyword arguments for the line of the trace; its colour is also that of dots.
        joined: Whether to draw a line instead of dots.
        floor: See ``traces``.
        **options: Further keyword arguments for the trace.

    Returns:
        The trace.
    """
    in_panel = x_axis == "evaluations"
    if joined:
        look: dict[str, Any] = {"mode": "lines", "line": style | {"width": 1.2}}
    else:
        size = 5 if len(line.value) <= _FEW_POINTS else 3
        marker = {"size": size, "color": style["color"], "opacity": 0.5}
        look = {"mode": "markers", "marker": marker}
    shared = {
        "name": label(line.name),
        "legendgroup": line.name,
        "hovertemplate": (
            f"<b>{html.escape(line.name, quote=False)}</b>: %{{customdata[1]:.6~g}}<br>"
            "explored after %{customdata[0]:.3~s}s<extra></extra>"
        ),
        "xaxis": "x2" if in_panel else "x",
    }
    trace = go.Scatter(
        x=line.evaluation if in_panel else line.seconds,
        y=line.value if floor is None else np.maximum(line.value, floor),
        customdata=np.column_stack([line.seconds, line.value]),
        **(shared | look | options),
    )
    return [trace]


def figure(
    traces: Sequence[go.Scatter],
    *,
    x_axis: XAxis,
    y_title: str,
    log_scale: bool,
    n_evaluations: int,
    legend_title: str | None = None,
) -> go.Figure:
    """Put traces into a figure in the style of the package.

    Args:
        traces: In the order in which they are drawn.
        x_axis: What is drawn to the right.
        y_title: Title of the vertical axis.
        log_scale: Whether the vertical axis is logarithmic.
        n_evaluations: Number of the last evaluation on the axis, plus one.
        legend_title: What stands above the legend.

    Returns:
        The figure.
    """
    fig = go.Figure(list(traces))
    fig.update_layout(
        xaxis=_x_options(x_axis, n_evaluations),
        yaxis={
            "title": {"text": y_title},
            "type": "log" if log_scale else "linear",
        }
        | VALUES,
        margin={"l": 70, "r": 25, "t": 30, "b": 60},
        hovermode="closest",
        legend={"font": {"size": 12}, "tracegroupgap": 0},
    )
    if legend_title is not None:
        fig.update_layout(legend_title_text=label(legend_title))
    ranks = [int(trace.x[-1]) for trace in traces if trace.xaxis == "x2"]
    if ranks:
        fig.update_layout(**_panels(max(ranks)))
    fig.update_xaxes(automargin=True)
    fig.update_yaxes(automargin=True)
    return fig


def algorithm_line(
    name: str, x: Any, y: Any, look: dict[str, Any], said: str, **options: Any
) -> go.Scatter:
    """Return the line of an algorithm, which changes in steps.

    Args:
        name: Name of the algorithm.
        x: What is drawn to the right, shape (n,).
        y: What is drawn upwards, shape (n,).
        look: Keyword arguments for the line; what it says goes before what is usual.
        said: What a hover text says after the name.
        **options: Further keyword arguments for the trace.
    """
    return go.Scatter(
        x=x,
        y=y,
        name=label(name),
        line={"shape": "hv", "width": 2} | look,
        hovertemplate=f"<b>{label(name)}</b>: {said}<extra></extra>",
        **({"mode": "lines"} | options),
    )


def comparison(
    traces: Sequence[go.Scatter], xaxis: dict[str, Any], yaxis: dict[str, Any]
) -> go.Figure:
    """Put one line an algorithm into a wide figure with a legend.

    Args:
        traces: The lines.
        xaxis: What is special about the horizontal axis.
        yaxis: What is special about the vertical axis.

    Returns:
        The figure.
    """
    return go.Figure(list(traces)).update_layout(
        xaxis=xaxis,
        yaxis=VALUES | yaxis,
        legend={"title": {"text": "Algorithm"}, "font": {"size": 12}},
        margin={"l": 80, "r": 25, "t": 30, "b": 60},
        hovermode="closest",
        height=420,
        width=820,
    )


def _x_options(x_axis: XAxis, n_evaluations: int) -> dict[str, Any]:
    options: dict[str, Any] = {"title": {"text": _X_TITLES[x_axis]}}
    if x_axis == "evaluations":
        options["tickformat"] = ",d"
        if n_evaluations <= _FEW_EVALUATIONS:
            # Left to itself, plotly puts ticks at halves, which no evaluation has.
            options["dtick"] = 1
    return options


def _panels(last_rank: int) -> dict[str, Any]:
    """Return the layout of a panel for explored points, left of the other one."""
    end, start = _PANELS
    ticks = {"dtick": 1} if last_rank <= 3 else {"nticks": 4}
    title = {"text": _EXPLORED_TITLE}
    return {
        "xaxis": {"domain": [start, 1]},
        "xaxis2": {"domain": [0, end], "title": title, "tickformat": "~s"} | ticks,
        "yaxis": {"anchor": "x2"},
    }


def _lonely(value: NDArray[np.float64]) -> NDArray[np.bool_]:
    there = np.concatenate([[False], np.isfinite(value), [False]])
    return np.asarray(there[1:-1] & ~there[:-2] & ~there[2:])
