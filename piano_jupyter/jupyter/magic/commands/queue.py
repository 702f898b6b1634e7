"""%piano queue, resume, cancel, retry, approve, deny, stop, start: the jobs and the tool calls that wait."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any
from uuid import UUID

from piano_jupyter.approval_prompt import ALREADY_ANSWERED, rule_added_message
from piano_jupyter.errors import NotFoundError
from piano_jupyter.events import ApprovalRequested
from piano_jupyter.jupyter.magic.command import agent_names, required
from piano_jupyter.jupyter.render.cards import SCRIPT, ApprovalCards, job_line, jobs_table
from piano_jupyter.jupyter.render.tables import MAX_ROWS, Note, counted
from piano_jupyter.records import JobStatus, short
from piano_jupyter.text.short_paths import short_paths

if TYPE_CHECKING:
    from piano_jupyter.piano import Piano

MAX_JOB_LINES = 20


async def queue(piano: "Piano", *, all: bool = False) -> Any:  # noqa: A002  It is the option's name.
    """List the jobs that run, wait (and for what) or failed, of all notebooks that share the history.

    --all lists every job, the newest 200.
    """
    shown = () if all else (JobStatus.RUNNING, JobStatus.QUEUED, JobStatus.FAILED)
    held = {job.id: why for job, why in await piano.unfinished()}
    jobs = await piano.jobs(*shown, last=MAX_ROWS)
    return jobs_table(jobs, await agent_names(piano), held, stopped=piano.stopped, here=piano.notebook)


async def resume(piano: "Piano", text: str) -> Any:
    """Resume the jobs that an earlier kernel left unfinished, or one of them; show what the others wait for.

    With its id, also a job of a notebook that is gone; it runs in this one then.
    They also resume when you first send a message or open a panel. Each job runs under the mode and the rules under
    which it was sent, and under the current ones.
    """
    unfinished = await piano.unfinished()
    named = await piano.find_job(text) if text else None
    waiting = await piano.resume(named)
    if named is not None and named.id not in {job.id for job, _ in unfinished}:
        return Note(job_line(named))
    if not unfinished:
        return Note("no unfinished jobs")
    resumed = len(unfinished) - len(waiting)
    lines = [f"resumed {counted(resumed, 'job')}"] if resumed else []
    lines += [f"job {short(job.id)} waits: {why}" for job, why in waiting[:MAX_JOB_LINES]]
    more = len(waiting) - MAX_JOB_LINES
    return Note("\n".join([*lines, *([f"{more} more are waiting; %piano shows for what"] if more > 0 else [])]))


async def cancel(piano: "Piano", text: str) -> Any:
    """Cancel a job, waiting or running; %piano queue lists the ids."""
    job = required("job", text, "%piano cancel 3fa9c1 (%piano queue lists them)")
    try:
        found = await piano.find_job(job)
    except NotFoundError:
        live = await piano.jobs(JobStatus.QUEUED, JobStatus.RUNNING, last=MAX_JOB_LINES)
        if not live:
            raise NotFoundError(f"no job named {job!r}, and none that can be cancelled") from None
        raise NotFoundError.among("job", job, [short(each.id) for each in reversed(live)]) from None
    return Note(job_line(await piano.cancel(found)))


async def retry(piano: "Piano", text: str) -> Any:
    """Queue a failed or cancelled job again, or send an unfinished one again under the current settings."""
    job = required("job", text, "%piano retry 3fa9c1 (%piano queue lists them)")
    return Note(job_line(await piano.retry(job)))


async def approve(piano: "Piano", text: str, *, always: bool = False) -> Any:
    """Approve a tool call that waits for you; without CALL, show the calls that wait, and why.

    --always adds the rule that is shown beside the call, until this kernel stops.
    """
    return await _decide(piano, text, allowed=True, always=always)


async def deny(piano: "Piano", text: str, *, always: bool = False) -> Any:
    """Deny a tool call that waits for you; without CALL, show the calls that wait, and why.

    --always adds a rule that denies such calls, until this kernel stops.
    """
    return await _decide(piano, text, allowed=False, always=always)


async def stop(piano: "Piano") -> Any:
    """Start no more jobs: running ones finish, new ones wait until %piano start."""
    await piano.stop()
    return Note("stopped: running jobs finish, new ones wait until %piano start")


async def start(piano: "Piano") -> Any:
    """Start jobs again after %piano stop."""
    await piano.start()
    return Note("started: jobs run again")


async def _decide(piano: "Piano", name: str, *, allowed: bool, always: bool) -> Any:
    """Approve or deny the named call; without a name, show all that wait."""
    waiting = await piano.approvals()
    if not name:
        return ApprovalCards(waiting, await _notebooks_elsewhere(piano, waiting))
    found = {short(each.call.id): each for each in waiting}
    if name not in found:
        raise NotFoundError(
            f"{NotFoundError.among('waiting call', name, found)}; any other {ALREADY_ANSWERED}, or never asked"
        )
    request = found[name]
    elsewhere = await _notebooks_elsewhere(piano, [request]) if always else {}  # first: then it no longer waits
    if not await (piano.approve if allowed else piano.deny)(request, always=always):
        return Note(ALREADY_ANSWERED)
    added = request.always if allowed else request.never
    rule = f" {rule_added_message(added, elsewhere.get(request.id, ''))}" if always else ""
    return Note(f"{'allowed' if allowed else 'denied'}{rule}")


async def _notebooks_elsewhere(piano: "Piano", requests: Sequence[ApprovalRequested]) -> dict[UUID, str]:
    """Return, by request, the notebooks that calls run in, except this one."""
    here = await piano.approvals(here=True)
    names = {each.id: (await piano.find_job(each.job_id)).notebook.name for each in requests if each not in here}
    titles = short_paths([*names.values(), piano.notebook.name])
    return {request: titles[name] or SCRIPT for request, name in names.items()}
