"""What a log promises, whatever database holds it."""

import contextlib
import math
import os
import pickle
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from textwrap import dedent

import numpy as np
import pandas as pd
import pytest

import optimagic_lite as om
from optimagic_lite.exceptions import LogError, LogMissingError, TableExistsError
from optimagic_lite.history import History
from optimagic_lite.log.reader import open_reader
from optimagic_lite.log.tables import SCHEMA_VERSION, metadata
from optimagic_lite.log.writer import LogWriter, RunRecord
from optimagic_lite.log_options import PostgresLogOptions, SQLiteLogOptions
from optimagic_lite.space.trees import ParamTree

pytest_plugins = ["postgres"]

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
        "problem": {"bounds": None},
        "derivatives": {"kind": "exact", "reason": "the criterion returns a JAX array"},
    }
    return RunRecord(**(values | changes))


def finish(writer, fun=1.0):
    return writer.finish("complete", success=True, message="converged", fun=fun)


def write_values(writer, funs, kind="path"):
    for i, fun in enumerate(funs):
        writer.rows.write(np.full(3, float(i)), fun, i, i + 0.5, "fun", kind, i)


class Log:
    """A place for a log, and what each kind of database needs a statement of its own for."""

    def open(self, record=None, **options):
        return LogWriter(self.options(**options), record or make_record())

    def reader(self):
        return open_reader(self.location)


class SQLiteLog(Log):
    def __init__(self, path):
        self.path = self.location = path
        self.program = f"SQLiteLogOptions({str(path)!r}, if_database_exists='extend')"

    def options(self, if_database_exists="extend", **more):
        return SQLiteLogOptions(self.path, if_database_exists=if_database_exists, **more)

    def query(self, sql):
        with contextlib.closing(sqlite3.connect(self.path, isolation_level=None)) as connection:
            return connection.execute(sql).fetchall()

    def set_version(self, version):
        self.query(f"PRAGMA user_version = {version}")

    def make_foreign(self):
        self.query("CREATE TABLE runs (run_id INTEGER)")

    def contents(self):
        # the shared-memory file is an index that SQLite rebuilds; the others hold the rows
        files = self.path.parent.glob("run.db*")
        return {p.name: p.read_bytes() for p in files if not p.name.endswith("-shm")}


class PostgresLog(Log):
    def __init__(self, server):
        self.server, self.location = server, server.url()
        self.program = f"PostgresLogOptions({self.location!r})"

    def options(self, **options):
        return PostgresLogOptions(self.location, **options)

    def query(self, sql):
        return [
            tuple(bytes(v) if isinstance(v, memoryview) else v for v in row)
            for row in self.server.query(sql)
        ]

    def set_version(self, version):
        text = f"Log of optimagic_lite, version {version}"
        self.query(f"COMMENT ON SCHEMA optimagic_lite IS '{text}'")

    def make_foreign(self):
        self.query("CREATE SCHEMA optimagic_lite")
        self.query("CREATE TABLE optimagic_lite.runs (run_id INTEGER)")

    def contents(self):
        tables = self.query("SELECT tablename FROM pg_tables WHERE schemaname = 'optimagic_lite'")
        return {name: self.query(f"SELECT * FROM {name}") for (name,) in sorted(tables)}


POSTGRES = pytest.param("postgres", marks=pytest.mark.xdist_group("postgres"))


@pytest.fixture(params=["sqlite", POSTGRES])
def log(request, tmp_path):
    if request.param == "sqlite":
        return SQLiteLog(tmp_path / "run.db")
    return PostgresLog(request.getfixturevalue("postgres"))


@pytest.fixture
def start_process(log, tmp_path):
    """Start Python code in a process of its own, with a writer factory at hand."""
    preamble = f"""
        import sys, time
        import numpy as np
        from pathlib import Path
        from optimagic_lite.log.writer import LogWriter, RunRecord
        from optimagic_lite.log_options import PostgresLogOptions, SQLiteLogOptions

        def open_log():
            record = RunRecord(
                "minimize", "toy", {{}}, ["0", "1"], '{{"type": "array", "shape": [2]}}',
                np.zeros(2), {{"kind": "none", "reason": "toy"}}, {{}},
            )
            return LogWriter({log.program}, record)

        def write(writer, i):
            writer.rows.write(np.full(2, float(i)), float(i), i, i + 1, "fun", "path", i)
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


def test_history_from_the_log_equals_the_history_in_memory(log):
    history = History("minimize", TREE)
    writer = log.open()
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

    read = log.reader().read_history()

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
def test_value_and_exception_round_trip(log, fun, exception, stored, read):
    writer = log.open()
    writer.rows.write(np.zeros(3), fun, 0, 1, "fun", "path", 0, exception)
    finish(writer)

    assert log.query("SELECT fun, exception FROM evaluations") == [stored]
    row = log.reader().read_iteration(0)
    assert row.fun == pytest.approx(read, rel=0, abs=0, nan_ok=True)
    assert row.exceptions == stored[1]
    assert row.valid == (stored[1] is None)


def test_parameters_keep_every_bit(log):
    flat = np.array([-0.0, 5e-324, 0.1 + 0.2])
    writer = log.open()
    writer.rows.write(flat, 1.0, 0, 1, "fun", "path", 0)
    # a view with strides, and big-endian numbers
    writer.rows.write(np.repeat(flat, 2)[::2], 1.0, 0, 1, "fun", "path", 1)
    writer.rows.write(flat.astype(">f8"), 1.0, 0, 1, "fun", "path", 2)
    finish(writer)

    blobs = [blob for (blob,) in log.query("SELECT params FROM evaluations")]
    assert blobs == [flat.astype("<f8").tobytes()] * 3
    assert [f.tobytes() for f in log.reader().read_history().flat_params] == [flat.tobytes()] * 3


def test_to_frame_holds_all_kinds_and_avoids_name_clashes(log):
    tree = ParamTree({"fun": 1.0, "exception": 2.0, "x": 3.0})
    record = make_record(
        param_names=tree.names, structure=tree.to_json(), start_params=tree.start_values()
    )
    writer = log.open(record)
    writer.rows.write(np.array([1.0, 2.0, 3.0]), 4.0, 1.0, 1.5, "fun", "start", 0)
    writer.rows.write(np.array([5.0, 6.0, 7.0]), None, 2.0, 2.5, "fun", "derivative", 1, "boom")
    finish(writer)

    frame = log.reader().to_frame()

    assert list(frame) == [
        "fun", "time", "start_time", "stop_time", "task", "kind", "step", "batch",
        "exception", "traceback", "info", "violation", "params.fun", "params.exception", "x",
    ]  # fmt: skip
    assert frame["kind"].tolist() == ["start", "derivative"]
    assert frame["time"].tolist() == [0.5, 1.5]
    assert frame["exception"].tolist() == [None, "boom"]
    assert frame["params.fun"].tolist() == [1.0, 5.0]
    assert math.isnan(frame["fun"][1])


def test_a_run_without_rows_can_be_read(log):
    finish(log.open(), fun=None)
    reader = log.reader()
    assert len(reader.read_history()) == 0
    assert reader.to_frame().shape == (0, 15)
    with pytest.raises(IndexError, match="its history has 0 rows"):
        reader.read_iteration(-1)


def test_runs_tells_all_about_a_run(log):
    before = time.time()
    options = {
        "tol": math.inf,
        "callback": math.sqrt,
        "steps": np.array([1.0, math.nan]),
        "nested": {"n": np.int64(3), "flags": (True, None)},
    }
    writer = log.open(make_record(algo_options=options, direction="maximize"))
    write_values(writer, [1.0, 2.0])
    running = log.reader().runs().loc[0]
    writer.finish("failed", success=False, message="größer", fun=2.0)
    done = log.reader().runs().loc[0]

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


def test_several_runs_share_a_file(log):
    for n_rows in (1, 2, 3):
        writer = log.open()
        write_values(writer, [float(n_rows)] * n_rows)
        finish(writer)
    reader = log.reader()

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


def test_read_start_params_gives_the_structure_of_the_user(log):
    finish(log.open())
    start = log.reader().read_start_params()
    assert list(start) == ["b", "a"]
    assert start["a"] == 3.0
    assert start["b"].tobytes() == PARAMS["b"].tobytes()


def test_read_iteration_counts_rows_of_the_history_and_reads_by_key(log):
    writer = log.open()
    writer.rows.write(np.arange(3.0), 5.0, 0.0, 1.0, "fun_and_jac", "start", 0)
    writer.rows.write(np.zeros(3), 6.0, 1.0, 2.0, "fun", "derivative", 1)
    writer.rows.write(np.ones(3), 4.0, 2.0, 3.0, "fun", "path", 2)
    finish(writer)
    reader = log.reader()

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
def test_best_is_the_first_best_row_of_the_history(log, direction, row):
    writer = log.open(make_record(direction=direction))
    write_values(writer, [3.0, 7.0, -1.0, math.nan, math.inf, -math.inf, 7.0, -1.0])
    writer.rows.write(np.zeros(3), -50.0, 0, 1, "fun", "derivative", 9)
    writer.rows.write(np.zeros(3), 50.0, 0, 1, "fun", "derivative", 9)
    finish(writer)
    assert log.reader().best().row == row


def test_best_without_a_value_says_so(log):
    writer = log.open()
    write_values(writer, [math.nan, None])
    finish(writer)
    with pytest.raises(LogError, match="no evaluation with a finite value"):
        log.reader().best()


def test_finish_is_idempotent_and_the_first_call_counts(log):
    writer = log.open()
    finish(writer, fun=1.0)
    writer.finish("failed", success=False, message="late", fun=2.0)
    assert log.query("SELECT status, message, fun FROM runs") == [("complete", "converged", 1.0)]


def test_write_many_writes_the_same_rows_as_write(log):
    flats = np.random.default_rng(1).normal(size=(4, 3))
    funs = np.array([1.0, math.nan, math.inf, -3.0])
    texts, beyond = [None, None, None, "warned"], np.array([0.0, 0.5, 1.0, 0.0])
    infos = [None, {"loss": [1.0, "größer 😀"]}, None, {"zero": "\0"}]
    one_by_one = log.open()
    for i in range(4):
        one_by_one.rows.write(
            flats[i], funs[i], i, i + 1, "fun", "exploration", np.int64(7), texts[i], beyond[i],
            info=infos[i],
        )  # fmt: skip
    finish(one_by_one)
    at_once = log.open()
    for part in (slice(0, 3), slice(3, 4)):
        times = np.arange(4.0)[part]
        at_once.rows.write_many(
            flats[part], funs[part], times, times + 1, "fun", "exploration", 7, texts[part],
            beyond[part], infos=infos[part],
        )  # fmt: skip
    finish(at_once)

    first, second = (log.reader().to_frame(run) for run in (0, 1))
    pd.testing.assert_frame_equal(first, second, check_exact=True)
    assert first["violation"].tolist() == beyond.tolist()
    assert first["info"].tolist() == infos
    sql = "SELECT row, params FROM evaluations WHERE run_id = {} ORDER BY id"
    assert log.query(sql.format(1)) == log.query(sql.format(2))
    assert [row for row, _ in log.query(sql.format(1))] == [0, 1, 2, 3]


@pytest.mark.parametrize("text", ["zero \0 byte", "half \ud83d pair", "größer 😀 'quoted' %s"])
def test_any_text_can_be_told(log, text):
    # pandas knows no half pairs in names of columns
    name = text.replace("\ud83d", "")
    tree = ParamTree({name: 1.0})
    record = make_record(
        algo_options={"note": text}, param_names=tree.names, structure=tree.to_json(),
        start_params=tree.start_values(), derivatives={"kind": "none", "reason": text},
    )  # fmt: skip
    writer = log.open(record)
    told = {"exception": text, "traceback": text, "info": {"note": text}}
    writer.rows.write(np.ones(1), None, 0, 1, "fun", "path", 0, **told)
    writer.finish("failed", success=None, message=text, fun=None)

    reader = log.reader()
    run, row = reader.runs().loc[0], reader.to_frame().loc[0]
    plain = text.replace("\0", "\\x00").replace("\ud83d", "\\ud83d")
    assert (row["exception"], row["traceback"], run["message"]) == (plain,) * 3
    assert row["info"] == {"note": text}
    assert run["algo_options"] == {"note": text}
    assert run["param_names"] == tree.names
    assert reader.read_start_params() == {name: 1.0}


# --- logs that exist --------------------------------------------------------------------


def test_raise_names_the_other_choices_and_changes_nothing(log):
    finish(log.open())
    before = log.contents()
    with pytest.raises(TableExistsError, match=r"exists already.*'extend'.*'replace'"):
        log.open(if_database_exists="raise")
    assert log.contents() == before


def test_replace_begins_anew(log):
    for funs in ([1.0, 2.0], [3.0]):
        writer = log.open(if_database_exists="replace")
        write_values(writer, funs)
        finish(writer)
    assert log.reader().n_runs == 1
    assert log.reader().read_history().fun == [3.0]


@pytest.mark.parametrize("choice", ["raise", "extend", "replace"])
def test_a_log_that_is_not_there_is_made(log, choice):
    finish(log.open(if_database_exists=choice))
    assert log.reader().n_runs == 1


@pytest.mark.parametrize(
    ("version", "age"), [(SCHEMA_VERSION + 1, "a newer"), (SCHEMA_VERSION - 1, "an older")]
)
def test_a_log_of_another_version_is_refused_and_kept(log, version, age):
    finish(log.open())
    log.set_version(version)
    before = log.contents()
    for attempt in (log.open, log.reader):
        with pytest.raises(LogError, match=rf"{age}.*: its tables have version {version}"):
            attempt()
    assert log.contents() == before

    # but it can be thrown away
    finish(log.open(if_database_exists="replace"))
    assert log.reader().n_runs == 1


def test_tables_of_others_are_refused_and_kept(log):
    log.make_foreign()
    before = log.contents()
    for attempt in (log.open, log.reader):
        with pytest.raises(LogError, match="no log"):
            attempt()
    assert log.contents() == before


def test_a_log_without_any_run_is_missing(log):
    with pytest.raises(LogMissingError, match=r"[Tt]here is no log"):
        log.reader()


def test_a_reader_can_be_pickled_and_only_reads(log):
    finish(log.open())
    reader = pickle.loads(pickle.dumps(log.reader()))
    assert reader.n_runs == 1
    with pytest.raises(LogError, match=r"read-?only"):
        reader.query(lambda connection: connection.exec_driver_sql("DELETE FROM runs"))
    assert reader.n_runs == 1


def test_columns_are_those_of_the_schema(log):
    finish(log.open())
    for table in metadata.sorted_tables:
        query = f"SELECT {', '.join(table.c.keys())} FROM {table.name}"
        assert log.query(query) == log.query(f"SELECT * FROM {table.name}")


# --- runs of minimize -------------------------------------------------------------------


def test_result_logger_reads_what_the_result_says(log):
    def criterion(params):
        deviation = params["a"] - np.arange(3.0)
        return om.FunctionValue((deviation**2).sum(), info={"largest": deviation.max()})

    result = om.minimize(
        criterion,
        {"a": np.full(3, 0.1)},
        algorithm="scipy_slsqp",
        constraints=om.NonlinearConstraint(func=lambda p: p["a"].sum(), value=2.0),
        logging=log.options(),
    )
    history = result.logger.read_history(result.log_run)
    pd.testing.assert_frame_equal(history.to_frame(), result.history.to_frame(), check_exact=True)
    assert history.violation == result.history.violation
    assert max(history.violation) > 0
    assert history.info == result.history.info
    assert set(history.info[0]) == {"largest"}
    assert result.logger.best().fun == pytest.approx(result.fun, rel=1e-6)
    assert result.logger.runs().loc[0, "status"] == "complete"
    assert len(om.criterion_plot(log.location).data) > 0


def test_multistart_is_one_run_with_steps(log):
    result = om.minimize(
        lambda x: (x**2).sum(),
        np.ones(2),
        algorithm="scipy_lbfgsb",
        bounds=om.Bounds(lower=np.full(2, -2.0), upper=np.full(2, 3.0)),
        multistart=om.MultistartOptions(n_samples=10, stopping_maxopt=3, seed=0),
        logging=log.options(),
    )
    reader = result.logger
    parts = reader.read_multistart_history()
    assert len(parts.exploration) == 10
    assert len(parts.local_histories) == len(result.multistart_info.local_optima)
    assert [s.step for s in reader.read_steps()] == list(range(1, len(parts.local_histories) + 1))
    assert reader.best().fun == pytest.approx(result.fun, abs=1e-12)


# --- who is alive -----------------------------------------------------------------------


def test_a_run_that_goes_on_is_running_and_one_without_a_process_died(log):
    writer = log.open()
    assert log.reader().runs()["status"].tolist() == ["running"]
    log.query("UPDATE runs SET pid_started = 'another time'")
    assert log.reader().runs()["status"].tolist() == ["died"]
    # numbers of processes say nothing of another machine
    log.query("UPDATE runs SET host = 'elsewhere'")
    assert log.reader().runs()["status"].tolist() == ["running"]
    finish(writer)
    assert log.reader().runs()["status"].tolist() == ["complete"]


# --- real processes ---------------------------------------------------------------------


def test_no_row_is_lost_when_the_process_is_killed_and_others_read_meanwhile(log, start_process):
    process = start_process(
        """
        writer = open_log()
        i = 0
        while True:
            write(writer, i)
            print(i, flush=True)
            i += 1
        """
    )
    process.stdout.readline()
    reader, lengths = log.reader(), []
    for _ in range(5):
        for _ in range(60):
            process.stdout.readline()
        history = reader.read_history()
        assert history.fun == [float(i) for i in range(len(history))]
        assert reader.runs()["status"].tolist() == ["running"]
        lengths.append(len(history))
    assert lengths == sorted(set(lengths))
    process.send_signal(signal.SIGKILL)
    # the last line may be unfinished: the pipe was full when the process died
    rest = process.stdout.read().split("\n")[:-1]
    process.wait()
    reported = int(rest[-1]) if rest else 300

    before = log.contents()
    history = reader.read_history()
    # one more row may be there: the process died before it could report it
    assert len(history) - 1 in (reported, reported + 1)
    assert history.fun == [float(i) for i in range(len(history))]
    np.testing.assert_array_equal(history.flat_params[:, 0], history.fun)
    assert reader.runs()["status"].tolist() == ["died"]
    assert log.contents() == before

    # and the log can be used again
    finish(log.open())
    assert log.reader().runs()["status"].tolist() == ["died", "complete"]


def test_processes_make_and_extend_one_log_at_once(log, start_process, tmp_path):
    code = """
        Path("ready_%d").touch()
        while not Path("go").exists():
            time.sleep(0.001)
        for _ in range(5):
            writer = open_log()
            for i in range(40):
                writer.rows.write(np.full(2, %d.0), float(i), i, i + 1, "fun", "path", i)
            flats, times = np.full((10, 2), %d.0), np.arange(10.0)
            writer.rows.write_many(flats, times, times, times, "fun", "exploration", 40)
            writer.finish("complete", success=True, message=None, fun=0.0)
            print(*writer.place)
    """
    processes = [start_process(code % (i, i, i)) for i in (1, 2)]
    deadline = time.monotonic() + 60
    while len(list(tmp_path.glob("ready_*"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    (tmp_path / "go").touch()
    told = []
    for process in processes:
        out, err = process.communicate(timeout=60)
        assert (err, process.returncode) == ("", 0)
        told.append([int(line.split()[-1]) for line in out.splitlines()])

    reader = log.reader()
    assert reader.runs()["status"].tolist() == ["complete"] * 10
    # each knows which of the runs is its own
    for value, runs in zip((1.0, 2.0), told, strict=True):
        for run in runs:
            history = reader.read_history(run)
            assert len(history) == 50
            assert history.batches == [*range(40), *[40] * 10]
            assert {*history.flat_params.ravel().tolist()} == {value}
    assert sorted(told[0] + told[1]) == list(range(10))
