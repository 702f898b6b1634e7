"""Convert records to rows and back: columns have the names of their fields, so one pair of functions serves all."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields
from datetime import UTC, datetime
from typing import Any, TypeVar, get_args

from piano_jupyter.attachments.attachment import Attachment
from piano_jupyter.batch_records import Batch, BatchStatus
from piano_jupyter.errors import StoreError
from piano_jupyter.records import (
    Agent,
    Approval,
    CallStatus,
    Inserted,
    Job,
    JobStatus,
    Message,
    Mode,
    Notebook,
    Thread,
    ToolCall,
)
from piano_jupyter.store.duckdb.lock import ELSEWHERE

Record = TypeVar("Record", Agent, Thread, Message, ToolCall, Approval, Job, Batch)


def row_of(record: Agent | Thread | Message | ToolCall | Approval | Job | Batch) -> dict[str, Any]:
    """Return the values to bind: times in UTC without a zone, lists and mappings as JSON text."""
    values = {field.name: getattr(record, field.name) for field in fields(record)}
    if isinstance(record, Job | Batch):
        values |= zip(NOTEBOOK_COLUMNS, values.pop("notebook"), strict=True)
    return {name: ENCODERS[name](value) if name in ENCODERS else value for name, value in values.items()}


def records_of(kind: type[Record], columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> list[Record]:
    """Return the records in these rows; columns that are no fields are left out.

    Raises StoreError for a value that Piano does not write: another program has changed the row.
    """
    decoders = DECODERS | ({"status": STATUSES[kind]} if kind in STATUSES else {})
    names = {field.name for field in fields(kind)}
    plan = [(at, name, decoders.get(name, _unchanged)) for at, name in enumerate(columns) if name in names]
    parts = [columns.index(name) for name in NOTEBOOK_COLUMNS if "notebook" in names and name in columns]
    try:
        return [
            kind(**{name: decode(row[at]) for at, name, decode in plan}, **_notebook_in(row, parts)) for row in rows
        ]
    except (ValueError, TypeError, AttributeError, KeyError, RecursionError) as error:
        raise StoreError(
            f"the database holds an unreadable {kind.__name__} ({error}): another program has changed it; undo that, "
            f"or {ELSEWHERE}"
        ) from error


def _notebook_in(row: Sequence[Any], parts: Sequence[int]) -> dict[str, Any]:
    """Return the notebook of a job or batch by its field; nothing for another record, or a table without it."""
    return {"notebook": Notebook(*(row[at] for at in parts))} if parts else {}


def utc(time: datetime) -> datetime:
    """Return a time as it is stored: in UTC, without a zone."""
    if time.tzinfo is None:
        raise StoreError(f"the time {time.isoformat()} has no zone, so it is ambiguous; use datetime.now(UTC)")
    return time.astimezone(UTC).replace(tzinfo=None)


def _aware(time: datetime) -> datetime:
    return time.replace(tzinfo=UTC)


def _json_of_mapping(value: Mapping[str, Any]) -> str:
    try:
        return json.dumps(dict(value), ensure_ascii=False)
    except (TypeError, ValueError) as error:
        raise StoreError(f"{value!r:.200} cannot be stored as JSON: {error}") from error


def _mapping_of_json(text: str) -> Mapping[str, Any]:
    value = json.loads(text)
    if not isinstance(value, dict):
        raise TypeError(f"{text:.100} is no JSON object")
    return value


def _json_of_list(value: Iterable[str]) -> str:
    return json.dumps(list(value), ensure_ascii=False)


def _tuple_of_json(text: str) -> tuple[str, ...]:
    value = json.loads(text)
    if not (isinstance(value, list) and all(isinstance(each, str) for each in value)):
        raise TypeError(f"{text:.100} is no JSON list of texts")
    return tuple(value)


def _json_of_pairs(value: Iterable[Inserted]) -> str:
    return json.dumps([list(each) for each in value], ensure_ascii=False)


def _inserted_of_json(text: str) -> tuple[Inserted, ...]:
    pairs = json.loads(text)
    if not all(isinstance(each, str) for pair in pairs for each in pair):
        raise TypeError(f"{text:.100} is no JSON list of pairs of texts")
    return tuple(Inserted(*pair) for pair in pairs)


def json_of_attachments(value: Iterable[Attachment]) -> str:
    """Return attachments as a message or a call lists its own, without their content."""
    return json.dumps([{name: getattr(each, name) for name in REFERENCE} for each in value], ensure_ascii=False)


def attachments_of_json(text: str) -> tuple[Attachment, ...]:
    """Return the attachments of such a list."""
    return tuple(Attachment(**{name: each[name] for name in REFERENCE}) for each in json.loads(text))


def _mode(text: str) -> str:
    if text not in get_args(Mode):
        raise ValueError(f"{text!r:.100} is no mode")
    return text


def _unchanged(value: Any) -> Any:
    return value


def _or_none(convert: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Return a converter that leaves None as it is."""
    return lambda value: None if value is None else convert(value)


REFERENCE = ("sha256", "mime", "size", "name", "width", "height")  #: what a message or a call keeps of an attachment
NOTEBOOK_COLUMNS = ("notebook_id", "notebook_name")  #: of a job or batch: the parts of its notebook, in order
TIMES = ("inserted_at", "started_at", "finished_at", "requested_at", "decided_at")
MAPPINGS = ("options", "usage", "arguments")
LISTS = ("enabled_tools", "enabled_skills", "rules")
STATUSES: Mapping[type, type[JobStatus | CallStatus | BatchStatus]] = {
    Job: JobStatus,
    ToolCall: CallStatus,
    Batch: BatchStatus,
}
ENCODERS: dict[str, Callable[[Any], Any]] = (
    dict.fromkeys(TIMES, _or_none(utc))
    | dict.fromkeys(MAPPINGS, _json_of_mapping)
    | dict.fromkeys(LISTS, _json_of_list)
    | {
        "status": str,
        "schema": _or_none(_json_of_mapping),
        "inserted": _json_of_pairs,
        "attachments": json_of_attachments,
    }
)
DECODERS: dict[str, Callable[[Any], Any]] = (
    dict.fromkeys(TIMES, _or_none(_aware))
    | dict.fromkeys(MAPPINGS, _mapping_of_json)
    | dict.fromkeys(LISTS, _tuple_of_json)
    | {
        "schema": _or_none(_mapping_of_json),
        "mode": _mode,
        "inserted": _inserted_of_json,
        "attachments": attachments_of_json,
    }
)
