"""Every kind of constraint with every registered algorithm, but for twins.

The criterion is the squared distance to a target, whose residuals are the distances along the
axes. So the minimum is the projection of the target
onto the feasible set, which is convex and known in closed form for each kind.
"""

from collections.abc import Callable
from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
import pytest
from conformance import (
    BOUNDED,
    DISTINCT,
    EVERY,
    GLOBAL,
    INFO,
    INSIDE_JAX,
    MAXFUN,
    MAXITER,
    QUICK,
    derivative_in_structure,
    in_structure,
    marked,
)

import optimagic_lite as om
from optimagic_lite.exceptions import IncompleteBoundsError, InvalidConstraintError

every = pytest.mark.parametrize("name", DISTINCT)
TAKES_NONLINEAR = [name for name in EVERY if INFO[name].supports_nonlinear_constraints]


@dataclass(frozen=True)
class Case:
    """A kind of constraint, and where the minimum is.

    Args:
        constraints: Of a vector of parameters.
        start: Feasible.
        target: The criterion is the squared distance to it.
        minimum: The projection of the target.
        excess: Largest violation of the constraint by rows of parameters.
        n_free: Degrees of freedom.
    """

    constraints: object
    start: np.ndarray
    target: np.ndarray
    minimum: np.ndarray
    excess: Callable
    n_free: int


def case(constraints, start, target, minimum, excess, n_free):
    return Case(constraints, *map(np.array, (start, target, minimum)), excess, n_free)


def not_semidefinite(rows):
    return max(-np.linalg.eigvalsh(om.utilities.cov_params_to_matrix(row))[0] for row in rows)


def no_correlation(rows):
    matrices = [om.utilities.sdcorr_params_to_sds_and_corr(row)[1] for row in rows]
    return max(*(-np.linalg.eigvalsh(corr)[0] for corr in matrices), -rows[:, :3].min())


CASES = {
    "fixed": case(
        om.FixedConstraint(lambda x: x[:1]),
        [0.5, 0.1, 0.2], [2.0, 1.0, -1.0], [0.5, 1.0, -1.0],
        lambda rows: np.abs(rows[:, 0] - 0.5).max(), 2,
    ),
    "equality": case(
        om.EqualityConstraint(lambda x: x[:2]),
        [0.5, 0.5, 0.2], [2.0, 1.0, -1.0], [1.5, 1.5, -1.0],
        lambda rows: np.abs(rows[:, 0] - rows[:, 1]).max(), 2,
    ),
    "pairwise equality": case(
        om.PairwiseEqualityConstraint([lambda x: x[:2], lambda x: x[2:]]),
        [0.5, 0.1, 0.5, 0.1], [2.0, 1.0, -1.0, 0.0], [0.5, 0.5, 0.5, 0.5],
        lambda rows: np.abs(rows[:, :2] - rows[:, 2:]).max(), 2,
    ),
    "increasing": case(
        om.IncreasingConstraint(),
        [0.0, 0.5, 1.0], [1.0, 0.2, 2.0], [0.6, 0.6, 2.0],
        lambda rows: -np.diff(rows).min(), 3,
    ),
    "decreasing": case(
        om.DecreasingConstraint(),
        [1.0, 0.5, 0.0], [2.0, 0.2, 1.0], [2.0, 0.6, 0.6],
        lambda rows: np.diff(rows).max(), 3,
    ),
    "probability": case(
        om.ProbabilityConstraint(),
        [0.3, 0.3, 0.4], [0.9, 0.4, -0.5], [0.75, 0.25, 0.0],
        lambda rows: max(np.abs(rows.sum(axis=1) - 1).max(), -rows.min()), 2,
    ),
    "covariance": case(
        om.FlatCovConstraint(),
        [1.0, 0.0, 1.0], [1.5, -0.4, 0.7], [1.5, -0.4, 0.7],
        not_semidefinite, 3,
    ),
    "sdcorr": case(
        om.FlatSDCorrConstraint(),
        [1.0, 1.0, 1.0, 0.0, 0.0, 0.0], [1.5, 0.7, 1.2, 0.3, -0.4, 0.2],
        [1.5, 0.7, 1.2, 0.3, -0.4, 0.2],
        no_correlation, 6,
    ),
    "linear equality": case(
        om.LinearConstraint(weights=[1.0, 2.0, 2.0], value=1.0),
        [1.0, 0.0, 0.0], [2.0, 1.0, 3.0], [1.0, -1.0, 1.0],
        lambda rows: np.abs(rows @ [1, 2, 2] - 1).max(), 2,
    ),
    "linear inequality": case(
        om.LinearConstraint(weights=[1.0, 2.0, 2.0], upper_bound=1.0),
        [0.0, 0.0, 0.0], [2.0, 1.0, 3.0], [1.0, -1.0, 1.0],
        lambda rows: (rows @ [1, 2, 2] - 1).max(), 3,
    ),
}  # fmt: skip


def solve(name, case, **arguments):
    """Minimize in NumPy, with a derivative, or in JAX where the algorithm needs that."""
    target, xp = case.target, jnp if name in INSIDE_JAX else np
    options = {"stopping_maxfun": 4_000}

    def fun(x):
        d = xp.asarray(x) - target
        return in_structure(name, d, d, xp)

    def jac(x):
        return derivative_in_structure(name, x - target, np.eye(len(x)))

    if name not in INSIDE_JAX and INFO[name].needs_jac and not INFO[name].needs_hess:
        arguments["jac"] = marked(name, jac)
    if name in GLOBAL:
        options = {"stopping_maxfun": 300, **QUICK.get(name, {})}
        arguments.setdefault("bounds", box(case))
    return om.minimize(
        marked(name, fun), case.start, algorithm=name, algo_options=options, **arguments
    )


def box(case):
    """Bounds that do not bind, for global algorithms; covariances and correlations take none."""
    lower = np.minimum(case.start, case.minimum) - 0.8
    upper = np.maximum(case.start, case.minimum) + 0.9
    for kind, open_ones in (("covariance", [1]), ("sdcorr", [3, 4, 5])):
        if case is CASES[kind]:
            lower[open_ones], upper[open_ones] = -np.inf, np.inf
    return om.Bounds(lower, upper)


# how runs say that the solver needs a positive definite Hessian, or was caught and it was noticed
HONEST = ("non-psd Hessian", "not positive definite", "still falls", "lower points", "No better",
          "as finely as numbers allow")  # fmt: skip


def assert_solved(result, case):
    """Converged to the minimum, or else ran into a limit close to it.

    A minimum on an edge is approached, and not reached, by forms without bounds. Global algorithms
    may still be anywhere at a limit.
    """
    if result.success:
        np.testing.assert_allclose(result.params, case.minimum, atol=5e-3)
    elif not any(text in result.message for text in HONEST):
        assert result.status in (MAXFUN, MAXITER), result.message
        if result.algorithm in GLOBAL:
            assert result.fun <= result.start_fun
            return
        np.testing.assert_allclose(result.params, case.minimum, atol=6e-2)


# each algorithm meets every second constraint and each constraint every second algorithm: the space
# knows nothing of algorithms, and all pairs take minutes; solvers that are compiled as a whole for
# each pair meet every fourth
PAIRS = [
    pytest.param(name, case, id=f"{kind}-{name}")
    for i, name in enumerate(DISTINCT)
    for j, (kind, case) in enumerate(CASES.items())
    if (i + j) % (4 if name in INSIDE_JAX else 2) == 0
]


@pytest.mark.parametrize(("name", "case"), PAIRS)
def test_the_constraint_holds_and_the_minimum_is_found(name, case):
    result = solve(name, case, constraints=case.constraints)
    assert_solved(result, case)
    assert result.n_free == case.n_free
    rows = result.history.flat_params
    if not INFO[name].supports_linear_constraints:
        assert case.excess(rows) <= 1e-12
    assert case.excess(result.params[None]) <= 1e-9
    assert result.start_fun == pytest.approx(((case.start - case.target) ** 2).sum(), rel=1e-2)


@pytest.mark.parametrize("name", BOUNDED)
@pytest.mark.parametrize("kind", ["probability", "increasing"])
def test_edges_are_reached_by_algorithms_that_keep_bounds(name, kind):
    case = CASES[kind]
    result = solve(name, case, constraints=case.constraints)
    if name in GLOBAL:
        assert_solved(result, case)
        return
    assert result.success, result.message
    # a barrier stays inside
    atol = 1e-4 if name == "scipy_trust_constr" else 1e-5
    np.testing.assert_allclose(result.params[-1], case.minimum[-1], atol=1e-3)
    assert case.excess(result.params[None]) <= atol


@every
def test_bounds_by_transformation(name):
    lower, upper = np.array([-1.0, -1.0, 0.0]), np.array([0.5, np.inf, np.inf])
    bounded = case(None, [0.0, 0.0, 0.5], [2.0, 1.0, 0.3], [0.5, 1.0, 0.3], None, 3)
    if INFO[name].needs_bounds:
        with pytest.raises(IncompleteBoundsError, match="leave out bounds_as"):
            solve(name, bounded, bounds_as="transform")
        return
    result = solve(name, bounded, bounds=om.Bounds(lower, upper), bounds_as="transform")
    assert_solved(result, bounded)
    rows = result.history.flat_params
    assert (rows >= lower).all()
    assert (rows <= upper).all()


@every
def test_scaling_with_constraints(name):
    scaled = case(
        [om.FixedConstraint(lambda x: x[0]), om.EqualityConstraint(lambda x: x[1:3])],
        [5.0, 2.0, 2.0, 3.0], [2.0, 2.8, 3.2, 3.5], [5.0, 3.0, 3.0, 3.5], None, 2,
    )  # fmt: skip
    result = solve(name, scaled, constraints=scaled.constraints, scaling=True)
    assert_solved(result, scaled)
    assert result.params[0] == 5.0
    assert result.params[1] == result.params[2]


@every
def test_all_parameters_fixed(name):
    fixed = CASES["fixed"]
    result = solve(name, fixed, constraints=om.FixedConstraint())
    assert result.success
    assert result.n_free == 0
    assert result.n_fun_evals == 1
    np.testing.assert_array_equal(result.params, fixed.start)


DISK = om.NonlinearConstraint(func=lambda x: (x**2).sum(), upper_bound=1.0)


@pytest.mark.parametrize("name", TAKES_NONLINEAR)
def test_nonlinear_constraints_are_taken_by_those_that_say_so(name):
    disk = case(None, [0.1, 0.1, 0.1], [2.0, 1.0, 2.0], [2 / 3, 1 / 3, 2 / 3], None, 3)
    result = solve(name, disk, constraints=DISK)
    if name in GLOBAL:
        assert_solved(result, disk)
    else:
        assert result.success, result.message
        np.testing.assert_allclose(result.params, disk.minimum, atol=2e-3)
    assert result.max_constraint_violation <= 1e-5
    assert result.n_constraint_evals > 0


@pytest.mark.parametrize("name", [name for name in DISTINCT if name not in TAKES_NONLINEAR])
def test_nonlinear_constraints_are_refused_by_all_others(name):
    with pytest.raises(InvalidConstraintError, match=f"{name} takes no nonlinear") as caught:
        solve(name, CASES["fixed"], constraints=DISK)
    named = str(caught.value).split("do: ")[1].rstrip(".").split(", ")
    assert set(named) <= set(TAKES_NONLINEAR)


BOX_AND_ROWS = [
    om.ProbabilityConstraint(),
    om.LinearConstraint(weights=[1.0, -1.0, 0.0], upper_bound=0.2),
]


@every
def test_rows_that_no_bijection_carries_go_to_those_that_take_them(name):
    # with both rows active: x1 = x0 - 0.2 and x2 = 1.2 - 2 x0, and the derivative in x0 is zero
    rows = case(None, [0.3, 0.3, 0.4], [1.0, 0.2, 0.2], [17 / 30, 11 / 30, 1 / 15], None, 3)
    info = INFO[name]
    takes = info.supports_linear_constraints or info.supports_nonlinear_constraints
    if not takes or info.inequalities_only:
        with pytest.raises(InvalidConstraintError, match="Algorithms that"):
            solve(name, rows, constraints=BOX_AND_ROWS)
        return
    result = solve(name, rows, constraints=BOX_AND_ROWS)
    if name in GLOBAL:
        assert_solved(result, rows)
    else:
        assert result.success, result.message
        np.testing.assert_allclose(result.params, rows.minimum, atol=1e-3)
    assert result.max_constraint_violation <= 1e-6
