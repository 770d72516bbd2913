"""Rows of evaluations, for history and log alike."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from optimagic_lite.batch import Batch
from optimagic_lite.failures import Failure
from optimagic_lite.history import History, Kind, Task, jsonable
from optimagic_lite.space.space import Space

if TYPE_CHECKING:
    from optimagic_lite.log.rows import RowWriter

Array = NDArray[np.float64]


class Recorder:
    """Writes what was evaluated into the history and the log of a run.

    Values have the user's sign. Points of derivatives are in the log only.

    Args:
        space: Says what x stands for.
        history: Where rows go, or None.
        log: Where rows go too, or None.
        offset: Seconds from the start of the run to what times are counted from.
        n_batches: Number of batches that were recorded before.
    """

    def __init__(
        self,
        space: Space,
        history: History | None,
        log: RowWriter | None,
        offset: float = 0.0,
        n_batches: int = 0,
    ) -> None:
        self._space = space
        self._offset = offset
        self._history = history
        self._log = log
        self._batch = n_batches

    def value(
        self,
        x: Array,
        value: float,
        times: tuple[float, float],
        task: Task,
        kind: Kind,
        violation: float | None,
        info: Any,
    ) -> None:
        """Record an evaluation that succeeded.

        Args:
            x: Where; kept, not copied.
            value: The criterion there.
            times: When the evaluation began and ended, in seconds.
            task: What was evaluated.
            kind: Why.
            violation: Of native constraints, beyond their tolerance; None if there are none.
            info: What came along with the value.
        """
        info = None if info is None else jsonable(info)
        times = self._shifted(times)
        if self._history is not None:
            beyond = violation or 0.0
            self._history.append(x, value, *times, task, kind, self._batch, beyond, info)
        if self._log is not None:
            flat = self._space.to_flat(x)
            self._log.write(
                flat, value, *times, task, kind, self._batch, violation=violation, info=info
            )
        self._batch += 1

    def failure(
        self, x: Array, failure: Failure, times: tuple[float, float], task: Task, kind: Kind
    ) -> None:
        """Record an evaluation that failed; arguments as in ``value``."""
        times = self._shifted(times)
        if self._history is not None and kind != "derivative":
            self._history.append(x, math.nan, *times, task, kind, self._batch)
        if self._log is not None:
            self._log.write(
                self._space.to_flat(x), None, *times, task, kind, self._batch, failure.message,
                traceback=failure.traceback,
            )  # fmt: skip
        self._batch += 1

    def derivative(self, x: Array, times: tuple[float, float], task: Task) -> None:
        """Record that a derivative was evaluated; arguments as in ``value``."""
        if self._log is not None:
            flat, times = self._space.to_flat(x), self._shifted(times)
            self._log.write(flat, None, *times, task, "derivative", self._batch)

    def many(
        self,
        xs: Array,
        values: Array,
        times: tuple[float, float],
        task: Task,
        kind: Kind,
        batch: Batch,
    ) -> None:
        """Record points that were evaluated together, in one transaction of the log.

        Args:
            xs: Shape (k, n_x); kept, not copied.
            values: Shape (k,), NaN where there is none.
            times: Start and end of the batch; its points share them evenly.
            task: What was evaluated.
            kind: Why.
            batch: What failed, what came along with the values, and violations.
        """
        violations = batch.violations
        edges = np.linspace(*self._shifted(times), len(xs) + 1)
        infos = None if batch.infos is None else [jsonable(info) for info in batch.infos]
        if self._log is not None:
            failures = [batch.failures.get(i) for i in range(len(xs))]
            self._log.write_many(
                self._space.to_flat_rows(xs), values, edges[:-1], edges[1:], task, kind,
                self._batch, [None if f is None else f.message for f in failures], violations,
                tracebacks=[None if f is None else f.traceback for f in failures], infos=infos,
            )  # fmt: skip
        if self._history is not None and kind != "derivative":
            beyond = np.zeros(len(xs)) if violations is None else violations
            columns = zip(
                xs, values.tolist(), edges.tolist(), edges[1:].tolist(), beyond.tolist(),
                infos or [None] * len(xs), strict=False,
            )  # fmt: skip
            for x, value, start, stop, violation, info in columns:
                self._history.append(
                    x, value, start, stop, task, kind, self._batch, violation, info
                )
        self._batch += 1

    def _shifted(self, times: tuple[float, float]) -> tuple[float, float]:
        """Return times from the start of the run."""
        return (times[0] + self._offset, times[1] + self._offset) if self._offset else times
