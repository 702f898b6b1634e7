"""%piano status, trust, sql, events: how things stand, and what happened."""

import re
from typing import TYPE_CHECKING, Any

from piano_jupyter.errors import StoreError
from piano_jupyter.jupyter.magic.command import agent_names, named, number
from piano_jupyter.jupyter.magic.commands.history import no_thread
from piano_jupyter.jupyter.magic.completion_names import TABLES
from piano_jupyter.jupyter.render.cards import status_card
from piano_jupyter.jupyter.render.event_lines import about
from piano_jupyter.jupyter.render.tables import Note, RecordTable

if TYPE_CHECKING:
    from piano_jupyter.piano import Piano

MOST_EVENTS = 50
NO_TABLE = re.compile(r"^Catalog Error: Table .* does not exist")


async def status(piano: "Piano", *, all: bool = False) -> Any:  # noqa: A002  It is the option's name.
    """Show who answers, the model, the thread and what waits; %piano alone does the same.

    --all also shows the server's models, the rules, the sandbox, the database and the workspace.
    """
    return status_card(await piano.status(), "" if piano.thread else await no_thread(piano), is_short=not all)


async def trust(piano: "Piano") -> Any:
    """Say that the database is yours: its agents' tools count, and its unfinished jobs may be resumed.

    A database that was made here, in any notebook, is trusted from the start; one that came with a checkout is not.
    """
    return Note(await piano.trust())


async def sql(piano: "Piano", text: str) -> Any:
    """Query everything that is kept: tables agents, threads, messages, tool_calls, tool_results and jobs."""
    query = named("query", text, "%piano sql SELECT * FROM messages")
    try:
        return await piano.sql(query)
    except StoreError as error:
        first = str(error).partition("\n")[0]  # a parser tells more, and draws where
        tables = f"; the tables are {', '.join(TABLES)}" if NO_TABLE.search(first) else ""
        raise StoreError(first.rstrip("!") + tables) from error


async def events(piano: "Piano", *, last: str | None = None) -> Any:
    """List what has happened of late, oldest first; times are in UTC."""
    newest = number("--last", last)
    happened = piano.recent_events(MOST_EVENTS if newest is None else newest)
    names = await agent_names(piano)
    return RecordTable(
        happened,
        "nothing has happened yet",
        at=lambda each: f"{each[0]:%H:%M:%S}",
        event=lambda each: type(each[1]).__name__,
        about=lambda each: about(each[1], names),
    )
