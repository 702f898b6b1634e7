"""ChatClient: the OpenAI chat API over HTTP, streamed.

It posts to a server that it knows only as "the model": `ServerTransport` sends the request to wherever the model is,
found (or started) when it is first needed. So a cassette in between sees neither hosts nor keys, and a replay starts
no server.
"""

import asyncio
import contextlib
import json
import random
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from typing import Any

import httpx

from piano_jupyter.config import PianoConfig
from piano_jupyter.errors import ModelError, ModelTimeoutError, ModelUnavailableError
from piano_jupyter.runner.chat import ChatRequest, Delta, Loading, Reply
from piano_jupyter.runner.constrained import AnswerStream, constrained, unconstrained
from piano_jupyter.runner.local_server import Endpoint
from piano_jupyter.runner.wire import ReplyBuilder, SseDecoder, error_from

Connect = Callable[[], Awaitable[Endpoint]]
Wrap = Callable[[httpx.AsyncBaseTransport], httpx.AsyncBaseTransport]

THE_MODEL = "http://the-model/v1"
RETRIED = frozenset({429, 502, 503})
LONGEST_PAUSE = 30.0  # seconds
AFTER_THE_LAST_WORD = 0.5  # seconds


class ServerTransport(httpx.AsyncBaseTransport):
    """Sends requests that are addressed to "the model" to the server that `connect` names."""

    def __init__(self, connect: Connect, config: PianoConfig) -> None:
        self._connect, self._config = connect, config
        self._inner = httpx.AsyncHTTPTransport(limits=httpx.Limits(max_keepalive_connections=8))

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Pass the request on, with the server's address and key. Raises ModelTimeoutError if no answer begins."""
        endpoint = await self._connect()
        path = request.url.raw_path.decode()
        if path.startswith("/v1/"):
            request.url = httpx.URL(endpoint.url + path.removeprefix("/v1"))
        else:  # llama.cpp's own, beside the API
            request.url = httpx.URL(endpoint.url.removesuffix("/v1") + path)
        request.headers["host"] = request.url.netloc.decode()
        if endpoint.api_key:
            request.headers["authorization"] = f"Bearer {endpoint.api_key}"
        try:
            async with asyncio.timeout(self._config.first_byte_timeout):
                return await self._inner.handle_async_request(request)
        except TimeoutError as error:
            raise _too_slow(self._config) from error

    async def aclose(self) -> None:
        """Close the connections."""
        await self._inner.aclose()


class ChatClient:
    """Asks a model over HTTP. One client for all models of a server; safe for many requests at once."""

    def __init__(self, connect: Connect, config: PianoConfig, wrap: Wrap = lambda transport: transport) -> None:
        self._connect, self._config = connect, config
        self._http = httpx.AsyncClient(
            transport=wrap(ServerTransport(connect, config)),
            base_url=THE_MODEL,
            headers={"accept-encoding": "identity"},  # a cassette keeps the bytes as text
            follow_redirects=False,
            trust_env=False,
        )
        self._without_tools: dict[tuple[str, str, str], bool] = {}

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def stream(self, request: ChatRequest) -> AsyncGenerator[Delta | Loading | Reply, None]:
        """Yield the reply's pieces as they come, last the whole reply. Raises ModelError."""
        held = bool(request.tools) and await self._lacks_tools(request.model)
        answer = AnswerStream()
        async with aclosing(self._pieces(constrained(request) if held else request)) as pieces:
            async for piece in pieces:
                if held and isinstance(piece, Delta):
                    delta = answer.feed(piece)
                    if delta.text or delta.reasoning:
                        yield delta
                elif held and isinstance(piece, Reply):
                    yield unconstrained(piece)
                else:
                    yield piece

    async def _pieces(self, request: ChatRequest) -> AsyncGenerator[Delta | Loading | Reply, None]:
        response = await self._post(request)
        decoder, builder, pieces = SseDecoder(), ReplyBuilder(), response.aiter_bytes()
        try:
            async for piece in _in_time(pieces, self._config):
                for data in decoder.feed(piece):
                    for delta in builder.feed(data):
                        yield delta
                if builder.done:
                    await _finish(pieces)
                    break
            for data in decoder.close():
                for delta in builder.feed(data):
                    yield delta
        except httpx.HTTPError as error:
            broke = f"the connection broke in the middle of the answer ({self._said(error)})"
            raise ModelUnavailableError(broke) from error
        finally:
            await response.aclose()
        yield builder.reply()

    async def _post(self, request: ChatRequest) -> httpx.Response:
        """Send the request, again after a pause where that may help, until an answer begins."""
        body: dict[str, Any] = {
            **request.options,
            "model": request.model,
            "messages": list(request.messages),
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        if request.tools:
            body["tools"] = list(request.tools)
        content = json.dumps(body, ensure_ascii=False).encode("utf-8", "replace")
        for attempt in range(self._config.request_retries + 1):
            response, refusal, pause = await self._try(content)
            if response is not None:
                return response
            if pause is None or attempt == self._config.request_retries:
                raise refusal
            backoff = 0.3 * 2**attempt * random.uniform(0.5, 1.5)  # noqa: S311  Jitter.
            await asyncio.sleep(min(pause or backoff, LONGEST_PAUSE))
        raise refusal

    async def _try(self, content: bytes) -> tuple[httpx.Response | None, ModelError, float | None]:
        """Return the response, or the error and the seconds to wait before the next try (0: any; None: do not try)."""
        timeout = httpx.Timeout(None, connect=self._config.connect_timeout)
        sent = self._http.build_request(
            "POST", "chat/completions", content=content, headers={"content-type": "application/json"}, timeout=timeout
        )
        try:
            response = await self._http.send(sent, stream=True)
            if response.status_code == 200:
                return response, ModelError(), None
            async with asyncio.timeout(self._config.idle_timeout):
                said = (await response.aread()).decode("utf-8", "replace")
        except (httpx.HTTPError, TimeoutError) as error:
            return None, await self._unreachable(error), 0.0
        pause = _retry_after(response) if response.status_code in RETRIED else None
        return None, error_from(response.status_code, self._without_key(said)), pause

    async def _unreachable(self, error: Exception) -> ModelUnavailableError:
        where = (await self._connect()).url
        return ModelUnavailableError(f"the server at {where} does not answer ({self._said(error)}); is it running?")

    def _said(self, error: Exception) -> str:
        return self._without_key(str(error)) or type(error).__name__

    def _without_key(self, text: str) -> str:
        """A server may repeat the key that it refuses."""
        return text.replace(self._config.api_key, "(key)") if self._config.api_key else text

    async def _lacks_tools(self, model: str) -> bool:
        """Ask the server, once a model, whether the model's template has no place for tools (llama.cpp's /props)."""
        key = (self._config.embedded, self._config.base_url, model)
        if key not in self._without_tools:
            lacks = False
            with contextlib.suppress(httpx.HTTPError, ValueError):
                response = await self._http.get(
                    f"{THE_MODEL.removesuffix('/v1')}/props", timeout=self._config.connect_timeout
                )
                told = response.json() if response.status_code == 200 else None
                caps = told.get("chat_template_caps") if isinstance(told, dict) else None
                lacks = isinstance(caps, dict) and caps.get("supports_tools") is False
            self._without_tools[key] = lacks
        return self._without_tools[key]


async def trouble_at(url: str, timeout: float) -> str | None:
    """Return what is wrong at an address, in a few words; None where a model server answers, if only with a refusal."""
    try:
        async with httpx.AsyncClient(timeout=timeout, trust_env=False) as http:
            response = await http.get(f"{url}/models")
    except (httpx.TransportError, httpx.InvalidURL, OSError):
        return f"nothing answers at {url}"
    refused = response.status_code in {401, 403} or response.status_code >= 500
    if refused or "json" in response.headers.get("content-type", ""):
        return None
    return f"what answers at {url} is no model server (is /v1 missing?)"


async def _finish(pieces: AsyncIterator[bytes]) -> None:
    """Read what follows the last word, so that the connection can be used again; a server that holds it is let be."""
    with contextlib.suppress(TimeoutError, httpx.HTTPError):
        async with asyncio.timeout(AFTER_THE_LAST_WORD):
            async for _ in pieces:
                pass


async def _in_time(pieces: AsyncIterator[bytes], config: PianoConfig) -> AsyncIterator[bytes]:
    """Pass pieces on; raises ModelTimeoutError if the first or a later one does not come in time."""
    begun = False
    while True:
        try:
            async with asyncio.timeout(config.idle_timeout if begun else config.first_byte_timeout):
                piece = await anext(pieces)
        except StopAsyncIteration:
            return
        except TimeoutError as error:
            silent = f"the server fell silent for {config.idle_timeout:g} s in the middle of its answer"
            raise (ModelTimeoutError(silent) if begun else _too_slow(config)) from error
        begun = True
        yield piece


def _too_slow(config: PianoConfig) -> ModelTimeoutError:
    return ModelTimeoutError(
        f"the server did not begin to answer within {config.first_byte_timeout:g} s; "
        f"raise PianoConfig.first_byte_timeout if its model loads that slowly"
    )


def _retry_after(response: httpx.Response) -> float:
    try:
        return max(0.0, float(response.headers.get("retry-after", 0)))
    except ValueError:
        return 0.0
