"""Tool calls for models whose chat template has no tools: a JSON Schema constrains the reply to an answer or one call.

Pure. The server turns the schema into a grammar, so that even a tiny model can only write one of these two forms.
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from piano_jupyter.runner.model.message_roles import BEFORE_FIGURES, merge_same_role
from piano_jupyter.runner.model.protocol import ChatRequest, Delta, Reply, RequestedCall
from piano_jupyter.runner.model.stream.lenient_json import read_arguments
from piano_jupyter.runner.model.stream.tool_calls import replace_lone_surrogates
from piano_jupyter.text.json_text import parse_json

ANSWER_KEY = re.compile(r'\s*\{\s*"answer"\s*:')
COMPLETE_ESCAPES = re.compile(r'(?:[^"\\]|\\u[0-9a-fA-F]{4}|\\[^u])*', re.DOTALL)
ANSWER_START = re.compile(ANSWER_KEY.pattern + r'\s*"')


def constrained_request(request: ChatRequest) -> ChatRequest:
    """Rewrite a request for a model without tools: they go into the system prompt, calls and results become text.

    A tool that has returned is not offered again in the same turn, as such a small model would call it forever. A
    request without tools may still have calls in its history.
    """
    if not request.tools:
        return replace(request, messages=merge_same_role(_plain_messages(request.messages, _as_sentence)))
    functions = [tool["function"] for tool in request.tools]
    first = functions[0]
    example = {"tool": first["name"], "arguments": dict.fromkeys(first["parameters"].get("properties", {}), "...")}
    instructions = (  # the best of nine wordings tried on the embedded model: 15 of 19 choices were right
        "You can call tools. Tools:\n"
        + "\n".join(map(_describe, functions))
        + f'\nReply in JSON: to call a tool {json.dumps(example)}, or to answer {{"answer": "..."}}.'
    )
    returned = _called_tools(request.messages)
    offered = [function for function in functions if function["name"] not in returned and request.may_call]
    messages = [dict(message) for message in request.messages]
    if messages and messages[0]["role"] == "system":
        messages[0]["content"] = f"{messages[0]['content']}\n\n{instructions}"
    else:
        messages.insert(0, {"role": "system", "content": instructions})
    answer = {"type": "string"} if request.schema is None else {"$ref": "#/$defs/answer"}
    schema: dict[str, Any] = {"anyOf": [_object_schema({"answer": answer}), *map(_call_schema, offered)]}
    if request.schema is not None:
        schema["$defs"] = {"answer": _rebase_references(request.schema)}
    options = {**request.options, "response_format": response_format(schema, "reply")}
    return replace(
        request, messages=merge_same_role(_plain_messages(messages, _as_json)), tools=(), options=options, schema=None
    )


def response_format(schema: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return a schema in the form of the OpenAI chat API."""
    return {"type": "json_schema", "json_schema": {"name": name, "strict": True, "schema": dict(schema)}}


def read_constrained_reply(reply: Reply, *, as_json: bool = False) -> Reply:
    """Parse the JSON that a constrained model wrote: an answer or a call. Incomplete JSON stays text.

    `as_json` keeps the answer as JSON.
    """
    try:
        value = parse_json(reply.text)
    except ValueError:
        if reply.is_cut and not ANSWER_KEY.match(reply.text):
            cut = RequestedCall(name="", problem="the call was cut off; send it again, shorter")
            return replace(reply, text="", calls=(cut,))
        return replace(reply, text=replace_lone_surrogates(partial_answer(reply.text)) or reply.text)
    if isinstance(value, dict) and isinstance(value.get("tool"), str):
        read = read_arguments(json.dumps(value.get("arguments")))
        call = RequestedCall(
            name=replace_lone_surrogates(value["tool"]), arguments=read.arguments, problem=read.problem
        )
        return replace(reply, text="", calls=(call,))
    if not isinstance(value, dict) or "answer" not in value:
        return reply
    answer = json.dumps(value["answer"], ensure_ascii=False) if as_json else str(value["answer"])
    return replace(reply, text=replace_lone_surrogates(answer))


class AnswerStream:
    """Turns deltas of the JSON into deltas of the answer inside it, as they come."""

    def __init__(self) -> None:
        self._rest = ""  #: not decoded yet
        self._inside = False
        self._closed = False

    def feed(self, delta: Delta) -> Delta:
        """Return what a piece of JSON adds to the answer; nothing if it is part of a tool call."""
        self._rest += delta.text
        if not self._inside and (started := ANSWER_START.match(self._rest)):
            self._inside, self._rest = True, self._rest[started.end() :]
        if not self._inside or self._closed:
            return Delta(reasoning=delta.reasoning)
        text, self._rest, self._closed = _decode(self._rest)
        return Delta(text=replace_lone_surrogates(text), reasoning=delta.reasoning)


def partial_answer(text: str) -> str:
    """Return the text of an incomplete `{"answer": "…`, without an incomplete escape; "" for anything else."""
    started = ANSWER_START.match(text)
    return _decode(text[started.end() :])[0] if started else ""


def _decode(inside: str) -> tuple[str, str, bool]:
    """Decode the inside of a JSON string; return the text, the undecoded rest, and whether the string has ended."""
    complete = COMPLETE_ESCAPES.match(inside)
    end = complete.end() if complete else 0
    if re.search(r"\\u[dD][89abAB][0-9a-fA-F]{2}$", inside[:end]):  # the first half of a surrogate pair
        end -= 6
    try:
        text: str = json.loads(f'"{inside[:end]}"', strict=False)
    except ValueError:  # an invalid escape
        text = inside[:end]
    return text, inside[end:], inside[end : end + 1] == '"'


def _called_tools(messages: Sequence[Mapping[str, Any]]) -> set[str]:
    """Return the tools called since the last user message; what they have shown is none."""
    last_user = 0
    for place, message in enumerate(messages):
        if message["role"] == "user" and messages[place - 1].get("content") != BEFORE_FIGURES:
            last_user = place
    calls = [call for message in messages[last_user:] for call in message.get("tool_calls") or ()]
    return {call["function"]["name"] for call in calls}


def _describe(function: Mapping[str, Any]) -> str:
    parameters = ", ".join(function["parameters"].get("properties", {}))
    return f"- {function['name']}({parameters}): {function['description'].splitlines()[0]}"


def _rebase_references(schema: Any) -> Any:
    """Rewrite a schema's references for its place inside the reply's schema."""
    if isinstance(schema, Mapping):
        moved = {name: _rebase_references(each) for name, each in schema.items()}
        reference = schema.get("$ref")
        return moved | ({"$ref": f"#/$defs/answer{reference[1:]}"} if isinstance(reference, str) else {})
    return [_rebase_references(each) for each in schema] if isinstance(schema, list) else schema


def _call_schema(function: Mapping[str, Any]) -> dict[str, Any]:
    return _object_schema({"tool": {"const": function["name"]}, "arguments": function["parameters"]})


def _object_schema(properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


def _as_json(value: Mapping[str, Any]) -> str:
    return json.dumps(value, ensure_ascii=False)


def _as_sentence(value: Mapping[str, Any]) -> str:
    return str(value["answer"]) if "answer" in value else f"I call {value['tool']} with {_as_json(value['arguments'])}."


def _plain_messages(
    messages: Sequence[Mapping[str, Any]], format_value: Callable[[Mapping[str, Any]], str]
) -> list[dict[str, Any]]:
    names: dict[str, str] = {}
    result = []
    for message in messages:
        if message["role"] == "tool":
            name = names[message["tool_call_id"]]
            result.append({"role": "user", "content": f"{name} returned:\n{message['content']}"})
        elif message.get("tool_calls"):
            function = message["tool_calls"][0]["function"]
            names[message["tool_calls"][0]["id"]] = function["name"]
            value = {"tool": function["name"], "arguments": json.loads(function["arguments"])}
            result.append({"role": "assistant", "content": format_value(value)})
        elif message["role"] == "assistant":
            result.append({**message, "content": format_value({"answer": message["content"]})})
        else:
            result.append(dict(message))
    return result
