"""Conversations: the threads at work, as the store has them. Read once, then kept in step with what is published.

An event is published after what it tells is kept, so what was published before a reading began is in it, and what comes
meanwhile is newer. This process has the database to itself: nobody else changes a thread.
"""

import asyncio
from collections import OrderedDict, defaultdict
from dataclasses import dataclass, field
from uuid import UUID

from piano_jupyter.bus import EventBus
from piano_jupyter.events import (
    Answered,
    Event,
    JobCancelled,
    JobDone,
    JobFailed,
    JobQueued,
    JobStarted,
    MessageAdded,
    ThreadOpened,
    ToolCalled,
    ToolReturned,
)
from piano_jupyter.records import Job, Message, ToolCall, branch
from piano_jupyter.store.base import Store

KEPT = 16  # threads
TOLD = (
    ThreadOpened,
    MessageAdded,
    Answered,
    ToolCalled,
    ToolReturned,
    JobQueued,
    JobStarted,
    JobDone,
    JobFailed,
    JobCancelled,
)


@dataclass(slots=True)
class Conversation:
    """What was said and done in one thread."""

    messages: dict[UUID, Message] = field(default_factory=dict)
    jobs: dict[UUID, Job] = field(default_factory=dict)
    calls: dict[UUID, ToolCall] = field(default_factory=dict)

    def told(self, leaf: UUID | None = None) -> list[Message]:
        """Return the branch that leads to `leaf` (by default to the newest question), in reading order."""
        return branch(self.messages.values(), self.jobs.values(), leaf)

    def tool_calls(self) -> list[ToolCall]:
        """Return the calls, in order."""
        return sorted(self.calls.values(), key=lambda call: call.seq)


class Conversations:
    """Gives a thread's conversation; the ones used last stay at hand."""

    def __init__(self, store: Store, bus: EventBus) -> None:
        self._store = store
        self._adding: defaultdict[UUID, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._kept: OrderedDict[UUID, tuple[Conversation, asyncio.Future[None]]] = OrderedDict()
        bus.subscribe(self._note, *TOLD)

    def adding(self, thread_id: UUID) -> asyncio.Lock:
        """Return the lock to hold from reading what is said last in a thread to adding to it."""
        return self._adding[thread_id]

    async def get(self, thread_id: UUID) -> Conversation:
        """Return the conversation of a thread. Raises StoreError."""
        if thread_id not in self._kept:
            conversation = Conversation()
            self._keep(thread_id, conversation, asyncio.ensure_future(self._read(thread_id, conversation)))
        self._kept.move_to_end(thread_id)
        conversation, reading = self._kept[thread_id]
        try:
            await asyncio.shield(reading)
        except BaseException:
            if not reading.done() or reading.exception():
                self._kept.pop(thread_id, None)
            raise
        return conversation

    def _keep(self, thread_id: UUID, conversation: Conversation, reading: "asyncio.Future[None]") -> None:
        self._kept[thread_id] = conversation, reading
        if len(self._kept) > KEPT:
            self._kept.popitem(last=False)

    async def _read(self, thread_id: UUID, conversation: Conversation) -> None:
        messages, jobs, calls = await asyncio.gather(  # in one transaction
            self._store.messages(thread_id), self._store.jobs(thread_id=thread_id), self._store.tool_calls(thread_id)
        )
        for message in messages:
            conversation.messages.setdefault(message.id, message)
        for job in jobs:
            conversation.jobs.setdefault(job.id, job)
        for call in calls:
            conversation.calls.setdefault(call.id, call)

    def _note(self, event: Event) -> None:
        if isinstance(event, ThreadOpened):  # nothing is in it yet, so there is nothing to read
            read = asyncio.get_running_loop().create_future()
            read.set_result(None)
            self._keep(event.thread.id, Conversation(), read)
        if event.thread_id is None or event.thread_id not in self._kept:
            return
        conversation, _ = self._kept[event.thread_id]
        match event:
            case MessageAdded(message=message) | Answered(message=message):
                conversation.messages[message.id] = message
            case ToolCalled(call=call) | ToolReturned(call=call):
                conversation.calls[call.id] = call
            case JobQueued(job=job) | JobStarted(job=job) | JobDone(job=job):
                conversation.jobs[job.id] = job
            case JobFailed() | JobCancelled():  # the store has given its open calls a result: read anew
                del self._kept[event.thread_id]
