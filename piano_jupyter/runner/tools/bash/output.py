"""What a command printed: the head and the tail for the model, and all of it in a file if it is long."""

import secrets
import time
from contextlib import suppress
from dataclasses import dataclass
from io import FileIO
from pathlib import Path

from piano_jupyter.text.carriage_returns import as_on_terminal

MAX_OUTPUT_BYTES = 1 << 30  #: of output; a command that prints more is ended
MAX_SPILL_BYTES = 64 << 20  #: of one command's output that are kept in a file
MAX_ALL_SPILLS_BYTES = 1 << 30  #: of all such files together
SPILL_RETENTION_S = 7 * 24 * 3600.0  #: how long they are kept


@dataclass(frozen=True, slots=True)
class CommandResult:
    """The result of a command."""

    output: str  #: both streams as they came, without the middle if it is too long
    exit_code: int | None  #: None if Piano ended the command
    folder: str  #: the current folder at its end
    ended: str = ""  #: why Piano ended it: "ended after 2 s"
    notes: tuple[str, ...] = ()  #: what else the model has to know
    limits_hit: tuple[str, ...] = ()  #: which limits of the whole sandbox it reached: "memory", "pids"


class CommandOutput:
    """Collects a command's output. Long output also goes to a file in `spill`, which the model sees as `shown`."""

    def __init__(self, limit: int, spill: Path, shown: str) -> None:
        self._half = max(limit - 300, 100) // 2  # The rest is left for the notes.
        self._spill, self._shown = spill, shown
        self._head, self._tail = bytearray(), bytearray()
        self._file: FileIO | None = None
        self._name = f"{secrets.token_hex(4)}.txt"
        self._spill_error = ""
        self.total_bytes = 0

    def feed(self, data: bytes) -> None:
        """Take the next piece."""
        if self.total_bytes <= 2 * self._half < self.total_bytes + len(data):
            self._begin_spill()
        self._write(data)
        head_room = self._half - len(self._head)
        self._head += data[:head_room]
        self._tail += data[head_room:]
        del self._tail[: -self._half]
        self.total_bytes += len(data)

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()

    @property
    def flood_reason(self) -> str:
        """Why a command has to be ended because of its output, "" if it does not."""
        return f"after {MAX_OUTPUT_BYTES:,} bytes of output" if self.total_bytes > MAX_OUTPUT_BYTES else ""

    def text(self) -> str:
        """Return what the model reads."""
        left_out = self.total_bytes - len(self._head) - len(self._tail)
        if not left_out:
            return _decoded(self._head + self._tail)
        head, tail = _decoded(self._head).rstrip("\ufffd"), _decoded(self._tail).lstrip("\ufffd")
        return f"{head}\n[... {left_out:,} of {self.total_bytes:,} bytes left out; {self._left_out_note()} ...]\n{tail}"

    def _left_out_note(self) -> str:
        if self._spill_error:
            return f"they could not be kept: {self._spill_error}"
        extent = "all of it" if self.total_bytes <= MAX_SPILL_BYTES else f"its first {MAX_SPILL_BYTES:,} bytes"
        return f"{extent}: sed -n 1,200p {self._shown}/{self._name}"

    def _begin_spill(self) -> None:
        try:
            remove_old_spills(self._spill.parent)
            self._file = FileIO(str(self._spill / self._name), "xb")
        except OSError as error:
            self._spill_error = str(error)
            return
        self._write(bytes(self._head + self._tail))

    def _write(self, data: bytes) -> None:
        file = self._file
        if file is None:
            return
        try:
            file.write(data[: max(MAX_SPILL_BYTES - file.tell(), 0)])
        except OSError as error:
            self._spill_error = str(error)
            file.close()
            self._file = None


def remove_old_spills(folder: Path) -> None:
    """Remove outputs that are too old, and the oldest ones while all together are too large."""
    files = []
    for path in folder.glob("*/*.txt"):
        with suppress(OSError):  # Another kernel removed it.
            files.append((path.stat().st_mtime, path.stat().st_size, path))
    remaining_bytes = MAX_ALL_SPILLS_BYTES - MAX_SPILL_BYTES
    for modified_at, size, path in sorted(files, reverse=True):
        remaining_bytes -= size
        if remaining_bytes < 0 or time.time() - modified_at > SPILL_RETENTION_S:
            with suppress(OSError):
                path.unlink()
    for each in folder.glob("*"):
        with suppress(OSError):  # Not empty, so still in use.
            if time.time() - each.stat().st_mtime > SPILL_RETENTION_S:
                each.rmdir()


def _decoded(data: bytearray) -> str:
    return as_on_terminal(data.decode("utf-8", "replace"))
