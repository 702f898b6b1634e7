"""A cell that waits: shows answers as they arrive, asks for approvals, and cancels the jobs when it is interrupted.

Meanwhile it runs what tools need to run on the main thread. All output comes from the main thread, which waits on a
plain queue; output from the thread of the loop would appear in whichever cell ran last. The final outputs follow the
live one, which is empty at the end, in the order in which the agents were asked: that is what nbval compares.
"""

import asyncio
import concurrent.futures
import contextlib
import queue
from collections.abc import Callable, Coroutine, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from IPython.core.error import StdinNotImplementedError
from IPython.display import display

from piano_jupyter.approval_prompt import (
    ALREADY_ANSWERED,
    Answer,
    choices,
    parse_answer,
    prompt_text,
    rule_added_message,
)
from piano_jupyter.errors import PianoError
from piano_jupyter.events import ApprovalRequested, Closed, Event, EventsMissed, ModelLoading, ToolReturned
from piano_jupyter.jupyter.cell.live_cell import LiveAnswer, LiveCell, live_answers
from piano_jupyter.jupyter.kernel_thread import CellInterrupt, MainThreadTask
from piano_jupyter.jupyter.loop import LoopTask
from piano_jupyter.jupyter.render.attachments import MAX_SHOWN_BYTES
from piano_jupyter.jupyter.render.transcript import ANSWER, AnswerGroup, answer_bundle, speaker
from piano_jupyter.progress import JobProgress, ProgressTracker, TextProgress
from piano_jupyter.records import Job, JobStatus, Message, ToolCall, short
from piano_jupyter.text.invisible import terminal_text, to_the_letter

if TYPE_CHECKING:
    from piano_jupyter.jupyter.session import Session
    from piano_jupyter.piano import Piano

T = TypeVar("T")
CellEvent = Event | MainThreadTask[Any]
CellEvents = queue.SimpleQueue[CellEvent | None]

UNFINISHED = frozenset({JobStatus.QUEUED, JobStatus.RUNNING})
CANCEL_TIMEOUT_S = 5.0
HOW_TO_ALLOW = "it was not run; use %piano panel, or %piano send and then %piano approve"


class AnswerFailedError(PianoError):
    """A question was not answered: its job failed or was interrupted."""


def follow_in_cell(
    session: "Session",
    begin: "Callable[[Piano], Coroutine[Any, Any, Sequence[Job]]]",
    *,
    cancels: bool = True,
    raw: bool = False,
) -> Message | AnswerGroup:
    """Show the progress of the jobs that `begin` returns; return the answer, or an AnswerGroup of several.

    The jobs that answers delegate to are followed too. `raw` shows answers as plain text. Raises AnswerFailedError with
    the reason if an answer is missing, after showing the others. An interrupt at any moment ends the wait and, with
    `cancels`, the jobs.
    """
    session.kernel.check()
    received: CellEvents = queue.SimpleQueue()
    cleanup = contextlib.ExitStack()

    async def start(piano: "Piano") -> ProgressTracker:
        cleanup.callback(session.loop.loop.call_soon_threadsafe, piano.bus.subscribe(received.put))
        for request in await piano.approvals(here=True):
            received.put(request)
        jobs = await begin(piano)
        following = ProgressTracker(jobs, {each.id: each.name for each in await piano.agents(deleted=True)})
        for job in jobs:
            await _catch_up(piano, following, job)
        return following

    starting = session.work(start)
    with cleanup:
        try:
            starting.begin()
            live = LiveCell(in_notebook=session.in_notebook, raw=raw)
            cleanup.callback(live.end)
            following = starting.result()
            with session.kernel.lend(received):
                _show_until_all_ended(session, following, received, live)
            if not session.in_notebook:
                live.end()
        except KeyboardInterrupt as interrupt:
            cancels |= isinstance(interrupt, CellInterrupt)
            still_runs = "interrupted; the job still runs (%piano queue shows it, %piano cancel ends it)"
            raise AnswerFailedError(_cancel_jobs(session, starting, received) if cancels else still_runs) from None
        return _show_answers(session, following, raw=raw)


def wait_in_cell(session: "Session", verb: "Callable[[Piano], Coroutine[Any, Any, T]]") -> T:
    """Run a slow verb and show the progress of a model that loads meanwhile. Raises PianoError."""
    session.kernel.check()
    received: CellEvents = queue.SimpleQueue()
    cleanup = contextlib.ExitStack()

    async def start(piano: "Piano") -> T:
        cleanup.callback(session.loop.loop.call_soon_threadsafe, piano.bus.subscribe(received.put, ModelLoading))
        return await verb(piano)

    running = session.work(start)
    running.add_done_callback(lambda _: received.put(None))
    with cleanup:
        try:
            running.begin()
            live = LiveCell(in_notebook=session.in_notebook)
            cleanup.callback(live.end)
            with session.kernel.lend(received):
                for event in iter(received.get, None):
                    if isinstance(event, MainThreadTask):
                        session.kernel.do(event)
                    elif isinstance(event, ModelLoading):
                        live.wait_for_next_frame()
                        live.draw([LiveAnswer("", status=event.note, fraction=event.fraction)])
            return running.result()
        except KeyboardInterrupt:
            running.stop()
            raise PianoError("interrupted; the server may still finish what it has started") from None


async def _catch_up(piano: "Piano", following: ProgressTracker, job: Job, delegator: JobProgress | None = None) -> None:
    """Follow a job from its current state: what it has stored so far, and how it ended if it has."""
    progress = following.follow(job, delegator)
    if job.status is JobStatus.QUEUED:
        return
    progress.set_status("running")
    thread = await piano.find_thread(job.thread_id)
    try:
        answer = await piano.wait(job) if job.status not in UNFINISHED else None
    except PianoError as error:
        progress.error = error
        progress.set_status("failed")
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
    progress.set_status("done")
    for each in await piano.jobs(thread=thread):
        if each.message_id == answer.id:
            await _catch_up(piano, following, each, progress)


def _show_until_all_ended(session: "Session", following: ProgressTracker, received: CellEvents, live: LiveCell) -> None:
    """Show each event of the jobs until all have ended."""
    frames = _events_between_frames(received, live, following)
    while not following.has_ended:
        event = next(frames)
        if isinstance(event, MainThreadTask):
            live.draw(live_answers(following))
            session.kernel.do(event)
            continue
        following.apply(event)
        if isinstance(event, ApprovalRequested):  # also of another job: it blocks this one, and nobody else asks
            live.draw(live_answers(following))
            _ask_for_approval(session, following, event)
        elif isinstance(event, ToolReturned) and event.call.attachments and event.job_id in following.by_job_id:
            [call] = session.call(partial(_with_figures, [event.call]))
            live.show_figures(call.attachments)
        elif isinstance(event, EventsMissed):
            _give_up_left(following, session.call(lambda piano: piano.unfinished()))
        elif isinstance(event, Closed):
            raise AnswerFailedError("the chat was closed before the answer came; the next chat continues with it")
    live.draw(live_answers(following))


def _give_up_left(following: ProgressTracker, unfinished: Sequence[tuple[Job, str]]) -> None:
    """End the wait for jobs whose notebook is gone."""
    for job, why in unfinished:
        progress = following.by_job_id.get(job.id)
        if progress is not None and why:
            progress.error = AnswerFailedError(f"job {short(job.id)} waits: {why}")
            progress.set_status("failed")


def _events_between_frames(received: CellEvents, live: LiveCell, following: ProgressTracker) -> Iterator[CellEvent]:
    """Yield events and draw between them, once for all events of one frame."""
    while True:
        if event := received.get():
            yield event
        live.wait_for_next_frame()
        with contextlib.suppress(queue.Empty):
            while True:
                if event := received.get_nowait():
                    yield event
        live.draw(live_answers(following))


def _show_answers(session: "Session", following: ProgressTracker, *, raw: bool) -> Message | AnswerGroup:
    """Show the final answers, and return those of the requested jobs. Raises PianoError if one failed."""
    several = len(following.all) > 1
    for each in following.all:
        if each.answer is None:
            continue
        if session.in_notebook or _is_streamed(each):  # else a terminal shows it as the result of the cell
            session.shown.add(each.answer.id)
        for flag in each.flags:
            print(to_the_letter(flag))  # noqa: T201  Above the answer.
        if session.in_notebook:
            calls = session.call(partial(_with_figures, each.calls))
            bundle = answer_bundle(each.answer, each.name, calls, raw=raw, headed=several)
            display(bundle, raw=True, metadata=ANSWER)
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
    answered = [(each.name, each.answer, each.calls) for each in following.requested if each.answer is not None]
    return answered[0][1] if len(answered) == 1 else AnswerGroup(answered, session.shown)


async def _with_figures(calls: Sequence[ToolCall], piano: "Piano") -> list[ToolCall]:
    return await piano.with_content(calls, MAX_SHOWN_BYTES)


def _is_streamed(progress: JobProgress) -> bool:
    """Return whether the answer was shown while it was written: one that was there already was not."""
    part = progress.parts.get(progress.answer.id) if progress.answer else None
    return isinstance(part, TextProgress) and bool(part.text.getvalue())


def _cancel_jobs(session: "Session", starting: LoopTask[ProgressTracker], received: CellEvents) -> str:
    """Cancel the jobs, if need be once they are sent; return a message for the user."""
    if starting.cancel():
        return "interrupted; nothing was sent"

    async def cancel(piano: "Piano") -> None:
        following = await asyncio.wrap_future(starting)
        while not received.empty():
            if isinstance(event := received.get(), Event):
                following.apply(event)
        ids = set(following.by_job_id)
        while live := [
            job for job in await piano.jobs(*UNFINISHED) if job.id in ids or await _was_delegated_by(ids, job, piano)
        ]:
            for job in live:
                ids.add(job.id)
                await piano.cancel(job)

    cancelling = session.start(cancel)
    try:
        cancelling.result(CANCEL_TIMEOUT_S)
    except PianoError as error:
        return f"interrupted: {error}"
    except (KeyboardInterrupt, TimeoutError, concurrent.futures.TimeoutError):
        return "interrupted; the job is being cancelled (%piano queue shows it)"
    return "interrupted; the job was cancelled; its unfinished answer is not kept"


async def _was_delegated_by(ids: set[Any], job: Job, piano: "Piano") -> bool:
    """Return whether the answer of one of these jobs delegates to a job."""
    return job.hops > 0 and (await piano.find_message(job.message_id)).job_id in ids


def _ask_for_approval(session: "Session", following: ProgressTracker, request: ApprovalRequested) -> None:
    """Ask at the prompt whether a call may run, and pass the answer on; without a prompt the call is denied."""
    if request not in session.call(lambda piano: piano.approvals(here=True)):
        return  # answered elsewhere meanwhile, or of another notebook
    where = ""
    if (thread_id := request.thread_id) is not None and thread_id not in following.threads:
        thread = session.call(lambda piano: piano.find_thread(thread_id))
        where = f" in the thread {thread.title!r}"
    answer: Answer = "no"
    try:
        answer = parse_answer(input(f"{prompt_text(request, where)}\n{choices(request)}"), request)
    except (StdinNotImplementedError, EOFError):
        message = f"{request.question}{where}, but nobody could be asked here: {HOW_TO_ALLOW}"
        print(terminal_text(message))  # noqa: T201  In the cell.
    if not session.call(
        lambda piano: piano.deny(request) if answer == "no" else piano.approve(request, always=answer == "always")
    ):
        print(terminal_text(f"the call of {request.call.name} {ALREADY_ANSWERED}"))  # noqa: T201
    elif answer == "always":
        print(rule_added_message(request.always))  # noqa: T201
