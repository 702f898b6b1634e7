"""ThreadCache: the conversations of the threads in use, read from the store once, then updated from the events.

An event is published after what it reports is stored, so whatever was published before a read began is in what was
read, and whatever is published meanwhile is newer. What other notebooks change is published here, too; where events
of theirs were missed, all is read again.
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
from piano_jupyter.records import ChosenBranch, Job, Message, ToolCall
from piano_jupyter.store.base import Store

MIN_THREADS = 16  # that stay in the cache, however long they are
MAX_MESSAGES = 4_000  # in the cache, where it has more threads than that; an empty thread counts as one
CACHED_EVENTS = (
    events.ThreadDeleted,
    events.BranchChosen,
    events.MessageEvent,
    events.ToolCalled,
    events.ToolReturned,
    events.JobEvent,
)


class Conversation:
    """The messages, jobs and tool calls of one thread."""

    def __init__(self) -> None:
        self.messages: dict[UUID, Message] = {}
        self.jobs: dict[UUID, Job] = {}
        self.calls: dict[UUID, list[ToolCall]] = {}  #: by the message that requested them, in order
        self._chosen: ChosenBranch | None = None
        self._newest = {Message: 0, Job: 0}  # the highest `seq` of each
        self._tree: MessageTree | None = MessageTree((), ())

    @property
    def newest(self) -> int:
        """The highest `seq` of its messages, 0 if it has none."""
        return self._newest[Message]

    @property
    def tree(self) -> MessageTree:
        """The messages as a tree of branches."""
        if self._tree is None:
            self._tree = MessageTree(self.messages.values(), self.jobs.values(), self._chosen)
        return self._tree

    def load(
        self,
        messages: Iterable[Message],
        jobs: Iterable[Job],
        calls: Iterable[ToolCall],
        chosen: ChosenBranch | None = None,
    ) -> None:
        """Add what was read from the store; what was published since is newer."""
        self._chosen = self._chosen or chosen
        published: list[Message | Job | ToolCall] = [*self.messages.values(), *self.jobs.values(), *self.tool_calls()]
        self.messages, self.jobs, self.calls, self._tree = {}, {}, {}, None
        for each in (*messages, *jobs, *calls, *published):
            self.add(each)

    def add(self, record: Message | Job | ToolCall) -> None:
        """Add a record, or replace an older version of it."""
        if isinstance(record, ToolCall):
            others = [each for each in self.calls.get(record.message_id, ()) if each.id != record.id]
            self.calls[record.message_id] = sorted([*others, record], key=lambda call: call.seq)
            return
        records: dict[UUID, Any] = self.jobs if isinstance(record, Job) else self.messages
        is_next = (record.id in records and isinstance(record, Job)) or record.seq > self._newest[type(record)]
        if records.get(record.id) == record:
            return
        records[record.id] = record
        self._newest[type(record)] = max(record.seq, self._newest[type(record)])
        if self._tree is None or not is_next:
            self._tree = None  # it is built again, in order
        elif isinstance(record, Job):
            self._tree.put_job(record)
        else:
            self._tree.add_message(record)

    def choose(self, chosen: ChosenBranch) -> None:
        """Take in which branch was chosen."""
        self._chosen = chosen
        if self._tree is not None:
            self._tree.chosen = chosen

    def tool_calls(self, messages: Iterable[Message] | None = None) -> list[ToolCall]:
        """Return the calls that messages (by default all) requested, in order."""
        ids = self.calls if messages is None else [message.id for message in messages]
        return sorted((call for each in ids for call in self.calls.get(each, ())), key=lambda call: call.seq)


class ThreadCache:
    """Returns the conversations of threads; those used last stay in memory."""

    def __init__(self, store: Store, bus: EventBus) -> None:
        self._store = store
        self._write_locks: WeakValueDictionary[UUID, asyncio.Lock] = WeakValueDictionary()
        self._cached: OrderedDict[UUID, tuple[Conversation, asyncio.Future[None]]] = OrderedDict()
        bus.subscribe(self._follow, *CACHED_EVENTS)

    def write_lock(self, thread_id: UUID) -> asyncio.Lock:
        """Return the lock to hold from reading the last message of a thread until the next one is stored."""
        return self._write_locks.setdefault(thread_id, asyncio.Lock())

    async def get(self, thread_id: UUID) -> Conversation:
        """Return the conversation of a thread. Raises StoreError."""
        if thread_id not in self._cached:
            conversation = Conversation()
            self._add(thread_id, conversation, asyncio.ensure_future(self._read(thread_id, conversation)))
        self._cached.move_to_end(thread_id)
        conversation, reading = self._cached[thread_id]
        try:
            await asyncio.shield(reading)
        except BaseException:
            if not reading.done() or reading.exception():
                self._cached.pop(thread_id, None)
            raise
        return conversation

    def forget(self, thread_id: UUID) -> None:
        """Read a thread again when it is next used."""
        self._cached.pop(thread_id, None)

    def begin(self, thread_id: UUID) -> None:
        """Take in a thread that was opened here just now: it is empty, so there is nothing to read."""
        read = asyncio.get_running_loop().create_future()
        read.set_result(None)
        self._add(thread_id, Conversation(), read)

    def forget_all(self) -> None:
        """Read every thread again when it is next used."""
        self._cached.clear()

    def _add(self, thread_id: UUID, conversation: Conversation, reading: "asyncio.Future[None]") -> None:
        self._cached[thread_id] = conversation, reading
        size = sum(1 + len(each.messages) for each, _ in self._cached.values())
        while size > MAX_MESSAGES and len(self._cached) > MIN_THREADS:
            _, (oldest, _) = self._cached.popitem(last=False)
            size -= 1 + len(oldest.messages)

    async def _read(self, thread_id: UUID, conversation: Conversation) -> None:
        messages, jobs, calls, chosen = await asyncio.gather(  # in one transaction
            self._store.messages(thread_id),
            self._store.jobs(thread_id=thread_id),
            self._store.tool_calls(thread_id),
            self._store.chosen_branch(thread_id),
        )
        conversation.load(messages, jobs, calls, chosen)

    def _follow(self, event: events.Event) -> None:
        if event.thread_id is None or event.thread_id not in self._cached:
            return
        conversation, _ = self._cached[event.thread_id]
        match event:
            case events.MessageEvent(message=message):
                conversation.add(message)
            case events.ToolCalled(call=call) | events.ToolReturned(call=call):
                conversation.add(call)
            case events.BranchChosen(message_id=message_id, after=after):
                conversation.choose(ChosenBranch(message_id, after))
            case events.ThreadDeleted():
                del self._cached[event.thread_id]
            case events.JobFailed() | events.JobCancelled():  # the store has given its open calls a result
                del self._cached[event.thread_id]
            case events.JobEvent(job=job):
                conversation.add(job)
