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
from piano_jupyter.store.duckdb.database import MEMORY, Database, ReadCursor, ThreadLocalState
from piano_jupyter.store.duckdb.database_file import whole_path
from piano_jupyter.store.duckdb.network_disk import network_disk_of
from piano_jupyter.store.duckdb.operations import Operations
from piano_jupyter.store.duckdb.writer import WriterThread

#: Reads of what may be many rows: beside the writer.
MANY_ROWS = {"threads", "messages", "messages_ending", "tool_calls", "jobs", "jobs_ending", "counts"}
#: Reads that may take long: beside the writer and the other reads, and closing ends them.
REPORTS: dict[str, Callable[..., Any]] = {"search": reports.search, "usage": reports.usage, "sql": reports.sql}
#: Copies of the file: beside everything else, and closing ends them.
COPIES: dict[str, Callable[..., Any]] = {"backup": backups.backup, "erase": backups.erase}
#: Work on the file itself: nobody else has it meanwhile.
FILE_WORK: dict[str, Callable[..., Any]] = {"compact": Database.compact}

Result = TypeVar("Result")


class DuckDBStore(Store):
    """Keeps everything in a DuckDB file that this process has to itself, or in memory with ':memory:'.

    A file that is not there is made, with its folders. A file is open once in a process; another process that has it
    open is a StoreLockedError. `network_disk` says what network disk a path is on, "" for none.
    """

    def __init__(self, path: str | Path, network_disk: Callable[[str], str] = network_disk_of) -> None:
        self._network_disk = network_disk
        self.name = MEMORY if str(path) == MEMORY else whole_path(path)
        self._threads: _StoreThreads | None = None
        self._reports: set[ReadCursor[Any]] = set()

    async def open(self) -> None:
        if self._threads is not None and not self._threads.writer.closed:
            await self._threads.writer.run(lambda _: None, alone=True)  # whoever opened it may still be at it
            return
        self._threads = _StoreThreads(
            WriterThread(ThreadLocalState, self.name),
            WriterThread(ThreadLocalState, self.name),
            WriterThread(ThreadLocalState, self.name),
            WriterThread(lambda: Database(self.name, self._network_disk), self.name),
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
        """Do an operation on the thread where it holds up nobody."""
        if report := REPORTS.get(operation):
            read = ReadCursor[Any](lambda aside: report(aside, *arguments, **options))
            return await self._stoppable(read, self._opened().reporter)
        if copy := COPIES.get(operation):
            read = ReadCursor[Any](lambda aside: copy(aside, *arguments, **options), copies=True)
            return await self._stoppable(read, self._opened().copier)
        if work := FILE_WORK.get(operation):
            return await self._opened().writer.run(work, alone=True)
        do = methodcaller(operation, *arguments, **options)
        if operation in MANY_ROWS:
            return await self._beside(ReadCursor(lambda aside: do(Operations(aside))), self._opened().reader)
        return await self._opened().writer.run(lambda database: database.do(do))

    async def _stoppable(self, aside: "ReadCursor[Result]", thread: "WriterThread[ThreadLocalState]") -> "Result":
        self._reports.add(aside)
        try:
            return await self._beside(aside, thread)
        finally:
            self._reports.discard(aside)

    async def _beside(self, aside: "ReadCursor[Result]", thread: "WriterThread[ThreadLocalState]") -> Result:
        """Run a read on another thread, after all that was asked for before it."""
        try:
            await self._opened().writer.run(aside.borrow, alone=True)
            return await thread.run(aside.run, alone=True)
        except asyncio.CancelledError:
            aside.stop()  # it would keep the thread from everybody else
            raise
        except StoreError:
            aside.give_back()  # where the thread did not take it any more
            raise

    def _stop_reports(self) -> None:
        for report in tuple(self._reports):
            report.stop()

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
