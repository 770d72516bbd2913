"""Params in any tree: names, numbers and structure survive the way to the algorithm and back."""

import collections
import dataclasses
import json
import pickle
from fractions import Fraction
from typing import Any, NamedTuple

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

import optimagic_lite as om
from optimagic_lite.exceptions import InvalidFunctionError, InvalidParamsError
from optimagic_lite.space.trees import ParamTree


class Point(NamedTuple):
    y: Any
    x: Any


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class Model:
    slope: Any
    curve: Any
    name: str = dataclasses.field(default="m", metadata={"static": True})


class Bag:
    """A container that JAX knows without names of its entries."""

    def __init__(self, *content):
        self.content = content


jax.tree_util.register_pytree_node(Bag, lambda b: (b.content, None), lambda _, c: Bag(*c))


def as_float(value):
    return np.asarray(value, dtype=float)


def x64(values):
    """A float64 JAX array, whatever the global flag."""
    with jax.enable_x64(True):
        return jnp.asarray(values, dtype=jnp.float64)


def assert_same(left, right):
    """Compare structure, order of keys, leaf types, labels and numbers."""
    assert type(left) is type(right)
    if isinstance(left, dict):
        assert list(left) == list(right)
        for key in left:
            assert_same(left[key], right[key])
    elif isinstance(left, (list, tuple)):
        assert len(left) == len(right)
        for a, b in zip(left, right, strict=True):
            assert_same(a, b)
    elif isinstance(left, Bag):
        assert_same(left.content, right.content)
    elif dataclasses.is_dataclass(left):
        for field in dataclasses.fields(left):
            assert_same(getattr(left, field.name), getattr(right, field.name))
    elif isinstance(left, pd.Series):
        pd.testing.assert_series_equal(left, right)
    elif isinstance(left, pd.DataFrame):
        pd.testing.assert_frame_equal(left, right)
    elif isinstance(left, (np.ndarray, np.generic, jax.Array)):
        assert left.dtype == right.dtype
        np.testing.assert_array_equal(left, right)
    else:
        assert left == right


SERIES = pd.Series([1.0, 2.0], index=pd.Index(["p", "q"], name="letter"), name="s")
FRAME = pd.DataFrame(
    {"value": [1.0, 2.0], "group": ["g", "h"]},
    index=pd.MultiIndex.from_tuples([("a", 1), ("b", 0)], names=["let", "num"]),
)

# Each with the names that its numbers have; leaves are float64 or float, so that they come back
# exactly as they went in.
TREES = {
    "number": (2.0, ["0"]),
    "numpy_scalar": (np.float64(2.0), ["0"]),
    "zero_dimensional": (np.array(2.0), ["0"]),
    "vector": (np.array([1.0, 2.0]), ["0", "1"]),
    "matrix": (np.array([[1.0, 2.0], [3.0, 4.0]]), ["0_0", "0_1", "1_0", "1_1"]),
    "jax_vector": (x64([1.0, 2.0]), ["0", "1"]),
    "list": ([1.0, 2.0], ["0", "1"]),
    "unsorted_dict": ({"b": np.array([1.0, 2.0]), "a": 3.0}, ["b_0", "b_1", "a"]),
    "keys_of_two_types": ({"b": 1.0, 3: 2.0, ("a", 1): 3.0}, ["b", "3", "('a', 1)"]),
    "nested": (
        {"z": {"y": [1.0, (2.0, np.array([[3.0]]))]}, "a": ()},
        ["z_y_0", "z_y_1_0", "z_y_1_1_0_0"],
    ),
    "none_is_nothing": ({"b": None, "a": 1.0}, ["a"]),
    "empty_array": ({"b": np.zeros((0, 2)), "a": 1.0}, ["a"]),
    "ordered_dict": (collections.OrderedDict(b=1.0, a=2.0), ["b", "a"]),
    "default_dict": (collections.defaultdict(list, b=1.0, a=2.0), ["b", "a"]),
    "namedtuple": (Point(1.0, {"b": 2.0, "a": 3.0}), ["y", "x_b", "x_a"]),
    "dataclass": (Model(1.0, np.array([2.0, 3.0]), "static"), ["slope", "curve_0", "curve_1"]),
    "custom_node": (Bag({"b": 1.0, "a": 2.0}, 3.0), ["0_b", "0_a", "1"]),
    "series": (SERIES, ["p", "q"]),
    "series_in_dict": ({"s": SERIES, "a": 1.0}, ["s_p", "s_q", "a"]),
    "frame": (FRAME, ["a_1", "b_0"]),
    "frame_in_list": ([1.0, FRAME], ["0", "1_a_1", "1_b_0"]),
    "clash_with_underscore": ({"a_0": 1.0, "a": [2.0]}, ["a_0", "a.0"]),
    "clash_with_every_separator": ({"1": 1.0, 1: 2.0}, ["1#0", "1#1"]),
}
CASES = [pytest.param(*case, id=name) for name, case in TREES.items()]


@pytest.mark.parametrize(("params", "names"), CASES)
def test_names_are_unique_and_in_the_order_of_the_user(params, names):
    assert ParamTree(params).names == names


@pytest.mark.parametrize(("params", "names"), CASES)
def test_round_trip_keeps_structure_types_and_labels(params, names):
    tree = ParamTree(params)
    flat = tree.start_values()

    assert flat.shape == (len(names),)
    assert flat.dtype == np.float64
    assert_same(tree.to_params(flat), params)
    other = np.arange(len(flat)) + 0.25
    np.testing.assert_array_equal(tree.to_flat(tree.to_params(other)), other)


@pytest.mark.parametrize(("params", "names"), CASES)
def test_description_rebuilds_names_and_order(params, names):
    text = ParamTree(params).to_json()

    json.loads(text)
    rebuilt = ParamTree.from_json(text)

    assert rebuilt.names == names
    assert rebuilt.n_params == len(names)


@pytest.mark.parametrize("name", ["number", "matrix", "unsorted_dict", "nested", "series", "frame"])
def test_description_of_plain_containers_is_complete(name):
    params, _ = TREES[name]
    rebuilt = ParamTree.from_json(ParamTree(params).to_json())

    assert_same(rebuilt.to_params(ParamTree(params).start_values()), params)


def test_description_keeps_namedtuples_by_their_fields():
    rebuilt = ParamTree.from_json(ParamTree(Point(1.0, 2.0)).to_json()).to_params(np.ones(2))

    assert (type(rebuilt).__name__, rebuilt._fields) == ("Point", ("y", "x"))


@pytest.mark.parametrize(("params", "names"), CASES)
def test_pickled_structure_works_as_before(params, names):
    tree = pickle.loads(pickle.dumps(ParamTree(params)))

    assert tree.names == names
    assert_same(tree.to_params(tree.start_values()), params)


@pytest.mark.parametrize(("params", "names"), CASES)
def test_result_has_the_structure_of_params(params, names):
    tree = ParamTree(params)
    target = np.linspace(-1.0, 1.0, len(names))

    result = om.minimize(lambda p: ((tree.to_flat(p) - target) ** 2).sum(), params, "scipy_lbfgsb")

    flat = np.array(tree.to_flat(result.params))
    assert_same(tree.to_params(flat), result.params)
    np.testing.assert_allclose(flat, target, atol=1e-5)
    assert result.history.flat_param_names == names


# ---- order of keys -------------------------------------------------------------------------

WEIGHTS = {"b": 10.0, "c": 2.0, "a": 1.0}


@pytest.mark.parametrize("xp", [np, jnp])
def test_criterion_may_rely_on_its_own_order_of_keys(xp):
    # the minimum is at 10, 2, 1 in the order of writing, not of the alphabet
    def fun(params):
        assert list(params) == list(WEIGHTS)
        return xp.sum((xp.stack(list(params.values())) - xp.array([10.0, 2.0, 1.0])) ** 2)

    result = om.minimize(fun, dict.fromkeys(WEIGHTS, 0.0), "scipy_lbfgsb")

    assert list(result.params) == list(WEIGHTS)
    for key, value in WEIGHTS.items():
        assert result.params[key] == pytest.approx(value, abs=1e-5)


def test_derivative_in_another_order_of_keys_is_aligned_by_key():
    def jac(params):
        return {key: 2 * (params[key] - WEIGHTS[key]) for key in sorted(params)}

    def fun(params):
        return sum((params[key] - WEIGHTS[key]) ** 2 for key in params)

    result = om.minimize(fun, dict.fromkeys(WEIGHTS, 0.0), "scipy_bfgs", jac=jac)

    assert result.params == pytest.approx(WEIGHTS, abs=1e-5)


def test_trees_are_aligned_by_key_at_every_level():
    tree = ParamTree({"z": {"b": 1.0, "a": np.zeros(2)}, "y": [1.0]})

    flat = tree.align({"y": [5.0], "z": {"a": np.array([3.0, 4.0]), "b": 2.0}}, "it")

    np.testing.assert_array_equal(flat, [2.0, 3.0, 4.0, 5.0])


def test_series_is_aligned_by_index():
    flat = ParamTree({"s": SERIES}).align({"s": SERIES[::-1]}, "it")

    np.testing.assert_array_equal(flat, SERIES)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"b": 1.0}, "lacks the key 'a'"),
        ({"b": np.ones(2), "a": 1.0, "aa": 1.0}, "key 'aa' that params does not have.*'a'"),
        ({"b": np.ones(3), "a": 1.0}, r"entry 'b' of it has shape \(3,\).*shape \(2,\)"),
        ({"b": ["x", "y"], "a": 1.0}, "entry 'b' of it does not consist of real numbers"),
        ([1.0, 2.0], "it must be a dict"),
    ],
)
def test_misaligned_trees_are_refused_by_name(wrong, message):
    with pytest.raises(ValueError, match=message):
        ParamTree({"b": np.ones(2), "a": 1.0}).align(wrong, "it")


def test_misaligned_derivative_is_an_error_that_names_the_entry():
    with pytest.raises(InvalidFunctionError, match="jac lacks the key 'a'"):
        om.minimize(
            lambda p: p["b"] ** 2 + p["a"] ** 2,
            {"b": 1.0, "a": 1.0},
            "scipy_lbfgsb",
            jac=lambda p: {"b": 2 * p["b"]},
        )


def test_series_with_another_index_is_refused():
    with pytest.raises(ValueError, match="index of entry 's'"):
        ParamTree({"s": SERIES}).align({"s": SERIES.rename({"q": "r"})}, "it")


# ---- dtypes --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("leaf", "kind", "dtype"),
    [
        (3, float, None),
        (np.int64(3), np.float64, None),
        (np.float32(3), np.float64, None),
        (np.array([3, 4]), np.ndarray, "float64"),
        (np.array([3, 4], dtype=np.uint8), np.ndarray, "float64"),
        (np.array([3, 4], dtype=np.float32), np.ndarray, "float64"),
        (np.array([3, 4], dtype=np.float16), np.ndarray, "float64"),
        (jnp.array([3.0, 4.0], dtype=jnp.float32), jax.Array, "float64"),
        (jnp.array([3, 4], dtype=jnp.int32), jax.Array, "float64"),
        (jnp.array([3.0, 4.0], dtype=jnp.bfloat16), jax.Array, "float64"),
        (pd.Series([3, 4]), pd.Series, "float64"),
        (pd.Series([3, 4], dtype="Int64"), pd.Series, "float64"),
        (pd.Series([3, 4], dtype="float32"), pd.Series, "float64"),
    ],
)
def test_integers_and_short_floats_are_optimised_in_double_precision(leaf, kind, dtype):
    def fun(params):
        value = params["b"]
        assert isinstance(value, kind)
        return ((value - 0.1) ** 2).sum() if dtype else (value - 0.1) ** 2

    result = om.minimize(
        fun, {"b": leaf, "a": 1.0}, "scipy_bfgs", algo_options={"convergence_gtol_abs": 1e-8}
    )

    assert isinstance(result.params["b"], kind)
    if dtype:
        assert result.params["b"].dtype == dtype
    # 0.1 is no number of single precision: its neighbours are 1.5e-9 away and more
    np.testing.assert_allclose(as_float(result.params["b"]), 0.1, atol=1e-8, rtol=0)


def test_integer_column_of_a_frame_becomes_floats_and_other_columns_stay():
    frame = pd.DataFrame({"value": [3, 4], "note": ["x", "y"]}, index=["p", "q"])

    result = om.minimize(lambda p: ((p["value"] - 0.5) ** 2).sum(), frame, "scipy_lbfgsb")

    assert result.params["value"].dtype == "float64"
    pd.testing.assert_frame_equal(result.params[["note"]], frame[["note"]])
    np.testing.assert_allclose(result.params["value"], 0.5, atol=1e-5)


@pytest.mark.parametrize(
    ("leaf", "reason"),
    [
        (True, "a bool"),
        (np.bool_(True), "a bool"),
        (np.array([True]), "dtype bool"),
        (jnp.array([True]), "dtype bool"),
        (pd.Series([True]), "dtype bool"),
        (pd.Series([True], dtype="boolean"), "dtype boolean"),
        ("text", "type str"),
        (np.array(["text"]), "dtype <U4"),
        (pd.Series(["text"], dtype=object), "dtype object"),
        (pd.Series(["text"], dtype="category"), "dtype category"),
        (1j, "type complex"),
        (np.array([1j]), "dtype complex128"),
        (jnp.array([1j]), "dtype complex64"),
        (np.array([1.0], dtype=object), "dtype object"),
        (np.array(["2020-01-01"], dtype="datetime64[D]"), "dtype datetime64"),
        (jax.random.key(0), "dtype key"),
        (Fraction(1, 2), "type Fraction"),
        ({1.0, 2.0}, "type set"),
        (lambda: 1.0, "type function"),
        (pd.DataFrame({"values": [1.0]}), "without a 'value' column.*Did you mean 'values'"),
        (pd.DataFrame({"value": ["text"]}), "column 'value' of .* of dtype"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_leaves_that_are_no_real_numbers_are_refused_by_name(leaf, reason):
    with pytest.raises(InvalidParamsError, match=reason) as caught:
        om.minimize(lambda _: 0.0, {"good": 1.0, "b": [1.0, leaf]}, "scipy_lbfgsb")
    assert "'b_1'" in str(caught.value)


@pytest.mark.parametrize("params", [{}, [], (), {"a": None}, np.zeros(0), {"a": np.zeros((0, 3))}])
def test_params_without_numbers_are_refused(params):
    with pytest.raises(InvalidParamsError, match="no numbers"):
        om.minimize(lambda _: 0.0, params, "scipy_lbfgsb")


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_start_values_that_are_not_finite_are_refused_by_name(bad):
    with pytest.raises(InvalidParamsError, match=r"not finite: b_1, a\."):
        om.minimize(lambda _: 0.0, {"b": np.array([0.0, bad]), "a": bad, "c": 1.0}, "scipy_bfgs")


def test_missing_values_of_pandas_are_refused_by_name():
    series = pd.Series([1.0, None], index=["p", "q"], dtype="Float64")

    with pytest.raises(InvalidParamsError, match=r"not finite: q\."):
        om.minimize(lambda _: 0.0, series, "scipy_bfgs")


# ---- the criterion's own copy --------------------------------------------------------------


@pytest.mark.parametrize("algorithm", ["scipy_lbfgsb", "nlopt_lbfgsb", "scipy_neldermead"])
def test_criterion_that_destroys_its_argument_corrupts_nothing(algorithm):
    start = {"b": np.array([1.0, 2.0]), "f": FRAME.copy(), "s": SERIES.copy(), "a": [3.0]}

    def fun(params):
        parts = [params["b"], params["f"]["value"], params["s"], params["a"]]
        value = sum((np.asarray(part) ** 2).sum() for part in parts)
        params["b"][:] = np.nan
        params["f"].loc[:, "value"] = np.nan
        params["s"].iloc[:] = np.nan
        params["a"].clear()
        del params["b"]
        return value

    result = om.minimize(fun, start, algorithm)

    assert_same(start, {"b": np.array([1.0, 2.0]), "f": FRAME, "s": SERIES, "a": [3.0]})
    np.testing.assert_allclose(result.params["b"], 0, atol=1e-3)
    np.testing.assert_allclose(result.params["f"]["value"], 0, atol=1e-3)
    np.testing.assert_array_equal(result.history.flat_params[0], [1, 2, 1, 2, 1, 2, 3])
    assert np.isfinite(result.history.flat_params).all()


def test_result_does_not_share_memory_with_start_or_history():
    start = np.array([1.0, 2.0])
    result = om.minimize(lambda x: (x**2).sum(), start, "scipy_lbfgsb")

    before = result.history.flat_params
    result.params[:] = 7.0
    result.history.params[0][:] = 8.0

    np.testing.assert_array_equal(start, [1.0, 2.0])
    np.testing.assert_array_equal(result.history.flat_params, before)


@pytest.mark.parametrize("leaf", [np.zeros(2), jnp.zeros(2), pd.Series([0.0, 0.0])], ids=type)
def test_pickled_result_keeps_types_and_double_precision(leaf):
    result = om.minimize(
        lambda p: ((p["b"] - 0.1) ** 2).sum() + p["a"] ** 2, {"b": leaf, "a": 1.0}, "scipy_lbfgsb"
    )

    again = pickle.loads(pickle.dumps(result))

    assert_same(again.params, result.params)
    assert_same(again.jac, result.jac)
    assert_same(again.history.params[-1], result.history.params[-1])


# ---- structures as keys of caches ----------------------------------------------------------


def test_structures_are_equal_by_form_and_not_by_numbers():
    tree = ParamTree({"b": np.ones(2), "a": 1.0})

    assert tree == ParamTree({"b": np.zeros(2), "a": 5.0})
    assert hash(tree) == hash(ParamTree({"b": np.zeros(2), "a": 5.0}))
    assert tree != ParamTree({"a": 1.0, "b": np.ones(2)})
    assert tree != ParamTree({"b": np.ones(3), "a": 1.0})
    assert tree != ParamTree({"b": np.ones((2, 1)), "a": 1.0})
    assert tree != ParamTree({"b": jnp.ones(2), "a": 1.0})


def test_structures_differ_by_static_fields():
    assert ParamTree(Model(1.0, 2.0, "one")) != ParamTree(Model(1.0, 2.0, "two"))


# ---- any tree ------------------------------------------------------------------------------

NUMBERS = st.floats(-1e6, 1e6)
LABELS = st.text("abcxyz_.", min_size=1, max_size=3)
ARRAYS = st.lists(st.integers(0, 3), max_size=3).flatmap(
    lambda shape: st.integers(0, 2**31).map(
        lambda seed: np.random.default_rng(seed).normal(size=shape)
    )
)
SERIES_LEAVES = st.lists(LABELS, unique=True, min_size=1, max_size=3).map(
    lambda index: pd.Series(np.arange(len(index)) + 0.5, index=index)
)
TRACEABLE_LEAVES = NUMBERS | NUMBERS.map(np.float64) | ARRAYS | ARRAYS.map(x64)


def containers(children):
    keys = LABELS | st.integers(0, 3)
    return (
        st.dictionaries(keys, children, max_size=4)
        | st.dictionaries(LABELS, children, max_size=3).map(collections.OrderedDict)
        | st.lists(children, max_size=3)
        | st.lists(children, max_size=3).map(tuple)
        | st.builds(Point, children, children)
        | st.builds(Model, children, children)
        | st.builds(Bag, children)
        | st.none()
    )


def trees(leaves):
    return st.recursive(leaves, containers, max_leaves=12).filter(has_numbers)


def has_numbers(params):
    return any(leaf.size for leaf in map(np.asarray, leaves_of(params)))


def leaves_of(tree):
    """Leaves in the order of writing; JAX sorts keys and fails where they are of two types."""
    if isinstance(tree, dict):
        tree = list(tree.values())
    elif isinstance(tree, Model):
        tree = [tree.slope, tree.curve]
    elif isinstance(tree, Bag):
        tree = tree.content
    if isinstance(tree, (list, tuple)):
        return [leaf for child in tree for leaf in leaves_of(child)]
    return [] if tree is None else [tree]


def examples(count):
    return hypothesis.settings(max_examples=count, deadline=None, database=None)


@examples(150)
@hypothesis.given(trees(TRACEABLE_LEAVES | SERIES_LEAVES))
def test_any_tree_makes_the_round_trip(params):
    tree = ParamTree(params)
    flat = tree.start_values()

    assert_same(tree.to_params(flat), params)
    np.testing.assert_array_equal(tree.to_flat(params), flat)
    assert len(set(tree.names)) == len(tree.names) == tree.n_params == len(flat)
    assert ParamTree.from_json(tree.to_json()).names == tree.names
    assert_same(pickle.loads(pickle.dumps(tree)).to_params(flat), params)


@examples(50)
@hypothesis.given(trees(TRACEABLE_LEAVES))
def test_any_tree_of_numbers_is_built_alike_inside_and_outside_of_jax(params):
    tree = ParamTree(params)
    flat = tree.start_values()

    with jax.enable_x64(True):
        traced = jax.jit(lambda x: leaves_of(tree.trace(x)))(flat)
    plain = leaves_of(tree.to_params(flat))

    assert [np.shape(leaf) for leaf in traced] == [np.shape(leaf) for leaf in plain]
    for left, right in zip(traced, plain, strict=True):
        np.testing.assert_array_equal(left, right)


def reordered(tree):
    """The same tree with the keys of its dicts in reverse order."""
    if type(tree) is dict:
        return {key: reordered(tree[key]) for key in reversed(tree)}
    if isinstance(tree, (list, tuple)):
        children = map(reordered, tree)
        return type(tree)(*children) if isinstance(tree, Point) else type(tree)(children)
    if isinstance(tree, Model):
        return Model(reordered(tree.slope), reordered(tree.curve))
    return Bag(*map(reordered, tree.content)) if isinstance(tree, Bag) else tree


@examples(100)
@hypothesis.given(trees(TRACEABLE_LEAVES | SERIES_LEAVES))
def test_any_tree_is_aligned_by_key(params):
    tree = ParamTree(params)

    np.testing.assert_array_equal(tree.align(reordered(params), "it"), tree.start_values())


# ---- matrices of derivatives ---------------------------------------------------------------------


def test_a_transposed_jacobian_is_refused():
    params, residuals = ParamTree(np.ones(3)), ParamTree(np.ones(2))
    jacobian = np.arange(6.0).reshape(2, 3)
    np.testing.assert_array_equal(params.align_jacobian(jacobian, residuals, "jac"), jacobian)
    with pytest.raises(ValueError, match=r"jac has shape \(3, 2\), not \(2, 3\)"):
        params.align_jacobian(jacobian.T, residuals, "jac")


def test_blocks_have_the_outer_shape_followed_by_the_inner_shape():
    params = ParamTree({"b": np.ones((2, 3)), "a": 1.0})
    residuals = ParamTree(np.ones((4, 5)))
    blocks = {"a": np.arange(20.0).reshape(4, 5), "b": np.arange(120.0).reshape(4, 5, 2, 3)}
    found = params.align_jacobian(blocks, residuals, "jac")
    expected = np.column_stack([blocks["b"].reshape(20, 6), blocks["a"].reshape(20)])
    np.testing.assert_array_equal(found, expected)
    with pytest.raises(ValueError, match=r"entry 'b' of jac has shape \(6, 20\)"):
        params.align_jacobian(blocks | {"b": blocks["b"].reshape(20, 6).T}, residuals, "jac")


def test_matrices_with_labels_are_aligned_by_label():
    params = ParamTree(pd.Series([1.0, 2.0], index=["a", "b"]))
    residuals = ParamTree(pd.Series([1.0, 2.0, 3.0], index=["u", "v", "w"]))
    jacobian = pd.DataFrame(np.arange(6.0).reshape(3, 2), index=list("uvw"), columns=list("ab"))
    for frame in (jacobian, jacobian.loc[["w", "u", "v"], ["b", "a"]]):
        np.testing.assert_array_equal(params.align_jacobian(frame, residuals, "jac"), jacobian)
    hessian = pd.DataFrame([[0.0, 2], [2, 4]], ["b", "a"], ["b", "a"])
    np.testing.assert_array_equal(params.align_matrix(hessian, "hess"), [[4, 2], [2, 0]])
    with pytest.raises(ValueError, match="the columns of jac are not those of params"):
        params.align_jacobian(jacobian.rename(columns={"b": "c"}), residuals, "jac")
    with pytest.raises(ValueError, match="the index of jac are not those of params"):
        params.align_jacobian(jacobian.rename(index={"u": "c"}), residuals, "jac")


def test_a_hessian_of_the_wrong_shape_is_refused():
    params = ParamTree(np.ones((2, 3)))
    for shape in ((6, 6), (2, 3, 2, 3)):
        hessian = np.arange(36.0).reshape(shape)
        np.testing.assert_array_equal(params.align_matrix(hessian, "hess"), hessian.reshape(6, 6))
    with pytest.raises(ValueError, match=r"hess has shape \(4, 9\)"):
        params.align_matrix(np.ones((4, 9)), "hess")
