"""ChatPanel: events -> view, clicks -> Piano.

The panel has no state of its own. Events update a `ThreadView`, and its changes go to the page at most every 50 ms, in
numbered messages; a page that missed one, or that was just opened, asks for everything. Clicks arrive on any thread and
are passed to the chat's loop; each is acknowledged, then answered.
"""

import asyncio
import concurrent.futures
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import anywidget
from IPython.display import display
from traitlets import Unicode

from piano_jupyter.approval_prompt import ALREADY_ANSWERED
from piano_jupyter.errors import PianoError
from piano_jupyter.events import Event, EventsMissed, JobEnded, MessageAdded, ThreadBranched, ThreadDeleted
from piano_jupyter.jupyter.loop import LoopThread
from piano_jupyter.jupyter.panel.view import Change, ThreadView
from piano_jupyter.jupyter.render.attachments import MAX_SHOWN_BYTES, attachment_html
from piano_jupyter.jupyter.render.tables import Note
from piano_jupyter.jupyter.render.transcript import Transcript
from piano_jupyter.logs import logger
from piano_jupyter.piano import Piano
from piano_jupyter.records import JobStatus, Thread
from piano_jupyter.text.json_text import json_or_none
from piano_jupyter.variables.fill_in import FilledText

log = logger(__name__)

FillIn = Callable[[Piano, str, Thread], Awaitable[FilledText]]  # returns a question with its variables

FLUSH_INTERVAL_S = 0.05  # the least time between two messages to the page
PAGE_REPLY_TIMEOUT_S = 3.0
MAX_REMEMBERED_ACTIONS = 300
CLOSED = "this chat panel is closed; %piano panel opens a new one, with the whole conversation"
DELETED = "this thread was deleted"  # shown in its place
DISPLAY_ID = "piano_display_id"  # in the metadata of a transcript: a page that was loaded again finds it by that
#: Hides the view above a transcript in a trusted notebook without its kernel, where ipywidgets shows an error instead.
NO_DEAD_VIEW = (
    "<style>.jp-OutputArea-child:has(+ .jp-OutputArea-child .piano-transcript):not(:has(.piano-panel))"
    "{display:none}</style>"
)


class ChatPanel(anywidget.AnyWidget):
    """The chat of one thread, as a widget."""

    _esm = Path(__file__).with_name("panel.js")
    _css = Path(__file__).with_name("panel.css")
    title = Unicode().tag(sync=True)

    def __init__(self, piano: Piano, loop: LoopThread, thread: Thread, fill_in: FillIn | None = None) -> None:
        self._piano, self._loop, self._thread, self._fill_in = piano, loop, thread, fill_in
        self._view = ThreadView()
        self._early_events: list[Event] | None = []  # events during the reading of the store; None at other times
        self._limit = piano.config.panel_messages
        self._has_earlier = False
        self._sequence = 0
        self._pages: dict[str, None] = {}  # open views, the last active one last
        self._page_replies: dict[str, asyncio.Future[Any]] = {}  # by ticket: what a page replied, None if it cannot
        self._action_errors: dict[tuple[str, int], str | None] = {}  # by action: None while it runs, "" for success
        self._loading = asyncio.Lock()
        self._running: set[concurrent.futures.Future[None]] = set()
        self._last_flush, self._flushing = 0.0, False
        self._live_outputs: list[Any] = []  # the handles of the outputs that show the live view
        self._note = CLOSED  # takes its place when it is closed
        self._transcript_output: Any = None  # the handle of the transcript below the live view
        super().__init__(title=thread.title)
        _reply_on_chosen_subshell(self.comm)
        self.on_msg(self.receive)
        self._unsubscribe = piano.bus.subscribe(self._on_event, thread=thread.id)
        try:
            loop.run(self._load())
        except BaseException:
            self.close()
            raise

    def __repr__(self) -> str:
        return f"ChatPanel({self.title!r})"

    def _ipython_display_(self) -> None:
        """Show the live view, and below it a transcript, which is what a saved notebook keeps."""
        transcript = self._transcript_or_none() if self.is_open else None
        if transcript is None:
            display(Note(CLOSED))
            return
        self.show_live_view()
        display_id = uuid4().hex
        self._transcript_output = display(
            transcript, raw=True, display_id=display_id, metadata={DISPLAY_ID: display_id}
        )

    def show_live_view(self) -> None:
        """Show the live view alone, which a notebook does not keep."""
        data, metadata = self.live_bundle()
        self._live_outputs.append(display(data, metadata=metadata, raw=True, display_id=True))

    def live_bundle(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return the data and metadata of the live view, without a text that would stay in its place."""
        data, metadata = self._repr_mimebundle_() or ({}, {})
        data.pop("text/plain", None)
        return data, metadata

    def _transcript_or_none(self) -> dict[str, str] | None:
        """Return the transcript; None once the chat is closed."""
        transcript = self._transcript()
        try:
            return self._loop.run(transcript)
        except (PianoError, RuntimeError):
            transcript.close()
            return None

    def close(self) -> None:
        """Close the panel: a sentence takes its place in the cells that show it. The conversation stays."""
        if hasattr(self, "_unsubscribe"):
            self._unsubscribe()
        if self.comm is not None and not sys.is_finalizing():
            for live in filter(None, self._live_outputs):
                live.update(Note(self._note))
            self._live_outputs.clear()
        super().close()

    @property
    def thread_id(self) -> UUID:
        """The id of the thread shown."""
        return self._thread.id

    @property
    def is_open(self) -> bool:
        """Whether it was not closed."""
        return self.comm is not None

    async def add_cell(self, code: str) -> bool:
        """Ask the pages to add a cell with code below the panel, on the chat's loop; return whether one did."""
        return bool(await self._first_reply("cell", view=self.model_id, code=code))

    async def cells(self) -> list[dict[str, Any]] | None:
        """Ask the pages for the cells of the notebook, on the chat's loop, in the form of a notebook file.

        Return None if none of them tells.
        """
        reply = await self._first_reply("read_cells")
        return reply if isinstance(reply, list) else None

    async def _first_reply(self, kind: str, **content: Any) -> Any:
        """Ask one page after the other, the last active one first; return the first reply that is true, else None."""
        for page in reversed(tuple(self._pages)):
            ticket = str(uuid4())
            self._page_replies[ticket] = asyncio.get_running_loop().create_future()
            try:
                self._send_message(kind, page=page, ticket=ticket, **content)
                async with asyncio.timeout(PAGE_REPLY_TIMEOUT_S):
                    if reply := await self._page_replies[ticket]:
                        return reply
            except TimeoutError:
                continue  # a closed page, or one that cannot reach the notebook
            finally:
                del self._page_replies[ticket]
        return None

    # -- from the chat to the page, all on the chat's loop ------------------------------------------------------------

    async def _load(self) -> None:
        """Read the thread; events meanwhile are handled afterwards, even if reading fails."""
        async with self._loading:
            self._early_events = self._early_events or []
            piano, thread = self._piano, self._thread
            try:
                messages = await piano.messages(thread, self._limit + 1)
                self._has_earlier = len(messages) > self._limit
                self._view.load(
                    await piano.agents(),
                    messages[-self._limit :],
                    await piano.tool_calls(thread),
                    await piano.jobs(thread=thread),
                    [request for request in await piano.approvals() if request.thread_id == thread.id],
                    {job.id: f"waits: {why}" for job, why in await piano.unfinished() if why},
                )
            finally:
                events, self._early_events = self._early_events, None
                for event in events:
                    self._on_event(event)

    def _on_event(self, event: Event) -> None:
        if self._early_events is not None:
            self._early_events.append(event)
            return
        if isinstance(event, ThreadDeleted):
            self._remove()
            return
        if isinstance(event, ThreadBranched | EventsMissed) or (
            isinstance(event, MessageAdded) and not self._view.continues_with(event)
        ):
            # the thread continues on another branch, or not all is known that was said in it
            self._start(self._reload())
            return
        self._view.apply(event)
        if not self._flushing:
            self._flushing = True
            loop = asyncio.get_running_loop()
            loop.call_later(max(0.0, self._last_flush + FLUSH_INTERVAL_S - loop.time()), self._flush)
        if self._transcript_output is not None and self._pages and isinstance(event, JobEnded):
            self._start(self._update_transcript())

    def _remove(self) -> None:
        """Close the panel of a deleted thread, with the transcript below it."""
        if self._transcript_output is not None:
            self._show_transcript({"text/plain": DELETED})
        self._note = DELETED
        self.close()

    def _flush(self) -> None:
        self._flushing = False
        self._last_flush = asyncio.get_running_loop().time()
        if self._pages and (changes := self._view.changes()):
            self._sequence += 1
            self._send_changes("changes", changes)

    def _send_everything(self, page: str | None) -> None:
        """Send everything, to one page or to all."""
        self._flush()
        self._send_changes("all", self._view.everything(), page=page, earlier=self._has_earlier)

    def _send_changes(self, kind: str, changes: list[Change], **content: Any) -> None:
        self._send_message(kind, sequence=self._sequence, busy=self._view.busy, changes=changes, **content)

    def _send_message(self, kind: str, **content: Any) -> None:
        if self.comm is not None:
            self.send({"kind": kind, **content})

    async def _transcript(self) -> dict[str, str]:
        piano, thread = self._piano, self._thread
        messages = await piano.messages(thread, piano.config.panel_messages)
        names = {agent.id: agent.name for agent in await piano.agents()}
        ids = {message.id for message in messages}
        calls = [call for call in await piano.tool_calls(thread) if call.message_id in ids]
        messages = await piano.with_content(messages, MAX_SHOWN_BYTES // 2)
        transcript = Transcript(thread.title, messages, await piano.with_content(calls, MAX_SHOWN_BYTES // 2), names)
        return {
            "text/html": f'<div class="piano-transcript">{NO_DEAD_VIEW}{transcript._repr_html_()}</div>',
            "text/plain": repr(transcript),
        }

    async def _reload(self) -> None:
        """Read the thread again and send everything to all pages."""
        await self._load()
        self._send_everything(None)

    async def _update_transcript(self) -> None:
        self._show_transcript(await self._transcript())

    def _show_transcript(self, data: dict[str, str]) -> None:
        output = self._transcript_output
        output.update(data, raw=True, metadata={DISPLAY_ID: output.display_id})

    # -- from the page to the chat ------------------------------------------------------------------------------------

    def receive(self, _: object, content: dict[str, Any], _buffers: object) -> None:
        """Start an action of the page; called on any thread."""
        work = self._handle(content)
        try:
            self._start(work)
        except RuntimeError:  # the loop is closed
            work.close()
            ref = {"page": content.get("page"), "action": content.get("action")}
            self._send_message("done", **ref, error="the chat of this panel was closed; run %piano panel again")

    def _start(self, work: Any) -> None:
        future = self._loop.submit(work)
        self._running.add(future)
        future.add_done_callback(self._finish)

    def _finish(self, future: "concurrent.futures.Future[None]") -> None:
        self._running.discard(future)
        if not future.cancelled() and (error := future.exception()):
            log.warning("the panel could not update its transcript: %s", error)

    async def _handle(self, content: dict[str, Any]) -> None:
        page, action = str(content.get("page")), int(content.get("action", 0))
        if page not in self._pages and self._transcript_output is not None:
            self._start(self._update_transcript())  # a page that was loaded again has the one that was saved
        self._pages.pop(page, None)
        self._pages[page] = None
        self._send_message("received", page=page, action=action)
        if (page, action) in self._action_errors:  # the page repeats an action that took long
            error = self._action_errors[page, action]
        else:
            self._action_errors[page, action] = None
            if len(self._action_errors) > MAX_REMEMBERED_ACTIONS:
                del self._action_errors[next(iter(self._action_errors))]
            try:
                await self._run_action(content)
                error = ""
            except PianoError as problem:
                error = str(problem)
            except Exception as problem:
                log.exception("the panel could not %s", content.get("do"))
                error = f"an error inside Piano: {type(problem).__name__}: {problem}"
            self._action_errors[page, action] = error
        if error is not None:
            self._send_message("done", page=page, action=action, error=error)

    async def _filled(self, text: str) -> str | FilledText:
        return text if self._fill_in is None else await self._fill_in(self._piano, text, self._thread)

    async def _run_action(self, content: dict[str, Any]) -> None:  # noqa: C901, PLR0912  One case an action.
        piano, about = self._piano, str(content.get("about", ""))
        match content.get("do"):
            case "hello":
                self._send_everything(str(content["page"]))
            case "bye":
                self._pages.pop(str(content["page"]), None)
            case "reply":
                if (asked := self._page_replies.get(about)) is not None and not asked.done():
                    asked.set_result(json_or_none(str(content.get("message"))))
            case "earlier":
                self._limit += piano.config.panel_messages
                await self._reload()
            case "attachment":
                html = "".join(map(attachment_html, await piano.attachments([about])))
                self._send_message("attachment", page=str(content["page"]), hash=about, html=html)
            case "send":
                await piano.send_all(await self._filled(about), thread=self._thread, source="panel")
            case "edit":
                await piano.edit(_parse_id(content.get("message")), await self._filled(about), source="panel")
                piano.thread = self._thread  # as `send_all` does: the thread of the last question is current
            case "regenerate":
                await piano.regenerate(_parse_id(self._view.answer_in(about) or about))
                piano.thread = self._thread
            case "stop":
                running = await piano.jobs(JobStatus.RUNNING, thread=self._thread)
                for job in running or await piano.jobs(JobStatus.QUEUED, thread=self._thread):
                    await piano.cancel(job)
            case "approve" | "always" | "deny" as verb:
                request, always = _parse_id(about), verb == "always"
                if not await (piano.deny(request) if verb == "deny" else piano.approve(request, always=always)):
                    raise PianoError(f"this call {ALREADY_ANSWERED}")
            case "cancel" | "retry" as verb:
                await getattr(piano, verb)(_parse_id(about))
            case unknown:
                raise PianoError(f"the panel sent the unknown action {unknown!r}; reload the page")


def _parse_id(text: object) -> UUID:
    try:
        return UUID(str(text))
    except ValueError:
        raise PianoError(f"the panel sent {text!r}, which is not an id; reload the page") from None


def _reply_on_chosen_subshell(comm: Any) -> None:
    """Handle the messages of the page on the subshell that the page chose, so that a click works while a cell runs.

    ipykernel 7.4 uses the subshell from which the comm last published: for a panel, the one that runs the cells.
    """
    if hasattr(comm, "_reply_subshell_for"):
        comm._reply_subshell_for = lambda _data, chosen: chosen  # noqa: SLF001  There is no public way.
