"""Tasks in other processes: keeps as many of them running as there are cores."""

from __future__ import annotations

from collections.abc import Generator, Hashable, Sequence
from itertools import islice
from typing import Any, Protocol

from optimagic_lite.parallel.outcomes import Outcome, unpack_outcome
from optimagic_lite.parallel.portable import pack_to_send


class Backend(Protocol):
    """Runs the tasks of one batch in other processes."""

    def submit(self, argument: bytes) -> Hashable:
        """Start a task with a packed argument; return what stands for it."""
        ...  # pragma: no cover

    def wait(self) -> tuple[Hashable, bytes | str]:
        """Wait until a task is over; return what stands for it and the answer.

        The answer is the packed outcome, or how often and how its process died.
        """
        ...  # pragma: no cover

    def end(self, *, early: bool) -> None:
        """Give back what the batch used; stop what runs if the batch ends early."""
        ...  # pragma: no cover


def outcomes_of(
    backend: Backend, arguments: Sequence[Any], n_cores: int
) -> Generator[tuple[int, Outcome], None, None]:
    """Yield number and outcome of each task as they come.

    A new task is started before an outcome is handed out, so that no core waits for what the
    caller does with it.
    """
    running: dict[Hashable, int] = {}
    waiting = iter(enumerate(arguments))

    def fill() -> None:
        for i, argument in islice(waiting, n_cores - len(running)):
            packed = pack_to_send(argument, f"Argument {i} of func")
            running[backend.submit(packed)] = i

    try:
        fill()
        while running:
            handle, answer = backend.wait()
            i = running.pop(handle)
            fill()
            yield i, unpack_outcome(answer)
    finally:
        backend.end(early=bool(running))
