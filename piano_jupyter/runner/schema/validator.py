"""Validates JSON Schemas with keywords such as `pattern`, `minimum` or `$ref`, by jsonschema-rs. Pure; fetches nothing.

The library is imported with the first such schema. It is native code, where a stack overflow ends the process, so
values that are nested too deeply are rejected before.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import date, datetime, time
from functools import partial
from graphlib import CycleError, TopologicalSorter
from typing import TYPE_CHECKING, Any
from uuid import UUID

from piano_jupyter.text.json_text import is_deeper
from piano_jupyter.text.truncation import short_json, truncated

if TYPE_CHECKING:
    from jsonschema_rs import Draft202012Validator, ValidationError

FORMATS: dict[str, tuple[Callable[[str], Any], str]] = {
    "date": (date.fromisoformat, "a date like 2026-01-31"),
    "date-time": (datetime.fromisoformat, "a time like 2026-01-31T12:00:00Z"),
    "time": (time.fromisoformat, "a time of day like 12:00:00"),
    "uuid": (UUID, "a UUID"),
}
REFERENCE_KEYWORDS = ("$ref", "$dynamicRef")
LIST_KEYWORDS = ("allOf", "anyOf", "oneOf")  #: of schemas for the same value
SINGLE_KEYWORDS = ("not", "if", "then", "else")  #: schemas for the same value
SAME_VALUE_KEYWORDS = {*REFERENCE_KEYWORDS, *LIST_KEYWORDS, *SINGLE_KEYWORDS, "dependentSchemas"}
MAX_DEPTH = 200
MAX_STEPS = 10_000  #: levels of a value times schemas for the same value; a stack of 8 MB holds four times as many
EXTERNAL_SCHEMA = {"$comment": "not fetched"}  #: stands for a schema outside of this one
VALUE_PLACEHOLDER = "it"  #: what the library calls the value, instead of quoting all of it


def violations(schema: Mapping[str, Any], value: Any, _: str = "") -> Iterator[str]:
    """Yield one sentence for each mismatch."""
    steps = 1 + sum(len(SAME_VALUE_KEYWORDS & part.keys()) for part in _parts(schema))
    if is_deeper(value, min(MAX_DEPTH, MAX_STEPS // steps)):
        yield "it is nested too deeply"
        return
    try:
        validator = _compile(schema)
    except ValueError as error:
        yield f"its schema is wrong: {_schema_error(schema, error)}"
        return
    try:
        yield from map(_error_message, validator.iter_errors(value))
    except ValueError as error:  # a lone surrogate, or a value that JSON does not have
        yield f"it cannot be checked: {error}"


def schema_problem(schema: dict[str, Any]) -> str | None:
    """Say what is wrong with a schema; None if it is valid."""
    try:
        _compile(schema)
        return _reference_problem(schema)
    except ValueError as error:
        return _schema_error(schema, error)


def has_format(name: str, text: str) -> bool:
    """Return whether a text has the named format."""
    try:
        FORMATS[name][0](text)
    except ValueError:
        return False
    return True


def _compile(schema: Mapping[str, Any]) -> "Draft202012Validator":
    """Return a validator. Raises ValueError: the library's ValidationError for an invalid schema."""
    from jsonschema_rs import Draft202012Validator  # noqa: PLC0415  See above.

    named = {part["format"] for part in _parts(schema) if isinstance(part.get("format"), str)}
    formats: dict[str, Callable[[str], bool]] = dict.fromkeys(named, lambda _: True)  # unknown formats match anything
    formats |= {name: partial(has_format, name) for name in FORMATS}
    # Patterns match in linear time, or, with lookarounds or back references, in a limited number of steps.
    return Draft202012Validator(
        dict(schema), formats=formats, validate_formats=True, mask=VALUE_PLACEHOLDER, offline=True
    )


def _error_message(error: "ValidationError") -> str:
    """Return an error's message, with the field and the value."""
    message, where, kind = error.message, _path(error.instance_path), type(error.kind).__name__
    if kind == "Format" and error.kind.value in FORMATS:
        message = f"{VALUE_PLACEHOLDER} is not {FORMATS[error.kind.value][1]}"
    elif kind in {"BacktrackLimitExceeded", "RegexEngineFailure"}:
        message = f"{VALUE_PLACEHOLDER} cannot be checked: the pattern takes too many steps"
    if message.startswith(f"{VALUE_PLACEHOLDER} "):
        message = short_json(error.instance) + message.removeprefix(VALUE_PLACEHOLDER)
    return f"{where!r}: {truncated(message, 300)}" if where else truncated(message, 300)


def _schema_error(schema: Mapping[str, Any], error: ValueError) -> str:
    from jsonschema_rs import ValidationError  # noqa: PLC0415  See above.

    if not isinstance(error, ValidationError):
        return "it is nested too deeply" if "ecursion" in str(error) else str(error)
    reference_problem = _reference_problem(schema) if type(error.kind).__name__ == "Referencing" else None
    return reference_problem or _error_message(error)


def _reference_problem(schema: Mapping[str, Any]) -> str | None:
    """Say which reference leads nowhere or back to itself; None if all are fine."""
    from jsonschema_rs import Draft202012, ReferencingError, Registry  # noqa: PLC0415  See above.

    try:
        registry = Registry([("", dict(schema))], draft=Draft202012, retriever=lambda _: EXTERNAL_SCHEMA)
    except ValueError as error:  # an invalid URI
        return str(error)
    lookup = registry.resolver("").lookup
    targets = {"#": set(_references(schema))}
    for reference in (
        part[word] for part in _parts(schema) for word in REFERENCE_KEYWORDS if isinstance(part.get(word), str)
    ):
        found: object = EXTERNAL_SCHEMA
        with suppress(ReferencingError):
            found = lookup(reference).contents
        if found == EXTERNAL_SCHEMA:
            return f"$ref names {reference!r}, which is not in the schema (external schemas are not fetched)"
        targets[reference] = set(_references(found))
    try:
        TopologicalSorter(targets).prepare()
    except CycleError:
        return "a $ref leads back to itself"
    return None


def _references(schema: Any) -> Iterator[str]:
    """Yield the references that apply to the value itself, not to what is inside it."""
    if not isinstance(schema, Mapping):
        return
    yield from (schema[word] for word in REFERENCE_KEYWORDS if isinstance(schema.get(word), str))
    inner = [schema.get(word) for word in SINGLE_KEYWORDS]
    for word in LIST_KEYWORDS:
        inner += schema.get(word) or ()
    for each in [*inner, *(schema.get("dependentSchemas") or {}).values()]:
        yield from _references(each)


def _parts(schema: Any) -> Iterator[Mapping[str, Any]]:
    """Yield the schema and each object in it."""
    if isinstance(schema, Mapping):
        yield schema
        schema = list(schema.values())
    if isinstance(schema, list | tuple):
        for each in schema:
            yield from _parts(each)


def _path(path: Sequence[str | int]) -> str:
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path).removeprefix(".")
