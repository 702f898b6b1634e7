"""ServerSocket: the socket at which the kernels of a workspace find the store process of one database."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

from piano_jupyter.store.server.socket_folder import CannotShareError, listening_socket, server_files

Connected = Callable[["ServerSocket", asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class ServerSocket:
    """The socket of a database, listening; connections are accepted once `accept` is called."""

    def __init__(self, database: str) -> None:
        """Raise CannotShareError where there can be none."""
        self._database, self._files = database, server_files(database)
        self._listening = listening_socket(self._files.socket)
        self._inode = self._files.socket.stat().st_ino
        self._server: asyncio.Server | None = None

    async def accept(self, connected: Connected) -> None:
        """Have each connection served."""
        self._server = await asyncio.start_unix_server(
            lambda reader, writer: connected(self, reader, writer), sock=self._listening
        )

    @property
    def is_lost(self) -> bool:
        """Whether kernels do not find it: it was removed, or they look in another folder by now."""
        try:
            return self._files != server_files(self._database) or self._files.socket.stat().st_ino != self._inode
        except FileNotFoundError:
            return True
        except (CannotShareError, OSError):
            return False  # there is no better place

    def close(self) -> None:
        """Listen no more, and remove the socket, unless another process has put its own there."""
        with contextlib.suppress(FileNotFoundError):
            if self._files.socket.stat().st_ino == self._inode:
                self._files.socket.unlink()
            if self._files.log.stat().st_size == 0:
                self._files.log.unlink()
        if self._server is None:
            self._listening.close()
        else:
            self._server.close()
