"""Whether a request is sent again, and when. It knows no HTTP: trouble comes as a `TransientError`."""

import random
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from piano_jupyter.errors import ModelError
from piano_jupyter.runner.model.protocol import Reply

FIRST_PAUSE = 0.3  # seconds, twice as many each time
LONGEST_PAUSE = 30.0  # seconds, whatever a server asks for


class TransientError(Exception):
    """A request failed in a way that may pass: with which error, and for how long the server asks to be let alone."""

    def __init__(self, error: ModelError, pause: float = 0.0) -> None:
        super().__init__(str(error))
        self.error, self.pause = error, pause


class RetryBudget:
    """One request's tries: `allowed` more before its answer begins, one more in the middle, one for an empty answer."""

    def __init__(self, allowed: int) -> None:
        self._left, self._in_the_middle, self._if_empty = allowed, allowed > 0, allowed > 0
        self._made = 0
        self.told = False  #: something of the answer was told

    def pause(self, trouble: TransientError) -> float:
        """Return the seconds until the next try. Raises the trouble's error where there is none."""
        if not (self._in_the_middle if self.told else self._left):
            raise trouble.error from trouble
        if self.told:
            self._in_the_middle = False
        else:
            self._left -= 1
        backoff = FIRST_PAUSE * 2**self._made * random.uniform(0.5, 1.5)  # noqa: S311  Jitter.
        self._made += 1
        return min(trouble.pause * random.uniform(1, 1.1) or backoff, LONGEST_PAUSE)  # noqa: S311

    def check(self, reply: Reply) -> None:
        """Raise TransientError for an empty reply, once; one that was cut for its length would be cut again."""
        if self._if_empty and not (reply.calls or reply.text.strip() or reply.finish_reason == "length"):
            self._if_empty = False
            raise TransientError(ModelError("the model gave an empty answer"))


def retry_after(headers: Mapping[str, str]) -> float:
    """Return for how many seconds a server asks to be let alone: a number, or a date."""
    said = headers.get("retry-after", "")
    try:
        seconds = float(said)
    except ValueError:
        try:
            date = parsedate_to_datetime(said)
        except ValueError:
            return 0.0
        seconds = (date.replace(tzinfo=date.tzinfo or UTC) - datetime.now(UTC)).total_seconds()
    return min(seconds, LONGEST_PAUSE) if seconds > 0 else 0.0
