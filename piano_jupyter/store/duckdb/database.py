"""The database as threads have it: the writer owns the connection, each read beside it borrows a cursor."""

import contextlib
import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Generic, TypeVar

import duckdb

from piano_jupyter.errors import StoreError
from piano_jupyter.records import DatabaseIdentity
from piano_jupyter.store.duckdb import queries
from piano_jupyter.store.duckdb.database_file import hold, is_nowhere, let_go, make_ready
from piano_jupyter.store.duckdb.error_messages import fault, opening_fault, schema_fault, words
from piano_jupyter.store.duckdb.lost_file import WatchedFile, recovered_path
from piano_jupyter.store.duckdb.migrate import identify, migrate, migrations
from piano_jupyter.store.duckdb.operations import Operations
from piano_jupyter.store.duckdb.search_index import SearchIndexer

log = logging.getLogger(__name__)

MEMORY = ":memory:"
LOCKED: dict[str, str | bool | int | float | list[str]] = {
    "enable_external_access": False,
    "autoinstall_known_extensions": False,  # else a SQLite file in our place makes it download one
    "autoload_known_extensions": False,
    "python_enable_replacements": False,  # a query would see the variables of whoever calls
}
SETTINGS: dict[str, str | bool | int | float | list[str]] = {
    **LOCKED,
    "checkpoint_threshold": "4MB",  # at 1MB each group of writes forces one; a longer log takes seconds to replay
    "threads": 1,  # our queries are short: a pool of threads makes them a sixth slower
}

#: What DuckDB raises where a query and the tables do not fit; all else is about the file or the machine.
SCHEMA_ERRORS = (
    duckdb.ProgrammingError,
    duckdb.DataError,
    duckdb.IntegrityError,
    duckdb.NotSupportedError,
    duckdb.DependencyException,
)
INDEX_STEP_S = 0.1  #: for how long the writer adds to the index of searches, while nothing is asked
STUBBORN = 5.0  # seconds for a read to end once it is stopped

Result = TypeVar("Result")


class Database:
    """The connection, as the writer's thread owns it."""

    connection: duckdb.DuckDBPyConnection
    tables: Operations

    def __init__(self, name: str, notify: Callable[[str, str], None] = lambda _, notice: log.warning(notice)) -> None:
        self.name = name
        self._notify = notify
        self._watched: WatchedFile | None = None
        self._told = ""
        self._broken = False
        self._seqs: dict[str, int] = {}
        self.lent: set[ReadCursor[Any]] = set()  #: who has a cursor
        self._real_path = ""
        if name != MEMORY:
            make_ready(name)
            self._real_path = hold(name)
        try:
            self._is_new = name == MEMORY or is_nowhere(name)
            self._connect()
        except BaseException:
            self._let_go()
            raise

    def begin(self) -> None:
        self.mend()
        self._seqs = dict(self.tables.seqs)
        self.do(lambda _: self.connection.execute(queries.BEGIN))

    def commit(self) -> None:
        self.do(lambda _: self.connection.execute(queries.COMMIT))
        self.rescue()  # before anybody hears that it is stored

    def rollback(self) -> bool:
        self.tables.seqs = self._seqs
        with contextlib.suppress(duckdb.Error):
            self.connection.execute(queries.ROLLBACK)
        with contextlib.suppress(StoreError):  # it is raised again by the next transaction
            return self.rescue()
        return False

    def idle(self) -> None:
        """Look after the file while nothing is asked, and index for searches; what is wrong is told once."""
        try:
            self.rescue()
            self._index()
        except StoreError as error:
            if str(error) != self._told:
                self._told = str(error)
                self._notify(self.name, self._told)

    def _index(self) -> None:
        """Add to the index of searches, for a moment."""
        end, newest = time.monotonic() + INDEX_STEP_S, self.tables.seqs["messages"]
        while not self._broken and self.do(lambda _: self._indexer.step(newest)) and time.monotonic() < end:
            pass

    def close(self) -> None:
        try:
            self.rescue()
            if not self._broken and self._watched is not None:
                with contextlib.suppress(duckdb.Error):  # then the log has it all
                    self.connection.execute(queries.CHECKPOINT)
            self.connection.close()
        finally:
            self._let_go()

    def rescue(self) -> bool:
        """Go on in a copy if the file was deleted, moved or replaced; return whether it was. Raises StoreError."""
        what = self._watched.what_happened() if self._watched is not None else ""
        if self._watched is None or not what:
            return False
        lost, lost_path = self.name, self._real_path
        try:
            path = str(recovered_path(lost_path))
            make_ready(path)
            held = hold(path)
            try:
                self._watched.copy_to(Path(path))
            except BaseException:
                let_go(held)
                raise
        except OSError as error:
            raise StoreError(
                f"the file of database {lost} {what}, and what it held cannot be saved ({error}): make room for it in "
                f"{Path(lost_path).parent}; nothing more is stored until then"
            ) from error
        self._close_broken()
        self.name, self._real_path = path, held
        let_go(lost_path)
        self._connect()
        self._notify(
            path,
            f"the file of database {lost} {what}; everything in it was saved to {path}, which this kernel uses now. "
            f"To keep it, move it to the place of the old one when this kernel has ended, or set PianoConfig.database",
        )
        return True

    def do(self, function: Callable[[Operations], Result]) -> Result:
        """Return what the function returns; DuckDB's errors become ours."""
        try:
            return function(self.tables)
        except duckdb.Error as error:
            raise self.fault(error) from error

    def fault(self, error: duckdb.Error) -> StoreError:
        # After a fatal error (a disk full at a checkpoint) DuckDB serves nobody; what was committed is in the log.
        self._broken |= self.name != MEMORY and isinstance(error, duckdb.FatalException | duckdb.InternalException)
        return fault(error, self.name)

    def mend(self) -> None:
        """Open the file anew if DuckDB has given it up."""
        self.rescue()
        if self._broken:
            self._close_broken()
            self._connect()

    def _close_broken(self) -> None:
        for aside in tuple(self.lent):  # while one has a cursor, it is the same broken database that is opened
            aside.stop()
            aside.ended.wait(STUBBORN)
        self.connection.close()
        self._broken = False

    def _let_go(self) -> None:
        if self._real_path:
            let_go(self._real_path)

    def _connect(self) -> None:
        try:
            self.connection = duckdb.connect(self.name, config=SETTINGS)
        except (duckdb.Error, MemoryError) as error:
            raise opening_fault(error, self.name) from error
        try:
            self.connection.execute(queries.USE_UTC)
            self.connection.execute(queries.NO_CHECKPOINT_AT_CLOSE)  # which deletes any log at the path
            self.connection.execute(queries.LOCK_SETTINGS)
            migrate(self.connection, self.name, migrations())
            identity = DatabaseIdentity(identify(self.connection), is_new=self._is_new)
            self.tables = Operations(_ParsedOnceConnection(self.connection), identity)
            self.tables.count_on()
            self._indexer = SearchIndexer(self.connection)
            self._watched = WatchedFile(self._real_path) if self._real_path else None
        except BaseException as error:
            self.connection.close()
            if isinstance(error, duckdb.Error):
                what_is_wrong = schema_fault if isinstance(error, SCHEMA_ERRORS) else opening_fault
                raise what_is_wrong(error, self.name) from error
            raise


class _ParsedOnceConnection:
    """A connection that parses each query once: parsing is a third of what a short query costs."""

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self._connection = connection
        self._statements: dict[str, duckdb.Statement] = {}

    def execute(self, query: str, parameters: Any = None, /) -> duckdb.DuckDBPyConnection:
        if query not in self._statements:
            (self._statements[query],) = self._connection.extract_statements(query)
        return self._connection.execute(self._statements[query], parameters)


class ThreadLocalState:
    """What a thread that reads has of its own: each read brings its cursor."""

    def begin(self) -> None: ...
    def commit(self) -> None: ...
    def rollback(self) -> bool:
        return False

    def idle(self) -> None: ...
    def close(self) -> None: ...


class ReadCursor(Generic[Result]):
    """A read on a cursor of its own, in one transaction in which nothing can be written; stopped from any thread."""

    def __init__(self, read: "Callable[[ReadCursor[Any]], Result]") -> None:
        self._read = read
        self._guard = threading.Lock()
        self._stopped = False
        self._lent: tuple[Database, duckdb.DuckDBPyConnection] | None = None
        self.ended = threading.Event()

    def borrow(self, database: Database) -> None:
        """Take a cursor, on the writer's thread."""
        database.mend()
        with self._guard:
            if not self._stopped:
                self._lent = database, database.connection.cursor()
                database.lent.add(self)

    def run(self, _: ThreadLocalState) -> Result:
        """Read, on another thread."""
        try:
            self.execute(queries.BEGIN_READ_ONLY)
            return self._read(self)
        except duckdb.Error as error:
            raise self.fault(error) from error
        finally:
            self.give_back()

    def execute(self, query: str, parameters: Any = None, /) -> duckdb.DuckDBPyConnection:
        return self.cursor().execute(query, parameters)

    def cursor(self) -> duckdb.DuckDBPyConnection:
        with self._guard:
            if self._stopped or self._lent is None:
                raise StoreError("the query was stopped before it ran")
            return self._lent[1]

    def fault(self, error: duckdb.Error) -> StoreError:
        with self._guard:
            return self._lent[0].fault(error) if self._lent is not None else StoreError(words(error))

    def stop(self) -> None:
        with self._guard:
            self._stopped = True
            if self._lent is not None:
                self._lent[1].interrupt()

    def give_back(self) -> None:
        with self._guard:
            if self._lent is not None:
                database, cursor = self._lent
                cursor.close()
                database.lent.discard(self)
            self._lent = None
            self.ended.set()
