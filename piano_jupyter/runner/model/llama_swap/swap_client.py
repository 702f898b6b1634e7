"""SwapClient: llama-swap's API beside the OpenAI one: models with their states, load, unload, events.

Any other server is only asked for its list of models: all of them count as loaded, and nothing can be swapped. While a
cassette is open, only that list is requested (and recorded), since the models' states differ from run to run.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Mapping
from math import inf
from urllib.parse import quote

import httpx

from piano_jupyter.config import PianoConfig
from piano_jupyter.errors import ModelError, PianoError
from piano_jupyter.logs import logger
from piano_jupyter.records import Model
from piano_jupyter.runner.model.llama_swap.event_stream import first_model_update
from piano_jupyter.runner.model.llama_swap.model_state_cache import STATES_MAX_AGE_S, ModelStateCache
from piano_jupyter.runner.model.server import model_list
from piano_jupyter.runner.model.server.error_responses import error_from, error_message
from piano_jupyter.runner.model.server.model_list import States
from piano_jupyter.runner.model.server.transport import REQUEST_ERRORS, Connect, ServerTransport, Wrap
from piano_jupyter.text.json_text import json_or_none

log = logger(__name__)

QUICK_REQUEST_TIMEOUT_S = 0.5
RETRY_INTERVAL_S = 30.0  #: until a server that has no states or events is asked again


class SwapClient:
    """Lists a server's models, and has llama-swap load and unload them. For one event loop."""

    def __init__(
        self,
        connect: Connect,
        config: PianoConfig,
        wrap: Wrap | None = None,
        *,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._connect, self._config, self._now = connect, config, now
        self._server = ServerTransport(connect, config)
        self._http = self._server.client()
        self._cassette_http = self._server.client(wrap) if wrap else None
        self._cache = ModelStateCache(now)
        self.unloads = 0  #: how often `unload` was called

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()
        if self._cassette_http is not None:
            await self._cassette_http.aclose()

    async def models(self) -> list[Model]:
        """Return the models that the server lists, with their states. Raises ModelError."""
        if self._cassette_http is None:
            await self._reset_if_server_changed()
        response = await self._ask("/v1/models")
        if response.status_code == 404:
            raise ModelError("the server does not list its models; name one yourself: %piano agent NAME --model M")
        if response.status_code != 200:
            raise error_from(response.status_code, self._server.without_key(response.text))
        states = self._cache.states
        with contextlib.suppress(ModelError, httpx.HTTPError):  # a failing server, or an older cassette without it
            states = self._update_states(await self._ask("/running"))
        listed = json_or_none(response.text)
        models = model_list.parse_models(listed, states)
        if states is not None:
            await self._update_aliases()
        models = model_list.with_aliases(models, self._cache.aliases)
        self._cache.update_models(models, model_list.only_model(listed))
        return models

    async def context(self, name: str) -> int | None:
        """Return a model's context window in tokens, as the server lists it; None while a cassette is open.

        Raises ModelError, also for a model whose window Ollama chooses when it loads it.
        """
        if self._cassette_http is not None:
            return None
        resolved = self._cache.resolve_alias(name)
        models = await self.models()
        listed = next((model.context for model in models if resolved in {model.name, *model.aliases}), None)
        if listed is not None or self._cache.states is not None:
            return listed
        return model_list.loaded_window(json_or_none((await self._ask("/api/ps")).text), resolved)

    def known(self) -> list[str]:
        """Return the last known names and aliases, without a request."""
        return self._cache.known()

    @property
    def only_model(self) -> str:
        """The name of the model that answers by any name, as last known; "" where each name has its own model."""
        return self._cache.only_model

    @property
    def aliases(self) -> Mapping[str, str]:
        """Other names of models, and the models, as last known."""
        return self._cache.aliases

    async def loaded(self) -> frozenset[str] | None:
        """Return the models that are loaded or loading, so that they answer without a swap, by name and alias.

        Falls back to the last known states if the server does not answer. None if it is not known to be llama-swap, and
        while a cassette is open. Quick, and never raises.
        """
        if self._cassette_http is not None:
            return None
        async with _quick_request():
            if await self._current_states() is not None:
                await self._update_aliases()
        return self._cache.active()

    async def loading_note(self, name: str) -> str | None:
        """Say in a few words what llama-swap does before this model can answer; None if the model is loaded.

        Also None if the server does not answer now. Quick, and never raises.
        """
        async with _quick_request():
            states = await self._current_states()
            return None if states is None else model_list.loading_note(self._cache.resolve_alias(name), states)
        return None

    async def load(self, name: str) -> None:
        """Load a model and return when it answers. Raises ModelError; ModelNotServedError lists the models."""
        resolved = await self._resolve_swappable(name)
        response = await self._swap("GET", f"/upstream/{quote(resolved)}/health", resolved)
        if response.status_code == 404 and resolved not in (await self.loaded() or ()):  # else: it has no /health
            raise self._cannot("load", resolved, response)

    async def unload(self, name: str | None = None) -> None:
        """Unload one model or all. Raises ModelError; ModelNotServedError lists the models."""
        resolved = await self._resolve_swappable(name)
        self.unloads += 1
        response = await self._swap(
            "POST", f"/api/models/unload/{quote(resolved)}" if resolved else "/api/models/unload", resolved
        )
        if response.status_code == 404:
            raise self._cannot("unload", resolved or "the models", response)

    async def _ask(self, path: str) -> httpx.Response:
        try:
            if self._cassette_http is not None:
                return await self._cassette_http.get(path)
            async with asyncio.timeout(self._config.idle_timeout):
                return await self._http.get(path)
        except (httpx.HTTPError, TimeoutError) as error:
            raise await self._server.unreachable(error) from error

    async def _swap(self, method: str, path: str, name: str) -> httpx.Response:
        """Request a load or unload; return the response when it is done, also if it is a 404."""
        try:
            async with asyncio.timeout(self._config.first_byte_timeout):
                response = await self._http.request(method, path)
        except TimeoutError as error:
            raise self._server.timeout_error() from error
        except httpx.HTTPError as error:
            raise await self._server.unreachable(error) from error
        finally:
            self._cache.states_expire_at = 0.0
        if response.status_code >= 400 and response.status_code != 404:
            raise error_from(response.status_code, self._server.without_key(response.text), name)
        return response

    def _cannot(self, verb: str, name: str, response: httpx.Response) -> ModelError:
        """Return the error for a 404: llama-swap itself does not run this model."""
        reason = error_message(self._server.without_key(response.text))
        return ModelError(
            f"llama-swap cannot {verb} {name} ({reason}): it may be a selector, or another server's model"
        )

    async def _current_states(self) -> States | None:
        """Return the models' states, from the cache or by one request. Raises one of REQUEST_ERRORS."""
        await self._reset_if_server_changed()
        if self._now() >= self._cache.states_expire_at:
            self._update_states(await self._http.get("/running"))
        return self._cache.states

    def _update_states(self, response: httpx.Response) -> States | None:
        """Return the states in the response of `/running`; None: the server is not llama-swap.

        Raises httpx.HTTPStatusError if a server that is known to be llama-swap answers with an error.
        """
        code = response.status_code
        states = model_list.parse_running(json_or_none(response.text)) if code == 200 else None
        if self._cache.states is not None and code != 404:
            response.raise_for_status()
        self._cache.update_states(states, RETRY_INTERVAL_S if states is None and code < 500 else STATES_MAX_AGE_S)
        return states

    async def _reset_if_server_changed(self) -> None:
        """Clear the cache if it is about another server. Raises PianoError."""
        url = (await self._connect()).url
        previous, self._cache.url = self._cache.url, url
        if previous not in {"", url}:
            self._cache.reset(url)

    async def _update_aliases(self) -> None:
        """Get the aliases, once per server, as only the events have all of them; after an error, try again later."""
        now = self._now()
        if self._cassette_http is None and now >= self._cache.aliases_due_at:
            self._cache.aliases_due_at = now + RETRY_INTERVAL_S
            with contextlib.suppress(*REQUEST_ERRORS):
                async with asyncio.timeout(QUICK_REQUEST_TIMEOUT_S):
                    event = await first_model_update(self._http)
                self._cache.aliases_due_at = inf
                if event is not None:
                    self._cache.update(event)

    async def _resolve_swappable(self, name: str | None) -> str:
        """Return the model behind a name or alias. Raises PianoError if nothing can be swapped, ModelNotServedError."""
        if self._cassette_http is not None:
            raise PianoError("models cannot be loaded or unloaded while a cassette records or replays")
        await self.models()
        if self._cache.states is None:
            raise model_list.cannot_swap_error(self._cache.url)
        resolved = self._cache.resolve_alias(name or "")
        if name is not None and not self._cache.serves(resolved):
            raise model_list.not_served_error(name, self.known())
        return resolved


@contextlib.asynccontextmanager
async def _quick_request() -> AsyncIterator[None]:
    """Limit the time of a request to the server, and suppress its errors."""
    try:
        async with asyncio.timeout(QUICK_REQUEST_TIMEOUT_S):
            yield
    except REQUEST_ERRORS:
        pass  # the last known states are used
    except Exception:
        log.exception("could not get the models' states")
