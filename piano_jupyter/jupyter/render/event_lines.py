"""Events as single lines, for %piano events."""

from collections.abc import Mapping
from typing import Any

from piano_jupyter import events
from piano_jupyter.jupyter.render.batch_text import progress_line
from piano_jupyter.jupyter.render.transcript import arguments_text, call_line, speaker
from piano_jupyter.records import short
from piano_jupyter.text.truncation import truncated

MAX_LINE_CHARS = 100


def event_line(event: events.Event, names: Mapping[Any, str]) -> str:
    """Return the content of an event in one line; `names` are those of the agents, by id."""
    return truncated(" ".join(_event_text(event, names).split()), MAX_LINE_CHARS)


def _event_text(event: events.Event, names: Mapping[Any, str]) -> str:  # noqa: PLR0911  A line for each kind of event.
    match event:
        case events.ThreadOpened(thread=thread):
            return thread.title
        case events.ThreadBranched(message_id=message_id) | events.BranchChosen(message_id=message_id):
            return f"continues from message {short(message_id)}"
        case events.AgentAdded(agent=agent):
            return f"@{agent.name}, {agent.model}"
        case events.MessageEvent(message=message):
            return f"{speaker(message, names)}: {message.shown}"
        case events.JobEvent(job=job):
            reason = f": {event.reason}" if isinstance(event, events.JobFailed) else ""
            return f"job {short(job.id)}, @{names.get(job.agent_id, '?')}, {job.model}{reason}"
        case events.ToolReturned(call=call):
            return call_line(call)
        case events.ToolWaiting(call=call, note=text) | events.ToolFlagged(call=call, reason=text):
            return f"{call.name}: {text}"
        case events.ToolEvent(call=call):
            return f"{call.name}({arguments_text(call)})"
        case events.BatchProgress(name=name, status=status):
            return f"{name}, {status}: {progress_line(event)}"
        case events.ModelLoading(note=note) | events.HistoryTrimmed(note=note):
            return note
        case _:
            return ""
