"""The content of the panel, computed from records and events, without widget, loop or page.

A conversation consists of entries (a question; the work of one job) and their parts (texts, tool calls). `changes`
returns what is new since the last time, `everything` all of it: the page applies both in the same way.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any
from uuid import UUID

from piano_jupyter import events
from piano_jupyter.approval_prompt import argument_text
from piano_jupyter.attachments.attachment import Attachment
from piano_jupyter.jupyter.render.cost import usage_parts
from piano_jupyter.jupyter.render.markdown_html import (
    MAX_RENDERED_CHARS,
    MarkdownStream,
    exact_html,
    readable_html,
    render,
)
from piano_jupyter.jupyter.render.tables import MAX_TEXT_CHARS, capped
from piano_jupyter.progress import CallProgress, JobProgress, TextProgress
from piano_jupyter.records import Agent, Job, JobStatus, Message, ToolCall
from piano_jupyter.text.markdown import as_markdown
from piano_jupyter.text.truncation import truncated

Change = dict[str, Any]

VISIBLE_LINES = 10  # of a value, without scrolling
MAX_PREVIEW_CHARS = 90  # of the arguments beside the name of a call
STATUS_NOTES = {
    "queued": "waiting in the queue",
    "thinking": "thinking",
    "writing": "writing",
    "failed": "failed without a known reason",
    "cancelled": "stopped",
}


@dataclass
class EntryPart:
    """A text or a tool call, as last sent to the page."""

    sent: Change
    source: Any = None  # what it was rendered from
    stream: MarkdownStream | None = None  # while the text is being written
    length: int = 0  # of the text that the stream has
    is_new: bool = True

    def complete(self) -> Change:
        streamed = {"html": self.stream.finished, "tail": self.stream.tail} if self.stream else {}
        return self.sent | streamed

    def changes(self, now: TextProgress | CallProgress) -> Change:
        """Return what the page does not have yet: the whole part, the text written since, or nothing."""
        was_new, self.is_new = self.is_new, False
        if self.stream is None or isinstance(now, CallProgress):
            return self.sent if was_new else {}
        written = now.text.getvalue()[self.length :]
        reasoning = now.reasoning.getvalue()[len(self.sent["reasoning"]) : MAX_RENDERED_CHARS]
        if not (was_new or written or reasoning):
            return {}
        self.stream.add(written)
        self.length += len(written)
        self.sent["reasoning"] += reasoning
        update = self.stream.update()
        return self.complete() if was_new else {"stream": self.sent["part"], "reasoning": reasoning, **update}


@dataclass
class PanelEntry:
    """A question of the user, or the work of one job."""

    key: str
    turn: str  # the key of its question
    progress: JobProgress  # with the status "said" for a question
    question: str = ""
    said: Sequence[str | list[str]] = ()  # the question in parts: texts, and labels with what was inserted
    attachments: Sequence[Attachment] = ()
    parts: dict[UUID, EntryPart] = field(default_factory=dict)  # those sent to the page
    sent: Change = field(default_factory=dict)  # the header, as last sent to the page

    @property
    def action(self) -> str:
        """What the user can do with it: "edit", "regenerate" or ""."""
        if self.progress.status == "said":
            return "edit" if 0 < len(self.question) <= MAX_TEXT_CHARS else ""
        return "regenerate" if self.progress.status == "done" else ""

    def header(self, after: str | None) -> Change:
        now = self.progress
        state = "thinking" if now.status == "running" else now.status
        status = {
            "who": now.name,
            "state": state,
            "note": now.note or STATUS_NOTES.get(state, ""),
            "fraction": now.fraction,
        }
        shown = {"text": capped(self.question), "attachments": attachment_names(self.attachments)}
        header = {"entry": self.key, "after": after, "can": self.action, **shown, **status}
        return header if all(isinstance(part, str) for part in self.said) else header | {"said": self.said}

    def changes(self, after: str | None) -> list[Change]:
        """Return what the page does not have of it yet."""
        header, before = self.header(after), self.sent
        self.sent = header
        dropped = [key for key in self.parts if key not in self.progress.parts]
        for key in dropped:
            del self.parts[key]
        part_changes = (
            {"in": self.key} | change for key, now in self._parts() if (change := self.parts[key].changes(now))
        )
        return [*({"drop": str(key)} for key in dropped), *([header] if header != before else []), *part_changes]

    def everything(self, after: str | None) -> list[Change]:
        """Return all of the entry."""
        return [self.header(after), *({"in": self.key} | self.parts[key].complete() for key, _ in self._parts())]

    def _parts(self) -> list[tuple[UUID, TextProgress | CallProgress]]:
        """Return its parts, after rendering those that have changed."""
        for key, now in self.progress.parts.items():
            source = now if isinstance(now, CallProgress) else now.message or now
            if key not in self.parts or self.parts[key].source != source:
                self.parts[key] = _entry_part(key, now)
        return list(self.progress.parts.items())


class ThreadView:
    """A thread as the panel shows it."""

    def __init__(self) -> None:
        self._names: dict[UUID, str] = {}
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
    ) -> None:
        """Load what is stored, and keep what is not stored yet (an answer being written).

        `unfinished` are jobs of an earlier kernel, each with what it waits for.
        """
        self._names |= {agent.id: agent.name for agent in agents}
        before, self._entries = self._entries, {}
        self._keys, self._turns = {}, set()
        calls_of: dict[UUID, list[ToolCall]] = {}
        for call in calls:
            calls_of.setdefault(call.message_id, []).append(call)
        questions = {job.id: job.message_id for job in jobs}
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
        for request in approvals:
            self.apply(request)

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
                self._touched.add(key)
                self._entries[key].progress.apply(event)

    def answer_in(self, key: str) -> str | None:
        """Return the id of an entry's message, if it has one."""
        parts = self._entries[key].progress.parts if key in self._entries else {}
        return next((str(each) for each, part in parts.items() if isinstance(part, TextProgress)), None)

    def continues_with(self, event: events.MessageAdded) -> bool:
        """Return whether an added message belongs to the branch shown; all but questions on another one do."""
        message = event.message
        return message.role != "user" or message.parent_id is None or self._entry_of(message.parent_id) is not None

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
            entry.attachments = message.attachments
            self._keys[message.id] = entry.key
            return entry
        name = self._names.get(message.agent_id, "Assistant") if message.agent_id else message.role
        entry = self._get_or_add_entry(
            str(message.job_id or f"about {message.id}"), question or message.parent_id, name
        )
        if message.role != "tool":
            entry.progress.add_message(message)
            self._keys[message.id] = entry.key
        return entry

    def _job_entry(self, job: Job) -> PanelEntry:
        entry = self._get_or_add_entry(str(job.id), job.message_id, self._names.get(job.agent_id, "Assistant"))
        entry.progress.model = job.model
        return entry

    def _get_or_add_entry(self, key: str, follows: UUID | None, who: str, status: str = "done") -> PanelEntry:
        """Return the entry with a key; a new one becomes the last of the turn of the message that it follows."""
        if key not in self._entries:
            parent = self._entry_of(follows)
            turn = parent.turn if parent else str(follows or key)
            entry = PanelEntry(key, turn, JobProgress(who, status=status))
            if turn in self._turns and turn != next(reversed(self._entries.values())).turn:
                entries = list(self._entries.items())
                at = max(i + 1 for i, (_, each) in enumerate(entries) if each.turn == turn)
                self._entries = dict([*entries[:at], (key, entry), *entries[at:]])
            else:
                self._entries[key] = entry
            self._turns.add(turn)
        self._touched.add(key)
        return self._entries[key]


def _entry_part(key: UUID, now: TextProgress | CallProgress) -> EntryPart:
    if isinstance(now, CallProgress):
        return EntryPart(_call_change(now), replace(now))
    return EntryPart(_text_change(key, now.message), now.message or now, None if now.message else MarkdownStream())


def _text_change(key: UUID, message: Message | None) -> Change:
    shown = {"part": str(key), "kind": "text", "html": "", "tail": "", "reasoning": ""}
    if message is None:
        return shown
    if message.role == "system":
        return shown | {"html": f"<p><em>{exact_html(message.content)}</em></p>"}
    html, cost = render(as_markdown(message.content), highlight=True), exact_html(" · ".join(usage_parts(message)))
    return shown | {"html": html, "reasoning": capped(message.reasoning)} | ({"cost": cost} if cost else {})


def _call_change(now: CallProgress) -> Change:
    call, request = now.call, now.request
    values = {name: argument_text(value) for name, value in call.arguments.items()}
    preview = " ".join(", ".join(values.values()).split())
    return {
        "part": str(call.id),
        "kind": "call",
        "name": exact_html(call.name),
        "preview": exact_html(truncated(preview, MAX_PREVIEW_CHARS)),
        "arguments": [[exact_html(name) + _line_count(value), exact_html(value)] for name, value in values.items()],
        "result": readable_html(call.result) if call.result else None,
        "attachments": attachment_names(call.attachments),
        "state": now.state,
        "flag": exact_html(now.flag),
        "question": request.question if request else "",
        "reason": exact_html(request.reason.removesuffix(f"; {now.flag}")) if request else "",
        "always": exact_html(request.always) if request else "",
        "request": str(request.id) if request else "",
    }


def attachment_names(attachments: Sequence[Attachment]) -> list[list[str]]:
    """Return the hash and the label of attachments: the page asks for their content when it shows them."""
    return [[each.sha256, each.label] for each in attachments]


def _line_count(value: str) -> str:
    """Return the number of lines of a value that needs scrolling."""
    number = value.count("\n") + 1
    return f"<br>{number:,} lines" if number > VISIBLE_LINES else ""
