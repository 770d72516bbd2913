"""What an algorithm is, what it declares, and the register of all of them."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import importlib.util
import math
import types
import typing
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    ClassVar,
    Literal,
    Protocol,
    Self,
    TypeVar,
    dataclass_transform,
)

import numpy as np
from numpy.typing import NDArray

from optimagic_lite.algorithms.regression import further, refine
from optimagic_lite.escape import STEEP, is_flat, is_minimum, is_steep, lower_point, slope
from optimagic_lite.exceptions import (
    InvalidAlgoInfoError,
    InvalidAlgoOptionError,
    UserFunctionRuntimeError,
    did_you_mean,
)
from optimagic_lite.mark import Structure
from optimagic_lite.stopping import Stop, StopRun

if TYPE_CHECKING:
    from optimagic_lite.evaluator import Evaluator

Array = NDArray[np.float64]

# how often a run begins anew where a transformation has deceived the solver
_MAX_RESTARTS = 20

_NOT_LEAST = (
    "The residuals can still fall by the linear model of them, but the solver did not get on: "
    "some parameters hardly matter there, or are badly scaled. Use scaling=True, tighter "
    "tolerances, or another start or algorithm."
)

_ENDLESS = (
    " Many global algorithms end in no other way; a local one that starts from result.params "
    "finishes the search."
)

_EDGE = (
    "The search ended at an edge of the constraints, close to which there are lower points; the "
    "lowest is returned. Start a local algorithm from result.params."
)

_LIMITS = frozenset(stop.status for stop in Stop)

REGISTRY: dict[str, type[Algorithm]] = {}


@dataclass(frozen=True)
class Range:
    """The values that a numerical option may have.

    Args:
        low: The lowest.
        open: Whether ``low`` itself is excluded.
        high: The highest.
        open_high: Whether ``high`` itself is excluded.
    """

    low: float
    open: bool = False
    high: float = math.inf
    open_high: bool = False

    def __contains__(self, value: float) -> bool:
        is_above = value > self.low if self.open else value >= self.low
        return is_above and (value < self.high if self.open_high else value <= self.high)

    def __str__(self) -> str:
        text = f"{'greater than' if self.open else 'at least'} {self.low:g}"
        if self.high == math.inf:
            return text
        return f"{text} and {'less than' if self.open_high else 'at most'} {self.high:g}"


PositiveInt = Annotated[int, Range(1)]
NonNegativeInt = Annotated[int, Range(0)]
PositiveFloat = Annotated[float, Range(0, open=True)]
NonNegativeFloat = Annotated[float, Range(0)]
Fraction = Annotated[float, Range(0, high=1)]
# a number makes runs repeatable, None makes each another one, a generator goes on where it is
Seed = NonNegativeInt | np.random.Generator | None

CONVERGENCE_FTOL_REL = 2e-9
CONVERGENCE_GTOL_ABS = 1e-5
CONVERGENCE_XTOL_REL = 1e-5
# for algorithms that have no other criterion than these
SECOND_BEST_FTOL_ABS = 1e-8
SECOND_BEST_XTOL_ABS = 1e-8
# for global algorithms, most of which would go on for ever
STOPPING_MAXFUN_GLOBAL = 1_000


@dataclass(frozen=True)
class AlgoInfo:
    """What an algorithm can do; ``minimize`` holds it to that.

    Attributes:
        name: Name by which users choose it, ``<library>_<method>``; ``<method>`` where the library
            is this package.
        library: Python package that it needs.
        solver_type: Which structure of the criterion it exploits.
        is_global: Whether it searches the whole box.
        needs_jac: Whether it uses gradients.
        needs_hess: Whether it uses Hessians, or their products with vectors.
        uses_hess: Whether it uses exact Hessians where there are any, and can do without.
        needs_bounds: Whether all parameters need finite bounds.
        needs_program: Whether it runs inside JAX, so that the criterion must be traceable.
        supports_parallelism: Whether it evaluates batches of points.
        supports_bounds: Whether it keeps bounds.
        supports_infinite_bounds: Whether bounds may be one-sided.
        supports_linear_constraints: Whether it takes linear constraints natively.
        supports_nonlinear_constraints: Whether it takes nonlinear constraints natively.
        inequalities_only: Whether it takes no equality constraints.
        counts_iterations: Whether it says when an iteration ends. Where it does not,
            ``stopping_maxiter`` limits evaluations.
    """

    name: str
    library: str
    solver_type: Structure = "scalar"
    is_global: bool = False
    needs_jac: bool = False
    needs_hess: bool = False
    uses_hess: bool = False
    needs_bounds: bool = False
    needs_program: bool = False
    supports_parallelism: bool = False
    supports_bounds: bool = False
    supports_infinite_bounds: bool = False
    supports_linear_constraints: bool = False
    supports_nonlinear_constraints: bool = False
    inequalities_only: bool = False
    counts_iterations: bool = True

    def __post_init__(self) -> None:
        is_own = self.library == "optimagic_lite"
        if not is_own and not self.name.startswith(f"{self.library}_"):
            raise InvalidAlgoInfoError(f"{self.name!r} must begin with {self.library + '_'!r}.")
        if self.needs_hess and not self.needs_jac:
            raise InvalidAlgoInfoError(f"{self.name} needs_hess, so it needs_jac too.")
        if self.needs_bounds and not self.supports_bounds:
            raise InvalidAlgoInfoError(f"{self.name} needs_bounds, so it supports_bounds too.")

    @property
    def is_available(self) -> bool:
        """Whether the library is installed."""
        return importlib.util.find_spec(self.library) is not None

    @property
    def allowed(self) -> frozenset[str]:
        """What the evaluator lets it evaluate beyond values."""
        pairs = [("jac", self.needs_jac), ("hess", self.needs_hess or self.uses_hess)]
        return frozenset(name for name, is_used in pairs if is_used)


@dataclass(frozen=True)
class Outcome:
    """What a solver reports. The best point is known to the evaluator.

    Attributes:
        success: Whether a convergence criterion of the algorithm was fulfilled.
        message: Why it ended, and what to do if that is no success.
        status: The library's own code.
        fun: Value at the solver's last point, to be minimized.
        n_iterations: Number of iterations, if known.
        hess: Hessian at the last point, shape (n_x, n_x).
        hess_inv: Approximation of its inverse, shape (n_x, n_x).
        gradient: Gradient at the last point.
        x: The last point, where its gradient is known.
        info: Further output of the library.
    """

    success: bool
    message: str
    status: int | None = None
    fun: float | None = None
    n_iterations: int | None = None
    hess: Array | None = None
    hess_inv: Array | None = None
    gradient: Array | None = None
    x: Array | None = None
    info: dict[str, Any] = dataclasses.field(default_factory=dict)

    def gradient_at(self, x: Array) -> Array | None:
        """Return the gradient if the solver ended there and knows it."""
        return self.gradient if self.x is not None and np.array_equal(self.x, x) else None


@dataclass(frozen=True, kw_only=True)
class Algorithm:
    """Base of all algorithms: a frozen record of options with one ``solve``.

    Args:
        stopping_maxfun: Limit on evaluations of the criterion; those for difference quotients
            do not count.
        stopping_maxiter: Limit on iterations.
        stopping_maxtime: Limit on seconds, looked at before each evaluation.

    Raises:
        InvalidAlgoOptionError: If an option is not known or its value is not valid.
    """

    name: ClassVar[str]
    algo_info: ClassVar[AlgoInfo]

    stopping_maxfun: PositiveInt = 1_000_000
    stopping_maxiter: PositiveInt = 1_000_000
    stopping_maxtime: PositiveFloat = math.inf

    def __new__(cls, *args: Any, **options: Any) -> Self:
        """Refuse unknown options with the nearest names, before dataclasses does it without."""
        if args:
            raise InvalidAlgoOptionError(f"Options of {cls.name} are passed by name.")
        cls._check_names(options)
        return super().__new__(cls)

    def __post_init__(self) -> None:
        for name, hint in option_types(type(self)).items():
            value = convert(getattr(self, name), hint, f"{name} of {self.name}")
            object.__setattr__(self, name, value)

    def solve(self, evaluator: Evaluator, x0: Array) -> Outcome:
        """Minimize from x0, shape (n_x,), evaluating through the evaluator alone."""
        raise NotImplementedError

    def check_fit(self, n_x: int, *, has_bounds: bool) -> None:
        """Refuse options that do not fit the problem, before the first evaluation.

        Args:
            n_x: Number of free parameters.
            has_bounds: Whether some of them are bounded.
        """

    def with_option(self, **options: Any) -> Self:
        """Return a copy with other options.

        Raises:
            InvalidAlgoOptionError: If an option is not known or its value is not valid.
        """
        self._check_names(options)
        return dataclasses.replace(self, **options)

    def with_stopping(self, **options: Any) -> Self:
        """Return a copy with other ``stopping_...`` options; the prefix may be left out."""
        return self.with_option(**_prefixed("stopping_", options))

    def with_convergence(self, **options: Any) -> Self:
        """Return a copy with other ``convergence_...`` options; the prefix may be left out."""
        return self.with_option(**_prefixed("convergence_", options))

    @classmethod
    def _check_names(cls, options: dict[str, Any]) -> None:
        valid = option_types(cls)
        for name in options:
            if name not in valid:
                raise InvalidAlgoOptionError(
                    f"{cls.name} has no option {name!r}.{did_you_mean(name, valid)} "
                    f"Its options are {', '.join(valid)}."
                )


def _prefixed(prefix: str, options: dict[str, Any]) -> dict[str, Any]:
    return {n if n.startswith(prefix) else prefix + n: value for n, value in options.items()}


def option_types(cls: type[Algorithm]) -> dict[str, Any]:
    """Return the names and types of the options of an algorithm."""
    return _option_types(cls)  # type: ignore[arg-type]  # mypy: a class is hashable


@functools.cache
def _option_types(cls: Any) -> dict[str, Any]:
    hints = typing.get_type_hints(cls, include_extras=True)
    return {f.name: hints[f.name] for f in dataclasses.fields(cls)}


def convert(value: Any, hint: Any, what: str) -> Any:
    """Return the value of an option in its declared type.

    Args:
        value: What the user gave.
        hint: The annotation of the option.
        what: How to call the option in messages.

    Raises:
        InvalidAlgoOptionError: If the value does not fit.
    """
    origin = typing.get_origin(hint)
    arguments = typing.get_args(hint)
    if origin is Annotated:
        number = convert(value, arguments[0], what)
        for allowed in arguments[1:]:
            if number not in allowed:
                raise InvalidAlgoOptionError(f"{what} must be {allowed}, not {value!r}.")
        return number
    if origin in (typing.Union, types.UnionType):
        if value is None and type(None) in arguments:
            return None
        errors = []
        for argument in arguments:
            if argument is not type(None):
                try:
                    return convert(value, argument, what)
                except InvalidAlgoOptionError as error:
                    errors.append(error)
        raise errors[-1 if isinstance(value, (tuple, list)) else 0]
    if origin is Literal:
        if not isinstance(value, Hashable) or value not in arguments:
            raise InvalidAlgoOptionError(
                f"{what} must be one of {', '.join(map(repr, arguments))}, not {value!r}."
                + did_you_mean(value, map(str, arguments))
            )
        return value
    if hint is Any:
        return value
    if origin is tuple:
        return _to_tuple(arguments, value, what)
    return _CONVERTERS[origin or hint](value, what)


def _to_number(kind: type, value: Any, what: str) -> Any:
    is_number = isinstance(value, (int, float, np.number)) and not isinstance(value, bool)
    number = float(value) if is_number else math.nan
    # infinity is no whole number either
    if math.isnan(number) or (kind is int and not number.is_integer()):
        noun = "a whole number" if kind is int else "a number"
        raise InvalidAlgoOptionError(f"{what} must be {noun}, not {value!r}.")
    return kind(value)


def _to_bool(value: Any, what: str) -> bool:
    if not isinstance(value, (bool, np.bool_)):
        raise InvalidAlgoOptionError(f"{what} must be True or False, not {value!r}.")
    return bool(value)


def _to_callable(value: Any, what: str) -> Any:
    if not callable(value):
        raise InvalidAlgoOptionError(f"{what} must be a function, not {value!r}.")
    return value


def _to_tuple(hints: tuple[Any, ...], value: Any, what: str) -> tuple[Any, ...]:
    if not isinstance(value, (tuple, list)) or len(value) != len(hints):
        raise InvalidAlgoOptionError(f"{what} must be {len(hints)} values, not {value!r}.")
    return tuple(convert(v, hint, what) for v, hint in zip(value, hints, strict=True))


def _to_array(value: Any, what: str) -> Array:
    try:
        return np.array(value, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InvalidAlgoOptionError(f"{what} must be an array, not {value!r}.") from error


def _to_generator(value: Any, what: str) -> np.random.Generator:
    if not isinstance(value, np.random.Generator):
        raise InvalidAlgoOptionError(f"{what} must be a generator of NumPy, not {value!r}.")
    return value


def _to_dict(value: Any, what: str) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise InvalidAlgoOptionError(f"{what} must be a dict, not {value!r}.")
    return dict(value)


_CONVERTERS: dict[Any, Callable[[Any, str], Any]] = {
    int: functools.partial(_to_number, int),
    float: functools.partial(_to_number, float),
    bool: _to_bool,
    dict: _to_dict,
    np.ndarray: _to_array,
    np.random.Generator: _to_generator,
    Callable: _to_callable,
}

_Class = TypeVar("_Class", bound=type[Algorithm])


@dataclass_transform(frozen_default=True, kw_only_default=True)
def algorithm(name: str, **traits: Any) -> Callable[[_Class], _Class]:
    """Register a class as an algorithm; its options become a frozen dataclass.

    Args:
        name: Name by which users choose it; its first word is the library, unless a trait says
            another one.
        traits: Fields of ``AlgoInfo``.

    Raises:
        InvalidAlgoInfoError: If the traits contradict each other or the name is taken.
    """
    info = AlgoInfo(**({"name": name, "library": name.split("_")[0]} | traits))

    def register(cls: _Class) -> _Class:
        if name in REGISTRY:
            raise InvalidAlgoInfoError(f"There is an algorithm {name!r} already.")
        dataclass(frozen=True, kw_only=True)(cls)
        cls.name, cls.algo_info = name, info
        REGISTRY[name] = cls
        return cls

    return register


class Solves(Protocol):
    """What ``run`` needs of an algorithm."""

    @property
    def name(self) -> str:
        """Its name."""
        ...

    @property
    def algo_info(self) -> AlgoInfo:
        """What it can do."""
        ...

    def solve(self, evaluator: Evaluator, x0: Array) -> Outcome:
        """Minimize from x0, shape (n_x,)."""
        ...


def run(
    chosen: Solves, evaluator: Evaluator, plain_value: Any = None, seconds: float = 0.0
) -> Outcome:
    """Run an algorithm from the start and translate every way in which it can end.

    Args:
        chosen: The algorithm.
        evaluator: Through which it evaluates.
        plain_value: What ``fun`` returned at the start, to be minimized; None if it was not called.
        seconds: How long that took.

    Raises:
        UserFunctionRuntimeError: If a user function failed and errors are to be raised.
    """
    try:
        evaluator.start(plain_value, seconds)
    except StopRun as stop:
        return Outcome(False, str(stop), stop.stop.status)
    if not evaluator.space.n_x:
        return _checked(Outcome(True, "No parameter is free."), chosen, evaluator)
    try:
        outcome = _solve(chosen, evaluator)
    except StopRun as stop:
        n_iterations = evaluator.n_iterations or None
        message = str(stop)
        if chosen.algo_info.is_global and stop.stop is not Stop.CALLBACK:
            message += _ENDLESS
        outcome = Outcome(False, message, stop.stop.status, n_iterations=n_iterations)
    except (UserFunctionRuntimeError, InvalidAlgoInfoError, Warning):
        raise
    except Exception as error:
        if evaluator.callback_error is not None:
            raise evaluator.callback_error from None
        if error.__class__.__module__.startswith("optimagic_lite"):
            raise
        outcome = Outcome(
            False,
            f"{chosen.name} raised {type(error).__name__}: {error}. The best point that it "
            "evaluated is returned; try another algorithm or other start params.",
        )
    return _checked(outcome, chosen, evaluator)


def _solve(chosen: Solves, evaluator: Evaluator) -> Outcome:
    """Solve, and anew from a better point where the solution deceives."""
    start = evaluator.space.x0
    has_residuals = chosen.algo_info.solver_type == "least_squares"
    outcome = chosen.solve(evaluator, start.copy())
    if chosen.algo_info.is_global:
        # it has been everywhere already, and most go the same way from any start
        return _at_no_edge(outcome, chosen, evaluator) if outcome.success else outcome
    for _ in range(_MAX_RESTARTS):
        if outcome.status in _LIMITS:
            return outcome
        try:
            point = lower_point(evaluator)
            if point is None and has_residuals and outcome.success:
                # a failure on the way says nothing against what was found
                with contextlib.suppress(UserFunctionRuntimeError):
                    point = further(evaluator)
            if point is None and is_steep(evaluator):
                # what the solver has learned of the criterion may be what holds it back
                point = evaluator.best_x
            if point is None or np.array_equal(point, start):
                break
            start = point
            outcome = chosen.solve(evaluator, start.copy())
        except StopRun as stop:
            # whether it is a minimum stays open
            return dataclasses.replace(
                outcome, success=False, message=str(stop), status=stop.stop.status
            )
    if has_residuals:
        # a limit or a failure that is met now says nothing against what was found
        with contextlib.suppress(StopRun, UserFunctionRuntimeError):
            if refine(evaluator) and outcome.success:
                message = f"{_NOT_LEAST} {chosen.name} said: {outcome.message}"
                return dataclasses.replace(outcome, success=False, message=message)
    if outcome.success or not is_minimum(evaluator):
        return outcome
    message = f"The Karush-Kuhn-Tucker conditions hold. {chosen.name} said: {outcome.message}"
    return dataclasses.replace(outcome, success=True, message=message)


def _at_no_edge(outcome: Outcome, chosen: Solves, evaluator: Evaluator) -> Outcome:
    """Return the outcome, without success if a lower point is found by looking around."""
    with contextlib.suppress(StopRun):
        if lower_point(evaluator) is not None:
            message = f"{_EDGE} {chosen.name} said: {outcome.message}"
            return dataclasses.replace(outcome, success=False, message=message)
    return outcome


def _checked(outcome: Outcome, chosen: Solves, evaluator: Evaluator) -> Outcome:
    """Return the outcome, without success where something speaks against it."""
    if evaluator.best_violation > 0:
        message = f"{_infeasible(evaluator)} {chosen.name} said: {outcome.message}"
        return dataclasses.replace(outcome, success=False, message=message)
    doubt = _doubt(outcome, chosen, evaluator) if outcome.success else ""
    if not doubt:
        return outcome
    message = f"{doubt} {chosen.name} said: {outcome.message}"
    return dataclasses.replace(outcome, success=False, message=message)


def _infeasible(evaluator: Evaluator) -> str:
    x = evaluator.best_x
    named = [
        f"{constraint.name} by {constraint.violation(evaluator.constraint(i, x)):.3g}"
        for i, constraint in enumerate(evaluator.constraints)
        if constraint.excess(evaluator.constraint(i, x)) > 0
    ]
    return (
        f"No point that fulfils all constraints was found. The best one violates "
        f"{' and '.join(named)}. The problem may have no feasible point; else start closer to one."
    )


def _doubt(outcome: Outcome, chosen: Solves, evaluator: Evaluator) -> str:
    """Return why a reported success is none; "" if nothing speaks against it."""
    best_x, best_f, space = evaluator.best_x, evaluator.best_f, evaluator.space
    gradient = evaluator.best_gradient
    if gradient is None and not evaluator.has_failed_at_best:
        gradient = outcome.gradient_at(best_x)
    flat = None
    # at a minimum on a native constraint the gradient is that of the constraint
    if gradient is not None and not evaluator.constraints:
        flat = is_flat(evaluator, gradient)
    if flat is False and (best_x == space.x0).all():
        return (
            "No better point than the start was found, although the gradient there is not small. "
            "Scale the parameters, start elsewhere, or try another algorithm."
        )
    if space.n_x and slope(evaluator) > STEEP * max(1.0, abs(best_f)):
        return (
            "The solver stopped at a corner or kink of the constraints, from which the criterion "
            "still falls. Start elsewhere, or use an algorithm that takes linear constraints."
        )
    if not evaluator.n_failed:
        return ""
    reason = ""
    if evaluator.n_fun - evaluator.n_failed <= 1:
        reason = "only the start could be evaluated"
    elif outcome.fun is not None and outcome.fun - best_f > 1e-6 * max(1.0, abs(best_f)):
        reason = "the algorithm settled at one of those points; the best other one is returned"
    elif not evaluator.uses_gradient:
        # a global search meets failures everywhere, whatever it has found
        is_recent = not chosen.algo_info.is_global and (
            evaluator.n_fun - evaluator.last_failure < 2 * space.n_x + 10
        )
        reason = "some of them just before the end" if is_recent else ""
    elif not flat and not evaluator.constraints:
        reason = "the gradient at the best point is not small, or not known"
    if not reason:
        return ""
    return (
        f"{evaluator.n_failed} evaluations failed, and {reason}, so the point may be no minimum. "
        "Use bounds to keep the algorithm away from where the criterion fails, or start elsewhere."
    )
