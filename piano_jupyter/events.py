"""What has happened: the words, as frozen dataclasses, subject first, past tense.

Subscribe by class or by thread (`bus.py`). An event is published after what it tells is kept; `MessageDelta`,
`ModelLoading`, `HistoryTrimmed`, `ToolWaiting` and `ToolFlagged` tell of a moment and are never stored.
"""

from dataclasses import dataclass, field
from uuid import UUID

from piano_jupyter.errors import PianoError
from piano_jupyter.records import Agent, Job, Message, Thread, ToolCall


@dataclass(frozen=True, kw_only=True, slots=True)
class Event:
    """Something that has happened."""

    thread_id: UUID | None = None  #: the thread that it concerns, if it concerns one
    job_id: UUID | None = None  #: the job that it is about, if it is about one


@dataclass(frozen=True, kw_only=True, slots=True)
class JobEvent(Event):
    """Something that has become of a job."""

    job_id: UUID = field(init=False)
    job: Job

    def __post_init__(self) -> None:
        object.__setattr__(self, "job_id", self.job.id)


@dataclass(frozen=True, kw_only=True, slots=True)
class JobEnded(JobEvent):
    """A job is over: done, failed or cancelled."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MessageEvent(Event):
    """A message is kept."""

    job_id: UUID | None = field(init=False)  #: the job that it was written in
    message: Message

    def __post_init__(self) -> None:
        object.__setattr__(self, "job_id", self.message.job_id)


@dataclass(frozen=True, kw_only=True, slots=True)
class ToolEvent(Event):
    """Something that has become of a tool call."""

    job_id: UUID
    call: ToolCall


@dataclass(frozen=True, kw_only=True, slots=True)
class ThreadOpened(Event):
    """A thread was created."""

    thread: Thread


@dataclass(frozen=True, kw_only=True, slots=True)
class ThreadBranched(Event):
    """A thread goes on from an earlier place: a question was edited, or is to be answered anew."""

    message_id: UUID  #: the question that is answered next


@dataclass(frozen=True, kw_only=True, slots=True)
class ThreadDeleted(Event):
    """A thread was deleted, with all that was said and done in it."""

    thread_id: UUID


@dataclass(frozen=True, kw_only=True, slots=True)
class AgentAdded(Event):
    """An agent was created or changed."""

    agent: Agent


@dataclass(frozen=True, kw_only=True, slots=True)
class MessageAdded(MessageEvent):
    """The user's message is kept, or what an agent wrote before it called a tool."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MessageDelta(Event):
    """A piece of an answer that is being written."""

    job_id: UUID
    message_id: UUID  #: the id that the finished message will have
    text: str = ""
    reasoning: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Closed(Event):
    """The Piano is being closed: nothing more will be told."""


@dataclass(frozen=True, kw_only=True, slots=True)
class JobQueued(JobEvent):
    """A job is in the queue."""


@dataclass(frozen=True, kw_only=True, slots=True)
class JobStarted(JobEvent):
    """A consumer began to work on a job."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelLoading(Event):
    """The model is being fetched, started or swapped in; nothing is wrong, it takes a moment."""

    note: str  #: one line for people
    fraction: float | None = None  #: how much of a fetch is done, 0 to 1
    model: str | None = None
    seconds: float | None = None  #: how long it has been loading


@dataclass(frozen=True, kw_only=True, slots=True)
class HistoryTrimmed(Event):
    """A talk no longer fits into the model's context: what is oldest, or the middle of long messages, is left out."""

    job_id: UUID
    turns: int  #: how many of the oldest turns the agent no longer reads, all in all
    note: str  #: one sentence for people


@dataclass(frozen=True, kw_only=True, slots=True)
class ToolCalled(ToolEvent):
    """A tool is about to run."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ApprovalRequested(ToolEvent):
    """A tool call waits for the user's yes or no."""

    id: UUID  #: of this question: a call that is asked about anew has another
    question: str  #: what is to be decided, for people
    reason: str = ""  #: why it is asked
    always: str = ""  #: the rule that "always" adds; "" if none does

    @property
    def never(self) -> str:
        """The rule that a no for always adds; "" if none does."""
        return self.always.replace("allow", "deny", 1)


@dataclass(frozen=True, kw_only=True, slots=True)
class ToolWaiting(ToolEvent):
    """A tool call cannot begin yet: another cell runs, say."""

    note: str  #: what it waits for, for people


@dataclass(frozen=True, kw_only=True, slots=True)
class ToolFlagged(ToolEvent):
    """A tool call reaches for keys, or for the network where there is none."""

    reason: str  #: what about it, for people


@dataclass(frozen=True, kw_only=True, slots=True)
class ToolReturned(ToolEvent):
    """A tool call ended; its record holds the result."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Answered(MessageEvent):
    """A turn reached its final answer."""


@dataclass(frozen=True, kw_only=True, slots=True)
class JobDone(JobEnded):
    """The answer is kept and the job is over."""

    message: Message


@dataclass(frozen=True, kw_only=True, slots=True)
class JobFailed(JobEnded):
    """The job ended without an answer."""

    reason: str  #: one sentence, kept with the job
    error: PianoError | None = field(default=None, compare=False)  #: its class, for those who wait here and now


@dataclass(frozen=True, kw_only=True, slots=True)
class JobCancelled(JobEnded):
    """The user ended the job."""
