"""The log: what is written is there, in every circumstance, and reads back as it was."""

import ast
import json
import math
import os
import pickle
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path
from textwrap import dedent

import numpy as np
import pandas as pd
import pytest

import optimagic_lite.log
from optimagic_lite.exceptions import LogError, OptimagicError, TableExistsError
from optimagic_lite.history import History
from optimagic_lite.log.reader import SQLiteLogReader
from optimagic_lite.log.writer import LogWriter, RunRecord
from optimagic_lite.options import SQLiteLogOptions
from optimagic_lite.space.trees import ParamTree

PARAMS = {"b": np.array([1.0, -0.0]), "a": 3.0}
TREE = ParamTree(PARAMS)


def make_record(**changes):
    values = {
        "direction": "minimize",
        "algorithm": "scipy_lbfgsb",
        "algo_options": {"stopping_maxfun": 10},
        "param_names": TREE.names,
        "structure": TREE.to_json(),
        "start_params": TREE.start_values(),
        "derivatives": {"kind": "exact", "reason": "the criterion returns a JAX array"},
    }
    return RunRecord(**(values | changes))


def open_log(path, record=None, **options):
    return LogWriter(SQLiteLogOptions(path, **options), record or make_record())


def finish(writer, fun=1.0):
    writer.finish("complete", success=True, message="converged", fun=fun)


def write_values(writer, funs, kind="path"):
    for i, fun in enumerate(funs):
        writer.rows.write(np.full(3, float(i)), fun, i, i + 0.5, "fun", kind, i)


def query(path, sql):
    connection = sqlite3.connect(path)
    try:
        return connection.execute(sql).fetchall()
    finally:
        connection.close()


def snapshot(folder):
    return {p.name: (p.stat().st_mtime_ns, p.read_bytes()) for p in Path(folder).iterdir()}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "run.db"


@pytest.fixture
def start_process(tmp_path):
    """Start Python code in a process of its own, with a writer factory at hand."""
    preamble = """
        import sys, time
        import numpy as np
        from pathlib import Path
        from optimagic_lite.log.reader import SQLiteLogReader
        from optimagic_lite.log.writer import LogWriter, RunRecord
        from optimagic_lite.options import SQLiteLogOptions

        def open_log(**options):
            record = RunRecord(
                "minimize", "toy", {}, ["0", "1"], '{"type": "array", "shape": [2]}',
                np.zeros(2), {"kind": "none", "reason": "toy"},
            )
            return LogWriter(SQLiteLogOptions("run.db", **options), record)
    """
    root = str(Path(__file__).parents[1])
    processes = []

    def start(code):
        process = subprocess.Popen(
            [sys.executable, "-c", dedent(preamble) + dedent(code)],
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": root},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        processes.append(process)
        return process

    yield start
    for process in processes:
        process.kill()
        process.communicate()


# --- round trip -------------------------------------------------------------------------


def test_history_from_the_log_equals_the_history_in_memory(path):
    history = History("minimize", TREE)
    writer = open_log(path)
    rows = [
        ("start", 2.5, "fun_and_jac", 0),
        ("path", math.nan, "fun", 1),
        ("derivative", 7.0, "fun", 2),
        ("path", math.inf, "fun", 3),
        ("path", -math.inf, "fun", 3),
        ("exploration", 0.1, "fun", 4),
    ]
    rng = np.random.default_rng(0)
    for i, (kind, fun, task, batch) in enumerate(rows):
        flat = rng.normal(size=3)
        writer.rows.write(flat, fun, i + 0.25, i + 0.5, task, kind, batch)
        if kind != "derivative":
            # a failed evaluation is NaN in the history; the log also says what it was
            value = fun if math.isfinite(fun) else math.nan
            history.append(flat, value, i + 0.25, i + 0.5, task, kind, batch)
    finish(writer)

    read = SQLiteLogReader(path).read_history()

    pd.testing.assert_frame_equal(read.to_frame(), history.to_frame(), check_exact=True)
    assert read.direction == "minimize"
    assert [set(p) for p in read.params] == [{"a", "b"}] * 5
    np.testing.assert_array_equal(read.params[0]["b"], history.params[0]["b"])


@pytest.mark.parametrize(
    ("fun", "exception", "stored", "read"),
    [
        (1.5, None, (1.5, None), 1.5),
        (np.float32(0.5), None, (0.5, None), 0.5),
        (2, None, (2.0, None), 2.0),
        (5e-324, None, (5e-324, None), 5e-324),
        (math.nan, None, (None, "value is nan"), math.nan),
        (math.inf, None, (None, "value is inf"), math.nan),
        (np.float64(-math.inf), None, (None, "value is -inf"), math.nan),
        (None, None, (None, None), math.nan),
        (
            None,
            "ValueError: größer als 0 😀 'quoted'",
            (None, "ValueError: größer als 0 😀 'quoted'"),
            math.nan,
        ),
        (math.nan, "my words", (None, "my words"), math.nan),
        (None, "file \udcff", (None, "file \\udcff"), math.nan),
    ],
)
def test_value_and_exception_round_trip(path, fun, exception, stored, read):
    writer = open_log(path)
    writer.rows.write(np.zeros(3), fun, 0, 1, "fun", "path", 0, exception)
    finish(writer)

    assert query(path, "SELECT fun, exception FROM evaluations") == [stored]
    row = SQLiteLogReader(path).read_iteration(0)
    assert row.fun == pytest.approx(read, rel=0, abs=0, nan_ok=True)
    assert row.exceptions == stored[1]
    assert row.valid == (stored[1] is None)


def test_parameters_keep_every_bit(path):
    flat = np.array([-0.0, 5e-324, 0.1 + 0.2])
    writer = open_log(path)
    writer.rows.write(flat, 1.0, 0, 1, "fun", "path", 0)
    # a view with strides, and big-endian numbers
    writer.rows.write(np.repeat(flat, 2)[::2], 1.0, 0, 1, "fun", "path", 1)
    writer.rows.write(flat.astype(">f8"), 1.0, 0, 1, "fun", "path", 2)
    finish(writer)

    blobs = [blob for (blob,) in query(path, "SELECT params FROM evaluations")]
    assert blobs == [flat.astype("<f8").tobytes()] * 3
    assert [f.tobytes() for f in SQLiteLogReader(path).read_history().flat_params] == [
        flat.tobytes()
    ] * 3


def test_write_many_writes_the_same_rows_as_write(path, tmp_path):
    flats = np.random.default_rng(1).normal(size=(4, 3))
    funs = np.array([1.0, math.nan, math.inf, -3.0])
    texts = [None, None, None, "warned"]
    one_by_one, at_once = open_log(path), open_log(tmp_path / "many.db")
    for flat, fun, i, text in zip(flats, funs, range(4), texts, strict=True):
        one_by_one.rows.write(flat, fun, i, i + 1, "fun", "exploration", np.int64(7), text)
    at_once.rows.write_many(
        flats[:3], funs[:3], np.arange(3), np.arange(1, 4), "fun", "exploration", 7
    )
    at_once.rows.write_many(flats[3:], funs[3:], [3], [4], "fun", "exploration", 7, texts[3:])
    for writer in (one_by_one, at_once):
        finish(writer)

    sql = "SELECT * FROM evaluations"
    assert query(path, sql) == query(tmp_path / "many.db", sql)
    assert [row[3] for row in query(path, sql)] == [0, 1, 2, 3]


def test_to_frame_holds_all_kinds_and_avoids_name_clashes(path):
    tree = ParamTree({"fun": 1.0, "exception": 2.0, "x": 3.0})
    record = make_record(
        param_names=tree.names, structure=tree.to_json(), start_params=tree.start_values()
    )
    writer = open_log(path, record)
    writer.rows.write(np.array([1.0, 2.0, 3.0]), 4.0, 1.0, 1.5, "fun", "start", 0)
    writer.rows.write(np.array([5.0, 6.0, 7.0]), None, 2.0, 2.5, "fun", "derivative", 1, "boom")
    finish(writer)

    frame = SQLiteLogReader(path).to_frame()

    assert list(frame) == [
        "fun", "time", "start_time", "stop_time", "task", "kind", "step", "batch",
        "exception", "traceback", "info", "violation", "params.fun", "params.exception", "x",
    ]  # fmt: skip
    assert frame["kind"].tolist() == ["start", "derivative"]
    assert frame["time"].tolist() == [0.5, 1.5]
    assert frame["exception"].tolist() == [None, "boom"]
    assert frame["params.fun"].tolist() == [1.0, 5.0]
    assert math.isnan(frame["fun"][1])


def test_a_run_without_rows_can_be_read(path):
    finish(open_log(path), fun=None)
    reader = SQLiteLogReader(path)
    assert len(reader.read_history()) == 0
    assert reader.to_frame().shape == (0, 15)
    with pytest.raises(IndexError, match="its history has 0 rows"):
        reader.read_iteration(-1)


# --- runs -------------------------------------------------------------------------------


def test_runs_tells_all_about_a_run(path):
    before = time.time()
    options = {
        "tol": math.inf,
        "callback": math.sqrt,
        "steps": np.array([1.0, math.nan]),
        "nested": {"n": np.int64(3), "flags": (True, None)},
    }
    writer = open_log(path, make_record(algo_options=options, direction="maximize"))
    write_values(writer, [1.0, 2.0])
    running = SQLiteLogReader(path).runs().loc[0]
    writer.finish("failed", success=False, message="größer", fun=2.0)
    done = SQLiteLogReader(path).runs().loc[0]

    assert running["status"] == "running"
    assert pd.isna(running["ended"])
    assert done["status"] == "failed"
    assert not done["success"]
    assert done["message"] == "größer"
    assert done["fun"] == 2.0
    assert done["run_id"] == writer.run_id == 1
    assert done["pid"] == os.getpid()
    assert done["n_evaluations"] == 2
    assert done["direction"] == "maximize"
    assert done["param_names"] == ["b_0", "b_1", "a"]
    assert done["start_params"].tobytes() == TREE.start_values().tobytes()
    assert done["derivatives"]["kind"] == "exact"
    assert done["algo_options"] == {
        "tol": "inf",
        "callback": "<built-in function sqrt>",
        "steps": [1.0, "nan"],
        "nested": {"n": 3, "flags": [True, None]},
    }
    assert done["versions"]["numpy"] == np.__version__
    assert done["versions"]["python"] == ".".join(map(str, sys.version_info[:3]))
    times = [pd.Timestamp(before, unit="s", tz="UTC"), done["started"], done["ended"]]
    assert times == sorted(times)
    assert done["ended"] < pd.Timestamp(time.time() + 1, unit="s", tz="UTC")


def test_several_runs_share_a_file(path):
    for n_rows in (1, 2, 3):
        writer = open_log(path, if_database_exists="extend")
        write_values(writer, [float(n_rows)] * n_rows)
        finish(writer)
    reader = SQLiteLogReader(path)

    assert reader.n_runs == 3
    assert reader.runs()["n_evaluations"].tolist() == [1, 2, 3]
    assert len(reader.read_history()) == 3
    assert [len(reader.read_history(run)) for run in (0, 1, 2, -3)] == [1, 2, 3, 1]
    assert reader.read_iteration(-1, run=1).fun == 2.0
    assert reader.read_iteration(-1, run=1).rowid == 2 * 2**45 + 1
    assert len(reader.to_frame(run=0)) == 1
    for run in (3, -4):
        with pytest.raises(IndexError, match=f"no run {run} in the log, which holds 3 runs"):
            reader.read_history(run)


def test_read_start_params_gives_the_structure_of_the_user(path):
    finish(open_log(path))
    start = SQLiteLogReader(path).read_start_params()
    assert list(start) == ["b", "a"]
    assert start["a"] == 3.0
    assert start["b"].tobytes() == PARAMS["b"].tobytes()


def test_read_iteration_counts_rows_of_the_history_and_reads_by_key(path):
    writer = open_log(path)
    writer.rows.write(np.arange(3.0), 5.0, 0.0, 1.0, "fun_and_jac", "start", 0)
    writer.rows.write(np.zeros(3), 6.0, 1.0, 2.0, "fun", "derivative", 1)
    writer.rows.write(np.ones(3), 4.0, 2.0, 3.0, "fun", "path", 2)
    finish(writer)
    reader = SQLiteLogReader(path)

    first, last = reader.read_iteration(0), reader.read_iteration(-1)

    assert (first["scalar_fun"], first["fun"], first["row"], first["rowid"]) == (5.0, 5.0, 0, 2**45)
    assert (last["fun"], last["row"], last["kind"], last["batch"]) == (4.0, 2, "path", 2)
    assert reader.read_iteration(1).row == reader.read_iteration(-1).row
    assert first["task"] == "fun_and_jac"
    assert first["params"]["a"] == 2.0
    assert first["flat_params"].tolist() == [0.0, 1.0, 2.0]
    assert first["valid"]
    assert first["exceptions"] is None
    assert last["timestamp"] - first["timestamp"] == pytest.approx(2.0)
    assert abs(first["timestamp"] - time.time()) < 60
    assert dict(first)["fun"] == 5.0
    with pytest.raises(KeyError, match="Did you mean 'params'"):
        first["parms"]
    for i in (2, -3):
        with pytest.raises(IndexError, match=f"no evaluation {i}: its history has 2 rows"):
            reader.read_iteration(i)


@pytest.mark.parametrize(("direction", "row"), [("minimize", 2), ("maximize", 1)])
def test_best_is_the_first_best_row_of_the_history(path, direction, row):
    writer = open_log(path, make_record(direction=direction))
    write_values(writer, [3.0, 7.0, -1.0, math.nan, math.inf, -math.inf, 7.0, -1.0])
    writer.rows.write(np.zeros(3), -50.0, 0, 1, "fun", "derivative", 9)
    writer.rows.write(np.zeros(3), 50.0, 0, 1, "fun", "derivative", 9)
    finish(writer)
    assert SQLiteLogReader(path).best().row == row


def test_best_without_a_value_says_so(path):
    writer = open_log(path)
    write_values(writer, [math.nan, None])
    finish(writer)
    with pytest.raises(LogError, match="no evaluation with a finite value"):
        SQLiteLogReader(path).best()


def test_finish_is_idempotent_and_the_first_call_counts(path):
    writer = open_log(path)
    finish(writer, fun=1.0)
    writer.finish("failed", success=False, message="late", fun=2.0)
    assert query(path, "SELECT status, message, fun FROM runs") == [("complete", "converged", 1.0)]


def test_finish_leaves_one_file_and_no_thread(path):
    before = threading.active_count()
    writer = open_log(path)
    assert threading.active_count() == before + 1
    write_values(writer, [1.0])
    finish(writer, fun=math.nan)
    assert threading.active_count() == before
    assert [p.name for p in path.parent.iterdir()] == ["run.db"]
    assert query(path, "SELECT fun FROM runs") == [(None,)]


def test_checkpoints_move_rows_to_the_database_while_the_run_lasts(path):
    writer = open_log(path)
    write_values(writer, [1.0] * 2000)
    deadline = time.monotonic() + 20
    while path.stat().st_size < 100_000 and time.monotonic() < deadline:
        time.sleep(0.05)
    size = path.stat().st_size
    finish(writer)
    assert size >= 100_000


def test_a_dropped_writer_ends_its_thread(path):
    before = threading.active_count()
    writer = open_log(path)
    del writer
    deadline = time.monotonic() + 20
    while threading.active_count() > before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert threading.active_count() == before


def test_slow_logging_is_durable_and_reads_the_same(path):
    writer = open_log(path, fast_logging=False)
    assert writer._raw.execute("PRAGMA synchronous").fetchone() == (2,)
    write_values(writer, [1.0, 2.0])
    finish(writer)
    assert SQLiteLogReader(path).read_history().fun == [1.0, 2.0]


# --- existing files ---------------------------------------------------------------------


def test_raise_names_the_other_choices_and_keeps_the_file(path):
    finish(open_log(path))
    before = snapshot(path.parent)
    with pytest.raises(TableExistsError, match=r"exists already.*'extend'.*'replace'"):
        open_log(path)
    assert snapshot(path.parent) == before


def test_replace_begins_anew_and_removes_the_companions(path):
    writer = open_log(path)
    write_values(writer, [1.0, 2.0])
    finish(writer)
    for suffix in ("-wal", "-shm"):
        path.with_name(path.name + suffix).write_bytes(b"left behind by a killed process")

    writer = open_log(path, if_database_exists="replace")
    write_values(writer, [3.0])
    finish(writer)

    assert SQLiteLogReader(path).n_runs == 1
    assert SQLiteLogReader(path).read_history().fun == [3.0]
    assert [p.name for p in path.parent.iterdir()] == ["run.db"]


def test_replace_does_not_delete_what_is_no_database(path):
    path.write_text("a,b\n1,2\n")
    with pytest.raises(LogError, match=r"no SQLite database, so .*'replace' does not delete it"):
        open_log(path, if_database_exists="replace")
    assert path.read_text() == "a,b\n1,2\n"


@pytest.mark.parametrize("choice", ["extend", "replace"])
def test_a_missing_or_empty_file_is_created(tmp_path, choice):
    (tmp_path / "empty.db").touch()
    for name in ("new.db", "empty.db"):
        finish(open_log(tmp_path / name, if_database_exists=choice))
        assert SQLiteLogReader(tmp_path / name).n_runs == 1


def make_foreign(path):
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE runs (run_id INTEGER)")
    connection.commit()
    connection.close()


def make_newer(path):
    finish(open_log(path))
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 99")
    connection.close()


def make_text(path):
    path.write_text("no database, but text that is longer than the header of one" * 20)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (make_foreign, "no log: it is a SQLite database of another program"),
        (make_newer, "newer version of optimagic_lite: its tables have version 99"),
        (make_text, "no log: it is not even a SQLite database"),
    ],
)
def test_a_file_that_is_no_log_is_refused_and_kept(path, make, message):
    make(path)
    before = snapshot(path.parent)
    with pytest.raises(LogError, match=message):
        open_log(path, if_database_exists="extend")
    with pytest.raises(LogError, match=message):
        SQLiteLogReader(path)
    assert snapshot(path.parent) == before


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(LogError, match=r"folder .*nowhere of the log 'run.db' does not exist"):
        open_log(tmp_path / "nowhere" / "run.db")


def test_a_folder_is_no_log(tmp_path):
    for attempt in (open_log, SQLiteLogReader):
        with pytest.raises(LogError, match="is a folder"):
            attempt(tmp_path)


def test_a_missing_log_is_reported_with_the_nearest_name(tmp_path):
    finish(open_log(tmp_path / "my_run.db"))
    with pytest.raises(LogError, match=r"no log at .*my_rum\.db\. Did you mean 'my_run\.db'"):
        SQLiteLogReader(tmp_path / "my_rum.db")
    with pytest.raises(LogError, match="no log at"):
        SQLiteLogReader(tmp_path / "nowhere" / "run.db")


def test_an_empty_file_is_reported(path):
    path.touch()
    with pytest.raises(LogError, match="is empty"):
        SQLiteLogReader(path)


def test_a_damaged_log_is_reported(path):
    writer = open_log(path)
    write_values(writer, [1.0] * 500)
    finish(writer)
    content = bytearray(path.read_bytes())
    content[4096:] = bytes(len(content) - 4096)
    path.write_bytes(content)
    with pytest.raises(LogError, match=r"cannot be read: .*malformed"):
        SQLiteLogReader(path).read_history()


def test_unusual_names_of_files_work(tmp_path):
    path = tmp_path / "50% of ünusual? #1 & more.db"
    writer = open_log(path)
    write_values(writer, [1.0])
    assert SQLiteLogReader(path).read_history().fun == [1.0]
    finish(writer)
    assert SQLiteLogReader(path).read_history().fun == [1.0]
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_a_relative_path_outlives_a_change_of_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    writer = open_log("run.db")
    reader = SQLiteLogReader("run.db")
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path / "other")
    write_values(writer, [1.0])
    finish(writer)
    assert reader.read_history().fun == [1.0]


# --- failures of writing ----------------------------------------------------------------


def test_a_row_that_cannot_be_written_is_an_error_that_says_why(path, monkeypatch):
    monkeypatch.setattr("optimagic_lite.log.files.BUSY_TIMEOUT", 0.05)
    writer = open_log(path)
    write_values(writer, [1.0])
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    batch = (np.zeros((2, 3)), np.zeros(2), np.zeros(2), np.zeros(2), "fun", "path", 1)

    with pytest.raises(LogError, match=r"could not be added to .*run.db: database is locked") as e:
        write_values(writer, [2.0])
    assert isinstance(e.value.__cause__, sqlite3.Error)
    with pytest.raises(LogError, match="batch of evaluations could not be added"):
        writer.rows.write_many(*batch)
    other.execute("ROLLBACK")
    other.close()

    # the run can go on, and rows are numbered without a gap
    writer.rows.write_many(*batch)
    finish(writer)
    assert query(path, "SELECT row FROM evaluations") == [(0,), (1,), (2,)]


def test_a_failed_finish_closes_the_file_all_the_same(path, monkeypatch):
    monkeypatch.setattr("optimagic_lite.log.files.BUSY_TIMEOUT", 0.05)
    before = threading.active_count()
    writer = open_log(path)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(LogError, match="end of the run could not be added"):
        finish(writer)
    other.close()
    assert threading.active_count() == before


def test_write_many_writes_all_or_nothing(path):
    writer = open_log(path)
    query(
        path,
        "CREATE TRIGGER refuse BEFORE INSERT ON evaluations WHEN NEW.row = 1 "
        "BEGIN SELECT RAISE(ABORT, 'second row'); END",
    )
    with pytest.raises(LogError, match=r"batch of evaluations .*second row"):
        writer.rows.write_many(np.zeros((2, 3)), [1.0, 2.0], [0, 0], [1, 1], "fun", "path", 0)
    write_values(writer, [3.0])
    finish(writer)
    assert query(path, "SELECT row, fun FROM evaluations") == [(0, 3.0)]


def test_writing_after_the_end_is_an_error(path):
    writer = open_log(path)
    finish(writer)
    with pytest.raises(LogError, match="could not be added"):
        write_values(writer, [1.0])


# --- reading changes nothing and runs nothing -------------------------------------------


def test_reading_creates_and_changes_no_file(path):
    writer = open_log(path)
    write_values(writer, [1.0, 2.0])
    finish(writer)
    before = snapshot(path.parent)
    reader = SQLiteLogReader(path)
    reader.runs()
    reader.to_frame()
    reader.read_history()
    assert snapshot(path.parent) == before


def test_a_copy_made_while_the_run_was_going_on_can_be_read(path, tmp_path):
    writer = open_log(path)
    write_values(writer, [1.0, 2.0])
    copies = tmp_path / "copies"
    copies.mkdir()
    for name in ("run.db", "run.db-wal"):
        (copies / name).write_bytes((tmp_path / name).read_bytes())
    finish(writer)
    before = snapshot(copies)
    assert SQLiteLogReader(copies / "run.db").read_history().fun == [1.0, 2.0]
    assert snapshot(copies) == before


def test_a_query_is_repeated_if_a_writer_comes_meanwhile(path):
    writer = open_log(path)
    write_values(writer, [1.0])
    finish(writer)
    calls = []

    def interrupted(connection):
        calls.append(connection)
        if len(calls) == 1:
            second = open_log(path, if_database_exists="extend")
            write_values(second, [1.0] * 100)
            finish(second)
        return connection.exec_driver_sql("SELECT count(*) FROM evaluations").scalar()

    assert SQLiteLogReader(path).query(interrupted) == 101
    assert len(calls) == 2


def test_plain_sqlite_reads_a_log(path):
    writer = open_log(path)
    writer.rows.write(np.array([1.0, 2.0, 3.0]), 4.0, 0.5, 0.75, "fun", "start", 0)
    finish(writer, fun=4.0)
    [(names, fun)] = query(path, "SELECT param_names, fun FROM runs")
    assert json.loads(names) == ["b_0", "b_1", "a"]
    assert fun == 4.0
    [row] = query(path, "SELECT * FROM evaluations")
    params = np.array([1.0, 2.0, 3.0]).astype("<f8").tobytes()
    head = 2**45, 1, 0, 0, "start", "fun", 0
    assert row == (*head, 4.0, 0.5, 0.75, None, None, None, None, params)


def test_the_columns_are_those_of_the_schema_version():
    from optimagic_lite.log import tables

    assert tables.SCHEMA_VERSION == 4
    assert tables.runs.c.keys() == [
        "run_id", "status", "pid", "host", "started", "ended", "direction", "algorithm",
        "algo_options", "param_names", "structure", "start_params", "derivatives", "versions",
        "success", "message", "fun",
    ]  # fmt: skip
    assert tables.evaluations.c.keys() == [
        "id", "run_id", "step", "row", "kind", "task", "batch", "fun", "start_time",
        "stop_time", "exception", "traceback", "info", "violation", "params",
    ]  # fmt: skip


def test_nothing_in_the_log_package_can_unpickle_or_run_code():
    forbidden = {
        "pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve", "PickleType",
        "read_pickle", "eval", "exec", "__import__", "import_module", "literal_eval",
    }  # fmt: skip
    files = list(Path(optimagic_lite.log.__file__).parent.glob("*.py"))
    assert len(files) >= 4
    for file in files:
        nodes = list(ast.walk(ast.parse(file.read_text(encoding="utf-8"))))
        used = {n.id for n in nodes if isinstance(n, ast.Name)}
        used |= {n.attr for n in nodes if isinstance(n, ast.Attribute)}
        for node in nodes:
            if isinstance(node, ast.ImportFrom):
                used |= {*(node.module or "").split("."), *(a.name for a in node.names)}
            elif isinstance(node, ast.Import):
                used |= {part for a in node.names for part in a.name.split(".")}
        assert not used & forbidden, file


def test_a_reader_can_be_pickled_and_shows_its_path(path):
    finish(open_log(path))
    reader = SQLiteLogReader.from_options(SQLiteLogOptions(path))
    copy = pickle.loads(pickle.dumps(reader))
    assert copy.path == path
    assert repr(copy) == f"SQLiteLogReader({str(path)!r})"
    assert copy.n_runs == 1


def test_errors_are_errors_of_the_package():
    assert issubclass(TableExistsError, LogError)
    assert issubclass(LogError, OptimagicError)


# --- real processes ---------------------------------------------------------------------


def test_no_row_is_lost_when_the_process_is_killed(path, start_process):
    process = start_process(
        """
        writer = open_log()
        i = 0
        while True:
            writer.rows.write(np.full(2, float(i)), float(i), i, i + 1, "fun", "path", i)
            print(i, flush=True)
            i += 1
        """
    )
    for _ in range(500):
        process.stdout.readline()
    process.send_signal(signal.SIGKILL)
    # the last line may be unfinished: the pipe was full when the process died
    rest = process.stdout.read().split("\n")[:-1]
    process.wait()
    reported = int(rest[-1]) if rest else 499

    before = {name: content for name, (_, content) in snapshot(path.parent).items()}
    reader = SQLiteLogReader(path)
    history = reader.read_history()
    # the shared-memory file is an index that SQLite rebuilds; the other two hold the rows
    after = {name: content for name, (_, content) in snapshot(path.parent).items()}
    assert set(after) == set(before)
    assert all(after[name] == before[name] for name in ("run.db", "run.db-wal"))

    # one more row may be there: the process died before it could report it
    assert len(history) - 1 in (reported, reported + 1)
    assert history.fun == [float(i) for i in range(len(history))]
    np.testing.assert_array_equal(history.flat_params[:, 0], history.fun)
    assert reader.runs()["status"].tolist() == ["died"]
    assert query(path, "PRAGMA integrity_check") == [("ok",)]

    # and the file can be used again
    finish(open_log(path, if_database_exists="extend"))
    assert SQLiteLogReader(path).runs()["status"].tolist() == ["died", "complete"]


def test_reading_while_another_process_writes(path, start_process):
    process = start_process(
        """
        writer = open_log()
        print("open", flush=True)
        until = time.monotonic() + 3
        i = 0
        while time.monotonic() < until:
            writer.rows.write(np.full(2, float(i)), float(i), i, i + 1, "fun", "path", i)
            i += 1
        writer.finish("complete", success=True, message=None, fun=0.0)
        print(i, flush=True)
        """
    )
    assert process.stdout.readline() == "open\n"
    reader = SQLiteLogReader(path)
    lengths = []
    while process.poll() is None:
        history = reader.read_history()
        assert history.fun == [float(i) for i in range(len(history))]
        lengths.append(len(history))
        time.sleep(0.05)
    out, err = process.communicate()
    assert err == ""
    assert lengths == sorted(lengths)
    assert len(set(lengths)) > 3
    assert len(reader.read_history()) == int(out)
    assert reader.runs()["status"].tolist() == ["complete"]


def test_processes_extend_one_file_at_once(path, start_process):
    code = """
        Path(sys.argv[0] + "ready_%d").touch()
        while not Path("go").exists():
            time.sleep(0.001)
        for _ in range(5):
            writer = open_log(if_database_exists="extend")
            for i in range(40):
                writer.rows.write(np.full(2, %d.0), float(i), i, i + 1, "fun", "path", i)
            flats, times = np.full((10, 2), %d.0), np.arange(10.0)
            writer.rows.write_many(flats, times, times, times, "fun", "exploration", 40)
            writer.finish("complete", success=True, message=None, fun=0.0)
    """.replace("sys.argv[0] + ", "")
    processes = [start_process(code % (i, i, i)) for i in (1, 2)]
    deadline = time.monotonic() + 60
    while len(list(path.parent.glob("ready_*"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    (path.parent / "go").touch()
    for process in processes:
        assert process.communicate(timeout=120)[1] == ""
        assert process.returncode == 0

    reader = SQLiteLogReader(path)
    assert reader.n_runs == 10
    by_process = []
    for run in range(10):
        history = reader.read_history(run)
        assert len(history) == 50
        assert history.batches == [*range(40), *[40] * 10]
        by_process.append({*history.flat_params.ravel().tolist()})
    assert sorted(map(tuple, by_process)) == [(1.0,)] * 5 + [(2.0,)] * 5
    assert query(path, "PRAGMA integrity_check") == [("ok",)]
