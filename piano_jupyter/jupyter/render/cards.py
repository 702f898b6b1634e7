"""Cards and tables of agents, threads, jobs, models and search results, as cells show them."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, tzinfo
from html import escape
from typing import TYPE_CHECKING, Any
from uuid import UUID

from piano_jupyter.approval_prompt import prompt_text
from piano_jupyter.events import ApprovalRequested
from piano_jupyter.jupyter.render.tables import HighlightedText, RecordCard, RecordList, RecordTable, counted
from piano_jupyter.records import EMBEDDED, Agent, Hit, Job, JobStatus, Model, Notebook, Thread, ThreadUse, short
from piano_jupyter.text.invisible import to_the_letter
from piano_jupyter.text.short_paths import short_paths

if TYPE_CHECKING:
    from piano_jupyter.piano import Status

Names = Mapping[UUID | None, str]  # of agents and threads, by id

STOPPED = "stopped; %piano start resumes"
SCRIPT = "a script"  #: what a job belongs to that no notebook has sent
PROCESS = "process "  #: how the label of a script or terminal starts that shares the history


class ApprovalCards(RecordList[ApprovalRequested]):
    """The tool calls that wait for approval, each complete and with invisible characters named.

    `elsewhere` names the notebooks of those that would run in another one, by the ids of their requests.
    """

    def __init__(self, requests: Sequence[ApprovalRequested], elsewhere: Mapping[UUID, str] | None = None) -> None:
        super().__init__(requests)
        self._elsewhere = elsewhere or {}

    def __repr__(self) -> str:
        texts = (_request_text(each, self._elsewhere.get(each.id, "")) for each in self._records)
        return "\n\n".join(texts) or "no tool call waits for your approval"

    def _repr_html_(self) -> str:
        if not self._records:
            return f"<p>{self!r}</p>"
        style = "margin:0;padding:0;background:none;white-space:pre-wrap;overflow-wrap:anywhere"
        return f'<pre style="{style}">{escape(repr(self))}</pre>'


def _request_text(request: ApprovalRequested, notebook: str) -> str:
    name = short(request.call.id)
    where = f" in {notebook}" if notebook else ""
    always = f"\n  --always adds the rule: {to_the_letter(request.always)}" if request.always else ""
    asked = f"{name}  {prompt_text(request, where)}{always}"
    return f"{asked}\n  %piano approve {name} lets it run, %piano deny {name} does not"


def agent_card(agent: Agent, answering_model: str = "") -> RecordCard:
    """Return an agent's card, with all that is set; `answering_model` is the one that answers for its model."""
    return RecordCard(
        name=f"@{agent.name}",
        model=model_and_answering(agent.model, answering_model),
        description=agent.description,
        system_prompt=agent.system_prompt,
        tools=", ".join(agent.enabled_tools),
        skills=", ".join(agent.enabled_skills),
        options=", ".join(f"{name}={value}" for name, value in sorted(agent.options.items())),
        rounds=f"at most {agent.max_iterations}" if agent.max_iterations else "",
    )


def skill_card(skill: Any) -> RecordCard:
    """Return a skill's card: its metadata, without its text."""
    about = skill.metadata
    return RecordCard(
        skill=skill.name,
        description=skill.description,
        license=_front_matter_text(about.get("license")),
        compatibility=_front_matter_text(about.get("compatibility")),
        allowed_tools=f"{_front_matter_text(about['allowed-tools'])} (shown only)"
        if about.get("allowed-tools")
        else "",
        metadata=_front_matter_text(about.get("metadata")),
        file=skill.place,
        version=skill.sha,
        to_fix="\n".join(skill.warnings),
    )


def thread_card(thread: Thread, names: Names) -> RecordCard:
    """Return a thread's card."""
    return RecordCard(
        thread=thread.title,
        status=thread.status,
        answers=f"@{names[thread.primary_agent_id]}" if thread.primary_agent_id in names else "",
        forked_from=names.get(thread.forked_from_thread_id, ""),
    )


def job_card(job: Job, names: Names) -> RecordCard:
    """Return a job's card, without its times."""
    return RecordCard(
        job=short(job.id),
        status=job.status,
        agent=f"@{names.get(job.agent_id, '?')}",
        model=_model_of_job(job),
        reason=job.reason or "",
    )


def model_card(model: Model) -> RecordCard:
    """Return a model's card."""
    return RecordCard(
        model=model.name,
        state=model.state,
        context=_context_text(model),
        aliases=", ".join(model.aliases),
        description=model.description,
    )


def status_card(
    status: "Status", no_thread: str = "", batches: str = "", *, is_short: bool = False, here: Notebook | None = None
) -> RecordCard:
    """Return the state as a card: who answers and what waits come first, the details last, if at all.

    `no_thread` is what to say where there is no current thread, `batches` how far those are that run, `here` the
    notebook that it is shown in.
    """
    details = {
        "models": models_line(status.models),
        "rules": "\n".join(status.rules),
        "sandbox": "\n".join(status.layers),
        "database": f"{counted(status.threads, 'thread')}, {counted(status.agents, 'agent')} in {status.database}",
        "workspace": status.workspace,
    }
    return RecordCard(
        agent=f"@{status.agent.name}" if status.agent else "",
        model=_model_of(status.agent, status) if status.agent else "",
        thread=status.thread.title if status.thread else no_thread,
        jobs=_jobs(status),
        batches=batches,
        unfinished="\n".join(_unfinished_lines(status.unfinished)),
        history=_shared_with(status.others, here or Notebook()),
        trust=status.distrust,
        warning="\n".join(status.warnings),
        server=status.server,
        cassette=status.cassette or "",
        tools=f"mode {status.mode}, {counted(len(status.rules), 'rule')}; %piano tools shows which calls ask you",
        MCP_servers=_mcp_servers(status),
        **({"more": "%piano status --all"} if is_short else details),
    )


def job_line(job: Job) -> str:
    """Return the status of a job as a sentence."""
    return f"job {short(job.id)} is {job.status}"


def models_line(models: Sequence[Model]) -> str:
    """Return the models that the server has loaded, in one line."""
    busy = [model for model in models if model.state != "unloaded"]
    texts = [_model_line(model.name, model) for model in busy]
    rest = len(models) - len(busy)
    return "; ".join([*texts, *([f"{rest} more, not loaded" if texts else f"{rest}, none loaded"] if rest else [])])


def agents_table(
    agents: Sequence[Agent], answering_model: Callable[[str], str] = lambda model: model
) -> RecordTable[Agent]:
    """Return agents as a table; `answering_model` tells which model answers for a model."""
    return RecordTable(
        agents,
        "no agents",
        name=lambda agent: f"@{agent.name}",
        model=lambda agent: model_and_answering(agent.model, answering_model(agent.model)),
        tools=lambda agent: ", ".join(agent.enabled_tools),
        skills=lambda agent: ", ".join(agent.enabled_skills),
        description=lambda agent: agent.description,
    )


def threads_table(
    threads: Sequence[Thread], use: Mapping[UUID, ThreadUse], zone: tzinfo | None = None
) -> RecordTable[Thread]:
    """Return threads as a table, with the number of messages and the time of the last one.

    Times are local and short, or full in a `zone`.
    """

    def used(thread: Thread) -> ThreadUse:
        return use.get(thread.id, ThreadUse(0, thread.inserted_at, None))

    heading = f" ({zone})" if zone else ""
    return RecordTable(
        threads,
        "no threads yet; %%piano opens one",
        id=lambda thread: short(thread.id),
        title=lambda thread: thread.title,
        status=lambda thread: thread.status,
        messages=lambda thread: used(thread).messages,
        **{
            f"last used{heading}": lambda thread: _time(used(thread).last, zone),
            f"opened{heading}": lambda thread: _time(thread.inserted_at, zone),
        },
    )


def jobs_table(
    jobs: Sequence[Job],
    names: Names,
    held: Mapping[UUID, str] | None = None,
    *,
    stopped: bool = False,
    here: Notebook | None = None,
) -> RecordTable[Job]:
    """Return jobs as a table; `held` says what the jobs of an earlier kernel, or of a notebook that is gone, wait for.

    Which notebook a job belongs to is shown where that is not always the one that it is shown in, `here`.
    """
    reasons = held or {}
    titles = short_paths([*(job.notebook.name for job in jobs), here.name if here else ""])

    def is_here(job: Job) -> bool:
        return here is None or job.notebook.is_same(here)

    def reason(job: Job) -> str:
        why = reasons.get(job.id) or (STOPPED if stopped and is_here(job) and job.status is JobStatus.QUEUED else "")
        return f"waits: {why}" if why else job.reason or ""

    def notebook(job: Job) -> str:
        if is_here(job):
            return "this one"
        return (titles[job.notebook.name] or SCRIPT) + (" (gone)" if job.id in reasons else "")

    columns = {} if all(map(is_here, jobs)) else {"notebook": notebook}
    return RecordTable(
        jobs,
        "nothing runs and nothing waits",
        id=lambda job: short(job.id),
        status=lambda job: job.status,
        agent=lambda job: f"@{names.get(job.agent_id, '?')}",
        model=_model_of_job,
        attempt=lambda job: job.attempt,
        **columns,
        reason=reason,
    )


def models_table(models: Sequence[Model]) -> RecordTable[Model]:
    """Return models as a table."""
    return RecordTable(
        models,
        "the server lists no models",
        name=lambda model: model.name,
        state=lambda model: model.state,
        context=_context_text,
        aliases=lambda model: ", ".join(model.aliases),
        description=lambda model: model.description,
    )


def hits_table(hits: Sequence[Hit], names: Names) -> RecordTable[Hit]:
    """Return search results as a table; the ids are those of the messages."""

    def author(hit: Hit) -> str:
        if hit.message is None:
            return "(title)"
        return names.get(hit.message.agent_id, "You" if hit.message.role == "user" else hit.message.role)

    return RecordTable(
        hits,
        "found nothing",
        thread=lambda hit: hit.thread.title,
        who=author,
        said=lambda hit: HighlightedText(hit.excerpt, hit.marks),
        id=lambda hit: short(hit.message.id) if hit.message else "",
    )


def _front_matter_text(value: Any) -> str:
    """Return a value of front matter as text."""
    if isinstance(value, Mapping):
        return "\n".join(f"{name}: {_front_matter_text(each)}" for name, each in value.items())
    return ", ".join(map(_front_matter_text, value)) if isinstance(value, list) else str(value or "")


def _context_text(model: Model) -> str:
    return f"{model.context:,} tokens" if model.context else ""


def _unfinished_lines(jobs: Sequence[tuple[Job, str]]) -> list[str]:
    """Return what unfinished jobs wait for, one line for each reason."""
    waiting = [(short(job.id), reason) for job, reason in jobs if reason]
    reasons = Counter(reason.replace(job_id, "JOB") for job_id, reason in waiting)
    exact = {reason.replace(job_id, "JOB"): reason for job_id, reason in waiting}
    return [
        f"{counted(number, 'job')} waiting: {exact[reason] if number == 1 else reason}"
        for reason, number in reasons.items()
    ]


def _shared_with(others: Sequence[str], here: Notebook) -> str:
    """Return who else has the history open."""
    if not others:
        return ""
    are_notebooks = not any(each.startswith(PROCESS) for each in others)
    count = counted(len(others), "other notebook" if are_notebooks else "other")
    titles = short_paths([*others, here.name])
    return f"shared with {count}: {', '.join(titles[each] for each in others)}"


def _model_line(name: str, model: Model) -> str:
    return " ".join(filter(None, [name, model.state, _context_text(model)]))


def model_and_answering(name: str, answering: str) -> str:
    """Return the model that answers, and the one that was asked for if that is another."""
    return f"{answering} (answers for {name})" if answering not in {"", name} else name


def _model_of_job(job: Job) -> str:
    return model_and_answering(job.model, "the embedded model" if job.server == EMBEDDED else "")


def _model_of(agent: Agent, status: "Status") -> str:
    """Return the model that answers for an agent, and its state if the server has it."""
    found = next((model for model in status.models if agent.model in {model.name, *model.aliases}), None)
    if found is None or status.answering_model not in {agent.model, found.name, *found.aliases}:
        return model_and_answering(agent.model, status.answering_model)
    return _model_line(agent.model, found)


def _jobs(status: "Status") -> str:
    """Return what runs and what waits."""
    counts = {
        "running": status.running,
        "queued": status.queued - sum(bool(why) for _, why in status.unfinished),  # those have a row of their own
        "waiting for your approval (%piano approve shows what)": status.approvals,
    }
    jobs = ", ".join(f"{count} {what}" for what, count in counts.items() if count) or "nothing runs or waits"
    return jobs + (f"; {STOPPED}" if status.stopped else "")


def _mcp_servers(status: "Status") -> str:
    """Return the MCP servers with their states, in one line."""
    named = ", ".join(f"{each.name} {each.state}" for each in status.mcp_servers)
    return f"{named}; %piano mcp shows more" if named else ""


def _time(time: datetime, zone: tzinfo | None) -> str:
    """Return a time in a zone; without one in local time, short where it was today or yesterday."""
    if zone is not None:
        return f"{time.astimezone(zone):%Y-%m-%d %H:%M}"
    local, today = time.astimezone(), datetime.now().astimezone().date()
    day = {0: "today", 1: "yesterday"}.get((today - local.date()).days, f"{local:%Y-%m-%d}")
    return f"{day} {local:%H:%M}"
