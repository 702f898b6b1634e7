"""Whether and when a request is retried. Independent of HTTP: failures come as a `TransientError`."""

import random
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from piano_jupyter.errors import ModelError
from piano_jupyter.runner.model.protocol import Reply

FIRST_PAUSE_S = 0.3  #: doubled with each retry
MAX_PAUSE_S = 30.0  #: even if a server asks for more
WAIT_PAUSE_S = 0.5  #: between two requests to a server that is known to be starting


class TransientError(Exception):
    """A failure that a retry may fix.

    `pause` is how many seconds the server asked to wait (0: it did not say). A server that is starting is waited for up
    to `wait_s` seconds, however many requests that takes; `note` says so. `busy`: the server has too much to do.
    """

    def __init__(
        self, error: ModelError, pause: float = 0.0, *, wait_s: float = 0.0, note: str = "", busy: bool = False
    ) -> None:
        super().__init__(str(error))
        self.error, self.pause, self.wait_s, self.note, self.busy = error, pause, wait_s, note, busy


class RetryBudget:
    """The retries of one request: `allowed` before its answer starts, one after that, one for an empty answer."""

    def __init__(self, allowed: int, now: Callable[[], float] = time.monotonic) -> None:
        self._allowed, self._now = allowed, now
        self._waiting_since: float | None = None
        self._left, self._may_restart, self._may_retry_empty = allowed, allowed > 0, allowed > 0
        self._retries = 0
        self.answer_started = False  #: part of the answer was already yielded

    def pause(self, failure: TransientError) -> float:
        """Return the seconds until the next retry. Raises the failure's error if none is left."""
        if failure.wait_s and self._allowed and not self.answer_started:
            now = self._now()
            self._waiting_since = now if self._waiting_since is None else self._waiting_since
            if now - self._waiting_since < failure.wait_s:
                return WAIT_PAUSE_S
        if not (self._may_restart if self.answer_started else self._left):
            raise failure.error from failure
        if self.answer_started:
            self._may_restart = False
        else:
            self._left -= 1
        backoff = FIRST_PAUSE_S * 2**self._retries * random.uniform(0.5, 1.5)  # noqa: S311  Jitter.
        self._retries += 1
        return min(failure.pause * random.uniform(1, 1.1) or backoff, MAX_PAUSE_S)  # noqa: S311

    def check_not_empty(self, reply: Reply) -> None:
        """Raise TransientError for an empty reply, once. One that hit its length limit would hit it again."""
        if self._may_retry_empty and not (reply.calls or reply.text.strip() or reply.finish_reason == "length"):
            self._may_retry_empty = False
            raise TransientError(ModelError("the model gave an empty answer"))


def retry_after(headers: Mapping[str, str]) -> float:
    """Return how many seconds a server asks to wait, given as a number or a date."""
    value = headers.get("retry-after", "")
    try:
        seconds = float(value)
    except ValueError:
        try:
            date = parsedate_to_datetime(value)
        except ValueError:
            return 0.0
        seconds = (date.replace(tzinfo=date.tzinfo or UTC) - datetime.now(UTC)).total_seconds()
    return min(seconds, MAX_PAUSE_S) if seconds > 0 else 0.0
