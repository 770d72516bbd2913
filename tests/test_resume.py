"""A run goes on from its log as if it had not been interrupted, and only if it is the same run."""

import math
import os
import signal
import subprocess
import sys
import time
import warnings
from dataclasses import replace
from pathlib import Path
from textwrap import dedent

import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

import optimagic_lite as om
from optimagic_lite.exceptions import LogError, LogMissingError

BOX = om.Bounds(lower=-3 * np.ones(2), upper=3 * np.ones(2))
OPTIONS = om.MultistartOptions(
    n_samples=40, stopping_maxopt=6, seed=1, convergence_max_discoveries=10
)


class Boom(BaseException):
    """What no policy for errors catches, like the death of the process."""


class Counted:
    """A criterion with many valleys that is interrupted after so many calls."""

    def __init__(self, limit=math.inf):
        self.limit, self.n_calls = limit, 0

    def __call__(self, params):
        self.n_calls += 1
        if self.n_calls > self.limit:
            raise Boom
        x = np.asarray(params)
        return float(np.sum(x**2 + 10 * (1 - np.cos(2 * np.pi * x))))


class Banana(Counted):
    """A criterion that keeps a local algorithm busy."""

    def __call__(self, params):
        super().__call__(params)
        return float((1 - params[0]) ** 2 + 100 * (params[1] - params[0] ** 2) ** 2)


def solve(fun, log=None, resume=False, *, params=(2.5, 2.5), algorithm="scipy_lbfgsb", **more):
    return om.minimize(
        fun,
        np.array(params),
        algorithm,
        logging=log,
        resume=resume,
        **({"bounds": BOX} | more),
    )


@pytest.fixture
def log(tmp_path):
    return tmp_path / "run.db"


def interrupted(log, limit, kind=Counted, **more):
    with pytest.raises(Boom):
        solve(kind(limit), log, **more)


def comparable(result):
    """What must not depend on interruptions."""
    info = result.multistart_info
    return {
        "fun": result.fun,
        "params": result.params.tolist(),
        "message": result.message,
        "success": result.success,
        "n_fun_evals": result.n_fun_evals,
        "n_iterations": result.n_iterations,
        "optima": [(r.fun, r.params.tolist(), r.message, r.nfev) for r in info.local_optima],
        "starts": [start.tolist() for start in info.start_parameters],
        "explored": info.exploration_results,
        "discoveries": info.n_discoveries,
        "failures": info.failures,
        "histories": [h.fun for h in info.history.local_histories],
    }


# --- local algorithms -------------------------------------------------------------------


def test_a_local_run_goes_on_from_its_best_point(log):
    interrupted(log, 20, Banana, algorithm="nlopt_neldermead")
    reader = om.SQLiteLogReader(log)
    n_before, best = len(reader.read_history()), reader.best()

    fun = Banana()
    result = solve(fun, log, resume=True, algorithm="nlopt_neldermead")

    history = result.history
    assert history.fun[:n_before] == reader.read_history().fun[:n_before]
    assert (history.kind[n_before], history.fun[n_before]) == ("start", best.fun)
    np.testing.assert_array_equal(history.flat_params[n_before], best.flat_params)
    assert history.fun == reader.read_history().fun
    assert history.batches == sorted(set(history.batches))
    assert history.stop_time == sorted(history.stop_time)
    assert result.n_fun_evals == len(history) == n_before + fun.n_calls
    assert result.start_params.tolist() == [2.5, 2.5]
    assert result.start_fun == history.fun[0]
    assert result.fun == min(history.fun) <= best.fun


def test_the_log_has_one_run_that_tells_of_its_interruption(log):
    interrupted(log, 5)
    solve(Counted(), log, resume=True, algorithm="scipy_neldermead", bounds=BOX)
    [run] = om.SQLiteLogReader(log).runs().to_dict("records")
    assert (run["status"], run["algorithm"]) == ("complete", "scipy_neldermead")
    [before] = run["resumed"]
    assert (before["status"], before["algorithm"]) == ("failed", "scipy_lbfgsb")
    assert before["message"] == "Boom: "
    assert run["started"].timestamp() < before["resumed_at"] <= run["ended"].timestamp()
    assert run["start_params"].tolist() == [2.5, 2.5]


def test_a_run_that_ended_at_a_limit_goes_on(log):
    few = {"stopping_maxfun": 20}
    first = solve(Banana(), log, algorithm="scipy_neldermead", algo_options=few)
    assert not first.success
    second = solve(Banana(), log, True, algorithm="scipy_neldermead", algo_options=few)
    # the limit is that of one call
    assert (first.n_fun_evals, second.n_fun_evals) == (20, 40)
    assert second.fun <= first.fun
    third = solve(Banana(), log, True, algorithm="scipy_neldermead")
    assert third.success
    assert third.n_fun_evals == len(third.history) == len(om.SQLiteLogReader(log).read_history())


def test_jax_and_maximize_and_trees_and_constraints_go_on(log):
    def fun(params):
        return -jnp.sum((params["shares"] - jnp.array([0.2, 0.3, 0.5])) ** 2) - params["b"] ** 2

    problem = {
        "fun": fun,
        "params": {"shares": np.full(3, 1 / 3), "b": 2.0},
        "algorithm": "optimistix_bfgs",
        "constraints": om.ProbabilityConstraint(lambda p: p["shares"]),
        "logging": log,
    }
    few = {"stopping_maxiter": 2}
    first = om.maximize(**problem, algo_options=few)
    result = om.maximize(**problem, resume=True)
    assert first.fun < result.fun
    np.testing.assert_allclose(result.params["shares"], [0.2, 0.3, 0.5], atol=1e-5)
    assert result.history.fun[: len(first.history)] == first.history.fun
    assert result.history.fun[len(first.history)] == pytest.approx(first.fun, rel=1e-12)
    assert len(om.SQLiteLogReader(log).read_history()) == len(result.history)


def test_the_callback_knows_of_what_was_before(log):
    interrupted(log, 12)
    n_before = len(om.SQLiteLogReader(log).read_history())
    states = []
    solve(Counted(), log, True, callback=states.append)
    assert states[0].n_fun_evals == n_before + 1
    assert states[0].elapsed > 0


def test_fixed_params_may_be_resumed_at_their_values_only(log):
    fixed = om.FixedConstraint(lambda x: x[0])
    interrupted(log, 10, constraints=fixed)
    result = solve(Counted(), log, True, constraints=fixed)
    assert result.params[0] == 2.5
    with pytest.raises(LogError, match=r"number 0, values, number 0: 2.5 in the log, 2.0 now"):
        solve(Counted(), log, True, constraints=fixed, params=(2.0, 2.5))


@pytest.mark.parametrize("bounds_as", ["bounds", "transform"])
def test_a_best_point_on_an_edge_keeps_its_value(log, bounds_as):
    problem = {
        "fun": lambda x: float(np.sum((x - np.array([-4.0, 2.0])) ** 2)),
        "params": np.zeros(2),
        "bounds": BOX,
        "logging": log,
    }
    found = om.minimize(**problem, algorithm="scipy_lbfgsb")
    assert found.params[0] == -3
    # an open form of the bound cannot begin there
    few = {"stopping_maxfun": 2}
    result = om.minimize(
        **problem, algorithm="nlopt_bobyqa", algo_options=few, bounds_as=bounds_as, resume=True
    )
    assert result.params.tolist() == found.params.tolist()
    assert result.fun == found.fun == problem["fun"](result.params)
    assert om.SQLiteLogReader(log).runs()["fun"].tolist() == [found.fun]


@pytest.mark.parametrize("shift", [0.0, 1.0])
def test_other_data_are_noticed_in_the_same_process_too(log, shift):
    @om.mark.least_squares
    def residuals(params, y):
        return jnp.exp(params[0] * jnp.arange(3.0)) + params[1] - y

    y = np.array([1.0, 2.0, 4.5])
    problem = {"fun": residuals, "params": np.zeros(2), "algorithm": "scipy_ls_lm", "logging": log}
    om.minimize(**problem, fun_kwargs={"y": y}, algo_options={"stopping_maxfun": 4})
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        om.minimize(**problem, fun_kwargs={"y": y + shift}, resume=True)
    assert [("the same fun" in str(w.message)) for w in caught] == [True] * bool(shift)


def test_batches_are_those_of_the_log(log):
    few = {"stopping_maxfun": 3}
    solve(Banana(), log, algo_options=few)
    result = solve(Banana(), log, True, algo_options=few)
    assert result.history.batches == om.SQLiteLogReader(log).read_history().batches


def test_a_run_that_failed_at_its_start_may_begin_well_the_second_time(log):
    with pytest.raises(om.exceptions.UserFunctionRuntimeError):
        solve(lambda x: math.nan, log)
    result = solve(Counted(), log, True)
    assert result.start_fun == 52.5
    with pytest.raises(om.exceptions.UserFunctionRuntimeError):
        solve(lambda x: math.nan, log, True)


def test_without_a_history_the_rest_is_the_same(log):
    interrupted(log, 10)
    result = solve(Counted(), log, True, collect_history=False)
    assert result.history is None
    assert result.n_fun_evals == len(om.SQLiteLogReader(log).read_history())


def test_a_run_without_any_value_begins_at_the_start(log):
    with pytest.raises(om.exceptions.UserFunctionRuntimeError):
        solve(lambda x: math.nan, log)
    result = solve(Counted(), log, True)
    assert result.success
    assert om.SQLiteLogReader(log).n_runs == 1


# --- multistart -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def whole():
    fun = Counted()
    return comparable(solve(fun, multistart=OPTIONS)), fun.n_calls


@pytest.mark.parametrize("share", [0.01, 0.03, 0.1, 0.2, 0.4, 0.7, 0.99])
def test_multistart_goes_on_as_if_nothing_had_happened(log, whole, share):
    expected, n_calls = whole
    limit = int(share * n_calls)
    interrupted(log, limit, multistart=OPTIONS)
    fun = Counted()
    result = solve(fun, log, True, multistart=OPTIONS)

    assert comparable(result) == expected
    ended = [s for s in om.SQLiteLogReader(log).read_steps() if s.stop_time]
    assert [s.step for s in ended] == [1, 2, 3, 4, 5, 6]
    # at most the start and the optimisation that was under way are evaluated again
    assert fun.n_calls <= n_calls - limit + 70


def test_a_run_that_is_complete_is_read_and_not_computed(log, whole):
    solve(Counted(), log, multistart=OPTIONS)
    fun = Counted()
    assert comparable(solve(fun, log, True, multistart=OPTIONS)) == whole[0]
    assert fun.n_calls == 1


def test_interrupted_twice_on_other_cores(log, whole):
    interrupted(log, 60, multistart=OPTIONS)
    interrupted(log, 100, multistart=OPTIONS, resume=True)
    spread = replace(OPTIONS, n_cores=2, batch_evaluator="threading")
    result = solve(Counted(), log, True, multistart=spread)
    assert comparable(result) == whole[0]


def test_more_optimisations_and_points_may_be_asked_for_later(log):
    solve(Counted(), log, multistart=OPTIONS)
    more = replace(OPTIONS, stopping_maxopt=8, n_samples=60)
    fun = Counted()
    result = solve(fun, log, True, multistart=more)
    assert result.multistart_info.n_optimizations == 8
    assert result.multistart_info.n_explored == 60
    first = result.multistart_info.local_optima[:6]
    logged = om.SQLiteLogReader(log).read_steps()
    assert [r.fun for r in first] == [s.fun for s in logged[:6]]
    # the best points that none has begun with come next
    origins = [step.arrays["origin"].tolist() for step in logged]
    ranked = [point.tolist() for point in result.multistart_info.exploration_sample]
    assert origins[6:] == [point for point in ranked if point not in origins[:6]][:2]


def test_a_sample_without_a_seed_is_drawn_again(log):
    options = replace(OPTIONS, seed=None)
    interrupted(log, 25, multistart=options)
    explored = om.SQLiteLogReader(log).read_history().flat_params[1:]
    result = solve(Counted(), log, True, multistart=options)
    assert result.multistart_info.n_explored == 40
    sample = {tuple(p) for p in result.multistart_info.exploration_sample}
    assert {tuple(p) for p in explored} <= sample
    assert len(sample) == 40


def test_a_generator_is_a_seed_that_the_log_knows(log):
    options = replace(OPTIONS, seed=np.random.default_rng(3))
    interrupted(log, 60, multistart=options)
    fun = Counted()
    result = solve(fun, log, True, multistart=replace(OPTIONS, seed=np.random.default_rng(8)))
    assert result.multistart_info.n_explored == 40
    assert fun.n_calls < 300


@pytest.mark.parametrize("point", [0.2, -3.0])
def test_a_start_that_the_space_moves_is_the_same_start(log, point):
    problem = {"params": (point, 1.0), "bounds_as": "transform", "multistart": OPTIONS}
    expected = comparable(solve(Counted(), **problem))
    interrupted(log, 60, **problem)
    assert comparable(solve(Counted(), log, True, **problem)) == expected


@pytest.mark.parametrize("sample", [None, [[1.0, 1.0], [-2.0, 0.5], [0.4, 0.4]]])
def test_failures_stay_failures(log, sample):
    def half(params):
        if params[0] < -1:
            raise ValueError("too low")
        return Counted()(params)

    def once(params):
        once.n_calls += 1
        if once.n_calls > 30:
            raise Boom
        return half(params)

    once.n_calls = 0
    options = (
        replace(OPTIONS, error_handling="continue")
        if sample is None
        else om.MultistartOptions(sample=sample, stopping_maxopt=2)
    )
    with pytest.warns(UserWarning, match="too low"):
        expected = comparable(solve(half, multistart=options))
    with pytest.raises(Boom), pytest.warns(UserWarning, match="too low"):
        solve(once, log, multistart=options)
    # what failed before is not evaluated again, so nothing need be said of it again
    result = solve(half, log, True, multistart=options)
    assert comparable(result) == expected
    assert result.n_failed_evals >= 1


def test_the_result_knows_derivatives_and_precision_after_all(log):
    @om.mark.least_squares
    def residuals(params):
        return jnp.stack([params[0] - 1, params[1] ** 2 - 2, params[0] * params[1] - 1])

    problem = {
        "fun": residuals,
        "params": np.array([0.5, 0.5]),
        "algorithm": "scipy_ls_trf",
        "bounds": BOX,
        "multistart": OPTIONS,
    }
    expected = om.minimize(**problem)
    om.minimize(**problem, logging=log)
    result = om.minimize(**problem, logging=log, resume=True)
    np.testing.assert_array_equal(result.params, expected.params)
    np.testing.assert_allclose(result.jac, expected.jac, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(result.standard_errors(), expected.standard_errors())
    assert result.derivatives.kind == "exact"


def test_killed_on_two_cores_it_goes_on(log, whole):
    code = f"""
        import sys, time
        sys.path[:0] = [{str(Path(__file__).parents[1])!r}, {str(Path(__file__).parent)!r}]
        import numpy as np, optimagic_lite as om, test_resume as t

        def slow(x):
            time.sleep(0.01)
            return t.Counted()(x)

        t.solve(slow, {str(log)!r}, multistart=t.replace(t.OPTIONS, n_cores=2))
    """
    process = subprocess.Popen(
        [sys.executable, "-c", dedent(code)], stderr=subprocess.PIPE, start_new_session=True
    )
    try:
        reader, deadline = None, time.monotonic() + 60
        while (reader is None or not reader.read_steps()) and time.monotonic() < deadline:
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.02)
            if reader is None and log.exists() and log.stat().st_size > 2_000:
                reader = om.SQLiteLogReader(log)
        with pytest.raises(LogError, match=f"still going on, in process {process.pid}"):
            solve(Counted(), log, True, multistart=OPTIONS)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    assert om.SQLiteLogReader(log).runs()["status"].tolist() == ["died"]
    fun = Counted()
    assert comparable(solve(fun, log, True, multistart=OPTIONS)) == whole[0]
    assert fun.n_calls < whole[1] - 40
    assert om.SQLiteLogReader(log).runs()["status"].tolist() == ["complete"]


# --- what is refused --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"params": (2.5, 2.5, 0.0), "bounds": None},
            "names of params: 2 in the log, 3 now; without a counterpart: '2'",
        ),
        ({"bounds": None}, "bounds, lower, 0: -3.0 in the log, nothing now"),
        (
            {"constraints": om.FixedConstraint(lambda x: x[1])},
            r"constraints: 0 in the log, 1 now; without a counterpart: {'type': 'fixed', 'params'",
        ),
        ({"multistart": OPTIONS}, "multistart: False in the log, True now"),
    ],
)
def test_another_problem_is_refused_by_its_differences(log, change, message):
    interrupted(log, 5)
    before = om.SQLiteLogReader(log).runs()["n_evaluations"].tolist()
    fun = Counted()
    with pytest.raises(LogError, match="is of another problem") as error:
        solve(fun, log, True, **change)
    assert error.match(message)
    assert fun.n_calls == 0
    assert om.SQLiteLogReader(log).runs()["n_evaluations"].tolist() == before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"multistart": replace(OPTIONS, seed=2)}, "multistart, seed: 1 in the log, 2 now"),
        ({"multistart": replace(OPTIONS, sampling_method="sobol")}, "sampling_method: 'random'"),
        ({"algorithm": "nlopt_bobyqa"}, "algorithm: 'scipy_lbfgsb' in the log, 'nlopt_bobyqa'"),
        ({"scaling": True}, "scaling: nothing in the log"),
        ({"params": (2.0, 2.5)}, "start params, 0: 2.5 in the log, 2.0 now"),
        ({"multistart": False}, "multistart: True in the log, False now"),
    ],
)
def test_another_multistart_problem_is_refused(log, change, message):
    interrupted(log, 60, multistart=OPTIONS)
    with pytest.raises(LogError, match=message):
        solve(Counted(), log, True, **({"multistart": OPTIONS} | change))


def test_problems_are_the_same_however_their_parts_are_made(log):
    class Limit:
        def __call__(self, x):
            return x["value"]["a"]

    def again():
        rows = pd.DataFrame({"value": [2.5, 2.5], "note": [math.nan, None]}, index=["a", "b"])
        between = om.NonlinearConstraint(func=Limit(), lower_bound=-2)
        total = om.LinearConstraint(weights=np.ones(2), upper_bound=9.0)
        return rows, [between, total]

    params, constraints = again()
    problem = {"algorithm": "scipy_slsqp", "logging": log, "bounds": om.Bounds(lower=-3, upper=3)}
    fun = lambda p: float((p["value"] ** 2).sum())  # noqa: E731
    om.minimize(fun, params, constraints=constraints, **problem)
    params, constraints = again()
    result = om.minimize(fun, params, constraints=constraints[::-1], resume=True, **problem)
    np.testing.assert_allclose(result.params["value"], 0, atol=1e-6)


def test_another_direction_is_refused(log):
    interrupted(log, 5)
    with pytest.raises(LogError, match="direction: 'minimize' in the log, 'maximize' now"):
        om.maximize(Counted(), np.array([2.5, 2.5]), "scipy_lbfgsb", logging=log, resume=True)


def test_another_criterion_is_noticed(log):
    interrupted(log, 10)
    with pytest.warns(UserWarning, match="See that it is the same fun, with the same data"):
        solve(lambda x: Counted()(x) + 1, log, True)


def test_another_criterion_is_noticed_in_multistart(log):
    interrupted(log, 60, multistart=OPTIONS)
    with pytest.warns(UserWarning, match="See that it is the same fun, with the same data"):
        solve(lambda x: Counted()(x) + 1, log, True, multistart=OPTIONS)


def test_a_run_that_goes_on_in_this_process_cannot_be_resumed(log):
    fun = Counted()

    def resuming(x):
        if fun.n_calls == 3:
            with pytest.raises(LogError, match=f"still going on, in process {os.getpid()}"):
                solve(Counted(), log, True)
        return fun(x)

    assert solve(resuming, log).success
    assert fun.n_calls > 3


@pytest.mark.parametrize("exists", [False, True])
def test_nothing_to_resume_is_an_error_or_a_beginning(log, exists):
    if exists:
        log.touch()
    with pytest.raises(LogMissingError, match='resume="if_exists" begins one'):
        solve(Counted(), log, True)
    result = solve(Counted(), log, "if_exists")
    assert result.success
    again = solve(Counted(), log, "if_exists")
    assert om.SQLiteLogReader(log).n_runs == 1
    assert again.n_fun_evals > result.n_fun_evals


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"resume": True}, "needs logging="),
        ({"resume": "always"}, "must be True, False or 'if_exists'"),
        (
            {"resume": True, "log": om.SQLiteLogOptions("x.db", if_database_exists="replace")},
            "would delete it",
        ),
    ],
)
def test_what_makes_no_sense_is_refused(arguments, message):
    with pytest.raises(LogError, match=message):
        solve(Counted(), **arguments)
