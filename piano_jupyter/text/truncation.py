"""Texts that are cut because they are too long, in one way everywhere. Pure; any text gives some."""

import json
import unicodedata
from typing import Any

HOW_MUCH = "\n… and {left:,} more characters"
JOINER = "\u200d"  #: makes one picture of two
TONES = range(0x1F3FB, 0x1F400)  #: colour the picture before them
MOST_MARKS = 30  #: more than these on one letter are no writing


def truncated(text: str, longest: int, more: str = "…") -> str:
    """Return a text of at most `longest` characters.

    What is cut off is told by `more`, which counts among them; `{left:,}` in it is the number of characters that are
    left out. What one sees as one character (a letter and its accents) is not cut in two.
    """
    if len(text) <= longest:
        return text
    room = longest - len(more.format(left=len(text)))
    kept = text[: _boundary(text, max(room, 0))].rstrip()
    return (kept + more.format(left=len(text) - len(kept)))[:longest]


def short_json(value: Any) -> str:
    """Return a value as it is quoted in a sentence."""
    try:
        return truncated(json.dumps(value, ensure_ascii=False), 120)
    except (TypeError, ValueError, RecursionError):
        return type(value).__name__


def _boundary(text: str, end: int) -> int:
    """Return where to cut at the latest."""
    places = range(end, max(end - MOST_MARKS, 0), -1)
    return next((at for at in places if not _continues(text[at - 1], text[at])), end)


def _continues(before: str, after: str) -> bool:
    """Return whether two characters are seen as one."""
    is_pair = "\ud800" <= before < "\udc00" <= after < "\ue000"
    is_mark = unicodedata.category(after).startswith("M")
    return is_pair or is_mark or JOINER in {before, after} or ord(after) in TONES
