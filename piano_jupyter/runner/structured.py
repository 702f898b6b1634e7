"""Structured: a ChatModel whose answers fit a JSON Schema; one that does not is told so, and asked again.

The schema stands in the prompt, and goes along for the server to hold the model to it. Tools come first: while they may
be called no server is asked to hold anything, since one that does leaves the model no call.
"""

import json
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import Any

from piano_jupyter.errors import ModelError, ModelRefusedError
from piano_jupyter.runner.arguments import MisfitError, fitted, short_json
from piano_jupyter.runner.chat import ChatModel, ChatRequest, Delta, Loading, Reply
from piano_jupyter.runner.forms import parsed, unfenced
from piano_jupyter.runner.prompt import merged

TRIES = 3
QUOTED = 2_000  # characters of an answer that does not fit: one that never ended would leave no room for the next
ANSWER = "Your answer must be JSON alone, without other words, that fits this JSON Schema:\n"
NOW = "Now give your answer as that JSON alone."


class Structured:
    """Asks a model for answers that fit a schema."""

    def __init__(self, model: ChatModel, schema: Mapping[str, Any]) -> None:
        self._model, self._schema = model, schema

    async def stream(self, request: ChatRequest) -> AsyncGenerator[Delta | Loading | Reply, None]:
        """Yield what the model's tries say, last a reply that calls tools or fits. Raises ModelError."""
        asked = replace(request, schema=self._schema, messages=_told(request.messages, self._schema))
        usage: dict[str, Any] = {}
        tries = 0
        while True:
            reply = Reply()
            try:
                async with aclosing(self._model.stream(asked)) as pieces:
                    async for piece in pieces:
                        if isinstance(piece, Reply):
                            reply = piece
                        else:
                            yield piece
            except ModelRefusedError:
                if asked.schema is None or asked.may_call:
                    raise
                asked = replace(asked, schema=None, tools=())  # a server that holds no model to a schema
                continue
            usage = _summed(usage, reply.usage)
            problem = None if reply.calls else self._problem(reply)
            if problem is None:
                text = reply.text if reply.calls else unfenced(reply.text)
                yield replace(reply, text=text, usage=usage)
                return
            if asked.may_call:
                asked, told, say = replace(asked, answer_now=True), NOW, "\n\n"
            else:
                tries += 1
                told = f"That does not fit: {problem}. Give the JSON again, alone and whole."
                say = f"\n\n({problem}; asked again)\n\n"
            if tries == TRIES:
                raise ModelError(
                    f"the answer does not fit what was asked for, {TRIES} times: {problem}. It was "
                    f"{short_json(reply.text)}; ask for something simpler, or ask a larger model"
                )
            again = [{"role": "assistant", "content": reply.text[:QUOTED]}, {"role": "user", "content": told}]
            asked = replace(asked, messages=merged([*map(dict, asked.messages), *again]))
            yield Delta(text=say)

    def _problem(self, reply: Reply) -> str | None:
        try:
            fitted(self._schema, parsed(reply.text))
        except MisfitError as error:
            return f"it was cut off, so {error}" if reply.finish_reason == "length" else str(error)
        return None


def _told(messages: Sequence[Mapping[str, Any]], schema: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the messages with the schema told behind the question, where it leaves what is cached before it as is."""
    told = [dict(message) for message in messages]
    question = next(message for message in reversed(told) if message["role"] == "user")
    question["content"] += f"\n\n{ANSWER}{json.dumps(schema, ensure_ascii=False)}"
    return told


def _summed(before: Mapping[str, Any], usage: Mapping[str, Any]) -> dict[str, Any]:
    """Return what several requests cost: tokens and seconds of loading added up, all else as it was last."""
    added = {
        name: before[name] + usage[name] for name in before if name in usage and name.endswith(("_tokens", "load_s"))
    }
    return {**usage, **added}
