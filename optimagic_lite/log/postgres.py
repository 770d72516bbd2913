"""A log in a PostgreSQL database, for runs on several machines that write to one place.

The tables lie in a schema of their own, whose comment says which version they have. The process of
a run holds an advisory lock as long as it is connected, so that readers on any machine know whether
it is there.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg

from optimagic_lite.exceptions import LogError, LogMissingError, NotInstalledError, TableExistsError
from optimagic_lite.log.statements import insert_statements, session
from optimagic_lite.log.tables import APPLICATION_ID, SCHEMA_VERSION, metadata, require_version
from optimagic_lite.log_options import HIDDEN, PostgresLogOptions

T = TypeVar("T")

CONNECT_TIMEOUT = 30  # seconds
_SCHEMA = "optimagic_lite"
_COMMENT = "Log of optimagic_lite, version "
_DIALECT: sa.Dialect = PGDialect_psycopg(paramstyle="format")  # type: ignore[no-untyped-call]

# a machine that vanished without a word is missed after a minute, by either side
_KEEPALIVES = {"idle": 30, "interval": 10, "count": 3}
_HELD = (
    "SELECT objid::bigint FROM pg_locks WHERE locktype = 'advisory' AND granted AND objsubid = 2 "
    f"AND classid = {APPLICATION_ID} AND database = "
    "(SELECT oid FROM pg_database WHERE datname = current_database())"
)
_RIGHTS = (
    f" Ask the owner of the database to run CREATE SCHEMA {_SCHEMA} AUTHORIZATION ..., with the "
    f"name of the user, or, if there is a log already, GRANT USAGE ON SCHEMA {_SCHEMA} TO ... and "
    f"GRANT SELECT, INSERT, UPDATE ON ALL TABLES IN SCHEMA {_SCHEMA} TO ... and GRANT USAGE ON ALL "
    f"SEQUENCES IN SCHEMA {_SCHEMA} TO ...; to read, USAGE ON SCHEMA and SELECT are enough."
)
# where a connection remembers which runs were there before it looked at the tables
_LIVED = "optimagic_lite_lived"

# URLs with their passwords, by URLs without: results and messages must not hold a password, and
# the process that was given it should not have to ask for it again
_given: dict[str, str] = {}


@dataclass(frozen=True)
class PostgresStore:
    """A log in a PostgreSQL database; see ``Store``.

    Args:
        options: Where it is, and what to do if it exists.
    """

    options: PostgresLogOptions

    inserts: ClassVar[Mapping[str, str]] = insert_statements(_DIALECT)
    inserts_again: ClassVar[Mapping[str, str]] = insert_statements(_DIALECT, again=True)

    @property
    def errors(self) -> tuple[type[Exception], ...]:
        """What psycopg raises; nothing where it is missing."""
        with contextlib.suppress(NotInstalledError):
            return (_psycopg().Error,)
        return ()

    @property
    def location(self) -> str:
        """The URL without the password."""
        return self.options.location

    @property
    def file(self) -> Path | None:
        """None."""
        return None

    def check(self) -> None:
        """See ``Store``."""
        with self._connected() as connection:
            found = _look(connection, self.location)
            self._check(found)
            if not _may_write(connection, found):
                raise LogError(f"The user in {self.location} may not add a run.{_RIGHTS}")

    def _check(self, found: _Found) -> None:
        if found.version is None or self.options.if_database_exists == "replace":
            return
        if self.options.if_database_exists == "raise":
            raise TableExistsError(
                f"The log {self.location} exists already. Choose another database, or say what to "
                "do with PostgresLogOptions(url, if_database_exists=...): 'extend' adds the run, "
                "'replace' deletes the log with all its runs first."
            )
        require_version(found.version, self.location)

    def create(self, n_params: int) -> Any:
        """See ``Store``; the number of parameters does not matter."""
        with self._translated():
            connection = self._connect(CONNECT_TIMEOUT)
            try:
                with self.session(connection) as found:
                    self._create(connection, found)
            except BaseException:
                connection.close()
                raise
        return connection

    def _create(self, connection: Any, session: sa.Connection) -> None:
        found = _look(connection, self.location)
        self._check(found)
        if found.version is not None and self.options.if_database_exists == "extend":
            return
        if not found.has_schema:
            connection.execute(f"CREATE SCHEMA {_SCHEMA}")
        # in the order in which writers lock them
        names = ", ".join(table.name for table in reversed(metadata.sorted_tables))
        if found.version == SCHEMA_VERSION:
            # numbers of runs go on, so that no run that is still going on is taken for a new one
            connection.execute(f"TRUNCATE {names}")
            return
        connection.execute(f"DROP TABLE IF EXISTS {names} CASCADE")
        metadata.create_all(session, checkfirst=False)
        connection.execute(f"COMMENT ON SCHEMA {_SCHEMA} IS '{_COMMENT}{SCHEMA_VERSION}'")

    def connect(self, timeout: float) -> Any:
        """See ``Store``."""
        return self._connect(timeout)

    def _connect(self, timeout: float, settings: Mapping[str, Any] | None = None) -> Any:
        url = sa.make_url(_with_password(self.options.url, self.location))
        given = {name: _joined(value) for name, value in url.query.items()}
        is_safe = self.options.survives == "power"
        ours = {
            "search_path": _SCHEMA,
            "synchronous_commit": "on" if is_safe else "off",
            "lock_timeout": round(1000 * timeout),
            **{f"tcp_keepalives_{name}": value for name, value in _KEEPALIVES.items()},
            **(settings or {}),
        }
        options = [given.pop("options", ""), *(f"-c {name}={ours[name]}" for name in ours)]
        wanted = {
            "application_name": "optimagic_lite",
            "tcp_user_timeout": 1000 * CONNECT_TIMEOUT,
            **{f"keepalives_{name}": value for name, value in _KEEPALIVES.items()},
            **url.translate_connect_args(username="user", database="dbname"),
            **given,
            "connect_timeout": max(1, round(timeout)),
            "options": " ".join(options),
        }
        return _psycopg().connect(autocommit=True, **wanted)

    def begin(self, connection: Any) -> None:
        """See ``Store``."""
        connection.execute("BEGIN")

    @contextlib.contextmanager
    def session(self, connection: Any) -> Iterator[sa.Connection]:
        """See ``Store``; one process at a time."""
        with _session(connection, _begin_alone) as found:
            yield found

    def may_pass(self, error: Exception) -> bool:
        """Whether the server is away or busy."""
        return isinstance(error, _psycopg().OperationalError)

    def adopt(self, connection: Any, run_id: int) -> None:
        """Take the lock of a run, which ends with the connection."""
        connection.execute("SELECT pg_try_advisory_lock(%s, %s)", (APPLICATION_ID, run_id))

    def lives(self, connection: sa.Connection, run_id: int) -> bool | None:
        """Whether somebody holds the lock of a run."""
        if run_id in connection.info.get(_LIVED, ()):
            return True
        return run_id in connection.scalars(sa.text(_HELD)).all()

    def keep(self) -> Callable[[], None]:
        """The server keeps house itself."""
        return lambda: None

    def is_shared_with(self, host: str) -> bool:
        """Every machine that knows the URL reaches it."""
        return True

    def ask(self, question: Callable[[sa.Connection], T]) -> T:
        """See ``Store``; all queries of one question see the same rows."""
        settings = {
            "default_transaction_read_only": "on",
            "default_transaction_isolation": "repeatable\\ read",
        }
        with self._connected(settings) as connection:
            version = _look(connection, self.location).version
            if version is None:
                raise LogMissingError(
                    f"There is no log in {self.location}: no run was ever logged there."
                )
            require_version(version, self.location)
            # a run that ends between this and the question is there; so is one that begins
            lived = {run_id for (run_id,) in connection.execute(_HELD).fetchall()}
            with _session(connection, self.begin) as found:
                found.info[_LIVED] = lived
                return question(found)

    @contextlib.contextmanager
    def _connected(self, settings: Mapping[str, Any] | None = None) -> Iterator[Any]:
        with (
            self._translated(),
            contextlib.closing(self._connect(CONNECT_TIMEOUT, settings)) as connection,
        ):
            yield connection

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        psycopg = _psycopg()
        try:
            yield
        except psycopg.Error as error:
            what, advice = "cannot be used", ""
            if isinstance(error, psycopg.OperationalError):
                what = "cannot be reached"
                advice = (
                    " See that the server runs there, that the database exists and that user and "
                    "password are right."
                )
            elif isinstance(error, psycopg.errors.InsufficientPrivilege):
                advice = _RIGHTS
            reason = " ".join(str(error).split()).rstrip(".?")
            raise LogError(f"The log {self.location} {what}: {reason}.{advice}") from error


@dataclass(frozen=True)
class _Found:
    """What is in a database: whether there is our schema, and the version of a log in it."""

    has_schema: bool
    version: int | None


def _look(connection: Any, location: str) -> _Found:
    """Look what is in a database.

    Raises:
        LogError: If the schema is not that of a log.
    """
    query = (
        "SELECT obj_description(oid, 'pg_namespace'), "
        "EXISTS (SELECT FROM pg_class WHERE relnamespace = pg_namespace.oid), "
        "has_schema_privilege(oid, 'USAGE') FROM pg_namespace WHERE nspname = %s"
    )
    found = connection.execute(query, (_SCHEMA,)).fetchone()
    if found is None:
        return _Found(has_schema=False, version=None)
    comment, has_tables, may_use = found
    if not may_use:
        raise LogError(f"The user in {location} may not use the log there.{_RIGHTS}")
    if (comment or "").startswith(_COMMENT):
        return _Found(has_schema=True, version=int(comment.removeprefix(_COMMENT)))
    if has_tables:
        raise LogError(
            f"{location} has a schema {_SCHEMA!r} that is no log. Choose another database."
        )
    # somebody has made it for a user who may not do so
    return _Found(has_schema=True, version=None)


def _may_write(connection: Any, found: _Found) -> bool:
    """Tell whether the user may add a run to what was found."""
    if not found.has_schema:
        query = "SELECT has_database_privilege(current_database(), 'CREATE')"
    elif found.version is None:
        query = f"SELECT has_schema_privilege('{_SCHEMA}', 'CREATE')"
    else:
        query = (
            "SELECT bool_and(has_table_privilege(oid, 'INSERT')) FROM pg_class "
            f"WHERE relkind = 'r' AND relnamespace = '{_SCHEMA}'::regnamespace"
        )
    return bool(connection.execute(query).fetchone()[0])


def _session(
    connection: Any, begin: Callable[[Any], None]
) -> contextlib.AbstractContextManager[sa.Connection]:
    return session("postgresql+psycopg://", connection, begin, use_native_hstore=False)


def _begin_alone(connection: Any) -> None:
    connection.execute("BEGIN")
    # there are few of these, and what was committed before is as safe as they are
    connection.execute("SET LOCAL synchronous_commit = on")
    connection.execute("SELECT pg_advisory_xact_lock(%s)", (APPLICATION_ID,))


def _with_password(url: str, shown: str) -> str:
    """Return a URL with its password, even if only what was shown of it is given."""
    if url != shown:
        _given[shown] = url
    elif HIDDEN in url and shown not in _given:
        raise LogError(
            f"The password in {shown} is hidden, and it is not known in this process. Give the "
            "whole URL, or keep the password in ~/.pgpass and leave it out everywhere."
        )
    return _given.get(shown, url)


def _joined(value: str | tuple[str, ...]) -> str:
    return value if isinstance(value, str) else ",".join(value)


def _psycopg() -> Any:
    try:
        import psycopg
    except ImportError as error:
        raise NotInstalledError(
            "A log in PostgreSQL needs psycopg. Install it with: "
            'pip install "optimagic_lite[postgres]"'
        ) from error
    return psycopg
