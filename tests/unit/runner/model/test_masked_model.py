"""What is shown of a text while it streams."""

import random
import string
import time
import tracemalloc

import pytest
from hypothesis import given, strategies as st

from piano_jupyter.runner.model.masked_model import MAX_HELD_CHARS, StreamMask
from piano_jupyter.secrets.redactor import MASK, Redactor

RANDOM = random.Random(3)
TOKEN = "ghp_" + "".join(RANDOM.choice(string.ascii_letters + string.digits) for _ in range(36))
OWN = "own-value-of-the-kernel"
LINES = ["".join(RANDOM.choice(string.ascii_letters + string.digits) for _ in range(64)) for _ in range(3)]
KEY = "\n".join(["-----BEGIN PRIVATE KEY-----", *LINES, "-----END PRIVATE KEY-----"])
mask = Redactor({OWN: "own "})


def told(pieces):
    stream = StreamMask(mask)
    return [*map(stream.add, pieces), stream.flush()]


def cut(text, size):
    return [text[at : at + size] for at in range(0, len(text), size)]


@pytest.mark.parametrize("size", [1, 3, 7, 8, 40, 1000])
@pytest.mark.parametrize(
    "text",
    [
        f"it is {TOKEN}, is it not?",
        f"{TOKEN}\n{TOKEN}",
        f"own: {OWN} and\nagain {OWN}",
        f"Authorization: Bearer {TOKEN[4:]} there",
        f"postgres://me:{TOKEN[4:20]}@host/x",
        f"a key:\n{KEY}\nand more",
        f"TOKEN={TOKEN[4:]}\n",
    ],
)
def test_g4_a_secret_is_masked_in_the_stream_as_in_the_reply_however_it_is_split(text, size):
    whole = "".join(told(cut(text, size)))

    assert MASK in whole
    assert whole.replace("\n", "") == mask(text).replace("\n", "")  # a line may end where a key block did


@given(
    st.lists(
        st.sampled_from(["a", "long-winded", "é", "漢字", " ", "\n", "\n\n", "Bearer ", "://", "key = "]), max_size=60
    ),
    st.integers(1, 20),
)
def test_any_text_without_a_secret_is_streamed_unchanged(words, size):
    text = "".join(words)

    assert "".join(told(cut(text, size))) == text


def test_a_word_is_shown_once_it_is_complete_and_other_scripts_at_once():
    stream = StreamMask(mask)

    assert [stream.add(each) for each in ("Hi", " there", ", un", "like", "ly\n")] == [
        "",
        "Hi ",
        "there, ",
        "",
        "unlikely\n",
    ]
    assert stream.add("漢字" * 20) == "漢字" * 20


def test_g6_a_text_without_a_blank_is_streamed_in_time_and_cheaply():
    stream, began, count = StreamMask(mask), time.process_time(), 0
    tracemalloc.start()
    for _ in range(20_000):
        count += len(stream.add("x" * 50))
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert held < 20 * MAX_HELD_CHARS
    assert count > 1_000_000 - 2 * MAX_HELD_CHARS
    assert time.process_time() - began < 5
