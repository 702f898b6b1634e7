"""What the producer queues, and which job can be claimed."""

import asyncio
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from making import START

from piano_jupyter.bus import EventBus
from piano_jupyter.clock import Clock
from piano_jupyter.config import PianoConfig
from piano_jupyter.errors import StoreError
from piano_jupyter.events import AgentAdded, JobCancelled, JobFailed, JobQueued, JobStarted
from piano_jupyter.pipeline import producer as producer_module
from piano_jupyter.pipeline.agent_registry import AgentRegistry
from piano_jupyter.pipeline.job_log import JobLog
from piano_jupyter.pipeline.producer import JobModels, JobOwner, Producer
from piano_jupyter.pipeline.trust import Trust
from piano_jupyter.pipeline.unfinished import UnfinishedJobs
from piano_jupyter.records import JobStatus, Notebook
from piano_jupyter.store.duckdb.duckdb_store import DuckDBStore
from piano_jupyter.store.granting_store import GrantingStore
from piano_jupyter.store.job_board import jobs_in

MAX_WAIT = 60.0
ALWAYS_LOADED = JobModels(loaded=None, aliases=dict)


class StoppedClock(Clock):
    """A clock that the test advances."""

    seconds = 0.0

    def monotonic(self):
        return self.seconds


class Server:
    """A server that has one model loaded at a time."""

    def __init__(self, loaded):
        self.loaded = loaded

    def models(self):
        async def loaded():
            return frozenset({self.loaded})

        return JobModels(loaded=loaded, aliases=dict)


async def alive():
    return {"kernel"}


@asynccontextmanager
async def producing(clock, models, alive=alive):
    store, bus = GrantingStore(DuckDBStore(":memory:"), lambda _: None, clock.monotonic), EventBus()
    config = PianoConfig(max_wait_s=MAX_WAIT, max_demand=2)
    await store.open()
    try:
        agents = AgentRegistry(
            store, bus, clock, (trust := Trust(":memory:", Path.cwd, in_memory=True)), lambda _: None
        )
        unfinished = UnfinishedJobs(agents, trust, list, lambda: "")
        owner = JobOwner("kernel", Notebook(), alive, lambda: False)
        yield Producer(store, bus, clock, owner, config, models, unfinished, JobLog(bus, agents)), store, bus
    finally:
        await store.close()


async def asked(producer, make, *models, thread=1):
    """Queue a question for an agent of each model; return the jobs."""
    message = make.message("?", thread_id=UUID(int=thread))
    _, jobs = await producer.enqueue(message, [make.job(message, make.agent(model=model)) for model in models])
    return jobs


async def next_job(producer):
    """Return the next job once there is one."""
    while (job := await producer.claim([])) is None:
        await producer.wait()
    return job


async def test_no_job_s_wait_counts_from_before_a_model_was_swapped_in(make):
    clock, server = StoppedClock(), Server("a")
    async with producing(clock, server.models()) as (producer, store, _):
        jobs = [(await asked(producer, make, model, thread=at))[0] for at, model in enumerate(["b", "a", "b"], start=1)]
        clock.seconds += MAX_WAIT
        first = await producer.claim([])  # which swaps b in
        await store.cancel(first, START)
        server.loaded = "b"
        clock.seconds += 1
        second = await producer.claim([])

    assert [first.id, second.id] == [jobs[0].id, jobs[2].id]


@pytest.mark.parametrize(("clock", "side_by_side"), [(Clock(), True), (Clock(START), False)])
async def test_in_a_replay_no_job_starts_while_another_runs(make, clock, side_by_side):
    async with producing(clock, ALWAYS_LOADED) as (producer, _, _):
        await asked(producer, make, "a", "b")
        first = await producer.claim([])
        second = await producer.claim([first])
        last = second or await producer.claim([])

    assert (second is not None) == side_by_side
    assert {first.model, last.model} == {"a", "b"}


async def test_a_job_that_has_ended_is_not_queued(make):
    async with producing(Clock(), ALWAYS_LOADED) as (producer, store, bus):
        message = make.message("?")
        _, [ended, queued] = await store.enqueue(message, [make.job(message, make.agent()) for _ in range(2)])
        ended = await store.cancel(ended, START)
        told = []
        bus.subscribe(lambda event: told.append(event.job.id), JobQueued)

        producer.add_to_queue([ended, replace(queued, status=JobStatus.DONE), queued])

        assert told == [queued.id]
        assert (await producer.claim([])).id == queued.id
        assert not producer.waiting


async def test_a_job_that_was_released_and_started_since_is_not_queued_again(make):
    async with producing(Clock(), ALWAYS_LOADED) as (producer, store, _):
        await asked(producer, make, "a")
        failed = await store.fail(await producer.claim([]), "no model", START)
        await producer.retry(failed)
        running = await producer.claim([])

        assert await producer.retry(failed) == running
        assert not producer.waiting


async def test_a_producer_does_not_recover_the_jobs_that_it_runs_itself(make):
    async with producing(Clock(), ALWAYS_LOADED) as (producer, store, _):
        await asked(producer, make, "a", "b")
        mine = await producer.claim([])
        [other] = await store.jobs(JobStatus.QUEUED)
        await store.claim_next(uuid4(), "dead kernel", [other.id], START)

        await producer.recover(3)

        assert await store.jobs(JobStatus.RUNNING) == [mine]


@asynccontextmanager
async def read_again(producer, store, monkeypatch):
    """Have the queue read again: the block runs when that is read which is taken in after it."""
    has_read, go_on, read = asyncio.Event(), asyncio.Event(), store.jobs

    async def jobs(*statuses):
        found = await read(*statuses)
        has_read.set()
        await go_on.wait()
        return found

    monkeypatch.setattr(store, "jobs", jobs)
    refreshing = asyncio.create_task(producer.refresh())
    await has_read.wait()
    yield
    go_on.set()
    await refreshing


async def test_a_job_that_is_claimed_while_the_queue_is_read_again_is_not_run_twice(make, monkeypatch):
    async with producing(Clock(), ALWAYS_LOADED) as (producer, store, _):
        [job] = await asked(producer, make, "a")
        async with read_again(producer, store, monkeypatch):
            claiming = asyncio.create_task(producer.claim([]))
            await asyncio.wait([claiming], timeout=0.2)

        assert (await claiming).id == job.id
        assert not producer.waiting
        assert await producer.claim([]) is None


async def test_a_question_that_is_asked_while_the_queue_is_read_again_is_answered(make, monkeypatch):
    async with producing(Clock(), ALWAYS_LOADED) as (producer, store, _):
        async with read_again(producer, store, monkeypatch):
            [job] = await asked(producer, make, "a")

        assert (await producer.claim([])).id == job.id


async def test_a_job_that_another_notebook_ends_while_the_queue_is_read_again_is_not_queued(make, monkeypatch):
    async with producing(Clock(), ALWAYS_LOADED) as (producer, store, bus):
        message = make.message("?")
        _, [job] = await store.enqueue(message, producer.owned([make.job(message, make.agent())]))
        async with read_again(producer, store, monkeypatch):
            bus.publish(JobCancelled(thread_id=job.thread_id, job=await store.cancel(job, START)))

        assert not producer.waiting


@pytest.mark.parametrize(
    "told",
    [
        lambda job: JobQueued(job=replace(job, owner="dead kernel")),
        lambda job: JobStarted(job=replace(job, status=JobStatus.RUNNING, owner="dead kernel")),
        lambda job: JobFailed(job=replace(job, status=JobStatus.FAILED), reason="no model"),
        lambda job: JobCancelled(job=replace(job, status=JobStatus.CANCELLED)),
    ],
)
async def test_what_another_notebook_tells_too_late_leaves_a_job_in_the_queue(told, make):
    async with producing(Clock(), ALWAYS_LOADED) as (producer, _, bus):
        [job] = await asked(producer, make, "a")
        bus.publish(told(job))

        assert (await next_job(producer)).id == job.id


async def test_a_job_that_another_notebook_cancels_leaves_the_queue(make):
    async with producing(Clock(), ALWAYS_LOADED) as (producer, store, bus):
        [job] = await asked(producer, make, "a")
        bus.publish(JobCancelled(job=await store.cancel(job, START)))

        assert not producer.waiting
        assert await producer.claim([]) is None
        await producer.wait()
        assert await producer.withdraw(job) is None


async def test_the_job_of_a_kernel_that_came_while_jobs_were_read_is_not_left(make):
    is_there = set()

    async def alive():
        return is_there

    async with producing(Clock(), ALWAYS_LOADED, alive) as (producer, store, _):
        message, read = make.message("?"), store.jobs
        await store.enqueue(message, [replace(make.job(message, make.agent()), owner="new kernel")])

        async def jobs(*statuses):
            is_there.add("new kernel")
            return await read(*statuses)

        assert [job.owner for job in await producer.left()] == ["new kernel"]
        store.jobs = jobs
        assert await producer.left() == []


def cancelled_before_the_reply(operation, store, bus):
    """Have what another notebook does with a job be told before the reply to what was asked of the store."""
    real = getattr(store, operation)

    async def overtaken(*arguments):
        reply = await real(*arguments)
        [job] = jobs_in(reply)
        bus.publish(JobCancelled(thread_id=job.thread_id, job=await store.cancel(job, START)))
        return reply

    setattr(store, operation, overtaken)


async def test_a_job_that_another_notebook_cancels_before_it_is_known_to_be_stored_is_not_queued(make):
    async with producing(Clock(), ALWAYS_LOADED) as (producer, store, bus):
        cancelled_before_the_reply("enqueue", store, bus)
        await asked(producer, make, "a")
        assert not producer.waiting

        cancelled_before_the_reply("add_jobs", store, bus)
        message = make.message("?")
        assert (await producer.add(make.job(message, make.agent()))).status == "cancelled"
        assert not producer.waiting

        cancelled_before_the_reply("retry", store, bus)
        [*_, last] = await store.jobs()
        assert (await producer.retry(last)).status == "cancelled"
        assert not producer.waiting


async def test_a_job_is_taken_over_whole_though_nobody_waits_for_that(make):
    async with producing(Clock(), ALWAYS_LOADED) as (producer, store, _):
        message, real = make.message("?"), store.take_over
        _, [job] = await store.enqueue(message, [replace(make.job(message, make.agent()), owner="dead kernel")])
        is_stored, go_on = asyncio.Event(), asyncio.Event()

        async def take_over(*arguments):
            taken = await real(*arguments)
            is_stored.set()
            await go_on.wait()
            return taken

        store.take_over = take_over
        taking = asyncio.create_task(producer.take_over(job))
        await is_stored.wait()
        taking.cancel()
        go_on.set()
        await asyncio.wait([taking])

        assert producer.has(job)


async def test_a_job_that_is_stored_as_ours_and_that_we_do_not_have_is_queued_when_it_is_taken_over(make):
    async with producing(Clock(), ALWAYS_LOADED) as (producer, store, _):
        message = make.message("?")
        _, [job] = await store.enqueue(message, producer.owned([make.job(message, make.agent())]))
        await producer.take_over(job)

        assert producer.has(job)


async def test_a_job_that_cannot_be_looked_up_is_looked_up_again(make, monkeypatch):
    monkeypatch.setattr(producer_module, "FIRST_PAUSE_S", 0)
    async with producing(Clock(), ALWAYS_LOADED) as (producer, store, bus):
        [job] = await asked(producer, make, "a")
        errors, real = [StoreError("the disk is full")], store.job

        async def read(job_id):
            if errors:
                raise errors.pop()
            return await real(job_id)

        store.job = read
        bus.publish(JobCancelled(job=await store.cancel(job, START)))
        assert await producer.claim([]) is None
        await producer.wait()

        assert not producer.has(job)


async def test_nothing_is_being_claimed_while_the_queue_is_read_again(make, monkeypatch):
    async with producing(Clock(), ALWAYS_LOADED) as (producer, store, _), read_again(producer, store, monkeypatch):
        assert not producer.claiming  # who drains a queue that is paused does not wait for it


async def test_a_change_of_an_agent_wakes_the_queue_for_a_job_may_have_waited_for_a_tool_of_it(make):
    async with producing(Clock(), ALWAYS_LOADED) as (producer, _, bus):
        assert await producer.claim([]) is None
        bus.publish(AgentAdded(agent=make.agent()))
        await producer.wait()
