"""The plots: the data step by value, the draw step by its traces and axes."""

import base64
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from optimagic_lite.exceptions import (
    InvalidPlottingBackendError,
    LogError,
    NotAvailableError,
)
from optimagic_lite.history import History, MultistartHistory
from optimagic_lite.log_options import SQLiteLogOptions
from optimagic_lite.optimize import minimize
from optimagic_lite.plots.criterion import criterion_plot
from optimagic_lite.plots.criterion_data import criterion_data
from optimagic_lite.plots.lines import MAX_POINTS_FIGURE, MAX_POINTS_LINE, thin
from optimagic_lite.plots.params import params_data, params_plot
from optimagic_lite.space.trees import ParamTree

NAN = float("nan")


def make_history(fun, params=None, direction="minimize", kinds=None):
    """A history whose parameters grow by one each evaluation, each of which takes 2 seconds."""
    structure = ParamTree({"a": np.ones(2), "b": 1.0} if params is None else params)
    history = History(direction, structure)
    start = np.arange(structure.n_params, dtype=np.float64)
    for i, value in enumerate(fun):
        kind = kinds[i] if kinds else ("path" if i else "start")
        history.append(start + i, value, 5.0 + 3 * i, 7.0 + 3 * i, "fun", kind)
    return history


def make_run(*args, **kwargs):
    """The same as the evaluations of a run without multistart."""
    return MultistartHistory(make_history(*args, **kwargs), ())


def values(line):
    return line.value.tolist()


# ------------------------------------------------------------------------ criterion, data


def test_criterion_data_holds_values_numbers_and_seconds_of_the_evaluations():
    data = criterion_data([("run", make_run([3.0, 5.0, 1.0]))])
    (line,) = data.lines
    assert line.name == "run"
    assert values(line) == [3.0, 5.0, 1.0]
    assert line.evaluation.tolist() == [0, 1, 2]
    assert line.seconds.tolist() == [2.0, 5.0, 8.0]
    assert data.floor is None
    assert data.n_evaluations == 3


def test_failed_evaluations_are_nan_whatever_is_not_finite():
    data = criterion_data([("run", make_run([3.0, NAN, np.inf, -np.inf, 1.0]))])
    np.testing.assert_array_equal(data.lines[0].value, [3.0, NAN, NAN, NAN, 1.0])


def test_monotone_has_gaps_before_the_first_success_only():
    data = criterion_data([("run", make_run([NAN, 3.0, 4.0, NAN, 1.0]))], monotone=True)
    np.testing.assert_array_equal(data.lines[0].value, [NAN, 3.0, 3.0, 3.0, 1.0])


def test_monotone_of_a_maximization_rises():
    run = make_run([1.0, 3.0, 2.0], direction="maximize")
    assert values(criterion_data([("r", run)], monotone=True).lines[0]) == [1.0, 3.0, 3.0]


def test_monotone_leaves_out_what_violates_a_constraint():
    history = make_history([5.0])
    history.append(np.zeros(3), 1.0, 9.0, 9.5, "fun", violation=0.1)
    history.append(np.zeros(3), 4.0, 9.5, 9.9, "fun")
    (line,) = criterion_data([("r", MultistartHistory(history, ()))], monotone=True).lines
    assert values(line) == [5.0, 5.0, 4.0]


def test_max_evaluations_clips_each_run():
    histories = [("long", make_run([3.0, 2.0, 1.0])), ("short", make_run([9.0]))]
    data = criterion_data(histories, max_evaluations=2)
    assert [values(line) for line in data.lines] == [[3.0, 2.0], [9.0]]


def test_only_the_path_is_shown():
    kinds = ["start", "exploration", "path", "derivative", "path"]
    run = make_run([5.0, 4.0, 3.0, 2.0, 1.0], kinds=kinds)
    data = criterion_data([("run", run)])
    assert values(data.lines[0]) == [5.0, 3.0, 1.0]
    assert data.lines[0].evaluation.tolist() == [0, 1, 2]
    assert data.lines[0].seconds.tolist() == [2.0, 8.0, 14.0]
    assert values(params_data(run).lines[2]) == [2.0, 4.0, 6.0]


@pytest.mark.parametrize(
    ("direction", "monotone", "title"),
    [
        ("minimize", False, "Criterion value (minimized)"),
        ("maximize", False, "Criterion value (maximized)"),
        ("maximize", True, "Best criterion value so far (maximized)"),
    ],
)
def test_title_says_the_direction(direction, monotone, title):
    run = make_run([1.0], direction=direction)
    assert criterion_data([("r", run)], monotone=monotone).y_title == title


def test_mixed_directions_are_said_line_by_line():
    histories = [(way, make_run([1.0], direction=way)) for way in ("minimize", "maximize")]
    data = criterion_data(histories)
    assert data.y_title == "Criterion value"
    assert [line.name for line in data.lines] == ["minimize (minimized)", "maximize (maximized)"]


def test_log_scale_has_a_place_for_zero():
    data = criterion_data([("run", make_run([4.0, NAN, 0.5, 0.0]))], log_scale=True)
    assert data.floor == pytest.approx(0.05)
    np.testing.assert_array_equal(data.lines[0].value, [4.0, NAN, 0.5, 0.0])


def test_log_scale_refuses_negative_values_and_says_where():
    with pytest.raises(ValueError, match=r"'run' has -2 at evaluation 1\. Use log_scale=False"):
        criterion_data([("run", make_run([4.0, -2.0]))], log_scale=True)


def test_log_scale_refuses_a_run_without_positive_values():
    with pytest.raises(ValueError, match="needs a positive value"):
        criterion_data([("run", make_run([0.0, NAN]))], log_scale=True)


# ------------------------------------------------------------------------------- thinning


@given(
    hnp.arrays(
        np.float64,
        st.integers(1, 400),
        elements=st.floats(-1e9, 1e9) | st.just(NAN),
    ),
    st.integers(5, 60),
)
def test_thin_keeps_ends_extremes_and_gaps_within_the_limit(y, limit):
    kept = thin(y, limit)
    assert len(kept) <= limit or len(kept) == len(y)
    assert len(kept) <= max(limit, 5)
    assert (np.diff(kept) > 0).all()
    assert kept[0] == 0
    assert kept[-1] == len(y) - 1
    assert np.isnan(y[kept]).any() == np.isnan(y).any()
    if np.isfinite(y).any():
        assert np.nanmin(y[kept]) == np.nanmin(y)
        assert np.nanmax(y[kept]) == np.nanmax(y)


def test_short_lines_are_drawn_whole():
    assert thin(np.zeros(7), 7).tolist() == list(range(7))


def test_thin_keeps_a_gap_in_each_stretch_with_a_failure():
    y = np.ones(100)
    y[[13, 14, 77]] = NAN
    kept = thin(y, 50)
    assert {13, 77} <= set(kept.tolist())


def test_a_long_run_stays_a_small_file_and_keeps_its_minimum():
    n = 200_000
    y = 1 + np.random.default_rng(0).random(n)
    y[123_457] = 0.5
    history = make_history(y, params=1.0)
    (line,) = criterion_data([("run", MultistartHistory(history, ()))]).lines
    assert len(line.value) <= MAX_POINTS_LINE
    assert line.value.min() == 0.5
    assert line.evaluation[line.value.argmin()] == 123_457
    assert line.seconds[line.value.argmin()] == 2 + 3 * 123_457
    assert len(criterion_plot(history).to_json()) < 400_000


def test_many_lines_share_the_points_of_a_figure():
    data = params_data(make_run(np.ones(2_000), params=np.ones(100)))
    assert data.n_evaluations == 2_000
    assert sum(len(line.value) for line in data.lines) <= MAX_POINTS_FIGURE


# ------------------------------------------------------------------------- criterion, inputs


def test_dictionary_keys_are_names():
    fig = criterion_plot({"one": make_history([1.0, 2.0]), "two": make_history([3.0, 2.0])})
    assert [t.name for t in fig.data] == ["one", "two"]
    assert all(t.showlegend for t in fig.data)


@pytest.mark.parametrize(("names", "expected"), [(None, ["0", "1"]), (["x", "y"], ["x", "y"])])
def test_names_of_a_list(names, expected):
    fig = criterion_plot([make_history([1.0, 2.0]), make_history([3.0, 2.0])], names=names)
    assert [t.name for t in fig.data] == expected


def test_names_replace_keys():
    fig = criterion_plot({"one": make_history([1.0, 2.0])}, names="better")
    assert fig.data[0].name == "better"


def test_lone_result_has_no_legend_unless_it_is_named():
    assert not criterion_plot(make_history([1.0, 2.0])).data[0].showlegend
    assert criterion_plot(make_history([1.0, 2.0]), names="run").data[0].showlegend


def test_wrong_number_of_names():
    with pytest.raises(ValueError, match="names has 1 entries, but there are 2 results"):
        criterion_plot([make_history([1.0]), make_history([1.0])], names=["x"])


def test_no_results():
    with pytest.raises(ValueError, match="results is empty"):
        criterion_plot([])


def test_result_of_a_run_is_drawn_from_its_history():
    result = SimpleNamespace(history=make_history([2.0, 1.0]), logger=None)
    assert criterion_plot(result).data[0].y.tolist() == [2.0, 1.0]
    assert params_plot(result).data[0].y.tolist() == [0.0, 1.0]


def test_result_without_history_is_drawn_from_its_own_run_in_the_log(tmp_path):
    log = SQLiteLogOptions(tmp_path / "run.db", if_database_exists="extend")
    start = np.array([3.0])
    mine = minimize(
        lambda x: ((x - 1) ** 2).sum(), start, "scipy_lbfgsb", logging=log, collect_history=False
    )
    minimize(lambda x: ((x + 9) ** 2).sum(), start, "scipy_lbfgsb", logging=log)
    assert criterion_plot(mine).data[0].y[0] == 4.0
    assert criterion_plot(mine).data[0].y.min() == mine.fun
    assert params_plot(mine).data[0].y[0] == 3.0


@pytest.mark.parametrize("plot", [criterion_plot, params_plot])
def test_result_without_history_and_log_says_what_to_do(plot):
    result = SimpleNamespace(history=None, logger=None)
    with pytest.raises(NotAvailableError, match=r"collect_history=True.*logging='run\.db'"):
        plot(result)


@pytest.mark.parametrize("plot", [criterion_plot, params_plot])
def test_history_without_rows(plot):
    with pytest.raises(NotAvailableError, match="has no evaluations yet"):
        plot(make_history([]))


@pytest.mark.parametrize("plot", [criterion_plot, params_plot])
def test_something_else_is_no_result(plot):
    with pytest.raises(TypeError, match=r"type 'float'.*History"):
        plot(3.0)


@pytest.mark.parametrize("convert", [str, lambda path: path])
def test_path_shows_the_newest_run_of_a_log(convert, tmp_path):
    from optimagic_lite.log.writer import LogWriter, RunRecord
    from optimagic_lite.log_options import SQLiteLogOptions

    path = tmp_path / "run.db"
    tree = ParamTree({"a": np.ones(2)})
    for best in (5.0, 1.0):
        record = RunRecord(
            "maximize", "some", {}, tree.names, tree.to_json(), tree.start_values(), {}
        )
        writer = LogWriter(SQLiteLogOptions(path, if_database_exists="extend"), record)
        writer.rows.write(np.array([1.0, 2.0]), best + 1, 0.0, 0.5, "fun", "start", 0)
        writer.rows.write(np.array([9.0, 9.0]), 7.0, 0.5, 1.0, "fun", "derivative", 1)
        writer.rows.write(np.array([3.0, 4.0]), best, 1.0, 1.5, "fun", "path", 2)
        writer.finish("complete", success=True, message="", fun=best)
    fig = criterion_plot(convert(path), x_axis="time")
    assert fig.data[0].y.tolist() == [2.0, 1.0]
    assert fig.data[0].x.tolist() == [0.5, 1.5]
    assert fig.layout.yaxis.title.text == "Criterion value (maximized)"
    fig = params_plot(convert(path), lambda p: p["a"][1])
    assert [(t.name, t.y.tolist()) for t in fig.data] == [("a_1", [2.0, 4.0])]


@pytest.mark.parametrize("convert", [str, lambda path: path])
@pytest.mark.parametrize("plot", [criterion_plot, params_plot])
def test_path_without_a_log(plot, convert, tmp_path):
    with pytest.raises(LogError, match=r"missing\.db"):
        plot(convert(tmp_path / "missing.db"))


# ------------------------------------------------------------------------- options in common


@pytest.mark.parametrize("plot", [criterion_plot, params_plot])
@pytest.mark.parametrize("backend", ["altair", "plotyl", "bokeh"])
def test_other_backends(plot, backend):
    with pytest.raises(InvalidPlottingBackendError, match=f"{backend!r} is not available"):
        plot(make_history([1.0]), backend=backend)


def test_multistart_options_change_nothing_without_multistart():
    history = make_history([3.0, 1.0])
    plain = criterion_plot(history)
    assert criterion_plot(history, stack_multistart=True, show_exploration=True) == plain
    assert params_plot(history, show_exploration=True) == params_plot(history)


@pytest.mark.parametrize("plot", [criterion_plot, params_plot])
@pytest.mark.parametrize("limit", [0, -1, 2.0, True, "3"])
def test_invalid_max_evaluations(plot, limit):
    with pytest.raises(ValueError, match="max_evaluations must be a positive integer"):
        plot(make_history([1.0]), max_evaluations=limit)


@pytest.mark.parametrize("plot", [criterion_plot, params_plot])
def test_unknown_x_axis(plot):
    with pytest.raises(ValueError, match="Did you mean 'time'"):
        plot(make_history([1.0]), x_axis="tme")


@pytest.mark.parametrize("plot", [criterion_plot, params_plot])
def test_x_axis_is_numbers_or_seconds(plot):
    history = make_history([1.0, 2.0])
    by_number, by_time = plot(history), plot(history, x_axis="time")
    assert by_number.data[0].x.tolist() == [0, 1]
    assert by_number.layout.xaxis.title.text == "Evaluation"
    assert by_time.data[0].x.tolist() == [2.0, 5.0]
    assert by_time.layout.xaxis.title.text == "Seconds since the first evaluation"


@pytest.mark.parametrize("plot", [criterion_plot, params_plot])
def test_template(plot):
    white = plot(make_history([1.0])).layout.template
    dark = plot(make_history([1.0]), template="plotly_dark").layout.template
    assert white.layout.paper_bgcolor == "white"
    assert dark.layout.paper_bgcolor == "rgb(17,17,17)"


@pytest.mark.parametrize("plot", [criterion_plot, params_plot])
def test_empty_palette(plot):
    with pytest.raises(ValueError, match="palette is empty"):
        plot(make_history([1.0]), palette=[])


def test_lines_of_one_colour_differ_in_their_dash():
    fig = params_plot(make_history([1.0, 2.0]), palette=["red", "blue"])
    assert [t.line.color for t in fig.data] == ["red", "blue", "red"]
    assert [t.line.dash for t in fig.data] == ["solid", "solid", "dash"]
    one = params_plot(make_history([1.0, 2.0]), palette="red")
    assert [t.line.dash for t in one.data] == ["solid", "dash", "dot"]


def test_names_are_not_read_as_html_and_long_ones_are_shortened_in_the_legend():
    name = "<b> & " + "x" * 60
    fig = criterion_plot({name: make_history([1.0, 2.0])})
    assert fig.data[0].name.startswith("&lt;b&gt; &amp; x")
    assert len(fig.data[0].name) < 50
    assert "x" * 60 in fig.data[0].hovertemplate
    assert "<b> &" not in fig.data[0].hovertemplate


# --------------------------------------------------------------------------- criterion, draw


def test_failed_evaluations_leave_a_gap_and_lonely_points_are_visible():
    history = make_history([1.0, 2.0, NAN, 3.0, NAN, 4.0, 5.0])
    line, points = criterion_plot(history).data
    assert line.mode == "lines"
    assert not line.connectgaps
    np.testing.assert_array_equal(line.y, history.fun)
    assert points.mode == "markers"
    assert points.y.tolist() == [3.0]
    assert points.x.tolist() == [3]
    assert not points.showlegend
    assert points.legendgroup == line.legendgroup


def test_single_evaluation_is_visible():
    _, points = criterion_plot(make_history([1.0])).data
    assert points.y.tolist() == [1.0]


def test_log_scale_draws_zero_at_the_floor_and_tells_the_truth_on_hover():
    fig = criterion_plot(make_history([4.0, 0.5, 0.0]), log_scale=True)
    assert fig.layout.yaxis.type == "log"
    np.testing.assert_allclose(fig.data[0].y, [4.0, 0.5, 0.05])
    np.testing.assert_array_equal(fig.data[0].customdata[:, 2], [4.0, 0.5, 0.0])


def test_monotone_is_drawn_in_steps():
    assert criterion_plot(make_history([2.0, 1.0]), monotone=True).data[0].line.shape == "hv"
    assert criterion_plot(make_history([2.0, 1.0])).data[0].line.shape == "linear"


def test_few_evaluations_have_whole_ticks():
    assert criterion_plot(make_history([2.0, 1.0])).layout.xaxis.dtick == 1
    assert criterion_plot(make_history(np.ones(50))).layout.xaxis.dtick is None


def test_figure_can_be_written_as_html(tmp_path):
    path = tmp_path / "plot.html"
    criterion_plot({"my run": make_history([2.0, 1.0])}).write_html(path)
    text = path.read_text(encoding="utf-8")
    assert '"my run"' in text
    assert base64.b64encode(np.array([2.0, 1.0]).tobytes()).decode() in text.replace("\\u002f", "/")


# -------------------------------------------------------------------------------- parameters


def test_params_data_has_one_line_a_parameter():
    data = params_data(make_run([3.0, NAN, 1.0]))
    assert [line.name for line in data.lines] == ["a_0", "a_1", "b"]
    # the second criterion value is missing, its parameters are not
    assert [values(line) for line in data.lines] == [[0, 1, 2], [1, 2, 3], [2, 3, 4]]
    assert data.lines[0].seconds.tolist() == [2.0, 5.0, 8.0]
    assert data.highlighted == (0, 1, 2)


def test_params_data_of_a_selection_with_names_of_its_own():
    data = params_data(
        make_run([3.0, 1.0]),
        lambda p: [p["b"], p["a"][1]],
        max_evaluations=1,
        names=["beta", "alpha"],
    )
    assert [(line.name, values(line)) for line in data.lines] == [("beta", [2.0]), ("alpha", [1.0])]


def test_wrong_number_of_parameter_names():
    with pytest.raises(ValueError, match="names has 1 entries, but there are 3 selected param"):
        params_plot(make_history([1.0]), names="x")


def test_of_many_parameters_those_that_move_most_stand_out():
    n = 40
    structure = ParamTree(np.ones(n))
    history = History("minimize", structure)
    speed = np.zeros(n)
    speed[[3, 5, 8, 13, 21, 34, 35, 36, 37, 38]] = np.arange(1, 11)
    for i in range(4):
        history.append(speed * i, 1.0, i, i + 1, "fun")
    data = params_data(MultistartHistory(history, ()))
    assert data.highlighted == (3, 5, 8, 13, 21, 34, 35, 36, 37, 38)

    fig = params_plot(history)
    in_legend = [t.name for t in fig.data if t.showlegend]
    assert sorted(in_legend) == sorted(["30 others", *(str(i) for i in data.highlighted)])
    others = [t for t in fig.data if t.legendgroup == "others"]
    assert len(others) == 30
    assert "<b>0</b>" in others[0].hovertemplate
    assert all(t.line.width < 1 for t in others)


def test_fifteen_parameters_all_stand_in_the_legend():
    fig = params_plot(make_history([1.0, 2.0], params=np.ones(15)))
    assert [t.name for t in fig.data if t.showlegend] == [str(i) for i in range(15)]


def test_params_plot_labels():
    fig = params_plot(make_history([1.0, 2.0]))
    assert fig.layout.yaxis.title.text == "Parameter value"
    # number, seconds, value, and no local optimisation
    np.testing.assert_array_equal(fig.data[1].customdata, [[0, 2, 1, 0], [1, 5, 2, 0]])


# ------------------------------------------------------------------------------------ selector


@pytest.mark.parametrize(
    "selector",
    [
        lambda p: p["a"] * 2,
        lambda p: p["a"].sum(),
        lambda p: p["a"].max(),
        lambda p: p["a"][p["a"] > 0],
        lambda p: p["b"] - p["b"],
        lambda p: [p["b"], 0.5],
        lambda p: 1,
        lambda p: "b",
        lambda p: p["b"] if p["b"] == 2 else p["a"],
    ],
)
def test_selector_must_not_compute(selector):
    with pytest.raises(ValueError, match="must return entries of params as they are"):
        params_plot(make_history([1.0]), selector)


@pytest.mark.parametrize("selector", [lambda p: None, lambda p: [], lambda p: p["a"][:0]])
def test_selector_must_select_something(selector):
    with pytest.raises(ValueError, match=r"selects nothing\. Parameters are a_0, a_1, b\."):
        params_plot(make_history([1.0]), selector)


def test_selector_that_raises_shows_its_error_and_the_names():
    with pytest.raises(ValueError, match=r"raised KeyError: 'c'.*Parameters are a_0, a_1, b\."):
        params_plot(make_history([1.0]), lambda p: p["c"])


def test_many_names_are_not_all_listed():
    with pytest.raises(ValueError, match=r"Parameters are 0, 1, .*, 9 and 90 more\."):
        params_plot(make_history([1.0], params=np.ones(100)), lambda p: None)


# --------------------------------------------------------------------------------- the package


def test_data_steps_do_not_need_plotly_a_history_no_sql_and_plots_no_matplotlib():
    code = (
        "import sys, optimagic_lite.plots, optimagic_lite.plots.inputs, "
        "optimagic_lite.plots.criterion_data, optimagic_lite.space.selection; "
        "print([m for m in ('plotly', 'pandas', 'sqlalchemy') if m in sys.modules]); "
        "import optimagic_lite.plots.criterion, optimagic_lite.plots.slices; "
        "print('matplotlib' in sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["[]", "False"]
