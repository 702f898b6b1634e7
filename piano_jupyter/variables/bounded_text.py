"""Values as text whose length is limited while it is made: a list of millions is not written out first.

Frames inside other values are named with their size, as the text that their libraries give them is cut unannounced.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from piano_jupyter.variables.frame_parts import frame_parts
from piano_jupyter.variables.variable_access import is_environment, type_name

MAX_DEPTH = 100  #: levels of containers in containers
ENVIRONMENT_WITHHELD = "<the environment, which is not read>"
BRACKETS: Mapping[type, tuple[str, str]] = {
    list: ("[", "]"),
    tuple: ("(", ")"),
    set: ("{", "}"),
    frozenset: ("frozenset({", "})"),
}
CONTAINERS = (dict, *BRACKETS)


def bounded_text(value: Any, max_chars: int) -> str:
    """Return the text of a value; if it is longer than `max_chars`, at least so much of its beginning.

    Errors that the text of the user's objects raises are passed on.
    """
    if isinstance(value, str):
        return str(value[: max_chars + 1])
    if type(value) not in CONTAINERS:
        return str(value)[: max_chars + 1]
    parts, used = [], 0
    for part in _parts(value, 0):
        parts.append(part)
        used += len(part)
        if used > max_chars:
            break
    return "".join(parts)


def _parts(value: Any, depth: int) -> Iterator[str]:
    """Return the text of a value piece by piece, as Python writes it."""
    if is_environment(value):
        yield ENVIRONMENT_WITHHELD
    elif type(value) not in CONTAINERS:
        parts = frame_parts(value)
        yield f"<{type_name(value)}, {parts.size}>" if parts else repr(value)
    elif depth == MAX_DEPTH:
        yield "<nested too deeply>"
    elif type(value) is dict:
        yield "{"
        for at, (key, item) in enumerate(value.items()):
            yield f"{', ' if at else ''}{key!r}: "
            yield from _parts(item, depth + 1)
        yield "}"
    else:
        yield from _sequence(value, *BRACKETS[type(value)], depth)


def _sequence(items: Iterable[Any], start: str, end: str, depth: int) -> Iterator[str]:
    count = 0
    yield start
    for item in items:
        yield ", " if count else ""
        yield from _parts(item, depth + 1)
        count += 1
    yield f",{end}" if start == "(" and count == 1 else end
