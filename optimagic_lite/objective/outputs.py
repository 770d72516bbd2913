"""Trees that functions return, and trees of their derivatives."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from optimagic_lite.exceptions import InvalidFunctionError, InvalidParamsError
from optimagic_lite.objective.exact import ExactVectors
from optimagic_lite.objective.kinds import plain_value
from optimagic_lite.objective.tracing import trace
from optimagic_lite.space.space import Space
from optimagic_lite.space.trees import ParamTree, flatten_in_order

Array = NDArray[np.float64]


def output_tree(value: Any, name: str = "func") -> ParamTree:
    """Return the structure of what a function returns.

    Args:
        value: What it returned.
        name: How to call the function in messages.

    Raises:
        InvalidFunctionError: If that is not made of real numbers.
    """
    try:
        return ParamTree(value)
    except InvalidParamsError as error:
        raise InvalidFunctionError(
            f"{name} must return real numbers: a number, an array, a pandas object (a DataFrame "
            f"with a column 'value') or a tree of them, not {type(value).__name__}"
            f"{'' if np.ndim(value) else f' {value!r}'[:60]}."
        ) from error


def trace_vector(
    func: Callable[..., Any],
    kwargs: dict[str, Any],
    space: Space,
    unpacker: Callable[[Any], Any] = lambda raw: raw,
) -> tuple[ExactVectors, ParamTree]:
    """Trace a function that returns any tree; returns what JAX made of it, and that structure.

    Args:
        func: Called as ``func(params, **kwargs)``.
        kwargs: Its further arguments.
        space: Says how to build params.
        unpacker: Returns the part that is differentiated.

    Raises:
        NotTraceableError: If JAX cannot trace it.
    """
    outer: list[Any] = []

    def as_array(raw: Any) -> jax.Array:
        leaves, rebuild = flatten_in_order(plain_value(unpacker(raw)))
        arrays = [jnp.asarray(leaf) for leaf in leaves]
        outer[:] = [rebuild([np.zeros(a.shape) for a in arrays])]
        return jnp.concatenate([a.reshape(-1).astype(jnp.float64) for a in arrays])

    program = trace(func, kwargs, space, 1.0, check_purity=True, as_array=as_array)
    return ExactVectors(program), ParamTree(outer[0])


def nested(array: Array, trees: Sequence[ParamTree], axes: tuple[Any, ...] = ()) -> Any:
    """Return an array with one axis a tree as a tree of trees of blocks.

    Args:
        array: The first axes, of which ``axes`` tells, are those of one leaf each.
        trees: Structure of each axis.
        axes: Leaf and template of the axes that are done.
    """
    if len(axes) == len(trees):
        return _block(array, axes)
    tree = trees[len(axes)]
    templates, rebuild = flatten_in_order(tree.template)
    before = (slice(None),) * len(axes)
    return rebuild(
        [
            nested(array[(*before, slice(leaf.start, leaf.stop))], trees, (*axes, (leaf, template)))
            for leaf, template in zip(tree.leaves, templates, strict=True)
        ]
    )


def _block(array: Array, axes: tuple[Any, ...]) -> Any:
    """Return a block as an array, or as a pandas object if an axis has labels and it fits."""
    labels: list[Any] = []
    for leaf, template in axes:
        labels += [template.index] if leaf.kind in ("series", "frame") else [None] * len(leaf.shape)
    block = np.array(array).reshape([n for leaf, _ in axes for n in leaf.shape])
    if block.ndim > 2 or all(label is None for label in labels):
        return block
    import pandas as pd

    return pd.Series(block, *labels) if block.ndim == 1 else pd.DataFrame(block, *labels)
