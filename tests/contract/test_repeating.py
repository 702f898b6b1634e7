"""Every operation of a store may be called again, since a reply can be lost: over a file and in memory."""

import inspect
from dataclasses import replace
from types import SimpleNamespace

import pytest

from piano_jupyter.attachments.attachment import Attachment
from piano_jupyter.batch_records import Batch, BatchAnswer, BatchStatus, RowDemand
from piano_jupyter.errors import NotFoundError, StoreError
from piano_jupyter.records import Approval, CallStatus, ChosenBranch, JobStatus, Notebook
from piano_jupyter.store.base import Backend, Store
from piano_jupyter.store.duckdb.batch_operations import BatchOperations
from piano_jupyter.store.duckdb.duckdb_store import COPIES, FILE_WORK, REPORTS

OPERATIONS = {name for name, each in vars(Store).items() if inspect.iscoroutinefunction(each)} - set(vars(Backend))
TABLES = (
    "agents",
    "threads",
    "messages",
    "tool_calls",
    "tool_results",
    "approvals",
    "decisions",
    "jobs",
    "notebooks",
    "chosen_branches",
    "attachments",
    "batches",
    "batch_answers",
    "draft_files",
)


async def everything(store):
    """Return all rows of all tables."""
    return {table: list(await store.sql(f"FROM {table} ORDER BY ALL")) for table in TABLES}


@pytest.fixture
async def talk(store, make, running):
    """Return a talk in which a call has begun and another waits for approval, and a job that is queued behind it."""
    agent, thread = await store.add_agent(make.agent()), await store.add_thread(make.thread("talk"))
    job = await running(thread_id=thread.id)
    said = await store.add_message(make.answer(job))
    call = await store.start_call(make.call(said))
    asked = make.call(said)
    approval = Approval(
        id=make.clock.new_id(),
        call_id=asked.id,
        message_id=said.id,
        job_id=job.id,
        thread_id=thread.id,
        name=asked.name,
        arguments=asked.arguments,
        digest="d",
        question="may I?",
        reason="it asks",
        always="",
        requested_at=make.now(),
    )
    question = make.message(thread.id)
    _, [queued] = await store.enqueue(question, [make.job(question)])
    failed = await store.fail(await running(), "no model", make.now())
    batch = Batch(
        id=make.clock.new_id(), name="words", template="{{word}}", model="m", digest="d", inserted_at=make.now()
    )
    return SimpleNamespace(
        agent=agent,
        thread=thread,
        job=job,
        said=said,
        call=call,
        approval=await store.request_approval(approval),
        queued=queued,
        failed=failed,
        batch=await store.open_batch(replace(batch, owner="kernel")),
    )


def conversation(make):
    """Return the arguments of a conversation from elsewhere."""
    thread = make.thread("from elsewhere")
    message = make.message(thread.id)
    call = replace(make.call(message), status=CallStatus.OK, result="3 files", finished_at=make.now())
    return [thread, [message], [call]]


def answer(make, key):
    """Return an answer to a row."""
    return BatchAnswer(key=key, place=key[1], asked={"word": "a"}, answer="b", answered_at=make.now())


def demand(batch):
    """Return what a kernel asks for, to ask rows."""
    server = {"server": batch.server, "model": batch.model}
    return RowDemand(batch_id=batch.id, owner="kernel", in_flight=0, wanted=2, limit=4, **server)


NEWER = 1_000_000  # than the `seq` of any message here


def question(talk, make):
    """Return the arguments of a question to two agents."""
    message = make.message(talk.thread.id)
    return [message, [make.job(message), make.job(message)]]


def arguments(talk, make):
    """Return the arguments of each operation, by its name."""
    return {
        "identity": [],
        "add_agent": [make.agent("Bo")],
        "update_agent": [replace(talk.agent, name="Eve")],
        "agents": [],
        "add_thread": [make.thread()],
        "update_thread": [replace(talk.thread, title="renamed")],
        "thread": [talk.thread.id],
        "threads": [],
        "delete_threads": [[talk.failed.thread_id]],
        "erase": [[talk.failed.thread_id]],
        "keep_thread": [Notebook("k1", "/a.ipynb"), talk.thread.id, make.now()],
        "keep_draft": [talk.thread.id, "and then", make.now()],
        "draft": [talk.thread.id],
        "keep_draft_files": [talk.thread.id, [Attachment.of(b"notes", "text/plain", name="notes.txt")]],
        "draft_files": [talk.thread.id],
        "kept_thread": [Notebook("k1", "/a.ipynb")],
        "choose_branch": [talk.thread.id, ChosenBranch(talk.said.id, 1)],
        "chosen_branch": [talk.thread.id],
        "enqueue": [*question(talk, make), NEWER],
        "add_message": [make.message()],
        "add_jobs": [[make.job(talk.said), make.job(talk.said)]],
        "add_conversation": conversation(make),
        "message": [talk.said.id],
        "messages_ending": [talk.said.id.hex[-6:]],
        "messages": [talk.thread.id],
        "start_call": [make.call(talk.said)],
        "finish_call": [replace(talk.call, status=CallStatus.OK, result="3 files", finished_at=make.now())],
        "tool_calls": [talk.thread.id],
        "attachments": [["0" * 64]],
        "request_approval": [replace(talk.approval, id=make.clock.new_id())],
        "decide_approval": [replace(talk.approval, allowed=True, note="yes", decided_at=make.now())],
        "unbegun": [talk.job.id],
        "open_approvals": [talk.job.id],
        "claim_next": [make.clock.new_id(), "kernel", [talk.queued.id], make.now()],
        "ack": [talk.job, make.answer(talk.job), make.now()],
        "fail": [talk.job, "no model", make.now()],
        "cancel": [talk.job, make.now()],
        "keep_partial": [replace(talk.job, partial="half an answ")],
        "retry": [talk.failed],
        "take_over": [talk.queued, "another kernel", Notebook("k2", "/b.ipynb")],
        "release": [talk.job, make.now()],
        "recover": [["another kernel"], 1, make.now()],
        "job": [talk.job.id],
        "jobs": [JobStatus.RUNNING, JobStatus.QUEUED],
        "jobs_ending": [talk.job.id.hex[-6:]],
        "open_batch": [replace(talk.batch, row_count=9)],
        "end_batch": [talk.batch, BatchStatus.DONE, None, make.now()],
        "cancel_batch": [talk.batch.id, make.now()],
        "retry_batch": [talk.batch.id],
        "delete_batch": [make.clock.new_id()],
        "batches": [],
        "known_rows": [talk.batch.id, bytes(32)],
        "copy_answers": [talk.batch.id, bytes(32), 0],
        "add_answers": [talk.batch.id, [answer(make, bytes(16)), answer(make, bytes(range(16)))]],
        "outcomes": [talk.batch.id, bytes(32)],
        "answers_from": [talk.batch.id, -1, bytes(16), 10],
        "lease_rows": [demand(talk.batch)],
        "counts": [],
        "search": ["talk", 5],
        "usage": ["agent"],
        "backup": [],
        "compact": [],
        "sql": ["FROM jobs"],
    }


@pytest.mark.parametrize("name", sorted(OPERATIONS))
async def test_an_operation_that_is_called_twice_returns_the_same_and_has_no_second_effect(store, make, talk, name):
    given = arguments(talk, make)[name]
    first = await getattr(store, name)(*given)
    kept = await everything(store)

    second = await getattr(store, name)(*given)

    assert second == ([] if name == "recover" else first)  # nothing is left to be taken over
    assert await everything(store) == kept


@pytest.mark.parametrize("name", sorted(OPERATIONS))
def test_an_operation_is_written_in_duckdb_as_it_is_declared(name):
    declared = inspect.signature(getattr(Store, name))
    written = inspect.signature((REPORTS | COPIES | FILE_WORK).get(name) or getattr(BatchOperations, name))

    assert list(written.parameters.values())[1:] == list(declared.parameters.values())[1:]
    assert written.return_annotation == declared.return_annotation


class Passing(Store):
    """A store that passes on what it is asked, and notes it."""

    def __init__(self, store):
        self.inner, self.asked = store, []

    async def open(self):
        await self.inner.open()

    async def close(self):
        await self.inner.close()

    def close_now(self, timeout):
        self.inner.close_now(timeout)

    async def call(self, operation, /, *arguments, **options):
        self.asked.append(operation)
        return await self.inner.call(operation, *arguments, **options)


async def test_a_store_around_a_store_needs_one_method_for_all_operations(store, make, talk):
    around = Passing(store)
    given = arguments(talk, make)
    for name in sorted(OPERATIONS - {"ack", "cancel", "delete_threads", "fail", "keep_partial", "release", "recover"}):
        await getattr(around, name)(*given[name])
    note = make.message(talk.job.thread_id, role="system")
    kept = await around.ack(talk.job, make.answer(talk.job), make.now(), note=note)

    assert set(around.asked) == OPERATIONS - {"cancel", "delete_threads", "fail", "keep_partial", "release", "recover"}
    assert await around.jobs(JobStatus.DONE, thread_id=talk.job.thread_id) == [kept.job]
    assert (await around.messages(talk.job.thread_id, last=1)) == [kept.note]


async def test_a_message_sent_twice_returns_only_its_own_jobs(store, make):
    message = make.message()
    job = make.job(message)
    first = await store.enqueue(message, [job])
    await store.add_jobs([make.job(message)])

    assert await store.enqueue(message, [job]) == first


async def test_an_imported_conversation_that_has_grown_is_still_known(store, make):
    thread, messages, calls = conversation(make)
    await store.add_conversation(thread, messages, calls)
    more = await store.add_message(make.message(thread.id))
    renamed = await store.update_thread(replace(thread, title="renamed"))

    assert await store.add_conversation(thread, messages, calls) == renamed
    assert [each.id for each in await store.messages(thread.id)] == [messages[0].id, more.id]
    with pytest.raises(StoreError, match="there is a thread with the id"):
        await store.add_conversation(thread, [*messages, make.message(thread.id)], calls)
    with pytest.raises(StoreError, match="there is a thread with the id"):
        await store.add_conversation(thread, messages, [*calls, replace(calls[0], id=make.clock.new_id())])


async def test_a_second_decision_learns_that_the_first_stands(store, make, talk):
    no = replace(talk.approval, allowed=False, note="no", decided_at=make.now())
    yes = replace(talk.approval, allowed=True, note="yes", decided_at=make.now())
    later_no = replace(no, decided_at=make.now())

    decided = [await store.decide_approval(each) for each in (no, yes, no, later_no, yes)]

    assert decided == [(no, True), (no, False), (no, True), (no, False), (no, False)]


async def test_a_request_is_given_the_same_job_and_another_request_the_next(store, make):
    message = make.message()
    _, jobs = await store.enqueue(message, [make.job(message) for _ in range(3)])
    wanted = [job.id for job in (jobs[1], jobs[0], jobs[2])]
    one, two = make.clock.new_id(), make.clock.new_id()

    first = await store.claim_next(one, "kernel", wanted, make.now())
    again = await store.claim_next(one, "kernel", wanted, make.now())
    of_others = await store.claim_next(two, "another kernel", wanted, make.now())

    assert first == again
    assert (first.id, first.attempt, first.request_id) == (jobs[1].id, 1, one)
    assert (of_others.id, of_others.owner, of_others.request_id) == (jobs[0].id, "another kernel", two)
    assert [job.id for job in await store.jobs(JobStatus.QUEUED)] == [jobs[2].id]


async def test_a_job_that_its_owner_has_already_is_returned_as_it_is_and_to_nobody_else(store, make, running):
    job = await running("kernel")
    message = make.message()
    _, [queued] = await store.enqueue(message, [make.job(message)])

    again = await store.claim_next(make.clock.new_id(), "kernel", [queued.id, job.id], make.now())
    others = await store.claim_next(make.clock.new_id(), "another kernel", [job.id], make.now())

    assert (again, others) == (job, None)
    assert await store.jobs() == [job, queued]


async def test_a_request_whose_job_has_ended_is_given_none_and_no_other_one(store, make):
    message = make.message()
    _, jobs = await store.enqueue(message, [make.job(message) for _ in range(2)])
    request, wanted = make.clock.new_id(), [job.id for job in jobs]
    claimed = await store.claim_next(request, "kernel", wanted, make.now())
    await store.cancel(claimed, make.now())

    assert await store.claim_next(request, "kernel", wanted, make.now()) is None
    assert await store.jobs(JobStatus.QUEUED) == [jobs[1]]


async def test_a_repeated_ack_returns_the_stored_answer_and_its_delegated_jobs(store, make, running):
    job = await running()
    answer = make.answer(job)
    asked, note = [make.job(answer, hops=1), make.job(answer, hops=1)], make.message(job.thread_id, role="system")
    first = await store.ack(job, answer, make.now(), asked=asked, note=note)
    begun = await store.claim_next(make.clock.new_id(), "kernel", [asked[0].id], make.now())
    await store.add_jobs([make.job(answer)])
    kept = await everything(store)

    second = await store.ack(job, answer, make.now(), asked=[*asked, make.job(answer)], note=note)

    assert second == first._replace(asked=[begun, first.asked[1]])
    assert await everything(store) == kept


async def test_another_answer_to_a_job_that_is_done_is_refused(store, make, running):
    job = await running()
    await store.ack(job, make.answer(job), make.now())
    kept = await everything(store)

    with pytest.raises(StoreError, match="is done already: this answer came too late"):
        await store.ack(job, make.answer(job), make.now())
    assert await everything(store) == kept


async def claimed_again(store, make, job):
    """Fail a job, put it back and claim it, as its owner did before."""
    again = await store.retry(await store.fail(job, "no model", make.now()))
    return await store.claim_next(make.clock.new_id(), job.owner, [again.id], make.now())


@pytest.mark.parametrize("name", ["fail", "release"])
async def test_a_repeated_fail_does_not_end_the_next_attempt_of_the_same_owner(store, make, running, name):
    job = await running()
    again = await claimed_again(store, make, job)
    end = {"fail": [job, "no model", make.now()], "release": [job, make.now()]}[name]

    assert await getattr(store, name)(*end) == again
    assert await store.jobs() == [again]


async def test_an_answer_of_an_earlier_attempt_is_not_stored(store, make, running):
    job = await running()
    again = await claimed_again(store, make, job)

    with pytest.raises(StoreError, match="is run by 'kernel' now"):
        await store.ack(job, make.answer(job), make.now())
    assert await store.jobs() == [again]


async def test_a_job_that_somebody_else_runs_does_not_fail_with_who_had_it_before(store, make, running):
    job = await running("dead kernel")
    await store.recover((), 3, make.now())
    queued = await store.fail(job, "late", make.now())
    taken = await store.claim_next(make.clock.new_id(), "new kernel", [job.id], make.now())

    assert queued.status is JobStatus.QUEUED
    assert await store.fail(job, "late", make.now()) == taken


async def test_what_was_written_of_an_answer_stays_with_its_job_until_that_is_claimed_again(store, make, running):
    job = await running()
    await store.keep_partial(replace(job, partial="half an answ"))
    cancelled = await store.cancel(job, make.now())

    assert (cancelled.status, cancelled.partial) == (JobStatus.CANCELLED, "half an answ")
    again = await store.claim_next(make.clock.new_id(), "kernel", [(await store.retry(cancelled)).id], make.now())
    assert again.partial == ""
    assert await store.keep_partial(replace(job, partial="of the first attempt")) == again
    done = (await store.ack(again, make.answer(again), make.now())).job
    assert await store.keep_partial(replace(again, partial="too late")) == done


async def test_the_branch_that_was_chosen_last_is_known_and_is_deleted_with_its_thread(store, make):
    thread = await store.add_thread(make.thread())
    first, second = ChosenBranch(make.clock.new_id(), 3), ChosenBranch(make.clock.new_id(), 4)

    assert await store.chosen_branch(thread.id) is None
    for chosen in (first, second):
        await store.choose_branch(thread.id, chosen)
    assert await store.chosen_branch(thread.id) == second
    await store.delete_threads([thread.id])
    assert await store.chosen_branch(thread.id) is None
    with pytest.raises(NotFoundError):
        await store.choose_branch(thread.id, first)


async def test_a_job_is_requeued_once_for_each_time_it_ended(store, make, running):
    failed = await store.fail(await running(), "no model", make.now())
    queued = await store.retry(failed)
    claimed = await store.claim_next(make.clock.new_id(), "kernel", [queued.id], make.now())

    assert await store.retry(failed) == claimed

    failed_again = await store.fail(claimed, "no model", make.now())

    assert await store.retry(failed) == failed_again
    assert (await store.retry(failed_again)).status is JobStatus.QUEUED


async def test_only_jobs_of_dead_owners_are_recovered(store, make, running):
    mine, theirs, left = await running("mine"), await running("theirs"), await running("gone")

    taken = await store.recover({"mine", "theirs"}, 3, make.now())

    assert [(job.id, job.status) for job in taken] == [(left.id, JobStatus.QUEUED)]
    assert await store.jobs(JobStatus.RUNNING) == [mine, theirs]
