"""Following: what has become of the jobs that a cell waits for, worked out from events. It shows nothing, asks nobody.

An answer may ask other agents; the jobs of that are followed too, and stand after the answer that asked.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from uuid import UUID

from piano_jupyter.errors import PianoError
from piano_jupyter.events import (
    AgentAdded,
    ApprovalRequested,
    Event,
    HistoryTrimmed,
    JobCancelled,
    JobDone,
    JobFailed,
    JobQueued,
    JobStarted,
    MessageAdded,
    MessageDelta,
    ModelLoading,
    ToolCalled,
    ToolFlagged,
    ToolReturned,
    ToolWaiting,
)
from piano_jupyter.jupyter.cell.live_cell import Shown
from piano_jupyter.jupyter.render.transcript import call_line
from piano_jupyter.records import Job, Message, ToolCall
from piano_jupyter.text.invisible import to_the_letter


@dataclass(slots=True)
class Followed:
    """One job, as far as it has come."""

    job: Job
    name: str  #: of the agent
    calls: list[ToolCall] = field(default_factory=list)  #: those that have returned
    flags: list[str] = field(default_factory=list)  #: what calls reach for, a sentence each
    notes: list[Message] = field(default_factory=list)  #: what Piano has to say on the answer
    answer: Message | None = None
    error: PianoError | None = None
    asked: "list[Followed]" = field(default_factory=list)  #: the jobs that the answer asks for
    told: list[str] = field(default_factory=list)  #: what was written before a call, and the calls
    written: list[str] = field(default_factory=list)  #: the text that is being written
    writing: UUID | None = None  #: the message that it is of
    status: str = ""
    fraction: float | None = None

    @property
    def over(self) -> bool:
        """Whether it has ended."""
        return self.answer is not None or self.error is not None

    @property
    def shown(self) -> Shown:
        """How it looks while the cell waits."""
        written = "".join(self.written)
        self.written[:] = [written] if written else []  # of many pieces each look would put all together anew
        return Shown(self.name, "\n".join([*self.told, written]), self.status, self.fraction, self.over)

    def take(self, event: Event) -> None:  # noqa: C901  One case an event.
        """Take an event of this job."""
        match event:
            case JobStarted():
                self.status = ""
            case MessageDelta(message_id=message_id) if message_id != self.writing:
                self.writing = message_id
                self.written.clear()  # it begins anew: what came of it before is void
                self.take(event)
            case MessageDelta(text=""):
                self.status = "thinking"
            case MessageDelta(text=text):
                self.written.append(text)
                self.status, self.fraction = "", None
            case ApprovalRequested():
                self.status = "waits for your yes"
            case HistoryTrimmed(note=note):
                self.status = note
            case ToolCalled(call=call):
                self.status = f"running {call.name}"
            case ToolWaiting(call=call, note=note):
                self.status = f"{call.name} waits: {note}"
            case ToolFlagged(call=call, reason=reason):
                self.flags.append(to_the_letter(f"look at this call of {call.name}: {reason}"))
                self.told.append(self.flags[-1])
            case ToolReturned(call=call) if all(call.id != known.id for known in self.calls):
                self.calls.append(call)
                self.told += [*(["".join(self.written)] if self.written else []), call_line(call)]
                self.written.clear()
                self.status = ""
            case MessageAdded(message=message) if message.role == "system":
                self.notes.append(message)
            case JobDone() | JobFailed() | JobCancelled():
                self._end(event)
            case _:
                pass

    def _end(self, event: JobDone | JobFailed | JobCancelled) -> None:
        self.status, self.fraction = "", None
        match event:
            case JobDone(message=message):
                self.answer = message
            case JobFailed(reason=reason, error=error):
                self.error, self.status = error or PianoError(reason), reason
            case JobCancelled():
                self.error, self.status = PianoError("the job was cancelled"), "cancelled"


class Following:
    """Jobs that are followed, in the order in which they were asked."""

    def __init__(self, jobs: Sequence[Job], names: Mapping[UUID, str]) -> None:
        self._names = dict(names)
        self._known: dict[UUID | None, Followed] = {}
        self._queued: dict[UUID, list[Job]] = {}  # jobs of messages that may turn out to be answers
        self.asked = [self.follow(job) for job in jobs]  #: what was asked at first
        if len(jobs) > 1:
            for each in self.asked:
                each.status = "waiting for its turn"

    def follow(self, job: Job, asker: Followed | None = None) -> Followed:
        """Follow a job; `asker` is the one whose answer asks for it."""
        followed = self._known[job.id] = Followed(job, self._names.get(job.agent_id, "?"))
        if asker is not None:
            asker.asked.append(followed)
        return followed

    @property
    def ids(self) -> set[UUID]:
        """The jobs that are followed, those that have ended included."""
        return {each.job.id for each in self._known.values()}

    @property
    def threads(self) -> set[UUID]:
        """The threads that their jobs are of."""
        return {each.job.thread_id for each in self._known.values()}

    @property
    def over(self) -> bool:
        """Whether all have ended."""
        return all(each.over for each in self._known.values())

    @property
    def all(self) -> list[Followed]:
        """Each job, and after it those that its answer asks for."""
        return list(_with_asked(self.asked))

    @property
    def shown(self) -> list[Shown]:
        """How all look while the cell waits."""
        return [each.shown for each in self.all]

    def take(self, event: Event) -> None:
        """Take an event; what concerns other jobs is passed over."""
        match event:
            case MessageDelta(job_id=job_id):  # by far the most, so first
                if job_id in self._known and not self._known[job_id].over:
                    self._known[job_id].take(event)
            case AgentAdded(agent=agent):
                self._names[agent.id] = agent.name
            case JobQueued(job=job) if job.hops and job.id not in self._known:
                self._queued.setdefault(job.message_id, []).append(job)  # before the end of the job that asked
            case ModelLoading():
                self._loading(event)
            case _:
                followed = self._known.get(_job_id(event))
                if followed is not None and not followed.over:
                    followed.take(event)
        if isinstance(event, JobDone) and event.job.id in self._known:
            for job in self._queued.pop(event.message.id, ()):
                self.follow(job, self._known[event.job.id])

    def _loading(self, event: ModelLoading) -> None:
        note = event.note
        if event.seconds is not None:
            note = f"{event.model or 'the model'} is loading, {event.seconds:.0f} s"
        waits = [each for each in self._known.values() if not each.over and not each.written]
        for each in waits:
            if event.job_id in {None, each.job.id} and event.model in {None, each.job.model}:
                each.status = note
                each.fraction = event.fraction if event.fraction is not None and event.fraction < 1 else None


def _job_id(event: Event) -> UUID | None:
    match event:
        case JobStarted(job=job) | JobDone(job=job) | JobFailed(job=job) | JobCancelled(job=job):
            return job.id
        case (
            HistoryTrimmed(job_id=job_id)
            | ApprovalRequested(job_id=job_id)
            | ToolCalled(job_id=job_id)
            | ToolFlagged(job_id=job_id)
            | ToolReturned(job_id=job_id)
            | ToolWaiting(job_id=job_id)
        ):
            return job_id
        case MessageAdded(message=message):
            return message.job_id
        case _:
            return None


def _with_asked(several: Sequence[Followed]) -> Iterator[Followed]:
    for each in several:
        yield each
        yield from _with_asked(each.asked)
