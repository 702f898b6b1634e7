"""Unfinished jobs of an earlier kernel: when they continue, in which mode, and what they wait for."""

import asyncio
from contextlib import asynccontextmanager
from dataclasses import replace

import duckdb
import pytest

from piano_jupyter import Piano, tool
from piano_jupyter.errors import ModelUnavailableError, PianoError
from piano_jupyter.events import ApprovalRequested, JobStarted, MessageDelta
from piano_jupyter.records import EMBEDDED, JobStatus, short
from piano_jupyter.tool import ToolAssessment, Verdict, current_call

DEADLINE = 10  # seconds
LEFT = "an earlier kernel left it; %piano resume"


class Acts:
    """A tool that records the mode it ran in; it `asks` in mode full, and does nothing in mode read."""

    def __init__(self):
        self.modes = []
        self.tool = replace(tool(self.act), judge=self.judge)

    def act(self):
        """Do something."""
        self.modes.append(current_call.get().mode)
        return "did it"

    @staticmethod
    def judge(_arguments, mode):
        verdict = {"read": Verdict.DENY, "write": Verdict.ALLOW, "full": Verdict.ASK}[mode]
        return ToolAssessment(verdict, f"act is for {mode}")


@pytest.fixture
def acts():
    return Acts()


@pytest.fixture
def piano_of(tmp_path):
    @asynccontextmanager
    async def make(model=None, **settings):
        given = {"database": tmp_path / "piano.duckdb", "workspace": tmp_path, "shutdown_timeout": 0.0} | settings
        async with asyncio.timeout(DEADLINE), Piano(model=model, **given) as piano:
            yield piano

    return make


async def heard(events, kind):
    async for event in events:
        if isinstance(event, kind):
            return event
    raise AssertionError(kind)


@pytest.fixture
def left_behind(piano_of, scripted):
    """Leave a job in the middle of its answer; return it. `settings` are those of the Piano that was asked."""

    async def leave(tools=(), enabled=(), **settings):
        async with piano_of(scripted(asyncio.Event()), tools=tools, **settings) as piano:
            await piano.update_agent("Assistant", enabled_tools=enabled)
            events = piano.events()
            job = await piano.send("go", thread=await piano.open_thread("left"))
            await heard(events, MessageDelta)
        return job

    return leave


async def test_opening_and_looking_run_nothing(left_behind, piano_of, scripted):
    job = await left_behind()
    model = scripted()

    async with piano_of(model) as piano:
        await piano.status()
        await piano.jobs()
        await piano.search("go")
        await piano.drain()

        assert model.requests == []
        assert await piano.unfinished() == [(await piano.find_job(job), LEFT)]
        with pytest.raises(PianoError, match="waits: an earlier kernel left it; %piano resume"):
            await piano.wait(job)


@pytest.mark.parametrize("verb", ["send", "edit", "regenerate", "retry", "resume"])
async def test_an_unfinished_job_continues_when_a_message_is_sent_or_the_user_resumes_it(
    left_behind, piano_of, scripted, verb
):
    async with piano_of(scripted("hello", RuntimeError("no"))) as piano:
        answer = await piano.ask("hi")
        failed = await piano.send("fails")
        with pytest.raises(PianoError):
            await piano.wait(failed)
    job = await left_behind()

    async with piano_of(scripted("it", "new", "more")) as piano:
        verbs = {
            "send": lambda: piano.send("more"),
            "edit": lambda: piano.edit(answer.parent_id, "more"),
            "regenerate": lambda: piano.regenerate(answer),
            "retry": lambda: piano.retry(failed),
            "resume": lambda: piano.resume(job),
        }
        await verbs[verb]()

        assert (await piano.wait(job)).content == "it"
        await piano.drain()
        assert await piano.unfinished() == []


async def test_one_job_is_resumed_and_the_others_keep_waiting(left_behind, piano_of, scripted):
    first, second = await left_behind(), await left_behind()

    async with piano_of(scripted("two")) as piano:
        assert [each.id for each, _ in await piano.resume(second)] == [first.id]
        assert (await piano.wait(second)).content == "two"
        await piano.drain()
        assert [each.id for each, _ in await piano.unfinished()] == [first.id]


async def test_a_waiting_unfinished_job_is_cancelled_like_any_other(left_behind, piano_of, scripted):
    job = await left_behind()

    async with piano_of(scripted()) as piano:
        assert (await piano.cancel(job)).status is JobStatus.CANCELLED
        assert await piano.unfinished() == []
        await piano.resume()
        await piano.drain()


async def test_a_question_in_the_same_thread_is_answered_while_an_unfinished_job_waits(left_behind, piano_of, scripted):
    @tool
    def price() -> str:
        """Return the price."""
        return "3"

    job = await left_behind(tools=[price], enabled=["price"])

    async with piano_of(scripted("second")) as piano:
        await piano.update_agent("Assistant", model="m")
        await piano.add_agent("bo")
        answer = await piano.ask("and now?", agent="bo", thread="left")

        assert answer.content == "second"
        (held,) = await piano.unfinished()
        assert held == (await piano.find_job(job), "a tool that is not defined here: price; run its cell")


async def test_an_unfinished_job_waits_until_the_tools_of_its_agent_are_defined(left_behind, piano_of, scripted):
    @tool
    def price() -> str:
        """Return the price."""
        return "3"

    job = await left_behind(tools=[price], enabled=["price"])

    async with piano_of(scripted("3")) as piano:
        ((held, why),) = await piano.resume()
        assert (held.id, why) == (job.id, "a tool that is not defined here: price; run its cell")
        with pytest.raises(PianoError, match="price"):
            await piano.wait(job)
        piano.add_tool(price)
        assert (await piano.wait(job)).content == "3"


async def test_a_job_whose_agent_is_gone_fails_and_blocks_no_other(left_behind, piano_of, scripted, tmp_path):
    job = await left_behind()
    with duckdb.connect(tmp_path / "piano.duckdb") as connection:
        connection.execute("UPDATE jobs SET agent_id = uuid()")

    async with piano_of(scripted("hello")) as piano:
        answer = await piano.ask("hi", thread=await piano.open_thread("new"))

        assert answer.content == "hello"
        with pytest.raises(PianoError, match="no agent with the id"):
            await piano.wait(job)


async def test_an_unfinished_job_runs_under_the_mode_that_it_was_sent_under(
    left_behind, piano_of, scripted, asks_for, acts
):
    job = await left_behind(tools=[acts.tool], enabled=["act"], mode="read")

    async with piano_of(scripted([asks_for("act")], "done"), tools=[acts.tool], mode="write") as piano:
        await piano.resume()
        await piano.wait(job)

        assert acts.modes == []
        assert [call.result for call in await piano.tool_calls(await piano.find_thread("left"))] == ["act is for read"]


async def test_an_unfinished_job_runs_under_the_current_mode_if_that_is_stricter(
    left_behind, piano_of, scripted, asks_for, acts
):
    job = await left_behind(tools=[acts.tool], enabled=["act"], mode="write")

    async with piano_of(scripted([asks_for("act")], "done"), tools=[acts.tool], mode="read") as piano:
        await piano.resume()
        await piano.wait(job)

        assert acts.modes == []


async def test_a_call_that_either_mode_asks_about_needs_approval_and_runs_in_the_stricter_mode(
    left_behind, piano_of, scripted, asks_for, acts
):
    job = await left_behind(tools=[acts.tool], enabled=["act"], mode="write")

    async with piano_of(scripted([asks_for("act")], "done"), tools=[acts.tool], mode="full") as piano:
        events = piano.events()
        await piano.resume()
        request = await heard(events, ApprovalRequested)
        await piano.approve(request)
        await piano.wait(job)

        assert "mode full asks; it runs in mode write" in request.reason
        assert acts.modes == ["write"]


@pytest.mark.parametrize(("sent", "now"), [(["deny act"], []), ([], ["deny act"]), (["deny act"], ["allow act"])])
async def test_a_rule_that_denies_applies_whether_it_was_set_then_or_now(
    left_behind, piano_of, scripted, asks_for, acts, sent, now
):
    job = await left_behind(tools=[acts.tool], enabled=["act"], rules=sent)

    async with piano_of(scripted([asks_for("act")], "done"), tools=[acts.tool], rules=now) as piano:
        await piano.resume()
        await piano.wait(job)

        assert acts.modes == []


async def test_a_new_rule_that_allows_does_not_apply_to_jobs_that_were_sent_before(
    left_behind, piano_of, scripted, asks_for, acts
):
    job = await left_behind(tools=[acts.tool], enabled=["act"], mode="full")

    async with piano_of(
        scripted([asks_for("act")], [asks_for("act")], "done"), tools=[acts.tool], mode="full", rules=["allow act"]
    ) as piano:
        events = piano.events()
        await piano.resume()
        request = await heard(events, ApprovalRequested)
        await piano.approve(request, always=True)  # so the next such call needs no approval
        await piano.wait(job)

        assert acts.modes == ["full", "full"]


async def test_a_delegated_job_runs_under_the_terms_of_the_question(piano_of, scripted, asks_for, acts):
    model = scripted("@bo go on", [asks_for("act")], "done")
    async with piano_of(model, tools=[acts.tool], mode="read") as piano:
        await piano.add_agent("ada")
        await piano.add_agent("bo", enabled_tools=["act"])
        started = piano.events()
        await piano.send("go", agent="ada")
        await heard(started, JobStarted)
        piano.config.mode = "write"
        await piano.drain()

        assert acts.modes == []
        assert {job.mode for job in await piano.jobs()} == {"read"}


async def test_a_retried_job_runs_under_the_current_mode_and_rules(piano_of, scripted, asks_for, acts):
    async with piano_of(
        scripted(RuntimeError("no"), [asks_for("act")], "done"), tools=[acts.tool], mode="read"
    ) as piano:
        await piano.update_agent("Assistant", enabled_tools=["act"])
        job = await piano.send("go")
        with pytest.raises(PianoError):
            await piano.wait(job)
        piano.config.mode = "write"
        await piano.wait(await piano.retry(job))

        assert acts.modes == ["write"]


# -- the server that it was sent to


@pytest.fixture
def sent_to(piano_of):
    """Leave a job that was sent to a server; return it."""

    async def leave(url):
        async with piano_of(base_url=url, embedded="never") as piano:
            await piano.stop()
            return await piano.send("go")

    return leave


async def test_a_job_that_was_sent_to_a_server_is_never_answered_by_the_embedded_model(
    sent_to, piano_of, stub_model, closed_port, llama_cpp
):
    job = await sent_to(stub_model.url)

    async with piano_of(base_url=closed_port) as piano:
        ((held, why),) = await piano.resume()
        await piano.drain()

        assert held.server == stub_model.url
        assert why == (
            f"{stub_model.url}, which it was sent to; questions go to the embedded model now: "
            f"%piano retry {short(job.id)} sends it there"
        )
        piano.config.base_url = stub_model.url
        assert await piano.resume() == []
        assert (await piano.wait(job)).content == "You said: go"


async def test_a_job_is_not_sent_to_another_server_than_before(sent_to, piano_of, stub_model, closed_port):
    await sent_to(closed_port)

    async with piano_of(base_url=stub_model.url, embedded="never") as piano:
        ((_, why),) = await piano.resume()
        await piano.drain()

        assert why.startswith(f"{closed_port}, which it was sent to; questions go to {stub_model.url} now")
        assert stub_model.requests == []


async def test_a_job_that_waits_for_another_server_is_sent_to_this_one_by_retry(
    sent_to, piano_of, stub_model, closed_port
):
    job = await sent_to(closed_port)

    async with piano_of(base_url=stub_model.url, embedded="never") as piano:
        await piano.resume()
        retried = await piano.retry(job)

        assert retried.server == stub_model.url
        assert (await piano.wait(job)).content == "You said: go"
        assert await piano.unfinished() == []


@pytest.mark.parametrize("look", ["status", "unfinished", "wait"])
async def test_a_job_continues_when_the_settings_name_its_server_again_and_resume_looks(
    sent_to, piano_of, stub_model, closed_port, look
):
    job = await sent_to(stub_model.url)

    async with piano_of(base_url=closed_port, embedded="never") as piano:
        await piano.resume()
        piano.config.base_url = stub_model.url
        if look != "wait":
            await getattr(piano, look)()

        assert (await piano.wait(job)).content == "You said: go"


async def test_a_question_that_nothing_but_the_embedded_model_can_answer_is_sent_to_it(
    piano_of, closed_port, llama_cpp
):
    async with piano_of(base_url=closed_port) as piano:
        await piano.stop()

        assert (await piano.send("go")).server == EMBEDDED
        assert piano.stand_in == (await piano.status()).answering_model == "SmolLM2-135M-Instruct"


async def test_a_question_on_its_way_to_a_server_is_not_answered_by_the_embedded_model(piano_of, stub_model, llama_cpp):
    async with piano_of(base_url=stub_model.url) as piano:
        await piano.stop()
        job = await piano.send("go")
        piano.config.embedded = "only"
        await piano.start()

        with pytest.raises(ModelUnavailableError, match=f"this was sent to {stub_model.url}"):
            await piano.wait(job)
