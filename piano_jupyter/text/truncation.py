"""Shortening of long texts, the same everywhere. Pure; no input makes it fail."""

import json
import unicodedata
from typing import Any

HOW_MUCH = "\n… and {left:,} more characters"
JOINER = "\u200d"  #: joins two emoji into one
SKIN_TONES = range(0x1F3FB, 0x1F400)  #: modify the emoji before them
MAX_COMBINING_MARKS = 30  #: no script puts more on one letter


def truncated(text: str, max_chars: int, more: str = "…") -> str:
    """Return a text of at most `max_chars` characters.

    `more` is appended to a text that is cut and counts towards the limit; `{left:,}` in it becomes the number of
    characters left out. A letter and its accents, which one sees as one character, are not separated.
    """
    if len(text) <= max_chars:
        return text
    room = max_chars - len(more.format(left=len(text)))
    kept = text[: _boundary(text, max(room, 0))].rstrip()
    return (kept + more.format(left=len(text) - len(kept)))[:max_chars]


def shortened(text: str, max_chars: int) -> str:
    """Return the start and the end of a text, of about `max_chars` characters, with what was left out between them."""
    if len(text) <= max_chars:
        return text
    half = max_chars // 2
    start, end = text[: _boundary(text, half)], text[_boundary(text, len(text) - half) :]
    return f"{start}\n[... {len(text) - len(start) - len(end):,} characters left out ...]\n{end}"


def short_json(value: Any) -> str:
    """Return a value as short JSON, to quote it in a message."""
    try:
        return truncated(json.dumps(value, ensure_ascii=False), 120)
    except (TypeError, ValueError, RecursionError):
        return type(value).__name__


def _boundary(text: str, end: int) -> int:
    """Return the last place up to `end` where the text can be cut."""
    places = range(end, max(end - MAX_COMBINING_MARKS, 0), -1)
    return next((at for at in places if not _is_one_character(text[at - 1], text[at])), end)


def _is_one_character(before: str, after: str) -> bool:
    """Return whether two neighbouring characters appear as one."""
    is_pair = "\ud800" <= before < "\udc00" <= after < "\ue000"
    is_mark = unicodedata.category(after).startswith("M")
    return is_pair or is_mark or JOINER in {before, after} or ord(after) in SKIN_TONES
