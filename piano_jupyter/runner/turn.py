"""run_turn: ask the model, run the tools that it calls, ask again, until it answers.

A turn only tells what happens; it keeps nothing and shows nothing. Whoever iterates keeps each event before asking for
the next: a yield is a barrier. A turn never yields inside a task group, a timeout or a `finally` (PEP 789).
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import Any, cast
from uuid import UUID

from piano_jupyter.clock import Clock
from piano_jupyter.errors import TurnLimitError
from piano_jupyter.events import Answered, Event, HistoryTrimmed, MessageAdded, MessageDelta, ModelLoading
from piano_jupyter.records import Agent, Job, Message, ToolCall
from piano_jupyter.redaction import redact
from piano_jupyter.runner.asking import ask
from piano_jupyter.runner.caller import Caller, Permit
from piano_jupyter.runner.chat import Again, ChatModel, Delta, Loading, Reply
from piano_jupyter.runner.limits import Limits, no_answer
from piano_jupyter.runner.streamed import without_secrets
from piano_jupyter.tool import Tool

LONG = 1_000_000  # characters that take too long to mask on the loop


@dataclass(frozen=True, kw_only=True, slots=True)
class Turn:
    """All that a turn needs to know, read when it starts."""

    job: Job
    agent: Agent
    history: Sequence[Message]  #: the branch that ends with the message to answer
    calls: Sequence[ToolCall]  #: the thread's calls, in order
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
    mask: Callable[[Any], Any] = redact  #: takes the secrets out of a text, JSON or record


async def run_turn(
    turn: Turn, model: ChatModel, permit: Permit, tell: Callable[[Event], None], clock: Clock
) -> AsyncGenerator[Event, None]:
    """Yield what happens; last an `Answered`. Raises ModelError, and TurnLimitError where it has gone on for long.

    `permit` is asked before each call of a tool. `tell` spreads what a tool says while it runs.
    """
    job, history, calls = turn.job, list(turn.history), list(turn.calls)
    limits = Limits(max_tokens=turn.max_turn_tokens, max_seconds=turn.max_turn_s)
    caller = Caller(turn, calls, limits, permit, tell, clock)
    async with aclosing(caller.go_on(turn.pending)) as events:
        async for event in events:
            yield event
    for _ in range(turn.max_iterations):
        message = Message(
            id=clock.new_id(),
            thread_id=job.thread_id,
            role="assistant",
            content="",
            inserted_at=clock.now(),
            parent_id=history[-1].id if history else None,
            source="agent",
            agent_id=turn.agent.id,
            job_id=job.id,
        )
        reply = Reply()
        async with aclosing(without_secrets(ask(turn, model, history, calls, clock), turn.mask)) as pieces:
            async for piece in pieces:
                match piece:
                    case Delta() | Loading():
                        limits.check()
                        yield _told(piece, job, message.id)
                    case Again():
                        message = replace(message, id=clock.new_id())
                    case HistoryTrimmed():
                        yield piece
                    case MessageAdded(message=note):
                        history.append(note)
                        yield piece
                    case Reply():
                        reply = piece
                        limits.spend(reply.usage)
        message = await _said(turn, message, reply)
        if not reply.calls:
            if not reply.text.strip():
                raise no_answer(reply)
            message = replace(message, usage={**message.usage, **limits.cost()})
            yield Answered(thread_id=job.thread_id, message=message)
            return
        history.append(message)
        yield MessageAdded(thread_id=job.thread_id, message=message)
        limits.check()
        async with aclosing(caller.make(message.id, reply.calls)) as events:
            async for event in events:
                yield event
    raise TurnLimitError(
        f"stopped after {turn.max_iterations} rounds of tool calls; ask for a smaller step, "
        f"or raise PianoConfig.max_iterations"
    )


def _told(piece: Delta | Loading, job: Job, message_id: UUID) -> Event:
    if isinstance(piece, Delta):
        return MessageDelta(
            thread_id=job.thread_id, job_id=job.id, message_id=message_id, text=piece.text, reasoning=piece.reasoning
        )
    return ModelLoading(
        thread_id=job.thread_id,
        job_id=job.id,
        note=piece.note,
        fraction=piece.fraction,
        model=job.model,
        seconds=piece.seconds,
    )


async def _said(turn: Turn, message: Message, reply: Reply) -> Message:
    """Return the message with what the model said in it, without secrets."""
    skills = {"skills": dict(turn.versions)} if turn.versions else {}
    said = replace(message, content=reply.text, reasoning=reply.reasoning, usage={**reply.usage, **skills})
    if len(said.content) + len(said.reasoning) < LONG:
        return cast("Message", turn.mask(said))
    return cast("Message", await asyncio.to_thread(turn.mask, said))
