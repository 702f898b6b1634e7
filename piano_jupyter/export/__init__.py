"""A thread as a file, and back. Pure: records in, text out.

A file holds the conversation only: what was said, by whom, and the calls of tools. No id, path or key of this machine.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Literal
from uuid import UUID

from piano_jupyter.export.jsonl import to_jsonl
from piano_jupyter.export.markdown_document import to_markdown
from piano_jupyter.export.notebook import to_notebook
from piano_jupyter.export.thread_import import imported
from piano_jupyter.records import Message, Thread, ToolCall

__all__ = ["ExportFormat", "exported", "imported"]

ExportFormat = Literal["markdown", "notebook", "jsonl"]
Writer = Callable[[Thread, Sequence[Message], Sequence[ToolCall], Mapping[UUID, str]], str]
WRITERS: Mapping[ExportFormat, Writer] = {"markdown": to_markdown, "notebook": to_notebook, "jsonl": to_jsonl}


def exported(
    form: ExportFormat,
    thread: Thread,
    messages: Sequence[Message],
    calls: Sequence[ToolCall],
    names: Mapping[UUID, str],
) -> str:
    """Return a thread as the text of a file.

    `messages` and `calls` are what was said and done, in order; `names` gives each agent's name by id.
    """
    return WRITERS[form](thread, messages, calls, names)
