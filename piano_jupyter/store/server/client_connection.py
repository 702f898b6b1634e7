"""ClientConnection: what the store process has of one kernel: the way back to it, bounded in memory."""

import asyncio

from piano_jupyter.errors import StoreError
from piano_jupyter.store.server import wire
from piano_jupyter.store.server.shared_store import Client
from piano_jupyter.store.server.wire import frame

MAX_UNREAD_EVENT_BYTES = 8 * 2**20
MAX_WAITING_REPLY_BYTES = 2 * wire.MAX_FRAME_BYTES
MAX_REQUESTS = 64  #: that one kernel may have waiting; the others are read later


class ClientConnection:
    """A kernel that is connected. One that does not read what it is sent is cut off."""

    def __init__(self, client: Client, writer: asyncio.StreamWriter) -> None:
        self.client = client
        self.requests: dict[int, asyncio.Task[None]] = {}
        self.room = asyncio.Semaphore(MAX_REQUESTS)
        self._writer = writer
        self._turn = asyncio.Lock()
        self._waiting_bytes = self._written_bytes = 0  # of replies: before their turn, and in their turn

    async def reply(self, content: wire.Result | wire.Failure) -> None:
        """Send a reply once the kernel has read the earlier ones."""
        try:
            data = frame(content)
        except StoreError as error:
            data = frame(wire.Failure(content.id, wire.ERROR.pack(error)))
        self._waiting_bytes += len(data)
        if self._waiting_bytes > MAX_WAITING_REPLY_BYTES:
            self.cut_off()
        try:
            async with self._turn:
                if self._writer.is_closing():
                    return
                self._written_bytes = len(data)
                self._writer.write(data)
                await self._writer.drain()
        except OSError:
            return  # it is gone, which its reader sees too
        finally:
            self._written_bytes = 0
            self._waiting_bytes -= len(data)

    def push(self, data: bytes) -> None:
        """Send a frame that nobody asked for."""
        if self._writer.is_closing():
            return
        unread = self._writer.transport.get_write_buffer_size() - self._written_bytes
        if unread + len(data) > MAX_UNREAD_EVENT_BYTES:
            self.cut_off()
        else:
            self._writer.write(data)

    def cut_off(self) -> None:
        """End the connection at once, and forget what was to be sent."""
        self._writer.transport.abort()
