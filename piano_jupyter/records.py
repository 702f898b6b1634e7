"""Records, as they are stored: Agent, Thread, Message, ToolCall, Approval, Notebook, Job; and what a query returns.

Records are frozen; a change is a new record (`dataclasses.replace`). They know nothing of a database, a model or a
screen.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Literal, NamedTuple
from uuid import UUID

from piano_jupyter.attachments.attachment import Attachment
from piano_jupyter.text.markdown import CodeBlock, code_blocks
from piano_jupyter.text.placeholders import Placeholder, split_placeholders

Role = Literal["user", "assistant", "tool", "system"]
Source = Literal["magic", "panel", "api", "agent"]
ThreadStatus = Literal["active", "archived"]
Mode = Literal["read", "write", "full"]  # what tools may do

EMBEDDED = "embedded"  #: the server of a job that was sent to the embedded model
NEW_TITLE = "New chat"  #: of a thread that has no question yet, and is named after its first one


class JobStatus(StrEnum):
    """The status of a job.

    Attributes:
        QUEUED: It waits in the queue.
        RUNNING: An agent works on it.
        DONE: Its answer is stored.
        FAILED: It ended without an answer; `Job.reason` says why.
        CANCELLED: The user ended it.

    Example:
        >>> [job] = await piano.jobs(JobStatus.DONE)
        >>> job.status == "done"
        True
    """

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


class CallStatus(StrEnum):
    """The status of a tool call."""

    STARTED = "started"  #: it is running; stored before the tool runs
    OK = "ok"  #: the tool returned
    FAILED = "failed"  #: the tool refused, raised, was denied or timed out
    UNKNOWN = "unknown"  #: the kernel stopped while it ran


class ModelState(StrEnum):
    """The state of a model on its server."""

    LOADED = "loaded"  #: it answers at once
    LOADING = "loading"  #: it is being started
    UNLOADING = "unloading"  #: it is being stopped
    UNLOADED = "unloaded"  #: it is loaded when it is needed


@dataclass(frozen=True, kw_only=True, slots=True)
class Model:
    """A model, as its server describes it.

    Attributes:
        name: Its name on the server.
        state: Whether it is loaded, loading, unloading or unloaded.
        context: The size of its context window in tokens, if the server tells it.
        aliases: Other names that it answers to.
        description: What the server says about it.
    """

    name: str
    state: ModelState = ModelState.LOADED
    context: int | None = None
    aliases: tuple[str, ...] = ()
    description: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelStatus:
    """Whether a model can answer now.

    Attributes:
        model: The model, as an agent has it.
        answering_model: The model that answers in its place; the same one where nothing is known.
        server: The address of the server; "" if a recording or a model in this process answers.
        state: "loaded", "loading", "unloading", "unloaded"; "embedded", if the embedded model answers; "no server";
            or "not served", if the server does not have it.
        swaps: Whether the server loads and unloads models.
        note: One sentence for people.

    Example:
        >>> status = await piano.model_status("qwen3:32b")
        >>> status.model, status.swaps
        ('qwen3:32b', False)
    """

    model: str
    answering_model: str
    server: str
    state: str
    swaps: bool = False
    note: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Agent:
    """Who answers: a model with a system prompt, and the tools and skills that it may use.

    Attributes:
        id: Its id.
        name: Its name, for mentions: `@name`.
        model: The name of the model that it uses.
        inserted_at: When it was created, in UTC.
        description: What it is for, for people.
        system_prompt: What the model is told first.
        enabled_tools: The names of the tools that it may call.
        enabled_skills: The names of the skills that it is given.
        options: Options that are sent with each request, such as `temperature` and `seed`.
        max_iterations: How many times one of its turns may ask the model; None for the setting of this name.
        deleted: Whether it was deleted: it answers nobody, and what it has written keeps its name.

    Example:
        >>> ada = await piano.add_agent("ada", system_prompt="You are a careful analyst.", options={"temperature": 0})
        >>> ada.model
        'qwen3:32b'
    """

    id: UUID
    name: str
    model: str
    inserted_at: datetime
    description: str = ""
    system_prompt: str = ""
    enabled_tools: tuple[str, ...] = ()
    enabled_skills: tuple[str, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    max_iterations: int | None = None
    deleted: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Thread:
    """A conversation.

    Attributes:
        id: Its id.
        title: Its title, by default the beginning of its first question.
        inserted_at: When it was opened, in UTC.
        status: "active" or "archived".
        primary_agent_id: The agent that answers if none is mentioned.
        forked_from_thread_id: The thread that it was forked from, if it was.
        forked_from_message_id: The message up to which that was copied.

    Example:
        >>> thread = await piano.open_thread("Sales in May")
        >>> thread.status
        'active'
    """

    id: UUID
    title: str
    inserted_at: datetime
    status: ThreadStatus = "active"
    primary_agent_id: UUID | None = None
    forked_from_thread_id: UUID | None = None
    forked_from_message_id: UUID | None = None


class ThreadUse(NamedTuple):
    """How a thread was used.

    Attributes:
        messages: How many questions and answers it has.
        last: When the last of them was written, in UTC.
        notebook: The notebook that asked in it last, empty for a script; None for a thread that was only copied or
            imported.

    Example:
        >>> answer = await piano.ask("What is the capital of France?")
        >>> (await piano.thread_use())[answer.thread_id].messages
        2
    """

    messages: int
    last: datetime
    notebook: "Notebook | None"


class Inserted(NamedTuple):
    """What was inserted into a question for a `{{…}}`.

    Attributes:
        label: What people see in its place, as in "sales · 1,200 × 12"; a short value itself.
        text: What the agent reads.

    Example:
        >>> answer = await piano.ask("What is {{a}} times 2?", variables={"a": 21})
        >>> question, _ = await piano.messages(piano.thread)
        >>> question.content, question.typed
        ('What is 21 times 2?', 'What is {{a}} times 2?')
    """

    label: str
    text: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Message:
    """A message of a thread: a question, an answer or a note. It never changes; an edit is a new message.

    Attributes:
        id: Its id.
        thread_id: The thread.
        role: "user", "assistant", "tool" or "system" (a note).
        content: The text: what an agent wrote, or reads.
        inserted_at: When it was written, in UTC.
        seq: Its place in the order of all messages of the database.
        parent_id: The message that it follows. Messages with one parent are branches.
        source: Where it comes from: "magic", "panel", "api" or "agent".
        agent_id: The agent that wrote it, if one did.
        job_id: The job that it was written in, if an agent wrote it.
        reasoning: What the model thought before it answered.
        usage: What it cost, as far as the server tells it: `model`; `prompt_tokens`, `cached_tokens` and
            `completion_tokens`; `tokens_per_second`; `first_token_s`, the seconds to the first token, and `load_s`,
            the seconds of loading within them; `thought_s`, how many seconds the model thought before it wrote;
            `skills`, the versions of the agent's skills by name.
        typed: The text as it was typed, with its `{{…}}`; "" if that is `content`.
        inserted: What was inserted for each of them, in order.
        attachments: Images and text files that were sent with it, in order; without their bytes.

    Example:
        >>> answer = await piano.ask("What is the capital of France?")
        >>> answer.role, answer.content
        ('assistant', 'Paris.')
    """

    id: UUID
    thread_id: UUID
    role: Role
    content: str
    inserted_at: datetime
    seq: int = 0
    parent_id: UUID | None = None
    source: Source = "api"
    agent_id: UUID | None = None
    job_id: UUID | None = None
    reasoning: str = ""
    usage: Mapping[str, Any] = field(default_factory=dict)
    typed: str = ""
    inserted: tuple[Inserted, ...] = ()
    attachments: tuple[Attachment, ...] = ()

    @property
    def parts(self) -> "list[str | Inserted]":
        """The text in parts: what was typed, and what was inserted. Together they are the content, else that is all."""
        found = shown_parts(self.typed, self.inserted)
        is_whole = "".join(part if isinstance(part, str) else part.text for part in found) == self.content
        return found if is_whole else [self.content]

    @property
    def shown(self) -> str:
        """The text for people: the label of what was inserted, as in "sales · 1,200 × 12", instead of its text."""
        return "".join(part if isinstance(part, str) else part.label for part in self.parts)

    @property
    def code_blocks(self) -> list[CodeBlock]:
        """The code blocks of the text, in order: each is a `str` that has a `language`."""
        return code_blocks(self.content)


@dataclass(frozen=True, kw_only=True, slots=True)
class ToolCall:
    """A call of a tool by a model, and its result.

    Attributes:
        id: Its id.
        message_id: The message of the agent that makes the call.
        name: The name of the tool.
        arguments: The arguments by name.
        started_at: When it began, in UTC.
        seq: Its place in the order of all calls of the database.
        status: "started" (it is running), "ok", "failed", or "unknown" (the kernel stopped while it ran).
        result: What the model reads as the result; None while it runs.
        finished_at: When it ended, in UTC.
        attachments: The figures and tables that it has shown, in order; without their bytes.

    Example:
        >>> def price(item: str) -> float:
        ...     "Return today's price of an item, in euros."
        ...     return 2.5
        >>> piano.add_tool(price)
        >>> agent = await piano.update_agent("Assistant", enabled_tools=["price"])
        >>> answer = await piano.ask("What does tea cost?")
        >>> [call] = await piano.tool_calls(piano.thread)
        >>> call.arguments, call.result
        ({'item': 'tea'}, '2.5')
    """

    id: UUID
    message_id: UUID
    name: str
    arguments: Mapping[str, Any]
    started_at: datetime
    seq: int = 0
    status: CallStatus = CallStatus.STARTED
    result: str | None = None
    finished_at: datetime | None = None
    attachments: tuple[Attachment, ...] = ()

    @property
    def outcome(self) -> str:
        """Its status in one or two words, for people."""
        if self.status is CallStatus.FAILED and (self.result or "").startswith("denied: "):
            return "denied"
        return {CallStatus.STARTED: "running", CallStatus.UNKNOWN: "outcome unknown"}.get(self.status, self.status)


@dataclass(frozen=True, kw_only=True, slots=True)
class Approval:
    """A request for the user's approval of a tool call, and the answer. A call that is asked about again has several.

    It holds the whole call, since the call itself is stored only when it begins.
    """

    id: UUID
    call_id: UUID
    message_id: UUID  #: the assistant message that asked for the call
    job_id: UUID
    thread_id: UUID
    name: str
    arguments: Mapping[str, Any]
    digest: str  #: of what is approved: the tool, its arguments and where they lead, the workspace and the mode
    question: str  #: for people
    reason: str  #: why approval is needed
    always: str  #: the rule that "always" adds; "" if no rule can
    requested_at: datetime
    seq: int = 0  #: the order in the store; given by the store
    allowed: bool | None = None  #: None while nobody has answered
    note: str = ""  #: the answer: "yes", "no", "always", or that nobody answered
    decided_at: datetime | None = None


class Notebook(NamedTuple):
    """The notebook of a kernel. A script or a terminal has none: all of it is empty.

    Attributes:
        id: The id of its kernel, which outlives a restart; "" if there is none.
        name: Its path, or what else it is called, for people; "" if that is not known.

    Example:
        >>> sales = Notebook("8f1c2ab4", "/notes/sales.ipynb")
        >>> sales.is_same(Notebook("0d93e5f7", "/notes/sales.ipynb"))
        True
        >>> sales.is_same(Notebook())
        False
    """

    id: str = ""
    name: str = ""

    def is_same(self, other: "Notebook") -> bool:
        """Return whether both are one notebook: with one id, or with one name. What is empty says nothing."""
        return self == other or "" != self.id == other.id or "" != self.name == other.name


class JobTerms(NamedTuple):
    """What a message is sent under. A job never runs under a wider mode or looser rules than it was sent under."""

    mode: Mode = "read"
    rules: tuple[str, ...] = ()
    server: str = ""  #: its address, or `EMBEDDED`; "" if it is not known
    notebook: Notebook = Notebook()  #: from which it is sent


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """The work of one agent that answers one message.

    Attributes:
        id: Its id.
        thread_id: The thread.
        message_id: The message to answer.
        agent_id: The agent that answers.
        model: The name of the model that answers.
        inserted_at: When it was queued, in UTC.
        hops: How many agents have delegated the question since the user asked it.
        schema: The JSON Schema that the answer has to fit, if it is to be JSON.
        mode: The mode that it was sent under: "read", "write" or "full".
        rules: The rules that it was sent under.
        server: The server that it was sent to: its address, or "embedded"; "" if that is not known.
        seq: Its place in the order of all jobs of the database.
        status: Whether it is queued, running, done, failed or cancelled.
        attempt: How many times it was started.
        owner: The process that it waits for, runs it, or ran it last.
        request_id: The request that started it last.
        reason: Why it failed, if it did.
        started_at: When it was started last, in UTC.
        finished_at: When it ended, in UTC.
        notebook: The notebook that it was sent from.
        partial: What had been written of the answer when it was stopped or failed; "" for nothing.

    Example:
        >>> job = await piano.send("What is the capital of France?")
        >>> (await piano.wait(job)).content
        'Paris.'
        >>> (await piano.find_job(job)).attempt
        1
    """

    id: UUID
    thread_id: UUID
    message_id: UUID
    agent_id: UUID
    model: str
    inserted_at: datetime
    hops: int = 0
    schema: Mapping[str, Any] | None = None
    mode: Mode = "read"
    rules: tuple[str, ...] = ()
    server: str = ""
    seq: int = 0
    status: JobStatus = JobStatus.QUEUED
    attempt: int = 0
    owner: str | None = None
    request_id: UUID | None = None
    reason: str | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    notebook: Notebook = field(default_factory=Notebook)
    partial: str = ""

    @property
    def terms(self) -> JobTerms:
        """What it was sent under: mode, rules, server and notebook."""
        return JobTerms(self.mode, self.rules, self.server, self.notebook)


class ChosenBranch(NamedTuple):
    """The branch of a thread that the user chose."""

    message_id: UUID  #: the message at which the thread continues
    after: int  #: the `seq` of the newest job at the time: a question that is asked later moves the thread on


@dataclass(frozen=True, slots=True)
class DatabaseIdentity:
    """Which database this is."""

    id: UUID  #: random; a copy of the file has the same
    is_new: bool  #: whether this process created the file
    network_disk: str = ""  #: the network disk that it is on: its type and place; "" for a disk of this machine


@dataclass(frozen=True, kw_only=True, slots=True)
class Backup:
    """A copy of the database in its backup folder.

    Attributes:
        file: Its path.
        made_at: When it was made, in UTC.
        size: Its size, in bytes.
        about: Why it was made, for people.
    """

    file: str
    made_at: datetime
    size: int
    about: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Hit:
    """A message, or the title of a thread, in which a search found its words.

    Attributes:
        thread: The thread.
        message: The message; None if the words are in the title.
        excerpt: The text around the first of the words, on one line.
        marks: Where the words are in the excerpt: the first character of each, and the one after its last.
        at: Where the first of the words is in the whole text or title, in characters.
        score: How well it fits; higher is better.
    """

    thread: Thread
    message: Message | None
    excerpt: str
    marks: tuple[tuple[int, int], ...]
    at: int
    score: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Counts:
    """How much is stored."""

    agents: int
    threads: int
    messages: int
    jobs: Mapping[JobStatus, int]


class Row(tuple[Any, ...]):  # noqa: SLOT001  A tuple cannot keep `_fields` in a slot.
    """A tuple with its column names in `_fields`, as a named tuple has them: `pd.DataFrame(rows)` looks there.

    A named tuple itself could not have a column such as `count(*)`.
    """

    _fields: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Rows(Sequence[tuple[Any, ...]]):
    """The rows of a query: a sequence of tuples with the names of its columns.

    Attributes:
        columns: The names of the columns, in order.
        rows: The rows, each a tuple.

    Example:
        >>> rows = await piano.sql("SELECT role, content FROM messages ORDER BY seq")
        >>> len(rows), rows.columns
        (2, ('role', 'content'))
        >>> for role, content in rows:
        ...     print(role, content, sep=": ")
        user: What is the capital of France?
        assistant: Paris.
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        return iter(self.rows)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return self.rows[index]
        row = Row(self.rows[index])
        row._fields = self.columns
        return row

    def df(self) -> Any:
        """Return the rows as a pandas DataFrame.

        Raises:
            ImportError: pandas is not installed.

        Example:
            >>> rows = await piano.sql("SELECT role, content FROM messages ORDER BY seq")
            >>> rows.df().shape
            (2, 2)
        """
        import pandas as pd  # type: ignore[import-not-found,import-untyped,unused-ignore]  # noqa: PLC0415  Optional.

        return pd.DataFrame(list(self.rows), columns=list(self.columns))


def short(identity: UUID) -> str:
    """Return the last six digits of an id: enough to name a row by hand, since a UUIDv7 begins with the time."""
    return identity.hex[-6:]


def shown_parts(typed: str, inserted: Iterable[Inserted]) -> list[str | Inserted]:
    """Return a text that was typed in parts: texts, and what was inserted; a value that is its own label is text."""
    parts: list[str | Inserted] = []
    values = iter(inserted)
    for part in split_placeholders(typed):
        value = next(values, Inserted("", "")) if isinstance(part, Placeholder) else Inserted(part, part)
        if value.label != value.text:
            parts.append(value)
        elif parts and isinstance(parts[-1], str):
            parts[-1] += value.text
        else:
            parts.append(value.text)
    return [part for part in parts if part]
