"""Runs tasks in a session of Ray."""

from __future__ import annotations

import os
import sys
import threading
import warnings
from collections.abc import Generator, Hashable, Sequence
from typing import Any

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
        import ray  # noqa: F401
    except ImportError as error:
        raise not_installed("ray", error, "ray") from error
    return outcomes_of(_Batch(PackedFunction.of(task), n_cores), arguments, n_cores)


class _Batch:
    """One batch in a session."""

    def __init__(self, function: PackedFunction, n_cores: int) -> None:
        import ray

        # in a session of our own, how many tasks run is for us to say, and it may grow
        n_cpus = 0 if _connect(n_cores) else 1
        self._digest = function.digest
        # in a list it is not fetched by each task
        self._packed = [ray.put(function.packed)]
        self._run = ray.remote(num_cpus=n_cpus, max_retries=N_DEATHS - 1)(_run)
        self._running: list[Any] = []

    def submit(self, argument: bytes) -> Hashable:
        """Start a task."""
        reference: Hashable = self._run.remote(self._digest, self._packed, argument)
        self._running.append(reference)
        return reference

    def wait(self) -> tuple[Hashable, bytes | str]:
        """Wait for the next answer."""
        import ray
        from ray import exceptions

        (reference,), self._running = ray.wait(self._running)
        try:
            return reference, ray.get(reference)
        except (exceptions.WorkerCrashedError, exceptions.OutOfMemoryError):
            return reference, f"{N_DEATHS} times"

    def end(self, *, early: bool) -> None:
        """Stop what runs."""
        import ray

        for reference in self._running:
            ray.cancel(reference, force=True)


def _run(digest: bytes, packed: list[Any], argument: bytes) -> bytes:
    import ray

    return run_packed(lambda: KEPT.get(digest, lambda: ray.get(packed[0])), argument)


# ---- the session -----------------------------------------------------------------------------

# the job of the session that was started here, if there is one
_own: list[str] = []
_lock = threading.Lock()


def _connect(n_cores: int) -> bool:
    """See that there is a session; return whether it was started here."""
    import ray

    with _lock:
        if not ray.is_initialized():
            _start(n_cores)
        return ray.get_runtime_context().get_job_id() in _own


def _start(n_cores: int) -> None:
    import ray

    if os.environ.get("RAY_ADDRESS"):
        ray.init(log_to_driver=False, logging_level="ERROR")
        return
    # modules are found where they are found here
    path = os.pathsep.join(folder or os.getcwd() for folder in sys.path)
    with warnings.catch_warnings():
        # Ray forks only to start other programs at once, which no thread of JAX can disturb
        warnings.filterwarnings(
            "ignore", message=r"os\.fork\(\) was called", category=RuntimeWarning
        )
        ray.init(
            address="local",
            num_cpus=n_cores,
            include_dashboard=False,
            log_to_driver=False,
            logging_level="ERROR",
            runtime_env={"env_vars": {"PYTHONPATH": path}},
            # a task that is ended because memory is short would be tried for ever
            _system_config={"task_oom_retries": N_DEATHS - 1},
        )
    _own[:] = [ray.get_runtime_context().get_job_id()]
