"""What an event tells, in one line, for %piano events."""

from collections.abc import Mapping
from typing import Any

from piano_jupyter.events import (
    AgentAdded,
    Event,
    HistoryTrimmed,
    JobEvent,
    JobFailed,
    MessageEvent,
    ModelLoading,
    ThreadBranched,
    ThreadOpened,
    ToolEvent,
    ToolFlagged,
    ToolReturned,
    ToolWaiting,
)
from piano_jupyter.jupyter.render.transcript import arguments_text, call_line, speaker
from piano_jupyter.records import short
from piano_jupyter.text.truncation import truncated

LONGEST = 100  # characters


def about(event: Event, names: Mapping[Any, str]) -> str:
    """Return what an event tells, in one line; `names` are those of the agents, by id."""
    return truncated(" ".join(_told(event, names).split()), LONGEST)


def _told(event: Event, names: Mapping[Any, str]) -> str:  # noqa: PLR0911  A line for each kind of event.
    match event:
        case ThreadOpened(thread=thread):
            return thread.title
        case ThreadBranched(message_id=message_id):
            return f"goes on from message {short(message_id)}"
        case AgentAdded(agent=agent):
            return f"@{agent.name}, {agent.model}"
        case MessageEvent(message=message):
            return f"{speaker(message, names)}: {message.content}"
        case JobEvent(job=job):
            reason = f": {event.reason}" if isinstance(event, JobFailed) else ""
            return f"job {short(job.id)}, @{names.get(job.agent_id, '?')}, {job.model}{reason}"
        case ToolReturned(call=call):
            return call_line(call)
        case ToolWaiting(call=call, note=told) | ToolFlagged(call=call, reason=told):
            return f"{call.name}: {told}"
        case ToolEvent(call=call):
            return f"{call.name}({arguments_text(call)})"
        case ModelLoading(note=note) | HistoryTrimmed(note=note):
            return note
        case _:
            return ""
