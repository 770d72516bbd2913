"""``optimagic-lite export``: all evaluations of a run as CSV or Parquet."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TextIO

from optimagic_lite.cli.logs import CommandError, open_log, refusing
from optimagic_lite.cli.text import safe
from optimagic_lite.exceptions import NotInstalledError

if TYPE_CHECKING:
    import pandas as pd

Format = Literal["csv", "parquet"]

_TEXTS = ("exception", "traceback", "info")
# as many rows become text at a time
_ROWS = 10_000


def export(location: str, run: int, kind: Format | None, output: Path | None) -> None:
    """Write all evaluations of a run, of all kinds, with one column a parameter.

    Args:
        location: Path or URL of the log.
        run: Which run, as a Python index.
        kind: None takes it from the ending of the file; CSV if there is no file.
        output: File; None means the standard output, as CSV.

    Raises:
        CommandError: If there is no such run, or the file cannot be written or has no known ending.
        LogError: If the log cannot be read.
        NotInstalledError: If the format is Parquet and pyarrow is not installed.
    """
    refuse_log_as_output(location, output)
    if output is not None and kind is None and output.suffix not in (".csv", ".parquet"):
        raise CommandError(
            f"The ending of {output} does not say what to write: choose .csv or .parquet, or add "
            "--format csv or --format parquet."
        )
    with refusing(IndexError):
        frame = _storable(open_log(location).to_frame(run))
    if output is None:
        _write_csv(frame, sys.stdout)
        return
    with refusing(OSError):
        if kind == "parquet" or (kind is None and output.suffix == ".parquet"):
            _write_parquet(frame, output)
        else:
            with output.open("w", encoding="utf-8", newline="") as file:
                _write_csv(frame, file)


def refuse_log_as_output(location: str, output: Path | None) -> None:
    """Refuse to write over the log that is read.

    Args:
        location: Path or URL of the log.
        output: File that is to be written, if any.

    Raises:
        CommandError: If they are the same file.
    """
    if output is None or "://" in location or not Path(location).exists():
        return
    if output.exists() and os.path.samefile(location, output):
        raise CommandError(f"{output} is the log itself. Name another file with -o.")


def _storable(frame: pd.DataFrame) -> pd.DataFrame:
    """Return a frame in which everything but numbers is text, and all text is known to UTF-8."""
    info = frame["info"].map(json.dumps, na_action="ignore")
    texts = frame.assign(info=info).astype(dict.fromkeys(_TEXTS, "string"))
    return texts.rename(columns=lambda name: name.encode(errors="backslashreplace").decode())


def _write_csv(frame: pd.DataFrame, file: TextIO) -> None:
    # a terminal obeys what it finds in a text; a file or another program gets the text as it is
    guard = file.isatty()
    for first in range(0, max(len(frame), 1), _ROWS):
        part = frame.iloc[first : first + _ROWS]
        text = part.to_csv(index=False, header=first == 0, lineterminator="\n")
        file.write("\n".join(map(safe, text.split("\n"))) if guard else text)


def _write_parquet(frame: pd.DataFrame, output: Path) -> None:
    try:
        frame.to_parquet(output, engine="pyarrow", index=False)
    except ImportError as error:
        raise NotInstalledError(
            "Parquet files are written by pyarrow, which is not installed. Install it with "
            "pip install 'optimagic_lite[parquet]', or export CSV."
        ) from error
