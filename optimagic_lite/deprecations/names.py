"""Old names and what they are called today, and how both are told apart."""

from __future__ import annotations

import functools
import inspect
import os
from collections.abc import Callable, Collection, Mapping
from typing import Any, ParamSpec, TypeVar

from optimagic_lite.exceptions import AliasError, OptimagicError, did_you_mean, warn_user

Call = dict[str, Any]
Advice = list[str]
Translation = Callable[[Call], tuple[Call, Advice]]

# arguments that changed their name only
ARGUMENTS = {
    "criterion": "fun",
    "criterion_kwargs": "fun_kwargs",
    "derivative": "jac",
    "derivative_kwargs": "jac_kwargs",
    "criterion_and_derivative": "fun_and_jac",
    "criterion_and_derivative_kwargs": "fun_and_jac_kwargs",
}

# arguments that are fields of bounds now
BOUNDS = {
    "lower_bounds": "lower",
    "upper_bounds": "upper",
    "soft_lower_bounds": "soft_lower",
    "soft_upper_bounds": "soft_upper",
}

# options that went with an argument that switched them on, and are that argument now
SWITCHED = {
    "scaling_options": "scaling",
    "multistart_options": "multistart",
    "log_options": "logging",
}

ALGO_OPTIONS = {
    "stopping_max_criterion_evaluations": "stopping_maxfun",
    "stopping_max_iterations": "stopping_maxiter",
    "convergence_absolute_criterion_tolerance": "convergence_ftol_abs",
    "convergence_relative_criterion_tolerance": "convergence_ftol_rel",
    "convergence_scaled_criterion_tolerance": "convergence_ftol_scaled",
    "convergence_absolute_params_tolerance": "convergence_xtol_abs",
    "convergence_relative_params_tolerance": "convergence_xtol_rel",
    "convergence_absolute_gradient_tolerance": "convergence_gtol_abs",
    "convergence_relative_gradient_tolerance": "convergence_gtol_rel",
    "convergence_scaled_gradient_tolerance": "convergence_gtol_scaled",
}

# attributes and keys of what a run returns
RESULT = {
    "criterion": "fun",
    "start_criterion": "start_fun",
    "n_criterion_evaluations": "n_fun_evals",
    "n_derivative_evaluations": "n_jac_evals",
}
HISTORY = {"criterion": "fun", "runtime": "time"}
EVALUATION = {"criterion": "fun", "value": "fun"}

_STILL = " estimagic still has it."

# what estimagic and optimagic have, and what to use instead
NOT_HERE = {
    "estimate_ml": " Use om.maximize with @om.mark.likelihood above fun, then "
    "result.standard_errors().",
    "estimate_msm": " Use om.minimize with @om.mark.least_squares above a fun that returns "
    "weighted differences of moments.",
    "bootstrap": " Use om.minimize_batch, with weights for each draw.",
    "batch_evaluators": " Batch evaluators are in optimagic_lite.parallel.",
    "estimation_table": _STILL,
    "lollipop_plot": _STILL,
    "derivative_plot": _STILL,
    "timing": " result.elapsed and history.time have the seconds of a run.",
}

# algorithms of theirs, and those that come nearest
ALGORITHMS = {
    "pounders": "scipy_ls_trf",
    "tao_pounders": "scipy_ls_trf",
    "nag_dfols": "scipy_ls_trf",
    "tranquilo_ls": "scipy_ls_trf",
    "tranquilo": "nlopt_bobyqa",
    "nag_pybobyqa": "nlopt_bobyqa",
    "neldermead_parallel": "scipy_neldermead",
    "fides": "scipy_trust_constr",
    "ipopt": "scipy_trust_constr",
}

_P = ParamSpec("_P")
_T = TypeVar("_T")


def accepts_old_names(
    translate: Translation, old: Mapping[str, str], name: str | None = None
) -> Callable[[Callable[_P, _T]], Callable[_P, _T]]:
    """Return a decorator that lets a function be called by the names of the past, with a warning.

    Args:
        translate: Turns the arguments, by name, into those of today, and says what it changed.
        old: The old names that it knows, and the new ones.
        name: What messages call the function; default: its name.
    """

    def decorate(function: Callable[_P, _T]) -> Callable[_P, _T]:
        names = list(inspect.signature(function).parameters)
        called = name or function.__name__

        @functools.wraps(function)
        def wrapper(*args: _P.args, **kwargs: _P.kwargs) -> _T:
            for key in kwargs:
                if key not in names and key not in old:
                    raise TypeError(f"{called}() has no argument {key!r}.{_hint(key, names, old)}")
            positional = dict(zip(names, args, strict=False))
            call, advice = translate({**positional, **kwargs})
            # a call without old names goes on as it is, so that Python finds what is wrong with it
            if not advice or len(positional) < len(args) or positional.keys() & kwargs.keys():
                return function(*args, **kwargs)
            tell(f"{called} got names of the past. They still work. Write today:", advice)
            first = [call.pop(key) for key in positional]
            return function(*first, **call)

        return wrapper

    return decorate


def with_old_fields(
    translate: Translation, old: Mapping[str, str]
) -> Callable[[type[_T]], type[_T]]:
    """Return a decorator that lets a dataclass be made by the names of the past; see above."""

    def decorate(cls: type[_T]) -> type[_T]:
        accepting = accepts_old_names(translate, old, cls.__name__)
        cls.__init__ = accepting(cls.__init__)  # type: ignore[method-assign]
        return cls

    return decorate


def _hint(key: str, names: list[str], old: Mapping[str, str]) -> str:
    hint = did_you_mean(key, names)
    if hint:
        return hint
    near = [new for past, new in old.items() if did_you_mean(key, [past])]
    return f" Did you mean {near[0]!r}?" if near else f" Its arguments are {', '.join(names)}."


def tell(title: str, advice: Advice) -> None:
    """Warn the user of a call that has changed.

    Args:
        title: What was found.
        advice: What to write instead, one line a change.
    """
    warn_user("\n  ".join([title, *advice]), FutureWarning)


def renamed(
    given: Mapping[str, Any], names: Mapping[str, str], error: type[OptimagicError] = AliasError
) -> tuple[Call, Advice]:
    """Return entries by their new names, and a line for each that has changed.

    Args:
        given: Entries by old and new names.
        names: Old and new names.
        error: What is raised if one thing is given by two names.
    """
    out: Call = {key: value for key, value in given.items() if key not in names}
    advice = []
    for old, new in names.items():
        if old in given:
            value = given[old]
            if value is not None and out.get(new) is not None:
                raise error(f"{old} is the old name of {new}; give only one of them.")
            if value is not None or new not in out:
                out[new] = value
            advice.append(f"{old}={shown(value)}  ->  {new}={shown(value)}")
    return out, advice


def dotless(names: Mapping[str, str], given: Mapping[str, Any]) -> dict[str, str]:
    """Return the new name of each entry that has dots, or an old name, or both."""
    plain = {key: str(key).replace(".", "_") for key in given}
    pairs = {key: names.get(name, name) for key, name in plain.items()}
    return {key: new for key, new in pairs.items() if key != new}


def today(name: str, names: Mapping[str, str]) -> str:
    """Return what an attribute or key is called today; warn if that is not its name.

    Args:
        name: What the user wrote.
        names: Old and new names.
    """
    if not isinstance(name, str) or name not in names:
        return name
    tell("A name of the past. It still works. Write today:", [f"{name}  ->  {names[name]}"])
    return names[name]


def old_key(key: str, owner: str, attributes: Collection[str]) -> str:
    """Return the attribute that is meant by a key of a dict of the past; warn.

    Args:
        key: What the user wrote.
        owner: What messages call the object.
        attributes: Those that there are.

    Raises:
        KeyError: If there is no such attribute.
    """
    if key not in attributes:
        raise KeyError(
            f"{owner} has no {key!r}; it has {', '.join(attributes)}."
            + did_you_mean(key, attributes)
        )
    tell("A name of the past. It still works. Write today:", [f"[{key!r}]  ->  .{key}"])
    return key


def old_attribute(owner: object, name: str, names: Mapping[str, str]) -> Any:
    """Return what an attribute of the past is called today, with a warning.

    Args:
        owner: An object that has no attribute of that name.
        name: What the user wrote.
        names: Old and new names.

    Raises:
        AttributeError: If it is not an old name either.
    """
    if name in names:
        return getattr(owner, today(name, names))
    # nothing but public names are worth a search: libraries probe objects for others
    hint = "" if name.startswith("_") else did_you_mean(name, dir(owner))
    raise AttributeError(f"{type(owner).__name__!r} object has no attribute {name!r}.{hint}")


def shown(value: Any) -> str:
    """Return a value as one would write it, if that is short, else dots."""
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    is_plain = value is None or isinstance(value, (bool, int, float, str, tuple))
    text = repr(value)
    return text if is_plain and len(text) <= 40 else "..."


def as_call(name: str, fields: Mapping[str, Any]) -> str:
    """Return a call as one would write it."""
    return f"{name}({', '.join(f'{key}={shown(value)}' for key, value in fields.items())})"
