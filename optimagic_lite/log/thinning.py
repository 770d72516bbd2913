"""What a live view keeps of a run: bounded in size, however long the run is."""

from __future__ import annotations

import bisect
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

Column = NDArray[np.float64] | NDArray[np.int64]

_WINDOWS = 10, 60, 600  # seconds
_FEW = 10


class Thinned:
    """Every k-th row of a growing table; k doubles whenever the rows become too many.

    Args:
        capacity: Largest number of rows that are kept.
        dtypes: Types of the columns by their names.

    Attributes:
        stride: The k: rows are kept whose number is a multiple of it.
        n_seen: Number of rows so far, those included that were not kept.
        numbers: Numbers of the rows that are kept, counted from 0.
        columns: Their values.

    Example:
        >>> rows = Thinned(3, {"square": float})
        >>> rows.add({"square": np.arange(5.0) ** 2})
        >>> rows.stride, rows.numbers, rows.columns["square"]
        (2, array([0, 2, 4]), array([ 0.,  4., 16.]))
    """

    def __init__(self, capacity: int, dtypes: Mapping[str, type]) -> None:
        self._capacity = capacity
        self.stride = 1
        self.n_seen = 0
        self.numbers = np.zeros(0, np.int64)
        self.columns: dict[str, Column] = {
            name: np.zeros(0, dtype) for name, dtype in dtypes.items()
        }

    def add(self, columns: Mapping[str, Column]) -> None:
        """Add rows; all columns, each of shape (k,)."""
        n_new = len(next(iter(columns.values())))
        n_seen = self.n_seen + n_new
        while n_seen > self.stride * self._capacity:
            self.stride *= 2
        old = self.numbers % self.stride == 0
        new = np.arange(-self.n_seen % self.stride, n_new, self.stride)
        for name, column in self.columns.items():
            self.columns[name] = np.concatenate([column[old], columns[name][new]])
        self.numbers = np.concatenate([self.numbers[old], self.n_seen + new])
        self.n_seen = n_seen


class Monotone:
    """The best value so far along an axis: only improvements, and not too many of them.

    Points may be added in any order.

    Args:
        sign: 1 if lower is better, -1 if higher is better.
        capacity: From twice as many improvements on, every second one is dropped.

    Attributes:
        places: Where on the axis the improvements are, in ascending order.
        values: The best value from there on.

    Example:
        >>> line = Monotone(1, capacity=10)
        >>> line.add(np.array([0.0, 1.0, 2.0]), np.array([5.0, 7.0, 3.0]))
        >>> line.add(np.array([1.5]), np.array([4.0]))
        >>> line.places, line.values
        ([0.0, 1.5, 2.0], [5.0, 4.0, 3.0])
    """

    def __init__(self, sign: int, capacity: int) -> None:
        self._sign = sign
        self._capacity = capacity
        self.places: list[float] = []
        self.values: list[float] = []

    def add(self, places: NDArray[np.float64], values: NDArray[np.float64]) -> None:
        """Add points; values are finite, both are of shape (k,)."""
        if not len(places):
            return
        order = np.argsort(places, kind="stable")
        signed = self._sign * values[order]
        best_before = np.minimum.accumulate(np.concatenate([[np.inf], signed[:-1]]))
        better = order[signed < best_before]
        for place, value in zip(places[better].tolist(), values[better].tolist(), strict=True):
            self._insert(place, value)
        while len(self.places) > 2 * self._capacity:
            # never the first nor the last one: those are the start and the best value of all
            del self.places[-2:0:-2], self.values[-2:0:-2]

    def _insert(self, place: float, value: float) -> None:
        start = bisect.bisect_right(self.places, place)
        if start and not self._is_better(value, self.values[start - 1]):
            return
        end = start
        while end < len(self.values) and not self._is_better(self.values[end], value):
            end += 1
        self.places[start:end] = [place]
        self.values[start:end] = [value]

    def _is_better(self, value: float, other: float) -> bool:
        return self._sign * value < self._sign * other


class Rate:
    """How many evaluations a second end."""

    def __init__(self) -> None:
        self._counts: dict[int, int] = {}

    def add(self, times: NDArray[np.float64]) -> None:
        """Note evaluations that ended at these times, in seconds, shape (k,)."""
        seconds, counts = np.unique(np.floor(times).astype(np.int64), return_counts=True)
        oldest = max([*self._counts, *seconds[-1:].tolist()], default=0) - _WINDOWS[-1]
        for second, count in zip(seconds.tolist(), counts.tolist(), strict=True):
            self._counts[second] = self._counts.get(second, 0) + count
        self._counts = {s: n for s, n in self._counts.items() if s >= oldest}

    def per_second(self, now: float) -> float:
        """Return the rate over the last seconds, or minutes if only a few ended meanwhile.

        Args:
            now: The time, in seconds.
        """
        rate = 0.0
        for window in _WINDOWS:
            start = max(0, int(now) - window)
            n_ended = sum(n for second, n in self._counts.items() if start <= second <= now)
            rate = n_ended / max(now - start, 0.1)
            if n_ended >= _FEW:
                break
        return rate
