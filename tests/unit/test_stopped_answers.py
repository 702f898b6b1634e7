"""The text of an answer that was stopped is kept, and the branch that the user chose."""

import asyncio
from functools import partialmethod

import pytest

from piano_jupyter import Piano, PianoError
from piano_jupyter.errors import ModelError, StoreError
from piano_jupyter.events import BranchChosen, JobCancelled, MessageDelta
from piano_jupyter.jupyter.render.stopped_answers import stopped_lines, with_stopped_answers
from piano_jupyter.pipeline import consumer
from piano_jupyter.records import JobStatus
from piano_jupyter.store.masking_store import MaskingStore
from piano_jupyter.testing import Delta


def contents(messages):
    return [message.content for message in messages]


async def begun(piano, text="one"):
    """Ask, and return the job once a piece of its answer was written."""
    events = piano.events()
    job = await piano.send(text)
    async with asyncio.timeout(10):
        async for event in events:
            if isinstance(event, MessageDelta):
                break
    return job


async def test_the_text_of_a_cancelled_answer_is_kept_and_models_read_only_that_it_was_stopped(tmp_path, scripted):
    model = scripted(asyncio.Event(), "next")
    async with Piano(database=":memory:", workspace=tmp_path, model=model) as piano:
        await piano.cancel(await begun(piano))

        [job] = await piano.jobs()
        assert (job.status, job.partial) == (JobStatus.CANCELLED, "…")
        await piano.ask("two")

    assert contents_of(model.requests[-1])[1:] == ["one", "(stopped by the user, not answered)", "two"]


def contents_of(request):
    return [message["content"] for message in request.messages]


async def test_the_text_of_an_answer_that_fails_in_the_middle_is_kept_until_the_job_starts_again(tmp_path, scripted):
    async def fails(_):
        yield Delta(text="half an answ")
        raise ModelError("the server has gone")

    model = scripted()
    model.stream, stream = fails, model.stream
    async with Piano(database=":memory:", workspace=tmp_path, model=model) as piano:
        with pytest.raises(PianoError, match="has gone"):
            await piano.ask("one")
        [job] = await piano.jobs()
        assert (job.status, job.partial) == (JobStatus.FAILED, "half an")  # a word may be a secret until it is whole

        model.stream, model.script[:] = stream, ["all of it"]
        await piano.wait(await piano.retry(job))
        assert (await piano.jobs())[0].partial == ""


async def test_the_text_is_there_after_the_kernel_was_stopped(tmp_path, scripted):
    database = tmp_path / "piano.duckdb"
    async with Piano(
        database=database, workspace=tmp_path, model=scripted(asyncio.Event()), shutdown_timeout=0
    ) as piano:
        await begun(piano)

    async with Piano(database=database, workspace=tmp_path, model=scripted()) as piano:
        [job] = await piano.jobs()
        assert (job.status, job.partial) == (JobStatus.QUEUED, "…")
        messages = await piano.messages(await piano.find_thread("one"))

    shown = with_stopped_answers(messages, [job])
    assert contents(shown) == ["one", "…"]
    assert stopped_lines([job]) == {shown[1].id: ["(stopped; the job waits in the queue)"]}


async def test_an_answer_that_was_given_later_stands_alone(tmp_path, scripted):
    model = scripted(asyncio.Event(), "all of it")
    async with Piano(database=":memory:", workspace=tmp_path, model=model) as piano:
        await piano.cancel(await begun(piano))
        [question] = await piano.messages(piano.thread)
        [job] = await piano.regenerate(question)
        await piano.wait(job)

        assert contents(with_stopped_answers(await piano.messages(piano.thread), await piano.jobs())) == [
            "one",
            "all of it",
        ]


async def test_a_chosen_branch_is_continued_also_by_a_kernel_that_is_started_again(tmp_path, scripted):
    database = tmp_path / "piano.duckdb"
    async with Piano(database=database, workspace=tmp_path, model=scripted("old", "old later", "new")) as piano:
        await piano.ask("one")
        await piano.ask("one and")
        question = (await piano.messages(piano.thread))[0]
        [job] = await piano.edit(question, "two")
        await piano.wait(job)

        await piano.choose_branch(question)

        assert contents(await piano.messages(piano.thread)) == ["one", "old", "one and", "old later"]
        assert [event.message_id for _, event in piano.recent_events() if isinstance(event, BranchChosen)]

    model = scripted("continued")
    async with Piano(database=database, workspace=tmp_path, model=model) as piano:
        await piano.ask("go on", thread=(await piano.threads())[0])

        assert contents_of(model.requests[0])[1:] == ["one", "old", "one and", "old later", "go on"]


async def test_the_end_of_a_job_that_could_not_be_stored_is_stored_once_it_can_be(monkeypatch, scripted):
    monkeypatch.setattr(consumer, "RETRY_DELAY_S", 0)
    errors, stored = [StoreError("the disk is full")] * 2, asyncio.Event()
    cancel, fail = MaskingStore.cancel, MaskingStore.fail

    async def full_at_first(store, *arguments, end=cancel):
        if errors:
            raise errors.pop()
        ended = await end(store, *arguments)
        stored.set()
        return ended

    monkeypatch.setattr(MaskingStore, "cancel", full_at_first)
    monkeypatch.setattr(MaskingStore, "fail", partialmethod(full_at_first, end=fail))
    async with Piano(database=":memory:", model=scripted()) as piano:
        await piano.stop()
        job = await piano.cancel(await piano.send("never mind"))
        assert (job.status, "that could not be stored: the disk is full" in job.reason) == ("failed", True)
        await stored.wait()

        assert (await piano.find_job(job)).reason == job.reason


async def test_a_delegated_job_that_another_notebook_cancels_before_it_is_known_to_be_stored_is_not_queued(
    monkeypatch, scripted
):
    real = MaskingStore.ack

    async with Piano(database=":memory:", model=scripted("@bob, is it so?")) as piano:

        async def overtaken(store, job, *arguments, **options):
            acked = await real(store, job, *arguments, **options)
            [asked] = acked.asked
            cancelled = await store.cancel(asked, asked.inserted_at)
            piano.bus.publish(JobCancelled(thread_id=job.thread_id, job=cancelled))
            return acked

        monkeypatch.setattr(MaskingStore, "ack", overtaken)
        await piano.add_agent("bob")
        await piano.ask("one")
        async with asyncio.timeout(20):
            await piano.drain()

        assert [each.status for each in await piano.jobs()] == [JobStatus.DONE, JobStatus.CANCELLED]
