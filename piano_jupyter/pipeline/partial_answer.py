"""PartialAnswer: what has been written of the answer of a running job, so that it is not lost if the job is stopped."""

from io import StringIO
from uuid import UUID

from piano_jupyter import events

KEPT_EVERY_S = 5.0  # while an answer is written, so that little is lost if the process dies
MAX_KEPT_CHARS = 1_000_000


class PartialAnswer:
    """The text of the message that is being written, from the events of its turn."""

    def __init__(self, now: float) -> None:
        self._message: UUID | None = None
        self._text = StringIO()
        self._kept_chars, self._kept_at = 0, now

    def take(self, event: events.Event) -> None:
        """Take in an event: a piece of a message, or that one is stored."""
        if isinstance(event, events.MessageDelta):
            if event.message_id != self._message:
                self._start(event.message_id)
            self._text.write(event.text)
        elif isinstance(event, events.MessageEvent) and event.message.id == self._message:
            self._start(None)

    def _start(self, message: UUID | None) -> None:
        self._message, self._text, self._kept_chars = message, StringIO(), 0

    def to_keep(self, now: float | None = None) -> str:
        """Return the text if there is more of it than when it was last kept; at `now` only once it is time to keep."""
        written = self._text.tell()
        if written == self._kept_chars or (now is not None and now - self._kept_at < KEPT_EVERY_S):
            return ""
        self._kept_chars, self._kept_at = written, now if now is not None else self._kept_at
        return self._text.getvalue()[:MAX_KEPT_CHARS].rstrip()
