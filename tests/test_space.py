"""The map between an algorithm's x and params: constraints, scaling, derivatives, messages."""

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

import optimagic_lite as om
from optimagic_lite.exceptions import (
    InvalidBoundsError,
    InvalidConstraintError,
    InvalidParamsError,
    InvalidScalingError,
)

INF = np.inf


def arr(*numbers):
    return np.array(numbers, dtype=float)


def first(n):
    return lambda x: x[:n]


def at(*places):
    return lambda x: x[list(places)]


def flat_of(space, params):
    return space.tree.to_flat(params)


def sample(space, n, seed):
    return space.sample(np.random.default_rng(seed).random((n, space.n_x)))


TREE = {
    "probs": arr(0.2, 0.3, 0.5),
    "cov": arr(1.0, 0.3, 2.0),
    "cuts": [0.5, 1.5],
    "pair": (arr(1.5, 2.5), {"copy": arr(1.5, 2.5)}),
    "free": -0.7,
    "fixed": 3.0,
}
TREE_CONSTRAINTS = [
    om.ProbabilityConstraint(lambda p: p["probs"]),
    om.FlatCovConstraint(lambda p: p["cov"]),
    om.IncreasingConstraint(lambda p: p["cuts"]),
    om.PairwiseEqualityConstraint([lambda p: p["pair"][0], lambda p: p["pair"][1]["copy"]]),
    om.FixedConstraint(lambda p: p["fixed"]),
]

# name: params, constraints, bounds, degrees of freedom
PROBLEMS = {
    "free": (arr(0.5, -1, 2), None, None, 3),
    "bounds": (arr(0.5, -1, 2, 1), None, om.Bounds([0, -INF, 0, -INF], [2, 3, INF, INF]), 4),
    "pinned": (arr(0.5, -1, 2), None, om.Bounds(arr(0, -1, 0), arr(2, -1, 4)), 2),
    "fixed": (arr(0.5, -1, 2), om.FixedConstraint(at(0, 2)), None, 1),
    "all fixed": (arr(0.5, -1, 2), om.FixedConstraint(), None, 0),
    "equality": (arr(1, 3, 1, 1), om.EqualityConstraint(at(0, 2, 3)), None, 2),
    "pairwise": (arr(1, 2, 1, 2), om.PairwiseEqualityConstraint([at(0, 1), at(2, 3)]), None, 2),
    "increasing": (arr(-1, 0.5, 2), om.IncreasingConstraint(), None, 3),
    "decreasing": (arr(2, 0.5, -1), om.DecreasingConstraint(), None, 3),
    "bounded order": (arr(0.2, 0.5, 0.9), om.IncreasingConstraint(), om.Bounds(0, [1, 1, 2]), 3),
    "probability": (arr(0.2, 0.3, 0.5), om.ProbabilityConstraint(), None, 2),
    "bounded probability": (
        arr(0.2, 0.3, 0.5), om.ProbabilityConstraint(), om.Bounds(0.1, 0.6), 2
    ),
    "covariance": (arr(1, 0.3, 2, 0.1, -0.4, 1.5), om.FlatCovConstraint(), None, 6),
    "sdcorr": (arr(1, 2, 1.5, 0.3, -0.4, 0.1), om.FlatSDCorrConstraint(), None, 6),
    "bounded variances": (
        arr(1, 0.3, 2), om.FlatCovConstraint(), om.Bounds([0.25, -INF, 1], [4, INF, 9]), 3
    ),
    "linear value": (arr(1, 2, 3), om.LinearConstraint(weights=[1, -2, 3], value=6), None, 2),
    "linear bounds": (
        arr(1, 2, 3), om.LinearConstraint(weights=1, lower_bound=0, upper_bound=10), None, 3
    ),
    "linear one side": (arr(1, 2), om.LinearConstraint(weights=1, lower_bound=0), None, 2),
    "simplex with slack": (
        arr(1, 2), om.LinearConstraint(weights=[1, 2], lower_bound=0, upper_bound=9),
        om.Bounds(lower=0.0), 2,
    ),
    "budget": (
        arr(1, 2, 3), om.LinearConstraint(weights=[1, -1, 2], value=5), om.Bounds(0, 4), 2
    ),
    "two rows": (
        arr(1, 2, 3, 4),
        [om.LinearConstraint(first(2), weights=1, value=3),
         om.LinearConstraint(at(1, 2), weights=[2, 1], value=7)],
        None, 2,
    ),
    "tree": (TREE, TREE_CONSTRAINTS, None, 2 + 3 + 2 + 2 + 1),
}  # fmt: skip

every_problem = pytest.mark.parametrize("problem", PROBLEMS)
FORMS = {
    "as it is": {},
    "scaled": {"scaling": om.ScalingOptions(magnitude=3.0)},
    "transform": {"bounds_as": "transform"},
    "open and scaled": {"keeps_bounds": False, "scaling": True},
}
every_form = pytest.mark.parametrize("form", FORMS)


def space_of(problem, form="as it is"):
    params, constraints, bounds, _ = PROBLEMS[problem]
    return om.make_space(params, constraints=constraints, bounds=bounds, **FORMS[form])


# ------------------------------------------------------------------------------------ identity


@pytest.mark.parametrize("bounds", [None, om.Bounds(0, 9)])
def test_without_constraints_x_is_the_flat_vector_itself(bounds):
    space = om.make_space({"b": arr(1, 2), "a": 3.0}, bounds=bounds)
    assert space.plan is None
    assert space.scale is None
    x = arr(4, 5, 6)
    assert space.to_flat(x) is x
    assert space.to_flat_rows(xs := np.ones((2, 3))) is xs
    assert space.x_names == space.names == ["b_0", "b_1", "a"]
    assert not space.is_curved
    params = space.to_params(x)
    params["b"][0] = 99
    np.testing.assert_array_equal(x, [4, 5, 6])


def test_constraints_that_say_nothing_cost_nothing():
    space = om.make_space(arr(1, 2), constraints=om.LinearConstraint(weights=1, lower_bound=-INF))
    assert space.plan is None
    assert space.linear_rows is None
    assert om.make_space(arr(1, 2), constraints=[]).plan is None


# ---------------------------------------------------------------------------------- round trip


@every_problem
@every_form
def test_start_comes_back(problem, form):
    space, params = space_of(problem, form), PROBLEMS[problem][0]
    start = flat_of(space, params)
    np.testing.assert_allclose(flat_of(space, space.to_params(space.x0)), start, atol=1e-9)
    np.testing.assert_allclose(space.to_x(params), space.x0, atol=1e-9)
    assert (space.lower <= space.x0).all()
    assert (space.x0 <= space.upper).all()
    assert space.lower.shape == space.upper.shape == space.x0.shape == (space.n_x,)
    assert len(space.x_names) == space.n_x


@every_problem
@every_form
def test_samples_are_feasible_and_come_back(problem, form):
    _, constraints, bounds, _ = PROBLEMS[problem]
    space = space_of(problem, form)
    xs = sample(space, 6, seed=0)
    assert xs.shape == (6, space.n_x)
    assert (xs >= space.lower).all()
    assert (xs <= space.upper).all()
    np.testing.assert_array_equal(xs, sample(space, 6, seed=0))
    for x in xs:
        found = space.to_params(x)
        om.check_constraints(found, constraints, bounds)
        flat = flat_of(space, found)
        np.testing.assert_allclose(space.to_flat(space.to_x(found)), flat, rtol=1e-8, atol=1e-7)
    if space.n_x:
        assert len(np.unique(xs, axis=0)) == 6


@every_problem
@every_form
def test_rows_are_mapped_like_single_points(problem, form):
    space = space_of(problem, form)
    xs = sample(space, 3, seed=1)
    rows = space.to_flat_rows(xs)
    assert rows.shape == (3, len(space.names))
    np.testing.assert_allclose(rows, [space.to_flat(x) for x in xs], rtol=1e-13, atol=1e-13)
    assert space.to_flat_rows(xs[:0]).shape == (0, len(space.names))


@every_problem
def test_open_forms_have_no_bounds(problem):
    for form in ("transform", "open and scaled"):
        assert not space_of(problem, form).has_bounds


@every_problem
def test_free_params_are_counted(problem):
    params, constraints, bounds, n_free = PROBLEMS[problem]
    assert om.count_free_params(params, constraints, bounds) == n_free
    for form in FORMS:
        assert space_of(problem, form).n_free == n_free


def test_params_that_violate_constraints_have_no_x():
    space = om.make_space(
        {"a": arr(0.5, 0.5), "b": 1.0},
        constraints=[
            om.ProbabilityConstraint(lambda p: p["a"]),
            om.FixedConstraint(lambda p: p["b"]),
        ],
    )
    with pytest.raises(InvalidParamsError, match=r"No x gives these params: b would have to"):
        space.to_x({"a": arr(0.5, 0.5), "b": 2.0})
    with pytest.raises(InvalidParamsError, match=r"a_0, a_1 would have to be different"):
        space.to_x({"a": arr(0.6, 0.6), "b": 1.0})
    with pytest.raises(InvalidParamsError, match=r"."):
        space.to_x({"a": arr(0.5, 0.5)})


def test_params_with_pandas_are_rebuilt():
    params = {"f": pd.DataFrame({"value": [0.25, 0.75], "other": ["u", "v"]}, index=["x", "y"])}
    space = om.make_space(params, constraints=om.ProbabilityConstraint(lambda p: p["f"]["value"]))
    found = space.to_params(space.to_x(params))["f"]
    assert found["value"].tolist() == [0.25, 0.75]
    assert found["other"].tolist() == ["u", "v"]


# --------------------------------------------------------------------------------- derivatives


def criterion(flat):
    """Not separable, with a gradient and a Hessian that differ everywhere."""
    weights = jnp.arange(1.0, len(flat) + 1) / len(flat)
    return jnp.sin(flat @ weights) + (weights * flat**2).sum() + (flat[0] * flat[-1]) ** 2 / 4


# one problem for each transform
STRAIGHT = ["free", "pinned", "fixed", "all fixed", "equality", "pairwise"]
CURVED = [
    "increasing", "bounded order", "probability", "budget", "covariance", "sdcorr",
    "bounded variances", "two rows", "tree",
]  # fmt: skip


def composed_derivatives(space, x, v):
    """By JAX, of the criterion after the map: gradient, Hessian, direction in flat, curvature."""

    def compute(x, v, w):
        def composed(x):
            return criterion(space.trace_flat(x))

        def mapped(x):
            return space.trace_flat(x) @ w

        tangent = jax.jvp(space.trace_flat, (x,), (v,))[1]
        return jax.grad(composed)(x), jax.hessian(composed)(x), tangent, jax.hessian(mapped)(x)

    w = np.linspace(1, 2, len(space.names))
    return [np.asarray(out) for out in jax.jit(compute)(x, v, w)]


@pytest.mark.parametrize(
    ("problem", "form"),
    [
        *((problem, "as it is") for problem in STRAIGHT + CURVED),
        *((problem, "scaled") for problem in ("free", "fixed", "equality", "two rows")),
        *((problem, "open and scaled") for problem in ("bounds", "probability", "tree")),
    ],
)
def test_derivatives_are_those_of_the_composed_map(problem, form):
    space = space_of(problem, form)
    rng = np.random.default_rng(2)
    x, v = sample(space, 1, seed=rng)[0], rng.normal(size=space.n_x)
    flat = np.array(space.to_flat(x))
    with jax.enable_x64(True):
        gradient, hessian, tangent, curvature = composed_derivatives(space, x, v)
        flat_gradient = np.asarray(jax.grad(criterion)(flat))
        flat_hessian = np.asarray(jax.hessian(criterion)(flat))
        gradient_tree = space.tree.to_params(flat_gradient)
        pulled = space.pull_back(x, gradient_tree, "g")
        pushed = flat_of(space, space.push_forward(x, v))
        # a space that says that it is straight must be; a curved one may be straight by chance
        assert space.is_curved or not curvature.any()
        given = flat_gradient if space.is_curved else None
        full = space.pull_back_hessian(x, flat_hessian, "h", given)
        product_tree = space.tree.to_params(flat_hessian @ pushed)
        product = space.pull_back_product(x, v, product_tree, "p", given)
    np.testing.assert_allclose(pulled, gradient, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(pushed, tangent, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(full, hessian, rtol=1e-8, atol=1e-8)
    np.testing.assert_allclose(product, hessian @ v, rtol=1e-8, atol=1e-8)


def test_derivatives_are_in_double_precision_without_being_asked():
    """A space can be used on its own: nobody needs to switch JAX to double precision."""
    space = space_of("probability")
    x, g, h = arr(0.1, 0.2, 0.3), arr(1, 2, 4), np.diag(arr(1, 3, 5))

    def compute():
        return [
            space.to_flat(x),
            space.pull_back(x, g, "g"),
            space.push_forward(x, g),
            space.pull_back_hessian(x, h, "h", g),
            space.pull_back_product(x, g, h @ g, "p", g),
        ]

    alone = compute()
    with jax.enable_x64(True):
        inside = compute()
    for out, expected in zip(alone, inside, strict=True):
        assert out.dtype == np.float64
        np.testing.assert_array_equal(out, expected)


def test_index_maps_are_not_curved_and_bijections_are():
    for problem in ("free", "fixed", "equality", "pairwise", "pinned", "bounds"):
        assert not space_of(problem).is_curved
        assert not space_of(problem, "scaled").is_curved
    for problem in ("probability", "covariance", "budget", "tree"):
        assert space_of(problem).is_curved
    assert space_of("bounds", "transform").is_curved


def test_gradients_of_equal_params_add_up():
    space = om.make_space(arr(1, 3, 1), constraints=om.EqualityConstraint(at(0, 2)))
    np.testing.assert_array_equal(space.pull_back(space.x0, arr(5, 7, 11), "g"), [16, 7])


def test_gradients_of_another_structure_are_refused():
    space = om.make_space({"a": arr(1, 2)}, constraints=om.FixedConstraint(lambda p: p["a"][0]))
    with pytest.raises(ValueError, match="my gradient"):
        space.pull_back(space.x0, {"b": arr(1, 2)}, "my gradient")


# --------------------------------------------------------------------------------------- names


def test_x_is_named_after_params():
    assert space_of("fixed").x_names == ["1"]
    assert space_of("equality").x_names == ["0", "1"]
    assert space_of("bounds", "transform").x_names == ["3", "0", "1", "2"]
    names = space_of("tree").x_names
    assert names[:3] == ["pair_0_0", "pair_0_1", "free"]
    assert "input 0 of constraint 0 (ProbabilityConstraint)" in names
    assert "input 2 of constraint 1 (FlatCovConstraint)" in names


# ------------------------------------------------------------------------------------- scaling


@pytest.mark.parametrize("scaling", [True, om.ScalingOptions(), {}, {"method": "start_values"}])
def test_scaling_by_start_values(scaling):
    space = om.make_space(arr(-200, 0.5, 0.01), scaling=scaling, bounds=om.Bounds(-400, 3))
    np.testing.assert_allclose(space.x0, [-1, 1, 0.1], rtol=1e-15)
    np.testing.assert_allclose(space.lower, [-2, -800, -4000], rtol=1e-15)
    np.testing.assert_allclose(space.upper, [3 / 200, 6, 30], rtol=1e-15)
    np.testing.assert_allclose(space.to_params(-np.ones(3)), [-200, -0.5, -0.1], rtol=1e-15)


def test_scaling_with_clipping_value_and_magnitude():
    options = om.ScalingOptions(clipping_value=0.001, magnitude=5)
    space = om.make_space(arr(-200, 0.5, 0.01, 0), scaling=options)
    np.testing.assert_allclose(space.x0, [-5, 5, 5, 0], rtol=1e-14)
    np.testing.assert_allclose(space.to_params(np.full(4, 5)), [200, 0.5, 0.01, 0.001], rtol=1e-14)


def test_scaling_by_bounds():
    options = {"method": "bounds", "magnitude": 10}
    space = om.make_space(arr(1, 30), bounds=om.Bounds(arr(0, 20), arr(4, 40)), scaling=options)
    np.testing.assert_allclose(space.x0, [2.5, 5])
    np.testing.assert_allclose(space.lower, [0, 0])
    np.testing.assert_allclose(space.upper, [10, 10])
    np.testing.assert_allclose(space.to_params(arr(10, 0)), [4, 20])
    np.testing.assert_allclose(space.to_x(arr(2, 25)), [5, 2.5])


def test_scaling_is_that_of_free_params():
    """Equal and fixed parameters have no scale of their own; probabilities are 0 to 1."""
    constraints = [om.FixedConstraint(at(0)), om.EqualityConstraint(at(1, 2))]
    space = om.make_space(arr(7, 4, 4), constraints=constraints, scaling=True)
    np.testing.assert_allclose(space.x0, [1])
    np.testing.assert_allclose(space.to_params(arr(2)), [7, 8, 8])
    space = om.make_space(
        arr(0.2, 0.8), constraints=om.ProbabilityConstraint(), scaling={"method": "bounds"}
    )
    np.testing.assert_allclose(space.x0, [0.2, 0.8])


@pytest.mark.parametrize("scaling", [None, False, np.False_])
def test_no_scaling(scaling):
    assert om.make_space(arr(5), scaling=scaling).scale is None


@pytest.mark.parametrize(
    ("scaling", "message"),
    [
        ({"method": "start_value"}, "method must be one of .* Did you mean 'start_values'"),
        ({"clipping_value": 0}, "clipping_value must be a positive number, not 0"),
        ({"magnitude": -1}, "magnitude must be a positive number, not -1"),
        ({"magnitude": INF}, "magnitude must be a positive number, not inf"),
        ({"magnitude": True}, "magnitude must be a positive number, not True"),
        ({"magnitude": "2"}, "magnitude must be a positive number, not '2'"),
        ({"clip": 1}, "ScalingOptions has no field 'clip'"),
        ({"clipping_valu": 1}, "Did you mean 'clipping_value'"),
        (3, "Expected om.ScalingOptions or a dict, not 3"),
        ({"method": "bounds"}, "missing for a, b.*start_values"),
    ],
)
def test_scaling_that_is_refused(scaling, message):
    with pytest.raises(InvalidScalingError, match=message):
        om.make_space({"a": 1.0, "b": 2.0, "c": 3.0}, scaling=scaling,
                      bounds=om.Bounds({"a": 0, "c": 0}, {"b": 9, "c": 9}))  # fmt: skip


# -------------------------------------------------------------------------------- combinations

COMBINATIONS = {
    "fixed probability": (
        arr(0.2, 0.3, 0.5), [om.ProbabilityConstraint(), om.FixedConstraint(at(0))], None, 1
    ),
    "probability fixed at zero": (
        arr(0, 0.3, 0.7), [om.ProbabilityConstraint(), om.FixedConstraint(at(0))], None, 1
    ),
    "all but one probability fixed": (
        arr(0.2, 0.3, 0.5), [om.ProbabilityConstraint(), om.FixedConstraint(at(0, 1))], None, 0
    ),
    "equal probabilities": (
        arr(0.25, 0.25, 0.5), [om.ProbabilityConstraint(), om.EqualityConstraint(first(2))], None, 1
    ),
    "all probabilities equal": (
        arr(0.25, 0.25, 0.25, 0.25), [om.ProbabilityConstraint(), om.EqualityConstraint()], None, 0
    ),
    "equal probabilities of two distributions": (
        arr(0.2, 0.3, 0.5, 0.2, 0.3, 0.5),
        [om.ProbabilityConstraint(first(3)), om.ProbabilityConstraint(lambda x: x[3:]),
         om.PairwiseEqualityConstraint([first(3), lambda x: x[3:]])],
        None, 2,
    ),
    "probability with lower bounds": (
        arr(0.2, 0.3, 0.5), om.ProbabilityConstraint(), om.Bounds(0.1), 2
    ),
    "probability with one upper bound": (
        arr(0.2, 0.3, 0.5), om.ProbabilityConstraint(), om.Bounds(upper=arr(1, 1, 0.5)), 2
    ),
    "probability of one": (arr(1, 7), om.ProbabilityConstraint(first(1)), None, 1),
    "zero in the last place": (arr(0.5, 0.5, 0), om.ProbabilityConstraint(), None, 2),
    "one and zeros": (arr(0, 1, 0), om.ProbabilityConstraint(), None, 2),
    "increasing between bounds": (
        arr(0, 0.5, 1), om.IncreasingConstraint(), om.Bounds(0, 1), 3
    ),
    "increasing with a fixed entry": (
        arr(0.1, 0.3, 0.7), [om.IncreasingConstraint(), om.FixedConstraint(at(1))], None, 2
    ),
    "increasing with equal neighbours": (
        arr(1, 2, 2, 3), [om.IncreasingConstraint(), om.EqualityConstraint(at(1, 2))], None, 3
    ),
    "increasing and decreasing": (
        arr(2, 2, 2), [om.IncreasingConstraint(), om.DecreasingConstraint()], None, 1
    ),
    "overlapping orders": (
        arr(1, 2, 3, 0), [om.IncreasingConstraint(first(3)), om.DecreasingConstraint(at(2, 3))],
        None, 4,
    ),
    "first variance fixed": (
        arr(4, 0.3, 2), [om.FlatCovConstraint(), om.FixedConstraint(at(0))], None, 2
    ),
    "first variance bounded": (
        arr(1, 0.3, 2), om.FlatCovConstraint(), om.Bounds([0.25, -INF, -INF], [4, INF, INF]), 3
    ),
    "last variance fixed": (
        arr(1, 0.3, 4), [om.FlatCovConstraint(), om.FixedConstraint(at(2))], None, 2
    ),
    "covariance all fixed": (
        arr(1, 0.3, 4), [om.FlatCovConstraint(), om.FixedConstraint()], None, 0
    ),
    "first deviation fixed": (
        arr(1.3, 2, 0.5), [om.FlatSDCorrConstraint(), om.FixedConstraint(at(0))], None, 2
    ),
    "correlations between -1 and 1": (
        arr(1.3, 2, 0.5), om.FlatSDCorrConstraint(), om.Bounds([0, 0, -1], [INF, INF, 1]), 3
    ),
    "deviations bounded": (
        arr(1, 2, 0.5), om.FlatSDCorrConstraint(), om.Bounds([1, 1, -INF], [1.5, 2, INF]), 3
    ),
    "singular covariance": (arr(1, 1, 1), om.FlatCovConstraint(), None, 3),
    "perfect correlation": (arr(1, 2, -1), om.FlatSDCorrConstraint(), None, 3),
    "regularised covariance": (arr(1, 0.3, 2), om.FlatCovConstraint(regularization=0.01), None, 3),
    "overlapping sums": (
        arr(1, 2, 3, 4),
        [om.LinearConstraint(first(3), weights=1, value=6),
         om.LinearConstraint(lambda x: x[1:], weights=[1, 2, 1], lower_bound=0)],
        None, 3,
    ),
    "rows that fix everything": (
        arr(1, 2), om.LinearConstraint(weights=[[1, 1], [1, -1], [2, 0]], value=[3, -1, 2]), None, 0
    ),
    "the same row twice": (
        arr(0.2, 0.3, 0.5), [om.ProbabilityConstraint(), om.ProbabilityConstraint()], None, 2
    ),
    "dependent rows": (
        arr(1, 2, 3),
        om.LinearConstraint(weights=[[1, 1, 0], [0, 1, 1], [1, 2, 1]], value=[3, 5, 8]), None, 1,
    ),
    "a row that is a bound": (
        arr(1, 2), om.LinearConstraint(weights=[[2, 0]], lower_bound=1, upper_bound=3), None, 2
    ),
    "a row that fixes": (arr(1, 2), om.LinearConstraint(first(1), weights=-2, value=-2), None, 1),
    "weights that cancel": (
        arr(1, 1, 5),
        [om.EqualityConstraint(first(2)), om.LinearConstraint(weights=[1, -1, 1], value=5)],
        None, 1,
    ),
    "equality through a fixed member": (
        arr(1, 1, 1, 2),
        [om.EqualityConstraint(first(2)), om.EqualityConstraint(at(1, 2)),
         om.FixedConstraint(at(2))],
        None, 1,
    ),
    "equality with bounds of one": (
        arr(1, 1), om.EqualityConstraint(), om.Bounds([0, -INF], [INF, 3]), 1
    ),
    "the same parameter twice": (arr(1, 1, 2), om.EqualityConstraint(at(0, 0, 1)), None, 2),
    "fixed twice": (arr(1, 2), [om.FixedConstraint(at(0)), om.FixedConstraint(at(0))], None, 1),
    "float noise in a sum": (arr(0.1 + 0.2, 0.3, 0.4), om.ProbabilityConstraint(), None, 2),
    "float noise in equality": (arr(0.1 + 0.2, 0.3), om.EqualityConstraint(), None, 1),
    "float noise in order": (arr(0.1 + 0.2, 0.3), om.IncreasingConstraint(), None, 2),
    "float noise below zero": (arr(-1e-17, 1), om.ProbabilityConstraint(), None, 1),
    "float noise in a correlation": (
        arr(1, 1, 1 + 1e-15), om.FlatSDCorrConstraint(), None, 3
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", COMBINATIONS)
@pytest.mark.parametrize("keeps_bounds", [True, False])
def test_combinations(name, keeps_bounds):
    start, constraints, bounds, n_free = COMBINATIONS[name]
    space = om.make_space(start, constraints=constraints, bounds=bounds, keeps_bounds=keeps_bounds)
    assert space.n_free == n_free
    # an open form starts a little inside
    tolerance = 1e-9 if keeps_bounds else 0.1
    np.testing.assert_allclose(space.to_flat(space.x0), start, atol=tolerance)
    for x in sample(space, 5, seed=0):
        if space.linear_rows is None and not space.curved_rows:
            om.check_constraints(space.to_params(x), constraints, bounds)


@pytest.mark.parametrize("name", [n for n in COMBINATIONS if "fixed" in n])
def test_fixed_params_keep_their_start_exactly(name):
    start, constraints, _, _ = COMBINATIONS[name]
    fixed = np.concatenate(
        [np.atleast_1d(c.selector(np.arange(len(start)))) for c in constraints
         if isinstance(c, om.FixedConstraint)]
    )  # fmt: skip
    for keeps_bounds in (True, False):
        space = om.make_space(start, constraints=constraints, keeps_bounds=keeps_bounds)
        for x in [space.x0, *sample(space, 5, seed=0)]:
            np.testing.assert_array_equal(space.to_flat(x)[fixed], start[fixed])


# A criterion may be undefined outside its bounds, and params found must be a valid start again.
@pytest.mark.parametrize(
    ("start", "lower", "upper", "constraint"),
    [
        (arr(1.8, 0.1, 2), arr(1.5, -INF, -INF), arr(2, INF, INF), om.FlatCovConstraint()),
        (arr(0.9, 0.1, 2.4), arr(0.8, -INF, 2.3), arr(1, INF, 2.6), om.FlatCovConstraint()),
        (arr(1.5, 1.8, 0.1), arr(1.4, 1.7, -1), arr(1.6, 1.9, 1), om.FlatSDCorrConstraint()),
        (arr(0.3, 0.91, 1.22), arr(0.24, 0.21, 0.29), arr(0.43, 1.19, 1.63),
         om.LinearConstraint(weights=[0.6, 0.8, 1.7], value=0.6 * 0.3 + 0.8 * 0.91 + 1.7 * 1.22)),
        (arr(0.86, 0.97, 0.17), arr(0.15, 0.02, 0.12), arr(INF, INF, INF),
         om.LinearConstraint(weights=[2, 2.6, 1.1], value=2 * 0.86 + 2.6 * 0.97 + 1.1 * 0.17)),
        (arr(0.347, 0.277, 0.376), arr(0.11, 0.04, 0.06), arr(0.9, 0.83, 0.85),
         om.ProbabilityConstraint()),
        (arr(0.347, 0.277, 0.376), arr(0.1, 0.04, 0.06), arr(0.6, 0.7, 0.43),
         om.ProbabilityConstraint()),
        (arr(0.1, 0.3, 0.7), arr(0.07, 0.2, 0.3), arr(0.7, 0.77, 0.83), om.IncreasingConstraint()),
    ],
)  # fmt: skip
@pytest.mark.parametrize("keeps_bounds", [True, False])
def test_bounds_are_kept_exactly(start, lower, upper, constraint, keeps_bounds):
    space = om.make_space(
        start, bounds=om.Bounds(lower, upper), constraints=constraint, keeps_bounds=keeps_bounds
    )
    rng = np.random.default_rng(0)
    xs = np.concatenate([sample(space, 300, seed=rng), 40 * sample(space, 300, seed=rng)])
    low, high = (np.where(np.isfinite(v), v, xs) for v in (space.lower, space.upper))
    xs = np.clip(xs, space.lower, space.upper)
    xs = np.where(rng.random(xs.shape) < 0.3, low, xs)
    xs = np.where(rng.random(xs.shape) < 0.3, high, xs)
    flat = space.to_flat_rows(xs)
    assert (flat >= lower).all()
    assert (flat <= upper).all()


def test_bounds_of_any_size_keep_the_start_in_the_open_form():
    largest = np.finfo(float).max
    for limit in (1e8, 1e300, largest):
        space = om.make_space(arr(0.5, 2), bounds=om.Bounds(-limit, limit), bounds_as="transform")
        np.testing.assert_allclose(space.to_flat(space.x0), [0.5, 2], atol=1e-6)


def test_points_where_all_derivatives_vanish_are_known():
    """All inputs of a simplex at zero look like a minimum of every criterion."""
    space = om.make_space(arr(0.2, 0.3, 0.5), constraints=om.ProbabilityConstraint())
    assert not space.pull_back(space.lower, arr(1, 0, 0), "g").any()
    assert len(list(space.deceiving(space.lower, has_gradient=True))) == 1
    assert not list(space.deceiving(space.x0, has_gradient=True))


# ---------------------------------------------------------------------------------- native rows


def test_rows_that_no_bijection_carries_stay_rows():
    constraints = [om.ProbabilityConstraint(), om.IncreasingConstraint()]
    space = om.make_space(arr(0.2, 0.3, 0.5), constraints=constraints)
    rows = space.linear_rows
    assert rows is not None
    assert space.n_x == 3
    # the sum takes one away
    assert space.n_free == 2
    for x, is_feasible in ((arr(0.1, 0.2, 0.7), True), (arr(0.3, 0.2, 0.5), False),
                           (arr(0.1, 0.2, 0.3), False)):  # fmt: skip
        sums = rows.matrix @ x[rows.members]
        inside = (sums >= rows.lower - 1e-12).all() and (sums <= rows.upper + 1e-12).all()
        assert inside == is_feasible
    assert set(rows.sources) == {
        "constraint 0 (ProbabilityConstraint)",
        "constraint 1 (IncreasingConstraint)",
    }


def test_native_rows_are_scaled_like_x():
    weights = [[1, 1], [1, -1], [1, 2]]
    constraint = om.LinearConstraint(lambda p: p["a"], weights=weights, upper_bound=[9, 9, 30])
    params = {"z": 1.0, "a": arr(4, 2)}
    for scaling in (False, True, {"method": "bounds"}):
        space = om.make_space(
            params, constraints=[constraint, om.FixedConstraint(lambda p: p["z"])],
            bounds=om.Bounds({"a": arr(-7, 1)}, {"a": 40}), scaling=scaling,
        )  # fmt: skip
        rows = space.linear_rows
        for x in sample(space, 5, seed=0):
            gap = rows.upper - rows.matrix @ x[rows.members]
            sums = weights @ space.to_params(x)["a"]
            factor = gap / (arr(9, 9, 30) - sums)
            # rows may be multiplied, but not with zero or a negative number
            np.testing.assert_allclose(factor, factor.clip(0.1, 10))


def test_rows_over_squeezed_params_are_curved():
    constraint = om.LinearConstraint(weights=[[1, 1], [1, -1], [1, 2]], upper_bound=[9, 9, 30])
    space = om.make_space(
        arr(4, 2), constraints=constraint, bounds=om.Bounds(0, 40), keeps_bounds=False
    )
    assert space.linear_rows is None
    (rows,) = space.curved_rows
    assert rows.members.tolist() == [0, 1]


# ---------------------------------------------------------------------------------- dict forms

INDEX = pd.MultiIndex.from_tuples([("a", 0), ("a", 1), ("b", 0)], names=["group", "number"])
FRAME = pd.DataFrame({"value": [1.0, 2.0, 3.0]}, index=INDEX)
SERIES = pd.Series([1.0, 2.0, 3.0], index=["a", "b", "c"])


@pytest.mark.parametrize(
    ("params", "selection", "free"),
    [
        (arr(1, 2, 3), {"loc": 0}, [2, 3]),
        (arr(1, 2, 3), {"loc": [0, 2]}, [2]),
        (np.arange(4.0).reshape(2, 2), {"loc": (0, 1)}, [0, 2, 3]),
        (np.arange(4.0).reshape(2, 2), {"loc": 1}, [0, 1]),
        (arr(1, 2, 3), {"loc": np.array([0, 2])}, [2]),
        (arr(1, 2, 3), {"loc": [True, False, False]}, [2, 3]),
        (arr(1, 2, 3), {"loc": slice(1, None)}, [1]),
        (jnp.array([1.0, 2.0, 3.0]), {"loc": [0, 2]}, [2]),
        ([1.0, 2.0, 3.0], {"loc": [0, 2]}, [2]),
        ([1.0, 2.0, 3.0], {"loc": 1}, [1, 3]),
        (SERIES, {"loc": "b"}, [1, 3]),
        (SERIES, {"loc": ["a", "c"]}, [2]),
        (SERIES, {"loc": slice("a", "b")}, [3]),
        (FRAME, {"loc": "a"}, [3]),
        (FRAME, {"loc": ("a", 1)}, [1, 3]),
        (FRAME, {"loc": [("a", 1), ("b", 0)]}, [1]),
        (FRAME, {"loc": FRAME.index[:2]}, [3]),
        (FRAME, {"query": "group == 'a' and number == 1"}, [1, 3]),
        (FRAME, {"query": "number == 0"}, [2]),
        ({"a": 1.0, "b": arr(2, 3)}, {"loc": "b"}, [1]),
        ({"a": 1.0, "b": 2.0, "c": 3.0}, {"loc": ["a", "c"]}, [2]),
        ({"a": 1.0, "b": arr(2, 3)}, {"selector": lambda p: p["b"][1]}, [1, 2]),
    ],
)
def test_dicts_select(params, selection, free):
    space = om.make_space(params, constraints={"type": "fixed", **selection})
    assert space.x0.tolist() == free


@pytest.mark.parametrize(
    ("params", "selection"),
    [
        (arr(1, 2, 1, 2), {"locs": [[0, 1], [2, 3]]}),
        ({"a": arr(1, 2), "b": arr(1, 2)}, {"locs": ["a", "b"]}),
        ({"a": arr(1, 2), "b": arr(1, 2)}, {"selectors": [lambda p: p["a"], lambda p: p["b"]]}),
        (
            pd.DataFrame({"value": [1.0, 2.0, 1.0, 2.0], "k": [0, 0, 1, 1]}),
            {"queries": ["k == 0", "k == 1"]},
        ),
        (pd.Series([1.0, 2.0, 1.0, 2.0], index=list("abcd")), {"locs": [["a", "b"], ["c", "d"]]}),
    ],
)
def test_dicts_select_several(params, selection):
    space = om.make_space(params, constraints={"type": "pairwise_equality", **selection})
    np.testing.assert_array_equal(space.to_flat(arr(7, 8)), [7, 8, 7, 8])


@pytest.mark.parametrize(
    ("constraint", "as_dict"),
    [
        (om.EqualityConstraint(), {"type": "equality"}),
        (om.IncreasingConstraint(), {"type": "increasing"}),
        (om.DecreasingConstraint(), {"type": "decreasing"}),
        (om.ProbabilityConstraint(), {"type": "probability"}),
        (om.FlatCovConstraint(regularization=0.04), {"type": "covariance", "regularization": 0.04}),
        (om.FlatSDCorrConstraint(), {"type": "sdcorr"}),
        (om.LinearConstraint(weights=2, value=2), {"type": "linear", "weights": 2, "value": 2}),
    ],
)
def test_dicts_mean_the_same_as_classes(constraint, as_dict):
    third = 1 / 3
    start = arr(third, third, third)
    if isinstance(constraint, om.FlatCovConstraint):
        start = arr(1, 0.3, 2)
    by_class = om.make_space(start, constraints=constraint)
    by_dict = om.make_space(start, constraints=[{"loc": [0, 1, 2], **as_dict}])
    xs = sample(by_class, 3, seed=0)
    np.testing.assert_array_equal(by_class.to_flat_rows(xs), by_dict.to_flat_rows(xs))
    np.testing.assert_array_equal(by_class.lower, by_dict.lower)


def test_constraints_may_be_any_iterable():
    constraints = (c for c in [om.FixedConstraint(at(0)), {"type": "fixed", "loc": 1}])
    assert om.make_space(arr(1, 2, 3), constraints=constraints).x0.tolist() == [3]


# ------------------------------------------------------------------------- weights and bounds


@pytest.mark.parametrize(
    ("params", "selector", "weights", "expected"),
    [
        (arr(1, 2, 3), None, 2, [2, 2, 2]),
        (arr(1, 2, 3), None, np.float32(0.5), [0.5, 0.5, 0.5]),
        (arr(1, 2, 3), None, [1, 2, 4], [1, 2, 4]),
        (arr(1, 2, 3), None, (1, 2, 4), [1, 2, 4]),
        (arr(1, 2, 3), None, arr(1, 2, 4), [1, 2, 4]),
        (arr(1, 2, 3), None, jnp.array([1.0, 2.0, 4.0]), [1, 2, 4]),
        (arr(1, 2, 3), None, [[1, 2, 4]], [1, 2, 4]),
        (arr(1, 2, 3), lambda x: x[::-1], [1, 2, 4], [4, 2, 1]),
        (arr(1, 2, 3), at(0, 1, 1), [1, 2, 4], [1, 6, 0]),
        (np.arange(1.0, 5).reshape(2, 2), None, arr(1, 2, 3, 4), [1, 2, 3, 4]),
        (np.arange(1.0, 5).reshape(2, 2), None, arr(1, 2, 3, 4).reshape(2, 2), [1, 2, 3, 4]),
        (SERIES, None, pd.Series({"c": 4, "a": 1, "b": 2}), [1, 2, 4]),
        (SERIES, None, [1, 2, 4], [1, 2, 4]),
        (SERIES, lambda s: s[["c", "a"]], pd.Series({"a": 1.0, "c": 4.0}), [1, 0, 4]),
        (FRAME, lambda f: f["value"], pd.Series([1, 2, 4], index=INDEX)[::-1], [1, 2, 4]),
        ({"a": 1.0, "b": arr(2, 3)}, None, {"b": arr(2, 4), "a": 1}, [1, 2, 4]),
        ({"a": 1.0, "b": arr(2, 3)}, lambda p: p["b"], [2, 4], [0, 2, 4]),
        ({"a": 1.0, "b": arr(2, 3)}, lambda p: (p["b"], p["a"]), (arr(2, 4), 1), [1, 2, 4]),
        ({"a": 1.0, "b": arr(2, 3)}, None, [1, 2, 4], [1, 2, 4]),
    ],
)
def test_forms_of_weights(params, selector, weights, expected):
    chosen = {} if selector is None else {"selector": selector}
    start = om.make_space(params)
    value = float(np.array(expected) @ start.x0)
    constraint = om.LinearConstraint(**chosen, weights=weights, value=value)
    space = om.make_space(params, constraints=constraint)
    flats = space.to_flat_rows(sample(space, 5, seed=0))
    np.testing.assert_allclose(flats @ np.array(expected), value, rtol=1e-6)
    assert space.n_free == space.tree.n_params - 1


def test_matrices_of_weights_are_one_sum_a_row():
    weights = [[1, 1, 1], [0, 1, -1]]
    frame = pd.DataFrame(weights)
    for form in (weights, np.array(weights), frame):
        constraint = om.LinearConstraint(weights=form, value=[6, -1])
        space = om.make_space(arr(1, 2, 3), constraints=constraint)
        flats = space.to_flat_rows(sample(space, 5, seed=0))
        np.testing.assert_allclose(flats @ np.array(weights).T, np.tile([6, -1], (5, 1)))
        assert space.n_free == 1


@pytest.mark.parametrize("kind", [int, float, np.float32, np.int64, jnp.float32, lambda v: [v]])
def test_forms_of_bounds(kind):
    for bounds in (
        {"lower_bound": kind(3)}, {"upper_bound": kind(3)}, {"value": kind(3)},
    ):  # fmt: skip
        om.check_constraints(arr(1, 2), om.LinearConstraint(weights=1, **bounds))
    for start, bounds in (
        (arr(1, 1), {"lower_bound": kind(3)}),
        (arr(2, 2), {"upper_bound": kind(3)}),
        (arr(2, 2), {"value": kind(3)}),
    ):
        with pytest.raises(InvalidParamsError, match="by 1"):
            om.check_constraints(start, om.LinearConstraint(weights=1, **bounds))


@pytest.mark.parametrize("kind", [list, tuple, np.array, jnp.array, pd.Series])
def test_bounds_for_each_row(kind):
    constraint = om.LinearConstraint(
        weights=[[1, 0], [1, 1]], lower_bound=kind([0, 2]), upper_bound=kind([1, 4])
    )
    om.check_constraints(arr(1, 3), constraint)
    with pytest.raises(InvalidParamsError, match="by 1: the weighted sum of 0 is 2"):
        om.check_constraints(arr(2, 0), constraint)
    with pytest.raises(InvalidParamsError, match="by 1: the weighted sum of 0, 1 is 5"):
        om.check_constraints(arr(1, 4), constraint)


# -------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: om.FixedConstraint("a"), "selector must be a function of params, not 'a'"),
        (lambda: om.PairwiseEqualityConstraint([at(0)]), "selectors must be at least two"),
        (lambda: om.PairwiseEqualityConstraint([at(0), 1]), "selectors must be at least two"),
        (lambda: om.PairwiseEqualityConstraint(at(0)), "selectors must be at least two"),
        (lambda: om.FlatCovConstraint(regularization=-1), "regularization must be a number of at"),
        (lambda: om.FlatSDCorrConstraint(regularization=True), "regularization must be a number"),
        (lambda: om.FlatCovConstraint(regularization=np.nan), "regularization must be a number"),
        (lambda: om.LinearConstraint(value=1), "weights is missing in a LinearConstraint"),
        (lambda: om.LinearConstraint(weights=1), "LinearConstraint needs a value, a lower_bound"),
        (
            lambda: om.LinearConstraint(weights=1, value=1, lower_bound=0),
            "LinearConstraint has a value and bounds",
        ),
        (lambda: om.NonlinearConstraint(value=1), "func must be a function, not None"),
        (
            lambda: om.NonlinearConstraint(func=abs, derivative=3, value=1),
            "derivative must be a function, not 3",
        ),
        (lambda: om.NonlinearConstraint(func=abs), "NonlinearConstraint needs a value"),
        (
            lambda: om.NonlinearConstraint(func=abs, value=1, upper_bound=1),
            "NonlinearConstraint has a value and bounds",
        ),
        (
            lambda: om.NonlinearConstraint(func=abs, value=1, tol=-1),
            "tol must be a number of at least 0, not -1",
        ),
    ],
)
def test_classes_check_what_they_get(make, message):
    with pytest.raises(InvalidConstraintError, match=message):
        make()


def test_a_first_variance_of_zero_leaves_the_matrix_of_the_others():
    bounds = om.Bounds(upper=arr(0, *[np.inf] * 5))
    space = om.make_space(arr(0, 0, 1, 0, 0, 1), bounds=bounds, constraints=om.FlatCovConstraint())

    assert space.n_free == 3


@pytest.mark.parametrize(
    ("constraints", "message"),
    [
        (5, "constraints must be constraints of optimagic_lite, .* not 5"),
        ("fixed", "constraints must be constraints of optimagic_lite, .* not 'fixed'"),
        ([om.FixedConstraint(), 5], "constraints must be constraints of optimagic_lite, .* not 5"),
        ([om.FixedConstraint], "constraints must be constraints of optimagic_lite"),
        ({"loc": 0}, r"constraint 0, \{'loc': 0\}, needs a 'type', one of 'fixed', .* not None"),
        (
            [om.FixedConstraint(at(1)), {"type": "probabilities", "loc": 0}],
            "constraint 1, .* needs a 'type', .*Did you mean 'probability'",
        ),
        ({"type": ["fixed"], "loc": 0}, "constraint 0, .* needs a 'type'"),
        ({"type": "fixed"}, "constraint 0, .* needs exactly one of 'selector', 'loc', 'query'"),
        ({"type": "fixed", "loc": 0, "query": "a"}, "needs exactly one of 'selector', 'loc'"),
        ({"type": "fixed", "locs": [0, 1]}, "needs exactly one of 'selector', 'loc', 'query'"),
        (
            {"type": "pairwise_equality", "loc": 0},
            "needs exactly one of 'selectors', 'locs', 'queries'",
        ),
        ({"type": "pairwise_equality", "locs": [0]}, "constraint 0, .* selectors must be at least"),
        ({"type": "pairwise_equality", "locs": 0}, "constraint 0, "),
        (
            {"type": "linear", "loc": 0, "wieghts": 1, "value": 1},
            "has a field 'wieghts' that 'linear' does not have.*Did you mean 'weights'",
        ),
        ({"type": "fixed", "loc": 0, "value": 1}, "has a 'value'.*write the value into params"),
        ({"type": "linear", "loc": 0, "value": 1}, "constraint 0, .* weights is missing"),
        ({"type": "fixed", "selector": 3}, "constraint 0, .* selector must be a function"),
        (
            {"type": "covariance", "loc": 0, "regularization": -1},
            "constraint 0, .* regularization must be",
        ),
        # selections
        ({"type": "fixed", "loc": 7}, r"The selection of constraint 0 \(FixedConstraint\): .*7"),
        (
            [om.FixedConstraint(at(0)), om.EqualityConstraint(lambda x: x["a"])],
            r"constraint 1 \(EqualityConstraint\): selector raised .*Parameters are 0, 1, 2",
        ),
        (om.FixedConstraint(lambda x: x[:0]), r"constraint 0 .*selects nothing. Parameters are 0"),
        (om.FixedConstraint(lambda x: None), "constraint 0 .*selects nothing"),
        (om.FixedConstraint(lambda x: 2 * x), "constraint 0 .*must return entries of params"),
        (om.FixedConstraint(lambda x: x[x > 1]), "constraint 0 .*"),
        (
            {"type": "fixed", "query": "a == 1"},
            "constraint 0 .*a query needs params in a DataFrame",
        ),
        (
            om.PairwiseEqualityConstraint([at(0), at(1, 2)]),
            r"constraint 0 \(PairwiseEqualityConstraint\) select different numbers .*: 1, 2",
        ),
        # linear
        (
            om.LinearConstraint(weights=1, value="a"),
            r"A bound or value of constraint 0 \(LinearConstraint\) must be a number or 1 numbers",
        ),
        (
            om.LinearConstraint(weights=np.eye(3), lower_bound=[0, 0]),
            r"A bound or value of constraint 0 .* 3 numbers, not \[0, 0\]",
        ),
        (
            om.LinearConstraint(weights=1, lower_bound=2, upper_bound=1),
            r"The bounds of constraint 0 \(LinearConstraint\) are NaN or crossed",
        ),
        (om.LinearConstraint(weights=1, value=np.nan), "The bounds of constraint 0 .* NaN"),
        (
            om.LinearConstraint(weights=[1, 2], value=1),
            r"The weights of constraint 0 .* each of the 3 .*matrix with 3 columns",
        ),
        (om.LinearConstraint(weights="ab", value=1), "The weights of constraint 0"),
        (om.LinearConstraint(weights=[[1, 2], [3]], value=1), "The weights of constraint 0"),
        (om.LinearConstraint(weights=INF, value=1), "The weights of constraint 0 .*not finite"),
        (
            om.LinearConstraint(weights=[[1, 1, 1], [0, 0, 0]], value=1),
            "The weights of constraint 0 .*all zero in a row",
        ),
        # matrices
        (
            om.FlatCovConstraint(first(2)),
            r"constraint 0 \(FlatCovConstraint\) selects 2 parameters, .*: 1, 3, 6, 10",
        ),
        (om.FlatSDCorrConstraint(first(2)), "constraint 0 .* selects 2 parameters"),
        (
            [om.FlatCovConstraint(), om.FixedConstraint(at(1))],
            r"constraint 0 \(FlatCovConstraint\): the covariance 1 is fixed.*Only variances",
        ),
        (
            [om.FixedConstraint(at(2)), om.FlatSDCorrConstraint()],
            r"constraint 1 \(FlatSDCorrConstraint\): the correlation 2 is fixed.*Only standard",
        ),
        (
            [om.FlatCovConstraint(), om.EqualityConstraint(at(0, 2))],
            "constraint 0 .* cannot be combined with equality among its parameters",
        ),
        (
            [om.FlatCovConstraint(), om.IncreasingConstraint(at(0, 1))],
            r"constraint 0 \(FlatCovConstraint\) and constraint 1 \(IncreasingConstraint\) share",
        ),
        (
            [om.FlatCovConstraint(), om.FlatSDCorrConstraint()],
            "constraint 0 .* and constraint 1 .* share parameters.*NonlinearConstraint",
        ),
    ],
)
def test_constraints_that_are_not_understood(constraints, message):
    start = arr(2, 0.5, 2) if "correlation" not in message else arr(2, 2, 0.5)
    with pytest.raises(InvalidConstraintError, match="(?s)" + message):
        om.check_constraints(start, constraints)


NAMED = {"a": 1.0, "b": 2.0, "c": 0.5}


@pytest.mark.parametrize(
    ("constraints", "message"),
    [
        (
            om.EqualityConstraint(),
            r"violates constraint 0 \(EqualityConstraint\):\n  a = 1 and b = 2 differ by 1\n  a = 1"
            " and c = 0.5 differ by 0.5",
        ),
        (
            [
                om.FixedConstraint(lambda p: p["b"]),
                om.PairwiseEqualityConstraint([lambda p: p["c"], lambda p: p["a"]]),
            ],
            r"constraint 1 \(PairwiseEqualityConstraint\):\n  c = 0.5 and a = 1 differ by 0.5",
        ),
        (om.IncreasingConstraint(), r"constraint 0 \(IncreasingConstraint\):\n  c by 1.5"),
        (om.DecreasingConstraint(), r"constraint 0 \(DecreasingConstraint\):\n  . by 1$"),
        (
            om.ProbabilityConstraint(),
            r"constraint 0 \(ProbabilityConstraint\) by 2.5: the weighted sum of a, b, c is 3.5",
        ),
        (
            [
                om.FixedConstraint(lambda p: p["a"]),
                om.LinearConstraint(
                    lambda p: [p["b"], p["c"]], weights=[1, 2], lower_bound=5, upper_bound=7
                ),
            ],
            r"constraint 1 \(LinearConstraint\) by 2: .* b, c is 3, but must lie in \[5, 7\]",
        ),
        (
            om.FlatCovConstraint(lambda p: [p["c"], p["b"], p["a"]]),
            r"constraint 0 \(FlatCovConstraint\):\n  [abc] by ",
        ),
        (
            om.FlatSDCorrConstraint(lambda p: [p["a"], p["c"], p["b"]]),
            r"constraint 0 \(FlatSDCorrConstraint\):\n  b by 1$",
        ),
        (
            om.FlatCovConstraint(lambda p: p["c"], regularization=0.75),
            r"constraint 0 \(FlatCovConstraint\):\n  c by 0.25$",
        ),
    ],
)
def test_a_start_that_violates_constraints(constraints, message):
    with pytest.raises(InvalidParamsError, match="(?s)" + message):
        om.check_constraints(NAMED, constraints)


def test_negative_probabilities_are_named():
    with pytest.raises(InvalidParamsError, match=r"constraint 0 .*:\n  1 by 0.25$"):
        om.check_constraints(arr(1.25, -0.25), om.ProbabilityConstraint())


def test_only_ten_violations_are_listed():
    with pytest.raises(InvalidParamsError, match="0, 1, 2, 3, 4, 5, 6, 7, 8, 9 and 2 more is 12"):
        om.check_constraints(np.ones(12), om.ProbabilityConstraint())


# The start fulfils each demand within the tolerance for rounding, and still all together cannot be
# fulfilled.
@pytest.mark.parametrize(
    ("start", "constraints", "bounds", "message"),
    [
        (
            arr(1, 1 + 1e-7), om.EqualityConstraint(),
            om.Bounds(arr(0, 1 + 1e-7), arr(1, 2)),
            "0, 1 are to be equal, but their bounds leave no common value",
        ),
        (
            arr(1, 1 - 1e-7), om.IncreasingConstraint(),
            om.Bounds(arr(1, 0), arr(2, 1 - 1e-7)),
            "constraint 0 .*contradicts the bounds or fixed values: ",
        ),
        (
            arr(0.5, 0.5 - 1e-7), om.ProbabilityConstraint(),
            om.Bounds(upper=arr(0.5, 0.5 - 1e-7)),
            "constraint 0 .*cannot be fulfilled within the bounds of its parameters",
        ),
        (
            arr(0.5, 0.5 + 5e-7), [om.FixedConstraint(), om.ProbabilityConstraint()], None,
            "constraint 1 .*contradicts other constraints or fixed parameters: its sum is always",
        ),
        (
            arr(0.5, 0.5 + 2e-7),
            [om.LinearConstraint(weights=w, value=v) for w, v in ((1, 1), (2, 2.000001))],
            None,
            "constraint 0 .* and constraint 1 .* leave no feasible point",
        ),
        (
            arr(0.01, 0, 1), om.FlatCovConstraint(regularization=0.25),
            om.Bounds(upper=arr(0.02, INF, INF)),
            "constraint 0 .*contradicts the bounds of its diagonal",
        ),
        (
            arr(1, 0.2, 1), om.FlatCovConstraint(), om.Bounds(arr(0, 0, 0)),
            "constraint 0 .*the covariance 1 is fixed or bounded",
        ),
        (
            arr(1, 1, 0.2), om.FlatSDCorrConstraint(), om.Bounds(upper=arr(3, 3, 0.5)),
            "constraint 0 .*the correlation 2 is fixed or bounded",
        ),
    ],
)  # fmt: skip
def test_constraints_that_contradict(start, constraints, bounds, message):
    with pytest.raises(InvalidConstraintError, match=message):
        om.check_constraints(start, constraints, bounds)


def test_starts_outside_of_bounds_and_not_finite_are_refused():
    with pytest.raises(InvalidBoundsError, match="start value 3 is outside"):
        om.check_constraints(arr(3, 1), om.FixedConstraint(at(0)), om.Bounds(upper=2))
    with pytest.raises(InvalidParamsError, match="not finite: 1"):
        om.check_constraints(arr(3, np.nan), om.FixedConstraint(at(0)))


def test_check_constraints_says_nothing_where_all_is_well():
    assert om.check_constraints(*PROBLEMS["tree"][:3]) is None


def test_nonlinear_constraints_are_kept_but_not_evaluated():
    def fail(x):
        raise RuntimeError

    constraint = om.NonlinearConstraint(at(1), func=fail, lower_bound=0)
    om.check_constraints(arr(1, 2), constraint)
    space = om.make_space(arr(1, 2), constraints=[om.FixedConstraint(at(0)), constraint])
    assert space.n_free == 1
    (demand,) = space.nonlinear
    assert demand.number == 1
    assert demand.positions.tolist() == [1]
