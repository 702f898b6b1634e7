"""The store at a million messages, beside SQLite with FTS5 on the same data: each figure from the same run.

SQLite gives rows, the store records. FTS5 finds words, the store parts of words and phrases too.

python tests/benchmarks/bench_store.py [messages]
"""

import asyncio
import itertools
import sqlite3
import statistics
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from million import FEW, RARE, fill_duckdb, fill_sqlite

from piano_jupyter.clock import Clock
from piano_jupyter.records import Job, JobStatus, Message
from piano_jupyter.store.duckdb.duckdb_store import DuckDBStore

REPEATS = 15
RATE = 100  # messages a second
SECONDS = 10
READERS, PAUSE = 10, 0.25  # seconds between two reads of one reader
SEARCHES = {
    "a rare word": RARE,
    "a word in one of 2,000": FEW,
    "a common word": "vertuzula",
    "two common words": "vertuzula kise",
    "a common and a rare word": f"vertuzula {RARE}",
    "a phrase": '"vertuzula kise"',
    "a word that is nowhere": "platypus",
    "a part of words": "ertuzul",
}


class SQLite:
    """The same operations on SQLite, on one thread, each a transaction; a commit is flushed to the disk, as with us."""

    def __init__(self, path):
        self.path = path
        self._thread = ThreadPoolExecutor(1)

    async def open(self):
        await self._do(self._open)

    def _open(self):
        self.connection = sqlite3.connect(self.path, isolation_level=None)
        self.connection.execute("PRAGMA synchronous = FULL")
        self._all("SELECT * FROM jobs WHERE status IN ('running', 'queued') ORDER BY seq")

    async def close(self):
        await self._do(self.connection.close)
        self._thread.shutdown()

    async def threads(self):
        return await self._do(self._all, "SELECT * FROM threads ORDER BY seq DESC")

    async def messages(self, thread_id, last):
        query = "SELECT * FROM messages WHERE thread_id = ? ORDER BY seq DESC LIMIT ?"
        return await self._do(self._all, query, thread_id.bytes, last)

    async def search(self, text, limit):
        query = """SELECT m.*, snippet(said, 0, '[', ']', '…', 24) FROM said JOIN messages m ON m.seq = said.rowid
            WHERE said MATCH ? ORDER BY bm25(said) LIMIT ?"""
        return await self._do(self._all, query, text, limit)

    async def enqueue(self, message, jobs):
        (job,) = jobs
        asked = [
            job.id.bytes, job.thread_id.bytes, message.id.bytes, job.agent_id.bytes, job.model, str(job.inserted_at)
        ]  # fmt: skip
        add_job = """INSERT INTO jobs (id, thread_id, message_id, agent_id, model, status, attempt, inserted_at)
            VALUES (?, ?, ?, ?, ?, 'queued', 0, ?)"""
        await self._do(self._write, self._added(message), (add_job, asked))
        return message, [job]

    async def claim_next(self, _, owner, wanted, now):
        move = "UPDATE jobs SET status = 'running', attempt = 1, owner = ?, started_at = ? WHERE id = ?"
        await self._do(self._write, (move, [owner, str(now), wanted[0].bytes]))

    async def ack(self, job, answer, now):
        done = "UPDATE jobs SET status = 'done', finished_at = ? WHERE id = ? AND status = 'running'"
        await self._do(self._write, (done, [str(now), job.id.bytes]), self._added(answer))

    def _added(self, message):
        query = """INSERT INTO messages (id, thread_id, role, content, source, reasoning, usage, inserted_at)
            VALUES (?, ?, ?, ?, 'api', '', '{}', ?)"""
        told = message.inserted_at
        return query, [message.id.bytes, message.thread_id.bytes, message.role, message.content, str(told)]

    def _write(self, *statements):
        self.connection.execute("BEGIN IMMEDIATE")
        for statement in statements:
            self.connection.execute(*statement)
        self.connection.execute("COMMIT")

    def _all(self, query, *values):
        return self.connection.execute(query, values).fetchall()

    def _do(self, function, *values):
        return asyncio.get_running_loop().run_in_executor(self._thread, function, *values)


async def taken(operation, repeats):
    """Return how long an operation takes: its first time and the median of the others, in milliseconds."""
    times = []
    for _ in range(repeats):
        begun = time.perf_counter()
        await operation()
        times.append((time.perf_counter() - begun) * 1000)
    return times[0], statistics.median(times[1:])


async def reads(ours, lite):
    """Print how long reads take, side by side."""
    threads = await ours.threads()
    picks = {store: itertools.cycle(threads[:: len(threads) // REPEATS]) for store in (ours, lite)}
    rows = {
        "list 1,000 threads": (lambda store: store.threads(), REPEATS),
        "last 50 of a thread": (lambda store: store.messages(next(picks[store]).id, 50), REPEATS),
        "a thread, whole": (
            lambda store: store.messages(next(picks[store]).id, -1 if store is lite else None),
            REPEATS,
        ),
    } | {f"search {name}": (lambda store, text=text: store.search(text, 20), 4) for name, text in SEARCHES.items()}
    for name, (operation, repeats) in rows.items():
        figures = [await taken(lambda store=store, run=operation: run(store), repeats) for store in (ours, lite)]
        tell(name, *figures)


async def own_reads(store):
    """Print how long the reads take that the benchmark's SQLite has no twin of."""
    last = (await store.jobs(last=1))[0]
    rows = {
        "queued jobs": lambda: store.jobs(JobStatus.QUEUED),
        "last 100 jobs": lambda: store.jobs(last=100),
        "a job by its id": lambda: store.job(last.id),
        "jobs by last digits": lambda: store.jobs_ending(last.id.hex[-6:]),
        "messages by last digits": lambda: store.messages_ending(last.message_id.hex[-6:]),
        "a thread's tool calls": lambda: store.tool_calls(last.thread_id),
        "counts": store.counts,
        "usage by agent": lambda: store.usage("agent"),
        "usage by model": lambda: store.usage("model"),
        "usage by day": lambda: store.usage("day"),
    }
    for name, operation in rows.items():
        tell(name, await taken(operation, 5))


async def load(store, threads, agent, searching):
    """Write `RATE` messages a second, a question and its answer at a time, while others read; return all latencies."""
    clock, times, ended = Clock(), {"enqueue": [], "claim": [], "ack": [], "read": [], "search": []}, asyncio.Event()

    async def timed(name, operation):
        begun = time.perf_counter()
        result = await operation
        times[name].append((time.perf_counter() - begun) * 1000)
        return result

    async def exchange(thread):
        named = {"thread_id": thread.id, "inserted_at": clock.now()}
        asked = Message(id=clock.new_id(), role="user", content="How does it go on from here? " * 3, **named)
        job = Job(id=clock.new_id(), message_id=asked.id, agent_id=agent.id, model="m", **named)
        answer = Message(id=clock.new_id(), role="assistant", content="It goes on. " * 40, job_id=job.id, **named)
        await timed("enqueue", store.enqueue(asked, [job]))
        claimed = await timed("claim", store.claim_next(clock.new_id(), "bench", [job.id], clock.now()))
        await timed("ack", store.ack(claimed or job, answer, clock.now()))

    async def read(number, thread):
        await asyncio.sleep(PAUSE * number / READERS)
        while not ended.is_set():
            await timed("read", store.messages(thread.id, 50))
            await asyncio.sleep(PAUSE)

    async def search():
        while not ended.is_set():
            await timed("search", store.search("platypus", 20))

    picked = threads[:: len(threads) // READERS][:READERS]
    others = [asyncio.create_task(read(number, thread)) for number, thread in enumerate(picked)]
    others += [asyncio.create_task(search())] if searching else []
    begun, exchanges = time.perf_counter(), []
    for number in range(RATE * SECONDS // 2):
        exchanges.append(asyncio.create_task(exchange(threads[number % 50])))
        await asyncio.sleep(max(0, begun + (number + 1) * 2 / RATE - time.perf_counter()))
    await asyncio.gather(*exchanges)
    rate = RATE * SECONDS / (time.perf_counter() - begun)
    ended.set()
    await asyncio.gather(*others)
    return rate, times


def percentiles(times):
    """Return p50, p95 and the longest."""
    ordered = sorted(times)
    return [ordered[min(len(ordered) - 1, int(len(ordered) * part))] for part in (0.5, 0.95, 1)]


def tell(name, *figures):
    """Print a row: of each store the median and, in brackets, the first time."""
    print(f"  {name:32}" + "".join(f"{median:10.1f} ms  ({first:7.1f})" for first, median in figures))


async def compare(duckdb_file, sqlite_file):
    """Print everything."""
    ours, lite = DuckDBStore(duckdb_file), SQLite(sqlite_file)
    print(f"{'milliseconds: median (first)':34}{'Piano':>13}{'SQLite':>24}")
    opened = []
    for store in (ours, lite):
        begun = time.perf_counter()
        await store.open()
        opened.append((time.perf_counter() - begun) * 1000)
    print(f"  {'open':32}" + "".join(f"{each:10.1f} ms           " for each in opened))
    await reads(ours, lite)
    await own_reads(ours)
    threads, agents = await ours.threads(), await ours.agents()
    for name, store, searching in (
        ("Piano", ours, False),
        ("SQLite", lite, False),
        ("Piano, while it searches", ours, True),
    ):
        rate, times = await load(store, threads, agents[0], searching)
        print(f"{name}: {rate:.1f} of {RATE} messages a second kept, {READERS} threads read: p50, p95, longest")
        for operation, each in times.items():
            if each:
                p50, p95, longest = percentiles(each)
                print(f"  {operation:10}{len(each):6} times {p50:10.1f} {p95:10.1f} {longest:10.1f} ms")
    for store in (ours, lite):
        await store.close()


if __name__ == "__main__":
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    with tempfile.TemporaryDirectory() as temporary:
        first, second = Path(temporary, "piano.duckdb"), Path(temporary, "chats.sqlite")
        for fill, arguments in ((fill_duckdb, (first, count)), (fill_sqlite, (first, second))):
            started = time.perf_counter()
            fill(*arguments)
            file = arguments[0] if fill is fill_duckdb else arguments[1]
            size = file.stat().st_size / 1e6
            print(f"{file.name}: {count:,} messages, {size:,.0f} MB, made in {time.perf_counter() - started:.0f} s")
        asyncio.run(compare(first, second))
