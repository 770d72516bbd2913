"""What a benchmark must know of a test problem, whoever made it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from numpy.typing import NDArray

from optimagic_lite.exceptions import InvalidBenchmarkError, did_you_mean
from optimagic_lite.mark import structure_of
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
    tree = ParamTree(inputs["params"])
    solution = problem.get("solution") or {}
    at = solution.get("params")
    if at is not None:
        at = tree.align(at, f"The solution of problem {name!r}")
    return BenchmarkProblem(
        name=name,
        inputs=inputs,
        start=tree.start_values(),
        start_value=_number(problem.get("start_criterion")),
        value=_number(solution.get("value")),
        solution=at if at is not None and np.isfinite(at).all() else None,
        exact_value=_exact_value(name, problem) if problem.get("noisy") else None,
    )


def _exact_value(name: str, problem: Mapping[str, Any]) -> Callable[[Any], float]:
    fun = problem.get("noise_free_fun")
    if fun is None:
        raise InvalidBenchmarkError(f"Problem {name!r} is noisy and has no 'noise_free_fun'.")
    structure = structure_of(problem["inputs"]["fun"]) or "scalar"
    kwargs = problem["inputs"].get("fun_kwargs") or {}

    def exact_value(params: Any) -> float:
        found = [np.ravel(leaf) for leaf in jax.tree.leaves(fun(params, **kwargs))]
        numbers = np.concatenate(found).astype(np.float64)
        return float(numbers @ numbers if structure == "least_squares" else numbers.sum())

    return exact_value


def _number(value: Any) -> float | None:
    return None if value is None or not np.isfinite(value) else float(value)
