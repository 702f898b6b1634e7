"""News: tells the pages what has changed beside the conversation, so that they ask for what they show of it.

It names topics only ("threads", "agents", "model", "settings", "batches"). Many changes at once become one message.
"""

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

from piano_jupyter.bus import EventBus
from piano_jupyter.config import PianoConfig
from piano_jupyter.events import (
    AgentAdded,
    BatchProgress,
    Event,
    EventsMissed,
    JobEnded,
    ModelLoading,
    ThreadChanged,
    ThreadDeleted,
    ThreadOpened,
)

DELAY_S = 0.2  # from the first change to the message about it
SETTINGS = ["mode", "base_url", "default_model", "embedded", "max_demand"]
TOPICS: dict[type[Event], tuple[str, ...]] = {
    ThreadOpened: ("threads",),
    ThreadChanged: ("threads", "agents"),
    ThreadDeleted: ("threads",),
    AgentAdded: ("agents",),
    JobEnded: ("threads", "model"),
    ModelLoading: ("model",),
    BatchProgress: ("batches",),
    EventsMissed: ("threads", "agents", "batches"),
}

Send = Callable[[list[str], dict[str, Any] | None], None]  # with topics, and how far the loading of a model is


class News:
    """Follows a bus and the settings until it is closed. For one event loop, on which it calls `send`."""

    def __init__(self, bus: EventBus, config: PianoConfig, loop: asyncio.AbstractEventLoop, send: Send) -> None:
        self._config, self._loop, self._send = config, loop, send
        self._topics: dict[str, None] = {}
        self._loading: dict[str, Any] | None = None
        self._closed = False
        self._unsubscribe = bus.subscribe(self._follow, *TOPICS)
        config.observe(self._setting_changed, SETTINGS)

    def close(self) -> None:
        """Follow no more; may be called twice."""
        if not self._closed:
            self._closed = True
            self._unsubscribe()
            self._config.unobserve(self._setting_changed, SETTINGS)

    def _follow(self, event: Event) -> None:
        if isinstance(event, ModelLoading):
            self._loading = {"note": event.note, "fraction": event.fraction, "seconds": event.seconds}
        self.add(*next(topics for kind, topics in TOPICS.items() if isinstance(event, kind)))

    def _setting_changed(self, _change: object) -> None:
        """Take in that a setting was changed, on whichever thread."""
        with contextlib.suppress(RuntimeError):  # the loop is closed, and the panel with it
            self._loop.call_soon_threadsafe(self.add, "settings", "model")

    def add(self, *topics: str) -> None:
        """Tell the pages about topics, together with what else changes in the next moment."""
        if not self._topics:
            self._loop.call_later(DELAY_S, self._flush)
        self._topics |= dict.fromkeys(topics)

    def _flush(self) -> None:
        topics, self._topics = list(self._topics), {}
        loading, self._loading = self._loading, None
        if not self._closed:
            self._send(topics, loading)
