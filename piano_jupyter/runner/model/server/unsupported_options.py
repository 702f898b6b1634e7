"""Optional request fields that a server rejects: they are left out from then on. Pure."""

from collections.abc import Mapping
from typing import Any

OPTIONAL_FIELDS = ("stream_options", "reasoning_content")


class UnsupportedOptions:
    """Remembers which optional fields each model of each server rejects."""

    def __init__(self) -> None:
        self._known: set[tuple[str, str, str]] = set()

    def without(self, server: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Return a request's body without the rejected fields."""
        names = {name for name in OPTIONAL_FIELDS if (server, body["model"], name) in self._known}
        messages = [{name: each for name, each in message.items() if name not in names} for message in body["messages"]]
        return {name: each for name, each in body.items() if name not in names} | {"messages": messages}

    def learn_from_rejection(self, server: str, body: Mapping[str, Any], status: int, text: str) -> bool:
        """Learn from a rejection; return whether it names an optional field that has not been left out yet."""
        if status not in {400, 422}:
            return False
        sent = set(body).union(*body["messages"])
        new = {(server, body["model"], name) for name in OPTIONAL_FIELDS if name in text and name in sent} - self._known
        self._known |= new
        return bool(new)
