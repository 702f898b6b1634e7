"""Refresher: what other notebooks did is read again, also where that fails at first."""

import asyncio
from types import SimpleNamespace

from piano_jupyter.errors import StoreError
from piano_jupyter.events import EventsMissed
from piano_jupyter.pipeline.refresher import Refresher


async def test_what_cannot_be_read_is_read_again_soon_for_somebody_may_wait_for_it():
    published, failures = asyncio.Queue(), [StoreError("the store process was killed")]

    async def step():
        if failures:
            raise failures.pop()

    async def find_left():
        return []

    refresher = Refresher(None, SimpleNamespace(expected=()), [step], find_left, published.put_nowait)
    refresher.begin()

    assert await asyncio.wait_for(published.get(), 20) == EventsMissed()
    await refresher.stop()
    refresher.begin()  # others may be told to be gone while the store is being closed
    await asyncio.sleep(0)
    assert not failures
    assert published.empty()
    assert len(asyncio.all_tasks()) == 1
