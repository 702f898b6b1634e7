"""`{{mcp("server", "uri")}}`: the text of a resource of an MCP server in a question."""

from collections.abc import Callable
from typing import Any

from piano_jupyter.errors import PianoError
from piano_jupyter.variables.frame_methods import SpecialFunction


def resource_function(read: Callable[[str, str], str]) -> SpecialFunction:
    """Return the function `mcp`, which reads a resource by the name of its server and its address."""

    def mcp(*names: Any, **_named: Any) -> str:
        match names:
            case [str(server), str(uri)] if not _named:
                return read(server, uri)
        raise PianoError('mcp takes a server and the address of a resource, as in mcp("docs", "docs://readme")')

    return SpecialFunction(mcp)
