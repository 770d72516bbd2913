"""What a failed evaluation does: the one policy, for every algorithm.

A failure is an exception in a user function, or a value or derivative that is not finite. With
``error_handling="raise"`` the run ends with ``UserFunctionRuntimeError``. With "continue" the
algorithm receives, instead, a penalty that grows with the distance from the start, and its
gradient; a failed Hessian is replaced by the identity. The row is recorded with NaN and the reason.
A failure at the start is always an error.
"""

from __future__ import annotations

import math
import traceback
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from optimagic_lite.exceptions import UserFunctionRuntimeError

Array = NDArray[np.float64]

_HUGE = 1e100

_ADVICE_START = "Start from other params."
_ADVICE = (
    'error_handling="continue" replaces failed evaluations by a penalty; bounds can keep an '
    "algorithm out of regions where the function fails."
)


@dataclass(frozen=True)
class ErrorPolicy:
    """What a failed evaluation does.

    Args:
        handling: "raise" or "continue".
        constant: Penalty at the start, in the user's sign; None means
            ``f0 + |f0| + 100`` (minimize) or ``f0 - |f0| - 100`` (maximize), where f0 is the
            start value.
        slope: Change of the penalty per unit of distance from the start; None means 0.1
            (minimize) or -0.1 (maximize).
    """

    handling: Literal["raise", "continue"] = "raise"
    constant: float | None = None
    slope: float | None = None

    @property
    def raises(self) -> bool:
        """Whether a failure ends the run."""
        return self.handling == "raise"

    def penalty(self, x0: Array, f0: float, sign: float) -> Penalty:
        """Return the penalty of a run, as something to be minimized.

        Args:
            x0: The start.
            f0: Value there, in the user's sign.
            sign: 1 to minimize, -1 to maximize.
        """
        constant = f0 + sign * (abs(f0) + 100.0) if self.constant is None else self.constant
        slope = sign * 0.1 if self.slope is None else self.slope
        return Penalty(x0, sign * constant, sign * slope)


@dataclass(frozen=True)
class Penalty:
    """The function ``constant + slope * |x - x0|`` that stands for failed evaluations."""

    x0: Array
    constant: float
    slope: float

    def __call__(self, x: Array) -> tuple[float, Array]:
        """Return value and gradient at x."""
        step = x - self.x0
        # scaled, because the squares of far points overflow
        size = float(np.abs(step).max())
        if size == 0:
            return self.constant, np.zeros(len(x))
        scaled = step / size
        length = float(np.linalg.norm(scaled))
        return self.constant + self.slope * size * length, self.slope * scaled / length


@dataclass(frozen=True)
class Failure:
    """What went wrong in an evaluation.

    Args:
        message: What happened, in a line.
        cause: The user's exception, or None if a value was not finite.
        traceback: Where it was raised, as Python shows it.
    """

    message: str
    cause: BaseException | None = None
    traceback: str | None = None

    @classmethod
    def of(cls, error: BaseException, what: str = "fun") -> Failure:
        """Return what is known of an exception.

        Args:
            error: The exception.
            what: The user function that raised it.
        """
        text = "".join(traceback.format_exception(error))
        return cls(exception_message(error, what), error, text)


def runtime_error(params: Any, failure: Failure, *, at_start: bool) -> UserFunctionRuntimeError:
    """Return the error for a failure.

    Args:
        params: Where it happened, in the user's structure.
        failure: What happened.
        at_start: Whether it happened at the start.
    """
    text = repr(params)
    text = text if len(text) <= 300 else f"{text[:296]} ..."
    advice = _ADVICE_START if at_start else _ADVICE
    error = UserFunctionRuntimeError(
        f"A user function failed: {failure.message}. It was called with params {text}. {advice}"
    )
    error.params = params
    error.__cause__ = failure.cause
    return error


def exception_message(error: BaseException, what: str = "fun") -> str:
    """Return what a log says about an exception in a user function."""
    where = "" if what == "fun" else f" in {what}"
    return f"{type(error).__name__}{where}: {error}"


def value_message(value: float) -> str:
    """Return what a log says about a value that is not finite."""
    return f"value is {value}"


def all_finite(f: float, gradient: Array) -> bool:
    """Tell whether a value and a gradient, or a Jacobian, are finite."""
    flat = gradient if gradient.ndim == 1 else gradient.ravel()
    if not math.isfinite(f):
        return False
    # the sum of squares is not finite if an entry is not; it is much cheaper than isfinite, but
    # NumPy warns if it overflows, as it does where values are huge
    return (abs(f) < _HUGE and math.isfinite(flat.dot(flat))) or bool(np.isfinite(flat).all())
