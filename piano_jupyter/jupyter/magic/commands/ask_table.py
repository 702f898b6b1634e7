"""%%piano --map FRAME: ask about each row of a table."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from IPython.display import display

from piano_jupyter.errors import PianoError
from piano_jupyter.jupyter.cell.batch_cell import map_in_cell
from piano_jupyter.jupyter.magic.command import whole_number
from piano_jupyter.jupyter.magic.map_option import table_named
from piano_jupyter.jupyter.magic.schema_option import schema_named
from piano_jupyter.jupyter.render.batch_tables import DictTable
from piano_jupyter.jupyter.session import Session

if TYPE_CHECKING:
    from piano_jupyter.piano import Piano

NOT_WITH_MAP = {
    "no_wait": "--map waits for the rows, and --no-wait does not: leave one out; you can interrupt it at any time",
    "raw": "--map returns a table, and --raw shows an answer as plain text: leave one out",
    "thread": "--map asks about each row by itself, in no thread: leave --thread out",
}


def ask_table(
    session: Session,
    text: str,
    *,
    frame: str | None,
    limit: str | None = None,
    name: str | None = None,
    json: str | None = None,
    into: str | None = None,
    agents: Sequence[str] = (),
    model: str | None = None,
) -> Any:
    """Ask about each row of the table in the variable `frame`; return it with the answers. Raises PianoError."""
    if frame is None:
        raise PianoError("--limit and --name go with --map FRAME, which asks about each row of a table")
    if not text.strip():
        raise PianoError(
            f"write below the first line what to ask about each row of {frame}: {{{{column}}}} inserts a value"
        )
    rows = table_named(frame, session.user_variables_here())
    options = {
        "schema": None if json is None else schema_named(json, session.variables()),
        "agent": _answering_agent(session, text, agents),
        "model": model,
        "name": name,
        "limit": whole_number("--limit", limit, minimum=1),
    }
    result = map_in_cell(session, rows, text, options)
    if isinstance(result, list) and session.in_notebook:
        display(DictTable(result))
        session.shown_values.add(result)
    if into is not None:
        session.shell.push({into: result})
    return result


def check_goes_with_map(options: Mapping[str, Any]) -> None:
    """Raise PianoError if one of these options is given that says nothing about a table."""
    for option, sentence in NOT_WITH_MAP.items():
        if options.get(option):
            raise PianoError(sentence)


def _answering_agent(session: Session, text: str, named: Sequence[str]) -> str | None:
    """Return the agent that is named, else the one that the text begins with, if any. Raises PianoError for several."""

    async def mentioned(piano: "Piano") -> list[str]:
        return [agent.name for agent in piano.mentioned(text)]

    names = named or session.call(mentioned)
    if len(names) > 1:
        raise PianoError(f"one agent answers about a table, not {len(names)}: mention one")
    return names[0] if names else None
