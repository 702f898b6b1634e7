"""Producer: stores messages with their jobs, and claims those of this notebook when the store grants them.

Which job goes next is decided by the store (`store/grants.py`), over the jobs of all notebooks that share it.

What others tell of a job may come late, or sooner than the reply to what was asked of the store before. So a job
leaves the queue only when the store says so, for else nobody would run it; and of what is told while the store is
asked, the store is asked again.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple
from uuid import UUID, uuid4

from piano_jupyter.bus import EventBus
from piano_jupyter.cancellation import finish_even_if_cancelled
from piano_jupyter.clock import Clock
from piano_jupyter.config import PianoConfig
from piano_jupyter.errors import NotFoundError, PianoError
from piano_jupyter.events import AgentAdded, JobEvent, JobFailed, JobQueued, MessageAdded
from piano_jupyter.logs import logger
from piano_jupyter.pauses import growing_pauses
from piano_jupyter.pipeline.job_log import JobLog
from piano_jupyter.pipeline.unfinished import UnfinishedJobs
from piano_jupyter.records import Job, JobStatus, Message, Notebook, short
from piano_jupyter.store.base import Store, Turn

log = logger(__name__)
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.1, 30.0  #: before a job that could not be read is read again


@dataclass(frozen=True, kw_only=True, slots=True)
class JobModels:
    """What the queue needs to know about the models of its jobs."""

    #: Returns the models that answer without a swap, or None if the server never swaps.
    loaded: Callable[[], Awaitable[frozenset[str] | None]] | None
    aliases: Callable[[], Mapping[str, str]]  #: returns other names of models, and the models


class JobOwner(NamedTuple):
    """As what this process runs jobs."""

    process: str  #: never that of another process, also of one that is gone
    notebook: Notebook
    alive: Callable[[], Awaitable[Collection[str]]]  #: returns the processes that share the store
    is_shared: Callable[[], bool]  #: whether there are others than this one


class ClaimError(PianoError):
    """The store refused the claim of a job; `job` is no longer in the queue."""

    def __init__(self, job: Job, error: PianoError) -> None:
        super().__init__(f"the job could not be started: {error}")
        self.job = job


class Producer:
    """The queue of this notebook: every job in it is stored."""

    def __init__(
        self,
        store: Store,
        bus: EventBus,
        clock: Clock,
        owner: JobOwner,
        config: PianoConfig,
        models: JobModels,
        unfinished: UnfinishedJobs,
        job_log: JobLog,
    ) -> None:
        self._store, self._bus, self._clock, self._owner = store, bus, clock, owner
        self._config, self._models, self._unfinished, self._log = config, models, unfinished, job_log
        self._queued: dict[UUID, Job] = {}
        self._told: dict[int, set[UUID]] = {}  #: jobs of which an event told, for each block that wants to know
        self._is_claiming = False
        self._doubted: set[UUID] = set()  #: queued jobs that another notebook seems to have ended, or to run
        self._checking: asyncio.Task[None] | None = None
        self._claiming = asyncio.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._wake = asyncio.Event()
        bus.subscribe(self._follow, JobEvent)
        bus.subscribe(lambda _: self.wake(), AgentAdded)  # a job may have waited for tools that its agent has no more

    async def recover(self, max_attempts: int) -> None:
        """Queue the jobs that an earlier kernel of this notebook left; they wait until the user resumes them."""
        self._loop = asyncio.get_running_loop()
        process, notebook = self._owner.process, self._owner.notebook
        own = notebook if notebook.id else None  # of a script, several may run
        for job in await self._store.recover({process}, max_attempts, self._clock.now(), own):
            if job.status is JobStatus.FAILED:
                self._bus.publish(JobFailed(thread_id=job.thread_id, job=job, reason=job.reason or ""))
        async with self._claiming:
            await self._take_in_left()

    async def _take_in_left(self) -> None:
        """Queue the jobs of this notebook whose kernel is gone; they wait until the user resumes them."""
        with self.hearing() as told:
            own = [job for job in await self.left() if job.notebook.is_same(self._owner.notebook)]
        left = [job for job in own if job.id not in self._queued.keys() | told]
        self._unfinished.add(left)
        self.add_to_queue(left)

    async def left(self) -> list[Job]:
        """Return the queued jobs of kernels that are gone."""
        queued = await self._store.jobs(JobStatus.QUEUED)
        alive = {*await self._owner.alive(), self._owner.process}  # last: one that came meanwhile may have sent a job
        return [job for job in queued if job.owner not in alive]

    async def left_elsewhere(self) -> list[Job]:
        """Return those of other notebooks."""
        own = set(self._queued)  # one of these may be claimed meanwhile
        return [job for job in await self.left() if job.id not in own | self._queued.keys()]

    async def take_over(self, job: Job) -> None:
        """Run a job here that a kernel which is gone has left; it waits for what it needs.

        Raises PianoError for a job of a notebook that is open.
        """
        if job.id in self._queued or job.status is not JobStatus.QUEUED:
            return
        if job.owner != self._owner.process and job.id not in {each.id for each in await self.left()}:
            sender = f"of {job.notebook.name}, which is open" if job.notebook.name else "of a script that still runs"
            raise PianoError(f"job {short(job.id)} is {sender}: it runs there")
        await finish_even_if_cancelled(self._take_over(job))

    async def _take_over(self, job: Job) -> None:
        with self.hearing() as told:
            job = await self._store.take_over(job, *self._owner[:2])
        [job] = await self.as_they_are([job], told)
        if job.owner == self._owner.process and job.status is JobStatus.QUEUED:  # no other was faster
            self._unfinished.add([job])
            self.add_to_queue([job])

    async def refresh(self) -> None:
        """Read again how its jobs stand, where that was not told, and have the store grant them again."""
        async with self._claiming:  # a job that is claimed meanwhile would be queued, and run, a second time
            with self.hearing() as told:
                stored = {job.id: job for job in await self._store.jobs(JobStatus.QUEUED)}
            known = dict(self._queued)
            for job_id in [each for each, job in known.items() if each not in told and stored.get(each) != job]:
                self._drop(job_id)
            own = [job for job in stored.values() if job.owner == self._owner.process]
            self.add_to_queue(job for job in own if job.id not in self._queued.keys() | told)
            await self._take_in_left()
        self.wake()  # another store process knows nothing of what was asked of the one before

    def owned(self, jobs: Iterable[Job]) -> list[Job]:
        """Return new jobs with their owner, as they are stored."""
        return [replace(job, owner=self._owner.process) for job in jobs]

    async def enqueue(
        self, message: Message, jobs: Sequence[Job], newest: int | None = None
    ) -> tuple[Message, list[Job]]:
        """Store a message and the jobs that answer it in one transaction, and publish them.

        Raises StaleThreadError if its thread has a question whose `seq` is higher than `newest`.
        """
        return await finish_even_if_cancelled(self._enqueue(message, jobs, newest))

    async def _enqueue(self, message: Message, jobs: Sequence[Job], newest: int | None) -> tuple[Message, list[Job]]:
        with self.hearing() as told:
            message, jobs = await self._store.enqueue(message, self.owned(jobs), newest)
        self._bus.publish(MessageAdded(thread_id=message.thread_id, message=message))
        self.add_to_queue(await self.as_they_are(jobs, told))
        return message, jobs

    async def add(self, job: Job) -> Job:
        """Store a job for a message that is stored already, and queue it; return the one to wait for."""
        return await finish_even_if_cancelled(self._add(job))

    async def _add(self, job: Job) -> Job:
        with self.hearing() as told:
            jobs = await self._store.add_jobs(self.owned([job]))
        [job] = await self.as_they_are(jobs, told)
        self._add_own(job)
        return job

    async def retry(self, job: Job) -> Job:
        """Put a job that failed or was cancelled back into the queue. Raises StoreError for any other."""
        return await finish_even_if_cancelled(self._retry(job))

    async def _retry(self, job: Job) -> Job:
        [job] = self.owned([job])
        with self.hearing() as told:
            job = await self._store.retry(job)
        [job] = await self.as_they_are([job], told)
        self._unfinished.forget(job)
        self._add_own(job)
        self._log.step(job.id, "retried")
        return job

    def _add_own(self, job: Job) -> None:
        """Queue a job, unless another notebook was faster, which runs it then."""
        if job.owner == self._owner.process:
            self.add_to_queue([job])

    async def claim(self, running: Sequence[Job]) -> Job | None:
        """Return the next job, marked running, or None if it is no job's turn. Raises ClaimError with a job."""
        async with self._claiming:
            self._is_claiming = True
            try:
                return await self._claim(running)
            finally:
                self._is_claiming = False

    async def _claim(self, running: Sequence[Job]) -> Job | None:
        self._wake.clear()
        begun = {job.id for job in running}
        wanted = [job for job in self._claimable() if job.id not in begun]
        if not wanted or (running and self._clock.repeats):
            return None  # at once, jobs would draw their ids in another order each time
        turn = await self.turn({job.model for job in (*wanted, *running)})
        try:
            ids = [job.id for job in wanted]
            claimed = await self._store.claim_next(uuid4(), self._owner.process, ids, self._clock.now(), turn)
        except PianoError as error:
            self._drop(wanted[0].id)
            raise ClaimError(wanted[0], error) from error
        if claimed is not None:
            self._drop(claimed.id)
        return claimed

    async def turn(self, models: Collection[str]) -> Turn:
        """Return what the store has to know to decide whose turn it is; the server is asked only if that matters."""
        find_loaded = self._models.loaded if len(models) > 1 or self._owner.is_shared() else None
        loaded = await find_loaded() if find_loaded is not None else None
        return Turn(
            max_demand=self._config.max_demand,
            max_wait_s=self._config.max_wait_s,
            loaded=None if loaded is None else tuple(sorted(loaded)),
            aliases=self._models.aliases(),
        )

    async def withdraw(self, job: Job) -> Job | None:
        """Remove a job from the queue before it starts; return None if it is not there (any more)."""
        async with self._claiming:
            waiting = self._queued.get(job.id)
            self._drop(job.id)
            return waiting

    @property
    def waiting(self) -> bool:
        """Whether any job waits only to be claimed."""
        return bool(self._claimable())

    def _claimable(self) -> list[Job]:
        sure = [job for job in self._queued.values() if job.id not in self._doubted]
        return [job for job in sure if not self._unfinished.why_held(job)]

    def _drop(self, job_id: UUID) -> None:
        if job := self._queued.pop(job_id, None):
            self._unfinished.forget(job)

    def _follow(self, event: JobEvent) -> None:
        """Look at a job that another notebook seems to have ended, or to run."""
        job, known = event.job, self._queued.get(event.job_id)
        for told in self._told.values():
            told.add(event.job_id)
        if known is not None and (job.status is not JobStatus.QUEUED or job.owner != known.owner):
            self._doubted.add(event.job_id)
            if self._checking is None:
                self._checking = asyncio.create_task(self._check_doubted(), name="piano-queue")

    @contextlib.contextmanager
    def hearing(self) -> Iterator[set[UUID]]:
        """Give a set that gets each job of which an event tells while the block runs."""
        told = set[UUID]()
        self._told[id(told)] = told
        try:
            yield told
        finally:
            del self._told[id(told)]

    async def as_they_are(self, jobs: Sequence[Job], told: Collection[UUID]) -> list[Job]:
        """Return jobs, as the store has them by now where something was told of them."""
        return [await self._read_or_keep(job) if job.id in told else job for job in jobs]

    async def _read_or_keep(self, job: Job) -> Job:
        try:
            return await self._read(job)
        except PianoError as error:  # the connection broke: all is read again once there is another
            log.warning("what became of job %s could not be read: %s", short(job.id), error)
            return job

    async def _read(self, job: Job) -> Job:
        """Return a job as the store has it, nothing else being told meanwhile; as cancelled if it was deleted."""
        while True:
            with self.hearing() as told:
                try:
                    job = await self._store.job(job.id)
                except NotFoundError:
                    return replace(job, status=JobStatus.CANCELLED)
            if job.id not in told:
                return job

    async def _check_doubted(self) -> None:
        """Drop the jobs that the store says are not to be run here any more."""
        pauses = growing_pauses(FIRST_PAUSE_S, LONGEST_PAUSE_S)
        try:
            while self._doubted:
                try:
                    await self._check_each()
                except PianoError as error:
                    log.warning("what became of queued jobs could not be read: %s", error)
                    await asyncio.sleep(next(pauses))
        finally:
            self._checking = None

    async def _check_each(self) -> None:
        async with self._claiming:
            while self._doubted:
                job_id = next(iter(self._doubted))
                if known := self._queued.get(job_id):
                    now = await self._read(known)
                    if (now.status, now.owner) != (JobStatus.QUEUED, known.owner):
                        self._drop(job_id)
                self._doubted.discard(job_id)
        self.wake()

    async def stop(self) -> None:
        """Look no more at what others told."""
        if self._checking is not None:
            self._checking.cancel()
            await asyncio.wait([self._checking])

    @property
    def claiming(self) -> bool:
        """Whether a job is being claimed right now."""
        return self._is_claiming

    def has(self, job: Job) -> bool:
        """Return whether a job waits in the queue of this notebook."""
        return job.id in self._queued

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
                self._queued[job.id] = job
                self._bus.publish(JobQueued(thread_id=job.thread_id, job=job))
                self.wake()
