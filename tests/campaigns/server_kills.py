"""Kills the store process again and again while other processes work, and counts what they were told is kept.

python tests/campaigns/server_kills.py [kills] [seed]
"""

import asyncio
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from contextlib import AsyncExitStack, suppress
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from store_processes import PRELUDE, ROOT, opened
from store_servers import ended

from piano_jupyter.records import JobStatus
from piano_jupyter.store.server.remote_store import RemoteStore

CLIENTS = 4
MAX_ROUNDS_TO_KILL = 12
#: Asks, claims when it is its turn, answers and reads until its input ends; says what it was told is kept.
WORKER = """
from dataclasses import replace
from piano_jupyter.store.base import Turn
from piano_jupyter.store.server.remote_store import Listener, RemoteStore
turn = Turn(max_demand=2, max_wait_s=60)
async def work():
    owner, stirred = sys.argv[2], asyncio.Event()
    listener = Listener(lambda _: None, lambda _: None, stirred.set, stirred.set)
    store = RemoteStore(path, owner=owner, options=("--idle-s=0",), listener=listener)
    await store.open()
    async def claim(job):
        request = clock.new_id()
        while True:
            stirred.clear()
            if claimed := await store.claim_next(request, owner, [job.id], clock.now(), turn):
                return claimed
            await stirred.wait()
    ended = asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    number = 0
    while not ended.done():
        asked = message(f"{owner} {number}")
        kept, [asked_job] = await store.enqueue(asked, [job(asked)])
        claimed = await claim(asked_job)
        answer = replace(message(), thread_id=asked.thread_id, job_id=asked_job.id, role="assistant")
        done = await store.ack(claimed, answer, clock.now())
        read = await store.messages(asked.thread_id)
        assert [each.id for each in read] == [asked.id, answer.id], read
        print(asked.id, asked_job.id, answer.id, flush=True)
        number += 1
    await store.close()
asyncio.run(work())
"""


class Worker:
    """A process that works; `rounds` is what it was told is kept: question, job and answer."""

    def __init__(self, process, progress):
        self.process, self.rounds = process, []
        self._progress = progress

    async def follow(self):
        """Take in what it says until it ends."""
        async for line in self.process.stdout:
            self.rounds.append(line.decode().split())
            self._progress.set()

    async def stop(self):
        """Let it finish its round; fail where it has failed."""
        self.process.stdin.close()
        assert await self.process.wait() == 0, (await self.process.stderr.read()).decode()


async def run_campaign(file, kills, seed):
    """Kill the process so many times, each after some random progress; return how many rounds were kept."""
    choose, progress = random.Random(seed), asyncio.Event()
    async with AsyncExitStack() as stack:
        workers = [await started_worker(stack, file, f"worker-{number}", progress) for number in range(CLIENTS)]
        following = [asyncio.create_task(worker.follow()) for worker in workers]
        watcher = RemoteStore(file, owner="watcher", options=("--idle-s=0",))
        await watcher.open()
        for _ in range(kills):
            wanted = sum(len(each.rounds) for each in workers) + choose.randint(1, MAX_ROUNDS_TO_KILL)
            while sum(len(each.rounds) for each in workers) < wanted:
                progress.clear()
                await progress.wait()
            await watcher.clients()  # it knows the process that runs now
            with suppress(ProcessLookupError):
                os.kill(watcher.server_pid, signal.SIGKILL)
        await asyncio.gather(*(worker.stop() for worker in workers))
        await asyncio.gather(*following)
        await watcher.counts()
        last = watcher.server_pid
        await watcher.close()
        await ended(last)
    rounds = [each for worker in workers for each in worker.rounds]
    await check(file, rounds)
    return len(rounds)


async def started_worker(stack, file, owner, progress):
    """Start a worker; it is killed at the latest when the stack ends."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", PRELUDE + WORKER, str(file), owner),
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )

    def kill():
        if process.returncode is None:
            process.kill()

    stack.callback(kill)
    return Worker(process, progress)


async def check(file, rounds):
    """Fail where something that a worker was told is kept is not there, or is there more than once."""
    async with opened(file) as store:
        jobs = {str(job.id): job for job in await store.jobs()}
        rows = await store.sql("SELECT id::VARCHAR, job_id::VARCHAR, role, content FROM messages")
    messages = {row[0] for row in rows}
    answers = Counter(job for _, job, role, _ in rows if role == "assistant")
    questions = Counter(content for _, _, role, content in rows if role == "user")
    for question, job, answer in rounds:
        assert {question, answer} <= messages
        assert jobs[job].status is JobStatus.DONE
        assert jobs[job].attempt == 1
    assert set(answers.values()) == {1}
    assert set(questions.values()) == {1}
    assert len(rounds) == len(jobs) == len(questions)


async def main(kills, seed):
    """Print what a campaign did."""
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        rounds = await run_campaign(Path(folder, "piano.duckdb"), kills, seed)
    print(
        f"{kills} kills (seed {seed}) in {time.monotonic() - begun:.0f} s: {rounds} rounds kept, none lost or doubled"
    )


if __name__ == "__main__":
    asyncio.run(main(*[int(each) for each in (sys.argv[1:] + ["30", "0"][len(sys.argv) - 1 :])]))
