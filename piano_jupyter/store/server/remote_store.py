"""RemoteStore: the store of a process that shares it; each operation is a request to the store process.

It lives on a thread with a loop of its own, so that any loop can use it, the exit of the process can close it, and a
kernel that computes keeps its connection. A connection that breaks is made again, with a new store process if need be,
and what was not answered is sent again: operations are safe to repeat.
"""

import asyncio
import contextlib
import os
import threading
import weakref
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any, TypeVar

from piano_jupyter.errors import StoreError
from piano_jupyter.pauses import growing_pauses
from piano_jupyter.records import Job
from piano_jupyter.store.duckdb.database_file import whole_path
from piano_jupyter.store.server import wire
from piano_jupyter.store.server.election import Election, ServerConnection
from piano_jupyter.store.server.shared_store import OPERATIONS, SharedStore
from piano_jupyter.store.server.wire import ConnectionBrokenError, frame, read_frame

GOODBYE_TIMEOUT_S = 10.0
END_TIMEOUT_S = 60.0  #: for the store process to end: it may make a copy of the file
MAX_UNSENT_EVENT_BYTES = 8 * 2**20
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.1, 30.0  #: before it is tried again to connect
MAX_SENDS = 10  #: of one request: what it asks for may be what stops the store process

Returned = TypeVar("Returned")


@dataclass(frozen=True, slots=True)
class Listener:
    """What a client does when it is told something; called on the loop that opened the store."""

    event: Callable[[bytes], None]  #: another client published this
    recovered: Callable[[list[Job]], None]  #: jobs of a kernel that is gone, as they now are
    stir: Callable[[], None]  #: something may be there to claim now
    missed: Callable[[], None]  #: another client is gone, or our connection was broken: read again what is kept


class RemoteStore(SharedStore):
    """Keeps everything in a DuckDB file that it shares with other processes, through the store process.

    Where none runs, opening starts one. `options` are for the command that starts it. `notify` is called, on any
    thread, with a sentence for the user: that the file was lost, or is damaged.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        owner: str = "",
        label: str = "",
        max_attempts: int = 3,
        listener: Listener | None = None,
        notify: Callable[[str], None] = lambda _: None,
        options: tuple[str, ...] = (),
        version: str = "",
    ) -> None:
        self.name = whole_path(path)
        self.problem = ""  #: why nothing can be stored at present
        self.others: list[str] = []  #: the other clients, by their notebooks
        hello = wire.Hello(
            wire.PROTOCOL, version or wire.own_version(), os.getpid(), owner or f"{os.getpid()}", label, max_attempts
        )
        self._new_election = partial(Election, hello=hello, options=options)
        self._election: Election
        self._listener, self._notify = listener, notify
        self._listening_loop: asyncio.AbstractEventLoop | None = None
        self._pid = os.getpid()
        self._thread: _LoopThread | None = None
        self._closed = False
        self._connection: ServerConnection | None = None
        self._was_connected = self._has_left_out = False
        self._connecting: asyncio.Lock
        self._tasks: set[asyncio.Task[Any]] = set()
        self._reconnecting: asyncio.Task[None] | None = None
        self._waiting: dict[int, asyncio.Future[bytes]] = {}
        self._numbers = count(1)
        _stores.add(self)

    @property
    def server_pid(self) -> int:
        """The store process that it was connected to last."""
        return self._connection.server_pid if self._connection else 0

    async def open(self) -> None:
        if self._thread is not None and not self._closed:
            await asyncio.wrap_future(self._running_thread().run(self._connected()))
            return
        self._pid, self._listening_loop = os.getpid(), asyncio.get_running_loop()
        self._thread, self._closed, self._connection = _LoopThread(), False, None
        self._was_connected = False
        self._connecting = asyncio.Lock()
        self._election = self._new_election(self.name)
        try:
            await asyncio.wrap_future(self._thread.run(self._connected()))
        except BaseException:
            await self.close()
            raise

    async def close(self, *, end: bool = False) -> None:
        """Finish what was asked; with `end`, the store process has ended too, unless others are connected to it."""
        thread = self._ending_thread()
        if thread is not None:
            goodbye = self._say_goodbye(END_TIMEOUT_S if end else GOODBYE_TIMEOUT_S, end=end)
            await asyncio.wrap_future(thread.run(goodbye))
            thread.stop(GOODBYE_TIMEOUT_S)

    def close_now(self, timeout: float) -> None:
        thread = self._ending_thread()
        if thread is not None:
            with contextlib.suppress(TimeoutError):
                thread.run(self._say_goodbye(timeout / 2)).result(timeout)
            thread.stop(timeout)

    async def call(self, operation: str, /, *arguments: Any, **options: Any) -> Any:
        """Have the store process do an operation."""
        packing = OPERATIONS[operation]
        packed = packing.pack_arguments(arguments, options)
        number, thread = next(self._numbers), self._running_thread()
        answer = asyncio.wrap_future(thread.run(self._request(number, operation, packed)))
        try:
            return packing.result.unpack(await asyncio.shield(answer))
        except asyncio.CancelledError:
            if answer.cancelled():  # by the close
                raise self._closed_error() from None
            answer.add_done_callback(lambda late: late.cancelled() or late.exception())  # else asyncio reports it
            thread.do(lambda: thread.loop.call_soon(self._send, wire.Cancel(number)))  # after the request itself
            raise

    def publish(self, event: bytes) -> None:
        """Tell the other clients, from any thread; nobody where the store process is not there, or hangs."""
        if self.others and self._thread is not None and not self._closed and os.getpid() == self._pid:
            self._thread.do(partial(self._send_event, event))

    def abandon(self) -> None:
        """Close what a forked child has of the connection."""
        if self._connection is not None:
            self._connection.abandon()

    def _running_thread(self) -> "_LoopThread":
        if os.getpid() != self._pid:
            raise StoreError(f"this process was forked from the one that has database {self.name} open; open it there")
        if self._closed:
            raise self._closed_error()
        if self._thread is None:
            raise StoreError(f"database {self.name} is not open")
        return self._thread

    def _closed_error(self) -> StoreError:
        return StoreError(f"database {self.name} is closed")

    def _ending_thread(self) -> "_LoopThread | None":
        """Return the thread that is to be ended, if there is one; nothing is begun on it any more."""
        if os.getpid() != self._pid:
            return None
        thread = None if self._closed else self._thread
        self._closed = True
        return thread

    async def _request(self, number: int, operation: str, packed: bytes) -> bytes:
        for _ in range(MAX_SENDS):
            await self._connected()
            self._waiting[number] = answer = asyncio.get_running_loop().create_future()
            try:
                self._send(wire.Call(number, operation, packed))
                reply: bytes = await answer
            except ConnectionBrokenError:
                continue  # sent again: the reply may be all that was lost
            finally:
                del self._waiting[number]
            return reply
        raise StoreError(
            f"the store process of database {self.name} stopped {MAX_SENDS} times while it was asked for {operation}"
        )

    def _send(self, content: wire.Request) -> None:
        data = frame(content)
        if self._connection is not None:
            self._connection.writer.write(data)

    def _send_event(self, event: bytes) -> None:
        if self._connection is not None:
            unsent = self._connection.writer.transport.get_write_buffer_size()
            if unsent + len(event) <= MAX_UNSENT_EVENT_BYTES:
                self._send(wire.Publish(event))
            elif not self._has_left_out:
                self._has_left_out = True
                self._keep(self._tell_that_some_were_left_out(self._connection))

    async def _tell_that_some_were_left_out(self, connection: ServerConnection) -> None:
        """Have the others read again what is kept, once the store process reads; it tells them if that ends instead."""
        with contextlib.suppress(OSError):
            await connection.writer.drain()
        self._has_left_out = False
        if connection is self._connection:
            self._send(wire.Publish(b""))

    async def _connected(self) -> None:
        """Return once there is a connection. Raises StoreError."""
        async with self._connecting:
            if self._connection is None:
                if self._closed:
                    raise self._closed_error()
                made: list[ServerConnection] = []
                self._connection = await self._election.connect(made.append)
                self._take(self._connection.state)
                if self._was_connected and self._listener:
                    self._tell(self._listener.missed)  # before anything is asked over the new connection
                self._was_connected = True
                self._keep(self._read(self._connection))

    async def _read(self, connection: ServerConnection) -> None:
        """Take in what the store process sends, until the connection ends; then make another one."""
        try:
            while True:
                self._take(await read_frame(connection.reader, wire.REPLY))
        except ConnectionBrokenError as error:
            connection.close()
            self._connection = None
            for answer in self._waiting.values():
                if not answer.done():
                    answer.set_exception(error)
        if not self._closed:
            self._stop_reconnecting()
            self._reconnecting = self._keep(self._reconnect())

    def _take(self, reply: wire.Reply) -> None:
        match reply:
            case wire.Result() | wire.Failure():
                answer = self._waiting.get(reply.id)
                if answer is None or answer.done():
                    return
                if isinstance(reply, wire.Result):
                    answer.set_result(reply.value)
                else:
                    answer.set_exception(wire.ERROR.unpack(reply.error))
            case wire.RelayedEvent() if self._listener:
                self._tell(partial(self._listener.event, reply.event))
            case wire.Recovered() if self._listener:
                self._tell(partial(self._listener.recovered, wire.JOBS.unpack(reply.jobs)))
            case wire.Stir() if self._listener:
                self._tell(self._listener.stir)
            case wire.Gap() if self._listener:
                self._tell(self._listener.missed)
            case wire.State():
                is_one_gone = len(reply.others) < len(self.others)
                self.name, self.problem, self.others = reply.name, reply.problem, reply.others
                self._election.database = reply.name
                if is_one_gone and self._listener:  # what it has left is nobody's now
                    self._tell(self._listener.missed)
            case wire.Notice():
                asyncio.get_running_loop().call_soon(self._notify, reply.sentence)

    async def _reconnect(self) -> None:
        """Connect again, until that succeeds: somebody may wait for what others do. The next request tells an error."""
        pauses = growing_pauses(FIRST_PAUSE_S, LONGEST_PAUSE_S)
        while self._connection is None and not self._closed:
            try:
                await self._connected()
            except StoreError:
                await asyncio.sleep(next(pauses))

    def _stop_reconnecting(self) -> None:
        """End a pause that goes on though a request has connected meanwhile."""
        if self._reconnecting is not None:
            self._reconnecting.cancel()

    async def _say_goodbye(self, timeout: float, *, end: bool = False) -> None:
        """Let the store process do what was asked, and end the connection; what waits longer is given up."""
        if end:
            async with self._connecting:  # a process that is being started would stay
                pass
        if self._connection is not None:
            self._stop_reconnecting()
            self._send(wire.Goodbye(end))
            await asyncio.wait(self._tasks, timeout=timeout)
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for task in left:
            task.cancel()
        if left:
            await asyncio.wait(left)

    def _tell(self, function: Callable[[], None]) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed
            if self._listening_loop is not None:
                self._listening_loop.call_soon_threadsafe(function)

    def _keep(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


class _LoopThread:
    """A thread that runs a loop. It is a daemon, so that the exit of the process can go on to close the store."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="piano-store", daemon=True)
        self._thread.start()

    def run(self, coroutine: Coroutine[Any, Any, Returned]) -> "Future[Returned]":
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop)

    def do(self, function: Callable[[], Any]) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed
            self.loop.call_soon_threadsafe(function)

    def stop(self, timeout: float) -> None:
        self.do(self.loop.stop)
        self._thread.join(timeout)

    def _run(self) -> None:
        try:
            self.loop.run_forever()
        finally:
            self.loop.close()


_stores: "weakref.WeakSet[RemoteStore]" = weakref.WeakSet()


def _abandon_all() -> None:
    for store in tuple(_stores):
        store.abandon()


os.register_at_fork(after_in_child=_abandon_all)
