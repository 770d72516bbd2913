"""Residuals of the Cartis-Roberts set that are equations of matrices."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Residuals = Callable[[jax.Array], jax.Array]


def sines(size: int) -> Array:
    """Return the square matrix of the sines of 1, 4, 9, ..., row by row."""
    return np.reshape(np.sin(np.arange(1.0, size**2 + 1) ** 2), (size, size))


def band_of_sines(size: int) -> Array:
    """Return the tridiagonal matrix of the sines of 1, 4, 9, ..., row by row."""
    matrix = np.zeros((size, size))
    rows, columns = band(size, 1)
    matrix[rows, columns] = np.sin(np.arange(1.0, len(rows) + 1) ** 2)
    return matrix


def band(size: int, width: int) -> tuple[NDArray[np.intp], ...]:
    """Return rows and columns of the entries at most ``width`` beside the diagonal."""
    i, j = np.indices((size, size))
    return np.nonzero(np.abs(i - j) <= width)


def square_root(target: Array) -> Residuals:
    """Square root of a matrix (MSQRTA, MSQRTB)."""

    def residuals(x: jax.Array) -> jax.Array:
        root = x.reshape(target.shape)
        return jnp.ravel(jnp.matmul(root, root) - target @ target)

    return residuals


def band_square_root(target: Array) -> Residuals:
    """Tridiagonal square root of a matrix (SPMSQRT)."""
    size = len(target)

    def residuals(x: jax.Array) -> jax.Array:
        root = jnp.zeros((size, size)).at[band(size, 1)].set(x)
        return (root @ root - target @ target)[band(size, 2)]

    return residuals


def eigenvalues(target: Array) -> Residuals:
    """Eigenvalues and, row by row, eigenvectors of a symmetric matrix (EIGENA, EIGENB)."""
    size = len(target)
    half = np.triu_indices(size)

    def residuals(x: jax.Array) -> jax.Array:
        values, vectors = x[:size], x[size:].reshape(size, size)
        spectral = vectors.T @ (values[:, None] * vectors) - target
        return jnp.concatenate([spectral[half], (vectors.T @ vectors - np.eye(size))[half]])

    return residuals


def orthogonal_triangular(target: Array, width: int) -> Residuals:
    """Orthogonal matrix and upper triangle ``width`` wide of a product (QR3D, QR3DBD)."""
    size = len(target)
    half, entries = np.triu_indices(size), upper_band(size, width)

    def residuals(x: jax.Array) -> jax.Array:
        q = x[: size**2].reshape(size, size)
        r = jnp.zeros((size, size)).at[entries].set(x[size**2 :])
        return jnp.concatenate([(q @ q.T - np.eye(size))[half], (q @ r - target).ravel()])

    return residuals


def upper_band(size: int, width: int) -> tuple[NDArray[np.intp], ...]:
    """Return rows and columns of the entries from the diagonal to ``width`` right of it."""
    i, j = np.indices((size, size))
    return np.nonzero((i <= j) & (j <= i + width))


def qr_target(size: int) -> Array:
    """Return the tridiagonal matrix that QR3D and QR3DBD factorise."""
    i = np.arange(1.0, size + 1)
    matrix = np.diag(2 * i) + np.diag(1 - i[1:], -1) + np.diag(1 - i[:-1], 1)
    matrix[-1, -1] = 2 * size**2
    return matrix / size
