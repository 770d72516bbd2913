"""A batch that cannot be is refused before any evaluation, with what to do."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import optimagic_lite as om
from optimagic_lite.exceptions import (
    InvalidAlgoOptionError,
    InvalidBoundsError,
    InvalidConstraintError,
    InvalidFunctionError,
    InvalidKwargsError,
    InvalidParamsError,
    MissingInputError,
    NotAvailableError,
)

Y = np.array([[1.0, 2.0], [3.0, 4.0]])


def distance(x, y, power=2):
    return jnp.sum((x - y) ** power)


KEYS = jax.random.split(jax.random.key(0), 2)
BELOW = om.Bounds(upper=np.full(2, 5.0))

# what was wrong, what is said, and what was changed as it says
MISTAKES = {
    "no batch": (InvalidKwargsError, "must be a dict of arguments", {"batch": Y}, {}),
    "no runs": (InvalidKwargsError, "holds no runs", {"batch": {"y": Y[:0]}}, {}),
    "a number": (InvalidKwargsError, "fun_kwargs", {"batch": {"y": Y, "power": 2}},
                 {"fun_kwargs": {"power": 2}}),
    "lists": (InvalidKwargsError, "make arrays of numbers", {"batch": {"y": Y.tolist()}}, {}),
    "words": (InvalidKwargsError, "arrays of numbers", {"batch": {"y": np.array(["a", "b"])}}, {}),
    "lengths": (InvalidKwargsError, "y: 2; power: 3. What all runs share",
                {"batch": {"y": Y, "power": np.full(3, 2)}}, {"fun_kwargs": {"power": 2}}),
    "shapes": (InvalidKwargsError, r"'y' of run 1 in batch has shapes \[\(3,\)\]",
               {"batch": [{"y": Y[0]}, {"y": np.zeros(3)}]}, {"batch": [{"y": y} for y in Y]}),
    "names": (InvalidKwargsError, "Run 1 of batch has the arguments z, and run 0 y",
              {"batch": [{"y": Y[0]}, {"z": Y[1]}]}, {"batch": [{"y": y} for y in Y]}),
    "twice": (InvalidKwargsError, "batch and fun_kwargs both give y", {"fun_kwargs": {"y": Y}}, {}),
    "keys": (InvalidKwargsError, "jax.random.key_data", {"batch": {"y": KEYS}}, {}),
    "no start": (MissingInputError, "give one start, or batch={'params': starts}",
                 {"params": None}, {"params": None, "batch": {"y": Y, "params": Y}}),
    "structure": (InvalidParamsError, "they hold 0, 1, 2, and params 0, 1",
                  {"batch": {"y": Y, "params": np.ones((2, 3))}},
                  {"batch": {"y": Y, "params": np.ones((2, 2))}}),
    "NaN": (InvalidParamsError, "Start 1 of batch: These start values are not finite: 0",
            {"batch": {"y": Y, "params": np.array([[0, 0], [np.nan, 0]])}}, {}),
    "outside": (InvalidBoundsError, "(?s)Start 1 of batch: .* 9 is outside",
                {"batch": {"y": Y, "params": np.array([[0, 0], [9, 0]])}, "bounds": BELOW},
                {"batch": {"y": Y, "params": np.array([[0, 0], [5, 0]])}, "bounds": BELOW}),
    "a loop": (InvalidFunctionError, "write fun with jax.numpy",
               {"fun": lambda x, y: float(np.sum((np.asarray(x) - y) ** 2))}, {}),
    "algorithm": (NotAvailableError, "runs inside JAX, .*jax_bfgs",
                  {"algorithm": "scipy_lbfgsb"}, {"algorithm": "jax_bfgs"}),
    "constraint": (InvalidConstraintError, "no nonlinear constraints",
                   {"constraints": om.NonlinearConstraint(func=jnp.sum, upper_bound=1.0)}, {}),
    "all is fixed": (InvalidParamsError, "No parameter is free",
                     {"constraints": om.FixedConstraint(lambda x: x)}, {}),
    "size": (InvalidAlgoOptionError, "an integer, at least 1, not 1.5", {"batch_size": 1.5},
             {"batch_size": 2}),
    "no size": (InvalidAlgoOptionError, "an integer, at least 1, not 0", {"batch_size": 0}, {}),
    "device": (InvalidAlgoOptionError, r"such as jax.devices\(\)\[:1\]", {"devices": "cpu"},
               {"devices": jax.devices()[:1]}),
    "no device": (InvalidAlgoOptionError, "Leave it out to use all", {"devices": []}, {}),
}  # fmt: skip


@pytest.mark.parametrize("case", MISTAKES)
def test_mistakes_are_told_with_what_to_do(case):
    error, match, wrong, right = MISTAKES[case]
    good = {"fun": distance, "params": np.zeros(2), "batch": {"y": Y}}
    with pytest.raises(error, match=match):
        om.minimize_batch(**good | wrong)
    assert om.minimize_batch(**good | right).success.all()
