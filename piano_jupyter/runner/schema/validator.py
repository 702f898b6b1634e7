"""JSON Schemas with words such as `pattern`, `minimum` or `$ref`, validated by jsonschema-rs. Pure; nothing is fetched.

The library is loaded when the first such schema comes. It is native code, where a stack that is used up ends the
process: what would go too deep is refused before.
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
REFERENCES = ("$ref", "$dynamicRef")
LISTS = ("allOf", "anyOf", "oneOf")  #: of schemas for the same value
SINGLE = ("not", "if", "then", "else")  #: schemas for the same value
SAME_VALUE = {*REFERENCES, *LISTS, *SINGLE, "dependentSchemas"}
MOST_LEVELS = 200
MOST_STEPS = 10_000  #: levels of a value times schemas for the same value: a stack of 8 MB takes four times as many
OUTSIDE = {"$comment": "not fetched"}  #: stands for a schema that is elsewhere
MASK = "it"  #: what the library calls the value, which it would quote whole


def violations(schema: Mapping[str, Any], value: Any, _: str = "") -> Iterator[str]:
    """Yield what is wrong with a value, a sentence each."""
    steps = 1 + sum(len(SAME_VALUE & part.keys()) for part in _parts(schema))
    if is_deeper(value, min(MOST_LEVELS, MOST_STEPS // steps)):
        yield "it is nested too deep"
        return
    try:
        validator = _compiled(schema)
    except ValueError as error:
        yield f"its own schema is wrong: {_schema_error(schema, error)}"
        return
    try:
        yield from map(_sentence, validator.iter_errors(value))
    except ValueError as error:  # half a character, or what JSON does not have
        yield f"it cannot be checked: {error}"


def schema_problem(schema: dict[str, Any]) -> str | None:
    """Return what is wrong with a schema, if anything is."""
    try:
        _compiled(schema)
        return _reference_problem(schema)
    except ValueError as error:
        return _schema_error(schema, error)


def has_format(name: str, text: str) -> bool:
    """Return whether a text has one of the FORMATS."""
    try:
        FORMATS[name][0](text)
    except ValueError:
        return False
    return True


def _compiled(schema: Mapping[str, Any]) -> "Draft202012Validator":
    """Return a validator. Raises ValueError: the library's ValidationError for what is no schema."""
    from jsonschema_rs import Draft202012Validator  # noqa: PLC0415  See above.

    named = {part["format"] for part in _parts(schema) if isinstance(part.get("format"), str)}
    formats: dict[str, Callable[[str], bool]] = dict.fromkeys(named, lambda _: True)  # a format that is not known fits
    formats |= {name: partial(has_format, name) for name in FORMATS}
    # A pattern is matched in linear time, or, with a look-around or a back reference, in a bounded number of steps.
    return Draft202012Validator(dict(schema), formats=formats, validate_formats=True, mask=MASK, offline=True)


def _sentence(error: "ValidationError") -> str:
    """Return what is wrong, with the field and the value."""
    said, where, kind = error.message, _place(error.instance_path), type(error.kind).__name__
    if kind == "Format" and error.kind.value in FORMATS:
        said = f"{MASK} is not {FORMATS[error.kind.value][1]}"
    elif kind in {"BacktrackLimitExceeded", "RegexEngineFailure"}:
        said = f"{MASK} cannot be checked: the pattern takes too many steps"
    if said.startswith(f"{MASK} "):
        said = short_json(error.instance) + said.removeprefix(MASK)
    return f"{where!r}: {truncated(said, 300)}" if where else truncated(said, 300)


def _schema_error(schema: Mapping[str, Any], error: ValueError) -> str:
    from jsonschema_rs import ValidationError  # noqa: PLC0415  See above.

    if not isinstance(error, ValidationError):
        return "it is nested too deep" if "ecursion" in str(error) else str(error)
    lost = _reference_problem(schema) if type(error.kind).__name__ == "Referencing" else None
    return lost or _sentence(error)


def _reference_problem(schema: Mapping[str, Any]) -> str | None:
    """Return what is wrong with where the references lead, if anything is: nowhere, or back to themselves."""
    from jsonschema_rs import Draft202012, ReferencingError, Registry  # noqa: PLC0415  See above.

    try:
        registry = Registry([("", dict(schema))], draft=Draft202012, retriever=lambda _: OUTSIDE)
    except ValueError as error:  # an address that is none
        return str(error)
    look = registry.resolver("").lookup
    leads = {"#": set(_references(schema))}
    for reference in (part[word] for part in _parts(schema) for word in REFERENCES if isinstance(part.get(word), str)):
        found: object = OUTSIDE
        with suppress(ReferencingError):
            found = look(reference).contents
        if found == OUTSIDE:
            return f"$ref leads to {reference!r}, which is not in it, and nothing is fetched"
        leads[reference] = set(_references(found))
    try:
        TopologicalSorter(leads).prepare()
    except CycleError:
        return "a $ref in it leads back to itself, so that it says nothing"
    return None


def _references(schema: Any) -> Iterator[str]:
    """Yield the references that a value is followed along as it stands: not those for what is inside it."""
    if not isinstance(schema, Mapping):
        return
    yield from (schema[word] for word in REFERENCES if isinstance(schema.get(word), str))
    inner = [schema.get(word) for word in SINGLE]
    for word in LISTS:
        inner += schema.get(word) or ()
    for each in [*inner, *(schema.get("dependentSchemas") or {}).values()]:
        yield from _references(each)


def _parts(schema: Any) -> Iterator[Mapping[str, Any]]:
    """Yield each object in a schema, itself first."""
    if isinstance(schema, Mapping):
        yield schema
        schema = list(schema.values())
    if isinstance(schema, list | tuple):
        for each in schema:
            yield from _parts(each)


def _place(path: Sequence[str | int]) -> str:
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path).removeprefix(".")
