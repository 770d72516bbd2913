"""Whole calls as they were written in the past, turned into those of today."""

from __future__ import annotations

import operator
import os
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from optimagic_lite import mark
from optimagic_lite.deprecations.constraints import about_constraints
from optimagic_lite.deprecations.names import (
    ARGUMENTS,
    BOUNDS,
    SWITCHED,
    Advice,
    Call,
    as_call,
    renamed,
    shown,
)
from optimagic_lite.deprecations.options import (
    new_algo_options,
    new_multistart_options,
    new_numdiff_options,
)
from optimagic_lite.exceptions import (
    AliasError,
    InvalidFunctionError,
    InvalidNumdiffOptionsError,
    did_you_mean,
)
from optimagic_lite.log_options import IfExists, SQLiteLogOptions
from optimagic_lite.options import Bounds

_MARKS: dict[str, Callable[..., Any]] = {
    "value": mark.scalar,
    "contributions": mark.likelihood,
    "root_contributions": mark.least_squares,
}

_IF_EXISTS = ("if_database_exists", "if_table_exists")

OLD_BOUNDS = dict.fromkeys(BOUNDS, "bounds")
OLD_ARGUMENTS = ARGUMENTS | OLD_BOUNDS | SWITCHED
OLD_DERIVATIVE_ARGUMENTS = OLD_BOUNDS | {
    "base_steps": "step_size",
    "key": "unpacker",
    "n_steps": "step_size",
    "step_ratio": "step_size",
    "return_func_value": "func_value of the result",
    "return_info": "func_value of the result",
}


def new_call(call: Call) -> tuple[Call, Advice]:
    """Return the arguments of ``minimize`` as they are written today, and what was changed.

    Args:
        call: Arguments by name, old and new.

    Raises:
        AliasError: If something is given by its old name and by its new one.
        OptimagicError: Other subclasses for what cannot be had any more.
    """
    call = dict(call)
    advice: Advice = []
    for step in (_mark_derivatives, _merge_bounds, _merge_scaling, _merge_log, _merge_multistart):
        step(call, advice)
    for name, translate in (
        ("algo_options", new_algo_options),
        ("numdiff_options", new_numdiff_options),
    ):
        if isinstance(call.get(name), Mapping):
            call[name], changes = translate(call[name])
            advice += [f"{name}: {change}" for change in changes]
    advice += about_constraints(call)
    return call, advice


def new_bounds(call: Call) -> tuple[Call, Advice]:
    """Return arguments with ``bounds`` instead of ``lower_bounds`` and ``upper_bounds``."""
    call = dict(call)
    advice: Advice = []
    _merge_bounds(call, advice)
    return call, advice


def new_derivative_call(call: Call) -> tuple[Call, Advice]:
    """Return the arguments of ``first_derivative`` as they are written today, and what changed.

    Raises:
        AliasError: If something is given by its old name and by its new one.
        InvalidNumdiffOptionsError: If something cannot be had any more.
    """
    call, advice = new_numdiff_options(call)
    _merge_bounds(call, advice)
    if "key" in call:
        key = call.pop("key")
        if key is None:
            advice.append("key=None  ->  leave it out")
        else:
            if call.get("unpacker") is not None:
                raise AliasError("key is an old way to give unpacker; give only that.")
            call["unpacker"] = operator.itemgetter(key)
            advice.append(f"key={key!r}  ->  unpacker=lambda out: out[{key!r}]")
    if "return_func_value" in call:
        del call["return_func_value"]
        advice.append("return_func_value  ->  leave it out, the result always has a func_value")
    if "return_info" in call:
        if call.pop("return_info"):
            raise InvalidNumdiffOptionsError(
                "return_info=True cannot be had: evaluations and candidates belonged to Richardson "
                "extrapolation. Leave it out; to see the evaluations, record them in func."
            )
        advice.append("return_info=False  ->  leave it out")
    return call, advice


# ---- the steps of new_call -------------------------------------------------------------------


def _mark_derivatives(call: Call, advice: Advice) -> None:
    """Rename what is only renamed, and mark derivatives as what they are of."""
    is_old = {ARGUMENTS[name] for name in ARGUMENTS if call.get(name) is not None}
    out, changes = renamed(call, ARGUMENTS)
    advice += changes
    for name in ("jac", "fun_and_jac"):
        given = out.get(name)
        if isinstance(given, Mapping):
            out[name] = [_MARKS[_key(key, name)](function) for key, function in given.items()]
            listed = ", ".join(f"om.mark.{_MARKS[key].__name__}(...)" for key in given)
            advice.append(f"{name}={{{', '.join(map(repr, given))}}}  ->  {name}=[{listed}]")
        elif name in is_old and callable(given) and mark.structure_of(given) is None:
            # without a mark it was the derivative of whatever the algorithm takes
            out[name] = [marked(given) for marked in _MARKS.values()]
    call.clear()
    call.update(out)


def _key(key: Any, name: str) -> str:
    if key in _MARKS:
        return str(key)
    raise InvalidFunctionError(
        f"{name} has a function for {key!r}. There are those of {', '.join(map(repr, _MARKS))}."
        f"{did_you_mean(key, _MARKS)}"
    )


def _merge_bounds(call: Call, advice: Advice) -> None:
    given = {name: call.pop(name) for name in BOUNDS if name in call}
    if not given:
        return
    fields = {BOUNDS[name]: value for name, value in given.items() if value is not None}
    if fields and call.get("bounds") is not None:
        raise AliasError(
            f"{' and '.join(given)} are fields of bounds now: write them into it, "
            "om.Bounds(lower=..., upper=...)."
        )
    if fields:
        call["bounds"] = Bounds(**fields)
    old = ", ".join(f"{name}={shown(value)}" for name, value in given.items())
    new = f"bounds={as_call('om.Bounds', fields)}" if fields else "leave them out"
    advice.append(f"{old}  ->  {new}")


def _merge_scaling(call: Call, advice: Advice) -> None:
    options = _switched_on(call, "scaling_options", advice)
    if options is not None:
        call["scaling"] = options
        advice.append(f"scaling_options=...  ->  scaling={as_call('om.ScalingOptions', options)}")


def _merge_multistart(call: Call, advice: Advice) -> None:
    options = _switched_on(call, "multistart_options", advice)
    if options is not None:
        call["multistart"], _ = new_multistart_options(options)
        new = as_call("om.MultistartOptions", call["multistart"])
        advice.append(f"multistart_options=...  ->  multistart={new}")
    elif isinstance(call.get("multistart"), Mapping):
        call["multistart"], changes = new_multistart_options(call["multistart"])
        advice += [f"multistart: {change}" for change in changes]


def _merge_log(call: Call, advice: Advice) -> None:
    options = _switched_on(call, "log_options", advice)
    if options is None:
        return
    fields = {key: value for key, value in options.items() if key not in _IF_EXISTS}
    fields["if_database_exists"] = _if_exists(options)
    call["logging"] = SQLiteLogOptions(call["logging"], **_log_fields(fields))
    path = shown(call["logging"].path)
    new = as_call("om.SQLiteLogOptions", fields).replace("(", f"({path}, ", 1)
    advice.append(f"log_options=...  ->  logging={new}")


def _log_fields(fields: Call) -> Call:
    valid = ("fast_logging", "if_database_exists")
    for name in fields:
        if name not in valid:
            raise AliasError(
                f"log_options has no entry {name!r}.{did_you_mean(name, valid)} It is an old way "
                "to configure a log; use logging=om.SQLiteLogOptions(path, ...)."
            )
    return fields


def _if_exists(options: Mapping[str, Any]) -> IfExists:
    """Return what is done with a file that is there; a log is all that it holds."""
    for name in _IF_EXISTS:
        if options.get(name) not in (None, "extend"):
            return options[name]  # type: ignore[no-any-return]
    return "extend"


def _switched_on(call: Call, name: str, advice: Advice) -> Mapping[str, Any] | None:
    """Take old options out of a call, and return them if they are to be used."""
    if name not in call:
        return None
    options, argument = call.pop(name), SWITCHED[name]
    switch = call.get(argument)
    is_path = name == "log_options" and isinstance(switch, (str, os.PathLike))
    if options is None or switch is None or switch is False:
        advice.append(f"{name}={shown(options)}  ->  leave it out, it changes nothing")
        return None
    is_switch = name != "log_options" and isinstance(switch, (bool, np.bool_))
    if not isinstance(options, Mapping) or not (is_path or is_switch):
        raise AliasError(
            f"{name} is an old way to give {argument}, a dict next to {argument}="
            f"{'path' if name == 'log_options' else True}; give only {argument}."
        )
    return options
