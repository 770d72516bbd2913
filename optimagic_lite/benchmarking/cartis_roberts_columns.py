"""Residuals of the Cartis-Roberts set that are balances of distillation columns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


@dataclass(frozen=True)
class Column:
    """A distillation column of Fletcher's, in equilibrium (Moré 1989, problem 2).

    Stages are counted from the bottom. The parameters are, stage by stage, the temperature and
    the liquid fractions of all components, and then the flows of vapour between stages.

    Attributes:
        antoine: Three coefficients of the vapour pressure, a tuple of components each.
        liquid: Coefficients of the heat of the liquid, from the constant to the square.
        vapour: Coefficients of the heat of the vapour, likewise.
        feed: What is fed of each component.
        feed_temperature: Temperature of the feed.
        bottom: Flow out of the bottom.
        top: Flow out of the top.
        heat: Heat that is put in at the bottom.
        stage: Where the column is fed.
        pressures: Pressure at each stage.
    """

    antoine: tuple[tuple[float, ...], ...]
    liquid: tuple[tuple[float, ...], ...]
    vapour: tuple[tuple[float, ...], ...]
    feed: tuple[float, ...]
    feed_temperature: float
    bottom: float
    top: float
    heat: float
    stage: int
    pressures: tuple[float, ...]


def balances(column: Column) -> Callable[[jax.Array], jax.Array]:
    """Return the balances of a column: material, reflux, pressure and heat."""
    n, m = len(column.pressures), len(column.feed)
    a, b, c = map(np.array, column.antoine)
    is_below = np.arange(1, n) <= column.stage
    is_fed = np.arange(n - 1) == column.stage
    feed = is_fed[:, None] * np.array(column.feed)
    feed_heat = feed @ _heat(column.liquid, column.feed_temperature)

    def residuals(x: jax.Array) -> jax.Array:
        stages, vapour_flow = x[: n * (m + 1)].reshape(n, m + 1), x[n * (m + 1) :, None]
        temperature, liquid = stages[:, :1], stages[:, 1:]
        vapour = liquid * jnp.exp(a + b / (temperature + c)) / np.array(column.pressures)[:, None]
        liquid_flow = vapour_flow + np.where(is_below, column.bottom, -column.top)[:, None]

        up, down = vapour_flow * vapour[:-1], liquid_flow * liquid[1:]
        out = column.bottom * liquid[:1]
        warm, cold = _heat(column.vapour, temperature), _heat(column.liquid, temperature)
        material = _balance(up - down, -out)
        energy = _balance(up * warm[:-1] - down * cold[1:], -out * cold[:1])
        supplied = feed_heat + np.append(column.heat, np.zeros(n - 2))
        return jnp.concatenate(
            [
                (material - feed).ravel() / 1e2,
                vapour[-2] - liquid[-1],
                jnp.sum(vapour, axis=1) - 1,
                (jnp.sum(energy, axis=1) - supplied) / 1e5,
            ]
        )

    return residuals


def _balance(upward: jax.Array, below: jax.Array) -> jax.Array:
    """Return what flows out of each stage above it, less what comes from the stage below."""
    return jnp.diff(jnp.concatenate([below, upward]), axis=0)


def _heat(coefficients: tuple[tuple[float, ...], ...], temperature: Any) -> Any:
    constant, slope, square = map(np.array, coefficients)
    return constant + slope * temperature + square * temperature**2


_ZEROS = (0.0, 0.0, 0.0)


def hydrocarbon(stages: int, stage: int) -> Column:
    """Return the column that parts three hydrocarbons (HYDCAR6, HYDCAR20)."""
    return Column(
        antoine=((9.647, 9.953, 9.466), (-2998.0, -3448.10, -3347.25), (230.66, 235.88, 215.31)),
        liquid=(_ZEROS, (37.6, 48.2, 45.4), _ZEROS),
        vapour=((8425.0, 9395.0, 10466.0), (24.2, 35.6, 31.9), _ZEROS),
        feed=(30.0, 30.0, 40.0),
        feed_temperature=100.0,
        bottom=40.0,
        top=60.0,
        heat=2.5e6,
        stage=stage,
        pressures=(1.0,) * stages,
    )


def methanol() -> Column:
    """Return the column that parts methanol from water (METHANB8, METHANL8)."""
    return Column(
        antoine=((18.5751, 18.3443), (-3632.649, -3841.2203), (239.2, 228.0)),
        liquid=((0.0, 0.0), (15.97, 18.1), (0.0422, 0.0)),
        vapour=((9566.67, 10834.67), (-1.59, 8.74), (0.0422, 0.0)),
        feed=(451.25, 684.25),
        feed_temperature=89.0,
        bottom=693.37,
        top=442.13,
        heat=8386200.0,
        stage=2,
        pressures=tuple(1210.0 - 10 * i for i in range(8)),
    )
