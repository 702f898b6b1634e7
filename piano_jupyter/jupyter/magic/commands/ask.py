"""%piano ask, send, wait, edit, regenerate, panel: ask a question and get an answer."""

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from piano_jupyter.errors import PianoError
from piano_jupyter.jupyter.cell.waiting import follow_in_cell
from piano_jupyter.jupyter.context.questions_to_try import questions_to_try
from piano_jupyter.jupyter.context.special_names import QuestionVariables
from piano_jupyter.jupyter.kernel_thread import TaskTimeoutError
from piano_jupyter.jupyter.magic.command import agent_names
from piano_jupyter.jupyter.magic.commands.ask_table import ask_table, check_goes_with_map
from piano_jupyter.jupyter.magic.commands.beside_notebook import open_beside
from piano_jupyter.jupyter.magic.commands.history import named_or_last
from piano_jupyter.jupyter.magic.into_option import check_variable_name
from piano_jupyter.jupyter.magic.schema_option import schema_named
from piano_jupyter.jupyter.panel.opening import newest_or_new_thread
from piano_jupyter.jupyter.render.cards import STOPPED, jobs_table
from piano_jupyter.jupyter.render.tables import MAX_ROWS
from piano_jupyter.jupyter.render.transcript import AnswerGroup
from piano_jupyter.jupyter.session import OpenPanel, Session
from piano_jupyter.records import Job, JobStatus, Message, Thread, short
from piano_jupyter.text.placeholders import has_placeholders
from piano_jupyter.variables.fill_in import FilledText, fill_in
from piano_jupyter.variables.frame_text import CHARS_PER_TOKEN

READ_TIMEOUT_S = 10.0  # for the variables that a question in the panel names

if TYPE_CHECKING:
    from piano_jupyter.piano import Piano


def ask(
    session: Session,
    text: str,
    *,
    json: str | None = None,
    into: str | None = None,
    no_wait: bool = False,
    raw: bool = False,
    map: str | None = None,  # noqa: A002  It is the option's name.
    limit: str | None = None,
    name: str | None = None,
    **question: Any,
) -> Any:
    """Ask in one line and return the answer as a Message; a cell that begins with %%piano takes several lines.

    Several agents answer in parallel, and you get a list with a Message from each. --no-wait returns the Job at once,
    or a list of Jobs; --raw shows the answer as plain text. --json returns a checked value instead: SCHEMA is a
    variable (a dataclass, a TypedDict, a pydantic model, a dict with a JSON Schema), a *.json file, or JSON.

    --model asks another model this once; the agent keeps its own. --into puts what the cell returns, the Message or
    with --json the value, into your variable NAME when the answer is complete.

    --map asks about each row of your table FRAME and returns it with the answers; {{column}} stands for a value of the
    row, --limit asks the first N rows only, --name names the batch. %piano help ask-a-table has more.
    """
    if into is not None:
        check_variable_name(into, session.shell)
        if no_wait:
            raise PianoError(
                "--into puts the answer into a variable, and --no-wait does not wait for one: leave one out"
            )
    if not (map is None and limit is None and name is None):
        others = {"no_wait": no_wait, "raw": raw, "thread": question.pop("thread", None)}
        check_goes_with_map(others)
        return ask_table(session, text, frame=map, limit=limit, name=name, json=json, into=into, **question)
    prompt = _filled(session, text, question)
    schema = None if json is None else schema_named(json, session.variables())
    question |= {"schema": schema, "source": "magic"}  # in addition to the agents and the thread
    if no_wait:
        jobs = session.call(lambda piano: piano.send_all(prompt, **question))
        return jobs[0] if len(jobs) == 1 else jobs_table(jobs, session.call(agent_names))
    answers = follow_in_cell(session, partial(_send_all, prompt, question), raw=raw)
    result = answers if schema is None else session.call(partial(_checked_value, answers, schema))
    if schema is not None and session.in_notebook:
        session.shown_values.add(result)
    if into is not None:
        session.shell.push({into: result})
    return result


def send(session: Session, text: str, **question: Any) -> Any:
    """Ask without waiting and return the Job; the answer arrives in the thread, and %piano wait returns it."""
    return ask(session, text, **question, no_wait=True)


def wait(session: Session, text: str) -> Any:
    """Wait for a job (by default the newest) and return its answer."""
    return follow_in_cell(session, partial(_job_to_wait_for, text), cancels=False)


def edit(session: Session, text: str) -> Any:
    """Edit a question and ask the same agents again; the thread continues from the new question.

    The old question and its answer are kept on another branch: %piano history shows where the branches part, and
    %piano history --ids shows the id of each message.
    """
    name, *rest = text.split(maxsplit=1) or [""]
    if not rest:
        raise PianoError("name the message, then write the new text: %piano edit 3fa9c1 and in Spain?")
    prompt = _filled(session, rest[0], {})
    return follow_in_cell(session, partial(_edit, name, prompt))


def regenerate(session: Session, text: str) -> Any:
    """Ask for a new answer to a question, by default the last one of the current thread.

    MESSAGE is the question or its answer.
    """
    return follow_in_cell(session, partial(_regenerate, text))


def panel(session: Session, text: str = "", *, side: bool = False) -> Any:
    """Open the chat panel on a thread, by default the current one (in a new kernel, the newest).

    --side opens it beside the notebook, as "Open Piano" in the toolbar does, instead of in the cell.
    """
    if side:
        return open_beside(session, partial(side_panel, session, text))
    return _new_panel(session, text, resume=True)


def side_panel(session: Session, thread: str = "", *, resume: bool = True) -> OpenPanel:
    """Return the panel beside the notebook: the one that is open, or a new one. Raises PianoError.

    `thread` names the thread that a new one shows; `resume` goes on with the jobs that an earlier kernel left.
    """
    if session.side_panel is None or not session.side_panel.is_open:
        session.side_panel = _new_panel(session, thread, resume=resume)
    elif resume:
        session.call(_resume)
    return session.side_panel


def _new_panel(session: Session, thread: str, *, resume: bool) -> OpenPanel:
    from piano_jupyter.jupyter.panel.widget import ChatPanel  # noqa: PLC0415  Widgets are slow to load.

    piano, shown, is_chosen = session.call(partial(_panel_thread, session, thread, resume=resume))
    panel = ChatPanel(
        piano,
        session.loop,
        shown,
        partial(filled_in_panel, session),
        questions=partial(_questions_to_try, session),
        offer=partial(offered_in_panel, session),
        running_cell=lambda: session.cell_id,
        is_chosen=is_chosen,
    )
    session.panels.add(panel)
    return panel


def _filled(session: Session, text: str, question: Mapping[str, Any]) -> FilledText:
    """Return a question with the values of the variables that it names. Raises PianoError."""
    if not has_placeholders(text):
        return fill_in(text, {})
    asked = {name: question[name] for name in ("agents", "thread", "model") if name in question}
    tokens = session.call(lambda piano: piano.frame_budget(text, **asked))
    return fill_in(text, session.variables_here(), frame_chars=tokens * CHARS_PER_TOKEN)


def _questions_to_try(session: Session) -> list[str]:
    """Return questions that an empty panel offers; on any thread."""
    variables = dict(session.shell.user_ns)  # at once: a cell may be adding to it
    return questions_to_try(variables, has_failed=session.last_error.failed is not None)


async def filled_in_panel(session: Session, piano: "Piano", text: str, thread: Thread) -> FilledText:
    """Return a question from the panel with the values of the user's variables, read on the main thread."""
    if not has_placeholders(text):
        return fill_in(text, {})
    frame_chars = CHARS_PER_TOKEN * await piano.frame_budget(text, thread=thread)

    def read() -> FilledText:
        return fill_in(text, QuestionVariables(session.shell, session.variables()), frame_chars=frame_chars)

    try:
        return await session.kernel.run(read, within=READ_TIMEOUT_S)
    except TaskTimeoutError as error:
        raise PianoError(
            "the kernel is busy, so {{…}} cannot be read now; ask again when its cell has ended"
        ) from error


async def offered_in_panel(session: Session) -> list[dict[str, str]]:
    """Return what of the notebook a question can name, read on the main thread. Raises PianoError if that is busy."""
    from piano_jupyter.jupyter.kernel_tools.offered_names import (  # noqa: PLC0415  Rarely wanted.
        offered_names,
    )

    try:
        return await session.kernel.run(
            lambda: offered_names(session.shell, session.variables(), failed=session.last_error.failed),
            within=READ_TIMEOUT_S,
        )
    except TaskTimeoutError as error:
        raise PianoError("the kernel is busy: its variables can be shown when its cell has ended") from error


async def _checked_value(answers: Message | AnswerGroup, schema: Any, piano: "Piano") -> Any:
    """Return the answer as the value that --json asked for, or a list of values for several answers."""
    if isinstance(answers, Message):
        return await piano.value(answers, schema)
    return [await piano.value(each, schema) for each in answers]


async def _job_to_wait_for(name: str, piano: "Piano") -> list[Job]:
    """Return the job to wait for. Raises PianoError if it would never end."""
    jobs = [await piano.find_job(name)] if name else await _newest_job_here(piano)
    if not jobs:
        raise PianoError("this notebook has no job to wait for; %piano send TEXT sends one, %piano queue lists all")
    for job, why in await piano.unfinished():
        if job.id == jobs[0].id and why:
            raise PianoError(f"job {short(job.id)} waits: {why}")
    if jobs[0].status is JobStatus.QUEUED and piano.stopped:
        raise PianoError(f"job {short(jobs[0].id)} waits: {STOPPED}")
    return jobs


async def _newest_job_here(piano: "Piano") -> list[Job]:
    """Return the newest job of this notebook, if there is one."""
    return [job for job in await piano.jobs(last=MAX_ROWS) if job.notebook.is_same(piano.notebook)][-1:]


async def _send_all(text: FilledText, question: dict[str, Any], piano: "Piano") -> list[Job]:
    if piano.stopped:
        raise PianoError(f"{STOPPED}, and %piano send queues a question")
    return await piano.send_all(text, **question)


async def _edit(name: str, text: FilledText, piano: "Piano") -> list[Job]:
    if piano.stopped:
        raise PianoError(STOPPED)
    return await piano.edit(name, text, source="magic")


async def _regenerate(name: str, piano: "Piano") -> list[Job]:
    if piano.stopped:
        raise PianoError(STOPPED)
    return await piano.regenerate(await named_or_last(piano, name))


async def _panel_thread(session: Session, name: str, piano: "Piano", *, resume: bool) -> tuple["Piano", Thread, bool]:
    """Return the thread that a panel opens on, and whether it was chosen in this kernel."""
    is_chosen = bool(name) or session.has_chosen(piano.thread)
    if name:
        piano.thread = await piano.find_thread(name)
    elif piano.thread is None:
        piano.thread = await newest_or_new_thread(piano)
    if resume:
        await _resume(piano)
    return piano, piano.thread, is_chosen


async def _resume(piano: "Piano") -> None:
    """Go on with the jobs that an earlier kernel left, unless the database is not trusted."""
    if piano.trusted:
        await piano.resume()
