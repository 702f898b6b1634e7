"""A real llama.cpp server evaluates only the new part of each prompt: in a tool loop, and from turn to turn."""

import pytest

from piano_jupyter import Piano
from piano_jupyter.runner.model.embedded.local_server import LocalServer
from piano_jupyter.tool import tool

pytestmark = pytest.mark.model
TURNS = 20
CALL = '<tool_call>\n{"name": "look", "arguments": {}}\n</tool_call>'


@tool
def look(at: str = "here") -> str:
    """Look around."""
    return "a lake, and behind it " + "trees " * 10


@pytest.fixture
def roomy(start_server, tiny, tmp_path):
    """A server whose model calls a tool in each turn and answers from its result."""
    gguf = tiny.write_tiny_gguf(
        tmp_path / "tiny.gguf", says=CALL, says_after_tool="I see it.", chat_template=tiny.TOOLS, context=32_768
    )
    server = LocalServer(gguf, context=32_768)
    yield start_server(server)
    server.stop()


async def costs(endpoint, folder, agents):
    """Return, for each answer of a thread, its tokens that are new to its agent and those that were evaluated."""
    server = {"base_url": endpoint.url, "api_key": endpoint.api_key, "embedded": "never"}
    async with Piano(database=":memory:", workspace=folder, tools=[look], **server) as piano:
        for number, name in enumerate(agents):
            prompt = f"You are agent number {number}, kind and brief. " * 10
            await piano.add_agent(name, system_prompt=prompt, enabled_tools=["look"])
        for turn in range(TURNS):
            await piano.ask(f"Question {turn}: what is there?", agent=agents[turn % len(agents)])
        answers = [each for each in await piano.messages(piano.thread) if each.role == "assistant"]
    told, before = [], {}
    for answer in answers:
        tokens = answer.usage["prompt_tokens"]
        told.append((tokens - before.get(answer.agent_id, 0), tokens - answer.usage["cached_tokens"]))
        before[answer.agent_id] = tokens
    return told


@pytest.mark.parametrize("agents", [["ada"], ["ada", "bob"]], ids=["one agent", "two agents by turns"])
async def test_over_twenty_turns_with_tools_only_what_is_new_is_evaluated(roomy, tmp_path, agents):
    told = await costs(roomy, tmp_path, agents)

    assert len(told) == 2 * TURNS  # a call and an answer
    assert sum(evaluated for _, evaluated in told) <= 1.05 * sum(new for new, _ in told)
    for new, evaluated in told[2 * len(agents) :]:
        assert evaluated <= 1.05 * new + 2  # the last token is always evaluated anew
