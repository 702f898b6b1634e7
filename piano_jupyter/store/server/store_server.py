"""StoreServer: does for the kernels of a workspace what they ask of the store, and passes their events on."""

import asyncio
import contextlib
import os
import re
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from piano_jupyter.batch_records import Batch
from piano_jupyter.errors import PianoError, StoreError
from piano_jupyter.records import DatabaseIdentity, Job
from piano_jupyter.store.base import Store
from piano_jupyter.store.granting_store import GrantingStore
from piano_jupyter.store.server import wire
from piano_jupyter.store.server.client_connection import ClientConnection
from piano_jupyter.store.server.leases import Leases
from piano_jupyter.store.server.server_socket import ServerSocket
from piano_jupyter.store.server.shared_store import OPERATIONS, Client, Operation
from piano_jupyter.store.server.socket_folder import CannotShareError, is_same_user
from piano_jupyter.store.server.store_news import StoreNews
from piano_jupyter.store.server.wire import frame, read_frame

SOCKET_LOOK_S = 2.0  #: between two looks whether the socket is there: a cleaner of /tmp or a logout may remove it
READ_BYTES = 2**16
LOOK_TIMEOUT_S = 1.0  #: for a look at the file before a kernel is welcomed: the store may be busy for longer


@dataclass(frozen=True, kw_only=True, slots=True)
class Delays:
    """How long a store process waits, in seconds."""

    grace_s: float = 3  #: for a kernel whose connection broke to come back
    idle_s: float = 10  #: for another kernel, once the last one is gone
    first_client_s: float = 60  #: for the first kernel: the one that started it may have been killed


class StoreServer:
    """Serves a store that is open, until it is not needed any more. It must hold the lock of its database.

    `news` is what the store tells.
    """

    def __init__(self, store: Store, news: StoreNews, delays: Delays, version: str = "") -> None:
        self._store, self._news, self._delays = GrantingStore(store, self._stir), news, delays
        self._version = version or wire.own_version()
        self._name, self._database = news.name, ""
        self._clients: set[ClientConnection] = set()
        self._connections: dict[asyncio.Task[Any], asyncio.StreamWriter] = {}
        self._leaving, self._left = asyncio.Event(), asyncio.Event()
        self._leases: Leases
        self._socket: ServerSocket | None = None
        self._moving: asyncio.Task[None] | None = None
        self._leave_later: asyncio.TimerHandle | None = None
        self._maker = ""  #: the client that the database was opened for
        self._own_operations: Mapping[str, Callable[..., Awaitable[Any]]] = {}

    async def listen(self) -> None:
        """Let kernels connect. Raises StoreError."""
        self._socket = ServerSocket(self._name)
        await self._store.open()
        self._leases = Leases(self._store, self._delays.grace_s, self._tell_recovered)  # once what runs is known
        self._own_operations = {
            "clients": self._list_clients,
            "open_batch": self._open_batch,
            "recover": self._leases.recover,
        }
        self._store.grants.expect(self._store.grants.board.waiting)  # their kernels come back
        self._wait_for_client(self._delays.first_client_s)
        self._news.follow(self._take_news)
        self._take_news()
        await self._look_at_file()
        await self._socket.accept(self._connected)

    async def serve(self) -> None:
        """Serve until no kernel is left, or `leave` is called; then close the store."""
        looking = asyncio.create_task(self._stay_reachable())
        await self._leaving.wait()
        looking.cancel()
        await self._leases.close()
        await self._store.close()  # before the socket is gone: nobody starts another process meanwhile
        if self._socket is not None:
            self._socket.close()
        self._left.set()
        for writer in self._connections.values():
            writer.transport.abort()
        if self._connections:
            await asyncio.wait(self._connections)

    def leave(self) -> None:
        """Serve no longer."""
        self._leaving.set()

    async def _connected(self, at: ServerSocket, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections[task] = writer
        try:
            if is_same_user(writer.get_extra_info("socket")):
                await self._welcome(at, reader, writer)
        except (OSError, wire.ConnectionBrokenError):
            pass  # it is gone
        finally:
            del self._connections[task]
            writer.close()

    async def _welcome(self, at: ServerSocket, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        hello = await read_frame(reader, wire.HELLO)
        await self._look_at_file()
        reply = self._first_reply(hello) if at is self._socket else wire.Leaving()
        writer.write(frame(reply))
        if isinstance(reply, wire.Welcome):
            connection = ClientConnection(Client(owner=hello.owner, label=hello.label, pid=hello.pid), writer)
            await self._serve_client(connection, reader, hello.max_attempts)
        elif self._leaving.is_set():
            await self._left.wait()  # the end of the connection tells that the database is closed

    def _first_reply(self, hello: wire.Hello) -> "wire.FirstReply":
        own, theirs = (wire.PROTOCOL, _numbers(self._version)), (hello.protocol, _numbers(hello.version))
        if self._leaving.is_set():
            return wire.Leaving()
        if own == theirs:
            return wire.Welcome(os.getpid(), self._database)
        if not self._clients:
            self.leave()
            return wire.Leaving()
        others = ", ".join(dict.fromkeys(self._others()))
        return wire.Refused(
            f"database {self._name} is open in Piano {self._version} (process {os.getpid()}"
            f"{', for ' if others else ''}{others}), and this is Piano {hello.version}: restart those kernels with one "
            "version, or set PianoConfig.database to another file"
        )

    async def _serve_client(
        self, connection: ClientConnection, reader: asyncio.StreamReader, max_attempts: int
    ) -> None:
        if self._leave_later is not None:
            self._leave_later.cancel()
        self._clients.add(connection)
        self._news.has_readers = True
        self._leases.begin(connection.client.owner, max_attempts)
        self._take_news()
        goodbye: wire.Goodbye | None = None
        try:
            while goodbye is None:
                goodbye = await self._take_request(connection, await read_frame(reader, wire.REQUEST))
        except wire.ConnectionBrokenError:
            pass
        finally:
            self._clients.discard(connection)
            self._news.has_readers = bool(self._clients)
            self._push_states()
            if goodbye is not None:
                await _answered_or_gone(connection, reader)
            if connection.requests:
                for each in connection.requests.values():
                    each.cancel()  # a long read; what is being written is written all the same
                await asyncio.wait(connection.requests.values())
            if not self._leaving.is_set():
                if all(each.client.owner != connection.client.owner for each in self._clients):
                    self._store.grants.forget(connection.client.owner)
                await self._leases.end(connection.client.owner, orderly=goodbye is not None)
                if goodbye is None:
                    self._push(wire.Gap())
            if not self._clients:
                self._wait_for_client(self._delays.idle_s)
        if goodbye is not None and goodbye.leave and not self._clients:
            self.leave()
            await self._left.wait()  # the end of the connection tells that the database is closed

    async def _take_request(self, connection: ClientConnection, request: "wire.Request") -> wire.Goodbye | None:
        """Return the request if it is the last."""
        match request:
            case wire.Call():
                await connection.room.acquire()
                task = asyncio.create_task(self._answer(connection, request))
                connection.requests[request.id] = task
                task.add_done_callback(partial(self._answered, connection, request.id))
            case wire.Cancel():
                await asyncio.sleep(0)  # what was asked has begun: a write is kept even if nobody waits for it
                if request.id in connection.requests:
                    connection.requests[request.id].cancel()
            case wire.Publish():
                self._push(wire.RelayedEvent(request.event) if request.event else wire.Gap(), connection)
            case wire.Goodbye():
                return request
        return None

    @staticmethod
    def _answered(connection: ClientConnection, number: int, _: "asyncio.Task[None]") -> None:
        connection.requests.pop(number, None)
        connection.room.release()

    async def _answer(self, connection: ClientConnection, call: wire.Call) -> None:
        try:
            operation = OPERATIONS[call.operation]
            result = await self._do(operation, call.arguments, connection)
            reply: wire.Result | wire.Failure = wire.Result(call.id, operation.result.pack(result))
        except PianoError as error:
            if self._leaving.is_set():
                return  # it is sent again, to the next process
            reply = wire.Failure(call.id, wire.ERROR.pack(error))
        except asyncio.CancelledError:
            reply = wire.Failure(call.id, wire.ERROR.pack(StoreError(f"{call.operation} was cancelled")))
        except Exception as error:
            wrong = StoreError(f"the store process failed at {call.operation}: {type(error).__name__}: {error}")
            await connection.reply(wire.Failure(call.id, wire.ERROR.pack(wrong)))
            raise
        await connection.reply(reply)

    async def _do(self, operation: Operation, packed: bytes, connection: ClientConnection) -> Any:
        arguments = operation.unpack_arguments(packed)
        function = self._own_operations.get(operation.name) or partial(self._store.call, operation.name)
        result = await function(*arguments.args[1:], **arguments.kwargs)
        if operation.name == "recover" and result:
            self._tell_recovered(result, connection)
        return self._identity_for(connection.client, result) if isinstance(result, DatabaseIdentity) else result

    def _identity_for(self, client: Client, identity: DatabaseIdentity) -> DatabaseIdentity:
        """Return the identity as the client may see it: a new file was made for the first one that asks."""
        self._maker = self._maker or client.owner
        return identity if client.owner == self._maker else replace(identity, is_new=False)

    async def _list_clients(self) -> list[Client]:
        return [each.client for each in self._clients]

    async def _open_batch(self, batch: Batch, alive: Collection[str] = ()) -> Batch:
        """Do the store's operation; whoever came since the kernel looked is there, too."""
        return await self._store.open_batch(batch, {*alive, *(each.client.owner for each in self._clients)})

    def _stir(self, owners: Collection[str]) -> None:
        data = frame(wire.Stir())
        for each in tuple(self._clients):
            if each.client.owner in owners:
                each.push(data)

    def _tell_recovered(self, jobs: list[Job], asker: ClientConnection | None = None) -> None:
        self._push(wire.Recovered(wire.JOBS.pack(jobs)), asker)

    async def _look_at_file(self) -> None:
        """Have a file that was lost a moment ago noticed: nobody new is to come in by its old path."""
        try:
            identity = await asyncio.wait_for(self._store.identity(), LOOK_TIMEOUT_S)
            self._database = str(identity.id)
        except StoreError:
            self._leave_if_unusable()
        except TimeoutError:
            pass  # it is busy

    def _leave_if_unusable(self) -> None:
        """Leave the file to another process where nobody uses it any more, and something is wrong with it."""
        if not self._news.has_readers:
            self.leave()

    def _take_news(self) -> None:
        """Pass on what the store has told, and go with it to another file."""
        if self._news.name != self._name:
            self._name = self._news.name
            self._move()
        if self._news.problem:
            self._leave_if_unusable()
        self._push_states()
        if self._clients:
            for sentence in self._news.take_notices():
                self._push(wire.Notice(sentence))

    async def _stay_reachable(self) -> None:
        """Listen again where kernels look, if the socket was removed: no other process could have the database."""
        while True:
            await asyncio.sleep(SOCKET_LOOK_S)
            if self._socket is not None and self._socket.is_lost:
                self._move()

    def _move(self) -> None:
        """Listen where kernels look for the file in use, and leave the old path to the next process."""
        if self._socket is not None:
            self._socket.close()
        try:
            self._socket = None if self._leaving.is_set() else ServerSocket(self._name)
        except CannotShareError as error:
            self._socket = None  # those who are connected stay
            self._news.notify(str(error))
        if self._socket is not None:
            self._moving = asyncio.create_task(self._socket.accept(self._connected))

    def _push_states(self) -> None:
        for each in tuple(self._clients):
            each.push(frame(wire.State(self._name, self._news.problem, self._others(each))))

    def _others(self, but: ClientConnection | None = None) -> list[str]:
        """Return who is connected, by their notebooks."""
        clients = [each.client for each in self._clients if each is not but]
        return sorted(each.label or f"process {each.pid}" for each in clients)

    def _push(
        self,
        content: wire.RelayedEvent | wire.Recovered | wire.Notice | wire.Gap,
        sender: ClientConnection | None = None,
    ) -> None:
        data = frame(content)
        for each in tuple(self._clients):
            if each is not sender:
                each.push(data)

    def _wait_for_client(self, seconds: float) -> None:
        if self._leave_later is not None:
            self._leave_later.cancel()
        self._leave_later = asyncio.get_running_loop().call_later(seconds, self._leave_if_unused)

    def _leave_if_unused(self) -> None:
        if not self._clients:
            self.leave()


async def _answered_or_gone(connection: ClientConnection, reader: asyncio.StreamReader) -> None:
    """Return once all that a kernel asked for is answered, or its connection has ended."""
    gone = asyncio.create_task(_gone(reader))
    while connection.requests and not gone.done():
        await asyncio.wait([gone, *connection.requests.values()], return_when=asyncio.FIRST_COMPLETED)
    gone.cancel()
    await asyncio.wait([gone])


async def _gone(reader: asyncio.StreamReader) -> None:
    with contextlib.suppress(OSError):
        while await reader.read(READ_BYTES):
            pass  # after its goodbye it asks for nothing


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"\d+", version)))
