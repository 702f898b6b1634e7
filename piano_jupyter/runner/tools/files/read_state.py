"""What each thread of talk has last read of each file: who edits must know what is there.

Only a hash is kept for long; the text itself, which tells what changed since, while there is room for it.
"""

import difflib
import hashlib
import threading
from collections import OrderedDict
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from uuid import UUID

from piano_jupyter.errors import ToolError
from piano_jupyter.runner.tools.files.text_file import whole
from piano_jupyter.runner.tools.files.workspace import refused
from piano_jupyter.text.truncation import truncated

MOST_FILES = 10_000  #: of all threads
MOST_BYTES = 8 << 20  #: of the texts that are kept
LARGEST = 256 << 10  #: bytes of one of them
MOST_LINES = 60  #: of a difference that are told
LONGEST_LINE = 300  #: characters of one of them
MOST_COMPARED = 4_000  #: lines: beyond that, a comparison takes seconds


def short_hash(data: bytes) -> str:
    """Return what tells one content from another."""
    return hashlib.sha256(data).hexdigest()[:12]


@dataclass(slots=True)
class _ReadRecord:
    hash: str
    data: bytes | None


class ReadState:
    """What was read, by thread and file; the least recently used goes first."""

    def __init__(self) -> None:
        self._read: OrderedDict[tuple[UUID, Hashable], _ReadRecord] = OrderedDict()
        self._bytes = 0
        self._guard = threading.Lock()

    def note(self, thread: UUID | None, file: Hashable, data: bytes) -> None:
        """Keep that the thread knows this content of the file."""
        if thread is None:
            return
        with self._guard:
            self._forget((thread, file))
            self._read[thread, file] = _ReadRecord(short_hash(data), data if len(data) <= LARGEST else None)
            self._bytes += len(data) if len(data) <= LARGEST else 0
            for each in list(self._read.values()) if self._bytes > MOST_BYTES else ():
                if self._bytes > MOST_BYTES and each.data is not None:
                    self._bytes, each.data = self._bytes - len(each.data), None
            while len(self._read) > MOST_FILES:
                self._forget(next(iter(self._read)))

    def check(self, thread: UUID | None, file: Hashable, data: bytes, shown: str) -> None:
        """Raise ToolError where the thread does not know this content of the file. Without a thread nobody is asked."""
        if thread is None:
            return
        with self._guard:
            known = self._read.get((thread, file))
            if known is not None:
                self._read.move_to_end((thread, file))
        if known is None:
            raise refused("read_first", f"read {shown!r} before you edit it")
        if known.hash != short_hash(data):
            told = f"{shown!r} changed since it was read here (sha256 now {short_hash(data)}); read it again"
            raise refused("stale", told if known.data is None else "\n".join([told, *_changes(known.data, data)]))

    def _forget(self, key: tuple[UUID, Hashable]) -> None:
        gone = self._read.pop(key, None)
        self._bytes -= len(gone.data) if gone and gone.data else 0


def _changes(old: bytes, new: bytes) -> list[str]:
    """Return what changed, as lines with - and +."""
    try:
        before, after = (whole(each, "").text.splitlines() for each in (old, new))
    except ToolError:
        return ["[it is no text any more]"]
    lines = [truncated(line, LONGEST_LINE) for line in _differences(before, after)]
    if len(lines) > MOST_LINES:
        return [*lines[:MOST_LINES], f"[{len(lines) - MOST_LINES:,} more lines of this difference]"]
    return lines or ["[only its encoding or its line ends]"]


def _differences(old: Sequence[str], new: Sequence[str]) -> Iterator[str]:
    shorter = min(len(old), len(new))
    head = next((at for at in range(shorter) if old[at] != new[at]), shorter)
    most = shorter - head
    tail = next((at for at in range(most) if old[-1 - at] != new[-1 - at]), most)
    old, new = old[head : len(old) - tail], new[head : len(new) - tail]
    if max(len(old), len(new)) > MOST_COMPARED:
        yield f"@@ line {head + 1}: {len(old):,} lines became {len(new):,} others @@"
        return
    for what, start, end, at, to in difflib.SequenceMatcher(None, old, new).get_opcodes():
        if what != "equal":
            yield f"@@ line {head + at + 1} @@"
            yield from (f"-{line}" for line in old[start:end])
            yield from (f"+{line}" for line in new[at:to])
