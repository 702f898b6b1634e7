"""Files and folders by descriptor, as overlayfs keeps them: what is the same, what is marked, and moving them."""

import errno
import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from piano_jupyter.runner.tools.files.atomic import staged_file, write_staged
from piano_jupyter.safe_files import (
    NO_FOLLOW,
    OPEN_FOLDER,
    OPEN_PATH,
    closing_descriptor,
    copy_permissions,
)

MAX_COMPARED_BYTES = 1 << 20  #: of a file whose content is compared
OVERLAY_ATTRIBUTES = "user.overlay."  #: how overlayfs marks what it keeps


def open_folder(name: str, parent: int) -> int:
    """Open a folder of the workspace; open it up first if its owner has closed it: so has the command."""
    with closing_descriptor(os.open(name, OPEN_PATH | OPEN_FOLDER | NO_FOLLOW, dir_fd=parent)) as folder:
        status, place = os.fstat(folder), f"/proc/self/fd/{folder}"
        if status.st_mode & stat.S_IRWXU != stat.S_IRWXU and status.st_uid == os.geteuid():
            os.chmod(place, stat.S_IMODE(status.st_mode) | stat.S_IRWXU)  # noqa: PTH101
        return os.open(place, OPEN_FOLDER)


def names_in(folder: int) -> list[str]:
    """Return the names in a folder."""
    return os.listdir(folder)


def status_of(folder: int, name: str) -> os.stat_result | None:
    """Return the status of a name in a folder, not of what it links to; None if there is nothing."""
    try:
        return os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return None


def is_same(one: str | Path, other: str | Path) -> bool:
    """Return whether two paths are files with the same content and mode, or links to the same target."""
    signature = signature_of(one)
    return signature is not None and signature == signature_of(other)


def signature_of(path: str | Path) -> tuple[int, object] | None:
    """Return the mode of a file, and its content or a link's target; None if it is too large or not to be read."""
    try:
        status = os.lstat(path)
        if stat.S_ISLNK(status.st_mode):
            return status.st_mode, os.readlink(path)  # noqa: PTH115
        if stat.S_ISREG(status.st_mode) and status.st_size <= MAX_COMPARED_BYTES:
            return status.st_mode, hashlib.sha256(_content(path)).digest()
    except OSError:
        return None
    return None


def trace_of(path: str | Path) -> object | None:
    """Return what shows that a file was moved from somewhere else; None if it is empty, or no file."""
    try:
        status = os.lstat(path)
    except OSError:
        return None
    if not stat.S_ISREG(status.st_mode) or not status.st_size:
        return None
    return signature_of(path) or (status.st_size, status.st_mtime_ns)


def _content(path: str | Path) -> bytes:
    with os.fdopen(os.open(path, os.O_RDONLY | NO_FOLLOW), "rb") as file:
        return file.read(MAX_COMPARED_BYTES + 1)


def is_opaque(folder: int) -> bool:
    """Return whether overlayfs shows nothing of the folder below this one."""
    try:
        return os.getxattr(folder, f"{OVERLAY_ATTRIBUTES}opaque") == b"y"
    except OSError:  # It has no such mark.
        return False


def remove_marks(file: int | str) -> None:
    """Remove what overlayfs has noted about a file or folder: in another overlay it could mean something."""
    for name in os.listxattr(file, follow_symlinks=False) if isinstance(file, str) else os.listxattr(file):
        if name.startswith(OVERLAY_ATTRIBUTES):
            os.removexattr(file, name, follow_symlinks=False) if isinstance(file, str) else os.removexattr(file, name)


def move_file(name: str, status: os.stat_result, source: int, target: int, *, root: int) -> None:
    """Move a file or a link to the same name in another folder, which is in `root`; it replaces what is there.

    The folders may be on different disks: then two names of one file become two files.
    """
    try:
        os.rename(name, name, src_dir_fd=source, dst_dir_fd=target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        write_staged(root, target, lambda staging: _copy(name, status, source, target, staging))
        os.unlink(name, dir_fd=source)


def _copy(name: str, status: os.stat_result, source: int, target: int, staging: int) -> None:
    if stat.S_ISLNK(status.st_mode):
        temporary = f".piano-{os.urandom(6).hex()}.tmp"
        os.symlink(os.readlink(name, dir_fd=source), temporary, dir_fd=target)
        times = status.st_atime_ns, status.st_mtime_ns
        os.utime(temporary, ns=times, dir_fd=target, follow_symlinks=False)
        os.rename(temporary, name, src_dir_fd=target, dst_dir_fd=target)
    else:
        with (
            closing_descriptor(os.open(name, os.O_RDONLY | NO_FOLLOW, dir_fd=source)) as file,
            staged_file(staging, b"") as (temporary, copy),
        ):
            _copy_content(file, copy, status.st_size)
            _copy_attributes(file, copy)
            copy_permissions(copy, status)
            os.utime(copy, ns=(status.st_atime_ns, status.st_mtime_ns))
            os.rename(temporary, name, src_dir_fd=staging, dst_dir_fd=target)


def _copy_content(source: int, target: int, size: int) -> None:
    """Copy the content of a file; the copy has the same holes."""
    for begin, end in _data_in(source):
        os.lseek(target, begin, os.SEEK_SET)
        at = begin
        while at < end and (sent := os.sendfile(target, source, at, end - at)):
            at += sent
    os.ftruncate(target, size)


def _data_in(file: int) -> Iterator[tuple[int, int]]:
    """Yield where each piece of data in a file begins and ends; between them are holes."""
    end = 0
    while True:
        try:
            begin = os.lseek(file, end, os.SEEK_DATA)
        except OSError as error:
            if error.errno != errno.ENXIO:  # there is no more data
                raise
            return
        end = os.lseek(file, begin, os.SEEK_HOLE)
        yield begin, end


def _copy_attributes(source: int, target: int) -> None:
    for name in os.listxattr(source):
        if name.startswith("user."):
            with suppress(OSError):  # The other disk may keep none.
                os.setxattr(target, name, os.getxattr(source, name))
