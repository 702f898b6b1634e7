"""%piano status, sql, record, replay, help: how things stand, and what there is."""

from pathlib import Path
from typing import Any

from piano_jupyter.errors import NotFoundError
from piano_jupyter.jupyter.commands.command import COMMANDS, Command, Commands, command, named, pairs
from piano_jupyter.jupyter.display import Listing, Note


class Looking(Commands):
    """Sub-commands that look."""

    @command("SELECT ...")
    def sql(self, text: str) -> Any:
        """Query everything that is kept: tables agents, threads, messages, tool_calls, tool_results, jobs."""
        return self._call(lambda piano: piano.sql(named("query", text)))

    @command()
    def status(self, _text: str) -> Any:
        """Show how things stand; %piano alone does the same."""
        status = self._call(lambda piano: piano.status())
        rows = {
            "thread": status.thread.title if status.thread else "none yet; %%piano opens one",
            "server": status.server,
            "jobs": f"{status.running} running, {status.queued} queued, {status.approvals} waiting for a yes",
            "kept": f"{status.threads} threads, {status.agents} agents in {status.database}",
            "workspace": status.workspace,
        }
        return pairs(rows | ({"cassette": status.cassette} if status.cassette else {}))

    @command("[FILE] [--stop]", stop=False)
    def record(self, text: str, stop: str | None = None) -> Any:
        """Keep each exchange with the model in FILE, in a fresh conversation; --stop goes back to the database."""
        if stop is not None:
            return self._go_back()
        self.session.loop.run(self.session.reopen(record=Path(named("file", text)).expanduser()))
        return Note(f"recording to {text}")

    @command("[FILE] [--stop]", stop=False)
    def replay(self, text: str, stop: str | None = None) -> Any:
        """Answer from FILE in a fresh conversation, else ask the model; --stop goes back to the database."""
        if stop is not None:
            return self._go_back()
        self.session.loop.run(self.session.reopen(replay=Path(named("file", text)).expanduser()))
        return Note(f"replaying {text}")

    def _go_back(self) -> Any:
        self.session.loop.run(self.session.reopen())
        return Note(f"back in {self.session.config.database}")

    @command("[SUB-COMMAND]")
    def help(self, text: str) -> Any:
        """List the sub-commands, or explain one."""
        if text:
            if text not in COMMANDS:
                raise NotFoundError.among("sub-command", text, COMMANDS)
            return Note(COMMANDS[text].explanation)
        whole_cell = Command(
            name="%%piano",
            usage="[@AGENT] [--thread T] [--no-wait]",
            help="Ask what the cell says; {{name}} in it is your variable.",
            run=self.help,
        )
        return Listing(
            [whole_cell, *COMMANDS.values()],
            "",
            **{
                "%piano": lambda each: each.name,
                "takes": lambda each: each.usage,
                "what it does": lambda each: each.help.splitlines()[0],
            },
        )
