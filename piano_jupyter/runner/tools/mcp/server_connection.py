"""McpConnection: one connection to an MCP server, through the SDK. This module and the transports alone import it.

The SDK is slow to import, so this module is imported when a server is first used. Of what a server may ask of its
client only the workspace's folder (roots) is told; requests to ask the model (sampling) or the user (elicitation) are
refused, also where they come in place of a result. A result is not checked against the server's own schema for it,
which could keep the kernel busy for ever.
"""

import logging
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import mcp_types as types
from mcp.client.session import ClientRequestContext, ClientSession, IncomingMessage
from mcp.shared.dispatcher import ProgressFnT
from mcp.shared.exceptions import MCPError
from pydantic import FileUrl, ValidationError

from piano_jupyter.config import PianoConfig
from piano_jupyter.errors import PianoError, ToolError
from piano_jupyter.logs import logger
from piano_jupyter.mcp_server import McpServerSettings
from piano_jupyter.runner.tools.mcp.http_transport import STATUS, HttpTransport
from piano_jupyter.runner.tools.mcp.message_dispatcher import CHECKED, MessageDispatcher
from piano_jupyter.runner.tools.mcp.message_limits import MAX_LISTED, MAX_PAGES
from piano_jupyter.runner.tools.mcp.stdio_transport import StdioTransport
from piano_jupyter.text.truncation import truncated

log = logger(__name__)
ours: ContextVar[bool] = ContextVar("ours", default=False)  #: set where the SDK works for Piano
MAX_ERROR_CHARS = 500
STAND_INS = frozenset({"Not Found", "Server returned an error response", "Session terminated"})  #: the SDK's messages
CLOSED = frozenset({"Connection closed", "Session terminated"})  #: the SDK's messages
NOISY_LOGS = (
    *("mcp.client.session", "mcp.client.streamable_http", "mcp.shared.jsonrpc_dispatcher", "client"),
    *("httpx2", "httpcore2.connection", "httpcore2.http11", "httpcore2.proxy", "httpcore2.socks"),
)
Lists = Literal["tools", "prompts", "resources"]
CHANGES = (
    types.ToolListChangedNotification,
    types.PromptListChangedNotification,
    types.ResourceListChangedNotification,
)


def _quiet(_: logging.LogRecord) -> bool:
    """Return whether a record is none of Piano's: what a server sends must not get into cells and logs as it is."""
    return not ours.get()


for _name in NOISY_LOGS:
    logging.getLogger(_name).addFilter(_quiet)


class _Session(ClientSession):
    """A session that takes results as they are."""

    async def validate_tool_result(self, name: str, result: types.CallToolResult) -> None:
        """Check nothing: the schema is the server's own."""


@dataclass(frozen=True, slots=True)
class Listed:
    """What a server lists, as it comes; the names of what does not fit the protocol; a note if there is more."""

    items: list[dict[str, Any]]
    invalid: list[str]
    note: str = ""


class McpConnection:
    """An open connection."""

    def __init__(self, session: ClientSession, transport: "Transport") -> None:
        self._session, self.transport = session, transport

    async def list(self, what: Lists) -> Listed:
        """Return the tools, prompts or resources of the server; none if it says that it has no such list."""
        capabilities = self._session.server_capabilities
        may_say_nothing = what == "tools" and self._session.discover_result is not None
        if capabilities is not None and getattr(capabilities, what) is None and not may_say_nothing:
            return Listed([], [])
        items: list[dict[str, Any]] = []
        invalid: list[str] = []
        cursor: str | None = None
        cursors, count = set[str | None](), 0
        for _ in range(MAX_PAGES):
            params = types.PaginatedRequestParams(cursor=cursor) if cursor is not None else None
            page = await getattr(self._session, f"list_{what}")(params=params)
            items += [each.model_dump(by_alias=True, exclude_none=True) for each in getattr(page, what)]
            checked = (page.meta or {})[CHECKED]
            invalid, count = [*invalid, *checked["invalid"]][:MAX_LISTED], count + checked["count"]
            cursors.add(cursor)
            cursor = page.next_cursor
            if cursor is None or cursor in cursors or count > MAX_LISTED:
                break
        note = f"its list of {what} does not end; the rest is left out"
        if cursor is None:
            note = f"it has {count} {what}, of which the first {MAX_LISTED} are used" if count > MAX_LISTED else ""
        return Listed(items[:MAX_LISTED], invalid, note)

    async def call_tool(self, name: str, arguments: Mapping[str, Any], progress: ProgressFnT) -> dict[str, Any]:
        """Call a tool; return its result as it comes. Raises ToolError with the server's error."""
        ours.set(True)
        return _result(
            await self._session.call_tool(name, dict(arguments), progress_callback=progress, allow_input_required=True)
        )

    async def read_resource(self, uri: str) -> dict[str, Any]:
        """Return what a resource contains, as it comes."""
        return _result(await self._session.read_resource(uri, allow_input_required=True))

    async def get_prompt(self, name: str, arguments: Mapping[str, str]) -> dict[str, Any]:
        """Return the messages of a prompt, as they come."""
        return _result(await self._session.get_prompt(name, dict(arguments), allow_input_required=True))


def _result(result: types.Result) -> dict[str, Any]:
    if isinstance(result, types.InputRequiredResult):
        raise ToolError("it asks for the model or for you in place of a result, which is refused")
    return result.model_dump(by_alias=True, exclude_none=True)


Transport = StdioTransport | HttpTransport


def transport_to(
    settings: McpServerSettings, config: PianoConfig, workspace: str, environ: Mapping[str, str]
) -> Transport:
    """Return a way to reach a server, not opened yet. Raises PianoError if the environment lacks a variable."""
    ours.set(True)
    known = settings.expanded(environ)
    return HttpTransport(known, config) if known.url else StdioTransport(known, workspace, environ)


@asynccontextmanager
async def connect(
    transport: Transport, workspace: str, on_list_changed: Callable[[], None]
) -> AsyncIterator[McpConnection]:
    """Connect to a server, and agree on the protocol. Raises PianoError, or one of the SDK's errors."""

    async def roots(context: ClientRequestContext) -> types.ListRootsResult:  # noqa: ARG001  The name is the protocol's.
        return types.ListRootsResult(roots=[types.Root(uri=FileUrl(Path(workspace).as_uri()), name="workspace")])

    async def on_message(message: IncomingMessage) -> None:
        if isinstance(message, CHANGES):
            on_list_changed()

    client = types.Implementation(name="piano_jupyter", version="0.1")
    async with transport.streams() as (received, sent):
        dispatcher = MessageDispatcher(received, sent, transport.ended)
        async with _Session(
            dispatcher=dispatcher, list_roots_callback=roots, message_handler=on_message, client_info=client
        ) as session:
            try:
                await session.initialize()
            except MCPError as error:
                if is_closed(error):
                    raise
                await session.discover()  # a server that speaks only what came after the handshake
            yield McpConnection(session, transport)


def sentence(error: BaseException, reason: str = "") -> str:
    """Return what is wrong, in the words of Piano or of the server, on one line; `reason` is the transport's."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    match error:
        case ToolError() | PianoError():
            text = str(error)
        case MCPError() if is_refusal(reason) and error.message not in STAND_INS:
            text = f"{reason}: {error.message}"  # which the server sent with its status
        case _ if reason:
            text = reason
        case MCPError() if is_closed(error):
            text = "it ended"
        case MCPError() if error.code != types.PARSE_ERROR:
            text = error.message
        case MCPError() | ValidationError():
            text = "it sent what does not fit the protocol"
        case TimeoutError():
            text = "it did not answer in time"
        case RuntimeError():  # the SDK's, on versions of the protocol
            text = str(error)
        case _:
            text = f"{type(error).__name__}: {error}"
    return truncated(" ".join(text.split()), MAX_ERROR_CHARS) or type(error).__name__


def is_refusal(reason: str) -> bool:
    """Return whether the server has answered with a status: it may have forgotten the session, or the key is old."""
    return reason.startswith(STATUS)


def is_closed(error: BaseException) -> bool:
    """Return whether an error means that the connection is gone. Its code alone says nothing: servers use it, too."""
    return isinstance(error, MCPError) and error.message in CLOSED
