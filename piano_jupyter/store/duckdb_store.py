"""DuckDBStore: the store in one DuckDB file, or in memory. The only module that knows DuckDB."""

import asyncio
import contextlib
import json
import threading
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar
from uuid import UUID

import duckdb

from piano_jupyter.errors import StoreError
from piano_jupyter.records import (
    Agent,
    Counts,
    Hit,
    Job,
    JobStatus,
    Message,
    Rows,
    Thread,
    ThreadStatus,
    ToolCall,
)
from piano_jupyter.store import queries, reports
from piano_jupyter.store.base import Acknowledged, UsageBy
from piano_jupyter.store.faults import fault, opening_fault, words
from piano_jupyter.store.files import hold, let_go, make_ready, whole_path
from piano_jupyter.store.migrate import migrate, migrations
from piano_jupyter.store.select import refusal
from piano_jupyter.store.tables import Tables
from piano_jupyter.store.writer import Writer

MEMORY = ":memory:"
SETTINGS: dict[str, str | bool | int | float | list[str]] = {
    "checkpoint_threshold": "4MB",  # at 1MB each group of writes forces one; a longer log takes seconds to replay
    "threads": 1,  # our queries are short: a pool of threads makes them a sixth slower
    "enable_external_access": False,
    "autoinstall_known_extensions": False,  # else a SQLite file in our place makes it download one
    "autoload_known_extensions": False,
    "python_enable_replacements": False,  # a query would see the variables of whoever calls
}

STUBBORN = 5.0  # seconds for a read to end once it is stopped

Result = TypeVar("Result")


class DuckDBStore:
    """Keeps everything in a DuckDB file that this process has to itself, or in memory with ':memory:'.

    A file that is not there is made, with its folders. A file is open once in a process; another process that has it
    open is a StoreLockedError.
    """

    def __init__(self, path: str | Path) -> None:
        self.name = MEMORY if str(path) == MEMORY else whole_path(path)
        self._threads: _Threads | None = None
        self._reports: set[_Aside[Any]] = set()

    async def open(self) -> None:
        if self._threads is not None and not self._threads.writer.closed:
            await self._threads.writer.run(lambda _: None, alone=True)  # whoever opened it may still be at it
            return
        self._threads = _Threads(
            Writer(_Nothing, self.name), Writer(_Nothing, self.name), Writer(lambda: _Database(self.name), self.name)
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

    async def add_agent(self, agent: Agent) -> Agent:
        return await self._do(lambda tables: tables.add_agent(agent))

    async def update_agent(self, agent: Agent) -> Agent:
        return await self._do(lambda tables: tables.update_agent(agent))

    async def agents(self) -> list[Agent]:
        return await self._do(lambda tables: tables.agents())

    async def add_thread(self, thread: Thread) -> Thread:
        return await self._do(lambda tables: tables.add_thread(thread))

    async def update_thread(self, thread: Thread) -> Thread:
        return await self._do(lambda tables: tables.update_thread(thread))

    async def thread(self, thread_id: UUID) -> Thread:
        return await self._do(lambda tables: tables.thread(thread_id))

    async def threads(self, status: ThreadStatus | None = None) -> list[Thread]:
        return await self._read(lambda tables: tables.threads(status))

    async def enqueue(self, message: Message, jobs: Sequence[Job] = ()) -> tuple[Message, list[Job]]:
        return await self._do(lambda tables: tables.enqueue(message, jobs))

    async def add_message(self, message: Message) -> Message:
        kept, _ = await self.enqueue(message)
        return kept

    async def add_jobs(self, jobs: Sequence[Job]) -> list[Job]:
        return await self._do(lambda tables: tables.add_jobs(jobs))

    async def add_conversation(self, thread: Thread, messages: Sequence[Message], calls: Sequence[ToolCall]) -> Thread:
        return await self._do(lambda tables: tables.add_conversation(thread, messages, calls))

    async def message(self, message_id: UUID) -> Message:
        return await self._do(lambda tables: tables.message(message_id))

    async def messages(self, thread_id: UUID, last: int | None = None) -> list[Message]:
        return await self._read(lambda tables: tables.messages(thread_id, last))

    async def messages_ending(self, digits: str, thread_id: UUID | None = None) -> list[Message]:
        return await self._read(lambda tables: tables.messages_ending(digits, thread_id))

    async def start_call(self, call: ToolCall) -> ToolCall:
        return await self._do(lambda tables: tables.start_call(call))

    async def finish_call(self, call: ToolCall) -> ToolCall:
        return await self._do(lambda tables: tables.finish_call(call))

    async def tool_calls(self, thread_id: UUID) -> list[ToolCall]:
        return await self._read(lambda tables: tables.tool_calls(thread_id))

    async def claim(self, job_id: UUID, owner: str, now: datetime) -> Job | None:
        return await self._do(lambda tables: tables.claim(job_id, owner, now))

    async def ack(
        self, job: Job, answer: Message, now: datetime, *, asked: Sequence[Job] = (), note: Message | None = None
    ) -> Acknowledged:
        return await self._do(lambda tables: tables.ack(job, answer, now, asked, note))

    async def fail(self, job: Job, reason: str, now: datetime) -> Job:
        return await self._do(lambda tables: tables.fail(job, reason, now))

    async def cancel(self, job: Job, now: datetime) -> Job:
        return await self._do(lambda tables: tables.cancel(job, now))

    async def retry(self, job: Job) -> Job:
        return await self._do(lambda tables: tables.retry(job))

    async def recover(self, max_attempts: int, now: datetime) -> list[Job]:
        return await self._do(lambda tables: tables.recover(max_attempts, now))

    async def job(self, job_id: UUID) -> Job:
        return await self._do(lambda tables: tables.job(job_id))

    async def jobs(self, *statuses: JobStatus, thread_id: UUID | None = None, last: int | None = None) -> list[Job]:
        return await self._read(lambda tables: tables.jobs(statuses, thread_id, last))

    async def jobs_ending(self, digits: str) -> list[Job]:
        return await self._read(lambda tables: tables.jobs_ending(digits))

    async def counts(self) -> Counts:
        return await self._read(lambda tables: tables.counts())

    async def search(self, text: str, limit: int) -> list[Hit]:
        return await self._report(lambda aside: reports.search(aside, text, limit))

    async def usage(self, by: UsageBy) -> Rows:
        return await self._report(lambda aside: reports.usage(aside, by))

    async def sql(self, query: str) -> Rows:
        return await self._report(lambda aside: _select(aside, query))

    async def _read(self, function: Callable[[Tables], Result]) -> Result:
        """Read what may be many rows, without holding up who writes."""
        return await self._beside(_Aside(lambda aside: function(Tables(aside))), self._opened().reader)

    async def _report(self, read: "Callable[[_Aside[Any]], Result]") -> Result:
        """Read what may take long, without holding up who writes or reads; closing ends it."""
        aside = _Aside(read)
        self._reports.add(aside)
        try:
            return await self._beside(aside, self._opened().reporter)
        finally:
            self._reports.discard(aside)

    async def _beside(self, aside: "_Aside[Result]", thread: "Writer[_Nothing]") -> Result:
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

    async def _do(self, function: Callable[[Tables], Result]) -> Result:
        return await self._opened().writer.run(lambda database: database.do(function))

    def _stop_reports(self) -> None:
        for report in tuple(self._reports):
            report.stop()

    def _opened(self) -> "_Threads":
        if self._threads is None:
            raise StoreError(f"database {self.name} is not open")
        return self._threads


class _Database:
    """The connection, as the writer's thread owns it."""

    connection: duckdb.DuckDBPyConnection
    tables: Tables

    def __init__(self, name: str) -> None:
        self.name = name
        self._broken = False
        self._seqs: dict[str, int] = {}
        self.lent: set[_Aside[Any]] = set()  #: who has a cursor
        if name != MEMORY:
            make_ready(name)
            hold(name)
        try:
            self._connect()
        except BaseException:
            let_go(name)
            raise

    def begin(self) -> None:
        self.mend()
        self._seqs = dict(self.tables.seqs)
        self.do(lambda _: self.connection.execute(queries.BEGIN))

    def commit(self) -> None:
        self.do(lambda _: self.connection.execute(queries.COMMIT))

    def rollback(self) -> None:
        self.tables.seqs = self._seqs
        with contextlib.suppress(duckdb.Error):
            self.connection.execute(queries.ROLLBACK)

    def close(self) -> None:
        try:
            self.connection.close()  # which moves the log into the file
        finally:
            let_go(self.name)

    def do(self, function: Callable[[Tables], Result]) -> Result:
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
            for aside in tuple(self.lent):  # while one has a cursor, it is the same broken database that is opened
                aside.stop()
                aside.ended.wait(STUBBORN)
            self.connection.close()
            self._connect()
            self._broken = False

    def _connect(self) -> None:
        try:
            self.connection = duckdb.connect(self.name, config=SETTINGS)
        except duckdb.Error as error:
            raise opening_fault(error, self.name) from error
        try:
            self.connection.execute(queries.USE_UTC)
            self.connection.execute(queries.LOCK_SETTINGS)
            migrate(self.connection, self.name, migrations())
            self.tables = Tables(_Parsed(self.connection))
            self.tables.count_on()
        except duckdb.Error as error:
            self.connection.close()
            raise opening_fault(error, self.name) from error
        except StoreError:
            self.connection.close()
            raise


class _Parsed:
    """A connection that parses each query once: parsing is a third of what a short query costs."""

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self._connection = connection
        self._statements: dict[str, duckdb.Statement] = {}

    def execute(self, query: str, parameters: Any = None, /) -> duckdb.DuckDBPyConnection:
        if query not in self._statements:
            (self._statements[query],) = self._connection.extract_statements(query)
        return self._connection.execute(self._statements[query], parameters)


class _Nothing:
    """What a thread that reads has of its own: each read brings its cursor."""

    def begin(self) -> None: ...
    def commit(self) -> None: ...
    def rollback(self) -> None: ...
    def close(self) -> None: ...


class _Threads(NamedTuple):
    """The threads of a store, in the order in which they are closed: while a cursor is open, so is the file."""

    reporter: Writer[_Nothing]
    reader: Writer[_Nothing]
    writer: Writer[_Database]


class _Aside(Generic[Result]):
    """A read on a cursor of its own, in one transaction in which nothing can be written; stopped from any thread."""

    def __init__(self, read: "Callable[[_Aside[Any]], Result]") -> None:
        self._read = read
        self._guard = threading.Lock()
        self._stopped = False
        self._lent: tuple[_Database, duckdb.DuckDBPyConnection] | None = None
        self.ended = threading.Event()

    def borrow(self, database: _Database) -> None:
        """Take a cursor, on the writer's thread."""
        database.mend()
        with self._guard:
            if not self._stopped:
                self._lent = database, database.connection.cursor()
                database.lent.add(self)

    def run(self, _: _Nothing) -> Result:
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


def _select(aside: _Aside[Any], query: str) -> Rows:
    """Return what a query of the user's gives, if it may run. Raises StoreError with DuckDB's own words."""
    if any(letter == "\0" or "\ud800" <= letter <= "\udfff" for letter in query):
        raise StoreError("the query holds a NUL or half of a surrogate pair, which no SQL has")
    try:
        statements = aside.cursor().extract_statements(query)
        if len(statements) != 1:
            raise StoreError(f"one SELECT at a time: these are {len(statements)} statements")
        kind = statements[0].type.name
        if kind != "SELECT":
            raise StoreError(f"only SELECT may run here, not {kind}: nothing can be changed by a query")
        ((parsed,),) = aside.execute(queries.PARSE, {"query": query}).fetchall()
        if why := _refusal(parsed):
            raise StoreError(why)
        result = aside.execute(query)
        return Rows(tuple(column[0] for column in result.description), tuple(result.fetchall()))
    except duckdb.Error as error:
        aside.fault(error)
        raise StoreError(words(error)) from error


def _refusal(parsed: str) -> str | None:
    try:
        return refusal(json.loads(parsed))
    except RecursionError:
        return "this query is nested too deeply"
