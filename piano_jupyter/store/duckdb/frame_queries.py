"""Queries over data frames that are in memory, read where they are: a fresh, locked connection for each query."""

import os
import signal
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

import duckdb

from piano_jupyter.errors import NotFoundError, StoreError
from piano_jupyter.records import Rows
from piano_jupyter.store.duckdb import queries
from piano_jupyter.store.duckdb.database import LOCKED_DOWN, MEMORY
from piano_jupyter.store.duckdb.error_messages import duckdb_message
from piano_jupyter.store.duckdb.query_guard import parse_allowed, tables_in

READABLE = "the data frames that it names"
#: What does not fit into memory fails: no files. It is the kernel's memory, with the user's work in it. The gap: DuckDB
#: does not count a single value that is huge, such as `range(1_000_000_000)`.
SETTINGS = {**LOCKED_DOWN, "temp_directory": "", "memory_limit": "2GB"}


def select(query: str, frames: Mapping[str, Any], max_rows: int) -> tuple[Rows, bool]:
    """Return the first `max_rows` rows of one SELECT over these frames, and whether there are more.

    A frame is called by its name there; what the query does not name is not touched, and nothing is copied. Raises
    StoreError, and NotFoundError for a name that no frame has.
    """
    try:
        with duckdb.connect(MEMORY, config=SETTINGS) as connection:
            connection.execute(queries.USE_UTC)
            connection.execute(queries.NO_PROGRESS_BAR)
            connection.execute(queries.LOCK_SETTINGS)
            for name, frame in _named(tables_in(parse_allowed(connection, query, READABLE)), frames).items():
                connection.register(
                    name, _FrameRelation(frame) if isinstance(frame, duckdb.DuckDBPyRelation) else frame
                )
            with _interruptible(connection):
                result = connection.execute(query)
                rows = result.fetchmany(max_rows + 1)
            columns = tuple(column[0] for column in result.description)
            return Rows(columns, tuple(rows[:max_rows])), len(rows) > max_rows
    except duckdb.CatalogException as error:
        raise _unknown(error, frames) from error
    except duckdb.Error as error:
        raise StoreError(duckdb_message(error)) from error


@contextmanager
def _interruptible(connection: duckdb.DuckDBPyConnection) -> Iterator[None]:
    """Let Ctrl-C end a query on the main thread at once.

    DuckDB looks for signals only between pieces of work, and one piece may take very long. Python's handlers wait for
    the query, too; but a signal writes its byte to the wakeup descriptor at once, where a thread reads it.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    ours, theirs = socket.socketpair()
    theirs.settimeout(0)
    signals_seen = bytearray()

    def watch() -> None:
        while signals := ours.recv(64):
            signals_seen.extend(signals)
            if signal.SIGINT in signals:
                connection.interrupt()

    watching = threading.Thread(target=watch, name="piano-query", daemon=True)
    watching.start()
    before = signal.set_wakeup_fd(theirs.fileno(), warn_on_full_buffer=False)
    try:
        try:
            yield
        finally:
            signal.set_wakeup_fd(before)
    finally:
        theirs.close()
        watching.join()
        ours.close()
        if signals_seen and before != -1:
            with suppress(OSError):  # the previous wakeup file descriptor gets the signal too
                os.write(before, signals_seen)


class _FrameRelation:
    """A relation of another connection, which runs it each time it is read."""

    def __init__(self, relation: Any) -> None:
        self._relation = relation

    def __arrow_c_stream__(self, schema: object = None) -> object:
        return self._relation.__arrow_c_stream__(schema)


def _named(tables: set[str], frames: Mapping[str, Any]) -> dict[str, Any]:
    """Return the frames that a query names; to SQL capital letters are as small ones."""
    meant: dict[str, set[str]] = {}
    for table in tables:
        alike = {table} if table in frames else {name for name in frames if name.casefold() == table.casefold()}
        meant.setdefault(table.casefold(), set()).update(alike)
    for names in meant.values():
        if len(names) > 1:
            raise StoreError(f"SQL cannot tell {' and '.join(sorted(names))} apart: give one of them another name")
    return {name: frames[name] for names in meant.values() for name in names}


def _unknown(error: duckdb.CatalogException, frames: Mapping[str, Any]) -> StoreError | NotFoundError:
    """Return what to raise for a name that DuckDB does not know: of a table, with those that there are."""
    said = duckdb_message(error)
    _, sign, name = said.partition("Table with name ")
    if not sign:
        return StoreError(said)
    return NotFoundError.among("data frame", name.partition(" does not exist")[0], frames)
