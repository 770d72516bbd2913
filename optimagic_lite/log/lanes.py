"""Rows of many runs side by side, each a step of one run in the log."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from optimagic_lite.exceptions import LogError
from optimagic_lite.history import Kind
from optimagic_lite.log.rows import RowWriter
from optimagic_lite.log.sink import BufferSink, Sink
from optimagic_lite.log.tables import MAX_STEP

Array = NDArray[np.float64]


class LaneWriter:
    """Writes evaluations of many runs; each call is one transaction.

    Args:
        sink: Where rows go.
        run_id: Number of the run in the log.
        n_lanes: Number of runs side by side.

    Raises:
        LogError: If they are too many for a log.
    """

    def __init__(self, sink: Sink, run_id: int, n_lanes: int) -> None:
        if n_lanes > MAX_STEP:
            raise LogError(f"A log takes {MAX_STEP:,} runs of a batch, and these are {n_lanes:,}.")
        self._sink = sink
        self._buffer = BufferSink()
        self._writers = [RowWriter(self._buffer, run_id, i + 1) for i in range(n_lanes)]

    def write(
        self,
        lanes: NDArray[np.intp],
        flats: Array,
        funs: Array,
        times: Array,
        kind: Kind,
        batch: int,
    ) -> None:
        """Write evaluations.

        Args:
            lanes: Number of the run of each, from 0, shape (r,).
            flats: Parameters, shape (r, n_params).
            funs: Values in the user's sign; not finite where the evaluation failed, shape (r,).
            times: Edges between their times, in seconds from the start, shape (r + 1,).
            kind: Why they were evaluated.
            batch: Rows with the same number were evaluated together.
        """
        for i, lane in enumerate(lanes.tolist()):
            fun = float(funs[i])
            failed = None if np.isfinite(fun) else f"value or derivative is not finite ({fun})"
            seconds = times[i], times[i + 1]
            self._writers[lane].write(flats[i], fun, *seconds, "fun_and_jac", kind, batch, failed)
        rows, self._buffer.kept = self._buffer.kept, []
        self._sink.insert_many([row for _, row in rows])
