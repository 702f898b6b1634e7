"""A conversation turn by turn: what the formats for readers share."""

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from uuid import UUID

from piano_jupyter.records import Message, ToolCall

SPECIAL = re.compile(r"[\\`*_\[\]<>&$~#|]")


@dataclass(slots=True)
class Turn:
    """A question, and all that was said until the next one."""

    question: Message | None  #: None before the first one
    answers: list[Message] = field(default_factory=list)

    def asked(self, names: Mapping[UUID, str]) -> list[str]:
        """Return the names of the agents that the user asked; not of those that these asked in turn."""
        direct = [
            each
            for each in self.answers
            if each.job_id is None or (self.question and each.parent_id == self.question.id)
        ]
        return list(dict.fromkeys(name for each in direct if (name := author(each, names))))


def turns(messages: Sequence[Message]) -> list[Turn]:
    """Return the turns, in order."""
    found = [Turn(None)]
    for message in messages:
        if message.role == "user":
            found.append(Turn(message))
        else:
            found[-1].answers.append(message)
    return found if found[0].answers else found[1:]


def by_message(calls: Sequence[ToolCall]) -> Mapping[UUID, list[ToolCall]]:
    """Return the calls of each message, in order; none for one that made none."""
    found: defaultdict[UUID, list[ToolCall]] = defaultdict(list)
    for call in calls:
        found[call.message_id].append(call)
    return found


def speaker(message: Message, names: Mapping[UUID, str]) -> str:
    """Return who speaks, for people."""
    return author(message, names) or {"user": "You", "system": "Note"}.get(message.role, message.role.capitalize())


def author(message: Message, names: Mapping[UUID, str]) -> str | None:
    """Return the name of the agent that wrote a message, if one did that is known."""
    return names.get(message.agent_id) if message.agent_id else None


def signature(call: ToolCall) -> str:
    """Return a call as it would be written in Python."""
    return f"{call.name}({', '.join(f'{name}={value!r}' for name, value in call.arguments.items())})"


def heading(title: str) -> str:
    """Return a title as a Markdown heading; what it holds is text."""
    return "# " + SPECIAL.sub(r"\\\g<0>", " ".join(title.split()))
