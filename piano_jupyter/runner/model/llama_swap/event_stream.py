"""Reads llama-swap's events: the first one about models has all of them, with aliases that no model list has."""

from piano_jupyter.runner.model.server.model_list import ModelListUpdate, parse_event
from piano_jupyter.runner.model.server.transport import Http
from piano_jupyter.runner.model.stream.sse import SseDecoder


async def first_model_update(http: Http) -> ModelListUpdate | None:
    """Return llama-swap's first event about its models; None if the server has no such events.

    Raises one of REQUEST_ERRORS.
    """
    decoder = SseDecoder()
    async with http.stream("GET", "/api/events") as response:
        if response.status_code == 404:
            return None
        response.raise_for_status()
        async for piece in response.aiter_bytes():
            for data in decoder.feed(piece):
                if update := parse_event(data):
                    return update
    return None
