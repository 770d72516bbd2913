"""Leaves of a params tree: which are allowed, how they become numbers and come back."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NoReturn, TypeGuard

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from optimagic_lite.exceptions import InvalidParamsError, did_you_mean

if TYPE_CHECKING:
    import pandas as pd

LeafKind = Literal["float", "numpy_scalar", "numpy", "jax", "series", "frame"]

BOUND_COLUMNS = ("lower_bound", "upper_bound", "soft_lower_bound", "soft_upper_bound")


@dataclass(frozen=True)
class Leaf:
    """One leaf of params and its place in the flat vector.

    Args:
        path: Keys from the root to the leaf, as strings; empty for params that are one leaf.
        kind: What the leaf is rebuilt as.
        shape: Shape of the numbers; () for scalars, (n_rows,) for pandas objects.
        start: First position in the flat vector.
        stop: One after the last position.
    """

    path: tuple[str, ...]
    kind: LeafKind
    shape: tuple[int, ...]
    start: int
    stop: int

    @property
    def name(self) -> str:
        """The path in one word; empty for params that are one leaf."""
        return "_".join(self.path)


def is_series(obj: object) -> TypeGuard[pd.Series[Any]]:
    """Tell whether an object is a pandas Series, without importing pandas."""
    return _is_pandas(obj, "Series")


def is_frame(obj: object) -> TypeGuard[pd.DataFrame]:
    """Tell whether an object is a pandas DataFrame, without importing pandas."""
    return _is_pandas(obj, "DataFrame")


def _is_pandas(obj: object, class_name: str) -> bool:
    return any(
        c.__name__ == class_name and c.__module__.startswith("pandas") for c in type(obj).__mro__
    )


def one_level(value: Any) -> tuple[tuple[str, ...], list[Any], Any] | None:
    """Open one level of a container that JAX knows; None for a leaf.

    Returns:
        Keys as strings, children, and the structure of this level.
    """
    pairs, treedef = jax.tree_util.tree_flatten_with_path(value, is_leaf=lambda v: v is not value)
    if len(pairs) == 1 and pairs[0][0] == ():
        return None
    return tuple(_key_name(path[0]) for path, _ in pairs), [child for _, child in pairs], treedef


def _key_name(key: Any) -> str:
    for attribute in ("key", "idx", "name"):
        if hasattr(key, attribute):
            return str(getattr(key, attribute))
    return str(key)


def classify(value: Any, name: str) -> LeafKind:
    """Return the kind of a leaf.

    Args:
        value: The leaf.
        name: How to call it in messages.

    Raises:
        InvalidParamsError: If the leaf is no real number and no container of real numbers.
    """
    where = f"params entry {name!r}" if name else "params"
    if is_frame(value):
        if "value" not in value.columns:
            raise InvalidParamsError(
                f"{where} is a DataFrame without a 'value' column (it has "
                f"{', '.join(map(repr, value.columns))}). Put the start values into a column "
                "named 'value'." + did_you_mean("value", [str(c) for c in value.columns])
            )
        _check_dtype(value["value"].dtype, f"column 'value' of {where}")
        return "frame"
    if is_series(value):
        _check_dtype(value.dtype, where)
        return "series"
    if isinstance(value, (bool, np.bool_)):
        _refuse(where, "a bool")
    if isinstance(value, (int, float)) and not isinstance(value, np.generic):
        return "float"
    if isinstance(value, (np.ndarray, np.generic, jax.Array)):
        _check_dtype(value.dtype, where)
        if isinstance(value, jax.Array):
            return "jax"
        return "numpy" if isinstance(value, np.ndarray) else "numpy_scalar"
    return _refuse(where, f"of type {type(value).__name__}")


def _check_dtype(dtype: Any, where: str) -> None:
    # pandas extension dtypes are no NumPy dtypes; their kind says enough
    kind = getattr(dtype, "kind", "O")
    if kind in "iuf" or (kind == "V" and jnp.issubdtype(dtype, jnp.floating)):
        return
    _refuse(where, f"of dtype {dtype}")


def _refuse(where: str, what: str) -> NoReturn:
    raise InvalidParamsError(
        f"{where} is {what}, and only real numbers can be optimised. Numbers, NumPy and JAX "
        "arrays, pandas Series and DataFrames with a 'value' column are allowed, in any nesting. "
        "Pass everything else that the criterion needs through fun_kwargs."
    )


def numbers_of(value: Any, kind: LeafKind) -> NDArray[np.float64]:
    """Return a copy of the numbers of a leaf as a flat float64 vector."""
    if kind == "frame":
        value = value["value"]
    if kind in ("frame", "series"):
        value = value.to_numpy(dtype=np.float64, na_value=np.nan)
    return np.array(value, dtype=np.float64).reshape(-1)


def entry_names(leaf: Leaf, template: Any, separator: str = "_") -> list[str]:
    """Return one name for each number of a leaf.

    Args:
        leaf: The leaf.
        template: The object that the user gave for it.
        separator: What stands between the keys.
    """
    if leaf.kind in ("series", "frame"):
        entries: list[tuple[Any, ...]] = [
            i if isinstance(i, tuple) else (i,) for i in template.index
        ]
    else:
        entries = list(itertools.product(*map(range, leaf.shape)))
    return [separator.join([*leaf.path, *map(str, entry)]) or "0" for entry in entries]


def build(leaf: Leaf, template: Any, numbers: NDArray[np.float64]) -> Any:
    """Rebuild a leaf that is no Python float from its own copy of the numbers.

    Args:
        leaf: The leaf.
        template: The object that the user gave for it.
        numbers: Shape (leaf.stop - leaf.start,). The result may share its memory.
    """
    if leaf.kind == "numpy":
        return numbers.reshape(leaf.shape)
    if leaf.kind == "numpy_scalar":
        return numbers[0]
    if leaf.kind == "jax":
        with jax.enable_x64(True):
            return jnp.asarray(numbers.reshape(leaf.shape))
    if leaf.kind == "series":
        return type(template)(numbers, index=template.index, name=template.name)
    return template.assign(value=numbers)


def align_numbers(value: Any, leaf: Leaf, template: Any, what: str) -> NDArray[np.float64]:
    """Return the numbers of a leaf of a tree that is aligned with params, such as a gradient.

    pandas objects are aligned by index, everything else by position.

    Args:
        value: The leaf of the other tree.
        leaf: The leaf of params.
        template: The object that the user gave as this leaf of params.
        what: How to call the tree in messages.

    Raises:
        ValueError: If shapes or indices do not fit; the text can be shown to the user.
    """
    where = f"entry {leaf.name!r} of {what}" if leaf.name else what
    if is_frame(value):
        if "value" not in value.columns:
            raise ValueError(f"{where} is a DataFrame without a 'value' column.")
        value = value["value"]
    if is_series(value):
        if leaf.kind in ("series", "frame"):
            if len(value) != len(template) or not value.index.isin(template.index).all():
                raise ValueError(f"the index of {where} is not the index of params.")
            value = value.reindex(template.index)
        value = value.to_numpy(dtype=np.float64, na_value=np.nan)
    try:
        if np.iscomplexobj(value):
            raise TypeError("some are complex")
        if getattr(value, "dtype", None) == np.bool_ or isinstance(value, bool):
            raise TypeError("some are booleans")
        array = np.array(value, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{where} does not consist of real numbers: {error}") from error
    if array.shape != leaf.shape and (array.size != 1 or leaf.stop - leaf.start != 1):
        raise ValueError(
            f"{where} has shape {array.shape}, but params has shape {leaf.shape} there."
        )
    return array.reshape(-1)


def align_block(
    value: Any, row: tuple[Leaf, Any], column: tuple[Leaf, Any], where: str
) -> NDArray[np.float64]:
    """Return a block of a matrix of derivatives: of one leaf with respect to another.

    Args:
        value: Of the shape of the first leaf, followed by that of the second. pandas objects are
            aligned by index, everything else by position.
        row: The first leaf, and the object that the user gave as this leaf, or None.
        column: The second leaf, likewise.
        where: How to call the block in messages.

    Returns:
        Shape (entries of the first leaf, entries of the second).

    Raises:
        ValueError: If shapes or indices do not fit; the text can be shown to the user.
    """
    outer, inner = row[0], column[0]
    n_rows, n_columns = outer.stop - outer.start, inner.stop - inner.start
    if is_frame(value):
        value = _ordered(_ordered(value, column, where, axis=1), row, where, axis=0)
    elif is_series(value) and n_rows == 1:
        return align_numbers(value, *column, where)[None]
    elif is_series(value):
        return align_numbers(value, *row, where)[:, None]
    try:
        if np.iscomplexobj(value):
            raise TypeError("some are complex")
        array = np.array(value, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{where} does not consist of real numbers: {error}") from error
    expected = (*outer.shape, *inner.shape)
    shapes = {expected, (n_rows, *inner.shape), (n_rows, n_columns)}
    if n_rows == 1:
        shapes |= {inner.shape, (n_columns,)}
    if n_columns == 1:
        shapes |= {outer.shape, (n_rows,)}
    if array.shape not in shapes:
        raise ValueError(f"{where} has shape {array.shape}, not {expected}.")
    return array.reshape(n_rows, n_columns)


def _ordered(value: Any, side: tuple[Leaf, Any], where: str, axis: int) -> Any:
    """Return a DataFrame with one axis in the order of a leaf that is a pandas object."""
    leaf, template = side
    if leaf.kind not in ("series", "frame") or template is None:
        return value
    labels = value.axes[axis]
    if len(labels) != len(template) or not labels.isin(template.index).all():
        raise ValueError(
            f"the {'columns' if axis else 'index'} of {where} are not those of params."
        )
    return value.reindex(template.index, axis=axis)
