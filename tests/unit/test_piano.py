"""The service over a real store in memory and a scripted model."""

import asyncio
import itertools
from datetime import UTC, datetime, timedelta

import pytest

from piano_jupyter import Piano, PianoError
from piano_jupyter.clock import Clock
from piano_jupyter.errors import ModelUnavailableError, NotFoundError, StoreError
from piano_jupyter.events import (
    Answered,
    ApprovalRequested,
    Closed,
    JobCancelled,
    JobDone,
    JobFailed,
    JobQueued,
    JobStarted,
    MessageAdded,
    MessageDelta,
    ThreadOpened,
    ToolCalled,
    ToolReturned,
)
from piano_jupyter.records import CallStatus, JobStatus
from piano_jupyter.store.duckdb.duckdb_store import DuckDBStore
from piano_jupyter.tool import tool

DEADLINE = 10


@pytest.fixture
def piano_of(tmp_path):
    def make(model, **settings):
        return Piano(**{"database": ":memory:", "workspace": tmp_path, "model": model, **settings})

    return make


async def until(events, kind):
    """Return the events up to and with the first of a kind."""
    seen = []
    async with asyncio.timeout(DEADLINE):
        async for event in events:
            seen.append(event)
            if isinstance(event, kind):
                return seen
    return seen


async def test_ask_gives_the_answer_and_keeps_both_sides(piano_of, scripted):
    async with piano_of(scripted("Paris.")) as piano:
        answer = await piano.ask("What is the capital of France?")

        told = await piano.messages(piano.thread)
        assert [(message.role, message.content) for message in told] == [
            ("user", "What is the capital of France?"),
            ("assistant", "Paris."),
        ]
        assert answer == told[1]
        assert piano.thread.title == "What is the capital of France?"
        assert [job.status for job in await piano.jobs()] == [JobStatus.DONE]


async def test_a_second_question_continues_the_thread_with_its_history(piano_of, scripted):
    model = scripted("Paris.", "Two million.")
    async with piano_of(model) as piano:
        await piano.ask("Capital?")
        await piano.ask("How many live there?")

    assert [message["content"] for message in model.requests[1].messages[1:]] == [
        "Capital?",
        "Paris.",
        "How many live there?",
    ]


async def test_the_events_of_an_answer_come_in_order(piano_of, scripted):
    async with piano_of(scripted("one two")) as piano:
        events = piano.events()
        await piano.send("hi")

        seen = [type(event) for event in await until(events, JobDone)]
        assert seen == [
            ThreadOpened,
            MessageAdded,
            JobQueued,
            JobStarted,
            MessageDelta,
            MessageDelta,
            Answered,
            JobDone,
        ]


async def test_a_tool_call_is_run_and_the_model_reads_its_result(piano_of, scripted, asks_for):
    @tool
    def add(a: int, b: int) -> int:
        """Add two numbers."""
        return a + b

    model = scripted([asks_for("add", a=19, b=23)], "It is 42.")
    async with piano_of(model, tools=[add]) as piano:
        await piano.update_agent("Assistant", enabled_tools=["add"])
        events = piano.events()
        await piano.ask("19+23?")

        [call] = await piano.tool_calls(piano.thread)
        assert (call.name, call.status, call.result) == ("add", CallStatus.OK, "42")
        assert model.requests[1].messages[-1] == {"role": "tool", "tool_call_id": "call00001", "content": "42"}
        kinds = [type(event) for event in await until(events, JobDone)]
        assert kinds.index(ToolCalled) < kinds.index(ToolReturned) < kinds.index(Answered)


async def test_a_tool_that_is_not_enabled_is_not_run(piano_of, scripted, asks_for):
    model = scripted([asks_for("create_file", path="x", content="y")], "sorry")
    async with piano_of(model) as piano:
        await piano.update_agent("Assistant", enabled_tools=["read_file"])
        await piano.ask("write")

        [call] = await piano.tool_calls(piano.thread)
        assert (call.status, call.result) == (CallStatus.FAILED, "no tool named 'create_file'; known: read_file")


async def test_an_agent_whose_tool_is_missing_says_how_to_fix_that(scripted, tmp_path):
    @tool
    def price(item: str) -> str:
        """Return the price of an item."""
        return item

    here = {"database": str(tmp_path / "kept.duckdb"), "workspace": str(tmp_path)}
    async with Piano(**here, model=scripted(), tools=[price]) as piano:
        await piano.update_agent("Assistant", enabled_tools=["price", "bash"])
    async with Piano(**here, model=scripted("2.5")) as piano:
        with pytest.raises(NotFoundError) as caught:
            await piano.ask("What does tea cost?")
        piano.add_tool(price)

        assert str(caught.value) == (
            "Assistant has the tool 'price', which does not exist: run the cell that defines it, or remove it with "
            "%piano agent Assistant --tools bash"
        )
        assert (await piano.ask("And now?")).content == "2.5"


async def test_a_tool_that_raises_is_an_answer_to_the_model(piano_of, scripted, asks_for):
    @tool
    def broken() -> str:
        """Fail."""
        raise ValueError("no luck")

    async with piano_of(scripted([asks_for("broken")], "it failed"), tools=[broken]) as piano:
        await piano.update_agent("Assistant", enabled_tools=["broken"])

        assert (await piano.ask("go")).content == "it failed"
        [call] = await piano.tool_calls(piano.thread)
        assert call.status is CallStatus.FAILED
        assert "no luck" in call.result


@pytest.mark.parametrize(("allow", "status"), [(True, CallStatus.OK), (False, CallStatus.FAILED)])
async def test_a_tool_that_asks_runs_only_after_approval(piano_of, scripted, asks_for, allow, status):
    ran = []

    @tool(asks=True)
    def act() -> str:
        """Do it."""
        ran.append(1)
        return "done"

    async with piano_of(scripted([asks_for("act")], "ok"), tools=[act]) as piano:
        await piano.update_agent("Assistant", enabled_tools=["act"])
        events = piano.events()
        job = await piano.send("go")
        request = (await until(events, ApprovalRequested))[-1]
        assert ran == []
        assert await piano.approvals() == [request]

        await (piano.approve if allow else piano.deny)(request.call)
        await (piano.deny if allow else piano.approve)(request.call)
        await piano.wait(job)

        [call] = await piano.tool_calls(piano.thread)
        assert call.status is status
        assert ran == ([1] if allow else [])
        assert await piano.approvals() == []


async def test_a_call_that_nobody_answers_is_denied(piano_of, scripted, asks_for):
    @tool(asks=True)
    def act() -> str:
        """Do it."""
        return "done"

    async with piano_of(scripted([asks_for("act")], "ok"), tools=[act], approval_timeout=0.1) as piano:
        await piano.update_agent("Assistant", enabled_tools=["act"])
        await piano.ask("go")

        [call] = await piano.tool_calls(piano.thread)
        assert call.status is CallStatus.FAILED


async def test_a_turn_of_too_many_rounds_fails_with_a_sentence(piano_of, scripted, asks_for):
    @tool
    def look() -> str:
        """Look around."""
        return "a lake"

    model = scripted(*[[asks_for("look")]] * 3)
    async with piano_of(model, max_iterations=3, tools=[look]) as piano:
        await piano.update_agent("Assistant", enabled_tools=["look"])
        with pytest.raises(PianoError, match="stopped after 3 rounds of tool calls"):
            await piano.ask("go")

        assert [job.status for job in await piano.jobs()] == [JobStatus.FAILED]


async def test_waiting_for_a_job_that_has_failed_raises_its_error(piano_of, scripted):
    async with piano_of(scripted(ModelUnavailableError("the server is down"))) as piano:
        job = await piano.send("Capital?")
        await piano.drain()

        with pytest.raises(ModelUnavailableError, match="the server is down"):
            await piano.wait(job)


async def test_a_model_that_fails_fails_the_job_and_retry_answers(piano_of, scripted):
    async with piano_of(scripted(ModelUnavailableError("the server is down"), "Paris.")) as piano:
        events = piano.events()
        with pytest.raises(ModelUnavailableError, match="the server is down"):
            await piano.ask("Capital?")
        [failed] = await piano.jobs(JobStatus.FAILED)
        assert (await until(events, JobFailed))[-1].reason == failed.reason == "the server is down"

        answer = await piano.wait(await piano.retry(failed))

        assert answer.content == "Paris."
        assert [message.role for message in await piano.messages(piano.thread)] == ["user", "assistant"]


async def test_a_bug_fails_its_job_and_the_next_question_is_answered(piano_of, scripted):
    async with piano_of(scripted(ZeroDivisionError("boom"), "fine")) as piano:
        with pytest.raises(PianoError, match="ZeroDivisionError: boom"):
            await piano.ask("one")

        assert (await piano.ask("two")).content == "fine"


async def test_a_running_job_is_cancelled_and_the_thread_continues(piano_of, scripted):
    async with piano_of(scripted(asyncio.Event(), "next")) as piano:
        events = piano.events()
        job = await piano.send("one")
        await until(events, MessageDelta)

        cancelled = await piano.cancel(job)

        assert cancelled.status is JobStatus.CANCELLED
        assert (await until(events, JobCancelled))[-1].job.id == job.id
        with pytest.raises(PianoError, match="was cancelled"):
            await piano.wait(job)
        assert (await piano.ask("two")).content == "next"


@pytest.mark.parametrize("point", range(9))
async def test_i2_cancelled_at_any_point_of_a_turn_the_next_question_finds_each_call_with_one_result(
    piano_of, scripted, asks_for, point
):
    @tool
    def look(at: str) -> str:
        """Look."""
        return f"{at}: fine"

    model = scripted([asks_for("look", at="a"), asks_for("look", at="b")], [asks_for("look", at="c")], "Fine.", "Ok.")
    async with piano_of(model, tools=[look]) as piano:
        await piano.update_agent("Assistant", enabled_tools=["look"])
        job = await piano.send("Look around.")
        cancelling = None

        def count(event):
            nonlocal cancelling, point
            if isinstance(event, JobStarted | MessageAdded | ToolCalled | ToolReturned | Answered):
                point -= 1
            if point < 0 and cancelling is None:
                cancelling = asyncio.ensure_future(piano.cancel(job))

        undo = piano.bus.subscribe(count)
        await piano.drain()
        undo()
        if cancelling is not None:
            await cancelling
        model.script[:] = ["Ok."]
        await piano.ask("Well?")

    messages = model.requests[-1].messages
    called = [call["id"] for message in messages for call in message.get("tool_calls", ())]
    assert [message["tool_call_id"] for message in messages if message["role"] == "tool"] == called
    for at, message in enumerate(messages):
        if message.get("tool_calls"):
            assert messages[at + 1]["role"] == "tool"
    assert messages[-1]["content"].endswith("Well?")


async def test_a_job_that_two_cancel_at_once_is_cancelled_once(piano_of, scripted):
    async with piano_of(scripted(asyncio.Event())) as piano:
        events, told = piano.events(), []
        piano.bus.subscribe(told.append, JobCancelled)
        job = await piano.send("one")
        await until(events, MessageDelta)

        first, second = await asyncio.gather(piano.cancel(job), piano.cancel(job))

        assert first.status is JobStatus.CANCELLED
        assert second == first
        assert [event.job for event in told] == [first]


async def test_a_queued_job_is_cancelled_without_asking_the_model(piano_of, scripted):
    go = asyncio.Event()
    model = scripted(go, "first")
    async with piano_of(model) as piano:
        first = await piano.send("one")
        second = await piano.send("two")

        assert (await piano.cancel(second)).status is JobStatus.CANCELLED
        go.set()
        await piano.wait(first)
        await piano.drain()
        assert len(model.requests) == 1


async def test_a_cancelled_ask_cancels_its_job(piano_of, scripted):
    async with piano_of(scripted(asyncio.Event())) as piano:
        events = piano.events()
        asking = asyncio.create_task(piano.ask("one"))
        await until(events, MessageDelta)
        asking.cancel()

        with pytest.raises(asyncio.CancelledError):
            await asking
        assert [job.status for job in await piano.jobs()] == [JobStatus.CANCELLED]


async def test_questions_asked_ahead_are_answered_in_order_each_after_its_own(piano_of, scripted):
    go = asyncio.Event()
    model = scripted(go, "A1", "A2", "A3")
    async with piano_of(model) as piano:
        jobs = [await piano.send(f"Q{number}") for number in (1, 2, 3)]
        go.set()
        answers = [(await piano.wait(job)).content for job in jobs]

        assert answers == ["A1", "A2", "A3"]
        told = [message.content for message in await piano.messages(piano.thread)]
        assert told == ["Q1", "A1", "Q2", "A2", "Q3", "A3"]
        assert [message["content"] for message in model.requests[2].messages[1:]] == ["Q1", "A1", "Q2", "A2", "Q3"]


async def test_questions_sent_at_the_same_moment_are_all_in_one_branch(piano_of, scripted):
    async with piano_of(scripted("A1", "A2", "A3")) as piano:
        thread = await piano.open_thread("t")
        jobs = await asyncio.gather(*(piano.send(f"Q{number}", thread=thread) for number in (1, 2, 3)))
        for job in jobs:
            await piano.wait(job)

        assert len(await piano.messages(thread)) == 6


async def test_no_more_than_the_demand_runs_on_one_model(piano_of, scripted):
    go, counts = asyncio.Event(), []
    model = scripted(go, go, *["ok"] * 4)
    async with piano_of(model, max_demand=2) as piano:
        events = piano.events()
        for number in range(4):
            await piano.open_thread(f"t{number}")
            await piano.send("hi")
        for _ in range(2):
            await until(events, MessageDelta)
        counts.append(len(await piano.jobs(JobStatus.RUNNING)))
        go.set()
        async with asyncio.timeout(DEADLINE):
            await piano.drain()

        assert counts == [2]
        assert {job.status for job in await piano.jobs()} == {JobStatus.DONE}


async def test_a_mention_chooses_the_agent_and_its_model_and_prompt(piano_of, scripted):
    model = scripted("yes")
    async with piano_of(model) as piano:
        ada = await piano.add_agent("ada", model="small", system_prompt="You are Ada.", options={"temperature": 0})
        answer = await piano.ask("@ada hi")

    assert answer.agent_id == ada.id
    assert (model.requests[0].model, model.requests[0].options) == ("small", {"temperature": 0})
    assert model.requests[0].messages[0] == {"role": "system", "content": "You are Ada."}


async def test_a_model_for_one_question_answers_that_one_only(piano_of, scripted):
    model = scripted(ModelUnavailableError("the server is down"), "one", "two", "three", "four")
    async with piano_of(model) as piano:
        own = (await piano.agents())[0].model
        with pytest.raises(ModelUnavailableError):
            await piano.ask("hi", model="large")
        [failed] = await piano.jobs()
        await piano.wait(await piano.retry(failed))
        answer = await piano.ask("hi again")
        await piano.ask_all("and you?", model="large")
        [again] = await piano.regenerate(answer)
        await piano.wait(again)
        agents = await piano.agents()

    assert [request.model for request in model.requests] == ["large", own, own, "large", own]
    assert failed.model == "large"
    assert [agent.model for agent in agents] == [own]


async def test_an_empty_name_of_a_model_is_refused_before_anything_is_kept(piano_of, scripted):
    async with piano_of(scripted()) as piano:
        with pytest.raises(PianoError, match="the name of the model is empty"):
            await piano.ask("hi", model=" ")

        assert await piano.threads() == []


async def test_the_primary_agent_of_a_thread_answers_there(piano_of, scripted):
    async with piano_of(scripted("yes")) as piano:
        ada = await piano.add_agent("ada")
        await piano.open_thread("data", agent="ada")

        assert (await piano.ask("hi")).agent_id == ada.id


async def test_a_skill_is_read_when_the_turn_starts(piano_of, scripted, tmp_path):
    model = scripted("one", "two")
    skill = tmp_path / "skills" / "greet.md"
    skill.parent.mkdir()
    skill.write_text("---\nname: greet\ndescription: how to greet\n---\nSay ahoy.\n")
    async with piano_of(model) as piano:
        await piano.update_agent("Assistant", enabled_skills=["greet"])
        await piano.ask("hi")
        skill.write_text("---\nname: greet\ndescription: how to greet\n---\nSay good evening.\n")
        await piano.ask("hi")

    assert "Say ahoy." in model.requests[0].messages[0]["content"]
    assert "Say good evening." in model.requests[1].messages[0]["content"]


async def test_the_first_agent_is_created_once(tmp_path, scripted):
    database = tmp_path / "piano.duckdb"
    for _ in range(2):
        async with Piano(database=database, workspace=tmp_path, model=scripted()) as piano:
            assert [(agent.name, agent.model) for agent in await piano.agents()] == [("Assistant", "qwen3:32b")]


async def test_a_job_cut_off_by_the_end_is_answered_by_the_next_kernel(tmp_path, scripted):
    settings = {"database": tmp_path / "piano.duckdb", "workspace": tmp_path, "shutdown_timeout": 0}
    async with Piano(model=scripted(asyncio.Event()), **settings) as piano:
        events = piano.events()
        job = await piano.send("Capital?")
        await until(events, MessageDelta)

    async with Piano(model=scripted("Paris."), **settings) as piano:
        await piano.resume()
        assert (await piano.wait(job)).content == "Paris."
        assert (await piano.find_job(job)).attempt == 1


async def test_j4_where_the_clock_jumps_a_day_at_each_look_each_question_is_answered_once_and_in_its_order(
    tmp_path, scripted, monkeypatch
):
    jumps = itertools.cycle(timedelta(days=days) for days in (0, 1, -1))
    monkeypatch.setattr(Clock, "now", lambda _: datetime.now(UTC) + next(jumps))
    place = {"database": tmp_path / "piano.duckdb", "workspace": tmp_path}
    async with Piano(**place, model=scripted("A0")) as piano:
        await piano.ask("Q0")
        await piano.stop()
        for number in (1, 2, 3):
            await piano.send(f"Q{number}")

    async with Piano(**place, model=scripted("A1", "A2", "A3")) as piano:
        [thread] = await piano.threads()
        await piano.resume()
        async with asyncio.timeout(DEADLINE):
            await piano.drain()

        told = [message.content for message in await piano.messages(thread)]
        jobs = [(job.status, job.attempt) for job in await piano.jobs()]
    assert sorted(told) == ["A0", "A1", "A2", "A3", "Q0", "Q1", "Q2", "Q3"]
    assert [text for text in told if text[0] == "A"] == ["A0", "A1", "A2", "A3"]
    assert jobs == [(JobStatus.DONE, 1)] * 4


async def test_an_orderly_close_does_not_count_as_an_attempt(tmp_path, scripted):
    settings = {"database": tmp_path / "piano.duckdb", "workspace": tmp_path, "shutdown_timeout": 0, "max_attempts": 1}
    for opening in range(3):
        async with Piano(model=scripted(asyncio.Event()), **settings) as piano:
            events = piano.events()
            if opening == 0:
                job = await piano.send("Capital?")
            await piano.resume()
            await until(events, MessageDelta)

    async with Piano(model=scripted("Paris."), **settings) as piano:
        await piano.resume()
        assert (await piano.wait(job)).content == "Paris."


async def test_running_jobs_have_time_to_finish_when_it_is_closed(tmp_path, scripted):
    go, settings = asyncio.Event(), {"database": tmp_path / "piano.duckdb", "workspace": tmp_path}
    piano = Piano(model=scripted(go, "Paris."), shutdown_timeout=DEADLINE, **settings)
    await piano.open()
    events = piano.events()
    asking = asyncio.create_task(piano.ask("Capital?"))
    await until(events, MessageDelta)
    [taking] = [task for task in asyncio.all_tasks() if task.get_name() == "piano-consumer"]

    closing = asyncio.create_task(piano.close())
    await asyncio.wait([taking])  # from now on no job is taken
    running = await piano.jobs(JobStatus.RUNNING)
    go.set()
    async with asyncio.timeout(DEADLINE):
        await closing

    assert len(running) == 1
    assert (await asking).content == "Paris."


async def test_threads_are_found_renamed_listed_and_archived(piano_of, scripted):
    async with piano_of(scripted()) as piano:
        first, second = await piano.open_thread("First"), await piano.open_thread("Second")

        assert [thread.title for thread in await piano.threads()] == ["Second", "First"]
        assert await piano.find_thread("first") == first
        assert await piano.find_thread(second.id.hex[-6:]) == second
        await piano.rename_thread(first, "Une")
        await piano.archive_thread(second)
        assert [thread.title for thread in await piano.threads("active")] == ["Une"]
        assert piano.thread is None
        piano.thread = await piano.find_thread("Second")  # one that is archived goes on where it is named
        assert (await piano.rename_thread(second, "Deux")).status == "archived"
        assert piano.thread.title == "Deux"
        await piano.archive_thread(second)
        assert piano.thread is None
        await piano.rename_thread(first, second.id.hex[-6:])
        assert (await piano.find_thread(second.id.hex[-6:])).id == first.id  # a title goes before an id
        await piano.rename_thread(first, "Une")
        with pytest.raises(NotFoundError, match="no thread named 'Un'; known: Une, Deux"):
            await piano.find_thread("Un")


@pytest.mark.parametrize(
    ("verb", "says"),
    [
        (lambda piano: piano.ask("  \n"), "the message is empty"),
        (lambda piano: piano.ask("hi", agent="adda"), "no agent named 'adda'; known: Assistant"),
        (lambda piano: piano.update_agent("Assistant", enabled_tools=["bsh"]), "no tool named 'bsh'; known: bash"),
        (lambda piano: piano.update_agent("Assistant", enabled_skills=["nope"]), "no skill named 'nope'"),
        (lambda piano: piano.update_agent("Assistant", modle="x"), "no field of an agent named 'modle'; known: model"),
        (lambda piano: piano.add_agent("assistant"), "there is an agent named 'Assistant' already"),
        (lambda piano: piano.add_agent("two words"), "cannot be an agent's name"),
        (lambda piano: piano.cancel("abcdef"), "no job named 'abcdef'; known: none"),
        (lambda piano: piano.sql("drop table messages"), ""),
    ],
)
async def test_a_mistake_is_a_sentence_that_names_the_thing(piano_of, scripted, verb, says):
    async with piano_of(scripted()) as piano:
        with pytest.raises(PianoError) as caught:
            await verb(piano)

        assert says in str(caught.value)
        assert await piano.jobs() == []


async def test_an_unknown_setting_names_the_known_ones():
    with pytest.raises(PianoError, match=r"no setting named 'databse'; known: .*database"):
        Piano(databse="x")


async def test_what_is_stored_can_be_queried(piano_of, scripted):
    async with piano_of(scripted("Paris.")) as piano:
        await piano.ask("Capital?")

        rows = await piano.sql("SELECT role, content FROM messages ORDER BY seq")
        assert rows.columns == ("role", "content")
        assert list(rows) == [("user", "Capital?"), ("assistant", "Paris.")]
        with pytest.raises(StoreError):
            await piano.sql("SELECT nonsense")


async def test_the_status_tells_how_things_stand(piano_of, scripted):
    async with piano_of(scripted("Paris.")) as piano:
        await piano.ask("Capital?")
        status = await piano.status()

        assert (status.threads, status.agents, status.running, status.queued) == (1, 1, 0, 0)
        assert status.thread == piano.thread


async def test_the_status_tells_the_server_that_the_settings_name_and_whether_it_answers(tmp_path, stub_model):
    async with Piano(
        database=":memory:", workspace=tmp_path, base_url=stub_model.url, default_model="qwen3:32b"
    ) as piano:
        before = await piano.status()
        await piano.ask("hello")
        piano.config.base_url = "http://127.0.0.1:9/v1"
        after = await piano.status()

    assert (before.server, [model.name for model in before.models]) == (stub_model.url, ["qwen3:32b"])
    assert (after.server, after.models) == ("http://127.0.0.1:9/v1 (does not answer)", [])


async def test_drain_waits_for_a_job_that_is_just_being_claimed(piano_of, scripted):
    async with piano_of(scripted(asyncio.Event(), "two")) as piano:
        events = piano.events()
        first = await piano.send("one")
        await piano.send("two")
        await until(events, MessageDelta)

        await piano.cancel(first)
        async with asyncio.timeout(DEADLINE):
            await piano.drain()

        assert [job.status for job in await piano.jobs()] == [JobStatus.CANCELLED, JobStatus.DONE]


async def test_a_cancel_that_is_itself_cancelled_still_ends_the_job_and_frees_the_thread(piano_of, scripted):
    async with piano_of(scripted(asyncio.Event(), "next")) as piano:
        events = piano.events()
        job = await piano.send("one")
        await until(events, MessageDelta)
        cancelling = asyncio.create_task(piano.cancel(job))
        for _ in range(3):
            await asyncio.sleep(0)
        cancelling.cancel()
        await asyncio.wait([cancelling])

        async with asyncio.timeout(DEADLINE):
            assert (await piano.ask("two")).content == "next"
        assert (await piano.find_job(job)).status is JobStatus.CANCELLED


@pytest.mark.parametrize("ticks", range(8))
async def test_an_ask_cancelled_at_any_moment_leaves_no_job_behind(piano_of, scripted, ticks):
    async with piano_of(scripted(*["late"] * 2, *["next"] * 2)) as piano:
        asking = asyncio.create_task(piano.ask("one"))
        for _ in range(ticks):
            await asyncio.sleep(0)
        asking.cancel()
        await asyncio.wait([asking])
        async with asyncio.timeout(DEADLINE):
            await piano.drain()

        assert {job.status for job in await piano.jobs()} <= {JobStatus.CANCELLED, JobStatus.DONE}


async def test_a_job_cancelled_while_its_answer_is_stored_is_reported_as_done(piano_of, scripted, monkeypatch):
    ack, begun, go = DuckDBStore.ack, asyncio.Event(), asyncio.Event()

    async def slow(*arguments, **more):
        begun.set()
        await go.wait()
        return await ack(*arguments, **more)

    monkeypatch.setattr(DuckDBStore, "ack", slow)
    async with piano_of(scripted("kept")) as piano:
        job = await piano.send("one")
        await begun.wait()
        cancelling = asyncio.create_task(piano.cancel(job))
        await piano.jobs()  # by now it is cancelled
        go.set()
        cancelled = await cancelling

        async with asyncio.timeout(DEADLINE):
            assert (await piano.wait(job)).content == "kept"
        assert cancelled.status is JobStatus.DONE
        assert [message.content for message in await piano.messages(piano.thread)] == ["one", "kept"]


async def test_a_claim_that_fails_fails_its_job_and_the_next_question_is_answered(piano_of, scripted, monkeypatch):
    claim = DuckDBStore.claim_next

    async def broken(*_):
        monkeypatch.setattr(DuckDBStore, "claim_next", claim)
        raise StoreError("the disk is gone")

    monkeypatch.setattr(DuckDBStore, "claim_next", broken)
    async with piano_of(scripted("fine")) as piano:
        async with asyncio.timeout(DEADLINE):
            with pytest.raises(PianoError, match="could not be started: the disk is gone"):
                await piano.ask("one")
            assert (await piano.ask("two")).content == "fine"


async def test_no_two_pianos_own_each_other_s_jobs_though_they_are_of_one_process(piano_of, scripted):
    owners = []
    for _ in range(2):
        async with piano_of(scripted("fine")) as piano:
            await piano.ask("one")
            owners += [job.owner for job in await piano.jobs()]

    assert len(set(owners)) == 2


async def test_a_cancelled_open_releases_the_database(tmp_path, scripted):
    database = tmp_path / "piano.duckdb"
    for ticks in (1, 2, 5):
        opening = asyncio.create_task(Piano(database=database, workspace=tmp_path, model=scripted()).open())
        for _ in range(ticks):
            await asyncio.sleep(0)
        opening.cancel()
        await asyncio.wait([opening])

    async with Piano(database=database, workspace=tmp_path, model=scripted("ok")) as piano:
        assert (await piano.ask("hi")).content == "ok"


async def test_closing_raises_for_whoever_still_waits(piano_of, scripted):
    piano = piano_of(scripted(asyncio.Event()), shutdown_timeout=0)
    await piano.open()
    events = piano.events()
    asking = asyncio.create_task(piano.ask("one"))
    await until(events, MessageDelta)
    listening, draining = asyncio.create_task(anext(events, "over")), asyncio.create_task(piano.drain())

    await piano.close()

    async with asyncio.timeout(DEADLINE):
        with pytest.raises(PianoError, match="closed before the answer came"):
            await asking
        assert await listening == Closed()
        assert await anext(events, "over") == "over"
        await draining
