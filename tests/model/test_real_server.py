"""End to end on a real llama.cpp server: a tiny model that the tests write, and the embedded one."""

import asyncio
import itertools
import json
import urllib.request

import pytest
from waiting import until

from piano_jupyter.errors import ContextOverflowError, ModelError
from piano_jupyter.events import HistoryTrimmed, MessageDelta, ModelLoading
from piano_jupyter.records import CallStatus, JobStatus
from piano_jupyter.tool import tool

pytestmark = pytest.mark.model
DEADLINE = 120


def slots_at_work(endpoint):
    root = endpoint.url.removesuffix("/v1")
    request = urllib.request.Request(f"{root}/slots", headers={"Authorization": f"Bearer {endpoint.api_key}"})
    with urllib.request.urlopen(request, timeout=10) as answer:
        return [slot for slot in json.load(answer) if slot["is_processing"]]


async def test_a_real_server_answers_and_says_what_it_cost(piano_at, tiny_server):
    async with piano_at(tiny_server) as piano:
        status = await piano.model_status("a model of another name")
        events = piano.events()
        answer = await piano.ask("How are you?")
        await events.aclose()
        streamed = [event.text async for event in events if isinstance(event, MessageDelta)]

    assert answer.content == "All is well on this tiny server."
    assert "".join(streamed) == answer.content
    assert len(streamed) > 1
    assert answer.usage["completion_tokens"] >= len(streamed) - 1
    assert answer.usage["model"] == status.answering_model
    assert status.state == "loaded"


async def test_a_model_that_repeats_itself_is_stopped_and_its_slot_is_free(piano_at, serve_tiny):
    line = "\nThe capital of France is Paris."
    endpoint = serve_tiny(says=line, loops=True)

    async with piano_at(endpoint) as piano:
        answer = await piano.ask("What is it?")

    assert answer.usage["looped"]
    assert answer.content == line
    until(lambda: not slots_at_work(endpoint), "the slot is still at work")


async def test_reasoning_that_a_real_server_leaves_in_the_text_is_told_apart(piano_at, serve_tiny):
    async with piano_at(serve_tiny(says="<thought>\nIt may be so.\n</thought>\nYes, I am.")) as piano:
        answer = await piano.ask("Are you there?")

    assert (answer.content, answer.reasoning.strip()) == ("Yes, I am.", "It may be so.")


async def test_a_follow_up_evaluates_only_what_is_new(piano_at, tiny_server):
    async with piano_at(tiny_server) as piano:
        first = await piano.ask("Tell me how you are, at some length, so that there is something to keep in the cache.")
        second = await piano.ask("And now?")

    assert second.usage["cached_tokens"] >= first.usage["prompt_tokens"] - 1


async def test_a_wrong_key_is_a_sentence(piano_at, tiny_server):
    async with piano_at(tiny_server, api_key="wrong") as piano:
        with pytest.raises(ModelError, match="the server rejected the API key"):
            await piano.ask("hi")


async def test_a_call_that_llama_cpp_cannot_read_is_asked_for_again_and_never_shown(piano_at, serve_tiny, tiny):
    """The model's call breaks the server's grammar, each time; without tools its prompt ends differently."""

    @tool
    def look() -> str:
        """Look around."""
        return "a lake"

    template = tiny.TOOLS.replace("line if messages[-1].role == 'tool' else ''", "'' if tools else line")
    endpoint = serve_tiny(
        says="I look. <tool_call>\n<function=look>\n</parameter>", says_after_tool="All well.", chat_template=template
    )
    async with piano_at(endpoint, tools=[look]) as piano:
        await piano.update_agent("Assistant", enabled_tools=["look"])
        events = piano.events()
        answer = await piano.ask("What do you see?")
        await events.aclose()
        told = [event async for event in events]

    again = [event.note for event in told if isinstance(event, ModelLoading)]
    shown = {event.message_id: event.text for event in told if isinstance(event, MessageDelta)}
    assert answer.content.strip() == "All well."
    assert again.count("the server could not read what the model wrote; asking again") == 3
    assert len(shown) == 4
    assert not any("<function" in text for text in shown.values())


async def test_a_question_that_is_longer_than_the_window_loses_its_middle_and_is_answered(piano_at, tiny_server):
    async with piano_at(tiny_server) as piano:  # one byte is a token to this model, which nobody can guess
        events = piano.events()
        answer = await piano.ask("word " * 5000)
        await events.aclose()
        trimmed = [event async for event in events if isinstance(event, HistoryTrimmed)]
        told = await piano.messages(piano.thread)

    assert answer.content == "All is well on this tiny server."
    assert answer.usage["prompt_tokens"] < 2_048
    assert trimmed[-1].note.startswith("The context of 2,048 tokens is full: ")
    assert [message.role for message in told] == ["user", *["system"] * len(trimmed), "assistant"]


async def test_a_long_talk_stays_within_the_window_and_the_cache_warm(piano_at, tiny_server):
    async with piano_at(tiny_server) as piano:
        events = piano.events()
        answers = [await piano.ask(f"{number}: how are you, and what is new over there today?") for number in range(40)]
        await events.aclose()
        cuts = {event.job_id async for event in events if isinstance(event, HistoryTrimmed)}

    assert 1 <= len(cuts) <= 20
    for before, after in itertools.pairwise(answers):
        if after.job_id not in cuts:
            assert after.usage["cached_tokens"] >= before.usage["prompt_tokens"] - 1


async def test_what_cannot_fit_is_an_error_with_the_window_and_what_to_do(piano_at, tiny_server):
    async with piano_at(tiny_server) as piano:
        await piano.update_agent("Assistant", system_prompt="Be kind. " * 500)
        with pytest.raises(ContextOverflowError, match="context of 2,048 tokens; ask for less at once"):
            await piano.ask("hi")


async def test_cancel_frees_the_servers_slot(piano_at, serve_tiny):
    endless = serve_tiny(context=32_768)  # random weights: it goes on until it is stopped
    async with piano_at(endless) as piano:
        events = piano.events()
        job = await piano.send("go")
        async with asyncio.timeout(DEADLINE):
            async for event in events:
                if isinstance(event, MessageDelta):
                    break
            assert (await piano.cancel(job)).status is JobStatus.CANCELLED
            while await asyncio.to_thread(slots_at_work, endless):
                pass


async def test_a_model_whose_template_has_tools_calls_one_and_answers_from_its_result(looking):
    async with looking() as piano:
        answer = await piano.ask("What is there?")
        calls = await piano.tool_calls(piano.thread)

    assert [(call.name, call.result) for call in calls] == [("look", "a lake")]
    assert answer.content == "I see it."


async def test_where_nothing_answers_the_embedded_model_does_and_says_so(embedded):
    async with embedded() as piano:
        events = piano.events()
        answer = await piano.ask("What is the capital of France?")
        await events.aclose()
        notes = [event.note async for event in events if isinstance(event, ModelLoading)]
        status = await piano.status()

    assert "Paris" in answer.content
    assert answer.usage["model"] == "SmolLM2-135M-Instruct"
    assert notes[0] == "nothing answers at http://127.0.0.1:9/v1; using the embedded model instead"
    assert "SmolLM2-135M-Instruct" in notes[-1]
    assert "MB" in notes[-1]
    assert status.server == notes[-1]


async def test_the_embedded_model_calls_a_tool_and_answers_from_its_result(embedded):
    asked = []

    @tool
    def weather(city: str) -> str:
        """Tell the weather of a city now."""
        asked.append(city)
        return "sunny, 21 degrees"

    async with embedded(embedded="only", tools=[weather]) as piano:
        await piano.update_agent("Assistant", enabled_tools=["weather"], options={"temperature": 0})
        answer = await piano.ask("How is the weather in Rome?")
        calls = await piano.tool_calls(piano.thread)

    assert asked[0] == "Rome"
    assert {call.status for call in calls} == {CallStatus.OK}
    assert answer.content.strip()
    assert not answer.content.startswith("{")


async def test_the_embedded_model_can_be_turned_off(embedded):
    async with embedded(embedded="never") as piano:
        with pytest.raises(ModelError, match=r"nothing answers at http://127\.0\.0\.1:9/v1: start a server there"):
            await piano.ask("hi")
