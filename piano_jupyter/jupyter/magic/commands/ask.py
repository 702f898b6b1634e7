"""%piano ask, send, wait, panel: saying something, and getting an answer."""

from typing import TYPE_CHECKING, Any

from piano_jupyter.errors import PianoError
from piano_jupyter.jupyter.cell.waiting import follow_in_cell
from piano_jupyter.jupyter.magic.command import Commands, command
from piano_jupyter.jupyter.magic.schema_option import schema_named
from piano_jupyter.jupyter.placeholders import fill_in
from piano_jupyter.jupyter.render.cards import jobs_table
from piano_jupyter.jupyter.render.transcript import Answers
from piano_jupyter.records import Job, Message, short

if TYPE_CHECKING:
    from piano_jupyter.piano import Piano


class Asking(Commands):
    """Sub-commands that ask."""

    @command(
        "[@AGENT …] TEXT",
        example="%piano ask @ada @bob --thread Sales what do these figures say?",
        cell="what you say, and {{name}} in it is your variable",
        thread="THREAD",
        json="SCHEMA",
        no_wait="",
        raw="",
    )
    def ask(
        self,
        text: str,
        agents: list[str],
        thread: str | None = None,
        json: str | None = None,
        *,
        no_wait: bool = False,
        raw: bool = False,
    ) -> Any:
        """Ask in one line and return the answer as a Message; a cell that begins with %%piano takes more.

        Several agents answer side by side: Answers, a Message each. --no-wait returns the Job at once, or a list of
        several; --raw shows the answer as plain text. --json returns a checked value instead: SCHEMA is a variable
        (a dataclass, a TypedDict, a pydantic model, a dict with a JSON Schema), a *.json file, or JSON.
        """
        variables = self.session.variables()
        text, schema = fill_in(text, variables), schema_named(json, variables) if json is not None else None

        async def begin(piano: "Piano") -> list[Job]:
            return await piano.send_all(text, agents=agents, thread=thread, schema=schema, source="magic")

        async def send(piano: "Piano") -> tuple[list[Job], dict[Any, str]]:
            return await begin(piano), {agent.id: agent.name for agent in await piano.agents()}

        if no_wait:
            jobs, names = self._call(send)
            return jobs[0] if len(jobs) == 1 else jobs_table(jobs, names)
        answers = follow_in_cell(self.session, begin, raw=raw)
        return answers if schema is None else self._value(answers, schema)

    def _value(self, answers: Message | Answers, schema: Any) -> Any:
        """Return what was answered as the value that was asked for, or as a list of several."""

        async def read(piano: "Piano") -> Any:
            if isinstance(answers, Message):
                return await piano.value(answers, schema)
            return [await piano.value(each, schema) for each in answers]

        value = self._call(read)
        if self.session.in_notebook:
            self.session.shown_values.add(value)
        return value

    @command(
        "[@AGENT …] TEXT",
        example="%piano send @ada read the report and sum it up",
        cell="what you say",
        thread="THREAD",
        json="SCHEMA",
    )
    def send(self, text: str, agents: list[str], thread: str | None = None, json: str | None = None) -> Any:
        """Ask without waiting: returns the Job at once; the answer comes into the thread, %piano wait brings it."""
        return self.ask(text, agents, thread, json, no_wait=True)

    @command("[JOB]", example="%piano wait 3fa9c1")
    def wait(self, text: str) -> Any:
        """Wait for a job that was sent (the newest, if none is named) and return its answer."""

        async def find(piano: "Piano") -> list[Job]:
            jobs = [await piano.find_job(text)] if text else await piano.jobs(last=1)
            if not jobs:
                raise PianoError("there is no job to wait for; %piano send TEXT sends one")
            for job, why in await piano.unfinished():
                if job.id == jobs[0].id and why:
                    raise PianoError(f"job {short(job.id)} waits: {why}")
            return jobs

        return follow_in_cell(self.session, find, cancels=False)

    @command(example="%piano panel")
    def panel(self, _text: str) -> Any:
        """Open the chat panel on the current thread (the newest, in a fresh kernel)."""
        from piano_jupyter.jupyter.panel.widget import ChatPanel  # noqa: PLC0415  Widgets are heavy: only when one is wanted.

        async def current(piano: "Piano") -> Any:
            if piano.thread is None:
                threads = await piano.threads("active")
                piano.thread = threads[0] if threads else await piano.open_thread("Chat")
            if piano.trusted:
                await piano.resume()
            return piano, piano.thread

        piano, thread = self._call(current)
        panel = ChatPanel(piano, self.session.loop, thread)
        self.session.panels.add(panel)
        return panel
