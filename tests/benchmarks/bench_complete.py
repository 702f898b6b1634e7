"""How fast TAB answers after %piano, in a real kernel with many threads and agents.

python tests/benchmarks/bench_complete.py

Beside it, in the same run: the kernel's own completion of a plain Python name.
"""

import asyncio
import statistics
import sys
import tempfile
import time
from pathlib import Path

from jupyter_client.manager import start_new_kernel

sys.path.insert(0, str(Path(__file__).parent))

from server import streaming_server

from piano_jupyter import Piano

THREADS, AGENTS = 1000, 100
ROUNDS = 60
LIMIT = 50  # ms
TYPED = {
    "sub-command": "%piano re",
    "@agent": "%piano ask @agent",
    "--thread": "%piano ask --thread thre",
    "--model": "%piano agent ada --model mod",
    "plain Python name": "some_na",
}


async def fill(database):
    """Make the threads and agents."""
    async with Piano(database=database) as piano:
        for number in range(AGENTS):
            await piano.add_agent(f"agent{number}", model=f"model{number}")
        for number in range(THREADS):
            await piano.open_thread(f"thread {number}")


def complete(client, typed):
    """Return how long TAB took, in ms, and what it offers."""
    begun = time.perf_counter()
    sent = client.complete(typed, len(typed))
    while (reply := client.get_shell_msg(timeout=60))["parent_header"].get("msg_id") != sent:
        pass
    return (time.perf_counter() - begun) * 1000, reply["content"]["matches"]


def run(folder, url):
    """Print the times of each kind of completion."""
    manager, client = start_new_kernel(cwd=str(folder), kernel_name="python3")
    try:
        for code in ("some_name = 1", "%load_ext piano_jupyter", f"%config PianoConfig.base_url = {url!r}"):
            client.execute_interactive(code, timeout=60, output_hook=lambda _: None)
        first, _ = complete(client, "%piano ")
        client.execute_interactive("%piano", timeout=60, output_hook=lambda _: None)
        complete(client, TYPED["plain Python name"])  # IPython's own first time takes seconds
        taken = {what: [] for what in TYPED}
        for _ in range(ROUNDS):
            for what, typed in TYPED.items():
                took, matches = complete(client, typed)
                assert matches, what
                taken[what].append(took)
        print(f"TAB with {THREADS:,} threads and {AGENTS} agents, {ROUNDS} times each: p50, p95")
        print(f"  {'the first, which imports':24} {first:8.1f} ms")
        for what, times in taken.items():
            limit = "" if what == "plain Python name" else f"   (limit {LIMIT} ms)"
            p95 = statistics.quantiles(times, n=20)[-1]
            print(f"  {what:24} {statistics.median(times):8.1f} ms {p95:8.1f} ms{limit}")
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


if __name__ == "__main__":
    with streaming_server() as address, tempfile.TemporaryDirectory() as temporary:
        asyncio.run(fill(Path(temporary) / ".piano" / "piano.duckdb"))
        run(Path(temporary), address)
