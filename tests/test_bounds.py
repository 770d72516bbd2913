"""Bounds in every way of writing them, aligned with params by key, and refused by name."""

import collections
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
import scipy.optimize

import optimagic_lite as om
from optimagic_lite.exceptions import IncompleteBoundsError, InvalidBoundsError
from optimagic_lite.space.bounds import read_bounds
from optimagic_lite.space.trees import ParamTree

INF = np.inf


class Pair(NamedTuple):
    y: Any
    x: Any


def read(params, bounds=None):
    tree = ParamTree(params)
    return read_bounds(bounds, tree, tree.start_values())


def lower_of(params, lower):
    return read(params, om.Bounds(lower=lower)).lower.tolist()


def minimum_under(params, bounds):
    """Where the distance from -1 in each entry is smallest."""
    tree = ParamTree(params)
    result = om.minimize(
        lambda p: ((tree.to_flat(p) + 1.0) ** 2).sum(), params, "scipy_lbfgsb", bounds=bounds
    )
    return tree.to_flat(result.params)


def refusal(params, bounds=None):
    with pytest.raises(InvalidBoundsError) as caught:
        om.minimize(lambda _: 0.0, params, "scipy_lbfgsb", bounds=bounds)
    return str(caught.value)


# ---- ways of writing -----------------------------------------------------------------------

DICT = {"b": np.array([2.0, 2.0]), "a": 2.0}


@pytest.mark.parametrize(
    "lower",
    [
        {"b": np.array([0.0, 1.0]), "a": 0.5},
        {"a": 0.5, "b": np.array([0.0, 1.0])},
        {"a": np.float32(0.5), "b": [0.0, 1.0]},
        {"a": jnp.array(0.5), "b": (0, 1)},
        {"a": np.array([0.5]), "b": jnp.array([0, 1])},
        {"a": 0.5, "b": pd.Series([0.0, 1.0])},
        np.array([0.0, 1.0, 0.5]),
        [0.0, 1.0, 0.5],
    ],
    ids=repr,
)
def test_a_full_tree_of_bounds_is_aligned_by_key(lower):
    assert lower_of(DICT, lower) == [0.0, 1.0, 0.5]


@pytest.mark.parametrize(
    ("lower", "flat"),
    [
        (None, [-INF, -INF, -INF]),
        (0, [0, 0, 0]),
        (np.float64(0.5), [0.5, 0.5, 0.5]),
        ({}, [-INF, -INF, -INF]),
        ({"a": 1}, [-INF, -INF, 1]),
        ({"b": 1}, [1, 1, -INF]),
        ({"b": None, "a": 1}, [-INF, -INF, 1]),
        ({"b": [None, 1]}, [-INF, 1, -INF]),
        ({"b": np.array([-INF, 1])}, [-INF, 1, -INF]),
        ([None, 1, None], [-INF, 1, -INF]),
    ],
)
def test_partial_bounds_leave_the_rest_free(lower, flat):
    assert lower_of(DICT, lower) == flat


def test_a_number_stands_for_all_entries_below_its_position():
    params = {"z": {"y": [2.0, np.full((2, 2), 2.0)], "x": 2.0}, "a": 2.0}

    assert lower_of(params, {"z": 1}) == [1] * 6 + [-INF]
    assert lower_of(params, {"z": {"y": [None, 1]}}) == [-INF, 1, 1, 1, 1, -INF, -INF]
    assert lower_of(params, {"a": 0, "z": {"x": 1, "y": None}}) == [-INF] * 5 + [1, 0]


@pytest.mark.parametrize(
    ("params", "lower"),
    [
        ([2.0, np.array([2.0, 2.0])], [0.0, [None, 1.0]]),
        ((2.0, np.array([2.0, 2.0])), (0.0, np.array([-INF, 1.0]))),
        (Pair(2.0, np.array([2.0, 2.0])), Pair(0.0, np.array([-INF, 1.0]))),
        (Pair(2.0, {"b": 2.0, "a": 2.0}), Pair(0.0, {"a": 1.0})),
        (
            collections.OrderedDict(y=2.0, x=np.array([2.0, 2.0])),
            collections.OrderedDict(y=0.0, x=np.array([-INF, 1.0])),
        ),
        (np.array([[2.0], [2.0], [2.0]]), np.array([[0.0], [-INF], [1.0]])),
        (jnp.full(3, 2.0), [0.0, None, 1.0]),
        # as many entries as numbers, and yet no flat vector
        ([{"b": 2.0}, 2.0, [2.0]], [{"b": 0.0}, None, [1.0]]),
        ([2.0, {"b": 2.0}, [2.0]], [0.0, {}, 1.0]),
        ([(), np.array([2.0, 2.0]), [2.0]], [(), [0.0, None], [1.0]]),
    ],
    ids=repr,
)
def test_bounds_in_every_container(params, lower):
    assert lower_of(params, lower) == [0.0, -INF, 1.0]


def test_a_number_bounds_a_number():
    bounds = read(2.0, om.Bounds(lower=1, upper=3))

    assert (bounds.lower.tolist(), bounds.upper.tolist()) == ([1], [3])


@pytest.mark.parametrize(
    "bounds",
    [
        om.Bounds(lower=[0, None], upper=[None, 3]),
        om.Bounds(lower=np.array([0, -INF]), upper=np.array([INF, 3])),
        scipy.optimize.Bounds([0, -INF], [INF, 3]),
        [(0, None), (None, 3)],
        [(0, INF), (-INF, 3)],
        ((0.0, None), [None, 3.0]),
        np.array([[0.0, INF], [-INF, 3.0]]),
        zip([0, None], [None, 3], strict=True),
    ],
    ids=["lists", "arrays", "scipy", "pairs", "infinite", "tuples", "array", "zip"],
)
def test_every_way_of_writing_means_the_same(bounds):
    flat = read(np.array([2.0, 2.0]), bounds)

    np.testing.assert_array_equal(flat.lower, [0, -INF])
    np.testing.assert_array_equal(flat.upper, [INF, 3])


def test_flat_ways_of_writing_follow_the_order_in_which_params_were_written():
    pairs = read(DICT, [(0, 5), (1, 6), (0.5, 7)])
    scipy_bounds = read(DICT, scipy.optimize.Bounds(lb=[0, 1, 0.5], ub=[5, 6, 7]))

    for flat in (pairs, scipy_bounds):
        np.testing.assert_array_equal(flat.lower, [0, 1, 0.5])
        np.testing.assert_array_equal(flat.upper, [5, 6, 7])


def test_scipy_bounds_broadcast():
    flat = read(DICT, scipy.optimize.Bounds(0, 5))

    assert (flat.lower.tolist(), flat.upper.tolist()) == ([0] * 3, [5] * 3)


def test_soft_bounds_are_kept_apart_and_do_not_constrain():
    bounds = om.Bounds(soft_lower={"a": 0.0}, soft_upper=4.0)

    flat = read(DICT, bounds)

    assert flat.soft_lower.tolist() == [-INF, -INF, 0.0]
    assert flat.soft_upper.tolist() == [4.0, 4.0, 4.0]
    np.testing.assert_allclose(minimum_under(DICT, bounds), -1.0, atol=1e-5)


def test_bounds_hold_what_they_say():
    bounds = om.Bounds(lower={"a": 0.5, "b": [None, 1.0]})

    np.testing.assert_allclose(minimum_under(DICT, bounds), [-1.0, 1.0, 0.5], atol=1e-5)


def test_start_on_a_bound_and_parameters_pinned_by_bounds_are_valid():
    bounds = om.Bounds(lower={"b": [2.0, None]}, upper={"b": [2.0, None], "a": 2.0})

    np.testing.assert_allclose(minimum_under(DICT, bounds), [2.0, -1.0, -1.0], atol=1e-5)


# ---- pandas --------------------------------------------------------------------------------


def test_bounds_stand_in_columns_of_a_frame():
    frame = pd.DataFrame(
        {
            "value": [2.0, 2.0, 2.0],
            "lower_bound": [0.0, np.nan, -INF],
            "upper_bound": [None, 3.0, INF],
            "soft_lower_bound": [1.0, 1.0, np.nan],
            "soft_upper_bound": [5.0, 2.5, np.nan],
        },
        index=["p", "q", "r"],
    )

    flat = read({"f": frame, "a": 2.0}, om.Bounds(lower={"a": 1}))

    assert flat.lower.tolist() == [0, -INF, -INF, 1]
    assert flat.upper.tolist() == [INF, 3, INF, INF]
    assert flat.soft_lower.tolist() == [1, 1, -INF, -INF]
    assert flat.soft_upper.tolist() == [5, 2.5, INF, INF]
    np.testing.assert_allclose(minimum_under(frame, None), [0, -1, -1], atol=1e-5)


def test_columns_and_bounds_complement_each_other_but_must_not_overlap():
    frame = pd.DataFrame({"value": [2.0, 2.0], "lower_bound": [0.0, np.nan]}, index=["p", "q"])
    other = pd.Series([1.0], index=["q"])

    assert lower_of(frame, other) == [0.0, 1.0]
    message = refusal(frame, om.Bounds(lower=1.0))
    assert "p: both bounds.lower and the column 'lower_bound'" in message
    assert "q:" not in message


@pytest.mark.parametrize("params", [pd.Series, lambda v, index: pd.DataFrame({"value": v}, index)])
def test_series_of_bounds_are_aligned_by_index_and_may_be_partial(params):
    start = params([2.0, 2.0, 2.0], index=["p", "q", "r"])

    assert lower_of(start, pd.Series([1.0, 0.0], index=["r", "p"])) == [0.0, -INF, 1.0]
    assert lower_of({"s": start}, {"s": pd.Series([1.0], index=["q"])}) == [-INF, 1.0, -INF]
    assert "'z'" in refusal(start, om.Bounds(lower=pd.Series([1.0], index=["z"])))


# ---- refusals, each with the name of the parameter -----------------------------------------


@pytest.mark.parametrize(
    ("bounds", "fragments"),
    [
        (om.Bounds(lower={"a": np.nan}), ["a: bounds.lower is NaN"]),
        (om.Bounds(upper={"b": [3.0, np.nan]}), ["b_1: bounds.upper is NaN"]),
        (om.Bounds(soft_lower={"a": np.nan}), ["a: bounds.soft_lower is NaN"]),
        ([(0, 5), (np.nan, 5), (0, 5)], ["b_1: bounds.lower is NaN"]),
        (
            om.Bounds(lower={"b": [0, 3]}, upper={"b": [5, 1]}),
            ["b_1: lower bound 3 is above the upper bound 1"],
        ),
        (om.Bounds(lower={"a": 2.5}), ["a: start value 2 is outside [2.5, inf]"]),
        (om.Bounds(upper={"b": 1.5}), ["b_0: start value 2 is outside", "b_1: start value 2"]),
        (om.Bounds(lower={"a": INF}), ["a: bounds [inf, inf] hold no number"]),
        (om.Bounds(upper={"a": -INF}), ["a: bounds [-inf, -inf] hold no number", "a:"]),
        (
            om.Bounds(soft_lower={"a": 4.0}, soft_upper={"a": 3.0}),
            ["a: soft bounds leave no room between 4 and 3"],
        ),
        (
            om.Bounds(upper={"a": 3.0}, soft_lower={"a": 4.0}),
            ["a: soft bounds leave no room between 4 and 3"],
        ),
        (om.Bounds(lower={"b": [0, 0, 0]}), ["entry 'b' of bounds.lower", "(3,)", "(2,)"]),
        (om.Bounds(lower={"aa": 0}), ["bounds.lower has a key 'aa'", "Did you mean 'a'?"]),
        (om.Bounds(upper={"a": "x"}), ["bounds.upper['a'] is 'x', which is not a number"]),
        (om.Bounds(upper={"a": True}), ["bounds.upper['a'] is True, which is not a number"]),
        (om.Bounds(lower="x"), ["bounds.lower"]),
        (om.Bounds(lower={"a": {"c": 1}}), ["bounds.lower"]),
        (om.Bounds(lower=[0.0, 0.0]), ["bounds.lower must be a dict like params"]),
        (scipy.optimize.Bounds([0, 0], [1, 1]), ["shape (2,)", "3 numbers"]),
        ([(0, 1), (0, 1)], ["2 pairs", "3 numbers"]),
        ([(0, "x")] * 3, ["bounds hold something that is no number", "'x'"]),
        ([(0, 1, 2)] * 3, ["sequence of (lower, upper) pairs"]),
        ("text", ["om.Bounds(lower=..., upper=...)"]),
        (5.0, ["om.Bounds(lower=..., upper=...)"]),
        ({"a": (0, 1)}, ["om.Bounds(lower=..., upper=...)"]),
    ],
    ids=repr,
)
def test_wrong_bounds_are_refused_and_the_message_says_where(bounds, fragments):
    message = refusal(DICT, bounds)

    for fragment in fragments:
        assert fragment in message


def test_only_the_wrong_parameters_are_named():
    message = refusal(DICT, om.Bounds(lower={"a": 0.0, "b": [0.0, 3.0]}))

    assert "b_1:" in message
    assert "b_0:" not in message
    assert "a:" not in message


def test_long_lists_of_wrong_parameters_are_cut():
    message = refusal(np.zeros(100), om.Bounds(lower=1.0))

    assert "and 90 more" in message
    assert len(message.splitlines()) < 15


@pytest.mark.parametrize(
    ("tree", "fragment"),
    [
        ({"z": [0.0, {"b": "x"}]}, "bounds.lower['z']"),
        ({"z": [0.0, {"c": 1.0}]}, "bounds.lower['z']"),
        ({"z": (0.0, None)}, "bounds.lower['z']"),
        ({"z": [0.0]}, "bounds.lower['z']"),
        ({"z": [0.0, True]}, "bounds.lower['z']"),
    ],
    ids=repr,
)
def test_messages_about_nested_bounds_give_the_path(tree, fragment):
    assert fragment in refusal({"z": [2.0, {"b": 2.0}]}, om.Bounds(lower=tree))


def test_bounds_in_columns_are_checked_too():
    frame = pd.DataFrame({"value": [2.0, 2.0], "upper_bound": [3.0, 1.0]}, index=["p", "q"])

    assert "q: start value 2 is outside [-inf, 1]" in refusal(frame)


def test_a_start_outside_by_rounding_is_shown_in_full():
    message = refusal({"a": 1.0 + 1e-15}, om.Bounds(upper=1.0))

    assert "1.000000000000001" in message


def test_algorithms_that_cannot_keep_bounds_refuse_them_and_name_some_that_can():
    with pytest.raises(InvalidBoundsError, match=r"scipy_bfgs cannot keep bounds.*scipy_lbfgsb"):
        om.minimize(lambda x: (x**2).sum(), np.ones(2), "scipy_bfgs", bounds=om.Bounds(lower=0.0))


def test_infinite_bounds_are_no_bounds():
    bounds = om.Bounds(lower=-INF, upper=[None, INF])

    result = om.minimize(lambda x: (x**2).sum(), np.ones(2), "scipy_bfgs", bounds=bounds)

    np.testing.assert_allclose(result.params, 0, atol=1e-5)


def test_exceptions_about_bounds_share_a_base():
    assert issubclass(IncompleteBoundsError, InvalidBoundsError)
