import json

import pytest
from hypothesis import given, strategies as st

from piano_jupyter.text.truncation import HOW_MUCH, short_json, truncated


@pytest.mark.parametrize(
    ("text", "longest", "shown"),
    [
        ("short", 5, "short"),
        ("longer", 5, "long…"),
        ("", 0, ""),
        ("ab", 1, "…"),
        ("ab", 0, ""),
        ("caf\u0065\u0301s", 5, "caf…"),  # an e and its accent
        ("ok \U0001f469\u200d\U0001f52c!", 6, "ok…"),  # a woman and a microscope make a scientist
        ("ok \U0001f44d\U0001f3fd!", 5, "ok…"),  # a thumb and its colour
        ("ok \u2764\ufe0f!", 5, "ok…"),  # a heart that is to be a picture
        ("ok \ud83d\ude00!", 5, "ok…"),  # a character as two halves, as some JSON has it
        ("a" + "\u0301" * 100, 50, "a" + "\u0301" * 48 + "…"),  # no writing: it is cut anywhere
    ],
)
def test_a_text_that_is_too_long_is_cut_between_two_characters_as_one_sees_them(text, longest, shown):
    assert truncated(text, longest) == shown


def test_the_characters_left_out_can_be_counted():
    assert truncated("x" * 2_000, 100, HOW_MUCH) == "x" * 72 + "\n… and 1,928 more characters"
    assert truncated("x" * 2_000, 100, "") == "x" * 100


@given(st.text(), st.integers(0, 50), st.sampled_from(["…", "", HOW_MUCH]))
def test_a_text_is_never_longer_than_it_may_be_and_stays_when_it_fits(text, longest, more):
    shown = truncated(text, longest, more)

    assert len(shown) <= longest
    assert (shown == text) == (len(text) <= longest)


def test_a_value_is_quoted_as_json_and_cut():
    assert short_json({"ä": [1, None]}) == '{"ä": [1, null]}'
    assert short_json("x" * 200) == '"' + "x" * 118 + "…"
    assert short_json({1, 2}) == "set"
    assert short_json(json.loads("[" * 900 + "]" * 900)).endswith("…")
