"""Reads and writes files that the user names, but never through a link that a command planted.

A sandboxed command may put anything anywhere in the workspace, even while Piano writes there. So a path is followed
one name at a time, from folder to folder, each held by a descriptor. Once the path is in the workspace, no link may
lead it out again; outside of the workspace, links are the user's own and are followed. The last name is never followed
for writing: a new file replaces it, completely or not at all.
"""

import errno
import os
import secrets
import shutil
import stat
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from piano_jupyter.errors import PianoError

_CLOEXEC = getattr(os, "O_CLOEXEC", 0)
NO_FOLLOW: int = getattr(os, "O_NOFOLLOW", 0)
OPEN_FOLDER: int = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | _CLOEXEC
OPEN_PATH: int = getattr(os, "O_PATH", os.O_RDONLY) | _CLOEXEC  #: without opening it, if possible
OPEN_READ: int = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0) | _CLOEXEC
CREATE_NEW: int = os.O_WRONLY | os.O_CREAT | os.O_EXCL | NO_FOLLOW | _CLOEXEC
NO_HARD_LINKS_ERRORS = {
    errno.EPERM,
    errno.ENOSYS,
    errno.EOPNOTSUPP,
    errno.ENOTSUP,
}  #: from file systems without hard links
COPY_CHUNK_BYTES = 1 << 20
MAX_LINKS = 40  #: in one path, as in Linux


def check_writable(path: Path, *, workspace: str | Path, replace: bool, advice: str = "name another file") -> None:
    """Raise PianoError if `write_file` would, as far as can be known before.

    `advice` ends the message about a file that exists.
    """
    with _translate_errors(path, "written"), _open_parent(path, workspace) as (folder, name):
        _check_replaceable(path, folder, name, replace=replace, advice=advice)


def write_file(
    path: Path,
    data: bytes,
    *,
    workspace: str | Path,
    replace: bool,
    advice: str = "name another file",
    make_folders: bool = False,
    sync: bool = True,
) -> None:
    """Write a file completely or not at all; a replaced file keeps its permissions. Raises PianoError.

    A link in its place is replaced, not followed. `sync` waits until the data is on the disk.
    """
    with _translate_errors(path, "written"), _open_parent(path, workspace, create=make_folders) as (folder, name):
        existing = _check_replaceable(path, folder, name, replace=replace, advice=advice)
        with temporary_file(folder, data, sync=sync) as (temporary, file):
            if existing is not None and stat.S_ISREG(existing.st_mode):
                copy_permissions(file, existing)
            if replace:
                os.rename(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
            else:
                place_new_file(temporary, name, staging=folder, folder=folder)


def copy_file(source: Path, path: Path, *, workspace: str | Path, advice: str = "name another file") -> None:
    """Copy a file of Piano's to a path where nothing is, completely or not at all, for its user only.

    Raises PianoError. `advice` ends the message about a file that exists.
    """
    with _translate_errors(path, "written"), _open_parent(path, workspace) as (folder, name):
        _check_replaceable(path, folder, name, replace=False, advice=advice)
        with temporary_file(folder, b"", sync=False) as (temporary, file):
            os.fchmod(file, 0o600)
            with source.open("rb") as data, os.fdopen(os.dup(file), "wb") as copy:
                shutil.copyfileobj(data, copy, COPY_CHUNK_BYTES)
            os.fsync(file)
            place_new_file(temporary, name, staging=folder, folder=folder)


def read_file(path: Path, *, workspace: str | Path, max_bytes: int) -> bytes:
    """Return the content of a regular file of at most `max_bytes`. Raises PianoError, also if there is no such file."""
    with (
        _translate_errors(path, "read"),
        _open_parent(path, workspace, follow=True) as (folder, name),
        os.fdopen(os.open(name, OPEN_READ | NO_FOLLOW, dir_fd=folder), "rb") as file,
    ):
        mode = os.fstat(file.fileno()).st_mode
        if not stat.S_ISREG(mode):
            raise PianoError(f"{path} is a {file_kind(mode)}, not a file that can be read")
        data = file.read(max_bytes + 1)
    if len(data) > max_bytes:
        raise PianoError(f"{path} is larger than {max_bytes / 1e6:.0f} MB; use a part of it")
    return data


@contextmanager
def temporary_file(folder: int, data: bytes, *, sync: bool = True) -> Iterator[tuple[str, int]]:
    """Write the data to a temporary file; yield its name and a descriptor. It is removed unless it is renamed."""
    name = f".piano-{secrets.token_hex(6)}.tmp"
    file = os.open(name, CREATE_NEW, 0o666, dir_fd=folder)
    try:
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(file, rest) :]
        if sync:
            os.fsync(file)
        yield name, file
    finally:
        os.close(file)
        with suppress(FileNotFoundError):  # It has been renamed.
            os.unlink(name, dir_fd=folder)


def place_new_file(temporary: str, name: str, *, staging: int, folder: int) -> None:
    """Move a temporary file to its final name. Raises FileExistsError if the name is taken."""
    try:
        os.link(temporary, name, src_dir_fd=staging, dst_dir_fd=folder, follow_symlinks=False)
    except OSError as error:
        if error.errno not in NO_HARD_LINKS_ERRORS:
            raise
        os.close(os.open(name, CREATE_NEW, dir_fd=folder))  # Reserve the name with an empty file.
        os.rename(temporary, name, src_dir_fd=staging, dst_dir_fd=folder)


def copy_permissions(file: int, like: os.stat_result) -> None:
    """Give a file the mode and, if allowed, the owner of the one that it replaces.

    The set-user-id and set-group-id bits applied to the old content, so they are dropped, as on any write by a user.
    """
    with suppress(PermissionError):
        os.fchown(file, like.st_uid, like.st_gid)
    os.fchmod(file, stat.S_IMODE(like.st_mode) & ~(stat.S_ISUID | stat.S_ISGID))


def open_folder_beneath(folder: int, names: Sequence[str], *, create: bool = False) -> int:
    """Return a descriptor of a folder beneath another, following no links; `create` creates missing folders."""
    current = os.dup(folder)
    for name in names:
        try:
            if create:
                with suppress(FileExistsError):
                    os.mkdir(name, dir_fd=current)
            child = os.open(name, OPEN_PATH | OPEN_FOLDER | NO_FOLLOW, dir_fd=current)
        finally:
            os.close(current)
        current = child
    return current


@contextmanager
def closing_descriptor(descriptor: int) -> Iterator[int]:
    """Yield a descriptor and close it afterwards."""
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def file_kind(mode: int) -> str:
    """Return what kind of file a mode describes, in a word or two."""
    kinds = (
        *((stat.S_ISDIR, "folder"), (stat.S_ISFIFO, "named pipe"), (stat.S_ISSOCK, "socket")),
        *((stat.S_ISREG, "file"), (stat.S_ISLNK, "link")),
    )
    return next((word for test, word in kinds if test(mode)), "device")


def _check_replaceable(path: Path, folder: int, name: str, *, replace: bool, advice: str) -> os.stat_result | None:
    """Return the status of what a new file replaces, if anything. Raises PianoError if it cannot be replaced."""
    try:
        status = os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return None
    kind = file_kind(status.st_mode)
    if kind == "folder":
        raise PianoError(f"{path} is a folder; name a file in it")
    if kind not in {"file", "link"}:
        raise PianoError(f"{path} is a {kind}, which Piano does not replace; name another file")
    if not replace:
        raise PianoError(f"{path} exists{' (it is a link)' * (kind == 'link')}; {advice}")
    return status


class _FolderMissingError(FileNotFoundError):
    """A folder of the path is missing."""


@contextmanager
def _translate_errors(path: Path, done: str) -> Iterator[None]:
    """Turn an OSError into a PianoError that names the file as the user gave it."""
    try:
        yield
    except OSError as error:
        if isinstance(error, _FolderMissingError) and done == "written":
            raise PianoError(f"there is no folder {path.parent}; create it first") from error
        reason = error.strerror or type(error).__name__
        raise PianoError(f"{path} cannot be {done}: {reason[:1].lower()}{reason[1:]}") from error
    except ValueError as error:  # The name contains NUL or an incomplete character.
        raise PianoError(f"{str(path)!r} cannot be {done}: it is not a valid file name") from error


@contextmanager
def _open_parent(
    path: Path, workspace: str | Path, *, create: bool = False, follow: bool = False
) -> Iterator[tuple[int, str]]:
    """Open the folder that contains a file; yield its descriptor and the file's name in it.

    `create` creates missing folders; `follow` follows a link even if it is the last name.
    """
    with closing(_PathWalk(path, workspace, create=create)) as walk:
        yield walk.go(follow=follow)


class _PathWalk:
    """Follows a path; keeps each folder from the root to the current one open."""

    def __init__(self, path: Path, workspace: str | Path, *, create: bool) -> None:
        self._path, self._create = path, create
        self._names = deque((Path.cwd() / path).parts[1:])
        self._workspace: os.stat_result | None = None
        with suppress(FileNotFoundError):  # Without a workspace, there are no planted links.
            self._workspace = Path(workspace).stat()
        self._folders = [os.open("/", OPEN_FOLDER)]
        self._folder_names = [""]  #: the names of these folders
        self._workspace_index: int | None = None  #: the index of the workspace among them
        self._first_link = ""  #: the first link that was followed inside the workspace
        self._links = 0
        self._note_workspace()

    def go(self, *, follow: bool) -> tuple[int, str]:
        """Follow the path; return the last folder, and the name in it that was not followed."""
        while self._names:
            name = self._names.popleft()
            is_last = not self._names
            if name == "..":
                self._up()
            elif (is_last and not follow) or not self._down(name):
                self._check()
                return self._folders[-1], name
        raise PianoError(f"{self._path} is a folder; name a file in it")

    def close(self) -> None:
        """Close all folders."""
        for each in self._folders:
            os.close(each)

    def _down(self, name: str) -> bool:
        """Enter a folder, or put the target of a link before the remaining names.

        Return whether it was one of these; False is returned only for the last name, for others it is an error.
        """
        try:
            folder = os.open(name, OPEN_PATH | OPEN_FOLDER | NO_FOLLOW, dir_fd=self._folders[-1])
        except OSError as error:
            if self._follow(name):
                return True
            if not self._names:
                return False  # A file, or nothing; the caller finds out.
            if not isinstance(error, FileNotFoundError):
                raise
            self._check()
            if not self._create:
                raise _FolderMissingError(errno.ENOENT, os.strerror(errno.ENOENT)) from error
            with suppress(FileExistsError):
                os.mkdir(name, dir_fd=self._folders[-1])
            self._names.appendleft(name)
            return True
        self._folders.append(folder)
        self._folder_names.append(name)
        self._note_workspace()
        return True

    def _follow(self, name: str) -> bool:
        try:
            target = os.readlink(name, dir_fd=self._folders[-1])
        except OSError:  # It is not a link.
            return False
        self._links += 1
        if self._links > MAX_LINKS:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
        if self._workspace_index is not None and not self._first_link:
            self._first_link = "/".join((*self._folder_names, name))
        while target.startswith("/") and len(self._folders) > 1:
            self._up()
        self._names.extendleft(part for part in reversed(target.split("/")) if part not in {"", "."})
        return True

    def _up(self) -> None:
        if len(self._folders) > 1:
            os.close(self._folders.pop())
            self._folder_names.pop()
            if self._workspace_index == len(self._folders):
                self._workspace_index = None

    def _note_workspace(self) -> None:
        """Note whether the current folder is the workspace."""
        if (
            self._workspace_index is None
            and self._workspace
            and os.path.samestat(os.fstat(self._folders[-1]), self._workspace)
        ):
            self._workspace_index = len(self._folders) - 1

    def _check(self) -> None:
        """Raise PianoError if a link in the workspace has led out of it."""
        if self._first_link and self._workspace_index is None:
            raise PianoError(
                f"{self._first_link} is a link that leads out of the workspace, which Piano does not follow because a "
                "command may have made it; name the file by its real path"
            )
