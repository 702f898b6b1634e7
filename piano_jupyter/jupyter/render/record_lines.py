"""Records as single lines, as in `[<Thread 'Sales review'>, …]`. Without times and, except for jobs, without ids."""

from typing import Any

from piano_jupyter.batch_records import Batch
from piano_jupyter.jupyter.render.transcript import arguments_text
from piano_jupyter.records import Agent, Hit, Job, Message, Model, Thread, ToolCall, short
from piano_jupyter.text.invisible import terminal_text
from piano_jupyter.text.truncation import truncated

MAX_EXCERPT_CHARS = 60  # of a message


def record_line(record: Any) -> str:
    """Return a record in one line: its type, name and status."""
    return terminal_text(f"<{type(record).__name__} {_summary(record)}>")


def _summary(record: Any) -> str:
    match record:
        case Message(role=role, shown=text):
            return f"{role}: {_beginning(text)}"
        case Thread(title=title, status=status):
            return repr(title) + (f", {status}" if status != "active" else "")
        case Agent(name=name, model=model):
            return f"@{name}, {model}"
        case Job(id=identity, status=status):
            return f"{short(identity)}, {status}"
        case Model(name=name, state=state) | Batch(name=name, status=state):
            return f"{name}, {state}"
        case ToolCall(name=name, status=status):
            return f"{name}({_beginning(arguments_text(record))}), {status}"
        case Hit(thread=thread, excerpt=excerpt):
            return f"in {thread.title!r}: {_beginning(excerpt)}"
        case _:
            return str(getattr(record, "name", "") or record.server)


def _beginning(text: str) -> str:
    return truncated(" ".join(text.split()), MAX_EXCERPT_CHARS)
