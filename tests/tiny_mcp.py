"""The settings of the server that tiny_mcp_server.py is, and what a Piano tells of servers and their calls."""

import asyncio
import sys
from pathlib import Path

from piano_jupyter.events import ApprovalRequested

SCRIPT = Path(__file__).with_name("tiny_mcp_server.py")


def tiny_server(way="", file="", **more):
    """Return the settings of a server that misbehaves in this way; "" is an honest one."""
    return {"command": sys.executable, "args": ["-I", str(SCRIPT), way, str(file)], **more}


async def asked(piano):
    """Return the request for approval that comes next, or waits."""
    events = piano.events()
    if waiting := await piano.approvals():
        return waiting[0]
    return await anext(each async for each in events if isinstance(each, ApprovalRequested))


async def results(piano):
    """Return the results of all calls of the current thread."""
    return [call.result for call in await piano.tool_calls(piano.thread)]


async def told(piano, name="tiny"):
    """Return what is wrong with a server, once something is."""
    while not (problem := (await server(piano, name)).problem):  # noqa: ASYNC110  Another process has to do it.
        await asyncio.sleep(0)
    return problem


async def server(piano, name="tiny"):
    """Return a server as it is now."""
    return next(each for each in await piano.mcp_servers() if each.name == name)
