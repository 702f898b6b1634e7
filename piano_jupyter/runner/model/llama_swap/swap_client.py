"""SwapClient: what llama-swap has beside the OpenAI API: models and their states, load, unload, its events.

Any other server is asked for its list of models only: all of them count as loaded, and nothing can be swapped. While a
cassette is open that list is all that is asked, and it is recorded: what is loaded when is not the same twice.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Iterable
from math import inf
from urllib.parse import quote

import httpx

from piano_jupyter.config import PianoConfig
from piano_jupyter.errors import ModelError, PianoError
from piano_jupyter.logs import logger
from piano_jupyter.records import Model
from piano_jupyter.runner.model.llama_swap.event_stream import first_news
from piano_jupyter.runner.model.llama_swap.model_state_cache import REMEMBERED, ModelStateCache
from piano_jupyter.runner.model.server import model_list
from piano_jupyter.runner.model.server.error_responses import error_from
from piano_jupyter.runner.model.server.model_list import States
from piano_jupyter.runner.model.server.transport import TROUBLE, Connect, ServerTransport, Wrap
from piano_jupyter.text.json_text import json_or_none

log = logger(__name__)

GLANCE = 0.5  # seconds that a look at the states may take
LOOK_AGAIN = 30.0  # seconds until a server that did not tell its states or its events is asked again


class SwapClient:
    """Asks a server for its models, and llama-swap to load and unload them. For one event loop."""

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
        self._taped = self._server.client(wrap) if wrap else None
        self._heard = ModelStateCache(now)
        self.unloads = 0  #: how often it has unloaded a model, or all

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()
        if self._taped is not None:
            await self._taped.aclose()

    async def models(self) -> list[Model]:
        """Return the models that the server lists, with their states. Raises ModelError."""
        if self._taped is None:
            await self._know_server()
        response = await self._ask("/v1/models")
        if response.status_code == 404:
            raise ModelError("the server has no list of its models; name one by yourself: %piano agent NAME --model M")
        if response.status_code != 200:
            raise error_from(response.status_code, self._server.without_key(response.text))
        states = self._heard.states
        with contextlib.suppress(ModelError, httpx.HTTPError):  # trouble, or an older cassette that does not know
            states = self._hear_running(await self._ask("/running"))
        models = model_list.listed(json_or_none(response.text), states)
        if states is not None:
            await self._learn_aliases()
        models = model_list.with_aliases(models, self._heard.aliases)
        self._heard.hear_models(models)
        return models

    async def context(self, name: str) -> int | None:
        """Return how many tokens fit into a model's window, as the server lists it; None while a cassette is open.

        Raises ModelError.
        """
        if self._taped is not None:
            return None
        own = self._heard.own_name(name)
        return next((model.context for model in await self.models() if own in {model.name, *model.aliases}), None)

    def known(self) -> list[str]:
        """Return the names and aliases that were last heard of, without asking."""
        return self._heard.known()

    def own_name(self, name: str) -> str:
        """Return the model that an alias stands for, as last heard; any other name as it is."""
        return self._heard.own_name(name)

    async def loaded(self, names: Iterable[str]) -> frozenset[str] | None:
        """Return which of these names or aliases answer without a swap: they are loaded, or already on their way.

        As last heard, where the server cannot be asked. None where it was never heard to swap, and while a cassette is
        open. Quick, and never raises.
        """
        if self._taped is not None:
            return None
        async with _glance():
            if await self._look() is not None:
                await self._learn_aliases()
        return None if self._heard.states is None else frozenset(filter(self._heard.here, names))

    async def why_waiting(self, name: str) -> str | None:
        """Say in a few words what llama-swap does before this model can answer; None if it is not waited for.

        None as well where the server cannot be asked now. Quick, and never raises.
        """
        async with _glance():
            states = await self._look()
            return None if states is None else model_list.loading_note(self._heard.own_name(name), states)
        return None

    async def load(self, name: str) -> None:
        """Have a model loaded; return when it answers. Raises ModelError, ModelNotServedError with what there is."""
        own = await self._swappable(name)
        await self._swap("GET", f"/upstream/{quote(own)}/health", own)

    async def unload(self, name: str | None = None) -> None:
        """Have a model unloaded, or all of them. Raises ModelError, ModelNotServedError with what there is."""
        own = await self._swappable(name)
        self.unloads += 1
        await self._swap("POST", f"/api/models/unload/{quote(own)}" if own else "/api/models/unload", own)

    async def _ask(self, path: str) -> httpx.Response:
        try:
            if self._taped is not None:
                return await self._taped.get(path)
            async with asyncio.timeout(self._config.idle_timeout):
                return await self._http.get(path)
        except (httpx.HTTPError, TimeoutError) as error:
            raise await self._server.unreachable(error) from error

    async def _swap(self, method: str, path: str, name: str) -> None:
        """Ask for a change and return when it is done."""
        try:
            async with asyncio.timeout(self._config.first_byte_timeout):
                response = await self._http.request(method, path)
        except TimeoutError as error:
            raise self._server.too_slow() from error
        except httpx.HTTPError as error:
            raise await self._server.unreachable(error) from error
        finally:
            self._heard.good_until = 0.0
        if response.status_code >= 400 and response.status_code != 404:  # 404: the model's own server has no /health
            raise error_from(response.status_code, self._server.without_key(response.text), name)

    async def _look(self) -> States | None:
        """Return the states: from memory, or by one request. Raises one of TROUBLE."""
        await self._know_server()
        if self._now() >= self._heard.good_until:
            self._hear_running(await self._http.get("/running"))
        return self._heard.states

    def _hear_running(self, response: httpx.Response) -> States | None:
        """Return the states that `/running` tells; None: it does not swap. Raises httpx.HTTPStatusError.

        That is raised by a server that was heard to swap, and now neither says its states nor that it has none.
        """
        code = response.status_code
        states = model_list.running(json_or_none(response.text)) if code == 200 else None
        if self._heard.states is not None and code != 404:
            response.raise_for_status()
        self._heard.hear_states(states, LOOK_AGAIN if states is None and code < 500 else REMEMBERED)
        return states

    async def _know_server(self) -> None:
        """Forget what another server said. Raises PianoError."""
        url = (await self._connect()).url
        known, self._heard.url = self._heard.url, url
        if known not in {"", url}:
            self._heard.forget(url)

    async def _learn_aliases(self) -> None:
        """Hear of the aliases, once a server: only the events tell them all. After trouble, again in a while."""
        now = self._now()
        if self._taped is None and now >= self._heard.events_due:
            self._heard.events_due = now + LOOK_AGAIN
            with contextlib.suppress(*TROUBLE):
                async with asyncio.timeout(GLANCE):
                    news = await first_news(self._http)
                self._heard.events_due = inf
                if news is not None:
                    self._heard.hear(news)

    async def _swappable(self, name: str | None) -> str:
        """Return the model's own name. Raises PianoError where nothing is swapped, ModelNotServedError."""
        if self._taped is not None:
            raise PianoError("a cassette is open: no model is loaded or unloaded while it records or replays")
        await self.models()
        if self._heard.states is None:
            raise model_list.not_swapped(self._heard.url)
        own = self._heard.own_name(name or "")
        if name is not None and not self._heard.serves(own):
            raise model_list.not_served(name, self.known())
        return own


@contextlib.asynccontextmanager
async def _glance() -> AsyncIterator[None]:
    """Take no longer than a glance at the server, and let nothing that goes wrong with it out."""
    try:
        async with asyncio.timeout(GLANCE):
            yield
    except TROUBLE:
        pass  # what was last heard stands
    except Exception:
        log.exception("the states of the models could not be asked for")
