"""Tool calls for models whose chat template has no tools: the reply is held to a JSON Schema, an answer or one call.

Pure. The server turns the schema into a grammar, so that even a tiny model can only write one of the two forms.
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from piano_jupyter.runner.model.message_roles import merged
from piano_jupyter.runner.model.protocol import ChatRequest, Delta, Reply, RequestedCall
from piano_jupyter.runner.model.stream.lenient_json import read_arguments
from piano_jupyter.runner.model.stream.tool_calls import whole_characters

OPENING = re.compile(r'\s*\{\s*"answer"\s*:')
WHOLE = re.compile(r'(?:[^"\\]|\\u[0-9a-fA-F]{4}|\\[^u])*', re.DOTALL)
BEGUN = re.compile(OPENING.pattern + r'\s*"')


def constrained(request: ChatRequest) -> ChatRequest:
    """Return the same question for a model without tools: told in the system prompt, calls and results as text.

    A tool that has returned is not offered again in the same turn: a model that needs this calls it for ever. Without
    tools it is a plain question, whose history may hold calls all the same.
    """
    if not request.tools:
        return replace(request, messages=merged(_plain(request.messages, _in_words)))
    functions = [tool["function"] for tool in request.tools]
    first = functions[0]
    example = {"tool": first["name"], "arguments": dict.fromkeys(first["parameters"].get("properties", {}), "...")}
    told = (  # of nine wordings tried on the embedded model, the one that chose rightly most often (15 of 19)
        "You can call tools. Tools:\n"
        + "\n".join(map(_described, functions))
        + f'\nReply in JSON: to call a tool {json.dumps(example)}, or to answer {{"answer": "..."}}.'
    )
    returned = _returned(request.messages)
    offered = [function for function in functions if function["name"] not in returned and request.may_call]
    messages = [dict(message) for message in request.messages]
    if messages and messages[0]["role"] == "system":
        messages[0]["content"] = f"{messages[0]['content']}\n\n{told}"
    else:
        messages.insert(0, {"role": "system", "content": told})
    answer = {"type": "string"} if request.schema is None else {"$ref": "#/$defs/answer"}
    schema: dict[str, Any] = {"anyOf": [_object({"answer": answer}), *map(_call, offered)]}
    if request.schema is not None:
        schema["$defs"] = {"answer": _moved(request.schema)}
    options = {**request.options, "response_format": response_format(schema, "reply")}
    return replace(request, messages=merged(_plain(messages, _in_json)), tools=(), options=options, schema=None)


def response_format(schema: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return a schema as the OpenAI chat API has it in a request."""
    return {"type": "json_schema", "json_schema": {"name": name, "strict": True, "schema": dict(schema)}}


def unconstrained(reply: Reply, *, as_json: bool = False) -> Reply:
    """Read the JSON that a held model wrote: an answer or a call. What is not whole JSON stays text.

    `as_json` leaves an answer as the JSON that it is.
    """
    try:
        said = json.loads(reply.text)
    except (ValueError, RecursionError):
        if reply.finish_reason == "length" and not OPENING.match(reply.text):
            cut = RequestedCall(name="", problem="the call was cut off; send it again, shorter")
            return replace(reply, text="", calls=(cut,))
        return replace(reply, text=whole_characters(answer_so_far(reply.text)) or reply.text)
    if isinstance(said, dict) and isinstance(said.get("tool"), str):
        read = read_arguments(json.dumps(said.get("arguments")))
        call = RequestedCall(name=whole_characters(said["tool"]), arguments=read.arguments, problem=read.problem)
        return replace(reply, text="", calls=(call,))
    if not isinstance(said, dict) or "answer" not in said:
        return reply
    answer = json.dumps(said["answer"], ensure_ascii=False) if as_json else str(said["answer"])
    return replace(reply, text=whole_characters(answer))


class AnswerStream:
    """Turns the deltas of the JSON into deltas of the answer inside it, as they come."""

    def __init__(self) -> None:
        self._rest = ""  #: what is not decoded yet
        self._inside = False
        self._closed = False

    def feed(self, delta: Delta) -> Delta:
        """Return what a piece of JSON adds to the answer; nothing while a tool call is being written."""
        self._rest += delta.text
        if not self._inside and (begun := BEGUN.match(self._rest)):
            self._inside, self._rest = True, self._rest[begun.end() :]
        if not self._inside or self._closed:
            return Delta(reasoning=delta.reasoning)
        text, self._rest, self._closed = _decoded(self._rest)
        return Delta(text=whole_characters(text), reasoning=delta.reasoning)


def answer_so_far(written: str) -> str:
    """Return the text of an unfinished `{"answer": "…`, without a cut escape at its end; empty for anything else."""
    begun = BEGUN.match(written)
    return _decoded(written[begun.end() :])[0] if begun else ""


def _decoded(inside: str) -> tuple[str, str, bool]:
    """Decode the inside of a JSON string: what is whole of it, what is left, and whether its end was reached."""
    whole = WHOLE.match(inside)
    end = whole.end() if whole else 0
    if re.search(r"\\u[dD][89abAB][0-9a-fA-F]{2}$", inside[:end]):  # half of a pair: its other half is to come
        end -= 6
    try:
        text: str = json.loads(f'"{inside[:end]}"', strict=False)
    except ValueError:  # an escape that JSON does not know
        text = inside[:end]
    return text, inside[end:], inside[end : end + 1] == '"'


def _returned(messages: Sequence[Mapping[str, Any]]) -> set[str]:
    """Return the tools that were called since the user spoke last."""
    said_last = max((place for place, message in enumerate(messages) if message["role"] == "user"), default=0)
    calls = [call for message in messages[said_last:] for call in message.get("tool_calls") or ()]
    return {call["function"]["name"] for call in calls}


def _described(function: Mapping[str, Any]) -> str:
    parameters = ", ".join(function["parameters"].get("properties", {}))
    return f"- {function['name']}({parameters}): {function['description'].splitlines()[0]}"


def _moved(schema: Any) -> Any:
    """Return a schema whose references hold where it stands in the reply's."""
    if isinstance(schema, Mapping):
        moved = {name: _moved(each) for name, each in schema.items()}
        reference = schema.get("$ref")
        return moved | ({"$ref": f"#/$defs/answer{reference[1:]}"} if isinstance(reference, str) else {})
    return [_moved(each) for each in schema] if isinstance(schema, list) else schema


def _call(function: Mapping[str, Any]) -> dict[str, Any]:
    return _object({"tool": {"const": function["name"]}, "arguments": function["parameters"]})


def _object(properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


def _in_json(said: Mapping[str, Any]) -> str:
    return json.dumps(said, ensure_ascii=False)


def _in_words(said: Mapping[str, Any]) -> str:
    return str(said["answer"]) if "answer" in said else f"I call {said['tool']} with {_in_json(said['arguments'])}."


def _plain(messages: Sequence[Mapping[str, Any]], written: Callable[[Mapping[str, Any]], str]) -> list[dict[str, Any]]:
    names: dict[str, str] = {}
    plain = []
    for message in messages:
        if message["role"] == "tool":
            name = names[message["tool_call_id"]]
            plain.append({"role": "user", "content": f"{name} returned:\n{message['content']}"})
        elif message.get("tool_calls"):
            function = message["tool_calls"][0]["function"]
            names[message["tool_calls"][0]["id"]] = function["name"]
            called = {"tool": function["name"], "arguments": json.loads(function["arguments"])}
            plain.append({"role": "assistant", "content": written(called)})
        elif message["role"] == "assistant":
            plain.append({**message, "content": written({"answer": message["content"]})})
        else:
            plain.append(dict(message))
    return plain
