"""A model server of the tests' own: real HTTP on loopback, scripted to the byte; and boxes to break out of."""

import asyncio
import json
import shutil
import subprocess
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from sandboxing import ANOTHER_USER, SYSTEM, why_no_sandbox

from piano_jupyter.config import PianoConfig
from piano_jupyter.runner.tools.bash.bash_tool import BashTool
from piano_jupyter.runner.tools.bash.bwrap import SandboxSpec
from piano_jupyter.runner.tools.tool_registry import run_tool
from piano_jupyter.tool import ToolCallContext


def event(**delta):
    """Return one chunk of a stream that adds this delta."""
    return sse({"id": "c", "model": "m", "choices": [{"index": 0, "delta": delta}]})


def sse(chunk):
    return f"data: {json.dumps(chunk)}\n\n"


FINISH = sse({"id": "c", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}) + "data: [DONE]\n\n"


@dataclass
class Stub:
    """Answers each request with the next step of the script: (status, headers, pieces).

    A status of 0 never begins to answer, None breaks the connection off. A piece is text to send, seconds to pause (a
    float), an `asyncio.Event` to wait for, `...` for comments without end, or None to break the connection off. What is
    in `serves` (path to JSON, or to a list of pieces) is answered beside the script; any other GET, while the script is
    empty, is a 404.
    """

    script: list = field(default_factory=list)
    asked: list = field(default_factory=list)
    closed: asyncio.Event = field(default_factory=asyncio.Event)  #: the client went away in the middle of an answer
    url: str = ""
    caps: dict = field(default_factory=dict)
    serves: dict = field(default_factory=lambda: {"/running": None})  #: None is a 404
    looked: list = field(default_factory=list)  #: the paths that were asked for beside the script
    opens: dict = field(default_factory=dict)  #: path to the `asyncio.Event` that is set when it is asked for
    handling: set = field(default_factory=set)

    def answers(self, *pieces, status=200, headers=None):
        self.script.append((status, headers or {}, pieces))

    async def handle(self, reader, writer):
        self.handling.add(asyncio.current_task())
        try:
            await self._converse(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            writer.transport.abort()

    async def _converse(self, reader, writer):
        while head := await reader.readuntil(b"\r\n\r\n"):
            lines = head.decode().split("\r\n")
            headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
            body = await reader.readexactly(int(headers.get("content-length", 0)))
            path = lines[0].split(" ")[1]
            if self.caps and path.startswith("/props"):
                self.serves[path] = {"model_path": "/home/ada/m.gguf", "chat_template_caps": self.caps}
            if path in self.serves or (lines[0].startswith("GET") and not self.script):
                self.looked.append(path)
                self.opens.get(path, asyncio.Event()).set()
                found = self.serves.get(path)
                pieces = found if isinstance(found, list) else [json.dumps(found)]
                kind = {} if isinstance(found, list) else {"content-type": "application/json"}
                await self._send(reader, writer, 404 if found is None else 200, kind, pieces)
                continue
            self.asked.append((path, headers, json.loads(body) if body else None))
            await self._send(reader, writer, *self.script.pop(0))

    async def _send(self, reader, writer, status, headers, pieces):
        if status is None:
            raise ConnectionError
        if status == 0:
            await self._wait(reader, asyncio.Event())
        named = {"content-type": "text/event-stream", "transfer-encoding": "chunked", **headers}
        writer.write(f"HTTP/1.1 {status} X\r\n".encode() + b"".join(f"{k}: {v}\r\n".encode() for k, v in named.items()))
        writer.write(b"\r\n")
        for piece in pieces:
            if piece is None:
                writer.transport.abort()
                return
            if isinstance(piece, float):
                await asyncio.sleep(piece)
                continue
            if isinstance(piece, asyncio.Event):
                await self._wait(reader, piece)
                continue
            while piece is ...:
                writer.write(b"e\r\n: still here\n\n\r\n")
                await writer.drain()
                await asyncio.sleep(0.02)
            data = piece.encode() if isinstance(piece, str) else piece
            writer.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
            await writer.drain()
        writer.write(b"0\r\n\r\n")
        await writer.drain()

    async def _wait(self, reader, gate):
        gone, opened = asyncio.create_task(reader.read(1)), asyncio.create_task(gate.wait())
        try:
            await asyncio.wait({gone, opened}, return_when=asyncio.FIRST_COMPLETED)
            if gone.done():
                self.closed.set()
                raise ConnectionError
        finally:
            for task in (gone, opened):
                task.cancel()
            await asyncio.wait({gone, opened})


@pytest.fixture
async def stub():
    stub = Stub()
    server = await asyncio.start_server(stub.handle, "127.0.0.1", 0)
    stub.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    yield stub
    server.close()
    for task in stub.handling:
        task.cancel()
    await asyncio.gather(*stub.handling)


@pytest.fixture
def speak():
    """Return the pieces of a stream that says these words."""
    return lambda *words: [*(event(content=word) for word in words), FINISH]


@pytest.fixture
async def bash_of(tmp_path, tmp_path_factory, monkeypatch):
    """Make a bash tool with these settings, to call as a model does; a call returns whether it succeeded, and its text.

    `bash.tool` is the BashTool, `bash.asked` what the user was asked after commands, and `bash.approves` the answer.
    """
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))  # for long outputs
    tools = []

    def make(bubblewrap=None, **settings):
        config = PianoConfig(**{"workspace": str(tmp_path), **settings})
        made = BashTool(config, bubblewrap)
        tools.append(made)

        async def bash(command, *, mode="full", thread=1, **arguments):
            context = ToolCallContext(thread_id=UUID(int=thread), call_id=uuid4(), mode=mode, say=print)
            given = {"command": command, **arguments}
            limit = config.tool_output_limit
            result = await run_tool(made.tool(), given, call=context, timeout=60, output_limit=limit)
            if result.rest is None:
                return result.ok, result.text
            bash.asked.append(result.rest.reason)
            answer = result.rest.accept if bash.approves else result.rest.refuse
            return result.ok, f"{result.text}\n{await answer()}"

        bash.tool, bash.asked, bash.approves = made, [], False
        return bash

    yield make
    for each in tools:
        await each.aclose()


@pytest.fixture
def bash(bash_of):
    """Run a command in an empty workspace, outside any sandbox; return whether it succeeded, and its text."""
    return bash_of(tool_output_limit=2000)


@pytest.fixture
def sandboxed_bash(bash, sandboxed):
    """The same in the sandbox; skipped if there is none."""
    return lambda command, **given: bash(command, mode="write", **given)


@pytest.fixture(params=["sandboxed", "unsandboxed"])
def either(request):
    """Run a command in the sandbox and outside it, in one test each."""
    return request.getfixturevalue("sandboxed_bash" if request.param == "sandboxed" else "bash")


@pytest.fixture(params=["as we are", "as another user"])
def launcher(request, sandboxed):
    """The command that starts bwrap as the user who runs the tests, and as another, in one test each."""
    words = ANOTHER_USER if request.param == "as another user" else ()
    if why := why_no_sandbox(words):
        pytest.skip(f"no sandbox for another user: {why}")
    return words


@pytest.fixture
def common():
    """A folder that all users reach and may write to; pytest's own are closed."""
    with tempfile.TemporaryDirectory(prefix="piano-test-") as name:
        folder = Path(name)
        folder.chmod(0o777)
        yield folder


@pytest.fixture
def spec(common):
    """A box for any user: a workspace, and a folder to read."""
    for name in ("workspace", "readable"):
        (common / name).mkdir()
        (common / name).chmod(0o777)
    return SandboxSpec(
        workspace=str(common / "workspace"), writable=True, readable=(str(common / "readable"),), environment=SYSTEM
    )


@pytest.fixture(scope="session")
def certificate(tmp_path_factory):
    """A certificate for localhost that nobody issued but itself, and its key."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    folder = tmp_path_factory.mktemp("tls")
    names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", *names]
    subprocess.run([*command, "-keyout", "key.pem", "-out", "cert.pem"], cwd=folder, check=True, capture_output=True)
    return folder / "cert.pem", folder / "key.pem"
