"""What every algorithm must do, as functions of its name.

The criterion is smooth, strictly convex and not quadratic, with d = x - CENTER:

    cosh(d0) + cosh(d1) + 2 cosh(d2) - 4 + (d0 - d1)^2 / 2

Free, its minimum is 0 at CENTER; HESSIAN is its Hessian there.

With x1 held at CENTER[1] + sinh(t) + t, the derivative with respect to x0 is zero at d0 = t, by
sinh(d0) + (d0 - d1) = 0. For t = -1/2 the derivative with respect to x1 is negative there, so the
upper bound on x1 binds. The lower bound CENTER[2] + 0.3 binds on x2, which stands alone.
"""

import functools
import math
import sqlite3
from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
import scipy.optimize

import optimagic_lite as om
from optimagic_lite.algorithms.base import REGISTRY

CENTER = np.array([0.7, -0.4, 1.2])
START = np.array([-0.2, -1.8, 1.9])

BOUND_1 = CENTER[1] + math.sinh(-0.5) - 0.5
BOUND_2 = CENTER[2] + 0.3
BOUNDED_MINIMUM = np.array([CENTER[0] - 0.5, BOUND_1, BOUND_2])
BOUNDS = {
    "one-sided": om.Bounds(
        lower=np.array([-np.inf, -np.inf, BOUND_2]), upper=np.array([np.inf, BOUND_1, np.inf])
    ),
    "two-sided": om.Bounds(
        lower=np.array([-1.0, -3.0, BOUND_2]), upper=np.array([2.0, BOUND_1, 3.0])
    ),
}

HESSIAN = np.array([[2.0, -1.0, 0.0], [-1.0, 2.0, 0.0], [0.0, 0.0, 2.0]])

# statuses of runs that were ended from inside an evaluation
MAXFUN, MAXITER, MAXTIME, CALLBACK = 101, 102, 103, 104

EVERY = sorted(REGISTRY)
INFO = {name: REGISTRY[name].algo_info for name in EVERY}
GLOBAL = [name for name in EVERY if INFO[name].is_global]
# all that begin at the start; other suites run them without bounds
ALL = [name for name in EVERY if not INFO[name].is_global]
# optax's methods are one class, each with an update rule of its own, and compile for seconds; where
# it is not the rule that is tested, two stand for all
DISTINCT = [n for n in EVERY if INFO[n].library != "optax" or n in ("optax_adam", "optax_sgd")]
BOUNDED = [name for name in EVERY if INFO[name].supports_bounds]
UNBOUNDED = [name for name in ALL if not INFO[name].supports_bounds]
INSIDE_JAX = [name for name in ALL if INFO[name].needs_program]
OUTSIDE_JAX = [name for name in ALL if not INFO[name].needs_program]
SCALAR = [name for name in EVERY if INFO[name].solver_type == "scalar"]
LEAST_SQUARES = [name for name in ALL if INFO[name].solver_type == "least_squares"]
# a sum of squares has no maximum
CAN_MAXIMIZE = [name for name in EVERY if name not in LEAST_SQUARES]


# ---- global algorithms ---------------------------------------------------------------------------

# where they search if a test says nothing of bounds; the minimum is not in its middle
BOX = np.array([-1.1, -3.0, -0.4]), np.array([2.0, 1.3, 3.1])

# Options with which they need few evaluations.
QUICK = {
    "nlopt_crs2_lm": {"population_size": 8},
    "nlopt_esch": {"population_size": 10},
    "nlopt_isres": {"population_size": 12},
    "scipy_basinhopping": {"n_local_optimizations": 4},
    "scipy_brute": {"n_grid_points": 4, "polishing_function": scipy.optimize.minimize},
    "scipy_differential_evolution": {"population_size_multiplier": 3, "convergence_ftol_rel": 0.1},
    "scipy_dual_annealing": {"stopping_maxiter": 30},
    "scipy_shgo": {"n_sampling_points": 16},
}

# those that only approach a minimum, and how close they come
COARSE = {"nlopt_ags": 0.2, "nlopt_esch": 0.3, "nlopt_isres": 0.2, "scipy_direct": 5e-3}
# those whose local searches end where they meet a side of the box
COARSE_AT_SIDES = {"nlopt_stogo": 0.35}


def minimize(name, fun, params, *, task=om.minimize, algo_options=None, **arguments):
    """Minimize; a global algorithm gets a box, and options that make it quick."""
    if name in GLOBAL:
        algo_options = {**QUICK.get(name, {}), **(algo_options or {})}
        box = [tree(side) if isinstance(params, dict) else side for side in BOX]
        arguments.setdefault("bounds", om.Bounds(*box))
    return task(fun, params, name, algo_options=algo_options, **arguments)


# ---- one problem in every structure --------------------------------------------------------------
#
# A problem is written as residuals r, whose sum of squares is the criterion. The same criterion as
# contributions is f / 2n plus or minus each entry of d = x - target: the linear terms cancel in the
# sum, their scores do not vanish at the minimum, and the sum of their outer products is 2 I.


# some solvers look very far away
without_overflow_warnings = np.errstate(over="ignore", invalid="ignore")


def structure(name):
    """What an algorithm takes: "scalar", "likelihood" or "least_squares"."""
    return INFO[name].solver_type


def marked(name, function):
    """Mark a function as what an algorithm takes; those that take a number need no mark."""
    return function if name in SCALAR else getattr(om.mark, structure(name))(function)


@without_overflow_warnings
def in_structure(name, residuals, d, xp=np):
    """Turn residuals at a point into what an algorithm takes."""
    if structure(name) == "least_squares":
        return residuals
    f = residuals @ residuals
    return f if name in SCALAR else f / (2 * len(d)) + xp.concatenate([d, -d])


@without_overflow_warnings
def derivative_in_structure(name, residuals, jacobian):
    """Turn residuals and their Jacobian at a point into the derivative of what it takes."""
    if structure(name) == "least_squares":
        return jacobian
    gradient = 2 * residuals @ jacobian
    if name in SCALAR:
        return gradient
    eye = np.eye(len(gradient))
    return gradient / (2 * len(gradient)) + np.concatenate([eye, -eye])


# ---- the problem of this suite -------------------------------------------------------------------


@without_overflow_warnings
def residuals(d, xp=np):
    """Residuals of the criterion: cosh(d) - 1 is 2 sinh(d / 2)^2."""
    root = math.sqrt(2)
    first, second, third = xp.sinh(d / 2)
    return xp.stack([root * first, root * second, 2 * third, (d[0] - d[1]) / root])


@without_overflow_warnings
def jacobian(d):
    """Their Jacobian, by hand."""
    root = math.sqrt(2)
    first, second, third = np.cosh(d / 2)
    rows = [[first / root, 0, 0], [0, second / root, 0], [0, 0, third], [1 / root, -1 / root, 0]]
    return np.array(rows)


def fun_numpy(x):
    """The criterion of a vector as one number."""
    r = residuals(x - CENTER)
    return float(r @ r)


@functools.cache
def criterion(name):
    """The criterion of a vector in NumPy, as an algorithm takes it."""
    return marked(name, lambda x: in_structure(name, residuals(x - CENTER), x - CENTER))


@functools.cache
def derivative(name):
    """Its derivative, by hand."""

    def jac(x):
        return derivative_in_structure(name, residuals(x - CENTER), jacobian(x - CENTER))

    return marked(name, jac)


def _of_tree(name, params):
    d = jnp.stack([params["b"], *params["a"]]) - CENTER
    return in_structure(name, residuals(d, jnp), d, jnp)


@functools.cache
def jax_criterion(name):
    """The criterion of the tree below in JAX, as an algorithm takes it."""
    return marked(name, lambda params: _of_tree(name, params))


@functools.cache
def negative_jax_criterion(name):
    """Its negative, to be maximized."""
    return marked(name, lambda params: -_of_tree(name, params))


def tree(x):
    """Vector to tree; the keys are not sorted, as JAX would return them."""
    return {"b": float(x[0]), "a": np.array(x[1:])}


def flat(params):
    """Tree to vector."""
    return np.array([params["b"], *params["a"]])


class Recorder:
    """The criterion in NumPy as an algorithm takes it; keeps every point at which it is called."""

    def __init__(self, name):
        self.points = []
        self.function = criterion(name)

    def __call__(self, x):
        self.points.append(np.array(x))
        return self.function(x)


@dataclass
class Run:
    """A run with its log and the points at which the criterion was called (if in NumPy)."""

    result: om.OptimizeResult
    log: object
    points: list | None


def solve(name, folder, algo_options=None, **arguments):
    """Minimize with a log: in NumPy where the algorithm can, in JAX else.

    A limit on evaluations that most never reach keeps slow ones short.
    """
    recorder = None if name in INSIDE_JAX else Recorder(name)
    path = folder / f"{name}.db"
    result = minimize(
        name,
        marked(name, recorder) if recorder else jax_criterion(name),
        START if recorder else tree(START),
        algo_options={"stopping_maxfun": 300, **(algo_options or {})},
        logging=om.SQLiteLogOptions(path, if_database_exists="replace"),
        **arguments,
    )
    return Run(result, om.SQLiteLogReader(path), recorder and recorder.points)


def vector(params):
    """Params of either kind as a vector."""
    return flat(params) if isinstance(params, dict) else np.asarray(params)


def status_in_file(path):
    """What the log file itself says about its last run."""
    connection = sqlite3.connect(path)
    try:
        query = "select status from runs order by run_id desc limit 1"
        return connection.execute(query).fetchone()[0]
    finally:
        connection.close()


def assert_minimum(result, params, minimum, coarse=COARSE):
    """Check that a run converged to a minimum, or else ran out of iterations close to it.

    Methods that move by the sign of the gradient circle around the minimum with a constant step;
    then the result must not claim success. Most global ones go on until a limit.
    """
    name = result.algorithm
    if not result.success:
        assert result.status == MAXITER or (name in GLOBAL and result.status == MAXFUN), (
            result.message
        )
    atol = coarse.get(name, 1e-3 if result.success else 2e-2)
    np.testing.assert_allclose(params, minimum, atol=atol)
