"""The lock of a database: an `flock` on `FILE.lock` beside it, held as long as the database is open.

DuckDB locks its file too, but with a POSIX lock, which is gone as soon as anything in the process closes another handle
of that file: a copy of the folder is enough. An `flock` stays with the handle that took it. The lock file is never
deleted: whoever waits at a deleted one would hold a lock that nobody else sees.

On a network disk a lock may be each host's own. There the file itself says who has the database, and whoever has it
touches it now and then: as long as another host does, nobody else gets it.
"""

import contextlib
import errno
import fcntl
import os
import re
import stat
import sys
import threading
from collections.abc import Callable
from pathlib import Path

from piano_jupyter.errors import StoreError, StoreLockedError
from piano_jupyter.secrets.redactor import redact
from piano_jupyter.text.truncation import truncated

ELSEWHERE = "set PianoConfig.database to another file or ':memory:'"
OTHER_DATABASE = '%config PianoConfig.database = ".piano/other.duckdb"'

MARK = b"piano_jupyter "  #: how a lock file begins
FLAGS = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK  # not inherited; waits for no pipe's end
HOLDER = re.compile(
    rb"piano_jupyter (?P<pid>\d+)\t(?P<host>[^\t\n]*)\t(?P<command>[^\t\n]*)(?:\t(?P<boot>[^\t\n]*))?\n"
    rb"(?:notebook\t(?P<notebook>[^\t\n]+)\n)?"
    rb"(?:namespace\t(?P<namespace>[^\t\n]+)\n)?"
)
STORE_PROCESS = "piano_jupyter.store.server"  #: in the command line of one
NOTEBOOK = re.compile(r"[^/\\]+\.ipynb")  #: the file's name in what Jupyter calls a session; VS Code adds an id to it
TAKEN = {errno.EWOULDBLOCK, errno.EACCES}
NO_FILE = {errno.ELOOP, errno.EISDIR, errno.ENXIO}
LONGEST_CONTENT_BYTES = 4096
LONGEST_COMMAND = 80  #: characters of a command line that are told
FORBIDDEN = {errno.EACCES, errno.EPERM, errno.EROFS}
REFRESH_S = 15.0  #: between two touches of the lock file, on a network disk
STALE_S = 60.0  #: without a touch, after which another host is taken for gone


def take_lock(path: str, name: str, disk: str = "") -> int:
    """Lock `path` for the database called `name`; return the descriptor that holds the lock.

    `disk` is what network disk it lies on. Raises StoreLockedError where another process has it, StoreError where there
    can be no lock.
    """
    while True:
        file = _open(path, name)
        try:
            _lock(file, name, disk)
            if _is_at(file, path):
                if disk:
                    _check_other_hosts(file, path, name, disk)
                with contextlib.suppress(OSError):  # on a full disk, the lock holds without a name on it
                    os.ftruncate(file, os.pwrite(file, _me(), 0))  # a killed kernel may have left more
                    if disk:
                        os.fsync(file)  # the other hosts read it on the server
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


def keep_fresh(file: int) -> Callable[[], None]:
    """Touch a lock file on a network disk now and then; return what ends that."""
    ended = threading.Event()

    def touch() -> None:
        while not ended.wait(REFRESH_S):
            with contextlib.suppress(OSError):
                os.utime(file)

    thread = threading.Thread(target=touch, name="piano-lock", daemon=True)
    thread.start()

    def end() -> None:
        ended.set()
        thread.join()  # or it could touch what has the descriptor next

    return end


def command_of(pid: int | str) -> str:
    """Return the command line of a process of this machine, or its beginning; "" where it cannot be seen."""
    try:
        arguments = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""
    program, *others = arguments.split() or [""]
    return truncated(redact(" ".join([os.path.basename(program), *others])), LONGEST_COMMAND)  # noqa: PTH119


def _open(path: str, name: str) -> int:
    try:
        file = os.open(path, FLAGS, 0o600)
    except OSError as error:
        if error.errno in NO_FILE:
            raise _not_ours(path, name) from error
        what, way_out = ("written", "allow it") if error.errno in FORBIDDEN else ("locked", "fix that")
        raise StoreError(
            f"database {name} cannot be {what} ({error.strerror}: {path}): {way_out}, or {ELSEWHERE}"
        ) from error
    about = os.fstat(file)
    if stat.S_ISREG(about.st_mode) and about.st_nlink <= 1 and _is_ours(os.pread(file, LONGEST_CONTENT_BYTES + 1, 0)):
        return file
    os.close(file)
    raise _not_ours(path, name)


def _is_ours(content: bytes) -> bool:
    """Return whether this is in a lock file, or may be what a power cut has left of one: nothing, or zeros."""
    return MARK.startswith(content[: len(MARK)]) or (len(content) <= LONGEST_CONTENT_BYTES and not any(content))


def _not_ours(path: str, name: str) -> StoreError:
    return StoreError(
        f"database {name} cannot be locked: {path} is a link, or no lock file of Piano's; "
        f"move it out of the way, or {ELSEWHERE}"
    )


def _lock(file: int, name: str, disk: str) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in TAKEN:
            holder = _holder(file)
            stop = "shut down the kernels that use it" if STORE_PROCESS in holder else "stop that kernel"
            raise StoreLockedError(
                f"database {name} is open in {holder}: {stop}, or {ELSEWHERE}, such as\n{OTHER_DATABASE}"
            ) from None
        raise without_locks(name, error.strerror or str(error), disk) from error


def without_locks(name: str, why: str, disk: str = "") -> StoreError:
    """Return what to raise where a file system has no locks to give."""
    place = "its file system may have none, as some network drives"
    if disk:
        place = f"it lies on a network disk ({disk}) that gives none"
    return StoreError(f"database {name} cannot be locked ({why}): {place}; put it on a local disk: {ELSEWHERE}")


def _check_other_hosts(file: int, path: str, name: str, disk: str) -> None:
    """Raise StoreLockedError where the lock file names a process of another host, which touched it a moment ago."""
    found = HOLDER.match(os.pread(file, 1000, 0))
    if found is None or (found["boot"] or found["host"]) in {_boot(), os.uname().nodename.encode()}:
        return
    if _now_on_disk(path) - os.fstat(file).st_mtime < STALE_S:
        raise StoreLockedError(
            f"database {name} lies on a network disk ({disk}) and is open in {_holder(file)}: stop that kernel (if "
            f"that host is gone, try again in {STALE_S:.0f} s), or put it on a local disk: {ELSEWHERE}"
        )


def _now_on_disk(path: str) -> float:
    """Return the time by the clock of the server: that of another host may go wrong."""
    place = f"{path}.now"
    file = os.open(place, FLAGS, 0o600)
    try:
        os.pwrite(file, b"?", 0)
        os.utime(file)
        return os.fstat(file).st_mtime
    finally:
        os.close(file)
        with contextlib.suppress(OSError):
            os.unlink(place)  # noqa: PTH108  Named as the lock is.


def _is_at(file: int, name: str) -> bool:
    try:
        return os.path.samestat(os.fstat(file), os.lstat(name))
    except OSError:
        return False


def _me() -> bytes:
    command = command_of("self") or truncated(redact(" ".join(sys.argv)), LONGEST_COMMAND)
    parts = (str(os.getpid()), os.uname().nodename, command)
    line = "\t".join(" ".join(part.split()) for part in parts).encode(errors="replace") + b"\t" + _boot() + b"\n"
    if found := NOTEBOOK.search(os.environ.get("JPY_SESSION_NAME", "")):
        line += f"notebook\t{' '.join(redact(found[0]).split())}\n".encode(errors="replace")
    return MARK + line + b"namespace\t" + _namespace() + b"\n"


def _boot() -> bytes:
    """Return what tells this machine, since it was started, from all others: two may have one name."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_bytes().strip()
    except OSError:
        return os.uname().nodename.encode()


def _namespace() -> bytes:
    """Return what tells this container's processes, on this machine, from those of other containers."""
    try:
        return os.readlink("/proc/self/ns/pid").encode()  # noqa: PTH115
    except OSError:
        return b"unknown"


def _holder(file: int) -> str:
    """Return who has the lock, as far as the file tells."""
    found = HOLDER.match(os.pread(file, 1000, 0))
    if found is None:
        return "another process"
    parts = ("pid", "host", "command", "notebook")
    pid, host, command, notebook = ((found[part] or b"").decode(errors="replace") for part in parts)
    elsewhere = f" on {host}" if host != os.uname().nodename else ""
    if found["boot"] == _boot() and (found["namespace"] or _namespace()) != _namespace():
        return f"a process of another container, which cannot be seen from here ({command or 'unknown'}){elsewhere}"
    return f"process {pid} ({command or 'unknown'}){elsewhere}{notebook and f', the kernel of {notebook}'}"
