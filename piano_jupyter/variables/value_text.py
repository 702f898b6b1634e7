"""The text of a value that is inserted into a question, and the short label that people see in its place."""

import inspect
import re
from types import FunctionType
from typing import Any

from piano_jupyter.errors import PianoError
from piano_jupyter.records import Inserted
from piano_jupyter.variables.bounded_text import array_text, bounded_text
from piano_jupyter.variables.data_frames import kind_among
from piano_jupyter.variables.frame_parts import PARTS, frame_parts
from piano_jupyter.variables.frame_text import CHARS_PER_TOKEN, frame_text
from piano_jupyter.variables.variable_access import shows_environment

DEFAULT_FRAME_CHARS = 1_500 * CHARS_PER_TOKEN
MAX_VALUE_CHARS = 50_000
MAX_SHOWN_CHARS = 60  #: a value of one line that is no longer than this is its own label
PUT_A_PART = "put a part of it into a variable and use that"
ONLY_AN_ADDRESS = re.compile(r"<[^\n]{1,500} at 0x[0-9a-fA-F]+>")  #: how Python writes what has no text of its own


def inserted_value(expression: str, value: Any, frame_chars: int) -> Inserted:
    """Return a value as it is inserted: of a function or a class its source.

    Raises PianoError for one that is too long, shows the environment, or has no text of its own.
    """
    text = source_text(value) if issubclass(type(value), FunctionType | type) else array_text(value)
    if text is None and (kind := kind_among(value, PARTS)) and (parts := frame_parts(value)):
        return Inserted(f"{expression} · {parts.size}", _checked(frame_text(kind, parts, frame_chars)))
    if text is None:
        text = bounded_text(list(value) if _is_pandas_index(value) else value, MAX_VALUE_CHARS)
    _checked(text)
    if ONLY_AN_ADDRESS.fullmatch(text):
        raise PianoError(f"it has no text but {text}, which says nothing to a model; {PUT_A_PART}")
    if len(text) > MAX_VALUE_CHARS:
        size = f"{len(value):,}" if isinstance(value, str) else f"more than {MAX_VALUE_CHARS:,}"
        raise PianoError(f"it is {size} characters long; {PUT_A_PART}")
    if len(text) <= MAX_SHOWN_CHARS and "\n" not in text:
        return Inserted(text, text)
    return Inserted(f"{expression} · {len(text):,} characters", text)


def _checked(text: str) -> str:
    if shows_environment(text):
        raise PianoError("it shows the environment of the process; put the part you want into a variable")
    return text


def source_text(value: Any) -> str:
    """Return the source of a function or class; where that is not known, its name with its parameters."""
    try:
        return inspect.getsource(value).rstrip()
    except (OSError, TypeError):
        kind = "class" if issubclass(type(value), type) else "def"
    try:
        return f"{kind} {value.__qualname__}{inspect.signature(value)}"
    except (TypeError, ValueError):
        return f"{kind} {value.__qualname__}"


def _is_pandas_index(value: Any) -> bool:
    """Return whether a value is an index, such as the columns of a frame, of which pandas writes only the ends."""
    return bool(kind_among(value, {"pandas.Index"}))
