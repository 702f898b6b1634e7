"""Notebooks that share a history, beside notebooks that have one each (`share=False`), in one run.

python tests/benchmarks/bench_share.py [ask] [first] [memory] [events] [swaps]
"""

import asyncio
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path

import httpx
import psutil

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parent))

from bench_ask import raw
from bench_server import percentile
from bench_swap import MODELS, server_in
from server import streaming_server
from store_processes import ROOT

from piano_jupyter import Notebook, Piano
from piano_jupyter.events import MessageDelta
from piano_jupyter.store.server.remote_store import RemoteStore

ASKS = 100
WARM_UP = 10
FIRSTS = 5  #: times that a process is started
KERNELS = 4
EVENTS = 1000
JOBS = 10  #: of each notebook
#: Opens a Piano and asks; says how many ms it took to import, to open and to ask, then waits for a line.
FIRST = """
import asyncio, sys, time
begun = time.perf_counter()
from piano_jupyter import Notebook, Piano
from piano_jupyter.testing import ScriptedModel, echo
async def main(file, name, share):
    imported = time.perf_counter()
    piano = Piano(database=file, share=share == "1", model=ScriptedModel(answer=echo), notebook=Notebook(name, name))
    await piano.open()
    opened = time.perf_counter()
    await piano.ask("hello")
    asked = time.perf_counter()
    times = (imported - begun, opened - imported, asked - opened)
    print(*(1000 * each for each in times), flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    await piano.close()
asyncio.run(main(*sys.argv[1:]))
"""
#: Opens a Piano and publishes as many events as it is told, each with the time.
PUBLISH = """
import asyncio, sys, time
from piano_jupyter import Notebook, Piano
from piano_jupyter.clock import Clock
from piano_jupyter.events import MessageDelta
async def main(file, number):
    id = Clock().new_id()
    async with Piano(database=file, share=True, notebook=Notebook("publisher", "publisher")) as piano:
        print("open", flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        for _ in range(int(number)):
            now = repr(time.perf_counter())
            piano.bus.publish(MessageDelta(thread_id=id, job_id=id, message_id=id, text=now, reasoning=""))
            await asyncio.sleep(0.002)
asyncio.run(main(*sys.argv[1:]))
"""


def line(name, times):
    """Print p50 and p95."""
    print(f"  {name:34}{percentile(times, 0.5):8.2f}{percentile(times, 0.95):8.2f} ms")


@contextmanager
def child(code, *arguments):
    """Have a process that runs a script; it ends when it gets a line."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    command = [sys.executable, "-c", code, *map(str, arguments)]
    with subprocess.Popen(command, env={"PYTHONPATH": str(ROOT)}, **pipes) as process:
        yield process
        process.stdin.write("go\n")
        process.stdin.flush()


async def server_of(file):
    """Return the store process that runs for a file."""
    client = RemoteStore(file, owner="watcher")
    await client.open()
    process = client.server_pid
    await client.close()
    return process


async def ask(folder):
    """Print the median time of a short answer: raw, in process, through the store process, with a second notebook."""
    with streaming_server() as url:
        async with AsyncExitStack() as stack:
            http = await stack.enter_async_context(httpx.AsyncClient(timeout=None))

            async def notebook(file, name, *, share):
                place = Notebook(name, name)
                piano = Piano(database=folder / file, base_url=url, share=share, notebook=place)
                return await stack.enter_async_context(piano)

            alone = await notebook("alone.duckdb", "a", share=False)
            shared = await notebook("shared.duckdb", "b", share=True)
            watched = await notebook("watched.duckdb", "c", share=True)
            await notebook("watched.duckdb", "d", share=True)
            ways = {
                "raw httpx": lambda: raw(http, url, 5),
                "in process": lambda: alone.ask("5 0"),
                "store process": lambda: shared.ask("5 0"),
                "store process, a second notebook": lambda: watched.ask("5 0"),
            }
            taken = {name: [] for name in ways}
            for turn in range(ASKS + WARM_UP):
                for piano in (alone, shared, watched) if turn % 20 == 0 else ():
                    await piano.open_thread("bench")
                for name, way in ways.items():
                    begun = time.perf_counter()
                    await way()
                    if turn >= WARM_UP:
                        taken[name].append((time.perf_counter() - begun) * 1000)
    print(f"one ask, everything durable, median of {ASKS}, and what Piano adds to the raw request")
    bare, own = (statistics.median(taken[name]) for name in ("raw httpx", "in process"))
    for name, times in taken.items():
        added = statistics.median(times) - bare
        times_own = f"{added / (own - bare):6.2f} times that of in process (limit 1.5)" if "store" in name else ""
        print(f"  {name:34}{statistics.median(times):8.1f} ms {added:8.1f} ms added {times_own}")


async def first(folder):
    """Print what a new kernel takes for its import, for opening, and for its first question."""
    print(f"a new kernel, median of {FIRSTS} {'import':>26}{'open':>8}{'ask':>8} ms")
    ways = {"in process": "0", "store process, started": "1", "store process, running": "1"}
    for name, share in ways.items():
        times = []
        for number in range(FIRSTS):
            file = folder / f"{name}-{number}.duckdb"
            keeper = RemoteStore(file, owner="keeper", options=("--idle-s=0",))
            if name.endswith("running"):
                await keeper.open()
            with child(FIRST, file, "first", share) as process:
                times.append([float(each) for each in process.stdout.readline().split()])
            await keeper.close()
        print(f"  {name:34}{''.join(f'{statistics.median(each):8.0f}' for each in zip(*times, strict=True))}")


def sizes(pid):
    """Return the proportional and the whole memory of a process, in MB."""
    info = psutil.Process(pid).memory_full_info()
    return info.pss / 1e6, info.rss / 1e6


async def memory(folder):
    """Print what kernels and the store process take, once each kernel has had an answer."""
    print(f"memory, {KERNELS} kernels, each after an answer {'PSS':>12}{'RSS':>8} MB")
    for name, share in (("in process", "0"), ("store process", "1")):
        await _memory(folder, name, share)


async def _memory(folder, name, share):
    async with AsyncExitStack() as stack:
        kernels = []
        for number in range(KERNELS):
            file = folder / (f"{name}.duckdb" if share == "1" else f"{name}-{number}.duckdb")
            kernels.append(stack.enter_context(child(FIRST, file, f"kernel-{number}", share)))
        for each in kernels:
            each.stdout.readline()
        each = [statistics.mean(part) for part in zip(*(sizes(kernel.pid) for kernel in kernels), strict=True)]
        print(f"  {f'a kernel, {name}':34}{each[0]:8.0f}{each[1]:8.0f}")
        if share == "1":
            process = sizes(await server_of(file))
            print(f"  {'the store process':34}{process[0]:8.0f}{process[1]:8.0f}")


async def events(folder):
    """Print how long an event is on its way to another kernel."""
    file, times = folder / "events.duckdb", []
    async with Piano(database=file, share=True, notebook=Notebook("reader", "reader")) as piano:
        told = asyncio.Event()

        def hear(event):
            times.append((time.perf_counter() - float(event.text)) * 1000)
            told.set()

        piano.bus.subscribe(hear, MessageDelta)
        with child(PUBLISH, file, EVENTS) as process:
            await asyncio.to_thread(process.stdout.readline)
            process.stdin.write("go\n")
            process.stdin.flush()
            while len(times) < EVENTS:
                told.clear()
                await told.wait()
    print(f"{EVENTS} events, p50 and p95")
    line("to another kernel", times)


async def swaps(folder):
    """Print how often two notebooks on a model each have it swapped, and how long all takes."""
    server = server_in(folder)
    print(f"two notebooks on a model each, {JOBS} jobs of each")
    try:
        for name, files, share in (("in process", ("a", "b"), False), ("store process", ("both", "both"), True)):
            server.reset()
            begun = time.perf_counter()
            async with AsyncExitStack() as stack:
                pianos = [
                    await stack.enter_async_context(
                        Piano(
                            database=folder / f"swaps-{file}.duckdb",
                            base_url=server.url,
                            embedded="never",
                            share=share,
                            notebook=Notebook(model, model),
                        )
                    )
                    for file, model in zip(files, MODELS, strict=True)
                ]
                for piano, model in zip(pianos, MODELS, strict=True):
                    await piano.add_agent(f"agent-{model}", model=model)
                    await piano.stop()  # until all is sent
                for number in range(JOBS):
                    for piano, model in zip(pianos, MODELS, strict=True):
                        thread = await piano.open_thread(f"{number}")
                        await piano.send("How are you?", agent=f"agent-{model}", thread=thread)
                for piano in pianos:
                    await piano.start()
                await asyncio.gather(*(piano.drain() for piano in pianos))
            print(f"  {name:34}{server.swaps():8} swaps {time.perf_counter() - begun:8.1f} s")
    finally:
        server.stop()


async def main(names):
    """Print what was asked for, or all."""
    for name, measure in {"ask": ask, "first": first, "memory": memory, "events": events, "swaps": swaps}.items():
        if not names or name in names:
            with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:  # a process may still close there
                await measure(Path(folder))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:]))
