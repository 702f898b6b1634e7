"""A cell that waits: shows answers as they come, asks for approvals, and cancels the jobs when it is interrupted.

Meanwhile it does what tools want to have done on the main thread.
Everything is shown from the main thread, which waits on a plain queue; output from the loop's thread would land in
whichever cell ran last. The live output ends empty and the final outputs stand below it, in the order in which the
agents were asked: that is what nbval compares.
"""

import asyncio
import concurrent.futures
import contextlib
import queue
from collections.abc import Callable, Coroutine, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from IPython.core.error import StdinNotImplementedError
from IPython.display import display

from piano_jupyter.approval_prompt import TOO_LATE, Answer, answer_of, choices, how_to_keep, put
from piano_jupyter.errors import PianoError
from piano_jupyter.events import ApprovalRequested, Closed, Event, ModelLoading
from piano_jupyter.jupyter.cell.live_cell import LiveAnswer, LiveCell, shown
from piano_jupyter.jupyter.kernel_thread import CellInterrupt, MainThreadTask
from piano_jupyter.jupyter.loop import LoopTask
from piano_jupyter.jupyter.render.transcript import AnswerGroup, answer_bundle, speaker
from piano_jupyter.progress import JobProgress, ProgressTracker, TextProgress
from piano_jupyter.records import Job, JobStatus, Message
from piano_jupyter.text.invisible import terminal_text, to_the_letter

if TYPE_CHECKING:
    from piano_jupyter.jupyter.session import Session
    from piano_jupyter.piano import Piano

T = TypeVar("T")
Happening = Event | MainThreadTask[Any]
Events = queue.SimpleQueue[Happening | None]

LIVE = frozenset({JobStatus.QUEUED, JobStatus.RUNNING})
AFTER_INTERRUPT = 5.0  # seconds for cancelled jobs to end
HOW_TO_ALLOW = "it is not run; %piano panel asks, and so does %piano approve for what %piano send has sent"


class AnswerFailedError(PianoError):
    """What was asked has no answer: it failed, or was interrupted."""


def follow_in_cell(
    session: "Session",
    begin: "Callable[[Piano], Coroutine[Any, Any, Sequence[Job]]]",
    *,
    cancels: bool = True,
    raw: bool = False,
) -> Message | AnswerGroup:
    """Show what becomes of the jobs that `begin` returns, in this cell; return the answer, or all if it is several.

    The jobs that the answers ask for are followed too. `raw` shows an answer as its plain text. Raises
    AnswerFailedError with the reason where there is no answer, after showing those that there are. An interrupt, at
    whatever moment, ends the wait and, if it `cancels`, the jobs.
    """
    session.kernel.check()
    happened: Events = queue.SimpleQueue()
    leaving = contextlib.ExitStack()

    async def start(piano: "Piano") -> ProgressTracker:
        leaving.callback(session.loop.loop.call_soon_threadsafe, piano.bus.subscribe(happened.put))
        for request in await piano.approvals():
            happened.put(request)
        jobs = await begin(piano)
        following = ProgressTracker(jobs, {each.id: each.name for each in await piano.agents()})
        for job in jobs:
            await _catch_up(piano, following, job)
        return following

    asking = session.work(start)
    with leaving:
        try:
            asking.begin()
            live = LiveCell(in_notebook=session.in_notebook)
            leaving.callback(live.end)
            following = asking.result()
            with session.kernel.lend(happened):
                _follow(session, following, happened, live)
        except KeyboardInterrupt as interrupt:
            cancels |= isinstance(interrupt, CellInterrupt)
            goes_on = "interrupted; the job goes on (%piano queue shows it, %piano cancel ends it)"
            raise AnswerFailedError(_cancelled(session, asking, happened) if cancels else goes_on) from None
    return _answers(session, following, raw=raw)


def wait_in_cell(session: "Session", verb: "Callable[[Piano], Coroutine[Any, Any, T]]") -> T:
    """Run a verb that takes its time, and show what is said of a model that is loading meanwhile. Raises PianoError."""
    session.kernel.check()
    happened: Events = queue.SimpleQueue()
    leaving = contextlib.ExitStack()

    async def start(piano: "Piano") -> T:
        leaving.callback(session.loop.loop.call_soon_threadsafe, piano.bus.subscribe(happened.put, ModelLoading))
        return await verb(piano)

    running = session.work(start)
    running.add_done_callback(lambda _: happened.put(None))
    with leaving:
        try:
            running.begin()
            live = LiveCell(in_notebook=session.in_notebook)
            leaving.callback(live.end)
            with session.kernel.lend(happened):
                for event in iter(happened.get, None):
                    if isinstance(event, MainThreadTask):
                        session.kernel.do(event)
                    elif isinstance(event, ModelLoading):
                        live.rest()
                        live.draw([LiveAnswer("", status=event.note, fraction=event.fraction)])
            return running.result()
        except KeyboardInterrupt:
            running.stop()
            raise PianoError("interrupted; what the server has begun, it may still end") from None


async def _catch_up(piano: "Piano", following: ProgressTracker, job: Job, asker: JobProgress | None = None) -> None:
    """Follow a job, and take over what was done of it before, and how it ended, if it is over already."""
    progress = following.follow(job, asker)
    if job.status is JobStatus.QUEUED:
        return
    progress.stand("running")
    thread = await piano.find_thread(job.thread_id)
    try:
        answer = await piano.wait(job) if job.status not in LIVE else None
    except PianoError as error:
        progress.error = error
        progress.stand("failed")
        return
    for message in await piano.messages(thread, at=answer):
        if message.job_id == job.id:
            progress.add_message(message)
    for call in await piano.tool_calls(thread):
        if call.message_id in progress.parts:
            progress.add_call(call)
    if answer is None:
        return
    progress.answer = answer
    progress.stand("done")
    for each in await piano.jobs(thread=thread):
        if each.message_id == answer.id:
            await _catch_up(piano, following, each, progress)


def _follow(session: "Session", following: ProgressTracker, happened: Events, live: LiveCell) -> None:
    """Show each event of the jobs until all have ended."""
    frames = _in_frames(happened, live, following)
    while not following.over:
        event = next(frames)
        if isinstance(event, MainThreadTask):
            live.draw(shown(following))
            session.kernel.do(event)
            continue
        following.take(event)
        if isinstance(event, ApprovalRequested):  # of another job too: it stands in the way, and nobody else asks
            live.draw(shown(following))
            _ask(session, following, event)
        elif isinstance(event, Closed):
            raise AnswerFailedError("the chat was closed before the answer came; the next one goes on with it")
    live.draw(shown(following))


def _in_frames(happened: Events, live: LiveCell, following: ProgressTracker) -> Iterator[Happening]:
    """Yield events, and draw between them: what came in one frame is drawn once."""
    while True:
        if event := happened.get():
            yield event
        live.rest()
        with contextlib.suppress(queue.Empty):
            while True:
                if event := happened.get_nowait():
                    yield event
        live.draw(shown(following))


def _answers(session: "Session", following: ProgressTracker, *, raw: bool) -> Message | AnswerGroup:
    """Show the answers for good, and return those to what was asked. Raises PianoError for those that failed."""
    several = len(following.all) > 1
    for each in following.all:
        if each.answer is None:
            continue
        if session.in_notebook or _is_streamed(each):  # else a terminal shows it as the result of the cell
            session.shown.add(each.answer.id)
        for flag in each.flags:
            print(to_the_letter(flag))  # noqa: T201  Above the answer.
        if session.in_notebook:
            display(answer_bundle(each.answer, each.name, each.calls, raw=raw, headed=several), raw=True)
        for note in each.notes:
            if session.in_notebook:
                display(answer_bundle(note, speaker(note, {})), raw=True)
            else:
                print(terminal_text(f"{speaker(note, {})}: {note.content}"))  # noqa: T201  On a terminal, below the answer.
    failed = [(each.name, each.error) for each in following.all if each.error is not None]
    if failed:
        if not several:
            raise failed[0][1]
        raise AnswerFailedError("; ".join(f"{name} has no answer: {error}" for name, error in failed)) from failed[0][1]
    told_first = [(each.name, each.answer, each.calls) for each in following.asked if each.answer is not None]
    return told_first[0][1] if len(told_first) == 1 else AnswerGroup(told_first, session.shown)


def _is_streamed(progress: JobProgress) -> bool:
    """Return whether the answer was shown while it was written: one that was there already was not."""
    part = progress.parts.get(progress.answer.id) if progress.answer else None
    return isinstance(part, TextProgress) and bool(part.text.getvalue())


def _cancelled(session: "Session", asking: LoopTask[ProgressTracker], happened: Events) -> str:
    """Cancel the jobs, if need be as soon as they are sent; return what to say."""
    if asking.cancel():
        return "interrupted; nothing was sent"

    async def cancel(piano: "Piano") -> None:
        following = await asyncio.wrap_future(asking)
        while not happened.empty():
            if isinstance(event := happened.get(), Event):
                following.take(event)
        ids = set(following.known)
        while live := [job for job in await piano.jobs(*LIVE) if job.id in ids or await _is_asked_by(ids, job, piano)]:
            for job in live:
                ids.add(job.id)
                await piano.cancel(job)

    cancelling = session.start(cancel)
    try:
        cancelling.result(AFTER_INTERRUPT)
    except PianoError as error:
        return f"interrupted: {error}"
    except (KeyboardInterrupt, TimeoutError, concurrent.futures.TimeoutError):
        return "interrupted; the job is being cancelled (%piano queue shows it)"
    return "interrupted; the job was cancelled, what was said before is kept"


async def _is_asked_by(ids: set[Any], job: Job, piano: "Piano") -> bool:
    """Return whether the answer of one of these jobs asks for a job."""
    return job.hops > 0 and (await piano.find_message(job.message_id)).job_id in ids


def _ask(session: "Session", following: ProgressTracker, request: ApprovalRequested) -> None:
    """Ask at the prompt whether a call may run, and pass the answer on; a front end without input says no."""
    if request not in session.call(lambda piano: piano.approvals()):
        return  # somebody else has answered
    where = ""
    if (thread_id := request.thread_id) is not None and thread_id not in following.threads:
        thread = session.call(lambda piano: piano.find_thread(thread_id))
        where = f" in the thread {thread.title!r}"
    answer: Answer = "no"
    try:
        answer = answer_of(input(f"{put(request, where)}\n{choices(request)}"), request)
    except (StdinNotImplementedError, EOFError):
        told = f"{request.question}{where}, and nobody could be asked here: {HOW_TO_ALLOW}"
        print(terminal_text(told))  # noqa: T201  In the cell.
    if not session.call(
        lambda piano: piano.deny(request) if answer == "no" else piano.approve(request, always=answer == "always")
    ):
        print(terminal_text(f"the call of {request.call.name} {TOO_LATE}"))  # noqa: T201
    elif answer == "always":
        print(how_to_keep(request.always))  # noqa: T201
