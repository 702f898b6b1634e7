"""Producer: takes messages in with their jobs, and claims queued jobs, never more than the demand."""

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
from piano_jupyter.pipeline.cancellation import whole
from piano_jupyter.pipeline.job_log import JobLog
from piano_jupyter.pipeline.unfinished import UnfinishedJobs
from piano_jupyter.records import Job, JobStatus, Message
from piano_jupyter.store.base import Store
from piano_jupyter.store.scheduling import QueuedJob, SchedulingLimits, next_job, ready


@dataclass(frozen=True, kw_only=True, slots=True)
class JobModels:
    """What the queue has to know of the models that its jobs are for."""

    #: Which of some models answer without a swap, or None where the server never swaps.
    loaded: Callable[[Collection[str]], Awaitable[frozenset[str] | None]] | None
    own_name: Callable[[str], str]  #: the model that an alias stands for
    idle: Callable[[], Collection[UUID]]  #: the running jobs that wait for the user, and leave their model free


class ClaimError(PianoError):
    """The store did not let a job be claimed; `job` is no longer in the queue."""

    def __init__(self, job: Job, error: PianoError) -> None:
        super().__init__(f"the job could not be begun: {error}")
        self.job = job


class Producer:
    """The queue's front: nothing is accepted that is not stored."""

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
        self._swapped = 0.0  # when a model was swapped in last, as `Clock.monotonic` has it
        self._claiming = asyncio.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stirred = asyncio.Event()
        bus.subscribe(lambda _: self.stir(), ApprovalRequested)  # its model is free while the user thinks

    async def recover(self, max_attempts: int) -> None:
        """Queue what a dead kernel left; it is held until the user goes on."""
        self._loop = asyncio.get_running_loop()
        for job in await self._store.recover({self._owner}, max_attempts, self._clock.now()):
            if job.status is JobStatus.FAILED:
                self._bus.publish(JobFailed(thread_id=job.thread_id, job=job, reason=job.reason or ""))
        left = await self._store.jobs(JobStatus.QUEUED)
        self._unfinished.note(left)
        self.admit(left)

    async def enqueue(self, message: Message, jobs: Sequence[Job]) -> tuple[Message, list[Job]]:
        """Keep a message with the jobs that are to answer it, in one transaction, and tell it; all of it or nothing."""
        return await whole(self._enqueue(message, jobs))

    async def _enqueue(self, message: Message, jobs: Sequence[Job]) -> tuple[Message, list[Job]]:
        message, kept = await self._store.enqueue(message, jobs)
        self._bus.publish(MessageAdded(thread_id=message.thread_id, message=message))
        self.admit(kept)
        return message, kept

    async def add(self, job: Job) -> Job:
        """Keep a job for a message that is kept already, and queue it."""
        return await whole(self._add(job))

    async def _add(self, job: Job) -> Job:
        [job] = await self._store.add_jobs([job])
        self.admit([job])
        return job

    async def retry(self, job: Job) -> Job:
        """Put a job that failed or was cancelled back into the queue. Raises StoreError for any other."""
        return await whole(self._retry(job))

    async def _retry(self, job: Job) -> Job:
        job = await self._store.retry(job)
        self._unfinished.forget(job)
        self.admit([job])
        self._log.step(job.id, "retried")
        return job

    async def claim(self, running: Sequence[Job]) -> Job | None:
        """Return the next job, marked running; None if there is none to do now. Raises ClaimError with the job."""
        async with self._claiming:
            self._stirred.clear()
            while job := await self._next(running):
                del self._queued[job.id]
                self._unfinished.forget(job)
                try:
                    claimed = await self._store.claim_next(uuid4(), self._owner, [job.id], self._clock.now())
                except PianoError as error:
                    raise ClaimError(job, error) from error
                if claimed is not None:
                    return claimed
            return None

    async def _next(self, running: Sequence[Job]) -> Job | None:
        if running and self._clock.repeats:
            return None  # side by side, jobs would draw their ids in another order each time
        limits = SchedulingLimits(max_demand=self._config.max_demand, max_wait_s=self._config.max_wait_s)
        at_work = list(map(self._by_own_name, running))
        waiting = [replace(each, job=self._by_own_name(each.job)) for each in self._takeable()]
        able = ready(waiting, at_work, limits)
        models = {each.job.model for each in able} | {job.model for job in at_work}
        asks = self._models.loaded if able and len(models) > 1 else None
        loaded = await asks(models) if asks is not None else None
        idle, now = self._models.idle(), self._clock.monotonic()
        working = [job for job in at_work if job.id not in idle]
        job = next_job(able, working, limits, loaded=loaded, swapped=self._swapped, now=now)
        if job is not None and loaded is not None and job.model not in loaded:
            self._swapped = now
        return self._queued[job.id].job if job is not None else None

    def _by_own_name(self, job: Job) -> Job:
        own = self._models.own_name(job.model)
        return job if own == job.model else replace(job, model=own)

    async def withdraw(self, job: Job) -> Job | None:
        """Take a job out of the queue before it begins; None if it is not there (any more)."""
        async with self._claiming:
            waiting = self._queued.pop(job.id, None)
            self._unfinished.forget(job)
            return waiting.job if waiting else None

    @property
    def waiting(self) -> bool:
        """Whether any job waits to be claimed, and nothing else holds it."""
        return bool(self._takeable())

    def _takeable(self) -> list[QueuedJob]:
        return [each for each in self._queued.values() if not self._unfinished.why_held(each.job)]

    @property
    def claiming(self) -> bool:
        """Whether a job is being claimed, or taken back, right now."""
        return self._claiming.locked()

    def stir(self) -> None:
        """Wake whoever waits: something may be there to claim."""
        self._stirred.set()

    def stir_from_any_thread(self) -> None:
        """Do the same from another thread, or before or after the loop runs."""
        with contextlib.suppress(RuntimeError):  # it is closed
            if self._loop is not None:
                self._loop.call_soon_threadsafe(self.stir)

    async def wait(self) -> None:
        """Return when something may be there to claim."""
        await self._stirred.wait()

    def admit(self, jobs: Iterable[Job]) -> None:
        """Queue jobs that are kept already; those that are no longer to be done are left out."""
        for job in jobs:
            if job.status is JobStatus.QUEUED:
                self._queued[job.id] = QueuedJob(job, self._clock.monotonic())
                self._bus.publish(JobQueued(thread_id=job.thread_id, job=job))
                self.stir()
