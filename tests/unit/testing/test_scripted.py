"""The scripted model and the scripted server, as users have them."""

import asyncio
import json
import urllib.error
import urllib.request

import pytest

from piano_jupyter import Piano
from piano_jupyter.errors import ModelError, ModelTimeoutError
from piano_jupyter.events import MessageDelta
from piano_jupyter.testing import (
    ChatRequest,
    Delta,
    Reply,
    ScriptedModel,
    ScriptedServer,
    ServerReply,
    echo,
    tool_call,
)

DEADLINE = 10
REQUEST = ChatRequest(model="m", messages=[{"role": "user", "content": "hi"}])


async def pieces(model):
    return [piece async for piece in model.stream(REQUEST)]


@pytest.mark.parametrize(
    ("step", "reply"),
    [
        ("one two", Reply(text="one two", finish_reason="stop", usage={"model": "m", "completion_tokens": 2})),
        (tool_call("look"), Reply(calls=(tool_call("look"),), finish_reason="tool_calls")),
        (
            [tool_call("look", at=at) for at in "ab"],
            Reply(calls=tuple(tool_call("look", at=at) for at in "ab"), finish_reason="tool_calls"),
        ),
        (Reply(text="as it is", reasoning="hm"), Reply(text="as it is", reasoning="hm")),
        ([Delta(text="a"), Reply(text="ab")], Reply(text="ab")),
        (
            lambda request: f"for {request.model}",
            Reply(text="for m", finish_reason="stop", usage={"model": "m", "completion_tokens": 2}),
        ),
    ],
    ids=["text", "call", "calls", "reply", "pieces", "function"],
)
async def test_each_kind_of_step_gives_its_reply(step, reply):
    assert (await pieces(ScriptedModel([step])))[-1] == reply


@pytest.mark.parametrize("text", ["", "one", "  one\n\ttwo ", "\n"])
async def test_the_pieces_of_a_text_are_the_text(text):
    *deltas, reply = await pieces(ScriptedModel([text]))

    assert "".join(delta.text for delta in deltas) == reply.text == text


async def test_an_exception_of_the_script_is_raised():
    with pytest.raises(ModelTimeoutError, match="too slow"):
        await pieces(ScriptedModel([ModelTimeoutError("too slow")]))


async def test_an_event_holds_the_answer_until_it_is_set():
    go = asyncio.Event()
    async with Piano(database=":memory:", model=ScriptedModel([go, "done"])) as piano:
        events = piano.bus.stream(MessageDelta)
        job = await piano.send("hi")
        async with asyncio.timeout(DEADLINE):
            await anext(events)
        go.set()

        assert (await piano.wait(job)).content == "done"


async def test_a_script_that_is_used_up_fails_the_question_and_says_so():
    async with Piano(database=":memory:", model=ScriptedModel(["one"])) as piano:
        await piano.ask("first")
        with pytest.raises(ModelError, match="the script has no reply left for request 2"):
            await piano.ask("second")


async def test_a_function_answers_when_the_script_is_used_up():
    model = ScriptedModel(["scripted"], answer=echo)

    assert [(await pieces(model))[-1].text for _ in range(2)] == ["scripted", "You said: hi"]
    assert model.requests == [REQUEST, REQUEST]


# -- the server ----------------------------------------------------------------------------------------


@pytest.fixture
def piano_on(tmp_path):
    def make(server, **settings):
        place = {"database": ":memory:", "workspace": tmp_path, "base_url": server.url, "embedded": "never"}
        return Piano(**place, **settings)

    return make


async def test_the_server_streams_texts_calls_and_reasoning(piano_on):
    def add(a: int, b: int) -> int:
        """Add two numbers."""
        return a + b

    with ScriptedServer([tool_call("add", a=1, b=2), ServerReply("It is 3.", reasoning="1 + 2")]) as server:
        async with piano_on(server, tools=[add]) as piano:
            await piano.update_agent("Assistant", enabled_tools=["add"])
            answer = await piano.ask("1 + 2?")

    assert (answer.content, answer.reasoning) == ("It is 3.", "1 + 2")
    assert [request["messages"][-1]["content"] for request in server.requests] == ["1 + 2?", "3"]


async def test_the_server_answers_with_the_status_of_the_script_and_with_one_that_says_it_is_used_up(piano_on):
    with ScriptedServer([ServerReply("no such template", status=400)]) as server:
        async with piano_on(server) as piano:
            for sentence in ("no such template", "the script has no reply left for request 2"):
                with pytest.raises(ModelError, match=sentence):
                    await piano.ask("hi")


async def test_a_reply_that_breaks_off_is_asked_for_again(piano_on):
    with ScriptedServer([ServerReply("one two", breaks_off=True), "Paris."]) as server:
        async with piano_on(server) as piano:
            assert (await piano.ask("Capital?")).content == "Paris."


async def test_a_held_reply_continues_when_it_is_released(piano_on):
    with ScriptedServer([ServerReply("one two", held=True)]) as server:
        async with piano_on(server) as piano:
            events = piano.bus.stream(MessageDelta)
            job = await piano.send("hi")
            async with asyncio.timeout(DEADLINE):
                await anext(events)
            server.release.set()

            assert (await piano.wait(job)).content == "one two"
    assert not server.disconnected.is_set()


async def test_the_server_notes_a_client_that_leaves_in_the_middle(piano_on):
    with ScriptedServer([ServerReply("one two", held=True)]) as server:
        async with piano_on(server) as piano:
            events = piano.bus.stream(MessageDelta)
            job = await piano.send("hi")
            async with asyncio.timeout(DEADLINE):
                await anext(events)
            await piano.cancel(job)

            assert await asyncio.to_thread(server.disconnected.wait, DEADLINE)


async def test_a_reset_server_is_as_it_was_started(piano_on):
    with ScriptedServer(["left over"], answer=echo) as server:
        server.answer, server.models = None, ["other"]
        server.reset()
        async with piano_on(server) as piano:
            answer = await piano.ask("hi")

    assert (answer.content, server.models, len(server.requests)) == ("You said: hi", ["qwen3:32b"], 1)


def test_the_server_lists_its_models_and_serves_other_paths():
    def get(path):
        with urllib.request.urlopen(server.url.removesuffix("/v1") + path, timeout=DEADLINE) as response:
            return json.load(response)

    with ScriptedServer(models=["a", "b"], serves={"/props": {"n_ctx": 5}}) as server:
        assert [model["id"] for model in get("/v1/models")["data"]] == ["a", "b"]
        assert get("/props") == {"n_ctx": 5}
        with pytest.raises(urllib.error.HTTPError, match="404"):
            get("/nothing")


def test_a_server_may_be_stopped_twice_and_started_again():
    server = ScriptedServer()
    for _ in range(2):
        server.start()
        server.stop()
        server.stop()

    assert server.url.startswith("http://127.0.0.1:")
