"""A run in the terminal, while it goes on."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from optimagic_lite.cli.text import counted, duration, number, safe
from optimagic_lite.exceptions import LogError, NotInstalledError
from optimagic_lite.live import LiveLog, elapsed, per_second
from optimagic_lite.log.feed import RunFeed
from optimagic_lite.log.feed_parts import Step
from optimagic_lite.log.run_states import RunReplacedError, RunState, find_again
from optimagic_lite.log.steps import OUTCOMES

if TYPE_CHECKING:
    from rich.console import RenderableType

_INTERVAL = 0.5  # seconds between two looks at the log
_LINE_INTERVAL = 10.0  # seconds between two lines where there is no terminal
_MAX_NAMES = 8
_MAX_STEPS = 8
_STYLES = {"running": "bold blue", "complete": "bold green", "interrupted": "bold yellow"}
_DIGITS = 10

Show = Callable[[RunState, RunFeed, str], None]


def watch(location: str | Path, run: int = -1) -> str:
    """Show a run in the terminal until it ends.

    In a terminal a table is drawn anew twice a second. Elsewhere, as in a pipe, a line is printed
    now and then. Ctrl-C stops watching and leaves the run alone. The log is only read.

    Args:
        location: File or URL of the log.
        run: Which run; counts from 0, negative numbers from the end. The default is the one that
            is the newest when the watching begins.

    Returns:
        The status of the run when the watching ended, as in ``reader.runs()``.

    Raises:
        LogError: If there is no log, or no such run.
        NotInstalledError: If there is a terminal and rich is not installed.

    Example:
        >>> import optimagic_lite as om
        >>> from optimagic_lite.watch import watch
        >>> result = om.minimize(lambda x: x**2, 3.0, "scipy_lbfgsb", logging="run.db")
        >>> watch("run.db")
        scipy_lbfgsb: complete, ... evaluations, ... a second, best ...
        'complete'
    """
    log = LiveLog(location)
    feed = log.feed(log.states(), run)
    state = feed.state
    shown = _table(log.location) if sys.stdout.isatty() else _lines()
    with contextlib.suppress(KeyboardInterrupt), shown as show:
        while True:
            problem = ""
            try:
                # before the rows, so that all of them are read of a run that has ended
                state = find_again(log.states(), state)
                feed.refresh()
            except RunReplacedError:
                raise
            except LogError as error:
                problem = str(error)
            show(state, feed, problem)
            if not (state.is_running or problem):
                break
            time.sleep(_INTERVAL)
    return state.status


@contextlib.contextmanager
def _lines() -> Iterator[Show]:
    """Print a line now and then, and at the end."""
    next_line = 0.0

    def show(state: RunState, feed: RunFeed, problem: str) -> None:
        nonlocal next_line
        if state.is_running and time.monotonic() < next_line:
            return
        next_line = time.monotonic() + _LINE_INTERVAL
        sys.stdout.write(_line(state, feed) + (f" ({safe(problem)})" if problem else "") + "\n")
        sys.stdout.flush()

    yield show


def _line(state: RunState, feed: RunFeed) -> str:
    parts = [
        state.status,
        duration(elapsed(state, feed)),
        counted(feed.n_evaluations, "evaluation"),
        f"{_rate(state, feed)} a second",
        f"{feed.n_failed:,} failed" if feed.n_failed else "",
        "no feasible value yet" if feed.best is None else f"best {number(feed.best.fun, _DIGITS)}",
        safe(state.message or ""),
    ]
    return f"{safe(state.algorithm)}: {', '.join(filter(None, parts))}"


def _rate(state: RunState, feed: RunFeed) -> str:
    rate = per_second(state, feed)
    return f"{rate:,.0f}" if rate >= 100 else number(rate, 3)


@contextlib.contextmanager
def _table(location: str) -> Iterator[Show]:
    """Draw a table again and again, and leave the last one there."""
    try:
        from rich.live import Live
    except ImportError as error:
        raise NotInstalledError(
            "The table needs the package rich: pip install 'optimagic_lite[cli]'."
        ) from error
    with Live(auto_refresh=False) as live:

        def show(state: RunState, feed: RunFeed, problem: str) -> None:
            live.update(_drawn(location, state, feed, problem), refresh=True)

        yield show


def _drawn(location: str, state: RunState, feed: RunFeed, problem: str) -> RenderableType:
    """Return all that is shown of a run in a terminal."""
    from rich.console import Group
    from rich.text import Text

    title = Text()
    title.append(state.status, _STYLES.get(state.status, "bold red"))
    title.append(f"  {safe(state.algorithm)}", "bold")
    title.append(f"  run {state.run} of {safe(location)}", "dim")
    parts = [title, _facts(state, feed, problem), _params(feed)]
    if any(feed.steps):
        parts.append(_steps(state, feed))
    return Group(*parts)


def _facts(state: RunState, feed: RunFeed, problem: str) -> RenderableType:
    from rich.table import Table
    from rich.text import Text

    best = feed.best
    seconds = elapsed(state, feed)
    of_differences = feed.counts["derivative"]
    failure = feed.failures[-1].message if feed.failures else ""
    facts = {
        "Best value": "none yet" if best is None else number(best.fun, _DIGITS),
        "improved": "" if best is None else _when(state, best.time, seconds),
        "Evaluations": f"{feed.n_evaluations:,}"
        + (f", {of_differences:,} of them for differences" if of_differences else ""),
        "a second": _rate(state, feed),
        "Elapsed": duration(seconds),
        "Failures": f"{feed.n_failed:,}; the last: {safe(failure)}" if feed.n_failed else "",
        "Message": safe(state.message or ""),
        "Problem": safe(problem),
    }
    grid = Table.grid(padding=(0, 2))
    for name, text in facts.items():
        if text:
            shown = Text(text, overflow="ellipsis", no_wrap=name == "Failures")
            grid.add_row(Text(name, "dim"), shown)
    return grid


def _when(state: RunState, moment: float, seconds: float) -> str:
    if state.is_running:
        return f"{duration(max(0.0, seconds - moment))} ago"
    return f"after {duration(moment)}"


def _params(feed: RunFeed) -> RenderableType:
    n_more = len(feed.names) - _MAX_NAMES
    rows = [
        [safe(name), number(start), number(None if feed.best_params is None else best)]
        for name, start, best in zip(
            feed.names[:_MAX_NAMES],
            feed.start.tolist(),
            (feed.start if feed.best_params is None else feed.best_params).tolist(),
            strict=False,
        )
    ]
    return _grid(["Parameter", "Start", "Best"], rows, f"and {n_more:,} more" if n_more > 0 else "")


def _steps(state: RunState, feed: RunFeed) -> RenderableType:
    """Show the local optimisations that go on, and then the best."""
    sign = 1 if state.direction == "minimize" else -1
    local = [step for step in feed.steps.values() if step.step]
    local.sort(key=lambda s: (s.is_finished, float("inf") if s.best is None else sign * s.best))
    rows = [
        [str(s.step), _status(s, state), f"{s.n_evaluations:,}", number(s.best, _DIGITS)]
        for s in local[:_MAX_STEPS]
    ]
    n_finished = sum(step.is_finished for step in local)
    note = f"{n_finished:,} of {len(local):,} have ended"
    return _grid(["Local optimisation", "", "Evaluations", "Best"], rows, note)


def _status(step: Step, state: RunState) -> str:
    if not step.is_finished:
        return "running" if state.is_running else "broken off"
    return OUTCOMES[step.success]


def _grid(head: list[str], rows: list[list[str]], note: str) -> RenderableType:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    grid = Table(
        box=box.SIMPLE_HEAD, header_style="dim", caption=note or None, caption_justify="left"
    )
    for i, title in enumerate(head):
        grid.add_column(title, justify="right" if i else "left", overflow="ellipsis", no_wrap=True)
    for row in rows:
        grid.add_row(*map(Text, row))
    return grid
