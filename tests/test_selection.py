"""Which parameters a selector chooses."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

from optimagic_lite.space.selection import select_params
from optimagic_lite.space.trees import ParamTree


@dataclasses.dataclass
class Pair:
    left: object
    right: object


FRAME = pd.DataFrame(
    {"value": [1.0, 2.0, 3.0], "lower_bound": [0.0, 0.0, 0.0]}, index=["x", "y", "z"]
)


@pytest.mark.parametrize(
    ("params", "selector", "expected"),
    [
        ({"a": np.ones(2), "b": 1.0}, None, [0, 1, 2]),
        ({"a": np.ones(2), "b": 1.0}, lambda p: p, [0, 1, 2]),
        ({"a": np.ones(2), "b": 1.0}, lambda p: p["b"], [2]),
        ({"a": np.ones(2), "b": 1.0}, lambda p: {"z": [p["b"]], "y": (p["a"][0], None)}, [2, 0]),
        ({"a": np.ones(2), "b": 1.0}, lambda p: [p["a"], p["a"][::-1]], [0, 1, 1, 0]),
        ({"a": np.ones(2), "b": 1.0}, lambda p: Pair(p["b"], {"x": p["a"][1]}), [2, 1]),
        (np.ones((2, 3)), lambda p: p[1, ::2], [3, 5]),
        (np.ones((2, 3)), lambda p: p.T, [0, 3, 1, 4, 2, 5]),
        (pd.Series([1.0, 2.0, 3.0], index=["x", "y", "z"]), lambda p: p.loc[["z", "x"]], [2, 0]),
        (pd.Series([1.0, 2.0], index=["x", "y"]), lambda p: p["y"], [1]),
        (FRAME, lambda p: p.loc[["y"]], [1]),
        (FRAME, lambda p: p.query("lower_bound == 0")["value"], [0, 1, 2]),
        ({"k": FRAME, "c": 2.0}, lambda p: [p["c"], p["k"].loc["z", "value"]], [3, 2]),
    ],
)
def test_positions(params, selector, expected):
    assert select_params(selector, ParamTree(params)).positions.tolist() == expected


def test_selector_on_jax_arrays():
    tree = ParamTree({"a": jnp.ones(4), "b": 1.0})
    assert select_params(lambda p: (p["a"][1:3], p["b"]), tree).positions.tolist() == [1, 2, 4]
