"""Copies that are made by themselves, over a store that only says what it is asked."""

import asyncio

import pytest

from piano_jupyter.errors import StoreError
from piano_jupyter.pipeline.rolling_backups import DAY_S, RollingBackups


class Copies:
    """A store that makes copies, or fails to, as the script has it."""

    def __init__(self, *script):
        self.script, self.asked, self.done = list(script), [], asyncio.Event()

    async def backup(self, older_than_s):
        self.asked.append(older_than_s)
        step = self.script.pop(0)
        if not self.script:
            self.done.set()
        if step is asyncio.Event:
            await asyncio.Event().wait()
        if step:
            raise StoreError(step)
        return "copy.duckdb"


@pytest.fixture
async def rolling():
    started = []

    def start(*script):
        store = Copies(*script)
        backups = RollingBackups(store, after_opening_s=0, look_each_s=0)
        backups.start()
        started.append(backups)
        return store, backups

    yield start
    for each in started:
        await each.stop()


async def test_it_looks_again_and_again_for_a_copy_that_is_a_day_old(rolling):
    store, backups = rolling("", "", asyncio.Event)
    await asyncio.wait_for(store.done.wait(), 5)

    assert store.asked == [DAY_S] * 3
    assert backups.problem == ""


async def test_a_copy_that_fails_is_told_and_tried_again(rolling, caplog):
    store, backups = rolling("the disk is full", asyncio.Event)
    await asyncio.wait_for(store.done.wait(), 5)

    assert backups.problem == "no copy of the database could be made: the disk is full"
    assert backups.problem in caplog.text


async def test_a_copy_that_succeeds_takes_the_notice_back(rolling):
    store, backups = rolling("the disk is full", "", asyncio.Event)
    await asyncio.wait_for(store.done.wait(), 5)

    assert backups.problem == ""


async def test_stopping_gives_a_copy_up_and_may_be_said_twice(rolling):
    store, backups = rolling(asyncio.Event)
    await asyncio.wait_for(store.done.wait(), 5)
    await backups.stop()
    await backups.stop()

    assert store.asked == [DAY_S]
