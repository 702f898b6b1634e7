"""%piano mcp: the MCP servers, their tools, and whether the workspace's .mcp.json is trusted."""

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from piano_jupyter.errors import NotFoundError
from piano_jupyter.jupyter.magic.confirmation import UNCHANGED, confirmed
from piano_jupyter.jupyter.render.tables import Note, RecordTable, counted
from piano_jupyter.jupyter.session import Session
from piano_jupyter.mcp_server import McpServer
from piano_jupyter.text.invisible import terminal_text, to_the_letter

if TYPE_CHECKING:
    from piano_jupyter.piano import Piano

TRUST = "trust"
NONE_SET = "no MCP servers: set PianoConfig.mcp_servers, or write a .mcp.json (%piano help mcp-servers)"
WARNING = "Their programs run with your rights, outside the sandbox"


def mcp(session: Session, text: str, *, restart: str | None = None, yes: bool = False) -> Any:
    """List the MCP servers, their states and how many tools each has; with a name, show its tools and texts.

    Servers that were never started are started, so that their tools are known. trust shows what the workspace's
    .mcp.json runs, and trusts exactly this text once you confirm it (or add --yes). --restart ends a server if it runs,
    and starts it.
    """
    if restart is not None:
        session.call(lambda piano: piano.restart_mcp_server(restart))
        text = restart
    if text == TRUST:
        return _trust(session, yes=yes)
    servers = session.call(_started)
    if not text:
        return _servers_table(servers)
    found = {each.name: each for each in servers}
    if text not in found:
        raise NotFoundError.among("MCP server", text, found)
    return _tools_table(found[text])


async def _started(piano: "Piano") -> list[McpServer]:
    return await piano.mcp_servers(start_within=piano.config.mcp_timeout)


def _trust(session: Session, *, yes: bool) -> Any:
    """Trust the workspace's file, once the user has seen it and said so."""
    digest, servers = session.call(lambda piano: piano.mcp_file())
    if not digest:
        return Note(_why_not(servers))
    lines = "\n".join(f"  {each.name}: {each.runs}" for each in servers)
    print(to_the_letter(f".mcp.json sets {counted(len(servers), 'server')}:\n{lines}"))  # noqa: T201  Above the question.
    if not confirmed(session, f"Trust it as long as it stays the same? {WARNING}.", yes=yes):
        return Note(UNCHANGED)
    return Note(session.call(partial(_trusted, digest)))


def _why_not(servers: Sequence[McpServer]) -> str:
    """Return why there is nothing to trust."""
    known = ".mcp.json is trusted already" if servers else "this workspace has no .mcp.json"
    return next((each.problem for each in servers if each.problem), known)


async def _trusted(digest: str, piano: "Piano") -> str:
    return await piano.trust_mcp_file(digest)


def _servers_table(servers: Sequence[McpServer]) -> Any:
    return RecordTable(
        servers,
        NONE_SET,
        name=lambda server: server.name,
        state=lambda server: server.state,
        tools=lambda server: len(server.tools),
        runs=lambda server: server.runs,
        set_in=lambda server: server.source,
        problem=lambda server: server.problem,
    )


def _tools_table(server: McpServer) -> Any:
    for each in filter(None, (server.problem, *server.left_out)):
        print(terminal_text(each))  # noqa: T201  Above the table, in the cell.
    rows = [(each.name, each.hints, each.description) for each in server.tools]
    rows += [(f"{{{{{each.placeholder(server.name)}}}}}", "", each.description) for each in server.texts]
    return RecordTable(
        rows,
        f"{server.name} is {server.state} and has no tools",
        name=lambda row: row[0],
        it_says=lambda row: row[1],
        description=lambda row: next(iter(row[2].splitlines()), ""),
    )
