"""Refresher: reads again what is stored where events of other notebooks may have been missed: a connection broke.

That may have been the connection of a notebook that is gone now: nobody goes on waiting for its jobs.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

from piano_jupyter.errors import NotFoundError, PianoError
from piano_jupyter.events import Event, EventsMissed, JobCancelled, JobDone, JobFailed
from piano_jupyter.logs import logger
from piano_jupyter.pauses import growing_pauses
from piano_jupyter.pipeline.job_results import JobResults
from piano_jupyter.records import Job, JobStatus
from piano_jupyter.store.base import Store

log = logger(__name__)
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.1, 30.0  #: before what could not be read is read again: somebody may wait for it


class Refresher:
    """Has the components refresh themselves, in order, then publishes what ended unheard, and `EventsMissed`.

    `find_left` returns the jobs of notebooks that are gone; `publish_here` publishes what the others need not be told.
    """

    def __init__(
        self,
        store: Store,
        job_results: JobResults,
        steps: Sequence[Callable[[], Awaitable[None]]],
        find_left: Callable[[], Awaitable[Sequence[Job]]],
        publish_here: Callable[[Event], None],
    ) -> None:
        self._store, self._job_results = store, job_results
        self._steps, self._find_left, self._publish_here = steps, find_left, publish_here
        self._again = self._is_stopped = False
        self._task: asyncio.Task[None] | None = None

    def begin(self) -> None:
        """Refresh all; if that is being done already, once more. No effect once it was stopped."""
        self._again = True
        if not self._is_stopped and (self._task is None or self._task.done()):
            self._task = asyncio.create_task(self._refresh(), name="piano-refresh")

    async def stop(self) -> None:
        """Refresh no more."""
        self._is_stopped = True
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _refresh(self) -> None:
        pauses = growing_pauses(FIRST_PAUSE_S, LONGEST_PAUSE_S)
        while self._again:
            self._again = False
            try:
                await self._refresh_once()
            except PianoError as error:
                log.warning("what other notebooks did could not be read yet: %s", error)
                self._again = True
                await asyncio.sleep(next(pauses))

    async def _refresh_once(self) -> None:
        for step in self._steps:
            await step()
        for job in self._job_results.expected:
            if event := await self._end_of(job):
                self._publish_here(event)
        for job in await self._find_left():
            self._job_results.give_up(job)
        self._publish_here(EventsMissed())

    async def _end_of(self, waited_for: Job) -> Event | None:
        """Return how a job ended; None if it has not. One that was deleted with its thread was cancelled before."""
        deleted = replace(waited_for, status=JobStatus.CANCELLED)
        try:
            job = await self._store.job(waited_for.id)
        except NotFoundError:
            job = deleted
        if job.status is JobStatus.DONE:
            said = await self._store.messages(job.thread_id)
            answers = [each for each in said if each.job_id == job.id and each.role == "assistant"]
            if answers:
                return JobDone(thread_id=job.thread_id, job=job, message=answers[-1])
            job = deleted
        if job.status is JobStatus.FAILED:
            return JobFailed(thread_id=job.thread_id, job=job, reason=job.reason or "")
        return JobCancelled(thread_id=job.thread_id, job=job) if job.status is JobStatus.CANCELLED else None
