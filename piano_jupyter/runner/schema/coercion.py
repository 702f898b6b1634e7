"""Values against a JSON Schema: what a model nearly got right is put right, the rest is told.

The words that `@tool` writes into a schema are checked here, a schema with others (`pattern`, `minimum`, `$ref`) by
`validator`.
"""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

from piano_jupyter.errors import PianoError, ToolError
from piano_jupyter.runner.schema.validator import FORMATS, has_format, violations
from piano_jupyter.text.truncation import short_json
from piano_jupyter.tool import Tool

#: what a schema calls a type: how people are told it, and what it is in Python
TYPES: dict[str, tuple[str, tuple[type, ...]]] = {
    "string": ("a string", (str,)),
    "integer": ("a whole number", (int,)),
    "number": ("a number", (int, float)),
    "boolean": ("true or false", (bool,)),
    "array": ("a list", (list, tuple)),
    "object": ("an object", (dict,)),
    "null": ("null", (type(None),)),
}
WORDS = {
    "additionalProperties", "anyOf", "default", "description", "enum", "format", "items", "maxItems", "minItems",
    "prefixItems", "properties", "required", "title", "type",
}  # fmt: skip


class SchemaMismatchError(PianoError):
    """A value does not fit its schema: one sentence that names the field and what was expected."""


def check_arguments(tool: Tool, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return a call's arguments as the tool takes them. Raises ToolError with the sentence for the model."""
    try:
        return dict(fitted(tool.parameters, dict(arguments)))
    except SchemaMismatchError as error:
        raise ToolError(f"{tool.name} did not run: {error}") from error


def fitted(schema: Mapping[str, Any], value: Any) -> Any:
    """Return the value as the schema has it.

    "10" becomes 10 where a number is due, a list given as a JSON string becomes a list, and null for what may be left
    out leaves it out. Raises SchemaMismatchError.
    """
    value = _fit(schema, value)
    problem = misfit(schema, value)
    if problem is not None:
        raise SchemaMismatchError(problem)
    return value


def misfit(schema: Any, value: Any) -> str | None:
    """Return what is wrong with the value as it stands, if anything is."""
    return next((misfits if is_plain(schema) else violations)(schema, value, ""), None)


def _fit(schema: Any, value: Any) -> Any:
    """Return the value in the type that the schema names, where it says the same thing in another; else as it is."""
    if not isinstance(schema, Mapping):
        return value
    options = _options(schema)
    if options:
        if any(misfit(option, value) is None for option in options):
            return value
        fits = ((option, _fit(option, value)) for option in options)
        return next((each for option, each in fits if misfit(option, each) is None), value)
    value = _converted(schema.get("type"), value)
    if isinstance(value, dict):
        properties, needed = schema.get("properties", {}), schema.get("required", ())
        others = schema.get("additionalProperties")
        left_out = [
            name
            for name, each in value.items()
            if each is None and name in properties and name not in needed and misfit(properties[name], None) is not None
        ]
        return {name: _fit(properties.get(name, others), each) for name, each in value.items() if name not in left_out}
    if isinstance(value, list):
        first = schema.get("prefixItems", ())
        return [_fit(first[at] if at < len(first) else schema.get("items"), each) for at, each in enumerate(value)]
    return value


def _converted(kind: Any, value: Any) -> Any:
    if isinstance(value, str) and kind in TYPES and kind != "string":
        with suppress(ValueError, RecursionError):
            parsed = json.loads(value.strip().lower() if kind == "boolean" else value)
            value = parsed if _is("number" if kind == "integer" else kind, parsed) else value
    if kind == "integer" and isinstance(value, float) and value.is_integer():
        return int(value)
    if kind == "string" and _is("number", value):
        return str(value)
    return value


def misfits(schema: Any, value: Any, where: str) -> Iterator[str]:
    """Yield what is wrong with the value by the words that are checked here, a sentence each."""
    if not isinstance(schema, Mapping):
        if schema is False:
            yield f"{_named(where)} is not expected"
        return
    options, kind = _options(schema), schema.get("type")
    wrong_option = bool(options) and all(any(misfits(option, value, "")) for option in options)
    wrong_kind = isinstance(kind, str) and not _is(kind, value)
    wrong_word = "enum" in schema and not any(each == value and type(each) is type(value) for each in schema["enum"])
    wrong_form = isinstance(value, str) and schema.get("format") in FORMATS and not has_format(schema["format"], value)
    if wrong_option and (near := _near(options, value)):
        yield from misfits(near, value, where)
    elif wrong_option or wrong_kind or wrong_word or wrong_form:
        yield f"{_named(where)} must be {_expected(schema)}, not {short_json(value)}"
    elif isinstance(value, dict):
        yield from _misfits_inside(schema, value, where)
    elif isinstance(value, list | tuple):
        first = schema.get("prefixItems", ())
        least, most = schema.get("minItems", 0), schema.get("maxItems", math.inf)
        if not least <= len(value) <= most:
            yield f"{_named(where)} must have {least if len(value) < least else most} items, not {len(value)}"
        for at, each in enumerate(value):
            yield from misfits(first[at] if at < len(first) else schema.get("items"), each, f"{where}[{at}]")


def _misfits_inside(schema: Mapping[str, Any], value: Mapping[str, Any], where: str) -> Iterator[str]:
    properties, others = schema.get("properties", {}), schema.get("additionalProperties")
    inside = f"{where}." if where else ""
    for name in value:
        if name not in properties and others is False:
            known = ", ".join(properties)
            yield f"it takes no {inside + name!r}, only {known}" if known else "it takes no arguments"
    for name in schema.get("required", ()):
        if name not in value:
            yield f"{inside + name!r} is missing; it must be {_expected(properties.get(name, {}))}"
    for name, each in value.items():
        yield from misfits(properties.get(name, others), each, inside + name)


def is_plain(schema: Any) -> bool:
    """Return whether the schema has no words but those that are checked here."""
    if isinstance(schema, Mapping):
        inner = [schema.get("items"), schema.get("additionalProperties"), *schema.get("properties", {}).values()]
        inner += [*schema.get("anyOf", ()), *schema.get("prefixItems", ())]
        return schema.keys() <= WORDS and all(is_plain(each) for each in inner)
    return True


def _options(schema: Mapping[str, Any]) -> list[Any]:
    kinds = schema.get("type")
    if isinstance(kinds, list):
        return [{**schema, "type": kind} for kind in kinds]
    return list(schema.get("anyOf", ()))


def _near(options: Sequence[Any], value: Any) -> Mapping[str, Any] | None:
    """Return the one option that is of a list's or an object's kind: what is wrong inside says more."""
    kinds = [each for each in options if isinstance(each, Mapping) and _is(str(each.get("type")), value)]
    return kinds[0] if len(kinds) == 1 and isinstance(value, dict | list) else None


def _named(where: str) -> str:
    return repr(where) if where else "it"


def _is(kind: str, value: Any) -> bool:
    return kind in TYPES and isinstance(value, TYPES[kind][1]) and (kind == "boolean" or not isinstance(value, bool))


def _expected(schema: Any) -> str:
    if not isinstance(schema, Mapping):
        return "something else"
    if "enum" in schema:
        return _either([short_json(each) for each in schema["enum"]])
    if schema.get("format") in FORMATS:
        return FORMATS[schema["format"]][1]
    if options := _options(schema):
        return _either([_expected(each) for each in options])
    kind = schema.get("type")
    return TYPES[kind][0] if kind in TYPES else "given"


def _either(words: Sequence[str]) -> str:
    return f"{', '.join(words[:-1])} or {words[-1]}" if len(words) > 1 else "".join(words)
