"""%piano queue, resume, cancel, retry, approve, deny, stop, start: what runs, waits or failed."""

from typing import TYPE_CHECKING, Any

from piano_jupyter.approval_prompt import ALREADY_ANSWERED, rule_added_message
from piano_jupyter.errors import NotFoundError
from piano_jupyter.jupyter.magic.command import agent_names, named
from piano_jupyter.jupyter.render.cards import ApprovalCards, job_line, jobs_table
from piano_jupyter.jupyter.render.tables import MAX_ROWS, Note
from piano_jupyter.records import JobStatus, short

if TYPE_CHECKING:
    from piano_jupyter.piano import Piano

MOST_NAMED = 20  # jobs that wait, each on a line of its own


async def queue(piano: "Piano", *, all: bool = False) -> Any:  # noqa: A002  It is the option's name.
    """List the jobs that run, wait (and for what) or failed; --all lists every job, the newest 200."""
    shown = () if all else (JobStatus.RUNNING, JobStatus.QUEUED, JobStatus.FAILED)
    held = {job.id: why for job, why in await piano.unfinished()}
    return jobs_table(await piano.jobs(*shown, last=MAX_ROWS), await agent_names(piano), held)


async def resume(piano: "Piano", text: str) -> Any:
    """Let the jobs go on that an earlier kernel left unfinished, or one of them; say what the others wait for.

    They go on too when you first send a message or open a panel. Each runs under the mode and the rules that it was
    sent under, and under those of now.
    """
    left = len(await piano.unfinished())
    waiting = await piano.resume(text or None)
    if not left:
        return Note("nothing is unfinished")
    going = left - len(waiting)
    lines = [f"{going} job{' goes' if going == 1 else 's go'} on"] if going else []
    lines += [f"job {short(job.id)} waits: {why}" for job, why in waiting[:MOST_NAMED]]
    more = len(waiting) - MOST_NAMED
    return Note("\n".join([*lines, *([f"{more} more wait; %piano says for what"] if more > 0 else [])]))


async def cancel(piano: "Piano", text: str) -> Any:
    """End a job, wherever it is; %piano queue lists their ids."""
    job = named("job", text, "%piano cancel 3fa9c1 (%piano queue lists them)")
    return Note(job_line(await piano.cancel(job)))


async def retry(piano: "Piano", text: str) -> Any:
    """Queue a job again that failed or was cancelled, or send an unfinished one as things are now."""
    job = named("job", text, "%piano retry 3fa9c1 (%piano queue lists them)")
    return Note(job_line(await piano.retry(job)))


async def approve(piano: "Piano", text: str, *, always: bool = False) -> Any:
    """Let a tool call run that waits for a yes; alone it shows those that wait, and why.

    --always adds the rule that is shown beside the call, for as long as this kernel lives.
    """
    return await _decided(piano, text, allowed=True, always=always)


async def deny(piano: "Piano", text: str, *, always: bool = False) -> Any:
    """Do not let a tool call run that waits; alone it shows those that wait, and why.

    --always adds a rule that denies such a call, for as long as this kernel lives.
    """
    return await _decided(piano, text, allowed=False, always=always)


async def stop(piano: "Piano") -> Any:
    """Take no more jobs: what runs goes on, what is sent waits until %piano start."""
    await piano.stop()
    return Note("stopped: what runs goes on, what is sent waits; %piano start goes on")


async def start(piano: "Piano") -> Any:
    """Take jobs again, after %piano stop."""
    await piano.start()
    return Note("started: jobs are taken")


async def _decided(piano: "Piano", name: str, *, allowed: bool, always: bool) -> Any:
    """Decide on the call that is named, and say so; without a name, show all that wait."""
    waiting = await piano.approvals()
    if not name:
        return ApprovalCards(waiting)
    found = {short(each.call.id): each for each in waiting}
    if name not in found:
        raise NotFoundError(
            f"{NotFoundError.among('waiting call', name, found)}; any other {ALREADY_ANSWERED}, or never asked"
        )
    request = found[name]
    if not await (piano.approve if allowed else piano.deny)(request, always=always):
        return Note(ALREADY_ANSWERED)
    rule = f" {rule_added_message(request.always if allowed else request.never)}" if always else ""
    return Note(f"{'allowed' if allowed else 'denied'}{rule}")
