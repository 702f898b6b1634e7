"""run_turn: ask the model, run the tools that it calls, ask again, until it answers.

A turn only tells what happens; it keeps nothing and shows nothing. Whoever iterates keeps each event before asking for
the next: a yield is a barrier. A turn never yields inside a task group, a timeout or a `finally` (PEP 789).
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Any, cast
from uuid import UUID

from piano_jupyter.clock import Clock
from piano_jupyter.errors import ModelError, NotFoundError, ToolError, TurnLimitError
from piano_jupyter.events import (
    Answered,
    Event,
    MessageAdded,
    MessageDelta,
    ModelLoading,
    ToolCalled,
    ToolReturned,
    ToolWaiting,
)
from piano_jupyter.records import Agent, CallStatus, Job, Message, ToolCall
from piano_jupyter.redaction import MASK, redact
from piano_jupyter.runner.arguments import check_arguments
from piano_jupyter.runner.chat import ChatModel, ChatRequest, Delta, Loading, Reply, RequestedCall
from piano_jupyter.runner.prompt import chat_messages
from piano_jupyter.runner.tools import ToolResult, run_tool
from piano_jupyter.tool import Calling, Mode, Tool

LONG = 1_000_000  # characters that take too long to mask on the loop
REVEALING = (
    "secret: the arguments hold a secret, or the mask that stands for one, so this was not run; "
    "name the variable or the file that holds it, and leave the text around it as it is"
)


@dataclass(frozen=True, slots=True)
class Permission:
    """Whether a call may run: not if there is a refusal, which is what the model is told."""

    refusal: str = ""
    mode: Mode = "write"  #: under which it may


Permit = Callable[[ToolCall, Tool], Awaitable[Permission]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Turn:
    """All that a turn needs to know, read when it starts."""

    job: Job
    agent: Agent
    history: Sequence[Message]  #: the branch that ends with the message to answer
    calls: Sequence[ToolCall]  #: the thread's calls, in order
    names: Mapping[UUID, str]  #: the agents' names by id
    skills: str  #: what the system prompt says of the enabled skills
    versions: Mapping[str, str]  #: which version of each skill that is, by name
    tools: Sequence[Tool]  #: the enabled tools, by name
    max_iterations: int
    tool_timeout: float  #: seconds
    tool_output_limit: int  #: characters
    mask: Callable[[Any], Any] = redact  #: takes the secrets out of a text, JSON or record


async def run_turn(
    turn: Turn, model: ChatModel, permit: Permit, tell: Callable[[Event], None], clock: Clock
) -> AsyncGenerator[Event, None]:
    """Yield what happens; last an `Answered`. Raises ModelError, and TurnLimitError after `max_iterations` rounds.

    `permit` is asked before each call of a tool. `tell` spreads what a tool says while it runs.
    """
    job, history, calls = turn.job, list(turn.history), list(turn.calls)
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
        request = ChatRequest(
            model=job.model,
            messages=turn.mask(chat_messages(turn.agent, turn.skills, history, calls, turn.names, job.id)),
            tools=turn.mask([tool.schema() for tool in turn.tools]),
            options=turn.agent.options,
        )
        reply = Reply()
        async with aclosing(model.stream(request)) as pieces:
            async for piece in pieces:
                match piece:
                    case Delta(text=text, reasoning=reasoning):
                        yield MessageDelta(
                            thread_id=job.thread_id,
                            job_id=job.id,
                            message_id=message.id,
                            text=text,
                            reasoning=reasoning,
                        )
                    case Loading(note=note, fraction=fraction, seconds=seconds):
                        yield ModelLoading(
                            thread_id=job.thread_id,
                            job_id=job.id,
                            note=note,
                            fraction=fraction,
                            model=job.model,
                            seconds=seconds,
                        )
                    case Reply():
                        reply = piece
        message = await _said(turn, message, reply)
        if not reply.calls:
            if not reply.text.strip():
                raise ModelError("the model gave an empty answer; ask again, or in other words")
            yield Answered(thread_id=job.thread_id, message=message)
            return
        history.append(message)
        yield MessageAdded(thread_id=job.thread_id, message=message)
        for requested in reply.calls:
            call = ToolCall(
                id=clock.new_id(),
                message_id=message.id,
                name=requested.name,
                arguments=turn.mask(requested.arguments),
                started_at=clock.now(),
            )
            refusal, tool = _runnable(requested, call, turn.tools)
            permission = await permit(call, tool) if tool is not None else Permission(refusal)
            yield ToolCalled(thread_id=job.thread_id, job_id=job.id, call=call)
            if tool is None or permission.refusal:
                result = ToolResult(ok=False, text=turn.mask(permission.refusal))
            else:
                result = await run_tool(
                    tool,
                    call.arguments,
                    mask=turn.mask,
                    calling=_calling(turn, call, permission.mode, tell),
                    timeout=turn.tool_timeout,
                    output_limit=turn.tool_output_limit,
                )
            status = CallStatus.OK if result.ok else CallStatus.FAILED
            call = replace(call, status=status, result=result.text, finished_at=clock.now())
            calls.append(call)
            yield ToolReturned(thread_id=job.thread_id, job_id=job.id, call=call)
    raise TurnLimitError(
        f"stopped after {turn.max_iterations} rounds of tool calls; ask for a smaller step, "
        f"or raise PianoConfig.max_iterations"
    )


async def _said(turn: Turn, message: Message, reply: Reply) -> Message:
    """Return the message with what the model said in it, without secrets."""
    skills = {"skills": dict(turn.versions)} if turn.versions else {}
    said = replace(message, content=reply.text, reasoning=reply.reasoning, usage={**reply.usage, **skills})
    if len(said.content) + len(said.reasoning) < LONG:
        return cast("Message", turn.mask(said))
    return cast("Message", await asyncio.to_thread(turn.mask, said))


def _calling(turn: Turn, call: ToolCall, mode: Mode, tell: Callable[[Event], None]) -> Calling:
    job = turn.job

    def say(note: str) -> None:
        tell(ToolWaiting(thread_id=job.thread_id, job_id=job.id, call=call, note=note))

    return Calling(thread_id=job.thread_id, call_id=call.id, mode=mode, say=say)


def _runnable(requested: RequestedCall, call: ToolCall, tools: Sequence[Tool]) -> tuple[str, Tool | None]:
    """Return the tool to run, or why none is run. `call` is what is kept and shown: nothing else is run."""
    if requested.problem is not None:
        return requested.problem, None
    enabled = {tool.name: tool for tool in tools}
    if requested.name not in enabled:
        return str(NotFoundError.among("tool", requested.name, enabled)), None
    if call.arguments != requested.arguments or MASK in repr(requested.arguments):
        return REVEALING, None
    try:
        check_arguments(enabled[requested.name], requested.arguments)  # before the user is asked about it
    except ToolError as error:
        return str(error), None
    return "", enabled[requested.name]
