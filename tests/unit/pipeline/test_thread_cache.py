"""Threads are read once, then updated from events."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime
from uuid import UUID

import pytest

from piano_jupyter.bus import EventBus
from piano_jupyter.errors import StoreError
from piano_jupyter.events import Answered, JobFailed, JobQueued, MessageAdded, ToolCalled
from piano_jupyter.pipeline import thread_cache
from piano_jupyter.pipeline.thread_cache import MIN_THREADS, ThreadCache
from piano_jupyter.records import Thread

THREAD = UUID(int=0)
START = datetime(2026, 1, 1, tzinfo=UTC)


class OneThread:
    """The part of a store that is read; `gate` delays a read, `error` makes it fail."""

    def __init__(self):
        self.kept, self.read, self.gate, self.error = [], 0, None, None

    async def thread(self, thread_id):
        return Thread(id=thread_id, title="", inserted_at=START)

    async def messages(self, _thread_id):
        self.read += 1
        kept = list(self.kept)
        if self.gate:
            await self.gate.wait()
        if self.error:
            raise self.error
        return kept

    async def jobs(self, **_thread):
        return []

    async def tool_calls(self, _thread_id):
        return []

    async def chosen_branch(self, _thread_id):
        return None


@pytest.fixture
def store():
    return OneThread()


@pytest.fixture
def bus():
    return EventBus()


async def test_a_thread_is_read_once_and_then_updated_from_events(store, bus, make):
    question = make.message("?", thread_id=THREAD)
    job = make.job(question, make.agent(), thread_id=THREAD)
    asked = make.message("let me see", "assistant", thread_id=THREAD, job_id=job.id)
    answer = make.message("42", "assistant", thread_id=THREAD, job_id=job.id)
    conversations = ThreadCache(store, bus)

    await conversations.get(THREAD)
    bus.publish(MessageAdded(thread_id=THREAD, message=question))
    bus.publish(JobQueued(thread_id=THREAD, job=job))
    bus.publish(MessageAdded(thread_id=THREAD, message=asked))
    bus.publish(ToolCalled(thread_id=THREAD, job_id=job.id, call=make.call(asked)))
    bus.publish(Answered(thread_id=THREAD, message=answer))

    conversation = await conversations.get(THREAD)
    assert conversation.tree.branch() == [question, asked, answer]
    assert [call.message_id for call in conversation.tool_calls()] == [asked.id]
    assert store.read == 1


async def test_what_is_published_while_it_is_read_is_the_newer(store, bus, make):
    store.gate, old = asyncio.Event(), make.message("old", thread_id=THREAD)
    store.kept = [old]
    conversations = ThreadCache(store, bus)

    reading = asyncio.create_task(conversations.get(THREAD))
    await asyncio.sleep(0)
    new, added = replace(old, content="new"), make.message("added", thread_id=THREAD)
    bus.publish(MessageAdded(thread_id=THREAD, message=new))
    bus.publish(MessageAdded(thread_id=THREAD, message=added))
    store.gate.set()

    assert list((await reading).messages.values()) == [new, added]


async def test_a_thread_whose_job_failed_is_read_again(store, bus, make):
    conversations = ThreadCache(store, bus)
    await conversations.get(THREAD)

    job = make.job(make.message("?", thread_id=THREAD), make.agent())
    bus.publish(JobFailed(thread_id=THREAD, job=job, reason="x"))
    await conversations.get(THREAD)

    assert store.read == 2


async def test_a_read_that_failed_is_repeated(store, bus):
    conversations = ThreadCache(store, bus)
    store.error = StoreError("the disk is gone")

    with pytest.raises(StoreError):
        await conversations.get(THREAD)
    store.error = None

    assert (await conversations.get(THREAD)).tree.branch() == []


async def test_short_threads_stay_in_the_cache_until_they_are_too_many(store, bus, monkeypatch):
    monkeypatch.setattr(thread_cache, "MAX_MESSAGES", 50)
    conversations = ThreadCache(store, bus)

    for number in range(51):
        await conversations.get(UUID(int=number))
    await conversations.get(UUID(int=1))
    await conversations.get(UUID(int=0))

    assert store.read == 52


async def test_of_long_threads_only_the_last_few_stay_in_the_cache(store, bus, make, monkeypatch):
    monkeypatch.setattr(thread_cache, "MAX_MESSAGES", 50)
    conversations = ThreadCache(store, bus)
    store.kept = [make.message("long", thread_id=THREAD) for _ in range(25)]

    for number in range(MIN_THREADS + 1):
        await conversations.get(UUID(int=number))
    await conversations.get(UUID(int=1))
    await conversations.get(UUID(int=0))

    assert store.read == MIN_THREADS + 2
