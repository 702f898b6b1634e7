"""What can be completed after `{{`: names, attributes, columns and keys, and the methods of frames that are called."""

import inspect
import re
from collections.abc import Callable, Iterable, Mapping
from itertools import islice
from types import ModuleType
from typing import Any

from piano_jupyter.text.expressions import parse_expression
from piano_jupyter.variables.frame_methods import ATTRIBUTES, METHODS, has_method, is_frame
from piano_jupyter.variables.frame_parts import frame_parts
from piano_jupyter.variables.variable_access import evaluate

NAME = re.compile(r"\s*(\w*)")
ATTRIBUTE = re.compile(r"(.+)\.(\w*)", re.DOTALL)
KEY = re.compile(r"(.+)\[((?P<quote>[\"']?)([^\"'\]\[]*))", re.DOTALL)
MAX_NAMES = 500  # of a frame or an object


def placeholder_names(written: str, variables: Mapping[str, Any]) -> tuple[str, list[str]]:
    """Return the part of an open `{{…` that is completed, and what can stand there. Nothing is called."""
    if found := NAME.fullmatch(written):
        return found[1], _starting_with(found[1], (name for name in variables if not name.startswith("_")))
    if found := ATTRIBUTE.fullmatch(written):
        return found[2], _starting_with(found[2], _of(_attributes, found[1], variables))
    if found := KEY.fullmatch(written):
        quote = found["quote"] or '"'
        keys = _starting_with(found[4], _of(_keys, found[1], variables))
        return found[2], [f"{quote}{key}{quote}]" for key in keys if quote not in key and "\\" not in key]
    return "", []


def _of(names: Callable[[Any], Iterable[str]], expression: str, variables: Mapping[str, Any]) -> list[str]:
    """Return the names in the value of an expression; none if it cannot be read."""
    try:
        return list(names(evaluate(parse_expression(expression), variables)))
    except Exception:  # noqa: BLE001  The user's objects may raise anything; there is nothing to complete then.
        return []


def _attributes(value: Any) -> Iterable[str]:
    """Return the names of the data of a value; of a module, those of its functions and classes."""
    if is_frame(value):
        columns = (name for name in _keys(value) if name.isidentifier())
        attributes = [name for name in ATTRIBUTES if hasattr(type(value), name)]
        return [*columns, *attributes, *(f"{method}(" for method in METHODS if has_method(value, method))]
    if issubclass(type(value), ModuleType):
        return [name for name, each in vars(value).items() if not name.startswith("_") and callable(each)]
    own = getattr(value, "__dict__", None)
    names = {*(own if type(own) is dict else ()), *dir(type(value))}
    return sorted(name for name in names if not name.startswith("_") and not _is_method(value, name))


def _is_method(value: Any, name: str) -> bool:
    return inspect.isroutine(inspect.getattr_static(type(value), name, None))


def _keys(value: Any) -> Iterable[str]:
    """Return the columns of a frame or the keys of a dict that are texts."""
    if isinstance(value, dict):
        return [key for key in islice(value, MAX_NAMES) if isinstance(key, str)]
    parts = frame_parts(value) if is_frame(value) else None
    if parts is None or parts.is_series:
        return []
    return [name for name in parts.names[parts.index : parts.index + MAX_NAMES] if isinstance(name, str)]


def _starting_with(written: str, names: Iterable[str]) -> list[str]:
    return [name for name in dict.fromkeys(names) if name.startswith(written)]
