"""RowLeases: how many rows of which batches may be in flight on a server, over all kernels.

Rows go behind chat: the caller says whether a job waits that they would delay. Batches share what a server has room
for; where there are more batches than room, they take turns. On a server that swaps models, rows of one model go at a
time. A lease is short, and a kernel that does not renew it loses it.
"""

import time
from collections.abc import Callable, Collection, Hashable
from dataclasses import dataclass
from uuid import UUID

from piano_jupyter.batch_records import RowDemand

LEASE_S = 5.0  #: after which a kernel that does not ask again has no rows in flight any more
TURN_S = 0.25  #: that a batch keeps its place where others wait for it


@dataclass(slots=True)
class _Lease:
    """What a batch asked for last, and has."""

    demand: RowDemand
    model: Hashable
    until: float
    waits_since: float  #: when it asked first without getting anything
    began: float = 0.0  #: when it was given its first row after it had none
    occupied: int = 0  #: rows that may be in flight


@dataclass(frozen=True, kw_only=True, slots=True)
class ServerState:
    """What else happens on a server."""

    job_waits: bool  #: whether a job could start that rows would delay
    at_work: Collection[Hashable]  #: the models of the jobs that run, one for each job
    loaded: Collection[Hashable] | None  #: the models that answer without a swap; None: the server never swaps
    max_wait_s: float  #: that a batch of another model waits


class RowLeases:
    """The batches that run now. `now` is a clock that only goes forward, in seconds."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._leases: dict[UUID, _Lease] = {}

    def grant(self, demand: RowDemand, model: Hashable, state: ServerState) -> int:
        """Return how many rows of a batch may be in flight until it asks again, soon."""
        now = self._now()
        self._drop_late(now)
        if demand.wanted <= 0 and demand.in_flight <= 0:
            self._leases.pop(demand.batch_id, None)
            return 0
        lease = self._leases.get(demand.batch_id)
        if lease is None:
            lease = self._leases[demand.batch_id] = _Lease(demand, model, now, now)
        lease.demand, lease.model, lease.until = demand, model, now + LEASE_S
        lease.occupied = min(lease.occupied, demand.in_flight)  # what it did not use
        allowed = max(0, min(demand.wanted, self._room(lease, state, now)))
        if allowed and not lease.occupied:
            lease.began = now
        elif not allowed and lease.occupied:
            lease.waits_since = now
        lease.occupied = max(allowed, demand.in_flight)
        return allowed

    def models_in_flight(self, server: str) -> set[Hashable]:
        """Return the models of which rows may be in flight on a server."""
        self._drop_late(self._now())
        return {each.model for each in self._on(server) if each.occupied}

    def owners(self, servers: Collection[str] | None = None) -> set[str]:
        """Return the kernels that have batches on these servers, or on any."""
        return {each.demand.owner for each in self._leases.values() if servers is None or each.demand.server in servers}

    def ends(self) -> list[float]:
        """Return until when rows may be in flight, if their kernels do not ask again."""
        self._drop_late(self._now())
        return [each.until for each in self._leases.values() if each.occupied]

    def forget(self, owner: str) -> None:
        """Take back what a kernel has: it is gone."""
        gone = [each for each, lease in self._leases.items() if lease.demand.owner == owner]
        for each in gone:
            del self._leases[each]

    def _room(self, lease: _Lease, state: ServerState, now: float) -> int:
        if state.job_waits or not self._is_models_turn(lease, state, now):
            return 0
        sharing = [each for each in self._on(lease.demand.server) if state.loaded is None or each.model == lease.model]
        others = [each for each in sharing if each is not lease]
        room = min(each.demand.limit for each in sharing) - len(state.at_work)
        share = max(0, room) // len(sharing)
        if not share:
            return int(room > 0 and self._has_turn(lease, others, room, now))
        for_others = sum(min(each.demand.wanted, share) for each in others)
        return min(room - for_others, room - sum(each.occupied for each in others))

    def _is_models_turn(self, lease: _Lease, state: ServerState, now: float) -> bool:
        if state.loaded is None:
            return True
        others = [each for each in self._on(lease.demand.server) if each.model != lease.model]
        working = {*state.at_work, *(each.model for each in others if each.occupied)}
        if working - {lease.model}:
            return False
        waiting = [each for each in others if not each.occupied]
        if lease.occupied:
            return all(now - max(each.waits_since, lease.began) < state.max_wait_s for each in waiting)
        loaded = state.loaded

        def urgency(each: _Lease) -> tuple[bool, bool, float]:
            return now - each.waits_since >= state.max_wait_s, each.model in loaded, -each.waits_since

        return all(urgency(each) <= urgency(lease) for each in waiting)

    @staticmethod
    def _has_turn(lease: _Lease, others: Collection[_Lease], room: int, now: float) -> bool:
        """Return whether a batch may have one row, where there is less room than batches."""
        waiting = sorted(each.waits_since for each in others if not each.occupied)
        if lease.occupied:
            return not waiting or now - lease.began < TURN_S
        free = room - (len(others) - len(waiting))
        return free > sum(since < lease.waits_since for since in waiting)

    def _on(self, server: str) -> list[_Lease]:
        return [each for each in self._leases.values() if each.demand.server == server]

    def _drop_late(self, now: float) -> None:
        for batch_id in [each for each, lease in self._leases.items() if lease.until <= now]:
            del self._leases[batch_id]
