"""Covariance matrices as vectors of parameters: values, inverses, messages, derivatives."""

import re

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

from optimagic_lite import utilities as u

FROM_VECTOR = [
    u.chol_params_to_lower_triangular_matrix,
    u.cov_params_to_matrix,
    u.sdcorr_params_to_sds_and_corr,
    u.sdcorr_params_to_matrix,
]
FROM_COV = [u.cov_matrix_to_params, u.cov_to_sds_and_corr, u.cov_matrix_to_sdcorr_params]

PARAMS = np.array([1.5, 0.7, 2.0, 0.3, -0.4, 0.2])
COV = np.array([[4.0, 1.0, -0.6], [1.0, 9.0, 0.3], [-0.6, 0.3, 0.25]])


@pytest.fixture
def x64():
    with jax.enable_x64(True):
        yield


def quick(count=100):
    return hypothesis.settings(max_examples=count, deadline=None, database=None)


@st.composite
def sdcorr_params(draw):
    """Standard deviations of very different size, and any correlations between -1 and 1."""
    dim = draw(st.integers(0, 5))
    n_corrs = dim * (dim - 1) // 2
    sds = draw(st.lists(st.floats(1e-6, 1e6), min_size=dim, max_size=dim))
    corrs = draw(st.lists(st.floats(-1, 1), min_size=n_corrs, max_size=n_corrs))
    return np.array([*sds, *corrs])


@st.composite
def triangles(draw):
    dim = draw(st.integers(0, 5))
    numbers = st.floats(allow_nan=False, allow_infinity=False)
    size = dim * (dim + 1) // 2
    return np.array(draw(st.lists(numbers, min_size=size, max_size=size)), dtype=float)


# ------------------------------------------------------------------------------------ values


def test_triangle_is_read_row_by_row():
    actual = u.chol_params_to_lower_triangular_matrix([1, 2, 3, 4, 5, 6])

    np.testing.assert_array_equal(actual, [[1, 0, 0], [2, 3, 0], [4, 5, 6]])
    assert actual.dtype == np.float64


def test_cov_params_are_the_lower_triangle():
    matrix = u.cov_params_to_matrix([1, 2, 3, 4, 5, 6])

    np.testing.assert_array_equal(matrix, [[1, 2, 4], [2, 3, 5], [4, 5, 6]])
    np.testing.assert_array_equal(u.cov_matrix_to_params(matrix), [1, 2, 3, 4, 5, 6])


def test_sdcorr_params_are_deviations_then_correlations_row_by_row():
    sds, corr = u.sdcorr_params_to_sds_and_corr([1, 2, 3, 0.1, 0.2, 0.3])

    np.testing.assert_array_equal(sds, [1, 2, 3])
    np.testing.assert_array_equal(corr, [[1, 0.1, 0.2], [0.1, 1, 0.3], [0.2, 0.3, 1]])


def test_cov_of_sds_and_corr():
    expected = np.array([[4, 3, 0.8], [3, 9, -3.6], [0.8, -3.6, 16]])
    corr = np.array([[1, 0.5, 0.1], [0.5, 1, -0.3], [0.1, -0.3, 1]])

    np.testing.assert_allclose(u.sds_and_corr_to_cov([2, 3, 4], corr), expected, rtol=1e-15)
    sdcorr = [2, 3, 4, 0.5, 0.1, -0.3]
    np.testing.assert_allclose(u.sdcorr_params_to_matrix(sdcorr), expected, rtol=1e-15)
    np.testing.assert_allclose(u.cov_matrix_to_sdcorr_params(expected), sdcorr, rtol=1e-15)
    for actual, wanted in zip(u.cov_to_sds_and_corr(expected), ([2, 3, 4], corr), strict=True):
        np.testing.assert_allclose(actual, wanted, rtol=1e-15)


def test_what_does_not_vary_is_uncorrelated():
    sds, corr = u.cov_to_sds_and_corr([[0, 0, 0], [0, 4, 1], [0, 1, 1]])

    np.testing.assert_array_equal(sds, [0, 2, 1])
    np.testing.assert_array_equal(corr, [[1, 0, 0], [0, 1, 0.5], [0, 0.5, 1]])


def test_tiny_deviations_have_correlations():
    tiny = [1e-160, 1e-155, 0.5]

    np.testing.assert_allclose(
        u.cov_matrix_to_sdcorr_params(u.sdcorr_params_to_matrix(tiny))[:2], tiny[:2], rtol=1e-4
    )
    _, corr = u.cov_to_sds_and_corr([[1e-300, 5e-311], [5e-311, 1e-320]])
    np.testing.assert_allclose(corr[0, 1], 0.5, rtol=1e-3)


def test_nan_is_passed_on_where_it_belongs():
    sds, corr = u.cov_to_sds_and_corr([[1, np.nan, 0], [np.nan, 1, 0.5], [0, 0.5, 1]])

    np.testing.assert_array_equal(sds, [1, 1, 1])
    np.testing.assert_array_equal(corr, [[1, np.nan, 0], [np.nan, 1, 0.5], [0, 0.5, 1]])
    assert np.isinf(u.cov_matrix_to_params([[np.inf, np.inf], [np.inf, 1]])[:2]).all()


def test_counts_and_dimensions():
    for dim, count in enumerate([0, 1, 3, 6, 10, 15]):
        assert u.dimension_to_number_of_triangular_elements(dim) == count
        assert u.number_of_triangular_elements_to_dimension(count) == dim
    assert type(u.number_of_triangular_elements_to_dimension(np.int64(6))) is int
    assert type(u.dimension_to_number_of_triangular_elements(3.0)) is int


@hypothesis.given(st.integers(0, 10**30))
@quick()
def test_counts_are_exact_however_large(dim):
    count = u.dimension_to_number_of_triangular_elements(dim)

    assert 2 * count == dim * (dim + 1)
    assert u.number_of_triangular_elements_to_dimension(count) == dim


# -------------------------------------------------------------------------------- round trips


@hypothesis.given(triangles())
@quick()
def test_cov_params_survive_the_round_trip(params):
    cov = u.cov_params_to_matrix(params)

    np.testing.assert_array_equal(cov, cov.T)
    np.testing.assert_array_equal(u.cov_matrix_to_params(cov), params)


@hypothesis.given(triangles())
@quick()
def test_cholesky_factor_holds_its_params_and_zeros(params):
    lower = u.chol_params_to_lower_triangular_matrix(params)

    np.testing.assert_array_equal(lower[np.tril_indices(len(lower))], params)
    assert not np.triu(lower, 1).any()


@hypothesis.given(sdcorr_params())
@quick()
def test_sdcorr_params_survive_the_round_trip(params):
    cov = u.sdcorr_params_to_matrix(params)

    np.testing.assert_array_equal(cov, cov.T)
    np.testing.assert_allclose(u.cov_matrix_to_sdcorr_params(cov), params, rtol=1e-13, atol=1e-300)
    _, corr = u.cov_to_sds_and_corr(cov)
    np.testing.assert_array_equal(corr, corr.T)
    np.testing.assert_array_equal(np.diagonal(corr), 1)


@hypothesis.given(st.integers(0, 2**32 - 1), st.integers(1, 6))
@quick()
def test_inverses_of_hessians_survive_the_round_trip(seed, dim):
    factor = np.random.default_rng(seed).normal(size=(dim, dim + 2))
    cov = np.linalg.inv(factor @ factor.T)  # symmetric up to rounding only

    actual = u.sds_and_corr_to_cov(*u.cov_to_sds_and_corr(cov))

    np.testing.assert_array_equal(actual, actual.T)
    np.testing.assert_allclose(np.tril(actual), np.tril(cov), rtol=1e-14)


# ------------------------------------------------------------------------------ what is accepted


def same(actual, expected, **tolerance):
    for a, e in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        assert type(a) is np.ndarray
        assert a.dtype == np.float64
        np.testing.assert_allclose(a, e, **tolerance)


@pytest.mark.parametrize("func", FROM_VECTOR)
def test_vectors_may_be_lists_and_series(func):
    expected = func(PARAMS)

    same(func(PARAMS.tolist()), expected, rtol=0)
    same(func(tuple(PARAMS)), expected, rtol=0)
    same(func(pd.Series(PARAMS, index=list("fedcba"))), expected, rtol=0)
    same(func(PARAMS.astype(np.float32)), expected, rtol=1e-6)


@pytest.mark.parametrize("func", FROM_COV)
def test_matrices_may_be_lists_and_frames(func):
    expected = func(COV)

    same(func(COV.tolist()), expected, rtol=0)
    same(func(pd.DataFrame(COV, index=list("cab"), columns=list("cab"))), expected, rtol=0)


def test_deviations_may_be_a_series():
    sds, corr = u.cov_to_sds_and_corr(COV)

    actual = u.sds_and_corr_to_cov(pd.Series(sds, index=list("cab")), pd.DataFrame(corr))

    same(actual, COV, rtol=1e-14)


def test_arguments_are_neither_changed_nor_shared():
    params = PARAMS.copy()

    sds, _ = u.sdcorr_params_to_sds_and_corr(params)
    sds[:] = 0

    np.testing.assert_array_equal(params, PARAMS)


# ------------------------------------------------------------------------------------ messages


@pytest.mark.parametrize("func", FROM_VECTOR)
def test_length_must_be_a_triangular_number(func):
    message = (
        r"params has a wrong length. No square matrix has 7 entries in its lower triangle: "
        r"a 3 x 3 matrix has 6, a 4 x 4 matrix has 10\."
    )
    for params in (np.ones(7), jnp.ones(7)):
        with pytest.raises(ValueError, match=message):
            func(params)
    with pytest.raises(ValueError, match=message):
        jax.jit(func)(jnp.ones(7))


@pytest.mark.parametrize("func", FROM_VECTOR)
@pytest.mark.parametrize("params", [np.ones((3, 1)), 1.0])
def test_params_must_be_a_vector(func, params):
    shape = re.escape(str(np.shape(params)))
    with pytest.raises(ValueError, match=f"params must have one dimension, but has shape {shape}"):
        func(params)


@pytest.mark.parametrize("func", FROM_COV)
@pytest.mark.parametrize("cov", [np.ones((2, 3)), np.ones(3), jnp.ones((2, 2, 2)), 1.0])
def test_cov_must_be_square(func, cov):
    shape = re.escape(str(np.shape(cov)))
    with pytest.raises(ValueError, match=f"cov must be a square matrix, but has shape {shape}"):
        func(cov)


@pytest.mark.parametrize("func", FROM_COV)
@pytest.mark.parametrize("library", [np, jnp])
def test_cov_must_be_symmetric(func, library):
    cov = library.array([[1, 0.0, 0.5], [0, 1, 0], [0.25, 0, 1]])
    message = re.escape(
        "cov must be symmetric, but cov[0, 2] is 0.5 and cov[2, 0] is 0.25. "
        "If this is rounding, pass (cov + cov.T) / 2."
    )
    with pytest.raises(ValueError, match=message):
        func(cov)


@pytest.mark.parametrize("scale", [1e-12, 1.0, 1e12])
def test_symmetry_is_judged_in_the_units_of_the_matrix(scale):
    units = np.array([scale, 1 / scale])
    asymmetric = np.array([[1, 0.5], [0.4, 1]]) * np.outer(units, units)
    rounded = np.array([[1, 1e-12], [-1e-12, 1]]) * np.outer(units, units)

    with pytest.raises(ValueError, match="symmetric"):
        u.cov_to_sds_and_corr(asymmetric)
    _, corr = u.cov_to_sds_and_corr(rounded)
    np.testing.assert_allclose(corr, [[1, -1e-12], [-1e-12, 1]])


@pytest.mark.parametrize("func", [u.cov_to_sds_and_corr, u.cov_matrix_to_sdcorr_params])
@pytest.mark.parametrize("library", [np, jnp])
def test_variances_must_not_be_negative(func, library):
    message = re.escape("must be zero or positive, but cov[1, 1] is -2.")
    with pytest.raises(ValueError, match=message):
        func(library.array([[1.0, 0], [0, -2]]))


@pytest.mark.parametrize(
    ("sds", "corr"),
    [(np.ones(2), np.eye(3)), (np.ones((2, 1)), np.eye(2)), (1.0, 1.0), (jnp.ones(2), jnp.ones(2))],
)
def test_sds_must_fit_corr(sds, corr):
    shapes = f"(n,) and (n, n), but have the shapes {np.shape(sds)} and {np.shape(corr)}."
    with pytest.raises(ValueError, match=re.escape(shapes)):
        u.sds_and_corr_to_cov(sds, corr)


def test_corr_must_be_a_correlation_matrix():
    with pytest.raises(ValueError, match=r"corr must be symmetric, but corr\[0, 1\] is 0.5 and"):
        u.sds_and_corr_to_cov([1, 2], [[1, 0.5], [0, 1]])
    with pytest.raises(ValueError, match=r"corr\[1, 1\] is 4\. If corr .* cov_to_sds_and_corr"):
        u.sds_and_corr_to_cov([1, 2], [[1, 0.5], [0.5, 4]])


@pytest.mark.parametrize("number", [-1, 1.5, np.nan, np.inf])
def test_numbers_must_be_whole(number):
    message = re.escape(f"must be a whole number of at least 0, but is {number!r}.")
    with pytest.raises(ValueError, match=f"num {message}"):
        u.number_of_triangular_elements_to_dimension(number)
    with pytest.raises(ValueError, match=f"dim {message}"):
        u.dimension_to_number_of_triangular_elements(number)


# ----------------------------------------------------------------------------------------- JAX

CASES = [
    *((func, (PARAMS,)) for func in FROM_VECTOR),
    *((func, (COV,)) for func in FROM_COV),
    (u.sds_and_corr_to_cov, u.cov_to_sds_and_corr(COV)),
]
cases = pytest.mark.parametrize(("func", "args"), CASES, ids=lambda c: getattr(c, "__name__", ""))


@cases
@pytest.mark.usefixtures("x64")
def test_numpy_and_jax_agree(func, args):
    expected = jax.tree.leaves(func(*args))
    traced = [jnp.asarray(arg) for arg in args]

    for run in (func, jax.jit(func), lambda *a: jax.vmap(func)(*(x[None] for x in a))):
        actual = jax.tree.leaves(run(*traced))
        assert all(isinstance(a, jax.Array) and a.dtype == "float64" for a in actual)
        for a, e in zip(actual, expected, strict=True):
            np.testing.assert_allclose(a.reshape(e.shape), e, rtol=1e-14)


@cases
def test_single_precision_stays_single(func, args):
    with jax.enable_x64(True):
        traced = [jnp.asarray(arg, dtype="float32") for arg in args]
        assert all(a.dtype == "float32" for a in jax.tree.leaves(func(*traced)))
    for a, e in zip(jax.tree.leaves(func(*traced)), jax.tree.leaves(func(*args)), strict=True):
        np.testing.assert_allclose(a, e, rtol=1e-6)


@cases
@pytest.mark.usefixtures("x64")
def test_derivatives_agree_with_finite_differences(func, args):
    """Along directions that keep matrices symmetric and the diagonal of correlations at 1."""
    rng = np.random.default_rng(0)
    step = 1e-6
    for _ in range(5):
        directions = [rng.normal(size=arg.shape) for arg in args]
        directions = [d + d.T if d.ndim == 2 else d for d in directions]
        if func is u.sds_and_corr_to_cov:
            np.fill_diagonal(directions[1], 0)
        up, down = (
            jax.tree.leaves(func(*(a + s * d for a, d in zip(args, directions, strict=True))))
            for s in (step, -step)
        )
        _, slopes = jax.jvp(func, *([jnp.asarray(a) for a in some] for some in (args, directions)))
        for high, low, slope in zip(up, down, jax.tree.leaves(slopes), strict=True):
            np.testing.assert_allclose(slope, (high - low) / (2 * step), rtol=1e-6, atol=1e-8)


@pytest.mark.usefixtures("x64")
def test_gradient_of_a_likelihood():
    data = np.random.default_rng(1).normal(size=(50, 3))

    def loglike(params):
        xp = jnp if isinstance(params, jax.Array) else np
        cov = u.sdcorr_params_to_matrix(params)
        squares = xp.sum(xp.linalg.solve(cov, data.T) * data.T)
        return -0.5 * (len(data) * xp.linalg.slogdet(cov)[1] + squares)

    start = np.array([1.0, 1.2, 0.8, 0.1, -0.2, 0.3])
    steps = 1e-6 * np.eye(6)
    numerical = [(loglike(start + s) - loglike(start - s)) / 2e-6 for s in steps]

    gradient = jax.jit(jax.grad(loglike))(jnp.asarray(start))

    np.testing.assert_allclose(gradient, numerical, rtol=1e-6, atol=1e-6)


@pytest.mark.usefixtures("x64")
def test_derivatives_of_correlations_are_finite_beside_a_zero_variance():
    cov = jnp.array([[0.0, 0, 0], [0, 4, 1], [0, 1, 1]])

    gradient = jax.grad(lambda c: u.cov_to_sds_and_corr(c)[1].sum())(cov)

    # the correlation is c21 / sqrt(c11 * c22), and it stands in two places
    expected = [[0, 0, 0], [0, -0.125, 0], [0, 1, -0.5]]
    np.testing.assert_allclose(gradient, expected, atol=1e-15)
    slopes = jax.jacobian(u.cov_matrix_to_sdcorr_params)(cov)
    assert slopes[0, 0, 0] == np.inf
    assert np.isfinite(slopes[:, 1:, :]).all()


def test_values_of_tracers_are_not_checked():
    asymmetric = jnp.array([[-1.0, 0.5], [0, 1]])

    sds, _ = jax.jit(u.cov_to_sds_and_corr)(asymmetric)

    np.testing.assert_array_equal(sds, [np.nan, 1])
    jax.jit(u.sds_and_corr_to_cov)(jnp.ones(2), asymmetric)


def test_known_values_are_checked_while_others_are_traced():
    asymmetric = np.array([[1.0, 0.5], [0, 1]])
    for corr in (asymmetric, jnp.asarray(asymmetric)):
        with pytest.raises(ValueError, match="corr must be symmetric"):
            jax.jit(lambda sds, corr=corr: u.sds_and_corr_to_cov(sds, corr))(jnp.ones(2))


def test_numpy_and_lists_mix_with_tracers():
    expected = u.sdcorr_params_to_matrix([2.0, 3.0, 0.5])

    mixed = jax.jit(lambda r: u.sdcorr_params_to_matrix([2, 3.0, r]))(0.5)
    frame = pd.DataFrame([[1, 0.5], [0.5, 1]])
    framed = jax.jit(lambda sds: u.sds_and_corr_to_cov(sds, frame))(jnp.array([2, 3]))

    np.testing.assert_allclose(mixed, expected)
    np.testing.assert_allclose(framed, expected)


def test_integers_of_jax_become_floats():
    assert u.cov_params_to_matrix(jnp.arange(3)).dtype == jnp.ones(1).dtype


def test_constants_inside_compiled_code_stay_numpy():
    kinds = []

    @jax.jit
    def func(x):
        kinds.append(type(u.cov_params_to_matrix([1, 2, 3])))
        return x

    func(1.0)

    assert kinds == [np.ndarray]
