"""Piano on real servers: tiny models, llama-swap in front of two of them, and the embedded model."""

from contextlib import asynccontextmanager

import pytest
from swap_servers import start_swap, swap_models, swap_server  # noqa: F401

from piano_jupyter import Piano
from piano_jupyter.tool import tool


@pytest.fixture
def piano_at(tmp_path):
    def make(endpoint, **settings):
        server = {"base_url": endpoint.url, "api_key": endpoint.api_key, "embedded": "never"}
        return Piano(**{"database": ":memory:", "workspace": tmp_path, **server, **settings})

    return make


@pytest.fixture
def looking(piano_at, serve_tiny, tiny):
    """Open a Piano whose agent calls its one tool, which sees a lake, and then says `I see it.`."""

    @tool
    def look() -> str:
        """Look around."""
        return "a lake"

    @asynccontextmanager
    async def opened():
        says = '<tool_call>\n{"name": "look", "arguments": {}}\n</tool_call>'
        endpoint = serve_tiny(says=says, says_after_tool="I see it.", chat_template=tiny.TOOLS)
        async with piano_at(endpoint, tools=[look]) as piano:
            await piano.update_agent("Assistant", enabled_tools=["look"])
            yield piano

    return opened


@pytest.fixture
def embedded(embedded_server, tmp_path):
    """The embedded model as a user meets it: nothing answers at base_url."""

    def make(**settings):
        return Piano(**{"database": ":memory:", "workspace": tmp_path, "base_url": "http://127.0.0.1:9/v1", **settings})

    return make
