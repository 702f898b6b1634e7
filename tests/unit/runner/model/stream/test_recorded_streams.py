"""Streams of real servers, and of the forms that they are known for: one table of what comes of each.

`tests/fixtures/streams/llama_cpp_*.sse` are recorded (`tests/fixtures/record_streams.py`); the first line of each other
one says where its form comes from.
"""

from pathlib import Path

import pytest
from hypothesis import given, settings, strategies as st

from piano_jupyter.errors import ContextOverflowError, ModelError, ModelUnavailableError, UnreadableReplyError
from piano_jupyter.runner.model.protocol import Delta, LoadingNotice, StreamRestarted
from piano_jupyter.runner.model.stream.lenient_json import CUT_OFF, TWO_VALUES
from piano_jupyter.runner.model.stream.reply_reader import ReplyReader

STREAMS = Path(__file__).parents[4] / "fixtures" / "streams"
TOOLS = ("look", "rest", "edit_file")

LAKE = ("look", {"where": "at the lake"})
HUT = ("look", {"where": "in the hut"})
REST = ("rest", {})
THOUGHT = "It may be so."

#: one call of `look`, whatever its pieces carry
ONE_CALL = (
    "id_only_in_the_first_delta id_empty_later id_absent id_null id_new_in_each_delta index_absent "
    "index_absent_in_pieces index_after_absent arguments_an_object name_in_every_delta name_in_two_deltas "
    "function_call content_null finish_stop_with_calls not_streamed_calls call_as_text function_as_text "
    "parameters_as_text loading_chunks "
    "orphan_end_as_text glm_as_text mistral_as_text mistral_args_as_text llama_as_text llama_spaced_as_text "
    "python_tag_as_text deepseek_as_text deepseek_v31_as_text deepseek_json_as_text dsml_as_text kimi_as_text "
    "minimax_as_text minimax_m1_as_text harmony_as_text harmony_start_as_text granite_as_text decorated_index "
    "decorated_channel decorated_case "
    "repeated_whole repeated_whole_without_name repeated_whole_without_id_and_name repeated_in_pieces repeated_by_id "
    "lmstudio_as_text lfm_as_text python_as_text olmo_as_text gemma_as_text gemma_escape_as_text seed_as_text "
    "dsml_v4_as_text muse_as_text cohere_as_text harmony_bare_as_text harmony_role_as_text "
    "tgi_object repeated_behind_its_start repeated_by_the_last_chunk nameless_beside id_new_in_each_piece_at_one_index "
    "repeated_function_call snapshots snapshots_with_name empty_object_first empty_object_first_with_name "
    "empty_object_last_with_name cut_repeated "
    "llama_cpp_call llama_cpp_call_as_text"
)
TWO_CALLS = (
    "index_absent_two_calls index_absent_two_calls_in_one_delta index_always_zero index_always_zero_in_pieces "
    "one_id_for_two_calls index_and_id_the_same repeated_two_calls kimi_two_as_text "
    "glm_two_as_text mistral_two_as_text"
)
#: an answer, whatever its bytes look like
WELL = (
    "finish_empty_until_the_end usage_without_choices usage_null_in_each_chunk usage_in_the_choice no_done held_open "
    "line_ends returns_alone byte_order_mark no_empty_lines data_in_several_lines empty_data not_streamed "
    "whole_behind_its_pieces more_behind_the_end content_in_texts done_without_data usage_of_a_strange_shape "
    "finish_object finish_of_cohere flushed_behind_the_end nulls_before_the_answer usage_of_another_api "
    "whole_beside_its_pieces data_twice"
)
#: an answer with reasoning apart from it
THOUGHTFUL = (
    "reasoning reasoning_by_another_name reasoning_in_parts think think_begun_by_the_template think_twice "
    "think_in_brackets think_of_longcat think_of_apertus"
)
RECORDED_THOUGHTFUL = "llama_cpp_reasoning_apart llama_cpp_reasoning_begun_by_the_template llama_cpp_reasoning_in_text"

#: text, calls
ANSWERED = {
    **dict.fromkeys(ONE_CALL.split(), ("", [LAKE])),
    **dict.fromkeys(TWO_CALLS.split(), ("", [LAKE, HUT])),
    **dict.fromkeys(WELL.split(), ("Well.", [])),
    **dict.fromkeys(THOUGHTFUL.split(), ("Yes.", [])),
    **dict.fromkeys(RECORDED_THOUGHTFUL.split(), ("Yes, I am.", [])),
    "index_from_one": ("I look.", [LAKE]),
    "arguments_null": ("", [REST]),
    "arguments_empty": ("", [REST]),
    "two_calls_as_text": ("", [LAKE, REST]),
    "python_two_as_text": ("", [LAKE, REST]),
    "think_then_call_as_text": ("", [LAKE]),
    "think_nested": ("Yes.", []),
    "call_within_text": ('I would write <tool_call>{"name": "look", "arguments": {}}</tool_call>.', []),
    "call_as_text_then_more": ('<tool_call>{"name": "look", "arguments": {"where": "x"}}</tool_call> or so', []),
    "call_as_text_of_no_tool": ('<tool_call>{"name": "bash", "arguments": {"command": "ls"}}</tool_call>', []),
    "call_as_text_cut": ('<tool_call>{"name": "look", "arguments": {"where": "at', []),
    "think_that_ends_with_a_quote": ("NO_REPLY", []),
    "about_tags": ("Models write `<think>` and `</think>` around it.", []),
    "kimi_cut_as_text": (
        '<|tool_calls_section_begin|><|tool_call_begin|>functions.look:0<|tool_call_argument_begin|>{"where": "at',
        [],
    ),
    "json_answer": ('{"name": "Ada", "arguments": "none"}', []),
    "half_characters": ("\U0001f600", []),
    "refusal": ("I will not.", []),
    "llama_cpp_answer": ("All is well here.", []),
    "llama_cpp_cut_answer": ("All is", []),
    "llama_cpp_call_after_words": ("I go and see.\n", [LAKE]),
    "llama_cpp_held_to_a_schema": ('{\n    "answer": "Paris"\n}', []),
}

#: complete, but invalid JSON: run, and marked
REPAIRED = {
    "sloppy_single_quotes": ("look", {"where": 'at the "lake"', "deep": True}),
    "sloppy_fence": LAKE,
    "sloppy_line_break": ("look", {"where": "at\nthe lake"}),
    "arguments_in_a_string_in_a_string": LAKE,
    "left_over_mark": LAKE,
    "left_over_token": LAKE,
}

NO_JSON = (
    "its arguments are not JSON (Expecting property name enclosed in double quotes at character 2); "
    "send one JSON object"
)
#: the problem of each call; None for one that is run
NOT_RUN = {
    "cut_call": [CUT_OFF],
    "cut_and_called_complete": [CUT_OFF],
    "cut_call_without_an_end": [CUT_OFF],
    "cut_second_call": [None, CUT_OFF],
    "cut_before_the_arguments": [CUT_OFF],
    "cut_by_the_window": [CUT_OFF],
    "cut_by_a_filter": [CUT_OFF],
    "llama_cpp_cut_call": [CUT_OFF],
    "cut_empty_object_first": [CUT_OFF],
    "two_objects": [TWO_VALUES],
    "broken_json": [NO_JSON],
}

#: nothing is said: the turn asks once more, then says so
EMPTY = {
    "only_reasoning": "stop", "empty": "stop", "withheld": "content_filter", "think_never_closed": "stop",
    "llama_cpp_only_reasoning": "stop", "nameless_alone": "tool_calls",
}  # fmt: skip

#: the error's kind, what it says, and whether a retry may help
FAILED = {
    "error_in_the_stream": (ModelError, "out of memory", False),
    "error_as_text": (ModelUnavailableError, r"could not be loaded \(exit status 1\)", False),
    "error_without_data": (ModelUnavailableError, "could not be loaded", False),
    "error_in_a_field_of_its_own": (ModelError, "context shift is disabled", False),
    "error_object": (ModelError, "the engine is dead", False),
    "error_that_passes": (ModelUnavailableError, "the server is busy", True),
    "web_page": (ModelError, "<!doctype html>", False),
    "breaks_off": (ModelUnavailableError, "stopped in the middle", True),
    "breaks_off_with_a_word": (ModelUnavailableError, "stopped in the middle", True),
    "breaks_off_overloaded": (ModelUnavailableError, "stopped in the middle", True),
    "error_with_a_good_status": (ModelError, "not a chat completion: .*the key is not valid", False),
    "error_event": (ModelError, "not a chat completion: .*the upstream is gone", False),
    "error_in_a_list": (ModelError, "not a chat completion: .*the key is not valid", False),
    "llama_cpp_too_long": (ContextOverflowError, "2,048", False),
    "error_in_a_choice": (ModelUnavailableError, "down or still starting .the provider is gone.", True),
    "error_of_groq": (ModelError, "over capacity, try again later", True),
    "error_with_a_status_beside": (ModelUnavailableError, "too many requests in the queue", True),
    "error_that_says_retry": (ModelError, "You can retry your request", True),
    "error_event_in_the_middle": (ModelUnavailableError, r"stopped in the middle .* \(the upstream is gone\)", True),
    "error_under_another_key": (UnreadableReplyError, "error parsing tool call", False),
    "times_out": (ModelUnavailableError, "stopped in the middle", True),
}


def read(name, size=None, **how):
    """Return the pieces and the reply of a stream that comes in pieces of this many bytes."""
    return read_bytes((STREAMS / f"{name}.sse").read_bytes(), [size] if size else [], **how)


def read_bytes(stream, sizes=(), *, reading=None, **how):
    reading, told, at = reading or ReplyReader(TOOLS, **how), [], 0
    sizes = list(sizes)
    while not reading.ended:
        size = sizes[0] if len(sizes) == 1 else sizes.pop(0) if sizes else len(stream)
        told += reading.feed(stream[at : at + size])
        at += size
    return told, reading.reply()


def shown(told):
    """Return the answer and the reasoning as a front end shows them after these pieces."""
    begun = max((at for at, piece in enumerate(told) if isinstance(piece, StreamRestarted)), default=-1) + 1
    deltas = [piece for piece in told[begun:] if isinstance(piece, Delta)]
    return "".join(delta.text for delta in deltas), "".join(delta.reasoning for delta in deltas)


def test_each_stream_is_in_the_table():
    told = ANSWERED.keys() | REPAIRED.keys() | NOT_RUN.keys() | EMPTY.keys() | FAILED.keys()

    assert {path.stem for path in STREAMS.glob("*.sse")} == told


@pytest.mark.parametrize("name", ANSWERED)
def test_h1_to_h6_h12_h13_h17_what_a_server_streams_is_the_answer_and_the_calls_that_it_means(name):
    text, calls = ANSWERED[name]

    told, reply = read(name)

    assert reply.text == text
    assert [(call.name, dict(call.arguments)) for call in reply.calls] == calls
    assert not any(call.problem or call.repaired for call in reply.calls)
    if name != "half_characters":  # shown as they come, put together at the end
        assert shown(told) == (reply.text, reply.reasoning)


@pytest.mark.parametrize("name", [*THOUGHTFUL.split(), *RECORDED_THOUGHTFUL.split()])
def test_h17_reasoning_is_kept_apart_from_the_answer(name):
    _, reply = read(name)

    assert " ".join(reply.reasoning.split()) == THOUGHT


@pytest.mark.parametrize("name", REPAIRED)
def test_h8_complete_but_invalid_arguments_are_repaired_and_marked(name):
    _, reply = read(name)

    [call] = reply.calls
    assert (call.name, dict(call.arguments)) == REPAIRED[name]
    assert (call.problem, call.repaired) == (None, True)


@pytest.mark.parametrize("name", NOT_RUN)
def test_h7_h9_incomplete_arguments_are_never_run_and_never_repaired(name):
    _, reply = read(name)

    assert [call.problem for call in reply.calls] == NOT_RUN[name]
    assert all(not call.arguments and not call.repaired for call in reply.calls if call.problem)


@pytest.mark.parametrize("name", EMPTY)
def test_h17_a_reply_without_an_answer_is_empty_and_says_why(name):
    _, reply = read(name)

    assert (reply.text.strip(), reply.calls, reply.finish_reason) == ("", (), EMPTY[name])


@pytest.mark.parametrize("name", FAILED)
def test_h14_what_goes_wrong_in_a_stream_is_an_error_of_its_kind(name):
    kind, says, passes = FAILED[name]
    reading = ReplyReader(TOOLS)

    with pytest.raises(kind, match=says) as caught:
        read(name, reading=reading)
    assert isinstance(caught.value, kind)
    assert reading.is_transient is passes


def test_h13_loading_chunks_are_a_status_and_no_reasoning():
    told, reply = read("loading_chunks")

    assert [piece.note for piece in told if isinstance(piece, LoadingNotice)][-1] == "loading model: m"
    assert reply.reasoning == ""


def test_h12_calls_as_text_can_be_turned_off_and_stay_text():
    _, reply = read("function_as_text", text_calls=False)

    assert (reply.text, reply.calls) == ('<function=look>{"where": "at the lake"}</function>', ())


@pytest.mark.parametrize("name", [each for each in ANSWERED if "as_text" in each and ANSWERED[each][1]])
@pytest.mark.parametrize("size", [1, 7, None])
def test_h12_nothing_of_a_call_as_text_is_shown(name, size):
    told, _ = read(name, size=size)

    assert shown(told)[0] == ""


@pytest.mark.parametrize(
    ("name", "usage"),
    [
        ("usage_without_choices", {"prompt_tokens": 27, "completion_tokens": 8, "cached_tokens": 20}),
        ("usage_null_in_each_chunk", {"prompt_tokens": 27, "completion_tokens": 8}),
        ("usage_in_the_choice", {"prompt_tokens": 27, "completion_tokens": 8, "cached_tokens": 20}),
        ("not_streamed", {"prompt_tokens": 27, "completion_tokens": 8}),
        ("whole_behind_its_pieces", {"prompt_tokens": 27, "completion_tokens": 8}),
        ("usage_of_another_api", {"prompt_tokens": 27, "completion_tokens": 8}),
        ("usage_of_a_strange_shape", {"prompt_tokens": 27, "completion_tokens": 8}),
    ],
)
def test_usage_is_read_from_each_servers_fields(name, usage):
    _, reply = read(name)

    assert reply.usage == {"model": "m", **usage}


def test_the_usage_of_a_recorded_answer_is_complete():
    _, reply = read("llama_cpp_answer")

    assert (reply.usage["prompt_tokens"], reply.usage["completion_tokens"], reply.usage["cached_tokens"]) == (49, 5, 0)
    assert reply.usage["tokens_per_second"] > 0


READABLE = [*ANSWERED, *REPAIRED, *NOT_RUN, *EMPTY]


@pytest.mark.parametrize("name", READABLE)
def test_a_stream_byte_by_byte_is_the_same_reply(name):
    told, whole = read(name)
    slowly, reply = read(name, size=1)

    assert reply == whole
    assert shown(slowly) == shown(told)


@settings(max_examples=200, deadline=None)
@given(name=st.sampled_from(READABLE), sizes=st.lists(st.integers(1, 200), min_size=2, max_size=200))
def test_a_stream_split_anywhere_is_the_same_reply(name, sizes):
    stream = (STREAMS / f"{name}.sse").read_bytes()
    told, whole = read_bytes(stream)

    slowly, reply = read_bytes(stream, sizes)

    assert reply == whole
    assert shown(slowly) == shown(told)


@settings(max_examples=200, deadline=None)
@given(name=st.sampled_from(READABLE), share=st.floats(0, 1))
def test_h7_an_incomplete_stream_runs_no_call_that_the_complete_one_does_not(name, share):
    stream = (STREAMS / f"{name}.sse").read_bytes()
    _, whole = read_bytes(stream)

    try:
        _, reply = read_bytes(stream[: int(len(stream) * share)])
    except ModelError:
        return
    run = [call for call in reply.calls if not call.problem]
    assert run == [call for call in whole.calls if not call.problem][: len(run)]


@pytest.mark.parametrize("name", ["llama_cpp_answer", "llama_cpp_call", "not_streamed", "data_in_several_lines"])
def test_a_stream_that_ends_inside_an_event_is_a_broken_connection_wherever_it_is_cut(name):
    stream = (STREAMS / f"{name}.sse").read_bytes()
    _, whole = read_bytes(stream)
    broken = []

    for end in range(len(stream)):
        reading = ReplyReader(TOOLS)
        try:
            _, reply = read_bytes(stream[:end], reading=reading)
        except ModelError as error:
            broken.append((str(error), reading.is_transient))
        else:
            assert reply.text == whole.text
            assert all(call in whole.calls or call.problem == CUT_OFF for call in reply.calls)

    assert len(broken) > 40
    assert set(broken) == {("the server stopped in the middle of its answer; retry, or see the server's log", True)}


@pytest.mark.parametrize("rest", [b"data: {not JSON}\n\ndata: [DONE]\n\n", b"data: no JSON"])
def test_data_that_is_complete_and_no_json_is_no_broken_connection(rest):
    with pytest.raises(ModelError, match="not a chat completion"):
        read_bytes(rest)
