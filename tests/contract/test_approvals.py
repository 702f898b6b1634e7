"""What every store must do with the calls that the user is asked about, over a file and in memory."""

import asyncio
from dataclasses import replace

import pytest

from piano_jupyter.errors import NotFoundError, StoreError
from piano_jupyter.records import Approval, CallStatus, JobStatus


@pytest.fixture
def asked(store, make):
    """Return a function that keeps a question about a call of a job."""

    async def ask(job, call, **fields):
        said = {"digest": "d", "question": "may I?", "reason": "it asks", "always": "allow bash(ls)"} | fields
        return await store.request_approval(
            Approval(
                id=make.clock.new_id(),
                call_id=call.id,
                message_id=call.message_id,
                job_id=job.id,
                thread_id=job.thread_id,
                name=call.name,
                arguments=call.arguments,
                requested_at=make.now(),
                **said,
            )
        )

    return ask


def answered(approval, make, note="yes", *, allowed=True):
    return replace(approval, allowed=allowed, note=note, decided_at=make.now())


async def test_an_approval_request_is_stored_with_its_first_decision(store, make, running, asked):
    job = await running()
    call = make.call(make.message(job.thread_id, job_id=job.id), arguments={"command": "ls '; DROP", "n": [1, None]})
    approval = await asked(job, call)
    other = await asked(job, make.call(make.message(job.thread_id)))

    assert await store.unbegun(job.id) == [approval, other]
    assert approval.seq < other.seq
    assert approval.arguments == call.arguments
    assert await store.request_approval(replace(approval, question="changed")) == approval

    no = answered(approval, make, "no", allowed=False)

    assert await store.decide_approval(no) == (no, True)
    assert await store.decide_approval(answered(approval, make)) == (no, False)
    assert await store.unbegun(job.id) == [no, other]


async def test_e7_of_concurrent_decisions_one_is_the_first(store, make, running, asked):
    job = await running()
    approval = await asked(job, make.call(make.message(job.thread_id)))
    answers = [answered(approval, make, str(number), allowed=number % 2 == 0) for number in range(9)]

    kept = await asyncio.gather(*map(store.decide_approval, answers))

    assert sum(is_first for _, is_first in kept) == 1
    assert len({each.note for each, _ in kept}) == 1


async def test_of_repeated_requests_for_a_call_the_newest_counts_until_it_starts(store, make, running, asked):
    job = await running()
    message = await store.add_message(make.message(job.thread_id, job_id=job.id))
    call = make.call(message)
    first = await asked(job, call)
    await store.decide_approval(answered(first, make))
    second = await asked(job, call, digest="other")

    assert await store.unbegun(job.id) == [second]

    await store.start_call(call)

    assert await store.unbegun(job.id) == []


async def test_requests_are_open_until_they_are_decided_or_their_call_has_a_result(store, make, running, asked):
    job = await running()
    message = await store.add_message(make.message(job.thread_id, job_id=job.id))
    first, second = make.call(message), make.call(message)
    before = await asked(job, first)
    other = await asked(job, second)
    assert await store.open_approvals(job.id) == [before, other]

    await store.decide_approval(answered(before, make))
    await store.start_call(first)
    later = await asked(job, first, question="do the rest, too?")
    assert await store.open_approvals(job.id) == [other, later]

    await store.finish_call(replace(first, status=CallStatus.OK, result="done", finished_at=make.now()))
    assert await store.open_approvals(job.id) == [other]


async def test_a_decision_without_a_request_or_an_answer_is_refused(store, make, running, asked):
    job = await running()
    approval = await asked(job, make.call(make.message(job.thread_id)))

    with pytest.raises(NotFoundError, match="no approval with the id"):
        await store.decide_approval(answered(replace(approval, id=make.clock.new_id()), make))
    with pytest.raises(StoreError, match="has no answer to keep"):
        await store.decide_approval(approval)


async def test_e7_a_job_that_waited_for_approval_when_its_kernel_died_is_requeued_whatever_its_attempts(
    store, make, running, asked
):
    job = await running()
    approval = await asked(job, make.call(make.message(job.thread_id)))

    for _ in range(4):
        (queued,) = await store.recover((), 1, make.now())
        assert (queued.status, queued.attempt) == (JobStatus.QUEUED, 0)
        await store.claim_next(make.clock.new_id(), "kernel", [job.id], make.now())
    await store.decide_approval(answered(approval, make))
    (failed,) = await store.recover((), 1, make.now())

    assert failed.status is JobStatus.FAILED
