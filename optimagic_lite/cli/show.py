"""``optimagic-lite show``: everything about one run."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from optimagic_lite.cli.logs import (
    RunTally,
    StepTally,
    count_evaluations,
    find_run,
    open_log,
    outcomes_of_steps,
    seconds_taken,
)
from optimagic_lite.cli.text import (
    NOTHING,
    WIDTH,
    counted,
    duration,
    ends,
    facts,
    local_time,
    number,
    safe,
    shortened,
    table,
)

if TYPE_CHECKING:
    import pandas as pd

    from optimagic_lite.log.evaluation import LoggedEvaluation

_MOST_FREQUENT = 5
_BEST_STEPS = 10
_FIRST_PARAMS = 10
_LAST_PARAMS = 5

# Names and texts; None for what does not apply.
_Facts = list[tuple[str, str | None]]

_STATUS = {
    "running": "running: the run has not ended yet",
    "failed": "failed: an error ended the run",
    "interrupted": "interrupted: somebody stopped the run",
    "died": "died: the process is gone, and had no chance to say why",
}


def show(location: str, run: int) -> str:
    """Return all that a log says about one run, in words.

    Args:
        location: Path or URL of the log.
        run: Which run, as a Python index.

    Raises:
        CommandError: If there is no such run.
        LogError: If the log cannot be read.
    """
    reader = open_log(location)
    i, header = find_run(reader, run)
    tally = count_evaluations(reader, header)
    best = reader.best(i) if tally.has_value else None
    taken = seconds_taken(reader, header)
    blocks = [
        f"Run {i} in {safe(reader.location)}",
        facts(_outcome(header) + _found(tally, best) + _circumstances(header, tally, taken)),
        _failures(tally),
        _multistart(header, tally, outcomes_of_steps(reader, header)),
        _params(header, best),
        _options(header),
    ]
    return "\n\n".join(block for block in blocks if block)


def _outcome(header: pd.Series[Any]) -> _Facts:
    outcome = "converged" if header.success else "did not converge"
    return [
        ("status", _STATUS.get(header.status, f"{header.status}: the algorithm {outcome}")),
        ("message", header.message),
        ("task", f"{header.direction} over {counted(len(header.param_names), 'parameter')}"),
        ("algorithm", header.algorithm),
        ("derivatives", _joined(header.derivatives.values(), ": ")),
    ]


def _circumstances(header: pd.Series[Any], tally: RunTally, taken: float) -> _Facts:
    return [
        ("started", local_time(header.started.timestamp())),
        ("ended", None if _is_open(header) else local_time(header.ended.timestamp())),
        ("duration", duration(taken)),
        ("last evaluation", _last_evaluation(header, tally)),
        ("resumed", _resumed(header)),
        ("process", f"{header.pid} on {header.host}"),
        ("versions", _joined((f"{k} {v}" for k, v in header.versions.items()), ", ")),
    ]


def _is_open(header: pd.Series[Any]) -> bool:
    """Tell whether nothing says when the run ended."""
    return bool(header.ended != header.ended)


def _last_evaluation(header: pd.Series[Any], tally: RunTally) -> str | None:
    if not _is_open(header) or math.isnan(tally.last):
        return None
    return f"ended at {local_time(header.started.timestamp() + tally.last)}"


def _resumed(header: pd.Series[Any]) -> str | None:
    n = len(header.get("resumed") or [])
    return counted(n, "time") if n else None


def _found(tally: RunTally, best: LoggedEvaluation | None) -> _Facts:
    by_kind = ", ".join(f"{n:,} {kind}" for kind, n in tally.kinds.most_common())
    total, n_failures = tally.kinds.total(), tally.failures.total()
    value = "no evaluation has a value"
    if best is not None:
        where = f", in local optimisation {best.step}" if best.step else ""
        value = f"{number(best.fun, 10)}, found after {duration(best.stop_time)}{where}"
        if best.violation:
            value += f"; it violates constraints by {number(best.violation)}"
    return [
        ("evaluations", f"{total:,} ({by_kind})" if total else "none yet"),
        ("failures", f"{n_failures:,}" if n_failures else "none"),
        ("best value", value),
    ]


def _options(header: pd.Series[Any]) -> str:
    if not header.algo_options:
        return ""
    widest = max(map(len, header.algo_options))
    lines = (
        f"  {safe(name).ljust(widest)}  {shortened(_as_text(value), WIDTH - widest)}"
        for name, value in header.algo_options.items()
    )
    return "\n".join([f"Options of {safe(header.algorithm)}", *lines])


def _failures(tally: RunTally) -> str:
    if not tally.failures:
        return ""
    frequent = tally.failures.most_common(_MOST_FREQUENT)
    widest = max(len(f"{n:,}") for _, n in frequent)
    lines = [f"  {n:>{widest},}  {shortened(text, WIDTH - widest - 4)}" for text, n in frequent]
    rest = tally.failures.total() - sum(n for _, n in frequent)
    if rest:
        lines.append(f"  {rest:>{widest},}  with other messages")
    return "\n".join(["Failures, the most frequent first", *lines])


def _multistart(header: pd.Series[Any], tally: RunTally, outcomes: Mapping[int, str]) -> str:
    local = {step: found for step, found in tally.steps.items() if step}
    n_explored = tally.kinds["exploration"]
    if not local and not n_explored:
        return ""
    title = (
        f"Multistart: {counted(n_explored, 'explored point')}, "
        f"{counted(len(local), 'local optimisation')}"
    )
    before = tally.steps.get(0, StepTally())
    lines = [title, f"  best value of the start and the exploration: {_value(header, before)}"]
    if local:
        lines += ["", _steps(header, local, outcomes)]
    return "\n".join(lines)


def _steps(
    header: pd.Series[Any], local: Mapping[int, StepTally], outcomes: Mapping[int, str]
) -> str:
    """Return a table of local optimisations, the best first."""
    ranked = sorted(local.items(), key=lambda item: (item[1].best, item[0]))
    unknown = NOTHING if header.status == "complete" else "not finished"
    rows = [
        (
            str(step),
            outcomes.get(step, unknown),
            f"{found.n_evaluations:,}",
            f"{found.n_failures:,}",
            _value(header, found),
        )
        for step, found in ranked[:_BEST_STEPS]
    ]
    head = ("local optimisation", "outcome", "evaluations", "failures", "best value")
    lines = [table(head, rows, left="outcome", indent="  ")]
    if len(ranked) > _BEST_STEPS:
        lines.append(f"  … and {len(ranked) - _BEST_STEPS:,} more that found nothing better")
    return "\n".join(lines)


def _value(header: pd.Series[Any], of_step: StepTally) -> str:
    _, value = of_step.best
    if math.isinf(value):
        return number(None)
    return number(value if header.direction == "minimize" else -value)


def _params(header: pd.Series[Any], best: LoggedEvaluation | None) -> str:
    names, start = header.param_names, header.start_params
    flat = np.full(len(names), np.nan) if best is None else best.flat_params
    chosen, n_left_out = ends(len(names), _FIRST_PARAMS, _LAST_PARAMS)
    rows = [(shortened(names[i], 50), number(start[i], 8), number(flat[i], 8)) for i in chosen]
    if n_left_out:
        rows.insert(_FIRST_PARAMS, (f"… {n_left_out:,} more", "", ""))
    head = ("parameter", "start", "best")
    return "Parameters\n\n" + table(head, rows, left="parameter", indent="  ")


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _joined(texts: Any, separator: str) -> str:
    return separator.join(str(text) for text in texts)
