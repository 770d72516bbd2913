"""What helps with runs that take long: a progress bar, and several cores."""

import re
import sys
import threading
import time

import numpy as np
import pytest

import optimagic_lite as om
from optimagic_lite.exceptions import InvalidFunctionError, NotInstalledError

START = np.array([0.5, -1.0, 2.0])


def sphere(x):
    return (x**2).sum()


# ---- progress ------------------------------------------------------------------------------------


def test_the_last_state_of_the_bar_is_that_of_the_result(capsys):
    result = om.minimize(sphere, START, "scipy_neldermead", progress=True)
    last = capsys.readouterr().err.split("\r")[-1]
    assert last.startswith("scipy_neldermead")
    assert f"{result.n_fun_evals} evaluations" in last
    assert f"best {result.fun:.8g}" in last


def test_the_bar_knows_the_limit_on_evaluations(capsys):
    options = {"stopping_maxfun": 30}
    om.minimize(sphere, START, "scipy_neldermead", progress=True, algo_options=options)
    assert "100%" in capsys.readouterr().err.split("\r")[-1]


def test_the_bar_moves_while_the_run_goes_on(capsys):
    def slow(x):
        time.sleep(0.03)
        return sphere(x)

    options = {"stopping_maxfun": 20}
    om.minimize(slow, START, "scipy_neldermead", progress=True, algo_options=options)
    counts = [int(n) for n in re.findall(r"(\d+)/20 ", capsys.readouterr().err)]
    assert counts == sorted(counts)
    assert len(set(counts)) > 3


def test_the_bar_shows_differences_and_violations(capsys):
    outside = om.NonlinearConstraint(func=lambda x: x.sum(), lower_bound=10.0)
    om.minimize(sphere, START, "scipy_slsqp", progress=True, constraints=outside)
    states = capsys.readouterr().err
    assert "more for differences" in states
    assert "violation 8.5" in states
    assert "violation" not in states.split("\r")[-1]


def test_values_have_the_sign_of_the_user(capsys):
    om.maximize(lambda x: 7 - sphere(x), START, "scipy_lbfgsb", progress=True)
    assert "best 7" in capsys.readouterr().err.split("\r")[-1]


@pytest.mark.parametrize("end", [ValueError, KeyboardInterrupt])
def test_the_bar_is_closed_when_the_run_fails(capsys, end):
    calls = []

    def fails(x):
        calls.append(x)
        if len(calls) > 5:
            raise end("on purpose")
        return sphere(x)

    with pytest.raises((om.exceptions.UserFunctionRuntimeError, KeyboardInterrupt)):
        om.minimize(fails, START, "scipy_neldermead", progress=True)
    assert capsys.readouterr().err.endswith("\n")


def test_no_bar_without_being_asked(capsys):
    om.minimize(sphere, START, "scipy_neldermead")
    assert capsys.readouterr().err == ""


def test_a_missing_tqdm_is_told_before_the_first_evaluation(monkeypatch):
    monkeypatch.setitem(sys.modules, "tqdm.auto", None)

    def never(x):
        raise AssertionError

    with pytest.raises(NotInstalledError, match="pip install tqdm"):
        om.minimize(never, START, "scipy_neldermead", progress=True)


# ---- cores ---------------------------------------------------------------------------------------


def nearly(x):
    """A function whose differences depend on method and steps."""
    return np.cosh(x).sum() + np.prod(x)


@pytest.mark.parametrize("method", ["central", "forward", "backward"])
def test_cores_change_no_number(method):
    results = [
        om.minimize(
            nearly,
            START,
            "scipy_bfgs",
            numdiff_options=om.NumdiffOptions(method, n_cores=n, batch_evaluator="threading"),
        )
        for n in (1, 3)
    ]
    assert results[0].n_numdiff_evals == results[1].n_numdiff_evals
    np.testing.assert_array_equal(results[0].history.flat_params, results[1].history.flat_params)


def test_processes_change_no_number_of_a_jacobian():
    def residuals(x):
        return np.exp(x) - np.arange(3)

    results = [
        om.minimize(
            om.mark.least_squares(residuals),
            START,
            "scipy_ls_trf",
            numdiff_options={"n_cores": n},
            algo_options={"stopping_maxfun": 4},
        )
        for n in (1, 2)
    ]
    np.testing.assert_array_equal(results[0].history.flat_params, results[1].history.flat_params)


def test_points_of_a_derivative_are_evaluated_at_the_same_time():
    barrier = threading.Barrier(2, timeout=20)
    is_started = []

    def waits(x):
        if is_started:
            barrier.wait()
        is_started.append(True)
        return sphere(x)

    om.minimize(
        waits,
        START[:2],
        "scipy_lbfgsb",
        numdiff_options=om.NumdiffOptions(n_cores=2, batch_evaluator="threading"),
        # the start, and the points of its derivative, which come in pairs
        algo_options={"stopping_maxfun": 1},
    )
    assert len(is_started) == 5


@pytest.mark.parametrize("evaluator", ["joblib", "threading"])
def test_a_failure_on_another_core_has_its_cause_and_traceback(tmp_path, evaluator):
    def fails(x):
        if x[0] > START[0]:
            raise ArithmeticError(f"at {x[0]:.1f}")
        return sphere(x)

    with pytest.raises(
        om.exceptions.UserFunctionRuntimeError, match=r"ArithmeticError: at 0\.5"
    ) as e:
        om.minimize(
            fails,
            START,
            "scipy_lbfgsb",
            numdiff_options=om.NumdiffOptions(n_cores=2, batch_evaluator=evaluator),
            logging=tmp_path / "run.db",
        )
    assert isinstance(e.value.__cause__, ArithmeticError)
    frame = om.SQLiteLogReader(tmp_path / "run.db").to_frame()
    (text,) = frame["traceback"].dropna()
    assert "in fails" in text
    assert text.rstrip().endswith("ArithmeticError: at 0.5")


# ---- checked derivatives -------------------------------------------------------------------------


def test_wrong_derivatives_end_the_run_before_it_begins(tmp_path):
    with pytest.raises(InvalidFunctionError, match=r"3 entries, 1 wrong(.|\n)*jac +1 "):
        om.minimize(
            sphere,
            START,
            "scipy_lbfgsb",
            jac=lambda x: 2 * x * [1, -1, 1],
            check_derivatives=True,
            logging=tmp_path / "run.db",
        )
    assert not (tmp_path / "run.db").exists()


def test_right_derivatives_pass_and_leave_no_trace():
    checked, plain = (
        om.minimize(sphere, START, "scipy_lbfgsb", jac=lambda x: 2 * x, check_derivatives=check)
        for check in (True, False)
    )
    assert checked.n_fun_evals == plain.n_fun_evals
    np.testing.assert_array_equal(checked.history.flat_params, plain.history.flat_params)
