"""Residuals of the Cartis-Roberts set that are differential and integral equations on a grid."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

Residuals = Callable[[jax.Array], jax.Array]


def laplacian(u: jax.Array) -> jax.Array:
    """Return ``2 u[i] - u[i - 1] - u[i + 1]``, summed over axes, with zeros outside."""
    wide = jnp.pad(u, 1)
    inner = [slice(1, -1)] * u.ndim
    neighbours = [
        wide[*inner[:axis], side, *inner[axis + 1 :]]
        for axis in range(u.ndim)
        for side in (slice(2, None), slice(None, -2))
    ]
    return 2 * u.ndim * u - sum(neighbours[1:], neighbours[0])


def boundary_value(x: jax.Array, ahead: int = 0) -> jax.Array:
    """Return the discrete boundary value problem, with the grid ``ahead`` steps further."""
    h = 1 / (len(x) + 1)
    t = np.arange(1, len(x) + 1) * h
    return laplacian(x) + h**2 / 2 * (x + t + ahead * h + 1) ** 3


def boundary_value_ahead(x: jax.Array) -> jax.Array:
    """Discrete boundary value problem, with the grid of the cubes one step ahead (BDVALUES)."""
    return boundary_value(x, ahead=1)


def boundary_value_open(x: jax.Array) -> jax.Array:
    """Discrete boundary value problem with another last equation (MOREBVNE)."""
    return boundary_value(x).at[-1].add(2 * (x[-2] - x[-1]))


def integral_equation(x: jax.Array) -> jax.Array:
    """Discrete integral equation (INTEGREQ)."""
    h = 1 / (len(x) + 1)
    t = np.arange(1, len(x) + 1) * h
    kernel = np.minimum(t, t[:, None]) * (1 - np.maximum(t, t[:, None]))
    return x + h / 2 * jnp.matmul(kernel, (x + t + 1) ** 3)


def bratu(parameter: float, size: int, dim: int) -> Residuals:
    """Bratu's problem on a square or a cube with ``size`` inner points a side."""

    def residuals(x: jax.Array) -> jax.Array:
        u = x.reshape((size,) * dim)
        return (laplacian(u) - parameter / (size + 1) ** 2 * jnp.exp(u)).ravel()

    return residuals


def complex_bratu(x: jax.Array) -> jax.Array:
    """Bratu's problem in complex numbers on a square, with parameter 5 (CBRATU2D)."""
    size = round(np.sqrt(len(x) / 2))
    real, imaginary = u = x.reshape(2, size, size)
    waves = jnp.exp(real) * jnp.stack([jnp.cos(imaginary), jnp.sin(imaginary)])
    return jnp.ravel(jax.vmap(laplacian)(u) - 5 / (size + 1) ** 2 * waves)


def radiative_transfer(x: jax.Array) -> jax.Array:
    """Chandrasekhar's H-equation with parameter 1 (CHANDHEQ)."""
    n = len(x)
    t = np.arange(1, n + 1) / n
    kernel = t[:, None] / (t[:, None] + t) / (2 * n)
    return x - x * jnp.matmul(kernel, x) - 1


def reactor(x: jax.Array) -> jax.Array:
    """Tubular reactor: concentrations, then temperatures (CHEMRCTA)."""
    u, t = x.reshape(2, -1)
    heat = 0.135 * u * jnp.exp(25 - 25 / t)
    return jnp.concatenate([_transported(u, -heat, 1.0), _transported(t, 0.5 * heat, 5.0)])


def reactor_of_temperatures(x: jax.Array) -> jax.Array:
    """Tubular reactor in which concentrations follow from temperatures (CHEMRCTB)."""
    return _transported(x, 0.135 * (1.5 - x) * jnp.exp(25 - 25 / x), 5.0)


def _transported(x: jax.Array, made: jax.Array, peclet: float) -> jax.Array:
    """Return diffusion, flow and production at inner points, and the conditions at both ends."""
    h = 1 / (len(x) - 1)
    diffusion = (x[:-2] - 2 * x[1:-1] + x[2:]) / (h**2 * peclet)
    flow = (x[:-2] - x[1:-1]) / h
    first = h * peclet * (1 - x[1]) - x[0]
    return jnp.concatenate([first[None], diffusion + flow + made[1:-1], (x[-1] - x[-2])[None]])


def semiconductor(x: jax.Array) -> jax.Array:
    """Potential in a semiconductor with a jump at nine tenths of its length (SEMICON2)."""
    n, share, beta = len(x), 0.2, 40.0
    left, right, densities = 0.0, share * 700.0, (1e12, 1e13)
    weight = share * (1e-4 / (n + 1)) ** 2
    carriers = densities[0] * jnp.exp(-share * beta * (x - left)) - densities[1] * jnp.exp(
        share * beta * (x - right)
    )
    doping = np.where(np.arange(1, n + 1) <= 9 * n // 10, -densities[0], densities[1])
    ends = np.zeros(n)
    ends[0], ends[-1] = left, right
    return weight * (carriers + doping) - laplacian(x) + ends


def driven_cavity(reynolds: float) -> Residuals:
    """Stream function of a flow in a driven cavity (DRCAVTY1 to DRCAVTY3)."""

    def residuals(x: jax.Array) -> jax.Array:
        size = round(np.sqrt(len(x)))
        frame = np.zeros((size + 4, size + 4))
        frame[-2:] = np.array([[-0.5], [0.5]]) / (size + 2)
        y = jnp.asarray(frame).at[2:-2, 2:-2].set(x.reshape(size, size))

        def at(i: int, j: int) -> jax.Array:
            return y[2 + i : 2 + i + size, 2 + j : 2 + j + size]

        def flow(d: Callable[[int, int], jax.Array]) -> jax.Array:
            """Return the change along the second axis times that of the vorticity."""
            gradient = d(0, 1) - d(0, -1)
            before = d(-2, 0) + d(-1, -1) + d(-1, 1) - 4 * d(-1, 0)
            after = d(2, 0) + d(1, -1) + d(1, 1) - 4 * d(1, 0)
            return gradient * (before - after)

        sides = at(-1, 0) + at(1, 0) + at(0, -1) + at(0, 1)
        corners = at(-1, -1) + at(-1, 1) + at(1, -1) + at(1, 1)
        far = at(-2, 0) + at(2, 0) + at(0, -2) + at(0, 2)
        turned = flow(lambda i, j: at(j, i))
        return (20 * at(0, 0) - 8 * sides + 2 * corners + far).ravel() + (
            reynolds / 4 * (flow(at) - turned)
        ).ravel()

    return residuals


def inclined_enclosure(
    rayleigh: float, top: tuple[float, float, float], bottom: tuple[float, float, float]
) -> Residuals:
    """Flow in an inclined enclosure on a grid of 5 by 5 points (FLOSP2HH to FLOSP2TM).

    Args:
        rayleigh: Rayleigh number.
        top: Factor of the slope of the temperature at the upper wall, of the temperature there,
            and what both add up to.
        bottom: The same at the lower wall.
    """
    per_h = 2.0  # one over the distance of points

    def residuals(x: jax.Array) -> jax.Array:
        vorticity, heat = x[:50].reshape(2, 5, 5)
        stream = jnp.ones((5, 5)).at[1:-1, 1:-1].set(x[50:].reshape(3, 3))

        def inner(u: jax.Array) -> jax.Array:
            around = u[2:, 1:-1] + u[:-2, 1:-1] + u[1:-1, 2:] + u[1:-1, :-2]
            return per_h**2 * (around - 4 * u[1:-1, 1:-1])

        def along(u: jax.Array, axis: int) -> jax.Array:
            return u[2:, 1:-1] - u[:-2, 1:-1] if axis == 0 else u[1:-1, 2:] - u[1:-1, :-2]

        turning = along(stream, 0) * along(heat, 1) - along(stream, 1) * along(heat, 0)
        parts = [
            inner(vorticity) - rayleigh / 4 * per_h * along(heat, 1),
            inner(stream) + vorticity[1:-1, 1:-1] / 4,
            inner(heat) + per_h**2 / 4 * turning,
            _walls(heat, per_h, top, bottom),
            _walls(-stream, per_h, (1, 0, 0), (1, 0, 0)),
        ]
        return jnp.concatenate([part.ravel() for part in parts])

    return residuals


def _walls(
    u: jax.Array,
    per_h: float,
    top: tuple[float, float, float],
    bottom: tuple[float, float, float],
) -> jax.Array:
    """Return the conditions at the four walls; at the corners those of two walls add up."""
    required = np.zeros((5, 5))
    # the SIF file overwrites what is required at three of the four corners
    required[1:-1, -1], required[1:, 0] = top[2], bottom[2]
    upper = 2 * per_h * top[0] * (u[:, -1] - u[:, -2]) + top[1] * u[:, -1]
    lower = 2 * per_h * bottom[0] * (u[:, 1] - u[:, 0]) + bottom[1] * u[:, 0]
    right, left = 2 * per_h * (u[-1] - u[-2]), 2 * per_h * (u[1] - u[0])
    nothing = [jnp.zeros(5)] * 3
    rows = jnp.stack([lower, *nothing, upper], 1) + jnp.stack([left, *nothing, right]) - required
    return rows[np.nonzero(np.pad(np.zeros((3, 3)), 1, constant_values=1))]
