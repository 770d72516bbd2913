"""Points at which multistart may begin: feasible, spread as promised, reproducible; or given."""

import dataclasses
from typing import get_args

import hypothesis
import hypothesis.strategies as st
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from scipy import stats
from scipy.stats import qmc

import optimagic_lite as om
from optimagic_lite.exceptions import InvalidMultistartError
from optimagic_lite.options import SamplingDistribution, SamplingMethod
from optimagic_lite.space.sampling import (
    draw_flat_sample,
    make_sampling_space,
    read_sample,
    to_x_rows,
)

INF = np.inf
METHODS = get_args(SamplingMethod)
DISTRIBUTIONS = get_args(SamplingDistribution)
every_method = pytest.mark.parametrize("method", METHODS)
every_distribution = pytest.mark.parametrize("distribution", DISTRIBUTIONS)


def arr(*numbers):
    return np.array(numbers, dtype=float)


def at(*places):
    return lambda x: x[list(places)]


def draw(space, n=64, method="sobol", distribution="uniform", seed=0):
    return draw_flat_sample(space, n=n, method=method, distribution=distribution, seed=seed)


def space_of(params, bounds=None, constraints=None):
    return make_sampling_space(params, bounds, constraints)


def check_feasible(space, flats, bounds, constraints):
    """Bounds are kept exactly, constraints as well as a start has to."""
    if bounds.lower is not None:
        assert (flats >= bounds.lower).all()
    if bounds.upper is not None:
        assert (flats <= bounds.upper).all()
    for flat in flats:
        om.check_constraints(space.tree.to_params(flat), constraints, bounds)


# --------------------------------------------------------------------------------- feasibility

CORR = arr(1, 2, 1.5, 0.3, -0.4, 0.1)

# params, constraints, bounds: one problem for each bijection, and what has none
PROBLEMS = {
    "plain": (arr(0.5, -1), None, om.Bounds(arr(0, -3), arr(2, 5))),
    "one parameter": (0.5, None, om.Bounds(0, 1)),
    "fixed": (arr(1, 2), om.FixedConstraint(at(0)), om.Bounds(0, 9)),
    "all fixed": (arr(1, 2), om.FixedConstraint(), om.Bounds()),
    "equal": (arr(1, 2, 1), om.EqualityConstraint(at(0, 2)), om.Bounds(0, arr(9, 9, 3))),
    "simplex": (arr(0.2, 0.3, 0.5), om.ProbabilityConstraint(), om.Bounds()),
    "corner": (arr(1, 0, 0), om.ProbabilityConstraint(), om.Bounds()),
    "budget": (arr(0.2, 0.3, 0.5), om.ProbabilityConstraint(), om.Bounds(0.1, 0.6)),
    "slack": (
        arr(1, 2), om.LinearConstraint(weights=[1, 2], lower_bound=0, upper_bound=9),
        om.Bounds(0.0),
    ),
    "pivot": (arr(1, 2, 3), om.LinearConstraint(weights=[1, -2, 3], value=6), om.Bounds()),
    "order": (arr(-1, 0.5, 2), om.IncreasingConstraint(), om.Bounds()),
    "ties": (arr(1, 1, 1), om.DecreasingConstraint(), om.Bounds(-2, 2)),
    "bounded order": (arr(0.1, 0.5, 2), om.IncreasingConstraint(), om.Bounds(arr(0, -INF, 1), 3)),
    "covariance": (arr(1, 0.3, 2), om.FlatCovConstraint(), om.Bounds()),
    "variances": (
        arr(1, 0.3, 2), om.FlatCovConstraint(), om.Bounds(arr(0.25, -INF, 1), arr(4, INF, 9))
    ),
    "correlations": (CORR, om.FlatSDCorrConstraint(), om.Bounds()),
    "equalities and order": (
        arr(1, 1, 1) / 3, [om.ProbabilityConstraint(), om.IncreasingConstraint()],
        om.Bounds(upper=1.0),
    ),
    "inequalities": (
        arr(1, 2, 5), om.LinearConstraint(weights=[[1, 1, 0], [0, 1, 1]], upper_bound=[4, 8]),
        om.Bounds(0, 10),
    ),
}  # fmt: skip


@pytest.mark.parametrize("problem", PROBLEMS)
@every_distribution
def test_draws_are_feasible_and_reproducible(problem, distribution):
    params, constraints, bounds = PROBLEMS[problem]
    space = space_of(params, bounds, constraints)
    flats = draw(space, 20, distribution=distribution)
    assert flats.shape == (20, len(space.names))
    check_feasible(space, flats, bounds, constraints)
    np.testing.assert_array_equal(flats, draw(space, 20, distribution=distribution))
    assert len(np.unique(flats, axis=0)) == (20 if space.n_x else 1)
    if space.n_x:
        assert (flats != draw(space, 20, distribution=distribution, seed=1)).any()


# names and constraints of one vector with a part of each kind
PARTS = {"probs": 3, "order": 3, "cov": 3, "pair": 2, "fixed": 1, "plain": 2}
MIXED = [
    om.ProbabilityConstraint(lambda p: p["probs"]),
    om.IncreasingConstraint(lambda p: p["order"]),
    om.FlatCovConstraint(lambda p: p["cov"]),
    om.EqualityConstraint(lambda p: p["pair"]),
    om.FixedConstraint(lambda p: p["fixed"]),
]


@st.composite
def mixed_problems(draw_):
    """Params that fulfil ``MIXED``, and bounds with them inside, some of them tight."""
    rng = np.random.default_rng(draw_(st.integers(0, 2**32 - 1)))
    factor = np.tril(rng.normal(size=(2, 2)))
    params = {
        "probs": rng.dirichlet(np.ones(3)),
        "order": np.sort(rng.normal(size=3)),
        "cov": (factor @ factor.T)[np.tril_indices(2)],
        "pair": np.full(2, rng.normal()),
        "fixed": rng.normal(size=1),
        "plain": 10 * rng.normal(size=2),
    }
    sides = []
    for sign in (-1, 1):
        gaps = {k: rng.choice([0.05, 1.0, 20.0], size=n) for k, n in PARTS.items()}
        for name in draw_(st.sets(st.sampled_from(["probs", "order"]))):
            gaps[name] = np.full(PARTS[name], INF)
        gaps["cov"] = np.full(3, INF)
        sides.append({k: params[k] + sign * gap for k, gap in gaps.items()})
    return params, om.Bounds(*sides)


@every_distribution
@hypothesis.settings(max_examples=5, deadline=None, database=None)
@hypothesis.given(problem=mixed_problems(), method=st.sampled_from(METHODS), is_soft=st.booleans())
def test_draws_of_mixed_problems_are_feasible(distribution, problem, method, is_soft):
    params, limits = problem
    bounds = om.Bounds(soft_lower=limits.lower, soft_upper=limits.upper) if is_soft else limits
    space = space_of(params, bounds, MIXED)
    flats = draw(space, 9, method, distribution)
    lower, upper = (space.tree.to_flat(side) for side in (limits.lower, limits.upper))
    check_feasible(space, flats, om.Bounds(lower, upper), [])
    for flat in flats:
        found = space.tree.to_params(flat)
        om.check_constraints(found, MIXED, limits)
        assert (np.diff(found["order"]) >= 0).all()
        assert found["pair"][0] == found["pair"][1]
        assert found["fixed"] == params["fixed"]
    np.testing.assert_array_equal(flats, draw(space, 9, method, distribution))


@every_method
def test_any_number_of_points_can_be_drawn_without_a_warning(method):
    space = space_of(np.zeros(3), om.Bounds(-1, 1))
    for n in (0, 1, 5, 64):
        flats = draw(space, n, method)
        assert flats.shape == (n, 3)
        assert (np.abs(flats) <= 1).all()
        assert flats.any() or n == 0


@every_method
def test_a_seed_may_be_a_generator_or_none(method):
    space = space_of(np.zeros(3), om.Bounds(-1, 1))
    by_number = draw(space, 8, method, seed=3)
    np.testing.assert_array_equal(draw(space, 8, method, seed=np.random.default_rng(3)), by_number)
    assert (draw(space, 8, method, seed=None) != draw(space, 8, method, seed=None)).any()


def test_more_points_begin_with_the_same_ones():
    space = space_of(arr(0.2, 0.3, 0.5), None, om.ProbabilityConstraint())
    for method in ("random", "sobol", "halton"):
        np.testing.assert_array_equal(draw(space, 100, method)[:9], draw(space, 9, method))


# ---------------------------------------------------------------------------------- distributions


def is_distributed(values, distribution):
    """Many values from another distribution have a p of nearly zero."""
    return stats.kstest(values, distribution.cdf).pvalue > 1e-3


@pytest.mark.parametrize("n", [2, 5, 20])
@pytest.mark.parametrize("upper", [INF, 1 - 1e-9], ids=["simplex", "budget"])
def test_probabilities_are_uniform(n, upper):
    """Shares of the uniform distribution on a simplex are Beta(1, n - 1), their mean is 1 / n."""
    space = space_of(np.full(n, 1 / n), om.Bounds(upper=upper), om.ProbabilityConstraint())
    flats = draw(space, 2000, "random")
    np.testing.assert_allclose(flats.mean(axis=0), 1 / n, atol=4 / n / np.sqrt(2000))
    for i in (0, n // 2, n - 1):
        assert is_distributed(flats[:, i], stats.beta(1, n - 1))


def test_an_open_simplex_is_as_uniform():
    space = om.make_space(
        np.full(5, 0.2), constraints=om.ProbabilityConstraint(), keeps_bounds=False
    )
    flats = space.to_flat_rows(space.sample(np.random.default_rng(0).random((2000, space.n_x))))
    assert is_distributed(flats[:, 0], stats.beta(1, 4))
    assert is_distributed(flats[:, 4], stats.beta(1, 4))


def test_entries_of_a_budget_with_equal_bounds_are_distributed_equally():
    space = space_of(np.full(3, 1 / 3), om.Bounds(upper=0.5), om.ProbabilityConstraint())
    flats = draw(space, 2000, "random")
    # what is left of the uniform distribution on the simplex
    rejected = np.random.default_rng(1).dirichlet(np.ones(3), size=8000)
    rejected = rejected[(rejected <= 0.5).all(axis=1)]
    for i in range(3):
        assert stats.ks_2samp(flats[:, i], rejected[:, i]).pvalue > 1e-3


def test_ordered_parameters_are_uniform():
    """Sorted uniform variates: the i-th of n is Beta(i, n + 1 - i)."""
    space = space_of(arr(0.1, 0.2, 0.3, 0.4), om.Bounds(0, 1), om.IncreasingConstraint())
    flats = draw(space, 2000, "random")
    for i in range(4):
        assert is_distributed(flats[:, i], stats.beta(i + 1, 4 - i))


def test_correlation_matrices_are_uniform():
    bounds = om.Bounds(arr(0.1, 0.1, 0.1, -1, -1, -1), arr(3, 3, 3, 1, 1, 1))
    space = space_of(CORR, bounds, om.FlatSDCorrConstraint())
    flats = draw(space, 2000, "random")
    r = np.random.default_rng(1).uniform(-1, 1, (8000, 3))
    r = r[1 + 2 * r.prod(axis=1) - (r**2).sum(axis=1) >= 0]
    for statistic in (lambda v: v[:, 0], lambda v: v[:, 2], np.sum, np.prod):
        axis = {"axis": 1} if statistic in (np.sum, np.prod) else {}
        found, expected = (statistic(v, **axis) for v in (flats[:, 3:], r))
        assert stats.ks_2samp(found, expected).pvalue > 1e-3
    assert is_distributed(flats[:, 1], stats.uniform(0.1, 2.9))


@pytest.mark.parametrize("mode", [0.0, 0.5, 3.0, 4.0])
def test_plain_parameters_are_triangular(mode):
    space = space_of(arr(mode, 1), om.Bounds(0, 4))
    flats = draw(space, 2000, "random", "triangular")
    assert is_distributed(flats[:, 0], stats.triang(mode / 4, scale=4))
    assert is_distributed(draw(space, 2000, "random")[:, 0], stats.uniform(scale=4))


@pytest.mark.parametrize(("start", "mode"), [(-2.0, 1.0), (9.0, 4.0)])
def test_a_start_outside_soft_bounds_has_its_mode_on_the_edge(start, mode):
    bounds = om.Bounds(soft_lower=1, soft_upper=4)
    flats = draw(space_of(arr(start), bounds), 2000, "random", "triangular")
    assert is_distributed(flats[:, 0], stats.triang((mode - 1) / 3, loc=1, scale=3))


def test_constrained_parameters_of_one_dimension_are_triangular():
    """A probability of two is uniform between 0 and 1, so it is triangular around its start."""
    space = space_of(arr(0.3, 0.7), None, om.ProbabilityConstraint())
    flats = draw(space, 2000, "random", "triangular")
    assert is_distributed(flats[:, 0], stats.triang(0.3))


def test_triangular_draws_are_closer_to_the_start():
    for problem in ("simplex", "bounded order", "covariance", "correlations", "pivot"):
        params, constraints, bounds = PROBLEMS[problem]
        space = space_of(params, bounds, constraints)
        uniform, triangular = (
            np.abs(draw(space, 256, distribution=d) - params).mean() for d in DISTRIBUTIONS
        )
        # sqrt(v) is 2 / 3 on average
        assert 0.6 * uniform < triangular < 0.75 * uniform


def test_sequences_are_spread_more_evenly_than_random_points():
    space = space_of(np.zeros(5), om.Bounds(0, 1))
    random = qmc.discrepancy(draw(space, 200, "random"))
    for method in ("sobol", "halton"):
        assert qmc.discrepancy(draw(space, 200, method)) < random / 3
    # each of 200 equal intervals holds one point
    latin = draw(space, 200, "latin_hypercube")
    assert (np.sort((200 * latin).astype(int), axis=0) == np.arange(200)[:, None]).all()


def test_bounds_of_any_size_are_fine():
    largest = np.finfo(float).max
    for distribution in DISTRIBUTIONS:
        flats = draw(space_of(arr(0, 1), om.Bounds(-largest, largest)), distribution=distribution)
        assert np.isfinite(flats).all()
        assert (flats > largest / 10).any()
        assert (flats < -largest / 10).any()


# ------------------------------------------------------------------------------------- soft bounds


@every_distribution
@pytest.mark.parametrize(
    ("params", "constraints", "lower", "upper"),
    [
        (arr(0.2, 0.3, 0.5), om.ProbabilityConstraint(), [0.1, 0, 0.3], [0.4, 0.5, 0.7]),
        # the start lies outside of these
        (arr(0.2, 0.3, 0.5), om.ProbabilityConstraint(), [0.3, 0, 0], [1, 1, 0.4]),
        (arr(1, 2, 3), om.IncreasingConstraint(), [2, 0, 0], [9, 9, 2.5]),
        (arr(1, 0.3, 2), om.FlatCovConstraint(), [2, -INF, 0.1], [4, INF, 0.5]),
        (arr(1, 2, 0.9), om.FlatSDCorrConstraint(), [2, 0, -1], [3, 1, 1]),
        (arr(1, 2, 1), om.EqualityConstraint(at(0, 2)), [2, 0, 0], [3, 1, 2.5]),
        (arr(1, 2), om.LinearConstraint(weights=[1, 1], value=3), [2, -5], [8, 5]),
        (arr(0.1, 0.2, 0.7), [om.ProbabilityConstraint(), om.IncreasingConstraint()],
         [0.15, 0, 0], [1, 1, 0.5]),
    ],
)  # fmt: skip
def test_soft_bounds_are_kept_in_constraints(params, constraints, lower, upper, distribution):
    bounds = om.Bounds(soft_lower=lower, soft_upper=upper)
    space = space_of(params, bounds, constraints)
    flats = draw(space, 50, distribution=distribution)
    check_feasible(space, flats, om.Bounds(arr(*lower), arr(*upper)), constraints)
    assert len(np.unique(flats, axis=0)) == 50
    # and the space of a run can represent them, whatever its form
    for form in ({}, {"scaling": True}, {"keeps_bounds": False, "scaling": True}):
        run = om.make_space(params, bounds=bounds, constraints=constraints, **form)
        found = run.to_flat_rows(to_x_rows(run, flats))
        np.testing.assert_allclose(found, flats, atol=0.02 if "keeps_bounds" in form else 1e-9)


def test_soft_bounds_add_to_bounds():
    bounds = om.Bounds(lower=arr(0, 1), upper=5, soft_lower=arr(-1, 2), soft_upper=arr(3, 9))
    space = space_of(arr(1, 2), bounds)
    np.testing.assert_array_equal([space.lower, space.upper], [[0, 2], [3, 5]])


def test_fixed_parameters_stay_where_they_are_whatever_the_soft_bounds():
    bounds = om.Bounds(soft_lower=4, soft_upper=6)
    constraints = [om.FixedConstraint(at(0)), om.EqualityConstraint(at(0, 1))]
    flats = draw(space_of(arr(1, 1, 5), bounds, constraints))
    assert (flats[:, :2] == 1).all()


@pytest.mark.parametrize(
    ("params", "constraints", "bounds", "match"),
    [
        (arr(0.5, 0.5), om.ProbabilityConstraint(), om.Bounds(soft_upper=0.4), "the sum can only"),
        (arr(1, 2), om.IncreasingConstraint(), om.Bounds(soft_lower=[3, 0], soft_upper=[4, 2]),
         "at least 3 and at most 2"),
        (arr(1, 1), om.EqualityConstraint(), om.Bounds(soft_lower=[0, 2], soft_upper=[1, 3]),
         "no common value"),
        (arr(1, 0, 1), om.FlatCovConstraint(), om.Bounds(soft_lower=-2, soft_upper=2),
         "Only variances can be"),
    ],
)  # fmt: skip
def test_soft_bounds_that_contradict_constraints_are_refused(params, constraints, bounds, match):
    with pytest.raises(InvalidMultistartError, match=f"Soft bounds and constraints.*{match}"):
        space_of(params, bounds, constraints)


def test_rows_without_room_between_soft_bounds_are_refused():
    constraints = om.LinearConstraint(weights=[[1, 1], [1, -1]], upper_bound=[2, 0])
    bounds = om.Bounds(soft_lower=[0.9, 0], soft_upper=3)
    flats = draw(space_of(arr(0, 0), bounds, constraints))
    assert (flats.sum(axis=1) <= 2 + 1e-12).all()
    # each row alone leaves room
    bounds = dataclasses.replace(bounds, soft_lower=[1.1, 0])
    with pytest.raises(InvalidMultistartError, match="Nothing between the soft bounds fulfils"):
        draw(space_of(arr(0, 0), bounds, constraints))


# ------------------------------------------------------------------------------------------ errors


def test_unbounded_parameters_are_named():
    params = {"a": 1.0, "b": arr(2, 3), "c": arr(1, 2), "d": 4.0}
    constraints = [
        om.IncreasingConstraint(lambda p: p["c"]),
        om.FixedConstraint(lambda p: p["d"]),
    ]
    bounds = om.Bounds(lower={"a": 0}, soft_upper={"b": arr(5, INF)}, upper={"b": 9})
    with pytest.raises(InvalidMultistartError, match=r"missing for a, b_0, b_1\. .*soft_lower"):
        space_of(params, bounds, constraints)
    complete = dataclasses.replace(bounds, soft_upper={"a": 3}, soft_lower={"b": -1})
    assert draw(space_of(params, complete, constraints)).shape == (64, 6)


@pytest.mark.parametrize(("method", "n"), [("sobol", 21202), ("halton", 1001)])
def test_too_many_dimensions_for_a_sequence_are_refused(method, n):
    space = space_of(np.zeros(n), om.Bounds(-1, 1))
    with pytest.raises(InvalidMultistartError, match=rf"'{method}' is for at most {n - 1} dim"):
        draw(space, 2, method)
    assert draw(space, 2, "latin_hypercube").shape == (2, n)


# -------------------------------------------------------------------------------- to other spaces


def test_a_sample_is_the_same_in_all_spaces():
    params, constraints, bounds = PROBLEMS["variances"]
    flats = draw(space_of(params, bounds, constraints))
    for scaling in (False, True):
        run = om.make_space(params, bounds=bounds, constraints=constraints, scaling=scaling)
        xs = to_x_rows(run, flats)
        assert xs.shape == (64, run.n_x)
        assert (xs >= run.lower).all()
        assert (xs <= run.upper).all()
        np.testing.assert_allclose(run.to_flat_rows(xs), flats, atol=1e-12)
        np.testing.assert_array_equal(xs[3], to_x_rows(run, flats[3:4])[0])
    assert to_x_rows(run, flats[:0]).shape == (0, run.n_x)


def test_open_forms_put_edges_a_little_inside():
    run = om.make_space(
        arr(1, 0, 0), constraints=om.ProbabilityConstraint(), keeps_bounds=False, scaling=True
    )
    xs = to_x_rows(run, np.eye(3))
    assert np.isfinite(xs).all()
    np.testing.assert_allclose(run.to_flat_rows(xs), np.eye(3), atol=2e-3)


# ----------------------------------------------------------------------------- a user's own sample

FRAME = pd.DataFrame({"value": [0.25, 0.75], "kind": ["u", "v"]}, index=["a", "b"])


@pytest.mark.parametrize(
    ("params", "sample", "expected"),
    [
        (arr(1, 2), [arr(3, 4), arr(5, 6)], [[3, 4], [5, 6]]),
        (arr(1, 2), np.array([[3, 4], [5, 6]]), [[3, 4], [5, 6]]),
        (arr(1, 2), jnp.array([[3, 4], [5, 6]]), [[3, 4], [5, 6]]),
        (arr(1, 2), [[3, 4], [5, 6]], [[3, 4], [5, 6]]),
        (arr(1, 2), (p for p in [arr(3, 4)]), [[3, 4]]),
        (arr(1, 2), pd.DataFrame([[3.0, 4.0], [5.0, 6.0]]), [[3, 4], [5, 6]]),
        (1.0, [3, 4.0], [[3], [4]]),
        (1.0, arr(3, 4), [[3], [4]]),
        (np.ones((2, 2)), np.arange(8.0).reshape(2, 2, 2), [[0, 1, 2, 3], [4, 5, 6, 7]]),
        (np.ones((2, 2)), np.arange(8.0).reshape(2, 4), [[0, 1, 2, 3], [4, 5, 6, 7]]),
        ({"b": 1.0, "a": arr(2, 3)}, ({"a": arr(4, 5), "b": 6},), [[6, 4, 5]]),
        ({"b": 1.0, "a": arr(2, 3)}, pd.DataFrame({"a_0": [4], "a_1": [5], "b": [6], "note": [0]}),
         [[6, 4, 5]]),
        ({"a": arr(2, 3), "b": 1.0}, np.array([[4.0, 5, 6]]), [[4, 5, 6]]),
        (FRAME, [FRAME.assign(value=[1, 2])], [[1, 2]]),
        (FRAME, pd.DataFrame({"b": [2.0], "a": [1.0]}), [[1, 2]]),
        (pd.Series([1.0, 2.0], index=["a", "b"]), [pd.Series({"b": 4.0, "a": 3.0})], [[3, 4]]),
    ],
)  # fmt: skip
def test_forms_of_samples(params, sample, expected):
    np.testing.assert_array_equal(read_sample(om.make_space(params), sample), expected)


@pytest.mark.parametrize(
    ("params", "sample", "match"),
    [
        (arr(1, 2), [], "no points"),
        (arr(1, 2), np.empty((0, 2)), "no points"),
        (arr(1, 2), 3.0, "sequence of params, an array or a DataFrame, not 3.0"),
        ({"a": 1.0}, {"a": 1.0}, "sequence of params"),
        (arr(1, 2), [arr(3, 4), arr(5, 6, 7)], r"point 1 of sample has shape \(3,\)"),
        (arr(1, 2), [arr(3, 4), ["x", 1]], "point 1 of sample does not consist of real numbers"),
        ({"a": 1.0}, [{"a": 1.0}, {"b": 1.0}], "point 1 of sample has a key 'b'"),
        ({"a": 1.0}, [{"a": 1.0}, {}], "point 1 of sample lacks the key 'a'"),
        ({"b": 1.0, "a": 2.0}, np.ones((1, 2)), "point 0 of sample is a flat vector, whose order"),
        ({"alpha": 1.0, "b": 2.0}, pd.DataFrame({"alhpa": [1], "b": [2]}),
         "no column 'alpha'.*alpha, b. Did you mean 'alhpa'"),
        ({"a": 1.0, "b": 2.0}, [{"a": 1, "b": 2}, {"a": 1, "b": np.nan}],
         "Point 1 of sample: b is nan, which is not finite"),
    ],
)  # fmt: skip
def test_samples_that_do_not_fit_are_refused(params, sample, match):
    with pytest.raises(InvalidMultistartError, match=match):
        read_sample(om.make_space(params), sample)


@pytest.mark.parametrize(
    "form", [{}, {"scaling": True}, {"bounds_as": "transform"}, {"keeps_bounds": False}]
)
def test_points_that_violate_bounds_or_constraints_are_refused(form):
    params = {"p": arr(0.25, 0.75), "a": 1.0, "fixed": 2.0, "o": arr(1, 2)}
    constraints = [
        om.ProbabilityConstraint(lambda p: p["p"]),
        om.FixedConstraint(lambda p: p["fixed"]),
        om.IncreasingConstraint(lambda p: p["o"]),
    ]
    bounds = om.Bounds(lower={"a": 0}, upper={"a": 3}, soft_upper={"a": 2})
    space = om.make_space(params, bounds=bounds, constraints=constraints, **form)
    # edges are feasible, and so are points outside of soft bounds
    good = [{**params, "a": 3.0, "p": arr(1, 0), "o": arr(5, 5)}, {**params, "a": 0.0}]
    flats = read_sample(space, good)
    np.testing.assert_array_equal(flats[:, :3], [[1, 0, 3], [0.25, 0.75, 0]])
    for change, match in (
        ({"a": 3.1}, "a is 3.1, but bounds and constraints would make it 3"),
        ({"a": -1e-5}, "a is -1e-05, but"),
        ({"fixed": 2.1}, "fixed is 2.1, but bounds and constraints would make it 2"),
        ({"p": arr(0.25, 0.7)}, "p_0 is 0.25, but"),
        ({"p": arr(-0.25, 1.25)}, "p_0 is -0.25, but"),
        ({"o": arr(3, 2)}, "o_1 is 2, but"),
    ):
        with pytest.raises(InvalidMultistartError, match=f"Point 2 of sample: {match}"):
            read_sample(space, [*good, {**params, **change}])
