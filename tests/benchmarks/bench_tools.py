"""What each layer of a tool call costs, beside the plain thing in the same run, from a kernel of 100 MB and of 1 GB.

python tests/benchmarks/bench_tools.py [section …]
"""

import asyncio
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from uuid import UUID

sys.path.insert(0, str(Path(__file__).parents[2]))

from piano_jupyter.config import PianoConfig
from piano_jupyter.runner.tools.bash.bash_tool import BashTool
from piano_jupyter.runner.tools.bash.bwrap import Bubblewrap, SandboxSpec, python_prefixes
from piano_jupyter.runner.tools.bash.environment import clean_environment, git_identity
from piano_jupyter.runner.tools.bash.output import CommandOutput
from piano_jupyter.runner.tools.bash.shell import ShellPool
from piano_jupyter.runner.tools.files.beneath import StepwiseResolver, best_resolver
from piano_jupyter.runner.tools.files.file_tools import file_tools
from piano_jupyter.runner.tools.files.workspace import Workspace
from piano_jupyter.tool import ToolCallContext, current_call

SIZES = (100, 1000)  # MB
ROUNDS = 400
LINES = 200


def median(action):
    """Return the median time of a call, in microseconds."""
    times = []
    for number in range(ROUNDS):
        begun = time.perf_counter()
        action(number)
        times.append(time.perf_counter() - begun)
    return statistics.median(times) * 1e6


def read_beneath(workspace, by):
    """Read by descriptor, without what else read_file does."""
    with Workspace(workspace, resolver=by).find("src/f.py") as found, found.open() as file:
        return file.read().decode()


def edit_plainly(path, number):
    """Edit as a few lines of pathlib would: no sync, no check, a mixture if it is killed."""
    path.write_text(path.read_text().replace(f"<{number}>", f"<{number + 1}>"))


def edit_and_sync(path, number):
    """The same, whole or not at all: to a temporary file, synced, renamed."""
    beside = path.with_suffix(".tmp")
    with beside.open("w") as file:
        file.write(path.read_text().replace(f"<{number}>", f"<{number + 1}>"))
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)


def files():
    """Read and edit a file of 200 lines."""
    text = "<0>\n" + "a line of some words\n" * LINES
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
        workspace = Path(folder)
        path = workspace / "src/f.py"
        path.parent.mkdir()

        def tools(by):
            path.write_text(text)
            read, _, edit = file_tools(PianoConfig(workspace=str(workspace)), resolver=by)
            read("src/f.py")
            return (
                lambda _: read("src/f.py"),
                lambda n: edit("src/f.py", [{"old_text": f"<{n}>", "new_text": f"<{n + 1}>"}]),
            )

        path.write_text(text)
        yield "read: pathlib", median(lambda _: path.read_text())
        for by in (best_resolver(), StepwiseResolver()):
            yield f"read: beneath ({by.name})", median(lambda _, by=by: read_beneath(workspace, by))
        for by in (best_resolver(), StepwiseResolver()):
            yield f"read_file, with numbers ({by.name})", median(tools(by)[0])
        path.write_text(text)
        yield "edit: pathlib", median(lambda n: edit_plainly(path, n))
        path.write_text(text)
        yield "edit: pathlib, synced and renamed", median(lambda n: edit_and_sync(path, n))
        for by in (best_resolver(), StepwiseResolver()):
            yield f"edit_file ({by.name})", median(tools(by)[1])


def spec_of(folder):
    """Return the sandbox that the tool bash would have there."""
    workspace = os.path.realpath(folder)
    environment = {**clean_environment(os.environ), **git_identity(workspace)}
    return SandboxSpec(
        workspace=workspace,
        writable=True,
        environment=tuple(sorted(environment.items())),
        prefixes=python_prefixes(),
    )


def shell():
    """Run a command that does nothing."""
    with tempfile.TemporaryDirectory() as folder, asyncio.Runner() as runner:
        tool, bubblewrap = BashTool(PianoConfig(workspace=folder)), Bubblewrap()
        spec, shells = spec_of(folder), ShellPool(bubblewrap)
        if why := bubblewrap.unavailable_reason(spec):
            sys.exit(f"no sandbox here: {why}")

        def anew(_):
            with bubblewrap.start(spec, ["--norc", "-c", ":"]) as process:
                assert process.wait() == 0

        async def stays():
            await shells.run("key", spec, b":", 60, CommandOutput(30_000, Path(folder), ""))

        async def call(mode):
            current_call.set(ToolCallContext(thread_id=UUID(int=1), call_id=UUID(int=2), mode=mode, say=print))
            await tool.bash(":")

        yield "bash: subprocess.run", median(lambda _: subprocess.run(["bash", "-c", ":"], check=True))
        yield "bash: bubblewrap anew each time", median(anew)
        yield "bash: the sandboxed shell that stays", median(lambda _: runner.run(stays()))
        yield "the tool bash, in the sandbox", median(lambda _: runner.run(call("write")))
        yield "the tool bash, outside", median(lambda _: runner.run(call("full")))
        runner.run(shells.aclose())
        runner.run(tool.aclose())


SECTIONS = {"files": files, "shell": shell}


def measure(megabytes, section):
    """Print the figures of one section, from a process of this size."""
    ballast = bytearray(os.urandom(1 << 20)) * megabytes
    current_call.set(ToolCallContext(thread_id=UUID(int=1), call_id=UUID(int=2), mode="write", say=print))
    for what, microseconds in SECTIONS[section]():
        print(f"{section:8}{len(ballast) >> 20:6} MB  {what:36}{microseconds:10.0f} µs")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--measure"]:
        measure(int(sys.argv[2]), sys.argv[3])
    else:
        for section in sys.argv[1:] or SECTIONS:
            for size in SIZES:
                subprocess.run([sys.executable, __file__, "--measure", str(size), section], check=True)
