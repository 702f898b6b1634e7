"""What a tool may do more once it has run, if the user approves: what a command wrote to protected names."""

import asyncio
from contextlib import asynccontextmanager

import pytest

from piano_jupyter import Piano
from piano_jupyter.events import ApprovalRequested
from piano_jupyter.records import CallStatus, JobStatus
from piano_jupyter.tool import NeedsApproval, tool

DEADLINE = 30


class Gate:
    """A tool that has more to do when it has run, and remembers which answer it got."""

    def __init__(self):
        self.answers = []

        @tool
        def act() -> NeedsApproval:
            """Do something."""

            async def accept():
                self.answers.append("accepted")
                return "[the rest was done]"

            async def refuse():
                self.answers.append("refused")
                return "[the rest was not done]"

            return NeedsApproval(
                text="did it", question="may it do the rest?", reason="it is much", accept=accept, refuse=refuse
            )

        self.tool = act


@pytest.fixture
def gate():
    return Gate()


@pytest.fixture
def piano_of(tmp_path, gate):
    @asynccontextmanager
    async def make(model, **settings):
        given = {"database": ":memory:", "workspace": tmp_path, "tools": [gate.tool], **settings}
        async with Piano(model=model, **given) as piano:
            await piano.update_agent("Assistant", enabled_tools=["act", "bash"])
            yield piano

    return make


async def request_of(piano, events):
    async with asyncio.timeout(DEADLINE):
        async for event in events:
            if isinstance(event, ApprovalRequested):
                return event
    raise AssertionError


async def results(piano):
    return [call.result for call in await piano.tool_calls(piano.thread)]


@pytest.mark.parametrize(
    ("answer", "text"), [("approve", "did it\n[the rest was done]"), ("deny", "did it\n[the rest was not done]")]
)
async def test_the_user_is_asked_about_the_rest_after_a_tool_has_run(piano_of, scripted, asks_for, gate, answer, text):
    async with piano_of(scripted([asks_for("act")], "ok")) as piano:
        events = piano.events()
        job = await piano.send("go")
        request = await request_of(piano, events)
        waiting = await piano.approvals()

        assert (request.question, request.reason) == ("Assistant has run act; may it do the rest?", "it is much")
        assert waiting == [request]
        assert await getattr(piano, answer)(request)
        await piano.wait(job)

        assert await results(piano) == [text]
        assert gate.answers == ["accepted" if answer == "approve" else "refused"]
        assert await piano.approvals() == []


async def test_without_an_answer_in_time_the_rest_is_refused(piano_of, scripted, asks_for, gate):
    async with piano_of(scripted([asks_for("act")], "ok"), approval_timeout=0.1) as piano:
        await piano.ask("go")

        assert await results(piano) == ["did it\n[the rest was not done]"]
        assert gate.answers == ["refused"]


async def test_the_time_that_the_user_takes_does_not_count_as_the_tools(piano_of, scripted, asks_for, gate):
    async with piano_of(scripted([asks_for("act")], "ok"), tool_timeout=0.2) as piano:
        events = piano.events()
        job = await piano.send("go")
        request = await request_of(piano, events)
        await asyncio.wait({asyncio.create_task(asyncio.Event().wait())}, timeout=0.5)
        await piano.approve(request)
        await piano.wait(job)

        assert await results(piano) == ["did it\n[the rest was done]"]


async def test_a_cancelled_job_refuses_the_rest_and_its_call_has_a_result(piano_of, scripted, asks_for, gate):
    async with piano_of(scripted([asks_for("act")], "ok")) as piano:
        events = piano.events()
        job = await piano.send("go")
        await request_of(piano, events)
        await piano.cancel(job)
        await piano.drain()

        assert gate.answers == ["refused"]
        (call,) = await piano.tool_calls(piano.thread)
        assert call.status is CallStatus.FAILED
        assert (await piano.find_job(str(job.id))).status is JobStatus.CANCELLED


async def test_what_a_command_wrote_to_a_protected_name_is_there_once_it_is_approved(
    piano_of, scripted, asks_for, sandboxed, tmp_path
):
    asked = asks_for("bash", command="echo mine >a; echo 'use flake' >.envrc")
    async with piano_of(scripted([asked], "ok")) as piano:
        events = piano.events()
        job = await piano.send("go")
        request = await request_of(piano, events)
        before = sorted(each.name for each in tmp_path.iterdir())
        await piano.approve(request)
        await piano.wait(job)

        assert request.reason.startswith("'.envrc' runs when a shell or a program is started")
        assert before == ["a"]
        assert (tmp_path / ".envrc").read_text() == "use flake\n"
        assert (await results(piano))[0].endswith("[the user approved these changes, and they were applied]")
