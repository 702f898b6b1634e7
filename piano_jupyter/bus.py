"""EventBus: subscribe, publish. Everything is called on the loop's thread."""

import asyncio
from collections.abc import AsyncIterator, Callable
from uuid import UUID
from weakref import WeakSet

from piano_jupyter.events import Event
from piano_jupyter.logs import logger

log = logger(__name__)

Handler = Callable[[Event], None]


class EventBus:
    """Tells each subscriber what has happened; one that raises is logged and the rest still hear."""

    def __init__(self) -> None:
        self._streams: WeakSet[EventStream] = WeakSet()
        self._subscribers: list[tuple[Handler, tuple[type[Event], ...], UUID | None]] = []

    def subscribe(self, handler: Handler, *kinds: type[Event], thread: UUID | None = None) -> Callable[[], None]:
        """Call `handler` with each event of these kinds (all, if none is named) of this thread; return the undo.

        Events that concern no thread reach every subscriber whose kinds fit.
        """
        entry = (handler, kinds or (Event,), thread)
        self._subscribers.append(entry)

        def unsubscribe() -> None:
            if entry in self._subscribers:
                self._subscribers.remove(entry)

        return unsubscribe

    def stream(self, *kinds: type[Event], thread: UUID | None = None) -> "EventStream":
        """Return the events from now on as an async iterator; close it to end the subscription."""
        stream = EventStream(self, kinds, thread)
        self._streams.add(stream)
        return stream

    def close(self) -> None:
        """End all streams."""
        for stream in tuple(self._streams):
            stream.end()

    def publish(self, event: Event) -> None:
        """Tell everyone, in the order of subscription, before returning."""
        for handler, kinds, thread in tuple(self._subscribers):
            if isinstance(event, kinds) and (thread is None or event.thread_id in {None, thread}):
                try:
                    handler(event)
                except Exception:
                    log.exception("a subscriber of %s raised", type(event).__name__)


class EventStream(AsyncIterator[Event]):
    """Events as they come, for `async for`; `aclose` ends it, also for one who waits."""

    def __init__(self, bus: EventBus, kinds: tuple[type[Event], ...], thread: UUID | None) -> None:
        self._queue: asyncio.Queue[Event | None] = asyncio.Queue()
        self._unsubscribe = bus.subscribe(self._queue.put_nowait, *kinds, thread=thread)

    async def __anext__(self) -> Event:
        event = await self._queue.get()
        if event is None:
            raise StopAsyncIteration
        return event

    async def aclose(self) -> None:
        """End the subscription."""
        self.end()

    def end(self) -> None:
        """End it now: what came before is still to be had."""
        self._unsubscribe()
        self._queue.put_nowait(None)
