"""How much a server may send: bytes in a message, messages in a second, tools in a list."""

import asyncio
import re
import time

MAX_MESSAGE_BYTES = 16 * 2**20
MAX_VALUES = 200_000  #: in a message: to read millions of empty ones takes seconds and gigabytes
TOO_LARGE = f"it sent a message of more than {MAX_MESSAGE_BYTES // 2**20} MB"
TOO_MANY_VALUES = f"it sent a message of more than {MAX_VALUES:,} values"
HALF_CHARACTER = re.compile(
    rb"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(u[dD][89a-fA-F][0-9a-fA-F]{2})|.)", re.DOTALL
)  #: in group 1; the other escapes of JSON are passed over
NO_CONTROL_CHARACTERS = bytes(each if each > 31 or each in b"\r\n" else 32 for each in range(256))
STRING = re.compile(rb'"[^"]*"?')  #: once nothing in it is escaped; the last one may have no end
MAX_MESSAGES_A_SECOND = 500  #: on average, over a second; of more, the rest waits in the server's pipe
#: of events: a message has two lines, with one or two characters at the end
MAX_LINES_A_SECOND = 4 * MAX_MESSAGES_A_SECOND
MAX_STREAMS_A_SECOND = 2  #: of events that are opened again: a server says itself how soon
MAX_LISTED, MAX_PAGES = 500, 50  #: of a server's list of tools, prompts or resources
MAX_DESCRIPTION_CHARS = 4000
MAX_SCHEMA_CHARS, MAX_SCHEMA_DEPTH = 64_000, 40


def repaired(message: bytes) -> bytes:
    """Return a message without what the SDK does not read as JSON.

    That is half an emoji (as an escape, where a server has cut a text), what is no UTF-8, and control characters.
    """
    if not message.isascii():
        message = message.decode("utf-8-sig", "replace").encode()
    message = message.translate(NO_CONTROL_CHARACTERS)
    if b"\\ud" not in message and b"\\uD" not in message:
        return message
    return HALF_CHARACTER.sub(lambda found: rb"\ufffd" if found[1] else found[0], message)


def has_too_many_values(message: bytes) -> bool:
    """Return whether a message in JSON has more values than are read, without reading it."""
    if _marks(message) <= MAX_VALUES:
        return False
    plain = message.replace(rb"\\", b"").replace(rb"\"", b"")
    return _marks(STRING.sub(b"", plain)) > MAX_VALUES


def _marks(message: bytes) -> int:
    return message.count(b",") + message.count(b"[") + message.count(b"{")


class MessageRate:
    """Slows a reader down to so many messages a second."""

    def __init__(self, a_second: int = MAX_MESSAGES_A_SECOND) -> None:
        self._most = a_second
        self._count, self._since = 0, time.monotonic()
        self._lock = asyncio.Lock()

    async def wait(self, messages: int = 1) -> None:
        """Wait until the next message may be read, or so many."""
        async with self._lock:
            self._count += messages
            if self._count >= self._most:
                await asyncio.sleep(max(0.0, self._since + self._count / self._most - time.monotonic()))
                self._count, self._since = 0, time.monotonic()
