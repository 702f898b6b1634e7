"""%piano ask, send, wait, panel: saying something, and getting an answer."""

from typing import TYPE_CHECKING, Any

from piano_jupyter.errors import PianoError
from piano_jupyter.jupyter.cards import jobs_table
from piano_jupyter.jupyter.commands.command import Commands, command
from piano_jupyter.jupyter.options import fill_in
from piano_jupyter.jupyter.waiting import follow_in_cell
from piano_jupyter.records import Job

if TYPE_CHECKING:
    from piano_jupyter.piano import Piano


class Asking(Commands):
    """Sub-commands that ask."""

    @command(
        "[@AGENT …] TEXT",
        example="%piano ask @ada @bob --thread Sales what do these figures say?",
        cell="what you say, and {{name}} in it is your variable",
        thread="THREAD",
        no_wait="",
        raw="",
    )
    def ask(
        self, text: str, agents: list[str], thread: str | None = None, *, no_wait: bool = False, raw: bool = False
    ) -> Any:
        """Ask in one line and return the answer as a Message; a cell that begins with %%piano takes more.

        Several agents answer side by side: Answers, a Message each. --no-wait returns the Job at once, or a list of
        several; --raw shows the answer as plain text.
        """
        text = fill_in(text, self.session.variables())

        async def begin(piano: "Piano") -> list[Job]:
            return await piano.send_all(text, agents=agents, thread=thread, source="magic")

        async def send(piano: "Piano") -> tuple[list[Job], dict[Any, str]]:
            return await begin(piano), {agent.id: agent.name for agent in await piano.agents()}

        if no_wait:
            jobs, names = self._call(send)
            return jobs[0] if len(jobs) == 1 else jobs_table(jobs, names)
        return follow_in_cell(self.session, begin, raw=raw)

    @command(
        "[@AGENT …] TEXT",
        example="%piano send @ada read the report and sum it up",
        cell="what you say",
        thread="THREAD",
    )
    def send(self, text: str, agents: list[str], thread: str | None = None) -> Any:
        """Ask without waiting: returns the Job at once; the answer comes into the thread, %piano wait brings it."""
        return self.ask(text, agents, thread, no_wait=True)

    @command("[JOB]", example="%piano wait 3fa9c1")
    def wait(self, text: str) -> Any:
        """Wait for a job that was sent (the newest, if none is named) and return its answer."""

        async def find(piano: "Piano") -> list[Job]:
            jobs = [await piano.find_job(text)] if text else await piano.jobs(last=1)
            if not jobs:
                raise PianoError("there is no job to wait for; %piano send TEXT sends one")
            return jobs

        return follow_in_cell(self.session, find, cancels=False)

    @command(example="%piano panel")
    def panel(self, _text: str) -> Any:
        """Open the chat panel on the current thread (the newest, in a fresh kernel)."""
        from piano_jupyter.jupyter.panel import ChatPanel  # noqa: PLC0415  Widgets are heavy: only when one is wanted.

        async def current(piano: "Piano") -> Any:
            if piano.thread is None:
                threads = await piano.threads("active")
                piano.thread = threads[0] if threads else await piano.open_thread("Chat")
            return piano, piano.thread

        piano, thread = self._call(current)
        panel = ChatPanel(piano, self.session.loop, thread)
        self.session.panels.add(panel)
        return panel
