"""A model's properties: its context window, tools and images, and which model really answers.

llama.cpp has both at `/props` (behind llama-swap, those of each model). Other servers name the window in their list of
models, or in the error when it overflows. Each model of a server is asked once; nothing is guessed.
"""

import asyncio
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import httpx

from piano_jupyter.config import PianoConfig
from piano_jupyter.errors import ContextOverflowError, ImagesRefusedError, ModelError
from piano_jupyter.runner.model.llama_swap.swap_client import SwapClient
from piano_jupyter.runner.model.server.model_list import window_size
from piano_jupyter.text.json_text import mapping, parse_json

PROPS_TIMEOUT_S = 0.5  #: for a model that is not loading: its properties must not delay a question
HUNG_INTERVAL_S = 30.0  #: until a server whose properties hang is asked for them again

Key = tuple[str, str, str]


class ModelProperties:
    """Fetches and caches the properties of models."""

    def __init__(self, http: httpx.AsyncClient, config: PianoConfig, swap: SwapClient) -> None:
        self._http, self._config, self._swap = http, config, swap
        self._hung_until: dict[Key, float] = {}
        self._props: dict[Key, Mapping[str, Any]] = {}
        self._contexts: dict[Key, int | None] = {}
        self._answered_by: dict[Key, str] = {}
        self._refuse_images: set[Key] = set()
        self._refuse_tools: set[Key] = set()

    async def lacks_tools(self, model: str) -> bool:
        """Return whether the server says that the model cannot be given tools, or has refused them."""
        if self._key(model) in self._refuse_tools:
            return True
        props = mapping(await self._fetch_props(model))
        return mapping(props.get("chat_template_caps")).get("supports_tools") is False

    async def context(self, model: str) -> int | None:
        """Return the model's context window in tokens; None if it is not known. Never raises ModelError.

        A model that llama-swap would have to load first is not asked.
        """
        key = self._key(model)
        if key in self._contexts:
            return self._contexts[key]
        loaded = await self._swap.loaded()
        if loaded is not None and model not in loaded:
            return None
        with suppress(ModelError):  # the chat request that follows will raise it
            if (props := await self._fetch_props(model, only_recorded=True)) is not None:
                settings = mapping(props.get("default_generation_settings"))
                self._contexts[key] = window_size(settings.get("n_ctx")) or await self._swap.context(model)
        return self._contexts.get(key)

    async def sees_images(self, model: str) -> bool | None:
        """Return whether a model sees images; None if it is not known. Never raises ModelError.

        A model that llama-swap would have to load first is not asked.
        """
        if self._key(model) in self._refuse_images:
            return False
        with suppress(ModelError):
            loaded = await self._swap.loaded()
            if loaded is None or model in loaded:
                props = mapping(await self._fetch_props(model, only_recorded=True))
                vision = mapping(props.get("modalities")).get("vision")
                return vision if isinstance(vision, bool) else None
        return None

    def remember_refusal(self, model: str, error: ContextOverflowError | ImagesRefusedError) -> None:
        """Remember the context window from an overflow error that names it, or that the model does not see images."""
        if isinstance(error, ImagesRefusedError):
            self._refuse_images.add(self._key(model))
        elif error.n_ctx is not None:
            self._contexts[self._key(model)] = error.n_ctx

    def remember_no_tools(self, model: str) -> None:
        """Remember that the server has refused tools for a model."""
        self._refuse_tools.add(self._key(model))

    def remember_answer(self, model: str, answered_by: str) -> None:
        """Remember which model the server named in an answer."""
        self._answered_by[self._key(model)] = answered_by

    def answered_by(self, model: str) -> str:
        """Return which model the server named in its last answer when this one was asked, "" if it named none."""
        return self._answered_by.get(self._key(model), "")

    def _key(self, model: str) -> Key:
        return self._config.embedded, self._config.base_url, model

    async def _fetch_props(self, model: str, *, only_recorded: bool = False) -> Mapping[str, Any] | None:
        """Return the response of `/props`: empty if the server has none, None if it fails now.

        llama-swap loads the model to answer, which the chat request would do next anyway.
        """
        key = self._key(model)
        if key not in self._props:
            if time.monotonic() < self._hung_until.get(key, 0.0):
                return None
            try:
                response = await self._get_props(model, only_recorded=only_recorded)
                props = parse_json(response.content) if response.status_code == 200 else None
            except TimeoutError:
                self._hung_until[key] = time.monotonic() + HUNG_INTERVAL_S
                return None
            except (httpx.HTTPError, ValueError):
                return None
            if response.status_code not in {200, 404}:  # the chat request that follows will say why
                return None
            if response.extensions.get("not_recorded"):
                return {}
            self._props[key] = mapping(props)
        return self._props[key]

    async def _get_props(self, model: str, *, only_recorded: bool) -> httpx.Response:
        """Request `/props`. Raises TimeoutError if it does not answer though the model is loaded."""
        sent, was_sent = asyncio.Event(), False
        extensions = {"only_recorded": only_recorded, "sent": sent}
        request = asyncio.create_task(self._http.get("/props", params={"model": model}, extensions=extensions))
        try:
            async with asyncio.timeout(self._config.first_byte_timeout):
                while not (await asyncio.wait([request], timeout=PROPS_TIMEOUT_S))[0]:
                    if was_sent and await self._swap.loading_note(model) is None:
                        raise TimeoutError
                    was_sent = sent.is_set()  # before that, the embedded model is started
            return await request
        finally:
            request.cancel()
