"""Between the user's params and one flat vector, in both directions and under JAX tracing."""

from __future__ import annotations

import collections
import itertools
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby, islice
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from optimagic_lite.exceptions import InvalidParamsError, did_you_mean
from optimagic_lite.space.leaves import (
    Leaf,
    align_block,
    align_numbers,
    build,
    classify,
    entry_names,
    is_frame,
    is_series,
    numbers_of,
    one_level,
)


@dataclass(frozen=True)
class _LeafNode:
    """The place of a leaf."""

    position: int


@dataclass(frozen=True)
class _DictNode:
    """A dict. JAX would sort its keys; the user's order is kept because code may rely on it."""

    keys: tuple[Any, ...]
    children: tuple[_Node, ...]
    default_factory: Any = None


@dataclass(frozen=True)
class _OtherNode:
    """Any other container that JAX knows; ``treedef`` describes this one level."""

    keys: tuple[str, ...]
    children: tuple[_Node, ...]
    treedef: Any


_Node = _LeafNode | _DictNode | _OtherNode


class ParamTree:
    """The structure of params: names, positions and the way back.

    The order of the flat vector is the order in which the user wrote the tree.

    Args:
        params: The user's params, see ``minimize``.

    Attributes:
        leaves: The leaves in flat order.
        n_params: Length of the flat vector.
        is_traceable: Whether params can be built from traced values: no pandas objects.

    Raises:
        InvalidParamsError: If a leaf is not made of real numbers, or there are none.

    Example:
        >>> tree = ParamTree({"b": np.ones(2), "a": 3})
        >>> tree.names
        ['b_0', 'b_1', 'a']
        >>> tree.to_params(np.array([1.0, 2.0, 3.0]))
        {'b': array([1., 2.]), 'a': 3.0}
    """

    def __init__(self, params: Any) -> None:
        self._templates: list[Any] = []
        leaves: list[Leaf] = []
        self._root = _read(params, leaves, self._templates)
        self.leaves = tuple(leaves)
        self.n_params = leaves[-1].stop if leaves else 0
        if self.n_params == 0:
            raise InvalidParamsError("params holds no numbers, so there is nothing to optimise.")
        self.is_traceable = not any(leaf.kind in ("series", "frame") for leaf in leaves)
        # neighbouring Python floats are handled as one run: cost must not grow with the tree
        self._runs = tuple(
            (is_float, tuple(run)) for is_float, run in groupby(leaves, lambda f: f.kind == "float")
        )
        self._sizes = tuple(run[-1].stop - run[0].start for _, run in _split_runs(self._runs))
        self._signature = (self._root, self.leaves)
        self.template = self.to_params(self.start_values())

    def __reduce__(self) -> tuple[Any, ...]:
        return ParamTree, (self.template,)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ParamTree) or not (self.is_traceable and other.is_traceable):
            return self is other
        return self._signature == other._signature

    def __hash__(self) -> int:
        return hash(self._signature)

    @cached_property
    def names(self) -> list[str]:
        """Unique names of the entries of the flat vector."""
        names = self._names("_")
        # {"a_0": 1.0, "a": [2.0]} would give the name a_0 twice
        if len(set(names)) < len(names):
            names = self._names(".")
        if len(set(names)) < len(names):
            names = [f"{name}#{i}" for i, name in enumerate(names)]
        return names

    @cached_property
    def _is_sorted(self) -> bool:
        """Whether JAX would flatten params in the same order."""
        if not self.is_traceable:
            return True
        leaves = jax.tree.leaves(self.to_params(np.arange(float(self.n_params))))
        flat = np.concatenate([np.ravel(leaf) for leaf in leaves])
        return bool((flat == np.arange(self.n_params)).all())

    def _names(self, separator: str) -> list[str]:
        pairs = zip(self.leaves, self._templates, strict=True)
        return [name for leaf, t in pairs for name in entry_names(leaf, t, separator)]

    def to_flat(self, params: Any) -> NDArray[np.float64]:
        """Return a fresh flat vector of params that have this structure."""
        return self.align(params, "params")

    def align(self, tree: Any, what: str) -> NDArray[np.float64]:
        """Return the flat vector of a tree that is aligned with params by key, not by order.

        Args:
            tree: A tree with the structure of params, or a flat array of length n_params.
            what: How to call it in messages.

        Raises:
            ValueError: If it does not fit; the text can be shown to the user.
        """
        is_real = isinstance(tree, (np.ndarray, jax.Array)) and tree.dtype.kind != "c"
        if is_real and tree.shape == (self.n_params,):
            if not self._is_sorted:
                raise ValueError(
                    f"{what} is a flat vector, whose order is ambiguous, because the keys of "
                    "params are not sorted and JAX sorts them. Return a tree like params."
                )
            return np.array(tree, dtype=np.float64)
        values = [tree] if isinstance(self._root, _LeafNode) else _collect(self._root, tree, what)
        parts = [
            align_numbers(value, leaf, template, what)
            for value, leaf, template in zip(values, self.leaves, self._templates, strict=True)
        ]
        return np.concatenate(parts)

    def align_matrix(self, tree: Any, what: str) -> NDArray[np.float64]:
        """Return the matrix of a tree of trees, such as ``jax.hessian(fun)(params)``.

        Args:
            tree: A tree aligned with params whose leaves are trees aligned with params, with
                leaves of the outer shape followed by the inner shape; or a (n_params, n_params)
                array.
            what: How to call it in messages.

        Raises:
            ValueError: If it does not fit; the text can be shown to the user.
        """
        n = self.n_params
        if isinstance(tree, (np.ndarray, jax.Array)) and tree.shape == (n, n):
            return np.array(tree, dtype=np.float64)
        out = np.empty((n, n))
        rows = zip(self.leaves, self._templates, _collect(self._root, tree, what), strict=True)
        for leaf, template, inner in rows:
            out[leaf.start : leaf.stop] = self._block_row(inner, leaf, template, what)
        return out

    def align_rows(self, tree: Any, n_rows: int, what: str) -> NDArray[np.float64]:
        """Return the matrix of a tree of Jacobians, such as ``jax.jacobian(function)(params)``.

        Args:
            tree: A tree aligned with params whose leaves have n_rows times as many entries, with
                those of the function first.
            n_rows: Number of entries of the function.
            what: How to call it in messages.

        Raises:
            ValueError: If it does not fit; the text can be shown to the user.
        """
        return self._block_row(tree, Leaf((), "numpy", (n_rows,), 0, n_rows), None, what)

    def _block_row(self, tree: Any, row: Leaf, row_template: Any, what: str) -> NDArray[np.float64]:
        """Return rows of a matrix of derivatives: those of one leaf of what is differentiated."""
        out = np.empty((row.stop - row.start, self.n_params))
        columns = zip(self.leaves, self._templates, _collect(self._root, tree, what), strict=True)
        for leaf, template, block in columns:
            where = f"entry {leaf.name!r} of {what}" if leaf.path else what
            out[:, leaf.start : leaf.stop] = align_block(
                block, (row, row_template), (leaf, template), where
            )
        return out

    def align_jacobian(self, tree: Any, outer: ParamTree, what: str) -> NDArray[np.float64]:
        """Return the matrix of a Jacobian whose function returns any tree.

        Args:
            tree: A tree built like what the function returns, whose leaves are trees aligned with
                params, with leaves of the outer shape followed by the inner shape; or a matrix of
                shape (n_rows, n_params).
            outer: Structure of what the function returns.
            what: How to call it in messages.

        Raises:
            ValueError: If it does not fit; the text can be shown to the user.
        """
        shape = (outer.n_params, self.n_params)
        is_leaf = isinstance(outer._root, _LeafNode)
        is_matrix = isinstance(tree, (np.ndarray, jax.Array)) and tree.shape == shape
        if is_matrix and not (is_leaf and isinstance(self._root, _LeafNode)):
            if not (self._is_sorted and outer._is_sorted):
                raise ValueError(
                    f"{what} is a matrix, whose order is ambiguous, because keys are not sorted "
                    "and JAX sorts them. Return a tree."
                )
            return np.array(tree, dtype=np.float64)
        blocks = [tree] if is_leaf else _collect(outer._root, tree, what)
        rows = [
            self._block_row(block, leaf, template, what)
            for leaf, template, block in zip(outer.leaves, outer._templates, blocks, strict=True)
        ]
        return np.concatenate(rows)

    def start_values(self) -> NDArray[np.float64]:
        """Return the flat vector of the params from which the structure was read."""
        return np.concatenate(
            [numbers_of(t, f.kind) for t, f in zip(self._templates, self.leaves, strict=True)]
        )

    def to_params(self, flat: NDArray[np.float64]) -> Any:
        """Build the user's structure with its own copy of the numbers.

        Args:
            flat: Shape (n_params,).
        """
        flat = np.array(flat, dtype=np.float64)
        values: list[Any] = []
        for is_float, run in self._runs:
            if is_float:
                values += flat[run[0].start : run[-1].stop].tolist()
            else:
                for leaf in run:
                    template = self._templates[len(values)]
                    values.append(build(leaf, template, flat[leaf.start : leaf.stop]))
        return _build(self._root, iter(values))

    def trace(self, flat: jax.Array) -> Any:
        """Build params from a traced vector; only where ``is_traceable``.

        Args:
            flat: Shape (n_params,), a JAX array or tracer.
        """
        # one split and one unstack have transposes of linear cost, n slices have not
        parts = iter(jax.lax.split(flat, self._sizes))
        values: list[Any] = []
        for is_float, run in _split_runs(self._runs):
            part = next(parts)
            values += jnp.unstack(part) if is_float else [part.reshape(run[0].shape)]
        return _build(self._root, iter(values))

    def broadcast(self, tree: Any, fill: float, what: str) -> NDArray[np.float64]:
        """Return a flat vector from a partial tree: missing entries are filled.

        Args:
            tree: None, a number, or a tree aligned with params in which keys may be left out,
                None means "fill" and a number stands for all entries below it.
            fill: The value of missing entries.
            what: How to call the tree in messages.

        Raises:
            ValueError: If it does not fit; the text can be shown to the user.
        """
        out = np.full(self.n_params, fill)
        if isinstance(tree, (np.ndarray, jax.Array, list, tuple)) and _is_vector(
            tree, self.n_params
        ):
            out[:] = [fill if v is None else v for v in tree]
            return out
        self._fill(self._root, tree, out, what, what)
        return out

    def _fill(self, node: _Node, tree: Any, out: NDArray[Any], where: str, what: str) -> None:
        if tree is None:
            return
        if isinstance(node, _LeafNode):
            leaf, template = self.leaves[node.position], self._templates[node.position]
            if isinstance(tree, (list, tuple)):
                tree = [out[leaf.start] if v is None else v for v in tree]
            elif np.ndim(tree) == 0:
                tree = np.full(leaf.shape, _as_number(tree, where))
            elif is_series(tree) and leaf.kind in ("series", "frame"):
                if tree.isna().any():
                    raise ValueError(f"{where} is NaN; use None, infinity or no entry.")
                unknown = tree.index.difference(template.index)
                if len(unknown):
                    raise ValueError(
                        f"{where} has an index entry {unknown[0]!r} unknown to params."
                    )
                tree = tree.reindex(template.index).fillna(out[leaf.start])
            out[leaf.start : leaf.stop] = align_numbers(tree, leaf, template, what)
            return
        first, last = _span(node, self.leaves)
        if _is_number(tree):
            out[first:last] = _as_number(tree, where)
            return
        for key, child, value in _pairs(node, tree, where, partial=True):
            self._fill(child, value, out, f"{where}[{key!r}]", what)

    def bound_columns(self) -> dict[str, NDArray[np.float64]]:
        """Return the bounds that stand in columns of DataFrames; NaN where there are none."""
        from optimagic_lite.space.leaves import BOUND_COLUMNS

        found: dict[str, NDArray[np.float64]] = {}
        for leaf, template in zip(self.leaves, self._templates, strict=True):
            for column in BOUND_COLUMNS:
                if leaf.kind == "frame" and column in template.columns:
                    values = found.setdefault(column, np.full(self.n_params, np.nan))
                    values[leaf.start : leaf.stop] = template[column].to_numpy(
                        dtype=np.float64, na_value=np.nan
                    )
        return found

    def to_json(self) -> str:
        """Describe the structure as JSON, for the log."""
        from optimagic_lite.space.description import describe

        return json.dumps(describe(self.template))

    @classmethod
    def from_json(cls, text: str) -> ParamTree:
        """Build the structure from its JSON description; custom nodes come back as dicts."""
        from optimagic_lite.space.description import template_of

        return cls(template_of(json.loads(text)))


def _walk(tree: Any, take: Callable[[Any, tuple[str, ...]], None]) -> _Node:
    """Return the structure of a tree, after handing each leaf and its path to a function."""
    places = itertools.count()

    def visit(value: Any, path: tuple[str, ...]) -> _Node:
        if type(value) in (dict, collections.defaultdict):
            children = tuple(visit(v, (*path, str(k))) for k, v in value.items())
            return _DictNode(tuple(value), children, getattr(value, "default_factory", None))
        level = None if is_frame(value) or is_series(value) else one_level(value)
        if level is not None:
            keys, values, treedef = level
            pairs = zip(keys, values, strict=True)
            return _OtherNode(keys, tuple(visit(v, (*path, k)) for k, v in pairs), treedef)
        take(value, path)
        return _LeafNode(next(places))

    return visit(tree, ())


def _read(params: Any, leaves: list[Leaf], templates: list[Any]) -> _Node:
    """Append the leaves of params and return its structure."""

    def take(value: Any, path: tuple[str, ...]) -> None:
        kind = classify(value, "_".join(path))
        shape = (len(value),) if kind in ("series", "frame") else np.shape(value)
        start = leaves[-1].stop if leaves else 0
        leaves.append(Leaf(path, kind, shape, start, start + int(np.prod(shape, dtype=int))))
        # pandas objects carry an index, which the user may change later
        templates.append(value.copy() if kind in ("series", "frame") else value)

    return _walk(params, take)


def flatten_in_order(value: Any) -> tuple[list[Any], Callable[[Iterable[Any]], Any]]:
    """Return the leaves of any tree in the order in which it was written, and the way back.

    JAX's own functions sort the keys of dicts, and a criterion may rely on their order.
    """
    leaves: list[Any] = []
    root = _walk(value, lambda leaf, _: leaves.append(leaf))
    return leaves, lambda values: _build(root, iter(values))


def _split_runs(runs: tuple[Any, ...]) -> Iterator[tuple[bool, tuple[Leaf, ...]]]:
    """Yield runs of floats whole and all other leaves one by one."""
    for is_float, run in runs:
        if is_float:
            yield True, run
        else:
            yield from ((False, (leaf,)) for leaf in run)


def _build(node: _Node, values: Iterator[Any]) -> Any:
    """Rebuild the containers around values in flat order."""
    if isinstance(node, _LeafNode):
        return next(values)
    if all(isinstance(child, _LeafNode) for child in node.children):
        children = list(islice(values, len(node.children)))
    else:
        children = [_build(child, values) for child in node.children]
    if isinstance(node, _DictNode):
        pairs = zip(node.keys, children, strict=True)
        if node.default_factory is not None:
            return collections.defaultdict(node.default_factory, pairs)
        return dict(pairs)
    return node.treedef.unflatten(children)


def _collect(node: _Node, tree: Any, where: str) -> list[Any]:
    """Return the leaves of a tree with exactly the structure of params, in flat order."""
    if isinstance(node, _LeafNode):
        return [tree]
    return [
        leaf
        for key, child, value in _pairs(node, tree, where, partial=False)
        for leaf in _collect(child, value, f"{where}[{key!r}]")
    ]


def _pairs(
    node: _DictNode | _OtherNode, tree: Any, where: str, *, partial: bool
) -> Iterator[tuple[Any, _Node, Any]]:
    """Match the children of a node with those of a tree by key."""
    if isinstance(node, _DictNode):
        if not isinstance(tree, Mapping):
            raise ValueError(f"{where} must be a dict like params, not {type(tree).__name__}.")
        for key in tree:
            if key not in node.keys:
                hint = did_you_mean(key, map(str, node.keys))
                raise ValueError(f"{where} has a key {key!r} that params does not have.{hint}")
        for key, child in zip(node.keys, node.children, strict=True):
            if key in tree:
                yield key, child, tree[key]
            elif not partial:
                raise ValueError(f"{where} lacks the key {key!r} of params.")
        return
    level = one_level(tree)
    if level is None or level[2] != node.treedef:
        raise ValueError(
            f"{where} must be built like params there, with the entries {', '.join(node.keys)}; "
            f"it is {type(tree).__name__} {str(tree)[:60]}."
        )
    yield from zip(node.keys, node.children, level[1], strict=True)


def _span(node: _Node, leaves: tuple[Leaf, ...]) -> tuple[int, int]:
    """Return the first and one after the last flat position below a node."""
    first = _edge(node, 0)
    last = _edge(node, -1)
    if first is None or last is None:
        return 0, 0
    return leaves[first].start, leaves[last].stop


def _edge(node: _Node, side: int) -> int | None:
    if isinstance(node, _LeafNode):
        return node.position
    order: Callable[[Any], Any] = iter if side == 0 else reversed
    return next((p for c in order(node.children) if (p := _edge(c, side)) is not None), None)


def _is_vector(tree: Any, length: int) -> bool:
    """Tell whether a tree is one flat vector of numbers (or None) of the given length."""
    if isinstance(tree, (np.ndarray, jax.Array)):
        return tree.shape == (length,)
    return len(tree) == length and all(v is None or _is_number(v) for v in tree)


def _is_number(value: Any) -> bool:
    """Tell whether a value is one number, or an array of no dimension."""
    if isinstance(value, (np.ndarray, jax.Array)):
        return value.ndim == 0
    return isinstance(value, (int, float, np.number)) and not isinstance(value, bool)


def _as_number(value: Any, where: str) -> float:
    if isinstance(value, (bool, np.bool_, str)):
        raise ValueError(f"{where} is {value!r}, which is not a number.")
    try:
        return float(value)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{where} is {value!r}, which is not a number.") from error
