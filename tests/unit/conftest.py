"""What the unit tests share: a scripted model, and a Piano on a scripted server."""

from contextlib import asynccontextmanager

import pytest
from pictures import VISION

from piano_jupyter import Piano
from piano_jupyter.testing import ScriptedModel, ScriptedServer, tool_call


@pytest.fixture
def scripted():
    """`scripted(step, ...)` is a model with this script."""
    return lambda *script: ScriptedModel(script)


@pytest.fixture
def asks_for():
    """`asks_for("add", a=1)` is a call, for the script of a model."""
    return tool_call


@pytest.fixture
def piano_on(tmp_path):
    """Return a function that opens a Piano in the folder `work`, on a server with a script that sees images."""
    (tmp_path / "work").mkdir()

    @asynccontextmanager
    async def opened(*script, serves=VISION, **options):
        with ScriptedServer(script, serves=serves) as server:
            settings = {"database": ":memory:", "base_url": server.url, "workspace": str(tmp_path / "work")}
            async with Piano(**settings | options) as piano:
                await piano.update_agent("Assistant", system_prompt="")
                yield piano, server

    return opened
