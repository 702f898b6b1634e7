"""Files written whole or not at all, in folders that are held by a descriptor.

The data goes into a temporary file first, which is then linked or renamed to its place. A folder with temporary files
is locked while they are in use: who finds it unlocked removes what a killed process left.
"""

import errno
import fcntl
import os
import re
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from piano_jupyter.safe_files import FOLDER, add, folder_beneath, held_open, keep_rights, temporary

STAGING = (".piano", "tmp")
LONGEST_WAIT = 5.0  #: seconds to wait for who removes what was left behind
TEMPORARY = re.compile(r"\.piano-[0-9a-f]{12}\.tmp")


class HardLinkError(OSError):
    """The file has more than one name: what is written there stands in another place too."""


class FolderLockedError(OSError):
    """Another program holds a lock on the folder in which the file would be written."""


def make(folder: int, name: str, data: bytes, *, staging: int) -> None:
    """Make a file that must not exist yet. Raises FileExistsError."""
    with _temporary(staging, data) as (made, file):
        _take_group(file, folder)
        add(made, name, staging=staging, folder=folder)


def exchange(folder: int, name: str, data: bytes, *, staging: int, like: os.stat_result) -> None:
    """Exchange a file's content, keeping mode and, where that is allowed, owner. Raises HardLinkError."""
    with _temporary(staging, data) as (made, file):
        if os.stat(name, dir_fd=folder, follow_symlinks=False).st_nlink > 1:  # those of a killed call are gone by now
            raise HardLinkError
        keep_rights(file, like)
        os.rename(made, name, src_dir_fd=staging, dst_dir_fd=folder)


def staged(root: int, folder: int, write: Callable[[int], None]) -> None:
    """Call `write` with a folder for temporary files: `.piano/tmp` beneath the root, else the file's own folder.

    The own one it is where the first cannot be used, or is on another file system than the file.
    """
    try:
        staging = folder_beneath(root, STAGING, make=True)
    except OSError:  # Full, read-only, another's, a link: what is wrong with the file's own folder, if it is, is told.
        write(folder)
        return
    with held_open(staging):
        try:
            if os.access(".", os.W_OK | os.X_OK, dir_fd=staging):
                write(staging)
                return
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
    write(folder)


@contextmanager
def _temporary(staging: int, data: bytes) -> Iterator[tuple[str, int]]:
    """Give a temporary file that holds the data, on the disk: its name and a descriptor.

    The folder is shared with others that write; who has it alone first removes what was left behind.
    """
    with held_open(os.open(".", FOLDER, dir_fd=staging)) as own:  # A lock is a descriptor's: each writer needs its own.
        with suppress(OSError):  # Held by others, or a file system without locks: then nothing is removed.
            fcntl.flock(own, fcntl.LOCK_EX | fcntl.LOCK_NB)
            for name in filter(TEMPORARY.fullmatch, os.listdir(own)):  # noqa: PTH208  A descriptor has no Path.
                os.unlink(name, dir_fd=own)
        _share(own)
        with temporary(staging, data) as made:
            yield made


def _share(folder: int) -> None:
    """Lock a folder for all who write. Raises FolderLockedError: a command can hold it, too, while it runs."""
    end = time.monotonic() + LONGEST_WAIT
    while True:
        try:
            fcntl.flock(folder, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > end:
                raise FolderLockedError from None
            time.sleep(0.01)
        except OSError:  # A file system without locks.
            return
        else:
            return


def _take_group(file: int, folder: int) -> None:
    """Give a new file the group of its folder where the folder asks for that."""
    about = os.fstat(folder)
    if about.st_mode & stat.S_ISGID:
        with suppress(PermissionError):
            os.fchown(file, -1, about.st_gid)
