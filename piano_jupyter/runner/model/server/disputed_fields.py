"""Parts of a request that some servers reject, and some demand: what their errors tell of it. Pure."""

import re
from collections.abc import Mapping
from typing import Any

from piano_jupyter.runner.model.message_roles import joined

REASONING = "reasoning_content"
SIGNATURE = "thought_signature"
OPTIONAL_FIELDS = ("stream_options", REASONING, "tool_choice")
#: how servers say that what a model thought belongs to what it said
DEMANDED = re.compile(r"must be passed back|\bmissing\b", re.IGNORECASE)
#: how chat templates say that they have no system prompt
NO_SYSTEM = re.compile(r"system (?:role|messages?|prompts?) (?:is |are )?not supported", re.IGNORECASE)
#: the limit of an answer's length, as it was called first, and as newer models want it
LIMIT, NEWER_LIMIT = "max_tokens", "max_completion_tokens"
WANTS_NEWER_LIMIT = re.compile(rf"\buse [`'\"]?{NEWER_LIMIT}\b", re.IGNORECASE)
NOT_KEPT = " "  #: for thoughts that are not sent any more; an empty text does not satisfy every server
#: what Google takes for a call whose signature was not kept, or that another model made
UNSIGNED = {"google": {SIGNATURE: "skip_thought_signature_validator"}}


class DisputedFields:
    """Remembers what each model of each server rejects, and what it demands."""

    def __init__(self) -> None:
        self._rejected: set[tuple[str, str, str]] = set()
        self._want_reasoning: set[tuple[str, str]] = set()
        self._want_signatures: set[tuple[str, str]] = set()
        self._want_newer_limit: set[tuple[str, str]] = set()
        self._without_system: set[tuple[str, str]] = set()

    def adapted(self, server: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Return a request's body without what is rejected, and with what is demanded."""
        key = server, body["model"]
        names = {name for name in OPTIONAL_FIELDS if (server, body["model"], name) in self._rejected}
        messages = [{name: each for name, each in message.items() if name not in names} for message in body["messages"]]
        if key in self._without_system:
            messages = _without_system(messages)
        if key in self._want_reasoning:
            messages = [
                message if message["role"] != "assistant" else {REASONING: NOT_KEPT, **message} for message in messages
            ]
        if key in self._want_signatures:
            messages = [_with_signatures(message) for message in messages]
        renamed = {LIMIT: NEWER_LIMIT} if key in self._want_newer_limit else {}
        adapted = {renamed.get(name, name): each for name, each in body.items() if name not in names}
        return adapted | {"messages": messages}

    def learn_from_rejection(self, server: str, body: Mapping[str, Any], status: int, text: str) -> bool:
        """Learn from a rejection; return whether the request can be adapted to it, and was not yet."""
        key = server, body["model"]
        if NO_SYSTEM.search(text):  # some servers have status 500 for what a template raises
            return _is_new(key, self._without_system)
        if status not in {400, 422}:
            return False
        if REASONING in text and DEMANDED.search(text):
            return _is_new(key, self._want_reasoning)
        if LIMIT in body and WANTS_NEWER_LIMIT.search(text):
            return _is_new(key, self._want_newer_limit)
        if SIGNATURE in text and DEMANDED.search(text):
            return _is_new(key, self._want_signatures)
        sent = set(body).union(*body["messages"])
        new = {(server, body["model"], name) for name in OPTIONAL_FIELDS if name in text and name in sent}
        new -= self._rejected
        self._rejected |= new
        return bool(new)


def _is_new(key: tuple[str, str], known: set[tuple[str, str]]) -> bool:
    """Add a model to those that are known; return whether it was not among them."""
    before = len(known)
    known.add(key)
    return len(known) > before


def _with_signatures(message: dict[str, Any]) -> dict[str, Any]:
    """Return a message whose tool calls have what stands for the signature of a thought."""
    if "tool_calls" not in message:
        return message
    return {**message, "tool_calls": [{**call, "extra_content": UNSIGNED} for call in message["tool_calls"]]}


def _without_system(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return messages with the system prompt in the first one of the user."""
    if messages[0]["role"] != "system":
        return messages
    system, *others = messages
    if others and others[0]["role"] == "user":
        return [{**others[0], "content": joined(system["content"], others[0]["content"])}, *others[1:]]
    return [{**system, "role": "user"}, *others]
