"""What a failed evaluation does is the same for every algorithm, and never ends in false success.

Criteria that fail at some call are in NumPy; those that fail in a region serve the compiled solvers
too. A wall in front of the minimum leaves one point to which an algorithm may converge, the best
one in front of the wall; anything else must not be called a success. Where an algorithm takes a
vector, one entry that is not finite is as bad as all of them.
"""

import math
import warnings

import jax.numpy as jnp
import numpy as np
import pytest
from conformance import (
    ALL,
    CENTER,
    DISTINCT,
    INFO,
    INSIDE_JAX,
    LEAST_SQUARES,
    OUTSIDE_JAX,
    SCALAR,
    START,
    criterion,
    derivative,
    derivative_in_structure,
    fun_numpy,
    in_structure,
    jax_criterion,
    marked,
    tree,
)

import optimagic_lite as om
from optimagic_lite.exceptions import InvalidFunctionError, UserFunctionRuntimeError

every = pytest.mark.parametrize("name", [name for name in ALL if name in DISTINCT])
every_outside_jax = pytest.mark.parametrize("name", OUTSIDE_JAX)
WITH_GRADIENT = [name for name in OUTSIDE_JAX if INFO[name].needs_jac]
with_gradient = pytest.mark.parametrize("name", WITH_GRADIENT)

ignore_warning = pytest.mark.filterwarnings("ignore:A user function failed:UserWarning")

# what the criterion or its derivative does when it fails
NUMBERS = {"nan": math.nan, "inf": math.inf, "minus inf": -math.inf}
FAILURES = ["exception", *NUMBERS, *(f"one {number}" for number in NUMBERS)]


def ways(names, failures=FAILURES):
    """Each algorithm with each failure; where there is one number, "one" is the same as all."""
    pairs = [
        (name, how)
        for name in names
        for how in failures
        if not (name in SCALAR and how.startswith("one "))
    ]
    return pytest.mark.parametrize(("name", "how"), pairs)


class Fails:
    """Call a function, but fail at some calls, counted from 1.

    Args:
        function: What is called.
        first: The first call that fails.
        how: One of FAILURES.
        always: Whether all later calls fail too.
    """

    def __init__(self, function, first, how, always=False):
        self.function, self.first, self.how, self.always = function, first, how, always
        self.n_calls = 0
        self.failed_at = None

    def __call__(self, x):
        self.n_calls += 1
        is_late = self.n_calls >= self.first if self.always else self.n_calls == self.first
        if not is_late:
            return self.function(x)
        if self.failed_at is None:
            self.failed_at = np.array(x)
        if self.how == "exception":
            raise ZeroDivisionError("failed on purpose")
        out = np.array(self.function(x))
        out.flat[: 1 if self.how.startswith("one ") else None] = NUMBERS[
            self.how.removeprefix("one ")
        ]
        return out


def jac_of(name):
    return derivative(name) if INFO[name].needs_jac else None


def assert_logged(rows, how):
    """Check that each row has a message, and the traceback of an exception."""
    assert rows["exception"].notna().all()
    if how == "exception":
        assert rows["exception"].str.contains("ZeroDivisionError.*: failed on purpose").all()
        assert rows["traceback"].str.contains("in __call__").all()
        assert rows["traceback"].str.contains("ZeroDivisionError: failed on purpose").all()
    else:
        assert rows["exception"].str.contains("not finite|value is").all()
        assert rows["traceback"].isna().all()


# ---- error_handling="raise" --------------------------------------------------------------------


@ways(OUTSIDE_JAX)
def test_a_failure_ends_the_run(name, how, tmp_path):
    fun = Fails(criterion(name), 3, how)
    with pytest.raises(UserFunctionRuntimeError) as caught:
        om.minimize(marked(name, fun), START, name, jac=jac_of(name), logging=tmp_path / "run.db")
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
    assert_logged(failed, how)
    np.testing.assert_array_equal(failed[["0", "1", "2"]].iloc[0], fun.failed_at)
    assert reader.runs()["status"].iloc[0] == "failed"


@ways(WITH_GRADIENT, ["exception", "nan", "inf", "one nan", "one minus inf"])
def test_a_failing_derivative_ends_the_run(name, how, tmp_path):
    jac = Fails(derivative(name), 2, how)
    with pytest.raises(UserFunctionRuntimeError, match="jac") as caught:
        om.minimize(
            criterion(name), START, name, jac=marked(name, jac), logging=tmp_path / "run.db"
        )
    np.testing.assert_array_equal(caught.value.params, jac.failed_at)
    assert isinstance(caught.value.__cause__, ZeroDivisionError) == (how == "exception")
    assert caught.value.partial_result.success is False
    frame = om.SQLiteLogReader(tmp_path / "run.db").to_frame()
    failed = frame[frame["exception"].notna()]
    assert failed["task"].tolist() == ["jac"]
    assert_logged(failed, how)


@ways(WITH_GRADIENT, ["exception", "nan", "one inf"])
def test_a_failure_in_a_difference_quotient_ends_the_run(name, how, tmp_path):
    fun = Fails(criterion(name), 3, how)
    with pytest.raises(UserFunctionRuntimeError) as caught:
        om.minimize(marked(name, fun), START, name, logging=tmp_path / "run.db")
    np.testing.assert_array_equal(caught.value.params, fun.failed_at)
    if how == "exception":
        assert isinstance(caught.value.__cause__, ZeroDivisionError)
    frame = om.SQLiteLogReader(tmp_path / "run.db").to_frame()
    failed = frame[frame["exception"].notna()]
    assert failed["kind"].tolist() == ["derivative"]
    assert_logged(failed, how)
    np.testing.assert_array_equal(failed[["0", "1", "2"]].iloc[0], fun.failed_at)


# a wall: the criterion is not defined for x[0] >= WALL, in front of the minimum at CENTER[0]
WALL = CENTER[0] - 0.2
BEHIND = {"nan": jnp.nan, "inf": jnp.inf, "minus inf": -jnp.inf}


def _hyperbolic(name, x, xp):
    """The sum of cosh(d) - 1, as an algorithm takes it."""
    d = xp.asarray(x) - CENTER
    return in_structure(name, math.sqrt(2) * xp.sinh(d / 2), d, xp)


def walled_jax(name):
    return marked(name, lambda x, behind: jnp.where(x[0] < WALL, _hyperbolic(name, x, jnp), behind))


def one_entry_walled_jax(name):
    def fun(x, behind):
        value = _hyperbolic(name, x, jnp)
        return value.at[-1].set(jnp.where(x[0] < WALL, value[-1], behind))

    return marked(name, fun)


def walled_numpy(name):
    def fun(x, behind):
        value = np.array(_hyperbolic(name, x, np))
        value.flat[-1] = value.flat[-1] if x[0] < WALL else behind
        return value

    return marked(name, fun)


# every algorithm meets one kind of failure, one algorithm of each library all kinds
REPRESENTATIVES = [
    "scipy_lbfgsb",
    "scipy_neldermead",
    "scipy_ls_trf",
    "nlopt_slsqp",
    "optimistix_bfgs",
    "optimistix_levenberg_marquardt",
    "optax_adam",
    "bhhh",
]


def with_walls(names):
    """Each algorithm with a wall of NaN, representatives with other walls too."""
    pairs = [(name, "nan") for name in names if name in DISTINCT]
    pairs += [(n, behind) for n in REPRESENTATIVES if n in names for behind in ("inf", "minus inf")]
    return pytest.mark.parametrize(("name", "behind"), pairs)


every_behind = with_walls(ALL)

BEST_IN_FRONT = math.cosh(0.2) - 1


@with_walls(INSIDE_JAX)
def test_a_failure_ends_a_compiled_run(name, behind, tmp_path):
    arguments = {"fun_kwargs": {"behind": BEHIND[behind]}, "logging": tmp_path / "run.db"}
    with pytest.raises(UserFunctionRuntimeError) as caught:
        om.minimize(walled_jax(name), START, name, **arguments)
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


def go_on(fun, params, name, **arguments):
    """Minimize with error_handling="continue", and check that there is exactly one warning."""
    with pytest.warns(UserWarning, match="A user function failed") as caught:
        result = om.minimize(fun, params, name, error_handling="continue", **arguments)
    assert len(caught) == 1
    assert result.fun == np.nanmin(result.history.fun)
    return result


@ways(OUTSIDE_JAX)
def test_a_run_goes_on_after_a_failure(name, how, tmp_path):
    fun = Fails(criterion(name), 3, how)
    result = go_on(
        marked(name, fun),
        START,
        name,
        jac=jac_of(name),
        logging=tmp_path / "run.db",
        algo_options={"stopping_maxfun": 2000},
    )
    assert fun.n_calls > 3
    assert result.n_failed_evals == 1
    assert np.flatnonzero(np.isnan(result.history.fun)).tolist() == [2]
    np.testing.assert_array_equal(result.history.flat_params[2], fun.failed_at)
    if result.success:
        np.testing.assert_allclose(result.params, CENTER, atol=1e-2)
    frame = om.SQLiteLogReader(tmp_path / "run.db").to_frame()
    failed = frame[frame["exception"].notna()]
    assert len(failed) == 1
    assert_logged(failed, how)


@ways(OUTSIDE_JAX, ["exception", "nan", "one inf"])
def test_no_success_where_every_call_fails_after_some(name, how, tmp_path):
    fun = Fails(criterion(name), 3, how, always=True)
    result = go_on(
        marked(name, fun),
        START,
        name,
        jac=jac_of(name),
        logging=tmp_path / "run.db",
        algo_options={"stopping_maxfun": 200},
    )
    assert not result.success, result.message
    assert result.n_failed_evals == fun.n_calls - 2
    assert result.fun == min(result.history.fun[:2])
    frame = om.SQLiteLogReader(tmp_path / "run.db").to_frame()
    failed = frame[frame["exception"].notna()]
    assert len(failed) == result.n_failed_evals
    assert_logged(failed, how)


@ways(WITH_GRADIENT, ["exception", "nan", "one inf"])
def test_no_success_where_every_derivative_fails_after_some(name, how):
    jac = Fails(derivative(name), 2, how, always=True)
    options = {"stopping_maxfun": 200}
    result = go_on(criterion(name), START, name, jac=marked(name, jac), algo_options=options)
    assert result.n_failed_evals >= jac.n_calls - 1
    if result.success:
        np.testing.assert_allclose(result.params, CENTER, atol=1e-2)


@ways(WITH_GRADIENT, ["exception", "nan", "inf", "one nan"])
def test_a_run_goes_on_after_a_failing_derivative(name, how):
    jac = Fails(derivative(name), 2, how)
    result = go_on(criterion(name), START, name, jac=marked(name, jac))
    assert result.n_failed_evals == 1
    if result.success:
        np.testing.assert_allclose(result.params, CENTER, atol=1e-2)
    if result.jac is not None:
        gradient = derivative("scipy_lbfgsb")(result.params)
        np.testing.assert_allclose(result.jac, gradient, atol=1e-8)


@ways(WITH_GRADIENT, ["exception", "nan", "one nan"])
def test_a_run_goes_on_after_a_failure_in_a_difference_quotient(name, how):
    # call 1 is the start, calls 2 to 7 are its difference quotients
    fun = Fails(criterion(name), 10, how)
    result = go_on(marked(name, fun), START, name)
    assert result.n_failed_evals == 1
    if result.success:
        np.testing.assert_allclose(result.params, CENTER, atol=1e-2)


@ignore_warning
@every_behind
def test_no_success_behind_a_wall(name, behind):
    assert_stays_in_front(walled_jax(name), name, BEHIND[behind])


@ignore_warning
@with_walls([name for name in ALL if name not in SCALAR])
def test_no_success_behind_a_wall_in_one_entry(name, behind):
    assert_stays_in_front(one_entry_walled_jax(name), name, BEHIND[behind])


def assert_stays_in_front(fun, name, behind):
    result = om.minimize(
        fun,
        START,
        name,
        fun_kwargs={"behind": behind},
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
        walled_numpy(name),
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
@pytest.mark.parametrize("name", [n for n in ALL if INFO[n].needs_jac and n in DISTINCT])
def test_no_success_behind_a_wall_of_derivatives(name):
    def fun(x):
        is_front = x[0] < WALL
        # zero everywhere; behind the wall the slope of the root is infinite, and times zero NaN
        spoilt = jnp.sqrt(jnp.where(is_front, 1.0, 0 * x[0])) - jnp.where(is_front, 1.0, 0.0)
        return _hyperbolic(name, x, jnp) + spoilt

    result = om.minimize(
        marked(name, fun),
        START,
        name,
        error_handling="continue",
        algo_options={"stopping_maxfun": 1000},
    )
    assert result.n_failed_evals > 0
    if result.success:
        # values behind the wall are known to those that ask for derivatives apart
        known = [f for f in (0.0, BEST_IN_FRONT) if result.fun == pytest.approx(f, abs=1e-3)]
        assert known, result.message


@ignore_warning
@every
def test_no_success_where_everything_but_the_start_fails(name):
    def fun(x, start):
        # a positive sum at the start, in any structure
        d = x - start + 1.0
        value = in_structure(name, d, d, jnp)
        return jnp.where(jnp.all(x == start), value, jnp.nan)

    result = om.minimize(
        marked(name, fun),
        START,
        name,
        fun_kwargs={"start": START},
        error_handling="continue",
        algo_options={"stopping_maxfun": 200},
    )
    assert not result.success, result.message
    np.testing.assert_array_equal(result.params, START)
    assert result.fun == pytest.approx(3.0)


# ---- a parameter that is held ------------------------------------------------------------------


@with_gradient
@pytest.mark.parametrize("kind", ["alone", "beside a simplex"])
@pytest.mark.parametrize("bad", [math.inf, math.nan], ids=str)
def test_a_derivative_of_a_fixed_parameter_may_be_anything(name, kind, bad):
    target = np.array([0.5, 0.3, 0.2])

    def fun(x):
        return in_structure(name, x[1:] - target, x[1:] - target)

    def jac(x):
        free = derivative_in_structure(name, x[1:] - target, np.eye(3))
        return np.insert(free, 0, bad, axis=-1)

    constraints = [om.FixedConstraint(lambda x: x[0])]
    if kind == "beside a simplex":
        constraints.append(om.ProbabilityConstraint(lambda x: x[1:]))
    arguments = {"jac": marked(name, jac), "constraints": constraints}
    start = np.array([7.0, 0.3, 0.3, 0.4])
    result = om.minimize(
        marked(name, fun), start, name, algo_options={"stopping_maxfun": 1000}, **arguments
    )
    assert result.n_failed_evals == 0
    assert result.params[0] == 7.0
    np.testing.assert_allclose(result.params[1:], target, atol=1e-2)


# ---- at the start ------------------------------------------------------------------------------

HANDLING = pytest.mark.parametrize("handling", ["raise", "continue"])


@ways(OUTSIDE_JAX)
@HANDLING
def test_a_failure_at_the_start_is_an_error(name, handling, how):
    fun = Fails(criterion(name), 1, how)
    with pytest.raises(UserFunctionRuntimeError, match="Start from other params") as caught:
        om.minimize(marked(name, fun), START, name, error_handling=handling)
    assert fun.n_calls == 1
    np.testing.assert_array_equal(caught.value.params, START)
    assert caught.value.partial_result is None
    assert isinstance(caught.value.__cause__, ZeroDivisionError) == (how == "exception")


@HANDLING
@ways(["scipy_lbfgsb", "nlopt_bobyqa", "scipy_ls_trf", "bhhh"])
def test_a_failure_at_the_start_is_logged(name, handling, how, tmp_path):
    fun = marked(name, Fails(criterion(name), 1, how))
    with pytest.raises(UserFunctionRuntimeError):
        om.minimize(fun, START, name, error_handling=handling, logging=tmp_path / "run.db")
    frame = om.SQLiteLogReader(tmp_path / "run.db").to_frame()
    assert frame["kind"].tolist() == ["start"]
    assert_logged(frame, how)


@every_behind
@HANDLING
def test_a_jax_criterion_that_is_not_finite_at_the_start_is_an_error(name, handling, behind):
    with pytest.raises(UserFunctionRuntimeError, match="Start from other params"):
        om.minimize(
            walled_jax(name),
            CENTER,
            name,
            fun_kwargs={"behind": BEHIND[behind]},
            error_handling=handling,
        )


@pytest.mark.parametrize("name", [n for n in ALL if INFO[n].needs_jac and n in DISTINCT])
@HANDLING
def test_an_exact_gradient_that_is_nan_at_the_start_is_an_error(name, handling):
    def fun(x):
        # the derivative of the root is infinite at 0, that of the square 0: their product is NaN
        roots = jnp.sqrt((x - START) ** 2) + 1.0
        return roots.sum() if name in SCALAR else roots

    with pytest.raises(UserFunctionRuntimeError, match=r"derivative|jac is not finite") as caught:
        om.minimize(marked(name, fun), START, name, error_handling=handling)
    np.testing.assert_array_equal(caught.value.params, START)


@ways(WITH_GRADIENT, ["exception", "nan", "one nan"])
@HANDLING
def test_a_users_derivative_that_fails_at_the_start_is_an_error(name, handling, how):
    jac = marked(name, Fails(derivative(name), 1, how))
    with pytest.raises(UserFunctionRuntimeError) as caught:
        om.minimize(criterion(name), START, name, jac=jac, error_handling=handling)
    np.testing.assert_array_equal(caught.value.params, START)


@with_gradient
@HANDLING
def test_a_difference_quotient_that_fails_at_the_start_is_an_error(name, handling):
    fun = marked(name, Fails(criterion(name), 3, "nan"))
    with pytest.raises(UserFunctionRuntimeError) as caught:
        om.minimize(fun, START, name, error_handling=handling)
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


@pytest.mark.parametrize(("constant", "slope"), [(104.0, 0.1), (50.0, 2.0)])
def test_penalty_of_residuals_by_hand(constant, slope, monkeypatch):
    from scipy import optimize

    told = {}
    original = optimize.least_squares

    def spy(fun, x0, *, jac, **arguments):
        # 5 away from the start, in direction (3, 4) / 5
        point = x0 + np.array([3.0, 4.0])
        # the solver gets residuals in units of their size at the start
        told["residuals"] = fun(point) * math.sqrt(2)
        told["jacobian"] = jac(point) * math.sqrt(2)
        return original(fun, x0, jac=jac, **arguments)

    def fun(x):
        # a sum of squares of 2 at the start, from which the default of the constant is made
        return np.array([1.0, 1.0 + x[0], x[1]]) if x[0] < 2.5 else np.full(3, math.nan)

    monkeypatch.setattr(optimize, "least_squares", spy)
    penalty = None if slope == 0.1 else {"constant": constant, "slope": slope}
    mark = om.mark.least_squares
    jac = mark(lambda x: np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]]))
    with pytest.warns(UserWarning, match="A user function failed"):
        om.minimize(mark(fun), np.zeros(2), "scipy_ls_trf", jac=jac, error_handling="continue",
                    error_penalty=penalty)  # fmt: skip
    r, jacobian = told["residuals"], told["jacobian"]
    assert r.shape == (3,)
    assert r @ r == pytest.approx(constant + 5 * slope)
    np.testing.assert_allclose(2 * r @ jacobian, slope * np.array([0.6, 0.8]))


@pytest.mark.parametrize("constant", [-5.0, 0.0])
@pytest.mark.parametrize("name", LEAST_SQUARES)
def test_a_penalty_that_is_no_sum_of_squares_is_refused(name, constant):
    penalty = {"constant": constant}
    with pytest.raises(InvalidFunctionError, match="constant"):
        om.minimize(
            jax_criterion(name), tree(START), name, error_handling="continue", error_penalty=penalty
        )


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
    kwargs, options = {"behind": math.nan}, {"stopping_maxfun": 300}
    result = go_on(walled_jax(name), START, name, algo_options=options, fun_kwargs=kwargs)
    assert result.n_failed_evals > 1


def test_the_error_of_a_maximization_has_the_users_sign():
    fun = Fails(lambda x: -fun_numpy(x), 3, "minus inf")
    with pytest.raises(UserFunctionRuntimeError, match="value is -inf"):
        om.maximize(fun, START, "scipy_neldermead")
    fun = Fails(lambda x: -fun_numpy(x), 3, "inf")
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
    hessian = Fails(lambda x: np.diag(np.cosh(x - CENTER)), 2, how)
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


def test_huge_values_with_huge_derivatives_are_no_reason_to_warn():
    # the sum of squares of the gradient overflows
    result = om.minimize(lambda x: jnp.sum(x**4), np.full(3, 1e60), "nlopt_ccsaq")

    assert np.isfinite(result.fun)
