"""Multistart: finds global optima, keeps constraints, records all, is the same on any cores."""

import math
import os
import pickle
import signal
import warnings
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compilations import count_compilations
from conformance import (
    CENTER,
    DISTINCT,
    INFO,
    OUTSIDE_JAX,
    START,
    criterion,
    flat,
    jax_criterion,
    tree,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from test_conformance_constraints import CASES

import optimagic_lite as om
from optimagic_lite.algorithms.base import REGISTRY
from optimagic_lite.exceptions import (
    InvalidFunctionError,
    InvalidMultistartError,
    UserFunctionRuntimeError,
)
from optimagic_lite.log.writer import LogWriter
from optimagic_lite.multistart.sample import mixing_weights
from optimagic_lite.multistart.search import count_close

LOCAL = [name for name in DISTINCT if not INFO[name].is_global]
BOX = om.Bounds(lower=np.full(2, -4.0), upper=np.full(2, 5.0))
OPTIONS = om.MultistartOptions(
    n_samples=200, stopping_maxopt=40, convergence_max_discoveries=4, seed=4
)


def rastrigin(x):
    """Minimum 0 at 0, and a local one close to each point with whole coordinates."""
    return jnp.sum(x**2 + 10 * (1 - jnp.cos(2 * jnp.pi * x)))


def rastrigin_numpy(x):
    return float(np.sum(x**2 + 10 * (1 - np.cos(2 * np.pi * x))))


def himmelblau(x):
    """Four minima with value 0 (Himmelblau 1972); one in each quadrant."""
    return (x[0] ** 2 + x[1] - 11) ** 2 + (x[0] + x[1] ** 2 - 7) ** 2


def solve(fun=rastrigin, start=(2.1, 2.9), algorithm="scipy_lbfgsb", multistart=OPTIONS, **more):
    bounds = more.pop("bounds", BOX)
    params = np.array(start)
    return om.minimize(fun, params, algorithm, bounds=bounds, multistart=multistart, **more)


def same(first, second):
    """Check that two results tell the same, but for times."""
    np.testing.assert_array_equal(first.params, second.params)
    for name in ("fun", "n_fun_evals", "n_jac_evals", "n_iterations", "message", "success"):
        assert first[name] == second[name], name
    one, two = first.multistart_info, second.multistart_info
    np.testing.assert_array_equal(one.start_parameters, two.start_parameters)
    np.testing.assert_array_equal(one.exploration_sample, two.exploration_sample)
    assert one.exploration_results == two.exploration_results
    assert [r.fun for r in one.local_optima] == [r.fun for r in two.local_optima]
    np.testing.assert_array_equal(first.history.flat_params, second.history.flat_params)


# ---- it finds what one start does not ------------------------------------------------------------


@pytest.mark.parametrize("fun", [rastrigin, rastrigin_numpy])
@pytest.mark.parametrize("algorithm", ["scipy_lbfgsb", "nlopt_bobyqa"])
def test_finds_the_global_minimum_where_one_start_does_not(fun, algorithm):
    single = om.minimize(fun, np.array([2.1, 2.9]), algorithm, bounds=BOX)
    assert single.fun > 1
    result = solve(fun, algorithm=algorithm)
    assert result.success
    np.testing.assert_allclose(result.params, 0, atol=1e-5)
    assert "often enough" in result.message


@pytest.mark.parametrize("name", LOCAL)
def test_works_with_each_local_algorithm(name):
    params = START if name in OUTSIDE_JAX else tree(START)
    fun = criterion(name) if name in OUTSIDE_JAX else jax_criterion(name)
    near = om.Bounds(soft_lower=-3.0, soft_upper=3.0)
    options = {"n_samples": 8, "stopping_maxopt": 1, "seed": 0}
    result = om.minimize(
        fun, params, name, bounds=near, multistart=options, algo_options={"stopping_maxfun": 2_000}
    )
    found = result.params if name in OUTSIDE_JAX else flat(result.params)
    np.testing.assert_allclose(found, CENTER, atol=2e-2)
    info = result.multistart_info
    assert info.n_optimizations == 1
    # the start is one of the explored points
    total = 8 + sum(local.n_fun_evals for local in info.local_optima)
    assert result.n_fun_evals == total


def test_maximize_has_the_users_sign_everywhere():
    result = om.maximize(
        lambda x: -rastrigin(x), np.array([2.1, 2.9]), "scipy_lbfgsb", bounds=BOX,
        multistart=OPTIONS,
    )  # fmt: skip
    np.testing.assert_allclose(result.params, 0, atol=1e-5)
    values = result.multistart_info.exploration_results
    assert values == sorted(values, reverse=True)
    assert max(values) < 0
    assert all(local.direction == "maximize" for local in result.multistart_info.local_optima)
    assert result.fun == max(local.fun for local in result.multistart_info.local_optima)


def test_residuals_and_likelihoods_are_explored_by_their_totals():
    t = np.linspace(0, 1, 12)
    y = np.sin(9 * t)

    @om.mark.least_squares
    def residuals(params):
        return jnp.sin(params["w"] * t) - y

    result = om.minimize(
        residuals, {"w": 25.0}, "scipy_ls_trf", bounds=om.Bounds(lower=0.0, upper=30.0),
        multistart=om.MultistartOptions(n_samples=40, seed=1),
    )  # fmt: skip
    assert result.params["w"] == pytest.approx(9, abs=1e-6)
    assert result.start_fun > 1
    assert result.standard_errors()["w"] < 1e-6
    best = result.multistart_info.local_optima[0]
    assert best.standard_errors()["w"] < 1


@pytest.mark.parametrize("scaling", [False, True])
@pytest.mark.parametrize("bounds_as", ["bounds", "transform"])
def test_scaled_and_transformed_parameters_are_explored_alike(scaling, bounds_as):
    result = solve(scaling=scaling, bounds_as=bounds_as)
    np.testing.assert_allclose(result.params, 0, atol=1e-5)
    plain = solve().multistart_info.exploration_sample
    explored = result.multistart_info.exploration_sample
    atol = 1e-9 if bounds_as == "bounds" else 2e-2
    for point in explored:
        assert np.abs(np.array(plain) - point).max(axis=1).min() < atol


# ---- constraints ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("algorithm", "kind"),
    [("scipy_slsqp", kind) for kind in CASES]
    + [("scipy_bfgs", kind) for kind in CASES if "linear" not in kind],
)
def test_every_constraint_holds_at_all_points(kind, algorithm, tmp_path):
    case = CASES[kind]
    target = case.target

    def fun(x):
        return jnp.sum((x - target) ** 2)

    result = om.minimize(
        fun, case.start, algorithm, constraints=case.constraints,
        bounds=om.Bounds(soft_lower=-3.0, soft_upper=3.0) if "cov" not in kind else None,
        multistart=om.MultistartOptions(n_samples=12, stopping_maxopt=3, seed=2),
        logging=tmp_path / "run.db",
    )  # fmt: skip
    np.testing.assert_allclose(result.params, case.minimum, atol=1e-3)
    assert result.n_free == case.n_free
    frame = om.SQLiteLogReader(tmp_path / "run.db").to_frame()
    explored = frame[frame["kind"] == "exploration"]
    assert len(explored) == 11
    rows = explored[result.history.flat_param_names].to_numpy()
    assert len(np.unique(rows.round(9), axis=0)) == 11
    assert case.excess(rows) < 1e-7


def test_explored_points_that_violate_native_constraints_come_last():
    def outside(x):
        return x[0] + x[1]

    circle = om.NonlinearConstraint(func=lambda x: x[0] ** 2 + x[1] ** 2, upper_bound=4.0)
    result = om.minimize(
        outside, np.array([0.5, 0.5]), "scipy_slsqp", bounds=BOX, constraints=circle,
        multistart=om.MultistartOptions(n_samples=50, stopping_maxopt=5, seed=0),
    )  # fmt: skip
    np.testing.assert_allclose(result.params, -math.sqrt(2) * np.ones(2), atol=1e-4)
    points = np.array(result.multistart_info.exploration_sample)
    violates = (points**2).sum(axis=1) > 4 + 1e-6
    assert violates.any()
    assert (np.diff(violates.astype(int)) >= 0).all()


# ---- the same on any cores -----------------------------------------------------------------------


@pytest.mark.parametrize("fun", [rastrigin, rastrigin_numpy])
def test_the_same_seed_gives_the_same_result_on_any_cores(fun, tmp_path):
    def on(n_cores, batch_evaluator):
        options = om.MultistartOptions(
            n_samples=40, stopping_maxopt=8, seed=3, n_cores=n_cores,
            batch_evaluator=batch_evaluator,
        )  # fmt: skip
        log = tmp_path / f"{batch_evaluator}{n_cores}.db"
        return solve(fun, multistart=options, logging=log)

    first = on(1, "joblib")
    frame = first.logger.to_frame().drop(columns=["time", "start_time", "stop_time", "batch"])
    for n_cores, batch_evaluator in ((1, "joblib"), (2, "joblib"), (2, "threading")):
        if (n_cores, batch_evaluator) != (1, "joblib"):
            other = on(n_cores, batch_evaluator)
            same(first, other)
            columns = frame.columns
            assert frame.equals(other.logger.to_frame()[columns])


def test_another_seed_gives_another_sample():
    samples = [
        np.array(
            solve(multistart={"n_samples": 9, "seed": seed}).multistart_info.exploration_sample
        )
        for seed in (1, 1, 2)
    ]
    np.testing.assert_array_equal(samples[0], samples[1])
    assert not np.array_equal(samples[0], samples[2])


def test_a_custom_batch_evaluator_is_used_with_one_core_too():
    calls = []

    def evaluate(func, arguments, *, n_cores, error_handling="continue", unpack_symbol=None):
        arguments = list(arguments)
        calls.append((len(arguments), n_cores, error_handling))
        return [func(argument) for argument in arguments]

    options = {"n_samples": 40, "stopping_maxopt": 8, "seed": 3, "batch_evaluator": evaluate}
    result = solve(rastrigin_numpy, multistart=options)
    same(result, solve(rastrigin_numpy, multistart=options | {"batch_evaluator": "joblib"}))
    assert calls


def test_more_cores_than_optimisations_at_once_are_warned_of():
    with pytest.warns(UserWarning, match="batch_size=16"):
        solve(multistart={"n_samples": 4, "n_cores": 16, "batch_evaluator": "threading"})


def test_a_killed_worker_loses_nothing(tmp_path):
    flag = tmp_path / "killed"
    begun = os.getpid()

    def fun(x):
        # once, in the middle of a local optimisation in another process
        if os.getpid() != begun and abs(x[0] - 1) < 0.3 and not flag.exists():
            flag.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return float(x @ x)

    options = om.MultistartOptions(
        n_samples=8, stopping_maxopt=4, seed=0, n_cores=2, convergence_max_discoveries=math.inf
    )
    result = solve(fun, (1.0, 1.0), multistart=options, logging=tmp_path / "run.db")
    assert flag.exists()
    assert result.multistart_info.n_optimizations == 4
    assert result.multistart_info.failures == []
    frame = result.logger.to_frame()
    assert sorted(frame["step"].unique()) == [0, 1, 2, 3, 4]
    # rows of the attempt that was killed are there as well
    assert len(frame) >= result.n_fun_evals + result.n_numdiff_evals
    logged = result.logger.read_multistart_history().local_histories
    kept = result.multistart_info.history.local_histories
    assert [history.fun for history in logged] == [history.fun for history in kept]


def test_points_at_which_a_worker_dies_are_left_out(tmp_path):
    begun = os.getpid()

    def fun(x):
        if os.getpid() != begun and x[0] < -3.7:
            os.kill(os.getpid(), signal.SIGKILL)
        return float(x @ x)

    options = {"n_samples": 12, "stopping_maxopt": 2, "seed": 0, "n_cores": 2}
    with pytest.warns(UserWarning, match="process died"):
        result = solve(fun, (1.0, 1.0), multistart=options, logging=tmp_path / "run.db")
    np.testing.assert_allclose(result.params, 0, atol=1e-5)
    info = result.multistart_info
    assert len(info.exploration_sample) < info.n_explored == 12
    assert result.logger.to_frame()["exception"].str.contains("WorkerDiedError").any()


def test_warnings_of_workers_reach_the_user_once():
    calls, here = [], os.getpid()

    def fun(x):
        calls.append(x)
        is_seventh = len(calls) % 7 == 0 and os.getpid() != here
        return math.nan if is_seventh else rastrigin_numpy(x)

    options = om.MultistartOptions(n_samples=10, stopping_maxopt=4, seed=0, n_cores=2)
    with pytest.warns(UserWarning, match="A user function failed") as caught:
        solve(fun, (1.1, 0.0), multistart=options, error_handling="continue")
    messages = [str(warning.message) for warning in caught]
    assert any("with a penalty" in message for message in messages)
    assert len(messages) == len(set(messages))


# ---- options -------------------------------------------------------------------------------------


def test_defaults_follow_the_number_of_inputs():
    info = solve(multistart=om.MultistartOptions(seed=0, convergence_max_discoveries=99))
    assert len(info.multistart_info.exploration_sample) == 200
    assert info.multistart_info.n_optimizations == 20
    fewer = solve(multistart={"seed": 0, "stopping_maxopt": 3, "convergence_max_discoveries": 99})
    assert len(fewer.multistart_info.exploration_sample) == 30
    assert fewer.multistart_info.n_optimizations == 3


def test_true_is_enough():
    assert solve(multistart=True).multistart_info.n_optimizations >= 1
    assert solve(multistart=False).multistart_info is None


def test_ends_when_the_best_optimum_was_found_often_enough():
    def bowl(x):
        return jnp.sum((x - 1) ** 2)

    counts = [
        solve(
            bowl,
            multistart={"seed": 0, "batch_size": 1, "convergence_max_discoveries": discoveries},
        ).multistart_info
        for discoveries in (1, 2, 5)
    ]
    assert [info.n_optimizations for info in counts] == [1, 2, 5]
    assert [info.n_discoveries for info in counts] == [1, 2, 5]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=2), st.integers(0, 2**32))
def test_distances_treat_positive_and_negative_optima_alike(point, seed):
    point = np.array(point)
    near = point + 0.02 * np.random.default_rng(seed).normal(size=(20, 2)) * np.abs(point)
    assert count_close(near, point, 0.01) == count_close(-near, -point, 0.01)
    assert count_close(point[None], point, 0.0) == 1
    far = point + 3 * np.maximum(np.abs(point), 0.1)
    assert count_close(far[None], point, 0.01) == 0


def test_weights_of_tiktak_and_linear():
    tiktak = mixing_weights(om.MultistartOptions(), 100)
    assert [tiktak[i] for i in (0, 1, 25, 64)] == [0.1, 0.1, 0.5, 0.8]
    linear = mixing_weights(om.MultistartOptions(mixing_weight_method="linear"), 4)
    assert linear == pytest.approx([0.1, 0.32375, 0.5475, 0.77125])


@pytest.mark.parametrize(
    ("method", "message"),
    [
        (lambda i, n: 0.5, r"mixing_weight_method\(0, 20, 0.1, 0.995\) raised TypeError"),
        (lambda i, n, low, high: math.nan, "must be a number from 0 to 1, not nan"),
        (lambda i, n, low, high: 0.3 * i, r"mixing_weight_method\(4, .*not 1.2"),
        (lambda i, n, low, high: "a", "not 'a'"),
        (lambda i, n, low, high: None, "not None"),
    ],
)
def test_wrong_weights_are_refused_before_the_first_evaluation(method, message):
    calls = []
    with pytest.raises(InvalidMultistartError, match=message):
        solve(lambda x: calls.append(x) or 1.0, multistart={"mixing_weight_method": method})
    assert calls == []


def test_a_weight_of_one_starts_all_at_the_best_point_and_of_zero_at_the_sample():
    seen = []

    def ones(i, n, low, high):
        seen.append((i, n, low, high))
        return 1.0

    common = {"n_samples": 10, "stopping_maxopt": 3, "batch_size": 1, "seed": 0}
    common["convergence_max_discoveries"] = math.inf
    mixed = solve(himmelblau, multistart=common | {"mixing_weight_method": ones}).multistart_info
    assert seen == [(i, 3, 0.1, 0.995) for i in range(3)]
    np.testing.assert_allclose(mixed.start_parameters[1], mixed.local_optima[0].params)
    plain = solve(
        himmelblau, multistart=common | {"mixing_weight_method": lambda i, n, low, high: 0.0}
    ).multistart_info
    np.testing.assert_array_equal(plain.start_parameters, plain.exploration_sample[:3])


def test_the_users_own_sample_is_explored():
    sample = [np.array([3.0, 2.0]), np.array([-3.0, 3.0]), np.array([3.5, -1.5])]
    options = om.MultistartOptions(sample=sample, stopping_maxopt=2)
    result = solve(himmelblau, (0.0, 0.0), multistart=options)
    info = result.multistart_info
    found = sorted(map(tuple, info.exploration_sample))
    assert found == sorted(map(tuple, sample))
    assert info.exploration_results == sorted(himmelblau(x) for x in sample)
    assert result.fun < 1e-8


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_samples": 0}, "n_samples"),
        ({"n_samples": 2.5}, "n_samples"),
        ({"n_samples": True}, "n_samples"),
        ({"stopping_maxopt": 0}, "stopping_maxopt"),
        ({"n_samples": 5, "stopping_maxopt": 6}, "needs an explored point"),
        ({"sampling_distribution": "unifrom"}, "Did you mean 'uniform'"),
        ({"sampling_method": "sobool"}, "Did you mean 'sobol'"),
        ({"sampling_method": 3}, "sampling_method"),
        ({"mixing_weight_method": "tiktok"}, "Did you mean 'tiktak'"),
        ({"mixing_weight_bounds": (0.9, 0.1)}, "mixing_weight_bounds"),
        ({"mixing_weight_bounds": (0.1,)}, "mixing_weight_bounds"),
        ({"mixing_weight_bounds": 0.5}, "mixing_weight_bounds"),
        ({"convergence_xtol_rel": -1}, "convergence_xtol_rel"),
        ({"convergence_max_discoveries": 0}, "convergence_max_discoveries"),
        ({"n_cores": 0}, "n_cores"),
        ({"batch_evaluator": "jobllib"}, "Did you mean 'joblib'"),
        ({"batch_size": 2, "n_cores": 3}, "less than n_cores"),
        ({"seed": "one"}, "seed"),
        ({"seed": -1}, "seed must be .* at least 0"),
        ({"sample": [1.0], "n_samples": 4}, "leave n_samples out"),
        ({"sample": [1.0], "sampling_method": "sobol"}, "leave sampling_method out"),
        ({"error_handling": "ignore"}, "error_handling"),
        ({"n_sample": 3}, "Did you mean 'n_samples'"),
        ("yes", "MultistartOptions or a dict"),
    ],
)
def test_wrong_options_are_refused(options, message):
    with pytest.raises(InvalidMultistartError, match=message):
        solve(multistart=options)


def test_missing_bounds_are_refused_by_name_before_the_first_evaluation():
    calls = []
    with pytest.raises(InvalidMultistartError, match="b_1"):
        om.minimize(
            lambda p: calls.append(1) or 1.0, {"a": 1.0, "b": np.ones(2)}, "scipy_lbfgsb",
            bounds=om.Bounds(lower={"a": 0, "b": -1}, upper={"a": 2, "b": np.array([3, np.inf])}),
            multistart=True,
        )  # fmt: skip
    assert calls == []


def test_global_algorithms_are_refused():
    name = next(name for name in sorted(REGISTRY) if INFO[name].is_global)
    with pytest.raises(InvalidMultistartError, match="searches the whole box by itself"):
        solve(algorithm=name)


def test_without_free_parameters_there_is_nothing_to_explore():
    result = solve(constraints=om.FixedConstraint(lambda x: x), bounds=None)
    np.testing.assert_array_equal(result.params, [2.1, 2.9])
    assert result.success


def test_one_sample_is_the_start():
    result = solve(multistart={"n_samples": 1})
    assert result.multistart_info.n_optimizations == 1
    np.testing.assert_array_equal(result.multistart_info.start_parameters, [[2.1, 2.9]])


# ---- failures ------------------------------------------------------------------------------------


def half(x):
    """Fails in half of the box."""
    if x[0] > 0.5:
        raise ZeroDivisionError("on the right")
    return rastrigin_numpy(x)


@pytest.mark.parametrize("n_cores", [1, 2])
def test_points_that_fail_are_left_out_recorded_and_never_best(n_cores, tmp_path):
    options = om.MultistartOptions(
        n_samples=30, stopping_maxopt=4, seed=1, n_cores=n_cores, batch_evaluator="threading"
    )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="A user function failed")
        result = solve(half, (-2.0, 0.0), multistart=options, logging=tmp_path / "run.db")
    info = result.multistart_info
    explored = np.array(info.exploration_sample)
    assert len(explored) < 30
    assert (explored[:, 0] <= 0.5).all()
    assert np.isfinite(info.exploration_results).all()
    frame = result.logger.to_frame()
    failed = frame[(frame["kind"] == "exploration") & frame["exception"].notna()]
    assert len(failed) == 30 - len(explored)
    assert failed["exception"].str.contains("on the right").all()
    assert failed["traceback"].str.contains("in half").all()
    assert result.n_failed_evals >= len(failed)
    history = info.history.exploration
    assert np.isnan(history.fun).sum() == len(failed)


def test_nan_of_a_jax_criterion_is_left_out():
    def fun(x):
        return jnp.where(x[0] > 1, jnp.nan, rastrigin(x))

    with pytest.warns(UserWarning, match="A user function failed") as caught:
        result = solve(fun, (-2.0, 0.0), error_handling="continue")
    assert "goes on without that point" in str(caught[0].message)
    assert result.fun < 1e-8
    assert np.isfinite(result.multistart_info.exploration_results).all()


def test_error_handling_raise_ends_the_run_at_the_first_failure(tmp_path):
    options = {"n_samples": 30, "seed": 1, "error_handling": "raise"}
    with pytest.raises(UserFunctionRuntimeError, match="on the right") as caught:
        solve(half, (-2.0, 0.0), multistart=options, logging=tmp_path / "run.db")
    assert caught.value.partial_result.fun <= rastrigin_numpy(np.array([-2.0, 0.0]))
    reader = om.SQLiteLogReader(tmp_path / "run.db")
    assert reader.runs()["status"].tolist() == ["failed"]


def test_all_points_failing_is_an_error():
    def fun(x):
        return 1.0 if (x == [2.1, 2.9]).all() else math.nan

    sample = [np.zeros(2), np.ones(2)]
    with (
        pytest.warns(UserWarning, match="A user function failed"),
        pytest.raises(UserFunctionRuntimeError, match="All 2 points of the exploration failed"),
    ):
        solve(fun, multistart={"sample": sample})


def test_all_local_optimisations_failing_is_an_error_that_says_why():
    seen = []

    def fun(x):
        seen.append(x)
        if len(seen) > 10:
            raise ZeroDivisionError("too many")
        return rastrigin_numpy(x)

    with pytest.raises(
        UserFunctionRuntimeError, match=r"All local .* failed, 4 of them.*too many"
    ) as caught:
        solve(fun, multistart={"n_samples": 10, "stopping_maxopt": 4, "seed": 0})
    error = caught.value
    assert isinstance(error.params, np.ndarray)
    assert error.partial_result.multistart_info.failures[0].count("too many") == 1
    assert error.partial_result.success is False


def test_some_local_optimisations_failing_leaves_the_others():
    def fun(x):
        if 1.3 < x[0] < 1.8:
            raise ZeroDivisionError("in the middle")
        return rastrigin_numpy(x)

    options = {"n_samples": 40, "stopping_maxopt": 12, "seed": 0, "batch_size": 1}
    options["convergence_max_discoveries"] = math.inf
    options["mixing_weight_method"] = lambda i, n, low, high: 0.0
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="A user function failed")
        result = solve(fun, (-2.0, 0.0), "nlopt_neldermead", multistart=options)
    info = result.multistart_info
    assert result.fun < 1e-6
    assert len(info.failures) + len(info.local_optima) == info.n_optimizations == 12
    assert len(info.start_parameters) == len(info.local_optima)
    assert info.failures
    assert f"12 local optimisations ({len(info.failures)} failed)" in str(result)


def test_a_wrong_return_value_is_raised_at_once():
    def fun(x):
        return rastrigin_numpy(x) if (x == [2.1, 2.9]).all() else "much"

    with pytest.raises(InvalidFunctionError):
        solve(fun)


# ---- what is recorded ----------------------------------------------------------------------------


def test_counts_are_the_calls_of_the_criterion(tmp_path):
    points = []

    def fun(x):
        points.append(x)
        return rastrigin_numpy(x)

    result = solve(fun, multistart=OPTIONS, logging=tmp_path / "run.db")
    assert len(points) == result.n_fun_evals + result.n_numdiff_evals
    frame = result.logger.to_frame()
    calls = frame[frame["task"] == "fun"]
    assert len(calls) == len(points)
    np.testing.assert_array_equal(
        calls[["x0", "x1"]] if "x0" in calls else calls.iloc[:, -2:], points
    )
    assert result.logger.runs()["n_evaluations"].tolist() == [len(frame)]


@pytest.mark.parametrize("n_cores", [1, 2])
def test_the_log_tells_what_the_result_tells(n_cores, tmp_path):
    options = om.MultistartOptions(n_samples=20, stopping_maxopt=5, seed=0, n_cores=n_cores)
    result = solve(multistart=options, logging=tmp_path / "run.db")
    logged = om.SQLiteLogReader(tmp_path / "run.db").read_multistart_history()
    kept = result.multistart_info.history
    assert len(logged.local_histories) == result.multistart_info.n_optimizations
    pairs = [(logged.exploration, kept.exploration), (logged.history, result.history)]
    pairs += zip(logged.local_histories, kept.local_histories, strict=True)
    for one, two in pairs:
        assert one.fun == two.fun
        np.testing.assert_array_equal(one.flat_params, two.flat_params)
        np.testing.assert_allclose(one.start_time, two.start_time)
    assert kept.exploration.kind == ["start"] + ["exploration"] * 19
    assert len(kept.stacked) == sum(map(len, kept.local_histories))
    # one clock for the whole run
    assert min(kept.stacked.start_time) >= max(kept.exploration.stop_time)
    row = om.SQLiteLogReader(tmp_path / "run.db").runs().iloc[-1]
    assert (row["status"], row["fun"], row["message"]) == ("complete", result.fun, result.message)
    assert result.logger.best().fun == result.fun


def test_rows_of_other_machines_come_with_the_result(tmp_path, monkeypatch):
    options = om.MultistartOptions(n_samples=10, stopping_maxopt=3, seed=0)
    here = solve(multistart=options, logging=tmp_path / "here.db")
    steps = LogWriter.steps
    monkeypatch.setattr(LogWriter, "steps", lambda self: replace(steps(self), host="elsewhere"))
    there = solve(multistart=options, logging=tmp_path / "there.db")
    times = ["time", "start_time", "stop_time"]
    frame = there.logger.to_frame().drop(columns=times)
    assert sorted(frame["step"].unique()) == [0, 1, 2, 3]
    assert frame.equals(here.logger.to_frame().drop(columns=times))


def test_the_best_evaluation_of_all_is_returned():
    result = solve(multistart=OPTIONS)
    histories = [result.multistart_info.history.exploration]
    histories += result.multistart_info.history.local_histories
    assert result.fun == min(min(history.fun) for history in histories)
    assert result.history.monotone_fun[-1] == result.fun
    assert result.start_fun == pytest.approx(rastrigin_numpy(np.array([2.1, 2.9])))


def test_without_a_history_nothing_else_changes():
    full, bare = solve(), solve(collect_history=False)
    assert bare.history is None
    assert bare.multistart_info.history is None
    assert bare.fun == full.fun
    assert bare.multistart_info.exploration_results == full.multistart_info.exploration_results


def test_a_result_travels_through_pickle():
    def fun(p):
        return rastrigin(p["x"]) + p["y"] ** 2

    with jax.enable_x64(True):
        start = {"x": jnp.array([2.1, 2.9]), "y": 0.1}
    bounds = om.Bounds(lower=-4.0, upper=5.0)
    result = om.minimize(fun, start, "scipy_lbfgsb", bounds=bounds, multistart=OPTIONS)
    again = pickle.loads(pickle.dumps(result))
    assert again.multistart_info.exploration_results == result.multistart_info.exploration_results
    for one, two in zip(
        again.multistart_info.start_parameters, result.multistart_info.start_parameters, strict=True
    ):
        assert one["x"].dtype == two["x"].dtype == np.float64
        np.testing.assert_array_equal(one["x"], two["x"])
    assert str(again) == str(result)


def test_multistart_info_is_read_by_key_too():
    info = solve().multistart_info
    assert info["local_optima"] is info.local_optima
    assert info["n_optimizations"] == info.n_optimizations
    with pytest.raises(KeyError, match="Did you mean 'local_optima'"):
        info["local_optimas"]


def test_nothing_is_compiled_twice():
    def fun(x):
        return rastrigin(x) + jnp.sum(jnp.abs(x)) ** 3

    solve(fun, multistart=OPTIONS)
    with count_compilations() as counter:
        solve(fun, (1.0, 1.0), multistart=om.MultistartOptions(n_samples=200, seed=9))
    assert counter == [0]


# ---- callbacks, interruptions, progress ----------------------------------------------------------


@pytest.mark.parametrize("n_cores", [1, 2])
def test_the_callback_ends_the_whole_run(n_cores):
    def callback(state):
        return state.n_fun_evals >= 23

    options = om.MultistartOptions(
        n_samples=20, stopping_maxopt=10, seed=0, n_cores=n_cores, batch_size=2
    )
    result = solve(multistart=options, callback=callback)
    assert result.success is False
    assert "callback" in result.message
    assert result.multistart_info.n_optimizations == n_cores
    assert result.n_fun_evals == 20 + 3 * n_cores


def test_the_callback_ends_the_exploration():
    result = solve(callback=lambda state: state.n_fun_evals >= 5)
    assert result.success is False
    assert "callback" in result.message
    info = result.multistart_info
    assert info.n_optimizations == 0
    assert info.n_explored == len(info.exploration_sample) == result.n_fun_evals


def test_the_callback_sees_all_evaluations_with_counts_of_the_whole_run():
    seen = []
    options = om.MultistartOptions(n_samples=20, stopping_maxopt=5, seed=0, batch_size=1)
    result = solve(rastrigin_numpy, multistart=options, callback=seen.append)
    counts = [state.n_fun_evals for state in seen]
    assert len(seen) == counts[-1] == result.n_fun_evals
    assert sorted(counts) == counts
    assert seen[-1].best_fun == result.fun
    best = np.minimum.accumulate([state.fun for state in seen])
    np.testing.assert_array_equal([s.best_fun for s in seen][20:], best[20:])


def test_an_error_in_the_callback_is_raised_as_it_is():
    def callback(state):
        if state.n_fun_evals == 3:
            raise ZeroDivisionError("in the callback")

    with pytest.raises(ZeroDivisionError, match="in the callback"):
        solve(callback=callback)


def test_ctrl_c_keeps_what_was_found(tmp_path):
    points = []

    def fun(x):
        points.append(x)
        if len(points) == 150:
            raise KeyboardInterrupt
        return rastrigin_numpy(x)

    with pytest.raises(KeyboardInterrupt) as caught:
        solve(fun, algorithm="nlopt_bobyqa", logging=tmp_path / "run.db")
    partial = caught.value.partial_result
    assert partial.success is False
    assert partial.n_fun_evals == partial.multistart_info.n_explored == 149
    assert partial.fun == min(rastrigin_numpy(x) for x in points[:-1])
    reader = om.SQLiteLogReader(tmp_path / "run.db")
    assert reader.runs()["status"].tolist() == ["interrupted"]
    assert len(reader.to_frame()) == 149


def test_the_bar_counts_all_evaluations(capsys):
    result = solve(progress=True)
    shown = capsys.readouterr().err
    assert f"{result.n_fun_evals} evaluations" in shown
