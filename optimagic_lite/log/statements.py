"""What databases of all kinds share: statements for single rows, and SQLAlchemy where wanted."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from optimagic_lite.log.tables import metadata

Row = tuple[Any, ...]
# a row with its table
Kept = tuple[str, Row]


def insert_statements(dialect: sa.Dialect, *, again: bool = False) -> Mapping[str, str]:
    """Return, for each table, the statement that adds a row; values are in the order of columns.

    Args:
        dialect: Of the database; its placeholders must be positional.
        again: Whether to leave rows alone that are there already.
    """
    insert = postgresql.insert if dialect.name == "postgresql" else sqlite.insert
    statements = {}
    for table in metadata.sorted_tables:
        statement = insert(table)
        if again:
            statement = statement.on_conflict_do_nothing()
        compiled = statement.compile(dialect=dialect, column_keys=table.c.keys())
        statements[table.name] = str(compiled)
    return MappingProxyType(statements)


def holds_run(connection: Any, run_id: int, started: float) -> bool:
    """Tell whether a log is that of a run, and not another one at the same place.

    Args:
        connection: Of the driver, to the log.
        run_id: Number of the run.
        started: When it began.
    """
    found = connection.execute(f"SELECT started FROM runs WHERE run_id = {run_id:d}").fetchone()
    return bool(found == (started,))


def as_text(condition: sa.ColumnElement[bool]) -> str:
    """Return a condition on numbers as a driver takes it."""
    return str(condition.compile(compile_kwargs={"literal_binds": True}))


def execute_many(connection: Any, rows: Iterable[Kept], statements: Mapping[str, str]) -> None:
    """Add rows of any tables.

    Args:
        connection: Of the driver, to the log.
        rows: With their tables.
        statements: For each table, the statement that adds a row.
    """
    cursor = connection.cursor()
    for table, group in itertools.groupby(rows, key=lambda kept: kept[0]):
        cursor.executemany(statements[table], [row for _, row in group])


@contextlib.contextmanager
def session(
    url: str, connection: Any, begin: Callable[[Any], None], **options: Any
) -> Iterator[sa.Connection]:
    """Look at a connection of a driver through SQLAlchemy, for one transaction.

    What goes wrong is an error of the driver.

    Args:
        url: Names the driver.
        connection: The connection. At the end it is committed, or rolled back, but not closed.
        begin: Begins the transaction. SQLAlchemy rolls back any that was begun before, when it has
            learned what it wants to know of the database.
        options: Of the engine.
    """
    engine = sa.create_engine(url, creator=lambda: connection, poolclass=sa.StaticPool, **options)
    try:
        with engine.connect() as found, found.begin():
            begin(connection)
            yield found
    except sa.exc.DBAPIError as error:
        if error.orig is None:
            raise
        raise error.orig from error
