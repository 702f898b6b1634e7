"""Several agents in one thread, and the branches of a thread, through the service."""

import asyncio

import pytest

from piano_jupyter import Piano, PianoError
from piano_jupyter.errors import ModelError, NotFoundError
from piano_jupyter.events import ApprovalRequested, JobDone, JobQueued, MessageAdded, ThreadBranched
from piano_jupyter.pipeline import consumer
from piano_jupyter.pipeline.producer import JobModels, Producer
from piano_jupyter.records import JobStatus
from piano_jupyter.runner.model.protocol import Reply, RequestedCall
from piano_jupyter.store.duckdb.duckdb_store import DuckDBStore
from piano_jupyter.tool import tool

DEADLINE = 10


class Voices:
    """A ChatModel for several agents: each has a script of its own, found by its system prompt."""

    def __init__(self, **scripts):
        self.scripts, self.asked, self.held = {name: list(script) for name, script in scripts.items()}, [], {}
        self.begun = asyncio.Event()  # an agent was asked
        self.ids = []  # of the calls whose results each agent was sent

    async def stream(self, request):
        name = request.messages[0]["content"]
        self.asked.append((name, [message["content"] for message in request.messages[1:]]))
        self.ids.append((name, [message["tool_call_id"] for message in request.messages if message["role"] == "tool"]))
        self.begun.set()
        if name in self.held:
            await self.held[name].wait()
        step = self.scripts[name].pop(0)
        if isinstance(step, Exception):
            raise step
        yield Reply(text=step, finish_reason="stop") if isinstance(step, str) else Reply(calls=(step,))


@pytest.fixture
async def chat(tmp_path):
    async def make(model, **knobs):
        piano = Piano(**{"database": ":memory:", "workspace": tmp_path, "model": model, **knobs})
        await piano.open()
        opened.append(piano)
        for name in model.scripts:
            await piano.add_agent(name, model=f"model-of-{name}", system_prompt=name)
        return piano

    opened = []
    yield make

    for each in opened:
        await each.close()


async def drained(piano):
    async with asyncio.timeout(DEADLINE):
        await piano.drain()


async def told(piano, **where):
    names = {agent.id: agent.name for agent in await piano.agents()}
    return [
        (names.get(message.agent_id, message.role), message.content)
        for message in await piano.messages(piano.thread, **where)
    ]


async def test_two_mentioned_agents_answer_at_once_and_do_not_read_each_other(chat):
    model = Voices(ada=["I am Ada."], bo=["I am Bo."])
    piano = await chat(model)
    model.held["ada"] = asyncio.Event()

    jobs = await piano.send_all("@ada @bo who are you?")
    bo = await piano.wait(jobs[1])  # while Ada is still answering
    model.held["ada"].set()
    await drained(piano)

    assert bo.content == "I am Bo."
    assert sorted(model.asked) == [("ada", ["@ada @bo who are you?"]), ("bo", ["@ada @bo who are you?"])]
    assert await told(piano) == [("user", "@ada @bo who are you?"), ("ada", "I am Ada."), ("bo", "I am Bo.")]


async def test_a_question_that_was_cancelled_or_failed_is_not_read_as_part_of_the_next(chat):
    model = Voices(ada=[ModelError("no"), "hello", "again"])
    piano = await chat(model)
    model.held["ada"] = asyncio.Event()
    cancelled = await piano.send("delete it all", agent="ada")
    await model.begun.wait()
    await piano.cancel(cancelled)
    model.held["ada"].set()
    with pytest.raises(PianoError):
        await piano.ask("fail", agent="ada")
    await piano.ask("hi", agent="ada")
    first = model.asked[-1][1]
    await piano.ask("and now?", agent="ada")

    assert first == [
        *("delete it all", "(stopped by the user, not answered)"),
        *("fail", "(not answered: an error)"),
        "hi",
    ]
    assert model.asked[-1][1] == [*first, "hello", "and now?"]  # the prompt before is its beginning


async def test_ask_all_gives_the_answers_in_the_order_asked(chat):
    piano = await chat(Voices(ada=["one"], bo=["two"]))

    answers = await piano.ask_all("count", agents=["bo", "ada"])

    assert [answer.content for answer in answers] == ["two", "one"]


async def test_ask_raises_when_several_agents_are_mentioned_and_stores_nothing(chat):
    piano = await chat(Voices(ada=[], bo=[]))

    with pytest.raises(PianoError, match="the message mentions ada, bo; use ask_all or send_all"):
        await piano.ask("@ada @bo who are you?")

    assert await piano.jobs() == []


async def test_in_the_next_turn_each_reads_the_others_words_as_labelled_text(chat):
    model = Voices(ada=["one", "three"], bo=["two"])
    piano = await chat(model)

    await piano.ask_all("@ada @bo count")
    await piano.ask("go on", agent="ada")

    assert model.asked[-1] == ("ada", ["@ada @bo count", "one", "[bo] two\n\ngo on"])


async def test_one_agent_that_fails_stops_no_other(chat):
    piano = await chat(Voices(ada=[PianoError("broken")], bo=["fine"]))

    with pytest.raises(PianoError, match="broken"):
        await piano.ask_all("@ada @bo well?")

    assert ("bo", "fine") in await told(piano)


async def test_an_answer_that_mentions_another_agent_asks_it(chat):
    model = Voices(ada=["@bo, what do you think?"], bo=["I agree."])
    piano = await chat(model)
    events = piano.events()

    job = await piano.send("Is it so?", agent="ada")
    await drained(piano)

    assert await told(piano) == [("user", "Is it so?"), ("ada", "@bo, what do you think?"), ("bo", "I agree.")]
    assert model.asked[1] == ("bo", ["Is it so?\n\n[ada] @bo, what do you think?"])
    seen = []
    async for event in events:
        seen.append(event)
        if isinstance(event, JobDone) and event.job.hops == 1:
            break
    queued = [at for at, event in enumerate(seen) if isinstance(event, JobQueued)]
    done = [at for at, event in enumerate(seen) if isinstance(event, JobDone)]
    assert seen[queued[1]].job.message_id == (await piano.wait(job)).id
    assert queued[1] < done[0]  # the second job is published before the first one ends


async def test_f8_two_agents_that_mention_each_other_stop_after_four_delegations_with_a_note(chat):
    piano = await chat(Voices(ada=["@bo?"] * 9, bo=["@ada?"] * 9))
    events = piano.events()

    await piano.send("go", agent="ada")
    await drained(piano)

    assert await told(piano) == [
        ("user", "go"),
        ("ada", "@bo?"),
        ("bo", "@ada?"),
        ("ada", "@bo?"),
        ("bo", "@ada?"),
        ("ada", "@bo?"),
        ("system", "not asked: @bo; the chain stops after 4 delegations"),
    ]
    assert [job.hops for job in await piano.jobs()] == [0, 1, 2, 3, 4]
    notes = [event.message for _, event in piano.recent_events() if isinstance(event, MessageAdded)]
    assert notes[-1].role == "system"
    await events.aclose()


async def test_f8_an_answer_without_a_mention_asks_nobody_though_an_agent_asked_for_it(chat):
    piano = await chat(Voices(ada=["@bo?"], bo=["Ada is right, says `@ada`.\n\n> @ada said so"]))

    await piano.send("go", agent="ada")
    await drained(piano)

    assert len(await piano.jobs()) == 2


async def test_f10_a_tool_that_the_delegating_agent_lacks_needs_an_approval_that_names_it(chat):
    @tool
    def secret() -> str:
        """Return the secret."""
        return "42"

    model = Voices(ada=["@bo what is the secret?"], bo=[RequestedCall(name="secret"), "not for you"])
    piano = await chat(model, tools=[secret], rules=["allow secret"])
    await piano.update_agent("bo", enabled_tools=["secret"])
    events = piano.events()

    await piano.send("go", agent="ada")
    async with asyncio.timeout(DEADLINE):
        async for event in events:
            if isinstance(event, ApprovalRequested):
                await piano.deny(event.call)
                break
    await drained(piano)

    assert event.question == "bo wants to run secret, delegated by ada"
    assert (event.reason, event.always) == ("ada may not use secret", "")
    assert [call.result for call in await piano.tool_calls(piano.thread)] == [
        "denied: the user did not allow this call; do not repeat it, ask or go on without"
    ]


async def test_f10_a_direct_question_needs_no_approval_for_a_tool_that_never_asks(chat):
    @tool
    def secret() -> str:
        """Return the secret."""
        return "42"

    piano = await chat(Voices(bo=[RequestedCall(name="secret"), "42"]), tools=[secret])
    await piano.update_agent("bo", enabled_tools=["secret"])

    answer = await piano.ask("what is the secret?", agent="bo")

    assert answer.content == "42"


async def test_f12_an_answer_asks_four_others_at_most_and_never_itself(chat):
    crowd = [f"a{number}" for number in range(50)]
    asks_all = " ".join(f"@{name}" for name in ["ada", *crowd])
    piano = await chat(Voices(ada=[asks_all], **{name: ["."] for name in crowd}))

    await piano.send("go", agent="ada")
    await drained(piano)

    assert len(await piano.jobs()) == 5
    assert "an answer can ask at most 4 agents" in dict(await told(piano))["system"]


async def test_f12_the_delegations_of_one_question_end_though_all_agents_ask_all(chat):
    crowd = [f"a{number}" for number in range(6)]
    asks_all = " ".join(f"@{name}" for name in crowd)
    piano = await chat(Voices(**{name: [asks_all] * 99 for name in crowd}))

    await piano.send("go", agent="a0")
    await drained(piano)
    await piano.send("and again", agent="a0")
    await drained(piano)

    assert [job.hops > 0 for job in await piano.jobs()].count(True) == 40


async def test_delegated_questions_are_answered_before_the_next_question_of_the_thread(chat):
    model = Voices(ada=["@bo?", "two"], bo=["one"])
    piano = await chat(model)
    model.held["ada"] = asyncio.Event()

    await piano.send("first", agent="ada")
    await piano.send("second", agent="ada")
    model.held["ada"].set()
    await drained(piano)

    assert [name for name, _ in model.asked] == ["ada", "bo", "ada"]
    assert model.asked[-1][1][-1] == "[bo] one\n\nsecond"


async def test_an_edited_question_replaces_the_old_one_which_stays_as_a_branch(chat):
    piano = await chat(Voices(ada=["four", "nine"]))
    await piano.ask("2 + 2?", agent="ada")
    question = (await piano.messages(piano.thread))[0]

    [job] = await piano.edit(question, "3 * 3?")
    await piano.wait(job)

    assert await told(piano) == [("user", "3 * 3?"), ("ada", "nine")]
    assert await told(piano, at=question) == [("user", "2 + 2?"), ("ada", "four")]
    assert sorted(map(len, (await piano.branches(piano.thread)).values())) == [2, 2]
    assert [event.message_id for _, event in piano.recent_events() if isinstance(event, ThreadBranched)] == [
        job.message_id
    ]


async def test_only_a_question_can_be_edited(chat):
    piano = await chat(Voices(ada=["four"]))
    answer = await piano.ask("2 + 2?", agent="ada")

    with pytest.raises(PianoError, match="is not a question of yours"):
        await piano.edit(answer, "five")


async def test_the_thread_continues_from_a_regenerated_answer(chat):
    model = Voices(ada=["old", "two", "new", "three"])
    piano = await chat(model)
    old = await piano.ask("one?", agent="ada")
    await piano.ask("two?", agent="ada")

    [job] = await piano.regenerate(old)
    new = await piano.wait(job)
    await piano.ask("three?", agent="ada")

    assert model.asked[2] == ("ada", ["one?"])
    assert model.asked[3] == ("ada", ["one?", "new", "three?"])
    assert await told(piano) == [("user", "one?"), ("ada", "new"), ("user", "three?"), ("ada", "three")]
    assert (await piano.branches(piano.thread))[old.id] == [old.id, new.id]


async def test_a_fork_has_the_messages_up_to_there_and_continues_on_its_own(chat):
    model = Voices(ada=["one", "two", "elsewhere"])
    piano = await chat(model)
    first = await piano.ask("one?", agent="ada")
    await piano.ask("two?", agent="ada")
    parent = piano.thread

    fork = await piano.fork_thread(first)
    before = await told(piano)
    await piano.ask("and if not?", agent="ada")

    assert (fork.forked_from_thread_id, fork.forked_from_message_id) == (parent.id, first.id)
    assert piano.thread == fork
    assert before == [("user", "one?"), ("ada", "one")]
    assert model.asked[-1] == ("ada", ["one?", "one", "and if not?"])
    assert await told(piano) == [*before, ("user", "and if not?"), ("ada", "elsewhere")]
    assert len(await piano.messages(parent)) == 4


async def test_a_fork_of_a_fork_has_the_messages_of_both_after_a_restart(chat, tmp_path):
    model, file = Voices(ada=["one", "two", "three"]), tmp_path / "kept.duckdb"
    async with Piano(database=file, workspace=tmp_path, model=model) as piano:
        await piano.add_agent("ada", system_prompt="ada")
        await piano.fork_thread(await piano.ask("one?", agent="ada"))
        await piano.fork_thread(await piano.ask("two?", agent="ada"), "deep")
        await piano.ask("three?", agent="ada")

    async with Piano(database=file, workspace=tmp_path, model=model) as piano:
        piano.thread = await piano.find_thread("deep")

        assert [text for _, text in await told(piano)] == ["one?", "one", "two?", "two", "three?", "three"]


async def test_a_copied_answer_can_be_regenerated_and_its_question_edited_in_the_fork(chat):
    piano = await chat(Voices(ada=["old", "new", "other"]))
    old = await piano.ask("one?", agent="ada")
    parent = piano.thread
    fork = await piano.fork_thread(old)
    question, answer = await piano.messages(fork)

    await piano.wait((await piano.regenerate(answer))[0])
    anew = await told(piano)
    await piano.edit(question, "@ada other?")
    await drained(piano)

    assert anew == [("user", "one?"), ("ada", "new")]
    assert await told(piano) == [("user", "@ada other?"), ("ada", "other")]
    assert [message.content for message in await piano.messages(parent)] == ["one?", "old"]


async def test_a_fork_does_not_change_with_the_thread_that_it_came_from(chat, tmp_path):
    database = tmp_path / "piano.duckdb"
    piano = await chat(Voices(ada=["old", "two", "new"], bo=["beside"]), database=database)
    await piano.ask_all("@ada @bo one?")
    last = await piano.ask("two?", agent="ada")
    parent = piano.thread
    fork = await piano.fork_thread(last)
    before = await told(piano)

    piano.thread = parent
    await piano.wait((await piano.regenerate((await piano.messages(parent))[1]))[0])
    await piano.close()
    piano = await chat(Voices(), database=database)
    piano.thread = await piano.find_thread(fork.id)

    assert [text for _, text in before] == ["@ada @bo one?", "old", "beside", "two?", "two"]
    assert await told(piano) == before


async def test_a_fork_has_the_tool_calls_with_their_results(chat):
    @tool
    def secret() -> str:
        """Return the secret."""
        return "42"

    model = Voices(bo=[RequestedCall(name="secret"), "It is 42.", "Still."])
    piano = await chat(model, tools=[secret])
    await piano.update_agent("bo", enabled_tools=["secret"])
    answer = await piano.ask("what is it?", agent="bo")

    await piano.fork_thread(answer)
    await piano.ask("sure?", agent="bo")

    assert [call.result for call in await piano.tool_calls(piano.thread)] == ["42"]
    assert model.asked[-1] == ("bo", ["what is it?", "", "42", "It is 42.", "sure?"])


async def test_a_running_turn_cannot_be_forked(chat):
    @tool(asks=True)
    def secret() -> str:
        """Return the secret."""
        return "42"

    piano = await chat(Voices(bo=[RequestedCall(name="secret")]), tools=[secret], shutdown_timeout=0)
    await piano.update_agent("bo", enabled_tools=["secret"])
    events = piano.events()
    await piano.send("what is it?", agent="bo")
    async with asyncio.timeout(DEADLINE):
        async for event in events:
            if isinstance(event, ApprovalRequested):
                break

    with pytest.raises(PianoError, match="is still being answered: wait for it, or fork from before it"):
        await piano.fork_thread(event.call.message_id)

    assert len(await piano.threads()) == 1


async def test_later_answers_of_other_agents_are_not_in_a_fork(chat):
    model = Voices(ada=["one"], bo=["two"])
    piano = await chat(model)
    model.held["bo"] = asyncio.Event()
    ada, _ = await piano.send_all("@ada @bo count")
    answer = await piano.wait(ada)
    working = await piano.fork_thread(answer)  # Bo's answer is not in it, whenever it comes
    model.held["bo"].set()
    await drained(piano)

    assert [message.content for message in await piano.messages(working)] == ["@ada @bo count", "one"]


async def test_an_agent_that_is_answering_a_question_is_not_asked_twice(chat):
    model = Voices(ada=["one"])
    piano = await chat(model)
    model.held["ada"] = asyncio.Event()
    job = await piano.send("one?", agent="ada")
    question = (await piano.messages(piano.thread))[0]

    again = await piano.regenerate(question)
    model.held["ada"].set()
    await drained(piano)

    assert [each.id for each in again] == [job.id]
    assert len(await piano.jobs()) == 1


async def test_a_question_to_two_agents_is_regenerated_by_both(chat):
    piano = await chat(Voices(ada=["a", "A"], bo=["b", "B"]))
    await piano.ask_all("@ada @bo letters")
    question = (await piano.messages(piano.thread))[0]

    await piano.regenerate(question)
    await drained(piano)

    assert [text for _, text in await told(piano)] == ["@ada @bo letters", "A", "B"]


async def test_an_imported_question_is_edited_and_regenerated_by_the_threads_own_agent(chat):
    piano = await chat(Voices(ada=["new", "other"]))
    text = '{"messages": [{"role": "user", "content": "one?"}, {"role": "assistant", "content": "old", "name": "ada"}]}'
    thread = await piano.import_thread(text)
    question, answer = await piano.messages(thread)

    await piano.wait((await piano.regenerate(answer))[0])
    anew = await told(piano)
    await piano.wait((await piano.edit(question, "other?"))[0])

    assert anew == [("user", "one?"), ("ada", "new")]
    assert await told(piano) == [("user", "other?"), ("ada", "other")]


async def test_a_retried_job_uses_the_current_settings_of_its_agent(chat):
    model = Voices(ada=[PianoError("no such model"), "fine"])
    piano = await chat(model)
    job = await piano.send("one?", agent="ada")
    await drained(piano)
    await piano.update_agent("ada", model="better")

    job = await piano.retry(job)

    assert (await piano.wait(job)).content == "fine"
    assert (await piano.jobs())[0].model == "better"


async def test_calls_are_numbered_as_the_agent_itself_made_them(chat):
    @tool
    def look() -> str:
        """Look."""
        return "seen"

    calls = [RequestedCall(name="look"), "done"]
    model = Voices(ada=calls, bo=[*calls, "well"])
    piano = await chat(model, tools=[look])
    for name in ("ada", "bo"):
        await piano.update_agent(name, enabled_tools=["look"])

    await piano.ask_all("@ada @bo look")
    await piano.ask("and?", agent="bo")

    assert [ids for name, ids in model.ids if name == "bo"] == [[], ["call00001"], ["call00001"]]


async def test_a_message_is_found_by_the_end_of_its_id(chat):
    piano = await chat(Voices(ada=["one"]))
    answer = await piano.ask("one?", agent="ada")

    assert await piano.find_message(answer.id.hex[-6:]) == answer
    with pytest.raises(PianoError, match="no message's id ends in 'ffffffff'"):
        await piano.find_message("ffffffff")
    with pytest.raises(PianoError, match="'the last' is no message's id"):
        await piano.find_message("the last")


async def test_questions_asked_while_stopped_wait_until_started(chat):
    piano = await chat(Voices(ada=["at last"]))
    await piano.stop()

    job = await piano.send("now?", agent="ada")
    await drained(piano)  # no job is claimed, so there is nothing to wait for
    assert [each.status for each in await piano.jobs()] == [JobStatus.QUEUED]
    assert (await piano.status()).stopped
    await piano.start()

    assert (await piano.wait(job)).content == "at last"
    assert not (await piano.status()).stopped


async def test_a_format_that_export_does_not_know_is_named_with_the_known_ones(chat):
    piano = await chat(Voices(ada=["one"]))
    await piano.ask("one?", agent="ada")

    with pytest.raises(NotFoundError, match="no format named 'markdwon'; known: markdown, notebook, jsonl"):
        await piano.export(piano.thread, "markdwon")


async def test_a_thread_that_was_exported_is_imported_as_it_was(chat):
    piano = await chat(Voices(ada=["one"], bo=["two"]))
    await piano.ask_all("@ada @bo count")
    before = await told(piano)

    text = await piano.export(piano.thread, "jsonl")
    thread = await piano.import_thread(text, "copy")

    assert piano.thread == thread
    assert thread.title == "copy"
    assert await told(piano) == before


async def test_an_imported_thread_can_be_continued(chat):
    model = Voices(ada=["one", "two"])
    piano = await chat(model)
    await piano.ask("one?", agent="ada")

    await piano.import_thread(await piano.export(piano.thread, "jsonl"))
    await piano.ask("two?", agent="ada")

    assert model.asked[-1] == ("ada", ["one?", "one", "two?"])


@pytest.fixture
def swapping(monkeypatch):
    """Make the queue of the next Piano believe that the server swaps models, and has these loaded."""

    def make(*, loaded=(), aliases=dict):
        async def which():
            return frozenset(loaded)

        told = {"loaded": which, "aliases": aliases}
        monkeypatch.setattr("piano_jupyter.wiring.JobModels", lambda **fields: JobModels(**(fields | told)))

    return make


async def test_a_job_that_waits_for_the_user_leaves_the_server_to_another_model(chat, swapping):
    @tool(asks=True)
    def secret() -> str:
        """Return the secret."""
        return "42"

    swapping(loaded=["model-of-ada"])
    piano = await chat(Voices(ada=[RequestedCall(name="secret"), "done"], bo=["quick"]), tools=[secret])
    await piano.update_agent("ada", enabled_tools=["secret"])
    events = piano.events()

    slow = await piano.send("what is it?", agent="ada")
    quick = await piano.send("hello", agent="bo", thread=await piano.open_thread("other"))
    async with asyncio.timeout(DEADLINE):
        answer = await piano.wait(quick)
        async for event in events:
            if isinstance(event, ApprovalRequested):
                await piano.approve(event.call)
                break
        await piano.wait(slow)

    assert answer.content == "quick"


async def test_aliases_of_one_model_share_its_demand(chat, swapping):
    model = Voices(ada=["one"], bo=["two"])
    swapping(aliases=lambda: {"model-of-ada": "the-same", "model-of-bo": "the-same"})
    piano = await chat(model)
    model.held["ada"] = asyncio.Event()

    jobs = await piano.send_all("@ada @bo count")
    async with asyncio.timeout(DEADLINE):
        await model.begun.wait()
        for _ in range(50):  # time enough to start another
            await asyncio.sleep(0)
    asked = [name for name, _ in model.asked]
    model.held["ada"].set()
    await drained(piano)

    assert asked == ["ada"]
    assert [job.status for job in await piano.jobs()] == [JobStatus.DONE] * 2
    assert [job.model for job in jobs] == ["model-of-ada", "model-of-bo"]


async def test_an_error_inside_the_queue_does_not_end_it(chat, monkeypatch, caplog):
    monkeypatch.setattr(consumer, "RETRY_DELAY_S", 0.01)
    claim, failing = Producer.claim, [RuntimeError("oops")]

    async def broken(producer, running):
        if failing:
            raise failing.pop()
        return await claim(producer, running)

    monkeypatch.setattr(Producer, "claim", broken)
    piano = await chat(Voices(ada=["at last"]))
    answer = await piano.ask("one?", agent="ada")

    assert answer.content == "at last"
    assert "no job could be claimed" in caplog.text


async def test_drain_waits_for_a_job_that_is_being_claimed_though_it_is_stopped(chat, monkeypatch):
    piano = await chat(Voices(ada=["done"]))
    claim, begun, go = DuckDBStore.claim_next, asyncio.Event(), asyncio.Event()

    async def slow(*arguments):
        begun.set()
        await go.wait()
        return await claim(*arguments)

    monkeypatch.setattr(DuckDBStore, "claim_next", slow)
    await piano.send("one?", agent="ada")
    await begun.wait()
    await piano.stop()
    draining = asyncio.create_task(piano.drain())
    for _ in range(10):
        await asyncio.sleep(0)
    early = draining.done()
    go.set()
    async with asyncio.timeout(DEADLINE):
        await draining

    assert not early
    assert [job.status for job in await piano.jobs()] == [JobStatus.DONE]


async def test_a_replayed_conversation_has_the_same_ids(tmp_path):
    async def talk(**cassette):
        async with Piano(workspace=tmp_path, model=Voices(ada=["@bo?"], bo=["one", "yes"]), **cassette) as piano:
            for name in ("ada", "bo"):
                await piano.add_agent(name, model=f"model-of-{name}", system_prompt=name)
            await piano.ask_all("@ada @bo count")
            await piano.drain()
            return [message.id for message in await piano.messages(piano.thread)]

    first = await talk(record=tmp_path / "talk.jsonl")
    again = await talk(replay=tmp_path / "talk.jsonl")

    assert again == first
    assert len(first) == 4
