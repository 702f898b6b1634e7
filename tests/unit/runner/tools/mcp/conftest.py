"""MCP servers for tests, set in a Piano whose model is scripted."""

from contextlib import asynccontextmanager

import psutil
import pytest
from tiny_mcp import tiny_server

from piano_jupyter import Piano
from piano_jupyter.testing import ScriptedModel


@pytest.fixture
def workspace(tmp_path):
    """The workspace, an empty folder."""
    (tmp_path / "work").mkdir()
    return tmp_path / "work"


@pytest.fixture
def piano_with(workspace):
    """`piano_with(servers, step, ...)` opens a Piano whose agent has all tools of these servers, named or tiny."""

    @asynccontextmanager
    async def opened(servers, *script, **settings):
        given = {"tool_timeout": 20.0, "mcp_timeout": 20.0, "rules": [f"allow {name}.*" for name in servers]}
        model = ScriptedModel(script)
        async with Piano(
            database=":memory:", model=model, workspace=str(workspace), mcp_servers=servers, **given | settings
        ) as piano:
            found = await piano.mcp_servers(start_within=20)
            await piano.update_agent("Assistant", enabled_tools=[tool.name for each in found for tool in each.tools])
            yield piano, model

    return opened


@pytest.fixture
def tiny():
    """`tiny(way, file)` is a server that misbehaves in this way; `tiny()` is an honest one."""
    return tiny_server


@pytest.fixture
def started_programs():
    """Return a function that returns the processes below this one that the test has started."""
    before = psutil.Process().children(recursive=True)  # servers of other tests
    return lambda: [each for each in psutil.Process().children(recursive=True) if each not in before]
