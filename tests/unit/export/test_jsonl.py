"""A conversation as JSON Lines, and back."""

import json
from datetime import UTC, datetime
from uuid import UUID

import pytest
from hypothesis import given, strategies as st

from piano_jupyter.clock import Clock
from piano_jupyter.errors import PianoError
from piano_jupyter.export import ExportedThread, imported, jsonl
from piano_jupyter.export.jsonl import UNFINISHED, MessageLine, ToolCallLine, from_jsonl, to_jsonl
from piano_jupyter.export.thread_import import to_records
from piano_jupyter.records import Agent, CallStatus

START = datetime(2026, 1, 1, tzinfo=UTC)
AGENTS = [Agent(id=UUID(int=at), name=name, model="m", inserted_at=START) for at, name in enumerate(("ada", "B.ob"), 1)]
NAMES = {agent.id: agent.name for agent in AGENTS}

texts = st.text(st.characters(exclude_categories=["Cs"]))
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=5,
)
said_calls = st.builds(ToolCallLine, name=texts, arguments=st.dictionaries(texts, values, max_size=3), result=texts)
conversations = st.lists(
    st.builds(MessageLine, role=st.just("user"), content=texts)
    | st.builds(
        MessageLine,
        role=st.just("assistant"),
        content=texts,
        name=st.sampled_from([None, *NAMES.values()]),
        calls=st.lists(said_calls, max_size=3),
    ),
    min_size=1,
    max_size=6,
)


def line(*messages):
    return json.dumps({"messages": list(messages)})


def call(name="add", arguments='{"a": 1}', call_id="x"):
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}


def calling(*calls, content=None):
    return {"role": "assistant", "content": content, "tool_calls": list(calls)}


def result(content, call_id="x"):
    return {"role": "tool", "tool_call_id": call_id, "content": content}


USER = {"role": "user", "content": "hi"}


def test_a_thread_is_one_line_in_the_form_of_the_chat_api(sums):
    text = sums.export("jsonl")

    assert text.count("\n") == 1
    assert json.loads(text) == {
        "messages": [
            {"role": "user", "content": "How much is 1 + 1?"},
            {
                "role": "assistant",
                "content": "Let me see.",
                "name": "ada",
                "tool_calls": [call(arguments='{"a": 1, "b": 1}', call_id="call00001")],
            },
            {"role": "tool", "tool_call_id": "call00001", "content": "2"},
            {"role": "assistant", "content": "It is 2.", "name": "ada"},
            {"role": "user", "content": "Sure?"},
            {"role": "assistant", "content": "Yes.", "name": "ada"},
            {"role": "assistant", "content": "I think so.", "name": "bob"},
        ]
    }


@pytest.mark.parametrize("form", ["markdown", "notebook", "jsonl"])
def test_an_export_holds_the_conversation_and_nothing_of_this_machine(sums, form):
    text = sums.export(form)

    ids = [str(each.id) for each in (sums.thread, *sums.messages, *sums.calls, *sums.agents.values())]
    assert not any(hidden in text for hidden in [*ids, "Secret!", "big", "2026", "hm"])


def test_each_result_directly_follows_its_call_and_a_missing_one_is_stated(talk):
    talk.ask("?").say("ada", "", ("a", {}, "1"), ("b", {}, None)).say("ada", "", ("c", {}, "3"))

    messages = json.loads(talk.export("jsonl"))["messages"]

    assert [each.get("tool_call_id", each["role"]) for each in messages] == [
        *["user", "assistant", "call00001", "call00002", "assistant", "call00003"]
    ]
    assert messages[3]["content"] == UNFINISHED


@given(conversation=conversations)
def test_what_is_exported_is_imported_as_it_was(conversation):
    thread, messages, calls = to_records(conversation, None, Clock(START), AGENTS)

    text = to_jsonl(ExportedThread(thread, messages, calls, NAMES))

    assert from_jsonl(text) == [conversation]
    assert len(text.splitlines()) == 1  # also for those who break lines at U+2028


def test_one_message_per_line_is_also_read():
    text = "\n".join(
        ["\ufeff" + json.dumps(USER), "", json.dumps({"role": "assistant", "content": "ho", "name": "ada"})]
    )

    assert from_jsonl(text + "\r\n") == [[MessageLine("user", "hi"), MessageLine("assistant", "ho", "ada")]]


def test_a_line_ends_at_a_newline_only():
    assert from_jsonl('{"role": "user", "content": "a\u2028b\x85c"}') == [[MessageLine("user", "a\u2028b\x85c")]]


def test_each_line_is_a_conversation():
    assert from_jsonl(f"{line(USER)}\n{line(USER, USER)}") == [
        [MessageLine("user", "hi")],
        [MessageLine("user", "hi")] * 2,
    ]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}], "a\nb"),
        ([{"type": "text", "text": "see"}, {"type": "image_url", "image_url": {"url": "…"}}], "see\n[image_url]"),
        ([{"type": "refusal", "refusal": "no"}, "plain", {}, 7], "no\nplain\n[None]\n[None]"),
        ([], ""),
        ("", ""),
        ("half \ud800", "half ?"),
    ],
)
def test_content_is_a_text_or_a_list_of_parts(content, expected):
    assert from_jsonl(line({"role": "user", "content": content})) == [[MessageLine("user", expected)]]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [('{"a": 1}', {"a": 1}), ({"a": 1}, {"a": 1}), ("", {}), (None, {}), ("{}", {}), (r'{"a": "\ud800"}', {"a": "?"})],
)
def test_arguments_are_a_text_or_an_object(arguments, expected):
    assert from_jsonl(line(calling(call(arguments=arguments))))[0][0].calls == [ToolCallLine("add", expected)]


def test_a_call_without_text_is_a_message():
    [[said]] = from_jsonl(line({"role": "assistant", "tool_calls": [call()]}))

    assert said == MessageLine("assistant", "", None, [ToolCallLine("add", {"a": 1})])


def test_results_find_their_calls_in_any_order_and_where_ids_are_used_again():
    text = line(
        *[calling(call("a", call_id="1"), call("b", call_id="2")), result("two", "2"), result("one", "1")],
        *[calling(call("c", call_id="1"), call("d", call_id="1")), result("three", "1"), result(None, "1")],
        *[calling(call("e", call_id="1")), calling(call("f", call_id="1")), result("six", "1")],
    )

    calls = [made for said in from_jsonl(text)[0] for made in said.calls]

    assert [(each.name, each.result) for each in calls] == [
        *[("a", "one"), ("b", "two"), ("c", "three"), ("d", ""), ("e", None), ("f", "six")]
    ]


def test_instructions_are_read_as_notes():
    text = line({"role": "system", "content": "Be kind."}, {"role": "developer", "content": "Be brief."})

    assert from_jsonl(text) == [[MessageLine("system", "Be kind."), MessageLine("system", "Be brief.")]]


DEEP = '{"a":' * 200_000


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "there is no conversation in the file"),
        (" \n\n", "there is no conversation in the file"),
        ('{"messages": []}', "there is no conversation in the file"),
        (json.dumps(USER) + "\nhello", r"line 2, column 1: not JSON \(expecting value\)"),
        ("PK\x03\x04\x00\x00\xff", "line 1, column 1: not JSON"),
        ("\x00" * 1000, "line 1, column 1: not JSON"),
        (DEEP, "line 1: not JSON that can be read"),
        ('{"role": ' + "9" * 5000, "line 1: not JSON that can be read"),
        ("[1]", "line 1: not a JSON object"),
        ('{"prompt": "a"}', "line 1 is neither a conversation .* nor a message"),
        ('{"messages": "a"}', "line 1 is neither a conversation .* nor a message"),
        (line("hi"), "line 1, message 1 is not an object"),
        (
            line(USER, {"role": "robot", "content": ""}),
            "line 1, message 2 has the role 'robot'; known: user, assistant",
        ),
        (line({"role": ["user"], "content": ""}), r"line 1, message 1 has the role \['user'\]"),
        (line({"role": "r" * 1000, "content": ""}), "line 1, message 1 has the role 'rrr"),
        (line({"content": ""}), "line 1, message 1 has the role None"),
        (line({"role": "user"}), "line 1, message 1 has no 'content'"),
        (line(calling()), "line 1, message 1 has no 'content'"),
        (line({"role": "user", "content": 1}), "neither a string nor a list of parts"),
        (line({"role": "user", "content": [{"type": "text"}]}), "a part of its 'content' without its 'text'"),
        (line({"role": "user", "content": "", "name": 1}), "has a 'name' that is not a string"),
        (line(calling({})), "a tool call without a 'function' and its 'name'"),
        (line(calling(1)), "a tool call without a 'function' and its 'name'"),
        (line({"role": "assistant", "tool_calls": 1}), "a tool call without a 'function' and its 'name'"),
        (line(calling(call(arguments="{"))), "the arguments of a tool call in line 1, message 1, column 2: not JSON"),
        (line(calling(call(arguments='{"a": NaN}'))), "the arguments of a tool call in line 1, message 1: not JSON"),
        (line(calling(call(arguments='{"a": 1e999}'))), "the arguments of a tool call in line 1, message 1: not JSON"),
        (line(calling(call(arguments="[1]"))), "the arguments of a tool call in line 1, message 1: not a JSON object"),
        (line(calling(call(arguments=5))), "the arguments of a tool call in line 1, message 1: not JSON"),
        (line(calling(call(arguments=DEEP))), "the arguments of a tool call in line 1, message 1: not JSON"),
        (line(result("2")), "line 1, message 1 is the result of a tool call 'x' that no message before it makes"),
        (line(calling(call()), result("2"), result("3")), "line 1, message 3 is the result of a tool call 'x'"),
        (line(calling(call()), {"role": "tool", "content": "2"}), "is the result of a tool call None"),
        (line(calling(call()), result("2", ["x"])), r"is the result of a tool call \['x'\]"),
    ],
)
def test_other_formats_are_refused_with_the_line(text, sentence):
    with pytest.raises(PianoError, match=sentence) as refused:
        from_jsonl(text)

    assert len(str(refused.value)) < 300


def test_a_file_that_is_too_long_is_refused(monkeypatch):
    monkeypatch.setattr(jsonl, "MAX_FILE_CHARS", 1000)

    with pytest.raises(PianoError, match="1,001 characters, at most 1,000 are read"):
        from_jsonl(" " * 1001)


def test_what_is_imported_is_a_thread_in_which_each_message_follows_the_one_before():
    text = line(
        *[USER, calling(call(), content="Look.") | {"name": "b.OB"}, result("2")],
        *[
            {"role": "assistant", "content": "2", "name": "ada"},
            {"role": "assistant", "content": "!", "name": "eve"},
            USER,
        ],
    )

    thread, messages, calls = imported(text, "Sums", Clock(START), AGENTS)

    assert (thread.title, thread.primary_agent_id) == ("Sums", AGENTS[1].id)
    assert [(each.role, each.content) for each in messages] == [
        *[("user", "hi"), ("assistant", "Look."), ("assistant", "2"), ("assistant", "!"), ("user", "hi")]
    ]
    assert [each.parent_id for each in messages] == [None, *[each.id for each in messages[:-1]]]
    assert [each.agent_id for each in messages] == [None, AGENTS[1].id, AGENTS[0].id, None, None]
    assert [each.source for each in messages] == ["api", "agent", "agent", "agent", "api"]
    assert {(each.job_id, each.thread_id) for each in messages} == {(None, thread.id)}
    assert [(each.message_id, each.status, each.result) for each in calls] == [(messages[1].id, CallStatus.OK, "2")]
    assert len({each.id for each in (thread, *messages, *calls)}) == 7


def test_a_call_that_has_no_result_gets_one_that_says_so():
    _, _, [made] = imported(line(calling(call())), None, Clock(START), AGENTS)

    assert (made.status, made.result) == (CallStatus.UNKNOWN, UNFINISHED)
    assert made.finished_at is not None


def test_the_name_of_an_agent_on_a_question_is_ignored():
    thread, [asked], _ = imported(line(USER | {"name": "ada"}), None, Clock(START), AGENTS)

    assert (asked.agent_id, thread.primary_agent_id) == (None, None)


@pytest.mark.parametrize(
    ("content", "title"),
    [("How\n much?", "How much?"), ("a" * 100, "a" * 59 + "…"), (" \n", "Imported"), ("", "Imported")],
)
def test_the_default_title_is_the_start_of_the_first_question(content, title):
    assert imported(line({"role": "user", "content": content}), None, Clock(START), [])[0].title == title


def test_two_conversations_are_not_one_thread():
    with pytest.raises(PianoError, match="the file holds 2 conversations; a thread is one"):
        imported(f"{line(USER)}\n{line(USER)}", None, Clock(START), [])
