"""%piano export, import, record, replay: threads and exchanges as files."""

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Any

from piano_jupyter.errors import PianoError
from piano_jupyter.jupyter.magic.command import named
from piano_jupyter.jupyter.magic.commands.history import no_thread
from piano_jupyter.jupyter.magic.options import quoted
from piano_jupyter.jupyter.magic.user_files import read_text, user_path, writable, write_text
from piano_jupyter.jupyter.render.tables import Note
from piano_jupyter.jupyter.session import Session

if TYPE_CHECKING:
    from piano_jupyter.export import ExportFormat
    from piano_jupyter.piano import Piano

FORMATS: "dict[str, ExportFormat]" = {"md": "markdown", "ipynb": "notebook", "jsonl": "jsonl"}


async def export(piano: "Piano", text: str, *, thread: str | None = None, format: str = "", force: bool = False) -> Any:  # noqa: A002
    """Write a thread (the current one, if none is named) to a file: Markdown, a notebook, or JSON Lines.

    The file's ending says which: .md, .ipynb, or .jsonl in the form of the OpenAI chat API, which %piano import
    reads. A file that exists is only replaced with --force.
    """
    file = named("file", text, "%piano export review.md")
    ending = format or Path(file).suffix.removeprefix(".").lower()
    if ending not in FORMATS:
        raise PianoError(f"{file} does not end in .md, .ipynb or .jsonl; say what it is to be: --format md")
    found = await piano.find_thread(thread) if thread is not None else piano.thread
    if found is None:
        raise PianoError(await no_thread(piano))
    written = await piano.export(found, FORMATS[ending])
    await asyncio.to_thread(write_text, file, written, piano.config.workspace, force=force)
    return Note(f"{found.title!r} is in {file}")


async def import_(piano: "Piano", text: str, *, title: str | None = None) -> Any:
    """Make a thread of a file of JSON Lines in the form of the OpenAI chat API; it becomes the current one."""
    file = named("file", text, "%piano import talk.jsonl")
    written = await asyncio.to_thread(read_text, file, piano.config.workspace)
    try:
        thread = await piano.import_thread(written, title)
    except PianoError as error:
        raise PianoError(f"{file}: {error}") from error
    return Note(f"current thread: {thread.title}")


def record(session: Session, text: str, *, stop: bool = False, force: bool = False) -> Any:
    """Keep each exchange with the model in FILE, in a fresh conversation; --stop goes back to your own threads.

    A file that exists is only replaced with --force.
    """
    if stop:
        return _go_back(session)
    file = named("file", text, "%piano record talk.jsonl")
    otherwise = f"--force records it anew, %piano replay {quoted(file)} answers from it"
    path = writable(file, session.config.workspace, otherwise, force=force)
    session.loop.run(session.use_cassette(record=path))
    return Note(f"recording to {file}")


def replay(session: Session, text: str, *, stop: bool = False) -> Any:
    """Answer from FILE in a fresh conversation, else ask the model; --stop goes back to your own threads."""
    if stop:
        return _go_back(session)
    file = named("file", text, "%piano replay talk.jsonl")
    with user_path(file) as path:
        session.loop.run(session.use_cassette(replay=path))
    return Note(f"replaying {file}")


def _go_back(session: Session) -> Any:
    session.loop.run(session.go_back())
    return Note(f"back in {session.config.database}")
