"""A cell that waits for its answer: shows it as it comes, asks for approvals, and cancels the job when interrupted.

Everything is shown from the main thread, which waits on a plain queue; output from the loop's thread would land in
whichever cell ran last. The live output ends empty and one final output stands below it: that is what nbval compares.
"""

import asyncio
import concurrent.futures
import contextlib
import queue
import sys
import time
from collections.abc import Callable, Coroutine, Iterator
from functools import partial
from html import escape
from typing import TYPE_CHECKING, Any

from IPython.core.error import StdinNotImplementedError
from IPython.display import display

from piano_jupyter.errors import PianoError
from piano_jupyter.events import (
    ApprovalRequested,
    Closed,
    Event,
    JobCancelled,
    JobDone,
    JobFailed,
    MessageDelta,
    ModelLoading,
    ToolCalled,
    ToolReturned,
)
from piano_jupyter.jupyter.display import QUIET, answer_bundle, arguments_text, call_line
from piano_jupyter.records import Job, JobStatus, Message, ToolCall

if TYPE_CHECKING:
    from piano_jupyter.jupyter.extension import Session
    from piano_jupyter.piano import Piano

Started = tuple[Job, dict[Any, str], Message | None]  # a job, the agents' names, the answer if it is there already

FRAME = 0.05  # seconds between two updates of the cell, at least
SHARE = 20  # an update may take one part in so many of the time: a long answer is drawn less often
AFTER_INTERRUPT = 5.0  # seconds for a cancelled job to end


class LiveCell:
    """Shows an answer while it is written: in a notebook's output, or straight on a terminal."""

    def __init__(self, *, in_notebook: bool) -> None:
        self._handle = display({}, raw=True, display_id=True) if in_notebook else None
        self._written: list[str] = []
        self._calls: list[str] = []
        self._status = ""
        self._fraction: float | None = None
        self._changed = False
        self._next = 0.0  # when the output may be drawn again

    def add(self, text: str) -> None:
        """Show more of the answer."""
        self._written.append(text)
        self._status, self._changed = "", True
        if self._handle is None:
            sys.stdout.write(text)
            sys.stdout.flush()

    def note(self, status: str, fraction: float | None = None) -> None:
        """Show what is going on, with a bar if it is known how far it is; the next text takes its place."""
        self._status, self._fraction, self._changed = status, fraction, True

    def tool(self, line: str) -> None:
        """Show a tool call; the text before it belongs to that call's message."""
        self._calls += [*(["".join(self._written)] if self._written else []), line]
        self._written.clear()
        self._changed = True
        if self._handle is None:
            sys.stdout.write(f"{line}\n")

    def rest(self) -> None:
        """Return when the output may be drawn again."""
        time.sleep(max(0.0, self._next - time.monotonic()))

    def draw(self) -> None:
        """Bring the notebook's output up to date."""
        if self._handle is None or not self._changed:
            return
        begun = time.monotonic()
        text = "\n".join([*self._calls, "".join(self._written)]).strip()
        bar = f" <progress value={self._fraction:.2f}></progress>" if self._fraction is not None else ""
        status = f"<div {QUIET}>{escape(self._status)}{bar}</div>" if self._status else ""
        html = f'<div style="white-space:pre-wrap">{escape(text)}</div>{status}'
        self._handle.update({"text/html": html, "text/plain": text or self._status}, raw=True)
        ended = time.monotonic()
        self._changed, self._next = False, ended + max(FRAME, SHARE * (ended - begun))

    def end(self) -> None:
        """Empty the live output: what is final is shown by itself."""
        if self._handle is not None:
            self._handle.update({}, raw=True)
        elif self._written:
            sys.stdout.write("\n")


def answer_in_cell(session: "Session", text: str, *, agent: str | None, thread: str | None) -> Message:
    """Ask, show the answer in this cell and return it. Raises PianoError with the reason where there is none."""

    async def begin(piano: "Piano") -> Job:
        return await piano.send(text, agent=agent, thread=thread, source="magic")

    return follow_in_cell(session, begin)


def follow_in_cell(
    session: "Session", begin: "Callable[[Piano], Coroutine[Any, Any, Job]]", *, cancels: bool = True
) -> Message:
    """Show what becomes of the job that `begin` returns, in this cell, and return its answer. Raises PianoError.

    An interrupt, at whatever moment, ends the wait and, if it `cancels`, the job.
    """
    happened: queue.SimpleQueue[Event] = queue.SimpleQueue()
    undo: list[Callable[[], None]] = []

    async def start(piano: "Piano") -> Started:
        undo.append(piano.bus.subscribe(happened.put))
        for request in await piano.approvals():
            happened.put(request)
        job = await begin(piano)
        over = job.status not in {JobStatus.QUEUED, JobStatus.RUNNING}
        names = {each.id: each.name for each in await piano.agents()}
        return job, names, await piano.wait(job) if over else None

    starting = session.start(start)
    live = LiveCell(in_notebook=session.in_notebook)
    calls: list[ToolCall] = []
    try:
        job, names, answered = starting.result()
        message = answered or _follow(session, job, happened, live, calls)
    except KeyboardInterrupt:
        goes_on = "interrupted; the job goes on (%piano queue shows it, %piano cancel ends it)"
        raise PianoError(_cancelled(session, starting) if cancels else goes_on) from None
    finally:
        for unsubscribe in undo:
            session.loop.loop.call_soon_threadsafe(unsubscribe)
        live.end()
    if session.in_notebook:
        display(answer_bundle(message, names[job.agent_id], calls), raw=True)
    return message


def _cancelled(session: "Session", starting: "concurrent.futures.Future[Started]") -> str:
    """Cancel the job, if need be as soon as it is sent; return what to say."""

    async def cancel(piano: "Piano") -> None:
        job, _, _ = await asyncio.wrap_future(starting)
        await piano.cancel(job)

    cancelling = session.start(cancel)
    try:
        cancelling.result(AFTER_INTERRUPT)
    except PianoError as error:
        return f"interrupted: {error}"
    except (KeyboardInterrupt, TimeoutError, concurrent.futures.TimeoutError):
        return "interrupted; the job is being cancelled (%piano queue shows it)"
    return "interrupted; the job was cancelled, what was said before is kept"


def _follow(
    session: "Session", job: Job, happened: "queue.SimpleQueue[Event]", live: LiveCell, calls: list[ToolCall]
) -> Message:
    """Show each event of the job until it ends; return its answer."""
    for event in _in_frames(happened, live):
        match event:
            case MessageDelta(job_id=job_id, text=text) if job_id == job.id:
                live.add(text)
            case ModelLoading(note=note, fraction=fraction, job_id=job_id) if job_id in {None, job.id}:
                live.note(note, fraction if fraction is not None and fraction < 1 else None)
            case ToolCalled(job_id=job_id, call=call) if job_id == job.id:
                live.note(f"running {call.name}")
            case ToolReturned(job_id=job_id, call=call) if job_id == job.id:
                calls.append(call)
                live.tool(call_line(call))
            case ApprovalRequested():  # of another job too: it stands in the way of this one, and nobody else asks
                live.draw()
                session.call(partial(_decide, event.call, allowed=_asked(event)))
            case Closed():
                raise PianoError("the chat was closed before the answer came; the next one goes on with it")
            case JobDone(job=ended, message=message) if ended.id == job.id:
                return message
            case JobFailed(job=ended) if ended.id == job.id:
                raise event.error or PianoError(event.reason)
            case JobCancelled(job=ended) if ended.id == job.id:
                raise PianoError("the job was cancelled")
    raise AssertionError("frames never end")  # pragma: no cover


def _in_frames(happened: "queue.SimpleQueue[Event]", live: LiveCell) -> Iterator[Event]:
    """Yield events, and draw between them: what came in one frame is drawn once."""
    while True:
        yield happened.get()
        live.rest()
        with contextlib.suppress(queue.Empty):
            while True:
                yield happened.get_nowait()
        live.draw()


async def _decide(call: ToolCall, piano: "Piano", *, allowed: bool) -> None:
    await (piano.approve(call) if allowed else piano.deny(call))


def _asked(request: ApprovalRequested) -> bool:
    """Ask at the prompt whether a call may run; only a plain yes is one, and a front end without input says no."""
    shown = arguments_text(request.call)
    try:
        answer = input(f"{request.question}:\n  {request.call.name}({shown})\nAllow it? [y/N] ")
    except (StdinNotImplementedError, EOFError):
        return False
    return answer.strip().lower() in {"y", "yes"}
