"""What a page asks about messages and jobs: send, edit, ask again, stop, approve, deny, cancel, retry."""

from piano_jupyter.approval_prompt import ALREADY_ANSWERED
from piano_jupyter.errors import PianoError
from piano_jupyter.jupyter.panel.actions.action_panel import Panel
from piano_jupyter.jupyter.panel.actions.agent_actions import picked_agents
from piano_jupyter.jupyter.panel.actions.page_request import PageRequest, parse_id
from piano_jupyter.records import JobStatus


async def send(panel: Panel, request: PageRequest) -> None:
    """Send a question: to those whom it mentions, else to the agents that are picked for the thread."""
    agents = [] if panel.piano.mentioned(request.text()) else await picked_agents(panel)
    question = await panel.filled(request.text())
    await panel.piano.send_all(question, agents=agents, thread=panel.thread, source="panel")


async def edit(panel: Panel, request: PageRequest) -> None:
    """Ask an edited question instead of another one."""
    await panel.piano.edit(request.id("message"), await panel.filled(request.text()), source="panel")
    panel.piano.thread = panel.thread  # as `send_all` does: the thread of the last question is current


async def regenerate(panel: Panel, request: PageRequest) -> None:
    """Ask a question again; the request names the entry of its answer."""
    await panel.piano.regenerate(parse_id(panel.view.answer_in(request.text()) or request.text()))
    panel.piano.thread = panel.thread


async def stop(panel: Panel, _request: PageRequest) -> None:
    """Stop what runs, or if nothing runs, what waits."""
    running = await panel.piano.jobs(JobStatus.RUNNING, thread=panel.thread)
    for job in running or await panel.piano.jobs(JobStatus.QUEUED, thread=panel.thread):
        await panel.piano.cancel(job)


async def approve(panel: Panel, request: PageRequest) -> None:
    """Approve a tool call."""
    _check_that_it_counts(await panel.piano.approve(request.id()))


async def always(panel: Panel, request: PageRequest) -> None:
    """Approve a tool call and those like it from now on."""
    _check_that_it_counts(await panel.piano.approve(request.id(), always=True))


async def deny(panel: Panel, request: PageRequest) -> None:
    """Deny a tool call."""
    _check_that_it_counts(await panel.piano.deny(request.id()))


async def cancel(panel: Panel, request: PageRequest) -> None:
    """Cancel a job."""
    await panel.piano.cancel(request.id())


async def retry(panel: Panel, request: PageRequest) -> None:
    """Run a job again that failed or was cancelled."""
    await panel.piano.retry(request.id())


def _check_that_it_counts(counts: bool) -> None:  # noqa: FBT001  It is what was returned.
    if not counts:
        raise PianoError(f"this call {ALREADY_ANSWERED}")


ACTIONS = {
    "send": send,
    "edit": edit,
    "regenerate": regenerate,
    "stop": stop,
    "approve": approve,
    "always": always,
    "deny": deny,
    "cancel": cancel,
    "retry": retry,
}
