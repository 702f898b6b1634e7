"""Copies of a history of 5, 50 and 500 MB: asks while one is made, closing with and without one, opening, a checkpoint.

The model answers at once, so that an ask is Piano's own work. Figures of one size come from the same run.

python tests/benchmarks/bench_backup.py [megabytes ...]
"""

import asyncio
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from million import fill_duckdb

from piano_jupyter import Piano
from piano_jupyter.runner.model.protocol import Delta, Reply
from piano_jupyter.store.duckdb import backup_files, database
from piano_jupyter.store.duckdb.duckdb_store import DuckDBStore

MESSAGES_PER_MB = 1_000
ASKS = 200  # at least
ROUNDS = 5
LIMIT = 2.0  # times the p95 of an ask alone


class InstantModel:
    """Answers everything with one sentence."""

    async def stream(self, request):
        yield Delta(text="It goes on.")
        yield Reply(text="It goes on.", finish_reason="stop", usage={"model": request.model})


def ms_since(begun):
    return (time.perf_counter() - begun) * 1000


async def asked(piano, thread, until):
    """Ask again and again until something has ended, `ASKS` times at least if it is nothing; return the latencies."""
    times = []
    while until.done() is False if until is not None else len(times) < ASKS:
        begun = time.perf_counter()
        await piano.ask("and then?", thread=thread)
        times.append(ms_since(begun))
        await asyncio.sleep(0.005)
    return times


def percentiles(times):
    """Return p50, p95 and the longest."""
    ordered = sorted(times)
    return [ordered[min(len(ordered) - 1, int(len(ordered) * part))] for part in (0.5, 0.95, 1)]


async def asks(path):
    """Print how long asks take alone, while a copy is made, and alone again."""
    async with Piano(database=path, workspace=path.parent, model=InstantModel()) as piano:
        threads = [await piano.open_thread(name) for name in ("warm", "alone", "beside a copy", "alone again")]
        await asked(piano, threads[0], None)
        alone = await asked(piano, threads[1], None)
        begun = time.perf_counter()
        copy = asyncio.ensure_future(piano.backup())
        beside = await asked(piano, threads[2], copy)
        took = ms_since(begun) / 1000
        again = await asked(piano, threads[3], None)
        size = Path(await copy).stat().st_size / 1e6
    print(f"  a copy of {size:,.0f} MB                   {took:10.1f} s, {len(beside)} asks meanwhile")
    for name, times in (("alone", alone), ("beside a copy", beside), ("alone again", again)):
        p50, p95, longest = percentiles(times or [0])
        print(f"  ask, {name:30}{p50:10.1f} {p95:10.1f} {longest:10.1f} ms (p50, p95, longest)")
    base = max(percentiles(alone)[1], percentiles(again)[1])
    print(f"  p95 beside a copy                   {percentiles(beside or [0])[1] / base:10.2f} times (limit {LIMIT})")


async def opened_and_closed(path):
    """Print how long opening, a checkpoint and closing take, with a copy and without."""
    figures = {"open": [], "close after one change": [], "close with a copy": []}
    backups = backup_files.backup_folder(str(path))
    for name in ("close after one change", "close with a copy") * ROUNDS:
        if name == "close with a copy":
            shutil.rmtree(backups, ignore_errors=True)
        else:
            await copied_now(path)
        store = DuckDBStore(path)
        begun = time.perf_counter()
        await store.open()
        figures["open"].append(ms_since(begun))
        thread = (await store.threads())[0]
        await store.update_thread(thread)
        begun = time.perf_counter()
        await store.close()
        figures[name].append(ms_since(begun))
    for name, times in figures.items():
        print(f"  {name:35}{statistics.median(times):10.1f} ms, longest {max(times):.1f}")


async def copied_now(path):
    """Have a copy of now, so that none is due."""
    folder = backup_files.backup_folder(str(path))
    folder.mkdir(exist_ok=True)
    (folder / backup_files.day_name(time.time())).touch()


def main(sizes):
    """Print everything."""
    for megabytes in sizes:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "piano.duckdb")
            fill_duckdb(path, megabytes * MESSAGES_PER_MB)
            print(f"{megabytes} MB ({path.stat().st_size / 1e6:,.0f} MB, {megabytes * MESSAGES_PER_MB:,} messages)")
            asyncio.run(opened_and_closed(path))
            shutil.rmtree(backup_files.backup_folder(str(path)), ignore_errors=True)
            asyncio.run(asks(path))
    print(f"a file of more than {database.MAX_BYTES_AT_CLOSE / 1e6:.0f} MB is not copied as it is closed")


if __name__ == "__main__":
    main([int(each) for each in sys.argv[1:]] or [5, 50, 500])
