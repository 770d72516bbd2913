"""Nonlinear regressions on real data, solved to NIST's certified values."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

import optimagic_lite as om
from optimagic_lite.data import nist
from optimagic_lite.data.nist import NAMES, NistProblem, load_nist

# ---- the data ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_certified_parameters_give_the_certified_sum_of_squares(name):
    problem = load_nist(name)
    with jax.enable_x64(True):
        rss = float(jax.jit(problem.sum_of_squares)(problem.certified, **problem.data))
    assert rss == pytest.approx(problem.rss, rel=1e-9)


@pytest.mark.parametrize("name", NAMES)
def test_certified_parameters_give_the_certified_standard_deviations(name):
    problem = load_nist(name)
    keys = list(problem.certified)

    def residuals(b):
        return problem.residuals(dict(zip(keys, b, strict=True)), **problem.data)

    with jax.enable_x64(True):
        columns = jax.jit(jax.jacobian(residuals))(list(problem.certified.values()))
    jacobian = np.stack(columns, axis=1)
    # the diagonal of (J'J)^-1, from the triangle of a QR decomposition with scaled columns
    scale = np.linalg.norm(jacobian, axis=0)
    inverse = np.linalg.inv(np.linalg.qr(jacobian / scale, mode="r"))
    n_free = len(jacobian) - len(keys)
    std = np.sqrt(problem.rss / n_free) * np.linalg.norm(inverse, axis=1) / scale
    np.testing.assert_allclose(std, list(problem.certified_std.values()), rtol=1e-6)


def test_a_file_is_read_whole():
    problem = load_nist("Misra1a")
    assert problem.level == "lower"
    assert problem.start1 == {"b1": 500.0, "b2": 0.0001}
    assert problem.start2 == {"b1": 250.0, "b2": 0.0005}
    assert problem.starts == (problem.start1, problem.start2)
    assert problem.certified["b1"] == 2.3894212918e02
    assert problem.certified_std["b2"] == 7.2668688436e-06
    assert list(problem.data) == ["y", "x"]
    assert problem.data["y"].shape == (14,)
    assert (problem.data["y"][0], problem.data["x"][0]) == (10.07, 77.6)
    assert (problem.data["y"][-1], problem.data["x"][-1]) == (81.78, 760.0)


def test_several_predictors_are_told_apart():
    data = load_nist("Nelson").data
    assert list(data) == ["y", "x1", "x2"]
    assert set(data["x1"]) == {1, 2, 4, 8, 16, 32, 48, 64}
    assert set(data["x2"]) == {180, 225, 250, 275}


def test_all_sixteen_are_there_in_three_levels():
    assert len(NAMES) == 16
    assert {load_nist(name).level for name in NAMES} == {"lower", "average", "higher"}


def test_an_unknown_name_gets_the_nearest_one():
    with pytest.raises(ValueError, match="Did you mean 'Roszman1'"):
        load_nist("roszman")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda text: text[: text.rindex("\n", 0, -2)], "26 numbers of data instead of 14 rows"),
        (lambda text: text.replace("Residual Sum of Squares", "RSS"), "Residual Sum of Squares"),
        (lambda text: text.replace("  b", "  c"), "no table of parameters"),
    ],
)
def test_a_damaged_file_is_refused(damage, message):
    path = Path(nist.__file__).parent / "nist_strd" / "Misra1a.dat"
    with pytest.raises(ValueError, match=message):
        nist.parse("Misra1a", damage(path.read_text().rstrip() + "\n"))


def test_digits_count_the_worst_parameter():
    problem = load_nist("Misra1a")
    exact = problem.certified
    assert problem.digits(exact) == 11.0
    assert problem.digits({**exact, "b2": exact["b2"] * (1 + 1e-4)}) == pytest.approx(4.0)
    assert problem.digits({**exact, "b1": -exact["b1"]}) == 0.0
    assert problem.digits({**exact, "b1": float("nan")}) == 0.0


# ---- all problems from both starts ---------------------------------------------------------------

BFGS = om.algos.scipy_bfgs(convergence_gtol_abs=0.0, convergence_xtol_rel=0.0)
NEWTON = om.algos.scipy_trust_exact(convergence_gtol_abs=0.0)


def _solve(problem: NistProblem, start: dict[str, float], algorithm: Any, **kwargs: Any) -> Any:
    return om.minimize(
        problem.sum_of_squares,
        start,
        algorithm,
        fun_kwargs=problem.data,
        error_handling="continue",
        **kwargs,
    )


# far from the solution some trial points overflow, which "continue" reports
@pytest.mark.filterwarnings("ignore:A user function failed")
@pytest.mark.parametrize("start", [0, 1])
# Hahn1 has several valleys; which of them the sum of squares leads to depends on the first step
@pytest.mark.parametrize("name", [name for name in NAMES if name != "Hahn1"])
def test_six_digits_are_reached_from_the_sum_of_squares(name, start):
    problem = load_nist(name)
    found = []
    for algorithm in (BFGS, NEWTON):
        result = _solve(problem, problem.starts[start], algorithm)
        assert result.derivatives.kind == "exact"
        found.append((algorithm.name, problem.digits(result.params)))
        if found[-1][1] >= 6:
            assert result.fun == pytest.approx(problem.rss, rel=1e-9)
            return
    pytest.fail(f"{name} from start {start + 1}: {found}")


# ---- all problems from both starts, by their residuals -------------------------------------------

TIGHT = {"convergence_ftol_rel": 0.0, "convergence_xtol_rel": 0.0}
TRF = om.algos.scipy_ls_trf(**TIGHT, convergence_gtol_rel=0.0)
MARQUARDT = om.algos.optimistix_levenberg_marquardt(**TIGHT, convergence_gtol_rel=0.0)
LEAST_SQUARES = (TRF, om.algos.scipy_ls_lm(**TIGHT, convergence_gtol_rel=0.0))


def _digits(name: str, start: int, algorithm: Any) -> float:
    problem = load_nist(name)
    result = om.minimize(
        om.mark.least_squares(problem.residuals),
        problem.starts[start],
        algorithm,
        fun_kwargs=problem.data,
        error_handling="continue",
    )
    assert result.derivatives.kind == "exact"
    return problem.digits(result.params)


@pytest.mark.filterwarnings("ignore:A user function failed")
def test_residuals_give_eight_digits_inside_jax():
    # each of them is compiled anew, which takes seconds
    digits = {name: _digits(name, 1, MARQUARDT) for name in NAMES[::3]}
    assert min(digits.values()) >= 8, digits


@pytest.mark.filterwarnings("ignore:A user function failed")
def test_residuals_give_eight_digits_from_nearly_all_starts_and_by_some_from_all():
    cases = [(name, start) for name in NAMES for start in (0, 1)]
    digits = {
        algorithm.name: [_digits(*case, algorithm) for case in cases] for algorithm in LEAST_SQUARES
    }
    assert sum(d >= 8 for d in digits[TRF.name]) >= 30, digits
    best = np.max(list(digits.values()), axis=0)
    assert (best >= 8).all(), digits


def test_default_tolerances_are_enough_for_six_digits():
    for name in ("Misra1a", "Thurber", "Rat42", "DanWood"):
        assert _digits(name, 1, "scipy_ls_trf") >= 6


# ---- the main job: solve with three libraries, log, read back, plot ------------------------------

MAIN_JOB = (
    BFGS,
    om.algos.nlopt_tnewton_precond(convergence_ftol_rel=0.0, convergence_xtol_rel=1e-15),
    om.algos.optimistix_bfgs(convergence_gtol_abs=0.0, convergence_ftol_rel=0.0),
)


@pytest.mark.filterwarnings("ignore:A user function failed")
@pytest.mark.parametrize("name", ["Misra1a", "Thurber"])
def test_a_regression_is_solved_by_three_libraries_logged_read_back_and_plotted(name, tmp_path):
    problem = load_nist(name)
    log = tmp_path / "run.db"
    results = {}
    for algorithm in MAIN_JOB:
        logging = om.SQLiteLogOptions(log, if_database_exists="extend")
        result = _solve(problem, problem.start1, algorithm, logging=logging)
        assert problem.digits(result.params) >= 6
        assert result.fun == pytest.approx(problem.rss, rel=1e-9)
        results[algorithm.name] = result

    reader = om.SQLiteLogReader(log)
    assert list(reader.runs()["algorithm"]) == [algorithm.name for algorithm in MAIN_JOB]
    for run, result in enumerate(results.values()):
        history = reader.read_history(run)
        assert len(history.fun) == result.n_fun_evals
        np.testing.assert_array_equal(history.fun, result.history.fun)
        np.testing.assert_array_equal(history.flat_params, result.history.flat_params)
        assert np.nanmin(history.fun) == result.fun
        assert reader.read_start_params(run) == problem.start1

    figure = om.criterion_plot(results, monotone=True, log_scale=True)
    assert [line.name for line in figure.data] == list(results)
    for line, result in zip(figure.data, results.values(), strict=True):
        assert line.y[-1] == pytest.approx(result.fun)
    for result in results.values():
        of_result = om.params_plot(result)
        assert [line.name for line in of_result.data] == list(problem.certified)
        for line, certified in zip(of_result.data, problem.certified.values(), strict=True):
            assert line.y[0] == problem.start1[line.name]
            assert np.min(np.abs(np.array(line.y) / certified - 1)) < 1e-6
