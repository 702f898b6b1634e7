"""EventRelay: the buses of all kernels of a workspace as one: what one publishes, the subscribers of all hear."""

from collections.abc import Callable

from piano_jupyter import events
from piano_jupyter.bus import EventBus
from piano_jupyter.events import Event, JobFailed, JobQueued
from piano_jupyter.records import Job, JobStatus
from piano_jupyter.store.server.packing import Packing

NOT_RELAYED = {Event, events.Closed, events.EventsMissed}
KINDS: dict[str, type[Event]] = {
    name: kind
    for name, kind in vars(events).items()
    if isinstance(kind, type) and issubclass(kind, Event) and kind not in NOT_RELAYED
}
NAME_ENDS = b"\n"


class EventRelay:
    """Sends what is published on a bus to the other kernels, if there are any, and publishes on it what they send."""

    def __init__(self, bus: EventBus, send: Callable[[bytes], None], is_shared: Callable[[], bool]) -> None:
        self._bus, self._send, self._is_shared = bus, send, is_shared
        self._received: Event | None = None
        self._packings: dict[str, Packing[Event]] = {}
        self.close = bus.subscribe(self._published, *KINDS.values())

    def receive(self, data: bytes) -> None:
        """Publish what another kernel sent."""
        name, _, packed = data.partition(NAME_ENDS)
        self.publish_here(self._packing(name.decode()).unpack(packed))

    def recovered(self, jobs: list[Job]) -> None:
        """Publish what became of jobs of a kernel that is gone, which every kernel is told."""
        for job in jobs:
            if job.status is JobStatus.FAILED:
                self.publish_here(JobFailed(thread_id=job.thread_id, job=job, reason=job.reason or ""))
            else:
                self.publish_here(JobQueued(thread_id=job.thread_id, job=job))

    def publish_here(self, event: Event) -> None:
        """Publish what the other kernels know, or are told by others."""
        outer, self._received = self._received, event
        try:
            self._bus.publish(event)
        finally:
            self._received = outer

    def _published(self, event: Event) -> None:
        if event is not self._received and self._is_shared():
            name = type(event).__name__
            self._send(name.encode() + NAME_ENDS + self._packing(name).pack(event))

    def _packing(self, name: str) -> Packing[Event]:
        if name not in self._packings:
            self._packings[name] = Packing(KINDS[name])
        return self._packings[name]
