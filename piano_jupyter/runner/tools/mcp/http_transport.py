"""HttpTransport: an MCP server at an address (streamable HTTP).

The SDK sees neither the headers that the user set nor the query of the address, so that it can put neither into a log
or an error: both are added to each request on its way out, and only to requests to the address's own host. What comes
back is bounded, and not decompressed.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import httpx2
from mcp.client.streamable_http import streamable_http_client

from piano_jupyter.config import is_metadata_host
from piano_jupyter.errors import PianoError
from piano_jupyter.mcp_server import McpServerSettings
from piano_jupyter.runner.tools.mcp.message_limits import MAX_MESSAGE_BYTES, MAX_STREAMS_A_SECOND, MessageRate

CONNECT_TIMEOUT_S, SILENCE_TIMEOUT_S = 10.0, 600.0
MAX_STREAM_BYTES = 4 * MAX_MESSAGE_BYTES  #: of one response: a stream of events may have several messages


class HttpTransport:
    """One connection to a server at an address."""

    def __init__(self, settings: McpServerSettings) -> None:
        self._settings = settings
        self.ended = asyncio.Event()  #: never set: there is no connection that could end
        self._carrier: _Carrier | None = None

    @property
    def reason(self) -> str:
        """Why the last request failed, "" if it did not."""
        return self._carrier.reason if self._carrier is not None else ""

    @asynccontextmanager
    async def streams(self) -> AsyncIterator[tuple[Any, Any]]:
        """Yield the streams of the server's messages. Raises PianoError for an address that is refused."""
        parts = urlsplit(self._settings.url)
        if parts.scheme not in {"http", "https"} or not parts.hostname or "@" in parts.netloc:
            raise PianoError("its url must look like https://host/mcp, without a user name")
        if is_metadata_host(parts.hostname):
            raise PianoError("its url is where a cloud gives out the keys of a machine")
        self._carrier = _Carrier(self._settings)
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

    def __init__(self, settings: McpServerSettings) -> None:
        self._url, self._headers = httpx2.URL(settings.url), dict(settings.headers)
        self._streams = MessageRate(MAX_STREAMS_A_SECOND)
        self._inner = httpx2.AsyncHTTPTransport(proxy=_proxy_to(settings.url))
        self.reason = ""

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send a request. Raises httpx2.TransportError."""
        self.reason = ""
        if request.method == "GET":
            await self._streams.wait()
        if _origin(request.url) != _origin(self._url):
            raise self._error("it redirects to another host, which is not followed")
        url = request.url.copy_with(query=self._url.query) if self._url.query else request.url
        headers = httpx2.Headers(request.headers)
        headers.update({**self._headers, "Accept-Encoding": "identity"})
        copy = httpx2.Request(
            request.method, url, headers=headers, stream=request.stream, extensions=request.extensions
        )
        try:
            response = await self._inner.handle_async_request(copy)
        except httpx2.TimeoutException:
            raise self._error("it does not answer") from None
        except httpx2.TransportError:
            raise self._error("it cannot be reached") from None
        if response.headers.get("content-encoding", "identity") != "identity":
            await response.aclose()
            raise self._error("it answers in a compressed form that was not asked for")
        if response.status_code >= HTTPStatus.BAD_REQUEST and response.status_code != HTTPStatus.METHOD_NOT_ALLOWED:
            self.reason = f"it answers {response.status_code} {_phrase(response.status_code)}".strip()
        elif response.is_redirect:
            self.reason = "it redirects elsewhere, which is not followed"
        return httpx2.Response(
            response.status_code,
            headers=response.headers,
            stream=_LimitedBody(response, self._error),
            extensions=response.extensions,
        )

    async def aclose(self) -> None:
        """Close all connections."""
        await self._inner.aclose()

    def _error(self, reason: str) -> httpx2.TransportError:
        self.reason = reason
        return httpx2.ReadError(reason)


class _LimitedBody(httpx2.AsyncByteStream):
    """The body of a response, up to a limit."""

    def __init__(self, response: httpx2.Response, error: Callable[[str], Exception]) -> None:
        self._response, self._error = response, error

    async def __aiter__(self) -> AsyncIterator[bytes]:
        is_stream = self._response.headers.get("content-type", "").startswith("text/event-stream")
        left = MAX_STREAM_BYTES if is_stream else MAX_MESSAGE_BYTES
        assert isinstance(self._response.stream, httpx2.AsyncByteStream)
        async for chunk in self._response.stream:
            left -= len(chunk)
            if left < 0:
                raise self._error(f"it sent more than {MAX_MESSAGE_BYTES // 2**20} MB")
            yield chunk

    async def aclose(self) -> None:
        await self._response.aclose()


def _proxy_to(url: str) -> str | None:
    """Return the proxy that the environment names for an address, none for addresses of this machine."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    if host == "localhost" or host.startswith("127.") or host == "::1" or proxy_bypass(host):
        return None
    proxies = getproxies()
    return proxies.get(parts.scheme) or proxies.get("all")


def _origin(url: httpx2.URL) -> tuple[str, str, int | None]:
    return url.scheme, url.host, url.port


def _phrase(status: int) -> str:
    known = {each.value: each.phrase for each in HTTPStatus}
    return known.get(status, "")
