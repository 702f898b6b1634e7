"""Work that cancellation must not stop halfway."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from piano_jupyter.logs import logger

log = logger(__name__)

T = TypeVar("T")


async def finish_even_if_cancelled(work: Coroutine[Any, Any, T]) -> T:
    """Finish a coroutine, for example a commit and the event that reports it; raise the cancellation only then."""
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        if not task.cancelled() and (error := task.exception()):  # the caller hears of its cancellation instead
            log.info("what was finished after a cancellation failed: %s", error)
        raise
