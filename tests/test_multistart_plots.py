"""Plots of multistart runs: the data step by value, the draw step by its traces and axes."""

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import optimagic_lite as om
from optimagic_lite.history import History, MultistartHistory
from optimagic_lite.log.writer import LogWriter, RunRecord
from optimagic_lite.log_options import SQLiteLogOptions
from optimagic_lite.plots.criterion import criterion_plot
from optimagic_lite.plots.criterion_data import criterion_data
from optimagic_lite.plots.evaluations import Evaluations
from optimagic_lite.plots.lines import (
    MAX_POINTS_EXPLORED,
    MAX_POINTS_FIGURE,
    MAX_POINTS_LINE,
    MAX_POINTS_OTHERS,
    make_line,
)
from optimagic_lite.plots.params import params_data, params_plot
from optimagic_lite.space.trees import ParamTree

NAN = float("nan")
TREE = ParamTree({"a": 1.0, "b": 1.0})


def history(values, began=0.0, kind="path", direction="minimize", violations=None):
    """A history of evaluations of one second each; "a" is the value, "b" counts."""
    out = History(direction, TREE)
    for i, value in enumerate(values):
        flat = np.array([np.nan_to_num(value), i])
        violation = violations[i] if violations else 0.0
        what = "fun", kind if i else "start"
        out.append(flat, value, began + i, began + i + 1, *what, violation=violation)
    return out


def explored(values, **kwargs):
    return history(values, kind="exploration", **kwargs)


def run():
    """An exploration of four seconds; then two local optimisations at once, then one more."""
    parts = history([5.0, 3.0, 2.0], 4.0), history([8.0, 1.0], 4.5), history([6.0, 4.0], 7.0)
    return MultistartHistory(explored([7.0, 9.0, NAN, 5.0]), parts)


def data(*runs, **kwargs):
    return criterion_data([(f"run {i}", each) for i, each in enumerate(runs)], **kwargs)


def points(line):
    """Numbers of the local optimisations, numbers of the evaluations, and values."""
    return line.local.tolist(), line.evaluation.tolist(), line.value.tolist()


# ------------------------------------------------------------------- local optimisations apart


def test_best_local_optimisation_is_highlighted_and_the_others_lie_behind():
    shown = data(run())
    assert [line.name for line in shown.lines] == ["best result"]
    assert points(shown.lines[0]) == ([2, 2], [0, 1], [8.0, 1.0])
    assert shown.others.name == "2 other optimisations"
    local, evaluation, value = points(shown.others)
    # a gap comes before the third
    assert (local, evaluation) == ([1, 1, 1, 3, 3, 3], [0, 1, 2, 0, 0, 1])
    np.testing.assert_array_equal(value, [5.0, 3.0, 2.0, NAN, 6.0, 4.0])
    assert shown.n_evaluations == 3
    assert shown.explored == (None,)


def test_best_of_a_maximization_is_the_highest():
    parts = [history([1.0, each], direction="maximize") for each in (2.0, 5.0, 3.0)]
    shown = data(MultistartHistory(explored([0.0], direction="maximize"), tuple(parts)))
    assert shown.lines[0].value.tolist() == [1.0, 5.0]
    assert shown.y_title == "Criterion value (maximized)"


def test_of_several_runs_the_best_local_optimisation_is_shown():
    shown = data(run(), MultistartHistory(history([9.0, 0.5]), ()))
    assert [line.name for line in shown.lines] == ["run 0", "run 1"]
    assert [line.value.tolist() for line in shown.lines] == [[8.0, 1.0], [9.0, 0.5]]
    assert shown.others is None


def test_limit_of_evaluations_holds_for_each_local_optimisation():
    shown = data(run(), max_evaluations=1)
    assert shown.lines[0].value.tolist() == [8.0]
    np.testing.assert_array_equal(shown.others.value, [5.0, NAN, 6.0])


def test_monotone_local_optimisations_are_by_themselves():
    parts = history([5.0, 7.0, 6.0]), history([9.0, NAN, 8.0]), history([1.0, 2.0])
    shown = data(MultistartHistory(explored([0.0, 0.0]), parts), monotone=True)
    assert shown.lines[0].value.tolist() == [1.0, 1.0]
    np.testing.assert_array_equal(shown.others.value, [5.0, 5.0, 5.0, NAN, 9.0, 9.0, 8.0])


def test_a_single_local_optimisation_is_shown_as_any_run():
    shown = data(MultistartHistory(explored([3.0, 2.0]), (history([2.0, 1.0]),)))
    assert [line.name for line in shown.lines] == ["run 0"]
    assert shown.others is None


def test_local_optimisations_without_any_value_leave_the_start():
    parts = history([NAN, NAN]), history([NAN])
    shown = data(MultistartHistory(explored([3.0, 2.0]), parts))
    assert points(shown.lines[0]) == ([0], [0], [3.0])
    assert shown.lines[0].name == "start"
    assert shown.others.name == "2 optimisations"


def test_local_optimisations_without_rows_keep_their_numbers():
    parts = history([5.0]), history([]), history([4.0]), history([6.0])
    shown = data(MultistartHistory(explored([3.0]), parts))
    assert shown.lines[0].local.tolist() == [3]
    assert shown.others.local.tolist() == [1, 4, 4]
    assert shown.others.name == "2 other optimisations"


# --------------------------------------------------------------------------------------- stacked


def test_stacked_local_optimisations_are_one_line():
    (line,) = data(run(), stack_multistart=True).lines
    assert points(line) == (
        [1, 1, 1, 2, 2, 3, 3],
        [0, 1, 2, 3, 4, 5, 6],
        [5.0, 3.0, 2.0, 8.0, 1.0, 6.0, 4.0],
    )
    assert line.value.tolist() == run().stacked.fun


def test_stacked_runs_keep_their_names_and_limits():
    shown = data(run(), run(), stack_multistart=True, max_evaluations=4, monotone=True)
    assert [line.name for line in shown.lines] == ["run 0", "run 1"]
    assert [line.value.tolist() for line in shown.lines] == [[5.0, 3.0, 2.0, 2.0]] * 2


# ----------------------------------------------------------------------------------- exploration


def test_explored_points_go_from_worst_to_best_without_those_that_failed():
    (found,) = data(run(), show_exploration=True).explored
    assert found.name == "exploration"
    assert found.value.tolist() == [9.0, 7.0, 5.0]
    assert found.evaluation.tolist() == [0, 1, 2]
    assert found.seconds.tolist() == [2.0, 1.0, 4.0]


def test_explored_points_of_a_maximization_rise():
    exploration = explored([3.0, 1.0, 2.0], direction="maximize")
    (found,) = data(MultistartHistory(exploration, ()), show_exploration=True).explored
    assert found.value.tolist() == [1.0, 2.0, 3.0]


def test_explored_points_that_violate_constraints_are_the_worst():
    exploration = explored([3.0, 1.0, 2.0, 4.0], violations=[0.0, 0.5, 0.0, 0.1])
    both = MultistartHistory(exploration, (history([3.0, 2.5]),))
    shown = data(both, show_exploration=True)
    assert shown.explored[0].value.tolist() == [1.0, 4.0, 3.0, 2.0]
    shown = data(both, show_exploration=True, stack_multistart=True, monotone=True)
    np.testing.assert_array_equal(shown.explored[0].value, [NAN, NAN, 3.0, 2.0])
    assert shown.lines[0].value.tolist() == [2.0, 2.0]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"show_exploration": True}, [5.0, 3.0, 2.0, 2.0, 1.0, 1.0, 1.0]),
        ({}, [6.0, 3.0, 2.0, 2.0, 1.0, 1.0, 1.0]),
    ],
)
def test_best_value_so_far_of_a_stacked_run_includes_explored_points_that_are_shown(
    options, expected
):
    parts = run().local_histories
    worse_start = MultistartHistory(run().exploration, (history([6.0, 3.0, 2.0]), *parts[1:]))
    shown = data(worse_start, stack_multistart=True, monotone=True, **options)
    assert shown.lines[0].value.tolist() == expected


def test_several_runs_name_their_explorations():
    plain = MultistartHistory(history([2.0, 1.0]), ())
    one, two = data(run(), plain, show_exploration=True).explored
    assert one.name == "run 0: exploration"
    assert two is None


def test_limit_of_evaluations_does_not_hold_for_explored_points():
    shown = data(run(), show_exploration=True, max_evaluations=1)
    assert len(shown.explored[0].value) == 3


# ------------------------------------------------------------------------------------------- time


def test_time_counts_from_the_first_evaluation_of_the_run():
    shown = data(run(), by_time=True)
    assert shown.lines[0].seconds.tolist() == [5.5, 6.5]
    assert shown.others.seconds.tolist() == [5.0, 6.0, 7.0, 8.0, 8.0, 9.0]


def test_stacked_by_time_has_gaps_between_local_optimisations_that_overlap():
    (line,) = data(run(), by_time=True, stack_multistart=True).lines
    assert line.seconds.tolist() == [5.0, 6.0, 7.0, 5.5, 5.5, 6.5, 8.0, 8.0, 9.0]
    np.testing.assert_array_equal(line.value, [5.0, 3.0, 2.0, NAN, 8.0, 1.0, NAN, 6.0, 4.0])


def test_best_value_so_far_by_time_is_in_the_order_in_which_evaluations_ended():
    shown = data(run(), by_time=True, stack_multistart=True, monotone=True)
    assert shown.lines[0].seconds.tolist() == [5.0, 5.5, 6.0, 6.5, 7.0, 8.0, 9.0]
    assert shown.lines[0].value.tolist() == [5.0, 5.0, 3.0, 1.0, 1.0, 1.0, 1.0]


@pytest.mark.parametrize("monotone", [False, True])
def test_limit_by_time_keeps_what_ended_first(monotone):
    options = {"by_time": True, "stack_multistart": True, "max_evaluations": 3}
    (line,) = data(run(), monotone=monotone, **options).lines
    assert set(line.seconds.tolist()) == {5.0, 5.5, 6.0}


def test_by_time_explored_points_are_where_they_were_evaluated():
    (found,) = data(run(), by_time=True, show_exploration=True).explored
    assert found.seconds.tolist() == [1.0, 2.0, 4.0]
    assert found.value.tolist() == [7.0, 9.0, 5.0]


# ----------------------------------------------------------------------------------------- thinning


def big_run(n_local, n_evaluations, n_explored):
    rng = np.random.default_rng(0)
    parts = []
    for i in range(n_local):
        part = History("minimize", TREE)
        part_values = 1 + rng.random(n_evaluations)
        for j, value in enumerate(part_values):
            part.append(np.zeros(2), value, i + j * 1e-3, i + j * 1e-3, "fun", batch=0)
        parts.append(part)
    parts[-7].append(np.zeros(2), 0.5, n_local, n_local, "fun")
    parts[-9].append(np.zeros(2), 0.6, n_local, n_local, "fun")
    exploration = History("minimize", TREE)
    exploration.append(np.zeros(2), 3.0, 0.0, 0.0, "fun", "start")
    for value in 2 + rng.random(n_explored - 1):
        exploration.append(np.array([value, 0.0]), value, 0.0, 0.0, "fun", "exploration", 0)
    return MultistartHistory(exploration, tuple(parts))


def test_many_local_optimisations_and_explored_points_stay_a_small_figure():
    many = big_run(n_local=500, n_evaluations=200, n_explored=50_000)
    shown = data(many, show_exploration=True)
    assert shown.lines[0].value.min() == 0.5
    assert np.nanmin(shown.others.value) == 0.6
    assert len(shown.others.value) <= 2 * MAX_POINTS_OTHERS
    assert set(shown.others.local) == set(range(1, 501)) - {494}
    assert len(shown.explored[0].value) <= MAX_POINTS_EXPLORED
    assert shown.explored[0].evaluation[-1] == 49_999
    for options in ({}, {"by_time": True}):
        (line,) = data(many, stack_multistart=True, **options).lines
        assert len(line.value) <= 2 * MAX_POINTS_LINE
        assert np.nanmin(line.value) == 0.5
    fig = criterion_plot(many, show_exploration=True)
    assert len(fig.data) <= 4
    assert len(fig.to_json()) < 4_000_000
    shown = params_data(many, show_exploration=True, by_time=True)
    assert sum(len(line.value) for line in shown.lines) <= 2 * MAX_POINTS_FIGURE
    assert sum(len(line.value) for line in shown.explored) <= 2 * MAX_POINTS_EXPLORED


@given(st.lists(st.integers(0, 30), min_size=1, max_size=30), st.integers(5, 60))
def test_thinned_local_optimisations_never_touch(lengths, limit):
    parts = tuple(history(np.arange(n, 0.0, -1)) for n in lengths)
    shown = Evaluations.of(MultistartHistory(explored([1.0]), parts)).other_paths()
    line = make_line("others", shown, shown.fun, limit, is_apart=True)
    changes = np.flatnonzero(np.diff(line.local))
    assert np.isnan(line.value[changes + 1]).all()
    assert np.isnan(line.value).sum() == len(changes)
    assert len(line.value) <= 2 * max(limit, 5)


# --------------------------------------------------------------------------------------- drawing


def test_explored_points_have_their_own_panel():
    fig = criterion_plot(run(), show_exploration=True)
    others, dots, best = fig.data
    assert (others.xaxis, best.xaxis, dots.xaxis) == (None, None, "x2")
    assert dots.mode == "markers"
    assert dots.x.tolist() == [0, 1, 2]
    assert fig.layout.xaxis2.domain[1] < fig.layout.xaxis.domain[0]
    assert fig.layout.yaxis.anchor == "x2"
    assert fig.layout.xaxis2.dtick == 1
    assert "worst to best" in fig.layout.xaxis2.title.text


def test_explored_points_by_time_stand_before_the_lines():
    fig = criterion_plot(run(), show_exploration=True, x_axis="time")
    assert fig.data[1].xaxis == "x"
    assert fig.data[1].x.tolist() == [1.0, 2.0, 4.0]
    assert "xaxis2" not in fig.layout


def test_best_explored_value_so_far_is_a_line_in_steps():
    fig = criterion_plot(run(), show_exploration=True, monotone=True)
    assert (fig.data[1].mode, fig.data[1].line.shape) == ("lines", "hv")


def test_legend_tells_lines_apart():
    fig = criterion_plot(run(), show_exploration=True)
    shown = sorted(fig.data, key=lambda trace: trace.legendrank or 1000)
    assert [trace.name for trace in shown] == [
        "best result", "2 other optimisations", "exploration",
    ]  # fmt: skip
    assert fig.layout.legend.title.text is None
    named = criterion_plot({"<TikTak>": run()})
    assert named.layout.legend.title.text == "&lt;TikTak&gt;"


def test_lone_stacked_run_has_no_legend():
    fig = criterion_plot(run(), show_exploration=True, stack_multistart=True)
    assert not any(trace.showlegend for trace in fig.data)


def test_runs_have_the_colour_of_their_explored_points():
    fig = criterion_plot({"one": run(), "two": run()}, show_exploration=True)
    assert [t.name for t in fig.data if t.showlegend] == ["one", "two"]
    dots, lines = fig.data[:2], fig.data[2:]
    assert [t.marker.color for t in dots] == [t.line.color for t in lines]


def test_hover_names_the_local_optimisation():
    others, best = criterion_plot(run()).data
    assert "local optimisation %{customdata[3]:,d}" in others.hovertemplate
    assert best.customdata[:, 3].tolist() == [2, 2]
    (plain,) = criterion_plot(history([2.0, 1.0])).data
    assert "local optimisation" not in plain.hovertemplate


def test_log_scale_holds_for_all_that_is_shown():
    negative = MultistartHistory(explored([4.0, -3.0]), (history([2.0]), history([0.0, 8.0])))
    with pytest.raises(ValueError, match=r"'exploration' has -3\. Use log_scale=False"):
        criterion_plot(negative, show_exploration=True, log_scale=True)
    others, _, best = criterion_plot(negative, log_scale=True).data
    assert others.y.tolist() == [2.0]
    # a tenth of the smallest positive value
    assert best.y.tolist() == pytest.approx([0.2, 8.0])
    way = {"direction": "maximize"}
    parts = history([2.0], **way), history([1.0, -1.0], **way)
    with pytest.raises(ValueError, match="'1 other optimisation' has -1 at evaluation 1"):
        criterion_plot(MultistartHistory(explored([4.0], **way), parts), log_scale=True)


# ------------------------------------------------------------------------------------ parameters


def test_parameters_of_all_local_optimisations_are_stacked():
    shown = params_data(run())
    assert [line.name for line in shown.lines] == ["a", "b"]
    assert shown.lines[0].value.tolist() == run().stacked.fun
    assert shown.lines[1].value.tolist() == [0, 1, 2, 0, 1, 0, 1]
    assert shown.lines[1].evaluation.tolist() == list(range(7))
    assert shown.lines[1].local.tolist() == [1, 1, 1, 2, 2, 3, 3]
    assert (shown.n_evaluations, shown.explored) == (7, ())


def test_explored_parameters_go_from_the_worst_value_of_the_criterion_to_the_best():
    shown = params_data(run(), lambda p: [p["b"], p["a"]], show_exploration=True)
    assert [line.name for line in shown.explored] == ["b", "a"]
    assert [line.value.tolist() for line in shown.explored] == [[1.0, 0.0, 3.0], [9.0, 7.0, 5.0]]


def test_parameters_by_time_have_gaps_between_local_optimisations():
    shown = params_data(run(), by_time=True, show_exploration=True)
    np.testing.assert_array_equal(shown.lines[1].value, [0, 1, 2, NAN, 0, 1, NAN, 0, 1])
    assert shown.explored[1].value.tolist() == [0, 1, 3]


def test_explored_points_are_shown_of_parameters_that_have_a_colour():
    structure = ParamTree(np.ones(20))
    exploration, local = History("minimize", structure), History("minimize", structure)
    for i in range(3):
        flat = i * np.arange(20.0)
        exploration.append(flat, float(i), i, i + 1, "fun", "exploration" if i else "start")
        local.append(flat, float(i), i + 3, i + 4, "fun")
    shown = params_data(MultistartHistory(exploration, (local,)), show_exploration=True)
    assert shown.highlighted == tuple(range(10, 20))
    assert [line.name for line in shown.explored] == [str(i) for i in range(10, 20)]
    assert shown.explored[-1].value.tolist() == [38.0, 19.0, 0.0]


def test_explored_parameters_are_drawn_in_the_colour_of_their_line():
    fig = params_plot(run(), show_exploration=True)
    dots, lines = fig.data[:2], fig.data[2:]
    assert [t.xaxis for t in dots] == ["x2", "x2"]
    assert [t.marker.color for t in dots] == [t.line.color for t in lines]
    assert [t.legendgroup for t in dots] == [t.legendgroup for t in lines]


# --------------------------------------------------------------------------------------- real runs


def solve(**kwargs):
    def criterion(p):
        x = jnp.array([p["a"], p["b"]])
        return jnp.sum(x**2 + 10 * (1 - jnp.cos(2 * jnp.pi * x)))

    return om.minimize(
        criterion,
        {"a": 2.1, "b": -1.2},
        "scipy_lbfgsb",
        bounds=om.Bounds(lower={"a": -3, "b": -3}, upper={"a": 3, "b": 3}),
        multistart=om.MultistartOptions(n_samples=20, stopping_maxopt=4, seed=0),
        **kwargs,
    )


PICTURES = [
    lambda source: criterion_plot(source, show_exploration=True),
    lambda source: criterion_plot(source, stack_multistart=True, x_axis="time"),
    lambda source: params_plot(source, show_exploration=True),
]


def test_a_log_gives_the_picture_of_the_result(tmp_path):
    result = solve(logging=tmp_path / "run.db")
    for picture in PICTURES:
        assert picture(tmp_path / "run.db") == picture(result)
    n_local = result.multistart_info.n_optimizations
    stacked = criterion_plot(result, stack_multistart=True).data[0]
    assert set(stacked.customdata[:, 3]) == set(range(1, n_local + 1))
    best = criterion_plot(result).data[-1]
    assert best.y.tolist() == result.history.fun
    dots = criterion_plot(result, show_exploration=True).data[1]
    np.testing.assert_array_equal(dots.y[::-1], result.multistart_info.exploration_results)


def test_a_result_without_history_is_drawn_from_its_log(tmp_path):
    log = SQLiteLogOptions(tmp_path / "run.db", if_database_exists="extend")
    mine = solve(logging=log, collect_history=False)
    om.minimize(lambda x: x**2, 3.0, "scipy_lbfgsb", logging=log)
    first = om.SQLiteLogReader(tmp_path / "run.db").read_multistart_history(run=0)
    for picture in PICTURES:
        assert picture(mine) == picture(first)


def test_the_log_of_a_run_that_goes_on_shows_what_it_has_done_so_far(tmp_path):
    record = RunRecord("minimize", "some", {}, TREE.names, TREE.to_json(), np.ones(2), {})
    log = LogWriter(SQLiteLogOptions(tmp_path / "run.db"), record)
    log.rows.write(np.zeros(2), 7.0, 0.0, 1.0, "fun", "start", 0)
    for i, value in enumerate([9.0, NAN, 5.0], 1):
        log.rows.write(np.zeros(2), value, i, i + 1, "fun", "exploration", i)
    dots, *start = criterion_plot(tmp_path / "run.db", show_exploration=True).data
    assert dots.y.tolist() == [9.0, 7.0, 5.0]
    # a single point is drawn as a dot, too
    assert [trace.y.tolist() for trace in start] == [[7.0], [7.0]]

    for number, values in ((1, [5.0, 3.0]), (2, [6.0])):
        with log.steps().open(number) as (rows, _):
            for i, value in enumerate(values):
                rows.write(np.zeros(2), value, 4 + i, 5 + i, "fun", "path", i)
    local = history([5.0, 3.0], 4.0), history([6.0], 4.0)
    so_far = MultistartHistory(explored([7.0, 9.0, NAN, 5.0]), local)
    for options in ({}, {"stack_multistart": True, "x_axis": "time"}):
        options["show_exploration"] = True
        assert criterion_plot(tmp_path / "run.db", **options) == criterion_plot(so_far, **options)
    log.finish("complete", success=True, message="", fun=3.0)
