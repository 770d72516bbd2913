"""The public names, their signatures, what importing costs, and what is refused with advice."""

import inspect
import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize

import optimagic_lite as om
from optimagic_lite.exceptions import (
    AliasError,
    InvalidAlgoOptionError,
    InvalidBoundsError,
    InvalidConstraintError,
    InvalidFunctionError,
    InvalidKwargsError,
    InvalidMultistartError,
    InvalidScalingError,
    LogError,
    MissingInputError,
    NotAvailableError,
    OptimagicError,
)

ROOT = Path(om.__file__).parents[1]

# The arguments of minimize in optimagic 0.5 without those that it deprecates.
PEER_ARGUMENTS = [
    "fun",
    "params",
    "algorithm",
    "bounds",
    "constraints",
    "fun_kwargs",
    "algo_options",
    "jac",
    "jac_kwargs",
    "fun_and_jac",
    "fun_and_jac_kwargs",
    "numdiff_options",
    "logging",
    "error_handling",
    "error_penalty",
    "scaling",
    "multistart",
    "collect_history",
    "skip_checks",
    "x0",
    "method",
    "args",
    "hess",
    "hessp",
    "callback",
    "options",
    "tol",
]

# The names of exceptions in optimagic.exceptions 0.5 that a user may want to catch here.
PEER_EXCEPTIONS = [
    "OptimagicError",
    "TableExistsError",
    "InvalidFunctionError",
    "UserFunctionRuntimeError",
    "MissingInputError",
    "AliasError",
    "InvalidKwargsError",
    "InvalidParamsError",
    "InvalidConstraintError",
    "InvalidBoundsError",
    "IncompleteBoundsError",
    "InvalidScalingError",
    "InvalidMultistartError",
    "InvalidNumdiffOptionsError",
    "InvalidAlgoInfoError",
    "InvalidAlgoOptionError",
    "StopOptimizationError",
    "InvalidPlottingBackendError",
    "NotInstalledError",
    "NotAvailableError",
]

HEAVY = ["pandas", "plotly", "sqlalchemy", "scipy.optimize", "nlopt", "optimistix", "optax",
         "equinox", "sqlite3"]  # fmt: skip


def sphere(x):
    return ((x - 1.0) ** 2).sum()


def minimize(*args, **kwargs):
    defaults = {} if args else {"fun": sphere, "params": np.zeros(2), "algorithm": "scipy_lbfgsb"}
    return om.minimize(*args, **(defaults | kwargs))


def python(code):
    """Run code in a fresh process and return what it printed."""
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    return run.stdout


# ---- names -----------------------------------------------------------------------------------


def test_every_public_name_exists_and_is_listed():
    assert om.__all__ == sorted(om.__all__)
    assert set(om.__all__) <= set(dir(om))
    for name in om.__all__:
        assert getattr(om, name) is not None


def test_names_of_the_peer_are_there():
    for name in ("minimize", "maximize", "Bounds", "NumdiffOptions", "OptimizeResult", "algos",
                 "SQLiteLogOptions", "SQLiteLogReader", "History", "criterion_plot",
                 "params_plot", "slice_plot", "ExistenceStrategy", "constraints",
                 "get_benchmark_problems", "run_benchmark", "convergence_report", "rank_report",
                 "traceback_report", "profile_plot", "convergence_plot"):  # fmt: skip
        assert name in om.__all__


def test_what_only_the_peer_has_is_refused_with_what_to_use_instead():
    with pytest.raises(AttributeError, match=r"Use om.maximize with @om.mark.likelihood"):
        _ = om.estimate_ml


def test_exceptions_of_the_peer_are_there_and_share_a_base():
    for name in PEER_EXCEPTIONS:
        assert issubclass(getattr(om.exceptions, name), OptimagicError)


def test_public_things_are_documented():
    for name in om.__all__:
        value = getattr(om, name)
        assert inspect.getdoc(value), name


def test_unknown_names_are_refused_with_the_nearest():
    with pytest.raises(AttributeError, match=r"minimise.*Did you mean.*'minimize'"):
        om.minimise  # noqa: B018


def test_star_import_gives_the_public_names():
    printed = python("from optimagic_lite import *; print(minimize.__name__, params_plot.__name__)")

    assert printed.split() == ["minimize", "params_plot"]


def test_version_is_that_of_the_package():
    text = (ROOT / "pyproject.toml").read_text()

    assert f'version = "{om.__version__}"' in text


# ---- loading ---------------------------------------------------------------------------------


def test_importing_loads_nothing_heavy():
    printed = python(f"import optimagic_lite, sys; print([m for m in {HEAVY} if m in sys.modules])")

    assert printed.strip() == "[]"


def test_choosing_algorithms_and_solving_in_numpy_load_no_pandas_plotly_or_sql():
    printed = python(
        "import optimagic_lite as om, numpy as np, sys\n"
        "om.algos.Bounded.Local.AvailableNames; dir(om); repr(om.algos)\n"
        "om.minimize(lambda x: (x**2).sum(), np.ones(2), 'scipy_lbfgsb', bounds=[(0, 1)] * 2)\n"
        "print([m for m in ('pandas', 'plotly', 'sqlalchemy', 'nlopt', 'optax', 'optimistix')\n"
        "       if m in sys.modules])"
    )

    assert printed.strip() == "[]"


def test_importing_leaves_jax_as_it_is():
    printed = python(
        "import jax; before = dict(jax.config.values)\n"
        "import optimagic_lite\n"
        "print(before == dict(jax.config.values))\n"
        "from jax._src import xla_bridge; print(xla_bridge.backends_are_initialized())"
    )

    assert printed.split() == ["True", "False"]


# ---- signatures ------------------------------------------------------------------------------


@pytest.mark.parametrize("function", [om.minimize, om.maximize])
def test_signature_has_the_arguments_of_the_peer_and_the_new_ones(function):
    parameters = inspect.signature(function).parameters

    assert set(parameters) == {
        *PEER_ARGUMENTS,
        "derivatives",
        "bounds_as",
        "progress",
        "check_derivatives",
        "resume",
    }
    assert list(parameters)[:3] == ["fun", "params", "algorithm"]
    assert {p.kind.name for p in list(parameters.values())[3:]} == {"KEYWORD_ONLY"}
    assert (parameters["collect_history"].default, parameters["skip_checks"].default) == (
        True,
        False,
    )
    assert parameters["error_handling"].default == "raise"


def test_minimize_and_maximize_have_the_same_signature():
    assert inspect.signature(om.minimize) == inspect.signature(om.maximize)


def test_every_argument_is_documented():
    text = inspect.getdoc(om.minimize)

    for name in inspect.signature(om.minimize).parameters:
        assert f"\n    {name}: " in text


# ---- calls as users of the peer and of SciPy write them --------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"algorithm": om.algos.scipy_lbfgsb},
        {"algorithm": om.algos.scipy_lbfgsb(stopping_maxiter=100)},
        {"bounds": om.Bounds(lower=np.zeros(2), upper=np.full(2, 5.0))},
        {"bounds": scipy.optimize.Bounds([0, 0], [5, 5])},
        {"constraints": None, "scaling": False, "multistart": False, "logging": False},
        {"constraints": []},
        {"error_handling": "continue", "error_penalty": {"constant": 100, "slope": 0.1}},
        {"numdiff_options": om.NumdiffOptions(method="forward")},
        {"numdiff_options": {"method": "backward"}},
        {"jac": lambda x: 2 * (x - 1.0)},
        {"fun_and_jac": lambda x: (((x - 1.0) ** 2).sum(), 2 * (x - 1.0))},
        {"collect_history": False, "skip_checks": True},
        {"params": None, "x0": np.zeros(2)},
        {"algorithm": None, "method": "L-BFGS-B"},
        {"algorithm": None, "method": "bfgs"},
        {"fun": lambda x, a, b: a * ((x - b) ** 2).sum(), "args": (2.0, 1.0)},
        {"fun": lambda x, b: ((x - b) ** 2).sum(), "args": 1.0},
        {"fun": lambda x, *rest: ((x - rest[1]) ** 2).sum(), "args": (2.0, 1.0)},
        {
            "fun": lambda x, b: ((x - b) ** 2).sum(),
            "jac": lambda x, b: 2 * (x - b),
            "args": (1.0,),
        },
        {
            "algorithm": None,
            "method": "trust-exact",
            "jac": jax.grad(lambda x: jnp.sum((x - 1.0) ** 2)),
            "hess": lambda x: 2 * np.eye(2),
        },
    ],
)
def test_calls_as_the_peer_and_scipy_understand_them(arguments):
    result = minimize(**arguments)

    np.testing.assert_allclose(result.params, 1.0, atol=1e-4)


def test_first_three_arguments_are_positional():
    result = om.minimize(sphere, np.zeros(2), "scipy_neldermead")

    np.testing.assert_allclose(result.x, 1.0, atol=1e-3)


# ---- refusals --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "error", "advice"),
    [
        ({"constraints": [{"type": "fixed"}]}, InvalidConstraintError, "'loc'"),
        ({"constraints": object()}, InvalidConstraintError, "om.FixedConstraint"),
        ({"scaling": "bounds"}, InvalidScalingError, "om.ScalingOptions or a dict"),
        ({"scaling": {"method": "bound"}}, InvalidScalingError, "Did you mean 'bounds'"),
        ({"bounds_as": "transfrom"}, InvalidBoundsError, "Did you mean 'transform'"),
        ({"multistart": True}, InvalidMultistartError, "soft bounds"),
        ({"multistart": {"n_sample": 5}}, InvalidMultistartError, "Did you mean 'n_samples'"),
        ({"tol": 1e-6}, AliasError, "convergence_ftol_rel"),
        ({"tol": 0.0}, AliasError, "convergence_ftol_rel"),
        ({"options": {"maxiter": 5}}, AliasError, "algo_options.*stopping_maxiter"),
        ({"options": {}}, AliasError, "algo_options"),
        ({"fun": None}, MissingInputError, "fun is missing"),
        ({"params": None}, MissingInputError, "params is missing.*minimize"),
        ({"algorithm": None}, MissingInputError, "algorithm is missing"),
        ({"x0": np.zeros(2)}, AliasError, "x0 is another name of params"),
        ({"method": "BFGS"}, AliasError, "method is another name of algorithm"),
        ({"algorithm": None, "method": "BFSG"}, InvalidAlgoOptionError, "Did you mean.*'BFGS'"),
        ({"algorithm": "scipy_lbfgs"}, InvalidAlgoOptionError, "Did you mean.*'scipy_lbfgsb'"),
        ({"algorithm": "L-BFGS-B"}, InvalidAlgoOptionError, "Did you mean 'scipy_lbfgsb'"),
        ({"algorithm": 5}, InvalidAlgoOptionError, "algorithm must be a name"),
        ({"algorithm": int}, InvalidAlgoOptionError, "algorithm must be a name"),
        ({"algo_options": {"stopping_maxitr": 1}}, InvalidAlgoOptionError, "'stopping_maxiter'"),
        ({"algo_options": {"stopping_maxiter": 0}}, InvalidAlgoOptionError, "at least 1"),
        ({"algo_options": {"stopping_maxiter": 1.5}}, InvalidAlgoOptionError, "whole number"),
        ({"algo_options": {"stopping_maxtime": "1"}}, InvalidAlgoOptionError, "must be a number"),
        ({"fun": 5}, InvalidFunctionError, "fun must be a function, not 5"),
        ({"jac": 5}, InvalidFunctionError, "jac must be a function, not 5"),
        ({"jac": "2-point"}, InvalidFunctionError, "derivatives='numerical'"),
        ({"fun_and_jac": "x"}, InvalidFunctionError, "fun_and_jac must be a function"),
        ({"hess": 5}, InvalidFunctionError, "hess must be a function"),
        ({"hessp": 5}, InvalidFunctionError, "hessp must be a function"),
        ({"callback": 5}, InvalidFunctionError, "callback must be a function"),
        ({"hess": lambda x: np.eye(2)}, NotAvailableError, "uses no Hessian.*scipy_trust_exact"),
        (
            {"algorithm": "optax_adam", "fun": lambda x: jnp.sum(x**2), "jac": lambda x: 2 * x},
            NotAvailableError,
            "jac would be ignored",
        ),
        ({"algorithm": "optax_adam"}, NotAvailableError, "jax.numpy"),
        ({"jac": True, "fun_and_jac": lambda x: (0.0, x)}, AliasError, "do not give both"),
        ({"derivatives": "exactly"}, InvalidFunctionError, "Did you mean 'exact'"),
        ({"derivatives": None}, InvalidFunctionError, "one of 'auto', 'exact', 'numerical'"),
        ({"fun_kwargs": {"a": 1}}, InvalidKwargsError, "fun_kwargs"),
        ({"fun": lambda x, a: 0.0}, InvalidKwargsError, "'a'"),
        ({"jac": lambda x, a: x}, InvalidKwargsError, "jac_kwargs"),
        ({"args": (1.0,), "fun_kwargs": {"a": 1.0}}, AliasError, "give only one"),
        ({"error_handling": "ignore"}, InvalidFunctionError, "'raise' or 'continue'"),
        ({"error_penalty": {"constant": 1.0}}, InvalidFunctionError, 'error_handling="continue"'),
        (
            {"error_handling": "continue", "error_penalty": {"constnt": 1.0}},
            InvalidFunctionError,
            "'constant' and/or 'slope'",
        ),
        ({"logging": 5}, LogError, "logging must be a path"),
        ({"logging": True}, LogError, "logging must be a path"),
        ({"logging": {"fast_logging": True}}, LogError, "needs a 'path'"),
    ],
    ids=lambda value: value if isinstance(value, str) else "case",
)
@pytest.mark.parametrize("direction", ["minimize", "maximize"])
def test_wrong_arguments_are_refused_with_advice(arguments, error, advice, direction):
    defaults = {"fun": sphere, "params": np.zeros(2), "algorithm": "scipy_lbfgsb"}
    advice = advice.replace("minimize", direction)

    with pytest.raises(error, match=advice):
        getattr(om, direction)(**(defaults | arguments))


def test_refusals_come_before_the_first_evaluation():
    calls = []

    def fun(x):
        calls.append(x)
        return (x**2).sum()

    for arguments in (
        {"algorithm": "scipy_bfgs", "bounds": om.Bounds(lower=0)},
        {"hess": lambda x: np.eye(2)},
        {"numdiff_options": {"method": "x"}},
        {"tol": 1.0},
    ):
        with pytest.raises(OptimagicError):
            minimize(fun=fun, **arguments)
    assert calls == []


def test_options_of_other_algorithms_are_skipped_with_a_warning():
    with pytest.warns(UserWarning, match="scipy_lbfgsb has no option.*learning_rate.*skipped"):
        result = minimize(algo_options={"learning_rate": 0.1})

    np.testing.assert_allclose(result.params, 1.0, atol=1e-4)


def test_arguments_that_do_not_exist_are_refused():
    with pytest.raises(TypeError, match="algo_option"):
        minimize(algo_option={})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"error_penalty": {"constant": np.nan}}, "must be finite"),
        ({"error_penalty": {"slope": "a"}}, "must be finite"),
        ({"error_penalty": {"slope": -1.0}}, "attractive"),
        ({"jac_kwargs": {"a": 1}}, "no function jac"),
        ({"fun_kwargs": [1]}, "must be a dict"),
        ({"jac": lambda x: 2 * x, "derivatives": "numerical"}, "contradict"),
    ],
    ids=["nan", "text", "sign", "orphan", "list", "contradiction"],
)
def test_contradictions_are_refused(arguments, message):
    with pytest.raises(om.exceptions.OptimagicError, match=message):
        om.minimize(
            lambda x: x @ x, np.ones(2), "scipy_lbfgsb", error_handling="continue", **arguments
        )


def test_args_of_scipy_go_to_functions_whose_arguments_have_other_names():
    result = om.minimize(
        lambda x, a: (x - a) @ (x - a),
        np.ones(2),
        "scipy_lbfgsb",
        jac=lambda x, b: 2 * (x - b),
        args=(3.0,),
    )
    np.testing.assert_allclose(result.params, [3.0, 3.0], atol=1e-5)


def test_a_log_that_exists_is_refused_before_the_criterion_is_called(tmp_path):
    calls = []
    (tmp_path / "run.db").touch()
    with pytest.raises(om.exceptions.TableExistsError):
        om.minimize(calls.append, np.ones(2), "scipy_lbfgsb", logging=tmp_path / "run.db")
    assert calls == []


def test_a_flat_gradient_is_refused_where_its_order_is_ambiguous():
    def fun(params):
        return (params["b"] - 1) ** 2 + (params["a"] - 2) ** 2

    with pytest.raises(om.exceptions.InvalidFunctionError, match="ambiguous"):
        om.minimize(fun, {"b": 0.0, "a": 0.0}, "scipy_lbfgsb", jac=lambda _: np.zeros(2))
