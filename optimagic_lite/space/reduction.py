"""From constraints to index maps, bijections and rows: which numbers are free, and how.

1. Equal parameters become one representative; fixed ones keep their start value.
2. Constraints that share a free representative form a component.
3. A component becomes a bijection where there is one, and else rows for algorithms that take
   linear constraints natively.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from optimagic_lite.constraints import (
    DecreasingConstraint,
    EqualityConstraint,
    FixedConstraint,
    FlatCovConstraint,
    FlatSDCorrConstraint,
    IncreasingConstraint,
    LinearConstraint,
    PairwiseEqualityConstraint,
    ProbabilityConstraint,
)
from optimagic_lite.exceptions import InvalidConstraintError, InvalidParamsError, listed
from optimagic_lite.space.bounds import FlatBounds
from optimagic_lite.space.demands import Demand, rows_of
from optimagic_lite.space.matrices import Cholesky, Spherical
from optimagic_lite.space.order import Increasing
from optimagic_lite.space.rows import (
    LinearRows,
    drop_fixed,
    find_bijection,
    simplify,
    stack,
)
from optimagic_lite.space.transforms import Transform
from optimagic_lite.space.trees import ParamTree
from optimagic_lite.utilities import number_of_triangular_elements_to_dimension

Array = NDArray[np.float64]
Positions = NDArray[np.intp]

# violations of the start up to this, relative to the size of the numbers, count as rounding
_TOLERANCE = 1e-6
# and so do those up to this, whatever the size
_NOISE = 1e-12

_MATRICES = (FlatCovConstraint, FlatSDCorrConstraint)
_LINEAR = (ProbabilityConstraint, LinearConstraint, IncreasingConstraint, DecreasingConstraint)


@dataclass(frozen=True)
class Block:
    """A bijection and the representatives that it gives, in the order of its outputs.

    Args:
        transform: The bijection.
        members: Numbers of the representatives, shape (n_out,).
        source: How to call the constraints in messages.
    """

    transform: Transform
    members: Positions
    source: str


@dataclass(frozen=True)
class Reduction:
    """What constraints leave free.

    Args:
        representative: For each parameter the number of its representative, shape (n_params,).
        start: Start values of representatives, shape (n_reps,).
        lower: Lower bounds of representatives; equal to the upper ones for fixed ones.
        upper: Upper bounds of representatives.
        blocks: Bijections over disjoint representatives.
        rows: Linear constraints on representatives that no bijection carries.
    """

    representative: Positions
    start: Array
    lower: Array
    upper: Array
    blocks: tuple[Block, ...]
    rows: tuple[LinearRows, ...]


def reduce(demands: list[Demand], tree: ParamTree, start: Array, bounds: FlatBounds) -> Reduction:
    """Work out what is free.

    Args:
        demands: All constraints but nonlinear ones.
        tree: The structure of params.
        start: Start values, shape (n_params,). It is clipped to the bounds in the end.
        bounds: Bounds on params.

    Raises:
        InvalidConstraintError: If constraints contradict each other, the bounds or fixed values.
        InvalidParamsError: If the start violates a constraint.
    """
    representative, start, lower, upper = _merge(demands, tree, start, bounds)
    names = _representative_names(representative, tree)
    members = {d.number: representative[d.positions] for d in demands}
    matrices = [d for d in demands if isinstance(d.constraint, _MATRICES)]
    others = [d for d in demands if isinstance(d.constraint, _LINEAR)]
    _refuse_overlaps(matrices, others, members, lower, upper)
    found = [_matrix_block(d, members[d.number], start, lower, upper, names) for d in matrices]
    blocks = [block for block in found if block is not None]
    for demand in others:
        if isinstance(demand.constraint, ProbabilityConstraint):
            floor = np.maximum(lower[members[demand.number]], 0.0)
            _check_floor(demand, members[demand.number], start, names)
            lower[members[demand.number]] = floor
    native = []
    for component in _components(others, members, lower, upper):
        carried = _carry(component, members, start, lower, upper, names)
        if isinstance(carried, Block):
            blocks.append(carried)
        elif carried is not None:
            native.append(carried)
    start = np.clip(start, lower, upper)
    return Reduction(representative, start, lower, upper, tuple(blocks), tuple(native))


# ---- step 1: representatives -----------------------------------------------------------------


def _merge(
    demands: list[Demand], tree: ParamTree, start: Array, bounds: FlatBounds
) -> tuple[Positions, Array, Array, Array]:
    """Merge equal parameters, and give fixed ones bounds that coincide."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    n = len(start)
    lower, upper = bounds.lower.copy(), bounds.upper.copy()
    edges: list[tuple[Positions, Positions]] = []
    fixed = np.zeros(n, dtype=bool)
    for demand in demands:
        first = demand.positions
        if isinstance(demand.constraint, FixedConstraint):
            fixed[first] = True
        elif isinstance(demand.constraint, EqualityConstraint):
            edges.append((first[:-1], first[1:]))
            _check_equal(demand, [first[:1].repeat(len(first)), first], start, tree)
        elif isinstance(demand.constraint, PairwiseEqualityConstraint):
            sizes = [len(s.positions) for s in demand.selections]
            if len(set(sizes)) > 1:
                raise InvalidConstraintError(
                    f"The selectors of {demand.name} select different numbers of parameters: "
                    f"{', '.join(map(str, sizes))}."
                )
            for other in (s.positions for s in demand.selections[1:]):
                edges.append((first, other))
                _check_equal(demand, [first, other], start, tree)
    lower[fixed], upper[fixed] = start[fixed], start[fixed]
    if not edges:
        return np.arange(n), start.copy(), lower, upper
    left, right = (np.concatenate(side) for side in zip(*edges, strict=True))
    graph = coo_array((np.ones(len(left)), (left, right)), shape=(n, n))
    n_reps, labels = connected_components(graph, directed=False)
    # representatives stand in the order of their first member
    firsts = np.full(n_reps, n)
    np.minimum.at(firsts, labels, np.arange(n))
    representative = np.argsort(np.argsort(firsts))[labels]
    rep_lower, rep_upper = np.full(n_reps, -np.inf), np.full(n_reps, np.inf)
    np.maximum.at(rep_lower, representative, lower)
    np.minimum.at(rep_upper, representative, upper)
    rep_start = start[np.sort(firsts)]
    is_fixed = np.zeros(n_reps, dtype=bool)
    is_fixed[representative[fixed]] = True
    fixed_value = np.empty(n_reps)
    fixed_value[representative[fixed]] = start[fixed]
    rep_start = np.where(is_fixed, fixed_value, rep_start)
    rep_lower = np.where(is_fixed, rep_start, rep_lower)
    rep_upper = np.where(is_fixed, rep_start, rep_upper)
    crossed = np.flatnonzero(rep_lower > rep_upper)
    if len(crossed):
        members = [tree.names[i] for i in np.flatnonzero(representative == crossed[0])]
        raise InvalidConstraintError(
            f"The parameters {', '.join(members[:10])} are to be equal, but their bounds leave no "
            f"common value."
        )
    return representative, rep_start, rep_lower, rep_upper


def _check_equal(demand: Demand, pair: list[Positions], start: Array, tree: ParamTree) -> None:
    left, right = (start[p] for p in pair)
    gap = np.abs(left - right)
    bad = np.flatnonzero(gap > _TOLERANCE * np.maximum(np.abs(left), np.abs(right)) + _NOISE)
    if len(bad):
        lines = [
            f"  {tree.names[pair[0][i]]} = {left[i]:.10g} and {tree.names[pair[1][i]]} = "
            f"{right[i]:.10g} differ by {gap[i]:.3g}"
            for i in bad[:10]
        ]
        raise InvalidParamsError(f"The start violates {demand.name}:\n" + "\n".join(lines))


def _representative_names(representative: Positions, tree: ParamTree) -> list[str]:
    _, firsts = np.unique(representative, return_index=True)
    return [tree.names[i] for i in firsts]


def _refuse_overlaps(
    matrices: list[Demand],
    others: list[Demand],
    members: dict[int, Positions],
    lower: Array,
    upper: Array,
) -> None:
    """Refuse covariance constraints that share parameters with others or among themselves."""
    for demand in matrices:
        mine = members[demand.number]
        if len(set(mine.tolist())) < len(mine):
            raise InvalidConstraintError(
                f"{demand.name} cannot be combined with equality among its parameters: no "
                "bijection keeps both."
            )
        for other in [*matrices, *others]:
            theirs = members[other.number]
            shared = np.intersect1d(mine, theirs)
            if other is not demand and (lower[shared] < upper[shared]).any():
                raise InvalidConstraintError(
                    f"{demand.name} and {other.name} share parameters: no bijection keeps both. "
                    "A NonlinearConstraint can state one of them."
                )


# ---- step 2: components ----------------------------------------------------------------------


def _components(
    demands: list[Demand], members: dict[int, Positions], lower: Array, upper: Array
) -> list[list[Demand]]:
    """Return the groups of constraints that are connected by free representatives."""
    groups: list[tuple[set[int], list[Demand]]] = []
    for demand in demands:
        mine = members[demand.number]
        free = set(mine[lower[mine] < upper[mine]].tolist())
        together = [g for g in groups if g[0] & free]
        groups = [g for g in groups if not g[0] & free]
        merged = free.union(*(g[0] for g in together))
        groups.append((merged, [*(d for g in together for d in g[1]), demand]))
    return [sorted(group, key=lambda d: d.number) for _, group in groups]


def _carry(
    component: list[Demand],
    members: dict[int, Positions],
    start: Array,
    lower: Array,
    upper: Array,
    names: list[str],
) -> Block | LinearRows | None:
    """Return a bijection for a component, or its rows, or nothing if bounds say it all."""
    if len(component) == 1:
        block = _ordered_block(component[0], members, start, lower, upper, names)
        if block is not None:
            return block
    parts = [rows_of(d, members[d.number], start) for d in component]
    for part, demand in zip(parts, component, strict=True):
        _check_rows(demand, part, start, names)
    everyone = np.unique(np.concatenate([part.members for part in parts]))
    rows = stack(parts, everyone)
    # bounds found in rows may fix further members, and then rows have fewer entries
    while True:
        rows = simplify(drop_fixed(rows, lower, upper), lower, upper)
        if (lower[rows.members] < upper[rows.members]).all():
            break
    rows = rows.without_unused_members()
    if not len(rows.lower):
        return None
    transform = find_bijection(rows, lower[rows.members], upper[rows.members])
    return rows if transform is None else Block(transform, rows.members, rows.name)


def _ordered_block(
    demand: Demand,
    members: dict[int, Positions],
    start: Array,
    lower: Array,
    upper: Array,
    names: list[str],
) -> Block | None:
    """Return the bijection of a lone increasing or decreasing constraint."""
    if not isinstance(demand.constraint, (IncreasingConstraint, DecreasingConstraint)):
        return None
    mine = members[demand.number]
    mine = mine if isinstance(demand.constraint, IncreasingConstraint) else mine[::-1]
    # neighbours that are equal count once
    mine = mine[np.append(True, mine[1:] != mine[:-1])]
    if len(np.unique(mine)) < len(mine):
        return None
    values = start[mine]
    fall = np.maximum(values[:-1] - values[1:], 0.0)
    size = np.maximum(np.abs(values[1:]), np.abs(values[:-1]))
    _check_violation(demand, fall, size, mine[1:], names)
    low, high = np.maximum.accumulate(lower[mine]), np.minimum.accumulate(upper[mine][::-1])[::-1]
    if (low > high).any():
        bad = int(np.flatnonzero(low > high)[0])
        raise InvalidConstraintError(
            f"{demand.name} contradicts the bounds or fixed values: {names[mine[bad]]} would have "
            f"to be at least {low[bad]:g} and at most {high[bad]:g}."
        )
    return Block(Increasing(low, high), mine, demand.name)


def _matrix_block(
    demand: Demand, mine: Positions, start: Array, lower: Array, upper: Array, names: list[str]
) -> Block | None:
    """Return the bijection of a covariance or correlation constraint; None if all is fixed."""
    constraint = demand.constraint
    assert isinstance(constraint, _MATRICES)
    n = len(mine)
    try:
        dim = number_of_triangular_elements_to_dimension(n)
    except ValueError as error:
        raise InvalidConstraintError(
            f"{demand.name} selects {n} parameters, which is not the number of entries of a lower "
            "triangle: 1, 3, 6, 10, ..."
        ) from error
    low, high = lower[mine], upper[mine]
    is_cov = isinstance(constraint, FlatCovConstraint)
    scales = np.cumsum(np.arange(1, dim + 1)) - 1 if is_cov else np.arange(dim)
    rest = np.setdiff1d(np.arange(n), scales)
    bounded = rest[np.isfinite(low[rest]) | np.isfinite(high[rest])]
    if not is_cov:
        # bounds that every correlation fulfils say nothing
        bounded = bounded[(low[bounded] > -1) | (high[bounded] < 1)]
    least = constraint.regularization
    if (low[rest] == 0).all() and (high[rest] == 0).all():
        # a diagonal matrix: bounds say all
        floor = least if is_cov else np.sqrt(least)
        _check_floor(demand, mine[scales], start - floor, names)
        lower[mine[scales]] = np.maximum(low[scales], floor)
        return None
    if len(bounded) and not (low == high).all():
        what = "covariance" if is_cov else "correlation"
        raise InvalidConstraintError(
            f"{demand.name}: the {what} {names[mine[bounded[0]]]} is fixed or bounded, and no "
            f"bijection keeps that. Only {'variances' if is_cov else 'standard deviations'} can be."
        )
    root = np.sqrt if is_cov else (lambda v: v)
    sd_low = np.maximum(root(np.maximum(low[scales], 0.0)), np.sqrt(least))
    sd_high = root(high[scales])
    if (sd_low > sd_high).any():
        raise InvalidConstraintError(f"{demand.name} contradicts the bounds of its diagonal.")
    only_first = not (np.isfinite(sd_high[1:]).any() or (low[scales][1:] > 0).any())

    def build(sd_low: Array, sd_high: Array) -> Transform:
        if is_cov and only_first:
            return Cholesky(dim, sd_low[:1], sd_high[:1], least)
        return Spherical(dim, sd_low, sd_high, is_cov)

    # a start outside the bounds is clipped later
    loose = build(np.full(dim, np.sqrt(least)), np.full(dim, np.inf))
    _check_matrix(demand, loose, start[mine], names, mine)
    return None if (low == high).all() else Block(build(sd_low, sd_high), mine, demand.name)


def _check_matrix(
    demand: Demand, transform: Transform, values: Array, names: list[str], mine: Positions
) -> None:
    with jax.enable_x64(True):
        back = np.asarray(transform.forward(jnp.asarray(transform.inverse(values))))
    size = np.full(len(values), np.abs(values).max())
    _check_violation(demand, np.abs(back - values), size, mine, names)


# ---- the start -------------------------------------------------------------------------------


def _check_violation(
    demand: Demand, violation: Array, size: Array, mine: Positions, names: list[str]
) -> None:
    bad = np.flatnonzero(violation > _TOLERANCE * size + _NOISE)
    if len(bad):
        lines = [f"  {names[mine[i]]} by {violation[i]:.3g}" for i in bad[:10]]
        raise InvalidParamsError(f"The start violates {demand.name}:\n" + "\n".join(lines))


def _check_floor(demand: Demand, mine: Positions, start: Array, names: list[str]) -> None:
    size = np.full(len(mine), np.abs(start[mine]).max())
    _check_violation(demand, np.maximum(-start[mine], 0.0), size, mine, names)


def _check_rows(demand: Demand, rows: LinearRows, start: Array, names: list[str]) -> None:
    sums = rows.matrix @ start[rows.members]
    violation = np.maximum(rows.lower - sums, sums - rows.upper)
    bad = np.flatnonzero(violation > _TOLERANCE * rows.size + _NOISE)
    if len(bad):
        i = int(bad[0])
        involved = [names[m] for m in rows.members[rows.matrix[i] != 0]]
        raise InvalidParamsError(
            f"The start violates {demand.name} by {violation[i]:.3g}: the weighted sum of "
            f"{listed(involved)} is {sums[i]:.10g}, but must lie in "
            f"[{rows.lower[i]:.10g}, {rows.upper[i]:.10g}]."
        )
