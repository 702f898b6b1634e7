"""The programs and scripts of MCP servers that are in the workspace: they run outside the sandbox, with all rights."""

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from piano_jupyter.errors import PianoError
from piano_jupyter.mcp_server import McpServerSettings, parse_servers
from piano_jupyter.runner.tools.files.workspace import parts_inside
from piano_jupyter.text.json_text import mapping, parse_json
from piano_jupyter.text.words import words

FILE_NAME = ".mcp.json"
MAX_FILE_BYTES = 256 * 2**10
CODE = words(".cjs .jar .js .lua .mjs .mts .php .pl .ps1 .py .pyz .r .rb .sh .ts")


def server_programs_in(workspace: Path, servers: Mapping[str, Any]) -> tuple[tuple[str, ...], ...]:
    """Return the paths in the workspace of what its `.mcp.json` runs, trusted or not, and the servers that are set."""
    home = Path(os.path.realpath(workspace))
    found = (
        parts_inside(home, str(folder / word))
        for each in (*parse_servers(servers, "", {}).values(), *_servers_of_file(home))
        for folder in _folders(each, home)
        for word in _programs(each)
    )
    return tuple(dict.fromkeys(filter(None, found)))


def _programs(server: McpServerSettings) -> Iterator[str]:
    with suppress(PianoError):  # a variable that is not set: it does not start
        known = server.expanded()
        yield from filter(lambda word: "/" in word, [known.command])
        for arg in known.args:
            word = arg.rpartition("=")[2]
            if Path(word).suffix.lower() in CODE:
                yield word


def _folders(server: McpServerSettings, workspace: Path) -> Iterator[Path]:
    """Yield where relative paths of a server may start: the workspace, and each folder that an argument names."""
    yield workspace
    with suppress(PianoError):
        named = (workspace / arg.rpartition("=")[2] for arg in server.expanded().args)
        yield from (each for each in named if os.path.isdir(each))  # noqa: PTH112  Path would raise in some folders.


def _servers_of_file(workspace: Path) -> Iterable[McpServerSettings]:
    try:
        handle = os.open(workspace / FILE_NAME, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(handle, "rb") as file:
            content = file.read(MAX_FILE_BYTES)
        return parse_servers(mapping(parse_json(content)).get("mcpServers", {}), FILE_NAME, {}).values()
    except (OSError, ValueError, PianoError):
        return ()
