"""Residuals of the Cartis-Roberts set that stem from Lukšan (1996)."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from optimagic_lite.benchmarking.cartis_roberts_grids import boundary_value


def serpentine(x: jax.Array) -> jax.Array:
    """Chained serpentine (problem 11)."""
    a, b = x[:-1], x[1:]
    return jnp.concatenate([20 * a / (1 + a**2) - 10 * b, a - 1])


def hs47(x: jax.Array) -> jax.Array:
    """Chained and modified problem 47 of Hock and Schittkowski (problem 12)."""
    a, b, c, d, e = _windows(x, 5, 3)
    return jnp.concatenate(
        [
            10 * (a**2 - b),
            c - 1,
            (d - 1) ** 2,
            (e - 1) ** 3,
            a**2 * d + jnp.sin(d - e) - 10,
            b + c**4 * d**2 - 20,
        ]
    )


def hs48(x: jax.Array) -> jax.Array:
    """Chained and modified problem 48 of Hock and Schittkowski (problem 13)."""
    a, b, c, d, e = _windows(x, 5, 3)
    return jnp.concatenate(
        [
            10 * (a**2 - b),
            10 * (b**2 - c),
            (c - d) ** 2,
            (d - e) ** 2,
            a + b**2 + c - 30,
            b - c**2 + d - 10,
            a * e - 10,
        ]
    )


def hs53(x: jax.Array) -> jax.Array:
    """Chained and modified problem 53 of Hock and Schittkowski (problem 14)."""
    a, b, c, d, e = _windows(x, 5, 3)
    return jnp.concatenate(
        [
            10 * (a**2 - b),
            b + c - 2,
            d - 1,
            e - 1,
            a + 3 * b,
            c + d - 2 * e,
            10 * (b**2 - e),
        ]
    )


def signomial(x: jax.Array) -> jax.Array:
    """Sparse signomial (problem 15)."""
    a, b, c, d = _windows(x, 4, 2)
    base = jnp.abs(a * b**2 * c**3 * d**4)[:, None, None]
    return _fitted(base ** (1 / (_P * _L)) * (_P**2 / _L))


def exponential(x: jax.Array) -> jax.Array:
    """Sparse exponential (problem 16)."""
    a, b, c, d = _windows(x, 4, 2)
    power = (a + 2 * b + 3 * c + 4 * d)[:, None, None]
    return _fitted(jnp.exp(power / (_P * _L)) * (_P**2 / _L))


def trigonometric(x: jax.Array) -> jax.Array:
    """Sparse trigonometric (problem 17)."""
    windows = jnp.stack(_windows(x, 4, 2))
    q, rows = np.arange(1.0, 5), np.arange(1.0, 5)[:, None]
    cosines, sines = jnp.cos(windows), jnp.sin(windows)
    modelled = jnp.matmul(rows**2 * q, cosines) - jnp.matmul(rows * q**2, sines)
    return jnp.ravel(modelled - np.array([[30.6], [72.2], [124.4], [187.4]]))


def modified_boundary_value(x: jax.Array) -> jax.Array:
    """Modified discrete boundary value problem (problem 21)."""
    return boundary_value(x) + 1


def attracting_repelling(x: jax.Array) -> jax.Array:
    """Attracting and repelling neighbours (problem 22)."""
    a, b, c = x[:-2], x[1:-1], x[2:]
    return jnp.concatenate(
        [
            x[:1] - 1,
            10 * (a**2 - b),
            2 * jnp.exp(-((a - b) ** 2)) + jnp.exp(-2 * (b - c) ** 2),
            10 * x[-2:-1] ** 2,
        ]
    )


# Data of problems 15 and 16 have four rows (l) and three terms in each (p).
_L, _P = np.arange(1.0, 5)[:, None], np.arange(1.0, 4)


def _fitted(terms: jax.Array) -> jax.Array:
    return (jnp.sum(terms, axis=-1) - np.array([35.8, 11.2, 6.2, 4.4])).ravel()


def _windows(x: jax.Array, size: int, step: int) -> list[jax.Array]:
    """Return the first, second, ... members of all windows that begin ``step`` apart."""
    last = len(x) - size
    return [x[k : last + k + 1 : step] for k in range(size)]
