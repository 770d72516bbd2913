"""Covariance matrices as vectors of parameters, and back.

A covariance matrix has two forms as parameters. Covariance parameters are its lower triangle, read
row by row. Sdcorr parameters are its standard deviations, followed by the lower triangle of its
correlation matrix without the diagonal, row by row. Of a symmetric matrix the lower triangle is
read. Both forms of an n x n matrix have n * (n + 1) / 2 entries. Matrices that are returned are
exactly symmetric, the diagonal of correlation matrices is exactly 1.

All functions accept what NumPy can read as numbers (lists, Series and DataFrames included) and
return float64 arrays of NumPy. Given arrays or tracers of JAX they return arrays of JAX and can be
compiled and differentiated. Shapes are always checked, values only where they are known.
"""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

# Rounding makes matrices that are a little asymmetric, above all inverses of Hessians.
_RELATIVE_TOLERANCE = 1e-5


def chol_params_to_lower_triangular_matrix(params: Any) -> Any:
    """Fill a lower triangular matrix, for example a Cholesky factor, row by row.

    Args:
        params: Entries of the lower triangle with the diagonal, shape (n * (n + 1) / 2,).

    Returns:
        Matrix of shape (n, n) with zeros above the diagonal.

    Raises:
        ValueError: If params is no vector or its length is no triangular number.

    Example:
        >>> chol_params_to_lower_triangular_matrix([1, 2, 3])
        array([[1., 0.],
               [2., 3.]])
    """
    xp, (entries,) = _as_arrays(params)
    return _fill(xp, entries, _dimension_of(entries, "params"), mirror=False)


def cov_params_to_matrix(cov_params: Any) -> Any:
    """Build a covariance matrix from its lower triangle.

    Args:
        cov_params: Lower triangle with the diagonal, row by row, shape (n * (n + 1) / 2,).

    Returns:
        Covariance matrix, shape (n, n).

    Raises:
        ValueError: If cov_params is no vector or its length is no triangular number.

    Example:
        >>> cov_params_to_matrix([1, 0.5, 2])
        array([[1. , 0.5],
               [0.5, 2. ]])
    """
    xp, (entries,) = _as_arrays(cov_params)
    return _fill(xp, entries, _dimension_of(entries, "cov_params"))


def cov_matrix_to_params(cov: Any) -> Any:
    """Read the lower triangle of a covariance matrix, the inverse of ``cov_params_to_matrix``.

    Args:
        cov: Symmetric matrix of shape (n, n).

    Returns:
        Lower triangle with the diagonal, row by row, shape (n * (n + 1) / 2,).

    Raises:
        ValueError: If cov is not square or not symmetric.

    Example:
        >>> cov_matrix_to_params([[1, 0.5], [0.5, 2]])
        array([1. , 0.5, 2. ])
    """
    _, (matrix,) = _as_arrays(cov)
    _check_symmetric(matrix, cov, "cov")
    return matrix[np.tril_indices(len(matrix))]


def sdcorr_params_to_sds_and_corr(sdcorr_params: Any) -> tuple[Any, Any]:
    """Split sdcorr parameters into standard deviations and the correlation matrix.

    Args:
        sdcorr_params: n standard deviations, then correlations, shape (n * (n + 1) / 2,).

    Returns:
        Standard deviations, shape (n,), and correlation matrix, shape (n, n).

    Raises:
        ValueError: If sdcorr_params is no vector or its length is no triangular number.

    Example:
        >>> sds, corr = sdcorr_params_to_sds_and_corr([1, 2, 0.25])
        >>> sds.tolist(), corr.tolist()
        ([1.0, 2.0], [[1.0, 0.25], [0.25, 1.0]])
    """
    xp, (entries,) = _as_arrays(sdcorr_params)
    dim = _dimension_of(entries, "sdcorr_params")
    return entries[:dim], _fill(xp, entries[dim:], dim, below=1, rest=1.0)


def sds_and_corr_to_cov(sds: Any, corr: Any) -> Any:
    """Combine standard deviations and correlations: cov[i, j] = sds[i] * sds[j] * corr[i, j].

    Args:
        sds: Standard deviations, shape (n,).
        corr: Correlation matrix, shape (n, n).

    Returns:
        Covariance matrix, shape (n, n).

    Raises:
        ValueError: If sds is no vector, or corr is not of shape (n, n), not symmetric or has a
            diagonal other than 1.

    Example:
        >>> sds_and_corr_to_cov([1, 2], [[1, 0.25], [0.25, 1]])
        array([[1. , 0.5],
               [0.5, 4. ]])
    """
    xp, (deviations, matrix) = _as_arrays(sds, corr)
    if matrix.shape != deviations.shape * 2 or deviations.ndim != 1:
        raise ValueError(
            "sds and corr must have the shapes (n,) and (n, n), but have the shapes "
            f"{deviations.shape} and {matrix.shape}."
        )
    diagonal = _check_symmetric(matrix, corr, "corr")
    for i in np.flatnonzero(abs(diagonal - 1) > _RELATIVE_TOLERANCE):
        raise ValueError(
            f"The diagonal of a correlation matrix is 1, but corr[{i}, {i}] is {diagonal[i]:.6g}. "
            "If corr is a covariance matrix, cov_to_sds_and_corr splits it."
        )
    rows, columns = np.tril_indices(len(matrix))
    lower = deviations[rows] * deviations[columns] * matrix[rows, columns]
    return _fill(xp, lower, len(matrix))


def cov_to_sds_and_corr(cov: Any) -> tuple[Any, Any]:
    """Split a covariance matrix: corr[i, j] = cov[i, j] / (sds[i] * sds[j]).

    What does not vary is taken as uncorrelated with all else. In JAX the derivative of a standard
    deviation of zero by its variance is infinite, as that of the square root.

    Args:
        cov: Covariance matrix, shape (n, n).

    Returns:
        Standard deviations, shape (n,), and correlation matrix, shape (n, n).

    Raises:
        ValueError: If cov is not square, not symmetric or has a negative variance.

    Example:
        >>> sds, corr = cov_to_sds_and_corr([[1, 0.5], [0.5, 4]])
        >>> sds.tolist(), corr.tolist()
        ([1.0, 2.0], [[1.0, 0.25], [0.25, 1.0]])
    """
    xp, (matrix,) = _as_arrays(cov)
    diagonal = _check_symmetric(matrix, cov, "cov")
    for i in np.flatnonzero(diagonal < 0):
        raise ValueError(
            "The diagonal of cov holds variances, which must be zero or positive, but "
            f"cov[{i}, {i}] is {diagonal[i]:.6g}."
        )
    dim = len(matrix)
    rows, columns = np.tril_indices(dim, -1)
    variances = xp.diagonal(matrix)
    # the root of 1 in place of that of 0 keeps the derivatives of the correlations finite
    divisors = xp.sqrt(xp.where(variances == 0, 1.0, variances))
    constant = (variances[rows] == 0) | (variances[columns] == 0)
    # one division after the other, because the product of small deviations may underflow
    ratios = matrix[rows, columns] / divisors[rows] / divisors[columns]
    correlations = xp.where(constant, 0.0, ratios)
    return xp.sqrt(variances), _fill(xp, correlations, dim, below=1, rest=1.0)


def sdcorr_params_to_matrix(sdcorr_params: Any) -> Any:
    """Build a covariance matrix from standard deviations and correlations.

    Args:
        sdcorr_params: n standard deviations, then correlations, shape (n * (n + 1) / 2,).

    Returns:
        Covariance matrix, shape (n, n).

    Raises:
        ValueError: If sdcorr_params is no vector or its length is no triangular number.

    Example:
        >>> sdcorr_params_to_matrix([1, 2, 0.25])
        array([[1. , 0.5],
               [0.5, 4. ]])
    """
    return sds_and_corr_to_cov(*sdcorr_params_to_sds_and_corr(sdcorr_params))


def cov_matrix_to_sdcorr_params(cov: Any) -> Any:
    """Read sdcorr parameters off a matrix, the inverse of ``sdcorr_params_to_matrix``.

    Args:
        cov: Covariance matrix, shape (n, n).

    Returns:
        n standard deviations, then correlations, shape (n * (n + 1) / 2,).

    Raises:
        ValueError: If cov is not square, not symmetric or has a negative variance.

    Example:
        >>> cov_matrix_to_sdcorr_params([[1, 0.5], [0.5, 4]])
        array([1.  , 2.  , 0.25])
    """
    sds, corr = cov_to_sds_and_corr(cov)
    xp, _ = _as_arrays(sds)
    return xp.concatenate([sds, corr[np.tril_indices(len(sds), -1)]])


def number_of_triangular_elements_to_dimension(num: Any) -> int:
    """Return the n for which an n x n matrix has this many entries in its lower triangle.

    Args:
        num: Number of entries, the diagonal included.

    Returns:
        The number of rows and columns.

    Raises:
        ValueError: If num is not of the form n * (n + 1) / 2.

    Example:
        >>> number_of_triangular_elements_to_dimension(6)
        3
    """
    count = _whole(num, "num")
    # n * (n + 1) / 2 = count, solved for n and rounded down, in exact integers
    dim = (math.isqrt(8 * count + 1) - 1) // 2
    below, above = (dimension_to_number_of_triangular_elements(n) for n in (dim, dim + 1))
    if below != count:
        raise ValueError(
            f"No square matrix has {count} entries in its lower triangle: a {dim} x {dim} matrix "
            f"has {below}, a {dim + 1} x {dim + 1} matrix has {above}."
        )
    return dim


def dimension_to_number_of_triangular_elements(dim: Any) -> int:
    """Count the entries in the lower triangle of a square matrix, the diagonal included.

    Args:
        dim: Number of rows and columns, n.

    Returns:
        n * (n + 1) / 2.

    Raises:
        ValueError: If dim is negative or no whole number.

    Example:
        >>> dimension_to_number_of_triangular_elements(3)
        6
    """
    n = _whole(dim, "dim")
    return n * (n + 1) // 2


def _as_arrays(*values: Any) -> tuple[Any, list[Any]]:
    """Return the library that values call for, NumPy or ``jax.numpy``, and values as its floats."""
    if any(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(values)):
        arrays = [jnp.asarray(value) for value in values]
        return jnp, [array.astype(jnp.result_type(array, 1.0)) for array in arrays]
    return np, [np.array(value, dtype=np.float64) for value in values]


def _fill(
    xp: Any, entries: Any, dim: int, *, below: int = 0, rest: float = 0.0, mirror: bool = True
) -> Any:
    """Fill a lower triangle, that starts ``below`` the diagonal, and with mirror the upper one."""
    positions = np.zeros((dim, dim), dtype=np.int64)
    positions[np.tril_indices(dim, -below)] = np.arange(1, len(entries) + 1)
    if mirror:
        positions = np.maximum(positions, positions.T)
    # a gather serves NumPy and JAX alike; position 0 is the number that stands everywhere else
    return xp.concatenate([xp.full(1, rest, dtype=entries.dtype), entries])[positions]


def _dimension_of(entries: Any, name: str) -> int:
    """Return the n of the n x n matrix that a vector of its parameters describes."""
    if entries.ndim != 1:
        raise ValueError(f"{name} must have one dimension, but has shape {entries.shape}.")
    try:
        return number_of_triangular_elements_to_dimension(len(entries))
    except ValueError as error:
        raise ValueError(f"{name} has a wrong length. {error}") from None


def _check_symmetric(matrix: Any, value: Any, name: str) -> Any:
    """Check a matrix, given as array and as written, and return its diagonal as far as known."""
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
        raise ValueError(f"{name} must be a square matrix, but has shape {matrix.shape}.")
    if any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(value)):
        return np.empty(0)
    # what was written: inside jit, JAX traces even conversions of known arrays
    known = np.asarray(value, dtype=np.float64)
    diagonal = np.diagonal(known)
    with np.errstate(all="ignore"):  # infinities and NaN are no asymmetry
        scale = np.maximum(abs(known), np.sqrt(abs(np.outer(diagonal, diagonal))))
        asymmetric = (known != known.T) & (abs(known - known.T) > _RELATIVE_TOLERANCE * scale)
    for i, j in np.argwhere(asymmetric):
        raise ValueError(
            f"{name} must be symmetric, but {name}[{i}, {j}] is {known[i, j]:.6g} and "
            f"{name}[{j}, {i}] is {known[j, i]:.6g}. If this is rounding, pass "
            f"({name} + {name}.T) / 2."
        )
    return diagonal


def _whole(number: Any, name: str) -> int:
    if not (number >= 0 and float(number).is_integer()):
        raise ValueError(f"{name} must be a whole number of at least 0, but is {number!r}.")
    return int(number)
