"""`{{mcp("server", "name")}}`: the text of a prompt or a resource of an MCP server in a question."""

from collections.abc import Callable, Mapping
from typing import Any

from piano_jupyter.errors import PianoError
from piano_jupyter.variables.frame_methods import SpecialFunction


def text_function(read: Callable[[str, str, Mapping[str, Any]], str]) -> SpecialFunction:
    """Return the function `mcp`, which reads a text by its server, its name or address, and the prompt's arguments."""

    def mcp(*names: Any, **arguments: Any) -> str:
        match names:
            case [str(server), str(name)]:
                return read(server, name, arguments)
        raise PianoError(
            'mcp takes a server, and the name of a prompt or the address of a resource, as in mcp("docs", "docs://readme")'
        )

    return SpecialFunction(mcp)
