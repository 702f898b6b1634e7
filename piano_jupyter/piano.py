"""THE SERVICE. Piano: every verb that a face can say, said once.

It owns what works below it: the store, the bus, the consumer, the client of the model and the embedded model. Every
verb is a coroutine on the loop that opened it.
"""

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from uuid import UUID

from piano_jupyter.bus import EventBus, EventStream
from piano_jupyter.clock import Clock
from piano_jupyter.config import PianoConfig, configured
from piano_jupyter.errors import NotFoundError, PianoError
from piano_jupyter.events import (
    ApprovalRequested,
    Closed,
    Event,
    JobCancelled,
    JobDone,
    JobFailed,
    JobQueued,
    ModelLoading,
    ThreadOpened,
)
from piano_jupyter.pipeline.addressing import addressed
from piano_jupyter.pipeline.approvals import Approvals
from piano_jupyter.pipeline.consumer import Consumer
from piano_jupyter.pipeline.conversations import Conversations
from piano_jupyter.pipeline.producer import Producer
from piano_jupyter.pipeline.roster import Roster
from piano_jupyter.pipeline.whole import whole
from piano_jupyter.records import (
    Agent,
    Job,
    JobStatus,
    Message,
    Rows,
    Source,
    Thread,
    ThreadStatus,
    ToolCall,
    short,
)
from piano_jupyter.runner.builtin_tools import builtin_tools
from piano_jupyter.runner.cassette import Cassette
from piano_jupyter.runner.chat import ChatModel
from piano_jupyter.runner.endpoint import EndpointFinder
from piano_jupyter.runner.llm import ChatClient
from piano_jupyter.runner.skills import Skill, SkillRegistry, skill_roots
from piano_jupyter.runner.tools import ToolRegistry
from piano_jupyter.runner.turn import Turn, run_turn
from piano_jupyter.store.base import Store
from piano_jupyter.store.duckdb_store import DuckDBStore
from piano_jupyter.tool import Tool, as_tool

IN_MEMORY = ":memory:"
TITLE_LENGTH = 60  # characters


@dataclass(frozen=True, kw_only=True, slots=True)
class Status:
    """How things stand."""

    database: str
    server: str
    workspace: str
    thread: Thread | None
    agents: int
    threads: int
    queued: int
    running: int
    approvals: int
    cassette: str | None


class Piano:
    """A multi-agent chat: opens its database, answers what is sent, keeps everything.

    >>> async with Piano(database=":memory:") as piano:  # doctest: +SKIP
    ...     answer = await piano.ask("What is the capital of France?")

    Keyword arguments are knobs of `PianoConfig`. `tools` are functions of one's own. `record` or `replay` name a
    cassette; both keep the conversation in memory only. `model` takes the place of the server, for tests.
    """

    def __init__(
        self,
        *,
        config: PianoConfig | None = None,
        tools: Sequence[Tool | Callable[..., Any]] = (),
        record: str | Path | None = None,
        replay: str | Path | None = None,
        model: ChatModel | None = None,
        **knobs: object,
    ) -> None:
        self.config = configured(config, **knobs)
        self.bus = EventBus()
        self.thread: Thread | None = None  #: the current one: where `ask` goes on
        self._cassette: Cassette | None = None
        if record is not None or replay is not None:
            self._cassette = Cassette(Path(record or replay or ""), recording=record is not None)
        self._clock = self._cassette.clock() if self._cassette else Clock()
        self._store: Store = DuckDBStore(IN_MEMORY if self._cassette else self.config.database)
        self._finder = EndpointFinder(self.config, self._tell_loading)
        wrap = {"wrap": self._cassette.wrap} if self._cassette else {}
        self._client = None if model else ChatClient(self._finder.find, self.config, **wrap)
        self._model: ChatModel = model or self._client  # type: ignore[assignment]  # one of the two is there
        owner = f"{socket.gethostname()}:{os.getpid()}"
        self._producer = Producer(self._store, self.bus, self._clock, owner)
        self._consumer = Consumer(
            self._store, self.bus, self._clock, self._producer, self._turn, lambda: self.config.max_demand
        )
        self._conversations = Conversations(self._store, self.bus)
        self._ends: dict[UUID, asyncio.Future[Event]] = {}  #: how each live job ends
        self.bus.subscribe(self._note_job, JobQueued, JobDone, JobFailed, JobCancelled)
        self._approvals = Approvals(self.bus)
        self._roster = Roster(self._store, self.bus, self._clock, self._check_agent)
        self._skills = SkillRegistry(lambda: skill_roots(self._workspace(), self.config.skills_paths))
        self._tools = ToolRegistry()
        knob = self.config
        for each in (
            *builtin_tools(
                self._workspace, timeout=lambda: knob.tool_timeout, output_limit=lambda: knob.tool_output_limit
            ),
            *map(as_tool, tools),
        ):
            self._tools.add(each)

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def open(self) -> None:
        """Open the database, take up the jobs that a dead kernel left, and begin to work. Raises StoreError."""
        opening = asyncio.ensure_future(self._open())
        try:
            await asyncio.shield(opening)
        except BaseException:  # a database that is half open would be locked to everybody, us included
            await asyncio.wait([opening])
            await self.close()
            raise

    async def _open(self) -> None:
        await self._store.open()
        await self._roster.open(self.config.default_model)
        await self._producer.recover(self.config.max_attempts)
        self._consumer.start()

    async def close(self) -> None:
        """Let what runs finish within `shutdown_timeout`, then write and close everything. May be called twice.

        Who still waits for an answer gets a PianoError.
        """
        await whole(self._close())

    async def _close(self) -> None:
        await self._consumer.stop(self.config.shutdown_timeout)
        for end in self._ends.values():
            end.set_exception(PianoError("the chat was closed before the answer came; the next one goes on with it"))
            end.exception()  # nobody may wait for it
        self._ends.clear()
        self.bus.publish(Closed())
        self.bus.close()
        if self._client is not None:
            await self._client.aclose()
        await self._store.close()
        self._finder.stop()

    def close_now(self, timeout: float = 2.0) -> None:
        """Close the database and end the embedded model from any thread, without the loop: for the process's exit."""
        self._store.close_now(timeout)
        self._finder.stop()

    # -- asking ------------------------------------------------------------------------------------

    async def ask(self, text: str, *, agent: str | None = None, thread: Thread | str | None = None) -> Message:
        """Send a message and return the answer. Raises PianoError with the reason where there is none.

        Without `thread` it goes on in the current one. A cancelled `ask` cancels its job.
        """
        sending = asyncio.ensure_future(self.send(text, agent=agent, thread=thread))
        try:
            return await self.wait(await asyncio.shield(sending))
        except asyncio.CancelledError:
            await whole(self._cancel_sent(sending))
            raise

    async def _cancel_sent(self, sending: "asyncio.Future[Job]") -> None:
        with contextlib.suppress(PianoError):
            await self.cancel(await sending)

    async def send(
        self, text: str, *, agent: str | None = None, thread: Thread | str | None = None, source: Source = "api"
    ) -> Job:
        """Keep a message and queue the job that answers it; return at once."""
        if not text.strip():
            raise PianoError("there is nothing to ask: the message is empty")
        chosen = self._roster.named(agent) if agent is not None else None
        if thread is not None:
            self.thread = await self.find_thread(thread) if isinstance(thread, str) else thread
        into = self.thread or await self.open_thread(_title(text))
        chosen = chosen or addressed(text, self._roster.all(), into)
        async with self._conversations.adding(into.id):
            told = await self.messages(into)
            message = Message(
                id=self._clock.new_id(),
                thread_id=into.id,
                role="user",
                content=text,
                inserted_at=self._clock.now(),
                parent_id=told[-1].id if told else None,
                source=source,
            )
            job = Job(
                id=self._clock.new_id(),
                thread_id=into.id,
                message_id=message.id,
                agent_id=chosen.id,
                model=chosen.model,
                inserted_at=self._clock.now(),
            )
            _, [job] = await self._producer.enqueue(message, [job])
        return job

    async def wait(self, job: Job) -> Message:
        """Return a job's answer when it is there. Raises what it failed with; PianoError if it was cancelled."""
        if job.id in self._ends:
            event = await asyncio.shield(self._ends[job.id])
            if isinstance(event, JobDone):
                return event.message
            if isinstance(event, JobFailed):
                raise event.error or PianoError(event.reason)
        job = await self.find_job(job)
        if job.status is not JobStatus.DONE:
            raise PianoError(job.reason or f"job {short(job.id)} was {job.status}")
        return [message for message in await self._store.messages(job.thread_id) if message.job_id == job.id][-1]

    def events(self, thread: Thread | None = None) -> EventStream:
        """Return what happens from now on, as an async iterator."""
        return self.bus.stream(thread=thread.id if thread else None)

    async def drain(self) -> None:
        """Return when nothing runs and nothing waits."""
        await self._consumer.drain()

    # -- jobs and approvals ------------------------------------------------------------------------

    async def jobs(self, *statuses: JobStatus, thread: Thread | None = None) -> list[Job]:
        """Return jobs, oldest first."""
        return await self._store.jobs(*statuses, thread_id=thread.id if thread else None)

    async def find_job(self, job: Job | UUID | str) -> Job:
        """Return a job as it now stands, by itself, its id or the end of its id. Raises NotFoundError."""
        known = await self._store.jobs(thread_id=job.thread_id if isinstance(job, Job) else None)
        wanted = (
            job.id.hex if isinstance(job, Job) else job.hex if isinstance(job, UUID) else job.replace("-", "").lower()
        )
        found = [each for each in known if wanted and each.id.hex.endswith(wanted)]
        if not found:
            raise NotFoundError.among("job", wanted, [short(each.id) for each in reversed(known)])
        return found[-1]

    async def cancel(self, job: Job | UUID | str) -> Job:
        """End a job, wherever it is; one that has ended is left as it is."""
        return await whole(self._cancel(job))

    async def _cancel(self, job: Job | UUID | str) -> Job:
        return await self._consumer.cancel(await self.find_job(job))

    async def retry(self, job: Job | UUID | str) -> Job:
        """Queue a job again that failed or was cancelled."""
        return await self._producer.retry(await self.find_job(job))

    async def approve(self, call: ToolCall | UUID) -> None:
        """Let a tool call run that waits for a yes."""
        self._approvals.decide(call, allowed=True)

    async def deny(self, call: ToolCall | UUID) -> None:
        """Do not let a tool call run; the model is told."""
        self._approvals.decide(call, allowed=False)

    async def approvals(self) -> list[ApprovalRequested]:
        """Return the tool calls that wait for a yes or no, oldest first."""
        return self._approvals.waiting()

    # -- threads and messages ----------------------------------------------------------------------

    async def open_thread(self, title: str, agent: str | None = None) -> Thread:
        """Create a thread and make it the current one; `agent` answers there when nobody is addressed."""
        primary = await self.agent(agent) if agent is not None else None
        thread = Thread(
            id=self._clock.new_id(),
            title=_title(title),
            inserted_at=self._clock.now(),
            primary_agent_id=primary.id if primary else None,
        )
        self.thread = await self._store.add_thread(thread)
        self.bus.publish(ThreadOpened(thread_id=thread.id, thread=self.thread))
        return self.thread

    async def threads(self, status: ThreadStatus | None = None) -> list[Thread]:
        """Return threads, newest first."""
        return await self._store.threads(status)

    async def find_thread(self, name: str | UUID) -> Thread:
        """Return a thread by its title, its id or the end of its id; of two with one title, the newest."""
        threads = await self._store.threads()
        wanted = name.hex if isinstance(name, UUID) else name.strip()
        digits = wanted.replace("-", "").lower()
        for each in threads:
            if each.title.casefold() == wanted.casefold() or (len(digits) >= 4 and each.id.hex.endswith(digits)):
                return each
        known = NotFoundError.among("thread", wanted, [each.title for each in threads])
        raise NotFoundError(f"{known}; open one with %piano thread --new {wanted} (open_thread in Python)")

    async def rename_thread(self, thread: Thread, title: str) -> Thread:
        """Give a thread another title."""
        return await self._change_thread(thread, title=_title(title))

    async def archive_thread(self, thread: Thread) -> Thread:
        """Put a thread away: it is listed as archived, and no longer the current one."""
        return await self._change_thread(thread, status="archived")

    async def messages(self, thread: Thread, last: int | None = None) -> list[Message]:
        """Return a thread's messages (only the `last` so many) in reading order: each answer after its question."""
        told = (await self._conversations.get(thread.id)).told()
        return told if last is None else told[-last:] if last else []

    async def message(self, message_id: UUID) -> Message:
        """Return one message. Raises NotFoundError."""
        return await self._store.message(message_id)

    async def tool_calls(self, thread: Thread) -> list[ToolCall]:
        """Return a thread's tool calls, in order."""
        return (await self._conversations.get(thread.id)).tool_calls()

    # -- agents, tools, skills ---------------------------------------------------------------------

    async def agents(self) -> list[Agent]:
        """Return the agents, oldest first."""
        return self._roster.all()

    async def agent(self, name: str) -> Agent:
        """Return one agent. Raises NotFoundError."""
        return self._roster.named(name)

    async def add_agent(self, name: str, *, model: str | None = None, **fields: Any) -> Agent:
        """Create an agent; `fields` are those of `Agent`. Raises PianoError for a name that is taken or no handle."""
        return await self._roster.add(name, model or self.config.default_model, **fields)

    async def update_agent(self, name: str, **fields: Any) -> Agent:
        """Change an agent; `fields` are those of `Agent`. Its next turn sees the change."""
        return await self._roster.update(name, **fields)

    def add_tool(self, thing: Tool | Callable[..., Any]) -> Tool | None:
        """Add a tool, or a function as one; return the tool that had its name before, if any."""
        return self._tools.add(as_tool(thing))

    async def tools(self) -> list[Tool]:
        """Return the tools that there are, by name."""
        return self._tools.list_available()

    async def skills(self) -> list[Skill]:
        """Return the skills that there are, by name."""
        return await asyncio.to_thread(self._skills.list_available)

    async def skill_problems(self) -> list[str]:
        """Return what is wrong with skill files, a sentence each."""
        return await asyncio.to_thread(self._skills.diagnostics)

    # -- looking -----------------------------------------------------------------------------------

    async def sql(self, query: str) -> Rows:
        """Run one SELECT over everything that is kept. Raises StoreError."""
        return await self._store.sql(query)

    async def status(self) -> Status:
        """Return how things stand."""
        config, endpoint = self.config, self._finder.endpoint
        return Status(
            database=IN_MEMORY if self._cassette else config.database,
            server=endpoint.note or endpoint.url if endpoint else f"{config.base_url} (not asked yet)",
            workspace=config.workspace,
            thread=self.thread,
            agents=len(await self.agents()),
            threads=len(await self.threads()),
            queued=len(await self.jobs(JobStatus.QUEUED)),
            running=len(await self.jobs(JobStatus.RUNNING)),
            approvals=len(self._approvals.waiting()),
            cassette=_about(self._cassette),
        )

    # -- within ------------------------------------------------------------------------------------

    async def _turn(self, job: Job) -> AsyncGenerator[Event, None]:
        """Read what a job's turn needs to know, then run it."""
        conversation = await self._conversations.get(job.thread_id)
        agent = self._roster.by_id(job.agent_id)
        skills = agent.enabled_skills
        turn = Turn(
            job=job,
            agent=agent,
            history=conversation.told(job.message_id),
            calls=conversation.tool_calls(),
            names={each.id: each.name for each in self._roster.all()},
            skills=await asyncio.to_thread(self._skills.get_prompts, skills) if skills else "",
            tools=self._tools.get_tools(agent.enabled_tools),
            max_iterations=self.config.max_iterations,
            tool_timeout=self.config.tool_timeout,
            tool_output_limit=self.config.tool_output_limit,
        )

        async def approve(call: ToolCall) -> bool:
            question = f"{agent.name} wants to run {call.name}"
            request = ApprovalRequested(thread_id=job.thread_id, job_id=job.id, call=call, question=question)
            return await self._approvals.ask(request, self.config.approval_timeout)

        async with contextlib.aclosing(run_turn(turn, self._model, approve, self._clock)) as events:
            async for event in events:
                yield event

    def _note_job(self, event: Event) -> None:
        """Tell who waits for a job how it ended."""
        if isinstance(event, JobQueued):
            self._ends[event.job.id] = asyncio.get_running_loop().create_future()
        elif isinstance(event, JobDone | JobFailed | JobCancelled) and event.job.id in self._ends:
            self._ends.pop(event.job.id).set_result(event)

    def _check_agent(self, fields: Mapping[str, Any]) -> None:
        self._tools.get_tools(fields.get("enabled_tools", ()))
        self._skills.get_prompts(fields.get("enabled_skills", ()))

    async def _change_thread(self, thread: Thread, **fields: Any) -> Thread:
        thread = await self._store.update_thread(replace(thread, **fields))
        if self.thread is not None and self.thread.id == thread.id:
            self.thread = thread if thread.status == "active" else None
        return thread

    def _workspace(self) -> Path:
        return Path(self.config.workspace)

    def _tell_loading(self, note: str, fraction: float | None) -> None:
        self.bus.publish(ModelLoading(note=note, fraction=fraction))


def _title(text: str) -> str:
    first = text.strip().splitlines()[0].strip() if text.strip() else "Untitled"
    return first if len(first) <= TITLE_LENGTH else first[: TITLE_LENGTH - 1].rstrip() + "…"


def _about(cassette: Cassette | None) -> str | None:
    return f"{'recording to' if cassette.recording else 'replaying'} {cassette.path}" if cassette else None
