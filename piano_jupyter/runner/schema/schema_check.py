"""Checks a JSON Schema that a user wrote, before a model is asked for an answer that matches it. Pure."""

import json
from collections.abc import Mapping
from typing import Any

from piano_jupyter.errors import PianoError
from piano_jupyter.runner.schema.coercion import TYPES, is_plain, mismatches
from piano_jupyter.runner.schema.validator import schema_problem
from piano_jupyter.text.truncation import short_json

EXAMPLE = '{"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}'
CONSTRAINING_KEYWORDS = {
    "type",
    "properties",
    "items",
    "prefixItems",
    "enum",
    "const",
    "anyOf",
    "oneOf",
    "allOf",
    "not",
    "$ref",
}

#: A schema for schemas that `coercion` checks without `validator`; it contains itself, for nested schemas.
PLAIN_META_SCHEMA: dict[str, Any] = {"type": "object"}
PLAIN_META_SCHEMA["properties"] = {
    "title": {"type": "string"},
    "description": {"type": "string"},
    "format": {"type": "string"},
    "type": {"anyOf": [{"enum": [*TYPES]}, {"type": "array", "minItems": 1, "items": {"enum": [*TYPES]}}]},
    "enum": {"type": "array", "minItems": 1},
    "properties": {"type": "object", "additionalProperties": PLAIN_META_SCHEMA},
    "required": {"type": "array", "items": {"type": "string"}},
    "additionalProperties": {"anyOf": [{"type": "boolean"}, PLAIN_META_SCHEMA]},
    "items": PLAIN_META_SCHEMA,
    "prefixItems": {"type": "array", "items": PLAIN_META_SCHEMA},
    "minItems": {"type": "integer"},
    "maxItems": {"type": "integer"},
    "anyOf": {"type": "array", "minItems": 1, "items": PLAIN_META_SCHEMA},
}


def check_schema(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return a copy of a valid JSON Schema. Raises PianoError: one sentence that says what is wrong with it."""
    try:
        schema: dict[str, Any] = json.loads(json.dumps(dict(given), ensure_ascii=False, allow_nan=False).encode())
        problem = _problem(schema)
    except (TypeError, ValueError) as error:
        raise PianoError(f"the schema is not JSON: {error}; a JSON Schema looks like {EXAMPLE}") from error
    except RecursionError as error:
        raise PianoError("the schema is nested too deeply") from error
    if problem is None and not CONSTRAINING_KEYWORDS & schema.keys():
        problem = f"it does not restrict the value at all: {short_json(schema)}"
    if problem is not None:
        raise PianoError(f"the schema is wrong: {problem}; a JSON Schema looks like {EXAMPLE}")
    return schema


def _problem(schema: dict[str, Any]) -> str | None:
    problem = next(mismatches(PLAIN_META_SCHEMA, schema, ""), None)
    if problem is None and is_plain(schema):
        return None
    found = schema_problem(schema)
    return found and (problem or found)
