"""run_turn: ask the model, run the tools that it calls, and ask again, until it answers.

A turn only yields events; it stores and shows nothing. The caller stores each event before it asks for the next one: a
yield is a barrier. A turn never yields inside a task group, a timeout or a `finally` (PEP 789).
"""

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import replace
from uuid import UUID

from piano_jupyter.clock import Clock
from piano_jupyter.errors import TurnLimitError
from piano_jupyter.events import Answered, Event, HistoryTrimmed, MessageAdded, MessageDelta, ModelLoading
from piano_jupyter.logs import logger
from piano_jupyter.records import Job
from piano_jupyter.runner.model.protocol import ChatModel, Delta, LoadingNotice, Reply, StreamRestarted
from piano_jupyter.runner.turn.limits import TurnLimits, empty_answer_error, limit_reached
from piano_jupyter.runner.turn.request import ask_within_window
from piano_jupyter.runner.turn.tool_call_executor import Permit, ToolCallExecutor
from piano_jupyter.runner.turn.turn_input import TurnInput

log = logger(__name__)


async def run_turn(
    turn: TurnInput, model: ChatModel, permit: Permit, publish: Callable[[Event], None], clock: Clock
) -> AsyncGenerator[Event, None]:
    """Yield events, an `Answered` last. Raises ModelError, and TurnLimitError if the turn reaches a limit.

    `permit` is awaited before each tool call. `publish` receives the notes of a tool while it runs.
    """
    job, history, calls = turn.job, list(turn.history), list(turn.calls)
    limits = TurnLimits(max_tokens=turn.max_turn_tokens, max_seconds=turn.max_turn_s)
    executor = ToolCallExecutor(turn, calls, limits, permit, publish, clock)
    skills = {"skills": dict(turn.versions)} if turn.versions else {}
    async with aclosing(executor.run_pending(turn.pending)) as events:
        async for event in events:
            yield event
    for attempt in range(1, turn.max_iterations + 1):
        log.debug("job=%s agent=%s model=%s round=%d asks the model", job.id, turn.agent.name, job.model, attempt)
        message = turn.message(clock, history, "assistant")
        reply = Reply()
        async with aclosing(ask_within_window(turn, model, history, calls, clock)) as pieces:
            async for piece in pieces:
                match piece:
                    case Delta() | LoadingNotice():
                        limits.check()
                        yield _progress_event(piece, job, message.id)
                    case StreamRestarted():
                        message = replace(message, id=clock.new_id())
                    case HistoryTrimmed():
                        yield piece
                    case MessageAdded(message=note):
                        history.append(note)
                        yield piece
                    case Reply():
                        reply = piece
                        limits.add_usage(reply.usage)
        if not (reply.calls or reply.text.strip()):
            raise empty_answer_error(reply)
        usage = {**reply.usage, **skills, **({} if reply.calls else limits.turn_usage())}
        message = replace(message, content=reply.text, reasoning=reply.reasoning, usage=usage)
        if not reply.calls:
            yield Answered(thread_id=job.thread_id, message=message)
            return
        history.append(message)
        yield MessageAdded(thread_id=job.thread_id, message=message)
        limits.check()
        async with aclosing(executor.run(message.id, reply.calls)) as events:
            async for event in events:
                yield event
    raise TurnLimitError(limit_reached(f"{turn.max_iterations} rounds of tool calls", "max_iterations"))


def _progress_event(piece: Delta | LoadingNotice, job: Job, message_id: UUID) -> Event:
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
