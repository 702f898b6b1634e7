"""Whether a JSON Schema that somebody wrote is one: a wrong one is refused before a model is asked by it. Pure."""

import json
from collections.abc import Mapping
from typing import Any

from piano_jupyter.errors import PianoError
from piano_jupyter.runner.schema.coercion import TYPES, is_plain, misfits
from piano_jupyter.runner.schema.validator import schema_problem
from piano_jupyter.text.truncation import short_json

EXAMPLE = '{"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}'
SAYING = {"type", "properties", "items", "prefixItems", "enum", "const", "anyOf", "oneOf", "allOf", "not", "$ref"}

#: The words that are checked without `validator`, as a schema of schemas. It holds itself, for those within.
PLAIN: dict[str, Any] = {"type": "object"}
PLAIN["properties"] = {
    "title": {"type": "string"},
    "description": {"type": "string"},
    "format": {"type": "string"},
    "type": {"anyOf": [{"enum": [*TYPES]}, {"type": "array", "minItems": 1, "items": {"enum": [*TYPES]}}]},
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
    found = schema_problem(schema)
    return found and (problem or found)
