"""PageRequest: what a page asks of the panel."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from piano_jupyter.errors import PianoError


@dataclass(frozen=True)
class PageRequest:
    """One request of a page: the name of an action and what it is about. Its content is not to be trusted."""

    page: str
    action: str
    content: Mapping[str, Any]

    def text(self, name: str = "about") -> str:
        """Return a text; "" if there is none."""
        value = self.content.get(name)
        return "" if value is None else str(value)

    def texts(self, name: str) -> list[str]:
        """Return a list of texts; an empty one if there is none."""
        value = self.content.get(name)
        return [str(each) for each in value] if isinstance(value, list) else []

    def id(self, name: str = "about") -> UUID:
        """Return an id. Raises PianoError if it is none."""
        return parse_id(self.content.get(name, ""))


def parse_id(text: object) -> UUID:
    """Return the id that a text says. Raises PianoError."""
    try:
        return UUID(str(text))
    except ValueError:
        raise PianoError(f"the panel sent {str(text)!r}, which is not an id; reload the page") from None
