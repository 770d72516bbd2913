"""What the page is told of a run: plain numbers and texts that JSON knows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from optimagic_lite.cli.text import safe
from optimagic_lite.live import elapsed, per_second
from optimagic_lite.log.feed import RunFeed
from optimagic_lite.log.feed_rows import KINDS
from optimagic_lite.log.run_states import RunState

_MAX_LINES = 20
_MAX_ROWS = 200


@dataclass(frozen=True)
class Known:
    """What a page has already, in the words of earlier answers.

    Args:
        version: Of the feed.
        points: Key of the points that it has, and the number of the last one.
        params: The same for points with parameters.
        words: Parts of the names of the parameters that it wants to see.
    """

    version: str = ""
    points: tuple[str, int] = ("", -1)
    params: tuple[str, int] = ("", -1)
    words: str = ""


def run_json(state: RunState) -> dict[str, Any]:
    """Return what the list of runs shows of one."""
    return {
        "run": state.run,
        "status": state.status,
        "algorithm": safe(state.algorithm),
        "started": number(state.started),
    }


def feed_json(state: RunState, feed: RunFeed, known: Known) -> dict[str, Any]:
    """Return what is to be said of a run to a page that knows something already."""
    version = f"{feed.token}/{feed.version}/{known.words}"
    answer = {"version": version, "summary": _summary(state, feed)}
    if version == known.version:
        return answer
    return answer | {
        "best_so_far": {
            "evaluations": [feed.by_number.places, feed.by_number.values],
            "time": [feed.by_time.places, feed.by_time.values],
        },
        "points": _points(feed, known),
        "params": _params(feed, known),
        "steps": _steps(feed),
        "failures": [
            {"step": f.step, "time": number(f.time), "message": safe(f.message)}
            for f in reversed(feed.failures)
        ],
    }


def _summary(state: RunState, feed: RunFeed) -> dict[str, Any]:
    best = feed.best
    return run_json(state) | {
        "message": safe(state.message or ""),
        "success": state.success,
        "direction": state.direction,
        "derivatives": {k: safe(str(v)) for k, v in state.derivatives.items()},
        "elapsed": number(elapsed(state, feed)),
        "per_second": number(per_second(state, feed)),
        "last_time": number(feed.last_time),
        "n_evaluations": feed.n_evaluations,
        "n_derivative": feed.counts["derivative"],
        "n_exploration": feed.counts["exploration"],
        "n_numbered": feed.points.n_seen,
        "n_failed": feed.n_failed,
        "n_params": len(feed.names),
        "best": None
        if best is None
        else {
            "fun": number(best.fun),
            "number": best.number,
            "time": number(best.time),
            "step": best.step,
        },
    }


def _points(feed: RunFeed, known: Known) -> dict[str, Any]:
    key = f"{feed.token}/{feed.points.stride}"
    new, is_fresh = _after(feed.points.numbers, key, known.points)
    columns = {name: numbers(column[new]) for name, column in feed.points.columns.items()}
    columns["kind"] = [KINDS[kind] for kind in columns["kind"]]
    return {
        "key": key, "is_fresh": is_fresh, "stride": feed.points.stride,
        "number": feed.points.numbers[new].tolist(),
    } | columns  # fmt: skip


def _params(feed: RunFeed, known: Known) -> dict[str, Any]:
    points = feed.params_points
    key = f"{feed.token}/{points.stride}/{known.words}"
    found = matching(feed.names, known.words)
    drawn, listed = found[:_MAX_LINES], found[:_MAX_ROWS]
    new, is_fresh = _after(points.numbers, key, known.params)
    values = np.array([points.vectors[i][drawn] for i in new]).reshape(len(new), len(drawn))
    best = feed.best_params
    return {
        "key": key, "is_fresh": is_fresh, "stride": points.stride, "n_matching": len(found),
        "number": points.numbers[new].tolist(),
        "time": numbers(points.times[new]),
        "names": [safe(feed.names[i]) for i in drawn],
        "values": [numbers(column) for column in values.T],
        "table": {
            "names": [safe(feed.names[i]) for i in listed],
            "start": numbers(feed.start[listed]),
            "best": [None] * len(listed) if best is None else numbers(best[listed]),
        },
    }  # fmt: skip


def _steps(feed: RunFeed) -> dict[str, Any]:
    """Return the best local optimisations, in the order in which they began."""
    local = [step for number, step in sorted(feed.steps.items()) if number]
    sign = 1 if feed.state.direction == "minimize" else -1
    ranked = sorted(local, key=lambda s: np.inf if s.best is None else sign * s.best)
    shown = sorted(ranked[:_MAX_ROWS], key=lambda s: s.step)
    rows = [
        {
            "step": s.step, "n_evaluations": s.n_evaluations, "first": number(s.first),
            "best": number(s.best), "last_time": number(s.last_time),
            "is_finished": s.is_finished, "success": s.success,
        }
        for s in shown
    ]  # fmt: skip
    return {"n": len(local), "n_finished": sum(s.is_finished for s in local), "rows": rows}


def _after(
    found: NDArray[np.int64], key: str, known: tuple[str, int]
) -> tuple[NDArray[np.int64], bool]:
    """Return the positions of what a page lacks, and whether it has to begin anew."""
    is_fresh = key != known[0]
    return np.flatnonzero(found > (-1 if is_fresh else known[1])), is_fresh


def matching(names: list[str], words: str) -> list[int]:
    """Return the positions of the names in which all words occur; their case does not matter."""
    parts = words.casefold().split()
    return [i for i, name in enumerate(names) if all(part in name.casefold() for part in parts)]


def number(value: float | None) -> float | None:
    """Return a number as JSON knows it: one that is not finite is none."""
    return float(value) if value is not None and np.isfinite(value) else None


def numbers(values: NDArray[Any]) -> list[Any]:
    """Return an array as JSON knows it: numbers that are not finite are None."""
    plain = values.astype(object)
    plain[~np.isfinite(values)] = None
    return list(plain.tolist())
