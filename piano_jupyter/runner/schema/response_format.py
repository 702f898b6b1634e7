"""ResponseFormat: the JSON Schema for an answer, from a type or a schema, and the conversion of the answer. Pure.

pydantic is supported without importing it, through two methods of its models.
"""

import dataclasses
import inspect
import json
import re
import types
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import date, datetime, time
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, NotRequired, Required, Union, get_args, get_origin, get_type_hints, is_typeddict
from uuid import UUID

from piano_jupyter.errors import PianoError
from piano_jupyter.runner.schema.coercion import SchemaMismatchError, coerce, mismatch
from piano_jupyter.runner.schema.schema_check import check_schema
from piano_jupyter.runner.schema.validator import FORMATS
from piano_jupyter.safe_files import read_file
from piano_jupyter.text.json_text import STRICT
from piano_jupyter.text.truncation import short_json, truncated
from piano_jupyter.tool import is_json, json_schema

STRING_FORMATS: dict[type, str] = {
    date: "date",
    datetime: "date-time",
    time: "time",
    UUID: "uuid",
}  # their FORMATS in JSON
MAX_SCHEMA_BYTES = 10_000_000
WRAPPERS = (Annotated, Required, NotRequired)
CODE_FENCE = re.compile(r"```[\w-]*[ \t]*\n(.*?)\n?[ \t]*```", re.DOTALL)
ACCEPTED = (
    "give a dataclass, a TypedDict, a pydantic model, a type such as list[str], or a JSON Schema (a dict or a file)"
)


@dataclass(frozen=True, slots=True)
class ResponseFormat:
    """The format of an answer: a JSON Schema, and the type of the value if there is one."""

    schema: Mapping[str, Any]
    kind: Any = None

    def value(self, text: str) -> Any:
        """Return the value in a text. Raises SchemaMismatchError: one sentence that names what does not match."""
        value = coerce(self.schema, parse_json(text))
        if self.kind is None:
            return value
        try:
            return _build(self.kind, value)
        except RecursionError as error:
            raise SchemaMismatchError("it is nested too deeply") from error
        except Exception as error:  # a type of the user's may raise anything
            raise SchemaMismatchError(f"{_name(self.kind)} rejects it: {_error_message(error)}") from error


def response_format_of(given: Any, workspace: str | Path = ".") -> ResponseFormat:
    """Return the format for a type, a JSON Schema, or a schema's text or file. Raises PianoError."""
    if isinstance(given, ResponseFormat):
        return given
    if isinstance(given, str | Path):
        return ResponseFormat(check_schema(_read_schema(given, workspace)))
    if isinstance(given, Mapping):
        return ResponseFormat(check_schema(given))
    if dataclasses.is_dataclass(given) and not isinstance(given, type):
        raise PianoError(f"give the class {_name(type(given))} itself, not an instance of it")
    schemas = _SchemaBuilder()
    schema = schemas.of(given)
    if not is_json([schema, schemas.definitions]):  # a Literal of values that JSON does not have
        raise _unsupported_type(given)
    return ResponseFormat({**schema, "$defs": schemas.definitions} if schemas.definitions else schema, given)


def parse_json(text: str) -> Any:
    """Parse a text as JSON, without a code fence around it. Raises SchemaMismatchError."""
    try:
        return STRICT.decode(strip_code_fence(text))
    except RecursionError as error:
        raise SchemaMismatchError("it is nested too deeply") from error
    except ValueError as error:
        raise SchemaMismatchError(f"it is not JSON ({error})" if text.strip() else "it is empty") from error


def strip_code_fence(text: str) -> str:
    """Return a text without whitespace and a code fence around it."""
    text = text.strip()
    fence = CODE_FENCE.fullmatch(text)
    return fence[1].strip() if fence else text


class _SchemaBuilder:
    """Builds JSON Schemas of types. A recursive type becomes a definition; all others are inlined."""

    def __init__(self) -> None:
        self.definitions: dict[str, Any] = {}
        self._in_progress: list[type] = []
        self._names: dict[type, str] = {}  # of recursive types

    def of(self, hint: Any) -> dict[str, Any]:
        try:
            return json_schema(hint, self._other_type)
        except TypeError as error:  # not hashable, so not a type
            raise _unsupported_type(hint) from error

    def _other_type(self, hint: Any) -> dict[str, Any]:
        if get_origin(hint) in WRAPPERS:
            return self.of(get_args(hint)[0])
        if not isinstance(hint, type):
            raise _unsupported_type(hint)
        if hint in STRING_FORMATS:
            return {"type": "string", "format": STRING_FORMATS[hint]}
        if issubclass(hint, Enum) and is_json([each.value for each in hint]):
            return {"enum": [_in_json(each) for each in hint]}
        if _is_pydantic(hint):
            schema = _schema_of_pydantic(hint)
            self.definitions |= schema.pop("$defs", {})
            return schema
        if dataclasses.is_dataclass(hint) or is_typeddict(hint):
            return self._record(hint)
        raise _unsupported_type(hint)

    def _record(self, kind: type) -> dict[str, Any]:
        if kind in self._in_progress:
            return self._reference(kind)
        self._in_progress.append(kind)
        properties = {name: self.of(hint) | _default(default) for name, hint, default in _fields(kind)}
        self._in_progress.pop()
        needed = [name for name, _, default in _fields(kind) if default is dataclasses.MISSING]
        schema: dict[str, Any] = {"title": kind.__name__, "type": "object", "properties": properties}
        schema |= {"required": needed, "additionalProperties": False}
        doc = kind.__dict__.get("__doc__")
        if doc and not doc.startswith(f"{kind.__name__}("):  # the docstring that dataclass generates
            schema["description"] = inspect.cleandoc(doc)
        if kind not in self._names:
            return schema
        self.definitions[self._names[kind]] = schema
        return self._reference(kind)

    def _reference(self, kind: type) -> dict[str, Any]:
        taken = self.definitions.keys() | set(self._names.values())
        name = kind.__name__ if kind.__name__ not in taken else f"{kind.__name__}_{len(taken)}"
        return {"$ref": f"#/$defs/{self._names.setdefault(kind, name)}"}


def _fields(kind: Any) -> list[tuple[str, Any, Any]]:
    """Return a record's fields: name, type, and default (`MISSING` if the field is required)."""
    try:
        hints = get_type_hints(kind, include_extras=True)
    except Exception as error:  # an annotation may be any expression
        raise PianoError(f"an annotation of {kind.__name__} cannot be resolved: {error}") from error
    if is_typeddict(kind):
        known = dict.fromkeys(kind.__required_keys__, Required)  # where annotations are strings, this has all fields
        needed = {name for name, hint in hints.items() if (_wrapper(hint) or known.get(name)) is Required}
        return [(name, hint, dataclasses.MISSING if name in needed else None) for name, hint in hints.items()]
    fields = [each for each in dataclasses.fields(kind) if each.init]
    return [
        (each.name, hints[each.name], each.default if each.default_factory is dataclasses.MISSING else None)
        for each in fields
    ]


def _wrapper(hint: Any) -> Any:
    return get_origin(hint) if get_origin(hint) in {Required, NotRequired} else None


def _default(value: Any) -> dict[str, Any]:
    return {"default": value} if value is not None and is_json(value) else {}


def _build(hint: Any, value: Any) -> Any:
    """Convert a value that matches the schema of a type to an instance of that type."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin in WRAPPERS:
        return _build(inner[0], value)
    if origin in {Union, types.UnionType}:
        return _build(next(each for each in inner if mismatch(response_format_of(each).schema, value) is None), value)
    kind = origin or hint
    if inner and kind in {list, tuple, Sequence}:
        hints = inner if kind is tuple and Ellipsis not in inner else [inner[0]] * len(value)
        items = [_build(each, item) for each, item in zip(hints, value, strict=True)]
        return tuple(items) if kind is tuple else items
    if inner and kind in {dict, Mapping}:
        return {name: _build(inner[1], each) for name, each in value.items()}
    return _instance(kind, value) if isinstance(kind, type) else value


def _instance(kind: Any, value: Any) -> Any:
    if kind in STRING_FORMATS:
        return FORMATS[STRING_FORMATS[kind]][0](value)
    if issubclass(kind, Enum):
        return next(each for each in kind if _in_json(each) == value)
    if kind in {float, tuple}:
        return kind(value)
    if _is_pydantic(kind):
        return kind.model_validate(value)
    if dataclasses.is_dataclass(kind) or is_typeddict(kind):
        return kind(**{name: _build(hint, value[name]) for name, hint, _ in _fields(kind) if name in value})
    return value


def _in_json(member: Enum) -> Any:
    """Return the value of a member as it is in JSON, where a tuple is a list."""
    return json.loads(json.dumps(member.value))


def _schema_of_pydantic(kind: Any) -> dict[str, Any]:
    try:
        schema: dict[str, Any] = kind.model_json_schema()
    except Exception as error:  # a field of a type that JSON does not have
        reason = truncated(str(error).partition("\n")[0], 200) or type(error).__name__
        raise PianoError(f"{_name(kind)} has no JSON Schema: {reason}") from error
    return schema


def _is_pydantic(kind: type) -> bool:
    return hasattr(kind, "model_json_schema") and hasattr(kind, "model_validate")


def _read_schema(given: str | Path, workspace: str | Path) -> Mapping[str, Any]:
    text, where = str(given), "the schema"
    if isinstance(given, Path) or not given.lstrip().startswith("{"):
        try:
            data = read_file(Path(given).expanduser(), workspace=workspace, max_bytes=MAX_SCHEMA_BYTES)
            text, where = data.decode("utf-8"), str(given)
        except (PianoError, UnicodeDecodeError, RuntimeError) as error:
            raise PianoError(f"{short_json(str(given))} is neither JSON nor the name of a file: {error}") from error
    try:
        schema = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise PianoError(f"{where} is not JSON: {error}") from error
    if not isinstance(schema, dict):
        raise PianoError(f"{where} is not a JSON Schema, which must be an object: {short_json(schema)}")
    return schema


def _unsupported_type(given: Any) -> PianoError:
    return PianoError(f"{_name(given)} cannot be the format of an answer; {ACCEPTED}")


def _name(given: Any) -> str:
    name = given.__name__ if isinstance(given, type) and not get_origin(given) else repr(given)
    return truncated(name, 120)


def _error_message(error: Exception) -> str:
    """Return a constructor's error message; for a pydantic model, its first one."""
    with suppress(Exception):
        first = error.errors()[0]  # type: ignore[attr-defined]
        return f"{'.'.join(map(str, first['loc'])) or 'it'!r}: {first['msg']}"
    return str(error) or type(error).__name__
