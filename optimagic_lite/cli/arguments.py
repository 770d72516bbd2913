"""What can be written on the command line, and which function does it."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optimagic_lite
from optimagic_lite.cli.export import export
from optimagic_lite.cli.logs import refusing
from optimagic_lite.cli.plot import ENDINGS, plot_criterion, plot_params
from optimagic_lite.cli.runs import runs
from optimagic_lite.cli.show import show

PROGRAM = "optimagic-lite"

_EPILOG = """\
LOG is the path of a log or the URL of a database with one. RUN counts runs from 0; -1, the default,
is the last one, -2 the one before it. A log can be read while it is written.

examples:
  optimagic-lite runs run.db
  optimagic-lite show run.db
  optimagic-lite export run.db -o run.parquet
  optimagic-lite plot criterion run.db --monotone --log-scale
  optimagic-lite plot params run.db -2 --select 'beta_*' -o beta.png
  optimagic-lite watch run.db
  optimagic-lite serve run.db

`optimagic-lite COMMAND --help` explains a command.
"""


def make_parser() -> argparse.ArgumentParser:
    """Return the parser; what it returns has ``command``, a function of the parsed arguments."""
    parser = argparse.ArgumentParser(
        PROGRAM,
        description="Look at the log of an optimisation.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    version = f"{PROGRAM} {optimagic_lite.__version__}"
    parser.add_argument("--version", action="version", version=version)
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    _add_runs(commands)
    _add_show(commands)
    _add_export(commands)
    _add_plot(commands)
    _add_watch(commands)
    _add_serve(commands)
    return parser


def _add_runs(commands: Any) -> None:
    parser = _command(commands, "runs", "list all runs of a log", lambda o: print(runs(o.log)))
    _add_log(parser, with_run=False)


def _add_show(commands: Any) -> None:
    title = "say everything about one run: how it went, what it found, what failed"
    parser = _command(commands, "show", title, lambda o: print(show(o.log, o.run)))
    _add_log(parser)


def _add_export(commands: Any) -> None:
    def command(options: argparse.Namespace) -> None:
        if options.format == "parquet" and options.output is None:
            parser.error("Parquet is no text: name a file for it, for example -o run.parquet")
        export(options.log, options.run, options.format, options.output)

    title = "write all evaluations of a run as CSV or Parquet"
    parser = _command(commands, "export", title, command)
    _add_log(parser)
    parser.add_argument(
        "--format",
        choices=("csv", "parquet"),
        help="default: what the ending of FILE says, csv without one; parquet needs FILE",
    )
    _add_output(parser, "default: the standard output", Path)


def _add_plot(commands: Any) -> None:
    title = "draw values of the criterion or of parameters"
    plots = commands.add_parser("plot", help=title, description=_sentence(title))
    kinds = plots.add_subparsers(metavar="criterion|params", required=True)
    endings = ", ".join(ENDINGS)

    criterion = _command(kinds, "criterion", "draw values of the criterion", _plot_criterion)
    _add_log(criterion)
    _add_output(
        criterion, f"ends with {endings}; default: LOG.criterion.html, in this folder", _picture
    )
    _add_flag(criterion, "--monotone", "draw the best value so far")
    _add_flag(criterion, "--log-scale", "make the vertical axis logarithmic")
    _add_flag(criterion, "--stack-multistart", "draw local optimisations one after the other")
    _add_common(criterion)

    params = _command(kinds, "params", "draw values of parameters", _plot_params)
    _add_log(params)
    _add_output(params, f"ends with {endings}; default: LOG.params.html, in this folder", _picture)
    params.add_argument(
        "--select",
        nargs="+",
        metavar="PATTERN",
        help="draw the parameters with these names; * stands for anything: 'beta_*'",
    )
    params.add_argument(
        "--names", nargs="+", metavar="NAME", help="call the parameters that are drawn like this"
    )
    _add_common(params)


def _add_watch(commands: Any) -> None:
    parser = _command(commands, "watch", "follow a run in the terminal", _watch)
    _add_log(parser)


def _add_serve(commands: Any) -> None:
    parser = _command(commands, "serve", "follow runs in a web browser, on this machine", _serve)
    _add_log(parser, with_run=False)
    parser.add_argument(
        "--port",
        type=_port,
        metavar="N",
        help="port on which the page is served; 0 takes any that is free",
    )
    _add_flag(parser, "--no-browser", "only print the address of the page")


def _command(commands: Any, name: str, title: str, command: Any) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(
        name, help=title, description=_sentence(title), allow_abbrev=False
    )
    parser.set_defaults(command=command)
    return parser


def _sentence(title: str) -> str:
    return f"{title[0].upper()}{title[1:]}."


def _add_log(parser: argparse.ArgumentParser, *, with_run: bool = True) -> None:
    parser.add_argument("log", metavar="LOG", help="path of a log or URL of a database")
    if with_run:
        parser.add_argument(
            "run",
            metavar="RUN",
            nargs="?",
            type=int,
            default=-1,
            help="number of the run, from 0, or from -1 backwards; default: the last run",
        )


def _add_output(parser: argparse.ArgumentParser, text: str, to_path: Callable[[str], Path]) -> None:
    parser.add_argument("-o", "--output", metavar="FILE", type=to_path, help=text)


def _add_flag(parser: argparse.ArgumentParser, name: str, text: str) -> None:
    parser.add_argument(name, action="store_true", help=text)


def _add_common(parser: argparse.ArgumentParser) -> None:
    """Add what all plots can do."""
    _add_flag(parser, "--show-exploration", "draw the explored points of a multistart run too")
    _add_flag(parser, "--time", "draw seconds to the right, not numbers of evaluations")
    parser.add_argument(
        "--max-evaluations",
        type=_positive,
        metavar="N",
        help="draw the first N evaluations of each line; default: all",
    )


def _picture(text: str) -> Path:
    path = Path(text)
    if path.suffix.lower() not in ENDINGS:
        raise argparse.ArgumentTypeError(
            f"{text!r} must end with one of {', '.join(ENDINGS)}, which says what is written"
        )
    return path


def _positive(text: str) -> int:
    n = int(text)
    if n < 1:
        raise argparse.ArgumentTypeError(f"{n} is not positive")
    return n


def _port(text: str) -> int:
    port = int(text)
    if not 0 <= port < 2**16:
        raise argparse.ArgumentTypeError(f"{port} is no port: those are 0 to {2**16 - 1}")
    return port


def _common(options: argparse.Namespace) -> dict[str, Any]:
    return {
        "show_exploration": options.show_exploration,
        "x_axis": "time" if options.time else "evaluations",
        "max_evaluations": options.max_evaluations,
    }


def _plot_criterion(options: argparse.Namespace) -> None:
    path = plot_criterion(
        options.log,
        options.run,
        options.output,
        monotone=options.monotone,
        log_scale=options.log_scale,
        stack_multistart=options.stack_multistart,
        **_common(options),
    )
    print(f"Wrote {path}")


def _plot_params(options: argparse.Namespace) -> None:
    path = plot_params(
        options.log,
        options.run,
        options.output,
        options.select,
        names=options.names,
        **_common(options),
    )
    print(f"Wrote {path}")


def _watch(options: argparse.Namespace) -> None:
    from optimagic_lite.watch import watch

    with refusing(IndexError):
        watch(options.log, options.run)


def _serve(options: argparse.Namespace) -> None:
    from optimagic_lite.serve import serve

    port = {} if options.port is None else {"port": options.port}
    serve(options.log, **port, open_browser=not options.no_browser)
