"""Where a tool may reach in the file system: the one place that says so.

File tools reach what lies beneath the workspace and nothing else. A refusal is a word and a sentence,
`outside_workspace: ...`; it is the same whether or not there is something outside. Everything goes through descriptors
(`beneath`): what was looked at is what is read, and where a file was found is where it is written.
"""

import errno
import os
import re
import stat
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import BinaryIO

import platformdirs

from piano_jupyter.errors import ToolError
from piano_jupyter.runner.tools.files.atomic import FolderLockedError, HardLinkError, exchange, make, staged
from piano_jupyter.runner.tools.files.beneath import TRIES, FolderRemovedError, PathResolver, is_held, way
from piano_jupyter.runner.tools.files.protected import is_key, is_private, is_starter, protected_part
from piano_jupyter.safe_files import FOLDER, folder_beneath, held_open, kind

CODES = {
    errno.EACCES: "no_permission",
    errno.EBUSY: "in_use",
    errno.EDQUOT: "no_space",
    errno.EEXIST: "exists",
    errno.EFBIG: "no_space",
    errno.EISDIR: "not_a_regular_file",
    errno.ELOOP: "bad_path",
    errno.ENAMETOOLONG: "bad_path",
    errno.ENOENT: "not_found",
    errno.ENOSPC: "no_space",
    errno.ENOTDIR: "not_found",
    errno.ENXIO: "not_a_regular_file",
    errno.EPERM: "no_permission",
    errno.EROFS: "no_permission",
}


def refused(code: str, sentence: str) -> ToolError:
    """Return a refusal that a model can act on."""
    return ToolError(f"{code}: {sentence}")


def inside(home: Path, path: str) -> tuple[str, ...]:
    """Return where in a folder a path leads; () where it leads elsewhere."""
    real = Path(os.path.realpath(path))
    return real.relative_to(home).parts if real.is_relative_to(home) else ()


def home_in(workspace: Path) -> tuple[str, ...] | None:
    """Return where in a workspace the user's home folder is; None where it is elsewhere."""
    home = Path(os.path.realpath(Path.home()))
    return home.relative_to(workspace).parts if home.is_relative_to(workspace) else None


def own_folders(workspace: Path) -> tuple[tuple[str, ...], ...]:
    """Return where in a workspace Piano has folders of its own by the user's settings, such as XDG_CACHE_HOME.

    They hold what is fetched, and which databases are trusted.
    """
    named = platformdirs.user_cache_dir("piano_jupyter"), platformdirs.user_data_dir("piano_jupyter")
    return tuple(filter(None, (inside(workspace, each) for each in named)))


@dataclass(frozen=True, slots=True)
class OpenedPath:
    """What a path leads to: a file or a folder, held by a descriptor for as long as it is looked at."""

    shown: str  #: the path as the model gave it
    names: tuple[str, ...]  #: where it is beneath the workspace, links resolved
    about: os.stat_result
    descriptor: int
    way: PathResolver

    @property
    def is_folder(self) -> bool:
        """Whether it is a folder."""
        return stat.S_ISDIR(self.about.st_mode)

    def open(self) -> BinaryIO:
        """Open a regular file for reading. Raises ToolError for any other: a pipe would wait, a device would act.

        Nor is a file opened that this process has open for reading and writing, as databases are.
        """
        if not stat.S_ISREG(self.about.st_mode):
            raise refused("not_a_regular_file", f"{self.shown!r} is a {kind(self.about.st_mode)}")
        if is_held(self.about):
            raise refused("in_use", f"{self.shown!r} is a database that is open in this kernel; query it there")
        return os.fdopen(self.way.reading(self.descriptor), "rb")

    def entries(self) -> Iterator[str]:
        """Yield the names in a folder, its folders' with a slash, without Piano's own."""
        with held_open(os.open(".", FOLDER, dir_fd=self.descriptor)) as folder, os.scandir(folder) as entries:
            for each in entries:
                if not is_private([each.name]):
                    yield f"{each.name}/" if each.is_dir(follow_symlinks=False) else each.name


class Workspace:
    """A workspace, and what may be done in it. `database` is kept out of reach if it is there too."""

    def __init__(self, root: Path, database: str = "", *, by: PathResolver | None = None) -> None:
        self._root = root
        self._home = Path(os.path.realpath(root))
        self._database = inside(self._home, database) if database else ()
        self._users, self._own = home_in(self._home), own_folders(self._home)
        self._way = by or way()

    @contextmanager
    def find(self, path: str) -> Iterator[OpenedPath]:
        """Give what a path leads to. Raises ToolError, from FileNotFoundError where there is nothing."""
        relative = self._relative(path)
        with _told(path), self._opened() as root:
            found, names = self._hold(root, relative)
            with held_open(found):
                about = os.fstat(found)
                self._check_shown(names)
                if about.st_dev == _processes():
                    raise _outside()
                yield OpenedPath(path, names, about, found, self._way)

    def names(self, path: str) -> tuple[str, ...]:
        """Return where a path leads beneath the workspace, whether or not there is something. Raises ToolError."""
        relative = self._relative(path)
        with _told(path), self._opened() as root, self._nearest(root, relative) as (_, names, missing):
            return (*names, *missing)

    def check_writable(self, names: tuple[str, ...]) -> None:
        """Raise ToolError where tools do not write."""
        self._check_shown(names)
        if part := protected_part(names) or (names[-1] if is_starter(names, self._users) else None):
            raise refused("protected", f"tools do not write {part!r}; tell the user what should be in it")

    def _check_shown(self, names: tuple[str, ...]) -> None:
        if is_private(names, self._database):
            raise refused("private", "this is Piano's own data, which file tools do not touch")
        if is_key(names, self._users):
            raise refused("private", "this is where the user's home folder has keys, which tools do not see")
        if any(names[: len(each)] == each for each in self._own):
            raise refused("private", "this is where Piano keeps what it needs itself, which tools do not see")

    def make(self, path: str, data: bytes) -> tuple[str, ...]:
        """Write a file that must not exist yet, whole or not at all, with its folders; return where it is.

        Raises ToolError.
        """
        relative = self._relative(path)
        with _told(path), self._opened() as root, self._nearest(root, relative) as (nearest, names, missing):
            if not missing:
                raise refused("exists", f"{path!r} is there already")
            self.check_writable((*names, *missing))
            with held_open(folder_beneath(nearest, missing[:-1], make=True)) as folder:
                there = (*self._way.names(root, folder, "/".join((*names, *missing[:-1]))), missing[-1])
                self.check_writable(there)  # Somebody may have exchanged a folder meanwhile.
                staged(root, folder, lambda staging: make(folder, there[-1], data, staging=staging))
            return there

    def replace(self, found: OpenedPath, data: bytes) -> None:
        """Exchange a file's content, old or new but never a mixture, keeping mode and owner. Raises ToolError."""
        self.check_writable(found.names)
        *parents, name = found.names
        above = "/".join(parents) or "."
        with _told(found.shown), self._opened() as root, held_open(self._way.find(root, above)) as folder:
            now = os.stat(name, dir_fd=folder, follow_symlinks=False)
            moved = self._way.names(root, folder, above) != (*parents,) or not os.path.samestat(now, found.about)
            if moved or (now.st_mtime_ns, now.st_size) != (found.about.st_mtime_ns, found.about.st_size):
                raise refused("stale", f"{found.shown!r} was changed by somebody else this moment; read it again")
            staged(root, folder, lambda staging: exchange(folder, name, data, staging=staging, like=found.about))

    def _opened(self) -> AbstractContextManager[int]:
        return held_open(os.open(self._root, FOLDER))

    def _relative(self, path: str) -> str:
        """Return a path that a model gave, relative to the workspace.

        It is taken as it stands, relative to the root or absolute: no `~`, `$HOME` or `%2e` is expanded.
        """
        if not path or path != path.strip() or len(path) > 4000 or re.search(r"[\x00-\x1f\x7f\ud800-\udfff]", path):
            raise refused("bad_path", "a path is one line of plain characters, without blanks around it")
        if re.match(r"~|\$\w|.*\$\{|.*%2[ef]", path, re.IGNORECASE):
            raise refused("bad_path", "nothing in a path is expanded; write it out, relative to the workspace")
        given = Path(path)
        if given.is_absolute():
            base = next((each for each in (self._root, self._home) if given.is_relative_to(each)), None)
            if base is None:
                raise _outside()
            given = given.relative_to(base)
        return str(given)

    @contextmanager
    def _nearest(self, root: int, relative: str) -> Iterator[tuple[int, tuple[str, ...], list[str]]]:
        """Give what exists on the way to a path: its descriptor and its names, and the names that come after it."""
        parts = [part for part in relative.split("/") if part not in {"", "."}]
        for at in range(len(parts), -1, -1):
            there, missing = "/".join(parts[:at]) or ".", parts[at:]
            try:
                held = self._hold(root, there)
            except FileNotFoundError:
                if at and parts[at - 1] == "..":
                    raise
                continue
            with held_open(held[0]):
                yield *held, missing
            return

    def _hold(self, root: int, relative: str) -> tuple[int, tuple[str, ...]]:
        """Open what a path leads to, and say where that is; what is exchanged at that moment is opened anew."""
        for left in reversed(range(TRIES)):
            found = self._way.find(root, relative)
            try:
                return found, self._way.names(root, found, relative)
            except BaseException as error:
                os.close(found)
                if not left or not isinstance(error, FolderRemovedError):
                    raise
        raise AssertionError  # the last try returns or raises


def open_regular(path: Path, shown: str) -> BinaryIO:
    """Open a regular file for reading, wherever it is, unless a link leads out of its folder. Raises ToolError."""
    with Workspace(path.parent).find(path.name) as found:
        return replace(found, shown=shown).open()


def _outside() -> ToolError:
    return refused("outside_workspace", "file tools reach only what is in the workspace; give a path relative to it")


def linked(path: str) -> ToolError:
    """Return the refusal to write a file that has several names."""
    return refused(
        "linked",
        f"{path!r} has another name (a hard link), maybe outside the workspace, so tools do not write it; "
        f"write a file of a new name, or tell the user",
    )


@contextmanager
def _told(path: str) -> Iterator[None]:
    """Turn an error of the file system into a refusal that names the path as the model gave it."""
    try:
        yield
    except HardLinkError:
        raise linked(path) from None
    except FolderLockedError:
        why = "another program holds a lock on the folder; try again when it has ended"
        raise refused("in_use", f"{path!r}: {why}") from None
    except OSError as error:
        if error.errno == errno.EXDEV:
            raise _outside() from None
        code = CODES.get(error.errno or 0, "io_error")
        raise refused(code, f"{path!r}: {(error.strerror or 'it failed').lower()}") from error


@cache
def _processes() -> int:
    """Return the device of /proc, which shows the kernel's environment: a workspace at `/` would have it within."""
    proc = Path("/proc")
    return proc.stat().st_dev if proc.is_mount() else -1
