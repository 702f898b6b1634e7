"""Writes files completely or not at all, in folders held by a descriptor.

The data goes to a temporary file first, which is then linked or renamed to its final place. The folder of temporary
files is locked while they are in use; a process that finds it unlocked removes what a killed process left there.
"""

import errno
import fcntl
import os
import re
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from piano_jupyter.safe_files import (
    OPEN_FOLDER,
    closing_descriptor,
    copy_permissions,
    open_folder_beneath,
    place_new_file,
    temporary_file,
)

STAGING = (".piano", "tmp")
LOCK_TIMEOUT_S = 5.0  #: how long to wait for a process that cleans up
TEMPORARY_NAME = re.compile(r"\.piano-[0-9a-f]{12}\.tmp")


class HardLinkError(OSError):
    """The file has several names (hard links), so writing to it changes a file elsewhere, too."""


class FolderLockedError(OSError):
    """Another program holds a lock on the folder for the temporary file."""


def create_file(folder: int, name: str, data: bytes, *, staging: int) -> None:
    """Create a file. Raises FileExistsError if the name is taken."""
    with staged_file(staging, data) as (temporary, file):
        _inherit_group(file, folder)
        place_new_file(temporary, name, staging=staging, folder=folder)


def replace_content(folder: int, name: str, data: bytes, *, staging: int, like: os.stat_result) -> None:
    """Replace a file's content, keeping its mode and, if allowed, its owner. Raises HardLinkError."""
    with staged_file(staging, data) as (temporary, file):
        if os.stat(name, dir_fd=folder, follow_symlinks=False).st_nlink > 1:  # those of a killed call are gone
            raise HardLinkError
        copy_permissions(file, like)
        os.rename(temporary, name, src_dir_fd=staging, dst_dir_fd=folder)


def write_staged(root: int, folder: int, write: Callable[[int], None]) -> None:
    """Call `write` with a folder for temporary files: `.piano/tmp` in the root, or else the file's own folder.

    The file's own folder is used if the first is not usable or is on another file system than the file.
    """
    try:
        staging = open_folder_beneath(root, STAGING, create=True)
    except OSError:  # Full, read-only, not ours, or a link. The file's own folder may do.
        write(folder)
        return
    with closing_descriptor(staging):
        try:
            if os.access(".", os.W_OK | os.X_OK, dir_fd=staging):
                write(staging)
                return
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
    write(folder)


@contextmanager
def staged_file(staging: int, data: bytes) -> Iterator[tuple[str, int]]:
    """Write the data to a temporary file on the disk; yield its name and a descriptor.

    Other processes may use the folder, too; a process that can lock it exclusively first removes old files.
    """
    with closing_descriptor(os.open(".", OPEN_FOLDER, dir_fd=staging)) as lock_descriptor:  # Each needs its own lock.
        with suppress(OSError):  # In use, or a file system without locks: remove nothing.
            fcntl.flock(lock_descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            for name in filter(TEMPORARY_NAME.fullmatch, os.listdir(lock_descriptor)):  # noqa: PTH208  A descriptor has no Path.
                os.unlink(name, dir_fd=lock_descriptor)
        _lock_shared(lock_descriptor)
        with temporary_file(staging, data) as made:
            yield made


def _lock_shared(folder: int) -> None:
    """Lock a folder together with other writers. Raises FolderLockedError: a running command may hold a lock, too."""
    deadline = time.monotonic() + LOCK_TIMEOUT_S
    while True:
        try:
            fcntl.flock(folder, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise FolderLockedError from None
            time.sleep(0.01)
        except OSError:  # A file system without locks.
            return
        else:
            return


def _inherit_group(file: int, folder: int) -> None:
    """Give a new file the group of its folder if the folder has the set-group-id bit."""
    status = os.fstat(folder)
    if status.st_mode & stat.S_ISGID:
        with suppress(PermissionError):
            os.fchown(file, -1, status.st_gid)
