"""ThinkingTimes: for how long models thought before they wrote, as far as that was seen."""

from collections.abc import Callable
from datetime import datetime
from uuid import UUID

from piano_jupyter import events


class ThinkingTimes:
    """When models began to think, and to write, by message."""

    def __init__(self, now: Callable[[], datetime]) -> None:
        self._now = now
        self._begun: dict[UUID, datetime] = {}
        self._seconds: dict[UUID, float] = {}

    def take(self, delta: events.MessageDelta) -> None:
        """Take in a piece of a message."""
        key = delta.message_id
        if delta.reasoning and key not in self._begun:
            self._begun[key] = self._now()
        if delta.text and key in self._begun and key not in self._seconds:
            self._seconds[key] = (self._now() - self._begun[key]).total_seconds()

    def seconds(self, message_id: UUID) -> float | None:
        """Return for how long the model thought; None if it still does, or if that is not known."""
        return self._seconds.get(message_id)
