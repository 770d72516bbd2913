"""The affine scale of x."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from optimagic_lite.exceptions import InvalidScalingError, listed
from optimagic_lite.options import ScalingOptions
from optimagic_lite.space.transforms import without_rounding

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Scale:
    """``unscaled = x * factor + offset``, entry by entry.

    Args:
        factor: Positive, shape (n_x,).
        offset: Shape (n_x,).
        lower: Unscaled lower bounds, which rounding must not break, shape (n_x,).
        upper: Unscaled upper bounds, shape (n_x,).
    """

    factor: Array
    offset: Array
    lower: Array
    upper: Array

    @property
    def products(self) -> Array:
        """Products of all pairs of factors, shape (n_x, n_x)."""
        return np.outer(self.factor, self.factor)

    def unscaled(self, x: Array) -> Array:
        """Undo the scale."""
        return np.clip(x * self.factor + self.offset, self.lower, self.upper)

    def trace_unscaled(self, x: jax.Array) -> jax.Array:
        """Undo the scale of a traced x."""
        values = x * jnp.asarray(self.factor) + jnp.asarray(self.offset)
        return without_rounding(values, self.lower, self.upper)

    def scaled(self, values: Array) -> Array:
        """Return x."""
        return (values - self.offset) / self.factor


def make_scale(
    start: Any,
    lower: Array,
    upper: Array,
    names: Sequence[str],
    options: ScalingOptions,
    xp: Any = np,
) -> Scale:
    """Work out factors and offsets.

    Args:
        start: Unscaled start, shape (n_x,); it may be traced.
        lower: Unscaled lower bounds.
        upper: Unscaled upper bounds.
        names: How to call entries in messages.
        options: Method and numbers.
        xp: NumPy, or jax.numpy for a traced start.

    Raises:
        InvalidScalingError: If the method is "bounds" and some are not finite.
    """
    if options.method == "start_values":
        size = xp.maximum(xp.abs(start), options.clipping_value)
        return Scale(size / options.magnitude, np.zeros(len(start)), lower, upper)
    missing = np.flatnonzero(~(np.isfinite(lower) & np.isfinite(upper)))
    if len(missing):
        raise InvalidScalingError(
            "Scaling by bounds needs a finite lower and upper bound for each free parameter. They "
            f"are missing for {listed([names[i] for i in missing.tolist()])}. Use "
            "om.ScalingOptions(method='start_values')."
        )
    return Scale((upper - lower) / options.magnitude, lower.copy(), lower, upper)
