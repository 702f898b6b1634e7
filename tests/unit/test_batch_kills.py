"""A batch whose kernel and whose store process are killed in the middle: only what was in flight is asked twice.

How old answers are that were not stored yet, is measured by `campaigns/batch_kills.py`.
"""

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from contextlib import contextmanager

from row_models import MARK
from store_processes import ROOT
from store_servers import ended

from piano_jupyter import Notebook, Piano
from piano_jupyter.batch_records import BatchStatus
from piano_jupyter.store.server.remote_store import RemoteStore
from piano_jupyter.testing import ScriptedServer

COUNT, IN_FLIGHT = 200, 4
BETWEEN_KILLS = 40  #: rows that are answered before each kill
DEADLINE_S = 120
KERNEL = """
import asyncio, sys
from piano_jupyter import Notebook, Piano
async def main(file, url, count):
    settings = {"workspace": file + ".d", "embedded": "never", "max_in_flight": 4, "share": True}
    async with Piano(database=file, base_url=url, notebook=Notebook("k", "/a.ipynb"), **settings) as piano:
        await piano.map([{"n": n} for n in range(int(count))], "Say {{n}}", name="numbers")
asyncio.run(main(*sys.argv[1:]))
"""


@contextmanager
def kernel(*arguments):
    """Run a kernel that maps; at the end it is killed."""
    with subprocess.Popen(
        [sys.executable, "-c", KERNEL, *map(str, arguments)], env=os.environ | {"PYTHONPATH": str(ROOT)}
    ) as process:
        try:
            yield process
        finally:
            process.kill()


async def stored(database, wanted):
    """Return the store process of a database, once a batch in it has as many answers as `wanted` says."""
    client = RemoteStore(database)
    await client.open()
    try:
        while sum(each.done for each in await client.batches()) < wanted():
            await asyncio.to_thread(threading.Event().wait, 0.02)
        assert client.server_pid  # 0 would be all of us
        return client.server_pid
    finally:
        await client.close()


async def test_r30_a_batch_survives_kills_of_its_kernel_and_of_the_store_process(tmp_path, monkeypatch):
    monkeypatch.setenv("PIANO_SHARE", "1")
    database, asked, may_answer = tmp_path / "piano.duckdb", Counter(), threading.Semaphore(0)
    kernels, answers, kept = [], [], set()  #: `kept` are the rows that were answered to a kernel that lived

    def answer(request):
        row, asking = json.loads(request["messages"][-1]["content"].rpartition(MARK)[2]), kernels[-1]
        asked[row["n"]] += 1
        may_answer.acquire()
        if asking is kernels[-1]:
            kept.add(row["n"])
        answers.append(row["n"])
        return f"it is {row['n']}"

    with ScriptedServer(answer=answer, models=["qwen3:32b"]) as server:
        released = 0
        wanted = {
            "store": lambda: released - BETWEEN_KILLS // 2,  # the others are with the kernel
            "kernel": lambda: len(kept) if len(answers) == released else COUNT,  # all: what is left is in flight
        }
        async with asyncio.timeout(DEADLINE_S):
            for _ in range(2):
                with kernel(database, server.url, COUNT) as process:
                    kernels.append(process)
                    for victim in ("store", "kernel"):
                        may_answer.release(BETWEEN_KILLS)
                        released += BETWEEN_KILLS
                        pid = await stored(database, wanted[victim])
                        if victim == "store":
                            os.kill(pid, signal.SIGKILL)
                            await ended(pid)
        before = len(kept)
        kernels.append(None)
        may_answer.release(10 * COUNT)
        settings = {"workspace": tmp_path, "base_url": server.url, "embedded": "never"}
        async with Piano(database=database, notebook=Notebook("k2", "/b.ipynb"), **settings) as piano:
            left = await piano.batch("numbers")
            found = await piano.map([{"n": n} for n in range(COUNT)], "Say {{n}}", name="numbers")
            rows = await piano.sql("SELECT count(*), count(DISTINCT key) FROM batch_answers")

    assert [row["answer"] for row in found] == [f"it is {n}" for n in range(COUNT)]
    assert left.status is BatchStatus.INTERRUPTED
    assert left.done == before >= 4 * BETWEEN_KILLS - IN_FLIGHT
    assert list(rows) == [(COUNT, COUNT)]
    assert asked.total() - COUNT <= 2 * IN_FLIGHT
