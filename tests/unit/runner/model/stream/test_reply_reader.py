"""From a stream's bytes to a reply: what real servers send."""

import json
import tracemalloc

import pytest

from piano_jupyter.errors import (
    ContextOverflowError,
    KeyRejectedError,
    ModelError,
    ModelNotServedError,
    ModelRefusedError,
    ModelUnavailableError,
)
from piano_jupyter.runner.model.protocol import Delta, LoadingNotice
from piano_jupyter.runner.model.server.error_responses import error_from
from piano_jupyter.runner.model.stream.lenient_json import CUT_OFF
from piano_jupyter.runner.model.stream.reasoning import ReasoningSplitter
from piano_jupyter.runner.model.stream.reply_reader import ReplyReader
from piano_jupyter.runner.model.stream.sse import MAX_LINE_BYTES, SseDecoder


def read(*chunks, finish="stop"):
    """Return the pieces and the reply of a stream of these deltas."""
    reading, pieces = ReplyReader(), []
    for chunk in chunks:
        pieces += reading.feed(
            event(chunk if isinstance(chunk, str) else json.dumps({"id": "c", "choices": [{"delta": chunk}]}))
        )
    if finish:
        pieces += reading.feed(event(json.dumps({"id": "c", "choices": [{"delta": {}, "finish_reason": finish}]})))
    return pieces, reading.reply()


def event(data):
    return f"data: {data}\n\n".encode()


def call(arguments="", name=None, **where):
    return {"tool_calls": [{**where, "function": {"name": name, "arguments": arguments}}]}


def wanted(reply):
    return [(call.name, dict(call.arguments), call.problem) for call in reply.calls]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_a_stream_split_anywhere_decodes_to_the_same_events(size):
    stream = b'\xef\xbb\xbf: a comment\r\n\r\ndata: {"a": "\xc3\xa9"}\r\n\r\nevent: x\ndata:second\n\ndata: [DONE]'
    decoder = SseDecoder()

    pieces = [stream[at : at + size] for at in range(0, len(stream), size)]
    events = [event for piece in pieces for event in decoder.feed(piece)] + list(decoder.close())

    assert events == ['{"a": "é"}', "second", "[DONE]"]


def test_plain_json_in_the_middle_of_a_stream_is_an_event():
    decoder = SseDecoder()

    events = list(decoder.feed(b'data: {"a": 1}\n\n{"error": "upstream died"}\n')) + list(decoder.close())

    assert events == ['{"a": 1}', '{"error": "upstream died"}']


def test_a_line_that_does_not_end_is_not_kept_and_the_next_one_is_read():
    decoder, piece = SseDecoder(), b"x" * (1 << 22)
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    for _ in range(20):
        decoder.feed(b"data: " + piece)
    kept = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()

    events = list(decoder.feed(b'\ndata: {"a": 1}\n\n')) + list(decoder.close())

    assert kept <= MAX_LINE_BYTES + 1_000
    assert events == ['{"a": 1}']


def test_of_several_choices_the_first_is_the_answer():
    reading = ReplyReader()
    for index, text in ((0, "red"), (1, "blue"), (0, "dish"), (1, "ish")):
        reading.feed(event(json.dumps({"choices": [{"index": index, "delta": {"content": text}}]})))
    for index in (1, 0):
        reading.feed(event(json.dumps({"choices": [{"index": index, "delta": {}, "finish_reason": "stop"}]})))

    assert reading.reply().text == "reddish"


def test_text_and_reasoning_come_as_deltas_and_in_the_reply():
    pieces, reply = read(
        {"content": None, "role": "assistant"}, {"reasoning_content": "hm"}, {"content": "4"}, {"content": "2"}
    )

    assert pieces == [Delta(reasoning="hm"), Delta(text="4"), Delta(text="2")]
    assert (reply.text, reply.reasoning, reply.calls) == ("42", "hm", ())


def test_usage_is_read_from_a_chunk_without_choices():
    usage = {"prompt_tokens": 27, "completion_tokens": 8, "prompt_tokens_details": {"cached_tokens": 20}}
    last = {"model": "m", "choices": [], "usage": usage, "timings": {"predicted_per_second": 62.84}}

    _, reply = read({"content": "x"}, json.dumps(last))

    assert reply.usage == {
        "model": "m",
        "prompt_tokens": 27,
        "completion_tokens": 8,
        "cached_tokens": 20,
        "tokens_per_second": 62.8,
    }


@pytest.mark.parametrize(
    "pieces",
    [
        [call('{"x":', "f", index=0, id="a"), call(" 1}", index=0, id="")],
        [call('{"x":', "f", index=1, id=None), call(" 1}", index=1, id=None)],
        [call('{"x":', "f", id="a"), call(" 1}", "f", id="a")],
        [call('{"x":', "f"), call(" 1}", None)],
        [call({"x": 1}, "f", index=0)],
    ],
)
def test_one_call_is_assembled_from_any_kind_of_pieces(pieces):
    _, reply = read(*pieces, finish="tool_calls")

    assert wanted(reply) == [("f", {"x": 1}, None)]


@pytest.mark.parametrize(
    "pieces",
    [
        [call('{"x": 1}', "f", index=0, id="a"), call('{"x": 2}', "g", index=1, id="b")],
        [call('{"x": 1}', "f", id="a"), call('{"x": 2}', "g", id="b")],
        [call('{"x": 1}', "f", id="a"), call('{"x": 2}', "g", id="a")],
        [call('{"x": 1}', "f"), call('{"x": 2}', "g")],
        [call('{"x": 1}', "f", index=0, id="a"), call('{"x": 2}', "g", index=0, id="b")],
    ],
)
def test_two_calls_are_kept_apart_whatever_their_pieces_carry(pieces):
    _, reply = read(*pieces)

    assert wanted(reply) == [("f", {"x": 1}, None), ("g", {"x": 2}, None)]


@pytest.mark.parametrize("arguments", [None, "", "{}", "  "])
def test_a_call_without_arguments_has_none(arguments):
    _, reply = read(call(arguments, "f", index=0))

    assert wanted(reply) == [("f", {}, None)]


def test_a_call_cut_off_before_its_arguments_is_marked():
    _, reply = read(call("", "bash", index=0), finish="length")

    assert wanted(reply) == [("bash", {}, CUT_OFF)]
    assert reply.usage["cut"]


@pytest.mark.parametrize("late", [call("", "f", id="a"), call(None, "f", id="a"), call("", "f")])
def test_a_repeated_name_after_a_call_starts_no_new_call(late):
    _, reply = read(call('{"x": 1}', "f", id="a"), late)

    assert wanted(reply) == [("f", {"x": 1}, None)]


@pytest.mark.parametrize(
    "chunk",
    [
        {"choices": [None]},
        {"choices": 5},
        {"choices": [{"delta": "x"}]},
        {"choices": [{"delta": {"tool_calls": [None]}}]},
        {"choices": [{"delta": {"tool_calls": [{"function": "f"}]}}]},
        {"choices": [{"delta": {"tool_calls": [{"function": {"name": 5}}]}}]},
    ],
)
def test_a_chunk_of_a_strange_shape_is_a_model_error(chunk):
    with pytest.raises(ModelError, match="not a chat completion"):
        read(json.dumps(chunk))


def test_a_character_split_between_two_deltas_is_joined():
    pieces, reply = read({"content": "\ud83d"}, {"content": "\ude00"})

    assert reply.text == "\U0001f600"
    assert all(piece.text.encode() for piece in pieces)


@pytest.mark.parametrize(
    ("finish", "calls"), [("stop", 1), ("eos", 1), ("tool_calls", 1), (None, 1), ("length", 0), ("content_filter", 0)]
)
def test_h12_a_call_as_text_counts_only_where_the_answer_ended_by_itself(finish, calls):
    said = '<tool_call>{"name": "look", "arguments": {}}</tool_call>'
    reading = ReplyReader(["look"])
    reading.feed(event(json.dumps({"choices": [{"delta": {"content": said}, "finish_reason": finish}]})))
    reading.feed(event("[DONE]"))

    reply = reading.reply()

    assert (len(reply.calls), reply.text) == (calls, "" if calls else said)


def test_an_id_may_be_a_number():
    _, reply = read(call('{"x":', "f", id=7), call("1}", id=7), call('{"x": 2}', "f", id=8), finish="tool_calls")

    assert wanted(reply) == [("f", {"x": 1}, None), ("f", {"x": 2}, None)]


@pytest.mark.parametrize("again", ['{"x": 2}', {"x": 2}])
def test_h2_a_call_with_a_new_name_and_arguments_is_another_whatever_its_index_and_id(again):
    _, reply = read(call('{"x": 1}', "f", index=0, id="a"), call(again, "f", index=0, id="a"), finish="tool_calls")

    assert wanted(reply) == [("f", {"x": 1}, None), ("f", {"x": 2}, None)]


def test_a_partly_withheld_answer_says_so():
    _, reply = read({"content": "One could"}, finish="content_filter")

    assert (reply.text, reply.usage) == ("One could", {"withheld": True})


def test_a_lone_surrogate_in_a_models_name_is_replaced():
    _, reply = read(json.dumps({"model": "m\ud83d", "choices": [{"delta": {"content": "x"}}]}))

    assert reply.usage["model"] == "m?"


def test_cut_off_arguments_are_marked_and_not_repaired():
    _, reply = read(call('{"command": "rm -rf /tmp/bui', "bash", index=0), finish="length")

    assert wanted(reply) == [("bash", {}, CUT_OFF)]


def test_arguments_that_are_no_object_are_marked():
    _, reply = read(call('{"a": 1}{"b": 2}', "f", index=0), call("[1]", "g", index=1))

    assert [problem for _, _, problem in wanted(reply)] == [
        "its arguments are two JSON values, one after the other; make one call for each",
        "its arguments must be a JSON object",
    ]


def test_a_loading_chunk_is_a_status_and_no_reasoning():
    loading = json.dumps({"choices": [{"delta": {"reasoning_content": "swapping model\n"}}]})

    pieces, reply = read(loading, {"content": "x"})

    assert pieces == [LoadingNotice(note="swapping model"), Delta(text="x")]
    assert reply.reasoning == ""


def test_a_stream_that_ends_in_the_middle_is_an_error():
    with pytest.raises(ModelError, match="stopped in the middle"):
        read({"content": "The capital is"}, finish=None)


def test_a_stream_that_says_done_without_a_finish_reason_is_an_answer():
    _, reply = read({"content": "x"}, "[DONE]", finish=None)

    assert reply.text == "x"


def test_an_error_inside_a_stream_is_raised():
    with pytest.raises(ModelError, match="out of memory"):
        read('{"error": {"message": "out of memory", "code": 500}}')


def test_an_unexpected_chunk_is_an_error_that_shows_it():
    with pytest.raises(ModelError, match="<html>"):
        read("<html>")


@pytest.mark.parametrize(
    ("status", "body", "kind", "says"),
    [
        (
            400,
            '{"error":{"type":"exceed_context_size_error","n_ctx":8192,"message":"too long"}}',
            ContextOverflowError,
            "8,192",
        ),
        (401, '{"error":{"message":"Invalid API Key"}}', KeyRejectedError, "PianoConfig.api_key"),
        (404, '{"error":"no router for requested model"}', ModelNotServedError, "no router for requested model"),
        (404, '{"detail": "Not Found"}', ModelNotServedError, "(Not Found)"),
        (429, "{}", ModelUnavailableError, "busy"),
        (529, '{"error": {"message": "Overloaded"}}', ModelUnavailableError, "the server is busy (Overloaded)"),
        (502, "", ModelUnavailableError, "no reason given"),
        (400, "\x1b[31mno\x00", ModelRefusedError, "the server answered 400: [31mno"),
        (502, "<html><head><title>\n502 Bad Gateway</title></head>…", ModelUnavailableError, "(502 Bad Gateway)"),
        (524, "error code: 524", ModelUnavailableError, "down or still starting (error code: 524)"),
        (408, "", ModelUnavailableError, "down or still starting"),
        (500, "template error", ModelRefusedError, "the server answered 500: template error"),
        (400, '[{"error": {"code": 400, "message": "no such field"}}]', ModelRefusedError, "400: no such field"),
        (400, '{"errors": [{"message": "no such field"}]}', ModelRefusedError, "400: no such field"),
        (400, '{"error": null, "message": "no such field"}', ModelRefusedError, "400: no such field"),
        (
            422,
            '{"message": {"detail": [{"loc": ["body", "seed"], "msg": "Extra inputs are not permitted"}]}}',
            ModelRefusedError,
            "422: body.seed: Extra inputs are not permitted",
        ),
        (
            422,
            '{"message": "{\\"detail\\": [{\\"loc\\": [\\"body\\", 0], \\"msg\\": \\"wrong\\"}]}"}',
            ModelRefusedError,
            "422: body.0: wrong",
        ),
        (
            400,
            '{"error": {"message": "Provider returned error", "metadata": {"raw": "{\\"error\\": \\"no tools\\"}"}}}',
            ModelRefusedError,
            "400: Provider returned error: no tools",
        ),
        (400, '{"error": {"code": 7}}', ModelRefusedError, '400: {"code": 7}'),
    ],
)
def test_each_error_response_becomes_its_own_error_with_the_servers_message(status, body, kind, says):
    error = error_from(status, body)

    assert type(error) is kind
    assert says in str(error)


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_the_end_of_a_block_of_reasoning_that_is_code_in_the_answer_stays_there(size):
    text = "Such a block ends so:\n```\n</think>\n```\nand the answer follows."
    pieces = [text[at : at + size] for at in range(0, len(text), size)]

    written = ReasoningSplitter()
    for piece in pieces:
        written.feed(piece)
    written.close()

    assert (written.text, written.reasoning) == (text, "")


def test_in_a_cut_off_answer_the_calls_before_the_last_are_complete_and_repaired():
    sloppy = call("{'a': 1, 'b': 2,}", "add", index=0), call("{'a': 1}", "add", index=1)

    _, reply = read(*sloppy, finish="length")

    assert wanted(reply) == [("add", {"a": 1, "b": 2}, None), ("add", {}, CUT_OFF)]
    assert [each.repaired for each in reply.calls] == [True, False]


@pytest.mark.parametrize(
    "pieces",
    [
        [call('{"x": 1}', "f", index=0, id="a"), call('{"x": 1}', "f", index=1, id="b")],
        [call('{"x": 1}', "f", index=0, id="a"), call('{"x": 1}', "f", index=0, id="b")],
        [call('{"x": 1}', "f", id="a"), call('{"x": 1}', "f", id="b")],
        [call('{"x": 1}', "f"), call('{"x": 1}', "f")],
    ],
)
def test_two_equal_calls_that_the_server_numbers_apart_are_two(pieces):
    _, reply = read(*pieces, finish="tool_calls")

    assert wanted(reply) == [("f", {"x": 1}, None)] * 2


def test_a_snapshot_that_is_not_whole_is_not_run():
    _, reply = read(call('{"x": [', "f", index=0), call('{"x": [1', index=0), finish="tool_calls")

    assert [(each.arguments, bool(each.problem)) for each in reply.calls] == [({}, True)]
