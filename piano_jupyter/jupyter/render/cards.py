"""Cards and tables of agents, threads, jobs, models and search results, as cells show them."""

from collections import Counter
from collections.abc import Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any
from uuid import UUID

from piano_jupyter.approval_prompt import prompt_text
from piano_jupyter.events import ApprovalRequested
from piano_jupyter.jupyter.render.tables import HighlightedText, RecordCard, RecordList, RecordTable, counted
from piano_jupyter.records import Agent, Hit, Job, Model, Thread, short
from piano_jupyter.text.invisible import to_the_letter

if TYPE_CHECKING:
    from piano_jupyter.piano import Status

Names = Mapping[UUID | None, str]  # of agents and threads, by id


class ApprovalCards(RecordList[ApprovalRequested]):
    """The tool calls that wait for approval, each complete and with invisible characters named."""

    def __repr__(self) -> str:
        return "\n\n".join(map(_request_text, self._records)) or "no tool call waits for your approval"

    def _repr_html_(self) -> str:
        if not self._records:
            return f"<p>{self!r}</p>"
        style = "margin:0;padding:0;background:none;white-space:pre-wrap;overflow-wrap:anywhere"
        return f'<pre style="{style}">{escape(repr(self))}</pre>'


def _request_text(request: ApprovalRequested) -> str:
    name = short(request.call.id)
    always = f"\n  --always adds the rule: {to_the_letter(request.always)}" if request.always else ""
    return f"{name}  {prompt_text(request)}{always}\n  %piano approve {name} lets it run, %piano deny {name} does not"


def agent_card(agent: Agent) -> RecordCard:
    """Return an agent's card, with all that is set."""
    return RecordCard(
        name=f"@{agent.name}",
        model=agent.model,
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
        model=job.model,
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


def status_card(status: "Status", no_thread: str = "") -> RecordCard:
    """Return the card of %piano status; `no_thread` is the text if there is no current thread."""
    jobs = f"{status.running} running, {status.queued} queued, {status.approvals} waiting for your approval"
    return RecordCard(
        thread=status.thread.title if status.thread else no_thread,
        server=status.server,
        models=models_line(status.models),
        jobs=jobs + ("; stopped, %piano start continues" if status.stopped else ""),
        unfinished="\n".join(_unfinished_lines(status.unfinished)),
        trust=status.distrust,
        tools=f"mode {status.mode}, {counted(len(status.rules), 'rule')}; %piano tools says which ask",
        rules="\n".join(status.rules),
        layers="\n".join(status.layers),
        kept=f"{counted(status.threads, 'thread')}, {counted(status.agents, 'agent')} in {status.database}",
        workspace=status.workspace,
        cassette=status.cassette or "",
    )


def job_line(job: Job) -> str:
    """Return the status of a job as a sentence."""
    return f"job {short(job.id)} is {job.status}"


def models_line(models: Sequence[Model]) -> str:
    """Return the models that the server has loaded, in one line."""
    busy = [model for model in models if model.state != "unloaded"]
    texts = [" ".join(filter(None, [model.name, model.state, _context_text(model)])) for model in busy]
    rest = len(models) - len(busy)
    return "; ".join([*texts, *([f"{rest} more, not loaded" if texts else f"{rest}, none loaded"] if rest else [])])


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
    """Return jobs as a table; `held` says what the jobs of an earlier kernel wait for."""
    reasons = held or {}
    return RecordTable(
        jobs,
        "nothing runs and nothing waits",
        id=lambda job: short(job.id),
        status=lambda job: job.status,
        agent=lambda job: f"@{names.get(job.agent_id, '?')}",
        model=lambda job: job.model,
        attempt=lambda job: job.attempt,
        reason=lambda job: f"waits: {reasons[job.id]}" if reasons.get(job.id) else job.reason or "",
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
    """Return what the jobs of an earlier kernel wait for, one line for each reason."""
    reasons = Counter(reason for _, reason in jobs if reason)
    return [f"{counted(number, 'job')} waiting: {reason}" for reason, number in reasons.items()]
