"""Approvals: tool calls that wait for the user's yes or no. The first answer stands; silence is a no."""

import asyncio
from uuid import UUID

from piano_jupyter.bus import EventBus
from piano_jupyter.events import ApprovalRequested
from piano_jupyter.records import ToolCall


class Approvals:
    """Asks, and keeps what was asked until it is answered."""

    def __init__(self, bus: EventBus) -> None:
        self._bus = bus
        self._waiting: dict[UUID, tuple[ApprovalRequested, asyncio.Future[bool]]] = {}

    def waiting(self) -> list[ApprovalRequested]:
        """Return what waits for an answer, oldest first."""
        return [request for request, _ in self._waiting.values()]

    async def ask(self, request: ApprovalRequested, seconds: float) -> bool:
        """Publish a request and return the answer; none within so many seconds is a no."""
        answer: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiting[request.call.id] = request, answer
        self._bus.publish(request)
        try:
            async with asyncio.timeout(seconds):
                return await answer
        except TimeoutError:
            return False
        finally:
            del self._waiting[request.call.id]

    def decide(self, call: ToolCall | UUID, *, allowed: bool) -> None:
        """Answer a request; one that is answered already, or unknown, is left as it is."""
        _, answer = self._waiting.get(call.id if isinstance(call, ToolCall) else call, (None, None))
        if answer is not None and not answer.done():
            answer.set_result(allowed)
