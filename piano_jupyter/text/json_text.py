"""JSON in texts that others wrote. Pure; any text gives some."""

import json
from collections.abc import Collection, Mapping
from math import isfinite
from typing import Any, NoReturn

from piano_jupyter.text.truncation import truncated


def json_or_none(text: str) -> Any:
    """Read JSON; None where it is none."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def mapping(value: Any) -> Mapping[str, Any]:
    """Return an object; what is none has no fields."""
    return value if isinstance(value, Mapping) else {}


def is_deeper(value: Any, levels: int) -> bool:
    """Return whether lists and objects in a value are nested deeper than that."""
    inside = [value]
    for _ in range(levels):
        inside = [each for whole in inside for each in _items(whole)]
        if not inside:
            return False
    return True


def _items(value: Any) -> Collection[Any]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list | tuple) else ()


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no number")


def _finite(digits: str) -> float:
    number = float(digits)
    if not isfinite(number):
        raise ValueError(f"{truncated(digits, 20)} is too large a number")
    return number


STRICT = json.JSONDecoder(parse_constant=_refuse, parse_float=_finite)  #: with numbers as the standard has them
LENIENT = json.JSONDecoder(parse_constant=_refuse, parse_float=_finite, strict=False)  #: with line ends in texts, too
