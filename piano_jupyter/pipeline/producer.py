"""Producer: takes messages in with their jobs, and claims queued jobs, never more than the demand."""

import asyncio
from collections.abc import Iterable, Sequence
from uuid import UUID

from piano_jupyter.bus import EventBus
from piano_jupyter.clock import Clock
from piano_jupyter.errors import PianoError
from piano_jupyter.events import JobFailed, JobQueued, MessageAdded
from piano_jupyter.pipeline.scheduler import next_job
from piano_jupyter.pipeline.whole import whole
from piano_jupyter.records import Job, JobStatus, Message
from piano_jupyter.store.base import Store


class ClaimError(PianoError):
    """The store did not let a job be claimed; `job` is no longer in the queue."""

    def __init__(self, job: Job, error: PianoError) -> None:
        super().__init__(f"the job could not be begun: {error}")
        self.job = job


class Producer:
    """The queue's front: nothing is accepted that is not stored."""

    def __init__(self, store: Store, bus: EventBus, clock: Clock, owner: str) -> None:
        self._store, self._bus, self._clock, self._owner = store, bus, clock, owner
        self._queued: dict[UUID, Job] = {}
        self._claiming = asyncio.Lock()
        self._stirred = asyncio.Event()

    async def recover(self, max_attempts: int) -> None:
        """Take up again what a dead kernel left."""
        for job in await self._store.recover(max_attempts, self._clock.now()):
            if job.status is JobStatus.FAILED:
                self._bus.publish(JobFailed(thread_id=job.thread_id, job=job, reason=job.reason or ""))
        for job in await self._store.jobs(JobStatus.QUEUED):
            self._admit(job)

    async def enqueue(self, message: Message, jobs: Sequence[Job]) -> tuple[Message, list[Job]]:
        """Keep a message with the jobs that are to answer it, in one transaction, and tell it; all of it or nothing."""
        return await whole(self._enqueue(message, jobs))

    async def _enqueue(self, message: Message, jobs: Sequence[Job]) -> tuple[Message, list[Job]]:
        message, kept = await self._store.enqueue(message, jobs)
        self._bus.publish(MessageAdded(thread_id=message.thread_id, message=message))
        for job in kept:
            if job.status is JobStatus.QUEUED:
                self._admit(job)
        return message, kept

    async def retry(self, job: Job) -> Job:
        """Put a job that failed or was cancelled back into the queue. Raises StoreError for any other."""
        return await whole(self._retry(job))

    async def _retry(self, job: Job) -> Job:
        job = await self._store.retry(job)
        self._admit(job)
        return job

    async def claim(self, running: Iterable[Job], max_demand: int) -> Job | None:
        """Return the next job, marked running; None if there is none to do now. Raises ClaimError with the job."""
        async with self._claiming:
            self._stirred.clear()
            while job := next_job(self._queued.values(), running, max_demand):
                del self._queued[job.id]
                try:
                    claimed = await self._store.claim(job.id, self._owner, self._clock.now())
                except PianoError as error:
                    raise ClaimError(job, error) from error
                if claimed is not None:
                    return claimed
            return None

    async def withdraw(self, job: Job) -> Job | None:
        """Take a job out of the queue before it begins; None if it is not there (any more)."""
        async with self._claiming:
            return self._queued.pop(job.id, None)

    def waiting(self) -> bool:
        """Whether any job waits, or is being claimed."""
        return bool(self._queued) or self._claiming.locked()

    def stir(self) -> None:
        """Wake whoever waits: something may be there to claim."""
        self._stirred.set()

    async def wait(self) -> None:
        """Return when something may be there to claim."""
        await self._stirred.wait()

    def _admit(self, job: Job) -> None:
        self._queued[job.id] = job
        self._bus.publish(JobQueued(thread_id=job.thread_id, job=job))
        self.stir()
