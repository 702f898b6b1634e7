"""%piano fork, edit, regenerate: going on from an earlier place."""

from functools import partial
from typing import TYPE_CHECKING, Any

from piano_jupyter.errors import PianoError
from piano_jupyter.jupyter.cell.waiting import follow_in_cell
from piano_jupyter.jupyter.placeholders import fill_in
from piano_jupyter.jupyter.render.tables import Note
from piano_jupyter.records import Job, Message

if TYPE_CHECKING:
    from piano_jupyter.jupyter.session import Session
    from piano_jupyter.piano import Piano


async def fork(piano: "Piano", text: str, *, title: str | None = None) -> Any:
    """Open a thread that goes on from a message (the last one of the current thread, if none is named).

    Both threads have what was said up to there; the new one becomes the current one. %piano history --ids names
    the messages.
    """
    thread = await piano.fork_thread(await _named_or_last(piano, text), title)
    return Note(f"current thread: {thread.title}")


def edit(session: "Session", text: str) -> Any:
    """Ask another question in the place of one, of the same agents; the thread goes on from the new one.

    Nothing is lost: %piano history shows where the branches part. %piano history --ids names the messages.
    """
    name, *rest = text.split(maxsplit=1) or [""]
    if not rest:
        raise PianoError("name the message and say the new text: %piano edit 3fa9c1 and in Spain?")
    said = fill_in(rest[0], session.variables())
    return follow_in_cell(session, lambda piano: piano.edit(name, said, source="magic"))


def regenerate(session: "Session", text: str) -> Any:
    """Have a question answered anew (the last one of the current thread, if neither it nor its answer is named)."""
    return follow_in_cell(session, partial(_regenerate, text))


async def _regenerate(name: str, piano: "Piano") -> list[Job]:
    return await piano.regenerate(await _named_or_last(piano, name))


async def _named_or_last(piano: "Piano", name: str) -> Message:
    if name:
        return await piano.find_message(name)
    said = [each for each in (await piano.messages(piano.thread) if piano.thread else []) if each.role != "system"]
    if not said:
        raise PianoError("nothing was said yet in the current thread; name a message, or go to a thread first")
    return said[-1]
