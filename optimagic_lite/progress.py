"""The progress bar of a run."""

from __future__ import annotations

import time
from typing import Any

from optimagic_lite.exceptions import NotInstalledError

# seconds between two looks of the bar; drawing costs more than most evaluations
_INTERVAL = 0.1


class Progress:
    """A bar with evaluations, best value, violation of constraints and time.

    It is drawn by tqdm, as text in terminals and as a widget in notebooks.

    Args:
        name: What is running.
        limit: Largest number of evaluations, or None if there is no limit to speak of.

    Raises:
        NotInstalledError: If tqdm is not installed.
    """

    def __init__(self, name: str, limit: int | None) -> None:
        self._bar = _tqdm()(desc=name, total=limit, unit=" evaluations", mininterval=0)
        self._next = 0.0

    def update(self, n_fun: int, n_numdiff: int, best_fun: float | None, violation: float) -> None:
        """Show the state of the run, if the last look is long enough ago.

        Args:
            n_fun: Number of evaluations so far.
            n_numdiff: Number of further ones for difference quotients.
            best_fun: Best value so far, or None before the first.
            violation: Largest violation of constraints at the best point.
        """
        now = time.perf_counter()
        if now >= self._next:
            self._next = now + _INTERVAL
            self._draw(n_fun, n_numdiff, best_fun, violation)

    def close(self, n_fun: int, n_numdiff: int, best_fun: float | None, violation: float) -> None:
        """Show the last state and leave it there; arguments as in ``update``."""
        self._draw(n_fun, n_numdiff, best_fun, violation)
        self._bar.close()

    def _draw(self, n_fun: int, n_numdiff: int, best_fun: float | None, violation: float) -> None:
        parts = ["no value yet" if best_fun is None else f"best {best_fun:.8g}"]
        if violation > 0:
            parts.append(f"violation {violation:.3g}")
        if n_numdiff:
            parts.append(f"{n_numdiff:,} more for differences")
        self._bar.n = n_fun
        self._bar.set_postfix_str(", ".join(parts), refresh=True)


class BatchProgress:
    """A bar with the number of runs of a batch that have ended.

    Args:
        name: What is running.
        n_runs: Number of runs.

    Raises:
        NotInstalledError: If tqdm is not installed.
    """

    def __init__(self, name: str, n_runs: int) -> None:
        self._bar = _tqdm()(desc=name, total=n_runs, unit=" runs", mininterval=0)

    def update(self, n_ended: int) -> None:
        """Show how many runs have ended."""
        self._bar.n = n_ended
        self._bar.refresh()

    def close(self) -> None:
        """Leave the last state there."""
        self._bar.close()


def check_progress() -> None:
    """Refuse a bar where it cannot be drawn.

    Raises:
        NotInstalledError: If tqdm is not installed.
    """
    _tqdm()


def _tqdm() -> Any:
    try:
        from tqdm.auto import tqdm
    except ImportError as error:
        raise NotInstalledError(
            "progress=True needs tqdm, which is not installed: pip install tqdm."
        ) from error
    return tqdm
