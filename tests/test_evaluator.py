"""The door through which algorithms evaluate, seen by toy algorithms."""

import math

import jax.numpy as jnp
import numpy as np
import pytest

import optimagic_lite as om
from optimagic_lite.algorithms.base import REGISTRY, Algorithm, Outcome, algorithm
from optimagic_lite.exceptions import InvalidAlgoInfoError

CENTER = np.array([1.0, -2.0])
START = np.array([3.0, 4.0])


def fun_numpy(x):
    return float(((x - CENTER) ** 2).sum())


def fun_jax(x):
    return jnp.sum((x - CENTER) ** 2)


@pytest.fixture
def toy():
    """Register an algorithm of a function ``solve(evaluator, x0)`` for the time of a test."""
    names = []

    def register(solve, **traits):
        name = f"scipy_toy{len(names)}"

        @algorithm(name, **traits)
        class Toy(Algorithm):
            """A toy."""

            def solve(self, evaluator, x0):
                return solve(evaluator, x0)

        names.append(name)
        return name

    yield register
    for name in names:
        del REGISTRY[name]


def done(evaluator=None, x0=None):
    return Outcome(True, "done")


@pytest.mark.parametrize("fun", [fun_numpy, fun_jax])
@pytest.mark.parametrize(
    ("traits", "ask"),
    [
        ({}, lambda e, x: e.jac(x)),
        ({}, lambda e, x: e.fun_and_jac(x)),
        ({}, lambda e, x: e.hess(x)),
        ({"needs_jac": True}, lambda e, x: e.hess(x)),
        ({"needs_jac": True}, lambda e, x: e.hessp(x, np.ones(2))),
    ],
    ids=["jac", "fun_and_jac", "hess", "hess with jac", "hessp with jac"],
)
def test_undeclared_derivatives_are_refused(toy, fun, traits, ask):
    def solve(evaluator, x0):
        ask(evaluator, x0 + 1)
        return done()

    with pytest.raises(InvalidAlgoInfoError, match="declaration"):
        om.minimize(fun, START, toy(solve, **traits))


@pytest.mark.parametrize("fun", [fun_numpy, fun_jax])
def test_declared_derivatives_are_right(toy, fun):
    seen = {}

    def solve(evaluator, x0):
        x, v = x0 + 1, np.array([1.0, 3.0])
        seen.update(
            fun=evaluator.fun(x),
            jac=evaluator.jac(x),
            both=evaluator.fun_and_jac(x),
            hess=evaluator.hess(x),
            hessp=evaluator.hessp(x, v),
        )
        return done()

    om.minimize(fun, START, toy(solve, needs_jac=True, needs_hess=True))
    # at (4, 5): 9 + 49, gradient (6, 14), Hessian 2 I
    assert seen["fun"] == seen["both"][0] == pytest.approx(58)
    np.testing.assert_allclose(seen["jac"], [6, 14], rtol=1e-7)
    np.testing.assert_allclose(seen["both"][1], [6, 14], rtol=1e-7)
    np.testing.assert_allclose(seen["hess"], 2 * np.eye(2), atol=1e-4)
    np.testing.assert_allclose(seen["hessp"], [2, 6], atol=1e-3)


@pytest.mark.parametrize("fun", [fun_numpy, fun_jax])
def test_one_point_is_one_evaluation_and_one_row(toy, fun):
    def solve(evaluator, x0):
        x = x0 + 1
        first = evaluator.fun(x), evaluator.jac(x), evaluator.fun_and_jac(x), evaluator.fun(x)
        assert first[0] == first[2][0] == first[3]
        np.testing.assert_array_equal(first[1], first[2][1])
        # an equal point in another array is the same point
        evaluator.fun(x.copy())
        return done()

    result = om.minimize(fun, START, toy(solve, needs_jac=True))
    assert result.n_fun_evals == 2
    assert result.n_jac_evals <= 2
    assert len(result.history) == 2


def test_the_start_is_not_evaluated_twice(toy):
    calls = []

    def fun(x):
        calls.append(x)
        return fun_numpy(x)

    def solve(evaluator, x0):
        assert evaluator.fun(x0) == fun_numpy(START)
        return done()

    result = om.minimize(fun, START, toy(solve))
    assert len(calls) == result.n_fun_evals == len(result.history) == 1


def test_a_solver_that_moves_its_array_in_place_changes_no_row(toy):
    def solve(evaluator, x0):
        for _ in range(3):
            x0 -= 1
            assert evaluator.fun(x0) == fun_numpy(x0)
        x0[:] = math.nan
        return done()

    result = om.minimize(fun_numpy, START, toy(solve))
    expected = START - np.arange(4)[:, None]
    np.testing.assert_array_equal(result.history.flat_params, expected)
    # distances to (1, -2) from (3, 4), (2, 3), (1, 2), (0, 1): 40, 26, 16, 10
    assert result.history.fun == [40.0, 26.0, 16.0, 10.0]
    np.testing.assert_array_equal(result.params, [0, 1])
    np.testing.assert_array_equal(START, [3, 4])


@pytest.mark.parametrize("what", ["fun", "jac", "fun_and_jac", "hess", "hessp"])
def test_functions_that_change_their_arguments_corrupt_nothing(toy, what):
    def spoiled(function):
        def wrapper(params, *others):
            value = function(params["x"].copy())
            params["x"][:] = math.nan
            for other in others:
                other["x"][:] = math.nan
            params.clear()
            return value

        return wrapper

    functions = {
        "fun": fun_numpy,
        "jac": lambda x: {"x": 2 * (x - CENTER)},
        "fun_and_jac": lambda x: (fun_numpy(x), {"x": 2 * (x - CENTER)}),
        "hess": lambda x: 2 * np.eye(2),
        "hessp": lambda x: {"x": np.zeros(2)},
    }
    given = {"fun": spoiled(fun_numpy), what: spoiled(functions[what])}

    def solve(evaluator, x0):
        for step in (1.0, 2.0):
            x, v = x0 + step, np.ones(2)
            evaluator.fun_and_jac(x)
            evaluator.hess(x)
            evaluator.hessp(x, v)
            np.testing.assert_array_equal(x, START + step)
            np.testing.assert_array_equal(v, [1, 1])
        return done()

    params = {"x": START.copy()}
    result = om.minimize(
        params=params, algorithm=toy(solve, needs_jac=True, needs_hess=True), **given
    )
    np.testing.assert_array_equal(params["x"], START)
    np.testing.assert_array_equal(result.start_params["x"], START)
    np.testing.assert_array_equal(result.history.flat_params, [START, START + 1, START + 2])


def test_batches_are_recorded_as_batches(toy):
    def solve(evaluator, x0):
        values = evaluator.batch_fun(x0 - np.arange(1.0, 4.0)[:, None])
        np.testing.assert_array_equal(values, [26, 16, 10])
        evaluator.fun(x0 + 1)
        return done()

    result = om.minimize(fun_numpy, START, toy(solve, supports_parallelism=True))
    assert result.n_fun_evals == len(result.history) == 5
    batches = result.history.batches
    assert batches[1] == batches[2] == batches[3]
    assert len(set(batches)) == 3
    assert result.fun == 10.0


def test_batches_obey_limits_and_the_sign(toy):
    def solve(evaluator, x0):
        assert evaluator.batch_fun(x0[None]).tolist() == [40.0]
        while True:
            evaluator.batch_fun(x0 + np.ones((4, 1)))

    name = toy(solve)
    result = om.maximize(lambda x: -fun_numpy(x), START, name, algo_options={"stopping_maxfun": 10})
    assert result.success is False
    assert "stopping_maxfun" in result.message
    assert result.history.fun[0] == -40.0


# ---- callbacks -------------------------------------------------------------------------------


@pytest.mark.parametrize("stop", [True, np.True_], ids=repr)
def test_a_callback_may_answer_with_a_comparison_of_arrays(stop):
    result = om.minimize(
        fun_numpy, START, "scipy_neldermead", callback=lambda s: stop if s.n_fun_evals > 3 else None
    )
    assert result.n_fun_evals == 4
    assert "callback" in result.message


@pytest.mark.parametrize("answer", [False, None, 1, "yes", np.False_], ids=repr)
def test_a_callback_that_does_not_answer_true_goes_on(answer):
    result = om.minimize(fun_numpy, START, "scipy_neldermead", callback=lambda _: answer)
    assert result.success


# ---- ends ------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [RuntimeError("round-off"), ValueError("no"), MemoryError()])
def test_a_solver_that_raises_at_its_end_yields_its_best_point(toy, error):
    def solve(evaluator, x0):
        evaluator.fun(CENTER + 0.5)
        evaluator.fun(x0 + 1)
        raise error

    result = om.minimize(fun_numpy, START, toy(solve))
    assert result.success is False
    assert type(error).__name__ in result.message
    assert "best point" in result.message
    np.testing.assert_array_equal(result.params, CENTER + 0.5)
    assert result.fun == 0.5


def test_a_solver_that_swallows_exceptions_cannot_go_on(toy):
    calls = []

    def solve(evaluator, x0):
        for step in range(1000):
            try:
                evaluator.fun(x0 + step)
            except Exception:
                calls.append(step)
                if len(calls) > 5:
                    break
        return done()

    result = om.minimize(fun_numpy, START, toy(solve), algo_options={"stopping_maxfun": 3})
    assert result.n_fun_evals == 3


def test_a_limit_ends_a_solver_that_never_does(toy):
    def solve(evaluator, x0):
        while True:
            x0 = x0 * 0.999
            evaluator.fun(x0)

    for option, limit in (("maxfun", 20), ("maxiter", 20), ("maxtime", 0.02)):
        options = {f"stopping_{option}": limit}
        result = om.minimize(
            fun_numpy, START, toy(solve, counts_iterations=False), algo_options=options
        )
        assert not result.success
        assert f"stopping_{option}" in result.message


def test_iterations_that_a_solver_counts_are_limited(toy):
    def solve(evaluator, x0):
        while True:
            for _ in range(3):
                x0 = x0 * 0.999
                evaluator.fun(x0)
            evaluator.iteration()

    result = om.minimize(fun_numpy, START, toy(solve), algo_options={"stopping_maxiter": 4})
    assert "stopping_maxiter" in result.message
    assert result.n_fun_evals == 1 + 4 * 3


def test_what_the_solver_reports_comes_back_in_the_users_sign(toy):
    def solve(evaluator, x0):
        f, g = evaluator.fun_and_jac(CENTER + 1)
        return Outcome(
            True, "done", status=7, fun=f, n_iterations=3, hess=2 * np.eye(2),
            hess_inv=np.eye(2) / 2, gradient=g, info={"extra": "a"},
        )  # fmt: skip

    result = om.maximize(lambda x: -fun_jax(x), START, toy(solve, needs_jac=True))
    assert (result.success, result.status, result.n_iterations) == (True, 7, 3)
    assert result.fun == pytest.approx(-2)
    np.testing.assert_allclose(result.jac, [-2, -2])
    np.testing.assert_allclose(result.hess, -2 * np.eye(2))
    np.testing.assert_allclose(result.hess_inv, -np.eye(2) / 2)
    assert result.algorithm_output["extra"] == "a"


def test_a_value_that_cannot_be_used_in_the_middle_of_a_run_is_told_with_all_that_is_known(
    tmp_path,
):
    calls = []

    def forgets(x):
        calls.append(x)
        return None if len(calls) == 4 else fun_numpy(x)

    with pytest.raises(om.exceptions.InvalidFunctionError, match="Is a return missing") as caught:
        om.minimize(forgets, START, "scipy_neldermead", logging=tmp_path / "run.db")
    np.testing.assert_array_equal(caught.value.params, calls[-1])
    assert caught.value.partial_result.fun == min(fun_numpy(x) for x in calls[:-1])
    frame = om.SQLiteLogReader(tmp_path / "run.db").to_frame()
    assert len(frame) == 4
    assert "Is a return missing" in frame["exception"].iloc[-1]


@pytest.mark.parametrize("error_handling", ["raise", "continue"])
def test_params_that_are_not_finite_end_the_run_and_are_no_fault_of_the_criterion(
    toy, error_handling
):
    asked = []

    def solve(evaluator, x0):
        for x in (x0 + 1, x0 * math.nan, x0 + 2):
            asked.append(x)
            evaluator.fun(x)
        return done()

    result = om.minimize(fun_numpy, START, toy(solve), error_handling=error_handling)
    assert len(asked) == 2
    assert result.success is False
    assert "params that are not finite" in result.message
    assert result.fun == fun_numpy(START)
