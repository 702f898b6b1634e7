"""A tool call's arguments against the tool's schema: what a model nearly got right is put right, the rest is told.

The words that `@tool` writes into a schema are checked here. Only a schema with others (`pattern`, `minimum`, `$ref`)
loads jsonschema: beside JupyterLab its import takes seconds, and the first tool call would have to wait for it.
"""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

from piano_jupyter.errors import ToolError
from piano_jupyter.tool import Tool

NOUNS = {
    "string": "a string",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "array": "a list",
    "object": "an object",
    "null": "null",
}
TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "array": (list, tuple),
    "object": (dict,),
    "null": (type(None),),
}
WORDS = {
    "additionalProperties", "anyOf", "default", "description", "enum", "items", "maxItems", "minItems", "prefixItems",
    "properties", "required", "title", "type",
}  # fmt: skip


def check_arguments(tool: Tool, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments as the tool takes them.

    "10" becomes 10 where a number is due, a list given as a JSON string becomes a list, and null for an argument that
    may be left out leaves it out. Raises ToolError: one sentence that names the argument and what was expected.
    """
    fitted = _fit(tool.parameters, dict(arguments))
    judge = _misfits if _plain(tool.parameters) else _judged
    problem = next(judge(tool.parameters, fitted, ""), None)
    if problem is not None:
        raise ToolError(f"{tool.name} did not run: {problem}")
    return dict(fitted)


def _fit(schema: Any, value: Any) -> Any:
    """Return the value in the type that the schema names, where it says the same thing in another; else as it is."""
    if not isinstance(schema, Mapping):
        return value
    options = _options(schema)
    if options:
        if any(_suits(option, value) for option in options):
            return value
        fitted = ((option, _fit(option, value)) for option in options)
        return next((each for option, each in fitted if _suits(option, each)), value)
    value = _converted(schema.get("type"), value)
    if isinstance(value, dict):
        properties, needed = schema.get("properties", {}), schema.get("required", ())
        others = schema.get("additionalProperties")
        left_out = [
            name
            for name, each in value.items()
            if each is None and name in properties and name not in needed and not _suits(properties[name], None)
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


def _misfits(schema: Any, value: Any, where: str) -> Iterator[str]:
    """Yield what is wrong with the value, a sentence each."""
    if not isinstance(schema, Mapping):
        if schema is False:
            yield f"{where!r} is not expected"
        return
    options, kind = _options(schema), schema.get("type")
    wrong_option = bool(options) and not any(_suits(option, value) for option in options)
    wrong_kind = isinstance(kind, str) and not _is(kind, value)
    wrong_word = "enum" in schema and not any(each == value and type(each) is type(value) for each in schema["enum"])
    if wrong_option or wrong_kind or wrong_word:
        yield f"{where!r} must be {_expected(schema)}, not {_short(value)}"
    elif isinstance(value, dict):
        yield from _misfits_inside(schema, value, where)
    elif isinstance(value, list | tuple):
        first = schema.get("prefixItems", ())
        least, most = schema.get("minItems", 0), schema.get("maxItems", math.inf)
        if not least <= len(value) <= most:
            yield f"{where!r} must have {least if len(value) < least else most} items, not {len(value)}"
        for at, each in enumerate(value):
            yield from _misfits(first[at] if at < len(first) else schema.get("items"), each, f"{where}[{at}]")


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
        yield from _misfits(properties.get(name, others), each, inside + name)


def _judged(schema: Mapping[str, Any], value: Any, _: str) -> Iterator[str]:
    """Yield what jsonschema finds wrong."""
    from jsonschema import Draft202012Validator, SchemaError  # noqa: PLC0415  Slow to load, see above.

    try:
        Draft202012Validator.check_schema(schema)
    except SchemaError as broken:
        yield f"its own schema is wrong: {_clip(broken.message)}"
        return
    for error in Draft202012Validator(schema).iter_errors(value):
        where = error.json_path.removeprefix("$").removeprefix(".")
        yield f"{where!r}: {_clip(error.message)}" if where else _clip(error.message)


def _suits(schema: Any, value: Any) -> bool:
    judge = _misfits if _plain(schema) else _judged
    return next(judge(schema, value, ""), None) is None


def _plain(schema: Any) -> bool:
    """Return whether the schema has no words but those that are checked here."""
    if isinstance(schema, Mapping):
        inner = [schema.get("items"), schema.get("additionalProperties"), *schema.get("properties", {}).values()]
        inner += [*schema.get("anyOf", ()), *schema.get("prefixItems", ())]
        return schema.keys() <= WORDS and all(_plain(each) for each in inner)
    return True


def _options(schema: Mapping[str, Any]) -> list[Any]:
    kinds = schema.get("type")
    if isinstance(kinds, list):
        return [{**schema, "type": kind} for kind in kinds]
    return list(schema.get("anyOf", ()))


def _is(kind: str, value: Any) -> bool:
    return isinstance(value, TYPES.get(kind, ())) and (kind == "boolean" or not isinstance(value, bool))


def _expected(schema: Any) -> str:
    if not isinstance(schema, Mapping):
        return "something else"
    if "enum" in schema:
        return _either([_short(each) for each in schema["enum"]])
    options = _options(schema)
    return _either([_expected(each) for each in options]) if options else NOUNS.get(schema.get("type", ""), "given")


def _either(words: Sequence[str]) -> str:
    return f"{', '.join(words[:-1])} or {words[-1]}" if len(words) > 1 else "".join(words)


def _short(value: Any) -> str:
    try:
        return _clip(json.dumps(value, ensure_ascii=False))
    except (TypeError, ValueError, RecursionError):
        return type(value).__name__


def _clip(text: str) -> str:
    return text if len(text) <= 120 else f"{text[:117]}..."
