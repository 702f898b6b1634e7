"""The nouns: Agent, Thread, Message, ToolCall, Approval, Job. What is kept, as it is kept.

Records are frozen; a change is a new record (`dataclasses.replace`). They know nothing of a database, a model or a
screen.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Literal, NamedTuple
from uuid import UUID

from piano_jupyter.text.markdown import CodeBlock, code_blocks

Role = Literal["user", "assistant", "tool", "system"]
Source = Literal["magic", "panel", "api", "agent"]
ThreadStatus = Literal["active", "archived"]
Mode = Literal["read", "write", "full"]  # what tools may do

EMBEDDED = "embedded"  #: the server of a job that was sent to the embedded model


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


class ModelState(StrEnum):
    """Where a model stands on its server."""

    LOADED = "loaded"  #: it answers at once
    LOADING = "loading"  #: it is being started
    UNLOADING = "unloading"  #: it is being stopped
    UNLOADED = "unloaded"  #: it is loaded when it is asked


@dataclass(frozen=True, kw_only=True, slots=True)
class Model:
    """A model, as its server tells of it."""

    name: str
    state: ModelState = ModelState.LOADED
    context: int | None = None  #: tokens that fit into its window, where the server says so
    aliases: tuple[str, ...] = ()  #: other names that it answers to
    description: str = ""


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
    max_iterations: int | None = None  #: how many times a turn may ask the model; None: as the knob says


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
    #: What it cost, as far as the server tells: model; prompt_tokens, cached_tokens, completion_tokens;
    #: tokens_per_second; first_token_s, load_s (seconds from asking to the first token, and of loading within that);
    #: and the skills that it was written with: their versions by name.
    usage: Mapping[str, Any] = field(default_factory=dict)

    @property
    def code_blocks(self) -> list[CodeBlock]:
        """The code blocks of the text, in order: each a `str` with its `language`."""
        return code_blocks(self.content)


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

    @property
    def outcome(self) -> str:
        """What became of it, in a word or two for people."""
        if self.status is CallStatus.FAILED and (self.result or "").startswith("denied: "):
            return "denied"
        return {CallStatus.STARTED: "running", CallStatus.UNKNOWN: "outcome unknown"}.get(self.status, self.status)


@dataclass(frozen=True, kw_only=True, slots=True)
class Approval:
    """A question to the user whether a tool call may run, and the answer. A call that is asked about anew has several.

    It holds the whole call, which is kept as one only when it begins.
    """

    id: UUID
    call_id: UUID
    message_id: UUID  #: the assistant message that asked for the call
    job_id: UUID
    thread_id: UUID
    name: str
    arguments: Mapping[str, Any]
    digest: str  #: of what a yes is for: the tool, its arguments, the workspace and the mode
    question: str  #: for people
    reason: str  #: why it is asked
    always: str  #: the rule that "always" adds; "" if none does
    requested_at: datetime
    seq: int = 0  #: the order in the store; given by the store
    allowed: bool | None = None  #: None: not answered
    note: str = ""  #: what the answer was: "no", "always", that nobody gave one
    decided_at: datetime | None = None


class JobTerms(NamedTuple):
    """What a question is sent under. A job never runs under a wider mode or looser rules than it was sent under."""

    mode: Mode = "read"
    rules: tuple[str, ...] = ()
    server: str = ""  #: its address, or `EMBEDDED`; "" where that is not known


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """The work of answering one message by one agent."""

    id: UUID
    thread_id: UUID
    message_id: UUID  #: the message to answer
    agent_id: UUID
    model: str
    inserted_at: datetime
    hops: int = 0  #: how many agents have handed the question on since the user asked
    schema: Mapping[str, Any] | None = None  #: the JSON Schema that the answer is to fit, as JSON
    mode: Mode = "read"  #: `mode`, `rules` and `server` are the terms that it was sent under
    rules: tuple[str, ...] = ()
    server: str = ""
    seq: int = 0  #: the order in the store; given by the store
    status: JobStatus = JobStatus.QUEUED
    attempt: int = 0  #: how often it was claimed
    owner: str | None = None  #: who runs it
    request_id: UUID | None = None  #: the request under which it was claimed
    reason: str | None = None  #: why it failed
    started_at: datetime | None = None
    finished_at: datetime | None = None

    @property
    def terms(self) -> JobTerms:
        """What it was sent under."""
        return JobTerms(self.mode, self.rules, self.server)


@dataclass(frozen=True, slots=True)
class DatabaseIdentity:
    """Which database this is."""

    id: UUID  #: random; a copy of the file has the same
    is_new: bool  #: whether this process has made the file
    network_disk: str = ""  #: the network disk that it lies on: its type and place; "" for a disk of this machine


@dataclass(frozen=True, kw_only=True, slots=True)
class Backup:
    """A copy of the database in its backup folder."""

    file: str
    made_at: datetime
    size: int  #: in bytes
    about: str  #: why it was made, for people


@dataclass(frozen=True, kw_only=True, slots=True)
class Hit:
    """A place where a search found its words: a message, or a thread's title."""

    thread: Thread
    message: Message | None  #: None: the words are in the title
    excerpt: str  #: what stands around the first place, on one line
    marks: tuple[tuple[int, int], ...]  #: where in the excerpt the words stand: first and past the last character
    at: int  #: where in the text (or title) the first place is, in characters
    score: float  #: the higher, the better it fits


@dataclass(frozen=True, kw_only=True, slots=True)
class Counts:
    """How much is kept."""

    agents: int
    threads: int
    messages: int
    jobs: Mapping[JobStatus, int]


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
