"""Consumer: a job becomes its turn. What it tells is kept, then published; the answer is kept together with the ack.

It owns the tasks: it starts, cancels and drains them. At least once to the model, at most once to the world, and
exactly one answer.
"""

import asyncio
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import replace
from uuid import UUID

from piano_jupyter import events
from piano_jupyter.bus import EventBus
from piano_jupyter.clock import Clock
from piano_jupyter.errors import PianoError
from piano_jupyter.logs import logger
from piano_jupyter.pipeline.cancellation import whole
from piano_jupyter.pipeline.job_log import JobLog
from piano_jupyter.pipeline.messages import QuestionSender
from piano_jupyter.pipeline.producer import ClaimError, Producer
from piano_jupyter.pipeline.turns import TurnRunner
from piano_jupyter.records import Job, JobStatus
from piano_jupyter.store.base import Store

log = logger(__name__)

KEPT = (events.MessageAdded, events.ToolCalled, events.ToolReturned, events.Answered)  # the others tell of a moment
AGAIN = 1.0  # seconds until it is tried again after an error inside Piano
STUBBORN = 1.0  # seconds for a tool that goes on although it is cancelled


class Consumer:
    """Works on the jobs that the producer gives it, side by side.

    `mask` takes the secrets out of the reason for which a job fails.
    """

    def __init__(
        self,
        store: Store,
        bus: EventBus,
        clock: Clock,
        producer: Producer,
        turns: TurnRunner,
        questions: QuestionSender,
        job_log: JobLog,
        mask: Callable[[str], str],
    ) -> None:
        self._store, self._bus, self._clock, self._producer = store, bus, clock, producer
        self._turns, self._questions, self._log, self._mask = turns, questions, job_log, mask
        self._going = asyncio.Event()
        self._going.set()
        self._running: dict[UUID, tuple[Job, asyncio.Task[None]]] = {}
        self._cancelling: dict[UUID, asyncio.Task[Job]] = {}
        self._ended = asyncio.Event()
        self._loop: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to take jobs."""
        if self._loop is None:
            self._loop = asyncio.create_task(self._take(), name="piano-consumer")

    async def stop(self, timeout: float) -> None:
        """Take no more, give what runs `timeout` seconds, then cut it off.

        A job that is cut off goes back into the queue of the store, and that attempt does not count.
        """
        loop, self._loop = self._loop, None
        if loop is not None:
            loop.cancel()
            await asyncio.wait([loop])
        tasks = {task: job for job, task in self._running.values()}
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=timeout)
            for task in late:
                task.cancel()
            if late:
                await asyncio.wait(late, timeout=STUBBORN)
            for task in late:
                await self._release(tasks[task])
        self._running.clear()
        self._ended.set()

    @property
    def paused(self) -> bool:
        """Whether no job is taken for now."""
        return not self._going.is_set()

    def pause(self) -> None:
        """Take no more jobs for now; what runs goes on to its end."""
        self._going.clear()
        self._ended.set()

    def go_on(self) -> None:
        """Take jobs again."""
        self._going.set()
        self._producer.stir()

    async def drain(self) -> None:
        """Return when nothing runs, and nothing waits that would be taken."""
        while self._running or (
            self._loop is not None and (self._producer.claiming or (self._producer.waiting and not self.paused))
        ):
            self._ended.clear()
            await self._ended.wait()

    async def cancel(self, job: Job) -> Job:
        """End a job, wherever it is; return it as it now stands. A job that has ended is left as it is.

        It goes on to its end even if whoever asked is cancelled: half of it would hold the thread up for ever.
        """
        if job.id not in self._cancelling:
            task = asyncio.create_task(self._cancel(job), name=f"piano-cancel-{job.id}")
            self._cancelling[job.id] = task
            task.add_done_callback(lambda _: self._cancelling.pop(job.id, None))
        return await asyncio.shield(self._cancelling[job.id])

    async def _cancel(self, job: Job) -> Job:
        if withdrawn := await self._producer.withdraw(job):
            job = withdrawn
        elif job.id in self._running:
            job, task = self._running[job.id]
            task.cancel()
            await asyncio.wait([task])
        job = await self._close(job)
        self._forget(job.id)
        return job

    async def _take(self) -> None:
        while True:
            await self._going.wait()
            try:
                job = await self._producer.claim([job for job, _ in self._running.values()])
            except ClaimError as error:
                await self._close(error.job, str(error), error)
                self._forget(error.job.id)
                continue
            except Exception:
                log.exception("no job could be taken")  # the next ones must not wait for ever
                await asyncio.sleep(AGAIN)
                continue
            if job is None:
                self._ended.set()
                await self._producer.wait()
                continue
            task = asyncio.create_task(self._work(job), name=f"piano-job-{job.id}")
            self._running[job.id] = (job, task)

    async def _work(self, job: Job) -> None:
        """Run a job to its end. Cancelled, it leaves the job to whoever cancelled it."""
        try:
            self._bus.publish(events.JobStarted(thread_id=job.thread_id, job=job))
            async with aclosing(self._turns.run(job)) as told:
                async for event in told:
                    if isinstance(event, KEPT):
                        await whole(self._keep(job, event))
                    else:
                        self._bus.publish(event)
        except PianoError as error:
            await self._close(job, str(error), error)
        except Exception as error:
            log.exception("the turn of job %s raised", job.id)
            await self._close(job, f"{type(error).__name__}: {error} (an error inside Piano; see the log)")
        self._forget(job.id)

    def _forget(self, job_id: UUID) -> None:
        self._running.pop(job_id, None)
        self._ended.set()
        self._producer.stir()

    async def _keep(self, job: Job, event: events.Event) -> None:
        """Keep what an event tells, then publish it; both, so that nothing is kept that nobody hears of."""
        match event:
            case events.MessageAdded(message=message):
                self._bus.publish(replace(event, message=await self._store.add_message(message)))
            case events.ToolCalled(call=call):
                self._bus.publish(replace(event, call=await self._store.start_call(call)))
            case events.ToolReturned(call=call):
                self._bus.publish(replace(event, call=await self._store.finish_call(call)))
            case events.Answered(message=message):
                self._log.step(job.id, "answered")
                asked, note = await self._questions.hand_on(job, message)
                kept = await self._store.ack(job, message, self._clock.now(), asked=asked, note=note)
                self._log.step(job.id, "acked")
                self._bus.publish(replace(event, message=kept.answer))
                if kept.note is not None:
                    self._bus.publish(events.MessageAdded(thread_id=job.thread_id, message=kept.note))
                self._producer.admit(kept.asked)
                self._bus.publish(events.JobDone(thread_id=job.thread_id, job=kept.job, message=kept.answer))

    async def _release(self, job: Job) -> None:
        try:
            await whole(self._store.release(job, self._clock.now()))
            self._log.step(job.id, "released")
        except PianoError:  # whoever opens the store next finds it marked as running
            log.exception("job %s, which was cut off, could not be put back into the queue", job.id)

    async def _close(self, job: Job, reason: str | None = None, error: PianoError | None = None) -> Job:
        """End a job without an answer: cancelled, or failed if there is a reason. One that has ended stays as it is."""
        now = self._clock.now()
        reason = self._mask(reason) if reason else None
        if error is not None:
            error.args = (reason,)
        try:
            closed = await whole(self._store.fail(job, reason, now) if reason else self._store.cancel(job, now))
        except PianoError as unkept:  # the disk is full, say: whoever waits must hear of it all the same
            log.exception("the end of job %s could not be kept", job.id)
            reason, error = f"{reason or 'cancelled'}; and that could not be kept: {unkept}", unkept
            closed = replace(job, status=JobStatus.FAILED, reason=reason)
        if closed.status is JobStatus.FAILED and reason:
            self._bus.publish(events.JobFailed(thread_id=job.thread_id, job=closed, reason=reason, error=error))
        elif closed.status is JobStatus.CANCELLED and job.status is not JobStatus.CANCELLED:
            self._bus.publish(events.JobCancelled(thread_id=job.thread_id, job=closed))
        return closed
