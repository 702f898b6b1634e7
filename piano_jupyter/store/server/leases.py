"""Leases: a kernel keeps its running jobs as long as it is connected, and a few seconds more.

A kernel that said goodbye gives them back at once, without an attempt. One whose connection broke has a grace period
to come back in; after that its jobs are recovered. So is, after the process has started, what a kernel left running
that never came back. No heartbeats.
"""

import asyncio
import contextlib
from collections import Counter
from collections.abc import Callable, Collection
from datetime import UTC, datetime

from piano_jupyter.errors import StoreError
from piano_jupyter.records import Job, JobStatus, Notebook
from piano_jupyter.store.base import Store


class Leases:
    """Which owners of jobs are there, or may come back."""

    def __init__(self, store: Store, grace_s: float, tell: Callable[[list[Job]], None]) -> None:
        self._store, self._grace_s, self._tell = store, grace_s, tell
        self._connected: Counter[str] = Counter()
        self._absent: dict[str, asyncio.Task[None]] = {}
        self._max_attempts = 3
        self._settled = asyncio.create_task(self._recover_after_grace())

    @property
    def owners(self) -> Collection[str]:
        """The owners that keep their jobs."""
        return {*self._connected, *self._absent}

    def begin(self, owner: str, max_attempts: int) -> None:
        """Let an owner keep its jobs from now on."""
        self._max_attempts = max_attempts
        self._connected[owner] += 1
        if waiting := self._absent.pop(owner, None):
            waiting.cancel()

    async def end(self, owner: str, *, orderly: bool) -> None:
        """Take its jobs from an owner that is not connected any more: now or after the grace period."""
        self._connected[owner] -= 1
        if self._connected[owner] > 0:
            return
        del self._connected[owner]
        if orderly:
            now = datetime.now(UTC)
            running = [job for job in await self._store.jobs(JobStatus.RUNNING) if job.owner == owner]
            for job in running:
                self._told([await self._store.release(job, now)])
        else:
            self._absent[owner] = asyncio.create_task(self._recover_after_grace(owner))

    async def recover(
        self, alive: Collection[str], max_attempts: int, now: datetime, notebook: Notebook | None = None
    ) -> list[Job]:
        """Recover the jobs of all owners but those that are alive, that keep their jobs here, or that may come back.

        Those of `notebook` do not come back: its kernel was started again.
        """
        running = [job for job in await self._store.jobs(JobStatus.RUNNING) if job.owner is not None]
        gone = {job.owner for job in running if notebook is not None and job.notebook.is_same(notebook)}
        gone -= {*alive, *self._connected}
        may_come_back = {*self._absent} if self._settled.done() else {*self._absent, *(job.owner for job in running)}
        return await self._store.recover({*alive, *self._connected, *(may_come_back - gone)}, max_attempts, now)

    async def close(self) -> None:
        """End the grace periods; the jobs are recovered by the next process."""
        tasks = [self._settled, *self._absent.values()]
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)

    async def _recover_after_grace(self, owner: str | None = None) -> None:
        await asyncio.sleep(self._grace_s)
        if owner is not None:
            self._absent.pop(owner)
        with contextlib.suppress(StoreError):  # closed or full: it is done by a later `recover`, or the next process
            if await self._strangers():
                self._told(await self._store.recover(self.owners, self._max_attempts, datetime.now(UTC)))

    async def _strangers(self) -> bool:
        """Return whether a job runs whose owner is not here."""
        return any(job.owner not in self.owners for job in await self._store.jobs(JobStatus.RUNNING))

    def _told(self, jobs: list[Job]) -> None:
        if jobs:
            self._tell(jobs)
