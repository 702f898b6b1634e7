"""A store of each kind, and records to put into it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
from store_servers import served

from piano_jupyter.clock import Clock
from piano_jupyter.records import Agent, Job, Message, Thread, ToolCall
from piano_jupyter.store.base import Store
from piano_jupyter.store.duckdb.duckdb_store import DuckDBStore
from piano_jupyter.store.server.remote_store import RemoteStore


class Maker:
    """Makes records with new ids and times, all else as asked."""

    def __init__(self) -> None:
        self.clock = Clock(datetime(2026, 1, 1, tzinfo=UTC))
        self.now = self.clock.now

    def agent(self, name="Ada", **fields) -> Agent:
        return Agent(id=self.clock.new_id(), name=name, model="tiny", inserted_at=self.now(), **fields)

    def thread(self, title="talk", **fields) -> Thread:
        return Thread(id=self.clock.new_id(), title=title, inserted_at=self.now(), **fields)

    def message(self, thread_id=None, **fields) -> Message:
        thread_id = thread_id or self.clock.new_id()
        given = {"role": "user", "content": "hi"} | fields
        return Message(id=self.clock.new_id(), thread_id=thread_id, inserted_at=self.now(), **given)

    def job(self, message, **fields) -> Job:
        given = {"agent_id": self.clock.new_id(), "model": "tiny"} | fields
        return Job(
            id=self.clock.new_id(),
            thread_id=message.thread_id,
            message_id=message.id,
            inserted_at=self.now(),
            **given,
        )

    def answer(self, job, **fields) -> Message:
        given = {"role": "assistant", "content": "42", "agent_id": job.agent_id, "job_id": job.id} | fields
        return self.message(job.thread_id, parent_id=job.message_id, **given)

    def call(self, message, **fields) -> ToolCall:
        given = {"name": "bash", "arguments": {"command": "ls"}} | fields
        return ToolCall(id=self.clock.new_id(), message_id=message.id, started_at=self.now(), **given)


@pytest.fixture
def make() -> Maker:
    return Maker()


@asynccontextmanager
async def shared(file: Path) -> AsyncIterator[Store]:
    async with served(file):
        yield RemoteStore(file)


@asynccontextmanager
async def alone(file: Path | str) -> AsyncIterator[Store]:
    yield DuckDBStore(file)


@pytest.fixture(params=["file", "memory", "shared"])
async def store(request, tmp_path: Path) -> AsyncIterator[Store]:
    file = tmp_path / "new" / "piano.duckdb"
    kinds = {"file": lambda: alone(file), "memory": lambda: alone(":memory:"), "shared": lambda: shared(file)}
    async with kinds[request.param]() as store:
        await store.open()
        yield store
        await store.close()


@pytest.fixture
def running(store: Store, make: Maker):
    """Return a function that queues a job and claims it."""

    async def run(owner="kernel", thread_id=None) -> Job:
        message = make.message(thread_id)
        _, (job,) = await store.enqueue(message, [make.job(message)])
        claimed = await store.claim_next(make.clock.new_id(), owner, [job.id], make.now())
        assert claimed is not None
        return claimed

    return run
