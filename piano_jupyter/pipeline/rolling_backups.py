"""RollingBackups: keeps a copy of the database for each day on which something changed, while work goes on."""

import asyncio

from piano_jupyter.errors import StoreError
from piano_jupyter.logs import logger
from piano_jupyter.store.base import Store

log = logger(__name__)

DAY_S = 86_400.0
AFTER_OPENING_S = 10.0  #: the first answer is not to wait for a copy
LOOK_EACH_S = 3_600.0  #: a look costs nothing, and a machine that slept is seen to at once


class RollingBackups:
    """Looks now and then whether a copy is due, and has the store make it."""

    def __init__(
        self, store: Store, after_opening_s: float = AFTER_OPENING_S, look_each_s: float = LOOK_EACH_S
    ) -> None:
        self._store, self._after_opening_s, self._look_each_s = store, after_opening_s, look_each_s
        self._task: asyncio.Task[None] | None = None
        self.problem = ""  #: why the last copy could not be made, if so

    def start(self) -> None:
        """Begin to look."""
        if self._task is None:
            self._task = asyncio.create_task(self._look(), name="piano-backups")

    async def stop(self) -> None:
        """Look no more; a copy that is being made is given up."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])

    async def _look(self) -> None:
        await asyncio.sleep(self._after_opening_s)
        while True:
            try:
                await self._store.backup(DAY_S)
                self.problem = ""
            except StoreError as error:
                self.problem = f"no copy of the database could be made: {error}"
                log.warning("%s", self.problem)
            await asyncio.sleep(self._look_each_s)
