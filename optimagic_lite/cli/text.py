"""How numbers, times and texts of a log are shown in a terminal."""

from __future__ import annotations

import math
import textwrap
import unicodedata
from collections.abc import Sequence
from datetime import datetime

# Lines of prose and messages are not wider than that.
WIDTH = 100
# What stands for something that is not known.
NOTHING = "-"

_UNITS = {1: "s", 60: "min", 3600: "h", 86400: "d"}
_NEXT = {60: 3600, 3600: 86400, 86400: math.inf}


def safe(text: str) -> str:
    r"""Return a text in which nothing commands a terminal: no escape sequences, no line breaks.

    Args:
        text: Any text, perhaps from the log of a stranger.

    Returns:
        The text, with everything that cannot be printed as Python writes it in a string.

    Example:
        >>> print(safe("two\nlines"))
        two\nlines
    """
    return "".join(c if c.isprintable() else _escaped(c) for c in text)


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode()


def shortened(text: str, limit: int) -> str:
    """Return the start of a text, made safe, with an ellipsis if something is missing."""
    text = safe(text[: limit + 1])
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def number(value: float | None, digits: int = 6) -> str:
    """Return a number with a few significant digits; NOTHING for None and NaN."""
    return NOTHING if value is None or math.isnan(value) else f"{value:.{digits}g}"


def counted(n: int, noun: str) -> str:
    """Return a number with its noun: "1 run", "2,000 runs"."""
    return f"{n:,} {noun}" if n == 1 else f"{n:,} {noun}s"


def duration(seconds: float | None) -> str:
    """Return a time span in the one or two units that suit it.

    Example:
        >>> [duration(s) for s in (0.0004, 1.234, 75, 3600 * 3, 86400 * 2.5)]
        ['0.4 ms', '1.23 s', '1 min 15 s', '3 h 0 min', '2 d 12 h']
    """
    if seconds is None or math.isnan(seconds):
        return NOTHING
    # what would be rounded up to the next unit belongs to it
    if seconds < 0.9995:
        return f"{1000 * seconds:.3g} ms"
    if seconds < 59.95:
        return f"{seconds:.3g} s"
    for size, small in ((60, 1), (3600, 60), (86400, 3600)):
        whole, rest = divmod(round(seconds / small), size // small)
        if whole * size < _NEXT[size]:
            break
    return f"{whole:,} {_UNITS[size]} {rest} {_UNITS[small]}"


def local_time(timestamp: float | None) -> str:
    """Return seconds since 1970 as a date and a time of day here."""
    if timestamp is None or math.isnan(timestamp):
        return NOTHING
    return datetime.fromtimestamp(timestamp).strftime("%Y-%m-%d %H:%M:%S")


def table(head: Sequence[str], rows: Sequence[Sequence[str]], left: str, indent: str = "") -> str:
    """Return rows in aligned columns.

    Args:
        head: Names of the columns.
        rows: Cells, which are made safe here.
        left: Names of the columns that are aligned to the left, with blanks between them.
        indent: What each line begins with.
    """
    cells = [[safe(cell) for cell in row] for row in (head, *rows)]
    widths = [max(map(_width, column)) for column in zip(*cells, strict=True)]
    to_left = [name in left.split() for name in head]
    lines = (
        "  ".join(_padded(*each) for each in zip(row, widths, to_left, strict=True))
        for row in cells
    )
    return "\n".join((indent + line).rstrip() for line in lines)


def facts(pairs: Sequence[tuple[str, str | None]]) -> str:
    """Return names and what is known of them, one below the other; long texts are wrapped."""
    known = [(name, text) for name, text in pairs if isinstance(text, str) and text]
    widest = max(len(name) for name, _ in known)
    return "\n".join(
        textwrap.fill(
            safe(text),
            WIDTH,
            initial_indent=f"  {name.ljust(widest)}  ",
            subsequent_indent=" " * (widest + 4),
            break_on_hyphens=False,
        )
        for name, text in known
    )


def ends(n: int, n_first: int, n_last: int) -> tuple[list[int], int]:
    """Return which of n things are shown, and how many are left out between the first and last.

    One that stands alone between them is not left out.
    """
    if n <= n_first + n_last + 1:
        return list(range(n)), 0
    return [*range(n_first), *range(n - n_last, n)], n - n_first - n_last


def _padded(cell: str, width: int, to_left: bool) -> str:
    blanks = " " * (width - _width(cell))
    return cell + blanks if to_left else blanks + cell


def _width(text: str) -> int:
    """Return how many columns of a terminal a text takes."""
    return sum(
        0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1
        for c in text
    )
