"""What a server refuses of a request, and Piano can do without: it is left out from then on. Pure."""

from collections.abc import Mapping
from typing import Any

CAN_DO_WITHOUT = ("stream_options", "reasoning_content")


class UnsupportedOptions:
    """Remembers which model of which server does not take what."""

    def __init__(self) -> None:
        self._known: set[tuple[str, str, str]] = set()

    def without(self, server: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Return a request's body without what is not taken."""
        names = {name for name in CAN_DO_WITHOUT if (server, body["model"], name) in self._known}
        messages = [{name: each for name, each in told.items() if name not in names} for told in body["messages"]]
        return {name: each for name, each in body.items() if name not in names} | {"messages": messages}

    def learn(self, server: str, body: Mapping[str, Any], status: int, told: str) -> bool:
        """Take a refusal; return whether it is of something that can be left out and was not."""
        if status not in {400, 422}:
            return False
        sent = set(body).union(*body["messages"])
        new = {(server, body["model"], name) for name in CAN_DO_WITHOUT if name in told and name in sent} - self._known
        self._known |= new
        return bool(new)
