"""Answers as values on a real llama.cpp server, which makes a grammar of the schema."""

from dataclasses import dataclass
from datetime import date
from typing import Literal

import pytest

from piano_jupyter.errors import ModelError
from piano_jupyter.events import ModelLoading
from piano_jupyter.tool import tool

pytestmark = pytest.mark.model


@dataclass
class Weather:
    """The weather of a place."""

    place: str
    degrees: int
    sky: Literal["clear", "cloudy", "rain"]


@dataclass
class Noise:
    count: int
    mood: Literal["good", "bad"]
    day: date
    sure: bool
    pair: tuple[bool, Literal["a", "b"]]
    inner: "Noise | None" = None


async def test_the_grammar_constrains_even_a_random_model_to_a_type(piano_at, serve_tiny):
    async with piano_at(serve_tiny()) as piano:
        events = piano.events()
        value = await piano.ask("Say something.", schema=Noise)
        await events.aclose()
        notes = [event.note async for event in events if isinstance(event, ModelLoading)]

    assert isinstance(value, Noise)
    assert notes == []


async def test_an_unconstrained_model_is_asked_three_times_and_then_it_is_an_error(piano_at, tiny_server):
    async with piano_at(tiny_server) as piano:
        await piano.update_agent("Assistant", options={"max_tokens": 40})
        with pytest.raises(ModelError, match=r"did not match the schema 3 times; the last one: .* It was "):
            await piano.ask("Well?", schema={"type": "string", "pattern": "x+"})  # its server makes no grammar of that


async def test_tools_are_called_first_and_the_last_answer_is_constrained_to_the_schema(looking):
    async with looking() as piano:
        value = await piano.ask("What is there?", schema={"enum": ["lake", "sea"]})
        (call,) = await piano.tool_calls(piano.thread)
        answer = (await piano.messages(piano.thread))[-1]

    assert value in {"lake", "sea"}
    assert (call.name, call.result) == ("look", "a lake")
    usage = answer.usage  # of the last request, which found the one before in the cache, the tools in front included
    assert usage["cached_tokens"] > usage["prompt_tokens"] * 0.8


async def test_the_embedded_model_gives_a_value_of_a_small_dataclass_8_of_8_times(embedded):
    places = ["Rome", "Oslo", "Cairo", "Lima", "Kyoto", "Perth", "Quito", "Accra"]
    values = []
    async with embedded() as piano:
        for place in places:
            await piano.open_thread(place)
            values.append(await piano.ask(f"How is the weather in {place} in July?", schema=Weather))

        assert [type(value) for value in values] == [Weather] * 8
        assert [job.attempt for job in await piano.jobs()] == [1] * 8
    assert sum(place in value.place for place, value in zip(places, values, strict=True)) >= 4


async def test_the_embedded_model_calls_a_tool_and_gives_a_value(embedded):
    @tool
    def weather(city: str) -> str:
        """Tell the weather of a city now."""
        return "sunny, 21 degrees"

    async with embedded(tools=[weather]) as piano:
        await piano.update_agent("Assistant", enabled_tools=["weather"], options={"temperature": 0})
        value = await piano.ask("How is the weather in Rome?", schema=Weather)
        calls = await piano.tool_calls(piano.thread)

    assert isinstance(value, Weather)
    assert [call.name for call in calls][:1] == ["weather"]
