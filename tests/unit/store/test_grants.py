"""Which job goes next is decided over the jobs of all kernels."""

import asyncio
import time
from dataclasses import replace
from datetime import UTC, datetime
from uuid import UUID, uuid4

import pytest
from making import Make

from piano_jupyter.batch_records import RowDemand
from piano_jupyter.records import Approval, JobStatus
from piano_jupyter.store import grants
from piano_jupyter.store.base import Turn
from piano_jupyter.store.duckdb.duckdb_store import DuckDBStore
from piano_jupyter.store.grants import Grants
from piano_jupyter.store.row_leases import LEASE_S

NOW = datetime(2026, 1, 1, tzinfo=UTC)


class Workspace:
    """Kernels that ask one scheduler for their jobs; `stirred` are those that were told to ask again."""

    def __init__(self, store, now=time.monotonic):
        self.store, self.stirred, self.told = store, [], asyncio.Event()
        self.grants = Grants(store, self._stir, now)
        self._make = Make()

    def _stir(self, owners):
        self.stirred.extend(owners)
        self.told.set()

    async def queue(self, model="m", thread=0, server="", **fields):
        """Queue a job of a new question and return it."""
        message = self._make.message("hi", thread_id=UUID(int=thread))
        made = self._make.job(message, self._make.agent(), server=server, **fields)
        result = await self.store.enqueue(message, [replace(made, model=model)])
        self.grants.board.note("enqueue", result)
        return result[1][0]

    async def ask(self, owner, *jobs, request_id=None, max_demand=1, **turn):
        """Ask for jobs as a kernel does; return the one that is granted."""
        asked = Turn(**{"max_demand": max_demand, "max_wait_s": 100} | turn)
        return await self.grants.claim_next(request_id or uuid4(), owner, [job.id for job in jobs], NOW, asked)

    def lease(self, owner, in_flight, batch=1, **turn):
        """Ask for four rows of a batch as a kernel does; return how many may be in flight."""
        demand = RowDemand(
            batch_id=UUID(int=batch), owner=owner, server="", model="m", in_flight=in_flight, wanted=4, limit=4
        )
        return self.grants.lease_rows(demand, Turn(**{"max_demand": 1, "max_wait_s": 100} | turn))

    async def finish(self, job):
        """End a job that runs."""
        self.grants.board.note("fail", await self.store.fail(job, "over", NOW))


@pytest.fixture
async def workspace():
    store = DuckDBStore(":memory:")
    await store.open()
    yield Workspace(store)
    await store.close()


async def test_the_order_in_a_thread_holds_over_kernels(workspace):
    first, second = await workspace.queue(thread=1), await workspace.queue(thread=1)
    assert await workspace.ask("b", second, max_demand=9) is not None  # nobody has asked for the first one yet
    third = await workspace.queue(thread=1)
    assert await workspace.ask("a", first, max_demand=9) is None  # the thread is at the second question
    assert await workspace.ask("b", third, max_demand=9) is None
    assert workspace.stirred == []

    await workspace.finish(await workspace.store.job(second.id))
    assert sorted(workspace.stirred) == ["a", "b"]
    assert await workspace.ask("b", third, max_demand=9) is None  # it is the turn of the older one, of the other kernel
    assert workspace.stirred[2:] == ["a"]
    granted = await workspace.ask("a", first, max_demand=9)
    assert (granted.id, granted.owner, granted.status) == (first.id, "a", JobStatus.RUNNING)


async def test_the_smallest_demand_counts_for_a_model_over_kernels_and_not_over_servers(workspace):
    mine, other, third = [await workspace.queue(thread=n, server="one") for n in (1, 2, 3)]
    elsewhere = await workspace.queue(thread=4, server="two")
    assert (await workspace.ask("a", mine, max_demand=3)).id == mine.id
    assert (await workspace.ask("b", other, max_demand=2)).id == other.id
    assert await workspace.ask("a", third, max_demand=2) is None
    assert (await workspace.ask("c", elsewhere, max_demand=1)).id == elsewhere.id

    await workspace.finish(await workspace.store.job(other.id))
    assert workspace.stirred == ["a"]
    assert (await workspace.ask("a", third, max_demand=2)).id == third.id


async def test_two_kernels_with_a_model_each_swap_it_as_seldom_as_one(workspace):
    jobs = {
        model: [await workspace.queue(model, thread) for thread in range(begin, 60, 2)]
        for begin, model in enumerate("xy")
    }
    loaded, swaps = "", 0
    for _ in range(30):
        for model, waiting in jobs.items():
            granted = await workspace.ask(model, *waiting, loaded=(loaded,) if loaded else ())
            if granted is not None:
                jobs[model] = [job for job in waiting if job.id != granted.id]
                swaps += granted.model != loaded
                loaded = granted.model
                await workspace.finish(granted)
    for model, waiting in jobs.items():
        for _ in tuple(waiting):
            granted = await workspace.ask(model, *jobs[model], loaded=(loaded,))
            swaps += granted.model != loaded
            loaded = granted.model
            jobs[model] = [job for job in jobs[model] if job.id != granted.id]
            await workspace.finish(granted)

    assert not any(jobs.values())
    assert swaps == 2


async def test_a_model_is_not_loaded_while_another_kernel_s_works_unless_that_waits_for_the_user(workspace):
    working, waiting = await workspace.queue("x", thread=1), await workspace.queue("y", thread=2)
    granted = await workspace.ask("a", working, loaded=("x",))
    assert await workspace.ask("b", waiting, loaded=("x",)) is None

    message = (await workspace.store.messages(UUID(int=1)))[0]
    asked = Approval(
        id=uuid4(), call_id=uuid4(), message_id=message.id, job_id=granted.id, thread_id=granted.thread_id,
        name="bash", arguments={}, digest="", question="may I?", reason="", always="", requested_at=NOW,
    )  # fmt: skip
    workspace.grants.board.note("request_approval", await workspace.store.request_approval(asked))
    assert workspace.stirred == ["b"]
    assert (await workspace.ask("b", waiting, loaded=("x",))).id == waiting.id


async def test_an_alias_counts_as_its_model(workspace):
    first, second = await workspace.queue("x", thread=1), await workspace.queue("alias", thread=2)
    await workspace.ask("a", first, aliases={"alias": "x"})

    assert await workspace.ask("b", second, aliases={"alias": "x"}) is None


async def test_a_kernel_that_does_not_come_for_its_turn_stands_back(workspace, monkeypatch):
    old, new = await workspace.queue(thread=1), await workspace.queue(thread=2)
    running = await workspace.ask("c", await workspace.queue(thread=3), max_demand=1)
    assert await workspace.ask("hangs", old) is None
    assert await workspace.ask("works", new) is None
    await workspace.finish(running)
    monkeypatch.setattr(grants, "RESERVED_S", 0)
    assert await workspace.ask("works", new) is None
    assert workspace.stirred == ["hangs", "works", "hangs"]

    assert (await workspace.ask("works", new)).id == new.id


async def test_a_kernel_that_is_gone_holds_nobody_up(workspace):
    old, new = await workspace.queue(thread=1), await workspace.queue(thread=1)
    running = await workspace.ask("c", await workspace.queue(thread=1), max_demand=9)
    assert await workspace.ask("gone", old) is None
    assert await workspace.ask("works", new) is None
    await workspace.finish(running)
    workspace.grants.forget("gone")

    assert (await workspace.ask("works", new)).id == new.id


async def test_a_request_that_is_repeated_returns_the_same_job(workspace):
    first, second = await workspace.queue(thread=1), await workspace.queue(thread=2)
    request = uuid4()
    granted = await workspace.ask("a", first, second, request_id=request, max_demand=9)

    assert await workspace.ask("a", first, second, request_id=request, max_demand=9) == granted


async def test_a_job_that_does_not_wait_any_more_is_passed_over(workspace):
    first, second = await workspace.queue(thread=1), await workspace.queue(thread=2)
    await workspace.store.cancel(first, NOW)  # which the scheduler has not heard of

    assert (await workspace.ask("a", first, second)).id == second.id


async def test_what_runs_and_waits_when_the_process_starts_is_known(workspace):
    running = await workspace.ask("a", await workspace.queue(thread=1))
    waiting = await workspace.queue(thread=2)
    restarted = Workspace(workspace.store)
    await restarted.grants.board.fill(workspace.store)

    assert await restarted.ask("b", waiting) is None
    await restarted.finish(running)
    assert restarted.stirred == ["b"]
    assert (await restarted.ask("b", waiting)).id == waiting.id


async def test_a_question_waits_a_moment_for_the_one_before_it_whose_kernel_has_not_asked_yet(workspace):
    first, second, elsewhere = [await workspace.queue(thread=thread) for thread in (1, 1, 2)]
    workspace.grants.expect([first, second, elsewhere])
    assert await workspace.ask("b", second, max_demand=1) is None
    assert (await workspace.ask("c", elsewhere, max_demand=1)).id == elsewhere.id  # no place is kept for the first
    await workspace.finish(await workspace.store.job(elsewhere.id))
    assert (await workspace.ask("a", first, max_demand=1)).id == first.id
    await workspace.finish(await workspace.store.job(first.id))
    assert (await workspace.ask("b", second, max_demand=1)).id == second.id


async def test_a_kernel_that_never_asks_holds_its_thread_up_for_a_moment_only(workspace, monkeypatch):
    monkeypatch.setattr(grants, "RESERVED_S", 0.05)
    first, second = await workspace.queue(thread=1), await workspace.queue(thread=1)
    workspace.grants.expect([first, second])
    assert await workspace.ask("b", second) is None
    await workspace.told.wait()
    assert workspace.stirred == ["b"]
    assert (await workspace.ask("b", second)).id == second.id


async def test_r23_rows_of_a_batch_give_way_to_a_job_and_go_on_once_it_runs(workspace):
    assert workspace.lease("b", in_flight=0) == 4
    asked = await workspace.queue()

    workspace.grants.expect([asked])
    assert workspace.stirred == ["b"]
    assert workspace.lease("b", in_flight=4) == 0
    granted = await workspace.ask("a", asked)
    assert granted.id == asked.id  # it waits on the server for a row that is in flight, not here
    assert workspace.stirred == ["b", "b"]
    assert workspace.lease("b", in_flight=2) == 3
    await workspace.finish(granted)
    assert workspace.lease("b", in_flight=3) == 4


async def test_r23_a_job_of_another_model_waits_until_the_rows_in_flight_have_ended_and_no_more_begin(workspace):
    assert workspace.lease("b", in_flight=0, loaded=("m",)) == 4
    asked = await workspace.queue("another")

    assert await workspace.ask("a", asked, loaded=("m",)) is None
    assert workspace.stirred == ["b"]
    assert workspace.lease("b", in_flight=4, loaded=("m",)) == 0
    assert workspace.lease("b", in_flight=1, loaded=("m",)) == 0
    assert workspace.stirred == ["b"]
    assert workspace.lease("b", in_flight=0, loaded=("m",)) == 0
    assert workspace.stirred[1:3] == ["a", "b"]
    granted = await workspace.ask("a", asked, loaded=("m",))
    assert granted.id == asked.id
    assert workspace.lease("b", in_flight=0, loaded=("another",)) == 0  # it would swap the model that works
    await workspace.finish(granted)
    assert workspace.lease("b", in_flight=0, loaded=("another",)) == 4


async def test_r29_rows_do_not_wait_for_a_kernel_that_does_not_come_for_its_job(workspace, monkeypatch):
    blocking = await workspace.ask("c", await workspace.queue(thread=1))
    asked = await workspace.queue(thread=2)
    assert await workspace.ask("hangs", asked) is None
    await workspace.finish(blocking)
    assert workspace.lease("b", in_flight=0) == 0

    monkeypatch.setattr(grants, "RESERVED_S", 0)
    assert workspace.lease("b", in_flight=0) == 4
    assert workspace.lease("b", in_flight=4) == 4
    assert (await workspace.ask("hangs", asked)).id == asked.id


async def test_r29_the_rows_of_a_kernel_that_is_gone_make_room(workspace):
    assert workspace.lease("b", in_flight=0) == 4
    assert workspace.lease("c", in_flight=0, batch=2) == 0

    workspace.grants.forget("b")

    assert workspace.stirred == ["c"]
    assert workspace.lease("c", in_flight=0, batch=2) == 4


@pytest.mark.parametrize("is_forgotten", [False, True])
async def test_r29_a_job_waits_for_the_rows_of_a_kernel_that_hangs_until_their_lease_ends_only(workspace, is_forgotten):
    seconds = 0.0
    workspace = Workspace(workspace.store, lambda: seconds)
    assert workspace.lease("hangs", in_flight=0, loaded=("m",)) == 4
    asked = await workspace.queue("another")
    if not is_forgotten:
        seconds = LEASE_S - 0.001
    assert await workspace.ask("a", asked, loaded=("m",)) is None

    seconds = LEASE_S
    if is_forgotten:
        assert workspace.lease("b", in_flight=0, batch=2, loaded=("m",)) == 0  # at which the lease was seen to be over
        workspace.grants.forget("hangs")
    async with asyncio.timeout(20):
        while "a" not in workspace.stirred:
            workspace.told.clear()
            await workspace.told.wait()
    assert (await workspace.ask("a", asked, loaded=("m",))).id == asked.id
