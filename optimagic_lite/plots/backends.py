"""What draws the figures: plotly, or matplotlib where a user asks for it."""

from __future__ import annotations

from typing import Any

import plotly.graph_objects as go

from optimagic_lite.exceptions import (
    InvalidPlottingBackendError,
    NotInstalledError,
    did_you_mean,
)
from optimagic_lite.plots.style import DEFAULT_TEMPLATE

BACKENDS = ("plotly", "matplotlib")


def check_backend(backend: str, template: str | None = None) -> None:
    """Refuse a backend that is not there, before anything is computed for a plot.

    Args:
        backend: What the user asked for.
        template: Its look. Only a style of matplotlib is checked here.

    Raises:
        InvalidPlottingBackendError: If it is neither "plotly" nor "matplotlib".
        NotInstalledError: If it is matplotlib, and that is not installed.
        ValueError: If matplotlib has no such style.
    """
    if backend not in BACKENDS:
        raise InvalidPlottingBackendError(
            f"backend={backend!r} is not available: figures are drawn with 'plotly', the default, "
            f"or 'matplotlib'.{did_you_mean(backend, BACKENDS)}"
        )
    if backend == "plotly":
        return
    try:
        import matplotlib as mpl  # noqa: F401
    except ImportError as error:
        raise NotInstalledError(
            "backend='matplotlib' needs matplotlib, which is not installed: pip install matplotlib."
        ) from error
    from optimagic_lite.plots.matplotlib.looks import check_style

    check_style(template)


def present(figure: go.Figure, backend: str, template: str | None = None) -> Any:
    """Turn a finished plotly figure into what the user asked for.

    Args:
        figure: The figure; its template is set here.
        backend: "plotly" or "matplotlib".
        template: Name of a plotly template, "simple_white" if None, or of a matplotlib style.

    Returns:
        With plotly the figure. With matplotlib the ``Axes``; of a figure that ``make_subplots``
        made, an array of them with its rows and columns, those of empty places being invisible.

    Raises:
        InvalidPlottingBackendError: See ``check_backend``.
        NotInstalledError: See ``check_backend``.
        ValueError: If there is no such template.
    """
    check_backend(backend, template)
    if backend == "plotly":
        return figure.update_layout(template=template or DEFAULT_TEMPLATE)
    from optimagic_lite.plots.matplotlib.figure import draw

    return draw(figure, template)


def alone(figure: go.Figure) -> go.Figure:
    """Return a figure that is no longer a grid of one panel, such that its panel is presented.

    Args:
        figure: A figure that ``make_subplots`` made.

    Returns:
        A new figure with the same content.
    """
    return go.Figure(figure.data, figure.layout)
