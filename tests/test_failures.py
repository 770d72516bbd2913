"""What a failed evaluation does is the same for every algorithm, and never ends in false success.

Criteria that fail at the k-th call are in NumPy; those that fail in a region serve the compiled
solvers too. A wall in front of the minimum leaves one point to which an algorithm may converge,
the best one in front of the wall; anything else must not be called a success.
"""

import math
import warnings

import jax.numpy as jnp
import numpy as np
import pytest
from conformance import (
    ALL,
    CENTER,
    INFO,
    INSIDE_JAX,
    OUTSIDE_JAX,
    START,
    fun_numpy,
    gradient_numpy,
)

import optimagic_lite as om
from optimagic_lite.exceptions import InvalidFunctionError, UserFunctionRuntimeError

every = pytest.mark.parametrize("name", ALL)
every_outside_jax = pytest.mark.parametrize("name", OUTSIDE_JAX)
with_gradient = pytest.mark.parametrize("name", [n for n in OUTSIDE_JAX if INFO[n].needs_jac])

ignore_warning = pytest.mark.filterwarnings("ignore:A user function failed:UserWarning")

# what the criterion or its gradient does when it fails
FAILURES = {"exception": None, "nan": math.nan, "inf": math.inf, "minus inf": -math.inf}


class FailsAtCall:
    """Call a function, but fail at the k-th call, counted from 1."""

    def __init__(self, function, k, how):
        self.function, self.k, self.how = function, k, how
        self.n_calls = 0
        self.failed_at = None

    def __call__(self, x):
        self.n_calls += 1
        if self.n_calls != self.k:
            return self.function(x)
        self.failed_at = np.array(x)
        if FAILURES[self.how] is None:
            raise ZeroDivisionError("failed on purpose")
        return self.function(x) * FAILURES[self.how]


def jac_of(name):
    return gradient_numpy if INFO[name].needs_jac else None


# ---- error_handling="raise" --------------------------------------------------------------------


@every_outside_jax
@pytest.mark.parametrize("how", FAILURES)
def test_a_failure_ends_the_run(name, how, tmp_path):
    fun = FailsAtCall(fun_numpy, 3, how)
    with pytest.raises(UserFunctionRuntimeError) as caught:
        om.minimize(fun, START, name, jac=jac_of(name), logging=tmp_path / "run.db")
    error = caught.value
    assert fun.n_calls == 3
    np.testing.assert_array_equal(error.params, fun.failed_at)
    if how == "exception":
        assert isinstance(error.__cause__, ZeroDivisionError)
        assert "ZeroDivisionError: failed on purpose" in str(error)
    assert "error_handling" in str(error)
    partial = error.partial_result
    assert partial.success is False
    assert partial.n_failed_evals == 1
    assert np.isnan(partial.history.fun[2])
    assert partial.fun == min(partial.history.fun[:2])
    reader = om.SQLiteLogReader(tmp_path / "run.db")
    frame = reader.to_frame()
    failed = frame[frame["exception"].notna()]
    assert len(failed) == 1
    assert np.isnan(failed["fun"].iloc[0])
    np.testing.assert_array_equal(failed[["0", "1", "2"]].iloc[0], fun.failed_at)
    assert reader.runs()["status"].iloc[0] == "failed"


@with_gradient
@pytest.mark.parametrize("how", ["exception", "nan", "inf"])
def test_a_failing_gradient_ends_the_run(name, how):
    jac = FailsAtCall(gradient_numpy, 2, how)
    with pytest.raises(UserFunctionRuntimeError, match="jac") as caught:
        om.minimize(fun_numpy, START, name, jac=jac)
    np.testing.assert_array_equal(caught.value.params, jac.failed_at)
    assert (caught.value.__cause__ is not None) == (how == "exception")
    assert caught.value.partial_result.success is False


@with_gradient
@pytest.mark.parametrize("how", ["exception", "nan"])
def test_a_failure_in_a_difference_quotient_ends_the_run(name, how, tmp_path):
    fun = FailsAtCall(fun_numpy, 3, how)
    with pytest.raises(UserFunctionRuntimeError) as caught:
        om.minimize(fun, START, name, logging=tmp_path / "run.db")
    np.testing.assert_array_equal(caught.value.params, fun.failed_at)
    if how == "exception":
        assert isinstance(caught.value.__cause__, ZeroDivisionError)
    frame = om.SQLiteLogReader(tmp_path / "run.db").to_frame()
    failed = frame[frame["exception"].notna()]
    assert failed["kind"].tolist() == ["derivative"]
    np.testing.assert_array_equal(failed[["0", "1", "2"]].iloc[0], fun.failed_at)


# a wall: the criterion is not defined for x[0] >= WALL, in front of the minimum at CENTER[0]
WALL = CENTER[0] - 0.2
BEHIND = {"nan": jnp.nan, "inf": jnp.inf, "minus inf": -jnp.inf}


def walled_jax(x, behind):
    d = x - CENTER
    value = jnp.sum(jnp.cosh(d) - 1)
    return jnp.where(x[0] < WALL, value, behind)


def walled_numpy(x, behind):
    return float(np.sum(np.cosh(x - CENTER) - 1)) if x[0] < WALL else float(behind)


# every algorithm meets one kind of failure, one algorithm of each library all kinds
REPRESENTATIVES = [
    "scipy_lbfgsb",
    "scipy_neldermead",
    "nlopt_slsqp",
    "optimistix_bfgs",
    "optax_adam",
]
every_behind = pytest.mark.parametrize(
    ("name", "behind"),
    [(name, "nan") for name in ALL]
    + [(name, behind) for name in REPRESENTATIVES for behind in ("inf", "minus inf")],
)

BEST_IN_FRONT = math.cosh(0.2) - 1


@pytest.mark.parametrize(
    ("name", "behind"),
    [(name, "nan") for name in INSIDE_JAX]
    + [(name, kind) for name in ("optimistix_bfgs", "optax_adam") for kind in ("inf", "minus inf")],
)
def test_a_failure_ends_a_compiled_run(name, behind, tmp_path):
    arguments = {"fun_kwargs": {"behind": BEHIND[behind]}, "logging": tmp_path / "run.db"}
    with pytest.raises(UserFunctionRuntimeError) as caught:
        om.minimize(walled_jax, START, name, **arguments)
    assert caught.value.params[0] >= WALL
    partial = caught.value.partial_result
    assert partial.success is False
    assert partial.n_failed_evals == 1
    assert np.isnan(partial.history.fun[-1])
    assert np.isfinite(partial.history.fun[:-1]).all()
    assert partial.fun == min(partial.history.fun[:-1])
    np.testing.assert_array_equal(partial.history.flat_params[-1], caught.value.params)
    frame = om.SQLiteLogReader(tmp_path / "run.db").to_frame()
    assert frame["exception"].notna().tolist() == [False] * (len(frame) - 1) + [True]


# ---- error_handling="continue" -----------------------------------------------------------------


@ignore_warning
@every_outside_jax
@pytest.mark.parametrize("how", FAILURES)
def test_a_run_goes_on_after_a_failure(name, how, tmp_path):
    fun = FailsAtCall(fun_numpy, 3, how)
    result = om.minimize(
        fun,
        START,
        name,
        jac=jac_of(name),
        error_handling="continue",
        logging=tmp_path / "run.db",
        algo_options={"stopping_maxfun": 2000},
    )
    assert fun.n_calls > 3
    assert result.n_failed_evals == 1
    assert np.flatnonzero(np.isnan(result.history.fun)).tolist() == [2]
    np.testing.assert_array_equal(result.history.flat_params[2], fun.failed_at)
    assert result.fun == np.nanmin(result.history.fun)
    if result.success:
        np.testing.assert_allclose(result.params, CENTER, atol=1e-2)
    frame = om.SQLiteLogReader(tmp_path / "run.db").to_frame()
    assert frame["exception"].notna().tolist().count(True) == 1
    text = frame["exception"].dropna().iloc[0]
    expected = {"exception": "failed on purpose", "minus inf": "-inf"}.get(how, how)
    assert expected in text


@ignore_warning
@with_gradient
@pytest.mark.parametrize("how", ["exception", "nan", "inf"])
def test_a_run_goes_on_after_a_failing_gradient(name, how):
    jac = FailsAtCall(gradient_numpy, 2, how)
    result = om.minimize(fun_numpy, START, name, jac=jac, error_handling="continue")
    assert result.n_failed_evals == 1
    if result.success:
        np.testing.assert_allclose(result.params, CENTER, atol=1e-2)
    if result.jac is not None:
        np.testing.assert_allclose(result.jac, gradient_numpy(result.params), atol=1e-8)


@ignore_warning
@with_gradient
@pytest.mark.parametrize("how", ["exception", "nan"])
def test_a_run_goes_on_after_a_failure_in_a_difference_quotient(name, how):
    # call 1 is the start, calls 2 to 7 are its difference quotients
    fun = FailsAtCall(fun_numpy, 10, how)
    result = om.minimize(fun, START, name, error_handling="continue")
    assert result.n_failed_evals == 1
    if result.success:
        np.testing.assert_allclose(result.params, CENTER, atol=1e-2)


@ignore_warning
@every_behind
def test_no_success_behind_a_wall(name, behind):
    result = om.minimize(
        walled_jax,
        START,
        name,
        fun_kwargs={"behind": BEHIND[behind]},
        error_handling="continue",
        algo_options={"stopping_maxfun": 1000},
    )
    assert result.n_failed_evals > 0
    assert np.isfinite(result.fun)
    assert result.params[0] < WALL
    assert result.fun == np.nanmin(result.history.fun)
    assert np.isnan(result.history.fun).sum() == result.n_failed_evals
    if result.success:
        assert result.fun == pytest.approx(BEST_IN_FRONT, abs=1e-3)


@ignore_warning
@every_outside_jax
def test_no_success_behind_a_wall_in_numpy(name):
    result = om.minimize(
        walled_numpy,
        START,
        name,
        fun_kwargs={"behind": math.nan},
        error_handling="continue",
        algo_options={"stopping_maxfun": 2000},
    )
    assert np.isfinite(result.fun)
    assert result.params[0] < WALL
    if result.success:
        assert result.fun == pytest.approx(BEST_IN_FRONT, abs=1e-3)


@ignore_warning
@every
def test_no_success_where_everything_but_the_start_fails(name):
    def fun(x, start):
        return jnp.where(jnp.all(x == start), 1.0 + jnp.sum(x), jnp.nan)

    result = om.minimize(
        fun,
        START,
        name,
        fun_kwargs={"start": START},
        error_handling="continue",
        algo_options={"stopping_maxfun": 200},
    )
    assert not result.success, result.message
    np.testing.assert_array_equal(result.params, START)
    assert result.fun == pytest.approx(1 + START.sum())


# ---- at the start ------------------------------------------------------------------------------

HANDLING = pytest.mark.parametrize("handling", ["raise", "continue"])


@every_outside_jax
@HANDLING
@pytest.mark.parametrize("how", FAILURES)
def test_a_failure_at_the_start_is_an_error(name, handling, how):
    fun = FailsAtCall(fun_numpy, 1, how)
    with pytest.raises(UserFunctionRuntimeError, match="Start from other params") as caught:
        om.minimize(fun, START, name, error_handling=handling)
    assert fun.n_calls == 1
    np.testing.assert_array_equal(caught.value.params, START)
    assert caught.value.partial_result is None


@HANDLING
@pytest.mark.parametrize("how", FAILURES)
@pytest.mark.parametrize("name", ["scipy_lbfgsb", "nlopt_bobyqa"])
def test_a_failure_at_the_start_is_logged(name, handling, how, tmp_path):
    fun = FailsAtCall(fun_numpy, 1, how)
    with pytest.raises(UserFunctionRuntimeError):
        om.minimize(fun, START, name, error_handling=handling, logging=tmp_path / "run.db")
    frame = om.SQLiteLogReader(tmp_path / "run.db").to_frame()
    assert frame["kind"].tolist() == ["start"]
    assert frame["exception"].notna().all()


@every_behind
@HANDLING
def test_a_jax_criterion_that_is_not_finite_at_the_start_is_an_error(name, handling, behind):
    with pytest.raises(UserFunctionRuntimeError, match="Start from other params"):
        om.minimize(
            walled_jax,
            CENTER,
            name,
            fun_kwargs={"behind": BEHIND[behind]},
            error_handling=handling,
        )


@pytest.mark.parametrize("name", [n for n in ALL if INFO[n].needs_jac])
@HANDLING
def test_an_exact_gradient_that_is_nan_at_the_start_is_an_error(name, handling):
    def fun(x):
        # the derivative of the root is infinite at 0, that of the square 0: their product is NaN
        return jnp.sum(jnp.sqrt((x - START) ** 2)) + 1.0

    with pytest.raises(UserFunctionRuntimeError, match="derivative") as caught:
        om.minimize(fun, START, name, error_handling=handling)
    np.testing.assert_array_equal(caught.value.params, START)


@with_gradient
@HANDLING
@pytest.mark.parametrize("how", ["exception", "nan"])
def test_a_users_gradient_that_fails_at_the_start_is_an_error(name, handling, how):
    jac = FailsAtCall(gradient_numpy, 1, how)
    with pytest.raises(UserFunctionRuntimeError) as caught:
        om.minimize(fun_numpy, START, name, jac=jac, error_handling=handling)
    np.testing.assert_array_equal(caught.value.params, START)


@with_gradient
@HANDLING
def test_a_difference_quotient_that_fails_at_the_start_is_an_error(name, handling):
    with pytest.raises(UserFunctionRuntimeError) as caught:
        om.minimize(FailsAtCall(fun_numpy, 3, "nan"), START, name, error_handling=handling)
    np.testing.assert_allclose(caught.value.params, START, atol=1e-3)


# ---- the penalty ---------------------------------------------------------------------------------


def _penalty_seen_by_the_solver(direction, penalty):
    """Return what SciPy's BFGS is told at a point that fails, with that point."""
    from scipy import optimize

    told = {}
    original = optimize.minimize

    def spy(fun, x0, **arguments):
        point = x0 + np.array([3.0, 4.0])
        told["value"], told["gradient"] = fun(point), arguments["jac"](point)
        return original(fun, x0, **arguments)

    sign = 1.0 if direction == "minimize" else -1.0

    def fun(x):
        return math.nan if x[0] > 2.5 else sign * float(x @ x) + 2.0

    def jac(x):
        return sign * 2 * x

    run = getattr(om, direction)
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        patch.setattr(optimize, "minimize", spy)
        run(fun, np.zeros(2), "scipy_bfgs", jac=jac, error_handling="continue",
            error_penalty=penalty)  # fmt: skip
    return told


@pytest.mark.parametrize(
    ("direction", "penalty", "constant", "slope"),
    [
        # defaults: start value 2, so 2 + 2 + 100 and 2 - 2 - 100 in the user's sign
        ("minimize", None, 104.0, 0.1),
        ("maximize", None, -100.0, -0.1),
        ("minimize", {"constant": 50.0, "slope": 2.0}, 50.0, 2.0),
        ("maximize", {"constant": -50.0, "slope": -2.0}, -50.0, -2.0),
        ("maximize", {"slope": -2.0}, -100.0, -2.0),
    ],
)
def test_penalty_by_hand(direction, penalty, constant, slope):
    # the point is 5 away from the start, in direction (3, 4) / 5
    told = _penalty_seen_by_the_solver(direction, penalty)
    sign = 1.0 if direction == "minimize" else -1.0
    assert sign * told["value"] == pytest.approx(constant + 5 * slope)
    np.testing.assert_allclose(sign * told["gradient"], slope * np.array([0.6, 0.8]))


def test_the_compiled_loop_and_the_evaluator_use_the_same_penalty():
    def fun(x):
        return jnp.where(x[0] < 0.5, jnp.sum((x - 1) ** 2), jnp.nan)

    # One step of gradient descent leaves the domain; the penalty's gradient, slope times the
    # direction from the start, then leads the second one back: known by hand.
    slope, rate = 0.7, 0.4
    options = {"learning_rate": rate, "momentum": 0.0, "stopping_maxiter": 2}
    with pytest.warns(UserWarning, match="A user function failed"):
        result = om.minimize(
            fun,
            np.zeros(1),
            "optax_sgd",
            algo_options=options,
            error_handling="continue",
            error_penalty={"slope": slope},
        )
    first = 2 * rate
    np.testing.assert_allclose(result.history.flat_params[:3, 0], [0, first, first - rate * slope])


@pytest.mark.parametrize("handling", ["ignore", None, True, "Continue"])
def test_error_handling_is_checked(handling):
    with pytest.raises(InvalidFunctionError, match="error_handling"):
        om.minimize(fun_numpy, START, "scipy_lbfgsb", error_handling=handling)


@pytest.mark.parametrize("penalty", [1.0, {"constants": 1.0}, [1, 2]])
def test_error_penalty_is_checked(penalty):
    with pytest.raises(InvalidFunctionError, match="error_penalty"):
        om.minimize(
            fun_numpy, START, "scipy_lbfgsb", error_handling="continue", error_penalty=penalty
        )


def test_error_penalty_without_continue_is_refused():
    with pytest.raises(InvalidFunctionError, match="continue"):
        om.minimize(fun_numpy, START, "scipy_lbfgsb", error_penalty={"constant": 1.0})


@pytest.mark.parametrize("name", ["scipy_neldermead", "nlopt_mma", "optax_adam"])
def test_one_warning_a_run(name):
    arguments = {"fun_kwargs": {"behind": math.nan}, "error_handling": "continue"}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = om.minimize(
            walled_jax, START, name, algo_options={"stopping_maxfun": 300}, **arguments
        )
    assert result.n_failed_evals > 1
    assert len([w for w in caught if "A user function failed" in str(w.message)]) == 1


def test_the_error_of_a_maximization_has_the_users_sign():
    fun = FailsAtCall(lambda x: -fun_numpy(x), 3, "inf")  # minus the value, so -inf
    with pytest.raises(UserFunctionRuntimeError, match="-inf"):
        om.maximize(fun, START, "scipy_neldermead")
    fun = FailsAtCall(lambda x: -fun_numpy(x), 3, "minus inf")
    with pytest.raises(UserFunctionRuntimeError, match="value is inf"):
        om.maximize(fun, START, "scipy_neldermead")


def test_params_of_the_error_have_the_users_structure():
    def fun(params):
        if params["b"] != 2.0:
            raise ValueError("no")
        return params["b"] + params["a"].sum()

    with pytest.raises(UserFunctionRuntimeError) as caught:
        om.minimize(fun, {"b": 2.0, "a": np.ones(2)}, "scipy_powell")
    assert list(caught.value.params) == ["b", "a"]
    assert caught.value.params["a"].shape == (2,)


@pytest.mark.parametrize("handling", ["raise", "continue"])
def test_a_criterion_that_returns_no_number_is_an_error_whenever_it_does(handling):
    calls = []

    def fun(x):
        calls.append(1)
        return None if len(calls) == 4 else float(x @ x)

    with pytest.raises(InvalidFunctionError, match="returned None"):
        om.minimize(fun, START, "scipy_neldermead", error_handling=handling)
    assert len(calls) == 4


@ignore_warning
@pytest.mark.parametrize("name", [n for n in OUTSIDE_JAX if INFO[n].needs_hess])
@HANDLING
@pytest.mark.parametrize("how", ["exception", "nan"])
def test_a_failing_hessian(name, handling, how):
    hessian = FailsAtCall(lambda x: np.diag(np.cosh(x - CENTER)), 2, how)
    arguments = {
        "fun": lambda x: float(np.sum(np.cosh(x - CENTER) - 1)),
        "jac": lambda x: np.sinh(x - CENTER),
        "hess": hessian,
    }
    if handling == "raise":
        with pytest.raises(UserFunctionRuntimeError, match="hess") as caught:
            om.minimize(params=START, algorithm=name, **arguments)
        np.testing.assert_array_equal(caught.value.params, hessian.failed_at)
    else:
        result = om.minimize(params=START, algorithm=name, error_handling="continue", **arguments)
        assert result.success, result.message
        assert result.n_failed_evals == 1
        np.testing.assert_allclose(result.params, CENTER, atol=1e-4)
