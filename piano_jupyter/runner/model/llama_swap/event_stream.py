"""llama-swap's events: the first one about its models tells them all, with the aliases that no list of models has."""

from piano_jupyter.runner.model.server.model_list import ModelListUpdate, told
from piano_jupyter.runner.model.server.transport import Http
from piano_jupyter.runner.model.stream.sse import SseDecoder


async def first_news(http: Http) -> ModelListUpdate | None:
    """Return what llama-swap's first event about its models tells; None where there are no such events.

    Raises one of TROUBLE.
    """
    decoder = SseDecoder()
    async with http.stream("GET", "/api/events") as response:
        if response.status_code == 404:
            return None
        response.raise_for_status()
        async for piece in response.aiter_bytes():
            for data in decoder.feed(piece):
                if news := told(data):
                    return news
    return None
