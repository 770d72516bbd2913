"""minimize and maximize: the table of contents of a run."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax

from optimagic_lite.algorithms.base import Outcome, run
from optimagic_lite.deprecations.calls import OLD_ARGUMENTS, new_call
from optimagic_lite.deprecations.names import accepts_old_names
from optimagic_lite.evaluator import Evaluator
from optimagic_lite.exceptions import InvalidFunctionError, UserFunctionRuntimeError, warn_user
from optimagic_lite.failures import ErrorPolicy
from optimagic_lite.history import Direction
from optimagic_lite.log_options import PostgresLogOptions, SQLiteLogOptions
from optimagic_lite.multistart.sample import Sample, make_sample, settled
from optimagic_lite.multistart.search import Multistart
from optimagic_lite.objective.objective import DerivativesArgument
from optimagic_lite.options import (
    Bounds,
    MultistartOptions,
    NumdiffOptions,
    ScalingOptions,
)
from optimagic_lite.prepared import Prepared, prepare
from optimagic_lite.problem import (
    Problem,
    check_capabilities,
    make_problem,
    make_problem_space,
)
from optimagic_lite.progress import Progress, check_progress
from optimagic_lite.result import OptimizeResult
from optimagic_lite.resume import Earlier, Resume, describe_problem, find_earlier, resumed
from optimagic_lite.space.make import BoundsAs

if TYPE_CHECKING:
    from optimagic_lite.log.rows import RowWriter
    from optimagic_lite.log.tables import FinalStatus
    from optimagic_lite.log.writer import LogWriter


@accepts_old_names(new_call, OLD_ARGUMENTS)
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
    logging: SQLiteLogOptions | PostgresLogOptions | str | Path | None = None,
    error_handling: str = "raise",
    error_penalty: dict[str, float] | None = None,
    scaling: ScalingOptions | dict[str, Any] | bool = False,
    multistart: MultistartOptions | dict[str, Any] | bool = False,
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
    resume: Resume = False,
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
        constraints: A constraint such as ``om.FixedConstraint(selector)``, or any iterable of
            those. Most hold at every evaluation, with any algorithm; see the how-to page.
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
        logging: File of a log, URL of a PostgreSQL database, ``om.SQLiteLogOptions`` or
            ``om.PostgresLogOptions``. Each evaluation is committed.
        error_handling: What a failure does, that is an exception in a user function or a value
            or derivative that is not finite. "raise": the run ends with
            ``UserFunctionRuntimeError``. "continue": a penalty replaces the value.
        error_penalty: ``{"constant": ..., "slope": ...}`` of that penalty, which is
            ``constant + slope * distance from start``.
        scaling: True or ``om.ScalingOptions``: scale the parameters that the algorithm sees.
        multistart: True, ``om.MultistartOptions`` or a dict: explore the space between the
            (soft) bounds and start the algorithm from many points.
        collect_history: Whether the result has a history.
        skip_checks: Do not trace a JAX criterion twice to find impure ones; saves milliseconds.
        x0: Another name of params; a list of numbers becomes an array, as in SciPy.
        method: A name of SciPy, such as "L-BFGS-B", instead of algorithm.
        args: Further positional arguments of all functions, as in SciPy.
        hess: Hessian: a tree of trees like ``jax.hessian(fun)(params)``, or a matrix.
        hessp: Product of Hessian and direction, ``hessp(params, direction, **fun_kwargs)``.
        callback: Called with a ``CallbackState`` after each evaluation. Ends the run by
            returning True or raising StopIteration. In other processes a copy of it is called.
        derivatives: "auto": the user's where given, exact ones where fun is written in JAX,
            numerical else. "exact": an error where they would be numerical. "numerical": always.
        bounds_as: "bounds": bounds are passed on to the algorithm. "transform": a smooth
            transformation keeps them, for algorithms that cannot.
        progress: Whether to show a bar with evaluations, best value and time; needs tqdm.
        check_derivatives: Whether to compare the derivatives of the user and of JAX with
            difference quotients at the start; the run begins only if they agree. See
            ``om.check_derivatives``.
        resume: True: go on with the last run of the log, of the same problem, wherever it ended. A
            local algorithm begins at the best point so far; multistart takes explored points and
            local optimisations that have ended from the log. "if_exists": begin a run if there is
            none.
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


@accepts_old_names(new_call, OLD_ARGUMENTS)
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
    logging: SQLiteLogOptions | PostgresLogOptions | str | Path | None = None,
    error_handling: str = "raise",
    error_penalty: dict[str, float] | None = None,
    scaling: ScalingOptions | dict[str, Any] | bool = False,
    multistart: MultistartOptions | dict[str, Any] | bool = False,
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
    resume: Resume = False,
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
    resume = arguments.pop("resume")
    problem = make_problem(direction, arguments)
    if problem.progress:
        check_progress()
    earlier = find_earlier(problem, resume)
    if resume:
        problem = resumed(problem, earlier)
    if problem.multistart is not None:
        problem = dataclasses.replace(problem, multistart=settled(problem.multistart))
    space = make_problem_space(problem)
    check_capabilities(problem, space)
    sample = None if problem.multistart is None else make_sample(problem, space)
    _check_log(problem)
    with jax.enable_x64(True):
        prepared = prepare(problem, space)
        if problem.check_derivatives and prepared.start.error is None:
            _check_derivatives(prepared.problem)
        with _open_log(prepared, earlier) as log:
            if sample is None:
                return _run_once(prepared, log, earlier)
            return _run_multistart(prepared, sample, log, earlier)


def _run_once(prepared: Prepared, log: LogWriter | None, earlier: Earlier | None) -> OptimizeResult:
    history = prepared.history()
    before = None if earlier is None else earlier.tally(prepared)
    is_called = prepared.start.raw is not None
    evaluator = prepared.evaluator(
        history=history,
        log=_rows(log),
        progress=_progress(prepared.problem),
        before=before,
        **_later(log, earlier),
    )

    def solve(plain_value: Any, seconds: float) -> Outcome:
        if earlier is not None and is_called:
            total = prepared.objective.kind.total(plain_value)
            earlier.check_value(prepared, prepared.objective.sign * total)
        try:
            return run(prepared.problem.algorithm, evaluator, plain_value, seconds)
        finally:
            if earlier is not None and before is not None:
                evaluator.absorb(before)
                if not is_called:
                    earlier.check_value(prepared, evaluator.start_fun)

    def result(outcome: Outcome) -> OptimizeResult:
        found = prepared.result(evaluator, outcome, history)
        if earlier is None:
            return found
        joined = earlier.joined(found, evaluator.best_violation, prepared.objective.sign)
        return prepared.with_inference(joined)

    return _solve(prepared, evaluator, log, solve, result)


def _run_multistart(
    prepared: Prepared, sample: Sample, log: LogWriter | None, earlier: Earlier | None
) -> OptimizeResult:
    assert prepared.problem.multistart is not None
    # a point that fails says nothing against the others
    errors = ErrorPolicy(prepared.problem.multistart.error_handling or "continue")
    exploration = prepared.history()
    explorer = prepared.explorer(
        errors,
        history=exploration,
        log=_rows(log),
        progress=_progress(prepared.problem),
        **_later(log, earlier),
    )
    search = Multistart(prepared, sample, explorer, exploration, log, earlier)

    def result(outcome: Outcome) -> OptimizeResult:
        found = prepared.result(explorer, outcome, search.history)
        return dataclasses.replace(found, multistart_info=search.info)

    return _solve(prepared, explorer, log, search.run, result)


def _solve(
    prepared: Prepared,
    evaluator: Evaluator,
    log: LogWriter | None,
    solve: Callable[[Any, float], Outcome],
    result: Callable[[Outcome], OptimizeResult],
) -> OptimizeResult:
    """Solve; close the log and keep what is known however that ends."""
    status: FinalStatus = "failed"
    outcome = Outcome(False, "The run was interrupted.")
    start = prepared.start
    results: list[OptimizeResult] = []

    def described() -> OptimizeResult:
        results.append(result(outcome))
        return results[-1]

    try:
        if start.error is not None:
            raise evaluator.start_failure(start.error, start.seconds) from start.error
        outcome = solve(evaluator.objective.sign * start.value, start.seconds)
        status = "complete"
        return described()
    except KeyboardInterrupt as interrupt:
        status = "interrupted"
        if evaluator.best_fun is not None:
            interrupt.partial_result = described()  # type: ignore[attr-defined]
        raise
    except (UserFunctionRuntimeError, InvalidFunctionError) as error:
        outcome = Outcome(False, str(error))
        if evaluator.best_fun is not None:
            error.partial_result = described()
        raise
    except BaseException as error:
        outcome = Outcome(False, f"{type(error).__name__}: {error}")
        raise
    finally:
        evaluator.close_progress()
        if log is not None:
            trouble = log.finish(
                status,
                success=outcome.success,
                message=outcome.message,
                fun=results[-1].fun if results else evaluator.best_fun,
            )
            # known now only, because a log that cannot be written to the end is continued elsewhere
            for found in results:
                found.log_path, found.log_run = log.place
            if trouble is not None:
                _tell(trouble)


def _tell(trouble: str) -> None:
    """Warn, but where warnings are errors, do not replace an error that is under way."""
    try:
        warn_user(trouble)
    except UserWarning as warning:
        if warning.__context__ is None:
            raise
        warning.__context__.add_note(trouble)


def _progress(problem: Problem) -> Progress | None:
    if not problem.progress:
        return None
    limit, unlimited = problem.algorithm.stopping_maxfun, type(problem.algorithm).stopping_maxfun
    is_limited = limit < unlimited and problem.multistart is None
    return Progress(problem.algorithm.name, limit if is_limited else None)


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
    from optimagic_lite.log.store import make_store

    make_store(problem.logging).check()


@contextlib.contextmanager
def _open_log(prepared: Prepared, earlier: Earlier | None) -> Iterator[LogWriter | None]:
    problem, space = prepared.problem, prepared.space
    if problem.logging is None:
        yield None
        return
    from optimagic_lite.log.writer import RunRecord, open_log

    record = RunRecord(
        direction=problem.direction,
        algorithm=problem.algorithm.name,
        algo_options=dataclasses.asdict(problem.algorithm),
        param_names=space.names,
        structure=space.tree.to_json(),
        start_params=space.to_flat(space.x0),
        derivatives=dataclasses.asdict(prepared.objective.derivatives),
        problem=describe_problem(problem),
    )
    resume = None if earlier is None else earlier.run_id
    with open_log(problem.logging, record, resume) as log:
        yield log


def _rows(log: LogWriter | None) -> RowWriter | None:
    return None if log is None else log.rows


def _later(log: LogWriter | None, earlier: Earlier | None) -> dict[str, Any]:
    """Return what an evaluator must know of the time before it, in a run that was resumed."""
    if log is None or earlier is None:
        return {}
    return {"offset": time.time() - log.started, "n_batches": earlier.counts["n_batches"]}
