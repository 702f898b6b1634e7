"""Fields of a request that some servers reject, and some demand: what their errors tell of it. Pure."""

import re
from collections.abc import Mapping
from typing import Any

REASONING = "reasoning_content"
OPTIONAL_FIELDS = ("stream_options", REASONING, "tool_choice")
#: how servers say that what a model thought belongs to what it said
DEMANDED = re.compile(r"must be passed back|\bmissing\b", re.IGNORECASE)
NOT_KEPT = " "  #: for thoughts that are not sent any more; an empty text does not satisfy every server


class DisputedFields:
    """Remembers which optional fields each model of each server rejects, and which it demands."""

    def __init__(self) -> None:
        self._rejected: set[tuple[str, str, str]] = set()
        self._want_reasoning: set[tuple[str, str]] = set()

    def adapted(self, server: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Return a request's body without the fields that are rejected, and with those that are demanded."""
        names = {name for name in OPTIONAL_FIELDS if (server, body["model"], name) in self._rejected}
        messages = [{name: each for name, each in message.items() if name not in names} for message in body["messages"]]
        if (server, body["model"]) in self._want_reasoning:
            messages = [
                message if message["role"] != "assistant" else {REASONING: NOT_KEPT, **message} for message in messages
            ]
        return {name: each for name, each in body.items() if name not in names} | {"messages": messages}

    def learn_from_rejection(self, server: str, body: Mapping[str, Any], status: int, text: str) -> bool:
        """Learn from a rejection; return whether it is about an optional field, and the request was not adapted yet."""
        if status not in {400, 422}:
            return False
        if REASONING in text and DEMANDED.search(text):
            is_new = (server, body["model"]) not in self._want_reasoning
            self._want_reasoning.add((server, body["model"]))
            return is_new
        sent = set(body).union(*body["messages"])
        new = {(server, body["model"], name) for name in OPTIONAL_FIELDS if name in text and name in sent}
        new -= self._rejected
        self._rejected |= new
        return bool(new)
