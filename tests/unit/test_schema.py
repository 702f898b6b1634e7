"""Answers as values, over a real store and a scripted model: ask, send, value; what fails; what is resumed."""

import asyncio
import json
from dataclasses import dataclass
from typing import TypedDict

import pytest

from piano_jupyter import Piano, PianoError
from piano_jupyter.errors import ModelError
from piano_jupyter.events import MessageDelta, ModelLoading
from piano_jupyter.records import JobStatus
from piano_jupyter.tool import tool

DEADLINE = 10
ADA = '{"name": "Ada", "age": 36}'


@dataclass
class Person:
    name: str
    age: int


class Row(TypedDict):
    name: str


@pytest.fixture
def piano_of(tmp_path):
    def make(model, **settings):
        return Piano(**{"database": ":memory:", "workspace": tmp_path, "model": model, **settings})

    return make


async def test_ask_gives_a_value_of_the_type_and_keeps_the_json(piano_of, scripted):
    model = scripted(f"```json\n{ADA}\n```")
    async with piano_of(model) as piano:
        value = await piano.ask("Who is it?", schema=Person)
        told = await piano.messages(piano.thread)
        (job,) = await piano.jobs()

    assert value == Person("Ada", 36)
    assert [message.content for message in told] == ["Who is it?", ADA]
    assert job.schema["properties"] == {"name": {"type": "string"}, "age": {"type": "integer"}}
    assert model.requests[0].schema == job.schema


@pytest.mark.parametrize(
    ("schema", "said", "value"),
    [
        ({"type": "array", "items": {"type": "integer"}}, "[1, 2]", [1, 2]),
        ('{"type": "integer"}', '"3"', 3),
        (list[Person], f"[{ADA}]", [Person("Ada", 36)]),
        (Row | None, "null", None),
        (Row | None, '{"name": "Ada"}', {"name": "Ada"}),
        (float, "2", 2.0),
    ],
)
async def test_a_schema_is_whatever_says_what_is_wanted(piano_of, scripted, schema, said, value):
    async with piano_of(scripted(said)) as piano:
        assert await piano.ask("Well?", schema=schema) == value


async def test_several_agents_give_a_list_of_values(piano_of, scripted):
    async with piano_of(scripted("1", "2")) as piano:
        await piano.add_agent("ada")
        await piano.add_agent("bo")

        assert await piano.ask_all("How many?", agents=["ada", "bo"], schema=int) == [1, 2]


async def test_send_gives_a_job_whose_answer_is_json_and_value_makes_a_value_of_it(piano_of, scripted):
    async with piano_of(scripted(ADA, "words")) as piano:
        answer = await piano.wait(await piano.send("Who?", schema=Person))
        as_text = await piano.wait(await piano.send("And in words?"))

        assert answer.content == ADA
        assert await piano.value(answer) == {"name": "Ada", "age": 36}
        assert await piano.value(str(answer.id), Person) == Person("Ada", 36)
        with pytest.raises(PianoError, match="was asked for without a schema; pass one to value"):
            await piano.value(as_text)
        with pytest.raises(PianoError, match="it is not JSON"):
            await piano.value(as_text, Person)


async def test_a_wrong_schema_is_refused_before_anything_is_sent(piano_of, scripted):
    model = scripted()
    async with piano_of(model) as piano:
        for ask in (piano.ask, piano.ask_all, piano.send, piano.send_all):
            with pytest.raises(PianoError, match="the schema is wrong: 'type' must be"):
                await ask("Who?", schema={"type": "persn"})

        assert await piano.threads() == []
        assert model.requests == []


async def test_an_answer_that_does_not_match_is_asked_for_again_within_the_turn(piano_of, scripted):
    model = scripted("Ada, 36.", '{"name": "Ada"}', ADA)
    async with piano_of(model) as piano:
        events = piano.events()
        value = await piano.ask("Who?", schema=Person)
        await events.aclose()
        said, notes = {}, []
        async for event in events:
            if isinstance(event, MessageDelta):
                said[event.message_id] = said.get(event.message_id, "") + event.text
            elif isinstance(event, ModelLoading):
                notes.append(event.note)
        told = await piano.messages(piano.thread)
        (job,) = await piano.jobs()

    assert value == Person("Ada", 36)
    assert [message.content for message in told] == ["Who?", ADA]
    assert (job.status, job.attempt) == (JobStatus.DONE, 1)
    assert set(said.values()) == {"Ada, 36.", '{"name": "Ada"}', ADA}
    assert told[1].usage["completion_tokens"] == 4
    assert told[1].usage["turn"] == {"rounds": 3, "completion_tokens": 8}
    assert notes == [
        f"the answer does not match the schema ({problem}); asking again"
        for problem in (
            "it is not JSON (Expecting value: line 1 column 1 (char 0))",
            "'age' is missing; it must be a whole number",
        )
    ]


async def test_cancelled_while_it_is_asked_again_the_job_is_over_and_the_thread_goes_on(piano_of, scripted):
    model = scripted("Ada, 36.", asyncio.Event(), ADA)
    async with piano_of(model) as piano:
        events = piano.events()
        job = await piano.send("Who?", schema=Person)
        async with asyncio.timeout(DEADLINE):
            async for event in events:
                if isinstance(event, MessageDelta) and event.text == "…":
                    break

        assert (await piano.cancel(job)).status is JobStatus.CANCELLED
        assert [message.content for message in await piano.messages(piano.thread)] == ["Who?"]
        assert await piano.ask("Who?", schema=Person) == Person("Ada", 36)


async def test_the_third_mismatch_fails_the_job_and_retry_asks_in_the_same_form(piano_of, scripted):
    async with piano_of(scripted("a", "b", "c d", ADA)) as piano:
        with pytest.raises(
            ModelError, match=r'did not match the schema 3 times; the last one: it is not JSON.* It was "c d"'
        ):
            await piano.ask("Who?", schema=Person)
        (job,) = await piano.jobs(JobStatus.FAILED)

        answer = await piano.wait(await piano.retry(job))

        assert "3 times; the last one: it is not JSON" in job.reason
        assert answer.content == ADA


async def test_a_regenerated_or_edited_question_keeps_its_schema(piano_of, scripted):
    model = scripted(*[ADA] * 4)
    async with piano_of(model) as piano:
        answer = await piano.wait(await piano.send("Who?", schema=Person))
        question = (await piano.messages(piano.thread))[0]
        for again in (piano.regenerate(answer), piano.regenerate(question), piano.edit(question, "Who else?")):
            (job,) = await again
            assert await piano.value(await piano.wait(job), Person) == Person("Ada", 36)

        assert [job.schema == model.requests[0].schema for job in await piano.jobs()] == [True] * 4


async def test_a_follow_up_is_text_again_and_reads_the_json(piano_of, scripted):
    model = scripted(ADA, "She was a mathematician.")
    async with piano_of(model) as piano:
        await piano.ask("Who?", schema=Person)
        answer = await piano.ask("And what was she?")

    assert answer.content == "She was a mathematician."
    assert model.requests[1].schema is None
    assert [message["content"] for message in model.requests[1].messages[-3:]] == ["Who?", ADA, "And what was she?"]


async def test_mentions_in_a_json_answer_are_ignored(piano_of, scripted):
    async with piano_of(scripted('["@bo"]')) as piano:
        await piano.add_agent("bo")
        await piano.ask("Whom would you ask?", schema=list[str])
        await piano.drain()

        assert len(await piano.jobs()) == 1


async def test_tools_are_called_first_and_the_value_comes_from_what_they_say(piano_of, scripted, asks_for):
    @tool
    def look() -> str:
        """Look around."""
        return "Ada, 36"

    model = scripted([asks_for("look")], "It is Ada, who is 36.", ADA)
    async with piano_of(model, tools=[look]) as piano:
        await piano.update_agent("Assistant", enabled_tools=["look"])
        value = await piano.ask("Who is there?", schema=Person)
        told = await piano.messages(piano.thread)

    assert value == Person("Ada", 36)
    assert [asked.may_call for asked in model.requests] == [True, True, False]
    assert [message.content for message in told] == ["Who is there?", "", ADA]


async def test_a_job_that_a_kernel_left_as_it_ended_is_answered_in_the_same_form(piano_of, scripted, tmp_path):
    path = str(tmp_path / "piano.duckdb")
    begun, held = asyncio.Event(), asyncio.Event()
    model = scripted(lambda _: begun.set() or held)
    first = piano_of(model, database=path, shutdown_timeout=0)
    await first.open()
    job = await first.send("Who?", schema=Person)
    async with asyncio.timeout(DEADLINE):
        await begun.wait()
    await first.close()

    async with piano_of(scripted("Ada", ADA), database=path) as second, asyncio.timeout(DEADLINE):
        await second.resume()
        answer = await second.wait(await second.find_job(job.id))

        assert (await second.find_job(job.id)).attempt == 1
        assert await second.value(answer) == json.loads(ADA)


async def test_a_conversation_with_json_in_it_reads_as_code_in_markdown(piano_of, scripted):
    async with piano_of(scripted(ADA)) as piano:
        await piano.ask("Who?", schema=Person)

        assert '```json\n{\n  "name": "Ada",\n  "age": 36\n}\n```' in await piano.export(piano.thread, "markdown")
