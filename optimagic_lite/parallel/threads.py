"""Runs tasks in threads of this process."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import Any

from optimagic_lite.parallel.outcomes import Outcome, Task


def outcomes(
    task: Task, arguments: Sequence[Any], n_cores: int
) -> Generator[tuple[int, Outcome], None, None]:
    """Yield number and outcome of each task as they come."""
    pool = ThreadPoolExecutor(n_cores)
    try:
        numbers = {pool.submit(task.outcome, a): i for i, a in enumerate(arguments)}
        for future in as_completed(numbers):
            yield numbers[future], future.result()
    finally:
        # whoever ends a batch early, by Ctrl-C for one, does not wait for what cannot be stopped
        pool.shutdown(wait=False, cancel_futures=True)
