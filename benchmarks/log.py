"""What a row of the log costs: this package, bare sqlite3 and the peer.

Run:    python benchmarks/log.py                          this package against bare sqlite3
        python benchmarks/log.py --peer PATH/TO/python    the peer too, in an interpreter that has
                                                          optimagic

Bare sqlite3 is the floor: the same table, settings, checkpoints in a thread of their own and
commits, one a row, but nothing else than ``execute`` of a tuple that is made on the spot. For many
rows in one transaction it is ``executemany``. "power" waits for the disk at each commit, so there
the disk is what is measured. The peer stores a row through its own store: "fast" is its default,
``fast_logging=True``, which hands nothing to the disk; "safe" is ``fast_logging=False``, which is
what this package does unless it is asked for more.

Sides alternate, the peer's process too, and medians of the repetitions are reported, of ratios
those of pairs.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

SIZES = (10, 1_000, 10_000)
N_ROWS = {10: 5_000, 1_000: 2_000, 10_000: 400}
N_POWER_ROWS = 200
BATCH = 100

# takes a number of rows, returns seconds
Side = Callable[[int], float]


def points(n: int) -> Any:
    """Return some rows of parameters, which are not made while the clock runs."""
    return np.random.default_rng(0).normal(size=(BATCH, n))


# ---- this package --------------------------------------------------------------------------------


def make_writer(path: Path, n: int, durability: str) -> Any:
    from optimagic_lite.log.writer import LogWriter, RunRecord
    from optimagic_lite.log_options import SQLiteLogOptions

    structure = json.dumps({"type": "array", "shape": [n]})
    names, nothing = [str(i) for i in range(n)], {"kind": "none", "reason": "benchmark"}
    record = RunRecord("minimize", "none", {}, names, structure, np.zeros(n), nothing, {})
    options = SQLiteLogOptions(path, if_database_exists="replace", durability=durability)
    return LogWriter(options, record)


@contextlib.contextmanager
def our_side(path: Path, n: int, durability: str) -> Iterator[Side]:
    writer, flats = make_writer(path, n, durability), points(n)
    write = writer.rows.write

    def run(n_rows: int) -> float:
        clock = time.perf_counter()
        for i in range(n_rows):
            write(flats[i % BATCH], 1.5, float(i), i + 0.5, "fun", "path", i)
        return time.perf_counter() - clock

    yield run
    writer.finish("complete", success=True, message=None, fun=None)


@contextlib.contextmanager
def our_side_many(path: Path, n: int) -> Iterator[Side]:
    writer, flats = make_writer(path, n, "process"), points(n)
    times = np.arange(float(BATCH))

    def run(n_rows: int) -> float:
        clock = time.perf_counter()
        for i in range(n_rows // BATCH):
            writer.rows.write_many(flats, times, times, times, "fun", "exploration", i)
        return time.perf_counter() - clock

    yield run
    writer.finish("complete", success=True, message=None, fun=None)


# ---- bare sqlite3 --------------------------------------------------------------------------------


@contextlib.contextmanager
def bare_connection(path: Path, n: int, durability: str) -> Iterator[sqlite3.Connection]:
    from optimagic_lite.log.sqlite import SQLiteStore
    from optimagic_lite.log_options import SQLiteLogOptions

    options = SQLiteLogOptions(path, if_database_exists="replace", durability=durability)
    store = SQLiteStore(path, options)
    store.create(n).close()
    end = store.keep()
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(f"PRAGMA synchronous = {'FULL' if durability == 'power' else 'NORMAL'}")
        connection.execute("PRAGMA wal_autocheckpoint = 0")
        yield connection
    end()


INSERT = f"INSERT INTO evaluations VALUES ({', '.join('?' * 15)})"


@contextlib.contextmanager
def bare_side(path: Path, n: int, durability: str) -> Iterator[Side]:
    flats, key = points(n), 0
    with bare_connection(path, n, durability) as connection:
        execute = connection.execute

        def run(n_rows: int) -> float:
            nonlocal key
            clock = time.perf_counter()
            for i in range(n_rows):
                execute(INSERT, (key, 1, 0, i, "path", "fun", i, 1.5, float(i), i + 0.5, None,
                                 None, None, None, flats[i % BATCH].tobytes()))  # fmt: skip
                key += 1
            return time.perf_counter() - clock

        yield run


@contextlib.contextmanager
def bare_side_many(path: Path, n: int) -> Iterator[Side]:
    flats, key = points(n), 0
    with bare_connection(path, n, "process") as connection:

        def run(n_rows: int) -> float:
            nonlocal key
            clock = time.perf_counter()
            for i in range(n_rows // BATCH):
                rows = [(key + j, 1, 0, j, "exploration", "fun", i, 1.5, 0.0, 1.0, None, None,
                         None, None, flat.tobytes()) for j, flat in enumerate(flats)]  # fmt: skip
                connection.execute("BEGIN IMMEDIATE")
                connection.executemany(INSERT, rows)
                connection.commit()
                key += BATCH
            return time.perf_counter() - clock

        yield run


# ---- the peer, in a process of its own -----------------------------------------------------------


@contextlib.contextmanager
def peer_side(python: str, path: Path, n: int, fast: bool) -> Iterator[Side]:
    process = subprocess.Popen(
        [python, __file__, "--serve-peer", str(path), str(n), str(int(fast))],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd="/",
    )
    assert process.stdin is not None
    assert process.stdout is not None

    def run(n_rows: int) -> float:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(f"{n_rows}\n")
        process.stdin.flush()
        return float(process.stdout.readline())

    yield run
    process.communicate()


def serve_peer(path: str, n: int, fast: bool) -> None:
    from optimagic.logging.logger import LogStore, SQLiteLogOptions
    from optimagic.logging.types import IterationState

    options = SQLiteLogOptions(path, fast_logging=fast, if_database_exists="replace")
    store, flats = LogStore.from_options(options).iteration_store, points(n)
    for line in sys.stdin:
        clock = time.perf_counter()
        for i in range(int(line)):
            store.insert(
                IterationState(
                    params=flats[i % BATCH], timestamp=float(i), scalar_fun=1.5, valid=True,
                    raw_fun=None, step=1, exceptions=None,
                )
            )  # fmt: skip
        print(time.perf_counter() - clock, flush=True)


# ---- the table -----------------------------------------------------------------------------------


def measure(n: int, python: str | None, folder: Path, repetitions: int) -> dict[str, list[float]]:
    """Return microseconds a row of each side, one number a repetition."""
    with contextlib.ExitStack() as stack:
        sides = {
            "bare": bare_side(folder / "a.db", n, "process"),
            "ours": our_side(folder / "b.db", n, "process"),
            "bare power": bare_side(folder / "c.db", n, "power"),
            "ours power": our_side(folder / "d.db", n, "power"),
            "bare many": bare_side_many(folder / "e.db", n),
            "ours many": our_side_many(folder / "f.db", n),
        }
        if python is not None:
            sides["peer fast"] = peer_side(python, folder / "g.db", n, True)
            sides["peer safe"] = peer_side(python, folder / "h.db", n, False)
        runs = {name: stack.enter_context(side) for name, side in sides.items()}
        found: dict[str, list[float]] = {name: [] for name in runs}
        for repetition in range(repetitions + 1):
            for name, run in runs.items():
                n_rows = N_POWER_ROWS if "power" in name else N_ROWS[n]
                if "peer" in name:
                    n_rows //= 4
                seconds = run(n_rows)
                if repetition:
                    found[name].append(1e6 * seconds / n_rows)
    return found


PAIRS = [
    ("ours", "bare"),
    ("ours power", "bare power"),
    ("ours many", "bare many"),
    ("peer safe", "ours"),
    ("peer fast", "ours"),
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peer", default=sys.executable, metavar="PYTHON")
    parser.add_argument("--repetitions", type=int, default=7)
    parser.add_argument("--serve-peer", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve_peer:
        path, n, fast = arguments.serve_peer
        serve_peer(path, int(n), fast == "1")
        return
    test = [arguments.peer, "-c", "import optimagic"]
    has_peer = subprocess.run(test, capture_output=True, cwd="/").returncode == 0
    if not has_peer:
        print(f"The peer is left out: {arguments.peer} has no optimagic.")
    print("Microseconds a row. Goals: ours/bare at most 1.5, and 20 microseconds at 10 numbers.")
    for n in SIZES:
        with tempfile.TemporaryDirectory() as folder:
            python = arguments.peer if has_peer else None
            found = measure(n, python, Path(folder), arguments.repetitions)
        print(f"\n{n:,} numbers")
        for name, values in found.items():
            print(f"  {name:<12} {statistics.median(values):9.1f}   (least {min(values):.1f})")
        for name, base in PAIRS:
            if name in found:
                ratios = [a / b for a, b in zip(found[name], found[base], strict=True)]
                print(f"  {name + ' / ' + base:<24} {statistics.median(ratios):6.2f}")


if __name__ == "__main__":
    main()
