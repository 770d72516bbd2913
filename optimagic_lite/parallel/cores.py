"""Where a batch is evaluated: how many cores, and what spreads the tasks over them."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass
from typing import Any

from optimagic_lite.exceptions import NotAvailableError, OptimagicError, did_you_mean
from optimagic_lite.parallel.evaluators import EVALUATORS, stream
from optimagic_lite.parallel.own import OwnEvaluator
from optimagic_lite.parallel.protocol import (
    BatchErrorHandling,
    BatchEvaluator,
    BatchEvaluatorName,
)


@dataclass(frozen=True)
class Cores:
    """On how many cores evaluations run, and what spreads them.

    Args:
        n_cores: Number of tasks that run at the same time; default 1: one after the other, here.
        batch_evaluator: Name or function, see ``read_batch_evaluator``.
    """

    n_cores: int = 1
    batch_evaluator: BatchEvaluatorName | BatchEvaluator = "joblib"

    @property
    def is_spread(self) -> bool:
        """Whether tasks leave this thread; a function of the user's decides for itself."""
        return self.n_cores > 1 or not isinstance(self.batch_evaluator, str)

    def evaluate(
        self,
        func: Callable[..., Any],
        arguments: Iterable[Any],
        error_handling: BatchErrorHandling = "continue",
    ) -> list[Any]:
        """Return what ``func`` returns for each argument, in their order."""
        evaluator = read_batch_evaluator(self.batch_evaluator)
        return evaluator(func, arguments, n_cores=self.n_cores, error_handling=error_handling)

    def as_completed(
        self,
        func: Callable[..., Any],
        arguments: Iterable[Any],
        error_handling: BatchErrorHandling = "continue",
    ) -> Generator[tuple[int, Any], None, None]:
        """Return a generator of pairs, number of the argument and result, as the results come.

        To close it early stops what still runs. Of a batch evaluator that is a function, all
        results come at the end.
        """
        if isinstance(self.batch_evaluator, str):
            return stream(self.batch_evaluator, func, arguments, self.n_cores, error_handling)
        return _at_the_end(lambda: self.evaluate(func, arguments, error_handling))


def _at_the_end(evaluate: Callable[[], list[Any]]) -> Generator[tuple[int, Any], None, None]:
    yield from enumerate(evaluate())


def read_batch_evaluator(
    batch_evaluator: BatchEvaluator | str, error: type[OptimagicError] = NotAvailableError
) -> BatchEvaluator:
    """Return the batch evaluator that a name stands for, or the one that a function makes.

    A function gets and returns things that plain pickle takes to another process, so that it may
    use any pool of processes; what it is given to evaluate may be anything.

    Args:
        batch_evaluator: "joblib", "threading", "dask", "ray" or a function.
        error: What to raise.

    Raises:
        OptimagicError: Of the given class, if there is no such batch evaluator, or a function
            does not return one result for each argument.

    Example:
        >>> read_batch_evaluator("threading")(abs, [-1, 2])
        [1, 2]
    """
    if isinstance(batch_evaluator, str) and batch_evaluator in EVALUATORS:
        return EVALUATORS[batch_evaluator]
    if isinstance(batch_evaluator, OwnEvaluator) or batch_evaluator in EVALUATORS.values():
        return batch_evaluator  # type: ignore[return-value]
    if callable(batch_evaluator):
        return OwnEvaluator(batch_evaluator, error)
    why = " (pathos is not supported; joblib does the same)" if batch_evaluator == "pathos" else ""
    raise error(
        f"batch_evaluator must be {', '.join(map(repr, EVALUATORS))} or a function, not "
        f"{batch_evaluator!r}{why}.{did_you_mean(batch_evaluator, EVALUATORS)}"
    )
