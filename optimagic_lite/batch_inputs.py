"""The runs of a batch: what differs between them, stacked along a leading axis."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from optimagic_lite.exceptions import (
    InvalidKwargsError,
    InvalidParamsError,
    MissingInputError,
    listed,
)
from optimagic_lite.space.trees import ParamTree, flatten_in_order

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class BatchInputs:
    """Runs that differ in data, in starts, or in both.

    Args:
        n_runs: Number of runs.
        params: Start of the first run.
        starts: Starts as vectors, shape (n_runs, n_params), or None if all are the same.
        own: Arguments of the criterion that differ: leaves with a leading axis, by name.
        shared: Arguments that do not.
    """

    n_runs: int
    params: Any
    starts: Array | None
    own: dict[str, Any]
    shared: dict[str, Any]

    @property
    def example(self) -> dict[str, Any]:
        """Arguments of the first run."""
        own: dict[str, Any] = _map(lambda leaf: leaf[0], self.own)
        return self.shared | own

    @property
    def is_own(self) -> list[bool]:
        """Whether each leaf of the arguments, in the order of ``example``, has a leading axis."""
        flags = _map(lambda _: False, self.shared) | _map(lambda _: True, self.own)
        return flatten_in_order(flags)[0]


def read_batch(batch: Any, params: Any, fun_kwargs: Mapping[str, Any] | None) -> BatchInputs:
    """Read what differs between runs.

    Args:
        batch: See ``minimize_batch``.
        params: See ``minimize_batch``.
        fun_kwargs: See ``minimize_batch``.

    Raises:
        InvalidKwargsError: If it is no batch, or names an argument twice.
        InvalidParamsError: If starts do not have the structure of params.
        MissingInputError: If there are no starts.
    """
    shared = dict(fun_kwargs or {})
    stacked = _stacked(batch)
    twice = sorted(set(stacked) & set(shared))
    if twice:
        raise InvalidKwargsError(f"batch and fun_kwargs both give {listed(twice)}.")
    n_runs = _count(stacked)
    starts = stacked.pop("params", None)
    if starts is None and params is None:
        raise MissingInputError("params is missing: give one start, or batch={'params': starts}.")
    if starts is None:
        return BatchInputs(n_runs, params, None, stacked, shared)
    first = _map(lambda leaf: leaf[0], starts)
    if params is not None:
        _check_structure(params, first)
    leaves, _ = flatten_in_order(starts)
    flat = np.concatenate([np.asarray(v, dtype=np.float64).reshape(n_runs, -1) for v in leaves], 1)
    return BatchInputs(n_runs, first, flat, stacked, shared)


def _map(function: Callable[[Any], Any], tree: Any) -> Any:
    """Map over the leaves of a tree, whose dicts keep their order."""
    leaves, rebuild = flatten_in_order(tree)
    return rebuild(function(leaf) for leaf in leaves)


def _stacked(batch: Any) -> dict[str, Any]:
    """Return arguments by name, with leaves that have a leading axis."""
    if isinstance(batch, Mapping):
        return {name: _map(partial(_as_array, name), tree) for name, tree in batch.items()}
    is_list = isinstance(batch, Sequence) and not isinstance(batch, str) and len(batch) > 0
    if not is_list or not all(isinstance(run, Mapping) for run in batch):
        raise InvalidKwargsError(
            "batch must be a dict of arguments with a leading axis, {'y': ys, 'params': starts}, "
            f"or a list with one dict of arguments for each run, not {repr(batch)[:100]}."
        )
    for number, run in enumerate(batch):
        if set(run) != set(batch[0]):
            raise InvalidKwargsError(
                f"Run {number} of batch has the arguments {listed(sorted(run))}, and run 0 "
                f"{listed(sorted(batch[0]))}."
            )
    return {name: _stack([run[name] for run in batch], name) for name in batch[0]}


def _as_array(name: str, value: Any) -> Any:
    array = _plain(name, value)
    # other types are no data of a compiled solve: those of the first run would be taken for all
    if array.dtype.kind not in "fiub" or array.ndim == 0:
        raise InvalidKwargsError(
            f"{name!r} in batch must be arrays of numbers whose first axis runs over the runs, not "
            f"{repr(value)[:60]}. What all runs share goes into fun_kwargs; lists are trees, so "
            "make arrays of numbers that belong together."
        )
    return array


def _plain(name: str, value: Any) -> Any:
    array = value if isinstance(value, jax.Array) else np.asarray(value)
    if jnp.issubdtype(array.dtype, jax.dtypes.prng_key):
        raise InvalidKwargsError(
            f"{name!r} in batch holds random keys of JAX. Give jax.random.key_data(keys), and call "
            "jax.random.wrap_key_data in fun."
        )
    return array


def _stack(trees: Iterable[Any], name: str) -> Any:
    """Return one tree whose leaves are those of all, one upon the other."""
    leaves, rebuilds = zip(*(flatten_in_order(tree) for tree in trees), strict=True)
    shapes = [[np.shape(leaf) for leaf in run] for run in leaves]
    for number, own in enumerate(shapes):
        if own != shapes[0]:
            raise InvalidKwargsError(
                f"{name!r} of run {number} in batch has shapes {own}, and of run 0 {shapes[0]}. "
                "All runs are compiled as one, so shapes must be equal: pad data and give weights."
            )
    columns = zip(*leaves, strict=True)
    return rebuilds[0](_as_array(name, np.stack([_plain(name, v) for v in c])) for c in columns)


def _count(stacked: dict[str, Any]) -> int:
    """Return the number of runs."""
    lengths = {name: {len(leaf) for leaf in flatten_in_order(t)[0]} for name, t in stacked.items()}
    found = set().union(*lengths.values())
    if not found or found == {0}:
        raise InvalidKwargsError("batch holds no runs.")
    if len(found) > 1:
        each = "; ".join(f"{n}: {', '.join(map(str, sorted(v)))}" for n, v in lengths.items())
        raise InvalidKwargsError(
            "Arguments in batch do not have the same number of runs along their first axis: "
            f"{each}. What all runs share goes into fun_kwargs; data of different lengths are "
            "padded, and get weights."
        )
    return int(found.pop())


def _check_structure(params: Any, first: Any) -> None:
    expected, given = (ParamTree(_map(np.asarray, tree)) for tree in (params, first))
    if (expected.names, expected.leaves) != (given.names, given.leaves):
        raise InvalidParamsError(
            "The starts in batch do not have the structure of params: they hold "
            f"{listed(given.names, 5)}, and params {listed(expected.names, 5)}."
        )
