"""How a path is followed beneath a folder without leaving it, while others may exchange folders for links.

A way gives a descriptor, not a path: what is looked at through it is what is used. There are two.

- `openat2`: Linux 5.6 follows the whole path itself. Links count where they stay beneath the folder; one that is
  absolute counts as leading out, wherever it leads.
- `walk`: anywhere else, a name at a time from descriptor to descriptor. Its gaps: no link is followed, not even a
  harmless one; a file has to be opened to be looked at. It is looked at by name first, so that only one who
  exchanges it in that moment can have a device opened, or have this process lose a lock on a file of its own.
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

from piano_jupyter.safe_files import FOLDER, LOOK, READ, held_open, kind

SYS_OPENAT2 = 437
RESOLVE_NO_MAGICLINKS, RESOLVE_BENEATH = 0x02, 0x08
TRIES = 1_000  #: the kernel gives up where a folder is renamed while it follows `..`


class FolderRemovedError(FileNotFoundError):
    """What a descriptor holds is in no folder any more: it was removed, or exchanged for another."""


class PathResolver(Protocol):
    """A way to follow paths. Its errors are OSErrors; EXDEV says that a path leads out."""

    name: str

    def find(self, root: int, path: str) -> int:
        """Return a descriptor of what a relative path leads to."""

    def names(self, root: int, found: int, path: str) -> tuple[str, ...]:
        """Return where beneath the root that is now, links resolved."""

    def reading(self, found: int) -> int:
        """Return a descriptor to read the same file by."""


class OpenAt2Resolver:
    """The kernel's own way."""

    name = "openat2"

    def find(self, root: int, path: str) -> int:
        """Hold what a path leads to, without opening it."""
        return openat2(root, path, LOOK)

    def names(self, root: int, found: int, path: str) -> tuple[str, ...]:
        """Ask the kernel where it is."""
        home, here = (os.readlink(f"/proc/self/fd/{each}") for each in (root, found))  # noqa: PTH115  As it is, at once.
        if not os.fstat(found).st_nlink:  # asked after the name: a file that is gone by then is called "f (deleted)"
            raise FolderRemovedError(errno.ENOENT, "it was removed meanwhile")
        if here == home:
            return ()
        inside = here.removeprefix(home.rstrip("/") + "/")
        if inside == here:
            raise OSError(errno.EXDEV, f"{path!r} was moved out")
        return tuple(inside.split("/"))

    def reading(self, found: int) -> int:
        """Open what is held."""
        return os.open(f"/proc/self/fd/{found}", READ)


class StepwiseResolver:
    """A name at a time, following no link."""

    name = "walk"

    def find(self, root: int, path: str) -> int:
        """Go from folder to folder."""
        here = os.dup(root)
        names = self.names(root, here, path)
        for at, name in enumerate(names, start=1):
            last = at == len(names)
            try:
                about = os.stat(name, dir_fd=here, follow_symlinks=False)
                if stat.S_ISLNK(about.st_mode):
                    raise OSError(errno.ELOOP, "it is a link, which cannot be followed safely on this system")
                if not stat.S_ISDIR(about.st_mode):
                    if not last:
                        raise NotADirectoryError(errno.ENOTDIR, "not a directory")
                    if not stat.S_ISREG(about.st_mode):
                        raise OSError(errno.ENXIO, f"it is a {kind(about.st_mode)}")
                    if is_held(about):
                        raise OSError(errno.EBUSY, "it is open in this kernel")
                found = os.open(name, (READ if last else LOOK | os.O_DIRECTORY) | os.O_NOFOLLOW, dir_fd=here)
            finally:
                os.close(here)
            here = found
        return here

    def names(self, root: int, found: int, path: str) -> tuple[str, ...]:  # noqa: ARG002  No link was followed.
        """Take the path as it is written."""
        names: list[str] = []
        for name in path.split("/"):
            if name == ".." and not names:
                raise OSError(errno.EXDEV, f"{path!r} leads out")
            if name == "..":
                names.pop()
            elif name not in {"", "."}:
                names.append(name)
        return tuple(names)

    def reading(self, found: int) -> int:
        """Use the descriptor that is there."""
        return os.dup(found)


@cache
def way() -> PathResolver:
    """Return the best way that this system has."""
    if sys.platform == "linux":
        with suppress(OSError), held_open(os.open("/", FOLDER)) as root, held_open(openat2(root, ".", LOOK)) as found:
            OpenAt2Resolver().names(root, found, ".")
            return OpenAt2Resolver()
    return StepwiseResolver()


def layer() -> str:
    """Return which way is in force: "openat2" or "walk"."""
    return way().name


def is_held(file: os.stat_result) -> bool:
    """Return whether this process has a file open for reading and writing, as databases are.

    Closing a second descriptor of it would drop the locks that belong to the first.
    """
    with suppress(FileNotFoundError), os.scandir("/dev/fd") as descriptors:
        for each in descriptors:
            with suppress(OSError):
                same = os.path.samestat(os.fstat(int(each.name)), file)
                if same and fcntl.fcntl(int(each.name), fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDWR:
                    return True
    return False


class _OpenHow(ctypes.Structure):
    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


def openat2(root: int, path: str, flags: int) -> int:
    """Open what is beneath a folder. Raises OSError: EXDEV where the path leads out."""
    call = _syscall()
    how = _OpenHow(flags, 0, RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS)
    for _ in range(TRIES):
        found = call(SYS_OPENAT2, root, os.fsencode(path), ctypes.byref(how), ctypes.sizeof(how))
        if found >= 0:
            return int(found)
        if ctypes.get_errno() not in {errno.EAGAIN, errno.EINTR}:
            break
    raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


@cache
def _syscall() -> Any:
    call = ctypes.CDLL(None, use_errno=True).syscall
    call.argtypes = [ctypes.c_long, ctypes.c_int, ctypes.c_char_p, ctypes.POINTER(_OpenHow), ctypes.c_size_t]
    call.restype = ctypes.c_long
    return call
