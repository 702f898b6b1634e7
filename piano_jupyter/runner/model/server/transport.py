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
from piano_jupyter.errors import ModelError, ModelTimeoutError, ModelUnavailableError, PianoError
from piano_jupyter.runner.connection import ConnectionSettings, connection_settings, proxy_note, tls_problem
from piano_jupyter.runner.model.embedded.local_server import Endpoint
from piano_jupyter.runner.model.server.bounded_body import BoundedTransport
from piano_jupyter.secrets.redactor import redact
from piano_jupyter.text.truncation import truncated

Http = httpx.AsyncClient
Connect = Callable[[], Awaitable[Endpoint]]
Wrap = Callable[[httpx.AsyncBaseTransport], httpx.AsyncBaseTransport]

PLAIN = {"accept-encoding": "identity"}  #: no compression: a local server gains nothing by it
CHECK_STEPS = 4  #: how many times `connect_timeout` the check whether a server is there may take
PLACEHOLDER_URL = "http://the-model"
#: the errors that a request may raise
REQUEST_ERRORS = (PianoError, httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, OSError, TimeoutError)


class ServerTransport(httpx.AsyncBaseTransport):
    """Sends requests for the placeholder address to the server that `connect` returns."""

    def __init__(self, connect: Connect, config: PianoConfig) -> None:
        self._connect, self._config = connect, config
        self._opened: dict[ConnectionSettings, httpx.AsyncBaseTransport] = {}
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
        settings = connection_settings(self._config, endpoint.url)
        if settings not in self._opened:
            self._opened[settings] = open_transport(settings)
        try:
            if "sent" in request.extensions:
                request.extensions["sent"].set()
            async with asyncio.timeout(self._config.first_byte_timeout):
                response = await self._opened[settings].handle_async_request(request)
        except TimeoutError as error:
            raise self.timeout_error() from error
        except httpx.ConnectError as error:
            if problem := tls_problem(error, endpoint.url):
                raise ModelUnavailableError(problem) from error
            raise
        if endpoint.model:  # the embedded model, whatever was asked for
            response.extensions["answered_by"] = endpoint.model
        return response

    async def aclose(self) -> None:
        """Close the connections."""
        for transport in self._opened.values():
            await transport.aclose()

    def client(self, wrap: Wrap | None = None) -> Http:
        """Return an HTTP client whose requests go through this transport, which also sets the timeouts."""
        return httpx.AsyncClient(
            transport=wrap(self) if wrap else self,
            base_url=PLACEHOLDER_URL,
            headers=PLAIN,
            timeout=None,  # noqa: S113  The transport sets timeouts.
            follow_redirects=False,
            trust_env=False,
        )

    async def unreachable(self, error: Exception) -> ModelUnavailableError:
        """Return the error for a server that cannot be reached, with its address."""
        where = (await self._connect()).url
        through = proxy_note(self._config, where)
        return ModelUnavailableError(
            f"the server at {where} does not answer{through} ({self.describe(error)}); is it running?"
        )

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


def open_transport(settings: ConnectionSettings) -> httpx.AsyncBaseTransport:
    """Return a transport with these settings. Raises ModelUnavailableError if they cannot be used."""
    try:
        context = settings.tls_context() or usual_certificates()
    except PianoError as error:
        raise ModelUnavailableError(str(error)) from error
    limits = httpx.Limits(max_keepalive_connections=8)
    try:
        tunnel = settings.proxy.startswith("https:")
        proxy = httpx.Proxy(settings.proxy, ssl_context=context if tunnel else None) if settings.proxy else None
        return BoundedTransport(httpx.AsyncHTTPTransport(verify=context, limits=limits, proxy=proxy))
    except (ValueError, ImportError, httpx.InvalidURL) as error:
        raise ModelUnavailableError(str(settings.proxy_error(error))) from error


@functools.cache
def usual_certificates() -> ssl.SSLContext:
    """Return the certificates that httpx trusts by itself, which are read once: this is slow."""
    return httpx.create_ssl_context(trust_env=False)


async def connection_problem(config: PianoConfig) -> str | None:
    """Say briefly why no model server can be used at `base_url`; None if one answers, even slowly or with an error.

    Raises ModelUnavailableError if a server is there, but not with these settings.
    """
    url, limit = config.base_url, config.connect_timeout
    headers = {**PLAIN, **({"authorization": f"Bearer {config.api_key}"} if config.api_key else {})}
    transport = open_transport(connection_settings(config, url))
    try:
        async with (
            asyncio.timeout(CHECK_STEPS * limit),
            httpx.AsyncClient(transport=transport, timeout=limit, headers=headers, trust_env=False) as http,
        ):
            response = await http.get(f"{url}/models")
            if response.status_code == 404 and not _is_json(response):  # not every server lists its models
                response = await http.get(f"{url}/chat/completions")
    except (httpx.ReadTimeout, ModelError, TimeoutError):
        return None  # it is there, though slow
    except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
        if problem := tls_problem(error, url):
            raise ModelUnavailableError(problem) from error
        return f"nothing answers at {url}{proxy_note(config, url)}"
    if response.has_redirect_location:
        raise ModelUnavailableError(_redirected(url, response))
    refused = response.status_code in {400, 401, 403, 405, 422} or response.status_code >= 500
    if refused or _is_json(response):
        return None
    return f"the server at {url} is not a model server (is /v1 missing?)"


def _redirected(url: str, response: httpx.Response) -> str:
    target = str(response.url.join(response.headers["location"])).removesuffix("/").removesuffix("/models")
    return (
        f"the server at {url} redirects to {redact(truncated(target, 200))}; "
        f"set PianoConfig.base_url to the address of the model server"
    )


def _is_json(response: httpx.Response) -> bool:
    return "json" in response.headers.get("content-type", "") or response.text.lstrip().startswith(("{", "["))
