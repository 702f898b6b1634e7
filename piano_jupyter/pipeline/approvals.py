"""Approvals: tool calls that wait for the user's yes or no. Questions and answers are kept; the first answer stands.

A question is kept, then published, then waited for; silence is kept as a no. What was asked when a kernel died is asked
again: a yes counts for the process that heard it, so that a database from elsewhere approves nothing.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from uuid import UUID

from piano_jupyter.bus import EventBus
from piano_jupyter.clock import Clock
from piano_jupyter.errors import PianoError
from piano_jupyter.events import ApprovalRequested
from piano_jupyter.pipeline.cancellation import whole
from piano_jupyter.pipeline.job_log import JobLog
from piano_jupyter.records import Approval, CallStatus, Job, ToolCall
from piano_jupyter.store.base import Store

YES, ALWAYS, NO = "yes", "always", "no"


class Approvals:
    """Asks, and keeps what was asked and answered."""

    def __init__(self, store: Store, bus: EventBus, clock: Clock, job_log: JobLog) -> None:
        self._store, self._bus, self._clock, self._log = store, bus, clock, job_log
        self._waiting: dict[UUID, tuple[Approval, ApprovalRequested, asyncio.Future[Approval]]] = {}

    def waiting(self) -> list[ApprovalRequested]:
        """Return what waits for an answer, oldest first."""
        return [request for _, request, _ in self._waiting.values()]

    def find(self, name: ApprovalRequested | ToolCall | UUID) -> ApprovalRequested | None:
        """Return what waits for an answer, by itself, its id or its call; None for what is not asked (any more)."""
        wanted = name if isinstance(name, UUID) else name.id
        found = (request for request in self.waiting() if wanted in {request.id, request.call.id})
        return next(found, None)

    async def ask(self, approval: Approval, call: ToolCall, seconds: float) -> Approval:
        """Keep a question, publish it and return it with the answer; none within so many seconds is a no."""
        approval = await whole(self._store.request_approval(approval))
        answer: asyncio.Future[Approval] = asyncio.get_running_loop().create_future()
        request = ApprovalRequested(
            thread_id=approval.thread_id,
            id=approval.id,
            job_id=approval.job_id,
            call=call,
            question=approval.question,
            reason=approval.reason,
            always=approval.always,
        )
        self._waiting[approval.id] = approval, request, answer
        try:
            self._bus.publish(request)
            async with asyncio.timeout(seconds):
                return await answer
        except TimeoutError:
            kept, _ = await whole(self._settle(approval, f"nobody answered within {seconds:g} s", allowed=False))
            return kept
        finally:
            del self._waiting[approval.id]

    async def decide(self, request: ApprovalRequested, *, allowed: bool, always: bool = False) -> bool:
        """Answer a question; return whether this was the first answer, which alone counts.

        Raises PianoError where "always" is said of what no rule allows.
        """
        approval, _, answer = self._waiting.get(request.id, (None, None, None))
        if approval is None or answer is None:
            return False
        if always and not approval.always:
            raise PianoError("no rule can be about just this, it is asked about each time: answer without always")
        note = ALWAYS if always else YES if allowed else NO
        kept, is_first = await whole(self._settle(approval, note, allowed=allowed))
        if not answer.done():
            answer.set_result(kept)
        return is_first

    async def left(self, job: Job) -> list[Approval]:
        """Return the calls of a job that were asked about before and have not begun, in order."""
        return await self._store.unbegun(job.id)

    async def _settle(self, approval: Approval, note: str, *, allowed: bool) -> tuple[Approval, bool]:
        kept, is_first = await self._store.decide_approval(
            replace(approval, allowed=allowed, note=note, decided_at=self._clock.now())
        )
        self._log.step(approval.job_id, "approval decided", f"{approval.name}, {kept.note}")
        return kept, is_first


def calls_of(approvals: Sequence[Approval]) -> list[ToolCall]:
    """Return the calls that were asked about."""
    return [
        ToolCall(
            id=each.call_id,
            message_id=each.message_id,
            name=each.name,
            arguments=each.arguments,
            started_at=each.requested_at,
            status=CallStatus.STARTED,
        )
        for each in approvals
    ]
