"""PageQuestions: what the kernel asks the pages of a panel, such as the cells of the notebook around them."""

import asyncio
from collections.abc import Callable, Iterable
from typing import Any
from uuid import uuid4

REPLY_TIMEOUT_S = 3.0


class PageQuestions:
    """Questions to pages that wait for a reply; all on the chat's loop."""

    def __init__(self, send: Callable[..., None]) -> None:
        self._send = send
        self._replies: dict[str, asyncio.Future[Any]] = {}  # by ticket: what a page replied, None if it cannot

    async def first_reply(self, pages: Iterable[str], kind: str, **content: Any) -> Any:
        """Ask one page after the other; return the first reply that is true, else None."""
        for page in pages:
            ticket = str(uuid4())
            self._replies[ticket] = asyncio.get_running_loop().create_future()
            try:
                self._send(kind, page=page, ticket=ticket, **content)
                async with asyncio.timeout(REPLY_TIMEOUT_S):
                    if reply := await self._replies[ticket]:
                        return reply
            except TimeoutError:
                continue  # a closed page, or one that cannot reach the notebook
            finally:
                del self._replies[ticket]
        return None

    def take_reply(self, ticket: str, value: Any) -> None:
        """Take in what a page replied; a reply that nobody waits for any more is ignored."""
        if (asked := self._replies.get(ticket)) is not None and not asked.done():
            asked.set_result(value)
