"""The socket of a store process where it lies in the workspace, or in a folder that commands may read."""

import asyncio
import os
import tempfile
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from store_servers import served

from piano_jupyter import own_folders
from piano_jupyter.config import PianoConfig
from piano_jupyter.runner.tools.files.file_tools import file_tools
from piano_jupyter.runner.tools.tool_registry import run_tool
from piano_jupyter.store.server.remote_store import RemoteStore
from piano_jupyter.store.server.socket_folder import server_files
from piano_jupyter.tool import ToolCallContext

#: What leads to the socket, and where that points in the folder that tools reach.
PLACES = {
    "the runtime folder": ("XDG_RUNTIME_DIR", "."),
    "/tmp": ("TEMPORARY", "."),
    "above TMPDIR": ("TMPDIR", "temporary"),
    "far above TMPDIR": ("TMPDIR", "a/b/c/d/e/f/g/h"),
}


@pytest.fixture
async def folder(request, monkeypatch):
    """A folder with the socket of a store process that runs, which must be usable after the test."""
    variable, below = PLACES[request.param]
    with tempfile.TemporaryDirectory(dir="/tmp") as short:
        place = Path(short, below)
        place.mkdir(parents=True, exist_ok=True)
        monkeypatch.setenv("XDG_RUNTIME_DIR", str(place) if variable == "XDG_RUNTIME_DIR" else "")
        monkeypatch.setattr(own_folders, "RUNTIME_FOLDERS", "/nowhere")
        monkeypatch.setattr(own_folders, "TEMPORARY", place if variable == "TEMPORARY" else Path("/nowhere"))
        monkeypatch.setattr(tempfile, "tempdir", str(place) if variable == "TMPDIR" else "/nowhere")
        yield Path(short)


@asynccontextmanager
async def store_process(folder, database):
    """Serve a database at a socket in a folder; kernels must still find it after the test."""
    socket = server_files(str(database)).socket
    assert socket.is_relative_to(folder)
    async with served(database):
        yield socket
        client = RemoteStore(database)
        await client.open()
        assert client.server_pid == os.getpid()
        await client.close()


@pytest.mark.parametrize("mode", ["read", "write"])
@pytest.mark.parametrize("folder", PLACES, indirect=True)
async def test_d5_commands_neither_see_nor_replace_the_socket_of_a_store_process(
    sandboxed, folder, mode, tmp_path, bash_of
):
    bash = bash_of(workspace=str(folder))
    async with store_process(folder, tmp_path / "piano.duckdb") as socket:
        _, seen = await bash("find . -type s; find . -name '*.start' -o -name '*.log'; echo over", mode=mode)
        await bash(f"rm -rf {socket} {socket.parent}; mv {folder}/a {folder}/b; touch {socket}", mode=mode)
        _, after = await bash(f"ls -A {socket.parent}", mode=mode)

    assert seen == "over"
    assert socket.name not in after


@pytest.mark.parametrize("folder", ["/tmp", "far above TMPDIR"], indirect=True)
async def test_d5_the_socket_is_hidden_in_folders_that_commands_may_read(sandboxed, folder, tmp_path, bash_of):
    (folder / "data.csv").write_text("a,b")
    bash = bash_of(readable_paths=[str(folder)])
    async with store_process(folder, tmp_path / "piano.duckdb"):
        _, seen = await bash(f"cat {folder}/data.csv; find {folder} -type s", mode="write")

    assert seen == "a,b"


@pytest.mark.parametrize("folder", PLACES, indirect=True)
async def test_file_tools_cannot_access_the_folder_of_the_socket(folder, tmp_path):
    tools = {each.name: each for each in file_tools(PianoConfig(workspace=str(folder)))}
    context = ToolCallContext(thread_id=UUID(int=1), call_id=uuid4(), mode="full", say=print)

    async def call(name, **arguments):
        return await run_tool(tools[name], arguments, call=context, timeout=10, output_limit=1000)

    async with store_process(folder, tmp_path / "piano.duckdb") as socket:
        (socket.parent / "notes").write_text("mine")
        read, listed, made = await asyncio.gather(
            call("read_file", path=str(socket.parent / "notes")),
            call("read_file", path=str(socket.parent)),
            call("create_file", path=str(socket.parent / "new"), content="x"),
        )

    assert [each.ok for each in (read, listed, made)] == [False] * 3
    assert {each.text.split(":")[0] for each in (read, listed, made)} == {"private"}
