"""Producer: stores messages with their jobs, and claims queued jobs, never more than the demand."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from uuid import UUID, uuid4

from piano_jupyter.bus import EventBus
from piano_jupyter.clock import Clock
from piano_jupyter.config import PianoConfig
from piano_jupyter.errors import PianoError
from piano_jupyter.events import ApprovalRequested, JobFailed, JobQueued, MessageAdded
from piano_jupyter.pipeline.cancellation import finish_even_if_cancelled
from piano_jupyter.pipeline.job_log import JobLog
from piano_jupyter.pipeline.unfinished import UnfinishedJobs
from piano_jupyter.records import Job, JobStatus, Message
from piano_jupyter.store.base import Store
from piano_jupyter.store.scheduling import QueuedJob, SchedulingLimits, next_job, ready


@dataclass(frozen=True, kw_only=True, slots=True)
class JobModels:
    """What the queue needs to know about the models of its jobs."""

    #: Returns which of some models answer without a swap, or None if the server never swaps.
    loaded: Callable[[Collection[str]], Awaitable[frozenset[str] | None]] | None
    resolve_alias: Callable[[str], str]  #: returns the model that an alias stands for
    idle: Callable[[], Collection[UUID]]  #: returns the running jobs that wait for the user and leave their model free


class ClaimError(PianoError):
    """The store refused the claim of a job; `job` is no longer in the queue."""

    def __init__(self, job: Job, error: PianoError) -> None:
        super().__init__(f"the job could not be started: {error}")
        self.job = job


class Producer:
    """The queue: every job in it is stored."""

    def __init__(
        self,
        store: Store,
        bus: EventBus,
        clock: Clock,
        owner: str,
        config: PianoConfig,
        models: JobModels,
        unfinished: UnfinishedJobs,
        job_log: JobLog,
    ) -> None:
        self._store, self._bus, self._clock, self._owner = store, bus, clock, owner
        self._config, self._models, self._unfinished, self._log = config, models, unfinished, job_log
        self._queued: dict[UUID, QueuedJob] = {}
        self._swapped = 0.0  # when a model was last swapped in, by `Clock.monotonic`
        self._claiming = asyncio.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._wake = asyncio.Event()
        bus.subscribe(lambda _: self.wake(), ApprovalRequested)  # its model is free while the user thinks

    async def recover(self, max_attempts: int) -> None:
        """Queue the jobs that a dead kernel left; they wait until the user resumes them."""
        self._loop = asyncio.get_running_loop()
        for job in await self._store.recover({self._owner}, max_attempts, self._clock.now()):
            if job.status is JobStatus.FAILED:
                self._bus.publish(JobFailed(thread_id=job.thread_id, job=job, reason=job.reason or ""))
        unfinished = await self._store.jobs(JobStatus.QUEUED)
        self._unfinished.add(unfinished)
        self.add_to_queue(unfinished)

    async def enqueue(self, message: Message, jobs: Sequence[Job]) -> tuple[Message, list[Job]]:
        """Store a message and the jobs that answer it in one transaction, and publish them."""
        return await finish_even_if_cancelled(self._enqueue(message, jobs))

    async def _enqueue(self, message: Message, jobs: Sequence[Job]) -> tuple[Message, list[Job]]:
        message, jobs = await self._store.enqueue(message, jobs)
        self._bus.publish(MessageAdded(thread_id=message.thread_id, message=message))
        self.add_to_queue(jobs)
        return message, jobs

    async def add(self, job: Job) -> Job:
        """Store a job for a message that is stored already, and queue it."""
        return await finish_even_if_cancelled(self._add(job))

    async def _add(self, job: Job) -> Job:
        [job] = await self._store.add_jobs([job])
        self.add_to_queue([job])
        return job

    async def retry(self, job: Job) -> Job:
        """Put a job that failed or was cancelled back into the queue. Raises StoreError for any other."""
        return await finish_even_if_cancelled(self._retry(job))

    async def _retry(self, job: Job) -> Job:
        job = await self._store.retry(job)
        self._unfinished.forget(job)
        self.add_to_queue([job])
        self._log.step(job.id, "retried")
        return job

    async def claim(self, running: Sequence[Job]) -> Job | None:
        """Return the next job, marked running, or None if none is ready. Raises ClaimError with the job."""
        async with self._claiming:
            self._wake.clear()
            while job := await self._next_job(running):
                del self._queued[job.id]
                self._unfinished.forget(job)
                try:
                    claimed = await self._store.claim_next(uuid4(), self._owner, [job.id], self._clock.now())
                except PianoError as error:
                    raise ClaimError(job, error) from error
                if claimed is not None:
                    return claimed
            return None

    async def _next_job(self, running: Sequence[Job]) -> Job | None:
        if running and self._clock.repeats:
            return None  # at once, jobs would draw their ids in another order each time
        limits = SchedulingLimits(max_demand=self._config.max_demand, max_wait_s=self._config.max_wait_s)
        resolved = list(map(self._with_resolved_alias, running))
        waiting = [self._resolved(each) for each in self._claimable()]
        ready_jobs = ready(waiting, resolved, limits)
        models = {each.job.model for each in ready_jobs} | {job.model for job in resolved}
        find_loaded = self._models.loaded if ready_jobs and len(models) > 1 else None
        loaded = await find_loaded(models) if find_loaded is not None else None
        idle, now = self._models.idle(), self._clock.monotonic()
        working = [job for job in resolved if job.id not in idle]
        job = next_job(ready_jobs, working, limits, loaded=loaded, swapped=self._swapped, now=now)
        if job is not None and loaded is not None and job.model not in loaded:
            self._swapped = now
        return self._queued[job.id].job if job is not None else None

    def _resolved(self, queued: QueuedJob) -> QueuedJob:
        job = self._with_resolved_alias(queued.job)
        return queued if job is queued.job else replace(queued, job=job)

    def _with_resolved_alias(self, job: Job) -> Job:
        model = self._models.resolve_alias(job.model)
        return job if model == job.model else replace(job, model=model)

    async def withdraw(self, job: Job) -> Job | None:
        """Remove a job from the queue before it starts; return None if it is not there (any more)."""
        async with self._claiming:
            waiting = self._queued.pop(job.id, None)
            self._unfinished.forget(job)
            return waiting.job if waiting else None

    @property
    def waiting(self) -> bool:
        """Whether any job waits only to be claimed."""
        return bool(self._claimable())

    def _claimable(self) -> list[QueuedJob]:
        return [each for each in self._queued.values() if not self._unfinished.why_held(each.job)]

    @property
    def claiming(self) -> bool:
        """Whether a job is being claimed or withdrawn right now."""
        return self._claiming.locked()

    def wake(self) -> None:
        """Wake those who `wait`: there may be a job to claim."""
        self._wake.set()

    def wake_from_any_thread(self) -> None:
        """Do the same from any thread, also before or after the loop runs."""
        with contextlib.suppress(RuntimeError):  # it is closed
            if self._loop is not None:
                self._loop.call_soon_threadsafe(self.wake)

    async def wait(self) -> None:
        """Return when there may be a job to claim."""
        await self._wake.wait()

    def add_to_queue(self, jobs: Iterable[Job]) -> None:
        """Queue jobs that are stored already; those whose status is not queued are left out."""
        for job in jobs:
            if job.status is JobStatus.QUEUED:
                self._queued[job.id] = QueuedJob(job, self._clock.monotonic())
                self._bus.publish(JobQueued(thread_id=job.thread_id, job=job))
                self.wake()
