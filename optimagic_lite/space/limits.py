"""Bounds and constraints in words of JSON, so that two problems can be compared."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import numpy as np

from optimagic_lite.constraints import Constraint, FixedConstraint
from optimagic_lite.space.bounds import FlatBounds
from optimagic_lite.space.demands import Demand
from optimagic_lite.space.make import read_limits


def describe_limits(params: Any, bounds: Any, constraints: Any) -> dict[str, Any]:
    """Return what limits params, by the names of parameters.

    Args:
        params: Start params.
        bounds: See ``minimize``.
        constraints: See ``minimize``.

    Returns:
        "bounds": for each side the finite ones, by name. "constraints": the kind of each, the
        parameters that it speaks of, and its numbers; fixed parameters with their values.
    """
    tree, flat_bounds, demands = read_limits(params, bounds, constraints)
    start = tree.start_values()
    return {
        "bounds": _described_bounds(flat_bounds, tree.names),
        "constraints": [_described(demand, tree.names, start) for demand in demands],
    }


def _described_bounds(bounds: FlatBounds, names: list[str]) -> dict[str, dict[str, float]]:
    sides = {field.name: getattr(bounds, field.name) for field in fields(bounds)}
    return {
        side: {names[i]: float(values[i]) for i in np.flatnonzero(np.isfinite(values))}
        for side, values in sides.items()
    }


def _described(demand: Demand, names: list[str], start: np.ndarray[Any, Any]) -> dict[str, Any]:
    constraint = demand.constraint
    chosen = [[names[i] for i in selection.positions] for selection in demand.selections]
    out: dict[str, Any] = {"type": constraint.type, "params": chosen}
    if isinstance(constraint, FixedConstraint):
        out["values"] = start[demand.positions].tolist()
    return out | {name: _plain(value) for name, value in _options(constraint).items()}


def _options(constraint: Constraint) -> dict[str, Any]:
    """Return the fields of a constraint that are set, apart from its selectors."""
    found = {field.name: getattr(constraint, field.name) for field in fields(constraint)}
    return {
        name: value
        for name, value in found.items()
        if name not in ("selector", "selectors") and value is not None
    }


def _plain(value: Any) -> Any:
    """Return functions by their names: addresses in memory differ from process to process."""
    return getattr(value, "__qualname__", type(value).__qualname__) if callable(value) else value
