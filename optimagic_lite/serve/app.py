"""The web application behind the page: few fixed routes, for this machine only."""

from __future__ import annotations

import importlib.util
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from optimagic_lite.cli.text import safe
from optimagic_lite.exceptions import OptimagicError
from optimagic_lite.live import LiveLog
from optimagic_lite.log.run_states import find_run
from optimagic_lite.plots.style import DEFAULT_PALETTE
from optimagic_lite.serve.payload import Known, feed_json, run_json

_STATIC = Path(__file__).parent / "static"
_LONGEST_FILTER = 200

_HEADERS = {
    # plotly.js writes style elements; nothing on the page comes from anywhere else
    "Content-Security-Policy": (
        "default-src 'self'; script-src 'self'; style-src 'self' 'unsafe-inline'; "
        "img-src 'self' data: blob:; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'; object-src 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


def make_app(log: LiveLog, port: int) -> ASGIApp:
    """Return the application.

    Args:
        log: What it shows.
        port: Where it is served: requests to any other address are refused.
    """
    files = {
        "/": _STATIC / "index.html",
        "/style.css": _STATIC / "style.css",
        "/page.js": _STATIC / "page.js",
        "/plots.js": _STATIC / "plots.js",
        "/plotly.min.js": _plotly(),
    }
    routes = [Route(path, _sender(file)) for path, file in files.items()]
    return _Guard(Starlette(routes=[*routes, Route("/live.json", _answerer(log))]), port)


def _plotly() -> Path:
    package = importlib.util.find_spec("plotly")
    assert package is not None
    assert package.origin is not None
    return Path(package.origin).parent / "package_data" / "plotly.min.js"


def _sender(file: Path) -> Any:
    def send(request: Request) -> Response:
        return FileResponse(file)

    return send


def _answerer(log: LiveLog) -> Any:
    """Return what answers the question that a page asks once a second."""
    lock = threading.Lock()

    def answer(request: Request) -> Response:
        try:
            run, known = _question(request.query_params)
        except ValueError:
            return PlainTextResponse("The question is malformed.", 400)
        with lock:
            content: dict[str, Any] = {
                "location": safe(log.location),
                "palette": DEFAULT_PALETTE,
            }
            try:
                states = log.states()
                content["runs"] = [run_json(state) for state in states]
                if states:
                    feed = log.feed(states, run)
                    content |= feed_json(find_run(states, run, log.location), feed, known)
            except OptimagicError as error:
                return JSONResponse({"error": safe(str(error))}, 503)
        return JSONResponse(content)

    return answer


def _question(asked: Mapping[str, str]) -> tuple[int, Known]:
    """Return which run a page shows, and what it has of it."""
    known = Known(
        asked.get("version", ""),
        (asked.get("points", ""), int(asked.get("points_last", "-1"))),
        (asked.get("params", ""), int(asked.get("params_last", "-1"))),
        asked.get("words", "")[:_LONGEST_FILTER],
    )
    return int(asked.get("run", "-1")), known


class _Guard:
    """Refuse what does not come from a page of this server, and send headers with every answer.

    A page of a stranger can make a browser ask this server: under a name of its own that leads
    here, then the header Host gives it away; or without seeing the answer, which does no harm.
    """

    def __init__(self, app: ASGIApp, port: int) -> None:
        self._app = app
        self._port = port

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            return

        async def send_more(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(_HEADERS)
            await send(message)

        await (self._refusal(scope) or self._app)(scope, receive, send_more)

    def _refusal(self, scope: Scope) -> Response | None:
        if scope["method"] != "GET":
            return PlainTextResponse("Only GET is allowed.", 405)
        hosts = [f"{name}:{self._port}" for name in ("127.0.0.1", "localhost")]
        if Headers(scope=scope).get("host") not in hosts:
            address = f"http://{hosts[0]}"
            return PlainTextResponse(f"This page has one address only: {address}", 400)
        return None
