"""Residuals of the Cartis-Roberts set that are sums, products, chains and bands of parameters."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np


def argtrig(x: jax.Array) -> jax.Array:
    """Trigonometric system with a sum over all parameters (ARGTRIG)."""
    i = np.arange(1.0, len(x) + 1)
    return (jnp.cos(x) + jnp.sin(x)) * i + jnp.sum(jnp.cos(x)) - (len(x) + i)


def artif(x: jax.Array) -> jax.Array:
    """Arcs of sines of different frequency, with linear neighbours (ARTIF)."""
    wide = jnp.pad(x, 1)
    waves = jnp.arctan(jnp.sin(np.arange(1.0, len(x) + 1) % 100 * x))
    return waves - 0.05 * (wide[:-2] + x + wide[2:])


def arwhdne(x: jax.Array) -> jax.Array:
    """Arrowhead: each parameter meets only the last one (ARWHDNE)."""
    return jnp.concatenate([x[:-1] ** 2 + x[-1] ** 2, 4 * x[:-1] - 3])


def broyden_tridiagonal(x: jax.Array) -> jax.Array:
    """Tridiagonal system of Broyden (BROYDN3D)."""
    wide = jnp.pad(x, 1)
    return (3 - 2 * x) * x - wide[:-2] - 2 * wide[2:] + 1


def broyden_banded(x: jax.Array) -> jax.Array:
    """Banded system of Broyden, with squares and cubes as the SIF file has them (BROYDNBD)."""
    n = len(x)
    i, j = np.indices((n, n))
    below, above = (i - 5 <= j) & (j < i), (i < j) & (j <= i + 1)
    middle = (np.arange(n) >= 5) & (np.arange(n) < n - 2)
    squares, cubes = x**2, x**3
    own = 2 * x + 5 * jnp.where(middle, squares, cubes)
    lower = jnp.where(middle, (below * 1.0) @ (x + cubes), (below * 1.0) @ (x + squares))
    return own - lower - (above * 1.0) @ (x + squares)


# Weights of the chained Rosenbrock function (Toint 1978).
_CHAIN = np.array(
    [
        1.25, 1.40, 2.40, 1.40, 1.75, 1.20, 2.25, 1.20, 1.00, 1.10,
        1.50, 1.60, 1.25, 1.25, 1.20, 1.20, 1.40, 0.50, 0.50, 1.25,
        1.80, 0.75, 1.25, 1.40, 1.60, 2.00, 1.00, 1.60, 1.25, 2.75,
        1.25, 1.25, 1.25, 3.00, 1.50, 2.00, 1.25, 1.40, 1.80, 1.50,
        2.20, 1.40, 1.50, 1.25, 2.00, 1.50, 1.25, 1.40, 0.60, 1.50,
    ]
)  # fmt: skip


def chained_rosenbrock(x: jax.Array) -> jax.Array:
    """Rosenbrock's valley, chained with weights; up to 50 parameters (CHNRSBNE)."""
    return jnp.concatenate([4 * _CHAIN[1 : len(x)] * (x[:-1] - x[1:] ** 2), x[1:] - 1])


def freudenstein_roth(x: jax.Array) -> jax.Array:
    """Function of Freudenstein and Roth, chained (FREURONE)."""
    a, b = x[:-1], x[1:]
    return jnp.concatenate(
        [a - 2 * b + (5 - b) * b**2 - 13, a - 14 * b + (1 + b) * b**2 - 29],
    )


def hatfldg(x: jax.Array) -> jax.Array:
    """Products of neighbours with one parameter, the thirteenth, in all rows (HATFLDG)."""
    first, last = -x[0] * x[1], x[-2] * x[-1]
    products = jnp.concatenate([first[None], x[1:-1] * (x[:-2] - x[2:]), last[None]])
    return products + x - x[12] + 1


def oscillating_path(x: jax.Array) -> jax.Array:
    """Gradient of Nesterov's oscillating path with weight 500 (OSCIGRNE)."""
    steps = x[1:] - 2 * x[:-1] ** 2 + 1
    return jnp.append((x[0] - 1) / 2, 1000 * steps) - jnp.append(2000 * steps * x[:-1], 0.0)


def penalty_1(x: jax.Array) -> jax.Array:
    """First penalty function with weight 1e-5 on residuals (PENLT1NE)."""
    return jnp.append(1e-5 * (x - 1), x @ x - 0.25)


def penalty_2(x: jax.Array) -> jax.Array:
    """Second penalty function (PENLT2NE)."""
    n, weight = len(x), 1e-5
    powers, y = jnp.exp(x / 10), np.exp(np.arange(1, n + 1) / 10)
    return jnp.concatenate(
        [
            x[:1] - 0.2,
            weight * (powers[1:] + powers[:-1] - (y[1:] + y[:-1])),
            weight * (powers[1:] - np.exp(-0.1)),
            (np.arange(n, 0.0, -1) @ x**2 - 1)[None],
        ]
    )


def powell_singular(x: jax.Array) -> jax.Array:
    """Powell's singular function with the weights of CUTEst, 5 and 10 (POWELLSE)."""
    a, b, c, d = x.reshape(-1, 4).T
    return jnp.concatenate([a + 10 * b, 5 * (c - d), (b - 2 * c) ** 2, 10 * (a - d) ** 2])


def variably_dimensioned(x: jax.Array) -> jax.Array:
    """Variably dimensioned function (VARDIMNE)."""
    total = np.arange(1.0, len(x) + 1) @ (x - 1)
    return jnp.append(x - 1, jnp.stack([total, total**2]))


def yatp_1(x: jax.Array) -> jax.Array:
    """Square system with row and column sums of sin(x) / x (YATP1SQ)."""
    body, shifts = _table(x)
    rows = body**3 - 10 * body**2 - shifts * (body * jnp.cos(body) - jnp.sin(body))
    return _with_sums(rows, jnp.sin(body) / body)


def yatp_2(x: jax.Array) -> jax.Array:
    """Square system with row and column sums of x + sin(x) (YATP2SQ)."""
    body, shifts = _table(x)
    return _with_sums(body - shifts * (1 + jnp.cos(body)) - 1, body + jnp.sin(body))


def _table(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return the entries of a square table and, as a column, the sum of two shifts of a row."""
    size = round(np.sqrt(len(x) + 1)) - 1
    shifts = x[size**2 :].reshape(2, size, 1)
    return x[: size**2].reshape(size, size), shifts[0] + shifts[1]


def _with_sums(rows: jax.Array, terms: jax.Array) -> jax.Array:
    return jnp.concatenate([rows.ravel(), jnp.sum(terms, axis=0) - 1, jnp.sum(terms, axis=1) - 1])
