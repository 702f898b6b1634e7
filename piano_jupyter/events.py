"""The lifecycle events: frozen dataclasses whose names begin with their subject and end in the past tense.

Subscribe by class or by thread (`bus.py`). An event is published after what it reports is stored; `MessageDelta`,
`DeltasDropped`, `ModelLoading`, `HistoryTrimmed`, `BatchProgress`, `ToolWaiting` and `ToolFlagged` are never stored.
"""

from dataclasses import dataclass, field
from uuid import UUID

from piano_jupyter.batch_records import BatchStatus
from piano_jupyter.errors import PianoError
from piano_jupyter.records import Agent, Job, Message, Thread, ToolCall


@dataclass(frozen=True, kw_only=True, slots=True)
class Event:
    """Base class of all events."""

    thread_id: UUID | None = None  #: its thread, if it concerns one
    job_id: UUID | None = None  #: its job, if it concerns one


@dataclass(frozen=True, kw_only=True, slots=True)
class JobEvent(Event):
    """A job changed its state."""

    job_id: UUID = field(init=False)
    job: Job

    def __post_init__(self) -> None:
        object.__setattr__(self, "job_id", self.job.id)


@dataclass(frozen=True, kw_only=True, slots=True)
class JobEnded(JobEvent):
    """A job ended: done, failed or cancelled."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MessageEvent(Event):
    """A message was stored."""

    job_id: UUID | None = field(init=False)  #: the job that wrote it
    message: Message

    def __post_init__(self) -> None:
        object.__setattr__(self, "job_id", self.message.job_id)


@dataclass(frozen=True, kw_only=True, slots=True)
class ToolEvent(Event):
    """A tool call changed its state."""

    job_id: UUID
    call: ToolCall


@dataclass(frozen=True, kw_only=True, slots=True)
class ThreadOpened(Event):
    """A thread was created."""

    thread: Thread


@dataclass(frozen=True, kw_only=True, slots=True)
class ThreadBranched(Event):
    """A thread continues from an earlier message: a question was edited, or is answered again."""

    message_id: UUID  #: the question that is answered next


@dataclass(frozen=True, kw_only=True, slots=True)
class BranchChosen(Event):
    """A thread continues on another branch, which the user chose."""

    message_id: UUID  #: the last message of that branch
    after: int  #: the `seq` of the newest job at the time


@dataclass(frozen=True, kw_only=True, slots=True)
class ThreadChanged(Event):
    """A thread was renamed or archived."""

    thread: Thread


@dataclass(frozen=True, kw_only=True, slots=True)
class ThreadDeleted(Event):
    """A thread was deleted, with all that was said and done in it."""

    thread_id: UUID


@dataclass(frozen=True, kw_only=True, slots=True)
class AgentAdded(Event):
    """An agent was created, changed or deleted."""

    agent: Agent


@dataclass(frozen=True, kw_only=True, slots=True)
class MessageAdded(MessageEvent):
    """A message was stored: the user's, or what an agent wrote before it called a tool."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MessageDelta(Event):
    """A piece of an answer that is being written."""

    job_id: UUID
    message_id: UUID  #: the id that the finished message will have
    text: str = ""
    reasoning: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class DeltasDropped(Event):
    """An `events()` stream was not read for so long that pieces of answers were left out of it; nothing else was."""

    count: int  #: how many `MessageDelta` events are missing at this place


@dataclass(frozen=True, kw_only=True, slots=True)
class EventsMissed(Event):
    """Events of other notebooks may be missing, since a connection broke; what is stored was read again."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Closed(Event):
    """The Piano is closing: no more events follow."""


@dataclass(frozen=True, kw_only=True, slots=True)
class JobQueued(JobEvent):
    """A job is in the queue."""


@dataclass(frozen=True, kw_only=True, slots=True)
class JobStarted(JobEvent):
    """A consumer started a job."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelLoading(Event):
    """The model is being downloaded, started or loaded: the answer takes longer, and nothing is wrong."""

    note: str  #: one line for people
    fraction: float | None = None  #: how much of a download is done, 0 to 1
    model: str | None = None
    seconds: float | None = None  #: how long it has been loading


@dataclass(frozen=True, kw_only=True, slots=True)
class HistoryTrimmed(Event):
    """A thread no longer fits the context window: its oldest turns, or the middle of long messages, are left out."""

    job_id: UUID
    turns: int  #: how many of the oldest turns the agent no longer reads, in total
    note: str  #: one sentence for people


@dataclass(frozen=True, kw_only=True, slots=True)
class ToolCalled(ToolEvent):
    """A tool is about to run."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ApprovalRequested(ToolEvent):
    """A tool call waits for the user's approval."""

    id: UUID  #: of this request: a call that needs approval again gets another
    question: str  #: what to approve, for people
    reason: str = ""  #: why approval is needed
    always: str = ""  #: the rule that "always" adds; "" if there is none

    @property
    def never(self) -> str:
        """The rule that denying always adds; "" if there is none."""
        return denying(self.always)


@dataclass(frozen=True, kw_only=True, slots=True)
class ApprovalDecided(ToolEvent):
    """A tool call was approved or denied: by the user, in any notebook, or because nobody answered in time."""

    id: UUID  #: of the request
    allowed: bool
    note: str  #: the answer: "yes", "no", "always", or that nobody answered


@dataclass(frozen=True, kw_only=True, slots=True)
class ToolWaiting(ToolEvent):
    """A tool call cannot start yet, for example because another cell runs."""

    note: str  #: what it waits for, for people


@dataclass(frozen=True, kw_only=True, slots=True)
class ToolFlagged(ToolEvent):
    """A tool call reaches for keys, or for a network that it does not have."""

    reason: str  #: what it reaches for, for people


@dataclass(frozen=True, kw_only=True, slots=True)
class ToolReturned(ToolEvent):
    """A tool call ended; `call` holds its result."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Answered(MessageEvent):
    """A turn reached its final answer."""


@dataclass(frozen=True, kw_only=True, slots=True)
class JobDone(JobEnded):
    """The answer is stored and the job is done."""

    message: Message


@dataclass(frozen=True, kw_only=True, slots=True)
class JobFailed(JobEnded):
    """The job failed, and `reason` says why."""

    reason: str  #: one sentence, stored with the job
    error: PianoError | None = field(
        default=None, compare=False
    )  #: the exception, for callers in this process that wait for the job


@dataclass(frozen=True, kw_only=True, slots=True)
class JobCancelled(JobEnded):
    """The user cancelled the job."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BatchProgress(Event):
    """A batch was started, went on, or ended: told when that changes, and at most four times a second in between."""

    batch_id: UUID
    name: str
    status: BatchStatus
    rows: int  #: that its table has
    known: int  #: of these, how many had an answer, or an error, before it was started
    done: int  #: how many were answered since
    failed: int  #: how many have an error since
    tokens: int  #: about how many tokens the model was to read for all that were not known; 0 where that is not known
    read: int | None = None  #: how many rows are read, while those of a long table are, before any is asked
    rows_per_s: float = 0.0  #: of the last seconds
    tokens_per_s: float = 0.0  #: that the model wrote
    seconds_left: float | None = None  #: None where that cannot be told yet
    reason: str | None = None  #: why it failed, or what it waits for
    notebook: str = ""  #: in which it runs, for people
    cut: int = 0  #: how many of those that were answered reached the limit of their length


def denying(rule: str) -> str:
    """Return the rule that denies what a rule allows."""
    return rule.replace("allow", "deny", 1)
