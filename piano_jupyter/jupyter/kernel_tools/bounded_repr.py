"""Values as text of limited length: their `repr` may raise, never end, or be huge."""

import io
from typing import Any

from IPython.lib.pretty import RepresentationPrinter

from piano_jupyter.variables.bounded_text import ENVIRONMENT_WITHHELD
from piano_jupyter.variables.variable_access import is_environment

MAX_LINE_CHARS = 100  # of one line
MAX_ITEMS = 50  # of a list, a dict or a set


class _LimitReachedError(Exception):
    """The text has reached its limit."""


class _BoundedRepr(io.StringIO):
    def __init__(self, limit: int) -> None:
        super().__init__()
        self._remaining = limit

    def write(self, text: str) -> int:
        super().write(text[: self._remaining])
        self._remaining -= len(text)
        if self._remaining < 0:
            raise _LimitReachedError
        return len(text)


class _BoundedPrinter(RepresentationPrinter):
    def pretty(self, obj: Any) -> None:
        """Print a value, and recursively its parts."""
        if is_environment(obj):
            self.text(ENVIRONMENT_WITHHELD)
        else:
            super().pretty(obj)


def bounded(value: Any, limit: int) -> str:
    """Return IPython's text of a value, cut at `limit`; a `repr` that raises is named. An interrupt is raised."""
    if type(value) in {str, bytes, bytearray} and len(value) > limit:
        kind = "characters" if isinstance(value, str) else "bytes"
        return f"{value[:limit]!r}… ({len(value):,} {kind})"
    text = _BoundedRepr(limit)
    try:
        printer = _BoundedPrinter(text, max_width=MAX_LINE_CHARS, max_seq_length=MAX_ITEMS)
        printer.pretty(value)
        printer.flush()
    except _LimitReachedError:
        return text.getvalue() + "…"
    except Exception as error:  # noqa: BLE001  The user's object may raise anything.
        return f"<a {type(value).__name__}, whose repr raised {type(error).__name__}>"
    return text.getvalue()
