"""MessageDispatcher: the SDK's, which takes lists item by item, and tells when the connection has ended.

The SDK refuses a whole list if one item in it does not fit the protocol. Here such an item is left out, and named.
"""

import asyncio
from collections.abc import Mapping
from typing import Any

import mcp_types as types
from mcp.shared.dispatcher import CallOptions
from mcp.shared.inbound import MCP_PROTOCOL_VERSION_HEADER
from mcp.shared.jsonrpc_dispatcher import JSONRPCDispatcher
from mcp.shared.transport_context import TransportContext
from mcp_types.methods import validate_server_result
from pydantic import BaseModel, ValidationError

from piano_jupyter.runner.tools.mcp.message_limits import MAX_LISTED

#: A method that lists something -> where its result has the items, and what each must be.
LISTS: Mapping[str, tuple[str, type[BaseModel]]] = {
    "tools/list": ("tools", types.Tool),
    "prompts/list": ("prompts", types.Prompt),
    "resources/list": ("resources", types.Resource),
}
CHECKED = (
    "piano_jupyter/checked"  #: where the meta data of a list has how long it is, and the names of what is left out
)


class MessageDispatcher(JSONRPCDispatcher[TransportContext]):
    """The dispatcher of one connection; `ended` is set when no more messages come."""

    def __init__(self, received: Any, sent: Any, ended: asyncio.Event) -> None:
        super().__init__(received, sent)
        self._ended = ended

    async def send_raw_request(
        self, method: str, params: Mapping[str, Any] | None, opts: CallOptions | None = None, **more: Any
    ) -> dict[str, Any]:
        """Send a request; return its result, a list without what does not fit the protocol. Raises MCPError."""
        result = await super().send_raw_request(method, params, opts, **more)
        version = ((opts or {}).get("headers") or {}).get(MCP_PROTOCOL_VERSION_HEADER, "")
        return _checked(method, version, result) if method in LISTS else result

    async def run(self, *handlers: Any, **more: Any) -> None:
        """Read messages until no more come."""
        try:
            await super().run(*handlers, **more)
        finally:
            self._ended.set()


def _checked(method: str, version: str, result: dict[str, Any]) -> dict[str, Any]:
    items, kind = LISTS[method]
    given = result.get(items)
    if not isinstance(given, list):
        return result
    kept, invalid = [], []
    for each in given[: MAX_LISTED + 1]:
        try:
            validate_server_result(method, version, {**result, items: [each]})
            kind.model_validate(each, by_name=False)
        except ValidationError:
            invalid.append(str(each.get("uri" if items == "resources" else "name")) if isinstance(each, dict) else "")
        else:
            kept.append(each)
    return {**result, items: kept, "_meta": {CHECKED: {"count": len(given), "invalid": invalid}}}
