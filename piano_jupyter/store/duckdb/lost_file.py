"""The file of an open database, watched: deleted, replaced or moved while DuckDB has it open.

DuckDB goes on with the file that it has open, whatever its path now leads to: what is committed from then on would be
gone with the kernel. Its descriptors still reach every byte, so everything is copied from them into a new file. The
file is read in place (`pread`): to open it once more and close it again would drop DuckDB's lock on it.
"""

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime
from pathlib import Path

LOG_SUFFIX = ".wal"
COPY_CHUNK_BYTES = 1 << 20
DESCRIPTORS = Path("/proc/self/fd")
DELETED = " (deleted)"


class WatchedFile:
    """The file at a path, as DuckDB opened it: a look at it costs two `stat`, which is microseconds."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._opened = Path(path).stat()
        self._log: tuple[int, int] | None = None  #: device and inode of the log when it was last found to be DuckDB's

    def what_happened(self) -> str:
        """Return what happened to the file or to its log since it was opened, "" if nothing did."""
        found = _stat(self.path)
        if found is None or not os.path.samestat(found, self._opened):
            if moved_to := self._moved_to():
                return f"was moved to {moved_to}"
            return "was deleted" if found is None else "was replaced by another file"
        log = _stat(self.path + LOG_SUFFIX)
        identity = (log.st_dev, log.st_ino) if log else None
        if identity != self._log:
            if any(_identity(os.fstat(each)) != identity for each in self._log_descriptors()):
                return "has lost its log" if log is None else "has another file as its log"
            self._log = identity
        return ""

    def copy_to(self, path: Path) -> None:
        """Copy the file and its log, as DuckDB has them open, to a path where nothing is. Between transactions only.

        Raises OSError: what is at the path already is not touched.
        """
        file = next(_open_files(self._opened), None)
        if file is None:
            raise FileNotFoundError(errno.ENOENT, "this system does not show a process what it has open", self.path)
        for each in self._log_descriptors():
            log = os.open(DESCRIPTORS / str(each), os.O_RDONLY | os.O_CLOEXEC)  # DuckDB only writes it
            try:
                _copy(log, Path(f"{path}{LOG_SUFFIX}"))
            finally:
                os.close(log)
        _copy(file, path)

    def _moved_to(self) -> str:
        paths = (_path(each) for each in _open_files(self._opened))
        return next((path for path in paths if not path.endswith(DELETED)), "")

    def _log_descriptors(self) -> list[int]:
        """Return the descriptor of the log, if it is open: it is beside the file, or where that was."""
        paths = {self.path, *(_plain(_path(each)) for each in _open_files(self._opened))}
        beside = {f"{path}{LOG_SUFFIX}" for path in paths}
        return [each for each, path in _descriptors() if _plain(path) in beside][:1]


def recovered_path(lost: str) -> Path:
    """Return where to put what is saved of a database whose file was lost: in its folder, which is made again."""
    folder = Path(lost).parent
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    time = datetime.now().astimezone().strftime("%Y%m%d-%H%M%S")
    names = (f"piano-recovered-{time}{again}.duckdb" for again in ("", *(f"-{number}" for number in range(2, 100))))
    paths = (folder / name for name in names if str(folder / name) != lost)
    return next(path for path in paths if not any(os.path.lexists(f"{path}{end}") for end in ("", LOG_SUFFIX)))


def _copy(descriptor: int, path: Path) -> None:
    target = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        at = 0
        while piece := os.pread(descriptor, COPY_CHUNK_BYTES, at):
            at += os.write(target, piece)
        os.fsync(target)
    finally:
        os.close(target)


def _open_files(opened: os.stat_result) -> Iterator[int]:
    """Yield the descriptors through which this process has a file open for writing."""
    for descriptor, _ in _descriptors():
        with suppress(OSError):
            writes = fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDWR
            if writes and os.path.samestat(os.fstat(descriptor), opened):
                yield descriptor


def _descriptors() -> Iterator[tuple[int, str]]:
    """Yield what this process has open, as (descriptor, path); nothing where the system does not tell."""
    with suppress(OSError):
        for each in DESCRIPTORS.iterdir():
            with suppress(OSError):
                yield int(each.name), str(each.readlink())


def _path(descriptor: int) -> str:
    return str((DESCRIPTORS / str(descriptor)).readlink())


def _stat(path: str) -> os.stat_result | None:
    try:
        return Path(path).stat()
    except OSError:
        return None


def _identity(found: os.stat_result) -> tuple[int, int]:
    return found.st_dev, found.st_ino


def _plain(path: str) -> str:
    return path.removesuffix(DELETED)
