"""How far each run of a benchmark came, and when it had solved its problem."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from optimagic_lite.benchmarking.problem import BenchmarkProblem, read_problems
from optimagic_lite.benchmarking.results import failed
from optimagic_lite.exceptions import InvalidBenchmarkError, did_you_mean, listed, warn_user
from optimagic_lite.options import is_real

Array = NDArray[np.float64]
RuntimeMeasure = Literal["n_evaluations", "walltime", "n_batches"]
StoppingCriterion = Literal["x", "y", "x_and_y", "x_or_y"]
DistanceMeasure = Literal["criterion", "parameter_distance"]


@dataclass(frozen=True, eq=False)
class Course:
    """The course of one run; arrays have one entry for each evaluation.

    Attributes:
        problem: Name of the problem.
        algorithm: Name of the optimize options.
        n_params: Number of parameters of the problem.
        runtime: By measure, what was spent up to the end of each evaluation: evaluations (the
            first is 1), batches (likewise) or seconds.
        criterion: Values.
        parameter_distance: Euclidean distance from the solution; NaN where none is known.
        start: By distance measure, its value at the start.
        target: By distance measure, its smallest value.
        failed: Whether the run ended with an error.
    """

    problem: str
    algorithm: str
    n_params: int
    runtime: Mapping[str, Array]
    criterion: Array
    parameter_distance: Array
    start: Mapping[str, float]
    target: Mapping[str, float]
    failed: bool

    def distance(
        self, measure: DistanceMeasure, *, monotone: bool = True, normalize: bool = True
    ) -> Array:
        """Return how far each evaluation was from the solution.

        Args:
            measure: What is measured.
            monotone: Whether to return the best so far; failed evaluations do not count then.
            normalize: Whether to return the part of the distance at the start that is missing:
                1 there, 0 at the solution, and where a smaller value than that was found.
        """
        found: Array = getattr(self, measure)
        if monotone:
            found = np.fmin.accumulate(found)
        if normalize:
            # where there was no way to go, none is missing
            way = self.start[measure] - self.target[measure]
            found = np.maximum(found - self.target[measure], 0.0) / (way if way > 0 else 1.0)
        return found

    def solved_at(self, stopping: StoppingCriterion, x_precision: float, y_precision: float) -> int:
        """Return at which evaluation the problem was solved, or -1 if it was not.

        Args:
            stopping: Whether parameters, the value, both or either must be close enough.
            x_precision: Part of the distance of parameters that may be missing.
            y_precision: The same of values; Moré and Wild (2009) call it tau.
        """
        with np.errstate(invalid="ignore"):
            x = self.distance("parameter_distance") <= x_precision
            y = self.distance("criterion") <= y_precision
        both = {"x": x, "y": y, "x_and_y": x & y, "x_or_y": x | y}[stopping]
        return int(np.argmax(both)) if both.any() and not self.failed else -1


def read_courses(problems: Any, results: Any) -> list[Course]:
    """Return the course of each run, in the order of the results.

    Args:
        problems: See ``run_benchmark``.
        results: What it returned for these problems, or for some of them.

    Raises:
        InvalidBenchmarkError: If they do not fit.
    """
    read = read_problems(problems)
    if not isinstance(results, Mapping) or not results:
        raise InvalidBenchmarkError(
            f"results must be what om.run_benchmark returned, not {results!r}."
        )
    for name, _ in results:
        if name not in read:
            raise InvalidBenchmarkError(
                f"There are results for {name!r}, which is not among the problems."
                f"{did_you_mean(name, read)}"
            )
    best = _best_values(results)
    return [
        _course(read[problem], algorithm, run, best[problem])
        for (problem, algorithm), run in results.items()
    ]


def by_problem(courses: Iterable[Course]) -> dict[str, dict[str, Course]]:
    """Return the runs on each problem by algorithm.

    Args:
        courses: The runs.

    Raises:
        InvalidBenchmarkError: If algorithms have not run on the same problems.
    """
    found: dict[str, dict[str, Course]] = {}
    for course in courses:
        found.setdefault(course.problem, {})[course.algorithm] = course
    algorithms = dict.fromkeys(name for runs in found.values() for name in runs)
    for problem, runs in found.items():
        missing = [name for name in algorithms if name not in runs]
        if missing:
            raise InvalidBenchmarkError(
                f"There is no result of {listed(missing, 5)} on problem {problem!r}, so shares "
                "and means of problems cannot be compared. Run what is missing and join the "
                "results with |, or leave the others out."
            )
    return found


def check_choice(name: str, value: Any, choices: Any) -> None:
    """Refuse a value that is not among the choices.

    Args:
        name: Name of the argument.
        value: What the user wrote.
        choices: A ``Literal``.

    Raises:
        ValueError: If it is another one.
    """
    valid = get_args(choices)
    if value not in valid:
        raise ValueError(
            f"{name} must be one of {', '.join(map(repr, valid))}, not {value!r}."
            f"{did_you_mean(value, valid)}"
        )


def judged(
    courses: list[Course], stopping: StoppingCriterion, x_precision: float, y_precision: float
) -> dict[Course, int]:
    """Return at which evaluation each run had solved its problem; -1 where it had not.

    Problems whose solution is not unique or not known cannot be judged by their parameters. They
    are left out, with a warning, if those decide.

    Args:
        courses: The runs.
        stopping: See ``Course.solved_at``.
        x_precision: Likewise.
        y_precision: Likewise.

    Raises:
        ValueError: If an argument is not valid, or nothing is left to judge.
    """
    check_choice("stopping_criterion", stopping, StoppingCriterion)
    for name, value in (("x_precision", x_precision), ("y_precision", y_precision)):
        if not (is_real(value) and value >= 0):
            raise ValueError(f"{name} must be a number that is not negative, not {value!r}.")
    if stopping in ("x", "x_and_y"):
        courses = with_known_solution(courses, f"stopping_criterion={stopping!r}")
    return {course: course.solved_at(stopping, x_precision, y_precision) for course in courses}


def with_known_solution(courses: list[Course], why: str) -> list[Course]:
    """Leave out, with a warning, what cannot be judged by its parameters.

    Args:
        courses: The runs.
        why: The argument that asks for it.

    Raises:
        ValueError: If nothing is left.
    """
    known = [course for course in courses if np.isfinite(course.start["parameter_distance"])]
    unknown = dict.fromkeys(c.problem for c in courses if c not in known)
    if not known:
        raise ValueError(f"{why} needs problems whose solution is unique and known: none is here.")
    if unknown:
        warn_user(
            f"{why} judges by parameters, and these problems have no unique, known solution: "
            f"{listed(list(unknown), 5)}. They are left out."
        )
    return known


def _best_values(results: Mapping[tuple[str, str], Any]) -> dict[str, float]:
    """Return the smallest value that any algorithm found, for each problem."""
    best: dict[str, float] = {}
    for (problem, _), run in results.items():
        values = np.asarray(run["criterion_history"], dtype=np.float64)
        finite = values[np.isfinite(values)]
        best[problem] = min(best.get(problem, np.inf), *finite, np.inf)
    return best


def _course(problem: BenchmarkProblem, algorithm: str, run: Any, best: float) -> Course:
    criterion = np.array(run["criterion_history"], dtype=np.float64)
    params = np.array(run["params_history"], dtype=np.float64).reshape(len(criterion), -1)
    distance = np.full(len(criterion), np.nan)
    at_start = np.nan
    if problem.solution is not None:
        distance = np.linalg.norm(params - problem.solution, axis=1)
        at_start = float(np.linalg.norm(problem.start - problem.solution))
    start_value = criterion[0] if problem.start_value is None else problem.start_value
    runtime = {
        "n_evaluations": np.arange(1.0, len(criterion) + 1),
        "n_batches": np.array(run["batches_history"], dtype=np.float64) + 1,
        "walltime": np.array(run["time_history"], dtype=np.float64),
    }
    return Course(
        problem=problem.name,
        algorithm=algorithm,
        n_params=len(problem.start),
        runtime={name: np.maximum.accumulate(spent) for name, spent in runtime.items()},
        criterion=criterion,
        parameter_distance=distance,
        start={"criterion": float(start_value), "parameter_distance": at_start},
        # More and Wild (2009) take the best value found where no smaller one is known
        target={
            "criterion": best if problem.value is None else problem.value,
            "parameter_distance": 0.0,
        },
        failed=failed(run),
    )
