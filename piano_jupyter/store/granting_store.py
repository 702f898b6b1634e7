"""GrantingStore: a store that decides which of the jobs that kernels ask for goes next, and gives it to its kernel."""

import asyncio
import time
from collections.abc import Callable, Collection
from typing import Any

from piano_jupyter.store.base import Store
from piano_jupyter.store.grants import Grants
from piano_jupyter.store.job_board import NOTED, jobs_in

ASKED_FOR_NEXT = {"enqueue", "add_jobs", "ack", "retry"}  #: after these a kernel asks for the jobs


class GrantingStore(Store):
    """A store around a store that nobody else writes to.

    `stir` tells kernels, by their owners, to ask again; `now` is a clock that only goes forward, in seconds.
    """

    def __init__(
        self, store: Store, stir: Callable[[Collection[str]], None], now: Callable[[], float] = time.monotonic
    ) -> None:
        self._store = store
        self.grants = Grants(store, stir, now)
        self._writes = set[asyncio.Task[Any]]()

    async def open(self) -> None:
        await self._store.open()
        await self.grants.board.fill(self._store)

    async def close(self) -> None:
        await self._store.close()

    def close_now(self, timeout: float) -> None:
        self._store.close_now(timeout)

    async def call(self, operation: str, /, *arguments: Any, **options: Any) -> Any:
        """Run an operation; what it changed of the jobs is noted even if the caller is cancelled meanwhile."""
        if operation == "lease_rows":
            return self.grants.lease_rows(*arguments, **options)
        if operation not in NOTED:
            return await getattr(self._store, operation)(*arguments, **options)
        write = asyncio.create_task(self._write(operation, *arguments, **options))
        self._writes.add(write)
        write.add_done_callback(self._written)
        return await asyncio.shield(write)

    async def _write(self, operation: str, /, *arguments: Any, **options: Any) -> Any:
        if operation == "claim_next":
            return await self.grants.claim_next(*arguments, **options)
        result = await getattr(self._store, operation)(*arguments, **options)
        self.grants.board.note(operation, result)
        if operation in ASKED_FOR_NEXT:
            self.grants.expect(jobs_in(result))
        return result

    def _written(self, write: "asyncio.Task[Any]") -> None:
        self._writes.discard(write)
        if not write.cancelled():
            write.exception()  # else asyncio warns where the caller was cancelled
