"""What the client itself costs, beside raw httpx and beside the `openai` client, in one run.

python tests/benchmarks/bench_wire.py

CPU of this process a streamed token (all at once, and at 200 tokens a second), and the time to the first token that is
added to raw httpx. `pip install openai` to have it beside; nothing of Piano needs it.
"""

import asyncio
import importlib.util
import json
import statistics
import sys
import time
from contextlib import AsyncExitStack, aclosing
from pathlib import Path

import httpx

sys.path.insert(0, str(Path(__file__).parent))

from server import streaming_server

from piano_jupyter.config import PianoConfig
from piano_jupyter.runner.model.client import ChatClient
from piano_jupyter.runner.model.embedded.local_server import Endpoint
from piano_jupyter.runner.model.llama_swap.swap_client import SwapClient
from piano_jupyter.runner.model.protocol import ChatRequest, Delta

TOKENS, REPEATS = 5000, 7
PACED, RATE = 600, 200
ASKS = 200


class Raw:
    """httpx alone: read the stream, parse each chunk, take its text."""

    name = "raw httpx"

    def __init__(self, url):
        self._url, self._http = url, httpx.AsyncClient(timeout=None)

    async def tokens(self, asked):
        body = {"model": "m", "stream": True, "messages": [{"role": "user", "content": asked}]}
        async with self._http.stream("POST", f"{self._url}/chat/completions", json=body) as response:
            async for line in response.aiter_lines():
                if line.startswith("data: {") and (text := json.loads(line[6:])["choices"][0]["delta"].get("content")):
                    yield text

    async def aclose(self):
        await self._http.aclose()


class OpenAi:
    """The `openai` client."""

    name = "openai"

    def __init__(self, url):
        from openai import AsyncOpenAI

        self._client = AsyncOpenAI(base_url=url, api_key="none")

    async def tokens(self, asked):
        stream = await self._client.chat.completions.create(
            model="m", stream=True, messages=[{"role": "user", "content": asked}]
        )
        async for chunk in stream:
            if text := chunk.choices[0].delta.content:
                yield text

    async def aclose(self):
        await self._client.close()


class Ours:
    """ChatClient."""

    name = "ChatClient"

    def __init__(self, url):
        async def connect():
            return Endpoint(url=url)

        config = PianoConfig(base_url=url)
        self._swap = SwapClient(connect, config)
        self._client = ChatClient(connect, config, None, self._swap)

    async def tokens(self, asked):
        request = ChatRequest(model="m", messages=[{"role": "user", "content": asked}])
        async with aclosing(self._client.stream(request)) as pieces:
            async for piece in pieces:
                if isinstance(piece, Delta):
                    yield piece.text

    async def aclose(self):
        await self._client.aclose()
        await self._swap.aclose()


async def cost(client, count, rate):
    """Return the CPU a token, in microseconds."""
    begun, seen = time.process_time(), 0
    async with aclosing(client.tokens(f"{count} {rate}")) as tokens:
        async for _ in tokens:
            seen += 1
    assert seen == count
    return (time.process_time() - begun) / count * 1e6


async def first(client):
    """Return the milliseconds to the first token."""
    begun = time.perf_counter()
    async with aclosing(client.tokens("3 0")) as tokens:
        await anext(tokens)
        taken = (time.perf_counter() - begun) * 1000
        async for _ in tokens:
            pass
    return taken


async def main(url):
    """Print the three, side by side; they take turns, so that the machine's moods are shared."""
    kinds = [Raw, Ours, *([OpenAi] if importlib.util.find_spec("openai") else [])]
    async with AsyncExitStack() as opened:
        clients = [kind(url) for kind in kinds]
        for client in clients:
            opened.push_async_callback(client.aclose)
            await cost(client, 200, 0)
        streamed, paced, began = ({client.name: [] for client in clients} for _ in range(3))
        for _ in range(REPEATS):
            for client in clients:
                streamed[client.name].append(await cost(client, TOKENS, 0))
        for client in clients:
            paced[client.name].append(await cost(client, PACED, RATE))
        for _ in range(ASKS):
            for client in clients:
                began[client.name].append(await first(client))
    raw = statistics.median(began["raw httpx"])
    print(f"{'':12}{'CPU a token':>14}{f'at {RATE}/s':>14}{'first token':>14}{'added':>12}")
    for client in clients:
        token, steady, word = (statistics.median(each[client.name]) for each in (streamed, paced, began))
        print(f"{client.name:12}{token:11.1f} µs{steady:11.1f} µs{word:11.2f} ms{word - raw:9.2f} ms")
    if OpenAi not in kinds:
        print("openai is not installed: pip install openai")


if __name__ == "__main__":
    with streaming_server() as address:
        asyncio.run(main(address))
