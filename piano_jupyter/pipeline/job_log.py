"""JobLog: one structured log line for each step of a job, so that a job that stands still leaves a trace.

Each line has the fields `job`, `agent`, `model`, `attempt`, `what` and `detail` (as `extra`). The end of a job is
logged at INFO, also if it failed: the user sees the reason anyway. All other steps are logged at DEBUG.
"""

import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing
from uuid import UUID

from piano_jupyter import events
from piano_jupyter.bus import EventBus
from piano_jupyter.logs import logger
from piano_jupyter.pipeline.agent_registry import AgentRegistry
from piano_jupyter.records import Job, short
from piano_jupyter.runner.model.protocol import ChatModel, ChatRequest, Delta, Piece, StreamRestarted

log = logger(__name__)


class JobLog:
    """Logs the steps that events report; `step` logs the others."""

    def __init__(self, bus: EventBus, agents: AgentRegistry) -> None:
        self._agents = agents
        self._jobs: dict[UUID, Job] = {}  # that are queued or running
        self._loading = set[UUID]()  # jobs whose model is being loaded: it is reported each second
        bus.subscribe(self._log_job, events.JobEvent)
        bus.subscribe(self._log_moment, events.ToolEvent, events.HistoryTrimmed, events.ModelLoading)

    def step(self, job_id: UUID, what: str, detail: str = "", *, level: int = logging.DEBUG) -> None:
        """Log a step of a job that is queued or running."""
        if not log.isEnabledFor(level) or (job := self._jobs.get(job_id)) is None:
            return
        agent = self._agents.find(job.agent_id)
        fields = {
            "job": str(job.id),
            "agent": agent.name if agent else str(job.agent_id),
            "model": job.model,
            "attempt": job.attempt,
            "what": what,
            "detail": detail,
        }
        step = f"{what}: {detail}" if detail else what
        named = short(job.id), fields["agent"], job.model, job.attempt
        log.log(level, "job %s (%s, %s, attempt %d): %s", *named, step, extra=fields)

    def watch(self, model: ChatModel, job_id: UUID) -> ChatModel:
        """Return a model whose requests for a job are logged; where nothing is to be logged, the model itself."""
        return _LoggedModel(model, self, job_id) if log.isEnabledFor(logging.DEBUG) else model

    def _log_job(self, event: events.Event) -> None:
        assert isinstance(event, events.JobEvent)
        job = self._jobs[event.job_id] = event.job
        self._loading.discard(job.id)
        if isinstance(event, events.JobEnded):
            self.step(job.id, job.status.value, job.reason or "", level=logging.INFO)
            del self._jobs[job.id]
        else:
            self.step(job.id, "started" if isinstance(event, events.JobStarted) else "queued")

    def _log_moment(self, event: events.Event) -> None:
        match event:
            case events.ModelLoading(job_id=UUID() as job_id, note=note) if job_id not in self._loading:
                self._loading.add(job_id)
                self.step(job_id, "model loading", note)
            case events.HistoryTrimmed(job_id=job_id, note=note):
                self.step(job_id, "history trimmed", note)
            case events.ToolCalled(job_id=job_id, call=call):
                self.step(job_id, "tool called", call.name)
            case events.ToolReturned(job_id=job_id, call=call):
                self.step(job_id, "tool returned", f"{call.name} {call.status}")
            case events.ToolWaiting(job_id=job_id, call=call, note=note):
                self.step(job_id, "tool waiting", f"{call.name}, {note}")
            case events.ToolFlagged(job_id=job_id, call=call, reason=reason):
                self.step(job_id, "tool flagged", f"{call.name}, {reason}")
            case events.ApprovalRequested(job_id=job_id, call=call):
                self.step(job_id, "approval requested", call.name)


class _LoggedModel:
    """A model whose requests for one job are logged, and when the first piece of each reply comes."""

    def __init__(self, model: ChatModel, job_log: JobLog, job_id: UUID) -> None:
        self._model, self._log, self._job_id = model, job_log, job_id

    async def stream(self, request: ChatRequest) -> AsyncGenerator[Piece, None]:
        """Yield the pieces of the reply."""
        self._log.step(self._job_id, "model asked", f"{len(request.messages)} messages, {len(request.tools)} tools")
        begun = False
        async with aclosing(self._model.stream(request)) as pieces:
            async for piece in pieces:
                if isinstance(piece, StreamRestarted):
                    self._log.step(self._job_id, "reply restarted")
                elif isinstance(piece, Delta) and not begun:
                    begun = True
                    self._log.step(self._job_id, "first token")
                yield piece
