"""The result: its table, its attributes by every name, its derivatives, and pickling."""

import math
import pickle
from dataclasses import dataclass
from html.parser import HTMLParser
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

import optimagic_lite as om
from optimagic_lite.history import History
from optimagic_lite.result import convergence_report
from optimagic_lite.space.trees import ParamTree

CENTER = np.array([0.5, -1.0])


def fun(params):
    """Smooth, convex, with the gradient sinh(x - CENTER) and the Hessian diag(cosh)."""
    return jnp.sum(jnp.cosh(params["x"] - CENTER)) + 1.0


def negative(params):
    return -fun(params)


START = {"x": np.array([2.0, 1.0])}


@pytest.fixture(scope="module")
def result():
    return om.minimize(fun, START, "scipy_lbfgsb")


@pytest.fixture(scope="module")
def maximum():
    return om.maximize(negative, START, "scipy_lbfgsb")


# ---- attributes ----------------------------------------------------------------------------

PEER_ATTRIBUTES = [
    "params", "fun", "start_fun", "start_params", "algorithm", "direction", "n_free", "message",
    "success", "n_fun_evals", "n_jac_evals", "n_hess_evals", "n_iterations", "status", "jac",
    "hess", "hess_inv", "max_constraint_violation", "history", "convergence_report",
    "multistart_info", "algorithm_output", "logger",
]  # fmt: skip

SCIPY_NAMES = {
    "x": "params",
    "x0": "start_params",
    "nfev": "n_fun_evals",
    "njev": "n_jac_evals",
    "nhev": "n_hess_evals",
    "nit": "n_iterations",
}


@pytest.mark.parametrize("name", PEER_ATTRIBUTES)
def test_attributes_of_the_peer_by_name_and_by_key(result, name):
    value = getattr(result, name)
    if name not in ("convergence_report", "logger"):
        assert result[name] is value


@pytest.mark.parametrize("alias", SCIPY_NAMES)
def test_names_of_scipy(result, alias):
    assert getattr(result, alias) is getattr(result, SCIPY_NAMES[alias])
    assert result[alias] is getattr(result, alias)


@pytest.mark.parametrize("key", ["nothing", "_rows", "__class__", 0, None])
def test_unknown_keys(result, key):
    with pytest.raises(KeyError, match="no attribute of the result"):
        result[key]


def test_values(result):
    # the minimum is 1 + 1 + 1 at CENTER; the start value is cosh(1.5) + cosh(2) + 1
    assert result.success is True
    assert result.fun == pytest.approx(3)
    np.testing.assert_allclose(result.params["x"], CENTER, atol=1e-4)
    assert result.start_fun == pytest.approx(math.cosh(1.5) + math.cosh(2) + 1)
    np.testing.assert_array_equal(result.start_params["x"], START["x"])
    assert result.start_params["x"] is not START["x"]
    assert (result.algorithm, result.direction, result.n_free) == ("scipy_lbfgsb", "minimize", 2)
    assert result.n_hess_evals == result.n_numdiff_evals == result.n_failed_evals == 0
    assert result.n_fun_evals == result.n_jac_evals == len(result.history)
    assert 0 < result.n_iterations <= result.n_fun_evals
    assert result.status == 0
    assert result.max_constraint_violation == 0
    assert result.derivatives.kind == "exact"
    assert result.multistart_info is None
    assert result.logger is None
    assert result.elapsed >= result.history.stop_time[-1]


def test_values_of_a_maximization(maximum):
    assert maximum.success is True
    assert maximum.direction == "maximize"
    assert maximum.fun == pytest.approx(-3)
    assert maximum.start_fun == pytest.approx(-(math.cosh(1.5) + math.cosh(2) + 1))
    np.testing.assert_allclose(maximum.params["x"], CENTER, atol=1e-4)
    assert maximum.fun == max(maximum.history.fun)


def test_logger_reads_the_log_of_the_run(tmp_path):
    logged = om.minimize(fun, START, "scipy_lbfgsb", logging=tmp_path / "run.db")
    assert logged.logger.read_history().fun == logged.history.fun
    assert logged.log_path == tmp_path / "run.db"
    assert logged.log_run == 0
    options = om.SQLiteLogOptions(tmp_path / "run.db", if_database_exists="extend")
    second = om.minimize(fun, START, "scipy_bfgs", logging=options)
    assert second.log_run == 1
    for run in (logged, second):
        assert run.logger.read_history(run.log_run).fun == run.history.fun


# ---- derivatives ---------------------------------------------------------------------------

# these know the gradient at the point that they return
WITH_GRADIENT = [
    "scipy_lbfgsb", "scipy_bfgs", "scipy_trust_exact", "nlopt_lbfgsb", "nlopt_mma",
    "optimistix_bfgs", "optax_adam",
]  # fmt: skip


@pytest.mark.parametrize("name", WITH_GRADIENT)
@pytest.mark.parametrize("n_evaluations", [4, 1000])
@pytest.mark.parametrize(("direction", "sign"), [("minimize", 1), ("maximize", -1)])
def test_jac_is_the_gradient_at_params_in_the_users_sign(name, n_evaluations, direction, sign):
    run, criterion = getattr(om, direction), fun if sign > 0 else negative
    found = run(criterion, START, name, algo_options={"stopping_maxfun": n_evaluations})
    if found.jac is None:
        # a compiled loop that was stopped from outside keeps no gradients
        assert name.startswith("opt")
        assert not found.success
        return
    expected = sign * np.sinh(found.params["x"] - CENTER)
    np.testing.assert_allclose(found.jac["x"], expected, atol=1e-9)


def test_jac_with_the_users_gradient_and_with_differences():
    def numpy_fun(x):
        return float(np.cosh(x - CENTER).sum())

    def jac(x):
        return np.sinh(x - CENTER)

    for arguments, atol in (({"jac": jac}, 1e-12), ({}, 1e-6)):
        options = {"stopping_maxfun": 4}
        found = om.minimize(
            numpy_fun, START["x"], "scipy_lbfgsb", algo_options=options, **arguments
        )
        np.testing.assert_allclose(found.jac, jac(found.params), atol=atol)
        assert np.abs(found.jac).max() > 10 * atol


def test_algorithms_without_derivatives_know_no_jac():
    found = om.minimize(fun, START, "scipy_neldermead")
    assert found.jac is None
    assert found.hess is None
    assert found.n_jac_evals == 0


@pytest.mark.parametrize(("direction", "sign"), [("minimize", 1), ("maximize", -1)])
def test_hess_and_hess_inv_have_the_users_sign(direction, sign):
    run, criterion = getattr(om, direction), fun if sign > 0 else negative
    # the Hessian at the minimum is the identity
    exact = run(criterion, START, "scipy_trust_exact")
    np.testing.assert_allclose(exact.hess, sign * np.eye(2), atol=1e-4)
    approximate = run(criterion, START, "scipy_bfgs")
    np.testing.assert_allclose(approximate.hess_inv, sign * np.eye(2), atol=0.3)


def test_violation_of_bounds_is_measured():
    bounds = om.Bounds(lower={"x": 1.0})
    found = om.minimize(fun, START, "scipy_lbfgsb", bounds=bounds)
    np.testing.assert_array_equal(found.params["x"], [1, 1])
    assert found.max_constraint_violation == 0


# ---- the convergence report ------------------------------------------------------------------


def _history(funs, points, direction="minimize"):
    history = History(direction, ParamTree(np.zeros(2)))
    for i, (value, point) in enumerate(zip(funs, points, strict=True)):
        history.append(np.array(point, dtype=float), value, i, i + 0.5, "fun")
    return history


def test_convergence_report_by_hand():
    # the third row is no improvement: steps are from (3, 0) to (3, 4), and from (0, 0)
    history = _history([4.0, 2.0, 3.0, 1.0], [(0, 0), (3, 0), (9, 9), (3, 4)])
    report = convergence_report(history)
    assert report["one_step"] == pytest.approx(
        {
            "relative_criterion_change": 1.0,
            "relative_params_change": 1.0,
            "absolute_criterion_change": 1.0,
            "absolute_params_change": 4.0,
        }
    )
    assert report["five_steps"] == pytest.approx(
        {
            "relative_criterion_change": 3.0,
            "relative_params_change": math.sqrt(2),
            "absolute_criterion_change": 3.0,
            "absolute_params_change": 5.0,
        }
    )


def test_convergence_report_looks_back_five_steps_and_no_further():
    funs = [100.0, 6.0, 5.0, 4.0, 3.0, 2.0, 1.0]
    points = [(50, 0), (6, 0), (5, 0), (4, 0), (3, 0), (2, 0), (1, 0)]
    report = convergence_report(_history(funs, points))
    assert report["five_steps"]["absolute_criterion_change"] == 5.0
    assert report["five_steps"]["absolute_params_change"] == 5.0


def test_convergence_report_divides_by_at_least_a_tenth():
    report = convergence_report(_history([0.5, 0.0], [(0.02, 0), (0.01, 0)]))
    assert report["one_step"]["relative_criterion_change"] == pytest.approx(5.0)
    assert report["one_step"]["relative_params_change"] == pytest.approx(0.1)


def test_convergence_report_of_a_maximization_and_of_failures():
    history = _history([1.0, math.nan, 3.0], [(0, 0), (7, 7), (0, 1)], "maximize")
    report = convergence_report(history)
    assert report["one_step"]["absolute_criterion_change"] == 2.0
    assert report["one_step"]["absolute_params_change"] == 1.0


def test_no_convergence_report_without_steps():
    assert convergence_report(_history([], [])) is None
    assert convergence_report(_history([1.0, 2.0], [(0, 0), (1, 0)])) is None
    silent = om.minimize(fun, START, "scipy_lbfgsb", collect_history=False)
    assert silent.convergence_report is None
    assert "change" not in repr(silent)


# ---- the table -------------------------------------------------------------------------------


def test_printed_table(result):
    text = repr(result)
    assert str(result) == text
    first = text.splitlines()[0]
    assert first == "Minimize over 2 free parameters with scipy_lbfgsb converged."
    for part in ("value ", "params ", "message ", "evaluations ", "exact", "seconds", "last step"):
        assert part in text
    assert f"{result.n_fun_evals} criterion" in text
    assert result.message in text


def test_printed_table_of_a_run_that_did_not_converge():
    options = {"stopping_maxfun": 2}
    text = repr(om.maximize(negative, START, "scipy_lbfgsb", algo_options=options))
    assert text.startswith("Maximize over 2 free parameters with scipy_lbfgsb did not converge.")
    assert "stopping_maxfun" in text
    assert "value        -" in text


def test_stars_mark_small_changes():
    # two steps of 1e-6 in x: the value changes by less than 1e-10
    quick = om.minimize(fun, {"x": CENTER + 1e-6}, "scipy_neldermead")
    lines = [line for line in repr(quick).splitlines() if "criterion change" in line]
    assert all("***" in line for line in lines)
    assert len(lines) == 2


def test_long_params_are_cut():
    long = om.minimize(lambda x: jnp.sum(x**2), np.ones(900), "scipy_lbfgsb")
    with np.printoptions(threshold=10_000):
        assert len(repr(long)) < 2500
        assert "..." in repr(long)


def test_table_names_the_log(tmp_path):
    logged = om.minimize(fun, START, "scipy_lbfgsb", logging=tmp_path / "run.db")
    assert f"{tmp_path / 'run.db'}" in repr(logged)


class _Checker(HTMLParser):
    """Collects text and checks that every tag is closed."""

    def __init__(self):
        super().__init__()
        self.open, self.tags, self.text = [], set(), ""

    def handle_starttag(self, tag, attrs):
        self.open.append(tag)
        self.tags.add(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def _read(source):
    checker = _Checker()
    checker.feed(source)
    checker.close()
    assert checker.open == []
    return checker


def test_html_table(result):
    page = _read(result._repr_html_())
    assert "table" in page.tags
    assert repr(result).splitlines()[0] in page.text
    assert result.message in page.text
    assert "relative criterion change" in page.text


def test_html_table_escapes_what_the_user_wrote():
    name = "<script>alert('&')</script>"
    found = om.minimize(lambda p: p[name] ** 2, {name: 2.0}, "scipy_neldermead")
    page = _read(found._repr_html_())
    assert "script" not in page.tags
    assert "<script>alert(" in page.text


# ---- pickling --------------------------------------------------------------------------------


class Pair(NamedTuple):
    a: Any
    b: Any


@dataclass
class Model:
    slope: Any
    level: Any


jax.tree_util.register_dataclass(Model, data_fields=["slope", "level"], meta_fields=[])


class Node:
    """A container of one's own."""

    def __init__(self, items):
        self.items = items

    def __repr__(self):
        return f"Node({self.items})"


jax.tree_util.register_pytree_node(Node, lambda n: (n.items, None), lambda _, c: Node(list(c)))

INDEX = pd.MultiIndex.from_tuples([("a", 1), ("b", 2)], names=["letter", "digit"])

PARAMS = {
    "number": 2.0,
    "integer": 2,
    "array": np.array([[1.0, 2.0], [3.0, 4.0]]),
    "float32 array": np.array([1, 2], dtype=np.float32),
    "jax array": jnp.array([1.0, 2.0]),
    "nested": {"b": [1.0, (2.0, np.ones(2))], "a": {"c": 3.0}},
    "namedtuple": Pair(1.0, np.ones(2)),
    "dataclass": Model(np.ones(2), 3.0),
    "custom node": Node([1.0, np.ones(2)]),
    "series": pd.Series([1.0, 2.0], index=INDEX, name="values"),
    "data frame": pd.DataFrame({"value": [1.0, 2.0], "note": ["x", "y"]}, index=["a", "b"]),
    "mixed": {"s": pd.Series([1.0], index=["k"]), "x": np.ones(2), "j": jnp.ones(2)},
}


def square_sum(params):
    """Sum of squared distances to 1/2 of all numbers, whatever the container."""
    return float(sum(((np.asarray(leaf) - 0.5) ** 2).sum() for leaf in _numbers(params)))


def _numbers(params):
    for leaf in jax.tree.leaves(params):
        yield leaf["value"] if isinstance(leaf, pd.DataFrame) else leaf


def assert_same(left, right):
    """Two trees have the same structure, types and numbers."""
    assert type(left) is type(right)
    if isinstance(left, pd.DataFrame):
        pd.testing.assert_frame_equal(left, right)
    elif isinstance(left, pd.Series):
        pd.testing.assert_series_equal(left, right)
    elif isinstance(left, (float, int, np.ndarray, jax.Array)):
        assert np.asarray(left).dtype == np.asarray(right).dtype
        np.testing.assert_array_equal(np.asarray(left), np.asarray(right))
    elif isinstance(left, dict):
        assert list(left) == list(right)
        for key, value in left.items():
            assert_same(value, right[key])
    else:
        assert jax.tree.structure(left) == jax.tree.structure(right)
        for a, b in zip(jax.tree.leaves(left), jax.tree.leaves(right), strict=True):
            assert_same(a, b)


@pytest.mark.parametrize("kind", PARAMS)
def test_pickle(kind, tmp_path):
    params = PARAMS[kind]
    found = om.minimize(
        square_sum,
        params,
        "scipy_lbfgsb",
        derivatives="numerical",
        logging=tmp_path / "run.db",
        bounds=om.Bounds(lower=-10.0) if kind == "array" else None,
    )
    assert found.fun == pytest.approx(0, abs=1e-6)
    found.to_pickle(tmp_path / "result.pkl")
    by_file = pickle.loads((tmp_path / "result.pkl").read_bytes())
    for again in (by_file, pickle.loads(pickle.dumps(found))):
        assert_same(again.params, found.params)
        assert_same(again.jac, found.jac)
        assert_same(again.start_params, found.start_params)
        assert again.fun == found.fun
        assert again.history.fun == found.history.fun
        np.testing.assert_array_equal(again.history.flat_params, found.history.flat_params)
        assert again.history.flat_param_names == found.history.flat_param_names
        assert_same(again.history.params[-1], found.history.params[-1])
        assert repr(again) == repr(found)
        assert again.logger.read_history().fun == found.history.fun


@pytest.mark.parametrize("name", ["scipy_trust_exact", "nlopt_bobyqa", "optax_adam"])
def test_pickle_of_every_library(name):
    found = om.minimize(fun, START, name, algo_options={"stopping_maxfun": 50})
    again = pickle.loads(pickle.dumps(found))
    assert repr(again) == repr(found)
    assert_same(again.params, found.params)


# ---- the callback's state ----------------------------------------------------------------------


def test_callback_state():
    states = []
    found = om.maximize(negative, START, "scipy_neldermead", callback=states.append)
    first, last = states[0], states[-1]
    assert all(isinstance(state, om.CallbackState) for state in states)
    assert first.fun == first.best_fun == pytest.approx(found.start_fun)
    np.testing.assert_array_equal(first.params["x"], START["x"])
    assert first.x is first.params
    assert last.n_fun_evals == found.n_fun_evals == len(states)
    assert last.best_fun == found.fun
    np.testing.assert_array_equal(last.best_params["x"], found.params["x"])
    assert (np.diff([state.best_fun for state in states]) >= 0).all()
    assert (np.diff([state.elapsed for state in states]) > 0).all()


def test_callback_may_change_what_it_gets():
    def spoil(state):
        state.params["x"][:] = math.nan
        state.best_params["x"][:] = math.nan

    spoiled = om.minimize(fun, START, "scipy_neldermead", callback=spoil)
    clean = om.minimize(fun, START, "scipy_neldermead")
    np.testing.assert_array_equal(spoiled.history.flat_params, clean.history.flat_params)


def test_a_result_does_not_depend_on_the_start_after_the_run():
    start = {"a": 1.0, "b": 2.0}
    result = om.minimize(lambda p: p["a"] ** 2 + p["b"] ** 2, start, "scipy_lbfgsb")
    start["a"] = 99.0
    start["c"] = 0.0
    assert result.start_params == {"a": 1.0, "b": 2.0}
    assert pickle.loads(pickle.dumps(result)).history.params[0] == {"a": 1.0, "b": 2.0}

    frame = pd.DataFrame({"value": [1.0, 2.0]}, index=["x", "y"])
    result = om.minimize(lambda p: float((p["value"] ** 2).sum()), frame, "scipy_lbfgsb")
    frame.loc["z"] = 5.0
    assert result.history.params[0].index.tolist() == ["x", "y"]
