"""Constrained problems whose solution is known from somewhere else: a formula or another method.

Box forms hold bounds as bounds, so that zeros and binding inequalities are reached. Open forms are
for algorithms without bounds; they come near a boundary, not onto it, hence the wider tolerance.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from scipy import optimize

import optimagic_lite as om
from optimagic_lite.utilities import (
    cov_matrix_to_params,
    cov_matrix_to_sdcorr_params,
    cov_params_to_matrix,
    sdcorr_params_to_matrix,
)

BOX = ["scipy_lbfgsb", "scipy_slsqp", "nlopt_bobyqa"]
OPEN = ["scipy_bfgs", "scipy_trust_exact", "optimistix_bfgs"]
NATIVE = ["scipy_slsqp", "scipy_trust_constr", "scipy_cobyqa"]


def quadratic(x, A, b):
    return jnp.dot(x, jnp.dot(A, x)) / 2 - jnp.dot(b, x)


def solve(fun, start, algorithm, constraints, *, bounds=None, **kwargs):
    """Minimize with success; open forms for algorithms that keep no bounds."""
    bounds_as = "transform" if algorithm in OPEN else "bounds"
    result = om.minimize(
        fun, start, algorithm, constraints=constraints, bounds=bounds, bounds_as=bounds_as,
        fun_kwargs=kwargs,
    )  # fmt: skip
    assert result.success, result.message
    return result


def check_params(result, expected, algorithm, *, box=1e-4, open_=5e-3):
    atol = open_ if algorithm in OPEN else box
    np.testing.assert_allclose(np.asarray(result.params), expected, rtol=0, atol=atol)


# ---- order -----------------------------------------------------------------------------------


def pool_adjacent_violators(y, weights):
    """Weighted isotonic regression (Barlow and others 1972)."""
    pools = []
    for value, weight in zip(y, weights, strict=True):
        pools.append([value, weight, 1])
        while len(pools) > 1 and pools[-2][0] >= pools[-1][0]:
            right, left = pools.pop(), pools.pop()
            total = left[1] + right[1]
            mean = (left[0] * left[1] + right[0] * right[1]) / total
            pools.append([mean, total, left[2] + right[2]])
    return np.concatenate([np.full(count, value) for value, _, count in pools])


Y = np.array([1.0, 3.0, 2.0, 2.5, 0.5, 4.0, 3.5, 6.0])
WEIGHTS = np.array([1.0, 2.0, 1.0, 0.5, 3.0, 1.0, 2.0, 1.0])


def distance(x, y, weights):
    return jnp.sum(weights * (x - y) ** 2)


def distance_numpy(x, y, weights):
    return float(np.sum(weights * (x - y) ** 2))


@pytest.mark.parametrize("fun", [distance, distance_numpy])
@pytest.mark.parametrize("algorithm", [*BOX, *OPEN[:2], "scipy_trust_constr"])
def test_isotonic_regression(algorithm, fun):
    start = np.linspace(0, 1, len(Y))
    result = solve(fun, start, algorithm, om.IncreasingConstraint(), y=Y, weights=WEIGHTS)
    expected = pool_adjacent_violators(Y, WEIGHTS)
    check_params(result, expected, algorithm)
    assert len(np.unique(expected)) < len(Y)
    assert result.fun == pytest.approx(distance_numpy(expected, Y, WEIGHTS), rel=1e-5)
    assert (np.diff(result.params) >= 0).all()


def test_isotonic_regression_inside_jax():
    start = np.linspace(0, 1, len(Y))
    result = solve(
        distance, start, "optimistix_bfgs", om.IncreasingConstraint(), y=Y, weights=WEIGHTS
    )
    check_params(result, pool_adjacent_violators(Y, WEIGHTS), "optimistix_bfgs")


@pytest.mark.parametrize("algorithm", [*BOX, "scipy_trust_exact"])
def test_antitonic_regression_by_maximize(algorithm):
    start = np.linspace(1, 0, len(Y))
    result = om.maximize(
        lambda x: -distance(x, Y, WEIGHTS),
        start,
        algorithm,
        constraints=om.DecreasingConstraint(),
    )
    expected = pool_adjacent_violators(Y[::-1], WEIGHTS[::-1])[::-1]
    assert result.success
    check_params(result, expected, algorithm)
    assert (np.diff(result.params) <= 0).all()


@pytest.mark.parametrize("algorithm", BOX)
def test_isotonic_regression_in_bounds_clips_the_free_one(algorithm):
    # bounded isotonic regression with constant bounds is the clipped one
    expected = np.clip(pool_adjacent_violators(Y, WEIGHTS), 1.5, 3.6)
    start = np.linspace(1.6, 3.5, len(Y))
    result = solve(
        distance, start, algorithm, om.IncreasingConstraint(),
        bounds=om.Bounds(lower=1.5, upper=3.6), y=Y, weights=WEIGHTS,
    )  # fmt: skip
    check_params(result, expected, algorithm)


# ---- random quadratics -----------------------------------------------------------------------


def random_quadratic(rng, n):
    root = rng.normal(size=(n, n))
    return root @ root.T + 0.1 * np.eye(n), rng.normal(size=n) * 3


def reference(A, b, start, bounds, rows):
    """Solve the raw problem with SciPy, and check the answer by a linear programme.

    At the minimum of a convex function no feasible direction descends.
    """
    lower, upper = bounds
    matrix = np.atleast_2d(rows.A)
    low, high = (np.broadcast_to(v, len(matrix)) for v in (rows.lb, rows.ub))
    # SciPy warns where equalities and inequalities are mixed
    parts = [
        optimize.LinearConstraint(matrix[part], low[part], high[part])
        for part in (low == high, low != high)
        if part.any()
    ]
    raw = optimize.minimize(
        lambda x: x @ A @ x / 2 - b @ x, start, jac=lambda x: A @ x - b, method="SLSQP",
        bounds=optimize.Bounds(lower, upper), constraints=parts,
        options={"ftol": 1e-15, "maxiter": 1000},
    )  # fmt: skip
    gradient = A @ raw.x - b
    value = matrix @ raw.x
    above, below = np.isfinite(high), np.isfinite(low)
    best = optimize.linprog(
        gradient,
        A_ub=np.concatenate([matrix[above], -matrix[below]]),
        b_ub=np.maximum(np.concatenate([(high - value)[above], (value - low)[below]]), 0.0),
        bounds=list(
            zip(
                np.minimum(np.maximum(lower - raw.x, -1), 0),
                np.maximum(np.minimum(upper - raw.x, 1), 0),
                strict=True,
            )
        ),
    )
    assert best.fun > -1e-5 * max(1.0, abs(raw.fun))
    return raw


def check_quadratic(algorithm, A, b, start, constraints, rows, lower, upper, *, gap=1e-6):
    """A claimed success must be the minimum, within the tolerance of the form."""
    raw = reference(A, b, start, (lower, upper), rows)
    is_bounded = np.isfinite(lower).any() or np.isfinite(upper).any()
    result = om.minimize(
        quadratic, start, algorithm, constraints=constraints, fun_kwargs={"A": A, "b": b},
        bounds=om.Bounds(lower=lower, upper=upper) if is_bounded else None,
        bounds_as="transform" if algorithm in OPEN else "bounds",
    )  # fmt: skip
    assert result.success or algorithm in OPEN, result.message
    if result.success:
        # interior points stop where the barrier still keeps them away from the boundary
        gap = 1e-3 if algorithm == "scipy_trust_constr" else 1e-4 if algorithm in OPEN else gap
    else:
        # an open form may be caught near a corner, but not far from the minimum, and says so
        assert "corner" in result.message
        gap = 5e-2
    assert result.fun - raw.fun <= gap * max(1.0, abs(raw.fun))
    x = result.params
    value = np.atleast_2d(rows.A) @ x
    assert (x >= lower - 1e-9).all()
    assert (x <= upper + 1e-9).all()
    assert (value >= rows.lb - 2e-6).all()
    assert (value <= rows.ub + 2e-6).all()


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("algorithm", [*BOX, *OPEN])
def test_probabilities_of_random_quadratics(algorithm, seed):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(3, 9))
    A, b = random_quadratic(rng, n)
    start = [np.ones(n) / n, np.eye(n)[0], rng.dirichlet(np.ones(n))][seed % 3]
    rows = optimize.LinearConstraint(np.ones(n), 1, 1)
    check_quadratic(
        algorithm, A, b, start, om.ProbabilityConstraint(), rows, np.zeros(n), np.full(n, np.inf)
    )


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("algorithm", [*BOX, *OPEN[:2], "scipy_trust_constr"])
def test_bounded_sums_of_random_quadratics(algorithm, seed):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(3, 9))
    A, b = random_quadratic(rng, n)
    start = rng.normal(size=n)
    lower, upper = start - rng.exponential(size=n), start + rng.exponential(size=n)
    weights = np.ones(n) if seed % 2 else rng.choice([-2.0, 0.5, 1.0, 3.0], size=n)
    total = weights @ start
    width = 0.3 if seed % 3 == 0 else 0.0
    constraint = om.LinearConstraint(
        weights=weights, lower_bound=total - width, upper_bound=total + width
    )
    rows = optimize.LinearConstraint(weights, total - width, total + width)
    check_quadratic(algorithm, A, b, start, constraint, rows, lower, upper)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("algorithm", [*BOX, *OPEN[:2], "scipy_trust_constr"])
def test_bounded_order_of_random_quadratics(algorithm, seed):
    rng = np.random.default_rng(100 + seed)
    n = int(rng.integers(3, 9))
    A, b = random_quadratic(rng, n)
    start = np.sort(rng.normal(size=n))
    lower, upper = start - rng.exponential(size=n), start + rng.exponential(size=n)
    lower[rng.random(n) < 0.3] = -np.inf
    upper[rng.random(n) < 0.3] = np.inf
    rows = optimize.LinearConstraint(np.eye(n)[1:] - np.eye(n)[:-1], 0, np.inf)
    check_quadratic(algorithm, A, b, start, om.IncreasingConstraint(), rows, lower, upper)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("algorithm", ["scipy_slsqp", "scipy_cobyqa"])
def test_two_rows_over_bounded_parameters_of_random_quadratics(algorithm, seed):
    rng = np.random.default_rng(200 + seed)
    n = 5
    A, b = random_quadratic(rng, n)
    start = rng.normal(size=n)
    lower, upper = start - rng.exponential(size=n), start + rng.exponential(size=n)
    weights = rng.normal(size=(2, n))
    low = weights @ start - [0.0, 0.5]
    high = weights @ start + [0.0, 0.1]
    constraint = om.LinearConstraint(weights=weights, lower_bound=low, upper_bound=high)
    rows = optimize.LinearConstraint(weights, low, high)
    check_quadratic(algorithm, A, b, start, constraint, rows, lower, upper, gap=1e-5)


# small problems at whose corners the map from x to params is singular or has a kink
CORNERS = {
    "simplex": (
        [0, 1, 0], [3, 1, 2], [0, -4, 0], None, om.ProbabilityConstraint(), [0.4, 0, 0.6],
    ),
    "budget": (
        [0, -1, -1], [1, 3, 2], [2, -3, -5], om.Bounds([-1, -2, -3], [1, -1, -1]),
        om.LinearConstraint(weights=1.0, value=-2.0), [1, -1, -2],
    ),
    "order at its upper end": (
        [-1, 1, 1], [2, 2, 3], [4, 0, 2], om.Bounds([-2, -1, -1], [1, 3, 1]),
        om.IncreasingConstraint(), [6 / 7, 6 / 7, 6 / 7],
    ),
    "order with two fixed ends": (
        [-1, 0, 0], [2, 3, 2], [-6, 1, 2], om.Bounds([-3, -2, 0], [-1, 0, 2]),
        om.IncreasingConstraint(), [-3, 0, 1],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CORNERS)
@pytest.mark.parametrize("algorithm", [*BOX, *OPEN, "scipy_trust_constr"])
def test_corners_that_are_no_minimum_are_left(algorithm, name):
    start, diagonal, b, bounds, constraint, expected = CORNERS[name]
    result = solve(
        quadratic, np.array(start, float), algorithm, constraint, bounds=bounds,
        A=np.diag(diagonal).astype(float), b=np.array(b, float),
    )  # fmt: skip
    check_params(result, expected, algorithm, box=1e-3, open_=1e-2)


# ---- probabilities ---------------------------------------------------------------------------


def em_weights(densities, steps=20_000):
    weights = np.full(densities.shape[1], 1 / densities.shape[1])
    for _ in range(steps):
        joint = densities * weights
        weights = (joint / joint.sum(axis=1, keepdims=True)).mean(axis=0)
    return weights


def mixture_densities():
    rng = np.random.default_rng(5)
    draws = np.concatenate([rng.normal(-2, 1, 120), rng.normal(2, 1, 80)])
    means = np.array([-2.0, 0.0, 2.0, 6.0])
    return np.exp(-((draws[:, None] - means) ** 2) / 2) / np.sqrt(2 * np.pi)


@pytest.mark.parametrize("algorithm", [*BOX, *OPEN])
def test_mixture_weights_agree_with_em(algorithm):
    densities = mixture_densities()
    expected = em_weights(densities)
    assert expected.min() < 1e-8  # a component that the data do not want

    result = solve(
        lambda w, densities: -jnp.mean(jnp.log(densities @ w)),
        np.full(4, 0.25), algorithm, om.ProbabilityConstraint(), densities=densities,
    )  # fmt: skip
    check_params(result, expected, algorithm, box=2e-4)
    assert abs(result.params.sum() - 1) < 1e-12


@pytest.mark.parametrize("n", [3, 100])
@pytest.mark.parametrize("start", ["interior", "wrong vertex"])
@pytest.mark.parametrize("algorithm", ["scipy_lbfgsb", "scipy_slsqp", *OPEN])
def test_a_vertex_is_reached(algorithm, start, n):
    first = np.full(n, 1 / n) if start == "interior" else np.eye(n)[-1]
    cost = 1.0 + np.arange(n) / n
    result = solve(
        lambda w, cost: jnp.dot(cost, w), first, algorithm, om.ProbabilityConstraint(), cost=cost
    )
    if algorithm in OPEN:
        # the gap falls with the gradient of the open form, which ends the run
        assert result.fun - 1 < 1e-3
    else:
        np.testing.assert_allclose(result.params, np.eye(n)[0], atol=1e-6)


@pytest.mark.parametrize("start", ["interior", "wrong vertex"])
@pytest.mark.parametrize("algorithm", ["nlopt_bobyqa", "scipy_cobyqa", "scipy_neldermead"])
def test_a_vertex_is_reached_without_derivatives(algorithm, start):
    first = np.full(3, 1 / 3) if start == "interior" else np.eye(3)[-1]
    result = om.minimize(
        lambda w: float(w @ [1.0, 2.0, 3.0]),
        first,
        algorithm,
        constraints=om.ProbabilityConstraint(),
    )
    # bobyqa says that rounding prevents further progress when it starts where shares are zero
    assert result.success or algorithm == "nlopt_bobyqa"
    np.testing.assert_allclose(result.params, [1, 0, 0], atol=1e-6)


@pytest.mark.parametrize("algorithm", ["scipy_lbfgsb", "scipy_slsqp", "scipy_trust_exact"])
def test_probabilities_with_a_fixed_and_with_equal_entries(algorithm):
    # with w0 = 0.2 and w1 = w2 = v: 2 v + w3 = 0.8; the gradient is equalised where inside
    target = np.array([0.9, 0.1, 0.3, 0.0])
    result = solve(
        lambda w: jnp.sum((w - target) ** 2),
        np.array([0.2, 0.2, 0.2, 0.4]),
        algorithm,
        [
            om.ProbabilityConstraint(),
            om.FixedConstraint(lambda w: w[0]),
            om.EqualityConstraint(lambda w: w[1:3]),
        ],
    )
    # minimize (v - .1)^2 + (v - .3)^2 + (.8 - 2 v)^2: 12 v = 4
    check_params(result, [0.2, 1 / 3, 1 / 3, 0.8 - 2 / 3], algorithm, open_=1e-4)


# ---- matrices --------------------------------------------------------------------------------


def sample_covariance(dim):
    """Maximum-likelihood covariance of returns with a common factor."""
    rng = np.random.default_rng(dim)
    loadings = rng.normal(size=dim) + 1
    draws = rng.normal(size=(200, 1)) * loadings + rng.normal(size=(200, dim)) * np.arange(
        1, dim + 1
    )
    return np.cov(draws.T, bias=True)


def negative_loglike(cov, sample):
    return jnp.linalg.slogdet(cov)[1] + jnp.trace(jnp.linalg.solve(cov, sample))


def cov_loss(params, sample):
    return negative_loglike(cov_params_to_matrix(params), sample)


def sdcorr_loss(params, sample):
    return negative_loglike(sdcorr_params_to_matrix(params), sample)


@pytest.mark.parametrize("dim", [3, 6])
@pytest.mark.parametrize("algorithm", ["scipy_lbfgsb", "scipy_bfgs", "scipy_trust_exact"])
def test_the_mle_of_a_covariance_matrix_is_the_sample_covariance(algorithm, dim):
    sample = sample_covariance(dim)
    start = cov_matrix_to_params(np.diag(np.diag(sample)))
    result = solve(cov_loss, start, algorithm, om.FlatCovConstraint(), sample=sample)
    size = np.abs(sample).max()
    np.testing.assert_allclose(cov_params_to_matrix(result.params), sample, atol=1e-3 * size)
    expected = np.linalg.slogdet(sample)[1] + dim
    assert result.fun == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("dim", [3, 6])
@pytest.mark.parametrize("algorithm", ["scipy_lbfgsb", "scipy_bfgs", "scipy_trust_exact"])
def test_the_mle_of_deviations_and_correlations_is_that_of_the_sample(algorithm, dim):
    sample = sample_covariance(dim)
    expected = cov_matrix_to_sdcorr_params(sample)
    # the likelihood is not defined at singular matrices, where a long step could end
    start = expected * np.repeat([1.2, 0.5], [dim, len(expected) - dim])
    result = solve(sdcorr_loss, start, algorithm, om.FlatSDCorrConstraint(), sample=sample)
    np.testing.assert_allclose(result.params, expected, rtol=1e-3, atol=1e-3)
    assert result.fun == pytest.approx(np.linalg.slogdet(sample)[1] + dim, abs=1e-6)


@pytest.mark.parametrize("algorithm", ["nlopt_bobyqa", "scipy_lbfgsb"])
def test_the_mle_of_a_covariance_matrix_in_numpy(algorithm):
    sample = sample_covariance(3)

    def loss(params):
        cov = cov_params_to_matrix(params)
        return float(np.linalg.slogdet(cov)[1] + np.trace(np.linalg.solve(cov, sample)))

    start = cov_matrix_to_params(np.diag(np.diag(sample)))
    result = solve(loss, start, algorithm, om.FlatCovConstraint(regularization=1e-8))
    np.testing.assert_allclose(cov_params_to_matrix(result.params), sample, rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("algorithm", ["scipy_lbfgsb", "scipy_trust_exact"])
def test_the_mle_of_a_covariance_matrix_with_a_known_variance(algorithm):
    # regress the others on the first: its slopes and the residual covariance are kept, the
    # variance of the first is replaced by the known one
    sample, known = sample_covariance(3), 2.0
    slopes = sample[1:, 0] / sample[0, 0]
    residual = sample[1:, 1:] - np.outer(slopes, slopes) * sample[0, 0]
    expected = np.empty((3, 3))
    expected[0, 0] = known
    expected[1:, 0] = expected[0, 1:] = slopes * known
    expected[1:, 1:] = residual + np.outer(slopes, slopes) * known
    start = cov_matrix_to_params(np.diag([known, *np.diag(sample)[1:]]))
    result = solve(
        cov_loss, start, algorithm,
        [om.FlatCovConstraint(), om.FixedConstraint(lambda p: p[0])], sample=sample,
    )  # fmt: skip
    assert result.params[0] == pytest.approx(known, rel=1e-14)
    np.testing.assert_allclose(cov_params_to_matrix(result.params), expected, rtol=2e-3)


def test_a_regularization_that_binds_is_the_smallest_diagonal_entry_of_the_factor():
    # with diagonal data the factor is diagonal, and its entries are bounded one by one
    sample = np.diag([4.0, 0.25, 1.0])
    result = solve(
        cov_loss, cov_matrix_to_params(np.diag([3.0, 2.0, 2.0])), "scipy_lbfgsb",
        om.FlatCovConstraint(regularization=0.64), sample=sample,
    )  # fmt: skip
    expected = np.diag([4.0, 0.64, 1.0])
    np.testing.assert_allclose(cov_params_to_matrix(result.params), expected, atol=1e-4)


INDEFINITE = {
    "three": np.array([[1.0, 2.0, 0.5], [2.0, 1.0, -1.0], [0.5, -1.0, -0.5]]),
    "negative definite": -np.eye(3) + 0.1,
    "four": np.array([[2.0, 1, 0, -3], [1, -1, 2, 0], [0, 2, 1, 1], [-3, 0, 1, 0.5]]),
}


@pytest.mark.parametrize("name", INDEFINITE)
@pytest.mark.parametrize("algorithm", ["scipy_lbfgsb", "scipy_slsqp", "scipy_bfgs"])
def test_the_nearest_semidefinite_matrix_clips_eigenvalues(algorithm, name):
    target = INDEFINITE[name]
    values, vectors = np.linalg.eigh(target)
    expected = vectors * np.maximum(values, 0) @ vectors.T
    result = solve(
        lambda p, target: jnp.sum((cov_params_to_matrix(p) - target) ** 2),
        cov_matrix_to_params(np.eye(len(target))), algorithm, om.FlatCovConstraint(),
        target=target,
    )  # fmt: skip
    # the factor of a zero matrix is a flat point, so entries are only as good as a root
    np.testing.assert_allclose(cov_params_to_matrix(result.params), expected, atol=2e-2)
    best = float(np.sum(np.minimum(values, 0) ** 2))
    assert result.fun == pytest.approx(best, abs=1e-4)


@pytest.mark.parametrize("algorithm", ["scipy_lbfgsb", "scipy_slsqp", "scipy_bfgs"])
def test_the_nearest_correlation_matrix_of_higham(algorithm):
    # Higham (2002), doi:10.1093/imanum/22.3.329, section 4
    target = np.array([[1.0, 1, 0], [1, 1, 1], [0, 1, 1]])

    def loss(params):
        return jnp.sum((sdcorr_params_to_matrix(params) - target) ** 2)

    result = solve(
        loss, np.array([1.0, 1, 1, 0, 0, 0]), algorithm,
        [om.FlatSDCorrConstraint(), om.FixedConstraint(lambda p: p[:3])],
    )  # fmt: skip
    np.testing.assert_array_equal(result.params[:3], 1)
    np.testing.assert_allclose(result.params[3:], [0.7607, 0.1573, 0.7607], atol=1e-4)


# ---- portfolios ------------------------------------------------------------------------------

RETURNS_COV = np.array(
    [
        [0.040, 0.012, 0.006, 0.002],
        [0.012, 0.090, 0.018, -0.004],
        [0.006, 0.018, 0.025, 0.003],
        [0.002, -0.004, 0.003, 0.010],
    ]
)


def variance(w, cov):
    return 100 * jnp.dot(w, jnp.dot(cov, w))


@pytest.mark.parametrize("algorithm", [*BOX, *OPEN, "scipy_neldermead"])
def test_the_minimum_variance_portfolio(algorithm):
    inverse = np.linalg.solve(RETURNS_COV, np.ones(4))
    result = solve(
        variance, np.full(4, 0.25), algorithm, om.LinearConstraint(weights=1.0, value=1.0),
        cov=RETURNS_COV,
    )  # fmt: skip
    np.testing.assert_allclose(result.params, inverse / inverse.sum(), atol=1e-4)
    assert result.fun == pytest.approx(100 / inverse.sum(), rel=1e-8)


@pytest.mark.parametrize("algorithm", [*BOX, "scipy_trust_constr"])
def test_the_minimum_variance_portfolio_in_a_box(algorithm):
    lower, upper = np.full(4, 0.1), np.array([0.4, 0.4, 0.4, 0.45])
    rows = optimize.LinearConstraint(np.ones(4), 1, 1)
    start = np.full(4, 0.25)
    raw = reference(200 * RETURNS_COV, np.zeros(4), start, (lower, upper), rows)
    assert (np.isclose(raw.x, lower) | np.isclose(raw.x, upper)).sum() == 2
    result = solve(
        variance, start, algorithm, om.LinearConstraint(weights=1.0, value=1.0),
        bounds=om.Bounds(lower=lower, upper=upper), cov=RETURNS_COV,
    )  # fmt: skip
    np.testing.assert_allclose(result.params, raw.x, atol=1e-4)


BEFORE = np.array([0.4, 0.3, 0.2, 0.1])


def limited_turnover(turnover):
    """Return the portfolio from an independent form: bought and sold shares, both at least 0."""
    both = np.hstack([np.eye(4), -np.eye(4)])
    raw = optimize.minimize(
        lambda z: float(variance(BEFORE + both @ z, RETURNS_COV)),
        np.zeros(8),
        jac=lambda z: 200 * both.T @ RETURNS_COV @ (BEFORE + both @ z),
        method="SLSQP",
        bounds=[(0, 1)] * 8,
        constraints=[
            {"type": "eq", "fun": lambda z: (both @ z).sum()},
            {"type": "ineq", "fun": lambda z: turnover - z.sum()},
        ],
        options={"ftol": 1e-15, "maxiter": 500},
    )
    return BEFORE + both @ raw.x


@pytest.mark.parametrize("algorithm", NATIVE)
def test_a_limit_on_turnover_by_linear_rows(algorithm):
    # w - before <= d and before - w <= d, with the sum of d bounded
    rows = np.block([[np.eye(4), -np.eye(4)], [np.eye(4), np.eye(4)]])
    constraints = [
        om.LinearConstraint(lambda p: p["w"], weights=1.0, value=1.0),
        om.LinearConstraint(
            lambda p: [p["w"], p["d"]],
            weights=rows,
            lower_bound=np.concatenate([np.full(4, -np.inf), BEFORE]),
            upper_bound=np.concatenate([BEFORE, np.full(4, np.inf)]),
        ),
        om.LinearConstraint(lambda p: p["d"], weights=1.0, upper_bound=0.3),
    ]
    result = solve(
        lambda p: variance(p["w"], RETURNS_COV),
        {"w": BEFORE, "d": np.full(4, 0.05)},
        algorithm,
        constraints,
    )
    np.testing.assert_allclose(result.params["w"], limited_turnover(0.3), atol=1e-3)
    assert np.abs(result.params["w"] - BEFORE).sum() <= 0.3 + 1e-5


def test_a_limit_on_turnover_by_a_nonlinear_constraint():
    result = solve(
        variance, BEFORE, "nlopt_cobyla",
        [
            om.LinearConstraint(weights=1.0, value=1.0),
            om.NonlinearConstraint(func=lambda w: np.abs(w - BEFORE).sum(), upper_bound=0.3),
        ],
        cov=RETURNS_COV,
    )  # fmt: skip
    np.testing.assert_allclose(result.params, limited_turnover(0.3), atol=1e-3)


# ---- fixed and equal parameters, overlapping rows --------------------------------------------

LS_A, LS_B = np.random.default_rng(7).normal(size=(30, 6)), np.random.default_rng(8).normal(size=30)


def least_squares(x):
    return float(np.sum((LS_A @ x - LS_B) ** 2))


def least_squares_jac(x):
    return 2 * LS_A.T @ (LS_A @ x - LS_B)


def least_squares_hess(x):
    return 2 * LS_A.T @ LS_A


def equality_constrained(matrix, value):
    """Solve the least-squares problem under ``matrix @ x = value`` by its KKT system."""
    k, n = matrix.shape
    system = np.block([[2 * LS_A.T @ LS_A, matrix.T], [matrix, np.zeros((k, k))]])
    return np.linalg.solve(system, np.concatenate([2 * LS_A.T @ LS_B, value]))[:n]


TIES = [
    om.FixedConstraint(lambda x: x[5]),
    om.EqualityConstraint(lambda x: x[[0, 3]]),
    om.PairwiseEqualityConstraint([lambda x: x[[1]], lambda x: x[[4]]]),
]
TIES_MATRIX = np.array(
    [[0.0, 0, 0, 0, 0, 1], [1, 0, 0, -1, 0, 0], [0, 1, 0, 0, -1, 0]],
)


@pytest.mark.parametrize("derivatives", ["gradient", "Hessian", "numerical"])
@pytest.mark.parametrize("algorithm", ["scipy_trust_exact", "scipy_newton_cg", "scipy_dogleg"])
def test_ties_with_derivatives_in_numpy(algorithm, derivatives):
    start = np.array([1.0, 2.0, 0.0, 1.0, 2.0, 0.5])
    arguments = {}
    if derivatives != "numerical":
        arguments["jac"] = least_squares_jac
    if derivatives == "Hessian":
        arguments["hess"] = least_squares_hess
    result = om.minimize(least_squares, start, algorithm, constraints=TIES, **arguments)
    assert result.success
    expected = equality_constrained(TIES_MATRIX, np.array([0.5, 0, 0]))
    np.testing.assert_allclose(result.params, expected, atol=1e-5)
    assert result.n_free == 3


@pytest.mark.parametrize("scaling", [False, True])
@pytest.mark.parametrize("algorithm", ["scipy_trust_exact", "scipy_lbfgsb", "nlopt_bobyqa"])
def test_maximize_over_ties_in_a_tree_with_pandas(algorithm, scaling):
    params = {"a": pd.Series([1.0, 2.0, 0.0]), "b": (1.0, np.array([2.0, 0.5]))}

    def flat(p):
        return np.array([*p["a"], p["b"][0], *p["b"][1]])

    result = om.maximize(
        lambda p: -least_squares(flat(p)),
        params,
        algorithm,
        constraints=[
            om.FixedConstraint(lambda p: p["b"][1][1]),
            om.EqualityConstraint(lambda p: [p["a"][0], p["b"][0]]),
            om.PairwiseEqualityConstraint([lambda p: p["a"][1], lambda p: p["b"][1][0]]),
        ],
        scaling=scaling,
    )
    assert result.success
    expected = equality_constrained(TIES_MATRIX, np.array([0.5, 0, 0]))
    np.testing.assert_allclose(flat(result.params), expected, atol=1e-4)


@pytest.mark.parametrize("algorithm", [*BOX, *OPEN])
def test_overlapping_equalities_of_a_least_squares_problem(algorithm):
    matrix = np.array([[1.0, 1, 1, 0, 0, 0], [0, 0, 1, -1, 2, 0], [0, 0, 0, 0, 1, 1]])
    constraints = [
        om.LinearConstraint(lambda x: x[:3], weights=1.0, value=1.0),
        om.LinearConstraint(lambda x: x[2:5], weights=[1.0, -1, 2], value=0.5),
        om.LinearConstraint(lambda x: x[[4, 5]], weights=1.0, value=-1.0),
    ]
    value = np.array([1.0, 0.5, -1.0])
    start = np.linalg.lstsq(matrix, value)[0]
    result = solve(lambda x: jnp.sum((LS_A @ x - LS_B) ** 2), start, algorithm, constraints)
    np.testing.assert_allclose(result.params, equality_constrained(matrix, value), atol=1e-4)
    np.testing.assert_allclose(matrix @ result.params, value, atol=1e-10)


@pytest.mark.parametrize("algorithm", ["scipy_lbfgsb", "scipy_slsqp", "scipy_trust_constr"])
def test_an_inequality_binds_only_where_it_must(algorithm):
    free = np.linalg.lstsq(LS_A, LS_B)[0]
    total = free.sum()
    start = np.full(6, (total - 2) / 6)
    for upper, matrix in ((total + 1, None), (total - 1, np.ones((1, 6)))):
        result = solve(
            lambda x: jnp.sum((LS_A @ x - LS_B) ** 2), start, algorithm,
            om.LinearConstraint(weights=1.0, upper_bound=upper),
        )  # fmt: skip
        expected = free if matrix is None else equality_constrained(matrix, np.array([upper]))
        np.testing.assert_allclose(result.params, expected, atol=1e-4)


def test_jax_arrays_come_back_as_jax_arrays():
    with jax.enable_x64(True):
        start = jnp.array([0.5, 0.5])
    result = solve(lambda w: w @ jnp.array([1.0, 3.0]), start, "scipy_lbfgsb",
                   om.ProbabilityConstraint())  # fmt: skip
    assert isinstance(result.params, jax.Array)
    np.testing.assert_allclose(result.params, [1, 0], atol=1e-6)
