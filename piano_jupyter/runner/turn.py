"""run_turn: ask the model, run the tools that it calls, ask again, until it answers.

A turn only tells what happens; it keeps nothing and shows nothing. Whoever iterates keeps each event before asking for
the next: a yield is a barrier. A turn never yields inside a task group, a timeout or a `finally` (PEP 789).
"""

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from uuid import UUID

from piano_jupyter.clock import Clock
from piano_jupyter.errors import ModelError, NotFoundError, ToolError, TurnLimitError
from piano_jupyter.events import (
    Answered,
    Event,
    HistoryTrimmed,
    MessageAdded,
    MessageDelta,
    ModelLoading,
    ToolCalled,
    ToolReturned,
    ToolWaiting,
)
from piano_jupyter.records import Agent, CallStatus, Job, Message, ToolCall
from piano_jupyter.runner.arguments import check_arguments
from piano_jupyter.runner.asking import ask
from piano_jupyter.runner.chat import ChatModel, Delta, Loading, Reply
from piano_jupyter.runner.tools import ToolResult, run_tool
from piano_jupyter.tool import Calling, Mode, Tool


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
    pending: Sequence[ToolCall] = ()  #: calls of the job that were asked about before and have not begun
    names: Mapping[UUID, str]  #: the agents' names by id
    skills: str  #: the texts of the enabled skills
    tools: Sequence[Tool]  #: the enabled tools
    max_iterations: int
    max_tool_calls: int
    tool_timeout: float  #: seconds
    tool_output_limit: int  #: characters
    context: Callable[[str], Awaitable[int | None]]  #: how many tokens fit into a model's window, where it is known
    summarize: bool = False  #: whether the turns that no longer fit are summed up


async def run_turn(
    turn: Turn, model: ChatModel, permit: Permit, tell: Callable[[Event], None], clock: Clock
) -> AsyncGenerator[Event, None]:
    """Yield what happens; last an `Answered`. Raises ModelError, and TurnLimitError after `max_iterations` rounds.

    `permit` is asked before each call of a tool. `tell` spreads what a tool says while it runs.
    """
    job, history, calls = turn.job, list(turn.history), list(turn.calls)
    caller = _Caller(turn, calls, permit, tell, clock)
    for call in turn.pending:
        async with aclosing(caller.make(call)) as events:
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
        async with aclosing(ask(turn, model, history, calls, clock)) as pieces:
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
                    case HistoryTrimmed():
                        yield piece
                    case MessageAdded(message=note):
                        history.append(note)
                        yield piece
                    case Reply():
                        reply = piece
        message = replace(message, content=reply.text, reasoning=reply.reasoning, usage=reply.usage)
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
                arguments=requested.arguments,
                started_at=clock.now(),
            )
            async with aclosing(caller.make(call, requested.problem)) as events:
                async for event in events:
                    yield event
    raise TurnLimitError(
        f"stopped after {turn.max_iterations} rounds of tool calls; ask for a smaller step, "
        f"or raise PianoConfig.max_iterations"
    )


class _Caller:
    """Makes the calls of a turn, one after the other, and adds them to those of the thread."""

    def __init__(
        self, turn: Turn, calls: list[ToolCall], permit: Permit, tell: Callable[[Event], None], clock: Clock
    ) -> None:
        own = {message.id for message in turn.history if message.job_id == turn.job.id}
        self._turn, self._calls, self._permit, self._tell, self._clock = turn, calls, permit, tell, clock
        self._count = sum(call.message_id in own for call in calls)

    async def make(self, call: ToolCall, problem: str | None = None) -> AsyncGenerator[Event, None]:
        """Yield what happens when a call is made; `problem` is why it cannot be."""
        turn, job = self._turn, self._turn.job
        self._count += 1
        if self._count > turn.max_tool_calls:
            problem = (
                f"too_many_calls: this turn has made {turn.max_tool_calls} calls and may make no more; "
                f"answer with what you have"
            )
        refusal, tool = (problem, None) if problem is not None else _runnable(call, turn.tools)
        permission = await self._permit(call, tool) if tool is not None else Permission(refusal)
        yield ToolCalled(thread_id=job.thread_id, job_id=job.id, call=call)
        if tool is None or permission.refusal:
            result = ToolResult(ok=False, text=permission.refusal)
        else:
            result = await run_tool(
                tool,
                call.arguments,
                calling=self._calling(call, permission.mode),
                timeout=turn.tool_timeout,
                output_limit=turn.tool_output_limit,
            )
        status = CallStatus.OK if result.ok else CallStatus.FAILED
        seq = max((each.seq for each in self._calls), default=0)  # behind those that the store has numbered
        call = replace(call, seq=seq, status=status, result=result.text, finished_at=self._clock.now())
        self._calls.append(call)
        yield ToolReturned(thread_id=job.thread_id, job_id=job.id, call=call)

    def _calling(self, call: ToolCall, mode: Mode) -> Calling:
        job = self._turn.job

        def say(note: str) -> None:
            self._tell(ToolWaiting(thread_id=job.thread_id, job_id=job.id, call=call, note=note))

        return Calling(thread_id=job.thread_id, call_id=call.id, mode=mode, say=say)


def _runnable(call: ToolCall, tools: Sequence[Tool]) -> tuple[str, Tool | None]:
    """Return the tool to run, or why none is run."""
    enabled = {tool.name: tool for tool in tools}
    if call.name not in enabled:
        return str(NotFoundError.among("tool", call.name, enabled)), None
    try:
        check_arguments(enabled[call.name], call.arguments)  # before the user is asked about it
    except ToolError as error:
        return str(error), None
    return "", enabled[call.name]
