"""What a command printed: its head and its tail for the model, and all of it in a file if there was much."""

import atexit
import os
import secrets
import shutil
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from io import FileIO
from pathlib import Path

import platformdirs

from piano_jupyter.runner.tools.files.protected import is_key
from piano_jupyter.runner.tools.files.workspace import home_in

FLOOD = 1 << 30  #: bytes of output after which a command is ended
LARGEST_SPILL = 64 << 20  #: bytes of a command's output that are kept in a file
ALL_SPILLS = 1 << 30  #: bytes of all such files together
KEPT = 7 * 24 * 3600.0  #: seconds that they are kept


@dataclass(frozen=True, slots=True)
class CommandResult:
    """What came of a command."""

    output: str  #: both streams as they came, without the middle if it was too long
    exit_code: int | None  #: None where it was ended from here
    folder: str  #: where it ended
    ended: str = ""  #: why it was ended from here
    notes: tuple[str, ...] = ()  #: what the model has to know beside
    capped: tuple[str, ...] = ()  #: which caps of the whole sandbox it ran into: "memory", "pids"


def spill_folder(thread: str, workspace: Path) -> Path:
    """Return the folder for a thread's long outputs: no other thread is shown it, and no command can change it.

    It is in the user's cache, unless that cannot be written, or is where commands in the workspace reach it.
    """
    folder = Path(platformdirs.user_cache_dir("piano_jupyter"), "spill", thread)
    with suppress(OSError):  # A home folder that cannot be written.
        if not _is_reached(folder, workspace):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            return folder
    return _elsewhere(thread, workspace)


def _is_reached(folder: Path, workspace: Path) -> bool:
    """Return whether a command in the workspace could put a link on the way to a folder, or has done so already."""
    for above in (*reversed(folder.parents), folder):
        real = Path(os.path.realpath(above))
        if real.is_relative_to(workspace):
            parts = (*real.relative_to(workspace).parts, *folder.relative_to(above).parts)
            return not is_key(parts, home_in(workspace))
    return False


def _elsewhere(thread: str, workspace: Path) -> Path:
    places = (Path(each) for each in (tempfile.gettempdir(), "/var/tmp", "/tmp"))  # noqa: S108  a folder of its own there
    folder = _temporary(next((each for each in places if not _is_reached(each, workspace)), None)) / thread
    folder.mkdir(exist_ok=True)
    return folder


@cache
def _temporary(above: Path | None) -> Path:
    folder = tempfile.mkdtemp(prefix="piano-spill-", dir=above)
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)


class CommandOutput:
    """Takes a command's output as it comes. A file in `spill`, which the model knows as `shown`, gets what is long."""

    def __init__(self, limit: int, spill: Path, shown: str) -> None:
        self._half = max(limit - 300, 100) // 2  # The rest is for the notes.
        self._spill, self._shown = spill, shown
        self._head, self._tail = bytearray(), bytearray()
        self._file: FileIO | None = None
        self._name = f"{secrets.token_hex(4)}.txt"
        self._why_none = ""
        self.total = 0

    def feed(self, data: bytes) -> None:
        """Take the next piece."""
        if self.total <= 2 * self._half < self.total + len(data):
            self._begin_spill()
        self._write(data)
        room = self._half - len(self._head)
        self._head += data[:room]
        self._tail += data[room:]
        del self._tail[: -self._half]
        self.total += len(data)

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()

    @property
    def flood(self) -> str:
        """Why a command has to be ended for its output, "" where it has not."""
        return f"after {FLOOD:,} bytes of output" if self.total > FLOOD else ""

    def text(self) -> str:
        """Return what the model reads."""
        left_out = self.total - len(self._head) - len(self._tail)
        if not left_out:
            return _as_seen(self._head + self._tail)
        head, tail = _as_seen(self._head).rstrip("\ufffd"), _as_seen(self._tail).lstrip("\ufffd")
        return f"{head}\n[... {left_out:,} of {self.total:,} bytes left out; {self._where()} ...]\n{tail}"

    def _where(self) -> str:
        if self._why_none:
            return f"they could not be kept: {self._why_none}"
        what = "all of it" if self.total <= LARGEST_SPILL else f"its first {LARGEST_SPILL:,} bytes"
        return f"{what}: sed -n 1,200p {self._shown}/{self._name}"

    def _begin_spill(self) -> None:
        try:
            tidy(self._spill.parent)
            self._file = FileIO(str(self._spill / self._name), "xb")
        except OSError as error:
            self._why_none = str(error)
            return
        self._write(bytes(self._head + self._tail))

    def _write(self, data: bytes) -> None:
        file = self._file
        if file is None:
            return
        try:
            file.write(data[: max(LARGEST_SPILL - file.tell(), 0)])
        except OSError as error:
            self._why_none = str(error)
            file.close()
            self._file = None


def tidy(folder: Path) -> None:
    """Remove outputs that are old, and the oldest where all together are too much."""
    files = []
    for path in folder.glob("*/*.txt"):
        with suppress(OSError):  # Another kernel removed it.
            files.append((path.stat().st_mtime, path.stat().st_size, path))
    room = ALL_SPILLS - LARGEST_SPILL
    for written, size, path in sorted(files, reverse=True):
        room -= size
        if room < 0 or time.time() - written > KEPT:
            with suppress(OSError):
                path.unlink()
    for each in folder.glob("*"):
        with suppress(OSError):  # Not empty: in use.
            if time.time() - each.stat().st_mtime > KEPT:
                each.rmdir()


def _as_seen(data: bytearray) -> str:
    """Return output as a terminal shows it: of a line that was written over, what stood there last."""
    lines = data.decode("utf-8", "replace").split("\n")
    return "\n".join(line.rstrip("\r").rpartition("\r")[2] for line in lines)
