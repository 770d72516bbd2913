"""Every example in README.md, in docs/ and in the docstrings runs and shows what it says."""

from __future__ import annotations

import contextlib
import doctest
import importlib
import io
import pkgutil
import re
import runpy
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import optimagic_lite as om

pytest_plugins = ["postgres"]

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
REFERENCE = sorted((ROOT / "docs" / "reference").glob("*.md"))
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
MODULES = [m.name for m in pkgutil.walk_packages(om.__path__, "optimagic_lite.")]

# a block of Python or of our own commands and, where one follows at once, that with its output
EXAMPLE = re.compile(
    r"^```(?P<language>python|bash(?=\noptimagic-lite ))\n(?P<code>.*?)^```\n"
    r"(?:\n```text\n(?P<output>.*?)^```\n)?",
    re.MULTILINE | re.DOTALL,
)


def page_name(page: Path) -> str:
    return str(page.relative_to(ROOT))


def examples(page: Path) -> Iterator[tuple[str, str | None]]:
    """Yield code, on the lines on which it stands in the page, and expected output."""
    text = page.read_text(encoding="utf-8")
    for match in EXAMPLE.finditer(text):
        n_lines_above = text[: match.start("code")].count("\n")
        code = match["code"] if match["language"] == "python" else calls_of_main(match["code"])
        yield "\n" * n_lines_above + code, match["output"]


def calls_of_main(commands: str) -> str:
    """Return Python that runs commands, one a line, without starting a process for each."""
    lines = ["from optimagic_lite.cli import main\n"]
    for line in commands.splitlines():
        program, *arguments = shlex.split(line)
        assert program == "optimagic-lite", f"no command of ours: {line}"
        lines.append(f"assert main({arguments}) == 0\n")
    return "".join(lines)


def mark_page(page: Path) -> Any:
    """Keep pages that need a database together with other tests that do."""
    needs_postgres = "LOG_URL" in page.read_text(encoding="utf-8")
    return pytest.param(page, marks=pytest.mark.xdist_group("postgres") if needs_postgres else ())


@pytest.mark.parametrize("page", [mark_page(page) for page in PAGES], ids=page_name)
def test_examples_of_a_page_run(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    monkeypatch.chdir(tmp_path)
    if "LOG_URL" in page.read_text(encoding="utf-8"):
        monkeypatch.setenv("LOG_URL", request.getfixturevalue("postgres").url())
    namespace: dict[str, Any] = {"__name__": "__main__"}
    for code, expected in examples(page):
        stdout = io.StringIO()
        with contextlib.redirect_stdout(stdout):
            exec(compile(code, str(page), "exec"), namespace)
        if expected is not None:
            agrees = doctest.OutputChecker().check_output(expected, stdout.getvalue(), FLAGS)
            assert agrees, f"{page.name} says\n{expected}\nbut the output is\n{stdout.getvalue()}"


def test_pages_have_examples() -> None:
    without = {page_name(page) for page in PAGES if not list(examples(page))}
    assert without == {str(Path("docs", "algorithms.md")), *map(page_name, REFERENCE)}


def test_reference_has_every_public_name() -> None:
    shown = [
        re.findall(r"^::: optimagic_lite\.([\w.]+)", page.read_text(encoding="utf-8"), re.MULTILINE)
        for page in REFERENCE
    ]
    names = {path.split(".")[-1] for paths in shown for path in paths}
    # shown as SQLiteLogReader, as algos.Algorithms, and class by class
    assert sorted(set(om.__all__) - names) == ["OptimizeLogReader", "algos", "constraints"]


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_each_output_belongs_to_an_example(page: Path) -> None:
    n_outputs = page.read_text(encoding="utf-8").count("```text\n")
    assert n_outputs == sum(output is not None for _, output in examples(page))


@pytest.mark.parametrize("module", MODULES)
def test_examples_of_docstrings_run(
    module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    found = doctest.DocTestFinder().find(
        importlib.import_module(module), module, extraglobs={"np": np}
    )
    report = io.StringIO()
    for test in found:
        doctest.DocTestRunner(optionflags=FLAGS).run(test, out=report.write)
    assert report.getvalue() == ""


def test_public_functions_and_classes_have_examples_that_run() -> None:
    finder = doctest.DocTestFinder()
    for name in ("minimize", "maximize", "Bounds", "SQLiteLogReader", "criterion_plot"):
        tests = finder.find(getattr(om, name), name, module=False)
        assert any(test.examples for test in tests), f"om.{name} shows no example"


@pytest.mark.parametrize("page", [*PAGES, ROOT / "CHANGELOG.md"], ids=page_name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path) if path else page
        assert file.exists(), f"{page_name(page)} links to {target}, which does not exist"
        if anchor:
            titles = re.findall(r"^#+ (.*)$", file.read_text(encoding="utf-8"), re.MULTILINE)
            anchors = [re.sub(r"[^\w -]", "", t).strip().lower().replace(" ", "-") for t in titles]
            assert anchor in anchors, f"{page_name(page)} links to {target}: no such title"


def test_table_of_algorithms_is_up_to_date() -> None:
    rendered = runpy.run_path(str(ROOT / "docs" / "make_algorithms.py"))["render"]()
    written = (ROOT / "docs" / "algorithms.md").read_text(encoding="utf-8")
    assert written == rendered, "docs/algorithms.md is stale: run python docs/make_algorithms.py"


def test_readme_counts_algorithms_correctly() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    (number,) = re.findall(r"\*\*(\d+) local algorithms\*\*", text)
    assert int(number) == len(om.algos.Local.AllNames)
