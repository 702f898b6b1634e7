"""Where a tool may reach in the file system: the one place that says so.

File tools reach what lies beneath the workspace and nothing else. A refusal is a word and a sentence,
`outside_workspace: ...`; it is the same whether or not there is something outside.
"""

import errno
import fcntl
import os
import re
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from piano_jupyter.errors import ToolError

PRIVATE = {".piano"}  #: Piano's own data: not even read
#: What runs by itself later, or instructs an agent: file tools do not write it.
PROTECTED = {".agents", ".env", ".git", ".ipython", ".jupyter", ".mcp.json", ".vscode", "agents.md"}
CODES = {
    errno.EACCES: "no_permission",
    errno.EDQUOT: "no_space",
    errno.EEXIST: "exists",
    errno.EFBIG: "no_space",
    errno.EISDIR: "not_a_regular_file",
    errno.ELOOP: "bad_path",
    errno.ENAMETOOLONG: "bad_path",
    errno.ENOENT: "not_found",
    errno.ENOSPC: "no_space",
    errno.ENOTDIR: "not_found",
    errno.EPERM: "no_permission",
    errno.EROFS: "no_permission",
}


def refused(code: str, sentence: str) -> ToolError:
    """Return a refusal that a model can act on."""
    return ToolError(f"{code}: {sentence}")


def beneath(root: Path, path: str) -> Path:
    """Return where a path that a model gave leads, links followed. Raises ToolError unless that is beneath the root.

    It is taken as it stands, relative to the root or absolute: no `~`, `$HOME` or `%2e` is expanded.
    """
    if not path or path != path.strip() or len(path) > 4000 or re.search(r"[\x00-\x1f\x7f\ud800-\udfff]", path):
        raise refused("bad_path", "a path is one line of plain characters, without blanks around it")
    if re.match(r"~|\$\w|.*\$\{|.*%2[ef]", path, re.IGNORECASE):
        raise refused("bad_path", "nothing in a path is expanded; write it out, relative to the workspace")
    here = home = Path(os.path.realpath(root))
    given = Path(path)
    if given.is_absolute():
        base = next((each for each in (root, home) if given.is_relative_to(each)), None)
        if base is None:
            raise _outside()
        given = given.relative_to(base)
    for part in given.parts:
        here = Path(os.path.realpath(here / part))
        if not here.is_relative_to(home):
            raise _outside()
    if PRIVATE.intersection(here.relative_to(home).parts):
        raise refused("private", "this is Piano's own data, which file tools do not touch")
    return here


def writable(root: Path, path: str) -> Path:
    """Return where the path leads, if a tool may write there. Raises ToolError."""
    here = beneath(root, path)
    for part in here.relative_to(os.path.realpath(root)).parts:
        if part.casefold() in PROTECTED:
            raise refused("protected", f"tools do not write {part!r}; tell the user what should be in it")
    return here


@contextmanager
def told(path: str) -> Iterator[None]:
    """Turn an error of the file system into a refusal that names the path as the model gave it."""
    try:
        yield
    except OSError as error:
        code = CODES.get(error.errno or 0, "io_error")
        raise refused(code, f"{path!r}: {(error.strerror or 'it failed').lower()}") from error


def open_regular(path: Path, shown: str) -> BinaryIO:
    """Open a regular file for reading. Raises ToolError for any other: a pipe would wait, a device would act.

    Nor is a file opened that this process has open for reading and writing, as databases are: closing the second
    descriptor would drop the locks of the first.
    """
    with told(shown):
        before = path.stat()
        if not stat.S_ISREG(before.st_mode):
            raise refused("not_a_regular_file", f"{shown!r} is a {_kind(before.st_mode)}")
        if _held(before):
            raise refused("in_use", f"{shown!r} is a database that is open in this kernel; query it there")
        flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY | os.O_NOFOLLOW
        file = os.fdopen(os.open(path, flags), "rb")
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            file.close()
            raise refused("not_a_regular_file", f"{shown!r} was exchanged meanwhile")
        return file


def write_new(path: Path, data: bytes, shown: str) -> None:
    """Write a file that must not exist yet: whole or not at all. Makes its folders. Raises ToolError."""
    with told(shown):
        path.parent.mkdir(parents=True, exist_ok=True)
        with _beside(path, data) as temporary:
            try:
                os.link(temporary, path)
            except FileExistsError as error:
                raise refused("exists", f"{shown!r} is there already") from error
            except OSError:  # A file system without hard links.
                with path.open("xb") as file:
                    file.write(data)


def replace(path: Path, data: bytes, shown: str) -> None:
    """Exchange a file's content, old or new but never a mixture, keeping mode and owner. Raises ToolError."""
    with told(shown):
        before = path.stat()
        with _beside(path, data) as temporary:
            with suppress(PermissionError):
                os.chown(temporary, before.st_uid, before.st_gid)
            temporary.chmod(stat.S_IMODE(before.st_mode))
            temporary.replace(path)


def _outside() -> ToolError:
    return refused("outside_workspace", "file tools reach only what is in the workspace; give a path relative to it")


def _kind(mode: int) -> str:
    kinds = ((stat.S_ISDIR, "folder"), (stat.S_ISFIFO, "named pipe"), (stat.S_ISSOCK, "socket"))
    return next((word for test, word in kinds if test(mode)), "device")


def _held(file: os.stat_result) -> bool:
    """Return whether this process has the file open for reading and writing."""
    folder = Path("/dev/fd")
    for each in folder.iterdir() if folder.is_dir() else ():
        with suppress(OSError):
            same = os.path.samestat(os.fstat(int(each.name)), file)
            if same and fcntl.fcntl(int(each.name), fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDWR:
                return True
    return False


@contextmanager
def _beside(path: Path, data: bytes) -> Iterator[Path]:
    """Give a temporary file in the same folder that holds the data, on the disk."""
    temporary = path.parent / f".piano-{secrets.token_hex(6)}.tmp"
    try:
        with temporary.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)
