"""What an ask costs late in a thread: CPU of this process at turn 20 and at turn 2,000, the window full in both.

python tests/benchmarks/bench_turns.py [--profile]
"""

import asyncio
import cProfile
import pstats
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from server import streaming_server

from piano_jupyter import Piano

EARLY, LATE = 20, 2_000  # turns
ASKS = 40  # that are measured from there on
WINDOW = 4_096  # tokens
QUESTION = "40 0 " + "the figures of the third quarter are higher than those of the second one, as we know. " * 16


async def cost(piano, asks):
    """Return the median CPU of an ask, in milliseconds."""
    taken = []
    for _ in range(asks):
        begun = time.process_time()
        await piano.ask(QUESTION)
        taken.append((time.process_time() - begun) * 1000)
    return statistics.median(taken)


async def main(url, folder):
    async with Piano(database=folder / "turns.duckdb", workspace=folder, base_url=url) as piano:
        await piano.open_thread("long")
        await cost(piano, EARLY)
        early = await cost(piano, ASKS)
        print(f"an ask at turn {EARLY:5,}    {early:6.1f} ms CPU", flush=True)
        await cost(piano, LATE - EARLY - ASKS)
        with cProfile.Profile() if "--profile" in sys.argv else tempfile.TemporaryFile() as profile:
            late = await cost(piano, ASKS)
        print(f"an ask at turn {LATE:5,}    {late:6.1f} ms CPU, {late / early:.2f} times that   (limit 1.20)")
        if "--profile" in sys.argv:
            pstats.Stats(profile).sort_stats("tottime").print_stats(25)
        begun = time.process_time()
        piano.thread = await piano.find_thread("long")
        notes = await piano.sql("SELECT count(*) FROM messages WHERE role = 'system'")
        print(f"   notes on what left the window: {notes[0][0]}; {time.process_time() - begun:.3f} s CPU to look")


if __name__ == "__main__":
    with streaming_server(WINDOW) as address, tempfile.TemporaryDirectory() as temporary:
        asyncio.run(main(address, Path(temporary)))
