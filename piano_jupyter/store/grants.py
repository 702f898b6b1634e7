"""Grants: decides over the jobs of all kernels which one goes next.

A kernel asks for one of the jobs that it may run, and is granted it when it is that job's turn among all that kernels
ask for. Where it is another kernel's turn, a place is kept for that job and its kernel is told; one that does not come
for it in time stands back until it asks again, so that a kernel which hangs does not stop the others.
"""

import asyncio
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from uuid import UUID

from piano_jupyter.records import Job
from piano_jupyter.store.base import Store, Turn
from piano_jupyter.store.job_board import JobBoard
from piano_jupyter.store.scheduling import QueuedJob, SchedulingLimits, next_job, ready

RESERVED_S = 2.0  #: that a place is kept for a kernel whose turn it is


@dataclass(slots=True)
class _Wish:
    """What a kernel asked for last."""

    wanted: list[UUID]
    turn: Turn
    is_unmet: bool = False


class Grants:
    """Who asks for which jobs. `stir` tells kernels, by their owners, that something may be there to claim."""

    def __init__(
        self, store: Store, stir: Callable[[Collection[str]], None], now: Callable[[], float] = time.monotonic
    ) -> None:
        self.board = JobBoard(self._stir_unmet, now)
        self._store, self._stir, self._now = store, stir, now
        self._wishes: dict[str, _Wish] = {}
        self._expected: set[UUID] = set()  #: delegated a moment ago: their kernel is about to ask for them
        self._reserved: dict[UUID, float] = {}  #: jobs whose turn it is, and until when their place is kept
        self._swapped: dict[str, float] = {}  #: when a model was swapped in last, by server
        self._lock = asyncio.Lock()

    async def claim_next(
        self, request_id: UUID, owner: str, wanted: Sequence[UUID], now: datetime, turn: Turn | None = None
    ) -> Job | None:
        """Do the store's operation; with `turn`, only for a job whose turn it is."""
        if turn is None:
            return await self._claim(request_id, owner, wanted, now)
        async with self._lock:
            begun = {job.id for job in self.board.running if job.owner == owner}.intersection(wanted)
            if begun:  # it is asked again, since a reply was lost
                return await self._claim(request_id, owner, wanted, now)
            wish = self._wishes[owner] = _Wish(list(wanted), turn)
            self._expected.difference_update(wanted)
            self._reserved = {each: until for each, until in self._reserved.items() if each not in wanted}
            while (job := self._next(wish)) is not None:
                claimed = await self._claim(request_id, owner, [job.id], now)
                wish.wanted.remove(job.id)
                if claimed is not None:
                    return claimed
                self.board.note("claim_next", await self._store.job(job.id))  # it did not wait any more
            wish.is_unmet = True
            return None

    def expect(self, delegated: Iterable[Job]) -> None:
        """Keep a place for delegated jobs, which go before the next question of their thread."""
        self._expected.update(job.id for job in delegated)

    def forget(self, owner: str) -> None:
        """Take back what a kernel asked for: it is gone."""
        if self._wishes.pop(owner, None):
            self._stir_unmet()

    async def _claim(self, request_id: UUID, owner: str, wanted: Sequence[UUID], now: datetime) -> Job | None:
        job = await self._store.claim_next(request_id, owner, wanted, now)
        self.board.note("claim_next", job)
        return job

    def _next(self, wish: _Wish) -> Job | None:
        """Return which of its jobs a kernel may begin; keep places for the jobs of others that go before."""
        self._drop_late()
        servers = {each.job.server: None for job_id in wish.wanted if (each := self.board.queued(job_id))}
        for server in servers:
            while (job := self._next_on(server, wish.turn)) is not None:
                if job.id in wish.wanted:
                    return job
                self._reserve(job)
        return None

    def _next_on(self, server: str, turn: Turn) -> Job | None:
        """Return the next job on a server, whichever kernel asks for it."""
        named = _Naming(turn)
        queued = [named.queued(each) for each in self._asked_for() if each.job.id not in self._reserved]
        places = [named.job(each.job) for each in map(self.board.queued, self._reserved) if each]
        working = [*map(named.job, self.board.running), *places]
        limits, now = self._limits(server), self._now()
        able = [each for each in ready(queued, working, limits) if each.job.server == server]
        busy = [job for job in working if job.server == server and job.id not in self.board.idle]
        loaded = None if turn.loaded is None else {named.model(server, each) for each in turn.loaded}
        job = next_job(able, busy, limits, loaded=loaded, swapped=self._swapped.get(server, 0.0), now=now)
        if job is not None and loaded is not None and job.model not in loaded:
            self._swapped[server] = now
        return job

    def _asked_for(self) -> list[QueuedJob]:
        wanted = (job_id for wish in self._wishes.values() for job_id in wish.wanted)
        return [each for job_id in dict.fromkeys([*wanted, *self._expected]) if (each := self.board.queued(job_id))]

    def _limits(self, server: str) -> SchedulingLimits:
        """Return the strictest limits of those who ask for a job on a server."""
        turns = [
            wish.turn
            for wish in self._wishes.values()
            if any(each.job.server == server for job_id in wish.wanted if (each := self.board.queued(job_id)))
        ]
        return SchedulingLimits(
            max_demand=min(turn.max_demand for turn in turns), max_wait_s=min(turn.max_wait_s for turn in turns)
        )

    def _reserve(self, job: Job) -> None:
        self._reserved[job.id] = self._now() + RESERVED_S
        self._stir([owner for owner, wish in self._wishes.items() if job.id in wish.wanted])
        asyncio.get_running_loop().call_later(RESERVED_S, self._stir_unmet)

    def _drop_late(self) -> None:
        """Let those stand back who did not come for their place, and forget the places of jobs that do not wait."""
        now = self._now()
        late = {job_id for job_id, until in self._reserved.items() if until <= now}
        for owner in [owner for owner, wish in self._wishes.items() if late.intersection(wish.wanted)]:
            del self._wishes[owner]
        self._expected -= late
        asked = {each.job.id for each in self._asked_for()}
        self._reserved = {each: until for each, until in self._reserved.items() if each in asked}

    def _stir_unmet(self) -> None:
        owners = [owner for owner, wish in self._wishes.items() if wish.is_unmet]
        for owner in owners:
            self._wishes[owner].is_unmet = False
        if owners:
            self._stir(owners)


class _Naming:
    """Gives models names that differ from server to server, and aliases the name of their model."""

    def __init__(self, turn: Turn) -> None:
        self._aliases = turn.aliases

    def model(self, server: str, name: str) -> str:
        return f"{server} {self._aliases.get(name, name)}"

    def job(self, job: Job) -> Job:
        return replace(job, model=self.model(job.server, job.model))

    def queued(self, each: QueuedJob) -> QueuedJob:
        return replace(each, job=self.job(each.job))
