"""The way to the server, which all above know only as "the model".

`ServerTransport` sends a request to wherever the model is, found (or started) when it is first needed. So a cassette in
between sees neither hosts nor keys, and a replay starts no server.
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

THE_MODEL = "http://the-model"
#: what a request may raise
TROUBLE = (PianoError, httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, OSError, TimeoutError)


class ServerTransport(httpx.AsyncBaseTransport):
    """Sends requests that are addressed to "the model" to the server that `connect` names."""

    def __init__(self, connect: Connect, config: PianoConfig) -> None:
        self._connect, self._config = connect, config
        limits = httpx.Limits(max_keepalive_connections=8)
        self._inner = httpx.AsyncHTTPTransport(verify=_certificates(), limits=limits)
        self.used = False  #: a request has gone out: not all was answered from a cassette

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Pass the request on, with the server's address and key. Raises ModelTimeoutError if no answer begins."""
        endpoint = await self._connect()
        self.used = True
        path = request.url.raw_path.decode()
        response = await self._send(request, endpoint, path)
        if response.status_code == 404 and (model := request.url.params.get("model")) and path.startswith("/props?"):
            await response.aclose()  # llama-swap has no properties of its own, but leads to those of each model
            return await self._send(request, endpoint, f"/upstream/{quote(model)}/props")
        return response

    async def _send(self, request: httpx.Request, endpoint: Endpoint, path: str) -> httpx.Response:
        root = endpoint.url.removesuffix("/v1")  # beside the API stands what is the server's own
        request.url = httpx.URL(endpoint.url + path.removeprefix("/v1") if path.startswith("/v1/") else root + path)
        request.headers["host"] = request.url.netloc.decode()
        if endpoint.api_key:
            request.headers["authorization"] = f"Bearer {endpoint.api_key}"
        request.extensions["timeout"] = {"connect": self._config.connect_timeout}
        try:
            async with asyncio.timeout(self._config.first_byte_timeout):
                return await self._inner.handle_async_request(request)
        except TimeoutError as error:
            raise self.too_slow() from error

    async def aclose(self) -> None:
        """Close the connections."""
        await self._inner.aclose()

    def client(self, wrap: Wrap | None = None) -> Http:
        """Return an HTTP client whose requests go to "the model"; this knows how long to wait."""
        return httpx.AsyncClient(
            transport=wrap(self) if wrap else self,
            base_url=THE_MODEL,
            headers={"accept-encoding": "identity"},  # a cassette keeps the bytes as text
            timeout=None,  # noqa: S113  It is set above.
            follow_redirects=False,
            trust_env=False,
        )

    async def unreachable(self, error: Exception) -> ModelUnavailableError:
        """Return the error for a server that could not be asked, with its address."""
        where = (await self._connect()).url
        return ModelUnavailableError(f"the server at {where} does not answer ({self.said(error)}); is it running?")

    def said(self, error: Exception) -> str:
        """Return an error's words, or its kind where it has none."""
        return self.without_key(str(error)) or type(error).__name__

    def without_key(self, text: str) -> str:
        """Return a text without the key, or any: a server may repeat the one that it refuses."""
        key = self._config.api_key
        return redact(text.replace(key, "(key)") if key else text)

    def too_slow(self) -> ModelTimeoutError:
        """Return the error for an answer that did not begin in time."""
        return ModelTimeoutError(
            f"the server did not begin to answer within {self._config.first_byte_timeout:g} s; "
            f"raise PianoConfig.first_byte_timeout if its model loads that slowly"
        )


async def trouble_at(url: str, timeout: float) -> str | None:
    """Return what is wrong at an address, in a few words; None where a model server answers, if only with a refusal."""
    try:
        async with httpx.AsyncClient(timeout=timeout, trust_env=False) as http:
            response = await http.get(f"{url}/models")
            if response.status_code == 404 and not _speaks_json(response):  # not each server has a list
                response = await http.get(f"{url}/chat/completions")
    except (httpx.HTTPError, httpx.InvalidURL, OSError):
        return f"nothing answers at {url}"
    refused = response.status_code in {400, 401, 403, 405, 422} or response.status_code >= 500
    if refused or _speaks_json(response):
        return None
    return f"what answers at {url} is no model server (is /v1 missing?)"


def _speaks_json(response: httpx.Response) -> bool:
    return "json" in response.headers.get("content-type", "") or response.text.lstrip().startswith(("{", "["))


@functools.cache
def _certificates() -> ssl.SSLContext:
    """Read the certificates once: it takes longer than all else here."""
    return httpx.create_ssl_context()
