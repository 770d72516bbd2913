"""A page in the browser that shows the runs of a log while they go on."""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import threading
import webbrowser
from pathlib import Path

from optimagic_lite.cli.text import safe
from optimagic_lite.exceptions import NotAvailableError, NotInstalledError
from optimagic_lite.live import LiveLog

_HOST = "127.0.0.1"
_PATIENCE = 5.0  # seconds for answers that are on their way at the end


class Page:
    """A page that is being served, by a thread of its own.

    Args:
        location: File or URL of the log.
        port: Where to serve the page; 0 takes any port that is free.

    Attributes:
        location: Where the log is, for people.
        url: Address of the page.

    Raises:
        LogError: If there is no log.
        NotInstalledError: If Starlette or uvicorn are not installed.
        NotAvailableError: If the port is taken.
    """

    def __init__(self, location: str | Path, port: int) -> None:
        try:
            import uvicorn

            from optimagic_lite.serve.app import make_app
        except ImportError as error:
            raise NotInstalledError(
                "The page needs the packages starlette and uvicorn: "
                "pip install 'optimagic_lite[serve]'."
            ) from error
        log = LiveLog(location)
        listening = _listen(port)
        port = listening.getsockname()[1]
        self.location = safe(log.location)
        self.url = f"http://{_HOST}:{port}/"
        config = uvicorn.Config(
            make_app(log, port), log_level="warning", access_log=False, lifespan="off",
            ws="none", server_header=False, timeout_graceful_shutdown=int(_PATIENCE),
        )  # fmt: skip
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(
            target=self._server.run, kwargs={"sockets": [listening]}, daemon=True
        )
        self._thread.start()

    def wait(self) -> None:
        """Wait until the page is served no more."""
        while self._thread.is_alive():
            # a wait without end could not be interrupted everywhere
            self._thread.join(0.5)

    def stop(self) -> None:
        """Serve the page no more."""
        self._server.should_exit = True
        self._thread.join()


def _listen(port: int) -> socket.socket:
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    if os.name == "posix":
        # otherwise a port is blocked for a minute after its last use
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((_HOST, port))
        listening.listen()
    except (OSError, OverflowError) as error:
        listening.close()
        raise NotAvailableError(
            f"The page cannot be served at port {port}: {error}. Choose another port, "
            "or port=0 for any that is free."
        ) from error
    return listening


def serve(location: str | Path, port: int = 8765, open_browser: bool = True) -> None:
    """Show the runs of a log in the browser until Ctrl-C is pressed.

    The page follows the newest run, or the one that is chosen in it. It can be reached from this
    machine only. The log is only read.

    Args:
        location: File or URL of the log.
        port: Where to serve the page; 0 takes any port that is free.
        open_browser: Whether to open the page in the browser.

    Raises:
        LogError: If there is no log.
        NotInstalledError: If Starlette or uvicorn are not installed.
        NotAvailableError: If the port is taken.

    Example:
        >>> from optimagic_lite.serve import serve
        >>> serve("run.db", port=8765)  # doctest: +SKIP
        Serving run.db at http://127.0.0.1:8765/ until Ctrl-C is pressed.
    """
    page = Page(location, port)
    sys.stdout.write(f"Serving {page.location} at {page.url} until Ctrl-C is pressed.\n")
    sys.stdout.flush()
    with contextlib.suppress(KeyboardInterrupt):
        if open_browser:
            webbrowser.open(page.url)
        page.wait()
    page.stop()
