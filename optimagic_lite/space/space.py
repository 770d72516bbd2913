"""The map between an algorithm's vector x, the flat vector and the user's params."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from numpy.typing import NDArray

from optimagic_lite.exceptions import InvalidParamsError
from optimagic_lite.space.bounds import read_bounds
from optimagic_lite.space.trees import ParamTree


@dataclass(frozen=True)
class Space:
    """Where an algorithm searches.

    Without constraints and scaling x is the flat vector itself, at no cost.

    Args:
        tree: Structure of params; static for compiled functions.
        x0: Start, shape (n_x,).
        lower: Lower bounds on x, shape (n_x,), -inf where there are none.
        upper: Upper bounds on x, shape (n_x,), inf where there are none.
    """

    tree: ParamTree
    x0: NDArray[np.float64]
    lower: NDArray[np.float64]
    upper: NDArray[np.float64]

    @property
    def n_x(self) -> int:
        """Number of free parameters."""
        return len(self.x0)

    @property
    def names(self) -> list[str]:
        """Names of the entries of the flat vector."""
        return self.tree.names

    @property
    def has_bounds(self) -> bool:
        """Whether any bound on x is finite."""
        return bool(np.isfinite(self.lower).any() or np.isfinite(self.upper).any())

    def to_params(self, x: NDArray[np.float64]) -> Any:
        """Build the user's params, with their own copy of the numbers."""
        return self.tree.to_params(x)

    def trace(self, x: jax.Array) -> Any:
        """Build the user's params from a traced x."""
        return self.tree.trace(x)

    def pull_back(self, gradient: Any, what: str) -> NDArray[np.float64]:
        """Turn a gradient with respect to params into one with respect to x.

        Args:
            gradient: Tree aligned with params.
            what: How to call it in messages.

        Raises:
            ValueError: If it is not aligned with params.
        """
        return self.tree.align(gradient, what)

    def pull_back_hessian(self, hessian: Any, what: str) -> NDArray[np.float64]:
        """Turn a Hessian with respect to params, a tree of trees or a matrix, into one in x.

        Args:
            hessian: See ``ParamTree.align_matrix``.
            what: How to call it in messages.

        Raises:
            ValueError: If it is not aligned with params.
        """
        return self.tree.align_matrix(hessian, what)

    def push_forward(self, v: NDArray[np.float64]) -> Any:
        """Turn a direction in x into one in params."""
        return self.tree.to_params(v)


def make_space(params: Any, bounds: Any) -> Space:
    """Build the space of a problem.

    Args:
        params: Start params.
        bounds: See ``minimize``.

    Raises:
        InvalidParamsError: If params cannot be optimised.
        InvalidBoundsError: If bounds are not valid or the start lies outside.
    """
    tree = ParamTree(params)
    start = tree.start_values()
    bad = [tree.names[i] for i in np.flatnonzero(~np.isfinite(start))[:10]]
    if bad:
        raise InvalidParamsError(f"These start values are not finite: {', '.join(bad)}.")
    flat_bounds = read_bounds(bounds, tree, start)
    return Space(tree, start, flat_bounds.lower, flat_bounds.upper)
