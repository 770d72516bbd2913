"""What constraints do to params, without an optimisation."""

from __future__ import annotations

from typing import Any

from optimagic_lite.deprecations.calls import OLD_BOUNDS, new_bounds
from optimagic_lite.deprecations.names import accepts_old_names
from optimagic_lite.space.make import make_space


@accepts_old_names(new_bounds, OLD_BOUNDS)
def check_constraints(params: Any, constraints: Any, bounds: Any = None) -> None:
    """Raise an error if constraints contradict each other, or params violate them.

    Nonlinear constraints are not evaluated.

    Args:
        params: Start params, see ``minimize``.
        constraints: See ``minimize``.
        bounds: See ``minimize``.

    Raises:
        InvalidConstraintError: If constraints cannot be understood or fulfilled.
        InvalidParamsError: If params violate one.
        InvalidBoundsError: If bounds are not valid or violated.

    Example:
        >>> check_constraints([0.5, 0.4], {"type": "probability", "loc": [0, 1]})
        Traceback (most recent call last):
        ...
        optimagic_lite.exceptions.InvalidParamsError: The start violates constraint 0 \
(ProbabilityConstraint) by 0.1: the weighted sum of 0, 1 is 0.9, but must lie in [1, 1].
    """
    make_space(params, bounds=bounds, constraints=constraints)


@accepts_old_names(new_bounds, OLD_BOUNDS)
def count_free_params(params: Any, constraints: Any = None, bounds: Any = None) -> int:
    """Count the degrees of freedom that constraints leave.

    Args:
        params: Start params, see ``minimize``.
        constraints: See ``minimize``. Nonlinear ones take nothing away.
        bounds: See ``minimize``. Parameters whose bounds coincide are not free.

    Raises:
        InvalidConstraintError: If constraints cannot be understood or fulfilled.
        InvalidParamsError: If params violate one.
        InvalidBoundsError: If bounds are not valid or violated.

    Example:
        >>> count_free_params([0.5, 0.3, 0.2], {"type": "probability", "loc": [0, 1, 2]})
        2
    """
    return make_space(params, bounds=bounds, constraints=constraints).n_free
