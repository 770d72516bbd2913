"""What a benchmark must know of a test problem, whoever made it."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from optimagic_lite.deprecations.calls import OLD_ARGUMENTS
from optimagic_lite.exceptions import InvalidBenchmarkError, did_you_mean
from optimagic_lite.mark import structure_of
from optimagic_lite.objective.kinds import Kind, structure_of_value
from optimagic_lite.optimize import minimize
from optimagic_lite.options import is_real
from optimagic_lite.space.trees import ParamTree

Array = NDArray[np.float64]


@dataclass(frozen=True)
class BenchmarkProblem:
    """A test problem.

    Attributes:
        name: Its name.
        inputs: Arguments of ``minimize``: "fun", "params" and more.
        start: Flat start, shape (n_params,).
        start_value: Noise-free value there; None means the first value of a run.
        value: Smallest value; None means the best that any algorithm found.
        solution: Flat parameters there, shape (n_params,); None if not unique or not known.
        exact_value: Noise-free value as a function of params; None if values have no noise.
    """

    name: str
    inputs: Mapping[str, Any]
    start: Array
    start_value: float | None
    value: float | None
    solution: Array | None
    exact_value: Callable[[Any], float] | None

    def run_inputs(self) -> dict[str, Any]:
        """Return arguments of ``minimize`` for one run, with noise that begins anew."""
        begun_anew = getattr(self.inputs["fun"], "begun_anew", None)
        return {**self.inputs} if begun_anew is None else {**self.inputs, "fun": begun_anew()}


ARGUMENTS = tuple(inspect.signature(minimize).parameters)
_OF_OPTIONS = ("algorithm", "algo_options", "method")
_KEYS = ("inputs", "noise_free_fun", "solution", "noisy", "info", "start_criterion")


def read_problems(problems: Any) -> dict[str, BenchmarkProblem]:
    """Check test problems.

    Args:
        problems: Dicts by name, as ``get_benchmark_problems`` returns them.

    Raises:
        InvalidBenchmarkError: If there are none, or one is not valid.
    """
    if not isinstance(problems, Mapping) or not problems:
        raise InvalidBenchmarkError(
            "problems must be a dict with one entry a problem, as om.get_benchmark_problems "
            f"returns it, not {problems!r}."
        )
    return {str(name): _read(str(name), problem) for name, problem in problems.items()}


def _read(name: str, problem: Any) -> BenchmarkProblem:
    if not isinstance(problem, Mapping):
        raise InvalidBenchmarkError(f"Problem {name!r} must be a dict, not {problem!r}.")
    for key in problem:
        if key not in _KEYS:
            raise InvalidBenchmarkError(
                f"Problem {name!r} has an entry {key!r}, which is unknown."
                f"{did_you_mean(key, _KEYS)} Entries are {', '.join(_KEYS)}."
            )
    inputs = problem.get("inputs")
    if not isinstance(inputs, Mapping) or not {"fun", "params"} <= set(inputs):
        raise InvalidBenchmarkError(
            f"Problem {name!r} needs an entry 'inputs' with at least 'fun' and 'params'."
        )
    _check_inputs(name, inputs)
    tree = ParamTree(inputs["params"])
    solution = _solution(name, problem)
    at = solution.get("params")
    if at is not None:
        at = tree.align(at, f"The solution of problem {name!r}")
    return BenchmarkProblem(
        name=name,
        inputs=inputs,
        start=tree.start_values(),
        start_value=_number(problem.get("start_criterion"), f"start_criterion of {name!r}"),
        value=_number(solution.get("value"), f"The value at the solution of {name!r}"),
        solution=at if at is not None and np.isfinite(at).all() else None,
        exact_value=_exact_value(name, problem) if problem.get("noisy") else None,
    )


def _check_inputs(name: str, inputs: Mapping[str, Any]) -> None:
    valid = [key for key in ARGUMENTS if key not in _OF_OPTIONS]
    for key in inputs:
        if key in _OF_OPTIONS:
            raise InvalidBenchmarkError(
                f"Problem {name!r} has {key!r} among its inputs, which belongs to optimize_options."
            )
        if key not in valid:
            raise InvalidBenchmarkError(
                f"Problem {name!r} has {key!r} among its inputs, which is no argument of minimize."
                f"{hint_of_argument(key, valid)}"
            )


def _solution(name: str, problem: Mapping[str, Any]) -> Mapping[str, Any]:
    solution = problem.get("solution")
    if solution is None:
        return {}
    if not isinstance(solution, Mapping) or not set(solution) <= {"params", "value"}:
        raise InvalidBenchmarkError(
            f"The solution of problem {name!r} must be a dict with 'params', 'value' or both, not "
            f"{solution!r}."
        )
    return solution


def hint_of_argument(key: str, valid: Collection[str]) -> str:
    """Return what an argument of ``minimize`` that is not known may mean, as a sentence.

    Args:
        key: What the user wrote.
        valid: The arguments that there are.
    """
    if key in OLD_ARGUMENTS:
        return f" It is called {OLD_ARGUMENTS[key]!r} today."
    return did_you_mean(key, valid)


def _exact_value(name: str, problem: Mapping[str, Any]) -> Callable[[Any], float]:
    fun = problem.get("noise_free_fun")
    if fun is None:
        raise InvalidBenchmarkError(f"Problem {name!r} is noisy and has no 'noise_free_fun'.")
    declared = structure_of(problem["inputs"]["fun"])
    kwargs = problem["inputs"].get("fun_kwargs") or {}

    def exact_value(params: Any) -> float:
        raw = fun(params, **kwargs)
        return float(Kind(structure_of_value(raw, declared), "scalar").value(raw))

    return exact_value


def _number(value: Any, what: str) -> float | None:
    if value is None:
        return None
    if not is_real(value):
        raise InvalidBenchmarkError(f"{what} must be a number or None, not {value!r}.")
    return float(value) if math.isfinite(value) else None
