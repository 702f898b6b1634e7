"""Servers of others: the reference servers for time and git, and one of the SDK's own over streamable HTTP."""

import json
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from tiny_mcp import results, server
from waiting import until

from piano_jupyter.events import ToolWaiting

SCRIPT = Path(__file__).parents[4] / "example_mcp_server.py"
KEY = "k3y-of-the-server-94716"


def port_answers(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture(scope="module")
def example():
    """The address of a server of the SDK's own."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen([sys.executable, str(SCRIPT), str(port)], stderr=subprocess.DEVNULL)
    until(lambda: port_answers(port))
    yield f"http://127.0.0.1:{port}/mcp"
    process.kill()
    process.wait()


@pytest.fixture
def repository(workspace):
    """The workspace, a repository of git with a new file in it."""
    subprocess.run(["git", "init", "-q"], cwd=workspace, check=True)
    (workspace / "new.txt").write_text("new")
    return str(workspace)


async def test_s16_the_reference_servers_for_time_and_git_are_used_and_not_what_an_agent_put_in_their_place(
    piano_with, asks_for, repository
):
    for name in ("mcp_server_time", "mcp_server_git"):
        (Path(repository) / f"{name}.py").write_text("raise SystemExit('code that an agent wrote')")
    code = "from mcp_server_git import main; main()"
    servers = {
        "time": {"command": sys.executable, "args": ["-X", "utf8", "-um", "mcp_server_time"]},
        "git": {"command": sys.executable, "args": ["-uc", code, "--repository", repository]},
        "odd": {"command": sys.executable, "args": ["-W", "ignore", "-mmcp_server_time"]},
    }
    calls = [
        asks_for("time__convert_time", source_timezone="UTC", time="12:00", target_timezone="Asia/Tokyo"),
        asks_for("time__get_current_time", timezone="Nowhere"),
        asks_for("git__git_status", repo_path=repository),
        asks_for("odd__convert_time", source_timezone="UTC", time="12:00", target_timezone="Asia/Tokyo"),
    ]
    async with piano_with(servers, *calls, "done") as (piano, _):
        await piano.ask("?")
        converted, nowhere, status, same = await results(piano)

        assert [json.loads(each)["time_difference"] for each in (converted, same)] == ["+9.0h", "+9.0h"]
        assert "Nowhere" in nowhere
        assert "new.txt" in status


async def test_a_server_over_http_is_used(piano_with, asks_for, example):
    calls = [asks_for(f"web__{name}") for name in ("headers", "picture", "count")]
    servers = {"web": {"url": f"{example}?token={KEY}", "headers": {"X-Key": KEY, "X-Plain": "${HOME}"}}}
    async with piano_with(servers, asks_for("web__add", a=1, b=2), *calls, "done", mask_secrets=False) as (piano, _):
        events = piano.events()
        await piano.ask("?")
        added, headers, picture, count = await piano.tool_calls(piano.thread)
        seen = json.loads(headers.result)

        assert added.result == "3"
        assert (seen["x-key"], seen["accept-encoding"]) == (KEY, "identity")
        assert seen["x-plain"].startswith("/")
        assert [each.mime for each in picture.attachments] == ["image/png"]
        assert count.result == "two"
        note = await anext(each async for each in events if isinstance(each, ToolWaiting))
        assert note.note == "one (1 of 2)"
        assert await piano.read_mcp_text("web", "docs://readme") == "Read me."
        assert await piano.read_mcp_text("web", "greet", {"name": "Ada"}) == "Greet Ada."
        assert (await server(piano, "web")).runs == f"{example}?… with the headers X-Key, X-Plain; reads $HOME"


async def test_s10_keys_of_a_server_over_http_are_masked_where_it_returns_them(piano_with, asks_for, example, caplog):
    caplog.set_level("DEBUG")
    servers = {"web": {"url": f"{example}?token={KEY}", "headers": {"Authorization": f"Bearer {KEY}"}}}
    async with piano_with(servers, asks_for("web__headers"), "done") as (piano, model):
        await piano.ask("?")
        [result] = await results(piano)
        rows = await piano.sql("SELECT * FROM tool_results")

        assert "authorization" in result
        shown = [result, list(rows), model.requests, piano.recent_events(), await piano.mcp_servers()]
        assert KEY not in repr(shown)
        assert KEY not in caplog.text


async def test_a_server_that_restarts_is_asked_again_at_the_next_use(piano_with, asks_for, example):
    async with piano_with({"web": {"url": example}}, asks_for("web__add", a=1, b=2), "3.") as (piano, _):
        await piano.restart_mcp_server("web")
        await piano.ask("?")

        assert await results(piano) == ["3"]
