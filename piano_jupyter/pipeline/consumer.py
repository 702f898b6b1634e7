"""Consumer: runs jobs. Their events are stored, then published; the answer is stored in one transaction with the ack.

It owns the tasks of the jobs: it starts, cancels and drains them. A request may reach the model more than once, a tool
call runs at most once, and a job has exactly one answer.
"""

import asyncio
from collections.abc import Callable
from contextlib import aclosing, suppress
from dataclasses import replace
from uuid import UUID

from piano_jupyter import events
from piano_jupyter.bus import EventBus
from piano_jupyter.cancellation import finish_even_if_cancelled
from piano_jupyter.clock import Clock
from piano_jupyter.errors import NotFoundError, PianoError, StoreError
from piano_jupyter.logs import logger
from piano_jupyter.pauses import growing_pauses
from piano_jupyter.pipeline.job_log import JobLog
from piano_jupyter.pipeline.messages import QuestionSender
from piano_jupyter.pipeline.partial_answer import PartialAnswer
from piano_jupyter.pipeline.producer import ClaimError, Producer
from piano_jupyter.pipeline.turns import TurnRunner
from piano_jupyter.records import Job, JobStatus
from piano_jupyter.store.base import Store

log = logger(__name__)

STORED_EVENTS = (
    events.MessageAdded,
    events.ToolCalled,
    events.ToolReturned,
    events.Answered,
)
RETRY_DELAY_S, LONGEST_RETRY_DELAY_S = 1.0, 30.0  # after an error inside Piano, or of the store
CANCEL_TIMEOUT_S = 1.0  # for a tool that continues although it is cancelled


class Consumer:
    """Runs the jobs that it claims from the producer, several at once.

    `mask` removes the secrets from the reason of a job that fails.
    """

    def __init__(
        self,
        store: Store,
        bus: EventBus,
        clock: Clock,
        producer: Producer,
        turns: TurnRunner,
        question_sender: QuestionSender,
        job_log: JobLog,
        mask: Callable[[str], str],
    ) -> None:
        self._store, self._bus, self._clock, self._producer = store, bus, clock, producer
        self._turns, self._question_sender, self._log, self._mask = turns, question_sender, job_log, mask
        self._not_paused = asyncio.Event()
        self._not_paused.set()
        self._running: dict[UUID, tuple[Job, asyncio.Task[None]]] = {}
        self._cancelling: dict[UUID, asyncio.Task[Job]] = {}
        self._unstored: dict[UUID, tuple[Job, str | None]] = {}  #: jobs that ended, which the store could not be told
        self._state_changed = asyncio.Event()
        self._storing: asyncio.Task[None] | None = None
        self._loop: asyncio.Task[None] | None = None
        self._stopping = set[asyncio.Task[None]]()
        bus.subscribe(self._follow, events.JobCancelled)

    def start(self) -> None:
        """Start claiming jobs."""
        if self._loop is None:
            self._loop = asyncio.create_task(self._run_jobs(), name="piano-consumer")
            self._keep_storing_ends()

    async def stop(self, timeout: float) -> None:
        """Claim no more jobs, give those that run `timeout` seconds, then interrupt them.

        A job that is interrupted goes back into the store's queue, and that attempt does not count.
        """
        loop, self._loop = self._loop, None
        for each in (loop, self._storing):
            if each is not None:
                each.cancel()
                await asyncio.wait([each])
        tasks = {task: job for job, task in self._running.values()}
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=timeout)
            for task in late:
                task.cancel()
            if late:
                await asyncio.wait(late, timeout=CANCEL_TIMEOUT_S)
            for task in late:
                await self._release(tasks[task])
        self._running.clear()
        self._state_changed.set()

    @property
    def paused(self) -> bool:
        """Whether no jobs are claimed for now."""
        return not self._not_paused.is_set()

    def pause(self) -> None:
        """Claim no more jobs for now; those that run continue to their end."""
        self._not_paused.clear()
        self._state_changed.set()

    def resume(self) -> None:
        """Claim jobs again."""
        self._not_paused.set()
        self._producer.wake()

    def runs(self, job: Job) -> bool:
        """Return whether a job runs in this notebook."""
        return job.id in self._running

    async def drain(self) -> None:
        """Return when no job runs, and none waits that would be claimed."""
        while self._running or (
            self._loop is not None and (self._producer.claiming or (self._producer.waiting and not self.paused))
        ):
            self._state_changed.clear()
            await self._state_changed.wait()

    async def cancel(self, job: Job) -> Job:
        """Cancel a job, queued or running, and return its new state. A job that has ended stays as it is.

        This finishes even if the caller is cancelled: a job that is half cancelled would block its thread for ever.
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
        job = await self._end_job(job)
        self._forget(job.id)
        return job

    async def refresh(self) -> None:
        """Stop the jobs that are not this process's any more, where that was not told."""
        await self._store_ends()  # before the queue is read again, which would run them
        for job, _ in tuple(self._running.values()):
            await self._stop_unless_held(job)

    def _follow(self, event: events.JobCancelled) -> None:
        """Stop a job that another notebook has cancelled."""
        if event.job_id in self._running and event.job_id not in self._cancelling:
            job, _ = self._running[event.job_id]
            task = asyncio.create_task(self._stop_cancelled(job), name=f"piano-stop-{job.id}")
            self._stopping.add(task)
            task.add_done_callback(self._stopping.discard)

    async def _stop_cancelled(self, job: Job) -> None:
        """Stop a job that was cancelled, unless it was retried since: an event may come late."""
        try:
            await self._stop_unless_held(job)
        except PianoError as error:  # the connection broke: all is read again once there is another
            log.warning("what became of job %s could not be read: %s", job.id, error)

    async def _stop_unless_held(self, job: Job) -> None:
        """Stop a job whose end is stored, or that another process runs."""
        if not await self._is_held(job):
            running, task = self._running.get(job.id, (None, None))
            if running is job and task is not None:
                task.cancel()
                await asyncio.wait([task])
                self._forget(job.id)

    async def _is_held(self, job: Job) -> bool:
        """Return whether the store has a job as run by this process, under the claim that it has."""
        try:
            now = await self._store.job(job.id)
        except NotFoundError:  # its thread was deleted
            return False
        return (now.status, now.owner, now.request_id) == (JobStatus.RUNNING, job.owner, job.request_id)

    async def _run_jobs(self) -> None:
        while True:
            await self._not_paused.wait()
            try:
                job = await self._producer.claim([job for job, _ in self._running.values()])
            except ClaimError as error:
                await self._end_job(error.job, str(error), error)
                self._forget(error.job.id)
                continue
            except Exception:
                log.exception("no job could be claimed")  # the next ones must not wait for ever
                self._state_changed.set()
                await asyncio.sleep(RETRY_DELAY_S)
                continue
            if job is None:
                self._state_changed.set()
                await self._producer.wait()
                continue
            task = asyncio.create_task(self._run_job(job), name=f"piano-job-{job.id}")
            self._running[job.id] = (job, task)

    async def _run_job(self, job: Job) -> None:
        """Run a job to its end. When cancelled, leave the job to whoever cancelled it."""
        loop = asyncio.get_running_loop()
        partial = PartialAnswer(loop.time())
        try:
            self._bus.publish(events.JobStarted(thread_id=job.thread_id, job=job))
            async with aclosing(self._turns.run(job)) as turn:
                async for event in turn:
                    partial.take(event)
                    if text := partial.to_keep(loop.time()):
                        await self._keep_partial(job, text)
                    if isinstance(event, STORED_EVENTS):
                        await finish_even_if_cancelled(self._store_event(job, event))
                    else:
                        self._bus.publish(event)
        except asyncio.CancelledError:
            await self._keep_partial(job, partial.to_keep())
            raise
        except PianoError as error:
            await self._keep_partial(job, partial.to_keep())
            await self._end_job(job, str(error), error)
        except Exception as error:
            log.exception("the turn of job %s raised", job.id)
            await self._keep_partial(job, partial.to_keep())
            await self._end_job(job, f"{type(error).__name__}: {error} (an error inside Piano; see the log)")
        self._forget(job.id)

    def _forget(self, job_id: UUID) -> None:
        self._running.pop(job_id, None)
        self._state_changed.set()
        self._producer.wake()

    async def _store_event(self, job: Job, event: events.Event) -> None:
        """Store what an event reports, then publish it."""
        match event:
            case events.MessageAdded(message=message):
                self._bus.publish(replace(event, message=await self._store.add_message(message, job)))
            case events.ToolCalled(call=call):
                self._bus.publish(replace(event, call=await self._store.start_call(call, job)))
            case events.ToolReturned(call=call):
                self._bus.publish(replace(event, call=await self._store.finish_call(call)))
            case events.Answered(message=message):
                self._log.step(job.id, "answered")
                delegated, note = await self._question_sender.delegate(job, message)
                asked = self._producer.owned(delegated)
                with self._producer.hearing() as told:
                    acked = await self._store.ack(job, message, self._clock.now(), asked=asked, note=note)
                self._log.step(job.id, "acked")
                self._bus.publish(replace(event, message=acked.answer))
                if acked.note is not None:
                    self._bus.publish(events.MessageAdded(thread_id=job.thread_id, message=acked.note))
                self._producer.add_to_queue(await self._producer.as_they_are(acked.asked, told))
                self._bus.publish(events.JobDone(thread_id=job.thread_id, job=acked.job, message=acked.answer))

    async def _keep_partial(self, job: Job, text: str) -> None:
        """Store what was written of an answer, if anything."""
        if not text:
            return
        try:
            await finish_even_if_cancelled(self._store.keep_partial(replace(job, partial=text)))
        except PianoError as error:  # what comes next for this job reports it
            log.warning("what was written of the answer of job %s could not be kept: %s", job.id, error)

    async def _release(self, job: Job) -> None:
        try:
            await finish_even_if_cancelled(self._store.release(job, self._clock.now()))
            self._log.step(job.id, "released")
        except PianoError:  # the store has it as running: it is recovered when the database is opened again
            log.exception("job %s was interrupted and could not be put back into the queue", job.id)

    async def _end_job(self, job: Job, reason: str | None = None, error: PianoError | None = None) -> Job:
        """End a job without an answer: failed if there is a reason, else cancelled. One that has ended stays so."""
        reason = self._mask(reason) if reason else None
        if error is not None:
            error.args = (reason,)
        try:
            ended = await finish_even_if_cancelled(self._store_end(job, reason))
        except PianoError as store_error:  # a full disk, for example: those who wait must get an event all the same
            log.exception("the end of job %s could not be stored", job.id)
            reason, error = f"{reason or 'cancelled'}; and that could not be stored: {store_error}", store_error
            ended = replace(job, status=JobStatus.FAILED, reason=reason)
            self._unstored[job.id] = job, reason
            self._keep_storing_ends()
        if ended.status is JobStatus.FAILED and reason:
            self._bus.publish(events.JobFailed(thread_id=job.thread_id, job=ended, reason=reason, error=error))
        elif ended.status is JobStatus.CANCELLED and job.status is not JobStatus.CANCELLED:
            self._bus.publish(events.JobCancelled(thread_id=job.thread_id, job=ended))
        return ended

    async def _store_end(self, job: Job, reason: str | None) -> Job:
        now = self._clock.now()
        return await (self._store.fail(job, reason, now) if reason else self._store.cancel(job, now))

    def _keep_storing_ends(self) -> None:
        """Try to store ends again until that succeeds: the store has these jobs as running, which blocks threads."""
        if self._unstored and self._storing is None:
            self._storing = asyncio.create_task(self._store_ends_later(), name="piano-ends")

    async def _store_ends_later(self) -> None:
        try:
            for pause in growing_pauses(RETRY_DELAY_S, LONGEST_RETRY_DELAY_S):
                await asyncio.sleep(pause)
                await self._store_ends()
                if not self._unstored:
                    return
        finally:
            self._storing = None

    async def _store_ends(self) -> None:
        with suppress(StoreError):  # it was logged, and those who wait were told
            for job, reason in tuple(self._unstored.values()):
                with suppress(NotFoundError):  # its thread was deleted
                    await self._store_end(job, reason)
                self._unstored.pop(job.id, None)
