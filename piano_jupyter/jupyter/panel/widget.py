"""ChatPanel: events -> view, clicks -> Piano.

The panel keeps little of its own. Events update a `ThreadView`, and its changes go to the page at most every 50 ms, in
numbered messages; a page that missed one, or that was just opened, asks for everything. Clicks arrive on any thread and
are passed to the chat's loop; each is acknowledged, then answered.
"""

import asyncio
import concurrent.futures
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import anywidget
from IPython.display import display
from traitlets import Unicode

from piano_jupyter.errors import NotFoundError, PianoError
from piano_jupyter.events import (
    BranchChosen,
    Event,
    EventsMissed,
    JobDone,
    JobEnded,
    MessageAdded,
    ThreadBranched,
    ThreadChanged,
    ThreadDeleted,
)
from piano_jupyter.jupyter.loop import LoopThread
from piano_jupyter.jupyter.panel.actions import ACTIONS
from piano_jupyter.jupyter.panel.actions.page_request import PageRequest, parse_id
from piano_jupyter.jupyter.panel.news import News
from piano_jupyter.jupyter.panel.open_pages import OpenPages
from piano_jupyter.jupyter.panel.page_questions import PageQuestions
from piano_jupyter.jupyter.panel.page_source import joined_modules, joined_styles
from piano_jupyter.jupyter.panel.parts import Change
from piano_jupyter.jupyter.panel.saved_transcript import SavedTranscript
from piano_jupyter.jupyter.panel.uploads import Uploads
from piano_jupyter.jupyter.panel.view import ThreadView
from piano_jupyter.jupyter.render.tables import Note
from piano_jupyter.jupyter.render.transcript import Transcript
from piano_jupyter.logs import logger
from piano_jupyter.piano import Piano
from piano_jupyter.records import Thread
from piano_jupyter.variables.fill_in import FilledText

log = logger(__name__)

FillIn = Callable[[Piano, str, Thread], Awaitable[FilledText]]  # returns a question with its variables

Offer = Callable[[], Awaitable[list[dict[str, str]]]]

FLUSH_INTERVAL_S = 0.05  # the least time between two messages to the page
MAX_REMEMBERED_ACTIONS = 300
MESSAGES_AT_ONCE = 100  # with more, the transcript is shown after the live view, or after this time without a page
GREETING_TIMEOUT_S = 1.0
ENTRIES_AT_ONCE = 40  # in a message to a page that gets everything, the last ones first
KERNEL = uuid4().hex  #: by which a page sees that the kernel has started again
CLOSED = "this chat panel is closed; %piano panel opens a new one, with the whole conversation"
DELETED = "this thread was deleted"  # shown in its place


class ChatPanel(anywidget.AnyWidget):
    """The chat of one thread at a time, as a widget."""

    _esm = joined_modules()
    _css = joined_styles()
    title = Unicode().tag(sync=True)
    widget_id = Unicode().tag(sync=True)  #: by which a page finds the cell that shows it

    def __init__(
        self,
        piano: Piano,
        loop: LoopThread,
        thread: Thread,
        fill_in: FillIn | None = None,
        *,
        questions: Callable[[], list[str]] = list,
        offer: Offer | None = None,
        running_cell: Callable[[], str] = lambda: "",
        is_chosen: bool = True,
    ) -> None:
        """`offer` returns what of the notebook a question can name; `running_cell` the id of the cell that runs.

        A thread that is not chosen gives way to the one that the page showed at this place in an earlier kernel.
        """
        self.piano, self._loop, self._fill_in, self._offer = piano, loop, fill_in, offer
        self.questions = questions  #: returns what an empty panel offers to ask
        self.running_cell = running_cell
        self.uploads = Uploads()
        self.thread = thread  #: the one shown
        self._may_come_back = not is_chosen
        self.view = ThreadView()
        self._early_events: list[Event] | None = []  # events during the reading of the store; None at other times
        self._limit = piano.config.panel_messages
        self._has_earlier = False
        self._sequence = 0
        self._filling = 0  # how often everything was sent
        self._emptied = 0  # the number of the last one that no longer counts
        self._pages = OpenPages()
        self.page_questions = PageQuestions(self._send_message)
        self._done: dict[tuple[str, int], dict[str, Any] | None] = {}  # results by action; None while one runs
        self._loading = asyncio.Lock()
        self._running: set[concurrent.futures.Future[None]] = set()
        self._last_flush, self._flushing = 0.0, False
        self._live_outputs: list[tuple[str, Any]] = []  # the outputs that show the live view: their cells and handles
        self._is_left = False  # all cells that showed it have run again
        self._note = CLOSED  # takes its place when it is closed
        self._greeted = threading.Event()  # a page has got the last messages
        self._transcript = SavedTranscript(piano, lambda: self.thread)
        super().__init__(title=thread.title)
        self.widget_id = self.model_id
        _reply_on_chosen_subshell(self.comm)
        self.on_msg(self.receive)
        self.picked: dict[UUID, tuple[UUID, ...]] = {}  #: by thread, the agents that answer there if several do
        self._unsubscribe = piano.bus.subscribe(self._on_event, thread=thread.id)
        self._news = News(piano.bus, piano.config, loop.loop, self._send_news)
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
        if len(transcript.messages) > MESSAGES_AT_ONCE:  # a page that shows the panel first shows it sooner
            self._greeted.wait(GREETING_TIMEOUT_S)
        self._transcript.show(transcript)

    def show_live_view(self) -> None:
        """Show the live view alone, which a notebook does not keep."""
        data, metadata = self.live_bundle()
        live = display(data, metadata=metadata, raw=True, display_id=True)
        self._live_outputs.append((self.running_cell(), live))

    def live_bundle(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return the data and metadata of the live view, without a text that would stay in its place."""
        data, metadata = self._repr_mimebundle_() or ({}, {})
        data.pop("text/plain", None)
        return data, metadata

    def _transcript_or_none(self) -> Transcript | None:
        """Return the transcript; None once the chat is closed."""
        reading = self._transcript.read()
        try:
            return self._loop.run(reading)
        except (PianoError, RuntimeError):
            reading.close()
            return None

    def close(self) -> None:
        """Close the panel: a sentence takes its place in the cells that show it. The conversation stays."""
        if hasattr(self, "_unsubscribe"):
            self._unsubscribe()
            self._unsubscribe = _do_nothing  # a widget is closed again when it is collected
            self._news.close()
        if self.comm is not None and not sys.is_finalizing():
            for _, live in self._live_outputs:
                if live is not None:
                    live.update(Note(self._note))
            self._live_outputs.clear()
        super().close()

    def leave_cell(self, cell: str) -> None:
        """Take in that a cell runs again: what it showed is gone."""
        before, self._live_outputs = self._live_outputs, [each for each in self._live_outputs if each[0] != cell]
        self._is_left = bool(before) and not self._live_outputs

    def close_if_left(self) -> None:
        """Close a panel that was shown, and whose cells have all run again without showing it."""
        if self._is_left and not self._live_outputs:
            self.close()

    @property
    def is_open(self) -> bool:
        """Whether it was not closed."""
        return self.comm is not None

    @property
    def thread_id(self) -> UUID:
        """The id of the thread shown."""
        return self.thread.id

    async def add_cell(self, code: str) -> bool:
        """Ask the pages to add a cell with code below the panel, on the chat's loop; return whether one did."""
        return bool(await self.page_questions.first_reply(reversed(self._pages), "cell", code=code))

    def expect_cell(self, code: str, replaces: str = "") -> None:
        """Have the pages mark the cell with this code as proposed that the front end adds when the running one ends.

        `replaces` is the source of the cell that it would take the place of.
        """
        self._start(self._send_soon("expect_cell", code=code, replaces=replaces))

    async def _send_soon(self, kind: str, **content: Any) -> None:
        self._send_message(kind, **content)

    async def cells(self) -> list[dict[str, Any]] | None:
        """Ask the pages for the cells of the notebook, on the chat's loop, in the form of a notebook file.

        Return None if none of them tells.
        """
        reply = await self.page_questions.first_reply(reversed(self._pages), "read_cells")
        return reply if isinstance(reply, list) else None

    # -- from the chat to the page, all on the chat's loop ------------------------------------------------------------

    async def _load(self) -> None:
        """Read the thread; events meanwhile are handled afterwards, even if reading fails."""
        async with self._loading:
            self._early_events = self._early_events or []
            piano, thread = self.piano, self.thread
            try:
                messages = await piano.messages(thread, self._limit + 1)
                self._has_earlier = len(messages) > self._limit
                self.view.load(
                    await piano.agents(deleted=True),
                    messages[-self._limit :],
                    await piano.tool_calls(thread),
                    await piano.jobs(thread=thread),
                    [request for request in await piano.approvals() if request.thread_id == thread.id],
                    {job.id: f"waits: {why}" for job, why in await piano.unfinished() if why},
                    await piano.branches(thread),
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
        if isinstance(event, ThreadChanged):
            self.thread, self.title = event.thread, event.thread.title
        if isinstance(event, ThreadBranched | BranchChosen | EventsMissed) or (
            isinstance(event, MessageAdded) and not self.view.continues_with(event)
        ):
            # the thread continues on another branch, or not all is known that was said in it
            self._start(self._reload())
            return
        self.view.apply(event)
        self._flush_soon()
        if isinstance(event, JobDone) and self._pages:
            self._start(self._show_branches())
        if self._transcript.is_shown and self._pages and isinstance(event, JobEnded):
            self._start(self._transcript.update())

    async def _show_branches(self) -> None:
        """Show the versions of what was answered again."""
        thread = self.thread
        alternatives = await self.piano.branches(thread)
        if thread.id == self.thread.id:
            self.view.set_alternatives(alternatives)
            self._flush_soon()

    def _remove(self) -> None:
        """Close the panel of a deleted thread, with the transcript below it."""
        if self._transcript.is_shown:
            self._transcript.replace({"text/plain": DELETED})
        self._note = DELETED
        self.close()

    def _flush_soon(self) -> None:
        if not self._flushing:
            self._flushing = True
            loop = asyncio.get_running_loop()
            loop.call_later(max(0.0, self._last_flush + FLUSH_INTERVAL_S - loop.time()), self._flush)

    def _flush(self) -> None:
        self._flushing = False
        self._last_flush = now = asyncio.get_running_loop().time()
        self._pages.drop_silent(now)
        if self._pages.are_to_be_asked(now):
            self._send_message("ping")
        if self._pages and (changes := self.view.changes()):
            self._sequence += 1
            self._send_changes("changes", changes)

    def _send_changes(self, kind: str, changes: list[Change], **content: Any) -> None:
        now = datetime.now(UTC).timestamp()
        self._send_message(kind, sequence=self._sequence, busy=self.view.busy, changes=changes, now=now, **content)

    def _send_news(self, topics: list[str], loading: dict[str, Any] | None) -> None:
        if self._pages:
            self._send_message("news", topics=topics, loading=loading)

    def _send_message(self, kind: str, **content: Any) -> None:
        if self.comm is not None:
            self.send({"kind": kind, **content})

    async def _reload(self) -> None:
        """Read the thread again and send everything to all pages."""
        await self._load()
        self._emptied = self._filling
        self.send_everything(None)

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
        is_back = self._pages.hear(page, asyncio.get_running_loop().time())
        self._send_message("received", page=page, action=action)
        if is_back:
            self._flush()  # what it has missed since it was taken for closed
            if self._transcript.is_shown and self._filling:
                self._start(self._transcript.update())  # a page that was loaded again has the one that was saved
        if (page, action) not in self._done:  # else the page repeats an action that took long
            self._done[page, action] = None
            if len(self._done) > MAX_REMEMBERED_ACTIONS:
                del self._done[next(iter(self._done))]
            self._done[page, action] = await self._result(PageRequest(page, str(content.get("do")), content))
        if (done := self._done.get((page, action))) is not None:
            self._send_message("done", page=page, action=action, **done)

    async def _result(self, request: PageRequest) -> dict[str, Any]:
        """Do what a page asks for; return its reply, or a sentence that says why not."""
        try:
            if request.action not in ACTIONS:
                raise PianoError(f"the panel sent the unknown action {request.action!r}; reload the page")  # noqa: TRY301  It is shown like the others.
            return {"error": "", "reply": await ACTIONS[request.action](self, request)}
        except PianoError as problem:
            return {"error": str(problem)}
        except Exception as problem:
            log.exception("the panel could not %s", request.action)
            return {"error": f"an error inside Piano: {type(problem).__name__}: {problem}"}

    # -- for the actions, all on the chat's loop -----------------------------------------------------------------------

    def send_everything(self, page: str | None) -> None:
        """Send everything, to one page or to all: the last entries at once, older ones bit by bit."""
        if page is None:
            self.view.changes()  # are in it; sent before it, they would stand among the entries of another branch
        else:
            self._flush()
        slices = self.view.slices(ENTRIES_AT_ONCE)
        latest, self._filling = next(slices, []), self._filling + 1
        about = {"page": page, "thread": str(self.thread.id), "kernel": KERNEL}
        self._send_changes("all", latest, earlier=self._has_earlier, filling=self._filling, **about)
        self._greeted.set()
        self._start(self._send_older(page, slices, self._filling))

    async def _send_older(self, page: str | None, slices: Iterator[list[Change]], filling: int) -> None:
        """Send what is before the last entries; other work goes before it."""
        for changes in slices:
            await asyncio.sleep(0)
            if filling <= self._emptied:
                return  # another thread or branch is shown by now
            self._send_message("older", page=page, filling=filling, changes=changes)
        self._send_message("complete", page=page, filling=filling)

    async def come_back_to(self, thread: str, kernel: str) -> bool:
        """Show the thread that a page showed in an earlier kernel, unless one was chosen; return whether it did."""
        may, self._may_come_back = self._may_come_back, False
        if not may or not thread or kernel == KERNEL:
            return False
        try:
            before = await self.piano.find_thread(parse_id(thread))
        except NotFoundError:  # it was deleted
            return False
        if before.status != "active" or before.id == self.thread.id:
            return False
        await self.show_thread(before)
        return True

    def forget_page(self, page: str) -> None:
        """Take in that a page was closed."""
        self._pages.forget(page)

    async def show_earlier(self) -> None:
        """Show more of the messages before the first one shown."""
        self._limit += self.piano.config.panel_messages
        await self._reload()

    async def find_earlier(self, text: str) -> bool:
        """Show the messages from the last one that has a text, before the first one shown; return whether one has."""
        messages = await self.piano.messages(self.thread)
        wanted, found = text.casefold(), range(len(messages) - self._limit - 1, -1, -1)
        at = next((i for i in found if wanted in (messages[i].typed or messages[i].content).casefold()), None)
        if at is None or not wanted:
            return False
        self._limit = len(messages) - at
        await self._reload()
        return True

    async def show_thread(self, thread: Thread) -> None:
        """Show another thread, which becomes the current one."""
        self.piano.thread = thread
        if thread.id == self.thread.id:
            return
        self._unsubscribe()
        self.thread, self.title = thread, thread.title
        self.view, self._limit = ThreadView(), self.piano.config.panel_messages
        self._emptied = self._filling
        self._unsubscribe = self.piano.bus.subscribe(self._on_event, thread=thread.id)
        self._news.add("agents")  # another one may answer here
        await self._reload()
        if self._transcript.is_shown:
            await self._transcript.update()

    def tell(self, *topics: str) -> None:
        """Tell the pages that something has changed beside the conversation."""
        self._news.add(*topics)

    async def filled(self, text: str) -> str | FilledText:
        """Return a question with the values of the variables that it names. Raises PianoError."""
        return text if self._fill_in is None else await self._fill_in(self.piano, text, self.thread)

    async def offered(self) -> list[dict[str, str]]:
        """Return what of the notebook a question can name. Raises PianoError."""
        return [] if self._offer is None else await self._offer()


def _do_nothing() -> None:
    """Do nothing."""


def _reply_on_chosen_subshell(comm: Any) -> None:
    """Handle the messages of the page on the subshell that the page chose, so that a click works while a cell runs.

    ipykernel 7.4 uses the subshell from which the comm last published: for a panel, the one that runs the cells.
    """
    if hasattr(comm, "_reply_subshell_for"):
        comm._reply_subshell_for = lambda _data, chosen: chosen  # noqa: SLF001  There is no public way.
