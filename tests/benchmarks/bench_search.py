"""A search at a million messages: with the index of blocks, beside the scan without it, on the same file.

The index may be behind: so the searches are measured with the newest blocks in it, and with some of them not yet.

python tests/benchmarks/bench_search.py [messages]
"""

import statistics
import sys
import tempfile
import time
from pathlib import Path
from unittest.mock import patch

sys.path.insert(0, str(Path(__file__).parent))

from million import FEW, RARE, UNCOMMON, fill_duckdb

from piano_jupyter.store.duckdb import reports
from piano_jupyter.store.duckdb.database import Database
from piano_jupyter.store.duckdb.search_index import (
    BLOCK_MESSAGES,
    FULL_SEGMENT,
    SEGMENT_BLOCKS,
    SearchIndexer,
    ranges_to_search,
)

SEARCHES = {
    "a word in 7 places": RARE,
    "a word in 50 places": UNCOMMON,
    "a word in one of 2,000": FEW,
    "a word that is nowhere": "platypus",
    "two common words": "vertuzula kise",
    "a phrase": '"vertuzula kise"',
}
REPEATS = 7
BEHIND_BLOCKS = (0, 4, 16)  #: so many of the newest blocks are not in the index

#: One segment, without one of its blocks.
TAKE_OUT = "UPDATE search_segments SET blocks = blocks & $kept WHERE segment = $segment"


def one_range(_connection, _words, upto):
    return [(0, upto)]


def timed(database, text, ranges):
    """Return how long a search in these ranges took, in milliseconds, and what it found."""
    with patch.object(reports, "ranges_to_search", ranges):
        begun = time.perf_counter()
        hits = reports.search(database.connection, text, 20)
        return (time.perf_counter() - begun) * 1000, [(hit.score, hit.excerpt) for hit in hits]


def compare(database):
    """Print the medians of each search, scanned and with the index in turn, and of the ratio of the two."""
    print(f"{'milliseconds, median':28}{'scan':>10}{'index':>10}{'ratio':>10}")
    for name, text in SEARCHES.items():
        pairs = []
        for _ in range(1 + REPEATS):
            scanned, found = timed(database, text, one_range)
            indexed, found_again = timed(database, text, ranges_to_search)
            assert found == found_again
            pairs.append((scanned, indexed, indexed / scanned))
        scan, index, ratio = map(statistics.median, zip(*pairs[1:], strict=True))
        print(f"  {name:26}{scan:10.1f}{index:10.1f}{ratio:10.3f}")


def take_out(database, count, blocks):
    """Take the newest full blocks out of the index; return how many of the newest messages are not in it."""
    full = count // BLOCK_MESSAGES
    kept = max(0, full - blocks)
    for block in range(kept, full):
        segment, number = divmod(block, SEGMENT_BLOCKS)
        database.connection.execute(TAKE_OUT, {"kept": FULL_SEGMENT ^ 1 << number, "segment": segment})
    return count - kept * BLOCK_MESSAGES


def main(count):
    with tempfile.TemporaryDirectory() as temporary:
        path = Path(temporary, "piano.duckdb")
        fill_duckdb(path, count)
        database = Database(str(path))
        before = path.stat().st_size
        indexer, steps, more = SearchIndexer(database.connection), [], True
        while more:
            begun = time.perf_counter()
            more = indexer.step(count)
            steps.append(time.perf_counter() - begun)
        database.connection.execute("CHECKPOINT")
        grown = path.stat().st_size - before
        print(f"{count:,} messages, {before / 1e6:,.0f} MB; index: {grown / 1e6:.0f} MB, made in {sum(steps):.1f} s")
        print(f"the longest of {len(steps)} steps: {max(steps) * 1000:.0f} ms")
        for behind in BEHIND_BLOCKS:
            print(f"the newest {take_out(database, count, behind):,} messages are not in the index")
            compare(database)
        database.close()


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000)
