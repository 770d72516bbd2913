"""What live views show of a run agrees with the log, however the rows came into it."""

import math
import sqlite3
import threading

import numpy as np
import pytest
import sqlalchemy as sa

import optimagic_lite as om
from optimagic_lite.exceptions import LogError
from optimagic_lite.live import LiveLog
from optimagic_lite.log import feed as feed_module
from optimagic_lite.log.run_states import RunReplacedError, find_again
from optimagic_lite.log.tables import evaluation_id
from optimagic_lite.log.thinning import Monotone, Rate, Thinned

pytest_plugins = ["postgres"]

KINDS = ["path", "path", "path", "exploration", "derivative"]


def make_log(path, direction="minimize", **options):
    """Return a connection to a log with one run of two parameters."""
    optimize = om.minimize if direction == "minimize" else om.maximize
    sign = 1 if direction == "minimize" else -1
    options = {"stopping_maxfun": 3} | options
    optimize(
        lambda x: sign * (x @ x), np.ones(2), "scipy_neldermead", logging=path, algo_options=options
    )
    return sqlite3.connect(path)


def insert(connection, rows):
    marks = ",".join("?" * 15)
    connection.executemany(f"INSERT INTO evaluations VALUES ({marks})", rows)
    connection.commit()


def make_row(step, row, fun, time, kind="path", exception=None, violation=None, params=(0.0, 0.0)):
    return (
        evaluation_id(1, step, row), 1, step, row, kind, "fun", row, fun, time, time,
        exception, None, None, violation, np.array(params, "<f8").tobytes(),
    )  # fmt: skip


def random_row(rng, step, row, time):
    violation = rng.choice([None, 0.0, 0.3])
    fun, exception = (
        (float(rng.normal()), None) if rng.random() < 0.8 else (None, f"ValueError: {row}")
    )
    return make_row(
        step, row, fun, time, rng.choice(KINDS), exception, violation, rng.normal(size=2)
    )


def random_rows(rng, n, first_row):
    """Yield rows of several steps in the order in which they are written.

    Within a step rows come in order; steps begin in any order, and one of them is late with all
    of its rows.
    """
    n_rows = {0: first_row}
    time = 10.0
    for _ in range(n):
        step = int(rng.integers(0, 6))
        time += float(rng.exponential(0.1))
        n_rows.setdefault(step, 0)
        yield random_row(rng, step, n_rows[step], time - 5.0 * (step == 4))
        n_rows[step] += 1


def brute_force(frame, direction):
    """Return the rows that have a number, in the order of time, and those that can be best."""
    numbered = frame[frame["kind"] != "derivative"].sort_values("stop_time", kind="stable")
    candidates = numbered[numbered["fun"].notna() & ~(numbered["violation"] > 0)]
    best = candidates["fun"].cummin() if direction == "minimize" else candidates["fun"].cummax()
    improved = candidates[best != best.shift()]
    return numbered, candidates, improved


@pytest.fixture
def path(tmp_path):
    return tmp_path / "run.db"


@pytest.mark.parametrize("direction", ["minimize", "maximize"])
@pytest.mark.parametrize("seed", [0, 1])
def test_feed_agrees_with_the_log_at_every_moment(path, direction, seed, monkeypatch):
    monkeypatch.setattr(feed_module, "_MAX_POINTS", 40)
    monkeypatch.setattr(feed_module, "_MAX_PARAMS_POINTS", 16)
    monkeypatch.setattr(feed_module, "_ROWS_PER_LOOK", 50)
    rng = np.random.default_rng(seed)
    connection = make_log(path, direction)
    rows = list(random_rows(rng, 400, first_row=3))
    log = LiveLog(path)
    while rows:
        n_new = int(rng.integers(1, 120))
        insert(connection, rows[:n_new])
        rows = rows[n_new:]
        feed = log.feed(log.states())

        frame = om.SQLiteLogReader(path).to_frame()
        numbered, candidates, improved = brute_force(frame, direction)
        best = candidates["fun"].min() if direction == "minimize" else candidates["fun"].max()
        failed = frame[frame["exception"].notna()]
        assert feed.counts == {k: (frame["kind"] == k).sum() for k in feed.counts}
        assert (feed.n_evaluations, feed.n_failed) == (len(frame), len(failed))
        assert feed.last_time == frame["stop_time"].max()
        assert feed.best.fun == best == feed.by_number.values[-1]
        found = candidates[candidates["fun"] == best].iloc[0]
        assert feed.best_params.tolist() == found[["0", "1"]].tolist()
        assert feed.by_time.places == improved["stop_time"].tolist()
        assert feed.by_time.values == improved["fun"].tolist()
        for number, step in feed.steps.items():
            of_step = candidates[candidates["step"] == number]["fun"]
            of_step_best = of_step.min() if direction == "minimize" else of_step.max()
            assert step.n_evaluations == (numbered["step"] == number).sum()
            assert (step.best if step.best is not None else math.nan) == pytest.approx(
                of_step_best, rel=0, nan_ok=True
            )
        assert {f.message for f in feed.failures} <= set(failed["exception"])
        assert len(feed.failures) == min(len(failed), 30)

        stride = feed.points.stride
        assert feed.points.numbers.tolist() == list(range(0, len(numbered), stride))
        assert len(feed.points.numbers) <= 40
        assert len(feed.params_points.numbers) <= 16
        known = set(map(tuple, numbered[["0", "1"]].to_numpy().tolist()))
        assert {tuple(v.tolist()) for v in feed.params_points.vectors} <= known
    connection.close()

    # a feed that begins late numbers evaluations in the order of time
    fresh = LiveLog(path)
    monkeypatch.setattr(feed_module, "_ROWS_PER_LOOK", 10_000)
    feed = fresh.feed(fresh.states())
    expected = numbered.iloc[:: feed.points.stride]
    np.testing.assert_array_equal(feed.points.columns["fun"], expected["fun"].to_numpy())
    assert feed.points.columns["step"].tolist() == expected["step"].tolist()
    vectors = numbered[["0", "1"]].iloc[:: feed.params_points.stride]
    np.testing.assert_array_equal(feed.params_points.vectors, vectors.to_numpy())


def test_steps_that_have_ended_are_told_from_those_that_go_on(path):
    connection = make_log(path)
    insert(connection, [make_row(step, 0, 1.0, 5.0) for step in (1, 2, 3)])
    for step, success in [(1, True), (2, None)]:
        connection.execute(
            "INSERT INTO steps (run_id, step, stop_time, success, message, counts, info, start, "
            "origin) VALUES (1, ?, 6.0, ?, 'over', '{}', '{}', x'', x'')",
            (step, success),
        )
    connection.commit()
    log = LiveLog(path)
    for _ in range(3):
        feed = log.feed(log.states())
    ended = {n: (s.is_finished, s.success) for n, s in feed.steps.items() if n}
    assert ended == {1: (True, True), 2: (True, None), 3: (False, None)}

    # what goes on may still grow, and so may steps that nobody has seen yet
    insert(connection, [make_row(3, 1, 0.5, 7.0), make_row(9, 0, 0.25, 8.0)])
    connection.close()
    feed = log.feed(log.states())
    assert feed.steps[3].n_evaluations == 2
    assert feed.best.fun == 0.25


def test_only_what_is_new_is_read(path, monkeypatch):
    connection = make_log(path)
    insert(connection, [make_row(0, 3 + i, 1.0, 5.0 + i) for i in range(100)])
    n_read = []

    def counting(connection, ranges, limit):
        rows = read_rows(connection, ranges, limit)
        n_read.append(len(rows.id))
        return rows

    read_rows = feed_module.read_rows
    monkeypatch.setattr(feed_module, "read_rows", counting)
    log = LiveLog(path)
    feed = log.feed(log.states())
    version = feed.version
    assert log.feed(log.states()).version == version
    insert(connection, [make_row(0, 103, 0.5, 200.0)])
    connection.close()

    assert log.feed(log.states()).version > version
    assert n_read == [103, 0, 1]


def test_rows_are_found_by_their_keys_and_not_by_a_scan(path):
    connection = make_log(path)
    log = LiveLog(path)
    feed = log.feed(log.states())
    asked = []
    connection.close()

    def ask(session):
        sa.event.listen(
            session, "before_cursor_execute", lambda *event: asked.append((event[2], event[3]))
        )
        feed._look(session)

    feed._store.ask(ask)
    with sqlite3.connect(path) as plain:
        plans = [
            str(plain.execute(f"EXPLAIN QUERY PLAN {statement}", values).fetchall())
            for statement, values in asked
            if "FROM evaluations" in statement
        ]
    plain.close()
    assert plans
    assert all("USING INTEGER PRIMARY KEY" in plan and "SCAN" not in plan for plan in plans)


@pytest.mark.xdist_group("postgres")
def test_feed_of_a_log_in_postgresql(postgres):
    om.minimize(
        lambda x: float(np.abs(x * np.sin(x)).sum()),
        np.array([3.0, 4.0]),
        "scipy_neldermead",
        bounds=om.Bounds(lower=[-10.0, -10.0], upper=[10.0, 10.0]),
        multistart=om.MultistartOptions(n_samples=10, stopping_maxopt=3, seed=0),
        logging=om.PostgresLogOptions(postgres.url()),
    )
    log = LiveLog(postgres.url())
    feed = log.feed(log.states())
    reader = om.PostgresLogReader(postgres.url())
    frame = reader.to_frame()
    assert [s.status for s in log.states()] == ["complete"]
    assert feed.n_evaluations == len(frame)
    assert feed.best.fun == frame["fun"].min()
    assert feed.best_params.tolist() == reader.best().flat_params.tolist()
    assert {s.step: s.is_finished for s in feed.steps.values()} == {
        0: False, 1: True, 2: True, 3: True,
    }  # fmt: skip

    postgres.query(
        "INSERT INTO evaluations SELECT id + 1, run_id, step, row + 1, kind, task, batch, "
        "NULL, start_time, stop_time + 1, 'ValueError: no', traceback, info, violation, params "
        "FROM evaluations WHERE step = 0 ORDER BY id DESC LIMIT 1"
    )
    feed = log.feed(log.states())
    assert feed.n_evaluations == len(frame) + 1
    assert [f.message for f in feed.failures] == ["ValueError: no"]


def test_feed_of_a_log_that_goes_away_and_comes_back(path):
    connection = make_log(path)
    connection.close()
    log = LiveLog(path)
    before = log.feed(log.states())
    n_before = before.n_evaluations
    path.rename(path.with_suffix(".away"))

    with pytest.raises(LogError, match="There is no log"):
        log.states()
    with pytest.raises(LogError, match="There is no log"):
        before.refresh()
    path.with_suffix(".away").rename(path)

    assert log.feed(log.states()) is before
    assert before.n_evaluations == n_before


def test_a_run_that_takes_the_place_of_another_is_not_taken_for_it(path):
    make_log(path).close()
    log = LiveLog(path)
    old = log.feed(log.states())
    path.unlink()
    make_log(path, stopping_maxfun=20).close()

    with pytest.raises(RunReplacedError):
        old.refresh()
    with pytest.raises(RunReplacedError):
        find_again(log.states(), old.state)
    assert log.feed(log.states()).n_evaluations == 20


def test_run_that_is_not_there_is_refused(path):
    make_log(path).close()
    log = LiveLog(path)
    with pytest.raises(LogError, match="There is no run 1 in the log"):
        log.feed(log.states(), 1)


def test_feed_follows_a_run_that_goes_on(path):
    begun, may_end = threading.Event(), threading.Event()

    def criterion(x):
        if x["a"] != 3.0:
            begun.set()
            may_end.wait(10)
        return x["a"] ** 2

    run = threading.Thread(
        target=om.minimize,
        args=(criterion, {"a": 3.0}, "scipy_neldermead"),
        kwargs={"logging": path},
    )
    run.start()
    assert begun.wait(10)
    log = LiveLog(path)
    states = log.states()
    assert [s.status for s in states] == ["running"]
    assert log.feed(states).n_evaluations == 1
    may_end.set()
    run.join()

    states = log.states()
    feed = log.feed(states)
    assert states[0].status == "complete"
    assert feed.n_evaluations == len(om.SQLiteLogReader(path).to_frame())
    assert feed.best_params == pytest.approx([0.0], abs=1e-3)


@pytest.mark.parametrize("sign", [1, -1])
def test_monotone_line_does_not_depend_on_the_order_of_points(sign):
    rng = np.random.default_rng(0)
    places, values = rng.permutation(200).astype(float), rng.normal(size=200)
    at_once, in_parts = Monotone(sign, 1000), Monotone(sign, 1000)
    at_once.add(places, values)
    for part in np.array_split(np.arange(200), 37):
        in_parts.add(places[part], values[part])

    assert (at_once.places, at_once.values) == (in_parts.places, in_parts.values)
    assert at_once.values[-1] == sign * min(sign * values)


def test_monotone_line_is_bounded_and_keeps_its_ends():
    line = Monotone(1, 10)
    for start in range(0, 1000, 7):
        part = np.arange(start, start + 7.0)
        line.add(part, -part)
    assert len(line.places) <= 20
    assert (line.places[0], line.values[-1]) == (0.0, -1000.0)
    assert line.values == [-place for place in line.places]


def test_thinned_rows_are_evenly_spaced_however_they_came():
    rng = np.random.default_rng(0)
    rows = Thinned(10, {"square": float})
    for n in rng.integers(0, 30, size=20):
        numbers = np.arange(rows.n_seen, rows.n_seen + n)
        rows.add({"square": numbers.astype(float) ** 2})
        assert rows.numbers.tolist() == list(range(0, rows.n_seen, rows.stride))
        assert rows.columns["square"].tolist() == [float(n) ** 2 for n in rows.numbers]
        assert len(rows.numbers) <= 10


def test_rate_counts_the_last_seconds_or_more_if_they_are_few():
    fast, slow = Rate(), Rate()
    fast.add(np.arange(0.0, 100.0, 0.01))
    slow.add(np.arange(0.0, 3000.0, 30.0))
    assert fast.per_second(100.0) == pytest.approx(100, rel=0.02)
    assert fast.per_second(105.0) == pytest.approx(50, rel=0.02)
    assert slow.per_second(3000.0) == pytest.approx(1 / 30, rel=0.1)
    assert Rate().per_second(5.0) == 0.0
