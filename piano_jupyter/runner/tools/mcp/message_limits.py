"""How much a server may send: bytes in a message, messages in a second, tools in a list."""

import asyncio
import time

MAX_MESSAGE_BYTES = 16 * 2**20
MAX_MESSAGES_A_SECOND = 500  #: on average, over a second; of more, the rest waits in the server's pipe
MAX_STREAMS_A_SECOND = 2  #: of events that are opened again: a server says itself how soon
MAX_TOOLS, MAX_PAGES = 500, 50  #: of a server's list
MAX_DESCRIPTION_CHARS = 4000
MAX_SCHEMA_CHARS, MAX_SCHEMA_DEPTH = 64_000, 40


class MessageRate:
    """Slows a reader down to so many messages a second."""

    def __init__(self, a_second: int = MAX_MESSAGES_A_SECOND) -> None:
        self._most = a_second
        self._count, self._since = 0, time.monotonic()

    async def wait(self) -> None:
        """Wait until the next message may be read."""
        self._count += 1
        if self._count >= self._most:
            await asyncio.sleep(max(0.0, self._since + 1 - time.monotonic()))
            self._count, self._since = 0, time.monotonic()
