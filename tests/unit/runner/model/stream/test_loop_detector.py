"""A model that repeats itself is noticed at the same place however its text is cut; what only looks alike is not."""

import inspect
import json
import textwrap
from decimal import Decimal, localcontext

import pytest
from hypothesis import given, settings, strategies as st

from piano_jupyter.runner.model.protocol import Delta
from piano_jupyter.runner.model.stream import reply_reader
from piano_jupyter.runner.model.stream.loop_detector import (
    CHECK_INTERVAL_CHARS,
    OTHER_LOOP_CHARS,
    SENTENCE_LOOP_CHARS,
    LoopDetector,
)
from piano_jupyter.runner.model.stream.reply_reader import ReplyReader

BEFORE = "Of course. Here is what I know about it, as well as I can say.\n\n"
LOOPS = {
    "a line": "The capital of France is Paris.\n",
    "a paragraph": "I will look at the file first.\nThen I will fix the test, and run it again.\n\n",
    "a phrase": "and then the ",
    "a word": "the ",
    "an item": "- Check that the server is running and answers\n",
    "blanks": "\n",
    "without spaces": "今天天气很好。\n",
    "another script": "Столица Франции — Париж.\n",
    "escaped": "I do not know that.\\n",
    "blocks of code": "```python\nprint('so')\n```\nThat is how it works here.\n",
}


def ended(*pieces, **how):
    """Return how many characters came before a loop was noticed; None if none was."""
    detector, seen = LoopDetector(**how), 0
    for piece in pieces:
        end = detector.feed(piece)
        if end is not None:
            return seen + end
        seen += len(piece)
    return None


@pytest.mark.parametrize("name", LOOPS)
def test_a_loop_is_noticed_soon_and_at_the_same_place_byte_by_byte(name):
    text = BEFORE + LOOPS[name] * 3000

    end = ended(text)

    assert end is not None
    assert end <= len(BEFORE) + max(SENTENCE_LOOP_CHARS, 6 * len(LOOPS[name])) + 2 * CHECK_INTERVAL_CHARS
    assert ended(*text[: 2 * end]) == end


@settings(max_examples=100, deadline=None)
@given(name=st.sampled_from(sorted(LOOPS)), sizes=st.lists(st.integers(1, 300), max_size=80))
def test_a_loop_is_noticed_at_the_same_place_however_the_text_is_cut(name, sizes):
    text, pieces, at = BEFORE + LOOPS[name] * 200, [], 0
    for size in sizes:
        pieces.append(text[at : at + size])
        at += size

    assert ended(*pieces, text[at:]) == ended(text)


@pytest.mark.parametrize("name", LOOPS)
def test_a_few_repeats_are_no_loop(name):
    few = LOOPS[name] * min(5, 1 + SENTENCE_LOOP_CHARS // len(LOOPS[name]) // 2)

    assert ended(BEFORE + few + BEFORE + few + "That is all.\n" + BEFORE + few) is None


def third():
    with localcontext(prec=6000):
        return str(Decimal(1) / 3)


ROW = "| {} | no | no | not measured yet | 0 |\n"
ALIKE = {
    "a long table": "| name | a | b | c | n |\n| --- | --- | --- | --- | --- |\n"
    + "".join(map(ROW.format, range(400))),
    "a table of equal rows": ROW * 400,
    "a table of tabs": "unknown city\tunknown country\tnot measured\n" * 300,
    "a list of labels": "positive\n" * 1000,
    "a list of short items": "- not done\n" * 500,
    "a list in one line": "not available, " * 500,
    "a numbered list": "".join(f"{number}. Check that the server is running\n" for number in range(500)),
    "steps that differ": "".join(f"Then we add {number}, so that the sum is {number * 2}.\n" for number in range(400)),
    "JSON of equal rows": json.dumps([{"name": "not known", "value": None, "is it open": False}] * 200, indent=1),
    "JSON literals": json.dumps([None, True, False] * 500),
    "zeros": "0 0 0 0 0 0 0 0 0 0\n" * 400,
    "zeros and commas": "0.0, " * 2000,
    "a third": third(),
    "bytes": "00000000: 0000 0000 0000 0000  ................\n" * 300,
    "base 64": "data:image/png;base64," + "AAAA" * 3000,
    "a rule": "-" * 3000 + "\n" + "=" * 3000,
    "code": inspect.getsource(reply_reader) + textwrap.indent(inspect.getsource(inspect), "    "),
    "equal lines of code": "```\n" + "call the function again and again\n" * 300 + "```\n",
    "assembly": "```asm\n" + "    nop\n" * 1000 + "```\n",
    "a song": ("Row, row, row your boat,\nGently down the stream.\n" * 4 + "And another verse of it.\n") * 3,
    "laughter": "ha" * 2000,
}


@pytest.mark.parametrize("name", ALIKE)
def test_long_tables_code_lists_and_numbers_are_no_loop(name):
    assert ended(BEFORE + ALIKE[name]) is None


def test_after_very_much_anything_is_a_loop():
    assert ended("0, " * OTHER_LOOP_CHARS) == OTHER_LOOP_CHARS
    assert ended("The capital of France is Paris.\n" * OTHER_LOOP_CHARS, is_code=True) == OTHER_LOOP_CHARS


def test_the_repeats_are_left_out():
    detector = LoopDetector()
    text = BEFORE + LOOPS["a line"] * 100
    end = detector.feed(text)

    kept = detector.without_repeats(text[:end])

    assert kept.startswith(BEFORE)
    assert len(BEFORE) + len(LOOPS["a line"]) <= len(kept) + 1 <= len(BEFORE) + len(LOOPS["a line"]) + 2
    assert detector.without_repeats("Another text.") == "Another text."
    assert LoopDetector().without_repeats(text) == text


def stream(**delta):
    return f"data: {json.dumps({'id': 'c', 'choices': [{'index': 0, 'delta': delta}]})}\n\n".encode()


def read(data, size=None, **how):
    """Return what was shown and the reply of a stream that comes in pieces of this many bytes."""
    reading, shown = ReplyReader(("look",), **how), []
    for at in range(0, len(data), size or len(data)):
        if not reading.ended:
            shown += reading.feed(data[at : at + (size or len(data))])
    if not reading.ended:
        reading.feed(b"")
    return "".join(each.text for each in shown if isinstance(each, Delta)), reading.reply()


@pytest.mark.parametrize("size", [1, 7, 1000, None])
def test_a_looping_answer_ends_and_says_so(size):
    data = stream(content=BEFORE)
    data += b"".join(stream(content=LOOPS["a line"][at : at + 5]) for _ in range(200) for at in range(0, 32, 5))

    shown, reply = read(data, size)

    assert (reply.finish_reason, reply.usage) == ("loop", {"looped": True})
    assert shown.startswith(reply.text)
    assert len(reply.text) < 200 < len(shown) < 1400


@pytest.mark.parametrize("size", [1, 1000, None])
@pytest.mark.parametrize("start", ["", "<think>"])
def test_looping_thoughts_end_without_an_answer(size, start):
    field = "content" if start else "reasoning_content"
    data = stream(**{field: start}) + stream(**{field: LOOPS["a line"]}) * 100

    shown, reply = read(data, size)

    assert (shown, reply.text, reply.finish_reason) == ("", "", "loop")
    assert reply.reasoning == LOOPS["a line"]


def test_a_call_whose_arguments_loop_is_cut_off():
    begun = {"index": 0, "id": "a", "function": {"name": "look", "arguments": '{"where":'}}
    data = stream(tool_calls=[begun])
    data += b"".join(stream(tool_calls=[{"index": 0, "function": {"arguments": "\n \n"}}]) for _ in range(1000))

    _, reply = read(data)

    [call] = reply.calls
    assert (call.name, call.arguments) == ("look", {})
    assert "cut off" in call.problem


def test_an_answer_in_json_that_loops_is_the_answer_so_far():
    data = stream(content='{"answer": "Well. ') + stream(content=LOOPS["escaped"]) * 100

    _, reply = read(data, constrained=True)

    assert reply.finish_reason == "loop"
    assert reply.text.startswith("Well. I do not know that.\n")
    assert len(reply.text) < 60


def test_a_loop_that_is_wanted_goes_on():
    data = stream(content=LOOPS["a line"]) * 100 + b"data: [DONE]\n\n"

    _, reply = read(data, stop_loops=False)

    assert reply.text == LOOPS["a line"] * 100
