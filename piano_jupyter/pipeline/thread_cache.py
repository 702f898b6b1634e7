"""Conversations: the threads at work, as the store has them. Read once, then kept in step with what is published.

An event is published after what it tells is kept, so what was published before a reading began is in it, and what comes
meanwhile is newer. This process has the database to itself: nobody else changes a thread.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Iterable
from typing import Any
from uuid import UUID
from weakref import WeakValueDictionary

from piano_jupyter import events
from piano_jupyter.bus import EventBus
from piano_jupyter.pipeline.message_tree import MessageTree
from piano_jupyter.records import Job, Message, ToolCall
from piano_jupyter.store.base import Store

KEPT = 16  # threads
TOLD = (
    events.ThreadOpened,
    events.ThreadDeleted,
    events.MessageEvent,
    events.ToolCalled,
    events.ToolReturned,
    events.JobEvent,
)


class Conversation:
    """What was said and done in one thread."""

    def __init__(self) -> None:
        self.messages: dict[UUID, Message] = {}
        self.jobs: dict[UUID, Job] = {}
        self.calls: dict[UUID, list[ToolCall]] = {}  #: by the message that asked for them, in order
        self._newest = {Message: 0, Job: 0}  # the highest `seq` of each
        self._tree: MessageTree | None = MessageTree((), ())

    @property
    def tree(self) -> MessageTree:
        """The messages as a tree of branches."""
        if self._tree is None:
            self._tree = MessageTree(self.messages.values(), self.jobs.values())
        return self._tree

    def begin_with(self, messages: Iterable[Message], jobs: Iterable[Job], calls: Iterable[ToolCall]) -> None:
        """Take in what was kept, beneath what was heard since."""
        heard: list[Message | Job | ToolCall] = [*self.messages.values(), *self.jobs.values(), *self.tool_calls()]
        self.messages, self.jobs, self.calls, self._tree = {}, {}, {}, None
        for each in (*messages, *jobs, *calls, *heard):
            self.add(each)

    def add(self, thing: Message | Job | ToolCall) -> None:
        """Add what was said or done; a job or a call that is known has changed."""
        if isinstance(thing, ToolCall):
            others = [each for each in self.calls.get(thing.message_id, ()) if each.id != thing.id]
            self.calls[thing.message_id] = sorted([*others, thing], key=lambda call: call.seq)
            return
        kept: dict[UUID, Any] = self.jobs if isinstance(thing, Job) else self.messages
        is_next = (thing.id in kept and isinstance(thing, Job)) or thing.seq > self._newest[type(thing)]
        if kept.get(thing.id) == thing:
            return
        kept[thing.id] = thing
        self._newest[type(thing)] = max(thing.seq, self._newest[type(thing)])
        if self._tree is None or not is_next:
            self._tree = None  # it is put together anew, in order
        elif isinstance(thing, Job):
            self._tree.put(thing)
        else:
            self._tree.add(thing)

    def tool_calls(self, messages: Iterable[Message] | None = None) -> list[ToolCall]:
        """Return the calls that messages (by default all) have asked for, in order."""
        ids = self.calls if messages is None else [message.id for message in messages]
        return sorted((call for each in ids for call in self.calls.get(each, ())), key=lambda call: call.seq)


class ThreadCache:
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
        conversation.begin_with(messages, jobs, calls)

    def _note(self, event: events.Event) -> None:
        if isinstance(event, events.ThreadOpened):  # nothing is in it yet, so there is nothing to read
            read = asyncio.get_running_loop().create_future()
            read.set_result(None)
            self._keep(event.thread.id, Conversation(), read)
        if event.thread_id is None or event.thread_id not in self._kept:
            return
        conversation, _ = self._kept[event.thread_id]
        match event:
            case events.MessageEvent(message=told):
                conversation.add(told)
            case events.ToolCalled(call=call) | events.ToolReturned(call=call):
                conversation.add(call)
            case events.ThreadDeleted():
                del self._kept[event.thread_id]
            case events.JobFailed() | events.JobCancelled():  # the store has given its open calls a result: read anew
                del self._kept[event.thread_id]
            case events.JobEvent(job=job):
                conversation.add(job)
