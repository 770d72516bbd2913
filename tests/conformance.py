"""What every algorithm must do, as functions of its name.

The criterion is smooth, strictly convex and not quadratic, with d = x - CENTER:

    cosh(d0) + cosh(d1) + 2 cosh(d2) - 4 + (d0 - d1)^2 / 2

Free, its minimum is 0 at CENTER; HESSIAN is its Hessian there.

With x1 held at CENTER[1] + sinh(t) + t, the derivative with respect to x0 is zero at d0 = t, by
sinh(d0) + (d0 - d1) = 0. For t = -1/2 the derivative with respect to x1 is negative there, so the
upper bound on x1 binds. The lower bound CENTER[2] + 0.3 binds on x2, which stands alone.
"""

import math
import sqlite3
from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np

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

ALL = sorted(REGISTRY)
INFO = {name: REGISTRY[name].algo_info for name in ALL}
BOUNDED = [name for name in ALL if INFO[name].supports_bounds]
UNBOUNDED = [name for name in ALL if not INFO[name].supports_bounds]
INSIDE_JAX = [name for name in ALL if INFO[name].needs_program]
OUTSIDE_JAX = [name for name in ALL if not INFO[name].needs_program]


def _value(d, cosh):
    return cosh(d[0]) + cosh(d[1]) + 2 * cosh(d[2]) - 4 + (d[0] - d[1]) ** 2 / 2


def fun_numpy(x):
    """Criterion of a vector."""
    return _value(x - CENTER, np.cosh)


def gradient_numpy(x):
    """Its gradient, by hand."""
    d = x - CENTER
    coupling = d[0] - d[1]
    return np.sinh(d) * np.array([1, 1, 2]) + np.array([coupling, -coupling, 0])


def fun_jax(params):
    """Criterion of the tree below."""
    d = jnp.stack([params["b"], *params["a"]]) - CENTER
    return _value(d, jnp.cosh)


def negative_fun_jax(params):
    """Its negative, to be maximized."""
    return -fun_jax(params)


def tree(x):
    """Vector to tree; the keys are not sorted, as JAX would return them."""
    return {"b": float(x[0]), "a": np.array(x[1:])}


def flat(params):
    """Tree to vector."""
    return np.array([params["b"], *params["a"]])


class Recorder:
    """The criterion in NumPy; keeps every point at which it is called."""

    def __init__(self):
        self.points = []

    def __call__(self, x):
        self.points.append(np.array(x))
        return fun_numpy(x)


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
    recorder = None if name in INSIDE_JAX else Recorder()
    path = folder / f"{name}.db"
    result = om.minimize(
        recorder or fun_jax,
        START if recorder else tree(START),
        name,
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


def assert_minimum(result, params, minimum):
    """Check that a run converged to a minimum, or else ran out of iterations close to it.

    Methods that move by the sign of the gradient circle around the minimum with a constant step;
    then the result must not claim success.
    """
    if not result.success:
        assert result.status == MAXITER, result.message
    np.testing.assert_allclose(params, minimum, atol=1e-3 if result.success else 2e-2)
