"""SavedTranscript: the conversation as a notebook keeps it, below the live view of a panel."""

import asyncio
from collections.abc import Callable
from typing import Any
from uuid import uuid4

from IPython.display import display

from piano_jupyter.jupyter.render.attachments import MAX_SHOWN_BYTES
from piano_jupyter.jupyter.render.stopped_answers import stopped_lines, with_stopped_answers
from piano_jupyter.jupyter.render.transcript import Transcript
from piano_jupyter.piano import Piano
from piano_jupyter.records import Thread

DISPLAY_ID = "piano_display_id"  # in its metadata: a page that was loaded again finds it by that
THREAD_ID = "piano_thread"  # the same: by it the extension of the front end continues the chat
#: Hides the view above it in a trusted notebook without its kernel, where ipywidgets shows an error instead.
NO_DEAD_VIEW = (
    "<style>.jp-OutputArea-child:has(+ .jp-OutputArea-child .piano-transcript):not(:has(.piano-panel))"
    "{display:none}</style>"
)


class SavedTranscript:
    """The transcript of the thread that a panel shows, as an output of a cell, which is updated."""

    def __init__(self, piano: Piano, thread: Callable[[], Thread]) -> None:
        self._piano, self._thread = piano, thread
        self._output: Any = None  # its handle
        self._is_old = False
        self._updating = asyncio.Lock()

    @property
    def is_shown(self) -> bool:
        """Whether a cell shows it."""
        return self._output is not None

    async def read(self) -> Transcript:
        """Return the last messages of the thread, on the chat's loop. Raises PianoError."""
        piano, thread = self._piano, self._thread()
        messages = await piano.messages(thread, piano.config.panel_messages)
        jobs = await piano.jobs(thread=thread)
        names = {agent.id: agent.name for agent in await piano.agents(deleted=True)}
        ids = {message.id for message in messages}
        calls = [call for call in await piano.tool_calls(thread) if call.message_id in ids]
        calls = await piano.with_content(calls, MAX_SHOWN_BYTES // 2)
        messages = with_stopped_answers(await piano.with_content(messages, MAX_SHOWN_BYTES // 2), jobs)
        return Transcript(thread.title, messages, calls, names, ends=stopped_lines(jobs))

    def show(self, transcript: Transcript) -> None:
        """Show what was read in the running cell."""
        display_id = uuid4().hex
        self._output = display(_bundle(transcript), raw=True, display_id=display_id, metadata=self._about(display_id))

    async def update(self) -> None:
        """Read and show it again, on the chat's loop; once more afterwards if that is asked for meanwhile."""
        self._is_old = True
        async with self._updating:
            if self._is_old:
                self._is_old = False
                self.replace(await asyncio.to_thread(_bundle, await self.read()))

    def replace(self, data: dict[str, str]) -> None:
        """Show something else in its place."""
        self._output.update(data, raw=True, metadata=self._about(self._output.display_id))

    def _about(self, display_id: str) -> dict[str, str]:
        return {DISPLAY_ID: display_id, THREAD_ID: str(self._thread().id)}


def _bundle(transcript: Transcript) -> dict[str, str]:
    """Return a transcript as a notebook keeps it; slow for a long one."""
    return {
        "text/html": f'<div class="piano-transcript">{NO_DEAD_VIEW}{transcript._repr_html_()}</div>',
        "text/plain": repr(transcript),
    }
