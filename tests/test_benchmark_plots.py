"""The plots of benchmarks, by the values that they draw."""

from __future__ import annotations

import numpy as np
import pytest

import optimagic_lite as om
from optimagic_lite.exceptions import InvalidBenchmarkError, InvalidPlottingBackendError


def problem(n_params=1, known=True):
    inputs = {"fun": sum, "params": np.full(n_params, 10.0)}
    solution = {"value": 0.0} | ({"params": np.zeros(n_params)} if known else {})
    return {"inputs": inputs, "solution": solution, "start_criterion": 100.0}


def run(values, n_params=1, solution=None):
    values = np.array(values, dtype=float)
    return {
        "params_history": np.repeat(np.sqrt(np.abs(values))[:, None], n_params, axis=1),
        "criterion_history": values,
        "time_history": np.arange(1.0, len(values) + 1) / 10,
        "batches_history": np.arange(len(values)) // 2,
        "solution": solution,
    }


PROBLEMS = {"one": problem(), "two": problem(3)}
# needed: 2 and 4 by a, 4 and never by b, an error and 2 by c
RESULTS = {
    ("one", "a"): run([100, 0, 0]),
    ("one", "b"): run([100, 50, 20, 0]),
    ("one", "c"): run([100], solution="Traceback"),
    ("two", "a"): run([100, 90, 80, 0], 3),
    ("two", "b"): run([100, 60, 70, np.nan], 3),
    ("two", "c"): run([100, 0], 3),
}


def lines(fig):
    return {trace.name: (list(trace.x), list(trace.y)) for trace in fig.data}


def at(line, x):
    """The height of a line that rises in steps."""
    xs, ys = line
    return ys[np.searchsorted(xs, x, side="right") - 1]


# ---- profiles --------------------------------------------------------------------------------


def test_a_profile_is_the_share_of_problems_solved_within_a_budget():
    drawn = lines(om.profile_plot(PROBLEMS, RESULTS))

    assert [at(drawn["a"], x) for x in (0, 1.9, 2, 3.9, 4)] == [0, 0, 0.5, 0.5, 1]
    assert [at(drawn["b"], x) for x in (2, 4, 4.1)] == [0, 0.5, 0.5]
    assert [at(drawn["c"], x) for x in (1, 2, 4)] == [0, 0.5, 0.5]
    # all lines begin and end together
    assert (
        len({xs[0] for xs, _ in drawn.values()}) == len({xs[-1] for xs, _ in drawn.values()}) == 1
    )


def test_a_performance_profile_counts_in_multiples_of_the_fastest():
    fig = om.profile_plot(PROBLEMS, RESULTS, normalize_runtime=True)
    drawn = lines(fig)

    # a needs what is least for the first problem and twice that for the second
    assert [at(drawn["a"], x) for x in (1, 1.9, 2)] == [0.5, 0.5, 1]
    assert [at(drawn["b"], x) for x in (1, 2)] == [0, 0.5]
    assert fig.layout.xaxis.type == "log"


def test_a_data_profile_counts_in_simplex_gradients():
    drawn = lines(om.profile_plot(PROBLEMS, RESULTS, normalize_runtime="simplex_gradients"))

    # 2 evaluations of 1 parameter, 4 of 3
    assert [at(drawn["a"], x) for x in (0.9, 1)] == [0, 1]
    # 2 evaluations of 3 parameters
    assert [at(drawn["c"], x) for x in (0.4, 0.5)] == [0, 0.5]


def test_other_budgets():
    by_time = lines(om.profile_plot(PROBLEMS, RESULTS, runtime_measure="walltime"))
    by_batch = lines(om.profile_plot(PROBLEMS, RESULTS, runtime_measure="n_batches"))

    assert [at(by_time["a"], x) for x in (0.19, 0.2, 0.4)] == [0, 0.5, 1]
    assert [at(by_batch["a"], x) for x in (1, 2)] == [0.5, 1]


def test_a_profile_of_failures_is_flat():
    results = {key: run([100, 99]) for key in RESULTS if key[0] == "one"}
    drawn = lines(om.profile_plot({"one": problem()}, results))

    assert {y for _, ys in drawn.values() for y in ys} == {0}


def test_the_legend_is_sorted_by_success():
    fig = om.profile_plot(PROBLEMS, RESULTS)

    ranked = sorted(fig.data, key=lambda trace: trace.legendrank)
    assert [trace.name for trace in ranked] == ["a", "c", "b"]


def test_algorithms_that_ran_on_different_problems_are_not_compared():
    results = {key: found for key, found in RESULTS.items() if key != ("two", "b")}

    for plot in (om.profile_plot, om.deviation_plot):
        with pytest.raises(InvalidBenchmarkError, match="no result of b on problem 'two'"):
            plot(PROBLEMS, results)


# ---- convergence -----------------------------------------------------------------------------


def cells(fig):
    """The lines of each plot of a grid."""
    found = {}
    for trace in fig.data:
        found.setdefault(trace.xaxis, {})[trace.name] = (list(trace.x), list(trace.y))
    return list(found.values())


def test_each_problem_has_a_plot_with_a_line_for_each_algorithm():
    fig = om.convergence_plot(PROBLEMS, RESULTS)
    first, second = cells(fig)

    assert [note.text for note in fig.layout.annotations] == ["one", "two"]
    assert list(first) == list(second) == ["a", "b", "c"]
    # the line ends where the problem is solved
    assert first["a"] == ([1, 2], [1, 0])
    assert second["b"] == ([1, 2, 4], [1, 0.6, 0.6])
    assert [trace.showlegend for trace in fig.data] == [True] * 3 + [False] * 3


def test_values_instead_of_shares_have_a_line_for_the_solution():
    fig = om.convergence_plot(
        PROBLEMS, RESULTS, monotone=False, normalize_distance=False, problem_subset="two"
    )
    (found,) = cells(fig)

    assert found["b"][1][:3] == [100, 60, 70]
    assert np.isnan(found["b"][1][3])
    assert set(found["solution"][1]) == {0}


def test_distances_of_parameters():
    fig = om.convergence_plot(
        PROBLEMS, RESULTS, distance_measure="parameter_distance", normalize_distance=False
    )

    assert cells(fig)[1]["a"][1] == pytest.approx([np.sqrt(300), np.sqrt(270), np.sqrt(240), 0])


def test_problems_without_known_solution_are_left_out_of_distances():
    problems = {"one": problem(), "two": problem(3, known=False)}

    with pytest.warns(UserWarning, match="no unique, known solution: two"):
        fig = om.convergence_plot(problems, RESULTS, distance_measure="parameter_distance")
    assert len(cells(fig)) == 1


def test_subsets_keep_the_colours():
    every = om.convergence_plot(PROBLEMS, RESULTS)
    some = om.convergence_plot(
        PROBLEMS, RESULTS, algorithm_subset=["c"], combine_plots_in_grid=False
    )

    assert list(some) == ["one", "two"]
    (trace,) = some["two"].data
    assert trace.name == "c"
    assert trace.line.color == every.data[2].line.color


def test_zero_is_drawn_on_a_logarithmic_axis():
    fig = om.convergence_plot(PROBLEMS, RESULTS, log_scale=True)

    assert fig.layout.yaxis.type == "log"
    assert cells(fig)[0]["a"][1] == pytest.approx([1, 0.02])
    # what is solved needs no further decades
    results = RESULTS | {("one", "b"): run([100, 1e-30])}
    fig = om.convergence_plot(PROBLEMS, results, log_scale=True)
    assert cells(fig)[0]["b"][1] == pytest.approx([1, 1e-5])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"problem_subset": ["on"]}, "Did you mean 'one'"),
        ({"algorithm_subset": []}, "is empty"),
        ({"n_cols": 0}, "n_cols"),
        ({"distance_measure": "params"}, "distance_measure must be one of"),
        ({"backend": "plotli"}, "plotly"),
    ],
)
def test_wrong_arguments_are_refused(options, said):
    with pytest.raises((ValueError, InvalidPlottingBackendError), match=said):
        om.convergence_plot(PROBLEMS, RESULTS, **options)


def test_values_below_the_known_optimum_are_as_good_as_that():
    results = RESULTS | {("one", "a"): run([100, -50])}

    assert cells(om.convergence_plot(PROBLEMS, results))[0]["a"] == ([1, 2], [1, 0])
    deviation = lines(om.deviation_plot(PROBLEMS, results))["a"]
    assert at(deviation, 4) == pytest.approx(0)


@pytest.mark.parametrize("backend", ["plotly", "matplotlib"])
def test_runs_without_any_number_are_drawn(backend, tmp_path):
    results = {("one", "a"): run([np.nan], solution="Traceback")}
    problems = {"one": {"inputs": {"fun": sum, "params": np.ones(1)}}}

    for plot in (om.convergence_plot, om.deviation_plot):
        drawn = plot(problems, results, log_scale=True, backend=backend)
        if backend == "matplotlib":
            np.ravel(drawn)[0].figure.savefig(tmp_path / "figure.png")


# ---- deviations ------------------------------------------------------------------------------


def test_deviations_are_means_over_problems():
    drawn = lines(om.deviation_plot(PROBLEMS, RESULTS))

    # of the first problem 0 are missing, of the second 0.9, 0.8 and 0
    assert [at(drawn["a"], x) for x in (1, 2, 3, 4)] == pytest.approx([1, 0.45, 0.4, 0])
    # what ends keeps its distance, what failed stays at the start
    assert [at(drawn["b"], x) for x in (2, 3, 4)] == pytest.approx([0.55, 0.4, 0.3])
    assert [at(drawn["c"], x) for x in (1, 2, 4)] == pytest.approx([1, 0.5, 0.5])


def test_deviations_by_time_begin_at_the_start():
    drawn = lines(om.deviation_plot(PROBLEMS, RESULTS, runtime_measure="walltime"))

    assert at(drawn["a"], 0.0) == 1
    assert at(drawn["a"], 0.41) == pytest.approx(0)


@pytest.mark.parametrize("plot", [om.profile_plot, om.convergence_plot, om.deviation_plot])
def test_matplotlib_draws_the_same(plot):
    drawn = plot(PROBLEMS, RESULTS, backend="matplotlib")

    axes = np.ravel(drawn)
    labels = {label for ax in axes for label in ax.get_legend_handles_labels()[1]}
    labels |= {t.get_text() for legend in axes[0].figure.legends for t in legend.get_texts()}
    assert {"a", "b", "c"} <= labels
