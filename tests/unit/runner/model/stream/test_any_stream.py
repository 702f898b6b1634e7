"""Properties of any stream: it gives a reply or a ModelError, and the same one however the bytes are split."""

import json
import time

import pytest
from hypothesis import example, given, settings, strategies as st

from piano_jupyter.errors import ModelError
from piano_jupyter.runner.model.protocol import Delta, Reply, StreamRestarted
from piano_jupyter.runner.model.stream.lenient_json import read_arguments
from piano_jupyter.runner.model.stream.reasoning import ReasoningSplitter
from piano_jupyter.runner.model.stream.reply_reader import ReplyReader

EXAMPLES = settings(max_examples=150, deadline=None)

names = st.sampled_from(["look", "rest", "bash ", ""])
texts = st.text(max_size=12) | st.sampled_from(
    [
        "<think>",
        "</think>",
        "\n",
        "<tool_call>",
        "</tool_call>",
        '{"name": "look", "arguments": {}}',
        "<function=look>",
        "[look(",
        "x='a')]",
        "<|tool_call>call:look{",
        'x:<|"|>a<|"|>}<tool_call|>',
        "to=functions.look json",
        "`",
    ]
)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)
calls = st.fixed_dictionaries(
    {},
    optional={
        "index": st.integers(0, 2) | st.none() | values,
        "id": st.sampled_from(["a", "b", "", None]) | values,
        "function": st.fixed_dictionaries(
            {}, optional={"name": names | st.none() | values, "arguments": texts | st.just('{"x": 1}') | values}
        )
        | values,
    },
)
deltas = st.fixed_dictionaries(
    {},
    optional={
        "content": texts | values,
        "reasoning_content": texts | values,
        "tool_calls": st.lists(calls, max_size=3) | values,
        "function_call": values,
    },
)
choices = st.fixed_dictionaries(
    {"delta": deltas},
    optional={"index": st.just(0), "finish_reason": st.sampled_from(["stop", "length", None]) | values},
)
chunks = st.fixed_dictionaries(
    {"choices": st.lists(choices, max_size=2)},
    optional={"id": st.just("c"), "usage": values, "timings": values, "error": values, "model": values},
)
lines = st.one_of(
    chunks.map(lambda chunk: f"data: {json.dumps(chunk)}\n\n"),
    values.map(lambda value: f"data: {json.dumps(value)}\n\n"),
    st.sampled_from(
        ["data: [DONE]\n\n", ": comment\n\n", "\n", "event: x\n", "data:\n", "error: {}\n", "{\n", "\ufeff"]
    ),
    st.text(max_size=20),
).map(lambda line: line.encode("utf-8", "replace"))
streams = st.lists(lines | st.binary(max_size=20), max_size=12).map(b"".join)


def outcome(stream, sizes=()):
    """Return the reply, or the error's words, of a stream that comes in pieces of these sizes."""
    reading, at, sizes = ReplyReader(("look", "rest")), 0, list(sizes)
    try:
        while not reading.ended:
            size = sizes.pop(0) if sizes else len(stream)
            reading.feed(stream[at : at + size])
            at += size
        return reading.reply()
    except ModelError as error:
        return str(error)


@EXAMPLES
@given(stream=streams)
def test_any_bytes_end_in_a_reply_or_a_model_error(stream):
    result = outcome(stream)

    assert isinstance(result, Reply | str)
    if isinstance(result, Reply):
        json.dumps([dict(call.arguments) for call in result.calls], allow_nan=False).encode()
        json.dumps(dict(result.usage), allow_nan=False)
        (result.text + result.reasoning).encode()


@EXAMPLES
@given(stream=streams, sizes=st.lists(st.integers(1, 30), max_size=60))
def test_any_bytes_give_the_same_result_however_they_are_split(stream, sizes):
    assert outcome(stream, sizes) == outcome(stream)


@EXAMPLES
@given(pieces=st.lists(texts, max_size=12), sizes=st.lists(st.integers(1, 5), max_size=40))
@example(pieces=["\n" * 1500 + "<think>a</think>b"], sizes=[1] * 40)
def test_h17_reasoning_is_split_from_the_answer_however_the_stream_is_split(pieces, sizes):
    text, slowly, at = "".join(pieces), ReasoningSplitter(), 0
    whole = ReasoningSplitter()
    whole.feed(text)
    whole.close()

    told = []
    for size in sizes:
        told += slowly.feed(text[at : at + size])
        at += size
    told += slowly.feed(text[at:]) + slowly.close()

    assert (slowly.text, slowly.reasoning) == (whole.text, whole.reasoning)
    begun = max((place for place, piece in enumerate(told) if isinstance(piece, StreamRestarted)), default=-1) + 1
    assert "".join(piece.text for piece in told[begun:] if isinstance(piece, Delta)) == slowly.text
    assert "".join(piece.reasoning for piece in told[begun:] if isinstance(piece, Delta)) == slowly.reasoning


sloppy = st.recursive(
    st.sampled_from(
        ["True", "False", "None", "null", "1", "-2.5", '"a"', "'b'", "'it\\'s'", '"x\ny"', "'say \"hi\"'", '"}"', "'{'"]
    ),
    lambda inner: (
        st.lists(inner, max_size=3).map(lambda items: f"[{', '.join(items)}{',' if items else ''}]")
        | st.lists(inner, max_size=3).map(
            lambda items: (
                "{" + ", ".join(f"'k{at}': {item}" for at, item in enumerate(items)) + ("," if items else "") + "}"
            )
        )
    ),
    max_leaves=8,
)
objects = st.lists(sloppy, min_size=1, max_size=4).map(
    lambda items: "{" + ", ".join(f"'k{at}': {item}" for at, item in enumerate(items)) + ",}"
)


@EXAMPLES
@given(text=objects)
def test_h8_complete_but_invalid_json_is_repaired_and_marked(text):
    read = read_arguments(text)

    assert (read.problem, read.repaired) == (None, True)
    assert list(read.arguments) == [f"k{at}" for at in range(len(read.arguments))]


@EXAMPLES
@given(text=objects, share=st.floats(0, 1))
def test_h7_the_start_of_a_call_is_never_run_as_the_call(text, share):
    cut = text[: int((len(text) - 1) * share)]

    read = read_arguments(cut)

    assert not read.arguments
    assert read.problem or not cut.strip()


@EXAMPLES
@given(text=objects)
def test_h7_arguments_of_a_cut_off_answer_are_not_repaired(text):
    assert read_arguments(text, cut_off=True).problem


BROKEN = {
    "an open string": '{"a": "' + "x" * 200_000,
    "escapes": '{"' + '\\"' * 100_000,
    "strings": "{" + '"",' * 66_000,
    "single quotes": "{'a': " + "'',"[:3] * 66_000,
    "depth": '{"a":' * 40_000,
    "depth of lists": "[" * 200_000,
    "glued": '{"a": 1}' * 25_000,
    "line breaks": '{"a": "\n' + "x\n" * 100_000,
    "blanks": '{"a": 1,' + " " * 200_000,
    "commas": '{"a": [' + ", " * 100_000,
}


@pytest.mark.parametrize("name", BROKEN)
def test_h10_two_hundred_kilobytes_of_broken_json_are_rejected_quickly(name):
    taken = []
    for _ in range(5):
        begun = time.perf_counter()
        read = read_arguments(BROKEN[name])
        taken.append(time.perf_counter() - begun)

    assert read.problem
    assert min(taken) < 0.005


@pytest.mark.parametrize(
    "piece",
    [
        {"name": "look", "arguments": '{"a": {}'},  # a name in each delta, and each may be the end of a whole call
        {"arguments": "x"},
        {"name": "look"},
    ],
)
def test_h10_a_call_in_very_many_pieces_takes_as_long_as_it_has_pieces(piece):
    data = (
        f"data: {json.dumps({'id': 'c', 'choices': [{'delta': {'tool_calls': [{'function': piece}]}}]})}\n\n".encode()
    )

    def seconds(count):
        reading, begun = ReplyReader(("look",)), time.perf_counter()
        for _ in range(count):
            reading.feed(data)
        reading.feed(b"")
        reading.reply()
        return time.perf_counter() - begun

    few, many = min(seconds(2_000) for _ in range(3)), min(seconds(16_000) for _ in range(3))

    assert many < 4 * 8 * few
