"""A thread to be written to a file: what the formats share."""

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from uuid import UUID

from piano_jupyter.records import Message, Thread, ToolCall

MARKDOWN_CHARS = re.compile(r"[\\`*_\[\]<>&$~#|]")


@dataclass(slots=True)
class Exchange:
    """A question, and everything up to the next one."""

    question: Message | None  #: None before the first one
    answers: list[Message] = field(default_factory=list)


@dataclass(frozen=True)
class ExportedThread:
    """A thread with its messages and tool calls in order, and the names of the agents by id."""

    thread: Thread
    messages: Sequence[Message]
    calls: Sequence[ToolCall]
    names: Mapping[UUID, str]

    @cached_property
    def calls_of(self) -> Mapping[UUID, list[ToolCall]]:
        """The tool calls of each message, in order."""
        found: defaultdict[UUID, list[ToolCall]] = defaultdict(list)
        for call in self.calls:
            found[call.message_id].append(call)
        return found

    def turns(self) -> list[Exchange]:
        """Return the turns, in order."""
        found = [Exchange(None)]
        for message in self.messages:
            if message.role == "user":
                found.append(Exchange(message))
            else:
                found[-1].answers.append(message)
        return found if found[0].answers else found[1:]

    def asked(self, turn: Exchange) -> list[str]:
        """Return the names of the agents that the user asked, without those that they delegated to."""
        question = turn.question
        direct = [each for each in turn.answers if not each.job_id or (question and each.parent_id == question.id)]
        return list(dict.fromkeys(name for each in direct if (name := self.author(each))))

    def author(self, message: Message) -> str | None:
        """Return the name of the agent that wrote a message, if it is known."""
        return self.names.get(message.agent_id) if message.agent_id else None

    def speaker(self, message: Message) -> str:
        """Return the name to show for the author of a message."""
        return self.author(message) or {"user": "You", "system": "Note"}.get(message.role, message.role.capitalize())


def signature(call: ToolCall) -> str:
    """Return a call as it would be written in Python."""
    return f"{call.name}({', '.join(f'{name}={value!r}' for name, value in call.arguments.items())})"


def heading(title: str) -> str:
    """Return a title as a Markdown heading, its special characters escaped."""
    return f"# {escaped(title)}"


def escaped(text: str) -> str:
    """Return a text as one line of Markdown, its special characters escaped."""
    return MARKDOWN_CHARS.sub(r"\\\g<0>", " ".join(text.split()))
