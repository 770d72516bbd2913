"""The log outlives what happens to it: killed processes, full disks, lost files, locks, Ctrl-C.

Processes that are to die are forked from one that has imported the package already, which is this
file run as a program; it starts no thread of JAX, so that forking is safe.
"""

import contextlib
import ctypes
import gc
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections import Counter
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

import optimagic_lite as om
from optimagic_lite.log import rows, sink, sqlite, writer
from optimagic_lite.log.reader import SQLiteLogReader

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="asks the system as Linux does")

# 30 of them were survived when this was written; few are enough to see that it stays so
KILLS = int(os.environ.get("OPTIMAGIC_LITE_KILLS", "6"))
BOX = om.Bounds(lower=np.full(3, -5.0), upper=np.full(3, 5.0))


class Criterion:
    """Calls what is to happen at a number of its calls; can note where each call begins."""

    def __init__(self, events=None, notes=None, pause=0.0):
        self.events, self.notes, self.pause = events or {}, notes, pause
        self.n_calls, self.began = 0, []

    def __call__(self, x):
        self.began.append(time.monotonic())
        if self.notes is not None:
            note(self.notes, x)
        self.n_calls += 1
        if self.n_calls in self.events:
            self.events[self.n_calls]()
        time.sleep(self.pause)
        return float(np.sum((x - 1) ** 2) + np.sum(np.cos(5 * x)))


def note(file, x):
    """Append the number of this process and a point to a file, at once."""
    with open(file, "ab", buffering=0) as notes:
        notes.write(os.getpid().to_bytes(8, "little") + np.asarray(x, "<f8").tobytes())


def noted(file, n):
    """Return the points that were noted, by process."""
    data, size = Path(file).read_bytes(), 8 * (n + 1)
    notes = [data[i : i + size] for i in range(0, len(data) // size * size, size)]
    return {pid: [x[8:] for x in notes if x[:8] == pid] for pid in {x[:8] for x in notes}}


def solve(fun, log="run.db", n_calls=None, multistart=False, n_cores=1, **more):
    """Minimize without derivatives, so that each call of the criterion is a value for it."""
    n_calls = n_calls or (60 if multistart else 300)
    options = {"stopping_maxfun": n_calls, "convergence_xtol_abs": 0, "convergence_ftol_abs": 0}
    if multistart:
        # by a local optimisation the fiftieth call is made, and the twentieth of two workers each
        multistart = {"n_samples": 8, "stopping_maxopt": 6, "seed": 0, "n_cores": n_cores}
        multistart["convergence_max_discoveries"] = 100
    more = {"algo_options": options, "bounds": BOX, "multistart": multistart} | more
    return om.minimize(fun, np.full(3, 3.0), "scipy_neldermead", logging=log, **more)


def logged_points(log):
    """Return how often each point is in a log, over all runs, and check that the log is sound."""
    reader, points = SQLiteLogReader(log), Counter()
    for run in range(reader.n_runs):
        points.update(x.tobytes() for x in reader.to_frame(run).iloc[:, 12:].to_numpy("<f8"))
    with contextlib.closing(sqlite3.connect(log)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    return points


def holds(log, result, status="complete"):
    """Whether a log has a run and all of it."""
    reader = SQLiteLogReader(log)
    if result.multistart_info is not None:
        read, kept = reader.read_multistart_history(), result.multistart_info.history
        pairs = [
            (read.exploration, kept.exploration),
            *zip(read.local_histories, kept.local_histories, strict=True),
        ]
    else:
        pairs = [(reader.read_history(), result.history)]
    return reader.runs()["status"].iloc[-1] == status and all(
        a.fun == b.fun and np.array_equal(a.flat_params, b.flat_params) for a, b in pairs
    )


# ---- what forked processes do ----------------------------------------------------------------


EXTEND = om.SQLiteLogOptions("run.db", if_database_exists="extend")


def run_for_ever(pause):
    while True:
        solve(Criterion(notes="notes", pause=pause), EXTEND, 10_000)


def run_multistart_for_ever(pause, n_cores):
    def callback(state):
        # the value of a point goes to the algorithm
        note("notes", state.params)

    while True:
        solve(Criterion(pause=pause), EXTEND, multistart=True, n_cores=n_cores, callback=callback)


def run_compiled_for_ever():
    write_many = rows.RowWriter.write_many

    def write_and_note(self, flats, *arguments, **more):
        write_many(self, flats, *arguments, **more)
        # a chunk has ended
        for flat in flats:
            note("notes", flat)

    rows.RowWriter.write_many = write_and_note
    while True:
        om.minimize(valley, np.linspace(-1, 1, 30), "optimistix_bfgs", logging=EXTEND)


def told(what):
    """Return what a solution, and the warnings meanwhile, tell of its log."""
    status = "complete"
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            result = what()
        except KeyboardInterrupt as interrupt:
            result, status = interrupt.partial_result, "interrupted"
    try:
        whole = holds(result.log_path, result, status)
    except om.exceptions.LogError as error:
        whole = str(error)
    return {
        "log": str(result.log_path),
        "holds": whole,
        "n": len(result.history),
        "warnings": [str(w.message) for w in caught],
    }


def limit_files(size=None):
    """Let no file be longer than so many bytes, as on a full disk; None: let them be."""
    import resource

    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard if size is None else size, hard))


def fill(n_bytes):
    """Make a log so long that its file, but no other one, is at the limit."""
    options = {"stopping_maxfun": n_bytes // 8000}
    start = np.zeros(1000)
    om.minimize(
        lambda x: float(x @ x), start, "scipy_neldermead", algo_options=options, logging="run.db"
    )


def fill_disk(multistart, n_cores, until):
    fill(1_000_000)
    limit_files(900_000)
    events = {} if until is None else {until: limit_files}
    return told(lambda: solve(Criterion(events), EXTEND, 1500, multistart, n_cores))


def obey_permissions():
    """Give up the right of root to write where permissions forbid it."""
    if os.geteuid() == 0:
        libc, bits = ctypes.CDLL(None, use_errno=True), 0b110
        # CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH, of this process and of those that it starts
        for capability in (1, 2):
            assert libc.prctl(24, capability, 0, 0, 0) == 0
        header, sets = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
        assert libc.capget(header, sets) == 0
        sets[0], sets[1] = sets[0] & ~bits, sets[1] & ~bits
        assert libc.capset(header, sets) == 0


def lose_permission(what, mode, n_cores, temporary):
    obey_permissions()
    tempfile.tempdir = temporary
    os.mkdir("folder")
    log = Path("folder/run.db").absolute()
    target = {"file": log, "folder": log.parent}[what]
    fun = Criterion({20: lambda: target.chmod(mode)})
    try:
        return told(lambda: solve(fun, log, multistart=n_cores > 0, n_cores=n_cores))
    finally:
        target.chmod(0o700)


def write_until_interrupted():
    # where tests run in the background, the system lets no process hear of it
    signal.signal(signal.SIGINT, signal.default_int_handler)
    # at the end; until then a row waits for half a minute
    writer.PATIENCE = 0.5
    fun = Criterion({50: Path("began").touch}, pause=0.001)
    return told(lambda: solve(fun, n_calls=100_000))


def valley(x):
    return jnp.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)


class Processes:
    """Forks processes that call a function of this file in a folder."""

    def __init__(self):
        self._server = subprocess.Popen(
            [sys.executable, __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])},
        )

    def ask(self, *question):
        self._server.stdin.write(json.dumps(question) + "\n")
        self._server.stdin.flush()
        return json.loads(self._server.stdout.readline())

    def start(self, folder, function, *arguments):
        return self.ask("start", str(folder), function.__name__, arguments)

    def answer(self, folder, function, *arguments):
        """Return what a function returns."""
        code = self.ask("wait", self.start(folder, function, *arguments))
        assert code == 0, (folder / "errors").read_text()
        return json.loads((folder / "answer").read_text())

    def kill(self, pid):
        """End a process and its workers; it stays a zombie until it is waited for."""
        os.killpg(pid, signal.SIGKILL)

    def close(self):
        self._server.communicate()


def serve():
    # what is imported late is imported here, once for all
    with tempfile.TemporaryDirectory() as folder:
        told(lambda: solve(Criterion(), Path(folder) / "run.db", 20))
    for line in sys.stdin:
        command, *arguments = json.loads(line)
        if command == "wait":
            answer = os.waitstatus_to_exitcode(os.waitpid(arguments[0], 0)[1])
        else:
            answer = os.fork()
            if not answer:
                return begin(*arguments)
        print(json.dumps(answer), flush=True)
    return None


def begin(folder, name, arguments):
    os.setsid()
    # PR_SET_PDEATHSIG: whatever becomes of a test, this process ends with the one that forked it
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)
    os.chdir(folder)
    for descriptor, file in enumerate((os.devnull, "output", "errors")):
        os.dup2(os.open(file, os.O_RDWR | os.O_CREAT), descriptor)
    Path("answer").write_text(json.dumps(globals()[name](*arguments)))


@pytest.fixture(scope="module")
def processes():
    started = Processes()
    yield started
    started.close()


@pytest.fixture
def log(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path / "run.db"


def wait_for(what):
    give_up = time.monotonic() + 60
    while not what():
        assert time.monotonic() < give_up
        time.sleep(0.002)


# ---- kill -9 ---------------------------------------------------------------------------------

FOR_EVER = [
    (run_for_ever, 0.0),
    (run_for_ever, 0.02),
    (run_multistart_for_ever, 0.0, 1),
    (run_multistart_for_ever, 0.02, 1),
    (run_multistart_for_ever, 0.0, 2),
    (run_compiled_for_ever,),
]


@pytest.mark.parametrize("number", range(KILLS))
def test_a_killed_process_has_lost_no_value_that_the_algorithm_saw(log, processes, number):
    function, *arguments = FOR_EVER[number % len(FOR_EVER)]
    n, notes = 30 if function is run_compiled_for_ever else 3, log.with_name("notes")
    pid = processes.start(log.parent, function, *arguments)
    wait_for(lambda: notes.exists() and notes.stat().st_size > 8 * (n + 1) * 5)
    time.sleep(np.random.default_rng(number).uniform(0, 0.4))
    assert SQLiteLogReader(log).runs()["status"].iloc[-1] in ("running", "complete")
    processes.kill(pid)
    wait_for(lambda: Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z")
    as_zombie = SQLiteLogReader(log).runs()["status"].tolist()
    assert processes.ask("wait", pid) == -signal.SIGKILL

    points = noted(notes, n)
    if function is run_for_ever:
        # where a call begins, the values of all earlier ones are with the algorithm
        points = {process: calls[:-1] for process, calls in points.items()}
    lost = Counter(x for calls in points.values() for x in calls) - logged_points(log)
    assert not lost
    status = SQLiteLogReader(log).runs()["status"].tolist()
    assert as_zombie == status
    # runs follow each other, and one may have ended when the next had not begun
    assert set(status[:-1]) <= {"complete"}
    assert status[-1] in ("died", "complete")


# ---- a full disk -----------------------------------------------------------------------------


@pytest.mark.parametrize("multistart", [False, True])
def test_a_run_on_a_full_disk_is_in_another_file(log, processes, multistart):
    found = processes.answer(log.parent, fill_disk, multistart, 1, None)
    spilled = str(log.with_name("run.spilled.db"))
    (warning,) = found["warnings"]
    assert f"The run is in {spilled}" in warning
    assert found["holds"] is True
    assert found["log"] == spilled


def test_a_disk_that_is_full_for_a_while_costs_nothing(log, processes):
    found = processes.answer(log.parent, fill_disk, False, 1, 1200)
    assert found == {"log": str(log), "holds": True, "n": 1500, "warnings": []}
    assert not list(log.parent.glob("*spilled*"))


# ---- a file that is gone ---------------------------------------------------------------------


def remove(log, what):
    if what == "folder":
        shutil.rmtree(log.parent)
    else:
        log.unlink()
    if what == "replaced":
        solve(Criterion(), log, 20)


def check_spilled(result, spilled, caught):
    assert Path(result.log_path) == spilled
    assert holds(spilled, result)
    (warning,) = [str(w.message) for w in caught]
    assert f"The run is in {spilled}" in warning


@pytest.mark.parametrize("multistart", [False, True])
@pytest.mark.parametrize("what", ["file", "folder", "replaced"])
def test_a_run_whose_log_is_gone_is_in_another_file(log, monkeypatch, what, multistart):
    monkeypatch.setattr(tempfile, "tempdir", str(log.parent))
    place = log.parent / "folder" / "run.db"
    place.parent.mkdir()
    fun = Criterion({50: lambda: remove(place, what)})
    with pytest.warns(UserWarning, match="could not be written") as caught:
        result = solve(fun, place, multistart=multistart)
    beside = place if place.parent.exists() else log
    check_spilled(result, beside.with_name("run.spilled.db"), caught)
    if what == "replaced":
        assert SQLiteLogReader(place).n_runs == 1
        assert len(SQLiteLogReader(place).read_history()) == 20
    else:
        assert not place.exists()


def test_workers_whose_log_is_gone_make_no_other_one(log):
    fun = Criterion({20: lambda: log.unlink(missing_ok=True)})
    with pytest.warns(UserWarning, match="could not be written") as caught:
        result = solve(fun, log, multistart=True, n_cores=2)
    check_spilled(result, log.with_name("run.spilled.db"), caught)
    assert not log.exists()


def test_a_new_log_takes_nothing_from_one_that_was_deleted_under_a_run(log, processes):
    pid = processes.start(log.parent, run_for_ever, 0.001)
    notes = log.with_name("notes")
    wait_for(lambda: notes.exists() and notes.stat().st_size > 1000)
    log.unlink()
    result = solve(Criterion(), log)
    processes.kill(pid)
    processes.ask("wait", pid)
    assert holds(log, result)
    assert SQLiteLogReader(log).n_runs == 1


# ---- permissions -----------------------------------------------------------------------------


LOST_PERMISSIONS = [
    ("file", 0o444, 0),
    ("file", 0o444, 1),
    ("file", 0o444, 2),
    ("folder", 0o555, 0),
    ("folder", 0, 0),
    ("folder", 0, 1),
]


@pytest.mark.parametrize(("what", "mode", "n_cores"), LOST_PERMISSIONS)
def test_a_run_that_may_not_write_any_more_loses_nothing(log, processes, what, mode, n_cores):
    found = processes.answer(log.parent, lose_permission, what, mode, n_cores, str(log.parent))
    assert found["holds"] is True
    assert len(found["warnings"]) == ("spilled" in found["log"])


def test_a_run_that_can_write_nowhere_says_so(log, processes):
    found = processes.answer(log.parent, lose_permission, "folder", 0, 0, "/nowhere")
    (warning,) = found["warnings"]
    assert "No other file could be written either" in warning
    assert found["n"] == 300
    assert not list(log.parent.rglob("*spilled*"))


# ---- locks -----------------------------------------------------------------------------------


def lock(log, seconds):
    """Keep a log locked from now on, for a while."""
    connection = sqlite3.connect(log, isolation_level=None, check_same_thread=False)
    connection.execute("BEGIN IMMEDIATE")
    timer = threading.Timer(seconds, connection.close)
    timer.start()
    return timer


def impatient(monkeypatch, patience):
    for module in (sink, writer, rows):
        monkeypatch.setattr(module, "PATIENCE", patience)
    monkeypatch.setattr(sqlite, "BUSY_TIMEOUT", patience)


@pytest.mark.parametrize("patience", [0.1, 5.0])
@pytest.mark.parametrize("multistart", [False, True])
def test_a_log_that_was_locked_has_every_row(log, monkeypatch, patience, multistart):
    impatient(monkeypatch, patience)
    fun = Criterion({50: lambda: lock(log, 0.3)}, pause=0.001)
    result = solve(fun, log, multistart=multistart)
    assert Path(result.log_path) == log
    assert holds(log, result)


@pytest.mark.parametrize("multistart", [False, True])
def test_a_run_whose_log_stays_locked_is_in_another_file(log, monkeypatch, multistart):
    impatient(monkeypatch, 0.3)
    timers = []

    def lock_for_long():
        timers.append(lock(log, 60))

    fun = Criterion({50: lock_for_long})
    with pytest.warns(UserWarning, match="could not be written") as caught:
        result = solve(fun, log, multistart=multistart)
    timers[0].cancel()
    timers[0].function()
    check_spilled(result, log.with_name("run.spilled.db"), caught)
    # a row waited for its log, once in a local optimisation and once in the run; not in all six
    assert 1 <= (np.diff(fun.began) > 0.25).sum() <= 4


def interrupt_until(pid, ended):
    # JAX collects garbage of its own in a callback, from which no exception comes out
    os.kill(pid, signal.SIGINT)
    while not ended.wait(8):
        os.kill(pid, signal.SIGINT)


def test_ctrl_c_is_heard_while_a_row_waits(log, processes):
    pid = processes.start(log.parent, write_until_interrupted)
    wait_for(log.with_name("began").exists)
    timer = lock(log, 60)
    time.sleep(0.3)
    clock = time.monotonic()
    ended = threading.Event()
    interrupting = threading.Thread(target=interrupt_until, args=(pid, ended))
    interrupting.start()
    assert processes.ask("wait", pid) == 0, log.with_name("errors").read_text()
    ended.set()
    interrupting.join()
    assert time.monotonic() - clock < 30
    timer.cancel()
    timer.function()
    found = json.loads(log.with_name("answer").read_text())
    assert found["holds"] is True
    assert found["log"] == str(log.with_name("run.spilled.db"))


# ---- other files, and how long they become ---------------------------------------------------


def test_the_other_file_is_there_before_the_warning_is_an_error(log):
    with pytest.raises(UserWarning, match="could not be written"):
        solve(Criterion({50: log.unlink}), log)
    assert len(SQLiteLogReader("run.spilled.db").read_history()) == 300


def test_a_warning_that_is_an_error_replaces_no_error_that_is_under_way(log):
    def fail():
        log.unlink()
        raise ValueError("broken")

    with pytest.raises(om.exceptions.UserFunctionRuntimeError, match="broken") as caught:
        solve(Criterion({50: fail}), log)
    assert any("could not be written" in note for note in caught.value.__notes__)
    assert caught.value.partial_result.log_path == log.with_name("run.spilled.db")


def test_who_does_not_want_to_wait_at_the_end_loses_nothing(log, monkeypatch):
    def interrupt(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(sink.DatabaseSink, "finish", interrupt)
    with pytest.warns(UserWarning, match="waiting for it was interrupted") as caught:
        result = solve(Criterion(), log)
    check_spilled(result, log.with_name("run.spilled.db"), caught)


def test_a_criterion_that_changes_the_folder_does_not_move_the_log(log, monkeypatch):
    monkeypatch.chdir(log.parent)
    (log.parent / "elsewhere").mkdir()
    result = solve(Criterion({1: lambda: os.chdir("elsewhere")}), "run.db")
    assert result.log_path == log
    assert holds(log, result)


def test_runs_that_lose_one_log_each_find_a_file_of_their_own(log):
    results = []

    def run_another():
        results.append(solve(Criterion({20: log.unlink}), EXTEND))

    with pytest.warns(UserWarning, match="could not be written") as caught:
        results.append(solve(Criterion({10: run_another}), EXTEND))
    assert len(caught) == 2
    assert [Path(r.log_path).name for r in results] == ["run.spilled.db", "run.spilled-2.db"]
    assert all(holds(r.log_path, r) for r in results)


def test_a_fast_run_copies_its_rows_as_fast_as_they_come(log, monkeypatch):
    monkeypatch.setattr(sqlite, "_CHECKPOINT_INTERVAL", 0.05)
    monkeypatch.setattr(sqlite, "_WAL_PAGES", 200)
    sizes = []
    wal = log.with_name("run.db-wal")
    solve(Criterion({5_999: lambda: sizes.append(wal.stat().st_size)}), log, 6_000)
    # each row adds a page of 1024 bytes at least
    assert sizes[0] < 4_000_000


# ---- several processes, and what they say of each other --------------------------------------


def test_of_two_processes_with_one_log_one_may_be_killed(log, processes):
    (log.parent / "one").mkdir()
    (log.parent / "two").mkdir()
    for folder in ("one", "two"):
        (log.parent / folder / "run.db").symlink_to(log)
    solve(Criterion(), log, 10)
    pids = [
        processes.start(log.parent / "one", run_for_ever, 0.0),
        processes.start(log.parent / "two", run_for_ever, 0.0),
    ]
    wait_for(lambda: SQLiteLogReader(log).n_runs == 3)
    time.sleep(0.2)
    for pid in pids:
        processes.kill(pid)
        time.sleep(0.2)
        processes.ask("wait", pid)
    for folder in ("one", "two"):
        ((*points, _),) = noted(log.parent / folder / "notes", 3).values()
        # through a link: the write-ahead log lies beside the file itself
        assert not Counter(points) - logged_points(log.parent / folder / "run.db")
    assert SQLiteLogReader(log).runs()["status"].tolist() == ["complete", "died", "died"]


def test_a_run_has_died_when_another_process_has_its_number(log):
    seen = []

    def look(pid_started):
        with contextlib.closing(sqlite3.connect(log)) as connection:
            connection.execute("UPDATE runs SET pid_started = ?", (pid_started,))
            connection.commit()
        seen.append(SQLiteLogReader(log).runs()["status"].iloc[0])

    started = []

    def remember():
        started.append(SQLiteLogReader(log).runs()["pid_started"].iloc[0])
        seen.append(SQLiteLogReader(log).runs()["status"].iloc[0])

    events = {10: remember, 11: lambda: look("another"), 12: lambda: look(started[0])}
    solve(Criterion(events), log)
    assert seen == ["running", "died", "running"]


# ---- power -----------------------------------------------------------------------------------


def synchronous():
    """Return how safely each connection of this thread writes: 1 is NORMAL, 2 is FULL."""
    found = set()
    for connection in gc.get_objects():
        if isinstance(connection, sqlite3.Connection):
            # those of other threads and those that are closed
            with contextlib.suppress(sqlite3.ProgrammingError):
                found |= set(connection.execute("PRAGMA synchronous").fetchone())
    return found


@pytest.mark.parametrize(("durability", "level"), [("process", [1]), ("power", [2])])
def test_all_that_write_are_as_safe_as_was_asked(log, durability, level):
    def look():
        (log.parent / str(os.getpid())).write_text(json.dumps(sorted(synchronous())))

    for n_cores in (1, 2):
        options = om.SQLiteLogOptions(log.with_suffix(f".{n_cores}"), durability=durability)
        solve(Criterion({20: look}), options, multistart=True, n_cores=n_cores)
    looked = [json.loads(file.read_text()) for file in log.parent.glob("[0-9]*")]
    # of this process and at least one other
    assert len(looked) > 1
    assert all(found == level for found in looked)


if __name__ == "__main__":
    serve()
