"""``optimagic-lite runs``: a table of all runs of a log."""

from __future__ import annotations

from optimagic_lite.cli.logs import best_value, count_failures, open_log, seconds_taken
from optimagic_lite.cli.text import duration, local_time, number, table

_HEAD = (
    "run", "status", "algorithm", "direction", "started", "duration", "evaluations", "failures",
    "best value", "params",
)  # fmt: skip


def runs(location: str) -> str:
    """Return a table with one line a run.

    Args:
        location: Path or URL of the log.

    Raises:
        LogError: If it cannot be read.
    """
    reader = open_log(location)
    found = reader.runs()
    if found.empty:
        return "There are no runs in this log yet."
    failures = count_failures(reader)
    rows = [
        (
            str(i),
            run.status,
            run.algorithm,
            run.direction,
            local_time(run.started.timestamp()),
            duration(seconds_taken(reader, run)),
            f"{run.n_evaluations:,}",
            f"{failures[run.run_id]:,}",
            number(best_value(reader, i, run)),
            f"{len(run.param_names):,}",
        )
        for i, (_, run) in enumerate(found.iterrows())
    ]
    return table(_HEAD, rows, left="status algorithm direction started")
