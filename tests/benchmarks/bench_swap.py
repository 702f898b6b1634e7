"""Swaps that two agents on two models cause: a plain client and Piano, counted by the server's own events.

python tests/benchmarks/bench_swap.py
"""

import asyncio
import sys
import tempfile
import time
from pathlib import Path

import httpx

sys.path.insert(0, str(Path(__file__).parents[1]))

from swap_servers import KINDS, SAYS, model_command, serve, swap_command
from tiny_gguf import write_tiny_gguf

from piano_jupyter import Piano
from piano_jupyter.events import JobStarted

JOBS = 20
MODELS = tuple(SAYS)
MAX_WAIT = 3.0  # seconds
ASKERS = 5


def server_in(folder):
    """Return a llama-swap in front of two tiny models: the real one where it is there, else the stand-in."""
    kind = next(kind for kind in reversed(KINDS) if swap_command(kind)[0])
    models = {}
    for seed, (name, says) in enumerate(SAYS.items()):
        gguf = write_tiny_gguf(folder / f"{name}.gguf", seed=seed, says=says)
        models[name] = {"cmd": model_command(gguf, name)}
    print(f"two tiny models behind {'the real llama-swap' if kind == 'llama-swap' else 'the stand-in for llama-swap'}")
    return serve(kind, folder, models)[0].start()


async def first_in_first_out(server):
    """Ask as a plain client does: one request after the other, as they come."""
    async with httpx.AsyncClient(timeout=None) as http:
        for number in range(JOBS):
            body = {"model": MODELS[number % 2], "messages": [{"role": "user", "content": "How are you?"}]}
            (await http.post(f"{server.url}/chat/completions", json=body)).raise_for_status()


async def agents_of(piano):
    """Return the names of an agent on each model."""
    return [(await piano.add_agent(f"agent-{model}", model=model)).name for model in MODELS]


async def by_piano(server):
    """Send the same to Piano, each question in a thread of its own, and wait until all is answered."""
    async with Piano(database=":memory:", base_url=server.url, embedded="never") as piano:
        agents = await agents_of(piano)
        for number in range(JOBS):
            await piano.send("How are you?", agent=agents[number % 2], thread=await piano.open_thread(f"{number}"))
        await piano.drain()


async def longest_wait(server):
    """Return how long a job of the other model waits while new ones of the loaded model never end, and how many went.

    Some ask again as soon as they are answered, so that there is always a newer job of the loaded model.
    """
    knobs = {"base_url": server.url, "embedded": "never", "max_wait_s": MAX_WAIT}
    async with Piano(database=":memory:", **knobs) as piano:
        one, other = await agents_of(piano)
        threads = [await piano.open_thread(f"asker {number}") for number in range(ASKERS)]
        await piano.ask("Load, please.", agent=one)
        events = piano.events()

        async def ask_for_ever(thread):
            while True:
                await piano.ask("And you?", agent=one, thread=thread)
                await piano.archive_thread(thread)
                thread = await piano.open_thread("the next")  # a long thread would slow all down

        askers = [asyncio.create_task(ask_for_ever(thread)) for thread in threads]
        job = await piano.send("May I?", agent=other, thread=await piano.open_thread("the other"))
        sent, passed = time.monotonic(), 0
        async for event in events:
            if isinstance(event, JobStarted):
                passed += event.job.seq > job.seq
                if event.job.id == job.id:
                    break
        waited = time.monotonic() - sent
        for asker in askers:
            asker.cancel()
        await asyncio.wait(askers)
        await piano.wait(job)
        return waited, passed


def main():
    """Print the figures."""
    with tempfile.TemporaryDirectory() as temporary:
        server = server_in(Path(temporary))
        try:
            print(f"{JOBS} jobs that alternate between them: swaps, and seconds until all is answered")
            for name, ask in (("plain FIFO client", first_in_first_out), ("Piano", by_piano)):
                server.reset()
                begun = time.perf_counter()
                asyncio.run(ask(server))
                taken = time.perf_counter() - begun
                print(f"  {name:20} {server.swaps():5} swaps {taken:8.1f} s")
            server.reset()
            waited, passed = asyncio.run(longest_wait(server))
            print("a job of the other model, while new ones of the loaded model never end")
            print(f"  begins after {waited:21.1f} s   (max_wait_s {MAX_WAIT:g}; {passed} newer ones went first)")
        finally:
            server.stop()


if __name__ == "__main__":
    main()
