"""THE SERVICE. Piano: every verb that a face can say, said once.

It owns what works below it: the store, the bus, the consumer, the client of the model and the embedded model. Every
verb is a coroutine on the loop that opened it.
"""

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar, overload
from uuid import UUID

from piano_jupyter.bus import EventBus, EventStream
from piano_jupyter.config import PianoConfig, configured
from piano_jupyter.errors import ModelError, NotFoundError, PianoError
from piano_jupyter.events import ApprovalRequested, Closed, Event
from piano_jupyter.fork_guard import ForkGuard, checks_for_forks
from piano_jupyter.logs import LOGS
from piano_jupyter.pipeline.cancellation import whole
from piano_jupyter.records import (
    Agent,
    Backup,
    DatabaseIdentity,
    Hit,
    Job,
    JobStatus,
    JobTerms,
    Message,
    Mode,
    Model,
    Rows,
    Source,
    Thread,
    ThreadStatus,
    ToolCall,
    short,
)
from piano_jupyter.rules import parsed_rule
from piano_jupyter.runner.model.cassette import Cassette
from piano_jupyter.runner.model.protocol import ChatModel
from piano_jupyter.runner.schema.response_format import ResponseFormat, form_of
from piano_jupyter.runner.skills.skill import Skill
from piano_jupyter.runner.tools.files.file_tools import file_layer
from piano_jupyter.safe_files import copy_file
from piano_jupyter.store.base import UsageBy
from piano_jupyter.store.duckdb.backup_files import backups
from piano_jupyter.store.duckdb.backups import prepare_restore, put_in_place
from piano_jupyter.store.duckdb.frame_queries import select
from piano_jupyter.tool import Tool, Verdict, as_tool
from piano_jupyter.wiring import Components

if TYPE_CHECKING:
    from piano_jupyter.export import ExportFormat

T = TypeVar("T")

GLANCE = 2.0  # seconds to wait for the list of models, where how things stand is asked for


@dataclass(frozen=True, kw_only=True, slots=True)
class Status:
    """How things stand."""

    database: str
    server: str
    models: list[Model]  #: what the server has, where one answers
    workspace: str
    thread: Thread | None
    agents: int
    threads: int
    queued: int
    running: int
    approvals: int
    unfinished: list[tuple[Job, str]]  #: what an earlier kernel left, each job with what it waits for
    distrust: str  #: why the database is not trusted, "" if it is
    notices: list[str]  #: what is to be known of the database, that included
    mode: Mode  #: what tools may do
    rules: list[str]  #: what the user has set, and which of them are about no tool
    layers: list[str]  #: what stands between tools and the machine
    stopped: bool  #: whether no job is taken for now
    cassette: str | None


@checks_for_forks("close", "close_now")
class Piano:
    """A multi-agent chat: opens its database, answers what is sent, keeps everything.

    >>> async with Piano(database=":memory:") as piano:  # doctest: +SKIP
    ...     answer = await piano.ask("What is the capital of France?")

    Keyword arguments are knobs of `PianoConfig`. `tools` are functions of one's own. `record` or `replay` name a
    cassette; both keep the conversation in memory only. `model` takes the place of the server, for tests. Without
    `resumes` a question leaves alone what an earlier kernel left: only `resume` lets it go on.
    """

    def __init__(
        self,
        *,
        config: PianoConfig | None = None,
        tools: Sequence[Tool | Callable[..., Any]] = (),
        record: str | Path | None = None,
        replay: str | Path | None = None,
        model: ChatModel | None = None,
        resumes: bool = True,
        **knobs: object,
    ) -> None:
        self.fork_guard = ForkGuard()
        self._resumes = resumes
        self.config = configured(config, **knobs)
        self.bus = EventBus()
        self._identity: DatabaseIdentity | None = None
        self._tools = {each.name: each for each in map(as_tool, tools)}
        self._wire = partial(Components, self.config, record=record, replay=replay, model=model)
        self._parts = self._wire(self.bus, tools=self._tools.values())

    @property
    def is_open(self) -> bool:
        """Whether the database is open."""
        return self._identity is not None

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.close()

    async def open(self) -> None:
        """Open the database and begin to work; what a dead kernel left waits for `resume`. Raises StoreError."""
        try:
            await whole(self._open())
        except BaseException:  # a database that is half open would be locked to everybody, us included
            await self.close()
            raise

    async def _open(self) -> None:
        LOGS.masks.append(self._parts.mask)
        await self._parts.store.open()
        self._identity = identity = await self._parts.store.identity()
        await asyncio.to_thread(self._parts.trust.open, identity)
        await self._parts.roster.open(self.config.default_model)
        await self._parts.producer.recover(self.config.max_attempts)
        self._parts.consumer.start()
        if not self._parts.trust.in_memory:
            self._parts.backups.start()

    async def close(self) -> None:
        """Let what runs finish within `shutdown_timeout`, then write and close everything. May be called twice.

        Who still waits for an answer gets a PianoError. In a forked process it does nothing.
        """
        if self.fork_guard.forked:
            return
        await whole(self._close())

    async def _close(self) -> None:
        await self._parts.backups.stop()
        await self._parts.consumer.stop(self.config.shutdown_timeout)
        self._parts.happened.close()
        self.bus.publish(Closed())
        self.bus.close()
        await self._parts.swap.aclose()
        if self._parts.client is not None:
            await self._parts.client.aclose()
        await self._parts.bash.aclose()
        await self._parts.store.close()
        self._identity = None
        self._parts.finder.stop()
        if self._parts.mask in LOGS.masks:  # not before: what is told of the end is logged too
            LOGS.masks.remove(self._parts.mask)

    def close_now(self, timeout: float = 2.0) -> None:
        """Close the database, end shells and the embedded model from any thread, without the loop: for the exit."""
        if self.fork_guard.forked:
            return
        self._parts.bash.stop()
        self._parts.store.close_now(timeout)
        self._parts.finder.stop()

    # -- asking ------------------------------------------------------------------------------------

    @overload
    async def ask(
        self, text: str, *, agent: str | None = None, thread: Thread | str | None = None, schema: None = None
    ) -> Message: ...
    @overload
    async def ask(
        self, text: str, *, agent: str | None = None, thread: Thread | str | None = None, schema: type[T]
    ) -> T: ...
    @overload
    async def ask(
        self, text: str, *, agent: str | None = None, thread: Thread | str | None = None, schema: Any
    ) -> Any: ...
    async def ask(
        self, text: str, *, agent: str | None = None, thread: Thread | str | None = None, schema: Any = None
    ) -> Any:
        """Send a message and return the answer. Raises PianoError with the reason where there is none.

        Without `thread` it goes on in the current one. A cancelled `ask` cancels its job. With `schema` the answer is a
        checked value: of a type (a dataclass, a TypedDict, a pydantic model, `list[str]`, ...), or as a JSON Schema has
        it (a dict, its text, or a file).
        """
        form = await _form(schema, Path(self.config.workspace))
        answers = await self._asked(self._send_one(text, agent, thread, "api", form))
        return form.value(answers[0].content) if form else answers[0]

    @overload
    async def ask_all(
        self, text: str, *, agents: Sequence[str] = (), thread: Thread | str | None = None, schema: None = None
    ) -> list[Message]: ...
    @overload
    async def ask_all(
        self, text: str, *, agents: Sequence[str] = (), thread: Thread | str | None = None, schema: type[T]
    ) -> list[T]: ...
    @overload
    async def ask_all(
        self, text: str, *, agents: Sequence[str] = (), thread: Thread | str | None = None, schema: Any
    ) -> list[Any]: ...
    async def ask_all(
        self, text: str, *, agents: Sequence[str] = (), thread: Thread | str | None = None, schema: Any = None
    ) -> list[Any]:
        """Send a message to several agents and return their answers, in the order asked; as `ask` in all else.

        Without `agents` it goes to those whose handles it begins with (`@ada @bob ...`).
        """
        form = await _form(schema, Path(self.config.workspace))
        answers = await self._asked(self.send_all(text, agents=agents, thread=thread, schema=form))
        return [form.value(each.content) for each in answers] if form else answers

    async def _asked(self, sends: Coroutine[Any, Any, list[Job]]) -> list[Message]:
        sending = asyncio.ensure_future(sends)
        try:
            jobs = await asyncio.shield(sending)
            waits = [asyncio.ensure_future(self.wait(job)) for job in jobs]
            await asyncio.gather(*waits, return_exceptions=True)  # one that fails stops no other
        except asyncio.CancelledError:
            await whole(self._cancel_sent(sending))
            raise
        return [each.result() for each in waits]

    async def _cancel_sent(self, sending: "asyncio.Future[list[Job]]") -> None:
        with contextlib.suppress(PianoError):
            for job in await sending:
                await self.cancel(job)

    async def send(
        self,
        text: str,
        *,
        agent: str | None = None,
        thread: Thread | str | None = None,
        schema: Any = None,
        source: Source = "api",
    ) -> Job:
        """Keep a message and queue the job that answers it; return at once. Raises PianoError if it asks several.

        With `schema` the answer will be JSON that fits; `value` makes what `ask` returns of it.
        """
        return (await self._send_one(text, agent, thread, source, schema))[0]

    async def _send_one(
        self, text: str, agent: str | None, thread: Thread | str | None, source: Source, schema: Any
    ) -> list[Job]:
        return await self._send(text, [agent] if agent is not None else [], thread, source, schema, alone=True)

    async def send_all(
        self,
        text: str,
        *,
        agents: Sequence[str] = (),
        thread: Thread | str | None = None,
        schema: Any = None,
        source: Source = "api",
    ) -> list[Job]:
        """Keep a message and queue a job for each agent that it asks; return at once."""
        return await self._send(text, agents, thread, source, schema, alone=False)

    async def _send(
        self, text: str, names: Sequence[str], thread: Thread | str | None, source: Source, schema: Any, *, alone: bool
    ) -> list[Job]:
        _check_text(text)
        form = await _form(schema, Path(self.config.workspace))
        for name in names:
            self._parts.roster.named(name)  # before a thread is opened for nothing
        into = await self._parts.threads.go_to(thread) or await self._parts.threads.open(text)
        agents = self._parts.questions.addressed(text, names, into)
        if alone and len(agents) > 1:
            raise PianoError(f"this asks {', '.join(each.name for each in agents)}: ask_all and send_all ask several")
        return await self._parts.questions.ask(
            text, agents, into, source, await self._begin_sending(), form.schema if form else None
        )

    async def _begin_sending(self) -> JobTerms:
        """Return what a question is sent under now. What an earlier kernel left goes on from here."""
        terms = JobTerms(self.config.mode, tuple(self.config.rules), await self._parts.address())
        if self._resumes:
            self._parts.unfinished.resume()
        self._parts.producer.stir()
        return terms

    async def edit(self, message: Message | UUID | str, text: str, *, source: Source = "api") -> list[Job]:
        """Ask another question in the place of one, of the same agents; return their jobs at once.

        Nothing is lost: the thread goes on from the new question, the old one stays as a branch.
        """
        _check_text(text)
        question = await self.find_message(message)
        return await self._parts.questions.edit(question, text, source, await self._begin_sending())

    async def regenerate(self, message: Message | UUID | str) -> list[Job]:
        """Have a question answered anew: by all who were asked, or by the one whose answer `message` is.

        The thread goes on from the new answer, the old one stays as a branch. Returns the jobs at once.
        """
        return await self._parts.questions.regenerate(await self.find_message(message), await self._begin_sending())

    @overload
    async def value(self, message: Message | UUID | str, schema: type[T]) -> T: ...
    @overload
    async def value(self, message: Message | UUID | str, schema: Any = None) -> Any: ...
    async def value(self, message: Message | UUID | str, schema: Any = None) -> Any:
        """Return the value that an answer is, as `schema` has it, by default as what it was asked to fit."""
        answer, form = await self.find_message(message), await _form(schema, Path(self.config.workspace))
        if form is None:
            job = await self._parts.store.job(answer.job_id) if answer.job_id else None
            if job is None or job.schema is None:
                raise PianoError(f"{short(answer.id)} was asked for as text; name the schema that it fits")
            form = ResponseFormat(job.schema)
        return form.value(answer.content)

    async def wait(self, job: Job) -> Message:
        """Return a job's answer when it is there.

        Raises what it failed with; PianoError if it was cancelled, or waits for the user to resume it.
        """
        await self._look_where_questions_go()
        if why := self._parts.unfinished.why_held(job):
            raise PianoError(f"job {short(job.id)} waits: {why}")
        if answer := await self._parts.happened.answer(job):
            return answer
        job = await self._parts.store.job(job.id)
        if job.status is not JobStatus.DONE:
            raise PianoError(job.reason or f"job {short(job.id)} was {job.status}")
        said = await self._parts.store.messages(job.thread_id)
        return [each for each in said if each.job_id == job.id and each.role == "assistant"][-1]

    def events(self, thread: Thread | None = None) -> EventStream:
        """Return what happens from now on, as an async iterator."""
        return self.bus.stream(thread=thread.id if thread else None)

    def recent_events(self, last: int = 50) -> list[tuple[datetime, Event]]:
        """Return what has happened of late, each with its time (UTC), oldest first; pieces of answers are left out."""
        return self._parts.happened.recent(last)

    async def drain(self) -> None:
        """Return when nothing runs, and nothing waits that would be taken."""
        await self._parts.consumer.drain()

    async def stop(self) -> None:
        """Take no more jobs for now: what runs goes on to its end, what is asked waits."""
        self._parts.consumer.pause()

    async def start(self) -> None:
        """Take jobs again."""
        self._parts.consumer.go_on()

    # -- jobs and approvals ------------------------------------------------------------------------

    async def jobs(self, *statuses: JobStatus, thread: Thread | None = None, last: int | None = None) -> list[Job]:
        """Return jobs (only the `last` so many), oldest first."""
        return await self._parts.store.jobs(*statuses, thread_id=thread.id if thread else None, last=last)

    async def find_job(self, job: Job | UUID | str) -> Job:
        """Return a job as it now stands, by itself, its id or the end of its id. Raises NotFoundError."""
        if not isinstance(job, str):
            return await self._parts.store.job(job.id if isinstance(job, Job) else job)
        found = await self._parts.store.jobs_ending(job.replace("-", "").strip().lower())
        if not found:
            newest = await self._parts.store.jobs(last=20)
            raise NotFoundError.among("job", job, [short(each.id) for each in reversed(newest)])
        return found[-1]

    async def cancel(self, job: Job | UUID | str) -> Job:
        """End a job, wherever it is; one that has ended is left as it is."""
        return await whole(self._cancel(job))

    async def _cancel(self, job: Job | UUID | str) -> Job:
        return await self._parts.consumer.cancel(await self.find_job(job))

    async def retry(self, job: Job | UUID | str) -> Job:
        """Queue a job again that failed, was cancelled or is unfinished, for its agent and the settings as they are."""
        found = await self.find_job(job)
        if why := self._parts.unfinished.why_held(found):
            if not self._parts.trust.given:
                raise PianoError(f"job {short(found.id)} waits: {why}")
            found = await whole(self._cancel(found))
        terms = await self._begin_sending()
        model = self._parts.roster.by_id(found.agent_id).model
        return await self._parts.producer.retry(replace(found, model=model, **terms._asdict()))

    async def unfinished(self) -> list[tuple[Job, str]]:
        """Return the jobs that an earlier kernel left, each with what it waits for, "" where it only waits its turn."""
        await self._look_where_questions_go()
        return self._parts.unfinished.all()

    async def _look_where_questions_go(self) -> None:
        """See whether the settings name another server by now, where an unfinished job may wait for its own."""
        if self._parts.unfinished.resumed and self._parts.known_address() is None:
            await self._parts.address()

    async def resume(self, job: Job | UUID | str | None = None) -> list[tuple[Job, str]]:
        """Let unfinished jobs go on, or one; return those that still wait for something, and what.

        The first question that is sent does the same. Raises PianoError where the database is not trusted.
        """
        if not self._parts.trust.given:
            raise PianoError(f"nothing of a database that is not known to be yours goes on: {self.distrust()}")
        await self._parts.address()
        self._parts.unfinished.resume(await self.find_job(job) if job is not None else None)
        self._parts.producer.stir()
        return [(each, why) for each, why in self._parts.unfinished.all() if why]

    async def trust(self) -> str:
        """Trust the database: its agents' tools count, its jobs may be resumed. Returns a sentence that says so."""
        if self._parts.trust.given and not self._parts.trust.problem:
            return f"trusted already: {self._parts.trust.path}{' (only memory)' if self._parts.trust.in_memory else ''}"
        withheld = self._parts.roster.withheld()
        left = len(self._parts.unfinished.all())
        await asyncio.to_thread(self._parts.trust.give)
        tools = "; ".join(f"{agent.name} may use {', '.join(agent.enabled_tools)}" for agent in withheld)
        jobs = f"{left} unfinished job{'' if left == 1 else 's'} may go on (%piano resume)" if left else ""
        note = f"this counts until this kernel ends: {self._parts.trust.problem}" if self._parts.trust.problem else ""
        return "; ".join(filter(None, [f"trusted from now on: {self._parts.trust.path}", tools, jobs, note]))

    @property
    def trusted(self) -> bool:
        """Whether the database is the user's own: made by this user on this machine, or trusted with `trust`."""
        return self._parts.trust.given

    def distrust(self) -> str:
        """Return why this database is not trusted, or will not be by the next kernel, a sentence; "" if all is well."""
        problem = self._parts.trust.problem
        if not self._parts.trust.given:
            return (
                f"database {self._parts.trust.path} was not made by you here, so nothing in it goes on by itself and "
                f"the tools of its agents do not count; if it is yours, say %piano trust{problem and f' ({problem})'}"
            )
        if problem:
            return f"the next kernel will not know that database {self._parts.trust.path} is yours: {problem}"
        return ""

    def notices(self) -> list[str]:
        """Return what is to be known of the database, a sentence each: that it is not trusted, or where it lies."""
        disk = self._identity.network_disk if self._identity is not None else ""
        where = disk and (
            f"database {self._parts.database} lies on a network disk ({disk}), whose locks may not keep other hosts "
            f"out: put it on a local disk with PianoConfig.database"
        )
        return list(filter(None, [self.distrust(), where, self._parts.backups.problem]))

    async def approve(self, call: ApprovalRequested | ToolCall | UUID, *, always: bool = False) -> bool:
        """Let a tool call run that waits for a yes; return False where that was answered already.

        `always` adds the rule that the question names to `config.rules`, of this Piano and for as long as it lives.
        """
        return await self._decide(call, allowed=True, always=always)

    async def deny(self, call: ApprovalRequested | ToolCall | UUID, *, always: bool = False) -> bool:
        """Do not let a tool call run; the model is told. Returns False where that was answered already.

        `always` adds a rule as `approve` does, one that denies.
        """
        return await self._decide(call, allowed=False, always=always)

    async def _decide(self, call: ApprovalRequested | ToolCall | UUID, *, allowed: bool, always: bool) -> bool:
        request = self._parts.approvals.find(call)
        if request is None or not await self._parts.approvals.decide(request, allowed=allowed, always=always):
            return False
        if always:
            self._parts.permits.add_rule(request.always if allowed else request.never)
        return True

    async def approvals(self) -> list[ApprovalRequested]:
        """Return the tool calls that wait for a yes or no, oldest first."""
        return self._parts.approvals.waiting()

    # -- threads and messages ----------------------------------------------------------------------

    @property
    def thread(self) -> Thread | None:
        """The current thread: where a question goes that names none."""
        return self._parts.threads.current

    @thread.setter
    def thread(self, thread: Thread | None) -> None:
        self._parts.threads.current = thread

    async def open_thread(self, title: str, agent: str | None = None) -> Thread:
        """Create a thread and make it the current one; `agent` answers there when nobody is addressed."""
        primary = self._parts.roster.named(agent) if agent is not None else None
        return await self._parts.threads.open(title, primary_agent_id=primary.id if primary else None)

    async def threads(self, status: ThreadStatus | None = None) -> list[Thread]:
        """Return threads, newest first."""
        return await self._parts.threads.all(status)

    async def find_thread(self, name: str | UUID) -> Thread:
        """Return a thread by its title, its id or the end of its id; of two with one title, the newest."""
        return await self._parts.threads.find(name)

    async def rename_thread(self, thread: Thread, title: str) -> Thread:
        """Give a thread another title."""
        return await self._parts.threads.change(thread, title=title)

    async def archive_thread(self, thread: Thread) -> Thread:
        """Put a thread away: it is listed as archived, and no longer the current one."""
        return await self._parts.threads.change(thread, status="archived")

    async def delete_thread(self, *threads: Thread) -> list[str]:
        """Delete threads with all that was said and done in them, from the database and its copies, for good.

        Their text is no longer in the bytes of the files, which are written anew: that takes a while, and other work
        waits for it. Returns what may still hold it, a sentence each. Raises PianoError while a job runs in one.
        """
        await self._parts.backups.stop()  # a copy that is begun now would hold them
        try:
            return await whole(self._delete(threads))
        finally:
            if not self._parts.trust.in_memory:
                self._parts.backups.start()

    async def _delete(self, threads: Sequence[Thread]) -> list[str]:
        for thread in threads:
            for job in await self._parts.store.jobs(JobStatus.RUNNING, thread_id=thread.id):
                raise PianoError(f"job {short(job.id)} runs in {thread.title!r}: wait for it, or cancel it first")
        for thread in threads:
            for job in await self._parts.store.jobs(JobStatus.QUEUED, thread_id=thread.id):
                await self._parts.consumer.cancel(job)
        return await self._parts.threads.delete(threads)

    async def fork_thread(self, message: Message | UUID | str, title: str | None = None) -> Thread:
        """Create a thread that has the talk up to a message and goes on by itself; make it the current one."""
        return await self._parts.threads.fork(await self.find_message(message), title)

    async def messages(self, thread: Thread, last: int | None = None, *, at: Message | None = None) -> list[Message]:
        """Return a thread's messages (only the `last` so many) in reading order: each answer after its question.

        Of branches it is the one that leads to `at`, by default to where the thread goes on.
        """
        return await self._parts.threads.messages(thread, last, at)

    async def branches(self, thread: Thread) -> dict[UUID, list[UUID]]:
        """Return where a thread's branches part: for each message that has others in its place, the ids of them all."""
        return await self._parts.threads.branches(thread)

    async def message(self, message_id: UUID) -> Message:
        """Return one message. Raises NotFoundError."""
        return await self._parts.store.message(message_id)

    async def find_message(self, name: Message | UUID | str) -> Message:
        """Return a message by itself, its id or the end of its id. Raises NotFoundError."""
        return await self._parts.threads.find_message(name)

    async def tool_calls(self, thread: Thread) -> list[ToolCall]:
        """Return a thread's tool calls, in order."""
        return await self._parts.threads.tool_calls(thread)

    async def search(self, text: str, limit: int = 20) -> list[Hit]:
        """Return where all the words of `text` occur, in titles and in what was said, best first."""
        if not text.strip():
            raise PianoError("name the words to search for")
        return await self._parts.store.search(text, limit)

    async def export(self, thread: Thread, format: "ExportFormat") -> str:  # noqa: A002  It is what it is called.
        """Return a thread as text: Markdown, a notebook, or JSON Lines in the form of the OpenAI chat API."""
        from piano_jupyter.export import ExportedThread, exported  # noqa: PLC0415  Rarely wanted.

        names = {agent.id: agent.name for agent in self._parts.roster.all()}
        told = ExportedThread(thread, await self.messages(thread), await self.tool_calls(thread), names)
        return exported(format, told)

    async def import_thread(self, text: str, title: str | None = None) -> Thread:
        """Keep a conversation of JSON Lines in the form of the OpenAI chat API as a thread; make it the current one."""
        from piano_jupyter.export import imported  # noqa: PLC0415

        told = imported(text, title, self._parts.clock, self._parts.roster.all())
        return await self._parts.threads.add(*told)

    # -- agents, tools, skills ---------------------------------------------------------------------

    async def agents(self) -> list[Agent]:
        """Return the agents, oldest first."""
        return self._parts.roster.all()

    async def agent(self, name: str) -> Agent:
        """Return one agent. Raises NotFoundError."""
        return self._parts.roster.named(name)

    async def add_agent(self, name: str, *, model: str | None = None, **fields: Any) -> Agent:
        """Create an agent; `fields` are those of `Agent`. Raises PianoError for a name that is taken or no handle."""
        return await self._parts.roster.add(name, model or self.config.default_model, **fields)

    async def update_agent(self, name: str, **fields: Any) -> Agent:
        """Change an agent; `fields` are those of `Agent`. Its next turn sees the change."""
        return await self._parts.roster.update(name, **fields)

    def add_tool(self, thing: Tool | Callable[..., Any]) -> Tool | None:
        """Add a tool, or a function as one; return the tool that had its name before, if any. On any thread.

        Jobs that an earlier kernel left and that waited for it go on.
        """
        added = as_tool(thing)
        self._tools[added.name] = added
        replaced = self._parts.tools.add(added)
        self._parts.producer.stir_from_any_thread()
        return replaced

    async def tools(self) -> list[Tool]:
        """Return the tools that there are, by name."""
        return self._parts.tools.list_available()

    async def tool_verdicts(self) -> dict[str, Verdict]:
        """Return what becomes of a plain call of each tool, by its name, in the mode and with the rules as they are."""
        return {tool.name: self._parts.permits.usually(tool) for tool in self._parts.tools.list_available()}

    async def skills(self) -> list[Skill]:
        """Return the skills that there are, by name."""
        return await asyncio.to_thread(self._parts.skills.list_available)

    async def skill(self, name: str) -> Skill:
        """Return one skill. Raises NotFoundError, which also says if its file is broken."""
        return await asyncio.to_thread(self._parts.skills.load_skill, name)

    async def skill_problems(self) -> list[str]:
        """Return what is wrong with skill files, or not as the standard has it, a sentence each."""
        return await asyncio.to_thread(self._parts.skills.diagnostics)

    # -- copies ------------------------------------------------------------------------------------

    async def backup(self, file: str | Path | None = None) -> str:
        """Copy the database while work goes on, to a file that is not there yet; return the path of the copy.

        Without `file` it is the copy of this day in the backup folder. Raises PianoError.
        """
        self._check_kept()
        copy = await self._parts.store.backup()
        if file is None:
            return copy
        target = _users_path(file)
        await asyncio.to_thread(copy_file, Path(copy), target, workspace=self.config.workspace)
        return str(target)

    async def backups(self) -> list[Backup]:
        """Return the copies that the backup folder holds, newest first; also where the database cannot be opened."""
        return await asyncio.to_thread(backups, self._parts.database)

    async def restore(self, file: str | Path) -> str | None:
        """Go on with a copy in the place of the database; return where the present one is put aside.

        It may be closed, or unable to open; then it is open. Raises PianoError where `file` is no history, and while
        a job runs; then nothing is changed.
        """
        self._check_kept()
        return await whole(self._restore(_users_path(file)))

    async def _restore(self, file: Path) -> str | None:
        if self.is_open and (running := await self._parts.store.jobs(JobStatus.RUNNING)):
            raise PianoError(f"job {short(running[0].id)} runs: wait for it, or cancel it first")
        prepared = await asyncio.to_thread(prepare_restore, self._parts.database, file)
        await self._close()
        try:
            aside = await asyncio.to_thread(put_in_place, self._parts.database, prepared)
        finally:
            self.bus = EventBus()
            self._parts = self._wire(self.bus, tools=self._tools.values())
            await self.open()
        return aside

    def _check_kept(self) -> None:
        if self._parts.trust.in_memory:
            raise PianoError("this conversation is kept in memory only, so there is no file to copy; %piano export")

    # -- looking -----------------------------------------------------------------------------------

    async def sql(self, query: str) -> Rows:
        """Run one SELECT over everything that is kept. Raises StoreError."""
        return await self._parts.store.sql(query)

    @staticmethod
    def query_frames(query: str, frames: Mapping[str, Any], most: int = 100) -> tuple[Rows, bool]:
        """Run one SELECT over data frames by their names, here and now: its first `most` rows, and whether more are.

        It reads pandas, polars and pyarrow where they are, on the thread that calls it; no files. Raises StoreError.
        """
        return select(query, frames, most)

    async def stats(self, by: UsageBy = "agent") -> Rows:
        """Return what the answers cost, a row for each agent, model or day (UTC)."""
        return await self._parts.store.usage(by)

    async def status(self) -> Status:
        """Return how things stand. Asks the server which models it has, if one answers; starts none."""
        config = self.config
        server, models = await self._glance()
        counts = await self._parts.store.counts()
        tools = {tool.name for tool in self._parts.tools.list_available()}
        return Status(
            database=self._parts.database,
            server=server,
            models=models,
            workspace=config.workspace,
            thread=self.thread,
            agents=counts.agents,
            threads=counts.threads,
            queued=counts.jobs.get(JobStatus.QUEUED, 0),
            running=counts.jobs.get(JobStatus.RUNNING, 0),
            approvals=len(self._parts.approvals.waiting()),
            unfinished=await self.unfinished(),
            distrust=self.distrust(),
            notices=self.notices(),
            mode=config.mode,
            rules=[
                rule if parsed_rule(rule).tool in tools else f"{rule} (no tool has this name)" for rule in config.rules
            ],
            layers=await asyncio.to_thread(self._layers),
            stopped=self._parts.consumer.paused,
            cassette=_about(self._parts.cassette),
        )

    # -- models ------------------------------------------------------------------------------------

    async def models(self) -> list[Model]:
        """Return the models that the server has, as they stand. Raises ModelError."""
        return await self._parts.swap.models()

    async def load_model(self, name: str) -> None:
        """Have the server load a model, and return when it is loaded. Raises ModelError."""
        await self._parts.swap.load(name)

    async def unload_model(self, name: str | None = None) -> None:
        """Have the server unload a model, or all. Raises ModelError."""
        await self._parts.swap.unload(name)

    def known_models(self) -> list[str]:
        """Return the names of the models that the server was last heard of to have."""
        return self._parts.swap.known()

    # -- within ------------------------------------------------------------------------------------

    async def _glance(self) -> tuple[str, list[Model]]:
        """Return how to call the server, and its models if it tells them soon."""
        config, found = self.config, self._parts.finder.current()
        where = found.note or found.url if found else config.base_url
        if self._parts.client is None or (self._parts.cassette is None and not await self._parts.finder.answers()):
            return f"{where} (does not answer)", []
        with contextlib.suppress(ModelError, TimeoutError):
            async with asyncio.timeout(GLANCE):
                return where, await self._parts.swap.models()
        return where, []

    def _layers(self) -> list[str]:
        """Return what stands between tools and the machine, a sentence each."""
        return [file_layer(), *self._parts.bash.layers(self.config.mode)]


async def _form(schema: Any, workspace: Path) -> ResponseFormat | None:
    if schema is None:
        return None
    return await asyncio.to_thread(form_of, schema, workspace)  # it may be a file


def _users_path(file: str | Path) -> Path:
    return Path(file).expanduser()


def _check_text(text: str) -> None:
    if not text.strip():
        raise PianoError("there is nothing to ask: the message is empty")


def _about(cassette: Cassette | None) -> str | None:
    return f"{'recording to' if cassette.recording else 'replaying'} {cassette.path}" if cassette else None
