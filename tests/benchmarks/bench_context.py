"""What the text of a frame for a model costs, beside `df.head(1000).to_string()`, and how much of its budget it is.

python tests/benchmarks/bench_context.py
"""

import time

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa

from piano_jupyter.variables.value_text import DEFAULT_FRAME_CHARS, inserted_value

SIZES = [(10, 3), (1_000, 3), (100_000, 12), (10_000_000, 3), (1_000, 100), (1_000, 250), (10, 500), (20_000, 500)]
REPEATS = 7


def frame_of(rows, width):
    """Return a frame of numbers and texts."""
    random = np.random.default_rng(0)
    words = np.array(["tea", "coffee, black", "a longer name of an item"])
    kinds = [
        lambda: random.random(rows),
        lambda: random.integers(0, 1000, rows),
        lambda: words[random.integers(0, 3, rows)],
    ]
    return pd.DataFrame({f"column_{at}": kinds[at % 3]() for at in range(width)})


def seconds(function):
    """Return the shortest of some times, and what the function returns."""
    times = []
    for _ in range(REPEATS):
        begun = time.perf_counter()
        result = function()
        times.append(time.perf_counter() - begun)
    return min(times), result


def main():
    """Print a line for each size and library."""
    print(f"budget {DEFAULT_FRAME_CHARS:,} characters; milliseconds, the best of {REPEATS}")
    slower = 0
    for rows, width in SIZES:
        frame = frame_of(rows, width)
        libraries = {
            "pandas": (frame, lambda value: value.head(1000).to_string()),
            "polars": (pl.from_pandas(frame), lambda value: value.head(1000).to_pandas().to_string()),
            "pyarrow": (pa.Table.from_pandas(frame), lambda value: value.slice(0, 1000).to_pandas().to_string()),
            "duckdb": (duckdb.sql("SELECT * FROM frame"), lambda value: value.limit(1000).df().to_string()),
        }
        for name, (value, to_string) in libraries.items():
            ours, inserted = seconds(lambda value=value: inserted_value("df", value, DEFAULT_FRAME_CHARS))
            theirs, _ = seconds(lambda value=value, to_string=to_string: to_string(value))
            slower += ours > theirs
            print(
                f"{rows:12,} × {width:3} {name:8} ours {ours * 1000:8.2f}   to_string() {theirs * 1000:8.2f}   "
                f"used {len(inserted.text) / DEFAULT_FRAME_CHARS:4.0%}"
            )
    print("never slower" if not slower else f"slower in {slower} cases")


if __name__ == "__main__":
    main()
