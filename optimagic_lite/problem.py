"""From what the user wrote to one strict, frozen problem; what cannot be done is said here."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np

from optimagic_lite.algorithms.base import REGISTRY, AlgoInfo, Algorithm
from optimagic_lite.algos import SCIPY_METHODS, resolve_algorithm
from optimagic_lite.constraints import Constraint, read_constraints
from optimagic_lite.exceptions import (
    AliasError,
    IncompleteBoundsError,
    InvalidAlgoOptionError,
    InvalidBoundsError,
    InvalidConstraintError,
    InvalidFunctionError,
    InvalidMultistartError,
    InvalidNumdiffOptionsError,
    MissingInputError,
    NotAvailableError,
    did_you_mean,
    listed,
)
from optimagic_lite.failures import ErrorPolicy
from optimagic_lite.functions import read_functions
from optimagic_lite.history import Direction
from optimagic_lite.log_options import LogOptions, read_log_options
from optimagic_lite.mark import Structure
from optimagic_lite.objective.constraints import NativeConstraint
from optimagic_lite.objective.kinds import described, serves
from optimagic_lite.objective.objective import DerivativesArgument, Objective
from optimagic_lite.objective.written import UserFunctions
from optimagic_lite.options import (
    MultistartOptions,
    NumdiffOptions,
    is_real,
    read_multistart,
    read_record,
)
from optimagic_lite.space.make import BoundsAs, make_space
from optimagic_lite.space.space import Space


@dataclass(frozen=True)
class Problem:
    """An optimisation problem whose every part has one type."""

    direction: Direction
    functions: UserFunctions
    params: Any
    algorithm: Algorithm
    bounds: Any
    constraints: tuple[Constraint, ...]
    scaling: Any
    bounds_as: BoundsAs
    derivatives: DerivativesArgument
    numdiff_options: NumdiffOptions
    logging: LogOptions | None
    errors: ErrorPolicy
    callback: Callable[..., Any] | None
    collect_history: bool
    skip_checks: bool
    progress: bool
    check_derivatives: bool
    multistart: MultistartOptions | None


def make_problem(direction: Direction, arguments: Mapping[str, Any]) -> Problem:
    """Check and normalise the arguments of ``minimize`` and ``maximize``.

    Args:
        direction: "minimize" or "maximize".
        arguments: All arguments by name.

    Raises:
        OptimagicError: The subclass for the argument that is wrong.
    """
    a = dict(arguments)
    _refuse_unused(a)
    if isinstance(a["x0"], (list, tuple)) and all(is_real(number) for number in a["x0"]):
        # who writes as in SciPy expects an array, as there
        a["x0"] = np.array(a["x0"], dtype=np.float64)
    a["params"] = _alias(a, "params", "x0")
    if a["method"] is not None:
        a["algorithm"] = _alias(a, "algorithm", "method")
        a["algorithm"] = _scipy_method(a["algorithm"])
    for name in ("params", "algorithm"):
        if a[name] is None:
            raise MissingInputError(f"{name} is missing: {direction}(fun, params, algorithm, ...).")
    if a["derivatives"] not in get_args(DerivativesArgument):
        choices = get_args(DerivativesArgument)
        raise InvalidFunctionError(
            f"derivatives must be one of {', '.join(map(repr, choices))}, not "
            f"{a['derivatives']!r}.{did_you_mean(a['derivatives'], choices)}"
        )
    if a["callback"] is not None and not callable(a["callback"]):
        raise InvalidFunctionError(f"callback must be a function, not {a['callback']!r}.")
    algorithm = resolve_algorithm(a["algorithm"], a["algo_options"])
    errors = _error_policy(direction, a["error_handling"], a["error_penalty"])
    _check_penalty(errors, algorithm)
    return Problem(
        direction=direction,
        functions=read_functions(a, algorithm.algo_info.solver_type, algorithm.name),
        params=a["params"],
        algorithm=algorithm,
        # read once: an iterator is used up
        bounds=list(a["bounds"]) if isinstance(a["bounds"], Iterator) else a["bounds"],
        constraints=read_constraints(a["constraints"]),
        scaling=a["scaling"],
        bounds_as=a["bounds_as"],
        derivatives=a["derivatives"],
        numdiff_options=read_record(
            a["numdiff_options"], NumdiffOptions, InvalidNumdiffOptionsError
        ),
        logging=read_log_options(a["logging"]),
        errors=errors,
        callback=a["callback"],
        collect_history=bool(a["collect_history"]),
        skip_checks=bool(a["skip_checks"]),
        progress=bool(a["progress"]),
        check_derivatives=bool(a["check_derivatives"]),
        multistart=_multistart(a["multistart"], algorithm),
    )


def _check_penalty(errors: ErrorPolicy, algorithm: Algorithm) -> None:
    """Refuse a penalty that no residuals can have."""
    is_sum = algorithm.algo_info.solver_type == "least_squares"
    if is_sum and errors.constant is not None and errors.constant <= 0:
        raise InvalidFunctionError(
            f"error_penalty['constant'] must be positive for {algorithm.name}, not "
            f"{errors.constant!r}: it stands for a sum of squares."
        )


def make_problem_space(problem: Problem) -> Space:
    """Build the space in which the algorithm of a problem searches."""
    return make_space(
        problem.params,
        bounds=problem.bounds,
        constraints=problem.constraints,
        scaling=problem.scaling,
        bounds_as=problem.bounds_as,
        keeps_bounds=problem.algorithm.algo_info.supports_bounds,
    )


def check_structure(problem: Problem, structure: Structure) -> None:
    """Refuse a structure of the criterion from which the algorithm cannot be served.

    Args:
        problem: The problem.
        structure: What its criterion returns.
    """
    info, functions = problem.algorithm.algo_info, problem.functions
    if structure == "least_squares" and problem.direction == "maximize":
        raise InvalidFunctionError(
            "A sum of squared residuals cannot be maximized. Use minimize, or return one number."
        )
    if not serves(structure, info.solver_type):
        raise InvalidFunctionError(
            f"{info.name} needs {described(info.solver_type)}, and fun returns "
            f"{described(structure)}. If it does return {described(info.solver_type)}, mark it "
            f"with om.mark.{info.solver_type}; else use an algorithm such as 'scipy_lbfgsb'."
        )
    for name, own in (
        ("jac", functions.jac_structure),
        ("fun_and_jac", functions.fun_and_jac_structure),
    ):
        if getattr(functions, name) is not None and not serves(structure, own):
            raise InvalidFunctionError(
                f"{name} is marked as {own}, and fun returns {described(structure)}. Mark fun with "
                f"om.mark.{own} if it returns {described(own)}."
            )


def check_capabilities(problem: Problem, space: Space) -> None:
    """Refuse what the algorithm cannot do, before the first evaluation."""
    info = problem.algorithm.algo_info
    if problem.functions.structure is not None:
        check_structure(problem, problem.functions.structure)
    if len(space.bounded) and not info.supports_bounds:
        named = [space.names[i] for i in space.bounded]
        is_constrained = bool(space.nonlinear)

        def keeps_all(other: AlgoInfo) -> bool:
            return other.supports_bounds and other.supports_nonlinear_constraints >= is_constrained

        raise InvalidBoundsError(
            f"{info.name} cannot keep bounds, and there are some on {listed(named, 5)}. Use "
            'bounds_as="transform", or one of the algorithms that can: '
            f"{_able(info, keeps_all)}."
        )
    if info.needs_bounds:
        _check_box(info, space)
    problem.algorithm.check_fit(space.n_x, has_bounds=space.has_bounds)
    takes_native = info.supports_nonlinear_constraints
    if space.rows and not (takes_native or info.supports_linear_constraints):
        names = " and ".join(dict.fromkeys(rows.name for rows in space.rows))
        has_equality = any((rows.lower == rows.upper).any() for rows in space.rows)

        def only_less(other: AlgoInfo) -> bool:
            return has_equality and other.inequalities_only

        raise InvalidConstraintError(
            f"No bijection carries {names} together with bounds and other constraints, and "
            f"{info.name} takes no linear constraints. Algorithms that do: "
            f"{_able(info, lambda other: _takes_rows(other) and not only_less(other))}."
        )
    if space.nonlinear and not takes_native:
        names = " and ".join(demand.name for demand in space.nonlinear)
        raise InvalidConstraintError(
            f"{info.name} takes no nonlinear constraints, and there is {names}. Algorithms that "
            f"do: {_able(info, lambda other: other.supports_nonlinear_constraints)}."
        )
    functions = problem.functions
    given = [
        n for n in ("jac", "fun_and_jac", "hess", "hessp") if getattr(functions, n) is not None
    ]
    if info.needs_program and given:
        raise NotAvailableError(
            f"{info.name} runs inside JAX and differentiates fun itself, so {given[0]} would be "
            "ignored. Leave it out, or choose an algorithm of SciPy or NLopt."
        )
    if problem.derivatives == "numerical" and {"jac", "fun_and_jac"} & set(given):
        raise NotAvailableError(
            f'derivatives="numerical" and {given[0]} contradict each other; leave one out.'
        )
    if info.needs_program and problem.derivatives == "numerical":
        raise NotAvailableError(
            f'{info.name} runs inside JAX, where derivatives="numerical" cannot be had. Choose '
            "an algorithm of SciPy or NLopt."
        )
    unused = [n for n in ("hess", "hessp") if getattr(functions, n) is not None]
    if unused and not (info.needs_hess or info.uses_hess):
        able = [n for n, c in sorted(REGISTRY.items()) if "hess" in c.algo_info.allowed]
        raise NotAvailableError(
            f"{info.name} uses no Hessian, so {unused[0]} would be ignored. Leave it out, or "
            f"choose one of {', '.join(able)}."
        )


def _check_box(info: AlgoInfo, space: Space) -> None:
    """Refuse a space that is not bounded on all sides."""
    is_open = ~(np.isfinite(space.lower) & np.isfinite(space.upper))
    if is_open.any():
        named = [space.x_names[i] for i in np.flatnonzero(is_open)]
        raise IncompleteBoundsError(
            f"{info.name} searches a box and needs finite bounds on both sides of all free "
            f"parameters; they are missing for {listed(named, 5)}. Add bounds (and leave out "
            'bounds_as="transform", which takes them away), or use a local algorithm with '
            "multistart."
        )


def check_objective(problem: Problem, space: Space, objective: Objective) -> None:
    """Refuse a criterion that the algorithm cannot use."""
    info = problem.algorithm.algo_info
    given = [n for n in ("hess", "hessp") if getattr(problem.functions, n) is not None]
    if given and space.is_curved and objective.flat_gradient is None:
        raise NotAvailableError(
            f"With constraints that are built in by a transformation, {given[0]} says nothing "
            "without the gradient. Give jac or fun_and_jac as well, or write fun with jax.numpy."
        )
    if info.needs_program and objective.program is None:
        raise NotAvailableError(
            f"{info.name} runs inside JAX and needs a fun that JAX can trace: "
            f'{objective.not_traced}. Write fun with jax.numpy (or pass derivatives="exact", if '
            "JAX can trace it as it is), or choose an algorithm of SciPy or NLopt, for example "
            "'scipy_lbfgsb'."
        )


def check_native_constraints(problem: Problem, constraints: tuple[NativeConstraint, ...]) -> None:
    """Refuse equality constraints where the algorithm takes inequalities only."""
    info = problem.algorithm.algo_info
    equal = [constraint.name for constraint in constraints if constraint.has_equality]
    if equal and info.inequalities_only:
        able = _able(info, lambda other: _takes_rows(other) and not other.inequalities_only)
        raise InvalidConstraintError(
            f"{info.name} takes inequalities only, and {' and '.join(equal)} ask for equality. "
            f"Algorithms that take both: {able}."
        )


def _takes_rows(info: AlgoInfo) -> bool:
    return info.supports_linear_constraints or info.supports_nonlinear_constraints


def _able(info: AlgoInfo, can: Callable[[AlgoInfo], bool]) -> str:
    """Return the names of algorithms that can do something; those most like one, if any."""
    able = [cls.algo_info for _, cls in sorted(REGISTRY.items()) if can(cls.algo_info)]
    alike = [
        other
        for other in able
        if other.needs_jac == info.needs_jac and other.is_global == info.is_global
    ]
    same = [other for other in alike if other.solver_type == info.solver_type]
    return ", ".join(other.name for other in same or alike or able)


# ---- single arguments ----------------------------------------------------------------------


def _refuse_unused(a: Mapping[str, Any]) -> None:
    if a["tol"] is not None:
        raise AliasError(
            "tol means something else for each algorithm. Use algo_options with "
            "convergence_ftol_rel, convergence_gtol_abs or convergence_xtol_rel."
        )
    if a["options"] is not None:
        raise AliasError(
            "options of SciPy are not understood. Use algo_options with the harmonised names, "
            "such as stopping_maxiter; om.algos.<name>() shows those of an algorithm."
        )


def _multistart(multistart: Any, algorithm: Algorithm) -> MultistartOptions | None:
    options = read_multistart(multistart)
    if options is not None and algorithm.algo_info.is_global:
        local = _able(algorithm.algo_info, lambda other: not other.is_global)
        raise InvalidMultistartError(
            f"{algorithm.name} searches the whole box by itself, and multistart starts local "
            f"algorithms, such as {', '.join(local.split(', ')[:5])}. Leave multistart out, or "
            "choose one of those."
        )
    return options


def _alias(a: Mapping[str, Any], name: str, alias: str) -> Any:
    if a[name] is not None and a[alias] is not None:
        raise AliasError(f"{alias} is another name of {name}; give only one of them.")
    return a[name] if a[name] is not None else a[alias]


def _scipy_method(method: Any) -> Any:
    lower = {name.lower(): ours for name, ours in SCIPY_METHODS.items()}
    if isinstance(method, str) and method.lower() in lower:
        return lower[method.lower()]
    raise InvalidAlgoOptionError(
        f"method must be one of SciPy's methods, not {method!r}."
        f"{did_you_mean(method, SCIPY_METHODS)} Other algorithms are chosen by algorithm=."
    )


def _error_policy(direction: Direction, handling: Any, penalty: Any) -> ErrorPolicy:
    handling = getattr(handling, "value", handling)
    choices = get_args(Literal["raise", "continue"])
    if handling not in choices:
        raise InvalidFunctionError(
            f"error_handling must be 'raise' or 'continue', not {handling!r}."
            f"{did_you_mean(handling, choices)}"
        )
    if penalty is None:
        return ErrorPolicy(handling)
    if not isinstance(penalty, Mapping) or not set(penalty) <= {"constant", "slope"}:
        raise InvalidFunctionError(
            f"error_penalty must be a dict with 'constant' and/or 'slope', not {penalty!r}."
        )
    if handling == "raise":
        raise InvalidFunctionError(
            'error_penalty has an effect only with error_handling="continue".'
        )
    for name, value in penalty.items():
        if not is_real(value) or not math.isfinite(value):
            raise InvalidFunctionError(f"error_penalty[{name!r}] must be finite, not {value!r}.")
    slope = penalty.get("slope")
    if slope is not None and (slope < 0 if direction == "minimize" else slope > 0):
        raise InvalidFunctionError(
            f"error_penalty['slope'] is {slope!r}, which would make failures attractive: to "
            f"{direction}, it must be {'positive' if direction == 'minimize' else 'negative'}."
        )
    return ErrorPolicy(handling, penalty.get("constant"), slope)
