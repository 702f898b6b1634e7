"""%piano status, trust, sql, events: the current state, and what happened."""

import re
from typing import TYPE_CHECKING, Any

from piano_jupyter.errors import StoreError
from piano_jupyter.jupyter.magic.command import agent_names, required, whole_number
from piano_jupyter.jupyter.magic.commands.history import no_thread
from piano_jupyter.jupyter.magic.completion_names import TABLES
from piano_jupyter.jupyter.render.batch_tables import MANY_EVENTS_COUNT, latest_progress, running_lines
from piano_jupyter.jupyter.render.cards import status_card
from piano_jupyter.jupyter.render.event_lines import event_line
from piano_jupyter.jupyter.render.tables import Note, RecordTable

if TYPE_CHECKING:
    from piano_jupyter.piano import Piano

DEFAULT_EVENTS = 50
UNKNOWN_TABLE = re.compile(r"^Catalog Error: Table .* does not exist")


async def status(piano: "Piano", *, all: bool = False) -> Any:  # noqa: A002  It is the option's name.
    """Show who answers, the model, the thread and what waits; %piano alone does the same.

    --all also shows the server's models, the rules, the sandbox, the database and the workspace.
    """
    without_thread = "" if piano.thread else await no_thread(piano)
    progress = latest_progress(piano.recent_events(MANY_EVENTS_COUNT))
    running = running_lines(await piano.batches(), progress)
    return status_card(await piano.status(), without_thread, running, is_short=not all, here=piano.notebook)


async def trust(piano: "Piano") -> Any:
    """Trust a database that came from elsewhere: the tools of its agents count, its unfinished jobs may be resumed.

    A database that was created on this machine is trusted from the start; one that came with a checkout is not.
    """
    return Note(await piano.trust())


async def sql(piano: "Piano", text: str) -> Any:
    """Query everything that is stored: agents, threads, messages, tool_calls, tool_results, jobs, batches, and more."""
    query = required("query", text, "%piano sql SELECT * FROM messages")
    try:
        return await piano.sql(query)
    except StoreError as error:
        first = str(error).partition("\n")[0]  # the parser also prints where in the query it was
        tables = f"; the tables are {', '.join(TABLES)}" if UNKNOWN_TABLE.search(first) else ""
        raise StoreError(first.rstrip("!") + tables) from error


async def events(piano: "Piano", *, last: str | None = None) -> Any:
    """List the latest events, oldest first; times are in UTC."""
    newest = whole_number("--last", last)
    happened = piano.recent_events(DEFAULT_EVENTS if newest is None else newest)
    names = await agent_names(piano)
    return RecordTable(
        happened,
        "no events yet",
        at=lambda each: f"{each[0]:%H:%M:%S}",
        event=lambda each: type(each[1]).__name__,
        about=lambda each: event_line(each[1], names),
    )
