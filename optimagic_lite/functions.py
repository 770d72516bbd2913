"""From the functions that the user wrote to one strict record."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from optimagic_lite.exceptions import (
    AliasError,
    InvalidFunctionError,
    InvalidKwargsError,
    MissingInputError,
)
from optimagic_lite.mark import Structure, structure_of
from optimagic_lite.objective.kinds import described, serves
from optimagic_lite.objective.written import UserFunctions, both_of

_KWARGS = ("fun_kwargs", "jac_kwargs", "fun_and_jac_kwargs")

# one fun_kwargs serves hess and hessp, which have none of their own
_OWNERS = {
    "fun": "fun_kwargs",
    "jac": "jac_kwargs",
    "fun_and_jac": "fun_and_jac_kwargs",
    "hess": "fun_kwargs",
    "hessp": "fun_kwargs",
}


def read_functions(
    arguments: Mapping[str, Any], target: Structure, algorithm: str
) -> UserFunctions:
    """Check and normalise the criterion, its derivatives and their arguments.

    Args:
        arguments: The arguments of ``minimize`` by name.
        target: What the algorithm takes.
        algorithm: Its name, for messages.

    Raises:
        OptimagicError: The subclass for the argument that is wrong.
    """
    kwargs = _read_kwargs(arguments)
    fun, jac, joint = _resolve_aliases(arguments, kwargs)
    jac, jac_structure = _choose("jac", jac, target, algorithm)
    joint, joint_structure = _choose("fun_and_jac", joint, target, algorithm)
    functions: dict[str, Any] = {"fun": fun, "jac": jac, "fun_and_jac": joint,
                 "hess": arguments["hess"], "hessp": arguments["hessp"]}  # fmt: skip
    for name, function in functions.items():
        if function is not None and not callable(function):
            raise InvalidFunctionError(f"{name} must be a function, not {function!r}.")
    structure = joint_structure if fun is None else structure_of(fun)
    if arguments["args"] is not None:
        functions, kwargs = _bind_args(functions, kwargs, arguments["args"])
    if functions["fun"] is None:
        functions["fun"] = _first_of(functions["fun_and_jac"])
        kwargs["fun_kwargs"] = kwargs["fun_and_jac_kwargs"]
    for name, owner in _OWNERS.items():
        if functions[name] is not None:
            n_positional = 2 if name == "hessp" else 1
            _check_call(name, functions[name], n_positional, owner, kwargs[owner])
    return UserFunctions(
        **(functions | kwargs),
        structure=structure,
        jac_structure=jac_structure,
        fun_and_jac_structure=joint_structure,
    )


def _read_kwargs(a: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    for name in _KWARGS:
        if a[name] is not None and not isinstance(a[name], Mapping):
            raise InvalidKwargsError(f"{name} must be a dict of arguments, not {a[name]!r}.")
    for name in ("jac", "fun_and_jac"):
        is_there = callable(a[name]) or isinstance(a[name], (list, tuple))
        if a[f"{name}_kwargs"] and not is_there:
            raise InvalidKwargsError(f"{name}_kwargs is given, but no function {name}.")
    return {name: dict(a[name] or {}) for name in _KWARGS}


def _resolve_aliases(
    a: Mapping[str, Any], kwargs: dict[str, dict[str, Any]]
) -> tuple[Any, Any, Any]:
    """Return fun, jac and fun_and_jac; ``jac=True`` is another way to give the last."""
    fun, jac, joint = a["fun"], a["jac"], a["fun_and_jac"]
    if jac is True:
        if joint is not None:
            raise AliasError("jac=True says that fun is fun_and_jac; do not give both.")
        fun, jac, joint = None, None, fun
        kwargs["fun_and_jac_kwargs"] = kwargs["fun_kwargs"]
    if jac is False:
        jac = None
    if isinstance(jac, str):
        raise InvalidFunctionError(
            f"jac={jac!r} is SciPy's way to ask for differences. Use derivatives='numerical' and "
            "numdiff_options=om.NumdiffOptions(method='forward' or 'central')."
        )
    if fun is None and joint is None:
        raise MissingInputError("fun is missing.")
    return fun, jac, joint


def _choose(
    name: str, given: Any, target: Structure, algorithm: str
) -> tuple[Callable[..., Any] | None, Structure]:
    """Return, of one or several marked functions, that from which the algorithm is served best."""
    if given is None:
        return None, "scalar"
    if isinstance(given, (list, tuple)) and not given:
        raise InvalidFunctionError(f"{name} is an empty list. Leave it out, or put a function in.")
    functions: dict[Structure, Any] = {}
    for function in given if isinstance(given, (list, tuple)) else [given]:
        if not callable(function):
            raise InvalidFunctionError(f"{name} must be a function, not {function!r}.")
        structure = structure_of(function) or "scalar"
        if structure in functions:
            raise InvalidFunctionError(f"Two functions of {name} are marked as {structure}.")
        functions[structure] = function
    able: list[Structure] = [target, *(s for s in functions if serves(s, target))]
    found = next((structure for structure in able if structure in functions), None)
    if found is None:
        marks = " and ".join(functions)
        raise InvalidFunctionError(
            f"{algorithm} needs derivatives of {described(target)}, and {name} is marked as "
            f"{marks} (without a mark it is scalar). Give a function that is marked with "
            f"om.mark.{target}, alone or in a list with others, or leave {name} out."
        )
    return functions[found], found


def _bind_args(
    functions: dict[str, Any], kwargs: dict[str, dict[str, Any]], args: Any
) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """Turn SciPy's ``args``, which go to every function, into keyword arguments."""
    if any(kwargs.values()):
        raise AliasError("args and the ..._kwargs are two ways to pass the same; give only one.")
    args = args if isinstance(args, tuple) else (args,)
    source = functions["fun"] or functions["fun_and_jac"]
    names = _parameter_names(source)[1 : 1 + len(args)]
    others = [f for name, f in functions.items() if f is not None and name != "hessp"]
    agree = all(_parameter_names(f)[1 : 1 + len(args)] == names for f in others)
    if len(names) == len(args) and agree and functions["hessp"] is None:
        bound = dict(zip(names, args, strict=True))
        return functions, {name: dict(bound) for name in kwargs}
    for name, function in functions.items():
        if function is not None:
            _check_args(name, function, 2 if name == "hessp" else 1, args)
    wrapped = {
        name: None if function is None else (lambda *p, _f=function: _f(*p, *args))
        for name, function in functions.items()
    }
    return wrapped, kwargs


def _parameter_names(function: Callable[..., Any]) -> list[str]:
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return []
    return [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]


def _check_args(
    name: str, function: Callable[..., Any], n_positional: int, args: tuple[Any, ...]
) -> None:
    error = _refusal(function, n_positional + len(args), {})
    if error is not None:
        raise InvalidKwargsError(
            f"{name}{inspect.signature(function)} cannot be called with {len(args)} further "
            f"arguments: {error}. args go to all functions; give each its own in fun_kwargs, "
            "jac_kwargs and so on."
        ) from error


def _check_call(
    name: str, function: Callable[..., Any], n_positional: int, owner: str, kwargs: dict[str, Any]
) -> None:
    error = _refusal(function, n_positional, kwargs)
    if error is not None:
        raise InvalidKwargsError(
            f"{name}{inspect.signature(function)} cannot be called with params and "
            f"{owner}={sorted(kwargs)}: {error}. Further arguments of {name} are passed by name in "
            f"{owner}."
        ) from error


def _refusal(
    function: Callable[..., Any], n_positional: int, kwargs: dict[str, Any]
) -> TypeError | None:
    """Return why a function cannot be called so; None if it can, or has no signature."""
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return None
    try:
        signature.bind(*[None] * n_positional, **kwargs)
    except TypeError as error:
        return error
    return None


def _first_of(fun_and_jac: Callable[..., Any]) -> Callable[..., Any]:
    def fun(*args: Any, **kwargs: Any) -> Any:
        return both_of(fun_and_jac(*args, **kwargs))[0]

    return fun
