"""What every store must find and reckon, over a file and in memory."""

import asyncio
from dataclasses import replace
from datetime import date, timedelta

import pytest

from piano_jupyter.errors import StoreError
from piano_jupyter.store.duckdb import reports


@pytest.fixture
async def thread(store, make):
    return await store.add_thread(make.thread("kept talk"))


@pytest.fixture
def say(store, make, thread):
    async def say(content, **fields):
        return await store.add_message(make.message(thread.id, content=content, **fields))

    return say


async def test_a_search_finds_what_was_said_and_titles_with_all_its_words(store, make, thread, say):
    both = await say("The fox is red.\nIt sleeps.")
    await say("only a FOX", role="assistant")
    titled = await store.add_thread(make.thread("Red FOXES", status="archived"))
    hits = await store.search("red fox", 10)

    assert [(hit.thread, hit.message) for hit in hits] == [(titled, None), (thread, both)]
    assert [(hit.excerpt, hit.marks, hit.at) for hit in hits] == [
        ("Red FOXES", ((0, 3), (4, 7)), 0),
        ("The fox is red. It sleeps.", ((4, 7), (11, 14)), 4),
    ]
    assert hits[0].score > hits[1].score > 0


async def test_only_messages_of_the_user_and_agents_are_searched(store, make, say):
    said = [await say("fox", role=role) for role in ("user", "assistant", "tool", "system")]
    await say("nothing", reasoning="fox")
    await store.add_message(make.message(content="fox"))  # of a thread that is not kept

    assert [hit.message for hit in await store.search("fox", 10)] == [said[1], said[0]]


async def test_best_matches_come_first_and_equal_ones_newest_first(store, say):
    part = await say("foxglove")
    old = await say("a fox here")
    new = await say("a fox there"[:10])
    often = await say("fox to fox")

    assert [hit.message for hit in await store.search("fox", 10)] == [often, new, old, part]
    assert [hit.message for hit in await store.search("fox", 2)] == [often, new]
    assert await store.search("fox", 0) == []


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("'; DROP TABLE messages; --", "DROP TABLE"),
        ("100% sure", "100%"),
        ("snake_case", "_"),
        ("it's", "'"),
        ("NUL \0 inside", "\0"),
        (r"C:\new", r"\n"),
        ("$one {two} ?", "$one {two} ?"),
        ("Ωμέγα ΟΔΟΣ", "οδος ωμέγα"),
        ("Привет 漢字 😀", "😀 привет 漢字"),
        ('say "hi"', '"'),
        ("one two three four five six", 'six five four three two one "five six"'),
        ("a red\n  fox", '"red fox"'),
    ],
)
async def test_every_character_of_a_search_is_just_a_character(store, say, text, wanted):
    await say("something else")
    message = await say(text)

    assert [hit.message for hit in await store.search(wanted, 10)] == [message]
    assert (await store.counts()).messages == 2


@pytest.mark.parametrize(("text", "told"), [("", "nothing to look for"), ("\ud800", "surrogate"), ("x" * 9999, "9999")])
async def test_a_search_for_nothing_is_refused(store, text, told):
    with pytest.raises(StoreError, match=told):
        await store.search(text, 10)


async def test_a_search_looks_back_only_as_far_as_needed(store, say, monkeypatch):
    monkeypatch.setattr(reports, "FIRST_SLICE_MESSAGES", 2)
    monkeypatch.setattr(reports, "MAX_RANKED_MESSAGES", 3)
    needle = await say("needle")
    hay = [await say(f"hay hay {n}") for n in range(20)]
    await say("needlework and hay", role="tool")
    split = [await say("hay, then a stack") for _ in range(7)]

    assert [hit.message for hit in await store.search("needle", 10)] == [needle]
    assert [hit.message for hit in await store.search("hay", 10)] == split[:-4:-1]
    assert [hit.message for hit in await store.search('"hay hay" "hay 3"', 10)] == [hay[3]]
    assert await store.search('"hay needle"', 10) == []

    monkeypatch.setattr(reports, "FIRST_SLICE_MESSAGES", 64)
    monkeypatch.setattr(reports, "MAX_RANKED_MESSAGES", 1)

    assert [hit.message for hit in await store.search('"hay hay" "hay 3"', 10)] == [hay[3]]  # hay 13 is looked at first


async def test_messages_copied_by_a_fork_are_found_once(store, make, thread, say):
    said = await say("a needle")
    fork = make.thread("fork")
    copy = replace(said, id=make.message(fork.id).id, thread_id=fork.id)
    await store.add_conversation(fork, [copy], [])

    assert [hit.message.id for hit in await store.search("needle", 10)] == [said.id]


async def answered(store, make, thread, agent, model="tiny", **fields):
    message = make.message(thread.id)
    _, (job,) = await store.enqueue(message, [make.job(message, agent_id=agent.id, model=model)])
    job = await store.claim_next(make.clock.new_id(), "kernel", [job.id], make.now())
    return await store.ack(job, replace(make.answer(job), **fields), make.now())


async def test_usage_is_summed_by_agent_model_and_day(store, make, thread):
    ada, bo = await store.add_agent(make.agent("ada")), await store.add_agent(make.agent("bo"))
    told = {"model": "big", "prompt_tokens": 100, "cached_tokens": 10, "completion_tokens": 7}
    timed = {"tokens_per_second": 20.0, "first_token_s": 0.5, "load_s": 2.5}
    later = make.now() + timedelta(days=1)
    await answered(store, make, thread, ada, usage=told | timed)
    await answered(store, make, thread, ada, usage=told | {"tokens_per_second": 40, "first_token_s": 1})
    await answered(store, make, thread, ada, usage={"completion_tokens": 1, "tokens_per_second": 90}, inserted_at=later)
    await answered(store, make, thread, bo)
    await answered(store, make, thread, bo, usage={"prompt_tokens": "many", "load_s": None, "model": None, "more": [1]})
    await store.add_message(
        make.message(thread.id, role="assistant", usage=told)
    )  # from elsewhere: it cost nothing here
    by_agent, by_model, by_day = [await store.usage(by) for by in ("agent", "model", "day")]

    columns = (
        "answers",
        "prompt_tokens",
        "cached_tokens",
        "completion_tokens",
        "tokens_per_second",
        "first_token_s",
        "load_s",
    )
    assert by_agent.columns == ("agent", *columns)
    assert list(by_agent) == [("ada", 3, 200, 20, 15, 40.0, 0.75, 2.5), ("bo", 2, None, None, None, None, None, None)]
    assert by_model.columns == ("model", *columns)
    assert list(by_model) == [
        ("tiny", 3, None, None, 1, 90.0, None, None),
        ("big", 2, 200, 20, 14, 30.0, 0.75, 2.5),
    ]
    assert by_day.columns == ("day", *columns)
    assert [row[:2] for row in by_day] == [(date(2026, 1, 2), 1), (date(2026, 1, 1), 4)]


async def test_text_before_a_tool_call_counts_as_usage_but_not_as_an_answer(store, make, thread):
    ada = await store.add_agent(make.agent("ada"))
    _, (job,) = await store.enqueue(message := make.message(thread.id), [make.job(message, agent_id=ada.id)])
    job = await store.claim_next(make.clock.new_id(), "kernel", [job.id], make.now())
    await store.add_message(replace(make.answer(job), usage={"completion_tokens": 3}))
    await store.ack(job, replace(make.answer(job), usage={"completion_tokens": 4}), make.now())

    [(name, answers, _, _, completion_tokens, *_)] = await store.usage("agent")

    assert (name, answers, completion_tokens) == ("ada", 1, 7)


async def test_usage_of_nothing_is_empty_and_of_an_unknown_agent_is_told(store, make, thread):
    assert list(await store.usage("agent")) == list(await store.usage("day")) == []

    await answered(store, make, thread, make.agent(), usage={"tokens_per_second": float("nan")})

    assert [row[:2] for row in await store.usage("agent")] == [("unknown", 1)]


async def test_a_report_sees_all_earlier_writes(store, make, thread):
    kept = [store.add_message(make.message(thread.id, content="fox")) for _ in range(20)]
    writing = [asyncio.ensure_future(each) for each in kept]
    await asyncio.sleep(0)  # they are asked for
    hits = await store.search("fox", 50)

    assert len(hits) == 20
    await asyncio.gather(*writing)
