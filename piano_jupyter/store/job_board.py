"""JobBoard: the jobs that wait or run, of all kernels, as the results of what is written show them.

The store process is the only one that writes, so that the scheduler need not read the database.
"""

from collections.abc import Callable, Iterator
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
        self._jobs: dict[UUID, QueuedJob] = {}
        self._asked: dict[UUID, UUID] = {}  #: approvals that wait for the user, and their jobs

    async def fill(self, store: Store) -> None:
        """Take in what waits and runs already, and nothing else."""
        self._jobs.clear()
        self._asked.clear()
        for job in await store.jobs(*OPEN):
            self._note_job(job)
            waiting = await store.unbegun(job.id) if job.status is JobStatus.RUNNING else []
            self._asked |= {each.id: job.id for each in waiting if each.allowed is None}

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
        each = self._jobs.get(job_id)
        return each if each is not None and each.job.status is JobStatus.QUEUED else None

    @property
    def waiting(self) -> list[Job]:
        """The jobs that wait."""
        return [each.job for each in self._jobs.values() if each.job.status is JobStatus.QUEUED]

    @property
    def running(self) -> list[Job]:
        """The jobs that run."""
        return [each.job for each in self._jobs.values() if each.job.status is JobStatus.RUNNING]

    @property
    def idle(self) -> set[UUID]:
        """The running jobs that wait for the user, and leave their model free."""
        return set(self._asked.values())

    def _note_job(self, job: Job) -> None:
        before = self._jobs.pop(job.id, None)
        was = before.job.status if before else None
        if job.status in OPEN:
            since = before.since if before and was is job.status else self._now()
            self._jobs[job.id] = QueuedJob(job, since)
        if was is JobStatus.RUNNING and job.status is not was:
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
