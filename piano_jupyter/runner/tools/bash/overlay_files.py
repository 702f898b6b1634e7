"""Files and folders by descriptor, as overlayfs keeps them: what is the same, what is marked, and moving them."""

import errno
import hashlib
import os
import stat
from pathlib import Path

from piano_jupyter.safe_files import (
    NO_FOLLOW,
    OPEN_FOLDER,
    OPEN_PATH,
    closing_descriptor,
    copy_permissions,
    temporary_file,
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


def move_file(name: str, status: os.stat_result, source: int, target: int) -> None:
    """Move a file or a link to the same name in another folder, on another disk, too; it replaces what is there."""
    try:
        os.rename(name, name, src_dir_fd=source, dst_dir_fd=target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        _copy(name, status, source, target)
        os.unlink(name, dir_fd=source)


def _copy(name: str, status: os.stat_result, source: int, target: int) -> None:
    if stat.S_ISLNK(status.st_mode):
        temporary = f".piano-{os.urandom(6).hex()}.tmp"
        os.symlink(os.readlink(name, dir_fd=source), temporary, dir_fd=target)
        os.rename(temporary, name, src_dir_fd=target, dst_dir_fd=target)
    else:
        with (
            closing_descriptor(os.open(name, os.O_RDONLY | NO_FOLLOW, dir_fd=source)) as file,
            temporary_file(target, b"", sync=False) as (temporary, copy),
        ):
            while os.sendfile(copy, file, None, 1 << 30):
                pass
            copy_permissions(copy, status)
            os.utime(copy, ns=(status.st_atime_ns, status.st_mtime_ns))
            os.rename(temporary, name, src_dir_fd=target, dst_dir_fd=target)
