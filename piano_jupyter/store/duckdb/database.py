"""The database as its threads use it: the writer owns the connection, each read on another thread borrows a cursor."""

import contextlib
import os
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar
from uuid import UUID

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
from piano_jupyter.store.duckdb.batch_operations import BatchOperations
from piano_jupyter.store.duckdb.copying import copy_into
from piano_jupyter.store.duckdb.database_file import hold, is_nowhere, let_go, make_ready
from piano_jupyter.store.duckdb.error_messages import (
    cannot_write,
    error_in_use,
    is_damage,
    may_be_damage,
    not_recovered,
    opening_error,
    schema_error,
)
from piano_jupyter.store.duckdb.file_access import begin_private_thread, narrow
from piano_jupyter.store.duckdb.lock import ELSEWHERE
from piano_jupyter.store.duckdb.lost_file import WatchedFile, recovered_path
from piano_jupyter.store.duckdb.migrate import identify, migrate, migrations, upgrade_due
from piano_jupyter.store.duckdb.network_disk import network_disk_of
from piano_jupyter.store.duckdb.recovery import (
    finish_recovery,
    has_recovered,
    is_log_broken,
    is_repaired,
    recover,
    set_incomplete_aside,
    set_orphaned_log_aside,
)
from piano_jupyter.store.duckdb.search_index import SearchIndexer, forget_words

MEMORY = ":memory:"
LOCKED_DOWN: dict[str, str | bool | int | float | list[str]] = {
    "enable_external_access": False,
    "autoinstall_known_extensions": False,  # else a SQLite file in our place makes it download one
    "autoload_known_extensions": False,
    "python_enable_replacements": False,  # a query would see the variables of whoever calls
}
SETTINGS: dict[str, str | bool | int | float | list[str]] = {
    **LOCKED_DOWN,
    "enable_external_access": True,  # until the folder of the copies is allowed
    "extension_directory": os.devnull,  # else for a SQLite file in our place DuckDB loads an installed extension
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
READ_STOP_TIMEOUT_S = 5.0

Result = TypeVar("Result")


class OpenCursor(Protocol):
    """A read that has borrowed a cursor."""

    ended: threading.Event

    def stop(self, *, postpone: bool = False) -> None: ...


class Database:
    """The connection, as the writer's thread owns it."""

    connection: duckdb.DuckDBPyConnection
    tables: BatchOperations

    def __init__(
        self,
        name: str,
        notify: Callable[[str], None] = lambda _: None,
        changed: Callable[[str, str], None] = lambda _name, _problem: None,
        network_disk: Callable[[str], str] = network_disk_of,
        saves_lost: Callable[[], bool] = lambda: True,
    ) -> None:
        self.name = name
        self._saves_lost = saves_lost  #: whether what a lost file held is saved
        self._notify = notify  #: called with a sentence for the user
        self._changed = changed  #: called with the path, and why nothing can be stored, when either changes
        self._disk = ""  #: the network disk that it is on
        self._watched: WatchedFile | None = None
        self._problem = ""  #: why nothing can be stored
        self._broken = self._damaged = False
        self._seqs: dict[str, int] = {}
        self.open_cursors: set[OpenCursor] = set()
        self._real_path = ""
        self._is_private = begin_private_thread()
        if name != MEMORY:
            make_ready(name)
            self._disk = network_disk(name)
            self._real_path = hold(name, self._disk)
        try:
            if name != MEMORY:
                clear_unfinished(self._real_path)
                self._finish_recovery()
            self._is_new = name == MEMORY or is_nowhere(name)
            self._connect()
        except BaseException:
            self._release_lock()
            raise

    @property
    def real_path(self) -> str:
        """The file, links resolved; "" for one in memory."""
        return self._real_path

    def begin(self) -> None:
        self.reopen_if_broken()
        self._seqs = dict(self.tables.seqs)
        self.do(lambda _: self.connection.execute(queries.BEGIN))

    def commit(self) -> None:
        self.do(lambda _: self.connection.execute(queries.COMMIT))
        self.move_if_lost()  # before anybody hears that it is stored
        self._set_problem("")
        if self._real_path and not self._is_private:
            narrow(Path(f"{self._real_path}.wal"))  # each checkpoint has DuckDB create another

    def rollback(self) -> bool:
        self.tables.seqs = self._seqs
        with contextlib.suppress(duckdb.Error):
            self.connection.execute(queries.ROLLBACK)
        with contextlib.suppress(StoreError):  # it is raised again by the next transaction
            return self.move_if_lost()
        return False

    def idle(self) -> None:
        """Look after the file while nothing is asked, and index for searches; what is wrong is told once."""
        try:
            self.move_if_lost()
            self._index()
        except StoreError as error:
            self._set_problem(str(error))

    def _index(self) -> None:
        """Add to the index of searches, for a moment."""
        end, newest = time.monotonic() + INDEX_STEP_S, self.tables.seqs["messages"]
        while not self._broken and self.do(lambda _: self._indexer.step(newest)) and time.monotonic() < end:
            pass

    def close(self) -> None:
        try:
            if self._is_given_up():
                self.connection.close()
                return
            self.move_if_lost()
            if not self._broken and self._watched is not None:
                with contextlib.suppress(duckdb.Error):  # then the log has it all
                    self.connection.execute(queries.CHECKPOINT)
            self.connection.close()
            if not self._damaged:
                self._copy_at_close()
            elif not self.open_cursors:
                with contextlib.suppress(OSError):
                    has_recovered(self.name)  # the next opening goes on with it
        finally:
            self._release_lock()

    def _is_given_up(self) -> bool:
        """Return whether the file was lost when nobody used it any more."""
        return not self._saves_lost() and self._watched is not None and bool(self._watched.what_happened())

    def move_if_lost(self) -> bool:
        """Go on in a copy if the file was deleted, moved or replaced; return whether it was. Raises StoreError."""
        what = self._watched.what_happened() if self._watched is not None else ""
        if self._watched is None or not what:
            return False
        if not self._saves_lost():
            raise StoreError(f"the file of database {self.name} {what} when nobody used it any more")
        lost, lost_path = self.name, self._real_path
        try:
            path = str(recovered_path(lost_path))
            make_ready(path)
            held = hold(path, self._disk)
            try:
                self._watched.copy_to(Path(path))
            except BaseException:
                let_go(held)
                raise
        except OSError as error:
            problem = (
                f"the file of database {lost} {what}, and what it held cannot be saved ({error}): make room for it in "
                f"{Path(lost_path).parent}; nothing more is stored until then"
            )
            self._set_problem(problem)
            raise StoreError(problem) from error
        self._close_connection()
        self.name, self._real_path = path, held
        let_go(lost_path)
        self._connect()
        self._broken = self._damaged = False
        self._problem = ""
        self._changed(path, "")
        self._notify(
            f"the file of database {lost} {what}; everything in it was saved to {path}, which this kernel uses now. "
            f"To keep it, move it to the place of the old one when this kernel has ended, or set PianoConfig.database",
        )
        return True

    def delete_threads(self, threads: Sequence[UUID]) -> None:
        """Delete threads, with their words in the index of searches."""
        self._indexer = SearchIndexer(self.connection)  # the old one may be about to add such words

        def delete(tables: BatchOperations) -> None:
            seqs = self.connection.execute(queries.SEQS_OF_THREADS, {"ids": list(threads)}).fetchall()
            tables.delete_threads(threads)
            forget_words(self.connection, (seq for (seq,) in seqs))

        self.do(delete)

    def identity(self) -> DatabaseIdentity:
        """Return which database this is, once its file was looked at: nothing is stored, so a full disk stays told."""
        self.reopen_if_broken()
        return self.do(lambda tables: tables.identity())

    def compact(self) -> None:
        """Rewrite the file, without the bytes of what was deleted. Reads that are under way are postponed."""
        self.reopen_if_broken()
        if not self._real_path:
            return
        self._stop_reads(postpone=True)
        if self.open_cursors:
            raise StoreError(f"database {self.name} is still being read; try again")
        try:
            with unfinished(self._real_path) as made:
                copy_into(self.connection, made)
                self.connection.execute(queries.CHECKPOINT)
                self._broken, self._watched = True, None  # whatever happens, it is opened again
                self.connection.close()
                if not os.path.lexists(f"{self._real_path}.wal"):  # else the log would be taken for the new file's
                    finish(made, Path(self._real_path), time.time())
                self.reopen_if_broken()
        except duckdb.Error as error:
            raise self.translate(error) from error
        except OSError as error:
            raise StoreError(f"database {self.name} cannot be rewritten ({error.strerror})") from error

    def do(self, function: Callable[[BatchOperations], Result]) -> Result:
        """Return what the function returns; DuckDB's errors become ours."""
        try:
            return function(self.tables)
        except duckdb.Error as error:
            raise self.translate(error) from error

    def translate(self, error: duckdb.Error) -> StoreError:
        self._damaged |= self.name != MEMORY and is_damage(error)
        # After a fatal error (such as a full disk at a checkpoint) DuckDB refuses every query; commits are in the log.
        is_fatal = isinstance(error, duckdb.FatalException | duckdb.InternalException)
        self._broken |= self.name != MEMORY and (is_fatal or self._damaged)
        problem = error_in_use(error, self.name)
        if cannot_write(error):
            self._set_problem(str(problem))
        return problem

    def _set_problem(self, problem: str) -> None:
        if problem != self._problem:
            self._problem = problem
            self._changed(self.name, problem)

    def reopen_if_broken(self) -> None:
        """Open the file again if a fatal error has made DuckDB refuse every query, or another one if it was lost."""
        if self.move_if_lost() or not self._broken:
            return
        self._close_connection()
        if self._damaged and not self.open_cursors:
            self._recover()
        self._connect()
        self._broken = self._damaged = False

    def _close_connection(self) -> None:
        self._stop_reads()  # while a cursor is open, connecting returns the same broken database
        self.connection.close()

    def _stop_reads(self, *, postpone: bool = False) -> None:
        for cursor in tuple(self.open_cursors):
            cursor.stop(postpone=postpone)
            cursor.ended.wait(READ_STOP_TIMEOUT_S)

    def _release_lock(self) -> None:
        if self._real_path:
            let_go(self._real_path)

    def _copy_at_close(self) -> None:
        """Keep a copy of a file that is soon copied, where the newest one is older than a day."""
        real, now = self._real_path, time.time()
        with contextlib.suppress(OSError):  # the next kernel will try again, and say so
            is_small = bool(real) and Path(real).stat().st_size <= MAX_BYTES_AT_CLOSE
            if is_small and not self.open_cursors and is_due(real, now, DAY_S):
                copy_closed(real, day_name(now), now)
                prune(real, now)

    def _connect(self) -> None:
        """Open the file; one that DuckDB refuses is repaired, or what can be read of it is recovered."""
        fixes = iter(() if self.name == MEMORY else (self._repair, self._recover))
        while True:
            try:
                return self._open()
            except (duckdb.Error, MemoryError) as error:
                if not may_be_damage(error) or not any(fix() for fix in fixes):
                    translate = schema_error if isinstance(error, SCHEMA_ERRORS) else opening_error
                    raise translate(error, self.name) from error

    def _open(self) -> None:
        self._open_file()
        try:
            due = upgrade_due(self.connection, self.name, migrations())
            if self._real_path and due is not None:
                self.connection.close()
                self._copy_before(due)
                self._open_file()
            migrate(self.connection, self.name, migrations())
            identity = DatabaseIdentity(identify(self.connection), is_new=self._is_new, network_disk=self._disk)
            self.tables = BatchOperations(_ParsedOnceConnection(self.connection), identity)
            self.tables.load_counters()
            self._indexer = SearchIndexer(self.connection)
            self._watched = WatchedFile(self._real_path) if self._real_path else None
        except BaseException:
            self.connection.close()
            raise

    def _open_file(self) -> None:
        self.connection = duckdb.connect(self.name, config=SETTINGS)
        try:
            if self._real_path:
                narrow(Path(self._real_path))
                self.connection.execute(queries.allow_folder(f"{backup_folder(self._real_path)}/"))
            self.connection.execute(queries.NO_PROGRESS_BAR)
            self.connection.execute(queries.NO_EXTERNAL_ACCESS)
            self.connection.execute(queries.USE_UTC)
            self.connection.execute(queries.NO_CHECKPOINT_AT_CLOSE)  # which deletes any log at the path
            self.connection.execute(queries.LOCK_SETTINGS)
        except BaseException:
            self.connection.close()
            raise

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

    def _repair(self) -> bool:
        try:
            return is_repaired(self.name)
        except OSError as error:
            raise not_recovered(error, self.name) from error

    def _recover(self) -> bool:
        try:
            sentence = recover(self.name)
        except OSError as error:
            raise not_recovered(error, self.name) from error
        if sentence:
            self._notify(sentence)
        return bool(sentence)

    def _finish_recovery(self) -> None:
        try:
            sentence = finish_recovery(self.name) or set_incomplete_aside(self.name)
            sentence = sentence or set_orphaned_log_aside(self.name)
            is_broken = is_log_broken(self.name)
        except OSError as error:
            raise opening_error(error, self.name) from error
        if sentence:
            self._notify(sentence)
        if is_broken:
            self._recover()


class _ParsedOnceConnection:
    """A connection that parses each query once: parsing is a third of what a short query costs."""

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self._connection = connection
        self._statements: dict[str, duckdb.Statement] = {}

    def execute(self, query: str, parameters: Any = None, /) -> duckdb.DuckDBPyConnection:
        if query not in self._statements:
            (self._statements[query],) = self._connection.extract_statements(query)
        return self._connection.execute(self._statements[query], parameters)
