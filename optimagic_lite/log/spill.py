"""Where the rows of a run go that its log does not take: a log of their own."""

from __future__ import annotations

import contextlib
import itertools
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from optimagic_lite.exceptions import LogError
from optimagic_lite.log.sqlite import SQLiteStore, remove_database
from optimagic_lite.log.statements import Kept, as_text, execute_many
from optimagic_lite.log.store import Store
from optimagic_lite.log.tables import evaluations, rows_of_run, runs, steps
from optimagic_lite.log_options import SQLiteLogOptions


def spill(
    run: dict[str, Any], rows: Iterable[Kept], n_params: int, log: Path | None
) -> Path | None:
    """Write a run into a log of its own.

    Args:
        run: Its row in the table of runs.
        rows: Those of other tables.
        n_params: Length of the flat parameters.
        log: File of the log that does not take them, or None.

    Returns:
        The file, beside the log or, where that cannot be, in the folder for temporary files; None
        if neither can be written.
    """
    rows = list(rows)
    for path in _new_files(log):
        # the file is there, and empty
        options = SQLiteLogOptions(path, if_database_exists="extend")
        try:
            _write(SQLiteStore(path, options), run, rows, n_params)
        except (LogError, OSError, *SQLiteStore.errors):
            with contextlib.suppress(OSError):
                remove_database(path)
        else:
            return path
    return None


def rows_in(store: Store, connection: Any, run_id: int) -> list[Kept]:
    """Return the rows of a run that are behind a connection, even if the file was deleted."""
    conditions = {evaluations.name: rows_of_run(run_id), steps.name: steps.c.run_id == run_id}
    found: list[Kept] = []
    with contextlib.suppress(*store.errors):
        for name, condition in conditions.items():
            cursor = connection.execute(f"SELECT * FROM {name} WHERE {as_text(condition)}")
            found += [(name, tuple(row)) for row in cursor.fetchall()]
    return found


def _new_files(log: Path | None) -> Iterator[Path]:
    """Make an empty file in each folder where that can be, and yield it."""
    name = Path("optimagic_lite.db" if log is None else log.name)
    for folder in (lambda: Path.cwd() if log is None else log.parent, tempfile.gettempdir):
        with contextlib.suppress(OSError):
            yield _new_file(Path(folder()), name)


def _new_file(folder: Path, name: Path) -> Path:
    for i in itertools.count(1):
        path = folder / f"{name.stem}.spilled{'' if i == 1 else f'-{i}'}{name.suffix}"
        # of several processes that spill at once, each needs one of its own
        with contextlib.suppress(FileExistsError):
            path.touch(exist_ok=False)
            break
    return path


def _write(store: SQLiteStore, run: dict[str, Any], rows: list[Kept], n_params: int) -> None:
    with contextlib.closing(store.create(n_params)) as connection:
        with store.session(connection) as session:
            session.execute(sa.insert(runs), run)
        store.begin(connection)
        execute_many(connection, rows, store.inserts_again)
        connection.commit()
