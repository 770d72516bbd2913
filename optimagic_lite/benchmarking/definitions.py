"""What a test problem is, as the literature defines it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax


@dataclass(frozen=True)
class Definition:
    """A test problem as the literature defines it.

    Attributes:
        fun: Residuals as a function of the parameters, from shape (n_params,) to shape (n,), in
            JAX; the criterion is their sum of squares. Where ``is_scalar`` is True, the criterion
            itself. Pure, and fit for any number of parameters for which the source defines it.
        start: Standard start, n_params numbers.
        start_value: Published value of the criterion at the start.
        value: Published smallest value of the criterion; None where none is known.
        solution: A point where that value is reached, n_params numbers; None where a continuum
            of points reaches it, or none is known.
        source: Where the problem is defined: author, year and number there.
        note: Which source was believed where sources differ, and what of all this was computed.
        is_scalar: Whether ``fun`` returns the criterion itself and not residuals.
        bounds: Lower and upper bounds, n_params numbers each; None without any.
    """

    fun: Callable[[jax.Array], jax.Array]
    start: tuple[float, ...]
    start_value: float | None
    value: float | None
    solution: tuple[float, ...] | None
    source: str
    note: str = ""
    is_scalar: bool = False
    bounds: tuple[tuple[float, ...], tuple[float, ...]] | None = None

    def __post_init__(self) -> None:
        for name in ("start", "solution"):
            value: Any = getattr(self, name)
            if value is not None:
                object.__setattr__(self, name, tuple(float(number) for number in value))
