"""What every store must do, over a file and in memory."""

import asyncio
import json
from dataclasses import replace
from datetime import datetime, timedelta, timezone

import pytest

from piano_jupyter.errors import NotFoundError, StoreError
from piano_jupyter.pipeline.message_tree import MessageTree
from piano_jupyter.records import Approval, CallStatus, JobStatus
from piano_jupyter.store.duckdb.duckdb_store import DuckDBStore

HOSTILE = [
    "'; DROP TABLE messages; --",
    '100 % "quoted" $name {brace}',
    "NUL \0 inside",
    "😀 \u200f é\r\n\t",
    "x" * 2**20,
]


async def test_agents_are_returned_as_stored_and_oldest_first(store, make):
    plain = make.agent("Bo")
    full = make.agent(
        "Ada",
        description="counts",
        system_prompt="Be exact.",
        enabled_tools=("bash", "read_file"),
        enabled_skills=("sql",),
        options={"temperature": 0.2, "stop": ["é"], "nested": {"a": None}},
        max_iterations=3,
    )
    await store.add_agent(plain)
    await store.add_agent(full)

    assert await store.agents() == [plain, full]


@pytest.mark.parametrize(("first", "second"), [("Ada", "aDA"), ("Straße", "STRASSE")])
async def test_an_agent_s_name_is_taken_whatever_its_case(store, make, first, second):
    await store.add_agent(make.agent(first))
    other = await store.add_agent(make.agent("other"))

    with pytest.raises(StoreError, match=f"named '{first}' already"):
        await store.add_agent(make.agent(second))
    with pytest.raises(StoreError, match=f"named '{first}' already"):
        await store.update_agent(replace(other, name=second))
    assert [agent.name for agent in await store.agents()] == [first, "other"]


async def test_a_deleted_agent_stays_and_its_name_is_free(store, make):
    ada = await store.add_agent(make.agent("ada"))
    await store.add_agent(make.agent("bo"))

    gone = await store.update_agent(replace(ada, deleted=True))
    again = await store.add_agent(make.agent("Ada"))

    assert [agent.deleted for agent in await store.agents()] == [True, False, False]
    assert (await store.agents())[0] == gone
    assert (await store.counts()).agents == 2
    with pytest.raises(StoreError, match="an agent named 'Ada' already"):
        await store.update_agent(replace(gone, deleted=False))
    assert await store.update_agent(replace(again, name="grace"))


async def test_an_updated_agent_keeps_its_place(store, make):
    ada = await store.add_agent(make.agent("ada"))
    bo = await store.add_agent(make.agent("bo"))
    changed = await store.update_agent(
        replace(ada, name="Ada", model="big", enabled_tools=("bash",), options={"seed": 1})
    )

    assert await store.agents() == [changed, bo]
    with pytest.raises(NotFoundError, match="no agent named 'Eve'; known: "):
        await store.update_agent(make.agent("Eve"))


async def test_threads_are_newest_first_and_known_by_id_and_status(store, make):
    old = await store.add_thread(make.thread("old"))
    new = await store.add_thread(make.thread("new", forked_from_thread_id=old.id, primary_agent_id=make.clock.new_id()))

    assert await store.threads() == [new, old]

    archived = await store.update_thread(replace(old, title="gone", status="archived"))

    assert await store.thread(old.id) == archived
    assert await store.threads("active") == [new]
    assert await store.threads("archived") == [archived]


async def test_a_missing_record_raises_not_found(store, make):
    nobody = make.clock.new_id()
    job = make.job(make.message())

    with pytest.raises(NotFoundError, match=f"no thread with the id {nobody}"):
        await store.thread(nobody)
    with pytest.raises(NotFoundError, match="no thread"):
        await store.update_thread(make.thread())
    with pytest.raises(NotFoundError, match="no message"):
        await store.message(nobody)
    with pytest.raises(NotFoundError, match="no tool call"):
        await store.finish_call(make.call(make.message()))
    for verb in (store.retry(job), store.fail(job, "no", make.now()), store.cancel(job, make.now())):
        with pytest.raises(NotFoundError, match="no job"):
            await verb
    assert await store.claim_next(make.clock.new_id(), "kernel", [nobody], make.now()) is None
    assert await store.messages(nobody) == await store.tool_calls(nobody) == await store.jobs(thread_id=nobody) == []


async def conversation(store, make):
    """Return a thread with two messages and a finished call, of which nothing is kept yet."""
    thread = make.thread("from elsewhere")
    asked = make.message(thread.id)
    answer = make.message(thread.id, role="assistant", parent_id=asked.id, usage={"model": "far"})
    call = replace(make.call(answer), status=CallStatus.FAILED, result="no", finished_at=make.now())
    return thread, [asked, answer], [call]


async def test_an_imported_conversation_keeps_its_order(store, make):
    thread, messages, calls = await conversation(store, make)
    await store.add_message(make.message())
    kept = await store.add_conversation(thread, messages, calls)

    assert kept == thread == await store.thread(thread.id)
    assert await store.messages(thread.id) == [replace(messages[0], seq=2), replace(messages[1], seq=3)]
    assert await store.tool_calls(thread.id) == [replace(calls[0], seq=1)]


@pytest.mark.parametrize("wrong", ["thread", "message", "call", "elsewhere", "nowhere", "open"])
async def test_a_conversation_is_imported_completely_or_not_at_all(store, make, wrong):
    thread, messages, calls = await conversation(store, make)
    other, said, called = await conversation(store, make)
    await store.add_conversation(other, said, called)
    match wrong:
        case "thread":
            thread, told = other, "there is a thread with the id"
            messages = [replace(each, thread_id=other.id) for each in messages]
        case "message":
            messages, told = [*messages, replace(said[0], thread_id=thread.id)], "there is a message with the id"
        case "call":
            calls, told = [*calls, replace(calls[0], id=called[0].id)], "there is a tool call with the id"
        case "elsewhere":
            messages, told = [*messages, make.message()], "is not of the thread"
        case "nowhere":
            calls, told = [*calls, replace(called[0], id=make.clock.new_id())], "is of no message"
        case "open":
            calls, told = [*calls, replace(calls[0], id=make.clock.new_id(), status=CallStatus.STARTED)], "no result"

    with pytest.raises(StoreError, match=told):
        await store.add_conversation(thread, messages, calls)
    assert await store.threads() == [other]
    counts = await store.counts()
    assert (counts.threads, counts.messages) == (1, 2)
    assert list(await store.sql("SELECT count(*) FROM tool_calls")) == [(1,)]


async def test_messages_are_in_the_order_in_which_they_were_stored(store, make):
    thread = make.thread()
    tomorrow = make.now() + timedelta(days=1)
    first = await store.add_message(replace(make.message(thread.id), inserted_at=tomorrow))
    await store.add_message(make.message())
    second = await store.add_message(make.message(thread.id, parent_id=first.id, usage={"model": "é"}, reasoning="hm"))
    third = await store.add_message(make.message(thread.id, source="panel", role="tool"))

    assert first.seq < second.seq < third.seq
    assert await store.messages(thread.id) == [first, second, third]
    assert await store.messages(thread.id, last=2) == [second, third]
    assert await store.messages(thread.id, last=0) == []
    assert await store.message(second.id) == second


async def test_a_time_is_returned_as_the_same_moment_in_utc(store, make):
    noon_in_delhi = datetime(2026, 5, 1, 12, 0, 0, 123456, tzinfo=timezone(timedelta(hours=5, minutes=30)))
    message = await store.add_message(replace(make.message(), inserted_at=noon_in_delhi))
    kept = await store.message(message.id)

    assert kept.inserted_at == noon_in_delhi
    assert kept.inserted_at.utcoffset() == timedelta(0)
    with pytest.raises(StoreError, match="has no zone"):
        await store.add_message(replace(make.message(), inserted_at=datetime(2026, 5, 1)))  # noqa: DTZ001  On purpose.


async def test_j7_a_message_sent_twice_is_stored_once_with_its_first_jobs(store, make):
    message = make.message()
    job = make.job(message)
    first = await store.enqueue(message, [job])
    second = await store.enqueue(replace(message, content="changed"), [make.job(message)])

    assert second == first
    assert await store.messages(message.thread_id) == [first[0]]
    assert await store.jobs() == first[1]


async def test_a_message_is_not_stored_without_its_jobs(store, make):
    message = make.message()

    with pytest.raises(StoreError, match="surrogate"):
        await store.enqueue(message, [make.job(message), make.job(message, model="\ud800")])
    assert await store.messages(message.thread_id) == await store.jobs() == []


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
async def test_g7_hostile_text_is_returned_unchanged(store, make, text):
    message = await store.add_message(make.message(content=text, usage={text[:99]: text[:99]}))
    call = await store.start_call(make.call(message, arguments={"command": text}))
    await store.finish_call(replace(call, status=CallStatus.OK, result=text, finished_at=make.now()))

    assert await store.messages(message.thread_id) == [message]
    (kept,) = await store.tool_calls(message.thread_id)
    assert kept.result == kept.arguments["command"] == text


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
async def test_g7_hostile_names_and_searches_are_never_run_as_sql(store, make, text):
    text = text[:900]
    agent = await store.add_agent(make.agent(text, description=text, system_prompt=text))
    thread = await store.add_thread(make.thread(text))
    message = make.message(thread.id, content=text)
    message, [job] = await store.enqueue(message, [make.job(message, model=text)])
    failed = await store.fail(job, text, make.now())
    found = await store.search(text, 5)

    assert (await store.agents(), await store.threads()) == ([agent], [thread])
    assert (await store.messages(thread.id), await store.jobs()) == ([message], [failed])
    assert (failed.reason, failed.model) == (text, text)
    assert len(found) == 2  # the title and the message


@pytest.mark.parametrize("field", ["content", "reasoning", "usage"])
async def test_g7_half_a_surrogate_pair_is_refused_by_name(store, make, field):
    value = {"a": "\udc00"} if field == "usage" else "\udc00"

    with pytest.raises(StoreError, match=r"\\udc00, half of a surrogate pair"):
        await store.add_message(make.message(**{field: value}))


async def test_values_that_json_cannot_hold_are_refused(store, make):
    with pytest.raises(StoreError, match="cannot be stored as JSON"):
        await store.start_call(make.call(make.message(), arguments={"a": object()}))


async def test_arguments_keep_the_order_of_their_names(store, make):
    message = await store.add_message(make.message())
    await store.start_call(make.call(message, arguments={"b": 1, "a": {"d": 1, "c": 2}}))
    (kept,) = await store.tool_calls(message.thread_id)

    assert json.dumps(kept.arguments) == '{"b": 1, "a": {"d": 1, "c": 2}}'


async def test_a_tool_call_is_started_then_has_its_first_result(store, make):
    message = await store.add_message(make.message())
    call = await store.start_call(make.call(message))
    other = await store.start_call(make.call(message))
    again = await store.start_call(replace(call, seq=0, name="changed"))
    await store.start_call(make.call(await store.add_message(make.message())))

    assert call.seq < other.seq
    assert again == call
    assert await store.tool_calls(message.thread_id) == [call, other]

    done = replace(call, status=CallStatus.OK, result="3 files", finished_at=make.now())

    assert await store.finish_call(done) == done
    assert await store.finish_call(replace(done, status=CallStatus.FAILED, result="late")) == done
    assert await store.tool_calls(message.thread_id) == [done, other]


async def test_a_queued_job_is_claimed_once(store, make):
    message = make.message()
    _, (job,) = await store.enqueue(message, [make.job(message)])
    now = make.now()
    requests = {owner: make.clock.new_id() for owner in ("one", "two", "three")}
    claims = await asyncio.gather(*(store.claim_next(id_, owner, [job.id], now) for owner, id_ in requests.items()))

    begun = {"owner": "one", "request_id": requests["one"], "started_at": now}
    claimed = replace(job, status=JobStatus.RUNNING, attempt=1, **begun)
    assert claims == [claimed, None, None]
    assert await store.jobs() == [claimed]


async def test_the_answer_and_the_end_of_the_job_are_stored_together(store, make, running):
    job = await running()
    now = make.now()
    done, answer, asked, note = await store.ack(job, make.answer(job), now)

    assert done == replace(job, status=JobStatus.DONE, finished_at=now)
    assert (asked, note) == ([], None)
    assert await store.jobs(JobStatus.DONE) == [done]
    assert (await store.messages(job.thread_id))[-1] == answer
    assert await store.claim_next(make.clock.new_id(), "kernel", [job.id], make.now()) is None


async def test_delegated_jobs_and_the_note_are_stored_with_the_answer_in_order(store, make, running):
    job = await running()
    answer = make.answer(job)
    asked = [make.job(answer, hops=1), make.job(answer, hops=1)]
    note = make.message(job.thread_id, role="system", content="two were asked", parent_id=answer.id)
    kept = await store.ack(job, answer, make.now(), asked=asked, note=note)

    assert await store.messages(job.thread_id) == [await store.message(job.message_id), kept.answer, kept.note]
    assert (kept.note.content, kept.note.seq) == ("two were asked", kept.answer.seq + 1)
    assert await store.jobs(JobStatus.QUEUED) == kept.asked
    assert [(each.id, each.hops, each.seq) for each in kept.asked] == [
        (asked[0].id, 1, job.seq + 1),
        (asked[1].id, 1, job.seq + 2),
    ]


async def test_an_answer_is_stored_completely_or_not_at_all(store, make, running):
    job = await running()
    answer = make.answer(job)
    asked = [make.job(answer), make.job(answer, model="\ud800")]

    with pytest.raises(StoreError, match="surrogate"):
        await store.ack(job, answer, make.now(), asked=asked, note=make.message(job.thread_id))
    assert len(await store.messages(job.thread_id)) == 1
    assert await store.jobs() == [job]
    assert (await store.ack(job, answer, make.now())).answer.seq == 2


async def test_j2_an_answer_from_an_owner_that_lost_the_job_is_not_stored(store, make, running):
    job = await running("dead kernel")
    await store.recover((), 3, make.now())
    taken = await store.claim_next(make.clock.new_id(), "new kernel", [job.id], make.now())

    with pytest.raises(StoreError, match="is run by 'new kernel' now"):
        await store.ack(job, make.answer(job), make.now())
    assert len(await store.messages(job.thread_id)) == 1
    assert await store.jobs() == [taken]

    await store.cancel(taken, make.now())

    with pytest.raises(StoreError, match="is cancelled already"):
        await store.ack(taken, make.answer(taken), make.now())
    assert len(await store.messages(job.thread_id)) == 1


@pytest.mark.parametrize(
    ("verb", "status", "reason", "result"),
    [("fail", JobStatus.FAILED, "no model", "no model"), ("cancel", JobStatus.CANCELLED, None, "cancelled")],
)
async def test_a_job_that_fails_or_is_cancelled_leaves_no_open_call(store, make, running, verb, status, reason, result):
    job = await running()
    bystander = await running(thread_id=job.thread_id)
    asked = await store.add_message(make.answer(job))
    returned = await store.start_call(make.call(asked))
    returned = await store.finish_call(replace(returned, status=CallStatus.OK, result="ok", finished_at=make.now()))
    started = await store.start_call(make.call(asked))
    elsewhere = await store.start_call(make.call(await store.add_message(make.answer(bystander))))
    now = make.now()
    ended = await (store.fail(job, reason, now) if verb == "fail" else store.cancel(job, now))

    assert ended == replace(job, status=status, reason=reason, finished_at=now)
    assert await store.jobs() == [ended, bystander]
    owed = replace(started, status=CallStatus.FAILED, result=result, finished_at=now)
    assert await store.tool_calls(job.thread_id) == [returned, owed, elsewhere]


async def test_a_job_that_has_ended_stays_as_it_ended(store, make, running):
    job = await running()
    done, *_ = await store.ack(job, make.answer(job), make.now())

    assert await store.fail(job, "late", make.now()) == done
    assert await store.cancel(job, make.now()) == done
    with pytest.raises(StoreError, match="is done; only a failed or cancelled one"):
        await store.retry(job)
    assert await store.jobs() == [done]


async def test_a_queued_job_can_be_cancelled_and_retried(store, make):
    message = make.message()
    _, (job,) = await store.enqueue(message, [make.job(message)])

    with pytest.raises(StoreError, match="is queued; only a failed"):
        await store.retry(job)
    cancelled = await store.cancel(job, make.now())
    assert cancelled.status is JobStatus.CANCELLED
    assert await store.retry(cancelled) == job


async def test_a_retried_job_gets_all_its_attempts_again(store, make, running):
    job = await running()
    failed = await store.fail(job, "no model", make.now())
    again = await store.retry(replace(failed, model="better"))

    assert again == replace(job, model="better", status=JobStatus.QUEUED, attempt=0, request_id=None, started_at=None)
    assert await store.jobs(JobStatus.QUEUED) == [again]


async def test_j3_a_job_of_a_dead_kernel_is_requeued_until_it_used_its_attempts(store, make, running):
    job = await running()
    started = await store.start_call(make.call(await store.add_message(make.answer(job))))
    waiting = make.message()
    _, (queued,) = await store.enqueue(waiting, [make.job(waiting)])
    finished = await running()
    done, *_ = await store.ack(finished, make.answer(finished), make.now())
    now = make.now()
    (recovered,) = await store.recover((), 2, now)

    assert recovered == replace(job, status=JobStatus.QUEUED, request_id=None, started_at=None)
    assert await store.jobs() == [recovered, queued, done]
    text = "outcome unknown: the kernel stopped while it ran"
    unknown = replace(started, status=CallStatus.UNKNOWN, result=text, finished_at=now)
    assert await store.tool_calls(job.thread_id) == [unknown]

    second = await store.claim_next(make.clock.new_id(), "kernel", [job.id], make.now())
    assert second is not None
    now = make.now()
    (failed,) = await store.recover((), 2, now)

    assert second.attempt == 2
    reason = "the kernel stopped 2 times while this job ran"
    assert failed == replace(second, status=JobStatus.FAILED, reason=reason, finished_at=now)
    assert await store.recover((), 2, make.now()) == []


async def test_a_released_job_is_requeued_and_that_attempt_does_not_count(store, make, running):
    job = await running()
    started = await store.start_call(make.call(await store.add_message(make.answer(job))))
    now = make.now()

    released = await store.release(job, now)

    assert released == replace(job, status=JobStatus.QUEUED, attempt=0, request_id=None, started_at=None)
    assert await store.release(job, make.now()) == released
    [call] = await store.tool_calls(job.thread_id)
    assert (call.id, call.status, call.finished_at) == (started.id, CallStatus.UNKNOWN, now)
    assert (await store.claim_next(make.clock.new_id(), "kernel", [job.id], make.now())).attempt == 1


async def test_only_the_owner_releases_a_job_and_never_an_ended_one(store, make, running):
    first, second = await running(), await running()
    await store.recover((), 3, make.now())
    taken = await store.claim_next(make.clock.new_id(), "another", [first.id], make.now())
    cancelled = await store.cancel(second, make.now())

    assert await store.release(first, make.now()) == taken
    assert await store.release(second, make.now()) == cancelled


async def test_jobs_are_oldest_first_and_known_by_status_and_thread(store, make, running):
    first, second, third = await running(), await running(), await running()
    failed = await store.fail(second, "no", make.now())
    done, *_ = await store.ack(third, make.answer(third), make.now())

    assert await store.jobs() == [first, failed, done]
    assert await store.jobs(JobStatus.DONE, JobStatus.RUNNING) == [first, done]
    assert await store.jobs(thread_id=second.thread_id) == [failed]
    assert await store.jobs(JobStatus.RUNNING, thread_id=second.thread_id) == []


async def test_a_job_is_known_by_its_id_and_the_last_jobs_are_given_oldest_first(store, make, running):
    first, second, third = await running(), await running(), await running()

    assert await store.job(second.id) == second
    assert await store.jobs(last=2) == [second, third]
    assert await store.jobs(JobStatus.RUNNING, thread_id=first.thread_id, last=5) == [first]
    assert await store.jobs(last=0) == []
    with pytest.raises(NotFoundError, match="no job with the id"):
        await store.job(make.clock.new_id())


async def test_jobs_are_added_to_a_message_that_is_kept_already_and_once(store, make):
    message = await store.add_message(make.message())
    jobs = [make.job(message, hops=2), make.job(message)]
    added = await store.add_jobs(jobs)

    assert added == [replace(jobs[0], seq=1), replace(jobs[1], seq=2)]
    assert await store.add_jobs(jobs) == added
    assert await store.jobs() == added


@pytest.mark.parametrize("count", [1, 6, 12, 13, 32])
async def test_messages_and_jobs_are_found_by_the_last_digits_of_their_ids(store, make, count):
    message = make.message()
    kept, (job, _) = await store.enqueue(message, [make.job(message), make.job(message)])
    others = [await store.add_message(make.message()) for _ in range(20)]
    digits = message.id.hex[-count:]

    alike = [each for each in [kept, *others] if each.id.hex.endswith(digits)]
    assert await store.messages_ending(digits) == alike
    assert job in await store.jobs_ending(job.id.hex[-count:])
    assert await store.jobs_ending("g") == await store.messages_ending("%") == []


async def test_counts_tell_how_much_is_kept(store, make, running):
    empty = await store.counts()
    await store.add_agent(make.agent())
    await store.add_thread(make.thread())
    job = await running()
    await running()
    await store.ack(job, make.answer(job), make.now())
    counts = await store.counts()

    assert (empty.agents, empty.threads, empty.messages) == (0, 0, 0)
    assert empty.jobs == dict.fromkeys(JobStatus, 0)
    assert (counts.agents, counts.threads, counts.messages) == (1, 1, 3)
    assert counts.jobs == dict.fromkeys(JobStatus, 0) | {JobStatus.RUNNING: 1, JobStatus.DONE: 1}


async def test_unstarted_approved_calls_are_returned_with_their_decisions(store, make):
    thread = make.thread()
    questions, jobs, answers = [], [], []
    for _ in range(3):
        asked = make.message(thread.id, parent_id=questions[-1].id if questions else None)
        question, (job,) = await store.enqueue(asked, [make.job(asked)])
        questions.append(question)
        jobs.append(job)
    for job in jobs:
        claimed = await store.claim_next(make.clock.new_id(), "kernel", [job.id], make.now())
        answers.append((await store.ack(claimed, make.answer(job), make.now())).answer)

    told = MessageTree(await store.messages(thread.id), await store.jobs(thread_id=thread.id)).branch()
    assert told == [each for pair in zip(questions, answers, strict=True) for each in pair]


async def test_a_write_whose_caller_is_cancelled_is_stored_completely(store, make):
    complaints = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    message = make.message()
    waiting = asyncio.ensure_future(store.enqueue(message, [make.job(message)]))
    await asyncio.sleep(0)  # it has handed the write over
    waiting.cancel()
    await asyncio.wait([waiting])

    assert waiting.cancelled()
    assert [each.id for each in await store.messages(message.thread_id)] == [message.id]
    assert len(await store.jobs()) == 1
    assert complaints == []


async def test_sql_returns_tuples_and_column_names(store, make):
    message = await store.add_message(make.message(content="é"))
    rows = await store.sql("SELECT content, seq, id FROM messages")

    assert rows.columns == ("content", "seq", "id")
    assert list(rows) == [("é", message.seq, message.id)]


async def test_a_store_that_is_closed_says_so_and_closes_twice(store, make):
    await store.close()
    await store.close()
    store.close_now(5)

    with pytest.raises(StoreError, match="is closed"):
        await store.add_message(make.message())
    with pytest.raises(StoreError, match="is closed"):
        await store.sql("SELECT 1")


async def test_a_reopened_file_has_all_rows_and_continues_its_seq(make, tmp_path):
    store = DuckDBStore(tmp_path / "piano.duckdb")
    await store.open()
    agent = await store.add_agent(make.agent(enabled_tools=("bash",)))
    thread = await store.add_thread(make.thread())
    message, (job,) = await store.enqueue(asked := make.message(thread.id), [make.job(asked)])
    running = await store.claim_next(make.clock.new_id(), "kernel", [job.id], make.now())
    call = await store.start_call(make.call(message))
    await store.close()
    await store.open()

    assert await store.agents() == [agent]
    assert await store.threads() == [thread]
    assert await store.messages(thread.id) == [message]
    assert await store.jobs() == [running]
    assert await store.tool_calls(thread.id) == [call]
    assert (await store.add_message(make.message())).seq == message.seq + 1
    await store.close()


async def test_a_thread_is_deleted_with_all_that_is_in_it_and_the_others_stay(store, make, running):
    gone, kept = await store.add_thread(make.thread("gone")), await store.add_thread(make.thread("kept"))
    for thread in (gone, kept):
        job = await running(thread_id=thread.id)
        said = await store.add_message(make.answer(job))
        call = await store.start_call(make.call(said))
        await store.finish_call(replace(call, status=CallStatus.OK, result="3 files", finished_at=make.now()))
        asked = await store.request_approval(approval_of(make, job, said))
        await store.decide_approval(replace(asked, allowed=True, note="yes", decided_at=make.now()))
        await store.ack(job, make.answer(job), make.now())

    await store.delete_threads([gone.id])

    tables = ("threads", "messages", "tool_calls", "tool_results", "approvals", "decisions", "jobs")
    left = {table: len(await store.sql(f"FROM {table}")) for table in tables}
    assert left == {name: 3 if name == "messages" else 1 for name in tables}
    assert await store.threads() == [kept]
    assert await store.messages(gone.id) == []
    assert len(await store.messages(kept.id)) == 3
    assert await store.erase([gone.id]) == []
    await store.compact()
    assert len(await store.messages(kept.id)) == 3


def approval_of(make, job, said):
    call = make.call(said)
    return Approval(
        id=make.clock.new_id(),
        call_id=call.id,
        message_id=said.id,
        job_id=job.id,
        thread_id=job.thread_id,
        name=call.name,
        arguments=call.arguments,
        digest="d",
        question="may I?",
        reason="it asks",
        always="",
        requested_at=make.now(),
    )


async def test_a_thread_in_which_a_job_runs_is_not_deleted(store, make, running):
    thread, other = await store.add_thread(make.thread()), await store.add_thread(make.thread())
    job = await running(thread_id=thread.id)

    with pytest.raises(StoreError, match="runs in this thread: wait for it, or cancel it first"):
        await store.delete_threads([other.id, thread.id])

    assert await store.threads() == [other, thread]
    await store.cancel(job, make.now())
    asked = make.message(thread.id)
    _, [waiting] = await store.enqueue(asked, [make.job(asked)])
    with pytest.raises(StoreError, match="waits in this thread: wait for it, or cancel it first"):
        await store.delete_threads([other.id, thread.id])
    await store.cancel(waiting, make.now())
    await store.delete_threads([other.id, thread.id])
    assert await store.threads() == []
    assert await store.jobs() == []


async def test_a_copy_holds_what_was_kept_and_what_is_only_in_memory_has_none(store, make, tmp_path):
    thread = await store.add_thread(make.thread("copied"))

    file = await store.backup()
    await store.add_thread(make.thread("after"))

    if not file:
        assert (await store.sql("SELECT current_database()"))[0] == ("memory",)
        return
    copy = DuckDBStore(file)
    await copy.open()
    assert await copy.threads() == [thread]
    await copy.close()
