"""Decides what a tool may access in the file system.

File tools access what is in the workspace and nothing else. An error is a code and a sentence,
`outside_workspace: ...`; it is the same whether or not there is a file outside. Everything goes through descriptors
(`beneath`): the file that was checked is the one that is read, and it is written where it was found.
"""

import errno
import os
import re
import stat
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import BinaryIO

from piano_jupyter.errors import ToolError
from piano_jupyter.own_folders import own_folders
from piano_jupyter.runner.tools.files.atomic import (
    FolderLockedError,
    HardLinkError,
    create_file,
    replace_content,
    write_staged,
)
from piano_jupyter.runner.tools.files.beneath import (
    MAX_TRIES,
    FolderRemovedError,
    PathResolver,
    best_resolver,
    is_open_for_writing,
)
from piano_jupyter.runner.tools.files.write_hazards import WriteHazards, protected_link_targets
from piano_jupyter.safe_files import OPEN_FOLDER, closing_descriptor, file_kind, open_folder_beneath
from piano_jupyter.text.unicode_forms import other_forms

ERROR_CODES = {
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


def tool_error(code: str, sentence: str) -> ToolError:
    """Return an error that a model can act on."""
    return ToolError(f"{code}: {sentence}")


def parts_inside(folder: Path, path: str) -> tuple[str, ...]:
    """Return the parts of a path, links resolved, relative to a folder; () if it leads elsewhere."""
    real = Path(os.path.realpath(path))
    return real.relative_to(folder).parts if real.is_relative_to(folder) else ()


def home_parts_in(workspace: Path) -> tuple[str, ...] | None:
    """Return the path of the user's home folder in a workspace, None if it is elsewhere."""
    home = Path(os.path.realpath(Path.home()))
    return home.relative_to(workspace).parts if home.is_relative_to(workspace) else None


def piano_folders_in(workspace: Path) -> tuple[tuple[str, ...], ...]:
    """Return the paths of Piano's own folders in a workspace: `/tmp` may be one, or XDG_CACHE_HOME lead into it."""
    return tuple(filter(None, (parts_inside(workspace, str(each)) for each in own_folders())))


@dataclass(frozen=True, slots=True)
class OpenedPath:
    """The file or folder that a path leads to, held by a descriptor."""

    shown: str  #: the path as the model gave it
    names: tuple[str, ...]  #: its path in the workspace, links resolved
    status: os.stat_result
    descriptor: int
    resolver: PathResolver
    hazards: WriteHazards

    @property
    def is_folder(self) -> bool:
        """Whether it is a folder."""
        return stat.S_ISDIR(self.status.st_mode)

    def open(self) -> BinaryIO:
        """Open a regular file for reading. Raises ToolError for others: a pipe could block, a device could do anything.

        Raises ToolError, too, for a file that this process has open for reading and writing, like a database.
        """
        if not stat.S_ISREG(self.status.st_mode):
            raise tool_error("not_a_regular_file", f"{self.shown!r} is a {file_kind(self.status.st_mode)}")
        if is_open_for_writing(self.status):
            raise tool_error("in_use", f"{self.shown!r} is a database that is open in this kernel; query it there")
        return os.fdopen(self.resolver.open_for_reading(self.descriptor), "rb")

    def entries(self) -> Iterator[str]:
        """Yield the names in a folder except those that tools cannot see; those of folders end with a slash."""
        with (
            closing_descriptor(os.open(".", OPEN_FOLDER, dir_fd=self.descriptor)) as folder,
            os.scandir(folder) as entries,
        ):
            for each in entries:
                if not self.hazards.find_hidden((*self.names, each.name)):
                    yield f"{each.name}/" if each.is_dir(follow_symlinks=False) else each.name


@dataclass(frozen=True, slots=True)
class Place:
    """Where a path leads: links on the way resolved, and in which folder that is."""

    names: tuple[str, ...]  #: its path in the workspace
    folder: str  #: the identity of the folder that it is in, or of the nearest one that exists

    def __str__(self) -> str:
        """Return both: another folder, or a link in place of one, gives another text."""
        return f"{'/'.join(self.names)} in {self.folder}"


class Workspace:
    """A workspace and the access to it.

    `database` is protected if it is in the workspace; `readable` are hidden folders in the home folder that may be
    read; `skills` are folders of skills, `programs` what MCP servers run, as paths in the workspace.
    """

    def __init__(
        self,
        root: Path,
        database: str = "",
        *,
        resolver: PathResolver | None = None,
        readable: Sequence[str] = (),
        skills: Sequence[tuple[str, ...]] = (),
        programs: Sequence[tuple[str, ...]] = (),
    ) -> None:
        self._root = root
        self._home = Path(os.path.realpath(root))
        self._resolver = resolver or best_resolver()
        self.hazards = WriteHazards(
            workspace=self._home,
            database=parts_inside(self._home, database) if database else (),
            home=home_parts_in(self._home),
            skills=skills,
            programs=programs,
            own=piano_folders_in(self._home),
            readable=[parts for each in readable if (parts := parts_inside(self._home, os.path.expanduser(each)))],  # noqa: PTH111  Path would raise without a home.
        )

    @contextmanager
    def find(self, path: str) -> Iterator[OpenedPath]:
        """Open what a path leads to. Raises ToolError, from FileNotFoundError if there is nothing."""
        relative = self._relative(path)
        with _translate_errors(path), self._open_root() as root:
            found, names = self._open(root, relative)
            with closing_descriptor(found):
                status = os.fstat(found)
                self._check_visible(names)
                if status.st_dev == _proc_device():
                    raise _outside_error()
                yield OpenedPath(path, names, status, found, self._resolver, self.hazards)

    def locate(self, path: str) -> Place:
        """Return where a path leads now, whether or not it exists. Raises ToolError."""
        relative = self._relative(path)
        with (
            _translate_errors(path),
            self._open_root() as root,
            self._nearest(root, relative) as (nearest, names, missing),
        ):
            if missing:
                return Place((*names, *missing), _identity(nearest))
            with closing_descriptor(self._resolver.find(root, "/".join(names[:-1]) or ".")) as folder:
                return Place(names, _identity(folder))

    def check_writable(self, names: tuple[str, ...]) -> None:
        """Raise ToolError for a path that tools must not write."""
        self._check_visible(names)
        folders = {names[:depth] for depth in range(len(names))}
        hazards = replace(self.hazards, link_targets=protected_link_targets(self._home, folders | {()}))
        if found := hazards.find_protected(names):
            raise tool_error("protected", f"tools must not write {found.name!r}; tell the user what should be in it")

    def _check_visible(self, names: tuple[str, ...]) -> None:
        if found := self.hazards.find_hidden(names):
            raise tool_error("private", found.reason)

    def make(self, path: str, data: bytes, expected: tuple[str, ...] | None = None) -> tuple[str, ...]:
        """Create a file, and the folders it needs, completely or not at all; return its path in the workspace.

        Raises ToolError, also if the file exists, or if the path leads elsewhere than to `expected`.
        """
        relative = self._relative(path)
        with (
            _translate_errors(path),
            self._open_root() as root,
            self._nearest(root, relative) as (nearest, names, missing),
        ):
            if not missing:
                raise tool_error("exists", f"{path!r} already exists")
            self.check_writable((*names, *missing))
            with closing_descriptor(open_folder_beneath(nearest, missing[:-1], create=True)) as folder:
                created = (*self._resolver.resolved_names(root, folder, "/".join((*names, *missing[:-1]))), missing[-1])
                self.check_writable(created)  # A folder may have been replaced meanwhile.
                if expected is not None and created != expected:
                    raise moved_error(path)
                write_staged(root, folder, lambda staging: create_file(folder, created[-1], data, staging=staging))
            return created

    def replace(self, found: OpenedPath, data: bytes) -> None:
        """Replace a file's content completely or not at all, keeping mode and owner. Raises ToolError."""
        self.check_writable(found.names)
        *parents, name = found.names
        above = "/".join(parents) or "."
        with (
            _translate_errors(found.shown),
            self._open_root() as root,
            closing_descriptor(self._resolver.find(root, above)) as folder,
        ):
            now = os.stat(name, dir_fd=folder, follow_symlinks=False)
            before = found.status
            moved = self._resolver.resolved_names(root, folder, above) != (*parents,)
            if (
                moved
                or not os.path.samestat(now, before)
                or (now.st_mtime_ns, now.st_size) != (before.st_mtime_ns, before.st_size)
            ):
                raise tool_error("stale", f"{found.shown!r} was just changed by another program; read it again")
            write_staged(
                root, folder, lambda staging: replace_content(folder, name, data, staging=staging, like=found.status)
            )

    def _open_root(self) -> AbstractContextManager[int]:
        return closing_descriptor(os.open(self._root, OPEN_FOLDER))

    def _relative(self, path: str) -> str:
        """Return a path from a model, relative to the workspace.

        It is taken literally, relative to the root or absolute: no `~`, `$HOME` or `%2e` is expanded.
        """
        if not path or path != path.strip() or len(path) > 4000 or re.search(r"[\x00-\x1f\x7f\ud800-\udfff]", path):
            raise tool_error("bad_path", "a path is one line without control characters or surrounding blanks")
        if re.match(r"~|\$\w|.*\$\{|.*%2[ef]", path, re.IGNORECASE):
            raise tool_error("bad_path", "nothing in a path is expanded; write it in full, relative to the workspace")
        given = Path(path)
        if given.is_absolute():
            base = next((each for each in (self._root, self._home) if given.is_relative_to(each)), None)
            if base is None:
                raise _outside_error()
            given = given.relative_to(base)
        return str(given)

    @contextmanager
    def _nearest(self, root: int, relative: str) -> Iterator[tuple[int, tuple[str, ...], list[str]]]:
        """Open the longest existing part of a path; yield its descriptor, its names and the missing names after it."""
        parts = [part for part in relative.split("/") if part not in {"", "."}]
        for length in range(len(parts), -1, -1):
            existing, missing = "/".join(parts[:length]) or ".", parts[length:]
            try:
                opened = self._open(root, existing)
            except FileNotFoundError:
                if length and parts[length - 1] == "..":
                    raise
                continue
            with closing_descriptor(opened[0]):
                yield *opened, missing
            return

    def _open(self, root: int, relative: str) -> tuple[int, tuple[str, ...]]:
        """Open what a path leads to, and return its path in the workspace; retry if it is replaced meanwhile."""
        for tries_left in reversed(range(MAX_TRIES)):
            found, relative = self._find_in_any_form(root, relative)
            try:
                return found, self._resolver.resolved_names(root, found, relative)
            except BaseException as error:
                os.close(found)
                if not tries_left or not isinstance(error, FolderRemovedError):
                    raise
        raise AssertionError  # the last try returns or raises

    def _find_in_any_form(self, root: int, relative: str) -> tuple[int, str]:
        """Open a path as it is written, or else with its accents composed or decomposed; return the path, too."""
        try:
            return self._resolver.find(root, relative), relative
        except FileNotFoundError:
            for other in other_forms(relative):
                with suppress(FileNotFoundError):
                    return self._resolver.find(root, other), other
            raise


def open_regular(path: Path, shown: str) -> BinaryIO:
    """Open a regular file anywhere for reading, unless a link leads out of its folder. Raises ToolError."""
    with Workspace(path.parent).find(path.name) as found:
        return replace(found, shown=shown).open()


def _outside_error() -> ToolError:
    return tool_error("outside_workspace", "file tools can access only the workspace; give a path relative to it")


def hard_link_error(path: str) -> ToolError:
    """Return the error for writing to a file that has several names."""
    return tool_error(
        "linked",
        f"{path!r} has another name (a hard link), maybe outside the workspace, so tools cannot write it; "
        f"write a file with a new name, or tell the user",
    )


def moved_error(path: str) -> ToolError:
    """Return the error for a path that leads elsewhere than when the call was allowed."""
    return tool_error(
        "moved", f"{path!r} leads elsewhere than when this call was allowed, so nothing was written; call it again"
    )


def _identity(descriptor: int) -> str:
    status = os.fstat(descriptor)
    return f"{status.st_dev}:{status.st_ino}"


@contextmanager
def _translate_errors(path: str) -> Iterator[None]:
    """Turn an OSError into a ToolError that names the path as the model gave it."""
    try:
        yield
    except HardLinkError:
        raise hard_link_error(path) from None
    except FolderLockedError:
        why = "another program holds a lock on the folder; try again when that program has ended"
        raise tool_error("in_use", f"{path!r}: {why}") from None
    except OSError as error:
        if error.errno == errno.EXDEV:
            raise _outside_error() from None
        code = ERROR_CODES.get(error.errno or 0, "io_error")
        raise tool_error(code, f"{path!r}: {(error.strerror or 'it failed').lower()}") from error


@cache
def _proc_device() -> int:
    """Return the device of /proc, which reveals the kernel's environment if the workspace is `/`."""
    proc = Path("/proc")
    return proc.stat().st_dev if proc.is_mount() else -1
