"""Election: connects to the store process of a database; where there is none, one of those who need it starts it."""

import asyncio
import contextlib
import fcntl
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

from piano_jupyter.errors import StoreError, StoreLockedError
from piano_jupyter.store.duckdb.lock import STORE_PROCESS
from piano_jupyter.store.server import wire
from piano_jupyter.store.server.socket_folder import (
    NOT_SHARED,
    CannotShareError,
    ServerFiles,
    is_same_user,
    server_files,
)
from piano_jupyter.store.server.wire import ConnectionBrokenError, frame, read_frame
from piano_jupyter.text.truncation import truncated

CONNECT_TIMEOUT_S = 30.0
RETRY_S = 0.02
LEAVING_S = 3.0  #: how long a store process that does not listen may keep the database: it was killed, or just begins
MAX_LOG_CHARS = 300
STARTED = b"\1"  #: what a store process says before it says what is wrong, if anything is
NO_SERVER = (FileNotFoundError, ConnectionRefusedError)
#: What the process gets of the environment: to find its modules and its folders; no keys.
ENVIRONMENT = {
    *("HOME", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "PATH", "TMPDIR", "VIRTUAL_ENV", "XDG_RUNTIME_DIR"),
    *("PYTHONHOME", "PYTHONNOUSERSITE", "PYTHONPATH", "PYTHONUSERBASE"),
}


class ServerConnection:
    """A connection to a store process that has welcomed us."""

    def __init__(self, own: socket.socket, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.socket, self.reader, self.writer = own, reader, writer
        self.server_pid = 0
        self.state: wire.State  #: as it was at the welcome

    def close(self) -> None:
        """Close it at once."""
        self.writer.transport.abort()

    def abandon(self) -> None:
        """Close what a forked child has of it: the connection would outlive the parent."""
        if (descriptor := self.socket.detach()) >= 0:
            os.close(descriptor)


class Election:
    """The way to the store process of one database, for one client."""

    def __init__(self, database: str, hello: wire.Hello, options: Sequence[str] = ()) -> None:
        self.database = database  #: the file in use
        self._hello, self._options = hello, options
        self._id = ""  #: of the database that was connected to first
        self._replaced = ""  #: that it was replaced since

    async def connect(self, opened: Callable[[ServerConnection], None]) -> ServerConnection:
        """Return a connection to the store process, which is started if need be; each that is made is told.

        Raises CannotShareError where it cannot be started; StoreError where it is of another version, cannot open the
        database, or has another one than before.
        """
        if self._replaced:
            raise StoreError(self._replaced)
        files = server_files(self.database)
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                return await self._connected_in_the_end(files, opened)
        except TimeoutError:
            raise StoreLockedError(
                f"the store process of database {self.database} did not answer within {CONNECT_TIMEOUT_S:.0f} s: it "
                f"is stopped, or very busy; end it (see {files.log}), or {NOT_SHARED}"
            ) from None
        except OSError as error:
            raise CannotShareError(
                f"the store process at {files.socket} cannot be reached ({error}); {NOT_SHARED}"
            ) from error

    async def _connected_in_the_end(
        self, files: ServerFiles, opened: Callable[[ServerConnection], None]
    ) -> ServerConnection:
        now = asyncio.get_running_loop().time
        patient_until = now() + LEAVING_S
        while True:
            try:
                if connection := await self._connected(files, opened):
                    return connection
            except NO_SERVER:
                async with _start_lock(files) as is_ours:
                    if is_ours and not await self._answers(files):
                        try:
                            await self._start(files)
                            continue
                        except StoreLockedError as error:
                            if STORE_PROCESS not in str(error) or now() > patient_until:
                                raise
            await asyncio.sleep(RETRY_S)

    async def _connected(
        self, files: ServerFiles, opened: Callable[[ServerConnection], None]
    ) -> ServerConnection | None:
        """Return the connection, or None where the process is leaving. Raises OSError where none is there."""
        connection = await _opened(files.socket)
        opened(connection)
        try:
            if await self._is_welcome(connection, files):
                return connection
            await connection.reader.read()  # until it has left
        except ConnectionBrokenError:
            pass
        except BaseException:
            connection.close()
            raise
        connection.close()
        return None

    async def _is_welcome(self, connection: ServerConnection, files: ServerFiles) -> bool:
        """Return whether we may stay; False where the process is leaving. Raises StoreError where it refuses us."""
        if not is_same_user(connection.socket):
            raise CannotShareError(f"the store process at {files.socket} belongs to another user; {NOT_SHARED}")
        connection.writer.write(frame(self._hello))
        reply = await read_frame(connection.reader, wire.FIRST_REPLY)
        if isinstance(reply, wire.Refused):
            raise StoreLockedError(reply.sentence)
        if isinstance(reply, wire.Leaving):
            return False
        if self._id and reply.database not in {self._id, ""}:
            connection.writer.write(frame(wire.Goodbye()))
            self._replaced = (
                f"database {self.database} was replaced by another database while the store process was gone: "
                "restart this kernel to use that"
            )
            raise StoreError(self._replaced)
        self._id = reply.database or self._id
        connection.server_pid = reply.pid
        connection.state = await read_frame(connection.reader, wire.STATE)
        return True

    @staticmethod
    async def _answers(files: ServerFiles) -> bool:
        """Return whether a process listens: another client may have started one meanwhile."""
        try:
            connection = await _opened(files.socket)
        except NO_SERVER:
            return False
        connection.close()
        return True

    async def _start(self, files: ServerFiles) -> None:
        """Start a store process and wait until it listens. Raises StoreError, with its own reason."""
        command = [sys.executable, "-P", "-m", __package__, *self._options, "--", self.database]
        reading, writing = os.pipe()
        try:
            with open(files.log, "wb", opener=_private) as log:  # noqa: ASYNC230  A few bytes, in our own folder.
                process = subprocess.Popen(  # noqa: ASYNC220, S603  Our own module; it ends when it has forked.
                    command,
                    cwd="/",
                    env=_environment(),
                    stdin=subprocess.DEVNULL,
                    stdout=writing,
                    stderr=log,
                    start_new_session=True,
                )
        except OSError as error:
            os.close(reading)
            raise CannotShareError(f"the store process cannot be started ({error}); {NOT_SHARED}") from error
        finally:
            os.close(writing)
        try:
            told = await _all_of(reading)
        finally:
            process.wait()  # it has forked
        if told == STARTED:
            return
        said = files.log.read_text(errors="replace") if files.log.exists() else ""
        lines = said.strip().splitlines() or ["nothing was said"]
        files.log.unlink(missing_ok=True)
        if told.startswith(STARTED):
            raise wire.ERROR.unpack(told[len(STARTED) :])
        why = truncated(lines[-1], MAX_LOG_CHARS)
        raise CannotShareError(f"the store process of database {self.database} did not start: {why}; {NOT_SHARED}")


async def _opened(path: Path) -> ServerConnection:
    own = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    own.setblocking(False)  # noqa: FBT003  The socket's own signature.
    try:
        await asyncio.get_running_loop().sock_connect(own, str(path))
        reader, writer = await asyncio.open_unix_connection(sock=own)
    except BaseException:
        own.close()
        raise
    return ServerConnection(own, reader, writer)


@contextlib.asynccontextmanager
async def _start_lock(files: ServerFiles) -> AsyncIterator[bool]:
    """Give whether we are the one who may start the process."""
    try:
        file = os.open(files.start_lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise CannotShareError(
            f"the store process cannot be started: {files.start_lock} cannot be made ({error.strerror}); {NOT_SHARED}"
        ) from error
    try:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        try:
            is_ours = _is_at(file, files.start_lock)  # else its last owner has removed it
            try:
                yield is_ours
            finally:
                if is_ours:
                    files.start_lock.unlink(missing_ok=True)
        finally:
            fcntl.flock(file, fcntl.LOCK_UN)  # also for a child that was forked meanwhile
    finally:
        os.close(file)


def _is_at(file: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file), path.lstat())
    except FileNotFoundError:
        return False


async def _all_of(pipe: int) -> bytes:
    """Return what comes out of a pipe until its end."""
    reader = asyncio.StreamReader()
    with os.fdopen(pipe, "rb") as file:
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), file
        )
        try:
            return await reader.read()
        finally:
            transport.close()


def _environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name in ENVIRONMENT}
    if "PYTHONPATH" in kept:  # it is started in another folder
        kept["PYTHONPATH"] = os.pathsep.join(map(os.path.abspath, kept["PYTHONPATH"].split(os.pathsep)))
    return kept


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
