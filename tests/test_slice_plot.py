"""The slice plot: the data step by value, the draw step by its traces and axes."""

import itertools
import threading

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from compilations import count_compilations
from hypothesis import given
from hypothesis import strategies as st

import optimagic_lite as om
from optimagic_lite.exceptions import (
    InvalidBoundsError,
    InvalidFunctionError,
    InvalidKwargsError,
    InvalidParamsError,
    InvalidPlottingBackendError,
    NotAvailableError,
    UserFunctionRuntimeError,
)
from optimagic_lite.plots.slice_data import slice_data
from optimagic_lite.plots.slices import slice_plot

START = {"a": 1.0, "b": np.array([2.0, 3.0])}
BOX = om.Bounds(lower=-4, upper=4)


def quadratic(params):
    """A criterion that is not written with JAX."""
    return float(params["a"] ** 2 + 10 * params["b"] @ params["b"])


def jax_quadratic(params):
    return jnp.square(params["a"]) + 10 * jnp.sum(params["b"] ** 2)


class Recorder:
    """A criterion of a vector that keeps the points at which it was called."""

    def __init__(self):
        self.points = []

    def __call__(self, x):
        self.points.append(x.copy())
        return float(x.sum())


# ------------------------------------------------------------------------------------ values


@pytest.mark.parametrize("func", [quadratic, jax_quadratic])
def test_each_slice_moves_one_parameter_and_holds_the_others(func):
    data = slice_data(func, START, BOX, n_gridpoints=5)
    grid = np.array([-4.0, -2.0, 0.0, 2.0, 4.0])
    assert [s.name for s in data.slices] == ["a", "b_0", "b_1"]
    assert data.value == 131

    a, b0, b1 = data.slices
    np.testing.assert_array_equal(a.x, [-4, -2, 0, 1, 2, 4])
    np.testing.assert_array_equal(a.y, a.x**2 + 130)
    # the value in params is on the grid already
    np.testing.assert_array_equal(b0.x, grid)
    np.testing.assert_array_equal(b0.y, 10 * b0.x**2 + 91)
    np.testing.assert_array_equal(b1.x, [-4, -2, 0, 2, 3, 4])
    np.testing.assert_array_equal(b1.y, 10 * b1.x**2 + 41)
    assert [s.start for s in data.slices] == [1, 2, 3]
    assert [s.missing for s in data.slices] == ["", "", ""]


def test_func_kwargs_are_passed():
    (one,) = slice_data(lambda x, k: k * x, 1.0, BOX, {"k": 3}, n_gridpoints=2).slices
    np.testing.assert_array_equal(one.y, [-12, 3, 12])


def test_selector_chooses_slices_and_their_order():
    data = slice_data(quadratic, START, BOX, selector=lambda p: [p["b"][1], p["a"], p["a"]])
    assert [s.name for s in data.slices] == ["b_1", "a"]


def test_params_made_of_pandas_objects():
    frame = pd.DataFrame(
        {"value": [1.0, 2.0], "lower_bound": [0.0, 1.0], "upper_bound": [3.0, 4.0]},
        index=["u", "v"],
    )
    u, v = slice_data(lambda p: p["value"]["u"] + p.loc["v", "value"], frame).slices
    assert (u.name, v.name) == ("u", "v")
    assert (u.x[0], u.x[-1], v.x[0], v.x[-1]) == (0, 3, 1, 4)
    np.testing.assert_array_equal(v.y, 1 + v.x)


@om.mark.least_squares
def residuals(x):
    return x - np.array([1.0, 2.0])


@om.mark.least_squares
def jax_residuals(x):
    return {"r": jnp.asarray(x) - jnp.array([1.0, 2.0])}


def typed_residuals(x):
    return om.LeastSquaresFunctionValue(x - np.array([1.0, 2.0]))


def jax_typed_residuals(x):
    return om.LeastSquaresFunctionValue(jnp.asarray(x) - jnp.array([1.0, 2.0]))


@pytest.mark.parametrize(
    "func",
    [residuals, jax_residuals, typed_residuals, jax_typed_residuals],
    ids=lambda f: f.__name__,
)
def test_least_squares_are_summed_squares(func):
    first, _ = slice_data(func, np.zeros(2), BOX, n_gridpoints=3).slices
    np.testing.assert_array_equal(first.y, [29, 5, 13])


@pytest.mark.parametrize("module", [np, jnp])
def test_likelihoods_are_sums(module):
    func = om.mark.likelihood(lambda x: -((x - module.arange(3.0)) ** 2))
    (only,) = slice_data(func, 0.0, BOX, n_gridpoints=2).slices
    np.testing.assert_array_equal(only.y, [-77, -5, -29])


def test_function_values_with_info():
    func = lambda x: om.FunctionValue(x**2, info={"x": x})  # noqa: E731
    (only,) = slice_data(func, 1.0, BOX, n_gridpoints=2).slices
    np.testing.assert_array_equal(only.y, [16, 1, 16])


# ------------------------------------------------------------------------------------ ranges


@pytest.mark.parametrize(
    ("start", "bounds", "expected", "missing"),
    [
        (0.5, om.Bounds(), (-0.5, 1.5), "no bounds"),
        (-30.0, om.Bounds(), (-60, 0), "no bounds"),
        (5.0, om.Bounds(lower=4), (4, 10), "no upper bound"),
        (5.0, om.Bounds(upper=6), (0, 6), "no lower bound"),
        # soft bounds stand in for missing bounds only
        (5.0, om.Bounds(soft_lower=3, soft_upper=7), (3, 7), ""),
        (5.0, om.Bounds(1, 9, soft_lower=3, soft_upper=7), (1, 9), ""),
        (5.0, om.Bounds(lower=1, soft_lower=3, soft_upper=7), (1, 7), ""),
        # and only where they leave room for the value
        (8.0, om.Bounds(soft_lower=3, soft_upper=7), (3, 16), "no upper bound"),
        (2.0, om.Bounds(2, 2), (2, 2), ""),
        (0.0, om.Bounds(-1.7e308, 1.7e308), (-1.7e308, 1.7e308), ""),
    ],
)
def test_range_of_a_slice(start, bounds, expected, missing):
    (only,) = slice_data(lambda x: 0.0, start, bounds).slices
    assert (only.x[0], only.x[-1]) == expected
    assert only.missing == missing
    assert np.isfinite(only.x).all()


@given(
    st.tuples(*[st.floats(-1e12, 1e12)] * 3).map(sorted),
    st.sampled_from([(True, True), (True, False), (False, True), (False, False)]),
    st.integers(2, 9),
)
def test_no_point_outside_the_bounds_is_evaluated(numbers, has_bounds, n_gridpoints):
    lower, start, upper = numbers
    lower, upper = (lower if has_bounds[0] else -np.inf), (upper if has_bounds[1] else np.inf)
    func = Recorder()
    first, _ = slice_data(
        func, np.array([start, 7.0]), om.Bounds([lower, 6], [upper, 8]), n_gridpoints=n_gridpoints
    ).slices
    points = np.array(func.points)
    assert (points[:, 0] >= lower).all()
    assert (points[:, 0] <= upper).all()
    assert (points[:, 1] >= 6).all()
    assert (points[:, 1] <= 8).all()
    assert ((points == [start, 7]).sum(axis=1) >= 1).all()

    assert (np.diff(first.x) > 0).all()
    assert start in first.x
    np.testing.assert_array_equal(first.y, first.x + 7)


def test_params_outside_their_bounds():
    func = Recorder()
    with pytest.raises(InvalidBoundsError, match=r"b: start value 9 is outside \[-4, 4\]"):
        slice_plot(func, {"a": 1.0, "b": 9.0}, BOX)
    assert func.points == []


# ------------------------------------------------------------------------------- evaluations


def test_a_func_that_is_not_jax_is_called_once_a_point():
    func = Recorder()
    slice_data(func, np.array([1.0, 4.0]), BOX, n_gridpoints=5)
    # params, five of the first parameter, four of the second, which starts on its bound
    assert len(func.points) == len({p.tobytes() for p in func.points}) == 10


def test_jax_is_traced_and_not_called_for_each_point():
    calls = []

    def func(x):
        calls.append(x)
        return jnp.sum(x**2)

    slice_data(func, np.ones(3), BOX, n_gridpoints=5)
    few = len(calls)
    slice_data(func, np.ones(30), BOX, n_gridpoints=50)
    assert len(calls) == 2 * few <= 6


def test_the_same_program_and_grid_are_compiled_once():
    def draw(start, data, upper):
        # a fresh closure each time
        return slice_data(
            lambda x, data: jnp.sum((x - data) ** 4),
            start,
            om.Bounds(-2, upper),
            {"data": data},
            n_gridpoints=7,
        )

    draw(np.zeros(3), np.ones(3), 2.0)
    with count_compilations() as counter:
        data = draw(np.array([2.0, 1.0, 0.5]), np.full(3, 2.0), 3.0)
    assert counter[0] == 0
    np.testing.assert_allclose(data.slices[0].y, (data.slices[0].x - 2) ** 4 + 1 + 1.5**4)


def test_a_func_known_from_a_run_is_not_called_as_written():
    def func(x):
        total, _ = jax.lax.scan(lambda s, v: (s + v**2, None), jnp.zeros(()), jnp.asarray(x))
        return total

    om.minimize(func, np.ones(3), "scipy_lbfgsb")
    slice_data(func, np.ones(3), BOX)
    with count_compilations() as counter:
        data = slice_data(func, np.zeros(3), BOX)
    assert counter[0] == 0
    np.testing.assert_allclose(data.slices[1].y, data.slices[1].x ** 2)


def test_jax_that_cannot_be_compiled_is_called_as_written():
    def branches(x):
        return jnp.abs(x) if x > 0 else jnp.zeros(())

    def calls_back(x):
        shape = jax.ShapeDtypeStruct((), np.float64)
        return jax.pure_callback(lambda x: np.maximum(x, 0.0), shape, jnp.asarray(x))

    for func in (branches, calls_back):
        (only,) = slice_data(func, 1.0, BOX, n_gridpoints=3).slices
        np.testing.assert_array_equal(only.y, [0, 0, 1, 4])


def test_random_jax_is_called_as_written():
    rng = np.random.default_rng(0)
    (only,) = slice_data(lambda x: 0 * jnp.asarray(x) + rng.random(), 1.0, BOX).slices
    # compiled, one draw would serve all points
    assert len(set(only.y)) == len(only.y)


def test_precision_is_double_and_the_users_stays():
    (only,) = slice_data(lambda x: 1e-12 * jnp.asarray(x) + 1, 0.0, BOX, n_gridpoints=2).slices
    assert (np.diff(only.y) > 0).all()
    assert jnp.zeros(1).dtype == np.float32


@pytest.mark.parametrize("func", [quadratic, jax_quadratic])
def test_several_threads_give_the_same(func):
    one = slice_data(func, START, BOX)
    two = slice_data(func, START, BOX, n_cores=2, batch_evaluator="threading")
    for s, t in zip(one.slices, two.slices, strict=True):
        np.testing.assert_array_equal(s.y, t.y)


def test_double_precision_in_other_threads():
    def func(x):
        if x < 0:  # so it is called as written
            return jnp.zeros(())
        assert threading.current_thread() is not threading.main_thread() or x == 1
        return 1e-12 * jnp.asarray(x) + 1

    (only,) = slice_data(
        func, 1.0, om.Bounds(0, 2), n_gridpoints=4, n_cores=2, batch_evaluator="threading"
    ).slices
    assert (np.diff(only.y) > 0).all()


def test_own_batch_evaluator_gets_cores_and_points():
    asked = []

    def evaluator(func, arguments, *, n_cores, error_handling, unpack_symbol):
        asked.append((len(arguments), n_cores, error_handling, unpack_symbol))
        return [func(argument) for argument in arguments]

    slice_plot(quadratic, START, BOX, n_gridpoints=4, n_cores=3, batch_evaluator=evaluator)
    assert asked == [(12, 3, "raise", None)]


# ---------------------------------------------------------------------------------- failures


def fails_above_two(params):
    if params["a"] > 2:
        raise ValueError("too much")
    with np.errstate(divide="ignore"):
        return float(1 / np.float64(params["a"]))


def jax_inverse(params):
    return jnp.where(params["a"] > 2, jnp.nan, 1 / jnp.asarray(params["a"]))


@pytest.mark.parametrize("func", [fails_above_two, jax_inverse])
def test_failures_are_gaps_and_are_counted(func):
    data = slice_data(func, {"a": 1.0}, BOX, n_gridpoints=5)
    np.testing.assert_array_equal(data.slices[0].y, [-0.25, -0.5, np.nan, 1, 0.5, np.nan])

    fig = slice_plot(func, {"a": 1.0}, BOX, n_gridpoints=5)
    assert not fig.data[0].connectgaps
    (note,) = fig.layout.annotations
    assert note.text == "2 of 6 points are gaps: the criterion failed or was not finite."


def test_failure_at_params_alone_leaves_no_dot():
    def func(x):
        if x == 1:
            raise ValueError
        return x

    fig = slice_plot(func, 1.0, BOX, n_gridpoints=2)
    np.testing.assert_array_equal(fig.data[0].y, [-4, np.nan, 4])
    np.testing.assert_array_equal(fig.data[1].y, [np.nan])


def test_failure_everywhere_raises_the_first_error():
    def func(params):
        return params["c"]

    with pytest.raises(
        UserFunctionRuntimeError, match=r"none of 61 points.* KeyError: 'c'"
    ) as info:
        slice_plot(func, START, BOX)
    assert isinstance(info.value.__cause__, KeyError)
    assert info.value.params["a"] == 1


def test_nowhere_finite():
    with pytest.raises(UserFunctionRuntimeError, match="At params it is not finite"):
        slice_plot(lambda x: jnp.nan * jnp.asarray(x), 1.0, BOX)


@pytest.mark.parametrize("returned", [None, (1.0, 2.0), np.ones(2), "text", 1j])
def test_func_must_return_a_number(returned):
    with pytest.raises(InvalidFunctionError, match="fun returned"):
        slice_plot(lambda x: returned, 1.0, BOX)


def test_missing_arguments_of_func_are_said():
    with pytest.raises(UserFunctionRuntimeError, match="required positional argument: 'k'"):
        slice_plot(lambda x, k: x * k, 1.0, BOX)


def test_interrupts_pass():
    def func(x):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        slice_plot(func, 1.0, BOX)


# --------------------------------------------------------------------------------- arguments


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        ({"backend": "bokeh"}, InvalidPlottingBackendError, "plotly"),
        ({"n_gridpoints": 1}, ValueError, "n_gridpoints must be an integer of at least 2, not 1"),
        ({"n_gridpoints": 2.5}, ValueError, "n_gridpoints must be an integer"),
        ({"plots_per_row": 0}, ValueError, "plots_per_row must be an integer of at least 1"),
        ({"expand_yrange": -0.1}, ValueError, "expand_yrange must be a number of at least 0"),
        ({"expand_yrange": float("nan")}, ValueError, "expand_yrange must be"),
        ({"n_cores": 0}, InvalidKwargsError, "n_cores must be a positive integer"),
        ({"batch_evaluator": "jobli"}, NotAvailableError, "Did you mean 'joblib'"),
        ({"func_kwargs": 3}, InvalidKwargsError, "func_kwargs must be a dict"),
        ({"func": 3}, InvalidFunctionError, "func must be a function, not 3"),
        ({"params": "x"}, InvalidParamsError, "real numbers"),
        ({"params": {"a": np.nan}}, InvalidParamsError, "not finite: a"),
        ({"bounds": om.Bounds(lower={"c": 1})}, InvalidBoundsError, "key 'c'"),
        ({"selector": lambda p: p["c"]}, ValueError, r"KeyError: 'c'.*Parameters are a, b_0, b_1"),
        ({"param_names": {"b0": "x"}}, ValueError, r"'b0', .*Did you mean 'b_0'"),
        ({"param_names": {"zzz": "x"}}, ValueError, r"'zzz', .*Parameters are a, b_0, b_1\."),
        ({"param_names": ["x"]}, ValueError, "must be a dict of new names by name"),
        ({"param_names": {"a": "b_1"}}, ValueError, "shows a, b_1 all as 'b_1'"),
    ],
)
def test_wrong_arguments_are_refused_before_an_evaluation(arguments, error, match):
    calls = []

    def func(params):
        calls.append(params)
        return 1.0

    with pytest.raises(error, match=match):
        slice_plot(**({"func": func, "params": START, "bounds": BOX} | arguments))
    assert calls == []


# ------------------------------------------------------------------------------------ figure


def titles(fig, axis):
    axes = fig.select_xaxes() if axis == "x" else fig.select_yaxes()
    return [a.title.text for a in axes]


def test_each_panel_has_a_line_and_a_dot_at_params():
    fig = slice_plot(quadratic, START, BOX, n_gridpoints=5, color="teal")
    assert len(fig.data) == 6
    for line, dot, start in zip(fig.data[::2], fig.data[1::2], [1, 2, 3], strict=True):
        assert (line.xaxis, line.yaxis) == (dot.xaxis, dot.yaxis)
        assert dot.x == (start,)
        assert dot.y == (131,)
        assert line.line.color == dot.marker.color == "teal"
    assert titles(fig, "x")[:3] == ["a", "b_0", "b_1"]
    assert titles(fig, "y")[:3] == ["Criterion value", None, "Criterion value"]
    assert fig.layout.annotations == ()


def test_names_of_the_user():
    names = {"a": "<alpha>", "b_1": "beta"}
    fig = slice_plot(quadratic, START, BOX, param_names=names)
    assert titles(fig, "x")[:3] == ["&lt;alpha&gt;", "b_0", "beta"]
    assert fig.data[0].hovertemplate.startswith("<b>&lt;alpha&gt;</b>")
    # names of parameters that are not selected do no harm
    fig = slice_plot(quadratic, START, BOX, selector=lambda p: p["a"], param_names=names)
    assert titles(fig, "x") == ["&lt;alpha&gt;"]


def test_long_names_are_cut_on_the_axis_and_whole_under_the_mouse():
    name = "a_very_long_name_of_a_parameter_that_ends_here"
    fig = slice_plot(lambda p: p[name], {name: 1.0}, BOX)
    assert len(titles(fig, "x")[0]) < 30
    assert name in fig.data[0].hovertemplate


def test_missing_bounds_are_said():
    bounds = om.Bounds(lower={"a": 0}, upper={"b": np.array([5.0, np.inf])})
    fig = slice_plot(quadratic, START, bounds)
    for title, words in zip(
        titles(fig, "x")[:3], ["no upper bound", "no lower bound", "no bounds"], strict=True
    ):
        assert f"({words})" in title
    (note,) = fig.layout.annotations
    assert "the range ends max(|value|, 1) away from the value" in note.text


def test_share_y_gives_all_panels_one_vertical_axis():
    fig = slice_plot(quadratic, START, BOX, n_gridpoints=3, expand_yrange=0.1)
    # values lie between 41 and 251
    assert [a.range for a in fig.select_yaxes()][:3] == [(20, 272)] * 3
    own = slice_plot(quadratic, START, BOX, n_gridpoints=3, expand_yrange=0.1, share_y=False)
    ranges = [a.range for a in own.select_yaxes()][:3]
    np.testing.assert_allclose(ranges, [(128.4, 147.6), (75, 267), (25, 217)])
    assert all(a.matches is None for a in own.select_yaxes())


def test_share_x_gives_all_panels_one_horizontal_axis():
    bounds = om.Bounds(lower={"a": 0, "b": -6}, upper=4)
    fig = slice_plot(quadratic, START, bounds, share_x=True)
    low, high = fig.layout.xaxis.range
    assert low < -6 < 4 < high
    assert [a.range for a in fig.select_xaxes()][:3] == [(low, high)] * 3
    # the last panel of each column has numbers; the last row has one panel only
    assert [a.showticklabels for a in fig.select_xaxes()][:3] == [False, True, True]
    assert slice_plot(quadratic, START, bounds).layout.xaxis.range is None


def test_constant_functions_have_a_range():
    fig = slice_plot(lambda x: 3.0, 1.0, BOX)
    assert fig.layout.yaxis.range is None
    assert set(fig.data[0].y) == {3.0}


def test_return_dict_has_a_figure_for_each_name():
    figures = slice_plot(
        quadratic, START, BOX, param_names={"b_0": "beta"}, return_dict=True, title="Mine"
    )
    assert list(figures) == ["a", "beta", "b_1"]
    for name, fig in figures.items():
        assert titles(fig, "x") == [name]
        assert len(fig.data) == 2
        assert fig.layout.title.text == "Mine"
    # shared axes are shared by the figures, too
    assert len({fig.layout.yaxis.range for fig in figures.values()}) == 1


def test_figures_grow_with_the_number_of_panels():
    def size(n, **options):
        fig = slice_plot(lambda x: float(x @ x), np.ones(n), BOX, n_gridpoints=2, **options)
        return fig.layout.width, fig.layout.height

    assert size(50)[0] == size(2)[0]
    assert size(50)[1] > 24 * 200
    assert size(4, plots_per_row=4)[0] > 1.8 * size(4)[0]
    # as many columns as there are panels
    assert size(1, plots_per_row=4)[0] < size(2)[0]


def test_panels_of_fifty_parameters_do_not_overlap():
    fig = slice_plot(lambda x: float(x @ x), np.ones(50), BOX, n_gridpoints=2)
    tops = sorted({axis.domain for axis in fig.select_yaxes()})
    assert len(tops) == 25
    heights = [(high - low) * fig.layout.height for low, high in tops]
    gaps = [(b[0] - a[1]) * fig.layout.height for a, b in itertools.pairwise(tops)]
    assert min(heights) > 150
    assert min(gaps) > 50


def test_template_title_and_arguments_of_subplots():
    fig = slice_plot(
        quadratic,
        START,
        BOX,
        title="Around the start",
        template="plotly_dark",
        make_subplot_kwargs={"horizontal_spacing": 0.2, "subplot_titles": ["A", "B", "C"]},
    )
    assert [a.text for a in fig.layout.annotations] == ["A", "B", "C"]
    assert fig.layout.title.text == "Around the start"
    assert fig.layout.template.layout.paper_bgcolor == "rgb(17,17,17)"
    left, right = fig.layout.xaxis.domain, fig.layout.xaxis2.domain
    assert right[0] - left[1] == pytest.approx(0.2)
