"""Cancel, wherever a job is, against a real llama.cpp server: over in a second, its slot free, the talk valid."""

import asyncio
import json
import time
import urllib.request

import pytest
from swap_servers import model_command

from piano_jupyter.events import ApprovalRequested, JobStarted, MessageDelta, ModelLoading, ToolCalled
from piano_jupyter.records import CallStatus, JobStatus
from piano_jupyter.tool import tool

pytestmark = pytest.mark.model
DEADLINE = 60
AT_ONCE = 1.0  # seconds


@pytest.fixture(scope="module")
def endless(serve_tiny):
    """A model that writes until it is stopped."""
    return serve_tiny()


@pytest.fixture(scope="module")
def calling(serve_tiny, tiny):
    """A model that calls `wait`, and answers once that has returned."""
    says = '<tool_call>\n{"name": "wait", "arguments": {}}\n</tool_call>'
    return serve_tiny(says=says, says_after_tool="All done.", chat_template=tiny.TOOLS)


@pytest.fixture(scope="module")
def loading(start_swap, tiny, tmp_path_factory):
    """A model behind llama-swap's stand-in that loads until `loading.gate` is there."""
    folder = tmp_path_factory.mktemp("loading")
    gguf = tiny.write_tiny_gguf(folder / "plain.gguf", says="Here at last.")
    command = model_command(gguf, "held", "--wait-for", folder / "gate")
    server = start_swap("stand-in", {"held": {"cmd": command}}, sendLoadingState=False)
    server.gate = folder / "gate"
    return server


async def cancelled(piano, job):
    """Cancel a job; return it as it then is, and the seconds that took."""
    begun = time.monotonic()
    job = await piano.cancel(job)
    return job.status, time.monotonic() - begun


async def until(events, kind):
    async with asyncio.timeout(DEADLINE):
        async for event in events:
            if isinstance(event, kind):
                return event
    return None


async def free(endpoint):
    """Return when the server works on nothing, at once or never."""
    root = endpoint.url.removesuffix("/v1")
    request = urllib.request.Request(f"{root}/slots", headers={"Authorization": f"Bearer {endpoint.api_key}"})

    def at_work():
        with urllib.request.urlopen(request, timeout=10) as answer:
            return any(slot["is_processing"] for slot in json.load(answer))

    async with asyncio.timeout(AT_ONCE):
        while await asyncio.to_thread(at_work):
            pass


async def open_calls(piano):
    """Return the calls of the thread that have no result."""
    return [call for call in await piano.tool_calls(piano.thread) if call.result is None]


async def test_j8_a_job_that_streams_is_over_at_once_and_its_slot_free(piano_at, endless):
    async with piano_at(endless) as piano:
        events = piano.events()
        job = await piano.send("go")
        await until(events, MessageDelta)

        status, seconds = await cancelled(piano, job)
        await free(endless)

        assert (status, seconds < AT_ONCE) == (JobStatus.CANCELLED, True)
        assert [message.role for message in await piano.messages(piano.thread)] == ["user"]


async def test_j8_the_next_request_begins_at_once_where_the_last_was_cancelled(piano_at, endless):
    async with piano_at(endless) as piano:
        events = piano.events()
        first = await piano.send("go")
        second = await piano.send("go on")
        await until(events, MessageDelta)

        await cancelled(piano, first)
        async with asyncio.timeout(AT_ONCE):  # its only slot would be taken for as long as the first one writes
            while (await until(events, MessageDelta)).job_id != second.id:
                pass

        assert (await cancelled(piano, second))[0] is JobStatus.CANCELLED
        await free(endless)


async def test_j8_a_job_that_waits_in_the_queue_never_begins(piano_at, endless):
    async with piano_at(endless) as piano:
        events = piano.events()
        first = await piano.send("go")
        second = await piano.send("go on")
        await until(events, MessageDelta)

        status, seconds = await cancelled(piano, second)

        assert (status, seconds < AT_ONCE) == (JobStatus.CANCELLED, True)
        await cancelled(piano, first)
        await events.aclose()
        assert second.id not in [event.job.id async for event in events if isinstance(event, JobStarted)]


async def test_j8_a_job_whose_model_loads_is_over_at_once(piano_at, loading):
    loading.api_key = loading.key
    async with piano_at(loading, default_model="held") as piano:
        events = piano.events()
        job = await piano.send("go")
        await until(events, ModelLoading)

        status, seconds = await cancelled(piano, job)
        loading.gate.touch()
        async with asyncio.timeout(DEADLINE):
            answer = await piano.ask("and now?")

    assert (status, seconds < AT_ONCE) == (JobStatus.CANCELLED, True)
    assert answer.content == "Here at last."


@pytest.mark.parametrize("kind", ["a coroutine", "a function", "bash"])
async def test_j8_a_job_that_runs_a_tool_is_over_at_once_with_a_result_for_its_call(piano_at, serve_tiny, tiny, kind):
    begun, release = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    @tool
    async def wait_in_a_coroutine() -> str:
        """Wait."""
        begun.set()
        await release.wait()
        return "done"

    @tool
    def wait_in_a_function() -> str:
        """Wait."""
        loop.call_soon_threadsafe(begun.set)
        asyncio.run_coroutine_threadsafe(release.wait(), loop).result()
        return "done"

    name, arguments = {
        "a coroutine": ("wait_in_a_coroutine", {}),
        "a function": ("wait_in_a_function", {}),
        "bash": ("bash", {"command": "sleep 987"}),
    }[kind]
    call = f'<tool_call>\n{{"name": "{name}", "arguments": {json.dumps(arguments)}}}\n</tool_call>'
    endpoint = serve_tiny(says=call, says_after_tool="All done.", chat_template=tiny.TOOLS)
    async with piano_at(endpoint, tools=[wait_in_a_coroutine, wait_in_a_function]) as piano:
        await piano.update_agent("Assistant", enabled_tools=[name])
        events = piano.events()
        job = await piano.send("go")
        asked = await until(events, (ApprovalRequested, ToolCalled))
        if isinstance(asked, ApprovalRequested):
            await piano.approve(asked.call)
            await until(events, ToolCalled)
        if kind != "bash":
            async with asyncio.timeout(DEADLINE):
                await begun.wait()

        status, seconds = await cancelled(piano, job)
        release.set()

        assert (status, seconds < AT_ONCE) == (JobStatus.CANCELLED, True)
        assert await open_calls(piano) == []
        [kept] = await piano.tool_calls(piano.thread)
        assert kept.status in {CallStatus.UNKNOWN, CallStatus.FAILED}
        await free(endpoint)


async def test_j8_a_job_that_waits_for_approval_is_over_at_once_and_the_thread_goes_on(piano_at, calling):
    @tool(asks=True)
    def wait() -> str:
        """Wait."""
        return "waited"

    async with piano_at(calling, tools=[wait]) as piano:
        await piano.update_agent("Assistant", enabled_tools=["wait"])
        events = piano.events()
        job = await piano.send("go")
        await until(events, ApprovalRequested)

        status, seconds = await cancelled(piano, job)
        assert (status, seconds < AT_ONCE) == (JobStatus.CANCELLED, True)
        assert await piano.approvals() == []
        assert await open_calls(piano) == []

        again = await piano.send("and now?")
        await piano.approve((await until(events, ApprovalRequested)).call)
        async with asyncio.timeout(DEADLINE):
            answer = await piano.wait(again)

    assert answer.content == "All done."
