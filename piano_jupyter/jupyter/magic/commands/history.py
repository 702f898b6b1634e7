"""%piano threads, thread, fork, history, search: the conversations, what was said in them, and where."""

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC
from functools import partial
from typing import TYPE_CHECKING, Any
from uuid import UUID

from piano_jupyter.errors import PianoError
from piano_jupyter.jupyter.magic.command import agent_names, required, whole_number
from piano_jupyter.jupyter.magic.confirmation import UNCHANGED, confirmed
from piano_jupyter.jupyter.render.attachments import MAX_SHOWN_BYTES
from piano_jupyter.jupyter.render.cards import hits_table, threads_table
from piano_jupyter.jupyter.render.stopped_answers import stopped_lines, with_stopped_answers
from piano_jupyter.jupyter.render.tables import Note
from piano_jupyter.jupyter.render.transcript import Transcript
from piano_jupyter.jupyter.session import Session
from piano_jupyter.records import Job, JobStatus, Message, Thread, ThreadStatus, ThreadUse, ToolCall, short

if TYPE_CHECKING:
    from piano_jupyter.piano import Piano

MAX_HITS = 20


def threads(
    session: Session,
    *,
    all: bool = False,  # noqa: A002  It is the option's name.
    archived: bool = False,
    here: bool = False,
    purge: bool = False,
    yes: bool = False,
) -> Any:
    """List the threads, newest first, with their messages and last use; --all also the archived ones.

    --here lists only those that this notebook has asked in, --archived only the archived ones. --archived --purge
    deletes these for good, from the history and its copies; it asks first, unless you add --yes. Times are local; while
    a cassette is in use they are in UTC, so that the table is the same on every machine.
    """
    if purge and not archived:
        raise PianoError("only archived threads are deleted together: %piano threads --archived --purge")
    status: ThreadStatus | None = "archived" if archived else None if all else "active"
    found, use = session.call(partial(_threads_and_use, status, here))
    if purge and found:
        return _delete(session, found, yes=yes)
    return threads_table(found, use, zone=UTC if session.cassette else None)


def thread(
    session: Session,
    text: str,
    *,
    new: bool = False,
    rename: str | None = None,
    archive: bool = False,
    delete: bool = False,
    yes: bool = False,
) -> Any:
    """Switch to a thread by title or id, or open one with --new TITLE; without arguments, show the current one.

    --delete deletes it for good, from the history and its copies; it asks first, unless you add --yes.
    """
    if delete and (new or archive or rename is not None):
        raise PianoError("--delete stands alone: %piano thread Sales --delete")
    if delete:
        return _delete(session, session.call(partial(_to_delete, text)), yes=yes)
    return session.call(partial(_thread, text, new=new, rename=rename, archive=archive))


async def _thread(text: str, piano: "Piano", *, new: bool, rename: str | None, archive: bool) -> Any:
    if rename is not None and not rename.strip():
        raise PianoError('a thread needs a title: %piano thread --rename "Clean data"')
    if new:
        await piano.open_thread(text or "Untitled")
    elif text:
        piano.thread = await piano.find_thread(text)
    if piano.thread is None:
        return Note(await no_thread(piano))
    if rename is not None:
        await piano.rename_thread(piano.thread, rename)
    if archive:
        await piano.archive_thread(piano.thread)
        return Note("archived; the next question opens a new thread")
    return Note(f"current thread: {piano.thread.title} ({short(piano.thread.id)})")


async def _to_delete(name: str, piano: "Piano") -> list[Thread]:
    """Return the thread that is named, else the current one. Raises PianoError."""
    found = await piano.find_thread(name) if name else piano.thread
    if found is None:
        raise PianoError(await no_thread(piano))
    return [found]


def _delete(session: Session, found: Sequence[Thread], *, yes: bool) -> Any:
    """Delete threads, once the user has said so."""
    told = f"the thread {found[0].title!r}" if len(found) == 1 else f"{len(found):,} threads"
    if not confirmed(session, f"Delete {told} from the history and its copies, for good?", yes=yes):
        return Note(UNCHANGED)
    left = session.call(lambda piano: piano.delete_thread(*found))
    return Note("\n".join([f"{told} {'is' if len(found) == 1 else 'are'} deleted", *left]))


async def fork(piano: "Piano", text: str, *, title: str | None = None) -> Any:
    """Open a thread that continues from a message, by default the last one of the current thread.

    Both threads share the messages up to there; the new thread becomes the current one. %piano history --ids shows the
    id of each message.
    """
    thread = await piano.fork_thread(await named_or_last(piano, text), title)
    return Note(f"current thread: {thread.title}")


async def history(
    piano: "Piano", text: str, *, last: str | None = None, at: str | None = None, ids: bool = False
) -> Any:
    """Show a thread, by default the current one, else the newest, and where its branches part.

    --last N shows the last N messages, --at MESSAGE the branch that leads to a message, --ids the id of each message.
    """
    newest = whole_number("--last", last)
    message = await piano.find_message(at) if at is not None else None
    name = text or (message.thread_id if message is not None else None)
    thread = await (piano.find_thread(name) if name else current_or_newest(piano))
    messages = await piano.messages(thread, newest, at=message)
    calls, others = await piano.tool_calls(thread), await piano.branches(thread)
    messages, calls = await with_shown_content(piano, messages, calls)
    jobs = await piano.jobs(thread=thread)
    title = thread.title if name or piano.thread else f"{thread.title} (your newest thread; none is open)"
    ends = {**failed_or_cancelled(jobs, names := await agent_names(piano)), **stopped_lines(jobs)}
    return Transcript(title, with_stopped_answers(messages, jobs), calls, names, others, ends, ids=ids)


async def with_shown_content(
    piano: "Piano", messages: Sequence[Message], calls: Sequence[ToolCall]
) -> tuple[list[Message], list[ToolCall]]:
    """Return the messages, and those of the calls that they make, with as many attachments as an output may have."""
    ids = {message.id for message in messages}
    made = await piano.with_content([call for call in calls if call.message_id in ids], MAX_SHOWN_BYTES // 2)
    return await piano.with_content(messages, MAX_SHOWN_BYTES // 2), made


async def search(piano: "Piano", text: str, *, limit: str | None = None) -> Any:
    """Find messages and titles that contain all of the words, best match first."""
    words = required("words", text, "%piano search quarterly revenue")
    limit_or_default = whole_number("--limit", limit, minimum=1) or MAX_HITS
    return hits_table(await piano.search(words, limit_or_default), await agent_names(piano))


async def named_or_last(piano: "Piano", name: str) -> Message:
    """Return the named message, or the last one of the current thread. Raises PianoError."""
    if name:
        return await piano.find_message(name)
    messages = [each for each in (await piano.messages(piano.thread) if piano.thread else []) if each.role != "system"]
    if not messages:
        raise PianoError("the current thread has no messages yet; name a message, or switch to a thread first")
    return messages[-1]


async def current_or_newest(piano: "Piano") -> Thread:
    """Return the current thread, in a new kernel the newest. Raises PianoError if there is none."""
    thread = piano.thread or next(iter(await piano.threads("active")), None)
    if thread is None:
        raise PianoError(await no_thread(piano))
    return thread


def failed_or_cancelled(jobs: Sequence[Job], names: Mapping[UUID | None, str]) -> dict[UUID, list[str]]:
    """Return by message how the last job of each agent ended that it asked, where that was without an answer."""
    last = {(job.message_id, job.agent_id): job for job in jobs}
    asked = Counter(message for message, _ in last)
    ends: dict[UUID, list[str]] = {}
    for job in last.values():
        if job.status is JobStatus.FAILED or (job.status is JobStatus.CANCELLED and not job.partial):
            who = f"{names.get(job.agent_id, '?')}: " if asked[job.message_id] > 1 else ""
            why = f": {' '.join(job.reason.split())}" if job.status is JobStatus.FAILED and job.reason else ""
            ends.setdefault(job.message_id, []).append(f"({who}{job.status}{why})")
    return ends


async def no_thread(piano: "Piano") -> str:
    """Return the sentence for when there is no current thread."""
    threads = len(await piano.threads("active"))
    if not threads:
        return "no thread yet; %%piano opens one"
    return f"no thread is open; %piano thread TITLE opens {'yours' if threads == 1 else f'one of your {threads:,}'}"


async def _threads_and_use(
    status: ThreadStatus | None,
    here: bool,  # noqa: FBT001  Private.
    piano: "Piano",
) -> tuple[list[Thread], dict[UUID, ThreadUse]]:
    """Return the threads, and by thread the number of messages and the time of the last one."""
    return await piano.threads(status, here=here), await piano.thread_use()
