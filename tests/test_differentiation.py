"""Derivatives as a tool: any tree in and out, inside bounds, by differences or by JAX; checks."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from compilations import count_compilations
from hypothesis import given, settings
from hypothesis import strategies as st

from optimagic_lite import mark
from optimagic_lite.derivative_check import check_derivatives
from optimagic_lite.differentiation import first_derivative, second_derivative
from optimagic_lite.exceptions import (
    InvalidBoundsError,
    InvalidFunctionError,
    InvalidKwargsError,
    InvalidNumdiffOptionsError,
    InvalidParamsError,
    MissingInputError,
    NotAvailableError,
    UserFunctionRuntimeError,
)
from optimagic_lite.objective.comparison import compare_with_differences
from optimagic_lite.objective.kinds import FunctionValue
from optimagic_lite.options import Bounds

FIRST = ["central", "forward", "backward"]
SECOND = ["central_cross", "central_average", "forward", "backward"]
INDEX = ["a", "b"]


def assert_trees_close(left, right, **tolerance):
    left_leaves, left_structure = jax.tree.flatten(left)
    right_leaves, right_structure = jax.tree.flatten(right)
    assert left_structure == right_structure
    for one, other in zip(left_leaves, right_leaves, strict=True):
        assert np.shape(one) == np.shape(other)
        np.testing.assert_allclose(one, other, **tolerance)


# ---- random functions over random trees ------------------------------------------------------


@st.composite
def trees(draw, size=4):
    """Trees of floats and arrays with few entries."""
    leaf = st.one_of(
        st.floats(0.5, 2),
        st.sampled_from([(), (1,), (2,), (2, 1), (1, 2)]).flatmap(
            lambda shape: st.integers(0, 99).map(
                lambda seed: np.random.default_rng(seed).uniform(0.5, 2, shape)
            )
        ),
    )
    tree = st.recursive(
        leaf,
        lambda inner: st.one_of(
            st.dictionaries(st.sampled_from("zyx"), inner, min_size=1, max_size=2),
            st.lists(inner, min_size=1, max_size=2).map(tuple),
        ),
        max_leaves=size,
    )
    return draw(tree)


def smooth_function(outer, seed):
    """A function from any tree of params into a tree like ``outer``."""
    rng = np.random.default_rng(seed)
    leaves, structure = jax.tree.flatten(outer)
    offsets = [rng.uniform(0.5, 1.5, np.shape(leaf)) for leaf in leaves]

    def function(params):
        entries = [jnp.ravel(jnp.asarray(leaf)) for leaf in jax.tree.leaves(params)]
        flat = jnp.concatenate(entries)
        weights = jnp.arange(1, len(flat) + 1) / 3
        total = (weights * flat).sum() + flat[0] * flat[-1] ** 2
        return structure.unflatten([jnp.sin(o + total / 5) * o + flat[-1] * o for o in offsets])

    return function


@settings(max_examples=10, deadline=None)
@given(trees(), trees(2), st.integers(0, 99), st.sampled_from(FIRST))
def test_first_derivatives_are_those_of_jax(params, outer, seed, method):
    function = smooth_function(outer, seed)
    found = first_derivative(function, params, method=method)

    with jax.enable_x64(True):
        exact, value = jax.jacobian(function)(params), function(params)
    tolerance = 1e-8 if method == "central" else 1e-5
    assert_trees_close(found.derivative, exact, rtol=tolerance, atol=tolerance)
    assert_trees_close(found.func_value, value, rtol=1e-14)


@settings(max_examples=6, deadline=None)
@given(trees(3), trees(2), st.integers(0, 99), st.sampled_from(SECOND))
def test_second_derivatives_are_those_of_jax(params, outer, seed, method):
    function = smooth_function(outer, seed)
    found = second_derivative(function, params, method=method)

    with jax.enable_x64(True):
        exact = jax.hessian(function)(params)
    tolerance = 1e-5 if method.startswith("central") else 3e-3
    assert_trees_close(found.derivative, exact, rtol=tolerance, atol=tolerance)


@settings(max_examples=5, deadline=None)
@given(trees(3), trees(2), st.integers(0, 99))
def test_method_jax_is_exact(params, outer, seed):
    function = smooth_function(outer, seed)
    first = first_derivative(function, params, method="jax")
    second = second_derivative(function, params, method="jax")

    with jax.enable_x64(True):
        gradient, hessian = jax.jacobian(function)(params), jax.hessian(function)(params)
        value = function(params)
    assert_trees_close(first.derivative, gradient, rtol=1e-12, atol=1e-12)
    assert_trees_close(second.derivative, hessian, rtol=1e-12, atol=1e-12)
    assert_trees_close(first.func_value, value, rtol=1e-14)
    # the global setting of JAX is the user's
    assert jnp.ones(1).dtype == jnp.float32


# ---- pandas ----------------------------------------------------------------------------------

SERIES = pd.Series([1.0, 2.0], index=INDEX)
FRAME = pd.DataFrame({"value": [1.0, 2.0], "group": ["u", "v"]}, index=INDEX)
JACOBIAN = [[2.0, 1.0], [0.0, 4.0]]


def pair(x):
    return np.array([x[0] * x[1], x[1] ** 2])


@pytest.mark.parametrize("params", [SERIES, FRAME])
def test_pandas_objects_label_the_derivative(params):
    def values(p):
        return (p["value"] if isinstance(p, pd.DataFrame) else p).to_numpy()

    gradient = first_derivative(lambda p: pair(values(p)).sum(), params).derivative
    rows = first_derivative(lambda p: pair(values(p)), params).derivative
    both = first_derivative(lambda p: pd.Series(pair(values(p)), ["x", "y"]), params).derivative
    hessian = second_derivative(lambda p: pair(values(p)).sum(), params).derivative
    cube = second_derivative(lambda p: pair(values(p)), params).derivative

    pd.testing.assert_series_equal(gradient, pd.Series([2.0, 5.0], INDEX))
    pd.testing.assert_frame_equal(rows, pd.DataFrame(JACOBIAN, columns=INDEX))
    pd.testing.assert_frame_equal(both, pd.DataFrame(JACOBIAN, ["x", "y"], INDEX))
    expected = pd.DataFrame([[0.0, 1.0], [1.0, 2.0]], INDEX, INDEX)
    pd.testing.assert_frame_equal(hessian, expected, atol=1e-5)
    # no pandas object has three axes
    assert type(cube) is np.ndarray
    assert cube.shape == (2, 2, 2)


def test_labels_of_the_output_stand_alone_too():
    def function(p):
        return pd.DataFrame({"value": pair(p["w"]) * p["k"]}, index=["x", "y"])

    out = first_derivative(function, {"w": np.array([1.0, 2.0]), "k": 3.0}).derivative

    pd.testing.assert_series_equal(out["k"], pd.Series([2.0, 4.0], ["x", "y"]))
    pd.testing.assert_frame_equal(out["w"], pd.DataFrame(np.multiply(3, JACOBIAN), ["x", "y"]))


# ---- what functions return -------------------------------------------------------------------


def test_the_order_of_keys_is_the_users():
    def function(p):
        return {"z": p["b"] * p["a"], "y": 3 * p["a"]}

    out = first_derivative(function, {"b": 2.0, "a": 5.0}).derivative

    assert list(out) == ["z", "y"]
    assert list(out["z"]) == ["b", "a"]
    assert_trees_close(out, {"z": {"b": 5, "a": 2}, "y": {"b": 0, "a": 3}}, atol=1e-8)


def test_function_values_are_unwrapped():
    def function(x):
        return FunctionValue(x @ x, info={"note": "any text"})

    out = first_derivative(function, np.array([1.0, 2.0]))

    np.testing.assert_allclose(out.derivative, [2, 4], rtol=1e-9)
    assert out.func_value.info == {"note": "any text"}


def test_the_unpacker_picks_what_is_differentiated():
    def function(x):
        return {"value": x @ x, "name": "sphere"}

    for derivative in (first_derivative, second_derivative):
        out = derivative(function, np.array([1.0, 2.0]), unpacker=lambda out: out["value"])
        assert out.func_value == {"value": 5.0, "name": "sphere"}

    out = first_derivative(function, np.array([1.0, 2.0]), unpacker=lambda out: out["value"])
    np.testing.assert_allclose(out.derivative, [2, 4], rtol=1e-9)


def test_func_kwargs_reach_the_function():
    out = first_derivative(lambda x, k: k * x, 2.0, func_kwargs={"k": 7.0})

    assert out.derivative == pytest.approx(7)
    assert out.derivative.shape == ()


def test_params_are_a_copy():
    def function(x):
        x *= 2
        return x.sum()

    x = np.array([1.0, 2.0])

    np.testing.assert_allclose(first_derivative(function, x).derivative, [2, 2], rtol=1e-9)
    np.testing.assert_array_equal(x, [1, 2])


@pytest.mark.parametrize(
    ("value", "message"),
    [("text", "not str 'text'"), (1j, "not complex"), (True, "not bool"), (None, "not NoneType")],
)
def test_what_is_not_made_of_numbers_is_refused(value, message):
    with pytest.raises(InvalidFunctionError, match=f"func must return real numbers.*{message}"):
        first_derivative(lambda x: value, 1.0)


def test_a_structure_that_changes_is_refused():
    with pytest.raises(InvalidFunctionError, match="different structures at different points"):
        first_derivative(lambda x: np.ones(2 if x == 1 else 3), 1.0)


# ---- steps and evaluations -------------------------------------------------------------------


class Recorder:
    """A function that keeps the points at which it is called."""

    def __init__(self, function):
        self.function, self.points = function, []

    def __call__(self, x):
        self.points.append(np.array(x))
        return self.function(x)


def product(x):
    return x[0] ** 2 * np.exp(x[1])


@pytest.mark.parametrize(("method", "n_first"), [("central", 2), ("forward", 1), ("backward", 1)])
def test_f0_is_not_evaluated_again(method, n_first):
    fun, x = Recorder(product), np.array([1.0, 2.0])
    first_derivative(fun, x, method=method)
    assert len(fun.points) == 2 * n_first + 1

    fun.points.clear()
    out = first_derivative(fun, x, method=method, f0=product(x))
    assert len(fun.points) == 2 * n_first
    assert all((p != x).any() for p in fun.points)
    assert out.func_value == product(x)


@pytest.mark.parametrize(
    ("method", "n"), [("central_cross", 9), ("central_average", 7), ("forward", 6)]
)
def test_no_point_is_evaluated_twice_for_second_derivatives(method, n):
    fun = Recorder(product)
    second_derivative(fun, np.array([1.0, 2.0]), method=method)

    assert len(fun.points) == n
    assert len(np.unique(fun.points, axis=0)) == n


def test_steps_are_aligned_with_params():
    points = []

    def fun(p):
        points.append((p["a"], *p["b"]))
        return p["a"] ** 2 + (p["b"] ** 2).sum()

    params = {"a": 1.0, "b": np.array([2.0, 3.0])}
    steps = {"a": 0.5, "b": np.array([0.25, 0.125])}
    first_derivative(fun, params, method="forward", step_size=steps, scaling_factor=2)
    assert points == [(1, 2, 3), (2, 2, 3), (1, 2.5, 3), (1, 2, 3.25)]

    points.clear()
    # what is left out has the default
    out = first_derivative(fun, params, method="forward", min_steps={"b": 0.5})
    assert points[2:] == [(1, 2.5, 3), (1, 2, 3.5)]
    assert out.derivative["a"] == pytest.approx(2, abs=1e-6)


@pytest.mark.parametrize("derivative", [first_derivative, second_derivative])
def test_single_precision_gets_larger_steps(derivative):
    def fun(x):
        return np.float32(np.exp(np.float32(x[0])) * np.float32(x[1]))

    out = derivative(fun, np.array([1.0, 2.0])).derivative

    exact = (
        np.e * np.array([2, 1])
        if derivative is first_derivative
        else np.e * np.array([[2, 1], [1, 0]])
    )
    np.testing.assert_allclose(out, exact, atol=0.02)


# ---- bounds ----------------------------------------------------------------------------------


@pytest.mark.parametrize("method", FIRST)
def test_first_derivatives_stay_inside_the_bounds(method):
    lower, upper = np.array([1.0, 0.0, -np.inf]), np.array([1.5, 2.0, 3.0])
    fun = Recorder(lambda x: x[0] ** 2 * np.exp(x[1]) + x[2] ** 3)
    x = np.array([1.0, 2.0, 3.0])
    out = first_derivative(fun, x, method=method, bounds=Bounds(lower, upper))

    points = np.array(fun.points)
    assert (points >= lower).all()
    assert (points <= upper).all()
    exact = [2 * np.exp(2), np.exp(2), 27]
    tolerance = 1e-8 if method == "central" else 1e-6
    np.testing.assert_allclose(out.derivative, exact, rtol=tolerance)


@pytest.mark.parametrize("method", SECOND)
@pytest.mark.parametrize("width", [1.0, 1e-3])
def test_second_derivatives_stay_inside_the_bounds(method, width):
    x = np.array([1.0, 2.0, 3.0])
    lower, upper = x - np.array([0, width, width]), x + np.array([width, 0, width])
    fun = Recorder(lambda x: x[0] ** 2 * np.exp(x[1]) + x[2] ** 2 * x[0])
    out = second_derivative(fun, x, method=method, bounds=Bounds(lower, upper))

    points = np.array(fun.points)
    assert (points >= lower).all()
    assert (points <= upper).all()
    e = np.exp(2)
    exact = [[2 * e, 2 * e, 6], [2 * e, e, 0], [6, 0, 2]]
    tolerance = 2e-4 if method.startswith("central") else 5e-3
    np.testing.assert_allclose(out.derivative, exact, rtol=tolerance, atol=tolerance)


def test_coinciding_bounds_give_zero():
    bounds = Bounds(np.array([1.0, 0]), np.array([1.0, 9]))

    first = first_derivative(product, np.array([1.0, 2.0]), bounds=bounds).derivative
    second = second_derivative(product, np.array([1.0, 2.0]), bounds=bounds).derivative

    np.testing.assert_allclose(first, [0, np.exp(2)], rtol=1e-9)
    np.testing.assert_allclose(second, [[0, 0], [0, np.exp(2)]], rtol=1e-6)


def test_columns_of_a_dataframe_are_bounds():
    params = pd.DataFrame({"value": [0.0], "lower_bound": [0.0]}, index=["a"])

    out = first_derivative(lambda p: np.sqrt(1 + p["value"]["a"] ** 3) + p["value"]["a"], params)

    assert out.derivative["a"] == pytest.approx(1, abs=1e-8)


def test_params_outside_of_bounds_are_refused():
    with pytest.raises(InvalidBoundsError, match="b: start value 2"):
        first_derivative(lambda p: p["a"] + p["b"], {"a": 0.0, "b": 2.0}, bounds=Bounds(upper=1))


# ---- failures --------------------------------------------------------------------------------


def fails_to_the_right(x):
    if x["a"] > 1:
        raise ValueError("no larger a")
    return x["a"] * x["b"]


PARAMS = {"a": 1.0, "b": 2.0}


def test_a_failure_makes_those_entries_nan_that_need_it():
    message = r"raised ValueError: no larger a at 1 of 5 points.* are NaN: a\."
    with pytest.warns(UserWarning, match=message):
        out = first_derivative(fails_to_the_right, PARAMS)

    assert np.isnan(out.derivative["a"])
    assert out.derivative["b"] == pytest.approx(1)
    assert out.func_value == 2


def test_a_failure_where_no_entry_needs_it_is_harmless():
    # central differences do not need the value in the middle
    def fun(x):
        if x == 1:
            raise ValueError("not one")
        return x**2

    with pytest.warns(UserWarning, match="func_value is None"):
        out = first_derivative(fun, 1.0)
    assert out.derivative == pytest.approx(2)
    assert out.func_value is None


def test_values_that_are_not_finite_spoil_their_rows_alone():
    def fun(x):
        with np.errstate(invalid="ignore"):
            return np.array([np.sqrt(x[0]), x[0] * x[1]])

    with pytest.warns(UserWarning, match=r"not finite at 1 of 5 points.* NaN: 0\."):
        out = first_derivative(fun, np.array([0.0, 3.0]))

    np.testing.assert_allclose(out.derivative, [[np.nan, 0], [3, 0]], atol=1e-9)


def test_failures_spoil_second_derivatives_where_needed():
    with pytest.warns(UserWarning, match="NaN: a, b"):
        out = second_derivative(fails_to_the_right, PARAMS).derivative

    assert np.isnan(out["a"]["a"])
    assert np.isnan(out["a"]["b"])
    assert out["b"]["b"] == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("error_handling", ["raise", "raise_strict"])
def test_failures_are_raised_if_asked_for(error_handling):
    with pytest.raises(UserFunctionRuntimeError, match=r"no larger a at params with a = 1\.0"):
        first_derivative(fails_to_the_right, PARAMS, error_handling=error_handling)
    with pytest.raises(UserFunctionRuntimeError, match="not finite at params with a = "):
        first_derivative(
            lambda p: np.nan if p["a"] != 1 else 0.0, PARAMS, error_handling=error_handling
        )


def test_an_error_carries_the_params_and_the_cause():
    with pytest.raises(UserFunctionRuntimeError) as caught:
        first_derivative(fails_to_the_right, PARAMS, error_handling="raise")

    assert caught.value.params["a"] > 1
    assert caught.value.params["b"] == 2
    assert isinstance(caught.value.__cause__, ValueError)


@pytest.mark.parametrize("derivative", [first_derivative, second_derivative])
def test_a_function_that_always_fails_is_an_error(derivative):
    def fun(x):
        raise ValueError("always")

    with pytest.raises(UserFunctionRuntimeError, match="ValueError: always, here and"):
        derivative(fun, np.ones(2))


# ---- arguments -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("argument", "error", "message"),
    [
        ({"method": "centrl"}, InvalidNumdiffOptionsError, "Did you mean 'central'"),
        ({"method": "central_cross"}, InvalidNumdiffOptionsError, "method must be one of"),
        ({"step_size": -1.0}, InvalidNumdiffOptionsError, "step_size must be positive.* for a, b"),
        ({"step_size": {"c": 1}}, InvalidNumdiffOptionsError, "key 'c'"),
        ({"scaling_factor": {"b": 0.0}}, InvalidNumdiffOptionsError, "not for b"),
        ({"n_cores": 0}, InvalidNumdiffOptionsError, "positive integer"),
        ({"error_handling": "stop"}, InvalidNumdiffOptionsError, "error_handling must be one of"),
        ({"batch_evaluator": "pathos"}, InvalidNumdiffOptionsError, "pathos is not supported"),
        ({"func_kwargs": 3}, InvalidKwargsError, "func_kwargs must be a dict"),
        ({"unpacker": 3}, InvalidFunctionError, "unpacker must be a function"),
        ({"nonsense": 1}, TypeError, "nonsense"),
    ],
)
def test_arguments_are_checked_before_the_first_evaluation(argument, error, message):
    fun = Recorder(lambda p: p["a"])

    with pytest.raises(error, match=message):
        first_derivative(fun, PARAMS, **argument)
    assert fun.points == []


def test_params_must_be_finite():
    with pytest.raises(InvalidParamsError, match="b"):
        first_derivative(lambda p: 0.0, {"a": 1.0, "b": np.nan})


def test_steps_that_are_nan_are_refused():
    with pytest.raises(InvalidNumdiffOptionsError, match="min_steps must be positive"):
        first_derivative(lambda x: x, 1.0, min_steps=np.nan)


# ---- cores -----------------------------------------------------------------------------------


def test_cores_do_not_change_the_numbers():
    data = np.linspace(0, 1, 7)
    x = {"a": 1.25, "b": np.array([0.3, 2.0])}

    def run(**options):
        first = first_derivative(
            lambda p: {"r": np.sin(p["a"] * data) * p["b"][0], "s": p["b"] ** 3}, x, **options
        )
        second = second_derivative(
            lambda p: jnp.exp(p["a"] * p["b"]).sum(), x, method="central_average", **options
        )
        return jax.tree.leaves((first.derivative, first.func_value, second.derivative))

    one = run()
    for batch_evaluator in ("joblib", "threading"):
        several = run(n_cores=2, batch_evaluator=batch_evaluator)
        for left, right in zip(one, several, strict=True):
            np.testing.assert_array_equal(left, right)


def test_any_batch_evaluator_will_do():
    batches = []

    def evaluate(func, arguments, *, n_cores, error_handling, unpack_symbol=None):
        batches.append((len(arguments), n_cores))
        return [func(argument) for argument in arguments]

    out = first_derivative(product, np.array([1.0, 2.0]), batch_evaluator=evaluate, n_cores=3)

    # all points are one batch
    assert batches == [(5, 3)]
    np.testing.assert_allclose(out.derivative, np.exp(2) * np.array([2, 1]), rtol=1e-9)


# ---- by JAX ----------------------------------------------------------------------------------


def test_equal_programs_are_compiled_once():
    def run(data, derivative):
        # a fresh function each time
        return derivative(
            lambda x, k: jnp.sin(x * k + data), np.ones(3), method="jax", func_kwargs={"k": 2.0}
        )

    for derivative in (first_derivative, second_derivative):
        run(np.arange(3.0), derivative)
        with count_compilations() as counter:
            out = run(np.arange(3.0) + 1, derivative)
        assert counter[0] == 0
        np.testing.assert_allclose(out.func_value, np.sin(2 + np.arange(3.0) + 1))


@pytest.mark.parametrize(
    ("function", "params", "message"),
    [
        (lambda x: np.sin(x), 1.0, "TracerArrayConversionError"),
        (lambda x: x if x > 0 else -x, 1.0, "TracerBoolConversionError"),
        (lambda s: s.sum(), pd.Series([1.0]), "pandas"),
        (lambda x: "text", 1.0, "TypeError"),
    ],
)
def test_what_jax_cannot_do_is_said(function, params, message):
    with pytest.raises(NotAvailableError, match=f"{message}.*another method, such as 'central'"):
        first_derivative(function, params, method="jax")


# ---- checks of derivatives: one matrix -------------------------------------------------------


def verdicts(function, claimed, x, lower=-np.inf, upper=np.inf):
    """Judge a gradient of a function of one point."""
    x = np.asarray(x, dtype=float)
    sides = [np.broadcast_to(np.asarray(b, dtype=float), x.shape) for b in (lower, upper)]

    def on_points(points):
        assert (points >= sides[0]).all()
        assert (points <= sides[1]).all()
        with np.errstate(all="ignore"):
            return np.array([[function(p)] for p in points], dtype=float)

    found = compare_with_differences(on_points, np.array([claimed], float), x, *sides, 1e-5)
    return found.verdict[0].tolist()


SCALED = [1e-8, 1e8]


def scaled(x):
    return np.exp(x[0] / 1e-8) + np.sin(x[1] / 1e8) + 5


SCALED_GRADIENT = np.array([np.exp(1) / 1e-8, np.cos(1) / 1e8])


@pytest.mark.parametrize(
    ("function", "gradient", "x"),
    [
        (product, [2 * np.exp(2), np.exp(2)], [1, 2]),
        (scaled, SCALED_GRADIENT, SCALED),
        (lambda x: np.log(x[0]), [1e3], [1e-3]),
        (lambda x: 1 + np.sin(x[0]), [1], [1e-12]),
        (lambda x: np.sin(1e5 * x[0]), [1e5 * np.cos(1e5)], [1]),
        (lambda x: 1e8 + x[0] ** 2, [2], [1]),
        (lambda x: (1 - x[0]) ** 2 + 100 * (x[1] - x[0] ** 2) ** 2, [0, 0], [1, 1]),
        (lambda x: 3.0, [0], [1]),
        (lambda x: abs(x[0] - 1 - 1e-5), [-1], [1]),
        (lambda x: np.float32(np.sin(np.float32(x[0]))), [np.cos(1)], [1]),
    ],
)
def test_correct_entries_are_confirmed(function, gradient, x):
    assert verdicts(function, gradient, x) == ["correct"] * len(x)


@pytest.mark.parametrize("factor", [-1, 1.001, 0, np.nan, np.inf])
@pytest.mark.parametrize(
    ("function", "gradient", "x"),
    [
        (product, [2 * np.exp(2), np.exp(2)], [1, 2]),
        (scaled, SCALED_GRADIENT, SCALED),
        (lambda x: np.log(x[0]), [1e3], [1e-3]),
        (lambda x: np.sin(1e5 * x[0]), [1e5 * np.cos(1e5)], [1]),
    ],
)
def test_wrong_entries_are_found(function, gradient, x, factor):
    for i in range(len(x)):
        claimed = np.array(gradient)
        claimed[i] *= factor
        expected = ["correct"] * len(x)
        expected[i] = "wrong"
        assert verdicts(function, claimed, x) == expected


@pytest.mark.parametrize(
    ("function", "claimed", "x"),
    [
        (lambda x: abs(x[0]), 1, 0),
        (lambda x: max(x[0], 0), 0, 0),
        (np.floor, 0, 1),
        (lambda x: x[0] ** 2 + 1e-4 * np.sin(1e9 * x[0]), 2, 1),
        (lambda x: np.sqrt(x[0]), 3, 0),
        (lambda x: np.nan, 0, 1),
    ],
)
def test_where_differences_cannot_tell_they_say_so(function, claimed, x):
    assert verdicts(lambda x: float(np.squeeze(function(x))), [claimed], [x]) == ["unsure"]


@pytest.mark.parametrize("noise", [1e-2, 1e-4, 1e-6, 1e-8, 1e-10])
@pytest.mark.parametrize("lower", [-np.inf, 1])
def test_noise_makes_no_correct_entry_wrong(noise, lower):
    rng = np.random.default_rng(5)
    found = {
        verdicts(lambda x: x[0] ** 2 + noise * rng.normal(), [2], [1], lower)[0] for _ in range(20)
    }
    assert "wrong" not in found


@pytest.mark.parametrize(
    ("lower", "upper"), [(1, 3), (-3, 1), (1 - 1e-9, 3), (1, 1 + 1e-6), (0.999, 1.001)]
)
def test_checks_stay_inside_the_bounds(lower, upper):
    def function(x):
        return np.exp(x[0]) * x[1]

    args = [1, 2], [lower, -np.inf], [upper, np.inf]
    assert verdicts(function, [2 * np.e, np.e], *args) == ["correct", "correct"]
    assert verdicts(function, [-2 * np.e, np.e], *args) == ["wrong", "correct"]


def test_a_parameter_without_room_is_not_judged():
    assert verdicts(lambda x: x[0] ** 2, [5], [1], 1, 1) == ["unsure"]


# ---- checks of derivatives: the user's functions ---------------------------------------------


def residuals(p):
    return {"r": p["a"] * p["b"], "s": np.exp(p["a"])}


def residuals_jac(p):
    zero = np.zeros(2)
    return {"s": {"a": np.exp(p["a"]), "b": zero}, "r": {"b": p["a"] * np.eye(2), "a": p["b"]}}


TREE = {"b": np.array([2.0, 3.0]), "a": 0.5}


def test_a_correct_jacobian_of_trees_passes(capsys):
    out = check_derivatives(residuals, TREE, jac=residuals_jac)

    assert out.is_correct
    assert len(out.table) == 0
    assert capsys.readouterr().out == "jac: 9 entries, all correct\n"


def test_a_wrong_entry_is_named(capsys):
    def wrong(p):
        out = residuals_jac(p)
        out["r"]["b"][0, 1] = 0.25
        return out

    out = check_derivatives(residuals, TREE, jac=wrong, show=False)

    assert not out.is_correct
    (row,) = out.table.to_dict("records")
    assert (row["derivative"], row["output"], row["params"]) == ("jac", "r_0", "b_1")
    assert (row["given"], row["verdict"]) == (0.25, "wrong")
    assert row["difference"] == pytest.approx(0, abs=1e-9)
    assert 0 < row["error"] < 1e-6
    assert capsys.readouterr().out == ""
    assert "jac: 9 entries, 1 wrong" in repr(out)
    assert "r_0" in repr(out)


def test_a_transposed_jacobian_is_found():
    matrix = np.array([[1.0, 2.0], [3.0, 4.0]])

    good = check_derivatives(lambda x: matrix @ x, np.ones(2), jac=lambda _: matrix, show=False)
    bad = check_derivatives(lambda x: matrix @ x, np.ones(2), jac=lambda _: matrix.T, show=False)

    assert good.is_correct
    assert bad.table[["output", "params"]].to_numpy().tolist() == [["0", "1"], ["1", "0"]]


@pytest.mark.parametrize(
    "jac",
    [
        lambda x: np.ones((3, 2)),
        lambda x: np.ones(6),
        lambda x: np.ones((2, 2)),
        lambda x: {"x": np.ones((2, 3))},
    ],
)
def test_a_jacobian_of_wrong_shape_is_an_error(jac):
    with pytest.raises(InvalidFunctionError, match="the return value of jac"):
        check_derivatives(lambda x: x[:2] * x[2], np.ones(3), jac=jac)


def test_second_derivatives_are_compared_with_correct_first_ones():
    def fun(p):
        return p["a"] ** 3 * p["b"]

    def jac(p):
        return {"b": p["a"] ** 3, "a": 3 * p["a"] ** 2 * p["b"]}

    def hess(p):
        cross = 3 * p["a"] ** 2
        return {"a": {"b": cross, "a": 6 * p["a"] * p["b"]}, "b": {"a": cross, "b": 0.0}}

    def wrong(p):
        out = hess(p)
        out["a"]["b"] *= 1.001
        return out

    calls = Recorder(lambda _: None)

    def counted(p):
        calls(p["a"])
        return fun(p)

    params = {"a": 2.0, "b": 3.0}
    assert check_derivatives(counted, params, jac=jac, hess=hess, show=False).is_correct
    n_with_jac = len(calls.points)
    # without a correct gradient, and with a wrong one, differences of differences decide
    assert check_derivatives(counted, params, hess=hess, show=False).is_correct
    assert len(calls.points) > 5 * n_with_jac
    for given_jac in (jac, None, lambda p: {"a": 0.0, "b": 1.0}):
        out = check_derivatives(fun, params, jac=given_jac, hess=wrong, show=False)
        rows = out.table[out.table["derivative"] == "hess"]
        assert rows[["params", "verdict"]].to_numpy().tolist() == [["a, b", "wrong"]]


def test_fun_and_jac_must_return_the_value_of_fun():
    out = check_derivatives(
        lambda x: x @ x, np.ones(2), fun_and_jac=lambda x: (x @ x + 1, 2 * x), show=False
    )

    assert not out.is_correct
    assert out.table["derivative"].tolist() == ["value of fun_and_jac"]
    assert out.n_entries == {"fun_and_jac": 2, "value of fun_and_jac": 1}


def test_the_derivative_of_jax_is_checked_if_there_is_no_other():
    @jax.custom_jvp
    def cube(x):
        return x**3

    cube.defjvp(lambda primals, tangents: (cube(primals[0]), 2 * primals[0] ** 2 * tangents[0]))

    good = check_derivatives(lambda x: jnp.sum(x**3), np.array([1.0, 2.0]), show=False)
    bad = check_derivatives(lambda x: jnp.sum(cube(x)), np.array([1.0, 2.0]), show=False)

    assert good.is_correct
    assert good.n_entries == {"jac by JAX": 2, "hess by JAX": 4}
    rows = bad.table[bad.table["derivative"] == "jac by JAX"]
    assert rows["params"].tolist() == ["0", "1"]
    assert not bad.is_correct


def test_a_missing_second_derivative_of_jax_is_mentioned():
    @jax.custom_vjp
    def square(x):
        return x**2

    def pull_back(x, g):
        # JAX knows no derivative of a callback
        return (jax.pure_callback(lambda x, g: 2 * x * g, g, x, g, vmap_method="sequential"),)

    square.defvjp(lambda x: (x**2, x), pull_back)

    out = check_derivatives(lambda x: jnp.sum(square(x)), np.ones(2), show=False)

    assert out.is_correct
    assert "jac by JAX: 2 entries, all correct" in repr(out)
    assert "hess by JAX: there is none" in repr(out)


def test_marks_say_what_a_derivative_is_one_of():
    @mark.least_squares
    def fun(x):
        return np.array([x[0] * x[1], x[1] ** 2])

    def matrix(x):
        return np.array([[x[1], x[0]], [0, 2 * x[1]]])

    x = np.array([1.5, 2.0])
    scalar = check_derivatives(fun, x, jac=lambda x: 2 * fun(x) @ matrix(x), show=False)
    vector = check_derivatives(fun, x, jac=mark.least_squares(matrix), show=False)

    assert scalar.is_correct
    assert scalar.n_entries == {"jac": 2}
    assert vector.is_correct
    assert vector.n_entries == {"jac": 4}

    # the Hessian is that of the sum of squares
    hess = [[2 * x[1] ** 2, 4 * x[0] * x[1]], [4 * x[0] * x[1], 2 * x[0] ** 2 + 12 * x[1] ** 2]]
    out = check_derivatives(
        fun, x, jac=mark.least_squares(matrix), hess=lambda _: np.array(hess), show=False
    )
    assert out.is_correct
    assert out.n_entries == {"jac": 4, "hess": 4}


def test_kwargs_and_bounds_reach_the_functions():
    out = check_derivatives(
        lambda x, k: k * np.sqrt(x[0]),
        np.zeros(1) + 1e-6,
        jac=lambda x, c: c / np.sqrt(x) / 2,
        fun_kwargs={"k": 3.0},
        jac_kwargs={"c": 3.0},
        bounds=Bounds(lower=np.zeros(1)),
        show=False,
    )
    assert out.is_correct


def test_nothing_to_check_is_an_error():
    with pytest.raises(MissingInputError, match="fun is not written in JAX"):
        check_derivatives(lambda x: float(x[0]), np.ones(1))
    with pytest.raises(MissingInputError, match="JAX cannot differentiate fun"):
        check_derivatives(lambda x: jnp.sum(x) if x[0] > 0 else x[1], jnp.ones(2))
    with pytest.raises(MissingInputError, match="JAX cannot differentiate fun"):
        # a loop of unknown length has no derivative in reverse mode
        check_derivatives(
            lambda x: jax.lax.while_loop(lambda v: v < 10, lambda v: 2 * v, x.sum()), jnp.ones(2)
        )


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"jac": 3}, InvalidFunctionError, "jac must be a function, not 3"),
        ({"jac": lambda x: 1 / 0}, UserFunctionRuntimeError, "jac raised ZeroDivisionError"),
        ({"fun_and_jac": lambda x: x}, InvalidFunctionError, "tuple"),
        ({"hess": lambda x: x}, InvalidFunctionError, "hess is the second derivative of a number"),
        ({"jac_kwargs": 3}, InvalidKwargsError, "jac_kwargs must be a dict"),
    ],
)
def test_checks_refuse_what_they_cannot_use(arguments, error, message):
    with pytest.raises(error, match=message):
        check_derivatives(lambda x: x * 2, np.ones(3), **arguments)


def test_many_wrong_entries_are_shown_in_part():
    out = check_derivatives(lambda x: x, np.ones(6), jac=lambda x: np.ones((6, 6)), show=False)

    assert len(out.table) == 30
    assert "... and 10 more rows" in repr(out)


def test_checks_run_without_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        out = check_derivatives(
            lambda x: np.log(x).sum(), np.array([1e-9, 1.0]), jac=lambda x: 1 / x, show=False
        )
    assert out.is_correct
