"""Runs tasks in processes of this machine, which are started by loky (part of joblib).

A worker has one task at a time, so that its death is the death of one task and all others go on.
Workers are kept between batches, with the functions that they had last.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import Counter, deque
from collections.abc import Generator, Hashable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache, partial
from itertools import count
from multiprocessing import util
from multiprocessing.connection import Connection, wait
from typing import Any

from optimagic_lite.parallel.outcomes import N_DEATHS, Outcome, Task, run_packed
from optimagic_lite.parallel.portable import N_KEPT, KeptFunctions, PackedFunction
from optimagic_lite.parallel.protocol import not_installed
from optimagic_lite.parallel.remote import outcomes_of

_IDLE_SECONDS = 300

# What libraries of linear algebra and compilers of loops read when they are loaded.
_THREADS = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMBA_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
)


def outcomes(
    task: Task, arguments: Sequence[Any], n_cores: int
) -> Generator[tuple[int, Outcome], None, None]:
    """Yield number and outcome of each task as they come."""
    try:
        import cloudpickle  # noqa: F401
        import joblib  # noqa: F401
        import psutil  # noqa: F401
    except ImportError as error:
        raise not_installed("joblib", error, "parallel") from error
    return outcomes_of(_Crew(PackedFunction.of(task), n_cores), arguments, n_cores)


class _Crew:
    """The workers of one batch."""

    def __init__(self, function: PackedFunction, n_workers: int) -> None:
        self._function = function
        self._n_workers = n_workers
        self._workers: dict[Connection, _Worker] = {}
        self._arguments: dict[int, bytes] = {}
        self._queue: deque[int] = deque()
        self._deaths: Counter[int] = Counter()
        self._heard: list[Any] = []
        self._numbers = count()

    def submit(self, argument: bytes) -> Hashable:
        """Start a task as soon as a worker is free."""
        number = next(self._numbers)
        self._arguments[number] = argument
        self._queue.append(number)
        self._assign()
        return number

    def wait(self) -> tuple[Hashable, bytes | str]:
        """Wait for the next answer; a task whose worker died is tried again, after all others."""
        while True:
            self._assign()
            # all that were heard have their turn, so that no quick worker keeps the others waiting
            if not self._heard:
                self._heard += wait([c for c, w in self._workers.items() if not w.is_free])
            worker = self._workers[self._heard.pop()]
            number = worker.task
            answer: bytes | str | None = worker.hear()
            if answer is None:
                answer = self._bury(worker, number)
            if number is not None and answer is not None:
                del self._arguments[number]
                return number, answer

    def end(self, *, early: bool) -> None:
        """Keep the workers for the next batch, but for those that have a task."""
        for worker in self._workers.values():
            if worker.task is None:
                _idle.append(worker)
            else:
                worker.kill()

    def _assign(self) -> None:
        """Give tasks to the workers that are free; see that there are enough workers."""
        while len(self._workers) < min(self._n_workers, len(self._arguments)):
            worker = _rehired() or _Worker(self._n_workers)
            self._workers[worker.connection] = worker
        free = [worker for worker in self._workers.values() if worker.is_free]
        while self._queue and free:
            number = self._queue.popleft()
            free.pop().give(number, self._function, self._arguments[number])

    def _bury(self, worker: _Worker, number: int | None) -> str | None:
        """Return how a worker died, if its task is not tried again."""
        del self._workers[worker.connection]
        worker.kill()
        how = f"exit code {worker.process.exitcode}"
        if number is None:
            raise RuntimeError(f"A worker process died before its first task ({how}).")
        self._deaths[number] += 1
        if self._deaths[number] == N_DEATHS:
            return f"{N_DEATHS} times, {how}"
        self._queue.append(number)
        return None


class _Worker:
    """A process that runs one task at a time."""

    def __init__(self, n_workers: int) -> None:
        from joblib import cpu_count
        from joblib.externals.loky.backend.context import get_context

        context = get_context("loky")
        self.connection, there = context.Pipe()
        self.task: int | None = None
        self.is_free = False
        # as many as the worker keeps, and in the same order
        self._digests: deque[bytes] = deque(maxlen=N_KEPT)
        n_threads = str(max(cpu_count() // n_workers, 1))
        threads = {name: os.environ.get(name, n_threads) for name in _THREADS}
        self.process = context.Process(target=_serve, args=(there, os.getpid()), env=threads)
        with _interrupts_held():
            self.process.start()
        there.close()

    def give(self, number: int, function: PackedFunction, argument: bytes) -> None:
        """Send a task, with its function if the worker does not have it."""
        self.task, self.is_free = number, False
        packed = None if function.digest in self._digests else function.packed
        if packed is not None:
            self._digests.append(function.digest)
        # a worker that is dead is noticed when it is heard
        with suppress(OSError):
            self.connection.send((function.digest, packed, argument))

    def hear(self) -> bytes | None:
        """Return an answer, or None if the worker is dead; the first one says that it is free."""
        try:
            answer: bytes = self.connection.recv_bytes()
        except (EOFError, OSError):
            return None
        self.task, self.is_free = None, True
        return answer

    def kill(self) -> None:
        """End the process and all that it started."""
        from joblib.externals.loky.backend.utils import kill_process_tree

        self.connection.close()
        kill_process_tree(self.process)


# ---- between batches -------------------------------------------------------------------------

_idle: list[_Worker] = []
if hasattr(os, "register_at_fork"):
    # the workers of a process are not those of its forks
    os.register_at_fork(after_in_child=_idle.clear)


def _rehired() -> _Worker | None:
    """Return a worker that has nothing to do and is still alive."""
    _dismiss_at_exit(os.getpid())
    with suppress(IndexError):
        while True:
            worker = _idle.pop()
            if worker.process.is_alive():
                return worker
            worker.kill()
    return None


@cache
def _dismiss_at_exit(_pid: int) -> None:
    # before multiprocessing joins its processes, which would wait for more tasks
    util.Finalize(None, _dismiss_all, exitpriority=100)


def _dismiss_all() -> None:
    for worker in _idle:
        worker.connection.close()
    while _idle:
        worker = _idle.pop()
        worker.process.join(1 if worker.is_free else 0)
        worker.kill()


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """Hold Ctrl-C back from this thread, and from a process that it starts."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


# ---- in a worker -----------------------------------------------------------------------------


def _serve(connection: Connection, parent: int) -> None:
    """Run tasks until the other end is closed, or for some minutes there is none."""
    # a terminal sends Ctrl-C to all processes; what becomes of this one is for the parent to say
    signal.signal(signal.SIGINT, lambda *_: None)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    kept = KeptFunctions()
    with suppress(EOFError, OSError):
        connection.send_bytes(b"")
        while connection.poll(_IDLE_SECONDS):
            digest, packed, argument = connection.recv()
            connection.send_bytes(run_packed(partial(kept.get, digest, packed), argument))


def _end_with(parent: int) -> None:
    """End this process, in the middle of a task too, when its parent is gone."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)
