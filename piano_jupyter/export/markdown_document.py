"""A thread as Markdown, for readers."""

import re

from piano_jupyter.export.exchanges import ExportedThread, heading, signature
from piano_jupyter.text.markdown import as_markdown, closed


def to_markdown(transcript: ExportedThread) -> str:
    """Return a thread as Markdown: authors in bold, messages as they are, tool calls and results as code."""
    parts = [heading(transcript.thread.title)]
    for message in transcript.messages:
        parts.append(f"**{transcript.speaker(message)}:**")
        text = as_markdown(message.content) if message.role == "assistant" else message.content
        parts += [closed(text.strip("\n"))] if text.strip() else []
        calls = transcript.calls_of[message.id]
        parts += [_fenced(f"{signature(call)}\n→ {call.result or ''}".rstrip()) for call in calls]
    return ("\n\n".join(parts) + "\n").encode(errors="replace").decode()


def _fenced(code: str) -> str:
    fence = "`" * max(3, *(len(run) + 1 for run in re.findall("`+", code) or [""]))
    return f"{fence}text\n{code}\n{fence}"
