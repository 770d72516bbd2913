"""The whole figure: panels in their grid, and what stands around them."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import matplotlib as mpl
import numpy as np
import plotly.graph_objects as go
from matplotlib.axes import Axes
from matplotlib.backends.registry import BackendFilter, backend_registry
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import NullLocator
from numpy.typing import NDArray

from optimagic_lite.plots.matplotlib.around import Box, draw_texts_and_shapes
from optimagic_lite.plots.matplotlib.known import check_known, refuse
from optimagic_lite.plots.matplotlib.looks import PIXELS_PER_INCH, use_style
from optimagic_lite.plots.matplotlib.panels import draw_axis
from optimagic_lite.plots.matplotlib.traces import draw_legend, draw_trace, legend_entries

# What plotly takes where a figure has no size of its own, in pixels.
_WIDTH, _HEIGHT = 700, 450
# Free space around panels and the figure, in inches.
_PAD = 0.08

# A logarithmic axis over so much or more has ticks at powers of ten only.
_WIDE = 1e3

# The names of a horizontal and a vertical axis: a panel.
Pair = tuple[str, str]


def draw(figure: go.Figure, template: str | None = None) -> Axes | NDArray[Any]:
    """Draw a plotly figure with matplotlib.

    Args:
        figure: A figure of this package.
        template: Name of a style of matplotlib; None is the look of the plotly figures.

    Returns:
        The panel, an ``Axes``; of a figure that ``make_subplots`` made an array of them, as many
        rows and columns as the figure has, empty ones being invisible. Of a figure with a panel
        of explored points beside the main one, the main one.

    Raises:
        AssertionError: If the figure has a part that is not translated.
    """
    layout = figure.layout.to_plotly_json()
    axes = {key: layout.pop(key) for key in list(layout) if key[:5] in ("xaxis", "yaxis")}
    check_known("layout", layout)
    traces = [trace.to_plotly_json() for trace in figure.data]
    grid = _Grid.of(axes, traces)
    canvas = _new_figure(layout.get("width", _WIDTH), layout.get("height", _HEIGHT))
    with use_style(template):
        canvas.set(
            facecolor=mpl.rcParams["figure.facecolor"], edgecolor=mpl.rcParams["figure.edgecolor"]
        )
        cells = grid.add_cells(canvas)
        panels = {pair: cells[place] for pair, place in grid.places.items()}
        drawn = [(trace, draw_trace(panels[_pair(trace)], trace)) for trace in traces]
        for pair, panel in panels.items():
            # like plotly, leave space beside a marker that would be cut, but none beside a line
            panel.margins(x=0.05 if _has_marker_at_end(panel) else 0)
            _draw_axes(panel, pair, axes, own_style=template is None)
        draw_texts_and_shapes(canvas, panels, grid.boxes, layout)
        lines = legend_entries(drawn, layout.get("showlegend"))
        if lines:
            draw_legend(canvas, panels[min(panels)], lines, layout.get("legend", {}))
        _finish(panels.values())
    return cells if _has_grid(figure) else panels[min(panels)]


def _new_figure(width: float, height: float) -> Figure:
    """Make a figure that pyplot knows only where somebody may look at it through pyplot.

    In a notebook pyplot shows a figure at the end of the cell, and elsewhere ``plt.show()`` needs
    it to know the figure. But pyplot keeps each of its figures until it is closed: where nothing
    can be shown, or nobody has loaded pyplot, a figure of its own is freed like any other object
    and needs no display.
    """
    size = (width / PIXELS_PER_INCH, height / PIXELS_PER_INCH)
    layout = ConstrainedLayoutEngine(w_pad=_PAD, h_pad=_PAD)
    if not {"IPython", "matplotlib.pyplot"} & set(sys.modules) or not _can_show():
        return Figure(figsize=size, layout=layout)
    import matplotlib.pyplot as plt

    return plt.figure(figsize=size, layout=layout)


def _can_show() -> bool:
    blind = backend_registry.list_builtin(BackendFilter.NON_INTERACTIVE)  # type: ignore[no-untyped-call]
    return mpl.get_backend().lower() not in blind


@dataclass(frozen=True)
class _Grid:
    """Where panels stand.

    Attributes:
        widths: Of the columns, from left to right.
        heights: Of the rows, from top to bottom.
        places: Row and column of each panel.
        boxes: Left, right, lower and upper end of each panel in the plotly figure, from 0 to 1.
        shared: The axis that an axis is tied to, maybe itself.
    """

    widths: list[float]
    heights: list[float]
    places: dict[Pair, tuple[int, int]]
    boxes: dict[Pair, Box]
    shared: dict[str, str]

    @classmethod
    def of(cls, axes: Mapping[str, dict[str, Any]], traces: Sequence[dict[str, Any]]) -> _Grid:
        pairs = list(dict.fromkeys(_pair(trace) for trace in traces)) or [("x", "y")]
        domains = {name: _domain(axes, name) for pair in pairs for name in pair}
        columns = sorted({domains[x] for x, _ in pairs})
        rows = sorted({domains[y] for _, y in pairs}, reverse=True)
        for before, after in [*pairwise(columns), *pairwise(rows[::-1])]:
            if before[1] > after[0]:
                raise refuse(f"a panel at {after}, which overlaps with one at {before},")
        places = {(x, y): (rows.index(domains[y]), columns.index(domains[x])) for x, y in pairs}
        if len(set(places.values())) < len(places):
            raise refuse("a second axis of a panel")
        return cls(
            widths=[end - start for start, end in columns],
            heights=[end - start for start, end in rows],
            places=places,
            boxes={(x, y): domains[x] + domains[y] for x, y in pairs},
            shared={name: _options(axes, name).get("matches", name) for name in domains},
        )

    def add_cells(self, figure: Figure) -> NDArray[Any]:
        """Add an ``Axes`` for each panel and an invisible one for each empty place."""
        shape = (len(self.heights), len(self.widths))
        grid = figure.add_gridspec(*shape, width_ratios=self.widths, height_ratios=self.heights)
        cells = np.empty(shape, dtype=object)
        first: dict[str, Axes] = {}
        for (x, y), place in self.places.items():
            roots = self.shared[x], self.shared[y]
            sharex, sharey = (first.get(root) for root in roots)
            cells[place] = figure.add_subplot(grid[place], sharex=sharex, sharey=sharey)
            first = dict.fromkeys(roots, cells[place]) | first
        for place in np.ndindex(shape):
            if cells[place] is None:
                cells[place] = figure.add_subplot(grid[place], visible=False)
        return cells


def _options(axes: Mapping[str, dict[str, Any]], name: str) -> dict[str, Any]:
    """Return what the layout says of the axis that traces call "x2"."""
    return axes.get(f"{name[0]}axis{name[1:]}", {})


def _domain(axes: Mapping[str, dict[str, Any]], name: str) -> tuple[float, float]:
    start, end = _options(axes, name).get("domain", (0, 1))
    return round(start, 6), round(end, 6)


def _pair(trace: Mapping[str, Any]) -> Pair:
    return trace.get("xaxis", "x"), trace.get("yaxis", "y")


def _has_grid(figure: go.Figure) -> bool:
    try:
        figure.get_subplot(1, 1)
    except Exception:  # that is what plotly raises where there is no grid
        return False
    return True


def _draw_axes(
    panel: Axes, pair: Pair, axes: Mapping[str, dict[str, Any]], *, own_style: bool
) -> None:
    which: Literal["x", "y"]
    for which, name, other in (("x", *pair), ("y", *pair[::-1])):
        options = _options(axes, name)
        if options.get("anchor", other) != other:
            # the axis stands beside another panel; this one has its grid only
            options = options | {"showticklabels": False, "title": {}}
            panel.spines["bottom" if which == "x" else "left"].set_visible(False)
            panel.tick_params(axis=which, which="both", length=0)
        draw_axis(panel, which, options, own_style=own_style)


def _has_marker_at_end(panel: Axes) -> bool:
    ends = panel.dataLim.intervalx
    return any(
        np.isin(ends, line.get_xdata(orig=False)).any()
        for line in panel.get_lines()
        if line.get_marker() != "None"
    )


def _finish(panels: Iterable[Axes]) -> None:
    for panel in panels:
        for axis in (panel.xaxis, panel.yaxis):
            low, high = axis.get_view_interval()
            if axis.get_scale() == "log" and high > _WIDE * low:
                # powers of ten are enough, and each tick costs time in a figure of many panels
                axis.set_minor_locator(NullLocator())
            # the first tick, which is made here, has the style; later ones are copies of it
            axis.get_major_ticks(1)
            if not isinstance(axis.get_minor_locator(), NullLocator):
                axis.get_minor_ticks(1)
