"""ChatClient: the OpenAI chat API over HTTP, streamed."""

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Any

import httpx

from piano_jupyter import errors
from piano_jupyter.config import PianoConfig
from piano_jupyter.runner.model.llama_swap.swap_client import SwapClient
from piano_jupyter.runner.model.model_properties import ModelProperties
from piano_jupyter.runner.model.protocol import ChatRequest, Delta, LoadingNotice, Piece, Reply, StreamRestarted
from piano_jupyter.runner.model.server.error_responses import error_from, passes
from piano_jupyter.runner.model.server.model_list import not_served
from piano_jupyter.runner.model.server.retries import RetryBudget, TransientError, retry_after
from piano_jupyter.runner.model.server.transport import Connect, ServerTransport, Wrap
from piano_jupyter.runner.model.server.unsupported_options import UnsupportedOptions
from piano_jupyter.runner.model.stream.constrained_calls import constrained, response_format
from piano_jupyter.runner.model.stream.latency import Stopwatch
from piano_jupyter.runner.model.stream.reply_reader import ReplyReader

AFTER_THE_LAST_WORD = 0.5  # seconds
AFTER_THE_FINISH = 5.0  # seconds that the last word is waited for, once the answer is whole
LOOK = 0.2  # seconds between two looks at what a server does that does not answer yet
WORTH_TELLING = 1.0  # seconds of a pause


@dataclass(slots=True)
class _StartedAnswer:
    """An answer that has begun: its first bytes are there."""

    response: httpx.Response
    pieces: AsyncIterator[bytes]
    first: bytes
    since: float  #: when it began, in the loop's time
    held: bool  #: the model is held to a schema, as its template has no tools


class ChatClient:
    """Asks a model over HTTP. One client for all models of a server; safe for many requests at once.

    `swap` tells what the server does with its models while a request waits. It stays its owner's, who closes it.
    """

    def __init__(self, connect: Connect, config: PianoConfig, wrap: Wrap | None, swap: SwapClient) -> None:
        self._config, self._swap = config, swap
        self._server = ServerTransport(connect, config)
        self._http = self._server.client(wrap)
        self._properties = ModelProperties(self._http, config, swap)
        self._unwanted = UnsupportedOptions()

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def context(self, model: str) -> int | None:
        """Return how many tokens fit into a model's window; None where that is not known. Never raises ModelError."""
        return await self._properties.context(model)

    async def lacks_tools(self, model: str) -> bool:
        """Return whether a model's chat template has no place for tools, as far as its server tells."""
        return await self._properties.lacks_tools(model)

    async def stream(self, request: ChatRequest) -> AsyncGenerator[Piece, None]:
        """Yield the reply's pieces as they come, last the whole reply. Raises ModelError.

        What fails in a way that may pass is asked again; where text was sent already, `StreamRestarted` says so.
        """
        watch, retries, unloads = Stopwatch(), RetryBudget(self._config.request_retries), self._swap.unloads
        while True:
            beginning = asyncio.create_task(self._begin(request), name="piano-request")
            try:
                async with aclosing(self._waiting(beginning, request.model, watch)) as notes:
                    async for note in notes:
                        yield note
                async with aclosing(self._pieces(await beginning, request, watch)) as pieces:
                    async for piece in pieces:
                        if isinstance(piece, Delta):
                            retries.told = True
                        elif isinstance(piece, Reply):
                            retries.check(piece)
                        yield piece
            except TransientError as trouble:
                if self._swap.unloads != unloads:  # the user takes the model away: it is not loaded again for this
                    raise trouble.error from trouble
                pause = retries.pause(trouble)
            except errors.ContextOverflowError as error:
                self._properties.learn(request.model, error.n_ctx)
                raise
            else:
                return
            finally:
                await _end(beginning)
            if retries.told:
                retries.told = False
                yield StreamRestarted()
            if pause > WORTH_TELLING:
                yield LoadingNotice(note=f"the server gave no answer; asking again in {pause:.0f} s")
            await asyncio.sleep(pause)

    async def _waiting(
        self, beginning: "asyncio.Task[_StartedAnswer]", model: str, watch: Stopwatch
    ) -> AsyncGenerator[LoadingNotice, None]:
        """Yield what the server does until the answer begins."""
        while not (await asyncio.wait([beginning], timeout=LOOK))[0]:
            note = await self._swap.why_waiting(model) if self._server.used else None
            if (told := watch.loading(note)) is not None:
                yield told

    async def _begin(self, request: ChatRequest) -> _StartedAnswer:
        """Send the request and wait for the first bytes of the answer."""
        of_tools = bool(request.tools) or any("tool_calls" in message for message in request.messages)
        lacks = of_tools and await self.lacks_tools(request.model)
        held = lacks and bool(request.tools)
        response = await self._send(constrained(request) if lacks else request)
        pieces, since = response.aiter_bytes(), asyncio.get_running_loop().time()
        try:
            return _StartedAnswer(response, pieces, await self._next(pieces, since), since, held)
        except httpx.HTTPError as error:
            await response.aclose()
            raise self._broken(error) from error
        except BaseException:
            await response.aclose()
            raise

    async def _pieces(
        self, begun: _StartedAnswer, request: ChatRequest, watch: Stopwatch
    ) -> AsyncGenerator[Piece, None]:
        names = [tool["function"]["name"] for tool in request.tools] if request.may_call else []
        as_json = request.schema is not None
        reading = ReplyReader(names, text_calls=self._config.text_calls, held=begun.held, as_json=as_json)
        extensions, figures = begun.response.extensions, dict[str, float]()
        piece, last, now = begun.first, begun.since, asyncio.get_running_loop().time
        try:
            while True:
                for told in reading.feed(piece):
                    heard = watch.loading(f"{request.model} is loading") if isinstance(told, LoadingNotice) else told
                    if heard is not None:
                        yield heard
                last = now() if reading.heard else last  # a comment is no sign that the model goes on
                if not figures and reading.begun:
                    figures = watch.first_word()
                    extensions.get("measure", {}).update(figures)
                if reading.ended:
                    break
                piece = await self._next(begun.pieces, last, reading)
            reply = reading.reply()
            if piece:  # the last word came before the end of the stream
                figures |= watch.speed(reply.usage)
                extensions.get("measure", {}).update(figures)
                await _finish(begun.pieces)
        except httpx.HTTPError as error:
            raise self._broken(error) from error
        except errors.ModelError as error:
            raise (TransientError(error) if reading.passes else error) from error
        finally:
            await begun.response.aclose()
        yield replace(reply, usage={**reply.usage, **extensions.get("measured", figures)})

    async def _next(self, pieces: AsyncIterator[bytes], last: float, reading: ReplyReader | None = None) -> bytes:
        """Return the next piece, empty at the end; a whole answer needs none.

        `last` is when the server last said anything of the answer. Raises ModelTimeoutError if none begins in time, and
        TransientError if one that has begun stands still.
        """
        config, begun = self._config, reading is not None and reading.begun
        finished = reading is not None and reading.finished
        limit = config.idle_timeout if begun else config.first_byte_timeout
        try:
            async with asyncio.timeout_at(last + (min(limit, AFTER_THE_FINISH) if finished else limit)):
                return await anext(pieces, b"")
        except (httpx.HTTPError, TimeoutError) as error:
            if finished:
                return b""
            if isinstance(error, httpx.HTTPError):
                raise
            if not begun:
                raise self._server.too_slow() from error
            silent = f"the server fell silent for {config.idle_timeout:g} s in the middle of its answer"
            raise TransientError(errors.ModelTimeoutError(silent)) from error

    async def _send(self, request: ChatRequest) -> httpx.Response:
        """Send the request; return the response with its body to come. Raises TransientError or ModelError."""
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
        server = self._config.base_url
        while True:
            content = json.dumps(self._unwanted.without(server, body), ensure_ascii=False).encode("utf-8", "replace")
            sent = self._http.build_request(
                "POST", "/v1/chat/completions", content=content, headers={"content-type": "application/json"}
            )
            try:
                response = await self._http.send(sent, stream=True)
                if response.is_success:
                    return response
                async with asyncio.timeout(self._config.idle_timeout):
                    told = (await response.aread()).decode("utf-8", "replace")
                if response.has_redirect_location:
                    told = f"it leads to {response.headers['location']}; mend PianoConfig.base_url"
            except (httpx.HTTPError, TimeoutError) as error:
                raise TransientError(await self._server.unreachable(error)) from error
            if not self._unwanted.learn(server, body, response.status_code, told):
                break
        refusal = error_from(response.status_code, self._server.without_key(told), request.model)
        if passes(response.status_code, told):
            raise TransientError(refusal, retry_after(response.headers))
        raise await self._with_models(refusal, request.model)

    async def _with_models(self, refusal: errors.ModelError, model: str) -> errors.ModelError:
        """Add which models are served, where this one is not."""
        if isinstance(refusal, errors.ModelNotServedError):
            with contextlib.suppress(errors.ModelError):
                await self._swap.models()
                if model not in (known := self._swap.known()):
                    return not_served(model, known)
        return refusal

    def _broken(self, error: Exception) -> TransientError:
        said = f"the connection broke in the middle of the answer ({self._server.said(error)}); retry"
        return TransientError(errors.ModelUnavailableError(said))


async def _finish(pieces: AsyncIterator[bytes]) -> None:
    """Read what follows the last word, so that the connection can be used again; a server that holds it is let be."""
    with contextlib.suppress(TimeoutError, httpx.HTTPError):
        async with asyncio.timeout(AFTER_THE_LAST_WORD):
            async for _ in pieces:
                pass


async def _end(beginning: "asyncio.Task[_StartedAnswer]") -> None:
    """Free a request, wherever it is."""
    if beginning.cancel():
        await asyncio.wait([beginning])
    if not beginning.cancelled() and beginning.exception() is None:
        await beginning.result().response.aclose()
