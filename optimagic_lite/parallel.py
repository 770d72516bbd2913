"""Batches of evaluations in processes or threads, behind one protocol.

A batch evaluator is any function that is called as ``batch_evaluator(func, arguments, *, n_cores,
error_handling, unpack_symbol)`` and returns a list of what ``func`` returned, in the order of the
arguments.
"""

from __future__ import annotations

import traceback
import types
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Literal, Protocol, get_args

from optimagic_lite.exceptions import (
    InvalidKwargsError,
    NotAvailableError,
    NotInstalledError,
    OptimagicError,
    did_you_mean,
)

BatchErrorHandling = Literal["continue", "raise"]
UnpackSymbol = Literal["*", "**"]
BatchEvaluatorName = Literal["joblib", "threading"]


class BatchEvaluator(Protocol):
    """What evaluates a function at many arguments."""

    def __call__(
        self,
        func: Callable[..., Any],
        arguments: Iterable[Any],
        *,
        n_cores: int = 1,
        error_handling: BatchErrorHandling = "continue",
        unpack_symbol: UnpackSymbol | None = None,
    ) -> list[Any]:
        """Return what ``func`` returns for each argument, in their order."""
        ...  # pragma: no cover


@dataclass(frozen=True)
class TaskFailure:
    """What stands in the place of a result that could not be computed.

    Args:
        exception: What was raised, with its type and message.
        traceback: Where, as Python shows it.
    """

    exception: Exception
    traceback: str

    @classmethod
    def of(cls, exception: Exception) -> TaskFailure:
        """Return the record of an exception that was just caught."""
        return cls(exception, "".join(traceback.format_exception(exception)))

    def __reduce__(self) -> tuple[Any, ...]:
        error = self.exception
        args: Any = error.__reduce__()[1]
        return _rebuild, (type(error), args, error.__dict__, self.traceback)


def _rebuild(
    cls: type[Exception], args: tuple[Any, ...], attributes: dict[str, Any], text: str
) -> TaskFailure:
    # an __init__ in Python has already made the message of its arguments, which are not known here
    is_python = isinstance(cls.__init__, types.FunctionType)
    exception = cls.__new__(cls, *args) if is_python else cls(*args)
    exception.__dict__.update(attributes)
    return TaskFailure(exception, text)


@dataclass(frozen=True)
class Cores:
    """On how many cores evaluations run, and what spreads them.

    Args:
        n_cores: Number of processes or threads; default 1: one after the other, here.
        batch_evaluator: Name or function, see ``read_batch_evaluator``.
    """

    n_cores: int = 1
    batch_evaluator: BatchEvaluatorName | BatchEvaluator = "joblib"

    def evaluate(
        self,
        func: Callable[..., Any],
        arguments: Iterable[Any],
        error_handling: BatchErrorHandling = "continue",
    ) -> list[Any]:
        """Return what ``func`` returns for each argument, in their order."""
        evaluator = read_batch_evaluator(self.batch_evaluator)
        return evaluator(func, arguments, n_cores=self.n_cores, error_handling=error_handling)


def joblib_batch_evaluator(
    func: Callable[..., Any],
    arguments: Iterable[Any],
    *,
    n_cores: int = 1,
    error_handling: BatchErrorHandling = "continue",
    unpack_symbol: UnpackSymbol | None = None,
) -> list[Any]:
    """Evaluate a function at many arguments, in processes of joblib.

    Closures and lambdas are fine. With one core nothing is started and nothing is copied.

    Args:
        func: The function.
        arguments: One for each evaluation.
        n_cores: Number of processes; default 1.
        error_handling: "continue" (default) puts a ``TaskFailure`` in the place of a result that
            could not be computed. "raise" ends the batch with the exception, which keeps its
            type and message.
        unpack_symbol: None (default) if an argument is all that ``func`` takes, "*" if it holds
            positional arguments, "**" if it is a dict of keyword arguments.

    Raises:
        NotInstalledError: If more than one core is asked for and joblib is not installed.
        InvalidKwargsError: If an argument is not valid.

    Example:
        >>> joblib_batch_evaluator(lambda x, y: x + y, [(1, 2), (3, 4)], unpack_symbol="*")
        [3, 7]
    """
    _check(n_cores, error_handling, unpack_symbol)
    if n_cores == 1:
        return _one_by_one(func, arguments, error_handling, unpack_symbol)
    joblib = _import_joblib()
    task = _CarryingTask(func, error_handling, unpack_symbol)
    try:
        return list(joblib.Parallel(n_jobs=n_cores)(joblib.delayed(task)(a) for a in arguments))
    except _CarriedError as carried:
        failure: TaskFailure = carried.args[0]
    failure.exception.add_note(f"It was raised in another process:\n{failure.traceback}")
    raise failure.exception


def threading_batch_evaluator(
    func: Callable[..., Any],
    arguments: Iterable[Any],
    *,
    n_cores: int = 1,
    error_handling: BatchErrorHandling = "continue",
    unpack_symbol: UnpackSymbol | None = None,
) -> list[Any]:
    """Evaluate a function at many arguments, in threads of this process.

    This helps where the function spends its time outside of Python: in compiled code that
    releases the interpreter, on files or in the network.

    Args:
        func: The function; must not change anything that it shares with itself.
        arguments: One for each evaluation.
        n_cores: Number of threads; default 1.
        error_handling: See ``joblib_batch_evaluator``.
        unpack_symbol: See ``joblib_batch_evaluator``.

    Raises:
        InvalidKwargsError: If an argument is not valid.

    Example:
        >>> threading_batch_evaluator(lambda x: x**2, [1, 2, 3], n_cores=2)
        [1, 4, 9]
    """
    _check(n_cores, error_handling, unpack_symbol)
    if n_cores == 1:
        return _one_by_one(func, arguments, error_handling, unpack_symbol)
    task = _Task(func, error_handling, unpack_symbol)
    with ThreadPoolExecutor(n_cores) as pool:
        return list(pool.map(task, arguments))


_EVALUATORS: dict[str, BatchEvaluator] = {
    "joblib": joblib_batch_evaluator,
    "threading": threading_batch_evaluator,
}
assert tuple(_EVALUATORS) == get_args(BatchEvaluatorName)


def read_batch_evaluator(
    batch_evaluator: BatchEvaluator | str, error: type[OptimagicError] = NotAvailableError
) -> BatchEvaluator:
    """Return the batch evaluator that a name stands for; a function is returned as it is.

    Args:
        batch_evaluator: "joblib", "threading" or a function.
        error: What to raise.

    Raises:
        OptimagicError: Of the given class, if there is no such batch evaluator.

    Example:
        >>> read_batch_evaluator("threading")(abs, [-1, 2])
        [1, 2]
    """
    if callable(batch_evaluator):
        return batch_evaluator
    if isinstance(batch_evaluator, str) and batch_evaluator in _EVALUATORS:
        return _EVALUATORS[batch_evaluator]
    why = " (pathos is not supported; joblib does the same)" if batch_evaluator == "pathos" else ""
    raise error(
        f"batch_evaluator must be {' or '.join(map(repr, _EVALUATORS))}, or a function, not "
        f"{batch_evaluator!r}{why}.{did_you_mean(batch_evaluator, _EVALUATORS)}"
    )


def check_n_cores(n_cores: Any, error: type[OptimagicError] = InvalidKwargsError) -> None:
    """Refuse a number of cores that is no positive integer.

    Args:
        n_cores: What the user wrote.
        error: What to raise.

    Raises:
        OptimagicError: Of the given class.
    """
    if isinstance(n_cores, bool) or not isinstance(n_cores, int) or n_cores < 1:
        raise error(f"n_cores must be a positive integer, not {n_cores!r}.")


def _check(n_cores: Any, error_handling: Any, unpack_symbol: Any) -> None:
    check_n_cores(n_cores)
    if error_handling not in get_args(BatchErrorHandling):
        raise InvalidKwargsError(
            f"error_handling must be 'continue' or 'raise', not {error_handling!r}."
        )
    if unpack_symbol is not None and unpack_symbol not in get_args(UnpackSymbol):
        raise InvalidKwargsError(f"unpack_symbol must be None, '*' or '**', not {unpack_symbol!r}.")


@dataclass(frozen=True)
class _Task:
    """A function of one argument that handles exceptions."""

    func: Callable[..., Any]
    error_handling: BatchErrorHandling
    unpack_symbol: UnpackSymbol | None

    def __call__(self, argument: Any) -> Any:
        try:
            if self.unpack_symbol == "*":
                return self.func(*argument)
            if self.unpack_symbol == "**":
                return self.func(**argument)
            return self.func(argument)
        except Exception as error:
            return self._fail(error)

    def _fail(self, error: Exception) -> TaskFailure:
        if self.error_handling == "raise":
            raise error
        return TaskFailure.of(error)


class _CarryingTask(_Task):
    """A task of another process, from where not every exception arrives as it left."""

    def _fail(self, error: Exception) -> TaskFailure:
        failure = TaskFailure.of(error)
        if self.error_handling == "raise":
            raise _CarriedError(failure)
        return failure


class _CarriedError(Exception):
    """Brings the record of an exception from one process to another."""


def _one_by_one(
    func: Callable[..., Any],
    arguments: Iterable[Any],
    error_handling: BatchErrorHandling,
    unpack_symbol: UnpackSymbol | None,
) -> list[Any]:
    return list(map(_Task(func, error_handling, unpack_symbol), arguments))


def _import_joblib() -> Any:
    try:
        import joblib
    except ImportError as error:
        raise NotInstalledError(
            "batch_evaluator='joblib' with more than one core needs joblib, which is not "
            "installed: pip install joblib. batch_evaluator='threading' needs nothing."
        ) from error
    return joblib
