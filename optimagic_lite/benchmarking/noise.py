"""Noise that is added to test problems."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from optimagic_lite.exceptions import InvalidBenchmarkError, did_you_mean
from optimagic_lite.options import is_real, read_record

Array = NDArray[np.float64]
Distribution = Literal["normal", "gumbel", "uniform", "logistic", "laplace"]

# draws with mean 0 and standard deviation 1
_STANDARD: dict[str, Callable[[np.random.Generator, int], Array]] = {
    "normal": lambda rng, n: rng.normal(size=n),
    "gumbel": lambda rng, n: rng.gumbel(-np.euler_gamma, 1, n) * math.sqrt(6) / math.pi,
    "uniform": lambda rng, n: rng.uniform(-math.sqrt(3), math.sqrt(3), n),
    "logistic": lambda rng, n: rng.logistic(0, math.sqrt(3) / math.pi, n),
    "laplace": lambda rng, n: rng.laplace(0, math.sqrt(0.5), n),
}
assert tuple(_STANDARD) == get_args(Distribution)


@dataclass(frozen=True)
class NoiseOptions:
    """How noise is drawn.

    Args:
        distribution: "normal" (default), "gumbel", "uniform", "logistic" or "laplace".
        std: Standard deviation of one draw; default 0.01.
        mean: Mean of one draw; default 0.
        correlation: Between the draws for any two residuals of one evaluation, from 0 (default)
            to 1. Draws are weighted sums of a common one and an own one then, which have the
            distribution itself only if it is normal.
        clipping_value: Of multiplicative noise: a value below this in absolute terms counts as
            this, because the noise would vanish with it; default 1.

    Raises:
        InvalidBenchmarkError: If a value is not valid.
    """

    distribution: Distribution = "normal"
    std: float = 0.01
    mean: float = 0.0
    correlation: float = 0.0
    clipping_value: float = 1.0

    def __post_init__(self) -> None:
        if self.distribution not in _STANDARD:
            raise InvalidBenchmarkError(
                f"distribution must be one of {', '.join(map(repr, _STANDARD))}, not "
                f"{self.distribution!r}.{did_you_mean(self.distribution, _STANDARD)}"
            )
        ranges = {
            "std": (0, math.inf),
            "mean": (-math.inf, math.inf),
            "correlation": (0, 1),
            "clipping_value": (0, math.inf),
        }
        for name, (least, most) in ranges.items():
            value = getattr(self, name)
            if not (is_real(value) and math.isfinite(value) and least <= value <= most):
                raise InvalidBenchmarkError(
                    f"{name} must be a finite number between {least} and {most}, not {value!r}."
                )

    def draw(self, rng: np.random.Generator, n: int) -> Array:
        """Return n draws that belong to one evaluation.

        Args:
            rng: Where randomness comes from.
            n: Number of draws, one for each residual.
        """
        common, own = math.sqrt(self.correlation), math.sqrt(1 - self.correlation)
        draws = _STANDARD[self.distribution](rng, n + 1)
        return np.asarray(self.mean + self.std * (own * draws[1:] + common * draws[0]))


@dataclass(frozen=True)
class Noise:
    """Additive and multiplicative noise together.

    Args:
        additive: Or None.
        multiplicative: Or None.
    """

    additive: NoiseOptions | None
    multiplicative: NoiseOptions | None

    def on(self, value: Any, rng: np.random.Generator) -> Any:
        """Return a value, or residuals, with noise.

        Args:
            value: A number or an array of shape (n,).
            rng: Where randomness comes from.
        """
        exact = np.atleast_1d(np.asarray(value, dtype=np.float64))
        noisy = exact.copy()
        if self.multiplicative is not None:
            noisy += self.multiplicative.draw(rng, len(exact)) * _away_from_zero(
                exact, self.multiplicative.clipping_value
            )
        if self.additive is not None:
            noisy += self.additive.draw(rng, len(exact))
        return noisy if np.ndim(value) else float(noisy[0])


def read_noise(
    wanted: bool, options: NoiseOptions | Mapping[str, Any] | None, name: str
) -> NoiseOptions | None:
    """Return options of noise, or None if there is none.

    Args:
        wanted: Whether there is noise.
        options: What the user wrote.
        name: Name of the argument, for messages.

    Raises:
        InvalidBenchmarkError: If options are not valid, or given without noise.
    """
    if not wanted:
        if options is not None:
            raise InvalidBenchmarkError(f"{name}_options has an effect only with {name}=True.")
        return None
    return read_record(options, NoiseOptions, InvalidBenchmarkError)


def _away_from_zero(values: Array, least: float) -> Array:
    return np.where(values >= 0, np.maximum(values, least), np.minimum(values, -least))
