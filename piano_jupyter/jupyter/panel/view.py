"""What the panel shows, worked out from records and events. It knows no widget, no loop and no page.

A conversation is entries (what the user said; the work of one job) and an entry's parts (texts, tool calls). `changes`
tells what is new since it was last asked, `everything` tells it all: the page applies both in the same way.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any
from uuid import UUID

from piano_jupyter import events
from piano_jupyter.approval_prompt import written
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

VISIBLE_LINES = 10  # lines of a value that are seen without scrolling
MAX_PREVIEW_CHARS = 90  # characters of a call's arguments that stand beside its name
STATUS_NOTES = {
    "queued": "waiting in the queue",
    "thinking": "thinking",
    "writing": "writing",
    "failed": "it failed, and no reason is known",
    "cancelled": "stopped",
}


@dataclass
class EntryPart:
    """A text or a tool call, as the page has it."""

    shown: Change
    drawn: Any = None  # what it was drawn from
    stream: MarkdownStream | None = None  # while the text is being written
    length: int = 0  # of what the stream has of it
    is_new: bool = True

    def whole(self) -> Change:
        written = {"html": self.stream.finished, "tail": self.stream.tail} if self.stream else {}
        return self.shown | written

    def news(self, now: TextProgress | CallProgress) -> Change:
        """Return what the page lacks: all of it, what was written since, or nothing."""
        was_new, self.is_new = self.is_new, False
        if self.stream is None or isinstance(now, CallProgress):
            return self.shown if was_new else {}
        written = now.text.getvalue()[self.length :]
        reasoning = now.reasoning.getvalue()[len(self.shown["reasoning"]) : MAX_RENDERED_CHARS]
        if not (was_new or written or reasoning):
            return {}
        self.stream.add(written)
        self.length += len(written)
        self.shown["reasoning"] += reasoning
        news = self.stream.update()
        return self.whole() if was_new else {"stream": self.shown["part"], "reasoning": reasoning, **news}


@dataclass
class PanelEntry:
    """What the user said, or the work of one job."""

    key: str
    turn: str  # the key of the question that it belongs to
    progress: JobProgress  # "said" is what the user said
    question: str = ""
    parts: dict[UUID, EntryPart] = field(default_factory=dict)  # those that were shown
    told: Change = field(default_factory=dict)  # how the page has it

    @property
    def can(self) -> str:
        """What a click may do with it, now that it stands."""
        if self.progress.status == "said":
            return "edit" if 0 < len(self.question) <= MAX_TEXT_CHARS else ""
        return "regenerate" if self.progress.status == "done" else ""

    def shown(self, after: str | None) -> Change:
        now = self.progress
        state = "thinking" if now.status == "running" else now.status
        told = {
            "who": now.name,
            "state": state,
            "note": now.note or STATUS_NOTES.get(state, ""),
            "fraction": now.fraction,
        }
        return {"entry": self.key, "after": after, "can": self.can, "text": capped(self.question), **told}

    def news(self, after: str | None) -> list[Change]:
        """Return what the page lacks of it."""
        shown, before = self.shown(after), self.told
        self.told = shown
        dropped = [key for key in self.parts if key not in self.progress.parts]
        for key in dropped:
            del self.parts[key]
        news = ({"in": self.key} | told for key, now in self._parts() if (told := self.parts[key].news(now)))
        return [*({"drop": str(key)} for key in dropped), *([shown] if shown != before else []), *news]

    def everything(self, after: str | None) -> list[Change]:
        """Return all of it."""
        return [self.shown(after), *({"in": self.key} | self.parts[key].whole() for key, _ in self._parts())]

    def _parts(self) -> list[tuple[UUID, TextProgress | CallProgress]]:
        """Return the parts of its work, once each is drawn as it stands."""
        for key, now in self.progress.parts.items():
            source = now if isinstance(now, CallProgress) else now.message or now
            if key not in self.parts or self.parts[key].drawn != source:
                self.parts[key] = _entry_part(key, now)
        return list(self.progress.parts.items())


class ThreadView:
    """A thread as the panel shows it."""

    def __init__(self) -> None:
        self._names: dict[UUID, str] = {}
        self._entries: dict[str, PanelEntry] = {}  # in reading order
        self._touched: set[str] = set()  # entries that the page may not have as they are

    @property
    def busy(self) -> bool:
        """Whether a job of the thread waits or runs."""
        return any(not entry.progress.has_ended for entry in self._entries.values())

    def load(
        self,
        agents: Sequence[Agent],
        messages: Sequence[Message],
        calls: Sequence[ToolCall],
        jobs: Sequence[Job],
        approvals: Sequence[events.ApprovalRequested] = (),
        held: Mapping[UUID, str] = MappingProxyType({}),
    ) -> None:
        """Show what is kept. What was shown before and is not kept (an answer being written) stays.

        `held` are unfinished jobs of an earlier kernel, each with what it waits for.
        """
        self._names |= {agent.id: agent.name for agent in agents}
        before, self._entries = self._entries, {}
        questions = {job.id: job.message_id for job in jobs}
        for message in messages:
            progress = self._add(message, questions.get(message.job_id) if message.job_id else None).progress
            for call in calls:
                if call.message_id == message.id:
                    progress.add_call(call)
        for job in {(job.message_id, job.agent_id): job for job in jobs}.values():
            if job.status is not JobStatus.DONE and self._has(job.id, job.message_id):
                self._answer(job).progress.set_status(job.status, held.get(job.id) or job.reason or "")
        for key, entry in self._entries.items():
            if key in before:
                entry.progress.carry_over(before[key].progress)
        for request in approvals:
            self.apply(request)

    def apply(self, event: events.Event) -> None:
        """Take in what has happened. What follows a message that is not shown (on another branch) is left out."""
        match event:
            case events.AgentAdded(agent=agent):
                self._names[agent.id] = agent.name
            case events.MessageEvent(message=message):
                if message.job_id is None or self._has(message.job_id, message.parent_id):
                    self._add(message)
            case events.JobEvent(job=job):
                if self._has(job.id, job.message_id):
                    self._answer(job).progress.apply(event)
            case events.ModelLoading(job_id=None):
                for entry in self._entries.values():
                    if entry.progress.status != "queued" and entry.progress.waits_for_model(event):
                        self._touched.add(entry.key)
                        entry.progress.apply(event)
            case _ if (key := str(event.job_id)) in self._entries:
                self._touched.add(key)
                self._entries[key].progress.apply(event)

    def answer_in(self, key: str) -> str | None:
        """Return the id of the message that ends an entry's work, if it has said anything."""
        parts = self._entries[key].progress.parts if key in self._entries else {}
        return next((str(each) for each, part in parts.items() if isinstance(part, TextProgress)), None)

    def leads_to(self, event: events.MessageAdded) -> bool:
        """Whether a new question follows what is shown; anything else that is added does."""
        message = event.message
        return message.role != "user" or message.parent_id is None or self._home(message.parent_id) is not None

    def changes(self) -> list[Change]:
        """Return what the page does not have yet."""
        touched, self._touched = self._touched, set()
        return [each for after, entry in self._in_order() if entry.key in touched for each in entry.news(after)]

    def everything(self) -> list[Change]:
        """Return all of it, for a page that has nothing. Send `changes` first."""
        return [each for after, entry in self._in_order() for each in entry.everything(after)]

    def _in_order(self) -> "zip[tuple[str | None, PanelEntry]]":
        """Return each entry with the key of the one before it."""
        return zip((None, *self._entries), self._entries.values(), strict=False)

    def _has(self, job_id: UUID, message_id: UUID | None) -> bool:
        """Whether a job's work is shown, or else the message that it follows."""
        return str(job_id) in self._entries or self._home(message_id) is not None

    def _home(self, message_id: UUID | None) -> PanelEntry | None:
        """Return the entry that a message is shown in."""
        entries = (entry for entry in self._entries.values() if message_id in entry.progress.parts)
        return self._entries.get(str(message_id)) or next(entries, None)

    def _add(self, message: Message, question: UUID | None = None) -> PanelEntry:
        """Show a kept message: the user's as an entry of its own, an agent's in the entry of its job."""
        if message.role == "user":
            entry = self._entry(str(message.id), message.id, "You", "said")
            entry.question = message.content
            return entry
        name = self._names.get(message.agent_id, "Assistant") if message.agent_id else message.role
        entry = self._entry(str(message.job_id or f"about {message.id}"), question or message.parent_id, name)
        if message.role != "tool":
            entry.progress.add_message(message)
        return entry

    def _answer(self, job: Job) -> PanelEntry:
        entry = self._entry(str(job.id), job.message_id, self._names.get(job.agent_id, "Assistant"))
        entry.progress.model = job.model
        return entry

    def _entry(self, key: str, follows: UUID | None, who: str, status: str = "done") -> PanelEntry:
        """Return the entry of this key; a new one stands last in the turn of the message that it follows."""
        if key not in self._entries:
            home = self._home(follows)
            turn = home.turn if home else str(follows or key)
            told = list(self._entries.items())
            at = max((i + 1 for i, (_, each) in enumerate(told) if each.turn == turn), default=len(told))
            entry = PanelEntry(key, turn, JobProgress(who, status=status))
            self._entries = dict([*told[:at], (key, entry), *told[at:]])
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
    values = {name: written(value) for name, value in call.arguments.items()}
    preview = " ".join(", ".join(values.values()).split())
    return {
        "part": str(call.id),
        "kind": "call",
        "name": exact_html(call.name),
        "preview": exact_html(truncated(preview, MAX_PREVIEW_CHARS)),
        "arguments": [[exact_html(name) + _line_count(value), exact_html(value)] for name, value in values.items()],
        "result": readable_html(call.result) if call.result else None,
        "state": now.state,
        "flag": exact_html(now.flag),
        "question": request.question if request else "",
        "reason": exact_html(request.reason.removesuffix(f"; {now.flag}")) if request else "",
        "always": exact_html(request.always) if request else "",
        "request": str(request.id) if request else "",
    }


def _line_count(value: str) -> str:
    """Return how many lines a value has, where they are more than are seen at once."""
    many = value.count("\n") + 1
    return f"<br>{many:,} lines" if many > VISIBLE_LINES else ""
