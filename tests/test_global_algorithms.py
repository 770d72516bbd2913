"""Global algorithms find the best of many minima, repeatably, in batches, and inside the box."""

import contextlib
import itertools
import math
import sqlite3
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import psutil
import pytest
import scipy.optimize
from conformance import GLOBAL, INFO, QUICK, minimize

import optimagic_lite as om
from optimagic_lite.algorithms.base import REGISTRY, option_types
from optimagic_lite.evaluator import Evaluator
from optimagic_lite.exceptions import (
    IncompleteBoundsError,
    InvalidAlgoOptionError,
    InvalidConstraintError,
    InvalidMultistartError,
    UserFunctionRuntimeError,
)

SEARCHES_BOX = [name for name in GLOBAL if INFO[name].needs_bounds]
IN_BATCHES = [name for name in GLOBAL if INFO[name].supports_parallelism]
RANDOM = [name for name in GLOBAL if "seed" in option_types(REGISTRY[name])]
TAKES_NONLINEAR = [name for name in GLOBAL if INFO[name].supports_nonlinear_constraints]
START = np.array([2.0, 1.5])

every = pytest.mark.parametrize("name", GLOBAL)


# ---- functions with many minima ------------------------------------------------------------------


def camel(x):
    """Six-hump camel (Dixon and Szegö 1978); the lowest of six minima is taken twice."""
    a, b = x[0], x[1]
    return (4 - 2.1 * a**2 + a**4 / 3) * a**2 + a * b + (4 * b**2 - 4) * b**2


def branin(x):
    """Branin (Dixon and Szegö 1978): three equal minima, 10 / (8 pi) at (pi, 2.275) for one."""
    a, b = x[0], x[1]
    bend = b - 5.1 / (4 * math.pi**2) * a**2 + 5 / math.pi * a - 6
    return bend**2 + 10 * (1 - 1 / (8 * math.pi)) * jnp.cos(a) + 10


def rastrigin(x):
    """Rastrigin (1974): about a hundred minima here, the lowest at zero."""
    return 10 * len(x) + (x**2).sum() - 10 * np.cos(2 * np.pi * x).sum()


def himmelblau(x):
    """Himmelblau (1972): four minima, all zero."""
    return (x[0] ** 2 + x[1] - 11) ** 2 + (x[0] + x[1] ** 2 - 7) ** 2


# function, box and minimal value
PROBLEMS = {
    "camel": (camel, [-3.0, -2.0], [3.0, 2.0], -1.0316284535),
    "branin": (branin, [-5.0, 0.0], [10.0, 15.0], 10 / (8 * math.pi)),
    "rastrigin": (rastrigin, [-5.0, -4.0], [4.0, 5.0], 0.0),
    "himmelblau": (himmelblau, [-6.0, -5.0], [5.0, 6.0], 0.0),
}

# How close each comes to the minimal value within its limit, where that is not 1e-6, and options
# with which it does.
CLOSE = {
    "nlopt_ags": 0.2, "nlopt_direct": 1e-3, "nlopt_esch": 0.5, "nlopt_orig_direct": 1e-3,
    "scipy_direct": 1e-3, "nlopt_isres": 0.5,
}  # fmt: skip
GIVEN = {
    "nlopt_isres": {"stopping_maxfun": 8_000},
    "scipy_basinhopping": {"n_local_optimizations": 30, "stepsize": 2.0},
    "scipy_brute": {"n_grid_points": 28, "polishing_function": scipy.optimize.minimize},
    "scipy_dual_annealing": {"stopping_maxiter": 100},
}


def box(problem):
    return om.Bounds(*map(np.array, PROBLEMS[problem][1:3]))


@every
@pytest.mark.parametrize("problem", PROBLEMS)
def test_the_lowest_of_many_minima_is_found(name, problem):
    fun, _, _, minimum = PROBLEMS[problem]
    result = om.minimize(fun, START, name, bounds=box(problem), algo_options=GIVEN.get(name))
    assert -1e-9 < result.fun - minimum < CLOSE.get(name, 1e-6)


def test_maximize_finds_the_highest():
    fun, _, _, minimum = PROBLEMS["camel"]
    result = om.maximize(
        lambda x: -fun(x), START, "scipy_differential_evolution", bounds=box("camel")
    )
    assert result.fun == pytest.approx(-minimum, abs=1e-6)


@pytest.mark.parametrize("name", ["scipy_direct", "scipy_shgo"])
@pytest.mark.parametrize("task", [om.minimize, om.maximize])
def test_a_known_optimum_ends_the_search_in_the_sign_of_the_criterion(name, task):
    sign = 1 if task is om.minimize else -1
    options = {
        "convergence_minimum_criterion_value": sign * -1.0316284535,
        "convergence_minimum_criterion_tolerance": 0.2,
    }
    few = task(lambda x: sign * camel(x), START, name, bounds=box("camel"), algo_options=options)
    assert few.success
    assert sign * few.fun < -0.8
    many = task(lambda x: sign * camel(x), START, name, bounds=box("camel"))
    assert few.n_fun_evals <= many.n_fun_evals


def test_variants_of_direct():
    found = {}
    for flags in itertools.product([False, True], repeat=3):
        names = ("locally_biased", "random_search", "unscaled_bounds")
        options = dict(zip(names, flags, strict=True))
        if options["random_search"] and not options["locally_biased"]:
            with pytest.raises(InvalidAlgoOptionError, match="together with locally_biased"):
                om.algos.nlopt_direct(**options)
            continue
        chosen = om.algos.nlopt_direct(**options, stopping_maxfun=400)
        # sides of different lengths
        bounds = om.Bounds(np.array([-3.0, -0.2]), np.array([30.0, 2.0]))
        result = om.minimize(camel, START, chosen, bounds=bounds)
        assert result.fun == pytest.approx(-1.0316284535, abs=1e-6)
        found[flags] = result.history.flat_params.tobytes()
    assert len(found) == 6
    # NLopt divides boxes that are not scaled in one way only
    assert len(set(found.values())) == 4


@pytest.mark.parametrize("local", ["nlopt_slsqp", "nlopt_mma", "nlopt_bobyqa", "nlopt_sbplx"])
@pytest.mark.parametrize("low_discrepancy", [True, False])
def test_mlsl_with_each_kind_of_local_search(local, low_discrepancy):
    options = {
        "local_algorithm": local,
        "local_algo_options": {"convergence_xtol_rel": 1e-6},
        "low_discrepancy": low_discrepancy,
    }
    result = om.minimize(camel, START, "nlopt_mlsl", bounds=box("camel"), algo_options=options)
    assert result.fun == pytest.approx(-1.0316284535, abs=1e-6)


@pytest.mark.parametrize(
    "local", ["L-BFGS-B", "Nelder-Mead", "Powell", "TNC", "SLSQP", "COBYQA", "trust-constr"]
)
@pytest.mark.parametrize("name", ["scipy_dual_annealing", "scipy_basinhopping"])
def test_local_searches_keep_the_bounds(name, local):
    points = []

    # its minimum is a corner of the box
    def fun(x):
        points.append(x.copy())
        return float(camel(x) + 40 * x.sum())

    lower, upper = np.array([-1.0, -0.5]), np.array([3.0, 2.0])
    quick = {"stopping_maxiter": 2, "n_local_optimizations": 2, "stopping_maxfun": 200}
    options = {k: v for k, v in quick.items() if k in option_types(REGISTRY[name])}
    options["local_algorithm"] = local
    om.minimize(fun, START, name, bounds=om.Bounds(lower, upper), algo_options=options)
    assert ((lower <= points) & (points <= upper)).all()
    assert len(points) > 10


@pytest.mark.parametrize("local", ["BFGS", "CG", "Newton-CG", "COBYLA"])
def test_basinhopping_without_bounds(local):
    options = {"local_algorithm": local, "n_local_optimizations": 20}
    result = om.minimize(himmelblau, START, "scipy_basinhopping", algo_options=options)
    assert result.fun < 1e-6
    with pytest.raises(InvalidAlgoOptionError, match=f"'{local}'.*cannot keep bounds"):
        om.minimize(
            himmelblau, START, "scipy_basinhopping", bounds=box("camel"), algo_options=options
        )


class Far:
    """A step that leaves every box, whose size can be adapted or not."""

    def __init__(self, stepsize=None):
        if stepsize is not None:
            self.stepsize = stepsize

    def __call__(self, x):
        return x + 5 * getattr(self, "stepsize", 1.0)


@pytest.mark.parametrize("step", [None, Far(), Far(2.0)], ids=["own", "fixed", "adapted"])
def test_steps_of_basinhopping_stay_in_the_box(step):
    options = {"take_step": step, "n_local_optimizations": 9, "interval": 2, "stepsize": 50.0}
    result = om.minimize(
        camel, START, "scipy_basinhopping", bounds=box("camel"), algo_options=options
    )
    rows = result.history.flat_params
    assert (rows >= [-3, -2]).all()
    assert (rows <= [3, 2]).all()
    assert result.n_iterations == 9
    if step is not None and hasattr(step, "stepsize"):
        assert step.stepsize != 2.0


def test_the_acceptance_test_of_the_user_is_asked():
    asked = []
    options = {
        "accept_test": lambda f_new, x_new, f_old, x_old: bool(asked.append(f_new)),
        "n_local_optimizations": 4,
    }
    om.minimize(camel, START, "scipy_basinhopping", bounds=box("camel"), algo_options=options)
    assert len(asked) == 3


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("scipy_dual_annealing", {"method": "BFGS"}),
        ("scipy_shgo", {"tol": 1e-3}),
        ("scipy_shgo", {"options": {"maxiter": 3}}),
        ("nlopt_mlsl", {"stopping_maxfun": 3}),
        ("nlopt_mlsl", {"convergence_ftol": 3}),
    ],
)
def test_options_of_local_searches_that_would_be_lost_are_refused(name, options):
    with pytest.raises(InvalidAlgoOptionError, match=next(iter(options))):
        REGISTRY[name](local_algo_options=options)


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("scipy_differential_evolution", {"mutation_constant": 2.0}, "less than 2"),
        ("scipy_differential_evolution", {"mutation_constant": (0.5, 3.0)}, "less than 2"),
        ("scipy_differential_evolution", {"mutation_constant": (0.5,)}, "mutation_constant"),
        ("scipy_differential_evolution", {"recombination_constant": 1.5}, "at most 1"),
        ("scipy_dual_annealing", {"visit": 1.0}, "greater than 1 and at most 3"),
        ("scipy_dual_annealing", {"local_algorithm": "BFGS"}, "local_algorithm"),
        ("scipy_basinhopping", {"seed": -1}, "seed"),
        ("nlopt_mlsl", {"local_algorithm": "nlopt_praxis"}, "nlopt_slsqp"),
    ],
)
def test_options_out_of_range(name, options, words):
    with pytest.raises(InvalidAlgoOptionError, match=words):
        REGISTRY[name](**options)


# ---- the box -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SEARCHES_BOX)
@pytest.mark.parametrize(
    ("bounds", "missing"),
    [
        (None, "for a, b"),
        (om.Bounds(lower={"a": 0.0, "b": 0.0}), "for a, b"),
        (om.Bounds(lower={"a": 0.0, "b": 0.0}, upper={"a": 3.0}), "for b"),
    ],
    ids=["none", "lower", "one"],
)
def test_missing_bounds_are_named_before_the_first_evaluation(name, bounds, missing):
    calls = []
    with pytest.raises(IncompleteBoundsError, match=rf"{name} .*missing {missing}\..*multistart"):
        om.minimize(calls.append, {"a": 1.0, "b": 2.0}, name, bounds=bounds)
    assert not calls


def test_transformed_inputs_need_bounds_too():
    with pytest.raises(IncompleteBoundsError, match=r"input 0 of constraint 0 .Increasing"):
        om.minimize(
            himmelblau, np.array([1.0, 2.0]), "scipy_direct", constraints=om.IncreasingConstraint()
        )
    # probabilities bound themselves
    result = om.minimize(
        lambda x: ((x - [0.2, 0.3, 0.5]) ** 2).sum(),
        np.ones(3) / 3,
        "scipy_differential_evolution",
        constraints=om.ProbabilityConstraint(),
    )
    np.testing.assert_allclose(result.params, [0.2, 0.3, 0.5], atol=1e-4)


def test_fixed_parameters_need_no_bounds():
    result = om.minimize(
        himmelblau,
        np.array([3.0, 0.0]),
        "scipy_brute",
        bounds=om.Bounds(lower=np.array([-np.inf, -5]), upper=np.array([np.inf, 5])),
        constraints=om.FixedConstraint(lambda x: x[:1]),
        algo_options={"n_grid_points": 11},
    )
    assert result.fun == 0.0
    np.testing.assert_array_equal(result.params, [3.0, 2.0])


@pytest.mark.parametrize(
    ("name", "options", "n", "words"),
    [
        ("nlopt_ags", {}, 11, "at most 10 free parameters, and there are 11"),
        ("nlopt_crs2_lm", {"population_size": 4}, 4, "at least 5 for 4 free parameters"),
        ("scipy_brute", {}, 30, r"20\*\*30 points"),
    ],
)
def test_what_does_not_fit_the_number_of_parameters_is_refused(name, options, n, words):
    calls = []
    with pytest.raises(InvalidAlgoOptionError, match=words):
        om.minimize(
            calls.append, np.zeros(n), name, bounds=om.Bounds(-np.ones(n), np.ones(n)),
            algo_options=options,
        )  # fmt: skip
    assert not calls


@pytest.mark.parametrize("name", SEARCHES_BOX)
def test_multistart_is_for_local_algorithms(name):
    with pytest.raises(InvalidMultistartError, match=name):
        om.minimize(camel, START, name, bounds=box("camel"), multistart=True)


# ---- random numbers ------------------------------------------------------------------------------


def path(name, **options):
    options = {**QUICK.get(name, {}), "stopping_maxfun": 120, **options}
    result = om.minimize(camel, START, name, bounds=box("camel"), algo_options=options)
    return result.history.flat_params


# what is random about them by option, where that is not all
IS_RANDOM = {
    "nlopt_direct": {"locally_biased": True, "random_search": True},
    "nlopt_mlsl": {"low_discrepancy": False},
    "nlopt_stogo": {"random_search": True},
}


@pytest.mark.parametrize("name", RANDOM)
def test_the_seed_decides_the_run(name):
    options = IS_RANDOM.get(name, {})
    first = path(name, **options)
    # another run in between draws random numbers too
    other = path(name, **options, seed=1)
    np.testing.assert_array_equal(path(name, **options), first)
    assert first.tobytes() != other.tobytes()
    new = [path(name, **options, seed=None).tobytes() for _ in range(2)]
    assert "scipy" not in name or new[0] != new[1]


@pytest.mark.parametrize("name", [name for name in RANDOM if name.startswith("scipy")])
def test_a_generator_goes_on_where_it_is(name):
    generator = np.random.default_rng(5)
    first, second = (path(name, seed=generator) for _ in range(2))
    np.testing.assert_array_equal(first, path(name, seed=np.random.default_rng(5)))
    assert first.tobytes() != second.tobytes()


def test_all_random_algorithms_have_a_seed():
    none = {"nlopt_ags", "nlopt_orig_direct", "scipy_brute", "scipy_direct", "scipy_shgo"}
    assert set(RANDOM) == set(GLOBAL) - none


# ---- batches -------------------------------------------------------------------------------------


@pytest.fixture
def batches(monkeypatch):
    """Sizes of the batches in which the criterion was evaluated."""
    sizes = []
    original = Evaluator.batch_fun

    def batch_fun(self, xs, *args, **kwargs):
        sizes.append(len(xs))
        return original(self, xs, *args, **kwargs)

    monkeypatch.setattr(Evaluator, "batch_fun", batch_fun)
    return sizes


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        ("scipy_brute", {"n_grid_points": 70}, [4096, 70**2 - 4096]),
        ("scipy_differential_evolution", {"polish": False, "stopping_maxiter": 4}, [30] * 5),
        ("scipy_shgo", {"n_sampling_points": 64}, [64]),
    ],
)
def test_the_points_of_a_jax_criterion_are_evaluated_in_batches(name, options, expected, batches):
    result = om.minimize(
        lambda x: camel(jnp.asarray(x)), START, name, bounds=box("camel"), algo_options=options
    )
    assert batches == expected
    n_searched = 0 if name != "scipy_shgo" else result.n_fun_evals - 65
    assert result.n_fun_evals == 1 + sum(expected) + n_searched


@pytest.mark.parametrize("name", IN_BATCHES)
def test_the_criterion_is_traced_and_not_called_for_each_point(name):
    calls = []

    def fun(x):
        calls.append(type(x))
        return camel(jnp.asarray(x))

    options = {"n_sampling_points": 64} if "shgo" in name else {}
    result = minimize(name, fun, START, bounds=box("camel"), algo_options=options)
    assert result.n_fun_evals > 15
    # the start as it is written, and the traces
    assert sum(not issubclass(cls, jax.core.Tracer) for cls in calls) == 1
    assert len(calls) < 8


@pytest.mark.parametrize("name", IN_BATCHES)
@pytest.mark.parametrize("batch_evaluator", ["joblib", "threading"])
def test_several_cores_give_the_same_run(name, batch_evaluator, batches):
    options = {"stopping_maxfun": 80, **({"n_sampling_points": 64} if "shgo" in name else {})}
    one = minimize(name, camel, START, bounds=box("camel"), algo_options=options)
    assert set(batches) == {1}
    batches.clear()
    two = minimize(
        name, camel, START, bounds=box("camel"),
        algo_options={**options, "n_cores": 2, "batch_evaluator": batch_evaluator},
    )  # fmt: skip
    np.testing.assert_array_equal(one.history.flat_params, two.history.flat_params)
    assert one.history.fun == two.history.fun
    assert max(batches) > 5


@pytest.mark.parametrize("name", IN_BATCHES)
@pytest.mark.parametrize("limit", [2, 17, 33])
def test_limits_hold_within_a_batch(name, limit):
    result = minimize(
        name,
        lambda x: camel(jnp.asarray(x)),
        START,
        bounds=box("camel"),
        algo_options={
            "stopping_maxfun": limit,
            "n_cores": 2,
            **({"n_sampling_points": 64} if "shgo" in name else {}),
        },
    )
    assert result.n_fun_evals == limit
    assert "stopping_maxfun" in result.message
    assert not result.success


def test_the_grid_is_the_grid():
    bounds = om.Bounds(np.array([-1.0, 0.0, 2.0]), np.array([1.0, 4.0, 3.0]))
    result = om.minimize(
        lambda x: x.sum(), np.array([0.1, 0.1, 2.1]), "scipy_brute", bounds=bounds,
        algo_options={"n_grid_points": 3},
    )  # fmt: skip
    axes = [-1.0, 0.0, 1.0], [0.0, 2.0, 4.0], [2.0, 2.5, 3.0]
    np.testing.assert_array_equal(result.history.flat_params[1:], list(itertools.product(*axes)))
    np.testing.assert_array_equal(result.params, [-1.0, 0.0, 2.0])
    assert result.success


@pytest.mark.parametrize("polish", [scipy.optimize.fmin, scipy.optimize.minimize])
def test_the_grid_is_polished_inside_the_box(polish):
    points = []

    def fun(x):
        points.append(x.copy())
        return float(camel(x) + 3 * x[0])

    lower, upper = np.array([-1.0, -2.0]), np.array([3.0, 2.0])
    result = om.minimize(
        fun, START, "scipy_brute", bounds=om.Bounds(lower, upper),
        algo_options={"n_grid_points": 5, "polishing_function": polish},
    )  # fmt: skip
    # x0 at its bound; the criterion in x1 is then -x1 - 4 x1^2 + 4 x1^4
    assert result.params[0] == pytest.approx(-1.0, abs=1e-3)
    assert 16 * result.params[1] ** 3 - 8 * result.params[1] - 1 == pytest.approx(0, abs=0.05)
    assert ((lower <= points) & (points <= upper)).all()
    assert len(points) == result.n_fun_evals == len(result.history)


@pytest.mark.parametrize("strategy", ["rand1bin", "currenttobest1exp"])
@pytest.mark.parametrize("sampling", ["sobol", "halton", "random"])
def test_strategies_and_samples_of_differential_evolution(strategy, sampling):
    options = {"strategy": strategy, "sampling_method": sampling, "mutation_constant": 0.7}
    result = om.minimize(
        camel, START, "scipy_differential_evolution", bounds=box("camel"), algo_options=options
    )
    assert result.fun == pytest.approx(-1.0316284535, abs=1e-6)


def test_the_first_generation_can_be_given():
    first = np.array([[0.0, 0.5], [1.0, 1.0], [-1.0, 0.3], [0.2, -0.7], [2.0, 0.0], [0.1, 0.1]])
    result = om.minimize(
        camel, START, "scipy_differential_evolution", bounds=box("camel"),
        algo_options={"sampling_method": first, "stopping_maxfun": 7},
    )  # fmt: skip
    rows = result.history.flat_params
    # the start takes the place of the first member
    np.testing.assert_allclose(rows, [START, START, *first[1:]], atol=1e-12)


# ---- constraints ---------------------------------------------------------------------------------


def g08(x):
    """Problem g08 of Michalewicz and Schoenauer (1996, doi:10.1162/evco.1996.4.1.1)."""
    a, b = x[0], x[1]
    return -(np.sin(2 * np.pi * a) ** 3) * np.sin(2 * np.pi * b) / (a**3 * (a + b))


G08 = om.NonlinearConstraint(
    func=lambda x: np.array([x[0] ** 2 - x[1] + 1, 1 - x[0] + (x[1] - 4) ** 2]), upper_bound=0.0
)
G08_MINIMUM = -0.0958250414
G08_OPTIONS = {
    "nlopt_ags": {"stopping_maxfun": 3_000},
    "nlopt_isres": {"stopping_maxfun": 5_000},
    "nlopt_orig_direct": {"stopping_maxfun": 3_000},
    "scipy_shgo": {"sampling_method": "sobol", "n_sampling_points": 512},
}


@pytest.mark.parametrize("name", TAKES_NONLINEAR)
def test_g08_whose_feasible_region_is_a_hundredth_of_the_box(name):
    result = om.minimize(
        g08, np.array([1.5, 4.5]), name, constraints=G08,
        bounds=om.Bounds(np.full(2, 1e-3), np.full(2, 10.0)), algo_options=G08_OPTIONS.get(name),
    )  # fmt: skip
    assert result.fun == pytest.approx(G08_MINIMUM, abs=1e-3)
    assert result.max_constraint_violation <= 1e-5


G11 = om.NonlinearConstraint(func=lambda x: x[1] - x[0] ** 2, value=0.0)


@pytest.mark.parametrize("name", TAKES_NONLINEAR)
def test_g11_has_an_equality_constraint(name):
    """The minimum is 3/4 at (+-1/sqrt(2), 1/2) (Koziel and Michalewicz 1999)."""
    arguments = {
        "fun": lambda x: x[0] ** 2 + (x[1] - 1) ** 2,
        "params": np.array([0.1, 0.3]),
        "algorithm": name,
        "constraints": G11,
        "bounds": om.Bounds(-np.ones(2), np.ones(2)),
    }
    if INFO[name].inequalities_only:
        with pytest.raises(InvalidConstraintError, match="takes inequalities only"):
            om.minimize(**arguments)
        return
    result = om.minimize(**arguments, algo_options={"stopping_maxfun": 20_000})
    assert result.fun == pytest.approx(0.75, abs=1e-3)
    assert result.max_constraint_violation <= 1e-4


@pytest.mark.parametrize("name", TAKES_NONLINEAR)
def test_a_problem_without_feasible_points_ends_and_says_so(name):
    nowhere = om.NonlinearConstraint(func=lambda x: (x**2).sum(), upper_bound=-1.0)
    result = om.minimize(
        camel, START, name, constraints=nowhere, bounds=box("camel"),
        algo_options={"stopping_maxfun": 60, "stopping_maxiter": 60},
    )  # fmt: skip
    assert not result.success
    assert "fulfils all constraints" in result.message or "stopping_max" in result.message


@pytest.mark.parametrize("name", ["nlopt_ags", "scipy_differential_evolution"])
def test_the_limit_on_time_holds_where_nothing_is_feasible(name):
    nowhere = om.NonlinearConstraint(func=lambda x: (x**2).sum(), upper_bound=-1.0)
    result = om.minimize(
        camel, START, name, constraints=nowhere, bounds=box("camel"),
        algo_options={"stopping_maxfun": 10**6, "stopping_maxtime": 0.05},
    )  # fmt: skip
    assert "stopping_maxtime" in result.message


def test_shgo_does_not_drop_constraints_for_its_local_search():
    # the default method of its local searches takes none
    disk = om.NonlinearConstraint(func=lambda x: (x**2).sum(), upper_bound=0.25)
    result = om.minimize(
        lambda x: x.sum(), np.array([0.1, 0.1]), "scipy_shgo", constraints=disk,
        bounds=om.Bounds(-np.ones(2), np.ones(2)), algo_options={"sampling_method": "sobol"},
    )  # fmt: skip
    assert result.success
    np.testing.assert_allclose(result.params, -math.sqrt(1 / 8), atol=1e-5)


def test_shgo_without_a_local_search_says_what_to_do():
    disk = om.NonlinearConstraint(func=lambda x: (x**2).sum(), upper_bound=0.25)
    result = om.minimize(
        lambda x: x.sum(), np.array([0.1, 0.1]), "scipy_shgo", constraints=disk,
        bounds=om.Bounds(-np.ones(2), np.ones(2)),
    )  # fmt: skip
    assert not result.success
    assert "Take more n_sampling_points" in result.message


# ---- records, failures and ends ------------------------------------------------------------------


@every
def test_the_log_has_every_call_of_the_criterion(name, tmp_path):
    points = []

    def fun(x):
        points.append(x.copy())
        return float(camel(x))

    logging = om.SQLiteLogOptions(tmp_path / "run.db")
    result = minimize(name, fun, START, bounds=box("camel"), logging=logging,
                      algo_options={"stopping_maxfun": 150})  # fmt: skip
    frame = om.SQLiteLogReader(tmp_path / "run.db").to_frame()
    rows = frame[frame["task"] != "jac"][result.history.flat_param_names].to_numpy()
    # a gradient by differences is logged as one row of its own besides its points
    np.testing.assert_array_equal(np.unique(rows, axis=0), np.unique(points, axis=0))
    assert len(points) == result.n_fun_evals + result.n_numdiff_evals
    np.testing.assert_array_equal(result.history.flat_params[0], START)
    with sqlite3.connect(tmp_path / "run.db") as connection:
        assert connection.execute("select count(*) from evaluations").fetchone()[0] >= len(rows)


def hole(x):
    """The camel without a part of the box, away from its minima."""
    return math.nan if x[0] > 1.5 and x[1] < 0 else camel(x)


# where a search ends only by its limit, that is no success
@every
def test_failures_somewhere_in_the_box_do_no_harm(name):
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="A user function failed")
        result = om.minimize(
            hole, START, name, bounds=box("camel"), algo_options=GIVEN.get(name),
            error_handling="continue",
        )  # fmt: skip
    assert result.fun == pytest.approx(-1.0316284535, abs=CLOSE.get(name, 1e-6))
    assert "evaluations failed" not in result.message


@pytest.mark.parametrize("name", SEARCHES_BOX)
def test_a_failure_is_an_error_by_default(name):
    with pytest.raises(UserFunctionRuntimeError, match="value is nan") as caught:
        om.minimize(
            lambda x: math.nan if x[0] < 2 else camel(x), START, name, bounds=box("camel"),
            algo_options=QUICK.get(name),
        )  # fmt: skip
    assert caught.value.partial_result.n_failed_evals == 1
    assert caught.value.params[0] < 2


@pytest.mark.parametrize("name", ["nlopt_direct", "nlopt_mlsl", "scipy_dual_annealing"])
def test_a_search_that_ends_by_its_limit_is_no_success_and_says_what_to_do(name):
    result = minimize(name, camel, START, bounds=box("camel"), algo_options={
        "stopping_maxfun": 100})  # fmt: skip
    assert not result.success
    assert "a local one that starts from result.params finishes the search" in result.message
    local = om.minimize(camel, result.params, "scipy_lbfgsb", bounds=box("camel"))
    assert local.success
    assert local.fun == pytest.approx(-1.0316284535, abs=1e-6)


def test_a_global_search_is_not_repeated_at_an_edge():
    """The start is a member of the first generation, and the only one that a search may repeat."""
    result = om.minimize(
        lambda x: -x[0], np.ones(3) / 3, "scipy_differential_evolution",
        constraints=om.ProbabilityConstraint(), algo_options={"polish": False},
    )  # fmt: skip
    rows = result.history.flat_params
    _, counts = np.unique(rows[2:46], axis=0, return_counts=True)
    assert (counts == 1).all()
    first = rows[3]
    assert (rows == first).all(axis=1).sum() == 1


# ---- StoGO, which runs in a process of its own ---------------------------------------------------


def test_stogo_finds_the_lowest_minimum_from_random_points_too():
    options = {"random_search": True, "stopping_maxfun": 500}
    bounds = box("camel")
    result = om.minimize(camel, START, "nlopt_stogo", bounds=bounds, algo_options=options)
    assert result.fun == pytest.approx(-1.0316284535, abs=1e-6)


def cone(x):
    """A function on which StoGO leaves its process; with others it does so where they jump."""
    return 500 + 0.1 * float(np.linalg.norm(x - START))


def jac_of_cone(x):
    return 0.1 * (x - START) / max(float(np.linalg.norm(x - START)), 1e-300)


def processes():
    return {child for child in psutil.Process().children() if "nlopt_child" in str(child.cmdline())}


@pytest.mark.parametrize("options", [{}, *({"random_search": True, "seed": i} for i in (1, 4))])
def test_where_stogo_gives_up_the_run_ends_and_says_so(options):
    points = []

    def fun(x):
        points.append(x)
        return cone(x)

    result = om.minimize(
        fun, START, "nlopt_stogo", jac=jac_of_cone, bounds=box("camel"), algo_options=options
    )
    assert not result.success
    assert result.status == -1
    assert "StoGO gave up: " in result.message
    assert "choose another global one" in result.message
    assert result.fun == min(result.history.fun) == 500.0
    assert len(points) == len(result.history) > 20
    # NLopt's StoGO may go on with such numbers
    assert np.isfinite(points).all()
    assert not processes()


@pytest.mark.parametrize(("i", "sign"), [(0, 1), (1, -1)], ids=["right", "below"])
def test_failures_do_not_make_stogo_give_up(i, sign):
    start = -sign * np.array([0.5, 0.4])
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="A user function failed")
        result = om.minimize(
            lambda x: math.nan if sign * x[i] > 0.1 else camel(x), start, "nlopt_stogo",
            bounds=box("camel"), error_handling="continue",
        )  # fmt: skip
    assert result.fun == pytest.approx(-1.0316284535, abs=1e-6)
    assert result.n_failed_evals > 30
    assert "stopping_maxfun" in result.message


@pytest.mark.parametrize("error", [None, KeyboardInterrupt, ZeroDivisionError])
def test_the_process_of_stogo_ends_with_the_run(error):
    alive = []

    def fun(x):
        alive.append(len(processes()))
        if len(alive) == 5 and error:
            raise error
        return camel(x)

    expected = pytest.raises(error) if error is KeyboardInterrupt else contextlib.nullcontext()
    if error is ZeroDivisionError:
        expected = pytest.raises(UserFunctionRuntimeError, match="ZeroDivisionError")
    with expected:
        om.minimize(
            fun, START, "nlopt_stogo", jac=lambda x: x, bounds=box("camel"),
            algo_options={"stopping_maxfun": 6},
        )  # fmt: skip
    assert alive[:5] == [0, 1, 1, 1, 1]
    assert not processes()
