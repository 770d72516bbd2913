"""Constraints and the parameters that they speak of, and linear ones as rows."""

from __future__ import annotations

import contextlib
import numbers
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from numpy.typing import NDArray

from optimagic_lite.constraints import (
    Constraint,
    IncreasingConstraint,
    LinearConstraint,
    ProbabilityConstraint,
)
from optimagic_lite.exceptions import InvalidConstraintError
from optimagic_lite.space.rows import LinearRows, largest_bound
from optimagic_lite.space.selection import Selection, select_params
from optimagic_lite.space.trees import ParamTree

Array = NDArray[np.float64]
Positions = NDArray[np.intp]


@dataclass(frozen=True)
class Demand:
    """A constraint and the parameters that it speaks of.

    Args:
        constraint: What the user wrote.
        number: Its position among all constraints.
        selections: One, or several for pairwise equality.
    """

    constraint: Constraint
    number: int
    selections: tuple[Selection, ...]

    @property
    def positions(self) -> Positions:
        """Positions of the first selection."""
        return self.selections[0].positions

    @property
    def name(self) -> str:
        """How to call it in messages."""
        return f"constraint {self.number} ({type(self.constraint).__name__})"


def select(constraints: Sequence[Constraint], tree: ParamTree) -> list[Demand]:
    """Find out which parameters constraints speak of.

    Raises:
        InvalidConstraintError: If a selector fails, computes, or selects nothing.
    """
    demands = []
    for number, constraint in enumerate(constraints):
        try:
            selections = tuple(select_params(s, tree) for s in constraint.all_selectors())
        except ValueError as error:
            name = f"constraint {number} ({type(constraint).__name__})"
            raise InvalidConstraintError(f"The selection of {name}: {error}") from error
        demands.append(Demand(constraint, number, selections))
    return demands


def rows_of(demand: Demand, mine: Positions, start: Array) -> LinearRows:
    """State a constraint as linear rows over representatives.

    Args:
        demand: The constraint.
        mine: Numbers of its representatives, in the order of the selection.
        start: Start values of all representatives.
    """
    constraint = demand.constraint
    n = len(mine)
    if isinstance(constraint, ProbabilityConstraint):
        matrix, low, high = np.ones((1, n)), np.ones(1), np.ones(1)
    elif isinstance(constraint, LinearConstraint):
        matrix, low, high = _linear_rows(demand, constraint, n)
    else:
        sign = 1.0 if isinstance(constraint, IncreasingConstraint) else -1.0
        matrix = sign * (np.eye(n)[1:] - np.eye(n)[:-1])
        low, high = np.zeros(n - 1), np.full(n - 1, np.inf)
    unique, inverse = np.unique(mine, return_inverse=True)
    summed = np.zeros((len(matrix), len(unique)))
    np.add.at(summed.T, inverse, matrix.T)
    size = np.maximum(largest_bound(low, high), np.abs(summed) @ np.abs(start[unique]))
    return LinearRows(summed, low, high, unique, (demand.name,) * len(matrix), size)


def _linear_rows(
    demand: Demand, constraint: LinearConstraint, n: int
) -> tuple[Array, Array, Array]:
    weights = _weights(demand, constraint.weights, n)
    k = len(weights)
    sides = []
    for value, default in (
        (constraint.lower_bound if constraint.value is None else constraint.value, -np.inf),
        (constraint.upper_bound if constraint.value is None else constraint.value, np.inf),
    ):
        try:
            entries = list(value) if np.ndim(value) == 1 else [value]
            side = [default if entry is None else float(entry) for entry in entries]
            sides.append(np.array(np.broadcast_to(np.array(side), (k,))))
        except (TypeError, ValueError) as error:
            raise InvalidConstraintError(
                f"A bound or value of {demand.name} must be a number or {k} numbers, not {value!r}."
            ) from error
    if np.isnan(sides).any() or (sides[0] > sides[1]).any():
        raise InvalidConstraintError(f"The bounds of {demand.name} are NaN or crossed.")
    return weights, sides[0], sides[1]


def _weights(demand: Demand, weights: Any, n: int) -> Array:
    """Return weights as a matrix with one row a sum."""
    try:
        out = _matrix_of_weights(demand.selections[0], weights, n)
    except (TypeError, ValueError) as error:
        raise InvalidConstraintError(
            f"The weights of {demand.name} must be a number, one number for each of the {n} "
            f"selected parameters in any form, or a matrix with {n} columns: {error}"
        ) from error
    if not np.isfinite(out).all() or not out.any(axis=1).all():
        raise InvalidConstraintError(
            f"The weights of {demand.name} are not finite, or all zero in a row."
        )
    return out


def _matrix_of_weights(selection: Selection, weights: Any, n: int) -> Array:
    is_table = hasattr(weights, "columns") and "value" not in weights.columns
    if _is_plain(weights) or is_table:
        with contextlib.suppress(ValueError):  # lists of several lengths: a tree
            out = np.array(weights, dtype=np.float64)
            if out.ndim == 0:
                return np.full((1, n), float(out))
            if out.shape == (n,) or (out.ndim == 2 and out.shape[1] == n):
                return out.reshape(-1, n)
    return selection.structure.align(weights, "weights").reshape(1, n)


def _is_plain(weights: Any) -> bool:
    """Tell whether weights are numbers in order, with no keys or index to go by."""
    if isinstance(weights, (list, tuple)):
        return all(_is_plain(w) for w in weights)
    return isinstance(weights, (np.ndarray, jax.Array, np.number, numbers.Real))
