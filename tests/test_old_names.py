"""Calls of the past give the same results, and a warning that can be followed."""

import copy
import pickle
import re
import warnings

import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from scipy import optimize

import optimagic_lite as om
from optimagic_lite.exceptions import (
    AliasError,
    InvalidAlgoOptionError,
    InvalidConstraintError,
    InvalidFunctionError,
    InvalidMultistartError,
    InvalidNumdiffOptionsError,
)

TARGET = np.array([1.0, 2.0, 3.0])
START = np.array([2.0, 0.5, 1.0])


def fun(x, shift=0.0):
    return float(((x - TARGET - shift) ** 2).sum())


def jac(x, shift=0.0):
    return 2 * (x - TARGET - shift)


def fun_and_jac(x, shift=0.0):
    return fun(x, shift), jac(x, shift)


def outdated(call, *args, **kwargs):
    """Return what a call of the past gives, and the lines of advice of its one warning."""
    with pytest.warns(FutureWarning) as caught:
        result = call(*args, **kwargs)
    assert [w.filename for w in caught] == [__file__]
    return result, advice_of(caught[0])


def advice_of(warning):
    title, *lines = str(warning.message).split("\n  ")
    assert "still work" in title
    return lines


def assert_same(result, other):
    np.testing.assert_array_equal(
        np.asarray(getattr(result.params, "value", result.params)),
        np.asarray(getattr(other.params, "value", other.params)),
    )
    assert result.fun == other.fun
    assert result.n_fun_evals == other.n_fun_evals


BASE = {"fun": fun, "params": START, "algorithm": "scipy_lbfgsb"}
SMALL = {"lower": np.zeros(3), "upper": np.full(3, 2.5)}
BOX = om.Bounds(np.zeros(3), np.full(3, 5.0))
NARROW = {"bounds": BOX, "jac": jac}
SERIES = {"fun": lambda p: fun(p.to_numpy()), "params": pd.Series(START, index=list("abc"))}
FRAME = {
    "fun": lambda p: fun(p["value"].to_numpy()),
    "params": pd.DataFrame({"value": START, "group": ["u", "v", "v"]}, index=list("abc")),
}

# old arguments, new ones, what the warning says; the rest of the call is BASE
CALLS = {
    "criterion": ({"fun": None, "criterion": fun}, {}, ["criterion=...  ->  fun=..."]),
    "criterion_kwargs": (
        {"criterion_kwargs": {"shift": 1.0}},
        {"fun_kwargs": {"shift": 1.0}},
        ["criterion_kwargs=...  ->  fun_kwargs=..."],
    ),
    "derivative": (
        {"derivative": jac, "derivative_kwargs": {"shift": 0.0}},
        {"jac": jac, "jac_kwargs": {"shift": 0.0}},
        ["derivative=...  ->  jac=...", "derivative_kwargs=...  ->  jac_kwargs=..."],
    ),
    "criterion_and_derivative": (
        {"criterion_and_derivative": fun_and_jac, "criterion_and_derivative_kwargs": {"shift": 0}},
        {"fun_and_jac": fun_and_jac, "fun_and_jac_kwargs": {"shift": 0}},
        [
            "criterion_and_derivative=...  ->  fun_and_jac=...",
            "criterion_and_derivative_kwargs=...  ->  fun_and_jac_kwargs=...",
        ],
    ),
    "a dict of derivatives": (
        {"derivative": {"value": jac, "root_contributions": lambda _: np.eye(3)}},
        {"jac": [om.mark.scalar(jac), om.mark.least_squares(lambda _: np.eye(3))]},
        [
            "derivative=...  ->  jac=...",
            "jac={'value', 'root_contributions'}  ->  "
            "jac=[om.mark.scalar(...), om.mark.least_squares(...)]",
        ],
    ),
    "bounds": (
        {"lower_bounds": SMALL["lower"], "upper_bounds": SMALL["upper"]},
        {"bounds": om.Bounds(**SMALL)},
        ["lower_bounds=..., upper_bounds=...  ->  bounds=om.Bounds(lower=..., upper=...)"],
    ),
    "one bound, and one that is None": (
        {"lower_bounds": 1.5, "upper_bounds": None, "params": START + 1.5},
        {"bounds": om.Bounds(lower=1.5), "params": START + 1.5},
        ["lower_bounds=1.5, upper_bounds=None  ->  bounds=om.Bounds(lower=1.5)"],
    ),
    "scaling": (
        {"scaling": True, "scaling_options": {"method": "start_values", "clipping_value": 0.6}},
        {"scaling": om.ScalingOptions(method="start_values", clipping_value=0.6)},
        [
            "scaling_options=...  ->  "
            "scaling=om.ScalingOptions(method='start_values', clipping_value=0.6)"
        ],
    ),
    "scaling that is not switched on": (
        {"scaling_options": {"method": "bounds"}},
        {},
        ["scaling_options=...  ->  leave it out, it changes nothing"],
    ),
    "multistart": (
        {
            **NARROW,
            "multistart": True,
            "multistart_options": {"convergence.max_discoveries": 5, "n_samples": 30, "seed": 1},
        },
        {
            **NARROW,
            "multistart": om.MultistartOptions(convergence_max_discoveries=5, n_samples=30, seed=1),
        },
        [
            "multistart_options=...  ->  multistart=om.MultistartOptions("
            "n_samples=30, seed=1, convergence_max_discoveries=5)"
        ],
    ),
    "multistart with soft bounds": (
        {
            "soft_lower_bounds": np.zeros(3),
            "soft_upper_bounds": np.full(3, 4.0),
            "multistart": {"n_samples": 20, "seed": 2, "share_optimization": 0.2},
        },
        {
            "bounds": om.Bounds(soft_lower=np.zeros(3), soft_upper=np.full(3, 4.0)),
            "multistart": {"n_samples": 20, "seed": 2, "stopping_maxopt": 4},
        },
        [
            "soft_lower_bounds=..., soft_upper_bounds=...  ->  "
            "bounds=om.Bounds(soft_lower=..., soft_upper=...)",
            "multistart: share_optimization=0.2  ->  stopping_maxopt=4",
        ],
    ),
    "all other options of multistart": (
        {
            **NARROW,
            "multistart": {
                "n_samples": 20,
                "seed": 3,
                "convergence.relative_params_tolerance": 0.1,
                "exploration_error_handling": "continue",
                "optimization_error_handling": "continue",
                "sampling_distribution": "triangle",
            },
        },
        {
            **NARROW,
            "multistart": {
                "n_samples": 20,
                "seed": 3,
                "convergence_xtol_rel": 0.1,
                "error_handling": "continue",
                "sampling_distribution": "triangular",
            },
        },
        [
            "multistart: convergence.relative_params_tolerance=0.1  ->  convergence_xtol_rel=0.1",
            "multistart: optimization_error_handling='continue', "
            "exploration_error_handling='continue'  ->  error_handling='continue', "
            "for points and for optimisations",
            "multistart: sampling_distribution='triangle'  ->  sampling_distribution='triangular'",
        ],
    ),
    "numerical derivatives": (
        {"numdiff_options": {"method": "forward", "base_steps": 1e-6, "n_steps": 1}},
        {"numdiff_options": {"method": "forward", "step_size": 1e-6}},
        [
            "numdiff_options: base_steps=1e-06  ->  step_size=1e-06",
            "numdiff_options: n_steps=1  ->  leave it out, it changes nothing",
        ],
    ),
    "options of algorithms": (
        {
            "algo_options": {
                "stopping.max_criterion_evaluations": 40,
                "stopping_max_iterations": 4,
                "convergence.relative_criterion_tolerance": 1e-4,
                "limited_memory_storage_length": 5,
            }
        },
        {
            "algo_options": {
                "stopping_maxfun": 40,
                "stopping_maxiter": 4,
                "convergence_ftol_rel": 1e-4,
                "limited_memory_storage_length": 5,
            }
        },
        [
            "algo_options: stopping.max_criterion_evaluations=40  ->  stopping_maxfun=40",
            "algo_options: stopping_max_iterations=4  ->  stopping_maxiter=4",
            "algo_options: convergence.relative_criterion_tolerance=0.0001  ->  "
            "convergence_ftol_rel=0.0001",
        ],
    ),
    "a constraint on positions": (
        {"constraints": {"type": "fixed", "loc": [0, 2]}},
        {"constraints": om.FixedConstraint(lambda params: params[np.array([0, 2])])},
        [
            "constraints: {'type': 'fixed', 'loc': [0, 2]}  ->  "
            "om.FixedConstraint(lambda params: params[np.array([0, 2])])"
        ],
    ),
    "constraints on a Series": (
        SERIES
        | {
            "constraints": [
                {"type": "fixed", "loc": "a"},
                {"type": "linear", "loc": ["b", "c"], "weights": 2, "value": 3.0},
            ]
        },
        SERIES
        | {
            "constraints": [
                om.FixedConstraint(lambda params: params.loc["a"]),
                om.LinearConstraint(lambda params: params.loc[["b", "c"]], weights=2, value=3.0),
            ]
        },
        [
            "constraints: {'type': 'fixed', 'loc': 'a'}  ->  "
            "om.FixedConstraint(lambda params: params.loc['a'])",
            "constraints: {'type': 'linear', 'loc': ['b', 'c'], 'weights': 2, 'value': 3.0}  ->  "
            "om.LinearConstraint(lambda params: params.loc[['b', 'c']], weights=2, value=3.0)",
        ],
    ),
    "constraints on a DataFrame": (
        FRAME
        | {
            "constraints": [
                {"type": "fixed", "loc": "a"},
                {"type": "decreasing", "query": "group == 'v'"},
            ],
            "params": FRAME["params"].assign(value=[2.0, 2.0, 1.0]),
        },
        FRAME
        | {
            "constraints": [
                om.FixedConstraint(lambda params: params.loc["a", "value"]),
                om.DecreasingConstraint(lambda params: params.query("group == 'v'")["value"]),
            ],
            "params": FRAME["params"].assign(value=[2.0, 2.0, 1.0]),
        },
        [
            "constraints: {'type': 'fixed', 'loc': 'a'}  ->  "
            "om.FixedConstraint(lambda params: params.loc['a', \"value\"])",
            "constraints: {'type': 'decreasing', 'query': \"group == 'v'\"}  ->  "
            'om.DecreasingConstraint(lambda params: params.query("group == \'v\'")["value"])',
        ],
    ),
    "selections that are pairwise equal": (
        {
            "constraints": {"type": "pairwise_equality", "locs": [[0], [2]]},
            "params": np.ones(3),
        },
        {
            "constraints": om.PairwiseEqualityConstraint(
                selectors=[lambda params: params[[0]], lambda params: params[[2]]]
            ),
            "params": np.ones(3),
        },
        [
            "constraints: {'type': 'pairwise_equality', 'locs': [[0], [2]]}  ->  "
            "om.PairwiseEqualityConstraint(selectors=[lambda params: params[np.array([0])], "
            "lambda params: params[np.array([2])]])"
        ],
    ),
    "a nonlinear constraint": (
        {
            "algorithm": "scipy_slsqp",
            "constraints": {
                "type": "nonlinear",
                "selector": lambda x: x[:2],
                "func": lambda x: float(x @ x),
                "derivative": lambda x: 2 * x,
                "upper_bounds": 4.5,
            },
        },
        {
            "algorithm": "scipy_slsqp",
            "constraints": om.NonlinearConstraint(
                lambda x: x[:2],
                func=lambda x: float(x @ x),
                derivative=lambda x: 2 * x,
                upper_bound=4.5,
            ),
        },
        [
            "constraints: {'type': 'nonlinear', 'selector': ..., 'func': ..., 'derivative': ..., "
            "'upper_bounds': 4.5}  ->  om.NonlinearConstraint(..., func=..., derivative=..., "
            "upper_bound=4.5)"
        ],
    ),
}


@pytest.mark.parametrize(("old", "new", "advice"), CALLS.values(), ids=CALLS)
def test_an_old_call_gives_what_the_new_one_does(old, new, advice):
    result, lines = outdated(om.minimize, **(BASE | old))

    assert lines == advice
    assert_same(result, om.minimize(**(BASE | new)))


@pytest.mark.parametrize(
    "name",
    ["one bound, and one that is None", "scaling", "multistart", "a constraint on positions"],
)
def test_advice_can_be_copied(name):
    old, new, lines = CALLS[name]
    copied = lines[0].split("  ->  ")[1]
    if lines[0].startswith("constraints"):
        copied = f"constraints={copied}"
    removed = {key for key in old if key.endswith(("_bounds", "_options"))}
    kept = {key: value for key, value in old.items() if key not in removed}
    arguments = eval(f"dict({copied})", {"om": om, "np": np})

    assert_same(om.minimize(**(BASE | kept | arguments)), om.minimize(**(BASE | new)))


def test_maximize_knows_the_same_names():
    result, lines = outdated(
        om.maximize, criterion=lambda x: -fun(x), params=START, algorithm="scipy_lbfgsb"
    )

    assert lines == ["criterion=...  ->  fun=..."]
    assert_same(result, om.maximize(lambda x: -fun(x), START, "scipy_lbfgsb"))


def test_one_warning_lists_all_old_names_of_a_call():
    _, lines = outdated(
        om.minimize,
        criterion=fun,
        params=START,
        algorithm="scipy_lbfgsb",
        derivative=jac,
        lower_bounds=np.zeros(3),
        algo_options={"stopping.max_iterations": 3},
        constraints={"type": "fixed", "loc": 0},
    )

    assert len(lines) == 5


def test_positional_arguments_stay_in_place():
    result, _ = outdated(om.minimize, fun, START, "scipy_lbfgsb", upper_bounds=np.full(3, 2.5))

    assert_same(result, om.minimize(fun, START, "scipy_lbfgsb", bounds=om.Bounds(upper=2.5)))


# ---- logs ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "advised", "n_runs"),
    [
        ({"if_database_exists": "replace"}, "if_database_exists='replace'", 1),
        ({"if_table_exists": "replace"}, "if_database_exists='replace'", 1),
        ({"fast_logging": True}, "fast_logging=True, if_database_exists='extend'", 2),
        (
            {"if_database_exists": "extend", "if_table_exists": "extend", "fast_logging": False},
            "fast_logging=False, if_database_exists='extend'",
            2,
        ),
    ],
)
def test_log_options(tmp_path, monkeypatch, options, advised, n_runs):
    monkeypatch.chdir(tmp_path)
    om.minimize(fun, START, "scipy_lbfgsb", logging="run.db")
    result, lines = outdated(om.minimize, **BASE, logging="run.db", log_options=options)

    assert lines == [f"log_options=...  ->  logging=om.SQLiteLogOptions('run.db', {advised})"]
    assert result.log_run == n_runs - 1
    copied = eval(lines[0].split("  ->  logging=")[1], {"om": om})
    assert om.minimize(**BASE, logging=copied).log_run == (0 if n_runs == 1 else n_runs)


def test_log_options_without_a_log_change_nothing():
    result, lines = outdated(om.minimize, **BASE, logging=False, log_options={"fast_logging": True})

    assert result.log_path is None
    assert lines == ["log_options=...  ->  leave it out, it changes nothing"]


def test_a_log_is_read_by_old_keys(tmp_path):
    result = om.minimize(**BASE, logging=tmp_path / "run.db")
    reader = om.OptimizeLogReader(tmp_path / "run.db")

    values, lines = outdated(reader.read_history().__getitem__, "criterion")
    assert values == result.history.fun
    assert lines == ["criterion  ->  fun"]
    assert outdated(reader.read_iteration(0).__getitem__, "value")[0] == result.start_fun


# ---- what cannot be --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"criterion": fun}, "criterion is the old name of fun"),
        ({"criterion_kwargs": {"shift": 1.0}, "fun_kwargs": {}}, "old name of fun_kwargs"),
        ({"derivative": jac, "jac": jac}, "old name of jac"),
        ({"lower_bounds": 0.0, "bounds": om.Bounds()}, "lower_bounds are fields of bounds"),
        ({"scaling": {"method": "bounds"}, "scaling_options": {}}, "give only scaling"),
        ({"multistart": {"seed": 1}, "multistart_options": {}}, "give only multistart"),
        (
            {"logging": om.SQLiteLogOptions("x.db"), "log_options": {"fast_logging": True}},
            "give only logging",
        ),
        (
            {"multistart": {"share_optimizations": 0.1, "n_samples": 9, "stopping_maxopt": 2}},
            "old way to give stopping_maxopt",
        ),
        ({"numdiff_options": {"base_steps": 1e-6, "step_size": 1e-6}}, "old name of step_size"),
    ],
)
def test_old_and_new_names_together_contradict(arguments, message):
    with pytest.raises(AliasError, match=message):
        om.minimize(**(BASE | arguments))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (
            {"algo_options": {"stopping.max_iterations": 3, "stopping_maxiter": 4}},
            InvalidAlgoOptionError,
            "old name of stopping_maxiter",
        ),
        ({"numdiff_options": {"n_steps": 3}}, InvalidNumdiffOptionsError, "Richardson"),
        (
            {"multistart": {"share_optimizations": 0.2}},
            InvalidMultistartError,
            "Give n_samples.*and stopping_maxopt",
        ),
        (
            {"multistart": {"share_optimizations": "all", "n_samples": 10}},
            InvalidMultistartError,
            "must be a share",
        ),
        (
            {
                "multistart": {
                    "optimization_error_handling": "raise",
                    "exploration_error_handling": "continue",
                }
            },
            InvalidMultistartError,
            "there is one error_handling for both",
        ),
        ({"derivative": {"valu": jac}}, InvalidFunctionError, "Did you mean 'value'"),
        (
            {"logging": "x.db", "log_options": {"if_database_exist": "replace"}},
            AliasError,
            "Did you mean 'if_database_exists'",
        ),
    ],
)
def test_what_cannot_be_honoured_is_refused_with_what_to_do(arguments, error, message):
    with pytest.raises(error, match=message):
        om.minimize(**(BASE | arguments))


@pytest.mark.parametrize(
    ("name", "proposed"),
    [
        ("algo_option", "algo_options"),
        ("constraint", "constraints"),
        ("lower_bound", "bounds"),
        ("criterio", "fun"),
        ("xyz", "fun, params, algorithm"),
    ],
)
def test_unknown_arguments_are_refused_with_the_nearest_name_of_today(name, proposed):
    with pytest.raises(TypeError, match=f"minimize.. has no argument '{name}'.*{proposed}"):
        om.minimize(**BASE, **{name: 1})


def test_python_finds_arguments_that_are_given_twice():
    with pytest.raises(TypeError, match="multiple values"):
        om.minimize(fun, START, "scipy_lbfgsb", params=START)


# ---- criteria that return dicts --------------------------------------------------------------


def entries(residuals, xp=np):
    # the value says 5 more, so that a test sees which entry counts
    contributions = residuals**2
    return {
        "value": contributions.sum() + 5,
        "contributions": contributions,
        "root_contributions": residuals,
    }


def dict_of_numpy(x):
    return entries(x - TARGET)


def dict_of_jax(x):
    return entries(jnp.exp(x) - jnp.exp(TARGET))


def negative_dict(x):
    out = dict_of_numpy(x)
    return {"value": -out["value"], "contributions": -out["contributions"]}


KINDS = {
    "scipy_lbfgsb": ("value", om.mark.scalar, "return value"),
    "scipy_ls_trf": (
        "root_contributions",
        om.mark.least_squares,
        "return root_contributions, and put @om.mark.least_squares above fun",
    ),
}


@pytest.mark.parametrize("algorithm", KINDS)
@pytest.mark.parametrize("function", [dict_of_numpy, dict_of_jax])
def test_an_algorithm_takes_its_entry_of_a_dict(algorithm, function):
    key, marked, advice = KINDS[algorithm]
    result, lines = outdated(om.minimize, function, START, algorithm)
    today = om.minimize(marked(lambda x: function(x)[key]), START, algorithm)

    assert lines == [
        "return {'value': ..., 'contributions': ..., 'root_contributions': ...}  ->  " + advice
    ]
    assert_same(result, today)
    assert result.derivatives == today.derivatives
    assert (result.derivatives.kind == "exact") == (function is dict_of_jax)


def test_bhhh_takes_contributions():
    def jacobian(x):
        return np.diag(-2 * (x - TARGET))

    arguments = {"params": TARGET + 0.1, "algorithm": "bhhh"}
    with pytest.warns(FutureWarning) as caught:
        result = om.maximize(criterion=negative_dict, derivative=jacobian, **arguments)
    today = om.maximize(
        om.mark.likelihood(lambda x: negative_dict(x)["contributions"]),
        jac=om.mark.likelihood(jacobian),
        **arguments,
    )

    assert advice_of(caught[0]) == ["criterion=...  ->  fun=...", "derivative=...  ->  jac=..."]
    assert advice_of(caught[1]) == [
        "return {'value': ..., 'contributions': ...}  ->  "
        "return contributions, and put @om.mark.likelihood above fun",
        "derivatives of contributions: put @om.mark.likelihood above them, too",
    ]
    assert_same(result, today)
    assert result.derivatives.kind == "user"


def test_criterion_and_derivative_may_return_a_dict():
    def both(x):
        return dict_of_numpy(x), np.eye(3)

    with pytest.warns(FutureWarning):
        result = om.minimize(dict_of_numpy, START, "scipy_ls_trf", criterion_and_derivative=both)
    today = om.minimize(
        om.mark.least_squares(lambda x: x - TARGET),
        START,
        "scipy_ls_trf",
        fun_and_jac=om.mark.least_squares(lambda x: (x - TARGET, np.eye(3))),
    )

    assert_same(result, today)


@pytest.mark.parametrize("key", ["contributions", "root_contributions"])
def test_a_dict_without_a_value_is_added_up(key):
    result, _ = outdated(om.minimize, lambda x: {key: dict_of_numpy(x)[key]}, START, "scipy_bfgs")

    assert result.fun == pytest.approx(0.0, abs=1e-8)


def test_a_dict_of_derivatives_goes_with_a_dict_of_values():
    by_kind = {"value": jac, "root_contributions": lambda _: np.eye(3)}
    with pytest.warns(FutureWarning):
        scalar = om.minimize(dict_of_numpy, START, "scipy_lbfgsb", derivative=by_kind)
    with pytest.warns(FutureWarning):
        squares = om.minimize(dict_of_numpy, START, "scipy_ls_trf", derivative=by_kind)

    assert (scalar.fun, squares.fun) == pytest.approx((5.0, 0.0), abs=1e-8)
    assert scalar.derivatives.kind == squares.derivatives.kind == "user"


def test_other_entries_of_a_dict_are_kept_as_info():
    def criterion(x):
        return {"value": fun(x), "largest": float(x.max())}

    result, lines = outdated(om.minimize, criterion, START, "scipy_lbfgsb")

    assert result.history.info[0] == {"largest": 2.0}
    assert lines == [
        "return {'value': ..., 'largest': ...}  ->  "
        "return om.ScalarFunctionValue(value, info={'largest': ...})"
    ]


def test_a_dict_of_jax_is_compiled_once():
    calls = []

    def criterion(x):
        calls.append(x)
        return dict_of_jax(x)

    first, _ = outdated(om.minimize, criterion, START, "scipy_lbfgsb")
    n_first = len(calls)
    second, _ = outdated(om.minimize, criterion, START + 0.1, "scipy_lbfgsb")

    assert len(calls) - n_first <= n_first < first.n_fun_evals
    assert second.fun == pytest.approx(first.fun)


def test_dicts_serve_multistart_several_threads_and_checks():
    with pytest.warns(FutureWarning):
        result = om.minimize(
            dict_of_numpy,
            START,
            "scipy_lbfgsb",
            bounds=BOX,
            multistart=True,
            multistart_options={"n_samples": 10, "n_cores": 2, "batch_evaluator": "threading"},
            numdiff_options={"n_cores": 2, "batch_evaluator": "threading"},
            derivative=jac,
            check_derivatives=True,
        )

    np.testing.assert_allclose(result.params, TARGET, atol=1e-4)


def test_functions_that_return_dicts_travel():
    cloudpickle = pytest.importorskip("cloudpickle")
    from optimagic_lite.objective.dicts import OneOfDict

    travelled = pickle.loads(cloudpickle.dumps(OneOfDict(lambda x: entries(x), "likelihood")))

    assert travelled(np.ones(2)).value.tolist() == [1.0, 1.0]


def test_a_dict_without_what_the_algorithm_needs_is_refused():
    with (
        pytest.warns(FutureWarning),
        pytest.raises(InvalidFunctionError, match=r"needs residuals.*one number"),
    ):
        om.minimize(lambda x: {"value": fun(x)}, START, "scipy_ls_trf")


def test_a_marked_tree_may_have_any_keys():
    @om.mark.least_squares
    def residuals(x):
        return {"root_contributions": x - TARGET, "more": x - TARGET}

    assert om.minimize(residuals, START, "scipy_ls_trf").fun == pytest.approx(0.0, abs=1e-12)


# ---- results ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def result():
    return om.minimize(**BASE, jac=jac)


ATTRIBUTES = {
    "criterion": "fun",
    "start_criterion": "start_fun",
    "n_criterion_evaluations": "n_fun_evals",
    "n_derivative_evaluations": "n_jac_evals",
}


@pytest.mark.parametrize(("old", "new"), ATTRIBUTES.items())
def test_attributes_of_a_result_have_their_old_names(result, old, new):
    for read in (getattr, lambda owner, name: owner[name]):
        value, lines = outdated(lambda r=read: r(result, old))

        assert value == getattr(result, new)
        assert lines == [f"{old}  ->  {new}"]


@pytest.mark.parametrize(("old", "new"), [("criterion", "fun"), ("runtime", "time")])
def test_columns_of_a_history_have_their_old_names(result, old, new):
    value, lines = outdated(lambda: result.history[old])

    assert list(value) == list(result.history[new])
    assert lines == [f"{old}  ->  {new}"]


def test_a_result_has_no_other_attributes(result):
    assert not hasattr(result, "criteria")
    with pytest.raises(AttributeError, match=r"attribute 'succes'.*Did you mean 'success'"):
        result.succes  # noqa: B018
    with pytest.raises(KeyError, match="criteria"):
        result["criteria"]


def test_results_are_copied_and_pickled_without_a_warning(result):
    for twin in (copy.copy(result), copy.deepcopy(result), pickle.loads(pickle.dumps(result))):
        assert twin.fun == result.fun


# ---- derivatives -----------------------------------------------------------------------------


def squares(x):
    return {"a": x**2, "b": x.sum()}


@pytest.mark.parametrize("derivative", [om.first_derivative, om.second_derivative])
def test_derivatives_know_their_old_arguments(derivative):
    found, lines = outdated(
        derivative, squares, START,
        key="a", base_steps=np.full(3, 1e-4), n_steps=1, step_ratio=2.0,
        lower_bounds=np.zeros(3), upper_bounds=np.full(3, 2.0), return_func_value=True,
        return_info=False,
    )  # fmt: skip
    today = derivative(
        squares,
        START,
        unpacker=lambda out: out["a"],
        step_size=np.full(3, 1e-4),
        bounds=om.Bounds(np.zeros(3), np.full(3, 2.0)),
    )

    np.testing.assert_array_equal(found.derivative, today.derivative)
    assert lines == [
        "base_steps=...  ->  step_size=...",
        "n_steps=1  ->  leave it out, it changes nothing",
        "step_ratio=2.0  ->  leave it out, it changes nothing",
        "lower_bounds=..., upper_bounds=...  ->  bounds=om.Bounds(lower=..., upper=...)",
        "key='a'  ->  unpacker=lambda out: out['a']",
        "return_func_value  ->  leave it out, the result always has a func_value",
        "return_info=False  ->  leave it out",
    ]


def test_the_result_of_a_derivative_is_read_as_a_dict():
    found = om.first_derivative(lambda x: x @ x, START)

    derivative, lines = outdated(lambda: found["derivative"])
    np.testing.assert_array_equal(derivative, found.derivative)
    assert lines == ["['derivative']  ->  .derivative"]
    assert outdated(lambda: found["func_value"])[0] == found.func_value
    with pytest.raises(KeyError, match="func_evals"):
        found["func_evals"]


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"n_steps": 2}, InvalidNumdiffOptionsError, "Richardson"),
        ({"return_info": True}, InvalidNumdiffOptionsError, "return_info=True cannot be had"),
        ({"key": "a", "unpacker": len}, AliasError, "give only that"),
        ({"base_steps": 1.0, "step_size": 1.0}, AliasError, "old name of step_size"),
        ({"lower_bounds": 0.0, "bounds": om.Bounds()}, AliasError, "fields of bounds"),
        ({"metod": "central"}, TypeError, "Did you mean 'method'"),
    ],
)
def test_derivatives_refuse_what_cannot_be(arguments, error, message):
    with pytest.raises(error, match=message):
        om.first_derivative(squares, START, **arguments)


# ---- other functions and classes -------------------------------------------------------------


def test_multistart_options_have_their_old_fields():
    options, lines = outdated(
        om.MultistartOptions,
        n_samples=50,
        share_optimization=0.1,
        convergence_relative_params_tolerance=0.02,
        optimization_error_handling="raise",
    )

    assert options == om.MultistartOptions(
        n_samples=50, stopping_maxopt=5, convergence_xtol_rel=0.02, error_handling="raise"
    )
    assert lines == [
        "convergence_relative_params_tolerance=0.02  ->  convergence_xtol_rel=0.02",
        "share_optimization=0.1  ->  stopping_maxopt=5",
        "optimization_error_handling='raise'  ->  error_handling='raise', "
        "for points and for optimisations",
    ]


def test_bounds_of_functions_that_look_at_constraints():
    n_free, lines = outdated(om.count_free_params, START, lower_bounds=START, upper_bounds=START)

    assert n_free == 0
    assert re.match("lower_bounds=.*->  bounds=om.Bounds", lines[0])
    outdated(om.check_constraints, START, om.FixedConstraint(), lower_bounds=np.zeros(3))


def test_calls_of_today_give_no_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        om.minimize(
            fun, START, "scipy_lbfgsb", jac=jac, bounds=BOX, logging=False, scaling=False,
            multistart=om.MultistartOptions(n_samples=5), algo_options={"stopping_maxiter": 5},
            numdiff_options={"method": "forward"}, constraints=[], fun_kwargs={"shift": 0.0},
        )  # fmt: skip


def test_bounds_of_a_slice_plot():
    with pytest.warns(FutureWarning, match=r"bounds=om\.Bounds\(lower="):
        old = om.slice_plot(np.sum, np.ones(2), lower_bounds=np.zeros(2), upper_bounds=np.ones(2))
    new = om.slice_plot(np.sum, np.ones(2), bounds=om.Bounds(lower=np.zeros(2), upper=np.ones(2)))

    assert old == new


def test_what_happens_to_a_log_that_is_there_may_be_an_enumeration(tmp_path):
    for strategy in om.ExistenceStrategy:
        options = om.SQLiteLogOptions(tmp_path / "run.db", if_database_exists=strategy)
        assert options.if_database_exists == strategy.value


def test_scipys_names_of_constraints_are_understood_in_dicts():
    def inside(x):
        return x @ x

    constraint = {"type": "nonlinear", "selector": lambda x: x, "fun": inside,
                  "jac": lambda x: 2 * x, "upper_bounds": 1.0}  # fmt: skip
    with pytest.warns(FutureWarning, match=r"om\.NonlinearConstraint\(\.\.\., func=\.\.\."):
        result = om.minimize(
            lambda x: ((x - 2) ** 2).sum(), np.zeros(2), "scipy_slsqp", constraints=constraint
        )
    np.testing.assert_allclose(result.params, np.sqrt([0.5, 0.5]), atol=1e-5)


@pytest.mark.parametrize(
    ("constraint", "said"),
    [
        ({"type": "ineq", "fun": np.sum}, r"om.NonlinearConstraint\(func=..., lower_bound=0\)"),
        (optimize.NonlinearConstraint(np.sum, 0, 1), r"SciPy's is om.NonlinearConstraint"),
        ({"type": "fixed", "loc": 0, "value": 1.0}, "write the value into params"),
    ],
)
def test_what_constraints_cannot_be_is_said_at_once(constraint, said):
    with pytest.raises(InvalidConstraintError, match=said):
        om.minimize(np.sum, np.zeros(2), "scipy_slsqp", constraints=constraint)


def test_a_list_of_numbers_is_an_array_where_it_has_scipys_name():
    result = om.minimize(lambda x: x @ x, x0=[1, 2.0], method="BFGS")

    assert result.x.shape == (2,)


def test_a_property_that_raises_says_so_itself():
    class Result(om.OptimizeResult):
        @property
        def broken(self):
            raise AttributeError("of its own")

    with pytest.raises(AttributeError, match="of its own"):
        _ = Result.__new__(Result).broken


def test_algorithms_of_others_are_refused_with_what_comes_nearest():
    with pytest.raises(InvalidAlgoOptionError, match="'scipy_ls_trf' comes nearest"):
        om.minimize(np.sum, np.zeros(2), "pounders")
