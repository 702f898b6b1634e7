"""ChatPanel: events -> view, clicks -> Piano.

The panel holds no truth. Events go into a `ThreadView`, and what has changed there goes to the page at most every
50 ms, in numbered messages; a page that missed one, or that was just opened, asks for everything. Clicks arrive on any
thread and only hop onto the chat's loop; each is acknowledged, then answered.
"""

import asyncio
import concurrent.futures
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import anywidget
from IPython.display import display
from traitlets import Unicode

from piano_jupyter.approval_prompt import TOO_LATE
from piano_jupyter.errors import PianoError
from piano_jupyter.events import Event, JobEnded, MessageAdded, ThreadBranched, ThreadDeleted
from piano_jupyter.jupyter.loop import LoopThread
from piano_jupyter.jupyter.panel.view import Change, ThreadView
from piano_jupyter.jupyter.render.transcript import Transcript
from piano_jupyter.logs import logger
from piano_jupyter.piano import Piano
from piano_jupyter.records import JobStatus, Thread

log = logger(__name__)

PAUSE = 0.05  # seconds between two messages to the page
PATIENCE = 3.0  # seconds for a page to add a cell
REMEMBERED = 300  # actions
DELETED = "this thread was deleted"  # what is shown in its place


class ChatPanel(anywidget.AnyWidget):
    """The chat of one thread, as a widget."""

    _esm = Path(__file__).with_name("panel.js")
    _css = Path(__file__).with_name("panel.css")
    title = Unicode().tag(sync=True)

    def __init__(self, piano: Piano, loop: LoopThread, thread: Thread) -> None:
        self._piano, self._loop, self._thread = piano, loop, thread
        self._shown = ThreadView()
        self._heard_early: list[Event] | None = []  # events that came while the store was read; None: it is
        self._limit = piano.config.panel_messages
        self._has_earlier = False
        self._sequence = 0
        self._pages: dict[str, None] = {}  # views that have said hello, in the order in which they were last heard of
        self._added: dict[str, asyncio.Future[bool]] = {}  # cells that a page is asked to add, and whether it could
        self._answered: dict[tuple[str, int], str | None] = {}  # what came of the last actions; None: nothing yet
        self._loading = asyncio.Lock()
        self._acting: set[concurrent.futures.Future[None]] = set()
        self._last_flush, self._flushing = 0.0, False
        self._static: Any = None  # the handle of the transcript beside the live view
        super().__init__(title=thread.title)
        _answer_where_asked(self.comm)
        self.on_msg(self.take)
        self._unsubscribe = piano.bus.subscribe(self._hear, thread=thread.id)
        try:
            loop.run(self._load())
        except BaseException:
            self.close()
            raise

    def __repr__(self) -> str:
        return f"ChatPanel({self.title!r})"

    def _ipython_display_(self) -> None:
        """Show the live view, and beside it a transcript, which is what a notebook keeps that is saved."""
        data, metadata = self._repr_mimebundle_() or ({}, {})
        display(data, metadata=metadata, raw=True)
        self._static = display(self._loop.run(self._transcript()), raw=True, display_id=True)

    def close(self) -> None:
        """Take the panel away; the conversation stays."""
        if hasattr(self, "_unsubscribe"):
            self._unsubscribe()
        super().close()

    @property
    def thread_id(self) -> UUID:
        """The thread that it shows."""
        return self._thread.id

    async def add_cell(self, code: str) -> bool:
        """Have a page put code into a new cell below the panel, on the chat's loop; return whether one could."""
        for page in reversed(tuple(self._pages)):
            ticket = str(uuid4())
            self._added[ticket] = asyncio.get_running_loop().create_future()
            try:
                self._tell("cell", page=page, ticket=ticket, view=self.model_id, code=code)
                async with asyncio.timeout(PATIENCE):
                    if await self._added[ticket]:
                        return True
            except TimeoutError:
                continue  # a page that was closed, or one that does not know how
            finally:
                del self._added[ticket]
        return False

    # -- from the chat to the page, all on the chat's loop ------------------------------------------------------------

    async def _load(self) -> None:
        """Read the thread; what happens meanwhile is heard afterwards, even if it cannot be read."""
        async with self._loading:
            self._heard_early = self._heard_early or []
            piano, thread = self._piano, self._thread
            try:
                messages = await piano.messages(thread, self._limit + 1)
                self._has_earlier = len(messages) > self._limit
                self._shown.load(
                    await piano.agents(),
                    messages[-self._limit :],
                    await piano.tool_calls(thread),
                    await piano.jobs(thread=thread),
                    [request for request in await piano.approvals() if request.thread_id == thread.id],
                    {job.id: f"waits: {why}" for job, why in await piano.unfinished() if why},
                )
            finally:
                heard, self._heard_early = self._heard_early, None
                for event in heard:
                    self._hear(event)

    def _hear(self, event: Event) -> None:
        if self._heard_early is not None:
            self._heard_early.append(event)
            return
        if isinstance(event, ThreadDeleted):
            self._forget()
            return
        if isinstance(event, ThreadBranched) or (isinstance(event, MessageAdded) and not self._shown.leads_to(event)):
            # another branch is read from now on
            self._start(self._show_anew())
            return
        self._shown.apply(event)
        if not self._flushing:
            self._flushing = True
            loop = asyncio.get_running_loop()
            loop.call_later(max(0.0, self._last_flush + PAUSE - loop.time()), self._flush)
        if self._static is not None and self._pages and isinstance(event, JobEnded):
            self._start(self._renew_transcript())

    def _forget(self) -> None:
        """Take the panel away, and what it has shown with it."""
        if self._static is not None:
            self._static.update({"text/plain": DELETED}, raw=True)
        self.close()

    def _flush(self) -> None:
        self._flushing = False
        self._last_flush = asyncio.get_running_loop().time()
        if self._pages and (changes := self._shown.changes()):
            self._sequence += 1
            self._tell_changes("changes", changes)

    def _tell_all(self, page: str | None) -> None:
        """Send everything, to one page or to all."""
        self._flush()
        self._tell_changes("all", self._shown.everything(), page=page, earlier=self._has_earlier)

    def _tell_changes(self, kind: str, changes: list[Change], **content: Any) -> None:
        self._tell(kind, sequence=self._sequence, busy=self._shown.busy, changes=changes, **content)

    def _tell(self, kind: str, **content: Any) -> None:
        if self.comm is not None:
            self.send({"kind": kind, **content})

    async def _transcript(self) -> dict[str, str]:
        piano, thread = self._piano, self._thread
        messages = await piano.messages(thread, piano.config.panel_messages)
        names = {agent.id: agent.name for agent in await piano.agents()}
        told = Transcript(thread.title, messages, await piano.tool_calls(thread), names)
        return {"text/html": f'<div class="piano-transcript">{told._repr_html_()}</div>', "text/plain": repr(told)}

    async def _show_anew(self) -> None:
        """Read the thread again, and send everything to every page."""
        await self._load()
        self._tell_all(None)

    async def _renew_transcript(self) -> None:
        self._static.update(await self._transcript(), raw=True)

    # -- from the page to the chat ------------------------------------------------------------------------------------

    def take(self, _: object, content: dict[str, Any], _buffers: object) -> None:
        """Take an action of the page, on whichever thread it arrives."""
        work = self._act(content)
        try:
            self._start(work)
        except RuntimeError:  # the loop is closed
            work.close()
            ref = {"page": content.get("page"), "action": content.get("action")}
            self._tell("done", **ref, error="the chat of this panel was closed; run %piano panel again")

    def _start(self, work: Any) -> None:
        future = self._loop.submit(work)
        self._acting.add(future)
        future.add_done_callback(self._ended)

    def _ended(self, future: "concurrent.futures.Future[None]") -> None:
        self._acting.discard(future)
        if not future.cancelled() and (error := future.exception()):
            log.warning("the transcript of the panel is not up to date: %s", error)

    async def _act(self, content: dict[str, Any]) -> None:
        page, action = str(content.get("page")), int(content.get("action", 0))
        self._pages.pop(page, None)
        self._pages[page] = None
        self._tell("heard", page=page, action=action)
        if (page, action) in self._answered:  # the page asked again, because it had waited for long
            error = self._answered[page, action]
        else:
            self._answered[page, action] = None
            if len(self._answered) > REMEMBERED:
                del self._answered[next(iter(self._answered))]
            try:
                await self._do(content)
                error = ""
            except PianoError as problem:
                error = str(problem)
            except Exception as problem:
                log.exception("the panel could not %s", content.get("do"))
                error = f"an error inside Piano: {type(problem).__name__}: {problem}"
            self._answered[page, action] = error
        if error is not None:
            self._tell("done", page=page, action=action, error=error)

    async def _do(self, content: dict[str, Any]) -> None:  # noqa: C901  One case an action.
        piano, about = self._piano, str(content.get("about", ""))
        match content.get("do"):
            case "hello":
                self._tell_all(str(content["page"]))
            case "bye":
                self._pages.pop(str(content["page"]), None)
            case "added" | "not_added" as outcome:
                if (asked := self._added.get(about)) is not None and not asked.done():
                    asked.set_result(outcome == "added")
            case "earlier":
                self._limit += piano.config.panel_messages
                await self._show_anew()
            case "send":
                await piano.send_all(about, thread=self._thread, source="panel")
            case "edit":
                await piano.edit(_id(content.get("message")), about, source="panel")
                piano.thread = self._thread  # as `send_all` does: one goes on where one asks
            case "regenerate":
                await piano.regenerate(_id(self._shown.answer_in(about) or about))
                piano.thread = self._thread
            case "stop":
                running = await piano.jobs(JobStatus.RUNNING, thread=self._thread)
                for job in running or await piano.jobs(JobStatus.QUEUED, thread=self._thread):
                    await piano.cancel(job)
            case "approve" | "always" | "deny" as verb:
                request, always = _id(about), verb == "always"
                if not await (piano.deny(request) if verb == "deny" else piano.approve(request, always=always)):
                    raise PianoError(f"this call {TOO_LATE}")
            case "cancel" | "retry" as verb:
                await getattr(piano, verb)(_id(about))
            case unknown:
                raise PianoError(f"the panel asks for {unknown!r}, which this kernel does not know: reload the page")


def _id(text: object) -> UUID:
    try:
        return UUID(str(text))
    except ValueError:
        raise PianoError(f"the panel asks about {text!r}, which is no id: reload the page") from None


def _answer_where_asked(comm: Any) -> None:
    """Let the page's messages be handled on the subshell that the page chose, so that a click works while a cell runs.

    ipykernel 7.4 handles them where the comm last published from: for a panel, where the cells run.
    """
    if hasattr(comm, "_reply_subshell_for"):
        comm._reply_subshell_for = lambda _data, chosen: chosen  # noqa: SLF001  There is no public way.
