"""Multistart with a solver inside JAX solves a batch side by side, and nobody notices."""

import jax.numpy as jnp
import numpy as np
import pytest

import optimagic_lite as om
from optimagic_lite.exceptions import UserFunctionRuntimeError
from optimagic_lite.multistart.lanes import SideBySide

OPTIONS = om.MultistartOptions(
    n_samples=50, stopping_maxopt=8, convergence_max_discoveries=9, seed=1
)
BOX = om.Bounds(lower=np.full(2, -5.0), upper=np.full(2, 5.0))


def himmelblau(x):
    """Four minima with value 0 (Himmelblau 1972), one in each quadrant."""
    return jnp.square(x[0] ** 2 + x[1] - 11) + jnp.square(x[0] + x[1] ** 2 - 7)


def search(fun=himmelblau, options=OPTIONS, **more):
    return om.minimize(fun, np.ones(2), "jax_bfgs", bounds=BOX, multistart=options, **more)


def test_multistart_solves_a_batch_side_by_side(tmp_path, monkeypatch):
    solved, solve = [], SideBySide.solve

    def counted(self):
        found = solve(self)
        solved.append(len(found))
        return found

    monkeypatch.setattr(SideBySide, "solve", counted)
    result = search(logging=tmp_path / "log.db")
    assert solved == [4, 4]
    # several threads do not solve side by side
    spread = {"n_cores": 2, "batch_evaluator": "threading"}
    alone = search(options=om.MultistartOptions(**{**vars(OPTIONS), **spread}))
    assert solved == [4, 4]

    one, two = result.multistart_info, alone.multistart_info
    for optimum, expected in zip(one.local_optima, two.local_optima, strict=True):
        np.testing.assert_allclose(optimum.params, expected.params, rtol=0, atol=1e-9)
        for name in ("n_fun_evals", "n_iterations", "status", "message", "success"):
            assert optimum[name] == expected[name]
    assert result.n_fun_evals == alone.n_fun_evals
    assert result.message == alone.message
    steps = om.SQLiteLogReader(tmp_path / "log.db").read_step_histories()
    for number, history in enumerate(one.history.local_histories, start=1):
        np.testing.assert_array_equal(steps[number].flat_params, history.flat_params)
        np.testing.assert_array_equal(steps[number].fun, history.fun)


def test_a_callback_stops_multistart():
    seen = []

    def stop(progress):
        seen.append(progress.n_fun_evals)
        return len(seen) == 60

    result = search(callback=stop)
    assert len(seen) == 60
    assert result.n_fun_evals == 60
    assert result.message == "The callback stopped the run."


def test_limits_hold_for_each_local_optimisation():
    result = search(algo_options={"stopping_maxfun": 3})
    optima = result.multistart_info.local_optima
    assert len(optima) == 8
    assert all(len(optimum.history) <= 3 for optimum in optima)
    assert {optimum.status for optimum in optima} == {101}


def test_the_first_failure_ends_multistart_if_errors_are_raised():
    def fun(x):
        # only the exploration never goes there
        return himmelblau(x) + jnp.where(himmelblau(x) < 0.1, jnp.nan, 0.0)

    options = om.MultistartOptions(**{**vars(OPTIONS), "error_handling": "raise"})
    with pytest.raises(UserFunctionRuntimeError, match="not finite"):
        search(fun, options)
