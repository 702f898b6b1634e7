"""Runs the tool calls of one turn, one after the other: checks, approval, result."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from dataclasses import dataclass, field, replace
from itertools import takewhile
from uuid import UUID

from piano_jupyter.cancellation import finish_even_if_cancelled
from piano_jupyter.clock import Clock
from piano_jupyter.events import Event, ToolCalled, ToolReturned, ToolWaiting
from piano_jupyter.logs import logger
from piano_jupyter.records import CallStatus, Mode, ToolCall
from piano_jupyter.runner.model.protocol import RequestedCall
from piano_jupyter.runner.tools.tool_registry import ToolResult, run_tool
from piano_jupyter.runner.turn.limits import REPAIRED_NOTE, TurnLimits
from piano_jupyter.runner.turn.turn_input import TurnInput
from piano_jupyter.secrets.redactor import MASK
from piano_jupyter.tool import NeedsApproval, Tool, ToolCallContext

log = logger(__name__)

MASKED_ARGUMENTS = (
    "secret: the arguments contain a secret, or the mask in place of one, so this was not run; "
    "name the variable or file that contains it instead, and leave the text around it unchanged"
)


@dataclass(frozen=True, slots=True)
class Permission:
    """Whether a call may run: not if there is a refusal, which the model gets as the result."""

    refusal: str = ""
    mode: Mode = "write"  #: the mode to run it in
    target: str = ""  #: where its paths lead, as its tool said
    #: Asks the user a question about something more that the call may do, with a reason; returns whether they approved.
    ask_again: Callable[[str, str], Awaitable[bool]] | None = None


Permit = Callable[[ToolCall, Tool], Awaitable[Permission]]


@dataclass(slots=True)
class ToolCallExecutor:
    """Runs the calls of a turn, and adds them to those of the thread."""

    turn: TurnInput
    calls: list[ToolCall]
    limits: TurnLimits
    permit: Permit
    publish: Callable[[Event], None]
    clock: Clock
    _call_count: int = field(init=False)  # calls that the job has made

    def __post_init__(self) -> None:
        job, history = self.turn.job, reversed(self.turn.history)
        own = {message.id for message in takewhile(lambda each: each.job_id == job.id, history)}
        self._call_count = sum(call.message_id in own for call in self.calls)

    def run(self, message_id: UUID, calls: Iterable[RequestedCall]) -> AsyncGenerator[Event, None]:
        """Run the calls of a message; yield the events.

        Raises TurnLimitError, after the result of a call, if the turn reaches a limit.
        """
        return self._run((self._new(message_id, requested), requested) for requested in calls)

    def run_pending(self, calls: Iterable[ToolCall]) -> AsyncGenerator[Event, None]:
        """Run calls that waited for approval when the job was interrupted; yield the events."""
        return self._run((call, RequestedCall(name=call.name, arguments=call.arguments)) for call in calls)

    def _new(self, message_id: UUID, requested: RequestedCall) -> ToolCall:
        return ToolCall(
            id=self.clock.new_id(),
            message_id=message_id,
            name=requested.name,
            arguments=requested.arguments,
            started_at=self.clock.now(),
        )

    async def _run(self, calls: Iterable[tuple[ToolCall, RequestedCall]]) -> AsyncGenerator[Event, None]:
        job = self.turn.job
        for pending, requested in calls:
            refusal, tool = self._check(requested)
            permission = await self.permit(pending, tool) if tool is not None else Permission(refusal)
            yield ToolCalled(thread_id=job.thread_id, job_id=job.id, call=pending)
            result = await self._run_call(pending, tool, permission)
            call = replace(
                pending,
                seq=max((each.seq for each in self.calls), default=0),  # after those that the store has numbered
                status=CallStatus.OK if result.ok else CallStatus.FAILED,
                result=f"{result.text}\n{REPAIRED_NOTE}" if requested.repaired else result.text,
                finished_at=self.clock.now(),
                attachments=result.attachments,
            )
            self.calls.append(call)
            log.debug(
                "job=%s agent=%s tool=%s call=%s %s", job.id, self.turn.agent.name, call.name, call.id, call.status
            )
            yield ToolReturned(thread_id=job.thread_id, job_id=job.id, call=call)
            self.limits.check()

    async def _run_call(self, call: ToolCall, tool: Tool | None, permission: Permission) -> ToolResult:
        if tool is None or permission.refusal:
            return ToolResult(ok=False, text=permission.refusal)
        turn, job = self.turn, self.turn.job

        def say(note: str) -> None:
            self.publish(ToolWaiting(thread_id=job.thread_id, job_id=job.id, call=call, note=note))

        result = await run_tool(
            tool,
            call.arguments,
            call=ToolCallContext(
                thread_id=job.thread_id,
                call_id=call.id,
                mode=permission.mode,
                say=say,
                rules=tuple(job.rules),
                target=permission.target,
            ),
            mask=turn.mask,
            timeout=turn.tool_timeout,
            output_limit=turn.tool_output_limit,
        )
        if result.rest is None:
            return result
        added = turn.mask(await _ask_about_rest(result.rest, permission))
        return replace(result, text=f"{result.text}\n{added}", rest=None)

    def _check(self, requested: RequestedCall) -> tuple[str, Tool | None]:
        """Return the tool to run, or why the call cannot run. Calls run exactly as they are stored and shown."""
        self._call_count += 1
        if self._call_count > self.turn.max_tool_calls:
            return (
                f"too_many_calls: this turn has made {self.turn.max_tool_calls} calls, which is the limit; "
                f"answer with what you have"
            ), None
        refusal, tool = self.limits.check_call(requested, self.turn.tools)
        if tool is not None and MASK in repr(requested.arguments):
            return MASKED_ARGUMENTS, None
        return refusal, tool


async def _ask_about_rest(rest: NeedsApproval, permission: Permission) -> str:
    """Ask the user about what a call may do more; return what was done."""
    allowed = False
    try:
        allowed = permission.ask_again is not None and await permission.ask_again(rest.question, rest.reason)
    finally:
        added = await finish_even_if_cancelled(rest.accept() if allowed else rest.refuse())
    return added
