"""One panel: its axes, and the texts and shapes in it."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Literal

from matplotlib import ticker
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.colors import to_rgba
from matplotlib.patches import Rectangle

from optimagic_lite.plots.matplotlib.known import check_known, refuse
from optimagic_lite.plots.matplotlib.looks import POINT, font_options, plain, rgba
from optimagic_lite.plots.matplotlib.traces import DASHES

_FORMAT = re.compile(r"(,?)(\.\d+)?(~?)([dfge%s])")
# Width in pixels of a large number with the space beside it.
_MILLION = 75
_STEPS = [1, 2, 2.5, 5, 10]


def draw_axis(
    panel: Axes, which: Literal["x", "y"], options: dict[str, Any], *, own_style: bool
) -> None:
    """Give an axis its scale, range, ticks and title.

    Args:
        panel: Where.
        which: "x" or "y".
        options: The axis of the plotly figure as a dictionary.
        own_style: Whether the grid is that of the package, not that of a style of the user's.

    Raises:
        AssertionError: If the axis says something that is not translated.
    """
    check_known("axis", options)
    axis = panel.xaxis if which == "x" else panel.yaxis
    is_log = options.get("type") == "log"
    if is_log:
        # plotly leaves out values that have no logarithm
        (panel.set_xscale if which == "x" else panel.set_yscale)("log", nonpositive="mask")
    _set_ticks(panel, axis, options, is_log)
    if options.get("showticklabels") is False:
        panel.tick_params(axis=which, labelbottom=False, labelleft=False)
    if own_style and options.get("showgrid"):
        panel.grid(True, axis=which, color=rgba(options.get("gridcolor", "#e8e8e8")))
    title = options.get("title", {})
    axis.set_label_text(plain(title.get("text", "")), **font_options(title.get("font")))
    limits = options.get("range")
    if limits is not None:
        low, high = (10**limit if is_log else limit for limit in limits)
        panel.set(**{f"{which}lim": (low, high)})
    elif options.get("rangemode") == "tozero" and not is_log:
        panel.set(**{f"{which}lim": (0, None)})


def _set_ticks(panel: Axes, axis: Axis, options: dict[str, Any], is_log: bool) -> None:
    tickformat, step = options.get("tickformat"), options.get("dtick")
    if options.get("tickvals") is not None:
        labels = options.get("ticktext")
        axis.set_ticks(options["tickvals"], None if labels is None else [plain(t) for t in labels])
    elif step is not None:
        if not isinstance(step, (int, float)):
            raise refuse(f"the step {step!r} between ticks")
        base = 10.0**step if is_log else step
        axis.set_major_locator(ticker.LogLocator(base) if is_log else ticker.MultipleLocator(base))
    elif not is_log:
        is_int = (tickformat or "").endswith("d")
        width = panel.bbox.width
        # matplotlib's own choice is too dense for large numbers
        bins = max(2, int(width // _MILLION)) if is_int and axis is panel.xaxis else "auto"
        locator = ticker.MaxNLocator(options.get("nticks", bins), integer=is_int, steps=_STEPS)
        axis.set_major_locator(locator)
    if tickformat:
        axis.set_major_formatter(_formatter(tickformat))


def _formatter(tickformat: str) -> ticker.Formatter:
    """Translate a format of D3."""
    found = _FORMAT.fullmatch(tickformat)
    if found is None:
        raise refuse(f"the format {tickformat!r} of ticks")
    comma, digits, _, kind = found.groups()
    n_digits = int(digits[1:]) if digits else 0
    if kind == "s":
        return ticker.EngFormatter(sep="", useMathText=False)
    if kind == "%":
        return ticker.PercentFormatter(xmax=1, decimals=n_digits)
    spec = ".0f" if kind == "d" else f"{digits or ''}{kind}"
    return ticker.StrMethodFormatter(f"{{x:{comma}{spec}}}")


def draw_shape(panel: Axes, shape: dict[str, Any]) -> None:
    """Draw a line or a rectangle.

    Args:
        panel: Where.
        shape: The shape as a dictionary.

    Raises:
        AssertionError: If it says something that is not translated.
    """
    check_known("shape", shape)
    line, opacity = shape.get("line", {}), shape.get("opacity", 1.0)
    x, y = [shape["x0"], shape["x1"]], [shape["y0"], shape["y1"]]
    look: dict[str, Any] = {
        "transform": _transform(panel, shape),
        "linewidth": line.get("width", 2) * POINT,
        "linestyle": DASHES[line.get("dash", "solid")],
        "zorder": 0.9 if shape.get("layer") == "below" else 2.5,
    }
    own = panel.spines["left"].get_edgecolor()
    color = rgba(line["color"], opacity) if "color" in line else to_rgba(own, opacity)
    if shape["type"] == "line":
        panel.plot(x, y, color=color, label="_nolegend_", **look)
    elif shape["type"] == "rect":
        fill = rgba(shape["fillcolor"], opacity) if "fillcolor" in shape else "none"
        corner, size = (min(x), min(y)), (abs(x[1] - x[0]), abs(y[1] - y[0]))
        panel.add_patch(Rectangle(corner, *size, facecolor=fill, edgecolor=color, **look))
    else:
        raise refuse(f"the shape {shape['type']!r}")


def draw_annotation(panel: Axes, note: dict[str, Any]) -> None:
    """Write a text into a panel.

    Args:
        panel: Where.
        note: The annotation as a dictionary.
    """
    scales = {"x": panel.get_xscale(), "y": panel.get_yscale()}
    # the place on a logarithmic axis is a power of ten here, other than in shapes and traces
    xy = tuple(
        10 ** note[way] if scale == "log" and is_data(note, way) else note[way]
        for way, scale in scales.items()
    )
    arrow = None
    dx, dy = note.get("xshift", 0), note.get("yshift", 0)
    if note.get("showarrow", True):
        dx, dy = dx + note.get("ax", -10), dy - note.get("ay", -30)
        arrow = {"arrowstyle": "-|>", "color": "#444", "linewidth": POINT}
    across, up = note.get("xanchor", "auto"), note.get("yanchor", "auto")
    panel.annotate(
        plain(note["text"]),
        xy=xy,
        xycoords=(_units(note, "x"), _units(note, "y")),
        xytext=(dx * POINT, dy * POINT),
        textcoords="offset points",
        ha="center" if across == "auto" else across,
        va={"middle": "center", "auto": "center"}.get(up, up),
        rotation=-note.get("textangle", 0),
        arrowprops=arrow,
        alpha=note.get("opacity"),
        annotation_clip=False,
        **font_options({"size": 12} | note.get("font", {})),
    )


def _units(note: dict[str, Any], way: str) -> str:
    return "data" if is_data(note, way) else "axes fraction"


def is_data(part: dict[str, Any], way: str) -> bool:
    """Tell whether a place is given in the units of an axis.

    Args:
        part: A shape or an annotation.
        way: "x" or "y".

    Returns:
        Whether it is; else it is a part of the panel or of the figure.
    """
    ref = part.get(f"{way}ref", way)
    return ref != "paper" and not ref.endswith(" domain")


def _transform(panel: Axes, shape: dict[str, Any]) -> Any:
    make: dict[tuple[bool, bool], Callable[[], Any]] = {
        (True, True): lambda: panel.transData,
        (True, False): panel.get_xaxis_transform,
        (False, True): panel.get_yaxis_transform,
        (False, False): lambda: panel.transAxes,
    }
    return make[is_data(shape, "x"), is_data(shape, "y")]()
