"""How the other records look in a cell: agents, threads, jobs, models, what a search found."""

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime, tzinfo
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


def status_card(status: "Status", no_thread: str = "", *, is_short: bool = False) -> RecordCard:
    """Return the state as a card: who answers and what waits come first, the details last, if at all.

    `no_thread` is what to say where there is no current thread.
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
        model=_model_of(status.agent, status.models) if status.agent else "",
        thread=status.thread.title if status.thread else no_thread,
        jobs=_jobs(status),
        unfinished="\n".join(_unfinished(status.unfinished)),
        trust=status.distrust,
        server=status.server,
        cassette=status.cassette or "",
        tools=f"mode {status.mode}, {counted(len(status.rules), 'rule')}; %piano tools shows which calls ask you",
        **({"more": "%piano status --all"} if is_short else details),
    )


def job_line(job: Job) -> str:
    """Return how a job stands, as a sentence."""
    return f"job {short(job.id)} is {job.status}"


def models_line(models: Sequence[Model]) -> str:
    """Return the models that take up room on the server, in one line."""
    busy = [model for model in models if model.state != "unloaded"]
    told = [_model_line(model.name, model) for model in busy]
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


def threads_table(
    threads: Sequence[Thread], use: Mapping[UUID, tuple[int, datetime]], zone: tzinfo | None = None
) -> RecordTable[Thread]:
    """Return threads as a table, with the number of messages and the time of the last one.

    Times are local and short, or full in a `zone`.
    """

    def used(thread: Thread) -> tuple[int, datetime]:
        return use.get(thread.id, (0, thread.inserted_at))

    heading = f" ({zone})" if zone else ""
    return RecordTable(
        threads,
        "no threads yet; %%piano opens one",
        id=lambda thread: short(thread.id),
        title=lambda thread: thread.title,
        status=lambda thread: thread.status,
        messages=lambda thread: used(thread)[0],
        **{
            f"last used{heading}": lambda thread: _time(used(thread)[1], zone),
            f"opened{heading}": lambda thread: _time(thread.inserted_at, zone),
        },
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


def _model_line(name: str, model: Model) -> str:
    return " ".join(filter(None, [name, model.state, _tokens(model)]))


def _model_of(agent: Agent, models: Sequence[Model]) -> str:
    """Return an agent's model, and its state if the server has it."""
    found = next((model for model in models if agent.model in {model.name, *model.aliases}), None)
    return agent.model if found is None else _model_line(agent.model, found)


def _jobs(status: "Status") -> str:
    """Return what runs and what waits."""
    counts = {
        "running": status.running,
        "queued": status.queued,
        "waiting for your approval (%piano approve shows what)": status.approvals,
    }
    told = ", ".join(f"{count} {what}" for what, count in counts.items() if count) or "nothing runs or waits"
    return told + ("; stopped, %piano start starts them again" if status.stopped else "")


def _time(time: datetime, zone: tzinfo | None) -> str:
    """Return a time in a zone; without one in local time, short where it was today or yesterday."""
    if zone is not None:
        return f"{time.astimezone(zone):%Y-%m-%d %H:%M}"
    local, today = time.astimezone(), datetime.now().astimezone().date()
    day = {0: "today", 1: "yesterday"}.get((today - local.date()).days, f"{local:%Y-%m-%d}")
    return f"{day} {local:%H:%M}"


def _unfinished(jobs: Sequence[tuple[Job, str]]) -> list[str]:
    """Return what jobs that an earlier kernel left wait for, a line for each such thing."""
    waits = Counter(why for _, why in jobs if why)
    return [f"{counted(many, 'job')} waiting: {why}" for why, many in waits.items()]
