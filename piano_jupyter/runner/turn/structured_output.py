"""Answers that match a JSON Schema: after one that does not, the model is told why and asked again.

The schema is in the prompt, and is sent to the server to constrain the model. Tools come first: while they may be
called, the schema is not sent, because a constrained model could not call them.
"""

import json
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import Any

from piano_jupyter.errors import ContextOverflowError, ModelError, ModelRefusedError
from piano_jupyter.runner.model.message_roles import joined, merge_same_role
from piano_jupyter.runner.model.protocol import ChatModel, ChatRequest, LoadingNotice, Piece, Reply, StreamRestarted
from piano_jupyter.runner.schema.coercion import SchemaMismatchError, coerce
from piano_jupyter.runner.schema.response_format import parse_json, strip_code_fence
from piano_jupyter.runner.turn.context_window import prompt_size
from piano_jupyter.runner.turn.control_tokens import escape
from piano_jupyter.runner.turn.unreadable_replies import readable_reply
from piano_jupyter.text.truncation import short_json, truncated

MAX_TRIES = 3
MAX_QUOTED_CHARS = 2_000  #: of a rejected answer: an endless one would leave no tokens for the next
SCHEMA_PROMPT = "Your answer must be JSON that matches this JSON Schema, and nothing else:\n"
ANSWER_NOW_PROMPT = "Now give your answer as that JSON, and nothing else."


def with_schema(messages: Sequence[Mapping[str, Any]], schema: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    """Append the schema to the last user message, so that the prompt before it stays in the server's cache."""
    prompt = [dict(message) for message in messages]
    if schema is not None:
        question = next(message for message in reversed(prompt) if message["role"] == "user")
        demand = escape(f"{SCHEMA_PROMPT}{json.dumps(schema, ensure_ascii=False)}")
        question["content"] = joined(question["content"], demand)
    return prompt


async def reply_matching_schema(model: ChatModel, request: ChatRequest) -> AsyncGenerator[Piece, None]:
    """Yield the pieces of the model's attempts; the last reply calls tools or matches the schema. Raises ModelError.

    A `Reply` that does not match is followed by `StreamRestarted`. Without a schema, one reply is yielded, unchanged.
    """
    current, mismatch_count, problem = request, 0, None
    while True:
        reply = Reply()
        try:
            async with aclosing(readable_reply(model, current)) as pieces:
                async for piece in pieces:
                    if isinstance(piece, Reply) and request.schema is not None:
                        reply = _unfenced_reply(piece, current)
                    else:
                        yield piece
        except ContextOverflowError as error:
            if problem is None:
                raise
            raise ModelError(
                f"the answer did not match the schema ({problem}), and the model's context has no room to ask again; "
                f"ask for something simpler, or with less text before it"
            ) from error
        except ModelRefusedError:
            if current.schema is None or current.may_call:
                raise
            current = replace(current, schema=None, tools=())  # this server does not support schemas
            continue
        if request.schema is None:
            return
        yield reply
        problem = None if reply.calls else _mismatch(request.schema, reply)
        is_blank = not reply.text.strip() and not reply.is_cut  # a cut-off one may be JSON's whitespace
        if problem is None or (is_blank and not current.may_call):
            return
        mismatch_count += not current.may_call
        if mismatch_count == MAX_TRIES:
            raise ModelError(
                f"the answer did not match the schema {MAX_TRIES} times; the last one: {problem}. It was "
                f"{short_json(reply.text)}; ask for something simpler, or use a larger model"
            )
        yield StreamRestarted()
        if current.may_call:
            current, instruction = replace(current, answer_now=True), ANSWER_NOW_PROMPT
        else:
            instruction = f"That does not match the schema: {problem}. Give the complete JSON again, and nothing else."
            yield LoadingNotice(note=f"the answer does not match the schema ({problem}); asking again")
        exchange = [
            {"role": "assistant", "content": truncated(reply.text, MAX_QUOTED_CHARS, "")},
            {"role": "user", "content": instruction},
        ]
        exchange = [{**message, "content": escape(message["content"])} for message in exchange]
        current = replace(current, messages=merge_same_role([*map(dict, current.messages), *exchange]))


def _unfenced_reply(reply: Reply, current: ChatRequest) -> Reply:
    """Return a reply without a code fence around it, and with the size of its prompt."""
    text = reply.text if reply.calls else strip_code_fence(reply.text)
    return replace(
        reply, text=text, usage={**reply.usage, "prompt_bytes": prompt_size(current.messages, current.tools)}
    )


def _mismatch(schema: Mapping[str, Any], reply: Reply) -> str | None:
    try:
        coerce(schema, parse_json(reply.text))
    except SchemaMismatchError as error:
        return f"it was cut off, so {error}" if reply.is_cut else str(error)
    return None
