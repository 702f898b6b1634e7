"""Tool calls for models without tools: the reply is JSON, an answer or a call."""

import json

import pytest

from piano_jupyter.runner.model.protocol import ChatRequest, Delta, Reply
from piano_jupyter.runner.model.stream.constrained_calls import (
    AnswerStream,
    constrained_request,
    partial_answer,
    read_constrained_reply,
)
from piano_jupyter.tool import tool


@tool
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


FUNCTION = {"name": "add", "arguments": "{}"}
CALLED = [
    {"role": "user", "content": "1+1?"},
    {"role": "assistant", "content": "", "tool_calls": [{"id": "call00001", "type": "function", "function": FUNCTION}]},
    {"role": "tool", "tool_call_id": "call00001", "content": "2"},
]


def request(*messages):
    return constrained_request(ChatRequest(model="m", messages=messages, tools=[add.schema()]))


def test_the_schema_allows_an_answer_or_a_call_of_an_enabled_tool():
    asked = request({"role": "user", "content": "1+1?"})

    answer, call = asked.options["response_format"]["json_schema"]["schema"]["anyOf"]
    assert answer["properties"] == {"answer": {"type": "string"}}
    assert call["properties"]["tool"] == {"const": "add"}
    assert call["properties"]["arguments"]["required"] == ["a", "b"]
    assert asked.tools == ()


def test_an_answers_own_schema_is_embedded_with_its_references():
    tree = {
        "type": "object",
        "properties": {"kids": {"type": "array", "items": {"$ref": "#"}}, "leaf": {"$ref": "#/$defs/Leaf"}},
        "$defs": {"Leaf": {"type": "string"}},
    }
    asked = constrained_request(ChatRequest(model="m", messages=CALLED, tools=[add.schema()], schema=tree))

    held = asked.options["response_format"]["json_schema"]["schema"]
    moved = held["$defs"]["answer"]
    assert asked.schema is None
    assert held["anyOf"][0]["properties"] == {"answer": {"$ref": "#/$defs/answer"}}
    assert moved["properties"]["kids"]["items"] == {"$ref": "#/$defs/answer"}
    assert moved["properties"]["leaf"] == {"$ref": "#/$defs/answer/$defs/Leaf"}
    assert moved["$defs"]["Leaf"] == {"type": "string"}


def test_tools_are_described_in_the_one_system_message():
    asked = request({"role": "system", "content": "Be kind."}, {"role": "user", "content": "1+1?"})

    assert [message["role"] for message in asked.messages] == ["system", "user"]
    assert asked.messages[0]["content"].startswith("Be kind.")
    assert "- add(a, b): Add two numbers." in asked.messages[0]["content"]


def test_calls_and_results_of_the_history_become_plain_text():
    function = {"name": "add", "arguments": '{"a": 1, "b": 1}'}
    asked = request(
        {"role": "user", "content": "1+1?"},
        {
            "role": "assistant",
            "content": "",
            "tool_calls": [{"id": "call00001", "type": "function", "function": function}],
        },
        {"role": "tool", "tool_call_id": "call00001", "content": "2"},
        {"role": "assistant", "content": "Two."},
    )

    assert [message["content"] for message in asked.messages[2:]] == [
        '{"tool": "add", "arguments": {"a": 1, "b": 1}}',
        "add returned:\n2",
        '{"answer": "Two."}',
    ]


def test_a_tool_that_has_returned_is_not_offered_again_until_the_user_speaks():
    within = request(*CALLED).options["response_format"]["json_schema"]["schema"]["anyOf"]
    after = request(*CALLED, {"role": "user", "content": "2+2?"}).options["response_format"]["json_schema"]["schema"]

    assert len(within) == 1
    assert len(after["anyOf"]) == 2


def test_a_written_call_becomes_a_call():
    reply = read_constrained_reply(Reply(text='{"tool": "add", "arguments": {"a": 1, "b": 1}}', finish_reason="stop"))

    assert [(call.name, dict(call.arguments)) for call in reply.calls] == [("add", {"a": 1, "b": 1})]
    assert reply.text == ""


@pytest.mark.parametrize("arguments", [[1], 5, "a"])
def test_a_written_call_whose_arguments_are_no_object_is_not_run(arguments):
    reply = read_constrained_reply(
        Reply(text=json.dumps({"tool": "add", "arguments": arguments}), finish_reason="stop")
    )

    assert [call.problem is None for call in reply.calls] == [False]


def test_a_lone_surrogate_is_neither_shown_nor_stored():
    stream, written = AnswerStream(), '{"answer": "a\\ud83db"}'

    shown = "".join(stream.feed(Delta(text=each)).text for each in written)

    assert shown == read_constrained_reply(Reply(text=written, finish_reason="stop")).text == "a?b"
    assert read_constrained_reply(Reply(text='{"answer": "a\\ud83db', finish_reason="length")).text == "a?b"


def test_a_written_answer_becomes_text():
    assert read_constrained_reply(Reply(text='{"answer": "Two\\n."}', finish_reason="stop")).text == "Two\n."


def test_an_invalid_escape_stays_unchanged():
    assert partial_answer('{"answer": "C:\\q') == "C:\\q"
    assert read_constrained_reply(Reply(text='{"answer": "C:\\q"}', finish_reason="stop")).text == "C:\\q"


def test_a_result_and_the_next_question_are_one_message_of_the_user():
    asked = request(*CALLED, {"role": "user", "content": "And?"})

    assert [message["role"] for message in asked.messages] == ["system", "user", "assistant", "user"]


def test_a_cut_off_answer_keeps_its_text():
    assert read_constrained_reply(Reply(text='{"answer": "Two and', finish_reason="length")).text == "Two and"


def test_a_cut_off_call_is_not_run():
    reply = read_constrained_reply(Reply(text='{"tool": "add", "argum', finish_reason="length"))

    assert [call.problem for call in reply.calls] == ["the call was cut off; send it again, shorter"]


@pytest.mark.parametrize("indent", [None, 4])
def test_the_answer_streams_out_of_its_json_piece_by_piece(indent):
    written = json.dumps({"answer": 'a "q" é \U0001f600\n\\ end'}, indent=indent)
    stream = AnswerStream()

    shown = "".join(stream.feed(Delta(text=character)).text for character in written)

    assert shown == 'a "q" é \U0001f600\n\\ end'


@pytest.mark.parametrize("written", ["", "{", '{"answer":', '{"tool": "add", "arguments": {"a": "answer', "plain text"])
def test_only_the_answer_is_shown(written):
    assert partial_answer(written) == ""
