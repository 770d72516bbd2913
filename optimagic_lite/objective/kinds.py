"""What a criterion may return, and the number that it stands for."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from optimagic_lite.exceptions import InvalidFunctionError


def scalar_value(raw: Any) -> float:
    """Return the return value of a scalar criterion as a float.

    Args:
        raw: What the user's function returned.

    Raises:
        InvalidFunctionError: If it is not one real number.
    """
    if isinstance(raw, float):
        return float(raw)
    if raw is None:
        raise InvalidFunctionError("fun returned None instead of a number. Is a return missing?")
    if isinstance(raw, (tuple, list, dict)):
        hint = (
            " If fun returns the value and its derivative, pass it as fun_and_jac=fun."
            if isinstance(raw, (tuple, list)) and len(raw) == 2
            else ""
        )
        raise InvalidFunctionError(
            f"fun returned a {type(raw).__name__} instead of one number.{hint}"
        )
    return float(check_scalar(np.asarray(raw)).reshape(()))


def check_scalar(value: Any) -> Any:
    """Return an array, also a traced one, if it is one real number.

    Raises:
        InvalidFunctionError: If it is not.
    """
    if not isinstance(value, (np.ndarray, jax.Array)):
        scalar_value(value)
    if value.size != 1:
        raise InvalidFunctionError(
            f"fun returned an array of shape {value.shape} instead of one number. "
            "Aggregate it, for example with .sum()."
        )
    if value.dtype.kind not in "fiuV":
        raise InvalidFunctionError(
            f"fun returned a value of dtype {value.dtype}, which is not a real number."
        )
    return value
