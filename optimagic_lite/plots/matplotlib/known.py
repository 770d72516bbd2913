"""What is translated of a plotly figure; all else is refused, so that no plot is drawn half."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def _known(names: str, **parts: str) -> dict[str, Any]:
    return dict.fromkeys(names.split()) | {
        key: frozenset(inner.split()) for key, inner in parts.items()
    }


# What is known of each part of a figure, and of the parts of that. Texts under the mouse, margins
# and distances have no counterpart: matplotlib makes room by itself.
_FONT = "size color"
_TITLE = "text font standoff x xanchor"
KNOWN = {
    "layout": _known(
        "template width height showlegend annotations shapes margin hovermode hoverlabel autosize",
        title=_TITLE,
        legend="title font orientation x y xanchor yanchor tracegroupgap itemsizing",
    ),
    "axis": _known(
        "type range domain anchor matches rangemode showticklabels showgrid gridcolor dtick nticks"
        " tickformat tickvals ticktext tickmode zeroline exponentformat automargin",
        title=_TITLE,
    ),
    "trace": _known(
        "type x y mode name legendgroup legendrank showlegend opacity xaxis yaxis"
        " hovertemplate hoverinfo customdata cliponaxis",
        line="color width dash shape",
        marker="size color opacity symbol",
    ),
    "shape": _known("type x0 x1 y0 y1 xref yref opacity layer fillcolor", line="color width dash"),
    "annotation": _known(
        "text x y xref yref xanchor yanchor xshift yshift textangle showarrow ax ay opacity",
        font=_FONT,
    ),
}


def refuse(what: str) -> AssertionError:
    """Return the error for something that is not translated.

    Args:
        what: A part of a plotly figure.

    Returns:
        The error. Users do not see it: each plot of the package is drawn in the tests.
    """
    return AssertionError(
        f"{what} of a plotly figure is not drawn by optimagic_lite.plots.matplotlib. "
        "Translate it there, or leave it out of the figure."
    )


def check_known(kind: str, part: Mapping[str, Any]) -> None:
    """Refuse a part of a figure that says something that is not translated.

    Args:
        kind: A key of ``KNOWN``.
        part: The part, as a dictionary.

    Raises:
        AssertionError: If there is an unknown key.
    """
    known = KNOWN[kind]
    for key, value in part.items():
        if key not in known:
            raise refuse(f"{key!r} in a {kind}")
        inner = known[key]
        for name in value if inner else ():
            if name not in inner:
                raise refuse(f"'{key}.{name}' in a {kind}")
