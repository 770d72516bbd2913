"""What becomes of a task: a result or a failure, also when it comes from another process."""

from __future__ import annotations

import traceback
import types
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax

from optimagic_lite.parallel.portable import pack, unpack
from optimagic_lite.parallel.protocol import BatchErrorHandling, UnpackSymbol

# How often a task may die with its worker. Once or twice, another task may have been to blame.
N_DEATHS = 3


class WorkerDiedError(RuntimeError):
    """A task died with its worker process, each time that it was tried."""


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
    def of(cls, exception: BaseException) -> TaskFailure:
        """Return the record of an exception that was just caught."""
        text = "".join(traceback.format_exception(exception))
        return cls(exception, text)  # type: ignore[arg-type]

    def __reduce__(self) -> tuple[Any, ...]:
        return _failure_of, (_pack_exception(self.exception), self.traceback)


class Outcome(NamedTuple):
    """What became of a task.

    Args:
        is_done: Whether there is a result.
        value: The result, or the failure.
        is_remote: Whether it comes from another process.
    """

    is_done: bool
    value: Any
    is_remote: bool = False

    def settle(self, error_handling: BatchErrorHandling) -> Any:
        """Return the result or the failure, or raise what the task raised.

        What ends a program (``SystemExit``, ``KeyboardInterrupt``) is raised in any case.
        """
        if self.is_done:
            return self.value
        failure: TaskFailure = self.value
        if error_handling == "continue" and isinstance(failure.exception, Exception):
            return failure
        if self.is_remote:
            failure.exception.add_note(f"It was raised in another process:\n{failure.traceback}")
        raise failure.exception


@dataclass(frozen=True)
class Task:
    """A function of one argument, with the precision of JAX that its caller has.

    Args:
        func: What the caller gave.
        unpack_symbol: How the argument is passed.
        x64: Whether JAX computes in double precision by default.
    """

    func: Callable[..., Any]
    unpack_symbol: UnpackSymbol | None
    x64: bool

    @classmethod
    def here(cls, func: Callable[..., Any], unpack_symbol: UnpackSymbol | None) -> Task:
        """Return the task of a caller in this thread."""
        return cls(func, unpack_symbol, jax.dtypes.canonicalize_dtype("float64") == "float64")

    def __call__(self, argument: Any) -> Any:
        """Return what the function returns."""
        with jax.enable_x64(self.x64):
            if self.unpack_symbol == "*":
                return self.func(*argument)
            if self.unpack_symbol == "**":
                return self.func(**argument)
            return self.func(argument)

    def outcome(self, argument: Any) -> Outcome:
        """Return the result, or the exception that was raised."""
        try:
            return Outcome(True, self(argument))
        except Exception as error:
            return Outcome(False, TaskFailure.of(error))


def run_packed(load: Callable[[], Callable[[Any], Any]], argument: bytes) -> bytes:
    """Run a task in a process to which it was sent, and pack what became of it.

    Args:
        load: Returns the task.
        argument: The packed argument.
    """
    return pack_outcome(lambda: load()(unpack(argument)))[1]


def pack_outcome(compute: Callable[[], Any]) -> tuple[bool, bytes]:
    """Return whether there is a result, and the packed outcome.

    Args:
        compute: Returns the result.
    """
    try:
        result = compute()
        try:
            return True, pack((True, result))
        except Exception as error:
            raise TypeError(
                f"What func returned cannot be sent to another process: {error}"
            ) from error
    except BaseException as error:
        return False, pack((False, TaskFailure.of(error)))


def unpack_outcome(answer: bytes | str) -> Outcome:
    """Return what became of a task that was sent.

    Args:
        answer: The packed outcome, or how often and how the worker process died.
    """
    if isinstance(answer, bytes):
        is_done, value = unpack(answer)
        return Outcome(is_done, value, is_remote=True)
    died = WorkerDiedError(
        f"The worker process died each time that it ran this task ({answer}). Did it need more "
        "memory than there is? Fewer n_cores need less."
    )
    return Outcome(False, TaskFailure.of(died))


# ---- exceptions that travel ------------------------------------------------------------------


def _failure_of(packed: bytes, text: str) -> TaskFailure:
    return TaskFailure(unpack(packed), text)


class _Recipe:
    """Pickles as it is told to."""

    def __init__(self, *reduced: Any) -> None:
        self._reduced = reduced

    def __reduce__(self) -> tuple[Any, ...]:
        return self._reduced


def _pack_exception(error: BaseException) -> bytes:
    """Pack an exception so that type and message arrive, whatever it holds.

    Pickle loses exceptions that cannot be made of their message alone, and refuses those that hold
    what cannot be pickled. Each way is tried here, where there is still another one.
    """
    kind, text = type(error), _text(error)
    attributes = {k: v for k, v in error.__dict__.items() if _can_travel(v)}
    ways: list[Callable[[], _Recipe]] = [
        # its own; pickle would ask libraries that have registered another one for all exceptions
        lambda: _Recipe(*error.__reduce__()),
        lambda: _Recipe(_again, (kind, error.args, attributes)),
        lambda: _Recipe(_again, (kind, (text,), attributes)),
    ]
    for way in ways:
        with suppress(Exception):
            packed = pack(way())
            arrived = unpack(packed)
            if type(arrived).__qualname__ == kind.__qualname__ and str(arrived) == text:
                return packed
    # (groups of exceptions cannot be made without their members)
    builtin = next(
        cls
        for cls in kind.__mro__
        if cls.__module__ == "builtins" and not issubclass(cls, BaseExceptionGroup)
    )
    return pack(_Recipe(_namesake, (builtin, kind.__name__, text)))


def _can_travel(value: Any) -> bool:
    with suppress(Exception):
        unpack(pack(value))
        return True
    return False


def _text(error: BaseException) -> str:
    with suppress(Exception):
        return str(error)
    return "<its message cannot be shown>"


def _again(
    cls: type[BaseException], args: tuple[Any, ...], attributes: dict[str, Any]
) -> BaseException:
    # an __init__ in Python has already made the message of its arguments, which are not known here
    is_python = isinstance(cls.__init__, types.FunctionType)
    error = cls.__new__(cls, *args) if is_python else cls(*args)
    error.__dict__.update(attributes)
    return error


def _namesake(base: type[BaseException], name: str, text: str) -> BaseException:
    """Return an exception of the same name and message as one that cannot travel."""
    cls: type[BaseException] = type(name, (base,), {"__str__": lambda _: text})
    return cls.__new__(cls)
