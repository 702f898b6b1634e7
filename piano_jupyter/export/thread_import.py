"""Conversations from a file, as the records of a new thread."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from piano_jupyter.clock import Clock
from piano_jupyter.errors import PianoError
from piano_jupyter.export.jsonl import UNFINISHED, MessageLine, from_jsonl
from piano_jupyter.records import Agent, CallStatus, Message, Thread, ToolCall
from piano_jupyter.text.truncation import truncated

MAX_TITLE_CHARS = 60  # characters


def imported(
    text: str, title: str | None, clock: Clock, agents: Iterable[Agent]
) -> tuple[Thread, list[Message], list[ToolCall]]:
    """Return the conversation in a text of JSON Lines as a new thread, its messages and its tool calls.

    Each message follows the one before. The agent that answers first becomes the agent of the thread; messages with an
    unknown name have no agent. Raises PianoError.
    """
    conversations = from_jsonl(text)
    if len(conversations) > 1:
        raise PianoError(f"the file holds {len(conversations)} conversations; a thread is one: import line by line")
    return to_records(conversations[0], title, clock, agents)


def to_records(
    conversation: Sequence[MessageLine], title: str | None, clock: Clock, agents: Iterable[Agent]
) -> tuple[Thread, list[Message], list[ToolCall]]:
    """Return a conversation as a new thread, its messages and its tool calls."""
    ids = {agent.name.casefold(): agent.id for agent in agents}
    authors = [ids.get((line.name or "").casefold()) if line.role == "assistant" else None for line in conversation]
    thread = Thread(
        id=clock.new_id(),
        title=title or "",
        inserted_at=clock.now(),
        primary_agent_id=next(filter(None, authors), None),
    )
    messages: list[Message] = []
    calls: list[ToolCall] = []
    for line, author in zip(conversation, authors, strict=True):
        messages.append(
            Message(
                id=clock.new_id(),
                thread_id=thread.id,
                role=line.role,
                content=line.content,
                inserted_at=clock.now(),
                parent_id=messages[-1].id if messages else None,
                source="agent" if line.role == "assistant" else "api",
                agent_id=author,
                typed=line.typed,
                inserted=line.inserted,
                attachments=tuple(line.attachments),
            )
        )
        calls += [
            ToolCall(
                id=clock.new_id(),
                message_id=messages[-1].id,
                name=call.name,
                arguments=call.arguments,
                started_at=clock.now(),
                status=CallStatus.UNKNOWN if call.result is None else CallStatus.OK,
                result=UNFINISHED if call.result is None else call.result,
                finished_at=clock.now(),
                attachments=tuple(call.attachments),
            )
            for call in line.calls
        ]
    return replace(thread, title=title or _title(messages)), messages, calls


def _title(messages: Iterable[Message]) -> str:
    first = next((message.shown for message in messages if message.role == "user"), "")
    return truncated(" ".join(first[: 2 * MAX_TITLE_CHARS].split()), MAX_TITLE_CHARS) or "Imported"
