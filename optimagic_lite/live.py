"""What the live views in the terminal and in the browser share."""

from __future__ import annotations

import time
from pathlib import Path

from optimagic_lite.log.feed import RunFeed
from optimagic_lite.log.run_states import RunState, find_run, read_states
from optimagic_lite.log.store import make_store
from optimagic_lite.log_options import log_options_at

_MAX_FEEDS = 4


class LiveLog:
    """A log that is looked at again and again; used by one thread at a time.

    Args:
        location: File or URL of the log.

    Attributes:
        location: Where the log is, for people.

    Raises:
        LogError: If there is no log.
    """

    def __init__(self, location: str | Path) -> None:
        self._store = make_store(log_options_at(location))
        self.location = self._store.location
        self.states()
        self._feeds: dict[int, RunFeed] = {}

    def states(self) -> list[RunState]:
        """Return all runs, in the order in which they began.

        Raises:
            LogError: If the log cannot be read.
        """
        return read_states(self._store)

    def feed(self, states: list[RunState], run: int = -1) -> RunFeed:
        """Return what is known of a run now.

        Args:
            states: As ``states`` just returned them.
            run: Counts from 0, negative numbers from the end.

        Raises:
            LogError: If there is no such run, or the log cannot be read.
        """
        state = find_run(states, run, self.location)
        feed = self._feeds.pop(state.run_id, None)
        if feed is None or not feed.state.is_same_run(state):
            feed = RunFeed(self._store, state)
        # what nobody has looked at for longest goes first
        self._feeds = dict([*self._feeds.items()][1 - _MAX_FEEDS :]) | {state.run_id: feed}
        feed.refresh()
        return feed


def elapsed(state: RunState, feed: RunFeed) -> float:
    """Return for how many seconds a run has been going on, or did so until it ended."""
    if state.ended is not None:
        return state.ended - state.started
    if state.is_running:
        # clocks of two machines may differ
        return max(time.time() - state.started, feed.last_time)
    return feed.last_time


def per_second(state: RunState, feed: RunFeed) -> float:
    """Return how many evaluations end in a second, or did so on average until the run ended."""
    seconds = elapsed(state, feed)
    if state.is_running:
        return feed.rate.per_second(seconds)
    return feed.n_evaluations / seconds if seconds > 0 else 0.0
