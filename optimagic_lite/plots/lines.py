"""The points of a line, thinned where they are many."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from optimagic_lite.plots.evaluations import Evaluations

# A figure is at most some 2,000 pixels wide, and its file should stay below a few megabytes.
MAX_POINTS_LINE = 4_000
MAX_POINTS_FIGURE = 60_000
# So many have all muted local optimisations together, and all explored points together.
MAX_POINTS_OTHERS = 20_000
MAX_POINTS_EXPLORED = 6_000

# A stretch keeps its first, smallest, largest, last and first failed point.
_POINTS_STRETCH = 5


@dataclass(frozen=True)
class Line:
    """One line of a plot; its arrays have one entry for each point that is drawn.

    Attributes:
        name: What the line shows.
        evaluation: Number of the evaluation; the first is 0.
        seconds: From the start of the first evaluation of the run to the end of this one.
        value: What is drawn upwards; NaN leaves a gap.
        local: Number of the local optimisation, from 1; 0 for what belongs to none.
    """

    name: str
    evaluation: NDArray[np.int64]
    seconds: NDArray[np.float64]
    value: NDArray[np.float64]
    local: NDArray[np.int64]


def points_per_line(n_lines: int, together: int = MAX_POINTS_FIGURE) -> int:
    """Return how many points each of n lines may have, such that a figure stays small.

    Args:
        n_lines: Number of lines.
        together: How many points all of them may have.
    """
    return max(min(MAX_POINTS_LINE, together // n_lines), 2 * _POINTS_STRETCH)


def make_line(
    name: str,
    shown: Evaluations,
    value: NDArray[np.float64],
    max_points: int,
    *,
    is_apart: bool = False,
) -> Line:
    """Make a line, thinned.

    Args:
        name: What it shows.
        shown: The evaluations, in the order of the line.
        value: What is drawn upwards, one entry for each.
        max_points: Largest number of points, gaps between local optimisations apart.
        is_apart: Whether local optimisations are apart: a gap comes before each, and their
            evaluations are numbered anew.

    Returns:
        The line.
    """
    kept = thin(value, max_points)
    local = shown.local[kept]
    number = shown.number if is_apart else np.arange(len(shown))
    gaps = np.flatnonzero(np.diff(local)) + 1 if is_apart else np.arange(0)
    # a gap has the place of the point after it
    kept = np.insert(kept, gaps, kept[gaps])
    drawn = value[kept]
    drawn[gaps + np.arange(len(gaps))] = np.nan
    return Line(name, number[kept], shown.seconds[kept], drawn, shown.local[kept])


def make_dots(name: str, shown: Evaluations, value: NDArray[np.float64], max_points: int) -> Line:
    """Make a line of points that no line joins: of many, evenly chosen ones; arguments as above."""
    n = len(value)
    kept = np.linspace(0, n - 1, min(n, max_points)).round().astype(np.int64)
    return Line(name, kept, shown.seconds[kept], value[kept], shown.local[kept])


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
