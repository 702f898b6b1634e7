"""Parses the JSON of a call's arguments, and repairs it if it is complete but not valid JSON. Never completes it.

Pure, and linear in the length. Arguments that were cut off are rejected: wrong quotes and commas are repaired, but a
missing end is not, so that the start of a call is never run as the call.
"""

import json
import re
from typing import Any, NamedTuple

from piano_jupyter.text.json_text import LENIENT, STRICT, is_deeper

CUT_OFF = "the call was cut off before its end; send it again, shorter"
TWO_VALUES = "its arguments are two JSON values, one after the other; make one call for each"
TOO_DEEP = "its arguments are nested too deeply"

MAX_REPAIRED_CHARS = 20_000  #: longer texts are only parsed, not repaired
MAX_DEPTH = 100
NON_JSON_TOKEN = re.compile(
    r'"[^"\\]*+(?:\\.[^"\\]*+)*(?:"|\\?\Z)'
    r"|'[^'\\]*+(?:\\.[^'\\]*+)*(?:'|\\?\Z)"
    r"|\b(?:True|False|None)\b"
    r"|,(?=\s*+[}\]])",
    re.DOTALL,
)
#: what models write behind a call, where their server does not remove it
LEFT_OVER = re.compile(r"(?:\s|</?tool_call>|<\|[\w/]{1,40}\|>|<tool_call\|>|</s>|```)+")
REPLACEMENTS = {"True": "true", "False": "false", "None": "null", ",": ""}
ESCAPE_OR_QUOTE = re.compile(r'\\(.)|"', re.DOTALL)


class ParsedArguments(NamedTuple):
    """Parsed arguments, or the problem with them."""

    arguments: dict[str, Any]
    problem: str | None = None
    repaired: bool = False  #: it was complete, but not valid JSON


def read_arguments(text: str, *, cut_off: bool = False) -> ParsedArguments:
    """Parse a call's arguments. `cut_off`: the answer is incomplete, so nothing is repaired."""
    text = text.strip()
    if text in {"", "null", "{}"}:  # some servers send {} before the arguments
        return ParsedArguments({}, CUT_OFF if cut_off else None)
    try:
        return _checked(STRICT.decode(text), text)
    except json.JSONDecodeError as error:
        if error.msg == "Extra data" and LEFT_OVER.fullmatch(text, error.pos):
            text = text[: error.pos]
        if not cut_off and (repaired := _repaired(text)) is not None:
            return repaired
        return ParsedArguments({}, CUT_OFF if cut_off else _problem(error, text))
    except RecursionError:
        return ParsedArguments({}, TOO_DEEP)
    except ValueError as error:  # NaN or Infinity
        return ParsedArguments({}, f"its arguments are not JSON ({error})")


def is_complete(text: str) -> bool:
    """Return whether the whole text is valid JSON."""
    try:
        STRICT.decode(text.strip())
    except (ValueError, RecursionError):
        return False
    return True


def read_object(text: str, at: int) -> tuple[dict[str, Any] | None, int]:
    """Parse the JSON object that starts at an index; return it (None if there is none) and where it ends."""
    try:
        value, end = LENIENT.raw_decode(text, at)
        read = _checked(value, text[at:end])
    except (ValueError, RecursionError):
        return None, at
    return (None if read.problem else read.arguments), end


def _repaired(text: str) -> ParsedArguments | None:
    """Repair and parse a text that is complete but not valid JSON; None if it cannot be repaired."""
    if text.startswith("```") and text.endswith("```"):
        text = text[3:-3].lstrip("abcdefghijklmnopqrstuvwxyz").strip()
    for form in (str, _strict_quotes):
        try:
            return _checked(LENIENT.decode(form(text)), text, repaired=True)
        except (ValueError, RecursionError):
            continue
    return None


def _strict_quotes(text: str) -> str:
    if len(text) > MAX_REPAIRED_CHARS:
        raise ValueError
    return NON_JSON_TOKEN.sub(_strict, text)


def _strict(token: re.Match[str]) -> str:
    found = token[0]
    if found[0] == "'" and found[-1] == "'" and len(found) > 1:
        return f'"{ESCAPE_OR_QUOTE.sub(_strict_inside, found[1:-1])}"'
    return REPLACEMENTS.get(found, found)


def _strict_inside(found: re.Match[str]) -> str:
    return "'" if found[1] == "'" else '\\"' if found[0] == '"' else found[0]


def _checked(value: Any, text: str, *, repaired: bool = False) -> ParsedArguments:
    if isinstance(value, str) and value.lstrip().startswith("{"):  # JSON within JSON
        value, repaired = STRICT.decode(value.strip()), True
    if not isinstance(value, dict):
        return ParsedArguments({}, "its arguments must be a JSON object")
    if text.count("{") + text.count("[") > MAX_DEPTH and is_deeper(value, MAX_DEPTH):
        return ParsedArguments({}, TOO_DEEP)
    if "\\ud" in text.lower():  # a lone surrogate can be neither stored nor sent
        value = json.loads(json.dumps(value, ensure_ascii=False).encode("utf-8", "replace"))
    return ParsedArguments(value, None, repaired)


def _problem(error: json.JSONDecodeError, text: str) -> str:
    if error.msg == "Extra data":
        return (
            TWO_VALUES if text[error.pos] in "{[" else "its arguments are followed by something else; send JSON alone"
        )
    if error.pos >= len(text) or error.msg.startswith("Unterminated string"):
        return CUT_OFF
    return f"its arguments are not JSON ({error.msg} at character {error.pos + 1}); send one JSON object"
