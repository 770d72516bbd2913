"""What is decided before the first evaluation: where to look, and how starts are mixed."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from optimagic_lite.exceptions import InvalidMultistartError, warn_user
from optimagic_lite.options import MultistartOptions, is_real
from optimagic_lite.problem import Problem
from optimagic_lite.space.sampling import (
    draw_flat_sample,
    make_sampling_space,
    read_sample,
    to_x_rows,
)
from optimagic_lite.space.space import Space

Array = NDArray[np.float64]

BATCH_SIZE = 4


@dataclass(frozen=True, eq=False)
class Sample:
    """Where a multistart run looks, and how many local optimisations it begins.

    Args:
        xs: Points apart from the start, shape (k, n_x).
        weights: How much the best point counts in the start of each local optimisation; as many as
            there are local optimisations at most.
        with_start: Whether the start is one of the points of the exploration.
    """

    xs: Array
    weights: list[float]
    with_start: bool


def settled(options: MultistartOptions) -> MultistartOptions:
    """Return options whose seed is a number, so that the same sample can be drawn again.

    Args:
        options: As the user gave them. A generator moves on by one number.
    """
    seed = options.seed
    if isinstance(seed, np.random.Generator):
        return replace(options, seed=int(seed.integers(1 << 62)))
    if seed is None:
        return replace(options, seed=secrets.randbits(62))
    return options


def make_sample(problem: Problem, space: Space) -> Sample:
    """Draw the sample of a multistart run, or read the user's.

    Args:
        problem: The problem.
        space: Where its algorithm searches.

    Raises:
        InvalidMultistartError: If that cannot be.
    """
    options = problem.multistart
    assert options is not None
    if options.batch_size is None and options.n_cores > BATCH_SIZE:
        warn_user(
            f"n_cores is {options.n_cores}, but only {BATCH_SIZE} local optimisations run at "
            f"once, so that results do not depend on n_cores. Use batch_size={options.n_cores} "
            "to let all cores optimise."
        )
    if options.sample is not None:
        flats = read_sample(space, options.sample)
        n_samples = len(flats)
    else:
        n_samples = options.n_samples or _default_n_samples(options, space)
        sampling_space = make_sampling_space(problem.params, problem.bounds, problem.constraints)
        flats = draw_flat_sample(
            sampling_space,
            n=n_samples - 1,
            method=options.sampling_method,
            distribution=options.sampling_distribution,
            seed=options.seed,
        )
    n_optimizations = options.stopping_maxopt or max(1, n_samples // 10)
    weights = mixing_weights(options, n_optimizations)
    return Sample(to_x_rows(space, flats), weights, options.sample is None)


def _default_n_samples(options: MultistartOptions, space: Space) -> int:
    if options.stopping_maxopt is not None:
        return 10 * options.stopping_maxopt
    return max(1, 100 * space.n_x)


def mixing_weights(options: MultistartOptions, n: int) -> list[float]:
    """Return how much the best point counts in the start of each of n local optimisations.

    Args:
        options: Name the method and its bounds.
        n: Number of local optimisations.

    Raises:
        InvalidMultistartError: If the user's method fails or returns no weight.
    """
    low, high = options.mixing_weight_bounds
    method = options.mixing_weight_method
    if callable(method):
        return [_called(method, i, n, low, high) for i in range(n)]
    if method == "linear":
        return [low + i / n * (high - low) for i in range(n)]
    return [float(np.clip(np.sqrt(i / n), low, high)) for i in range(n)]


def _called(method: Callable[..., Any], i: int, n: int, low: float, high: float) -> float:
    """Return the weight that a user's method gives."""
    call = f"mixing_weight_method({i}, {n}, {low:g}, {high:g})"
    try:
        weight = method(i, n, low, high)
    except Exception as error:
        raise InvalidMultistartError(
            f"{call} raised {type(error).__name__}: {error}. It is called with the number of the "
            "local optimisation, from 0, how many there are, and the lowest and highest weight."
        ) from error
    if not (is_real(weight) and 0 <= weight <= 1):
        raise InvalidMultistartError(f"{call} must be a number from 0 to 1, not {weight!r}.")
    return float(weight)
