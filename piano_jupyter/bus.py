"""EventBus: subscribe and publish. All calls are made on the event loop's thread."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any
from uuid import UUID
from weakref import WeakSet

from piano_jupyter.events import DeltasDropped, Event, MessageDelta
from piano_jupyter.logs import logger

log = logger(__name__)

MAX_UNREAD = 1_000  # events of a stream; from then on it drops pieces of answers

Handler = Callable[[Any], None]  #: of events of the kinds that it subscribes to


class EventBus:
    """Passes each event to its subscribers; one that raises is logged, and the others are still called."""

    def __init__(self) -> None:
        self._streams: WeakSet[EventStream] = WeakSet()
        self._subscribers: list[tuple[Handler, tuple[type[Event], ...], UUID | None]] = []

    def subscribe(self, handler: Handler, *kinds: type[Event], thread: UUID | None = None) -> Callable[[], None]:
        """Call `handler` with each event of these kinds (all by default) and this thread; return how to unsubscribe.

        Events that concern no thread reach the subscribers of every thread.
        """
        entry = (handler, kinds or (Event,), thread)
        self._subscribers.append(entry)

        def unsubscribe() -> None:
            if entry in self._subscribers:
                self._subscribers.remove(entry)

        return unsubscribe

    def stream(self, *kinds: type[Event], thread: UUID | None = None) -> "EventStream":
        """Return the events from now on as an async iterator; close it to unsubscribe."""
        stream = EventStream(self, kinds, thread)
        self._streams.add(stream)
        return stream

    def close(self) -> None:
        """End all streams."""
        for stream in tuple(self._streams):
            stream.end()

    def publish(self, event: Event) -> None:
        """Call every subscriber, in the order of subscription, before returning."""
        for handler, kinds, thread in tuple(self._subscribers):
            if isinstance(event, kinds) and (thread is None or event.thread_id in {None, thread}):
                try:
                    handler(event)
                except Exception:
                    log.exception("a subscriber of %s raised", type(event).__name__)


class EventStream(AsyncIterator[Event]):
    """Events for `async for`; `aclose` ends it, also while somebody waits for the next one.

    Where it is not read, it keeps every event but pieces of answers beyond `MAX_UNREAD`: a `DeltasDropped` stands in
    their place.
    """

    def __init__(self, bus: EventBus, kinds: tuple[type[Event], ...], thread: UUID | None) -> None:
        self._queue: asyncio.Queue[Event | None] = asyncio.Queue()
        self._dropped = 0
        self._unsubscribe = bus.subscribe(self._put, *kinds, thread=thread)

    async def __anext__(self) -> Event:
        if self._queue.empty():
            self._put_gap()
        event = await self._queue.get()
        if event is None:
            raise StopAsyncIteration
        return event

    async def aclose(self) -> None:
        """Unsubscribe."""
        self.end()

    def end(self) -> None:
        """Unsubscribe now; events published before can still be read."""
        self._unsubscribe()
        self._put_gap()
        self._queue.put_nowait(None)

    def _put(self, event: Event) -> None:
        if isinstance(event, MessageDelta) and self._queue.qsize() >= MAX_UNREAD:
            self._dropped += 1
        else:
            self._put_gap()
            self._queue.put_nowait(event)

    def _put_gap(self) -> None:
        if self._dropped:
            self._queue.put_nowait(DeltasDropped(count=self._dropped))
            self._dropped = 0
