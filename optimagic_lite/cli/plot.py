"""``optimagic-lite plot``: the history of a run as a page or an image."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from optimagic_lite.cli.export import refuse_log_as_output
from optimagic_lite.cli.logs import CommandError, find_run, open_log, refusing, stem_of
from optimagic_lite.exceptions import NotInstalledError, did_you_mean, listed

if TYPE_CHECKING:
    import pandas as pd

IMAGES = (".png", ".svg", ".pdf")
ENDINGS = (".html", *IMAGES)


def plot_criterion(location: str, run: int, output: Path | None, **options: Any) -> Path:
    """Draw the values of the criterion and return where.

    Args:
        location: Path or URL of the log.
        run: Which run, as a Python index.
        output: File, with one of ENDINGS; None means an HTML file in the current folder that is
            called like the log.
        **options: Those of ``criterion_plot``.

    Raises:
        CommandError: If there is no such run, an option does not fit it, or the file cannot be
            written.
        LogError: If the log cannot be read.
        NotInstalledError: If an image is asked for and what draws it is missing.
    """
    from optimagic_lite.plots.criterion import criterion_plot

    target = _target(location, output, "criterion")
    with refusing(IndexError, ValueError):
        figure = criterion_plot(open_log(location).read_multistart_history(run), **options)
    return _write(figure, target)


def plot_params(
    location: str, run: int, output: Path | None, patterns: Sequence[str] | None, **options: Any
) -> Path:
    """Draw the values of parameters and return where.

    Args:
        location: Path or URL of the log.
        run: Which run, as a Python index.
        output: File, with one of ENDINGS; None means an HTML file in the current folder that is
            called like the log.
        patterns: Names of parameters, in which * stands for anything; None shows all.
        **options: Those of ``params_plot``.

    Raises:
        CommandError: As ``plot_criterion`` does, and if a pattern fits no name.
        LogError: If the log cannot be read.
        NotInstalledError: If an image is asked for and what draws it is missing.
    """
    from optimagic_lite.plots.params import params_plot

    target = _target(location, output, "params")
    reader = open_log(location)
    i, header = find_run(reader, run)
    selector = None if patterns is None else _selector(header, patterns)
    with refusing(ValueError):
        figure = params_plot(reader.read_multistart_history(i), selector, **options)
    return _write(figure, target)


def _target(location: str, output: Path | None, what: str) -> Path:
    """Return the file to write, once it is clear that it can be one."""
    refuse_log_as_output(location, output)
    return output or Path(f"{stem_of(location)}.{what}.html")


def _selector(
    header: pd.Series[Any], patterns: Sequence[str]
) -> Callable[[Any], NDArray[np.float64]]:
    """Return a function that selects parameters by their names."""
    from optimagic_lite.space.trees import ParamTree

    names = header.param_names
    fitting = {pattern: _fitting(pattern, names) for pattern in patterns}
    for pattern, found in fitting.items():
        if not found:
            raise CommandError(
                f"No parameter is called {pattern!r}.{did_you_mean(pattern, names)} "
                f"The names are {listed([repr(name) for name in names])}."
            )
    chosen = sorted(set().union(*fitting.values()))
    tree = ParamTree.from_json(header.structure)
    return lambda params: tree.to_flat(params)[chosen]


def _fitting(pattern: str, names: Sequence[str]) -> set[int]:
    """Return the positions of the names that a pattern fits, or that are the pattern."""
    return {i for i, name in enumerate(names) if name == pattern or fnmatchcase(name, pattern)}


def _write(figure: Any, target: Path) -> Path:
    with refusing(OSError):
        if target.suffix.lower() in IMAGES:
            _write_image(figure, target)
        else:
            figure.write_html(target)
    return target.resolve()


def _write_image(figure: Any, target: Path) -> None:
    try:
        figure.write_image(target)
    except (ImportError, ValueError, RuntimeError) as error:
        raise NotInstalledError(
            "Images are drawn by kaleido and a Chrome or Chromium, and one of them is missing or "
            "does not work. Install kaleido with pip install 'optimagic_lite[image]' and a browser "
            "with plotly_get_chrome, or write .html, which needs neither. "
            f"({type(error).__name__}: {' '.join(str(error).split())})"
        ) from error
