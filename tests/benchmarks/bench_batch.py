"""Rows a second of a batch, beside plain asyncio with one httpx client a worker; median of interleaved pairs.

python tests/benchmarks/bench_batch.py [ROWS [IN_FLIGHT [PAIRS]]]
"""

import asyncio
import statistics
import sys
import time
from contextlib import aclosing
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from reviews import SCHEMA, TEMPLATE, plain, reviews
from rows_server import rows_server

from piano_jupyter.batch import Asker, row_key

ROWS, IN_FLIGHT, PAIRS = (int(each) for each in (sys.argv[1:] + ["2000", "64", "5"][len(sys.argv) - 1 :]))
SECONDS = 0.05
REVIEWS = reviews(ROWS)


async def asker(url):
    """Ask with `Asker`."""
    found = [None] * ROWS
    asking = Asker(url, "m", schema=SCHEMA, max_in_flight=IN_FLIGHT)
    async with asking, aclosing(asking.answers(TEMPLATE, REVIEWS)) as answers:
        async for number, answer in answers:
            found[number] = answer.value
    return found


async def measure(url, ways):
    """Return the rows a second and the CPU a row of each way, in interleaved runs."""
    speeds, cpu = {name: [] for name in ways}, {name: [] for name in ways}
    for turn in range(PAIRS + 1):
        for name, ask in ways.items():
            begun, used = time.perf_counter(), time.process_time()
            answers = await ask(url)
            assert answers == [{"stars": 4, "why": "it is good"}] * ROWS, name
            if turn:  # the first one warms up
                speeds[name].append(ROWS / (time.perf_counter() - begun))
                cpu[name].append((time.process_time() - used) / ROWS * 1e6)
    return speeds, cpu


def keys():
    """Print how long the keys of many rows take."""
    key_of, count = row_key(TEMPLATE, "m", {"temperature": 0}), 200_000
    rows = [{"id": number, "review": f"Number {number} is good."} for number in range(count)]
    begun = time.perf_counter()
    found = {key_of(row) for row in rows}
    assert len(found) == count
    print(f"keys of 1,000,000 rows       {(time.perf_counter() - begun) / count * 1e6:8.1f} s")


if __name__ == "__main__":
    with rows_server(SECONDS) as address:
        speeds, cpu = asyncio.run(
            measure(address, {"plain": lambda url: plain(url, REVIEWS, IN_FLIGHT), "Asker": asker})
        )
    print(f"{ROWS:,} rows at {SECONDS * 1000:g} ms, {IN_FLIGHT} in flight, median of {PAIRS} interleaved pairs")
    for name, found in speeds.items():
        print(f"  {name:24} {statistics.median(found):8.0f} rows/s {statistics.median(cpu[name]):8.0f} µs CPU a row")
    pairs = [mine / his for mine, his in zip(speeds["Asker"], speeds["plain"], strict=True)]
    print(f"  Asker / plain            {statistics.median(pairs):8.2f}   (at least 0.90)")
    keys()
