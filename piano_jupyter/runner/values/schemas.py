"""Whether a JSON Schema that somebody wrote is one: a wrong one is refused before a model is asked by it. Pure."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from piano_jupyter.errors import PianoError
from piano_jupyter.runner.values.arguments import NOUNS, is_plain, misfits
from piano_jupyter.truncation import short_json

EXAMPLE = '{"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}'
SAYING = {"type", "properties", "items", "prefixItems", "enum", "const", "anyOf", "oneOf", "allOf", "not", "$ref"}

#: The words that are checked without jsonschema, as a schema of schemas. It holds itself, for those within.
PLAIN: dict[str, Any] = {"type": "object"}
PLAIN["properties"] = {
    "title": {"type": "string"},
    "description": {"type": "string"},
    "format": {"type": "string"},
    "type": {"anyOf": [{"enum": [*NOUNS]}, {"type": "array", "minItems": 1, "items": {"enum": [*NOUNS]}}]},
    "enum": {"type": "array", "minItems": 1},
    "properties": {"type": "object", "additionalProperties": PLAIN},
    "required": {"type": "array", "items": {"type": "string"}},
    "additionalProperties": {"anyOf": [{"type": "boolean"}, PLAIN]},
    "items": PLAIN,
    "prefixItems": {"type": "array", "items": PLAIN},
    "minItems": {"type": "integer"},
    "maxItems": {"type": "integer"},
    "anyOf": {"type": "array", "minItems": 1, "items": PLAIN},
}


def checked_schema(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return a copy of a JSON Schema. Raises PianoError: one sentence that says what is wrong with it."""
    try:
        schema: dict[str, Any] = json.loads(json.dumps(dict(given), ensure_ascii=False, allow_nan=False).encode())
        problem = _problem(schema)
    except (TypeError, ValueError) as error:
        raise PianoError(f"the schema is no JSON: {error}; a JSON Schema looks like {EXAMPLE}") from error
    except RecursionError as error:
        raise PianoError("the schema is nested too deep") from error
    if problem is None and not SAYING & schema.keys():
        problem = f"it says nothing of a value: {short_json(schema)}"
    if problem is not None:
        raise PianoError(f"the schema is wrong: {problem}; a JSON Schema looks like {EXAMPLE}")
    return schema


def _problem(schema: dict[str, Any]) -> str | None:
    problem = next(misfits(PLAIN, schema, ""), None)
    if problem is None and is_plain(schema):
        return None
    from jsonschema import Draft202012Validator, SchemaError  # noqa: PLC0415  Takes seconds beside JupyterLab.
    from referencing import Registry  # noqa: PLC0415
    from referencing.exceptions import Unresolvable  # noqa: PLC0415
    from referencing.jsonschema import DRAFT202012  # noqa: PLC0415

    try:
        Draft202012Validator.check_schema(schema)
    except SchemaError as broken:
        return problem or str(broken.message)
    look = Registry().with_resource("", DRAFT202012.create_resource(schema)).resolver()
    for reference in _references(schema):
        try:
            look.lookup(reference)
        except Unresolvable:
            return f"$ref leads to {reference!r}, which is not in it, and nothing is fetched"
    judge = Draft202012Validator(schema, registry=Registry())
    for part in [schema, *({"$ref": reference} for reference in _references(schema))]:
        try:
            list(judge.descend(object(), part))  # what is of no kind, so that each way is gone
        except RecursionError:
            return "a $ref in it leads back to itself, so that it says nothing"
        except Unresolvable as broken:
            return f"it leads to {broken.ref!r}, which is not in it, and nothing is fetched"
    return None


def _references(schema: Any) -> Iterator[str]:
    if isinstance(schema, dict):
        if isinstance(schema.get("$ref"), str):
            yield schema["$ref"]
        schema = list(schema.values())
    if isinstance(schema, list):
        for each in schema:
            yield from _references(each)
