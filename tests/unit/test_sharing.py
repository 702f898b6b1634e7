"""Several notebooks on one history: each is a Piano of its own here; the store process is a real one."""

import asyncio
import os
import signal
from contextlib import AsyncExitStack
from dataclasses import replace
from functools import partial

import pytest
from store_processes import started
from store_servers import CONNECT, NO_DELAYS, ended

from piano_jupyter import Notebook, Piano, PianoError, tool
from piano_jupyter.events import (
    AgentAdded,
    ApprovalDecided,
    ApprovalRequested,
    EventsMissed,
    JobCancelled,
    JobDone,
    JobQueued,
    JobStarted,
    MessageDelta,
    ThreadOpened,
)
from piano_jupyter.pipeline.event_relay import EventRelay
from piano_jupyter.pipeline.job_results import JobResults
from piano_jupyter.pipeline.refresher import Refresher
from piano_jupyter.records import JobStatus
from piano_jupyter.store.masking_store import MaskingStore
from piano_jupyter.store.server import workspace_store
from piano_jupyter.store.server.remote_store import RemoteStore
from piano_jupyter.testing import ScriptedModel, echo, tool_call
from piano_jupyter.tool import NeedsApproval

DEADLINE_S = 20
#: Asks an agent in a thread, claims the job and begins a tool call, all without an event; then waits to be killed.
UNHEARD = """
from dataclasses import replace
from uuid import UUID
from piano_jupyter.records import ToolCall
async def work(thread, agent):
    store = RemoteStore(path, owner="unheard")
    await store.open()
    asked = replace(message("launch"), thread_id=thread)
    _, [queued] = await store.enqueue(asked, [replace(job(asked), agent_id=agent)])
    claimed = await store.claim_next(clock.new_id(), "unheard", [queued.id], clock.now())
    said = replace(message(""), thread_id=thread, role="assistant", agent_id=agent, job_id=queued.id)
    await store.add_message(said, claimed)
    call = ToolCall(id=clock.new_id(), message_id=said.id, name="launch", arguments={}, started_at=clock.now())
    await store.start_call(call, claimed)
    print(queued.id, flush=True)
    await asyncio.to_thread(input)
"""


@pytest.fixture
def database(tmp_path):
    return tmp_path / "piano.duckdb"


@pytest.fixture
async def notebooks(database, monkeypatch):
    """Open Pianos on one file, each as a notebook of its own, known by its name and with the script of its model."""
    monkeypatch.setenv("PIANO_SHARE", "1")
    async with AsyncExitStack() as stack:

        async def opened(name, *script, **settings):
            model = ScriptedModel(script, answer=echo)
            piano = Piano(
                database=database,
                model=model,
                notebook=Notebook(f"kernel-of-{name}", f"/notes/{name}.ipynb"),
                **settings,
            )
            piano.model = model
            await piano.open()
            stack.push_async_callback(piano.close)
            return piano

        async with asyncio.timeout(DEADLINE_S):
            yield opened


async def killed_store_process(database):
    """Kill the store process of a database, and return once it is gone."""
    client = RemoteStore(database)
    await client.open()
    os.kill(client.server_pid, signal.SIGKILL)
    await ended(client.server_pid)
    await client.close()


async def first(events, kind):
    """Return the next event of a kind."""
    async for event in events:
        if isinstance(event, kind):
            return event
    return None


async def test_two_notebooks_see_each_other_s_threads_messages_and_agents(notebooks):
    a, b = await notebooks("a"), await notebooks("b")
    events = b.events()
    answer = await a.ask("hello from a")
    await first(events, JobDone)

    assert [thread.title for thread in await b.threads()] == ["hello from a"]
    assert [each.content for each in await b.messages(a.thread)] == ["hello from a", answer.content]
    assert b.thread is None  # each notebook has a current thread of its own
    await b.messages(a.thread)
    await a.ask("again")
    await first(events, JobDone)
    assert len(await b.messages(a.thread)) == 4

    await a.add_agent("ada")
    await first(events, AgentAdded)
    assert (await b.ask("hello", agent="ada")).content
    assert (await a.status()).others == ["/notes/b.ipynb"]


async def test_a_thread_that_another_notebook_forked_or_imported_is_not_taken_for_empty(notebooks):
    a, b = await notebooks("a"), await notebooks("b")
    events = b.events()
    answer = await a.ask("hello from a")
    exported = await a.export(a.thread, "jsonl")
    for copying in (a.fork_thread(answer), a.import_thread(exported)):
        copy = await copying
        while (await first(events, ThreadOpened)).thread.id != copy.id:
            pass
        assert [each.content for each in await b.messages(copy)] == ["hello from a", answer.content]


async def test_a_change_of_a_thread_keeps_what_another_notebook_changed_of_it(notebooks):
    a, b = await notebooks("a"), await notebooks("b")
    thread = await a.open_thread("old")
    await b.rename_thread(thread, "new")
    archived = await a.archive_thread(thread)
    assert (archived.title, archived.status) == ("new", "archived")
    assert await b.threads() == [archived]


async def test_a_thread_that_was_deleted_unheard_gets_no_question(notebooks, database):
    a = await notebooks("a")
    thread = await a.open_thread("soon gone")
    events, unheard = a.events(), RemoteStore(database)
    await unheard.open()
    await unheard.delete_threads([thread.id])
    with pytest.raises(PianoError, match="was deleted; ask in another one"):
        await a.ask("there?")
    await unheard.close()  # which has a look at what is kept
    await first(events, EventsMissed)

    assert a.thread is None
    assert (await a.ask("elsewhere")).content
    assert [each.title for each in await a.threads()] == ["elsewhere"]


async def test_pieces_of_an_answer_arrive_in_the_other_notebook_while_it_is_written(notebooks):
    held = asyncio.Event()
    a, b = await notebooks("a", held, "the end"), await notebooks("b")
    events = b.events()
    job = await a.send("slowly")
    await first(events, JobStarted)
    held.set()
    assert (await first(events, MessageDelta)).job_id == job.id
    assert (await b.wait(job)).content == (await a.wait(job)).content


async def test_each_job_runs_in_the_notebook_that_sent_it(notebooks):
    a, b = await notebooks("a"), await notebooks("b")
    await asyncio.gather(*(each.ask(f"{n}") for n in range(5) for each in (a, b)))

    owners = {job.notebook.name: {job.owner} for job in await a.jobs()}
    assert set(owners) == {"/notes/a.ipynb", "/notes/b.ipynb"}
    assert owners["/notes/a.ipynb"] != owners["/notes/b.ipynb"]
    assert {job.status for job in await b.jobs()} == {JobStatus.DONE}


async def test_an_approval_may_be_given_in_the_other_notebook_and_the_first_answer_counts(notebooks):
    @tool(asks=True)
    def secret() -> str:
        """Return the secret."""
        return "42"

    a = await notebooks("a", tool_call("secret"), "done", tools=[secret])
    b = await notebooks("b")
    await a.update_agent("Assistant", enabled_tools=["secret"])
    events = b.events()
    job = await a.send("what is it?")
    request = await first(events, ApprovalRequested)

    late = await notebooks("late")
    assert [each.id for each in await late.approvals()] == [request.id]
    assert await b.approvals(here=True) == []
    assert await b.approve(request, always=True)
    assert (await first(events, ApprovalDecided)).note == "always"
    assert (await a.wait(job)).content == "done"
    assert not await a.deny(request)
    assert await a.approvals() == await b.approvals() == await late.approvals() == []
    assert request.always in a.config.rules
    assert request.always not in b.config.rules  # which may have another workspace


async def test_an_approval_that_was_given_unheard_counts_at_once(notebooks, database):
    @tool(asks=True)
    def secret() -> str:
        """Return the secret."""
        return "42"

    a = await notebooks("a", tool_call("secret"), "done", tools=[secret])
    await a.update_agent("Assistant", enabled_tools=["secret"])
    events, unheard = a.events(), RemoteStore(database)
    job = await a.send("what is it?")
    await first(events, ApprovalRequested)
    await unheard.open()
    [asked] = await unheard.open_approvals(job.id)
    await unheard.decide_approval(replace(asked, allowed=True, note="yes", decided_at=asked.requested_at))
    await unheard.close()  # which has a look at what is kept

    assert (await a.wait(job)).content == "done"
    assert [call.result for call in await a.tool_calls(a.thread)] == ["42"]


async def test_what_a_tool_may_do_more_is_approved_in_another_notebook_that_was_opened_later(notebooks):
    @tool
    def act() -> NeedsApproval:
        """Do something."""

        async def accept():
            return "and the rest"

        async def refuse():
            return "and nothing more"

        return NeedsApproval(
            text="did it", question="may it do the rest?", reason="it is much", accept=accept, refuse=refuse
        )

    a = await notebooks("a", tool_call("act"), "done", tools=[act])
    await a.update_agent("Assistant", enabled_tools=["act"])
    events = a.events()
    job = await a.send("do it")
    request = await first(events, ApprovalRequested)
    b = await notebooks("b")

    assert [each.id for each in await b.approvals()] == [request.id]
    assert await b.approve((await b.approvals())[0])
    assert not await a.deny(request)
    await a.wait(job)
    assert [call.result for call in await a.tool_calls(a.thread)] == ["did it\nand the rest"]
    assert await b.approvals() == []


async def test_a_job_that_runs_elsewhere_is_cancelled_there(notebooks):
    held = asyncio.Event()
    a, b = await notebooks("a", held, "never"), await notebooks("b")
    events = b.events()
    job = await a.send("slowly")
    await first(events, JobStarted)
    assert (await b.cancel(job)).status is JobStatus.CANCELLED
    with pytest.raises(PianoError, match="cancelled"):
        await a.wait(job)
    await a.drain()
    assert (await a.ask("next", thread=await a.open_thread("other"))).content


async def test_questions_that_are_asked_at_once_in_one_thread_follow_each_other(notebooks):
    a, b = await notebooks("a"), await notebooks("b")
    thread, events = await a.open_thread("together"), a.events()
    await asyncio.gather(*(each.ask(f"{each.notebook.id} {n}", thread=thread) for n in range(6) for each in (a, b)))
    ends = [await first(events, JobDone) for _ in range(12)]
    assert len({end.job_id for end in ends}) == 12
    said = await a.messages(thread)
    assert len(said) == 24
    assert len([each for each in said if each.role == "user"]) == 12
    assert [each.id for each in said] == [each.id for each in await b.messages(thread)]


async def test_a_notebook_continues_its_own_thread_after_its_kernel_was_started_again(notebooks):
    a = await notebooks("a")
    await a.ask("of a")
    b = await notebooks("b")
    await b.ask("of b")
    await a.close()
    again = await notebooks("a")

    assert (again.thread.title, b.thread.title) == ("of a", "of b")
    assert [each.title for each in await again.threads(here=True)] == ["of a"]


async def test_the_jobs_of_a_notebook_that_is_gone_are_resumed_here_when_asked(notebooks):
    a = await notebooks("a")
    await a.stop()
    job = await a.send("left behind")
    b = await notebooks("b")
    with pytest.raises(PianoError, match=r"a\.ipynb, which is open"):
        await b.resume(job)
    await a.close()

    [(left, why)] = await b.unfinished()
    assert (left.id, "a.ipynb, is gone; %piano resume" in why) == (job.id, True)
    await b.ask("something else")  # which resumes only what this notebook left
    assert (await b.find_job(job)).status is JobStatus.QUEUED
    assert await b.resume(job) == []
    assert (await b.wait(job)).content
    assert (await b.find_job(job)).notebook == b.notebook


async def test_nobody_goes_on_waiting_for_a_job_whose_notebook_is_gone(notebooks):
    held = asyncio.Event()
    a, b = await notebooks("a", held, "never", shutdown_timeout=0.0), await notebooks("b")
    events = b.events()
    job = await a.send("slowly")
    await first(events, JobStarted)
    waiting = asyncio.create_task(b.wait(job))
    await a.close()
    with pytest.raises(PianoError, match=r"a\.ipynb, is gone; %piano resume"):
        await waiting


async def test_a_job_that_two_notebooks_retry_at_once_is_in_the_queue_of_one(notebooks):
    a, b = await notebooks("a"), await notebooks("b")
    for each in (a, b):
        await each.stop()
    ended = b.events()
    job = await a.cancel(await a.send("again"))
    await first(ended, JobCancelled)
    heard = {each.notebook: [] for each in (a, b)}
    for each in (a, b):
        each.bus.subscribe(lambda event, each=each: heard[each.notebook].append(event.job.owner), JobQueued)
    retried = await asyncio.gather(a.retry(job), b.retry(job))
    for each in (a, b):
        await each.start()

    assert [each.owner for each in retried] == [retried[0].owner] * 2
    answers = await asyncio.gather(a.wait(retried[0]), b.wait(retried[1]))
    assert answers[0].id == answers[1].id
    assert len(heard[a.notebook]) + len(heard[b.notebook]) == 2  # one queued it, and told the other


async def test_an_answer_that_two_notebooks_regenerate_at_once_is_asked_for_once(notebooks):
    a, b = await notebooks("a"), await notebooks("b")
    answer = await a.ask("hello")
    await b.messages(a.thread)
    for each in (a, b):
        await each.stop()
    [[one], [other]] = await asyncio.gather(a.regenerate(answer), b.regenerate(answer))
    for each in (a, b):
        await each.start()

    assert one.id == other.id
    assert (await a.wait(one)).id == (await b.wait(other)).id
    assert len(await a.jobs()) == 2


async def test_a_thread_that_is_deleted_elsewhere_ends_what_waits_in_it(notebooks, monkeypatch):
    a, b = await notebooks("a"), await notebooks("b")
    thread = await a.open_thread("soon gone")
    await b.stop()
    job = await b.send("hello", thread=thread)
    waiting = [asyncio.create_task(each.wait(job)) for each in (a, b)]
    assert await a.delete_thread(thread) == []

    for each in waiting:
        with pytest.raises(PianoError, match=r"cancelled|no job"):  # by when it began to wait
            await each
    thread = await a.open_thread("soon gone")
    erase, late = MaskingStore.erase, []

    async def erase_while_b_asks(store, *threads):
        late.append(await b.send("hello", thread=thread))
        return await erase(store, *threads)

    monkeypatch.setattr(MaskingStore, "erase", erase_while_b_asks)
    assert await a.delete_thread(thread) == []
    with pytest.raises(PianoError, match=r"cancelled|no job"):
        await b.wait(late[0])
    await b.start()
    await b.drain()
    with pytest.raises(PianoError, match="'soon gone' was deleted"):
        await b.ask("there?", thread=thread)
    assert (await b.ask("elsewhere")).content


async def test_a_store_process_that_is_killed_is_replaced_and_nobody_waits_for_ever(notebooks, database):
    held = asyncio.Event()
    a, b = await notebooks("a", held, "late"), await notebooks("b")
    await b.ask("before")
    missed = b.events()
    job = await a.send("slowly")
    waiting = asyncio.create_task(b.wait(job))
    await killed_store_process(database)
    held.set()

    assert (await a.wait(job)).content == (await waiting).content
    await first(missed, EventsMissed)
    assert (await b.ask("after")).content


async def test_a_question_that_waits_for_another_notebook_s_is_answered_after_the_store_process_was_killed(
    notebooks, database, monkeypatch
):
    monkeypatch.setattr(workspace_store, "RemoteStore", partial(RemoteStore, options=NO_DELAYS))
    held = asyncio.Event()
    a, b = await notebooks("a", held, "at last"), await notebooks("b")
    thread = await a.open_thread("shared")
    begun = a.events()
    first_job = await a.send("slowly", thread=thread)
    await first(begun, JobStarted)
    second_job = await b.send("and then?", thread=thread)
    missed = [a.events(), b.events()]
    await killed_store_process(database)
    for each in missed:
        await first(each, EventsMissed)
    held.set()

    assert (await a.wait(first_job)).content == "at last"
    assert "and then?" in (await b.wait(second_job)).content


async def test_whoever_waits_for_a_job_that_seemed_to_be_left_waits_for_the_notebook_that_runs_it(
    notebooks, monkeypatch
):
    held, answer, given_up = asyncio.Event(), JobResults.answer, []
    a, b = await notebooks("a"), await notebooks("b", held, "at last")
    begun = b.events()
    job = await b.send("slowly")
    await first(begun, JobStarted)

    async def give_up_once(results, job):
        if given_up:
            held.set()
            return await answer(results, job)
        given_up.append(job)
        return results.give_up(job)

    monkeypatch.setattr(JobResults, "answer", give_up_once)
    assert (await a.wait(job)).content == "at last"
    assert given_up


async def test_whoever_waits_for_a_job_of_a_thread_that_was_deleted_unheard_is_told(notebooks, database, monkeypatch):
    monkeypatch.setattr(EventRelay, "receive", lambda *_: None)  # no event of the other is heard
    held = asyncio.Event()
    a, b = await notebooks("a", held), await notebooks("b")
    job = await a.send("slowly", thread=await a.open_thread("soon gone"))
    waiting = asyncio.create_task(b.wait(job))
    await b.jobs()
    await a.cancel(job)
    await a.delete_thread(await a.find_thread("soon gone"))
    assert not waiting.done()
    await killed_store_process(database)

    with pytest.raises(PianoError, match="no job"):
        await waiting


async def test_a_job_of_which_it_is_told_too_late_that_it_is_queued_is_not_waited_for(notebooks):
    a, b = await notebooks("a"), await notebooks("b")
    await a.stop()
    job = await a.send("never mind")
    await b.cancel(job)
    b.bus.publish(JobQueued(thread_id=job.thread_id, job=job))

    with pytest.raises(PianoError, match="was cancelled"):
        await b.wait(job)


async def test_whoever_takes_a_job_over_knows_what_was_done_for_it_though_no_event_told(
    notebooks, database, monkeypatch
):
    monkeypatch.setattr(workspace_store, "RemoteStore", partial(RemoteStore, options=NO_DELAYS))
    monkeypatch.setattr(Refresher, "begin", lambda _: None)  # it may take as long as it likes
    b = await notebooks("b")
    thread = await b.open_thread("shared")
    await b.ask("before", thread=thread)
    [agent] = await b.agents()
    ids = f"UUID({str(thread.id)!r}), UUID({str(agent.id)!r})"
    with started(f"{CONNECT}{UNHEARD}asyncio.run(work({ids}))", database) as process:
        job = (await asyncio.to_thread(process.stdout.readline)).strip()
        events = b.events()
    await first(events, JobQueued)
    await b.resume(job)
    await b.wait(await b.find_job(job))

    assert [call.status for call in await b.tool_calls(thread)] == ["unknown"]
    assert "outcome unknown" in str(b.model.requests[-1].messages)
