"""How things look: the default style, colours, sizes and texts in matplotlib's words."""

from __future__ import annotations

import html
import re
from contextlib import AbstractContextManager
from typing import Any

import matplotlib as mpl
from cycler import cycler
from matplotlib import style as mpl_style
from matplotlib.colors import to_rgba

from optimagic_lite.exceptions import did_you_mean
from optimagic_lite.plots.style import DEFAULT_PALETTE

Color = tuple[float, float, float, float]

# So many pixels of plotly make an inch of matplotlib, which has 72 points.
PIXELS_PER_INCH = 100
POINT = 72 / PIXELS_PER_INCH

_INK = "#242424"
# What the plotly figures look like; their text has 12 pixels, titles of axes 14.
_STYLE: dict[str, Any] = {
    "font.size": 12 * POINT,
    "axes.labelsize": 14 * POINT,
    "axes.titlesize": 14 * POINT,
    "figure.titlesize": 17 * POINT,
    "figure.titleweight": "normal",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": POINT,
    "axes.axisbelow": True,
    "axes.prop_cycle": cycler(color=DEFAULT_PALETTE),
    "axes.formatter.use_mathtext": True,
    "grid.linewidth": POINT,
    "legend.frameon": False,
    "legend.borderaxespad": 0.2,
    "legend.handlelength": 2.4,
    "lines.linewidth": 2 * POINT,
    "mathtext.default": "regular",
} | dict.fromkeys(
    ["text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"], _INK
)
for _axis in ("xtick", "ytick"):
    _STYLE |= {f"{_axis}.major.width": POINT, f"{_axis}.minor.width": 0.7 * POINT}
    _STYLE |= {f"{_axis}.major.size": 5 * POINT, f"{_axis}.minor.size": 3 * POINT}

_BREAK = re.compile(r"<br\s*/?>", re.IGNORECASE)
_RAISED = re.compile(r"<su([bp])>(.*?)</su[bp]>", re.IGNORECASE)
_TAG = re.compile(r"</?(?:b|i|em|span)\b[^>]*>", re.IGNORECASE)
_RGB = re.compile(r"rgba?\(([^)]*)\)", re.IGNORECASE)
_SIGNS = "0123456789+-()n"
_SMALL = {
    "b": str.maketrans(_SIGNS, "₀₁₂₃₄₅₆₇₈₉₊₋₍₎ₙ"),
    "p": str.maketrans(_SIGNS, "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁽⁾ⁿ"),
}


def use_style(template: str | None) -> AbstractContextManager[None]:
    """Draw in a style; afterwards all settings of matplotlib are as before.

    Args:
        template: Name of a style, which is laid over the user's settings; None is the look of
            the plotly figures, whatever the user's settings.

    Returns:
        The context.
    """
    context: AbstractContextManager[None] = mpl_style.context(
        ["default", _STYLE] if template is None else template
    )
    return context


def check_style(template: str | None) -> None:
    """Refuse a style that matplotlib does not have.

    Args:
        template: Name of a style, the path of a style file, or None.

    Raises:
        ValueError: If there is no such style.
    """
    try:
        with use_style(template):
            pass
    except OSError as error:
        raise ValueError(
            f"template={template!r} is no style of matplotlib; matplotlib.style.available lists "
            f"them.{did_you_mean(str(template), mpl_style.available)}"
        ) from error


def text_size(pixels: float) -> float:
    """Return a size of text in points: 12 pixels are the size of the style.

    Args:
        pixels: Size in the plotly figure.

    Returns:
        The size.
    """
    return float(pixels / 12 * mpl.rcParams["font.size"])


def font_options(font: dict[str, Any] | None) -> dict[str, Any]:
    """Translate a font.

    Args:
        font: Size and colour, both optional.

    Returns:
        Keyword arguments of a text. Dollars in it are dollars, not mathematics.
    """
    options: dict[str, Any] = {"parse_math": False}
    if font and "size" in font:
        options["fontsize"] = text_size(font["size"])
    if font and "color" in font:
        options["color"] = rgba(font["color"])
    return options


def plain(text: str) -> str:
    """Translate plotly's subset of HTML to plain text with line breaks.

    Args:
        text: A title or a label.

    Returns:
        The text. Bold parts and parts in colour look like the others.
    """
    text = _BREAK.sub("\n", text)
    text = _RAISED.sub(lambda found: found[2].translate(_SMALL[found[1].lower()]), text)
    return html.unescape(_TAG.sub("", text))


def rgba(color: str, opacity: float = 1.0) -> Color:
    """Translate a colour.

    Args:
        color: As CSS has it: a name, hexadecimal, ``rgb(...)`` or ``rgba(...)``.
        opacity: Multiplies that of the colour.

    Returns:
        Four numbers between 0 and 1.
    """
    found = _RGB.fullmatch(color.strip())
    if found is None:
        red, green, blue, alpha = to_rgba(color.replace(" ", "").lower())
        return red, green, blue, alpha * opacity
    red, green, blue, *rest = (float(part) for part in found[1].split(","))
    return red / 255, green / 255, blue / 255, (rest[0] if rest else 1.0) * opacity
