"""The two commands of the README, as far as they can be tested from inside an environment."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest

import optimagic_lite as om
from optimagic_lite import demo
from optimagic_lite.data.nist import load_nist

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("demo") / "new" / "folder"
    # twice: what the first run wrote must not stand in the way of the second
    demo.main([str(folder)])
    demo.main([str(folder)])
    return folder


def test_demo_logs_one_run_of_each_library(output: Path) -> None:
    table = om.SQLiteLogReader(output / "run.db").runs()
    assert [name.split("_")[0] for name in table["algorithm"]] == ["scipy", "nlopt", "optimistix"]
    assert set(table["status"]) == {"complete"}


def test_demo_finds_the_certified_values(output: Path) -> None:
    problem = load_nist("Misra1a")
    reader = om.SQLiteLogReader(output / "run.db")
    for run in range(reader.n_runs):
        assert reader.read_start_params(run) == problem.start1
        best = reader.best(run)
        for name, certified in problem.certified.items():
            np.testing.assert_allclose(best.params[name], certified, rtol=1e-6)
        np.testing.assert_allclose(best.fun, problem.rss, rtol=1e-9)


@pytest.mark.parametrize("name", ["criterion.html", "params.html"])
def test_demo_writes_plots(output: Path, name: str) -> None:
    text = (output / name).read_text(encoding="utf-8")
    assert "Plotly.newPlot" in text
    assert text.rstrip().endswith("</html>")


def test_demo_prints_results_and_certified_values(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    demo.main([str(tmp_path)])
    printed = capsys.readouterr().out
    for algorithm in demo.ALGORITHMS:
        assert f"Minimize over 2 free parameters with {algorithm} converged." in printed
    assert "2.3894212918e+02" in printed
    assert str(tmp_path / "criterion.html") in printed


def tasks(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "tasks.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("arguments", [(), ("tests",), ("test", "-k"), ("demo", "a", "b")])
def test_wrong_task_shows_the_right_ones(arguments: tuple[str, ...]) -> None:
    done = tasks(*arguments)
    assert done.returncode == 2
    assert "tasks.py demo" in done.stdout
    assert "tasks.py test" in done.stdout


def test_help_is_no_error() -> None:
    assert tasks("--help").returncode == 0


def test_old_python_can_read_the_script_that_refuses_it() -> None:
    source = (ROOT / "tasks.py").read_text(encoding="utf-8")
    ast.parse(source, feature_version=(3, 6))


def test_script_refuses_what_the_package_refuses() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    source = (ROOT / "tasks.py").read_text(encoding="utf-8")
    major, minor = re.findall(r"^OLDEST = \((\d+), (\d+)\)$", source, re.MULTILINE)[0]
    assert project["requires-python"] == f">={major}.{minor}"


def test_ci_runs_a_command_of_the_readme() -> None:
    command = (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()[-1]
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert f"```bash\n{command}\n```" in readme
    assert "tasks.py test" in command
