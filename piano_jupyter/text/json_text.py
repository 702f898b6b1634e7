"""JSON written by others. Pure; no input makes it fail in another way than these functions say."""

import json
from collections.abc import Collection, Mapping
from math import isfinite
from typing import Any, NoReturn

from piano_jupyter.text.truncation import truncated

MAX_DEPTH = 200  #: levels of lists and objects
TOO_DEEP = "it is nested too deeply"


def parse_json(text: str | bytes, max_depth: int = MAX_DEPTH) -> Any:
    """Parse JSON. Raises ValueError if it is not JSON, or nested so deeply that what walks through it may fail."""
    try:
        value = json.loads(text)
    except RecursionError:
        raise ValueError(TOO_DEEP) from None
    if is_deeper(value, max_depth):
        raise ValueError(TOO_DEEP)
    return value


def json_or_none(text: str) -> Any:
    """Parse JSON; return None if the text is not JSON."""
    try:
        return parse_json(text)
    except ValueError:
        return None


def mapping(value: Any) -> Mapping[str, Any]:
    """Return a value if it is a mapping, otherwise an empty one."""
    return value if isinstance(value, Mapping) else {}


def is_deeper(value: Any, levels: int) -> bool:
    """Return whether lists and objects in a value are nested deeper than `levels`."""
    level = [value]
    for _ in range(levels):
        level = [item for container in level for item in _items(container)]
        if not level:
            return False
    return True


def _items(value: Any) -> Collection[Any]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list | tuple) else ()


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not a number")


def _finite(digits: str) -> float:
    number = float(digits)
    if not isfinite(number):
        raise ValueError(f"{truncated(digits, 20)} is too large a number")
    return number


STRICT = json.JSONDecoder(parse_constant=_refuse, parse_float=_finite)  #: only the numbers of the JSON standard
LENIENT = json.JSONDecoder(parse_constant=_refuse, parse_float=_finite, strict=False)  #: also line breaks in strings
