"""%piano status, sql, events, help: how things stand, what happened, and what there is."""

import re
from datetime import datetime
from typing import TYPE_CHECKING, Any

from piano_jupyter.errors import NotFoundError, StoreError
from piano_jupyter.events import Event
from piano_jupyter.jupyter.magic.command import COMMANDS, Command, Commands, command, named, number
from piano_jupyter.jupyter.magic.commands.history import no_thread
from piano_jupyter.jupyter.magic.completion_names import TABLES
from piano_jupyter.jupyter.render.cards import status_card
from piano_jupyter.jupyter.render.event_lines import about
from piano_jupyter.jupyter.render.tables import Listing, Note

if TYPE_CHECKING:
    from piano_jupyter.piano import Piano

Happened = tuple[datetime, Event]

MOST_EVENTS = 50
LONGEST_USAGE = 60  # characters, in the list of all
NO_TABLE = re.compile(r"^Catalog Error: Table .* does not exist")


class Looking(Commands):
    """Sub-commands that look."""

    @command(example="%piano status")
    def status(self, _text: str) -> Any:
        """Show how things stand; %piano alone does the same."""

        async def read(piano: "Piano") -> tuple[Any, str]:
            return await piano.status(), "" if piano.thread else await no_thread(piano)

        return status_card(*self._call(read))

    @command(example="%piano trust")
    def trust(self, _text: str) -> Any:
        """Say that the database is yours: its agents' tools count, and its unfinished jobs may be resumed.

        A database that was made here, in any notebook, is trusted from the start; one that came with a checkout is not.
        """
        return Note(self._call(lambda piano: piano.trust()))

    @command("SELECT …", example="%piano sql SELECT role, count(*) FROM messages GROUP BY role", cell="the query")
    def sql(self, text: str) -> Any:
        """Query everything that is kept: tables agents, threads, messages, tool_calls, tool_results and jobs."""
        query = named("query", text, "%piano sql SELECT * FROM messages")
        try:
            return self._call(lambda piano: piano.sql(query))
        except StoreError as error:
            first = str(error).partition("\n")[0]  # a parser tells more, and draws where
            tables = f"; the tables are {', '.join(TABLES)}" if NO_TABLE.search(first) else ""
            raise StoreError(first.rstrip("!") + tables) from error

    @command(example="%piano events --last 20", last="N")
    def events(self, _text: str, last: str | None = None) -> Any:
        """List what has happened of late, oldest first; times are in UTC."""
        newest = number("--last", last)

        async def read(piano: "Piano") -> tuple[list[Happened], dict[Any, str]]:
            happened = piano.recent_events(MOST_EVENTS if newest is None else newest)
            return happened, {agent.id: agent.name for agent in await piano.agents()}

        happened, names = self._call(read)
        return Listing(
            happened,
            "nothing has happened yet",
            at=lambda each: f"{each[0]:%H:%M:%S}",
            event=lambda each: type(each[1]).__name__,
            about=lambda each: about(each[1], names),
        )

    @command("[SUB-COMMAND]", example="%piano help fork")
    def help(self, text: str) -> Any:
        """List the sub-commands, or explain one; so does --help after it."""
        if text:
            if text not in COMMANDS:
                raise NotFoundError.among("sub-command", text, COMMANDS)
            return Note(COMMANDS[text].explanation)
        whole_cell = Command(
            name="%%piano",
            takes="[@AGENT …]",
            help="Ask what the cell says; {{name}} in it is your variable.",
            run=self.help,
            options=COMMANDS["ask"].options,
        )
        by_group = [COMMANDS[name] for group in type(self).__mro__ for name in _names(group) if name in COMMANDS]
        return Listing(
            [whole_cell, *by_group],
            "",
            **{
                "%piano": lambda each: each.name,
                "takes": lambda each: each.usage if len(each.usage) < LONGEST_USAGE else f"{each.takes} [options]",
                "what it does": lambda each: each.help.splitlines()[0],
            },
        )


def _names(group: type) -> list[str]:
    return [name.strip("_") for name in vars(group)]
