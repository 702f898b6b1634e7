"""How the other records look in a cell: agents, threads, jobs, models, what a search found."""

from collections import Counter
from collections.abc import Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any
from uuid import UUID

from piano_jupyter.approval_prompt import put
from piano_jupyter.events import ApprovalRequested
from piano_jupyter.jupyter.render.tables import HighlightedText, RecordCard, RecordList, RecordTable, counted
from piano_jupyter.records import Agent, Hit, Job, Model, Thread, short
from piano_jupyter.text.invisible import to_the_letter

if TYPE_CHECKING:
    from piano_jupyter.piano import Status

Names = Mapping[UUID | None, str]  # of agents and threads, by id


class ApprovalCards(RecordList[ApprovalRequested]):
    """The tool calls that wait for a yes, each to the letter and whole."""

    def __repr__(self) -> str:
        return "\n\n".join(map(_request, self._records)) or "no tool call waits for a yes"

    def _repr_html_(self) -> str:
        if not self._records:
            return f"<p>{self!r}</p>"
        style = "margin:0;padding:0;background:none;white-space:pre-wrap;overflow-wrap:anywhere"
        return f'<pre style="{style}">{escape(repr(self))}</pre>'


def _request(request: ApprovalRequested) -> str:
    name = short(request.call.id)
    always = f"\n  --always adds the rule: {to_the_letter(request.always)}" if request.always else ""
    return f"{name}  {put(request)}{always}\n  %piano approve {name} lets it run, %piano deny {name} does not"


def agent_card(agent: Agent) -> RecordCard:
    """Return an agent's card: all that is set of it."""
    return RecordCard(
        name=f"@{agent.name}",
        model=agent.model,
        description=agent.description,
        system_prompt=agent.system_prompt,
        tools=", ".join(agent.enabled_tools),
        skills=", ".join(agent.enabled_skills),
        options=", ".join(f"{name}={value}" for name, value in sorted(agent.options.items())),
        rounds=f"{agent.max_iterations} at most" if agent.max_iterations else "",
    )


def skill_card(skill: Any) -> RecordCard:
    """Return a skill's card: what is known of it, without its text."""
    about = skill.metadata
    return RecordCard(
        skill=skill.name,
        description=skill.description,
        license=_plain(about.get("license")),
        compatibility=_plain(about.get("compatibility")),
        allowed_tools=f"{_plain(about['allowed-tools'])} (shown only)" if about.get("allowed-tools") else "",
        metadata=_plain(about.get("metadata")),
        file=skill.place,
        version=skill.sha,
        to_mend="\n".join(skill.warnings),
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
        model=job.model,
        reason=job.reason or "",
    )


def model_card(model: Model) -> RecordCard:
    """Return a model's card."""
    return RecordCard(
        model=model.name,
        state=model.state,
        context=_tokens(model),
        aliases=", ".join(model.aliases),
        description=model.description,
    )


def status_card(status: "Status", no_thread: str = "") -> RecordCard:
    """Return how things stand; `no_thread` is what to say where there is no current thread."""
    jobs = f"{status.running} running, {status.queued} queued, {status.approvals} waiting for a yes"
    return RecordCard(
        thread=status.thread.title if status.thread else no_thread,
        server=status.server,
        models=models_line(status.models),
        jobs=jobs + ("; stopped, %piano start goes on" if status.stopped else ""),
        unfinished="\n".join(_unfinished(status.unfinished)),
        trust=status.distrust,
        database="\n".join(each for each in status.notices if each != status.distrust),
        tools=f"mode {status.mode}, {counted(len(status.rules), 'rule')}; %piano tools says which ask",
        rules="\n".join(status.rules),
        layers="\n".join(status.layers),
        kept=f"{counted(status.threads, 'thread')}, {counted(status.agents, 'agent')} in {status.database}",
        workspace=status.workspace,
        cassette=status.cassette or "",
    )


def job_line(job: Job) -> str:
    """Return how a job stands, as a sentence."""
    return f"job {short(job.id)} is {job.status}"


def models_line(models: Sequence[Model]) -> str:
    """Return the models that take up room on the server, in one line."""
    busy = [model for model in models if model.state != "unloaded"]
    told = [" ".join(filter(None, [model.name, model.state, _tokens(model)])) for model in busy]
    rest = len(models) - len(busy)
    return "; ".join([*told, *([f"{rest} more, not loaded" if told else f"{rest}, none loaded"] if rest else [])])


def agents_table(agents: Sequence[Agent]) -> RecordTable[Agent]:
    """Return agents as a table."""
    return RecordTable(
        agents,
        "no agents",
        name=lambda agent: f"@{agent.name}",
        model=lambda agent: agent.model,
        tools=lambda agent: ", ".join(agent.enabled_tools),
        skills=lambda agent: ", ".join(agent.enabled_skills),
        description=lambda agent: agent.description,
    )


def threads_table(threads: Sequence[Thread]) -> RecordTable[Thread]:
    """Return threads as a table."""
    return RecordTable(
        threads,
        "no threads yet; %%piano opens one",
        id=lambda thread: short(thread.id),
        title=lambda thread: thread.title,
        status=lambda thread: thread.status,
        **{"opened (UTC)": lambda thread: f"{thread.inserted_at:%Y-%m-%d %H:%M}"},
    )


def jobs_table(jobs: Sequence[Job], names: Names, held: Mapping[UUID, str] | None = None) -> RecordTable[Job]:
    """Return jobs as a table; `held` is what those wait for that an earlier kernel left."""
    waits = held or {}
    return RecordTable(
        jobs,
        "nothing runs and nothing waits",
        id=lambda job: short(job.id),
        status=lambda job: job.status,
        agent=lambda job: f"@{names.get(job.agent_id, '?')}",
        model=lambda job: job.model,
        attempt=lambda job: job.attempt,
        reason=lambda job: f"waits: {waits[job.id]}" if waits.get(job.id) else job.reason or "",
    )


def models_table(models: Sequence[Model]) -> RecordTable[Model]:
    """Return models as a table."""
    return RecordTable(
        models,
        "the server names no models",
        name=lambda model: model.name,
        state=lambda model: model.state,
        context=_tokens,
        aliases=lambda model: ", ".join(model.aliases),
        description=lambda model: model.description,
    )


def hits_table(hits: Sequence[Hit], names: Names) -> RecordTable[Hit]:
    """Return what a search found as a table; the ids are those of the messages."""

    def who(hit: Hit) -> str:
        if hit.message is None:
            return "(title)"
        return names.get(hit.message.agent_id, "You" if hit.message.role == "user" else hit.message.role)

    return RecordTable(
        hits,
        "found nothing",
        thread=lambda hit: hit.thread.title,
        who=who,
        said=lambda hit: HighlightedText(hit.excerpt, hit.marks),
        id=lambda hit: short(hit.message.id) if hit.message else "",
    )


def _plain(value: Any) -> str:
    """Return a value of front matter as text."""
    if isinstance(value, Mapping):
        return "\n".join(f"{name}: {_plain(each)}" for name, each in value.items())
    return ", ".join(map(_plain, value)) if isinstance(value, list) else str(value or "")


def _tokens(model: Model) -> str:
    return f"{model.context:,} tokens" if model.context else ""


def _unfinished(jobs: Sequence[tuple[Job, str]]) -> list[str]:
    """Return what jobs that an earlier kernel left wait for, a line for each such thing."""
    waits = Counter(why for _, why in jobs if why)
    return [f"{counted(many, 'job')} waiting: {why}" for why, many in waits.items()]
