"""Grants: decides over the jobs of all kernels which one goes next.

A kernel asks for one of the jobs that it may run, and is granted it when it is that job's turn among all that kernels
ask for. Where it is another kernel's turn, a place is kept for that job and its kernel is told; one that does not come
for it in time stands back until it asks again, so that a kernel which hangs does not stop the others.

Rows of batches go behind the jobs: what they have leased is called back when a job comes.
"""

import asyncio
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from uuid import UUID

from piano_jupyter.batch_records import RowDemand
from piano_jupyter.records import Job
from piano_jupyter.store.base import Store, Turn
from piano_jupyter.store.job_board import JobBoard
from piano_jupyter.store.row_leases import RowLeases, ServerState
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
        self._expected: dict[UUID, float] = {}  #: jobs that a kernel is about to ask for, and until when
        self._stir_later: asyncio.TimerHandle | None = None
        self._reserved: dict[UUID, float] = {}  #: jobs whose turn it is, and until when their place is kept
        self._swapped: dict[str, float] = {}  #: when a model was swapped in last, by server
        self._lock = asyncio.Lock()
        self._rows = RowLeases(now)
        self._rows_gave_way: dict[UUID, float] = {}  #: jobs that nothing keeps from starting, and since when

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
            self._expected = {each: until for each, until in self._expected.items() if each not in wanted}
            self._reserved = {each: until for each, until in self._reserved.items() if each not in wanted}
            self._rows_gave_way = {each: at for each, at in self._rows_gave_way.items() if each not in wanted}
            while (job := self._next(wish)) is not None:
                claimed = await self._claim(request_id, owner, [job.id], now)
                wish.wanted.remove(job.id)
                if claimed is not None:
                    self._call_rows_back([claimed.server])
                    return claimed
                self.board.note("claim_next", await self._store.job(job.id))  # it did not wait any more
            wish.is_unmet = True
            self._call_rows_back({each.job.server for each in self._waiting(wish.wanted)})
            self._stir_once_they_are_late()
            return None

    def expect(self, jobs: Iterable[Job]) -> None:
        """Have what is later in their threads wait a moment for jobs that their kernels are about to ask for."""
        jobs = list(jobs)
        self._call_rows_back({job.server for job in jobs})
        until = self._now() + RESERVED_S
        self._expected |= {job.id: until for job in jobs if self.board.queued(job.id)}

    def forget(self, owner: str) -> None:
        """Take back what a kernel asked for: it is gone."""
        self._rows.forget(owner)
        self._wishes.pop(owner, None)
        self._stir_unmet()

    def lease_rows(self, demand: RowDemand, turn: Turn | None = None) -> int:
        """Do the store's operation."""
        self._drop_late()
        turn = turn or Turn(max_demand=1, max_wait_s=0.0)
        server = demand.server
        model_of = partial(_model_of, aliases=turn.aliases)
        busy = [model_of(job) for job in self.board.running if job.server == server and job.id not in self.board.idle]
        loaded = None if turn.loaded is None else {(server, turn.aliases.get(each, each)) for each in turn.loaded}
        model = (server, turn.aliases.get(demand.model, demand.model))
        state = ServerState(
            job_waits=self._job_waits(server, turn), at_work=busy, loaded=loaded, max_wait_s=turn.max_wait_s
        )
        before = self._rows.models_in_flight(server)
        allowed = self._rows.grant(demand, model, state)
        if allowed and loaded is not None and model not in loaded and model not in before:
            self._swapped[server] = self._now()
        if len(self._rows.models_in_flight(server)) < len(before):
            self._stir_unmet()
            self._call_rows_back([server])
        return allowed

    def _job_waits(self, server: str, turn: Turn) -> bool:
        """Return whether a job could start on a server that rows would delay.

        A kernel that does not come for a job, though no row is in flight any more, is not waited for until it asks
        again: it may hang, or have been told to start no jobs.
        """
        model_of = partial(_model_of, aliases=turn.aliases)
        jobs = {each.job.id: each for each in (*self._asked_for(), *self._waiting(self._expected))}
        waiting = [each for each in jobs.values() if each.job.server == server]
        able = ready(waiting, self.board.running, self._limits(server, turn), model_of) if waiting else []
        now, is_free = self._now(), not self._rows.models_in_flight(server)
        self._rows_gave_way = {each: at for each, at in self._rows_gave_way.items() if self.board.queued(each)}
        if is_free:
            self._rows_gave_way |= {each.job.id: now for each in able if each.job.id not in self._rows_gave_way}
        return any(now - self._rows_gave_way.get(each.job.id, now) < RESERVED_S for each in able)

    def _call_rows_back(self, servers: Collection[str]) -> None:
        """Have those who ask rows on these servers ask again how many they may have."""
        if owners := self._rows.owners(servers):
            self._stir(owners)

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
        model_of = partial(_model_of, aliases=turn.aliases)
        asked = self._asked_for()
        expected = self._expected.keys() - {each.job.id for each in asked}
        queued = [each for each in (*asked, *self._waiting(expected)) if each.job.id not in self._reserved]
        places = [each.job for each in map(self.board.queued, self._reserved) if each]
        working = [*self.board.running, *places]
        limits, now = self._limits(server), self._now()
        able = [
            each
            for each in ready(queued, working, limits, model_of)
            if each.job.server == server and each.job.id not in expected
        ]
        busy = [job for job in working if job.server == server and job.id not in self.board.idle]
        loaded = None if turn.loaded is None else {(server, turn.aliases.get(each, each)) for each in turn.loaded}
        swapped = self._swapped.get(server, 0.0)
        at_work = self._rows.models_in_flight(server)
        job = next_job(able, busy, limits, model_of, loaded=loaded, swapped=swapped, now=now, at_work=at_work)
        if job is not None and loaded is not None and model_of(job) not in loaded:
            self._swapped[server] = now
        return job

    def _asked_for(self) -> list[QueuedJob]:
        return self._waiting(dict.fromkeys(job_id for wish in self._wishes.values() for job_id in wish.wanted))

    def _waiting(self, jobs: Iterable[UUID]) -> list[QueuedJob]:
        return [each for job_id in jobs if (each := self.board.queued(job_id))]

    def _limits(self, server: str, own: Turn | None = None) -> SchedulingLimits:
        """Return the strictest limits of those who ask for a job on a server, and of a turn."""
        turns = [
            wish.turn
            for wish in self._wishes.values()
            if any(each.job.server == server for job_id in wish.wanted if (each := self.board.queued(job_id)))
        ] + ([own] if own else [])
        return SchedulingLimits(
            max_demand=min(turn.max_demand for turn in turns), max_wait_s=min(turn.max_wait_s for turn in turns)
        )

    def _reserve(self, job: Job) -> None:
        self._reserved[job.id] = self._now() + RESERVED_S
        self._stir([owner for owner, wish in self._wishes.items() if job.id in wish.wanted])
        asyncio.get_running_loop().call_later(RESERVED_S, self._stir_unmet)

    def _drop_late(self) -> None:
        """Let those stand back who did not come for their place, and forget the places of jobs that do not wait."""
        if not self._reserved and not self._expected:
            return
        now = self._now()
        late = {job_id for job_id, until in self._reserved.items() if until <= now}
        for owner in [owner for owner, wish in self._wishes.items() if late.intersection(wish.wanted)]:
            del self._wishes[owner]
        self._expected = {each: until for each, until in self._expected.items() if until > now}
        asked = {each.job.id for each in self._asked_for()}
        self._reserved = {each: until for each, until in self._reserved.items() if each in asked}

    def _stir_once_they_are_late(self) -> None:
        """Have kernels ask again when others are not waited for any more, to ask for their jobs or to renew a lease."""
        loop, now = asyncio.get_running_loop(), self._now()
        ends = [each for each in (*self._expected.values(), *self._rows.ends()) if each > now]
        if not ends:
            return
        when = loop.time() + min(ends) - now
        if self._stir_later is not None:
            if self._stir_later.when() <= when:
                return
            self._stir_later.cancel()
        self._stir_later = loop.call_at(when, self._stir_later_now)

    def _stir_later_now(self) -> None:
        self._stir_later = None
        self._stir_unmet()

    def _stir_unmet(self) -> None:
        owners = [owner for owner, wish in self._wishes.items() if wish.is_unmet]
        for owner in owners:
            self._wishes[owner].is_unmet = False
        if everyone := [*owners, *(self._rows.owners().difference(owners))]:
            self._stir(everyone)


def _model_of(job: Job, aliases: Mapping[str, str]) -> tuple[str, str]:
    """Return the server and the name of a job's model: servers may have models of the same name."""
    return job.server, aliases.get(job.model, job.model)
