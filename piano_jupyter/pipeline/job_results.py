"""What has happened of late, and how each live job ended: for who looks, and for who waits."""

import asyncio
from collections import deque
from datetime import UTC, datetime
from uuid import UUID

from piano_jupyter.bus import EventBus
from piano_jupyter.errors import PianoError
from piano_jupyter.events import (
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

REMEMBERED = 1000  # events


class JobResults:
    """Listens to the bus; remembers the events, but no pieces of answers."""

    def __init__(self, bus: EventBus) -> None:
        self._events: deque[tuple[datetime, Event]] = deque(maxlen=REMEMBERED)
        self._ends: dict[UUID, asyncio.Future[Event]] = {}
        bus.subscribe(self._note)

    def recent(self, last: int) -> list[tuple[datetime, Event]]:
        """Return the last events, each with its time (UTC), oldest first."""
        return list(self._events)[-last:] if last > 0 else []

    async def answer(self, job: Job) -> Message | None:
        """Wait for a job's answer; return None where this process saw no end of it, or one by cancelling.

        Raises what the job failed with.
        """
        known = (event for _, event in reversed(self._events) if isinstance(event, JobEnded) and event.job_id == job.id)
        end = await asyncio.shield(self._ends[job.id]) if job.id in self._ends else next(known, None)
        if isinstance(end, JobFailed):
            raise end.error or PianoError(end.reason)
        return end.message if isinstance(end, JobDone) else None

    def close(self) -> None:
        """Tell those who still wait that nothing will come."""
        for end in self._ends.values():
            end.set_exception(PianoError("the chat was closed before the answer came; the next one goes on with it"))
            end.exception()  # nobody may wait for it
        self._ends.clear()

    def _note(self, event: Event) -> None:
        if isinstance(event, ThreadDeleted):
            kept = [each for each in self._events if each[1].thread_id != event.thread_id]
            self._events.clear()
            self._events.extend(kept)
        if not isinstance(event, MessageDelta):
            if isinstance(event, ModelLoading) and self._events and isinstance(self._events[-1][1], ModelLoading):
                self._events.pop()  # told each second
            self._events.append((datetime.now(UTC), event))
        if isinstance(event, JobQueued):
            self._ends[event.job_id] = asyncio.get_running_loop().create_future()
        elif isinstance(event, JobEnded) and event.job_id in self._ends:
            self._ends.pop(event.job_id).set_result(event)
