"""llama-swap's events, followed while somebody watches: they tell each change of a model's state as it happens."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

from piano_jupyter.config import PianoConfig
from piano_jupyter.runner.served import Told, told
from piano_jupyter.runner.transport import TROUBLE, Http, trouble_at
from piano_jupyter.runner.wire import SseDecoder

RECONNECT = 1.0  # seconds between the end of the events and the next try
LOOK_AGAIN = 30.0  # seconds until a server without such events is asked again


class SwapEvents:
    """Hears the events of the server that `http` leads to, once or for as long as they are followed."""

    def __init__(self, http: Http, config: PianoConfig, hear: Callable[[Told], None]) -> None:
        self._http, self._config, self._hear = http, config, hear
        self._follower: asyncio.Task[None] | None = None
        self.live = False  #: each change is heard of as it happens
        self.looked = asyncio.Event()  #: it was looked whether there are any

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

    async def hear_once(self, timeout: float) -> None:
        """Hear the states as they are now; nothing where there are none, or none in time."""
        with contextlib.suppress(*TROUBLE):
            async with asyncio.timeout(timeout), aclosing(self._told()) as events:
                async for news in events:
                    self._hear(news)
                    return

    async def _follow(self) -> None:
        while True:
            heard = False
            with contextlib.suppress(*TROUBLE):  # it is tried again
                if await self._is_there():
                    async with aclosing(self._told()) as events:
                        async for news in events:
                            heard = self.live = True
                            self._hear(news)
            self.live = False
            self.looked.set()
            await asyncio.sleep(RECONNECT if heard else LOOK_AGAIN)

    async def _is_there(self) -> bool:
        """Whether a server answers: to watch is no reason to start the embedded model."""
        config = self._config
        return config.embedded != "only" and await trouble_at(config.base_url, config.connect_timeout) is None

    async def _told(self) -> AsyncGenerator[Told, None]:
        decoder = SseDecoder()
        async with self._http.stream("GET", "/api/events") as response:
            if response.status_code == 200:
                async for piece in response.aiter_bytes():
                    for data in decoder.feed(piece):
                        if news := told(data):
                            yield news
