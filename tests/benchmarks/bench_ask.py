"""What an `ask` adds over raw httpx: latency with everything durable, and CPU a streamed token.

python tests/benchmarks/bench_ask.py
"""

import asyncio
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

import httpx
import psutil

sys.path.insert(0, str(Path(__file__).parent))

from jupyter_client.manager import start_new_kernel
from server import streaming_server

from piano_jupyter import Piano

ASKS = 100
SIZES = (500, 5000)
REPEATS = 5


async def raw(http, url, count, rate=0):
    """Ask with httpx alone: read the stream, parse each chunk, join the text."""
    body = {"model": "m", "stream": True, "messages": [{"role": "user", "content": f"{count} {rate}"}]}
    text = []
    async with http.stream("POST", f"{url}/chat/completions", json=body) as response:
        async for line in response.aiter_lines():
            if line.startswith("data: {"):
                text.append(json.loads(line[6:])["choices"][0]["delta"].get("content") or "")
    return "".join(text)


async def latency(url, folder):
    """Print the median time of a short answer, raw and with Piano, and what Piano adds.

    With `variables` the text is searched for `{{…}}`, of which it has none; without, it is sent as it is.
    """
    async with (
        httpx.AsyncClient(timeout=None) as http,
        Piano(database=folder / "latency.duckdb", base_url=url) as piano,
    ):
        asks = {
            "raw": lambda: raw(http, url, 5),
            "piano": lambda: piano.ask("5 0"),
            "variables": lambda: piano.ask("5 0", variables={"n": 3}),
        }
        taken = {name: [] for name in asks}
        for turn in range(ASKS + 10):
            if turn % 20 == 0:
                await piano.open_thread("bench")
            for name, ask in asks.items():
                begun = time.perf_counter()
                await ask()
                if turn >= 10:
                    taken[name].append((time.perf_counter() - begun) * 1000)
    median = {name: statistics.median(times) for name, times in taken.items()}
    print(f"one ask, everything durable, median of {ASKS}")
    print(f"  raw httpx                  {median['raw']:8.1f} ms")
    print(f"  Piano.ask                  {median['piano']:8.1f} ms")
    print(f"  added                      {median['piano'] - median['raw']:8.1f} ms   (limit 25 ms)")
    print(f"  ask(…, variables={{…}})      {median['variables']:8.1f} ms   (the same question, searched for {{{{…}}}})")


async def streaming(url, folder):
    """Print the CPU a token of this process, raw and with Piano, and what Piano adds."""
    print(f"streaming, CPU a token, median of {REPEATS}")
    async with httpx.AsyncClient(timeout=None) as http, Piano(database=folder / "stream.duckdb", base_url=url) as piano:
        for count in SIZES:
            costs = {}
            for name, ask in (
                ("raw httpx", lambda c=count: raw(http, url, c)),
                ("Piano.ask", lambda c=count: piano.ask(f"{c} 0")),
            ):
                await ask()
                taken = []
                for _ in range(REPEATS):
                    await piano.open_thread("bench")
                    begun = time.process_time()
                    await ask()
                    taken.append((time.process_time() - begun) / count * 1e6)
                costs[name] = statistics.median(taken)
                print(f"  {name:10} {count:5} tokens      {costs[name]:8.1f} µs")
            print(
                f"  added      {count:5} tokens      {costs['Piano.ask'] - costs['raw httpx']:8.1f} µs   (limit 100 µs)"
            )


async def paced(url, folder, count=500):
    """Print the CPU a token at 200 tokens a second, where each token is a wake of its own."""
    print("200 tokens/s, CPU a token")
    async with httpx.AsyncClient(timeout=None) as http, Piano(database=folder / "paced.duckdb", base_url=url) as piano:
        for name, ask in (
            ("raw httpx", lambda: raw(http, url, count, 200)),
            ("Piano.ask", lambda: piano.ask(f"{count} 200")),
        ):
            begun = time.process_time()
            await ask()
            print(f"  {name:10} {count:5} tokens      {(time.process_time() - begun) / count * 1e6:8.1f} µs")


def cell(url, folder):
    """Print the CPU a token of a whole kernel that streams into a cell at 200 tokens a second."""
    manager, client = start_new_kernel(cwd=str(folder), kernel_name="python3")
    try:
        process = psutil.Process(manager.provisioner.process.pid)
        for code in ("%load_ext piano_jupyter", f"%config PianoConfig.base_url = {url!r}", "%%piano\n5 0"):
            client.execute_interactive(code, timeout=60, output_hook=lambda _: None)
        for count in (500, 2000):
            client.execute_interactive("%piano thread --new bench", timeout=60, output_hook=lambda _: None)
            before = sum(process.cpu_times()[:2])
            client.execute_interactive(f"%%piano\n{count} 200", timeout=60, output_hook=lambda _: None)
            print(f"  %%piano    {count:5} tokens      {(sum(process.cpu_times()[:2]) - before) / count * 1e6:8.1f} µs")
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


if __name__ == "__main__":
    with streaming_server() as address, tempfile.TemporaryDirectory() as temporary:
        asyncio.run(latency(address, Path(temporary)))
        asyncio.run(streaming(address, Path(temporary)))
        asyncio.run(paced(address, Path(temporary)))
        cell(address, Path(temporary))
