"""A thread as Markdown, for readers."""

import re

from piano_jupyter.attachments.attachment import SVG, TABLE, TEXT, Attachment
from piano_jupyter.export.attached_parts import cleaned_table
from piano_jupyter.export.exchanges import ExportedThread, escaped, heading, signature
from piano_jupyter.text.markdown import as_markdown, closed


def to_markdown(transcript: ExportedThread) -> str:
    """Return a thread as Markdown: authors in bold, messages as they are, tool calls and results as code."""
    parts = [heading(transcript.thread.title)]
    for message in transcript.messages:
        parts.append(f"**{transcript.speaker(message)}:**")
        text = as_markdown(message.content) if message.role == "assistant" else message.content
        parts += [closed(text.strip("\n"))] if text.strip() else []
        parts += map(_attached, message.attachments)
        for call in transcript.calls_of[message.id]:
            parts.append(_fenced(f"{signature(call)}\n→ {call.result or ''}".rstrip()))
            parts += map(_attached, call.attachments)
    return ("\n\n".join(parts) + "\n").encode(errors="replace").decode()


def _attached(attachment: Attachment) -> str:
    """Return an attachment: an image in the text, a table as HTML, a text file as code; of others the name."""
    label = escaped(attachment.label)
    if attachment.mime == TEXT:
        return f"{label}:\n\n{_fenced(attachment.text)}"
    if attachment.mime == TABLE:
        return re.sub(r"\n\s*\n", "\n", cleaned_table(attachment)) or f"[{label}]"
    is_shown = attachment.content is not None and (attachment.is_image or attachment.mime == SVG)
    return f"![{label}]({attachment.data_uri})" if is_shown else f"[{label}]"


def _fenced(code: str) -> str:
    fence = "`" * max(3, *(len(run) + 1 for run in re.findall("`+", code) or [""]))
    return f"{fence}text\n{code}\n{fence}"
