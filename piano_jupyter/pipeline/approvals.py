"""Approvals: tool calls that wait for the user's approval. Requests and decisions are stored; the first one counts.

A request is stored, then published, then waited for; no decision in time counts as denied. A request that was open when
a kernel died is made again: an approval counts only in the process that got it, so that a database from elsewhere
approves nothing.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from uuid import UUID

from piano_jupyter.bus import EventBus
from piano_jupyter.clock import Clock
from piano_jupyter.errors import PianoError
from piano_jupyter.events import ApprovalRequested
from piano_jupyter.pipeline.cancellation import finish_even_if_cancelled
from piano_jupyter.pipeline.job_log import JobLog
from piano_jupyter.records import Approval, CallStatus, Job, ToolCall
from piano_jupyter.store.base import Store

YES, ALWAYS, NO = "yes", "always", "no"


class Approvals:
    """Requests approvals, and stores the requests and decisions."""

    def __init__(self, store: Store, bus: EventBus, clock: Clock, job_log: JobLog) -> None:
        self._store, self._bus, self._clock, self._log = store, bus, clock, job_log
        self._waiting: dict[UUID, tuple[Approval, ApprovalRequested, asyncio.Future[Approval]]] = {}

    def waiting(self) -> list[ApprovalRequested]:
        """Return the requests that wait for a decision, oldest first."""
        return [request for _, request, _ in self._waiting.values()]

    def find(self, name: ApprovalRequested | ToolCall | UUID) -> ApprovalRequested | None:
        """Return a request that waits, by itself, its id or its call; None if it does not wait (any more)."""
        wanted = name if isinstance(name, UUID) else name.id
        found = (request for request in self.waiting() if wanted in {request.id, request.call.id})
        return next(found, None)

    async def ask(self, approval: Approval, call: ToolCall, seconds: float) -> Approval:
        """Store a request, publish it, and return it with the decision; denied if there is none within `seconds`."""
        approval = await finish_even_if_cancelled(self._store.request_approval(approval))
        decision: asyncio.Future[Approval] = asyncio.get_running_loop().create_future()
        request = ApprovalRequested(
            thread_id=approval.thread_id,
            id=approval.id,
            job_id=approval.job_id,
            call=call,
            question=approval.question,
            reason=approval.reason,
            always=approval.always,
        )
        self._waiting[approval.id] = approval, request, decision
        try:
            self._bus.publish(request)
            async with asyncio.timeout(seconds):
                return await decision
        except TimeoutError:
            decided, _ = await finish_even_if_cancelled(
                self._decide(approval, f"nobody answered within {seconds:g} s", allowed=False)
            )
            return decided
        finally:
            del self._waiting[approval.id]

    async def decide(self, request: ApprovalRequested, *, allowed: bool, always: bool = False) -> bool:
        """Approve or deny a request; return whether this was the first decision, the only one that counts.

        Raises PianoError for `always` where no rule can allow the call.
        """
        approval, _, decision = self._waiting.get(request.id, (None, None, None))
        if approval is None or decision is None:
            return False
        if always and not approval.always:
            raise PianoError(
                "no rule can cover exactly this call, so it needs approval each time: answer without always"
            )
        note = ALWAYS if always else YES if allowed else NO
        decided, is_first = await finish_even_if_cancelled(self._decide(approval, note, allowed=allowed))
        if not decision.done():
            decision.set_result(decided)
        return is_first

    async def earlier_requests(self, job: Job) -> list[Approval]:
        """Return the approvals of a job's calls that were requested before and have not started, in order."""
        return await self._store.unbegun(job.id)

    async def _decide(self, approval: Approval, note: str, *, allowed: bool) -> tuple[Approval, bool]:
        decided, is_first = await self._store.decide_approval(
            replace(approval, allowed=allowed, note=note, decided_at=self._clock.now())
        )
        self._log.step(approval.job_id, "approval decided", f"{approval.name}, {decided.note}")
        return decided, is_first


def tool_calls_of(approvals: Sequence[Approval]) -> list[ToolCall]:
    """Return the calls that approvals are about."""
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
