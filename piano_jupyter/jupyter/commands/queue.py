"""%piano queue, cancel, retry, approve, deny: what runs, waits or failed."""

from typing import TYPE_CHECKING, Any

from piano_jupyter.errors import NotFoundError
from piano_jupyter.jupyter.commands.command import Commands, command, named
from piano_jupyter.jupyter.display import Listing, Note, arguments_text, job_line
from piano_jupyter.records import JobStatus, short

if TYPE_CHECKING:
    from piano_jupyter.piano import Piano


class Queue(Commands):
    """Sub-commands about jobs."""

    @command("[--all]", all=False)
    def queue(self, _text: str, all: str | None = None) -> Any:  # noqa: A002
        """List the jobs that run, wait or failed; --all lists every job."""
        shown = () if all is not None else (JobStatus.RUNNING, JobStatus.QUEUED, JobStatus.FAILED)

        async def read(piano: "Piano") -> tuple[Any, dict[Any, str]]:
            return await piano.jobs(*shown), {agent.id: agent.name for agent in await piano.agents()}

        jobs, names = self._call(read)
        return Listing(
            jobs,
            "nothing runs and nothing waits",
            id=lambda job: short(job.id),
            status=lambda job: job.status,
            agent=lambda job: f"@{names.get(job.agent_id, '?')}",
            model=lambda job: job.model,
            attempt=lambda job: job.attempt,
            reason=lambda job: job.reason or "",
        )

    @command("JOB")
    def cancel(self, text: str) -> Any:
        """End a job, wherever it is; %piano queue lists their ids."""
        return Note(job_line(self._call(lambda piano: piano.cancel(named("job", text)))))

    @command("JOB")
    def retry(self, text: str) -> Any:
        """Queue a job again that failed or was cancelled."""
        return Note(job_line(self._call(lambda piano: piano.retry(named("job", text)))))

    @command("[CALL]")
    def approve(self, text: str) -> Any:
        """Let a tool call run that waits for a yes; alone it lists those that wait."""
        return self._decide(text, allow=True)

    @command("[CALL]")
    def deny(self, text: str) -> Any:
        """Do not let a tool call run that waits; alone it lists those that wait."""
        return self._decide(text, allow=False)

    def _decide(self, text: str, *, allow: bool) -> Any:
        waiting = self._call(lambda piano: piano.approvals())
        if not text:
            return Listing(
                waiting,
                "no tool call waits for a yes",
                id=lambda request: short(request.call.id),
                tool=lambda request: request.call.name,
                arguments=lambda request: arguments_text(request.call),
            )
        found = {short(request.call.id): request.call.id for request in waiting}
        if text not in found:
            raise NotFoundError.among("waiting call", text, found)
        self._call(lambda piano: piano.approve(found[text]) if allow else piano.deny(found[text]))
        return Note("allowed" if allow else "denied")
