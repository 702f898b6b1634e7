"""The latest events, and the results of jobs for those who wait for them."""

import asyncio
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime
from uuid import UUID

from piano_jupyter.bus import EventBus
from piano_jupyter.errors import PianoError
from piano_jupyter.events import (
    BatchProgress,
    Event,
    JobDone,
    JobEnded,
    JobFailed,
    JobQueued,
    MessageDelta,
    ModelLoading,
    ThreadDeleted,
)
from piano_jupyter.records import Job, Message

MAX_EVENTS = 1000  # that are remembered


class JobResults:
    """Subscribes to all events; remembers them, but no pieces of answers."""

    def __init__(self, bus: EventBus) -> None:
        self._events: deque[tuple[datetime, Event]] = deque(maxlen=MAX_EVENTS)
        self._expected: dict[UUID, tuple[Job, asyncio.Future[Event | None]]] = {}
        bus.subscribe(self._follow)

    def recent(self, last: int) -> list[tuple[datetime, Event]]:
        """Return the latest events, each with its time (UTC), oldest first."""
        return list(self._events)[-last:] if last > 0 else []

    async def answer(self, job: Job) -> Message | None:
        """Wait for a job's answer; return None if it was cancelled or given up, or ended before this process began.

        Raises the error that the job failed with.
        """
        known = (event for _, event in reversed(self._events) if isinstance(event, JobEnded) and event.job_id == job.id)
        _, coming = self._expected.get(job.id, (job, None))
        end = await asyncio.shield(coming) if coming is not None else next(known, None)
        if isinstance(end, JobFailed):
            raise end.error or PianoError(end.reason)
        return end.message if isinstance(end, JobDone) else None

    @property
    def expected(self) -> list[Job]:
        """The jobs whose end is waited for, as they were first heard of."""
        return [job for job, _ in self._expected.values()]

    def expect(self, job: Job) -> None:
        """Have callers wait for the end of a job that is queued or runs, in whichever notebook."""
        if job.id not in self._expected:
            self._expected[job.id] = job, asyncio.get_running_loop().create_future()

    def give_up(self, job: Job) -> None:
        """End the wait for a job that will not end by itself, or has ended: those who wait look for themselves."""
        self._end(job.id, None)

    def close(self) -> None:
        """Raise in those who still wait."""
        for _, end in self._expected.values():
            end.set_exception(
                PianoError(
                    "the Piano was closed before the answer came; the job continues when you resume it (%piano resume)"
                )
            )
            end.exception()  # else asyncio warns where nobody waits
        self._expected.clear()

    def _follow(self, event: Event) -> None:
        if isinstance(event, ThreadDeleted):
            self._forget(lambda each: each.thread_id == event.thread_id)
        elif isinstance(event, BatchProgress):  # told several times a second
            self._forget(lambda each: isinstance(each, BatchProgress) and each.batch_id == event.batch_id)
        if not isinstance(event, MessageDelta):
            if isinstance(event, ModelLoading) and self._events and isinstance(self._events[-1][1], ModelLoading):
                self._events.pop()  # published each second
            self._events.append((datetime.now(UTC), event))
        if isinstance(event, JobQueued):  # again, if its kernel died
            self.expect(event.job)
        elif isinstance(event, JobEnded):
            self._end(event.job_id, event)

    def _end(self, job_id: UUID, end: Event | None) -> None:
        if job_id in self._expected:
            _, coming = self._expected.pop(job_id)
            coming.set_result(end)

    def _forget(self, is_forgotten: Callable[[Event], bool]) -> None:
        kept = [each for each in self._events if not is_forgotten(each[1])]
        self._events.clear()
        self._events.extend(kept)
