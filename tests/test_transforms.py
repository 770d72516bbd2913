"""Bijections between boxes and feasible blocks: what every one of them promises, in both forms."""

from dataclasses import dataclass
from typing import Any

import hypothesis
import hypothesis.strategies as st
import jax
import numpy as np
import pytest

from optimagic_lite.compilation import compile_once
from optimagic_lite.space.matrices import Cholesky, Spherical, semidefinite_cholesky
from optimagic_lite.space.order import Increasing
from optimagic_lite.space.sums import Budget, Pivot, Simplex
from optimagic_lite.space.transforms import Box, Transform
from optimagic_lite.utilities import cov_params_to_matrix

INF = np.inf


@pytest.fixture(autouse=True)
def x64():
    with jax.enable_x64(True):
        yield


def quick(count=10):
    return hypothesis.settings(
        max_examples=count,
        deadline=None,
        database=None,
        suppress_health_check=[
            hypothesis.HealthCheck.function_scoped_fixture,
            # an unlucky seed may draw many blocks that are not feasible
            hypothesis.HealthCheck.filter_too_much,
        ],
    )


@dataclass(frozen=True)
class Case:
    """A transform, a feasible block, and the test of feasibility."""

    transform: Transform
    block: np.ndarray
    check: Any  # raises if a block is not feasible


def forward(transform, t):
    """Compiled, as spaces call it."""
    t = np.asarray(t, dtype=float)
    return np.asarray(compile_once(transform.forward, t)(t))


def forward_rows(transform, ts):
    ts = np.asarray(ts, dtype=float)
    return np.asarray(compile_once(jax.vmap(transform.forward), ts)(ts))


def jacobian(transform, t):
    t = np.asarray(t, dtype=float)
    return np.asarray(compile_once(jax.jacfwd(transform.forward), t)(t))


def size(*arrays):
    """The largest number among arrays, at least 1: what rounding is relative to."""
    return max(1.0, *(float(np.abs(a).max(initial=0.0)) for a in arrays))


# -------------------------------------------------------------------------------- the families

# numbers that often coincide, so that bounds bind and entries tie
GRID = st.sampled_from([0.0, 0.5, 1.0, 2.0, 3.0])
NUMBERS = st.one_of(GRID, GRID.map(lambda v: -v), st.floats(-10, 10, allow_subnormal=False))
DISTANCES = st.one_of(st.sampled_from([0.0, 0.5, 1.0, INF]), st.floats(0.01, 10))
SOME_WEIGHTS = st.sampled_from([1.0, -1.0, 0.3, -0.7, 3.0, 100.0])


def vectors(elements, n):
    return st.lists(elements, min_size=n, max_size=n).map(lambda v: np.array(v, dtype=float))


@st.composite
def boxes(draw, n=4):
    block, down, up = (draw(vectors(e, n)) for e in (NUMBERS, DISTANCES, DISTANCES))
    low, high = block - down, block + up

    def check(out):
        assert (out >= low).all()
        assert (out <= high).all()

    return Case(Box(low, high), block, check)


@st.composite
def pivots(draw, n=4):
    """Rows of which some columns form a triangle, so that pivots are known to be regular."""
    k = (n + 1) // 2
    n_rest = n - k
    rows = np.concatenate([np.eye(k), draw(vectors(NUMBERS, k * n_rest)).reshape(k, n_rest)], 1)
    rows[0, :k] = draw(vectors(st.sampled_from([0.5, 1.0, -2.0]), k))
    rows = rows[:, (order := np.array(draw(st.permutations(range(n)))))]
    places = np.sort(np.flatnonzero(order < k))
    block = draw(vectors(NUMBERS, n))
    down, up = (draw(vectors(DISTANCES, n)) for _ in range(2))
    entry_lower, entry_upper = block - down, block + up
    entry_lower[places], entry_upper[places] = -INF, INF
    sums = rows @ block
    row_lower, row_upper = sums - draw(vectors(DISTANCES, k)), sums + draw(vectors(DISTANCES, k))

    def check(out):
        assert (out >= entry_lower).all()
        assert (out <= entry_upper).all()
        tiny = 1e-12 * (np.abs(rows) @ np.abs(out)).max() * 10 + 1e-12
        assert (rows @ out >= row_lower - tiny).all()
        assert (rows @ out <= row_upper + tiny).all()

    transform = Pivot(rows, row_lower, row_upper, entry_lower, entry_upper, places)
    return Case(transform, block, check)


@st.composite
def simplexes(draw, n=4):
    has_slack = draw(st.booleans())
    shares = draw(vectors(st.one_of(GRID, st.floats(1e-3, 10)), n))
    hypothesis.assume(shares.sum() > 0)
    room = draw(st.sampled_from([0.25, 1.0, 50.0]))
    products_low = draw(st.one_of(st.just(np.zeros(n)), vectors(NUMBERS, n)))
    weights = draw(st.one_of(st.just(np.ones(n)), vectors(SOME_WEIGHTS, n)))
    weights = weights[1:] if has_slack else weights
    products = products_low + room * shares / shares.sum()
    total = products_low.sum() + room
    block = products[1 if has_slack else 0 :] / weights
    transform = Simplex(np.array([total]), products_low, weights, has_slack)

    def check(out):
        check_products(out, weights, total, products_low, np.full(n, INF), has_slack)

    return Case(transform, block, check)


@st.composite
def budgets(draw, n=4):
    has_slack = draw(st.booleans())
    products = draw(vectors(NUMBERS, n))
    down, up = (draw(vectors(DISTANCES, n)) for _ in range(2))
    low, high = products - down, products + up
    # the last entry takes the rest, so it is none that is pinned
    hypothesis.assume(low[-1] < high[-1])
    # rows that leave no room at all are no constraint but fixed values
    hypothesis.assume(low.sum() + 1e-3 < products.sum() < high.sum() - 1e-3)
    weights = draw(st.one_of(st.just(np.ones(n)), vectors(SOME_WEIGHTS, n)))
    weights = weights[1:] if has_slack else weights
    total = products.sum()
    block = products[1 if has_slack else 0 :] / weights
    transform = Budget(np.array([total]), low, high, weights, has_slack)

    def check(out):
        check_products(out, weights, total, low, high, has_slack)

    return Case(transform, block, check)


def check_products(block, weights, total, low, high, has_slack):
    products = block * weights
    tiny = 1e-12 * size(products, np.where(np.isfinite(low), low, 0.0)) * len(products)
    if has_slack:
        products = np.concatenate([[total - products.sum()], products])
    else:
        assert abs(products.sum() - total) <= tiny
    assert (products >= low - tiny).all()
    assert (products <= high + tiny).all()
    if (np.abs(weights) == 1).all():
        # nothing is rounded when weights are taken out again
        start = 1 if has_slack else 0
        assert (products >= low)[start:].all()
        assert (products <= high)[start:].all()


@st.composite
def orders(draw, n=4):
    steps = draw(vectors(st.one_of(GRID, st.floats(0.01, 5)), n))
    values = draw(NUMBERS) + np.cumsum(steps)
    low = high = None
    if draw(st.booleans()):
        low = values - draw(vectors(DISTANCES, n))
    if draw(st.booleans()):
        high = values + draw(vectors(DISTANCES, n))
    low = np.full(n, -INF) if low is None else low
    high = np.full(n, INF) if high is None else high

    def check(out):
        assert (np.diff(out) >= 0).all()
        assert (out >= low).all()
        assert (out <= high).all()

    return Case(Increasing(low, high), values, check)


def factor_of(draw, dim, smallest):
    """A Cholesky factor, often of a singular matrix."""
    factor = np.zeros((dim, dim))
    index = np.tril_indices(dim)
    factor[index] = draw(vectors(NUMBERS, len(index[0])))
    diagonal = draw(vectors(st.one_of(GRID, st.floats(0.1, 5)), dim))
    factor[np.diag_indices(dim)] = np.maximum(diagonal, smallest)
    return factor


@st.composite
def choleskys(draw, n=3):
    dim = n
    regularization = draw(st.sampled_from([0.0, 0.25]))
    factor = factor_of(draw, dim, np.sqrt(regularization))
    first = factor[0, 0]
    kind = draw(st.sampled_from(["free", "lower", "upper", "both", "fixed"]))
    low = {"free": 0.0, "upper": 0.0, "fixed": first}.get(kind, max(0.0, first - draw(GRID)))
    high = {"free": INF, "lower": INF, "fixed": first}.get(kind, first + draw(GRID))
    low = max(low, np.sqrt(regularization))
    block = (factor @ factor.T)[np.tril_indices(dim)]

    def check(out):
        matrix = cov_params_to_matrix(out)
        check_semidefinite(matrix, regularization)
        assert low - 1e-12 * size(low) <= np.sqrt(matrix[0, 0])
        assert np.sqrt(matrix[0, 0]) <= high + 1e-12 * size(high if np.isfinite(high) else 0.0)

    transform = Cholesky(dim, np.array([low]), np.array([high]), regularization)
    return Case(transform, block, check)


@st.composite
def sphericals(draw, n=3):
    dim = n
    as_covariance = draw(st.booleans())
    factor = factor_of(draw, dim, 0.0)
    lengths = np.sqrt((factor**2).sum(axis=1))
    factor[lengths == 0] = np.eye(dim)[lengths == 0]
    factor /= np.sqrt((factor**2).sum(axis=1))[:, None]
    below = np.tril_indices(dim, -1)
    sds = draw(vectors(st.one_of(GRID, st.floats(0.1, 5)), dim))
    sd_low = np.maximum(0.0, sds - draw(vectors(DISTANCES, dim)))
    sd_high = sds + draw(vectors(DISTANCES, dim))
    if as_covariance:
        # a variance that is always zero leaves no correlation to speak of
        sd_high = np.maximum(sd_high, 0.5)
    correlations = np.clip((factor @ factor.T)[below], -1, 1)
    if as_covariance:
        covariance = np.diag(sds**2)
        covariance[below] = sds[below[0]] * sds[below[1]] * correlations
        block = covariance[np.tril_indices(dim)]
    else:
        block = np.concatenate([sds, correlations])

    def check(out):
        if as_covariance:
            matrix = cov_params_to_matrix(out)
            check_semidefinite(matrix, 0.0)
            found = np.sqrt(np.diag(matrix))
            tiny = 1e-12 * size(found)
            outer = np.outer(found, found)
            # squares of tiny numbers underflow
            assert (np.abs(matrix) <= outer * (1 + 1e-12) + 1e-150).all()
        else:
            matrix = np.eye(dim)
            matrix[below] = out[dim:]
            matrix += np.tril(matrix, -1).T
            check_semidefinite(matrix, 0.0)
            assert (np.abs(out[dim:]) <= 1).all()
            found, tiny = out[:dim], 0.0
        assert (found >= sd_low - tiny).all()
        assert (found <= sd_high + tiny).all()

    transform = Spherical(dim, sd_low, sd_high, as_covariance)
    return Case(transform, block, check)


def check_semidefinite(matrix, smallest):
    """Eigenvalues of at least zero within rounding; the pivots of a factor are at least a root."""
    eigenvalues = np.linalg.eigvalsh(matrix)
    assert eigenvalues[0] >= -1e-13 * len(matrix) * max(abs(eigenvalues[-1]), 1e-300)
    if smallest and eigenvalues[0] > 1e-10 * eigenvalues[-1]:
        diagonal = np.diag(np.linalg.cholesky(matrix))
        assert (diagonal >= np.sqrt(smallest) - 1e-6 * size(diagonal)).all()


STRATEGIES = {
    "box": boxes,
    "pivot": pivots,
    "simplex": simplexes,
    "budget": budgets,
    "increasing": orders,
    "cholesky": choleskys,
    "spherical": sphericals,
}
# one size for most tests: equal programs are compiled once
FAMILIES = {name: strategy() for name, strategy in STRATEGIES.items()}

every_family = pytest.mark.parametrize("family", FAMILIES)
both_forms = pytest.mark.parametrize("is_open", [False, True], ids=["as it is", "opened"])


def draw_case(data, family, is_open):
    case = data.draw(FAMILIES[family])
    transform = case.transform.opened() if is_open else case.transform
    return case, transform


def points(transform, seed, reach=3.0):
    """Points of the box: inside, far out, on edges and in corners."""
    rng = np.random.default_rng(seed)
    low, high = transform.lower, transform.upper
    shape = (4, len(low))
    spread = reach * rng.normal(size=shape)
    finite_low, finite_high = (np.where(np.isfinite(v), v, 0.0) for v in (low, high))
    both = np.isfinite(low) & np.isfinite(high)
    one_sided = np.where(np.isfinite(low), low + np.abs(spread), high - np.abs(spread))
    free = np.isinf(low) & np.isinf(high)
    uniform = finite_low + (finite_high - finite_low) * rng.random(shape)
    inside = np.where(both, uniform, np.where(free, spread, one_sided))
    edges = np.where(rng.random(shape) < 0.5, np.where(np.isfinite(low), low, inside), inside)
    edges = np.where(rng.random(shape) < 0.5, np.where(np.isfinite(high), high, edges), edges)
    lowest, highest = np.where(np.isfinite(low), low, -3.0), np.where(np.isfinite(high), high, 3.0)
    return np.concatenate([inside, edges, [lowest, highest, finite_low, finite_high]]).clip(
        low, high
    )


def interior(transform, seed):
    """One point well inside the box: no input near a bound or far out."""
    rng = np.random.default_rng(seed)
    low, high = transform.lower, transform.upper
    u = rng.uniform(0.2, 0.8, len(low))
    both = np.isfinite(low) & np.isfinite(high)
    with np.errstate(invalid="ignore"):
        uniform = low + (high - low) * u
        one_sided = np.where(np.isfinite(low), low + u, high - u)
    free = np.isinf(low) & np.isinf(high)
    return np.where(both, uniform, np.where(free, 2 * u - 1, one_sided))


SEEDS = st.integers(0, 2**32 - 1)

# --------------------------------------------------------------------------------- properties


@every_family
@both_forms
@quick()
@hypothesis.given(data=st.data())
def test_shapes(family, is_open, data):
    case, transform = draw_case(data, family, is_open)
    t = transform.inverse(case.block)
    assert t.shape == transform.lower.shape == transform.upper.shape
    assert t.dtype == np.float64
    assert (transform.lower <= transform.upper).all()
    assert forward(transform, t).shape == case.block.shape


@every_family
@quick(15)
@hypothesis.given(data=st.data())
def test_feasible_blocks_come_back(family, data):
    case = data.draw(FAMILIES[family])
    if family == "box":
        transform = case.transform
        # an open form reaches no edge: only what lies inside comes back
        inner = np.minimum(case.block - transform.entry_lower, transform.entry_upper - case.block)
        hypothesis.assume((inner[transform.entry_lower < transform.entry_upper] > 0.1).all())
    t = case.transform.inverse(case.block)
    assert (t >= case.transform.lower).all()
    assert (t <= case.transform.upper).all()
    back = forward(case.transform, t)
    np.testing.assert_allclose(back, case.block, rtol=0, atol=1e-9 * size(case.block))


@pytest.mark.parametrize("family", [f for f in FAMILIES if f != "box"])
@quick(15)
@hypothesis.given(data=st.data())
def test_feasible_blocks_come_back_in_the_open_form(family, data):
    """Blocks on an edge are put a little inside, others come back as they are."""
    case, transform = draw_case(data, family, True)
    t = transform.inverse(case.block)
    assert np.isfinite(t).all()
    back = forward(transform, t)
    case.check(back)
    t_inner = case.transform.inverse(case.block)
    low, high = case.transform.lower, case.transform.upper
    distance = np.minimum(t_inner - low, high - t_inner)[low < high]
    if (distance > 0.02).all():
        np.testing.assert_allclose(back, case.block, rtol=0, atol=1e-8 * size(case.block))


@every_family
@both_forms
@quick()
@hypothesis.given(data=st.data(), seed=SEEDS)
def test_blocks_of_inputs_come_back(family, is_open, data, seed):
    _, transform = draw_case(data, family, is_open)
    block = forward(transform, interior(transform, seed))
    back = forward(transform, transform.inverse(block))
    np.testing.assert_allclose(back, block, rtol=0, atol=1e-8 * size(block))


@every_family
@both_forms
@quick(10)
@hypothesis.given(
    data=st.data(), seed=SEEDS, reach=st.sampled_from([1e-100, 1e-9, 1.0, 30.0, 800.0, 1e100])
)
def test_every_point_of_the_box_is_feasible(family, is_open, data, seed, reach):
    case, transform = draw_case(data, family, is_open)
    for out in forward_rows(transform, points(transform, seed, reach)):
        assert np.isfinite(out).all()
        case.check(out)


@every_family
@both_forms
@quick(10)
@hypothesis.given(data=st.data(), seed=SEEDS)
def test_derivatives_are_those_of_differences(family, is_open, data, seed):
    _, transform = draw_case(data, family, is_open)
    t, step = interior(transform, seed), 1e-6
    exact = jacobian(transform, t)
    moves = step * np.eye(len(t))
    ahead, behind = forward_rows(transform, t + moves), forward_rows(transform, t - moves)
    rough = ((ahead - behind) / (2 * step)).T
    free = transform.lower < transform.upper
    scale = size(exact, ahead)
    np.testing.assert_allclose(exact[:, free], rough[:, free], rtol=0, atol=1e-6 * scale)


@every_family
@both_forms
@quick(6)
@hypothesis.given(data=st.data(), seed=SEEDS)
def test_first_and_second_derivatives_are_finite_everywhere(family, is_open, data, seed):
    case, transform = draw_case(data, family, is_open)
    ts = np.concatenate([points(transform, seed), [transform.inverse(case.block)]])
    first = jax.jacrev(transform.forward)

    def both(t):
        return jax.numpy.concatenate([first(t).ravel(), jax.jacfwd(first)(t).ravel()])

    assert np.isfinite(np.asarray(compile_once(jax.vmap(both), ts)(ts))).all()


@every_family
@both_forms
@quick(10)
@hypothesis.given(data=st.data(), seed=SEEDS)
def test_samples_are_feasible_and_reproducible(family, is_open, data, seed):
    case, transform = draw_case(data, family, is_open)
    start = transform.inverse(case.block)
    units = np.random.default_rng(seed).random((5, len(start)))
    draws = transform.sample(units, start)
    assert draws.shape == (5, len(start))
    assert (draws >= transform.lower).all()
    assert (draws <= transform.upper).all()
    for out in forward_rows(transform, draws):
        case.check(out)
    np.testing.assert_array_equal(draws, transform.sample(units, start))
    if transform.n_free:
        assert len(np.unique(draws, axis=0)) == 5
    # sequences may hold corners of the cube
    corners = transform.sample(np.array([[0.0], [1.0]]) * np.ones(len(start)), start)
    for out in forward_rows(transform, corners):
        case.check(out)


@every_family
@both_forms
@quick(10)
@hypothesis.given(data=st.data(), seed=SEEDS)
def test_n_free_is_the_rank_of_the_jacobian(family, is_open, data, seed):
    _, transform = draw_case(data, family, is_open)
    free = transform.lower < transform.upper
    matrix = jacobian(transform, interior(transform, seed))[:, free]
    values = np.linalg.svd(matrix, compute_uv=False)
    rank = int((values > 1e-9 * values.max(initial=0.0)).sum())
    assert transform.n_free == rank


@every_family
@both_forms
@quick(8)
@hypothesis.given(data=st.data(), seed=SEEDS)
def test_points_where_derivatives_vanish_may_deceive(family, is_open, data, seed):
    """Else an algorithm would take a point for a minimum because it cannot see beyond it."""
    case, transform = draw_case(data, family, is_open)
    if family == "cholesky":
        # a variance that is always zero leaves inputs over that do nothing anywhere
        hypothesis.assume(case.transform.upper[0] > 0)
    free = transform.lower < transform.upper
    # homogeneous coordinates have one input too many: at a vertex it does nothing
    n_spare = int(free.sum()) - transform.n_free
    ts = np.concatenate([points(transform, seed, 800.0), [transform.inverse(case.block)]])
    jacobians = np.asarray(compile_once(jax.vmap(jax.jacfwd(transform.forward)), ts)(ts))
    for t, matrix in zip(ts, jacobians, strict=True):
        if (matrix[:, free] == 0).all(axis=0).sum() > n_spare:
            assert transform.may_deceive(t, has_gradient=True)


@every_family
@both_forms
@quick(4)
@hypothesis.given(data=st.data(), seed=SEEDS)
def test_escapes_are_feasible(family, is_open, data, seed):
    case, transform = draw_case(data, family, is_open)
    gradient = np.random.default_rng(seed).normal(size=len(case.block))
    ts = np.concatenate([points(transform, seed, 20.0)[4:9:4], [transform.inverse(case.block)]])
    for t in ts:
        # what no solver would reach is not asked for
        if np.abs(t).max() > 1e3:
            continue
        for known in (gradient, None):
            found = transform.escapes(t.copy(), forward(transform, t), known)
            for near in found:
                assert near.shape == t.shape
                assert (near >= transform.lower).all()
                assert (near <= transform.upper).all()
            if found:
                for out in forward_rows(transform, np.array(found)):
                    case.check(out)


@every_family
@both_forms
@pytest.mark.parametrize("n", [1, 5])
@quick(4)
@hypothesis.given(data=st.data(), seed=SEEDS)
def test_other_sizes(family, is_open, n, data, seed):
    # a sum of one entry is no constraint but a bound
    n = max(n, 2) if family in ("simplex", "budget") else n
    case = data.draw(STRATEGIES[family](n=n))
    transform = case.transform.opened() if is_open else case.transform
    outs = forward_rows(transform, points(transform, seed))
    for out in outs:
        case.check(out)
    back = forward(
        transform, transform.inverse(inner := forward(transform, interior(transform, seed)))
    )
    np.testing.assert_allclose(back, inner, rtol=0, atol=1e-8 * size(inner))


# ------------------------------------------------------------------------------------- values


def vector(*numbers):
    return np.array(numbers, dtype=float)


@pytest.mark.parametrize(
    ("transform", "t", "expected"),
    [
        (Box(vector(0, 2), vector(4, INF)), [0, 0], [2, 2 + np.log(2)]),
        (Box(vector(-INF, -INF), vector(1, INF)), [0, 7], [1 - np.log(2), 7]),
        (Simplex(vector(1), np.zeros(3), np.ones(3)), [0.5, 0.25, 0.25], [0.5, 0.25, 0.25]),
        (Simplex(vector(1), np.zeros(3), np.ones(3)), [1, 1, 0], [0.5, 0.5, 0]),
        (Simplex(vector(1), np.zeros(4), np.ones(4)), [0, 0, 0, 0], [0.25] * 4),
        (Simplex(vector(6), vector(1, 2), vector(1, -2)), [1, 2], [2, -2]),
        (Simplex(vector(0), vector(-4, 1, 1), np.ones(2), True), [1, 1, 0], [2, 1]),
        (Simplex(vector(1), np.zeros(3), np.ones(3)).opened(), [0, 0], [1 / 3] * 3),
        (Simplex(vector(1), np.zeros(3), np.ones(3)).opened(), np.log([2, 1]), [0.5, 0.25, 0.25]),
        (Budget(vector(1), np.zeros(3), np.full(3, 0.5), np.ones(3)), [1, 1], [0.5, 0.5, 0]),
        (Budget(vector(1), np.zeros(3), np.full(3, 0.5), np.ones(3)), [0.5, 0], [0.25, 0.25, 0.5]),
        (Budget(vector(2), vector(0, 1), vector(3, INF), vector(2, 1)), [0.5], [0.25, 1.5]),
        (Increasing(np.full(3, -INF), np.full(3, INF)), [-1, 0, 2], [-1, -1, 1]),
        (Increasing(vector(0, 0), vector(1, 1)), [0.5, 0.5], [0.5, 0.75]),
        (Increasing(vector(-INF, -INF), vector(1, 2)), [3, 0.5], [-2, 0]),
        (Increasing(vector(0, 2), vector(INF, INF)), [1, 1], [1, 3]),
        (Cholesky(2, vector(0), vector(INF), 0.0), [2, 1, 3], [4, 2, 10]),
        (Spherical(2, np.zeros(2), np.full(2, INF), False), [2, 3, np.pi / 3], [2, 3, 0.5]),
        (Spherical(2, np.zeros(2), np.full(2, INF), True), [2, 3, np.pi / 3], [4, 3, 9]),
        (Spherical(2, np.zeros(2), np.full(2, INF), False), [2, 3, 0], [2, 3, 1]),
        (
            Pivot(vector(1, 2, 4)[None], vector(0), vector(9), np.full(3, -INF), np.full(3, INF),
                  np.array([1])),
            [5, 3, 1],
            [3, -1, 1],
        ),
    ],
)  # fmt: skip
def test_values(transform, t, expected):
    np.testing.assert_allclose(forward(transform, t), expected, rtol=1e-14, atol=1e-14)


@pytest.mark.parametrize(
    ("transform", "lower", "upper", "n_free"),
    [
        (Box(vector(0, 1), vector(4, 1)), [-INF, 0], [INF, 0], 1),
        (Simplex(vector(1), np.zeros(3), np.ones(3)), [0, 0, 0], [1, 1, 1], 2),
        (Simplex(vector(1), np.zeros(3), np.ones(3)).opened(), [-INF] * 2, [INF] * 2, 2),
        (Simplex(vector(0), np.zeros(3), np.ones(2), True), [0, 0, 0], [1, 1, 1], 2),
        (Budget(vector(1), np.zeros(3), vector(1, 0, 1), np.ones(3)), [0, 0], [1, 0], 1),
        (Increasing(np.full(2, -INF), np.full(2, INF)), [-INF, 0], [INF, INF], 2),
        (Increasing(vector(0, 0, 0), vector(1, 1, INF)), [0, 0, 0], [1, 1, INF], 3),
        (Increasing(vector(0, 1, 1), vector(3, 1, 3)), [0, 0, 0], [1, 0, 1], 2),
        (Increasing(vector(0, 2), vector(3, 2)).opened(), [-INF, 0], [INF, 0], 1),
        (Cholesky(2, vector(1), vector(1), 0.25), [1, -INF, 0.5], [1, INF, INF], 2),
        (Cholesky(1, vector(0), vector(3), 0.25), [0.5], [3], 1),
        (Spherical(2, vector(1, 0), vector(1, 2), True), [1, 0, 0], [1, 2, np.pi], 2),
        (Spherical(2, vector(1, 0), vector(1, 2), True).opened(), [0, -INF, -INF],
         [0, INF, INF], 2),
    ],
)  # fmt: skip
def test_bounds_of_inputs(transform, lower, upper, n_free):
    np.testing.assert_array_equal(transform.lower, lower)
    np.testing.assert_array_equal(transform.upper, upper)
    assert transform.n_free == n_free


def test_opened_once_is_open():
    for transform in (
        Increasing(np.zeros(2), np.ones(2)),
        Simplex(vector(1), np.zeros(2), np.ones(2)),
    ):
        opened = transform.opened()
        assert opened.opened() is opened
        assert np.isinf(opened.lower).all()
        assert np.isinf(opened.upper).all()


def test_blocks_on_the_edge_start_a_little_inside_the_open_form():
    transform = Simplex(vector(1), np.zeros(3), np.ones(3)).opened()
    out = forward(transform, transform.inverse(vector(1, 0, 0)))
    assert (out > 1e-6).all()
    np.testing.assert_allclose(out, [1, 0, 0], atol=0.01)
    box = Box(vector(0, 0), vector(2, INF))
    out = forward(box, box.inverse(vector(2, 0)))
    assert 0 < out[1] < 0.1
    assert 0 < 2 - out[0] < 0.1
    closer = forward(box, box.inverse(vector(2, 0), margin=1e-3))
    assert 0 < closer[1] < out[1] / 500
    assert 0 < 2 - closer[0] < (2 - out[0]) / 500


def test_zeros_of_a_simplex_are_kept_exactly():
    transform = Simplex(vector(1), np.zeros(4), np.ones(4))
    for block in (vector(0, 0.25, 0.75, 0), vector(0, 0, 0, 1)):
        np.testing.assert_array_equal(forward(transform, transform.inverse(block)), block)


def test_many_increments_never_fall():
    """Sums are built in parallel; their rounding must not break the order."""
    rng = np.random.default_rng(0)
    transform = Increasing(np.full(50, -INF), np.full(50, INF))
    ts = rng.exponential(size=(300, 50)) * 10.0 ** rng.integers(-17, 3, (300, 50))
    assert (np.diff(forward_rows(transform, ts), axis=1) >= 0).all()


@pytest.mark.parametrize("is_fixed_at", [0, 2, 4])
def test_fixed_entries_of_an_increasing_block_stay(is_fixed_at):
    values = vector(0.1, 0.2, 0.3, 0.7, 1.1)
    low, high = np.full(5, -INF), np.full(5, INF)
    low[is_fixed_at] = high[is_fixed_at] = values[is_fixed_at]
    transform = Increasing(low, high)
    assert transform.n_free == 4
    for form in (transform, transform.opened()):
        outs = forward_rows(form, points(form, 0))
        assert (outs[:, is_fixed_at] == values[is_fixed_at]).all()


@pytest.mark.parametrize(
    "matrix",
    [
        np.zeros((3, 3)),
        np.ones((3, 3)),
        np.diag([1.0, 0.0, 2.0]),
        np.diag([0.0, 1.0, 2.0]),
        np.array([[1.0, -1.0], [-1.0, 1.0]]),
        np.array([[4.0, 1.0], [1.0, 9.0]]),
    ],
)
def test_singular_matrices_have_a_factor(matrix):
    factor = semidefinite_cholesky(matrix)
    np.testing.assert_allclose(factor @ factor.T, matrix, atol=1e-14)
    np.testing.assert_allclose(factor, np.tril(factor), atol=1e-14)
    assert (np.diag(factor) >= 0).all()


def test_regularization_keeps_a_matrix_away_from_singular():
    transform = Cholesky(2, vector(0.5), vector(INF), 0.25)
    out = cov_params_to_matrix(forward(transform, transform.lower.clip(-1e3)))
    assert np.linalg.det(out) >= 0.25**2 * (1 - 1e-9)


# Where the map is not regular, derivatives with respect to inputs say nothing. From a corner that
# is no minimum, some escape must lead down.
@pytest.mark.parametrize(
    ("transform", "corner", "better"),
    [
        (Budget(vector(1), np.zeros(3), np.full(3, 1.0), np.ones(3)), [1, 0, 0], [0.3, 0.3, 0.4]),
        (Budget(vector(1), np.zeros(3), np.full(3, 0.6), np.ones(3)), [0.6, 0.4, 0], [0, 0.5, 0.5]),
        (Increasing(np.zeros(3), np.ones(3)), [1, 1, 1], [0.2, 0.5, 1]),
        (Increasing(np.zeros(3), np.ones(3)), [1, 1, 1], [0.2, 0.2, 0.2]),
        (Cholesky(2, vector(0), vector(INF), 0.0), [0, 0, 0], [1, 0, 1]),
        (Cholesky(2, vector(0), vector(INF), 0.0), [0, 0, 0], [1, -1, 1]),
        (Cholesky(2, vector(0), vector(INF), 0.0), [1, 0, 0], [1, 0, 1]),
        (Cholesky(2, vector(1), vector(1), 0.0), [1, 1, 1], [1, 1, 3]),
        (Spherical(2, np.ones(2), np.full(2, 2.0), False), [1, 1, 1], [1, 1, 0.2]),
        (Spherical(2, np.ones(2), np.full(2, 2.0), False), [1, 1, -1], [1, 1, 0.2]),
        (Spherical(2, np.zeros(2), np.full(2, 2.0), True), [1, 0, 0], [1, 0, 1]),
        (Spherical(3, np.ones(3), np.full(3, 2.0), False), [1, 1, 1, 1, 1, 1],
         [1, 1, 1, 0.5, 0.5, 0.5]),
    ],
)  # fmt: skip
@both_forms
def test_some_escape_leads_down_from_a_corner(transform, corner, better, is_open):
    corner, better = np.array(corner, dtype=float), np.array(better, dtype=float)
    form = transform.opened() if is_open else transform
    t = form.inverse(corner, margin=1e-6)
    block = forward(form, t)
    np.testing.assert_allclose(block, corner, atol=1e-6)
    gradients = [2 * (block - better)]
    if transform.polytope() is None:
        # matrices can do without; of polytopes a run learns the gradient from differences
        gradients.append(None)
    for gradient in gradients:
        assert form.may_deceive(t, has_gradient=gradient is not None)
        found = np.array(form.escapes(t, block, gradient))
        distances = ((forward_rows(form, found) - better) ** 2).sum(axis=1)
        assert distances.min() < ((block - better) ** 2).sum() - 1e-6


def test_nothing_leads_down_from_a_minimum():
    transform = Budget(vector(1), np.zeros(3), np.full(3, 0.6), np.ones(3))
    t = transform.inverse(vector(0.6, 0.4, 0))
    # the entries with the largest slope are as small as they can be
    assert transform.slope(vector(0.6, 0.4, 0), vector(1, 2, 3)) == 0
    assert transform.slope(vector(0.6, 0.4, 0), vector(3, 2, 1)) > 0.1
    for near in transform.escapes(t, vector(0.6, 0.4, 0), vector(1, 2, 3)):
        assert forward(transform, near) @ vector(1, 2, 3) >= 0.6 + 2 * 0.4 - 1e-12


def test_all_inputs_of_a_simplex_at_zero_may_deceive():
    transform = Simplex(vector(1), np.zeros(3), np.ones(3))
    assert transform.may_deceive(np.zeros(3), has_gradient=True)
    assert not transform.may_deceive(vector(1, 0, 0), has_gradient=False)
    found = transform.escapes(np.zeros(3), np.full(3, 1 / 3), vector(1, 0, 0))
    assert forward_rows(transform, np.array(found))[:, 0].min() < 0.3
