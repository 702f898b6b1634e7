"""%piano export, import, record, replay: threads and recordings as files."""

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Any

from piano_jupyter.errors import PianoError
from piano_jupyter.jupyter.magic.command import required
from piano_jupyter.jupyter.magic.commands.history import current_or_newest
from piano_jupyter.jupyter.magic.user_files import read_text, user_path, writable, write_text
from piano_jupyter.jupyter.render.html_page import thread_page
from piano_jupyter.jupyter.render.tables import Note
from piano_jupyter.jupyter.session import Session
from piano_jupyter.text.quoting import quoted

if TYPE_CHECKING:
    from piano_jupyter.export import ExportFormat
    from piano_jupyter.piano import Piano

FORMATS: "dict[str, ExportFormat]" = {"md": "markdown", "ipynb": "notebook", "jsonl": "jsonl"}

PAGE = "html"  # which shows a thread as the history does


async def export(piano: "Piano", text: str, *, thread: str | None = None, format: str = "", force: bool = False) -> Any:  # noqa: A002
    """Write a thread, by default the current one, else the newest, to a file: Markdown, a page, a notebook, JSON Lines.

    The file's extension says which: .md, .html, .ipynb, or .jsonl in the format of the OpenAI chat API, which %piano
    import reads. An existing file is only replaced with --force.
    """
    file = required("file", text, "%piano export review.md")
    ending = format or Path(file).suffix.removeprefix(".").lower()
    if ending not in {*FORMATS, PAGE}:
        raise PianoError(f"{file} does not end in .md, .html, .ipynb or .jsonl; choose a format: --format md")
    found = await (piano.find_thread(thread) if thread is not None else current_or_newest(piano))
    written = await (thread_page(piano, found) if ending == PAGE else piano.export(found, FORMATS[ending]))
    await asyncio.to_thread(write_text, file, written, piano.config.workspace, force=force)
    return Note(f"exported {found.title!r} to {file}")


async def import_(piano: "Piano", text: str, *, title: str | None = None) -> Any:
    """Create a thread from JSON Lines in the format of the OpenAI chat API; it becomes the current one."""
    file = required("file", text, "%piano import talk.jsonl")
    written = await asyncio.to_thread(read_text, file, piano.config.workspace)
    try:
        thread = await piano.import_thread(written, title)
    except PianoError as error:
        raise PianoError(f"{file}: {error}") from error
    return Note(f"current thread: {thread.title}")


def record(session: Session, text: str, *, stop: bool = False, force: bool = False) -> Any:
    """Record each exchange with the model in FILE, in a new conversation; --stop returns to your threads.

    An existing file is only replaced with --force.
    """
    if stop:
        return _back_to_own_threads(session)
    file = required("file", text, "%piano record talk.jsonl")
    if session.recording and session.cassette:
        raise PianoError(f"already recording to {session.cassette.name}: %piano record --stop first")
    advice = f"--force replaces it, %piano replay {quoted(file)} answers from it"
    path = writable(file, session.config.workspace, advice, force=force)
    session.loop.run(session.use_cassette(record=path))
    return Note(f"recording to {file}")


def replay(session: Session, text: str, *, stop: bool = False) -> Any:
    """Answer from FILE in a new conversation, or else ask the model; --stop returns to your threads."""
    if stop and session.recording:
        raise PianoError("nothing is replayed; %piano record --stop ends the recording")
    if stop:
        return _back_to_own_threads(session)
    file = required("file", text, "%piano replay talk.jsonl")
    with user_path(file) as path:
        session.loop.run(session.use_cassette(replay=path))
    return Note(f"replaying {file}")


def _back_to_own_threads(session: Session) -> Any:
    saved = f"recording saved in {session.cassette.name}; " if session.recording and session.cassette else ""
    session.loop.run(session.go_back())
    return Note(f"{saved}back to your threads")
