"""Who may read a history, and what may stand in its place: `.piano/` is 0700, each file 0600, none a link or a pipe.

A conversation holds what the user's files hold, so nobody else on the machine reads it and git does not take it along.
"""

import contextlib
import ctypes
import os
import stat
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

from piano_jupyter.errors import StoreError
from piano_jupyter.safe_files import file_kind
from piano_jupyter.store.duckdb.lock import ELSEWHERE

OWN_FOLDER = ".piano"
BESIDE = (
    ".wal",
    ".wal.checkpoint",
    ".wal.recovery",
    ".tmp",
)  #: what DuckDB makes beside a file; it follows links there
OTHERS = 0o077  #: the rights of all but the owner
IGNORE_ALL = "*\n"
IGNORED_BEFORE = ("*.lock\n",)  #: what earlier versions wrote
CLONE_FS = 0x200  #: of `unshare`: what the threads of a process share of cwd and umask


def is_in_own_folder(path: str) -> bool:
    """Return whether a database lies in Piano's own folder, not in one of the user's."""
    return Path(path).parent.name == OWN_FOLDER


def check_place(path: str) -> None:
    """Raise StoreError where a link, a pipe, a socket or a device is where a history should be. It opens nothing."""
    folder = Path(path).parent
    if is_in_own_folder(path):
        for link in filter(Path.is_symlink, (folder, Path(path))):
            raise StoreError(
                f"database {path} cannot be opened: {link} is a symbolic link, and what is kept would be written where "
                f"it leads; move it out of the way, or {ELSEWHERE}"
            )
    real = os.path.realpath(path)
    for each in (f"{name}{suffix}" for name in dict.fromkeys((path, real)) for suffix in BESIDE):
        if Path(each).is_symlink():
            raise StoreError(
                f"database {path} cannot be opened: {each} is a link, and what DuckDB keeps there would be written "
                f"where it leads; move it out of the way, or {ELSEWHERE}"
            )
    for each in (path, *(f"{real}{suffix}" for suffix in BESIDE)):
        what = _kind(each)
        if what not in {"file", "folder", ""}:
            raise StoreError(
                f"database {path} cannot be opened: {each} is a {what}, not a file; move it out of the way, or "
                f"{ELSEWHERE}"
            )


def make_private(path: str) -> None:
    """Take from everybody else what rights they have on a history, and keep Piano's own folder out of git.

    Call it before DuckDB has the file: it looks at files by their names and opens none of them.
    """
    folder = Path(path).parent
    if is_in_own_folder(path):
        ignore_in_git(folder)
        narrow(folder)
    for each in _files_of(path):
        narrow(each)


def narrow(path: Path) -> None:
    """Let a file or folder be its user's alone, where it is ours and is no link."""
    with contextlib.suppress(OSError):  # on a read-only disk nothing is written either
        about = path.lstat()
        if about.st_mode & OTHERS and not stat.S_ISLNK(about.st_mode) and about.st_uid == os.geteuid():
            path.chmod(0o700 if stat.S_ISDIR(about.st_mode) else 0o600)


def ignore_in_git(folder: Path) -> None:
    """Keep a folder out of git, unless the user has decided there what is ignored."""
    with contextlib.suppress(OSError):  # where nothing can be written, the lock will say so
        ignored = folder / ".gitignore"
        if ignored.is_symlink():
            return
        if not ignored.exists() or ignored.read_text(encoding="utf-8", errors="replace") in IGNORED_BEFORE:
            ignored.write_text(IGNORE_ALL, encoding="utf-8")


def begin_private_thread() -> bool:
    """Let the files that this thread makes be its user's alone; return whether that can be (on Linux, mostly).

    The umask of a process is all threads' own, and Jupyter's other files are none of our business; so this thread gets
    an umask of its own, and with it a working directory of its own.
    """
    if sys.platform != "linux" or threading.current_thread() is threading.main_thread():  # which is the user's
        return False
    try:
        if ctypes.CDLL(None).unshare(CLONE_FS) != 0:  # containers may refuse it
            return False
    except (OSError, AttributeError):
        return False
    os.umask(OTHERS)
    return True


def _files_of(path: str) -> Iterator[Path]:
    """Yield the files and folders of a history that are there."""
    real = Path(os.path.realpath(path))
    with contextlib.suppress(OSError):
        for each in sorted(real.parent.iterdir()):
            if is_in_own_folder(path) or f"{each.name}.".startswith(f"{real.name}."):
                yield each
                if each.is_dir() and not each.is_symlink():
                    yield from sorted(each.iterdir())


def _kind(path: str) -> str:
    """Return what stands at a path, links followed; "" where nothing does."""
    try:
        return file_kind(Path(path).stat().st_mode)
    except (OSError, ValueError):
        return ""
