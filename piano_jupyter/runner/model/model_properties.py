"""What a server says of one of its models beside the chat: how large its window is, and whether it can take tools.

llama.cpp tells both at `/props`, which leads to the model's own behind llama-swap; others tell the window in their list
of models, or when it overflows. Each model of a server is asked once. What is not known is not guessed.
"""

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import httpx

from piano_jupyter.config import PianoConfig
from piano_jupyter.errors import ModelError
from piano_jupyter.runner.model.llama_swap.swap_client import SwapClient
from piano_jupyter.runner.model.server.model_list import size_of_window
from piano_jupyter.text.json_text import mapping

Key = tuple[str, str, str]


class ModelProperties:
    """The properties of the models that were asked."""

    def __init__(self, http: httpx.AsyncClient, config: PianoConfig, swap: SwapClient) -> None:
        self._http, self._config, self._swap = http, config, swap
        self._props: dict[Key, Mapping[str, Any]] = {}
        self._contexts: dict[Key, int | None] = {}

    async def lacks_tools(self, model: str) -> bool:
        """Whether the model's template has no place for tools, as far as the server says."""
        told = mapping(await self._told(model))
        return mapping(told.get("chat_template_caps")).get("supports_tools") is False

    async def context(self, model: str) -> int | None:
        """Return how many tokens fit into the model's window; None where that is not known. Never raises ModelError.

        A model that llama-swap would have to load for it is not asked.
        """
        key = self._key(model)
        if key in self._contexts:
            return self._contexts[key]
        loaded = await self._swap.loaded([model])
        if loaded is not None and model not in loaded:
            return None
        with suppress(ModelError):  # it is trouble, or was not recorded: the question itself will tell
            if (told := await self._told(model, only_recorded=True)) is not None:
                settings = mapping(told.get("default_generation_settings"))
                self._contexts[key] = size_of_window(settings.get("n_ctx")) or await self._swap.context(model)
        return self._contexts.get(key)

    def learn(self, model: str, n_ctx: int | None) -> None:
        """Take the size of a window from the error that names it."""
        if n_ctx is not None:
            self._contexts[self._key(model)] = n_ctx

    def _key(self, model: str) -> Key:
        return self._config.embedded, self._config.base_url, model

    async def _told(self, model: str, *, only_recorded: bool = False) -> Mapping[str, Any] | None:
        """Return what `/props` tells, empty where there is none; None where it says nothing now.

        llama-swap loads the model to answer that, which is to be asked next anyway.
        """
        key = self._key(model)
        if key not in self._props:
            try:
                async with asyncio.timeout(self._config.first_byte_timeout):
                    response = await self._http.get(
                        "/props", params={"model": model}, extensions={"only_recorded": only_recorded}
                    )
                told = response.json() if response.status_code == 200 else None
            except (httpx.HTTPError, TimeoutError, ValueError, RecursionError):
                return None
            if response.status_code not in {200, 404}:  # the question itself will tell why
                return None
            if response.extensions.get("not_recorded"):
                return {}
            self._props[key] = mapping(told)
        return self._props[key]
