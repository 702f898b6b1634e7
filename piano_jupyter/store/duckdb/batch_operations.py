"""What the operations on batches do to the rows, inside a transaction that the caller begins and ends.

Keys come many at once, as the bytes of one text: they are joined in the database, and nowhere held as objects.
"""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from piano_jupyter.batch_records import KEY_BYTES, Batch, BatchAnswer, BatchStatus, RowDemand, RowOutcome
from piano_jupyter.errors import StoreError
from piano_jupyter.store.base import Turn
from piano_jupyter.store.duckdb import batch_queries
from piano_jupyter.store.duckdb.codec import NOTEBOOK_COLUMNS, utc
from piano_jupyter.store.duckdb.operations import Operations
from piano_jupyter.text.json_text import parse_json

RUN_COLUMNS = ("id", "agent", "server", "status", "reason", "row_count", "owner", "started_at", "finished_at")


class BatchOperations(Operations):
    """All operations of a store, those on batches, too."""

    def open_batch(self, batch: Batch, alive: Collection[str] = ()) -> Batch:
        begun = replace(batch, status=BatchStatus.RUNNING, reason=None, finished_at=None)
        known = next((each for each in self.batches() if each.name.casefold() == batch.name.casefold()), None)
        if known is None:
            return self._add(begun)
        if known.digest != batch.digest:
            raise StoreError(
                f"the batch {known.name!r} asks something else; choose another name, or delete that batch first"
            )
        if known.status is BatchStatus.RUNNING and known.owner != batch.owner and known.owner in alive:
            where = known.notebook.name or "another process"
            raise StoreError(f"the batch {known.name!r} runs already, in {where}: wait for it, or cancel it")
        self._connection.execute(batch_queries.FORGET_UNAVAILABLE, {"batch_id": known.id})
        known = self._get(Batch, known.id)
        run = replace(known, agent=begun.agent, server=begun.server, row_count=begun.row_count, owner=begun.owner)
        run = replace(run, status=begun.status, reason=None, started_at=begun.started_at, finished_at=None)
        return self._move_batch(replace(run, notebook=begun.notebook))

    def end_batch(self, batch: Batch, status: BatchStatus, reason: str | None, now: datetime) -> Batch:
        known = self._get(Batch, batch.id)
        if known.status is not BatchStatus.RUNNING or known.owner != batch.owner:
            return known
        return self._move_batch(replace(known, status=status, reason=reason, finished_at=now))

    def cancel_batch(self, batch_id: UUID, now: datetime) -> Batch:
        known = self._get(Batch, batch_id)
        return self.end_batch(known, BatchStatus.CANCELLED, None, now)

    def retry_batch(self, batch_id: UUID) -> Batch:
        self._get(Batch, batch_id)
        self._connection.execute(batch_queries.FORGET_ERRORS, {"batch_id": batch_id})
        return self._get(Batch, batch_id)

    def delete_batch(self, batch_id: UUID) -> None:
        known = self._find(Batch, batch_id)
        if known is not None and known.status is BatchStatus.RUNNING:
            raise StoreError(f"the batch {known.name!r} runs: wait for it, or cancel it first")
        for query in batch_queries.DELETE_BATCHES.values():
            self._connection.execute(query, {"ids": [batch_id]})

    def batches(self) -> list[Batch]:
        return self._all(Batch, batch_queries.BATCHES)

    def known_rows(self, batch_id: UUID | None, keys: bytes) -> bytes:
        if not keys:
            return b""
        found = self._connection.execute(batch_queries.KNOWN_ROWS, {"batch_id": batch_id, **_listed(keys)})
        return str(found.fetchall()[0][0]).encode()

    def copy_answers(self, batch_id: UUID, keys: bytes, place: int) -> None:
        self._get(Batch, batch_id)
        if keys:
            values = {"batch_id": batch_id, "place": place, **_listed(keys)}
            self._connection.execute(batch_queries.COPY_ANSWERS, values)

    def add_answers(self, batch_id: UUID, answers: Sequence[BatchAnswer]) -> Batch:
        batch = self._get(Batch, batch_id)
        first: dict[bytes, BatchAnswer] = {}
        for each in answers:
            first.setdefault(each.key, each)
        rows = [_row_of(each, is_json=batch.schema is not None) for each in first.values()]
        if rows:
            columns = {name: [row[name] for row in rows] for name in rows[0]}
            self._connection.execute(batch_queries.ADD_ANSWERS, {"batch_id": batch_id, **columns})
        return self._get(Batch, batch_id)

    def outcomes(self, batch_id: UUID, keys: bytes) -> list[RowOutcome]:
        if not keys:
            return []
        is_json = self._get(Batch, batch_id).schema is not None
        found = self._connection.execute(batch_queries.OUTCOMES, {"batch_id": batch_id, **_listed(keys)}).fetchall()
        try:
            return [
                RowOutcome(
                    keys[at * KEY_BYTES : (at + 1) * KEY_BYTES],
                    parse_json(answer) if is_json and answer is not None else answer,
                    error,
                )
                for at, answer, error in found
            ]
        except (ValueError, RecursionError) as problem:
            raise _unreadable(problem) from problem

    def answers_from(self, batch_id: UUID, place: int, key: bytes, most: int) -> list[BatchAnswer]:
        is_json = self._get(Batch, batch_id).schema is not None
        values = {"batch_id": batch_id, "place": place, "key": UUID(bytes=key), "most": most}
        found = self._connection.execute(batch_queries.ANSWERS_FROM, values)
        return [_answer_of(*row, is_json=is_json) for row in found.fetchall()]

    def lease_rows(self, demand: RowDemand, turn: Turn | None = None) -> int:
        del turn  # a process that has the store alone decides by itself
        return min(demand.wanted, demand.limit)

    def _move_batch(self, batch: Batch) -> Batch:
        return self._update(batch, (*RUN_COLUMNS, *NOTEBOOK_COLUMNS))


def _listed(keys: bytes) -> dict[str, Any]:
    """Return keys as a query takes them."""
    if len(keys) % KEY_BYTES:
        raise StoreError(f"{len(keys)} bytes are no keys of {KEY_BYTES} bytes each")
    return {"keys": keys.hex(",", KEY_BYTES), "count": len(keys) // KEY_BYTES}


def _row_of(answer: BatchAnswer, *, is_json: bool) -> dict[str, Any]:
    if len(answer.key) != KEY_BYTES:
        raise StoreError(f"{len(answer.key)} bytes are no key of {KEY_BYTES} bytes")
    try:
        return {
            "key": UUID(bytes=answer.key),
            "place": answer.place,
            "asked": _json(answer.asked),
            "answer": None
            if answer.error is not None
            else _json(answer.answer)
            if is_json
            else _whole(str(answer.answer)),
            "error": None if answer.error is None else _whole(answer.error),
            "usage": _json(answer.usage),
            "answered_at": utc(answer.answered_at),
        }
    except (TypeError, ValueError, RecursionError) as error:
        raise StoreError(f"the answer to row {answer.place} cannot be stored as JSON: {error}") from error


def _json(value: Any) -> str:
    plain = dict(value) if isinstance(value, Mapping) else value
    text = json.dumps(plain, ensure_ascii=False)
    return text if text.isascii() or _whole(text) == text else json.dumps(plain)


def _whole(text: str) -> str:
    """Return a text without halves of surrogate pairs, which cannot be stored."""
    return text.encode("utf-8", "replace").decode()


def _answer_of(
    key: UUID, place: int, asked: str, answer: str | None, error: str | None, usage: str, at: datetime, *, is_json: bool
) -> BatchAnswer:
    """Raise StoreError for a row that another program has changed."""
    try:
        return BatchAnswer(
            key=key.bytes,
            place=place,
            asked=parse_json(asked),
            answer=parse_json(answer) if is_json and answer is not None else answer,
            error=error,
            usage=parse_json(usage),
            answered_at=at.replace(tzinfo=UTC),
        )
    except (ValueError, RecursionError) as problem:
        raise _unreadable(problem) from problem


def _unreadable(problem: Exception) -> StoreError:
    return StoreError(f"the database holds an unreadable answer of a batch ({problem}): another program has changed it")
