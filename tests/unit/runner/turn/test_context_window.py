"""The context window: what leaves, that it leaves in one block, and that nothing else moves."""

import json
from datetime import UTC, datetime
from types import SimpleNamespace
from uuid import UUID

import pytest
from hypothesis import given, settings, strategies as st

from piano_jupyter.records import Message
from piano_jupyter.runner.turn.context_window import (
    HistoryTrim,
    PromptBudget,
    budget_after_overflow,
    last_trim,
    measured_bytes_per_token,
    prompt_budget,
    prompt_size,
    question_indexes,
    trim_note,
    trim_to_fit,
)
from piano_jupyter.runner.turn.prompt import chat_messages


def talk(make, ada, *turns):
    """Return a history of questions with an answer each, of so many bytes."""
    told = []
    for length in turns:
        told += [make.message("q" * length), make.message("a" * length, "assistant", agent_id=ada.id)]
    return told


def sized(ada, told):
    return lambda cut: prompt_size(prompt(ada, told, cut), [])


def prompt(ada, told, cut, calls=()):
    """Return what is sent of a trimmed history."""
    return chat_messages(ada, "", told, calls, {}, None, cut, start_index=cut.start_index(question_indexes(told)))


def test_what_fits_is_left_as_it_is(make):
    ada = make.agent()
    told = talk(make, ada, 100, 100)

    assert trim_to_fit(
        len(question_indexes(told)), HistoryTrim(1), PromptBudget(10_000, 6_000), sized(ada, told)
    ) == HistoryTrim(1)


def test_the_oldest_turns_are_dropped_until_the_target_is_reached(make):
    ada = make.agent()
    told = talk(make, ada, *[100] * 50)
    size_of, space = sized(ada, told), PromptBudget(10_000, 6_000)

    cut = trim_to_fit(len(question_indexes(told)), HistoryTrim(), space, size_of)

    assert cut.max_message_bytes is None
    assert size_of(cut) <= space.after_trim < size_of(HistoryTrim(cut.turns - 1))


def test_the_newest_turn_stays_and_loses_the_middle_of_its_long_messages(make):
    ada = make.agent()
    told = [*talk(make, ada, 100, 100), make.message("b" * 50_000 + "!")]

    cut = trim_to_fit(len(question_indexes(told)), HistoryTrim(), PromptBudget(10_000, 6_000), sized(ada, told))
    [sent] = prompt(ada, told, cut)

    assert cut == HistoryTrim(2, 3_000)
    assert sent["content"].startswith("bbb")
    assert "\n[… 47,001 characters are left out here …]\n" in sent["content"]
    assert sent["content"].endswith("b!")
    assert prompt_size([sent], []) < 6_000


def test_results_and_arguments_are_shortened_too_and_a_call_keeps_its_result(make):
    ada = make.agent()
    asked = make.message("", "assistant", agent_id=ada.id)
    call = make.call(asked, result="r" * 9_000, arguments={"text": ["t" * 9_000]})

    _, called, result = chat_messages(ada, "", [make.message("go"), asked], [call], {}, None, HistoryTrim(0, 300))

    [text] = json.loads(called["tool_calls"][0]["function"]["arguments"])["text"]
    assert len(text) < 400 > len(result["content"])
    assert result["tool_call_id"] == called["tool_calls"][0]["id"]


@pytest.mark.parametrize("text", ["é" * 500, "𝛼" * 300, "ab\ud800" * 300, "x" * 301])
def test_a_text_is_shortened_between_characters_and_says_how_many_are_left_out(text):
    cut = HistoryTrim(0, 300).shortened(text)

    first, gap, last = cut.split("\n")
    assert text.replace("\ud800", "?").startswith(first)
    assert text.replace("\ud800", "?").endswith(last)
    assert f"{len(text) - len(first) - len(last):,} characters" in gap


def test_call_ids_do_not_change_when_turns_are_trimmed(make):
    ada = make.agent()
    told, calls = [], []
    for _ in range(3):
        told += [make.message("go"), make.message("", "assistant", agent_id=ada.id)]
        calls.append(make.call(told[-1]))

    def ids(cut):
        return [m["tool_call_id"] for m in prompt(ada, told, cut, calls) if m["role"] == "tool"]

    assert ids(HistoryTrim(2)) == ids(HistoryTrim())[2:] == ["call00003"]


@settings(deadline=None)
@given(st.lists(st.integers(1, 900), min_size=1, max_size=60))
def test_between_two_trims_each_prompt_is_the_beginning_of_the_next(lengths):
    ada = SimpleNamespace(id=UUID(int=1), system_prompt="Be kind.")
    told, cut, before, cuts = [], HistoryTrim(), [], 0
    for number, length in enumerate(lengths):
        told.append(said(number * 2, "user", "q" * length))
        now = trim_to_fit(len(question_indexes(told)), cut, PromptBudget(4_000, 2_400), sized(ada, told))
        messages = prompt(ada, told, now)
        if now == cut:
            assert messages[: len(before)] == before
        else:
            cuts += 1
            assert prompt_size(messages, []) <= 4_000
        cut, before = now, messages
        told.append(said(number * 2 + 1, "assistant", "a" * length, ada.id))
    # a cut frees 1,600 bytes: so many bytes must have come in between
    assert cuts <= 1 + sum(2 * length + 90 for length in lengths) / 1_600


def said(number, role, content, agent_id=None):
    when = datetime(2026, 1, 1, tzinfo=UTC)
    return Message(
        id=UUID(int=number), thread_id=UUID(int=0), role=role, content=content, inserted_at=when, agent_id=agent_id
    )


def test_a_window_reserves_tokens_for_the_answer():
    assert prompt_budget(8_192, None, 1.0).limit == 8_192 - 2_048
    assert prompt_budget(131_072, None, 1.0).limit == 131_072 - 4_096
    assert prompt_budget(8_192, 1_000, 1.0).limit == 7_192
    assert prompt_budget(8_192, 100_000, 1.0).limit == 4_096
    assert prompt_budget(8_192, None, 2.0).after_trim == pytest.approx(0.6 * 8_192 * 2)
    assert prompt_budget(8_192, 100_000, 1.0).after_trim < prompt_budget(8_192, 100_000, 1.0).limit


def test_after_an_overflow_the_budget_is_what_the_server_names_or_half_of_what_was_sent():
    assert budget_after_overflow(2_048, 4_096, 40_960, None).limit == pytest.approx((2_048 - 512) * 10)
    assert budget_after_overflow(2_048, None, 8_192, None).limit == pytest.approx((2_048 - 512) * 4)
    assert budget_after_overflow(2_048, None, 99_999, None).limit == pytest.approx((2_048 - 512) * 6)  # a guess
    assert budget_after_overflow(None, None, 1_000, None) == PromptBudget(500, 500)


def test_tokens_are_measured_by_the_agents_last_prompt(make):
    ada, bob = make.agent(), make.agent("bob")
    of = {"prompt_bytes": 4_000, "prompt_tokens": 1_000}
    told = [
        make.message("1", "assistant", agent_id=ada.id, usage=of),
        make.message("2", "assistant", agent_id=bob.id, usage={**of, "prompt_tokens": 2_000}),
    ]

    assert measured_bytes_per_token(told, ada.id) == 4.0
    assert measured_bytes_per_token(told, bob.id) == 2.0
    assert measured_bytes_per_token(told[:1], bob.id) == 3.5
    assert (
        measured_bytes_per_token(
            [make.message("3", "assistant", agent_id=ada.id, usage={**of, "prompt_tokens": 1})], ada.id
        )
        == 6.0
    )


def test_the_current_trim_is_read_from_the_agents_own_last_note(make):
    ada, bob = make.agent(), make.agent("bob")
    told = [
        make.message("old", "system", agent_id=ada.id, usage={"left_out": 1, "longest": None}),
        make.message("The first 3 turns …", "system", agent_id=ada.id, usage={"left_out": 3, "longest": 700}),
        make.message("hers", "system", agent_id=bob.id, usage={"left_out": 9, "longest": None}),
        make.message("not asked: @eve", "system"),
    ]

    cut = last_trim(told, ada.id)

    assert (cut.turns, cut.max_message_bytes, cut.note) == (3, 700, "The first 3 turns …")
    assert last_trim(told[:0], ada.id) == HistoryTrim()


def test_the_note_replaces_what_was_trimmed(make):
    ada = make.agent()
    told = talk(make, ada, 5, 5)
    note = make.message("The first turn is gone.", "system", agent_id=ada.id, usage={"left_out": 1, "longest": None})

    messages = prompt(ada, [*told, note], last_trim([note], ada.id))

    assert messages == [{"role": "user", "content": "[note] The first turn is gone.\n\nqqqqq"}]


def test_the_sentence_names_the_turns_the_agent_and_the_window():
    assert trim_note(HistoryTrim(12), "ada", 8_192) == (
        "The first 12 turns no longer fit into the context of 8,192 tokens: from here on, ada answers without them."
    )
    assert trim_note(HistoryTrim(1), "ada", None).startswith("The first turn no longer fits into the model's context")
    assert "longer than 3,000 bytes, ada reads only the start and the end" in trim_note(
        HistoryTrim(0, 3_000), "ada", 2_048
    )
