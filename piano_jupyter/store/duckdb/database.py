"""The database as threads have it: the writer owns the connection, each read beside it borrows a cursor."""

import contextlib
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Generic, TypeVar

import duckdb

from piano_jupyter.errors import StoreError
from piano_jupyter.records import DatabaseIdentity
from piano_jupyter.store.duckdb import queries
from piano_jupyter.store.duckdb.backup_files import (
    DAY_S,
    MAX_BYTES_AT_CLOSE,
    backup_folder,
    clear_unfinished,
    copy_closed,
    day_name,
    finish,
    is_due,
    moment,
    prune,
    unfinished,
)
from piano_jupyter.store.duckdb.copying import copy_into
from piano_jupyter.store.duckdb.database_file import hold, is_nowhere, let_go, make_ready
from piano_jupyter.store.duckdb.error_messages import fault, opening_fault, schema_fault, words
from piano_jupyter.store.duckdb.file_access import begin_private_thread, narrow
from piano_jupyter.store.duckdb.lock import ELSEWHERE
from piano_jupyter.store.duckdb.migrate import identify, migrate, migrations, upgrade_due
from piano_jupyter.store.duckdb.network_disk import network_disk_of
from piano_jupyter.store.duckdb.operations import Operations

MEMORY = ":memory:"
LOCKED: dict[str, str | bool | int | float | list[str]] = {
    "enable_external_access": False,
    "autoinstall_known_extensions": False,  # else a SQLite file in our place makes it download one
    "autoload_known_extensions": False,
    "python_enable_replacements": False,  # a query would see the variables of whoever calls
}
SETTINGS: dict[str, str | bool | int | float | list[str]] = {
    **LOCKED,
    "enable_external_access": True,  # until the folder of the copies is allowed
    "extension_directory": os.devnull,  # else a SQLite file in our place has DuckDB load its extension, if it is there
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
STUBBORN = 5.0  # seconds for a read to end once it is stopped

Result = TypeVar("Result")


class Database:
    """The connection, as the writer's thread owns it."""

    connection: duckdb.DuckDBPyConnection
    tables: Operations

    def __init__(self, name: str, network_disk: Callable[[str], str] = network_disk_of) -> None:
        self.name = name
        self._disk = ""  #: the network disk that it lies on
        self._broken = False
        self._seqs: dict[str, int] = {}
        self.lent: set[ReadCursor[Any]] = set()  #: who has a cursor
        self._real_path = ""
        self._is_private = begin_private_thread()
        if name != MEMORY:
            make_ready(name)
            self._disk = network_disk(name)
            self._real_path = hold(name, self._disk)
        try:
            if self._real_path:
                clear_unfinished(self._real_path)
            self._is_new = name == MEMORY or is_nowhere(name)
            self._connect()
        except BaseException:
            self._let_go()
            raise

    @property
    def real_path(self) -> str:
        """The file, links resolved; "" for one in memory."""
        return self._real_path

    def begin(self) -> None:
        self.mend()
        self._seqs = dict(self.tables.seqs)
        self.do(lambda _: self.connection.execute(queries.BEGIN))

    def commit(self) -> None:
        self.do(lambda _: self.connection.execute(queries.COMMIT))
        if self._real_path and not self._is_private:
            narrow(Path(f"{self._real_path}.wal"))  # each checkpoint has DuckDB make another

    def rollback(self) -> None:
        self.tables.seqs = self._seqs
        with contextlib.suppress(duckdb.Error):
            self.connection.execute(queries.ROLLBACK)

    def close(self) -> None:
        try:
            self.connection.close()  # which moves the log into the file
            self._copy_at_close()
        finally:
            self._let_go()

    def compact(self) -> None:
        """Write the file anew, without the bytes of what was deleted. Reads that are under way are stopped."""
        self.mend()
        if not self._real_path:
            return
        self._stop_reads()
        if self.lent:
            raise StoreError(f"database {self.name} is still being read; try again")
        try:
            with unfinished(self._real_path) as made:
                copy_into(self.connection, made)
                self._broken = True  # whatever comes, it is opened anew
                self.connection.close()
                if not os.path.lexists(f"{self._real_path}.wal"):  # else the log would be taken for the new file's
                    finish(made, Path(self._real_path), time.time())
                self.mend()
        except duckdb.Error as error:
            raise self.fault(error) from error
        except OSError as error:
            raise StoreError(f"database {self.name} cannot be written anew ({error.strerror})") from error

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
        if self._broken:
            self._stop_reads()  # while one has a cursor, it is the same broken database that is opened
            self.connection.close()
            self._connect()
            self._broken = False

    def _stop_reads(self) -> None:
        for aside in tuple(self.lent):
            aside.stop()
            aside.ended.wait(STUBBORN)

    def _let_go(self) -> None:
        if self._real_path:
            let_go(self._real_path)

    def _copy_at_close(self) -> None:
        """Keep a copy of a file that is soon copied, where the newest one is older than a day."""
        real, now = self._real_path, time.time()
        with contextlib.suppress(OSError):  # the next kernel will try again, and say so
            is_small = bool(real) and Path(real).stat().st_size <= MAX_BYTES_AT_CLOSE
            if is_small and not self.lent and is_due(real, now, DAY_S):
                copy_closed(real, day_name(now), now)
                prune(real, now)

    def _connect(self) -> None:
        self._open_file()
        try:
            due = upgrade_due(self.connection, self.name, migrations())
            if self._real_path and due is not None:
                self.connection.close()
                self._copy_before(due)
                self._open_file()
            migrate(self.connection, self.name, migrations())
            identity = DatabaseIdentity(identify(self.connection), is_new=self._is_new, network_disk=self._disk)
            self.tables = Operations(_ParsedOnceConnection(self.connection), identity)
            self.tables.count_on()
        except BaseException as error:
            self.connection.close()
            if isinstance(error, duckdb.Error):
                raise self._opening_fault(error) from error
            raise

    def _open_file(self) -> None:
        try:
            self.connection = duckdb.connect(self.name, config=SETTINGS)
        except (duckdb.Error, MemoryError) as error:
            raise opening_fault(error, self.name) from error
        try:
            if self._real_path:
                narrow(Path(self._real_path))
                self.connection.execute(queries.allow_folder(f"{backup_folder(self._real_path)}/"))
            for setting in (queries.NO_EXTERNAL_ACCESS, queries.USE_UTC, queries.LOCK_SETTINGS):
                self.connection.execute(setting)
        except duckdb.Error as error:
            self.connection.close()
            raise self._opening_fault(error) from error

    def _opening_fault(self, error: duckdb.Error) -> StoreError:
        what_is_wrong = schema_fault if isinstance(error, SCHEMA_ERRORS) else opening_fault
        return what_is_wrong(error, self.name)

    def _copy_before(self, version: int) -> None:
        """Copy the file before its tables are upgraded: an older Piano reads only the copy."""
        now = time.time()
        try:
            copy_closed(self._real_path, f"before-{version:04}-{moment(now)}.duckdb", now)
        except OSError as error:
            raise StoreError(
                f"database {self.name} is of an older piano_jupyter and cannot be copied before it is upgraded "
                f"({error.strerror}): fix that, or {ELSEWHERE}"
            ) from error


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

    def __init__(self) -> None:
        begin_private_thread()  # a read may spill to the disk

    def begin(self) -> None: ...
    def commit(self) -> None: ...
    def rollback(self) -> None: ...
    def close(self) -> None: ...


class ReadCursor(Generic[Result]):
    """A read on a cursor of its own, in one transaction in which nothing can be written; stopped from any thread.

    One that `copies` begins its transactions itself: a copy is written to, if to another file.
    """

    def __init__(self, read: "Callable[[ReadCursor[Any]], Result]", *, copies: bool = False) -> None:
        self._read, self._copies = read, copies
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
            if not self._copies:
                self.execute(queries.BEGIN_READ_ONLY)
            return self._read(self)
        except duckdb.Error as error:
            raise self.fault(error) from error
        finally:
            self.give_back()

    def execute(self, query: str, parameters: Any = None, /) -> duckdb.DuckDBPyConnection:
        return self.cursor().execute(query, parameters)

    def cursor(self) -> duckdb.DuckDBPyConnection:
        return self._borrowed()[1]

    @property
    def database(self) -> Database:
        """The database that it reads."""
        return self._borrowed()[0]

    def _borrowed(self) -> tuple[Database, duckdb.DuckDBPyConnection]:
        with self._guard:
            if self._stopped or self._lent is None:
                raise StoreError("the query was stopped before it ran")
            return self._lent

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
