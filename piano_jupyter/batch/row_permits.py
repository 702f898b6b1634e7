"""RowPermits: how many rows are in flight, and how many may be, which can change at any time."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class RowPermits:
    """Lets `limit` rows be in flight at once. A lower limit stops no row that has begun."""

    def __init__(self) -> None:
        self.in_flight = 0
        self._limit = 0
        self._waiting: deque[asyncio.Future[None]] = deque()

    @property
    def limit(self) -> int:
        """How many rows may be in flight."""
        return self._limit

    @limit.setter
    def limit(self, limit: int) -> None:
        self._limit = limit
        self._let_in()

    @asynccontextmanager
    async def row(self) -> AsyncIterator[None]:
        """Wait until one more row may begin, and count it while it is in flight."""
        if self.in_flight < self._limit and not self._waiting:
            self.in_flight += 1
        else:
            await self._turn()
        try:
            yield
        finally:
            self.in_flight -= 1
            self._let_in()

    async def _turn(self) -> None:
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():  # it was let in at the same moment
                self.in_flight -= 1
                self._let_in()
            raise

    def _let_in(self) -> None:
        while self._waiting and self.in_flight < self._limit:
            turn = self._waiting.popleft()
            if not turn.done():
                self.in_flight += 1
                turn.set_result(None)
