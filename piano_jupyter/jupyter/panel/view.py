"""The content of the panel, computed from records and events, without widget, loop or page.

A conversation consists of entries (a question; the work of one job) and their parts (texts, tool calls). `changes`
returns what is new since the last time, `slices` all of it: the page applies both in the same way.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from types import MappingProxyType
from uuid import UUID

from piano_jupyter import events
from piano_jupyter.jupyter.panel.entries import PanelEntry
from piano_jupyter.jupyter.panel.parts import Change
from piano_jupyter.jupyter.panel.thinking_times import ThinkingTimes
from piano_jupyter.jupyter.render.tables import capped
from piano_jupyter.progress import JobProgress, TextProgress
from piano_jupyter.records import Agent, Job, JobStatus, Message, ToolCall


class ThreadView:
    """A thread as the panel shows it."""

    def __init__(self, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._names: dict[UUID, str] = {}
        self._thought = ThinkingTimes(now)
        self._elsewhere: set[UUID] = set()  # running jobs whose answers are on another branch than the one shown
        self._entries: dict[str, PanelEntry] = {}  # in reading order
        self._keys: dict[UUID, str] = {}  # of the entries that show stored messages
        self._turns: set[str] = set()  # of all entries
        self._touched: set[str] = set()  # keys of entries that may have changed since they were sent

    @property
    def busy(self) -> bool:
        """Whether a job of the thread is queued or running."""
        return any(not entry.progress.has_ended for entry in self._entries.values())

    def load(
        self,
        agents: Sequence[Agent],
        messages: Sequence[Message],
        calls: Sequence[ToolCall],
        jobs: Sequence[Job],
        approvals: Sequence[events.ApprovalRequested] = (),
        unfinished: Mapping[UUID, str] = MappingProxyType({}),
        alternatives: Mapping[UUID, Sequence[UUID]] = MappingProxyType({}),
    ) -> None:
        """Load what is stored, and keep what is not stored yet (an answer being written). Send everything afterwards.

        `unfinished` are jobs of an earlier kernel, each with what it waits for; `alternatives` are the versions of
        questions and answers.
        """
        self._names |= {agent.id: agent.name for agent in agents}
        before, self._entries = self._entries, {}
        self._keys, self._turns = {}, set()
        calls_of: dict[UUID, list[ToolCall]] = {}
        for call in calls:
            calls_of.setdefault(call.message_id, []).append(call)
        questions = {job.id: job.message_id for job in jobs}
        self._elsewhere = _on_other_branches(messages, jobs)
        for message in messages:
            progress = self._add_message(message, questions.get(message.job_id) if message.job_id else None).progress
            for call in calls_of.get(message.id, ()):
                progress.add_call(call)
        for job in {(job.message_id, job.agent_id): job for job in jobs}.values():
            if job.status is not JobStatus.DONE and self._is_shown(job.id, job.message_id):
                self._job_entry(job).progress.set_status(job.status, unfinished.get(job.id) or job.reason or "")
        for key, entry in self._entries.items():
            if key in before:
                entry.progress.carry_over(before[key].progress)
        for job in jobs:
            if job.partial and str(job.id) in self._entries:
                self._entries[str(job.id)].progress.add_partial(job)
        for request in approvals:
            self.apply(request)
        self.set_alternatives(alternatives)
        self._touched = {key for key, entry in self._entries.items() if entry.is_being_written}

    def set_alternatives(self, alternatives: Mapping[UUID, Sequence[UUID]]) -> None:
        """Show which questions and answers have several versions."""
        for entry in self._entries.values():
            branch = entry.find_branch(alternatives)
            if branch != entry.branch:
                entry.branch = branch
                self._touched.add(entry.key)

    def markdown_of(self, key: str) -> str:
        """Return the text of an entry as Markdown; "" if there is no such entry."""
        return self._entries[key].markdown() if key in self._entries else ""

    def apply(self, event: events.Event) -> None:
        """Update from an event. Messages on another branch than the one shown are ignored."""
        match event:
            case events.AgentAdded(agent=agent):
                self._names[agent.id] = agent.name
            case events.MessageEvent(message=message):
                if message.job_id is None or self._is_shown(message.job_id, message.parent_id):
                    self._add_message(message)
            case events.JobEvent(job=job):
                if self._is_shown(job.id, job.message_id):
                    self._job_entry(job).progress.apply(event)
            case events.ModelLoading(job_id=None):
                for entry in self._entries.values():
                    if entry.progress.status != "queued" and entry.progress.waits_for_model(event):
                        self._touched.add(entry.key)
                        entry.progress.apply(event)
            case _ if (key := str(event.job_id)) in self._entries:
                if isinstance(event, events.MessageDelta):
                    self._thought.take(event)
                self._touched.add(key)
                self._entries[key].progress.apply(event)

    def answer_in(self, key: str) -> str | None:
        """Return the id of an entry's message, if it has one."""
        parts = self._entries[key].progress.parts if key in self._entries else {}
        return next((str(each) for each, part in parts.items() if isinstance(part, TextProgress)), None)

    def continues_with(self, event: events.MessageAdded) -> bool:
        """Return whether an added message belongs to the branch shown; all but questions on another one do."""
        message = event.message
        if message.role != "user" or self._entry_of(message.id) is not None:
            return True
        return not self._entries if message.parent_id is None else self._entry_of(message.parent_id) is not None

    def changes(self) -> list[Change]:
        """Return what the page does not have yet."""
        touched, self._touched = self._touched, set()
        return [each for after, entry in self._in_order() if entry.key in touched for each in entry.changes(after)]

    def slices(self, size: int) -> Iterator[list[Change]]:
        """Return all of it for a new page, the last entries first, so many at once. Send `changes` first.

        A slice is rendered when it is asked for, so what has changed until then is in it.
        """
        order = list(self._in_order())
        for end in range(len(order), 0, -size):
            yield [each for after, entry in order[max(0, end - size) : end] for each in entry.everything(after)]

    def _in_order(self) -> "zip[tuple[str | None, PanelEntry]]":
        """Return each entry with the key of the one before it."""
        return zip((None, *self._entries), self._entries.values(), strict=False)

    def _is_shown(self, job_id: UUID, message_id: UUID | None) -> bool:
        """Return whether a job has an entry, or the message that it answers."""
        if job_id in self._elsewhere:
            return False
        return str(job_id) in self._entries or self._entry_of(message_id) is not None

    def _entry_of(self, message_id: UUID | None) -> PanelEntry | None:
        """Return the entry that shows a stored message."""
        return self._entries.get(self._keys.get(message_id, "")) if message_id else None

    def _add_message(self, message: Message, question: UUID | None = None) -> PanelEntry:
        """Add a stored message: a question as an entry of its own, an agent's message to the entry of its job."""
        if message.role == "user":
            entry = self._get_or_add_entry(str(message.id), message.id, "You", "said")
            entry.question = message.typed or message.content
            entry.said = [part if isinstance(part, str) else [part.label, capped(part.text)] for part in message.parts]
            entry.attachments, entry.begun = message.attachments, message.inserted_at
            self._keys[message.id] = entry.key
            return entry
        name = self._names.get(message.agent_id, "Assistant") if message.agent_id else message.role
        entry = self._get_or_add_entry(
            str(message.job_id or f"about {message.id}"), question or message.parent_id, name
        )
        entry.author = str(message.agent_id or "")
        if message.role != "tool":
            entry.progress.add_message(message)
            self._keys[message.id] = entry.key
        return entry

    def _job_entry(self, job: Job) -> PanelEntry:
        entry = self._get_or_add_entry(str(job.id), job.message_id, self._names.get(job.agent_id, "Assistant"))
        entry.progress.model = job.model
        entry.author, entry.begun = str(job.agent_id), job.started_at
        return entry

    def _get_or_add_entry(self, key: str, follows: UUID | None, who: str, status: str = "done") -> PanelEntry:
        """Return the entry with a key; a new one becomes the last of the turn of the message that it follows."""
        if key not in self._entries:
            parent = self._entry_of(follows)
            turn = parent.turn if parent else str(follows or key)
            entry = PanelEntry(key, turn, JobProgress(who, status=status), self._thought)
            if turn in self._turns and turn != next(reversed(self._entries.values())).turn:
                entries = list(self._entries.items())
                at = max(i + 1 for i, (_, each) in enumerate(entries) if each.turn == turn)
                self._entries = dict([*entries[:at], (key, entry), *entries[at:]])
            else:
                self._entries[key] = entry
            self._turns.add(turn)
        self._touched.add(key)
        return self._entries[key]


def _on_other_branches(messages: Sequence[Message], jobs: Sequence[Job]) -> set[UUID]:
    """Return the queued and running jobs whose agents' answers to the same messages are shown from earlier jobs."""
    shown = {message.job_id for message in messages}
    answered = {(job.message_id, job.agent_id) for job in jobs if job.status is JobStatus.DONE and job.id in shown}
    active = {job.id for job in jobs if job.status in {JobStatus.QUEUED, JobStatus.RUNNING}}
    return {job.id for job in jobs if job.id in active and (job.message_id, job.agent_id) in answered}
