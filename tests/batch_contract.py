"""What every batch evaluator with workers in other processes does, whatever starts them.

A class that inherits from the contract and has a name runs all of it.
"""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import psutil
import pytest

import optimagic_lite
from optimagic_lite.exceptions import NotAvailableError
from optimagic_lite.parallel import Cores, TaskFailure, WorkerDiedError, read_batch_evaluator


class CodedError(Exception):
    """An exception that cannot be made of its message alone, so pickle loses it."""

    def __init__(self, code, reason):
        super().__init__(f"{reason} ({code})")
        self.code = code


def picky(factor):
    class LocalError(ValueError):
        def __init__(self, *, hint):
            super().__init__(f"take {hint}")
            self.hint = hint

    class HoldingError(ArithmeticError):
        def __init__(self):
            super().__init__("holds what cannot travel")
            self.lock = threading.Lock()
            self.code = 5

    class SilentError(ArithmeticError):
        def __init__(self):
            self.lock = threading.Lock()

        def __str__(self):
            return f"locked: {self.lock.locked()}"

    errors = {
        1: lambda: CodedError(7, "no ones"),
        2: lambda: LocalError(hint="three"),
        3: lambda: FileNotFoundError(2, "missing", "data.csv"),
        4: HoldingError,
        5: SilentError,
    }

    def function(x):
        if x in errors:
            raise errors[x]()
        return factor * x

    return function


def check_failures(out):
    """Check what ``picky(10)`` gives for 0 to 6, in whatever process it ran."""
    assert out[0] == 0
    assert out[6] == 60
    assert all(isinstance(failure, TaskFailure) for failure in out[1:6])
    assert all("in function" in failure.traceback for failure in out[1:6])
    coded, local, missing, holding, silent = (failure.exception for failure in out[1:6])
    assert type(coded) is CodedError
    assert str(coded) == "no ones (7)"
    assert coded.code == 7
    assert type(local).__name__ == "LocalError"
    assert isinstance(local, ValueError)
    assert str(local) == "take three"
    assert local.hint == "three"
    assert type(missing) is FileNotFoundError
    assert str(missing) == "[Errno 2] missing: 'data.csv'"
    assert type(holding).__name__ == "HoldingError"
    assert str(holding) == "holds what cannot travel"
    assert holding.code == 5
    # neither the class nor its arguments say what it says
    assert type(silent).__name__ == "SilentError"
    assert isinstance(silent, ArithmeticError)
    assert str(silent) == "locked: False"


class BatchContract:
    """Tests of the batch evaluator with a name, on two cores."""

    name: str

    @property
    def cores(self):
        return Cores(2, self.name)

    def test_results_come_in_the_order_of_the_arguments(self):
        def late_first(x):
            time.sleep(0.2 * (x == 0))
            return x**2

        assert self.cores.evaluate(late_first, range(6)) == [0, 1, 4, 9, 16, 25]

    def test_tasks_run_at_the_same_time_in_other_processes(self, tmp_path):
        assert len(processes_that_meet(self.cores, tmp_path) - {os.getpid()}) == 2

    def test_no_more_tasks_run_at_the_same_time_than_cores(self, tmp_path):
        def count(x):
            (tmp_path / str(x)).touch()
            time.sleep(0.02)
            n_running = len(list(tmp_path.iterdir()))
            (tmp_path / str(x)).unlink()
            return n_running

        assert max(self.cores.evaluate(count, range(12))) <= 2

    def test_arguments_are_unpacked(self):
        evaluator = read_batch_evaluator(self.name)

        def minus(a, b):
            return a - b

        assert evaluator(minus, [(3, 1), (1, 3)], unpack_symbol="*", n_cores=2) == [2, -2]
        assert evaluator(minus, [{"b": 3, "a": 1}], unpack_symbol="**", n_cores=2) == [-2]

    def test_closures_are_arguments_and_results_too(self):
        class Local:
            def __init__(self, n):
                self.n = n

        def compose(f):
            return Local(f(1)), lambda x: f(f(x))

        (local, twice), _ = self.cores.evaluate(compose, [lambda x: 3 * x, lambda x: x])

        assert type(local) is Local
        assert local.n == 3
        assert twice(2) == 18

    @pytest.mark.parametrize("x64", [False, True])
    def test_double_precision_travels_in_both_precisions_of_jax(self, x64):
        with jax.enable_x64(True):
            third = jnp.array([1.0]) / 3

        def function(pair):
            # the precision in which new arrays are made is that of the caller
            return *pair, third, jnp.zeros(1).dtype

        with jax.enable_x64(x64):
            single = jnp.ones(1, np.float32)
            (out,) = self.cores.evaluate(function, [(third, single)])

        argument, other, constant, dtype = out
        assert isinstance(argument, jax.Array)
        assert argument.dtype == constant.dtype == np.float64
        assert float(argument[0]) == float(constant[0]) == 1 / 3
        assert other.dtype == np.float32
        assert dtype == (np.float64 if x64 else np.float32)

    def test_a_worker_unpacks_a_function_once(self):
        class Loud:
            def __getstate__(self):
                return {}

            def __setstate__(self, state):
                self.n_calls = 0

        loud = Loud()

        def count(_):
            loud.n_calls += 1
            time.sleep(0.01)
            return os.getpid(), loud.n_calls

        calls = self.cores.evaluate(count, range(8))

        # if it came anew with each task, each would be the first
        assert len({pid for pid, _ in calls}) <= 2
        assert sum(n == 1 for _, n in calls) == len({pid for pid, _ in calls})

    def test_a_failure_stands_in_its_place(self):
        check_failures(self.cores.evaluate(picky(10), range(7)))

    def test_a_raised_exception_keeps_type_and_message_and_says_where(self):
        with pytest.raises(CodedError) as caught:
            self.cores.evaluate(picky(10), [0, 1, 0], "raise")

        assert str(caught.value) == "no ones (7)"
        assert caught.value.code == 7
        assert "in function" in caught.value.__notes__[0]

    def test_a_failure_that_is_returned_is_a_result(self):
        def returns_a_failure(_):
            try:
                raise CodedError(7, "no")
            except CodedError as error:
                return TaskFailure.of(error)

        (out,) = self.cores.evaluate(returns_a_failure, [0], "raise")

        assert out.exception.code == 7
        assert "in returns_a_failure" in out.traceback

    def test_what_cannot_come_back_is_a_failure(self):
        first, second = self.cores.evaluate(lambda x: threading.Lock() if x else x, [0, 1])

        assert first == 0
        assert isinstance(second.exception, TypeError)
        assert "returned cannot be sent" in str(second.exception)

    def test_what_cannot_be_sent_is_refused(self):
        lock = threading.Lock()

        with pytest.raises(NotAvailableError, match=r"func cannot be sent.*threading"):
            self.cores.evaluate(lambda x: lock, [1])
        with pytest.raises(NotAvailableError, match=r"Argument 0 of func cannot be sent"):
            self.cores.evaluate(abs, [lock, 1])

    def test_exit_ends_the_program(self):
        def leave(x):
            raise SystemExit(x)

        with pytest.raises(SystemExit) as caught:
            self.cores.evaluate(leave, [3])
        assert caught.value.code == 3

    def test_results_are_handed_out_as_they_come(self, tmp_path):
        stop = tmp_path / "stop"

        def waits(x):
            end = time.monotonic() + 20
            while x == 0 and not stop.exists() and time.monotonic() < end:
                time.sleep(0.01)
            return -x

        found = self.cores.as_completed(waits, range(4))

        early = [next(found) for _ in range(3)]
        stop.touch()
        assert sorted(early) == [(1, -1), (2, -2), (3, -3)]
        assert list(found) == [(0, 0)]

    def test_leaving_early_stops_what_runs(self, tmp_path):
        def ticks(x):
            end = time.monotonic() + 20
            while x and time.monotonic() < end:
                (tmp_path / "tick").write_text(str(time.monotonic()))
                time.sleep(0.01)

        with contextlib.closing(self.cores.as_completed(ticks, range(5))) as found:
            assert next(found) == (0, None)
            wait_until((tmp_path / "tick").exists)

        def is_silent():
            last = (tmp_path / "tick").read_text()
            time.sleep(0.2)
            return (tmp_path / "tick").read_text() == last

        # long before it would end by itself
        wait_until(is_silent, 10)

    def test_batches_may_be_nested(self):
        cores = self.cores

        def total(x):
            return sum(cores.evaluate(lambda y: x * y, range(3)))

        assert cores.evaluate(total, [2]) == [6]

    def test_a_killed_worker_costs_no_result_and_a_killing_task_only_its_own(self, tmp_path):
        def die(x):
            n_before = len(list(tmp_path.glob(f"{x}-*")))
            (tmp_path / f"{x}-{n_before}").touch()
            if x == 3 or (x == 1 and n_before == 0):
                os.kill(os.getpid(), signal.SIGKILL)
            time.sleep(0.05)
            return 10 * x

        out = self.cores.evaluate(die, range(6))

        assert out[:3] + out[4:] == [0, 10, 20, 40, 50]
        assert isinstance(out[3].exception, WorkerDiedError)
        assert "(3 times" in str(out[3].exception)
        assert "memory" in str(out[3].exception)
        assert len(list(tmp_path.glob("3-*"))) == 3


def processes_that_meet(cores, folder):
    """Run tasks that wait for each other, as many as there are cores; return the processes."""

    def meet(x):
        (folder / str(x)).touch()
        wait_until(lambda: len(list(folder.iterdir())) == cores.n_cores)
        return os.getpid()

    return set(cores.evaluate(meet, range(cores.n_cores), "raise"))


def wait_until(is_so, seconds=30):
    """Wait for something that another process does."""
    end = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.02)


# ---- Ctrl-C ----------------------------------------------------------------------------------

INTERRUPTED = """
import os, signal, subprocess, sys, time
from pathlib import Path

# a shell that starts tests in the background lets them ignore Ctrl-C
signal.signal(signal.SIGINT, signal.default_int_handler)

from optimagic_lite.parallel import Cores

folder = Path(sys.argv[2])


def task(argument):
    batch, number = argument
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    (folder / f"{batch}-{number}").write_text(str(child.pid))
    time.sleep(60)


if __name__ == "__main__":
    for batch in range(int(sys.argv[3])):
        try:
            Cores(2, sys.argv[1]).evaluate(task, [(batch, number) for number in range(4)])
        except KeyboardInterrupt:
            print("interrupted", flush=True)
"""


def check_interrupts(name, folder, interrupts=(os.kill, os.killpg)):
    """Interrupt a process in each of its batches, as ``kill`` or as a terminal does."""
    script = folder / "script.py"
    script.write_text(INTERRUPTED)
    root = str(Path(optimagic_lite.__file__).parents[1])
    process = subprocess.Popen(
        [sys.executable, script, name, folder, str(len(interrupts))],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, "PYTHONPATH": root},
    )
    everything = []
    try:
        for batch, interrupt in enumerate(interrupts):
            started = [folder / f"{batch}-{i}" for i in range(2)]
            wait_until(lambda: all(f.exists() and f.read_text() for f in started), 60)  # noqa: B023
            everything += psutil.Process(process.pid).children(recursive=True)
            begin = time.monotonic()
            interrupt(process.pid, signal.SIGINT)
            assert process.stdout.readline() == "interrupted\n"
            assert time.monotonic() - begin < 10
            children = [psutil.Process(int(f.read_text())) for f in started if is_alive(f)]
            assert psutil.wait_procs(children, timeout=10)[1] == []
        _, errors = process.communicate(timeout=30)
        assert process.returncode == 0, errors
        assert psutil.wait_procs(everything, timeout=10)[1] == []
    finally:
        for left in [process, *everything]:
            with contextlib.suppress(psutil.NoSuchProcess):
                left.kill()
        process.communicate()


def is_alive(file):
    return psutil.pid_exists(int(file.read_text()))
