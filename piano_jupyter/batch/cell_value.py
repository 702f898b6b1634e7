"""The value of a cell as JSON has it, the same for the same value in each kind of frame. Pure; imports no library.

Missing values (None, NaN, NaT, NA) are null. A whole number is written without a fraction: pandas makes 1.0 of the 1 in
a column in which a value is missing.
"""

import json
from collections.abc import Mapping
from datetime import date, datetime, time, timedelta
from math import isfinite
from typing import Any

from piano_jupyter.errors import PianoError
from piano_jupyter.text.truncation import truncated
from piano_jupyter.variables.value_text import DEFAULT_FRAME_CHARS, MAX_VALUE_CHARS, inserted_value
from piano_jupyter.variables.variable_access import is_environment

JSON_TYPES = frozenset({str, int, bool, type(None)})  #: of values that need no conversion
MAX_LEVELS = 20  #: of lists and records in a cell
EXACT_UP_TO = 2.0**53  #: a float below that has all its digits
MISSING_TYPES = frozenset({"NaTType", "NAType"})
to_json = json.JSONEncoder(ensure_ascii=False).encode


def json_value(value: Any) -> Any:
    """Return a cell's value as JSON has it. Raises PianoError for one that is too long or cannot be written."""
    try:
        if type(value) is float:
            return _number(value)
        found = _Converter().converted(value, 0)
    except PianoError:
        raise
    except Exception as error:  # an object in a cell may raise anything
        raise PianoError(f"it cannot be read: {type(error).__name__}: {truncated(str(error), 200)}") from error
    return found


class _Converter:
    """Converts one cell; counts what it converts, so that a list of millions ends early."""

    def __init__(self) -> None:
        self._used = 0

    def converted(self, value: Any, level: int) -> Any:
        self._used += len(value) if isinstance(value, str) else 1
        if self._used > MAX_VALUE_CHARS:
            raise too_long(None)
        if type(value) in JSON_TYPES:
            return value
        if isinstance(value, float):
            return _number(float(value))
        if type(value).__name__ in MISSING_TYPES:
            return None
        if isinstance(value, Mapping | list | tuple | set | frozenset):
            return self._container(value, level)
        if hasattr(value, "tolist") and hasattr(value, "dtype"):  # an array, or a number of NumPy
            if getattr(value, "size", 1) > MAX_VALUE_CHARS:
                raise too_long(None)
            listed = value.tolist()
            return (
                str(value) if type(value).__name__ in {"datetime64", "timedelta64"} else self.converted(listed, level)
            )
        return _text(value)

    def _container(self, value: Any, level: int) -> Any:
        if level == MAX_LEVELS:
            raise PianoError(f"it has more than {MAX_LEVELS} levels of lists and records")
        if is_environment(value):
            raise PianoError("it is the environment of the process, which is not read")
        if isinstance(value, Mapping):
            return {str(key): self.converted(each, level + 1) for key, each in value.items()}
        items = [self.converted(each, level + 1) for each in value]
        return sorted(items, key=to_json) if isinstance(value, set | frozenset) else items


def too_long(chars: int | None) -> PianoError:
    """Return the error for a cell that is too long."""
    size = f"more than {MAX_VALUE_CHARS:,}" if chars is None else f"{chars:,}"
    return PianoError(
        f"it is {size} characters long, and a cell may have {MAX_VALUE_CHARS:,}; shorten the column first"
    )


def _number(value: float) -> float | int | str | None:
    if not isfinite(value):
        return None if value != value else str(value)  # noqa: PLR0124  NaN is not equal to itself.
    return int(value) if value.is_integer() and abs(value) < EXACT_UP_TO else value


def _text(value: Any) -> str:
    """Return the text of a value that JSON does not have."""
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if isinstance(value, timedelta):
        return str(timedelta(value.days, value.seconds, value.microseconds))  # pandas writes its own otherwise
    return inserted_value("", value, DEFAULT_FRAME_CHARS).text
