"""Constraints that algorithms take natively: published optima, derivatives, records, messages."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

import optimagic_lite as om
from optimagic_lite.exceptions import (
    InvalidConstraintError,
    OptimagicError,
    UserFunctionRuntimeError,
)

SLSQP = ["scipy_slsqp", "nlopt_slsqp"]
GRADIENTS = [*SLSQP, "scipy_trust_constr", "nlopt_mma", "nlopt_ccsaq"]
INEQUALITIES_ONLY = ["nlopt_mma", "nlopt_ccsaq"]
EQUALITIES = ["scipy_slsqp", "scipy_trust_constr", "scipy_cobyla", "scipy_cobyqa",
              "nlopt_slsqp", "nlopt_cobyla"]  # fmt: skip
ALL = [*EQUALITIES, *INEQUALITIES_ONLY]


def rosenbrock(x):
    return (1 - x[0]) ** 2 + 100 * (x[1] - x[0] ** 2) ** 2


def sphere(x):
    return (x**2).sum()


def disk(radius=1.0, **options):
    return om.NonlinearConstraint(func=sphere, upper_bound=radius**2, **options)


START = np.array([-0.5, 0.5])
# the stationary point of the Lagrangian, from Newton's method; 0.0457 is the published value
DISK_MINIMUM = np.array([0.78641515, 0.61769831])


def jax_sphere(x):
    return jnp.sum(x**2)


# ---- published optima ------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", ALL)
@pytest.mark.parametrize("func", [sphere, jax_sphere])
def test_rosenbrock_in_the_disk(algorithm, func):
    result = om.minimize(
        rosenbrock, START, algorithm,
        constraints=om.NonlinearConstraint(func=func, upper_bound=1.0),
    )  # fmt: skip
    assert result.success
    np.testing.assert_allclose(result.params, DISK_MINIMUM, atol=2e-4)
    assert sphere(result.params) <= 1 + 1e-5
    assert result.fun == rosenbrock(result.params)
    assert result.max_constraint_violation == pytest.approx(max(0, sphere(result.params) - 1))


def test_maximize_in_the_disk():
    result = om.maximize(lambda x: -rosenbrock(x), START, "scipy_slsqp", constraints=disk())
    assert result.success
    np.testing.assert_allclose(result.params, DISK_MINIMUM, atol=2e-4)


def equal_zero(func):
    return om.NonlinearConstraint(func=func, value=0.0)


def at_least_zero(func):
    return om.NonlinearConstraint(func=func, lower_bound=0.0)


# Hock and Schittkowski (1981), doi:10.1007/978-3-642-48320-2: criterion, start, constraints,
# bounds, optimal value. The start of 65 is put inside its bounds.
HS = {
    6: (
        lambda x: (1 - x[0]) ** 2,
        [-1.2, 1],
        [equal_zero(lambda x: 10 * (x[1] - x[0] ** 2))],
        None,
        0.0,
    ),
    7: (
        lambda x: jnp.log(1 + x[0] ** 2) - x[1],
        [2, 2],
        [equal_zero(lambda x: (1 + x[0] ** 2) ** 2 + x[1] ** 2 - 4)],
        None,
        -np.sqrt(3),
    ),
    12: (
        lambda x: x[0] ** 2 / 2 + x[1] ** 2 - x[0] * x[1] - 7 * x[0] - 7 * x[1],
        [0, 0],
        [at_least_zero(lambda x: 25 - 4 * x[0] ** 2 - x[1] ** 2)],
        None,
        -30.0,
    ),
    14: (
        lambda x: (x[0] - 2) ** 2 + (x[1] - 1) ** 2,
        [2, 2],
        [
            at_least_zero(lambda x: 1 - x[0] ** 2 / 4 - x[1] ** 2),
            equal_zero(lambda x: x[0] - 2 * x[1] + 1),
        ],
        None,
        9 - 2.875 * np.sqrt(7),
    ),
    26: (
        lambda x: (x[0] - x[1]) ** 2 + (x[1] - x[2]) ** 4,
        [-2.6, 2, 2],
        [equal_zero(lambda x: (1 + x[1] ** 2) * x[0] + x[2] ** 4 - 3)],
        None,
        0.0,
    ),
    27: (
        lambda x: 0.01 * (x[0] - 1) ** 2 + (x[1] - x[0] ** 2) ** 2,
        [2, 2, 2],
        [equal_zero(lambda x: x[0] + x[2] ** 2 + 1)],
        None,
        0.04,
    ),
    29: (
        lambda x: -x[0] * x[1] * x[2],
        [1, 1, 1],
        [at_least_zero(lambda x: 48 - x[0] ** 2 - 2 * x[1] ** 2 - 4 * x[2] ** 2)],
        None,
        -16 * np.sqrt(2),
    ),
    39: (
        lambda x: -x[0],
        [2, 2, 2, 2],
        [
            equal_zero(lambda x: x[1] - x[0] ** 3 - x[2] ** 2),
            equal_zero(lambda x: x[0] ** 2 - x[1] - x[3] ** 2),
        ],
        None,
        -1.0,
    ),
    40: (
        lambda x: -x[0] * x[1] * x[2] * x[3],
        [0.8, 0.8, 0.8, 0.8],
        [
            equal_zero(
                lambda x: [x[0] ** 3 + x[1] ** 2 - 1, x[0] ** 2 * x[3] - x[2], x[3] ** 2 - x[1]]
            )
        ],
        None,
        -0.25,
    ),
    43: (
        lambda x: x[0] ** 2 + x[1] ** 2 + 2 * x[2] ** 2 + x[3] ** 2
        - 5 * x[0] - 5 * x[1] - 21 * x[2] + 7 * x[3],
        [0, 0, 0, 0],
        [
            at_least_zero(
                lambda x: {
                    "a": 8 - sphere(x) - x[0] + x[1] - x[2] + x[3],
                    "b": 10 - x[0] ** 2 - 2 * x[1] ** 2 - x[2] ** 2 - 2 * x[3] ** 2 + x[0] + x[3],
                    "c": 5 - 2 * x[0] ** 2 - x[1] ** 2 - x[2] ** 2 - 2 * x[0] + x[1] + x[3],
                }
            )
        ],
        None,
        -44.0,
    ),
    65: (
        lambda x: (x[0] - x[1]) ** 2 + (x[0] + x[1] - 10) ** 2 / 9 + (x[2] - 5) ** 2,
        [-4.5, 4.5, 0],
        [at_least_zero(lambda x: 48 - sphere(x))],
        om.Bounds([-4.5, -4.5, -5], [4.5, 4.5, 5]),
        0.9535288567,
    ),
    71: (
        lambda x: x[0] * x[3] * (x[0] + x[1] + x[2]) + x[2],
        [1, 5, 5, 1],
        [
            om.NonlinearConstraint(func=lambda x: x.prod(), lower_bound=25.0),
            om.NonlinearConstraint(func=sphere, value=40.0),
        ],
        om.Bounds(1.0, 5.0),
        17.0140173,
    ),
    77: (
        lambda x: (x[0] - 1) ** 2 + (x[0] - x[1]) ** 2 + (x[2] - 1) ** 2
        + (x[3] - 1) ** 4 + (x[4] - 1) ** 6,
        [2, 2, 2, 2, 2],
        [
            om.NonlinearConstraint(
                func=lambda x: [
                    x[0] ** 2 * x[3] + jnp.sin(x[3] - x[4]),
                    x[1] + x[2] ** 4 * x[3] ** 2,
                ],
                value=[2 * np.sqrt(2), 8 + np.sqrt(2)],
            )
        ],
        None,
        0.24150513,
    ),
    100: (
        lambda x: (x[0] - 10) ** 2 + 5 * (x[1] - 12) ** 2 + x[2] ** 4 + 3 * (x[3] - 11) ** 2
        + 10 * x[4] ** 6 + 7 * x[5] ** 2 + x[6] ** 4 - 4 * x[5] * x[6] - 10 * x[5] - 8 * x[6],
        [1, 2, 0, 4, 0, 1, 1],
        [
            om.NonlinearConstraint(
                func=lambda x: [
                    2 * x[0] ** 2 + 3 * x[1] ** 4 + x[2] + 4 * x[3] ** 2 + 5 * x[4],
                    7 * x[0] + 3 * x[1] + 10 * x[2] ** 2 + x[3] - x[4],
                    23 * x[0] + x[1] ** 2 + 6 * x[5] ** 2 - 8 * x[6],
                    4 * x[0] ** 2 + x[1] ** 2 - 3 * x[0] * x[1] + 2 * x[2] ** 2
                    + 5 * x[5] - 11 * x[6],
                ],
                upper_bound=[127, 282, 196, 0],
            )
        ],
        None,
        680.6300573,
    ),
}  # fmt: skip


def hs_cases():
    for number, (_, _, constraints, bounds, _) in HS.items():
        for algorithm in ALL:
            if algorithm in INEQUALITIES_ONLY and any(c.value is not None for c in constraints):
                continue
            if algorithm == "scipy_cobyla" and bounds is not None:
                continue
            if algorithm == "scipy_trust_constr" and number == 26:
                continue  # a degenerate minimum, which takes it very long
            yield number, algorithm


@pytest.mark.parametrize(("number", "algorithm"), list(hs_cases()))
def test_problems_of_hock_and_schittkowski(number, algorithm):
    fun, start, constraints, bounds, optimum = HS[number]
    result = om.minimize(
        fun, np.array(start, float), algorithm, constraints=constraints, bounds=bounds
    )
    assert result.success, result.message
    assert result.fun == pytest.approx(optimum, rel=1e-4, abs=1e-4)
    assert result.max_constraint_violation <= 1e-5
    assert set(result.history.violation) >= {0.0}


# ---- what func returns, and bounds -----------------------------------------------------------


@pytest.mark.parametrize("algorithm", SLSQP)
@pytest.mark.parametrize(
    "bounds",
    [
        {"upper_bound": 1.0},
        {"upper_bound": {"a": 1.0, "b": [1.0, 1.0]}},
        {"upper_bound": {"a": 1.0, "b": 1.0}},
        {"upper_bound": {"a": 1.0, "b": [1.0, np.inf]}},
        {"upper_bound": 1.0, "lower_bound": -np.inf},
        {"upper_bound": 1.0, "lower_bound": {"a": -1.0, "b": None}},
    ],
)
def test_bounds_of_a_tree_of_values(algorithm, bounds):
    # a binds at x0 = 1, the first of b at x1 = 0.5, the second nowhere
    result = om.minimize(
        lambda x: jnp.sum((x - 2) ** 2),
        np.zeros(3),
        algorithm,
        constraints=om.NonlinearConstraint(
            func=lambda x: {"a": x[0], "b": [2 * x[1], x[2] - 5]}, **bounds
        ),
    )
    np.testing.assert_allclose(result.params, [1, 0.5, 2], atol=1e-4)


@pytest.mark.parametrize("bound", [[1.0, 0.5], (1.0, 0.5), np.array([1.0, 0.5]), [1, None]])
def test_bounds_of_an_array_of_values(bound):
    result = om.minimize(
        lambda x: jnp.sum((x - 2) ** 2), np.zeros(2), "scipy_slsqp",
        constraints=om.NonlinearConstraint(func=lambda x: x + 0 * x**2, upper_bound=bound),
    )  # fmt: skip
    expected = [2 if b is None else b for b in bound]
    np.testing.assert_allclose(result.params, expected, atol=1e-4)


@pytest.mark.parametrize("algorithm", ALL)
def test_an_absent_bound_is_infinite(algorithm):
    for side, sign in (("lower_bound", 1.0), ("upper_bound", -1.0)):
        result = om.minimize(
            lambda x, sign=sign: (x[0] - sign * 3) ** 2 + x[1] ** 2,
            np.array([0.5, 0.5]),
            algorithm,
            constraints=om.NonlinearConstraint(func=lambda x: x[0], **{side: -100 * sign}),
        )
        assert result.success
        assert result.params[0] == pytest.approx(3 * sign, abs=1e-3)


@pytest.mark.parametrize("algorithm", ALL)
@pytest.mark.parametrize(("target", "expected"), [(0.0, 1.0), (9.0, 4.0), (2.5, 2.5)])
def test_two_sided_bounds(algorithm, target, expected):
    result = om.minimize(
        lambda x: (x[0] * x[1] - target) ** 2 + (x[0] - x[1]) ** 2,
        np.array([1.4, 1.3]),
        algorithm,
        constraints=om.NonlinearConstraint(
            func=lambda x: x[0] * x[1], lower_bound=1.0, upper_bound=4.0
        ),
    )
    assert result.success
    np.testing.assert_allclose(result.params, np.sqrt(expected), atol=1e-2)
    assert result.params[0] * result.params[1] == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize("algorithm", EQUALITIES)
def test_bounds_that_coincide_are_an_equality(algorithm):
    result = om.minimize(
        lambda x: x[0] + x[1],
        np.array([-0.5, -0.9]),
        algorithm,
        constraints=om.NonlinearConstraint(func=sphere, lower_bound=2.0, upper_bound=2.0),
    )
    np.testing.assert_allclose(result.params, [-1, -1], atol=2e-3)
    assert sphere(result.params) == pytest.approx(2, abs=1.1e-5)


def test_a_selector_gives_the_arguments():
    params = {"a": np.array([0.1, 0.2]), "b": {"c": 3.0}}
    seen = []

    def func(part):
        seen.append(part)
        return part[0] + part[1][1]

    result = om.minimize(
        lambda p: ((p["a"] - 2) ** 2).sum() + (p["b"]["c"] - 2) ** 2,
        params,
        "scipy_slsqp",
        constraints=om.NonlinearConstraint(
            lambda p: (p["b"]["c"], p["a"]), func=func, upper_bound=3.0, lower_bound=0
        ),
    )
    np.testing.assert_allclose(result.params["a"], [2, 1.5], atol=1e-5)
    assert result.params["b"]["c"] == pytest.approx(1.5, abs=1e-5)
    assert seen[0][0] == 3.0
    assert isinstance(seen[0][1], np.ndarray)


def test_params_in_pandas():
    params = pd.DataFrame({"value": [-0.5, 0.5], "note": ["x", "y"]}, index=["a", "b"])
    result = om.minimize(
        lambda p: rosenbrock(p["value"].to_numpy()),
        params,
        "scipy_slsqp",
        constraints=om.NonlinearConstraint(
            lambda p: p.loc[["a", "b"], "value"],
            func=lambda s: float((s**2).sum()),
            upper_bound=1.0,
        ),
    )
    assert list(result.params["note"]) == ["x", "y"]
    np.testing.assert_allclose(result.params["value"], DISK_MINIMUM, atol=2e-4)


# ---- derivatives -----------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", GRADIENTS)
@pytest.mark.parametrize("form", ["tree", "matrix"])
def test_the_users_derivative_is_used(algorithm, form):
    calls = []

    def func(p):
        if form == "matrix":
            return np.array([p["a"] ** 2 + p["b"] ** 2, p["a"]])
        return p["a"] ** 2 + p["b"] ** 2

    def derivative(p):
        calls.append(p)
        if form == "matrix":
            return np.array([[2 * p["a"], 2 * p["b"]], [1.0, 0.0]])
        return {"a": 2 * p["a"], "b": 2 * p["b"]}

    points = []
    result = om.minimize(
        lambda p: rosenbrock([p["a"], p["b"]]),
        {"a": -0.5, "b": 0.5},
        algorithm,
        constraints=om.NonlinearConstraint(
            func=lambda p: points.append((p["a"], p["b"])) or func(p),
            derivative=derivative,
            upper_bound=[1.0, 5.0] if form == "matrix" else 1.0,
        ),
    )
    assert result.success
    assert len(calls) > 0
    np.testing.assert_allclose([result.params["a"], result.params["b"]], DISK_MINIMUM, atol=2e-4)
    # no difference quotients: points are those of the path
    path = {tuple(row) for row in result.history.flat_params}
    assert {(float(a), float(b)) for a, b in points} <= path


def test_a_wrong_derivative_leads_astray():
    # what shows that it is the user's that counts
    result = om.minimize(
        lambda x: jnp.sum(x), np.array([-0.6, -0.2]), "scipy_slsqp",
        constraints=disk(derivative=lambda x: np.array([1.0, -1.0])),
        algo_options={"stopping_maxfun": 200},
    )  # fmt: skip
    assert not np.allclose(result.params, -np.sqrt([0.5, 0.5]), atol=1e-3)


@pytest.mark.parametrize("algorithm", GRADIENTS)
def test_functions_in_jax_get_exact_jacobians_without_further_calls(algorithm):
    calls = []

    def func(x):
        calls.append(isinstance(x, jax.core.Tracer))
        return jnp.sum(x**2)

    result = om.minimize(
        lambda x: rosenbrock(x), START, algorithm,
        constraints=om.NonlinearConstraint(func=func, upper_bound=1.0),
    )  # fmt: skip
    assert result.success
    # called at the start; what follows are traces
    assert calls.count(False) == 1
    assert result.n_constraint_evals > 1


@pytest.mark.parametrize("algorithm", SLSQP)
def test_functions_in_numpy_get_differences_inside_the_bounds(algorithm):
    points = []

    def func(x):
        points.append(np.array(x))
        return float(x[0] ** 2 + x[1] ** 2)

    lower, upper = np.array([0.0, 0.5]), np.array([0.9, 0.75])
    result = om.minimize(
        rosenbrock, np.array([0.0, 0.5]), algorithm, bounds=om.Bounds(lower, upper),
        constraints=om.NonlinearConstraint(func=func, upper_bound=1.0),
    )  # fmt: skip
    np.testing.assert_allclose(result.params, DISK_MINIMUM, atol=2e-4)
    assert (np.array(points) >= lower).all()
    assert (np.array(points) <= upper).all()
    assert len(points) > 2 * result.n_constraint_evals


def test_derivatives_exact_refuses_functions_that_jax_cannot_trace():
    with pytest.raises(InvalidConstraintError, match=r"constraint 0.*jax\.numpy"):
        om.minimize(
            lambda x: jnp.sum(x**2), START, "scipy_slsqp", derivatives="exact",
            constraints=om.NonlinearConstraint(func=lambda x: float(x[0]), upper_bound=1.0),
        )  # fmt: skip


def test_derivatives_numerical_differentiates_constraints_numerically():
    calls = []

    def func(x):
        calls.append(1)
        return float(np.sum(x**2))

    om.minimize(
        rosenbrock, START, "scipy_slsqp", derivatives="numerical",
        constraints=om.NonlinearConstraint(
            func=func, derivative=lambda x: 1 / 0, upper_bound=1.0
        ),
    )  # fmt: skip
    assert calls


def test_exact_hessians_save_iterations_of_trust_constr():
    def solve(derivatives):
        return om.minimize(
            lambda x: jnp.sum(jnp.cosh(x - 2)), np.full(4, 0.3), "scipy_trust_constr",
            constraints=om.NonlinearConstraint(
                func=lambda x: jnp.sum(jnp.exp(x) * x), upper_bound=4.0
            ),
            derivatives=derivatives,
        )  # fmt: skip

    exact, numerical = solve("auto"), solve("numerical")
    np.testing.assert_allclose(exact.params, exact.params[0], atol=1e-6)
    np.testing.assert_allclose(exact.params, numerical.params, atol=1e-4)
    assert np.exp(exact.params[0]) * exact.params[0] == pytest.approx(1, abs=1e-3)
    assert exact.n_iterations < numerical.n_iterations
    assert exact.n_hess_evals > 0


# ---- combined --------------------------------------------------------------------------------


@pytest.mark.parametrize("scaling", [False, True])
@pytest.mark.parametrize("algorithm", ["scipy_slsqp", "scipy_trust_constr", "nlopt_slsqp"])
def test_together_with_fixed_probability_and_linear_constraints(algorithm, scaling):
    # w = (v, 1 - v) with v^2 + (1 - v)^2 <= 0.68 is v in [0.2, 0.8]; x0 + x1 = 3; x2 is fixed
    params = {"w": np.array([0.5, 0.5]), "x": np.array([1.0, 2.0, 7.0])}
    result = om.minimize(
        lambda p: -p["w"][0] * 5 + jnp.sum((p["x"] - 1) ** 2),
        params,
        algorithm,
        constraints=[
            om.ProbabilityConstraint(lambda p: p["w"]),
            om.FixedConstraint(lambda p: p["x"][2]),
            om.LinearConstraint(lambda p: p["x"][:2], weights=1.0, value=3.0),
            om.NonlinearConstraint(lambda p: p["w"], func=sphere, upper_bound=0.68),
        ],
        scaling=scaling,
    )
    np.testing.assert_allclose(result.params["w"], [0.8, 0.2], atol=1e-3)
    np.testing.assert_allclose(result.params["x"], [1.5, 1.5, 7], atol=1e-3)
    assert result.params["x"][2] == 7


@pytest.mark.parametrize("algorithm", ALL)
def test_scaled_parameters(algorithm):
    result = om.minimize(
        lambda x: rosenbrock(x / np.array([1e3, 1e-2])), START * [1e3, 1e-2], algorithm,
        constraints=om.NonlinearConstraint(
            func=lambda x: sphere(x / np.array([1e3, 1e-2])), upper_bound=1.0
        ),
        scaling={"clipping_value": 1e-4},
    )  # fmt: skip
    assert result.success
    np.testing.assert_allclose(result.params / [1e3, 1e-2], DISK_MINIMUM, atol=1e-3)


# ---- records ---------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", ALL)
def test_violations_are_recorded(algorithm, tmp_path):
    path = tmp_path / "log.db"
    start = np.array([1.5, 1.5])
    result = om.minimize(rosenbrock, start, algorithm, constraints=disk(), logging=path)
    history = result.history
    values = np.array([sphere(x) for x in history.flat_params]) - 1
    np.testing.assert_allclose(history.violation, np.where(values > 1e-5, values, 0), atol=1e-12)
    assert history.violation[0] == pytest.approx(3.5)
    # only feasible rows are accepted, and each is better than those before
    accepted = history.is_accepted
    assert not accepted[0]
    assert (np.array(history.violation)[accepted] == 0).all()
    funs = np.array(history.fun)[accepted]
    assert (np.diff(funs) <= 0).all()
    assert np.isnan(history.monotone_fun[0])
    assert result.fun == funs[-1]
    assert result.max_constraint_violation <= 1e-5
    frame = om.SQLiteLogReader(path).to_frame()
    path_rows = frame[frame["kind"] != "derivative"]
    np.testing.assert_allclose(path_rows["violation"], history.violation, atol=1e-12)


@pytest.mark.parametrize("algorithm", ["scipy_slsqp", "nlopt_cobyla"])
def test_evaluations_of_constraints_are_counted(algorithm):
    points = []

    def func(x):
        points.append(x.tobytes())
        return float(sphere(x))

    result = om.minimize(
        rosenbrock, START, algorithm,
        constraints=om.NonlinearConstraint(
            func=func, derivative=lambda x: 2 * x, upper_bound=1.0
        ),
    )  # fmt: skip
    # one call to find out what it returns, then one each time another point is asked for
    assert result.n_constraint_evals == len(points) - 1
    assert result.n_constraint_evals >= len(set(points))
    assert "constraints" in repr(result)


def test_the_best_point_is_feasible_though_infeasible_ones_are_lower():
    result = om.minimize(
        lambda x: jnp.sum(x), np.array([0.5, -0.2]), "scipy_slsqp",
        constraints=om.NonlinearConstraint(func=jax_sphere, upper_bound=4.0),
    )  # fmt: skip
    assert min(result.history.fun) < result.fun - 1e-3
    np.testing.assert_allclose(result.params, -np.sqrt([2.0, 2.0]), atol=1e-3)
    assert result.max_constraint_violation <= 1e-5


def test_without_constraints_nothing_is_violated():
    result = om.minimize(rosenbrock, START, "scipy_slsqp")
    assert result.n_constraint_evals == 0
    assert result.max_constraint_violation == 0
    assert set(result.history.violation) == {0.0}


# ---- what cannot be --------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", ALL)
def test_infeasible_problems_are_no_success(algorithm):
    result = om.minimize(
        lambda x: jnp.sum(x**2),
        np.array([1.0, 2.0]),
        algorithm,
        constraints=[
            om.NonlinearConstraint(func=lambda x: x[0] - x[1] ** 2, lower_bound=1.0),
            om.NonlinearConstraint(func=lambda x: x[0], upper_bound=0.0),
        ],
    )
    assert not result.success
    assert "NonlinearConstraint" in result.message
    assert "constraint 0" in result.message
    assert result.max_constraint_violation > 1e-3


@pytest.mark.parametrize("algorithm", ALL)
def test_a_negative_radius_is_no_success(algorithm):
    result = om.minimize(
        rosenbrock, START, algorithm,
        constraints=om.NonlinearConstraint(func=jax_sphere, upper_bound=-1.0),
        algo_options={"stopping_maxfun": 3000},
    )  # fmt: skip
    assert not result.success
    assert "constraint 0 (NonlinearConstraint)" in result.message
    assert result.max_constraint_violation == pytest.approx(1 + sphere(result.params))


def test_limits_do_not_hide_that_the_best_point_is_infeasible():
    result = om.minimize(
        rosenbrock, np.array([5.0, 5.0]), "scipy_slsqp", constraints=disk(0.1),
        algo_options={"stopping_maxfun": 2},
    )  # fmt: skip
    assert not result.success
    assert result.max_constraint_violation > 1
    assert "constraint 0 (NonlinearConstraint)" in result.message


@pytest.mark.parametrize("algorithm", INEQUALITIES_ONLY)
@pytest.mark.parametrize("target", [{"value": 1.0}, {"lower_bound": 1.0, "upper_bound": 1.0}])
def test_equalities_are_refused_with_advice(algorithm, target):
    with pytest.raises(OptimagicError, match="equalit") as error:
        om.minimize(
            rosenbrock, START, algorithm,
            constraints=om.NonlinearConstraint(func=sphere, **target),
        )  # fmt: skip
    assert "nlopt_slsqp" in str(error.value)


@pytest.mark.parametrize(
    "algorithm", ["scipy_lbfgsb", "nlopt_bobyqa", "scipy_bfgs", "scipy_neldermead"]
)
def test_other_algorithms_refuse_with_a_list(algorithm):
    with pytest.raises(OptimagicError, match=f"{algorithm}.*nonlinear") as error:
        om.minimize(rosenbrock, START, algorithm, constraints=disk())
    named = [name for name in ALL if re.search(rf"\b{name}\b", str(error.value))]
    assert len(named) >= 2


# ---- failures --------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", ["scipy_slsqp", "scipy_cobyqa", "nlopt_cobyla"])
@pytest.mark.parametrize("failure", ["raises", "nan"])
def test_a_constraint_that_fails_ends_the_run(algorithm, failure):
    def func(x):
        if x[0] > 0:
            if failure == "raises":
                raise ZeroDivisionError("no number here")
            return np.nan
        return float(sphere(x))

    with pytest.raises(UserFunctionRuntimeError, match="constraint 0") as error:
        om.minimize(
            rosenbrock, START, algorithm,
            constraints=om.NonlinearConstraint(func=func, upper_bound=1.0),
        )  # fmt: skip
    assert error.value.params[0] > 0
    assert error.value.partial_result.params[0] <= 0


@pytest.mark.parametrize(
    "algorithm", ["scipy_slsqp", "nlopt_slsqp", "scipy_cobyla", "nlopt_cobyla"]
)
@pytest.mark.parametrize("failure", ["raises", "nan"])
def test_a_constraint_may_fail_with_continue(algorithm, failure):
    # the first long steps leave the region in which it can be computed
    def func(x):
        if x[0] > 0.7:
            if failure == "raises":
                raise ZeroDivisionError("no number here")
            return np.nan
        return float(sphere(x))

    with pytest.warns(UserWarning, match="constraint 0"):
        result = om.minimize(
            lambda x: -3 * x[0] - x[1], np.array([0.1, 0.1]), algorithm,
            error_handling="continue",
            constraints=om.NonlinearConstraint(func=func, upper_bound=0.5),
            algo_options={"stopping_maxfun": 1000},
        )  # fmt: skip
    assert result.n_failed_evals > 0
    assert result.params[0] <= 0.7
    assert sphere(result.params) <= 0.5 + 1e-5
    if result.success:
        expected = np.array([3, 1]) / np.sqrt(20)
        np.testing.assert_allclose(result.params, expected, atol=1e-3)


# ---- messages --------------------------------------------------------------------------------


def refuse(match, **fields):
    with pytest.raises(InvalidConstraintError, match=match):
        om.minimize(
            rosenbrock, START, "scipy_slsqp",
            constraints=[disk(), om.NonlinearConstraint(**fields)],
        )  # fmt: skip


def test_a_function_that_raises_at_the_start():
    refuse(r"constraint 1.*ZeroDivisionError at the start", func=lambda x: 1 / 0, value=0.0)


def test_another_number_of_values():
    lengths = iter([2, 2, 2, 3, 3, 3, 3, 3])
    refuse(
        r"constraint 1.*3 numbers instead of 2",
        func=lambda x: np.ones(next(lengths)), upper_bound=2.0,
    )  # fmt: skip


@pytest.mark.parametrize("bound", [[1.0, 2.0, 3.0], {"a": 1.0}, "high", np.ones((2, 2))])
@pytest.mark.parametrize("side", ["lower_bound", "upper_bound", "value"])
def test_bounds_of_another_shape(side, bound):
    refuse(rf"{side}.*constraint 1", func=lambda x: x, **{side: bound})


def test_bounds_that_are_crossed():
    refuse("constraint 1.*crossed", func=sphere, lower_bound=2.0, upper_bound=1.0)


def test_values_that_are_no_numbers():
    refuse("constraint 1.*numbers", func=lambda x: "much", upper_bound=1.0)


def test_a_derivative_of_another_shape():
    refuse(
        r"derivative of constraint 1.*\(1, 2\)", func=sphere, upper_bound=3.0,
        derivative=lambda x: np.ones(3),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("fields", "match"),
    [
        ({"func": None, "value": 1.0}, "func must be a function"),
        ({"func": sphere}, "value, a lower_bound or an upper_bound"),
        ({"func": sphere, "value": 1.0, "upper_bound": 2.0}, "value and bounds"),
        ({"func": sphere, "value": 1.0, "tol": -1.0}, "tol"),
        ({"func": sphere, "value": 1.0, "derivative": 3}, "derivative must be a function"),
    ],
)
def test_fields_that_are_wrong(fields, match):
    with pytest.raises(InvalidConstraintError, match=match):
        om.NonlinearConstraint(**fields)


def test_a_larger_tolerance_lets_more_pass():
    tight = om.minimize(rosenbrock, START, "nlopt_cobyla", constraints=disk(tol=1e-8))
    loose = om.minimize(rosenbrock, START, "nlopt_cobyla", constraints=disk(tol=1e-2))
    assert tight.max_constraint_violation <= 1e-8
    assert 1e-5 < loose.max_constraint_violation <= 1e-2
    assert loose.fun < tight.fun
