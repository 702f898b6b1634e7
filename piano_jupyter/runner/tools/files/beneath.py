"""Follows a path beneath a folder without leaving it, even while others replace folders with links.

A resolver returns a descriptor, not a path, so that what was checked is what is used. There are two.

- `openat2`: the kernel (Linux 5.6 or newer) follows the whole path. Links may be followed as long as they stay beneath
  the folder; an absolute link counts as leading out, wherever it leads.
- `walk`: on other systems, one name at a time from descriptor to descriptor. Limitations: no link is followed, not even
  a harmless one; and a file has to be opened to be checked. It is checked by name first, so that only somebody who
  replaces it at that moment can make us open a device, or lose a lock that this process holds on a file.
"""

import ctypes
import errno
import fcntl
import os
import stat
import sys
from contextlib import suppress
from functools import cache
from typing import Any, Protocol

from piano_jupyter.safe_files import OPEN_FOLDER, OPEN_PATH, OPEN_READ, closing_descriptor, file_kind

SYS_OPENAT2 = 437
RESOLVE_NO_MAGICLINKS, RESOLVE_BENEATH = 0x02, 0x08
MAX_TRIES = 1_000  #: the kernel gives up if a folder is renamed while it follows `..`


class FolderRemovedError(FileNotFoundError):
    """What a descriptor refers to is in no folder any more: it was removed or replaced."""


class PathResolver(Protocol):
    """Follows paths. Its errors are OSErrors; EXDEV means that a path leads out."""

    name: str

    def find(self, root: int, path: str) -> int:
        """Return a descriptor of what a relative path leads to."""

    def resolved_names(self, root: int, found: int, path: str) -> tuple[str, ...]:
        """Return where that is beneath the root now, with links resolved."""

    def open_for_reading(self, found: int) -> int:
        """Return a descriptor for reading the same file."""


class OpenAt2Resolver:
    """Lets the kernel follow the path."""

    name = "openat2"

    def find(self, root: int, path: str) -> int:
        """Return an O_PATH descriptor of what a path leads to."""
        return openat2(root, path, OPEN_PATH)

    def resolved_names(self, root: int, found: int, path: str) -> tuple[str, ...]:
        """Ask the kernel where it is."""
        root_path, path_now = (os.readlink(f"/proc/self/fd/{each}") for each in (root, found))  # noqa: PTH115
        if not os.fstat(found).st_nlink:  # checked after the name, which for a removed file is "f (deleted)"
            raise FolderRemovedError(errno.ENOENT, "it has just been removed")
        if path_now == root_path:
            return ()
        relative = path_now.removeprefix(root_path.rstrip("/") + "/")
        if relative == path_now:
            raise OSError(errno.EXDEV, f"{path!r} was moved out")
        return tuple(relative.split("/"))

    def open_for_reading(self, found: int) -> int:
        """Open the file of the O_PATH descriptor."""
        return os.open(f"/proc/self/fd/{found}", OPEN_READ)


class StepwiseResolver:
    """Follows one name at a time, and no links."""

    name = "walk"

    def find(self, root: int, path: str) -> int:
        """Go from folder to folder."""
        folder = os.dup(root)
        names = self.resolved_names(root, folder, path)
        for depth, name in enumerate(names, start=1):
            last = depth == len(names)
            try:
                status = os.stat(name, dir_fd=folder, follow_symlinks=False)
                if stat.S_ISLNK(status.st_mode):
                    raise OSError(errno.ELOOP, "it is a link, which cannot be followed safely on this system")
                if not stat.S_ISDIR(status.st_mode):
                    if not last:
                        raise NotADirectoryError(errno.ENOTDIR, "not a directory")
                    if not stat.S_ISREG(status.st_mode):
                        raise OSError(errno.ENXIO, f"it is a {file_kind(status.st_mode)}")
                    if is_open_for_writing(status):
                        raise OSError(errno.EBUSY, "it is open in this kernel")
                child = os.open(
                    name, (OPEN_READ if last else OPEN_PATH | os.O_DIRECTORY) | os.O_NOFOLLOW, dir_fd=folder
                )
            finally:
                os.close(folder)
            folder = child
        return folder

    def resolved_names(self, root: int, found: int, path: str) -> tuple[str, ...]:  # noqa: ARG002
        """Return the names of the path as written, `..` resolved."""
        names: list[str] = []
        for name in path.split("/"):
            if name == ".." and not names:
                raise OSError(errno.EXDEV, f"{path!r} leads out")
            if name == "..":
                names.pop()
            elif name not in {"", "."}:
                names.append(name)
        return tuple(names)

    def open_for_reading(self, found: int) -> int:
        """Return a duplicate: the file is open for reading already."""
        return os.dup(found)


@cache
def best_resolver() -> PathResolver:
    """Return the best resolver for this system."""
    if sys.platform == "linux":
        with (
            suppress(OSError),
            closing_descriptor(os.open("/", OPEN_FOLDER)) as root,
            closing_descriptor(openat2(root, ".", OPEN_PATH)) as found,
        ):
            OpenAt2Resolver().resolved_names(root, found, ".")
            return OpenAt2Resolver()
    return StepwiseResolver()


def resolver_name() -> str:
    """Return which resolver is in use: "openat2" or "walk"."""
    return best_resolver().name


def is_open_for_writing(file: os.stat_result) -> bool:
    """Return whether this process has a file open for reading and writing, like a database.

    Opening and closing it again would drop the locks that the process holds on it.
    """
    with suppress(FileNotFoundError), os.scandir("/dev/fd") as descriptors:
        for each in descriptors:
            with suppress(OSError):
                is_same = os.path.samestat(os.fstat(int(each.name)), file)
                if is_same and fcntl.fcntl(int(each.name), fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDWR:
                    return True
    return False


class _OpenHow(ctypes.Structure):
    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


def openat2(root: int, path: str, flags: int) -> int:
    """Open what is beneath a folder. Raises OSError: EXDEV where the path leads out."""
    syscall = _syscall()
    how = _OpenHow(flags, 0, RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS)
    for _ in range(MAX_TRIES):
        descriptor = syscall(SYS_OPENAT2, root, os.fsencode(path), ctypes.byref(how), ctypes.sizeof(how))
        if descriptor >= 0:
            return int(descriptor)
        if ctypes.get_errno() not in {errno.EAGAIN, errno.EINTR}:
            break
    raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


@cache
def _syscall() -> Any:
    syscall = ctypes.CDLL(None, use_errno=True).syscall
    syscall.argtypes = [ctypes.c_long, ctypes.c_int, ctypes.c_char_p, ctypes.POINTER(_OpenHow), ctypes.c_size_t]
    syscall.restype = ctypes.c_long
    return syscall
