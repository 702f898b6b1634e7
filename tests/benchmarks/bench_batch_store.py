"""Batches with their store: speed beside plain asyncio, memory of a long one, resuming of many known rows.

python tests/benchmarks/bench_batch_store.py [speed] [memory] [resume]

Resuming is shown beside an anti-join of the same size in DuckDB alone, and beside what the keys of the rows take.
"""

import asyncio
import statistics
import sys
import tempfile
import time
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import psutil

sys.path.insert(0, str(Path(__file__).parent))

from reviews import QUESTION, SCHEMA, SYSTEM, TEMPLATE, plain, reviews
from rows_server import rows_server

from piano_jupyter import Piano, PianoError
from piano_jupyter.batch.row_key import row_key
from piano_jupyter.batch_records import BatchAnswer
from piano_jupyter.events import BatchProgress
from piano_jupyter.store.duckdb.duckdb_store import DuckDBStore

ROWS, IN_FLIGHT, PAIRS, SECONDS = 2_000, 64, 5, 0.05
MANY = 20_000
KNOWN = (300_000, 1_000_000)
AT_ONCE = 50_000
REVIEWS = reviews(ROWS)
ANTI_JOIN = "SELECT count(*) FROM wanted ANTI JOIN known USING (key)"


def opened(folder, url, **settings):
    return Piano(database=Path(folder, "piano.duckdb"), workspace=folder, base_url=url, embedded="never", **settings)


async def speed(url):
    """Return the rows a second of plain asyncio and of `map`, in interleaved runs."""
    speeds = {"plain": [], "map": []}
    for turn in range(PAIRS + 1):
        begun = time.perf_counter()
        await plain(url, REVIEWS, IN_FLIGHT)
        asked = time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            async with opened(folder, url, default_model="m", max_in_flight=IN_FLIGHT) as piano:
                await piano.update_agent("Assistant", system_prompt=SYSTEM)
                opened_at = time.perf_counter()
                found = await piano.map(REVIEWS, QUESTION, schema=SCHEMA)
                ended = time.perf_counter()
        assert all(row["stars"] == 4 for row in found)
        if turn:  # the first one warms up
            speeds["plain"].append(ROWS / (asked - begun))
            speeds["map"].append(ROWS / (ended - opened_at))
    return speeds


async def memory(url):
    """Print the memory of a long batch as it goes on."""
    rows = [{"review": f"Number {number} is good. " * 10} for number in range(MANY)]
    process, used = psutil.Process(), []
    with tempfile.TemporaryDirectory() as folder:
        async with opened(folder, url, default_model="m", max_in_flight=IN_FLIGHT) as piano:
            piano.bus.subscribe(lambda told: used.append((told.done, process.memory_info().rss / 1e6)), BatchProgress)
            await piano.map(rows, QUESTION, schema=SCHEMA)
    for part in range(11):
        done, megabytes = min(used, key=lambda each: abs(each[0] - part * MANY / 10))
        print(f"  {done:8,} rows answered {megabytes:8.1f} MB")


async def fill(database, rows, key_of):
    """Store the answers to rows as a batch that has them all; return its keys."""
    keys = [key_of(row) for row in rows]
    store, now = DuckDBStore(database), datetime.now(UTC)
    await store.open()
    batch = await store.open_batch((await store.batches())[0])
    for at in range(0, len(rows), AT_ONCE):
        answers = [
            BatchAnswer(key=key, place=place, asked=rows[place], answer={"stars": 4, "why": "good"}, answered_at=now)
            for place, key in enumerate(keys[at : at + AT_ONCE], at)
        ]
        await store.add_answers(batch.id, answers)
    await store.close()
    return keys


def anti_join(keys):
    """Return how long DuckDB alone takes to join that many keys with themselves."""
    with duckdb.connect() as connection:
        connection.execute("CREATE TABLE known AS SELECT unnest($keys)::BLOB AS key", {"keys": keys})
        connection.execute("CREATE TABLE wanted AS FROM known")
        begun = time.perf_counter()
        assert connection.execute(ANTI_JOIN).fetchall() == [(0,)]
        return time.perf_counter() - begun


async def resume(count):
    """Print how long a batch takes whose rows are all known."""
    rows = [{"review": f"Number {number} is good."} for number in range(count)]
    told = []
    with tempfile.TemporaryDirectory() as folder:
        settings = {"url": "http://127.0.0.1:9/v1", "default_model": "m", "share": False}
        async with opened(folder, **settings) as piano:
            await piano.update_agent("Assistant", system_prompt=SYSTEM)
            with suppress(PianoError):  # no server is there
                await piano.map(rows[:1], QUESTION, schema=SCHEMA, name="reviews")
        keys = await fill(Path(folder, "piano.duckdb"), rows, row_key(TEMPLATE, "m"))
        async with opened(folder, **settings) as piano:
            piano.bus.subscribe(lambda each: told.append((*now(), each)), BatchProgress)
            begun, used = now()
            found = await piano.map(rows, QUESTION, schema=SCHEMA, name="reviews")
            ended, all_used = now()
    assert len(found) == count
    assert all(row["stars"] == 4 for row in found)
    known_at, known_used, first = next(each for each in told if each[-1].read is None)
    assert first.known == count
    print(f"  {count:,} known rows     all known {known_at - begun:6.1f} s {known_used - used:6.1f} s CPU")
    print(f"                           the table {ended - begun:6.1f} s {all_used - used:6.1f} s CPU")
    key_of = row_key(TEMPLATE, "m")
    begun, used = now()
    for row in rows:
        key_of(row)
    print(f"                       its keys alone {now()[0] - begun:6.1f} s {now()[1] - used:6.1f} s CPU")
    print(f"         an anti-join in DuckDB alone {anti_join(keys):6.2f} s")


def now():
    """Return the time, and how much of the processors this process has used, in seconds."""
    return time.perf_counter(), time.process_time()


if __name__ == "__main__":
    parts = set(sys.argv[1:]) or {"speed", "memory", "resume"}
    if "speed" in parts:
        with rows_server(SECONDS) as address:
            found = asyncio.run(speed(address))
        print(f"{ROWS:,} rows at {SECONDS * 1000:g} ms, {IN_FLIGHT} in flight, median of {PAIRS} interleaved pairs")
        for name, each in found.items():
            print(f"  {name:24} {statistics.median(each):8.0f} rows/s")
        pairs = [mine / his for mine, his in zip(found["map"], found["plain"], strict=True)]
        print(f"  map / plain              {statistics.median(pairs):8.2f}   (at least 0.90)")
    if "memory" in parts:
        with rows_server(SECONDS) as address:
            asyncio.run(memory(address))
    if "resume" in parts:
        for size in KNOWN:
            asyncio.run(resume(size))
