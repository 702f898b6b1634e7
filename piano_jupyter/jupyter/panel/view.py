"""What the panel shows, worked out from records and events. It knows no widget, no loop and no page.

A conversation is entries (what the user said; the work of one job) and an entry's parts (texts, tool calls). `changes`
tells what is new since it was last asked, `everything` tells it all: the page applies both in the same way.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from piano_jupyter.events import (
    AgentAdded,
    Answered,
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
from piano_jupyter.jupyter.render.cost import usage_parts
from piano_jupyter.jupyter.render.markdown_html import TEXT_LIMIT, Stream, exact, legible, render
from piano_jupyter.jupyter.render.tables import PLAIN_LIMIT, capped
from piano_jupyter.records import Agent, Job, JobStatus, Message, ToolCall
from piano_jupyter.text.markdown import as_markdown
from piano_jupyter.text.truncation import truncated

Change = dict[str, Any]

ACTIVE = frozenset({"queued", "loading", "thinking", "writing", "calling", "asking"})
HELD_UP = frozenset({"thinking", "loading"})  # by a model that is loaded for whoever asks
SEEN = 10  # lines of a value that are seen without scrolling
PREVIEW = 90  # characters of a call's arguments that stand beside its name
STANDS = {
    JobStatus.QUEUED: ("queued", "waiting in the queue"),
    JobStatus.RUNNING: ("thinking", "thinking"),
    JobStatus.DONE: ("done", ""),
    JobStatus.FAILED: ("failed", "it failed, and no reason is known"),
    JobStatus.CANCELLED: ("cancelled", "stopped"),
}


@dataclass
class Part:
    """A text or a tool call."""

    shown: Change
    stream: Stream | None = None  # while the text is being written
    reasoning: str = ""  # what the page does not have of it
    is_new: bool = True

    def whole(self) -> Change:
        written = {"html": self.stream.finished, "tail": self.stream.tail} if self.stream else {}
        return self.shown | written

    def news(self) -> Change:
        """Return what the page lacks: all of it, or what was written since."""
        if self.stream is None:
            return self.shown
        news, reasoning = self.stream.update(), self.reasoning
        self.shown["reasoning"] += reasoning
        was_new, self.is_new, self.reasoning = self.is_new, False, ""
        return self.whole() if was_new else {"stream": self.shown["part"], "reasoning": reasoning, **news}


@dataclass
class Entry:
    """What the user said, or the work of one job."""

    key: str
    turn: str  # the key of the question that it belongs to
    who: str
    state: str = "said"
    note: str = ""
    fraction: float | None = None
    text: str = ""
    is_whole: bool = True
    parts: dict[str, Part] = field(default_factory=dict)

    @property
    def can(self) -> str:
        """What a click may do with it, now that it stands."""
        if self.state == "said":
            return "edit" if self.text and self.is_whole else ""
        return "regenerate" if self.state == "done" else ""

    def shown(self, after: str | None) -> Change:
        told = {"who": self.who, "state": self.state, "note": self.note, "fraction": self.fraction, "text": self.text}
        return {"entry": self.key, "after": after, "can": self.can, **told}


class Conversation:
    """A thread as the panel shows it."""

    def __init__(self) -> None:
        self._names: dict[UUID, str] = {}
        self._entries: dict[str, Entry] = {}  # in reading order
        self._touched: set[str] = set()  # entries and parts that the page does not have as they are
        self._dropped: list[str] = []
        self._flags: dict[UUID, str] = {}  # what calls reach for, by call: never kept, so remembered here

    @property
    def busy(self) -> bool:
        """Whether a job of the thread waits or runs."""
        return any(entry.state in ACTIVE for entry in self._entries.values())

    def load(
        self,
        agents: Sequence[Agent],
        messages: Sequence[Message],
        calls: Sequence[ToolCall],
        jobs: Sequence[Job],
        approvals: Sequence[ApprovalRequested] = (),
    ) -> None:
        """Show what is kept. What was shown before and is not kept (an answer being written) stays."""
        self._names |= {agent.id: agent.name for agent in agents}
        before, self._entries = self._entries, {}
        questions = {job.id: job.message_id for job in jobs}
        for message in messages:
            entry = self._add(message, questions.get(message.job_id) if message.job_id else None)
            for call in calls:
                if call.message_id == message.id:
                    self._call(entry, call)
        for job in {(job.message_id, job.agent_id): job for job in jobs}.values():
            if job.status is not JobStatus.DONE and self._has(job.id, job.message_id):
                self._stand(self._answer(job), job.status, job.reason or "")
        for key, entry in self._entries.items():
            if known := before.get(key):
                entry.state, entry.note, entry.fraction = known.state, known.note, known.fraction
                entry.parts |= {each: part for each, part in known.parts.items() if each not in entry.parts}
        for request in approvals:
            self.apply(request)

    def apply(self, event: Event) -> None:
        """Take in what has happened. What follows a message that is not shown (on another branch) is left out."""
        if not self._is_shown(event):
            return
        match event:
            case AgentAdded(agent=agent):
                self._names[agent.id] = agent.name
            case MessageAdded(message=message) | Answered(message=message):
                self._add(message)
            case JobQueued() | JobStarted() | JobDone() | JobFailed() | JobCancelled():
                self._apply_to_job(event)
            case ToolFlagged(call=call, reason=reason):
                self._flags[call.id] = reason
            case (
                MessageDelta() | HistoryTrimmed() | ToolCalled() | ToolReturned() | ToolWaiting() | ApprovalRequested()
            ):
                entry = self._entries.get(str(event.job_id))
                if entry is not None and entry.state in ACTIVE:
                    self._apply_to_turn(entry, event)
                elif entry is not None and isinstance(event, ToolReturned):
                    self._call(entry, event.call)
            case ModelLoading(job_id=job_id, note=note, fraction=fraction):
                for entry in self._entries.values():
                    if entry.state in (ACTIVE if entry.key == str(job_id) else HELD_UP if job_id is None else ()):
                        self._tell(entry, "loading", note, fraction)
            case _:
                pass

    def answer_in(self, key: str) -> str | None:
        """Return the id of the message that ends an entry's work, if it has said anything."""
        parts = self._entries[key].parts.values() if key in self._entries else ()
        return next((str(part.shown["part"]) for part in parts if part.shown["kind"] == "text"), None)

    def _is_shown(self, event: Event) -> bool:
        match event:
            case (
                JobQueued(job=job) | JobStarted(job=job) | JobDone(job=job) | JobFailed(job=job) | JobCancelled(job=job)
            ):
                return self._has(job.id, job.message_id)
            case MessageAdded(message=message) | Answered(message=message) if message.job_id is not None:
                return self._has(message.job_id, message.parent_id)
            case _:
                return True

    def _has(self, job_id: UUID, message_id: UUID | None) -> bool:
        """Whether a job's work is shown, or else the message that it follows."""
        key = str(message_id)
        return not self._entries.keys().isdisjoint({str(job_id), key}) or any(
            key in entry.parts for entry in self._entries.values()
        )

    def leads_to(self, event: MessageAdded) -> bool:
        """Whether a new question follows what is shown; anything else that is added does."""
        message = event.message
        if message.role != "user" or message.parent_id is None:
            return True
        key = str(message.parent_id)
        return key in self._entries or any(key in entry.parts for entry in self._entries.values())

    def changes(self) -> list[Change]:
        """Return what the page does not have yet."""
        told: list[Change] = [{"drop": key} for key in self._dropped]
        after = None
        for entry in self._entries.values():
            if entry.key in self._touched:
                told.append(entry.shown(after))
            told += [{"in": entry.key} | part.news() for key, part in entry.parts.items() if key in self._touched]
            after = entry.key
        self._touched.clear()
        self._dropped.clear()
        return told

    def everything(self) -> list[Change]:
        """Return all of it, for a page that has nothing. Send `changes` first."""
        told: list[Change] = []
        after = None
        for entry in self._entries.values():
            told += [entry.shown(after), *({"in": entry.key} | part.whole() for part in entry.parts.values())]
            after = entry.key
        return told

    def _apply_to_job(self, event: JobQueued | JobStarted | JobDone | JobFailed | JobCancelled) -> None:
        entry = self._answer(event.job)
        match event:
            case JobStarted():
                self._drop_unfinished(entry)
            case JobDone(message=message):
                self._add(message)
            case _:
                pass
        self._stand(entry, event.job.status, event.reason if isinstance(event, JobFailed) else "")

    def _apply_to_turn(
        self,
        entry: Entry,
        event: MessageDelta | HistoryTrimmed | ToolCalled | ToolReturned | ToolWaiting | ApprovalRequested,
    ) -> None:
        match event:
            case HistoryTrimmed(note=note):
                self._tell(entry, "thinking", note)
            case MessageDelta():
                self._write(entry, event)
            case ApprovalRequested(call=call):
                self._call(entry, call, event)
                self._tell(entry, "asking", "waits for your yes")
            case ToolCalled(call=call):
                self._call(entry, call)
                self._tell(entry, "calling", f"running {call.name}")
            case ToolWaiting(call=call, note=note):
                self._call(entry, call, state="waiting")
                self._tell(entry, "calling", f"{call.name} waits: {note}")
            case ToolReturned(call=call):
                self._call(entry, call)
                self._tell(entry, "thinking", "thinking")

    def _add(self, message: Message, question: UUID | None = None) -> Entry:
        """Show a kept message: the user's as an entry of its own, an agent's in the entry of its job."""
        key = str(message.id)
        if message.role == "user":
            entry = self._entry(key, key, "You")
            entry.text, entry.is_whole = capped(message.content), len(message.content) <= PLAIN_LIMIT
            return entry
        name = self._names.get(message.agent_id, "Assistant") if message.agent_id else message.role
        job = str(message.job_id or f"about {message.id}")
        follows = question or message.parent_id
        entry = self._entry(job, self._turn(follows) if follows else job, name)
        entry.state = "done" if entry.state == "said" else entry.state
        if message.role == "system":
            html = f"<p><em>{exact(message.content)}</em></p>"
            self._put(entry, {"part": key, "kind": "text", "html": html, "tail": "", "reasoning": ""})
        elif message.role != "tool":
            self._drop_unfinished(entry, but=key)
            html, reasoning = render(as_markdown(message.content), highlight=True), capped(message.reasoning)
            shown = {"part": key, "kind": "text", "html": html, "tail": "", "reasoning": reasoning}
            cost = exact(" · ".join(usage_parts(message)))
            self._put(entry, shown | ({"cost": cost} if cost else {}))
        return entry

    def _answer(self, job: Job) -> Entry:
        return self._entry(str(job.id), self._turn(job.message_id), self._names.get(job.agent_id, "Assistant"))

    def _turn(self, message_id: UUID) -> str:
        """Return the turn of a job by the message that it answers: a question, or an answer that asks another agent."""
        key = str(message_id)
        return next((entry.turn for entry in self._entries.values() if key in entry.parts), key)

    def _entry(self, key: str, turn: str, who: str) -> Entry:
        """Return the entry of this key; a new one stands last in its turn."""
        if key not in self._entries:
            told = list(self._entries.items())
            at = max((i + 1 for i, (_, each) in enumerate(told) if each.turn == turn), default=len(told))
            self._entries = dict([*told[:at], (key, Entry(key, turn, who)), *told[at:]])
        self._touched.add(key)
        return self._entries[key]

    def _stand(self, entry: Entry, status: JobStatus, reason: str = "") -> None:
        """Show where a job stands; calls that its end left open are over."""
        state, note = STANDS[status]
        self._tell(entry, state, reason or note)
        if state not in ACTIVE:
            for part in list(entry.parts.values()):
                if part.shown.get("state") in {"running", "waiting", "asks"}:
                    self._put(entry, part.shown | {"state": state, "question": "", "reason": ""})

    def _tell(self, entry: Entry, state: str, note: str, fraction: float | None = None) -> None:
        entry.state, entry.note, entry.fraction = state, note, fraction
        self._touched.add(entry.key)

    def _write(self, entry: Entry, delta: MessageDelta) -> None:
        """Take the next piece of an answer; one that begins anew replaces what was not finished."""
        key = str(delta.message_id)
        if key not in entry.parts:
            self._drop_unfinished(entry)
            shown = {"part": key, "kind": "text", "html": "", "tail": "", "reasoning": ""}
            entry.parts[key] = Part(shown, Stream())
        part = entry.parts[key]
        if part.stream is None:
            return
        part.stream.add(delta.text)
        part.reasoning += delta.reasoning[: max(0, TEXT_LIMIT - len(part.shown["reasoning"]))]
        self._touched.add(key)
        if delta.text and entry.state != "writing":
            self._tell(entry, "writing", "writing")
        elif not delta.text and entry.state == "loading":
            self._tell(entry, "thinking", "thinking")

    def _call(self, entry: Entry, call: ToolCall, request: ApprovalRequested | None = None, state: str = "") -> None:
        values = {name: _written(value) for name, value in call.arguments.items()}
        preview = " ".join(", ".join(values.values()).split())
        flag = self._flags.get(call.id, "")
        shown = {
            "part": str(call.id),
            "kind": "call",
            "name": exact(call.name),
            "preview": exact(truncated(preview, PREVIEW)),
            "arguments": [[exact(name) + _lines(value), exact(value)] for name, value in values.items()],
            "result": legible(call.result) if call.result else None,
            "state": "asks" if request else state or call.outcome,
            "flag": exact(flag),
            "question": request.question if request else "",
            "reason": exact(request.reason.removesuffix(f"; {flag}")) if request else "",
            "always": exact(request.always) if request else "",
            "request": str(request.id) if request else "",
        }
        self._put(entry, shown)

    def _put(self, entry: Entry, shown: Change) -> None:
        """Show a part as it is from now on."""
        part = entry.parts.setdefault(shown["part"], Part(shown))
        part.shown, part.stream = shown, None
        self._touched.add(shown["part"])

    def _drop_unfinished(self, entry: Entry, but: str | None = None) -> None:
        for key in [key for key, part in entry.parts.items() if part.stream is not None and key != but]:
            del entry.parts[key]
            self._touched.discard(key)
            self._dropped.append(key)


def _written(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def _lines(value: str) -> str:
    """Return how many lines a value has, where they are more than are seen at once."""
    many = value.count("\n") + 1
    return f"<br>{many:,} lines" if many > SEEN else ""
