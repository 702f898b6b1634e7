"""PanelEntry: a question of the user, or the work of one job, and what the page is told of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from piano_jupyter.attachments.attachment import Attachment
from piano_jupyter.jupyter.panel.parts import Change, EntryPart, attachment_names, entry_part, epoch
from piano_jupyter.jupyter.panel.thinking_times import ThinkingTimes
from piano_jupyter.jupyter.render.tables import MAX_TEXT_CHARS, capped
from piano_jupyter.progress import CallProgress, JobProgress, TextProgress

STATUS_NOTES = {
    "queued": "waiting in the queue",
    "thinking": "thinking",
    "writing": "generating",
    "failed": "failed without a known reason",
    "cancelled": "stopped",
}


@dataclass
class PanelEntry:
    """A question of the user, or the work of one job."""

    key: str
    turn: str  # the key of its question
    progress: JobProgress  # with the status "said" for a question
    thought: ThinkingTimes
    question: str = ""
    said: Sequence[str | list[str]] = ()  # the question in parts: texts, and labels with what was inserted
    attachments: Sequence[Attachment] = ()
    author: str = ""  # the id of the agent
    begun: datetime | None = None  # when the question was asked, or the job was started
    branch: Change | None = None  # which of several versions it is, and the ids of those beside it
    parts: dict[UUID, EntryPart] = field(default_factory=dict)  # those sent to the page
    sent: Change = field(default_factory=dict)  # the header, as last sent to the page

    @property
    def action(self) -> str:
        """What the user can do with it: "edit", "regenerate" or ""."""
        if self.progress.status == "said":
            return "edit" if 0 < len(self.question) <= MAX_TEXT_CHARS else ""
        return "regenerate" if self.progress.status == "done" else ""

    @property
    def is_being_written(self) -> bool:
        """Whether a text of it is not stored: `changes` takes in what has come of it, `everything` does not."""
        return any(isinstance(each, TextProgress) and each.message is None for each in self.progress.parts.values())

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
        about = {"author": self.author, "begun": epoch(self.begun), "branch": self.branch}
        header = {"entry": self.key, "after": after, "can": self.action, **shown, **status, **about}
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
                self.parts[key] = entry_part(key, now)
            if isinstance(now, TextProgress):
                kept = now.message.usage.get("thought_s") if now.message else None
                self.parts[key].thought_s = self.thought.seconds(key) if kept is None else kept
        return list(self.progress.parts.items())

    def markdown(self) -> str:
        """Return the texts of it as they were written."""
        texts = [each for each in self.progress.parts.values() if isinstance(each, TextProgress)]
        written = (text.message.content if text.message else text.text.getvalue() for text in texts)
        return self.question or "\n\n".join(each.strip() for each in written if each.strip())

    def find_branch(self, alternatives: Mapping[UUID, Sequence[UUID]]) -> Change | None:
        """Return which version of a question or an answer it shows; None if there is only one."""
        ids = [UUID(self.key)] if self.progress.status == "said" else list(self.progress.parts)
        shown = next((each for each in ids if each in alternatives), None)
        if shown is None:
            return None
        at = alternatives[shown].index(shown)
        names = [None, *map(str, alternatives[shown]), None]
        return {"id": str(shown), "at": at + 1, "of": len(names) - 2, "before": names[at], "after": names[at + 2]}
