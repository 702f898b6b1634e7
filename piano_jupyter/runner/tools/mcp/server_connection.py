"""McpConnection: one connection to an MCP server, through the SDK. This module and the transports alone import it.

The SDK is slow to import, so this module is imported when a server is first used. Of what a server may ask of its
client only the workspace's folder (roots) is told; requests to ask the model (sampling) or the user (elicitation) are
refused. A result is not checked against the server's own schema for it, which could keep the kernel busy for ever.
"""

import logging
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import mcp_types as types
from mcp.client.session import ClientRequestContext, ClientSession, IncomingMessage
from mcp.shared.dispatcher import ProgressFnT
from mcp.shared.exceptions import MCPError
from pydantic import FileUrl, ValidationError

from piano_jupyter.errors import PianoError, ToolError
from piano_jupyter.logs import logger
from piano_jupyter.mcp_server import McpServerSettings
from piano_jupyter.runner.tools.mcp.http_transport import HttpTransport
from piano_jupyter.runner.tools.mcp.message_limits import MAX_PAGES, MAX_TOOLS
from piano_jupyter.runner.tools.mcp.stdio_transport import StdioTransport
from piano_jupyter.text.truncation import truncated

log = logger(__name__)
ours: ContextVar[bool] = ContextVar("ours", default=False)  #: set where the SDK works for Piano
MAX_ERROR_CHARS = 500
NOISY_LOGS = ("mcp.client.session", "mcp.client.streamable_http", "mcp.shared.jsonrpc_dispatcher", "client", "httpx2")


def _quiet(_: logging.LogRecord) -> bool:
    """Return whether a record is none of Piano's: what a server sends must not get into cells and logs as it is."""
    return not ours.get()


for _name in NOISY_LOGS:
    logging.getLogger(_name).addFilter(_quiet)


class _Session(ClientSession):
    """A session that takes results as they are."""

    async def validate_tool_result(self, name: str, result: types.CallToolResult) -> None:
        """Check nothing: the schema is the server's own."""


class McpConnection:
    """An open connection."""

    def __init__(self, session: ClientSession, transport: "Transport") -> None:
        self._session, self.transport = session, transport

    async def list_tools(self) -> tuple[list[dict[str, Any]], str]:
        """Return the server's tools as they come, and a note if there are more than are read."""
        capabilities = self._session.server_capabilities
        if capabilities is not None and capabilities.tools is None and not self._session.discover_result:
            return [], ""
        tools: list[dict[str, Any]] = []
        cursor: str | None = None
        cursors = set[str | None]()
        for _ in range(MAX_PAGES):
            params = types.PaginatedRequestParams(cursor=cursor) if cursor is not None else None
            page = await self._session.list_tools(params=params)
            tools += [each.model_dump(by_alias=True, exclude_none=True) for each in page.tools]
            cursors.add(cursor)
            cursor = page.next_cursor
            if cursor is None:
                return tools[:MAX_TOOLS], _too_many(len(tools)) if len(tools) > MAX_TOOLS else ""
            if cursor in cursors or len(tools) > MAX_TOOLS:
                break
        return tools[:MAX_TOOLS], "its list of tools does not end; the rest is left out"

    async def call_tool(self, name: str, arguments: Mapping[str, Any], progress: ProgressFnT) -> dict[str, Any]:
        """Call a tool; return its result as it comes. Raises ToolError with the server's error."""
        ours.set(True)
        result = await self._session.call_tool(name, dict(arguments), progress_callback=progress)
        return result.model_dump(by_alias=True, exclude_none=True)

    async def read_resource(self, uri: str) -> dict[str, Any]:
        """Return what a resource contains, as it comes."""
        result = await self._session.read_resource(uri)
        return result.model_dump(by_alias=True, exclude_none=True)


Transport = StdioTransport | HttpTransport


def transport_to(settings: McpServerSettings, workspace: str, environ: Mapping[str, str]) -> Transport:
    """Return a way to reach a server, not opened yet. Raises PianoError if the environment lacks a variable."""
    ours.set(True)
    known = settings.expanded(environ)
    return HttpTransport(known) if known.url else StdioTransport(known, workspace, environ)


@asynccontextmanager
async def connect(
    transport: Transport, workspace: str, on_list_changed: Callable[[], None]
) -> AsyncIterator[McpConnection]:
    """Connect to a server, and agree on the protocol. Raises PianoError, or one of the SDK's errors."""

    async def roots(context: ClientRequestContext) -> types.ListRootsResult:  # noqa: ARG001  The name is the protocol's.
        return types.ListRootsResult(roots=[types.Root(uri=FileUrl(Path(workspace).as_uri()), name="workspace")])

    async def on_message(message: IncomingMessage) -> None:
        if isinstance(message, types.ToolListChangedNotification):
            on_list_changed()

    client = types.Implementation(name="piano_jupyter", version="0.1")
    async with (
        transport.streams() as (received, sent),
        _Session(received, sent, list_roots_callback=roots, message_handler=on_message, client_info=client) as session,
    ):
        try:
            await session.initialize()
        except MCPError as error:
            if error.code == types.CONNECTION_CLOSED:
                raise
            await session.discover()  # a server that speaks only what came after the handshake
        yield McpConnection(session, transport)


def sentence(error: BaseException) -> str:
    """Return what is wrong, in the words of Piano or of the server, on one line."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    match error:
        case ToolError() | PianoError():
            text = str(error)
        case MCPError():
            text = error.message
        case ValidationError():
            text = "it sent what does not fit the protocol"
        case TimeoutError():
            text = "it did not answer in time"
        case _:
            text = f"{type(error).__name__}: {error}"
    return truncated(" ".join(text.split()), MAX_ERROR_CHARS) or type(error).__name__


def is_closed(error: BaseException) -> bool:
    """Return whether an error means that the connection is gone."""
    return isinstance(error, MCPError) and (
        error.code == types.CONNECTION_CLOSED or error.message == "Session terminated"
    )


def _too_many(count: int) -> str:
    return f"it has {count} tools, of which the first {MAX_TOOLS} are used"
