"""Checks values against a JSON Schema: converts what a model almost got right, and explains the rest.

The keywords that `@tool` writes into a schema are checked here; schemas with others (`pattern`, `minimum`, `$ref`) are
checked by `validator`.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

from piano_jupyter.errors import PianoError, ToolError
from piano_jupyter.runner.schema.validator import FORMATS, has_format, violations
from piano_jupyter.text.json_text import parse_json
from piano_jupyter.text.truncation import short_json
from piano_jupyter.tool import Tool

#: a schema's types: their description for people, and their Python types
TYPES: dict[str, tuple[str, tuple[type, ...]]] = {
    "string": ("a string", (str,)),
    "integer": ("a whole number", (int,)),
    "number": ("a number", (int, float)),
    "boolean": ("true or false", (bool,)),
    "array": ("a list", (list, tuple)),
    "object": ("an object", (dict,)),
    "null": ("null", (type(None),)),
}
PLAIN_KEYWORDS = {
    "additionalProperties", "anyOf", "default", "description", "enum", "format", "items", "maxItems", "minItems",
    "prefixItems", "properties", "required", "title", "type",
}  # fmt: skip


class SchemaMismatchError(PianoError):
    """A value does not match its schema; the message is one sentence that names the field and what was expected."""


def check_arguments(tool: Tool, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return a call's arguments, converted for the tool. Raises ToolError with a sentence for the model."""
    try:
        return dict(coerce(tool.parameters, dict(arguments)))
    except SchemaMismatchError as error:
        raise ToolError(f"{tool.name} did not run: {error}") from error


def coerce(schema: Mapping[str, Any], value: Any) -> Any:
    """Return the value, converted to match the schema. Raises SchemaMismatchError.

    "10" becomes 10 where a number is expected, a JSON string becomes the list or object in it, and null for an optional
    property removes it.
    """
    value = _coerce(schema, value)
    problem = mismatch(schema, value)
    if problem is not None:
        raise SchemaMismatchError(problem)
    return value


def mismatch(schema: Any, value: Any) -> str | None:
    """Say how the value, unconverted, does not match the schema; None if it does."""
    return next((mismatches if is_plain(schema) else violations)(schema, value, ""), None)


def _coerce(schema: Any, value: Any) -> Any:
    """Convert the value to the schema's type if nothing is lost; otherwise return it unchanged."""
    if not isinstance(schema, Mapping):
        return value
    options = _options(schema)
    if options:
        if any(mismatch(option, value) is None for option in options):
            return value
        candidates = ((option, _coerce(option, value)) for option in options)
        return next((each for option, each in candidates if mismatch(option, each) is None), value)
    value = _convert(schema.get("type"), value)
    if isinstance(value, dict):
        properties, needed = schema.get("properties", {}), schema.get("required", ())
        others = schema.get("additionalProperties")
        left_out = [
            name
            for name, each in value.items()
            if each is None
            and name in properties
            and name not in needed
            and mismatch(properties[name], None) is not None
        ]
        return {
            name: _coerce(properties.get(name, others), each) for name, each in value.items() if name not in left_out
        }
    if isinstance(value, list):
        first = schema.get("prefixItems", ())
        return [_coerce(first[at] if at < len(first) else schema.get("items"), each) for at, each in enumerate(value)]
    return value


def _convert(kind: Any, value: Any) -> Any:
    if isinstance(value, str) and kind in TYPES and kind != "string":
        with suppress(ValueError):
            parsed = parse_json(value.strip().lower() if kind == "boolean" else value)
            value = parsed if _has_type("number" if kind == "integer" else kind, parsed) else value
    if kind == "integer" and isinstance(value, float) and value.is_integer():
        return int(value)
    if kind == "string" and _has_type("number", value):
        return str(value)
    return value


def mismatches(schema: Any, value: Any, where: str) -> Iterator[str]:
    """Yield one sentence for each mismatch, by the keywords that are checked here."""
    if not isinstance(schema, Mapping):
        if schema is False:
            yield f"{_field(where)} is not expected"
        return
    options, kind = _options(schema), schema.get("type")
    wrong_option = bool(options) and all(any(mismatches(option, value, "")) for option in options)
    wrong_type = isinstance(kind, str) and not _has_type(kind, value)
    wrong_value = "enum" in schema and not any(each == value and type(each) is type(value) for each in schema["enum"])
    name = schema.get("format")
    wrong_format = isinstance(value, str) and name in FORMATS and not has_format(name, value)
    if wrong_option and (near := _closest_option(options, value)):
        yield from mismatches(near, value, where)
    elif wrong_option or wrong_type or wrong_value or wrong_format:
        yield f"{_field(where)} must be {_expected(schema)}, not {short_json(value)}"
    elif isinstance(value, dict):
        yield from _object_mismatches(schema, value, where)
    elif isinstance(value, list | tuple):
        first = schema.get("prefixItems", ())
        least, most = schema.get("minItems", 0), schema.get("maxItems", math.inf)
        if not least <= len(value) <= most:
            yield f"{_field(where)} must have {least if len(value) < least else most} items, not {len(value)}"
        for at, each in enumerate(value):
            yield from mismatches(first[at] if at < len(first) else schema.get("items"), each, f"{where}[{at}]")


def _object_mismatches(schema: Mapping[str, Any], value: Mapping[str, Any], where: str) -> Iterator[str]:
    properties, others = schema.get("properties", {}), schema.get("additionalProperties")
    prefix = f"{where}." if where else ""
    for name in value:
        if name not in properties and others is False:
            known = ", ".join(properties)
            yield f"it takes no {prefix + name!r}, only {known}" if known else "it takes no arguments"
    for name in schema.get("required", ()):
        if name not in value:
            yield f"{prefix + name!r} is missing; it must be {_expected(properties.get(name, {}))}"
    for name, each in value.items():
        yield from mismatches(properties.get(name, others), each, prefix + name)


def is_plain(schema: Any) -> bool:
    """Return whether the schema has only keywords that are checked here."""
    if isinstance(schema, Mapping):
        inner = [schema.get("items"), schema.get("additionalProperties"), *schema.get("properties", {}).values()]
        inner += [*schema.get("anyOf", ()), *schema.get("prefixItems", ())]
        return schema.keys() <= PLAIN_KEYWORDS and all(is_plain(each) for each in inner)
    return True


def _options(schema: Mapping[str, Any]) -> list[Any]:
    kinds = schema.get("type")
    if isinstance(kinds, list):
        return [{**schema, "type": kind} for kind in kinds]
    return list(schema.get("anyOf", ()))


def _closest_option(options: Sequence[Any], value: Any) -> Mapping[str, Any] | None:
    """Return the only option with the type of a list or object: a mismatch inside it is more specific."""
    kinds = [each for each in options if isinstance(each, Mapping) and _has_type(str(each.get("type")), value)]
    return kinds[0] if len(kinds) == 1 and isinstance(value, dict | list) else None


def _field(where: str) -> str:
    return repr(where) if where else "it"


def _has_type(kind: str, value: Any) -> bool:
    return kind in TYPES and isinstance(value, TYPES[kind][1]) and (kind == "boolean" or not isinstance(value, bool))


def _expected(schema: Any) -> str:
    if not isinstance(schema, Mapping):
        return "something else"
    if "enum" in schema:
        return _join_with_or([short_json(each) for each in schema["enum"]])
    if schema.get("format") in FORMATS:
        return FORMATS[schema["format"]][1]
    if options := _options(schema):
        return _join_with_or([_expected(each) for each in options])
    kind = schema.get("type")
    return TYPES[kind][0] if kind in TYPES else "given"


def _join_with_or(words: Sequence[str]) -> str:
    return f"{', '.join(words[:-1])} or {words[-1]}" if len(words) > 1 else "".join(words)
