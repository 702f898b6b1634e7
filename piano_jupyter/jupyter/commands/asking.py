"""%piano ask, wait, panel: saying something, and getting an answer."""

from typing import TYPE_CHECKING, Any

from piano_jupyter.errors import PianoError
from piano_jupyter.jupyter.commands.command import COMMANDS, Commands, command
from piano_jupyter.jupyter.display import Note, job_line
from piano_jupyter.jupyter.options import fill_in, split_options
from piano_jupyter.jupyter.waiting import answer_in_cell, follow_in_cell
from piano_jupyter.records import Job, Message

if TYPE_CHECKING:
    from piano_jupyter.piano import Piano


class Asking(Commands):
    """Sub-commands that ask."""

    @command("[@AGENT] [--thread T] [--no-wait] TEXT", thread=True, no_wait=False)
    def ask(self, text: str, agents: list[str], thread: str | None = None, no_wait: str | None = None) -> Any:
        """Ask in one line; a cell that begins with %%piano takes more. --no-wait returns the job at once."""
        if len(agents) > 1:
            raise PianoError("one agent a question for now; ask the others in their own cells")
        text = fill_in(text, self.session.variables())
        agent = agents[0] if agents else None
        if no_wait is not None:
            return Note(
                job_line(self._call(lambda piano: piano.send(text, agent=agent, thread=thread, source="magic")))
            )
        return self._shown(answer_in_cell(self.session, text, agent=agent, thread=thread))

    def ask_in_cell(self, line: str, cell: str) -> Any:
        """Ask what a cell says; its first line has the options."""
        options, handles, first = split_options(line, COMMANDS["ask"].options)
        arguments = {option[2:].replace("-", "_"): value for option, value in options.items()}
        return self.ask(f"{first}\n{cell}".strip(), handles, **arguments)

    @command("[JOB]")
    def wait(self, text: str) -> Any:
        """Wait for a job that was sent with --no-wait (the newest, if none is named) and return its answer."""

        async def find(piano: "Piano") -> Job:
            jobs = await piano.jobs()
            if not jobs:
                raise PianoError("there is no job to wait for")
            return await piano.find_job(text) if text else jobs[-1]

        return self._shown(follow_in_cell(self.session, find, cancels=False))

    def _shown(self, message: Message) -> Message:
        self.session.shown.add(message.id)
        return message

    @command()
    def panel(self, _text: str) -> Any:
        """Open the chat panel on the current thread (the newest, in a fresh kernel)."""
        from piano_jupyter.jupyter.panel import ChatPanel  # noqa: PLC0415  Widgets are heavy: only when one is wanted.

        async def current(piano: "Piano") -> Any:
            if piano.thread is None:
                threads = await piano.threads("active")
                piano.thread = threads[0] if threads else await piano.open_thread("Chat")
            return piano, piano.thread

        piano, thread = self._call(current)
        return ChatPanel(piano, self.session.loop, thread)
