"""ChatClient: the OpenAI chat API over HTTP, streamed."""

import asyncio
import contextlib
import json
import re
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass, replace

import httpx

from piano_jupyter import errors
from piano_jupyter.config import PianoConfig
from piano_jupyter.logs import logger
from piano_jupyter.runner.model.llama_swap.swap_client import SwapClient
from piano_jupyter.runner.model.model_properties import ModelProperties
from piano_jupyter.runner.model.protocol import ChatRequest, Delta, LoadingNotice, Piece, Reply, StreamRestarted
from piano_jupyter.runner.model.server.disputed_fields import DisputedFields
from piano_jupyter.runner.model.server.model_list import not_served_error
from piano_jupyter.runner.model.server.rejections import rejection, response_text
from piano_jupyter.runner.model.server.retries import RetryBudget, TransientError
from piano_jupyter.runner.model.server.transport import Connect, ServerTransport, Wrap
from piano_jupyter.runner.model.stream.constrained_calls import constrained_request
from piano_jupyter.runner.model.stream.latency import Stopwatch
from piano_jupyter.runner.model.stream.reply_reader import ReplyReader
from piano_jupyter.runner.model.stream.request_body import request_body

log = logger(__name__)

DRAIN_TIMEOUT_S = 0.5  #: for the rest of the stream, once the server said [DONE]
DONE_TIMEOUT_S = 5.0  #: for [DONE], once the answer is complete
LOADING_POLL_S = 0.2  #: between two checks of why a server does not answer yet
RESTART_WAIT_S = 30.0  #: for a server that has stopped between the rounds of a turn
RESTART_NOTE = "the server does not answer any more; waiting for it to restart"
MIN_ANNOUNCED_PAUSE_S = 1.0  #: shorter pauses before a retry are not announced
#: finish reasons for a call that the server could not read
UNREADABLE_REASON = re.compile("malformed_|unexpected_tool_call")


@dataclass(slots=True)
class _StartedAnswer:
    """An answer whose first bytes have arrived."""

    response: httpx.Response
    pieces: AsyncIterator[bytes]
    first: bytes
    started_at: float  #: when the response came, in the loop's time
    constrained: bool  #: to a JSON Schema, as the model's template has no tools


class ChatClient:
    """Sends chat requests over HTTP. One client for all models of a server; safe for concurrent requests.

    `swap` knows what the server does with its models while a request waits. It is not closed by this client.
    """

    def __init__(self, connect: Connect, config: PianoConfig, wrap: Wrap | None, swap: SwapClient) -> None:
        self._config, self._swap = config, swap
        self._server = ServerTransport(connect, config)
        self._http = self._server.client(wrap)
        self._properties = ModelProperties(self._http, config, swap)
        self._disputed = DisputedFields()

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def context(self, model: str) -> int | None:
        """Return a model's context window in tokens; None if it is not known. Never raises ModelError."""
        return await self._properties.context(model)

    async def sees_images(self, model: str) -> bool | None:
        """Return whether a model sees images; None if it is not known. Never raises ModelError."""
        return await self._properties.sees_images(model)

    async def lacks_tools(self, model: str) -> bool:
        """Return whether the server says that a model's chat template has no tools."""
        return await self._properties.lacks_tools(model)

    def answered_by(self, model: str) -> str:
        """Return which model the server named in its last answer when this one was asked, "" if it named none."""
        return self._properties.answered_by(model)

    async def stream(self, request: ChatRequest) -> AsyncGenerator[Piece, None]:
        """Yield the reply's pieces as they come, and the complete reply last. Raises ModelError.

        Transient failures are retried. If part of the answer was already yielded, `StreamRestarted` comes first.
        """
        watch, retries, unloads = Stopwatch(), RetryBudget(self._config.request_retries), self._swap.unloads
        while True:
            answer = asyncio.create_task(self._start_answer(request), name="piano-request")
            try:
                async with aclosing(self._loading_notices(answer, request.model, watch)) as notices:
                    async for notice in notices:
                        yield notice
                async with aclosing(self._read_answer(await answer, request, watch)) as pieces:
                    async for piece in pieces:
                        if isinstance(piece, Delta):
                            retries.answer_started = True
                        elif isinstance(piece, Reply):
                            retries.check_not_empty(piece)
                        yield piece
            except TransientError as failure:
                if self._swap.unloads != unloads:  # the user unloaded it: do not load it again
                    raise failure.error from failure
                pause, note = retries.pause(failure), failure.note
                log.debug("model=%s retry in %.1f s: %s", request.model, pause, failure)
            except (errors.ContextOverflowError, errors.ImagesRefusedError) as error:
                self._properties.remember_refusal(request.model, error)
                raise
            else:
                return
            finally:
                await _release(answer)
            if retries.answer_started:
                retries.answer_started = False
                yield StreamRestarted()
            if (pausing := _pause_notice(note, pause, watch)) is not None:
                yield pausing
            await asyncio.sleep(pause)

    async def _loading_notices(
        self, answer: "asyncio.Task[_StartedAnswer]", model: str, watch: Stopwatch
    ) -> AsyncGenerator[LoadingNotice, None]:
        """Yield what the server does until the answer starts."""
        while not (await asyncio.wait([answer], timeout=LOADING_POLL_S))[0]:
            note = await self._swap.loading_note(model) if self._server.used else None
            if (notice := watch.loading(note)) is not None:
                yield notice

    async def _start_answer(self, request: ChatRequest) -> _StartedAnswer:
        """Send the request and wait for the first bytes of the answer."""
        has_tools = bool(request.tools) or any("tool_calls" in message for message in request.messages)
        must_rewrite = has_tools and await self.lacks_tools(request.model)
        constrained = must_rewrite and bool(request.tools)
        try:
            response = await self._send(constrained_request(request) if must_rewrite else request)
        except errors.ToolsRefusedError:
            if must_rewrite or not has_tools:
                raise
            self._properties.remember_no_tools(request.model)
            return await self._start_answer(request)
        pieces, started_at = response.aiter_bytes(), asyncio.get_running_loop().time()
        try:
            first = await self._next_bytes(pieces, self._silence_limit(started_at))
            return _StartedAnswer(response, pieces, first, started_at, constrained)
        except httpx.HTTPError as error:
            await response.aclose()
            raise self._connection_broken(error) from error
        except BaseException:
            await response.aclose()
            raise

    async def _read_answer(
        self, started: _StartedAnswer, request: ChatRequest, watch: Stopwatch
    ) -> AsyncGenerator[Piece, None]:
        names = [tool["function"]["name"] for tool in request.tools] if request.may_call else []
        as_json = request.schema is not None
        reader = ReplyReader(
            names,
            text_calls=self._config.text_calls,
            constrained=started.constrained,
            as_json=as_json,
            stop_loops=self._config.stop_loops,
        )
        extensions, timings = started.response.extensions, dict[str, float]()
        piece, last_event_at, now = started.first, started.started_at, asyncio.get_running_loop().time
        may_hold_back = request.may_call or as_json
        try:
            while True:
                for added in reader.feed(piece):
                    if not isinstance(added, LoadingNotice):
                        watch.take(added)
                        yield added
                    elif (notice := watch.loading(f"{request.model} is loading")) is not None:
                        yield notice
                if reader.got_event:  # SSE comments alone do not show that the model goes on
                    last_event_at = now()
                if not timings and reader.started:
                    timings = watch.first_token()
                timings |= watch.thought()
                extensions.get("measure", {}).update(timings)
                if reader.ended:
                    break
                limit = self._silence_limit(last_event_at, reader, now() if may_hold_back else None)
                piece = await self._next_bytes(started.pieces, limit, reader)
            reply = _readable(reader.reply())
            if piece:  # [DONE] came before the end of the stream
                timings |= watch.speed(reply.usage)
                extensions.get("measure", {}).update({**timings, **({"looped": True} if reader.looped else {})})
                if not reader.looped:  # else the model would go on until the connection is closed
                    await _drain(started.pieces)
        except httpx.HTTPError as error:
            raise self._connection_broken(error) from error
        except errors.ModelError as error:
            raise (TransientError(error) if reader.is_transient else error) from error
        finally:
            await started.response.aclose()
        named = {"model": extensions["answered_by"]} if "answered_by" in extensions else {}
        reply = replace(reply, usage={**reply.usage, **named, **extensions.get("measured", timings)})
        self._properties.remember_answer(request.model, reply.usage.get("model", ""))
        yield reply

    async def _next_bytes(
        self, pieces: AsyncIterator[bytes], limit: tuple[float, float], reader: ReplyReader | None = None
    ) -> bytes:
        """Return the next bytes, or b"" at the end of the answer.

        `limit` is of the server's silence: its seconds, and when it ends. Raises ModelTimeoutError if no answer starts
        in time, and TransientError if a started one stalls.
        """
        seconds, deadline = limit
        try:
            async with asyncio.timeout_at(deadline):
                return await anext(pieces, b"")
        except (httpx.HTTPError, TimeoutError) as error:
            if reader is not None and reader.finished:
                return b""
            if isinstance(error, httpx.HTTPError):
                raise
            if reader is None or not reader.started:
                raise self._server.timeout_error() from error
            stalled = f"the server sent nothing for {seconds:g} s in the middle of its answer; retry"
            raise TransientError(errors.ModelTimeoutError(stalled)) from error

    def _silence_limit(
        self, last_event_at: float, reader: ReplyReader | None = None, last_bytes_at: float | None = None
    ) -> tuple[float, float]:
        """Return how many seconds the server may be silent, and until when.

        `last_event_at` is when it last sent part of the answer. `last_bytes_at` is when it last sent anything, if it
        may be holding back a tool call until that is complete; comments then show that it goes on.
        """
        config, started = self._config, reader is not None and reader.started
        limit = config.idle_timeout if started else config.first_byte_timeout
        if reader is not None and reader.finished:
            limit = min(limit, DONE_TIMEOUT_S)
        elif started and last_bytes_at is not None:
            limit = max(limit, config.tool_idle_timeout)
            extended = min(last_bytes_at - last_event_at + limit, config.first_byte_timeout)
            limit = max(limit, extended)
        return round(limit, 1), last_event_at + limit

    async def _send(self, request: ChatRequest) -> httpx.Response:
        """Send the request; return the response before its body is read. Raises TransientError or ModelError."""
        body = request_body(request, stream=True, stream_options={"include_usage": True})
        server = self._config.base_url
        while True:
            content = json.dumps(self._disputed.adapted(server, body), ensure_ascii=False).encode("utf-8", "replace")
            http_request = self._http.build_request(
                "POST", "/v1/chat/completions", content=content, headers={"content-type": "application/json"}
            )
            try:
                response = await self._http.send(http_request, stream=True)
                if response.is_success:
                    return response
                async with asyncio.timeout(self._config.idle_timeout):
                    text = response_text(response, await response.aread())
            except (httpx.HTTPError, TimeoutError) as error:
                wait_s = RESTART_WAIT_S if request.messages[-1]["role"] == "tool" else 0.0  # it answered a moment ago
                failure = await self._server.unreachable(error)
                raise TransientError(failure, wait_s=wait_s, note=RESTART_NOTE if wait_s else "") from error
            if not self._disputed.learn_from_rejection(server, body, response.status_code, text):
                break
        refusal = rejection(response, self._server.without_key(text), request.model, self._config.first_byte_timeout)
        raise refusal if isinstance(refusal, TransientError) else await self._with_served_models(refusal, request.model)

    async def _with_served_models(self, error: errors.ModelError, model: str) -> errors.ModelError:
        """Add the list of served models to the error for a model that is not served."""
        if isinstance(error, errors.ModelNotServedError):
            with contextlib.suppress(errors.ModelError):
                await self._swap.models()
                if model not in (known := self._swap.known()):
                    return not_served_error(model, known)
        return error

    def _connection_broken(self, error: Exception) -> TransientError:
        message = f"the connection broke in the middle of the answer ({self._server.describe(error)}); retry"
        return TransientError(errors.ModelUnavailableError(message))


def _pause_notice(note: str, pause: float, watch: Stopwatch) -> LoadingNotice | None:
    """Return what to say before a retry, if it takes a while."""
    if note:
        return watch.loading(note)
    if pause > MIN_ANNOUNCED_PAUSE_S:
        return LoadingNotice(note=f"the server did not answer; retrying in {pause:.0f} s")
    return None


def _readable(reply: Reply) -> Reply:
    """Return the reply. Raises UnreadableReplyError if its finish reason says that a call could not be read."""
    reason = reply.finish_reason or ""
    if UNREADABLE_REASON.search(reason) and not reply.calls:
        raise errors.UnreadableReplyError(f"the server could not read what the model wrote ({reason})")
    return reply


async def _drain(pieces: AsyncIterator[bytes]) -> None:
    """Read the rest of the stream, so that the connection can be reused; give up if the server keeps it open."""
    with contextlib.suppress(TimeoutError, httpx.HTTPError):
        async with asyncio.timeout(DRAIN_TIMEOUT_S):
            async for _ in pieces:
                pass


async def _release(answer: "asyncio.Task[_StartedAnswer]") -> None:
    """Cancel a request that still waits, or close its response."""
    if answer.cancel():
        await asyncio.wait([answer])
    if not answer.cancelled() and answer.exception() is None:
        await answer.result().response.aclose()
