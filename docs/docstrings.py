"""How the reference reads our docstrings, see ``extensions`` in mkdocs.yml."""

from __future__ import annotations

import re
from textwrap import indent
from typing import Any

import griffe


class AsMarkdown(griffe.Extension):
    """Turn what is written for readers of the code into what Griffe and Markdown understand."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Name examples as Griffe does, so that they are code, and make drawn trees code."""
        if obj.docstring is not None:
            text = re.sub(r"^Example:$", "Examples:", obj.docstring.value, flags=re.MULTILINE)
            paragraphs = (indent(p, "    ") if "├──" in p else p for p in text.split("\n\n"))
            obj.docstring.value = "\n\n".join(paragraphs)
