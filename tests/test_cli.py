"""The command line: what it prints, what it writes, what it refuses, and how it ends."""

import importlib
import json
import os
import re
import subprocess
import sys
import tomllib
import types
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import sqlalchemy as sa

import optimagic_lite as om
from optimagic_lite.cli import main
from optimagic_lite.cli.text import duration, ends, safe

HOSTILE = "evil\x1b[2Jname\n\u202e"


def sphere(x):
    return float(x @ x)


def with_info(x):
    return om.FunctionValue(sphere(x), info={"norm": sphere(x) ** 0.5, "note": [None, "ä"]})


def fails_sometimes(params):
    if params["x"][0] < 0.9:
        raise ValueError("no \x1b[31mroot\x1b[0m\nhere")
    return sphere(params["x"])


@pytest.fixture(scope="module")
def log(tmp_path_factory):
    """A log with runs of many kinds; only Python criteria, so nothing is compiled."""
    path = tmp_path_factory.mktemp("log") / "run.db"
    options = om.SQLiteLogOptions(path, if_database_exists="extend")

    def minimize(fun, start, maxfun=40, **more):
        limit = {"stopping_maxfun": maxfun}
        shared = {"logging": options, "algo_options": limit, "algorithm": "scipy_neldermead"}
        return om.minimize(fun, start, **(shared | more))

    minimize(sphere, np.array([1.0, 0.1]), maxfun=1000)
    om.maximize(lambda x: 3.0 - (x - 2.0) ** 2, 0.0, "scipy_lbfgsb", logging=options)
    minimize(with_info, np.ones(2))
    start = {"x": np.ones(2), HOSTILE: 7.0}
    with pytest.warns(UserWarning, match="failed"):
        minimize(fails_sometimes, start, error_handling="continue")
    minimize(sphere, np.arange(100.0))
    minimize(
        sphere,
        np.ones(2),
        bounds=om.Bounds(lower=np.full(2, -5.0), upper=np.full(2, 5.0)),
        multistart=om.MultistartOptions(n_samples=10, stopping_maxopt=2, seed=0),
    )
    with pytest.raises(om.exceptions.UserFunctionRuntimeError):
        minimize(lambda x: 1 / 0, 1.0)
    return path


PLAIN, MAXIMIZED, INFO, FAILURES, LONG, MULTISTART, FAILED = range(7)


@pytest.fixture
def reader(log):
    return om.SQLiteLogReader(log)


@pytest.fixture
def run(capsys, monkeypatch, tmp_path):
    """Run a command in an empty folder and return its exit status and what it wrote."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments):
        status = main([str(argument) for argument in arguments])
        written = capsys.readouterr()
        return status, written.out, written.err

    return call


def fact(name, text):
    """What ``show`` says under a name."""
    return re.search(rf"^  {name}  +(.*)$", text, re.MULTILINE)[1]


def columns_of(text):
    """A table with columns apart by two blanks or more, as a frame of texts."""
    lines = [re.split(r"\s{2,}", line.strip()) for line in text.strip().splitlines()]
    return pd.DataFrame(lines[1:], columns=lines[0])


# runs


def test_runs_lists_each_run_with_what_the_reader_knows(run, log, reader):
    status, out, err = run("runs", log)

    assert (status, err) == (0, "")
    table, known = columns_of(out), reader.runs()
    assert table["run"].tolist() == [str(i) for i in range(7)]
    for column in ("status", "algorithm", "direction"):
        assert table[column].tolist() == known[column].tolist()
    counts = table["evaluations"].str.replace(",", "").astype(int)
    assert counts.tolist() == known["n_evaluations"].tolist()
    failures = [reader.to_frame(i)["exception"].notna().sum() for i in range(7)]
    assert table["failures"].astype(int).tolist() == failures
    assert table["params"].tolist() == ["2", "1", "2", "3", "100", "2", "1"]


def test_runs_shows_best_values_and_none_where_there_is_none(run, log, reader):
    shown = columns_of(run("runs", log)[1])["best value"]

    assert shown[FAILED] == "-"
    for i in range(FAILED):
        assert float(shown[i]) == pytest.approx(reader.best(i).fun, rel=1e-5)


def test_runs_fits_into_120_columns_and_is_aligned(run, log):
    lines = run("runs", log)[1].splitlines()

    assert max(map(len, lines)) <= 120
    # numbers end below their head
    end = lines[0].index("evaluations") + len("evaluations")
    assert all(line[end - 1].isdigit() and line[end] == " " for line in lines[1:])


def forget_the_end(path, pid):
    """Make the only run of a log one that did not end."""
    engine = sa.create_engine(f"sqlite:///{path}")
    with engine.begin() as connection:
        ask = "UPDATE runs SET status = 'running', ended = NULL, fun = NULL, message = NULL, "
        connection.execute(sa.text(f"{ask} pid_started = NULL, pid = {pid}"))
    engine.dispose()


@pytest.fixture
def own_log(tmp_path):
    path = tmp_path / "own.db"
    om.minimize(
        sphere,
        np.ones(2),
        "scipy_neldermead",
        algo_options={"stopping_maxfun": 20},
        logging=path,
    )
    return path


def test_a_run_that_goes_on_shows_what_is_there(run, own_log):
    # of another process than this one, which knows what it writes
    forget_the_end(own_log, os.getppid())
    best = om.SQLiteLogReader(own_log).best().fun

    row = columns_of(run("runs", own_log)[1]).iloc[0]
    text = run("show", own_log)[1]

    assert (row["status"], row["evaluations"]) == ("running", "20")
    assert float(row["best value"]) == pytest.approx(best, rel=1e-5)
    assert fact("status", text) == "running: the run has not ended yet"
    assert fact("last evaluation", text).startswith("ended at 20")
    assert "  ended  " not in text


def test_a_run_whose_process_is_gone_shows_what_it_left(run, own_log):
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    forget_the_end(own_log, process.pid)
    reader = om.SQLiteLogReader(own_log)

    row = columns_of(run("runs", own_log)[1]).iloc[0]
    text = run("show", own_log)[1]

    assert (row["status"], row["evaluations"]) == ("died", "20")
    assert float(row["best value"]) == pytest.approx(reader.best().fun, rel=1e-5)
    assert fact("status", text).startswith("died: the process is gone")
    assert fact("duration", text) == duration(reader.to_frame()["stop_time"].max())
    assert run("export", own_log)[1].count("\n") == 21


# show


def test_show_describes_a_run(run, log, reader):
    text = run("show", log, PLAIN)[1]
    header, best = reader.runs().loc[PLAIN], reader.best(PLAIN)

    assert text.startswith(f"Run 0 in {reader.location}\n")
    assert fact("status", text) == "complete: the algorithm converged"
    assert fact("message", text) == header.message
    assert fact("task", text) == "minimize over 2 parameters"
    assert fact("derivatives", text) == "none: the algorithm uses no derivatives"
    n = header.n_evaluations
    assert fact("evaluations", text) == f"{n} ({n - 1} path, 1 start)"
    assert fact("best value", text).startswith(f"{best.fun:.10g}, found after ")
    assert fact("started", text) == f"{header.started.astimezone(None):%Y-%m-%d %H:%M:%S}"
    assert "numpy" in fact("versions", text)
    assert fact("stopping_maxfun", text) == "1000"


def test_show_takes_the_last_run_by_default_and_counts_like_python(run, log):
    assert run("show", log)[1] == run("show", log, FAILED)[1] == run("show", log, "-1")[1]
    assert run("show", log, "-7")[1] == run("show", log, 0)[1]


def test_show_names_start_and_best_params(run, log, reader):
    text = run("show", log, PLAIN)[1]

    start, best = reader.read_start_params(PLAIN), reader.best(PLAIN).params
    for i in range(2):
        assert fact(i, text).split() == [f"{start[i]:.8g}", f"{best[i]:.8g}"]


def test_of_many_params_show_leaves_out_those_in_the_middle(run, log):
    text = run("show", log, LONG)[1]

    shown = re.findall(r"^  (\d+) ", text, re.MULTILINE)
    assert [int(name) for name in shown] == [*range(10), *range(95, 100)]
    assert "  … 85 more\n" in text


def test_values_of_a_maximization_have_the_users_sign(run, log):
    text = run("show", log, MAXIMIZED)[1]

    assert fact("task", text) == "maximize over 1 parameter"
    assert float(fact("best value", text).split(",")[0]) == pytest.approx(3.0)
    assert re.search(r"evaluations +\d+ \(.*\d derivative", text)


def test_show_counts_failures_by_message(run, log, reader):
    n = reader.to_frame(FAILURES)["exception"].notna().sum()
    text = run("show", log, FAILURES)[1]

    assert fact("failures", text) == str(n)
    assert f"\n  {n}  ValueError: no \\x1b[31mroot\\x1b[0m\\nhere\n" in text


def test_show_says_why_a_run_failed(run, log):
    text = run("show", log, FAILED)[1]

    assert fact("status", text) == "failed: an error ended the run"
    assert "ZeroDivisionError" in text
    assert fact("best value", text) == "no evaluation has a value"


def test_show_ranks_local_optimisations(run, log, reader):
    text = run("show", log, MULTISTART)[1]

    parts = reader.read_multistart_history(MULTISTART)
    assert "Multistart: 9 explored points, 2 local optimisations\n" in text
    explored = f"{min(parts.exploration.fun):.6g}"
    assert f"best value of the start and the exploration: {explored}\n" in text
    table = columns_of(text.partition("exploration:")[2].partition("\n\n")[2].partition("\n\n")[0])
    best = {i: min(history.fun) for i, history in enumerate(parts.local_histories, start=1)}
    assert table["local optimisation"].astype(int).tolist() == sorted(best, key=best.get)
    assert table["best value"].tolist() == [f"{best[i]:.6g}" for i in sorted(best, key=best.get)]
    words = {True: "converged", False: "not converged", None: "failed"}
    outcomes = {step.step: words[step.success] for step in reader.read_steps(MULTISTART)}
    numbers = table["local optimisation"].astype(int)
    assert dict(zip(numbers, table["outcome"], strict=True)) == outcomes


def test_an_empty_log_has_no_runs(run, own_log):
    engine = sa.create_engine(f"sqlite:///{own_log}")
    with engine.begin() as connection:
        connection.execute(sa.text("DELETE FROM evaluations"))
        connection.execute(sa.text("DELETE FROM runs"))
    engine.dispose()

    assert run("runs", own_log) == (0, "There are no runs in this log yet.\n", "")
    assert run("show", own_log)[0] == 1


def test_nothing_of_a_log_commands_the_terminal(run, log):
    for command in (["runs"], ["show"], ["show", "-2"], ["show", FAILURES]):
        _, out, _ = run(command[0], log, *command[1:])
        assert all(c == "\n" or c.isprintable() for c in out)
    assert safe(HOSTILE) == r"evil\x1b[2Jname\n\u202e"
    assert fact(re.escape(safe(HOSTILE)), run("show", log, FAILURES)[1]).startswith("7 ")


# export


def test_csv_can_be_read_back_exactly(run, log, reader, tmp_path):
    status, out, _ = run("export", log, INFO)
    (tmp_path / "all.csv").write_text(out, encoding="utf-8")

    read = pd.read_csv(tmp_path / "all.csv", dtype=str)
    expected = reader.to_frame(INFO)
    assert status == 0
    assert read.columns.tolist() == expected.columns.tolist()
    for column in ("fun", "stop_time", "0", "1"):
        assert read[column].map(float).tolist() == expected[column].tolist()
    assert read["kind"].tolist() == expected["kind"].tolist()
    assert read["info"].map(json.loads).tolist() == expected["info"].tolist()


def test_csv_in_a_file_is_that_of_the_standard_output(run, log, tmp_path):
    _, out, _ = run("export", log, FAILURES)

    assert run("export", log, FAILURES, "-o", "all.csv") == (0, "", "")
    assert (tmp_path / "all.csv").read_bytes() == out.encode()
    # as it is, for programs
    assert HOSTILE.partition("\n")[0] in out


def test_parquet_holds_the_same_with_objects_as_json(run, log, reader, tmp_path):
    assert run("export", log, INFO, "-o", "all.parquet") == (0, "", "")

    read, expected = pd.read_parquet(tmp_path / "all.parquet"), reader.to_frame(INFO)
    read["info"] = read["info"].map(json.loads)
    texts = ["exception", "traceback"]
    assert read[texts].isna().all(axis=None)
    pd.testing.assert_frame_equal(
        read.drop(columns=texts), expected.drop(columns=texts), check_dtype=False
    )
    assert read["info"][0]["note"] == [None, "ä"]


def test_parquet_takes_names_and_messages_from_anybody(run, log, reader, tmp_path):
    run("export", log, FAILURES, "--format", "parquet", "-o", "all")

    read = pd.read_parquet(tmp_path / "all")
    assert read[HOSTILE].tolist() == reader.to_frame(FAILURES)[HOSTILE].tolist()
    assert read["exception"].dropna().unique().tolist() == [
        "ValueError: no \x1b[31mroot\x1b[0m\nhere"
    ]


def test_without_pyarrow_parquet_says_what_to_install(run, log, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)

    status, _, err = run("export", log, "-o", "all.parquet")

    assert status == 1
    assert "optimagic_lite[parquet]" in err


def test_what_is_exported_to_a_terminal_does_not_command_it(run, log, monkeypatch):
    monkeypatch.setattr(type(sys.stdout), "isatty", lambda self: True)

    _, out, _ = run("export", log, FAILURES)

    assert all(c == "\n" or c.isprintable() for c in out)
    assert r"\x1b[31mroot" in out


@pytest.mark.parametrize("command", [["export"], ["plot", "criterion"], ["plot", "params"]])
def test_a_log_is_not_written_over(run, own_log, tmp_path, command):
    target = tmp_path / "own.html"
    own_log.rename(target)
    before = target.read_bytes()

    status, _, err = run(*command, target, "-o", "own.html")

    assert (status, target.read_bytes()) == (1, before)
    assert "is the log itself" in err


def test_an_ending_that_says_nothing_is_an_error(run, log):
    status, _, err = run("export", log, "-o", "all.xlsx")
    assert status == 1
    assert "does not say what to write" in err
    assert not Path("all.xlsx").exists()


def test_a_file_that_cannot_be_written_is_an_error(run, log):
    status, _, err = run("export", log, "-o", "nowhere/all.csv")

    assert status == 1
    assert "nowhere/all.csv" in err


# plot


@pytest.fixture
def figures(monkeypatch):
    """Figures that are written as HTML, which takes time, are collected instead."""
    import plotly.graph_objects as go

    written = {}
    monkeypatch.setattr(go.Figure, "write_html", lambda fig, path: written.update({str(path): fig}))
    return written


def test_a_plot_is_written_here_and_called_like_the_log(run, log, tmp_path):
    status, out, _ = run("plot", "criterion", log)

    assert (status, out) == (0, f"Wrote {tmp_path / 'run.criterion.html'}\n")
    assert "plotly" in (tmp_path / "run.criterion.html").read_text(encoding="utf-8")


def test_options_of_the_criterion_plot_arrive(run, log, figures, reader):
    run("plot", "criterion", log, MULTISTART, "--monotone", "--log-scale", "--time")
    run("plot", "criterion", log, PLAIN, "--max-evaluations", 5, "-o", "few.html")

    history = reader.read_multistart_history(MULTISTART)
    options = {"monotone": True, "log_scale": True, "x_axis": "time"}
    assert figures["run.criterion.html"] == om.criterion_plot(history, **options)
    few = om.criterion_plot(reader.read_history(PLAIN), max_evaluations=5)
    assert figures["few.html"] == few


def test_explored_points_and_stacked_lines_are_drawn_where_asked_for(run, log, figures, reader):
    options = ("--show-exploration", "--stack-multistart")
    run("plot", "criterion", log, MULTISTART, *options)

    history = reader.read_multistart_history(MULTISTART)
    expected = om.criterion_plot(history, show_exploration=True, stack_multistart=True)
    assert figures["run.criterion.html"] == expected


def test_params_are_selected_by_their_names_and_renamed(run, log, figures):
    run("plot", "params", log, LONG, "--select", "9?", "3", "--names", *"abcdefghijk")
    run("plot", "params", log, FAILURES, "--select", HOSTILE, "-o", "one.html")

    (figure, one) = figures.values()
    assert sorted(line.name for line in figure.data) == list("abcdefghijk")
    assert figure.data[0].y[0] == 3.0
    assert [line.y[0] for line in one.data] == [7.0]


def test_a_pattern_that_fits_no_name_is_an_error(run, log, figures):
    status, _, err = run("plot", "params", log, FAILURES, "--select", "x_*", "xx_0")

    assert (status, figures) == (1, {})
    assert "No parameter is called 'xx_0'. Did you mean 'x_0'?" in err
    assert err.count("\n") == 1


def test_what_a_plot_cannot_show_is_an_error(run, own_log, figures):
    om.maximize(
        lambda x: -float(x @ x),
        np.ones(2),
        "scipy_neldermead",
        algo_options={"stopping_maxfun": 5},
        logging=om.SQLiteLogOptions(own_log, if_database_exists="extend"),
    )

    status, _, err = run("plot", "criterion", own_log, "--log-scale")

    assert (status, figures) == (1, {})
    assert err.startswith("optimagic-lite: error: ")


@pytest.mark.parametrize("error", [ValueError("install\nkaleido"), RuntimeError("no Chrome")])
def test_without_kaleido_an_image_says_what_to_install(run, log, monkeypatch, error):
    import plotly.graph_objects as go

    def write_image(figure, path):
        raise error

    monkeypatch.setattr(go.Figure, "write_image", write_image)

    status, _, err = run("plot", "criterion", log, PLAIN, "-o", "run.png")

    assert status == 1
    assert "optimagic_lite[image]" in err
    assert "plotly_get_chrome" in err
    assert err.count("\n") == 1


# watch and serve


@pytest.fixture
def called(monkeypatch):
    """Stand-ins for what follows a log without end; what they are called with is collected."""
    calls = []
    for name in ("watch", "serve"):
        module = types.ModuleType(f"optimagic_lite.{name}")
        setattr(module, name, lambda *args, **kwargs: calls.append((args, kwargs)))
        monkeypatch.setitem(sys.modules, module.__name__, module)
    return calls


def test_watch_and_serve_get_what_was_asked_for(run, called):
    run("watch", "a.db")
    run("watch", "a.db", "2")
    run("serve", "postgresql://host/logs")
    run("serve", "a.db", "--port", 8080, "--no-browser")

    assert called == [
        (("a.db", -1), {}),
        (("a.db", 2), {}),
        (("postgresql://host/logs",), {"open_browser": True}),
        (("a.db",), {"port": 8080, "open_browser": False}),
    ]


def test_ctrl_c_ends_with_130(run, called, monkeypatch):
    def interrupt(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(sys.modules["optimagic_lite.watch"], "watch", interrupt)

    assert run("watch", "a.db") == (130, "", "")


# errors and usage


@pytest.mark.parametrize(
    "command", [["show"], ["export"], ["plot", "criterion"], ["plot", "params"]]
)
@pytest.mark.parametrize("number", [7, -8])
def test_a_run_that_is_not_there_is_an_error(run, log, command, number):
    status, out, err = run(*command, log, number)

    assert (status, out) == (1, "")
    assert re.fullmatch(rf"optimagic-lite: error: There is no run {number} .*7 runs.*\n", err)


def test_a_log_that_is_not_there_is_an_error_in_one_safe_line(run):
    status, out, err = run("runs", "no\x1b[2J\n.db")

    assert (status, out) == (1, "")
    assert re.fullmatch(r"optimagic-lite: error: .*no\\x1b\[2J\\n\.db.*\n", err)


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["shwo", "run.db"],
        ["show"],
        ["show", "run.db", "last"],
        ["export", "run.db", "--format", "parquet"],
        ["plot", "run.db"],
        ["plot", "criterion", "run.db", "-o", "run.gif"],
        ["plot", "criterion", "run.db", "--max-evaluations", "0"],
        ["serve", "run.db", "--port", "99999"],
    ],
    ids=" ".join,
)
def test_wrong_usage_ends_with_2(run, capsys, arguments):
    with pytest.raises(SystemExit) as stop:
        run(*arguments)

    assert stop.value.code == 2
    assert capsys.readouterr().err.startswith("usage: optimagic-lite")


def test_help_shows_examples_that_can_be_parsed(run, capsys, called, monkeypatch):
    from optimagic_lite.cli.arguments import make_parser

    with pytest.raises(SystemExit) as stop:
        run("--help")

    assert stop.value.code == 0
    text = capsys.readouterr().out
    examples = re.findall(r"^  optimagic-lite (.*)$", text, re.MULTILINE)
    assert len(examples) == 7
    for example in examples:
        assert make_parser().parse_args(example.split()).log == "run.db"


def test_version_is_that_of_the_package(run, capsys):
    with pytest.raises(SystemExit) as stop:
        run("--version")

    assert stop.value.code == 0
    assert capsys.readouterr().out == f"optimagic-lite {om.__version__}\n"


def test_the_command_that_is_installed_is_this_one():
    project = Path(__file__).parents[1] / "pyproject.toml"
    command = tomllib.loads(project.read_text(encoding="utf-8"))["project"]["scripts"]

    module, _, function = command["optimagic-lite"].partition(":")
    assert getattr(importlib.import_module(module), function) is main


def test_a_process_whose_output_nobody_reads_ends_quietly(log):
    # more than a pipe holds is not needed: the reader is gone before the first byte
    read, write = os.pipe()
    os.close(read)

    command = [sys.executable, "-m", "optimagic_lite", "export", str(log)]
    done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, check=False)
    os.close(write)

    assert (done.returncode, done.stderr) == (141, b"")


# numbers and texts


def test_durations_have_the_units_that_suit_them():
    spans = {
        0.0: "0 ms",
        0.00042: "0.42 ms",
        0.9994: "999 ms",
        0.9996: "1 s",
        59.9: "59.9 s",
        59.96: "1 min 0 s",
        3599.4: "59 min 59 s",
        3599.6: "1 h 0 min",
        86399: "1 d 0 h",
        200 * 86400: "200 d 0 h",
        float("nan"): "-",
    }

    assert {span: duration(span) for span in spans} == pytest.approx(spans, nan_ok=True)


def test_one_thing_alone_is_not_left_out():
    assert ends(16, 10, 5) == (list(range(16)), 0)
    assert ends(17, 10, 5) == ([*range(10), *range(12, 17)], 2)
