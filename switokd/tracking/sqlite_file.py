"""A SQLite store as a file: readable after any end of its writers, and made whole or not at all."""

from __future__ import annotations

import logging
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from switokd.files.lock import one_at_a_time

log = logging.getLogger(__name__)

ANSWER_SECONDS = 5.0
ANALYZED_ROWS = 20_000
# a living maker writes more often
STILL_MADE_SECONDS = 10.0
# a transaction that its writer's death left open: only a writer may undo it
LEFT_OPEN = frozenset({"SQLITE_READONLY_ROLLBACK", "SQLITE_READONLY_RECOVERY"})
# files that SQLite keeps beside a database and that belong to it
BESIDE = ("-journal", "-wal", "-shm")


def connect(path: Path, mode: str) -> sqlite3.Connection:
    """`mode`: ro or rw; neither makes a file."""
    address = f"{path.absolute().as_uri()}?mode={mode}"
    return sqlite3.connect(address, uri=True, timeout=ANSWER_SECONDS)


def open_read_only(path: Path) -> sqlite3.Connection:
    """Open a database to read, even where a writer was killed within a transaction.

    Raises sqlite3.Error.
    """
    connection = connect(path, "ro")
    try:
        touch(connection)
    except sqlite3.OperationalError as error:
        connection.close()
        if error.sqlite_errorname not in LEFT_OPEN:
            raise
        with closing(connect(path, "rw")) as writer:
            touch(writer)
        return connect(path, "ro")
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def touch(connection: sqlite3.Connection) -> None:
    """The least that makes SQLite look into the file, and undo what was left open in it."""
    connection.execute("select count(*) from sqlite_master").fetchone()


def check_writes(path: Path) -> None:
    """Raises sqlite3.Error where the database cannot be written, by its mode or its medium."""
    with closing(connect(path, "rw")) as connection:
        touch(connection)
        try:
            connection.execute("begin immediate")
            # rolled back; SQLite looks for a place for its journal first
            connection.execute("create table switokd_writes (number)")
            connection.rollback()
        except sqlite3.OperationalError as error:
            # somebody else writes, so that it can be done
            if error.sqlite_errorname != "SQLITE_BUSY":
                raise


def update_statistics(path: Path) -> None:
    """Let a database know its own contents; without, it reads histories by the wrong index.

    A sample will do, of more rows than a run has points. Gives up quietly on a busy store.
    """
    try:
        with closing(connect(path, "rw")) as connection:
            connection.execute(f"PRAGMA analysis_limit={ANALYZED_ROWS}")
            connection.execute("ANALYZE metrics")
            connection.commit()
    except sqlite3.Error:
        return


def ensure_made(
    path: Path, build: Callable[[Path], None], newest_revision: Callable[[], str]
) -> None:
    """Make the store where there is none; one process at a time, while the others wait.

    `build` makes it in a file beside it, which takes the name once it is whole. One over which an
    earlier maker was killed, and that holds nothing, is set aside. `newest_revision` gives that of
    MLflow's schema. Raises OSError, sqlite3.Error and whatever `build` does.
    """
    if is_whole(path, newest_revision):
        return
    with one_at_a_time(path.with_name(f"{path.name}.lock")):
        if is_whole(path, newest_revision):
            return
        new = path.with_name(f"{path.name}.new")
        remove(new)
        build(new)
        # MLflow's server, say, may make one in its place at the same time
        await_makers(path)
        if is_whole(path, newest_revision):
            remove(new)
            return
        if has_content(path):
            kept = set_aside(path)
            log.warning("%s was half made and held no run: it is %s now", path, kept.name)
        new.replace(path)


def has_content(path: Path) -> bool:
    return path.is_file() and path.stat().st_size > 0


def await_makers(path: Path) -> None:
    """Wait until nobody has written to the file for a while."""
    while has_content(path) and time.time() - path.stat().st_mtime < STILL_MADE_SECONDS:
        time.sleep(0.1)


def is_whole(path: Path, newest_revision: Callable[[], str]) -> bool:
    """Whether there is a store that is finished, or that holds what must not be lost."""
    if not has_content(path):
        return False
    with closing(open_read_only(path)) as connection:
        tables = {row[0] for row in connection.execute("select name from sqlite_master")}
        if holds_something(connection, tables):
            return True
        if "alembic_version" not in tables or any(t.startswith("_alembic_tmp_") for t in tables):
            return False
        revisions = connection.execute("select version_num from alembic_version").fetchall()
    return [(newest_revision(),)] == revisions


def holds_something(connection: sqlite3.Connection, tables: set[str]) -> bool:
    """Whether anybody has put in more than MLflow itself does as it makes a store."""
    own = {"experiments": 1, "runs": 0, "registered_models": 0}
    counts = {
        table: connection.execute(f"select count(*) from {table}").fetchone()[0]
        for table in own
        if table in tables
    }
    foreign = tables and not tables & {*own, "alembic_version"}
    return bool(foreign) or any(count > own[table] for table, count in counts.items())


def set_aside(path: Path) -> Path:
    """Give a database another name, with the files that belong to it."""
    number = 1
    while (kept := path.with_name(f"{path.name}.half-made-{number}")).exists():
        number += 1
    for suffix in (*BESIDE, ""):
        part = path.with_name(path.name + suffix)
        if part.exists():
            part.rename(kept.with_name(kept.name + suffix))
    return kept


def remove(path: Path) -> None:
    """Delete a database, if any, with the files that belong to it."""
    for suffix in (*BESIDE, ""):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
