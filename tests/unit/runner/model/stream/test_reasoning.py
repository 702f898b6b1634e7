"""Reasoning in tags: each pair, whole, cut anywhere, and never inside code."""

import pytest
from hypothesis import given, settings, strategies as st

from piano_jupyter.runner.model.protocol import Delta, StreamRestarted
from piano_jupyter.runner.model.stream.reasoning import (
    ANALYSIS,
    FINAL,
    REASONING_TAGS,
    ROLE,
    START_TAGS,
    ReasoningSplitter,
)

THOUGHT = "Is it [so]? `x < y`, I think.\n\n```\na = [1]\n```\n- 2 < 3"
ANSWER = "**Yes**, [it](is) <b>so</b>."


def split(*pieces):
    """Return the answer and the reasoning, after checking that the same was shown."""
    splitter, shown = ReasoningSplitter(), []
    for piece in pieces:
        shown += splitter.feed(piece)
    shown += splitter.close()
    begun = max((at for at, each in enumerate(shown) if isinstance(each, StreamRestarted)), default=-1) + 1
    deltas = [each for each in shown[begun:] if isinstance(each, Delta)]
    assert "".join(each.text for each in deltas) == splitter.text
    assert "".join(each.reasoning for each in deltas) == splitter.reasoning
    return splitter.text, splitter.reasoning


def assert_same_at_every_cut(text, result):
    assert split(text) == result
    assert split(*text) == result
    for cut in range(1, len(text)):
        assert split(text[:cut], text[cut:]) == result, (text[:cut], text[cut:])


@pytest.mark.parametrize("start", REASONING_TAGS)
@pytest.mark.parametrize("between", ["", "\n\n"])
def test_each_pair_is_reasoning_at_every_cut(start, between):
    assert_same_at_every_cut(f"{start}{THOUGHT}{REASONING_TAGS[start]}{between}{ANSWER}", (ANSWER, THOUGHT))


@pytest.mark.parametrize("end", START_TAGS)
@pytest.mark.parametrize(("before", "after"), [("", ""), ("\n", "\n"), ("", " "), (" ", "")])
def test_each_end_tag_without_its_start_ends_reasoning_at_every_cut(end, before, after):
    assert_same_at_every_cut(f"{THOUGHT}{before}{end}{after}Hello.", ("Hello.", THOUGHT + before))


@pytest.mark.parametrize("quoted", ['I say "yes."', "It is `so`", "'so'", "\u201cso\u201d"])
def test_an_end_tag_behind_what_was_quoted_ends_reasoning_at_every_cut(quoted):
    assert_same_at_every_cut(f"Why?\n{quoted}</think>Hello.", ("Hello.", f"Why?\n{quoted}"))


@pytest.mark.parametrize("start", START_TAGS.values())
def test_an_end_tag_that_never_comes_leaves_reasoning_only(start):
    assert_same_at_every_cut(f"{start}{THOUGHT}", ("", THOUGHT))


@pytest.mark.parametrize(
    "text",
    [
        "It ends with {end}.",
        "The {end} tag ends it.",
        "It is `{end}`, always.",
        "It is `so {end} or so`, always.",
        "It may be ({end}) or [{end}].",
        "Of {end}, and the others.",
        "Such a block ends so:\n```\n{end}\n```\nand the answer follows.",
        "Such a block ends so:\n~~~xml\nwhy {end}Hello\n~~~\n",
        "Such a block ends so:\n\n    {end}\n\nand the answer follows.",
        "| tag | end |\n| --- | --- |\n| think |{end}|\n| think | {end} |",
        "They write {start}why{end}Hello.",
        "They write `{start}why{end}Hello`.",
        'print("{end}")',
    ],
)
@pytest.mark.parametrize("end", START_TAGS)
def test_a_tag_in_code_or_only_mentioned_is_text_at_every_cut(text, end):
    told = text.format(end=end, start=START_TAGS[end])

    assert_same_at_every_cut(told, (told, ""))


def test_a_start_tag_within_the_answer_is_text():
    assert_same_at_every_cut("Use <think>why</think> here.", ("Use <think>why</think> here.", ""))


def test_an_end_tag_in_code_within_reasoning_does_not_end_it():
    assert_same_at_every_cut("<think>Ends `</think>` it?</think>Yes.", ("Yes.", "Ends `</think>` it?"))
    assert_same_at_every_cut("<think>Is it `x`</think>`y` is.", ("`y` is.", "Is it `x`"))


@pytest.mark.parametrize(
    ("text", "answer", "reasoning"),
    [
        (f"{ANALYSIS}Why.<|end|>{ROLE}{FINAL}Yes.", "Yes.", "Why."),
        (f"{ROLE}{ANALYSIS}Why.<|end|>{ROLE}{FINAL}Yes.<|return|>", "Yes.", "Why."),
        (f"{ANALYSIS}Why.<|end|>{ROLE}{ANALYSIS}So.<|end|>{ROLE}{FINAL}Yes.", "Yes.", "Why.So."),
        (f"{FINAL}A `</think>` and <|end|> in it.<|return|>\n", "A `</think>` and <|end|> in it.", ""),
        (
            f"{ANALYSIS}Why.<|end|>{ROLE}<|channel|>commentary to=functions.look<|message|>{{}}",
            f"{ROLE}<|channel|>commentary to=functions.look<|message|>{{}}",
            "Why.",
        ),
        ("<|channel>thought\nWhy.\n<channel|>Yes.", "Yes.", "\nWhy.\n"),
        (
            "<|begin_of_thought|>\nWhy.\n<|end_of_thought|>\n\n<|begin_of_solution|>\nYes.\n<|end_of_solution|>",
            "Yes.\n",
            "\nWhy.\n",
        ),
        ("<|START_THINKING|>Why.<|END_THINKING|><|START_RESPONSE|>Yes.<|END_RESPONSE|>", "Yes.", "Why."),
        ("<thinking>Why.</thinking>\n<think>So.</think>\nYes.", "Yes.", "Why.So."),
    ],
)
def test_channels_and_marked_answers_are_told_apart_at_every_cut(text, answer, reasoning):
    assert_same_at_every_cut(text, (answer, reasoning))


pieces = st.sampled_from(
    [
        *REASONING_TAGS,
        *START_TAGS,
        "<|end|>",
        FINAL,
        ROLE,
        "`",
        "```\n",
        "\n",
        "    ",
        " ",
        ".",
        "Hello",
        "<",
        "[",
        "◁",
        "<|",
    ]
)


@settings(max_examples=300, deadline=None)
@given(written=st.lists(pieces, max_size=12), sizes=st.lists(st.integers(1, 7), max_size=60))
def test_any_text_of_tags_is_split_the_same_wherever_it_is_cut(written, sizes):
    text, cut, at = "".join(written), [], 0
    for size in sizes:
        cut.append(text[at : at + size])
        at += size

    assert split(*cut, text[at:]) == split(text)
