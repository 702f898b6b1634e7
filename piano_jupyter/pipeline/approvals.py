"""Approvals: tool calls that wait for the user's approval. Requests and decisions are stored; the first one counts.

A request is stored, then published, then waited for; no decision in time counts as denied. It may be decided in any
notebook that shares the store: the decision is stored, then published. A request that was open when
a kernel died is made again: an approval counts only in the process that got it, so that a database from elsewhere
approves nothing.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from uuid import UUID

from piano_jupyter.bus import EventBus
from piano_jupyter.cancellation import finish_even_if_cancelled
from piano_jupyter.clock import Clock
from piano_jupyter.errors import NotFoundError, PianoError
from piano_jupyter.events import ApprovalDecided, ApprovalRequested, JobEnded, JobEvent, JobQueued
from piano_jupyter.pipeline.job_log import JobLog
from piano_jupyter.records import Approval, CallStatus, Job, JobStatus, ToolCall
from piano_jupyter.store.base import Store

YES, ALWAYS, NO = "yes", "always", "no"


class Approvals:
    """Requests approvals, and stores the requests and decisions."""

    def __init__(self, store: Store, bus: EventBus, clock: Clock, job_log: JobLog) -> None:
        self._store, self._bus, self._clock, self._log = store, bus, clock, job_log
        #: The requests for calls of this process.
        self._waiting: dict[UUID, tuple[Approval, ApprovalRequested, asyncio.Future[Approval]]] = {}
        self._elsewhere: dict[UUID, ApprovalRequested] = {}  #: those for calls of other notebooks
        self._decided: set[UUID] = set()  #: those decided since all were read
        bus.subscribe(self._follow_request, ApprovalRequested)
        bus.subscribe(self._follow_decision, ApprovalDecided)
        bus.subscribe(self._follow_job, JobQueued, JobEnded)

    def waiting(self, *, here: bool = False) -> list[ApprovalRequested]:
        """Return the requests that wait for a decision, oldest first; with `here` only those of this notebook."""
        own = [request for _, request, _ in self._waiting.values()]
        return own if here else sorted([*own, *self._elsewhere.values()], key=lambda request: request.id)

    async def refresh(self) -> None:
        """Read which calls of other notebooks wait, and what was decided on those of this one."""
        for approval, request, _ in tuple(self._waiting.values()):
            still_open = {each.id for each in await self._store.open_approvals(approval.job_id)}
            if approval.id not in still_open and approval.id in self._waiting:
                await self._decide(approval, request.call, NO, allowed=False)  # too late: the first decision counts
        self._elsewhere.clear()
        self._decided.clear()
        for job in await self._store.jobs(JobStatus.RUNNING):
            waiting = await self._store.open_approvals(job.id)
            for approval, call in zip(waiting, tool_calls_of(waiting), strict=True):
                if approval.id not in self._waiting.keys() | self._decided:
                    self._elsewhere[approval.id] = _request(approval, call)

    def find(self, name: ApprovalRequested | ToolCall | UUID) -> ApprovalRequested | None:
        """Return a request that waits, by itself, its id or its call; None if it does not wait (any more)."""
        wanted = name if isinstance(name, UUID) else name.id
        found = (request for request in self.waiting() if wanted in {request.id, request.call.id})
        return next(found, None)

    async def ask(self, approval: Approval, call: ToolCall, seconds: float) -> Approval:
        """Store a request, publish it, and return it with the decision; denied if there is none within `seconds`."""
        approval = await finish_even_if_cancelled(self._store.request_approval(approval))
        decision: asyncio.Future[Approval] = asyncio.get_running_loop().create_future()
        request = _request(approval, call)
        self._waiting[approval.id] = approval, request, decision
        try:
            self._bus.publish(request)
            async with asyncio.timeout(seconds):
                return await decision
        except TimeoutError:
            decided, _ = await finish_even_if_cancelled(
                self._decide(approval, call, f"nobody answered within {seconds:g} s", allowed=False)
            )
            return decided
        finally:
            del self._waiting[approval.id]

    async def decide(self, request: ApprovalRequested, *, allowed: bool, always: bool = False) -> bool:
        """Approve or deny a request; return whether this was the first decision, the only one that counts.

        Raises PianoError for `always` where no rule can allow the call.
        """
        if always and not request.always:
            raise PianoError(
                "no rule can cover exactly this call, so it needs approval each time: answer without always"
            )
        note = ALWAYS if always else YES if allowed else NO
        try:
            decided = self._decide(_asked(request), request.call, note, allowed=allowed)
            _, is_first = await finish_even_if_cancelled(decided)
        except NotFoundError:  # its thread was deleted
            return False
        return is_first

    async def earlier_requests(self, job: Job) -> list[Approval]:
        """Return the approvals of a job's calls that were requested before and have not started, in order."""
        return await self._store.unbegun(job.id)

    async def _decide(self, approval: Approval, call: ToolCall, note: str, *, allowed: bool) -> tuple[Approval, bool]:
        decided, is_first = await self._store.decide_approval(
            replace(approval, allowed=allowed, note=note, decided_at=self._clock.now())
        )
        self._log.step(approval.job_id, "approval decided", f"{approval.name}, {decided.note}")
        self._bus.publish(
            ApprovalDecided(
                thread_id=approval.thread_id,
                job_id=approval.job_id,
                call=call,
                id=approval.id,
                allowed=bool(decided.allowed),
                note=decided.note,
            )
        )
        return decided, is_first

    def _follow_request(self, request: ApprovalRequested) -> None:
        if request.id not in self._waiting:
            self._elsewhere[request.id] = request

    def _follow_decision(self, event: ApprovalDecided) -> None:
        self._elsewhere.pop(event.id, None)
        self._decided.add(event.id)
        approval, _, decision = self._waiting.get(event.id, (None, None, None))
        if approval is not None and decision is not None and not decision.done():
            decision.set_result(replace(approval, allowed=event.allowed, note=event.note))

    def _follow_job(self, event: JobEvent) -> None:
        for each in [each for each, request in self._elsewhere.items() if request.job_id == event.job_id]:
            del self._elsewhere[each]


def _request(approval: Approval, call: ToolCall) -> ApprovalRequested:
    return ApprovalRequested(
        thread_id=approval.thread_id,
        id=approval.id,
        job_id=approval.job_id,
        call=call,
        question=approval.question,
        reason=approval.reason,
        always=approval.always,
    )


def _asked(request: ApprovalRequested) -> Approval:
    """Return what a request asks for, as far as the decision needs it: the store has the rest."""
    assert request.thread_id is not None
    return Approval(
        id=request.id,
        call_id=request.call.id,
        message_id=request.call.message_id,
        job_id=request.job_id,
        thread_id=request.thread_id,
        name=request.call.name,
        arguments=request.call.arguments,
        digest="",
        question=request.question,
        reason=request.reason,
        always=request.always,
        requested_at=request.call.started_at,
    )


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
