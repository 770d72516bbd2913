"""From params, bounds, constraints and scaling to the space in which an algorithm searches."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from optimagic_lite.constraints import NonlinearConstraint, read_constraints
from optimagic_lite.exceptions import InvalidBoundsError, InvalidParamsError, did_you_mean
from optimagic_lite.options import ScalingOptions, read_scaling
from optimagic_lite.space.bounds import FlatBounds, read_bounds
from optimagic_lite.space.demands import Demand, select
from optimagic_lite.space.plan import PlacedBlock, Plan
from optimagic_lite.space.reduction import Block, Reduction, reduce
from optimagic_lite.space.scaling import make_scale
from optimagic_lite.space.space import Space
from optimagic_lite.space.transforms import Box
from optimagic_lite.space.trees import ParamTree

Positions = NDArray[np.intp]
BoundsAs = Literal["bounds", "transform"]

# A bound further away is no part of a smooth transformation, in which all digits would be lost.
_FAR = 1e12


def make_space(
    params: Any,
    *,
    bounds: Any = None,
    constraints: Any = None,
    scaling: Any = False,
    bounds_as: BoundsAs = "bounds",
    keeps_bounds: bool = True,
) -> Space:
    """Build the space in which an algorithm searches: the map from its x to params and back.

    ``minimize`` does it by itself; this is for looking into it.

    Args:
        params: Start params.
        bounds: See ``minimize``.
        constraints: See ``minimize``.
        scaling: See ``minimize``.
        bounds_as: "bounds" (default), or "transform" for an x without any bounds.
        keeps_bounds: Whether the algorithm keeps bounds. If not, bijections have their smooth
            form without bounds.

    Raises:
        InvalidParamsError: If params cannot be optimised, or violate a constraint.
        InvalidBoundsError: If bounds are not valid or the start lies outside.
        InvalidConstraintError: If constraints cannot be understood or fulfilled.
        InvalidScalingError: If scaling is not valid, or bounds for it are missing.

    Example:
        >>> space = make_space({"a": 1.0, "b": np.array([0.5, 0.5])},
        ...                    constraints={"type": "fixed", "selector": lambda p: p["a"]})
        >>> space.x0, space.to_params(np.array([0.2, 0.3]))
        (array([0.5, 0.5]), {'a': 1.0, 'b': array([0.2, 0.3])})
    """
    if bounds_as not in get_args(BoundsAs):
        raise InvalidBoundsError(
            f"bounds_as must be 'bounds' or 'transform', not {bounds_as!r}."
            + did_you_mean(bounds_as, get_args(BoundsAs))
        )
    tree, flat_bounds, demands = read_limits(params, bounds, constraints)
    is_open = bounds_as == "transform" or not keeps_bounds
    space = unscaled_space(tree, flat_bounds, demands, is_open=is_open)
    if bounds_as == "transform":
        space = replace(space, bounded=np.zeros(0, dtype=np.intp))
    options = read_scaling(scaling)
    return space if options is None else _scaled(space, options)


def read_limits(
    params: Any, bounds: Any, constraints: Any
) -> tuple[ParamTree, FlatBounds, list[Demand]]:
    """Read and check what limits params, see ``make_space``."""
    tree = ParamTree(params)
    start = tree.start_values()
    bad = [tree.names[i] for i in np.flatnonzero(~np.isfinite(start))[:10]]
    if bad:
        raise InvalidParamsError(f"These start values are not finite: {', '.join(bad)}.")
    return tree, read_bounds(bounds, tree, start), read_demands(constraints, tree)


def read_demands(constraints: Any, tree: ParamTree) -> list[Demand]:
    """Read constraints and find out which parameters they speak of, see ``make_space``."""
    return select(read_constraints(constraints), tree)


def unscaled_space(
    tree: ParamTree, bounds: FlatBounds, demands: list[Demand], *, is_open: bool
) -> Space:
    """Build a space without scaling.

    Args:
        tree: The structure of params, and the start. Where it fulfils the constraints but not the
            bounds, it is moved into them.
        bounds: Bounds on params.
        demands: The constraints.
        is_open: Whether bijections have their smooth form without bounds.
    """
    start, lower, upper = tree.start_values(), bounds.lower, bounds.upper
    nonlinear = tuple(d for d in demands if isinstance(d.constraint, NonlinearConstraint))
    others = [d for d in demands if not isinstance(d.constraint, NonlinearConstraint)]
    has_bounds = bool(np.isfinite(lower).any() or np.isfinite(upper).any())
    if not others and (lower < upper).all() and not (is_open and has_bounds):
        return Space(tree, np.clip(start, lower, upper), lower, upper, nonlinear=nonlinear)
    reduction = reduce(others, tree, start, bounds)
    space = _assemble(tree, reduction, nonlinear, is_open=is_open)
    return replace(space, bounded=space.firsts[_bounded_by_user(reduction, bounds)])


def _bounded_by_user(reduction: Reduction, bounds: FlatBounds) -> Positions:
    """Return free representatives with bounds of the user that no bijection carries."""
    has_bound = np.zeros(len(reduction.start), dtype=bool)
    given = np.isfinite(bounds.lower) | np.isfinite(bounds.upper)
    has_bound[reduction.representative[given]] = True
    is_free = reduction.lower < reduction.upper
    return np.flatnonzero(has_bound & is_free & ~_in_blocks(reduction))


def _in_blocks(reduction: Reduction) -> NDArray[np.bool_]:
    out = np.zeros(len(reduction.start), dtype=bool)
    for block in reduction.blocks:
        out[block.members] = True
    return out


def _assemble(
    tree: ParamTree, reduction: Reduction, nonlinear: tuple[Demand, ...], *, is_open: bool
) -> Space:
    """Give everything that is free its place in x."""
    start, lower, upper = reduction.start, reduction.lower, reduction.upper
    in_block, is_free = _in_blocks(reduction), lower < upper
    is_plain, is_fixed = is_free & ~in_block, ~is_free & ~in_block
    blocks = list(reduction.blocks)
    if is_open:
        blocks = [replace(block, transform=block.transform.opened()) for block in blocks]
        sides = ((lower, -np.inf), (upper, np.inf))
        boxed = np.flatnonzero(is_plain & (np.isfinite(lower) | np.isfinite(upper)))
        if len(boxed):
            box = Box(*(np.where(np.abs(v[boxed]) < _FAR, v[boxed], v0) for v, v0 in sides))
            blocks.append(Block(box, boxed, "bounds"))
            is_plain[boxed] = False
    _, firsts = np.unique(reduction.representative, return_index=True)
    place = np.empty(len(start), dtype=np.intp)
    n_plain = int(is_plain.sum())
    place[is_plain] = np.arange(n_plain)
    n_places = n_plain + int(is_fixed.sum())
    place[is_fixed] = np.arange(n_plain, n_places)
    x0, x_lower, x_upper = ([v[is_plain]] for v in (start, lower, upper))
    placed, position = [], n_plain
    for block in blocks:
        transform, members = block.transform, block.members
        free = transform.lower < transform.upper
        limits = lower[members], upper[members]
        placed.append(PlacedBlock(transform, members, block.source, position, free, *limits))
        position = placed[-1].stop
        place[members] = np.arange(n_places, n_places + len(members))
        n_places += len(members)
        x0.append(transform.inverse(start[members])[free])
        x_lower.append(transform.lower[free])
        x_upper.append(transform.upper[free])
    gather = place[reduction.representative]
    is_identity = not placed and len(gather) == n_plain
    plan = None if is_identity else Plan(n_plain, start[is_fixed], tuple(placed), gather)
    return Space(
        tree,
        np.concatenate(x0),
        np.concatenate(x_lower),
        np.concatenate(x_upper),
        plan=plan,
        rows=reduction.rows,
        nonlinear=nonlinear,
        firsts=firsts,
    )


def _scaled(space: Space, options: ScalingOptions) -> Space:
    scale = make_scale(space.x0, space.lower, space.upper, space.x_names, options)
    x0, lower, upper = (scale.scaled(v) for v in (space.x0, space.lower, space.upper))
    return replace(space, x0=x0, lower=lower, upper=upper, scale=scale)
