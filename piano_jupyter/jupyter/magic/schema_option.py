"""The value of --json: a variable that holds a schema or a type, a file, or JSON itself."""

import ast
import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, is_typeddict

from piano_jupyter.errors import NotFoundError, PianoError
from piano_jupyter.text.expressions import parse_expression
from piano_jupyter.text.truncation import truncated

BUILT_IN: dict[str, Any] = {each.__name__: each for each in (bool, dict, float, int, list, str, tuple)}
SCHEMA_HINT = "--json takes a variable (a dataclass, a TypedDict, a pydantic model, a dict), a *.json file, or JSON"


def schema_named(written: str, variables: Mapping[str, Any]) -> Any:
    """Return the schema that was named. Names may have dots and types in brackets; nothing is called."""
    if written.lstrip().startswith("{"):
        return written
    if written.lower().endswith(".json"):
        return Path(written)
    try:
        found = _evaluate(_parse(written), variables)
    except PianoError:
        raise
    except Exception as error:
        raise PianoError(f"--json {written} cannot be read: {type(error).__name__}: {error}") from error
    if found is None:
        raise PianoError(f"{written} is None; {SCHEMA_HINT}")
    return found


def _parse(written: str) -> ast.expr:
    try:
        return parse_expression(written)
    except ValueError:
        raise PianoError(f"{truncated(written, 200)!r} is not a schema; {SCHEMA_HINT}") from None


def schemas_in(variables: Mapping[str, Any]) -> list[str]:
    """Return the names of the variables that can be a schema."""
    return sorted(name for name, value in variables.items() if not name.startswith("_") and _is_schema(value))


def _is_schema(value: Any) -> bool:
    if isinstance(value, type):
        return dataclasses.is_dataclass(value) or is_typeddict(value) or hasattr(value, "model_json_schema")
    return isinstance(value, dict)


def _evaluate(node: ast.expr, variables: Mapping[str, Any]) -> Any:
    match node:
        case ast.Name(id=name):
            if name not in variables and name not in BUILT_IN:
                raise NotFoundError(f"{NotFoundError.among('variable', name, schemas_in(variables))}; {SCHEMA_HINT}")
            return variables.get(name, BUILT_IN.get(name))
        case ast.Attribute(value=inner, attr=attribute):
            return getattr(_evaluate(inner, variables), attribute)
        case ast.Subscript(value=inner, slice=index):
            return _evaluate(inner, variables)[_evaluate(index, variables)]
        case ast.BinOp(left=left, op=ast.BitOr(), right=right):
            return _evaluate(left, variables) | _evaluate(right, variables)
        case ast.Tuple(elts=parts):
            return tuple(_evaluate(each, variables) for each in parts)
        case ast.Constant(value=value):
            return value
        case _:
            raise PianoError(f"only names, dots and brackets are allowed; {SCHEMA_HINT}")
