"""Solutions as functions of data: they and their derivatives are right, and failures say so."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compilations import count_compilations

import optimagic_lite as om
from optimagic_lite import exceptions

EXACT = {"convergence_gtol_abs": 1e-11, "convergence_ftol_rel": 0.0}
BOX = om.Bounds(lower=0.0, upper=1.0)
START = np.full(2, 0.5)
TARGETS = np.array([[0.6, -1.0], [2.0, 0.25], [0.1, 0.2]])


@pytest.fixture(autouse=True)
def _double():
    with jax.enable_x64(True):
        yield


def argmin(fun, algorithm="jax_bfgs", make=om.argmin, **kwargs):
    return make(fun, algorithm, **{"algo_options": EXACT} | kwargs)


argmax = partial(argmin, make=om.argmax)


def quartic(x, target):
    """Its minimum is the target, clipped to any box."""
    return jnp.sum((x - target) ** 2 * jnp.arange(1.0, len(x) + 1)) + jnp.sum((x - target) ** 4)


def weighted(x, target, weight):
    return weight * quartic(x, target)


def check_solution(solution, closed_form, data, mode=jax.jacrev, atol=1e-8):
    """Compare values and Jacobians with respect to all data, in one compiled call."""

    def both(function):
        return lambda *data: (function(*data), mode(function, tuple(range(len(data))))(*data))

    found, expected = jax.jit(both(solution))(*data), both(closed_form)(*data)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=atol), found, expected)


# ---- derivatives against closed forms ------------------------------------------------------

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(6, 3)), RNG.normal(size=6)
COVARIANCE = X.T @ X / 6 + 0.1 * np.eye(3)


def utility(weights, mean, aversion):
    return mean @ weights - aversion / 2 * weights @ COVARIANCE @ weights


def test_ridge_regression_with_respect_to_all_data():
    def ridge(beta, x, y, penalty):
        return jnp.sum((y - x @ beta) ** 2) + penalty * beta @ beta

    def closed_form(x, y, penalty):
        return jnp.linalg.solve(x.T @ x + penalty * jnp.eye(3), x.T @ y)

    solve = argmin(ridge)
    check_solution(lambda *d: solve(np.zeros(3), *d), closed_form, (X, Y, 0.7), jax.jacfwd)


def test_water_filling_with_empty_basins_has_second_derivatives():
    def closed_form(capacity):
        ordered = jnp.sort(capacity)
        levels = (1 + jnp.cumsum(ordered)) / jnp.arange(1, len(capacity) + 1)
        return jnp.maximum(levels[jnp.sum(levels > ordered) - 1] - capacity, 0.0)

    def both(solution):
        second = jax.hessian(lambda capacity: jnp.sum(solution(capacity) ** 3))
        return lambda capacity: (solution(capacity), second(capacity))

    solve = argmax(
        lambda x, capacity: jnp.sum(jnp.log(capacity + x)), constraints=om.ProbabilityConstraint()
    )
    capacity = np.array([0.1, 0.5, 0.3, 2.0])
    solution, hessian = jax.jit(both(lambda c: solve(np.full(4, 0.25), c)))(capacity)
    expected = both(closed_form)(capacity)
    assert solution[3] == 0.0
    np.testing.assert_allclose(solution, expected[0], atol=1e-9)
    np.testing.assert_allclose(hessian, expected[1], atol=1e-7)


def test_a_portfolio_with_a_budget():
    def closed_form(mean, aversion):
        inverse, ones = np.linalg.inv(COVARIANCE), np.ones(3)
        price = (ones @ inverse @ mean - aversion) / (ones @ inverse @ ones)
        return inverse @ (mean - price) / aversion

    solve = argmax(utility, constraints=om.LinearConstraint(weights=1, value=1))
    data = np.array([0.3, 0.1, 0.2]), 3.0
    check_solution(lambda *d: solve(np.full(3, 1 / 3), *d), closed_form, data)


def test_an_isotonic_regression_pools_its_derivatives():
    solve = argmin(lambda x, y: jnp.sum((x - y) ** 2), constraints=om.IncreasingConstraint())
    means = np.zeros((6, 6))
    for group in ([0], [1, 2], [3, 4, 5]):
        means[np.ix_(group, group)] = 1 / len(group)
    y = np.array([1.0, 3.0, 2.0, 6.0, 5.0, 4.9])
    check_solution(lambda y: solve(np.arange(6.0), y), lambda y: means @ y, (y,), jax.jacfwd)


def test_a_covariance_matrix_that_is_fitted():
    def loglike(flat, x):
        root = jnp.linalg.cholesky(jnp.array([[flat[0], flat[1]], [flat[1], flat[2]]]))
        z = jax.scipy.linalg.solve_triangular(root, x.T, lower=True)
        return -len(x) * jnp.sum(jnp.log(jnp.diag(root))) - 0.5 * jnp.sum(z**2)

    def closed_form(x):
        return (x.T @ x / 6)[np.tril_indices(2)]

    solve = argmax(loglike, constraints=om.FlatCovConstraint())
    check_solution(lambda x: solve(np.array([1.0, 0.0, 1.0]), x), closed_form, (X[:, :2],))


def test_equal_fixed_and_scaled_parameters_under_vmap():
    def fun(p, t):
        return jnp.sum((p["pair"] - t) ** 2) + (p["b"] - p["fixed"] * t[0]) ** 2

    def selected(name):
        return lambda p: p[name]

    constraints = [om.FixedConstraint(selected("fixed")), om.EqualityConstraint(selected("pair"))]
    solve = argmin(fun, constraints=constraints, scaling=True)

    @jax.vmap
    def solution(fixed, t):
        return solve({"pair": np.zeros(2), "fixed": fixed, "b": 7.0}, t)

    def closed_form(fixed, t):
        pair = jnp.repeat(t.mean(axis=1, keepdims=True), 2, axis=1)
        return {"pair": pair, "fixed": fixed, "b": fixed * t[:, 0]}

    check_solution(solution, closed_form, (np.array([3.0, 5.0]), np.array([[1.0, 4], [2, 3]])))


# ---- derivatives against differences -------------------------------------------------------


def check_differences(solution, at, along, atol=1e-6, h=1e-3):
    """Compare directional derivatives of many solutions with differences; return solutions."""

    @jax.jit
    @jax.vmap
    def compare(at, along):
        def shifted(k):
            return solution(*(a + k * h * d for a, d in zip(at, along, strict=True)))

        around = jax.vmap(shifted)(jnp.array([-2.0, -1, 1, 2]))
        difference = jnp.array([1, -8, 8, -1]) @ around / (12 * h)
        return *jax.jvp(solution, at, along), difference

    value, exact, difference = compare(at, along)
    np.testing.assert_allclose(exact, difference, atol=atol)
    return value


def test_logistic_regressions_with_free_and_active_bounds():
    def logistic(beta, x, penalty):
        return jnp.mean(jnp.logaddexp(0.0, signs * (x @ beta))) + penalty / 2 * beta @ beta

    rng = np.random.default_rng(1)
    signs = rng.choice([-1.0, 1.0], 30)
    at = rng.normal(size=(20, 30, 3)), rng.uniform(0.05, 0.2, 20)
    along = rng.normal(size=(20, 30, 3)), rng.normal(size=20) / 10
    solve = argmin(logistic, bounds=om.Bounds(lower=-0.2, upper=0.2))
    betas = check_differences(lambda *d: solve(np.zeros(3), *d), at, along)
    assert set((np.abs(betas) == 0.2).sum(axis=1).tolist()) >= {0, 1, 2}


def test_portfolios_without_short_sales():
    mean, along = np.random.default_rng(2).normal(size=(2, 20, 3))
    solve = argmax(utility, constraints=om.ProbabilityConstraint())
    weights = check_differences(lambda m: solve(np.full(3, 1 / 3), m, 1.0), (mean,), (along,))
    assert set((weights == 0).sum(axis=1).tolist()) == {0, 1, 2}


def test_a_bound_that_just_binds_gives_the_derivative_of_one_side():
    solve = argmin(weighted, bounds=om.Bounds(lower=0.0))
    for mode in (jax.jacfwd, jax.jacrev):
        found = np.asarray(mode(solve, argnums=1)(START, np.array([0.0, 1.0]), 1.0))
        assert found[0, 0] in (0.0, pytest.approx(1.0))
        np.testing.assert_allclose([found[1, 1], found[0, 1], found[1, 0]], [1, 0, 0], atol=1e-9)


def test_more_than_500_parameters():
    n = 600
    target, along = np.random.default_rng(3).normal(size=(2, n))
    weights = np.linspace(1.0, 10.0, n)

    def fun(x, t):
        return jnp.sum(weights * (x - t) ** 2) + jnp.sum((x[1:] - x[:-1]) ** 2)

    @jax.jit
    def compare(target, along):
        x, pushed = jax.jvp(lambda t: solve(np.zeros(n), t), (target,), (along,))
        return x, pushed, jax.vjp(lambda t: solve(np.zeros(n), t), target)[1](along)[0]

    solve = argmin(fun, "jax_lbfgs", bounds=om.Bounds(lower=0.0))
    x, pushed, pulled = compare(target, along)
    free = np.flatnonzero(x > 0)
    assert 200 < len(free) < 500
    differences, inverse = np.diff(np.eye(n), axis=0), np.zeros((n, n))
    half_hessian = np.diag(weights) + differences.T @ differences
    inverse[np.ix_(free, free)] = np.linalg.inv(half_hessian[np.ix_(free, free)])
    np.testing.assert_allclose(pushed, inverse @ (weights * along), atol=1e-9)
    np.testing.assert_allclose(pulled, weights * (inverse @ along), atol=1e-9)


def test_batches_equal_loops():
    solve, expected = argmin(quartic, bounds=BOX), np.clip(TARGETS, 0, 1)
    loop = np.stack([solve(START, t) for t in TARGETS])
    np.testing.assert_allclose(loop, expected, atol=1e-9)
    mapped = jax.lax.map(lambda t: solve(START, t), TARGETS)
    np.testing.assert_allclose(mapped, loop, atol=1e-9)

    @jax.jit
    @jax.vmap
    def batch(start, target):
        return solve(start, target), jax.jacrev(solve, argnums=1)(start, target)

    values, jacobians = batch(expected[::-1], TARGETS)
    np.testing.assert_allclose(values, loop, atol=1e-9)
    slopes = [np.diag([1, 0]), np.diag([0, 1]), np.eye(2)]
    np.testing.assert_allclose(jacobians, slopes, atol=1e-9)


def test_a_solve_in_a_criterion_is_tuned_and_differentiated():
    data, goal = np.array([1.0, 2.0]), np.array([0.5, 1.1])

    def fit(penalty):
        # a fresh function that closes over what is traced
        inner = argmin(lambda x: jnp.sum((x - data) ** 2) + penalty * jnp.sum(x**2))
        return inner(np.zeros(2))

    outer = argmin(lambda log_penalty, goal: jnp.sum((fit(jnp.exp(log_penalty)) - goal) ** 2))
    check_solution(
        lambda goal: outer(0.0, goal),
        lambda goal: jnp.log(data @ data / (data @ goal) - 1),
        (goal,),
    )


def test_params_keep_their_structure_and_the_order_of_their_keys():
    def fun(p, t):
        seen.append(list(p))
        return (p["z"] - t["u"]) ** 2 + jnp.sum((p["a"][0] - t["v"]) ** 2)

    def solution(z):
        return solve({"z": z, "a": [np.zeros((1, 2))]}, {"v": 2.0, "u": np.array(3.0)})

    solve, seen = argmin(fun), []
    assert list(solution(1.0)) == ["z", "a"]
    with jax.enable_x64(False):
        assert list(solution(1.0)) == ["z", "a"]
    for found in (solution(1.0), jax.jit(solution)(1.0)):
        assert found["z"].shape == ()
        np.testing.assert_allclose(found["z"], 3.0)
        np.testing.assert_allclose(found["a"][0], [[2.0, 2.0]])
    assert set(map(tuple, seen)) == {("z", "a")}


def test_numbers_keys_and_static_arguments():
    def fun(x, count, mask, key, weight, kind, power=None, *, n):
        assert (kind, power, n) == ("odd", None, 3)
        noise = jax.random.normal(key, (n,))
        return jnp.sum(jnp.where(mask, (x - weight * count - noise) ** 2, x**2))

    @jax.jit
    def solved(count, mask, key, weight):
        def solution(weight):
            return solve(np.zeros(3), count, mask, key, weight, "odd", n=3)

        return solution(weight), jax.jacrev(solution)(weight)

    solve, count, mask = argmin(fun), np.arange(3), np.array([True, False, True])
    for key in jax.random.split(jax.random.key(5)):
        value, slope = solved(count, mask, key, 2.0)
        expected = np.where(mask, 2.0 * count + jax.random.normal(key, (3,)), 0.0)
        np.testing.assert_allclose(value, expected, atol=1e-9)
        np.testing.assert_allclose(slope, np.where(mask, count, 0), atol=1e-9)


@pytest.mark.parametrize(
    "algorithm",
    ["jax_newton", "jax_lm", "optax_adam", "optimistix_bfgs", "optimistix_levenberg_marquardt"],
)
def test_residuals_with_all_kinds_of_algorithms(algorithm):
    solve = om.argmin(om.mark.least_squares(lambda beta, y: y - X @ beta), algorithm)
    inverse = np.linalg.pinv(X)
    check_solution(lambda y: solve(np.zeros(3), y), lambda y: inverse @ y, (Y,), atol=1e-4)


@pytest.mark.parametrize(
    ("options", "weight", "status", "word"),
    [
        ({}, 1.0, 1, "gradient"),
        ({"stopping_maxfun": 2}, 1.0, 101, "stopping_maxfun"),
        ({"stopping_maxiter": 1}, 1.0, 102, "stopping_maxiter"),
        ({}, np.nan, 7, "not finite"),
    ],
)
def test_a_failed_solve_says_so_and_has_no_derivatives(options, weight, status, word):
    solve = argmin(weighted, bounds=BOX, algo_options=EXACT | options)
    data = np.array([0.3, -2.0]), weight
    solution = solve.run(START, *data)
    assert solution.status == status
    assert bool(solution.success) is (status == 1)
    assert word in solve.message(solution.status)
    assert word in solve.message(np.array([[1, status]]))[0, 1]
    for mode in (jax.jacfwd, jax.jacrev):
        found = np.asarray(mode(solve, argnums=1)(START, *data))
        assert np.isnan(found).all() if status != 1 else np.isfinite(found).all()


def test_a_criterion_that_fails_here_and_there_is_minimized_all_the_same():
    solve = argmin(lambda x, t: jnp.sum(x - t * jnp.log(x)))
    _, trace = solve.run_with_trace(60, START * 20, TARGETS[2])
    assert np.isnan(trace.history().fun).any()
    np.testing.assert_allclose(solve(START * 20, TARGETS[2]), TARGETS[2])


def test_a_solution_that_is_no_function_of_the_data_has_no_derivative():
    solve = argmin(lambda x, t: (x[0] + x[1] - t) ** 2)
    solution, slope = jax.jit(lambda t: (solve.run(START, t), jax.jacrev(solve, 1)(START, t)))(3.0)
    assert solution.success
    assert np.isnan(slope).all()


LIMITED = {  # constraint, start, start that violates it, target, solution
    "fixed": (om.FixedConstraint(), [1, 2], None, [0, 0], [1, 2]),
    "equality": (om.EqualityConstraint(), [0.5, 0.5], [0.5, 0.7], [1, 2], [1.5, 1.5]),
    "probability": (om.ProbabilityConstraint(), [0.5, 0.5], [0.5, 0.7], [0.3, 0.1], [0.6, 0.4]),
    "decreasing": (om.DecreasingConstraint(), [0.4, 0.2], [0.2, 0.4], [1, 2], [1.5, 1.5]),
    "linear": (om.LinearConstraint(weights=[1, 2], value=3), [1, 1], [1, 2], [0, 4], [-1, 2]),
    "covariance": (om.FlatCovConstraint(), [1, 0, 1], [1, 2, 1], [1, 2, 1], [4 / 3] * 3),
    "sdcorr": (om.FlatSDCorrConstraint(), [1, 2, 0.5], [1, 2, 1.5], [2, 1, 0.3], [2, 1, 0.3]),
    "bounded": (None, [1], [-1], [-2], [0]),
}


def test_traced_starts_serve_with_all_constraints_and_fail_where_they_violate_one():
    def limited(name):
        return dataclasses.replace(LIMITED[name][0], selector=lambda p: p[name])

    good, target, solution = (
        {name: np.array(row[i], dtype=float) for name, row in LIMITED.items()} for i in (1, 3, 4)
    )
    solve = argmin(
        lambda p: sum(jnp.sum((p[name] - target[name]) ** 2) for name in p),
        constraints=[limited(name) for name, row in LIMITED.items() if row[0] is not None],
        bounds=om.Bounds(lower={"bounded": 0.0}),
    )
    bad = [{**good, name: np.array(row[2])} for name, row in LIMITED.items() if row[2]]
    starts = jax.tree.map(lambda *leaves: np.stack(leaves), good, *bad)
    found = jax.jit(jax.vmap(solve.run))(starts)
    assert found.success.tolist() == [True] + [False] * len(bad)
    for name, values in solution.items():
        np.testing.assert_allclose(found.params[name][0], values, atol=1e-9)


def test_an_infeasible_start_gives_no_number_also_in_single_precision():
    solve = argmin(lambda x, t: jnp.sum((x - t) ** 2), constraints=om.ProbabilityConstraint())
    target = np.array([0.6, 0.8])
    both = jax.jit(lambda x, t: (solve(x, t), jax.jacrev(solve, 1)(x, t)))
    assert all(np.isnan(values).all() for values in both(np.ones(2), target))
    with jax.enable_x64(False):
        found = jax.jit(jax.vmap(solve, (0, None)))(np.array([START, START * 2]), target)
    np.testing.assert_allclose(found, [[0.4, 0.6], [np.nan, np.nan]], atol=1e-7)


# ---- traces, precision, compilations -------------------------------------------------------


def test_a_trace_is_a_history_that_plots_take():
    solve = argmin(quartic, bounds=BOX)
    solution, trace = solve.run_with_trace(40, START, TARGETS[0])
    plain = solve.run(START, TARGETS[0])
    jax.tree.map(np.testing.assert_array_equal, solution, plain)
    history = trace.history()
    assert len(history.fun) == plain.n_fun_evals < 40
    assert history.fun[0] == pytest.approx(quartic(START, TARGETS[0]))
    assert min(history.fun) == plain.fun
    assert len(om.criterion_plot(history).data[0].y) == len(history.fun)


def test_traces_of_a_batch_and_those_that_are_too_short():
    solve = argmax(lambda x, t: -quartic(x, t), bounds=BOX)
    with pytest.raises(exceptions.InvalidAlgoOptionError, match="positive integer"):
        solve.run_with_trace(0.5, START, START)
    targets = np.concatenate([TARGETS[:2], [START]])
    solution, trace = jax.jit(jax.vmap(lambda t: solve.run_with_trace(3, START, t)))(targets)
    assert solution.success.tolist() == [False, False, True]
    for i in range(3):
        history = trace.history(i)
        assert len(history.fun) == solution.n_fun_evals[i] == (1 if i == 2 else 3)
        assert max(history.fun) == solution.fun[i]


def test_single_precision_outside_and_the_flag_of_the_user_stays():
    solve = argmin(quartic, bounds=BOX)
    with jax.enable_x64(False):
        solution = solve.run(START, TARGETS[0])
        assert {str(v.dtype) for v in jax.tree.leaves(solution)} == {"float32", "int32", "bool"}
        np.testing.assert_allclose(solution.params, [0.6, 0.0], atol=1e-7)
        assert solution.gradient_norm < 1e-10
        np.testing.assert_allclose(jax.vmap(solve, (None, 0))(START, TARGETS)[2], TARGETS[2])
        with pytest.raises(exceptions.NotAvailableError, match="jax_enable_x64"):
            jax.grad(lambda t: solve(START, t).sum())(TARGETS[0])
        assert jnp.zeros(1).dtype == jnp.float32
    assert solve(START, TARGETS[0]).dtype == jnp.float64


def test_nothing_is_compiled_twice():
    def solver():
        def fun(x, t):
            z = x - t
            return jnp.sum(jnp.logaddexp(0, z) + jax.nn.softplus(-z) + jax.nn.relu(z) ** 2 + x**2)

        return om.argmin(fun)

    def all_of_it(start, targets):
        jax.jacrev(solver(), argnums=1)(start, targets[0])
        return jax.vmap(solver(), (None, 0))(start, targets)

    first = all_of_it(START, TARGETS)
    with count_compilations() as counter:
        second = all_of_it(START + 1, TARGETS + 0.5)
    assert counter[0] == 0
    assert np.abs(first - second).max() > 0.1


# ---- errors --------------------------------------------------------------------------------

DISC = om.NonlinearConstraint(func=lambda x: x @ x, upper_bound=1)


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"algorithm": "scipy_lbfgsb"}, "NotAvailable", "Those that do: jax_bfgs, jax_lbfgs"),
        ({"algorithm": "jax_bgfs"}, "InvalidAlgoOption", "Did you mean 'jax_bfgs'"),
        ({"algo_options": {"convergence_gtol": 1}}, "InvalidAlgoOption", "gtol_abs"),
        ({"algo_options": {"stopping_maxtime": 1.0}}, "InvalidAlgoOption", "knows no time"),
        ({"algorithm": "optax_adam", "bounds": BOX}, "InvalidBounds", "cannot keep bounds"),
        ({"bounds": om.Bounds(lower=1.0)}, "InvalidBounds", "start value 0.5 is outside"),
        ({"constraints": DISC}, "InvalidConstraint", "no nonlinear constraints"),
        ({"constraints": om.FixedConstraint()}, "InvalidParams", "No parameter is free"),
        ({"fun": lambda x, t: x - t}, "InvalidFunction", "instead of one number"),
    ],
)
def test_what_cannot_be_done_is_refused(arguments, error, words):
    with pytest.raises(getattr(exceptions, f"{error}Error"), match=words):
        om.argmin(**{"fun": quartic} | arguments)(START, START)


def test_fixed_parameters_in_other_constraints_have_to_be_known():
    constraints = [om.ProbabilityConstraint(), om.FixedConstraint(lambda x: x[0])]
    solve = argmin(quartic, constraints=constraints)
    with pytest.raises(exceptions.InvalidParamsError, match="0 is fixed at its start value"):
        jax.jit(solve)(np.array([0.2, 0.3, 0.5]), np.zeros(3))
