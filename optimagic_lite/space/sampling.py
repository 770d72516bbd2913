"""Points at which multistart may begin: drawn between bounds and inside constraints, or given.

Everything here is about params, not about x: a sample is the same for all algorithms and scalings.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax
import numpy as np
from numpy.typing import NDArray

from optimagic_lite.exceptions import (
    InvalidConstraintError,
    InvalidMultistartError,
    did_you_mean,
    listed,
)
from optimagic_lite.options import SamplingDistribution, SamplingMethod
from optimagic_lite.space.leaves import is_frame
from optimagic_lite.space.make import read_limits, unscaled_space
from optimagic_lite.space.polytope import Polytope
from optimagic_lite.space.rows import LinearRows
from optimagic_lite.space.space import Space
from optimagic_lite.space.trees import ParamTree

Array = NDArray[np.float64]

# With more dimensions there are no direction numbers (Sobol), or the scrambling takes minutes and
# gigabytes (Halton).
_MOST_DIMENSIONS = {"sobol": 21201, "halton": 1000}

# How far given points may be from what fulfils the constraints, relative to the larger of 1 and
# their size. Open forms must put points on an edge much less inside than that.
_TOLERANCE = 1e-6
_MARGIN = 1e-9


# ---- the space -------------------------------------------------------------------------------


def make_sampling_space(params: Any, bounds: Any, constraints: Any) -> Space:
    """Build the space from which multistart draws: soft bounds are bounds, nothing is scaled.

    A start outside the soft bounds is moved into them.

    Args:
        params: Start params.
        bounds: See ``minimize``.
        constraints: See ``minimize``.

    Raises:
        InvalidMultistartError: If a parameter is neither between two bounds nor in a constraint,
            or soft bounds and constraints cannot be fulfilled together.
        OptimagicError: If params, bounds or constraints are not valid without soft bounds.
    """
    tree, flat_bounds, demands = read_limits(params, bounds, constraints)
    try:
        space = unscaled_space(tree, flat_bounds.tightened(), demands, is_open=False)
    except InvalidConstraintError as error:
        raise InvalidMultistartError(
            f"Soft bounds and constraints cannot be fulfilled together. {error}"
        ) from error
    n_plain = _n_plain(space)
    is_missing = ~np.isfinite(space.lower) | ~np.isfinite(space.upper)
    missing = [space.x_names[i] for i in np.flatnonzero(is_missing[:n_plain])]
    if missing:
        raise InvalidMultistartError(
            "Multistart draws parameters between a lower and an upper bound, and one of them is "
            f"missing for {listed(missing)}. Give bounds, or soft bounds with "
            "om.Bounds(soft_lower=..., soft_upper=...), or your own points as sample=..."
        )
    return space


def _n_plain(space: Space) -> int:
    """Return how many entries of x, the first ones, are parameters themselves."""
    return space.n_x if space.plan is None else space.plan.n_plain


# ---- draws -----------------------------------------------------------------------------------


def draw_flat_sample(
    space: Space,
    *,
    n: int,
    method: SamplingMethod,
    distribution: SamplingDistribution,
    seed: int | np.random.Generator | None,
) -> Array:
    """Draw feasible points, as flat vectors.

    Nonlinear constraints are not looked at. The mode of a triangular distribution is the start c.
    Parameters of a constraint, drawn as a point y, are moved to ``c + sqrt(v) (y - c)`` for it,
    with an independent uniform v: feasible, because feasible sets are convex. For y uniform between
    a and b that is triangular: r = sqrt(v) has the density 2 r, the point is uniform on a length
    of r (b - a), and the integral over all r that reach a place falls linearly with its distance.

    Args:
        space: What ``make_sampling_space`` returns.
        n: Number of points.
        method: "random", or one of SciPy's scrambled sequences.
        distribution: "uniform" or "triangular".
        seed: Source of randomness.

    Returns:
        Shape (n, n_params).

    Raises:
        InvalidMultistartError: If the method cannot serve so many parameters, or there is nothing
            feasible between the soft bounds.
    """
    is_triangular = distribution == "triangular"
    blocks = () if space.plan is None or not is_triangular else space.plan.blocks
    n_more = len(blocks) + (space.linear_rows is not None)
    units = _draw_units(n, space.n_x + n_more, method, seed)
    xs = space.sample(units[:, : space.n_x])
    if is_triangular:
        plain = slice(_n_plain(space))
        limits = space.lower[plain], space.upper[plain]
        xs[:, plain] = _triangular(units[:, plain], space.x0[plain], *limits)
    if space.linear_rows is not None:
        xs = _inside_rows(space, space.linear_rows, xs, units[:, -1])
    rows = space.to_flat_rows(np.concatenate([space.x0[None], xs]))
    start, flats = rows[0], rows[1:]
    distance = np.ones_like(flats)
    for i, block in enumerate(blocks):
        distance[:, space.params_of_block(block)] = np.sqrt(units[:, space.n_x + i, None])
    # not in the form start + distance * (flats - start), whose rounding breaks order
    drawn = (1 - distance) * start + distance * flats
    return np.asarray(np.clip(drawn, np.minimum(start, flats), np.maximum(start, flats)))


def _draw_units(
    n: int, n_dimensions: int, method: SamplingMethod, seed: int | np.random.Generator | None
) -> Array:
    """Draw points of the unit cube, shape (n, n_dimensions)."""
    rng = np.random.default_rng(seed)
    most = _MOST_DIMENSIONS.get(method, n_dimensions)
    if n_dimensions > most:
        raise InvalidMultistartError(
            f"The sampling method {method!r} is for at most {most} dimensions, and this problem "
            f"has {n_dimensions}. Use 'latin_hypercube' or 'random'."
        )
    if method == "random" or n_dimensions == 0:
        return rng.random((n, n_dimensions))
    from scipy.stats import qmc

    if method == "sobol":
        # powers of two are what SciPy draws without a warning
        return np.asarray(qmc.Sobol(n_dimensions, rng=rng).random_base2((n - 1).bit_length())[:n])
    engine = qmc.Halton if method == "halton" else qmc.LatinHypercube
    return np.asarray(engine(n_dimensions, rng=rng).random(n))


def _inside_rows(space: Space, rows: LinearRows, xs: Array, shares: Array) -> Array:
    """Return x that fulfil linear constraints too that no bijection carries."""
    at = rows.members
    limits = space.lower[at], space.upper[at]
    polytope = Polytope(rows.matrix, rows.lower, rows.upper, *limits)
    center = polytope.center()
    if center is None:
        raise InvalidMultistartError(
            f"Nothing between the soft bounds fulfils {rows.name}. They must leave room."
        )
    out = xs.copy()
    out[:, at] = polytope.pulled_inside(xs[:, at], shares, center)
    return out


def _triangular(units: Array, mode: Array, lower: Array, upper: Array) -> Array:
    """Turn uniform variates into triangular ones."""
    from scipy.stats import triang

    # halves, because the difference of bounds may overflow
    share = triang.ppf(units, (mode / 2 - lower / 2) / (upper / 2 - lower / 2))
    return np.asarray(np.clip(lower * (1 - share) + upper * share, lower, upper))


# ---- given points ----------------------------------------------------------------------------


def to_x_rows(space: Space, flats: Array) -> Array:
    """Bring feasible points into a space.

    Args:
        space: The space of a run. Open forms put points on an edge a little inside.
        flats: Flat vectors, shape (n, n_params).

    Returns:
        Shape (n, n_x), inside the bounds on x.
    """
    if not len(flats):
        return np.empty((0, space.n_x))
    return np.asarray(np.clip(space.x_of(flats), space.lower, space.upper))


def read_sample(space: Space, sample: Any) -> Array:
    """Read and check the points that a user has given.

    Args:
        space: Any space of the same params, bounds and constraints.
        sample: A sequence of params; or an array or a DataFrame with one row a point and one
            column a parameter, which a DataFrame calls by its name.

    Returns:
        Flat vectors, shape (n, n_params).

    Raises:
        InvalidMultistartError: If there are no points, or one has another structure than params,
            is not finite, or violates bounds or a constraint that x cannot violate.
    """
    try:
        points = enumerate(_points(space.tree, sample))
        rows = [space.tree.align(point, f"point {i} of sample") for i, point in points]
    except ValueError as error:
        raise InvalidMultistartError(
            f"sample does not consist of points like params: {error}"
        ) from error
    if not rows:
        raise InvalidMultistartError("sample has no points.")
    flats = np.stack(rows)
    _refuse(space, ~np.isfinite(flats), lambda i, j: f"{flats[i, j]}, which is not finite")
    xs = np.clip(space.x_of(flats, margin=_MARGIN), space.lower, space.upper)
    nearby = space.to_flat_rows(xs)
    _refuse(
        space,
        np.abs(nearby - flats) > _TOLERANCE * np.maximum(1.0, np.abs(flats)),
        lambda i, j: (
            f"{flats[i, j]:.10g}, but bounds and constraints would make it {nearby[i, j]:.10g}"
        ),
    )
    return flats


def _refuse(space: Space, is_bad: NDArray[np.bool_], describe: Callable[[int, int], str]) -> None:
    """Raise an error that names the first point and parameter of a mask."""
    for i, j in np.argwhere(is_bad)[:1].tolist():
        raise InvalidMultistartError(
            f"Point {i} of sample: {space.names[j]} is {describe(i, j)}. Points are counted from 0."
        )


def _points(tree: ParamTree, sample: Any) -> list[Any]:
    """Return the points of a sample one by one."""
    if is_frame(sample):
        columns = [str(column) for column in sample.columns]
        for name in tree.names:
            if name not in columns:
                raise InvalidMultistartError(
                    f"The DataFrame sample has no column {name!r}; it must have one for each "
                    f"parameter: {listed(tree.names)}.{did_you_mean(name, columns)}"
                )
        ordered = sample.iloc[:, [columns.index(name) for name in tree.names]]
        rows = ordered.to_numpy(dtype=np.float64, na_value=np.nan)
        return [tree.to_params(row) for row in rows]
    if isinstance(sample, (str, Mapping)) or not isinstance(sample, Iterable):
        raise InvalidMultistartError(
            f"sample must be a sequence of params, an array or a DataFrame, not {sample!r}."
        )
    return list(np.asarray(sample) if isinstance(sample, jax.Array) else sample)
