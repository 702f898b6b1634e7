"""The file of a database: its path made ready, and open only once: in this process, and on this machine.

A process that is forked while a file is open gives the lock back to its parent: it closes what it has inherited.
"""

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from piano_jupyter.errors import StoreError, StoreLockedError
from piano_jupyter.store.duckdb.file_access import check_place, make_private
from piano_jupyter.store.duckdb.lock import ELSEWHERE, keep_fresh, release_lock, take_lock

UNREADABLE = {"?": "options", "\\": "a folder"}  # signs in a path, and what DuckDB takes for what comes after them


class _OpenFile(NamedTuple):
    """A file that is open: in which process, and the descriptor of its lock."""

    owner: int
    lock: int | None  #: None: a forked child has closed it
    end_touching: Callable[[], None] = lambda: None  #: ends what tells other hosts that it is open


_held: dict[str, _OpenFile] = {}
_guard = threading.Lock()


def whole_path(path: str | Path) -> str:
    """Return the path from the root, `~` being the home folder; nothing in it means anything else to DuckDB."""
    try:
        return str(Path(path).expanduser().absolute())
    except (OSError, RuntimeError) as error:
        raise StoreError(f"database {str(path)!r} is nowhere: {error}; {ELSEWHERE}") from error


def make_ready(path: str) -> None:
    """Make the folders of a database file, and keep others out. Raises StoreError where no file can be there."""
    if "\0" in path:
        raise StoreError(f"database {path!r} cannot be made: there is a NUL in its name; {ELSEWHERE}")
    for sign, what in UNREADABLE.items():
        if sign in path:
            raise StoreError(
                f"database {path!r} cannot be made: DuckDB reads {sign!r} in a path as the begin of {what}; {ELSEWHERE}"
            )
    try:
        path.encode()
        check_place(path)
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        folder = Path(path).is_dir()
    except (OSError, ValueError) as error:
        raise StoreError(f"database {path!r} cannot be made: {error}; {ELSEWHERE}") from error
    if folder:
        raise StoreError(f"database {path} is a folder, not a file; {ELSEWHERE}")
    make_private(path)


def is_nowhere(path: str) -> bool:
    """Return whether nothing is kept in a file yet, nor in the log that goes into it when it is opened."""
    return all(not os.path.lexists(each) or os.lstat(each).st_size == 0 for each in (path, f"{path}.wal"))


def hold(path: str, disk: str = "") -> str:
    """Lock the file for this process; return its real path. Raises StoreLockedError where it is open already.

    `disk` is what network disk it lies on.
    """
    real = os.path.realpath(path)
    with _guard:
        held = _held.get(real)
        if held is None:
            lock = take_lock(f"{real}.lock", path, disk)
            _held[real] = _OpenFile(os.getpid(), lock, *([keep_fresh(lock)] if disk else []))
        elif held.owner == os.getpid():
            raise StoreLockedError(
                f"this process has database {path} open already; use that Piano, close it, or {ELSEWHERE}"
            )
        else:
            raise StoreLockedError(f"this process was forked from the one that has database {path} open; {ELSEWHERE}")
    return real


def let_go(real: str) -> None:
    """Unlock the file with this real path, which is closed."""
    with _guard:
        held = _held.pop(real)
        if held.lock is not None:
            held.end_touching()
            release_lock(held.lock)


def _close_inherited() -> None:
    """Close what a forked child has of its parent's locks: they would outlive the parent."""
    for path, held in _held.items():
        if held.lock is not None:
            os.close(held.lock)
            _held[path] = held._replace(lock=None)
    _guard.release()


os.register_at_fork(before=_guard.acquire, after_in_parent=_guard.release, after_in_child=_close_inherited)
