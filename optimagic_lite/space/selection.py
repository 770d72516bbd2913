"""Which parameters a selector chooses, found by handing it numbered entries of params."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import jax
import numpy as np
from numpy.typing import NDArray

from optimagic_lite.exceptions import InvalidParamsError, listed
from optimagic_lite.space.leaves import is_frame
from optimagic_lite.space.trees import ParamTree, flatten_in_order


class Structure(Protocol):
    """What a selection must know of params."""

    @property
    def names(self) -> list[str]:
        """Names of the entries of the flat vector."""
        ...

    def to_params(self, flat: NDArray[np.float64]) -> Any:
        """Build the user's structure from the flat vector."""
        ...


@dataclass(frozen=True)
class Selection:
    """Some of the parameters.

    Args:
        positions: Their positions in the flat vector, in the order of the selection.
        structure: The structure of what the selector returned.
    """

    positions: NDArray[np.intp]
    structure: ParamTree


def select_params(selector: Callable[[Any], Any] | None, structure: Structure) -> Selection:
    """Find the parameters that a selector returns.

    The selector sees params in which each number is its own position, and once more in which
    it is another code. What it returns must decode to the same positions both times; so a
    selector that computes with the values, or looks at them, is found out.

    Args:
        selector: Returns any part of params, in any structure. None selects all.
        structure: Builds params from a flat vector.

    Raises:
        ValueError: If the selector raises, returns nothing, or returns anything but entries
            of params as they are.
    """
    names = structure.names
    n = len(names)
    code = n + np.random.default_rng(0).permutation(n)
    selected = [
        _call(selector, structure.to_params(np.array(probe, dtype=np.float64)), names)
        for probe in (np.arange(n), code)
    ]
    positions, codes = (_numbers(part) for part in selected)
    if positions.size == 0:
        raise ValueError(f"selector selects nothing. {_choice(names)}")
    known = np.isin(positions, np.arange(n))
    chosen = positions.astype(np.intp) if known.all() else None
    if chosen is None or not np.array_equal(code[chosen], codes):
        raise ValueError(
            "selector must return entries of params as they are, for example "
            "`lambda params: params['a']`. This one computes with their values, chooses by "
            "them, or returns something else."
        )
    return Selection(chosen, _structure(selected[0]))


def _structure(selected: Any) -> ParamTree:
    try:
        return ParamTree(selected)
    except InvalidParamsError:
        # containers that only the selector knows: a plain vector stands for them
        return ParamTree(_numbers(selected))


def _call(selector: Callable[[Any], Any] | None, params: Any, names: list[str]) -> Any:
    if selector is None:
        return params
    try:
        with jax.enable_x64(True):
            return selector(params)
    except Exception as e:
        raise ValueError(
            f"selector raised {type(e).__name__}: {e}. It is called with params. {_choice(names)}"
        ) from e


def _choice(names: list[str]) -> str:
    return f"Parameters are {listed(names)}."


def _numbers(tree: Any) -> NDArray[np.float64]:
    leaves, _ = flatten_in_order(tree)
    parts = [number for leaf in leaves for number in _leaf_numbers(leaf)]
    return np.array(parts, dtype=np.float64)


def _leaf_numbers(leaf: Any) -> list[float]:
    if dataclasses.is_dataclass(leaf) and not isinstance(leaf, type):
        fields = [getattr(leaf, field.name) for field in dataclasses.fields(leaf)]
        return [float(number) for number in _numbers(fields)]
    if is_frame(leaf) and "value" in leaf.columns:
        leaf = leaf["value"]
    try:
        array = np.array(leaf, dtype=np.float64)
    except (TypeError, ValueError):
        # text and the like: no position, so the caller refuses it
        array = np.array(np.nan)
    return [float(number) for number in array.ravel()]
