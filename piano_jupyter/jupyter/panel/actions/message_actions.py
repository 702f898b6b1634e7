"""What a page asks about messages and jobs: send, edit, ask again, stop, approve, deny, cancel, retry."""

from piano_jupyter.approval_prompt import ALREADY_ANSWERED
from piano_jupyter.errors import PianoError
from piano_jupyter.jupyter.panel.actions.action_panel import Panel
from piano_jupyter.jupyter.panel.actions.agent_actions import picked_agents
from piano_jupyter.jupyter.panel.actions.page_request import PageRequest, parse_id
from piano_jupyter.records import JobStatus
from piano_jupyter.variables.fill_in import FilledText


async def send(panel: Panel, request: PageRequest) -> None:
    """Send a question with the files beside it: to those whom it mentions, else to the agents picked for the thread."""
    text, files = request.text(), request.texts("files")
    attachments = panel.uploads.attachments(files)
    question = await _checked(panel, text)
    agents = [] if panel.piano.mentioned(text) else await picked_agents(panel)
    await panel.piano.send_all(question, agents=agents, thread=panel.thread, attachments=attachments, source="panel")
    for each in files:
        panel.uploads.forget(each)


async def edit(panel: Panel, request: PageRequest) -> None:
    """Ask an edited question instead of another one."""
    await panel.piano.edit(request.id("message"), await _checked(panel, request.text()), source="panel")
    panel.piano.thread = panel.thread  # as `send_all` does: the thread of the last question is current


async def regenerate(panel: Panel, request: PageRequest) -> None:
    """Ask a question again; the request names the entry of its answer."""
    await panel.piano.regenerate(parse_id(panel.view.answer_in(request.text()) or request.text()))
    panel.piano.thread = panel.thread


async def branch(panel: Panel, request: PageRequest) -> None:
    """Show another version of a question or an answer, with what follows it; the next question continues there."""
    await panel.piano.choose_branch(request.id())
    panel.piano.thread = panel.thread


async def markdown(panel: Panel, request: PageRequest) -> str:
    """Return the text of an entry as it was written."""
    return panel.view.markdown_of(request.text())


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


async def _checked(panel: Panel, text: str) -> str | FilledText:
    """Return a question with the values that it names. Raises PianoError for an unknown agent or value."""
    await panel.piano.check_mentions(text)
    return await panel.filled(text)


def _check_that_it_counts(counts: bool) -> None:  # noqa: FBT001  It is what was returned.
    if not counts:
        raise PianoError(f"this call {ALREADY_ANSWERED}")


ACTIONS = {
    "send": send,
    "edit": edit,
    "regenerate": regenerate,
    "branch": branch,
    "markdown": markdown,
    "stop": stop,
    "approve": approve,
    "always": always,
    "deny": deny,
    "cancel": cancel,
    "retry": retry,
}
