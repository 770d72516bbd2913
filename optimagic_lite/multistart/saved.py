"""Local optimisations on their way into the log, and back when a run is resumed."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from optimagic_lite.algorithms.base import Outcome
from optimagic_lite.exceptions import UserFunctionRuntimeError
from optimagic_lite.history import History
from optimagic_lite.multistart.local import LocalRun
from optimagic_lite.parallel import TaskFailure
from optimagic_lite.prepared import Prepared
from optimagic_lite.stopping import Stop
from optimagic_lite.tally import Tally

if TYPE_CHECKING:
    from optimagic_lite.log.steps import StepRecord

# of matrices with more rows the log would be large, and nobody looks at them
_MOST_ROWS = 1_000


def has_ended(found: LocalRun) -> bool:
    """Tell whether a resumed run need not repeat a local optimisation.

    One that a callback stopped, or whose process died, has not come to its own end.
    """
    if found.outcome is not None:
        return found.outcome.status != Stop.CALLBACK.status
    return found.failure is not None and isinstance(
        found.failure.exception, UserFunctionRuntimeError
    )


def record_of(found: LocalRun, prepared: Prepared, stop_time: float) -> StepRecord:
    """Return a local optimisation as the log holds it.

    Args:
        found: The local optimisation.
        prepared: The problem.
        stop_time: Seconds from the start of the run to its end.
    """
    from optimagic_lite.log.steps import StepRecord

    tally, outcome = found.tally, found.outcome
    arrays = {
        "start": found.start,
        "origin": found.origin,
        "best_x": tally.best_x,
        "best_gradient": tally.best_gradient,
    }
    if outcome is not None:
        arrays |= {"x": outcome.x, "gradient": outcome.gradient}
        if len(found.start) <= _MOST_ROWS:
            arrays |= {"hess": outcome.hess, "hess_inv": outcome.hess_inv}
        success, message = outcome.success, outcome.message
    else:
        assert found.failure is not None
        success, message = None, str(found.failure.exception)
    counts = {name: getattr(tally, name) for name in Tally.COUNTS}
    return StepRecord(
        step=found.number,
        stop_time=stop_time,
        success=success,
        message=message,
        status=None if outcome is None else outcome.status,
        n_iterations=None if outcome is None else outcome.n_iterations,
        fun=prepared.objective.sign * tally.best_f,
        violation=tally.best_violation,
        counts=counts | {"has_failed_at_best": int(tally.has_failed_at_best)},
        info={} if outcome is None else outcome.info,
        arrays={name: np.asarray(a) for name, a in arrays.items() if a is not None},
    )


def local_run_of(record: StepRecord, prepared: Prepared, history: History) -> LocalRun:
    """Return a local optimisation as it was when it ended.

    Args:
        record: What the log holds of it.
        prepared: The problem.
        history: Its evaluations.
    """
    kept = history if prepared.problem.collect_history else None
    arrays = record.arrays
    is_known = math.isfinite(record.fun)
    tally = Tally(
        **{name: record.counts[name] for name in Tally.COUNTS},
        best_x=arrays["best_x"],
        best_f=prepared.objective.sign * record.fun if is_known else math.inf,
        best_violation=record.violation,
        best_gradient=arrays.get("best_gradient"),
        has_failed_at_best=bool(record.counts["has_failed_at_best"]),
    )
    found = LocalRun(record.step, arrays["start"], arrays["origin"], tally, kept)
    if record.success is None:
        return replace(found, failure=TaskFailure(UserFunctionRuntimeError(record.message), ""))
    outcome = Outcome(
        record.success,
        record.message,
        record.status,
        n_iterations=record.n_iterations,
        info=record.info,
        x=arrays.get("x"),
        gradient=arrays.get("gradient"),
        hess=arrays.get("hess"),
        hess_inv=arrays.get("hess_inv"),
    )
    evaluator = prepared.evaluator(history=None, log=None, x0=found.start)
    evaluator.absorb(tally)
    evaluator.start_fun = history.fun[0]
    result = prepared.result(evaluator, outcome, kept)
    elapsed = record.stop_time - history.start_time[0]
    return replace(found, outcome=outcome, result=replace(result, elapsed=elapsed))
