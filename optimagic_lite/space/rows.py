"""Linear rows: what is redundant, what contradicts, and which bijection carries the rest."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from optimagic_lite.exceptions import InvalidConstraintError
from optimagic_lite.space.sums import Budget, Pivot, Simplex
from optimagic_lite.space.transforms import Transform

Array = NDArray[np.float64]

# relative size below which a number counts as rounding
_TINY = 1e-10


@dataclass(frozen=True)
class LinearRows:
    """``lower <= matrix @ values <= upper`` for the values of some members.

    Args:
        matrix: Shape (k, n).
        lower: Shape (k,), -inf where there is no bound.
        upper: Shape (k,), inf where there is no bound.
        members: Numbers of the representatives to which the columns belong, shape (n,).
        sources: For each row, how to call its constraint in messages.
        size: For each row, how large its numbers are: what is much smaller is rounding.
    """

    matrix: Array
    lower: Array
    upper: Array
    members: NDArray[np.intp]
    sources: tuple[str, ...]
    size: Array

    @property
    def name(self) -> str:
        """How to call all its constraints in messages."""
        return " and ".join(dict.fromkeys(self.sources))

    def take(self, rows: NDArray[np.intp] | NDArray[np.bool_]) -> LinearRows:
        """Return some of the rows."""
        sources = tuple(np.array(self.sources, dtype=object)[rows])
        return replace(self, matrix=self.matrix[rows], lower=self.lower[rows],
                       upper=self.upper[rows], sources=sources, size=self.size[rows])  # fmt: skip

    def without_unused_members(self) -> LinearRows:
        """Return the rows without columns of zeros."""
        is_used = (self.matrix != 0).any(axis=0)
        return replace(self, matrix=self.matrix[:, is_used], members=self.members[is_used])


def largest_bound(lower: Array, upper: Array) -> Array:
    """Return the larger of two bounds in absolute terms, entry by entry; infinite ones are none."""
    ends = np.stack([lower, upper])
    return np.asarray(np.where(np.isfinite(ends), np.abs(ends), 0.0).max(axis=0))


def stack(parts: list[LinearRows], members: NDArray[np.intp]) -> LinearRows:
    """Return all rows over common members."""
    place = {int(member): i for i, member in enumerate(members)}
    blocks = []
    for part in parts:
        block = np.zeros((len(part.lower), len(members)))
        block[:, [place[int(m)] for m in part.members]] = part.matrix
        blocks.append(block)
    return LinearRows(
        np.concatenate(blocks),
        np.concatenate([part.lower for part in parts]),
        np.concatenate([part.upper for part in parts]),
        members,
        tuple(source for part in parts for source in part.sources),
        np.concatenate([part.size for part in parts]),
    )


def drop_fixed(rows: LinearRows, lower: Array, upper: Array) -> LinearRows:
    """Move members whose bounds coincide to the right-hand side.

    Args:
        rows: The rows.
        lower: Lower bounds of all representatives.
        upper: Upper bounds of all representatives.
    """
    is_fixed = lower[rows.members] == upper[rows.members]
    shift = rows.matrix[:, is_fixed] @ lower[rows.members[is_fixed]]
    return replace(
        rows,
        matrix=rows.matrix[:, ~is_fixed],
        members=rows.members[~is_fixed],
        lower=rows.lower - shift,
        upper=rows.upper - shift,
    )


def simplify(rows: LinearRows, lower: Array, upper: Array) -> LinearRows:
    """Turn rows of one entry into bounds, merge parallel rows and drop dependent ones.

    Args:
        rows: Rows without fixed members.
        lower: Lower bounds of all representatives; changed in place.
        upper: Upper bounds of all representatives; changed in place.

    Raises:
        InvalidConstraintError: If rows contradict each other or the bounds.
    """
    scale = np.abs(rows.matrix).max(axis=1, initial=0.0)
    matrix = np.where(np.abs(rows.matrix) > _TINY * scale[:, None], rows.matrix, 0.0)
    n_entries = (matrix != 0).sum(axis=1)
    rows = replace(rows, matrix=matrix)
    for i in np.flatnonzero(n_entries == 0):
        _check_constant(rows, int(i), 0.0)
    for i in np.flatnonzero(n_entries == 1):
        j = int(np.flatnonzero(matrix[i])[0])
        ends = np.sort(np.array([rows.lower[i], rows.upper[i]]) / matrix[i, j])
        member = rows.members[j]
        lower[member] = max(lower[member], ends[0])
        upper[member] = min(upper[member], ends[1])
        slack = _TINY * rows.size[i] / abs(matrix[i, j])
        _check_interval(lower[member], upper[member], rows.sources[i : i + 1], slack)
        # crossed by rounding only
        upper[member] = max(lower[member], upper[member])
    rows = _drop_dependent(_merge_parallel(rows.take(n_entries > 1)))
    return _drop_implied(rows, lower, upper)


def _merge_parallel(rows: LinearRows) -> LinearRows:
    if not len(rows.lower):
        return rows
    groups: dict[bytes, list[int]] = {}
    lead = np.take_along_axis(rows.matrix, np.abs(rows.matrix).argmax(axis=1)[:, None], axis=1)
    unit = rows.matrix / lead
    ends = np.sort(np.stack([rows.lower, rows.upper], axis=1) / lead, axis=1)
    for i, row in enumerate(np.round(unit, 10) + 0.0):
        groups.setdefault(row.tobytes(), []).append(i)
    firsts = np.array([group[0] for group in groups.values()], dtype=np.intp)
    merged = rows.take(firsts)
    low = np.array([ends[group, 0].max() for group in groups.values()])
    high = np.array([ends[group, 1].min() for group in groups.values()])
    size = rows.size / np.abs(lead[:, 0])
    for group, a, b in zip(groups.values(), low, high, strict=True):
        slack = _TINY * size[group].max()
        _check_interval(a, b, tuple(rows.sources[i] for i in group), slack)
    return replace(
        merged, matrix=unit[firsts], lower=low, upper=np.maximum(low, high), size=size[firsts]
    )


def _drop_dependent(rows: LinearRows) -> LinearRows:
    """Drop rows that follow from the equalities, after checking that they do not contradict."""
    is_equal = rows.lower == rows.upper
    basis: list[int] = []
    for i in np.flatnonzero(is_equal):
        if not _follows(rows, basis, int(i)):
            basis.append(int(i))
    others = [int(i) for i in np.flatnonzero(~is_equal) if not _follows(rows, basis, int(i))]
    return rows.take(np.array(sorted([*basis, *others]), dtype=np.intp))


def _follows(rows: LinearRows, basis: list[int], i: int) -> bool:
    if not basis:
        return False
    weights, *_ = np.linalg.lstsq(rows.matrix[basis].T, rows.matrix[i], rcond=None)
    if np.abs(rows.matrix[basis].T @ weights - rows.matrix[i]).max() > 1e-9:
        return False
    _check_constant(rows, i, float(weights @ rows.lower[basis]))
    return True


def _drop_implied(rows: LinearRows, lower: Array, upper: Array) -> LinearRows:
    """Drop rows that the bounds imply, and pin members where a row leaves no room.

    Args:
        rows: The rows.
        lower: Lower bounds of all representatives; changed in place.
        upper: Upper bounds of all representatives; changed in place.
    """
    needed = []
    for i, row in enumerate(rows.matrix):
        is_used = row != 0
        members = rows.members[is_used]
        ends = np.sort(np.stack([lower[members], upper[members]], axis=1) * row[is_used, None])
        low, high = ends.sum(axis=0)
        size = _TINY * rows.size[i]
        if low > rows.upper[i] + size or high < rows.lower[i] - size:
            raise InvalidConstraintError(
                f"{rows.sources[i]} cannot be fulfilled within the bounds of its parameters: the "
                f"sum can only lie in [{low:.10g}, {high:.10g}], but must lie in "
                f"[{rows.lower[i]:.10g}, {rows.upper[i]:.10g}]."
            )
        if low >= rows.upper[i] - size or high <= rows.lower[i] + size:
            side = 0 if low >= rows.upper[i] - size else 1
            lower[members] = upper[members] = ends[:, side] / row[is_used]
        elif low < rows.lower[i] or high > rows.upper[i]:
            needed.append(i)
    return rows.take(np.array(needed, dtype=np.intp))


def find_bijection(rows: LinearRows, lower: Array, upper: Array) -> Transform | None:
    """Return a bijection for simplified rows over all their members, or None.

    Args:
        rows: Independent rows.
        lower: Lower bounds of the members, shape (n,).
        upper: Upper bounds of the members, shape (n,).

    """
    k = len(rows.lower)
    unbounded = np.flatnonzero(np.isinf(lower) & np.isinf(upper))
    pivots = _regular_columns(rows.matrix[:, unbounded])
    if pivots is not None:
        return Pivot(rows.matrix, rows.lower, rows.upper, lower, upper, unbounded[pivots])
    return _budget(rows, lower, upper) if k == 1 else None


def _regular_columns(matrix: Array) -> NDArray[np.intp] | None:
    """Return as many columns as rows that form a regular matrix, or None."""
    from scipy.linalg import qr

    k, n = matrix.shape
    if n < k:
        return None
    r, order = qr(matrix, mode="r", pivoting=True)
    diagonal = np.abs(np.diag(r)[:k])
    if len(diagonal) < k or diagonal[-1] <= 1e-8 * max(diagonal[0], 1.0):
        return None
    return np.sort(order[:k])


def _budget(rows: LinearRows, lower: Array, upper: Array) -> Transform:
    """Return the bijection of one row over members with bounds."""
    weights = rows.matrix[0]
    ends = np.sort(np.stack([lower, upper], axis=1) * weights[:, None], axis=1)
    low, high = ends[:, 0], ends[:, 1]
    has_slack = rows.lower[0] < rows.upper[0]
    total = rows.lower[0]
    if has_slack:
        # the sum itself is the first entry, with the other sign
        total = 0.0
        low = np.concatenate([[-rows.upper[0]], low])
        high = np.concatenate([[-rows.lower[0]], high])
    if np.isfinite(low).all() and (high - low >= total - low.sum()).all():
        return Simplex(np.array([total]), low, weights, has_slack)
    return Budget(np.array([total]), low, high, weights, has_slack)


def _check_constant(rows: LinearRows, i: int, value: float) -> None:
    slack = 1e2 * _TINY * rows.size[i]
    if not rows.lower[i] - slack <= value <= rows.upper[i] + slack:
        raise InvalidConstraintError(
            f"{rows.sources[i]} contradicts other constraints or fixed parameters: its sum is "
            f"always {value:.10g}, but must lie in [{rows.lower[i]:.10g}, {rows.upper[i]:.10g}]."
        )


def _check_interval(low: float, high: float, sources: tuple[str, ...], slack: float) -> None:
    if low > high + slack:
        names = " and ".join(dict.fromkeys(sources))
        raise InvalidConstraintError(
            f"{names} leave no feasible point: a sum would have to be at least {low:.10g} and at "
            f"most {high:.10g}."
        )
