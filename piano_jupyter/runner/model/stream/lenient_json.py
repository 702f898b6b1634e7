"""The JSON of a call's arguments: read as it is, or put right where it is complete but sloppy. Never completed.

Pure, and linear in the length. What is cut stays cut: to be taken, a text must close what it opens, whatever its quotes
and commas look like, so that no beginning of a call is ever taken for the call.
"""

import json
import re
from typing import Any, NamedTuple

from piano_jupyter.text.json_text import LENIENT, STRICT, is_deeper

CUT = "the call was cut off before its end; send it again, shorter"
TWO = "its arguments are two JSON values, one behind the other; make a call for each"
DEEP = "its arguments are nested too deeply"

LONGEST = 20_000  #: characters that are put right; more are only read
DEEPEST = 100
TOKEN = re.compile(
    r'"(?:[^"\\]++|\\.)*+(?:"|\\?\Z)'
    r"|'(?:[^'\\]++|\\.)*+(?:'|\\?\Z)"
    r"|\b(?:True|False|None)\b"
    r"|,(?=\s*+[}\]])",
    re.DOTALL,
)
WORDS = {"True": "true", "False": "false", "None": "null", ",": ""}
IN_QUOTES = re.compile(r'\\(.)|"', re.DOTALL)


class ParsedArguments(NamedTuple):
    """What was read: the arguments, or why there are none."""

    arguments: dict[str, Any]
    problem: str | None = None
    repaired: bool = False  #: it was complete, but not quite JSON


def read_arguments(text: str, *, cut: bool = False) -> ParsedArguments:
    """Read a call's arguments. `cut`: the answer ended before its end, so nothing is put right."""
    text = text.strip()
    if not text or text == "null":
        return ParsedArguments({}, CUT if cut else None)
    try:
        return _checked(STRICT.decode(text), text)
    except json.JSONDecodeError as error:
        if not cut and (repaired := _repaired(text)) is not None:
            return repaired
        return ParsedArguments({}, CUT if cut else _problem(error, text))
    except RecursionError:
        return ParsedArguments({}, DEEP)
    except ValueError as error:  # a number that no JSON can hold
        return ParsedArguments({}, f"its arguments are not JSON ({error})")


def is_whole(text: str) -> bool:
    """Return whether the text is JSON, from its first character to its last."""
    try:
        STRICT.decode(text.strip())
    except (ValueError, RecursionError):
        return False
    return True


def read_object(text: str, at: int) -> tuple[dict[str, Any] | None, int]:
    """Read the JSON object that begins at a place; return it, None where there is none, and where it ends."""
    try:
        value, end = LENIENT.raw_decode(text, at)
        read = _checked(value, text[at:end])
    except (ValueError, RecursionError):
        return None, at
    return (None if read.problem else read.arguments), end


def _repaired(text: str) -> ParsedArguments | None:
    """Read what is complete, but sloppy; None where it is neither."""
    if text.startswith("```") and text.endswith("```"):
        text = text[3:-3].lstrip("abcdefghijklmnopqrstuvwxyz").strip()
    for form in (str, _strict_quotes):
        try:
            return _checked(LENIENT.decode(form(text)), text, repaired=True)
        except (ValueError, RecursionError):
            continue
    return None


def _strict_quotes(text: str) -> str:
    if len(text) > LONGEST:
        raise ValueError
    return TOKEN.sub(_strict, text)


def _strict(token: re.Match[str]) -> str:
    found = token[0]
    if found[0] == "'" and found[-1] == "'" and len(found) > 1:
        return f'"{IN_QUOTES.sub(_strict_inside, found[1:-1])}"'
    return WORDS.get(found, found)


def _strict_inside(found: re.Match[str]) -> str:
    return "'" if found[1] == "'" else '\\"' if found[0] == '"' else found[0]


def _checked(value: Any, text: str, *, repaired: bool = False) -> ParsedArguments:
    if isinstance(value, str) and value.lstrip().startswith("{"):  # JSON within JSON
        value, repaired = STRICT.decode(value.strip()), True
    if not isinstance(value, dict):
        return ParsedArguments({}, "its arguments must be a JSON object")
    if text.count("{") + text.count("[") > DEEPEST and is_deeper(value, DEEPEST):
        return ParsedArguments({}, DEEP)
    if "\\ud" in text.lower():  # half of a character can be neither kept nor sent
        value = json.loads(json.dumps(value, ensure_ascii=False).encode("utf-8", "replace"))
    return ParsedArguments(value, None, repaired)


def _problem(error: json.JSONDecodeError, text: str) -> str:
    if error.msg == "Extra data":
        return TWO if text[error.pos] in "{[" else "its arguments are followed by something else; send JSON alone"
    if error.pos >= len(text) or error.msg.startswith("Unterminated string"):
        return CUT
    return f"its arguments are not JSON ({error.msg} at character {error.pos + 1}); send one JSON object"
