"""Params structures as JSON, so that a log is read without unpickling anything."""

from __future__ import annotations

import collections
from typing import Any

import numpy as np

from optimagic_lite.space.leaves import classify, is_frame, is_series, one_level


def describe(value: Any) -> dict[str, Any]:
    """Return a JSON-ready description of a params tree.

    dict, list, tuple and namedtuple, numbers, arrays, Series and DataFrames are described
    fully (JAX arrays as NumPy ones); any other container becomes a dict of its entries.
    """
    if isinstance(value, dict):
        pairs = [[_plain(key), describe(child)] for key, child in value.items()]
        return {"type": "dict", "items": pairs}
    if is_series(value) or is_frame(value):
        out: dict[str, Any] = {
            "type": "series" if is_series(value) else "frame",
            "index": [_plain(entry) for entry in value.index],
            "index_names": [_plain(name) for name in value.index.names],
        }
        if is_series(value):
            return {**out, "name": _plain(value.name)}
        columns = {str(c): [_plain(v) for v in value[c]] for c in value.columns if c != "value"}
        return {**out, "columns": columns}
    level = one_level(value)
    if level is None:
        kind = classify(value, "")
        return {"type": "float"} if kind == "float" else {"type": "array", "shape": np.shape(value)}
    keys, children, _ = level
    described = [describe(child) for child in children]
    if isinstance(value, list):
        return {"type": "list", "items": described}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        name = type(value).__name__
        return {"type": "namedtuple", "name": name, "fields": list(keys), "items": described}
    if isinstance(value, tuple):
        return {"type": "tuple", "items": described}
    if value is None:
        return {"type": "none"}
    return {"type": "dict", "items": [list(pair) for pair in zip(keys, described, strict=True)]}


def template_of(description: dict[str, Any]) -> Any:
    """Build a params tree of zeros from its description.

    Raises:
        ValueError: If the description is not one that ``describe`` writes.
    """
    kind = description["type"]
    if kind == "none":
        return None
    if kind == "float":
        return 0.0
    if kind == "array":
        return np.zeros(tuple(description["shape"]))
    if kind == "dict":
        return {_key(key): template_of(child) for key, child in description["items"]}
    if kind in ("list", "tuple", "namedtuple"):
        items = [template_of(child) for child in description["items"]]
        if kind == "list":
            return items
        if kind == "tuple":
            return tuple(items)
        fields = description["fields"]
        return collections.namedtuple(description["name"], fields)(*items)
    if kind in ("series", "frame"):
        return _pandas_template(description)
    raise ValueError(f"{kind!r} is no kind of params structure.")


def _pandas_template(description: dict[str, Any]) -> Any:
    import pandas as pd

    names = [_key(name) for name in description["index_names"]]
    entries = [_key(entry) for entry in description["index"]]
    if len(names) > 1:
        index: Any = pd.MultiIndex.from_tuples(entries, names=names)
    else:
        index = pd.Index(entries, name=names[0])
    if description["type"] == "series":
        return pd.Series(np.zeros(len(index)), index=index, name=_key(description["name"]))
    columns = {"value": np.zeros(len(index)), **description["columns"]}
    return pd.DataFrame(columns, index=index)


def _plain(value: Any) -> Any:
    """Return a key or label as JSON knows it; what it does not know becomes its text."""
    if isinstance(value, tuple):
        return [_plain(v) for v in value]
    if isinstance(value, np.generic):
        value = value.item()
    return value if value is None or isinstance(value, (str, int, float, bool)) else str(value)


def _key(value: Any) -> Any:
    return tuple(_key(v) for v in value) if isinstance(value, list) else value
