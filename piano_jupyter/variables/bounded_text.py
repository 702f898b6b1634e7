"""Values as text whose length is limited while it is made: a list of millions is not written out first.

Frames inside other values are named with their size, as the text that their libraries give them is cut unannounced.
"""

import sys
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from types import SimpleNamespace
from typing import Any

from piano_jupyter.variables.data_frames import kind_among
from piano_jupyter.variables.frame_parts import PARTS, frame_parts
from piano_jupyter.variables.variable_access import is_environment, type_name

MAX_DEPTH = 100  #: levels of containers in containers
MAX_ARRAY_ITEMS = 1_000  #: of an array that is written as NumPy does, whatever its print options are
ENVIRONMENT_WITHHELD = "<the environment, which is not read>"
NOTHING: dict[Any, Any] = {}
#: how the types of Python write what they contain; a subclass that has its own way of writing is left to that
BRACKETS: Mapping[Any, tuple[str, str]] = {
    list.__repr__: ("[", "]"),
    tuple.__repr__: ("(", ")"),
    set.__repr__: ("{", "}"),
    frozenset.__repr__: ("frozenset({", "})"),
    deque.__repr__: ("deque([", "])"),
    type(NOTHING.keys()).__repr__: ("dict_keys([", "])"),
    type(NOTHING.values()).__repr__: ("dict_values([", "])"),
    type(NOTHING.items()).__repr__: ("dict_items([", "])"),
}
DICTS = (dict.__repr__, OrderedDict.__repr__, defaultdict.__repr__, Counter.__repr__)
TEXTS = (str, bytes, bytearray)


def bounded_text(value: Any, max_chars: int) -> str:
    """Return the text of a value; if it is longer than `max_chars`, at least so much of its beginning.

    Errors that the text of the user's objects raises are passed on.
    """
    if isinstance(value, str):
        return str(value[: max_chars + 1])
    written_by: Any = type(value).__str__
    writes_itself = written_by is not object.__str__ and type(value) not in TEXTS
    if writes_itself and not kind_among(value, PARTS):
        return str(value)[: max_chars + 1]
    parts, used = [], 0
    for part in _parts(value, max_chars, 0):
        parts.append(part)
        used += len(part)
        if used > max_chars:
            break
    return "".join(parts)


def array_text(value: Any) -> str | None:
    """Return a small NumPy array as NumPy writes it, with all of its elements and digits; None for anything else."""
    if not kind_among(value, {"numpy.ndarray"}) or value.dtype.hasobject or not 0 < value.size <= MAX_ARRAY_ITEMS:
        return None
    defaults = {"sign": "-", "suppress": False, "formatter": None, "linewidth": 75, "legacy": False}
    with sys.modules["numpy"].printoptions(threshold=MAX_ARRAY_ITEMS, floatmode="unique", **defaults):
        return str(value)


def _parts(value: Any, max_chars: int, depth: int) -> Iterator[str]:
    """Return the text of a value piece by piece, as Python writes it."""
    if is_environment(value):
        yield ENVIRONMENT_WITHHELD
    elif (container := _container(value)) is None:
        parts = frame_parts(value)
        short = value[: max_chars + 1] if type(value) in TEXTS else value
        yield array_text(value) or (f"<{type_name(value)}, {parts.size}>" if parts else repr(short))
    elif depth == MAX_DEPTH:
        yield "<nested too deeply>"
    else:
        start, items, end = container
        yield start
        for count, (before, item) in enumerate(items):
            yield f"{', ' if count else ''}{before}"
            yield from _parts(item, max_chars, depth + 1)
        yield end


def _container(value: Any) -> tuple[str, Iterable[tuple[str, Any]], str] | None:
    """Return what is written first, each part with what stands before it, and the end; None for what has no parts."""
    kind: type[Any] = type(value)
    written_by: Any = kind.__repr__
    if written_by in BRACKETS and len(value):
        start, end = BRACKETS[written_by]
        return start, (("", each) for each in value), ",)" if start == "(" and len(value) == 1 else end
    if written_by in DICTS:
        name = "" if written_by is dict.__repr__ else f"{kind.__name__}("
        factory = f"{value.default_factory!r}, " if written_by is defaultdict.__repr__ else ""
        pairs = OrderedDict.items(value) if issubclass(kind, OrderedDict) else dict.items(value)
        items = ((f"{key!r}: ", each) for key, each in pairs)
        return f"{name}{factory}{{", items, "})" if name else "}"
    if (names := _field_names(value)) is not None:
        return f"{kind.__name__}(", ((f"{name}=", getattr(value, name)) for name in names), ")"
    return None


def _field_names(value: Any) -> list[str] | None:
    """Return the fields of a dataclass, a named tuple or a namespace that Python itself writes; None for the rest."""
    kind: type[Any] = type(value)
    written_by: Any = kind.__repr__
    if written_by is SimpleNamespace.__repr__:
        return list(vars(value))
    if is_dataclass(kind) and hasattr(written_by, "__wrapped__"):  # made by the decorator, against endless recursion
        return [each.name for each in fields(kind) if each.repr]
    writer = getattr(written_by, "__module__", "")  # one written in C has none
    if issubclass(kind, tuple) and writer == "collections" and hasattr(kind, "_fields"):
        return list(kind._fields)
    return None
