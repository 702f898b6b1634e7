"""THE SERVICE. Piano: everything that a front end can ask for, each as one verb.

It owns what works below it: the store, the bus, the consumer, the client of the model and the embedded model.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar, overload
from uuid import UUID

from piano_jupyter.agent_code import in_agent_code
from piano_jupyter.attachments.attachment import Attachment
from piano_jupyter.batch.batches import Question
from piano_jupyter.batch_records import Batch, BatchPlan
from piano_jupyter.bus import EventBus, EventStream
from piano_jupyter.cancellation import finish_even_if_cancelled
from piano_jupyter.config import PianoConfig, configured
from piano_jupyter.errors import ImagesRefusedError, ModelError, NotFoundError, PianoError, ToolError
from piano_jupyter.events import ApprovalRequested, Closed, Event
from piano_jupyter.fork_guard import ForkGuard, checks_for_forks
from piano_jupyter.logs import LOGS, in_notebook, keep_out_of_cells
from piano_jupyter.mcp_server import McpServer
from piano_jupyter.pipeline.attached_content import given_attachments, with_content
from piano_jupyter.pipeline.mentions import answering_agents, check_leading_mentions, leading_mentions
from piano_jupyter.pipeline.message_tree import ACTIVE
from piano_jupyter.records import (
    EMBEDDED,
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
    ModelStatus,
    Notebook,
    Rows,
    Source,
    Thread,
    ThreadStatus,
    ThreadUse,
    ToolCall,
    short,
)
from piano_jupyter.rules import parse_rule
from piano_jupyter.runner.model.cassette import Cassette
from piano_jupyter.runner.model.protocol import ChatModel, ChatRequest
from piano_jupyter.runner.model.server.model_list import ASK_ANOTHER, GIVE_AGENT_ANOTHER, not_served_error
from piano_jupyter.runner.schema.response_format import ResponseFormat, response_format_of
from piano_jupyter.runner.skills.skill import Skill
from piano_jupyter.runner.tools.files.file_tools import file_layer
from piano_jupyter.runner.turn.prompt import system_text
from piano_jupyter.safe_files import copy_file
from piano_jupyter.store.base import UsageBy
from piano_jupyter.store.duckdb.backup_files import backups
from piano_jupyter.store.duckdb.backups import prepare_restore, put_in_place
from piano_jupyter.store.duckdb.frame_queries import select
from piano_jupyter.text.placeholders import has_placeholders
from piano_jupyter.text.short_paths import short_paths
from piano_jupyter.tool import Tool, Verdict, as_tool
from piano_jupyter.variables.fill_in import FilledText, fill_in
from piano_jupyter.variables.frame_text import CHARS_PER_TOKEN
from piano_jupyter.variables.variable_access import type_name
from piano_jupyter.wiring import Components

if TYPE_CHECKING:
    from piano_jupyter.export import ExportFormat

T = TypeVar("T")
Variables = Mapping[str, Any] | None  # that a question can name
Attached = TypeVar("Attached", Message, ToolCall)

WINDOW_PART = 3  # of a model's context window is the most that a data frame in a question takes
MODEL_LIST_TIMEOUT_S = 2.0  # in `status`
MODEL_NAMES_TIMEOUT_S = 0.25  # in completions
MODEL_NAMES_MAX_AGE_S = 30.0
CHECK_QUESTION = [{"role": "user", "content": "Say OK."}]
CHECK_TOKENS = 16
THREAD_USE = """
SELECT m.thread_id, m.count, m.last, j.notebook_id, j.notebook_name
FROM (
    SELECT thread_id, count(*) AS count, max(inserted_at) AS last
    FROM messages WHERE role IN ('user', 'assistant') GROUP BY thread_id
) m
LEFT JOIN (
    SELECT thread_id, arg_max(notebook_id, seq) AS notebook_id, arg_max(notebook_name, seq) AS notebook_name
    FROM jobs GROUP BY thread_id
) j ON j.thread_id = m.thread_id
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Status:
    """How things stand, as `Piano.status` returns it.

    Attributes:
        database: The path of the database, or ":memory:".
        others: The notebooks, scripts and terminals that share the database now, without this one.
        server: The address of the server, with a note if it does not answer.
        models: The models of the server; empty if it does not answer.
        answering_model: The model that answers when `agent` is asked, as `Piano.answering_model` tells it.
        workspace: The path of the workspace.
        thread: The current thread, if there is one.
        agent: Who answers a message that mentions nobody.
        agents: How many agents there are.
        threads: How many threads there are.
        queued: How many jobs wait in the queue.
        running: How many jobs run.
        approvals: How many tool calls wait for approval.
        unfinished: The jobs that an earlier kernel left, each with what it waits for.
        distrust: Why the database is not trusted; "" if it is.
        warnings: What may go wrong with the database, a sentence each: a network disk, a backup that fails.
        mcp_servers: The MCP servers as they are now; none is started.
        mode: What tools may do: "read", "write" or "full".
        rules: The rules that are set, with a note at those about no tool.
        layers: What protects the machine from tools, a sentence each.
        stopped: Whether no jobs are taken until `Piano.start`.
        cassette: What is recorded or replayed, if anything is.
    """

    database: str
    others: list[str]
    server: str
    models: list[Model]
    answering_model: str
    workspace: str
    thread: Thread | None
    agent: Agent | None
    agents: int
    threads: int
    queued: int
    running: int
    approvals: int
    unfinished: list[tuple[Job, str]]
    distrust: str
    warnings: list[str]
    mcp_servers: list[McpServer]
    mode: Mode
    rules: list[str]
    layers: list[str]
    stopped: bool
    cassette: str | None


@checks_for_forks("close", "close_now")
class Piano:
    """Agents on your own models, with threads, tools and a queue, all stored in one DuckDB file.

    Use it with `async with`, or call `open` and `close`. Every verb but the few that answer at once is a coroutine, and
    runs on the event loop that opened it. In a notebook `piano` is the kernel's own Piano, so use another name for one
    that you open yourself.

    Args:
        config: Settings to start from. By default those of the environment and of `PianoConfig`.
        tools: Functions, or tools, that agents can be given by name.
        record: A cassette file that records the exchanges with the model. The database is in memory then.
        replay: A cassette file with the answers, so that no model is asked. The database is in memory then.
        model: What answers in place of a server, such as a `piano_jupyter.testing.ScriptedModel`.
        resumes: Whether sending a message also resumes the jobs that an earlier kernel left. If not, only `resume`
            does.
        notebook: The notebook whose kernel this is; by default a script or terminal.
        **settings: Settings of `PianoConfig` by name, such as `database=":memory:"` or `base_url="http://gpu:8080/v1"`.

    Raises:
        PianoError: There is no setting of this name, or its value is wrong.
        ToolError: A function in `tools` cannot be a tool.

    Example:
        >>> async with Piano(database=":memory:") as piano:
        ...     answer = await piano.ask("What is the capital of France?")
        >>> answer.content
        'Paris.'

    The examples of the verbs begin like this one, with `piano` still open and `answer` at hand.
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
        notebook: Notebook | None = None,
        **settings: object,
    ) -> None:
        self.fork_guard = ForkGuard()
        self.notebook = notebook or Notebook()  #: whose kernel this is
        self._resumes = resumes
        self.config = configured(config, **settings)
        self.bus = EventBus()
        self._identity: DatabaseIdentity | None = None
        self._names_asked = ("", 0.0)  # which server was asked for its models' names, and when
        self._announced: set[str] = set()  #: the notices that were returned
        self._tools = {each.name: each for each in map(as_tool, tools)}
        self._wire = partial(Components, self.config, record=record, replay=replay, model=model, notebook=self.notebook)
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
        """Open the database and start to answer questions; `async with` does this.

        Nothing runs because a database was opened: jobs that an earlier kernel left wait for `resume`.

        Raises:
            StoreLockedError: Another process has the database open.
            StoreError: The database cannot be opened: it is damaged, from a newer version, or its folder is closed to
                you.

        Example:
            >>> other = Piano(database=":memory:")
            >>> await other.open()
            >>> await other.close()
        """
        try:
            await finish_even_if_cancelled(self._open())
        except BaseException:  # a half-open database would stay locked, for us too
            await self.close()
            raise

    async def _open(self) -> None:
        self._announced.clear()
        LOGS.masks.append(self._parts.mask)
        if in_notebook():
            keep_out_of_cells()
        await self._parts.store.open()
        self._identity = identity = await self._parts.store.identity()
        await asyncio.to_thread(self._parts.trust.open, identity)
        await self._parts.agents.open(self.config.default_model)
        await self._parts.producer.recover(self.config.max_attempts)
        await self._parts.approvals.refresh()
        await self._parts.threads.restore_current()
        self._parts.consumer.start()
        if not self._parts.trust.in_memory:
            self._parts.backups.start()

    async def close(self) -> None:
        """Finish what runs, then write and close everything; `async with` does this. May be called twice.

        Running jobs get `shutdown_timeout` seconds to finish. Those that do not are queued for the next Piano that
        opens the database, and whoever still waits for an answer gets a `PianoError`. In a forked process it does
        nothing.

        Raises:
            StoreError: The database could not be written.

        Example:
            >>> await piano.close()
        """
        if self.fork_guard.forked:
            return
        await finish_even_if_cancelled(self._close())

    async def _close(self, *, end: bool = False) -> None:
        await self._parts.backups.stop()
        await self._parts.refresher.stop()
        await self._parts.batches.close()
        await self._parts.consumer.stop(self.config.shutdown_timeout)
        self._parts.job_results.close()
        self.bus.publish(Closed())
        self.bus.close()
        await self._parts.producer.stop()
        await self._parts.swap.aclose()
        if self._parts.client is not None:
            await self._parts.client.aclose()
        await self._parts.bash.aclose()
        await self._parts.mcp.aclose()
        self._parts.relay.close()
        await self._parts.workspace_store.close(end=end)
        self._identity = None
        self._parts.finder.stop()
        if self._parts.mask in LOGS.masks:  # last: closing logs, too
            LOGS.masks.remove(self._parts.mask)

    def close_now(self, timeout: float = 2.0) -> None:
        """Close the database and end shells and the embedded model from any thread, without the event loop.

        It is for the exit of the process, when the loop no longer runs. Prefer `close`. In a forked process it
        does nothing.

        Args:
            timeout: How long to wait for the database, in seconds.

        Example:
            >>> piano.close_now()
        """
        if self.fork_guard.forked:
            return
        self._parts.bash.stop()
        self._parts.mcp.stop_now()
        self._parts.store.close_now(timeout)
        self._parts.finder.stop()

    # -- asking ------------------------------------------------------------------------------------

    @overload
    async def ask(
        self,
        text: str,
        *,
        agent: str | None = None,
        thread: Thread | str | None = None,
        model: str | None = None,
        schema: None = None,
        variables: Variables = None,
        attachments: Sequence[Any] = (),
    ) -> Message: ...
    @overload
    async def ask(
        self,
        text: str,
        *,
        agent: str | None = None,
        thread: Thread | str | None = None,
        model: str | None = None,
        schema: type[T],
        variables: Variables = None,
        attachments: Sequence[Any] = (),
    ) -> T: ...
    @overload
    async def ask(
        self,
        text: str,
        *,
        agent: str | None = None,
        thread: Thread | str | None = None,
        model: str | None = None,
        schema: Any,
        variables: Variables = None,
        attachments: Sequence[Any] = (),
    ) -> Any: ...
    async def ask(
        self,
        text: str,
        *,
        agent: str | None = None,
        thread: Thread | str | None = None,
        model: str | None = None,
        schema: Any = None,
        variables: Variables = None,
        attachments: Sequence[Any] = (),
    ) -> Any:
        """Send a message and return the answer.

        The message continues the current thread, and opens one if there is none. An `ask` that is cancelled cancels its
        job.

        Args:
            text: What to ask. It may begin with the mention of an agent: `@ada How many rows are there?`
            agent: The name of the agent that answers; by default the one that is mentioned, else the thread's own, else
                the oldest.
            thread: The thread to continue, or its title; it becomes the current one.
            model: The model that answers this question, in place of the agent's own.
            schema: What the answer is to be instead of text: a type (a dataclass, a TypedDict, a pydantic model,
                `list[str]`, ...), or a JSON Schema (a dict, its text, or the path of a file).
            variables: Values by name, for the `{{name}}` in the text; only these can be named. Without them the text is
                sent as it is.
            attachments: Images and text files to send along: the path of a file, the bytes of an image, an image of
                Pillow or a figure each.

        Returns:
            The answer as a `Message`. With `schema` a checked value of that type, or of JSON's own types.

        Raises:
            PianoError: There is no answer. Its class says why; the sentence also says what to do.
            ModelError: The server does not answer, does not have the model, refuses the request, or is too slow.
            NotFoundError: There is no such agent, thread or tool.
            TurnLimitError: The agent asked the model, or called tools, more often than the settings allow.

        Example:
            >>> answer = await piano.ask("What is the capital of France?")
            >>> answer.content
            'Paris.'
            >>> await piano.ask("Name three rivers.", schema=list[str])
            ['Rhine', 'Elbe', 'Oder']
        """
        form = await _form(schema, Path(self.config.workspace))
        answers = await self._asked(self._send_one(text, agent, thread, model, "api", form, variables, attachments))
        return form.value(answers[0].content) if form else answers[0]

    @overload
    async def ask_all(
        self,
        text: str,
        *,
        agents: Sequence[str] = (),
        thread: Thread | str | None = None,
        model: str | None = None,
        schema: None = None,
        variables: Variables = None,
        attachments: Sequence[Any] = (),
    ) -> list[Message]: ...
    @overload
    async def ask_all(
        self,
        text: str,
        *,
        agents: Sequence[str] = (),
        thread: Thread | str | None = None,
        model: str | None = None,
        schema: type[T],
        variables: Variables = None,
        attachments: Sequence[Any] = (),
    ) -> list[T]: ...
    @overload
    async def ask_all(
        self,
        text: str,
        *,
        agents: Sequence[str] = (),
        thread: Thread | str | None = None,
        model: str | None = None,
        schema: Any,
        variables: Variables = None,
        attachments: Sequence[Any] = (),
    ) -> list[Any]: ...
    async def ask_all(
        self,
        text: str,
        *,
        agents: Sequence[str] = (),
        thread: Thread | str | None = None,
        model: str | None = None,
        schema: Any = None,
        variables: Variables = None,
        attachments: Sequence[Any] = (),
    ) -> list[Any]:
        """Send a message to several agents and return all their answers.

        Args:
            text: What to ask. Without `agents`, those answer that it mentions at its beginning: `@ada @bob Do you
                agree?`
            agents: The names of the agents that answer.
            thread: The thread to continue, or its title; it becomes the current one.
            model: The model that answers this question, in place of the agent's own.
            schema: What each answer is to be instead of text, as in `ask`.
            variables: Values for the `{{name}}` in the text, as in `ask`.
            attachments: Images and text files to send along, as in `ask`.

        Returns:
            The answers, or with `schema` the values, in the order in which the agents were asked.

        Raises:
            PianoError: An agent has no answer, as in `ask`. The others are finished first, and stored.

        Example:
            >>> ada = await piano.add_agent("ada")
            >>> answers = await piano.ask_all("What is the capital of France?", agents=["Assistant", "ada"])
            >>> [answer.content for answer in answers]
            ['Paris.', 'Paris.']
        """
        form = await _form(schema, Path(self.config.workspace))
        sends = self.send_all(
            text, agents=agents, thread=thread, model=model, schema=form, variables=variables, attachments=attachments
        )
        answers = await self._asked(sends)
        return [form.value(each.content) for each in answers] if form else answers

    async def _asked(self, sends: Coroutine[Any, Any, list[Job]]) -> list[Message]:
        sending = asyncio.ensure_future(sends)
        try:
            jobs = await asyncio.shield(sending)
            waits = [asyncio.ensure_future(self.wait(job)) for job in jobs]
            await asyncio.gather(*waits, return_exceptions=True)  # a job that fails stops no other
        except asyncio.CancelledError:
            await finish_even_if_cancelled(self._cancel_sent(sending))
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
        model: str | None = None,
        schema: Any = None,
        variables: Variables = None,
        attachments: Sequence[Any] = (),
        source: Source = "api",
    ) -> Job:
        """Send a message to one agent and return at once; `wait` has the answer.

        Args:
            text: What to ask, as in `ask`.
            agent: The name of the agent that answers, as in `ask`.
            thread: The thread to continue, or its title; it becomes the current one.
            model: The model that answers this question, in place of the agent's own.
            schema: What the answer is to be, as in `ask`. The answer is JSON that fits; `value` returns it as a value.
            variables: Values for the `{{name}}` in the text, as in `ask`.
            attachments: Images and text files to send along, as in `ask`.
            source: Where the message comes from, for the record.

        Returns:
            The job that answers the message, queued.

        Raises:
            PianoError: The text is empty, mentions several agents, or the schema makes no sense.
            NotFoundError: There is no such agent or thread.

        Example:
            >>> job = await piano.send("What is the capital of France?")
            >>> (await piano.wait(job)).content
            'Paris.'
        """
        return (await self._send_one(text, agent, thread, model, source, schema, variables, attachments))[0]

    async def _send_one(
        self,
        text: str,
        agent: str | None,
        thread: Thread | str | None,
        model: str | None,
        source: Source,
        schema: Any,
        variables: Variables,
        attachments: Sequence[Any],
    ) -> list[Job]:
        names = [agent] if agent is not None else []
        question = await self._filled(text, variables, names, thread, model)
        return await self._send(question, names, thread, model, source, schema, attachments, alone=True)

    async def send_all(
        self,
        text: str | FilledText,
        *,
        agents: Sequence[str] = (),
        thread: Thread | str | None = None,
        model: str | None = None,
        schema: Any = None,
        variables: Variables = None,
        attachments: Sequence[Any] = (),
        source: Source = "api",
    ) -> list[Job]:
        """Send a message to several agents and return at once; `wait` has the answers.

        Args:
            text: What to ask, as in `ask_all`.
            agents: The names of the agents that answer; by default those that the text mentions at its beginning.
            thread: The thread to continue, or its title; it becomes the current one.
            model: The model that answers this question, in place of the agent's own.
            schema: What each answer is to be, as in `send`.
            variables: Values for the `{{name}}` in the text, as in `ask`.
            attachments: Images and text files to send along, as in `ask`.
            source: Where the message comes from, for the record.

        Returns:
            A job for each agent, in the order in which they were asked.

        Raises:
            PianoError: The text is empty, or the schema makes no sense.
            NotFoundError: There is no such agent or thread.

        Example:
            >>> ada = await piano.add_agent("ada")
            >>> jobs = await piano.send_all("@Assistant @ada What is the capital of France?")
            >>> [(await piano.wait(job)).content for job in jobs]
            ['Paris.', 'Paris.']
        """
        question = await self._filled(text, variables, agents, thread, model)
        return await self._send(question, agents, thread, model, source, schema, attachments, alone=False)

    async def _filled(
        self,
        text: str | FilledText,
        variables: Variables,
        agents: Sequence[str],
        thread: Thread | str | None,
        model: str | None = None,
    ) -> FilledText:
        """Return a question with the given variables in it; without any, its text stays as it is."""
        if isinstance(text, FilledText):
            return text
        if variables is None:
            return FilledText(text, text)
        if not has_placeholders(text):
            return fill_in(text, {})
        budget = CHARS_PER_TOKEN * await self.frame_budget(text, agents=agents, thread=thread, model=model)
        return await asyncio.to_thread(fill_in, text, variables, frame_chars=budget)

    async def _send(
        self,
        text: FilledText,
        names: Sequence[str],
        thread: Thread | str | None,
        model: str | None,
        source: Source,
        schema: Any,
        attachments: Sequence[Any],
        *,
        alone: bool,
    ) -> list[Job]:
        _check_text(text.sent)
        if model is not None and not model.strip():
            raise PianoError("the name of the model is empty; %piano models lists those of the server")
        form = await _form(schema, Path(self.config.workspace))
        for name in names:
            self._parts.agents.by_name(name)  # a wrong name must not open a thread
        attached = await self._attached(text, attachments)
        await self._warn_of_unknown_model(model, ASK_ANOTHER)
        into, sender = await self._parts.threads.select(thread), self._parts.question_sender

        def answering(thread: Thread | None) -> list[Agent]:
            agents = sender.answering_agents(text.typed, names, thread)
            return [replace(each, model=model) for each in agents] if model else agents

        if any(each.is_image for each in attached):
            await self._check_that_images_are_seen(answering(into))
        into = into or await self._parts.threads.open(text.shown)
        agents = answering(into)
        if alone and len(agents) > 1:
            names_asked = ", ".join(each.name for each in agents)
            raise PianoError(f"the message mentions {names_asked}; use ask_all or send_all to ask several agents")
        into = await self._parts.threads.named_after(into, text.shown)
        return await sender.ask(
            text, agents, into, source, await self._terms_of_sending(), form.schema if form else None, attached
        )

    async def _attached(
        self, text: FilledText, given: Sequence[Any], kept: Sequence[Attachment] = ()
    ) -> list[Attachment]:
        """Return what is to be sent along, without secrets: what is kept, what the text names, and what is given.

        Raises PianoError for what cannot be sent.
        """
        from piano_jupyter.attachments.given import MAX_ATTACHMENTS, given_attachment  # noqa: PLC0415  Rarely wanted.

        if isinstance(given, str | bytes):
            raise PianoError("attachments is a list: attachments=[...]")
        given = [*text.attachments, *given]
        if not given:
            return list(kept)
        workspace, is_agent = self.config.workspace, in_agent_code()
        attached = await asyncio.to_thread(
            lambda: [given_attachment(each, workspace=workspace, only_beneath=is_agent) for each in given]
        )
        attached = [*kept, *(each.masked(self._parts.mask) for each in attached)]
        if len(attached) > MAX_ATTACHMENTS:
            raise PianoError(f"{len(attached)} attachments are too many for one message: at most {MAX_ATTACHMENTS}")
        return attached

    async def _check_that_images_are_seen(self, agents: Sequence[Agent]) -> None:
        """Raise ImagesRefusedError if it is known that the model of one of the agents does not see images."""
        is_embedded = await self._parts.address() == EMBEDDED
        for agent in agents:
            if is_embedded or await self._parts.sees_images(agent.model) is False:
                model = "the embedded model" if is_embedded else agent.model
                raise ImagesRefusedError(
                    f"{agent.name} cannot be sent images, because {model} does not see them: ask an agent whose model "
                    f"does, or describe the image in words"
                )

    async def check_mentions(self, text: str) -> None:
        """Check that a question does not begin with the handle of nobody, as a typing mistake does.

        Args:
            text: The question.

        Raises:
            NotFoundError: There is no agent of a name that it begins with; the sentence lists similar names.

        Example:
            >>> await piano.check_mentions("@Assistant how are you?")
        """
        check_leading_mentions(text, self._parts.agents.all())

    async def images_refused(self, text: str = "", *, thread: Thread | None = None) -> str:
        """Return why images cannot be sent with a question, as far as that is known; "" if they can.

        Args:
            text: The question, as far as it is written: the agents that it begins with answer.
            thread: The thread that it continues; by default the current one.

        Returns:
            A sentence that names the agent whose model sees no images; "" for none.

        Example:
            >>> await piano.images_refused("@Assistant What is in this picture?")
            ''
        """
        try:
            await self._check_that_images_are_seen(
                answering_agents(text, self._parts.agents.all(), thread or self.thread)
            )
        except ImagesRefusedError as error:
            return str(error)
        return ""

    async def _terms_of_sending(self) -> JobTerms:
        """Return the terms that a question is sent under now, and resume what an earlier kernel left."""
        config, parts = self.config, self._parts
        terms = JobTerms(config.mode, tuple(config.rules), await parts.address(), parts.notebook)
        if self._resumes:
            self._parts.unfinished.resume()
        self._parts.producer.wake()
        return terms

    async def frame_budget(
        self,
        text: str,
        *,
        agents: Sequence[str] = (),
        thread: Thread | str | None = None,
        model: str | None = None,
    ) -> int:
        """Return how many tokens a data frame in a question may take.

        Args:
            text: The question.
            agents: The names of the agents that answer, as in `ask_all`.
            thread: The thread that it continues, or its title; by default the current one.
            model: The model that answers, in place of those of the agents.

        Returns:
            The setting `frame_tokens`, or a third of the smallest context window of the models that answer, if less.

        Raises:
            NotFoundError: There is no such agent or thread.

        Example:
            >>> await piano.frame_budget("What is wrong with {{sales}}?")
            1500
        """
        parts = self._parts
        into = await parts.threads.find(thread) if isinstance(thread, str) else thread or self.thread
        names = [parts.agents.by_name(name) for name in agents]
        models = {model or agent.model for agent in names or answering_agents(text, parts.agents.all(), into)}
        windows = [await parts.context(model) for model in sorted(models)]
        return min([self.config.frame_tokens, *(size // WINDOW_PART for size in windows if size is not None)])

    async def edit(
        self,
        message: Message | UUID | str,
        text: str | FilledText,
        *,
        variables: Variables = None,
        attachments: Sequence[Any] | None = None,
        source: Source = "api",
    ) -> list[Job]:
        """Edit a question and ask the same agents again.

        Nothing is lost: the thread continues from the edited question, and the first one stays as a branch.

        Args:
            message: The question, its id, or the last digits of its id.
            text: What to ask instead. If it begins with mentions, those agents are asked.
            variables: Values for the `{{name}}` in the text, as in `ask`.
            attachments: Images and text files to send along, as in `ask`; by default those that the question was given.
                Those that a `{{name}}` in the old text stood for go with that text.
            source: Where the message comes from, for the record.

        Returns:
            A job for each agent, queued; `wait` has the answers.

        Raises:
            PianoError: The text is empty, or the message is not a question of the user.
            NotFoundError: There is no such message.

        Example:
            >>> [question, _] = await piano.messages(piano.thread)
            >>> [job] = await piano.edit(question, "How many people live in Paris?")
            >>> (await piano.wait(job)).content
            'Two million.'
        """
        question, sender = await self.find_message(message), self._parts.question_sender
        thread, _ = await self._parts.threads.locate(question)
        filled = await self._filled(text, variables, (), thread)
        _check_text(filled.sent)
        kept = given_attachments(question) if attachments is None else ()
        agents = await sender.agents_of_edit(question, filled)
        attached = await self._attached(filled, attachments or (), kept)
        if any(each.is_image for each in attached):
            await self._check_that_images_are_seen(agents)
        return await sender.edit(question, filled, agents, source, await self._terms_of_sending(), attached)

    async def regenerate(self, message: Message | UUID | str) -> list[Job]:
        """Have a question answered again.

        The thread continues from the new answer, and the first one stays as a branch.

        Args:
            message: A question, which all agents that were asked answer again, or an answer, which its agent replaces;
                or the id of either, or the last digits of its id.

        Returns:
            A job for each agent; `wait` has the answers. An agent that is still answering is not asked twice.

        Raises:
            PianoError: The message answers no question of its thread.
            NotFoundError: There is no such message.

        Example:
            >>> [job] = await piano.regenerate(answer)
            >>> (await piano.wait(job)).content
            'Paris.'
        """
        return await self._parts.question_sender.regenerate(
            await self.find_message(message), await self._terms_of_sending()
        )

    @overload
    async def value(self, message: Message | UUID | str, schema: type[T]) -> T: ...
    @overload
    async def value(self, message: Message | UUID | str, schema: Any = None) -> Any: ...
    async def value(self, message: Message | UUID | str, schema: Any = None) -> Any:
        """Return the value that an answer is, when it was asked for with a schema or happens to be JSON.

        Args:
            message: The answer, its id, or the last digits of its id.
            schema: What the value is to be, as in `ask`; by default what the answer was asked to be.

        Returns:
            A value of the type, or of JSON's own types where the schema is a JSON Schema.

        Raises:
            PianoError: The answer does not fit, or it was asked for as text and no schema is given.
            NotFoundError: There is no such message.

        Example:
            >>> job = await piano.send("Name three rivers.", schema=list[str])
            >>> answer = await piano.wait(job)
            >>> answer.content
            '["Rhine", "Elbe", "Oder"]'
            >>> await piano.value(answer)
            ['Rhine', 'Elbe', 'Oder']
        """
        answer, form = await self.find_message(message), await _form(schema, Path(self.config.workspace))
        if form is None:
            job = await self._parts.store.job(answer.job_id) if answer.job_id else None
            if job is None or job.schema is None:
                raise PianoError(f"{short(answer.id)} was asked for without a schema; pass one to value")
            form = ResponseFormat(job.schema)
        return form.value(answer.content)

    async def wait(self, job: Job) -> Message:
        """Wait for the answer of a job.

        Args:
            job: The job, as `send` returns it.

        Returns:
            The answer. A job that has ended already is answered from the database.

        Raises:
            PianoError: The job failed, with the error that it failed with; it was cancelled; it is left from an earlier
                kernel and waits for you; or the Piano was closed.

        Example:
            >>> job = await piano.send("What is the capital of France?")
            >>> (await piano.wait(job)).content
            'Paris.'
        """
        await self._find_present_server()
        while True:
            if why := self._parts.unfinished.why_held(job):
                raise PianoError(f"job {short(job.id)} waits: {why}")
            if not (self._parts.producer.has(job) or self._parts.consumer.runs(job)):
                await self._expect(job)  # it has ended, or another notebook runs it
            if answer := await self._parts.job_results.answer(job):
                return answer
            job = await self._parts.store.job(job.id)
            if job.status not in ACTIVE:
                break
            if await self._is_left(job):
                raise PianoError(f"job {short(job.id)} waits: {self._why_gone(job)}")
        if job.status is not JobStatus.DONE:
            raise PianoError(job.reason or f"job {short(job.id)} was {job.status}")
        said = await self._parts.store.messages(job.thread_id)
        return [each for each in said if each.job_id == job.id and each.role == "assistant"][-1]

    async def _expect(self, job: Job) -> None:
        """Hear of the end of a job of another notebook; not of one that has ended, or whose notebook is gone."""
        results = self._parts.job_results
        results.expect(job)  # first: its end may come now
        now = await self._parts.store.job(job.id)
        if now.status not in ACTIVE or await self._is_left(now):
            results.give_up(job)

    async def _is_left(self, job: Job) -> bool:
        """Return whether a job waits whose notebook is gone."""
        return job.id in {each.id for each in await self._parts.producer.left()}

    def events(self, thread: Thread | None = None) -> EventStream:
        """Follow what happens from now on.

        Args:
            thread: Only the events of this thread, and those of none.

        Returns:
            The events of `piano_jupyter.events`, for `async for`, until the Piano is closed. `aclose` ends it earlier.

        Example:
            >>> events = piano.events()
            >>> job = await piano.send("What is the capital of France?")
            >>> async for event in events:
            ...     if event.job_id == job.id and type(event).__name__ == "JobDone":
            ...         break
            >>> event.message.content
            'Paris.'
        """
        return self.bus.stream(thread=thread.id if thread else None)

    def recent_events(self, last: int = 50) -> list[tuple[datetime, Event]]:
        """Return the latest events, without the pieces of answers.

        Args:
            last: How many events at most; the last 1000 are remembered.

        Returns:
            The events, oldest first, each with its time in UTC.

        Example:
            >>> [(time, event)] = piano.recent_events(1)
            >>> type(event).__name__
            'JobDone'
        """
        return self._parts.job_results.recent(last)

    async def drain(self) -> None:
        """Wait until the queue is empty: nothing runs, and nothing waits that could run.

        Jobs that wait for something else (for you to resume them, for a tool that is not defined) are not waited for.

        Example:
            >>> job = await piano.send("What is the capital of France?")
            >>> await piano.drain()
            >>> (await piano.find_job(job)).status
            <JobStatus.DONE: 'done'>
        """
        await self._parts.consumer.drain()

    async def stop(self) -> None:
        """Take no more jobs until `start`: what runs is finished, what is sent waits.

        Example:
            >>> await piano.stop()
            >>> job = await piano.send("What is the capital of France?")
            >>> (await piano.status()).queued
            1
        """
        self._parts.consumer.pause()

    async def start(self) -> None:
        """Take jobs again after `stop`.

        Example:
            >>> await piano.stop()
            >>> job = await piano.send("What is the capital of France?")
            >>> await piano.start()
            >>> (await piano.wait(job)).content
            'Paris.'
        """
        self._parts.consumer.resume()

    @property
    def stopped(self) -> bool:
        """Whether no jobs are taken until `start`."""
        return self._parts.consumer.paused

    # -- jobs and approvals ------------------------------------------------------------------------

    async def jobs(self, *statuses: JobStatus, thread: Thread | None = None, last: int | None = None) -> list[Job]:
        """Return jobs, oldest first.

        Args:
            *statuses: Only jobs that have one of these statuses.
            thread: Only jobs of this thread.
            last: Only the newest so many.

        Returns:
            The jobs as they stand now.

        Raises:
            StoreError: The database cannot be read.

        Example:
            >>> [job.status for job in await piano.jobs(JobStatus.DONE, last=1)]
            [<JobStatus.DONE: 'done'>]
        """
        return await self._parts.store.jobs(*statuses, thread_id=thread.id if thread else None, last=last)

    async def find_job(self, job: Job | UUID | str) -> Job:
        """Return a job as it stands now.

        Args:
            job: The job, its id, or the last digits of its id, as `%piano queue` shows them.

        Returns:
            The job.

        Raises:
            NotFoundError: There is no such job.

        Example:
            >>> [job] = await piano.jobs()
            >>> await piano.find_job(job.id.hex[-6:]) == job
            True
        """
        if not isinstance(job, str):
            return await self._parts.store.job(job.id if isinstance(job, Job) else job)
        found = await self._parts.store.jobs_ending(job.replace("-", "").strip().lower())
        if not found:
            newest = await self._parts.store.jobs(last=20)
            raise NotFoundError.among("job", job, [short(each.id) for each in reversed(newest)])
        return found[-1]

    async def cancel(self, job: Job | UUID | str) -> Job:
        """Cancel a job, whether it is queued or running.

        Args:
            job: The job, its id, or the last digits of its id.

        Returns:
            The job as it stands after that. One that has ended is left as it is.

        Raises:
            NotFoundError: There is no such job.

        Example:
            >>> await piano.stop()
            >>> job = await piano.send("What is the capital of France?")
            >>> (await piano.cancel(job)).status
            <JobStatus.CANCELLED: 'cancelled'>
        """
        return await finish_even_if_cancelled(self._cancel(job))

    async def _cancel(self, job: Job | UUID | str) -> Job:
        return await self._parts.consumer.cancel(await self.find_job(job))

    async def retry(self, job: Job | UUID | str) -> Job:
        """Queue a job again that failed, was cancelled or is unfinished, with agent and settings as they are now.

        Args:
            job: The job, its id, or the last digits of its id.

        Returns:
            The job, queued again.

        Raises:
            StoreError: The job is queued, runs or is done.
            PianoError: It waits until you trust its database (`trust`).
            NotFoundError: There is no such job, or its agent is gone.

        Example:
            >>> await piano.stop()
            >>> job = await piano.cancel(await piano.send("What is the capital of France?"))
            >>> await piano.start()
            >>> job = await piano.retry(job)
            >>> (await piano.wait(job)).content
            'Paris.'
        """
        found = await self.find_job(job)
        if why := self._parts.unfinished.why_held(found):
            if not self._parts.trust.is_trusted:
                raise PianoError(f"job {short(found.id)} waits: {why}")
            found = await finish_even_if_cancelled(self._cancel(found))
        terms = await self._terms_of_sending()
        agent = self._parts.agents.by_id(found.agent_id)
        if agent.deleted:
            raise NotFoundError(f"the agent {agent.name!r} was deleted; ask another one")
        return await self._parts.producer.retry(replace(found, model=agent.model, **terms._asdict()))

    async def unfinished(self) -> list[tuple[Job, str]]:
        """Return the jobs that an earlier kernel, or a notebook that is gone, left unfinished.

        Returns:
            Each job with a sentence that says what it waits for; "" if it only waits for its turn.

        Example:
            >>> await piano.unfinished()
            []
        """
        await self._find_present_server()
        gone = await self._parts.producer.left_elsewhere()
        return [*self._parts.unfinished.all(), *((job, self._why_gone(job)) for job in gone)]

    def _why_gone(self, job: Job) -> str:
        """Return what a job waits for whose notebook is gone, and what to do about it."""
        known = (job.notebook.name, self.notebook.name, *self._parts.workspace_store.others)
        title = short_paths(known)[job.notebook.name]
        sender = f"its notebook, {title}, is gone" if title else "the script that sent it has ended"
        agent = self._parts.agents.find(job.agent_id)
        missing = self._parts.tools.missing(agent.enabled_tools) if agent is not None else []
        lacks = f", once {', '.join(missing)} {'are' if missing[1:] else 'is'} defined" if missing else ""
        return f"{sender}; %piano resume {short(job.id)} runs it here{lacks}"

    async def _find_present_server(self) -> None:
        """Find out whether the settings name another server by now: an unfinished job may wait for its own."""
        if self._parts.unfinished.resumed and self._parts.known_address() is None:
            await self._parts.address()

    async def resume(self, job: Job | UUID | str | None = None) -> list[tuple[Job, str]]:
        """Resume the jobs that an earlier kernel of this notebook left unfinished. Sending a message does so, too.

        Args:
            job: Resume only this one: the job, its id, or the last digits of its id. It may be one of another notebook,
                if that is gone: it runs here then, with the tools of this one.

        Returns:
            The jobs that still wait, each with a sentence that says what for: a tool to be defined, or their server.

        Raises:
            PianoError: The database is not trusted; see `trust`. Or the notebook of the job is open.
            NotFoundError: There is no such job.

        Example:
            >>> await piano.resume()
            []
        """
        if not self._parts.trust.is_trusted:
            raise PianoError(f"jobs of a database that is not trusted are not resumed: {self.distrust()}")
        await self._parts.address()
        found = await self.find_job(job) if job is not None else None
        if found is not None:
            await self._parts.producer.take_over(found)
        self._parts.unfinished.resume(found)
        self._parts.producer.wake()
        return [(each, why) for each, why in await self.unfinished() if why]

    async def trust(self) -> str:
        """Trust the database: its agents may use their tools, and its unfinished jobs may be resumed.

        A database that you made on this machine is trusted already. One that came with a checkout is not.

        Returns:
            A sentence that says what is trusted now, and what follows from that.

        Example:
            >>> await piano.trust()
            'trusted already: :memory: (in memory)'
        """
        if self._parts.trust.is_trusted and not self._parts.trust.problem:
            return f"trusted already: {self._parts.trust.path}{' (in memory)' if self._parts.trust.in_memory else ''}"
        withheld = self._parts.agents.withheld()
        left = len(self._parts.unfinished.all())
        await asyncio.to_thread(self._parts.trust.grant)
        self._announced.add(self.distrust())  # the note below says it
        tools = "; ".join(f"{agent.name} may use {', '.join(agent.enabled_tools)}" for agent in withheld)
        jobs = f"{left} unfinished job{'' if left == 1 else 's'} may be resumed (%piano resume)" if left else ""
        note = f"trusted only until this kernel ends: {self._parts.trust.problem}" if self._parts.trust.problem else ""
        return "; ".join(filter(None, [f"trusted from now on: {self._parts.trust.path}", tools, jobs, note]))

    @property
    def trusted(self) -> bool:
        """Whether the database was made by this user on this machine, or is trusted because of `trust`."""
        return self._parts.trust.is_trusted

    def distrust(self) -> str:
        """Return why the database is not trusted.

        Returns:
            A sentence with the way out, also where only the next kernel will not trust it; "" if all is well.

        Example:
            >>> piano.distrust()
            ''
        """
        problem = self._parts.trust.problem
        if not self._parts.trust.is_trusted:
            return (
                f"database {self._parts.trust.path} was not made by you on this machine, so its jobs are not resumed "
                f"and its agents may not use their tools; if it is yours, run %piano trust{problem and f' ({problem})'}"
            )
        if problem:
            return f"the next kernel will not trust database {self._parts.trust.path}: {problem}"
        return ""

    def notices(self) -> list[str]:
        """Return what the user should know of the database and has not been told yet; the next call returns only news.

        Returns:
            A sentence each: that the database is not trusted, that it is on a network disk, what was recovered of a
            damaged one, that its file was deleted or moved, or that no backup of it could be made.

        Example:
            >>> piano.notices()
            []
        """
        waiting = self._parts.notices
        news = [waiting.popleft() for _ in range(len(waiting))]
        news += [each for each in (self.distrust(), *self._warnings()) if each and each not in self._announced]
        self._announced.update(news)
        return news

    def _warnings(self) -> list[str]:
        """Return what may go wrong with the database, a sentence each."""
        disk = self._identity.network_disk if self._identity is not None else ""
        where = disk and (
            f"database {self._parts.database} is on a network disk ({disk}), whose locks may not keep other hosts "
            f"out: put it on a local disk with PianoConfig.database"
        )
        return [each for each in (where, self._parts.workspace_store.problem, self._parts.backups.problem) if each]

    async def approve(self, call: ApprovalRequested | ToolCall | UUID, *, always: bool = False) -> bool:
        """Approve a tool call that waits for approval, so that it runs. The first answer counts.

        Args:
            call: What `approvals` returned, the tool call, or the id of either.
            always: Whether to allow such calls from now on, by adding the request's rule to `config.rules`. It holds
                for this Piano, for as long as it lives.

        Returns:
            Whether this answer counts; False if the call is not, or no longer, waiting.

        Raises:
            PianoError: `always` is set, but no rule can be about just such calls.

        Example:
            >>> [request] = await piano.approvals()  # an agent wants to empty a table
            >>> request.call.arguments
            {'table': 'sales'}
            >>> await piano.approve(request)
            True
        """
        return await self._decide(call, allowed=True, always=always)

    async def deny(self, call: ApprovalRequested | ToolCall | UUID, *, always: bool = False) -> bool:
        """Deny a tool call that waits for approval: it does not run, and the model is told. The first answer counts.

        Args:
            call: What `approvals` returned, the tool call, or the id of either.
            always: Whether to deny such calls from now on, by adding a rule to `config.rules`, as in `approve`.

        Returns:
            Whether this answer counts; False if the call is not, or no longer, waiting.

        Raises:
            PianoError: `always` is set, but no rule can be about just such calls.

        Example:
            >>> [request] = await piano.approvals()
            >>> await piano.deny(request, always=True)
            True
            >>> piano.config.rules
            ['deny delete_rows']
        """
        return await self._decide(call, allowed=False, always=always)

    async def _decide(self, call: ApprovalRequested | ToolCall | UUID, *, allowed: bool, always: bool) -> bool:
        request = self._parts.approvals.find(call)
        is_here = request in self._parts.approvals.waiting(here=True)
        if request is None or not await self._parts.approvals.decide(request, allowed=allowed, always=always):
            return False
        if always and is_here:  # else it is a rule of the notebook that asked: this one may have another workspace
            self._parts.approval_gate.add_rule(request.always if allowed else request.never)
        return True

    async def approvals(self, *, here: bool = False) -> list[ApprovalRequested]:
        """Return the tool calls that wait for approval.

        Args:
            here: Only those of jobs that run in this notebook.

        Returns:
            The requests, oldest first, each with its `call`, the `question` to the user, the `reason` why it is asked,
            and the rule that `always` would add.

        Example:
            >>> [request] = await piano.approvals()
            >>> request.call.name
            'delete_rows'
        """
        return self._parts.approvals.waiting(here=here)

    # -- threads and messages ----------------------------------------------------------------------

    @property
    def thread(self) -> Thread | None:
        """The current thread, which a message continues that names no other; set it to continue another one."""
        return self._parts.threads.current

    @thread.setter
    def thread(self, thread: Thread | None) -> None:
        self._parts.threads.current = thread
        with contextlib.suppress(RuntimeError):  # not on the loop: it is kept with the next question
            self._keeping = asyncio.get_running_loop().create_task(self._parts.threads.keep_current())

    async def open_thread(self, title: str, agent: str | None = None) -> Thread:
        """Create a thread and make it the current one.

        Args:
            title: Its title; only the first line, at most 60 characters.
            agent: The name of the agent that answers there if none is mentioned.

        Returns:
            The thread.

        Raises:
            NotFoundError: There is no such agent.

        Example:
            >>> thread = await piano.open_thread("Sales in May", agent="Assistant")
            >>> piano.thread.title
            'Sales in May'
        """
        primary = self._parts.agents.by_name(agent) if agent is not None else None
        return await self._parts.threads.open(title, primary_agent_id=primary.id if primary else None)

    async def threads(self, status: ThreadStatus | None = None, *, here: bool = False) -> list[Thread]:
        """Return the threads, newest first.

        Args:
            status: Only the "active" or only the "archived" ones.
            here: Only those that were asked something in this notebook.

        Returns:
            The threads.

        Raises:
            StoreError: The database cannot be read.

        Example:
            >>> [thread.title for thread in await piano.threads("active")]
            ['What is the capital of France?']
        """
        return await self._parts.threads.all(status, here=here)

    async def thread_use(self) -> dict[UUID, ThreadUse]:
        """Return how the threads were used, by their ids; a thread without messages is left out.

        Returns:
            For each thread the number of its messages, the time of the last one, and the notebook that asked last.

        Raises:
            StoreError: The database cannot be read.

        Example:
            >>> [use.messages for use in (await piano.thread_use()).values()]
            [2]
        """
        rows = await self._parts.store.sql(THREAD_USE)
        return {
            thread: ThreadUse(count, last.replace(tzinfo=UTC), None if key is None else Notebook(key, name or ""))
            for thread, count, last, key, name in rows
        }

    async def find_thread(self, name: str | UUID) -> Thread:
        """Return a thread by its title or id.

        Args:
            name: The title (upper or lower case), the id, or the last digits of the id. Of several threads with one
                title, the newest is meant.

        Returns:
            The thread.

        Raises:
            NotFoundError: There is no such thread; the sentence lists similar titles.

        Example:
            >>> thread = await piano.find_thread("what is the capital of france?")
            >>> thread.status
            'active'
        """
        return await self._parts.threads.find(name)

    async def rename_thread(self, thread: Thread, title: str) -> Thread:
        """Rename a thread.

        Args:
            thread: The thread.
            title: Its new title; only the first line, at most 60 characters.

        Returns:
            The thread with its new title.

        Raises:
            StoreError: The database cannot be written.

        Example:
            >>> (await piano.rename_thread(piano.thread, "Capitals")).title
            'Capitals'
        """
        return await self._parts.threads.update(thread, title=title)

    async def keep_draft(self, thread: Thread, text: str, files: Sequence[Attachment] | None = None) -> None:
        """Keep what is written for a thread and not sent yet, as the chat panel does; a secret in it is masked.

        Args:
            thread: The thread. What is kept is deleted with it, and is not exported.
            text: What is written, in place of what was kept before; "" keeps nothing.
            files: The images and text files that go with it, in order; None leaves those that are kept.

        Raises:
            StoreError: The database cannot be written.

        Example:
            >>> await piano.keep_draft(piano.thread, "And which of them")
        """
        await self._parts.store.keep_draft(thread.id, text, self._parts.clock.now())
        if files is not None:
            masked = [each.masked(self._parts.mask) for each in files]  # their bytes are not seen by the masking store
            await self._parts.store.keep_draft_files(thread.id, masked)

    async def draft(self, thread: Thread) -> str:
        """Return what is written for a thread and not sent yet.

        Args:
            thread: The thread.

        Returns:
            The text; "" if there is none.

        Raises:
            StoreError: The database cannot be read.

        Example:
            >>> await piano.keep_draft(piano.thread, "And which of them")
            >>> await piano.draft(piano.thread)
            'And which of them'
        """
        return await self._parts.store.draft(thread.id)

    async def draft_files(self, thread: Thread) -> list[Attachment]:
        """Return the images and text files that go with what is written for a thread and not sent yet.

        Args:
            thread: The thread.

        Returns:
            The files with their bytes, in order.

        Raises:
            StoreError: The database cannot be read.

        Example:
            >>> await piano.draft_files(piano.thread)
            []
        """
        files = await self._parts.store.draft_files(thread.id)
        content = {each.sha256: each.content for each in await self.attachments([each.sha256 for each in files])}
        return [replace(each, content=content[each.sha256]) for each in files if each.sha256 in content]

    async def set_primary_agent(self, thread: Thread, agent: str | None) -> Thread:
        """Set who answers in a thread when a message mentions nobody.

        Args:
            thread: The thread.
            agent: The name of the agent; None for the oldest agent.

        Returns:
            The changed thread.

        Raises:
            NotFoundError: There is no such agent.

        Example:
            >>> thread = await piano.set_primary_agent(piano.thread, "Assistant")
            >>> thread.primary_agent_id == (await piano.agent("Assistant")).id
            True
        """
        primary = self._parts.agents.by_name(agent).id if agent is not None else None
        return await self._parts.threads.update(thread, primary_agent_id=primary)

    def mentioned(self, text: str) -> list[Agent]:
        """Return the agents that a text mentions at its beginning; a question is asked of these.

        Args:
            text: The text.

        Returns:
            The agents, each once, in order; none if the text mentions nobody.

        Example:
            >>> [agent.name for agent in piano.mentioned("@Assistant How many rows are there?")]
            ['Assistant']
        """
        return leading_mentions(text, self._parts.agents.all())

    async def unarchive_thread(self, thread: Thread) -> Thread:
        """Make an archived thread active again.

        Args:
            thread: The thread.

        Returns:
            The thread, which is listed with the others again.

        Raises:
            StoreError: The database cannot be written.

        Example:
            >>> thread = await piano.archive_thread(piano.thread)
            >>> (await piano.unarchive_thread(thread)).status
            'active'
        """
        return await self._parts.threads.update(thread, status="active")

    async def archive_thread(self, thread: Thread) -> Thread:
        """Archive a thread: it is listed as archived, and is no longer the current one.

        Args:
            thread: The thread. It can still be read, and continued by naming it.

        Returns:
            The archived thread.

        Raises:
            StoreError: The database cannot be written.

        Example:
            >>> (await piano.archive_thread(piano.thread)).status
            'archived'
        """
        return await self._parts.threads.update(thread, status="archived")

    async def delete_thread(self, *threads: Thread) -> list[str]:
        """Delete threads with all that was said and done in them, from the database and its copies, for good.

        The files are rewritten, so that the text is no longer in their bytes: that takes a while, and other work waits
        for it.

        Args:
            *threads: The threads. What another thread copied from one with `fork_thread` stays there.

        Returns:
            What may still hold their text, a sentence each; empty if nothing does.

        Raises:
            PianoError: A job runs in one of them; nothing was deleted.
            StoreError: The database cannot be written.

        Example:
            >>> await piano.delete_thread(piano.thread)
            []
            >>> await piano.threads()
            []
        """
        return await self._erasing(self._delete(threads))

    async def _erasing(self, deletion: Coroutine[Any, Any, list[str]]) -> list[str]:
        """Run a deletion while no copy is made, which could hold what is deleted."""
        await self._parts.backups.stop()
        try:
            return await finish_even_if_cancelled(deletion)
        finally:
            if not self._parts.trust.in_memory:
                self._parts.backups.start()

    async def _delete(self, threads: Sequence[Thread]) -> list[str]:
        for thread in threads:
            for job in await self._parts.store.jobs(JobStatus.RUNNING, thread_id=thread.id):
                raise PianoError(f"job {short(job.id)} runs in {thread.title!r}: wait for it, or cancel it first")

        async def cancel_queued() -> None:
            for thread in threads:
                for job in await self._parts.store.jobs(JobStatus.QUEUED, thread_id=thread.id):
                    await self._parts.consumer.cancel(job)

        return await self._parts.threads.delete(threads, cancel_queued)

    async def fork_thread(self, message: Message | UUID | str, title: str | None = None) -> Thread:
        """Copy a conversation up to a message into a new thread, and make that the current one.

        Args:
            message: The last message to copy, its id, or the last digits of its id.
            title: The title of the new thread; by default the old one with "(fork)".

        Returns:
            The new thread. The old one stays as it is.

        Raises:
            PianoError: The message is still being answered.
            NotFoundError: There is no such message.

        Example:
            >>> (await piano.fork_thread(answer)).title
            'What is the capital of France? (fork)'
        """
        return await self._parts.threads.fork(await self.find_message(message), title)

    async def messages(self, thread: Thread, last: int | None = None, *, at: Message | None = None) -> list[Message]:
        """Return the messages of a thread as one reads them: each answer after its question.

        Args:
            thread: The thread.
            last: Only the last so many messages.
            at: A message of the branch that is wanted; by default the branch that the thread continues.

        Returns:
            The messages, in order.

        Raises:
            StoreError: The database cannot be read.

        Example:
            >>> [message.content for message in await piano.messages(piano.thread)]
            ['What is the capital of France?', 'Paris.']
        """
        return await self._parts.threads.messages(thread, last, at)

    async def branches(self, thread: Thread) -> dict[UUID, list[UUID]]:
        """Return where a thread branches, because a question was edited or answered again.

        Args:
            thread: The thread.

        Returns:
            For each message that has alternatives, the ids of all of them, oldest first, its own among them.

        Raises:
            StoreError: The database cannot be read.

        Example:
            >>> [job] = await piano.regenerate(answer)
            >>> again = await piano.wait(job)
            >>> (await piano.branches(piano.thread))[answer.id] == [answer.id, again.id]
            True
        """
        return await self._parts.threads.branches(thread)

    async def choose_branch(self, message: Message | UUID | str) -> None:
        """Continue a thread from another branch: that of a question or an answer, with what was said after it.

        The next question follows the last message of that branch. The choice is stored with the thread.

        Args:
            message: A message of the branch, its id, or the last digits of its id.

        Raises:
            NotFoundError: There is no such message.
            StoreError: The choice cannot be stored.

        Example:
            >>> [job] = await piano.regenerate(answer)
            >>> again = await piano.wait(job)
            >>> await piano.choose_branch(answer)
            >>> (await piano.messages(piano.thread))[-1].id == answer.id
            True
        """
        await self._parts.threads.choose_branch(await self.find_message(message))

    async def message(self, message_id: UUID) -> Message:
        """Return one message by its id.

        Args:
            message_id: The id.

        Returns:
            The message.

        Raises:
            NotFoundError: There is no such message.

        Example:
            >>> (await piano.message(answer.id)).content
            'Paris.'
        """
        return await self._parts.store.message(message_id)

    async def find_message(self, name: Message | UUID | str) -> Message:
        """Return a message by its id, or the last digits of it.

        Args:
            name: The message, its id, or the last four or more digits of its id. Those of the current thread come
                first.

        Returns:
            The message.

        Raises:
            NotFoundError: There is no such message.
            PianoError: The name cannot be the end of an id.

        Example:
            >>> (await piano.find_message(answer.id.hex[-6:])).content
            'Paris.'
        """
        return await self._parts.threads.find_message(name)

    async def tool_calls(self, thread: Thread) -> list[ToolCall]:
        """Return the tool calls of a thread, with their results.

        Args:
            thread: The thread.

        Returns:
            The calls, in order.

        Raises:
            StoreError: The database cannot be read.

        Example:
            >>> await piano.tool_calls(piano.thread)
            []
        """
        return await self._parts.threads.tool_calls(thread)

    async def with_content(self, records: Sequence[Attached], max_bytes: int | None = None) -> list[Attached]:
        """Return messages or tool calls with the bytes of their attachments, which are read only when they are wanted.

        Args:
            records: The messages, or the tool calls.
            max_bytes: How many bytes are read at most; the newest attachments come first.

        Returns:
            The records, in order. An attachment whose bytes were not read has None as its `content`.

        Raises:
            StoreError: The database cannot be read.

        Example:
            >>> await piano.with_content(await piano.tool_calls(piano.thread))
            []
        """
        return await with_content(self._parts.store, records, max_bytes)

    async def attachments(self, hashes: Sequence[str]) -> list[Attachment]:
        """Return attachments with their bytes, by the hashes of these.

        Args:
            hashes: The hashes, as `Attachment.sha256` has them.

        Returns:
            The attachments; one that is gone is left out.

        Raises:
            StoreError: The database cannot be read.

        Example:
            >>> await piano.attachments(["0" * 64])
            []
        """
        return await self._parts.store.attachments(hashes)

    async def search(self, text: str, limit: int = 20) -> list[Hit]:
        """Search the titles of threads and all messages.

        Args:
            text: The words to search for. All of them must occur; upper and lower case are the same.
            limit: How many places to return at most.

        Returns:
            The places, best first, each with its `thread`, `message` and an `excerpt`.

        Raises:
            PianoError: The text is empty.

        Example:
            >>> hits = await piano.search("paris")
            >>> hits[0].excerpt
            'Paris.'
        """
        if not text.strip():
            raise PianoError("there is nothing to search for: the text is empty")
        return await self._parts.store.search(text, limit)

    async def export(self, thread: Thread, format: "ExportFormat") -> str:  # noqa: A002  It is what it is called.
        """Return a thread as the text of a file.

        Args:
            thread: The thread.
            format: "markdown", "notebook" (cells that ask the questions again), or "jsonl" (JSON Lines with the
                messages of the OpenAI chat API).

        Returns:
            The text, with all attachments in it. It has no ids, paths or keys of this machine.

        Raises:
            NotFoundError: There is no such format.
            StoreError: The database cannot be read.

        Example:
            >>> text = await piano.export(piano.thread, "markdown")
            >>> "Paris." in text
            True
        """
        from piano_jupyter.export import WRITERS, ExportedThread, exported  # noqa: PLC0415  Rarely wanted.

        if format not in WRITERS:
            raise NotFoundError.among("format", format, WRITERS)
        names = {agent.id: agent.name for agent in self._parts.agents.all(deleted=True)}
        messages = await self.with_content(await self.messages(thread))
        calls = await self.with_content(await self.tool_calls(thread))
        return exported(format, ExportedThread(thread, messages, calls, names))

    async def import_thread(self, text: str, title: str | None = None) -> Thread:
        """Add a conversation from JSON Lines as a new thread, and make it the current one.

        Args:
            text: JSON Lines with messages of the OpenAI chat API, as `export` writes them: one conversation.
            title: The title of the thread; by default the beginning of the conversation.

        Returns:
            The new thread.

        Raises:
            PianoError: The text is no such conversation, or holds several.

        Example:
            >>> text = await piano.export(piano.thread, "jsonl")
            >>> thread = await piano.import_thread(text, "A copy")
            >>> len(await piano.messages(thread))
            2
        """
        from piano_jupyter.export import imported  # noqa: PLC0415

        records = imported(text, title, self._parts.clock, self._parts.agents.all())
        return await self._parts.threads.add(*records)

    # -- batches ------------------------------------------------------------------------------------

    async def map(
        self,
        rows: Any,
        template: str,
        *,
        schema: Any = None,
        agent: str | None = None,
        model: str | None = None,
        name: str | None = None,
        limit: int | None = None,
        max_in_flight: int | None = None,
        servers: str | Sequence[str] = (),
    ) -> Any:
        """Ask the model a question about each row of a table, and return the table with the answers.

        Each answer is stored, so that the same rows are never asked twice: run again, also in another kernel, it asks
        only what is missing. Questions in chats go first. No tools are called.

        Args:
            rows: The table: a DataFrame of pandas or polars, a Table of pyarrow, a relation of DuckDB, or rows as
                dicts, also from an iterator, which is read on another thread. A DataFrame of Daft is asked where Daft
                runs, and does not wait for chats.
            template: The question. `{{column}}` is the row's value of that column.
            schema: What an answer is to be instead of text, as `ask` takes it; its fields become columns.
            agent: The name of the agent whose model, options, system prompt and skills are used; by default the oldest.
            model: The model that answers, in place of the agent's own.
            name: The name of the batch; by default one made from the template.
            limit: How many rows to ask, from the first; by default all. No more are read of an iterator.
            max_in_flight: How many rows are asked at once; by default as the setting of that name says.
            servers: The addresses of the servers to ask, with /v1, in place of `base_url`. A row goes to one with room.

        Returns:
            A table of the same kind, its rows in the same order. The new columns are the fields of the schema, or
            `answer`; the last one is `error`, which says why a row has no answer.

        Raises:
            PianoError: The table, the template or the schema is wrong, too many rows in a row failed, or the batch was
                cancelled. What was answered is kept.
            NotFoundError: There is no such agent.
            StoreError: The answers cannot be stored, or a batch of this name asks something else.

        Example:
            >>> table = [{"country": "France"}, {"country": "Italy"}]
            >>> for row in await piano.map(table, "What is the capital of {{country}}? Answer with its name."):
            ...     print(row["country"], row["answer"])
            France Paris.
            Italy Rome.
        """
        question = await self._question(template, schema, agent, model, name, servers)
        return await self._parts.batches.map(rows, question, limit, max_in_flight)

    async def plan_map(
        self,
        rows: Any,
        template: str,
        *,
        schema: Any = None,
        agent: str | None = None,
        model: str | None = None,
        limit: int | None = None,
    ) -> BatchPlan:
        """Return what `map` would ask, without asking it.

        Args:
            rows: The table, as `map` takes it.
            template: The question.
            schema: What an answer is to be instead of text.
            agent: The name of the agent; by default the oldest.
            model: The model that answers, in place of the agent's own.
            limit: How many rows to ask, from the first; by default all.

        Returns:
            How many rows there are, how many are known, and about how many tokens the model would read for the others.

        Raises:
            PianoError: The table, the template or the schema is wrong.
            NotFoundError: There is no such agent.

        Example:
            >>> plan = await piano.plan_map([{"country": "France"}], "What is the capital of {{country}}?")
            >>> plan.rows, plan.known
            (1, 0)
        """
        question = await self._question(template, schema, agent, model, None, ())
        return await self._parts.batches.plan(rows, question, limit)

    async def batches(self) -> list[Batch]:
        """Return all batches, oldest first.

        Returns:
            The batches, each with how many different rows have an answer or an error. One whose kernel is gone is
            interrupted.

        Raises:
            StoreError: The database cannot be read.

        Example:
            >>> question = "What is the capital of {{country}}?"
            >>> table = await piano.map([{"country": "France"}], question, name="capitals")
            >>> [(batch.name, str(batch.status), batch.done) for batch in await piano.batches()]
            [('capitals', 'done', 1)]
        """
        return await self._parts.batches.all()

    async def batch(self, name: str) -> Batch:
        """Return one batch.

        Args:
            name: Its name, whatever its case.

        Returns:
            The batch.

        Raises:
            NotFoundError: There is no batch of this name.

        Example:
            >>> question = "What is the capital of {{country}}?"
            >>> table = await piano.map([{"country": "France"}], question, name="capitals")
            >>> (await piano.batch("Capitals")).row_count
            1
        """
        return await self._parts.batches.find(name)

    async def cancel_batch(self, name: str) -> Batch:
        """Cancel a batch that runs, in whichever notebook. What it has done is kept.

        Args:
            name: Its name.

        Returns:
            The batch.

        Raises:
            NotFoundError: There is no batch of this name.
            PianoError: It does not run.

        Example:
            >>> try:
            ...     await piano.cancel_batch("capitals")
            ... except NotFoundError as error:
            ...     print(error)
            no batch named 'capitals'; known: none
        """
        return await self._parts.batches.cancel(name)

    async def retry_batch(self, name: str) -> Batch:
        """Forget the errors of a batch, so that `map` asks those rows again.

        Args:
            name: Its name.

        Returns:
            The batch.

        Raises:
            NotFoundError: There is no batch of this name.
            PianoError: It runs.

        Example:
            >>> question = "What is the capital of {{country}}?"
            >>> table = await piano.map([{"country": "France"}], question, name="capitals")
            >>> (await piano.retry_batch("capitals")).failed
            0
        """
        return await self._parts.batches.retry(name)

    async def delete_batch(self, name: str) -> list[str]:
        """Delete a batch with its answers, from the database and its copies, for good.

        The files are rewritten, so that the text is no longer in their bytes: that takes a while, and other work waits
        for it.

        Args:
            name: Its name.

        Returns:
            What may still hold its text, a sentence each; empty if nothing does.

        Raises:
            NotFoundError: There is no batch of this name.
            PianoError: It runs.
            StoreError: The database cannot be written.

        Example:
            >>> question = "What is the capital of {{country}}?"
            >>> table = await piano.map([{"country": "France"}], question, name="capitals")
            >>> await piano.delete_batch("capitals")
            []
        """
        return await self._erasing(self._parts.batches.delete(name))

    async def export_batch(self, name: str, file: str | Path) -> int:
        """Write the answers of a batch to a Parquet file: the columns that its question names, and the answers.

        Args:
            name: Its name.
            file: A file that does not exist yet.

        Returns:
            How many rows were written.

        Raises:
            NotFoundError: There is no batch of this name.
            PianoError: It has no answers yet, or the file exists or cannot be written.
            StoreError: An answer cannot be written as Parquet.

        Example:
            >>> question = "What is the capital of {{country}}?"
            >>> table = await piano.map([{"country": "France"}], question, name="capitals")
            >>> await piano.export_batch("capitals", "capitals.parquet")
            1
        """
        return await self._parts.batches.export(name, _users_path(file), self.config.workspace)

    async def _question(
        self,
        template: str,
        schema: Any,
        agent: str | None,
        model: str | None,
        name: str | None,
        servers: str | Sequence[str],
    ) -> Question:
        if name is not None and not name.strip():
            raise PianoError("the name of the batch is empty")
        if not isinstance(template, str):
            example = 'map(reviews, "Rate this review: {{review}}")'
            raise PianoError(f"the question must be a text, not a {type_name(template)}, and comes second: {example}")
        form = await _form(schema, Path(self.config.workspace))
        asked = self._parts.agents.by_name(agent) if agent else self._parts.agents.all()[0]
        skills = [await self.skill(each) for each in sorted(set(asked.enabled_skills))]
        system = system_text(asked.system_prompt, "\n\n".join(skill.prompt for skill in skills))
        return Question(
            text=template.strip(),
            agent=replace(asked, system_prompt=system),
            model=model or asked.model,
            schema=form.schema if form else None,
            name=name.strip() if name else None,
            servers=(servers,) if isinstance(servers, str) else tuple(servers),
        )

    # -- agents, tools, skills ---------------------------------------------------------------------

    async def agents(self, *, deleted: bool = False) -> list[Agent]:
        """Return the agents, oldest first.

        Args:
            deleted: Whether to return those that were deleted, too: they are authors of messages.

        Returns:
            The agents. In a database that is not trusted, they have only the tools that they were given since it was
            opened.

        Example:
            >>> [agent.name for agent in await piano.agents()]
            ['Assistant']
        """
        return self._parts.agents.all(deleted=deleted)

    async def agent(self, name: str) -> Agent:
        """Return one agent.

        Args:
            name: Its name, in upper or lower case, with or without `@`.

        Returns:
            The agent.

        Raises:
            NotFoundError: There is no such agent; the sentence lists similar names.

        Example:
            >>> (await piano.agent("assistant")).name
            'Assistant'
        """
        return self._parts.agents.by_name(name)

    async def add_agent(self, name: str, *, model: str | None = None, **fields: Any) -> Agent:
        """Create an agent.

        Args:
            name: Its name: up to 64 letters, digits, `_`, `-` and `.`; it can then be mentioned as `@name`.
            model: The model that it uses; by default `config.default_model`.
            **fields: More fields of `Agent`, such as `system_prompt`, `enabled_tools` and `options`.

        Returns:
            The agent.

        Raises:
            PianoError: The name is taken, or cannot be mentioned.
            NotFoundError: There is no such field, tool or skill.

        Example:
            >>> ada = await piano.add_agent("ada", system_prompt="You are careful.", enabled_tools=["read_file"])
            >>> (await piano.ask("@ada What is the capital of France?")).agent_id == ada.id
            True
        """
        await self._parts.mcp.prepare(fields.get("enabled_tools", ()))
        agent = await self._parts.agents.add(name, model or self.config.default_model, **fields)
        await self._warn_of_unknown_model(model)
        return agent

    async def update_agent(self, name: str, **fields: Any) -> Agent:
        """Change an agent. Its next turn sees the change.

        Args:
            name: Its name.
            **fields: The fields of `Agent` to change, such as `model`, `system_prompt` or `enabled_tools`.

        Returns:
            The changed agent.

        Raises:
            NotFoundError: There is no such agent, field, tool or skill.
            PianoError: A new name is taken, or cannot be mentioned.

        Example:
            >>> agent = await piano.update_agent("Assistant", options={"temperature": 0})
            >>> agent.options
            {'temperature': 0}
        """
        await self._parts.mcp.prepare(fields.get("enabled_tools", ()))
        agent = await self._parts.agents.update(name, **fields)
        await self._warn_of_unknown_model(fields.get("model"))
        return agent

    async def rename_agent(self, name: str, new_name: str) -> Agent:
        """Rename an agent. What it has written has its new name, too; a prompt that mentions the old one does not.

        Args:
            name: Its name.
            new_name: Its new name, as for `add_agent`.

        Returns:
            The renamed agent.

        Raises:
            NotFoundError: There is no such agent.
            PianoError: The new name is taken, or cannot be mentioned.

        Example:
            >>> (await piano.rename_agent("Assistant", "helper")).name
            'helper'
        """
        return await self._parts.agents.update(name, name=new_name)

    async def delete_agent(self, name: str) -> Agent:
        """Delete an agent. What it has written keeps its name; its queued jobs are cancelled.

        Threads that it answered in are answered by the oldest agent. Its name can be given to another agent.

        Args:
            name: Its name.

        Returns:
            The agent, as it was.

        Raises:
            NotFoundError: There is no such agent.
            PianoError: It is the only agent, or a job of it runs.

        Example:
            >>> ada = await piano.add_agent("ada")
            >>> (await piano.delete_agent("ada")).deleted
            True
            >>> [agent.name for agent in await piano.agents()]
            ['Assistant']
        """
        return await finish_even_if_cancelled(self._delete_agent(name))

    async def _delete_agent(self, name: str) -> Agent:
        agent = self._parts.agents.by_name(name)
        jobs = await self._parts.store.jobs(JobStatus.RUNNING, JobStatus.QUEUED)
        for job in jobs:
            if job.agent_id == agent.id and job.status is JobStatus.RUNNING:
                raise PianoError(f"job {short(job.id)} of {agent.name} runs: wait for it, or cancel it first")
        deleted = await self._parts.agents.delete(name)  # first: nobody can ask it from now on
        for job in jobs:
            if job.agent_id == agent.id:
                await self._parts.consumer.cancel(job)
        return deleted

    def add_tool(self, thing: Tool | Callable[..., Any]) -> Tool | None:
        """Add a tool, from any thread. Agents that have its name among their tools can call it from now on.

        Unfinished jobs that waited for it continue.

        Args:
            thing: A tool, or a function with a docstring, as for `tool`.

        Returns:
            The tool that had this name before, if there was one; it is replaced.

        Raises:
            ToolError: The function cannot be a tool.

        Example:
            >>> def price(item: str) -> float:
            ...     "Return today's price of an item, in euros."
            ...     return 2.5
            >>> piano.add_tool(price)
            >>> agent = await piano.update_agent("Assistant", enabled_tools=["price"])
            >>> (await piano.ask("What does tea cost?")).content
            'It costs 2.5 euros.'
        """
        added = as_tool(thing)
        self._tools[added.name] = added
        replaced = self._parts.tools.add(added)
        self._parts.producer.wake_from_any_thread()
        return replaced

    async def tools(self) -> list[Tool]:
        """Return all tools, by name.

        Returns:
            The tools that agents can be given: those that come with Piano, those that were added, and those of MCP
            servers that have been started (see `mcp_servers`).

        Example:
            >>> [tool.name for tool in await piano.tools()]
            ['bash', 'create_file', 'edit_file', 'read_file']
        """
        return self._parts.tools.list_available()

    async def mcp_servers(self, start_within: float | None = None) -> list[McpServer]:
        """Return the MCP servers that are set, by name, with their tools.

        Args:
            start_within: Start the servers that were never started, and wait this many seconds for their tools. By
                default none is started.

        Returns:
            The servers of `PianoConfig.mcp_servers`, and those of the workspace's `.mcp.json`; these are "not trusted"
            until `trust_mcp_file`, and have no tools until then.

        Example:
            >>> await piano.mcp_servers()
            []
        """
        if start_within is not None:
            await self._parts.mcp.start_all(start_within)
        return self._parts.mcp.report()

    async def restart_mcp_server(self, name: str) -> None:
        """End an MCP server if it runs, and start it again.

        Args:
            name: The name of the server, without that of a tool.

        Raises:
            NotFoundError: No server of this name is set, or its `.mcp.json` is not trusted.
            PianoError: It does not start; the sentence says why.

        Example:
            >>> for server in await piano.mcp_servers():
            ...     await piano.restart_mcp_server(server.name)
        """
        await self._parts.mcp.restart(name)

    async def mcp_file(self) -> tuple[str, list[McpServer]]:
        """Return what the workspace's `.mcp.json` says, for the user to trust it.

        Returns:
            The hash of its text, "" if it does not exist, is trusted already or cannot be read; and the servers in it.

        Example:
            >>> await piano.mcp_file()
            ('', [])
        """
        return self._parts.mcp.file_to_trust()

    async def trust_mcp_file(self, digest: str) -> str:
        """Trust the servers of the workspace's `.mcp.json`, as long as its text stays the same.

        Args:
            digest: The hash of the text, from `mcp_file`.

        Returns:
            A sentence that says what is trusted now.

        Raises:
            PianoError: The file has another text now, or the code of an agent asks.

        Example:
            >>> digest, _ = await piano.mcp_file()
            >>> if digest:
            ...     await piano.trust_mcp_file(digest)
        """
        if in_agent_code():
            raise PianoError("only you can trust a file, not the code of an agent")
        trusted = self._parts.mcp.trust_file(digest)
        self._parts.producer.wake()
        return trusted

    async def read_mcp_text(self, server: str, name: str, arguments: Mapping[str, Any] | None = None) -> str:
        """Read a prompt or a resource of an MCP server, which is started if it does not run.

        Args:
            server: The name of the server.
            name: The name of the prompt, or the address of the resource (see `McpServer.texts`).
            arguments: The arguments of the prompt: texts and numbers, by name.

        Returns:
            Its text: what somebody else wrote.

        Raises:
            NotFoundError: No server of this name is set, or it has no such prompt, or the prompt no such argument.
            PianoError: The server does not run, or an argument is missing, or there is no text.

        Example:
            >>> for server in await piano.mcp_servers():
            ...     text = await piano.read_mcp_text(server.name, "docs://readme")
        """
        if in_agent_code():
            raise PianoError("only you can read a prompt or a resource, not the code of an agent")
        return await self._parts.mcp.read_text(server, name, arguments or {})

    async def tool_verdicts(self) -> dict[str, Verdict]:
        """Return for each tool whether a plain call of it would run, ask or be denied now.

        Returns:
            The verdicts by the name of the tool, in the present mode and with the present rules. What a call reaches
            for can make its own verdict stricter.

        Example:
            >>> str((await piano.tool_verdicts())["read_file"])
            'allow'
        """
        verdict = self._parts.approval_gate.default_verdict
        return {tool.name: await asyncio.to_thread(verdict, tool) for tool in self._parts.tools.list_available()}

    async def skills(self) -> list[Skill]:
        """Return all skills, by name.

        Returns:
            The skills in `config.skills_paths`, in the workspace, and those that come with Piano, as their files are
            now.

        Example:
            >>> skills = await piano.skills()
            >>> all(skill.description for skill in skills)
            True
        """
        return await asyncio.to_thread(self._parts.skills.list_available)

    async def skill(self, name: str) -> Skill:
        """Return one skill.

        Args:
            name: Its name.

        Returns:
            The skill, as its file is now.

        Raises:
            NotFoundError: There is no such skill, or its file is broken; the sentence says how.

        Example:
            >>> try:
            ...     await piano.skill("tea-making")
            ... except NotFoundError as error:
            ...     print(error)
            no skill named 'tea-making'; known: ...
        """
        return await asyncio.to_thread(self._parts.skills.load_skill, name)

    async def skill_problems(self) -> list[str]:
        """Return what is wrong with skill files.

        Returns:
            A sentence for each problem: first the files that cannot be used, then what the Agent Skills standard
            forbids.

        Example:
            >>> await piano.skill_problems()
            []
        """
        return await asyncio.to_thread(self._parts.skills.diagnostics)

    # -- backups ------------------------------------------------------------------------------------

    async def backup(self, file: str | Path | None = None) -> str:
        """Copy the database; everything else continues meanwhile.

        Args:
            file: A file that does not exist yet. By default the copy of this day in the backup folder, which is
                replaced.

        Returns:
            The path of the copy.

        Raises:
            PianoError: The database is in memory, or the file exists or cannot be written.
            StoreError: The copy cannot be made.

        Example:
            >>> async with Piano(database="talks.duckdb") as other:
            ...     copy = await other.backup("copy.duckdb")
            >>> copy
            'copy.duckdb'
        """
        self._check_kept()
        copy = await self._parts.store.backup()
        if file is None:
            return copy
        target = _users_path(file)
        await asyncio.to_thread(copy_file, Path(copy), target, workspace=self.config.workspace)
        return str(target)

    async def backups(self) -> list[Backup]:
        """Return the copies of the database, also if it cannot be opened.

        Returns:
            The copies in the backup folder, and what was saved of a lost or damaged file, newest first.

        Example:
            >>> await piano.backups()
            []
        """
        return await asyncio.to_thread(backups, self._parts.database)

    async def restore(self, file: str | Path) -> str | None:
        """Replace the database by a copy of it, and continue with that. What was there is kept, under another name.

        The Piano may be closed, or its database impossible to open; afterwards it is open.

        Args:
            file: The copy. It stays as it is.

        Returns:
            Where the database is that was replaced; None if there was none.

        Raises:
            PianoError: The database is in memory, or a job runs; nothing was changed.
            StoreError: `file` is not a database of Piano's that can be read; nothing was changed.

        Example:
            >>> async with Piano(database="talks.duckdb") as other:
            ...     copy = await other.backup()
            ...     question = await other.ask("What is the capital of Italy?")
            ...     replaced = await other.restore(copy)
            ...     await other.threads()
            []
        """
        self._check_kept()
        return await finish_even_if_cancelled(self._restore(_users_path(file)))

    async def _restore(self, file: Path) -> str | None:
        if self.is_open and (running := await self._parts.store.jobs(JobStatus.RUNNING)):
            raise PianoError(f"job {short(running[0].id)} runs: wait for it, or cancel it first")
        if self.is_open and (mapping := await self._parts.batches.running()):
            raise PianoError(f"the batch {mapping[0].name!r} runs: wait for it, or cancel it first")
        if others := self._parts.workspace_store.others:
            raise PianoError(f"the database is also open in {', '.join(others)}: close that first")
        prepared = await asyncio.to_thread(prepare_restore, self._parts.database, file)
        await self._close(end=True)
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

    # -- queries ------------------------------------------------------------------------------------

    async def sql(self, query: str) -> Rows:
        """Run one SELECT over everything that is stored.

        Args:
            query: SQL of DuckDB. The tables are agents, threads, messages, jobs, tool_calls and tool_results,
                approvals and decisions, attachments.

        Returns:
            The rows, a sequence of tuples that knows its `columns`; `.df()` makes a pandas DataFrame of it.

        Raises:
            StoreError: The query is wrong, or is not one SELECT; with DuckDB's own words.

        Example:
            >>> rows = await piano.sql("SELECT role, content FROM messages ORDER BY seq")
            >>> rows.columns
            ('role', 'content')
            >>> rows[1]
            ('assistant', 'Paris.')
        """
        return await self._parts.store.sql(query)

    @staticmethod
    def query_frames(query: str, frames: Mapping[str, Any], most: int = 100) -> tuple[Rows, bool]:
        """Run one SELECT over data frames in memory, on the thread that calls it.

        Args:
            query: SQL of DuckDB. It reads frames by their names, and no files.
            frames: The frames of pandas, polars or pyarrow, by name. None is copied.
            most: How many rows to return at most.

        Returns:
            The first rows, and whether there are more.

        Raises:
            StoreError: The query is wrong, or is not one SELECT; with DuckDB's own words.
            NotFoundError: The query names a frame that is not there.

        Example:
            >>> import pyarrow
            >>> sales = pyarrow.table({"region": ["north", "south"], "total": [120, 88]})
            >>> rows, more = Piano.query_frames("SELECT region FROM sales WHERE total > 100", {"sales": sales})
            >>> list(rows), more
            ([('north',)], False)
        """
        return select(query, frames, most)

    async def stats(self, by: UsageBy = "agent") -> Rows:
        """Return what the answers cost.

        Args:
            by: What a row is about: an "agent", a "model", a "day" (in UTC) or a "batch".

        Returns:
            Rows with the number of answers, their tokens, the median speed in tokens per second, the median time to the
            first token in seconds, and the seconds that models took to load.

        Raises:
            StoreError: The database cannot be read.

        Example:
            >>> rows = await piano.stats("agent")
            >>> rows.columns[:3]
            ('agent', 'answers', 'prompt_tokens')
            >>> rows[0][:2]
            ('Assistant', 1)
        """
        return await self._parts.store.usage(by)

    async def status(self) -> Status:
        """Return how things stand. Asks the server for its models if it answers within 2 seconds; starts none.

        Returns:
            The database, server, models, workspace and current thread; how many agents, threads, jobs and approvals
            there are; the mode, the rules and what stands between tools and the machine.

        Raises:
            StoreError: The database cannot be read.

        Example:
            >>> status = await piano.status()
            >>> status.agents, status.threads, status.queued
            (1, 1, 0)
        """
        config = self.config
        server, models = await self._server_and_models()
        counts = await self._parts.store.counts()
        tools = [tool.name for tool in self._parts.tools.list_available()]
        agent = next(iter(answering_agents("", self._parts.agents.all(), self.thread)), None)
        return Status(
            database=self._parts.workspace_store.name,
            others=self._parts.workspace_store.others,
            server=server,
            models=models,
            answering_model=self.answering_model(agent.model) if agent else "",
            workspace=config.workspace,
            thread=self.thread,
            agent=agent,
            agents=counts.agents,
            threads=counts.threads,
            queued=counts.jobs.get(JobStatus.QUEUED, 0),
            running=counts.jobs.get(JobStatus.RUNNING, 0),
            approvals=len(self._parts.approvals.waiting()),
            unfinished=await self.unfinished(),
            distrust=self.distrust(),
            warnings=self._warnings(),
            mcp_servers=self._parts.mcp.report(),
            mode=config.mode,
            rules=[
                rule if any(map(parse_rule(rule).names, tools)) else f"{rule} (no tool has this name)"
                for rule in config.rules
            ],
            layers=await asyncio.to_thread(self._layers),
            stopped=self.stopped,
            cassette=_cassette_note(self._parts.cassette),
        )

    # -- models ------------------------------------------------------------------------------------

    async def models(self) -> list[Model]:
        """Return the models of the server.

        Returns:
            The models, each with its state (loaded, loading, ...) and, where the server tells it, the size of its
            context window in tokens.

        Raises:
            ModelError: The server does not answer, or does not list its models.

        Example:
            >>> [(model.name, str(model.state)) for model in await piano.models()]
            [('qwen3:32b', 'loaded'), ('qwen3:8b', 'unloaded')]
        """
        return await self._parts.swap.models()

    async def model_status(self, name: str) -> ModelStatus:
        """Return whether a model can answer now. Asks the server, for 2 seconds at most; starts none.

        Args:
            name: The name of the model, or an alias.

        Returns:
            Its state, and what answers in its place if something does.

        Example:
            >>> (await piano.model_status("qwen3:32b")).state
            'loaded'
        """
        parts, url = self._parts, self.config.base_url
        if parts.client is None or parts.cassette is not None:
            note = _cassette_note(parts.cassette) or "a model in this process answers"
            return ModelStatus(model=name, answering_model=name, server="", state="loaded", note=note)
        status = partial(ModelStatus, model=name, server=url)
        if await parts.address() == EMBEDDED:
            running = parts.finder.current()
            note = running.note if running else f"{parts.finder.stand_in} starts with the first question"
            return status(answering_model=self.answering_model(name), server=EMBEDDED, state="embedded", note=note)
        if problem := await parts.finder.problem():
            return status(answering_model=self.answering_model(name), state="no server", note=f"{url} {problem}")
        try:
            async with asyncio.timeout(MODEL_LIST_TIMEOUT_S):
                models = await parts.swap.models()
                swaps = await parts.swap.loaded() is not None
        except (ModelError, TimeoutError) as error:
            note = str(error) or f"{url} is slow to answer"
            return status(answering_model=self.answering_model(name), state="no server", note=note)
        answering = self.answering_model(name)
        found = next((each for each in models if name in {each.name, *each.aliases}), None)
        if found is None and answering == name and name not in parts.swap.known():
            note = str(not_served_error(name, parts.swap.known()))
            return status(answering_model=answering, state="not served", swaps=swaps, note=note)
        return status(answering_model=answering, state=str(found.state) if found else "loaded", swaps=swaps)

    async def check_model(self, name: str) -> str:
        """Ask a model for one word, which has the server load it; nothing is stored.

        Args:
            name: The name of the model, or an alias.

        Returns:
            A sentence with how many models the server lists, and how long the model took to answer.

        Raises:
            ModelError: The server does not answer, does not list its models, or refuses the request.
            PianoError: A cassette is open.

        Example:
            >>> told = await piano.check_model("qwen3:32b")
            >>> told.partition(" after")[0]
            '2 models are served; qwen3:32b answered'
        """
        parts = self._parts
        if parts.cassette is not None:
            raise PianoError("a cassette is in use, so no model is asked")
        if parts.client is None:
            return "a model in this process answers, without a server"
        served, start = len(await parts.swap.models()), time.monotonic()
        request = ChatRequest(model=name, messages=CHECK_QUESTION, options={"max_tokens": CHECK_TOKENS})
        async with contextlib.aclosing(parts.client.stream(request)) as pieces:
            async for _ in pieces:
                pass
        took, answering = time.monotonic() - start, self.answering_model(name)
        return f"{served} model{' is' if served == 1 else 's are'} served; {answering} answered after {took:.1f} s"

    async def check_sandbox(self) -> str:
        """Run `true` in the sandbox of bash.

        Returns:
            A sentence that says whether commands run in a sandbox here, and if not, why and what follows.

        Example:
            >>> (await piano.check_sandbox()).startswith("a command ran in the sandbox")
            True
        """
        mode = self.config.mode
        first = (await asyncio.to_thread(self._parts.bash.layers, mode))[0]
        if first.startswith("no sandbox"):
            return first
        start = time.monotonic()
        try:
            await self._parts.bash.bash("true")
        except ToolError as error:
            return str(error)
        return f"a command ran in the sandbox and ended after {time.monotonic() - start:.1f} s; {first}"

    async def load_model(self, name: str) -> None:
        """Have the server load a model, and wait until it answers. Only a server that swaps models can do this.

        Args:
            name: The name of the model, or an alias.

        Raises:
            ModelNotServedError: The server does not have this model.
            ModelError: The server does not answer, does not swap models, or took longer than `first_byte_timeout`
                seconds.
            PianoError: A cassette is open.

        Example:
            >>> await piano.load_model("qwen3:8b")
        """
        await self._parts.swap.load(name)

    async def unload_model(self, name: str | None = None) -> None:
        """Have the server unload a model, or all, to free its memory. Only a server that swaps models can do this.

        Args:
            name: The name of the model, or an alias; by default all models.

        Raises:
            ModelNotServedError: The server does not have this model.
            ModelError: The server does not answer, or does not swap models.
            PianoError: A cassette is open.

        Example:
            >>> await piano.unload_model("qwen3:32b")
        """
        await self._parts.swap.unload(name)

    @property
    def stand_in(self) -> str:
        """The name of the embedded model while it answers in place of the agents' models, else ""."""
        return "" if self._parts.client is None else self._parts.finder.stand_in

    def answering_model(self, model: str) -> str:
        """Return the model that answers when a model is asked, as far as that is known.

        Args:
            model: The name of a model, as an agent has it.

        Returns:
            The embedded model while it answers in place of the others; else what the server named in its last answer,
            which is another name where it resolves an alias; else the only model of a server whose model answers by
            any name, once the server was asked for its models; else the name itself.

        Example:
            >>> piano.answering_model("qwen3:32b")
            'qwen3:32b'
        """
        parts = self._parts
        if parts.client is None or parts.cassette is not None:  # else outputs would not repeat
            return self.stand_in or model
        return self.stand_in or parts.client.answered_by(model) or parts.swap.only_model or model

    def known_models(self) -> list[str]:
        """Return the models that the server listed last, without asking it.

        Returns:
            Their names and aliases; none before the server was first asked.

        Example:
            >>> models = await piano.models()
            >>> piano.known_models()
            ['qwen3:32b', 'qwen3:8b']
        """
        return self._parts.swap.known()

    async def model_names(self) -> list[str]:
        """Return what the server's models are called, quickly: it is asked for a quarter of a second at most.

        A server that is slower, or was asked within the last 30 seconds, is not waited for. None is started.

        Returns:
            Their names and aliases, as it listed them last.

        Example:
            >>> await piano.model_names()
            ['qwen3:32b', 'qwen3:8b']
        """
        parts, server, now = self._parts, self.config.base_url, time.monotonic()
        asked_server, asked_at = self._names_asked
        due = server != asked_server or now - asked_at >= MODEL_NAMES_MAX_AGE_S
        if due and parts.client is not None and parts.cassette is None:
            self._names_asked = (server, now)
            with contextlib.suppress(PianoError, TimeoutError):
                async with asyncio.timeout(MODEL_NAMES_TIMEOUT_S):
                    if not await parts.finder.problem():
                        await parts.swap.models()
        return self.known_models()

    # -- internals ----------------------------------------------------------------------------------

    async def _server_and_models(self) -> tuple[str, list[Model]]:
        """Return what the server is called, and its models if it lists them in time."""
        config, found = self.config, self._parts.finder.current()
        where = found.note or found.url if found else config.base_url
        if where.startswith("https:") and config.verify is False:
            where += " (its certificate is not checked: verify=False)"
        if self._parts.client is None:
            return f"{where} (does not answer)", []
        if self._parts.cassette is None and (problem := await self._parts.finder.problem()):
            return f"{where} ({problem})", []
        with contextlib.suppress(ModelError, TimeoutError):
            async with asyncio.timeout(MODEL_LIST_TIMEOUT_S):
                return where, await self._parts.swap.models()
        return where, []

    async def _warn_of_unknown_model(self, model: str | None, advice: str = GIVE_AGENT_ANOTHER) -> None:
        """Leave a notice if the server does not have a model that an agent or a question was given."""
        names = await self.model_names() if model else []
        if model and names and model not in names and self.answering_model(model) == model:
            self._parts.notices.append(str(not_served_error(model, names)).replace(GIVE_AGENT_ANOTHER, advice))

    def _layers(self) -> list[str]:
        """Return what protects the machine from tools, a sentence each."""
        return [file_layer(), *self._parts.bash.layers(self.config.mode)]


async def _form(schema: Any, workspace: Path) -> ResponseFormat | None:
    if schema is None:
        return None
    return await asyncio.to_thread(response_format_of, schema, workspace)  # the schema may be a file


def _users_path(file: str | Path) -> Path:
    return Path(file).expanduser()


def _check_text(text: str) -> None:
    if not text.strip():
        raise PianoError("there is nothing to ask: the message is empty")


def _cassette_note(cassette: Cassette | None) -> str | None:
    return f"{'recording to' if cassette.recording else 'replaying'} {cassette.path}" if cassette else None
