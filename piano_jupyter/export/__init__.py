"""A thread as a file, and back. Pure: records in, text out.

A file holds only the conversation: messages, authors and tool calls. No id, path or key of this machine.
"""

from collections.abc import Callable, Mapping
from typing import Literal

from piano_jupyter.export.exchanges import ExportedThread
from piano_jupyter.export.jsonl import to_jsonl
from piano_jupyter.export.markdown_document import to_markdown
from piano_jupyter.export.notebook import to_notebook
from piano_jupyter.export.thread_import import imported

__all__ = ["ExportFormat", "ExportedThread", "exported", "imported"]

ExportFormat = Literal["markdown", "notebook", "jsonl"]
Writer = Callable[[ExportedThread], str]
WRITERS: Mapping[ExportFormat, Writer] = {"markdown": to_markdown, "notebook": to_notebook, "jsonl": to_jsonl}


def exported(form: ExportFormat, transcript: ExportedThread) -> str:
    """Return a thread as the text of a file."""
    return WRITERS[form](transcript)
