"""Remembers what each thread last read of each file, because an edit needs the current content.

A hash is kept for each file; the content itself, which shows what has changed, only within a limit.
"""

import difflib
import hashlib
import threading
from collections import OrderedDict
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from uuid import UUID

from piano_jupyter.errors import ToolError
from piano_jupyter.runner.tools.files.text_file import decode_text
from piano_jupyter.runner.tools.files.workspace import tool_error
from piano_jupyter.text.truncation import truncated

MAX_FILES = 10_000  #: of all threads together
MAX_KEPT_BYTES = 8 << 20  #: of all contents together
MAX_KEPT_FILE_BYTES = 256 << 10  #: of one file's content
MAX_DIFF_LINES = 60
MAX_DIFF_LINE_CHARS = 300
MAX_COMPARED_LINES = 4_000  #: comparing more takes seconds


def short_hash(data: bytes) -> str:
    """Return a short hash of a file's content."""
    return hashlib.sha256(data).hexdigest()[:12]


@dataclass(slots=True)
class _ReadRecord:
    hash: str
    data: bytes | None


class ReadState:
    """What each thread has read of each file; the least recently used entries are dropped first."""

    def __init__(self) -> None:
        self._read: OrderedDict[tuple[UUID, Hashable], _ReadRecord] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def record(self, thread: UUID | None, file: Hashable, data: bytes) -> None:
        """Record that the thread knows this content of the file."""
        if thread is None:
            return
        with self._lock:
            self._forget((thread, file))
            self._read[thread, file] = _ReadRecord(short_hash(data), data if len(data) <= MAX_KEPT_FILE_BYTES else None)
            self._bytes += len(data) if len(data) <= MAX_KEPT_FILE_BYTES else 0
            for each in list(self._read.values()) if self._bytes > MAX_KEPT_BYTES else ():
                if self._bytes > MAX_KEPT_BYTES and each.data is not None:
                    self._bytes, each.data = self._bytes - len(each.data), None
            while len(self._read) > MAX_FILES:
                self._forget(next(iter(self._read)))

    def check_known(self, thread: UUID | None, file: Hashable, data: bytes, shown: str) -> None:
        """Raise ToolError if the thread does not know this content of the file. Without a thread, there is no check."""
        if thread is None:
            return
        with self._lock:
            known = self._read.get((thread, file))
            if known is not None:
                self._read.move_to_end((thread, file))
        if known is None:
            raise tool_error("read_first", f"read {shown!r} before you edit it")
        if known.hash != short_hash(data):
            message = f"{shown!r} has changed since you read it (sha256 now {short_hash(data)}); read it again"
            raise tool_error(
                "stale", message if known.data is None else "\n".join([message, *_changes(known.data, data)])
            )

    def _forget(self, key: tuple[UUID, Hashable]) -> None:
        removed = self._read.pop(key, None)
        self._bytes -= len(removed.data) if removed and removed.data else 0


def _changes(old: bytes, new: bytes) -> list[str]:
    """Return what changed, as the lines of a diff."""
    try:
        before, after = (decode_text(each, "").text.splitlines() for each in (old, new))
    except ToolError:
        return ["[it is not text any more]"]
    lines = [truncated(line, MAX_DIFF_LINE_CHARS) for line in _differences(before, after)]
    if len(lines) > MAX_DIFF_LINES:
        return [*lines[:MAX_DIFF_LINES], f"[{len(lines) - MAX_DIFF_LINES:,} more lines of this diff]"]
    return lines or ["[only its encoding or its line ends changed]"]


def _differences(old: Sequence[str], new: Sequence[str]) -> Iterator[str]:
    shorter = min(len(old), len(new))
    head = next((at for at in range(shorter) if old[at] != new[at]), shorter)
    max_tail = shorter - head
    tail = next((at for at in range(max_tail) if old[-1 - at] != new[-1 - at]), max_tail)
    old, new = old[head : len(old) - tail], new[head : len(new) - tail]
    if max(len(old), len(new)) > MAX_COMPARED_LINES:
        yield f"@@ line {head + 1}: {len(old):,} lines were replaced by {len(new):,} others @@"
        return
    for what, start, end, at, to in difflib.SequenceMatcher(None, old, new).get_opcodes():
        if what != "equal":
            yield f"@@ line {head + at + 1} @@"
            yield from (f"-{line}" for line in old[start:end])
            yield from (f"+{line}" for line in new[at:to])
