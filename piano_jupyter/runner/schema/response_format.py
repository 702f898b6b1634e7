"""Form: what an answer is asked for as, from a type or a JSON Schema, and how a text becomes a value of it. Pure.

pydantic is used where the user has it, by the two methods that its models bring along.
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
from piano_jupyter.runner.schema.coercion import SchemaMismatchError, fitted, misfit
from piano_jupyter.runner.schema.schema_check import checked_schema
from piano_jupyter.runner.schema.validator import FORMATS
from piano_jupyter.safe_files import read_file
from piano_jupyter.text.json_text import STRICT
from piano_jupyter.text.truncation import short_json, truncated
from piano_jupyter.tool import is_json, json_schema

TEXTS: dict[type, str] = {date: "date", datetime: "date-time", time: "time", UUID: "uuid"}  # their FORMATS in JSON
LARGEST_SCHEMA = 10_000_000  # bytes
WRAPPERS = (Annotated, Required, NotRequired)
FENCED = re.compile(r"```[\w-]*[ \t]*\n(.*?)\n?[ \t]*```", re.DOTALL)
TAKEN = "give a dataclass, a TypedDict, a pydantic model, a type such as list[str], or a JSON Schema (a dict or a file)"


@dataclass(frozen=True, slots=True)
class ResponseFormat:
    """What an answer is asked for as: a JSON Schema, and the type of the value where there is one."""

    schema: Mapping[str, Any]
    kind: Any = None

    def value(self, text: str) -> Any:
        """Return what a text says, checked. Raises SchemaMismatchError: one sentence that names what does not fit."""
        value = fitted(self.schema, parsed(text))
        if self.kind is None:
            return value
        try:
            return _built(self.kind, value)
        except RecursionError as error:
            raise SchemaMismatchError("it is nested too deep") from error
        except (ArithmeticError, TypeError, ValueError) as error:
            raise SchemaMismatchError(f"{_name(self.kind)} does not take it: {_sentence(error)}") from error


def form_of(thing: Any, workspace: str | Path = ".") -> ResponseFormat:
    """Return the form that a user means by a type, a JSON Schema, or the text or file of one. Raises PianoError."""
    if isinstance(thing, ResponseFormat):
        return thing
    if isinstance(thing, str | Path):
        return ResponseFormat(checked_schema(_read(thing, workspace)))
    if isinstance(thing, Mapping):
        return ResponseFormat(checked_schema(thing))
    if dataclasses.is_dataclass(thing) and not isinstance(thing, type):
        raise PianoError(f"{_name(type(thing))} itself is the schema, not a value of it")
    schemas = _SchemaBuilder()
    schema = schemas.of(thing)
    if not is_json([schema, schemas.definitions]):  # a Literal of what JSON does not have
        raise _no_form(thing)
    return ResponseFormat({**schema, "$defs": schemas.definitions} if schemas.definitions else schema, thing)


def parsed(text: str) -> Any:
    """Return the JSON that a text is, without the code fence around it. Raises SchemaMismatchError."""
    try:
        return STRICT.decode(unfenced(text))
    except RecursionError as error:
        raise SchemaMismatchError("it is nested too deep") from error
    except ValueError as error:
        raise SchemaMismatchError(f"it is no JSON ({error})" if text.strip() else "it is empty") from error


def unfenced(text: str) -> str:
    """Return a text without white space and a code fence around it."""
    text = text.strip()
    fence = FENCED.fullmatch(text)
    return fence[1].strip() if fence else text


class _SchemaBuilder:
    """JSON Schemas of types. A type that holds itself is a definition, all others stand where they are used."""

    def __init__(self) -> None:
        self.definitions: dict[str, Any] = {}
        self._open: list[type] = []
        self._names: dict[type, str] = {}  # of those that hold themselves

    def of(self, hint: Any) -> dict[str, Any]:
        try:
            return json_schema(hint, self._other)
        except TypeError as error:  # it has no hash, so it is no type
            raise _no_form(hint) from error

    def _other(self, hint: Any) -> dict[str, Any]:
        if get_origin(hint) in WRAPPERS:
            return self.of(get_args(hint)[0])
        if not isinstance(hint, type):
            raise _no_form(hint)
        if hint in TEXTS:
            return {"type": "string", "format": TEXTS[hint]}
        if issubclass(hint, Enum) and is_json(members := [each.value for each in hint]):
            return {"enum": members}
        if _is_pydantic(hint):
            schema: dict[str, Any] = hint.model_json_schema()  # type: ignore[attr-defined]
            self.definitions |= schema.pop("$defs", {})
            return schema
        if dataclasses.is_dataclass(hint) or is_typeddict(hint):
            return self._record(hint)
        raise _no_form(hint)

    def _record(self, kind: type) -> dict[str, Any]:
        if kind in self._open:
            return self._reference(kind)
        self._open.append(kind)
        properties = {name: self.of(hint) | _default(default) for name, hint, default in _fields(kind)}
        self._open.pop()
        needed = [name for name, _, default in _fields(kind) if default is dataclasses.MISSING]
        schema: dict[str, Any] = {"title": kind.__name__, "type": "object", "properties": properties}
        schema |= {"required": needed, "additionalProperties": False}
        told = kind.__dict__.get("__doc__")
        if told and not told.startswith(f"{kind.__name__}("):  # which dataclass writes by itself
            schema["description"] = inspect.cleandoc(told)
        if kind not in self._names:
            return schema
        self.definitions[self._names[kind]] = schema
        return self._reference(kind)

    def _reference(self, kind: type) -> dict[str, Any]:
        taken = self.definitions.keys() | set(self._names.values())
        name = kind.__name__ if kind.__name__ not in taken else f"{kind.__name__}_{len(taken)}"
        return {"$ref": f"#/$defs/{self._names.setdefault(kind, name)}"}


def _fields(kind: Any) -> list[tuple[str, Any, Any]]:
    """Return a record's fields: name, type, and the default (`MISSING` where there must be a value)."""
    try:
        hints = get_type_hints(kind, include_extras=True)
    except NameError as error:
        raise PianoError(f"{kind.__name__} has an annotation that cannot be looked up: {error}") from error
    if is_typeddict(kind):
        known = dict.fromkeys(kind.__required_keys__, Required)  # where annotations are texts, it takes all for needed
        needed = {name for name, hint in hints.items() if (_wrapper(hint) or known.get(name)) is Required}
        return [(name, hint, dataclasses.MISSING if name in needed else None) for name, hint in hints.items()]
    made = [each for each in dataclasses.fields(kind) if each.init]
    return [
        (each.name, hints[each.name], each.default if each.default_factory is dataclasses.MISSING else None)
        for each in made
    ]


def _wrapper(hint: Any) -> Any:
    return get_origin(hint) if get_origin(hint) in {Required, NotRequired} else None


def _default(value: Any) -> dict[str, Any]:
    return {"default": value} if value is not None and is_json(value) else {}


def _built(hint: Any, value: Any) -> Any:
    """Return a value that fits the schema of a type as an instance of that type."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin in WRAPPERS:
        return _built(inner[0], value)
    if origin in {Union, types.UnionType}:
        return _built(next(each for each in inner if misfit(form_of(each).schema, value) is None), value)
    kind = origin or hint
    if inner and kind in {list, tuple, Sequence}:
        hints = inner if kind is tuple and Ellipsis not in inner else [inner[0]] * len(value)
        items = [_built(each, item) for each, item in zip(hints, value, strict=True)]
        return tuple(items) if kind is tuple else items
    if inner and kind in {dict, Mapping}:
        return {name: _built(inner[1], each) for name, each in value.items()}
    return _instance(kind, value) if isinstance(kind, type) else value


def _instance(kind: Any, value: Any) -> Any:
    if kind in TEXTS:
        return FORMATS[TEXTS[kind]][0](value)
    if kind in {float, tuple} or issubclass(kind, Enum):
        return kind(value)
    if _is_pydantic(kind):
        return kind.model_validate(value)
    if dataclasses.is_dataclass(kind) or is_typeddict(kind):
        return kind(**{name: _built(hint, value[name]) for name, hint, _ in _fields(kind) if name in value})
    return value


def _is_pydantic(kind: type) -> bool:
    return hasattr(kind, "model_json_schema") and hasattr(kind, "model_validate")


def _read(given: str | Path, workspace: str | Path) -> Mapping[str, Any]:
    text, where = str(given), "the schema"
    if isinstance(given, Path) or not given.lstrip().startswith("{"):
        try:
            data = read_file(Path(given).expanduser(), workspace=workspace, max_bytes=LARGEST_SCHEMA)
            text, where = data.decode("utf-8"), str(given)
        except (PianoError, UnicodeDecodeError, RuntimeError) as error:
            raise PianoError(f"{short_json(str(given))} is neither JSON nor the name of a file: {error}") from error
    try:
        schema = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise PianoError(f"{where} is no JSON: {error}") from error
    if not isinstance(schema, dict):
        raise PianoError(f"{where} is no JSON Schema, which is an object: {short_json(schema)}")
    return schema


def _no_form(thing: Any) -> PianoError:
    return PianoError(f"an answer cannot be asked for as {_name(thing)}; {TAKEN}")


def _name(thing: Any) -> str:
    name = thing.__name__ if isinstance(thing, type) and not get_origin(thing) else repr(thing)
    return truncated(name, 120)


def _sentence(error: Exception) -> str:
    """Return what a constructor says; of a pydantic model the first of its findings."""
    with suppress(Exception):
        first = error.errors()[0]  # type: ignore[attr-defined]
        return f"{'.'.join(map(str, first['loc'])) or 'it'!r}: {first['msg']}"
    return str(error) or type(error).__name__
