"""TurnInput: everything that a turn needs to know, read when it starts."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from piano_jupyter.clock import Clock
from piano_jupyter.records import Agent, Job, Message, Role, ToolCall
from piano_jupyter.secrets.redactor import redact
from piano_jupyter.tool import Tool


@dataclass(frozen=True, kw_only=True, slots=True)
class TurnInput:
    """Everything that a turn needs to know, read when it starts."""

    job: Job
    agent: Agent
    history: Sequence[Message]  #: the branch up to the message to answer, without the trimmed turns
    calls: Sequence[ToolCall]  #: the calls of its messages, in order
    trimmed_turns: int = 0  #: how many turns were left out
    trimmed_calls: int = 0  #: how many calls the agent made in them
    pending: Sequence[ToolCall] = ()  #: the job's calls that waited for approval and have not started
    unanswered: Mapping[UUID, str] = field(default_factory=dict)  #: why earlier questions have no answer, by id
    names: Mapping[UUID, str]  #: the agents' names by id
    skills: str  #: the part of the system prompt about the enabled skills
    versions: Mapping[str, str] = field(default_factory=dict)  #: the version of each skill, by name
    tools: Sequence[Tool]  #: the enabled tools, by name
    max_iterations: int
    max_tool_calls: int
    max_turn_tokens: int  #: 0: no limit
    max_turn_s: float
    tool_timeout: float  #: seconds
    tool_output_limit: int  #: characters
    context: Callable[[str], Awaitable[int | None]]  #: a model's context window in tokens, if it is known
    sees_images: Callable[[str], Awaitable[bool | None]]  #: whether a model sees images, if it is known
    attached: Mapping[str, bytes] = field(
        default_factory=dict
    )  #: what the agent reads and sees of attachments, by hash
    summarize: bool = False  #: whether trimmed turns are summarized
    mask: Callable[[str], str] = redact  #: removes secrets from a tool's output, before that is truncated

    def message(self, clock: Clock, history: Sequence[Message], role: Role, content: str = "", **usage: Any) -> Message:
        """Return a new message of the turn's agent, after those of a history."""
        return Message(
            id=clock.new_id(),
            thread_id=self.job.thread_id,
            role=role,
            content=content,
            inserted_at=clock.now(),
            parent_id=history[-1].id if history else None,
            source="agent",
            agent_id=self.agent.id,
            job_id=self.job.id,
            usage=usage,
        )
