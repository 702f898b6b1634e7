"""Copies of a database by DuckDB: made while work goes on, looked at before one takes the file's place, rewritten."""

import os
import shutil
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import UUID

import duckdb

from piano_jupyter.errors import StoreError
from piano_jupyter.safe_files import file_kind
from piano_jupyter.store.duckdb import backup_files, batch_queries, queries
from piano_jupyter.store.duckdb.copying import copy_into
from piano_jupyter.store.duckdb.database import LOCKED_DOWN
from piano_jupyter.store.duckdb.database_file import hold, let_go, whole_path
from piano_jupyter.store.duckdb.error_messages import duckdb_message
from piano_jupyter.store.duckdb.migrate import migrations
from piano_jupyter.store.duckdb.read_cursor import ReadCursor
from piano_jupyter.store.duckdb.recovery import finish_recovery
from piano_jupyter.store.duckdb.search_index import INDEX_TABLES

ENCRYPTED = "Cannot open encrypted database"


def backup(cursor: ReadCursor[Any], older_than_s: float = 0.0) -> str:
    """Copy the database into its backup folder, while others write; return the copy's path."""
    real, now = cursor.database.real_path, time.time()
    if not real:
        return ""
    name = backup_files.backup_folder(real) / backup_files.day_name(now)
    if not backup_files.is_due(real, now, older_than_s):
        return str(backup_files.newest_daily(real, now) or "")
    if older_than_s and Path(real).stat().st_size > backup_files.MAX_TOTAL_BYTES:
        return ""
    try:
        with backup_files.unfinished(real) as made:
            copy_into(cursor.cursor(), made)
            backup_files.finish(made, name, now)
        backup_files.prune(real, now)
    except OSError as error:
        raise StoreError(
            f"database {cursor.database.name} cannot be copied to {name.parent}: {error.strerror}"
        ) from error
    return str(name)


def prepare_restore(path: str, source: Path) -> Path:
    """Return a copy of `source`, looked at as a whole, that can take the place of a database, which may be open.

    Raises StoreError where it is no history that this Piano can read.
    """
    real = os.path.realpath(whole_path(path))
    _check_source(real, source)
    made = backup_files.new_name(real)
    try:
        shutil.copyfile(source, made)
        if os.path.lexists(f"{source}.wal"):
            shutil.copyfile(f"{source}.wal", f"{made}.wal")
        made.chmod(0o600)
        check_history(made, source)
    except BaseException as error:
        backup_files.remove(made)
        if isinstance(error, OSError):
            raise StoreError(f"{source} is not restored ({error.strerror or error})") from error
        raise
    return made


def put_in_place(path: str, prepared: Path) -> str | None:
    """Put a database that nobody has open aside, and what was prepared in its place; return where the old one is."""
    try:
        held = hold(whole_path(path))
        try:
            finish_recovery(held)  # else the next opening would put what was recovered in its place
            aside = backup_files.replace_closed(held, prepared, time.time())
        finally:
            let_go(held)
    except OSError as error:
        raise StoreError(f"database {path} cannot be replaced ({error.strerror or error})") from error
    finally:
        backup_files.remove(prepared)
    return None if aside is None else str(aside)


def check_history(made: Path, source: Path) -> None:
    """Open a copy, read all of it and write its log into it. Raises StoreError where `source` is no history."""
    try:
        with duckdb.connect(str(made), config=LOCKED_DOWN) as connection:
            tables = {name for (name,) in connection.execute(queries.TABLE_NAMES).fetchall()}
            if not {"schema_version", "messages"} <= tables:
                raise StoreError(f"{source} is not restored: it is a DuckDB file, but no history of Piano's")
            versions = [version for version, _ in connection.execute(queries.SCHEMA_VERSIONS).fetchall()]
            if max(versions, default=0) > migrations()[-1].version:
                raise StoreError(
                    f"{source} is not restored: a newer piano_jupyter wrote it; pip install -U piano_jupyter"
                )
            for name in sorted(tables):
                connection.execute(queries.read_all(name)).fetchall()
    except duckdb.Error as error:
        why = "it is encrypted" if ENCRYPTED in str(error) else "it is damaged or not one of DuckDB's"
        raise StoreError(f"{source} is not restored: {why} ({duckdb_message(error).splitlines()[0]})") from error


def erase(cursor: ReadCursor[Any], threads: Sequence[UUID], batches: Sequence[UUID] = ()) -> list[str]:
    """Rewrite the copies that hold one of these threads or batches without them.

    Returns what could not be, a sentence each.
    """
    real = cursor.database.real_path
    left = []
    for each in backup_files.copies_of(real) if real else ():
        try:
            _erase_from(real, each, threads, batches)
        except (duckdb.Error, OSError) as error:
            why = duckdb_message(error).splitlines()[0] if isinstance(error, duckdb.Error) else error.strerror
            left.append(f"{each} may still hold it, and cannot be changed ({why}); delete it by hand")
    kept = backup_files.damaged(real) if real else ()
    left += [f"{each} may still hold it, for it is kept as it was found damaged; delete it by hand" for each in kept]
    logs = backup_files.orphaned_logs(real) if real else ()
    return left + [f"{each} is the log of a lost file and may still hold it; delete it by hand" for each in logs]


def _erase_from(real: str, copy: Path, threads: Iterable[UUID], batches: Iterable[UUID]) -> None:
    before = copy.stat()
    with duckdb.connect(str(copy), config={**LOCKED_DOWN, "enable_external_access": True, "threads": 1}) as connection:
        tables = {name for (name,) in connection.execute(queries.TABLE_NAMES).fetchall()}
        held = [
            (deletions, bound)
            for table, is_held, deletions, ids in (
                ("threads", queries.HAS_THREADS, queries.DELETE_THREADS, threads),
                ("batches", batch_queries.HAS_BATCHES, batch_queries.DELETE_BATCHES, batches),
            )
            if table in tables and connection.execute(is_held, bound := {"ids": list(ids)}).fetchall() != [(0,)]
        ]
        if not held:
            return
        for table in tables.intersection(INDEX_TABLES):  # an older Piano may have made it, in another shape
            connection.execute(queries.clear(table))
        for deletions, bound in held:
            for table, query in deletions.items():
                if table in tables:
                    connection.execute(query, bound)
        if "attachments" in tables:
            connection.execute(queries.delete_unused_attachments(tables))
        with backup_files.unfinished(real) as made:
            copy_into(connection, made)
            connection.close()
            backup_files.finish(made, copy, before.st_mtime)


def _check_source(real: str, source: Path) -> None:
    try:
        about = source.stat()
    except OSError as error:
        raise StoreError(f"{source} is not restored: {error.strerror or error}") from error
    if file_kind(about.st_mode) != "file":
        raise StoreError(f"{source} is not restored: it is a {file_kind(about.st_mode)}, not a file")
    with suppress(FileNotFoundError):
        if os.path.samestat(about, Path(real).stat()):
            raise StoreError(f"{source} is the database itself; %piano restore lists its copies")
