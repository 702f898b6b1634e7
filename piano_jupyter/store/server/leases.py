"""Leases: a kernel keeps its running jobs as long as it is connected, and a few seconds more.

A kernel that said goodbye gives them back at once, without an attempt. One whose connection broke has a grace period
to come back in; after that its jobs are recovered. So is, after the process has started, what a kernel left running
that never came back. No heartbeats.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Coroutine
from datetime import UTC, datetime
from functools import partial
from typing import Any

from piano_jupyter.errors import StoreError
from piano_jupyter.pauses import growing_pauses
from piano_jupyter.records import Job, JobStatus, Notebook
from piano_jupyter.store.base import Store

FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 30.0  #: before jobs that could not be taken back are tried again


class Leases:
    """Which owners of jobs are there, or may come back."""

    def __init__(self, store: Store, grace_s: float, tell: Callable[[list[Job]], None]) -> None:
        self._store, self._grace_s, self._tell = store, grace_s, tell
        self._connected: Counter[str] = Counter()
        self._absent: dict[str, asyncio.Task[None]] = {}
        self._max_attempts = 3
        self._is_settled = False  #: whether those that the process before this one served had time to come back
        self._tasks: set[asyncio.Task[None]] = set()
        self._keep(self._recover_after_grace())

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
        if not orderly:
            self._absent[owner] = self._keep(self._recover_after_grace(owner))
        elif not await self._is_done(release := partial(self._release, owner)):
            self._keep(self._do_in_the_end(release))

    async def recover(
        self, alive: Collection[str], max_attempts: int, now: datetime, notebook: Notebook | None = None
    ) -> list[Job]:
        """Recover the jobs of all owners but those that are alive, that keep their jobs here, or that may come back.

        Those of `notebook` do not come back: its kernel was started again.
        """
        running = [job for job in await self._store.jobs(JobStatus.RUNNING) if job.owner is not None]
        gone = {job.owner for job in running if notebook is not None and job.notebook.is_same(notebook)}
        gone -= {*alive, *self._connected}
        may_come_back = {*self._absent} if self._is_settled else {*self._absent, *(job.owner for job in running)}
        return await self._store.recover({*alive, *self._connected, *(may_come_back - gone)}, max_attempts, now)

    async def close(self) -> None:
        """End the grace periods; the jobs are recovered by the next process."""
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    async def _recover_after_grace(self, owner: str | None = None) -> None:
        await asyncio.sleep(self._grace_s)
        if owner is None:
            self._is_settled = True
        else:
            self._absent.pop(owner)
        if not await self._is_done(self._recover_strangers):
            await self._do_in_the_end(self._recover_strangers)

    async def _recover_strangers(self) -> None:
        if await self._strangers():
            self._told(await self._store.recover(self.owners, self._max_attempts, datetime.now(UTC)))

    async def _release(self, owner: str) -> None:
        now = datetime.now(UTC)
        for job in await self._store.jobs(JobStatus.RUNNING):
            if job.owner == owner and owner not in self.owners:  # else it came back, and may run that again
                self._told([await self._store.release(job, now)])

    async def _do_in_the_end(self, take_back: Callable[[], Awaitable[None]]) -> None:
        """Try again until it succeeds: nobody else gives these jobs to anybody."""
        for pause in growing_pauses(FIRST_PAUSE_S, LONGEST_PAUSE_S):
            await asyncio.sleep(pause)
            if await self._is_done(take_back):
                return

    @staticmethod
    async def _is_done(take_back: Callable[[], Awaitable[None]]) -> bool:
        try:
            await take_back()
        except StoreError:  # the disk is full, say; the kernels are told that
            return False
        return True

    def _keep(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _strangers(self) -> bool:
        """Return whether a job runs whose owner is not here."""
        return any(job.owner not in self.owners for job in await self._store.jobs(JobStatus.RUNNING))

    def _told(self, jobs: list[Job]) -> None:
        if jobs:
            self._tell(jobs)
