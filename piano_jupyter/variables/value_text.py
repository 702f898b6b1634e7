"""The text of a value that is inserted into a question, and the short label that people see in its place."""

import sys
from typing import Any

from piano_jupyter.errors import PianoError
from piano_jupyter.records import Inserted
from piano_jupyter.variables.bounded_text import bounded_text
from piano_jupyter.variables.data_frames import kind_among
from piano_jupyter.variables.frame_parts import PARTS, frame_parts
from piano_jupyter.variables.frame_text import CHARS_PER_TOKEN, frame_text
from piano_jupyter.variables.variable_access import shows_environment

DEFAULT_FRAME_CHARS = 1_500 * CHARS_PER_TOKEN
MAX_VALUE_CHARS = 50_000
MAX_SHOWN_CHARS = 60  #: a value of one line that is no longer than this is its own label
PUT_A_PART = "put a part of it into a variable and use that"


def inserted_value(expression: str, value: Any, frame_chars: int) -> Inserted:
    """Return a value as it is inserted. Raises PianoError for one that is too long, or shows the environment."""
    kind = kind_among(value, PARTS)
    if kind and not _is_short_array(value, kind) and (parts := frame_parts(value)):
        return Inserted(f"{expression} · {parts.size}", _checked(frame_text(kind, parts, frame_chars)))
    text = _checked(bounded_text(list(value) if _is_pandas_index(value) else value, MAX_VALUE_CHARS))
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


def _is_short_array(value: Any, kind: str) -> bool:
    """Return whether NumPy writes all elements of an array, not only the first and last of them."""
    return kind == "numpy.ndarray" and bool(value.size <= sys.modules["numpy"].get_printoptions()["threshold"])


def _is_pandas_index(value: Any) -> bool:
    """Return whether a value is an index, such as the columns of a frame, of which pandas writes only the ends."""
    return bool(kind_among(value, {"pandas.Index"}))
