"""Scaling: what the algorithm sees changes, what the user sees does not."""

import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from compilations import count_compilations

import optimagic_lite as om
from optimagic_lite.exceptions import InvalidScalingError

WAYS = [True, {"method": "start_values"}, om.ScalingOptions(), {"clipping_value": 1e-6}]

TARGET = np.array([1500.0, 0.02, -3.0])
SIZES = np.array([1000.0, 0.01, 1.0])
START = np.array([1000.0, 0.03, -1.0])


def well(x):
    """A criterion whose parameters are of very different size."""
    return jnp.sum(jnp.cosh((x - TARGET) / SIZES)) - 3


def well_numpy(x):
    return float(np.sum(np.cosh((np.asarray(x) - TARGET) / SIZES)) - 3)


# ---- results ---------------------------------------------------------------------------------


@pytest.mark.parametrize("scaling", WAYS)
@pytest.mark.parametrize("fun", [well, well_numpy])
@pytest.mark.parametrize(
    "algorithm", ["scipy_lbfgsb", "scipy_slsqp", "scipy_neldermead", "nlopt_bobyqa"]
)
def test_the_minimum_is_found_in_the_users_units(algorithm, fun, scaling):
    result = om.minimize(fun, START, algorithm, scaling=scaling)
    np.testing.assert_allclose((result.params - TARGET) / SIZES, 0, atol=2e-3)
    np.testing.assert_array_equal(result.start_params, START)
    assert result.fun == pytest.approx(well_numpy(result.params), abs=1e-12)
    assert result.start_fun == pytest.approx(well_numpy(START), rel=1e-12)


@pytest.mark.parametrize("algorithm", ["scipy_bfgs", "scipy_trust_exact", "optimistix_bfgs"])
def test_algorithms_without_bounds_scale_too(algorithm):
    result = om.maximize(lambda x: -well(x), START, algorithm, scaling=True)
    assert result.success
    np.testing.assert_allclose((result.params - TARGET) / SIZES, 0, atol=1e-3)


@pytest.mark.parametrize("algorithm", ["scipy_lbfgsb", "nlopt_bobyqa", "scipy_trust_constr"])
def test_where_scaling_is_not_needed_it_changes_nothing(algorithm):
    start, target = np.array([0.5, 1.5, -2.0]), np.array([1.0, 0.7, -3.0])

    def fun(x):
        return jnp.sum((x - target) ** 2) + jnp.sum((x - target) ** 4)

    plain, scaled = (om.minimize(fun, start, algorithm, scaling=s) for s in (False, True))
    np.testing.assert_allclose(plain.params, scaled.params, atol=2e-3)


def test_no_scaling_is_the_same_as_none():
    histories = [
        om.minimize(well, START, "scipy_lbfgsb", scaling=s).history.flat_params
        for s in (False, None)
    ]
    np.testing.assert_array_equal(*histories)


def badly_scaled(x):
    return jnp.sum((x / np.array([1e4, 1.0, 1e-4]) - 1) ** 2) + jnp.sum(
        (x / np.array([1e4, 1.0, 1e-4])) ** 4
    )


@pytest.mark.parametrize("algorithm", ["scipy_bfgs", "scipy_lbfgsb"])
def test_badly_scaled_problems_benefit(algorithm):
    start = np.array([2e4, 2.0, 2e-4])
    options = {"scaling": {"clipping_value": 1e-8}, "algo_options": {"stopping_maxfun": 300}}
    scaled = om.minimize(badly_scaled, start, algorithm, **options)
    plain = om.minimize(badly_scaled, start, algorithm, algo_options=options["algo_options"])
    # 4 z^3 + 2 z = 2
    z = float(np.roots([4, 0, 2, -2]).real[np.isreal(np.roots([4, 0, 2, -2]))][0])
    best = 3 * ((z - 1) ** 2 + z**4)
    assert scaled.success
    np.testing.assert_allclose(scaled.params / [1e4, 1, 1e-4], z, atol=1e-3)
    assert scaled.fun - best < 1e-6
    assert plain.fun - best > 100 * max(scaled.fun - best, 1e-12)


# ---- what the criterion sees -----------------------------------------------------------------


def steps_of(scaling, start=START, bounds=None, step=0.01):
    """Return the points of a difference quotient with a fixed step in what is scaled."""
    points = []

    def fun(x):
        points.append(np.array(x))
        return well_numpy(x)

    om.minimize(
        fun, start, "scipy_lbfgsb", scaling=scaling, bounds=bounds,
        numdiff_options={"method": "forward", "step_size": step},
        algo_options={"stopping_maxfun": 1},
    )  # fmt: skip
    return np.array(points)


def test_start_values_scale_steps():
    points = steps_of(True)
    moved = {tuple(np.round(p - START, 12)) for p in points} - {(0.0, 0.0, 0.0)}
    # 0.03 is below the clipping value, which takes its place
    assert moved == {(10.0, 0.0, 0.0), (0.0, 0.001, 0.0), (0.0, 0.0, 0.01)}
    np.testing.assert_array_equal(points[0], START)


def test_the_clipping_value_and_the_magnitude():
    points = steps_of({"clipping_value": 5.0, "magnitude": 10.0})
    moved = {tuple(np.round(p - START, 12)) for p in points} - {(0.0, 0.0, 0.0)}
    assert moved == {(1.0, 0.0, 0.0), (0.0, 0.005, 0.0), (0.0, 0.0, 0.005)}


def test_bounds_scale_steps():
    bounds = om.Bounds(lower=[0.0, 0.01, -5.0], upper=[2000.0, 0.06, 5.0])
    points = steps_of({"method": "bounds", "magnitude": 2.0}, bounds=bounds)
    moved = {tuple(np.round(p - START, 12)) for p in points} - {(0.0, 0.0, 0.0)}
    assert moved == {(10.0, 0.0, 0.0), (0.0, 0.00025, 0.0), (0.0, 0.0, 0.05)}


@pytest.mark.parametrize("scaling", [True, {"method": "bounds"}])
@pytest.mark.parametrize("algorithm", ["scipy_lbfgsb", "nlopt_bobyqa", "scipy_slsqp"])
def test_bounds_hold_in_the_users_units(algorithm, scaling):
    lower, upper = np.array([900.0, 0.0, -2.0]), np.array([1400.0, 0.05, 4.0])
    points = []

    def fun(x):
        points.append(np.array(x))
        return well_numpy(x)

    result = om.minimize(
        fun, START, algorithm, scaling=scaling, bounds=om.Bounds(lower=lower, upper=upper)
    )
    np.testing.assert_allclose((result.params - [1400, 0.02, -2.0]) / SIZES, 0, atol=2e-3)
    slack = 1e-12 * np.maximum(np.abs(lower), np.abs(upper))
    assert (np.array(points) >= lower - slack).all()
    assert (np.array(points) <= upper + slack).all()


def test_every_record_is_in_the_users_units(tmp_path):
    path, seen = tmp_path / "log.db", []

    result = om.minimize(
        well, START, "scipy_lbfgsb", scaling=True, logging=path,
        callback=lambda state: seen.append((state.params, state.fun)) and False,
    )  # fmt: skip
    flat = result.history.flat_params
    np.testing.assert_allclose(result.history.fun, [well_numpy(x) for x in flat], atol=1e-9)
    np.testing.assert_allclose([p for p, _ in seen], flat)
    np.testing.assert_allclose([f for _, f in seen], result.history.fun)
    frame = om.SQLiteLogReader(path).to_frame()
    np.testing.assert_allclose(frame["fun"], result.history.fun)


def test_trees_and_pandas_come_back():
    params = {"a": pd.Series([1000.0, 0.03], index=["x", "y"]), "b": -1.0}
    result = om.minimize(
        lambda p: well_numpy([*p["a"], p["b"]]), params, "scipy_lbfgsb", scaling=True
    )
    assert list(result.params["a"].index) == ["x", "y"]
    np.testing.assert_allclose(
        ([*result.params["a"], result.params["b"]] - TARGET) / SIZES, 0, atol=2e-3
    )


# ---- derivatives -----------------------------------------------------------------------------


@pytest.mark.parametrize("scaling", [False, True, {"clipping_value": 1e-3, "magnitude": 7.0}])
def test_jac_is_in_the_units_of_params(scaling):
    result = om.minimize(
        well, START, "scipy_lbfgsb", scaling=scaling, algo_options={"stopping_maxfun": 3}
    )
    expected = np.sinh((result.params - TARGET) / SIZES) / SIZES
    np.testing.assert_allclose(result.jac, expected, rtol=1e-8)


def test_hess_is_in_the_units_of_params():
    result = om.minimize(well, START, "scipy_trust_exact", scaling=True)
    expected = np.diag(np.cosh((result.params - TARGET) / SIZES) / SIZES**2)
    np.testing.assert_allclose(result.hess, expected, rtol=1e-5)


def test_hess_inv_is_in_the_units_of_params():
    result = om.minimize(
        lambda x: jnp.sum(((x - TARGET) / SIZES) ** 2), START, "scipy_bfgs", scaling=True
    )
    # BFGS only comes near it; the units differ by up to 10^5 squared
    in_sizes = np.diag(result.hess_inv) / SIZES**2
    assert (in_sizes > 0.2).all()
    assert (in_sizes < 1.5).all()


def test_maximize_has_the_users_sign_in_jac_and_hess():
    result = om.maximize(lambda x: -well(x), START, "scipy_trust_exact", scaling=True)
    expected = -np.sinh((result.params - TARGET) / SIZES) / SIZES
    np.testing.assert_allclose(result.jac, expected, rtol=1e-6, atol=1e-12)
    assert (np.diag(result.hess) < 0).all()


@pytest.mark.parametrize("way", ["gradient", "Hessian", "product"])
def test_derivatives_of_the_user_are_in_params(way):
    seen = []

    def jac(x):
        seen.append(x)
        return np.sinh((x - TARGET) / SIZES) / SIZES

    def hess(x):
        return np.diag(np.cosh((x - TARGET) / SIZES) / SIZES**2)

    arguments = {
        "gradient": {},
        "Hessian": {"hess": hess},
        "product": {"hessp": lambda x, v: hess(x) @ v},
    }[way]
    result = om.minimize(well_numpy, START, "scipy_trust_ncg", scaling=True, jac=jac, **arguments)
    assert result.success
    np.testing.assert_array_equal(seen[0], START)
    np.testing.assert_allclose((result.params - TARGET) / SIZES, 0, atol=1e-4)


# ---- constraints -----------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["start_values", "bounds"])
@pytest.mark.parametrize("algorithm", ["scipy_lbfgsb", "scipy_slsqp"])
def test_constraints_hold_under_scaling(algorithm, method):
    params = {"w": np.array([0.2, 0.3, 0.5]), "x": np.array([100.0, 100.0, 7.0])}
    result = om.minimize(
        lambda p: (
            jnp.sum((p["w"] - np.array([0.7, 0.5, -0.2])) ** 2) + jnp.sum((p["x"] / 100 - 2) ** 2)
        ),
        params,
        algorithm,
        bounds=om.Bounds(lower={"x": 0.0}, upper={"x": 1000.0}),
        constraints=[
            om.ProbabilityConstraint(lambda p: p["w"]),
            om.EqualityConstraint(lambda p: p["x"][:2]),
            om.FixedConstraint(lambda p: p["x"][2]),
        ],
        scaling={"method": method},
    )
    assert result.success
    # the projection on the simplex
    np.testing.assert_allclose(result.params["w"], [0.6, 0.4, 0], atol=1e-4)
    np.testing.assert_allclose(result.params["x"], [200, 200, 7], rtol=1e-4)
    assert result.params["x"][0] == result.params["x"][1]
    assert result.params["x"][2] == 7


@pytest.mark.parametrize("algorithm", ["scipy_slsqp", "scipy_trust_constr", "scipy_cobyqa"])
def test_native_linear_rows_hold_under_scaling(algorithm):
    # two rows over bounded parameters: no bijection, so the algorithm gets them
    rows = np.array([[1.0, 1000.0, 0.0], [0.0, 1000.0, 2.0]])
    value = rows @ np.array([1200.0, 0.03, -1.0])

    def distance(x):
        return jnp.sum(((x - TARGET) / SIZES) ** 2)

    result = om.minimize(
        distance, np.array([1200.0, 0.03, -1.0]), algorithm,
        bounds=om.Bounds(lower=[0.0, 0.0, -10.0], upper=[3000.0, 0.1, 10.0]),
        constraints=om.LinearConstraint(weights=rows, value=value), scaling=True,
    )  # fmt: skip
    # least squares along the null space of the rows
    null = np.array([-1000.0, 1.0, -500.0])
    base = np.array([1200.0, 0.03, -1.0])
    t = ((TARGET - base) / SIZES) @ (null / SIZES) / np.sum((null / SIZES) ** 2)
    np.testing.assert_allclose((result.params - base - t * null) / SIZES, 0, atol=1e-3)
    np.testing.assert_allclose(rows @ result.params, value, rtol=1e-5)


def test_fixed_parameters_need_no_bounds():
    result = om.minimize(
        well, START, "scipy_lbfgsb", scaling={"method": "bounds"},
        bounds=om.Bounds(lower=[0.0, 0.0, -np.inf], upper=[3000.0, 1.0, np.inf]),
        constraints=om.FixedConstraint(lambda x: x[2]),
    )  # fmt: skip
    np.testing.assert_allclose((result.params - [1500, 0.02, -1]) / SIZES, 0, atol=1e-3)


# ---- compiled once ---------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", ["scipy_lbfgsb", "scipy_trust_exact", "optimistix_bfgs"])
@pytest.mark.parametrize("constraints", [None, "ties", "probability"])
def test_new_start_values_and_data_compile_nothing(algorithm, constraints):
    def fun(x, target):
        return jnp.sum((x - target) ** 2) + jnp.sum((x - target) ** 4)

    def solve(start, target):
        given = {
            None: None,
            "ties": om.EqualityConstraint(lambda x: x[:2]),
            "probability": om.ProbabilityConstraint(),
        }[constraints]
        return om.minimize(
            fun, np.array(start), algorithm, scaling=True, constraints=given,
            fun_kwargs={"target": np.array(target)},
        )  # fmt: skip

    solve([0.25, 0.25, 0.5], [0.3, 0.3, 0.4])
    with count_compilations() as counter:
        result = solve([0.4, 0.4, 0.2], [0.2, 0.2, 0.6])
    np.testing.assert_allclose(result.params, [0.2, 0.2, 0.6], atol=1e-3)
    assert counter[0] == 0


# ---- errors ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scaling", "match"),
    [
        ("start_values", "ScalingOptions or a dict"),
        (2.0, "ScalingOptions or a dict"),
        ({"methods": "bounds"}, "no field 'methods'.*method"),
        ({"method": "start_value"}, "start_values"),
        ({"clipping_value": 0.0}, "clipping_value must be a positive number"),
        ({"clipping_value": "small"}, "clipping_value must be a positive number"),
        ({"magnitude": -1.0}, "magnitude must be a positive number"),
        ({"magnitude": np.inf}, "magnitude must be a positive number"),
        ({"magnitude": True}, "magnitude must be a positive number"),
    ],
)
def test_options_that_are_wrong(scaling, match):
    with pytest.raises(InvalidScalingError, match=match):
        om.minimize(well, START, "scipy_lbfgsb", scaling=scaling)


@pytest.mark.parametrize(
    "bounds", [None, {"lower": 0.0}, {"lower": [0, 0, -9], "upper": [1e4, 1, np.inf]}]
)
def test_bounds_that_are_missing_are_named(bounds):
    params = {"a": 1000.0, "b": 0.03, "c": 1.0}
    keys = list(params)
    if bounds and isinstance(bounds["lower"], list):
        bounds = {side: dict(zip(keys, v, strict=True)) for side, v in bounds.items()}
    with pytest.raises(InvalidScalingError, match=r"missing for.*c") as error:
        om.minimize(
            lambda p: well_numpy([p[k] for k in keys]), params, "scipy_lbfgsb",
            scaling={"method": "bounds"}, bounds=None if bounds is None else om.Bounds(**bounds),
        )  # fmt: skip
    assert "start_values" in str(error.value)
    if bounds and "upper" in bounds:
        assert "a," not in str(error.value)
