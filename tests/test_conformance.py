"""Every registered algorithm does what it declares, and records what it does."""

import dataclasses
import math
import time
import typing

import jax
import numpy as np
import pytest
from conformance import (
    BOUNDED,
    BOUNDED_MINIMUM,
    BOUNDS,
    CALLBACK,
    CAN_MAXIMIZE,
    CENTER,
    COARSE,
    COARSE_AT_SIDES,
    EVERY,
    GLOBAL,
    HESSIAN,
    INFO,
    INSIDE_JAX,
    LEAST_SQUARES,
    MAXFUN,
    MAXITER,
    MAXTIME,
    START,
    UNBOUNDED,
    Recorder,
    assert_minimum,
    criterion,
    derivative,
    flat,
    fun_numpy,
    jax_criterion,
    marked,
    minimize,
    negative_jax_criterion,
    solve,
    status_in_file,
    structure,
    tree,
    vector,
)

import optimagic_lite as om
from optimagic_lite.algorithms.base import REGISTRY, option_types
from optimagic_lite.exceptions import (
    IncompleteBoundsError,
    InvalidAlgoOptionError,
    InvalidBoundsError,
    InvalidFunctionError,
    NotAvailableError,
)

CALLED = [name for name in EVERY if name not in INSIDE_JAX]

every = pytest.mark.parametrize("name", EVERY)
every_outside_jax = pytest.mark.parametrize("name", CALLED)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """One finished run of each algorithm, on which many claims are checked."""
    folder = tmp_path_factory.mktemp("runs")
    done = {}

    def run(name):
        if name not in done:
            done[name] = solve(name, folder)
        return done[name]

    return run


# ---- the criterion is the same in every structure ------------------------------------------------


@every
def test_each_structure_adds_up_to_the_same_criterion(name):
    d = START - CENTER
    by_hand = np.cosh(d[0]) + np.cosh(d[1]) + 2 * np.cosh(d[2]) - 4 + (d[0] - d[1]) ** 2 / 2
    value = criterion(name)(START)
    assert np.ndim(value) == (structure(name) != "scalar")
    total = value @ value if structure(name) == "least_squares" else np.sum(value)
    assert total == pytest.approx(by_hand, rel=1e-13)
    assert fun_numpy(START) == pytest.approx(by_hand, rel=1e-13)
    with jax.enable_x64(True):
        in_jax = jax_criterion(name)(tree(START))
        jacobian = jax.jacobian(jax_criterion(name))(tree(START))
    np.testing.assert_allclose(in_jax, value, rtol=1e-13)
    exact = np.column_stack([jacobian["b"], jacobian["a"]]) if np.ndim(value) else flat(jacobian)
    np.testing.assert_allclose(derivative(name)(START), exact, atol=1e-14)


# ---- it finds minima -----------------------------------------------------------------------


@every
def test_free_minimum_of_a_jax_criterion_of_a_tree(name):
    result = minimize(name, jax_criterion(name), tree(START))
    assert list(result.params) == ["b", "a"]
    assert isinstance(result.params["b"], float)
    assert_minimum(result, flat(result.params), CENTER)
    if INFO[name].needs_jac:
        assert result.derivatives.kind == "exact"


@every_outside_jax
def test_free_minimum_of_a_numpy_criterion(name):
    result = minimize(name, criterion(name), START)
    assert_minimum(result, result.params, CENTER)
    if INFO[name].needs_jac:
        assert result.derivatives.kind == "numerical"
        assert "jax.numpy" in result.derivatives.reason
    if result.hess is not None:
        np.testing.assert_allclose(result.hess, HESSIAN, atol=1e-2)


@pytest.mark.parametrize("name", [n for n in CALLED if INFO[n].needs_jac])
def test_free_minimum_with_the_users_gradient(name):
    fun = Recorder(name)
    result = minimize(name, marked(name, fun), START, jac=derivative(name))
    assert_minimum(result, result.params, CENTER)
    assert result.derivatives.kind == "user"
    assert len(fun.points) == result.n_fun_evals + result.n_numdiff_evals
    if not INFO[name].needs_hess:
        assert result.n_numdiff_evals == 0


@pytest.mark.parametrize("name", INSIDE_JAX)
def test_a_numpy_criterion_is_refused_by_solvers_inside_jax(name):
    with pytest.raises(NotAvailableError, match=r"jax\.numpy"):
        om.minimize(criterion(name), START, name)


@pytest.mark.parametrize("name", CAN_MAXIMIZE)
def test_maximize(name):
    result = minimize(name, negative_jax_criterion(name), tree(START), task=om.maximize)
    assert_minimum(result, flat(result.params), CENTER)
    assert -(0.1 if name in COARSE else 1e-3) < result.fun <= 1e-12
    assert result.start_fun == pytest.approx(-fun_numpy(START))
    assert result.history.fun[0] == pytest.approx(result.start_fun)
    assert (np.diff(result.history.monotone_fun) >= 0).all()


@pytest.mark.parametrize("name", LEAST_SQUARES)
def test_a_sum_of_squares_is_not_maximized(name):
    calls = []

    def fun(params):
        calls.append(params)
        return jax_criterion(name)(params)

    with pytest.raises(InvalidFunctionError, match="cannot be maximized"):
        om.maximize(marked(name, fun), tree(START), name)
    assert not calls


# ---- bounds --------------------------------------------------------------------------------


def assert_converged(result, params, minimum):
    """Check that a run converged to a minimum, or is global and ran into a limit close to it."""
    assert result.success or result.algorithm in GLOBAL, result.message
    assert_minimum(result, params, minimum, COARSE | COARSE_AT_SIDES)


@pytest.mark.parametrize(
    ("name", "kind"),
    [(n, k) for n in BOUNDED for k in BOUNDS if k == "two-sided" or not INFO[n].needs_bounds],
)
def test_binding_bounds_are_reached_and_never_left(name, kind, tmp_path):
    bounds = BOUNDS[kind]
    limit = 1_000 if name in GLOBAL else 10_000
    run = solve(name, tmp_path, bounds=bounds, algo_options={"stopping_maxfun": limit})
    assert_converged(run.result, vector(run.result.params), BOUNDED_MINIMUM)
    assert run.result.max_constraint_violation == 0
    lower, upper = (np.asarray(side) for side in (bounds.lower, bounds.upper))
    logged = run.log.to_frame()[run.result.history.flat_param_names].to_numpy()
    for points in (logged, *([] if run.points is None else [np.array(run.points)])):
        assert (points >= lower).all()
        assert (points <= upper).all()


@pytest.mark.parametrize("name", BOUNDED)
def test_start_on_a_bound(name):
    start = np.array([-0.3, BOUNDED_MINIMUM[1], BOUNDED_MINIMUM[2]])
    fun, start = (jax_criterion, tree(start)) if name in INSIDE_JAX else (criterion, start)
    result = minimize(name, fun(name), start, bounds=BOUNDS["two-sided"])
    assert_converged(result, vector(result.params), BOUNDED_MINIMUM)


@pytest.mark.parametrize("name", [n for n in EVERY if INFO[n].needs_bounds])
def test_a_box_with_an_open_side_is_refused_by_those_that_search_all_of_it(name):
    calls = []
    with pytest.raises(IncompleteBoundsError, match=f"{name} searches a box.*missing for 0"):
        om.minimize(calls.append, START, name, bounds=BOUNDS["one-sided"])
    assert not calls


@pytest.mark.parametrize("name", UNBOUNDED)
def test_bounds_are_refused_by_those_that_cannot_keep_them(name):
    params = tree(START)
    with pytest.raises(InvalidBoundsError, match=f"{name} cannot keep bounds") as caught:
        om.minimize(jax_criterion(name), params, name, bounds=om.Bounds(upper={"b": 3.0}))
    named = [other for other in EVERY if f" {other}" in str(caught.value).split("can:")[1]]
    assert named
    assert set(named) <= set(BOUNDED)


# ---- limits --------------------------------------------------------------------------------


def assert_stopped(run, status, word):
    assert run.result.success is False
    assert run.result.status == status
    assert word in run.result.message
    assert run.log.runs()["status"].iloc[-1] == "complete"
    assert run.result.fun == np.nanmin(run.result.history.fun)


@every
@pytest.mark.parametrize("limit", [1, 3])
def test_stopping_maxfun(name, limit, tmp_path):
    run = solve(name, tmp_path, algo_options={"stopping_maxfun": limit})
    assert_stopped(run, MAXFUN, "stopping_maxfun")
    assert run.result.n_fun_evals == limit
    assert len(run.result.history) == limit
    if run.points is not None:
        assert len(run.points) == limit + run.result.n_numdiff_evals


@every
def test_stopping_maxiter(name, runs, tmp_path):
    free = runs(name).result
    run = solve(name, tmp_path, algo_options={"stopping_maxiter": 2})
    assert_stopped(run, MAXITER, "stopping_maxiter")
    assert run.result.n_fun_evals < free.n_fun_evals
    if not INFO[name].counts_iterations:
        assert run.result.n_fun_evals == 2
    if run.result.n_iterations is not None:
        assert run.result.n_iterations <= 2


@every
def test_stopping_maxtime(name, tmp_path):
    run = solve(
        name,
        tmp_path,
        callback=lambda _: time.sleep(0.02),
        algo_options={"stopping_maxtime": 0.05},
    )
    assert_stopped(run, MAXTIME, "stopping_maxtime")
    assert run.result.n_fun_evals <= 4


@pytest.mark.parametrize("name", INSIDE_JAX)
def test_stopping_maxtime_without_a_callback(name, tmp_path):
    options = {"stopping_maxtime": 1e-9}
    run = solve(name, tmp_path, algo_options=options)
    assert_stopped(run, MAXTIME, "stopping_maxtime")


# ---- records -------------------------------------------------------------------------------


@every
def test_history_log_and_counts_agree(name, runs):
    run = runs(name)
    history, frame = run.result.history, run.log.to_frame()
    rows = frame[frame["kind"].isin(["start", "path"])]
    assert len(history) == len(rows) == run.result.n_fun_evals
    assert history.kind == rows["kind"].tolist()
    assert history.kind.count("start") == 1
    assert history.kind[0] == "start"
    assert history.fun == rows["fun"].tolist()
    np.testing.assert_array_equal(history.flat_params, rows[history.flat_param_names])
    differences = frame[(frame["kind"] == "derivative") & (frame["task"] == "fun")]
    assert len(differences) == run.result.n_numdiff_evals
    assert frame["exception"].isna().all()
    again = run.log.read_history()
    assert again.fun == history.fun
    np.testing.assert_array_equal(again.flat_params, history.flat_params)


@every_outside_jax
def test_counts_are_the_calls_of_the_criterion(name, runs):
    run = runs(name)
    assert len(run.points) == run.result.n_fun_evals + run.result.n_numdiff_evals


@every
def test_values_in_the_history_belong_to_their_points(name, runs):
    history = runs(name).result.history
    picked = [0, len(history) // 2, -1]
    for fun, point in zip(np.array(history.fun)[picked], history.flat_params[picked], strict=True):
        assert fun == pytest.approx(fun_numpy(point), rel=1e-10, abs=1e-12)


@every
def test_the_best_evaluation_is_returned(name, runs):
    result = runs(name).result
    best = int(np.argmin(result.history.fun))
    assert result.fun == result.history.fun[best]
    np.testing.assert_array_equal(vector(result.params), result.history.flat_params[best])


@every
def test_times_in_the_history_are_ordered(name, runs):
    history = runs(name).result.history
    assert (np.diff(history.stop_time) >= 0).all()
    assert (np.array(history.stop_time) >= np.array(history.start_time)).all()


@every
def test_evaluates_what_its_declaration_says_and_nothing_else(name, runs):
    result, info = runs(name).result, INFO[name]
    assert (result.n_jac_evals > 0) == info.needs_jac
    if info.needs_hess:
        assert result.n_hess_evals > 0
    if not (info.needs_hess or info.uses_hess):
        assert result.n_hess_evals == 0
    if not info.needs_jac:
        assert result.n_numdiff_evals == 0
        assert result.derivatives.kind == "none"


@every
def test_two_runs_are_identical(name, runs, tmp_path):
    first, second = runs(name).result, solve(name, tmp_path).result
    np.testing.assert_array_equal(first.history.flat_params, second.history.flat_params)
    assert first.history.fun == second.history.fun
    assert first.message == second.message


@every
def test_the_history_does_not_steer_the_run(name, runs):
    full = runs(name).result
    params = START if name in CALLED else tree(START)
    fun = criterion(name) if name in CALLED else jax_criterion(name)
    options = {"stopping_maxfun": full.n_fun_evals}
    result = minimize(name, fun, params, algo_options=options, collect_history=False)
    assert result.history is None
    assert result.fun == full.fun
    assert result.n_fun_evals == full.n_fun_evals


@pytest.mark.parametrize("name", [n for n in CALLED if not INFO[n].needs_jac])
def test_a_criterion_that_changes_its_argument_changes_nothing(name, runs):
    def fun(x):
        value = fun_numpy(x)
        x[:] = np.nan
        return value

    expected = runs(name).result.history.flat_params
    result = minimize(name, fun, START, algo_options={"stopping_maxfun": len(expected)})
    np.testing.assert_array_equal(result.history.flat_params, expected)


# ---- callbacks and interruptions -------------------------------------------------------------


@every
def test_the_callback_sees_each_evaluation(name, tmp_path):
    seen = []
    result = solve(
        name, tmp_path, callback=seen.append, algo_options={"stopping_maxfun": 30}
    ).result
    assert [state.n_fun_evals for state in seen] == list(range(1, result.n_fun_evals + 1))
    assert [state.fun for state in seen] == result.history.fun
    points = np.array([vector(state.params) for state in seen])
    np.testing.assert_array_equal(points, result.history.flat_params)
    np.testing.assert_array_equal([s.best_fun for s in seen], result.history.monotone_fun)


def _stop_by(how, after):
    def callback(state):
        if state.n_fun_evals < after:
            return None
        if how is StopIteration:
            raise StopIteration
        return how

    return callback


@every
@pytest.mark.parametrize("how", [True, StopIteration], ids=str)
def test_the_callback_stops_the_run(name, how, tmp_path):
    run = solve(name, tmp_path, callback=_stop_by(how, 3))
    assert_stopped(run, CALLBACK, "callback")
    assert run.result.n_fun_evals == 3


@every
def test_the_callback_stops_the_run_at_the_start(name, tmp_path):
    run = solve(name, tmp_path, callback=_stop_by(True, 1))
    assert_stopped(run, CALLBACK, "callback")
    np.testing.assert_array_equal(vector(run.result.params), START)


@every
def test_other_return_values_of_the_callback_do_not_stop(name, runs, tmp_path):
    result = solve(name, tmp_path, callback=lambda state: 1.5).result
    assert result.n_fun_evals == runs(name).result.n_fun_evals


@every
def test_an_error_in_the_callback_is_raised_as_it_is(name, tmp_path):
    def callback(state):
        if state.n_fun_evals == 2:
            raise ZeroDivisionError("in the callback")

    with pytest.raises(ZeroDivisionError, match="in the callback"):
        solve(name, tmp_path, callback=callback)
    assert status_in_file(tmp_path / f"{name}.db") == "failed"


def assert_interrupted(name, caught, folder, n_rows):
    path = folder / f"{name}.db"
    partial = caught.value.partial_result
    assert partial.success is False
    assert "interrupted" in partial.message
    assert status_in_file(path) == "interrupted"
    rows = om.SQLiteLogReader(path).read_history()
    assert len(partial.history) == len(rows) == n_rows
    assert partial.fun == min(rows.fun)


@every
def test_ctrl_c_between_evaluations(name, tmp_path):
    def callback(state):
        if state.n_fun_evals == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as caught:
        solve(name, tmp_path, callback=callback)
    assert_interrupted(name, caught, tmp_path, 3)


@every_outside_jax
def test_ctrl_c_inside_the_criterion(name, tmp_path):
    class Interrupted(Recorder):
        def __call__(self, x):
            if len(self.points) == 3:
                raise KeyboardInterrupt
            return super().__call__(x)

    fun = Interrupted(name)
    jac = derivative(name) if INFO[name].needs_jac else None
    with pytest.raises(KeyboardInterrupt) as caught:
        minimize(name, marked(name, fun), START, jac=jac, logging=tmp_path / f"{name}.db")
    assert_interrupted(name, caught, tmp_path, 3)
    assert len(fun.points) == 3


# ---- options ---------------------------------------------------------------------------------


def _plain_type(hint):
    """The type of an option without range; None for those that have several."""
    origin = typing.get_origin(hint)
    if origin is typing.Annotated:
        return typing.get_args(hint)[0]
    return hint if origin is None else None


@every
def test_values_of_options_are_checked(name):
    cls = REGISTRY[name]
    for option, hint in option_types(cls).items():
        wrong = [object(), "no"]
        if _plain_type(hint) in (int, float):
            wrong += [math.nan, True]
        if _plain_type(hint) is int:
            wrong += [1.5, math.inf]
        if _plain_type(hint) is bool:
            wrong += [1, None]
        # the value of an optimum that is known may have any sign
        if option.startswith(("stopping_", "convergence_")) and "value" not in option:
            wrong += [-1]
        if option.startswith("stopping_"):
            wrong += [0]
        for value in wrong:
            with pytest.raises(InvalidAlgoOptionError, match=option):
                cls(**{option: value})


@every
def test_whole_numbers_are_accepted_in_any_type(name):
    algorithm = REGISTRY[name](stopping_maxfun=1e3, stopping_maxiter=np.int32(7))
    assert (algorithm.stopping_maxfun, algorithm.stopping_maxiter) == (1000, 7)
    assert type(algorithm.stopping_maxfun) is type(algorithm.stopping_maxiter) is int


@every
def test_every_option_is_described(name):
    # of the options that all algorithms share, the base class tells
    own = {f.name for f in dataclasses.fields(REGISTRY[name])}
    own -= {"stopping_maxfun", "stopping_maxiter", "stopping_maxtime"}
    for option in own:
        assert f"{option}: " in REGISTRY[name].__doc__
