"""%piano queue, resume, cancel, retry, approve, deny, stop, start: what runs, waits or failed."""

from typing import TYPE_CHECKING, Any

from piano_jupyter.approval_prompt import TOO_LATE, how_to_keep
from piano_jupyter.errors import NotFoundError
from piano_jupyter.events import ApprovalRequested
from piano_jupyter.jupyter.magic.command import Commands, command, named
from piano_jupyter.jupyter.render.cards import Requests, job_line, jobs_table
from piano_jupyter.jupyter.render.tables import MOST_ROWS, Note
from piano_jupyter.records import Job, JobStatus, short

if TYPE_CHECKING:
    from piano_jupyter.piano import Piano


MOST_NAMED = 20  # jobs that wait, each on a line of its own


class Queue(Commands):
    """Sub-commands about jobs."""

    @command(example="%piano queue --all", all="")
    def queue(self, _text: str, *, all: bool = False) -> Any:  # noqa: A002  It is the option's name.
        """List the jobs that run, wait (and for what) or failed; --all lists every job, the newest 200."""
        shown = () if all else (JobStatus.RUNNING, JobStatus.QUEUED, JobStatus.FAILED)

        async def read(piano: "Piano") -> Any:
            jobs = await piano.jobs(*shown, last=MOST_ROWS)
            held = {job.id: why for job, why in await piano.unfinished()}
            return jobs, {agent.id: agent.name for agent in await piano.agents()}, held

        return jobs_table(*self._call(read))

    @command("[JOB]", example="%piano resume")
    def resume(self, text: str) -> Any:
        """Let the jobs go on that an earlier kernel left unfinished, or one of them; say what the others wait for.

        They go on too when you first send a message or open a panel. Each runs under the mode and the rules that it was
        sent under, and under those of now.
        """

        async def resume(piano: "Piano") -> tuple[int, list[tuple[Job, str]]]:
            left = len(await piano.unfinished())
            return left, await piano.resume(text or None)

        left, waiting = self._call(resume)
        if not left:
            return Note("nothing is unfinished")
        going = left - len(waiting)
        lines = [f"{going} job{' goes' if going == 1 else 's go'} on"] if going else []
        lines += [f"job {short(job.id)} waits: {why}" for job, why in waiting[:MOST_NAMED]]
        more = len(waiting) - MOST_NAMED
        return Note("\n".join([*lines, *([f"{more} more wait; %piano says for what"] if more > 0 else [])]))

    @command("JOB", example="%piano cancel 3fa9c1")
    def cancel(self, text: str) -> Any:
        """End a job, wherever it is; %piano queue lists their ids."""
        job = named("job", text, "%piano cancel 3fa9c1 (%piano queue lists them)")
        return Note(job_line(self._call(lambda piano: piano.cancel(job))))

    @command("JOB", example="%piano retry 3fa9c1")
    def retry(self, text: str) -> Any:
        """Queue a job again that failed or was cancelled, or send an unfinished one as things are now."""
        job = named("job", text, "%piano retry 3fa9c1 (%piano queue lists them)")
        return Note(job_line(self._call(lambda piano: piano.retry(job))))

    @command("[CALL]", example="%piano approve 3fa9c1 --always", always="")
    def approve(self, text: str, *, always: bool = False) -> Any:
        """Let a tool call run that waits for a yes; alone it shows those that wait, and why.

        --always adds the rule that is shown beside the call, for as long as this kernel lives.
        """
        request = self._waiting(text)
        if not isinstance(request, ApprovalRequested):
            return request
        first = self._call(lambda piano: piano.approve(request, always=always))
        return Note(TOO_LATE if not first else f"allowed {how_to_keep(request.always)}" if always else "allowed")

    @command("[CALL]", example="%piano deny 3fa9c1", always="")
    def deny(self, text: str, *, always: bool = False) -> Any:
        """Do not let a tool call run that waits; alone it shows those that wait, and why.

        --always adds a rule that denies such a call, for as long as this kernel lives.
        """
        request = self._waiting(text)
        if not isinstance(request, ApprovalRequested):
            return request
        first = self._call(lambda piano: piano.deny(request, always=always))
        return Note(TOO_LATE if not first else f"denied {how_to_keep(request.never)}" if always else "denied")

    @command(example="%piano stop")
    def stop(self, _text: str) -> Any:
        """Take no more jobs: what runs goes on, what is sent waits until %piano start."""
        self._call(lambda piano: piano.stop())
        return Note("stopped: what runs goes on, what is sent waits; %piano start goes on")

    @command(example="%piano start")
    def start(self, _text: str) -> Any:
        """Take jobs again, after %piano stop."""
        self._call(lambda piano: piano.start())
        return Note("started: jobs are taken")

    def _waiting(self, text: str) -> Any:
        """Return the question about the call that is named; all that wait where none is."""
        waiting = self._call(lambda piano: piano.approvals())
        if not text:
            return Requests(waiting)
        found = {short(request.call.id): request for request in waiting}
        if text not in found:
            raise NotFoundError(
                f"{NotFoundError.among('waiting call', text, found)}; any other {TOO_LATE}, or never asked"
            )
        return found[text]
