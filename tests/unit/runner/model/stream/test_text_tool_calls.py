"""Calls that are written as text, and the names of the tools that they mean."""

import pytest
from hypothesis import given, settings, strategies as st

from piano_jupyter.runner.model.stream.text_tool_calls import TextToolCallBuffer, parse_text_calls
from piano_jupyter.runner.model.stream.tool_names import tool_named

TOOLS = ["look", "rest", "edit_file"]


@pytest.mark.parametrize(
    "text",
    [
        '{"name": "look", "colour": "red", "arguments": {}}',  # bare JSON with more than a call
        '{"name": "look"}',
        '{"name": "lock", "arguments": {}}',
        'look{"where": "x"} or so',
        "</tool_call>",
        "[TOOL_CALLS]",
        "<tool_call>look\n<arg_key>where</arg_key>\n<arg_value>at",
        "<tool_call>look\n<arg_key>where</arg_key>\n<arg_value>at</arg_value>",
        "<function=look>\n<parameter=where>\nx\n</parameter>\n",
        '<invoke name="look">\n<parameter name="where">x</invoke>',
        '<|tool_call_begin|>functions.look:0<|tool_call_argument_begin|>{"where": "x"',
        '<|channel|>commentary<|message|>{"where": "x"}<|call|>',  # for no tool
        '<tool_call>{"name": "look", "arguments": {}}</tool_call> Done.',
        "[look(where=at)]",  # no literals
        "[look('x')]",
        "[look(where={1, 2})]",
        "[look(where='x'), peek()]",
        "look(where='x')",
        "<function_calls>look(where='x'</function_calls>",
        '<|tool_call>call:look{where:<|"|>at<tool_call|>',
        "<|tool_call>call:look{where:at}<tool_call|>",
        'call:look{where:<|"|>x<|"|>}',
        'to=functions.peek json{"where": "x"}',
        'commentary to=functions.look json{"where": ',
        "",
        "   ",
    ],
)
def test_what_is_no_complete_call_of_a_tool_stays_text(text):
    assert parse_text_calls(text, TOOLS) == ()


def test_a_call_without_arguments_needs_none():
    for text in (
        "<tool_call>rest</tool_call>",
        "<function=rest></function>",
        '<tool_call>{"name": "rest"}</tool_call>',
    ):
        assert [(call.name, call.arguments) for call in parse_text_calls(text, TOOLS)] == [("rest", {})]


@pytest.mark.parametrize(
    ("text", "arguments"),
    [
        ("[look(where='a \"b\" (c', deep=[1, {'k': None}], far=-2.5, near=True)]",
         {"where": 'a "b" (c', "deep": [1, {"k": None}], "far": -2.5, "near": True}),
        ('<|tool_call>call:look{where:<|"|>a "b", c: {d}\n<|"|>,deep:[1,{k:null,l:<|"|><|"|>}],far:-2.5}<tool_call|>',
         {"where": 'a "b", c: {d}\n', "deep": [1, {"k": None, "l": ""}], "far": -2.5}),
        ('<|tool_call>call:look{where:"a, b: c",n:{}}', {"where": "a, b: c", "n": {}}),
    ],
)  # fmt: skip
def test_values_of_each_kind_are_read(text, arguments):
    assert [(each.name, each.arguments) for each in parse_text_calls(text, TOOLS)] == [("look", arguments)]


@pytest.mark.parametrize(
    "argument",
    ["at", "open('x')", "f'{at}'", "[x for x in 'ab']", "lambda: 1", "{1}", "b'x'", "...", "1j", "1e999", "*at", "**at",
     "__import__('os').system('true')", "(yield)", "(x := 1)", "'a'.upper()"],
)  # fmt: skip
def test_h19_of_a_call_as_python_only_literals_are_read(argument):
    marked = f"<|tool_call_start|>[look(where={argument})]<|tool_call_end|>"

    assert parse_text_calls(marked, TOOLS) == parse_text_calls(f"[look(where='x', {argument})]", TOOLS) == ()


@pytest.mark.parametrize(
    ("name", "means"),
    [
        ("look", "look"),
        ("functions.look", "look"),
        ("functions.look:0", "look"),
        ("tools.functions.look", "look"),
        ("look<|channel|>commentary", "look"),
        ("to=functions.look", "look"),
        ("default_api:look", "look"),
        (" look ", "look"),
        ("Look", "look"),
        ("edit-file", "edit_file"),
        ("look_around", "look_around"),
        ("", ""),
        ("functions.", "functions."),
        ("look" * 100, "look" * 100),
    ],
)
def test_a_decorated_name_finds_its_tool(name, means):
    assert tool_named(name, TOOLS) == means


@pytest.mark.parametrize("name", ["github__search", "github.search", "functions.github__search:0", "GitHub.Search"])
def test_a_tool_of_a_server_is_found_by_its_name_with_and_without_a_dot(name):
    assert tool_named(name, ["github__search", "search"]) == "github__search"


def test_a_name_that_two_tools_can_mean_finds_neither():
    assert tool_named("Look", ["look", "LOOK"]) == "Look"
    assert tool_named("LOOK", ["look", "LOOK"]) == "LOOK"


@settings(max_examples=200, deadline=None)
@given(text=st.text(alphabet='{"name": <tool_c>|[TOLCAS]\n', max_size=60), sizes=st.lists(st.integers(1, 9)))
def test_an_answer_is_shown_once_however_it_is_split(text, sizes):
    whole, slowly, shown, at = TextToolCallBuffer(holding=True), TextToolCallBuffer(holding=True), "", 0
    for size in [*sizes, len(text)]:
        shown += slowly.feed(text[at : at + size])
        at += size

    assert shown == ("" if slowly.holding else text)
    assert whole.feed(text) == shown
