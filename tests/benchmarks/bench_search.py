"""A search at a million messages: with the index of blocks, beside the scan without it, on the same file.

python tests/benchmarks/bench_search.py [messages]
"""

import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from million import FEW, RARE, fill_duckdb

from piano_jupyter.store.duckdb.database import Database
from piano_jupyter.store.duckdb.reports import search
from piano_jupyter.store.duckdb.search_index import SearchIndexer

SEARCHES = {
    "a rare word": RARE,
    "a word in one of 2,000": FEW,
    "a word that is nowhere": "platypus",
    "two common words": "vertuzula kise",
    "a phrase": '"vertuzula kise"',
}
REPEATS = 7


def times(database):
    """Return the median of each search, in milliseconds, and what it found."""
    figures, found = {}, {}
    for name, text in SEARCHES.items():
        taken = []
        for _ in range(REPEATS):
            begun = time.perf_counter()
            hits = search(database.connection, text, 20)
            taken.append((time.perf_counter() - begun) * 1000)
        figures[name], found[name] = statistics.median(taken[1:]), [(hit.score, hit.excerpt) for hit in hits]
    return figures, found


def main(count):
    with tempfile.TemporaryDirectory() as temporary:
        path = Path(temporary, "piano.duckdb")
        fill_duckdb(path, count)
        database = Database(str(path))
        database.connection.execute("DELETE FROM search_segments")
        before = path.stat().st_size
        scanned, found = times(database)
        indexer, steps, more = SearchIndexer(database.connection), [], True
        while more:
            begun = time.perf_counter()
            more = indexer.step(count)
            steps.append(time.perf_counter() - begun)
        database.connection.execute("CHECKPOINT")
        indexed, found_again = times(database)
        assert found == found_again
        grown = path.stat().st_size - before
        print(f"{count:,} messages, {before / 1e6:,.0f} MB; index: {grown / 1e6:.0f} MB, made in {sum(steps):.1f} s")
        print(f"the longest of {len(steps)} steps: {max(steps) * 1000:.0f} ms")
        print(f"{'milliseconds, median':28}{'scan':>10}{'index':>10}{'ratio':>10}")
        for name, figure in indexed.items():
            print(f"  {name:26}{scanned[name]:10.1f}{figure:10.1f}{figure / scanned[name]:10.3f}")
        database.close()


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000)
