"""What one kernel publishes, the subscribers of all kernels hear, once."""

import asyncio
from uuid import UUID

from making import START, Make
from store_servers import served

from piano_jupyter.bus import EventBus
from piano_jupyter.errors import ModelTimeoutError
from piano_jupyter.events import AgentAdded, Closed, JobFailed, JobQueued, MessageAdded, MessageDelta
from piano_jupyter.pipeline.event_relay import EventRelay
from piano_jupyter.records import JobStatus
from piano_jupyter.store.server.remote_store import Listener, RemoteStore

make = Make()
AGENT = make.agent()
MESSAGE = make.message("hi")
JOB = make.job(MESSAGE, AGENT)


class Kernel:
    """A bus whose relay is connected to the store process; `heard` is all that was published on it."""

    def __init__(self, file, owner):
        self.bus, self.heard, self.came = EventBus(), [], asyncio.Event()
        self.store = RemoteStore(
            file, owner=owner, listener=Listener(self._receive, self._recovered, _nothing, _nothing)
        )
        self.relay = EventRelay(self.bus, self.store.publish, lambda: True)
        self.bus.subscribe(self._hear)

    async def number(self, count):
        """Return what was heard once it is so many."""
        while len(self.heard) < count:
            self.came.clear()
            await self.came.wait()
        return self.heard

    def _hear(self, event):
        self.heard.append(event)
        self.came.set()

    def _receive(self, data):
        self.relay.receive(data)

    def _recovered(self, jobs):
        self.relay.recovered(jobs)


def _nothing():
    pass


async def test_all_kernels_hear_what_one_publishes_in_its_order_and_once(tmp_path):
    deltas = [
        MessageDelta(thread_id=UUID(int=0), job_id=JOB.id, message_id=MESSAGE.id, text=f"word {n}") for n in range(50)
    ]
    told = [AgentAdded(agent=AGENT), MessageAdded(message=MESSAGE), *deltas, JobQueued(job=JOB)]
    async with served(tmp_path / "piano.duckdb"):
        one, two, three = kernels = [Kernel(tmp_path / "piano.duckdb", owner) for owner in "abc"]
        for each in kernels:
            await each.store.open()
        for event in told:
            one.bus.publish(event)
        await two.number(len(told))
        two.bus.publish(told[0])
        await three.number(len(told) + 1)
        await one.number(len(told) + 1)

        assert one.heard == three.heard == two.heard == [*told, told[0]]
        for each in kernels:
            await each.store.close()


def test_an_error_s_class_is_told_and_a_close_is_not():
    sent, heard = [], []
    bus, other = EventBus(), EventBus()
    EventRelay(bus, sent.append, lambda: True)
    there = EventRelay(other, sent.append, lambda: True)
    other.subscribe(heard.append)
    bus.publish(Closed())
    bus.publish(JobFailed(job=JOB, reason="too slow", error=ModelTimeoutError("too slow")))
    [data] = sent
    there.receive(data)

    assert isinstance(heard[0].error, ModelTimeoutError)
    assert heard[0].job == JOB
    assert sent == [data]


def test_what_a_subscriber_publishes_when_it_hears_of_another_kernel_is_told():
    sent, bus = [], EventBus()
    relay = EventRelay(bus, sent.append, lambda: True)
    bus.subscribe(lambda _: bus.publish(AgentAdded(agent=AGENT)), MessageAdded)
    EventRelay(EventBus(), sent.append, lambda: True).close()
    other = EventBus()
    EventRelay(other, relay.receive, lambda: True)
    other.publish(MessageAdded(message=MESSAGE))

    assert len(sent) == 1
    assert sent[0].startswith(b"AgentAdded")


def test_jobs_of_a_kernel_that_is_gone_are_told_as_what_became_of_them_but_not_to_the_others():
    sent, heard, bus = [], [], EventBus()
    relay = EventRelay(bus, sent.append, lambda: True)
    bus.subscribe(heard.append)
    failed = make.job(MESSAGE, AGENT, status=JobStatus.FAILED, reason="stopped 3 times", finished_at=START)
    relay.recovered([JOB, failed])

    assert heard == [
        JobQueued(thread_id=JOB.thread_id, job=JOB),
        JobFailed(thread_id=failed.thread_id, job=failed, reason="stopped 3 times"),
    ]
    assert sent == []
