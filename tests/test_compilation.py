"""A criterion is compiled once, whatever its data, and what was kept is never stale."""

import gc
import weakref

import jax
import jax.monitoring
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from compilations import count_compilations

import optimagic_lite as om

# One algorithm for each way to use compiled code: value and gradient, Hessian, a loop inside JAX.
ALGORITHMS = ["scipy_lbfgsb", "scipy_trust_exact", "optimistix_bfgs"]


def test_the_counter_counts():
    with count_compilations() as counter:
        jax.jit(lambda x: jnp.sin(x) * 3.21987)(np.ones(3)).block_until_ready()
    assert counter[0] > 0


def solve(fun, start=None, algorithm="scipy_lbfgsb", **arguments):
    start = np.zeros(2) if start is None else start
    return np.asarray(om.minimize(fun, start, algorithm, **arguments).params)


def distance(x, target, weight=1.0):
    return weight * jnp.sum((x - target) ** 2) + 0.01 * jnp.sum((x - target) ** 4)


def check(expected, *args, **kwargs):
    """Solve without compiling anything, and find the minimum."""
    with count_compilations() as counter:
        params = solve(*args, **kwargs)
    np.testing.assert_allclose(params, expected, atol=1e-3)
    assert counter[0] == 0


# ---- what compiles nothing -------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_new_start_values_and_new_data_of_the_same_shape(algorithm):
    solve(distance, algorithm=algorithm, fun_kwargs={"target": np.array([1.0, 2.0])})

    check(
        [1.0, 2.0],
        distance,
        np.array([0.5, -0.25]),
        algorithm,
        fun_kwargs={"target": np.array([1.0, 2.0])},
    )
    check([3.0, -4.0], distance, None, algorithm, fun_kwargs={"target": np.array([3.0, -4.0])})


CONSTRAINED = {
    "fixed": om.FixedConstraint(lambda x: x[0]),
    "equality": om.EqualityConstraint(lambda x: x[:2]),
    "probability": om.ProbabilityConstraint(lambda x: x[:3]),
    "increasing": om.IncreasingConstraint(lambda x: x[2:]),
    "covariance": om.FlatCovConstraint(lambda x: [x[3], x[4], x[5]]),
    "sdcorr": om.FlatSDCorrConstraint(lambda x: [x[3], x[5], x[4]]),
    "linear": om.LinearConstraint(lambda x: x[1:], weights=[1, 2, 3, 4, 5.0], upper_bound=100.0),
}
STARTS = [
    np.array([0.25, 0.25, 0.5, 0.75, 0.1, 1.5]),
    np.array([0.3, 0.3, 0.4, 0.6, 0.15, 1.25]),
]


# every second pair: each constraint meets two algorithms or more, and all pairs take half a minute
SOLVED_TWICE = [
    (kind, algorithm, scaling)
    for i, kind in enumerate(CONSTRAINED)
    for j, (algorithm, scaling) in enumerate(
        [*((name, False) for name in ALGORITHMS), (ALGORITHMS[0], True)]
    )
    if (i + j) % 2 == 0
]


@pytest.mark.parametrize(("kind", "algorithm", "scaling"), SOLVED_TWICE)
def test_new_start_values_and_data_with_constraints(kind, algorithm, scaling):
    def run(start, shift):
        constraint = CONSTRAINED[kind]
        if kind == "increasing":
            start = np.sort(start)
        return solve(
            distance,
            start,
            algorithm,
            constraints=constraint,
            scaling=scaling,
            fun_kwargs={"target": start + shift},
            # a look at corners, which not every run needs, has programs of its own
            algo_options={"stopping_maxfun": 3},
        )

    run(STARTS[0], 0.01)
    with count_compilations() as counter:
        run(STARTS[1], 0.02)
    assert counter[0] == 0


def test_new_numbers_in_constraints_and_bounds():
    def run(weights, value, upper):
        solve(
            distance,
            np.array([0.5, 0.5, 0.5]),
            constraints=om.LinearConstraint(weights=weights, value=value),
            bounds=om.Bounds(lower=np.array([-9.0, 0.0, 0.0]), upper=upper),
            fun_kwargs={"target": np.array([1.0, 2.0, 3.0])},
            # a look at corners, which not every run needs, has programs of its own
            algo_options={"stopping_maxfun": 5},
        )

    run([1.0, 1.0, 2.0], 2.0, np.array([9.0, 5.0, 6.0]))
    with count_compilations() as counter:
        run([2.0, 1.0, 1.0], 2.0, np.array([8.0, 5.5, 6.5]))
    assert counter[0] == 0


def test_nonlinear_constraints_with_new_closures_and_data():
    def run(radius):
        bound = np.array([radius])
        constraint = om.NonlinearConstraint(
            func=lambda x: jnp.sum(x**2) - (bound**2 * x[0]).sum(), upper_bound=1.0
        )
        return solve(
            distance,
            algorithm="scipy_slsqp",
            constraints=constraint,
            fun_kwargs={"target": np.array([1.0, 2.0])},
        )

    first = run(1.0)
    with count_compilations() as counter:
        second = run(2.0)
    assert counter[0] == 0
    assert not np.allclose(first, second)


def test_new_bounds():
    target = {"target": np.array([1.0, 2.0])}
    solve(distance, fun_kwargs=target)

    check([0.5, 2.0], distance, bounds=om.Bounds(upper=[0.5, None]), fun_kwargs=target)
    check([0.25, 2.0], distance, bounds=om.Bounds(upper=[0.25, None]), fun_kwargs=target)


def test_new_numbers_of_every_kind_in_fun_kwargs():
    def fun(x, table, shift, weight):
        return distance(x, table["target"][0] + shift, weight)

    def arguments(a, shift, weight):
        return {"table": {"target": [np.array([a, 2.0])]}, "shift": shift, "weight": weight}

    solve(fun, fun_kwargs=arguments(1.0, 0.5, np.float64(2.0)))

    check([4.0, 3.0], fun, fun_kwargs=arguments(3.0, 1.0, np.float64(3.0)))


def test_args_of_scipy_are_data_too():
    solve(distance, args=(np.array([1.0, 2.0]), 2.0))

    check([5.0, 6.0], distance, args=(np.array([5.0, 6.0]), 3.0))


def test_fresh_but_identical_functions():
    def make(target):
        return lambda x: jnp.sum((x - target) ** 2) + jnp.cosh(jnp.sum(x - target))

    solve(make(np.array([1.0, 2.0])))

    check([1.0, 2.0], make(np.array([1.0, 2.0])))
    check([3.0, 4.0], make(np.array([3.0, 4.0])))


def test_fresh_functions_over_jax_arrays():
    def make(numbers):
        with jax.enable_x64(True):
            target = jnp.array(numbers)
        return lambda x: jnp.sum((x - target) ** 2)

    solve(make([1.0, 2.0]))
    second = make([3.0, 4.0])

    check([3.0, 4.0], second)


DATA = np.array([1.0, 2.0])


def fun_of_a_global(x):
    return distance(x, DATA) + jnp.sum((x - DATA) ** 6)


def test_changed_global_arrays(monkeypatch):
    solve(fun_of_a_global)

    monkeypatch.setitem(globals(), "DATA", np.array([-1.0, 3.0]))
    check([-1.0, 3.0], fun_of_a_global)
    DATA[:] = [2.0, -2.0]
    check([2.0, -2.0], fun_of_a_global)


def test_arrays_inside_loops_and_branches_of_jax():
    def make(data):
        def fun(x):
            def step(total, row):
                return total + jnp.sum((x - row) ** 2) + jnp.sum((x - data[0]) ** 2), None

            total, _ = jax.lax.scan(step, 0.0, data)
            return jax.lax.cond(total > 1e6, lambda: 2 * total, lambda: total + jnp.sum(data))

        return fun

    def minimum(data):
        return (data.sum(axis=0) + len(data) * data[0]) / (2 * len(data))

    first, second = np.random.default_rng(0).normal(size=(2, 5, 2))
    solve(make(first))
    with count_compilations() as counter:
        params = solve(make(second))

    np.testing.assert_allclose(params, minimum(second), atol=1e-3)
    # the plain call at the start is JAX's own: it compiles loop and branch of a new function
    assert counter[0] <= 2


def test_a_loop_in_a_criterion_is_not_compiled_again():
    def fun(x, data):
        def step(total, row):
            return total + jnp.sum((x - row) ** 2), None

        return jax.lax.scan(step, 0.0, data)[0]

    first, second = np.random.default_rng(0).normal(size=(2, 5, 2))
    solve(fun, fun_kwargs={"data": first})

    check(second.mean(axis=0), fun, fun_kwargs={"data": second})


def test_a_criterion_that_was_traced_and_is_numpy_now_is_called_as_written():
    uses_numpy = False

    def fun(x):
        return float(np.sum((np.asarray(x) - 2) ** 2)) if uses_numpy else jnp.sum((x - 1) ** 2)

    np.testing.assert_allclose(solve(fun), [1.0, 1.0], atol=1e-4)
    uses_numpy = True
    result = om.minimize(fun, np.zeros(2), "scipy_lbfgsb")
    np.testing.assert_allclose(result.params, [2.0, 2.0], atol=1e-4)
    assert result.derivatives.kind == "numerical"
    assert result.start_fun == 8.0


def test_arrays_inside_loops_of_a_compiled_function():
    @jax.jit
    def fun(x, data):
        def step(total, row):
            return total + jnp.sum((x - row) ** 2), None

        return jax.lax.scan(step, 0.0, data)[0]

    first, second = np.random.default_rng(0).normal(size=(2, 5, 2))
    solve(fun, fun_kwargs={"data": first})

    check(second.mean(axis=0), fun, fun_kwargs={"data": second})


def test_criteria_that_call_compiled_functions():
    inner = jax.jit(lambda x, target: distance(x, target))

    def make(target):
        return lambda x: inner(x, target) + 1.0

    solve(make(np.array([1.0, 2.0])))

    check([3.0, 4.0], make(np.array([3.0, 4.0])))


def test_criterion_that_is_compiled_itself():
    fun = jax.jit(distance)
    solve(fun, fun_kwargs={"target": np.array([1.0, 2.0])})

    check([3.0, 4.0], fun, fun_kwargs={"target": np.array([3.0, 4.0])})


def test_functions_of_jax_with_derivative_rules_of_their_own():
    def make(target):
        def fun(x):
            return jnp.sum(jax.nn.softplus(x - target) + jax.nn.softplus(target - x))

        return fun

    solve(make(np.array([1.0, 2.0])), algorithm="scipy_bfgs")

    check([3.0, 4.0], make(np.array([3.0, 4.0])), algorithm="scipy_bfgs")


def test_pandas_data_in_fun_kwargs():
    def fun(x, frame):
        error = (
            jnp.asarray(frame["y"].to_numpy()) - x[0] - x[1] * jnp.asarray(frame["z"].to_numpy())
        )
        return jnp.sum(error**2)

    def frame(intercept, slope):
        z = np.linspace(-1.0, 1.0, 5)
        return pd.DataFrame({"z": z, "y": intercept + slope * z})

    solve(fun, fun_kwargs={"frame": frame(1.0, 2.0)})

    check([-1.0, 3.0], fun, fun_kwargs={"frame": frame(-1.0, 3.0)})


def test_params_in_a_tree():
    def fun(params, target):
        return distance(jnp.stack([params["b"], params["a"][0]]), target)

    def run(start, target):
        params = om.minimize(
            fun, {"b": start, "a": np.array([start])}, "scipy_lbfgsb", fun_kwargs={"target": target}
        ).params
        return [params["b"], params["a"][0]]

    run(0.0, np.array([1.0, 2.0]))
    with count_compilations() as counter:
        params = run(0.5, np.array([3.0, 4.0]))

    np.testing.assert_allclose(params, [3.0, 4.0], atol=1e-3)
    assert counter[0] == 0


def test_logging_and_callbacks_compile_nothing(tmp_path):
    solve(distance, fun_kwargs={"target": np.array([1.0, 2.0])})

    check(
        [3.0, 4.0],
        distance,
        fun_kwargs={"target": np.array([3.0, 4.0])},
        logging=tmp_path / "run.db",
        callback=lambda _: None,
    )


# ---- what is never stale ---------------------------------------------------------------------

FACTOR = 1.0


def fun_of_a_global_number(x):
    return jnp.sum((x - FACTOR) ** 2) + 0.01 * jnp.sum((x - FACTOR) ** 4)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_changed_global_number(algorithm, monkeypatch):
    for factor in (1.0, -3.0, 1.0):
        monkeypatch.setitem(globals(), "FACTOR", factor)
        params = solve(fun_of_a_global_number, algorithm=algorithm)
        np.testing.assert_allclose(params, factor, atol=1e-3)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_changed_code_under_the_same_name(algorithm):
    functions = [
        lambda x: jnp.sum((x - 1.0) ** 2),
        lambda x: jnp.sum((x + 1.0) ** 2),
        lambda x: jnp.sum((x - jnp.arange(2.0)) ** 2),
        lambda x: jnp.sum((x - jnp.arange(2.0)[::-1]) ** 2),
    ]
    expected = [1.0, -1.0, [0.0, 1.0], [1.0, 0.0]]

    for fun, minimum in zip(functions, expected, strict=True):
        np.testing.assert_allclose(solve(fun, algorithm=algorithm), minimum, atol=1e-3)


def test_changed_attributes_of_an_object():
    class Model:
        target = 1.0
        power = 2

        def loss(self, x):
            return jnp.sum((x - self.target) ** self.power)

    model = Model()
    np.testing.assert_allclose(solve(model.loss), 1.0, atol=1e-4)
    model.target = 2.0
    np.testing.assert_allclose(solve(model.loss), 2.0, atol=1e-4)
    model.power = 4
    assert om.minimize(model.loss, np.zeros(2), "scipy_lbfgsb").start_fun == 32.0


@pytest.mark.parametrize("kind", ["jitted", "plain"])
def test_changed_function_that_the_criterion_calls(kind):
    def make(inner):
        inner = jax.jit(inner) if kind == "jitted" else inner
        return lambda x: jnp.sum(inner(x) ** 2)

    for target in (1.0, 2.0):
        params = solve(make(lambda x, target=target: x - target))
        np.testing.assert_allclose(params, target, atol=1e-4)


def test_changed_integers_and_switches_in_fun_kwargs():
    def fun(x, n, shape, mode, transform=None):
        total = sum(jnp.sum((x - float(i)) ** 2) for i in range(n))
        value = total + jnp.sum((jnp.zeros(shape) + x - 1.0) ** 2)
        value = value if transform is None else transform(value)
        return value if mode == "plain" else value + jnp.sum((x - 10.0) ** 2)

    for n, rows, mode, expected in [
        (1, 1, "plain", 0.5),
        (3, 1, "plain", 1.0),
        (3, 5, "plain", 1.0),
        (3, 1, "far", (0 + 1 + 2 + 1 + 10) / 5),
    ]:
        kwargs = {"n": n, "shape": (rows, 2), "mode": mode}
        np.testing.assert_allclose(solve(fun, fun_kwargs=kwargs), expected, atol=1e-4)
        kwargs["transform"] = lambda v: 3 * v
        assert (
            om.minimize(fun, np.zeros(2), "scipy_lbfgsb", fun_kwargs=kwargs).derivatives.kind
            == "exact"
        )


def test_numbers_in_fun_kwargs_that_decide_in_python():
    def fun(x, where, mask, count):
        target = 1.0 if where > 0 else -1.0
        return jnp.sum((x - target) ** 2) + 3 * jnp.sum((x[mask] - 5.0) ** 2) + int(count)

    for where, mask, expected in [
        (0.5, [True, False], [4.0, 1.0]),
        (-0.5, [True, False], [3.5, -1.0]),
        (-0.5, [False, True], [-1.0, 3.5]),
        (-0.5, [True, True], [3.5, 3.5]),
    ]:
        kwargs = {"where": where, "mask": np.array(mask), "count": np.array(3)}
        result = om.minimize(fun, np.zeros(2), "scipy_lbfgsb", fun_kwargs=kwargs)
        assert result.derivatives.kind == "exact"
        np.testing.assert_allclose(result.params, expected, atol=1e-4)


def test_changed_random_keys():
    def fun(x, key):
        return jnp.sum((x - jax.random.normal(key, (2,), dtype=jnp.float32)) ** 2)

    for seed in (0, 1):
        for key in (jax.random.key(seed), jax.random.PRNGKey(seed)):
            expected = jax.random.normal(key, (2,), dtype=jnp.float32)
            np.testing.assert_allclose(solve(fun, fun_kwargs={"key": key}), expected, atol=1e-4)
            np.testing.assert_allclose(solve(lambda x, k=key: fun(x, k)), expected, atol=1e-4)


def test_same_program_in_another_direction_or_another_tree():
    def fun(params):
        first, second = params.values()
        return (first - 1.0) ** 2 + jnp.sum((second - 2.0) ** 2)

    minimum = om.minimize(fun, {"b": 0.0, "a": 0.0}, "scipy_lbfgsb").params
    swapped = om.minimize(fun, {"a": 0.0, "b": 0.0}, "scipy_lbfgsb").params
    array = om.minimize(fun, {"b": 0.0, "a": np.zeros(1)}, "scipy_lbfgsb").params
    maximum = om.maximize(lambda p: -fun(p), {"b": 0.0, "a": 0.0}, "scipy_lbfgsb").params

    for params, names in [(minimum, "ba"), (swapped, "ab"), (array, "ba"), (maximum, "ba")]:
        assert params[names[0]] == pytest.approx(1.0, abs=1e-4)
        assert params[names[1]] == pytest.approx(2.0, abs=1e-4)
    # the same function upside down
    flipped = om.maximize(
        lambda p: -((p - 3.0) ** 2).sum() + jnp.zeros(()), np.zeros(2), "scipy_bfgs"
    )
    np.testing.assert_allclose(flipped.params, 3.0, atol=1e-4)


def test_changed_shapes():
    for n in (1, 2, 3):
        target = np.arange(1.0, n + 1)
        params = solve(distance, np.zeros(n), fun_kwargs={"target": target})
        np.testing.assert_allclose(params, target, atol=1e-3)
    params = solve(distance, fun_kwargs={"target": np.float32(2.0)})
    np.testing.assert_allclose(params, 2.0, atol=1e-3)
    params = solve(distance, fun_kwargs={"target": np.array([1, 2])})
    np.testing.assert_allclose(params, [1.0, 2.0], atol=1e-3)


def test_criterion_that_branches_on_values_is_never_stale(monkeypatch):
    def fun(x):
        return distance(x, DATA) if x[0] < 100 else jnp.sum(x)

    np.testing.assert_allclose(solve(fun), DATA, atol=1e-3)
    monkeypatch.setitem(globals(), "DATA", np.array([-3.0, 1.0]))
    np.testing.assert_allclose(solve(fun), [-3.0, 1.0], atol=1e-3)


# ---- derivative rules ------------------------------------------------------------------------


def with_jvp_rule(factor):
    """x squared, with a derivative that is wrong by a factor."""

    @jax.custom_jvp
    def square(x):
        return x**2

    @square.defjvp
    def _(primals, tangents):
        (x,), (v,) = primals, tangents
        return square(x), factor * 2 * x * v

    return square


def with_vjp_rule(factor):
    @jax.custom_vjp
    def square(x):
        return x**2

    square.defvjp(lambda x: (x**2, x), lambda x, g: (factor * 2 * x * g,))
    return square


@pytest.mark.parametrize("make", [with_jvp_rule, with_vjp_rule])
@pytest.mark.parametrize("nested", [False, True])
def test_changed_derivative_rule_of_the_same_function(make, nested):
    def gradient(factor):
        square = make(factor)
        inner = jax.jit(square) if nested else square
        result = om.minimize(
            lambda x: jnp.sum(inner(x)),
            np.array([1.0, -2.0]),
            "scipy_lbfgsb",
            algo_options={"stopping_maxfun": 1},
        )
        assert result.derivatives.kind == "exact"
        return result.jac

    for factor in (1.0, 3.0, 1.0, -2.0, *np.array([5.0, 6.0]), *jnp.array([7.0, 8.0])):
        np.testing.assert_allclose(gradient(factor), factor * np.array([2.0, -4.0]), rtol=1e-12)


@pytest.mark.parametrize("make", [with_jvp_rule, with_vjp_rule])
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_changed_array_in_a_derivative_rule(make, algorithm):
    def first_direction(factor):
        square = make(np.array(factor))
        result = om.minimize(
            lambda x: jnp.sum(square(x)),
            np.array([0.1, -0.2]),
            algorithm,
            algo_options={"stopping_maxfun": 2},
        )
        step = result.history.flat_params[1] - result.history.flat_params[0]
        return step / np.linalg.norm(step)

    for factor in ([1.0, 1.0], [4.0, 1.0], [1.0, 4.0]):
        # a Newton step goes to zero, whatever the factor; the others follow the gradient
        expected = np.array([-1.0, 2.0])
        if algorithm != "scipy_trust_exact":
            expected = expected * factor
        expected = expected / np.linalg.norm(expected)
        np.testing.assert_allclose(first_direction(factor), expected, rtol=1e-4)


@pytest.mark.parametrize("make", [with_jvp_rule, with_vjp_rule])
def test_changed_derivative_rule_reaches_the_hessian(make):
    def run(factor):
        square = make(factor)
        return om.minimize(
            lambda x: jnp.sum(square(x - 1.0)), np.full(2, 0.5), "scipy_trust_exact",
            algo_options={"stopping_maxfun": 2},
        )  # fmt: skip

    # a Newton step divides the gradient by the Hessian: the factor cancels
    for factor in (1.0, 5.0):
        result = run(factor)
        np.testing.assert_allclose(result.params, 1.0, atol=1e-8)


@pytest.mark.parametrize("make", [with_jvp_rule, with_vjp_rule])
def test_changed_derivative_rule_reaches_solvers_inside_jax(make):
    def first_step(factor):
        square = make(factor)
        history = om.minimize(
            lambda x: jnp.sum(square(x)), np.array([1.0]), "optax_sgd",
            algo_options={"learning_rate": 0.125, "stopping_maxfun": 2},
        ).history  # fmt: skip
        return history.flat_params[1]

    for factor in (1.0, 2.0):
        np.testing.assert_allclose(first_step(factor), 1.0 - 0.25 * factor, rtol=1e-6)


# ---- memory ----------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("way", ["fun_kwargs", "closure", "jax_closure", "params"])
def test_kept_functions_do_not_keep_data_alive(way, algorithm):
    def run():
        data = np.random.default_rng(1).normal(size=(50, 2))
        if way == "jax_closure":
            with jax.enable_x64(True):
                data = jnp.asarray(data)
        alive = [weakref.ref(data)]
        if way == "params":
            fun, start = (lambda x: jnp.sum((x - 1.0) ** 2)), np.zeros(2)
            alive = [weakref.ref(start)]
            solve(fun, start, algorithm)
        elif way == "fun_kwargs":
            fun = lambda x, data: jnp.sum((x - data) ** 2)  # noqa: E731
            solve(fun, None, algorithm, fun_kwargs={"data": data})
        else:
            fun = lambda x: jnp.sum((x - data) ** 2)  # noqa: E731
            solve(fun, None, algorithm)
        return [*alive, weakref.ref(fun)]

    references = run()
    gc.collect()

    assert [reference() is None for reference in references] == [True, True]


def test_dicts_in_fun_kwargs_keep_the_order_in_which_they_were_written():
    price, age = np.random.default_rng(0).normal(size=(2, 50))
    outcome = 2 * price - age

    def fun(beta, regressors):
        matrix = jnp.stack(list(regressors.values()), axis=1)
        return jnp.mean((outcome - matrix @ beta) ** 2)

    regressors = {"price": price, "age": age}
    params = solve(fun, fun_kwargs={"regressors": regressors})
    np.testing.assert_allclose(params, [2.0, -1.0], atol=1e-4)
    params = solve(fun, fun_kwargs={"regressors": dict(reversed(regressors.items()))})
    np.testing.assert_allclose(params, [-1.0, 2.0], atol=1e-4)


def test_a_solver_inside_a_criterion_is_pure():
    optimistix = pytest.importorskip("optimistix")

    def fun(x):
        def equation(z, total):
            return z**3 + z - total

        newton = optimistix.Newton(rtol=1e-10, atol=1e-10)
        root = optimistix.root_find(equation, newton, jnp.asarray(1.0), x.sum()).value
        return (root - 2) ** 2 + (x[0] - x[1]) ** 2

    result = om.minimize(fun, np.full(2, 0.3), "scipy_lbfgsb")
    assert result.derivatives.kind == "exact"
    # z = 2 solves z^3 + z = 10
    np.testing.assert_allclose(result.params, [5.0, 5.0], atol=1e-3)
