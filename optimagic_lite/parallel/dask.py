"""Runs tasks on a cluster of Dask."""

from __future__ import annotations

import atexit
import logging
import threading
from collections import Counter
from collections.abc import Generator, Hashable, Sequence
from contextlib import ExitStack, suppress
from itertools import count
from typing import Any

from optimagic_lite.exceptions import NotAvailableError
from optimagic_lite.parallel.outcomes import N_DEATHS, Outcome, Task, run_packed
from optimagic_lite.parallel.portable import KEPT, PackedFunction
from optimagic_lite.parallel.protocol import not_installed
from optimagic_lite.parallel.remote import outcomes_of


def outcomes(
    task: Task, arguments: Sequence[Any], n_cores: int
) -> Generator[tuple[int, Outcome], None, None]:
    """Yield number and outcome of each task as they come."""
    try:
        import cloudpickle  # noqa: F401
        import distributed  # noqa: F401
    except ImportError as error:
        raise not_installed("dask", error, "dask") from error
    return outcomes_of(_Batch(PackedFunction.of(task), n_cores), arguments, n_cores)


class _Batch:
    """One batch on a cluster.

    A task is sent without its function. A worker that lacks it says so, and the task comes again
    with it. (As the result of another task it would draw all tasks to the worker where it lies;
    Dask leaves others idle. As scattered data it would be lost with that worker.)
    """

    def __init__(self, function: PackedFunction, n_cores: int) -> None:
        from distributed import as_completed

        self._function = function
        self._stack = ExitStack()
        self._client, self._is_own = _connect(self._stack, n_cores)
        self._answers = as_completed(
            [], loop=self._client.loop, with_results=True, raise_errors=False
        )
        # number and argument of the tasks that run
        self._tasks: dict[Any, tuple[int, bytes]] = {}
        self._deaths: Counter[int] = Counter()
        self._numbers = count()

    def submit(self, argument: bytes) -> Hashable:
        """Start a task."""
        number = next(self._numbers)
        self._start(number, argument)
        return number

    def wait(self) -> tuple[Hashable, bytes | str]:
        """Wait for the next answer; a task whose worker died is tried again."""
        while True:
            future, answer = next(self._answers)
            number, argument = self._tasks.pop(future)
            if isinstance(answer, bytes) and answer:
                return number, answer
            if not isinstance(answer, bytes) and self._is_given_up(number, answer):
                return number, f"{self._deaths[number]} times"
            self._start(number, argument, self._function.packed)

    def _start(self, number: int, argument: bytes, packed: bytes | None = None) -> None:
        import dask

        call = _run, self._function.digest, argument, packed
        # what is sent may be large, which is no reason for a warning
        with dask.config.set({"distributed.admin.large-graph-warning-threshold": "1 TB"}):
            future = self._client.submit(*call, pure=False)
        self._tasks[future] = number, argument
        self._answers.add(future)

    def _is_given_up(self, number: int, answer: Any) -> bool:
        """Tell whether a task that died with its worker is not tried again; raise other errors."""
        from distributed import KilledWorker

        error = answer[1] if isinstance(answer, tuple) else answer
        if not isinstance(error, KilledWorker):
            raise error
        # Dask has already tried it as often as its scheduler is told to
        self._deaths[number] += error.allowed_failures + 1
        if self._is_own:
            _wait_for_workers(self._client)
        return self._deaths[number] >= N_DEATHS

    def end(self, *, early: bool) -> None:
        """Stop what runs; on a cluster that was not made here, what has begun runs on."""
        with self._stack:
            if early:
                self._client.cancel(list(self._tasks), force=True)
                if self._is_own:
                    _kill_workers(self._client.cluster)
        if self._is_own:
            _leave(is_broken=early)


def _run(digest: bytes, argument: bytes, packed: bytes | None) -> bytes:
    """Return the packed outcome, or nothing if the function is not here."""
    try:
        function = KEPT.get(digest, packed)
    except LookupError:
        return b""
    return run_packed(lambda: function, argument)


# ---- the cluster -----------------------------------------------------------------------------

# the client of the cluster that was made here, if there is one
_own: list[Any] = []
_n_batches = 0
_lock = threading.Lock()


def _connect(stack: ExitStack, n_cores: int) -> tuple[Any, bool]:
    """Return a client, and whether it belongs to a cluster that was made here."""
    import distributed

    global _n_batches
    with suppress(ValueError):
        distributed.get_worker()
        # a task of a task: its place is given to others while it waits
        return stack.enter_context(distributed.worker_client()), False
    with suppress(ValueError):
        return distributed.get_client(), False
    with _lock:
        if not _own:
            _own.append(_make_client(n_cores))
            # before Dask ends the cluster by itself, and its client complains
            atexit.register(close)
        client = _own[0]
        if len(client.cluster.workers) < n_cores:
            client.cluster.scale(n_cores)
        _n_batches += 1
    _wait_for_workers(client)
    return client, True


def _leave(is_broken: bool) -> None:
    """Take note that a batch is over; a cluster without workers is of use to nobody."""
    global _n_batches
    with _lock:
        _n_batches -= 1
        if is_broken and _n_batches == 0:
            close()


def _make_client(n_cores: int) -> Any:
    """Start a cluster on this machine."""
    import dask
    import distributed

    try:
        # how often a task is tried is for us to say
        with dask.config.set({"distributed.scheduler.allowed-failures": 0}):
            cluster = distributed.LocalCluster(
                n_workers=n_cores,
                threads_per_worker=1,
                memory_limit=0,
                dashboard_address=None,
                # else two clusters on one machine quarrel about a port
                scheduler_kwargs={"dashboard_address": ":0"},
                silence_logs=logging.CRITICAL,
            )
    except RuntimeError as error:
        raise NotAvailableError(
            f"The cluster of batch_evaluator='dask' does not start: {error} Its processes import "
            "the script that is run, so what it does must stand below  if __name__ == '__main__':"
        ) from error
    return distributed.Client(cluster, set_as_default=False)


def close() -> None:
    """End the cluster that was made here, if there is one."""
    atexit.unregister(close)
    while _own:
        client = _own.pop()
        client.close()
        client.cluster.close()


def _wait_for_workers(client: Any) -> None:
    """Wait until all workers of our own are there.

    If there are less, tasks queue for those, and one may die because of the one before.
    """
    client.wait_for_workers(len(client.cluster.workers), timeout=60)


def _kill_workers(cluster: Any) -> None:
    """End the processes of our own workers and all that they started.

    Tasks of another batch die too. Dask starts new processes, and they are tried again.
    """
    import psutil

    pids = [nanny.pid for nanny in cluster.workers.values()]
    for pid in filter(None, pids):
        with suppress(psutil.NoSuchProcess):
            worker = psutil.Process(pid)
            for process in [*worker.children(recursive=True), worker]:
                process.kill()
