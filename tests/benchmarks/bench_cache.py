"""How many prompt tokens a real llama.cpp server evaluates over a thread, beside those that are new.

python tests/benchmarks/bench_cache.py

Beside Piano stands a client as one writes it first: the time of day in the system prompt, and each turn's messages as
they come. Both ask the same questions of a tiny model that calls a tool in each turn.
"""

import asyncio
import json
import sys
import tempfile
import time
from pathlib import Path

import httpx

sys.path.insert(0, str(Path(__file__).parents[1]))

from tiny_gguf import TOOLS, write_tiny_gguf

from piano_jupyter import Piano
from piano_jupyter.runner.model.embedded.local_server import LocalServer
from piano_jupyter.tool import tool

TURNS = 20
SYSTEM = "You are kind and brief. " * 20
SEEN = "a lake, and behind it " + "trees " * 10
CALL = '<tool_call>\n{"name": "look", "arguments": {}}\n</tool_call>'


@tool
def look(at: str = "here") -> str:
    """Look around."""
    return SEEN


async def naive(endpoint):
    """Ask with httpx alone; return the prompt tokens and those of them that were cached, for each request."""
    told, history = [], []
    headers = {"authorization": f"Bearer {endpoint.api_key}"}
    async with httpx.AsyncClient(base_url=endpoint.url, headers=headers, timeout=None) as http:
        for turn in range(TURNS):
            history.append({"role": "user", "content": f"Question {turn}: what is there?"})
            for _ in range(2):
                clock = f"It is {time.time():.3f}. {SYSTEM}"
                body = {"messages": [{"role": "system", "content": clock}, *history], "tools": [look.schema()]}
                answer = (await http.post("/chat/completions", json=body)).json()
                usage = answer["usage"]
                told.append(("naive", usage["prompt_tokens"], usage["prompt_tokens_details"]["cached_tokens"]))
                message = answer["choices"][0]["message"]
                history.append(message)
                for call in message.get("tool_calls") or ():
                    history.append({"role": "tool", "tool_call_id": call["id"], "content": SEEN})
                    json.loads(call["function"]["arguments"])
    return told


async def piano(endpoint, folder, agents):
    """Ask with Piano, the agents by turns; return the same."""
    server = {"base_url": endpoint.url, "api_key": endpoint.api_key, "embedded": "never"}
    async with Piano(database=":memory:", workspace=folder, tools=[look], **server) as piano:
        for name in agents:
            await piano.add_agent(name, system_prompt=f"You are {name}. {SYSTEM}", enabled_tools=["look"])
        for turn in range(TURNS):
            await piano.ask(f"Question {turn}: what is there?", agent=agents[turn % len(agents)])
        answers = [each for each in await piano.messages(piano.thread) if each.role == "assistant"]
    return [(each.agent_id, each.usage["prompt_tokens"], each.usage["cached_tokens"]) for each in answers]


def show(name, told):
    """Print how many tokens were new to their agent, how many were evaluated, and how much more that is."""
    before, new, evaluated = {}, 0, 0
    for who, tokens, cached in told:
        new += tokens - before.get(who, 0)
        evaluated += tokens - cached
        before[who] = tokens
    print(f"  {name:24} {new:8,} new {evaluated:9,} evaluated   {evaluated / new:6.2f} x")


async def main():
    """Serve the model and print a line for each way to ask."""
    with tempfile.TemporaryDirectory() as temporary:
        gguf = write_tiny_gguf(
            Path(temporary, "tiny.gguf"), says=CALL, says_after_tool="I see.", chat_template=TOOLS, context=32_768
        )
        print(f"prompt tokens over {TURNS} turns with a tool call each, one slot")
        for name, ask in (
            ("naive, a clock first", naive),
            ("Piano, one agent", lambda endpoint: piano(endpoint, temporary, ["ada"])),
            ("Piano, two by turns", lambda endpoint: piano(endpoint, temporary, ["ada", "bob"])),
        ):
            server = LocalServer(gguf, context=32_768)
            show(name, await ask(await server.start(lambda _line, _fraction: None)))
            server.stop()


if __name__ == "__main__":
    asyncio.run(main())
