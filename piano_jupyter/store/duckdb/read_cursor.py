"""A read on another thread than the writer's: it borrows a cursor of the database there, and gives it back."""

import threading
from collections.abc import Callable
from typing import Any, Generic, TypeVar

import duckdb

from piano_jupyter.errors import StoreError
from piano_jupyter.store.duckdb import queries
from piano_jupyter.store.duckdb.database import Database
from piano_jupyter.store.duckdb.error_messages import duckdb_message
from piano_jupyter.store.duckdb.file_access import begin_private_thread

Result = TypeVar("Result")


class ThreadLocalState:
    """The state of a reading thread: none, since each read brings its own cursor."""

    def __init__(self) -> None:
        begin_private_thread()  # a read may spill to the disk

    def begin(self) -> None: ...
    def commit(self) -> None: ...
    def rollback(self) -> bool:
        return False

    def idle(self) -> None: ...
    def close(self) -> None: ...


class ReadCursor(Generic[Result]):
    """A read on a cursor of its own, in one transaction in which nothing can be written; stopped from any thread.

    One that `copies` begins its transactions itself: a copy is written to, if to another file.
    """

    def __init__(self, read: "Callable[[ReadCursor[Any]], Result]", *, copies: bool = False) -> None:
        self._read, self._copies = read, copies
        self._guard = threading.Lock()
        self._stopped = False
        self.is_postponed = False  #: whether it was stopped to be run again
        self._borrowed: tuple[Database, duckdb.DuckDBPyConnection] | None = None
        self.ended = threading.Event()

    def borrow(self, database: Database) -> None:
        """Take a cursor; call it on the writer's thread."""
        database.reopen_if_broken()
        with self._guard:
            if not self._stopped:
                self._borrowed = database, database.connection.cursor()
                database.open_cursors.add(self)

    def run(self, _: ThreadLocalState) -> Result:
        """Run the read; call it on the reading thread."""
        try:
            if not self._copies:
                self.execute(queries.BEGIN_READ_ONLY)
            return self._read(self)
        except duckdb.Error as error:
            raise self.translate(error) from error
        finally:
            self.give_back()

    def execute(self, query: str, parameters: Any = None, /) -> duckdb.DuckDBPyConnection:
        return self.cursor().execute(query, parameters)

    def cursor(self) -> duckdb.DuckDBPyConnection:
        return self._taken()[1]

    @property
    def database(self) -> Database:
        """The database that it reads."""
        return self._taken()[0]

    def _taken(self) -> tuple[Database, duckdb.DuckDBPyConnection]:
        with self._guard:
            if self._stopped or self._borrowed is None:
                raise StoreError("the query was stopped before it ran")
            return self._borrowed

    def translate(self, error: duckdb.Error) -> StoreError:
        with self._guard:
            return (
                self._borrowed[0].translate(error) if self._borrowed is not None else StoreError(duckdb_message(error))
            )

    def stop(self, *, postpone: bool = False) -> None:
        with self._guard:
            self._stopped, self.is_postponed = True, postpone
            if self._borrowed is not None:
                self._borrowed[1].interrupt()

    def give_back(self) -> None:
        with self._guard:
            if self._borrowed is not None:
                database, cursor = self._borrowed
                cursor.close()
                database.open_cursors.discard(self)
            self._borrowed = None
            self.ended.set()
