"""The log: what is written is there, in every circumstance, and reads back as it was."""

import ast
import contextlib
import json
import math
import pickle
import sqlite3
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from test_log_contract import finish, make_record, write_values

import optimagic_lite.log
from optimagic_lite.exceptions import LogError, OptimagicError, TableExistsError
from optimagic_lite.log.reader import SQLiteLogReader
from optimagic_lite.log.sqlite import SQLiteStore
from optimagic_lite.log.writer import LogWriter
from optimagic_lite.log_options import SQLiteLogOptions

# values of PRAGMA synchronous
NORMAL, FULL = 1, 2


def open_log(path, record=None, **options):
    return LogWriter(SQLiteLogOptions(path, **options), record or make_record())


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


# --- round trip -------------------------------------------------------------------------


# --- runs -------------------------------------------------------------------------------


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


@pytest.mark.parametrize(
    ("options", "synchronous"),
    [
        ({}, NORMAL),
        ({"durability": "process"}, NORMAL),
        ({"durability": "power"}, FULL),
        ({"fast_logging": True}, NORMAL),
        ({"fast_logging": False}, FULL),
    ],
)
def test_durability_decides_how_safe_a_commit_is(path, options, synchronous):
    store = SQLiteStore(path, SQLiteLogOptions(path, **options))
    for connection in (store.create(1), store.connect(1.0)):
        with contextlib.closing(connection):
            (value,) = connection.execute("PRAGMA synchronous").fetchone()
        assert value == synchronous


def test_a_log_as_safe_as_can_be_reads_the_same(path):
    writer = open_log(path, durability="power")
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
    with pytest.raises(LogError, match=r"is damaged: .*malformed"):
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

    assert tables.SCHEMA_VERSION == 5
    assert tables.runs.c.keys() == [
        "run_id", "status", "pid", "pid_started", "host", "started", "ended", "direction",
        "algorithm", "algo_options", "param_names", "structure", "start_params", "problem",
        "derivatives", "versions", "resumed", "success", "message", "fun",
    ]  # fmt: skip
    assert tables.evaluations.c.keys() == [
        "id", "run_id", "step", "row", "kind", "task", "batch", "fun", "start_time",
        "stop_time", "exception", "traceback", "info", "violation", "params",
    ]  # fmt: skip
    assert tables.steps.c.keys() == [
        "run_id", "step", "stop_time", "success", "message", "status", "n_iterations", "fun",
        "violation", "counts", "info", "start", "origin", "best_x", "best_gradient", "x",
        "gradient", "hess", "hess_inv",
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
