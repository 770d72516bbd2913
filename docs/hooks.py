"""What the site has beyond its pages: formulas, and text that only running code knows.

MkDocs calls the functions that begin with ``on_``, see ``hooks`` in mkdocs.yml.
"""

from __future__ import annotations

import argparse
import html
import inspect
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import griffe
from latex2mathml.converter import convert
from mkdocs.exceptions import PluginError

import optimagic_lite as om
from optimagic_lite.cli.arguments import make_parser

# what pymdownx.arithmatex makes of $...$ and $$...$$
_FORMULA = re.compile(r'<(span|div) class="arithmatex">\\[\[(](.*?)\\[\])]</\1>', re.DOTALL)


def on_config(config: Any) -> Any:
    """Let a line ``folder/*`` in the navigation stand for all pages of a folder."""
    config.nav = list(_expanded(config.nav, Path(config.docs_dir)))
    return config


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Put text from the code where a page asks for it."""
    for mark, render in _GENERATED.items():
        if mark in markdown:
            markdown = markdown.replace(mark, render())
    return markdown


def on_page_content(content: str, **_: Any) -> str:
    """Turn formulas into MathML, which browsers draw without a script."""

    def drawn(match: re.Match[str]) -> str:
        display = "inline" if match[1] == "span" else "block"
        tex = html.unescape(match[2]).strip()
        found = convert(tex, display=display)
        if "<mi>&</mi>" in found:
            raise PluginError(f"No environment for this formula, use split or cases: {tex}")
        return found

    return _FORMULA.sub(drawn, content)


def _expanded(nav: list[Any], docs: Path) -> Iterator[Any]:
    for entry in nav:
        if isinstance(entry, dict):
            for title, below in entry.items():
                inner = list(_expanded(below, docs)) if isinstance(below, list) else below
                if inner:
                    yield {title: inner}
        elif entry.endswith("/*"):
            yield from sorted(p.relative_to(docs).as_posix() for p in docs.glob(f"{entry}.md"))
        else:
            yield entry


def _options_of_algorithms() -> str:
    """Return a section for each algorithm: its description, and its options in a table."""
    return "\n\n".join(_section(cls) for cls in om.algos.All)


def _section(cls: Any) -> str:
    lines = [f"### {cls.name}"]
    for section in griffe.Docstring(inspect.getdoc(cls) or "").parse("google", warnings=False):
        if section.kind is griffe.DocstringSectionKind.text:
            lines += ["", section.value]
        elif section.kind is griffe.DocstringSectionKind.parameters:
            lines += ["", "| option | default | |", "|---|---|---|"]
            lines += [
                f"| `{p.name}` | `{getattr(cls, p.name, '')!r}` | {_in_a_cell(p.description)} |"
                for p in section.value
            ]
    return "\n".join(lines).replace("``", "`")


def _in_a_cell(text: str) -> str:
    parts = " ".join(text.split()).replace("``", "`").split("`")
    # a bar in code is none of the table
    parts[::2] = [part.replace("|", "\\|") for part in parts[::2]]
    return "`".join(parts)


def _help_of_commands() -> str:
    """Return what ``--help`` shows for the program and each of its commands."""
    parser = make_parser()
    (commands,) = (a for a in parser._actions if isinstance(a, argparse._SubParsersAction))
    parsers = {"": parser, **commands.choices}
    return "\n\n".join(
        f"## `optimagic-lite{' ' * bool(name)}{name}`\n\n```text\n{_help(each)}```"
        for name, each in parsers.items()
    )


def _help(parser: argparse.ArgumentParser) -> str:
    # plain text of the same width whatever the terminal
    before = {name: os.environ.get(name) for name in ("COLUMNS", "NO_COLOR")}
    os.environ.update(COLUMNS="96", NO_COLOR="1")
    try:
        return parser.format_help()
    finally:
        for name, value in before.items():
            os.environ.pop(name)
            if value is not None:
                os.environ[name] = value


_GENERATED = {
    "<!-- options of algorithms -->": _options_of_algorithms,
    "<!-- help of commands -->": _help_of_commands,
}
