"""The questions that a live view asks a log: new rows, and details of a few of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple, get_args

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray

from optimagic_lite.history import Kind
from optimagic_lite.log.run_states import RunReplacedError, RunState
from optimagic_lite.log.tables import MAX_STEP, decode, evaluation_id, evaluations, runs

KINDS: tuple[Kind, ...] = get_args(Kind)

_LONGEST_MESSAGE = 1_000
# parts of 5,000 rows and more take twice as long
_ROWS_PER_FETCH = 1_000
_KEYS_PER_QUERY = 500
_NUMBER_OF_KIND = {kind: number for number, kind in enumerate(KINDS)}

_e = evaluations.c
_SELECT = sa.select(
    _e.id, _e.kind, _e.fun, _e.stop_time, _e.exception.is_not(None), _e.violation
).order_by(_e.id)  # fmt: skip


class Rows(NamedTuple):
    """Rows of the table of evaluations, in columns of shape (k,).

    Args:
        id: Their keys.
        kind: Positions in ``KINDS``.
        fun: Values in the user's sign; NaN where there is none.
        time: When they ended, in seconds from the start of the run.
        failed: Whether something went wrong.
        violation: Of native constraints; NaN where they were not evaluated.
    """

    id: NDArray[np.int64]
    kind: NDArray[np.int64]
    fun: NDArray[np.float64]
    time: NDArray[np.float64]
    failed: NDArray[np.bool_]
    violation: NDArray[np.float64]

    @property
    def step(self) -> NDArray[np.int64]:
        """Local optimisations to which they belong, or 0."""
        return self.id // evaluation_id(0, 1, 0) % (MAX_STEP + 1)

    @property
    def is_candidate(self) -> NDArray[np.bool_]:
        """Whether a row has a value and violates no constraint."""
        return np.isfinite(self.fun) & ~(self.violation > 0)

    def at(self, index: Any) -> Rows:
        """Return some of the rows."""
        return Rows(*(column[index] for column in self))


def read_header(connection: sa.Connection, state: RunState) -> Any:
    """Return names and start values of the parameters of a run.

    Raises:
        RunReplacedError: If the run is not in the log any more.
    """
    require_run(connection, state)
    header = sa.select(runs.c.param_names, runs.c.start_params)
    return connection.execute(header.where(runs.c.run_id == state.run_id)).one()


def require_run(connection: sa.Connection, state: RunState) -> None:
    """Refuse to read rows of another run, in a log that has replaced this one.

    Raises:
        RunReplacedError: If the run is not in the log any more.
    """
    started = connection.scalar(sa.select(runs.c.started).where(runs.c.run_id == state.run_id))
    if started != state.started:
        raise RunReplacedError


def read_rows(connection: sa.Connection, ranges: Iterable[tuple[int, int]], limit: int) -> Rows:
    """Return rows by their keys.

    Args:
        connection: To the log.
        ranges: Keys after which and before which to look; ascending.
        limit: Largest number of rows to return, the first ones.
    """
    parts = [_columns([])]
    for after, before in ranges:
        of_range = _SELECT.where(_e.id > after, _e.id < before).limit(limit)
        for found in connection.execute(of_range).partitions(_ROWS_PER_FETCH):
            parts.append(_columns(found))
            limit -= len(found)
        if limit <= 0:
            break
    return Rows(*map(np.concatenate, zip(*parts, strict=True)))


def _columns(found: Any) -> Rows:
    keys, kinds, funs, times, failed, violations = zip(*found, strict=True) if found else [()] * 6
    return Rows(
        np.array(keys, np.int64),
        np.array([_NUMBER_OF_KIND[kind] for kind in kinds], np.int64),
        # None becomes NaN
        np.array(funs, np.float64),
        np.array(times, np.float64),
        np.array(failed, np.bool_),
        np.array(violations, np.float64),
    )


def read_params(
    connection: sa.Connection, keys: Iterable[int], n_params: int
) -> dict[int, NDArray[np.float64]]:
    """Return the parameters of rows, each of shape (n_params,), by the keys of the rows."""
    found = _by_keys(connection, sa.select(_e.id, _e.params), keys)
    return {key: decode([blob], n_params)[0] for key, blob in found}


def read_messages(connection: sa.Connection, keys: Iterable[int]) -> dict[int, str]:
    """Return the beginning of what went wrong in rows, by the keys of the rows."""
    message = sa.func.substr(_e.exception, 1, _LONGEST_MESSAGE)
    return {key: str(text) for key, text in _by_keys(connection, sa.select(_e.id, message), keys)}


def _by_keys(connection: sa.Connection, query: Any, keys: Iterable[int]) -> Iterator[Any]:
    ordered = sorted(keys)
    for start in range(0, len(ordered), _KEYS_PER_QUERY):
        some = ordered[start : start + _KEYS_PER_QUERY]
        yield from connection.execute(query.where(_e.id.in_(some)))
