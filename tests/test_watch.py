"""Watching a run in the terminal: a table, or lines where there is none."""

import contextlib
import io
import os
import sqlite3
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

import optimagic_lite as om
from optimagic_lite.exceptions import LogError, NotInstalledError
from optimagic_lite.watch import watch

HOSTILE = "evil\x1b[31m\x07\n\u202e[bold]name[/bold]"


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def watch_in_terminal(monkeypatch):
    """Watch as if there was a terminal; returns the status and what was written."""
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setenv("LINES", "60")

    def run(path):
        with contextlib.redirect_stdout(Terminal()) as stdout:
            status = watch(path)
        return status, stdout.getvalue()

    return run


@pytest.fixture
def path(tmp_path):
    return tmp_path / "run.db"


def sphere(params):
    return sum(v**2 for v in params.values())


def minimize(path, fun=sphere, params=None, **options):
    return om.minimize(fun, params or {"a": 1.0}, "scipy_neldermead", logging=path, **options)


def test_line_says_how_a_run_ended(path, capsys):
    result = minimize(path)

    assert watch(path) == "complete"
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("scipy_neldermead: complete, ")
    assert f"{len(result.history)} evaluations" in line
    assert f"best {result.fun:.10g}" in line
    assert result.message in line


def test_table_shows_values_parameters_and_failures(path, watch_in_terminal):
    def criterion(params):
        if params["first"] != 2.0 and params["second"] == 0.5:
            raise ValueError(f"no {HOSTILE}")
        return sphere(params)

    params = {"first": 2.0, "second": 0.5, HOSTILE: 0.0}
    with pytest.warns(UserWarning, match="A user function failed"):
        result = minimize(path, criterion, params, error_handling="continue")

    status, shown = watch_in_terminal(path)
    assert status == "complete"
    for text in ("complete", f"{result.fun:.10g}", "first", "second", "no evil", "[bold]name"):
        assert text in shown
    # nothing of the log steers the terminal
    assert not any(bad in shown for bad in ("\x1b[31m\x07", "\x07", "\u202e", "evil\x1b"))


def test_table_shows_local_optimisations(path, watch_in_terminal):
    om.minimize(
        lambda x: float(np.abs(x * np.sin(x)).sum()),
        np.array([3.0]),
        "scipy_neldermead",
        bounds=om.Bounds(lower=[-10.0], upper=[10.0]),
        multistart=om.MultistartOptions(n_samples=10, stopping_maxopt=2, seed=0),
        logging=path,
    )
    _, shown = watch_in_terminal(path)
    assert "converged" in shown
    assert "2 of 2 have ended" in shown


def test_watching_ends_with_the_run(path, watch_in_terminal):
    begun, may_end = threading.Event(), threading.Event()

    def criterion(params):
        if params["a"] != 1.0:
            begun.set()
            may_end.wait(10)
        return sphere(params)

    run = threading.Thread(target=minimize, args=(path, criterion))
    run.start()
    assert begun.wait(10)
    threading.Timer(0.3, may_end.set).start()

    status, shown = watch_in_terminal(path)
    run.join()
    assert status == "complete"
    assert shown.index("running") < shown.index("complete")
    n_rows = len(om.SQLiteLogReader(path).to_frame())
    assert f"{n_rows}" in shown[shown.index("complete") :]


def mark_as_running(path, pid):
    connection = sqlite3.connect(path)
    ask = "UPDATE runs SET status = 'running', ended = NULL, pid_started = NULL, pid = ?"
    connection.execute(ask, (pid,))
    connection.commit()
    connection.close()


def test_run_whose_process_is_gone_has_died(path, capsys):
    minimize(path)
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    mark_as_running(path, process.pid)

    assert watch(path) == "died"
    assert "scipy_neldermead: died" in capsys.readouterr().out


def test_interrupt_ends_watching_and_not_the_run(path, capsys, monkeypatch):
    minimize(path)
    # not this process, which knows what it writes
    mark_as_running(path, os.getppid())

    def interrupt(seconds):
        raise KeyboardInterrupt

    monkeypatch.setattr(time, "sleep", interrupt)
    assert watch(path) == "running"


def test_log_that_is_not_there_and_run_that_is_not_there(path):
    with pytest.raises(LogError, match="There is no log at"):
        watch(path)
    minimize(path)
    with pytest.raises(LogError, match="There is no run 3"):
        watch(path, run=3)


def test_table_needs_rich(path, watch_in_terminal, monkeypatch):
    minimize(path)
    monkeypatch.setitem(sys.modules, "rich.live", None)
    with pytest.raises(NotInstalledError, match=r"pip install 'optimagic_lite\[cli\]'"):
        watch_in_terminal(path)
