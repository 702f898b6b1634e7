"""What has become of jobs, folded from their events. It shows nothing and asks nobody: each front end draws it.

An answer may ask other agents; the jobs of that are followed too, and stand after the answer that asked.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from io import StringIO
from uuid import UUID

from piano_jupyter import events
from piano_jupyter.errors import PianoError
from piano_jupyter.records import CallStatus, Job, Message, ToolCall

BEFORE_TEXT = frozenset({"queued", "running", "loading", "thinking"})
ACTIVE = BEFORE_TEXT | {"writing", "calling", "asking"}


@dataclass(slots=True)
class TextProgress:
    """A message: written piece by piece, then kept."""

    message: Message | None = None  #: once it is kept
    text: StringIO = field(default_factory=StringIO)  #: what was heard of it while it was written
    reasoning: StringIO = field(default_factory=StringIO)


@dataclass(slots=True)
class CallProgress:
    """A tool call."""

    call: ToolCall
    state: str  #: running, waiting, asks (for approval); then its outcome, or how its job ended
    request: events.ApprovalRequested | None = None  #: while it asks
    flag: str = ""  #: what it reaches for

    @property
    def warning(self) -> str:
        """What it reaches for, as a sentence."""
        return f"look at this call of {self.call.name}: {self.flag}"


@dataclass(slots=True)
class JobProgress:
    """A job, as far as it has come."""

    name: str  #: of the agent
    model: str = ""
    status: str = "queued"  #: one of ACTIVE, or how it ended: done, failed, cancelled
    note: str = ""  #: what there is to say of that
    fraction: float | None = None  #: how far a model that is fetched has come, below 1
    parts: dict[UUID, TextProgress | CallProgress] = field(default_factory=dict)  #: in order, by message and by call
    answer: Message | None = None
    error: PianoError | None = None
    asked: "list[JobProgress]" = field(default_factory=list)  #: the jobs that the answer asks for

    @property
    def over(self) -> bool:
        """Whether it has ended."""
        return self.status not in ACTIVE

    @property
    def notes(self) -> list[Message]:
        """What Piano has to say on the answer."""
        messages = (each.message for each in self.parts.values() if isinstance(each, TextProgress))
        return [message for message in messages if message is not None and message.role == "system"]

    @property
    def calls(self) -> list[ToolCall]:
        """The calls that have returned."""
        calls = (each.call for each in self.parts.values() if isinstance(each, CallProgress))
        return [call for call in calls if call.status is not CallStatus.STARTED]

    @property
    def flags(self) -> list[str]:
        """What calls reach for, a sentence each."""
        return [each.warning for each in self.parts.values() if isinstance(each, CallProgress) and each.flag]

    @property
    def with_asked(self) -> "list[JobProgress]":
        """It, and after it all that its answer asks for."""
        return [self, *(each for asked in self.asked for each in asked.with_asked)]

    def take(self, event: events.Event) -> None:  # noqa: C901  One case an event.
        """Take an event of this job. What tells of a moment does not bring back a job that has ended."""
        if self.over and not isinstance(event, events.JobEvent | events.MessageEvent | events.ToolReturned):
            return
        match event:
            case events.MessageDelta():  # by far the most, so first
                self._write(event)
            case events.MessageEvent(message=message):
                self.add_message(message)
            case events.JobQueued():
                self.stand("queued")
            case events.JobStarted():
                self._drop_unfinished()
                self.stand("running")
            case events.JobDone(message=message):
                self.add_message(message)
                self.answer = message
                self.stand("done")
            case events.JobFailed(reason=reason, error=error):
                self.error = error or PianoError(reason)
                self.stand("failed", reason)
            case events.JobCancelled():
                self.error = PianoError("the job was cancelled")
                self.stand("cancelled")
            case events.ModelLoading(note=note, fraction=fraction, seconds=seconds):
                if seconds is not None:
                    note = f"{event.model or 'the model'} is loading, {seconds:.0f} s"
                self.stand("loading", note, fraction if fraction is not None and fraction < 1 else None)
            case events.HistoryTrimmed(note=note):
                self.stand("thinking", note)
            case events.ToolEvent():
                self._take_of_call(event)

    def stand(self, status: str, note: str = "", fraction: float | None = None) -> None:
        """Say how it stands; calls that its end left open are over."""
        self.status, self.note, self.fraction = status, note, fraction
        for part in self.parts.values() if self.over else ():
            if isinstance(part, CallProgress) and part.state in {"running", "waiting", "asks"}:
                part.state, part.request = status, None

    def add_message(self, message: Message) -> None:
        """Add a message that is kept."""
        if message.role != "system":
            self._drop_unfinished(but=message.id)
        part = self.parts.setdefault(message.id, TextProgress())
        if isinstance(part, TextProgress):
            part.message = message

    def add_call(self, call: ToolCall, state: str = "") -> CallProgress:
        """Add a call, or how it stands now."""
        part = self.parts.setdefault(call.id, CallProgress(call, ""))
        assert isinstance(part, CallProgress)
        part.call, part.state, part.request = call, state or call.outcome, None
        return part

    def go_on_from(self, before: "JobProgress") -> None:
        """Take over what is never kept: how it stands, what is being written, what calls reach for."""
        self.stand(before.status, before.note, before.fraction)
        for key, part in before.parts.items():
            mine = self.parts.setdefault(key, part)
            if isinstance(mine, CallProgress) and isinstance(part, CallProgress):
                mine.flag = part.flag

    def waits_for(self, event: events.ModelLoading) -> bool:
        """Whether it waits for a model that is loaded for no job in particular."""
        return event.job_id is None and event.model in {None, self.model} and self.status in BEFORE_TEXT

    def _take_of_call(self, event: events.ToolEvent) -> None:
        call = event.call
        match event:
            case events.ToolFlagged(reason=reason):
                self.add_call(call).flag = reason
            case events.ApprovalRequested():
                self.add_call(call, "asks").request = event
                self.stand("asking", "waits for your yes")
            case events.ToolCalled():
                self.add_call(call)
                self.stand("calling", f"running {call.name}")
            case events.ToolWaiting(note=note):
                self.add_call(call, "waiting")
                self.stand("calling", f"{call.name} waits: {note}")
            case _:
                self.add_call(call)
                if not self.over:
                    self.stand("running")

    def _write(self, delta: events.MessageDelta) -> None:
        """Take the next piece of a message; one that begins anew replaces what was not finished."""
        part = self.parts.get(delta.message_id)
        if part is None:
            self._drop_unfinished()
            part = self.parts[delta.message_id] = TextProgress()
        if isinstance(part, TextProgress) and part.message is None:
            part.text.write(delta.text)
            part.reasoning.write(delta.reasoning)
            self.status, self.note, self.fraction = "writing" if delta.text else "thinking", "", None

    def _drop_unfinished(self, but: UUID | None = None) -> None:
        for key, part in list(self.parts.items()):
            if isinstance(part, TextProgress) and part.message is None and key != but:
                del self.parts[key]


class ProgressTracker:
    """Jobs that are followed, in the order in which they were asked; `names` are those of the agents."""

    def __init__(self, jobs: Sequence[Job], names: Mapping[UUID, str]) -> None:
        self._names = dict(names)
        self.known: dict[UUID | None, JobProgress] = {}  #: by their jobs, those that have ended included
        self.threads: set[UUID] = set()  #: those that the jobs are of
        self.asked = [self.follow(job) for job in jobs]  #: what was asked at first

    @property
    def over(self) -> bool:
        """Whether all have ended."""
        return all(each.over for each in self.known.values())

    @property
    def all(self) -> list[JobProgress]:
        """Each job, and after it those that its answer asks for."""
        return [each for first in self.asked for each in first.with_asked]

    def follow(self, job: Job, asker: JobProgress | None = None) -> JobProgress:
        """Follow a job; `asker` is the one whose answer asks for it."""
        if job.id not in self.known:
            self.known[job.id] = JobProgress(self._names.get(job.agent_id, "?"), job.model)
            self.threads.add(job.thread_id)
            if asker is not None:
                asker.asked.append(self.known[job.id])
        return self.known[job.id]

    def take(self, event: events.Event) -> JobProgress | None:
        """Take an event; return the job that it is about, or None where that is not followed or has ended."""
        progress = self.known.get(event.job_id)
        if progress is not None:
            if progress.over:
                return None
            progress.take(event)
        elif isinstance(event, events.AgentAdded):
            self._names[event.agent.id] = event.agent.name
        elif isinstance(event, events.JobQueued):
            asker = next((each for each in self.known.values() if event.job.message_id in each.parts), None)
            progress = self.follow(event.job, asker) if asker else None
        elif isinstance(event, events.ModelLoading):
            for each in self.known.values():
                if each.waits_for(event):
                    each.take(event)
        return progress
