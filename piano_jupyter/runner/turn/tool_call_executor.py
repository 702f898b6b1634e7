"""Makes the tool calls of one turn, one after the other: may it run, is it asked about, what came of it."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from dataclasses import dataclass, field, replace
from itertools import takewhile
from uuid import UUID

from piano_jupyter.clock import Clock
from piano_jupyter.events import Event, ToolCalled, ToolReturned, ToolWaiting
from piano_jupyter.records import CallStatus, Mode, ToolCall
from piano_jupyter.runner.model.protocol import RequestedCall
from piano_jupyter.runner.tools.tool_registry import ToolResult, run_tool
from piano_jupyter.runner.turn.limits import REPAIRED, TurnLimits
from piano_jupyter.runner.turn.turn_input import TurnInput
from piano_jupyter.secrets.redactor import MASK
from piano_jupyter.tool import Tool, ToolCallContext

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


@dataclass(slots=True)
class ToolCallExecutor:
    """Makes the calls of a turn, and adds them to those of the thread."""

    turn: TurnInput
    calls: list[ToolCall]
    limits: TurnLimits
    permit: Permit
    tell: Callable[[Event], None]
    clock: Clock
    _count: int = field(init=False)  # of the calls that the job has made

    def __post_init__(self) -> None:
        job, history = self.turn.job, reversed(self.turn.history)
        own = {message.id for message in takewhile(lambda each: each.job_id == job.id, history)}
        self._count = sum(call.message_id in own for call in self.calls)

    def make(self, message_id: UUID, calls: Iterable[RequestedCall]) -> AsyncGenerator[Event, None]:
        """Yield what happens when the calls of a message are made.

        Raises TurnLimitError, behind the result of a call, where the turn is over.
        """
        return self._make((self._new(message_id, requested), requested) for requested in calls)

    def make_again(self, calls: Iterable[ToolCall]) -> AsyncGenerator[Event, None]:
        """Yield what happens when calls are made that were asked about before, when another process had the job."""
        return self._make((call, RequestedCall(name=call.name, arguments=call.arguments)) for call in calls)

    def _new(self, message_id: UUID, requested: RequestedCall) -> ToolCall:
        return ToolCall(
            id=self.clock.new_id(),
            message_id=message_id,
            name=requested.name,
            arguments=requested.arguments,
            started_at=self.clock.now(),
        )

    async def _make(self, calls: Iterable[tuple[ToolCall, RequestedCall]]) -> AsyncGenerator[Event, None]:
        job = self.turn.job
        for asked, requested in calls:
            refusal, tool = self._runnable(requested)
            permission = await self.permit(asked, tool) if tool is not None else Permission(refusal)
            yield ToolCalled(thread_id=job.thread_id, job_id=job.id, call=asked)
            result = await self._result(asked, tool, permission)
            call = replace(
                asked,
                seq=max((each.seq for each in self.calls), default=0),  # behind those that the store has numbered
                status=CallStatus.OK if result.ok else CallStatus.FAILED,
                result=f"{result.text}\n{REPAIRED}" if requested.repaired else result.text,
                finished_at=self.clock.now(),
            )
            self.calls.append(call)
            yield ToolReturned(thread_id=job.thread_id, job_id=job.id, call=call)
            self.limits.check()

    async def _result(self, call: ToolCall, tool: Tool | None, permission: Permission) -> ToolResult:
        if tool is None or permission.refusal:
            return ToolResult(ok=False, text=permission.refusal)
        turn, job = self.turn, self.turn.job

        def say(note: str) -> None:
            self.tell(ToolWaiting(thread_id=job.thread_id, job_id=job.id, call=call, note=note))

        return await run_tool(
            tool,
            call.arguments,
            call=ToolCallContext(thread_id=job.thread_id, call_id=call.id, mode=permission.mode, say=say),
            mask=turn.mask,
            timeout=turn.tool_timeout,
            output_limit=turn.tool_output_limit,
        )

    def _runnable(self, requested: RequestedCall) -> tuple[str, Tool | None]:
        """Return the tool to run, or why none is run: what is kept and shown, without secrets, is what runs."""
        self._count += 1
        if self._count > self.turn.max_tool_calls:
            return (
                f"too_many_calls: this turn has made {self.turn.max_tool_calls} calls and may make no more; "
                f"answer with what you have"
            ), None
        refusal, tool = self.limits.judge(requested, self.turn.tools)
        if tool is not None and MASK in repr(requested.arguments):
            return REVEALING, None
        return refusal, tool
