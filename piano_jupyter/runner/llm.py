"""ChatClient: the OpenAI chat API over HTTP, streamed."""

import asyncio
import contextlib
import json
import random
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Any

import httpx

from piano_jupyter.config import PianoConfig
from piano_jupyter.errors import ModelError, ModelNotServedError, ModelTimeoutError, ModelUnavailableError
from piano_jupyter.runner.chat import ChatRequest, Delta, Loading, Reply
from piano_jupyter.runner.constrained import AnswerStream, constrained, response_format, unconstrained
from piano_jupyter.runner.refusal import error_from, failed_to_start
from piano_jupyter.runner.served import not_served
from piano_jupyter.runner.stopwatch import Stopwatch
from piano_jupyter.runner.swap import SwapClient
from piano_jupyter.runner.transport import (
    Connect,
    ServerTransport,
    Wrap,
    client,
    said,
    too_slow,
    unreachable,
    without_key,
)
from piano_jupyter.runner.wire import ReplyBuilder, SseDecoder

RETRIED = frozenset({429, 502, 503})
LONGEST_PAUSE = 30.0  # seconds
AFTER_THE_LAST_WORD = 0.5  # seconds
LOOK = 0.2  # seconds between two looks at what a server does that does not answer yet


@dataclass(slots=True)
class _Begun:
    """An answer that has begun: its first bytes are there."""

    response: httpx.Response
    pieces: AsyncIterator[bytes]
    first: bytes
    held: bool  #: the model is held to a schema, as its template has no tools


class ChatClient:
    """Asks a model over HTTP. One client for all models of a server; safe for many requests at once.

    `swap` tells what llama-swap does while a request waits. It stays its owner's, who closes it.
    """

    def __init__(self, connect: Connect, config: PianoConfig, wrap: Wrap | None, swap: SwapClient) -> None:
        self._connect, self._config, self._swap = connect, config, swap
        self._server = ServerTransport(connect, config)
        self._http = client(wrap(self._server) if wrap else self._server)
        self._without_tools: dict[tuple[str, str, str], bool] = {}

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def stream(self, request: ChatRequest) -> AsyncGenerator[Delta | Loading | Reply, None]:
        """Yield the reply's pieces as they come, last the whole reply. Raises ModelError."""
        watch = Stopwatch()
        beginning = asyncio.create_task(self._begin(request), name="piano-request")
        try:
            async with contextlib.AsyncExitStack() as followed:
                while not (await asyncio.wait([beginning], timeout=LOOK))[0]:
                    known = watch.loading
                    note = await self._swap.why_waiting(request.model) if self._server.used else None
                    watch.look(loading=note is not None)
                    if note and not known:
                        await followed.enter_async_context(self._swap.watch())
                    if note and (seconds := watch.tell()) is not None:
                        yield Loading(note=note, seconds=seconds)
            begun = await beginning
            answer = AnswerStream()
            async with aclosing(self._pieces(begun, request.model, watch)) as pieces:
                async for piece in pieces:
                    if begun.held and isinstance(piece, Delta):
                        delta = answer.feed(piece)
                        if delta.text or delta.reasoning:
                            yield delta
                    elif begun.held and isinstance(piece, Reply):
                        yield unconstrained(piece, as_json=request.schema is not None)
                    else:
                        yield piece
        finally:
            await _end(beginning)

    async def _begin(self, request: ChatRequest) -> _Begun:
        """Send the request and wait for the first bytes of the answer."""
        held = bool(request.tools) and await self._lacks_tools(request.model)
        response = await self._post(constrained(request) if held else request)
        pieces = response.aiter_bytes()
        try:
            return _Begun(response, pieces, await self._next(pieces, begun=False), held)
        except httpx.HTTPError as error:
            await response.aclose()
            raise self._broken(error) from error
        except BaseException:
            await response.aclose()
            raise

    async def _pieces(
        self, begun: _Begun, model: str, watch: Stopwatch
    ) -> AsyncGenerator[Delta | Loading | Reply, None]:
        decoder, builder, extensions = SseDecoder(), ReplyBuilder(), begun.response.extensions
        figures: dict[str, float] = {}
        piece = begun.first
        try:
            while True:
                for data in decoder.feed(piece) if piece else decoder.close():
                    for delta in builder.feed(data):
                        if isinstance(delta, Delta):
                            yield delta
                            continue
                        watch.look(loading=True)
                        if (seconds := watch.tell()) is not None:
                            yield Loading(note=f"{model} is loading", seconds=seconds)
                if not figures and builder.begun:
                    figures = watch.first_word()
                    extensions.get("measure", {}).update(figures)
                if builder.done:
                    await _finish(begun.pieces)
                if builder.done or not piece:
                    break
                piece = await self._next(begun.pieces, begun=bool(figures))
        except httpx.HTTPError as error:
            raise self._broken(error) from error
        finally:
            await begun.response.aclose()
        reply = builder.reply()
        yield replace(reply, usage={**reply.usage, **extensions.get("measured", figures)})

    async def _next(self, pieces: AsyncIterator[bytes], *, begun: bool) -> bytes:
        """Return the next piece, empty at the end. Raises ModelTimeoutError if it does not come in time."""
        config = self._config
        try:
            async with asyncio.timeout(config.idle_timeout if begun else config.first_byte_timeout):
                return await anext(pieces, b"")
        except TimeoutError as error:
            silent = f"the server fell silent for {config.idle_timeout:g} s in the middle of its answer"
            raise (ModelTimeoutError(silent) if begun else too_slow(config)) from error

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
            if request.answer_now:
                body["tool_choice"] = "none"
        if request.schema is not None and not request.may_call:
            body["response_format"] = response_format(request.schema, "answer")
        content = json.dumps(body, ensure_ascii=False).encode("utf-8", "replace")
        for attempt in range(self._config.request_retries + 1):
            response, refusal, pause = await self._try(content, request.model)
            if response is not None:
                return response
            if pause is None or attempt == self._config.request_retries:
                break
            backoff = 0.3 * 2**attempt * random.uniform(0.5, 1.5)  # noqa: S311  Jitter.
            await asyncio.sleep(min(pause or backoff, LONGEST_PAUSE))
        raise await self._with_models(refusal, request.model)

    async def _try(self, content: bytes, model: str) -> tuple[httpx.Response | None, ModelError, float | None]:
        """Return the response, or the error and the seconds to wait before the next try (0: any; None: do not try)."""
        sent = self._http.build_request(
            "POST", "/v1/chat/completions", content=content, headers={"content-type": "application/json"}
        )
        try:
            response = await self._http.send(sent, stream=True)
            if response.status_code == 200:
                return response, ModelError(), None
            async with asyncio.timeout(self._config.idle_timeout):
                body = (await response.aread()).decode("utf-8", "replace")
        except (httpx.HTTPError, TimeoutError) as error:
            return None, await unreachable(self._connect, self._config, error), 0.0
        again = response.status_code in RETRIED and not failed_to_start(body)
        refusal = error_from(response.status_code, without_key(self._config, body), model)
        return None, refusal, _retry_after(response) if again else None

    async def _with_models(self, refusal: ModelError, model: str) -> ModelError:
        """Add which models are served, where this one is not."""
        if isinstance(refusal, ModelNotServedError):
            with contextlib.suppress(ModelError):
                await self._swap.models()
                if model not in (known := self._swap.known()):
                    return not_served(model, known)
        return refusal

    def _broken(self, error: Exception) -> ModelUnavailableError:
        return ModelUnavailableError(
            f"the connection broke in the middle of the answer ({said(self._config, error)}); retry"
        )

    async def _lacks_tools(self, model: str) -> bool:
        """Ask the server, once a model, whether the model's template has no place for tools (llama.cpp's /props).

        llama-swap loads the model to answer that, which is to be asked next anyway.
        """
        key = (self._config.embedded, self._config.base_url, model)
        if key not in self._without_tools:
            try:
                response = await self._http.get("/props", params={"model": model})
                told = response.json() if response.status_code == 200 else None
            except (httpx.HTTPError, ValueError):
                return False
            caps = told.get("chat_template_caps") if isinstance(told, dict) else None
            lacks = isinstance(caps, dict) and caps.get("supports_tools") is False
            if response.status_code not in {200, 404}:  # it says nothing now: the question itself will tell why
                return False
            self._without_tools[key] = lacks
        return self._without_tools[key]


async def _finish(pieces: AsyncIterator[bytes]) -> None:
    """Read what follows the last word, so that the connection can be used again; a server that holds it is let be."""
    with contextlib.suppress(TimeoutError, httpx.HTTPError):
        async with asyncio.timeout(AFTER_THE_LAST_WORD):
            async for _ in pieces:
                pass


async def _end(beginning: "asyncio.Task[_Begun]") -> None:
    """Free a request, wherever it is."""
    if beginning.cancel():
        await asyncio.wait([beginning])
    if not beginning.cancelled() and beginning.exception() is None:
        await beginning.result().response.aclose()


def _retry_after(response: httpx.Response) -> float:
    try:
        return max(0.0, float(response.headers.get("retry-after", 0)))
    except ValueError:
        return 0.0
