"""HttpTransport: an MCP server at an address (streamable HTTP).

The SDK sees neither the headers that the user set nor the query of the address, so that it can put neither into a log
or an error: both are added to each request on its way out, and only to requests to the address's own host. What comes
back is bounded, and not decompressed. Certificates and proxy are those of the settings.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Any
from urllib.parse import SplitResult, urlsplit

import httpx2
from mcp.client.streamable_http import streamable_http_client

from piano_jupyter.config import PianoConfig, is_metadata_host
from piano_jupyter.errors import PianoError
from piano_jupyter.mcp_server import McpServerSettings
from piano_jupyter.runner.connection import ConnectionSettings, connection_settings, proxy_note, tls_problem
from piano_jupyter.runner.tools.mcp.message_limits import (
    MAX_LINES_A_SECOND,
    MAX_MESSAGE_BYTES,
    MAX_STREAMS_A_SECOND,
    TOO_LARGE,
    TOO_MANY_VALUES,
    MessageRate,
    has_too_many_values,
    repaired,
)
from piano_jupyter.text.json_text import json_or_none, mapping

CONNECT_TIMEOUT_S, SILENCE_TIMEOUT_S = 10.0, 600.0
NOTICE_TIMEOUT_S = 10.0  #: of what needs no work, such as a notification: the SDK sends nothing else meanwhile
BROKEN = "its answer broke off, or is not HTTP"
STATUS = "it answers "  #: how the reason begins where that is the status of a response
HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
MAX_STREAM_BYTES = 4 * MAX_MESSAGE_BYTES  #: of one response: a stream of events may have several messages


class HttpTransport:
    """One connection to a server at an address."""

    def __init__(self, settings: McpServerSettings, config: PianoConfig) -> None:
        self._settings, self._config = settings, config
        self.ended = asyncio.Event()  #: no more messages come
        self._carrier: _Carrier | None = None

    @property
    def reason(self) -> str:
        """Why the last request failed, "" if it did not."""
        return self._carrier.reason if self._carrier is not None else ""

    @asynccontextmanager
    async def streams(self) -> AsyncIterator[tuple[Any, Any]]:
        """Yield the streams of the server's messages. Raises PianoError for an address that is refused."""
        parts = _address(self._settings.url)
        if is_metadata_host(parts.hostname or ""):
            raise PianoError("its url is where a cloud gives out the keys of a machine")
        headers = {name: value.strip() for name, value in self._settings.headers.items()}
        for name, value in headers.items():
            if not HEADER_NAME.fullmatch(name) or not (value.isascii() and value.isprintable()):
                raise PianoError(f"the header {name!r} holds characters that an HTTP header cannot carry")
        self._carrier = _Carrier(self._settings.url, headers, self._config)
        timeout = httpx2.Timeout(CONNECT_TIMEOUT_S, read=SILENCE_TIMEOUT_S)
        plain = parts._replace(query="", fragment="").geturl()
        async with (
            httpx2.AsyncClient(transport=self._carrier, timeout=timeout) as client,
            streamable_http_client(plain, http_client=client, max_sse_event_size=MAX_MESSAGE_BYTES) as streams,
        ):
            yield streams

    def stop_now(self) -> None:
        """Do nothing: there is no program to end."""

    def last_words(self) -> str:
        """Return nothing: such a server says nothing outside of messages."""
        return ""


class _Carrier(httpx2.AsyncBaseTransport):
    """Sends requests with the user's headers and query, to the server's own host only."""

    def __init__(self, url: str, headers: dict[str, str], config: PianoConfig) -> None:
        self._url, self._headers = httpx2.URL(url), headers
        self._place = f"{self._url.scheme}://{self._url.netloc.decode('ascii', 'replace')}"
        self._through = proxy_note(config, url)
        self._streams, self._lines = MessageRate(MAX_STREAMS_A_SECOND), MessageRate(MAX_LINES_A_SECOND)
        self._inner = _open(connection_settings(config, url))
        self.reason = ""

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send a request. Raises httpx2.TransportError."""
        is_message = request.method == "POST"  # the stream besides them (GET) and the farewell (DELETE) may fail

        def fault(reason: str) -> httpx2.TransportError:
            self.reason = reason if is_message else self.reason
            return httpx2.ReadError(reason)

        if is_message:
            self.reason = ""
        elif request.method == "GET":
            await self._streams.wait()
        if _origin(request.url) != _origin(self._url):
            raise fault("it redirects to another host, which is not followed")
        url = request.url.copy_with(query=self._url.query) if self._url.query else request.url
        headers = httpx2.Headers(request.headers)
        headers.update({**self._headers, "Accept-Encoding": "identity"})
        extensions = request.extensions
        if is_message and not _is_request(await request.aread()):
            extensions = {**extensions, "timeout": {**extensions["timeout"], "read": NOTICE_TIMEOUT_S}}
        copy = httpx2.Request(request.method, url, headers=headers, stream=request.stream, extensions=extensions)
        try:
            response = await self._inner.handle_async_request(copy)
        except httpx2.TimeoutException:
            raise fault(f"it does not answer{self._through}") from None
        except httpx2.RemoteProtocolError:
            raise fault(BROKEN) from None
        except httpx2.TransportError as error:
            problem = tls_problem(error, self._place)
            raise fault(problem or f"it cannot be reached{self._through}") from None
        if response.headers.get("content-encoding", "identity") != "identity":
            await response.aclose()
            raise fault("it answers in a compressed form that was not asked for")
        if response.status_code >= HTTPStatus.BAD_REQUEST:
            fault(f"{STATUS}{response.status_code} {_phrase(response.status_code)}".strip())
        elif response.is_redirect:
            fault("it redirects elsewhere, which is not followed")
        return httpx2.Response(
            response.status_code,
            headers=response.headers,
            stream=_LimitedBody(response, self._lines, fault),
            extensions=response.extensions,
        )

    async def aclose(self) -> None:
        """Close all connections."""
        await self._inner.aclose()


class _LimitedBody(httpx2.AsyncByteStream):
    """The body of a response, up to a limit, and no faster than messages are read."""

    def __init__(self, response: httpx2.Response, lines: MessageRate, fault: Callable[[str], Exception]) -> None:
        self._response, self._lines, self._fault = response, lines, fault

    async def __aiter__(self) -> AsyncIterator[bytes]:
        is_stream = self._response.headers.get("content-type", "").startswith("text/event-stream")
        left, pending = MAX_STREAM_BYTES, list[bytes]()
        async for chunk in self._chunks():
            left -= len(chunk)
            whole, line_end, rest = chunk.rpartition(b"\n") if is_stream else (b"", b"", chunk)
            if line_end:
                yield await self._checked(b"".join([*pending, whole, line_end]))
                pending.clear()
            pending.append(rest)
            if left < 0 or sum(map(len, pending)) > MAX_MESSAGE_BYTES:
                raise self._fault(TOO_LARGE)
        yield await self._checked(b"".join(pending))

    async def _chunks(self) -> AsyncIterator[bytes]:
        assert isinstance(self._response.stream, httpx2.AsyncByteStream)
        try:
            async for chunk in self._response.stream:
                yield chunk
        except httpx2.TransportError:
            raise self._fault(BROKEN) from None

    async def _checked(self, lines: bytes) -> bytes:
        """Return a message, or complete lines of a stream, when they may be read. Raises httpx2.TransportError."""
        if any(map(has_too_many_values, lines.split(b"\n"))):
            raise self._fault(TOO_MANY_VALUES)
        await self._lines.wait(lines.count(b"\n") + lines.count(b"\r"))
        return repaired(lines)

    async def aclose(self) -> None:
        await self._response.aclose()


def _open(settings: ConnectionSettings) -> httpx2.AsyncHTTPTransport:
    """Return a transport with these settings. Raises PianoError if they cannot be used."""
    context = settings.tls_context() or httpx2.create_ssl_context(trust_env=False)
    try:
        tunnel = settings.proxy.startswith("https:")
        proxy = httpx2.Proxy(settings.proxy, ssl_context=context if tunnel else None) if settings.proxy else None
        return httpx2.AsyncHTTPTransport(verify=context, proxy=proxy)
    except (ValueError, ImportError, httpx2.InvalidURL) as error:
        raise settings.proxy_error(error) from error


def _is_request(content: bytes) -> bool:
    """Return whether a message asks for something, which may take long."""
    message = mapping(json_or_none(content.decode()))
    return "method" in message and "id" in message


def _address(url: str) -> SplitResult:
    """Return the parts of an address. Raises PianoError if it is none."""
    try:
        parts = urlsplit(url)
        if httpx2.URL(url).scheme in {"http", "https"} and parts.hostname and "@" not in parts.netloc:
            return parts
    except (ValueError, httpx2.InvalidURL):
        pass
    raise PianoError("its url must look like https://host/mcp, without a user name")


def _origin(url: httpx2.URL) -> tuple[str, str, int | None]:
    return url.scheme, url.host, url.port


def _phrase(status: int) -> str:
    known = {each.value: each.phrase for each in HTTPStatus}
    return known.get(status, "")
