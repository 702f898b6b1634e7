"""Answers a second while 1,000 messages are sent at once, beside asking one after the other in the same run.

python tests/benchmarks/bench_flood.py
"""

import asyncio
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from server import streaming_server

from piano_jupyter import Piano
from piano_jupyter.events import JobDone, JobQueued

MESSAGES = 1000
SECONDS = 9
PROMPT = "5 0"  # five tokens, as fast as they come


async def measure(url, folder, name, threads):
    """Print how many answers come in `SECONDS`: of `MESSAGES` sent at once to so many threads, or of one at a time."""
    async with Piano(database=folder / f"{threads}.duckdb", base_url=url, max_demand=1, shutdown_timeout=0) as piano:
        await piano.ask(PROMPT)
        opened = [await piano.open_thread(f"thread {number}") for number in range(threads or 1)]
        answers, queued = [], []
        piano.bus.subscribe(answers.append, JobDone)
        piano.bus.subscribe(queued.append, JobQueued)
        begun = time.perf_counter()
        if threads:
            sends = [
                asyncio.create_task(piano.send(PROMPT, thread=opened[number % threads])) for number in range(MESSAGES)
            ]
            await asyncio.sleep(SECONDS)
        else:
            sends = []
            while time.perf_counter() - begun < SECONDS:
                await piano.ask(PROMPT, thread=opened[0])
        rate, stored = len(answers) / (time.perf_counter() - begun), len(queued)
        for send in sends:
            send.cancel()
        await asyncio.gather(*sends, return_exceptions=True)
    print(f"  {name:42} {rate:8.1f} answers/s {stored:8} messages stored")
    return rate


async def main(url, folder):
    """Measure one at a time before and after each flood: other work on the machine must not pass for a difference."""
    print(f"answers within {SECONDS} s")
    for name, threads in ((f"{MESSAGES} at once, one thread", 1), (f"{MESSAGES} at once, a thread each", MESSAGES)):
        before = await measure(url, folder / f"before-{threads}", "one at a time", 0)
        rate = await measure(url, folder, name, threads)
        after = await measure(url, folder / f"after-{threads}", "one at a time", 0)
        print(f"  {'share':42} {rate / ((before + after) / 2):8.0%}")


if __name__ == "__main__":
    with streaming_server() as address, tempfile.TemporaryDirectory() as temporary:
        asyncio.run(main(address, Path(temporary)))
