"""ServerRoom: how many requests a server gets at once, fewer after it said that it is busy. Knows no HTTP."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

DOWN_S = 30.0  #: for which a server that does not answer is asked only if no other is there


class ServerRoom:
    """The room of one server, in requests: `size` at most.

    After each busy answer the room is halved and nothing is sent for the pause that the server asked for; each answer
    makes it a little larger again. A room of one is never closed.
    """

    def __init__(self, size: int, now: Callable[[], float] = time.monotonic) -> None:
        self.size, self._now = max(1, size), now
        self._allowed = float(self.size)
        self._taken = 0
        self._closed_until = self._down_until = 0.0
        self._changed = asyncio.Event()

    @property
    def allowed(self) -> int:
        """How many requests it gets at once now."""
        return int(self._allowed)

    @property
    def load(self) -> float:
        """How full it is: 1.0 is full."""
        return self._taken / self.size

    @property
    def is_down(self) -> bool:
        """Whether it did not answer a moment ago."""
        return self._now() < self._down_until

    @asynccontextmanager
    async def place(self) -> AsyncIterator[None]:
        """Wait until there is room for one more request, and keep it taken meanwhile."""
        while self._taken >= self.allowed or self._now() < self._closed_until:
            self._changed.clear()
            pause = self._closed_until - self._now()
            try:
                async with asyncio.timeout(pause if pause > 0 else None):
                    await self._changed.wait()
            except TimeoutError:
                continue  # the pause is over
        self._taken += 1
        try:
            yield
        finally:
            self._taken -= 1
            self._changed.set()

    def answered(self) -> None:
        """Note an answer."""
        self._down_until = 0.0
        self._allowed = min(self.size, self._allowed + 1 / self._allowed)

    def busy(self, pause: float) -> None:
        """Note that the server has too much to do, and is to be left alone for so many seconds."""
        if self._now() >= self._closed_until:  # those that were in flight together count once
            self._allowed = max(1.0, self._allowed / 2)
        self._closed_until = max(self._closed_until, self._now() + pause)

    def down(self) -> None:
        """Note that the server does not answer."""
        self._down_until = self._now() + DOWN_S
