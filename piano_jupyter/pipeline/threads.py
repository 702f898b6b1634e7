"""Threads: opening, finding, changing and forking them, and reading their messages."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any
from uuid import UUID

from piano_jupyter.bus import EventBus
from piano_jupyter.clock import Clock
from piano_jupyter.errors import NotFoundError, PianoError, StoreError
from piano_jupyter.events import BranchChosen, ThreadChanged, ThreadDeleted, ThreadOpened
from piano_jupyter.pipeline.message_tree import ACTIVE
from piano_jupyter.pipeline.thread_cache import Conversation, ThreadCache
from piano_jupyter.records import NEW_TITLE, ChosenBranch, Message, Notebook, Thread, ThreadStatus, ToolCall, short
from piano_jupyter.store.base import Store
from piano_jupyter.text.truncation import truncated

MAX_TITLE_CHARS = 60  # characters
MIN_ID_DIGITS = 4  # digits


class Threads:
    """The threads of a store, and which of them is the current one in this notebook."""

    def __init__(
        self,
        store: Store,
        bus: EventBus,
        clock: Clock,
        thread_cache: ThreadCache,
        mask: Callable[[str], str],
        notebook: Notebook,
    ) -> None:
        self._store, self._bus, self._clock, self._thread_cache = store, bus, clock, thread_cache
        self._mask, self._notebook = mask, notebook
        self._deleted: set[UUID] = set()
        self._heard = 0  # events about threads
        self.current: Thread | None = None  #: gets the questions that name no thread
        self._kept: UUID | None = None  #: the current thread, as the store has it
        self._keeping = asyncio.Lock()
        bus.subscribe(self._follow, ThreadChanged, ThreadDeleted)

    async def restore_current(self) -> None:
        """Go on in the thread that was this notebook's current one before its kernel was started again."""
        if self._notebook.id and self.current is None:
            self.current = await self._store.kept_thread(self._notebook)
            self._kept = self.current.id if self.current else None

    async def keep_current(self) -> None:
        """Have the store keep which thread is this notebook's current one."""
        async with self._keeping:
            current = self.current.id if self.current else None
            if self._notebook.id and current != self._kept:
                await self._store.keep_thread(self._notebook, current, self._clock.now())
                self._kept = current

    async def open(self, title: str, **fields: Any) -> Thread:
        """Create a thread and make it the current one; `fields` are those of `Thread`."""
        thread = Thread(id=self._clock.new_id(), title=self._title(title), inserted_at=self._clock.now(), **fields)
        thread = await self._store.add_thread(thread)
        self._thread_cache.begin(thread.id)
        return await self._opened(thread)

    async def add(self, thread: Thread, messages: Sequence[Message], calls: Sequence[ToolCall]) -> Thread:
        """Store an imported or forked thread, and make it the current one."""
        thread = replace(thread, title=self._title(thread.title))
        return await self._opened(await self._store.add_conversation(thread, messages, calls))

    def _title(self, text: str) -> str:
        return short_title(self._mask(text))  # before it is cut: half a secret is no longer recognised

    async def _opened(self, thread: Thread) -> Thread:
        self.current = thread
        self._bus.publish(ThreadOpened(thread_id=thread.id, thread=thread))
        await self.keep_current()
        return thread

    async def all(self, status: ThreadStatus | None = None, *, here: bool = False) -> list[Thread]:
        """Return threads, newest first; with `here` only those of this notebook."""
        return await self._store.threads(status, self._notebook if here else None)

    async def find(self, name: str | UUID) -> Thread:
        """Return a thread by its title, its id or the end of its id; of two with one title, the newest."""
        if isinstance(name, UUID):
            return await self._store.thread(name)
        threads = await self._store.threads()
        wanted = name.strip()
        digits = _digits(wanted)
        found = [each for each in threads if each.title.casefold() == wanted.casefold()]
        if not found and len(digits) >= MIN_ID_DIGITS:
            found = [each for each in threads if each.id.hex.endswith(digits)]
        if found:
            return found[0]
        known = NotFoundError.among("thread", wanted, [each.title for each in threads])
        raise NotFoundError(f"{known}; open one with %piano thread --new {wanted} (open_thread in Python)")

    async def select(self, thread: Thread | str | None) -> Thread | None:
        """Make a thread the current one, if one is named; return the current one."""
        if thread is not None:
            self.current = await self.find(thread) if isinstance(thread, str) else thread
        if self.current is not None and self.current.id in self._deleted:
            title, self.current = self.current.title, None
            raise NotFoundError(f"the thread {title!r} was deleted")
        await self.keep_current()
        return self.current

    async def delete(self, threads: Sequence[Thread], cancel_queued: Callable[[], Awaitable[None]]) -> list[str]:
        """Delete threads from the database and its copies; return what may still hold them, a sentence each.

        Raises StoreError while a job waits or runs in one of them: `cancel_queued` is called at the last moment.
        """
        ids = [thread.id for thread in threads]
        left = await self._store.erase(ids)  # first: whoever is stopped in the middle can delete the thread again
        await cancel_queued()
        await self._store.delete_threads(ids)
        for each in ids:
            self._bus.publish(ThreadDeleted(thread_id=each))
        try:
            await self._store.compact()
        except StoreError as error:
            left.append(f"its bytes are in the file until the next deletion: {error}")
        return left

    async def named_after(self, thread: Thread, question: str) -> Thread:
        """Name a new thread after its first question; return it, as it is if it has a title of its own."""
        if thread.title != NEW_TITLE or await self.messages(thread, 1):
            return thread
        return await self.update(thread, title=question)

    async def update(self, thread: Thread, **fields: Any) -> Thread:
        """Change a thread; one that is archived is no longer the current one."""
        if "title" in fields:
            fields["title"] = self._title(fields["title"])
        kept = await self._store.thread(thread.id)  # who calls may have it as it was before another change
        thread = await self._store.update_thread(replace(kept, **fields))
        self._bus.publish(ThreadChanged(thread_id=thread.id, thread=thread))
        if fields.get("status") == "archived" and self.current is not None and self.current.id == thread.id:
            self.current = None
        await self.keep_current()
        return thread

    async def refresh(self) -> None:
        """Read again what the current thread is, where another notebook may have changed or deleted it."""
        if (current := self.current) is None:
            return
        try:
            while True:
                heard, thread = self._heard, await self._store.thread(current.id)
                if heard == self._heard:  # else what was told meanwhile may be newer
                    self._take_in(thread)
                    return
        except NotFoundError:
            self._follow(ThreadDeleted(thread_id=current.id))

    def _follow(self, event: ThreadChanged | ThreadDeleted) -> None:
        """Take in what happened to a thread, in whichever notebook."""
        self._heard += 1
        is_current = self.current is not None and self.current.id == event.thread_id
        if isinstance(event, ThreadDeleted):
            self._deleted.add(event.thread_id)
            self.current = None if is_current else self.current
        else:
            self._take_in(event.thread)

    def _take_in(self, thread: Thread) -> None:
        """Take in how a thread is now; one that is archived is no longer the current one, if it was active."""
        if self.current is not None and self.current.id == thread.id:
            self.current = thread if self.current.status == "archived" or thread.status == "active" else None

    async def messages(self, thread: Thread, last: int | None, at: Message | None = None) -> list[Message]:
        """Return a branch of a thread, or only its `last` messages, turn by turn."""
        branch = (await self._thread_cache.get(thread.id)).tree.branch(at.id if at else None)
        return branch if last is None else branch[-last:] if last else []

    async def branches(self, thread: Thread) -> dict[UUID, list[UUID]]:
        """Return, for each message that has alternatives, the ids of all of them."""
        return (await self._thread_cache.get(thread.id)).tree.alternatives()

    async def choose_branch(self, message: Message) -> None:
        """Continue a thread from the end of the branch that a message is on."""
        async with self._thread_cache.write_lock(message.thread_id):
            tree = (await self._thread_cache.get(message.thread_id)).tree
            chosen = ChosenBranch(tree.end_of_branch(message.id), tree.newest_job)
            await self._store.choose_branch(message.thread_id, chosen)
        self._bus.publish(BranchChosen(thread_id=message.thread_id, **chosen._asdict()))

    async def tool_calls(self, thread: Thread) -> list[ToolCall]:
        """Return a thread's tool calls, in order."""
        return (await self._thread_cache.get(thread.id)).tool_calls()

    async def find_message(self, name: Message | UUID | str) -> Message:
        """Return a message by its id or the end of its id, the current thread first. Raises NotFoundError."""
        if not isinstance(name, str):
            return await self._store.message(name.id if isinstance(name, Message) else name)
        digits = _digits(name)
        if len(digits) < MIN_ID_DIGITS or not all(each in "0123456789abcdef" for each in digits):
            raise PianoError(f"{name!r} is no message's id; %piano history --ids shows them")
        here = (await self._thread_cache.get(self.current.id)).messages.values() if self.current else ()
        found = [each for each in here if each.id.hex.endswith(digits)] or await self._store.messages_ending(digits)
        if not found:
            raise NotFoundError(f"no message's id ends in {name!r}; %piano history --ids shows those of the thread")
        return found[-1]

    async def locate(self, message: Message) -> tuple[Thread, Conversation]:
        """Return the thread that has a message, the current one if it does, and its conversation."""
        if self.current is not None:
            conversation = await self._thread_cache.get(self.current.id)
            if message.id in conversation.messages:
                return self.current, conversation
        thread = await self._store.thread(message.thread_id)
        return thread, await self._thread_cache.get(thread.id)

    async def fork(self, message: Message, title: str | None) -> Thread:
        """Copy the messages of a branch up to `message` into a new thread, and make it the current one.

        It does not change with the other thread: it has copies of the messages and tool calls.
        """
        thread, conversation = await self.locate(message)
        branch = conversation.tree.branch(message.id)
        branch = branch[: 1 + next(at for at, each in enumerate(branch) if each.id == message.id)]
        for each in branch:
            if each.job_id is not None and conversation.jobs[each.job_id].status in ACTIVE:
                raise PianoError(f"{short(each.id)} is still being answered: wait for it, or fork from before it")
        fork = Thread(
            id=self._clock.new_id(),
            title=title or f"{thread.title} (fork)",
            inserted_at=self._clock.now(),
            primary_agent_id=thread.primary_agent_id,
            forked_from_thread_id=thread.id,
            forked_from_message_id=message.id,
        )
        return await self.add(fork, *self._copied(fork.id, branch, conversation.tool_calls()))

    def _copied(
        self, thread_id: UUID, messages: Sequence[Message], calls: Sequence[ToolCall]
    ) -> tuple[list[Message], list[ToolCall]]:
        """Return copies of messages and their calls for another thread, as one branch and without jobs."""
        ids = {message.id: self._clock.new_id() for message in messages}
        parents = [None, *ids.values()]
        copies = [
            replace(message, id=ids[message.id], thread_id=thread_id, parent_id=parent, job_id=None)
            for message, parent in zip(messages, parents, strict=False)
        ]
        copied = [call for call in calls if call.message_id in ids]
        return copies, [replace(call, id=self._clock.new_id(), message_id=ids[call.message_id]) for call in copied]


def short_title(text: str) -> str:
    """Return a text's first line, as long as a title may be."""
    first = text.strip().splitlines()[0].strip() if text.strip() else "Untitled"
    return truncated(first, MAX_TITLE_CHARS)


def _digits(name: str) -> str:
    return name.replace("-", "").strip().lower()
