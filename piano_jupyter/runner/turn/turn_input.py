"""Turn: all that a turn needs to know, read when it starts."""

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
    """All that a turn needs to know, read when it starts."""

    job: Job
    agent: Agent
    history: Sequence[Message]  #: the branch that ends with the message to answer, from what no longer fits on
    calls: Sequence[ToolCall]  #: the calls of its messages, in order
    turns_left: int = 0  #: how many turns no longer fit
    calls_left: int = 0  #: how many calls the agent made in them
    pending: Sequence[ToolCall] = ()  #: calls of the job that were asked about before and have not begun
    names: Mapping[UUID, str]  #: the agents' names by id
    skills: str  #: what the system prompt says of the enabled skills
    versions: Mapping[str, str] = field(default_factory=dict)  #: which version of each skill that is, by name
    tools: Sequence[Tool]  #: the enabled tools, by name
    max_iterations: int
    max_tool_calls: int
    max_turn_tokens: int  #: 0: no limit
    max_turn_s: float
    tool_timeout: float  #: seconds
    tool_output_limit: int  #: characters
    context: Callable[[str], Awaitable[int | None]]  #: how many tokens fit into a model's window, where it is known
    summarize: bool = False  #: whether the turns that no longer fit are summed up
    mask: Callable[[str], str] = redact  #: takes the secrets out of what a tool tells, before that is cut

    def message(self, clock: Clock, history: Sequence[Message], role: Role, said: str = "", **usage: Any) -> Message:
        """Return a new message of the turn's agent, behind those of a history."""
        return Message(
            id=clock.new_id(),
            thread_id=self.job.thread_id,
            role=role,
            content=said,
            inserted_at=clock.now(),
            parent_id=history[-1].id if history else None,
            source="agent",
            agent_id=self.agent.id,
            job_id=self.job.id,
            usage=usage,
        )
