"""What a batch evaluator is called with, and the checks of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Literal, Protocol, get_args

from optimagic_lite.exceptions import InvalidKwargsError, NotInstalledError, OptimagicError

BatchErrorHandling = Literal["continue", "raise"]
UnpackSymbol = Literal["*", "**"]
BatchEvaluatorName = Literal["joblib", "threading", "dask", "ray"]


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


def check_options(n_cores: Any, error_handling: Any, unpack_symbol: Any) -> None:
    """Refuse options that no batch evaluator takes.

    Raises:
        InvalidKwargsError: If one is not valid.
    """
    check_n_cores(n_cores)
    if error_handling not in get_args(BatchErrorHandling):
        raise InvalidKwargsError(
            f"error_handling must be 'continue' or 'raise', not {error_handling!r}."
        )
    if unpack_symbol is not None and unpack_symbol not in get_args(UnpackSymbol):
        raise InvalidKwargsError(f"unpack_symbol must be None, '*' or '**', not {unpack_symbol!r}.")


def not_installed(name: BatchEvaluatorName, missing: ImportError, extra: str) -> NotInstalledError:
    """Return the error that says what to install for a batch evaluator.

    Args:
        name: The batch evaluator.
        missing: What its import raised.
        extra: Name of the extra that brings it.
    """
    return NotInstalledError(
        f"batch_evaluator={name!r} with more than one core needs {missing.name}, which is not "
        f"installed: pip install 'optimagic_lite[{extra}]'. batch_evaluator='threading' needs "
        "nothing."
    )
