"""The file of a database: its path made ready, and open only once in a process.

DuckDB's lock keeps other processes out, not another store in this one; and it is gone as soon as anything in this
process closes a second handle of the file. So a file that is open is noted here.
"""

import os
import threading
from pathlib import Path

from piano_jupyter.errors import StoreError, StoreLockedError

ELSEWHERE = "set PianoConfig.database to another file or ':memory:'"

_held: dict[str, int] = {}  #: files that are open, each with the process that opened it
_guard = threading.Lock()


def whole_path(path: str | Path) -> str:
    """Return the path from the root, `~` being the home folder; nothing in it means anything else to DuckDB."""
    try:
        return str(Path(path).expanduser().absolute())
    except (OSError, RuntimeError) as error:
        raise StoreError(f"database {str(path)!r} is nowhere: {error}; {ELSEWHERE}") from error


def make_ready(path: str) -> None:
    """Make the folders of a database file. Raises StoreError where no file can be there."""
    if "\0" in path:
        raise StoreError(f"database {path!r} cannot be made: there is a NUL in its name; {ELSEWHERE}")
    try:
        path.encode()
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        folder = Path(path).is_dir()
    except (OSError, ValueError) as error:
        raise StoreError(f"database {path!r} cannot be made: {error}; {ELSEWHERE}") from error
    if folder:
        raise StoreError(f"database {path} is a folder, not a file; {ELSEWHERE}")


def is_nowhere(path: str) -> bool:
    """Return whether nothing is kept in a file yet, nor in the log that goes into it when it is opened."""
    return all(not os.path.lexists(each) or os.lstat(each).st_size == 0 for each in (path, f"{path}.wal"))


def hold(path: str) -> None:
    """Note that this process has the file open. Raises StoreLockedError where it has it already."""
    with _guard:
        owner = _held.setdefault(os.path.realpath(path), 0)
        if owner == os.getpid():
            raise StoreLockedError(
                f"this process has database {path} open already; use that Piano, close it, or {ELSEWHERE}"
            )
        if owner:
            raise StoreLockedError(f"this process was forked from the one that has database {path} open; {ELSEWHERE}")
        _held[os.path.realpath(path)] = os.getpid()


def let_go(path: str) -> None:
    """Note that the file is closed."""
    with _guard:
        _held.pop(os.path.realpath(path), None)
