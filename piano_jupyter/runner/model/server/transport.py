"""The HTTP transport to the model's server; the layers above use a placeholder address.

`ServerTransport` sends each request to the current server, which is found (or started) when it is first needed. A
cassette in between therefore sees neither hosts nor keys, and a replay starts no server.
"""

import asyncio
import functools
import ssl
from collections.abc import Awaitable, Callable
from urllib.parse import quote

import httpx

from piano_jupyter.config import PianoConfig
from piano_jupyter.errors import ModelTimeoutError, ModelUnavailableError, PianoError
from piano_jupyter.runner.model.embedded.local_server import Endpoint
from piano_jupyter.secrets.redactor import redact

Http = httpx.AsyncClient
Connect = Callable[[], Awaitable[Endpoint]]
Wrap = Callable[[httpx.AsyncBaseTransport], httpx.AsyncBaseTransport]

PLACEHOLDER_URL = "http://the-model"
#: the errors that a request may raise
REQUEST_ERRORS = (PianoError, httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, OSError, TimeoutError)


class ServerTransport(httpx.AsyncBaseTransport):
    """Sends requests for the placeholder address to the server that `connect` returns."""

    def __init__(self, connect: Connect, config: PianoConfig) -> None:
        self._connect, self._config = connect, config
        limits = httpx.Limits(max_keepalive_connections=8)
        self._inner = httpx.AsyncHTTPTransport(verify=_certificates(), limits=limits)
        self.used = False  #: a request was sent to the server, not answered from a cassette

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send the request to the server, with its key. Raises ModelTimeoutError if no answer starts in time."""
        endpoint = await self._connect()
        self.used = True
        path = request.url.raw_path.decode()
        response = await self._send(request, endpoint, path)
        if response.status_code == 404 and (model := request.url.params.get("model")) and path.startswith("/props?"):
            await response.aclose()  # llama-swap has no /props itself, but forwards to each model's
            return await self._send(request, endpoint, f"/upstream/{quote(model)}/props")
        return response

    async def _send(self, request: httpx.Request, endpoint: Endpoint, path: str) -> httpx.Response:
        root = endpoint.url.removesuffix("/v1")  # the server's own endpoints are not below /v1
        request.url = httpx.URL(endpoint.url + path.removeprefix("/v1") if path.startswith("/v1/") else root + path)
        request.headers["host"] = request.url.netloc.decode()
        if endpoint.api_key:
            request.headers["authorization"] = f"Bearer {endpoint.api_key}"
        request.extensions["timeout"] = {"connect": self._config.connect_timeout}
        try:
            async with asyncio.timeout(self._config.first_byte_timeout):
                return await self._inner.handle_async_request(request)
        except TimeoutError as error:
            raise self.timeout_error() from error

    async def aclose(self) -> None:
        """Close the connections."""
        await self._inner.aclose()

    def client(self, wrap: Wrap | None = None) -> Http:
        """Return an HTTP client whose requests go through this transport, which also sets the timeouts."""
        return httpx.AsyncClient(
            transport=wrap(self) if wrap else self,
            base_url=PLACEHOLDER_URL,
            headers={"accept-encoding": "identity"},  # a cassette keeps the bytes as text
            timeout=None,  # noqa: S113  The transport sets timeouts.
            follow_redirects=False,
            trust_env=False,
        )

    async def unreachable(self, error: Exception) -> ModelUnavailableError:
        """Return the error for a server that cannot be reached, with its address."""
        where = (await self._connect()).url
        return ModelUnavailableError(f"the server at {where} does not answer ({self.describe(error)}); is it running?")

    def describe(self, error: Exception) -> str:
        """Return an error's message, or its class name if it has none."""
        return self.without_key(str(error)) or type(error).__name__

    def without_key(self, text: str) -> str:
        """Return a text without API keys: a server may quote the one that it rejects."""
        key = self._config.api_key
        return redact(text.replace(key, "(key)") if key else text)

    def timeout_error(self) -> ModelTimeoutError:
        """Return the error for an answer that did not start in time."""
        return ModelTimeoutError(
            f"the server did not start to answer within {self._config.first_byte_timeout:g} s; "
            f"raise PianoConfig.first_byte_timeout if its model takes longer to load"
        )


async def connection_problem(url: str, timeout: float) -> str | None:
    """Say briefly why no model server can be used at an address; None if one answers, even with an error."""
    try:
        async with httpx.AsyncClient(timeout=timeout, trust_env=False) as http:
            response = await http.get(f"{url}/models")
            if response.status_code == 404 and not _is_json(response):  # not every server lists its models
                response = await http.get(f"{url}/chat/completions")
    except (httpx.HTTPError, httpx.InvalidURL, OSError):
        return f"nothing answers at {url}"
    refused = response.status_code in {400, 401, 403, 405, 422} or response.status_code >= 500
    if refused or _is_json(response):
        return None
    return f"the server at {url} is not a model server (is /v1 missing?)"


def _is_json(response: httpx.Response) -> bool:
    return "json" in response.headers.get("content-type", "") or response.text.lstrip().startswith(("{", "["))


@functools.cache
def _certificates() -> ssl.SSLContext:
    """Read the certificates once: this is slow."""
    return httpx.create_ssl_context()
