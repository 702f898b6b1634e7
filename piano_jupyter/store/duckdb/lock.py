"""The lock of a database: an `flock` on `FILE.lock` beside it, held as long as the database is open.

DuckDB locks its file too, but with a POSIX lock, which is gone as soon as anything in the process closes another handle
of that file: a copy of the folder is enough. An `flock` stays with the handle that took it. The lock file is never
deleted: whoever waits at a deleted one would hold a lock that nobody else sees.
"""

import contextlib
import errno
import fcntl
import os
import re
import stat
import sys
from pathlib import Path

from piano_jupyter.errors import StoreError, StoreLockedError
from piano_jupyter.secrets.redactor import redact
from piano_jupyter.text.truncation import truncated

ELSEWHERE = "set PianoConfig.database to another file or ':memory:'"
OTHER_DATABASE = '%config PianoConfig.database = ".piano/other.duckdb"'

MARK = b"piano_jupyter "  #: how a lock file begins
FLAGS = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK  # not inherited; waits for no pipe's end
HOLDER = re.compile(
    rb"piano_jupyter (?P<pid>\d+)\t(?P<host>[^\t\n]*)\t(?P<command>[^\t\n]*)\n(?:notebook\t(?P<notebook>[^\t\n]+)\n)?"
)
NOTEBOOK = re.compile(r"[^/\\]+\.ipynb")  #: the file's name in what Jupyter calls a session; VS Code adds an id to it
TAKEN = {errno.EWOULDBLOCK, errno.EACCES}
NO_FILE = {errno.ELOOP, errno.EISDIR, errno.ENXIO}
LONGEST_COMMAND = 80  #: characters of a command line that are told
FORBIDDEN = {errno.EACCES, errno.EPERM, errno.EROFS}


def take_lock(path: str, name: str) -> int:
    """Lock `path` for the database called `name`; return the descriptor that holds the lock.

    Raises StoreLockedError where another process has it, StoreError where there can be no lock.
    """
    while True:
        file = _open(path, name)
        try:
            _lock(file, name)
            if _is_at(file, path):
                with contextlib.suppress(OSError):  # on a full disk, the lock holds without a name on it
                    os.ftruncate(file, os.pwrite(file, _me(), 0))  # a killed kernel may have left more
                return file
        except BaseException:
            os.close(file)
            raise
        os.close(file)  # it was deleted or replaced meanwhile


def release_lock(file: int) -> None:
    """Unlock a database, also where a forked child has the descriptor still."""
    with contextlib.suppress(OSError):  # an old name in it harms nobody
        os.ftruncate(file, 0)
    try:
        fcntl.flock(file, fcntl.LOCK_UN)
    finally:
        os.close(file)


def command_of(pid: int | str) -> str:
    """Return the command line of a process of this machine, or its beginning; "" where it cannot be seen."""
    try:
        arguments = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""
    return truncated(redact(" ".join(arguments.split())), LONGEST_COMMAND)


def _open(path: str, name: str) -> int:
    try:
        file = os.open(path, FLAGS, 0o666)
    except OSError as error:
        if error.errno in NO_FILE:
            raise _not_ours(path, name) from error
        what, way_out = ("written", "allow it") if error.errno in FORBIDDEN else ("locked", "fix that")
        raise StoreError(
            f"database {name} cannot be {what} ({error.strerror}: {path}): {way_out}, or {ELSEWHERE}"
        ) from error
    about = os.fstat(file)
    if stat.S_ISREG(about.st_mode) and about.st_nlink <= 1 and MARK.startswith(os.pread(file, len(MARK), 0)):
        return file
    os.close(file)
    raise _not_ours(path, name)


def _not_ours(path: str, name: str) -> StoreError:
    return StoreError(
        f"database {name} cannot be locked: {path} is a link, or no lock file of Piano's; "
        f"move it out of the way, or {ELSEWHERE}"
    )


def _lock(file: int, name: str) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in TAKEN:
            raise StoreLockedError(
                f"database {name} is open in {_holder(file)}: stop that kernel, "
                f"or {ELSEWHERE}, such as\n{OTHER_DATABASE}"
            ) from None
        raise without_locks(name, error.strerror or str(error)) from error


def without_locks(name: str, why: str) -> StoreError:
    """Return what to raise where a file system has no locks to give."""
    return StoreError(
        f"database {name} cannot be locked ({why}): its file system may have none, as some network drives; "
        f"put it on a local disk: {ELSEWHERE}"
    )


def _is_at(file: int, name: str) -> bool:
    try:
        return os.path.samestat(os.fstat(file), os.lstat(name))
    except OSError:
        return False


def _me() -> bytes:
    command = command_of("self") or truncated(redact(" ".join(sys.argv)), LONGEST_COMMAND)
    parts = (str(os.getpid()), os.uname().nodename, command)
    lines = ["\t".join(" ".join(part.split()) for part in parts)]
    if found := NOTEBOOK.search(os.environ.get("JPY_SESSION_NAME", "")):
        lines.append(f"notebook\t{' '.join(redact(found[0]).split())}")
    return MARK + "".join(f"{line}\n" for line in lines).encode(errors="replace")


def _holder(file: int) -> str:
    """Return who has the lock, as far as the file tells."""
    found = HOLDER.match(os.pread(file, 1000, 0))
    if found is None:
        return "another process"
    pid, host, command, notebook = (part.decode(errors="replace") for part in found.groups(b""))
    elsewhere = f" on {host}" if host != os.uname().nodename else ""
    return f"process {pid} ({command or 'unknown'}){elsewhere}{notebook and f', the kernel of {notebook}'}"
