"""The records of batches, as they are stored: Batch, BatchAnswer; and what is said of them: BatchPlan, RowOutcome."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, NamedTuple
from uuid import UUID

from piano_jupyter.records import Notebook

KEY_BYTES = 16  #: of a row's key: the beginning of the digest of all that is asked


class BatchStatus(StrEnum):
    """The status of a batch.

    Attributes:
        RUNNING: Its rows are being asked.
        DONE: Each row has its answer, or its error.
        FAILED: It stopped after too many failures in a row; `Batch.reason` says why. Running it again continues it.
        INTERRUPTED: Its cell was interrupted, or its kernel stopped. Running it again continues it.
        CANCELLED: The user cancelled it. Running it again continues it.

    Example:
        >>> BatchStatus.DONE == "done"
        True
    """

    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    INTERRUPTED = "interrupted"
    CANCELLED = "cancelled"


@dataclass(frozen=True, kw_only=True, slots=True)
class Batch:
    """A question that is asked of each row of a table.

    Attributes:
        id: Its id.
        name: Its name, which no other batch has.
        template: The question, with `{{column}}` where a field of the row is put.
        model: The name of the model that answers.
        digest: A digest of all that is the same for each row: of template, schema, model, options and system prompt.
        inserted_at: When it was first run, in UTC.
        agent: The name of the agent that answers.
        schema: The JSON Schema that an answer has to fit, if it is to be JSON.
        server: The server that is asked: its address, or "embedded"; "" if that is not known.
        options: Options that are sent with each request, such as `temperature`.
        seq: Its place in the order of all batches of the database.
        status: Whether it is running, done, failed, interrupted or cancelled.
        reason: Why it failed, if it did.
        row_count: How many rows the table had when it was run last.
        owner: The process that runs it, or ran it last.
        notebook: The notebook that it was run from last.
        started_at: When it was run last, in UTC.
        finished_at: When it ended, in UTC; None while it runs.
        done: How many different rows have an answer.
        failed: How many have an error in place of one.

    Example:
        >>> await piano.batches()
        []
    """

    id: UUID
    name: str
    template: str
    model: str
    digest: str
    inserted_at: datetime
    agent: str = ""
    schema: Mapping[str, Any] | None = None
    server: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    seq: int = 0
    status: BatchStatus = BatchStatus.RUNNING
    reason: str | None = None
    row_count: int = 0
    owner: str | None = None
    notebook: Notebook = field(default_factory=Notebook)
    started_at: datetime | None = None
    finished_at: datetime | None = None
    done: int = 0
    failed: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class BatchAnswer:
    """The answer to one row of a batch, or the error in place of one."""

    key: bytes  #: `KEY_BYTES` of a digest of all that was asked: rows with one key have one answer
    place: int  #: the row's place in the table, from 0
    asked: Mapping[str, Any]  #: the fields of the row that the question names
    answer: Any = None  #: a text, or the JSON value that fits the schema of the batch
    error: str | None = None  #: why there is none
    usage: Mapping[str, Any] = field(default_factory=dict)
    answered_at: datetime


class RowOutcome(NamedTuple):
    """What came of a row of a batch."""

    key: bytes
    answer: Any  #: as `BatchAnswer` has it
    error: str | None


class BatchPlan(NamedTuple):
    """What a batch would ask.

    Attributes:
        rows: How many rows the table has.
        known: How many of them have an answer, or an error, already.
        tokens: About how many tokens the model would read for the others.

    Example:
        >>> plan = await piano.plan_map([{"city": "Paris"}, {"city": "Rome"}], "Which country is {{city}} in?")
        >>> plan.rows, plan.known
        (2, 0)
    """

    rows: int
    known: int
    tokens: int


@dataclass(frozen=True, kw_only=True, slots=True)
class RowDemand:
    """How many rows of a batch a process has in flight, and how many it would like to have."""

    batch_id: UUID
    owner: str  #: the process
    server: str  #: its address
    model: str
    in_flight: int  #: requests that have begun and not ended
    wanted: int  #: requests at once; 0 gives all back
    limit: int  #: requests at once that the server has room for, those of others included
