"""Batch evaluators that users write: what they carry is packed, so that any pool will do."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from optimagic_lite.exceptions import OptimagicError
from optimagic_lite.parallel.outcomes import Outcome, Task, pack_outcome, unpack_outcome
from optimagic_lite.parallel.portable import KEPT, PackedFunction, Portable
from optimagic_lite.parallel.protocol import (
    BatchErrorHandling,
    BatchEvaluator,
    UnpackSymbol,
    check_options,
)


@dataclass(frozen=True)
class OwnEvaluator:
    """A batch evaluator whose function, arguments and results travel by plain pickle.

    Failures are handled here, in the same way for all.

    Args:
        evaluator: What the user wrote.
        error: What to raise if it does not return one result for each argument.
    """

    evaluator: BatchEvaluator
    error: type[OptimagicError]

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
        check_options(n_cores, error_handling, unpack_symbol)
        task = _Task(Task.here(func, unpack_symbol), error_handling == "raise")
        portable = [Portable(argument) for argument in arguments]
        try:
            found = self.evaluator(
                task, portable, n_cores=n_cores, error_handling=error_handling, unpack_symbol=None
            )
        except _CarriedError as carried:
            answer: bytes = carried.args[0]
        else:
            if len(found) != len(portable):
                raise self.error(
                    f"batch_evaluator returned {len(found)} results for {len(portable)} arguments."
                )
            return [_settled(result, error_handling) for result in found]
        return [unpack_outcome(answer).settle("raise")]


def _settled(result: Any, error_handling: BatchErrorHandling) -> Any:
    if isinstance(result, bytes):
        result = unpack_outcome(result)
    # what else comes is what the evaluator itself put in the place of a result
    return result.settle(error_handling) if isinstance(result, Outcome) else result


class _Task:
    """A task that is packed, once for all arguments, when it is sent to another process."""

    def __init__(self, task: Task, raises: bool) -> None:
        self._task = task
        self._raises = raises
        self._packed: PackedFunction | None = None

    def __call__(self, argument: Portable) -> Outcome:
        if self._raises:
            return Outcome(True, self._task(argument.value))
        return self._task.outcome(argument.value)

    def __reduce__(self) -> tuple[Any, ...]:
        self._packed = self._packed or PackedFunction.of(self._task)
        return _ArrivedTask, (self._packed, self._raises)


@dataclass(frozen=True)
class _ArrivedTask:
    """What a task is in the other process; its results are bytes."""

    function: PackedFunction
    raises: bool

    def __call__(self, argument: Portable) -> bytes:
        is_done, answer = pack_outcome(
            lambda: KEPT.get(self.function.digest, self.function.packed)(argument.value)
        )
        if self.raises and not is_done:
            raise _CarriedError(answer)
        return answer


class _CarriedError(Exception):
    """Brings a packed failure from one process to another."""
