"""A thread as Markdown, for readers."""

import re
from collections.abc import Mapping, Sequence
from uuid import UUID

from piano_jupyter.export.exchanges import by_message, heading, signature, speaker
from piano_jupyter.records import Message, Thread, ToolCall
from piano_jupyter.text.markdown import as_markdown, closed


def to_markdown(
    thread: Thread, messages: Sequence[Message], calls: Sequence[ToolCall], names: Mapping[UUID, str]
) -> str:
    """Return a thread as Markdown: who speaks in bold, what is said as it stands, a tool's call and result as code."""
    made = by_message(calls)
    parts = [heading(thread.title)]
    for message in messages:
        parts.append(f"**{speaker(message, names)}:**")
        said = as_markdown(message.content) if message.role == "assistant" else message.content
        parts += [closed(said.strip("\n"))] if said.strip() else []
        parts += [_fenced(f"{signature(call)}\n→ {call.result or ''}".rstrip()) for call in made[message.id]]
    return ("\n\n".join(parts) + "\n").encode(errors="replace").decode()


def _fenced(code: str) -> str:
    fence = "`" * max(3, *(len(run) + 1 for run in re.findall("`+", code) or [""]))
    return f"{fence}text\n{code}\n{fence}"
