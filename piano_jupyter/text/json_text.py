"""JSON written by others. Pure; no input makes it fail."""

import json
from collections.abc import Collection, Mapping
from math import isfinite
from typing import Any, NoReturn

from piano_jupyter.text.truncation import truncated


def json_or_none(text: str) -> Any:
    """Parse JSON; return None if the text is not JSON."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
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
