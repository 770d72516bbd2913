"""Shapes and texts: to which panel they belong, or where they stand around the panels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from optimagic_lite.plots.matplotlib.known import check_known, refuse
from optimagic_lite.plots.matplotlib.looks import font_options, plain
from optimagic_lite.plots.matplotlib.panels import draw_annotation, draw_shape

# A title is this far from the edge of the figure, as a part of its width.
_LEFT = 0.02

Box = tuple[float, float, float, float]


def draw_texts_and_shapes(
    figure: Figure,
    panels: Mapping[tuple[str, str], Axes],
    boxes: Mapping[tuple[str, str], Box],
    layout: Mapping[str, Any],
) -> None:
    """Draw what is not a trace.

    Args:
        figure: The figure.
        panels: By the names of their axes.
        boxes: Left, right, lower and upper end of each panel in the plotly figure, from 0 to 1.
        layout: The layout as a dictionary.

    Raises:
        AssertionError: If something is not translated.
    """
    for shape in layout.get("shapes", ()):
        draw_shape(_panel_of(shape, panels), shape)
    below = []
    for note in layout.get("annotations", ()):
        check_known("annotation", note)
        titled = [panels[pair] for pair, box in boxes.items() if _is_title_of(note, box)]
        if titled:
            titled[0].set_title(plain(note["text"]), **font_options(note.get("font")))
        elif _is_paper(note) and note["y"] <= 0:
            below.append(note)
        elif _is_paper(note) and note["x"] <= 0 and note.get("textangle") == -90:
            figure.supylabel(plain(note["text"]), **font_options(note.get("font")))
        else:
            draw_annotation(_panel_of(note, panels), note)
    if below:
        _write_below(figure, below)
    title = layout.get("title", {})
    if title.get("text"):
        x = title.get("x", _LEFT)
        options = font_options(title.get("font"))
        figure.suptitle(plain(title["text"]), x=x, ha=_alignment(x), **options)


def _panel_of(part: Mapping[str, Any], panels: Mapping[tuple[str, str], Axes]) -> Axes:
    """Find the panel that a shape or an annotation refers to."""
    refs = [str(part.get(f"{way}ref", way)).removesuffix(" domain") for way in "xy"]
    found = [
        panel
        for pair, panel in panels.items()
        if all(ref in ("paper", name) for ref, name in zip(refs, pair, strict=True))
    ]
    if not found or ("paper" in refs and len(panels) > 1):
        raise refuse(f"a text or shape at {' and '.join(refs)}")
    return found[0]


def _is_paper(note: Mapping[str, Any]) -> bool:
    return note.get("xref") == "paper" and note.get("yref") == "paper"


def _is_title_of(note: Mapping[str, Any], box: Box) -> bool:
    """Tell whether a text stands in the middle above a panel, where plotly puts its title."""
    left, right, _, upper = box
    return (
        _is_paper(note)
        and note.get("yanchor") == "bottom"
        and abs(note["x"] - (left + right) / 2) < 1e-3
        and abs(note["y"] - upper) < 1e-3
    )


def _write_below(figure: Figure, notes: Sequence[dict[str, Any]]) -> None:
    """Write notes as one text below all panels, from top to bottom."""
    notes = sorted(notes, key=lambda note: -note.get("yshift", 0))
    first = notes[0]
    across = first.get("xanchor", "center")
    x = {"left": _LEFT, "center": 0.5, "right": 1 - _LEFT}[across]
    text = "\n".join(plain(note["text"]) for note in notes)
    figure.supxlabel(text, x=x, ha=across, **font_options({"size": 12} | first.get("font", {})))


def _alignment(x: float) -> str:
    return "left" if x < 1 / 3 else "right" if x > 2 / 3 else "center"
