"""Where a log is and how safe it is to be: plain, checked records, and no database."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args
from urllib.parse import urlsplit

from optimagic_lite.exceptions import LogError, did_you_mean
from optimagic_lite.options import read_record

IfExists = Literal["raise", "extend", "replace"]


class ExistenceStrategy(StrEnum):
    """The values of ``if_database_exists``, as optimagic names them; text does as well."""

    RAISE = "raise"
    EXTEND = "extend"
    REPLACE = "replace"


Durability = Literal["process", "power"]

_POSTGRES = ("postgresql", "postgresql+psycopg")
# stands for a password
HIDDEN = "***"


@dataclass(frozen=True)
class SQLiteLogOptions:
    """Where and how the log of a run is written: a file.

    Args:
        path: File of the SQLite database.
        fast_logging: Another name of durability, as in optimagic: True for "process", False for
            "power".
        if_database_exists: "raise" (default), "extend" (add a run to the file) or "replace"
            (delete the file first).
        durability: What a row survives that was written. "process" (default): the death of the
            process, not necessarily a power failure (WAL, synchronous=NORMAL; about 20
            microseconds a row). "power": a power failure too (synchronous=FULL; about a
            millisecond, depending on the disk).

    Raises:
        LogError: If a value is not valid.
    """

    path: str | Path
    fast_logging: bool | None = None
    if_database_exists: IfExists | ExistenceStrategy = "raise"
    durability: Durability | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "path", Path(self.path))
        _check_choices(self)
        if self.fast_logging is not None and self.durability is not None:
            raise LogError(
                "fast_logging is another name of durability; give only one of them: "
                "durability='process' is fast_logging=True, and 'power' is False."
            )

    @property
    def survives(self) -> Durability:
        """The durability, by whatever name it was given."""
        return self.durability or ("power" if self.fast_logging is False else "process")


@dataclass(frozen=True)
class PostgresLogOptions:
    """Where and how the log of a run is written: a PostgreSQL database.

    Args:
        url: Such as ``"postgresql+psycopg://user:password@host:5432/database"``. The tables are
            made in it, in a schema ``optimagic_lite``.
        if_database_exists: What to do if there is a log in the database: "extend" (default; add a
            run to it), "raise", or "replace" (delete it with all its runs first).
        durability: What a row survives that was written. "process" (default): the death of the
            process; if the server itself dies, the last half second may be lost
            (synchronous_commit=off). "power": that too.

    Raises:
        LogError: If a value is not valid.
    """

    url: str
    if_database_exists: IfExists | ExistenceStrategy = "extend"
    durability: Durability | None = None

    def __post_init__(self) -> None:
        _check_choices(self)
        _check_url(self.url)

    def __repr__(self) -> str:
        return (
            f"PostgresLogOptions({self.location!r}, "
            f"if_database_exists={self.if_database_exists!r}, durability={self.durability!r})"
        )

    @property
    def location(self) -> str:
        """The URL without passwords."""
        parts = urlsplit(self.url)
        user, at, host = parts.netloc.rpartition("@")
        name, colon, _ = user.partition(":")
        query = re.sub(r"([^&=]*password)=[^&]*", rf"\1={HIDDEN}", parts.query)
        netloc = f"{name}:{HIDDEN}@{host}" if colon else f"{user}{at}{host}"
        return parts._replace(netloc=netloc, query=query).geturl()

    @property
    def survives(self) -> Durability:
        """The durability."""
        return self.durability or "process"


LogOptions: TypeAlias = SQLiteLogOptions | PostgresLogOptions


def log_options_at(location: str | Path) -> LogOptions:
    """Return the options of a log at the path of a file or at a URL."""
    if isinstance(location, str) and "://" in location:
        return PostgresLogOptions(location)
    return SQLiteLogOptions(location)


def read_log_options(logging: Any) -> LogOptions | None:
    """Return the options that an argument ``logging`` means; None for no log.

    A path becomes absolute, because a criterion may change the folder.

    Raises:
        LogError: If it means nothing.
    """
    if logging is None or logging is False:
        return None
    options = _read(logging)
    if isinstance(options, SQLiteLogOptions):
        return replace(options, path=Path(options.path).absolute())
    return options


def _read(logging: Any) -> LogOptions:
    if isinstance(logging, (SQLiteLogOptions, PostgresLogOptions)):
        return logging
    if isinstance(logging, (str, Path)):
        return log_options_at(logging)
    if isinstance(logging, Mapping):
        if "url" in logging:
            return read_record(logging, PostgresLogOptions, LogError)
        if "path" not in logging:
            raise LogError("logging as a dict needs a 'path', or a 'url'.")
        return read_record(logging, SQLiteLogOptions, LogError)
    raise LogError(
        f"logging must be a path, a URL or om.SQLiteLogOptions(path, ...), not {logging!r}."
    )


def _check_url(url: Any) -> None:
    """Refuse what cannot be the URL of a log; no message shows any of it that may be secret."""
    if not isinstance(url, str):
        raise LogError(f"The URL of a log must be a text, not of type {type(url).__name__}.")
    scheme = url.partition("://")[0] if "://" in url else ""
    if scheme not in _POSTGRES:
        advice = ", or the path of a file alone for a log in SQLite" if scheme else ""
        raise LogError(
            f"A URL that begins with {scheme + '://'!r} cannot be the place of a log. Use "
            f"'postgresql+psycopg://user:password@host:5432/database'{advice}."
        )
    try:
        parts = urlsplit(url)
        is_plain = url.count("@") == parts.netloc.count("@") <= 1 and parts.port != 0
        is_plain &= not parts.fragment
    except ValueError:
        is_plain = False
    if not is_plain:
        raise LogError(
            "The URL of the log cannot be understood. It must look like "
            "'postgresql+psycopg://user:password@host:5432/database'; signs such as @ : / # ? % "
            "in a user or password are written as urllib.parse.quote(text, safe='') does."
        )


def _check_choices(options: Any) -> None:
    for name, choices in (
        ("if_database_exists", get_args(IfExists)),
        ("durability", (*get_args(Durability), None)),
    ):
        given = getattr(options, name)
        value = getattr(given, "value", given)
        if value not in choices:
            raise LogError(
                f"{name} must be one of {', '.join(map(repr, choices))}, not {value!r}."
                + did_you_mean(value, [c for c in choices if c is not None])
            )
        object.__setattr__(options, name, value)
