"""EntryPart: a text or a tool call of the conversation, and what the page is told of it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from uuid import UUID

from piano_jupyter.approval_prompt import argument_text
from piano_jupyter.attachments.attachment import Attachment
from piano_jupyter.jupyter.render.cost import brief_usage, usage_parts
from piano_jupyter.jupyter.render.markdown_html import (
    MAX_RENDERED_CHARS,
    MarkdownStream,
    exact_html,
    readable_html,
    render,
)
from piano_jupyter.jupyter.render.tables import capped
from piano_jupyter.progress import CallProgress, TextProgress
from piano_jupyter.records import Message
from piano_jupyter.text.markdown import as_markdown
from piano_jupyter.text.truncation import truncated

Change = dict[str, Any]

VISIBLE_LINES = 10  # of a value, without scrolling
MAX_PREVIEW_CHARS = 90  # of the arguments beside the name of a call


@dataclass
class EntryPart:
    """A text or a tool call, as last sent to the page."""

    sent: Change
    source: Any = None  # what it was rendered from
    stream: MarkdownStream | None = None  # while the text is being written
    length: int = 0  # of the text that the stream has
    thought_s: float | None = None  # how long the model thought, once it writes
    is_new: bool = True

    def complete(self) -> Change:
        streamed = {"html": self.stream.finished, "tail": self.stream.tail} if self.stream else {}
        return self.sent | streamed | self._thought()

    def _thought(self) -> Change:
        return {} if self.thought_s is None else {"thought": self.thought_s}

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
        news = {"stream": self.sent["part"], "reasoning": reasoning, **self._thought()}
        return self.complete() if was_new else news | update


def entry_part(key: UUID, now: TextProgress | CallProgress) -> EntryPart:
    """Return a part as it stands now."""
    if isinstance(now, CallProgress):
        return EntryPart(_call_change(now), replace(now))
    return EntryPart(_text_change(key, now.message), now.message or now, None if now.message else MarkdownStream())


def _text_change(key: UUID, message: Message | None) -> Change:
    shown = {"part": str(key), "kind": "text", "html": "", "tail": "", "reasoning": ""}
    if message is None:
        return shown
    if message.role == "system":
        return shown | {"html": f"<p><em>{exact_html(message.content)}</em></p>"}
    html, cost = render(as_markdown(message.content)), exact_html(" · ".join(usage_parts(message)))
    about = {"cost": cost, "brief": brief_usage(message), "at": epoch(message.inserted_at)}
    return shown | {"html": html, "reasoning": capped(message.reasoning)} | about


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
        "begun": epoch(call.started_at),
        "took": round((call.finished_at - call.started_at).total_seconds(), 1) if call.finished_at else None,
        "attachments": attachment_names(call.attachments),
        "state": now.state,
        "flag": exact_html(now.flag),
        "question": request.question if request else "",
        "reason": exact_html(request.reason.removesuffix(f"; {now.flag}")) if request else "",
        "always": exact_html(request.always) if request else "",
        "request": str(request.id) if request else "",
    }


def epoch(time: datetime | None) -> float | None:
    """Return a time in seconds, as JavaScript has it in thousandths."""
    return None if time is None else round(time.timestamp(), 1)


def attachment_names(attachments: Sequence[Attachment]) -> list[list[str]]:
    """Return the hash and the label of attachments: the page asks for their content when it shows them."""
    return [[each.sha256, each.label] for each in attachments]


def _line_count(value: str) -> str:
    """Return the number of lines of a value that needs scrolling."""
    number = value.count("\n") + 1
    return f"<br>{number:,} lines" if number > VISIBLE_LINES else ""
