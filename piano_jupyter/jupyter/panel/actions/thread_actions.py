"""What a page asks about threads: list and search them, show, open, rename, archive, fork, export and delete them."""

import re
from typing import Any
from uuid import UUID

from piano_jupyter.errors import NotFoundError, PianoError
from piano_jupyter.jupyter.panel.actions.action_panel import Panel
from piano_jupyter.jupyter.panel.actions.page_request import PageRequest
from piano_jupyter.jupyter.panel.opening import newest_or_new_thread
from piano_jupyter.jupyter.render.cards import SCRIPT
from piano_jupyter.jupyter.render.html_page import thread_page
from piano_jupyter.records import NEW_TITLE, Thread, ThreadUse
from piano_jupyter.text.short_paths import short_paths

MAX_LISTED = 200
MAX_HITS = 200
MAX_NAME_CHARS = 60
FILES = {  # the ending and the type of a file, by format
    "markdown": ("md", "text/markdown"),
    "notebook": ("ipynb", "application/x-ipynb+json"),
    "html": ("html", "text/html"),
    "jsonl": ("jsonl", "application/jsonl"),
}
NOT_IN_A_FILE_NAME = re.compile(r"[^\w .,()&+-]+")


async def threads(panel: Panel, request: PageRequest) -> dict[str, Any]:
    """Return the threads, the one used last first; with a text only those in which its words occur."""
    piano, text = panel.piano, request.text()
    found: dict[UUID, tuple[Thread, str]]
    if text.strip():
        hits = await piano.search(text, MAX_HITS)
        found = {hit.thread.id: (hit.thread, hit.excerpt if hit.message else "") for hit in reversed(hits)}
    else:
        found = {thread.id: (thread, "") for thread in await piano.threads()}
    use, here = await piano.thread_use(), {thread.id for thread in await piano.threads(here=True)}
    names = short_paths({each.notebook.name for each in use.values() if each.notebook} | {piano.notebook.name})

    def row(thread: Thread, excerpt: str) -> dict[str, Any]:
        count, last, notebook = use.get(thread.id, ThreadUse(0, thread.inserted_at, None))
        return {
            "id": str(thread.id),
            "title": thread.title,
            "archived": thread.status == "archived",
            "messages": count,
            "last": last.isoformat(),
            "elsewhere": "" if thread.id in here or notebook is None else names[notebook.name] or SCRIPT,
            "shown": thread.id == panel.thread.id,
            "excerpt": excerpt,
        }

    rows = sorted((row(*each) for each in found.values()), key=lambda each: str(each["last"]), reverse=True)
    return {"threads": rows[:MAX_LISTED], "left": max(0, len(rows) - MAX_LISTED), "formats": [*FILES]}


async def show(panel: Panel, request: PageRequest) -> None:
    """Show another thread, which becomes the current one."""
    await panel.show_thread(await panel.piano.find_thread(request.id()))


async def open_thread(panel: Panel, _request: PageRequest) -> None:
    """Show a new thread; one without messages that is shown already is new enough."""
    if await panel.piano.messages(panel.thread, 1) or panel.thread.title != NEW_TITLE:
        await panel.show_thread(await panel.piano.open_thread(NEW_TITLE))


async def rename(panel: Panel, request: PageRequest) -> None:
    """Rename a thread, by default the one shown."""
    if not request.text().strip():
        raise PianoError("a thread needs a title")
    await panel.piano.rename_thread(await _thread(panel, request), request.text())


async def archive(panel: Panel, request: PageRequest) -> None:
    """Archive a thread."""
    await panel.piano.archive_thread(await _thread(panel, request))


async def unarchive(panel: Panel, request: PageRequest) -> None:
    """Make an archived thread active again."""
    await panel.piano.unarchive_thread(await _thread(panel, request))


async def fork(panel: Panel, request: PageRequest) -> None:
    """Copy a thread, and show the copy."""
    thread = await _thread(panel, request)
    said = [each for each in await panel.piano.messages(thread) if each.role != "system"]
    if not said:
        raise PianoError(f"{thread.title!r} has no messages yet, so there is nothing to fork")
    await panel.show_thread(await panel.piano.fork_thread(said[-1]))


async def delete(panel: Panel, request: PageRequest) -> list[str]:
    """Delete a thread for good; if it is the one shown, another one is shown. Return what may still hold its text."""
    thread = await _thread(panel, request)
    if thread.id != panel.thread.id:
        return await panel.piano.delete_thread(thread)
    await panel.show_thread(await newest_or_new_thread(panel.piano, besides=thread))
    try:
        return await panel.piano.delete_thread(thread)
    except PianoError:
        await panel.show_thread(thread)
        raise


async def export(panel: Panel, request: PageRequest) -> dict[str, str]:
    """Return a thread as a file: its name, type and text."""
    form, thread = request.text("format"), await _thread(panel, request)
    if form not in FILES:
        raise NotFoundError.among("format", form, FILES)
    ending, mime = FILES[form]
    if form == "html":
        text = await thread_page(panel.piano, thread)
    else:
        text = await panel.piano.export(thread, form)  # type: ignore[arg-type]  # it is checked to be one
    return {"name": f"{file_name(thread.title)}.{ending}", "type": mime, "text": text}


def file_name(title: str) -> str:
    """Return a title as the name of a file: only letters, digits and plain signs."""
    words = NOT_IN_A_FILE_NAME.sub(" ", title).split()
    return " ".join(words).strip(" .")[:MAX_NAME_CHARS].strip(" .") or "chat"


async def _thread(panel: Panel, request: PageRequest) -> Thread:
    """Return the thread that a request is about, by default the one shown. Raises PianoError."""
    return await panel.piano.find_thread(request.id("thread")) if request.text("thread") else panel.thread


ACTIONS = {
    "threads": threads,
    "show": show,
    "open_thread": open_thread,
    "rename": rename,
    "archive": archive,
    "unarchive": unarchive,
    "fork": fork,
    "delete": delete,
    "export": export,
}
