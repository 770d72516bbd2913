"""Native constraints as equalities with zero and one-sided inequalities."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from optimagic_lite.evaluator import Evaluator

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Part:
    """Entries of a native constraint that are of one kind.

    ``sign * (value - limit)[rows]`` is to be zero, or at most zero.
    """

    number: int
    rows: NDArray[np.bool_]
    limit: Array
    sign: float
    is_equality: bool
    tol: Array

    def value(self, evaluator: Evaluator, x: Array) -> Array:
        """Return what is to be zero, or at most zero."""
        value = evaluator.constraint(self.number, x)
        return np.asarray(self.sign * (value - self.limit)[self.rows])

    def jacobian(self, evaluator: Evaluator, x: Array) -> Array:
        """Return the derivative of that, shape (m, n_x)."""
        return np.asarray(self.sign * evaluator.constraint_jac(self.number, x)[self.rows])


def parts(evaluator: Evaluator) -> Iterator[Part]:
    """Yield equalities, upper and lower bounds of all native constraints."""
    for number, constraint in enumerate(evaluator.constraints):
        lower, upper = constraint.lower, constraint.upper
        is_equality = lower == upper
        for rows, limit, sign in (
            (is_equality, lower, 1.0),
            (~is_equality & np.isfinite(upper), upper, 1.0),
            (~is_equality & np.isfinite(lower), lower, -1.0),
        ):
            if rows.any():
                finite = np.where(rows, limit, 0.0)
                both = rows is is_equality
                yield Part(number, rows, finite, sign, both, constraint.tol[rows])
