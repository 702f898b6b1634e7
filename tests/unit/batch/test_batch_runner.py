"""A batch as it runs over a store that is full, slow or gone, with workers that answer as a test says."""

import asyncio
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from uuid import UUID

import pytest

from piano_jupyter.batch import batch_runner
from piano_jupyter.batch.batch_rows import BatchRows
from piano_jupyter.batch.batch_run import BatchServices
from piano_jupyter.batch.batch_runner import BatchRunner
from piano_jupyter.batch.frames import open_frame
from piano_jupyter.batch.row_answer import RowAnswer
from piano_jupyter.batch.row_template import RowTemplate
from piano_jupyter.batch_records import Batch, BatchStatus
from piano_jupyter.bus import EventBus
from piano_jupyter.clock import Clock
from piano_jupyter.errors import StoreError
from piano_jupyter.events import BatchProgress
from piano_jupyter.store.base import Store, Turn
from piano_jupyter.store.duckdb.duckdb_store import DuckDBStore

COUNT, ROOM = 60, 4
TEMPLATE = RowTemplate("Say {{n}}")


class Around(Store):
    """A store around a store, whose operations a test can let wait or fail."""

    def __init__(self):
        self.inner, self.fails, self.waits = DuckDBStore(":memory:"), {}, {}
        self.waited, self.demands = asyncio.Event(), []

    async def open(self):
        await self.inner.open()

    async def close(self):
        await self.inner.close()

    def close_now(self, timeout):
        self.inner.close_now(timeout)

    async def call(self, operation, /, *arguments, **options):
        if operation == "lease_rows":
            self.demands.append(arguments[0])
        if operation in self.waits:
            self.waited.set()
            await self.waits[operation].wait()
        if operation in self.fails:
            raise StoreError(self.fails[operation])
        return await getattr(self.inner, operation)(*arguments, **options)


class Asker:
    """Answers each row at once; calls `told` with how many it has answered."""

    def __init__(self, told=lambda _: None):
        self.asked, self._told = [], told

    async def capacity(self):
        return ROOM

    @asynccontextmanager
    async def worker(self):
        yield self

    async def ask_row(self, _, row):
        await asyncio.sleep(0)
        self.asked.append(row["n"])
        self._told(len(self.asked))
        return RowAnswer(text="x", value="x", tries=1)


@pytest.fixture
async def store():
    store = Around()
    await store.open()
    yield store
    await store.close()


@pytest.fixture
def runner_of(store, monkeypatch):
    """Return a function that opens a batch and returns what runs it."""
    monkeypatch.setattr(batch_runner, "COMMIT_S", 0)

    async def runner():
        now, clock = datetime(2026, 1, 1, tzinfo=UTC), Clock()
        given = {"template": TEMPLATE.text, "model": "m", "digest": "d", "owner": "kernel", "row_count": COUNT}
        batch = await store.open_batch(Batch(id=UUID(int=1), name="numbers", inserted_at=now, **given))

        async def turn(_):
            return Turn(max_demand=1, max_wait_s=1)

        services = BatchServices(store=store, bus=EventBus(), clock=clock, turn=turn)
        rows = BatchRows(open_frame([{"n": n} for n in range(COUNT)]), TEMPLATE, "m", {})
        return BatchRunner(services, batch, TEMPLATE, rows), services.bus

    return runner


async def test_r33_a_batch_on_a_full_disk_stops_with_the_reason_and_the_next_run_asks_what_is_missing(store, runner_of):
    runner, bus = await runner_of()
    told = []
    bus.subscribe(told.append, BatchProgress)

    def fill_the_disk(answered):
        if answered == COUNT // 2:
            store.fails["add_answers"] = "no room left on the disk"

    with pytest.raises(StoreError, match="no room left on the disk"):
        await runner.run(Asker(fill_the_disk))
    assert (told[-1].status, told[-1].reason) == (BatchStatus.FAILED, "no room left on the disk")
    assert (store.demands[-1].wanted, store.demands[-1].in_flight) == (0, 0)  # no job waits for its rows

    store.fails.clear()
    [left] = await store.batches()
    again, later = (await runner_of())[0], Asker()
    await again.run(later)

    [batch] = await store.batches()
    assert (batch.status, batch.done) == (BatchStatus.DONE, COUNT)
    assert len(later.asked) == COUNT - left.done


async def test_r30_no_more_rows_begin_while_the_store_does_not_answer(store, runner_of, monkeypatch):
    monkeypatch.setattr(batch_runner, "SLOW_S", 0)
    runner, _ = await runner_of()
    asker = Asker()
    store.waits["add_answers"] = asyncio.Event()
    running = asyncio.create_task(runner.run(asker))
    async with asyncio.timeout(20):
        await store.waited.wait()
        begun = len(asker.asked)
        for _ in range(200):
            await asyncio.sleep(0)
        assert len(asker.asked) <= begun + ROOM + 1

        store.waits["add_answers"].set()
        await running

    assert len(asker.asked) == COUNT


async def test_what_was_answered_is_stored_when_the_batch_is_interrupted(store, runner_of, monkeypatch):
    runner, _ = await runner_of()
    monkeypatch.setattr(batch_runner, "COMMIT_S", 1_000)
    half = asyncio.Event()
    asker = Asker(lambda answered: half.set() if answered == COUNT // 2 else None)
    running = asyncio.create_task(runner.run(asker))
    await half.wait()
    running.cancel()
    await asyncio.wait([running])

    [batch] = await store.batches()
    assert batch.status is BatchStatus.INTERRUPTED
    assert COUNT // 2 - ROOM <= batch.done < COUNT
