"""Params that fulfil bounds and constraints, where those of the user are not known yet."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from optimagic_lite.constraints import (
    EqualityConstraint,
    FixedConstraint,
    FlatCovConstraint,
    FlatSDCorrConstraint,
    NonlinearConstraint,
    PairwiseEqualityConstraint,
)
from optimagic_lite.exceptions import InvalidConstraintError
from optimagic_lite.space.bounds import FlatBounds, read_bounds
from optimagic_lite.space.demands import Demand, rows_of
from optimagic_lite.space.make import read_demands
from optimagic_lite.space.trees import ParamTree, flatten_in_order
from optimagic_lite.utilities import number_of_triangular_elements_to_dimension

Array = NDArray[np.float64]


def make_feasible(params: Any, bounds: Any, constraints: Any) -> Any:
    """Return params with the structure of others that fulfil bounds and constraints.

    Args:
        params: A tree of arrays and numbers, traced or not, of which only shapes count.
        bounds: See ``minimize``.
        constraints: See ``minimize``; nonlinear ones are left out.

    Raises:
        InvalidConstraintError: If there are none.
    """
    leaves, rebuild = flatten_in_order(params)
    tree = ParamTree(rebuild(np.zeros(np.shape(leaf)) for leaf in leaves))
    flat_bounds = read_bounds(bounds, tree, start=None)
    demands = read_demands(constraints, tree)
    return tree.to_params(_feasible(flat_bounds, demands))


def _feasible(bounds: FlatBounds, demands: list[Demand]) -> Array:
    lower, upper = bounds.lower.copy(), bounds.upper.copy()
    rows, low, high = [np.zeros((0, len(lower)))], [np.zeros(0)], [np.zeros(0)]

    def add(matrix: Array, at_least: Array, at_most: Array) -> None:
        rows.append(matrix)
        low.append(at_least)
        high.append(at_most)

    for demand in demands:
        constraint = demand.constraint
        if isinstance(constraint, (FixedConstraint, NonlinearConstraint)):
            continue
        if isinstance(constraint, (FlatCovConstraint, FlatSDCorrConstraint)):
            _make_diagonal(demand, lower, upper)
        elif isinstance(constraint, (EqualityConstraint, PairwiseEqualityConstraint)):
            matrix = _differences(demand, len(lower))
            add(matrix, np.zeros(len(matrix)), np.zeros(len(matrix)))
        else:
            found = rows_of(demand, demand.positions, np.zeros(len(lower)))
            matrix = np.zeros((len(found.lower), len(lower)))
            matrix[:, found.members] = found.matrix
            add(matrix, found.lower, found.upper)
            if constraint.type == "probability":
                lower[found.members] = np.maximum(lower[found.members], 0.0)
    start = np.clip(np.zeros(len(lower)), lower, upper)
    sides = (np.concatenate(v) for v in (rows, low, high))
    return _closest(start, lower, upper, *sides)


def _make_diagonal(demand: Demand, lower: Array, upper: Array) -> None:
    """Fix a matrix at a diagonal one."""
    mine, constraint = demand.positions, demand.constraint
    dim = number_of_triangular_elements_to_dimension(len(mine))
    is_cov = isinstance(constraint, FlatCovConstraint)
    scales = mine[np.cumsum(np.arange(1, dim + 1)) - 1] if is_cov else mine[:dim]
    values = np.clip(np.ones(dim), lower[scales], upper[scales])
    lower[mine] = upper[mine] = 0.0
    lower[scales] = upper[scales] = values


def _differences(demand: Demand, n: int) -> Array:
    """Return rows of differences that are to be zero."""
    first = demand.positions
    others = [s.positions for s in demand.selections[1:]] or [first[:1].repeat(len(first))]
    matrices = [np.eye(n)[first] - np.eye(n)[other] for other in others if len(other) == len(first)]
    return np.concatenate([np.zeros((0, n)), *matrices])


def _closest(
    start: Array, lower: Array, upper: Array, rows: Array, low: Array, high: Array
) -> Array:
    """Return the point of a polytope that is closest to another one, entry by entry summed up."""
    from scipy import optimize

    if not len(rows):
        return start
    n = len(start)
    # |x - start| <= t
    distances = np.block([[np.eye(n), -np.eye(n)], [-np.eye(n), -np.eye(n)]])
    constraints = [
        optimize.LinearConstraint(np.hstack([rows, np.zeros_like(rows)]), low, high),
        optimize.LinearConstraint(distances, ub=np.concatenate([start, -start])),
    ]
    bounds = optimize.Bounds(
        np.concatenate([lower, np.zeros(n)]), np.concatenate([upper, np.full(n, np.inf)])
    )
    cost = np.concatenate([np.zeros(n), np.ones(n)])
    found = optimize.milp(cost, constraints=constraints, bounds=bounds)
    if found.x is None:
        raise InvalidConstraintError(
            f"No params fulfil all constraints and bounds: {found.message}"
        )
    return np.asarray(np.clip(found.x[:n], lower, upper))
