"""Files that Piano itself reads and writes by a name that the user gave: never through a link that a command planted.

A sandboxed command may put anything anywhere in the workspace, also while Piano writes there. So the path is followed a
name at a time, from folder to folder, each held by a descriptor. Once it is in the workspace, no link may lead it out
again; outside of the workspace, links are the user's own and are followed. The last name is never followed for writing:
a new file takes its place, whole or not at all.
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

_CLOSED = getattr(os, "O_CLOEXEC", 0)
NO_FOLLOW: int = getattr(os, "O_NOFOLLOW", 0)
FOLDER: int = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | _CLOSED
LOOK: int = getattr(os, "O_PATH", os.O_RDONLY) | _CLOSED  #: to hold a thing without opening it, where that can be
READ: int = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0) | _CLOSED
NEW: int = os.O_WRONLY | os.O_CREAT | os.O_EXCL | NO_FOLLOW | _CLOSED
NO_LINKS = {errno.EPERM, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP}  #: said by file systems without hard links
COPIED_AT_ONCE = 1 << 20  #: bytes
MOST_LINKS = 40  #: on the way to a file, as in Linux


def check_writable(path: Path, *, workspace: str | Path, replace: bool, otherwise: str = "name another file") -> None:
    """Raise PianoError where `write_file` would, as far as can be said before.

    `otherwise` is what to do about a file that exists.
    """
    with _told(path, "written"), _reached(path, workspace) as (folder, name):
        _replaceable(path, folder, name, replace=replace, otherwise=otherwise)


def write_file(
    path: Path,
    data: bytes,
    *,
    workspace: str | Path,
    replace: bool,
    otherwise: str = "name another file",
    make_folders: bool = False,
    sync: bool = True,
) -> None:
    """Write a file whole or not at all; one that is replaced keeps its permissions. Raises PianoError.

    A link in its place is replaced, not followed. `sync` waits until the data is on the disk.
    """
    with _told(path, "written"), _reached(path, workspace, make=make_folders) as (folder, name):
        there = _replaceable(path, folder, name, replace=replace, otherwise=otherwise)
        with temporary(folder, data, sync=sync) as (made, file):
            if there is not None and stat.S_ISREG(there.st_mode):
                keep_rights(file, there)
            if replace:
                os.rename(made, name, src_dir_fd=folder, dst_dir_fd=folder)
            else:
                add(made, name, staging=folder, folder=folder)


def copy_file(source: Path, path: Path, *, workspace: str | Path, otherwise: str = "name another file") -> None:
    """Copy a file of Piano's to where nothing is yet, whole or not at all, for its user alone. Raises PianoError."""
    with _told(path, "written"), _reached(path, workspace) as (folder, name):
        _replaceable(path, folder, name, replace=False, otherwise=otherwise)
        with temporary(folder, b"", sync=False) as (made, file):
            os.fchmod(file, 0o600)
            with source.open("rb") as data, os.fdopen(os.dup(file), "wb") as copy:
                shutil.copyfileobj(data, copy, COPIED_AT_ONCE)
            os.fsync(file)
            add(made, name, staging=folder, folder=folder)


def read_file(path: Path, *, workspace: str | Path, limit: int) -> bytes:
    """Return what a regular file of at most `limit` bytes holds. Raises PianoError, from FileNotFoundError too."""
    with (
        _told(path, "read"),
        _reached(path, workspace, follow=True) as (folder, name),
        os.fdopen(os.open(name, READ | NO_FOLLOW, dir_fd=folder), "rb") as file,
    ):
        mode = os.fstat(file.fileno()).st_mode
        if not stat.S_ISREG(mode):
            raise PianoError(f"{path} is a {kind(mode)}, not a file that can be read")
        data = file.read(limit + 1)
    if len(data) > limit:
        raise PianoError(f"{path} is larger than {limit / 1e6:.0f} MB; take a part of it")
    return data


@contextmanager
def temporary(folder: int, data: bytes, *, sync: bool = True) -> Iterator[tuple[str, int]]:
    """Give a new file that holds the data, its name and a descriptor; what is not renamed meanwhile is removed."""
    name = f".piano-{secrets.token_hex(6)}.tmp"
    file = os.open(name, NEW, 0o666, dir_fd=folder)
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


def add(made: str, name: str, *, staging: int, folder: int) -> None:
    """Put a temporary file in its place, where nothing may be yet. Raises FileExistsError."""
    try:
        os.link(made, name, src_dir_fd=staging, dst_dir_fd=folder, follow_symlinks=False)
    except OSError as error:
        if error.errno not in NO_LINKS:
            raise
        os.close(os.open(name, NEW, dir_fd=folder))  # The name is ours now, and the file that is replaced.
        os.rename(made, name, src_dir_fd=staging, dst_dir_fd=folder)


def keep_rights(file: int, like: os.stat_result) -> None:
    """Give a file the mode and, where that is allowed, the owner of the one that it replaces.

    The set-user-id and set-group-id bits were given for the old content: they go, as with any write by a user.
    """
    with suppress(PermissionError):
        os.fchown(file, like.st_uid, like.st_gid)
    os.fchmod(file, stat.S_IMODE(like.st_mode) & ~(stat.S_ISUID | stat.S_ISGID))


def folder_beneath(folder: int, names: Sequence[str], *, make: bool = False) -> int:
    """Return a descriptor of a folder beneath another. No link is followed; `make` makes what is missing."""
    here = os.dup(folder)
    for name in names:
        try:
            if make:
                with suppress(FileExistsError):
                    os.mkdir(name, dir_fd=here)
            below = os.open(name, LOOK | FOLDER | NO_FOLLOW, dir_fd=here)
        finally:
            os.close(here)
        here = below
    return here


@contextmanager
def held_open(descriptor: int) -> Iterator[int]:
    """Close a descriptor in the end."""
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def kind(mode: int) -> str:
    """Return what a thing in a folder is, in a word."""
    kinds = (
        *((stat.S_ISDIR, "folder"), (stat.S_ISFIFO, "named pipe"), (stat.S_ISSOCK, "socket")),
        *((stat.S_ISREG, "file"), (stat.S_ISLNK, "link")),
    )
    return next((word for test, word in kinds if test(mode)), "device")


def _replaceable(path: Path, folder: int, name: str, *, replace: bool, otherwise: str) -> os.stat_result | None:
    """Return what is in a new file's place, if anything is. Raises PianoError where it cannot be replaced."""
    try:
        about = os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return None
    what = kind(about.st_mode)
    if what == "folder":
        raise PianoError(f"{path} is a folder; name a file in it")
    if what not in {"file", "link"}:
        raise PianoError(f"{path} is a {what}, which is not replaced; name another file")
    if not replace:
        raise PianoError(f"{path} exists{' (it is a link)' * (what == 'link')}; {otherwise}")
    return about


class _FolderMissingError(FileNotFoundError):
    """A folder on the way to a file is missing."""


@contextmanager
def _told(path: Path, done: str) -> Iterator[None]:
    """Turn an error of the file system into a sentence that names the file as the user gave it."""
    try:
        yield
    except OSError as error:
        if isinstance(error, _FolderMissingError) and done == "written":
            raise PianoError(f"there is no folder {path.parent}; create it first") from error
        why = error.strerror or type(error).__name__
        raise PianoError(f"{path} cannot be {done}: {why[:1].lower()}{why[1:]}") from error
    except ValueError as error:  # A NUL, or half a character, in the name.
        raise PianoError(f"{str(path)!r} cannot be {done}: it is no name of a file") from error


@contextmanager
def _reached(
    path: Path, workspace: str | Path, *, make: bool = False, follow: bool = False
) -> Iterator[tuple[int, str]]:
    """Give the folder that a file is in, held by a descriptor, and its name there.

    `make` makes folders that are missing; `follow` follows a link that is the last name.
    """
    with closing(_PathWalk(path, workspace, make=make)) as way:
        yield way.go(follow=follow)


class _PathWalk:
    """Follows a path; each folder from the root to where it stands is held open."""

    def __init__(self, path: Path, workspace: str | Path, *, make: bool) -> None:
        self._path, self._make = path, make
        self._names = deque((Path.cwd() / path).parts[1:])
        self._workspace: os.stat_result | None = None
        with suppress(FileNotFoundError):  # Where there is no workspace, no command planted anything in it.
            self._workspace = Path(workspace).stat()
        self._at = [os.open("/", FOLDER)]
        self._called = [""]  #: what the folders are called
        self._inside: int | None = None  #: which of the folders is the workspace
        self._link = ""  #: the first link that was followed in the workspace
        self._links = 0
        self._note()

    def go(self, *, follow: bool) -> tuple[int, str]:
        """Return the last folder, and the name in it that was not followed."""
        while self._names:
            name = self._names.popleft()
            is_last = not self._names
            if name == "..":
                self._up()
            elif (is_last and not follow) or not self._down(name):
                self._check()
                return self._at[-1], name
        raise PianoError(f"{self._path} is a folder; name a file in it")

    def close(self) -> None:
        """Let go of all folders."""
        for each in self._at:
            os.close(each)

    def _down(self, name: str) -> bool:
        """Go into a folder, or put what a link says before the names that are left.

        Return whether it is either; False comes only of the last name, others raise.
        """
        try:
            folder = os.open(name, LOOK | FOLDER | NO_FOLLOW, dir_fd=self._at[-1])
        except OSError as error:
            if self._follow(name):
                return True
            if not self._names:
                return False  # A file, or nothing: the caller sees.
            if not isinstance(error, FileNotFoundError):
                raise
            self._check()
            if not self._make:
                raise _FolderMissingError(errno.ENOENT, os.strerror(errno.ENOENT)) from error
            with suppress(FileExistsError):
                os.mkdir(name, dir_fd=self._at[-1])
            self._names.appendleft(name)
            return True
        self._at.append(folder)
        self._called.append(name)
        self._note()
        return True

    def _follow(self, name: str) -> bool:
        try:
            target = os.readlink(name, dir_fd=self._at[-1])
        except OSError:  # It is no link.
            return False
        self._links += 1
        if self._links > MOST_LINKS:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
        if self._inside is not None and not self._link:
            self._link = "/".join((*self._called, name))
        while target.startswith("/") and len(self._at) > 1:
            self._up()
        self._names.extendleft(part for part in reversed(target.split("/")) if part not in {"", "."})
        return True

    def _up(self) -> None:
        if len(self._at) > 1:
            os.close(self._at.pop())
            self._called.pop()
            if self._inside == len(self._at):
                self._inside = None

    def _note(self) -> None:
        """Note whether the folder where it stands now is the workspace."""
        if self._inside is None and self._workspace and os.path.samestat(os.fstat(self._at[-1]), self._workspace):
            self._inside = len(self._at) - 1

    def _check(self) -> None:
        """Raise PianoError where a link in the workspace has led out of it."""
        if self._link and self._inside is None:
            raise PianoError(
                f"{self._link} is a link that leads out of the workspace, and Piano follows none of those: a command "
                "may have made it; name the file where it really is"
            )
