"""Evaluates many points at once: in one compiled call, one after the other, or on several cores."""

from __future__ import annotations

import contextlib
from collections.abc import Generator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from optimagic_lite.exceptions import InvalidFunctionError
from optimagic_lite.failures import Failure, exception_message
from optimagic_lite.objective.objective import Objective
from optimagic_lite.parallel import Cores, TaskFailure

Array = NDArray[np.float64]


@dataclass
class Batch:
    """What the evaluation of k points gave.

    Attributes:
        values: Shape (k,), or (k, m) where a value has m entries; NaN where there is none.
        failures: What went wrong, by the number of the point.
        infos: What the user's function returned along with the values; None if nothing.
        n_done: Number of points that were evaluated: after a failure, the rest may be left out.
        violations: Largest violations of native constraints beyond their tolerance, shape (k,);
            None if there are none, or nobody asked.
    """

    values: Array
    failures: dict[int, Failure] = field(default_factory=dict)
    infos: list[dict[str, Any] | None] | None = None
    n_done: int = 0
    violations: Array | None = None


def empty_batch(objective: Objective, n_points: int, n_entries: int) -> Batch:
    """Return a batch of which nothing is evaluated.

    Args:
        objective: What will be evaluated.
        n_points: Number of points.
        n_entries: Number of entries of a value.
    """
    shape = (n_points, n_entries) if objective.kind.is_vector else (n_points,)
    return Batch(np.full(shape, np.nan))


def evaluate_batch(
    batch: Batch,
    objective: Objective,
    xs: Array,
    *,
    stop_at_failure: bool,
    with_info: bool,
    cores: Cores,
) -> None:
    """Evaluate an objective at points of shape (k, n_x) and fill in the batch.

    Exceptions of the user's function are kept; values that are not finite are left as they are.

    Args:
        batch: Is filled in; if this is interrupted, it holds what is done.
        objective: What is evaluated.
        xs: The points.
        stop_at_failure: Whether to leave out the points after an exception.
        with_info: Whether to ask for what comes along with the values.
        cores: Where a criterion that is not JAX is evaluated.

    Raises:
        InvalidFunctionError: If the user's function returns something that it must not.
    """
    if objective.program is not None:
        # not everything that JAX compiles can be batched, a callback for one
        with contextlib.suppress(Exception):
            batch.values[:], batch.n_done = objective.values(xs), len(xs)
    elif objective.many is not None and cores.is_spread:
        _fill_in(batch, objective, objective.many(xs, cores))
    info = objective.info if with_info else None
    batch.infos = None if info is None else [None] * len(xs)
    for i, x in enumerate(xs):
        if batch.n_done <= i:
            _take(objective, _evaluate(objective, x), i, batch)
            batch.n_done = i + 1
            if i in batch.failures and stop_at_failure:
                break
        if info is not None and batch.infos is not None and i not in batch.failures:
            batch.infos[i] = info(x)


def _fill_in(
    batch: Batch, objective: Objective, results: Generator[tuple[int, Any], None, None]
) -> None:
    """Fill in values in the order in which they come; those after a gap are not done yet."""
    waiting: set[int] = set()
    with contextlib.closing(results):
        for i, found in results:
            _take(objective, found, i, batch)
            waiting.add(i)
            while batch.n_done in waiting:
                waiting.remove(batch.n_done)
                batch.n_done += 1


def _evaluate(objective: Objective, x: Array) -> Any:
    """Return the value at a point, or what was raised there."""
    try:
        return objective.value(x)
    except InvalidFunctionError:
        raise
    except Exception as error:
        return TaskFailure.of(error)


def _take(objective: Objective, found: Any, i: int, batch: Batch) -> None:
    """Keep the value of point i, or what went wrong there."""
    if isinstance(found, TaskFailure):
        message = exception_message(found.exception)
        batch.failures[i] = Failure(message, found.exception, found.traceback)
    elif np.shape(found) != batch.values.shape[1:]:
        raise InvalidFunctionError(
            f"fun returned {np.size(found)} {objective.kind.described}, and "
            f"{batch.values.shape[1]} at the start."
        )
    else:
        batch.values[i] = found
