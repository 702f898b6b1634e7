"""JobBoard: the jobs that wait or run, of all kernels, as the results of what is written show them.

The store process is the only one that writes, so that the scheduler need not read the database.
"""

from collections.abc import Callable, Collection, Iterator
from typing import Any
from uuid import UUID

from piano_jupyter.records import Approval, Job, JobStatus
from piano_jupyter.store.base import Store
from piano_jupyter.store.scheduling import QueuedJob

WRITES = {"enqueue", "add_jobs", "claim_next", "ack", "fail", "cancel", "retry", "release", "recover", "take_over"}
NOTED = WRITES | {"request_approval", "decide_approval"}  #: the operations that change what is known here
OPEN = {JobStatus.QUEUED, JobStatus.RUNNING}


class JobBoard:
    """Knows which jobs wait, since when, and which run; `freed` is called when something less runs."""

    def __init__(self, freed: Callable[[], None], now: Callable[[], float]) -> None:
        self._freed, self._now = freed, now
        self._queued: dict[UUID, QueuedJob] = {}
        self._running: dict[UUID, Job] = {}
        self._asked: dict[UUID, UUID] = {}  #: approvals that wait for the user, and their jobs

    async def fill(self, store: Store) -> None:
        """Take in what waits and runs already, and nothing else."""
        self._queued.clear()
        self._running.clear()
        self._asked.clear()
        for job in await store.jobs(*OPEN):
            self._note_job(job)
            waiting = await store.open_approvals(job.id) if job.status is JobStatus.RUNNING else []
            self._asked |= {each.id: job.id for each in waiting}

    def note(self, operation: str, result: Any) -> None:
        """Take in what an operation returned."""
        if operation in WRITES:
            for job in jobs_in(result):
                self._note_job(job)
        elif operation == "request_approval":
            self._note_approval(result)
        elif operation == "decide_approval":
            self._note_approval(result[0])

    def queued(self, job_id: UUID) -> QueuedJob | None:
        """Return a job that waits; None if it does not."""
        return self._queued.get(job_id)

    @property
    def waiting(self) -> list[Job]:
        """The jobs that wait."""
        return [each.job for each in self._queued.values()]

    @property
    def running(self) -> Collection[Job]:
        """The jobs that run."""
        return self._running.values()

    @property
    def idle(self) -> set[UUID]:
        """The running jobs that wait for the user, and leave their model free."""
        return set(self._asked.values())

    def _note_job(self, job: Job) -> None:
        waited, ran = self._queued.pop(job.id, None), self._running.pop(job.id, None)
        if job.status is JobStatus.QUEUED:
            self._queued[job.id] = QueuedJob(job, waited.since if waited else self._now())
        elif job.status is JobStatus.RUNNING:
            self._running[job.id] = job
        if ran and job.status is not JobStatus.RUNNING:
            self._asked = {approval: each for approval, each in self._asked.items() if each != job.id}
            self._freed()

    def _note_approval(self, approval: Approval) -> None:
        if approval.allowed is None:
            self._asked[approval.id] = approval.job_id
            self._freed()
        else:
            self._asked.pop(approval.id, None)


def jobs_in(result: Any) -> Iterator[Job]:
    """Yield the jobs in what an operation returned."""
    if isinstance(result, Job):
        yield result
    elif isinstance(result, list | tuple):
        for each in result:
            yield from jobs_in(each)
