"""DuckDBStore: the store in one DuckDB file, or in memory."""

import asyncio
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple, TypeVar
from uuid import UUID

import duckdb

from piano_jupyter.errors import StoreError
from piano_jupyter.records import (
    Agent,
    Approval,
    Counts,
    Hit,
    Identity,
    Job,
    JobStatus,
    Message,
    Rows,
    Thread,
    ThreadStatus,
    ToolCall,
)
from piano_jupyter.store.base import Acknowledged, UsageBy
from piano_jupyter.store.duckdb import reports
from piano_jupyter.store.duckdb.database import MEMORY, Aside, Database, Nothing
from piano_jupyter.store.duckdb.database_file import whole_path
from piano_jupyter.store.duckdb.error_messages import words
from piano_jupyter.store.duckdb.operations import Tables
from piano_jupyter.store.duckdb.query_guard import checked
from piano_jupyter.store.duckdb.writer import Writer

Result = TypeVar("Result")


class DuckDBStore:
    """Keeps everything in a DuckDB file that this process has to itself, or in memory with ':memory:'.

    A file that is not there is made, with its folders. A file is open once in a process; another process that has it
    open is a StoreLockedError.
    """

    def __init__(self, path: str | Path) -> None:
        self.name = MEMORY if str(path) == MEMORY else whole_path(path)
        self._threads: _Threads | None = None
        self._reports: set[Aside[Any]] = set()

    async def open(self) -> None:
        if self._threads is not None and not self._threads.writer.closed:
            await self._threads.writer.run(lambda _: None, alone=True)  # whoever opened it may still be at it
            return
        self._threads = _Threads(
            Writer(Nothing, self.name), Writer(Nothing, self.name), Writer(lambda: Database(self.name), self.name)
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

    async def identity(self) -> Identity:
        return await self._opened().writer.run(lambda database: database.identity)

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

    async def messages_ending(self, digits: str) -> list[Message]:
        return await self._read(lambda tables: tables.messages_ending(digits))

    async def start_call(self, call: ToolCall) -> ToolCall:
        return await self._do(lambda tables: tables.start_call(call))

    async def finish_call(self, call: ToolCall) -> ToolCall:
        return await self._do(lambda tables: tables.finish_call(call))

    async def tool_calls(self, thread_id: UUID) -> list[ToolCall]:
        return await self._read(lambda tables: tables.tool_calls(thread_id))

    async def request_approval(self, approval: Approval) -> Approval:
        return await self._do(lambda tables: tables.request_approval(approval))

    async def decide_approval(self, approval: Approval) -> tuple[Approval, bool]:
        return await self._do(lambda tables: tables.decide_approval(approval))

    async def unbegun(self, job_id: UUID) -> list[Approval]:
        return await self._do(lambda tables: tables.unbegun(job_id))

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

    async def release(self, job: Job, now: datetime) -> Job:
        return await self._do(lambda tables: tables.release(job, now))

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
        return await self._beside(Aside(lambda aside: function(Tables(aside))), self._opened().reader)

    async def _report(self, read: "Callable[[Aside[Any]], Result]") -> Result:
        """Read what may take long, without holding up who writes or reads; closing ends it."""
        aside = Aside(read)
        self._reports.add(aside)
        try:
            return await self._beside(aside, self._opened().reporter)
        finally:
            self._reports.discard(aside)

    async def _beside(self, aside: "Aside[Result]", thread: "Writer[Nothing]") -> Result:
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


class _Threads(NamedTuple):
    """The threads of a store, in the order in which they are closed: while a cursor is open, so is the file."""

    reporter: Writer[Nothing]
    reader: Writer[Nothing]
    writer: Writer[Database]


def _select(aside: Aside[Any], query: str) -> Rows:
    """Return what a query of the user's gives, if it may run. Raises StoreError with DuckDB's own words."""
    try:
        checked(aside.cursor(), query, "Piano's own tables")
        result = aside.execute(query)
        return Rows(tuple(column[0] for column in result.description), tuple(result.fetchall()))
    except duckdb.Error as error:
        aside.fault(error)
        raise StoreError(words(error)) from error
