"""minimize and maximize: the table of contents of a run."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax

from optimagic_lite.algorithms.base import Outcome, run
from optimagic_lite.evaluator import Evaluator
from optimagic_lite.exceptions import InvalidFunctionError, UserFunctionRuntimeError
from optimagic_lite.history import Direction, History
from optimagic_lite.inference.inference import Inference, make_inference
from optimagic_lite.objective.constraints import NativeConstraint, make_native_constraints
from optimagic_lite.objective.kinds import Kind, structure_of_value
from optimagic_lite.objective.objective import (
    Derivatives,
    DerivativesArgument,
    Objective,
    known_jax,
    make_objective,
)
from optimagic_lite.objective.tracing import NotTraceableError
from optimagic_lite.objective.written import call_at_start
from optimagic_lite.options import Bounds, NumdiffOptions, ScalingOptions, SQLiteLogOptions
from optimagic_lite.problem import (
    Problem,
    check_capabilities,
    check_native_constraints,
    check_objective,
    check_structure,
    make_problem,
    make_problem_space,
)
from optimagic_lite.progress import Progress, check_progress
from optimagic_lite.result import OptimizeResult, make_result
from optimagic_lite.space.make import BoundsAs
from optimagic_lite.space.space import Space
from optimagic_lite.stopping import Limits

if TYPE_CHECKING:
    from optimagic_lite.log.tables import FinalStatus
    from optimagic_lite.log.writer import LogWriter


def minimize(
    fun: Callable[..., Any] | None = None,
    params: Any = None,
    algorithm: Any = None,
    *,
    bounds: Bounds | Any = None,
    constraints: Any = None,
    fun_kwargs: dict[str, Any] | None = None,
    algo_options: dict[str, Any] | None = None,
    jac: Callable[..., Any] | bool | None = None,
    jac_kwargs: dict[str, Any] | None = None,
    fun_and_jac: Callable[..., Any] | None = None,
    fun_and_jac_kwargs: dict[str, Any] | None = None,
    numdiff_options: NumdiffOptions | dict[str, Any] | None = None,
    logging: SQLiteLogOptions | str | Path | None = None,
    error_handling: str = "raise",
    error_penalty: dict[str, float] | None = None,
    scaling: ScalingOptions | dict[str, Any] | bool = False,
    multistart: Any = False,
    collect_history: bool = True,
    skip_checks: bool = False,
    x0: Any = None,
    method: str | None = None,
    args: tuple[Any, ...] | None = None,
    hess: Callable[..., Any] | None = None,
    hessp: Callable[..., Any] | None = None,
    callback: Callable[..., Any] | None = None,
    derivatives: DerivativesArgument = "auto",
    bounds_as: BoundsAs = "bounds",
    progress: bool = False,
    check_derivatives: bool = False,
    options: None = None,
    tol: None = None,
) -> OptimizeResult:
    """Minimize a function of any tree of parameters.

    Args:
        fun: The criterion, called as ``fun(params, **fun_kwargs)``; returns one real number, or,
            marked with ``om.mark.least_squares`` or ``om.mark.likelihood``, residuals or
            contributions as any tree of arrays. Each call gets its own copy of the numbers.
            Written with jax.numpy it is compiled and differentiated exactly.
        params: Start: a number, an array, a pandas Series or DataFrame (with a column "value"),
            or any nesting of those in containers that JAX knows. All numbers are float64.
        algorithm: Name, class or instance, see ``om.algos``.
        bounds: ``om.Bounds``, SciPy's ``Bounds`` or a sequence of pairs in flat order.
        constraints: A constraint such as ``om.FixedConstraint(selector)``, a dict
            ``{"type": "fixed", "loc": ...}``, or any iterable of those. Most hold at every
            evaluation, with any algorithm; see the how-to page.
        fun_kwargs: Further arguments of fun, hess and hessp. Arrays and floats in it are data:
            other values of the same shape need no compilation.
        algo_options: Options of the algorithm by name. Those that only other algorithms have
            are skipped with a warning.
        jac: Derivative of fun, called as ``jac(params, **jac_kwargs)``; returns a tree like
            params. One of residuals or contributions is marked as fun is, and returns what
            ``jax.jacobian`` would; a list holds one for each structure. True means that fun
            returns value and derivative.
        jac_kwargs: Further arguments of jac.
        fun_and_jac: Returns value and derivative, called with ``fun_and_jac_kwargs``; marked, or
            a list, as jac.
        fun_and_jac_kwargs: Further arguments of fun_and_jac.
        numdiff_options: ``om.NumdiffOptions`` or a dict; used where no derivative is exact.
        logging: File of a log, or ``om.SQLiteLogOptions``. Each evaluation is committed.
        error_handling: What a failure does, that is an exception in a user function or a value
            or derivative that is not finite. "raise": the run ends with
            ``UserFunctionRuntimeError``. "continue": a penalty replaces the value.
        error_penalty: ``{"constant": ..., "slope": ...}`` of that penalty, which is
            ``constant + slope * distance from start``.
        scaling: True or ``om.ScalingOptions``: scale the parameters that the algorithm sees.
        multistart: Not available yet.
        collect_history: Whether the result has a history.
        skip_checks: Do not trace a JAX criterion twice to find impure ones; saves milliseconds.
        x0: Another name of params.
        method: A name of SciPy, such as "L-BFGS-B", instead of algorithm.
        args: Further positional arguments of all functions, as in SciPy.
        hess: Hessian: a tree of trees like ``jax.hessian(fun)(params)``, or a matrix.
        hessp: Product of Hessian and direction, ``hessp(params, direction, **fun_kwargs)``.
        callback: Called with a ``CallbackState`` after each evaluation. Ends the run by
            returning True or raising StopIteration.
        derivatives: "auto": the user's where given, exact ones where fun is written in JAX,
            numerical else. "exact": an error where they would be numerical. "numerical": always.
        bounds_as: "bounds": bounds are passed on to the algorithm. "transform": a smooth
            transformation keeps them, for algorithms that cannot.
        progress: Whether to show a bar with evaluations, best value and time; needs tqdm.
        check_derivatives: Whether to compare the derivatives of the user and of JAX with
            difference quotients at the start; the run begins only if they agree. See
            ``om.check_derivatives``.
        options: Refused; use algo_options.
        tol: Refused; use algo_options.

    Returns:
        The result, with the best point that was evaluated.

    Raises:
        UserFunctionRuntimeError: If a user function fails, with ``params`` and
            ``partial_result``.
        OptimagicError: Other subclasses for arguments that are wrong.

    Example:
        >>> import optimagic_lite as om
        >>> import jax.numpy as jnp
        >>> def fun(params):
        ...     return jnp.sum((params["a"] - 1) ** 2) + (params["b"] + 2) ** 2
        >>> result = om.minimize(fun, {"a": np.zeros(2), "b": 0.0}, "scipy_lbfgsb")
        >>> round(result.params["b"], 6), result.derivatives.kind
        (-2.0, 'exact')
    """
    return _optimize("minimize", locals())


def maximize(
    fun: Callable[..., Any] | None = None,
    params: Any = None,
    algorithm: Any = None,
    *,
    bounds: Bounds | Any = None,
    constraints: Any = None,
    fun_kwargs: dict[str, Any] | None = None,
    algo_options: dict[str, Any] | None = None,
    jac: Callable[..., Any] | bool | None = None,
    jac_kwargs: dict[str, Any] | None = None,
    fun_and_jac: Callable[..., Any] | None = None,
    fun_and_jac_kwargs: dict[str, Any] | None = None,
    numdiff_options: NumdiffOptions | dict[str, Any] | None = None,
    logging: SQLiteLogOptions | str | Path | None = None,
    error_handling: str = "raise",
    error_penalty: dict[str, float] | None = None,
    scaling: ScalingOptions | dict[str, Any] | bool = False,
    multistart: Any = False,
    collect_history: bool = True,
    skip_checks: bool = False,
    x0: Any = None,
    method: str | None = None,
    args: tuple[Any, ...] | None = None,
    hess: Callable[..., Any] | None = None,
    hessp: Callable[..., Any] | None = None,
    callback: Callable[..., Any] | None = None,
    derivatives: DerivativesArgument = "auto",
    bounds_as: BoundsAs = "bounds",
    progress: bool = False,
    check_derivatives: bool = False,
    options: None = None,
    tol: None = None,
) -> OptimizeResult:
    """Maximize a function of any tree of parameters; all arguments as in ``minimize``.

    Values in results, histories, logs and messages have the sign of fun, derivatives too.

    Example:
        >>> import optimagic_lite as om
        >>> result = om.maximize(lambda x: -((x - 2) ** 2).sum(), np.zeros(2), "scipy_lbfgsb")
        >>> result.params.round(4)
        array([2., 2.])
    """
    return _optimize("maximize", locals())


def _optimize(direction: Direction, arguments: dict[str, Any]) -> OptimizeResult:
    problem = make_problem(direction, arguments)
    if problem.progress:
        check_progress()
    space = make_problem_space(problem)
    check_capabilities(problem, space)
    _check_log(problem)
    with jax.enable_x64(True):
        constraints = _native_constraints(problem, space)
        start, objective = _begin(problem, space)
        if problem.check_derivatives and start.error is None:
            _check_derivatives(problem)
        history = None
        if problem.collect_history:
            history = History(direction, space.tree, space.to_flat_rows)
        log = _open_log(problem, space, objective)
        evaluator = _evaluator(problem, space, objective, constraints, history, log)

        def result(outcome: Outcome) -> OptimizeResult:
            return make_result(
                evaluator=evaluator,
                outcome=outcome,
                algorithm=problem.algorithm,
                direction=direction,
                history=history,
                log=None if log is None else (log.path, log.run_id - 1),
                inference=partial(_inference, problem, objective),
            )

        return _solve(problem, evaluator, start, log, result)


def _solve(
    problem: Problem,
    evaluator: Evaluator,
    start: _Start,
    log: LogWriter | None,
    result: Callable[[Outcome], OptimizeResult],
) -> OptimizeResult:
    """Run the algorithm; close the log and keep what is known however it ends."""
    status: FinalStatus = "failed"
    outcome = Outcome(False, "The run was interrupted.")
    try:
        if start.error is not None:
            raise evaluator.start_failure(start.error, start.seconds) from start.error
        plain_value = evaluator.objective.sign * start.value
        outcome = run(problem.algorithm, evaluator, plain_value, start.seconds)
        status = "complete"
        return result(outcome)
    except KeyboardInterrupt as interrupt:
        status = "interrupted"
        if evaluator.best_fun is not None:
            interrupt.partial_result = result(outcome)  # type: ignore[attr-defined]
        raise
    except (UserFunctionRuntimeError, InvalidFunctionError) as error:
        outcome = Outcome(False, str(error))
        if evaluator.best_fun is not None:
            error.partial_result = result(outcome)
        raise
    except BaseException as error:
        outcome = Outcome(False, f"{type(error).__name__}: {error}")
        raise
    finally:
        evaluator.close_progress()
        if log is not None:
            log.finish(
                status,
                success=outcome.success,
                message=outcome.message,
                fun=evaluator.best_fun,
            )


@dataclass(frozen=True)
class _Start:
    """What the plain call at the start gave; raw is None if there was none."""

    raw: Any
    value: Any
    seconds: float
    error: Exception | None
    kind: Kind


def _begin(problem: Problem, space: Space) -> tuple[_Start, Objective]:
    """Evaluate the criterion as it is written, unless it is known to be JAX, and prepare it."""
    structure = known_jax(problem.functions.fun)
    target = problem.algorithm.algo_info.solver_type
    if structure is not None and not problem.functions.jac_needs_values(target):
        check_structure(problem, structure)
        kind = Kind(structure, target)
        start = _Start(None, float("nan"), 0.0, None, kind)
        try:
            return start, _objective(problem, space, start)
        except NotTraceableError:
            # what was known of it holds no longer
            pass
    start = _call_at_start(problem, space)
    return start, _objective(problem, space, start)


def _call_at_start(problem: Problem, space: Space) -> _Start:
    clock = time.perf_counter()
    try:
        raw = call_at_start(problem.functions, space)
    except InvalidFunctionError:
        raise
    except Exception as error:
        return _Start(None, float("nan"), time.perf_counter() - clock, error, Kind())
    seconds = time.perf_counter() - clock
    structure = structure_of_value(raw, problem.functions.structure)
    check_structure(problem, structure)
    kind = Kind(structure, problem.algorithm.algo_info.solver_type)
    return _Start(raw, kind.value(raw), seconds, None, kind)


def _objective(problem: Problem, space: Space, start: _Start) -> Objective:
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


def _evaluator(
    problem: Problem,
    space: Space,
    objective: Objective,
    constraints: tuple[NativeConstraint, ...],
    history: History | None,
    log: LogWriter | None,
) -> Evaluator:
    algorithm = problem.algorithm
    limits = Limits(
        maxfun=algorithm.stopping_maxfun,
        maxiter=algorithm.stopping_maxiter,
        maxtime=algorithm.stopping_maxtime,
        counts_iterations=algorithm.algo_info.counts_iterations,
    )
    return Evaluator(
        objective,
        space,
        history=history,
        log=log,
        limits=limits,
        errors=problem.errors,
        callback=problem.callback,
        allowed=algorithm.algo_info.allowed,
        constraints=constraints,
        progress=_progress(problem) if problem.progress else None,
    )


def _progress(problem: Problem) -> Progress:
    limit, unlimited = problem.algorithm.stopping_maxfun, type(problem.algorithm).stopping_maxfun
    return Progress(problem.algorithm.name, None if limit >= unlimited else limit)


def _native_constraints(problem: Problem, space: Space) -> tuple[NativeConstraint, ...]:
    constraints = make_native_constraints(
        space,
        derivatives=problem.derivatives,
        numdiff=problem.numdiff_options,
        check=not problem.skip_checks,
    )
    check_native_constraints(problem, constraints)
    return constraints


def _inference(problem: Problem, objective: Objective, params: Any) -> Inference:
    return make_inference(
        problem.functions,
        params,
        objective.kind.structure,
        direction=problem.direction,
        bounds=problem.bounds,
        constraints=problem.constraints,
        derivatives=problem.derivatives,
        numdiff=problem.numdiff_options,
    )


def _check_derivatives(problem: Problem) -> None:
    """Refuse derivatives that differ from difference quotients at the start."""
    from optimagic_lite.derivative_check import check_derivatives

    f = problem.functions
    found = check_derivatives(
        f.fun,
        problem.params,
        jac=f.jac,
        hess=f.hess,
        fun_and_jac=f.fun_and_jac,
        bounds=problem.bounds,
        fun_kwargs=f.fun_kwargs,
        jac_kwargs=f.jac_kwargs,
        fun_and_jac_kwargs=f.fun_and_jac_kwargs,
        show=False,
    )
    if not found.is_correct:
        raise InvalidFunctionError(
            "Derivatives differ from difference quotients at the start. "
            f"om.check_derivatives shows the same:\n{found}"
        )


def _check_log(problem: Problem) -> None:
    """Refuse a log that cannot be before the criterion is called."""
    if problem.logging is None:
        return
    from optimagic_lite.log.files import check

    check(Path(problem.logging.path).absolute(), problem.logging.if_database_exists)


def _open_log(problem: Problem, space: Space, objective: Objective) -> LogWriter | None:
    if problem.logging is None:
        return None
    import dataclasses

    from optimagic_lite.log.writer import LogWriter, RunRecord

    derivatives: Derivatives = objective.derivatives
    record = RunRecord(
        direction=problem.direction,
        algorithm=problem.algorithm.name,
        algo_options=dataclasses.asdict(problem.algorithm),
        param_names=space.names,
        structure=space.tree.to_json(),
        start_params=space.to_flat(space.x0),
        derivatives=dataclasses.asdict(derivatives),
    )
    return LogWriter(problem.logging, record)
