"""Answers that fit a JSON Schema: one that does not is told so, and asked for again.

The schema stands in the prompt, and goes along for the server to hold the model to it. Tools come first: while they may
be called no server is asked to hold anything, since one that does leaves the model no call.
"""

import json
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import Any

from piano_jupyter.errors import ModelError, ModelRefusedError
from piano_jupyter.runner.model.message_roles import merged
from piano_jupyter.runner.model.protocol import ChatModel, ChatRequest, LoadingNotice, Piece, Reply, StreamRestarted
from piano_jupyter.runner.schema.coercion import SchemaMismatchError, fitted
from piano_jupyter.runner.schema.response_format import parsed, unfenced
from piano_jupyter.runner.turn.context_window import size
from piano_jupyter.runner.turn.control_tokens import escaped
from piano_jupyter.text.truncation import short_json, truncated

TRIES = 3
QUOTED = 2_000  # characters of an answer that does not fit: one that never ended would leave no room for the next
ANSWER = "Your answer must be JSON alone, without other words, that fits this JSON Schema:\n"
NOW = "Now give your answer as that JSON alone."


def with_schema(messages: Sequence[Mapping[str, Any]], schema: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    """Return the messages of a prompt with the schema told behind the question, so that what is before it is cached."""
    told = [dict(message) for message in messages]
    if schema is not None:
        question = next(message for message in reversed(told) if message["role"] == "user")
        question["content"] += escaped(f"\n\n{ANSWER}{json.dumps(schema, ensure_ascii=False)}")
    return told


async def fitting_reply(model: ChatModel, request: ChatRequest) -> AsyncGenerator[Piece, None]:
    """Yield what the model's tries say, last a reply that calls tools or fits. Raises ModelError.

    After a `Reply` that does not fit comes an `StreamRestarted`. A request without a schema is asked as it is.
    """
    asked, misfits = request, 0
    while True:
        reply = Reply()
        try:
            async with aclosing(model.stream(asked)) as pieces:
                async for piece in pieces:
                    if isinstance(piece, Reply) and request.schema is not None:
                        reply = _read(piece, asked)
                    else:
                        yield piece
        except ModelRefusedError:
            if asked.schema is None or asked.may_call:
                raise
            asked = replace(asked, schema=None, tools=())  # a server that holds no model to a schema
            continue
        if request.schema is None:
            return
        yield reply
        problem = None if reply.calls else _misfit(request.schema, reply)
        says_nothing = not reply.text.strip() and reply.finish_reason != "length"  # cut: blanks are JSON, too
        if problem is None or (says_nothing and not asked.may_call):
            return
        misfits += not asked.may_call
        if misfits == TRIES:
            raise ModelError(
                f"the answer does not fit what was asked for, {TRIES} times: {problem}. It was "
                f"{short_json(reply.text)}; ask for something simpler, or ask a larger model"
            )
        yield StreamRestarted()
        if asked.may_call:
            asked, told = replace(asked, answer_now=True), NOW
        else:
            told = f"That does not fit: {problem}. Give the JSON again, alone and whole."
            yield LoadingNotice(note=f"the answer does not fit ({problem}); asking again")
        again = [{"role": "assistant", "content": truncated(reply.text, QUOTED, "")}, {"role": "user", "content": told}]
        again = [{**message, "content": escaped(message["content"])} for message in again]
        asked = replace(asked, messages=merged([*map(dict, asked.messages), *again]))


def _read(reply: Reply, asked: ChatRequest) -> Reply:
    """Return a reply without a code fence around it, and with the size of what was asked."""
    text = reply.text if reply.calls else unfenced(reply.text)
    return replace(reply, text=text, usage={**reply.usage, "prompt_bytes": size(asked.messages, asked.tools)})


def _misfit(schema: Mapping[str, Any], reply: Reply) -> str | None:
    try:
        fitted(schema, parsed(reply.text))
    except SchemaMismatchError as error:
        return f"it was cut off, so {error}" if reply.finish_reason == "length" else str(error)
    return None
