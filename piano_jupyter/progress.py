"""The state of jobs, computed from their events, for all front ends to show. It does no input or output.

An answer may delegate to other agents: their jobs are followed too, and come after that answer.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from io import StringIO
from uuid import UUID, uuid5

from piano_jupyter import events
from piano_jupyter.errors import PianoError
from piano_jupyter.records import CallStatus, Job, Message, ToolCall

BEFORE_TEXT = frozenset({"queued", "running", "loading", "thinking"})
ACTIVE = BEFORE_TEXT | {"writing", "calling", "asking"}


@dataclass(slots=True)
class TextProgress:
    """A message: it arrives in pieces and is then stored."""

    message: Message | None = None  #: once it is stored
    text: StringIO = field(default_factory=StringIO)  #: the text so far, while it is written
    reasoning: StringIO = field(default_factory=StringIO)


@dataclass(slots=True)
class CallProgress:
    """A tool call."""

    call: ToolCall
    state: str  #: running, waiting, asks (for approval); then its outcome, or the status of a job that ended first
    request: events.ApprovalRequested | None = None  #: while it waits for approval
    flag: str = ""  #: what the user should know about it, such as a secret that it reads

    @property
    def warning(self) -> str:
        """The flag as a sentence."""
        return f"look at this call of {self.call.name}: {self.flag}"


@dataclass(slots=True)
class JobProgress:
    """The state of a job so far."""

    name: str  #: the name of the agent
    model: str = ""
    status: str = "queued"  #: one of ACTIVE, or done, failed, cancelled
    note: str = ""  #: details of the status
    fraction: float | None = None  #: of the model that is downloaded, below 1
    parts: dict[UUID, TextProgress | CallProgress] = field(default_factory=dict)  #: in order, by message and by call
    answer: Message | None = None
    error: PianoError | None = None
    delegated: "list[JobProgress]" = field(default_factory=list)  #: the jobs that the answer delegates to

    @property
    def has_ended(self) -> bool:
        """Whether it has ended."""
        return self.status not in ACTIVE

    @property
    def notes(self) -> list[Message]:
        """Piano's own notes about the answer."""
        messages = (each.message for each in self.parts.values() if isinstance(each, TextProgress))
        return [message for message in messages if message is not None and message.role == "system"]

    @property
    def calls(self) -> list[ToolCall]:
        """The calls that have returned."""
        calls = (each.call for each in self.parts.values() if isinstance(each, CallProgress))
        return [call for call in calls if call.status is not CallStatus.STARTED]

    @property
    def flags(self) -> list[str]:
        """The flags of its tool calls as sentences."""
        return [each.warning for each in self.parts.values() if isinstance(each, CallProgress) and each.flag]

    @property
    def with_delegated(self) -> "list[JobProgress]":
        """The job, followed by all jobs that its answer delegates to."""
        return [self, *(each for job in self.delegated for each in job.with_delegated)]

    def apply(self, event: events.Event) -> None:  # noqa: C901  One case an event.
        """Update from an event of this job; late events do not change the status of a job that has ended."""
        if self.has_ended and not isinstance(event, events.JobEvent | events.MessageEvent | events.ToolReturned):
            return
        match event:
            case events.MessageDelta():  # by far the most frequent, so first
                self._write(event)
            case events.MessageEvent(message=message):
                self.add_message(message)
            case events.JobQueued():
                self.set_status("queued")
            case events.JobStarted():
                self._drop_unfinished()
                self.set_status("running")
            case events.JobDone(message=message):
                self.add_message(message)
                self.answer = message
                self.set_status("done")
            case events.JobFailed(reason=reason, error=error):
                self.error = error or PianoError(reason)
                self.set_status("failed", reason)
            case events.JobCancelled():
                self.error = PianoError("the job was cancelled")
                self.set_status("cancelled")
            case events.ModelLoading(note=note, fraction=fraction, seconds=seconds):
                if seconds is not None:
                    note = f"{event.model or 'the model'} is loading, {seconds:.0f} s"
                self.set_status("loading", note, fraction if fraction is not None and fraction < 1 else None)
            case events.HistoryTrimmed(note=note):
                self.set_status("thinking", note)
            case events.ToolEvent():
                self._apply_tool_event(event)

    def set_status(self, status: str, note: str = "", fraction: float | None = None) -> None:
        """Set the status; when the job ends, its open calls end too."""
        self.status, self.note, self.fraction = status, note, fraction
        for part in self.parts.values() if self.has_ended else ():
            if isinstance(part, CallProgress) and part.state in {"running", "waiting", "asks"}:
                part.state, part.request = status, None

    def add_message(self, message: Message) -> None:
        """Add a stored message."""
        if message.role != "system":
            self._drop_unfinished(except_id=message.id)
        part = self.parts.setdefault(message.id, TextProgress())
        if isinstance(part, TextProgress):
            part.message = message

    def add_call(self, call: ToolCall, state: str = "") -> CallProgress:
        """Add a call, or update its state."""
        part = self.parts.setdefault(call.id, CallProgress(call, ""))
        assert isinstance(part, CallProgress)
        part.call, part.state, part.request = call, state or call.outcome, None
        return part

    def add_partial(self, job: Job) -> None:
        """Add what was written of the answer before the job was stopped, if it is not known from its events."""
        texts = [part for part in self.parts.values() if isinstance(part, TextProgress)]
        if all(text.message is not None for text in texts):
            part = self.parts[uuid5(job.id, "partial")] = TextProgress()
            part.text.write(job.partial)

    def carry_over(self, before: "JobProgress") -> None:
        """Copy what is never stored: the status, the text being written, the flags of calls."""
        self.set_status(before.status, before.note, before.fraction)
        for key, part in before.parts.items():
            own = self.parts.setdefault(key, part)
            if isinstance(own, CallProgress) and isinstance(part, CallProgress):
                own.flag = part.flag

    def waits_for_model(self, event: events.ModelLoading) -> bool:
        """Whether it waits for the model of an event that belongs to no particular job."""
        return event.job_id is None and event.model in {None, self.model} and self.status in BEFORE_TEXT

    def _apply_tool_event(self, event: events.ToolEvent) -> None:
        call = event.call
        match event:
            case events.ToolFlagged(reason=reason):
                self.add_call(call).flag = reason
            case events.ApprovalRequested():
                self.add_call(call, "asks").request = event
                self.set_status("asking", "waits for your approval")
            case events.ToolCalled():
                self.add_call(call)
                self.set_status("calling", f"running {call.name}")
            case events.ToolWaiting(note=note):
                self.add_call(call, "waiting")
                self.set_status("calling", f"{call.name} waits: {note}")
            case _:
                self.add_call(call)
                if not self.has_ended:
                    self.set_status("running")

    def _write(self, delta: events.MessageDelta) -> None:
        """Add a piece of a message; a new message replaces an unfinished one."""
        part = self.parts.get(delta.message_id)
        if part is None:
            self._drop_unfinished()
            part = self.parts[delta.message_id] = TextProgress()
        if isinstance(part, TextProgress) and part.message is None:
            part.text.write(delta.text)
            part.reasoning.write(delta.reasoning)
            self.status, self.note, self.fraction = "writing" if delta.text else "thinking", "", None

    def _drop_unfinished(self, except_id: UUID | None = None) -> None:
        for key, part in list(self.parts.items()):
            if isinstance(part, TextProgress) and part.message is None and key != except_id:
                del self.parts[key]


class ProgressTracker:
    """Follows jobs by their events; `names` are those of the agents."""

    def __init__(self, jobs: Sequence[Job], names: Mapping[UUID, str]) -> None:
        self._names = dict(names)
        self.by_job_id: dict[UUID | None, JobProgress] = {}  #: all jobs, including those that have ended
        self.threads: set[UUID] = set()  #: the threads of the jobs
        self.requested = [self.follow(job) for job in jobs]  #: the given jobs, in order

    @property
    def has_ended(self) -> bool:
        """Whether all have ended."""
        return all(each.has_ended for each in self.by_job_id.values())

    @property
    def all(self) -> list[JobProgress]:
        """Each job, followed by those that its answer delegates to."""
        return [each for first in self.requested for each in first.with_delegated]

    def follow(self, job: Job, delegator: JobProgress | None = None) -> JobProgress:
        """Follow a job; `delegator` is the job whose answer delegates to it."""
        if job.id not in self.by_job_id:
            self.by_job_id[job.id] = JobProgress(self._names.get(job.agent_id, "?"), job.model)
            self.threads.add(job.thread_id)
            if delegator is not None:
                delegator.delegated.append(self.by_job_id[job.id])
        return self.by_job_id[job.id]

    def apply(self, event: events.Event) -> JobProgress | None:
        """Update from an event; return the job it belongs to, or None if that is not followed or has ended."""
        progress = self.by_job_id.get(event.job_id)
        if progress is not None:
            if progress.has_ended:
                return None
            progress.apply(event)
        elif isinstance(event, events.AgentAdded):
            self._names[event.agent.id] = event.agent.name
        elif isinstance(event, events.JobQueued):
            delegator = next((each for each in self.by_job_id.values() if event.job.message_id in each.parts), None)
            progress = self.follow(event.job, delegator) if delegator else None
        elif isinstance(event, events.ModelLoading):
            for each in self.by_job_id.values():
                if each.waits_for_model(event):
                    each.apply(event)
        return progress
