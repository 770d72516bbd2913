"""The points of a line: which rows of a history are drawn, thinned where they are many."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from optimagic_lite.history import History

# A figure is at most some 2,000 pixels wide, and its file should stay below a few megabytes.
MAX_POINTS_LINE = 4_000
MAX_POINTS_FIGURE = 60_000

# A stretch keeps its first, smallest, largest, last and first failed point.
_POINTS_STRETCH = 5

_DRAWN_KINDS = ("start", "path")


@dataclass(frozen=True)
class Line:
    """One line of a plot; its arrays have one entry for each point that is drawn.

    Attributes:
        name: What the line shows.
        evaluation: Number of the evaluation; the start point is 0.
        seconds: From the start of the first evaluation to the end of this one.
        value: What is drawn upwards; NaN leaves a gap.
    """

    name: str
    evaluation: NDArray[np.int64]
    seconds: NDArray[np.float64]
    value: NDArray[np.float64]


def drawn_rows(history: History, max_evaluations: int | None) -> NDArray[np.int64]:
    """Return the positions of the rows that belong to the path of the algorithm.

    Args:
        history: Rows of all kinds.
        max_evaluations: How many to keep from the start; None keeps all.

    Returns:
        Increasing positions of rows.
    """
    rows = np.flatnonzero(np.isin(np.array(history.kind), _DRAWN_KINDS))
    return np.asarray(rows[:max_evaluations], dtype=np.int64)


def make_lines(
    names: Sequence[str],
    values: Sequence[NDArray[np.float64]],
    seconds: Sequence[NDArray[np.float64]],
) -> tuple[Line, ...]:
    """Make lines and thin them such that the figure stays small.

    Args:
        names: One name a line.
        values: One array a line.
        seconds: One array a line, aligned with ``values``.

    Returns:
        The lines, in the same order.
    """
    limit = max(min(MAX_POINTS_LINE, MAX_POINTS_FIGURE // len(names)), 2 * _POINTS_STRETCH)
    lines = []
    for name, value, time in zip(names, values, seconds, strict=True):
        kept = thin(value, limit)
        lines.append(Line(name, kept, time[kept], value[kept]))
    return tuple(lines)


def thin(values: NDArray[np.float64], max_points: int) -> NDArray[np.int64]:
    """Choose points such that the line through them looks like the line through all.

    The values are cut into stretches of equal length. Of each, the first, smallest, largest
    and last value are kept, and the first that is NaN. So no minimum or maximum gets lost,
    and a stretch with failed evaluations keeps a gap.

    Args:
        values: Shape (n,).
        max_points: Largest number of points to keep, at least 5.

    Returns:
        Increasing positions; all of them if there are no more than ``max_points``.

    Example:
        >>> thin(np.array([3.0, 2, 1, 2, 3, 4, 5, 4, 3, 3, 3, 3]), 5).tolist()
        [0, 2, 6, 11]
    """
    n = len(values)
    if n <= max_points:
        return np.arange(n)
    length = -(-n // (max_points // _POINTS_STRETCH))
    starts = np.arange(0, n, length)
    stops = np.minimum(starts + length, n)
    padded = np.full(len(starts) * length, np.nan)
    padded[:n] = values
    stretches = padded.reshape(len(starts), length)
    missing = np.isnan(stretches)
    failed = starts + missing.argmax(axis=1)
    kept = np.concatenate(
        [
            starts,
            stops - 1,
            starts + np.where(missing, np.inf, stretches).argmin(axis=1),
            starts + np.where(missing, -np.inf, stretches).argmax(axis=1),
            failed[missing.any(axis=1) & (failed < n)],
        ]
    )
    return np.unique(kept)
