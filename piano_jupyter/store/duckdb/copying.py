"""A copy of an open database in a new file, as it stands at one moment, while others write to it."""

import os
from contextlib import suppress
from pathlib import Path

import duckdb

from piano_jupyter.errors import StoreError
from piano_jupyter.store.duckdb import queries

COPY = "piano_copy"  #: what the new file is called while it is attached


def copy_into(cursor: duckdb.DuckDBPyConnection, made: Path) -> None:
    """Copy a database, as it stands now, into a new file: what was deleted is not in it."""
    ((name,),) = cursor.execute(queries.CURRENT_DATABASE).fetchall()
    cursor.execute(queries.attach(str(made), COPY))
    try:
        cursor.execute(queries.copy_database(str(name), COPY))
        cursor.execute(queries.checkpoint(COPY))  # closing a file leaves its log
    finally:
        with suppress(duckdb.Error):  # whoever stops the copy is told of that
            cursor.execute(queries.detach(COPY))
    if os.path.lexists(f"{made}.wal"):
        raise StoreError(f"the copy {made} could not be written whole")
