"""The types of the streams between a transport and the session above it."""

from typing import TypeAlias

from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
from mcp.shared.message import SessionMessage

Received: TypeAlias = MemoryObjectReceiveStream[SessionMessage | Exception]
ReceivedInto: TypeAlias = MemoryObjectSendStream[SessionMessage | Exception]
Sent: TypeAlias = MemoryObjectSendStream[SessionMessage]
SentFrom: TypeAlias = MemoryObjectReceiveStream[SessionMessage]
