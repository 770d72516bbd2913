"""A PostgreSQL server of our own for tests: `pytest_plugins = ["postgres"]` gives the fixtures.

Each process of pytest starts one when it needs it, in about two seconds. Tests that use it are of
the xdist group "postgres", so that one process does.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
import pytest

# set by .ci/run, where a server that is missing is a failure
CI_VARIABLE = "OPTIMAGIC_LITE_CI"
USER, PASSWORD = "maria", "se(ret"
TIMEOUT = 30.0


def find_programs() -> Path | None:
    """Return the folder of initdb and postgres; Debian has it apart from other programs."""
    found = shutil.which("initdb")
    folders = [Path(found).parent] if found else []
    folders += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return next((f for f in folders if (f / "initdb").exists() and (f / "postgres").exists()), None)


def find_port() -> int:
    """Return a port that is free, and that the system gives to no connection meanwhile."""
    for port in random.sample(range(20_000, 30_000), 100):
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            return port
    raise OSError("no port is free")


@dataclass
class Server:
    """A server that only this machine reaches, with a user that may do everything.

    It needs passwords, as others do. It does not wait for the disk, and so it must not be used to
    learn what a power failure destroys.
    """

    programs: Path
    folder: Path
    port: int = 0
    process: subprocess.Popen[bytes] | None = None
    _as_user: dict[str, Any] = field(default_factory=dict)

    def make(self) -> None:
        """Make its files."""
        if os.getuid() == 0:
            # it refuses to be run by root
            nobody = pwd.getpwnam("nobody")
            self._as_user = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
            os.chown(self.folder, nobody.pw_uid, nobody.pw_gid)
        password = self.folder / "password"
        password.write_text(PASSWORD)
        password.chmod(0o644)
        self._run(
            "initdb", "--username", USER, "--pwfile", str(password), "--auth", "scram-sha-256",
            "--encoding", "UTF8", "--no-locale", "--no-sync", "--pgdata", str(self.folder / "data"),
        )  # fmt: skip
        self.port = find_port()

    def start(self) -> None:
        """Start it, and wait until it answers."""
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": self.port,
            "unix_socket_directories": "",
            "fsync": "off",
            "full_page_writes": "off",
            "autovacuum": "off",
            "wal_level": "minimal",
            "max_wal_senders": "0",
            "jit": "off",
            "shared_buffers": "16MB",
            "max_connections": "40",
        }
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        with (self.folder / "server.log").open("ab") as log:
            self.process = subprocess.Popen(
                [self.programs / "postgres", "-D", self.folder / "data", *options],
                cwd=self.folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True, **self._as_user,
            )  # fmt: skip
        give_up = time.monotonic() + TIMEOUT
        while True:
            try:
                self.connect("postgres").close()
            except psycopg.OperationalError:
                assert self.process.poll() is None, (self.folder / "server.log").read_text()
                assert time.monotonic() < give_up, (self.folder / "server.log").read_text()
                time.sleep(0.02)
            else:
                return

    def stop(self, how: signal.Signals = signal.SIGQUIT) -> None:
        """Stop it: at once and without a word (SIGQUIT), or after its connections (SIGINT)."""
        if self.process is not None:
            self.process.send_signal(how)
            self.process.wait(TIMEOUT)
            self.process = None

    def url(self, database: str = "log", user: str = USER, password: str | None = PASSWORD) -> str:
        """Return the URL of a database."""
        # the parenthesis must be written so in a URL
        secret = "" if password is None else ":" + password.replace("(", "%28")
        return f"postgresql+psycopg://{user}{secret}@127.0.0.1:{self.port}/{database}"

    def connect(self, database: str = "log") -> psycopg.Connection[Any]:
        """Connect as the user that may do everything."""
        return psycopg.connect(
            host="127.0.0.1", port=self.port, user=USER, password=PASSWORD, dbname=database,
            autocommit=True, connect_timeout=5,
        )  # fmt: skip

    def query(self, sql: str, database: str = "log") -> list[tuple[Any, ...]]:
        """Run a statement and return what it answers."""
        with contextlib.closing(self.connect(database)) as connection:
            cursor = connection.execute("SET search_path = optimagic_lite, public")
            cursor = connection.execute(sql)
            return [] if cursor.description is None else cursor.fetchall()

    def _run(self, program: str, *arguments: str) -> None:
        done = subprocess.run(
            [self.programs / program, *arguments],
            cwd=self.folder, capture_output=True, text=True, check=False, **self._as_user,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr


@pytest.fixture(scope="session")
def postgres_session():
    """A server that lasts as long as the tests."""
    programs = find_programs()
    if programs is None:
        reason = "PostgreSQL is not installed (Debian: apt-get install postgresql)"
        if os.environ.get(CI_VARIABLE):
            pytest.fail(reason)
        pytest.skip(reason)
    # not in the folder of pytest, which other users may not enter
    folder = Path(tempfile.mkdtemp(prefix="postgres-"))
    server = Server(programs, folder)
    try:
        server.make()
        server.start()
        server.query("CREATE DATABASE log", "postgres")
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def postgres(postgres_session):
    """The server, running, with an empty database `log`."""
    if postgres_session.process is None:
        postgres_session.start()
    postgres_session.query("DROP SCHEMA IF EXISTS optimagic_lite CASCADE")
    return postgres_session
