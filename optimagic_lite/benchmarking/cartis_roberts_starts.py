"""Standard starts of the Cartis-Roberts set that are more than a few numbers."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from optimagic_lite.benchmarking.cartis_roberts_matrices import qr_target, upper_band

Array = NDArray[np.float64]


def parabola(n: int) -> Array:
    """Return ``t (t - 1)`` at inner points of a grid from 0 to 1."""
    t = np.arange(1, n + 1) / (n + 1)
    return t * (t - 1)


def zigzag() -> Array:
    """Return the start of problems 15 to 17 of Lukšan (1996)."""
    return np.tile([-0.8, 1.2, -1.2, 0.8], 25)


def qr3d(size: int, width: int) -> Array:
    """Return the identity and the upper part of the matrix, row by row."""
    return np.append(np.eye(size), qr_target(size)[upper_band(size, width)])


def hydcar20() -> Array:
    """Return the start of the column with 20 stages."""
    light = [0, 0, 1, 2, 5, 7, 9, 10, 15, 20, 25, 30, 35, 40, 40, 42, 45, 45, 50, 50]
    middle = [30, 30, 30, 40, 40, 45, 50, 50, 50, 50, 60, 60, 60, 60, 70, 70, 75, 75, 80, 80]
    heavy = [10, 90, 90, 80, 80, 80, 70, 70, 60, 60, 50, 50, 50, 40, 40, 30, 30, 20, 10, 0]
    return _column([100] * 20, np.array([light, middle, heavy]).T / 100, [300] * 19)


def hydcar6() -> Array:
    """Return the start of the column with 6 stages."""
    light, middle, heavy = [0, 0, 5, 10, 30, 60], [20, 20, 30, 30, 50, 60], [90, 80, 80, 60, 30, 0]
    return _column([100] * 6, np.array([light, middle, heavy]).T / 100, [300] * 5)


def methanb8() -> Array:
    """Return the start near the solution of the methanol column."""
    return _methanol([107.47, 102.4, 97.44, 96.3, 93.99, 89.72, 83.71, 78.31])


def methanl8() -> Array:
    """Return the start far from the solution of the methanol column."""
    return _methanol([120, 110, 100, 88, 86, 84, 80, 76])


def _methanol(temperatures: list[float]) -> Array:
    methanol = [0.09203, 0.1819, 0.284, 0.3051, 0.3566, 0.468, 0.6579, 0.8763]
    water = [0.908, 0.8181, 0.716, 0.6949, 0.6434, 0.532, 0.3421, 0.1237]
    flows = [886.37, 910.01, 922.52, 926.46, 935.56, 952.83, 975.73]
    return _column(temperatures, np.array([methanol, water]).T, flows)


def _column(temperatures: list[float], fractions: Array, flows: list[float]) -> Array:
    return np.append(np.column_stack([temperatures, fractions]), flows)
