"""The 22 residual functions of Moré and Wild (2009), doi:10.1137/080724083, in their order.

The number of parameters is the length of ``x``. Numbers that say how many residuals there are
have the values of the benchmark as their defaults. The first eighteen functions are those of Moré,
Garbow and Hillstrom (1981), doi:10.1145/355934.355936. All arrays of JAX are made inside of the
functions, so that they have the precision that is set when these are called.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from optimagic_lite.benchmarking import more_wild_data as data


def linear_full_rank(x: jax.Array, n_residuals: int = 45) -> jax.Array:
    """Return ``x_i - 2 sum(x) / m - 1``, with ``x_i = 0`` for ``i > n``."""
    return jnp.pad(x, (0, n_residuals - x.size)) - 2 * x.sum() / n_residuals - 1


def linear_rank_one(x: jax.Array, n_residuals: int = 35) -> jax.Array:
    """Return ``i sum_j(j x_j) - 1``."""
    return _orders(n_residuals) * (x @ _orders(x.size)) - 1


def linear_rank_one_zero_columns_rows(x: jax.Array, n_residuals: int = 35) -> jax.Array:
    """Return ``(i - 1) sum_j(j x_j) - 1`` with ``1 < j < n``; -1 in the first and last row."""
    total = x[1:-1] @ _orders(x.size)[1:-1]
    return jnp.pad(_orders(n_residuals - 2) * total, 1) - 1


def rosenbrock(x: jax.Array) -> jax.Array:
    """Return the residuals of Rosenbrock's curved valley."""
    return jnp.array([10 * (x[1] - x[0] ** 2), 1 - x[0]])


def helical_valley(x: jax.Array) -> jax.Array:
    """Return the residuals of a valley that winds around the third axis.

    The angle of ``(x_1, x_2)`` runs from -1/4 to 3/4 of a turn, so it jumps where ``x_1 = 0`` and
    ``x_2 < 0``. The angle of `arctan2` would jump at the standard start.
    """
    turn = (np.pi / 2 - jnp.arctan2(x[0], x[1])) / (2 * np.pi)
    return jnp.array([10 * (x[2] - 10 * turn), 10 * (jnp.hypot(x[0], x[1]) - 1), x[2]])


def powell_singular(x: jax.Array) -> jax.Array:
    """Return residuals whose Jacobian is singular at the solution."""
    return jnp.array(
        [
            x[0] + 10 * x[1],
            np.sqrt(5) * (x[2] - x[3]),
            (x[1] - 2 * x[2]) ** 2,
            np.sqrt(10) * (x[0] - x[3]) ** 2,
        ]
    )


def freudenstein_roth(x: jax.Array) -> jax.Array:
    """Return two cubic residuals, which have a root and a local minimum elsewhere."""
    return jnp.array(
        [
            -13 + x[0] + ((5 - x[1]) * x[1] - 2) * x[1],
            -29 + x[0] + ((x[1] + 1) * x[1] - 14) * x[1],
        ]
    )


def bard(x: jax.Array) -> jax.Array:
    """Return ``y_i - x_1 - u_i / (v_i x_2 + w_i x_3)``."""
    y = jnp.asarray(data.BARD)
    u = _orders(y.size)
    v = u[::-1]
    return y - (x[0] + u / (v * x[1] + jnp.minimum(u, v) * x[2]))


def kowalik_osborne(x: jax.Array) -> jax.Array:
    """Return ``y_i - x_1 (u_i^2 + u_i x_2) / (u_i^2 + u_i x_3 + x_4)``."""
    u, y = jnp.asarray(data.KOWALIK_OSBORNE_U), jnp.asarray(data.KOWALIK_OSBORNE_Y)
    return y - x[0] * (u**2 + u * x[1]) / (u**2 + u * x[2] + x[3])


def meyer(x: jax.Array) -> jax.Array:
    """Return ``x_1 exp(x_2 / (t_i + x_3)) - y_i``, a thermistor at ``t_i`` degrees."""
    y = jnp.asarray(data.MEYER)
    t = 45 + 5 * _orders(y.size)
    return x[0] * jnp.exp(x[1] / (t + x[2])) - y


def watson(x: jax.Array) -> jax.Array:
    """Return the residuals of ``p' - p^2 = 1, p(0) = 0``, with ``x`` the polynomial p's."""
    points = _orders(29) / 29
    powers = jnp.vander(points, x.size, increasing=True)
    slopes = powers[:, :-1] @ (_orders(x.size - 1) * x[1:])
    return jnp.append(slopes - (powers @ x) ** 2 - 1, jnp.array([x[0], x[1] - x[0] ** 2 - 1]))


def box_3d(x: jax.Array, n_residuals: int = 10) -> jax.Array:
    """Return ``exp(-t x_1) - exp(-t x_2) - x_3 (exp(-t) - exp(-10 t))`` at ``t = i / 10``."""
    t = _orders(n_residuals) / 10
    return jnp.exp(-t * x[0]) - jnp.exp(-t * x[1]) - x[2] * (jnp.exp(-t) - jnp.exp(-10 * t))


def jennrich_sampson(x: jax.Array, n_residuals: int = 10) -> jax.Array:
    """Return ``2 + 2 i - exp(i x_1) - exp(i x_2)``."""
    i = _orders(n_residuals)
    return 2 + 2 * i - jnp.exp(i * x[0]) - jnp.exp(i * x[1])


def brown_dennis(x: jax.Array, n_residuals: int = 20) -> jax.Array:
    """Return ``(x_1 + t x_2 - exp(t))^2 + (x_3 + x_4 sin(t) - cos(t))^2`` at ``t = i / 5``."""
    t = _orders(n_residuals) / 5
    return (x[0] + t * x[1] - jnp.exp(t)) ** 2 + (x[2] + x[3] * jnp.sin(t) - jnp.cos(t)) ** 2


def chebyquad(x: jax.Array) -> jax.Array:
    """Return errors of a quadrature rule: mean of ``T_i`` at the points ``x`` less its integral.

    ``T_i`` is the Chebyshev polynomial shifted to the interval from 0 to 1, by its recurrence.
    """

    def step(pair: tuple[Any, Any], _: None) -> tuple[tuple[Any, Any], jax.Array]:
        before, now = pair
        return (now, 2 * shifted * now - before), now.mean()

    shifted = 2 * x - 1
    _, means = jax.lax.scan(step, (jnp.ones_like(shifted), shifted), length=x.size)
    even = np.arange(2, x.size + 1, 2)
    integrals = np.zeros(x.size)
    integrals[even - 1] = 1 / (1 - even**2)
    return means - integrals


def brown_almost_linear(x: jax.Array) -> jax.Array:
    """Return ``x_i + sum(x) - n - 1``, and ``prod(x) - 1`` last."""
    return jnp.append(x[:-1] + x.sum() - x.size - 1, x.prod() - 1)


def osborne_one(x: jax.Array) -> jax.Array:
    """Return ``y_i - x_1 - x_2 exp(-t x_4) - x_3 exp(-t x_5)`` at ``t = 10 (i - 1)``."""
    y = jnp.asarray(data.OSBORNE_ONE)
    t = 10 * jnp.arange(y.size)
    return y - (x[0] + x[1] * jnp.exp(-t * x[3]) + x[2] * jnp.exp(-t * x[4]))


def osborne_two(x: jax.Array) -> jax.Array:
    """Return data less an exponential and three bells, at ``t = (i - 1) / 10``."""
    y = jnp.asarray(data.OSBORNE_TWO)
    t = jnp.arange(y.size) / 10
    heights, decay, widths, centres = x[:4], x[4], x[5:8], x[8:]
    bells = jnp.exp(-widths * (t[:, None] - centres) ** 2)
    return y - heights[0] * jnp.exp(-decay * t) - bells @ heights[1:]


def bdqrtic(x: jax.Array) -> jax.Array:
    """Return ``3 - 4 x_i``, then ``x_i^2 + 2 x_i+1^2 + 3 x_i+2^2 + 4 x_i+3^2 + 5 x_n^2``."""
    n, squares = x.size - 4, x**2
    windows = [(k + 1) * squares[k : k + n] for k in range(4)]
    return jnp.append(3 - 4 * x[:n], sum(windows) + 5 * squares[-1])


def cube(x: jax.Array) -> jax.Array:
    """Return ``x_1 - 1``, then ``10 (x_i - x_i-1^3)``."""
    return jnp.append(x[0] - 1, 10 * (x[1:] - x[:-1] ** 3))


def mancino(x: jax.Array) -> jax.Array:
    """Return ``1400 x_i + (i - 50)^3 + sum_j(v_ij (sin(log v_ij)^5 + cos(log v_ij)^5))``.

    In it, ``v_ij = sqrt(x_i^2 + i / j)``.
    """
    terms: jax.Array = _mancino_terms(x, jnp)
    return 1400 * x + terms


def mancino_start(n_params: int) -> np.ndarray:
    """Return the standard start of Mancino's function."""
    terms: np.ndarray = _mancino_terms(np.zeros(n_params), np)
    return -8.710996e-4 * terms


def _mancino_terms(x: Any, xp: Any) -> Any:
    i = xp.arange(1.0, x.size + 1)
    v = xp.sqrt(x[:, None] ** 2 + i[:, None] / i)
    angles = xp.log(v)
    return (i - 50) ** 3 + (v * (xp.sin(angles) ** 5 + xp.cos(angles) ** 5)).sum(axis=1)


def heart_eight(x: jax.Array) -> jax.Array:
    """Return moments of two dipoles less measured ones, as real and imaginary parts in turn.

    Moment k is ``sum_p(s_p z_p^k)``: ``x`` holds the real and imaginary parts of the strengths s,
    then those of the places z.
    """
    strengths = x[0:2] + 1j * x[2:4]
    places = x[4:6] + 1j * x[6:8]
    moments = jnp.array([(strengths * places**k).sum() for k in range(4)])
    errors = moments - jnp.asarray(data.HEART_EIGHT)
    return jnp.stack([errors.real, errors.imag], axis=1).ravel()


def _orders(n: int) -> jax.Array:
    """Return the numbers from 1 to n, as floats."""
    return jnp.arange(1.0, n + 1)
