"""The nouns: Agent, Thread, Message, ToolCall, Job. What is kept, as it is kept.

Records are frozen; a change is a new record (`dataclasses.replace`). They know nothing of a database, a model or a
screen.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Literal
from uuid import UUID

Role = Literal["user", "assistant", "tool", "system"]
Source = Literal["magic", "panel", "api", "agent"]
ThreadStatus = Literal["active", "archived"]


class JobStatus(StrEnum):
    """Where a job stands."""

    QUEUED = "queued"  #: waits for its turn
    RUNNING = "running"  #: a consumer works on it
    DONE = "done"  #: its answer is kept
    FAILED = "failed"  #: it ended without an answer; `Job.reason` says why
    CANCELLED = "cancelled"  #: the user ended it


class CallStatus(StrEnum):
    """Where a tool call stands."""

    STARTED = "started"  #: kept before the tool runs
    OK = "ok"  #: the tool returned
    FAILED = "failed"  #: the tool refused, raised, was denied or timed out
    UNKNOWN = "unknown"  #: the kernel stopped while it ran


@dataclass(frozen=True, kw_only=True, slots=True)
class Agent:
    """Who answers: a model, a system prompt, and what it may use."""

    id: UUID
    name: str
    model: str
    inserted_at: datetime
    description: str = ""
    system_prompt: str = ""
    enabled_tools: tuple[str, ...] = ()
    enabled_skills: tuple[str, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)  #: sent with each request: temperature, seed, ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Thread:
    """A conversation."""

    id: UUID
    title: str
    inserted_at: datetime
    status: ThreadStatus = "active"
    primary_agent_id: UUID | None = None  #: who answers when nobody is addressed
    forked_from_thread_id: UUID | None = None
    forked_from_message_id: UUID | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Message:
    """What somebody said. Never changed: an edit is a new row with the same parent."""

    id: UUID
    thread_id: UUID
    role: Role
    content: str
    inserted_at: datetime
    seq: int = 0  #: the order in the store; given by the store
    parent_id: UUID | None = None  #: the message it follows; two with one parent are branches
    source: Source = "api"
    agent_id: UUID | None = None  #: who wrote it, for an assistant's
    job_id: UUID | None = None  #: the job that it was written in, for an assistant's
    reasoning: str = ""
    usage: Mapping[str, Any] = field(default_factory=dict)  #: model, prompt_tokens, completion_tokens, ...


@dataclass(frozen=True, kw_only=True, slots=True)
class ToolCall:
    """A request by the model to run a tool, and what came of it."""

    id: UUID
    message_id: UUID  #: the assistant message that asked for it
    name: str
    arguments: Mapping[str, Any]
    started_at: datetime
    seq: int = 0  #: the order in the store; given by the store
    status: CallStatus = CallStatus.STARTED
    result: str | None = None
    finished_at: datetime | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """The work of answering one message by one agent."""

    id: UUID
    thread_id: UUID
    message_id: UUID  #: the message to answer
    agent_id: UUID
    model: str
    inserted_at: datetime
    seq: int = 0  #: the order in the store; given by the store
    status: JobStatus = JobStatus.QUEUED
    attempt: int = 0  #: how often it was claimed
    owner: str | None = None  #: who runs it
    reason: str | None = None  #: why it failed
    started_at: datetime | None = None
    finished_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Rows(Sequence[tuple[Any, ...]]):
    """The result of a query: a list of tuples that knows its column names."""

    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        return iter(self.rows)

    def __getitem__(self, index: Any) -> Any:
        return self.rows[index]

    def df(self) -> Any:
        """Return a pandas DataFrame. Raises ImportError where pandas is not installed."""
        import pandas as pd  # type: ignore[import-not-found,import-untyped,unused-ignore]  # noqa: PLC0415  Optional.

        return pd.DataFrame(list(self.rows), columns=list(self.columns))


def short(identity: UUID) -> str:
    """Return the last six digits of an id: enough to name a row by hand (a UUIDv7 begins with the time)."""
    return identity.hex[-6:]


def branch(messages: Iterable[Message], jobs: Iterable[Job], leaf: UUID | None = None) -> list[Message]:
    """Return the conversation that leads to `leaf` (by default to the newest question), turn by turn.

    A turn is a user's message with the messages of the jobs that answer it. Somebody may say three things before the
    first is answered: each answer stands after its own question, not where the clock put it. Of an agent that answered
    one question more than once, the answer that the branch goes through stands, else the newest.
    """
    known = {message.id: message for message in sorted(messages, key=lambda each: each.seq)}
    if not known:
        return []
    answered = {job.id: job.message_id for job in jobs}
    questions = [message for message in known.values() if message.job_id is None]
    node = known.get(leaf) if leaf is not None else (questions or list(known.values()))[-1]
    path: list[Message] = []
    while node is not None:
        path.append(node)
        node = known.get(node.parent_id) if node.parent_id is not None else None
    on_path = {message.job_id for message in path if message.job_id is not None}
    told: list[Message] = []
    for asked in reversed(path):
        if asked.job_id is not None:
            continue
        told.append(asked)
        turn = [each for each in known.values() if each.job_id is not None and answered.get(each.job_id) == asked.id]
        chosen: dict[UUID | None, UUID | None] = {}
        for each in turn:
            if chosen.get(each.agent_id) not in on_path:
                chosen[each.agent_id] = each.job_id
        told += [each for each in turn if chosen[each.agent_id] == each.job_id]
    return told
