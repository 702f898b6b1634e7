"""Conversations: the threads at work, as the store has them. Read once, then kept in step with what is published.

An event is published after what it tells is kept, so what was published before a reading began is in it, and what comes
meanwhile is newer. This process has the database to itself: nobody else changes a thread.
"""

import asyncio
from collections import OrderedDict
from dataclasses import dataclass, field
from uuid import UUID
from weakref import WeakValueDictionary

from piano_jupyter.bus import EventBus
from piano_jupyter.events import (
    Event,
    JobCancelled,
    JobEvent,
    JobFailed,
    MessageEvent,
    ThreadOpened,
    ToolCalled,
    ToolReturned,
)
from piano_jupyter.pipeline.message_tree import Tree
from piano_jupyter.records import Job, Message, ToolCall
from piano_jupyter.store.base import Store

KEPT = 16  # threads
TOLD = (ThreadOpened, MessageEvent, ToolCalled, ToolReturned, JobEvent)


@dataclass(slots=True)
class Conversation:
    """What was said and done in one thread."""

    messages: dict[UUID, Message] = field(default_factory=dict)
    jobs: dict[UUID, Job] = field(default_factory=dict)
    calls: dict[UUID, ToolCall] = field(default_factory=dict)
    _tree: Tree | None = None

    @property
    def tree(self) -> Tree:
        """The messages as a tree of branches."""
        if self._tree is None:
            self._tree = Tree(self.messages.values(), self.jobs.values())
        return self._tree

    def changed(self) -> None:
        """The tree is to be drawn anew."""
        self._tree = None

    def tool_calls(self) -> list[ToolCall]:
        """Return the calls, in order."""
        return sorted(self.calls.values(), key=lambda call: call.seq)


class Conversations:
    """Gives a thread's conversation; the ones used last stay at hand."""

    def __init__(self, store: Store, bus: EventBus) -> None:
        self._store = store
        self._adding: WeakValueDictionary[UUID, asyncio.Lock] = WeakValueDictionary()
        self._kept: OrderedDict[UUID, tuple[Conversation, asyncio.Future[None]]] = OrderedDict()
        bus.subscribe(self._note, *TOLD)

    def adding(self, thread_id: UUID) -> asyncio.Lock:
        """Return the lock to hold from reading what is said last in a thread to adding to it."""
        return self._adding.setdefault(thread_id, asyncio.Lock())

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

    def forget(self, thread_id: UUID) -> None:
        """Read a thread anew when it is wanted next."""
        self._kept.pop(thread_id, None)

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
        conversation.changed()

    def _note(self, event: Event) -> None:
        if isinstance(event, ThreadOpened):  # nothing is in it yet, so there is nothing to read
            read = asyncio.get_running_loop().create_future()
            read.set_result(None)
            self._keep(event.thread.id, Conversation(), read)
        if event.thread_id is None or event.thread_id not in self._kept:
            return
        conversation, _ = self._kept[event.thread_id]
        conversation.changed()
        match event:
            case MessageEvent(message=message):
                conversation.messages[message.id] = message
            case ToolCalled(call=call) | ToolReturned(call=call):
                conversation.calls[call.id] = call
            case JobFailed() | JobCancelled():  # the store has given its open calls a result: read anew
                del self._kept[event.thread_id]
            case JobEvent(job=job):
                conversation.jobs[job.id] = job
