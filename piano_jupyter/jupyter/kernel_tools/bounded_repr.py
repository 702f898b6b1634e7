"""Any value as a text of bounded length: its `repr` may raise, be endless, or be huge."""

import io
from typing import Any

from IPython.lib.pretty import RepresentationPrinter

from piano_jupyter.jupyter.variable_access import is_environment

MAX_LINE_CHARS = 100  # characters of a line
MAX_ITEMS = 50  # of a list, a dict or a set
ENVIRONMENT_WITHHELD = "<the environment, which is not read>"


class _LimitReachedError(Exception):
    """There is no more room."""


class _BoundedRepr(io.StringIO):
    def __init__(self, room: int) -> None:
        super().__init__()
        self._room = room

    def write(self, text: str) -> int:
        super().write(text[: self._room])
        self._room -= len(text)
        if self._room < 0:
            raise _LimitReachedError
        return len(text)


class _BoundedPrinter(RepresentationPrinter):
    def pretty(self, obj: Any) -> None:
        """Show a value, and each part of it in turn."""
        if is_environment(obj):
            self.text(ENVIRONMENT_WITHHELD)
        else:
            super().pretty(obj)


def bounded(value: Any, limit: int) -> str:
    """Return how IPython shows a value, its beginning at least. What its `repr` raises is told; an interrupt is not."""
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
    except Exception as error:  # noqa: BLE001  It is the user's object: whatever it raises.
        return f"<a {type(value).__name__}, whose repr raised {type(error).__name__}>"
    return text.getvalue()
