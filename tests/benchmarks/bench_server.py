"""The store process beside the store in process, in one run: what its way costs, and what several kernels get done.

A loop is enqueue, claim, ack and read. python tests/benchmarks/bench_server.py [seconds]
"""

import asyncio
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path

import psutil

sys.path.insert(0, str(Path(__file__).parents[1]))

from store_processes import PRELUDE, ROOT
from store_servers import NO_DELAYS, ended

from piano_jupyter.store.base import Store
from piano_jupyter.store.duckdb.duckdb_store import DuckDBStore
from piano_jupyter.store.server.remote_store import Listener, RemoteStore

SECONDS = 5.0
CALLS = 2000
#: Opens a store, says so, and once a line comes loops for so many seconds; says how often, and its latencies.
LOOPS = """
import time
from dataclasses import replace
from piano_jupyter.store.server.remote_store import RemoteStore
async def loop(store, owner, seconds):
    await store.open()
    print("open", flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
    thread, times = clock.new_id(), []
    ends = time.perf_counter() + seconds
    while (begun := time.perf_counter()) < ends:
        asked = replace(message(), thread_id=thread)
        _, [queued] = await store.enqueue(asked, [job(asked)])
        claimed = await store.claim_next(clock.new_id(), owner, [queued.id], clock.now())
        answer = replace(message(), thread_id=thread, job_id=queued.id, role="assistant")
        await store.ack(claimed, answer, clock.now())
        await store.messages(thread, 50)
        times.append((time.perf_counter() - begun) * 1000)
    await store.close()
    print(*times, flush=True)
kind, owner, seconds = sys.argv[2:]
store = DuckDBStore(path) if kind == "alone" else RemoteStore(path, owner=owner, options=("--idle-s=0",))
asyncio.run(loop(store, owner, float(seconds)))
"""


def percentile(times, part):
    """Return the time that so large a part stays below."""
    return sorted(times)[min(len(times) - 1, int(len(times) * part))]


@contextmanager
def looping(file, kind, owner, seconds):
    """Have a process that loops once it is told to."""
    command = [sys.executable, "-c", PRELUDE + LOOPS, str(file), kind, owner, str(seconds)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, env={"PYTHONPATH": str(ROOT)}, **pipes) as process:
        yield process


def throughput(folder, kind, clients, seconds):
    """Print what so many clients get done."""
    file = Path(folder, f"{kind}-{clients}.duckdb")
    processes = [looping(file, kind, str(number), seconds) for number in range(clients)]
    times = []
    entered = [each.__enter__() for each in processes]
    for each in entered:
        assert each.stdout.readline() == "open\n"
    for each in entered:
        each.stdin.write("go\n")
        each.stdin.flush()
    for each in entered:
        times += map(float, each.stdout.readline().split())
    for each in processes:
        each.__exit__(None, None, None)
    name = (
        f"{'in process' if kind == 'alone' else 'store process'}, {clients} {'kernel' if clients == 1 else 'kernels'}"
    )
    print(f"  {name:26}{len(times) / seconds:8.1f} loops/s, p50 {percentile(times, 0.5):6.1f} ms, p95 "
          f"{percentile(times, 0.95):6.1f} ms")  # fmt: skip


#: Opens a store and has an answer; says how many MB it takes.
MEMORY = """
import asyncio, psutil, sys
from {module} import {store}
async def main():
    store = {store}(sys.argv[1])
    await store.open()
    await store.counts()
    print(psutil.Process().memory_full_info().uss / 1e6)
    await store.close()
asyncio.run(main())
"""


def memory(folder):
    """Print what a kernel takes for its store, beside what Python takes."""
    bare = "import psutil, asyncio; print(psutil.Process().memory_full_info().uss / 1e6)"
    codes = {
        "in process": MEMORY.format(module="piano_jupyter.store.duckdb.duckdb_store", store="DuckDBStore"),
        "store process": MEMORY.format(module="piano_jupyter.store.server.remote_store", store="RemoteStore"),
    }
    empty, *sizes = [
        float(subprocess.check_output([sys.executable, "-c", code, f"{folder}/memory-{n}.duckdb"]))
        for n, code in enumerate((bare, *codes.values()))
    ]
    for name, size in zip(codes, sizes, strict=True):
        print(f"  {f'memory per kernel, {name}':34}{size - empty:5.0f} MB")


async def latencies(operation: Callable[[Store], object], stores):
    """Return p50 and p95 of an operation, in milliseconds, for each store; they take turns."""
    times = {store: [] for store in stores}
    for _ in range(CALLS):
        for store in stores:
            begun = time.perf_counter()
            await operation(store)
            times[store].append((time.perf_counter() - begun) * 1000)
    return [(percentile(each, 0.5), percentile(each, 0.95)) for each in times.values()]


async def single_calls(folder):
    """Print what starting takes, what one call costs, how long an event is on its way, and the memory."""
    alone, shared = DuckDBStore(Path(folder, "a.duckdb")), RemoteStore(Path(folder, "b.duckdb"), options=NO_DELAYS)
    for name, store in (("in process", alone), ("store process, started", shared)):
        begun = time.perf_counter()
        await store.open()
        print(f"  open, {name:24}{(time.perf_counter() - begun) * 1000:8.0f} ms")
    heard = asyncio.Queue()
    listener = Listener(lambda _: heard.put_nowait(time.perf_counter()), lambda _: None, lambda: None, lambda: None)
    second = RemoteStore(Path(folder, "b.duckdb"), owner="second", listener=listener)
    begun = time.perf_counter()
    await second.open()
    print(f"  open, {'store process, running':24}{(time.perf_counter() - begun) * 1000:8.0f} ms")
    print(f"  {'':30}{'p50':>8}{'p95':>8} ms")
    [nothing] = await latencies(lambda store: store.clients(), [shared])
    print(f"  {'a request that does nothing':30}{nothing[0]:8.2f}{nothing[1]:8.2f}")
    for name, each in zip(
        ("in process", "store process"), await latencies(lambda store: store.agents(), [alone, shared]), strict=True
    ):
        print(f"  {f'agents, {name}':30}{each[0]:8.2f}{each[1]:8.2f}")
    ways = []
    for _ in range(CALLS):
        begun = time.perf_counter()
        shared.publish(bytes(200))
        ways.append((await heard.get() - begun) * 1000)
    print(f"  {'an event to another kernel':30}{percentile(ways, 0.5):8.2f}{percentile(ways, 0.95):8.2f}")
    pid = shared.server_pid
    print(f"  memory of the process: {psutil.Process(pid).memory_full_info().uss / 1e6:.0f} MB")
    for store in (alone, shared, second):
        await store.close()
    await ended(pid)


if __name__ == "__main__":
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else SECONDS
    with tempfile.TemporaryDirectory() as temporary:
        asyncio.run(single_calls(temporary))
        memory(temporary)
        for kind, clients in (("alone", 1), ("shared", 1), ("shared", 4), ("alone", 1), ("shared", 4)):
            throughput(temporary, kind, clients, seconds)
