"""The writer's thread: who is served together, who fails alone, who is never forgotten."""

import asyncio
import threading

import pytest

from piano_jupyter.errors import StoreError
from piano_jupyter.store.duckdb.writer import WriterThread


class Ledger:
    """A connection that notes what was asked of it; what is not committed is lost."""

    def __init__(self):
        self.kept = []
        self.commits = 0
        self.threads = set()
        self.closed = False

    def begin(self):
        self.open = []
        self.threads.add(threading.current_thread())

    def commit(self):
        if "full disk" in self.open:
            raise OSError("full disk")
        self.kept += self.open
        self.commits += 1

    def rollback(self):
        self.open = []

    def close(self):
        self.closed = True

    def write(self, word):
        self.open.append(word)
        if word == "guilty":
            raise ValueError(word)
        return word.upper()


@pytest.fixture
async def ledger_and_writer():
    ledger = Ledger()
    writer = WriterThread(lambda: ledger, "ledger")
    await writer.open()
    yield ledger, writer
    await writer.close()


async def together(writer, words):
    """Ask for all the words while the thread is busy with something else, so that they wait for it as one group."""
    gate = threading.Event()
    busy = asyncio.ensure_future(writer.run(lambda _: gate.wait(20)))
    asked = [asyncio.ensure_future(writer.run(lambda ledger, word=word: ledger.write(word))) for word in words]
    await asyncio.sleep(0)
    gate.set()
    await busy
    return await asyncio.gather(*asked, return_exceptions=True)


async def test_queued_functions_are_committed_together_in_order(ledger_and_writer):
    ledger, writer = ledger_and_writer
    said = await together(writer, ["a", "b", "c", "d"])

    assert said == ["A", "B", "C", "D"]
    assert ledger.kept == ["a", "b", "c", "d"]
    assert ledger.commits < 4
    assert ledger.threads == {next(each for each in threading.enumerate() if each.name == "piano-store")}


@pytest.mark.parametrize(("word", "kind"), [("guilty", ValueError), ("full disk", OSError)])
async def test_one_failing_function_does_not_fail_its_group(ledger_and_writer, word, kind):
    ledger, writer = ledger_and_writer
    first, failed, last = await together(writer, ["a", word, "b"])

    assert (first, last) == ("A", "B")
    assert isinstance(failed, kind)
    assert ledger.kept == ["a", "b"]


async def test_alone_runs_after_earlier_work_and_outside_a_transaction(ledger_and_writer):
    ledger, writer = ledger_and_writer
    gate = threading.Event()
    asked = [asyncio.ensure_future(writer.run(lambda _: gate.wait(20)))]
    asked.append(asyncio.ensure_future(writer.run(lambda ledger: ledger.write("before"))))
    asked.append(asyncio.ensure_future(writer.run(lambda ledger: list(ledger.kept), alone=True)))
    asked.append(asyncio.ensure_future(writer.run(lambda ledger: ledger.write("after"))))
    await asyncio.sleep(0)
    gate.set()
    _, _, seen, _ = await asyncio.gather(*asked)

    assert seen == ["before"]
    assert ledger.kept == ["before", "after"]


async def test_closing_finishes_queued_work_and_accepts_no_more(ledger_and_writer):
    ledger, writer = ledger_and_writer
    gate = threading.Event()
    busy = asyncio.ensure_future(writer.run(lambda _: gate.wait(20)))
    asked = asyncio.ensure_future(writer.run(lambda ledger: ledger.write("owed")))
    closing = [asyncio.ensure_future(writer.close()) for _ in range(2)]
    await asyncio.sleep(0)
    with pytest.raises(StoreError, match="database ledger is closed"):
        await writer.run(lambda ledger: ledger.write("late"))
    gate.set()
    await asyncio.gather(busy, asked, *closing)

    assert ledger.kept == ["owed"]
    assert ledger.closed


async def test_a_failed_connection_is_reported_and_closes_the_thread():
    def refuse():
        raise StoreError("no")

    writer = WriterThread(refuse, "ledger")

    with pytest.raises(StoreError, match="no"):
        await writer.open()
    with pytest.raises(StoreError, match="is closed"):
        await writer.run(lambda _: None)
    await writer.close()


def test_a_closed_event_loop_does_not_stop_the_thread():
    ledger = Ledger()
    writer = WriterThread(lambda: ledger, "ledger")
    gate = threading.Event()

    async def leave():
        await writer.open()
        task = asyncio.ensure_future(writer.run(lambda ledger: gate.wait(20) and ledger.write("left")))
        await asyncio.sleep(0)
        task.cancel()

    async def come():
        gate.set()
        return await writer.run(lambda ledger: ledger.write("came"))

    asyncio.run(leave())
    said = asyncio.run(come())
    writer.close_now(20)

    assert said == "CAME"
    assert ledger.kept == ["left", "came"]
    assert ledger.closed


async def test_a_writer_closed_before_it_is_opened_answers_all_and_cannot_be_opened():
    writer = WriterThread(Ledger, "ledger")
    asked = asyncio.ensure_future(writer.run(lambda ledger: ledger.write("early")))
    await asyncio.sleep(0)  # it stands in line
    await asyncio.wait_for(writer.close(), 20)

    with pytest.raises(StoreError, match="database ledger is closed"):
        await asyncio.wait_for(asked, 20)
    with pytest.raises(StoreError, match="database ledger is closed"):
        await writer.open()
