"""The page that follows a run: what its server answers, and what a browser makes of it."""

import asyncio
import contextlib
import http.client
import json
import os
import re
import shutil
import socket
import sqlite3
import subprocess
import sys
import time
from importlib import resources
from pathlib import Path
from textwrap import dedent

import numpy as np
import pytest

import optimagic_lite as om
from optimagic_lite.exceptions import LogError, NotAvailableError
from optimagic_lite.serve import Page, serve

pytestmark = pytest.mark.xdist_group("browser")

ROOT = Path(__file__).parents[1]
CHROMIUM = os.environ.get("BROWSER_PATH") or next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)

NAMES = [
    "<img src=x onerror=window.hacked=1>",
    '<a href="javascript:window.hacked=2">link</a>',
    "<b>bold</b> & &lt;i&gt;",
    "%{x} <br> 'quotes' \"double\"",
    "two\nlines \u202e turned </script><script>window.hacked=3</script>",
]
SHOWN = [name.replace("\n", "\\n").replace("\u202e", "\\u202e") for name in NAMES]


def sphere(params):
    return sum(v**2 for v in params.values())


@pytest.fixture
def path(tmp_path):
    return tmp_path / "run.db"


def minimize(path, fun=sphere, params=None, **options):
    options = {"algo_options": {"stopping_maxfun": 40}} | options
    return om.minimize(
        fun, params or {"a": 1.0, "b": 2.0}, "scipy_neldermead", logging=path, **options
    )


@contextlib.contextmanager
def serving(path, port=0):
    page = Page(path, port)
    try:
        yield page
    finally:
        page.stop()


def port_of(page):
    return int(page.url.rstrip("/").rpartition(":")[2])


def get(page, target="/live.json", method="GET", host=None):
    connection = http.client.HTTPConnection("127.0.0.1", port_of(page), timeout=10)
    try:
        connection.request(method, target, headers={"Host": host or f"127.0.0.1:{port_of(page)}"})
        response = connection.getresponse()
        return response, response.read()
    finally:
        connection.close()


def ask(page, **question):
    query = "&".join(f"{k}={v}" for k, v in question.items())
    response, body = get(page, f"/live.json?{query}")
    assert response.status == 200, body

    def refuse(text):
        raise AssertionError(f"{text} is not JSON")

    return json.loads(body, parse_constant=refuse)


# --- answers ----------------------------------------------------------------------------


def test_answer_holds_the_run(path):
    result = minimize(path)
    with serving(path) as page:
        answer = ask(page)

    summary = answer["summary"]
    assert [run["status"] for run in answer["runs"]] == ["complete"] == [summary["status"]]
    assert summary["best"]["fun"] == result.fun
    assert summary["n_evaluations"] == len(result.history)
    assert answer["points"]["fun"] == result.history.fun
    assert answer["params"]["values"] == np.array(result.history.flat_params).T.tolist()
    assert answer["params"]["table"] == {
        "names": ["a", "b"],
        "start": [1.0, 2.0],
        "best": list(result.params.values()),
    }


def test_only_news_are_sent_to_who_knows_the_rest(path):
    minimize(path)
    with serving(path) as page:
        first = ask(page)
        known = {
            "version": first["version"],
            "points": first["points"]["key"],
            "points_last": first["points"]["number"][-1],
            "params": first["params"]["key"],
            "params_last": first["params"]["number"][-1],
        }
        assert set(ask(page, **known)) == {"location", "palette", "runs", "version", "summary"}
        with contextlib.closing(sqlite3.connect(path)) as connection, connection:
            connection.execute(
                "INSERT INTO evaluations SELECT id + 1, run_id, step, row + 1, kind, task, batch, "
                "-1.5, start_time, stop_time + 1, exception, traceback, info, violation, params "
                "FROM evaluations ORDER BY id DESC LIMIT 1"
            )
        news = ask(page, **known)
        assert news["points"]["fun"] == [-1.5]
        assert not news["points"]["is_fresh"]
        assert [len(column) for column in news["params"]["values"]] == [1, 1]
        assert news["summary"]["best"]["fun"] == -1.5

        # another filter, and another run, are sent from their beginning
        other = ask(page, **known, words="B")
        assert other["params"]["is_fresh"]
        assert other["params"]["names"] == ["b"]
        assert len(other["params"]["number"]) == len(first["params"]["number"]) + 1
        minimize(om_extend(path))
        assert ask(page, **known)["points"]["is_fresh"]
        assert not ask(page, **known, run=0)["points"]["is_fresh"]


def om_extend(path):
    return om.SQLiteLogOptions(path, if_database_exists="extend")


def test_points_are_sent_anew_when_they_become_too_many(path, monkeypatch):
    monkeypatch.setattr("optimagic_lite.log.feed._MAX_POINTS", 10)
    minimize(path)
    with serving(path) as page:
        points = ask(page)["points"]
        assert points["stride"] == 4
        assert points["number"] == list(range(0, 40, 4))
        # what was sent before the stride changed is of no use
        old = points["key"].rpartition("/")[0] + "/2"
        assert ask(page, points=old, points_last=38)["points"] == points


def test_values_that_are_not_finite_are_no_trouble(path):
    def criterion(params):
        return np.nan if params["a"] < 0.9 else sphere(params)

    with pytest.warns(UserWarning, match="A user function failed"):
        minimize(path, criterion, error_handling="continue")
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        blob = np.array([np.nan, -np.inf]).tobytes()
        connection.execute("UPDATE evaluations SET params = ? WHERE row = 3", (blob,))
    with serving(path) as page:
        answer = ask(page)
    assert None in answer["points"]["fun"]
    assert [column[3] for column in answer["params"]["values"]] == [None, None]
    assert answer["summary"]["n_failed"] == answer["points"]["fun"].count(None) > 0
    assert answer["failures"][0]["message"] == "value is nan"


def test_log_without_runs_without_rows_and_without_file(path):
    minimize(path)
    with serving(path) as page:
        with contextlib.closing(sqlite3.connect(path)) as connection, connection:
            connection.execute("DELETE FROM evaluations")
        answer = ask(page)
        assert answer["summary"]["best"] is None
        assert answer["points"]["number"] == []
        with contextlib.closing(sqlite3.connect(path)) as connection, connection:
            connection.execute("DELETE FROM runs")
        assert ask(page)["runs"] == []

        path.unlink()
        response, body = get(page)
        assert response.status == 503
        assert "There is no log at" in json.loads(body)["error"]
        minimize(path)
        assert len(ask(page)["points"]["number"]) == 40


# --- safety -----------------------------------------------------------------------------


def test_page_is_served_to_this_machine_only(path):
    minimize(path)
    with serving(path) as page:
        port = port_of(page)
        for host in (f"127.0.0.1:{port}", f"localhost:{port}"):
            assert get(page, "/", host=host)[0].status == 200
        for host in ("evil.example", f"evil.example:{port}", "127.0.0.1", f"127.0.0.1:{port + 1}"):
            for target in ("/", "/live.json", "/page.js"):
                assert get(page, target, host=host)[0].status == 400
        assert page.url.startswith("http://127.0.0.1:")


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "HEAD", "PATCH"])
def test_only_get_is_allowed(path, method):
    minimize(path)
    with serving(path) as page:
        assert get(page, "/live.json", method)[0].status == 405


def test_no_other_file_is_served(path):
    minimize(path)
    paths = [
        "/run.db", "/../run.db", "/static/page.js", "/page.js/../../app.py", "/%2e%2e/app.py",
        "/..%2fapp.py", "//etc/passwd", "/page.js%00", "/app.py", "/\\..\\app.py",
        f"/{path}", f"/%2f{path}",
    ]  # fmt: skip
    with serving(path) as page:
        assert {target: get(page, target)[0].status for target in paths} == dict.fromkeys(
            paths, 404
        )
        for question in ("run=1e9", "run=x", "points_last=", "params_last=1.5"):
            assert get(page, f"/live.json?{question}")[0].status == 400
        assert get(page, "/live.json?run=7")[0].status == 503


def test_every_answer_has_the_headers_that_keep_a_page_safe(path):
    minimize(path)
    with serving(path) as page:
        answers = [get(page, "/"), get(page), get(page, "/none"), get(page, "/", host="x")]
        html = get(page, "/")[1].decode()
    for response, _ in answers:
        policy = response.headers["Content-Security-Policy"]
        assert "default-src 'self'" in policy
        assert "script-src 'self';" in policy
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        assert not [name for name in response.headers if name.lower().startswith("access-control")]
    # nothing on the page comes from elsewhere, and no script stands in it
    assert not re.search(r"(src|href)=\"(?!/|data:)", html)
    assert not re.search(r"<script(?![^>]*\bsrc=)|\bon\w+=", html)


def test_scripts_never_make_html_of_texts():
    for file in resources.files("optimagic_lite.serve").joinpath("static").iterdir():
        if file.name.endswith(".js"):
            text = file.read_text(encoding="utf-8")
            assert not re.search(r"innerHTML|outerHTML|insertAdjacent|document\.write|eval\(", text)


# --- starting and ending ----------------------------------------------------------------


def test_port_that_is_taken_and_log_that_is_missing(path):
    with pytest.raises(LogError, match="There is no log at"):
        serve(path, open_browser=False)
    minimize(path)
    with (
        socket.create_server(("127.0.0.1", 0)) as taken,
        pytest.raises(NotAvailableError, match="Choose another port"),
    ):
        serve(path, port=taken.getsockname()[1], open_browser=False)
    with pytest.raises(NotAvailableError, match="99999"):
        serve(path, port=99_999, open_browser=False)


def test_serve_opens_the_browser_and_ends_by_an_interrupt(path, capsys, monkeypatch):
    minimize(path)
    opened = []
    monkeypatch.setattr("webbrowser.open", opened.append)

    def interrupt(page):
        raise KeyboardInterrupt

    monkeypatch.setattr(Page, "wait", interrupt)
    serve(path, port=0)

    (url,) = opened
    assert f"at {url} until Ctrl-C" in capsys.readouterr().out
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", int(url.rstrip("/").rpartition(":")[2])))


# --- in the browser ---------------------------------------------------------------------


class Tab:
    """A page in a headless Chromium, driven by the DevTools protocol."""

    def __init__(self, runner, browser):
        self._run = runner.run
        self._tab = self._run(browser.create_tab(""))
        self.complaints = []
        self._run(self._listen())

    async def _listen(self):
        async def note(message):
            self.complaints.append(json.dumps(message["params"]))

        for event in ("Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded"):
            self._tab.subscribe(event, note)
        for domain in ("Runtime", "Log", "Page"):
            await self._tab.send_command(f"{domain}.enable")

    def open(self, url):
        self._run(self._tab.send_command("Page.navigate", {"url": url}))

    def run(self, script):
        """Return the value of an expression in the page."""
        arguments = {"expression": script, "returnByValue": True}
        answer = self._run(self._tab.send_command("Runtime.evaluate", arguments))["result"]
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def wait_for(self, script, *, hurry=False, seconds=20.0):
        """Wait until an expression is true; returns its value.

        With ``hurry`` the page does not wait for a second before it asks again.
        """
        give_up = time.monotonic() + seconds
        while not (value := self.run(script)):
            if hurry:
                self.run("askNow()")
            assert time.monotonic() < give_up, f"{script}: {self.run('document.body.innerText')}"
            time.sleep(0.05)
        return value

    def text(self, selector):
        return self.run(f"document.querySelector({json.dumps(selector)}).textContent")

    def texts(self, selector):
        nodes = f"[...document.querySelectorAll({json.dumps(selector)})]"
        return self.run(f"{nodes}.map((node) => node.textContent)")


@pytest.fixture(scope="module")
def chromium():
    if CHROMIUM is None:
        reason = "no Chromium: install it, or say where it is with BROWSER_PATH"
        # where all tests are meant to run, none may be left out
        in_ci = os.environ.get("CI") or os.environ.get("OPTIMAGIC_LITE_CI")
        (pytest.fail if in_ci else pytest.skip)(reason)
    from choreographer import Browser

    async def start():
        browser = Browser(path=CHROMIUM, headless=True, enable_sandbox=False)
        await browser.open()
        return browser

    with asyncio.Runner() as runner:
        browser = runner.run(start())
        yield runner, browser
        runner.run(browser.close())


@pytest.fixture
def tab(chromium):
    tab = Tab(*chromium)
    yield tab
    hacked = tab.run("window.hacked")
    tab.open("about:blank")
    assert hacked is None
    # a server that is away is all that a browser may complain about
    assert [c for c in tab.complaints if "ERR_CONNECTION_REFUSED" not in c and "503" not in c] == []


# one of each parameter
POINTS = [{"curveNumber": i, "pointNumber": 1} for i in range(len(NAMES))]
DRAWN = "document.querySelector('#params-plot .main-svg') && !byId('content').hidden"
EVALUATIONS = "Number(byId('evaluations').textContent.replaceAll(',', ''))"


def is_log(path):
    try:
        return om.SQLiteLogReader(path).n_runs > 0
    except LogError:
        return False


@pytest.fixture
def run_that_goes_on(tmp_path, path):
    """A slow run in another process; it hurries when a file "hurry" appears."""
    code = f"""
        import time, warnings
        from pathlib import Path
        import optimagic_lite as om

        warnings.simplefilter("ignore")
        n = 0

        def criterion(params):
            global n
            n += 1
            if not Path("hurry").exists():
                time.sleep(0.02)
            if n % 7 == 5:
                raise ValueError({NAMES[0]!r} + " at {NAMES[4]!r}")
            return sum((v - 1) ** 2 for v in params.values())

        start = dict.fromkeys({NAMES!r}, 0.5)
        om.minimize(criterion, start, "scipy_neldermead", logging="run.db",
                    error_handling="continue", algo_options={{"stopping_maxfun": 400}})
    """
    code = dedent(code).replace(f'" at {NAMES[4]!r}"', repr(f" at {NAMES[4]}"))
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    process = subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path, env=environment)
    give_up = time.monotonic() + 60
    while not is_log(path):
        assert process.poll() is None
        assert time.monotonic() < give_up
        time.sleep(0.05)
    yield process
    process.kill()
    process.wait()


def test_page_follows_a_hostile_run_to_its_end_and_through_a_restart(
    run_that_goes_on, path, tmp_path, tab
):
    with serving(path) as page:
        tab.open(page.url)
        tab.wait_for(DRAWN)
        assert tab.text("#status") == "running"
        first = tab.run(EVALUATIONS)
        tab.wait_for(f"{EVALUATIONS} > {first} + 10")
        tab.wait_for("byId('failures').children.length", hurry=True)

        # texts of the log are shown as they are, and nothing else is made of them
        assert tab.texts("#legend bdi") == SHOWN
        assert tab.texts("#best-params bdi") == SHOWN
        assert tab.text("#failures bdi") == f"ValueError: {SHOWN[0]} at {SHOWN[4]}"
        tab.run(f"Plotly.Fx.hover('params-plot', {json.dumps(POINTS)})")
        labels = "[...document.querySelectorAll('.hoverlayer text')].map((t) => t.textContent)"
        hovered = tab.wait_for(f"{labels}.join(' ')")
        for part in ("<img src=x onerror=", "<b>bold</b> & &lt;i&gt;", "%{x} <br> 'quotes'"):
            assert part in hovered
        assert (
            tab.run("document.querySelectorAll('img, iframe, #content a, #content script').length")
            == 0
        )
        port = port_of(page)

    tab.wait_for("byId('banner').textContent.includes('does not answer')", hurry=True)
    with serving(path, port):
        tab.wait_for("byId('banner').hidden", hurry=True)
        (tmp_path / "hurry").touch()
        tab.wait_for("byId('status').textContent === 'complete'", hurry=True)
        assert tab.run(EVALUATIONS) == 400
        assert tab.run("data.points.number.length") == 400
        best = om.SQLiteLogReader(path).best().fun
        assert float(tab.text("#best")) == pytest.approx(best, rel=1e-4)
        assert tab.run("data.best_so_far.evaluations[1].at(-1)") == best


def test_page_survives_a_log_that_goes_away_and_follows_a_new_run(path, tab):
    minimize(path)
    with serving(path) as page:
        tab.open(page.url)
        tab.wait_for(DRAWN)
        path.unlink()
        tab.wait_for("byId('banner').textContent.includes('There is no log at')", hurry=True)
        assert tab.run(EVALUATIONS) == 40
        minimize(path, algo_options={"stopping_maxfun": 30})
        tab.wait_for(f"byId('banner').hidden && {EVALUATIONS} === 30", hurry=True)
        minimize(om_extend(path), params={"c": 3.0}, algo_options={"stopping_maxfun": 20})
        tab.wait_for(f"{EVALUATIONS} === 20", hurry=True)
        assert tab.texts("#legend bdi") == ["c"]
        assert tab.run("data.points.number.length") == 20

        # a run that was chosen stays
        tab.run("byId('run').value = '0'; byId('run').dispatchEvent(new Event('change'))")
        tab.wait_for(f"{EVALUATIONS} === 30")
        assert tab.texts("#legend bdi") == ["a", "b"]


def test_page_has_switches_a_filter_and_rests_when_nobody_looks(path, tab):
    om.minimize(
        lambda x: float(np.abs(x * np.sin(x)).sum()),
        np.full(30, 3.0),
        "scipy_lbfgsb",
        bounds=om.Bounds(lower=np.full(30, -10.0), upper=np.full(30, 10.0)),
        multistart=om.MultistartOptions(n_samples=20, stopping_maxopt=2, seed=0),
        algo_options={"stopping_maxfun": 5},
        logging=path,
    )
    with serving(path) as page:
        tab.open(page.url)
        tab.wait_for(DRAWN)
        assert len(tab.texts("#legend bdi")) == 20
        assert "first 20 of 30" in tab.text("#params-note")
        assert len(tab.texts("#steps tr")) == 2
        assert tab.text("#steps-facts") == "2 of 2 finished"

        tab.run("byId('x-time').click(); byId('y-log').click()")
        layout = "byId('criterion-plot').layout"
        assert tab.run(f"{layout}.xaxis.title.text") == "Seconds since the start of the run"
        assert tab.run(f"{layout}.yaxis.type") == "log"
        tab.run("byId('words').value = '29'; byId('words').dispatchEvent(new Event('input'))")
        tab.wait_for("byId('legend').children.length === 1", hurry=True)
        assert tab.texts("#best-params bdi") == ["29"]

        tab.run("Object.defineProperty(document, 'hidden', { value: true, configurable: true })")
        requests = "performance.getEntriesByType('resource').map((entry) => entry.name)"
        count = f"{requests}.filter((name) => name.includes('live.json')).length"
        # an answer may be on its way
        time.sleep(0.2)
        n_asked = tab.run(count)
        time.sleep(1.3)
        assert tab.run(count) == n_asked
        tab.run("delete document.hidden; document.dispatchEvent(new Event('visibilitychange'))")
        tab.wait_for(f"{count} > {n_asked}")
