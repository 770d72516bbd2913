"""Draw the pictures of pages: ``python docs/make_pictures.py [page ...]``.

Runs the Python blocks of each page and saves its figure ``fig`` beside it. This needs the extra
``image`` and a Chrome; BROWSER_PATH says where it is, if it is not found.
"""

from __future__ import annotations

import os
import re
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parent
PAGES = [*sorted((DOCS / "examples").glob("*.md")), DOCS / "how_to" / "benchmarking.md"]
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def draw(page: Path) -> Path:
    """Run a page and write its figure.

    Args:
        page: A Markdown file; one of its blocks makes a plotly figure named ``fig``.
    """
    namespace: dict[str, Any] = {"__name__": "__main__"}
    for block in BLOCK.findall(page.read_text(encoding="utf-8")):
        exec(compile(block, str(page), "exec"), namespace)
    picture = page.with_suffix(".png")
    namespace["fig"].write_image(picture, width=700, height=440)
    return picture


def main(names: Sequence[str]) -> None:
    """Draw the pictures of the named pages, or of all."""
    pages = [page for page in PAGES if not names or page.stem in names]
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)  # pages may write files
        for page in pages:
            print(f"{draw(page.resolve())}")


if __name__ == "__main__":
    main(sys.argv[1:])
