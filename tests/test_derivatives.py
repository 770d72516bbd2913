"""Which derivatives a run uses, why, and that they are right."""

import dataclasses
import os
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

import optimagic_lite as om
from optimagic_lite.algorithms.base import AlgoInfo, Algorithm, Outcome
from optimagic_lite.exceptions import (
    InvalidFunctionError,
    InvalidNumdiffOptionsError,
    NotAvailableError,
)
from optimagic_lite.objective import numerical
from optimagic_lite.options import NumdiffOptions


@dataclasses.dataclass(frozen=True, kw_only=True)
class Probe(Algorithm):
    """Evaluates every derivative at given points and stops."""

    name = "numpy_probe"
    algo_info = AlgoInfo(
        name="numpy_probe",
        library="numpy",
        needs_jac=True,
        uses_hess=True,
        supports_bounds=True,
        supports_infinite_bounds=True,
    )

    points: Any = None
    direction: Any = None
    want_hessian: bool = False

    def solve(self, evaluator, x0):
        rows = []
        for x in [x0] if self.points is None else self.points:
            x = np.array(x, dtype=float)
            row = {"fun": evaluator.fun(x), "jac": np.array(evaluator.jac(x))}
            if self.want_hessian:
                row["hess"] = evaluator.hess(x)
                v = np.arange(1.0, len(x) + 1) if self.direction is None else self.direction
                row["hessp"] = evaluator.hessp(x, v)
            rows.append(row)
        return Outcome(True, "probed", info={"rows": rows})


def probe(fun, params, *, points=None, want_hessian=False, maximize=False, **arguments):
    """Return the derivatives that an algorithm gets, at the start or at given points."""
    call = om.maximize if maximize else om.minimize
    result = call(fun, params, Probe(points=points, want_hessian=want_hessian), **arguments)
    rows = result.algorithm_output["rows"]
    return rows[0] if points is None else rows


# A criterion over a tree with unsorted keys, for NumPy (real and complex) and JAX.

PARAMS = {"b": np.array([[0.3, -0.7], [1.1, 0.4]]), "c": 0.9, "a": (0.2, np.array([1.5, -0.6]))}
FLAT = np.array([0.3, -0.7, 1.1, 0.4, 0.9, 0.2, 1.5, -0.6])


def criterion(params, xp):
    b, c, (d, e) = params["b"], params["c"], params["a"]
    return (
        xp.sum(xp.exp(b) * c)
        + xp.sin(d * e[0]) * c**2
        + (b[0, 1] * e[1]) ** 3
        + xp.cos(b[1, 0] * c)
    )


def jax_criterion(params):
    return criterion(params, jnp)


def numpy_criterion(params):
    return criterion(params, np)


def unflatten(x):
    return {"b": x[:4].reshape(2, 2), "c": x[4], "a": (x[5], x[6:])}


def complex_step_gradient(x):
    """Im f(x + ih) / h, exact to rounding (Squire and Trapp 1998, 10.1137/S003614459631241X)."""
    step = 1e-30
    points = x + 1j * step * np.eye(len(x))
    return np.array([numpy_criterion(unflatten(point)).imag / step for point in points])


def complex_step_hessian(x):
    step = 1e-5
    columns = [
        (complex_step_gradient(x + e) - complex_step_gradient(x - e)) / (2 * step)
        for e in step * np.eye(len(x))
    ]
    return np.array(columns).T


# ---- exact -----------------------------------------------------------------------------------


def test_exact_derivatives_agree_with_complex_steps():
    points = np.random.default_rng(5).normal(size=(3, 8))

    rows = probe(jax_criterion, PARAMS, points=points, want_hessian=True)

    for x, row in zip(points, rows, strict=True):
        expected = complex_step_hessian(x)
        assert row["fun"] == pytest.approx(numpy_criterion(unflatten(x)), rel=1e-14)
        np.testing.assert_allclose(row["jac"], complex_step_gradient(x), rtol=1e-12, atol=1e-13)
        np.testing.assert_allclose(row["hess"], expected, rtol=1e-7, atol=1e-8)
        np.testing.assert_allclose(
            row["hessp"], expected @ np.arange(1.0, 9.0), rtol=1e-7, atol=1e-7
        )


@pytest.mark.parametrize("maximize", [False, True])
def test_all_ways_to_a_derivative_agree(maximize):
    jac, both = jax.jit(jax.grad(jax_criterion)), jax.jit(jax.value_and_grad(jax_criterion))
    hess = jax.jit(jax.hessian(jax_criterion))
    hessp = jax.jit(lambda p, v: jax.jvp(jac, (p,), (v,))[1])
    ways = {
        "exact": {"fun": jax_criterion},
        "jac": {"fun": numpy_criterion, "jac": jac},
        "fun_and_jac": {"fun": numpy_criterion, "fun_and_jac": both},
        "jac=True": {"fun": both, "jac": True},
        "hess": {"fun": numpy_criterion, "jac": jac, "hess": hess},
        "hessp": {"fun": numpy_criterion, "jac": jac, "hess": hess, "hessp": hessp},
        "numerical": {"fun": numpy_criterion},
    }
    sign = -1 if maximize else 1
    expected = {
        "fun": sign * numpy_criterion(PARAMS),
        "jac": sign * complex_step_gradient(FLAT),
        "hess": sign * complex_step_hessian(FLAT),
        "hessp": sign * complex_step_hessian(FLAT) @ np.arange(1.0, 9.0),
    }

    # second differences of values keep about a third of the digits
    rough = {"fun": 1e-12, "jac": 1e-8, "hess": 1e-3, "hessp": 2e-2}
    for name, arguments in ways.items():
        row = probe(params=PARAMS, want_hessian=True, maximize=maximize, **arguments)
        for key, value in expected.items():
            atol = rough[key] if name == "numerical" else 1e-6
            np.testing.assert_allclose(row[key], value, rtol=1e-9, atol=atol, err_msg=name)


def test_hessian_of_a_user_gradient_is_its_difference_quotient():
    row = probe(numpy_criterion, PARAMS, jac=jax.grad(jax_criterion), want_hessian=True)

    np.testing.assert_allclose(row["hess"], complex_step_hessian(FLAT), rtol=1e-6, atol=1e-6)
    np.testing.assert_array_equal(row["hess"], row["hess"].T)


def test_result_holds_the_gradient_in_the_structure_of_params_and_the_sign_of_the_user():
    result = om.maximize(lambda p: -jax_criterion(p), PARAMS, Probe())

    expected = unflatten(-complex_step_gradient(FLAT))
    assert list(result.jac) == ["b", "c", "a"]
    np.testing.assert_allclose(result.jac["b"], expected["b"], rtol=1e-10)
    assert result.jac["c"] == pytest.approx(expected["c"], rel=1e-10)
    assert result.jac["a"][0] == pytest.approx(expected["a"][0], rel=1e-10)


@pytest.mark.parametrize("algorithm", ["scipy_trust_exact", "scipy_newton_cg"])
@pytest.mark.parametrize("maximize", [False, True])
def test_second_order_algorithms_solve_a_tree_with_unsorted_keys(algorithm, maximize):
    # minimum at b = (1, 1), a = 1 (Rosenbrock 1960 in three variables)
    def fun(p):
        x = jnp.array([p["b"][0], p["b"][1], p["a"]])
        value = jnp.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)
        return -value if maximize else value

    call = om.maximize if maximize else om.minimize
    for extra in ({}, {"jac": jax.jit(jax.grad(fun)), "hess": jax.jit(jax.hessian(fun))}):
        result = call(fun, {"b": np.array([-1.2, 1.0]), "a": 1.2}, algorithm, **extra)

        assert result.success, result.message
        assert result.derivatives.kind == ("user" if extra else "exact")
        np.testing.assert_allclose([*result.params["b"], result.params["a"]], 1.0, atol=1e-4)


def test_hessian_may_be_a_matrix_in_the_order_of_writing():
    scale = np.array([1.0, 10.0, 100.0])
    row = probe(
        lambda p: 0.5 * (scale * np.array([*p["b"], p["a"]]) ** 2).sum(),
        {"b": np.ones(2), "a": 1.0},
        jac=lambda p: {"a": scale[2] * p["a"], "b": scale[:2] * p["b"]},
        hess=lambda _: np.diag(scale),
        want_hessian=True,
    )

    np.testing.assert_array_equal(row["hess"], np.diag(scale))
    np.testing.assert_array_equal(row["jac"], scale)


def test_direction_of_a_hessian_product_is_a_tree_like_params():
    seen = []

    def hessp(params, direction, factor):
        seen.append(direction)
        return {"a": factor * direction["a"], "b": factor * direction["b"]}

    row = probe(
        lambda p, factor: factor * 0.5 * ((p["b"] ** 2).sum() + p["a"] ** 2),
        {"b": np.ones(2), "a": 1.0},
        fun_kwargs={"factor": 3.0},
        jac=lambda p: {"b": 3 * p["b"], "a": 3 * p["a"]},
        hess=lambda _, factor: factor * np.eye(3),
        hessp=hessp,
        want_hessian=True,
    )

    assert list(seen[0]) == ["b", "a"]
    assert (seen[0]["b"].tolist(), seen[0]["a"]) == ([1.0, 2.0], 3.0)
    np.testing.assert_array_equal(row["hessp"], [3.0, 6.0, 9.0])


# ---- the decision ----------------------------------------------------------------------------


def sphere(x):
    return jnp.sum((x - 1.0) ** 2)


def numpy_sphere(x):
    return ((x - 1.0) ** 2).sum()


def sine_sphere(x):
    # NumPy's functions do not take tracers
    return (np.sin(np.asarray(x) - 1.0) ** 2).sum()


@pytest.mark.parametrize(
    ("arguments", "kind", "reason"),
    [
        ({"fun": sphere}, "exact", "compiles"),
        ({"fun": jax.jit(sphere)}, "exact", "compiles"),
        ({"fun": numpy_sphere}, "numerical", "jax.numpy"),
        ({"fun": numpy_sphere, "derivatives": "exact"}, "exact", "compiles"),
        ({"fun": sphere, "derivatives": "numerical"}, "numerical", "asked for"),
        ({"fun": sphere, "jac": jax.grad(sphere)}, "user", "jac"),
        ({"fun": numpy_sphere, "jac": lambda x: 2 * (x - 1.0)}, "user", "jac"),
        ({"fun": numpy_sphere, "fun_and_jac": jax.value_and_grad(sphere)}, "user", "fun_and_jac"),
        ({"fun_and_jac": jax.value_and_grad(sphere)}, "user", "fun_and_jac"),
        ({"fun": jax.value_and_grad(sphere), "jac": True}, "user", "fun_and_jac"),
        ({"fun": sphere, "algorithm": "scipy_neldermead"}, "none", "uses no derivatives"),
        ({"fun": numpy_sphere, "algorithm": "scipy_neldermead"}, "none", "uses no derivatives"),
    ],
)
def test_derivatives_are_the_users_then_exact_then_numerical(arguments, kind, reason):
    result = om.minimize(**({"algorithm": "scipy_lbfgsb", "params": np.zeros(2)} | arguments))

    assert result.derivatives.kind == kind
    assert reason in result.derivatives.reason
    assert (result.n_numdiff_evals > 0) == (kind == "numerical")
    assert result.derivatives.reason in repr(result)
    np.testing.assert_allclose(result.params, 1.0, atol=1e-4)


def test_numpy_criterion_is_never_traced_unasked():
    seen = []

    def fun(x):
        seen.append(x)
        return (x**2).sum()

    om.minimize(fun, np.ones(2), "scipy_lbfgsb")

    assert {type(x) for x in seen} == {np.ndarray}


def test_pandas_params_keep_a_jax_criterion_from_being_traced_and_the_reason_says_so():
    result = om.minimize(
        lambda s: jnp.sum((jnp.asarray(s.to_numpy()) - 1.0) ** 2),
        pd.Series([0.0, 0.0], index=["a", "b"]),
        "scipy_lbfgsb",
    )

    assert result.derivatives.kind == "numerical"
    assert "pandas" in result.derivatives.reason
    np.testing.assert_allclose(result.params, 1.0, atol=1e-5)


def test_insisting_on_exact_derivatives_that_cannot_be_had_is_an_error():
    with pytest.raises(NotAvailableError, match=r"JAX cannot differentiate fun.*jax\.numpy"):
        om.minimize(sine_sphere, np.zeros(2), "scipy_lbfgsb", derivatives="exact")


def test_insisting_on_exact_derivatives_is_satisfied_by_the_users():
    result = om.minimize(
        sine_sphere,
        np.zeros(2),
        "scipy_lbfgsb",
        derivatives="exact",
        jac=lambda x: np.sin(2 * (x - 1.0)),
    )

    assert result.derivatives.kind == "user"
    np.testing.assert_allclose(result.params, 1.0, atol=1e-5)


# ---- criteria that JAX cannot compile --------------------------------------------------------


def test_branches_on_values_are_differentiated_without_being_compiled():
    def fun(x):
        if x[0] > 0.5:
            return jnp.sum((x - 2.0) ** 2)
        return jnp.sum((x - 2.0) ** 2) + (x[0] - 0.5) ** 2

    result = om.minimize(fun, np.zeros(2), "scipy_lbfgsb")
    row = probe(fun, np.zeros(2), want_hessian=True)

    assert result.derivatives.kind == "exact"
    assert "cannot compile" in result.derivatives.reason
    assert result.n_numdiff_evals == 0
    np.testing.assert_allclose(result.params, 2.0, atol=1e-5)
    np.testing.assert_allclose(row["jac"], [-5.0, -4.0], rtol=1e-13)
    np.testing.assert_allclose(row["hess"], [[4.0, 0.0], [0.0, 2.0]], atol=1e-13)
    np.testing.assert_allclose(row["hessp"], [4.0, 4.0], atol=1e-13)


@pytest.mark.parametrize("convert", [float, lambda v: v.item(), lambda v: np.asarray(v).item()])
def test_a_conversion_to_a_python_number_never_cuts_a_derivative(convert):
    # the minimum in x[0] is that of (x - 1)^2 + 10 (x - 3)^2
    def fun(x):
        return jnp.sum((x - 1.0) ** 2) + 10 * convert(x[0] - 3.0) ** 2

    result = om.minimize(lambda x: jnp.asarray(fun(x)), np.zeros(2), "scipy_lbfgsb")

    assert result.derivatives.kind == "numerical"
    assert result.derivatives.reason
    np.testing.assert_allclose(result.params, [31 / 11, 1.0], atol=1e-5)


def test_stopped_gradients_are_the_authors_decision():
    # JAX's own contract: the author of stop_gradient wants this derivative
    def fun(x):
        return jnp.sum((x - 1.0) ** 2) + jax.lax.stop_gradient(x[0])

    np.testing.assert_allclose(probe(fun, np.zeros(2))["jac"], [-2.0, -2.0])


def while_loop_criterion(x):
    def step(state):
        i, total = state
        return i + 1, total + jnp.sum((x - 1.0) ** 2)

    return jax.lax.while_loop(lambda state: state[0] < 3, step, (0, 0.0))[1]


def host_squares(x):
    return np.asarray(((np.asarray(x) - 1.0) ** 2).sum())


def callback_criterion(x):
    x = jnp.asarray(x)
    return jax.pure_callback(host_squares, jax.ShapeDtypeStruct((), x.dtype), x)


@pytest.mark.parametrize("fun", [while_loop_criterion, callback_criterion])
@pytest.mark.parametrize("algorithm", ["scipy_lbfgsb", "nlopt_lbfgsb"])
def test_programs_without_a_reverse_derivative_are_solved_all_the_same(fun, algorithm):
    result = om.minimize(fun, np.zeros(2), algorithm)

    np.testing.assert_allclose(result.params, 1.0, atol=1e-5)
    assert result.derivatives.kind in ("exact", "numerical")


@pytest.mark.parametrize("fun", [while_loop_criterion, callback_criterion])
def test_programs_without_a_reverse_derivative_take_the_users(fun):
    def jac(x):
        return (6 if fun is while_loop_criterion else 2) * (x - 1.0)

    result = om.minimize(fun, np.zeros(2), "scipy_trust_exact", jac=jac)

    assert result.derivatives.kind == "user"
    np.testing.assert_allclose(result.params, 1.0, atol=1e-5)


def test_programs_without_a_reverse_derivative_are_refused_where_one_is_needed():
    with pytest.raises(NotAvailableError, match=r"optax_adam.*while_loop"):
        om.minimize(while_loop_criterion, np.zeros(2), "optax_adam")
    with pytest.raises(NotAvailableError, match=r"cannot be had.*while_loop"):
        om.minimize(while_loop_criterion, np.zeros(2), "scipy_lbfgsb", derivatives="exact")


# ---- criteria that are not pure --------------------------------------------------------------


@pytest.mark.parametrize("kind", ["random", "counter", "fresh_key"])
def test_impure_criteria_are_called_as_written_with_a_warning(kind):
    rng = np.random.default_rng(0)
    state = {"calls": 0, "plain": 0}

    def fun(x):
        state["calls"] += 1
        state["plain"] += isinstance(x, np.ndarray)
        noise = {
            "random": lambda: rng.normal(),
            "counter": lambda: state["calls"],
            "fresh_key": lambda: jax.random.normal(jax.random.key(state["calls"])),
        }[kind]()
        return jnp.sum((x - 1.0) ** 2) + 1e-9 * noise

    with pytest.warns(UserWarning, match="JAX is not used.*random"):
        result = om.minimize(
            fun, np.zeros(2), "scipy_neldermead", algo_options={"stopping_maxfun": 150}
        )

    assert state["plain"] >= result.n_fun_evals
    np.testing.assert_allclose(result.params, 1.0, atol=0.01)


def test_noise_is_new_in_each_evaluation():
    rng = np.random.default_rng(0)

    with pytest.warns(UserWarning, match="JAX is not used"):
        result = om.minimize(
            lambda x: jnp.sum(0.0 * x) + rng.normal(),
            np.zeros(2),
            "scipy_neldermead",
            algo_options={"stopping_maxfun": 20},
        )

    values = result.history.fun
    assert len(set(values)) == len(values)


def test_impure_criterion_that_branches_is_noticed_too():
    rng = np.random.default_rng(0)

    def fun(x):
        value = jnp.sum((x - 1.0) ** 2) + 1e-9 * rng.normal()
        return value if x[0] > 10 else 1.0 * value

    with pytest.warns(UserWarning, match="JAX is not used"):
        result = om.minimize(fun, np.zeros(2), "scipy_neldermead")

    np.testing.assert_allclose(result.params, 1.0, atol=1e-3)


def test_pure_criteria_warn_of_nothing():
    key = jax.random.key(3)
    noise = jax.random.normal(key, (2,))

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = om.minimize(
            lambda x: jnp.sum((x - noise) ** 2) + 0 * jax.random.normal(key),
            np.zeros(2),
            "scipy_lbfgsb",
        )

    np.testing.assert_allclose(result.params, noise, atol=1e-5)


# ---- precision -------------------------------------------------------------------------------


def numpy_single(x):
    return ((np.asarray(x, dtype=np.float32) - np.float32(1.5)) ** 2).sum()


def numpy_single_as_float(x):
    return float(numpy_single(x)) / 3.0


def numpy_single_with_offset(x):
    return numpy_single(x) + np.float32(100.0)


def jax_single(x):
    return jnp.sum((jnp.asarray(x, dtype=jnp.float32) - 1.5) ** 2)


@pytest.mark.parametrize("algorithm", ["scipy_lbfgsb", "scipy_bfgs", "scipy_slsqp", "nlopt_lbfgsb"])
@pytest.mark.parametrize("method", ["central", "forward"])
@pytest.mark.parametrize(
    "fun", [numpy_single, numpy_single_with_offset, jax_single], ids=lambda f: f.__name__
)
def test_single_precision_does_not_end_in_a_zero_difference_quotient(fun, method, algorithm):
    start = np.array([10.0, -3.0])

    result = om.minimize(
        fun, start, algorithm, derivatives="numerical", numdiff_options={"method": method}
    )

    # rounding of 100 in single precision is 7.6e-6, hence distances up to 3e-3 do not show
    np.testing.assert_allclose(result.params, 1.5, atol=0.02)


def test_single_precision_hidden_in_a_python_float_is_no_false_success():
    result = om.minimize(numpy_single_as_float, np.array([10.0, -3.0]), "scipy_lbfgsb")

    np.testing.assert_allclose(result.params, 1.5, atol=0.02)


def test_second_order_algorithm_on_a_single_precision_criterion():
    result = om.minimize(numpy_single, np.array([10.0, -3.0]), "scipy_trust_exact")

    np.testing.assert_allclose(result.params, 1.5, atol=0.02)


def test_jax_criterion_is_computed_in_double_precision():
    # 1 + 1e-9 is 1 in single precision
    result = om.minimize(
        lambda x: jnp.sum((x - jnp.asarray(1.0 + 1e-9)) ** 2) + x.dtype.itemsize,
        np.zeros(2),
        "scipy_bfgs",
        algo_options={"convergence_gtol_abs": 1e-12},
    )

    assert result.fun == pytest.approx(8.0, abs=1e-12)
    np.testing.assert_allclose(result.params, 1.0 + 1e-9, rtol=0, atol=1e-11)


def test_jax_flag_of_the_user_stays_as_it_was():
    before = jax.config.jax_enable_x64
    seen = []

    om.minimize(sphere, np.zeros(2), "scipy_lbfgsb", callback=lambda _: None)
    seen.append(jnp.ones(1).dtype)
    with pytest.raises(om.exceptions.UserFunctionRuntimeError):
        om.minimize(lambda x: jnp.sum(x) / 0.0 * jnp.nan, np.zeros(2), "scipy_lbfgsb")
    seen.append(jnp.ones(1).dtype)

    assert jax.config.jax_enable_x64 == before
    assert seen == [jnp.ones(1).dtype] * 2 == [np.dtype("float64" if before else "float32")] * 2


def test_jax_flag_set_by_the_user_stays_too():
    code = """
import jax
jax.config.update("jax_enable_x64", True)
import jax.numpy as jnp
import numpy as np
import optimagic_lite as om
result = om.minimize(lambda x: jnp.sum((x - 1) ** 2), np.zeros(2), "scipy_lbfgsb")
assert jax.config.jax_enable_x64 and jnp.ones(1).dtype == "float64"
assert abs(result.params - 1).max() < 1e-6
"""
    root = str(Path(om.__file__).parents[1])
    run = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONPATH": root},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr


# ---- numerical differences -------------------------------------------------------------------

METHODS = ["central", "forward", "backward"]


def stencil_gradient(fun, x, lower, upper, **options):
    """Return the gradient and the points at which it was evaluated."""
    x = np.array(x, dtype=float)
    stencil = numerical.make_stencil(
        x, np.array(lower), np.array(upper), NumdiffOptions(**options), numerical.EPS_DOUBLE
    )
    points = np.concatenate([np.empty((0, len(x))), *stencil.blocks()])
    return stencil.gradient(np.array([fun(p) for p in points]), fun(x)), points


@pytest.mark.parametrize(("method", "tolerance"), [("central", 1e-9), ("forward", 1e-6),
                                                   ("backward", 1e-6)])  # fmt: skip
def test_difference_quotients_are_as_accurate_as_their_order(method, tolerance):
    x = FLAT
    free = np.full(len(x), np.inf)

    gradient, points = stencil_gradient(
        lambda v: numpy_criterion(unflatten(v)), x, -free, free, method=method
    )

    np.testing.assert_allclose(gradient, complex_step_gradient(x), atol=tolerance)
    assert len(points) == (16 if method == "central" else 8)
    side = np.sign((points - x).sum(axis=1))
    assert set(side) == {"central": {1, -1}, "forward": {1}, "backward": {-1}}[method]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("lower", "upper"), [(0.7, np.inf), (-np.inf, 0.7), (0.7, 0.7 + 1e-7)])
def test_difference_quotients_at_a_bound(method, lower, upper):
    # the derivative of exp is exp; the narrow interval leaves few digits
    gradient, points = stencil_gradient(lambda v: np.exp(v[0]), [0.7], [lower], [upper],
                                        method=method)  # fmt: skip

    narrow = upper - lower < 1e-6
    tolerance = 1e-5 if narrow else 1e-8 if method == "central" else 1e-6
    np.testing.assert_allclose(gradient, np.exp(0.7), rtol=tolerance)
    assert ((points >= lower) & (points <= upper)).all()


@hypothesis.settings(max_examples=300, deadline=None, database=None)
@hypothesis.given(
    entries=st.lists(
        st.tuples(
            st.floats(-1e8, 1e8),
            st.floats(0, 10) | st.sampled_from([0.0, 1e-300, 1e-12, 1e-6, np.inf]),
            st.floats(0, 10) | st.sampled_from([0.0, 1e-300, 1e-12, 1e-6, np.inf]),
        ),
        min_size=1,
        max_size=4,
    ),
    method=st.sampled_from(METHODS),
    step=st.none() | st.floats(1e-12, 1e3),
    scale=st.floats(1e-3, 1e3),
    minimum=st.none() | st.floats(1e-12, 1.0),
)
def test_points_of_difference_quotients_are_always_inside_the_bounds(
    entries, method, step, scale, minimum
):
    x, down, up = np.array(entries).T
    lower, upper = np.minimum(x - down, x), np.maximum(x + up, x)

    gradient, points = stencil_gradient(
        lambda v: float(v @ np.arange(1.0, len(v) + 1)) if np.isfinite(v).all() else np.nan,
        x, lower, upper,
        method=method, step_size=step, scaling_factor=scale, min_steps=minimum,
    )  # fmt: skip

    assert ((points >= lower) & (points <= upper)).all()
    assert np.isfinite(gradient).all()
    pinned = lower == upper
    assert (gradient[pinned] == 0).all()
    assert (points[:, pinned] == x[pinned]).all()
    assert ((points != x).sum(axis=1) == 1).all()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("algorithm", ["scipy_lbfgsb", "scipy_slsqp", "scipy_trust_constr",
                                       "scipy_truncated_newton", "nlopt_mma"])  # fmt: skip
def test_no_point_of_a_run_is_outside_the_bounds(algorithm, method):
    points = []

    def fun(x):
        points.append(np.array(x))
        # not defined outside
        return ((np.sqrt(x[0] - 1.0) + 1.0) ** 2) + (x[1] + 2.0) ** 2 + (x[2] - 5.0) ** 2

    lower, upper = np.array([1.0, 0.0, 3.0]), np.array([np.inf, 4.0, 3.0])
    result = om.minimize(
        fun,
        np.array([2.0, 3.0, 3.0]),
        algorithm,
        bounds=om.Bounds(lower, upper),
        numdiff_options=om.NumdiffOptions(method=method),
    )

    assert ((np.array(points) >= lower) & (np.array(points) <= upper)).all()
    np.testing.assert_allclose(result.params[1:], [0.0, 3.0], atol=1e-3)


def test_forward_differences_reuse_the_value_at_the_point():
    calls = []

    def fun(x):
        calls.append(x)
        return ((x - 1.0) ** 2).sum()

    row = probe(fun, np.zeros(5), numdiff_options={"method": "forward"})

    np.testing.assert_allclose(row["jac"], -2.0, atol=1e-6)
    assert len(calls) == 6


def test_steps_follow_the_options():
    points = []

    def fun(x):
        points.append(x[0])
        return x[0] ** 2

    probe(fun, np.array([2.0]), numdiff_options=om.NumdiffOptions(step_size=0.25))
    assert sorted(set(points)) == [1.75, 2.0, 2.25]
    points.clear()
    probe(fun, np.array([2.0]), numdiff_options=om.NumdiffOptions("forward", min_steps=0.5))
    assert sorted(set(points)) == [2.0, 2.5]


def test_batches_of_points_are_bounded_and_complete():
    n = 4000
    weights = np.cos(np.arange(n))

    gradient, _ = stencil_gradient_of_blocks(lambda xs: xs @ weights, n)

    np.testing.assert_allclose(gradient, weights, atol=1e-4)


def stencil_gradient_of_blocks(fun, n):
    x, free = np.zeros(n), np.full(n, np.inf)
    stencil = numerical.make_stencil(x, -free, free, NumdiffOptions(), numerical.EPS_DOUBLE)
    sizes, values = [], []
    for block in stencil.blocks():
        sizes.append(block.nbytes)
        values.append(fun(block))
    assert max(sizes) <= 2**27
    assert len(sizes) > 1
    return stencil.gradient(np.concatenate(values), 0.0), sizes


def test_numerical_differences_of_a_jax_criterion_are_inside_the_bounds_and_right():
    result = om.minimize(
        lambda x: jnp.sum(jnp.sqrt(x) - x), np.array([0.3, 0.6]), "scipy_lbfgsb",
        bounds=om.Bounds(lower=0.0, upper=1.0), derivatives="numerical",
    )  # fmt: skip

    # on [0, 1] the minimum 0 is attained at both ends; the slope changes its sign at 1/4
    np.testing.assert_allclose(result.params, 1.0, atol=1e-6)
    assert result.derivatives.kind == "numerical"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "centrall"}, "Did you mean 'central'"),
        ({"step_size": 0.0}, "step_size must be a positive number"),
        ({"step_size": "x"}, "step_size must be a positive number"),
        ({"scaling_factor": None}, "scaling_factor must be a positive number"),
        ({"min_steps": -1}, "min_steps must be a positive number"),
        ({"n_cores": 0}, "n_cores must be a positive integer"),
        ({"stepsize": 0.1}, "no field 'stepsize'.*step_size"),
        ("central", "NumdiffOptions or a dict"),
    ],
)
def test_wrong_options_are_refused(options, message):
    with pytest.raises(InvalidNumdiffOptionsError, match=message):
        om.minimize(numpy_sphere, np.zeros(2), "scipy_lbfgsb", numdiff_options=options)


# ---- what functions must return --------------------------------------------------------------


@pytest.mark.parametrize("xp", [np, jnp])
@pytest.mark.parametrize(
    ("returned", "message"),
    [
        (lambda x, xp: x, r"array of shape \(2,\).*Aggregate"),
        (lambda x, xp: None, "None.*return missing"),
        (lambda x, xp: (x.sum(), x), "tuple.*fun_and_jac"),
        (lambda x, xp: {"sum": x.sum()}, "dict"),
        (lambda x, xp: "text", "not a real number"),
        (lambda x, xp: x.sum() * xp.asarray(1j), "not a real number"),
        (lambda x, xp: xp.asarray(True), "not a real number"),
    ],
)
def test_return_values_that_are_no_number_are_refused(returned, message, xp):
    with pytest.raises(InvalidFunctionError, match=message):
        om.minimize(lambda x: returned(xp.asarray(x), xp), np.ones(2), "scipy_lbfgsb")


@pytest.mark.parametrize(
    "wrap", [lambda v: v.reshape(1), lambda v: v.reshape(1, 1), np.asarray, float]
)
def test_one_number_in_any_dress_is_a_value(wrap):
    result = om.minimize(lambda x: wrap(((x - 1.0) ** 2).sum()), np.zeros(2), "scipy_lbfgsb")

    np.testing.assert_allclose(result.params, 1.0, atol=1e-5)


def test_jax_value_of_shape_one_is_a_value():
    result = om.minimize(lambda x: jnp.sum((x - 1.0) ** 2).reshape(1), np.zeros(2), "scipy_lbfgsb")

    assert result.derivatives.kind == "exact"
    np.testing.assert_allclose(result.params, 1.0, atol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"jac": lambda x: np.ones(3)}, r"return value of jac has shape \(3,\)"),
        ({"jac": lambda x: 1j * x}, "jac does not consist of real numbers"),
        ({"jac": lambda x: None}, "jac"),
        ({"fun_and_jac": lambda x: x.sum()}, "must return a tuple"),
        ({"fun_and_jac": lambda x: (x.sum(), np.ones(3))}, "derivative of fun_and_jac"),
        ({"fun": lambda x: x.sum(), "jac": True}, "must return a tuple"),
    ],
)
def test_return_values_of_derivatives_that_do_not_fit_are_refused(arguments, message):
    defaults = {"fun": numpy_sphere, "params": np.zeros(2), "algorithm": "scipy_lbfgsb"}

    with pytest.raises(InvalidFunctionError, match=message):
        om.minimize(**(defaults | arguments))


@pytest.mark.parametrize("shape", [(3, 3), (2,), (2, 3)])
def test_hessians_that_do_not_fit_are_refused(shape):
    with pytest.raises(InvalidFunctionError, match="hess"):
        om.minimize(
            numpy_sphere,
            np.zeros(2),
            "scipy_trust_exact",
            jac=lambda x: 2 * (x - 1.0),
            hess=lambda _: np.ones(shape),
        )


def test_further_arguments_go_to_their_functions():
    result = om.minimize(
        lambda p, target: ((p - target) ** 2).sum(),
        np.zeros(2),
        "scipy_lbfgsb",
        fun_kwargs={"target": 3.0},
        jac=lambda p, where: 2 * (p - where),
        jac_kwargs={"where": 3.0},
    )
    joint = om.minimize(
        fun_and_jac=lambda p, goal: (((p - goal) ** 2).sum(), 2 * (p - goal)),
        params=np.zeros(2),
        algorithm="scipy_lbfgsb",
        fun_and_jac_kwargs={"goal": 3.0},
    )

    np.testing.assert_allclose([result.params, joint.params], 3.0, atol=1e-5)


def test_a_criterion_that_branches_is_never_called_outside_the_bounds():
    seen = []

    def fun(x):
        if not isinstance(x, jax.core.Tracer):
            seen.append(float(np.min(x)))
        return jnp.sum((x - 1) ** 2) if x[0] >= 0 else jnp.sum(x * jnp.nan)

    bounds = om.Bounds(lower=0.0)
    result = om.minimize(fun, np.zeros(2), "scipy_lbfgsb", bounds=bounds)
    assert result.derivatives.kind == "exact"
    assert len(seen) > 0
    assert min(seen) >= 0
    np.testing.assert_allclose(result.params, [1.0, 1.0], atol=1e-4)


def test_numerical_derivatives_of_what_jax_cannot_batch():
    def outside(x):
        return np.sum((x - 1) ** 2)

    def fun(x):
        return jax.pure_callback(outside, jax.ShapeDtypeStruct((), jnp.float64), x)

    result = om.minimize(fun, np.zeros(2), "scipy_lbfgsb", derivatives="numerical")
    assert result.success
    np.testing.assert_allclose(result.params, [1.0, 1.0], atol=1e-4)
