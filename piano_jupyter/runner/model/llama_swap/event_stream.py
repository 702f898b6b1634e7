"""llama-swap's events, followed while somebody waits for a model: they tell each change of state as it happens."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing

from piano_jupyter.config import PianoConfig
from piano_jupyter.logs import logger
from piano_jupyter.runner.model.server.model_list import Told, told
from piano_jupyter.runner.model.server.transport import TROUBLE, Http, trouble_at
from piano_jupyter.runner.model.stream.sse import SseDecoder

log = logger(__name__)

RECONNECT = 1.0  # seconds between the end of the events and the next try
SILENCE = 10.0  # seconds without a byte until the events are asked for anew: a dead connection is silent too
LOOK_AGAIN = 30.0  # seconds until a server without such events is asked again


class SwapEvents:
    """Hears the events of the server that `http` leads to, once or for as long as they are followed."""

    def __init__(self, http: Http, config: PianoConfig, hear: Callable[[Told], None]) -> None:
        self._http, self._config, self._hear = http, config, hear
        self._follower: asyncio.Task[None] | None = None
        self.live = False  #: each change is heard of as it happens
        self.looked = asyncio.Event()  #: it is known whether there are any

    def follow(self) -> None:
        """Begin to follow, where it is not done yet."""
        if self._follower is None:
            self._follower = asyncio.create_task(self._follow(), name="piano-swap-events")

    async def stop(self) -> None:
        """Follow no longer."""
        follower, self._follower, self.live = self._follower, None, False
        if follower is not None:
            follower.cancel()
            await asyncio.wait([follower])

    async def restart(self) -> None:
        """Follow another server, if one is followed."""
        if self._follower is not None:
            await self.stop()
            self.follow()

    async def hear_once(self, timeout: float) -> bool:
        """Hear the states as they are now; return False if that was trouble, not if there are no events."""
        try:
            async with asyncio.timeout(timeout), aclosing(self._told()) as events:
                async for news in events:
                    self._hear(news)
                    break
        except TROUBLE:
            return False
        return True

    async def _follow(self) -> None:
        while True:
            heard = False
            try:
                if await self._is_there():
                    async with aclosing(self._told()) as events:
                        async for news in events:
                            self._hear(news)
                            heard = self.live = True
                            self.looked.set()
            except TROUBLE:
                pass  # it is tried again
            except Exception:
                log.exception("llama-swap's events could not be followed; it is tried again")
            finally:
                self.live = False
                self.looked.set()
            await asyncio.sleep(RECONNECT if heard else LOOK_AGAIN)

    async def _is_there(self) -> bool:
        """Whether a server answers: to follow is no reason to start the embedded model."""
        config = self._config
        return config.embedded != "only" and await trouble_at(config.base_url, config.connect_timeout) is None

    async def _told(self) -> AsyncGenerator[Told, None]:
        """Yield the news; none where there are no such events. Raises one of TROUBLE."""
        decoder = SseDecoder()
        async with self._http.stream("GET", "/api/events") as response:
            if response.status_code == 404:
                return
            response.raise_for_status()
            pieces = response.aiter_bytes()
            while piece := await self._next(pieces):
                for data in decoder.feed(piece):
                    if news := told(data):
                        yield news

    async def _next(self, pieces: AsyncIterator[bytes]) -> bytes:
        """Return the next piece, empty at the end. Raises TimeoutError if there is none for long."""
        async with asyncio.timeout(SILENCE):
            return await anext(pieces, b"")
