"""Problems of the CUTEst collection, as the package sif2jax has them in JAX."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from numpy.typing import NDArray

from optimagic_lite.benchmarking.definitions import Definition
from optimagic_lite.exceptions import NotInstalledError

_LARGEST = 100

_NOTE = (
    "sif2jax expects a smallest value of {value}. Such values are not reliable: for 25 of 62"
    " problems with bounds it is not the best one that algorithms find. So runs are judged by the"
    " best value that any algorithm found."
)
_NOTE_NO_VALUE = "Runs are judged by the best value that any algorithm found."


@functools.cache
def cutest_problems() -> dict[str, Definition]:
    """Return the problems of CUTEst of up to 100 parameters, without constraints or with bounds.

    The first call takes a minute or more: ``import sif2jax`` builds the matrices of all problems
    of the collection, also of those that are not asked for here, and it offers no way to import
    only some. Later calls cost nothing.

    Starts are moved into the bounds where they lie outside. Smallest values are not given: those
    that sif2jax expects are not reliable. They stand in the notes of the problems.

    Returns:
        By name in lower case, problems whose function returns the criterion itself.

    Raises:
        NotInstalledError: If sif2jax is not installed.

    Example:
        >>> problem = cutest_problems()["rosenbr"]  # doctest: +SKIP
        >>> problem.start  # doctest: +SKIP
        (-1.2, 1.0)
    """
    # at its import, too, sif2jax makes arrays that must not be rounded to single precision
    with jax.enable_x64(True):
        sif2jax = _import()
        found = itertools.chain(
            sif2jax.unconstrained_minimisation_problems, sif2jax.bounded_minimisation_problems
        )
        definitions = ((problem.name.lower(), _definition(problem)) for problem in found)
        return {name: definition for name, definition in definitions if definition is not None}


def _import() -> ModuleType:
    try:
        import sif2jax
    except ImportError as error:
        raise NotInstalledError(
            "The problems of CUTEst need sif2jax, which is not installed: "
            "pip install 'optimagic_lite[cutest]'."
        ) from error
    found: ModuleType = sif2jax
    return found


def _definition(problem: Any) -> Definition | None:
    """Return a problem; None if it has more parameters than are asked for."""
    if jax.eval_shape(lambda: ravel_pytree(problem.y0)[0]).size > _LARGEST:
        return None
    start, unravel = ravel_pytree(jax.tree.map(_to_floats, problem.y0))
    lower, upper = _bounds(problem)
    value = problem.expected_objective_value
    return Definition(
        fun=_criterion(problem, unravel),
        start=tuple(np.clip(start, lower, upper)),
        start_value=None,
        value=None,
        solution=None,
        source=f"CUTEst (Gould, Orban and Toint 2015), problem {problem.name}, from sif2jax",
        note=_NOTE_NO_VALUE if value is None else _NOTE.format(value=float(value)),
        is_scalar=True,
        bounds=None if np.isinf([lower, upper]).all() else (tuple(lower), tuple(upper)),
    )


def _criterion(problem: Any, unravel: Callable[[jax.Array], Any]) -> Callable[..., jax.Array]:
    return lambda x: jnp.reshape(problem.objective(unravel(x), problem.args), ())


def _bounds(problem: Any) -> NDArray[np.float64]:
    """Return lower and upper bounds, a row each; infinite where there are none."""
    bounds = getattr(problem, "bounds", None) or (-np.inf, np.inf)
    return np.array([_like_start(problem, side) for side in bounds])


def _like_start(problem: Any, side: Any) -> jax.Array:
    """Return one side of the bounds as a vector; one number may stand for a whole array."""
    leaves = jax.tree.leaves(side)
    if len(leaves) == 1:
        side = jax.tree.map(lambda _: leaves[0], problem.y0)
    full = jax.tree.map(lambda b, y: jnp.broadcast_to(_to_floats(b), y.shape), side, problem.y0)
    return ravel_pytree(full)[0]


def _to_floats(numbers: Any) -> jax.Array:
    return jnp.asarray(numbers, dtype=float)
