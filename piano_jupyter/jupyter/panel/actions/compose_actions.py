"""What a page asks while a question is written: the draft, what can be named in it, the files that go with it."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from piano_jupyter.attachments.attachment import Attachment
from piano_jupyter.attachments.given import attachment_from_file
from piano_jupyter.errors import PianoError
from piano_jupyter.jupyter.panel.actions.action_panel import Panel
from piano_jupyter.jupyter.panel.actions.page_request import PageRequest
from piano_jupyter.jupyter.render.tables import MAX_TEXT_CHARS

MAX_DRAFT_CHARS = 200_000
MAX_RECALLED = 50
MAX_FILES = 200  # of one folder
MAX_THUMBNAIL_BYTES = 200_000


async def draft(panel: Panel, request: PageRequest) -> dict[str, Any]:
    """Return what was written for a thread and not sent, and the files that go with it."""
    thread = await panel.piano.find_thread(request.id())
    text, files = await panel.piano.draft(thread), await panel.piano.draft_files(thread)
    for each in files:
        panel.uploads.keep(each.sha256, each)
    return {"text": text, "files": [{"key": each.sha256, **_shown(each)} for each in files]}


async def keep_draft(panel: Panel, request: PageRequest) -> None:
    """Keep what is written for a thread, and the files that go with it if they are named."""
    text = request.text("text")
    named = request.content.get("files") is not None
    files = panel.uploads.attachments(request.texts("files")) if named else None
    if len(text) > MAX_DRAFT_CHARS:
        raise PianoError(f"a draft of more than {MAX_DRAFT_CHARS:,} characters is kept in this tab only")
    await panel.piano.keep_draft(await panel.piano.find_thread(request.id()), text, files)


async def recall(panel: Panel, _request: PageRequest) -> list[str]:
    """Return the last questions of the thread as they were typed, each once, the newest first."""
    messages = await panel.piano.messages(panel.thread)
    asked = [each.typed or each.content for each in messages if each.role == "user"]
    return [each for each in dict.fromkeys(asked[::-1]) if len(each) <= MAX_TEXT_CHARS][:MAX_RECALLED]


async def suggest(panel: Panel, request: PageRequest) -> list[dict[str, str]]:
    """Return the agents, and the files and folders in a folder of the workspace."""
    agents = [] if request.text() else await panel.piano.agents()
    mentions = [
        {"kind": "agent", "name": each.name, "about": each.description or each.model, "inserts": f"@{each.name} "}
        for each in agents
    ]
    workspace = Path(panel.piano.config.workspace)
    return [*mentions, *await asyncio.to_thread(lambda: list(_files(workspace, request.text())))]


async def suggest_names(panel: Panel, _request: PageRequest) -> list[dict[str, str]]:
    """Return the variables, the cells and the last error."""
    return await panel.offered()


async def attach_part(panel: Panel, request: PageRequest) -> dict[str, Any] | None:
    """Take a part of a file; return what is shown of the file with the last part."""
    key = request.text()
    panel.uploads.add_part(key, request.text("name"), request.text("part"), number=_number(request.text("number")))
    if request.text("last") != "True":
        return None
    return await _kept(panel, request, await asyncio.to_thread(panel.uploads.finish, key))


async def attach_file(panel: Panel, request: PageRequest) -> dict[str, Any]:
    """Attach a file of the workspace."""
    workspace, path = panel.piano.config.workspace, request.text("path")
    file = Path(workspace) / path
    return await _kept(
        panel, request, await asyncio.to_thread(attachment_from_file, file, workspace=workspace, only_beneath=True)
    )


async def detach(panel: Panel, request: PageRequest) -> None:
    """Forget a file that was attached."""
    panel.uploads.forget(request.text())


async def _kept(panel: Panel, request: PageRequest, attachment: Attachment) -> dict[str, Any]:
    """Keep a file for the question; return what is shown of it, and why it cannot be sent, if so."""
    panel.uploads.keep(request.text(), attachment)
    refused = ""
    if attachment.is_image:
        refused = await panel.piano.images_refused(request.text("question"), thread=panel.thread)
    return _shown(attachment) | {"refused": refused}


def _shown(attachment: Attachment) -> dict[str, Any]:
    """Return what is shown of a file that goes with a question."""
    shows = attachment.is_image and attachment.size <= MAX_THUMBNAIL_BYTES
    return {"label": attachment.label, "refused": "", "thumbnail": attachment.data_uri if shows else ""}


def _number(text: str) -> int:
    if not text.isdecimal():
        raise PianoError(f"the panel sent {text!r}, which is no number; reload the page")
    return int(text)


def _files(workspace: Path, folder: str) -> Iterator[dict[str, str]]:
    """Yield the files and folders in a folder of the workspace, none that are hidden."""
    root = workspace.resolve()
    try:
        place = (root / folder).resolve()
        entries = sorted(place.iterdir()) if place.is_relative_to(root) else []
        entries = [each for each in entries if not each.name.startswith((".", "__"))][:MAX_FILES]
    except (OSError, ValueError):  # no such folder
        return
    for each in entries:
        is_folder = each.is_dir()
        path = f"{folder}{each.name}{'/' if is_folder else ''}"
        yield {"kind": "folder" if is_folder else "file", "name": path, "about": "", "inserts": path}


ACTIONS = {
    "draft": draft,
    "keep_draft": keep_draft,
    "recall": recall,
    "suggest": suggest,
    "suggest_names": suggest_names,
    "attach_part": attach_part,
    "attach_file": attach_file,
    "detach": detach,
}
