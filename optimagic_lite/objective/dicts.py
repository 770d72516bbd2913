"""Criteria of the past, which returned dicts with what each kind of algorithm takes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from optimagic_lite.deprecations.names import tell
from optimagic_lite.mark import Structure
from optimagic_lite.objective.kinds import (
    FunctionValue,
    LeastSquaresFunctionValue,
    LikelihoodFunctionValue,
    ScalarFunctionValue,
    serves,
)
from optimagic_lite.objective.written import UserFunctions, both_of

_KEYS: dict[Structure, str] = {
    "scalar": "value",
    "likelihood": "contributions",
    "least_squares": "root_contributions",
}
_CLASSES: dict[Structure, type[FunctionValue]] = {
    "scalar": ScalarFunctionValue,
    "likelihood": LikelihoodFunctionValue,
    "least_squares": LeastSquaresFunctionValue,
}


@dataclass(frozen=True)
class OneOfDict:
    """A function that returns of a dict what one structure asks for, and the rest as info.

    Args:
        function: Returns a dict, or a tuple of a dict and a derivative.
        structure: Which entry counts.
        is_joint: Whether it returns a tuple.
    """

    function: Callable[..., Any]
    structure: Structure
    is_joint: bool = False

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function and return what counts."""
        raw = self.function(*args, **kwargs)
        if self.is_joint:
            value, derivative = both_of(raw)
            return self.value_of(value), derivative
        return self.value_of(raw)

    def value_of(self, raw: Any) -> Any:
        """Return what a dict stands for; anything else as it is."""
        if not is_dict_output(raw) or _KEYS[self.structure] not in raw:
            return raw
        return _CLASSES[self.structure](raw[_KEYS[self.structure]], info=_info(raw))


def is_dict_output(raw: Any) -> bool:
    """Tell whether a return value is a dict as estimagic's criteria returned it."""
    return isinstance(raw, Mapping) and any(key in raw for key in _KEYS.values())


def without_dicts(
    functions: UserFunctions, raw: Any, target: Structure
) -> tuple[UserFunctions, Any]:
    """Return functions and their first value as they are if the criterion returns a dict.

    Warns if it does; if not, both are returned unchanged.

    Args:
        functions: What the user gave.
        raw: What ``fun`` returned at the start.
        target: What the algorithm takes.
    """
    if functions.structure is not None or not is_dict_output(raw):
        return functions, raw
    structure = _choose(functions, raw, target)
    fun, joint = OneOfDict(functions.fun, structure), functions.fun_and_jac
    title = "fun returned a dict, as in the past. It still works. Write today:"
    tell(title, _advice(functions, fun, raw))
    if joint is not None:
        joint = OneOfDict(joint, functions.fun_and_jac_structure, is_joint=True)
    return replace(functions, fun=fun, fun_and_jac=joint), fun.value_of(raw)


def _choose(functions: UserFunctions, raw: Mapping[str, Any], target: Structure) -> Structure:
    """Return the structure that the algorithm asks for, or one from which all needs are served."""
    needs = [target]
    if functions.jac is not None:
        needs.append(functions.jac_structure)
    if functions.fun_and_jac is not None:
        needs.append(functions.fun_and_jac_structure)
    present: list[Structure] = [structure for structure, key in _KEYS.items() if key in raw]
    able = [s for s in present if all(serves(s, need) for need in needs)]
    # where nothing serves, checks that follow say so of that which has most structure
    return able[0] if able else present[-1]


def _info(raw: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return what a dict holds besides values."""
    return {key: value for key, value in raw.items() if key not in _KEYS.values()} or None


def _advice(functions: UserFunctions, fun: OneOfDict, raw: Mapping[str, Any]) -> list[str]:
    key, structure, info = _KEYS[fun.structure], fun.structure, _info(raw)
    listed = ", ".join(f"{name!r}: ..." for name in raw)
    if info is not None:
        entries = ", ".join(f"{name!r}: ..." for name in info)
        new = f"return om.{_CLASSES[structure].__name__}({key}, info={{{entries}}})"
    elif structure == "scalar":
        new = f"return {key}"
    else:
        new = f"return {key}, and put @om.mark.{structure} above fun"
    lines = [f"return {{{listed}}}  ->  {new}"]
    if functions.has_jac and structure != "scalar":
        lines.append(f"derivatives of {key}: put @om.mark.{structure} above them, too")
    return lines
