"""The command line: look at a log, plot it, watch it, without writing Python."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Sequence

from optimagic_lite.cli.arguments import PROGRAM, make_parser
from optimagic_lite.cli.text import safe
from optimagic_lite.exceptions import OptimagicError

# what shells show for a program that SIGINT or SIGPIPE ended
_INTERRUPTED = 128 + 2
_PIPE_CLOSED = 128 + 13


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: Those of the command line; None reads them from there.

    Returns:
        The exit status: 0, 1 after an error, 130 after Ctrl-C, 141 if nobody reads the output.

    Raises:
        SystemExit: With status 2 after wrong usage, with 0 after ``--help`` and ``--version``.

    Example:
        >>> import optimagic_lite as om
        >>> result = om.minimize(lambda x: x**2, 3.0, "scipy_lbfgsb", logging="run.db")
        >>> main(["runs", "run.db"])
        run  status    algorithm     ...
          0  complete  scipy_lbfgsb  ...
        0
    """
    # a terminal or a file that does not know all letters gets the others escaped
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        try:
            options = make_parser().parse_args(arguments)
            options.command(options)
        finally:
            # here, where an error can still be told
            if sys.stdout is not None:
                sys.stdout.flush()
    except KeyboardInterrupt:
        return _INTERRUPTED
    except BrokenPipeError:
        _discard_output()
        return _PIPE_CLOSED
    except OSError as error:
        _discard_output()
        return _refuse(error)
    except OptimagicError as error:
        return _refuse(error)
    return 0


def _refuse(error: Exception) -> int:
    print(f"{PROGRAM}: error: {safe(str(error))}", file=sys.stderr)
    return 1


def _discard_output() -> None:
    """Keep Python from trying once more, at its end, to write what cannot be written."""
    # a stand-in for the standard output has no number
    with contextlib.suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
