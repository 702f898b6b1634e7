"""BatchRows: the rows of a table as a batch asks them: their keys, which of them are known, and the rest to ask.

Of a long table only the keys are in memory, and as many rows as are looked up at once.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Iterator, Mapping
from itertools import islice
from typing import Any, NamedTuple

from piano_jupyter.batch.frames import Frame
from piano_jupyter.batch.row_key import row_key
from piano_jupyter.batch.row_template import RowTemplate
from piano_jupyter.batch_records import KEY_BYTES
from piano_jupyter.errors import PianoError
from piano_jupyter.variables.frame_text import CHARS_PER_TOKEN

CHUNK_ROWS = 8_192  #: that are in memory at once
LOOKUP_BYTES = 65_536 * KEY_BYTES  #: of keys that are looked up at once: each look-up reads all keys that are stored
MEASURED_ROWS = 64  #: of a chunk, to estimate how long a prompt is

Row = Mapping[str, Any]
Known = Callable[[bytes, int], Awaitable[bytes]]  #: returns a digit for each key of a chunk, given its first place
UNKNOWN = b"0"


class UnknownRow(NamedTuple):
    """A row to ask."""

    place: int  #: in the table
    key: bytes
    row: Row
    is_repeated: bool  #: whether an earlier row has the same key, so that its answer serves


class BatchRows:
    """The first `limit` rows of a table, or all. Raises PianoError for a column that there is not."""

    def __init__(
        self, frame: Frame, template: RowTemplate, model: str, options: Mapping[str, Any], limit: int | None = None
    ) -> None:
        if frame.count or frame.columns:  # no dicts have no columns
            template.check(frame.columns)
        self._frame, self._template = frame, template
        self._key_of = row_key(template, model, options)
        self.count = frame.count if limit is None else min(int(limit), frame.count)
        self.keys = bytearray()  #: of all rows, once they are surveyed
        self._signs = bytearray()
        self._chars = self._measured = 0

    @property
    def unknown(self) -> int:
        """How many rows are not known."""
        return self._signs.count(UNKNOWN)

    @property
    def known(self) -> int:
        """How many rows are known."""
        return len(self._signs) - self.unknown

    @property
    def tokens(self) -> int:
        """About how many tokens the model reads for the rows that are not known."""
        return round(self.unknown * self._chars / max(1, self._measured) / CHARS_PER_TOKEN)

    async def survey(self, known: Known, tell: Callable[[int], None] = lambda _: None) -> None:
        """Find the key of each row, and whether it is known; `tell` how many rows are read, where more follow."""
        rows = self._rows()
        while keys := await asyncio.to_thread(self._next_keys, rows):
            self.keys += keys
            if len(self.keys) < self.count * KEY_BYTES:
                tell(len(self.keys) // KEY_BYTES)
            if len(self.keys) - len(self._signs) * KEY_BYTES >= LOOKUP_BYTES:
                await self._look_up(known)
        await self._look_up(known)

    async def to_ask(self, known: Known) -> AsyncGenerator[UnknownRow, None]:
        """Yield the rows that are not known."""
        rows = self._rows()
        for start in range(0, self._signs.rfind(UNKNOWN) + 1, CHUNK_ROWS):
            chunk = await asyncio.to_thread(list, islice(rows, CHUNK_ROWS))
            if self._signs.find(UNKNOWN, start, start + len(chunk)) < 0:
                continue
            keys = bytes(self.keys[start * KEY_BYTES : (start + len(chunk)) * KEY_BYTES])
            signs, seen = await known(keys, start), set[bytes]()
            for at, row in enumerate(chunk):
                if self._signs[start + at : start + at + 1] == UNKNOWN:
                    key = keys[at * KEY_BYTES : (at + 1) * KEY_BYTES]
                    if self._key_of(row) != key:
                        raise PianoError(f"row {start + at + 1:,} has changed since the table was read; run it again")
                    yield UnknownRow(start + at, key, row, key in seen or signs[at : at + 1] != UNKNOWN)
                    seen.add(key)

    async def _look_up(self, known: Known) -> None:
        place = len(self._signs)
        if keys := bytes(self.keys[place * KEY_BYTES :]):
            self._signs += await known(keys, place)

    def _rows(self) -> Iterator[Row]:
        return islice(self._frame.rows(self._template.columns), self.count) if self.count else iter(())

    def _next_keys(self, rows: Iterable[Row]) -> bytes:
        chunk = list(islice(rows, CHUNK_ROWS))
        for row in chunk[:MEASURED_ROWS]:
            try:
                messages = self._template.messages(row)
            except PianoError:  # it is not sent
                messages = []
            self._measured += 1
            self._chars += sum(len(each["content"]) for each in messages)
        return b"".join(map(self._key_of, chunk))
