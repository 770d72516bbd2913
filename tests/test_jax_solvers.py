"""Solvers in pure JAX: optima that are known, in a box and outside of convexity."""

import jax.numpy as jnp
import numpy as np
import pytest
from scipy import optimize

import optimagic_lite as om
from optimagic_lite.data.nist import load_nist

# ---- jax_newton ----------------------------------------------------------------------------------


def quadratic(x, hessian, slope):
    return jnp.dot(x, hessian @ x) / 2 + jnp.dot(slope, x)


def newton_in_a_box(start, hessian, slope, lower, upper):
    bounds = om.Bounds(lower=lower, upper=upper)
    data = {"hessian": hessian, "slope": slope}
    return om.minimize(quadratic, start, "jax_newton", bounds=bounds, fun_kwargs=data)


def bounded_quadratic(rng, n):
    """Return Hessian, slope, bounds and minimum, whose multipliers are drawn too."""
    root = rng.normal(size=(n, n))
    hessian = root @ root.T + 0.1 * np.eye(n)
    minimum, side = rng.normal(size=n), rng.integers(-1, 2, size=n)
    lower = np.where(side < 0, minimum, minimum - rng.uniform(0.01, 2, size=n))
    upper = np.where(side > 0, minimum, minimum + rng.uniform(0.01, 2, size=n))
    multipliers = -side * rng.uniform(0.1, 1, size=n)
    return hessian, multipliers - hessian @ minimum, lower, upper, minimum


def test_newton_solves_a_convex_quadratic_in_a_box_with_one_step():
    rng = np.random.default_rng(0)
    for _ in range(20):
        hessian, slope, lower, upper, minimum = bounded_quadratic(rng, 4)
        result = newton_in_a_box(rng.uniform(lower, upper), hessian, slope, lower, upper)
        assert result.success
        assert result.n_fun_evals <= 3
        np.testing.assert_allclose(result.params, minimum, rtol=0, atol=1e-12)
        assert ((lower <= result.params) & (result.params <= upper)).all()


def test_newton_leaves_saddles_and_finds_a_corner_of_a_concave_quadratic():
    # x0 x1 + (x2 - 1/2)^2 / 2 - x3^2: no curvature of its own, a minimum inside, and none
    hessian = np.array([[0.0, 1, 0, 0], [1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, -2]])
    slope = np.array([0.0, 0.0, -0.5, 0.0])
    start = np.array([0.2, 0.1, -0.9, 0.3])
    result = newton_in_a_box(start, hessian, slope, np.full(4, -1.0), np.full(4, 1.0))
    assert result.success
    assert abs(result.params[0]) == 1
    np.testing.assert_allclose(result.params[1:], [-result.params[0], 0.5, 1], rtol=0, atol=1e-12)


def logs(x, weight):
    return jnp.sum(x - weight * jnp.log(x))


@pytest.mark.filterwarnings("ignore:A user function failed")
def test_newton_survives_nan_and_converges_quadratically():
    weight = np.array([0.5, 2.0])
    # from ten times the minimum, a Newton step leads to where there is no logarithm
    start = np.array([5.0, 0.1])
    newton = om.algos.jax_newton(convergence_gtol_abs=1e-10)
    data = {"weight": weight}
    result = om.minimize(logs, start, newton, fun_kwargs=data, error_handling="continue")
    assert result.success
    np.testing.assert_allclose(result.params, weight, rtol=1e-9)
    assert np.isnan(result.history.fun).any()
    error = np.abs(np.array(result.history.flat_params) - weight).max(axis=1)
    n_far = int((error > 0.1).sum())
    assert len(error) <= n_far + 5
    # exactly: the error of x is its square divided by the weight
    assert (error[n_far + 1 : n_far + 3] < 2.01 * error[n_far : n_far + 2] ** 2).all()


# ---- jax_lm --------------------------------------------------------------------------------------


def test_lm_finds_certified_parameters_and_those_on_a_bound():
    problem = load_nist("Misra1a")
    residuals = om.mark.least_squares(problem.residuals)

    def solve(upper):
        return om.minimize(
            residuals,
            problem.start1,
            "jax_lm",
            bounds=om.Bounds(lower={"b1": 0.0, "b2": 0.0}, upper={"b1": 1000.0, "b2": upper}),
            fun_kwargs=problem.data,
        )

    result = solve(1.0)
    assert result.success
    assert problem.digits(result.params) >= 9
    assert result.n_fun_evals <= 40

    bound = problem.certified["b2"] * 0.9
    result = solve(bound)
    assert result.success
    assert result.params["b2"] == bound
    # b1 is the coefficient of a regression
    column = 1 - np.exp(-bound * problem.data["x"])
    expected = column @ problem.data["y"] / (column @ column)
    assert result.params["b1"] == pytest.approx(expected, rel=1e-9)


def linear(x, matrix, target):
    return jnp.dot(matrix, x) - target


def test_lm_solves_a_regression_in_a_box_also_with_dependent_columns():
    rng = np.random.default_rng(0)
    lower, upper = np.full(4, -0.5), np.array([0.1, 0.5, np.inf, 2.0])
    for is_dependent in (False, True):
        matrix, target = rng.normal(size=(7, 4)), rng.normal(size=7)
        if is_dependent:
            matrix[:, 3] = matrix[:, 0] + matrix[:, 1]
        result = om.minimize(
            om.mark.least_squares(linear),
            np.zeros(4),
            "jax_lm",
            bounds=om.Bounds(lower=lower, upper=upper),
            fun_kwargs={"matrix": matrix, "target": target},
        )
        expected = optimize.lsq_linear(matrix, target, (lower, upper), method="bvls", tol=1e-14)
        assert result.success
        assert expected.active_mask.any()
        assert result.fun == pytest.approx(2 * expected.cost, rel=1e-10)


def test_hessians_are_counted():
    result = om.minimize(lambda x: jnp.sum(jnp.exp(x) - 2 * x), np.zeros(3), "jax_newton")

    assert result.n_iterations > 2
    assert result.n_hess_evals == result.n_fun_evals
    assert om.minimize(lambda x: jnp.sum(x**2), np.ones(3), "jax_bfgs").n_hess_evals == 0
