"""DuckDBStore: the store in one DuckDB file, or in memory."""

import asyncio
import time
from collections.abc import Callable
from operator import methodcaller
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from piano_jupyter.errors import StoreError
from piano_jupyter.store.base import Store
from piano_jupyter.store.duckdb import backups, reports
from piano_jupyter.store.duckdb.batch_operations import BatchOperations
from piano_jupyter.store.duckdb.database import MEMORY, Database
from piano_jupyter.store.duckdb.database_file import whole_path
from piano_jupyter.store.duckdb.network_disk import network_disk_of
from piano_jupyter.store.duckdb.read_cursor import ReadCursor, ThreadLocalState
from piano_jupyter.store.duckdb.writer import WriterThread

#: Reads that may return many rows: they run on the reader thread.
MANY_ROWS = {
    *("threads", "messages", "messages_ending", "tool_calls", "attachments", "jobs", "jobs_ending", "counts"),
    *("batches", "known_rows", "outcomes", "answers_from"),
}
#: Reads that may take long: they run on a thread of their own, and closing stops them.
REPORTS: dict[str, Callable[..., Any]] = {"search": reports.search, "usage": reports.usage, "sql": reports.sql}
#: Copies of the file: they run beside everything else, and closing stops them.
COPIES: dict[str, Callable[..., Any]] = {"backup": backups.backup, "erase": backups.erase}
#: Work on the file itself: nothing else runs meanwhile.
FILE_WORK: dict[str, Callable[..., Any]] = {"compact": Database.compact, "identity": Database.identity}

Result = TypeVar("Result")


class DuckDBStore(Store):
    """Keeps everything in a DuckDB file that this process has to itself, or in memory with ':memory:'.

    A missing file is created, with its folders. A file can be open only once: opening it again, in this process or
    another, raises StoreLockedError.
    """

    def __init__(
        self,
        path: str | Path,
        notify: Callable[[str], None] = lambda _: None,
        network_disk: Callable[[str], str] = network_disk_of,
        changed: Callable[[str, str], None] = lambda _name, _problem: None,
        saves_lost: Callable[[], bool] = lambda: True,
    ) -> None:
        """`notify` is called, on any thread, with a sentence for the user: that the file was lost, or is damaged.

        `network_disk` returns what network disk a path is on, "" for none. `changed` is called, on any thread, with the
        path of the file in use and why nothing can be stored, when either changes. `saves_lost` returns whether to save
        what a file held that was deleted, moved or replaced: not one that nobody uses any more.
        """
        self._network_disk, self._saves_lost = network_disk, saves_lost
        self.name = MEMORY if str(path) == MEMORY else whole_path(path)
        self._notify, self._changed = notify, changed
        self.problem = ""  #: why nothing can be stored at present
        self._threads: _StoreThreads | None = None
        self._reads: dict[ReadCursor[Any], WriterThread[ThreadLocalState]] = {}

    async def open(self) -> None:
        if self._threads is not None and not self._threads.writer.closed:
            await self._threads.writer.run(lambda _: None, alone=True)  # another caller may still be opening it
            return
        self._threads = _StoreThreads(
            WriterThread(ThreadLocalState, self.name),
            WriterThread(ThreadLocalState, self.name),
            WriterThread(ThreadLocalState, self.name),
            WriterThread(self._opened_database, self.name),
        )
        try:
            for thread in self._threads:
                await thread.open()
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        self._stop_reports()
        for thread in self._threads or ():
            await thread.close()

    def close_now(self, timeout: float) -> None:
        self._stop_reports()
        ends = time.monotonic() + timeout
        for thread in self._threads or ():
            thread.close_now(max(0.0, ends - time.monotonic()))

    async def call(self, operation: str, /, *arguments: Any, **options: Any) -> Any:
        """Run an operation on the thread where it delays nobody else."""
        if report := REPORTS.get(operation):
            return await self._read(lambda cursor: report(cursor, *arguments, **options), self._opened().reporter)
        if copy := COPIES.get(operation):
            return await self._read(
                lambda cursor: copy(cursor, *arguments, **options), self._opened().copier, copies=True
            )
        if work := FILE_WORK.get(operation):
            return await self._opened().writer.run(work, alone=True)
        if operation == "delete_threads":
            return await self._opened().writer.run(lambda database: database.delete_threads(*arguments, **options))
        do = methodcaller(operation, *arguments, **options)
        if operation in MANY_ROWS:
            return await self._read(lambda cursor: do(BatchOperations(cursor)), self._opened().reader)
        return await self._opened().writer.run(lambda database: database.do(do))

    async def _read(
        self,
        read: "Callable[[ReadCursor[Any]], Result]",
        thread: "WriterThread[ThreadLocalState]",
        *,
        copies: bool = False,
    ) -> Result:
        """Run a read on another thread, after every operation that was called before it; closing may stop it.

        It is run again if it was stopped because the file had to be rewritten.
        """
        while True:
            cursor = ReadCursor(read, copies=copies)
            self._reads[cursor] = thread
            try:
                await self._opened().writer.run(cursor.borrow, alone=True)
                return await thread.run(cursor.run, alone=True)
            except asyncio.CancelledError:
                cursor.stop()  # it would block the thread for all others
                raise
            except StoreError:
                cursor.give_back()  # the thread may be closed and never run it
                if not cursor.is_postponed or cursor not in self._reads:
                    raise
            finally:
                self._reads.pop(cursor, None)

    def _stop_reports(self) -> None:
        """Stop the reads that would delay the close."""
        for cursor, thread in tuple(self._reads.items()):
            if self._threads is not None and thread is not self._threads.reader:
                del self._reads[cursor]
                cursor.stop()

    def _opened_database(self) -> Database:
        return Database(self.name, self._notify, self._set_state, self._network_disk, self._saves_lost)

    def _set_state(self, name: str, problem: str) -> None:
        self.name, self.problem = name, problem
        self._changed(name, problem)

    def _opened(self) -> "_StoreThreads":
        if self._threads is None:
            raise StoreError(f"database {self.name} is not open")
        return self._threads


class _StoreThreads(NamedTuple):
    """The threads of a store, in the order in which they are closed: while a cursor is open, so is the file."""

    copier: WriterThread[ThreadLocalState]
    reporter: WriterThread[ThreadLocalState]
    reader: WriterThread[ThreadLocalState]
    writer: WriterThread[Database]
