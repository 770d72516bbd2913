"""Constraints that are written as dicts, and the objects that replace them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from optimagic_lite.constraints import CLASSES, FIELD_NAMES
from optimagic_lite.deprecations.names import Advice, Call, shown


def about_constraints(call: Call) -> Advice:
    """Return what to write instead of dicts; they are read where all constraints are.

    Args:
        call: Arguments of ``minimize`` by name.
    """
    given = call.get("constraints")
    params = call.get("params") if call.get("params") is not None else call.get("x0")
    dicts = [given] if isinstance(given, Mapping) else given
    if not isinstance(dicts, (list, tuple)):
        return []
    known = [c for c in dicts if isinstance(c, Mapping) and _is_known(c)]
    return [f"constraints: {_as_object(constraint, params)}" for constraint in known]


def _is_known(constraint: Mapping[str, Any]) -> bool:
    """Tell whether a dict names a kind and selects; what is wrong with others is said elsewhere."""
    is_refused = constraint.get("type") == "fixed" and "value" in constraint
    is_kind = constraint.get("type") in list(CLASSES)
    return is_kind and not is_refused and not _SELECTED.keys().isdisjoint(constraint)


def _as_object(constraint: Mapping[str, Any], params: Any) -> str:
    """Return how a dict and the object that replaces it are written."""
    selecting = {key: constraint[key] for key in _SELECTED if key in constraint}
    new = [_SELECTED[key](value, params) for key, value in selecting.items()]
    others = [key for key in constraint if key not in selecting and key != "type"]
    new += [f"{FIELD_NAMES.get(key, key)}={shown(constraint[key])}" for key in others]
    entries = [f"{key!r}: {_literal(constraint[key])}" for key in ("type", *selecting, *others)]
    name = CLASSES[constraint["type"]].__name__
    return f"{{{', '.join(entries)}}}  ->  om.{name}({', '.join(new)})"


def _literal(value: Any) -> str:
    """Return a selection as one would write it, if that is short, else dots."""
    text = repr(value)
    is_plain = isinstance(value, (str, int, float, list, tuple))
    return text if is_plain and len(text) <= 60 else "..."


def _by_loc(loc: Any, params: Any) -> str:
    """Return the text of a function that selects what ``loc`` does."""
    text = _literal(loc)
    if hasattr(params, "columns"):
        return f'lambda params: params.loc[{text}, "value"]'
    if hasattr(params, "loc"):
        return f"lambda params: params.loc[{text}]"
    if isinstance(loc, list) and isinstance(params, (Mapping, list, tuple)):
        return f"lambda params: [{', '.join(f'params[{key!r}]' for key in loc)}]"
    return f"lambda params: params[{f'np.array({text})' if isinstance(loc, list) else text}]"


def _by_query(query: Any, _: Any) -> str:
    return f'lambda params: params.query({query!r})["value"]'


def _each(one: Callable[[Any, Any], str]) -> Callable[[Any, Any], str]:
    def several(values: Any, params: Any) -> str:
        return f"selectors=[{', '.join(one(value, params) for value in values)}]"

    return several


def _dots(_: Any, __: Any) -> str:
    return "..."


_SELECTED: dict[str, Callable[[Any, Any], str]] = {
    "selector": _dots,
    "selectors": _dots,
    "loc": _by_loc,
    "locs": _each(_by_loc),
    "query": _by_query,
    "queries": _each(_by_query),
}
