"""A problem made ready: its space, its criterion with derivatives, its native constraints."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import jax

from optimagic_lite.evaluator import Evaluator
from optimagic_lite.exceptions import InvalidFunctionError
from optimagic_lite.failures import ErrorPolicy
from optimagic_lite.history import History
from optimagic_lite.inference.inference import Inference, make_inference
from optimagic_lite.objective.constraints import NativeConstraint, make_native_constraints
from optimagic_lite.objective.dicts import without_dicts
from optimagic_lite.objective.kinds import Kind, structure_of_value
from optimagic_lite.objective.objective import Objective, known_jax, make_objective
from optimagic_lite.objective.tracing import NotTraceableError
from optimagic_lite.objective.written import call_at_start
from optimagic_lite.problem import (
    Problem,
    check_native_constraints,
    check_objective,
    check_structure,
    make_problem_space,
)
from optimagic_lite.progress import Progress
from optimagic_lite.result import OptimizeResult, make_result
from optimagic_lite.space.space import Space
from optimagic_lite.stopping import NO_LIMITS, Limits
from optimagic_lite.tally import Tally

if TYPE_CHECKING:
    from optimagic_lite.algorithms.base import Outcome
    from optimagic_lite.log.rows import RowWriter


@dataclass(frozen=True)
class Start:
    """What the plain call at the start gave; raw is None if there was none."""

    raw: Any
    value: Any
    seconds: float
    error: Exception | None
    kind: Kind


@dataclass(frozen=True, eq=False)
class Prepared:
    """All that is needed to evaluate a problem and to describe what was found.

    In another process it is prepared anew, without calling the criterion.

    Args:
        problem: The problem.
        space: Where the algorithm searches.
        start: What the plain call at the start gave.
        objective: The criterion.
        constraints: Those that the algorithm takes natively.
    """

    problem: Problem
    space: Space
    start: Start
    objective: Objective
    constraints: tuple[NativeConstraint, ...]

    def __reduce__(self) -> tuple[Any, ...]:
        # options of multistart and of the log may hold what cannot travel, and are not needed there
        problem = replace(self.problem, multistart=None, logging=None)
        return _prepare_again, (problem, replace(self.start, error=None))

    def history(self) -> History | None:
        """Return an empty history, or None if there is to be none."""
        if not self.problem.collect_history:
            return None
        return History(self.problem.direction, self.space.tree, self.space.to_flat_rows)

    def evaluator(
        self,
        *,
        history: History | None,
        log: RowWriter | None,
        progress: Progress | None = None,
        offset: float = 0.0,
        before: Tally | None = None,
        n_batches: int = 0,
        x0: Any = None,
    ) -> Evaluator:
        """Return an evaluator for a run of the algorithm.

        Args:
            history: Where rows go, or None.
            log: Where rows go too, or None.
            progress: A bar, or None.
            offset: Seconds from the start of the whole run.
            before: What was counted and found before.
            n_batches: Number of batches that were recorded before.
            x0: Another start, shape (n_x,).
        """
        algorithm = self.problem.algorithm
        limits = Limits(
            maxfun=algorithm.stopping_maxfun,
            maxiter=algorithm.stopping_maxiter,
            maxtime=algorithm.stopping_maxtime,
            counts_iterations=algorithm.algo_info.counts_iterations,
        )
        return self._evaluator(
            self.space if x0 is None else self.space.starting_at(x0),
            history=history,
            log=log,
            limits=limits,
            errors=self.problem.errors,
            allowed=algorithm.algo_info.allowed,
            progress=progress,
            offset=offset,
            before=before,
            n_batches=n_batches,
        )

    def explorer(
        self,
        errors: ErrorPolicy,
        *,
        history: History | None,
        log: RowWriter | None,
        progress: Progress | None,
        offset: float = 0.0,
        n_batches: int = 0,
    ) -> Evaluator:
        """Return an evaluator for an exploration, without limits; arguments as above."""
        return self._evaluator(
            self.space,
            history=history,
            log=log,
            limits=NO_LIMITS,
            errors=errors,
            progress=progress,
            offset=offset,
            n_batches=n_batches,
        )

    def _evaluator(self, space: Space, **more: Any) -> Evaluator:
        """Return an evaluator of this problem; see ``Evaluator`` for further arguments."""
        return Evaluator(
            self.objective,
            space,
            callback=self.problem.callback,
            constraints=self.constraints,
            **more,
        )

    def result(
        self, evaluator: Evaluator, outcome: Outcome, history: History | None
    ) -> OptimizeResult:
        """Return a result in the user's words.

        Args:
            evaluator: Knows the best point and the counts.
            outcome: What the solver reported.
            history: All evaluations, or None.
        """
        return make_result(
            evaluator=evaluator,
            outcome=outcome,
            algorithm=self.problem.algorithm,
            direction=self.problem.direction,
            history=history,
            inference=self._inference,
        )

    def with_inference(self, result: OptimizeResult) -> OptimizeResult:
        """Return a result that knows of precision at its params.

        That is lost on the way between processes, and changes with the params.
        """
        return replace(result, _inference=self._inference(result.params))

    def _inference(self, params: Any) -> Inference:
        problem = self.problem
        return make_inference(
            problem.functions,
            params,
            self.objective.kind.structure,
            direction=problem.direction,
            bounds=problem.bounds,
            constraints=problem.constraints,
            derivatives=problem.derivatives,
            numdiff=problem.numdiff_options,
        )


def prepare(problem: Problem, space: Space) -> Prepared:
    """Evaluate the criterion as it is written, unless it is known to be JAX, and prepare it.

    Args:
        problem: The problem.
        space: Where its algorithm searches.
    """
    constraints = _native_constraints(problem, space)
    structure = known_jax(problem.functions.fun)
    target = problem.algorithm.algo_info.solver_type
    if structure is not None and not problem.functions.jac_needs_values(target):
        check_structure(problem, structure)
        start = Start(None, float("nan"), 0.0, None, Kind(structure, target))
        try:
            return Prepared(problem, space, start, _objective(problem, space, start), constraints)
        except NotTraceableError:
            # what was known of it holds no longer
            pass
    problem, start = _call_at_start(problem, space)
    return Prepared(problem, space, start, _objective(problem, space, start), constraints)


def _prepare_again(problem: Problem, start: Start) -> Prepared:
    space = make_problem_space(problem)
    with jax.enable_x64(True):
        constraints = _native_constraints(problem, space)
        objective = _objective(problem, space, start)
    return Prepared(problem, space, start, objective, constraints)


def _call_at_start(problem: Problem, space: Space) -> tuple[Problem, Start]:
    """Return what the first call gave, and the problem as that shows it to be."""
    target = problem.algorithm.algo_info.solver_type
    clock = time.perf_counter()
    try:
        raw = call_at_start(problem.functions, space)
    except InvalidFunctionError:
        raise
    except Exception as error:
        return problem, Start(None, float("nan"), time.perf_counter() - clock, error, Kind())
    seconds = time.perf_counter() - clock
    functions, raw = without_dicts(problem.functions, raw, target)
    problem = replace(problem, functions=functions)
    structure = structure_of_value(raw, problem.functions.structure)
    check_structure(problem, structure)
    kind = Kind(structure, target)
    return problem, Start(raw, kind.value(raw), seconds, None, kind)


def _objective(problem: Problem, space: Space, start: Start) -> Objective:
    if start.error is not None:
        return Objective.failed(problem.direction == "maximize", problem.numdiff_options)
    objective = make_objective(
        problem.functions,
        space,
        kind=start.kind,
        maximize=problem.direction == "maximize",
        derivatives=problem.derivatives,
        numdiff=problem.numdiff_options,
        needs_jac=problem.algorithm.algo_info.needs_jac,
        start_raw=start.raw,
        check=not problem.skip_checks,
    )
    check_objective(problem, space, objective)
    return objective


def _native_constraints(problem: Problem, space: Space) -> tuple[NativeConstraint, ...]:
    constraints = make_native_constraints(
        space,
        derivatives=problem.derivatives,
        numdiff=problem.numdiff_options,
        check=not problem.skip_checks,
    )
    check_native_constraints(problem, constraints)
    return constraints
