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
from functools import partial
from pathlib import Path
from uuid import UUID

sys.path.insert(0, str(Path(__file__).parents[2]))

from piano_jupyter.config import PianoConfig
from piano_jupyter.runner.tools.bash.bash_tool import BashTool
from piano_jupyter.runner.tools.files.beneath import StepwiseResolver, best_resolver
from piano_jupyter.runner.tools.files.file_tools import file_tools
from piano_jupyter.runner.tools.files.workspace import Workspace
from piano_jupyter.tool import ToolCallContext, current_call

SIZES = (100, 1000)  # MB
ROUNDS = 400
LINES = 200
SHELL_ROUNDS = 100
TICK_S = 0.001
FILES = (100, 5_000, 50_000)
MANY_NAMES = 20_000
NAMES = (  # made by a command of bash that has a number `i`
    ": >.env.$i",
    ": >m$i.pyc",
    ": >m$i.so",
    ": >f$i.txt",
    "ln -s /etc/passwd l$i",
    "ln -s .env.$i l$i",
    "mkdir d$i",
)


def median(action, rounds=ROUNDS):
    """Return the median time of a call, in microseconds."""
    times = []
    for number in range(rounds):
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


def lay_out(folder, files):
    """Fill a workspace with files, ten in a folder."""
    for number in range(files):
        path = Path(folder, f"d{number // 1000}", f"d{number // 10 % 100}", f"f{number % 10}.txt")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def run_watched(runner, tool, gaps, mode, command):
    """Run a command, and add how long the loop stood meanwhile, and worked, each in seconds, to `gaps`."""

    async def watched():
        current_call.set(ToolCallContext(thread_id=UUID(int=1), call_id=UUID(int=2), mode=mode, say=print))
        done = asyncio.ensure_future(tool.bash(command))
        while not done.done():
            begun, worked = time.perf_counter(), time.thread_time()
            await asyncio.sleep(TICK_S)
            gaps.append((time.perf_counter() - begun - TICK_S, time.thread_time() - worked))
        await done

    runner.run(watched())


def longest(gaps, what):
    """Yield the longest of the times that the loop stood and worked."""
    stood, worked = map(max, zip(*gaps, strict=True))
    yield f"  the longest time that the loop stood, {what}", stood * 1e6
    yield f"  and worked, on a machine with other work, {what}", worked * 1e6


def shell():
    """Run a command that does nothing, and one that writes, in small and large workspaces."""
    reference = median(lambda _: subprocess.run(["bwrap", "--ro-bind", "/", "/", "true"], check=True), SHELL_ROUNDS)
    yield "bash: subprocess.run", median(lambda _: subprocess.run(["bash", "-c", ":"], check=True), SHELL_ROUNDS)
    yield "bwrap true", reference
    smallest = {}
    for files in FILES:
        with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder, asyncio.Runner() as runner:
            lay_out(folder, files)
            tool, gaps = BashTool(PianoConfig(workspace=folder)), []
            run = partial(run_watched, runner, tool, gaps)
            begun = time.perf_counter()
            run("write", ":")
            yield f"  the first call, {files:,} files", (time.perf_counter() - begun) * 1e6
            for name, mode, command in (("in the sandbox", "write", ":"), ("that writes", "write", "echo >d0/new.txt")):
                took = median(lambda _, r=run, m=mode, c=command: r(m, c), SHELL_ROUNDS)
                first = smallest.setdefault(name, took)
                what = f"  a call {name}, {files:,} files"
                yield (
                    f"{what:44} {took / first:5.2f} times the smallest, {took / reference:5.1f} times bwrap true",
                    took,
                )
            yield from longest(gaps, f"{files:,}")
            yield "  a call outside", median(lambda _, r=run: r("full", ":"), SHELL_ROUNDS)
            runner.run(tool.aclose())


def names():
    """Let commands make, find and remove very many names of each kind that Piano looks at."""
    for name in NAMES:
        with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder, asyncio.Runner() as runner:
            tool = BashTool(PianoConfig(workspace=folder))
            for what, command in (
                ("made", f"for i in $(seq {MANY_NAMES}); do {name}; done"),
                ("there", ":"),
                ("removed", "find . -mindepth 1 -delete"),
            ):
                gaps = []
                begun = time.perf_counter()
                run_watched(runner, tool, gaps, "write", command)
                yield f"{MANY_NAMES:,} {what}: {name}", (time.perf_counter() - begun) * 1e6
                yield from longest(gaps, what)
            runner.run(tool.aclose())


SECTIONS = {"files": files, "shell": shell, "names": names}


def measure(megabytes, section):
    """Print the figures of one section, from a process of this size."""
    ballast = bytearray(os.urandom(1 << 20)) * megabytes
    current_call.set(ToolCallContext(thread_id=UUID(int=1), call_id=UUID(int=2), mode="write", say=print))
    for what, microseconds in SECTIONS[section]():
        print(f"{section:8}{len(ballast) >> 20:6} MB  {what:44}{microseconds:10.0f} µs")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--measure"]:
        measure(int(sys.argv[2]), sys.argv[3])
    else:
        for section in sys.argv[1:] or SECTIONS:
            for size in SIZES:
                subprocess.run([sys.executable, __file__, "--measure", str(size), section], check=True)
