"""What a user can demand of parameters beyond bounds: plain, checked records, no mathematics.

Every class names the parameters that it speaks of by ``selector``, a function that gets params and
returns any part of it in any structure; None means all of params. What constraints mean for an
algorithm is decided in ``space``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import KW_ONLY, dataclass, fields
from typing import Any, ClassVar

import numpy as np

from optimagic_lite.exceptions import InvalidConstraintError, did_you_mean
from optimagic_lite.options import is_real


def identity_selector(params: Any) -> Any:
    """Select all of params."""
    return params


@dataclass(frozen=True)
class Constraint:
    """Base of all constraints.

    Attributes:
        type: Name of the kind in dictionaries.
    """

    type: ClassVar[str]

    def all_selectors(self) -> tuple[Callable[[Any], Any], ...]:
        """Return the functions that select parameters."""
        raise NotImplementedError


@dataclass(frozen=True)
class _OneSelection(Constraint):
    """Base of constraints with one selector."""

    selector: Callable[[Any], Any] = identity_selector

    def __post_init__(self) -> None:
        if not callable(self.selector):
            raise InvalidConstraintError(
                f"selector must be a function of params, not {self.selector!r}."
            )

    def all_selectors(self) -> tuple[Callable[[Any], Any], ...]:
        """Return the only one."""
        return (self.selector,)


@dataclass(frozen=True)
class _Matrix(_OneSelection):
    """Base of constraints that make parameters a matrix."""

    _: KW_ONLY
    regularization: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_non_negative(self, "regularization")


@dataclass(frozen=True)
class FixedConstraint(_OneSelection):
    """Keep parameters at their start values.

    Args:
        selector: Selects the parameters.

    Example:
        >>> import optimagic_lite as om
        >>> om.minimize(lambda x: ((x - 1) ** 2).sum(), np.zeros(2), "scipy_lbfgsb",
        ...             constraints=om.FixedConstraint(lambda x: x[0])).params.round(6)
        array([0., 1.])
    """

    type: ClassVar[str] = "fixed"


@dataclass(frozen=True)
class EqualityConstraint(_OneSelection):
    """Keep all selected parameters equal to each other.

    Args:
        selector: Selects the parameters.

    Example:
        >>> import optimagic_lite as om
        >>> om.count_free_params(np.ones(5), om.EqualityConstraint(lambda x: x[:3]))
        3
    """

    type: ClassVar[str] = "equality"


@dataclass(frozen=True)
class PairwiseEqualityConstraint(Constraint):
    """Keep several selections equal to each other, entry by entry.

    Args:
        selectors: At least two functions that select equally many parameters.

    Raises:
        InvalidConstraintError: If there are fewer than two functions.

    Example:
        >>> import optimagic_lite as om
        >>> pairs = om.PairwiseEqualityConstraint([lambda x: x[:2], lambda x: x[2:]])
        >>> om.count_free_params(np.ones(4), pairs)
        2
    """

    type: ClassVar[str] = "pairwise_equality"

    selectors: Iterable[Callable[[Any], Any]]

    def __post_init__(self) -> None:
        try:
            selectors = tuple(self.selectors)
        except TypeError:
            selectors = ()
        if len(selectors) < 2 or not all(callable(s) for s in selectors):
            raise InvalidConstraintError(
                f"selectors must be at least two functions of params, not {self.selectors!r}."
            )
        object.__setattr__(self, "selectors", selectors)

    def all_selectors(self) -> tuple[Callable[[Any], Any], ...]:
        """Return all of them."""
        return tuple(self.selectors)


@dataclass(frozen=True)
class IncreasingConstraint(_OneSelection):
    """Keep the selected parameters weakly increasing, in the order of the selection.

    Args:
        selector: Selects the parameters.

    Example:
        >>> import optimagic_lite as om
        >>> om.minimize(lambda x: ((x - np.array([3.0, 1.0])) ** 2).sum(), np.zeros(2),
        ...             "scipy_lbfgsb", constraints=om.IncreasingConstraint()).params.round(4)
        array([2., 2.])
    """

    type: ClassVar[str] = "increasing"


@dataclass(frozen=True)
class DecreasingConstraint(_OneSelection):
    """Keep the selected parameters weakly decreasing, in the order of the selection.

    Args:
        selector: Selects the parameters.

    Example:
        >>> import optimagic_lite as om
        >>> om.minimize(lambda x: ((x - np.array([1.0, 3.0])) ** 2).sum(), np.zeros(2),
        ...             "scipy_lbfgsb", constraints=om.DecreasingConstraint()).params.round(4)
        array([2., 2.])
    """

    type: ClassVar[str] = "decreasing"


@dataclass(frozen=True)
class ProbabilityConstraint(_OneSelection):
    """Keep the selected parameters at least zero with a sum of one.

    Args:
        selector: Selects the parameters.

    Example:
        >>> import optimagic_lite as om
        >>> om.minimize(lambda x: ((x - np.array([0.9, 0.5])) ** 2).sum(), np.array([0.5, 0.5]),
        ...             "scipy_lbfgsb", constraints=om.ProbabilityConstraint()).params.round(4)
        array([0.7, 0.3])
    """

    type: ClassVar[str] = "probability"


@dataclass(frozen=True)
class FlatCovConstraint(_Matrix):
    """Keep the selected parameters the lower triangle of a covariance matrix.

    Args:
        selector: Selects the lower triangle, row by row.
        regularization: The diagonal of the Cholesky factor is at least the root of this.

    Raises:
        InvalidConstraintError: If the regularization is negative.

    Example:
        >>> import optimagic_lite as om
        >>> identity = np.array([1.0, 0.0, 1.0])
        >>> om.make_space(identity, constraints=om.FlatCovConstraint()).lower
        array([  0., -inf,   0.])
    """

    type: ClassVar[str] = "covariance"


@dataclass(frozen=True)
class FlatSDCorrConstraint(_Matrix):
    """Keep the selected parameters standard deviations and correlations.

    Args:
        selector: Selects first the standard deviations, then the lower triangle of the
            correlation matrix without its diagonal, row by row.
        regularization: Standard deviations are at least the root of this.

    Raises:
        InvalidConstraintError: If the regularization is negative.

    Example:
        >>> import optimagic_lite as om
        >>> om.count_free_params(np.array([1.0, 2.0, 0.5]), om.FlatSDCorrConstraint())
        3
    """

    type: ClassVar[str] = "sdcorr"


@dataclass(frozen=True)
class LinearConstraint(_OneSelection):
    """Bound weighted sums of the selected parameters.

    Args:
        selector: Selects the parameters.
        weights: One number for all, or as many numbers as are selected in any structure, or a
            matrix with one row a sum.
        lower_bound: Lower bound on each sum; None means none.
        upper_bound: Upper bound on each sum; None means none.
        value: Value of each sum, instead of bounds.

    Raises:
        InvalidConstraintError: If there is neither a value nor a bound, or both, or no weights.

    Example:
        >>> import optimagic_lite as om
        >>> om.minimize(lambda x: (x**2).sum(), np.array([1.0, 0.0]), "scipy_lbfgsb",
        ...             constraints=om.LinearConstraint(weights=[1, 3], value=1)).params.round(4)
        array([0.1, 0.3])
    """

    type: ClassVar[str] = "linear"

    _: KW_ONLY
    weights: Any = None
    lower_bound: Any = None
    upper_bound: Any = None
    value: Any = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.weights is None:
            raise InvalidConstraintError("weights is missing in a LinearConstraint.")
        _check_targets(self)


@dataclass(frozen=True)
class NonlinearConstraint(_OneSelection):
    """Bound a function of the selected parameters; for algorithms that take such constraints.

    Args:
        selector: Selects the arguments of func.
        func: Returns a number, an array or a tree of them.
        derivative: Derivative of func with respect to the selection: a tree like the selection
            for a scalar func, or a matrix of shape (n_values, n_selected). None means JAX where
            func is written in it, and differences where not.
        lower_bound: A number or as many as func returns; None means none.
        upper_bound: Likewise.
        value: Likewise, instead of bounds.
        tol: Violations up to this count as fulfilled.

    Raises:
        InvalidConstraintError: If func is no function, there is neither a value nor a bound, or
            both, or tol is negative.

    Example:
        >>> import optimagic_lite as om
        >>> disk = om.NonlinearConstraint(func=lambda x: (x**2).sum(), upper_bound=1)
        >>> om.minimize(lambda x: -x.sum(), np.zeros(2), "scipy_slsqp",
        ...             constraints=disk).params.round(3)
        array([0.707, 0.707])
    """

    type: ClassVar[str] = "nonlinear"

    _: KW_ONLY
    func: Callable[[Any], Any] | None = None
    derivative: Callable[[Any], Any] | None = None
    lower_bound: Any = None
    upper_bound: Any = None
    value: Any = None
    tol: float = 1e-5

    def __post_init__(self) -> None:
        super().__post_init__()
        if not callable(self.func):
            raise InvalidConstraintError(f"func must be a function, not {self.func!r}.")
        if self.derivative is not None and not callable(self.derivative):
            raise InvalidConstraintError(f"derivative must be a function, not {self.derivative!r}.")
        _check_targets(self)
        _check_non_negative(self, "tol")


def _check_non_negative(constraint: Any, field: str) -> None:
    value = getattr(constraint, field)
    if not is_real(value) or not 0 <= float(value) < math.inf:
        raise InvalidConstraintError(f"{field} must be a number of at least 0, not {value!r}.")


def _check_targets(constraint: Any) -> None:
    given = {
        name: getattr(constraint, name)
        for name in ("lower_bound", "upper_bound", "value")
        if getattr(constraint, name) is not None
    }
    name = type(constraint).__name__
    if not given:
        raise InvalidConstraintError(f"{name} needs a value, a lower_bound or an upper_bound.")
    if "value" in given and len(given) > 1:
        raise InvalidConstraintError(f"{name} has a value and bounds; give one or the other.")


CLASSES: dict[str, type[Constraint]] = {
    cls.type: cls
    for cls in (
        FixedConstraint, EqualityConstraint, PairwiseEqualityConstraint, IncreasingConstraint,
        DecreasingConstraint, ProbabilityConstraint, FlatCovConstraint, FlatSDCorrConstraint,
        LinearConstraint, NonlinearConstraint,
    )
}  # fmt: skip

# how dictionaries of the peer and of SciPy call fields of a nonlinear constraint
FIELD_NAMES = {
    "fun": "func",
    "jac": "derivative",
    "lower_bounds": "lower_bound",
    "upper_bounds": "upper_bound",
}


def read_constraints(constraints: Any) -> tuple[Constraint, ...]:
    """Bring all ways to write constraints into one.

    Args:
        constraints: None, a constraint, a dict, or any iterable of those.

    Raises:
        InvalidConstraintError: If one of them is something else, or a dict is not understood.
    """
    if constraints is None:
        return ()
    if isinstance(constraints, (Constraint, Mapping)):
        constraints = (constraints,)
    if isinstance(constraints, str) or not isinstance(constraints, Iterable):
        raise InvalidConstraintError(_expected(constraints))
    return tuple(_read(constraint, i) for i, constraint in enumerate(constraints))


def _expected(got: Any) -> str:
    return (
        f"constraints must be constraints of optimagic_lite, for example om.FixedConstraint(...), "
        f"or dicts with a 'type', not {got!r}." + _OF_SCIPY.get(type(got).__name__, "")
    )


_OF_SCIPY = {
    "ineq": " What SciPy writes so is om.NonlinearConstraint(func=..., lower_bound=0).",
    "eq": " What SciPy writes so is om.NonlinearConstraint(func=..., value=0).",
    "LinearConstraint": " SciPy's is om.LinearConstraint here, one for each row.",
    "NonlinearConstraint": " SciPy's is om.NonlinearConstraint(func=..., lower_bound=..., "
    "upper_bound=...) here.",
}


def _read(constraint: Any, number: int) -> Constraint:
    if isinstance(constraint, Constraint):
        return constraint
    if not isinstance(constraint, Mapping):
        raise InvalidConstraintError(_expected(constraint))
    where = f"constraint {number}, {dict(constraint)!r},"
    fields_given = dict(constraint)
    kind = fields_given.pop("type", None)
    if not isinstance(kind, str) or kind not in CLASSES:
        raise InvalidConstraintError(
            f"{where} needs a 'type', one of {', '.join(map(repr, CLASSES))}, not {kind!r}."
            + _OF_SCIPY.get(kind if isinstance(kind, str) else "", did_you_mean(kind, CLASSES))
        )
    if kind == "fixed" and "value" in fields_given:
        raise InvalidConstraintError(
            f"{where} has a 'value'. A parameter is fixed at its start: write the value into "
            "params and leave it out here."
        )
    cls = CLASSES[kind]
    valid = [f.name for f in fields(cls) if f.name not in ("selector", "selectors")]
    plural = cls is PairwiseEqualityConstraint
    ways = _SELECTING_MANY if plural else _SELECTING
    given = [way for way in ways if way in fields_given]
    if len(given) != 1:
        raise InvalidConstraintError(
            f"{where} needs exactly one of {', '.join(map(repr, ways))} to select parameters."
        )
    chosen = fields_given.pop(given[0])
    if plural and (isinstance(chosen, str) or not isinstance(chosen, Iterable)):
        raise InvalidConstraintError(f"{where} needs several selections in {given[0]!r}.")
    selection: dict[str, Any]
    if plural:
        selection = {"selectors": [ways[given[0]](one) for one in chosen]}
    else:
        selection = {"selector": ways[given[0]](chosen)}
    options = {FIELD_NAMES.get(name, name): value for name, value in fields_given.items()}
    for name in options:
        if name not in valid:
            raise InvalidConstraintError(
                f"{where} has a field {name!r} that {kind!r} does not have. Its fields are "
                f"{', '.join([*ways, *valid])}." + did_you_mean(name, valid)
            )
    try:
        return cls(**selection, **options)
    except InvalidConstraintError as error:
        raise InvalidConstraintError(f"{where} {error}") from error


def _by_loc(loc: Any) -> Callable[[Any], Any]:
    def selector(params: Any) -> Any:
        if hasattr(params, "columns"):
            return params.loc[loc, "value"]
        if hasattr(params, "loc"):
            return params.loc[loc]
        if isinstance(loc, (list, tuple)) and isinstance(params, (Mapping, list, tuple)):
            return [params[key] for key in loc]
        return params[np.array(loc) if isinstance(loc, list) else loc]

    return selector


def _by_query(query: str) -> Callable[[Any], Any]:
    def selector(params: Any) -> Any:
        if not hasattr(params, "query"):
            raise TypeError("a query needs params in a DataFrame; use loc or selector")
        return params.query(query)["value"]

    return selector


_SELECTING: dict[str, Callable[[Any], Any]] = {
    "selector": lambda selector: selector,
    "loc": _by_loc,
    "query": _by_query,
}
_SELECTING_MANY = {
    "selectors": _SELECTING["selector"],
    "locs": _SELECTING["loc"],
    "queries": _SELECTING["query"],
}
