"""Hessians, covariances and standard errors at a solution.

References: statsmodels, certified values of NIST, and covariances that can be written down.
"""

from functools import cache
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from compilations import count_compilations
from jax.scipy.stats import norm

import optimagic_lite as om
from optimagic_lite.data.nist import NAMES, load_nist
from optimagic_lite.exceptions import (
    InvalidKwargsError,
    NotAvailableError,
    UserFunctionRuntimeError,
)
from optimagic_lite.inference.inference import available, make_inference
from optimagic_lite.mark import structure_of
from optimagic_lite.objective.written import UserFunctions

METHODS = ["hessian", "jacobian", "robust"]
every_method = pytest.mark.parametrize("method", METHODS)

PRECISE = {
    "bhhh": {"convergence_gtol_abs": 1e-9, "convergence_ftol_rel": 1e-15},
    "scipy_bfgs": {"convergence_gtol_abs": 1e-8},
    "scipy_trust_exact": {"convergence_gtol_abs": 1e-8},
    "scipy_lbfgsb": {"convergence_gtol_abs": 1e-10, "convergence_ftol_rel": 1e-16},
    "scipy_slsqp": {"convergence_ftol_abs": 1e-15},
    "scipy_trust_constr": {"convergence_gtol_abs": 1e-10, "convergence_xtol_rel": 1e-12},
    "scipy_ls_trf": {
        "convergence_gtol_rel": 1e-15,
        "convergence_ftol_rel": 1e-15,
        "convergence_xtol_rel": 1e-15,
    },
}
EXACT = 1e-6
# what differences of values reach
NUMERICAL = {"hessian": 1e-4, "jacobian": 1e-5, "robust": 1e-4}


def solved(direction, fun, params, algorithm, **arguments):
    """Run with tight tolerances."""
    arguments = {"algo_options": PRECISE[algorithm]} | arguments
    return getattr(om, direction)(fun, params, algorithm, **arguments)


def known(functions, params, structure, **arguments):
    inference = make_inference(functions, params, structure, **arguments)
    return SimpleNamespace(
        params=params,
        hessian=inference.hessian,
        covariance=inference.covariance,
        standard_errors=inference.standard_errors,
    )


def at(fun, params, direction="minimize", fun_kwargs=None, **arguments):
    """Stand at params without a run."""
    functions = UserFunctions(fun, fun_kwargs or {})
    return known(functions, params, structure_of(fun), direction=direction, **arguments)


def as_numpy(fun):
    """Return a criterion with the same values that JAX is not asked to differentiate."""

    def wrapper(params, **kwargs):
        with jax.enable_x64(True):
            return np.asarray(fun(params, **kwargs))

    mark = structure_of(fun)
    return wrapper if mark is None else getattr(om.mark, mark)(wrapper)


# ---- likelihoods: statsmodels ----------------------------------------------------------------


def logit(params, y, X):
    sign = 2 * y - 1
    return -jnp.logaddexp(0.0, -sign * (X @ params))


def probit(params, y, X):
    return norm.logcdf((2 * y - 1) * (X @ params))


def poisson(params, y, X):
    index = X @ params
    return y * index - jnp.exp(index)


def spector():
    data = sm.datasets.spector.load_pandas()
    return data.endog.to_numpy(), sm.add_constant(data.exog).to_numpy()


def randhie():
    data = sm.datasets.randhie.load_pandas()
    return data.endog.to_numpy(float), sm.add_constant(data.exog).to_numpy(float)[:2000]


MODELS = {
    "logit": (logit, sm.Logit, spector),
    "probit": (probit, sm.Probit, spector),
    "poisson": (poisson, sm.Poisson, randhie),
}
every_model = pytest.mark.parametrize("model", MODELS)


@cache
def fitted(model):
    """Return criterion, data, and what statsmodels makes of them."""
    fun, theirs, load = MODELS[model]
    y, X = load()
    y = y[: len(X)]
    fit = theirs(y, X).fit(method="newton", tol=1e-12, disp=0)
    return om.mark.likelihood(fun), {"y": y, "X": X}, fit


def their_covariance(fit, method):
    bread = np.linalg.inv(-fit.model.hessian(fit.params))
    scores = fit.model.score_obs(fit.params)
    meat = scores.T @ scores
    return {
        "hessian": bread,
        "jacobian": np.linalg.inv(meat),
        "robust": bread @ meat @ bread,
    }[method]


def test_the_references_are_those_of_statsmodels():
    y, X = spector()
    model = sm.Logit(y, X)
    plain, robust = (
        model.fit(method="newton", tol=1e-12, disp=0, cov_type=kind)
        for kind in ("nonrobust", "HC0")
    )

    np.testing.assert_allclose(their_covariance(plain, "hessian"), plain.cov_params(), rtol=1e-9)
    np.testing.assert_allclose(their_covariance(plain, "robust"), robust.cov_params(), rtol=1e-9)


@every_model
@pytest.mark.parametrize("algorithm", ["bhhh", "scipy_trust_exact", "scipy_lbfgsb"])
def test_likelihoods_agree_with_statsmodels(model, algorithm):
    fun, data, fit = fitted(model)

    result = solved("maximize", fun, np.zeros(len(fit.params)), algorithm, fun_kwargs=data)

    np.testing.assert_allclose(result.params, fit.params, rtol=1e-4)
    for method in METHODS:
        theirs = np.sqrt(np.diag(their_covariance(fit, method)))
        np.testing.assert_allclose(result.standard_errors(method), theirs, rtol=EXACT)


@every_model
def test_all_entries_agree_with_statsmodels(model):
    fun, data, fit = fitted(model)
    ours = at(fun, np.asarray(fit.params), "maximize", data)

    for method in METHODS:
        theirs = their_covariance(fit, method)
        np.testing.assert_allclose(ours.covariance(method), theirs, rtol=1e-8, atol=1e-10)


@every_method
@every_model
def test_numpy_likelihoods_agree_within_the_documented_precision(model, method):
    fun, data, fit = fitted(model)

    ours = at(as_numpy(fun), np.asarray(fit.params), "maximize", data)

    theirs = np.sqrt(np.diag(their_covariance(fit, method)))
    np.testing.assert_allclose(ours.standard_errors(method), theirs, rtol=NUMERICAL[method])


@every_method
def test_a_negative_log_likelihood_that_is_minimized_gives_the_same(method):
    fun, data, fit = fitted("logit")
    negative = om.mark.likelihood(lambda params, y, X: -fun(params, y, X))

    ours = at(negative, np.asarray(fit.params), "minimize", data)

    np.testing.assert_allclose(
        ours.covariance(method), their_covariance(fit, method), rtol=1e-6, atol=1e-9
    )


def test_the_default_of_likelihoods_is_the_hessian():
    fun, data, fit = fitted("logit")
    ours = at(fun, np.asarray(fit.params), "maximize", data)

    np.testing.assert_array_equal(ours.covariance(), ours.covariance("hessian"))


@every_method
def test_derivatives_of_the_user_are_used(method):
    fun, data, fit = fitted("logit")
    y, X = data["y"], data["X"]
    calls = []

    @om.mark.likelihood
    def jac(params):
        calls.append("jac")
        return (y - 1 / (1 + np.exp(-X @ params)))[:, None] * X

    def hess(params, **_):
        calls.append("hess")
        p = 1 / (1 + np.exp(-X @ params))
        return -(X.T * p * (1 - p)) @ X

    functions = UserFunctions(
        as_numpy(fun), data, jac=jac, hess=hess, jac_structure="likelihood", structure="likelihood"
    )
    ours = known(functions, np.asarray(fit.params), "likelihood", direction="maximize")

    found = ours.covariance(method)
    np.testing.assert_allclose(found, their_covariance(fit, method), rtol=1e-9, atol=1e-12)
    assert set(calls) == ({"jac"} if method == "jacobian" else {"jac", "hess"})


def test_without_a_hessian_the_gradient_of_the_user_is_differentiated():
    fun, data, fit = fitted("logit")
    y, X = data["y"], data["X"]

    def jac(params):
        return X.T @ (y - 1 / (1 + np.exp(-X @ params)))

    functions = UserFunctions(as_numpy(fun), data, jac=jac, structure="likelihood")
    ours = known(functions, np.asarray(fit.params), "likelihood", direction="maximize")

    np.testing.assert_allclose(
        ours.covariance("hessian"), their_covariance(fit, "hessian"), rtol=1e-7, atol=1e-8
    )


# ---- least squares: NIST ---------------------------------------------------------------------


def residuals_of(problem):
    return om.mark.least_squares(problem.residuals)


@pytest.mark.parametrize("name", NAMES)
def test_certified_standard_deviations_at_certified_values(name):
    problem = load_nist(name)

    ours = at(residuals_of(problem), problem.certified, fun_kwargs=problem.data).standard_errors()

    assert ours == pytest.approx(problem.certified_std, rel=1e-8)


@pytest.mark.parametrize("name", NAMES)
def test_certified_standard_deviations_after_a_run(name):
    problem = load_nist(name)

    result = solved(
        "minimize", residuals_of(problem), problem.start2, "scipy_ls_trf",
        fun_kwargs=problem.data, scaling=True,
    )  # fmt: skip

    assert result.standard_errors("jacobian") == pytest.approx(problem.certified_std, rel=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_numpy_residuals_reach_certified_standard_deviations(name):
    # among them parameters of size 1e-7, for which the default steps are too long
    problem = load_nist(name)

    ours = at(as_numpy(residuals_of(problem)), problem.certified, fun_kwargs=problem.data)

    assert ours.standard_errors() == pytest.approx(problem.certified_std, rel=NUMERICAL["jacobian"])


@pytest.mark.parametrize("method", ["hessian", "robust"])
@pytest.mark.parametrize("name", ["Chwirut2", "Gauss1", "Hahn1", "Misra1a", "Thurber"])
def test_numpy_residuals_agree_with_jax_in_second_order(name, method):
    problem = load_nist(name)
    fun = residuals_of(problem)

    exact, numerical = (
        at(f, problem.certified, fun_kwargs=problem.data).standard_errors(method, "array")
        for f in (fun, as_numpy(fun))
    )

    np.testing.assert_allclose(numerical, exact, rtol=NUMERICAL[method])


@every_method
def test_linear_regressions_agree_with_statsmodels(method):
    rng = np.random.default_rng(3)
    X = sm.add_constant(rng.normal(size=(60, 2)))
    y = X @ [1.0, 2.0, -1.0] + rng.normal(size=60) * (1 + np.abs(X[:, 1]))
    fit = sm.OLS(y, X).fit(cov_type="HC0" if method == "robust" else "nonrobust")

    ours = at(om.mark.least_squares(lambda b: y - X @ jnp.asarray(b)), np.asarray(fit.params))

    np.testing.assert_allclose(ours.covariance(method), fit.cov_params(), rtol=1e-9, atol=1e-12)


# ---- constraints -----------------------------------------------------------------------------


def data_of_regression(n=80):
    rng = np.random.default_rng(1)
    X = np.column_stack([np.ones(n), rng.normal(size=(n, 2))])
    return X @ [0.3, 0.8, -0.5] + rng.normal(size=n), X


Y, DESIGN = data_of_regression()


@om.mark.least_squares
def curve(params):
    """Residuals of a model that is not linear in its three parameters."""
    b = params
    return Y - (b[0] + jnp.exp(b[1] * DESIGN[:, 1]) * (1 + b[2] * DESIGN[:, 2]))


START = np.array([0.1, 0.2, -0.3])


def of_part(build, start):
    """Estimate fewer parameters; return them, all that ``build`` makes of them, and derivatives."""
    fun = om.mark.least_squares(lambda part: curve(build(part)))
    result = solved("minimize", fun, start, "scipy_ls_trf")
    with jax.enable_x64(True):
        params = np.asarray(build(jnp.asarray(result.params)))
        return result, params, np.asarray(jax.jacfwd(build)(jnp.asarray(result.params)))


def assert_same(result, build, start, rtol=1e-5):
    """Compare with the delta method for a model without constraints."""
    part, params, derivative = of_part(build, start)
    np.testing.assert_allclose(result.params, params, rtol=rtol, atol=rtol)
    for method in METHODS:
        theirs = derivative @ part.covariance(method) @ derivative.T
        atol = rtol * np.abs(theirs).max()
        np.testing.assert_allclose(result.covariance(method), theirs, rtol=rtol, atol=atol)


def run_constrained(constraints, algorithm="scipy_lbfgsb", start=START, **arguments):
    return solved("minimize", curve, start, algorithm, constraints=constraints, **arguments)


def test_fixing_equals_the_model_without_the_parameter():
    result = run_constrained(om.FixedConstraint(lambda p: p[1]))

    assert_same(result, lambda p: jnp.array([p[0], 0.2, p[1]]), START[[0, 2]])
    assert result.standard_errors()[1] == 0
    assert list(result.standard_errors(return_type="dataframe")["note"]) == ["", "fixed", ""]


def test_equal_parameters_share_their_variance():
    result = run_constrained(
        om.EqualityConstraint(lambda p: p[:2]), start=np.array([0.1, 0.1, 0.2]),
    )  # fmt: skip

    assert_same(result, lambda p: jnp.array([p[0], p[0], p[1]]), START[:2])


def test_a_linear_constraint_that_a_bijection_carries():
    constraint = om.LinearConstraint(lambda p: p[:2], weights=[1.0, 2.0], value=0.5)
    result = run_constrained(constraint, start=np.array([0.1, 0.2, 0.3]))

    assert_same(result, lambda p: jnp.array([0.5 - 2 * p[0], p[0], p[1]]), START[1:])


def test_linear_constraints_that_the_algorithm_takes():
    # with bounds on all of them, no bijection carries two rows
    rows = om.LinearConstraint(weights=[[1.0, 2.0, 0.0], [0.0, 1.0, 1.0]], value=[0.5, 0.1])
    result = run_constrained(
        rows, "scipy_slsqp", start=np.array([0.1, 0.2, -0.1]),
        bounds=om.Bounds(lower=-3.0, upper=3.0),
    )  # fmt: skip

    assert_same(result, lambda p: jnp.array([0.5 - 2 * p[0], p[0], 0.1 - p[0]]), np.array([0.2]))


def on_circle(p):
    return jnp.array([p[0], jnp.sqrt(0.4) * jnp.cos(p[1]), jnp.sqrt(0.4) * jnp.sin(p[1])])


ON_CIRCLE = np.array([0.1, -0.8])


def circle(written_in="jax", **limits):
    square = {"jax": lambda p: jnp.sum(p**2), "numpy": lambda p: float(np.sum(p**2))}[written_in]
    return om.NonlinearConstraint(lambda p: p[1:], func=square, **limits)


@pytest.mark.parametrize("written_in", ["jax", "numpy"])
def test_nonlinear_equalities_count_with_their_curvature(written_in):
    # the Hessian of the Lagrangian counts: that of the criterion alone is off by far more
    _, params, _ = of_part(on_circle, ON_CIRCLE)

    result = at(curve, params, constraints=circle(written_in, value=0.4))

    assert_same(result, on_circle, ON_CIRCLE, rtol=1e-7)


@pytest.mark.parametrize("algorithm", ["scipy_slsqp", "scipy_trust_constr"])
def test_nonlinear_equalities_after_a_run(algorithm):
    result = run_constrained(circle(value=0.4), algorithm)

    assert_same(result, on_circle, ON_CIRCLE, rtol=1e-3)


@pytest.mark.parametrize("algorithm", ["scipy_slsqp", "scipy_trust_constr"])
def test_a_nonlinear_inequality_counts_if_it_binds(algorithm):
    binds = run_constrained(circle(upper_bound=0.4), algorithm)
    free = run_constrained(circle(upper_bound=40.0), algorithm)

    assert_same(binds, on_circle, ON_CIRCLE, rtol=1e-3)
    assert_same(free, lambda p: p, START, rtol=1e-3)
    table = binds.standard_errors(return_type="dataframe")
    assert list(table["note"]) == ["", "binding constraint", "binding constraint"]
    assert set(free.standard_errors(return_type="dataframe")["note"]) == {""}


@pytest.mark.parametrize(
    "algorithm", ["scipy_lbfgsb", "scipy_ls_trf", "scipy_slsqp", "scipy_trust_constr"]
)
def test_a_binding_bound_equals_fixing(algorithm):
    # algorithms of interior points end next to the bound
    result = run_constrained(None, algorithm, bounds=om.Bounds(upper=np.array([9.0, 0.25, 9.0])))

    fixed = run_constrained(om.FixedConstraint(lambda p: p[1]), start=np.array([0.1, 0.25, -0.3]))
    assert result.params[1] == pytest.approx(0.25, abs=1e-3)
    for method in METHODS:
        ours, theirs = result.standard_errors(method), fixed.standard_errors(method)
        np.testing.assert_allclose(ours, theirs, rtol=5e-3)
        assert ours[1] == 0
    assert list(result.standard_errors(return_type="dataframe")["note"]) == ["", "at bound", ""]


def test_a_bound_that_does_not_bind_says_nothing():
    bounds = om.Bounds(lower=-5.0, upper=5.0)
    result = run_constrained(None, bounds=bounds)

    assert_same(result, lambda p: p, START)


def test_a_bound_next_to_a_solution_says_nothing():
    free = run_constrained(None, "scipy_ls_trf")
    near = np.asarray(free.params) - 1e-7
    result = at(curve, np.asarray(free.params), bounds=om.Bounds(lower=near))

    np.testing.assert_array_equal(result.covariance(), free.covariance())


@pytest.mark.parametrize("bounds_as", ["bounds", "transform"])
@pytest.mark.parametrize("scaling", [False, True])
def test_neither_scaling_nor_transformed_bounds_change_covariances(bounds_as, scaling):
    result = run_constrained(
        None, bounds=om.Bounds(lower=-2.0, upper=2.0), bounds_as=bounds_as, scaling=scaling,
    )  # fmt: skip

    assert_same(result, lambda p: p, START)


def test_a_bound_that_a_transformation_keeps_binds_too():
    result = run_constrained(
        None, "scipy_bfgs", bounds=om.Bounds(upper=np.array([9.0, 0.25, 9.0])),
        bounds_as="transform",
    )  # fmt: skip

    assert list(result.standard_errors(return_type="dataframe")["note"]) == ["", "at bound", ""]


COUNTS = np.array([13.0, 40.0, 7.0, 20.0])
OUTCOMES = np.repeat(np.arange(4), COUNTS.astype(int))


@om.mark.likelihood
def multinomial(shares):
    return jnp.log(shares)[OUTCOMES]


@every_method
@pytest.mark.parametrize("algorithm", ["scipy_lbfgsb", "scipy_bfgs", "bhhh"])
def test_shares_have_the_covariance_of_a_multinomial(algorithm, method):
    result = solved(
        "maximize", multinomial, np.full(4, 0.25), algorithm,
        constraints=om.ProbabilityConstraint(), bounds=om.Bounds(lower=0.02),
        bounds_as="transform" if algorithm == "scipy_bfgs" else "bounds",
    )  # fmt: skip

    n, p = COUNTS.sum(), COUNTS / COUNTS.sum()
    np.testing.assert_allclose(result.params, p, rtol=1e-5)
    np.testing.assert_allclose(
        result.covariance(method), (np.diag(p) - np.outer(p, p)) / n, rtol=1e-4
    )


@every_method
def test_shares_exactly(method):
    n, p = COUNTS.sum(), COUNTS / COUNTS.sum()

    ours = at(multinomial, p, "maximize", constraints=om.ProbabilityConstraint())

    theirs = (np.diag(p) - np.outer(p, p)) / n
    np.testing.assert_allclose(ours.covariance(method), theirs, rtol=1e-10)


def test_a_share_of_zero_is_at_its_bound():
    @om.mark.likelihood
    def contributions(shares):
        # the second outcome was never observed
        return jnp.log(shares[jnp.array([0] * 13 + [2] * 7)] - 0.1 * shares[1])

    p = 13 / 20
    ours = at(
        contributions, np.array([p, 0.0, 1 - p]), "maximize", constraints=om.ProbabilityConstraint()
    )

    frame = ours.standard_errors(return_type="dataframe")
    theirs = np.sqrt(p * (1 - p) / 20) * np.array([1, 0, 1])
    np.testing.assert_allclose(frame["standard_error"], theirs, rtol=1e-10)
    assert list(frame["note"]) == ["binding constraint", "at bound", "binding constraint"]


SAMPLE = np.random.default_rng(0).normal(size=(50, 2)) @ np.array([[1.0, 0.6], [0.0, 0.8]])


def normal_moments():
    centered = SAMPLE - SAMPLE.mean(axis=0)
    return SAMPLE.mean(axis=0), centered.T @ centered / len(SAMPLE)


def covariance_of_moments(sigma, n):
    """Cov(s_ij, s_kl) = (s_ik s_jl + s_il s_jk) / n for s = (s_11, s_21, s_22)."""
    pairs = [(0, 0), (1, 0), (1, 1)]
    return np.array(
        [[(sigma[i, k] * sigma[j, m] + sigma[i, m] * sigma[j, k]) / n for k, m in pairs]
         for i, j in pairs]
    )  # fmt: skip


def log_density(z, mean, variances, covariance):
    """Log density of normal pairs, without its constant, by hand: it compiles much faster."""
    (u, v), (s, t) = (z - mean).T, variances
    determinant = s * t - covariance**2
    form = (t * u**2 - 2 * covariance * u * v + s * v**2) / determinant
    return -(jnp.log(determinant) + form) / 2


@om.mark.likelihood
def normal_sample(params):
    first, between, second = params["cov"]
    return log_density(SAMPLE, params["mean"], (first, second), between)


@pytest.mark.parametrize(
    ("algorithm", "with_bounds"),
    [("scipy_lbfgsb", False), ("scipy_lbfgsb", True), ("scipy_bfgs", True)],
)
def test_covariances_of_a_normal_sample(algorithm, with_bounds):
    bounds = om.Bounds(upper={"cov": np.array([np.inf, np.inf, 50.0])}) if with_bounds else None
    result = solved(
        "maximize", normal_sample, {"mean": np.zeros(2), "cov": np.array([1.0, 0.0, 1.0])},
        algorithm, constraints=om.FlatCovConstraint(lambda p: p["cov"]), bounds=bounds,
        bounds_as="transform" if algorithm == "scipy_bfgs" else "bounds",
    )  # fmt: skip

    n, (_, sigma) = len(SAMPLE), normal_moments()
    found = result.covariance()
    np.testing.assert_allclose(found["mean"]["mean"], sigma / n, rtol=1e-5)
    np.testing.assert_allclose(found["cov"]["cov"], covariance_of_moments(sigma, n), rtol=1e-5)
    np.testing.assert_allclose(found["mean"]["cov"], 0, atol=1e-7)


def test_standard_deviations_and_correlations_of_a_normal_sample():
    @om.mark.likelihood
    def contributions(params):
        first, second, r = params
        variances = first**2, second**2
        return log_density(SAMPLE, SAMPLE.mean(axis=0), variances, r * first * second)

    result = solved(
        "maximize", contributions, np.array([1.0, 1.0, 0.0]), "scipy_lbfgsb",
        constraints=om.FlatSDCorrConstraint(),
    )  # fmt: skip

    n, (_, sigma) = len(SAMPLE), normal_moments()
    sds = np.sqrt(np.diag(sigma))
    r = sigma[1, 0] / sds.prod()
    theirs = np.array([*(sds / np.sqrt(2 * n)), (1 - r**2) / np.sqrt(n)])
    np.testing.assert_allclose(result.standard_errors(), theirs, rtol=1e-5)


def test_numpy_criteria_keep_constraints_in_their_differences():
    # the logarithm of a negative number would be NaN
    ours = solved(
        "maximize", as_numpy(normal_sample),
        {"mean": np.zeros(2), "cov": np.array([1.0, 0.0, 1.0])}, "scipy_lbfgsb",
        constraints=om.FlatCovConstraint(lambda p: p["cov"]),
    )  # fmt: skip

    _, sigma = normal_moments()
    theirs = np.sqrt(np.diag(covariance_of_moments(sigma, len(SAMPLE))))
    np.testing.assert_allclose(ours.standard_errors()["cov"], theirs, rtol=1e-4)


def test_a_hessian_of_the_user_is_carried_through_constraints():
    def hess(shares):
        return np.diag(-COUNTS / shares**2)

    @om.mark.likelihood
    def jac(shares):
        return np.eye(4)[OUTCOMES] / shares

    p = COUNTS / COUNTS.sum()
    functions = UserFunctions(as_numpy(multinomial), jac=jac, hess=hess, jac_structure="likelihood")
    ours = known(
        functions, p, "likelihood", direction="maximize", constraints=om.ProbabilityConstraint()
    )

    theirs = (np.diag(p) - np.outer(p, p)) / COUNTS.sum()
    np.testing.assert_allclose(ours.covariance(), theirs, rtol=1e-9)


def test_a_singular_covariance_keeps_its_rank():
    goal = jnp.array([1.0, 1.2, 1.0])
    fun = om.mark.least_squares(
        lambda c: (c - goal) * jnp.array([[1.0, 2.0, 1.0], [1.5, 1.0, 1.0]])
    )
    result = solved(
        "minimize", fun, np.array([1.0, 0.0, 1.0]), "scipy_lbfgsb",
        constraints=om.FlatCovConstraint(),
    )  # fmt: skip

    def build(p):
        return jnp.array([p[0] ** 2, p[0] * p[1], p[1] ** 2])

    of_root = om.mark.least_squares(lambda p: fun(build(p)))
    root = solved("minimize", of_root, np.ones(2), "scipy_ls_trf")
    derivative = np.array(jax.jacfwd(build)(jnp.asarray(root.params)))
    for method in METHODS:
        theirs = derivative @ root.covariance(method) @ derivative.T
        np.testing.assert_allclose(result.covariance(method), theirs, rtol=1e-4)
    assert set(result.standard_errors(return_type="dataframe")["note"]) == {"binding constraint"}


def test_all_parameters_fixed():
    result = at(curve, START, constraints=om.FixedConstraint())

    np.testing.assert_array_equal(result.covariance(), np.zeros((3, 3)))
    assert list(result.standard_errors(return_type="dataframe")["note"]) == ["fixed"] * 3


# what holds at a solution: equal sums, and sums that must not be exceeded, as rows over four params
POLYTOPES = {
    "shares": (om.ProbabilityConstraint(), (0.0, 1.0), [[1, 1, 1, 1]], []),
    "bounded shares": (om.ProbabilityConstraint(), (0.05, 0.4), [[1, 1, 1, 1]], []),
    "order": (om.IncreasingConstraint(), None, [], [[1, -1, 0, 0], [0, 1, -1, 0], [0, 0, 1, -1]]),
    "bounded order": (
        om.IncreasingConstraint(), (0.0, 0.5), [], [[1, -1, 0, 0], [0, 1, -1, 0], [0, 0, 1, -1]],
    ),
    "weighted sum": (
        om.LinearConstraint(weights=[1.0, 2.0, -1.0, 1.0], upper_bound=0.8), (-1.0, 1.0), [],
        [[1, 2, -1, 1]],
    ),
    "two sums": (
        om.LinearConstraint(weights=[[1, 1, 0, 0], [0, 1, 1, 1]], lower_bound=[0.1, 0.2]),
        (-1.0, 1.0), [], [[-1, -1, 0, 0], [0, -1, -1, -1]],
    ),
}  # fmt: skip
LIMITS = {"weighted sum": [0.8], "two sums": [-0.1, -0.2]}


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("name", POLYTOPES)
def test_linear_constraints_against_their_null_space(name, seed):
    constraint, bounds, equal, less = POLYTOPES[name]
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(30, 4))
    goal = 0.25 + 0.3 * rng.normal(size=4)
    y = X @ goal + 0.1 * rng.normal(size=30)
    result = solved(
        "minimize", om.mark.least_squares(lambda p: y - X @ jnp.asarray(p)), np.full(4, 0.25),
        "scipy_slsqp", constraints=constraint,
        bounds=None if bounds is None else om.Bounds(*bounds),
    )  # fmt: skip

    p = result.params
    rows = [np.array(row, dtype=float) for row in equal]
    for row, limit in zip(less, LIMITS.get(name, [0.0] * len(less)), strict=True):
        rows += [np.array(row, dtype=float)] if row @ p > limit - 1e-7 else []
    low, high = bounds or (-np.inf, np.inf)
    rows += [row for row, v in zip(np.eye(4), p, strict=True) if min(v - low, high - v) < 1e-7]
    free = np.linalg.svd(np.array(rows).reshape(-1, 4))
    free = free.Vh[np.linalg.matrix_rank(np.array(rows).reshape(-1, 4)) :].T
    residuals = y - X @ p
    variance = residuals @ residuals / (30 - free.shape[1])
    theirs = variance * free @ np.linalg.inv(free.T @ X.T @ X @ free) @ free.T
    for method in ("jacobian", "hessian"):
        np.testing.assert_allclose(result.covariance(method), theirs, rtol=1e-6, atol=1e-9)


def test_a_corner_of_bounds_and_a_sum_leaves_nothing_free():
    # two of three shares on their bounds: the sum determines the third
    fun = om.mark.least_squares(lambda p: (p - jnp.array([0.2, 1.5, -0.7])) * jnp.ones((4, 1)))
    result = solved(
        "minimize", fun, np.array([0.3, 0.4, 0.3]), "scipy_lbfgsb",
        constraints=om.ProbabilityConstraint(), bounds=om.Bounds(upper=0.6),
    )  # fmt: skip

    np.testing.assert_allclose(result.params, [0.4, 0.6, 0.0], atol=1e-8)
    np.testing.assert_array_equal(result.standard_errors(), np.zeros(3))


# ---- what comes back -------------------------------------------------------------------------


def sum_of_powers(params):
    a, b = params["a"], params["b"]
    return a**2 * jnp.sum(b**3) + jnp.exp(a)


def test_hessians_are_trees_like_those_of_jax():
    params = {"b": np.array([1.0, 2.0]), "a": 0.5}
    ours = known(UserFunctions(sum_of_powers), params, "scalar").hessian()

    with jax.enable_x64(True):
        theirs = jax.hessian(sum_of_powers)(params)
    assert list(ours) == ["b", "a"]
    for row in params:
        for column in params:
            assert np.shape(ours[row][column]) == theirs[row][column].shape
            np.testing.assert_allclose(ours[row][column], theirs[row][column], rtol=1e-12)


def test_hessians_are_labelled_and_have_the_sign_of_fun():
    params = {"b": np.array([1.0, 2.0]), "a": 0.5}
    inference = known(UserFunctions(sum_of_powers), params, "scalar", direction="maximize")

    frame = inference.hessian("dataframe")
    assert list(frame.index) == list(frame.columns) == ["b_0", "b_1", "a"]
    assert frame.loc["b_0", "b_0"] == pytest.approx(0.5**2 * 6)
    np.testing.assert_array_equal(frame.to_numpy(), inference.hessian("array"))


def test_hessians_vary_parameters_that_constraints_tie():
    inference = known(
        UserFunctions(lambda x: jnp.sum(x**4)), np.array([0.4, 0.6]), "scalar",
        constraints=om.ProbabilityConstraint(),
    )  # fmt: skip

    np.testing.assert_allclose(inference.hessian(), np.diag([12 * 0.16, 12 * 0.36]))


@pytest.mark.parametrize("structure", ["likelihood", "least_squares"])
def test_hessians_are_those_of_the_criterion_that_counts(structure):
    fun = getattr(om.mark, structure)(lambda x: jnp.asarray(x) ** 3)
    x = np.array([1.0, 2.0])

    second = {"likelihood": 6 * x, "least_squares": 30 * x**4}[structure]
    np.testing.assert_allclose(at(fun, x).hessian(), np.diag(second))
    np.testing.assert_allclose(
        at(as_numpy(fun), x).hessian(), np.diag(second), rtol=1e-5, atol=1e-5
    )


def test_numpy_hessians_stay_inside_bounds():
    def fun(x):
        assert (x >= 1.0).all()
        return x[0] ** 2 * x[1] ** 3

    inference = known(UserFunctions(fun), np.array([1.0, 2.0]), "scalar", bounds=om.Bounds(lower=1))

    np.testing.assert_allclose(inference.hessian(), [[16, 24], [24, 12]], rtol=1e-4)


def test_standard_errors_are_like_params():
    problem = load_nist("Misra1a")
    b1, b2 = problem.certified.values()
    frame = pd.DataFrame({"value": [b1, b2], "unit": ["a", "b"]}, index=["b1", "b2"])
    std = np.array(list(problem.certified_std.values()))

    @om.mark.least_squares
    def of_series(params):
        return np.asarray(problem.residuals(params, **problem.data), dtype=float)

    @om.mark.least_squares
    def of_frame(params):
        return of_series(params["value"])

    series = at(of_series, frame["value"]).standard_errors()
    assert isinstance(series, pd.Series)
    np.testing.assert_allclose(series, std, rtol=1e-3)
    table = at(of_frame, frame).standard_errors()
    assert list(table.columns) == ["value", "unit"]
    assert list(table.index) == ["b1", "b2"]
    covariance = at(of_series, frame["value"]).covariance()
    assert list(covariance.index) == list(covariance.columns) == ["b1", "b2"]


def test_the_table_of_standard_errors():
    problem = load_nist("Misra1a")
    ours = at(residuals_of(problem), problem.certified, fun_kwargs=problem.data)

    frame = ours.standard_errors(return_type="dataframe")

    assert list(frame.columns) == ["value", "standard_error", "note"]
    assert frame["value"].to_dict() == problem.certified
    assert frame["standard_error"].to_dict() == pytest.approx(problem.certified_std)
    assert set(frame["note"]) == {""}


def test_equal_programs_compile_once():
    X = np.random.default_rng(5).normal(size=(30, 3))

    def estimate(seed):
        y = np.random.default_rng(seed).normal(size=30)
        fun = om.mark.least_squares(lambda b, y: y - X @ b)
        b = np.linalg.lstsq(X, y, rcond=None)[0]
        ours = at(fun, b, fun_kwargs={"y": y})
        return [ours.hessian(), *(ours.covariance(method) for method in METHODS)]

    estimate(0)
    with count_compilations() as counter:
        estimate(1)
    assert counter == [0]


def test_the_users_precision_of_jax_stays():
    fun, data, fit = fitted("logit")
    at(fun, np.asarray(fit.params), "maximize", data).covariance()

    assert not jax.config.jax_enable_x64


# ---- what cannot be had ----------------------------------------------------------------------


def test_a_number_alone_has_no_covariance():
    inference = known(UserFunctions(lambda x: x @ x), np.zeros(2), "scalar")

    with pytest.raises(NotAvailableError, match=r"om\.mark\.likelihood or om\.mark\.least_squares"):
        inference.covariance()


@every_method
@pytest.mark.parametrize("written_in", ["jax", "numpy"])
def test_parameters_that_data_cannot_tell_apart_are_named(method, written_in):
    fun = om.mark.least_squares(lambda p: Y - (p["a"] + p["b"]) * DESIGN[:, 1] - p["c"])
    c, slope = np.polynomial.polynomial.polyfit(DESIGN[:, 1], Y, 1)
    params = {"a": slope - 1.0, "b": 1.0, "c": c}

    with pytest.raises(NotAvailableError, match=r"change together: (a, b|b, a)\. Fix"):
        at(fun if written_in == "jax" else as_numpy(fun), params).covariance(method)


@every_method
def test_a_parameter_without_any_effect_is_named(method):
    fun = om.mark.least_squares(lambda p: Y - p["mean"] + 0 * p["other"])

    with pytest.raises(NotAvailableError, match=r"change together: other\. Fix"):
        at(fun, {"mean": Y.mean(), "other": 1.0}).covariance(method)


def test_fixing_one_of_them_helps():
    fun = om.mark.least_squares(lambda p: Y - p["a"] - p["b"])
    params = {"a": Y.mean() - 1.0, "b": 1.0}

    ours = at(fun, params, constraints=om.FixedConstraint(lambda p: p["b"]))

    theirs = Y.std(ddof=1) / np.sqrt(len(Y))
    assert ours.standard_errors() == pytest.approx({"a": theirs, "b": 0.0})


def test_a_saddle_point_is_no_optimum():
    fun = om.mark.likelihood(lambda p: jnp.stack([p["u"] ** 2, -(p["v"] ** 2), p["w"] ** 2 * 0.0]))

    with pytest.raises(NotAvailableError, match=r"change together: u\. Look for"):
        at(fun, {"u": 0.0, "v": 0.0, "w": 0.0}, "maximize").covariance("hessian")


@pytest.mark.parametrize("m", [2, 3])
def test_too_few_residuals(m):
    fun = om.mark.least_squares(lambda p: jnp.cos(jnp.arange(9.0).reshape(3, 3)[:m] @ p))

    with pytest.raises(NotAvailableError, match="residuals for 3 free parameters"):
        at(fun, np.zeros(3)).covariance()


def test_too_few_contributions_for_their_squares():
    fun = om.mark.likelihood(lambda p: -(p**2))
    ours = at(fun, np.zeros(2), "maximize")

    np.testing.assert_allclose(ours.covariance("hessian"), np.eye(2) / 2)
    for method in ("jacobian", "robust"):
        with pytest.raises(NotAvailableError, match="2 contributions for 2 free parameters"):
            ours.covariance(method)


def test_params_that_are_no_optimum_bring_a_warning():
    fun, data, fit = fitted("logit")
    away = np.asarray(fit.params) + np.array([0.0, 0.5, 0.0, 0.0])

    with pytest.warns(UserWarning, match="standard errors away from the optimum"):
        at(fun, away, "maximize", data).covariance("jacobian")


def test_a_criterion_that_fails_at_the_solution():
    @om.mark.least_squares
    def fun(x):
        raise RuntimeError("no data")

    with pytest.raises(UserFunctionRuntimeError, match="no data") as caught:
        at(fun, np.ones(2)).covariance()
    np.testing.assert_array_equal(caught.value.params, np.ones(2))


def test_a_criterion_that_fails_next_to_the_solution():
    @om.mark.least_squares
    def fun(x):
        return np.arange(4.0) * (x[0] if x[0] <= 1 else np.nan) + x[1]

    with pytest.raises(UserFunctionRuntimeError, match="next to it: fun returned a value that is"):
        at(fun, np.ones(2)).covariance()


def test_a_derivative_that_does_not_exist_is_named():
    fun = om.mark.least_squares(lambda p: Y - p["a"] - jnp.sqrt(jnp.abs(p["b"])))

    with pytest.raises(NotAvailableError, match=r"not finite at the solution, with respect to .*b"):
        at(fun, {"a": Y.mean(), "b": 0.0}).covariance()


def test_params_that_violate_a_constraint():
    with pytest.raises(NotAvailableError, match="ProbabilityConstraint"):
        at(curve, START, constraints=om.ProbabilityConstraint()).covariance()


def test_unknown_choices_are_errors():
    ours = at(curve, START)

    with pytest.raises(InvalidKwargsError, match="Did you mean 'hessian'"):
        ours.covariance("hesian")
    with pytest.raises(InvalidKwargsError, match="Did you mean 'dataframe'"):
        ours.standard_errors(return_type="frame")


def test_a_result_that_lost_its_functions_says_so():
    assert available(known) is known
    with pytest.raises(NotAvailableError, match="loaded from a file"):
        available(None)
