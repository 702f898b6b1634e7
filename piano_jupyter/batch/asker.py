"""Asker: asks a model about many rows, several at a time. Pure asyncio: it knows no store and no engine."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass, field
from numbers import Integral
from typing import Any, Self

from piano_jupyter.batch.row_answer import RowAnswer
from piano_jupyter.batch.row_template import RowTemplate
from piano_jupyter.batch.server_room import ServerRoom
from piano_jupyter.config import PianoConfig
from piano_jupyter.errors import (
    ContextOverflowError,
    KeyRejectedError,
    ModelError,
    ModelNotServedError,
    ModelTimeoutError,
    ModelUnavailableError,
    PianoError,
)
from piano_jupyter.runner.model.embedded.local_server import Endpoint
from piano_jupyter.runner.model.masked_model import MaskedModel
from piano_jupyter.runner.model.protocol import ChatModel, ChatRequest, Piece, Reply
from piano_jupyter.runner.model.server.retries import RetryBudget, TransientError
from piano_jupyter.runner.model.server.transport import Connect, Wrap
from piano_jupyter.runner.model.stream.tool_calls import replace_lone_surrogates
from piano_jupyter.runner.model.stream.usage import sum_usage
from piano_jupyter.runner.model.whole_replies import WholeReplyClient
from piano_jupyter.runner.schema.coercion import SchemaMismatchError
from piano_jupyter.runner.schema.response_format import ResponseFormat, response_format_of
from piano_jupyter.runner.turn.control_tokens import map_strings
from piano_jupyter.runner.turn.structured_output import reply_matching_schema
from piano_jupyter.secrets.known_secrets import SecretMask

DEFAULT_SLOTS = 4  #: of a server that does not say how many requests it answers at once
MAX_SLOTS = 256  #: however many a server says
BUSY_RETRIES = 8  #: of one row, after pauses that grow to half a minute
#: that say nothing about a row
SERVER_ERRORS = (ModelUnavailableError, ModelTimeoutError, ModelNotServedError, KeyRejectedError)
MAX_FAILURES = 20  #: rows in a row that may fail before a batch stops
INHERITED = ("verify", "proxy", "connect_timeout", "first_byte_timeout", "request_retries", "mask_secrets")

Messages = Sequence[Mapping[str, Any]]
Servers = str | Connect | Sequence[str | Connect]


@dataclass(slots=True)
class _Server:
    """A server: how it is connected to, its settings, and its room once that is known."""

    connect: Connect
    config: PianoConfig
    room: ServerRoom = field(default_factory=lambda: ServerRoom(1))
    workers: int = 0


class Asker:
    """Asks a model about many rows: bounded in flight, each row retried by itself, its answer checked by the schema.

    Args:
        servers: The address of a server, with /v1; or several, and a row goes to one that has room. An address may also
            be a coroutine function that returns an `Endpoint`.
        model: The name of the model.
        schema: The type or JSON Schema that an answer has to match, unless the template of a row has one; without
            either, an answer is a text.
        options: Options that are sent with each request, such as `temperature`.
        max_in_flight: How many requests are sent at once, to all servers together; by default as many as the servers
            say that they answer at once (`total_slots` of `/props`), else 4 each.
        api_key: The key for the servers whose addresses are given; by default that of `config`.
        config: Where the settings of the connection are taken from: certificates, proxy, timeouts, retries.
        mask: Removes secrets from what is sent and received; by default as the settings say.
        wrap: Wraps the HTTP transport, to record and replay.
        chat_model: What answers in place of a server.

    Raises:
        PianoError: The schema is wrong, or no server is given.

    Example:
        >>> template = RowTemplate("Is this review positive? {{review}}", schema=bool)
        >>> async with Asker("http://localhost:8080/v1", "qwen3:32b") as asker:
        ...     async for row, answer in asker.answers(template, [{"review": "Good."}, {"review": "Bad."}]):
        ...         print(row, answer.value)
    """

    def __init__(
        self,
        servers: Servers,
        model: str,
        *,
        schema: Any = None,
        options: Mapping[str, Any] | None = None,
        max_in_flight: int | None = None,
        api_key: str | None = None,
        config: PianoConfig | None = None,
        mask: Callable[[Any], Any] | None = None,
        wrap: Wrap | None = None,
        chat_model: ChatModel | None = None,
    ) -> None:
        config = PianoConfig() if config is None else config
        key = config.api_key if api_key is None else api_key
        given = [servers] if isinstance(servers, str) or callable(servers) else list(servers)
        if not given:
            raise PianoError("no server to ask; give the address of one, such as http://localhost:8080/v1")
        if max_in_flight is not None and (not isinstance(max_in_flight, Integral) or max_in_flight < 1):
            raise PianoError(f"max_in_flight must be a whole number of at least 1, not {max_in_flight!r}")
        self.model, self.options = model, dict(options or {})
        self.format = None if schema is None else response_format_of(schema)
        self._servers = [_server(each, key, config) for each in given]
        self._max_in_flight = None if max_in_flight is None else int(max_in_flight)
        self._wrap, self.chat_model = wrap, chat_model
        keys = [each.config.api_key for each in self._servers]
        self._mask = mask or SecretMask(wanted=lambda: config.mask_secrets, keys=lambda: keys)
        self._sized: asyncio.Task[int] | None = None
        self._failures = 0
        self._stop_reason: PianoError | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        if self._sized is not None:
            self._sized.cancel()

    async def capacity(self) -> int:
        """Return how many requests are in flight at most: `max_in_flight`, or the slots of the servers."""
        if self._sized is None:
            self._sized = asyncio.create_task(self._measure(), name="piano-batch-slots")
        return await asyncio.shield(self._sized)

    @asynccontextmanager
    async def worker(self) -> AsyncIterator["Worker"]:
        """Give a worker, which asks one row at a time over a connection of its own; `capacity` of them use all room."""
        await self.capacity()
        home = min(self._servers, key=lambda each: each.workers / each.room.size)
        home.workers += 1
        worker = Worker(self, home, self._servers, self._wrap, self._mask)
        try:
            yield worker
        finally:
            home.workers -= 1
            await worker.aclose()

    async def ask(self, messages: Messages) -> RowAnswer:
        """Return the answer to chat messages, over a connection for this question only; see `Worker.ask`."""
        async with self.worker() as worker:
            return await worker.ask(messages)

    async def answers(
        self, template: RowTemplate, rows: Iterable[Mapping[str, Any]]
    ) -> AsyncGenerator[tuple[int, RowAnswer], None]:
        """Yield the number of each row and its answer, as the answers come; rows are read as they are needed.

        Close it (`contextlib.aclosing`) if it is not read to its end: that ends the requests in flight.

        Raises:
            PianoError: Too many rows in a row have failed.
        """
        numbered, count = iter(enumerate(rows)), await self.capacity()
        done: asyncio.Queue[tuple[int, RowAnswer] | None] = asyncio.Queue(2 * count)

        async def work() -> None:
            async with self.worker() as worker:
                for number, row in numbered:
                    await done.put((number, await worker.ask_row(template, row)))

        asking = asyncio.create_task(_together(work, count), name="piano-batch")
        asking.add_done_callback(lambda _: done.put_nowait(None) if done.empty() else None)  # it may be waited for
        try:
            while not (asking.done() and done.empty()):
                if (found := await done.get()) is not None:
                    yield found
            await asking
        finally:
            asking.cancel()
            await asyncio.wait([asking])

    def check_running(self) -> None:
        """Raise PianoError if too many rows in a row have failed."""
        if self._stop_reason is not None:
            raise self._stop_reason

    def count(self, answer: RowAnswer) -> None:
        """Note an answer. Raises PianoError if it is one failure too many."""
        self._failures = 0 if answer.error is None else self._failures + 1
        if self._failures >= MAX_FAILURES:
            self._stop_reason = PianoError(
                f"stopped, as {MAX_FAILURES} rows in a row failed; the last one: {answer.error}. "
                f"What was answered is kept; fix it and ask again"
            )
            raise self._stop_reason

    async def _measure(self) -> int:
        """Find the room of each server."""
        if self._max_in_flight is not None:
            share, rest = divmod(self._max_in_flight, len(self._servers))
            sizes = [share + (place < rest) for place in range(len(self._servers))]
        else:
            sizes = await asyncio.gather(*map(self._slots, self._servers))
        self._servers = [each for each, size in zip(self._servers, sizes, strict=True) if size]
        for server, size in zip(self._servers, filter(None, sizes), strict=True):
            server.room = ServerRoom(size)
        return sum(sizes)

    async def _slots(self, server: _Server) -> int:
        if self.chat_model is not None:
            return DEFAULT_SLOTS
        client = WholeReplyClient(server.connect, server.config, self._wrap)
        try:
            return min(await client.slots(self.model) or DEFAULT_SLOTS, MAX_SLOTS)
        finally:
            await client.aclose()


class Worker:
    """Asks one row at a time, over a connection of its own to each server. Made by `Asker.worker`."""

    def __init__(
        self,
        asker: Asker,
        home: _Server,
        servers: Sequence[_Server],
        wrap: Wrap | None,
        mask: Callable[[Any], Any],
    ) -> None:
        self._asker, self._home, self._servers, self._wrap = asker, home, servers, wrap
        self._clients: dict[int, WholeReplyClient] = {}
        self._model = MaskedModel(self, mask)
        self._tries = 0
        self._usages: list[Mapping[str, Any]] = []

    async def aclose(self) -> None:
        """Close the connections."""
        async with AsyncExitStack() as closing:
            for client in self._clients.values():
                closing.push_async_callback(client.aclose)

    async def ask_row(self, template: RowTemplate, row: Mapping[str, Any]) -> RowAnswer:
        """Return the answer to a row. One that cannot be asked is not sent, and does not count as a failure."""
        try:
            messages = template.messages(row)
        except PianoError as error:
            return RowAnswer(error=str(error))
        return await self.ask(messages, template.schema)

    async def ask(self, messages: Messages, schema: Mapping[str, Any] | None = None) -> RowAnswer:
        """Return the answer to chat messages; why there is none is in its `error`. `schema` is by default the asker's.

        Raises PianoError if too many rows in a row have failed.
        """
        self._asker.check_running()
        answer_format, self._tries, self._usages = self._asker.format, 0, []
        answer_format = answer_format if schema is None else ResponseFormat(schema)
        schema = None if answer_format is None else answer_format.schema
        request = ChatRequest(model=self._asker.model, messages=messages, options=self._asker.options, schema=schema)
        text, value, reply = "", None, Reply()
        failure: PianoError | None = None
        try:
            async with aclosing(reply_matching_schema(self._model, request)) as pieces:
                async for piece in pieces:
                    reply = piece if isinstance(piece, Reply) else reply
            text, value = _value(reply, answer_format)
        except ContextOverflowError as raised:
            window = f" of {raised.n_ctx:,} tokens" if raised.n_ctx else ""
            failure = ModelError(
                f"the row does not fit in the model's context{window}; shorten the column, "
                f"or have the server give its model a larger context"
            )
        except PianoError as raised:
            failure = raised
        error = None if failure is None else str(failure)
        usage = sum_usage(self._usages) | ({"cut": True} if reply.is_cut else {})
        tries, unavailable = self._tries, isinstance(failure, SERVER_ERRORS)
        answer = RowAnswer(text=text, value=value, error=error, usage=usage, tries=tries, unavailable=unavailable)
        self._asker.count(answer)
        return answer

    async def stream(self, request: ChatRequest) -> AsyncGenerator[Piece, None]:
        """Yield the whole reply. Raises ModelError if no server gives one."""
        if self._asker.chat_model is not None:
            self._tries += 1
            async with aclosing(self._asker.chat_model.stream(request)) as pieces:
                async for piece in pieces:
                    if isinstance(piece, Reply):
                        self._usages.append(piece.usage)
                        yield piece
            return
        others = [each for each in self._servers if each is not self._home]
        for server in sorted([self._home, *others], key=lambda each: each.room.is_down):
            try:
                reply = await self._reply_of(server, request)
            except ModelUnavailableError:
                server.room.down()
                if all(each.room.is_down for each in self._servers):
                    raise
            else:
                self._usages.append(reply.usage)
                yield reply
                return
        raise ModelUnavailableError("no server answers; retry in a moment")

    async def _reply_of(self, server: _Server, request: ChatRequest) -> Reply:
        """Return a server's reply; wait and ask again while that may help. Raises ModelError."""
        retries, busy = RetryBudget(server.config.request_retries), RetryBudget(BUSY_RETRIES)
        client = self._clients.get(id(server))
        if client is None:
            client = self._clients[id(server)] = WholeReplyClient(server.connect, server.config, self._wrap)
        while True:
            try:
                async with server.room.place():
                    self._tries += 1
                    reply = await client.complete(request)
                retries.check_not_empty(reply)
            except TransientError as failure:
                if failure.busy:
                    server.room.busy(busy.pause(failure))
                else:
                    await asyncio.sleep(retries.pause(failure))
            else:
                server.room.answered()
                return reply


def connection_settings(config: PianoConfig, **given: Any) -> PianoConfig:
    """Return a configuration with the settings of the connection only, which can be sent to another process."""
    return PianoConfig(**{name: getattr(config, name) for name in INHERITED}, **given)


async def _together(work: Callable[[], Coroutine[Any, Any, None]], count: int) -> None:
    """Do work `count` times at once. Raises the first PianoError that ends one of them, and ends the others."""
    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(count):
                group.create_task(work())
    except* PianoError as stopped:
        raise stopped.exceptions[0] from None


def _server(given: str | Connect, api_key: str, config: PianoConfig) -> _Server:
    if not isinstance(given, str):
        return _Server(given, config)
    own = connection_settings(config, base_url=given, api_key=api_key)
    endpoint = Endpoint(url=own.base_url, api_key=own.api_key)

    async def connect() -> Endpoint:
        return endpoint

    return _Server(connect, own)


def _value(reply: Reply, answer_format: ResponseFormat | None) -> tuple[str, Any]:
    """Return a reply's text and value. Raises PianoError if it has none."""
    text = replace_lone_surrogates(reply.text.strip())
    if not text:
        raise ModelError("the model gave an empty answer")
    if answer_format is None:
        return text, text
    try:
        value = ResponseFormat(answer_format.schema).value(text)
    except SchemaMismatchError as error:
        raise ModelError(f"the answer does not match the schema: {error}") from error
    return text, map_strings(value, replace_lone_surrogates)
