"""WholeReplyClient: asks for replies in one piece, over a connection of its own, one after the other.

For batches. A pool of connections costs several times the CPU when dozens of requests are in flight, and so does the
stream of an answer that nobody watches.
"""

import asyncio
import json

import httpx

from piano_jupyter import errors
from piano_jupyter.config import PianoConfig
from piano_jupyter.runner.model.protocol import ChatRequest, Reply
from piano_jupyter.runner.model.server.disputed_fields import DisputedFields
from piano_jupyter.runner.model.server.rejections import rejection, response_text
from piano_jupyter.runner.model.server.retries import TransientError
from piano_jupyter.runner.model.server.transport import PLACEHOLDER_URL, PLAIN, Connect, ServerTransport, Wrap
from piano_jupyter.runner.model.stream.reply_reader import ReplyReader
from piano_jupyter.runner.model.stream.request_body import request_body
from piano_jupyter.text.json_text import json_or_none, mapping

MAX_REPLY_BYTES = 8 << 20  #: dozens of them may come at once
CHAT_URL = f"{PLACEHOLDER_URL}/v1/chat/completions"
HEADERS = {**PLAIN, "content-type": "application/json"}
NETWORK_ERRORS = (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, OSError, TimeoutError)


class WholeReplyClient:
    """Asks one server, one request at a time. `aclose` closes the connection.

    A request that is cancelled closes its connection, at which a server stops writing and frees its slot.
    """

    def __init__(self, connect: Connect, config: PianoConfig, wrap: Wrap | None = None) -> None:
        self._config, self._server = config, ServerTransport(connect, config)
        self._transport = wrap(self._server) if wrap else self._server
        self._disputed = DisputedFields()

    async def aclose(self) -> None:
        """Close the connection."""
        await self._transport.aclose()

    async def complete(self, request: ChatRequest) -> Reply:
        """Return the reply to a request. Raises TransientError if the same request may succeed later, or ModelError."""
        asked, server = request_body(request, stream=False), self._config.base_url
        while True:
            adapted = self._disputed.adapted(server, asked)
            content = json.dumps(adapted, ensure_ascii=False).encode("utf-8", "replace")
            response, body = await self._send(httpx.Request("POST", CHAT_URL, headers=HEADERS, content=content))
            if response.is_success:
                break
            text = self._server.without_key(response_text(response, body))
            if not self._disputed.learn_from_rejection(server, asked, response.status_code, text):
                raise rejection(response, text, request.model, self._config.first_byte_timeout)
        reader = ReplyReader(as_json=request.schema is not None, stop_loops=False)
        try:
            reader.feed(body)
            reader.feed(b"")
            return reader.reply()
        except errors.ModelError as error:
            raise (TransientError(error) if reader.is_transient else error) from error

    async def slots(self, model: str) -> int | None:
        """Return how many requests the server answers at once; None if it does not say. Never raises ModelError."""
        url = httpx.URL(f"{PLACEHOLDER_URL}/props", params={"model": model})
        request = httpx.Request("GET", url, headers=PLAIN, extensions={"only_recorded": True})
        try:
            response, body = await self._send(request)
        except (errors.ModelError, TransientError):
            return None  # the first question will say why
        slots = mapping(json_or_none(body.decode("utf-8", "replace"))).get("total_slots")
        return slots if response.is_success and type(slots) is int and slots > 0 else None

    async def _send(self, request: httpx.Request) -> tuple[httpx.Response, bytes]:
        """Send a request; return the response and its body. Raises TransientError if the network fails."""
        try:
            response = await self._transport.handle_async_request(request)
            try:
                async with asyncio.timeout(self._config.first_byte_timeout):
                    return response, await _body(response)
            finally:
                await response.aclose()
        except NETWORK_ERRORS as error:
            raise TransientError(await self._server.unreachable(error)) from error


async def _body(response: httpx.Response) -> bytes:
    """Return the body. Raises ModelError if it is too large."""
    assert isinstance(response.stream, httpx.AsyncByteStream)
    pieces, size = [], 0
    async for piece in response.stream:
        pieces.append(piece)
        size += len(piece)
        if size > MAX_REPLY_BYTES:
            raise errors.ModelError(
                f"the server's answer is larger than {MAX_REPLY_BYTES >> 20} MiB, and the rest was not read; "
                f"see the server's log"
            )
    return b"".join(pieces)
