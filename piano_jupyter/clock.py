"""Time and ids: the two things that would make a recorded notebook differ from its replay.

`Clock()` is the real one. `Clock(start)` advances by a millisecond a call and draws its ids from a fixed seed, so that
the same calls in the same order give the same times and ids.
"""

import random
import secrets
import threading
import time
from datetime import UTC, datetime, timedelta
from uuid import UUID


class Clock:
    """Gives UTC times and UUIDv7 ids (RFC 9562: 48 bits of Unix milliseconds, 0 before 1970, then random bits)."""

    def __init__(self, start: datetime | None = None) -> None:
        self._recorded = start
        self._random = random.Random(0)  # noqa: S311  Repeatable on purpose; live ids come from `secrets`.
        self._lock = threading.Lock()

    @property
    def repeats(self) -> bool:
        """Whether the same calls in the same order give the same times and ids."""
        return self._recorded is not None

    def now(self) -> datetime:
        """Return the current time in UTC."""
        with self._lock:
            if self._recorded is None:
                return datetime.now(UTC)
            self._recorded += timedelta(milliseconds=1)
            return self._recorded

    def monotonic(self) -> float:
        """Return seconds that only increase, to measure how long something takes."""
        return time.monotonic()

    def new_id(self) -> UUID:
        """Return a new UUIDv7."""
        milliseconds = max(0, int(self.now().timestamp() * 1000))
        bits = secrets.randbits(74) if self._recorded is None else self._random.getrandbits(74)
        return UUID(int=milliseconds << 80 | 0x7 << 76 | (bits >> 62) << 64 | 0b10 << 62 | bits & (1 << 62) - 1)
