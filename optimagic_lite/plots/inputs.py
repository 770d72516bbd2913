"""What a plot can be made of: a result, a log file or a history, alone or several."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from optimagic_lite.exceptions import NotAvailableError
from optimagic_lite.history import History, MultistartHistory

if TYPE_CHECKING:
    from optimagic_lite.result import OptimizeResult

    Plottable: TypeAlias = OptimizeResult | History | MultistartHistory | str | Path


def check_max_evaluations(max_evaluations: int | None) -> None:
    """Refuse a limit that leaves nothing to draw.

    Args:
        max_evaluations: What the user asked for.

    Raises:
        ValueError: If it is neither None nor a positive integer.
    """
    if max_evaluations is None:
        return
    is_int = isinstance(max_evaluations, int) and not isinstance(max_evaluations, bool)
    if not is_int or max_evaluations < 1:
        raise ValueError(
            f"max_evaluations must be a positive integer or None, not {max_evaluations!r}."
        )


def named_runs(
    results: Plottable | Sequence[Plottable] | Mapping[str, Plottable],
    names: list[str] | str | None,
) -> list[tuple[str, MultistartHistory]]:
    """Give every result its name and its evaluations.

    Args:
        results: One or several results, log paths or histories.
        names: Names in the order of the results. They replace the keys of a dictionary; the
            default for a list is the positions, "0", "1" and so on, for a lone result
            "criterion".

    Returns:
        Pairs of name and evaluations.

    Raises:
        ValueError: If there are no results, or not as many names as results.
    """
    if isinstance(results, Mapping):
        pairs = [(str(key), item) for key, item in results.items()]
    elif isinstance(results, (list, tuple)):
        pairs = [(str(i), item) for i, item in enumerate(results)]
    else:
        pairs = [("criterion", cast("Plottable", results))]
    if not pairs:
        raise ValueError("results is empty: give at least one result, log path or history.")
    labels = replace_names([label for label, _ in pairs], names, "results")
    return [
        (label, run_of(item, f"result {label!r}"))
        for label, (_, item) in zip(labels, pairs, strict=True)
    ]


def replace_names(default: list[str], names: list[str] | str | None, what: str) -> list[str]:
    """Return the user's names if there are any, else the default.

    Args:
        default: One name for each thing.
        names: Names in the same order, one name, or None.
        what: The things in plural, for the message.

    Returns:
        As many names as there are in ``default``.

    Raises:
        ValueError: If the numbers differ.
    """
    if names is None:
        return default
    given = [names] if isinstance(names, str) else [str(name) for name in names]
    if len(given) != len(default):
        raise ValueError(
            f"names has {len(given)} entries, but there are {len(default)} {what} to name. "
            "Give one name for each, in the same order."
        )
    return given


def run_of(result: Any, what: str) -> MultistartHistory:
    """Find the evaluations of a result, or read them from its log.

    Args:
        result: A result, a path to a log (its newest run is read) or a history.
        what: How to call it in a message.

    Returns:
        The evaluations, at least one; those of a run without multistart are all exploration.

    Raises:
        LogError: If a path leads to no readable log.
        NotAvailableError: If the run kept neither history nor log, or has no evaluations yet.
        TypeError: If it is none of the three.
    """
    found = _find_history(result, what)
    run = MultistartHistory(found, ()) if isinstance(found, History) else found
    if not any(len(part) for part in (run.exploration, *run.local_histories)):
        raise NotAvailableError(f"There is nothing to plot: {what} has no evaluations yet.")
    return run


def _find_history(result: Any, what: str) -> History | MultistartHistory:
    if isinstance(result, (History, MultistartHistory)):
        return result
    if isinstance(result, (str, Path)):
        from optimagic_lite.log.reader import open_reader

        return open_reader(result).read_multistart_history()
    if not hasattr(result, "history"):
        raise TypeError(
            f"Cannot plot {what}: it is of type {type(result).__name__!r}, but must be a result "
            "of minimize or maximize, the path of a log, or a History."
        )
    info = getattr(result, "multistart_info", None)
    found = result.history if info is None else info.history
    if isinstance(found, (History, MultistartHistory)):
        return found
    if result.logger is None:
        raise NotAvailableError(
            f"Cannot plot {what}: its run kept no history (collect_history=False) and wrote no "
            "log. Run it again with collect_history=True, the default, or with "
            "logging='run.db'."
        )
    logged: MultistartHistory = result.logger.read_multistart_history(run=result.log_run)
    return logged
