"""Many runs side by side end as they would one by one, and tell how."""

import contextlib
import io

import jax.numpy as jnp
import numpy as np
import pytest
from compilations import count_compilations

import optimagic_lite as om
from optimagic_lite.exceptions import LogError

N_RUNS = 7
START = {"level": 1.0, "decay": np.array([0.5, 0.5])}
TELLING = ("fun", "start_fun", "success", "status", "n_fun_evals", "n_failed_evals", "n_iterations")


def misfit(params, x, y, weight, edge):
    """Cannot be evaluated where the level is beyond the edge."""
    level, decay = params["level"], params["decay"]
    residuals = y - level * jnp.exp(-decay[0] * x) + decay[1]
    return jnp.sum(weight * residuals**2) + 1e-3 * jnp.sum(decay**4) - 1e-9 * jnp.log(edge - level)


def make_data(seed, n_runs=N_RUNS):
    """Return data of all kinds of numbers: float32, arrays of JAX, integers and float64."""
    rng = np.random.default_rng(seed)
    level, decay = rng.uniform(1.5, 3.0, (2, n_runs, 1))
    x = np.sort(rng.uniform(0, 2, (n_runs, 6)).astype(np.float32))
    y = level * np.exp(-decay * x) - 0.2 + rng.normal(0, 0.05, (n_runs, 6))
    return {
        "x": x,
        "y": jnp.asarray(y),
        "weight": rng.integers(1, 4, (n_runs, 6)),
        "edge": np.full(n_runs, 1e3),
    }


DATA = make_data(0)
BAD = DATA | {"y": np.asarray(DATA["y"]).copy(), "edge": DATA["edge"].copy()}
BAD["y"][2, 0] = np.nan
BAD["edge"][4] = 1.3


def rows(stacked):
    """Return what each of the runs has."""
    n_runs = len(next(iter(stacked.values())))
    return [{name: np.asarray(leaf)[i] for name, leaf in stacked.items()} for i in range(n_runs)]


def one_by_one(fun, starts, kwargs, algorithm="jax_bfgs", minimize=om.minimize, **more):
    pairs = zip(starts, kwargs, strict=True)
    return [minimize(fun, start, algorithm, fun_kwargs=kw, **more) for start, kw in pairs]


def assert_same(result, singles, names=TELLING, atol=1e-9):
    assert len(result) == len(singles)
    for name in names:
        expected = np.array([getattr(single, name) for single in singles], dtype=float)
        np.testing.assert_allclose(getattr(result, name), expected, rtol=0, atol=1e-9, err_msg=name)
    for run, single in enumerate(singles):
        if "status" in names:
            assert result.message[run] == single.message
        assert list(result.params_of(run)) == list(single.params)
        for name, expected in single.params.items():
            np.testing.assert_allclose(result.params[name][run], expected, rtol=0, atol=atol)


@pytest.fixture(scope="module")
def plain():
    return om.minimize_batch(misfit, START, batch=DATA)


@pytest.fixture(scope="module")
def singles():
    return one_by_one(misfit, [START] * N_RUNS, rows(DATA))


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return tmp_path_factory.mktemp("batch") / "log.db"


@pytest.fixture(scope="module")
def logged(path):
    return om.minimize_batch(misfit, START, batch=DATA, logging=path, collect_history=True)


# ---- a batch is a loop -----------------------------------------------------------------------


def test_data_sets_are_fitted_as_one_by_one(plain, singles):
    assert_same(plain, singles)
    assert plain.success.all()
    assert list(plain.params) == list(START)
    assert plain.params["level"].shape == (N_RUNS,)
    assert plain.params["decay"].shape == (N_RUNS, 2)


def test_starts_and_data_with_bounds_scale_and_parameters_that_starts_fix():
    rng = np.random.default_rng(1)
    starts = {"level": rng.uniform(1, 2, N_RUNS), "decay": rng.uniform(0.1, 0.4, (N_RUNS, 2))}
    limits = {
        "bounds": om.Bounds(upper={"level": 2.2}),
        "constraints": om.FixedConstraint(lambda params: params["decay"][1]),
        "scaling": True,
    }

    result = om.minimize_batch(misfit, batch=DATA | {"params": starts}, **limits)

    assert_same(result, one_by_one(misfit, rows(starts), rows(DATA), **limits))
    np.testing.assert_array_equal(result.params["decay"][:, 1], starts["decay"][:, 1])
    assert 0 < (result.params["level"] == 2.2).sum() < N_RUNS


def test_maximize_with_a_transforming_constraint():
    def utility(params, target, price):
        return -jnp.sum(price * (params["share"] - target) ** 2)

    rng = np.random.default_rng(2)
    data = {"target": rng.dirichlet([1, 1, 1], 4), "price": rng.uniform(1, 2, (4, 3))}
    starts = {"share": rng.dirichlet([5, 5, 5], 4)}
    simplex = om.ProbabilityConstraint(lambda params: params["share"])

    result = om.maximize_batch(utility, batch=data | {"params": starts}, constraints=simplex)

    np.testing.assert_allclose(result.params["share"], data["target"], atol=1e-5)
    np.testing.assert_allclose(result.params["share"].sum(axis=1), 1, atol=1e-12)
    np.testing.assert_allclose(
        result.start_fun, [utility(s, **d) for s, d in zip(rows(starts), rows(data), strict=True)]
    )
    assert (result.fun <= 0).all()
    assert (result.fun > -1e-9).all()
    assert result.direction == "maximize"


def test_residuals_for_an_algorithm_that_takes_them():
    @om.mark.least_squares
    def residuals(params, x, y):
        decay = params["decay"]
        found = params["level"] * jnp.exp(-decay[0] * x) - decay[1]
        return jnp.concatenate([y - found, 0.1 * decay])

    data = {name: DATA[name] for name in "xy"}
    result = om.minimize_batch(residuals, START, "optimistix_levenberg_marquardt", batch=data)

    # in NumPy, where nothing is compiled
    @om.mark.least_squares
    def plain_residuals(params, x, y):
        decay = params["decay"]
        found = params["level"] * np.exp(-decay[0] * x) - decay[1]
        return np.concatenate([y - found, 0.1 * decay])

    fits = one_by_one(plain_residuals, [START] * N_RUNS, rows(data), "scipy_ls_lm")
    assert result.success.all()
    assert_same(result, fits, names=("start_fun",), atol=1e-3)
    np.testing.assert_allclose(result.fun, [fit.fun for fit in fits], rtol=1e-5)


def test_a_list_of_runs_is_a_dict_of_arrays(plain):
    runs = [{name: np.asarray(DATA[name][i]) for name in DATA} for i in range(N_RUNS)]
    assert_same(om.minimize_batch(misfit, START, batch=runs), rows_of(plain))


def rows_of(result):
    """Return a batch as if its runs had been made one by one."""

    class Single:
        def __init__(self, run):
            for name in (*TELLING, "message"):
                setattr(self, name, getattr(result, name)[run])
            self.params = result.params_of(run)

    return [Single(run) for run in range(len(result))]


def test_few_at_once_are_compiled_once_and_end_the_same(plain):
    with count_compilations() as counter:
        first = om.minimize_batch(misfit, START, batch=DATA, batch_size=3)
    assert_same(first, rows_of(plain))
    # what begins, what goes on, and small ones that pick data; the part with one run is filled up
    assert counter[0] <= 5


def test_new_data_and_options_are_not_compiled_again(plain):
    del plain
    with count_compilations() as counter:
        other = om.minimize_batch(misfit, START, batch=make_data(1))
        om.minimize_batch(
            misfit,
            {"level": 1.1, "decay": np.array([0.4, 0.2])},
            batch=make_data(2),
            algo_options={"convergence_gtol_abs": 1e-7},
        )
    assert counter[0] == 0
    assert other.success.all()


def test_what_a_criterion_closes_over_is_never_stale():
    def solve(center):
        return om.minimize_batch(
            lambda x, scale: jnp.sum(scale * (x - center) ** 2),
            np.zeros(2),
            batch={"scale": np.array([1.0, 2.0])},
        ).params

    first = solve(np.array([1.0, 2.0]))
    with count_compilations() as counter:
        second = solve(np.array([3.0, -4.0]))
    assert counter[0] == 0
    np.testing.assert_allclose(first, [[1, 2]] * 2, atol=1e-6)
    np.testing.assert_allclose(second, [[3, -4]] * 2, atol=1e-6)


def rosenbrock(x):
    return jnp.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)


def test_slow_runs_go_on_alone():
    starts = np.ones((300, 2))
    slow = np.arange(7, 300, 25)
    starts[slow] = np.random.default_rng(3).uniform(-2, 2, (len(slow), 2))

    result = om.minimize_batch(rosenbrock, batch={"params": starts}, collect_history=True)

    rest = np.setdiff1d(np.arange(300), slow)
    np.testing.assert_array_equal(result.params[rest], 1)
    assert (result.n_fun_evals[rest] == 1).all()
    for run in slow:
        single = om.minimize(rosenbrock, starts[run], "jax_bfgs")
        np.testing.assert_allclose(result.params[run], single.params, rtol=0, atol=1e-9)
        history = result.histories[run].flat_params
        # rounding errors grow on the way, and vanish in the end
        np.testing.assert_allclose(history, single.history.flat_params, rtol=0, atol=1e-5)


# ---- failures and limits ---------------------------------------------------------------------


def test_a_run_that_fails_does_not_end_the_others(plain, singles):
    result = om.minimize_batch(misfit, START, batch=BAD)

    assert np.flatnonzero(~result.success).tolist() == [2, 4]
    fine = result.success
    np.testing.assert_array_equal(result.fun[fine], plain.fun[fine])
    assert np.isnan(result.fun[2])
    np.testing.assert_array_equal(result.flat_params[2], [1, 0.5, 0.5])
    with pytest.warns(UserWarning, match="A user function failed"):
        single = om.minimize(
            misfit, START, "jax_bfgs", fun_kwargs=rows(BAD)[4], error_handling="continue"
        )
    assert result.n_failed_evals[4] == single.n_failed_evals > 1
    assert not single.success
    assert result.fun[4] == pytest.approx(single.fun, abs=1e-9)
    assert "the gradient at the best point is not small" in result.message[4]
    assert "the gradient at the best point is not small" in single.message


def test_failures_are_listed(plain):
    result = om.minimize_batch(misfit, START, batch=BAD)

    frame = result.to_frame()
    assert frame.index.tolist() == list(range(N_RUNS))
    assert result.failures.index.tolist() == [2, 4]
    np.testing.assert_array_equal(frame["fun"], result.fun)
    np.testing.assert_array_equal(frame[result.param_names], result.flat_params)
    assert frame["message"].tolist() == result.message
    first, *reasons, last = repr(result).splitlines()
    assert first.startswith("5 of 7 runs of jax_bfgs converged in ")
    assert reasons == [f"1 did not: {result.message[run]}" for run in (2, 4)]
    assert last == "See failures."
    assert repr(plain).startswith("7 of 7 runs")
    assert plain.failures.empty


@pytest.mark.parametrize(
    ("limit", "status"),
    [
        ({"stopping_maxfun": 4}, 101),
        ({"stopping_maxiter": 3}, 102),
        ({"stopping_maxtime": 1e-9}, 103),
    ],
)
def test_limits_end_runs_that_can_go_on(plain, limit, status):
    name = next(iter(limit))
    result = om.minimize_batch(misfit, START, batch=DATA, algo_options=limit)

    assert (result.status == status).all()
    assert not result.success.any()
    assert all(name in message for message in result.message)
    counted = {101: result.n_fun_evals, 102: result.n_iterations}
    if status in counted:
        assert (counted[status] == limit[name]).all()
    again = om.minimize_batch(misfit, batch=DATA | {"params": result.params})
    np.testing.assert_allclose(again.fun, plain.fun, atol=1e-8)


def test_runs_that_did_not_begin_in_time_are_at_their_starts():
    result = om.minimize_batch(
        misfit, START, batch=DATA, batch_size=3, algo_options={"stopping_maxtime": 1e-9}
    )
    assert result.status.tolist() == [103] * N_RUNS
    assert result.n_fun_evals.tolist() == [2, 2, 2, 0, 0, 0, 0]
    np.testing.assert_array_equal(result.flat_params[3:], [[1, 0.5, 0.5]] * 4)
    assert np.isnan(result.fun[3:]).all()


# ---- histories, log, progress ----------------------------------------------------------------


def test_histories_are_those_of_a_loop(plain, logged, singles):
    assert plain.histories is None
    assert_same(logged, singles)
    for history, single in zip(logged.histories, singles, strict=True):
        np.testing.assert_allclose(history.fun, single.history.fun, rtol=0, atol=1e-9)
        np.testing.assert_allclose(history.flat_params, single.history.flat_params, atol=1e-9)
        assert history.kind == single.history.kind
        assert history.task == single.history.task
        assert (np.diff(history.stop_time) >= 0).all()
        assert history.stop_time[-1] <= logged.elapsed
    figure = om.criterion_plot({f"run {i}": h for i, h in enumerate(logged.histories)})
    assert [line.name for line in figure.data] == [f"run {i}" for i in range(N_RUNS)]


def test_the_log_has_every_evaluation_of_every_run(path, logged):
    reader = om.SQLiteLogReader(path)

    assert (logged.log_path, logged.log_run) == (path, 0)
    frame, steps = reader.to_frame(), reader.read_step_histories()
    assert len(frame) == logged.n_fun_evals.sum()
    for run, history in enumerate(logged.histories):
        assert steps[run + 1].fun == history.fun
        np.testing.assert_array_equal(steps[run + 1].flat_params, history.flat_params)
        np.testing.assert_array_equal(frame["fun"][frame["step"] == run + 1], history.fun)
    assert reader.best().step == np.argmin(logged.fun) + 1
    told = reader.runs().iloc[0]
    assert told["status"] == "complete"
    assert told["n_evaluations"] == logged.n_fun_evals.sum()
    assert told["fun"] == logged.fun.min()
    ends = reader.read_steps()
    assert [end.message for end in ends] == logged.message
    assert [end.fun for end in ends] == logged.fun.tolist()


def test_the_log_of_a_batch_cannot_be_resumed_by_minimize(path, logged):
    del logged
    with pytest.raises(LogError, match="runs of a batch: 7 in the log, nothing now"):
        om.minimize(misfit, START, "jax_bfgs", fun_kwargs=rows(DATA)[0], logging=path, resume=True)


def test_failures_are_logged(path, logged):
    del logged
    options = om.SQLiteLogOptions(path, if_database_exists="extend")
    result = om.minimize_batch(misfit, START, batch=BAD, logging=options)
    assert result.log_run == 1
    frame = om.SQLiteLogReader(path).to_frame()
    failed = frame[frame["exception"].notna()]
    assert failed["fun"].isna().all()
    counts = failed.groupby("step").size()
    assert counts.to_dict() == {3: 1, 5: result.n_failed_evals[4]}


def test_progress_counts_runs(plain):
    del plain
    with contextlib.redirect_stderr(io.StringIO()) as shown:
        om.minimize_batch(misfit, START, batch=DATA, progress=True)
    assert "jax_bfgs: 100%" in shown.getvalue()
    assert "7/7" in shown.getvalue()
