"""Kills the kernel and the store process of a batch in turn, and prints how much of its work is done twice.

python tests/campaigns/batch_kills.py [ROWS [KILLS [IN_FLIGHT]]]

A row is asked twice if it was in flight when its kernel died, or answered and not stored yet: at most 0.3 s before.
"""

import asyncio
import json
import os
import random
import signal
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from row_models import MARK
from store_processes import ROOT
from store_servers import ended

from piano_jupyter import Piano
from piano_jupyter.store.server.remote_store import RemoteStore

ROWS, KILLS, IN_FLIGHT = (int(each) for each in (sys.argv[1:] + ["2000", "4", "16"][len(sys.argv) - 1 :]))
SECONDS = 0.05  #: that the server takes for an answer
MOST_S = 0.3
QUESTION = "Say {{n}}"
KERNEL = f"""
import asyncio, sys
from piano_jupyter import Piano
async def main(file, url, count, in_flight):
    settings = {{"workspace": file + ".d", "embedded": "never", "max_in_flight": int(in_flight), "share": True}}
    async with Piano(database=file, base_url=url, **settings) as piano:
        await piano.map([{{"n": n}} for n in range(int(count))], "{QUESTION}", name="numbers")
asyncio.run(main(*sys.argv[1:]))
"""


class Server(asyncio.Protocol):
    """One connection. All note when each row was asked, and when its answer was sent."""

    asked, answered, more = defaultdict(list), defaultdict(list), asyncio.Event()

    def connection_made(self, transport):
        self.transport, self.received = transport, b""

    def data_received(self, data):
        self.received += data
        head, end, body = self.received.partition(b"\r\n\r\n")
        length = next((int(line[15:]) for line in head.lower().split(b"\r\n") if line[:15] == b"content-length:"), 0)
        if not end or len(body) < length:
            return
        self.received = b""
        if head.startswith(b"GET"):
            self.send({"data": [{"id": "qwen3:32b"}]})
            return
        row = json.loads(json.loads(body)["messages"][-1]["content"].rpartition(MARK)[2])["n"]
        self.asked[row].append(time.monotonic())
        asyncio.get_running_loop().call_later(SECONDS, self.answer, row)

    def answer(self, row):
        if not self.transport.is_closing():
            choice = {"index": 0, "message": {"content": f"it is {row}"}, "finish_reason": "stop"}
            self.send({"choices": [choice]})
            self.answered[row].append(time.monotonic())
            self.more.set()

    def send(self, value):
        body = json.dumps(value).encode()
        self.transport.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n")
        self.transport.write(b"content-length: %d\r\n\r\n" % len(body) + body)


async def store_process(database):
    """Return the store process of a database."""
    client = RemoteStore(database)
    await client.open()
    try:
        return client.server_pid
    finally:
        await client.close()


async def until_answered(count):
    """Return once so many rows have been answered."""
    while len(Server.answered) < count:
        Server.more.clear()
        await Server.more.wait()


def repeated(killed_at, next_at):
    """Return what was asked again between two kills: rows in flight, rows that were answered, the oldest one's age."""
    again = {row for row, times in Server.asked.items() if any(killed_at < at < next_at for at in times[1:])}
    sent = {row: [at for at in Server.answered[row] if at < killed_at] for row in again}
    ages = [killed_at - max(times) for times in sent.values() if times]
    return len(again) - len(ages), len(ages), max(ages, default=0.0)


async def main():
    """Kill, in turn, a kernel and the store process, at random moments of the batch; print what each kill cost."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Server, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    with tempfile.TemporaryDirectory() as folder:
        database, kills, kernel = Path(folder, "piano.duckdb"), [], None
        for number in range(KILLS):
            if kernel is None:
                arguments = [str(database), url, str(ROWS), str(IN_FLIGHT)]
                environment = os.environ | {"PYTHONPATH": str(ROOT), "PIANO_SHARE": "1"}
                kernel = await asyncio.create_subprocess_exec(sys.executable, "-c", KERNEL, *arguments, env=environment)
            await until_answered(ROWS * (number + 1) // (KILLS + 1) + random.randrange(ROWS // 20))
            if number % 2:
                pid, what = await store_process(database), "store process"
                os.kill(pid, signal.SIGKILL)
                kills.append((what, time.monotonic(), len(Server.answered)))
                await ended(pid)
            else:
                kernel.kill()
                kills.append(("kernel", time.monotonic(), len(Server.answered)))
                await kernel.wait()
                kernel = None
        if kernel is not None:
            await kernel.wait()
        os.environ["PIANO_SHARE"] = "1"
        async with Piano(database=database, workspace=folder, base_url=url, max_in_flight=IN_FLIGHT) as piano:
            found = await piano.map([{"n": n} for n in range(ROWS)], QUESTION, name="numbers")
    assert [row["answer"] for row in found] == [f"it is {n}" for n in range(ROWS)]
    print(f"{ROWS:,} rows at {SECONDS * 1000:g} ms, {IN_FLIGHT} in flight: every row is answered")
    ends = [at for _, at, _ in kills[1:]] + [time.monotonic()]
    for (what, at, answered), end in zip(kills, ends, strict=True):
        in_flight, lost, age = repeated(at, end)
        print(
            f"  {what:14} killed after {answered:5,} answers; asked twice: {in_flight:3} in flight, "
            f"{lost:3} answered, the oldest of them {age:.3f} s before"
        )
        assert in_flight <= IN_FLIGHT
        assert age <= MOST_S
    twice = sum(len(times) - 1 for times in Server.asked.values())
    print(f"  {twice} requests more than rows")


if __name__ == "__main__":
    asyncio.run(main())
