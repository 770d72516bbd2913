"""Runs are not deceived where a transformation is not regular, or say that they may be."""

import jax.numpy as jnp
import numpy as np
import pytest

import optimagic_lite as om

CORRELATED = np.array([2.0, 0.5, 1.0, 0.3, 0.2, -0.4])
SINGULAR = [
    [1.0, 1.0, 1.0, -1.0, 0.0, 0.0],
    [1.0, 1.0, 1.0, 1.0, 0.0, 0.0],
    [1.0, 1.0, 1.0, 0.0, -1.0, 0.0],
    [1.0, 1.0, 1.0, -1.0, 0.5, -0.5],
]
both_languages = pytest.mark.parametrize("xp", [np, jnp], ids=["numpy", "jax"])
algorithms = pytest.mark.parametrize("name", ["scipy_lbfgsb", "scipy_bfgs", "nlopt_bobyqa"])


def distance(xp, target):
    return lambda x: xp.sum((x - target) ** 2)


@both_languages
@algorithms
@pytest.mark.parametrize("start", SINGULAR, ids=str)
def test_a_singular_correlation_matrix_is_left(xp, name, start):
    constraint = om.FlatSDCorrConstraint()
    fun = distance(xp, CORRELATED)
    result = om.minimize(fun, np.array(start), name, constraints=constraint)
    assert result.success, result.message
    np.testing.assert_allclose(result.params, CORRELATED, atol=1e-4)


@both_languages
@algorithms
def test_a_covariance_of_zero_is_left(xp, name):
    target = np.array([1.0, 0.5, 2.0])
    result = om.minimize(
        distance(xp, target), np.zeros(3), name, constraints=om.FlatCovConstraint()
    )
    assert result.success, result.message
    np.testing.assert_allclose(result.params, target, atol=1e-3)


@both_languages
def test_a_singular_covariance_with_bounds_on_variances_is_left(xp):
    target = np.array([4.0, 0.3, 0.5, 0.2, -0.4, 1.0])
    upper = np.array([9.0, np.inf, 9.0, np.inf, np.inf, 9.0])
    lower = np.where(upper == 9, 0.0, -np.inf)
    result = om.minimize(
        distance(xp, target),
        np.array([1.0, -1.0, 1.0, 0.0, 0.0, 1.0]),
        "scipy_lbfgsb",
        constraints=om.FlatCovConstraint(),
        bounds=om.Bounds(lower, upper),
    )
    assert result.success, result.message
    np.testing.assert_allclose(result.params, target, atol=1e-4)


@both_languages
@pytest.mark.parametrize("n", [3, 20])
def test_every_vertex_of_a_simplex_is_left(xp, n):
    target = np.linspace(1.0, 2.0, n) / np.linspace(1.0, 2.0, n).sum()
    for vertex in (0, n // 2, n - 1):
        for name in ("scipy_lbfgsb", "scipy_bfgs"):
            start = np.eye(n)[vertex]
            constraint = om.ProbabilityConstraint()
            result = om.minimize(distance(xp, target), start, name, constraints=constraint)
            assert result.success, result.message
            np.testing.assert_allclose(result.params, target, atol=1e-3)


@pytest.mark.parametrize("maxfun", [2, 4, 10, 14])
def test_a_limit_on_the_way_out_of_a_corner_is_no_success(maxfun):
    target = np.array([1.0, 0.5, 2.0])
    result = om.minimize(
        distance(np, target),
        np.zeros(3),
        "scipy_lbfgsb",
        constraints=om.FlatCovConstraint(),
        algo_options={"stopping_maxfun": maxfun},
    )
    assert not result.success
    assert "stopping_maxfun" in result.message
    assert result.n_fun_evals == maxfun


def test_a_callback_on_the_way_out_of_a_corner_is_no_success():
    target = np.array([1.0, 0.5, 2.0])
    result = om.minimize(
        distance(jnp, target),
        np.zeros(3),
        "scipy_lbfgsb",
        constraints=om.FlatCovConstraint(),
        callback=lambda state: state.n_fun_evals >= 3,
    )
    assert not result.success
    assert "callback" in result.message
    assert result.n_fun_evals == 3


def test_small_numbers_are_not_taken_for_rounding():
    result = om.minimize(
        lambda x: jnp.sum((x / 1e-11 - 3) ** 2),
        np.full(3, 1e-11),
        "scipy_lbfgsb",
        bounds=om.Bounds(0.0),
        constraints=om.LinearConstraint(weights=1.0, upper_bound=9e-11),
        scaling={"clipping_value": 1e-14},
    )
    assert result.success
    assert result.n_free == 3
    np.testing.assert_allclose(result.params, 3e-11, rtol=1e-4)


def test_small_start_values_that_differ_are_not_equal():
    with pytest.raises(om.exceptions.InvalidParamsError, match="0 = 1e-07 and 1 = 9e-07"):
        om.check_constraints(np.array([1e-7, 9e-7]), om.EqualityConstraint())


@both_languages
def test_a_simplex_search_from_a_vertex_is_not_caught_on_an_edge(xp):
    target = np.array([0.1, 0.6, 0.2, 0.1])
    start = np.array([0.0, 0.0, 0.0, 1.0])
    constraint = om.ProbabilityConstraint()
    result = om.minimize(distance(xp, target), start, "scipy_neldermead", constraints=constraint)
    np.testing.assert_allclose(result.params, target, atol=1e-3)


@pytest.mark.parametrize("seed", range(30))
def test_scaling_breaks_no_bound_by_rounding(seed):
    rng = np.random.default_rng(seed)
    lower = rng.uniform(-1, 1)
    upper = lower + rng.uniform(0.1, 3)
    sign = rng.choice([-1.0, 1.0])
    called = []

    def fun(x):
        called.append(x[0])
        return sign * x[0]

    start = np.array([rng.uniform(lower, upper)])
    bounds = om.Bounds(np.array([lower]), np.array([upper]))
    result = om.minimize(fun, start, "scipy_lbfgsb", bounds=bounds, scaling=True)
    assert min(called) >= lower
    assert max(called) <= upper
    assert result.params[0] == pytest.approx(lower if sign > 0 else upper, rel=1e-14)
