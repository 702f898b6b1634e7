"""Answers as columns: their names, their types in JSON, their values. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from piano_jupyter.batch.row_answer import RowAnswer
from piano_jupyter.text.json_text import mapping

ANSWER, ERROR = "answer", "error"
TYPES = {str: "string", bool: "boolean", int: "integer", float: "number"}  #: in JSON, of values of a column's own type


@dataclass(frozen=True, slots=True)
class AnswerColumn:
    """A column of answers; `kind` is its type in JSON, "" for lists, records and mixed types."""

    name: str
    kind: str
    values: Sequence[Any]


def answer_fields(schema: Mapping[str, Any] | None) -> dict[str, str] | None:
    """Return the fields of an answer, each with its type in JSON; None if an answer is no record."""
    root = schema or {}
    schema = _resolved(root, root)
    properties = mapping(schema.get("properties"))
    if schema.get("type") != "object" or not properties:
        return None
    return {str(name): _kind(mapping(each), root) for name, each in properties.items()}


def answer_columns(
    answers: Iterable[RowAnswer], count: int, schema: Mapping[str, Any] | None, taken: Iterable[str]
) -> list[AnswerColumn]:
    """Return the columns of the answers to `count` rows; the last one says why a row has none.

    A row that has no answer yet has null in all of them. No column gets a name that is `taken`, see `free_names`.
    """
    fields = answer_fields(schema)
    names = [ANSWER] if fields is None else list(fields)
    kinds = ["string" if schema is None else _kind(schema, schema)] if fields is None else list(fields.values())
    columns: list[list[Any]] = [[] for _ in [*names, ERROR]]
    for answer in answers:
        record = mapping(answer.value)
        found = [answer.value] if fields is None else [record.get(name) for name in names]
        for column, value in zip(columns, [*found, answer.error], strict=True):
            column.append(value)
    for column in columns:
        column.extend([None] * (count - len(column)))
    free = free_names([*names, ERROR], taken)
    return [AnswerColumn(*each) for each in zip(free, [*kinds, "string"], columns, strict=True)]


def free_names(names: Iterable[str], taken: Iterable[str]) -> list[str]:
    """Return the names of new columns: as they are, or with `_2`, `_3` and so on where there is one of that name.

    As in a database, the case of letters does not make two names different.
    """
    known, found = {name.casefold() for name in taken}, []
    for name in names:
        free, number = name, 1
        while free.casefold() in known:
            number += 1
            free = f"{name}_{number}"
        known.add(free.casefold())
        found.append(free)
    return found


def _resolved(schema: Mapping[str, Any], root: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the definition that a schema refers to, or the schema itself."""
    reference = schema.get("$ref")
    if isinstance(reference, str) and reference.startswith("#/$defs/"):
        return mapping(mapping(root.get("$defs")).get(reference.removeprefix("#/$defs/")))
    return schema


def _kind(schema: Mapping[str, Any], root: Mapping[str, Any]) -> str:
    """Return the only type of a schema's values besides null, if it is one that a column can have; "" if not."""
    schema = _resolved(schema, root)
    given = schema.get("type")
    if "enum" in schema:
        kinds = {TYPES.get(type(each), "") for each in schema["enum"] if each is not None}
    elif "anyOf" in schema:
        kinds = {_kind(mapping(each), root) for each in schema["anyOf"] if mapping(each).get("type") != "null"}
    else:
        kinds = {str(each) for each in (given if isinstance(given, list) else [given]) if each != "null"}
    kind, *others = kinds or {""}
    return kind if not others and kind in TYPES.values() else ""
