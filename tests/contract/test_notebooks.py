"""What several notebooks on one history need of every store: over a file, in memory and in the store process."""

from dataclasses import replace

import pytest

from piano_jupyter.errors import NotFoundError, StaleThreadError, StoreError
from piano_jupyter.records import CallStatus, JobStatus, JobTerms, Notebook

SALES = Notebook("k1", "/notes/sales.ipynb")
COSTS = Notebook("k2", "/notes/costs.ipynb")
SALES_ANEW = Notebook("k3", "/notes/sales.ipynb")  #: the same notebook with another kernel
UNNAMED = Notebook("k4")
NAMED = Notebook("", "/notes/plan.ipynb")
NOTEBOOKS = [SALES, COSTS, UNNAMED, NAMED]


@pytest.fixture
def queue(store, make):
    """Return a function that queues a job in a thread of its own, or in a given one."""

    async def queue(thread_id=None, **fields):
        message = make.message(thread_id)
        _, [job] = await store.enqueue(message, [make.job(message, **fields)])
        return job

    return queue


@pytest.fixture
def claim(store, make):
    async def claim(job, owner="kernel"):
        return await store.claim_next(make.clock.new_id(), owner, [job.id], make.now())

    return claim


@pytest.mark.parametrize("notebook", [Notebook(), *NOTEBOOKS])
async def test_a_job_keeps_the_owner_and_the_notebook_that_it_is_sent_with(store, make, queue, claim, notebook):
    job = await queue(owner="first", notebook=notebook)
    [added] = await store.add_jobs([make.job(await store.message(job.message_id), owner="first", notebook=notebook)])
    claimed = await claim(job, "first")
    answer = make.answer(claimed)
    asked = make.job(answer, owner="other", notebook=notebook)
    done, _, [delegated], _ = await store.ack(claimed, answer, make.now(), asked=[asked])

    assert [(each.owner, each.notebook) for each in (job, added, done, delegated)] == [
        ("first", notebook), ("first", notebook), ("first", notebook), ("other", notebook)
    ]  # fmt: skip
    assert await store.jobs() == [done, added, delegated]
    assert all(type(each.notebook) is Notebook for each in await store.jobs())


async def test_a_job_that_is_released_or_recovered_waits_for_its_owner_again(store, make, queue, claim):
    released = await store.release(await claim(await queue(notebook=SALES), "one"), make.now())
    await claim(await queue(notebook=COSTS), "two")
    [recovered] = await store.recover((), 3, make.now())

    assert [(each.status, each.owner, each.notebook) for each in (released, recovered)] == [
        (JobStatus.QUEUED, "one", SALES),
        (JobStatus.QUEUED, "two", COSTS),
    ]
    assert await store.jobs(JobStatus.QUEUED) == [released, recovered]


async def test_a_job_that_is_retried_waits_for_whoever_retries_it(store, make, queue, claim):
    failed = await store.fail(await claim(await queue(notebook=SALES), "one"), "no model", make.now())
    terms = JobTerms("write", ("allow bash",), "http://x", COSTS)
    again = await store.retry(replace(failed, owner="two", **terms._asdict()))

    assert (again.status, again.owner, again.terms) == (JobStatus.QUEUED, "two", terms)
    assert await store.job(again.id) == again


async def test_a_queued_job_is_taken_over_once_from_the_owner_it_waits_for(store, queue):
    job = await queue(owner="one", notebook=SALES)
    taken = await store.take_over(job, "two", COSTS)

    assert taken == replace(job, owner="two", notebook=COSTS)
    assert await store.take_over(job, "three", UNNAMED) == taken
    assert await store.take_over(taken, "three", UNNAMED) == replace(job, owner="three", notebook=UNNAMED)
    assert [(each.owner, each.notebook) for each in await store.jobs()] == [("three", UNNAMED)]


async def test_a_job_of_no_owner_is_taken_over_and_one_that_runs_or_has_ended_is_not(store, make, queue, claim):
    old, running, ended = await queue(), await queue(), await queue()
    running, ended = await claim(running), await store.cancel(ended, make.now())

    assert (await store.take_over(old, "two", COSTS)).owner == "two"
    assert await store.take_over(running, "two", COSTS) == running
    assert await store.take_over(ended, "two", COSTS) == ended
    with pytest.raises(NotFoundError, match="no job"):
        await store.take_over(make.job(make.message()), "two", COSTS)


async def test_a_job_that_was_taken_over_does_not_fail_with_the_owner_before(store, make, queue, claim):
    job = await queue(owner="one")
    taken = await store.take_over(job, "two", COSTS)
    assert await store.fail(job, "late", make.now()) == taken

    running = await claim(taken, "two")
    assert await store.fail(job, "late", make.now()) == running
    assert (await store.fail(taken, "no agent", make.now())).status is JobStatus.FAILED


@pytest.mark.parametrize("notebook", NOTEBOOKS)
async def test_each_notebook_keeps_its_own_thread(store, make, notebook):
    own, other, later = [await store.add_thread(make.thread()) for _ in range(3)]
    for each in NOTEBOOKS:
        assert await store.kept_thread(each) is None
        await store.keep_thread(each, other.id, make.now())
    await store.keep_thread(notebook, own.id, make.now())

    assert await store.kept_thread(notebook) == own
    assert [await store.kept_thread(each) for each in NOTEBOOKS if each != notebook] == [other] * 3

    await store.keep_thread(notebook, later.id, make.now())
    assert await store.kept_thread(notebook) == later
    await store.keep_thread(notebook, None, make.now())
    assert await store.kept_thread(notebook) is None


async def test_a_notebook_with_another_kernel_has_the_thread_that_was_kept_last_under_its_name(store, make):
    first, second = [await store.add_thread(make.thread()) for _ in range(2)]
    await store.keep_thread(Notebook("k0", SALES.name), first.id, make.now())
    await store.keep_thread(SALES, second.id, make.now())
    await store.keep_thread(UNNAMED, first.id, make.now())

    assert await store.kept_thread(SALES_ANEW) == second
    assert await store.kept_thread(Notebook("k0", "/renamed.ipynb")) == first
    assert await store.kept_thread(Notebook("k0", SALES.name)) == first
    assert await store.kept_thread(Notebook("k9")) is None
    await store.keep_thread(SALES, None, make.now())
    assert await store.kept_thread(SALES_ANEW) is None


async def test_what_is_no_notebook_keeps_no_thread(store, make):
    thread = await store.add_thread(make.thread())
    await store.keep_thread(Notebook(), thread.id, make.now())

    assert await store.kept_thread(Notebook()) is None
    assert len(await store.sql("FROM notebooks")) == 0


async def test_a_kept_thread_that_is_archived_or_deleted_is_none(store, make):
    thread, older = await store.add_thread(make.thread()), await store.add_thread(make.thread())
    await store.keep_thread(Notebook("k0", SALES.name), older.id, make.now())
    await store.keep_thread(SALES, thread.id, make.now())

    await store.update_thread(replace(thread, status="archived"))
    assert await store.kept_thread(SALES) is None
    await store.update_thread(thread)
    assert await store.kept_thread(SALES) == thread
    await store.delete_threads([thread.id])
    assert await store.kept_thread(SALES) is await store.kept_thread(SALES_ANEW) is None
    assert list(await store.sql(f"SELECT 1 FROM notebooks WHERE thread_id = '{thread.id}'")) == []
    assert await store.kept_thread(Notebook("k0")) == older


async def test_the_threads_of_a_notebook_are_those_it_has_sent_to_and_its_current_one(store, make, queue):
    threads = [await store.add_thread(make.thread(str(number))) for number in range(5)]
    await queue(threads[0].id, notebook=SALES)
    await queue(threads[1].id, notebook=COSTS)
    await queue(threads[1].id, notebook=SALES_ANEW)
    await queue(threads[2].id)  # from a script
    await store.keep_thread(SALES, threads[3].id, make.now())
    await store.keep_thread(UNNAMED, threads[4].id, make.now())
    archived = await store.update_thread(replace(threads[0], status="archived"))

    assert await store.threads(notebook=SALES) == [threads[3], threads[1], archived]
    assert await store.threads("active", notebook=SALES) == [threads[3], threads[1]]
    assert await store.threads("archived", SALES) == [archived]
    assert await store.threads(notebook=Notebook("k3")) == [threads[1]]
    assert await store.threads(notebook=UNNAMED) == [threads[4]]
    assert await store.threads(notebook=Notebook()) == []


async def test_a_question_that_was_to_follow_an_older_one_than_the_newest_is_refused(store, make):
    first = await store.add_message(make.message((await store.add_thread(make.thread())).id))
    await store.add_message(make.message())  # of another thread
    await store.add_message(make.message(first.thread_id, role="assistant"))
    second, late = make.message(first.thread_id), make.message(first.thread_id)
    kept = await store.enqueue(second, [make.job(second)], newest=first.seq)

    with pytest.raises(StaleThreadError, match="has a newer question than the one it was to follow; ask again"):
        await store.enqueue(late, [make.job(late)], newest=first.seq)
    assert await store.enqueue(second, [make.job(second)], newest=first.seq) == kept
    assert (len(await store.messages(first.thread_id)), await store.jobs()) == (3, kept[1])
    asked, _ = await store.enqueue(late, [make.job(late)], newest=kept[0].seq)
    assert (await store.enqueue(make.message(first.thread_id)))[0].seq > asked.seq
    await store.cancel(kept[1][0], make.now())
    for job in await store.jobs(JobStatus.QUEUED):
        await store.cancel(job, make.now())
    await store.delete_threads([first.thread_id])
    with pytest.raises(NotFoundError, match="was deleted; ask in another one"):
        await store.enqueue(late, [make.job(late)], newest=kept[0].seq)
    assert await store.messages(first.thread_id) == await store.jobs() == []


async def test_a_message_that_was_stored_before_a_newer_question_is_returned_as_it_is(store, make):
    first = await store.add_message(make.message((await store.add_thread(make.thread())).id))
    asked = make.message(first.thread_id)
    kept = await store.enqueue(asked, newest=first.seq)
    await store.enqueue(make.message(first.thread_id))

    assert await store.enqueue(asked, newest=first.seq) == kept


async def end(store, make, job, how):
    match how:
        case "done":
            return await store.ack(job, make.answer(job), make.now())
        case "failed":
            return await store.fail(job, "no model", make.now())
        case "cancelled":
            return await store.cancel(job, make.now())
        case "queued":
            return await store.recover((), 3, make.now())


@pytest.mark.parametrize("how", ["done", "failed", "cancelled", "queued"])
async def test_no_tool_begins_for_a_job_that_does_not_run_any_more(store, make, running, how):
    job = await running()
    said = await store.add_message(make.answer(job), job)
    begun = await store.start_call(make.call(said), job)
    begun = await store.finish_call(replace(begun, status=CallStatus.OK, result="ok", finished_at=make.now()))
    await end(store, make, job, how)

    for call in (begun, make.call(said)):
        with pytest.raises(StoreError, match=f"is {how} already: what 'kernel' does for it is not kept"):
            await store.start_call(call, job)
    assert await store.tool_calls(job.thread_id) == [begun]


async def test_a_kernel_whose_job_another_runs_neither_writes_nor_runs_a_tool_for_it(store, make, running):
    job = await running()
    said = await store.add_message(make.answer(job), job)
    await store.recover((), 3, make.now())
    await store.claim_next(make.clock.new_id(), "k2", [job.id], make.now())

    with pytest.raises(StoreError, match="is run by 'k2' now: what 'kernel' does for it is not kept"):
        await store.start_call(make.call(said), job)
    with pytest.raises(StoreError, match="is run by 'k2' now"):
        await store.add_message(make.answer(job), job)
    assert (await store.messages(job.thread_id))[1:] == [said]
    assert await store.tool_calls(job.thread_id) == []


async def test_a_call_of_no_stored_job_begins(store, make):
    said = await store.add_message(make.message(role="assistant"))
    imported = await store.add_message(make.answer(make.job(said)))

    calls = [await store.start_call(make.call(each)) for each in (said, imported, make.message())]

    assert [call.status for call in calls] == [CallStatus.STARTED] * 3
