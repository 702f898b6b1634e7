"""WorkspaceStore: the store of a notebook: shared with the others of its workspace, or this process's own.

A database in memory is never shared. Where a store process cannot be had at all, the notebook has the database for
itself, and the user is told why.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from piano_jupyter.store.base import Store
from piano_jupyter.store.duckdb.database import MEMORY
from piano_jupyter.store.duckdb.duckdb_store import DuckDBStore
from piano_jupyter.store.granting_store import GrantingStore
from piano_jupyter.store.server.remote_store import Listener, RemoteStore
from piano_jupyter.store.server.shared_store import Client
from piano_jupyter.store.server.socket_folder import CannotShareError


class WorkspaceStore(Store):
    """Opens the database in the way that fits. `share` says whether it is to be shared, `client` who we are.

    `notify` is called, on any thread, with a sentence for the user.
    """

    def __init__(
        self,
        path: str | Path,
        client: Client,
        listener: Listener,
        notify: Callable[[str], None],
        *,
        share: Callable[[], bool],
        max_attempts: Callable[[], int],
    ) -> None:
        self._path, self._client, self._listener, self._notify = path, client, listener, notify
        self._share, self._max_attempts = share, max_attempts
        self._file = DuckDBStore(path, notify)
        self._own = GrantingStore(self._file, lambda _: listener.stir())
        self._remote: RemoteStore | None = None

    @property
    def name(self) -> str:
        """The path of the database in use, or ":memory:"."""
        return self._remote.name if self._remote else self._file.name

    @property
    def problem(self) -> str:
        """Why nothing can be stored at present; "" if it can."""
        return self._remote.problem if self._remote else self._file.problem

    @property
    def others(self) -> list[str]:
        """The notebooks, scripts and terminals that share the database now, without this one."""
        return self._remote.others if self._remote else []

    async def open(self) -> None:
        if self._remote is None and str(self._path) != MEMORY and self._share():
            remote = RemoteStore(
                self._path,
                owner=self._client.owner,
                label=self._client.label,
                max_attempts=self._max_attempts(),
                listener=self._listener,
                notify=self._notify,
            )
            try:
                await remote.open()
            except CannotShareError as error:
                self._notify(str(error))
            else:
                self._remote = remote
                return
        await self._store.open()

    async def close(self, *, end: bool = False) -> None:
        """Close it; with `end` nobody has the file open afterwards, unless others share it."""
        if self._remote is not None:
            await self._remote.close(end=end)
        else:
            await self._own.close()

    def close_now(self, timeout: float) -> None:
        self._store.close_now(timeout)

    async def call(self, operation: str, /, *arguments: Any, **options: Any) -> Any:
        """Run an operation."""
        return await self._store.call(operation, *arguments, **options)

    async def clients(self) -> list[Client]:
        """Return who shares the database now, this process too."""
        return await self._remote.clients() if self._remote else [self._client]

    def publish(self, event: bytes) -> None:
        """Tell the others."""
        if self._remote is not None:
            self._remote.publish(event)

    @property
    def _store(self) -> Store:
        return self._remote or self._own
