"""A log in PostgreSQL: what can happen to a server, and what its users may do."""

import contextlib
import os
import pickle
import sys
import time
import traceback

import numpy as np
import pytest

import optimagic_lite as om
from optimagic_lite.exceptions import LogError, LogMissingError, NotInstalledError
from optimagic_lite.log import postgres as module
from optimagic_lite.log.reader import open_reader
from optimagic_lite.log.store import make_store
from optimagic_lite.log.writer import LogWriter, RunRecord
from optimagic_lite.log_options import PostgresLogOptions

pytest_plugins = ["postgres"]
pytestmark = pytest.mark.xdist_group("postgres")

SECRET = "se(ret"
IS_SECRET = ("se(ret", "se%28ret")
OURS = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'optimagic_lite'"


@pytest.fixture
def url(postgres):
    return postgres.url()


@pytest.fixture
def impatient(monkeypatch):
    """What is kept is tried again after a moment, and nobody waits long for a server."""
    monkeypatch.setattr("optimagic_lite.log.sink._RETRY_INTERVAL", 0.02)
    monkeypatch.setattr("optimagic_lite.log.sink._RETRY_SHARE", 1.0)
    monkeypatch.setattr("optimagic_lite.log.writer.PATIENCE", 0.2)


def open_log(url, **options):
    record = RunRecord(
        "minimize", "toy", {}, ["0", "1"], '{"type": "array", "shape": [2]}',
        np.zeros(2), {"kind": "none", "reason": "toy"}, {},
    )  # fmt: skip
    resume = options.pop("resume", None)
    return LogWriter(PostgresLogOptions(url, **options), record, resume)


def write(writer, values):
    for value in values:
        writer.rows.write(np.full(2, value), value, 0, 1, "fun", "path", 0)


def finish(writer):
    return writer.finish("complete", success=True, message=None, fun=0.0)


def minimize(fun, url, **changes):
    """Minimize, with some 90 evaluations, all of which are in the history."""
    arguments = {"algorithm": "scipy_neldermead", "logging": url}
    return om.minimize(fun, np.array([1.0, 2.0]), **arguments | changes)


def sphere_that(events):
    """Return a criterion that calls the function of ``events`` at the number of an evaluation."""
    n_calls = 0

    def sphere(x):
        nonlocal n_calls
        n_calls += 1
        events.get(n_calls, lambda: None)()
        return (x**2).sum()

    return sphere


def eventually(find, expected):
    """Whether something is found before long; a server needs a moment to see that one is gone."""
    give_up = time.monotonic() + 10
    while (found := find()) != expected and time.monotonic() < give_up:
        time.sleep(0.01)
    return found == expected


def message_of(error):
    """Return all that a user is shown, and check that no password is in it."""
    text = "".join(traceback.format_exception(error))
    assert not any(secret in text for secret in IS_SECRET)
    return str(error)


# --- a server that goes away ------------------------------------------------------------


@pytest.mark.usefixtures("impatient")
def test_no_row_is_lost_or_doubled_if_the_server_dies_and_comes_back(postgres, url):
    statuses = []

    def look_from_elsewhere():
        postgres.query("UPDATE runs SET host = 'elsewhere'")
        statuses.extend(open_reader(url).runs()["status"])

    # the end of what it had is not on its disk yet: it is sent again
    events = {30: postgres.stop, 50: postgres.start, 80: look_from_elsewhere}
    result = minimize(sphere_that(events), url)

    assert len(result.history) > 80
    assert result.logger.read_history().fun == result.history.fun
    assert len(result.logger.to_frame()) == len(result.history)
    assert statuses == ["running"]
    assert result.logger.runs()["status"].tolist() == ["complete"]


@pytest.mark.usefixtures("impatient")
def test_no_row_is_lost_if_a_connection_is_cut(postgres, url):
    cut = OURS.replace("count(*)", "pg_terminate_backend(pid)")
    result = minimize(sphere_that({30: lambda: postgres.query(cut)}), url)
    assert result.logger.read_history().fun == result.history.fun


@pytest.mark.usefixtures("impatient")
def test_a_run_outlives_its_server_and_is_all_in_a_file(postgres, url, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.warns(UserWarning, match=r"could not be written to the end.*spilled\.db") as caught:
        result = minimize(sphere_that({30: postgres.stop}), url)

    assert result.success
    assert result.log_path == tmp_path / "optimagic_lite.spilled.db"
    assert str(result.log_path) in str(caught[0].message)
    assert not any(secret in str(caught[0].message) for secret in IS_SECRET)
    assert result.logger.read_history().fun == result.history.fun
    assert result.logger.runs()["status"].tolist() == ["complete"]


@pytest.mark.usefixtures("impatient")
def test_what_local_optimisations_could_not_write_is_in_the_file(
    postgres, url, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    writer = open_log(url)
    write(writer, [1.0])
    with writer.steps().open(1) as (rows, kept):
        rows.write(np.zeros(2), 2.0, 0, 1, "fun", "start", 0)
        postgres.stop()
        for value in (3.0, 4.0):
            rows.write(np.zeros(2), value, 0, 1, "fun", "path", 1)
    writer.add(kept)
    assert "lacks what local optimisations wrote before" in finish(writer)

    frame = open_reader(writer.place[0]).to_frame()
    assert frame[["step", "fun"]].to_numpy().tolist() == [[0, 1.0], [1, 3.0], [1, 4.0]]


@pytest.mark.usefixtures("impatient")
def test_a_log_that_is_replaced_takes_no_rows_of_a_run_before(url, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    first = open_log(url)
    write(first, [1.0, 2.0])
    second = open_log(url, if_database_exists="replace")
    write(second, [7.0])
    write(first, [3.0])
    assert "spilled" in finish(first)
    assert finish(second) is None

    assert open_reader(url).read_history().fun == [7.0]
    assert open_reader(url).n_runs == 1
    assert open_reader(first.place[0]).read_history().fun == [1.0, 2.0, 3.0]


# --- several machines -------------------------------------------------------------------


def test_a_run_on_another_machine_lives_as_long_as_its_connection(postgres, url):
    writer = open_log(url)
    postgres.query("UPDATE runs SET host = 'elsewhere'")
    assert open_reader(url).runs()["status"].tolist() == ["running"]
    with pytest.raises(LogError, match=r"still going on, in process \d+ on elsewhere"):
        open_log(url, resume=writer.run_id)

    writer._sink.connection.close()
    assert eventually(lambda: open_reader(url).runs()["status"].tolist(), ["died"])
    again = open_log(url, resume=writer.run_id)
    postgres.query("UPDATE runs SET host = 'elsewhere'")
    assert open_reader(url).runs()["status"].tolist() == ["running"]
    finish(again)


def test_local_optimisations_in_other_processes_write_by_themselves(postgres, url, monkeypatch):
    carried = []
    add = LogWriter.add

    def add_and_tell(self, rows):
        carried.extend(rows)
        add(self, rows)

    monkeypatch.setattr(LogWriter, "add", add_and_tell)
    main = os.getpid()

    def criterion(x):
        # a value that tells where it was computed
        return (x**2).sum() + 100.0 * (os.getpid() != main)

    result = minimize(
        criterion,
        url,
        bounds=om.Bounds(lower=np.full(2, -3.0), upper=np.full(2, 3.0)),
        algorithm="scipy_lbfgsb",
        multistart=om.MultistartOptions(
            n_samples=4, stopping_maxopt=2, seed=0, n_cores=2, batch_size=2,
            convergence_max_discoveries=5,
        ),
    )  # fmt: skip

    frame = result.logger.to_frame()
    assert frame.loc[frame["step"] > 0, "fun"].min() >= 100
    assert frame["step"].max() == 2
    assert carried == []
    assert eventually(lambda: postgres.query(OURS), [(0,)])


def test_a_process_without_the_log_hands_its_rows_back(url, monkeypatch):
    writer = open_log(url)
    with monkeypatch.context() as elsewhere:
        elsewhere.setitem(sys.modules, "psycopg", None)
        with writer.steps().open(1) as (rows, kept):
            rows.write(np.zeros(2), 1.0, 0, 1, "fun", "start", 0)
        assert len(kept) == 1
    writer.add(kept)
    finish(writer)
    assert open_reader(url).to_frame()[["step", "fun"]].to_numpy().tolist() == [[1, 1.0]]


def test_readers_and_runs_leave_no_connection(postgres, url):
    result = minimize(sphere_that({}), url)
    result.logger.runs()
    with pytest.raises(ZeroDivisionError):
        result.logger.query(lambda connection: 1 / 0)
    with pytest.raises(LogError):
        open_log(url, if_database_exists="raise")
    assert eventually(lambda: postgres.query(OURS), [(0,)])


@pytest.mark.parametrize(
    ("durability", "setting"), [("process", "off"), ("power", "on"), (None, "off")]
)
def test_durability_decides_what_a_commit_waits_for(url, durability, setting):
    store = make_store(PostgresLogOptions(url, durability=durability))
    with contextlib.closing(store.connect(1.0)) as connection:
        assert connection.execute("SHOW synchronous_commit").fetchone() == (setting,)


def test_the_server_soon_misses_a_machine_that_vanished(url):
    with contextlib.closing(make_store(PostgresLogOptions(url)).connect(1.0)) as connection:
        waits = [
            int(connection.execute(f"SHOW tcp_keepalives_{name}").fetchone()[0])
            for name in ("idle", "interval", "count")
        ]
    assert waits[0] + waits[1] * waits[2] == 60


# --- what is refused --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"password": "wr(ng"}, "password authentication failed"),
        ({"password": None}, "no password supplied"),
        ({"user": "nobody"}, "password authentication failed"),
        ({"database": "nowhere"}, 'database "nowhere" does not exist'),
    ],
)
def test_a_refused_connection_says_why_before_the_first_evaluation(postgres, change, reason):
    url = postgres.url(**change)
    with pytest.raises(LogError, match=rf"(?s){reason}.*See that") as caught:
        minimize(lambda x: 1 / 0, url)
    assert "%28" not in message_of(caught.value)
    with pytest.raises(LogError, match=reason):
        open_reader(url)


def test_a_server_that_is_not_there_is_named(postgres):
    postgres.stop()
    here = f"127.0.0.1:{postgres.port}"
    for host in (here, "nowhere.invalid"):
        with pytest.raises(LogError, match=rf"{host}/log cannot be reached") as caught:
            open_reader(postgres.url().replace(here, host))
        message_of(caught.value)


@pytest.mark.parametrize("scheme", ["mysql", "postgres", "postgresql+psycopg2", "sqlite"])
def test_other_databases_are_refused(scheme):
    url = f"{scheme}://maria:{SECRET}@host/db"
    for attempt in (PostgresLogOptions, open_reader, lambda u: minimize(abs, u)):
        with pytest.raises(LogError, match=r"begins with .*Use 'postgresql\+psycopg://") as caught:
            attempt(url)
        message_of(caught.value)


@pytest.mark.parametrize(
    "secret", ["{}@home", "{}/1", "1/{}", "1#{}", "1?{}", "[{}", "{}:1/@", "1/{}@1"]
)
def test_a_password_that_breaks_a_url_is_not_shown(secret):
    with pytest.raises(LogError, match=r"urllib\.parse\.quote") as caught:
        PostgresLogOptions(f"postgresql://maria:{secret.format(SECRET)}@host/db")
    message_of(caught.value)


def test_a_url_must_be_a_text():
    with pytest.raises(LogError, match="must be a text, not of type int"):
        PostgresLogOptions(1)


def test_psycopg_is_asked_for(monkeypatch):
    monkeypatch.setitem(sys.modules, "psycopg", None)
    url = f"postgresql://maria:{SECRET}@localhost/log"
    for attempt in (open_reader, lambda u: minimize(lambda x: 1 / 0, u)):
        with pytest.raises(NotInstalledError, match=r"psycopg.*optimagic_lite\[postgres\]"):
            attempt(url)


# --- what a user may do -----------------------------------------------------------------


@pytest.fixture
def anna(postgres):
    """The URL of somebody who may do nothing but connect."""
    postgres.query("DROP ROLE IF EXISTS anna")
    postgres.query("CREATE ROLE anna LOGIN PASSWORD 'se(ret'")
    yield postgres.url(user="anna")
    postgres.query("DROP OWNED BY anna")
    postgres.query("DROP ROLE anna")


def test_a_user_needs_the_right_to_make_a_schema(postgres, anna):
    with pytest.raises(LogError, match=r"may not add a run.*CREATE SCHEMA") as caught:
        minimize(lambda x: 1 / 0, anna)
    message_of(caught.value)
    with pytest.raises(LogMissingError):
        open_reader(anna)

    # either way out that the message names
    postgres.query("CREATE SCHEMA optimagic_lite AUTHORIZATION anna")
    minimize(sphere_that({}), anna)
    minimize(sphere_that({}), om.PostgresLogOptions(anna, if_database_exists="replace"))
    assert open_reader(anna).n_runs == 1
    postgres.query("DROP SCHEMA optimagic_lite CASCADE")
    postgres.query("GRANT CREATE ON DATABASE log TO anna")
    minimize(sphere_that({}), anna)


def test_a_user_may_read_only_or_add_runs_too(postgres, url, anna):
    minimize(sphere_that({}), url)
    with pytest.raises(LogError, match=r"may not use the log.*GRANT USAGE ON SCHEMA"):
        open_reader(anna)
    postgres.query("GRANT USAGE ON SCHEMA optimagic_lite TO anna")
    postgres.query("GRANT SELECT ON ALL TABLES IN SCHEMA optimagic_lite TO anna")
    assert open_reader(anna).runs()["status"].tolist() == ["complete"]
    with pytest.raises(LogError, match=r"may not add a run.*GRANT SELECT, INSERT"):
        minimize(lambda x: 1 / 0, anna)
    postgres.query("GRANT INSERT, UPDATE ON ALL TABLES IN SCHEMA optimagic_lite TO anna")
    postgres.query("GRANT USAGE ON ALL SEQUENCES IN SCHEMA optimagic_lite TO anna")
    assert minimize(sphere_that({}), anna).log_run == 1


# --- passwords --------------------------------------------------------------------------


def test_no_password_is_shown(url):
    result = minimize(sphere_that({}), url)
    options = om.PostgresLogOptions(url, durability="power")
    shown = [
        result.log_path, repr(result.logger), repr(options), str(options), result.logger.location,
        repr(make_store(options)), pickle.dumps(result).decode("latin-1"), repr(result),
        repr(om.PostgresLogOptions("postgresql:///log?host=h&password=se(ret&sslmode=require")),
    ]  # fmt: skip
    assert not any(secret in text for secret in IS_SECRET for text in shown)
    assert "maria:***@127.0.0.1" in repr(options)


def test_a_hidden_password_is_known_where_it_was_given_and_asked_for_elsewhere(url, monkeypatch):
    result = pickle.loads(pickle.dumps(minimize(sphere_that({}), url)))
    assert result.logger.n_runs == 1
    monkeypatch.setattr(module, "_given", {})
    with pytest.raises(LogError, match=r"password .* is hidden.*~/\.pgpass"):
        _ = result.logger


def test_a_password_may_be_left_out(postgres, monkeypatch):
    monkeypatch.setenv("PGPASSWORD", SECRET)
    result = minimize(sphere_that({}), postgres.url(password=None))
    monkeypatch.setattr(module, "_given", {})
    assert result.logger.n_runs == 1
