"""Lines, markers and the legend."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from optimagic_lite.plots.matplotlib.known import check_known, refuse
from optimagic_lite.plots.matplotlib.looks import POINT, font_options, plain, rgba

DASHES = {"solid": "-", "dash": "--", "dot": ":", "dashdot": "-.", "longdash": (0, (7, 3))}
STEPS = {"linear": "default", "hv": "steps-post", "vh": "steps-pre", "hvh": "steps-mid"}
SYMBOLS = {
    "circle": "o", "square": "s", "diamond": "D", "cross": "P", "x": "X", "star": "*",
    "triangle-up": "^", "triangle-down": "v",
}  # fmt: skip

# Sizes of the legend in pixels: a line of text, a letter, and what stands beside the text.
_ROW, _LETTER, _KEY = 19, 7, 55
# Plotly draws markers, too, where there are fewer points and nobody says what to draw.
_FEW_POINTS = 20


def draw_trace(panel: Axes, trace: dict[str, Any]) -> Line2D:
    """Draw one scatter trace.

    Args:
        panel: Where.
        trace: The trace as a dictionary.

    Returns:
        What was drawn.

    Raises:
        AssertionError: If it says something that is not translated.
    """
    if trace["type"] != "scatter":
        raise refuse(f"the trace type {trace['type']!r}")
    check_known("trace", trace)
    y = np.asarray(trace["y"], dtype=float)
    x = np.asarray(trace.get("x", np.arange(len(y))))
    mode = trace.get("mode") or ("lines" if len(y) >= _FEW_POINTS else "lines+markers")
    line, marker = trace.get("line", {}), trace.get("marker", {})
    opacity = trace.get("opacity", 1.0)
    color = line.get("color", marker.get("color")) if "lines" in mode else marker.get("color")
    label = plain(trace.get("name", "")) if trace.get("showlegend", True) else "_nolegend_"
    options: dict[str, Any] = {"label": label, "linestyle": "none"}
    if color is not None:
        options["color"] = rgba(color, opacity)
    if "lines" in mode:
        options["linestyle"] = DASHES[line.get("dash", "solid")]
        options["drawstyle"] = STEPS[line.get("shape", "linear")]
        options["linewidth"] = line.get("width", 2) * POINT
    if "markers" in mode:
        options |= _marker(marker, color, opacity)
    (drawn,) = panel.plot(x := _numbers(x), y, **options)
    if x.dtype.kind == "f":
        # the axis reaches to points without a value, too, as it does with plotly
        panel.update_datalim([(each, 0.0) for each in _ends(x)], updatey=False)
    return drawn


def _ends(x: NDArray[Any]) -> list[float]:
    finite = x[np.isfinite(x)]
    return [finite.min(), finite.max()] if finite.size else []


def _numbers(x: NDArray[Any]) -> NDArray[Any]:
    """Return x as it is if it has categories, else as numbers."""
    return x if x.dtype.kind in "US" else x.astype(float)


def _marker(marker: dict[str, Any], color: str | None, opacity: float) -> dict[str, Any]:
    options: dict[str, Any] = {
        "marker": SYMBOLS[marker.get("symbol", "circle")],
        "markersize": marker.get("size", 6) * POINT,
        "markeredgewidth": 0,
    }
    own = marker.get("color", color)
    if own is not None:
        options["markerfacecolor"] = rgba(own, opacity * marker.get("opacity", 1.0))
    return options


def legend_entries(
    drawn: Sequence[tuple[dict[str, Any], Line2D]], showlegend: bool | None
) -> list[Line2D]:
    """Return what the legend shows, in the order in which plotly shows it.

    Args:
        drawn: Traces and what was drawn for them.
        showlegend: Whether there is a legend; None leaves it to the traces.

    Returns:
        The lines. Groups stand together, each where its lowest rank belongs.
    """
    wanted = [(trace, line) for trace, line in drawn if trace.get("showlegend", True)]
    # a lone trace has no legend unless it asks for one
    asked = len(wanted) > 1 or any(trace.get("showlegend") for trace, _ in wanted)
    if not (asked if showlegend is None else showlegend):
        return []
    ranks = [trace.get("legendrank", 1000) for trace, _ in wanted]
    groups = [trace.get("legendgroup", "") for trace, _ in wanted]
    lowest = {
        group: min(rank for rank, other in zip(ranks, groups, strict=True) if other == group)
        for group in set(groups)
    }
    order = sorted(
        range(len(wanted)),
        key=lambda i: (lowest[groups[i]], groups.index(groups[i]), ranks[i], i),
    )
    return [wanted[i][1] for i in order]


def draw_legend(
    figure: Figure, panel: Axes, lines: Sequence[Line2D], options: dict[str, Any]
) -> None:
    """Draw the legend where plotly would draw it, in as many columns as fit.

    Args:
        figure: A legend outside of the panels is the figure's.
        panel: A legend inside of a panel is this one's.
        lines: In their order.
        options: ``layout.legend`` as a dictionary.
    """
    labels = [str(line.get_label()) for line in lines]
    title = plain(options.get("title", {}).get("text", ""))
    entry = _KEY + _LETTER * max(map(len, labels))
    width, height = figure.get_size_inches() / POINT * 72
    if options.get("orientation") == "h":
        n_columns = min(len(labels), max(1, int(width // entry)))
    else:
        n_rows = max(1, int(height - 2 * _ROW) // _ROW - bool(title))
        n_columns = -(-len(labels) // n_rows)
        # further columns widen the figure, such that the panels keep their size
        figure.set_figwidth((width + (n_columns - 1) * entry) * POINT / 72)
    loc = _place(options)
    home: Any = figure if loc.startswith("outside") else panel
    legend = home.legend(
        list(lines),
        # texts come later: matplotlib leaves out those that begin with an underscore
        ["."] * len(labels),
        loc=loc,
        ncols=n_columns,
        title=title or None,
        alignment="left",
    )
    font = font_options({"size": 12} | options.get("font", {}))
    for text, label in zip(legend.get_texts(), labels, strict=True):
        text.set(text=label, **font)
    legend.get_title().set(**font)


def _place(options: dict[str, Any]) -> str:
    x, y = options.get("x", 1.02), options.get("y", 1)
    across = options.get("xanchor", "auto")
    if across == "auto":
        across = "left" if x < 1 / 3 else "right" if x > 2 / 3 else "center"
    if options.get("orientation") == "h" and not 0 < y < 1:
        return f"outside {'upper' if y >= 1 else 'lower'} {across}"
    if not 0 < x < 1:
        return f"outside {'right' if x >= 1 else 'left'} {'upper' if y > 0.5 else 'lower'}"
    up = "upper" if y > 2 / 3 else "lower" if y < 1 / 3 else "center"
    return "center" if up == across else f"{up} {across}"
