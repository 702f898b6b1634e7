"""DuckDBStore: the store in one DuckDB file, or in memory. The only module that knows DuckDB."""

import asyncio
import contextlib
import json
import threading
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID

import duckdb

from piano_jupyter.errors import StoreError
from piano_jupyter.records import Agent, Job, JobStatus, Message, Rows, Thread, ThreadStatus, ToolCall
from piano_jupyter.store import queries
from piano_jupyter.store.faults import fault, opening_fault, words
from piano_jupyter.store.files import hold, let_go, make_ready, whole_path
from piano_jupyter.store.migrate import migrate, migrations
from piano_jupyter.store.select import refusal
from piano_jupyter.store.tables import Tables
from piano_jupyter.store.writer import Writer

MEMORY = ":memory:"
SETTINGS: dict[str, str | bool | int | float | list[str]] = {
    "checkpoint_threshold": "1MB",  # a longer log may take seconds to replay after a kill
    "threads": 1,  # our queries are short: a pool of threads makes them a sixth slower
    "enable_external_access": False,
    "autoinstall_known_extensions": False,  # else a SQLite file in our place makes it download one
    "autoload_known_extensions": False,
    "python_enable_replacements": False,  # a query would see the variables of whoever calls
}

Result = TypeVar("Result")


class DuckDBStore:
    """Keeps everything in a DuckDB file that this process has to itself, or in memory with ':memory:'.

    A file that is not there is made, with its folders. A file is open once in a process; another process that has it
    open is a StoreLockedError.
    """

    def __init__(self, path: str | Path) -> None:
        self.name = MEMORY if str(path) == MEMORY else whole_path(path)
        self._writer: Writer[_Database] | None = None
        self._selects: set[_Select] = set()

    async def open(self) -> None:
        if self._writer is not None and not self._writer.closed:
            await self._writer.run(lambda _: None, alone=True)  # whoever opened it may still be at it
            return
        self._writer = Writer(lambda: _Database(self.name), self.name)
        await self._writer.open()

    async def close(self) -> None:
        self._stop_selects()
        if self._writer is not None:
            await self._writer.close()

    def close_now(self, timeout: float) -> None:
        self._stop_selects()
        if self._writer is not None:
            self._writer.close_now(timeout)

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
        return await self._do(lambda tables: tables.threads(status))

    async def enqueue(self, message: Message, jobs: Sequence[Job] = ()) -> tuple[Message, list[Job]]:
        return await self._do(lambda tables: tables.enqueue(message, jobs))

    async def add_message(self, message: Message) -> Message:
        kept, _ = await self.enqueue(message)
        return kept

    async def message(self, message_id: UUID) -> Message:
        return await self._do(lambda tables: tables.message(message_id))

    async def messages(self, thread_id: UUID, last: int | None = None) -> list[Message]:
        return await self._do(lambda tables: tables.messages(thread_id, last))

    async def start_call(self, call: ToolCall) -> ToolCall:
        return await self._do(lambda tables: tables.start_call(call))

    async def finish_call(self, call: ToolCall) -> ToolCall:
        return await self._do(lambda tables: tables.finish_call(call))

    async def tool_calls(self, thread_id: UUID) -> list[ToolCall]:
        return await self._do(lambda tables: tables.tool_calls(thread_id))

    async def claim(self, job_id: UUID, owner: str, now: datetime) -> Job | None:
        return await self._do(lambda tables: tables.claim(job_id, owner, now))

    async def ack(self, job: Job, answer: Message, now: datetime) -> tuple[Job, Message]:
        return await self._do(lambda tables: tables.ack(job, answer, now))

    async def fail(self, job: Job, reason: str, now: datetime) -> Job:
        return await self._do(lambda tables: tables.fail(job, reason, now))

    async def cancel(self, job: Job, now: datetime) -> Job:
        return await self._do(lambda tables: tables.cancel(job, now))

    async def retry(self, job: Job) -> Job:
        return await self._do(lambda tables: tables.retry(job))

    async def recover(self, max_attempts: int, now: datetime) -> list[Job]:
        return await self._do(lambda tables: tables.recover(max_attempts, now))

    async def jobs(self, *statuses: JobStatus, thread_id: UUID | None = None) -> list[Job]:
        return await self._do(lambda tables: tables.jobs(statuses, thread_id))

    async def sql(self, query: str) -> Rows:
        select = _Select(query)
        self._selects.add(select)
        try:
            return await self._opened().run(select.rows, alone=True)
        except asyncio.CancelledError:
            select.stop()  # it would keep the thread from everybody else
            raise
        finally:
            self._selects.discard(select)

    async def _do(self, function: Callable[[Tables], Result]) -> Result:
        return await self._opened().run(lambda database: database.do(function))

    def _stop_selects(self) -> None:
        for select in tuple(self._selects):
            select.stop()

    def _opened(self) -> "Writer[_Database]":
        if self._writer is None:
            raise StoreError(f"database {self.name} is not open")
        return self._writer


class _Database:
    """The connection, as the writer's thread owns it."""

    connection: duckdb.DuckDBPyConnection
    tables: Tables

    def __init__(self, name: str) -> None:
        self.name = name
        self._broken = False
        self._seqs: dict[str, int] = {}
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


class _Select:
    """A query of the user's, which can be stopped from another thread."""

    def __init__(self, query: str) -> None:
        self._query = query
        self._guard = threading.Lock()
        self._cursor: duckdb.DuckDBPyConnection | None = None
        self._stopped = False

    def rows(self, database: _Database) -> Rows:
        database.mend()
        try:
            with database.connection.cursor() as cursor:
                self._check(cursor)
                cursor.execute(queries.BEGIN_READ_ONLY)
                with self._stoppable(cursor):
                    cursor.execute(self._query)
                    return Rows(tuple(column[0] for column in cursor.description), tuple(cursor.fetchall()))
        except duckdb.Error as error:
            database.fault(error)
            raise StoreError(words(error)) from error

    def stop(self) -> None:
        with self._guard:
            self._stopped = True
            if self._cursor is not None:
                self._cursor.interrupt()

    @contextlib.contextmanager
    def _stoppable(self, cursor: duckdb.DuckDBPyConnection) -> Iterator[None]:
        with self._guard:
            if self._stopped:
                raise StoreError("the query was stopped before it ran")
            self._cursor = cursor
        try:
            yield
        finally:
            with self._guard:
                self._cursor = None

    def _check(self, cursor: duckdb.DuckDBPyConnection) -> None:
        if any(letter == "\0" or "\ud800" <= letter <= "\udfff" for letter in self._query):
            raise StoreError("the query holds a NUL or half of a surrogate pair, which no SQL has")
        statements = cursor.extract_statements(self._query)
        if len(statements) != 1:
            raise StoreError(f"one SELECT at a time: these are {len(statements)} statements")
        kind = statements[0].type.name
        if kind != "SELECT":
            raise StoreError(f"only SELECT may run here, not {kind}: nothing can be changed by a query")
        (parsed,) = cursor.execute(queries.PARSE, {"query": self._query}).fetchall()[0]
        try:
            why = refusal(json.loads(parsed))
        except RecursionError:
            why = "this query is nested too deeply"
        if why is not None:
            raise StoreError(why)
