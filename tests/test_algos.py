"""Choosing algorithms and their options."""

import copy
import dataclasses
import inspect
import math
import pickle
import warnings

import numpy as np
import pytest

import optimagic_lite as om
from optimagic_lite.algorithms.base import REGISTRY, AlgoInfo, Algorithm, algorithm, option_types
from optimagic_lite.exceptions import InvalidAlgoInfoError, InvalidAlgoOptionError

# ---- names and defaults ---------------------------------------------------------------------

INF = math.inf
_NLOPT = {
    "convergence_xtol_rel": 1e-5,
    "convergence_xtol_abs": 0,
    "convergence_ftol_rel": 2e-9,
    "convergence_ftol_abs": 0,
    "stopping_maxfun": 1_000_000,
}
_SCIPY_LS = {
    "convergence_ftol_rel": 2e-9,
    "convergence_gtol_rel": 1e-8,
    "stopping_maxfun": 1_000_000,
}

# Names and defaults of optimagic 0.5.
PEER = {
    **{
        f"nlopt_{method}": _NLOPT
        for method in (
            "bobyqa", "ccsaq", "cobyla", "lbfgsb", "mma", "newuoa", "praxis", "sbplx", "slsqp",
            "tnewton",
        )
    },
    "nlopt_neldermead": {k: v for k, v in _NLOPT.items() if k != "convergence_ftol_rel"},
    "nlopt_var": {**_NLOPT, "rank_1_update": True},
    "scipy_bfgs": {
        "convergence_gtol_abs": 1e-5,
        "stopping_maxiter": 1_000_000,
        "norm": INF,
        "convergence_xtol_rel": 1e-5,
        "display": False,
        "armijo_condition": 1e-4,
        "curvature_condition": 0.9,
    },
    "scipy_cobyla": {
        "convergence_xtol_rel": 1e-5,
        "stopping_maxiter": 1_000_000,
        "trustregion_initial_radius": None,
        "display": False,
    },
    "scipy_conjugate_gradient": {
        "convergence_gtol_abs": 1e-5,
        "stopping_maxiter": 1_000_000,
        "norm": INF,
        "display": False,
    },
    "scipy_lbfgsb": {
        "convergence_ftol_rel": 2e-9,
        "convergence_gtol_abs": 1e-5,
        "stopping_maxfun": 1_000_000,
        "stopping_maxiter": 1_000_000,
        "limited_memory_storage_length": 10,
        "max_line_search_steps": 20,
    },
    "scipy_neldermead": {
        "stopping_maxiter": 1_000_000,
        "stopping_maxfun": 1_000_000,
        "convergence_ftol_abs": 1e-8,
        "convergence_xtol_abs": 1e-8,
        "adaptive": False,
        "display": False,
    },
    "scipy_newton_cg": {
        "convergence_xtol_rel": 1e-5,
        "stopping_maxiter": 1_000_000,
        "display": False,
    },
    "scipy_powell": {
        "convergence_xtol_rel": 1e-5,
        "convergence_ftol_rel": 2e-9,
        "stopping_maxfun": 1_000_000,
        "stopping_maxiter": 1_000_000,
        "display": False,
    },
    "scipy_slsqp": {
        "convergence_ftol_abs": 1e-8,
        "stopping_maxiter": 1_000_000,
        "display": False,
    },
    "scipy_ls_trf": {**_SCIPY_LS, "tr_solver": None, "tr_solver_options": None},
    "scipy_ls_dogbox": {**_SCIPY_LS, "tr_solver": None, "tr_solver_options": None},
    "scipy_ls_lm": _SCIPY_LS,
    # the peer misspells its only tolerance
    "bhhh": {},
    "scipy_truncated_newton": {
        "convergence_ftol_abs": 0,
        "convergence_xtol_abs": 0,
        "convergence_gtol_abs": 1e-5,
        "stopping_maxfun": 1_000_000,
        "max_hess_evaluations_per_iteration": -1,
        "max_step_for_line_search": 0,
        "line_search_severity": -1,
        "finite_difference_precision": 0,
        "criterion_rescale_factor": -1,
        "func_min_estimate": 0,
        "display": False,
    },
    "scipy_trust_constr": {
        "convergence_gtol_abs": 1e-8,
        "convergence_xtol_rel": 1e-5,
        "stopping_maxiter": 1_000_000,
        "trustregion_initial_radius": None,
        "display": False,
    },
}  # fmt: skip

_NLOPT_GLOBAL = {**_NLOPT, "stopping_maxfun": 1_000}
_LOCAL_SEARCHES = {"local_algorithm": "L-BFGS-B", "local_algo_options": None}
_CORES = {"n_cores": 1, "batch_evaluator": "joblib"}

# Its global algorithms; where it has no seed or None, a run here is repeated by default.
PEER |= {
    "nlopt_crs2_lm": {**_NLOPT_GLOBAL, "population_size": None},
    "nlopt_direct": {
        **_NLOPT_GLOBAL,
        "locally_biased": False,
        "random_search": False,
        "unscaled_bounds": False,
    },
    "nlopt_esch": _NLOPT_GLOBAL,
    "nlopt_isres": _NLOPT_GLOBAL,
    "scipy_basinhopping": {
        **_LOCAL_SEARCHES,
        "n_local_optimizations": 100,
        "temperature": 1.0,
        "stepsize": 0.5,
        "take_step": None,
        "accept_test": None,
        "interval": 50,
        "convergence_n_unchanged_iterations": None,
        "seed": 0,
        "target_accept_rate": 0.5,
        "stepwise_factor": 0.9,
    },
    "scipy_brute": {**_CORES, "n_grid_points": 20, "polishing_function": None},
    "scipy_differential_evolution": {
        **_CORES,
        "strategy": "best1bin",
        "stopping_maxiter": 1_000,
        "population_size_multiplier": 15,
        "convergence_ftol_rel": 0.01,
        "mutation_constant": (0.5, 1),
        "recombination_constant": 0.7,
        "seed": 0,
        "polish": True,
        "sampling_method": "latinhypercube",
        "convergence_ftol_abs": 1e-8,
    },
    "scipy_direct": {
        "convergence_ftol_rel": 2e-9,
        "stopping_maxfun": 1_000_000,
        "stopping_maxiter": 1_000,
        "locally_biased": True,
        "convergence_minimum_criterion_value": -INF,
        "convergence_minimum_criterion_tolerance": 1e-4,
        "volume_hyperrectangle_tolerance": 1e-16,
        "length_hyperrectangle_tolerance": 1e-6,
    },
    "scipy_dual_annealing": {
        **_LOCAL_SEARCHES,
        "stopping_maxiter": 1_000,
        "stopping_maxfun": 1_000_000,
        "initial_temperature": 5230.0,
        "restart_temperature_ratio": 2e-5,
        "visit": 2.62,
        "accept": -5.0,
        "seed": 0,
        "no_local_search": False,
    },
    "scipy_shgo": {
        **_LOCAL_SEARCHES,
        "n_sampling_points": 128,
        "n_simplex_iterations": 1,
        "sampling_method": "simplicial",
        "max_sampling_evaluations": None,
        "convergence_minimum_criterion_value": None,
        "convergence_minimum_criterion_tolerance": 1e-4,
        "stopping_maxfun": 1_000,
        "stopping_max_processing_time": None,
        "minimum_homology_group_rank_differential": None,
        "symmetry": False,
        "minimize_every_iteration": True,
        "max_local_minimizations_per_iteration": False,
        "infinity_constraints": True,
    },
}

# SciPy's methods that the peer lacks, NLopt's, and the solvers in JAX.
BEYOND_PEER = {
    "scipy_cobyqa", "scipy_trust_ncg", "scipy_trust_krylov", "scipy_trust_exact", "scipy_dogleg",
    "nlopt_tnewton_restart", "nlopt_tnewton_precond", "nlopt_tnewton_precond_restart",
    "nlopt_orig_direct", "nlopt_ags", "nlopt_mlsl", "nlopt_stogo",
    "optimistix_bfgs", "optimistix_lbfgs", "optimistix_nonlinear_cg",
    "optimistix_levenberg_marquardt", "optimistix_indirect_levenberg_marquardt",
    "optimistix_gauss_newton", "optimistix_dogleg",
    "optax_adam", "optax_adamw", "optax_sgd", "optax_rmsprop", "optax_adabelief", "optax_lion",
}  # fmt: skip


@pytest.mark.parametrize("name", PEER)
def test_options_and_defaults_are_those_of_the_peer(name):
    ours = {f.name: f.default for f in dataclasses.fields(REGISTRY[name])}
    for option, default in PEER[name].items():
        assert ours[option] == default, option


def test_algorithms_that_users_expect_are_there():
    assert (set(PEER) | BEYOND_PEER) - set(om.algos.AllNames) == set()


def test_every_algorithm_of_nlopt_is_used():
    import nlopt

    wrapped = {"LD_VAR1", "LD_VAR2", "LN_NEWUOA_BOUND", "G_MLSL", "G_MLSL_LDS"}
    wrapped |= {"GD_STOGO", "GD_STOGO_RAND"}
    wrapped |= {n for n in dir(nlopt) if n.startswith(("GN_DIRECT", "GN_ORIG_DIRECT"))}
    wrapped |= {
        cls.constant
        for name, cls in REGISTRY.items()
        if name.startswith("nlopt_") and hasattr(cls, "constant")
    }
    known = {n for n in dir(nlopt) if n.startswith(("LD_", "LN_", "GD_", "GN_", "G_"))}
    # AUGLAG minimizes nothing itself, it wraps others; NOCEDAL is a name without code behind it;
    # GN_MLSL and GD_MLSL are MLSL with one local search
    left_out = {n for n in known if "AUGLAG" in n or "D_MLSL" in n or "N_MLSL" in n}
    assert known - wrapped - left_out - {"LD_LBFGS_NOCEDAL"} == set()


@pytest.mark.parametrize(
    ("method", "name"),
    [
        ("L-BFGS-B", "scipy_lbfgsb"),
        ("l-bfgs-b", "scipy_lbfgsb"),
        ("Nelder-Mead", "scipy_neldermead"),
        ("CG", "scipy_conjugate_gradient"),
        ("TNC", "scipy_truncated_newton"),
        ("trust-exact", "scipy_trust_exact"),
    ],
)
def test_method_takes_the_names_of_scipy(method, name):
    result = om.minimize(lambda x: float(x @ x), x0=np.ones(2), method=method)
    assert result.algorithm == name


def test_every_method_of_scipy_has_a_name():
    from scipy.optimize._minimize import MINIMIZE_METHODS

    from optimagic_lite.algos import SCIPY_METHODS

    assert {m.lower() for m in SCIPY_METHODS} == set(MINIMIZE_METHODS)
    assert set(SCIPY_METHODS.values()) <= set(REGISTRY)


# ---- filters --------------------------------------------------------------------------------


def test_filters_in_any_order():
    paths = [
        om.algos.Bounded.Local.GradientFree,
        om.algos.GradientFree.Bounded.Local,
        om.algos.Local.GradientFree.Bounded,
    ]
    names = [path.AllNames for path in paths]
    assert names[0] == names[1] == names[2]
    assert {"nlopt_bobyqa", "scipy_neldermead", "scipy_cobyqa"} <= set(names[0])
    assert not {"scipy_lbfgsb", "nlopt_praxis"} & set(names[0])


@pytest.mark.parametrize(
    ("name", "trait"),
    [
        ("Bounded", lambda info: info.supports_bounds),
        ("GradientBased", lambda info: info.needs_jac),
        ("GradientFree", lambda info: not info.needs_jac),
        ("Local", lambda info: not info.is_global),
        ("Global", lambda info: info.is_global),
        ("NonlinearConstrained", lambda info: info.supports_nonlinear_constraints),
        ("LinearConstrained", lambda info: info.supports_linear_constraints),
        ("LeastSquares", lambda info: info.solver_type == "least_squares"),
        ("Likelihood", lambda info: info.solver_type == "likelihood"),
        ("Scalar", lambda info: info.solver_type == "scalar"),
        ("Parallel", lambda info: info.supports_parallelism),
    ],
)
def test_each_filter(name, trait):
    expected = [n for n, cls in sorted(REGISTRY.items()) if trait(cls.algo_info)]
    assert getattr(om.algos, name).AllNames == expected


def test_a_chain_ends_in_an_algorithm():
    assert om.algos.Bounded.Local.scipy_lbfgsb is om.algos.scipy_lbfgsb
    assert om.algos.scipy_lbfgsb is REGISTRY["scipy_lbfgsb"]


def test_all_and_available():
    assert [cls.name for cls in om.algos.All] == om.algos.AllNames == sorted(REGISTRY)
    # all libraries of the core are installed
    assert om.algos.AvailableNames == om.algos.AllNames
    assert om.algos.Available == om.algos.All


def test_available_leaves_out_what_is_not_installed():
    info = dataclasses.replace(
        AlgoInfo(name="nosuchlibrary_x", library="nosuchlibrary"), needs_jac=True
    )
    assert info.is_available is False


def test_an_algorithm_that_does_not_pass_is_said_to_exist():
    with pytest.raises(AttributeError, match="does not pass the filters Bounded"):
        _ = om.algos.Bounded.nlopt_praxis


@pytest.mark.parametrize(
    ("wrong", "right"),
    [("scipy_lbfgs", "scipy_lbfgsb"), ("Bound", "Bounded"), ("nlopt_bobyca", "nlopt_bobyqa")],
)
def test_unknown_attributes_have_a_proposal(wrong, right):
    with pytest.raises(AttributeError, match=f"Did you mean.*'{right}'"):
        getattr(om.algos, wrong)


def test_dir_offers_what_is_left():
    everything, bounded = dir(om.algos), dir(om.algos.Bounded)
    assert {"Bounded", "GradientFree", "scipy_lbfgsb", "AllNames", "table"} <= set(everything)
    assert "Bounded" not in bounded
    assert "nlopt_praxis" not in bounded
    for name in bounded:
        getattr(om.algos.Bounded, name)


def test_repr_names_the_path_and_the_algorithms():
    text = repr(om.algos.Bounded.GradientFree)
    assert text.startswith("om.algos.Bounded.GradientFree")
    assert "nlopt_bobyqa" in text


def test_filter_by_traits():
    names = [cls.name for cls in om.algos.filter(library="nlopt", needs_jac=False)]
    assert "nlopt_bobyqa" in names
    assert all(n.startswith("nlopt_") and not REGISTRY[n].algo_info.needs_jac for n in names)
    assert om.algos.Bounded.filter(supports_bounds=False) == []
    with pytest.raises(InvalidAlgoOptionError, match="Did you mean 'needs_jac'"):
        om.algos.filter(need_jac=True)


def test_table():
    table = om.algos.table()
    assert table.index.name == "name"
    assert table.index.tolist() == om.algos.AllNames
    assert table.loc["scipy_lbfgsb", "supports_bounds"]
    assert not table.loc["nlopt_praxis", "supports_bounds"]
    assert table.loc["optax_adam", "library"] == "optax"
    assert set(table.columns) >= {f.name for f in dataclasses.fields(AlgoInfo)} - {"name"}
    assert (table["description"].str.len() > 10).all()
    assert not table["description"].str.contains("\n").any()
    assert om.algos.GradientFree.table().index.tolist() == om.algos.GradientFree.AllNames


# ---- choosing -------------------------------------------------------------------------------


def fun(x):
    return float(x @ x)


@pytest.mark.parametrize(
    "choice", ["scipy_lbfgsb", om.algos.scipy_lbfgsb, om.algos.scipy_lbfgsb()], ids=repr
)
def test_name_class_or_object(choice):
    result = om.minimize(fun, np.ones(2), choice, algo_options={"stopping_maxfun": 2})
    assert result.algorithm == "scipy_lbfgsb"
    assert result.n_fun_evals == 2


def test_algo_options_override_those_of_an_object():
    chosen = om.algos.scipy_neldermead(stopping_maxfun=7)
    assert om.minimize(fun, np.ones(2), chosen).n_fun_evals == 7
    result = om.minimize(fun, np.ones(2), chosen, algo_options={"stopping_maxfun": 4})
    assert result.n_fun_evals == 4


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("scipy_lbfgs", "scipy_lbfgsb"),
        ("Scipy_LBFGSB", "scipy_lbfgsb"),
        ("L-BFGS-B", "scipy_lbfgsb"),
        ("nlopt_neldermaed", "nlopt_neldermead"),
        ("adam", "optax_adam"),
        ("bhh", "bhhh"),
        ("levenberg_marquardt", "optimistix_levenberg_marquardt"),
        ("ls_trf", "scipy_ls_trf"),
    ],
)
def test_unknown_algorithms_have_a_proposal(wrong, right):
    with pytest.raises(InvalidAlgoOptionError, match=f"Did you mean.*'{right}'"):
        om.minimize(fun, np.ones(2), wrong)


@pytest.mark.parametrize(
    "wrong", [3, fun, Algorithm, dict], ids=["number", "function", "base", "type"]
)
def test_what_is_no_algorithm_is_refused(wrong):
    with pytest.raises(InvalidAlgoOptionError):
        om.minimize(fun, np.ones(2), wrong)


# ---- algo_options ---------------------------------------------------------------------------


def test_options_that_only_others_have_are_skipped_with_a_warning():
    options = {"stopping_maxfun": 5, "limited_memory_storage_length": 3, "learning_rate": 1.0}
    with pytest.warns(UserWarning, match="limited_memory_storage_length, learning_rate") as caught:
        result = om.minimize(fun, np.ones(2), "scipy_neldermead", algo_options=options)
    assert result.n_fun_evals == 5
    assert caught[0].filename == __file__


@pytest.mark.parametrize(
    ("wrong", "right"),
    [("stopping_max_fun", "stopping_maxfun"), ("convergence_ftol_re", "convergence_ftol_rel")],
)
def test_options_that_none_has_are_refused(wrong, right):
    with pytest.raises(InvalidAlgoOptionError, match=f"Did you mean.*'{right}'"):
        om.minimize(fun, np.ones(2), "scipy_neldermead", algo_options={wrong: 1})


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("stopping.max_criterion_evaluations", "stopping_maxfun"),
        ("stopping.max_iterations", "stopping_maxiter"),
        ("stopping_max_iterations", "stopping_maxiter"),
        ("stopping.maxfun", "stopping_maxfun"),
        ("convergence.absolute_criterion_tolerance", "convergence_ftol_abs"),
        ("convergence.relative_criterion_tolerance", "convergence_ftol_rel"),
        ("convergence.absolute_params_tolerance", "convergence_xtol_abs"),
        ("convergence.relative_params_tolerance", "convergence_xtol_rel"),
        ("convergence.absolute_gradient_tolerance", "convergence_gtol_abs"),
    ],
)
def test_old_spellings(old, new):
    from optimagic_lite.algos import resolve_algorithm

    name = next(n for n, cls in sorted(REGISTRY.items()) if new in option_types(cls))
    with pytest.warns(FutureWarning, match=f"{old}=12  ->  {new}=12"):
        algorithm = resolve_algorithm(name, {old: 12})
    assert getattr(algorithm, new) == 12


def test_old_and_new_spelling_of_one_option_is_a_contradiction():
    options = {"stopping.max_iterations": 3, "stopping_maxiter": 4}
    with pytest.raises(InvalidAlgoOptionError, match="stopping_maxiter"):
        om.minimize(fun, np.ones(2), "scipy_lbfgsb", algo_options=options)


def test_gradient_tolerances_of_the_peer_are_known_options():
    # relative and scaled ones belong to algorithms of other kinds: skipped here, no error
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        om.minimize(fun, np.ones(2), "scipy_lbfgsb", algo_options={"convergence_gtol_rel": 1e-6})


# ---- objects --------------------------------------------------------------------------------


def test_values_are_converted():
    chosen = om.algos.scipy_lbfgsb(
        stopping_maxiter=np.int64(5), convergence_ftol_rel=1, max_line_search_steps=3.0
    )
    assert type(chosen.stopping_maxiter) is int
    assert type(chosen.convergence_ftol_rel) is float
    assert type(chosen.max_line_search_steps) is int


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"stopping_maxfun": 0}, "at least 1"),
        ({"stopping_maxfun": 2.5}, "whole number"),
        ({"stopping_maxfun": math.inf}, "whole number"),
        ({"stopping_maxtime": 0}, "greater than 0"),
        ({"stopping_maxtime": math.nan}, "a number"),
        ({"convergence_ftol_rel": "1e-3"}, "a number"),
        ({"convergence_ftol_rel": -1e-3}, "at least 0"),
        ({"convergence_ftol_rel": None}, "a number"),
        ({"convergence_ftol_rell": 1e-3}, "Did you mean 'convergence_ftol_rel'"),
    ],
    ids=repr,
)
def test_invalid_options_are_refused_when_the_object_is_made(options, words):
    with pytest.raises(InvalidAlgoOptionError, match=words):
        om.algos.scipy_lbfgsb(**options)
    with pytest.raises(InvalidAlgoOptionError, match=words):
        om.algos.scipy_lbfgsb().with_option(**options)


def test_options_with_choices_and_flags():
    with pytest.raises(InvalidAlgoOptionError, match="polak_ribiere"):
        om.algos.optimistix_nonlinear_cg(cg_method="polak")
    with pytest.raises(InvalidAlgoOptionError, match="True or False"):
        om.algos.scipy_neldermead(adaptive=1)
    with pytest.raises(InvalidAlgoOptionError, match="by name"):
        om.algos.scipy_lbfgsb(1e-3)
    assert om.algos.scipy_cobyla(trustregion_initial_radius=None).trustregion_initial_radius is None
    assert om.algos.scipy_cobyla(trustregion_initial_radius=2).trustregion_initial_radius == 2.0
    with pytest.raises(InvalidAlgoOptionError, match="greater than 0"):
        om.algos.scipy_cobyla(trustregion_initial_radius=0)


def test_learning_rates_are_numbers_or_schedules():
    def schedule(step):
        return 0.1 / (1 + step)

    assert om.algos.optax_adam(learning_rate=schedule).learning_rate is schedule
    assert om.algos.optax_adam(learning_rate=1).learning_rate == 1.0
    with pytest.raises(InvalidAlgoOptionError, match="learning_rate"):
        om.algos.optax_adam(learning_rate=-1.0)


def test_copies_with_other_options():
    first = om.algos.scipy_lbfgsb(stopping_maxiter=5)
    second = first.with_option(stopping_maxfun=6, convergence_gtol_abs=1e-3)
    third = second.with_stopping(maxtime=2.0, stopping_maxiter=9)
    fourth = third.with_convergence(ftol_rel=1e-4)
    assert first == om.algos.scipy_lbfgsb(stopping_maxiter=5)
    assert (second.stopping_maxiter, second.stopping_maxfun) == (5, 6)
    assert (third.stopping_maxtime, third.stopping_maxiter) == (2.0, 9)
    assert (fourth.convergence_ftol_rel, fourth.convergence_gtol_abs) == (1e-4, 1e-3)
    with pytest.raises(InvalidAlgoOptionError, match="stopping_maxfuns"):
        first.with_stopping(maxfuns=3)


def test_objects_are_frozen():
    chosen = om.algos.scipy_lbfgsb()
    with pytest.raises(dataclasses.FrozenInstanceError):
        chosen.stopping_maxiter = 3


@pytest.mark.parametrize("name", sorted(REGISTRY))
def test_pickle_and_copy(name):
    chosen = REGISTRY[name](stopping_maxfun=17)
    for other in (pickle.loads(pickle.dumps(chosen)), copy.copy(chosen), copy.deepcopy(chosen)):
        assert type(other) is type(chosen)
        assert other == chosen
        assert other.stopping_maxfun == 17
        assert hash(other) == hash(chosen)


@pytest.mark.parametrize("name", sorted(REGISTRY))
def test_signature_repr_and_docstring(name):
    parameters = inspect.signature(REGISTRY[name]).parameters
    assert set(option_types(REGISTRY[name])) <= set(parameters)
    assert f"stopping_maxfun={REGISTRY[name].stopping_maxfun}" in repr(REGISTRY[name]())
    assert REGISTRY[name].__doc__.splitlines()[0].strip()


# ---- registering ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "traits",
    [
        {"name": "other_x", "library": "scipy"},
        {"name": "scipy_x", "library": "scipy", "needs_hess": True},
        {"name": "scipy_x", "library": "scipy", "needs_bounds": True},
    ],
    ids=repr,
)
def test_contradictory_traits_are_refused(traits):
    with pytest.raises(InvalidAlgoInfoError):
        AlgoInfo(**traits)


def test_a_name_is_given_once():
    with pytest.raises(InvalidAlgoInfoError, match="scipy_lbfgsb"):

        @algorithm("scipy_lbfgsb")
        class Second(Algorithm):
            """A second one."""

    assert REGISTRY["scipy_lbfgsb"].__name__ != "Second"
